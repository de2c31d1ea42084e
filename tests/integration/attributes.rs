//! Listener attributes: client port, Host, odd field names, response headers, desync mitigation.

use crate::support::origin::Then;
use crate::support::visitor::Answer;
use crate::support::{Origin, Visitor, World, until};
use std::io::Read;
use std::time::{Duration, Instant};

const NO_CHECKS: &str = "health = { protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\", passive = { connect_failures = 0 } }";

fn ask(world: &World, request: &str) -> Answer {
    let mut visitor = Visitor::of(world.address());
    visitor.send(request);
    visitor.read_answer(false)
}

#[test]
fn x_forwarded_for_has_the_client_port_only_with_client_port() {
    let preserve = "client_port = true\nx_forwarded_for = \"preserve\"";
    let remove = "client_port = true\nx_forwarded_for = \"remove\"";
    for (listener, sent, expected) in [
        ("", None, Some("127.0.0.1")),
        ("", Some("6.6.6.6"), Some("6.6.6.6, 127.0.0.1")),
        ("client_port = true", None, Some("127.0.0.1:PORT")),
        ("client_port = true", Some("6.6.6.6"), Some("6.6.6.6, 127.0.0.1:PORT")),
        (preserve, None, None),
        (preserve, Some("6.6.6.6"), Some("6.6.6.6")),
        (remove, None, None),
        (remove, Some("6.6.6.6"), None),
    ] {
        let origin = Origin::named("a");
        let world = World::new(&[&origin], listener, NO_CHECKS);
        let mut visitor = Visitor::of(world.address());
        let sent = sent.map(|entry| format!("X-Forwarded-For: {entry}"));
        let fields: Vec<&str> = sent.iter().map(String::as_str).collect();
        assert_eq!(visitor.ask("GET", "/", &fields, "").status, 200);
        let port = visitor.stream().local_addr().unwrap().port().to_string();
        let got = origin.heard()[0].field("x-forwarded-for");
        let expected = expected.map(|text| text.replace("PORT", &port));
        assert_eq!(got, expected, "{listener:?} {sent:?}");
    }
}

#[test]
fn a_host_that_is_not_preserved_is_lower_case_and_has_a_port() {
    for (preserve, request, expected) in [
        (false, "GET / HTTP/1.1\r\nHost: Shop.Example\r\n\r\n", "shop.example:PORT"),
        (false, "GET / HTTP/1.1\r\nHost: shop.example:9\r\n\r\n", "shop.example:9"),
        (false, "GET http://Dns.Name/ HTTP/1.1\r\nHost: shop.example\r\n\r\n", "dns.name:PORT"),
        (false, "GET / HTTP/1.0\r\n\r\n", "127.0.0.1:PORT"),
        (true, "GET / HTTP/1.1\r\nHost: Shop.Example:9\r\n\r\n", "Shop.Example:9"),
        (true, "GET / HTTP/1.1\r\nHost: Shop.Example\r\n\r\n", "Shop.Example"),
        (true, "GET http://Dns.Name/ HTTP/1.1\r\nHost: shop.example\r\n\r\n", "Dns.Name"),
        (true, "GET / HTTP/1.0\r\n\r\n", "127.0.0.1:PORT"),
    ] {
        let origin = Origin::named("a");
        let world = World::new(&[&origin], &format!("preserve_host = {preserve}"), NO_CHECKS);
        assert_eq!(ask(&world, request).status, 200);
        let expected = expected.replace("PORT", &world.address().port().to_string());
        assert_eq!(origin.heard()[0].field("host"), Some(expected), "{preserve} {request:?}");
    }
}

#[test]
fn fields_with_odd_names_are_forwarded_unless_dropped() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX_Odd: 1\r\nx.odd: 2\r\nX-Fine: 3\r\n\
                   Connection: keep-alive, X_Odd2\r\nX_Odd2: 4\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n";
    for (listener, odd) in [("", true), ("drop_invalid_headers = true", false)] {
        let origin = Origin::named("a");
        let world = World::new(&[&origin], listener, NO_CHECKS);
        assert_eq!(ask(&world, request).status, 200);
        let heard = origin.heard().remove(0);
        assert_eq!(heard.field("x_odd").is_some(), odd, "{}", heard.head);
        assert_eq!(heard.field("x.odd").is_some(), odd, "{}", heard.head);
        assert_eq!(heard.field("x-fine").as_deref(), Some("3"));
        assert_eq!(heard.field("x_odd2"), None, "Connection names it");
        assert_eq!(heard.field("x_forwarded_for"), None, "a target may take it for the true one");
    }
}

const SERVED: &str = "HTTP/1.1 200 OK\r\nX-Frame-Options: SAMEORIGIN\r\nX-Frame-Options: x\r\nServer: origin/1\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn response_headers_are_on_the_balancers_own_responses_too() {
    let origin = Origin::saying(SERVED, Then::KeepAlive);
    let listener = "response_headers = { Strict-Transport-Security = \"max-age=1\", x-frame-options = \"DENY\" }\n\
                    timeouts = { header_read = \"1s\" }";
    let group = format!(
        "{NO_CHECKS}\n[[rule]]\npaths = [\"/fixed\"]\nrespond = {{ status = 404, body = \"no\" }}"
    );
    let world = World::new(&[&origin], listener, &group);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /fixed HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHo", 408),
    ] {
        let answer = ask(&world, request);
        assert_eq!(answer.status, status, "{request:?}");
        assert_eq!(answer.field("strict-transport-security"), Some("max-age=1"), "{request:?}");
        assert_eq!(answer.all("x-frame-options").collect::<Vec<_>>(), ["DENY"], "{request:?}");
        assert!(answer.whole, "{request:?}");
    }
}

#[test]
fn the_101_of_a_tunnel_has_the_response_headers() {
    let origin = Origin::saying(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        Then::Close,
    );
    let listener = "response_headers = { x-frame-options = \"DENY\" }";
    let world = World::new(&[&origin], listener, NO_CHECKS);
    let handshake = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Key: x\r\n\r\n";
    let answer = ask(&world, handshake);
    assert_eq!((answer.status, answer.field("x-frame-options")), (101, Some("DENY")));
    assert_eq!(answer.field("connection").map(str::to_ascii_lowercase).as_deref(), Some("upgrade"));
}

#[test]
fn the_server_field_is_kept_replaced_or_removed() {
    for (rule, of_target, of_ours) in [
        ("", Some("origin/1"), None),
        ("server = \"pass\"", Some("origin/1"), None),
        ("server = \"own\"", Some("origin/1"), Some("stayput")),
        ("server = \"remove\"", None, None),
    ] {
        let origin = Origin::saying(SERVED, Then::KeepAlive);
        let listener = format!("{rule}\ntimeouts = {{ header_read = \"1s\" }}");
        let world = World::new(&[&origin], &listener, NO_CHECKS);
        let served = ask(&world, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let refused = ask(&world, "GET / HTTP/1.1\r\n\r\n");
        let half = ask(&world, "GET / HT");
        assert_eq!(served.field("server"), of_target, "{rule:?}");
        assert_eq!(refused.field("server"), of_ours, "{rule:?}");
        assert_eq!(half.field("server"), of_ours, "{rule:?}");
    }
}

#[test]
fn a_connection_past_its_lifetime_serves_one_more_request_and_closes() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "timeouts = { max_lifetime = \"1s\" }", NO_CHECKS);
    let mut visitor = Visitor::of(world.address());
    let begun = Instant::now();
    visitor.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut socket = visitor.stream().try_clone().unwrap();
    let port = socket.local_addr().unwrap();
    assert_eq!(visitor.read_answer(false).field("connection"), None);
    let last = until("the last answer says so", || {
        assert_eq!(visitor.stream().local_addr().unwrap(), port, "still the same connection");
        let answer = visitor.get("/");
        assert!(answer.status == 200 && answer.whole);
        answer.field("connection").is_some().then_some(answer)
    });
    assert_eq!((last.field("connection"), last.body.as_str()), (Some("close"), "a"));
    assert!(begun.elapsed() >= Duration::from_secs(1), "requests made it no shorter");
    assert_eq!(socket.read(&mut [0]).unwrap(), 0);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Treated {
    /// Forwarded; both connections are reused.
    Kept,
    /// Forwarded; both connections close.
    Closed,
    /// Refused with 400 or 501; no target gets a request.
    Refused,
}

fn treated(mode: &str, request: &str, reason: Option<&str>) -> Treated {
    let origin = Origin::named("a");
    let listener = format!("desync_mitigation = \"{mode}\"");
    // Longer than any wait in this file, so a connection that closes was closed on purpose.
    let group = format!("{NO_CHECKS}\nupstream = {{ timeouts = {{ keep_alive = \"60s\" }} }}");
    let world = World::new(&[&origin], &listener, &group);
    let mut visitor = Visitor::of(world.address());
    visitor.send(request);
    let mut socket = visitor.stream().try_clone().unwrap();
    let answer = visitor.read_answer(false);
    let closes = answer.field("connection") == Some("close");
    if closes {
        assert_eq!(socket.read(&mut [0]).unwrap(), 0, "{mode} {request:?}");
    }
    let record = world.record(|record| record["uri"] == "/judged");
    match reason {
        Some(reason) => assert_eq!(record["desync"]["reason"], reason, "{mode} {request:?}"),
        None => assert_eq!(record.get("desync"), None, "{mode} {request:?}"),
    }
    if answer.status != 200 {
        assert!(matches!(answer.status, 400 | 501) && closes, "{mode} {request:?} {answer:?}");
        assert!(origin.heard().is_empty(), "{mode} {request:?}");
        return Treated::Refused;
    }
    for odd in ["content_length", "content--length", "transfer_encoding"] {
        assert_eq!(origin.heard()[0].field(odd), None, "{mode} {request:?}");
    }
    if closes {
        until("the target's connection is closed", || (origin.open() == 0).then_some(()));
        return Treated::Closed;
    }
    assert_eq!(visitor.get("/next").status, 200);
    assert_eq!(origin.heard()[1].nth, 1, "the target's connection is used again");
    Treated::Kept
}

#[test]
fn each_desync_mode_forwards_closes_after_or_refuses_ambiguous_requests() {
    use Treated::{Closed, Kept, Refused};
    for (line, rest, reason, expected) in [
        ("GET", "\r\n", None, [Kept, Kept, Kept]),
        ("POST", "Content-Length: 2\r\n\r\nhi", None, [Kept, Kept, Kept]),
        ("POST", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", None, [Kept; 3]),
        (
            "GET",
            "Content-Length: 0\r\n\r\n",
            Some("GetHeadZeroContentLength"),
            [Kept, Kept, Refused],
        ),
        (
            "GET",
            "Content-Length: 2\r\n\r\nhi",
            Some("UndefinedContentLengthSemantics"),
            [Kept, Closed, Refused],
        ),
        (
            "GET",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            Some("UndefinedTransferEncodingSemantics"),
            [Kept, Closed, Refused],
        ),
        ("POST", "Content_Length: 5\r\n\r\n", Some("SuspiciousHeader"), [Kept, Refused, Refused]),
        ("POST", "Content--Length: 5\r\n\r\n", Some("SuspiciousHeader"), [Kept, Refused, Refused]),
        (
            "POST",
            "Transfer_Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi",
            Some("SuspiciousHeader"),
            [Kept, Refused, Refused],
        ),
        (
            "POST",
            "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            Some("MultipleTransferEncodingChunked"),
            [Refused; 3],
        ),
        (
            "POST",
            "Transfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n",
            Some("BadTransferEncoding"),
            [Refused; 3],
        ),
        ("POST", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", None, [Refused; 3]),
        ("GET", "Host: b\r\n\r\n", None, [Refused; 3]),
        ("GET", "X : 1\r\n\r\n", Some("NonCompliantHeader"), [Kept, Kept, Refused]),
        ("GET", "X: \x01\r\n\r\n", Some("NonCompliantHeader"), [Kept, Kept, Refused]),
        ("GET", "X: 1\n\r\n", Some("NonCrLfLineTermination"), [Kept, Kept, Refused]),
        ("GET", "X: 1\r\n folded\r\n\r\n", Some("MultilineHeader"), [Kept, Closed, Refused]),
        (
            "POST",
            "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
            Some("DuplicateContentLength"),
            [Kept, Closed, Refused],
        ),
        (
            "POST",
            "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            Some("BothTeClPresent"),
            [Kept, Closed, Refused],
        ),
        ("GET", "X: \0\r\n\r\n", Some("BadHeader"), [Kept, Refused, Refused]),
        (
            "POST",
            "Content-Length: 2, 2\r\n\r\nhi",
            Some("BadContentLength"),
            [Kept, Refused, Refused],
        ),
        (
            "POST",
            "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
            Some("MultipleContentLength"),
            [Refused; 3],
        ),
        ("GET", "no colon\r\n\r\n", Some("MissingHeaderColon"), [Refused; 3]),
    ] {
        let request = format!("{line} /judged HTTP/1.1\r\nHost: a\r\n{rest}");
        let got = ["monitor", "defensive", "strictest"].map(|mode| treated(mode, &request, reason));
        assert_eq!(got, expected, "{request:?}");
    }
}

#[test]
fn monitor_mode_still_refuses_unparsable_requests() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "desync_mitigation = \"monitor\"", NO_CHECKS);
    for request in [
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "GET / HTTP/0.9\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.10\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello!",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\n folded\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\0: 1\r\n\r\n",
    ] {
        assert_eq!(ask(&world, request).status, 400, "{request:?}");
    }
    assert!(origin.heard().is_empty());
}

#[test]
fn a_normalized_request_reaches_the_target_unambiguous() {
    for mode in ["monitor", "defensive"] {
        for (request, length) in [
            ("POST / HTTP/1.1\nHost: a\nContent-Length: 2\n\nhi", Some("2")),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
                Some("2"),
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 002\r\n\r\nhi", Some("2")),
            ("POST  / HTTP/1.2\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", Some("2")),
            ("POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\nContent-Length: 2\r\n\r\nhi", Some("2")),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
                None,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
                None,
            ),
        ] {
            let origin = Origin::named("a");
            let listener = format!("desync_mitigation = \"{mode}\"");
            let world = World::new(&[&origin], &listener, NO_CHECKS);
            assert_eq!(ask(&world, request).status, 200, "{mode} {request:?}");
            let heard = origin.heard().remove(0);
            assert_eq!(heard.field("content-length").as_deref(), length, "{mode} {request:?}");
            assert_eq!(heard.body, b"hi");
            assert_eq!(heard.head.matches("\r\n").count(), heard.head.matches('\n').count());
        }
    }
}

#[test]
fn a_fragment_in_a_url_never_reaches_a_target() {
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "desync_mitigation = \"strictest\"", NO_CHECKS);
    assert_eq!(ask(&world, "GET /a#b?c HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert_eq!(origin.heard()[0].path(), "/a");
}

#[test]
fn a_local_response_closes_after_an_ambiguous_request() {
    let group = format!("{NO_CHECKS}\n[[rule]]\npaths = [\"/*\"]\nrespond = {{ status = 404 }}");
    let origin = Origin::named("a");
    let world = World::new(&[&origin], "", &group);
    let answer = ask(&world, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!((answer.status, answer.field("connection")), (404, Some("close")));
}
