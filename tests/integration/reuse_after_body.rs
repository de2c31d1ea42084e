//! A target that ignores bodies responds to a request before it has read its body, and later parses
//! the body as another request. The response to that must reach no other client.

use crate::support::{Visitor, World};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Number of tries, half of them with each length of body.
const TRIES: usize = 3_600;
/// Concurrent attackers, each with a victim that sends right after it.
const PAIRS: usize = 4;
/// Thirty bytes.
const SHORT: &str = "GET /evil HTTP/1.1\r\nHost:a\r\n\r\n";
/// The pool holds a connection back until it was quiet for 50 ms. A target that was not scheduled
/// for longer between two responses proves nothing about that.
const PROMPT: Duration = Duration::from_millis(25);

/// One request in a body of 1 MiB.
fn long() -> String {
    let start = "GET /evil HTTP/1.1\r\nHost: a\r\nX: ";
    format!("{start}{}\r\n\r\n", "a".repeat((1 << 20) - start.len() - 4))
}

/// Responds to each head at once, with its path; it never treats bytes as a body. A body is
/// answered after the number of microseconds in the path of its request.
struct Careless {
    address: SocketAddr,
    /// Number of bodies that were parsed as requests.
    bodies: Arc<AtomicUsize>,
    /// Connections on which one was answered too late to count.
    late: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Careless {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Self {
            address: listener.local_addr().unwrap(),
            bodies: Arc::default(),
            late: Arc::default(),
        };
        let (bodies, late) = (target.bodies.clone(), target.late.clone());
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (bodies, late) = (bodies.clone(), late.clone());
                std::thread::spawn(move || serve(stream, &bodies, &late));
            }
        });
        target
    }
}

fn serve(mut stream: TcpStream, bodies: &AtomicUsize, late: &Mutex<Vec<SocketAddr>>) {
    stream.set_nodelay(true).unwrap();
    let peer = stream.peer_addr().unwrap();
    let mut unread = Vec::new();
    let mut scratch = vec![0; 65_536];
    let mut delay = Duration::ZERO;
    let mut answered = Instant::now();
    loop {
        // Only new bytes are searched: a head of a mebibyte comes in many pieces.
        let mut searched: usize = 0;
        let end = loop {
            let from = searched.saturating_sub(3);
            if let Some(at) = memchr::memmem::find(&unread[from..], b"\r\n\r\n") {
                break from + at + 4;
            }
            searched = unread.len();
            match stream.read(&mut scratch) {
                Ok(0) | Err(_) => return,
                Ok(count) => unread.extend_from_slice(&scratch[..count]),
            }
        };
        let head: Vec<u8> = unread.drain(..end).collect();
        let line = String::from_utf8_lossy(&head[..head.len().min(80)]).into_owned();
        let path = line.split(' ').nth(1).unwrap_or("-").to_owned();
        if path == "/evil" {
            std::thread::sleep(delay);
            bodies.fetch_add(1, Ordering::SeqCst);
            // A long body may be wholly in the sockets on the way before its response begins.
            if answered.elapsed() > PROMPT {
                late.lock().unwrap().push(peer);
            }
        }
        let micros = path.strip_prefix("/attack/").and_then(|rest| rest.parse().ok());
        delay = Duration::from_micros(micros.unwrap_or(0));
        let text = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Connection: {peer}\r\n\r\n{path}",
            path.len()
        );
        answered = Instant::now();
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// One attack, and the response to the victim right after it: its body, and its connection.
fn attack(
    balancer: SocketAddr,
    number: usize,
    long: &str,
    victim: &mut Visitor,
) -> (String, String) {
    let body = if number.is_multiple_of(2) { SHORT } else { long };
    // Delay until the target parses the body as a request: none, or up to two milliseconds.
    let micros = [0, 0, 200, 2_000][number / 4 % 4];
    let head = format!(
        "POST /attack/{micros} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut attacker = TcpStream::connect(balancer).unwrap();
    attacker.set_nodelay(true).unwrap();
    attacker.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // Sends all at once, or the body after the response has come.
    let is_at_once = (number / 2).is_multiple_of(2);
    let first = if is_at_once { format!("{head}{body}") } else { head };
    let sender = (body.len() > 1_000).then(|| {
        // This may be more than the sockets hold, so it is sent while the response is read.
        let mut stream = attacker.try_clone().unwrap();
        let (first, rest) = (first.clone(), if is_at_once { "" } else { body }.to_owned());
        std::thread::spawn(move || {
            let _ = stream.write_all(first.as_bytes());
            let _ = stream.write_all(rest.as_bytes());
        })
    });
    if sender.is_none() {
        attacker.write_all(first.as_bytes()).unwrap();
    }
    let mut got = Vec::new();
    let mut scratch = [0; 1_024];
    while !got.windows(12).any(|window| window.starts_with(b"\r\n\r\n/attack/")) {
        match attacker.read(&mut scratch) {
            Ok(0) | Err(_) => break,
            Ok(count) => got.extend_from_slice(&scratch[..count]),
        }
    }
    if sender.is_none() && !is_at_once {
        let _ = attacker.write_all(body.as_bytes());
    }
    let answer = victim.get(&format!("/victim/{number}"));
    let connection = answer.field("x-connection").unwrap_or("-").to_owned();
    drop(attacker);
    if let Some(sender) = sender {
        sender.join().unwrap();
    }
    (answer.body, connection)
}

#[test]
fn a_response_to_a_smuggled_body_reaches_no_other_client() {
    let target = Careless::start();
    let world = World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n[log]\naccess = {{ to = \"off\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n\
         [target_group.app]\ntargets = [\"{}\"]\nstickiness = {{ enabled = false }}\n",
        target.address
    ));
    let long = long();
    assert_eq!((SHORT.len(), long.len()), (30, 1 << 20));
    let next = AtomicUsize::new(0);
    let hit = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..PAIRS {
            scope.spawn(|| {
                let mut victim = Visitor::of(world.address());
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= TRIES {
                        return;
                    }
                    let (body, connection) = attack(world.address(), number, &long, &mut victim);
                    if body != format!("/victim/{number}") {
                        hit.lock().unwrap().push((number, body, connection));
                        // Each further response on this connection belongs to the request before.
                        victim = Visitor::of(world.address());
                    }
                }
            });
        }
    });
    let bodies = target.bodies.load(Ordering::SeqCst);
    assert!(bodies > TRIES / 4, "only {bodies} bodies were taken for requests");
    let late = target.late.lock().unwrap().clone();
    let hit = hit.into_inner().unwrap();
    let count = hit.len();
    let hit: Vec<_> = hit
        .into_iter()
        .filter(|(_, _, connection)| !late.iter().any(|peer| peer.to_string() == *connection))
        .collect();
    assert!(
        hit.is_empty(),
        "{} of {TRIES} victims ({count} with late answers, {bodies} bodies taken): {:?}",
        hit.len(),
        &hit[..hit.len().min(10)]
    );
}
