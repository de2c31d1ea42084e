//! The context of a worker, shared by its exchanges. All of it lives on one thread, so it uses
//! cells instead of locks.

use super::linger::{LingerPermits, Lingering};
use super::partial_heads::PartialHeads;
use super::reconnects::Reconnects;
use super::token_cache::TokenCache;
use super::upload::RequestBody;
use crate::base::clock::Moment;
use crate::base::random::Random;
use crate::config::settings::AccessFormat;
use crate::http1::request::Request;
use crate::http1::response::Response;
use crate::model::published::{Reader, SnapshotRef};
use crate::model::report::Report;
use crate::net::pool::Pool;
use crate::observe::access_log::AccessBuffer;
use crate::observe::counters::Counters;
use crate::policy::retry::RetryBudget;
use std::cell::{Cell, RefCell, RefMut};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::mpsc;

/// The context of one worker.
#[derive(Debug)]
pub(crate) struct WorkerCtx {
    /// The worker's index, from 0.
    pub index: usize,
    /// Idle connections to targets.
    pub pool: Pool<RequestBody>,
    /// Targets that refuse connections, and the requests that wait for them.
    pub reconnects: Reconnects,
    /// The cache of opened and sealed tokens.
    pub tokens: TokenCache,
    /// The worker's counters.
    pub counters: Arc<Counters>,
    /// True while the process drains: responses then end their connection.
    pub draining: Cell<bool>,
    /// True while the process cuts the remaining exchanges.
    pub cutting: Cell<bool>,
    /// True if access records are written.
    pub writes_log: bool,
    /// True if access records contain Referer.
    pub keeps_referer: bool,
    /// Incomplete request heads.
    pub partial_heads: PartialHeads,
    lingering: LingerPermits,
    turn: Cell<Moment>,
    clock: Cell<Moment>,
    snapshots: RefCell<(Reader, Option<SnapshotRef>)>,
    random: RefCell<Random>,
    access: RefCell<AccessBuffer>,
    budget: RefCell<RetryBudget>,
    reports: mpsc::Sender<Report>,
    date: RefCell<(u64, String)>,
    today: RefCell<(u64, String)>,
    scratch: RefCell<Box<[u8]>>,
    requests: RefCell<Vec<Rc<Request>>>,
    /// Replaces a head that was given back.
    no_request: Rc<Request>,
    #[expect(clippy::vec_box, reason = "heads are lent and given back in their boxes")]
    responses: RefCell<Vec<Box<Response>>>,
    buffers: RefCell<Vec<Vec<u8>>>,
    next_conn: Cell<u64>,
}

impl WorkerCtx {
    /// Creates a worker's context.
    pub(crate) fn new(
        index: usize,
        snapshots: Reader,
        random: Random,
        access: AccessBuffer,
        counters: Arc<Counters>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        let now = Moment::now();
        Self {
            index,
            pool: Pool::default(),
            reconnects: Reconnects::default(),
            tokens: TokenCache::default(),
            counters,
            draining: Cell::new(false),
            cutting: Cell::new(false),
            writes_log: access.format().is_some(),
            keeps_referer: access.format() == Some(AccessFormat::Combined),
            partial_heads: PartialHeads::default(),
            lingering: LingerPermits::default(),
            turn: Cell::new(now),
            clock: Cell::new(now),
            snapshots: RefCell::new((snapshots, None)),
            random: RefCell::new(random),
            access: RefCell::new(access),
            budget: RefCell::default(),
            reports,
            date: RefCell::new((0, String::new())),
            today: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            requests: RefCell::default(),
            no_request: Rc::default(),
            responses: RefCell::default(),
            buffers: RefCell::default(),
            next_conn: Cell::new(0),
        }
    }

    /// The snapshot for a new exchange.
    pub(crate) fn snapshot(&self) -> SnapshotRef {
        let (reader, last) = &mut *self.snapshots.borrow_mut();
        reader.current(last)
    }

    /// The time at which the running task was woken. All its work before the next wait counts as
    /// that moment: reading the clock at every step cost as much as the log.
    pub(crate) fn now(&self) -> Moment {
        self.turn.get()
    }

    /// Begins a task's turn.
    pub(crate) fn begin_turn(&self) {
        self.turn.set(self.clock.get().advanced());
    }

    /// Begins a turn and sets both clocks, once a tick.
    pub(crate) fn tick(&self, now: Moment) {
        self.clock.set(now);
        self.turn.set(now);
    }

    /// Takes a permit for reading on after a client's response, if one is left.
    pub(crate) fn linger(&self) -> Option<Lingering> {
        self.lingering.take()
    }

    /// 64 random bits.
    pub(crate) fn random(&self) -> u64 {
        self.random.borrow_mut().bits()
    }

    /// The random numbers that place new clients. Borrowed for one call, never across a wait.
    pub(crate) fn draw(&self) -> RefMut<'_, Random> {
        self.random.borrow_mut()
    }

    /// The access log's buffer.
    pub(crate) fn access(&self) -> RefMut<'_, AccessBuffer> {
        self.access.borrow_mut()
    }

    /// Records a request for the retry budget.
    pub(crate) fn record_request(&self, now: u64) {
        self.budget.borrow_mut().record_request(now);
    }

    /// Returns true if the retry budget allows a retry now, and spends it.
    pub(crate) fn try_retry(&self, now: u64) -> bool {
        let allowed = self.budget.borrow_mut().try_retry(now);
        if allowed {
            self.counters.retries.add_one();
        }
        allowed
    }

    /// Sends a report to the control thread, or counts it as lost.
    pub(crate) fn report(&self, report: Report) {
        if self.reports.try_send(report).is_err() {
            self.counters.reports_dropped.add_one();
        }
    }

    /// The buffer for reading a target's head. Borrowed for one call, never across a wait.
    pub(crate) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// Calls `use_it` with the current time as a Date field (RFC 9110 section 6.6.1), formatted
    /// once a second.
    pub(crate) fn with_today<R>(&self, use_it: impl FnOnce(&str) -> R) -> R {
        format_once(&self.today, self.now().unix_seconds(), use_it)
    }

    /// Calls `use_it` with the date of a cookie's `Expires`, formatted once a second.
    pub(crate) fn with_date<R>(&self, unix_seconds: u64, use_it: impl FnOnce(&str) -> R) -> R {
        format_once(&self.date, unix_seconds, use_it)
    }

    /// The number for a client connection that was just accepted.
    pub(crate) fn next_conn(&self) -> u64 {
        let next = self.next_conn.get();
        self.next_conn.set(next + 1);
        next
    }

    /// Wraps a task of this worker.
    pub(crate) fn turns<F: Future>(self: Rc<Self>, task: F) -> Turns<F> {
        Turns { worker: self, task: Box::pin(task) }
    }

    /// Takes a request head to parse into, a used one if available.
    pub(crate) fn take_request(&self) -> Rc<Request> {
        self.requests.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a head for another request if there is no other holder and it is not large. An empty
    /// head takes its place.
    pub(crate) fn give_back_request(&self, request: &mut Rc<Request>) {
        let is_small = request.fields.capacity() <= MAX_KEPT;
        let mut kept = self.requests.borrow_mut();
        if kept.len() < MAX_POOLED
            && is_small
            && let Some(only) = Rc::get_mut(request)
        {
            // No content may appear in another exchange.
            only.clear();
            let request = std::mem::replace(request, Rc::clone(&self.no_request));
            kept.push(request);
        }
    }

    /// Takes a response head to parse into.
    pub(crate) fn take_response(&self) -> Box<Response> {
        self.responses.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a head for another response.
    pub(crate) fn give_back_response(&self, response: Box<Response>) {
        let mut kept = self.responses.borrow_mut();
        if kept.len() < MAX_POOLED && response.fields.capacity() <= MAX_KEPT {
            kept.push(response);
        }
    }

    /// Takes an empty buffer for a head to send.
    pub(crate) fn take_buffer(&self) -> Vec<u8> {
        let kept = self.buffers.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(USUAL_BUFFER))
    }

    /// Keeps a buffer for another head.
    pub(crate) fn give_back_buffer(&self, mut buffer: Vec<u8>) {
        let mut kept = self.buffers.borrow_mut();
        if kept.len() < MAX_POOLED && (1..=MAX_KEPT).contains(&buffer.capacity()) {
            buffer.clear();
            kept.push(buffer);
        }
    }
}

/// A task that reads the clock once at the start of each turn.
#[derive(Debug)]
pub(crate) struct Turns<F> {
    worker: Rc<WorkerCtx>,
    /// Boxed, because a task's future is moved four times.
    task: Pin<Box<F>>,
}

impl<F: Future> Future for Turns<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.worker.begin_turn();
        self.task.as_mut().poll(cx)
    }
}

/// Calls `use_it` with the date, formatted again only if the second changed.
fn format_once<R>(
    date: &RefCell<(u64, String)>,
    unix_seconds: u64,
    use_it: impl FnOnce(&str) -> R,
) -> R {
    let mut date = date.borrow_mut();
    if date.0 != unix_seconds || date.1.is_empty() {
        let time = UNIX_EPOCH + Duration::from_secs(unix_seconds.min(LAST_DATE));
        *date = (unix_seconds, httpdate::fmt_http_date(time));
    }
    use_it(&date.1)
}

/// Bound on the heads and buffers kept for later exchanges: as many as start and end within one
/// turn of a busy worker. Larger buffers than [`USUAL_BUFFER`] are freed.
const MAX_POOLED: usize = 64;
const MAX_KEPT: usize = 16 * 1_024;
/// Bytes of a usual buffer: a head and a small body.
const USUAL_BUFFER: usize = 4 * 1_024;

/// Bytes of the read buffer: a head of the usual size and a small body. A read that fills it is
/// followed by another.
const SCRATCH: usize = 16 * 1_024;

/// The end of the year 9999, the last that HTTP dates can express.
const LAST_DATE: u64 = 253_402_300_799;
