//! The program under test, one process for each configuration, with one worker.

use super::cases::{Case, Group};
use super::lane::Lane;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

/// Settings under which cases run.
pub struct Config {
    pub name: &'static str,
    /// Settings of every lane's listener.
    listener: &'static str,
    /// Rules, repeated for each lane; `{N}` is the lane's number. The listener `fence` has none
    /// (lane.rs explains lane and fence).
    rules: &'static str,
    /// True if a case runs under these settings.
    pub takes: fn(&Case) -> bool,
}

const RULES: &str = r##"
[[rule]]
listeners = ["lane{N}"]
paths = ["/fixed*"]
respond = { status = 403, body = "no entry" }
[[rule]]
listeners = ["lane{N}"]
paths = ["/move*"]
redirect = { status = 302, host = "www.#{host}", path = "/to#{path}" }
[[rule]]
listeners = ["lane{N}"]
paths = ["/api/*"]
rewrite = { path = { regex = "^/api/?(.*)$", replace = "/$1" } }
forward = "lane{N}"
[[rule]]
listeners = ["lane{N}"]
hosts = ["*.example"]
headers = { x-v = ["*b*"] }
respond = { status = 209, body = "host and header" }
[[rule]]
listeners = ["lane{N}"]
methods = ["get", "M-SEARCH", "PROPFIND"]
respond = { status = 208, body = "method" }
[[rule]]
listeners = ["lane{N}"]
query = [{ key = "a", value = "b" }, { value = "x" }]
respond = { status = 207, body = "query" }
"##;

/// True if the desync mode may make a difference to the case.
fn shows_modes(case: &Case) -> bool {
    const PLACES: [&str; 9] = [
        "name",
        "colon",
        "length",
        "coding",
        "version",
        "line-end",
        "field-end",
        "head-end",
        "chunk-size",
    ];
    match case.group {
        Group::Cuts | Group::Cookies | Group::Answers => false,
        Group::Bytes => PLACES.iter().any(|place| case.name.starts_with(&format!("byte/{place}"))),
        _ => true,
    }
}

/// All configurations. The first runs every case.
pub const CONFIGS: &[Config] = &[
    Config { name: "defensive", listener: "", rules: "", takes: |_| true },
    Config {
        name: "strictest",
        listener: "desync_mitigation = \"strictest\"",
        rules: "",
        takes: shows_modes,
    },
    Config {
        name: "monitor",
        listener: "desync_mitigation = \"monitor\"",
        rules: "",
        takes: shows_modes,
    },
    Config {
        name: "dropping",
        listener: "drop_invalid_headers = true\npreserve_host = false\nx_forwarded_for = \
                   \"preserve\"\ntrusted_proxies = [\"127.0.0.1/32\"]\nserver = \"own\"\n\
                   response_headers = { x-frame-options = \"DENY\" }",
        rules: "",
        takes: |case| matches!(case.group, Group::Fields | Group::Hosts | Group::Answers),
    },
    Config {
        name: "rules",
        listener: "limits = { header_bytes = \"8KiB\", headers = 20, body_bytes = \"64B\" }",
        rules: RULES,
        takes: |case| {
            matches!(case.group, Group::Lines | Group::Hosts | Group::Fields | Group::Pipelines)
        },
    },
];

/// A running balancer.
pub struct Balancer {
    child: Child,
    fence: SocketAddr,
    lanes: Vec<(SocketAddr, TcpListener)>,
    _dir: tempfile::TempDir,
}

impl Balancer {
    /// Starts it and waits until it listens and has checked every target.
    pub fn start(config: &Config, lanes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Health checks (TCP) connect to this port, so that they never reach the sockets of the
        // cases.
        let checked = TcpListener::bind("127.0.0.1:0").unwrap();
        let check_port = checked.local_addr().unwrap().port();
        std::thread::spawn(move || while checked.accept().is_ok() {});
        let targets: Vec<_> =
            (0..lanes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut text = String::from(
            "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log.access]\nto = \"off\"\n\
             [listener.fence]\naddress = \"127.0.0.1:0\"\n\
             timeouts = { header_read = \"1h\", idle = \"1h\", max_lifetime = \"0s\" }\n\
             default = { respond = { status = 200, body = \"ok\" } }\n",
        );
        for (at, target) in targets.iter().enumerate() {
            let rules = config.rules.replace("{N}", &at.to_string());
            text.push_str(&format!(
                "[listener.lane{at}]\naddress = \"127.0.0.1:0\"\ndefault = \"lane{at}\"\n\
                 timeouts = {{ header_read = \"1h\", idle = \"1h\" }}\n{}\n{rules}\n\
                 [target_group.lane{at}]\ntargets = [{{ id = \"t\", address = \"{}\" }}]\n\
                 health = {{ protocol = \"tcp\", port = {check_port}, interval = \"5m\" }}\n\
                 upstream = {{ timeouts = {{ connect = \"5m\", response = \"1h\", keep_alive = \
                 \"1h\" }} }}\n",
                config.listener,
                target.local_addr().unwrap(),
            ));
        }
        let path = dir.path().join("stayput.toml");
        std::fs::write(&path, text).unwrap();
        let program = std::env::var_os("STAYPUT_FRONT_BINARY")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_stayput").into());
        let mut command = Command::new(program);
        command.arg("run").arg("-c").arg(path).env_remove("STAYPUT_CONFIG");
        command.current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut addresses = std::collections::HashMap::new();
        let mut said = String::new();
        loop {
            let Some(Ok(line)) = lines.next() else { panic!("the balancer ended:\n{said}") };
            let word = |key: &str| {
                let (_, rest) = line.split_once(key)?;
                Some(rest.split(' ').next().unwrap().to_owned())
            };
            if let (Some(name), Some(address)) = (word("listener="), word("address=")) {
                addresses.insert(name, address.parse::<SocketAddr>().unwrap());
            }
            if line.contains("ready: ") {
                break;
            }
            said.push_str(&line);
            said.push('\n');
        }
        // The rest of the output is read, so that the balancer never blocks on a full pipe; lines
        // about panics are printed.
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| {
                if line.contains("panic") {
                    eprintln!("{line}");
                }
            });
        });
        let address = |name: &str| addresses[name];
        let lanes = targets.into_iter().enumerate();
        Self {
            fence: address("fence"),
            lanes: lanes.map(|(at, target)| (address(&format!("lane{at}")), target)).collect(),
            child,
            _dir: dir,
        }
    }

    /// One `Lane` for each lane's listener; each is to be driven by one thread.
    pub fn lanes(&self) -> Vec<Lane> {
        let lanes = self.lanes.iter();
        lanes.map(|(address, target)| Lane::new(*address, target, self.fence)).collect()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
