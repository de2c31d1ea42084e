//! A worker's own idle connections, by target; the one that was used last goes out first. HTTP/2
//! connections, idle or not. And what a target's next TLS handshake begins with.

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

/// Idle connections kept for one target. A burst leaves no more than these behind.
const MAX_IDLE: usize = 256;
/// How long a connection must have been quiet after a request with a body before it serves another
/// client: a target that ignores bodies takes one for a request, and answers that next. Its second
/// answer is there within a round trip, and between a balancer and its targets none takes that long.
const QUIET: Duration = Duration::from_millis(50);
/// The same after a long body: all of it may be in the sockets on the way when the target answers the
/// head, and a target that is busy takes longer than a round trip to read it.
const QUIET_AFTER_LONG: Duration = Duration::from_secs(5);

/// The pool.
#[derive(Debug)]
pub struct Pool<B> {
    slots: RefCell<Vec<Option<Slot<B>>>>,
    connectors: RefCell<Connectors>,
}

#[derive(Debug)]
struct Slot<B> {
    /// Whose connections these are: the slot of a target that is gone may be another's later.
    target: Weak<TargetState>,
    idle: Vec<Idle<B>>,
    /// Where HTTP/2 is spoken.
    http2: Option<Rc<Connections>>,
    returned: Rc<Notify>,
    /// Made for the first handshake.
    connector: Option<Connector>,
    failure_log: LogThrottle,
}

#[derive(Debug)]
struct Idle<B> {
    /// Whose it is, where it was authenticated (RFC 4559 section 6): no other's ever.
    owner: Option<LocalWeak<Owner>>,
    connection: Box<Connection<B>>,
    until: Instant,
    /// The client connection it serves alone for now, and until when.
    settles: Option<(ConnId, Instant)>,
}

/// The number of a client connection in its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnId(pub u64);

impl ConnId {
    /// No client's: of a connection that was dialled for none.
    pub const NONE: ConnId = ConnId(u64::MAX);
}

/// A client connection that has target connections of its own, closed when it is.
#[derive(Debug, Default)]
pub struct Owner;

impl<B: Body<Data = Bytes> + Unpin> Idle<B> {
    fn is_of(&self, owner: Option<&Rc<Owner>>) -> bool {
        let own = self.owner.as_ref().map(LocalWeak::as_ptr);
        own == owner.map(Rc::as_ptr)
    }

    /// Whether a request of this client connection may go over it by now.
    fn may_serve(&self, asked_by: ConnId, now: Instant) -> bool {
        self.settles.is_none_or(|(client, until)| client == asked_by || until <= now)
    }

    /// Whether the target neither closed it nor said anything unasked. Where an answer to another
    /// client may have come, the kernel is asked.
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
    /// An idle connection that is still open and done with its last exchange; where clients are
    /// announced to the target, the client's own; and where the client connection has some of its
    /// own, one of those first. After a request with a body it is the same client connection's until it
    /// has been quiet for `QUIET`.
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
        // Nearly always the first that is looked at.
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

    /// Keeps a connection for the next request, of its owner alone where it has one, until its time is
    /// over or another worker waits for its place.
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
            // One client alone has a use for a private one, so it is the first to go.
            let private = slot.idle.iter().position(|idle| idle.owner.is_some());
            // So it is where clients are announced, and that client may have left.
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

    /// Closes what has been idle too long, what its target closed or spoke on unasked, and one
    /// connection of each target that another worker waits for. Called on the worker's tick.
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

    /// True if there is no connection that [`Self::sweep`] would look at.
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

    /// What shakes hands with the target, where it is to; handshakes after the first resume.
    pub fn connector(&self, target: &Arc<TargetState>) -> Option<Connector> {
        let peer = target.tls()?;
        let mut slots = self.slots.borrow_mut();
        let connector = &mut slot(&mut slots, target).connector;
        let make = || self.connectors.borrow_mut().resuming(peer);
        Some(connector.get_or_insert_with(make).clone())
    }

    /// Whether it may be told that the target's handshakes fail.
    pub fn should_log_failure(&self, target: &Arc<TargetState>, now: Instant) -> bool {
        slot(&mut self.slots.borrow_mut(), target).failure_log.allow(now)
    }

    /// A way to a target whose connections are bounded: a place to dial with, or an idle
    /// connection that came back meanwhile. `None` within is "dial without a place".
    ///
    /// # Errors
    /// [`ConnectError::Full`] when the queue is full or nothing came free in time.
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
                        // Later than `now`: what was too young for this client then may be quiet.
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

    /// Closes the connection that has been idle longest, which is of no use to the client that
    /// waits: it was announced to be another's.
    fn make_place(&self, target: &Arc<TargetState>) {
        let mut slots = self.slots.borrow_mut();
        let slot = slot(&mut slots, target);
        if !slot.idle.is_empty() {
            slot.idle.remove(0).connection.close();
        }
    }
}

/// What [`Pool::wait_for_place`] found.
#[derive(Debug)]
pub enum Checkout<B> {
    /// Dial, and hold this as long as the connection lives.
    Dial(Option<OwnedSemaphorePermit>),
    /// No need to.
    Idle(Box<Connection<B>>),
}

impl<B> Slot<B> {
    /// Whether another worker, and nobody here, waits for one of the target's places.
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

    /// What idle connections are left, in their order: which of them are private.
    fn private(pool: &Pool<Empty<Bytes>>) -> Vec<bool> {
        let slots = pool.slots.borrow();
        let idle = slots.iter().flatten().flat_map(|slot| &slot.idle);
        idle.map(|idle| idle.owner.is_some()).collect()
    }

    #[tokio::test]
    async fn a_full_pool_closes_its_oldest_private_connection_before_an_ordinary_one() {
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
        // Where all are ordinary they are as good as what comes, and better if that is private.
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
    async fn after_a_body_a_connection_serves_its_client_alone_until_it_has_been_quiet() {
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
            // It is passed over, not closed.
            let left = pool.take(&target, None, None, CLIENT, at);
            assert_eq!(left.is_some(), !expected, "{body} {asked_by:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_is_passed_over_for_one_that_has_been_quiet() {
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
    async fn a_second_answer_to_one_request_meets_no_other_client() {
        let now = clock::monotonic();
        let until = now + Duration::from_secs(60);
        for at in [now, now + QUIET] {
            let (pool, target, mut connection, answers) = after_a_request(true, None).await;
            // The runtime has looked, and is told of nothing that comes before this task waits.
            assert!(connection.is_reusable());
            pool.give_back(&target, connection, None, CLIENT, until, now);
            let answers = answers.into_std().unwrap();
            let answer = b"HTTP/1.1 200 OK\r\n\r\n";
            assert_eq!(std::io::Write::write(&mut &answers, answer).unwrap(), answer.len());
            assert!(pool.take(&target, None, None, OTHER, at).is_none());
            // The client that sent the body may meet it, but not after the time to settle.
            assert_eq!(pool.take(&target, None, None, CLIENT, at).is_some(), at == now);
        }
    }

    #[tokio::test]
    async fn a_request_without_a_body_behind_one_with_a_body_lets_no_other_client_in() {
        let now = clock::monotonic();
        let until = now + Duration::from_secs(60);
        let (pool, target, connection, _kept) = after_a_request(true, None).await;
        pool.give_back(&target, connection, None, CLIENT, until, now);
        let mut connection = pool.take(&target, None, None, CLIENT, now).unwrap();
        connection.begin(None);
        pool.give_back(&target, connection, None, CLIENT, until, now);
        assert!(pool.take(&target, None, None, OTHER, now).is_none());
        // Once it was quiet, another such request changes nothing.
        let mut connection = pool.take(&target, None, None, CLIENT, now + QUIET).unwrap();
        connection.begin(None);
        pool.give_back(&target, connection, None, CLIENT, until, now);
        assert!(pool.take(&target, None, None, OTHER, now).is_some());
    }

    #[tokio::test]
    async fn a_wait_for_a_place_ends_though_all_connections_are_another_clients_for_now() {
        let now = clock::monotonic();
        let until = now + Duration::from_secs(60);
        let (pool, target, connection, _kept) = after_a_request(true, Some(1)).await;
        pool.give_back(&target, connection, None, CLIENT, until, now);
        assert!(pool.take(&target, None, None, OTHER, now).is_none());
        let found = pool.wait_for_place(&target, None, None, OTHER, QUIET).await;
        assert!(matches!(found, Ok(Checkout::Dial(Some(_)))), "{found:?}");
    }
}
