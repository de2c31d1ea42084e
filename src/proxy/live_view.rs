//! The current state of targets and groups, as input to the decision.

use super::conn_info::ConnInfo;
use super::worker_ctx::WorkerCtx;
use crate::decide::Live;
use crate::model::live::Availability;
use crate::model::session_sketch::SessionSketch;
use crate::model::snapshot::{Group, Snapshot, Target};
use crate::policy::affinity::token::{Defect, Kind, Opened};
use crate::policy::balance::weight_fraction::WeightFraction;

/// The current state of targets and groups, for the decision.
#[derive(Clone, Copy, Debug)]
pub struct LiveView<'c> {
    worker: Option<&'c WorkerCtx>,
    conn: Option<&'c ConnInfo>,
}

impl<'c> LiveView<'c> {
    /// Opens every token, without the worker's knowledge of refusals.
    pub const FOR_ANYONE: LiveView<'static> = LiveView { worker: None, conn: None };

    /// Opens every token.
    pub(super) fn for_anyone(worker: &'c WorkerCtx) -> Self {
        Self { worker: Some(worker), conn: None }
    }

    /// Uses the worker's cached tokens, for a request on this connection. The snapshot is the one
    /// the exchange begins with, which is the newest.
    pub(super) fn of(worker: &'c WorkerCtx, conn: &'c ConnInfo) -> Self {
        Self { worker: Some(worker), conn: Some(conn) }
    }
}

impl Live for LiveView<'_> {
    fn availability(&self, target: &Target) -> Availability {
        target.state.availability()
    }

    fn at_cap(&self, target: &Target, cap: u32) -> bool {
        target.state.is_at_cap(cap)
    }

    fn refused_lately(&self, target: &Target) -> bool {
        self.worker.is_some_and(|worker| {
            let now = worker.now().monotonic;
            worker.reconnects.refused_lately(&target.state, now)
        })
    }

    fn fails_open(&self, group: &Group) -> bool {
        group.state.fails_open()
    }

    fn in_flight(&self, target: &Target) -> u32 {
        target.state.in_flight()
    }

    fn sessions(&self, target: &Target) -> u32 {
        target.state.session_sketch().map_or(0, SessionSketch::count)
    }

    fn weight_fraction(&self, target: &Target) -> WeightFraction {
        target.state.weight_fraction()
    }

    fn open(&self, snapshot: &Snapshot, kind: Kind, text: &[u8]) -> Result<Opened, Defect> {
        match (self.worker, self.conn) {
            (Some(worker), Some(conn)) => {
                worker.tokens.open(&snapshot.keyring, &conn.last_token, kind, text)
            }
            _ => snapshot.keyring.open(kind, text),
        }
    }
}
