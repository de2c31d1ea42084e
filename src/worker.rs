//! Layer 9: one worker, with its runtime, sockets, connections and tick. Workers share no state but
//! what the snapshot refers to.

use crate::base::clock::Moment;
use crate::base::log_throttle::LogThrottle;
use crate::base::random::Random;
use crate::model::published::Reader;
use crate::model::report::Report;
use crate::net::listen::{AcceptFailure, sort_accept_error};
use crate::net::pool::ConnId;
use crate::net::timer;
use crate::net::tls::certificates::Certificates;
use crate::observe::access_log::AccessBuffer;
use crate::observe::counters::Counters;
use crate::policy::proxy_protocol::ProxyFault;
use crate::proxy::conn::Conn;
use crate::proxy::conn_info::{ConnInfo, ConnPermit};
use crate::proxy::downstream::handshake::Handshakes;
use crate::proxy::downstream::{self, Terms, proxy_header};
use crate::proxy::worker_ctx::WorkerCtx;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};

/// Interval at which deadlines are checked and the access log is handed over, while there is a
/// connection or a record.
const TICK: Duration = Duration::from_millis(100);
/// Pause of accepting after descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);
/// Maximum time for which an idle connection stays open after the process began to drain. If all
/// closed at once, requests on their way would fail.
const MAX_GRACE_MS: u32 = 2_000;

/// Stage of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The process serves.
    Serving,
    /// The worker accepts no new connections and finishes requests in flight.
    Leaving,
    /// The worker cuts all connections.
    Cut,
}

/// A listening socket of a listener.
#[derive(Debug)]
pub struct Socket {
    /// Index of the listener.
    pub listener: usize,
    /// The socket: bound, listening, non-blocking.
    pub socket: std::net::TcpListener,
    /// Open connections of that listener, over all workers.
    pub open: Arc<AtomicU32>,
    /// Certificates of the listener, if it has TLS.
    pub certificates: Option<Arc<Certificates>>,
}

/// The resources of a worker.
#[derive(Debug)]
pub struct Parts {
    /// Number of the worker, from 0.
    pub worker: usize,
    /// Sockets on which it accepts.
    pub sockets: Vec<Socket>,
    /// Access to the current snapshot.
    pub snapshots: Reader,
    /// Random numbers of the worker.
    pub random: Random,
    /// The worker's buffer of access records.
    pub access: AccessBuffer,
    /// Counters of the worker.
    pub counters: Arc<Counters>,
    /// Channel for reports about targets.
    pub reports: mpsc::Sender<Report>,
    /// Stage of the shutdown, as set by the server.
    pub stage: watch::Receiver<Stage>,
    /// The lowest descriptor that no client may get.
    pub first_reserved: RawFd,
}

/// Serves until the stage is `Leaving` and all connections have closed, or until `Cut`. Returns the
/// number of exchanges and tunnels that were cut. Needs a local runtime.
///
/// # Errors
/// If a socket cannot be registered with the runtime.
pub async fn run(parts: Parts) -> io::Result<usize> {
    let Parts { worker, sockets, snapshots, random, access, counters, reports, .. } = parts;
    let Parts { mut stage, first_reserved, .. } = parts;
    let worker = WorkerCtx::new(worker, snapshots, random, access, counters, reports);
    let connections = Rc::new(Connections {
        worker: Rc::new(worker),
        under_way: RefCell::default(),
        first_reserved,
        shortage_log: Cell::default(),
        tick_stopped: Cell::default(),
        tick_resumed: Notify::default(),
    });
    let permits = Handshakes::permits();
    for Socket { listener, socket, open, certificates } in sockets {
        let socket = TcpListener::from_std(socket)?;
        let with = |certificates| Handshakes { certificates, permits: Rc::clone(&permits) };
        let handshakes = certificates.map(with);
        let acceptor = Acceptor { connections: connections.clone(), listener, open, handshakes };
        tokio::task::spawn_local(acceptor.accept_all(socket, stage.clone()));
    }
    let mut tick = timer::interval(TICK);
    let mut leaving: Option<Instant> = None;
    loop {
        tokio::select! {
            now = tick.tick(), if !connections.tick_stopped.get() => {
                connections.worker.tick(now);
                let now = now.monotonic;
                connections.tick(now, leaving);
                // The acceptors run first: connections in the kernel's accept queue are served too.
                if leaving.is_some_and(|since| now > since) && connections.is_empty() {
                    return Ok(0);
                }
                connections.tick_stopped.set(leaving.is_none() && connections.has_nothing_to_tick_for());
            }
            () = connections.tick_resumed.notified(), if connections.tick_stopped.get() => {}
            changed = stage.changed() => {
                let now = *stage.borrow_and_update();
                if changed.is_err() || now == Stage::Cut {
                    connections.worker.cutting.set(true);
                    return Ok(connections.busy());
                }
                if now == Stage::Leaving {
                    connections.resume_tick();
                    connections.worker.draining.set(true);
                    leaving = Some(Moment::now().monotonic);
                }
            }
        }
    }
}

/// The open connections of a worker.
struct Connections {
    worker: Rc<WorkerCtx>,
    under_way: RefCell<Vec<Weak<Conn>>>,
    first_reserved: RawFd,
    shortage_log: Cell<LogThrottle>,
    /// True if the tick has stopped until the next connection.
    tick_stopped: Cell<bool>,
    tick_resumed: Notify,
}

impl Connections {
    fn tick(&self, now: Instant, leaving: Option<Instant>) {
        self.under_way.borrow_mut().retain(|conn| {
            let Some(conn) = conn.upgrade() else { return false };
            conn.tick(now, leaving.map(|since| (since, grace(&conn.info))));
            true
        });
        self.worker.pool.sweep(now);
        self.worker.reconnects.tick(now);
        self.worker.access().hand_over();
    }

    /// Returns true if a tick would have no work: no client or target connections, and no target
    /// that refuses. The access log was handed over with the current tick, and gets its next record
    /// from a connection.
    fn has_nothing_to_tick_for(&self) -> bool {
        self.under_way.borrow().is_empty()
            && self.worker.pool.is_empty()
            && self.worker.reconnects.is_empty()
    }

    /// Restarts a stopped tick. No code on the worker reads the time while it is stopped; the
    /// clocks, which continue from the last tick, are set before any other code runs.
    fn resume_tick(&self) {
        if self.tick_stopped.replace(false) {
            self.worker.tick(Moment::now());
            self.tick_resumed.notify_one();
        }
    }

    /// Returns true if the shortage of descriptors may be logged now; many connections would each
    /// cause a message.
    fn should_log_shortage(&self) -> bool {
        self.resume_tick();
        let mut throttle = self.shortage_log.get();
        let allowed = throttle.allow(self.worker.now().monotonic);
        self.shortage_log.set(throttle);
        allowed
    }

    fn is_empty(&self) -> bool {
        self.under_way.borrow().iter().all(|conn| conn.strong_count() == 0)
    }

    /// Number of exchanges in progress.
    fn busy(&self) -> usize {
        let under_way = self.under_way.borrow();
        under_way.iter().filter_map(Weak::upgrade).map(|conn| conn.under_way()).sum()
    }
}

/// A share of the maximum grace, by the fraction of a second at which the client connected: nearly
/// random, and constant for a connection.
fn grace(info: &ConnInfo) -> Duration {
    let share = info.accepted.wall.subsec_micros() % MAX_GRACE_MS;
    Duration::from_millis(u64::from(share))
}

/// One listening socket and the handling of its connections.
struct Acceptor {
    connections: Rc<Connections>,
    listener: usize,
    open: Arc<AtomicU32>,
    handshakes: Option<Handshakes>,
}

impl Acceptor {
    async fn accept_all(self, socket: TcpListener, mut stage: watch::Receiver<Stage>) {
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                _ = stage.changed() => break,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => match sort_accept_error(&error) {
                    AcceptFailure::Connection => {}
                    AcceptFailure::Exhausted => {
                        self.connections.worker.counters.accept_pauses.add_one();
                        if self.connections.should_log_shortage() {
                            tracing::warn!(%error, "accept paused: out of file descriptors");
                        }
                        timer::sleep(PAUSE).await;
                    }
                },
            }
        }
        // Serve the connections in the kernel's accept queue; then close the socket.
        while let Ok(Some(Ok((stream, peer)))) =
            timer::timeout(Duration::ZERO, socket.accept()).await.map(Some)
        {
            self.admit(stream, peer);
        }
    }

    /// Starts to serve a connection, or closes it if it is not allowed or there is no capacity.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        self.connections.resume_tick();
        let worker = &self.connections.worker;
        if stream.as_raw_fd() >= self.connections.first_reserved {
            worker.counters.refused.add_one();
            if self.connections.should_log_shortage() {
                tracing::warn!(
                    "client connections refused: the last file descriptors are reserved for health \
                     checks and targets; raise the limit (LimitNOFILE=, ulimit -n)"
                );
            }
            return;
        }
        let snapshot = worker.snapshot();
        let listener = &snapshot.listeners[self.listener].settings;
        let allowed = &listener.allow_from;
        let is_announced = listener.proxy_protocol;
        if is_announced && !listener.trusted_proxies.contains(peer.ip()) {
            proxy_header::refuse(worker, peer, ProxyFault::Untrusted);
            return;
        }
        // An address from a PROXY header is checked once that header is read.
        let may_come = is_announced || allowed.allows_all() || allowed.contains(peer.ip());
        let permit = ConnPermit::take(&self.open, listener.limits.connections);
        let (Some(permit), true, Ok(local)) = (permit, may_come, stream.local_addr()) else {
            worker.counters.refused.add_one();
            return;
        };
        worker.counters.accepted.add_one();
        worker.begin_turn();
        let id = ConnId(worker.next_conn());
        let info = ConnInfo::new(id, (peer, local), self.listener, worker.now(), permit);
        let conn = Rc::new(Conn::new(info, listener.timeouts));
        self.connections.under_way.borrow_mut().push(Rc::downgrade(&conn));
        let limits = listener.limits;
        let terms = Terms { is_announced, handshakes: self.handshakes.clone(), limits };
        let serve = downstream::serve(Rc::clone(worker), conn, stream, terms);
        tokio::task::spawn_local(Rc::clone(worker).turns(serve));
    }
}
