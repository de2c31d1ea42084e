//! callgrind: starts a program under it, and zeroes, dumps and reads its counts.

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) type Counted = Result<f64, Box<dyn Error>>;

/// A program under valgrind needs seconds to open its port, and more on a loaded machine.
const TURNS: usize = 1_200;
const TURN: Duration = Duration::from_millis(50);
/// Tries. A dump is written within milliseconds after `callgrind_control` has returned; a balancer
/// that is terminated drains.
const PATIENCE: usize = 200;

pub(crate) fn is_installed() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok()
}

/// An address for a balancer, which takes seconds to listen on it. It is below the range from which
/// the kernel gives ports to connections and to port 0 (32768 on; `ip_local_port_range`), so that
/// no other program gets it meanwhile.
pub(crate) fn free_address() -> Result<SocketAddr, Box<dyn Error>> {
    const PORTS: u16 = 10_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = (std::process::id() % u32::from(PORTS)) as u16;
    for _ in 0..PORTS {
        let port = 20_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    Err("no port is free".into())
}

/// A command to which the program under test is added; its counts go to `file`.
pub(crate) fn command(file: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg("--quiet");
    command.arg(format!("--callgrind-out-file={}", file.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A balancer under callgrind, ended by its id on drop.
pub(crate) struct Running {
    child: Child,
    counts: PathBuf,
    dumps: u32,
}

impl Running {
    /// Returns when `address` accepts connections.
    pub(crate) fn start(
        command: &mut Command,
        counts: &Path,
        address: SocketAddr,
    ) -> Result<Self, Box<dyn Error>> {
        let mut running = Self { child: command.spawn()?, counts: counts.to_owned(), dumps: 0 };
        for _ in 0..TURNS {
            if let Some(status) = running.child.try_wait()? {
                return Err(format!("ended at once ({status})").into());
            }
            if TcpStream::connect(address).is_ok() {
                return Ok(running);
            }
            sleep(TURN);
        }
        Err(format!("did not open {address} under valgrind").into())
    }

    pub(crate) fn control(&self, arguments: &[&str]) -> Result<(), Box<dyn Error>> {
        let id = self.child.id().to_string();
        let output = Command::new("callgrind_control").args(arguments).arg(id).output()?;
        if output.status.success() { Ok(()) } else { Err("callgrind_control failed".into()) }
    }

    pub(crate) fn zero(&self) -> Result<(), Box<dyn Error>> {
        self.control(&["-z"])
    }

    /// Writes the counts since the last dump, and zeroes them. Returns the file.
    pub(crate) fn dump(&mut self) -> Result<PathBuf, Box<dyn Error>> {
        self.control(&["-d"])?;
        self.dumps += 1;
        let path = PathBuf::from(format!("{}.{}", self.counts.display(), self.dumps));
        for _ in 0..PATIENCE {
            if total(&path).is_ok() {
                return Ok(path);
            }
            sleep(TURN);
        }
        Err(format!("callgrind wrote no {}", path.display()).into())
    }

    /// Ends the program and waits for it, so that the last counts are written.
    pub(crate) fn end(mut self) -> Result<(), Box<dyn Error>> {
        self.terminate();
        self.child.wait()?;
        Ok(())
    }

    fn terminate(&self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.terminate();
        for _ in 0..PATIENCE {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            sleep(TURN);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn total(file: &Path) -> Counted {
    let counts = fs::read_to_string(file)?;
    let line = counts.lines().rev().find_map(|line| line.strip_prefix("totals:"));
    Ok(line.ok_or("callgrind wrote no totals")?.trim().parse()?)
}
