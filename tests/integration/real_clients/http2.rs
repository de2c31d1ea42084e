//! Python's `h2`: streams, cookie parts, trailers, resets, and the end of a connection.

use super::{Shop, before, listener, text};
use crate::support::origin::Then;
use crate::support::tool::{Tool, python};
use crate::support::{Authority, Origin, Program, until};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// Runs a scene of `h2_client.py`.
fn client(scene: &str, address: SocketAddr, authority: Option<&Authority>) -> Option<Tool> {
    let ca = authority.map(|authority| authority.path().display().to_string());
    let mut arguments = vec![scene.to_owned(), address.to_string()];
    arguments.extend(ca);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Some(Tool::script(python()?, "h2_client.py", &arguments))
}

/// Runs the scene in clear text, then over TLS.
fn both(shop: &Shop, scene: &str, mut meanwhile: impl FnMut(&mut Tool)) {
    for (address, authority) in [(shop.plain(), None), (shop.secure(), Some(&shop.authority))] {
        let Some(mut client) = client(scene, address, authority) else { return };
        meanwhile(&mut client);
        assert!(client.output().ends_with("done\n"));
    }
}

#[test]
fn streams_at_once_and_large_bodies_do_not_mix() {
    both(&Shop::open(), "streams", |_| {});
}

#[test]
fn cookies_in_several_fields_reach_the_target_in_one_and_hold_the_pin() {
    let shop = Shop::open();
    both(&shop, "crumbs", |client| {
        let sent = client.line("sent");
        until("the target has them", || {
            let heard = shop.origins.iter().flat_map(Origin::heard);
            heard.into_iter().find(|heard| heard.field("cookie").as_deref() == Some(&sent))
        });
    });
    for heard in shop.origins.iter().flat_map(Origin::heard) {
        let head = heard.head.to_ascii_lowercase();
        assert!(head.matches("\r\ncookie:").count() <= 1, "{head}");
        assert!(head.contains("\r\nhost: shop.example\r\n"), "{head}");
    }
}

/// A replica that repeats body and trailer in chunks at `/trailers`, never ends at `/endless`, ends
/// too early at `/half`, waits for the gate at `/slow`, and sends its name for other paths.
fn odd(gate: Arc<Mutex<()>>) -> Origin {
    Origin::scripted(move |request, stream| {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";
        let said = match request.path() {
            "/trailers" => {
                let sum = request.field("x-sum").unwrap_or_default();
                let body = String::from_utf8_lossy(&request.body);
                format!("{chunked}{:x}\r\n{body}\r\n0\r\nx-sum: {sum}\r\n\r\n", body.len())
            }
            "/endless" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
                while stream.write_all(&[b'x'; 1_024]).is_ok() {}
                return Then::Close;
            }
            "/half" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
                return Then::Close;
            }
            "/slow" => {
                drop(gate.lock().unwrap());
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow".to_owned()
            }
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nodd".to_owned(),
        };
        let _ = stream.write_all(said.as_bytes());
        Then::KeepAlive
    })
}

#[test]
fn trailers_cross_both_ways() {
    let origin = odd(Arc::default());
    let (authority, world) = before(&[origin.address()], "", "");
    for (name, authority) in [("plain", None), ("secure", Some(&authority))] {
        let Some(client) = client("trailers", listener(&world, name), authority) else { return };
        client.output();
    }
}

#[test]
fn a_stream_that_its_client_resets_is_reset_alone() {
    let origin = odd(Arc::default());
    let (_authority, world) = before(&[origin.address()], "", "");
    let Some(mut client) = client("reset", listener(&world, "plain"), None) else { return };
    client.line("reset");
    let record = world.record(|record| record["uri"] == "/endless");
    assert_eq!((&record["status"], &record["error_reason"]), (&200.into(), &"client_gone".into()));
    // The balancer does not read a cancelled response to its end.
    until("its connection is closed", || (origin.open() <= 3).then_some(()));
    client.tell("end");
    client.output();
}

#[test]
fn a_response_that_is_cut_resets_its_stream_alone() {
    let origin = odd(Arc::default());
    let (_authority, world) = before(&[origin.address()], "", "");
    let Some(client) = client("half", listener(&world, "plain"), None) else { return };
    client.output();
}

#[test]
fn sigterm_sends_goaway_and_finishes_open_streams() {
    let gate = Arc::new(Mutex::new(()));
    let origin = odd(gate.clone());
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let entry = authority.sign("shop", &[super::NAME]).entry();
    let program = Program::run(dir.path(), &text(&[origin.address()], &entry, "", ""));
    let closed = gate.lock().unwrap();
    let Some(mut client) = client("goaway", program.address(), None) else { return };
    client.line("waits");
    until("it waits for the target", || {
        origin.heard().iter().any(|heard| heard.path() == "/slow").then_some(())
    });
    program.terminate();
    // The first GOAWAY names no stream, so streams on their way are still accepted.
    assert_eq!(client.line("goaway"), "2147483647 0");
    drop(closed);
    let last = client.line("closed");
    let said = client.output();
    assert!(said.contains(&format!("goaway {last} 0\n")), "{said}");
    program.line(&["drained"]);
}
