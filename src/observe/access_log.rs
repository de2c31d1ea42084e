//! The access log: each worker formats into a buffer of its own, one thread writes.
//!
//! A buffer is handed over when it is full and every 100 ms. Workers never wait: if the writer is
//! behind by more than 64 buffers, records are dropped and counted. A sink that refuses writes (a
//! full disk, a FIFO without a reader, `stayput run | head`) is tried again every second; once it
//! takes writes again, the number of records dropped meanwhile is logged.

use super::counters::Counters;
use super::record::{Line, Record, Seconds};
use super::sink::{Sink, SinkKind};
use super::writer::{self, Writer, WriterShared};
use crate::base::clock::Moment;
use crate::base::log_throttle::LogThrottle;
use crate::config::settings::{AccessFormat, LogTarget};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};

/// Bytes of a buffer: sixteen pages, some 80 records. It is handed over when the next line might
/// not fit.
const FULL: usize = 64 * 1_024;
/// Emptied buffers kept for one worker. A buffer of sixteen pages that another thread frees costs
/// the kernel more than its records do.
const EMPTIED: usize = 4;
/// Buffers that may wait for the writer, which bounds the log's memory to 64 × 64 KiB.
const QUEUE: usize = 64;

/// The access log: its writer thread and the way to it.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessFormat,
    shared: Arc<WriterShared>,
    sender: Option<SyncSender<Full>>,
    writer: Option<Writer>,
}

impl AccessLog {
    /// Opens the sink and starts the writer thread; [`LogTarget::Off`] does neither. A FIFO without
    /// a reader is opened later, when it has one.
    ///
    /// # Errors
    /// If the file cannot be opened for appending, or no thread can be started.
    pub fn start(to: &LogTarget, format: AccessFormat) -> io::Result<Self> {
        let shared = Arc::<WriterShared>::default();
        let place = match to {
            LogTarget::Off => return Ok(Self { format, shared, sender: None, writer: None }),
            LogTarget::Stdout => SinkKind::Stdout,
            LogTarget::Stderr => SinkKind::Stderr,
            LogTarget::File(path) => SinkKind::File(path.clone()),
        };
        let (sender, receiver) = sync_channel(QUEUE);
        let known = Arc::clone(&shared);
        let writer =
            Writer::start("access-log", place, move |sink| write_all(sink, &receiver, &known))?;
        Ok(Self { format, shared, sender: Some(sender), writer: Some(writer) })
    }

    /// Makes the buffer of one worker.
    pub fn buffer(&self, counters: Arc<Counters>) -> AccessBuffer {
        let (give_back, emptied) = sync_channel(EMPTIED);
        AccessBuffer {
            format: self.format,
            shared: Arc::clone(&self.shared),
            sender: self.sender.clone(),
            room: Vec::new(),
            filled: 0,
            records: 0,
            seconds: Seconds::default(),
            give_back,
            emptied,
            counters,
        }
    }

    /// Waits until all buffers handed over are written, at most one second.
    pub fn finish(mut self) {
        self.sender = None;
        let Some(writer) = self.writer.take() else { return };
        writer.finish(&self.shared);
        let dropped = self.shared.dropped.swap(0, Ordering::Relaxed);
        let records = dropped + self.shared.waiting.load(Ordering::Relaxed);
        if records > 0 {
            tracing::warn!(
                records,
                "access records lost at exit: the access log did not accept them"
            );
        }
    }
}

/// A full buffer on its way to the writer, and the way back for the empty one.
#[derive(Debug)]
struct Full {
    room: Vec<u8>,
    filled: usize,
    records: u64,
    give_back: SyncSender<Vec<u8>>,
}

fn write_all(mut sink: Sink, receiver: &Receiver<Full>, shared: &WriterShared) {
    let mut throttle = LogThrottle::default();
    let mut dropped_log = LogThrottle::default();
    let mut refusal_logged = false;
    loop {
        let full = match shared.is_leaving() {
            true => receiver.try_recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => receiver.recv_timeout(writer::TICK),
        };
        let Full { room, filled, records, give_back } = match full {
            Ok(full) => full,
            Err(RecvTimeoutError::Timeout) => {
                log_dropped(shared, &mut dropped_log);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let lines = &room[..filled];
        let written = writer::write(&mut sink, lines, shared, |error| {
            // Once a minute while it lasts: a sink may fail and recover often.
            if throttle.allow(Moment::now().monotonic) {
                tracing::warn!(%error, "access log write failed, retrying");
                refusal_logged = true;
            }
        });
        if written < lines.len() {
            // The process exits: the records that still wait are logged as dropped.
            shared.waiting.fetch_sub(writer::count(&lines[..written]), Ordering::Relaxed);
            return;
        }
        shared.waiting.fetch_sub(records, Ordering::Relaxed);
        if std::mem::take(&mut refusal_logged) {
            tracing::info!("access log writes succeed again");
            // Its loss is logged when the outage ends.
            dropped_log = LogThrottle::default();
        }
        log_dropped(shared, &mut dropped_log);
        // If the worker has enough buffers, or is gone, this one is freed.
        if room.len() == FULL {
            let _ = give_back.try_send(room);
        }
    }
}

/// Logs how many records were dropped since the last such message.
fn log_dropped(shared: &WriterShared, throttle: &mut LogThrottle) {
    if shared.dropped.load(Ordering::Relaxed) > 0 && throttle.allow(Moment::now().monotonic) {
        let records = shared.dropped.swap(0, Ordering::Relaxed);
        tracing::warn!(records, "access records dropped: the access log is too slow");
    }
}

/// The buffer of one worker.
#[derive(Debug)]
pub struct AccessBuffer {
    format: AccessFormat,
    shared: Arc<WriterShared>,
    sender: Option<SyncSender<Full>>,
    /// All of it is initialised, so that a line is written by index.
    room: Vec<u8>,
    /// Bytes of lines in it.
    filled: usize,
    records: u64,
    seconds: Seconds,
    give_back: SyncSender<Vec<u8>>,
    emptied: Receiver<Vec<u8>>,
    counters: Arc<Counters>,
}

impl AccessBuffer {
    /// The format of records; `None` if the access log is off.
    pub fn format(&self) -> Option<AccessFormat> {
        self.sender.as_ref().map(|_| self.format)
    }

    /// Appends the record of one exchange.
    pub fn record(&mut self, record: &Record<'_>) {
        if self.sender.is_none() {
            return;
        }
        let length = record.max_length();
        if self.room.len() - self.filled < length {
            self.make_room(length);
        }
        let mut line = Line::new(&mut self.room[self.filled..]);
        record.write(self.format, &mut self.seconds, &mut line);
        let left = line.left();
        self.filled = self.room.len() - left;
        self.records += 1;
    }

    /// Makes room for a line of this many bytes.
    #[cold]
    fn make_room(&mut self, length: usize) {
        self.hand_over();
        if self.room.len() < length {
            self.room = vec![0; length.max(FULL)];
        }
    }

    /// Hands the buffer to the writer. Called every 100 ms, and when the worker exits.
    pub fn hand_over(&mut self) {
        let Some(sender) = &self.sender else { return };
        if self.filled == 0 {
            return;
        }
        let mut room =
            std::mem::replace(&mut self.room, self.emptied.try_recv().unwrap_or_default());
        let filled = std::mem::take(&mut self.filled);
        if room.len() > FULL {
            // The line may be shorter than the room reserved for it.
            room.truncate(filled);
            room.shrink_to_fit();
        }
        let records = std::mem::take(&mut self.records);
        self.shared.waiting.fetch_add(records, Ordering::Relaxed);
        let full = Full { room, filled, records, give_back: self.give_back.clone() };
        // Disconnected if the writer has ended, which happens only when the process exits: the
        // records are counted as dropped too.
        if let Err(TrySendError::Full(full) | TrySendError::Disconnected(full)) =
            sender.try_send(full)
        {
            self.shared.waiting.fetch_sub(records, Ordering::Relaxed);
            self.shared.dropped.fetch_add(records, Ordering::Relaxed);
            self.counters.records_dropped.add(records);
            self.room = full.room;
        }
    }
}

impl Drop for AccessBuffer {
    fn drop(&mut self) {
        self.hand_over();
    }
}
