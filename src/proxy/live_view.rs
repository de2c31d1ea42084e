//! Targets and groups in the state they are in, as the decision asks for it.

use super::token_cache::TokenCache;
use super::worker_ctx::WorkerCtx;
use crate::decide::Live;
use crate::model::live::Availability;
use crate::model::sessions::Sessions;
use crate::model::snapshot::{Group, Snapshot, Target};
use crate::policy::affinity::token::{Defect, Kind, Opened};
use crate::policy::balance::share::Share;

/// Targets and groups as they are, for the decision.
#[derive(Clone, Copy, Debug)]
pub struct LiveView<'c> {
    worker: Option<&'c WorkerCtx>,
    tokens: Option<&'c TokenCache>,
}

impl<'c> LiveView<'c> {
    /// With every token opened anew, and without what a worker knows of refusals.
    pub const FOR_ANYONE: LiveView<'static> = LiveView { worker: None, tokens: None };

    /// With every token opened anew.
    pub(super) fn for_anyone(worker: &'c WorkerCtx) -> Self {
        Self { worker: Some(worker), tokens: None }
    }

    /// With the tokens the worker knows. For the snapshot an exchange begins with, which is the newest.
    pub(super) fn of(worker: &'c WorkerCtx) -> Self {
        Self { worker: Some(worker), tokens: Some(&worker.tokens) }
    }
}

impl Live for LiveView<'_> {
    fn availability(&self, target: &Target) -> Availability {
        target.live.availability()
    }

    fn at_cap(&self, target: &Target, cap: u32) -> bool {
        target.live.is_at_cap(cap)
    }

    fn refused_lately(&self, target: &Target) -> bool {
        self.worker.is_some_and(|worker| {
            let now = worker.now().monotonic;
            worker.reconnects.refused_lately(&target.live, now)
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
        match self.tokens {
            Some(tokens) => tokens.open(&snapshot.keyring, kind, text),
            None => snapshot.keyring.open(kind, text),
        }
    }
}
