//! A target with a script: the bytes it sends in response to each request it reads.

use super::until;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The script; called once for each request, with its head and body.
pub type Script = dyn Fn(&Heard, &mut TcpStream) -> Then + Send + Sync;

/// The state of the connection after the response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    KeepAlive,
    Close,
    /// Closes with a reset instead of a FIN.
    Reset,
}

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub head: String,
    pub body: Vec<u8>,
    /// Number of requests on this connection before.
    pub nth: usize,
}

impl Heard {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<String> {
        let mut lines = self.head.split("\r\n").skip(1);
        lines.find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    pub fn is_check(&self) -> bool {
        self.field("user-agent").is_some_and(|agent| agent.starts_with("ELB-HealthChecker/2.0"))
    }

    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

/// The target.
pub struct Origin {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    check_answer: Arc<Mutex<String>>,
    open: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    has_stopped: Arc<AtomicBool>,
}

impl Origin {
    /// Responds to every request with its name.
    pub fn named(name: &'static str) -> Self {
        Self::scripted(move |_, stream| {
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            let _ = stream.write_all(text.as_bytes());
            Then::KeepAlive
        })
    }

    /// Responds to every request with these bytes.
    pub fn saying(bytes: &'static str, then: Then) -> Self {
        Self::scripted(move |_, stream| {
            let _ = stream.write_all(bytes.as_bytes());
            then
        })
    }

    /// Runs the script for every request except health checks, which pass unless
    /// [`Origin::set_healthy`] changes that.
    pub fn scripted(
        script: impl Fn(&Heard, &mut TcpStream) -> Then + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            heard: Arc::default(),
            check_answer: Arc::new(Mutex::new(check_answer("200 OK"))),
            open: Arc::default(),
            accepted: Arc::default(),
            has_stopped: Arc::default(),
        };
        let script: Arc<Script> = Arc::new(script);
        let (heard, check_answer, open) =
            (origin.heard.clone(), origin.check_answer.clone(), origin.open.clone());
        let (accepted, has_stopped) = (origin.accepted.clone(), origin.has_stopped.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if has_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (script, heard, check_answer, open) =
                    (script.clone(), heard.clone(), check_answer.clone(), open.clone());
                accepted.fetch_add(1, Ordering::SeqCst);
                open.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    serve(stream, &*script, &heard, &check_answer);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        origin
    }

    /// An address at which no process listens.
    pub fn refusing() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        Self {
            address,
            heard: Arc::default(),
            check_answer: Arc::default(),
            open: Arc::default(),
            accepted: Arc::default(),
            has_stopped: Arc::default(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses connections from now on; open ones stay.
    pub fn stop(&self) {
        self.has_stopped.store(true, Ordering::SeqCst);
        until("a target that refuses", || TcpStream::connect(self.address).is_err().then_some(()));
    }

    /// Makes checks pass or fail from now on.
    pub fn set_healthy(&self, healthy: bool) {
        self.answer_checks(if healthy { "200 OK" } else { "500 Down" });
    }

    /// Responds to checks with this status and these fields from now on.
    pub fn answer_checks(&self, status_and_fields: &str) {
        *self.check_answer.lock().unwrap() = check_answer(status_and_fields);
    }

    /// The requests so far, without checks.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().iter().filter(|heard| !heard.is_check()).cloned().collect()
    }

    /// The checks so far.
    pub fn checks(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().iter().filter(|heard| heard.is_check()).cloned().collect()
    }

    /// Number of open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

fn check_answer(status_and_fields: &str) -> String {
    format!("HTTP/1.1 {status_and_fields}\r\nContent-Length: 2\r\n\r\nok")
}

fn serve(
    mut stream: TcpStream,
    script: &Script,
    heard: &Mutex<Vec<Heard>>,
    check_answer: &Mutex<String>,
) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut buffer = Vec::new();
    for nth in 0.. {
        let Some(mut request) = read_request(&mut stream, &mut buffer) else { return };
        request.nth = nth;
        let is_check = request.is_check();
        heard.lock().unwrap().push(request.clone());
        let then = if is_check {
            let text = check_answer.lock().unwrap().clone();
            let _ = stream.write_all(text.as_bytes());
            Then::Close
        } else {
            script(&request, &mut stream)
        };
        match then {
            Then::KeepAlive => {}
            Then::Close => {
                let _ = stream.shutdown(Shutdown::Write);
                return;
            }
            Then::Reset => {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
        }
    }
}

fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Heard> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, buffer)?;
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    buffer.drain(..head_end);
    let mut request = Heard { head, ..Heard::default() };
    if let Some(length) = request.field("content-length").and_then(|text| text.parse().ok()) {
        while buffer.len() < length {
            more(stream, buffer)?;
        }
        request.body = buffer.drain(..length).collect();
    } else if request.field("transfer-encoding").is_some() {
        loop {
            let line_end = loop {
                if let Some(at) = buffer.windows(2).position(|window| window == b"\r\n") {
                    break at;
                }
                more(stream, buffer)?;
            };
            let line = String::from_utf8_lossy(&buffer[..line_end]).into_owned();
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            while buffer.len() < line_end + 2 + size + 2 {
                more(stream, buffer)?;
            }
            if size == 0 {
                // Trailers are kept unchanged, up to the empty line.
                let rest = line_end + 2;
                let end = loop {
                    let tail = &buffer[rest..];
                    if tail.starts_with(b"\r\n") {
                        break rest + 2;
                    }
                    if let Some(at) = tail.windows(4).position(|window| window == b"\r\n\r\n") {
                        break rest + at + 4;
                    }
                    more(stream, buffer)?;
                };
                request.head.push_str(&String::from_utf8_lossy(&buffer[rest..end]));
                buffer.drain(..end);
                break;
            }
            request.body.extend_from_slice(&buffer[line_end + 2..line_end + 2 + size]);
            buffer.drain(..line_end + 2 + size + 2);
        }
    }
    Some(request)
}

fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut scratch = [0; 4_096];
    match stream.read(&mut scratch) {
        Ok(0) | Err(_) => None,
        Ok(count) => {
            buffer.extend_from_slice(&scratch[..count]);
            Some(())
        }
    }
}
