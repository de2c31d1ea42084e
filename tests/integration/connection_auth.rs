//! Authentication of a connection (NTLM, Negotiate): the connection never serves another client.

use super::http2_targets::world;
use crate::support::http2_origin::Exchange;
use crate::support::origin::{Heard, Then};
use crate::support::tool::{Tool, found};
use crate::support::{Http2, Http2Origin, Origin, Visitor, World, until};
use data_encoding::{BASE64, HEXLOWER};
use http::{HeaderValue, Response};
use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Mutex;

const NO_CHECKS: &str =
    "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\" }";
const OFFER: &str = "WWW-Authenticate: NTLM\r\nWWW-Authenticate: Negotiate\r\n";
/// The beginning of NTLM's first and third message.
const FIRST: &str = "Authorization: NTLM TlRMTVNTUAABAAAA";
const THIRD: &str = "Authorization: ntlm TlRMTVNTUAADAAAA";
/// Kerberos needs only one message.
const AT_ONCE: &str = "Authorization: Negotiate YII=";

/// The second message, as \[MS-NLMP\] section 4.2.4.3 has it.
fn challenge() -> String {
    let message = "4e544c4d53535000020000000c000c003800000033828ae2\
                   0123456789abcdef0000000000000000240024004400000006007017\
                   0000000f53006500720076006500720002000c0044006f006d006100\
                   69006e0001000c0053006500720076006500720000000000";
    BASE64.encode(&HEXLOWER.decode(message.as_bytes()).unwrap())
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Challenged,
    Alice,
}

/// A target that authenticates connections, as IIS does.
fn origin() -> Origin {
    let connections = Mutex::new(HashMap::<SocketAddr, Stage>::new());
    Origin::scripted(move |heard: &Heard, stream: &mut TcpStream| {
        let mut connections = connections.lock().unwrap();
        let peer = stream.peer_addr().unwrap();
        if heard.nth == 0 {
            connections.remove(&peer);
        }
        let stage = connections.get(&peer).copied();
        let sent = heard.field("authorization").unwrap_or_default().to_lowercase();
        let (next, fields) = match (sent, stage) {
            (sent, _) if sent.starts_with("ntlm tlrmtvntuaab") => {
                let token = format!("WWW-Authenticate: NTLM {}\r\n", challenge());
                (Some(Stage::Challenged), token)
            }
            (sent, Some(Stage::Challenged)) if sent.starts_with("ntlm tlrmtvntuaad") => {
                (Some(Stage::Alice), String::new())
            }
            (sent, _) if sent.starts_with("negotiate") => (Some(Stage::Alice), String::new()),
            (_, Some(Stage::Alice)) => (Some(Stage::Alice), String::new()),
            _ => (None, OFFER.to_owned()),
        };
        let (status, text) = match next {
            Some(Stage::Alice) => ("200 OK", "hello alice"),
            _ => ("401 Unauthorized", "who is it"),
        };
        match next {
            Some(stage) => connections.insert(peer, stage),
            None => connections.remove(&peer),
        };
        let length = text.len();
        let answer = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{text}");
        let _ = stream.write_all(answer.as_bytes());
        Then::KeepAlive
    })
}

fn before(origins: &[&Origin], listener: &str, upstream: &str) -> World {
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address()).collect();
    world(&addresses, listener, &format!("upstream = {{ {upstream} }}\n{NO_CHECKS}"))
}

const KEPT: &str = "timeouts = { keep_alive = \"60s\" }";

/// A request of a client that keeps no cookies.
fn bare(client: &mut Visitor, fields: &[&str]) -> (u16, String) {
    let answer = client.ask("GET", "/", fields, "");
    client.jar.clear();
    (answer.status, answer.body)
}

fn is_alice(answer: &(u16, String)) -> bool {
    answer.0 == 200 && answer.1 == "hello alice"
}

#[test]
fn an_authenticated_connection_never_serves_another_client() {
    let (a, b) = (origin(), origin());
    let world = before(&[&a, &b], "", KEPT);
    let mut others: Vec<_> = (0..4).map(|_| Visitor::of(world.address())).collect();
    // Opens idle connections for all clients.
    for other in &mut others {
        assert_eq!(bare(other, &[]).0, 401);
    }
    let mut alice = Visitor::of(world.address());
    assert_eq!(bare(&mut alice, &[]).0, 401);
    assert_eq!(bare(&mut alice, &[FIRST]).0, 401);
    // The same connection, although no cookie names the target.
    assert!(is_alice(&bare(&mut alice, &[THIRD])));
    for _ in 0..5 {
        assert!(is_alice(&bare(&mut alice, &[])));
        for other in &mut others {
            assert_eq!(bare(other, &[]).0, 401);
        }
    }
    // Nor after the client has left: its connection closes with it.
    let open = || a.open() + b.open();
    let before = open();
    drop(alice);
    until("her connection has ended", || (open() < before).then_some(()));
    for other in &mut others {
        assert_eq!(bare(other, &[]).0, 401);
    }
}

#[test]
fn authentication_ends_with_the_exchange_on_a_shared_connection() {
    let trusting = "trusted_proxies = [\"127.0.0.1\"]";
    for listener in ["", trusting] {
        let target = origin();
        let world = before(&[&target], listener, KEPT);
        let mut other = Visitor::of(world.address());
        if listener == trusting {
            let mut proxy = Visitor::of(world.address());
            assert!(is_alice(&bare(&mut proxy, &[AT_ONCE])));
            assert_eq!(bare(&mut proxy, &[]).0, 401);
            assert_eq!(bare(&mut proxy, &[FIRST]).0, 401);
            assert_eq!(bare(&mut proxy, &[THIRD]).0, 401);
        }
        let client = Http2::to(world.address());
        let head = Http2::head("/").header("authorization", "NEGOTIATE YII=");
        assert_eq!(client.send(head).unwrap().text(), "hello alice");
        assert_eq!(client.get("/").status.as_u16(), 401);
        assert_eq!(bare(&mut other, &[]).0, 401);
    }
}

#[test]
fn the_permit_of_an_authenticated_connection_goes_to_a_waiter() {
    let target = origin();
    let world = before(&[&target], "", &format!("max_connections = 1, {KEPT}"));
    let mut alice = Visitor::of(world.address());
    assert!(is_alice(&bare(&mut alice, &[AT_ONCE])));
    assert_eq!(bare(&mut Visitor::of(world.address()), &[]).0, 401);
    // The connection of the first client was closed to make room.
    assert_eq!(bare(&mut alice, &[]).0, 401);
    assert!(is_alice(&bare(&mut alice, &[AT_ONCE])));
}

#[test]
fn an_authenticated_http2_connection_takes_no_more_streams() {
    let origin = Http2Origin::serving(|mut exchange: Exchange| async move {
        let mut head = Response::new(());
        if exchange.request.uri().path() == "/token" {
            *head.status_mut() = http::StatusCode::UNAUTHORIZED;
            let token = HeaderValue::from_static("Negotiate oYG2");
            head.headers_mut().insert("www-authenticate", token);
        }
        let _ = exchange.respond.send_response(head, true);
    });
    let world = world(&[origin.address()], "", &format!("protocol = \"http2\"\n{NO_CHECKS}"));
    let client = Http2::to(world.address());
    let offered = ["Basic eA==", "Bearer NTLM"].map(|value| ("/", value, 1));
    let proved = [("/", "Negotiate YII=", 1), ("/", "ntlm TlRM", 2), ("/token", "Basic x", 3)];
    for (path, value, connections) in offered.into_iter().chain(proved).chain([("/", "Basic x", 4)])
    {
        client.send(Http2::head(path).header("authorization", value)).unwrap();
        assert_eq!(origin.connections(), connections, "{value}");
    }
}

/// Sends all of these at once on one client connection, and returns the statuses.
fn at_once(client: &Http2, heads: impl Iterator<Item = http::request::Builder>) -> Vec<u16> {
    let asked: Vec<_> = heads.map(|head| client.ask(head, true).unwrap()).collect();
    asked.into_iter().map(|asked| client.reply(asked).unwrap().status.as_u16()).collect()
}

#[test]
fn concurrent_authenticated_streams_each_get_their_own_connection() {
    // The target is cold, so all requests wait for its first connection.
    for every in [1, 2, 5, 29] {
        let origin = Http2Origin::named("a");
        let world = world(&[origin.address()], "", &format!("protocol = \"http2\"\n{NO_CHECKS}"));
        let client = Http2::to(world.address());
        let heads = (0..30).map(|number| match number % every {
            0 => Http2::head("/").header("authorization", "Negotiate YII="),
            _ => Http2::head("/"),
        });
        assert_eq!(at_once(&client, heads), [200; 30], "{every}");
        assert!(origin.connections() >= 30 / every, "{every}");
        assert_eq!(client.get("/").status.as_u16(), 200);
    }
}

#[test]
fn slow_authenticated_streams_do_not_block_other_clients() {
    let origin = Http2Origin::serving(|mut exchange: Exchange| async move {
        match exchange.request.uri().path() {
            "/slow" => drop(exchange.until_reset().await),
            _ => exchange.say("a"),
        }
    });
    let world = world(&[origin.address()], "", &format!("protocol = \"http2\"\n{NO_CHECKS}"));
    let client = Http2::to(world.address());
    let private = |path: &str| Http2::head(path).header("authorization", "Negotiate YII=");
    let mut slow = Vec::new();
    for number in 1..=64 {
        slow.push(client.ask(private("/slow"), true).unwrap());
        until("it has its connection", || (origin.heard().len() == number).then_some(()));
    }
    assert_eq!(client.get("/").status.as_u16(), 200);
    assert_eq!(client.send(private("/")).unwrap().status.as_u16(), 503);
    assert_eq!(client.get("/").status.as_u16(), 200);
    drop(slow.pop());
    until("one of them has ended", || {
        (client.send(private("/")).unwrap().status.as_u16() == 200).then_some(())
    });
}

#[test]
fn curl_authenticates_with_ntlm_with_a_cookie_jar_and_without() {
    let Some(curl) = found("curl") else { return };
    let said = Tool::start(Command::new(&curl).arg("--version")).output();
    if !said.contains(" NTLM ") {
        return;
    }
    let (a, b) = (origin(), origin());
    let world = before(&[&a, &b], "", KEPT);
    let url = format!("http://{}/", world.address());
    for jar in [&["-b", "", "-c", "/dev/null"][..], &[]] {
        for _ in 0..3 {
            let mut command = Command::new(&curl);
            command.args(["-sS", "--noproxy", "*", "--ntlm", "-u", "alice:secret"]);
            let said = Tool::start(command.args(jar).arg(&url)).output();
            assert_eq!(said, "hello alice");
            assert_eq!(bare(&mut Visitor::of(world.address()), &[]).0, 401);
        }
    }
}
