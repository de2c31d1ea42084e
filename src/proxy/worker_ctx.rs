//! What a worker owns and its exchanges share: everything here lives on one core and is touched by
//! nobody else, so there are cells where there would be locks.

use super::body::RequestBody;
use super::progress::lingering::{Lingering, Places};
use super::reconnect::Reconnects;
use super::remembered::Remembered;
use crate::config::settings::AccessFormat;
use crate::decide::Live;
use crate::ground::clock::Moment;
use crate::ground::random::Random;
use crate::model::live::Availability;
use crate::model::published::{Picture, Reader};
use crate::model::report::Report;
use crate::model::sessions::Sessions;
use crate::model::snapshot::{Group, Snapshot, Target};
use crate::net::pool::Pool;
use crate::observe::access_log::AccessBuffer;
use crate::observe::counters::Counters;
use crate::policy::affinity::token::{Defect, Kind, Opened};
use crate::policy::balance::share::Share;
use crate::policy::retry::RetryBudget;
use http::HeaderValue;
use std::cell::{Cell, RefCell, RefMut};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::mpsc;

/// One worker's own things.
#[derive(Debug)]
pub struct Workplace {
    /// Which worker this is, from 0.
    pub worker: usize,
    /// Idle connections to targets.
    pub pool: Pool<RequestBody>,
    /// Targets that refuse connections, and the requests that wait for them.
    pub reconnects: Reconnects,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// Whether the process is leaving: answers then end their connection.
    pub draining: Cell<bool>,
    /// Whether it cuts what is still under way.
    pub cutting: Cell<bool>,
    /// Whether Referer is written down.
    pub keeps_referer: bool,
    lingering: Places,
    turn: Cell<Moment>,
    clock: Cell<Moment>,
    snapshots: RefCell<(Reader, Option<Picture>)>,
    random: RefCell<Random>,
    access: RefCell<AccessBuffer>,
    budget: RefCell<RetryBudget>,
    reports: mpsc::Sender<Report>,
    date: RefCell<(u64, String)>,
    today: RefCell<(u64, HeaderValue)>,
    scratch: RefCell<Box<[u8]>>,
}

impl Workplace {
    /// Sets a worker up.
    pub fn new(
        worker: usize,
        snapshots: Reader,
        random: Random,
        access: AccessBuffer,
        counters: Arc<Counters>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        let now = Moment::now();
        Self {
            worker,
            pool: Pool::default(),
            reconnects: Reconnects::default(),
            counters,
            draining: Cell::new(false),
            cutting: Cell::new(false),
            keeps_referer: access.format() == Some(AccessFormat::Combined),
            lingering: Places::default(),
            turn: Cell::new(now),
            clock: Cell::new(now),
            snapshots: RefCell::new((snapshots, None)),
            random: RefCell::new(random),
            access: RefCell::new(access),
            budget: RefCell::default(),
            reports,
            date: RefCell::new((0, String::new())),
            today: RefCell::new((0, HeaderValue::from_static(""))),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
        }
    }

    /// The picture an exchange begins with.
    pub fn snapshot(&self) -> Picture {
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
    pub fn note_request(&self, now: u64) {
        self.budget.borrow_mut().note_request(now);
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

    /// The moment as a Date field has it (RFC 9110 section 6.6.1), formatted once a second.
    pub fn date(&self) -> HeaderValue {
        let mut today = self.today.borrow_mut();
        let now = self.now().unix_seconds();
        if today.0 != now {
            let text =
                httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now.min(LAST_DATE)));
            *today = (now, header_value(&text));
        }
        today.1.clone()
    }

    /// Hands the date of a cookie's `Expires` to `use_it`, formatted once a second.
    pub fn with_date<R>(&self, unix_seconds: u64, use_it: impl FnOnce(&str) -> R) -> R {
        let mut date = self.date.borrow_mut();
        if date.0 != unix_seconds || date.1.is_empty() {
            let time = UNIX_EPOCH + Duration::from_secs(unix_seconds.min(LAST_DATE));
            *date = (unix_seconds, httpdate::fmt_http_date(time));
        }
        use_it(&date.1)
    }
}

/// A head of the usual size and a small body at once. A read that fills it is followed by another.
const SCRATCH: usize = 16 * 1_024;

/// The end of the year 9999, after which HTTP has no dates.
const LAST_DATE: u64 = 253_402_300_799;

/// Targets and groups as they are, for the decision.
#[derive(Clone, Copy, Debug)]
pub struct AsItIs<'c> {
    workplace: Option<&'c Workplace>,
    remembered: Option<(&'c Remembered, &'c Picture)>,
}

impl<'c> AsItIs<'c> {
    /// With every token opened anew, and without what a worker knows of refusals.
    pub const FOR_ANYONE: AsItIs<'static> = AsItIs { workplace: None, remembered: None };

    /// With every token opened anew.
    pub(super) fn for_anyone(workplace: &'c Workplace) -> Self {
        Self { workplace: Some(workplace), remembered: None }
    }

    /// For a client whose connection remembers its tokens.
    pub(super) fn of(
        workplace: &'c Workplace,
        remembered: &'c Remembered,
        picture: &'c Picture,
    ) -> Self {
        Self { workplace: Some(workplace), remembered: Some((remembered, picture)) }
    }
}

impl Live for AsItIs<'_> {
    fn availability(&self, target: &Target) -> Availability {
        target.live.availability()
    }

    fn at_cap(&self, target: &Target, cap: u32) -> bool {
        target.live.is_at_cap(cap)
    }

    fn refused_lately(&self, target: &Target) -> bool {
        self.workplace.is_some_and(|workplace| {
            let now = workplace.now().monotonic;
            workplace.reconnects.refused_lately(&target.live, now)
        })
    }

    fn fails_open(&self, group: &Group) -> bool {
        group.live.fails_open()
    }

    fn in_flight(&self, target: &Target) -> u32 {
        target.live.in_flight()
    }

    fn sessions(&self, target: &Target) -> u32 {
        target.live.sessions().map_or(0, Sessions::count)
    }

    fn share(&self, target: &Target) -> Share {
        target.live.share()
    }

    fn open(&self, snapshot: &Snapshot, kind: Kind, text: &[u8]) -> Result<Opened, Defect> {
        match self.remembered {
            Some((remembered, picture)) => remembered.open(picture, kind, text),
            None => snapshot.keyring.open(kind, text),
        }
    }
}


/// A header value from text that was checked to be one; empty if it was not.
pub(super) fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
