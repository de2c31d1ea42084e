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

use ::stayput::testing::base::clock::Moment;

use crate::certificate::Certificate;
use crate::cores::Cores;
use crate::options::Options;
use crate::origin::Origin;
use crate::process::{Process, Reading, free_address};
use crate::scenario::{CONNECTIONS, Protocol, Scenario, Variant};
use crate::tls;
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
    /// Its version and configuration.
    settings: String,
    /// None for the origin, whose row only shows what load and origin can do.
    process: Option<Process>,
    log: PathBuf,
    variant: Variant,
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
    replicas: &'a [SocketAddr],
    variant: Variant,
    room: &'a Path,
    /// What clients are shown over TLS.
    certificate: &'a Certificate,
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

/// Who is asked to take part: a name, that of its tuned variant, and how to start it.
const BALANCERS: [(&str, Option<&str>, Cook); 3] = [
    ("nginx", Some("nginx-tuned"), nginx::recipe),
    ("haproxy", Some("haproxy-tuned"), haproxy::recipe),
    (STAYPUT, None, stayput::recipe),
];

impl Lineup {
    pub(crate) fn start(
        options: &Options,
        cores: &Cores,
        origin: &Origin,
        room: &Path,
        variants: &[Variant],
    ) -> io::Result<Self> {
        let now = Moment::now().monotonic;
        let mut lineup = Self { entrants: Vec::new(), absent: Vec::new(), cookies_given: now };
        let certificate = Certificate::make(room)?;
        if options.wants(DIRECT) {
            lineup.entrants.push(Entrant::direct(origin));
        }
        for (&variant, (name, tuned, cook)) in
            variants.iter().flat_map(|variant| BALANCERS.map(|balancer| (variant, balancer)))
        {
            let name = if variant == Variant::Tuned { tuned } else { Some(name) };
            let Some(name) = name.filter(|name| options.wants(name)) else { continue };
            let room = room.join(format!("{name}-{variant:?}"));
            fs::create_dir(&room)?;
            let replicas = &origin.replicas[..variant.targets()];
            let address = free_address()?;
            let place =
                Place { address, replicas, variant, room: &room, certificate: &certificate };
            match Entrant::start(name, cook, cores, &place) {
                Ok(Some(entrant)) => lineup.entrants.push(entrant),
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
            visitors: vec![Visitor { cookie: None, replica: 1 }],
            settings: String::new(),
            process: None,
            log: PathBuf::new(),
            variant: Variant::Common,
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
        let variant = place.variant;
        let process = Process::start(command, cores, variant.workers(), place.address, &said)?;
        let host = variant.host();
        let tls = variant.is_tls().then(tls::arrivals);
        let arrive = |_| Visitor::arrive(place.address, host.as_deref(), tls.as_ref());
        let arrivals = (0..CONNECTIONS).map(arrive);
        let visitors = arrivals.collect::<io::Result<Vec<_>>>()?;
        let address = place.address;
        let process = Some(process);
        let log = place.room.join(log);
        Ok(Some(Self { name, address, visitors, settings, process, log, variant }))
    }

    /// The origin speaks no TLS.
    pub(crate) fn takes_part_in(&self, scenario: &Scenario) -> bool {
        match self.is_balancer() {
            true => scenario.takes(self.variant),
            false => scenario.protocol == Protocol::Http1,
        }
    }

    /// Whether it is a balancer that was set up so.
    pub(crate) fn is_set_up_as(&self, variant: Variant) -> bool {
        self.is_balancer() && self.variant == variant
    }

    /// Its settings, unless they are too long to be read: of a thousand targets or rules.
    pub(crate) fn settings(&self) -> &str {
        const MAX_LEN: usize = 8_000;
        let cut = self.settings.floor_char_boundary(MAX_LEN);
        &self.settings[..cut]
    }

    /// Whether it is set up as most are, or the origin.
    pub(crate) fn is_common(&self) -> bool {
        self.variant == Variant::Common
    }

    /// How it was set up.
    pub(crate) fn title(&self) -> String {
        match self.variant {
            Variant::Common | Variant::Tuned => self.name.to_owned(),
            other => format!("{} for {other:?}", self.name),
        }
    }

    pub(crate) fn is_balancer(&self) -> bool {
        self.process.is_some()
    }

    /// Its processes; none of the origin.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.process.as_ref().map(Process::all).unwrap_or_default()
    }

    /// None of the origin.
    pub(crate) fn memory_kib(&self) -> Option<u64> {
        self.process.as_ref().map(Process::memory_kib)
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
