//! A worker's connections to one target: as few as its streams need.

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

/// Connections to one target that take streams, for targets that take few on each. Those that take
/// no more are not among them, or slow streams would take the target from all other requests: each of
/// them has at least one stream.
pub(super) const MAX_CONNECTIONS: usize = 64;
/// Private connections to one target that have streams: as many as of the others. A request that would
/// need one more is refused, and no other request is.
pub(super) const MAX_PRIVATE: usize = 64;
/// How long one without streams is kept where `upstream.timeouts.keep_alive` is shorter. It may be
/// longer than with HTTP/1.1: a target that closes says up to which stream it has served, so what
/// crossed a close is sent again, unless some of its body was.
const MIN_IDLE: Duration = Duration::from_secs(60);

/// The connections.
#[derive(Debug, Default)]
pub struct Connections {
    list: RefCell<Vec<Rc<Connection>>>,
    dialling: RefCell<Option<Rc<PendingDial>>>,
    /// Who waits for room. Room goes to the first here as it comes free, and never past them to a
    /// newcomer.
    waiters: RefCell<VecDeque<Waiter>>,
    /// Requests that came for room so far.
    next_ticket: Cell<u64>,
    longest_idle: Cell<Duration>,
}

/// One in line.
#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    is_private: bool,
    config: Rc<DialConfig>,
    outcome: oneshot::Sender<Result<StreamPermit, ConnectError>>,
}

/// A dial, or the wait for a place under `max_connections` before it. It is one for all in line:
/// each with a wait of their own, they would hand the place round among them. Once begun it goes on
/// without whoever it began for.
#[derive(Debug, Default)]
struct PendingDial {
    has_begun: Cell<bool>,
    task: RefCell<Option<AbortHandle>>,
    over: Notify,
}

/// How a target is reached.
pub struct DialConfig {
    /// Where it is.
    pub address: SocketAddr,
    /// Until there is room, and apart from that until a dial has a connection.
    pub timeout: Duration,
    /// Present where connections are TLS.
    pub tls: Option<Connector>,
    /// How long an idle connection may be kept.
    pub keep_alive: Duration,
    /// Told of a dial that failed through the target's fault: once, however many wait for it, and
    /// where nobody does any more.
    pub failed: Box<dyn Fn()>,
    /// Told of a dial that succeeded.
    pub connected: Box<dyn Fn()>,
}

impl fmt::Debug for DialConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialConfig").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Connections {
    /// Room for a stream: on a connection there is, or on one that is dialled, which is shared with
    /// whoever else waits. A request that had room, and was refused, comes again with the
    /// `ticket` it had. One that authenticates its connection has it alone from then on (`is_private`).
    ///
    /// # Errors
    /// When the target cannot be reached, nothing comes free in time, or there are as many private
    /// connections as there may be.
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
            // The connection may have stopped to take streams after the place was given and before
            // this heard of it. Nothing was sent, so the turn is kept.
            if !place.connection().is_going_away() {
                return Ok(place);
            }
        }
    }

    /// Room, once those with an earlier turn have some.
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
        // What was served at once does not wait, however many do.
        if let Ok(outcome) = outcome.try_recv() {
            return outcome;
        }
        let _counted = match self.dial_under_way() {
            Some(_) => None,
            None => Some(target.wait_for_connection().ok_or(ConnectError::Full)?),
        };
        // Nobody leaves the line without being told.
        let told = |outcome: Result<_, _>| outcome.unwrap_or(Err(ConnectError::Full));
        if let Ok(outcome) = timer::timeout_at(until, &mut outcome).await {
            return told(outcome);
        }
        // A dial has its own time, and says what becomes of it.
        let dial = self.dial_under_way().ok_or(ConnectError::Full)?;
        tokio::select! {
            biased;
            outcome = &mut outcome => told(outcome),
            () = dial.over.notified() => outcome.try_recv().unwrap_or(Err(ConnectError::Full)),
        }
    }

    /// Room that there is now, and that nobody in line has a claim to.
    pub fn room(self: &Rc<Self>, is_private: bool) -> Option<StreamPermit> {
        self.serve();
        // Who is left in line may have a claim to it: a private request to a connection on which no
        // other stream is about to begin.
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

    /// Gives the room there is to those who wait for it.
    pub(super) fn serve(self: &Rc<Self>) {
        loop {
            let first = self.waiters.borrow().front().map(|first| (first.ticket, first.is_private));
            let Some((ticket, is_private)) = first else { return };
            let outcome = match is_private && self.is_private_full() {
                // It would keep those behind it from room that they may have.
                true => Err(ConnectError::Full),
                false => {
                    let Some(place) = self.free(ticket, is_private) else { return };
                    Ok(place)
                }
            };
            let first = self.waiters.borrow_mut().pop_front();
            if let Some(first) = first {
                // A place dropped where it is not awaited serves the next.
                let _ = first.outcome.send(outcome);
            }
            self.stop_asking();
        }
    }

    /// Waits no longer for a place under `max_connections` if nobody here has a use for it.
    fn stop_asking(&self) {
        if !self.waiters.borrow().is_empty() {
            return;
        }
        let asked = self.dialling.borrow_mut().take_if(|dial| !dial.has_begun.get());
        if let Some(task) = asked.and_then(|dial| dial.task.take()) {
            task.abort();
        }
    }

    /// Serves those in line, and sees to another connection for those who are left.
    fn pump(self: &Rc<Self>, target: &Arc<TargetState>) {
        self.serve();
        let first = self.waiters.borrow().front().map(|first| Rc::clone(&first.config));
        let Some(config) = first else { return };
        // What takes no streams and has none is of no use, and its place may be.
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
                    // There may be room meanwhile; the place is another's if that is enough.
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

    /// Whether another connection is of use. It is not where the target takes no streams on one that
    /// has none: it would take none on the next. Nor is it for the moment after it refused one.
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
                    // Who left meanwhile need not know.
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

    /// Closes what has been idle too long, what is dead, and what its target leaves; and one
    /// connection where another worker waits for its place under `max_connections`. Called on the
    /// worker's tick, which is also when a target's new bound of streams is noticed.
    pub fn sweep(self: &Rc<Self>, now: Instant, target: &Arc<TargetState>) {
        let longest_idle = self.longest_idle.get();
        self.list.borrow_mut().retain(|connection| connection.maintain(now, longest_idle));
        let is_bounded = target.connections().is_some();
        if is_bounded && target.is_awaited() && self.waiters.borrow().is_empty() {
            let list = self.list.borrow();
            let retiring = list.iter().any(|connection| connection.is_retired());
            // A request of this worker's that was just given a place counts as waiting until it hears
            // of it.
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
    // Where the line is full, others are in it whom the worker that has the places hears of.
    let _in_line = target.wait_for_connection();
    let places = target.connections()?;
    Arc::clone(places).acquire_owned().await.ok()
}

/// A connection. A failure of the target's is told here, whoever else hears of it.
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

/// A place in the line, given up when dropped.
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
