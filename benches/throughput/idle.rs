//! What an idle client connection costs in memory: many are opened, each asks once, and all are
//! then silent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::balancers::{Entrant, Lineup};
use crate::client::Client;
use crate::options::Options;
use crate::scenario::{IDLE_OVER_TLS, SCENARIOS, Variant};

/// One balancer's figure.
pub(crate) struct Idle {
    pub(crate) name: &'static str,
    /// Of what was measured.
    pub(crate) scenario: String,
    pub(crate) connections: usize,
    /// Of memory in all before the first, and more for each.
    pub(crate) base_kib: u64,
    pub(crate) kib_each: f64,
}

const COUNTS: [usize; 2] = [5_000, 15_000];
/// How long all are silent before memory is read. nginx and HAProxy keep them for a minute.
const SILENCE: Duration = Duration::from_secs(2);
/// Connections from one source address: the ephemeral ports of Linux are 28,000.
const FROM_ONE_ADDRESS: usize = 10_000;

pub(crate) fn run(options: &Options, lineup: &Lineup) -> io::Result<Vec<Idle>> {
    let mut figures = Vec::new();
    let counts = &COUNTS[..if options.quick { 1 } else { COUNTS.len() }];
    for &count in counts.iter().filter(|count| options.runs(&format!("idle-{count}"))) {
        for entrant in lineup.entrants.iter().filter(|entrant| entrant.is_common()) {
            if let Some(before) = entrant.memory_kib() {
                let scenario = format!("idle-{count}");
                figures.push(measure(entrant, scenario, count, before, figures.len() as u8)?);
            }
        }
    }
    let count = if options.quick { 1_000 } else { COUNTS[0] };
    for (name, variant) in IDLE_OVER_TLS.into_iter().filter(|(name, _)| options.runs(name)) {
        for entrant in lineup.entrants.iter().filter(|entrant| entrant.is_set_up_as(variant)) {
            let before = entrant.memory_kib().unwrap_or(0);
            let round = figures.len() as u8;
            let after = over_tls(entrant, variant, count, round).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", entrant.name))
            })?;
            figures.push(Idle::of(entrant, name.to_owned(), count, [before, after]));
        }
    }
    Ok(figures)
}

/// Memory with so many connections, silent after an answer over TLS.
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
        // Whatever is still said on a connection, as to acknowledge settings, is said meanwhile.
        tokio::time::sleep(SILENCE).await;
        Ok(entrant.memory_kib().unwrap_or(0))
    })
}

impl Idle {
    fn of(entrant: &Entrant, scenario: String, connections: usize, kib: [u64; 2]) -> Self {
        let [base_kib, after] = kib;
        let kib_each = after.saturating_sub(base_kib) as f64 / connections as f64;
        Self { name: entrant.name, scenario, connections, base_kib, kib_each }
    }
}

/// `round` is a number no other measurement has.
fn measure(
    entrant: &Entrant,
    scenario: String,
    count: usize,
    before: u64,
    round: u8,
) -> io::Result<Idle> {
    let request = format!("GET /100 HTTP/1.1\r\nHost: {}\r\n\r\n", entrant.address);
    let mut open = Vec::with_capacity(count);
    for at in 0..count {
        let mut stream = connect(entrant.address, [round, (at / FROM_ONE_ADDRESS) as u8])?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = [0; 4096];
        if stream.read(&mut answer)? == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, entrant.name));
        }
        open.push(stream);
    }
    sleep(SILENCE);
    let after = entrant.memory_kib().unwrap_or(before);
    Ok(Idle::of(entrant, scenario, count, [before, after]))
}

/// Ports of connections that were closed stay taken for a minute, so each round has addresses of its
/// own.
fn source([round, part]: [u8; 2]) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, round, 1 + part)
}

fn connect(to: SocketAddr, at: [u8; 2]) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source(at), 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}
