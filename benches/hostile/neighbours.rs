//! Latency of other clients while a hundred connections attack: 32 clients that each send a request
//! and pause, before and during each attack.

use crate::attack::{ATTACKS, CONNECTIONS};
use crate::balancer::Balancer;
use crate::origin;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CLIENTS: usize = 32;
/// Pause between a client's response and its next request.
const PAUSE: Duration = Duration::from_millis(15);
const MEASURED: Duration = Duration::from_secs(3);
/// Time until an attack has its full effect.
const WARM_UP: Duration = Duration::from_millis(500);

/// Prints one line for each attack.
pub fn run(wanted: &str) {
    let origin = origin::run();
    println!(
        "\nwhat {CLIENTS} others wait while {CONNECTIONS} connections attack one worker, in \
         microseconds\n{:<40} {:>9} {:>9} {:>6} {:>9} {:>9} {:>7} {:>7}",
        "attack", "base p99", "p99", "ratio", "p50", "direct", "asked", "core"
    );
    for attack in ATTACKS.iter().filter(|attack| attack.name.contains(wanted)) {
        let balancer = Balancer::run(&origin, origin.address);
        // The first requests fill caches and pools.
        waits(balancer.address, WARM_UP);
        let base = waits(balancer.address, MEASURED);
        // The attacker runs as fast as it can, so it must not take the core of the measuring
        // clients.
        let mut attacker = Command::new("nice");
        attacker.args(["-n", "19"]).arg(std::env::current_exe().unwrap());
        attacker.args(["--attack", attack.name, &balancer.address.to_string()]);
        let mut attacker = attacker.stdin(Stdio::null()).spawn().unwrap();
        std::thread::sleep(WARM_UP);
        let (before, began) = (balancer.processor(), Instant::now());
        let attacked = waits(balancer.address, MEASURED);
        let core = (balancer.processor() - before) / began.elapsed().as_secs_f64();
        let direct = waits(origin.address, MEASURED / 3);
        let _ = attacker.kill();
        let _ = attacker.wait();
        println!(
            "{:<40} {:>9} {:>9} {:>6.1} {:>9} {:>9} {:>7} {:>6.0}%",
            attack.name,
            at(&base, 99),
            at(&attacked, 99),
            at(&attacked, 99) as f64 / at(&base, 99) as f64,
            at(&attacked, 50),
            at(&direct, 99),
            attacked.len(),
            core * 100.0,
        );
    }
}

fn at(sorted: &[u128], percent: usize) -> u128 {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

/// Microseconds from the first byte of each request to the last of its response, sorted.
fn waits(address: SocketAddr, time: Duration) -> Vec<u128> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let end = Instant::now() + time;
    let mut all = local.block_on(&runtime, async {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| tokio::task::spawn_local(client(address, end))).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.await.unwrap());
        }
        all
    });
    all.sort_unstable();
    all
}

async fn client(address: SocketAddr, end: Instant) -> Vec<u128> {
    let mut waits = Vec::new();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::with_capacity(1_024);
    while Instant::now() < end {
        let begun = Instant::now();
        stream.write_all(b"GET /well HTTP/1.1\r\nHost: shop.example\r\n\r\n").await.unwrap();
        buffer.clear();
        while !buffer.ends_with(b"\r\n\r\nwell") {
            assert!(stream.read_buf(&mut buffer).await.unwrap() > 0, "an answer was cut");
        }
        waits.push(begun.elapsed().as_micros());
        tokio::time::sleep(PAUSE).await;
    }
    waits
}
