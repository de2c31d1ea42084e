//! Secrets that no log contains: tokens, and values of the application's cookies.

use crate::support::program::Program;
use crate::support::stack::tomcat;
use crate::support::{Visitor, until};
use std::io::Write;

const HEALTH: &str = "health = { interval = \"1s\", fast_interval = \"100ms\", healthy_threshold = 1, unhealthy_threshold = 1 }";

#[test]
fn no_log_level_or_format_writes_a_token_or_cookie_value() {
    for format in ["json", "short", "alb", "combined"] {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (tomcat("a"), tomcat("b"));
        let targets = format!("targets = [\"{}\", \"{}\"]\n{HEALTH}", a.address(), b.address());
        let program = Program::run(
            dir.path(),
            &format!(
                "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\nlevel = \"trace\"\n\
                 access = {{ to = \"access.log\", format = \"{format}\" }}\n\
                 [listener.web]\naddress = \"127.0.0.1:0\"\n\
                 [[rule]]\nname = \"split\"\nforward = {{ app = {{}}, lb = {{}} }}\n\
                 [target_group.app]\n{targets}\n\
                 stickiness = {{ app_cookie = {{ name = \"JSESSIONID\" }} }}\n\
                 [target_group.lb]\n{targets}\n"
            ),
        );
        let mut secrets = vec!["SECRET".to_owned()];
        let mut ask = |visitor: &mut Visitor| {
            assert_eq!(visitor.get("/asked").status, 200);
            secrets.extend(visitor.jar.values().filter(|value| value.len() > 8).cloned());
        };
        let mut visitors = [0; 4].map(|_| Visitor::of(program.address()));
        for visitor in &mut visitors {
            visitor.jar.insert("JSESSIONID".into(), "SECRET-session".into());
            ask(visitor);
            for name in ["AWSALB", "AWSALBTG", "AWSALBAPP-0"] {
                visitor.jar.insert(name.into(), format!("SECRET-{name}"));
                ask(visitor);
                visitor.jar.insert(name.into(), format!("AX{}", "SECRET".repeat(9)));
                ask(visitor);
            }
        }
        a.set_healthy(false);
        program.line(&["unhealthy"]);
        visitors.iter_mut().for_each(&mut ask);
        assert!(secrets.len() > 40, "tokens of every kind were seen");
        // Bytes that are not HTTP are not logged either.
        let mut garbage = Visitor::of(program.address());
        for head in [
            &b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=SECRET\r\nbad line SECRET\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: x\r\nCookie: AWSALB=SECRET\xff\x01\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x, y\r\nCookie: AWSALB=SECRET\r\n\r\n",
        ] {
            garbage.send("");
            garbage.stream().write_all(head).unwrap();
            garbage.read_answer(false);
        }
        let log = until("all is written down", || {
            let log = std::fs::read_to_string(dir.path().join("access.log")).ok()?;
            Some(log).filter(|log| log.matches("/asked").count() >= 32)
        });
        let events = program.lines().join("\n");
        for secret in &secrets {
            let told = log.contains(secret) || events.contains(secret);
            assert!(!told, "{secret}\n{log}\n{events}");
        }
    }
}
