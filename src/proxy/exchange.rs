//! One exchange: the handles it works with, and its log entry. It is logged once, when it is
//! dropped, however it ends.

use super::conn::Conn;
use super::conn_info::ConnInfo;
use super::deadline::{Deadline, Expires, Phase};
use super::failure::Failure;
use super::interim::InterimQueue;
use super::log_entry::LogEntry;
use super::protocols;
use super::reconnects::Pass;
use super::worker_ctx::WorkerCtx;
use crate::http1::request::Request;
use crate::http1::response::Response;
use crate::model::published::SnapshotRef;
use crate::observe::error_reason::ErrorReason;
use crate::policy::affinity::token::Seed;
use crate::policy::headers::interim;
use http::{StatusCode, Version};
use std::rc::Rc;

/// One exchange. Dropping it ends it and writes its access record.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The worker's context.
    pub worker: Rc<WorkerCtx>,
    /// The client's connection.
    pub conn: Rc<Conn>,
    /// Its deadline.
    pub deadline: Rc<Deadline>,
    /// The snapshot it began with.
    pub snapshot: SnapshotRef,
    /// The client's head, as received.
    pub request: Rc<Request>,
    /// True if no request may follow it, on the client's connection or the target's.
    pub closes_both: bool,
    /// Permission to dial a target that others wait for.
    pub pass: Option<Pass>,
    /// True if many people may share the client's connection: HTTP/2, or a trusted proxy's.
    pub is_of_many: bool,
    /// True if no request may follow it on the target's connection.
    pub closes_target: bool,
    /// The queue for interim responses of its target. `None` for HTTP/1.1, where some clients take
    /// a 103 for the final response.
    pub interim: Option<Rc<InterimQueue>>,
    log: LogEntry,
}

impl Exchange {
    /// Begins an exchange with the head of a request.
    // Inlined, so that it is made in the future that keeps it.
    #[inline(always)]
    pub(crate) fn begin(
        worker: &Rc<WorkerCtx>,
        conn: &Rc<Conn>,
        deadline: &Rc<Deadline>,
        request: Rc<Request>,
    ) -> Self {
        let began = worker.now();
        deadline.enter(Phase::Waiting, began.monotonic, None);
        let is_grpc = protocols::is_grpc(request.version, &request.fields);
        Self {
            worker: Rc::clone(worker),
            conn: Rc::clone(conn),
            deadline: Rc::clone(deadline),
            snapshot: worker.snapshot(),
            closes_both: false,
            pass: None,
            is_of_many: request.version == Version::HTTP_2,
            closes_target: false,
            interim: None,
            request,
            log: LogEntry::new(began, conn.info.ends().source.ip(), is_grpc),
        }
    }

    /// The facts about the client's connection.
    pub(crate) fn info(&self) -> &ConnInfo {
        &self.conn.info
    }

    /// The log entry.
    pub(crate) fn log(&self) -> &LogEntry {
        &self.log
    }

    /// The log entry, to add to it.
    pub(crate) fn log_mut(&mut self) -> &mut LogEntry {
        &mut self.log
    }

    /// Records that this exchange authenticates a target's connection (RFC 4559 section 6): from
    /// now on that belongs to the client connection alone, or ends with the exchange.
    pub(crate) fn authenticate_connection(&mut self) {
        match self.is_of_many {
            true => self.closes_target = true,
            false => self.info().own_connections(),
        }
    }

    /// True if the target's connection may serve no other client.
    pub(crate) fn is_private(&self) -> bool {
        self.closes_target || self.info().owner().is_some()
    }

    /// The seed for a client without one, the same for all its cookies.
    pub(crate) fn fresh_seed(&mut self) -> Seed {
        let worker = &self.worker;
        let placed_by = self.log.placement.as_ref().and_then(|placement| placement.seed);
        let fresh = || placed_by.unwrap_or_else(|| Seed(worker.random()));
        *self.log.fresh_seed.get_or_insert_with(fresh)
    }

    /// Records that the balancer answers itself because of this failure.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        // The response comes from no target, so no target's leaving can cut it.
        self.deadline.end_with_target();
        self.log.status = failure.logged_status();
        self.log.error = Some(failure.reason());
        if let Failure::Refused(verdict) = failure
            && let Some(placement) = &mut self.log.placement
        {
            placement.verdict = *verdict;
            placement.target = None;
        }
    }

    /// Records the status that the client gets.
    pub(crate) fn answer(&mut self, status: StatusCode) {
        self.log.status = status.as_u16();
        self.log.error = None;
    }

    /// Handles an interim response of the target (1xx): an HTTP/2 client gets it; for others it is
    /// dropped and counted.
    pub(crate) fn interim(&self, response: &Response) {
        if !interim::passes(response.status) {
            return;
        }
        let is_sent = self.interim.as_ref().is_some_and(|queue| queue.push(response));
        if !is_sent {
            self.worker.counters.interim_dropped.add_one();
        }
    }

    /// True if the client's connection ends with the response: the process drains, the connection
    /// is too old, or no request may follow this one.
    pub(crate) fn ends_connection(&self) -> bool {
        self.closes_both || self.worker.draining.get() || self.conn.is_old(self.worker.now())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.log.is_complete {
            self.log.error.get_or_insert(match self.deadline.expiry() {
                Some(expiry) => expiry.reason(),
                None if self.worker.cutting.get() => ErrorReason::Cut,
                None => ErrorReason::ClientGone,
            });
        }
        let now = self.worker.now();
        self.deadline.end(now.monotonic);
        self.log.count(&self.worker, &self.snapshot);
        let traffic = self.deadline.take_traffic();
        self.log.write(&self.worker, &self.snapshot, &self.conn.info, &self.request, traffic, now);
        self.worker.give_back_request(&mut self.request);
    }
}
