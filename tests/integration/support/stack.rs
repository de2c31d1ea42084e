//! Replicas that treat their session cookie as real stacks do.

use super::Origin;
use super::origin::{Heard, Then};
use std::collections::HashSet;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The value of a cookie in a request to a target.
pub fn sent(heard: &Heard, name: &str) -> Option<String> {
    let line = heard.field("cookie")?;
    let pairs = line.split("; ").filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
}

/// A replica that responds with its name and these fields. A path such as `/304` is the status.
pub fn replica(
    name: &'static str,
    fields: impl Fn(&Heard) -> String + Send + Sync + 'static,
) -> Origin {
    Origin::scripted(move |heard, stream| {
        let status = heard.path().trim_start_matches('/').parse().unwrap_or(200);
        let (length, body) = match status {
            304 => (String::new(), ""),
            _ => (format!("Content-Length: {}\r\n", name.len()), name),
        };
        let head = format!("HTTP/1.1 {status} X\r\n{}{length}\r\n{body}", fields(heard));
        let _ = stream.write_all(head.as_bytes());
        Then::KeepAlive
    })
}

/// PHP: sets a session id once, and accepts any id that comes.
pub fn php(name: &'static str) -> Origin {
    replica(name, |heard| match sent(heard, "PHPSESSID") {
        None => "Set-Cookie: PHPSESSID=6dnhu3kkbk0pp2dhs2h2bpr2o4; path=/\r\n".to_owned(),
        Some(_) => String::new(),
    })
}

/// Tomcat: replaces an id that this instance did not make by a new session.
pub fn tomcat(name: &'static str) -> Origin {
    let (made, own) = (AtomicUsize::new(0), Mutex::new(HashSet::new()));
    replica(name, move |heard| {
        let mut own = own.lock().unwrap();
        if sent(heard, "JSESSIONID").is_some_and(|id| own.contains(&id)) {
            return String::new();
        }
        let id = format!("5AC6268DD8D4{name}{}", made.fetch_add(1, Ordering::SeqCst));
        own.insert(id.clone());
        format!("Set-Cookie: JSESSIONID={id}; Path=/; HttpOnly\r\n")
    })
}

/// Django: sets the session cookie with a date at `/login`, clears it at `/logout`, else leaves it.
pub fn django(name: &'static str) -> Origin {
    replica(name, |heard| match heard.path().rsplit('/').next() {
        Some("login") => {
            "Set-Cookie: sessionid=h4q7; expires=Sat, 01 Jan 2101 00:00:00 GMT; HttpOnly; \
                    Max-Age=1209600; Path=/; SameSite=Lax\r\n"
                .to_owned()
        }
        Some("logout") => {
            "Set-Cookie: sessionid=\"\"; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; \
                     Path=/; SameSite=Lax\r\n"
                .to_owned()
        }
        _ => String::new(),
    })
}

/// Rails: sets the whole session anew with every response.
pub fn rails(name: &'static str) -> Origin {
    let count = AtomicUsize::new(0);
    replica(name, move |_| {
        let nth = count.fetch_add(1, Ordering::SeqCst);
        format!("Set-Cookie: _shop_session=v%2F{nth}--3d; path=/; HttpOnly; SameSite=Lax\r\n")
    })
}

/// A replica that sets and clears `sid` as the table defines for each path.
pub fn told(name: &'static str) -> Origin {
    replica(name, |heard| {
        let lines: &[&str] = match heard.path() {
            "/twice" => &["sid=anonymous; Path=/", "sid=known; Path=/"],
            "/304" | "/500" | "/set" => &["sid=1; Path=/"],
            "/end-set" => &["sid=; Max-Age=0; Path=/", "sid=2; Path=/"],
            "/set-end" => &["sid=2; Path=/", "sid=; Max-Age=0; Path=/"],
            "/end" => &["sid=; Expires=Thu, 1 Jan 1970 00:00:00 UTC; Path=/"],
            _ => &["theme=dark"],
        };
        lines.iter().map(|line| format!("Set-Cookie: {line}\r\n")).collect()
    })
}
