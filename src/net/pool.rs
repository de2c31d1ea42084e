//! A worker's own idle connections, by target; the most recently used one is taken first. Also its
//! HTTP/2 connections, idle or not, and the TLS tickets for a target's next handshake.

use super::connect::ConnectError;
use super::http1::Connection;
use super::http2::connections::Connections;
use super::timer;
use super::tls::{Connector, Connectors};
use crate::base::clock;
use crate::base::log_throttle::LogThrottle;
use crate::model::live::TargetState;
use crate::policy::proxy_protocol::Ends;
use bytes::Bytes;
use http_body::Body;
use std::cell::RefCell;
use std::rc::{Rc, Weak as LocalWeak};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// Bound on the idle connections to one target. A burst leaves no more than these behind.
const MAX_IDLE: usize = 256;
/// Quiet time after a request with a body before the connection serves another client: a target
/// that ignores bodies reads the body as a request and answers it next. That second answer arrives
/// within a round trip, which is below this time between a balancer and its targets.
const QUIET: Duration = Duration::from_millis(50);
/// Quiet time after a long body: all of it may be in socket buffers when the target answers the
/// head, and a busy target takes longer than a round trip to read it.
const QUIET_AFTER_LONG: Duration = Duration::from_secs(5);

/// The pool of one worker.
#[derive(Debug)]
pub struct Pool<B> {
    slots: RefCell<Vec<Option<Slot<B>>>>,
    connectors: RefCell<Connectors>,
}

#[derive(Debug)]
struct Slot<B> {
    /// The target of these connections: the slot of a removed target may later hold another.
    target: Weak<TargetState>,
    idle: Vec<Idle<B>>,
    /// Present if the target speaks HTTP/2.
    http2: Option<Rc<Connections>>,
    returned: Rc<Notify>,
    /// Created for the first handshake.
    connector: Option<Connector>,
    failure_log: LogThrottle,
}

#[derive(Debug)]
struct Idle<B> {
    /// The only client connection that may use it, if it was authenticated (RFC 4559 section 6).
    owner: Option<LocalWeak<Owner>>,
    connection: Box<Connection<B>>,
    until: Instant,
    /// The client connection that may use it until this moment.
    settles: Option<(ConnId, Instant)>,
}

/// The number of a client connection in its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnId(pub u64);

impl ConnId {
    /// No client: for a connection that was dialled for none.
    pub const NONE: ConnId = ConnId(u64::MAX);
}

/// A client connection with target connections of its own, which close when it closes.
#[derive(Debug, Default)]
pub struct Owner;

impl<B: Body<Data = Bytes> + Unpin> Idle<B> {
    fn is_of(&self, owner: Option<&Rc<Owner>>) -> bool {
        let own = self.owner.as_ref().map(LocalWeak::as_ptr);
        own == owner.map(Rc::as_ptr)
    }

    /// Returns true if a request of this client connection may use it at `now`.
    fn may_serve(&self, asked_by: ConnId, now: Instant) -> bool {
        self.settles.is_none_or(|(client, until)| client == asked_by || until <= now)
    }

    /// Returns true if the target neither closed it nor sent anything unasked. The kernel is asked
    /// if a response to another client may have arrived.
    fn is_reusable(&mut self, now: Instant) -> bool {
        match self.settles {
            Some((_, until)) if until <= now => {
                self.connection.record_reusable();
                self.connection.is_quiet_by_now()
            }
            _ => self.connection.is_reusable(),
        }
    }

    fn is_abandoned(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.strong_count() == 0)
    }
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self { slots: RefCell::default(), connectors: RefCell::default() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Pool<B> {
    /// Takes an idle connection that is open and done with its last exchange. If PROXY headers are
    /// sent to the target, only a connection of the same client fits; a connection owned by this
    /// client connection is preferred. After a request with a body, a connection serves the same
    /// client connection only, until it has been quiet for `QUIET`.
    pub fn take(
        &self,
        target: &TargetState,
        client: Option<&Ends>,
        owner: Option<&Rc<Owner>>,
        asked_by: ConnId,
        now: Instant,
    ) -> Option<Box<Connection<B>>> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(target.slot)?.as_mut()?;
        if !std::ptr::eq(slot.target.as_ptr(), target) {
            return None;
        }
        // Nearly always the first connection matches.
        let find = |idle: &[Idle<B>], owner| {
            idle.iter().rposition(|idle| {
                idle.may_serve(asked_by, now) && idle.connection.is_for(client) && idle.is_of(owner)
            })
        };
        loop {
            let own = owner.and_then(|_| find(&slot.idle, owner));
            let at = own.or_else(|| find(&slot.idle, None))?;
            let mut idle = slot.idle.remove(at);
            if idle.until > now && idle.is_reusable(now) {
                return Some(idle.connection);
            }
            idle.connection.close();
        }
    }

    /// Keeps a connection for the next request, for its owner only if it has one, until its idle
    /// time ends or another worker waits for its place.
    pub fn give_back(
        &self,
        target: &Arc<TargetState>,
        mut connection: Box<Connection<B>>,
        owner: Option<&Rc<Owner>>,
        asked_by: ConnId,
        until: Instant,
        now: Instant,
    ) {
        let mut slots = self.slots.borrow_mut();
        let slot = slot(&mut slots, target);
        if slot.is_awaited_elsewhere(target) {
            connection.close();
            return;
        }
        if slot.idle.len() >= MAX_IDLE {
            // A private connection serves only one client, so it is closed first.
            let private = slot.idle.iter().position(|idle| idle.owner.is_some());
            // A connection with a PROXY header also serves only one client, which may have left.
            let longest = (!connection.is_for(None)).then_some(0);
            let Some(at) = private.or(longest) else { return connection.close() };
            slot.idle.remove(at).connection.close();
        }
        let owner = owner.map(Rc::downgrade);
        let quiet = if connection.end() { QUIET_AFTER_LONG } else { QUIET };
        let settles = connection.had_body().then(|| (asked_by, now + quiet));
        slot.idle.push(Idle { owner, connection, until, settles });
        slot.returned.notify_one();
    }

    /// Closes connections that are idle for too long, or that the target closed or sent on unasked,
    /// and one connection of each target for which another worker waits. Called on the worker's
    /// tick.
    pub fn sweep(&self, now: Instant) {
        for place in self.slots.borrow_mut().iter_mut() {
            let Some(slot) = place else { continue };
            let Some(target) = slot.target.upgrade() else {
                *place = None;
                continue;
            };
            let over = |idle: &mut Idle<B>| {
                idle.until <= now || idle.is_abandoned() || !idle.connection.is_reusable()
            };
            for idle in slot.idle.extract_if(.., over) {
                idle.connection.close();
            }
            if slot.is_awaited_elsewhere(&target)
                && let Some(idle) = slot.idle.pop()
            {
                idle.connection.close();
            }
            if let Some(connections) = &slot.http2 {
                connections.sweep(now, &target);
            }
        }
    }

    /// True if there is no connection that [`Self::sweep`] would check.
    pub fn is_empty(&self) -> bool {
        self.slots.borrow().iter().flatten().all(|slot| {
            slot.idle.is_empty() && slot.http2.as_ref().is_none_or(|http2| http2.is_empty())
        })
    }

    /// The connections to a target that speaks HTTP/2.
    pub fn http2(&self, target: &Arc<TargetState>) -> Rc<Connections> {
        let mut slots = self.slots.borrow_mut();
        Rc::clone(slot(&mut slots, target).http2.get_or_insert_default())
    }

    /// The TLS connector of the target, if it uses TLS; handshakes after the first resume.
    pub fn connector(&self, target: &Arc<TargetState>) -> Option<Connector> {
        let peer = target.tls()?;
        let mut slots = self.slots.borrow_mut();
        let connector = &mut slot(&mut slots, target).connector;
        let make = || self.connectors.borrow_mut().resuming(peer);
        Some(connector.get_or_insert_with(make).clone())
    }

    /// Returns true if a failed handshake with the target may be logged now.
    pub fn should_log_failure(&self, target: &Arc<TargetState>, now: Instant) -> bool {
        slot(&mut self.slots.borrow_mut(), target).failure_log.allow(now)
    }

    /// Waits for a way to a target with a connection limit: a place for a dial, or an idle
    /// connection that came back. `None` inside means a dial without a place.
    ///
    /// # Errors
    /// `ConnectError::Full` if the queue is full or nothing became free in time.
    pub async fn wait_for_place(
        &self,
        target: &Arc<TargetState>,
        client: Option<&Ends>,
        owner: Option<&Rc<Owner>>,
        asked_by: ConnId,
        timeout: Duration,
    ) -> Result<Checkout<B>, ConnectError> {
        let Some(places) = target.connections() else { return Ok(Checkout::Dial(None)) };
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(Checkout::Dial(Some(place)));
        }
        let _waiting = target.wait_for_connection().ok_or(ConnectError::Full)?;
        self.make_place(target);
        let returned = Rc::clone(&slot(&mut self.slots.borrow_mut(), target).returned);
        let wait = async {
            loop {
                tokio::select! {
                    place = Arc::clone(places).acquire_owned() => return Checkout::Dial(place.ok()),
                    () = returned.notified() => {
                        // Later than `now`: a connection that was too recent for this client may be
                        // quiet by now.
                        let now = clock::monotonic();
                        match self.take(target, client, owner, asked_by, now) {
                            Some(connection) => return Checkout::Idle(connection),
                            None => self.make_place(target),
                        }
                    }
                }
            }
        };
        timer::timeout(timeout, wait).await.map_err(|_| ConnectError::Full)
    }

    /// Closes the connection that has been idle longest. The waiting client cannot use it, because
    /// its PROXY header names another client.
    fn make_place(&self, target: &Arc<TargetState>) {
        let mut slots = self.slots.borrow_mut();
        let slot = slot(&mut slots, target);
        if !slot.idle.is_empty() {
            slot.idle.remove(0).connection.close();
        }
    }
}

/// The result of [`Pool::wait_for_place`].
#[derive(Debug)]
pub enum Checkout<B> {
    /// Dial, and hold this permit for the life of the connection.
    Dial(Option<OwnedSemaphorePermit>),
    /// Use this connection.
    Idle(Box<Connection<B>>),
}

impl<B> Slot<B> {
    /// Returns true if a request of another worker, but none of this one, waits for a place at the
    /// target.
    fn is_awaited_elsewhere(&self, target: &TargetState) -> bool {
        target.is_awaited() && Rc::strong_count(&self.returned) == 1
    }
}

fn slot<'s, B>(slots: &'s mut Vec<Option<Slot<B>>>, target: &Arc<TargetState>) -> &'s mut Slot<B> {
    if slots.len() <= target.slot {
        slots.resize_with(target.slot + 1, || None);
    }
    let place = &mut slots[target.slot];
    if place.as_ref().is_some_and(|slot| !std::ptr::eq(slot.target.as_ptr(), &**target)) {
        *place = None;
    }
    place.get_or_insert_with(|| Slot {
        target: Arc::downgrade(target),
        idle: Vec::new(),
        http2: None,
        returned: Rc::new(Notify::new()),
        connector: None,
        failure_log: LogThrottle::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::name::Name;
    use crate::model::target_registry::TargetRegistry;
    use crate::net::http1::send::Outbound;
    use crate::net::target_stream::TargetStream;
    use http_body_util::Empty;
    use tokio::net::{TcpListener, TcpStream};

    const CLIENT: ConnId = ConnId(1);

    /// The idle connections left, in order: true for a private one.
    fn private(pool: &Pool<Empty<Bytes>>) -> Vec<bool> {
        let slots = pool.slots.borrow();
        let idle = slots.iter().flatten().flat_map(|slot| &slot.idle);
        idle.map(|idle| idle.owner.is_some()).collect()
    }

    #[tokio::test]
    async fn a_full_pool_closes_its_oldest_private_connection_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let name = |text| Name::new(text).unwrap();
        let (group, id) = (name("app"), name("a"));
        let target = TargetRegistry::default().target(&group, &id, Some(address), None, None);
        let pool = Pool::default();
        let owners = [Rc::new(Owner), Rc::new(Owner)];
        let now = clock::monotonic();
        let until = now + Duration::from_secs(60);
        let give_back = async |owner| {
            // Accepted one by one: the queue of a listener is short on some systems.
            let (stream, _) = tokio::join!(TcpStream::connect(address), listener.accept());
            let stream = stream.unwrap();
            let connection = Connection::new(TargetStream::Plain(stream), None);
            pool.give_back(&target, Box::new(connection), owner, CLIENT, until, now);
        };
        give_back(None).await;
        give_back(Some(&owners[0])).await;
        for _ in 2..MAX_IDLE {
            give_back(Some(&owners[1])).await;
        }
        assert_eq!(private(&pool), [&[false][..], &[true; MAX_IDLE - 1]].concat());
        // The first owner's is the oldest, whether the next is private or not.
        give_back(Some(&owners[1])).await;
        let own = |owner| {
            pool.slots.borrow()[target.slot]
                .as_ref()
                .unwrap()
                .idle
                .iter()
                .filter(|idle| idle.is_of(owner))
                .count()
        };
        assert_eq!((own(Some(&owners[0])), own(Some(&owners[1])), own(None)), (0, MAX_IDLE - 1, 1));
        for ordinary in 2..=MAX_IDLE {
            give_back(None).await;
            assert_eq!((own(Some(&owners[1])), own(None)), (MAX_IDLE - ordinary, ordinary));
        }
        // If all idle ones are ordinary, the new one is closed, private or not.
        for owner in [None, Some(&owners[0])] {
            give_back(owner).await;
            assert_eq!(private(&pool), [false; MAX_IDLE]);
        }
    }

    /// A pool, a target, a connection to it in its last request, and the target's end.
    async fn after_a_request(
        body: bool,
        bound: Option<u32>,
    ) -> (Pool<Empty<Bytes>>, Arc<TargetState>, Box<Connection<Empty<Bytes>>>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let name = |text| Name::new(text).unwrap();
        let target =
            TargetRegistry::default().target(&name("app"), &name("a"), Some(address), bound, None);
        let place = target.connections().map(|all| Arc::clone(all).try_acquire_owned().unwrap());
        let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let mut connection = Connection::new(TargetStream::Plain(stream.unwrap()), place);
        connection.begin(body.then(|| Outbound { body: Empty::new(), chunked: false }));
        (Pool::default(), target, Box::new(connection), accepted.unwrap().0)
    }

    const OTHER: ConnId = ConnId(2);

    #[tokio::test]
    async fn after_a_body_a_connection_serves_one_client_until_it_was_quiet() {
        let now = clock::monotonic();
        let until = now + Duration::from_secs(60);
        let (early, late) = (now + QUIET - Duration::from_nanos(1), now + QUIET);
        for (body, asked_by, at, expected) in [
            (true, CLIENT, now, true),
            (true, CLIENT, late, true),
            (true, OTHER, now, false),
            (true, OTHER, early, false),
            (true, OTHER, late, true),
            (true, ConnId::NONE, early, false),
            (false, OTHER, now, true),
        ] {
            let (pool, target, connection, _kept) = after_a_request(body, None).await;
            pool.give_back(&target, connection, None, CLIENT, until, now);
            let taken = pool.take(&target, None, None, asked_by, at);
            assert_eq!(taken.is_some(), expected, "{body} {asked_by:?}");
            // The connection is skipped, not closed.
            let left = pool.take(&target, None, None, CLIENT, at);
            assert_eq!(left.is_some(), !expected, "{body} {asked_by:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_is_skipped_for_one_that_has_been_quiet() {
        let now = clock::monotonic();
        let until = now + Duration::from_secs(60);
        let (pool, target, settled, _kept) = after_a_request(false, None).await;
        let (_, _, unsettled, _kept_too) = after_a_request(true, None).await;
        pool.give_back(&target, settled, None, CLIENT, until, now);
        pool.give_back(&target, unsettled, None, CLIENT, until, now);
        let taken = pool.take(&target, None, None, OTHER, now).unwrap();
        assert!(!taken.had_body());
        assert!(pool.take(&target, None, None, OTHER, now).is_none());
        assert!(pool.take(&target, None, None, CLIENT, now).unwrap().had_body());
    }

    #[tokio::test]
    async fn a_second_answer_to_one_request_reaches_no_other_client() {
        let now = clock::monotonic();
        let until = now + Duration::from_secs(60);
        for at in [now, now + QUIET] {
            let (pool, target, mut connection, answers) = after_a_request(true, None).await;
            // The runtime has polled, and reports nothing that arrives before this task waits.
            assert!(connection.is_reusable());
            pool.give_back(&target, connection, None, CLIENT, until, now);
            let answers = answers.into_std().unwrap();
            let answer = b"HTTP/1.1 200 OK\r\n\r\n";
            assert_eq!(std::io::Write::write(&mut &answers, answer).unwrap(), answer.len());
            assert!(pool.take(&target, None, None, OTHER, at).is_none());
            // The client that sent the body may get it, but not after the quiet time.
            assert_eq!(pool.take(&target, None, None, CLIENT, at).is_some(), at == now);
        }
    }

    #[tokio::test]
    async fn a_bodiless_request_after_a_body_lets_no_other_client_in() {
        let now = clock::monotonic();
        let until = now + Duration::from_secs(60);
        let (pool, target, connection, _kept) = after_a_request(true, None).await;
        pool.give_back(&target, connection, None, CLIENT, until, now);
        let mut connection = pool.take(&target, None, None, CLIENT, now).unwrap();
        connection.begin(None);
        pool.give_back(&target, connection, None, CLIENT, until, now);
        assert!(pool.take(&target, None, None, OTHER, now).is_none());
        // After a quiet time, another such request changes nothing.
        let mut connection = pool.take(&target, None, None, CLIENT, now + QUIET).unwrap();
        connection.begin(None);
        pool.give_back(&target, connection, None, CLIENT, until, now);
        assert!(pool.take(&target, None, None, OTHER, now).is_some());
    }

    #[tokio::test]
    async fn a_wait_for_a_place_ends_while_connections_serve_another_client() {
        let now = clock::monotonic();
        let until = now + Duration::from_secs(60);
        let (pool, target, connection, _kept) = after_a_request(true, Some(1)).await;
        pool.give_back(&target, connection, None, CLIENT, until, now);
        assert!(pool.take(&target, None, None, OTHER, now).is_none());
        let found = pool.wait_for_place(&target, None, None, OTHER, QUIET).await;
        assert!(matches!(found, Ok(Checkout::Dial(Some(_)))), "{found:?}");
    }
}
