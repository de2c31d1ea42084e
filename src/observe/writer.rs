//! A thread that writes to one sink, and what it shares with those who hand it lines: whether it
//! should leave, what waits, and what was dropped.

use super::sink::{Refused, Sink, SinkKind};
use crate::base::clock::Moment;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a start waits to hear that the sink is open: a file system may hang.
const OPENING: Duration = Duration::from_secs(1);
/// How long an exit waits for what is queued.
pub(super) const LEAVING: Duration = Duration::from_secs(1);
/// How often a sink that refused is tried again, and how often what is due on a timer is done.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// What the writer and its callers share.
#[derive(Debug, Default)]
pub(super) struct WriterShared {
    /// When the writer must have left; `None` while the process stays.
    deadline: Mutex<Option<Instant>>,
    is_leaving: AtomicBool,
    /// Lines handed over and not written.
    pub(super) waiting: AtomicU64,
    /// Lines dropped since that was last told.
    pub(super) dropped: AtomicU64,
}

impl WriterShared {
    /// Whether the writer may go on with a sink that takes nothing at the moment.
    pub(super) fn goes_on(&self) -> bool {
        if !self.is_leaving.load(Ordering::Relaxed) {
            return true;
        }
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.is_some_and(|deadline| Moment::now().monotonic < deadline)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    fn leave(&self) {
        let deadline = Moment::now().monotonic + LEAVING;
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
        self.is_leaving.store(true, Ordering::Relaxed);
    }
}

/// A running writer.
#[derive(Debug)]
pub(super) struct Writer {
    thread: thread::JoinHandle<()>,
    /// Disconnected when it has. Behind a lock only so that who holds a writer may be shared.
    ended: Mutex<Receiver<()>>,
}

impl Writer {
    /// Opens the sink on a thread of its own and has it written to by `work`. A sink that is not open
    /// after a second is opened in the background.
    ///
    /// # Errors
    /// When the sink cannot be opened, or no thread can be started.
    pub(super) fn start(
        name: &str,
        place: SinkKind,
        work: impl FnOnce(Sink) + Send + 'static,
    ) -> io::Result<Self> {
        let (opened, is_open) = sync_channel(1);
        let (end, ended) = sync_channel::<()>(1);
        let builder = thread::Builder::new().name(name.into());
        let thread = builder.spawn(move || {
            // Dropped with the thread, whatever ends it.
            let _end = end;
            match Sink::open(place) {
                Ok(sink) => {
                    // The starter has gone on where it took too long.
                    let _ = opened.send(Ok(()));
                    work(sink);
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        })?;
        match is_open.recv_timeout(OPENING) {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) | Err(_) => Ok(Self { thread, ended: Mutex::new(ended) }),
        }
    }

    /// Tells it to leave and waits for that, but not long; whether it has left. One that a write holds
    /// ends with the process.
    pub(super) fn finish(self, shared: &WriterShared) -> bool {
        shared.leave();
        self.thread.thread().unpark();
        let ended = self.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let waited = ended.recv_timeout(LEAVING + LEAVING / 2);
        !matches!(waited, Err(RecvTimeoutError::Timeout))
    }
}

/// Writes these lines, trying again for as long as the process stays and the sink refuses. Returns
/// how many bytes were written when it gave up, and calls `refused` at each refusal.
pub(super) fn write(
    sink: &mut Sink,
    lines: &[u8],
    shared: &WriterShared,
    mut refused: impl FnMut(&io::Error),
) -> usize {
    let mut at = 0;
    while at < lines.len() {
        let tried = sink.write(&lines[at..], || shared.goes_on());
        let Err(Refused { written, error }) = tried else { return lines.len() };
        at += written;
        if shared.is_leaving() {
            // It was just tried: what it refused now it will refuse within a second too.
            break;
        }
        refused(&error);
        thread::park_timeout(TICK);
    }
    at
}

/// How many lines these bytes are.
pub(super) fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}
