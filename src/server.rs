//! Layer 9: assembles the balancer, binds sockets, starts the workers and the control thread,
//! waits, drains and stops.
//!
//! Keys, names, sockets and the log are set up before the first worker runs, because they can fail.

use crate::base::clock::Moment;
use crate::base::name::Name;
use crate::base::random::Random;
use crate::config::settings::{Config, Level, Listener};
use crate::control::resolve::{self, Resolver};
use crate::control::state_dir::{StateDir, Unwritable};
use crate::control::{self, Drains};
use crate::model::published::Published;
use crate::model::report;
use crate::model::snapshot::{Collision, Snapshot};
use crate::model::target_registry::TargetRegistry;
use crate::net::listen::{self, BindError};
use crate::net::shortage;
use crate::net::timer;
use crate::net::tls::certificates::Certificates;
use crate::net::tls::{self, NoAuthorities};
use crate::observe::access_log::AccessLog;
use crate::observe::counters::Counters;
use crate::policy::affinity::keys::{Key, Keyring, KeyringDefect};
use crate::worker::{self, Socket, Stage};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::Duration;
use tokio::runtime::LocalRuntime;
use tokio::sync::{mpsc, watch};

/// Reason why the balancer could not start.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be bound.
    Bind(BindError),
    /// A token could not distinguish two names.
    Collision(Collision),
    /// The keys form no valid keyring.
    Keys(KeyringDefect),
    /// `runtime.state_dir` cannot be used.
    StateDir(Unwritable),
    /// Targets must be verified, but the system has no certificate authorities.
    Trust(NoAuthorities),
    /// The access log's file cannot be opened.
    AccessLog(io::Error),
    /// TLS cannot be set up with these certificates.
    Tls(String),
    /// The system provides no threads, no runtime, or no random bytes.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind(error) => write!(f, "{error}"),
            StartError::Collision(error) => write!(f, "{error}"),
            StartError::Keys(error) => write!(f, "{error}"),
            StartError::StateDir(error) => write!(f, "{error}"),
            StartError::Trust(error) => write!(f, "{error}"),
            StartError::AccessLog(error) => write!(f, "cannot open the access log: {error}"),
            StartError::Tls(error) => write!(f, "cannot set up TLS: {error}"),
            StartError::System(error) => write!(f, "system call failed: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running balancer. Dropping it cuts all connections.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<(Name, SocketAddr)>,
    stage: watch::Sender<Stage>,
    stop_control: watch::Sender<bool>,
    ready: watch::Receiver<bool>,
    left: mpsc::Receiver<usize>,
    failed: mpsc::Receiver<()>,
    threads: Vec<thread::JoinHandle<()>>,
    access_log: Option<AccessLog>,
    counters: Vec<Arc<Counters>>,
    certificates: AllCertificates,
    published: Published,
    drain_timeout: Duration,
    pre_drain_delay: Duration,
}

impl Server {
    /// Starts the balancer.
    ///
    /// # Errors
    /// See [`StartError`]; after an error no thread runs.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_asking(config, Resolver::of_system())
    }

    /// Starts the balancer with this resolver for host names.
    ///
    /// # Errors
    /// See [`StartError`]; after an error no thread runs.
    pub fn start_asking(config: Config, resolver: Resolver) -> Result<Self, StartError> {
        let (keyring, state_dir) = keys(&config)?;
        tls::load_authorities(&config.groups).map_err(StartError::Trust)?;
        let workers = config.runtime.workers.unwrap_or_else(cores);
        let certificates = certificates(&config)?;
        let (sockets, addresses) = bind_all(&config, &certificates, workers)?;
        let resolutions = resolve::first(&config, &resolver).map_err(StartError::System)?;
        let mut registry = TargetRegistry::default();
        let snapshot = Snapshot::build(&config, keyring.clone(), &resolutions, &mut registry)
            .map_err(StartError::Collision)?;
        let published = Published::new(Arc::new(snapshot));
        let access_log = AccessLog::start(&config.log.access_to, config.log.access_format)
            .map_err(StartError::AccessLog)?;
        let first_reserved = shortage::first_reserved(raise_descriptor_limit());

        let (stage, _) = watch::channel(Stage::Serving);
        let (stop_control, control_stops) = watch::channel(false);
        let (ready, is_ready) = watch::channel(false);
        let (reports, reported) = mpsc::channel(report::MAX_QUEUE);
        let (leave, left) = mpsc::channel(workers);
        let (fail, failed) = mpsc::channel(1);
        let counters: Vec<Arc<Counters>> = (0..workers).map(|_| Arc::default()).collect();
        let drains = Drains::begin(state_dir, &published.current(), Moment::now());
        let mut threads = Vec::new();
        for (worker, sockets) in sockets.into_iter().enumerate() {
            let counters = counters[worker].clone();
            let parts = worker::Parts {
                worker,
                sockets,
                snapshots: published.reader(),
                random: Random::from_system()
                    .map_err(|error| StartError::System(io::Error::other(error)))?,
                access: access_log.buffer(counters.clone()),
                counters,
                reports: reports.clone(),
                stage: stage.subscribe(),
                first_reserved,
            };
            let leave = leave.clone();
            let name = format!("worker-{worker}");
            threads.push(spawn(name, fail.clone(), Timers::Wheel, move |runtime| {
                let cut = runtime.block_on(worker::run(parts));
                drop(runtime);
                let cut = cut.unwrap_or_else(|error| {
                    tracing::error!(worker, %error, "worker failed");
                    0
                });
                // This fails only if the server is dropped already.
                let _ = leave.try_send(cut);
            })?);
        }
        let (drain_timeout, pre_drain_delay) =
            (config.runtime.drain_timeout, config.runtime.pre_drain_delay);
        let parts = control::Parts {
            config,
            keyring,
            published: published.clone(),
            resolutions,
            resolver,
            registry,
            reports: reported,
            counters: counters.clone(),
            drains,
            certificates: certificates.iter().flatten().cloned().collect(),
            ready,
        };
        threads.push(spawn("control".to_owned(), fail, Timers::Both, move |runtime| {
            runtime.block_on(control::run(parts, control_stops));
            // Does not wait for a resolver that hangs.
            runtime.shutdown_background();
        })?);
        Ok(Self {
            addresses,
            stage,
            stop_control,
            ready: is_ready,
            left,
            failed,
            threads,
            access_log: Some(access_log),
            counters,
            certificates,
            published,
            drain_timeout,
            pre_drain_delay,
        })
    }

    /// Listening addresses, by listener; for port 0, the port that the kernel chose.
    pub fn addresses(&self) -> &[(Name, SocketAddr)] {
        &self.addresses
    }

    /// The counters of each worker.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// The certificates of each listener, in the order of their names; `None` without TLS.
    pub fn certificates(&self) -> &[Option<Arc<Certificates>>] {
        &self.certificates
    }

    /// The holder of the current snapshot.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// Waits until every target's first check has had its result or its time-out; false if the
    /// control thread ended before.
    pub async fn ready(&mut self) -> bool {
        self.ready.wait_for(|ready| *ready).await.is_ok()
    }

    /// Waits until one of its threads has failed: a worker that panicked serves no more, and
    /// without the control thread no check changes a state. The other threads go on; the process
    /// should be drained and replaced.
    pub async fn failed(&mut self) {
        if self.failed.recv().await.is_none() {
            // All threads have ended normally.
            std::future::pending().await
        }
    }

    /// Drains: accepts for `pre_drain_delay` more, finishes requests in flight for `drain_timeout`,
    /// then cuts; `hurry` cuts at once. Returns the number of exchanges and tunnels that were cut.
    pub async fn drain(mut self, hurry: impl Future<Output = ()>) -> usize {
        let gracefully = async {
            tokio::time::sleep(self.pre_drain_delay).await;
            self.stage.send_replace(Stage::Leaving);
            let all = async { while self.left.recv().await.is_some() {} };
            let _ = tokio::time::timeout(self.drain_timeout, all).await;
        };
        tokio::select! {
            () = gracefully => {}
            () = hurry => {}
        }
        self.stage.send_replace(Stage::Cut);
        let mut cut = 0;
        while let Some(more) = self.left.recv().await {
            cut += more;
        }
        self.finish();
        cut
    }

    fn finish(&mut self) {
        self.stage.send_replace(Stage::Cut);
        self.stop_control.send_replace(true);
        for thread in self.threads.drain(..) {
            // A thread's panic was printed when it happened.
            let _ = thread.join();
        }
        if let Some(log) = self.access_log.take() {
            log.finish();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.finish();
    }
}

fn cores() -> usize {
    if cfg!(target_os = "linux") {
        thread::available_parallelism().map_or(1, std::num::NonZero::get)
    } else {
        // On other systems SO_REUSEPORT does not distribute connections.
        1
    }
}

fn spawn(
    name: String,
    fail: mpsc::Sender<()>,
    timers: Timers,
    work: impl FnOnce(LocalRuntime) + Send + 'static,
) -> Result<thread::JoinHandle<()>, StartError> {
    let builder = thread::Builder::new().name(name.clone());
    let begin = move || {
        let _failing = Failing { name, fail };
        match event_loop(timers) {
            Ok(runtime) => work(runtime),
            Err(error) => tracing::error!(%error, "cannot create an event loop"),
        }
    };
    builder.spawn(begin).map_err(StartError::System)
}

/// The timers available to a thread's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timers {
    /// Only those of [`timer`]: tokio's time driver adds cost to every turn of the event loop, and
    /// a worker has at least one turn per request.
    Wheel,
    /// Those of tokio as well.
    Both,
}

/// Creates a thread's runtime and its timer wheel now, because later there may be no free
/// descriptor.
fn event_loop(timers: Timers) -> io::Result<LocalRuntime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_io();
    // On systems other than Linux the wheel uses tokio's timers, as there is no timerfd.
    if timers == Timers::Both || !cfg!(target_os = "linux") {
        builder.enable_time();
    }
    let runtime = builder.build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async { timer::install() })?;
    Ok(runtime)
}

/// Guard that reports a panic of its thread when it is dropped.
struct Failing {
    name: String,
    fail: mpsc::Sender<()>,
}

impl Drop for Failing {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(thread = self.name, "balancer thread panicked");
            // If the channel is full, a failure is reported already.
            let _ = self.fail.try_send(());
        }
    }
}

type BoundSockets = (Vec<Vec<Socket>>, Vec<(Name, SocketAddr)>);

/// Certificates by listener index; `None` for listeners without TLS.
type AllCertificates = Vec<Option<Arc<Certificates>>>;

fn certificates(config: &Config) -> Result<AllCertificates, StartError> {
    let of = |listener: &Listener| {
        let made = listener.tls.as_ref().map(Certificates::new).transpose();
        made.map(|made| made.map(Arc::new)).map_err(|error| StartError::Tls(error.to_string()))
    };
    config.listeners.iter().map(of).collect()
}

fn bind_all(
    config: &Config,
    certificates: &AllCertificates,
    workers: usize,
) -> Result<BoundSockets, StartError> {
    let mut sockets: Vec<Vec<Socket>> = (0..workers).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for (at, listener) in config.listeners.iter().enumerate() {
        let open = Arc::new(AtomicU32::new(0));
        for &address in &listener.addresses {
            let bound = listen::bind(address, workers).map_err(StartError::Bind)?;
            if let Some(local) = bound.first().and_then(|socket| socket.local_addr().ok()) {
                addresses.push((listener.name.clone(), local));
            }
            for (worker, socket) in bound.into_iter().enumerate() {
                let (open, certificates) = (open.clone(), certificates[at].clone());
                sockets[worker].push(Socket { listener: at, socket, open, certificates });
            }
        }
    }
    Ok((sockets, addresses))
}

/// The keyring and the state directory. Configured keys come first; a generated key comes last, and
/// still opens the tokens it sealed.
fn keys(config: &Config) -> Result<(Arc<Keyring>, Option<StateDir>), StartError> {
    let state_dir =
        StateDir::find(config.runtime.state_dir.as_deref()).map_err(StartError::StateDir)?;
    let mut keys = config.keys.clone();
    let generated = match (&state_dir, keys.is_empty()) {
        (Some(dir), false) => dir.existing_key().map_err(StartError::System)?,
        (None, false) => None,
        (Some(dir), true) => Some(dir.generated_key(fresh()?).map_err(StartError::System)?),
        (None, true) => {
            tracing::warn!(
                "no writable state directory: the affinity key and all pins are lost when this \
                 process ends; set runtime.state_dir or affinity.keys"
            );
            Some(Key::generate(fresh()?))
        }
    };
    keys.extend(generated);
    let keyring = Keyring::new(&keys).map_err(StartError::Keys)?;
    Ok((Arc::new(keyring), state_dir))
}

fn fresh() -> Result<[u8; 32], StartError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| StartError::System(io::Error::other(error)))?;
    Ok(bytes)
}

/// Raises the process's descriptor limit as far as the system allows, since each connection needs a
/// descriptor. Returns the new limit.
fn raise_descriptor_limit() -> u64 {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(%error, "cannot read the file descriptor limit (RLIMIT_NOFILE)");
            return RLIM_INFINITY;
        }
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the file descriptor limit (RLIMIT_NOFILE)");
            soft
        }
    }
}

/// The filter for the operator's log.
pub(crate) fn level_filter(level: Level) -> tracing_subscriber::filter::LevelFilter {
    use tracing_subscriber::filter::LevelFilter;
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_a_failure_and_one_that_ends_is_none() {
        let (fail, mut failed) = mpsc::channel(1);
        let join = |thread: thread::JoinHandle<()>| thread.join().is_ok();
        assert!(join(spawn("test".to_owned(), fail.clone(), Timers::Wheel, drop).unwrap()));
        assert_eq!(failed.try_recv(), Err(mpsc::error::TryRecvError::Empty));
        let panics = |_| panic!("as the test wants it");
        assert!(!join(spawn("test".to_owned(), fail.clone(), Timers::Both, panics).unwrap()));
        assert_eq!(failed.try_recv(), Ok(()));
    }
}
