use crate::support::stack::tomcat;
use crate::support::{Visitor, until};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// The program, stopped when the scene is over.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_token_and_no_cookies_value_is_ever_written_down_at_any_level() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (tomcat("a"), tomcat("b"));
    let health = "health = { interval = \"100ms\", fast_interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 1 }";
    let path = dir.path().join("stayput.toml");
    let file = format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\nlevel = \"trace\"\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n\
         [[rule]]\nname = \"split\"\nforward = {{ app = {{}}, lb = {{}} }}\n\
         [target_group.app]\ntargets = [\"{0}\", \"{1}\"]\n{health}\n\
         stickiness = {{ app_cookie = {{ name = \"JSESSIONID\" }} }}\n\
         [target_group.lb]\ntargets = [\"{0}\", \"{1}\"]\n{health}\n",
        a.address(),
        b.address()
    );
    std::fs::write(&path, file).unwrap();
    let [out, err] = ["out", "err"].map(|name| dir.path().join(name));
    let mut command = Command::new(env!("CARGO_BIN_EXE_stayput"));
    command.args(["run", "-c"]).arg(&path).env_remove("STAYPUT_CONFIG").env("RUST_LOG", "trace");
    command.stdin(Stdio::null());
    command.stdout(std::fs::File::create(&out).unwrap());
    command.stderr(std::fs::File::create(&err).unwrap());
    let _running = Running(command.spawn().unwrap());
    let read = |path: &std::path::Path| {
        let mut text = Vec::new();
        std::fs::File::open(path).unwrap().read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    };
    let address = until("it listens", || {
        let text = read(&err);
        let (_, rest) = text.split_once("address=")?;
        rest.split([' ', '\n']).next()?.parse().ok()
    });
    until("both serve", || (Visitor::of(address).get("/").status == 200).then_some(()));
    let mut secrets = vec!["SECRET".to_owned()];
    let mut visitors: Vec<_> = (0..4).map(|_| Visitor::of(address)).collect();
    let mut ask = |visitor: &mut Visitor| {
        assert_eq!(visitor.get("/asked").status, 200);
        secrets.extend(visitor.jar.values().filter(|value| value.len() > 8).cloned());
    };
    for visitor in &mut visitors {
        visitor.jar.insert("JSESSIONID".into(), "SECRET-session".into());
        ask(visitor);
        ask(visitor);
        for name in ["AWSALB", "AWSALBTG", "AWSALBAPP-0"] {
            visitor.jar.insert(name.into(), format!("SECRET-{name}"));
            ask(visitor);
            visitor.jar.insert(name.into(), format!("AX{}", "SECRET".repeat(9)));
            ask(visitor);
        }
    }
    a.set_healthy(false);
    until("a is down", || read(&err).contains("unhealthy").then_some(()));
    visitors.iter_mut().for_each(&mut ask);
    // What is no HTTP at all is written down no more than what is.
    let mut garbage = Visitor::of(address);
    garbage.send("GET / HTTP/1.1\r\nHost: x\r\nCookie: a=SECRET\r\nbad line SECRET\r\n\r\n");
    garbage.read_answer(false);
    garbage.send("");
    let _ = garbage
        .stream()
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: AWSALB=SECRET\xff\x01\r\n\r\n");
    garbage.read_answer(false);
    let log = until("all is written down", || {
        Some(read(&out)).filter(|log| log.matches("\"/asked\"").count() >= 36)
    });
    let events = read(&err);
    for secret in &secrets {
        assert!(!log.contains(secret) && !events.contains(secret), "{secret}\n{log}\n{events}");
    }
}
