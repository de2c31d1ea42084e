//! Instructions, which callgrind counts the same on a busy machine as on an idle one: of opening,
//! deciding and sealing, and of a whole exchange through the built program. Held against
//! `benches/instructions.txt`; `.ci/run` fails when either grew by more than three in a hundred.
//!
//! valgrind knows no SHA instructions, so SHA-256 is done in software here: some 27,000 of a
//! sticky exchange's instructions, which are a thousand cycles on a machine that has them.
// A bench speaks on standard output.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use stayput::config;
use stayput::decide::renewal::{Shown, renewal};
use stayput::decide::{Outcome, Request, decide};
use stayput::ground::random::Random;
use stayput::http1::fields::Fields;
use stayput::model::live::{Availability, Drain, Health};
use stayput::model::roster::Roster;
use stayput::model::snapshot::{Resolutions, Snapshot};
use stayput::policy::affinity::keys::{Key, Keyring};
use stayput::policy::affinity::token::{Contents, Kind, Pin, Seed};
use stayput::proxy::workplace::LiveView;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// By how much a count may grow.
const ROOM: f64 = 1.03;
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
const NOW: u32 = 1_800_000_000;
/// The word by which this program, under callgrind, is told to do the first thing so often.
const DECISIONS: &str = "--decisions";

type Counted = Result<f64, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == DECISIONS) {
        let count = arguments.get(at + 1).and_then(|count| count.parse().ok()).unwrap_or(0);
        decisions(count);
        return ExitCode::SUCCESS;
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("instructions: nothing to do; run it with: cargo bench --bench instructions");
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions: skipped, valgrind is not installed");
        return ExitCode::SUCCESS;
    }
    match compare(arguments.iter().any(|argument| argument == "--update")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("instructions: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn compare(update: bool) -> Result<bool, Box<dyn Error>> {
    let counts = [("decision", decision()?), ("exchange", exchange()?)];
    if update {
        let lines = counts.map(|(name, count)| format!("{name} {count:.0}\n"));
        fs::write(KEPT, lines.concat())?;
    }
    let kept = fs::read_to_string(KEPT)?;
    let mut held = true;
    for (name, count) in counts {
        let line = kept.lines().find_map(|line| line.strip_prefix(name));
        let before: f64 = line.ok_or("instructions.txt lacks a line")?.trim().parse()?;
        let ratio = count / before;
        println!("{name}: {count:.0} instructions, {ratio:.3} x what was kept (must <= {ROOM})");
        held &= ratio <= ROOM;
    }
    if !held {
        println!("if that is meant: cargo bench --bench instructions -- --update, and say why");
    }
    Ok(held)
}

/// Opening the token, deciding, sealing the next one. The difference of two runs, so that what
/// comes before and after does not count.
fn decision() -> Counted {
    let counted = |count: u32| -> Counted {
        let file = tempfile::NamedTempFile::new()?;
        let mut command = callgrind(file.path());
        command.arg(std::env::current_exe()?).arg(DECISIONS).arg(count.to_string());
        if !command.status()?.success() {
            return Err("callgrind could not run this program".into());
        }
        total(file.path())
    };
    const COUNT: u32 = 2_000;
    Ok((counted(2 * COUNT)? - counted(COUNT)?) / f64::from(COUNT))
}

fn decisions(count: u32) {
    let Some((snapshot, headers)) = world() else { return };
    let request = Request {
        listener: 0,
        host: "shop.example",
        path: "/cart",
        query: "",
        method: "GET",
        headers: &headers,
        address: std::net::IpAddr::from([192, 0, 2, 1]),
    };
    let mut draw = Random::from_seed(1);
    for _ in 0..count {
        let now = u64::from(NOW) + 5;
        let decision =
            decide(black_box(&request), &snapshot, &LiveView::FOR_ANYONE, now, &mut draw);
        let Outcome::Forward(placement) = decision.outcome else { return };
        let served_by = placement.target.unwrap_or(0);
        if let Some(renewal) =
            renewal(&placement, served_by, &snapshot, now, Seed(1), Shown::default())
        {
            black_box(snapshot.keyring.seal(Kind::Lb, &renewal.contents));
        }
    }
}

fn world() -> Option<(Snapshot, Fields)> {
    let text = "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
                targets = [\"10.0.0.1:80\", \"10.0.0.2:80\", \"10.0.0.3:80\"]\n";
    let loaded = config::parse(text, "bench", Path::new("")).ok()?;
    let keyring = Arc::new(Keyring::new(&[Key::generate([7; 32])]).ok()?);
    let (names, mut roster) = (Resolutions::new(), Roster::default());
    let snapshot = Snapshot::build(&loaded.config, keyring, &names, &mut roster).ok()?;
    let group = &snapshot.groups[0];
    for target in &group.targets {
        let healthy = Availability { health: Health::Healthy, drain: Drain::No, recovering: false };
        target.live.set_availability(healthy);
    }
    let pin = Pin { group: group.key, target: group.targets[1].key, issued_at: NOW };
    let sealed = snapshot.keyring.seal(Kind::Lb, &Contents::new(Seed(42), pin));
    let line = format!("theme=dark; AWSALB={}", sealed.as_str());
    let headers = [("cookie", line)].into_iter().collect();
    Some((snapshot, headers))
}

/// A sticky request and its answer over kept connections, the access log included.
fn exchange() -> Counted {
    const COUNT: u32 = 2_000;
    let room = tempfile::tempdir()?;
    let origin = TcpListener::bind("127.0.0.1:0")?;
    let target = origin.local_addr()?;
    std::thread::spawn(move || origin.incoming().flatten().for_each(answer));
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let folder = room.path().display();
    let file = room.path().join("stayput.toml");
    fs::write(
        &file,
        format!(
            "[runtime]\nworkers = 1\nstate_dir = \"{folder}\"\n[log]\n\
             access = {{ to = \"{folder}/access.log\" }}\n[listener.web]\n\
             address = \"{address}\"\n[target_group.app]\ntargets = [\"{target}\"]\n"
        ),
    )?;
    let counts = room.path().join("counts");
    let mut command = callgrind(&counts);
    command.arg("--instr-atstart=no").arg(env!("CARGO_BIN_EXE_stayput"));
    let running = Running(command.arg("run").arg("-c").arg(&file).spawn()?);
    let mut client = connect(&address.to_string())?;
    let first = ask(&mut client, "theme=dark")?;
    let cookie = first
        .split("\r\n")
        .filter_map(|line| line.strip_prefix("set-cookie: "))
        .find_map(|line| line.split(';').next().filter(|pair| pair.starts_with("AWSALB=")))
        .ok_or("the answer set no cookie")?;
    let cookies = format!("theme=dark; {cookie}");
    for _ in 0..200 {
        ask(&mut client, &cookies)?;
    }
    switch(&running, "on")?;
    for _ in 0..COUNT {
        ask(&mut client, &cookies)?;
    }
    switch(&running, "off")?;
    running.end()?;
    Ok(total(&counts)? / f64::from(COUNT))
}

fn ask(client: &mut TcpStream, cookies: &str) -> Result<String, Box<dyn Error>> {
    let request = format!(
        "GET /cart?item=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1.0\r\n\
         Accept: */*\r\nCookie: {cookies}\r\n\r\n"
    );
    client.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut room = [0; 4_096];
    while !answer.ends_with(b"hello") {
        let count = client.read(&mut room)?;
        if count == 0 {
            return Err("the balancer closed the connection".into());
        }
        answer.extend_from_slice(&room[..count]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn answer(mut stream: TcpStream) {
    std::thread::spawn(move || {
        let mut room = [0; 4_096];
        let mut filled = 0;
        while let Ok(count @ 1..) = stream.read(&mut room[filled..]) {
            filled += count;
            if room[..filled].ends_with(b"\r\n\r\n") {
                filled = 0;
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n";
                let _ = stream.write_all(format!("{head}\r\nhello").as_bytes());
            }
        }
    });
}

/// valgrind needs seconds to begin.
fn connect(address: &str) -> Result<TcpStream, Box<dyn Error>> {
    for _ in 0..600 {
        if let Ok(stream) = TcpStream::connect(address) {
            return Ok(stream);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err("stayput did not open its port under valgrind in 30 s".into())
}

fn callgrind(file: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg("--quiet");
    command.arg(format!("--callgrind-out-file={}", file.display()));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn switch(running: &Running, word: &str) -> Result<(), Box<dyn Error>> {
    let id = running.0.id().to_string();
    let output = Command::new("callgrind_control").args(["-i", word]).arg(id).output()?;
    if output.status.success() { Ok(()) } else { Err("callgrind_control failed".into()) }
}

/// The balancer under valgrind; ended by its id whatever happens.
struct Running(Child);

impl Running {
    fn end(mut self) -> Result<(), Box<dyn Error>> {
        self.terminate();
        self.0.wait()?;
        Ok(())
    }

    fn terminate(&self) {
        let id = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.terminate();
        let _ = self.0.wait();
    }
}

fn total(file: &Path) -> Counted {
    let counts = fs::read_to_string(PathBuf::from(file))?;
    let line = counts.lines().rev().find_map(|line| line.strip_prefix("totals:"));
    Ok(line.ok_or("callgrind wrote no totals")?.trim().parse()?)
}
