//! What a worker owns and its exchanges share: everything here lives on one core and no other thread
//! touches it, so there are cells where there would be locks.

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

/// One worker's own things.
#[derive(Debug)]
pub struct WorkerCtx {
    /// The worker's index, from 0.
    pub index: usize,
    /// Idle connections to targets.
    pub pool: Pool<RequestBody>,
    /// Targets that refuse connections, and the requests that wait for them.
    pub reconnects: Reconnects,
    /// Tokens that were opened and sealed.
    pub tokens: TokenCache,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// Whether the process is leaving: answers then end their connection.
    pub draining: Cell<bool>,
    /// Whether it cuts what is still under way.
    pub cutting: Cell<bool>,
    /// Whether exchanges are written down.
    pub writes_log: bool,
    /// Whether Referer is written down.
    pub keeps_referer: bool,
    /// Heads of which a part has come.
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
    /// Stands where a head was given back.
    no_request: Rc<Request>,
    #[expect(clippy::vec_box, reason = "heads are lent and given back in their boxes")]
    responses: RefCell<Vec<Box<Response>>>,
    buffers: RefCell<Vec<Vec<u8>>>,
    next_conn: Cell<u64>,
}

impl WorkerCtx {
    /// Sets a worker up.
    pub fn new(
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

    /// The picture an exchange begins with.
    pub fn snapshot(&self) -> SnapshotRef {
        let (reader, last) = &mut *self.snapshots.borrow_mut();
        reader.current(last)
    }

    /// The moment at which the task that runs now was woken. All it does before it waits again
    /// happens at this one moment: reading the clock with every step cost as much as the log.
    pub fn now(&self) -> Moment {
        self.turn.get()
    }

    /// Begins a task's turn.
    pub fn begin_turn(&self) {
        self.turn.set(self.clock.get().advanced());
    }

    /// Begins a turn and sets both clocks, once a tick.
    pub fn tick(&self, now: Moment) {
        self.clock.set(now);
        self.turn.set(now);
    }

    /// A place for a client that is read on after its answer, if there is one left.
    pub fn linger(&self) -> Option<Lingering> {
        self.lingering.take()
    }

    /// 64 random bits.
    pub fn random(&self) -> u64 {
        self.random.borrow_mut().bits()
    }

    /// What newcomers are placed with. Borrowed for one call, never across a wait.
    pub fn draw(&self) -> RefMut<'_, Random> {
        self.random.borrow_mut()
    }

    /// The access log's buffer.
    pub fn access(&self) -> RefMut<'_, AccessBuffer> {
        self.access.borrow_mut()
    }

    /// Notes a request for the retry budget.
    pub fn record_request(&self, now: u64) {
        self.budget.borrow_mut().record_request(now);
    }

    /// Whether a request may be sent again.
    pub fn try_retry(&self, now: u64) -> bool {
        let allowed = self.budget.borrow_mut().try_retry(now);
        if allowed {
            self.counters.retries.add_one();
        }
        allowed
    }

    /// Tells the control thread, or counts that it could not be told.
    pub fn report(&self, report: Report) {
        if self.reports.try_send(report).is_err() {
            self.counters.reports_dropped.add_one();
        }
    }

    /// Room to read a target's head into. Borrowed for one call, never across a wait.
    pub fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// Hands the present moment as a Date field has it (RFC 9110 section 6.6.1) to `use_it`, formatted
    /// once a second.
    pub fn with_today<R>(&self, use_it: impl FnOnce(&str) -> R) -> R {
        format_once(&self.today, self.now().unix_seconds(), use_it)
    }

    /// Hands the date of a cookie's `Expires` to `use_it`, formatted once a second.
    pub fn with_date<R>(&self, unix_seconds: u64, use_it: impl FnOnce(&str) -> R) -> R {
        format_once(&self.date, unix_seconds, use_it)
    }

    /// The number of a client connection that was just accepted.
    pub fn next_conn(&self) -> u64 {
        let next = self.next_conn.get();
        self.next_conn.set(next + 1);
        next
    }

    /// A task of this worker's.
    pub fn turns<F: Future>(self: Rc<Self>, task: F) -> Turns<F> {
        Turns { worker: self, task: Box::pin(task) }
    }

    /// A request's head to read into; one that was used before, if there is one.
    pub fn take_request(&self) -> Rc<Request> {
        self.requests.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a head for another request, where no other holder is left and it is not large. Another is
    /// left in its place.
    pub fn give_back_request(&self, request: &mut Rc<Request>) {
        let is_small = request.fields.capacity() <= MAX_KEPT;
        let mut kept = self.requests.borrow_mut();
        if kept.len() < MAX_POOLED
            && is_small
            && let Some(only) = Rc::get_mut(request)
        {
            // Nothing of it may show in another exchange.
            only.clear();
            let request = std::mem::replace(request, Rc::clone(&self.no_request));
            kept.push(request);
        }
    }

    /// A response's head to read into.
    pub fn take_response(&self) -> Box<Response> {
        self.responses.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a head for another response.
    pub fn give_back_response(&self, response: Box<Response>) {
        let mut kept = self.responses.borrow_mut();
        if kept.len() < MAX_POOLED && response.fields.capacity() <= MAX_KEPT {
            kept.push(response);
        }
    }

    /// An empty buffer for a head on its way out.
    pub fn take_buffer(&self) -> Vec<u8> {
        let kept = self.buffers.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(USUAL_BUFFER))
    }

    /// Keeps a buffer for another head.
    pub fn give_back_buffer(&self, mut buffer: Vec<u8>) {
        let mut kept = self.buffers.borrow_mut();
        if kept.len() < MAX_POOLED && (1..=MAX_KEPT).contains(&buffer.capacity()) {
            buffer.clear();
            kept.push(buffer);
        }
    }
}

/// A task, each turn of which begins with one reading of the clock.
#[derive(Debug)]
pub struct Turns<F> {
    worker: Rc<WorkerCtx>,
    /// Boxed: a task's future is moved four times.
    task: Pin<Box<F>>,
}

impl<F: Future> Future for Turns<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.worker.begin_turn();
        self.task.as_mut().poll(cx)
    }
}

/// Hands the date of this second to `use_it`, formatted when the second is another than before.
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

/// Heads and buffers that are kept for the next exchange: as many as exchanges come and go within one
/// turn of a busy worker. A larger one than the second is freed.
const MAX_POOLED: usize = 64;
const MAX_KEPT: usize = 16 * 1_024;
/// Room for a head and a small body.
const USUAL_BUFFER: usize = 4 * 1_024;

/// A head of the usual size and a small body at once. A read that fills it is followed by another.
const SCRATCH: usize = 16 * 1_024;

/// The end of the year 9999, after which HTTP has no dates.
const LAST_DATE: u64 = 253_402_300_799;
