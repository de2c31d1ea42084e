//! Heap budgets: none for a decision, for any client and any size of group, and a fixed number of
//! allocations for a whole exchange.

// Counting allocations needs an own allocator, and `GlobalAlloc` is an unsafe trait. It only counts
// and passes on, and exists in this test program alone.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use http::header::STRICT_TRANSPORT_SECURITY;
use http::{HeaderValue, Method};
use http_body_util::Empty;
use stayput::config;
use stayput::config::settings::{AccessFormat, LogTarget};
use stayput::testing::base::clock;
use stayput::testing::base::name::Name as ServedName;
use stayput::testing::base::random::Random;
use stayput::testing::decide::verdict::Verdict;
use stayput::testing::decide::{Outcome, Placement, Request, decide};
use stayput::testing::http1::fields::Fields;
use stayput::testing::http1::name::Name;
use stayput::testing::http1::response::Response;
use stayput::testing::model::live::{Availability, Drain, Health};
use stayput::testing::model::published::Published;
use stayput::testing::model::snapshot::{Resolutions, Snapshot};
use stayput::testing::model::target_registry::TargetRegistry;
use stayput::testing::net::http1::{Answered, Connection, Request as TargetRequest, Waiting};
use stayput::testing::net::pool::{ConnId, Pool};
use stayput::testing::net::target_stream::TargetStream;
use stayput::testing::observe::access_log::AccessLog;
use stayput::testing::observe::counters::Counters;
use stayput::testing::policy::affinity::keys::{Key, Keyring};
use stayput::testing::policy::affinity::token::{Contents, GroupKey, Kind, Pin, Seed, TargetKey};
use stayput::testing::policy::headers::response::{Origin, ResponseFields, ServerField};
use stayput::testing::policy::headers::{connection_auth, hop_by_hop, shared_cache};
use stayput::testing::policy::routing::conditions::Subject;
use stayput::testing::proxy::live_view::LiveView;
use stayput::testing::worker::{self, Stage};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::poll_fn;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator; counting uses one thread's cell, which is
// constant-initialised and has no destructor, so that it never allocates itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const NOW: u64 = 1_800_000_000;
const TARGETS: usize = 1_000;

/// Rules that a request fails by their last conditions.
const RULES: &str = "[[rule]]\nhosts = ['*.example']\npaths = ['/*']\nmethods = ['GET']\n\
    source_ips = ['192.0.2.0/24']\nquery = [{ key = 'v', value = '*' }]\n\
    headers = { x-beta = ['*'] }\nforward = 'app'\n\
    [[rule]]\nhosts = ['shop.example']\nquery = [{ value = '2' }]\nrespond = { status = 404 }\n";

fn snapshot(settings: &str) -> Snapshot {
    let targets: Vec<String> =
        (0..TARGETS).map(|at| format!("\"10.0.{}.{}:80\"", at / 250, at % 250)).collect();
    let text = format!(
        "[listener.web]\naddress = \"127.0.0.1:8080\"\n[target_group.app]\ntargets = [{}]\n{settings}\n{RULES}",
        targets.join(", ")
    );
    let loaded = config::parse(&text, "test", Path::new("")).unwrap();
    let (resolutions, mut registry) = (Resolutions::new(), TargetRegistry::default());
    Snapshot::build(&loaded.config, keyring(7), &resolutions, &mut registry).unwrap()
}

/// A keyring whose key has the id 1, for any bytes.
fn keyring(byte: u8) -> Arc<Keyring> {
    let line = data_encoding::BASE64.encode(&[byte; 32]);
    let key = Key::from_base64_line(1, line.as_bytes()).unwrap();
    Arc::new(Keyring::new(&[key]).unwrap())
}

fn token(keyring: &Keyring, seed: u64, id: &str) -> String {
    let target = TargetKey::of("app", id);
    let pin = Pin { group: GroupKey::of("app"), target, issued_at: NOW as u32 };
    let contents = Contents::new(Seed(seed), pin);
    keyring.seal(Kind::Lb, &contents).as_str().to_owned()
}

#[track_caller]
fn check(snapshot: &Snapshot, cookie: Option<&str>, expected: Verdict) {
    let mut headers = Fields::default();
    if let Some(cookie) = cookie {
        let line = format!("theme=dark; AWSALB={cookie}; other=1");
        headers.append(Name::Cookie, line.as_bytes());
    }
    let request = Request {
        listener: 0,
        subject: Subject {
            host: "shop.example",
            path: "/",
            query: "v=1",
            method: "GET",
            headers: &headers,
            address: std::net::IpAddr::from([192, 0, 2, 1]),
        },
    };
    let mut draw = Random::from_seed(1);
    let before = ALLOCATIONS.get();
    let decision = decide(&request, snapshot, &LiveView::FOR_ANYONE, NOW, &mut draw);
    let allocated = ALLOCATIONS.get() - before;
    let Outcome::Forward(Placement { verdict, target, .. }) = decision.outcome else {
        panic!("{:?}", decision.outcome)
    };
    assert_eq!(verdict, expected);
    assert!(target.is_some());
    assert_eq!(allocated, 0, "{verdict} allocated");
}

#[test]
fn a_decision_among_a_thousand_targets_allocates_nothing() {
    for settings in [
        "",
        "slow_start = \"30s\"",
        "algorithm = \"least_outstanding_requests\"",
        "algorithm = \"weighted_random\"\nanomaly_mitigation = true",
        "algorithm = \"least_sessions\"",
    ] {
        a_decision_allocates_nothing(&snapshot(settings));
    }
}

fn a_decision_allocates_nothing(snapshot: &Snapshot) {
    let healthy = Availability { health: Health::Healthy, drain: Drain::No, recovering: false };
    for target in &snapshot.groups[0].targets {
        target.state.set_availability(healthy);
    }
    let down = snapshot.groups[0].target_named("10.0.2.7:80").unwrap();
    let sick = Availability { health: Health::Unhealthy, ..healthy };
    snapshot.groups[0].targets[down].state.set_availability(sick);

    check(snapshot, None, Verdict::New);
    check(snapshot, Some("nonsense"), Verdict::Malformed);
    for seed in 0..20 {
        let ours = &snapshot.keyring;
        check(snapshot, Some(&token(ours, seed, "10.0.1.3:80")), Verdict::Hit);
        check(snapshot, Some(&token(ours, seed, "10.0.2.7:80")), Verdict::MovedUnhealthy);
        check(snapshot, Some(&token(ours, seed, "gone")), Verdict::MovedRemoved);
        check(snapshot, Some(&token(&keyring(8), seed, "10.0.1.3:80")), Verdict::Forged);
    }
}

#[test]
fn the_allocation_counter_counts_allocations() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(7)));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}

/// Allocations of one exchange over a pooled target connection, including the pool and the checks
/// of the response head.
fn allocations_for_an_answer(answer: &'static str) -> f64 {
    const COUNT: u32 = 100;
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = origin.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = origin.accept().unwrap();
        while read_to(&mut stream, b"\r\n\r\n") {
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let name = |text| ServedName::new(text).unwrap();
    let target =
        TargetRegistry::default().target(&name("app"), &name("a"), Some(address), None, None);
    let pool = Pool::<Empty<Bytes>>::default();
    let now = clock::monotonic();
    let until = now + Duration::from_secs(600);
    let (mut scratch, mut response) = (vec![0; 16 * 1_024], Response::default());
    let hsts = (STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=1"));
    let ours = ResponseFields::new([hsts], ServerField::Own);
    let mut exchange = async |mut connection: Box<Connection<_>>| {
        let request = TargetRequest { method: &Method::GET, head: b"GET / HTTP/1.1\r\n\r\n" };
        let mut waiting = Waiting::default();
        connection.begin(None);
        let answered = poll_fn(|cx| {
            connection.poll_answer(cx, request, &mut waiting, &mut scratch, &mut response)
        });
        assert_eq!(answered.await, Ok(Answered::Final));
        let fields = &mut response.fields;
        assert!(!connection_auth::is_in_answer(fields));
        black_box(shared_cache::read(&Method::GET, response.status, fields, NOW));
        hop_by_hop::strip_response(fields);
        ours.write(fields, Origin::Target);
        while let Some(frame) = poll_fn(|cx| connection.poll_frame(cx)).await {
            drop(frame.unwrap());
        }
        assert!(connection.become_idle());
        pool.give_back(&target, connection, None, ConnId(1), until, now);
        pool.take(&target, None, None, ConnId(1), now).unwrap()
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut connection = Box::new(Connection::new(TargetStream::Plain(stream), None));
        let mut before = 0;
        for at in 0..=COUNT {
            // The first exchange also makes what is kept for the next.
            if at == 1 {
                before = ALLOCATIONS.get();
            }
            connection = exchange(connection).await;
        }
        (ALLOCATIONS.get() - before) as f64 / f64::from(COUNT)
    })
}

#[test]
fn a_response_of_a_target_allocates_only_its_body() {
    for (answer, expected) in [
        ("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", 0.0),
        (
            "HTTP/1.1 200 OK\r\nServer: x\r\nConnection: keep-alive\r\nCache-Control: no-store\r\n\
          Set-Cookie: a=b\r\nContent-Length: 0\r\n\r\n",
            0.0,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello", 1.0),
    ] {
        let got = allocations_for_an_answer(answer);
        assert!((got - expected).abs() < 1e-9, "{got} for {answer:?}");
    }
}

/// Sends requests over one kept connection through one worker in this thread. Returns the worker's
/// allocations, including its start and end.
fn allocations_for(requests: usize) -> u64 {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\ntargets = [\"{}\"]",
        origin.local_addr().unwrap()
    );
    std::thread::spawn(move || answer_all(&origin));
    let loaded = config::parse(&text, "test", Path::new("")).unwrap();
    let (resolutions, mut registry) = (Resolutions::new(), TargetRegistry::default());
    let snapshot =
        Snapshot::build(&loaded.config, keyring(7), &resolutions, &mut registry).unwrap();
    let cookie = token(&keyring(7), 1, snapshot.groups[0].targets[0].id.as_str());
    let log = tempfile::NamedTempFile::new().unwrap();
    let to = LogTarget::File(log.path().to_owned());
    let access = AccessLog::start(&to, AccessFormat::Json).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let counters = Arc::new(Counters::default());
    let (stage, told) = watch::channel(Stage::Serving);
    let parts = worker::Parts {
        worker: 0,
        sockets: vec![worker::Socket {
            listener: 0,
            socket,
            open: Arc::default(),
            certificates: None,
        }],
        snapshots: Published::new(Arc::new(snapshot)).reader(),
        random: Random::from_seed(1),
        access: access.buffer(counters.clone()),
        counters,
        reports: mpsc::channel(16).0,
        stage: told,
        first_reserved: i32::MAX,
    };
    let visit = std::thread::spawn(move || {
        let mut client = TcpStream::connect(address).unwrap();
        let request = format!(
            "GET /cart HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test/1.0\r\n\
             Accept: */*\r\nCookie: theme=dark; AWSALB={cookie}\r\n\r\n"
        );
        for _ in 0..requests {
            client.write_all(request.as_bytes()).unwrap();
            read_to(&mut client, b"\r\n\r\nhello");
        }
        stage.send(Stage::Cut).unwrap();
    });
    let before = ALLOCATIONS.get();
    let runtime = Builder::new_current_thread().enable_all().build_local(Default::default());
    runtime.unwrap().block_on(worker::run(parts)).unwrap();
    visit.join().unwrap();
    ALLOCATIONS.get() - before
}

fn answer_all(origin: &TcpListener) {
    for stream in origin.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            while read_to(&mut stream, b"\r\n\r\n") {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello")
                    .unwrap();
            }
        });
    }
}

/// Reads until the input ends with `end`; false at the end of the stream.
fn read_to(stream: &mut TcpStream, end: &[u8]) -> bool {
    let mut room = [0; 4_096];
    let mut filled = 0;
    while !room[..filled].ends_with(end) {
        match stream.read(&mut room[filled..]) {
            Ok(count) if count > 0 => filled += count,
            _ => return false,
        }
    }
    true
}

/// Allocations allowed for an exchange, plus a twentieth: ten, for the log entry and its strings,
/// the request head, the response's head and body, the cookie, the trace id, and hyper's buffers.
const MAX_FOR_AN_EXCHANGE: f64 = 10.5;

#[test]
fn an_exchange_stays_within_its_recorded_allocations() {
    let (few, many) = (allocations_for(1_000), allocations_for(3_000));
    let each = (many - few) as f64 / 2_000.0;
    assert!(each <= MAX_FOR_AN_EXCHANGE, "{each} allocations for an exchange");
}
