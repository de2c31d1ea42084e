//! A balancer as a process: started on its core, asked for its CPU time, and ended by its id.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cores::Cores;

/// A running program that ends with this value.
pub(crate) struct Process {
    child: Child,
}

/// CPU time and log bytes of a balancer so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Reading {
    pub(crate) cpu: CpuTime,
    /// Bytes in its access log.
    pub(crate) logged: u64,
}

/// CPU time used since the process began, its children's included.
#[derive(Clone, Copy, Default)]
pub(crate) struct CpuTime {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

/// Time a balancer may take to open its port, and to exit after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

impl Process {
    /// Starts `command` on its cores and waits until `address` accepts connections. Its output goes
    /// to `said`.
    pub(crate) fn start(
        mut command: Command,
        cores: &Cores,
        workers: usize,
        address: SocketAddr,
        said: &Path,
    ) -> io::Result<Self> {
        // Appending, so that the file can be emptied between runs if it is a log.
        let output = File::options().create(true).append(true).open(said)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut process = Self { child: cores.on_balancer(workers, || command.spawn())?? };
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            if let Some(status) = process.child.try_wait()? {
                let said = fs::read_to_string(said).unwrap_or_default();
                let message = format!("ended at once ({status}): {}", said.trim());
                return Err(io::Error::other(message));
            }
            if TcpStream::connect(address).is_ok() {
                return Ok(process);
            }
            sleep(PAUSE);
        }
        Err(io::Error::other(format!("did not open {address} within {PATIENCE:?}")))
    }

    /// Of the process and its present children.
    pub(crate) fn cpu_time(&self) -> CpuTime {
        self.all().into_iter().map(CpuTime::of_process).sum()
    }

    /// Memory of the process and its children; shared memory is counted once.
    pub(crate) fn memory_kib(&self) -> u64 {
        let of = |id| {
            let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
            line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        };
        self.all().into_iter().filter_map(of).sum()
    }

    /// The process and its present children, nginx's worker for one.
    pub(crate) fn all(&self) -> Vec<u32> {
        let parent = self.child.id();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|id| id.parse().ok());
        std::iter::once(parent).chain(children).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Listed first: nginx's worker survives a master that is killed.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            sleep(PAUSE);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl CpuTime {
    /// Fields 14 and 15 of `stat`; the name before them may hold spaces, but it ends in `)`.
    fn of_process(id: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let mut ticks = after_name.split_whitespace().skip(11).map_while(|f| f.parse().ok());
        let mut next = || TICK * ticks.next().unwrap_or(0);
        Self { user: next(), system: next() }
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

impl Reading {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.since(earlier.cpu),
            logged: self.logged.saturating_sub(earlier.logged),
        }
    }
}

/// The unit of `/proc/<pid>/stat` on every architecture Rust's Linux targets run on.
const TICK: Duration = Duration::from_millis(10);

impl std::iter::Sum for CpuTime {
    fn sum<I: Iterator<Item = Self>>(times: I) -> Self {
        times.fold(Self::default(), |sum, time| Self {
            user: sum.user + time.user,
            system: sum.system + time.system,
        })
    }
}

/// A loopback address on which no process listens now.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Searches PATH, and the folders of Debian's daemons.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}
