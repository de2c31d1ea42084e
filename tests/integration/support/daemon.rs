//! Real servers, if they are installed, on free ports.

use super::{tool, until};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running server, ended by its id on drop.
pub struct Daemon {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Daemon {
    /// nginx with this text in its `http` block. Returns `None` and reports the skip if it is not
    /// installed.
    pub fn nginx(http: impl Fn(SocketAddr) -> String) -> Option<Self> {
        Self::start("nginx", &["-e", "error.log", "-p", ".", "-c", "the.conf"], |address, dir| {
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|name| format!("{name}_temp_path {};", dir.join(name).display()));
            format!(
                "daemon off; master_process off; pid nginx.pid;\nevents {{}}\n\
                 http {{ access_log off; {} {} }}\n",
                temporary.concat(),
                http(address)
            )
        })
    }

    /// HAProxy with this configuration. Returns `None` and reports the skip if it is not installed.
    pub fn haproxy(file: impl Fn(SocketAddr) -> String) -> Option<Self> {
        Self::start("haproxy", &["-db", "-q", "-f", "the.conf"], |address, _| file(address))
    }

    fn start(
        program: &str,
        arguments: &[&str],
        file: impl Fn(SocketAddr, &Path) -> String,
    ) -> Option<Self> {
        let path = tool::found(program)?;
        // Another process may take the port first.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("the.conf"), file(address, dir.path())).unwrap();
            let mut command = Command::new(&path);
            command.args(arguments).current_dir(dir.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.spawn().unwrap();
            let mut daemon = Self { child, address, _dir: dir };
            let listens = until("a server that listens, or ends", || {
                match daemon.child.try_wait().unwrap() {
                    Some(_) => Some(false),
                    None => TcpStream::connect(address).is_ok().then_some(true),
                }
            });
            if listens {
                return Some(daemon);
            }
        }
        panic!("{program} does not start with the file it is given");
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
