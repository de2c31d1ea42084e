//! All balancers of the comparison, started side by side and given the same work.

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

/// The entrants, and the absent ones with the reason.
pub(crate) struct Lineup {
    pub(crate) entrants: Vec<Entrant>,
    pub(crate) absent: Vec<Absent>,
    /// The time at which the last visitor got a cookie.
    pub(crate) cookies_given: Instant,
}

/// One row: a running balancer, or the origin itself.
pub(crate) struct Entrant {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) visitors: Vec<Visitor>,
    /// Version and configuration.
    settings: String,
    /// None for the origin, whose row only shows the limits of load generator and origin.
    process: Option<Process>,
    log: PathBuf,
    variant: Variant,
}

/// A missing row.
pub(crate) struct Absent {
    pub(crate) name: &'static str,
    pub(crate) why: String,
    /// True if it is broken, false if it is not installed.
    pub(crate) failed: bool,
}

/// The addresses and files of a balancer.
struct Place<'a> {
    address: SocketAddr,
    replicas: &'a [SocketAddr],
    variant: Variant,
    room: &'a Path,
    /// The certificate for TLS with clients.
    certificate: &'a Certificate,
}

/// The command that starts a balancer, and the text to print about it.
struct Recipe {
    command: Command,
    /// The access log's file in the balancer's folder.
    log: &'static str,
    settings: String,
}

/// File for a balancer's standard output and standard error.
const SAID: &str = "said.txt";

/// The row without a balancer.
pub(crate) const DIRECT: &str = "direct";
/// The row that the others are compared with.
pub(crate) const STAYPUT: &str = "stayput";

/// Makes a recipe; `None` if the program is not installed.
type Cook = fn(&Place<'_>) -> io::Result<Option<Recipe>>;

/// The balancers: a name, that of the tuned variant, and the function that starts it.
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

    /// True unless the scenario needs TLS, which the origin does not support.
    pub(crate) fn takes_part_in(&self, scenario: &Scenario) -> bool {
        match self.is_balancer() {
            true => scenario.takes(self.variant),
            false => scenario.protocol == Protocol::Http1,
        }
    }

    /// True if it is a balancer in this variant.
    pub(crate) fn is_set_up_as(&self, variant: Variant) -> bool {
        self.is_balancer() && self.variant == variant
    }

    /// Its settings, unless they are too long to read: those of a thousand targets or rules.
    pub(crate) fn settings(&self) -> &str {
        const MAX_LEN: usize = 8_000;
        let cut = self.settings.floor_char_boundary(MAX_LEN);
        &self.settings[..cut]
    }

    /// True for the common variant and the origin.
    pub(crate) fn is_common(&self) -> bool {
        self.variant == Variant::Common
    }

    /// The heading of its settings.
    pub(crate) fn title(&self) -> String {
        match self.variant {
            Variant::Common | Variant::Tuned => self.name.to_owned(),
            other => format!("{} for {other:?}", self.name),
        }
    }

    pub(crate) fn is_balancer(&self) -> bool {
        self.process.is_some()
    }

    /// Its processes; none for the origin.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.process.as_ref().map(Process::all).unwrap_or_default()
    }

    /// Memory; `None` for the origin.
    pub(crate) fn memory_kib(&self) -> Option<u64> {
        self.process.as_ref().map(Process::memory_kib)
    }

    pub(crate) fn reading(&self) -> Reading {
        Reading {
            cpu: self.process.as_ref().map(Process::cpu_time).unwrap_or_default(),
            logged: fs::metadata(&self.log).map(|log| log.len()).unwrap_or_default(),
        }
    }

    /// Empties the log: a minute at full speed logs a gigabyte.
    pub(crate) fn empty_log(&self) -> io::Result<()> {
        match File::options().write(true).open(&self.log) {
            Ok(log) => log.set_len(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The first line that a program prints for its version option.
fn version(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return String::new() };
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
}
