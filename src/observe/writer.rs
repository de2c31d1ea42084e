//! A thread that writes to one sink, and its state shared with the threads that hand it lines: the
//! request to exit, the lines waiting, and the lines dropped.

use super::sink::{Refused, Sink, SinkKind};
use crate::base::clock::Moment;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum wait of a start for the sink to open: a file system may hang.
const OPENING: Duration = Duration::from_secs(1);
/// Maximum wait of an exit for the queued lines.
pub(super) const LEAVING: Duration = Duration::from_secs(1);
/// Interval at which a refusing sink is tried again, and at which timed work is done.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// State shared by the writer and its callers.
#[derive(Debug, Default)]
pub(super) struct WriterShared {
    /// The time by which the writer must exit; `None` while the process runs.
    deadline: Mutex<Option<Instant>>,
    is_leaving: AtomicBool,
    /// Lines handed over and not written.
    pub(super) waiting: AtomicU64,
    /// Lines dropped since the last message about them.
    pub(super) dropped: AtomicU64,
}

impl WriterShared {
    /// True if the writer may keep waiting for a sink that takes nothing at the moment.
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
    /// Disconnected when the thread has ended. In a lock only to make the owner `Sync`.
    ended: Mutex<Receiver<()>>,
}

impl Writer {
    /// Starts a thread that opens the sink and runs `work` on it. If the sink is not open after a
    /// second, opening goes on in the background.
    ///
    /// # Errors
    /// If the sink cannot be opened, or no thread can be started.
    pub(super) fn start(
        name: &str,
        place: SinkKind,
        work: impl FnOnce(Sink) + Send + 'static,
    ) -> io::Result<Self> {
        let (opened, is_open) = sync_channel(1);
        let (end, ended) = sync_channel::<()>(1);
        let builder = thread::Builder::new().name(name.into());
        let thread = builder.spawn(move || {
            // Dropped with the thread, even by a panic.
            let _end = end;
            match Sink::open(place) {
                Ok(sink) => {
                    // The starter has stopped waiting if it took too long.
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

    /// Requests the exit and waits for it, at most 1.5 seconds. Returns true if the thread has
    /// ended; one that is blocked in a write ends with the process.
    pub(super) fn finish(self, shared: &WriterShared) -> bool {
        shared.leave();
        self.thread.thread().unpark();
        let ended = self.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let waited = ended.recv_timeout(LEAVING + LEAVING / 2);
        !matches!(waited, Err(RecvTimeoutError::Timeout))
    }
}

/// Writes these lines, and tries again every second while the sink refuses and the process runs.
/// Returns the number of bytes written when it gave up, and calls `refused` at each refusal.
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
            // The sink has just been tried: within the second left it would refuse again.
            break;
        }
        refused(&error);
        thread::park_timeout(TICK);
    }
    at
}

/// The number of lines in these bytes.
pub(super) fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}
