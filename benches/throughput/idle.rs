//! What an idle client connection costs in memory: many are opened, each asks once, and all are
//! then silent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::balancers::{Entrant, Lineup};
use crate::options::Options;

/// One balancer's figure.
pub(crate) struct Idle {
    pub(crate) name: &'static str,
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
                figures.push(measure(entrant, count, before, figures.len() as u8)?);
            }
        }
    }
    Ok(figures)
}

/// `round` is a number no other measurement has.
fn measure(entrant: &Entrant, count: usize, before: u64, round: u8) -> io::Result<Idle> {
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
    let kib_each = after.saturating_sub(before) as f64 / count as f64;
    Ok(Idle { name: entrant.name, connections: count, base_kib: before, kib_each })
}

/// Ports of connections that were closed stay taken for a minute, so each round has addresses of its
/// own.
fn connect(to: SocketAddr, [round, part]: [u8; 2]) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let source = Ipv4Addr::new(127, 1, round, 1 + part);
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}
