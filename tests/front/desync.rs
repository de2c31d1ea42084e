//! Requests of AWS's own classifier against the program in each desync mode: Stayput is never less
//! strict than ALB, by the class that the classifier gives to the same bytes.

use super::balancer::{Balancer, CONFIGS};
use super::cases::{Case, Group, Step};
use super::outcome::Outcome;
use http_desync_guardian::request_analyzer::HttpRequestData;
use http_desync_guardian::{ClassificationReason as Reason, RequestSafetyTier as Tier};
use std::collections::BTreeSet;

/// The bytes behind a text with escapes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let taken = match rest.as_bytes()[at + 1] {
            b'x' => {
                bytes.push(u8::from_str_radix(&rest[at + 2..at + 4], 16).unwrap());
                4
            }
            letter => {
                bytes.push(match letter {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'\\' => b'\\',
                    _ => panic!("{text}"),
                });
                2
            }
        };
        rest = &rest[at + taken..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The head with a Host, which the classifier ignores and without which every request is refused,
/// and a body that ends where one of its readers may see the end.
fn whole(head: &str) -> Vec<u8> {
    let mut bytes = unescaped(head);
    let lower = head.to_ascii_lowercase();
    if !lower.contains("\\nhost:") {
        let at = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let line_end: &[u8] = if bytes[..at].ends_with(b"\r\n") { b"\r\n" } else { b"\n" };
        let host = [b"Host: shop.example", line_end].concat();
        bytes.splice(at..at, host);
    }
    bytes
}

fn body(head: &str) -> Vec<u8> {
    let lower = head.to_ascii_lowercase();
    if lower.contains("chunked") {
        return b"5\r\nhello\r\n0\r\n\r\n".to_vec();
    }
    let Some((_, rest)) = lower.split_once("content-length") else { return Vec::new() };
    let digits: String = rest
        .chars()
        .skip_while(|byte| !byte.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    vec![b'a'; digits.parse().unwrap_or(0).min(20_000)]
}

/// The treatment of a request; in the order of strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Met {
    Forwarded,
    ForwardedAndClosed,
    Refused,
}

fn met(outcome: &Outcome) -> Met {
    if outcome.requests() == 0 {
        return Met::Refused;
    }
    // Both connections, as ALB closes them after an ambiguous request.
    let is_closed = outcome.all("end").all(|end| end == "closed")
        && outcome.all("targets").any(|targets| targets == "1 closed");
    if is_closed { Met::ForwardedAndClosed } else { Met::Forwarded }
}

/// AWS, "Desync mitigation modes": the minimum that ALB does in a mode with a request of a class.
fn least(mode: &str, tier: Tier) -> Met {
    match (mode, tier) {
        (_, Tier::Compliant) | ("monitor", _) | ("defensive", Tier::Acceptable) => Met::Forwarded,
        ("defensive", Tier::Ambiguous) => Met::ForwardedAndClosed,
        _ => Met::Refused,
    }
}

/// True for faults with which a request cannot be written as one message of RFC 9112: refused in
/// every mode, although ALB's `monitor` forwards.
fn is_unwritable(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::MissingUri
            | Reason::MissingHeaderColon
            | Reason::PartialHeaderLine
            | Reason::MultipleTransferEncodingChunked
            | Reason::BadMethod
            | Reason::BadVersion
    )
}

#[test]
fn no_request_is_classed_less_strictly_than_by_alb() {
    let cases: Vec<(&str, &str)> = include_str!("desync.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('\t').expect("a name and a head"))
        .collect();
    let theirs = cases.iter().filter(|(name, _)| !name.starts_with("own/")).count();
    assert_eq!(theirs, 159);
    let mut laxer = BTreeSet::new();
    let mut table = String::new();
    let mut refused = 0;
    for mode in ["strictest", "defensive", "monitor"] {
        let config = CONFIGS.iter().find(|config| config.name == mode).unwrap();
        let balancer = Balancer::start(config, 1);
        let mut lane = balancer.lanes().remove(0);
        for (name, head) in &cases {
            let head_bytes = whole(head);
            let verdict = HttpRequestData::analyze_raw_request(&head_bytes);
            let bytes = [&head_bytes[..], &body(head)].concat();
            let case = Case {
                name: (*name).to_owned(),
                group: Group::Framing,
                steps: vec![Step::Send(bytes)],
                mark: None,
            };
            let outcome = lane.run(&case);
            let met = met(&outcome);
            refused += usize::from(met == Met::Refused);
            let least = if is_unwritable(verdict.reason) {
                Met::Refused
            } else {
                least(mode, verdict.tier)
            };
            // A refused request has one response, and no target has seen it: without this check, a
            // request that only stalls would count as refused.
            if met == Met::Refused {
                let statuses = outcome.statuses();
                assert!(
                    matches!(statuses[..], [400 | 405 | 431 | 501 | 505]),
                    "{mode} {name}: {statuses:?} {head}"
                );
            }
            if met < least {
                laxer.insert(format!("{mode} {name}"));
                table.push_str(&format!(
                    "{mode:9} {name:28} {:?} {:?}: {met:?}, ALB {least:?}: {head}\n",
                    verdict.tier, verdict.reason
                ));
            }
        }
    }
    assert!(refused > 100, "{refused} were refused");
    eprintln!("{table}");
    let known: BTreeSet<String> = include_str!("laxer.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(str::to_owned)
        .collect();
    let new: Vec<_> = laxer.difference(&known).collect();
    let gone: Vec<_> = known.difference(&laxer).collect();
    assert!(new.is_empty(), "laxer than ALB and not in laxer.txt:\n{new:#?}\n{table}");
    assert!(gone.is_empty(), "no longer laxer; take out of laxer.txt:\n{gone:#?}");
}
