//! A worker's HTTP/2 connections to one target: as few as its streams need.

use super::stream::{StreamPermit, Ticket};
use super::{Connection, dial};
use crate::base::clock::Moment;
use crate::model::live::TargetState;
use crate::net::connect::ConnectError;
use crate::net::timer;
use crate::net::tls::Connector;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::task::AbortHandle;

/// Bound on the connections to one target that accept new streams, for targets that allow few on
/// each. Connections that accept no more do not count, or slow streams would block the target for
/// all other requests; each of those has at least one stream.
pub(super) const MAX_CONNECTIONS: usize = 64;
/// Bound on the private connections to one target that have streams. A request that would need one
/// more is refused; other requests are not affected.
pub(super) const MAX_PRIVATE: usize = 64;
/// Minimum time an HTTP/2 connection without streams is kept, if `upstream.timeouts.keep_alive` is
/// shorter. It may be longer than with HTTP/1.1: a target that closes reports the last stream it
/// has processed, so a request that crosses the close is sent again, unless part of its body was
/// sent.
const MIN_IDLE: Duration = Duration::from_secs(60);

/// The connections to one target.
#[derive(Debug, Default)]
pub struct Connections {
    list: RefCell<Vec<Rc<Connection>>>,
    dialling: RefCell<Option<Rc<PendingDial>>>,
    /// Requests that wait for room. Free room goes to the first one here, never to a later request.
    waiters: RefCell<VecDeque<Waiter>>,
    /// The number of requests that asked for room so far.
    next_ticket: Cell<u64>,
    longest_idle: Cell<Duration>,
}

/// One waiting request.
#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    is_private: bool,
    config: Rc<DialConfig>,
    outcome: oneshot::Sender<Result<StreamPermit, ConnectError>>,
}

/// A dial, or the wait for a place under `max_connections` before it. All waiting requests share
/// it; with a wait each, they would pass the place around among themselves. It continues even if
/// the request it began for leaves.
#[derive(Debug, Default)]
struct PendingDial {
    has_begun: Cell<bool>,
    task: RefCell<Option<AbortHandle>>,
    over: Notify,
}

/// The parameters of a dial.
pub struct DialConfig {
    /// The target's address.
    pub address: SocketAddr,
    /// Time-out of the wait for room, and separately of the dial.
    pub timeout: Duration,
    /// The TLS connector; `None` for plain TCP.
    pub tls: Option<Connector>,
    /// Time an idle connection may be kept.
    pub keep_alive: Duration,
    /// Called for each dial that fails by the target's fault: once, regardless of the number of
    /// waiting requests, even if none is left.
    pub failed: Box<dyn Fn()>,
    /// Called for each dial that succeeds.
    pub connected: Box<dyn Fn()>,
}

impl fmt::Debug for DialConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialConfig").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Connections {
    /// Takes room for a stream, on an open connection or on one to be dialled, which all waiting
    /// requests share. A request whose stream was refused passes its old `ticket` again. A request
    /// that authenticates its connection (`is_private`) has the connection alone from then on.
    ///
    /// # Errors
    /// If the target cannot be reached, nothing becomes free in time, or the bound on private
    /// connections is reached.
    pub async fn take(
        self: &Rc<Self>,
        config: DialConfig,
        target: &Arc<TargetState>,
        ticket: Option<Ticket>,
        is_private: bool,
    ) -> Result<StreamPermit, ConnectError> {
        self.longest_idle.set(config.keep_alive.max(MIN_IDLE));
        if ticket.is_none()
            && let Some(place) = self.room(is_private)
        {
            return Ok(place);
        }
        let until = Moment::now().monotonic + config.timeout;
        let ticket = ticket.unwrap_or_else(|| self.ticket());
        let config = Rc::new(config);
        loop {
            let place = self.wait(&config, target, ticket, is_private, until).await?;
            // The connection may have stopped accepting streams between the grant and now. Nothing
            // was sent, so the request keeps its turn.
            if !place.connection().is_going_away() {
                return Ok(place);
            }
        }
    }

    /// Waits for room behind the requests with an earlier turn.
    async fn wait(
        self: &Rc<Self>,
        config: &Rc<DialConfig>,
        target: &Arc<TargetState>,
        ticket: Ticket,
        is_private: bool,
        until: Instant,
    ) -> Result<StreamPermit, ConnectError> {
        let (_in_line, mut outcome) = self.join(config, ticket, is_private);
        self.pump(target);
        // A request served at once does not wait, whatever the length of the queue.
        if let Ok(outcome) = outcome.try_recv() {
            return outcome;
        }
        let _counted = match self.dial_under_way() {
            Some(_) => None,
            None => Some(target.wait_for_connection().ok_or(ConnectError::Full)?),
        };
        // Every waiting request gets an outcome.
        let told = |outcome: Result<_, _>| outcome.unwrap_or(Err(ConnectError::Full));
        if let Ok(outcome) = timer::timeout_at(until, &mut outcome).await {
            return told(outcome);
        }
        // A dial has its own time-out and reports its outcome.
        let dial = self.dial_under_way().ok_or(ConnectError::Full)?;
        tokio::select! {
            biased;
            outcome = &mut outcome => told(outcome),
            () = dial.over.notified() => outcome.try_recv().unwrap_or(Err(ConnectError::Full)),
        }
    }

    /// Takes available room that no waiting request has a claim to.
    pub fn room(self: &Rc<Self>, is_private: bool) -> Option<StreamPermit> {
        self.serve();
        // A request that is still waiting may have a claim: a private request waits for a
        // connection on which no other stream is about to begin.
        if !self.waiters.borrow().is_empty() || is_private && self.is_private_full() {
            return None;
        }
        self.free(self.ticket(), is_private)
    }

    fn ticket(&self) -> Ticket {
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket + 1);
        Ticket(ticket)
    }

    fn free(self: &Rc<Self>, ticket: Ticket, is_private: bool) -> Option<StreamPermit> {
        let list = self.list.borrow();
        let usable = list.iter().filter(|connection| !connection.is_going_away());
        usable
            .into_iter()
            .find_map(|connection| StreamPermit::take(connection, self, ticket, is_private))
    }

    fn is_private_full(&self) -> bool {
        let list = self.list.borrow();
        let in_use =
            |connection: &&Rc<Connection>| connection.is_private.get() && connection.open.get() > 0;
        list.iter().filter(in_use).count() >= MAX_PRIVATE
    }

    fn join(
        self: &Rc<Self>,
        config: &Rc<DialConfig>,
        ticket: Ticket,
        is_private: bool,
    ) -> (QueueGuard, oneshot::Receiver<Result<StreamPermit, ConnectError>>) {
        let (outcome, hears) = oneshot::channel();
        let mut waiters = self.waiters.borrow_mut();
        let at = waiters.partition_point(|waiter| waiter.ticket < ticket);
        waiters.insert(at, Waiter { ticket, is_private, config: Rc::clone(config), outcome });
        drop(waiters);
        (QueueGuard { connections: Rc::clone(self), ticket }, hears)
    }

    /// Gives available room to the waiting requests.
    pub(super) fn serve(self: &Rc<Self>) {
        loop {
            let first = self.waiters.borrow().front().map(|first| (first.ticket, first.is_private));
            let Some((ticket, is_private)) = first else { return };
            let outcome = match is_private && self.is_private_full() {
                // It would block the requests behind it from room that they may use.
                true => Err(ConnectError::Full),
                false => {
                    let Some(place) = self.free(ticket, is_private) else { return };
                    Ok(place)
                }
            };
            let first = self.waiters.borrow_mut().pop_front();
            if let Some(first) = first {
                // A permit dropped by its receiver serves the next request.
                let _ = first.outcome.send(outcome);
            }
            self.stop_asking();
        }
    }

    /// Stops waiting for a place under `max_connections` if no request here needs it.
    fn stop_asking(&self) {
        if !self.waiters.borrow().is_empty() {
            return;
        }
        let asked = self.dialling.borrow_mut().take_if(|dial| !dial.has_begun.get());
        if let Some(task) = asked.and_then(|dial| dial.task.take()) {
            task.abort();
        }
    }

    /// Serves the waiting requests, and starts another dial for the rest.
    fn pump(self: &Rc<Self>, target: &Arc<TargetState>) {
        self.serve();
        let first = self.waiters.borrow().front().map(|first| Rc::clone(&first.config));
        let Some(config) = first else { return };
        // A connection without streams that accepts none is useless; its place may be needed.
        let is_of_use =
            |connection: &Rc<Connection>| connection.open.get() > 0 || !connection.is_retired();
        self.list.borrow_mut().retain(is_of_use);
        if self.dialling.borrow().is_some() || !self.may_dial() {
            return;
        }
        let place = match target.connections() {
            None => Ok(None),
            Some(places) => Arc::clone(places).try_acquire_owned().map(Some),
        };
        let dial =
            Rc::new(PendingDial { has_begun: Cell::new(place.is_ok()), ..PendingDial::default() });
        *self.dialling.borrow_mut() = Some(Rc::clone(&dial));
        let (connections, target) = (Rc::downgrade(self), Arc::clone(target));
        let this = Rc::clone(&dial);
        let task = tokio::task::spawn_local(async move {
            let place = match place {
                Ok(place) => place,
                Err(_) => {
                    let place = wait_for_place(&target).await;
                    let Some(connections) = connections.upgrade() else { return };
                    // Room may have become free meanwhile; if it suffices, the place goes to
                    // another worker.
                    connections.serve();
                    if connections.waiters.borrow().is_empty() {
                        return connections.stop_asking();
                    }
                    place
                }
            };
            this.has_begun.set(true);
            let connected = reach(&config, place).await;
            if let Some(connections) = connections.upgrade() {
                connections.dialled(connected, &target);
            }
            this.over.notify_waiters();
        });
        *dial.task.borrow_mut() = Some(task.abort_handle());
    }

    /// Returns true if another connection is of use. It is not if the target allows no streams on
    /// an existing connection without streams: it would allow none on the next. It is not for a
    /// short time after the target refused a stream either.
    fn may_dial(&self) -> bool {
        let list = self.list.borrow();
        let takes_none = |connection: &Rc<Connection>| {
            connection.open.get() == 0 && !connection.is_going_away() && !connection.has_room()
        };
        let waits =
            |connection: &Rc<Connection>| connection.is_backing_off() || takes_none(connection);
        let is_bounded = |connection: &&Rc<Connection>| !connection.is_retired();
        !list.iter().any(waits) && list.iter().filter(is_bounded).count() < MAX_CONNECTIONS
    }

    fn dial_under_way(&self) -> Option<Rc<PendingDial>> {
        self.dialling.borrow().clone().filter(|dial| dial.has_begun.get())
    }

    fn dialled(
        self: &Rc<Self>,
        connected: Result<Rc<Connection>, ConnectError>,
        target: &Arc<TargetState>,
    ) {
        *self.dialling.borrow_mut() = None;
        match connected {
            Ok(connection) => self.list.borrow_mut().push(connection),
            Err(error) => {
                for waiter in self.waiters.take() {
                    // The request may have left meanwhile.
                    let _ = waiter.outcome.send(Err(error.again()));
                }
            }
        }
        self.pump(target);
    }

    /// True if there is no connection, no dial, and no request in line.
    pub fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
            && self.dialling.borrow().is_none()
            && self.waiters.borrow().is_empty()
    }

    /// Closes connections that are idle for too long, are dead, or got GOAWAY; also one connection
    /// if another worker waits for its place under `max_connections`. Called on the worker's tick,
    /// which also notices a changed stream limit of the target.
    pub fn sweep(self: &Rc<Self>, now: Instant, target: &Arc<TargetState>) {
        let longest_idle = self.longest_idle.get();
        self.list.borrow_mut().retain(|connection| connection.maintain(now, longest_idle));
        let is_bounded = target.connections().is_some();
        if is_bounded && target.is_awaited() && self.waiters.borrow().is_empty() {
            let list = self.list.borrow();
            let retiring = list.iter().any(|connection| connection.is_retired());
            // A request of this worker that has just received a place counts as waiting until its
            // task runs.
            let is_ours = list.iter().any(|connection| connection.promised.get() > 0);
            let quietest = list.iter().min_by_key(|connection| connection.open.get());
            if let Some(quietest) = quietest.filter(|_| !retiring && !is_ours) {
                quietest.retire();
            }
        }
        self.pump(target);
    }
}

async fn wait_for_place(target: &Arc<TargetState>) -> Option<OwnedSemaphorePermit> {
    // If the queue is full, it holds requests of other workers, which the owner of the places sees.
    let _in_line = target.wait_for_connection();
    let places = target.connections()?;
    Arc::clone(places).acquire_owned().await.ok()
}

/// Opens a connection and reports the target's failure, even if no request waits for it.
async fn reach(
    config: &DialConfig,
    place: Option<OwnedSemaphorePermit>,
) -> Result<Rc<Connection>, ConnectError> {
    let began = Moment::now().monotonic;
    let connected = dial(config.address, config.timeout, place, config.tls.as_ref(), began).await;
    match &connected {
        Ok(_) => (config.connected)(),
        Err(error) if error.is_the_targets() => (config.failed)(),
        Err(_) => {}
    }
    connected
}

/// A place in the queue, given up when dropped.
struct QueueGuard {
    connections: Rc<Connections>,
    ticket: Ticket,
}

impl Drop for QueueGuard {
    fn drop(&mut self) {
        let mut waiters = self.connections.waiters.borrow_mut();
        let at = waiters.binary_search_by_key(&self.ticket, |waiter| waiter.ticket);
        let left = at.ok().and_then(|at| waiters.remove(at));
        drop(waiters);
        if left.is_some() {
            self.connections.stop_asking();
        }
    }
}
