//! Everyone in the comparison, started side by side and given the same work.

mod haproxy;
mod nginx;
mod stayput;

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ::stayput::ground::clock::Moment;

use crate::cores::Cores;
use crate::options::Options;
use crate::origin::{Origin, REPLICAS};
use crate::process::{Process, Reading, free_address};
use crate::scenario::CONNECTIONS;
use crate::visitor::Visitor;

/// Who takes part, and who does not and why.
pub(crate) struct Lineup {
    pub(crate) entrants: Vec<Entrant>,
    pub(crate) absent: Vec<Absent>,
    /// When the last visitor was given a cookie.
    pub(crate) cookies_given: Instant,
}

/// One row: a balancer that runs, or the origin itself.
pub(crate) struct Entrant {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) visitors: Vec<Visitor>,
    /// Its version and configuration, as the report prints them.
    pub(crate) settings: String,
    /// None for the origin, whose row only shows what load and origin can do.
    process: Option<Process>,
    log: PathBuf,
    only_in: Option<&'static str>,
}

/// A row that is missing.
pub(crate) struct Absent {
    pub(crate) name: &'static str,
    pub(crate) why: String,
    /// Missing because it is broken, not because it is not installed.
    pub(crate) failed: bool,
}

/// Where a balancer is to listen, forward and keep its files.
struct Place<'a> {
    address: SocketAddr,
    replicas: [SocketAddr; REPLICAS],
    room: &'a Path,
}

/// How to start a balancer in its place, and what to print of it.
struct Recipe {
    command: Command,
    /// The access log's file in the balancer's room.
    log: &'static str,
    settings: String,
}

/// Takes a balancer's standard output and standard error.
const SAID: &str = "said.txt";

/// The row that goes past every balancer.
pub(crate) const DIRECT: &str = "direct";
/// The row that the others are there for.
pub(crate) const STAYPUT: &str = "stayput";

/// Makes a recipe; None when the program is not installed.
type Cook = fn(&Place<'_>) -> io::Result<Option<Recipe>>;

/// Who is asked to take part: a name, how to start it, and the one scenario it is for, if not all.
const BALANCERS: [(&str, Cook, Option<&str>); 5] = [
    ("nginx", nginx::recipe, None),
    ("haproxy", haproxy::recipe, None),
    (STAYPUT, stayput::recipe, None),
    ("nginx-tuned", nginx::recipe_for_large_bodies, Some("large-body")),
    ("haproxy-tuned", haproxy::recipe_for_large_bodies, Some("large-body")),
];

impl Lineup {
    pub(crate) fn start(
        options: &Options,
        cores: &Cores,
        origin: &Origin,
        room: &Path,
    ) -> io::Result<Self> {
        let now = Moment::now().monotonic;
        let mut lineup = Self { entrants: Vec::new(), absent: Vec::new(), cookies_given: now };
        if options.wants(DIRECT) {
            lineup.entrants.push(Entrant::direct(origin));
        }
        for (name, cook, only_in) in BALANCERS {
            if !options.wants(name) || only_in.is_some_and(|scenario| !options.runs(scenario)) {
                continue;
            }
            let room = room.join(name);
            fs::create_dir(&room)?;
            let place = Place { address: free_address()?, replicas: origin.replicas, room: &room };
            match Entrant::start(name, cook, cores, &place) {
                Ok(Some(entrant)) => lineup.entrants.push(Entrant { only_in, ..entrant }),
                Ok(None) => lineup.absent.push(Absent {
                    name,
                    why: "not installed".to_owned(),
                    failed: false,
                }),
                Err(error) => {
                    lineup.absent.push(Absent { name, why: error.to_string(), failed: true });
                }
            }
        }
        lineup.cookies_given = Moment::now().monotonic;
        Ok(lineup)
    }

    pub(crate) fn all_started(&self) -> bool {
        self.absent.iter().all(|absent| !absent.failed)
    }
}

impl Entrant {
    fn direct(origin: &Origin) -> Self {
        Self {
            name: DIRECT,
            address: origin.replicas[0],
            visitors: vec![Visitor { cookie: None, replica: b'1' }],
            settings: String::new(),
            process: None,
            log: PathBuf::new(),
            only_in: None,
        }
    }

    fn start(
        name: &'static str,
        cook: Cook,
        cores: &Cores,
        place: &Place<'_>,
    ) -> io::Result<Option<Self>> {
        let Some(Recipe { command, log, settings }) = cook(place)? else { return Ok(None) };
        let said = place.room.join(SAID);
        let process = Process::start(command, cores, place.address, &said)?;
        let arrivals = (0..CONNECTIONS).map(|_| Visitor::arrive(place.address));
        let visitors = arrivals.collect::<io::Result<Vec<_>>>()?;
        let address = place.address;
        let process = Some(process);
        let log = place.room.join(log);
        Ok(Some(Self { name, address, visitors, settings, process, log, only_in: None }))
    }

    pub(crate) fn takes_part_in(&self, scenario: &str) -> bool {
        self.only_in.is_none_or(|only| only == scenario)
    }

    pub(crate) fn is_balancer(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn reading(&self) -> Reading {
        Reading {
            cpu: self.process.as_ref().map(Process::cpu_time).unwrap_or_default(),
            logged: fs::metadata(&self.log).map(|log| log.len()).unwrap_or_default(),
        }
    }

    /// A minute at full speed logs a gigabyte; what was measured need not be kept.
    pub(crate) fn empty_log(&self) -> io::Result<()> {
        match File::options().write(true).open(&self.log) {
            Ok(log) => log.set_len(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The first line a program says when asked for its version.
fn version(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return String::new() };
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
}
