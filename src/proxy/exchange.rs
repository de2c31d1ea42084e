//! What is known about one exchange. However it ends, it is written down once: when its last
//! holder lets go of it.

use super::client::Client;
use super::failure::Failure;
use super::interim::InterimQueue;
use super::progress::{Phase, Progress};
use super::protocols;
use super::reconnect::Pass;
use super::workplace::Workplace;
use crate::config::settings::AccessFormat;
use crate::decide::Placement;
use crate::decide::group_choice::GroupChoice;
use crate::decide::verdict::Verdict;
use crate::ground::clock::Moment;
use crate::model::published::Picture;
use crate::observe::record::{LONGEST_USER_AGENT, Record, Tls};
use crate::policy::affinity::token::Seed;
use crate::policy::headers::interim;
use http::header::{HOST, HeaderName, REFERER, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// One exchange under way. Dropping it ends it.
#[derive(Debug)]
pub struct Exchange {
    /// The worker's own things.
    pub workplace: Rc<Workplace>,
    /// How far it is, and who it is with.
    pub progress: Rc<Progress>,
    /// The picture it began with.
    pub snapshot: Picture,
    /// Whether nothing may follow it, on the client's connection or the target's.
    pub closes_both: bool,
    /// Leave to dial a target that others wait for.
    pub pass: Option<Pass>,
    /// Whether many people may share the client's connection: HTTP/2, or a trusted proxy's.
    pub is_of_many: bool,
    /// Whether nothing may follow it on the target's connection.
    pub closes_target: bool,
    /// Where interim answers go; to a client over HTTP/1.1 none does.
    pub interim: Option<Rc<InterimQueue>>,
    /// What is written down; taken when it ends.
    story: Option<Box<Story>>,
}

/// What will be written down.
#[derive(Debug)]
pub struct Story {
    /// When the head was read.
    pub began: Moment,
    /// The client, as `trusted_proxies` make it.
    pub address: IpAddr,
    /// As sent.
    pub method: Method,
    /// As sent.
    pub version: Version,
    /// As sent.
    pub said: Said,
    /// As the target gets it.
    pub trace_id: Option<HeaderValue>,
    /// The index of the rule; `None` is the default.
    pub rule: Option<usize>,
    /// `forward`, `redirect`, `fixed-response`, `-`.
    pub action: &'static str,
    /// Which of its rule's groups it went to, where there was a choice.
    pub group: Option<GroupChoice>,
    /// Where a redirect sent the client.
    pub redirect_url: Option<Box<str>>,
    /// The host the target got instead of the client's.
    pub transformed_host: Option<Box<str>>,
    /// Path and query the target got instead of the client's.
    pub transformed_uri: Option<Box<str>>,
    /// Why a rewrite failed, in ALB's words.
    pub transform_failure: Option<&'static str>,
    /// Its place in a group.
    pub placement: Option<Placement>,
    /// The seed of a client that has none, drawn when it is first asked for.
    fresh_seed: Option<Seed>,
    /// Targets tried.
    pub attempts: u32,
    /// When it was last sent to a target.
    pub dispatched: Option<Moment>,
    /// When the target's head came.
    pub answered: Option<Moment>,
    /// What the target said.
    pub target_status: Option<StatusCode>,
    /// What the client got.
    pub status: u16,
    /// Why the balancer answered itself, or why the answer broke off.
    pub error: Option<&'static str>,
    /// ALB's class of a request that could be read in two ways, and why.
    pub classification: Option<(&'static str, &'static str)>,
    /// What was written into the cookie.
    pub set_cookie: Option<&'static str>,
    /// Whether it became a tunnel.
    pub is_tunnel: bool,
    /// Whether it is a gRPC call.
    pub is_grpc: bool,
    /// Whether the whole answer was handed over for sending.
    pub is_complete: bool,
}

/// What the client said that is written down: the target, Host, User-Agent and, where the format
/// has it, Referer, one behind the other. Copied, because values that point into hyper's read buffer make it take a new one.
#[derive(Debug)]
pub struct Said {
    text: Vec<u8>,
    target_end: usize,
    host_end: usize,
    user_agent_end: usize,
}

impl Said {
    fn of(request: &Parts, keeps_referer: bool) -> Self {
        let target = request.uri.path_and_query().map_or("-", |target| target.as_str());
        let field = |name: HeaderName| {
            request.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default()
        };
        let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
        let (host, user_agent) = (authority.unwrap_or_else(|| field(HOST)), field(USER_AGENT));
        let cut = |value: &'_ [u8]| value.len().min(LONGEST_USER_AGENT);
        let user_agent = &user_agent[..cut(user_agent)];
        let referer = if keeps_referer { field(REFERER) } else { &[] };
        let referer = &referer[..cut(referer)];
        let target_end = target.len();
        let host_end = target_end + host.len();
        let user_agent_end = host_end + user_agent.len();
        let mut text = Vec::with_capacity(user_agent_end + referer.len());
        text.extend_from_slice(target.as_bytes());
        text.extend_from_slice(host);
        text.extend_from_slice(user_agent);
        text.extend_from_slice(referer);
        Self { text, target_end, host_end, user_agent_end }
    }

    fn nothing() -> Self {
        Self { text: b"-".into(), target_end: 1, host_end: 1, user_agent_end: 1 }
    }

    fn target(&self) -> &[u8] {
        &self.text[..self.target_end]
    }

    fn host(&self) -> &[u8] {
        &self.text[self.target_end..self.host_end]
    }

    fn user_agent(&self) -> &[u8] {
        &self.text[self.host_end..self.user_agent_end]
    }

    fn referer(&self) -> &[u8] {
        &self.text[self.user_agent_end..]
    }
}

/// An exchange that is over but for its last bytes on the wire.
#[derive(Debug)]
pub struct Ended {
    story: Box<Story>,
    workplace: Rc<Workplace>,
    snapshot: Picture,
}

impl Exchange {
    /// Begins one with the head of a request.
    pub fn begin(workplace: Rc<Workplace>, progress: Rc<Progress>, head: &Parts) -> Self {
        let began = workplace.now();
        progress.enter(Phase::Waiting, began.monotonic, None);
        let said = Said::of(head, workplace.keeps_referer);
        let (method, version) = (head.method.clone(), head.version);
        let mut story = Box::new(Story::new(began, &progress.client, method, version, said));
        story.is_grpc = protocols::is_grpc(version, &head.headers);
        let snapshot = workplace.snapshot();
        let is_of_many = head.version == Version::HTTP_2;
        Self {
            workplace,
            progress,
            snapshot,
            closes_both: false,
            is_of_many,
            closes_target: false,
            pass: None,
            interim: None,
            story: Some(story),
        }
    }

    /// Notes that a target's connection is authenticated by this exchange (RFC 4559 section 6): it is
    /// the client connection's own from now on, or ends with the exchange.
    pub fn authenticate_connection(&mut self) {
        match self.is_of_many {
            true => self.closes_target = true,
            false => self.client().own_connections(),
        }
    }

    /// Whether a target's connection that it goes over may serve no other client.
    pub fn is_private(&self) -> bool {
        self.closes_target || self.client().owner().is_some()
    }

    /// Who it is with.
    pub fn client(&self) -> &Client {
        &self.progress.client
    }

    /// What will be written down of it.
    pub fn story(&mut self) -> &mut Story {
        // The story is taken by `drop` alone, after which nobody holds the exchange.
        #[allow(clippy::expect_used)]
        self.story.as_mut().expect("an exchange has its story until it is dropped")
    }

    /// The seed this client is given if it has none, the same for all its cookies.
    pub fn fresh_seed(&mut self) -> Seed {
        let workplace = Rc::clone(&self.workplace);
        let story = self.story();
        let placed_by = story.placement.as_ref().and_then(|placement| placement.seed);
        let fresh = || placed_by.unwrap_or_else(|| Seed(workplace.random()));
        *story.fresh_seed.get_or_insert_with(fresh)
    }

    /// Takes an interim answer of the target (1xx): it goes on to an HTTP/2 client; to others it is
    /// dropped and counted.
    pub fn interim(&self, status: StatusCode, headers: HeaderMap) {
        if !interim::passes(status) {
            return;
        }
        let is_sent = self.interim.as_ref().is_some_and(|queue| queue.push(status, headers));
        if !is_sent {
            self.workplace.counters.interim_dropped.add_one();
        }
    }

    /// Notes that the balancer answers itself because of this.
    pub fn fail(&mut self, failure: &Failure) {
        // No target has any part in the answer to come, nor can its leaving cut it.
        self.progress.end_with_target();
        let story = self.story();
        story.status = failure.logged_status();
        story.error = Some(failure.word());
        if let Failure::Refused(verdict) = failure
            && let Some(placement) = &mut story.placement
        {
            placement.verdict = *verdict;
            placement.target = None;
        }
    }

    /// Notes the status the client gets.
    pub fn answer(&mut self, status: StatusCode) {
        let story = self.story();
        story.status = status.as_u16();
        story.error = None;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(mut story) = self.story.take() else { return };
        self.progress.end_with_target();
        if !story.is_complete {
            story.break_off(&self.workplace, &self.progress);
        }
        let (workplace, snapshot) = (Rc::clone(&self.workplace), Rc::clone(&self.snapshot));
        self.progress.push_ended(Ended { story, workplace, snapshot });
    }
}

impl Story {
    #[inline(always)]
    fn new(began: Moment, client: &Client, method: Method, version: Version, said: Said) -> Self {
        Self {
            began,
            address: client.ends().source.ip(),
            method,
            version,
            said,
            trace_id: None,
            rule: None,
            action: "-",
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
            // Until something else is answered, the client is the one who left (ALB's 460).
            status: 460,
            error: None,
            classification: None,
            set_cookie: None,
            is_tunnel: false,
            is_grpc: false,
            is_complete: false,
        }
    }

    fn break_off(&mut self, workplace: &Workplace, progress: &Progress) {
        self.error.get_or_insert(match progress.expiry() {
            Some(expiry) => expiry.word(),
            None if workplace.cutting.get() => "cut",
            None => "client_gone",
        });
    }
}

impl Ended {
    /// A head that could not be read, was answered with this status for this reason, and is all
    /// there was.
    pub fn unread(
        workplace: Rc<Workplace>,
        client: &Client,
        status: StatusCode,
        why: &'static str,
    ) -> Self {
        workplace.begin_turn();
        // No client can send this version: its connection is answered before there is a request.
        let (method, version) = (Method::default(), Version::HTTP_09);
        let mut story = Story::new(workplace.now(), client, method, version, Said::nothing());
        story.status = status.as_u16();
        story.error = Some(why);
        let snapshot = workplace.snapshot();
        Self { story: Box::new(story), workplace, snapshot }
    }

    /// Whether the whole answer was handed over for sending.
    pub fn is_complete(&self) -> bool {
        self.story.is_complete
    }

    /// Notes that the connection ended before the last bytes had gone out.
    pub fn break_off(&mut self, progress: &Progress) {
        if !self.story.is_tunnel {
            self.story.break_off(&self.workplace, progress);
        }
    }

    /// Writes it down as ended at this moment.
    pub fn write_now(self, progress: &Progress) {
        self.workplace.begin_turn();
        let now = self.workplace.now();
        self.write(progress, now);
    }

    /// Writes it down. What went over the connection since the exchange before belongs to it.
    pub fn write(self, progress: &Progress, now: Moment) {
        let client = &*progress.client;
        let workplace = &*self.workplace;
        workplace.counters.exchanges.add_one();
        let (received_bytes, sent_bytes) = progress.take_traffic();
        let (story, snapshot) = (&*self.story, &**self.snapshot);
        let placement = story.placement.as_ref();
        let group = placement.map(|placement| &snapshot.groups[placement.group]);
        let target = |at: Option<usize>| Some(&group?.targets[at?]);
        let served_by = target(placement.and_then(|placement| placement.target));
        let pinned = target(placement.and_then(|placement| placement.pinned));
        let verdict = placement.map(|placement| placement.verdict);
        if let (Some(verdict), Some(group)) = (verdict, group) {
            if verdict == Verdict::UnknownKey {
                workplace.counters.unknown_keys.add_one();
            }
            // Where nothing is stored with the client, each of its requests is moved anew.
            if story.set_cookie == Some("moved") {
                workplace.counters.moved.add_one();
                tracing::info!(
                    group = group.name(),
                    from = pinned.map_or("a target that is gone", |from| from.id.as_str()),
                    to = served_by.map_or("-", |to| to.id.as_str()),
                    why = verdict.word(),
                    "a client moved"
                );
            }
        }
        let Some(format) = workplace.access().format() else { return };
        let since = |later: Option<Moment>, earlier: Option<Moment>| -> Option<Duration> {
            Some(later?.since(earlier?))
        };
        let address = if story.address == client.ends().source.ip() {
            Cow::Borrowed(without_port(client.source_text()))
        } else {
            Cow::Owned(story.address.to_string())
        };
        let (method, version) = match story.version {
            Version::HTTP_09 => ("-", "-"),
            Version::HTTP_10 => (story.method.as_str(), "HTTP/1.0"),
            Version::HTTP_2 => (story.method.as_str(), "HTTP/2.0"),
            _ => (story.method.as_str(), "HTTP/1.1"),
        };
        let session = client.session();
        let record = Record {
            kind: match (story.is_tunnel, session.is_some()) {
                (false, true) if story.is_grpc => "grpcs",
                (false, _) if story.version == Version::HTTP_2 => "h2",
                (false, false) => "http",
                (true, false) => "ws",
                (false, true) => "https",
                (true, true) => "wss",
            },
            tls: session.map(|session| Tls {
                version: session.version,
                cipher: session.cipher,
                server_name: session.server_name.as_deref(),
                certificate: &session.certificate,
            }),
            ended: now.wall,
            began: story.began.wall,
            listener: snapshot.listeners[client.listener].settings.name.as_str(),
            client: &address,
            peer: client.peer_text(),
            source: client.source_text(),
            local: client.ends().destination,
            connection: (format == AccessFormat::Alb).then(|| client.trace_id(workplace)),
            group: group.map(|group| group.name()),
            target: served_by.map(|target| target.id.as_str()),
            target_address: served_by.and_then(|target| target.address_text.as_deref()),
            request_processing: since(story.dispatched, Some(story.began)),
            target_processing: since(story.answered, story.dispatched),
            response_processing: since(Some(now), story.answered),
            status: story.status,
            target_status: story.target_status.map(|status| status.as_u16()),
            received_bytes,
            sent_bytes,
            method,
            host: story.said.host(),
            target_uri: story.said.target(),
            version,
            user_agent: story.said.user_agent(),
            referer: story.said.referer(),
            trace_id: story.trace_id.as_ref().map(HeaderValue::as_bytes).unwrap_or_default(),
            rule: match story.rule {
                Some(rule) => snapshot.rules[rule].settings.name.as_str(),
                None => "default",
            },
            rule_at: story.rule,
            action: story.action,
            redirect_url: story.redirect_url.as_deref().map(str::as_bytes),
            transformed_host: story.transformed_host.as_deref().map(str::as_bytes),
            transformed_uri: story.transformed_uri.as_deref().map(str::as_bytes),
            transform_status: story.transform_failure.or_else(|| {
                let rewritten = story.transformed_host.is_some() || story.transformed_uri.is_some();
                rewritten.then_some("TransformSuccess")
            }),
            error_reason: story.error,
            group_sticky: story.group.as_ref().map(|group| group.verdict),
            classification: story.classification,
            sticky: verdict,
            set_cookie: story.set_cookie,
            from: pinned.map(|target| target.id.as_str()),
            attempts: story.attempts,
            worker: workplace.worker,
        };
        workplace.access().note(&record);
    }
}

/// `192.0.2.1` of `192.0.2.1:80`, `2001:db8::1` of `[2001:db8::1]:80`.
fn without_port(text: &str) -> &str {
    let address = text.rsplit_once(':').map_or(text, |(address, _)| address);
    address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address)
}
