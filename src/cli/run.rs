//! `stayput run`: starts the balancer, logs the start, waits for a signal, drains.

use super::Failed;
use super::terminal;
use crate::config::{self, Loaded};
use crate::observe::messages::{self, Messages};
use crate::observe::sink::SinkKind;
use crate::server::{Server, level_filter};
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;

/// Exit code after connections were cut.
const CUT: u8 = 3;

/// Exit code after a thread failed; a supervisor should restart the process.
const FAILED: u8 = 1;

pub(super) fn run(path: &Path) -> Result<ExitCode, Failed> {
    with_message_log(|messages| {
        let coloured = terminal::messages_are_coloured();
        let loaded = config::load(path).map_err(|problems| Failed(problems.render(coloured)))?;
        let Loaded { config, warnings, .. } = loaded;
        if !warnings.is_empty() {
            messages.say(&warnings.render(coloured));
        }
        install_logging(messages, level_filter(config.log.level), coloured);
        let server = Server::start(config)?;
        for (listener, address) in server.addresses() {
            tracing::info!(target: messages::UNLIMITED, %listener, %address, "listening");
        }
        until_signalled(server)
    })
}

/// Runs `work` with messages written by a separate thread: a blocked standard error must delay
/// neither the start nor the exit.
pub(super) fn with_message_log(
    work: impl FnOnce(&Messages) -> Result<ExitCode, Failed>,
) -> Result<ExitCode, Failed> {
    let messages = Messages::start(SinkKind::Stderr)?;
    messages.take_panics();
    let done = work(&messages);
    let code = done.unwrap_or_else(|failure| {
        messages.say(&failure.0);
        ExitCode::from(FAILED)
    });
    messages.finish();
    Ok(code)
}

/// Sends the operator's log to standard error.
pub(super) fn install_logging(messages: &Messages, level: LevelFilter, coloured: bool) {
    // The HTTP/2 library logs warnings for frames that any client may send at any rate.
    let library = level.min(LevelFilter::ERROR);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(messages.clone())
        // Internal errors would go to standard error directly, with a panic if it cannot be
        // written.
        .log_internal_errors(false)
        .with_ansi(coloured)
        .with_target(false)
        .finish()
        .with(Targets::new().with_default(level).with_target("h2", library));
    // A second call in one process keeps the first subscriber, which has the same effect.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Serves until SIGTERM or SIGINT, or until a thread of the balancer fails, then drains; a second
/// signal cuts all connections.
pub(super) fn until_signalled(mut server: Server) -> Result<ExitCode, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (cut, has_failed) = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let has_failed = tokio::select! {
            has_failed = serve(&mut server) => has_failed,
            () = signals.next() => false,
        };
        match has_failed {
            false => tracing::info!("draining: a second signal cuts open connections"),
            true => tracing::error!(
                "draining after a thread failed, then exiting with code 1 for a restart"
            ),
        }
        let cut = server.drain(async { signals.next().await }).await;
        Ok::<_, std::io::Error>((cut, has_failed))
    })?;
    if cut > 0 {
        tracing::warn!(cut, "drain deadline or second signal: exchanges cut");
    } else {
        tracing::info!("drained");
    }
    Ok(match (has_failed, cut) {
        (true, _) => ExitCode::from(FAILED),
        (false, 1..) => ExitCode::from(CUT),
        (false, 0) => ExitCode::SUCCESS,
    })
}

/// Serves until a thread of the balancer fails.
async fn serve(server: &mut Server) -> bool {
    if server.ready().await {
        tracing::info!("ready: every target has been checked");
    }
    server.failed().await;
    true
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
