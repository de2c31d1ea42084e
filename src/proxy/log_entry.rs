//! What is known about one exchange and will be written down of it, once.

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

/// The status until something is answered: the client is the side that left (ALB's 460).
const CLIENT_LEFT: u16 = 460;

/// What will be written down of an exchange. The client's head is not in it: the exchange has that.
#[derive(Debug)]
pub struct LogEntry {
    /// When the head was read.
    pub began: Moment,
    /// The client, as `trusted_proxies` make it.
    pub address: IpAddr,
    /// As the target gets it.
    pub trace_id: TraceId,
    /// The index of the rule; `None` is the default.
    pub rule: Option<usize>,
    /// The action of the rule, as soon as one took the request.
    pub action: RecordAction,
    /// The choice among its rule's groups, where there was one.
    /// Boxed, for most rules have one group.
    pub group: Option<Box<GroupChoice>>,
    /// The URL a redirect sent the client to.
    pub redirect_url: Option<Box<str>>,
    /// The host the target got instead of the client's.
    pub transformed_host: Option<Box<str>>,
    /// Path and query the target got instead of the client's.
    pub transformed_uri: Option<Box<str>>,
    /// Why a rewrite failed, in ALB's words.
    pub transform_failure: Option<&'static str>,
    /// Where it went, and why there.
    pub placement: Option<Placement>,
    /// The seed this client is given if it has none.
    pub(super) fresh_seed: Option<Seed>,
    /// Targets tried.
    pub attempts: u32,
    /// When it was last sent to a target.
    pub dispatched: Option<Moment>,
    /// When the target's head came.
    pub answered: Option<Moment>,
    /// The target's status.
    pub target_status: Option<StatusCode>,
    /// The client's status.
    pub status: u16,
    /// Why the balancer answered itself, or why the answer broke off.
    pub error: Option<ErrorReason>,
    /// ALB's class of a request that could be read in two ways, and why.
    pub classification: Option<(&'static str, &'static str)>,
    /// Why the group's cookie was written; `None` if it was not.
    pub set_cookie: Option<CookieWrite>,
    /// Whether it became a tunnel.
    pub is_tunnel: bool,
    /// Whether it is a gRPC call.
    pub is_grpc: bool,
    /// Whether its head could not be read: method and version are not known then.
    pub is_unread: bool,
    /// Whether the whole answer went out.
    pub is_complete: bool,
}

impl LogEntry {
    /// Of an exchange that began at this moment.
    // Inlined, so that it is made where it is kept.
    #[inline(always)]
    pub fn new(began: Moment, address: IpAddr, is_grpc: bool) -> Self {
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

    /// The group it went to, the target that served it, and the one its client was pinned to.
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

    /// Counts the exchange, and says where a client moved.
    pub fn count(&self, worker: &WorkerCtx, snapshot: &Snapshot) {
        worker.counters.exchanges.add_one();
        let Some(placement) = &self.placement else { return };
        if placement.verdict == Verdict::UnknownKey {
            worker.counters.unknown_keys.add_one();
        }
        // Where nothing is stored with the client, each of its requests is moved anew.
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

    /// Writes it into the worker's access log, where there is one, as ended at this moment. `traffic` is
    /// the exchange's bytes from and to the client.
    pub fn write(
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

    // One caller: by its own name, a copy of 600 bytes would be handed back.
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

/// A group and two of its targets, where they are known.
#[derive(Default)]
struct LoggedTargets<'s> {
    group: Option<&'s Group>,
    served_by: Option<&'s Target>,
    pinned: Option<&'s Target>,
}

/// User agents and referers are cut, as ALB cuts them.
fn cut(value: Option<&[u8]>) -> &[u8] {
    let value = value.unwrap_or_default();
    &value[..value.len().min(MAX_USER_AGENT)]
}

/// `X-Amzn-Trace-Id` as the target got it. Most are our own, or short, and cost no allocation.
#[derive(Clone, Debug)]
pub struct TraceId {
    short: [u8; SHORT],
    length: u8,
    /// In the place of `short`, where it is longer.
    long: Option<Box<[u8]>>,
}

/// A `Root` and a `Self` of ours, with some room.
const SHORT: usize = 96;

impl TraceId {
    /// Becomes a copy of this text.
    pub fn set(&mut self, text: &[u8]) {
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
    fn a_trace_id_is_kept_whole_however_long_it_is() {
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
