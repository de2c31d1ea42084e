//! Client handshakes that stall, send garbage, or end early.

use crate::support::{Authority, Browser, Origin, World, until};
use stayput::testing::policy::tls::fault::HandshakeFault;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// A balancer with TLS, and these settings of its listener and in its `tls`.
fn world(authority: &Authority, origin: &Origin, listener: &str, more: &str) -> World {
    let shop = authority.sign("shop", &["shop.example"]);
    let tls = format!("{listener}\ntls = {{ certificates = [{}]{more} }}", shop.entry());
    World::new(&[origin], &tls, "")
}

fn count(world: &World, fault: HandshakeFault) -> u64 {
    let counters = world.server().counters();
    counters.iter().map(|own| own.handshake_faults[fault as usize].value()).sum()
}

/// Waits until this many handshakes have failed for this reason.
fn failed(world: &World, fault: HandshakeFault, times: u64) {
    until(fault.word(), || (count(world, fault) == times).then_some(()));
}

fn connect(world: &World) -> TcpStream {
    let stream = TcpStream::connect(world.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// All bytes until the end, or until a reset.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let (mut said, mut scratch) = (Vec::new(), [0; 1_024]);
    while let Ok(count) = stream.read(&mut scratch)
        && count > 0
    {
        said.extend_from_slice(&scratch[..count]);
    }
    said
}

/// The ClientHello of a client.
fn hello(authority: &Authority) -> Vec<u8> {
    // Written to a socket that never responds.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let browser = Browser::trusting(authority);
    let client = std::thread::spawn(move || browser.connect(address, "shop.example").is_ok());
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut hello).unwrap();
    drop(stream);
    assert!(!client.join().unwrap());
    [&head[..], &hello].concat()
}

#[test]
fn plain_http_on_a_tls_port_gets_a_plain_400_and_is_logged() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let world = world(&authority, &origin, "", "");
    let mut stream = connect(&world);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").unwrap();
    let answer = String::from_utf8(rest(stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    failed(&world, HandshakeFault::PlainHttp, 1);
    let record = world.record(|record| record["error_reason"] == "plain_http");
    assert_eq!((&record["type"], &record["status"]), (&"http".into(), &400.into()));
    assert!(origin.heard().is_empty());
}

#[test]
fn invalid_truncated_and_endless_hellos_are_closed_and_counted() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let world = world(&authority, &origin, "", "");
    let mut stream = connect(&world);
    stream.write_all(&[0; 64]).unwrap();
    assert!(rest(stream).is_empty());
    failed(&world, HandshakeFault::NotTls, 1);
    // A TLS record with garbage in it.
    let mut stream = connect(&world);
    stream.write_all(&[&[22, 3, 1, 0, 64][..], &[0xff; 64]].concat()).unwrap();
    rest(stream);
    failed(&world, HandshakeFault::NotTls, 2);
    // Hellos that announce 16 MiB, and 64 KiB, in records of maximum length.
    for (announced, failures) in [([0xff, 0xff, 0xff], 3), ([0, 0xff, 0xff], 4)] {
        let mut stream = connect(&world);
        let mut record = vec![22, 3, 1, 0x40, 0, 1];
        record.extend(announced);
        record.resize(5 + 0x4000, 0);
        for _ in 0..2 {
            // The connection may be closed by now.
            let _ = stream.write_all(&record);
        }
        rest(stream);
        failed(&world, HandshakeFault::NotTls, failures);
    }
    // A truncated hello.
    let hello = hello(&authority);
    let mut stream = connect(&world);
    stream.write_all(&hello[..hello.len() / 2]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    rest(stream);
    failed(&world, HandshakeFault::ClientGone, 1);
    // A complete hello of a client that then leaves.
    let mut stream = connect(&world);
    stream.write_all(&hello).unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    drop(stream);
    failed(&world, HandshakeFault::ClientGone, 2);
    assert!(Browser::trusting(&authority).get(world.address(), "/").unwrap().contains(" 200 OK"));
}

#[test]
fn a_handshake_past_its_time_out_is_closed_in_every_phase() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let world = world(&authority, &origin, "timeouts = { header_read = \"1s\" }", "");
    let hello = hello(&authority);
    let begun = Instant::now();
    let silent = connect(&world);
    let mut halfway = connect(&world);
    halfway.write_all(&hello[..100]).unwrap();
    let mut answered = connect(&world);
    answered.write_all(&hello).unwrap();
    for stream in [silent, halfway, answered] {
        rest(stream);
    }
    failed(&world, HandshakeFault::TimedOut, 3);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    // One byte now and then does not prolong the time.
    let mut slow = connect(&world);
    let begun = Instant::now();
    for byte in hello.iter().take(100) {
        if slow.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    failed(&world, HandshakeFault::TimedOut, 4);
    assert!(begun.elapsed() < Duration::from_secs(6));
}

#[test]
fn two_hundred_unfinished_handshakes_delay_no_other_client() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let world = world(&authority, &origin, "", "");
    let hello = hello(&authority);
    let silent: Vec<TcpStream> = (0..100).map(|_| connect(&world)).collect();
    let unfinished: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect(&world);
            stream.write_all(&hello).unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    let browser = Browser::trusting(&authority);
    for _ in 0..10 {
        assert!(browser.get(world.address(), "/").unwrap().contains(" 200 OK"));
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!((silent.len(), unfinished.len()), (100, 100));
    assert_eq!(count(&world, HandshakeFault::TimedOut), 0);
}

#[test]
fn each_kind_of_failed_negotiation_has_its_own_count() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let world = world(&authority, &origin, "", ", min_version = \"1.3\", alpn = [\"http/1.1\"]");
    let old = Browser::with(&authority, &[&rustls::version::TLS12], None, |_| {});
    assert!(old.get(world.address(), "/").is_err());
    failed(&world, HandshakeFault::NoCommonVersion, 1);
    let newer = Browser::with(&authority, rustls::ALL_VERSIONS, None, |config| {
        config.alpn_protocols = vec![b"h2".to_vec()];
    });
    assert!(newer.get(world.address(), "/").is_err());
    failed(&world, HandshakeFault::NoCommonProtocol, 1);
    let either = Browser::with(&authority, rustls::ALL_VERSIONS, None, |config| {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    });
    let connection = either.connect(world.address(), "shop.example").unwrap();
    assert_eq!(connection.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    // A client that trusts another authority ends the handshake with an alert.
    let untrusting = Browser::trusting(&Authority::new());
    assert!(untrusting.get(world.address(), "/").is_err());
    failed(&world, HandshakeFault::ClientRefused, 1);
}

/// RFC 7301 section 3.2.
#[test]
fn only_protocols_of_the_listener_are_negotiated() {
    let authority = Authority::new();
    let origin = Origin::named("a");
    for (listed, offered, agreed) in [
        ("'h2', 'http/1.1'", &["http/1.1", "h2"][..], Ok(Some("h2"))),
        ("'http/1.1', 'h2'", &["h2", "http/1.1"], Ok(Some("http/1.1"))),
        ("'http/1.1'", &["h2", "http/1.1"], Ok(Some("http/1.1"))),
        ("'http/1.1'", &["h2"], Err(())),
        ("'h2'", &["http/1.1"], Err(())),
        ("'h2'", &["http/1.0"], Err(())),
        ("'h2'", &[], Ok(None)),
        ("'h2', 'http/1.1'", &[], Ok(None)),
        // Servers treat it as HTTP/1.1; in the list it is not a protocol of its own.
        ("'h2', 'http/1.1'", &["http/1.0"], Ok(None)),
        ("'http/1.1'", &["h2", "http/1.0"], Ok(None)),
        ("'h2', 'http/1.1'", &["spdy/3"], Err(())),
        ("", &["h2"], Ok(None)),
    ] {
        let world = world(&authority, &origin, "", &format!(", alpn = [{listed}]"));
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let browser = Browser::with(&authority, &[version], None, |config| {
                config.alpn_protocols =
                    offered.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
                // Or rustls ends the handshake itself if no protocol was negotiated.
                config.check_selected_alpn = false;
            });
            let what = format!("[{listed}] and {offered:?} over {version:?}");
            let connection = browser.connect(world.address(), "shop.example");
            let mut connection = match (connection, agreed) {
                (Ok(connection), Ok(_)) => connection,
                (Err(error), Err(())) => {
                    assert!(error.to_string().contains("NoApplicationProtocol"), "{what}: {error}");
                    continue;
                }
                (other, _) => panic!("{what}: {:?}", other.map(|_| "agreed")),
            };
            let said = connection.stream.conn.alpn_protocol().map(<[u8]>::to_vec);
            assert_eq!(said.as_deref(), agreed.unwrap().map(str::as_bytes), "{what}");
            if said.is_none() {
                assert!(connection.get("/").unwrap().contains(" 200 OK"), "{what}");
            }
        }
    }
}

#[test]
fn only_a_clean_close_sends_close_notify() {
    let authority = Authority::new();
    let origin = Origin::saying(
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        crate::support::origin::Then::Close,
    );
    let world =
        world(&authority, &origin, "timeouts = { idle = \"1s\", header_read = \"1s\" }", "");
    let browser = Browser::trusting(&authority);
    let mut idle = browser.connect(world.address(), "shop.example").unwrap();
    // With close_notify the read ends; without it the read fails.
    assert_eq!(idle.stream.read(&mut [0; 16]).unwrap(), 0);
    let mut broken = browser.connect(world.address(), "shop.example").unwrap();
    assert!(broken.get("/").is_err());
    let end = broken.stream.read(&mut [0; 16]);
    assert!(end.is_err(), "{end:?}");
}

#[test]
fn a_fragmented_hello_is_read_up_to_16_kib() {
    let (authority, origin) = (Authority::new(), Origin::named("a"));
    let world = world(&authority, &origin, "", "");
    // Each byte in a record of its own.
    let hello = hello(&authority);
    let mut stream = connect(&world);
    stream.set_nodelay(true).unwrap();
    for byte in &hello[5..] {
        stream.write_all(&[22, 3, 1, 0, 1, *byte]).unwrap();
    }
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[0], 22, "a handshake goes on");
    drop(stream);
    failed(&world, HandshakeFault::ClientGone, 1);
    // A hello that announces slightly more than 16 KiB and comes in small records.
    let mut stream = connect(&world);
    let mut hello = vec![1, 0, 0x40, 0x10];
    hello.resize(4 + 0x4010, 0);
    for piece in hello.chunks(100) {
        let length = u8::try_from(piece.len()).unwrap();
        if stream.write_all(&[&[22, 3, 1, 0, length][..], piece].concat()).is_err() {
            break;
        }
    }
    rest(stream);
    failed(&world, HandshakeFault::NotTls, 1);
    assert!(Browser::trusting(&authority).get(world.address(), "/").unwrap().contains(" 200 OK"));
}
