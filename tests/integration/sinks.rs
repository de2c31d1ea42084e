//! Logs that are not read, full or closed: a blocked sink never stops traffic.

use crate::support::tool::{self, Done};
use crate::support::{Origin, Visitor, until};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time an exit may take: two seconds with jitter for each of two silent sinks, and a busy machine.
/// Writing all buffered data would take far longer.
const SOON: Duration = Duration::from_secs(9);

/// The program with the sinks of a test, ended by its id when the test is over.
struct Run {
    child: Child,
    address: SocketAddr,
}

impl Run {
    /// Runs this configuration, in which `ADDRESS` stands for a free address, and waits until it
    /// listens.
    fn start(dir: &Path, text: &str, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Self {
        Self::with(Command::new(env!("CARGO_BIN_EXE_stayput")), dir, text, stdout, stderr)
    }

    fn with(
        mut command: Command,
        dir: &Path,
        text: &str,
        stdout: impl Into<Stdio>,
        stderr: impl Into<Stdio>,
    ) -> Self {
        // In most tests its output cannot be read, so the port is chosen beforehand.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let path = dir.join("stayput.toml");
        fs::write(&path, text.replace("ADDRESS", &address.to_string())).unwrap();
        command.arg("run").arg("-c").arg(path).env_remove("STAYPUT_CONFIG");
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let mut run = Self { child: command.spawn().unwrap(), address };
        until("it listens", || {
            assert_eq!(run.child.try_wait().unwrap(), None, "it ended at its start");
            TcpStream::connect(address).ok().map(drop)
        });
        run
    }

    fn visitor(&self) -> Visitor {
        Visitor::of(self.address)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Sends SIGTERM and checks that it exits soon. Returns the exit code.
    fn terminate(mut self) -> Option<i32> {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        let asked = Instant::now();
        let code = until("its exit", || self.child.try_wait().unwrap()).code();
        assert!(asked.elapsed() < SOON, "it left after {:?}", asked.elapsed());
        code
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration with its access log there, before these targets (a, b, c ...).
fn text(log: &str, targets: &[(&str, &Origin)], group: &str) -> String {
    let target = |(id, origin): &(&str, &Origin)| {
        format!("{{ id = \"{id}\", address = \"{}\" }}", origin.address())
    };
    let targets = targets.iter().map(target).collect::<Vec<_>>().join(", ");
    format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\ndrain_timeout = \"2s\"\n\
         [log]\naccess = {{ to = \"{log}\" }}\n[listener.web]\naddress = \"ADDRESS\"\n\
         [target_group.app]\ntargets = [{targets}]\n\
         health = {{ interval = \"200ms\", fast_interval = \"100ms\", timeout = \"200ms\", \
         unhealthy_threshold = 1, healthy_threshold = 1 }}\n{group}\n"
    )
}

/// A full pipe, and its other end, from which the test does not read.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let own = writer.try_clone().unwrap();
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'x'; 4_096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    // The flag belongs to both ends: the program gets a blocking pipe, as from a shell.
    fcntl(own.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, own.into())
}

fn file(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Checks that the control thread still runs: a check changes a state.
fn checks_change_a_state(run: &Run, origin: &Origin) {
    origin.set_healthy(false);
    until("the target is seen to fail", || (run.visitor().get("/").status == 503).then_some(()));
    origin.set_healthy(true);
    until("the target is seen to serve", || (run.visitor().get("/").status == 200).then_some(()));
}

#[test]
fn an_unread_fifo_delays_neither_start_nor_exit() {
    let (origin, dir) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let fifo = dir.path().join("access.fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let text = text("access.fifo", &[("a", &origin)], "");
    let errors = dir.path().join("errors");
    let run = Run::start(dir.path(), &text, Stdio::null(), file(&errors));
    assert_eq!(run.visitor().get("/before").status, 200);
    assert_eq!(run.terminate(), Some(0));
    assert!(read(&errors).contains("access records lost"), "{}", read(&errors));
    // Again, with a reader that comes late, leaves, and comes again.
    let run = Run::start(dir.path(), &text, Stdio::null(), file(&errors));
    assert_eq!(run.visitor().get("/early").status, 200);
    for path in ["/first", "/second"] {
        let mut reader = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&fifo)
            .unwrap();
        let mut heard = Vec::new();
        until("a record", || {
            assert_eq!(run.visitor().get(path).status, 200);
            let _ = reader.read_to_end(&mut heard);
            String::from_utf8_lossy(&heard).contains(path).then_some(())
        });
        let heard = String::from_utf8(heard).unwrap();
        for line in heard.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        assert_eq!(heard.contains("/early"), path == "/first", "what waited is written first");
    }
    assert_eq!(run.terminate(), Some(0));
}

#[test]
fn blocked_pipes_delay_no_worker_no_check_and_no_exit() {
    let (origin, dir) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let (_unread, stderr) = full_pipe();
    let (_unread_too, stdout) = full_pipe();
    let text = text("stdout", &[("a", &origin)], "fail_open = false");
    let run = Run::start(dir.path(), &text, stdout, stderr);
    checks_change_a_state(&run, &origin);
    let mut visitor = run.visitor();
    for _ in 0..2_000 {
        assert_eq!(visitor.get("/").status, 200);
    }
    assert_eq!(run.terminate(), Some(0));
}

#[test]
fn a_failed_start_exits_with_its_code_though_stderr_is_blocked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stayput.toml");
    fs::write(&path, "[listener.web]\n").unwrap();
    let (_unread, stderr) = full_pipe();
    for stderr in [stderr, file(Path::new("/dev/full")).into()] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stayput"));
        command.args(["run", "-c"]).arg(&path).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(stderr).spawn().unwrap();
        let code = until("its exit", || child.try_wait().unwrap()).code();
        assert_eq!(code, Some(1));
    }
}

#[test]
fn full_closed_or_broken_standard_streams_stop_nothing() {
    let gone = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let full = || Stdio::from(file(Path::new("/dev/full")));
    for (what, sinks) in
        [("full", Some([full(), full()])), ("gone", Some([gone(), gone()])), ("closed", None)]
    {
        let (origin, dir) = (Origin::named("a"), tempfile::tempdir().unwrap());
        let text = text("stderr", &[("a", &origin)], "fail_open = false");
        let run = match sinks {
            Some([stdout, stderr]) => Run::start(dir.path(), &text, stdout, stderr),
            None => {
                let mut shell = Command::new("sh");
                let script = "exec \"$0\" \"$@\" >&- 2>&-";
                shell.args(["-c", script, env!("CARGO_BIN_EXE_stayput")]);
                Run::with(shell, dir.path(), &text, Stdio::null(), Stdio::null())
            }
        };
        checks_change_a_state(&run, &origin);
        assert_eq!(run.terminate(), Some(0), "{what}");
    }
}

#[test]
fn replays_of_an_old_pin_are_counted_in_few_log_lines() {
    let (a, b, dir) = (Origin::named("a"), Origin::named("b"), tempfile::tempdir().unwrap());
    let errors = dir.path().join("errors");
    let run = Run::start(dir.path(), &text("off", &[("a", &a)], ""), Stdio::null(), Stdio::null());
    let mut visitor = run.visitor();
    visitor.get("/");
    let old = visitor.jar["AWSALB"].clone();
    assert_eq!(run.terminate(), Some(0));
    let run = Run::start(dir.path(), &text("off", &[("b", &b)], ""), Stdio::null(), file(&errors));
    let mut visitor = run.visitor();
    let begun = Instant::now();
    for _ in 0..1_500 {
        visitor.jar = [("AWSALB".to_owned(), old.clone())].into();
        assert_eq!(visitor.get("/").body, "b");
    }
    assert_eq!(run.terminate(), Some(0));
    let took = begun.elapsed().as_secs() as usize;
    let told = read(&errors);
    let lines: Vec<_> =
        told.lines().filter(|line| line.contains("client moved to another target")).collect();
    let more = |line: &str| {
        let more = line.strip_suffix(" more").and_then(|line| line.rsplit_once(" and "));
        more.map_or(0, |(_, count)| count.parse::<usize>().unwrap())
    };
    let moved = lines.iter().map(|line| 1 + more(line)).sum::<usize>();
    assert_eq!(moved, 1_500, "{told}");
    // A hundred at once and ten a second are logged while none is suppressed.
    assert!(lines.len() <= 100 + 10 * (took + 1), "{} lines in {took} s", lines.len());
}

#[test]
fn a_full_disk_joins_no_two_records_and_loses_no_waiting_one() {
    let Some(unshare) = tool::found("unshare") else { return };
    let may_mount = tool::Tool::start(
        Command::new(&unshare).args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]),
    );
    let Done { code: Some(0), .. } = may_mount.done() else {
        return tool::not_allowed("permission to mount a file system of its own (unshare -rm)");
    };
    let (origin, dir) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let errors = dir.path().join("errors");
    let mut command = Command::new(unshare);
    let script = "mount -t tmpfs -o size=4m none \"$1\" && head -c 4161536 /dev/zero >\"$1/other\" && \
                  shift && exec \"$@\"";
    command.args(["-rm", "sh", "-c", script, "sh"]).arg(&disk);
    command.arg(env!("CARGO_BIN_EXE_stayput"));
    let text = text("disk/access.log", &[("a", &origin)], "");
    let run = Run::with(command, dir.path(), &text, Stdio::null(), file(&errors));
    // The pin as the program sees it.
    let root = PathBuf::from(format!("/proc/{}/root", run.pid()));
    let disk = root.join(disk.strip_prefix("/").unwrap());
    let log = disk.join("access.log");
    let (mut visitor, mut asked) = (run.visitor(), 0);
    let mut ask = |path: &str| {
        assert_eq!(visitor.get(path).status, 200);
        asked += 1;
        asked
    };
    until("the disk is full", || {
        for _ in 0..20 {
            ask("/fills");
        }
        read(&errors).contains("access log write failed").then_some(())
    });
    let kept = read(&log);
    assert!(kept.len() > 20_000 && kept.ends_with('\n'), "half a record at its end");
    fs::write(disk.join("other"), "").unwrap();
    let asked = ask("/after");
    until("records are written again", || read(&log).contains("/after").then_some(()));
    let written = read(&log);
    assert_eq!(run.terminate(), Some(0));
    for line in written.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("glued: {line}"));
    }
    assert_eq!(written.lines().count(), asked, "those refused waited");
    let told = read(&errors);
    assert!(
        told.contains("access log writes succeed again") && !told.contains("dropped"),
        "{told}"
    );
}

#[test]
fn dropped_records_are_counted_and_reported_once_the_sink_drains() {
    let (origin, dir) = (Origin::named("a"), tempfile::tempdir().unwrap());
    let fifo = dir.path().join("access.fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let errors = dir.path().join("errors");
    let text = text("access.fifo", &[("a", &origin)], "");
    let run = Run::start(dir.path(), &text, Stdio::null(), file(&errors));
    // One and a half times 64 buffers of 64 KiB.
    let (path, asked) = (format!("/{}", "x".repeat(6_000)), 1_100);
    let mut visitor = run.visitor();
    for _ in 0..asked {
        assert_eq!(visitor.get(&path).status, 200);
    }
    let reader = OpenOptions::new().read(true).open(&fifo).unwrap();
    let heard = std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map(Result::unwrap);
        lines.inspect(|line| drop(serde_json::from_str::<serde_json::Value>(line).unwrap())).count()
    });
    let counted = |text: &str| {
        let counts = text.lines().filter(|line| line.contains("access records dropped"));
        let counts = counts.filter_map(|line| line.rsplit_once("records="));
        counts.map(|(_, count)| count.trim().parse::<usize>().unwrap()).sum::<usize>()
    };
    until("it says what was dropped", || (counted(&read(&errors)) > 0).then_some(()));
    assert_eq!(run.terminate(), Some(0));
    let (written, told) = (heard.join().unwrap(), read(&errors));
    assert_eq!(written + counted(&told), asked, "{told}");
}
