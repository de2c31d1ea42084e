//! The real program, and its output on standard error.

use super::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// `stayput run`, ended by its id on drop.
pub struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Runs with this configuration, which is written to `stayput.toml` in the directory.
    pub fn run(dir: &Path, text: &str) -> Self {
        Self::run_with(dir, text, &[])
    }

    /// Runs with this configuration and these environment variables.
    pub fn run_with(dir: &Path, text: &str, variables: &[(&str, &Path)]) -> Self {
        let path = dir.join("stayput.toml");
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_stayput"));
        command.arg("run").arg("-c").arg(path).env_remove("STAYPUT_CONFIG");
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = lines.clone();
        std::thread::spawn(move || {
            errors.lines().map_while(Result::ok).for_each(|line| heard.lock().unwrap().push(line));
        });
        Self { child, lines }
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line that contains all of these words.
    pub fn line(&self, words: &[&str]) -> String {
        until(&format!("a line with {words:?}"), || {
            self.lines().into_iter().find(|line| words.iter().all(|word| line.contains(word)))
        })
    }

    /// Waits until it listens, and returns the address.
    pub fn address(&self) -> SocketAddr {
        let line = self.line(&["address="]);
        let (_, address) = line.split_once("address=").unwrap();
        address.split(' ').next().unwrap().parse().unwrap()
    }

    /// The process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the process to exit, and returns its code.
    pub fn exit_code(mut self) -> Option<i32> {
        until("its exit", || self.child.try_wait().unwrap()).code()
    }

    /// Sends SIGTERM, as a service supervisor does.
    pub fn terminate(&self) {
        let process = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(process, Signal::SIGTERM).unwrap();
    }

    /// Sends SIGKILL, like a power failure.
    pub fn end(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
