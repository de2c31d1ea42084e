//! The log entry of one exchange: what its access record will contain.

use super::conn_info::ConnInfo;
use super::worker_ctx::WorkerCtx;
use crate::base::clock::Moment;
use crate::config::settings::AccessFormat;
use crate::decide::Placement;
use crate::decide::cookie_update::CookieWrite;
use crate::decide::group_choice::GroupChoice;
use crate::decide::verdict::Verdict;
use crate::http1::name::Name;
use crate::http1::request::Request;
use crate::model::snapshot::{Group, Snapshot, Target};
use crate::observe::error_reason::ErrorReason;
use crate::observe::record::{MAX_USER_AGENT, Record, RecordAction, RecordKind, Tls};
use crate::policy::affinity::token::Seed;
use http::{StatusCode, Version};
use std::net::IpAddr;
use std::time::Duration;

/// The status until a response sets another: the client left (ALB's 460).
const CLIENT_LEFT: u16 = 460;

/// The log entry of an exchange. The client's head is not in it: the exchange has that.
#[derive(Debug)]
pub(crate) struct LogEntry {
    /// Time at which the head was read.
    pub began: Moment,
    /// The client, as determined by `trusted_proxies`.
    pub address: IpAddr,
    /// X-Amzn-Trace-Id as the target gets it.
    pub trace_id: TraceId,
    /// The index of the rule; `None` is the default.
    pub rule: Option<usize>,
    /// The action of the rule, as soon as one took the request.
    pub action: RecordAction,
    /// The choice among its rule's groups, if there was one. Boxed, because most rules have one
    /// group.
    pub group: Option<Box<GroupChoice>>,
    /// The Location of a redirect.
    pub redirect_url: Option<Box<str>>,
    /// The host that the target got instead of the client's.
    pub transformed_host: Option<Box<str>>,
    /// Path and query that the target got instead of the client's.
    pub transformed_uri: Option<Box<str>>,
    /// The reason for which a rewrite failed, in ALB's words.
    pub transform_failure: Option<&'static str>,
    /// The placement in a group.
    pub placement: Option<Placement>,
    /// The seed for a client without one.
    pub(super) fresh_seed: Option<Seed>,
    /// Number of targets tried.
    pub attempts: u32,
    /// Time at which it was last sent to a target.
    pub dispatched: Option<Moment>,
    /// Time at which the target's head arrived.
    pub answered: Option<Moment>,
    /// The target's status.
    pub target_status: Option<StatusCode>,
    /// The client's status.
    pub status: u16,
    /// The reason for which the balancer answered itself, or for which the response broke off.
    pub error: Option<ErrorReason>,
    /// ALB's class of a request that two servers may read differently, and the reason.
    pub classification: Option<(&'static str, &'static str)>,
    /// The reason for writing the group's cookie; `None` if it was not written.
    pub set_cookie: Option<CookieWrite>,
    /// True if it became a tunnel.
    pub is_tunnel: bool,
    /// True for a gRPC call.
    pub is_grpc: bool,
    /// True if its head could not be read: method and version are unknown then.
    pub is_unread: bool,
    /// True if the whole response was sent.
    pub is_complete: bool,
}

impl LogEntry {
    /// Makes the entry of an exchange that began at this time.
    // Inlined, so that it is made in its final place.
    #[inline(always)]
    pub(crate) fn new(began: Moment, address: IpAddr, is_grpc: bool) -> Self {
        Self {
            began,
            address,
            trace_id: TraceId::default(),
            rule: None,
            action: RecordAction::None,
            group: None,
            redirect_url: None,
            transformed_host: None,
            transformed_uri: None,
            transform_failure: None,
            placement: None,
            fresh_seed: None,
            attempts: 0,
            dispatched: None,
            answered: None,
            target_status: None,
            status: CLIENT_LEFT,
            error: None,
            classification: None,
            set_cookie: None,
            is_tunnel: false,
            is_grpc,
            is_unread: false,
            is_complete: false,
        }
    }

    /// The group it went to, the target that served it, and the target its client was pinned to.
    fn places<'s>(&self, snapshot: &'s Snapshot) -> LoggedTargets<'s> {
        let Some(placement) = &self.placement else { return LoggedTargets::default() };
        let group = &snapshot.groups[placement.group];
        let target = |at: Option<usize>| at.map(|at| &group.targets[at]);
        LoggedTargets {
            group: Some(group),
            served_by: target(placement.target),
            pinned: target(placement.pinned),
        }
    }

    /// Counts the exchange, and logs the move of a client.
    pub(crate) fn count(&self, worker: &WorkerCtx, snapshot: &Snapshot) {
        worker.counters.exchanges.add_one();
        let Some(placement) = &self.placement else { return };
        if placement.verdict == Verdict::UnknownKey {
            worker.counters.unknown_keys.add_one();
        }
        // Without a cookie, each request of the client would count as a move.
        if self.set_cookie == Some(CookieWrite::Moved) {
            let LoggedTargets { group, served_by, pinned } = self.places(snapshot);
            worker.counters.moved.add_one();
            tracing::info!(
                group = group.map_or("-", Group::name),
                from = pinned.map_or("a target that is gone", |from| from.id.as_str()),
                to = served_by.map_or("-", |to| to.id.as_str()),
                why = placement.verdict.word(),
                "client moved to another target"
            );
        }
    }

    /// Writes the access record, if the access log is on. `now` is the end of the exchange, and
    /// `traffic` the bytes from and to the client.
    pub(crate) fn write(
        &self,
        worker: &WorkerCtx,
        snapshot: &Snapshot,
        info: &ConnInfo,
        request: &Request,
        traffic: (u64, u64),
        now: Moment,
    ) {
        let Some(format) = worker.access().format() else { return };
        let forwarded: String;
        let mut record = self.to_record(worker, snapshot, info, request, now);
        record.client = if self.address == info.ends().source.ip() {
            info.source_address_text()
        } else {
            forwarded = self.address.to_string();
            &forwarded
        };
        record.connection =
            (format == AccessFormat::Alb).then(|| info.trace_id(|| worker.random()));
        (record.received_bytes, record.sent_bytes) = traffic;
        let target = request.logged_target();
        record.target_uri = &target;
        let host = request.authority().map(str::as_bytes);
        record.host = host.or_else(|| request.fields.received(Name::Host)).unwrap_or_default();
        record.user_agent = cut(request.fields.received(Name::UserAgent));
        if worker.keeps_referer {
            record.referer = cut(request.fields.received(Name::Referer));
        }
        worker.access().record(&record);
    }

    // One caller; as a function of its own it would return a copy of 600 bytes.
    #[inline(always)]
    fn to_record<'x>(
        &'x self,
        worker: &WorkerCtx,
        snapshot: &'x Snapshot,
        info: &'x ConnInfo,
        request: &'x Request,
        now: Moment,
    ) -> Record<'x> {
        let since = |later: Option<Moment>, earlier: Option<Moment>| -> Option<Duration> {
            Some(later?.since(earlier?))
        };
        let LoggedTargets { group, served_by, pinned } = self.places(snapshot);
        let (method, version) = match request.version {
            _ if self.is_unread => ("-", "-"),
            Version::HTTP_10 => (request.method.as_str(), "HTTP/1.0"),
            Version::HTTP_2 => (request.method.as_str(), "HTTP/2.0"),
            _ => (request.method.as_str(), "HTTP/1.1"),
        };
        let session = info.session();
        Record {
            kind: match (self.is_tunnel, session.is_some()) {
                (false, true) if self.is_grpc => RecordKind::Grpcs,
                (false, _) if request.version == Version::HTTP_2 => RecordKind::H2,
                (false, false) => RecordKind::Http,
                (true, false) => RecordKind::Ws,
                (false, true) => RecordKind::Https,
                (true, true) => RecordKind::Wss,
            },
            tls: session.map(|session| Tls {
                version: session.version,
                cipher: session.cipher,
                server_name: session.server_name.as_deref(),
                certificate: &session.certificate,
            }),
            ended: now.wall,
            began: self.began.wall,
            listener: snapshot.listeners[info.listener].settings.name.as_str(),
            client: "",
            peer: info.peer_text(),
            source: info.source_text(),
            local: info.ends().destination,
            connection: None,
            group: group.map(Group::name),
            target: served_by.map(|target| target.id.as_str()),
            target_address: served_by.and_then(|target| target.address_text.as_deref()),
            request_processing: since(self.dispatched, Some(self.began)),
            target_processing: since(self.answered, self.dispatched),
            response_processing: since(Some(now), self.answered),
            status: self.status,
            target_status: self.target_status.map(|status| status.as_u16()),
            received_bytes: 0,
            sent_bytes: 0,
            method,
            host: b"",
            target_uri: b"",
            version,
            user_agent: b"",
            referer: b"",
            trace_id: self.trace_id.as_bytes(),
            rule: match self.rule {
                Some(rule) => snapshot.rules[rule].settings.name.as_str(),
                None => "default",
            },
            rule_at: self.rule,
            action: self.action,
            redirect_url: self.redirect_url.as_deref().map(str::as_bytes),
            transformed_host: self.transformed_host.as_deref().map(str::as_bytes),
            transformed_uri: self.transformed_uri.as_deref().map(str::as_bytes),
            transform_status: self.transform_failure.or_else(|| {
                let rewritten = self.transformed_host.is_some() || self.transformed_uri.is_some();
                rewritten.then_some("TransformSuccess")
            }),
            error_reason: self.error,
            group_sticky: self.group.as_ref().map(|group| group.verdict),
            classification: self.classification,
            sticky: self.placement.as_ref().map(|placement| placement.verdict),
            set_cookie: self.set_cookie,
            from: pinned.map(|target| target.id.as_str()),
            attempts: self.attempts,
            worker: worker.index,
        }
    }
}

/// A group and two of its targets, if they are known.
#[derive(Default)]
struct LoggedTargets<'s> {
    group: Option<&'s Group>,
    served_by: Option<&'s Target>,
    pinned: Option<&'s Target>,
}

/// Cuts a User-Agent or Referer where ALB cuts it.
fn cut(value: Option<&[u8]>) -> &[u8] {
    let value = value.unwrap_or_default();
    &value[..value.len().min(MAX_USER_AGENT)]
}

/// `X-Amzn-Trace-Id` as the target got it. Most are our own, or short, and need no allocation.
#[derive(Clone, Debug)]
pub(crate) struct TraceId {
    short: [u8; SHORT],
    length: u8,
    /// The text if it is longer than `short`.
    long: Option<Box<[u8]>>,
}

/// Bytes kept without an allocation: our own `Root` and `Self`, with some room.
const SHORT: usize = 96;

impl TraceId {
    /// Sets a copy of this text.
    pub(crate) fn set(&mut self, text: &[u8]) {
        match self.short.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                (self.length, self.long) = (text.len() as u8, None);
            }
            None => self.long = Some(text.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match &self.long {
            None => &self.short[..usize::from(self.length)],
            Some(text) => text,
        }
    }
}

impl Default for TraceId {
    fn default() -> Self {
        Self { short: [0; SHORT], length: 0, long: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_id_of_any_length_is_kept_whole() {
        for length in [0, 1, 40, SHORT - 1, SHORT, SHORT + 1, 1_024] {
            let text = vec![b'a'; length];
            let mut kept = TraceId::default();
            kept.set(&text);
            assert_eq!(kept.as_bytes(), text);
            kept.set(b"Root=1");
            assert_eq!(kept.as_bytes(), b"Root=1");
        }
        assert!(TraceId::default().as_bytes().is_empty());
    }
}
