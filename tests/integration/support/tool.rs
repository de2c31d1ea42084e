//! Other programs as clients or targets: each ends with the test that started it, or at its
//! time-out.

use crate::skips;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Maximum run time of a program; far more than any takes on a busy machine.
const MAX_TIME: Duration = Duration::from_secs(60);

/// Path of a program; reports the test as skipped if it is missing.
pub fn found(program: &str) -> Option<PathBuf> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    // Directories of servers, which need not be in a user's PATH.
    let places = std::env::split_paths(&directories).chain(["/usr/sbin".into()]);
    let mut paths = places.map(|place| place.join(program));
    let path = paths.find(|path| path.is_file());
    if path.is_none() {
        skipped(program);
    }
    path
}

/// True if these programs exist; reports the test as skipped if one is missing.
pub fn has(programs: &[&str]) -> bool {
    programs.iter().all(|program| found(program).is_some())
}

/// A Python that has the modules of `scripts/requirements.txt`, if there is one: that of `.ci/run`,
/// else the system's.
pub fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python");
        [own, "python3".into()].into_iter().find(|python| {
            let mut command = Command::new(python);
            command.args(["-c", "import grpc, h2, websockets"]).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        })
    });
    if found.is_none() {
        skipped("Python with grpcio, h2 and websockets");
    }
    found.as_deref()
}

/// Reports that a test is skipped, which is a failure if all clients are required. The last line of
/// the run counts it.
fn skipped(what: &str) {
    assert!(std::env::var_os("STAYPUT_TEST_CLIENTS").is_none(), "{what} is not installed");
    skips::note(skips::directory(), &skips::run(), what);
}

/// Reports that a test is skipped because this machine does not allow it, whatever is installed.
pub fn not_allowed(what: &str) {
    skips::note(skips::directory(), &skips::run(), what);
}

/// A running program.
pub struct Tool {
    child: Child,
    begun: Instant,
    said: Said,
    complained: Said,
}

/// The output that has been read so far.
type Said = Arc<Mutex<String>>;

/// The result of a program.
#[derive(Debug)]
pub struct Done {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl Tool {
    /// Starts a program in its own process group, as some have children.
    pub fn start(command: &mut Command) -> Self {
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = read(child.stdout.take().unwrap());
        let complained = read(child.stderr.take().unwrap());
        Self { child, begun: Instant::now(), said, complained }
    }

    /// Starts a script of `tests/integration/scripts`.
    pub fn script(python: &Path, name: &str, arguments: &[&str]) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/scripts");
        Self::start(Command::new(python).arg("-u").arg(scripts.join(name)).args(arguments))
    }

    /// Waits for a line that begins with this word. Returns the rest of the line.
    #[track_caller]
    pub fn line(&mut self, word: &str) -> String {
        self.wait(&format!("the line {word}"), |this| {
            let said = this.said.lock().unwrap().clone();
            let whole = &said[..said.rfind('\n')?];
            let mut rests = whole.lines().filter_map(|line| line.strip_prefix(word));
            rests.next().map(|rest| rest.trim_start().to_owned())
        })
    }

    /// The address in its line `listening`.
    #[track_caller]
    pub fn address(&mut self) -> SocketAddr {
        self.line("listening").parse().unwrap()
    }

    /// Writes a line to its input.
    pub fn tell(&mut self, line: &str) {
        self.child.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// All output so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits for its exit.
    #[track_caller]
    pub fn done(mut self) -> Done {
        let status = self.wait("its end", |this| this.child.try_wait().unwrap());
        // The pipes have been read to their end by now, unless a grandchild holds them.
        let ended = Instant::now();
        while Arc::strong_count(&self.said) + Arc::strong_count(&self.complained) > 2
            && ended.elapsed() < Duration::from_secs(2)
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        let errors = self.complained.lock().unwrap().clone();
        Done { code: status.code(), output: self.said(), errors }
    }

    /// Waits for its exit with code 0. Returns its output.
    #[track_caller]
    pub fn output(self) -> String {
        let done = self.done();
        assert_eq!(done.code, Some(0), "{}\n{}", done.output, done.errors);
        done.output
    }

    #[track_caller]
    fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        loop {
            // In this order, so that the last output of an ended program is read.
            let has_ended = self.child.try_wait().unwrap().is_some();
            let is_read =
                Arc::strong_count(&self.said) == 1 && Arc::strong_count(&self.complained) == 1;
            if let Some(found) = look(self) {
                return found;
            }
            assert!(
                self.begun.elapsed() < MAX_TIME && !(has_ended && is_read),
                "waited in vain: {what}\n{}\n{}",
                self.said(),
                self.complained.lock().unwrap()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        // Best effort: if all processes have ended, there is no such group.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Reads to the end in a thread that ends when the last writer has closed.
fn read(mut from: impl Read + Send + 'static) -> Said {
    let said = Said::default();
    let heard = said.clone();
    std::thread::spawn(move || {
        let mut scratch = [0; 4_096];
        while let Ok(count @ 1..) = from.read(&mut scratch) {
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(&scratch[..count]));
        }
    });
    said
}
