//! The corpus: named raw requests, made from tables and in a fixed order.

mod bytes;
mod cookies;
mod cuts;
mod fields;
mod framing;
mod lines;
mod pipelines;

use std::collections::HashSet;

/// The subject of a case; configurations choose by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Methods, targets, versions.
    Lines,
    Fields,
    Hosts,
    /// Lengths, codings, chunks.
    Framing,
    /// Each byte at each position.
    Bytes,
    Cookies,
    Pipelines,
    /// Kinds of responses of targets.
    Answers,
    /// Requests that end or stop at every byte.
    Cuts,
}

#[derive(Clone, Debug)]
pub enum Step {
    /// Bytes of the client.
    Send(Vec<u8>),
    /// Waits until all effects of the bytes sent so far have arrived.
    Settle,
    /// Lets the balancer read the bytes sent so far before more come.
    Pause,
    /// The client shuts down its sending side.
    HalfClose,
    /// The client closes and reads nothing more.
    Close,
}

#[derive(Clone, Debug)]
pub struct Case {
    /// `group/name`, with a number at the end if there are many similar cases.
    pub name: String,
    pub group: Group,
    pub steps: Vec<Step>,
    /// The byte under test between its neighbours.
    pub mark: Option<[u8; 3]>,
}

impl Case {
    /// All bytes of the client.
    pub fn sent(&self) -> Vec<u8> {
        let sent = self.steps.iter().filter_map(|step| match step {
            Step::Send(bytes) => Some(&bytes[..]),
            _ => None,
        });
        sent.collect::<Vec<_>>().concat()
    }
}

/// Collects cases of one group.
pub struct Table {
    group: Group,
    cases: Vec<Case>,
}

impl Table {
    fn of(group: Group) -> Self {
        Self { group, cases: Vec::new() }
    }

    fn add(&mut self, name: impl Into<String>, steps: Vec<Step>) {
        self.cases.push(Case { name: name.into(), group: self.group, steps, mark: None });
    }

    /// All bytes at once; the connection stays open.
    fn raw(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.add(name, vec![Step::Send(bytes.into())]);
    }

    /// All bytes at once, and a second request after their effects: it shows where the first one
    /// ended.
    fn followed(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.add(
            name,
            vec![
                Step::Send(bytes.into()),
                Step::Settle,
                Step::Send(b"GET /next HTTP/1.1\r\nHost: shop.example\r\n\r\n".to_vec()),
            ],
        );
    }
}

/// A request with the usual Host.
pub fn request(line: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("{line}\r\nHost: shop.example\r\n{fields}\r\n{body}").into_bytes()
}

pub fn get(fields: &str) -> Vec<u8> {
    request("GET /a HTTP/1.1", fields, "")
}

pub fn post(fields: &str, body: &str) -> Vec<u8> {
    request("POST /p HTTP/1.1", fields, body)
}

pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Every case, in the same order each time.
pub fn all() -> Vec<Case> {
    let tables = [
        lines::table(),
        fields::table(),
        fields::hosts(),
        framing::table(),
        bytes::table(),
        cookies::table(),
        pipelines::table(),
        pipelines::answers(),
        cuts::table(),
    ];
    let cases: Vec<Case> = tables.into_iter().flat_map(|table| table.cases).collect();
    let mut names = HashSet::new();
    for case in &cases {
        assert!(names.insert(&case.name), "two cases are called {}", case.name);
        assert!(!case.name.contains(' '), "{}", case.name);
    }
    cases
}

#[test]
fn the_corpus_is_large_and_the_same_each_time() {
    let (one, two) = (all(), all());
    assert!(one.len() > 5_000, "{}", one.len());
    assert!(
        one.iter().zip(&two).all(|(one, two)| one.name == two.name && one.sent() == two.sent())
    );
}
