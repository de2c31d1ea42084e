//! `stayput explain`: explains the target of a request, by the function that decides for traffic.

use super::terminal::data;
use super::{ConfigArgument, Failed, cookie, cookie_jar, read_config, words};
use crate::base::calendar::days_since_1970;
use crate::base::clock::Moment;
use crate::config::settings::Algorithm;
use crate::decide::Request;
use crate::decide::explanation::{
    AssumedState, Choice, Explained, Explanation, Forwarded, explain as explained,
};
use crate::http1::fields::Fields;
use crate::http1::name::Name;
use crate::http1::request;
use crate::model::snapshot::{Group, Snapshot, Target};
use crate::policy::headers::forwarded;
use crate::policy::headers::head::{Authority, RejectReason};
use crate::policy::headers::request_check::RequestCheck;
use crate::policy::routing::conditions::Subject;
use crate::policy::routing::redirect::Original;
use crate::policy::routing::rewrite::Rewrite;
use crate::proxy::failure::Failure;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Uri, Version};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// URL of the request, for example http://127.0.0.1:8080/cart.
    url: Uri,
    /// Cookies of the request, as `a=b; c=d`.
    #[arg(long)]
    cookie: Option<String>,
    /// Cookie jar file in curl's format.
    #[arg(long, value_name = "FILE", conflicts_with = "cookie")]
    cookie_jar: Option<PathBuf>,
    /// Request method.
    #[arg(short = 'X', long = "request", default_value = "GET", value_name = "METHOD")]
    method: Method,
    /// Header field, as `name: value`; repeatable.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// IP address of the client.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    from: IpAddr,
    /// Time of the request: Unix seconds, or `2026-11-21T12:00:00Z` [default: now].
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Assume that this target is down, as GROUP/TARGET; repeatable.
    #[arg(long, value_name = "G/T")]
    down: Vec<String>,
    /// Assume that this target is suspect, as GROUP/TARGET: traffic connections fail, health checks
    /// pass; repeatable.
    #[arg(long, value_name = "G/T")]
    suspect: Vec<String>,
    /// Assume that this target is down, as GROUP/TARGET, in a group that recovers from an outage;
    /// repeatable.
    #[arg(long, value_name = "G/T")]
    recovering: Vec<String>,
    /// Assume that this target is draining, as GROUP/TARGET; repeatable.
    #[arg(long, value_name = "G/T")]
    drain: Vec<String>,
    /// Output format.
    #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
    output: String,
}

pub(super) fn explain(arguments: &Arguments) -> Result<ExitCode, Failed> {
    let loaded = read_config(&arguments.config.config)?;
    let snapshot = cookie::build_snapshot(&loaded)?;
    let now = match &arguments.at {
        None => Moment::now().unix_seconds(),
        Some(text) => time(text).ok_or_else(|| {
            Failed(format!(
                "stayput: `{text}` is not a time; write seconds since 1970, or 2026-11-21T12:00:00Z"
            ))
        })?,
    };
    let listener = listener(&snapshot, &arguments.url)?;
    let mut head = head(arguments, now)?;
    let settings = &snapshot.listeners[listener].settings;
    let (mitigation, drop_invalid) = (settings.desync_mitigation, settings.drop_invalid_headers);
    let check = RequestCheck::of(&mut head, mitigation, drop_invalid);
    let authority = match check.admit(&head) {
        Ok(authority) => authority,
        Err(refusal) => {
            refused(&Failure::Head(refusal), &snapshot, listener, arguments);
            return Ok(ExitCode::SUCCESS);
        }
    };
    let trusted = &snapshot.listeners[listener].settings.trusted_proxies;
    let request = Request {
        listener,
        subject: Subject {
            host: authority.host(),
            path: head.path(),
            query: head.query(),
            method: head.method.as_str(),
            headers: &head.fields,
            address: forwarded::client_address(arguments.from, trusted, &head.fields),
        },
    };
    let world = AssumedState::of(&snapshot, &arguments.down, &arguments.drain);
    let Arguments { suspect, recovering, .. } = arguments;
    let world = world.and_then(|world| world.doubting(&snapshot, suspect, recovering));
    let world =
        world.map_err(|name| Failed(format!("stayput: no target `{name}`; write GROUP/TARGET")))?;
    let explanation = explained(&request, &snapshot, &world, now);
    let said = trusted.contains(arguments.from).then(|| forwarded::says_tls(&head.fields));
    let said = said.flatten();
    let is_tls = said.unwrap_or(snapshot.listeners[listener].settings.tls.is_some());
    let url = url_for(&explanation, &snapshot, &request, &authority, &head, is_tls);
    if arguments.output == "json" {
        data(&as_json(&snapshot, &request, &explanation, &url, arguments).to_string());
    } else {
        for line in as_table(&snapshot, &request, &explanation, &url, arguments) {
            data(&line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Changes to the client's URL.
enum Url {
    Kept,
    /// A redirect with this status and location.
    Redirected(u16, String),
    /// A rewrite to this host and this path with query, if they differ.
    Rewritten(Option<String>, Option<String>),
    Failed(Failure),
}

fn url_for(
    explanation: &Explanation,
    snapshot: &Snapshot,
    request: &Request<'_>,
    authority: &Authority<'_>,
    head: &request::Request,
    is_tls: bool,
) -> Url {
    let rewrite = explanation.rule.and_then(|at| snapshot.rules[at].settings.rewrite.as_ref());
    match (&explanation.action, rewrite) {
        (Explained::Redirect(redirect), _) => {
            let Subject { host, path, query, .. } = request.subject;
            let original = Original { is_tls, host, port: authority.port(), path, query };
            match redirect.location(&original) {
                Ok(url) => Url::Redirected(redirect.status(request.subject.method), url),
                Err(fault) => Url::Failed(Failure::Redirect(fault)),
            }
        }
        (Explained::Forward(_) | Explained::ByWeight(_), rewrite) => {
            match rewrite.map(|rewrite| rewritten(rewrite, authority, head)) {
                Some(Url::Failed(failure)) => Url::Failed(failure),
                _ if forwarded::is_loop(request.subject.headers) => {
                    Url::Failed(Failure::Head(RejectReason::ForwardingLoop))
                }
                rewritten => rewritten.unwrap_or(Url::Kept),
            }
        }
        _ => Url::Kept,
    }
}

fn rewritten(rewrite: &Rewrite, authority: &Authority<'_>, head: &request::Request) -> Url {
    match (rewrite.host(authority), rewrite.path(&head.origin_form())) {
        (Ok(host), Ok(target)) => Url::Rewritten(host, target.map(|target| target.to_string())),
        _ => Url::Failed(Failure::Rewrite),
    }
}

/// The listener that the URL reaches: the one on its port, or the only one.
fn listener(snapshot: &Snapshot, url: &Uri) -> Result<usize, Failed> {
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let on_port = snapshot.listeners.iter().position(|listener| {
        listener.settings.addresses.iter().any(|address| address.port() == port)
    });
    match (on_port, snapshot.listeners.len()) {
        (Some(at), _) => Ok(at),
        (None, 1) => Ok(0),
        (None, _) => Err(Failed(format!(
            "stayput: no listener on port {port}; use a port of the configuration file"
        ))),
    }
}

/// Builds the request head as a client would: path and query from the URL in the request line, its
/// authority in Host unless `-H` sets one.
fn head(arguments: &Arguments, now: u64) -> Result<request::Request, Failed> {
    let url = &arguments.url;
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let rooted = format!("/{target}");
    let target = if target.starts_with('?') { &rooted } else { target };
    let mut head = request::Request::new(arguments.method.clone(), target, Version::HTTP_11);
    add_fields(&mut head.fields, arguments, now)?;
    Ok(head)
}

fn add_fields(fields: &mut Fields, arguments: &Arguments, now: u64) -> Result<(), Failed> {
    for field in &arguments.headers {
        let parts = field.split_once(':').and_then(|(name, value)| {
            Some((
                name.trim().parse::<HeaderName>().ok()?,
                HeaderValue::from_str(value.trim()).ok()?,
            ))
        });
        let Some((name, value)) = parts else {
            return Err(Failed(format!(
                "stayput: `{field}` is not a header field; write `name: value`"
            )));
        };
        fields.append_named(name.as_str(), value.as_bytes());
    }
    if let (false, Some(host)) = (fields.has(Name::Host), arguments.url.host()) {
        let text = match arguments.url.port_u16() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        fields.append(Name::Host, text.as_bytes());
    }
    let cookies = match (&arguments.cookie, &arguments.cookie_jar) {
        (Some(cookies), _) => cookies.clone(),
        (None, Some(path)) => cookie_jar::cookies(path, &arguments.url, now)?,
        (None, None) => String::new(),
    };
    if !cookies.is_empty() {
        let value = HeaderValue::from_str(&cookies).map_err(|_| {
            Failed(
                "stayput: the cookies contain characters that are not allowed in a header"
                    .to_owned(),
            )
        })?;
        fields.append(Name::Cookie, value.as_bytes());
    }
    Ok(())
}

/// Parses a time to seconds since 1970.
fn time(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let datetime: toml::value::Datetime = text.parse().ok()?;
    let (date, time, offset) = (datetime.date?, datetime.time?, datetime.offset?);
    let minutes = match offset {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_1970(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let clock = i64::from(time.hour) * 3_600 + i64::from(time.minute) * 60;
    let seconds = days * 86_400 + clock + i64::from(time.second.unwrap_or(0)) - minutes * 60;
    u64::try_from(seconds).ok()
}

fn assumption(arguments: &Arguments) -> String {
    let mut text = "assumed: every target healthy".to_owned();
    for (names, what) in [
        (&arguments.down, "down"),
        (&arguments.suspect, "suspect"),
        (&arguments.recovering, "down and recovering"),
        (&arguments.drain, "draining"),
    ] {
        if !names.is_empty() {
            text.push_str(&format!(", {} {what}", names.join(", ")));
        }
    }
    text + "; explain does not query the running balancer"
}

fn rule_name(snapshot: &Snapshot, rule: Option<usize>) -> &str {
    rule.map_or("default", |at| snapshot.rules[at].settings.name.as_str())
}

/// Prints why the request's head is refused before it reaches a target.
fn refused(failure: &Failure, snapshot: &Snapshot, listener: usize, arguments: &Arguments) {
    let (status, why) = (failure.logged_status(), failure.word());
    let listener = snapshot.listeners[listener].settings.name.as_str();
    if arguments.output == "json" {
        let object =
            json!({ "listener": listener, "action": "refuse", "status": status, "why": why });
        data(&object.to_string());
        return;
    }
    data(&request_line(arguments));
    data(&format!("listener  {listener}"));
    data(&format!("answer    {status} from the balancer: {why}"));
}

fn request_line(arguments: &Arguments) -> String {
    format!("request   {} {} from {}", arguments.method, arguments.url, arguments.from)
}

fn as_table(
    snapshot: &Snapshot,
    request: &Request<'_>,
    explanation: &Explanation,
    url: &Url,
    arguments: &Arguments,
) -> Vec<String> {
    let listener = &snapshot.listeners[request.listener].settings;
    let mut lines = vec![
        assumption(arguments),
        request_line(arguments),
        format!("listener  {}", listener.name),
    ];
    if request.subject.address != arguments.from {
        lines.push(format!("client    {}, named by a trusted proxy", request.subject.address));
    }
    for passed in &explanation.passed {
        let name = rule_name(snapshot, Some(passed.rule));
        lines.push(format!("skipped   {name}: `{}` does not match", passed.unmet));
    }
    lines.push(format!("rule      {}", rule_name(snapshot, explanation.rule)));
    match url {
        Url::Kept => {}
        Url::Redirected(status, url) => lines.push(format!("answer    {status} to {url}")),
        Url::Rewritten(host, target) => {
            lines.extend(host.iter().map(|host| format!("rewritten Host: {host}")));
            lines.extend(target.iter().map(|target| format!("rewritten {target}")));
        }
        Url::Failed(failure) => {
            let (status, why) = (failure.logged_status(), failure.word());
            lines.push(format!("answer    {status} from the balancer: {why}"));
            return lines;
        }
    }
    if let Some(verdict) = explanation.group_verdict {
        lines.push(format!("groups    {verdict}: {}", verdict.sentence()));
    }
    if let Some(group) = explanation.pinned_group {
        lines.push(format!("pinned    to group {}", snapshot.groups[group].name()));
    }
    match &explanation.action {
        Explained::Respond(status) => lines.push(format!("answer    {status} from the balancer")),
        Explained::Redirect(_) => {}
        Explained::NoRule => {
            lines.push("answer    404: no rule matches and the listener has no default".to_owned())
        }
        Explained::NoShare => {
            lines.push("answer    503: all groups of the rule have weight 0".to_owned())
        }
        Explained::Forward(forwarded) => lines.extend(forwarded_lines(snapshot, forwarded, "")),
        Explained::ByWeight(each) => {
            let total: u32 = each.iter().map(|(weight, _)| u32::from(*weight)).sum();
            for (weight, forwarded) in each {
                let percent = f64::from(*weight) * 100.0 / f64::from(total.max(1));
                let chance = format!("  {percent:.1} %");
                lines.extend(forwarded_lines(snapshot, forwarded, &chance));
            }
        }
    }
    lines
}

fn forwarded_lines(snapshot: &Snapshot, forwarded: &Forwarded, chance: &str) -> Vec<String> {
    let Forwarded { group, verdict, pinned, fails_open, choice } = forwarded;
    let group = &snapshot.groups[*group];
    let mut lines = vec![
        format!("group     {}{chance}", group.name()),
        format!("sticky    {}", words::stickiness_key(group)),
        format!("verdict   {verdict}: {}", words::sentence(group, *verdict)),
    ];
    if *fails_open {
        lines.push("health    ignored: too few targets are healthy (fail_open)".to_owned());
    }
    if let Some(pinned) = pinned {
        lines.push(format!("pinned    {}", placed(&group.targets[*pinned])));
    }
    lines.push(match choice {
        Choice::NoTarget => "target    none: 503".to_owned(),
        Choice::One(at) => format!("target    {}", placed(&group.targets[*at])),
        Choice::OneOf(list) => format!("target    {}", shares(group, list)),
    });
    lines
}

fn placed(target: &Target) -> String {
    let scheme = if target.state.tls().is_some() { "https://" } else { "" };
    match target.address {
        Some(address) if !scheme.is_empty() || address.to_string() != target.id.as_str() => {
            format!("{}  {scheme}{address}", target.id)
        }
        _ => target.id.to_string(),
    }
}

fn shares(group: &Group, list: &[(usize, Option<f64>)]) -> String {
    let share = |(at, chance): &(usize, Option<f64>)| {
        let id = &group.targets[*at].id;
        chance.map_or(id.to_string(), |chance| format!("{id} {:.1} %", chance * 100.0))
    };
    let list = list.iter().map(share).collect::<Vec<_>>().join(", ");
    match group.settings.algorithm {
        Algorithm::RoundRobin | Algorithm::WeightedRandom => format!("one of {list}"),
        Algorithm::LeastOutstandingRequests => {
            format!("fewest requests in flight by weight, of {list}")
        }
        Algorithm::LeastSessions => {
            format!("fewest sessions by weight, of {list}")
        }
    }
}

fn as_json(
    snapshot: &Snapshot,
    request: &Request<'_>,
    explanation: &Explanation,
    url: &Url,
    arguments: &Arguments,
) -> Value {
    let passed = explanation.passed.iter().map(
        |passed| json!({ "rule": rule_name(snapshot, Some(passed.rule)), "unmet": passed.unmet }),
    );
    let mut object = json!({
        "world": assumption(arguments),
        "listener": snapshot.listeners[request.listener].settings.name.as_str(),
        "client": request.subject.address.to_string(),
        "passed": passed.collect::<Vec<_>>(),
        "rule": rule_name(snapshot, explanation.rule),
    });
    let more = match &explanation.action {
        _ if matches!(url, Url::Failed(_)) => json!({}),
        Explained::Respond(status) => json!({ "action": "respond", "status": status }),
        Explained::Redirect(_) => json!({ "action": "redirect" }),
        Explained::NoRule => json!({ "action": "no_rule", "status": 404 }),
        Explained::NoShare => json!({ "action": "no_share", "status": 503 }),
        Explained::Forward(forwarded) => forwarded_json(snapshot, forwarded),
        Explained::ByWeight(each) => {
            let groups: Vec<Value> = each
                .iter()
                .map(|(weight, forwarded)| {
                    let mut object = forwarded_json(snapshot, forwarded);
                    object["weight"] = (*weight).into();
                    object
                })
                .collect();
            json!({ "action": "forward", "one_of": groups })
        }
    };
    if let Some(verdict) = explanation.group_verdict {
        object["group_verdict"] = verdict.word().into();
        object["group_why"] = verdict.sentence().into();
        let pinned = explanation.pinned_group.map(|group| snapshot.groups[group].name());
        object["pinned_group"] = pinned.into();
    }
    let of_url = match url {
        Url::Kept => json!({}),
        Url::Redirected(status, url) => json!({ "status": status, "location": url }),
        Url::Rewritten(host, target) => {
            json!({ "transformed_host": host, "transformed_uri": target })
        }
        Url::Failed(failure) => json!({
            "action": "refuse", "status": failure.logged_status(), "why": failure.word()
        }),
    };
    for part in [more, of_url] {
        if let (Value::Object(object), Value::Object(part)) = (&mut object, part) {
            object.extend(part);
        }
    }
    object
}

fn forwarded_json(snapshot: &Snapshot, forwarded: &Forwarded) -> Value {
    let Forwarded { group, verdict, pinned, fails_open, choice } = forwarded;
    let group = &snapshot.groups[*group];
    let id = |at: usize| group.targets[at].id.as_str();
    let candidate = |(at, share): &(usize, Option<f64>)| {
        let weight = group.targets[*at].weight;
        json!({ "target": id(*at), "weight": weight, "share": share })
    };
    let candidates: Vec<Value> = match choice {
        Choice::OneOf(list) => list.iter().map(candidate).collect(),
        Choice::NoTarget | Choice::One(_) => Vec::new(),
    };
    json!({
        "action": "forward",
        "group": group.name(),
        "stickiness": words::stickiness_key(group),
        "verdict": verdict.word(),
        "why": words::sentence(group, *verdict),
        "fails_open": fails_open,
        "pinned": pinned.map(id),
        "target": match choice { Choice::One(at) => Some(id(*at)), _ => None },
        "candidates": candidates,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_seconds_or_a_date_with_its_offset() {
        assert_eq!(time("1800000000"), Some(1_800_000_000));
        assert_eq!(time("2027-01-15T08:00:00Z"), Some(1_800_000_000));
        assert_eq!(time("2027-01-15T09:00:00+01:00"), Some(1_800_000_000));
        assert_eq!(time("1970-01-01T00:00:00Z"), Some(0));
        for bad in ["", "yesterday", "2027-01-15", "1969-12-31T23:59:59Z"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }
}
