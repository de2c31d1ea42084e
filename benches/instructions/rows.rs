//! The table: a sticky request through nginx, HAProxy and Stayput in user-space instructions.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use crate::balancers::{Balancer, Place};
use crate::callgrind::{self, Running};
use crate::certificate::Certificate;
use crate::kept::Kept;
use crate::origin;
use crate::profile::Profile;
use crate::visits::Visits;
use crate::{Options, must_be_installed};

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    about: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) reuse: Reuse,
    pub(crate) cookies: Cookies,
    /// True if the log goes to a file.
    pub(crate) log: bool,
    must: Must,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Plain,
    /// HTTP/1.1 over TLS 1.3.
    Tls,
    /// HTTP/2 over TLS 1.3.
    Http2,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    Kept,
    /// `Connection: close`, and a new connection for the next request.
    Fresh,
}

/// The cookies that Stayput sets.
#[derive(Clone, Copy)]
pub(crate) enum Cookies {
    /// One cookie, as the rivals do.
    One,
    /// Over TLS also the CORS twin, which is the default. Clients send both.
    Twin,
}

/// The goal of a row.
#[derive(Clone, Copy)]
enum Must {
    /// At most this share of nginx's count.
    OfNginx(f64),
    /// At most this share of Stayput's first count of the row.
    OfBase(f64),
    /// No goal; no rival does the same.
    Nothing,
}

const KEPT: Row = Row {
    name: "kept",
    about: "kept connections",
    protocol: Protocol::Plain,
    reuse: Reuse::Kept,
    cookies: Cookies::One,
    log: false,
    must: Must::OfNginx(0.55),
};

const ROWS: [Row; 6] = [
    KEPT,
    Row { name: "log", about: "kept, log to a file", log: true, ..KEPT },
    Row {
        name: "new-connection",
        about: "new connection each",
        reuse: Reuse::Fresh,
        must: Must::OfNginx(0.92),
        ..KEPT
    },
    Row {
        name: "tls",
        about: "TLS 1.3 kept",
        protocol: Protocol::Tls,
        must: Must::OfNginx(0.56),
        ..KEPT
    },
    Row {
        name: "tls-both",
        about: "TLS 1.3 with both cookies",
        protocol: Protocol::Tls,
        cookies: Cookies::Twin,
        must: Must::Nothing,
        ..KEPT
    },
    Row {
        name: "http2",
        about: "HTTP/2, 10 streams",
        protocol: Protocol::Http2,
        must: Must::OfBase(0.8),
        ..KEPT
    },
];

const RATIOS: &str = "ratios.txt";
/// Factor by which a ratio to nginx may grow.
const ROOM: f64 = 1.05;
/// Requests before the first that counts.
const WARM_UP: usize = 1_000;
/// Requests of a count, and counts of a row.
const COUNT: usize = 600;
const COUNTS: usize = 5;
/// Instructions of one block of SHA-256 in software, which is all that valgrind knows, and with SHA
/// instructions: an estimate from their sequence, because they cannot be counted here.
const SHA_BLOCK_IN_SOFTWARE: f64 = 3_367.0;
const SHA_BLOCK_BY_SHA_NI: f64 = 150.0;

/// Instructions per request.
#[derive(Clone, Copy)]
struct Measured {
    counted: f64,
    /// Those in SHA-256's compression function.
    sha: f64,
    /// Distance from the lowest count to the median, as a share of the chosen one.
    spread: f64,
}

impl Measured {
    /// Instructions with SHA-256 counted as with SHA instructions. SHA-256 is the largest part of a
    /// new connection; kept ones seal once a second, so on a busy machine more of it falls to one
    /// request.
    fn cost(self) -> f64 {
        self.counted - self.sha * (1.0 - SHA_BLOCK_BY_SHA_NI / SHA_BLOCK_IN_SOFTWARE)
    }
}

pub(crate) fn are_named(options: &Options) -> bool {
    ROWS.iter().any(|row| options.names(row.name))
}

/// Returns false if a ratio grew too much, or if a required rival is missing.
pub(crate) fn compare(options: &Options) -> Result<bool, Box<dyn Error>> {
    let mut kept = Kept::read(RATIOS)?;
    let mut held = true;
    let mut rows = ROWS.iter().filter(|row| options.names(row.name)).peekable();
    if rows.peek().is_some() {
        println!(
            "\nuser instructions a sticky request\n{:26} {:>9} {:>9} {:>9} {:>8} {:>7} {:>7}  must",
            "", "nginx", "haproxy", "stayput", "/ nginx", "before", "spread"
        );
    }
    for row in rows {
        let [nginx, haproxy, stayput] = Balancer::ALL.map(|balancer| measure(row, balancer));
        let (nginx, haproxy, stayput) = (nginx?, haproxy?, stayput?);
        let Some(stayput) = stayput else { continue };
        let base = format!("{}-base", row.name);
        if options.update {
            if let Some(nginx) = nginx {
                let ratio = stayput.cost() / nginx.cost();
                kept.set(row.name, &format!("{ratio:.3}"));
            }
            if matches!(row.must, Must::OfBase(_)) && kept.get(&base)?.is_none() {
                kept.set(&base, &format!("{:.0}", stayput.cost()));
            }
        }
        let ratio = nginx.map(|nginx| stayput.cost() / nginx.cost());
        let (before, base) = (kept.get(row.name)?, kept.get(&base)?);
        let absent = |name: &str| format!("no {name}");
        let figure = |measured: Option<Measured>, name| match (measured, &row.must) {
            (Some(measured), _) => format!("{:.0}", measured.cost()),
            (None, Must::Nothing) => "-".to_owned(),
            (None, _) => absent(name),
        };
        let share =
            |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
        let spread = [nginx, haproxy, Some(stayput)].into_iter().flatten();
        let spread = spread.map(|measured| measured.spread).fold(0.0, f64::max);
        println!(
            "{:26} {:>9} {:>9} {:>9.0} {:>8} {:>7} {:>5.1} %  {}",
            row.about,
            figure(nginx, "nginx"),
            figure(haproxy, "haproxy"),
            stayput.cost(),
            share(ratio),
            share(before.filter(|_| !matches!(row.must, Must::Nothing))),
            100.0 * spread,
            verdict(row, stayput, ratio, base),
        );
        if row.reuse == Reuse::Fresh {
            println!(
                "{:26} {:>9} {:>9} {:>9.0}           as counted, with SHA-256 in software; above {} \
                 a block of {}",
                "", "", "", stayput.counted, SHA_BLOCK_BY_SHA_NI, SHA_BLOCK_IN_SOFTWARE
            );
        }
        if matches!(row.must, Must::Nothing) {
            continue;
        }
        if must_be_installed() && (nginx.is_none() || haproxy.is_none()) {
            println!("{}: STAYPUT_TEST_CLIENTS is set, and a rival is not installed", row.name);
            held = false;
        }
        if let Some(ratio) = ratio {
            let before = before.ok_or_else(|| format!("{RATIOS} lacks {}", row.name))?;
            if ratio > before * ROOM {
                println!("{}: {ratio:.3} is more than {ROOM} x {before:.3}", row.name);
                held = false;
            }
        }
    }
    if options.update {
        kept.write()?;
    }
    Ok(held)
}

fn verdict(row: &Row, stayput: Measured, ratio: Option<f64>, base: Option<f64>) -> String {
    let word = |is_met| if is_met { "met" } else { "NOT met" };
    match row.must {
        Must::OfNginx(must) => match ratio {
            Some(ratio) => format!("<= {must} of nginx, {}", word(ratio <= must)),
            None => format!("<= {must} of nginx"),
        },
        Must::OfBase(must) => match base {
            Some(base) => {
                let most = must * base;
                format!("<= {most:.0} ({must} x {base:.0}), {}", word(stayput.cost() <= most))
            }
            None => format!("<= {must} of a base that is not kept yet"),
        },
        Must::Nothing => "-".to_owned(),
    }
}

/// Leaves a dump of each named row and prints its profile. Returns false if no row has such a name.
pub(crate) fn profile(options: &Options) -> Result<bool, Box<dyn Error>> {
    // This program is in <target>/<profile>/deps/.
    let program = std::env::current_exe()?;
    let folder = program.ancestors().nth(3).unwrap_or(Path::new("target")).join("bench");
    fs::create_dir_all(&folder)?;
    let mut found = false;
    for row in ROWS.iter().filter(|row| options.names(row.name)) {
        found = true;
        let room = tempfile::tempdir()?;
        let Some(dumps) = run(row, Balancer::Stayput, room.path(), 1)? else { continue };
        let file = folder.join(format!("callgrind.{}.out", row.name));
        fs::copy(&dumps[0], &file)?;
        println!("\n{}: {COUNT} requests, in {}", row.name, file.display());
        Profile::read(&file)?.print(COUNT);
    }
    Ok(found)
}

/// Measures a row; `None` if the balancer is not installed or does not take part in it.
fn measure(row: &Row, balancer: Balancer) -> Result<Option<Measured>, Box<dyn Error>> {
    if matches!(row.must, Must::Nothing) && balancer != Balancer::Stayput {
        return Ok(None);
    }
    let room = tempfile::tempdir()?;
    let dumps = run(row, balancer, room.path(), COUNTS);
    let dumps = dumps.map_err(|error| format!("{}, {}: {error}", row.name, balancer.name()))?;
    let Some(dumps) = dumps else { return Ok(None) };
    let mut counts = Vec::new();
    for dump in dumps {
        let sha = Profile::read(&dump)?.own(|function| function.contains("sha2::sha256"));
        let each = |count: f64| count / COUNT as f64;
        let (counted, sha) = (each(callgrind::total(&dump)?), each(sha as f64));
        counts.push(Measured { counted, sha, spread: 0.0 });
    }
    counts.sort_unstable_by(|one, other| one.cost().total_cmp(&other.cost()));
    let (lowest, median) = (counts[0], counts[COUNTS / 2]);
    // Work that depends on elapsed time (a tick, a cookie dated anew, a log that is flushed) adds
    // to a count on a busy machine. The number of streams per read varies both ways.
    let taken = if row.protocol == Protocol::Http2 { median } else { lowest };
    let spread = (median.cost() - lowest.cost()) / taken.cost();
    Ok(Some(Measured { spread, ..taken }))
}

/// Takes several dumps of `COUNT` requests each, in `room`.
fn run(
    row: &Row,
    balancer: Balancer,
    room: &Path,
    dumps: usize,
) -> Result<Option<Vec<PathBuf>>, Box<dyn Error>> {
    let Some(program) = balancer.program() else { return Ok(None) };
    let targets = origin::start()?;
    let address = callgrind::free_address()?;
    let certificate = Certificate::make(room)?;
    let place = Place { row, address, targets, room, certificate: &certificate };
    let counts = room.join("counts");
    let mut command = callgrind::command(&counts);
    balancer.add_to(&mut command, &program, &place)?;
    let mut running = Running::start(&mut command, &counts, address)?;
    let mut visits = Visits::new(row, address, &certificate)?;
    visits.ask(WARM_UP)?;
    running.zero()?;
    let mut files = Vec::new();
    for _ in 0..dumps {
        visits.ask(COUNT)?;
        // HAProxy sets no new cookie while the client's is only seconds old.
        if balancer != Balancer::Haproxy && !visits.have_fresh_cookies() {
            return Err("an answer set no cookie".into());
        }
        files.push(running.dump()?);
    }
    let logged = fs::metadata(room.join("access.log")).map_or(0, |file| file.len());
    if row.log && logged == 0 {
        return Err("the access log is empty".into());
    }
    Ok(Some(files))
}
