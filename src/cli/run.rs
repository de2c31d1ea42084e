//! `stayput run`: start, tell, wait for a signal, leave.

use super::Failed;
use super::terminal::{self, message};
use crate::config::{self, Loaded};
use crate::server::{Server, level_filter};
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;

/// Connections were cut.
const CUT: u8 = 3;

pub(super) fn run(path: &Path) -> Result<ExitCode, Failed> {
    let coloured = terminal::messages_are_coloured();
    let loaded = config::load(path).map_err(|problems| Failed(problems.render(coloured)))?;
    let Loaded { config, warnings, .. } = loaded;
    if !warnings.is_empty() {
        message(&warnings.render(coloured));
    }
    tell(level_filter(config.log.level), coloured);
    let server = Server::start(config)?;
    for (listener, address) in server.addresses() {
        tracing::info!(%listener, %address, "listening");
    }
    until_signalled(server)
}

/// Sends the operator's log to standard error.
pub(super) fn tell(level: LevelFilter, coloured: bool) {
    // The HTTP/2 library warns of frames that any client may send as often as it likes.
    let library = level.min(LevelFilter::ERROR);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(coloured)
        .with_target(false)
        .finish()
        .with(Targets::new().with_default(level).with_target("h2", library));
    // A second call in one process keeps the first subscriber, which is as good.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Serves until SIGTERM or SIGINT, then drains; a second one cuts.
pub(super) fn until_signalled(mut server: Server) -> Result<ExitCode, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cut = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        tokio::select! {
            () = server.ready() => {
                tracing::info!("ready: every target has been asked");
                signals.next().await;
            }
            () = signals.next() => {}
        }
        tracing::info!("draining: a second signal cuts");
        let cut = server.drain(async { signals.next().await }).await;
        Ok::<_, std::io::Error>(cut)
    })?;
    if cut > 0 {
        tracing::warn!(cut, "exchanges were cut");
        return Ok(ExitCode::from(CUT));
    }
    tracing::info!("drained");
    Ok(ExitCode::SUCCESS)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
