//! The access log in ALB's and Apache's formats, as Athena and other readers parse it.

use crate::support::origin::Then;
use crate::support::{Origin, Visitor, World, until};
use regex::Regex;
use std::io::{Read, Write};
use std::sync::LazyLock;

/// The regular expression of the table that AWS's Athena documentation publishes ("Create the table
/// for ALB access logs"), without the backslashes that its SQL needs. Hive matches it against whole
/// lines.
static ATHENA: LazyLock<Regex> = LazyLock::new(|| {
    let published = include_str!("../vectors/athena-alb.regex");
    Regex::new(&format!("^{}$", published.trim_end())).unwrap()
});

/// The columns of that table, one for each capture group.
const COLUMNS: [&str; 34] = [
    "type",
    "time",
    "elb",
    "client_ip",
    "client_port",
    "target_ip",
    "target_port",
    "request_processing_time",
    "target_processing_time",
    "response_processing_time",
    "elb_status_code",
    "target_status_code",
    "received_bytes",
    "sent_bytes",
    "request_verb",
    "request_url",
    "request_proto",
    "user_agent",
    "ssl_cipher",
    "ssl_protocol",
    "target_group_arn",
    "trace_id",
    "domain_name",
    "chosen_cert_arn",
    "matched_rule_priority",
    "request_creation_time",
    "actions_executed",
    "redirect_url",
    "error_reason",
    "target_port_list",
    "target_status_code_list",
    "classification",
    "classification_reason",
    "conn_trace_id",
];

/// A line as Athena reads it.
struct Row(Vec<String>);

impl Row {
    fn of(line: &str) -> Self {
        let found = ATHENA.captures(line).unwrap_or_else(|| panic!("Athena reads no row: {line}"));
        Self(found.iter().skip(1).map(|it| it.map_or("", |it| it.as_str()).to_owned()).collect())
    }

    #[track_caller]
    fn check(&self, expected: &[(&str, &str)]) {
        for (column, value) in expected {
            assert_eq!(self.get(column), *value, "{column} of {:?}", self.0);
        }
    }

    fn get(&self, column: &str) -> &str {
        &self.0[COLUMNS.iter().position(|name| *name == column).unwrap()]
    }

    /// The part of the line that the expression puts into its last column.
    fn rest(&self) -> &str {
        self.0.last().unwrap()
    }
}

/// A group `app` of one target behind a rule of its own, with the access log in this format.
fn world(origin: &Origin, format: &str, listener: &str) -> World {
    World::of_text(&format!(
        "[runtime]\nworkers = 1\nstate_dir = \"state\"\n\
         [log]\naccess = {{ to = \"access.log\", format = \"{format}\" }}\n\
         [listener.web]\naddress = \"127.0.0.1:0\"\n\
         default = {{ respond = {{ status = 403, body = \"no\" }} }}\n{listener}\n\
         [[rule]]\nname = \"gone\"\npaths = [\"/gone\"]\nrespond = {{ status = 410 }}\n\
         [[rule]]\nname = \"old\"\npaths = [\"/old*\"]\n\
         redirect = {{ host = \"new.example\", port = 8443, status = 301 }}\n\
         [[rule]]\nname = \"api\"\npaths = [\"/api/*\"]\nforward = \"app\"\n\
         rewrite = {{ path = {{ regex = \"^/api/(.*)$\", replace = \"/v2/$1\" }} }}\n\
         [[rule]]\nname = \"app\"\npaths = [\"/app*\"]\nforward = \"app\"\n\
         [target_group.app]\ntargets = [\"{}\"]\n\
         health = {{ protocol = \"tcp\", interval = \"300s\", fast_interval = \"300s\" }}\n",
        origin.address()
    ))
}

#[test]
fn athena_reads_client_request_and_target_of_each_row() {
    let origin = Origin::named("a");
    let world = world(&origin, "alb", "");
    let mut visitor = Visitor::of(world.address());
    let agent = format!("User-Agent: {}", "x".repeat(9_000));
    assert_eq!(visitor.ask("POST", "/app/\"1\"?a=b", &[&agent], "x").status, 200);
    assert_eq!(visitor.get("/app/second").status, 200);
    let peer = visitor.stream().local_addr().unwrap();
    let row = Row::of(&world.line(|line| line.contains("?a=b")));
    let trace = origin.heard()[0].field("x-amzn-trace-id").unwrap();
    let host = origin.heard()[0].field("host").unwrap();
    row.check(&[
        ("type", "http"),
        ("client_ip", "127.0.0.1"),
        ("client_port", &peer.port().to_string()),
        ("target_ip", "127.0.0.1"),
        ("target_port", &origin.address().port().to_string()),
        ("response_processing_time", "0.000"),
        ("elb_status_code", "200"),
        ("target_status_code", "200"),
        ("request_verb", "POST"),
        ("request_proto", "HTTP/1.1"),
        ("user_agent", &"x".repeat(8_192)),
        ("ssl_cipher", "-"),
        ("trace_id", &trace),
        ("matched_rule_priority", "4"),
        ("actions_executed", "forward"),
        ("redirect_url", "-"),
        ("error_reason", "-"),
        ("target_port_list", &origin.address().to_string()),
        ("target_status_code_list", "200"),
        ("classification", "-"),
    ]);
    let host = match host.contains(':') {
        true => host,
        false => format!("{host}:{}", world.address().port()),
    };
    assert_eq!(row.get("request_url"), format!(r"http://{host}/app/\x221\x22?a=b"));
    assert!(row.get("elb").starts_with("app/web/") && row.get("elb").len() == 8 + 16);
    let group = row.get("target_group_arn");
    assert!(group.starts_with("targetgroup/app/") && group.len() == 16 + 16, "{group}");
    assert!(row.get("request_creation_time") <= row.get("time"));
    assert!(row.get("received_bytes").parse::<u64>().unwrap() > 9_000);
    assert_eq!(row.rest(), " \"-\" \"-\" \"-\" 127.0.0.1");
    let next = Row::of(&world.line(|line| line.contains("/app/second")));
    let connection = row.get("conn_trace_id");
    assert!(connection.starts_with("TID_") && connection.len() == 4 + 32, "{connection}");
    assert_eq!(next.get("conn_trace_id"), connection, "one connection has one id");
    Visitor::of(world.address()).get("/app/third");
    let other = Row::of(&world.line(|line| line.contains("/app/third")));
    assert_ne!(other.get("conn_trace_id"), connection, "another connection has another");
}

#[test]
fn responses_of_the_balancer_are_logged_with_action_and_rule() {
    let origin = Origin::named("a");
    let world = world(&origin, "alb", "");
    for (path, status, rule) in [("/gone", 410, "1"), ("/nowhere", 403, "0")] {
        assert_eq!(Visitor::of(world.address()).get(path).status, status);
        Row::of(&world.line(|line| line.contains(path))).check(&[
            ("target_ip", ""),
            ("request_processing_time", "-1"),
            ("target_processing_time", "-1"),
            ("response_processing_time", "-1"),
            ("elb_status_code", &status.to_string()),
            ("target_status_code", "-"),
            ("target_group_arn", "-"),
            ("matched_rule_priority", rule),
            ("actions_executed", "fixed-response"),
            ("target_port_list", "-"),
            ("target_status_code_list", "-"),
        ]);
    }
}

#[test]
fn redirects_and_rewrites_are_logged_in_their_fields() {
    let origin = Origin::named("a");
    let world = world(&origin, "alb", "");
    let answer = Visitor::of(world.address()).get("/old/page?a=b");
    let location = answer.field("location").unwrap();
    Row::of(&world.line(|line| line.contains("/old/page"))).check(&[
        ("elb_status_code", "301"),
        ("matched_rule_priority", "2"),
        ("actions_executed", "redirect"),
        ("redirect_url", location),
        ("target_ip", ""),
    ]);
    assert_eq!(Visitor::of(world.address()).get("/api/cart").status, 200);
    assert_eq!(origin.heard()[0].path(), "/v2/cart");
    let row = Row::of(&world.line(|line| line.contains("/api/cart")));
    assert!(row.get("request_url").ends_with("/api/cart"), "as the client sent it");
    assert_eq!(row.rest(), " \"-\" \"/v2/cart\" \"TransformSuccess\" 127.0.0.1");
}

#[test]
fn an_ambiguous_request_is_logged_with_its_class() {
    let origin = Origin::named("a");
    let world = world(&origin, "alb", "");
    assert_eq!(Visitor::of(world.address()).ask("GET", "/app/body", &[], "x").status, 200);
    Row::of(&world.line(|line| line.contains("/app/body"))).check(&[
        ("classification", "Ambiguous"),
        ("classification_reason", "UndefinedContentLengthSemantics"),
    ]);
}

#[test]
fn a_request_refused_for_its_head_is_logged_without_a_rule() {
    let origin = Origin::named("a");
    let world = world(&origin, "alb", "");
    let loops = format!("X-Forwarded-For: {}", ["192.0.2.1"; 31].join(", "));
    let mut visitor = Visitor::of(world.address());
    visitor.send("GET /two-hosts HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(visitor.read_answer(false).status, 400);
    Row::of(&world.line(|line| line.contains("/two-hosts"))).check(&[
        ("elb_status_code", "400"),
        ("matched_rule_priority", "-"),
        ("actions_executed", "-"),
        ("request_verb", "GET"),
        ("error_reason", "-"),
    ]);
    // The log has ALB's own status; the client gets another.
    assert_eq!(Visitor::of(world.address()).ask("GET", "/app/loop", &[&loops], "").status, 400);
    let row = Row::of(&world.line(|line| line.contains("/app/loop")));
    row.check(&[("elb_status_code", "463"), ("target_ip", "")]);
}

#[test]
fn a_head_that_is_not_http_is_logged_without_a_request() {
    let origin = Origin::named("a");
    let world = world(&origin, "alb", "timeouts = { header_read = \"1s\" }");
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    // The row names the target as far as the request was parsed.
    for (sent, status, target) in [
        ("nonsense\r\n\r\n", "400", "-"),
        (long.as_str(), "431", "/"),
        ("GET /late HT", "408", "/late"),
    ] {
        let mut visitor = Visitor::of(world.address());
        visitor.send(sent);
        let port = visitor.stream().local_addr().unwrap().port();
        let peer = format!(" 127.0.0.1:{port} ");
        let row = Row::of(&world.line(|line| line.contains(&peer)));
        let url = format!("http://{}{target}", world.address());
        row.check(&[
            ("elb_status_code", status),
            ("request_verb", "-"),
            ("request_url", &url),
            ("request_proto", "-"),
            ("user_agent", "-"),
            ("matched_rule_priority", "-"),
        ]);
        assert_ne!(row.get("sent_bytes"), "0", "the answer to {status} is counted");
    }
}

#[test]
fn a_client_that_leaves_is_logged_as_460_with_its_target() {
    let origin = Origin::scripted(|_, stream| {
        let _ = stream.read(&mut [0; 1]);
        Then::Close
    });
    let world = world(&origin, "alb", "");
    let mut visitor = Visitor::of(world.address());
    visitor.send("GET /app/left HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is with the target", || origin.heard().first().cloned());
    visitor.leave();
    let row = Row::of(&world.line(|line| line.contains("/app/left")));
    row.check(&[
        ("elb_status_code", "460"),
        ("target_status_code", "-"),
        ("target_port", &origin.address().port().to_string()),
        ("target_processing_time", "-1"),
        ("response_processing_time", "-1"),
    ]);
    assert_ne!(row.get("request_processing_time"), "-1", "it was dispatched");
}

#[test]
fn a_client_that_sends_request_and_fin_together_is_logged() {
    let origin = Origin::named("a");
    let world = world(&origin, "alb", "");
    for nth in 0..100 {
        for host in ["", "Host: b\r\n"] {
            let mut visitor = Visitor::of(world.address());
            visitor.send(&format!("GET /hasty/{nth}/ HTTP/1.1\r\nHost: a\r\n{host}\r\n"));
            visitor.leave();
        }
    }
    let rows = world.lines(200, |line| line.contains("/hasty/"));
    for row in rows.iter().map(|line| Row::of(line)) {
        // A client that got no response is logged as one that left (460).
        assert!(["403", "400", "460"].contains(&row.get("elb_status_code")));
    }
}

#[test]
fn only_a_target_that_got_the_request_has_times_in_the_log() {
    for (origin, dispatched) in
        [(Origin::refusing(), false), (Origin::saying("", Then::Close), true)]
    {
        let world = world(&origin, "alb", "");
        assert_eq!(Visitor::of(world.address()).ask("POST", "/app", &[], "x").status, 502);
        let row = Row::of(&world.line(|line| line.contains("/app")));
        row.check(&[
            ("elb_status_code", "502"),
            ("target_status_code", "-"),
            ("response_processing_time", "-1"),
            ("error_reason", "-"),
        ]);
        for time in ["request_processing_time", "target_processing_time"] {
            assert_eq!(row.get(time) != "-1", dispatched, "{time}");
        }
    }
}

#[test]
fn a_tunnel_is_one_row_of_type_ws_written_at_its_end() {
    let origin = Origin::scripted(|_, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        let _ = stream.read(&mut [0; 1]);
        Then::Close
    });
    let world = world(&origin, "alb", "");
    let mut visitor = Visitor::of(world.address());
    visitor.send("GET /app/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n");
    assert_eq!(visitor.read_answer(false).status, 101);
    Visitor::of(world.address()).get("/gone");
    let first = world.line(|_| true);
    assert!(first.contains("/gone"), "an open tunnel is not logged yet: {first}");
    visitor.leave();
    let row = Row::of(&world.line(|line| line.contains("/app/ws")));
    row.check(&[
        ("type", "ws"),
        ("elb_status_code", "101"),
        ("target_status_code", "101"),
        ("response_processing_time", "0.000"),
    ]);
    assert!(row.get("request_url").starts_with("http://a:"));
}

#[test]
fn combined_has_the_referer_and_the_client_that_a_trusted_proxy_names() {
    let origin = Origin::named("a");
    let world = world(&origin, "combined", "trusted_proxies = [\"127.0.0.1\"]");
    let fields = [
        "Referer: https://shop.example/\"x\"\\",
        "User-Agent: curl/8",
        "X-Forwarded-For: 192.0.2.7",
    ];
    assert_eq!(Visitor::of(world.address()).ask("GET", "/app/page", &fields, "").status, 200);
    let line = world.line(|line| line.contains("/app/page"));
    let begins =
        Regex::new(r"^192\.0\.2\.7 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] ");
    assert!(begins.unwrap().is_match(&line), "{line}");
    assert!(line.contains(r#"] "GET /app/page HTTP/1.1" 200 "#), "{line}");
    assert!(line.ends_with(r#" "https://shop.example/\"x\"\\" "curl/8""#), "{line}");
}
