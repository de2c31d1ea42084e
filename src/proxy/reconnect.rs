//! Requests of a worker that wait for a target that refuses connections. One dial at a time tries
//! it for all of them; after a dial succeeds they are released in batches.

use super::reconnects::{Pass, Refusing, may_be_dialled};
use super::worker_ctx::WorkerCtx;
use crate::config::settings::{Protocol, Upstream};
use crate::model::live::{Health, TargetState};
use crate::model::report::Report;
use crate::model::snapshot::{Group, Target};
use crate::net::connect::{self, ConnectError};
use crate::net::http2::connections;
use crate::net::pool::ConnId;
use crate::net::timer;
use crate::policy::proxy_protocol::Version;
use crate::policy::reconnect::Reconnect;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bound on the waiting requests of one worker for one target. More spill at once.
const MAX_WAITING: usize = 1_024;
/// The bound for requests that wait `in_any_case`.
const MAX_WAITING_IN_ANY_CASE: usize = 4 * MAX_WAITING;
/// Time after which a target that no request wants is no longer dialled, unless it is suspect: only
/// a successful connect ends suspicion.
const UNWANTED_AFTER: Duration = Duration::from_secs(10);

/// The parameters of dials that belong to no request.
#[derive(Debug)]
struct RedialConfig {
    address: SocketAddr,
    timeout: Duration,
    keep_alive: Duration,
    protocol: Protocol,
    /// The PROXY header of its connections. A dial here sends one of type LOCAL, and serves no
    /// client.
    send_proxy: Option<Version>,
}

/// The parameters of a worker's HTTP/2 connections to a target, with the reports to the control
/// thread.
pub(super) fn http2_dial_config(
    worker: &Rc<WorkerCtx>,
    target: &Arc<TargetState>,
    address: SocketAddr,
    timeout: Duration,
    keep_alive: Duration,
) -> connections::DialConfig {
    let (own, state) = (Rc::clone(worker), Arc::clone(target));
    let failed = Box::new(move || record_failed(&own, &state));
    let (own, state) = (Rc::clone(worker), Arc::clone(target));
    let connected = Box::new(move || record_connected(&own, &state));
    let tls = worker.pool.connector(target);
    connections::DialConfig { address, timeout, tls, keep_alive, failed, connected }
}

/// Reports a dial that failed by the target's fault to the control thread.
pub(super) fn record_failed(worker: &WorkerCtx, target: &Arc<TargetState>) {
    worker.counters.failed_dials.add_one();
    worker.report(Report::ConnectFailed(Arc::clone(target)));
}

/// Reports a successful dial to the control thread, if it is news.
pub(super) fn record_connected(worker: &WorkerCtx, target: &Arc<TargetState>) {
    if target.awaits_connect() {
        worker.report(Report::Connected(Arc::clone(target)));
    }
}

/// Time-out of a dial of traffic. A suspect target gets `reconnect`: if it drops packets, a request
/// would otherwise wait for all of `connect` to find out.
pub(super) fn dial_timeout(target: &TargetState, upstream: &Upstream) -> Duration {
    let is_suspect = target.availability().health == Health::Suspect;
    match is_suspect && !upstream.reconnect.is_zero() {
        true => upstream.connect.min(upstream.reconnect),
        false => upstream.connect,
    }
}

/// Records that this target refused a request's dial, and starts dialling it independent of
/// requests.
pub(super) fn record_refusal(worker: &Rc<WorkerCtx>, group: &Group, target: &Target) {
    let (settings, upstream) = (&group.settings, &group.settings.upstream);
    let Some(address) = target.address.filter(|_| !upstream.reconnect.is_zero()) else { return };
    let (state, now) = (&target.state, worker.now().monotonic);
    let goes_on = may_be_dialled(state);
    let config = RedialConfig {
        address,
        timeout: upstream.connect.min(upstream.reconnect),
        keep_alive: upstream.keep_alive,
        protocol: settings.protocol,
        send_proxy: settings.send_proxy,
    };
    // Waiting requests of the previous target in this slot; dropped outside the borrow.
    let replaced;
    let mut targets = worker.reconnects.targets.borrow_mut();
    let begin = || Refusing {
        target: Arc::downgrade(state),
        state: Reconnect::begin(now),
        waiting: VecDeque::new(),
        wanted: now,
        is_dialled: false,
    };
    let refusing = targets.entry(state.slot).or_insert_with(begin);
    if std::ptr::eq(refusing.target.as_ptr(), &**state) {
        replaced = None;
    } else {
        replaced = Some(std::mem::replace(refusing, begin()));
    }
    refusing.state.record_refusal(now, goes_on);
    refusing.wanted = now;
    let begins = goes_on && !std::mem::replace(&mut refusing.is_dialled, goes_on);
    worker.reconnects.any.set(true);
    drop(targets);
    drop(replaced);
    if begins {
        tokio::task::spawn_local(dial_again(Rc::clone(worker), Arc::downgrade(state), config));
    }
}

/// Dials a target until it accepts connections and all waiting requests are released, or until
/// further dials are useless.
async fn dial_again(worker: Rc<WorkerCtx>, target: Weak<TargetState>, config: RedialConfig) {
    loop {
        // Not held during a pause: a removed target must not live longer because of it.
        let Some(known) = target.upgrade() else { return };
        let random = worker.random();
        let pause = worker.reconnects.of(&known, |refusing| refusing.state.pause(random));
        let Some(pause) = pause else { return };
        drop(known);
        timer::sleep(pause).await;
        worker.begin_turn();
        let now = worker.now().monotonic;
        let Some(known) = target.upgrade() else { return };
        let is_suspect = known.availability().health == Health::Suspect;
        let goes_on = worker.reconnects.of(&known, |refusing| {
            let is_unwanted = now.saturating_duration_since(refusing.wanted) >= UNWANTED_AFTER;
            if is_unwanted && !is_suspect {
                refusing.state.give_up();
            }
            refusing.is_dialled = !refusing.state.is_open();
            refusing.is_dialled.then(|| refusing.state.is_refusing())
        });
        let Some(dials) = goes_on.flatten() else { return };
        if dials {
            let connected = dial(&worker, &known, &config).await;
            worker.begin_turn();
            let now = worker.now().monotonic;
            worker.reconnects.of(&known, |refusing| match connected {
                true => refusing.state.dial_succeeded(),
                false => refusing.state.dial_refused(now),
            });
        }
        release_waiting(&worker, &known);
        // Without waiting requests it is open now, and its next refusal starts anew.
        let ends = |refusing: &mut Refusing| {
            refusing.is_dialled = !refusing.state.is_open();
            !refusing.is_dialled
        };
        if worker.reconnects.of(&known, ends).unwrap_or(true) {
            return;
        }
    }
}

/// Dials as traffic does: through TLS and to the HTTP/2 SETTINGS. Returns true if the target
/// accepts connections. The control thread gets a report of either outcome.
async fn dial(worker: &Rc<WorkerCtx>, target: &Arc<TargetState>, config: &RedialConfig) -> bool {
    let RedialConfig { address, timeout, keep_alive, .. } = *config;
    if config.protocol.is_http2() {
        let connections = worker.pool.http2(target);
        let config = http2_dial_config(worker, target, address, timeout, keep_alive);
        // The permit is given back at once; the connection stays in the list.
        let taken = connections.take(config, target, None, false).await;
        return match taken {
            Ok(_) => true,
            // All of its connections are in use, so the target accepts connections.
            Err(error) => matches!(error, ConnectError::Full),
        };
    }
    let place = match target.connections().map(|places| Arc::clone(places).try_acquire_owned()) {
        None => None,
        Some(Ok(place)) => Some(place),
        Some(Err(_)) => return true,
    };
    let tls = worker.pool.connector(target);
    let dialled = match config.send_proxy {
        None => connect::connect(address, timeout, place, tls.as_ref(), None).await.map(Some),
        Some(version) => {
            let dialled = connect::reach(address, timeout, tls.as_ref(), version).await;
            drop(place);
            dialled.map(|()| None)
        }
    };
    worker.begin_turn();
    match dialled {
        Ok(connection) => {
            if let Some(connection) = connection {
                let now = worker.now().monotonic;
                let until = now + keep_alive;
                worker.pool.give_back(target, connection, None, ConnId::NONE, until, now);
            }
            record_connected(worker, target);
            true
        }
        Err(error) => {
            if error.is_the_targets() {
                record_failed(worker, target);
            }
            false
        }
    }
}

/// Waits until this target accepts connections again, for at most `reconnect` from `since` on; the
/// pass allows one dial. `None`: the request goes elsewhere. With `in_any_case` it waits even if
/// the queue or the time of refusals is too long for other requests.
pub(super) async fn wait(
    worker: &Rc<WorkerCtx>,
    target: &Arc<TargetState>,
    reconnect: Duration,
    since: Instant,
    in_any_case: bool,
) -> Option<Pass> {
    let now = worker.now().monotonic;
    let left = (since + reconnect).saturating_duration_since(now);
    if left.is_zero() || !may_be_dialled(target) {
        return None;
    }
    let joined = worker.reconnects.of(target, |refusing| {
        let bound = if in_any_case { MAX_WAITING_IN_ANY_CASE } else { MAX_WAITING };
        let goes_on = !refusing.state.is_open()
            && refusing.waiting.len() < bound
            && (in_any_case || !refusing.state.is_lasting(now, reconnect));
        refusing.wanted = now;
        goes_on.then(|| {
            let (pass, given) = oneshot::channel();
            refusing.waiting.push_back(pass);
            given
        })
    });
    let given = joined.flatten()?;
    timer::timeout(left, given).await.ok()?.ok()
}

/// Releases the next batch of waiting requests.
fn release_waiting(worker: &Rc<WorkerCtx>, target: &Arc<TargetState>) {
    let going = worker.reconnects.of(target, |refusing| {
        // A request that has left takes no place in a batch.
        refusing.waiting.retain(|waiting| !waiting.is_closed());
        let going = refusing.state.release_batch(refusing.waiting.len());
        refusing.waiting.drain(..going).collect::<Vec<_>>()
    });
    for waiting in going.into_iter().flatten() {
        let (worker, target) = (Rc::clone(worker), Arc::clone(target));
        let pass = Pass::new(move |connected| record_outcome(&worker, &target, connected));
        // A request that leaves at this moment reports it when its pass is dropped.
        drop(waiting.send(pass));
    }
}

/// Records the outcome of a pass, and releases the next batch if it was the last of its own.
fn record_outcome(worker: &Rc<WorkerCtx>, target: &Arc<TargetState>, connected: bool) {
    let now = worker.now().monotonic;
    let outcome = |refusing: &mut Refusing| refusing.state.outcome(connected, now);
    if worker.reconnects.of(target, outcome).unwrap_or(false) {
        release_waiting(worker, target);
    }
}
