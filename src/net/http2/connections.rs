//! A worker's connections to one target: as few as its streams need.

use super::stream::Place;
use super::{Connection, dial};
use crate::ground::clock::Moment;
use crate::model::live::TargetLive;
use crate::net::connect::ConnectError;
use crate::net::tls::Connector;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// Connections to one target, for targets that take few streams on each.
const MOST_CONNECTIONS: usize = 64;
/// How long one without streams is kept where `upstream.timeouts.keep_alive` is shorter. It may be
/// longer than with HTTP/1.1: a target that closes says up to which stream it has served, so no
/// request is lost to a close that crossed it.
const LEAST_IDLE: Duration = Duration::from_secs(60);

/// The connections.
#[derive(Debug, Default)]
pub struct Connections {
    list: RefCell<Vec<Rc<Connection>>>,
    dialling: RefCell<Option<Rc<Dial>>>,
    /// There is room again on some connection.
    freed: Rc<Notify>,
    longest_idle: Cell<Duration>,
    /// Who waits for room here.
    waiting: Cell<usize>,
}

/// A dial under way. It goes on without whoever asked for it first, for others may wait as well.
#[derive(Debug, Default)]
struct Dial {
    failure: RefCell<Option<ConnectError>>,
    is_told: Cell<bool>,
    is_over: Cell<bool>,
    over: Notify,
}

/// How a target is reached.
#[derive(Debug)]
pub struct Way {
    /// Where it is.
    pub address: SocketAddr,
    /// Until a connection is ready, and until there is room on one.
    pub timeout: Duration,
    /// Present where connections are TLS.
    pub tls: Option<Connector>,
    /// How long an idle connection may be kept.
    pub keep_alive: Duration,
}

/// No room on any connection.
#[derive(Debug)]
pub struct Unreached {
    /// Why.
    pub error: ConnectError,
    /// Whether nobody else was told of this very failure: one dial that fails ten requests is one
    /// failed dial.
    pub is_news: bool,
}

impl Connections {
    /// Room for a stream: on a connection there is, or on one that is dialled, which is shared with
    /// whoever else waits. Not on `avoided`, if there can be another.
    ///
    /// # Errors
    /// When the target cannot be reached, or nothing comes free in time.
    pub async fn take(
        self: &Rc<Self>,
        way: Way,
        target: &Arc<TargetLive>,
        avoided: Option<&Rc<Connection>>,
    ) -> Result<Place, Unreached> {
        self.longest_idle.set(way.keep_alive.max(LEAST_IDLE));
        let full = || Unreached { error: ConnectError::Full, is_news: false };
        let wait = async {
            loop {
                if let Some(place) = self.room(avoided) {
                    return Ok(place);
                }
                let dial = self.dialling.borrow().clone();
                let dial = match dial {
                    Some(dial) => dial,
                    None => match self.may_dial(target) {
                        Some(permit) => self.dial(&way, permit),
                        None => {
                            if let Some(place) = self.room(None) {
                                return Ok(place);
                            }
                            self.wait_for_room(target).await?;
                            continue;
                        }
                    },
                };
                dial.wait().await?;
            }
        };
        // A dial has the same time, and says what became of it.
        let patience = way.timeout * 2;
        tokio::time::timeout(patience, wait).await.unwrap_or_else(|_| Err(full()))
    }

    /// Room that there is now.
    pub fn room(&self, avoided: Option<&Rc<Connection>>) -> Option<Place> {
        let list = self.list.borrow();
        let usable = |connection: &&Rc<Connection>| {
            let is_avoided = avoided.is_some_and(|avoided| Rc::ptr_eq(avoided, connection));
            !is_avoided && !connection.is_going_away()
        };
        list.iter().filter(usable).find_map(|connection| Place::take(connection, &self.freed))
    }

    /// What a dial holds, if another connection may be made: a place under `max_connections`, or
    /// nothing where there is no such bound.
    fn may_dial(&self, target: &Arc<TargetLive>) -> Option<Option<OwnedSemaphorePermit>> {
        if self.list.borrow().len() >= MOST_CONNECTIONS {
            return None;
        }
        match target.connections() {
            None => Some(None),
            Some(places) => Arc::clone(places).try_acquire_owned().ok().map(Some),
        }
    }

    /// Until there may be room, here or for another connection.
    async fn wait_for_room(&self, target: &Arc<TargetLive>) -> Result<(), Unreached> {
        let full = || Unreached { error: ConnectError::Full, is_news: false };
        let _in_line = target.wait_in_line().ok_or_else(full)?;
        let _here = Waiting::new(&self.waiting);
        match target.connections() {
            Some(places) if self.list.borrow().len() < MOST_CONNECTIONS => tokio::select! {
                // Given back at once, and taken again by whoever dials.
                _ = places.acquire() => {}
                () = self.freed.notified() => {}
            },
            _ => self.freed.notified().await,
        }
        Ok(())
    }

    fn dial(self: &Rc<Self>, way: &Way, permit: Option<OwnedSemaphorePermit>) -> Rc<Dial> {
        let dialled = Rc::new(Dial::default());
        *self.dialling.borrow_mut() = Some(Rc::clone(&dialled));
        let (connections, outcome) = (Rc::downgrade(self), Rc::clone(&dialled));
        let (address, timeout, tls) = (way.address, way.timeout, way.tls.clone());
        tokio::task::spawn_local(async move {
            let began = Moment::now().monotonic;
            let connected = dial(address, timeout, permit, tls.as_ref(), began).await;
            if let Some(connections) = connections.upgrade() {
                *connections.dialling.borrow_mut() = None;
                match connected {
                    Ok(connection) => connections.list.borrow_mut().push(connection),
                    Err(error) => *outcome.failure.borrow_mut() = Some(error),
                }
            }
            outcome.is_over.set(true);
            outcome.over.notify_waiters();
        });
        dialled
    }

    /// Closes what has been idle too long, what is dead, and what its target leaves; and one
    /// connection where another worker waits for its place under `max_connections`. Called on the
    /// worker's tick.
    pub fn sweep(&self, now: Instant, target: &TargetLive) {
        let longest_idle = self.longest_idle.get();
        let mut list = self.list.borrow_mut();
        let before = list.len();
        list.retain(|connection| connection.look_after(now, longest_idle));
        let is_bounded = target.connections().is_some();
        let awaited_elsewhere = is_bounded && target.is_awaited() && self.waiting.get() == 0;
        let retiring = list.iter().any(|connection| connection.is_retired());
        if awaited_elsewhere
            && !retiring
            && let Some(quietest) = list.iter().min_by_key(|connection| connection.open.get())
        {
            quietest.retire();
        }
        if list.len() < before {
            self.freed.notify_waiters();
        }
    }
}

impl Dial {
    async fn wait(&self) -> Result<(), Unreached> {
        let over = self.over.notified();
        if !self.is_over.get() {
            over.await;
        }
        let failure = self.failure.borrow();
        let Some(failure) = failure.as_ref() else { return Ok(()) };
        Err(Unreached { error: failure.again(), is_news: !self.is_told.replace(true) })
    }
}

/// Counts one who waits.
struct Waiting<'c>(&'c Cell<usize>);

impl<'c> Waiting<'c> {
    fn new(count: &'c Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
