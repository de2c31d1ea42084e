//! Memory of an idle client connection: many are opened, each sends one request, and all are then
//! silent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::balancers::{Entrant, Lineup};
use crate::client::Client;
use crate::measure::median;
use crate::options::Options;
use crate::scenario::{Length, SCENARIOS, SILENCES, Silence, Variant};

/// One balancer's figure.
pub(crate) struct Idle {
    pub(crate) name: &'static str,
    pub(crate) silence: &'static Silence,
    pub(crate) connections: usize,
    /// Total KiB before the first connection, and KiB for each: medians.
    pub(crate) base_kib: f64,
    pub(crate) kib_each: f64,
    /// Each round's `kib_each`.
    pub(crate) runs: Vec<f64>,
}

/// Time of silence before memory is read. nginx and HAProxy keep the connections for a minute.
const SILENCE: Duration = Duration::from_secs(2);
/// Maximum number of connections in a quick run; a handshake takes a millisecond.
const QUICK: usize = 5_000;
const QUICK_OVER_TLS: usize = 1_000;
/// Connections from one source address: Linux has 28,000 ephemeral ports.
const FROM_ONE_ADDRESS: usize = 10_000;

/// `anew` starts all balancers in a new folder: memory that a balancer's allocator kept from the
/// previous round would make the next one cheaper. They take turns, round by round.
pub(crate) fn run(
    options: &Options,
    room: &Path,
    anew: impl Fn(&Path, Variant) -> io::Result<Lineup>,
) -> io::Result<Vec<Idle>> {
    let rounds = Length::of(options).runs;
    let mut figures = Vec::new();
    let mut measurements = 0;
    for silence in SILENCES.iter().filter(|silence| options.runs(silence.name)) {
        let connections = match silence.variant.is_tls() {
            true if options.quick => silence.connections.min(QUICK_OVER_TLS),
            false if options.quick && silence.connections > QUICK => continue,
            _ => silence.connections,
        };
        let mut rows: Vec<(&str, Vec<[f64; 2]>)> = Vec::new();
        for round in 1..=rounds {
            let lineup = anew(&room.join(format!("{}-{round}", silence.name)), silence.variant)?;
            for entrant in lineup.entrants.iter().filter(|entrant| entrant.is_balancer()) {
                eprint!("\r\x1b[K{}: run {round} of {rounds}, {}", silence.name, entrant.name);
                measurements += 1;
                let kib = measure(entrant, silence.variant, connections, measurements);
                let kib = kib.map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", entrant.name))
                })?;
                match rows.iter_mut().find(|(name, _)| *name == entrant.name) {
                    Some((_, runs)) => runs.push(kib),
                    None => rows.push((entrant.name, vec![kib])),
                }
            }
        }
        eprint!("\r\x1b[K");
        figures.extend(rows.into_iter().map(|(name, runs)| {
            let each = |[before, after]: &[f64; 2]| (after - before).max(0.0) / connections as f64;
            let each: Vec<f64> = runs.iter().map(each).collect();
            Idle {
                name,
                silence,
                connections,
                base_kib: median(runs.iter().map(|[before, _]| *before).collect()),
                kib_each: median(each.clone()),
                runs: each,
            }
        }));
    }
    Ok(figures)
}

impl Idle {
    /// Lowest and highest of all rounds.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let runs = self.runs.iter();
        runs.fold((f64::INFINITY, 0.0), |(low, high), &each| (low.min(each), high.max(each)))
    }
}

/// KiB before the first connection, and with all of them. `round` is a number that no other
/// measurement has.
fn measure(
    entrant: &Entrant,
    variant: Variant,
    connections: usize,
    round: u8,
) -> io::Result<[f64; 2]> {
    let before = entrant.memory_kib().unwrap_or(0);
    let after = match variant.is_tls() {
        true => over_tls(entrant, variant, connections, round)?,
        false => plain(entrant, connections, round)?,
    };
    Ok([before as f64, after as f64])
}

/// Memory with this many connections, silent after a response over TLS.
fn over_tls(entrant: &Entrant, variant: Variant, count: usize, round: u8) -> io::Result<u64> {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.variant == variant);
    let scenario = scenario.ok_or(ErrorKind::NotFound)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let (mut kept, mut streams) = (Vec::new(), Vec::new());
        for (at, visitor) in (0..count).zip(entrant.visitors.iter().cycle()) {
            let source = Some(source([round, (at / FROM_ONE_ADDRESS) as u8]));
            let client = Client::new(entrant.address, scenario, visitor)?;
            if variant == Variant::Http2 {
                let (connection, _) = client.open_streams(source).await?;
                client.ask_by_stream(connection.requests.clone()).await?;
                streams.push(connection);
            } else {
                let (mut connection, _) = client.open(source).await?;
                client.ask(&mut connection).await?;
                kept.push(connection);
            }
        }
        // Later frames on a connection, such as SETTINGS acknowledgements, are exchanged meanwhile.
        tokio::time::sleep(SILENCE).await;
        Ok(entrant.memory_kib().unwrap_or(0))
    })
}

/// Memory with this many connections without TLS.
fn plain(entrant: &Entrant, count: usize, round: u8) -> io::Result<u64> {
    let request = format!("GET /100 HTTP/1.1\r\nHost: {}\r\n\r\n", entrant.address);
    let mut open = Vec::with_capacity(count);
    for at in 0..count {
        let mut stream = connect(entrant.address, [round, (at / FROM_ONE_ADDRESS) as u8])?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = [0; 4096];
        if stream.read(&mut answer)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        open.push(stream);
    }
    sleep(SILENCE);
    Ok(entrant.memory_kib().unwrap_or(0))
}

/// Ports of closed connections stay in use for a minute, so each round has its own addresses.
fn source([round, part]: [u8; 2]) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, round, 1 + part)
}

fn connect(to: SocketAddr, at: [u8; 2]) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source(at), 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}
