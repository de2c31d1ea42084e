//! The access log: each worker formats into a buffer of its own, one thread writes.
//!
//! A buffer is handed over when it is full or every 100 ms. Nothing waits: when the writer is
//! behind by more than 64 buffers, records are dropped and counted. A sink that is closed
//! (`stayput run | head`) ends the log, not the balancer.

use super::counters::Counters;
use super::record::{Record, Seconds};
use crate::config::settings::{AccessFormat, LogTarget};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

/// Bytes after which a buffer is handed over: sixteen pages, some 130 records.
const FULL: usize = 64 * 1_024;
/// Emptied buffers kept for one worker. Freed on another thread than it was made on, a buffer of
/// sixteen pages costs the kernel more than its records.
const EMPTIED: usize = 4;
/// Buffers that may wait for the writer, which bounds the log's memory to 64 × 64 KiB.
const QUEUE: usize = 64;

/// The writer's end.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessFormat,
    sender: Option<SyncSender<Full>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl AccessLog {
    /// Opens the sink and starts the writer; with [`LogTarget::Off`] there is neither.
    ///
    /// # Errors
    /// When the file cannot be opened for appending, or no thread can be started.
    pub fn start(to: &LogTarget, format: AccessFormat) -> io::Result<Self> {
        let sink = match to {
            LogTarget::Off => return Ok(Self { format, sender: None, writer: None }),
            LogTarget::Stdout => Sink::Stdout,
            LogTarget::Stderr => Sink::Stderr,
            LogTarget::File(path) => {
                Sink::File(OpenOptions::new().create(true).append(true).open(path)?)
            }
        };
        let (sender, receiver) = sync_channel(QUEUE);
        let builder = thread::Builder::new().name("access-log".into());
        let writer = builder.spawn(move || write_all(sink, &receiver))?;
        Ok(Self { format, sender: Some(sender), writer: Some(writer) })
    }

    /// A worker's end.
    pub fn buffer(&self, counters: Arc<Counters>) -> AccessBuffer {
        let (give_back, emptied) = sync_channel(EMPTIED);
        AccessBuffer {
            format: self.format,
            sender: self.sender.clone(),
            lines: Vec::new(),
            records: 0,
            seconds: Seconds::default(),
            give_back,
            emptied,
            counters,
        }
    }

    /// Waits until all that was handed over is written. Every [`AccessBuffer`] must be gone, or it
    /// waits for them.
    pub fn finish(mut self) {
        self.sender = None;
        if let Some(writer) = self.writer.take() {
            // The writer's panic was printed when it happened; there is nothing to add.
            let _ = writer.join();
        }
    }
}

enum Sink {
    Stdout,
    Stderr,
    File(File),
}

/// A buffer on its way to the writer, and the way back.
struct Full {
    lines: Vec<u8>,
    give_back: SyncSender<Vec<u8>>,
}

fn write_all(mut sink: Sink, receiver: &Receiver<Full>) {
    while let Ok(Full { mut lines, give_back }) = receiver.recv() {
        let written = match &mut sink {
            Sink::Stdout => io::stdout().write_all(&lines).and_then(|()| io::stdout().flush()),
            Sink::Stderr => io::stderr().write_all(&lines),
            Sink::File(file) => file.write_all(&lines),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "the access log ends here: its sink does not take writes");
            return;
        }
        lines.clear();
        // A worker that has enough, or is gone, lets it be freed.
        let _ = give_back.try_send(lines);
    }
}

/// A worker's buffer.
#[derive(Debug)]
pub struct AccessBuffer {
    format: AccessFormat,
    sender: Option<SyncSender<Full>>,
    lines: Vec<u8>,
    records: u64,
    seconds: Seconds,
    give_back: SyncSender<Vec<u8>>,
    emptied: Receiver<Vec<u8>>,
    counters: Arc<Counters>,
}

impl AccessBuffer {
    /// How records are written; `None` where none are wanted.
    pub fn format(&self) -> Option<AccessFormat> {
        self.sender.as_ref().map(|_| self.format)
    }

    /// Notes one exchange.
    pub fn note(&mut self, record: &Record<'_>) {
        if self.sender.is_none() {
            return;
        }
        record.write(self.format, &mut self.seconds, &mut self.lines);
        self.records += 1;
        if self.lines.len() >= FULL {
            self.hand_over();
        }
    }

    /// Gives the writer what has gathered. Called every 100 ms, and when the worker leaves.
    pub fn hand_over(&mut self) {
        let Some(sender) = &self.sender else { return };
        if self.lines.is_empty() {
            return;
        }
        let empty = self.emptied.try_recv().unwrap_or_else(|_| Vec::with_capacity(FULL + 1_024));
        let lines = std::mem::replace(&mut self.lines, empty);
        let records = std::mem::take(&mut self.records);
        match sender.try_send(Full { lines, give_back: self.give_back.clone() }) {
            Ok(()) => {}
            Err(TrySendError::Full(Full { lines, .. })) => {
                self.counters.records_dropped.add(records);
                self.lines = lines;
                self.lines.clear();
            }
            Err(TrySendError::Disconnected(_)) => self.sender = None,
        }
    }
}

impl Drop for AccessBuffer {
    fn drop(&mut self) {
        self.hand_over();
    }
}
