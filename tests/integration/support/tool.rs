//! Programs of others, as clients or targets: each ends with the scene that began it, or when its
//! time is over.

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

/// How long one may run; far more than any takes on a busy machine.
const MAX_TIME: Duration = Duration::from_secs(60);

/// Where a program is; a scene that wants it says so where it is not.
pub fn found(program: &str) -> Option<PathBuf> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    // Where systems keep servers, which need not be in everyone's PATH.
    let places = std::env::split_paths(&directories).chain(["/usr/sbin".into()]);
    let mut paths = places.map(|place| place.join(program));
    let path = paths.find(|path| path.is_file());
    if path.is_none() {
        skipped(program);
    }
    path
}

/// Whether these can be had; a scene that wants one says so where it cannot.
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

/// Says that a scene is skipped, which is a failure where all clients should be there. The run's last
/// line counts it.
fn skipped(what: &str) {
    assert!(std::env::var_os("STAYPUT_TEST_CLIENTS").is_none(), "{what} is not installed");
    skips::note(skips::directory(), &skips::run(), what);
}

/// Says that a scene is skipped because this machine does not allow it, whatever is installed.
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

/// What it wrote, as far as it has been read.
type Said = Arc<Mutex<String>>;

/// What came of it.
#[derive(Debug)]
pub struct Done {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl Tool {
    /// Begins it, in a process group of its own: some have children.
    pub fn start(command: &mut Command) -> Self {
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = read(child.stdout.take().unwrap());
        let complained = read(child.stderr.take().unwrap());
        Self { child, begun: Instant::now(), said, complained }
    }

    /// Begins a script of `tests/integration/scripts`.
    pub fn script(python: &Path, name: &str, arguments: &[&str]) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/scripts");
        Self::start(Command::new(python).arg("-u").arg(scripts.join(name)).args(arguments))
    }

    /// Waits for a line that begins with this word; the rest of it.
    #[track_caller]
    pub fn line(&mut self, word: &str) -> String {
        self.wait(&format!("the line {word}"), |this| {
            let said = this.said.lock().unwrap().clone();
            let whole = &said[..said.rfind('\n')?];
            let mut rests = whole.lines().filter_map(|line| line.strip_prefix(word));
            rests.next().map(|rest| rest.trim_start().to_owned())
        })
    }

    /// Where it listens, as its line `listening` says.
    #[track_caller]
    pub fn address(&mut self) -> SocketAddr {
        self.line("listening").parse().unwrap()
    }

    /// Writes a line to its input.
    pub fn tell(&mut self, line: &str) {
        self.child.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// All it has written so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn done(mut self) -> Done {
        let status = self.wait("its end", |this| this.child.try_wait().unwrap());
        // The pipes are read to their end by now, or a grandchild holds them.
        let ended = Instant::now();
        while Arc::strong_count(&self.said) + Arc::strong_count(&self.complained) > 2
            && ended.elapsed() < Duration::from_secs(2)
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        let errors = self.complained.lock().unwrap().clone();
        Done { code: status.code(), output: self.said(), errors }
    }

    /// Waits for its end, which is a good one; what it wrote.
    #[track_caller]
    pub fn output(self) -> String {
        let done = self.done();
        assert_eq!(done.code, Some(0), "{}\n{}", done.output, done.errors);
        done.output
    }

    #[track_caller]
    fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        loop {
            // In this order, so that the last words of one that has ended are heard.
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
        // Best effort: where all of it has ended there is no such group.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Reads to the end in a thread that goes when the last of the writers has gone.
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
