//! The operator's log. `tracing` events and the program's own messages go through one bounded queue
//! to one thread that writes standard error. No serving thread waits for it or fails with it;
//! messages lost to a full queue are counted, and the count is logged.
//!
//! Clients and targets cause most messages, at any rate. So the lines of one kind, which is one
//! place in the code, are limited; the withheld ones become one line that ends in `and N more`.

use super::sink::{Sink, SinkKind};
use super::writer::{self, Writer, WriterShared};
use crate::base::clock::Moment;
use crate::base::log_throttle::Limit;
use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tracing::Metadata;
use tracing::callsite::Identifier;
use tracing_subscriber::fmt::MakeWriter;

/// Maximum number of messages that wait for the writer: a burst of ten kinds.
const QUEUE: usize = 1_024;
/// Maximum bytes of a message, which bounds the queue to 16 MiB. The longest message is a page of
/// problems with the configuration file.
const MAX_MESSAGE: usize = 16 * 1_024;
/// The `target` of messages that only the start of the process causes. They are not limited: the
/// configuration file bounds them, and each is needed.
pub(crate) const UNLIMITED: &str = "stayput::start";

/// The operator's log. Clones share one writer.
#[derive(Clone, Debug)]
pub(crate) struct Messages {
    shared: Arc<WriterShared>,
    sender: SyncSender<Vec<u8>>,
    kinds: Arc<Mutex<Kinds<Identifier>>>,
    writer: Arc<Mutex<Option<Writer>>>,
}

impl Messages {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(crate) fn start(place: SinkKind) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let shared = Arc::<WriterShared>::default();
        let kinds = Arc::<Mutex<Kinds<Identifier>>>::default();
        let work = Work { shared: Arc::clone(&shared), kinds: Arc::clone(&kinds) };
        let writer = Writer::start("messages", place, move |sink| work.run(sink, &receiver))?;
        Ok(Self { shared, sender, kinds, writer: Arc::new(Mutex::new(Some(writer))) })
    }

    /// Logs a message that neither a client nor a target causes. It is not limited.
    pub(crate) fn say(&self, text: &str) {
        self.hand_over(text.as_bytes().to_vec());
    }

    /// Logs panics of all threads as messages. The default hook writes to standard error itself,
    /// and would block the thread if no process reads it.
    pub(crate) fn take_panics(&self) {
        let messages = self.clone();
        let limit = Mutex::new(Limit::new(Moment::now().monotonic));
        std::panic::set_hook(Box::new(move |panic| {
            let mut limit = limit.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Moment::now().monotonic;
            let more = limit.reopen(now).map(|more| format!(" (and {more} more)"));
            if more.is_none() && !limit.allow(now) {
                return;
            }
            drop(limit);
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("unnamed");
            let backtrace = std::backtrace::Backtrace::capture();
            let backtrace = match backtrace.status() {
                std::backtrace::BacktraceStatus::Captured => format!("\n{backtrace}"),
                _ => String::new(),
            };
            let more = more.unwrap_or_default();
            messages.say(&format!("ERROR thread '{name}': {panic}{more}{backtrace}"));
        }));
    }

    /// Waits until the queued messages are written, at most one second.
    pub(crate) fn finish(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writer.take() {
            // Lost messages cannot be logged: this is their log.
            let _ = writer.finish(&self.shared);
        }
    }

    fn hand_over(&self, mut message: Vec<u8>) {
        if message.len() > MAX_MESSAGE {
            message.truncate(MAX_MESSAGE);
            message.extend_from_slice("...".as_bytes());
        }
        if message.last() != Some(&b'\n') {
            message.push(b'\n');
        }
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.sender.try_send(message)
        {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Messages {
    type Writer = Message<'a>;

    fn make_writer(&'a self) -> Message<'a> {
        Message { messages: self, text: Vec::new(), fate: Fate::Told }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Message<'a> {
        let fate = match meta.target() {
            UNLIMITED => Fate::Told,
            _ => {
                let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
                kinds.ask(meta.callsite(), Moment::now().monotonic)
            }
        };
        Message { messages: self, text: Vec::new(), fate }
    }
}

/// The way a line is handled.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate<K = Identifier> {
    Told,
    /// The first line withheld: it stands for the others when they are logged.
    Kept(K),
    Counted,
}

/// The kinds of lines seen so far.
#[derive(Debug)]
struct Kinds<K>(HashMap<K, Kind>);

impl<K> Default for Kinds<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

#[derive(Debug)]
struct Kind {
    limit: Limit,
    /// The first line withheld, after it was formatted.
    kept: Option<Vec<u8>>,
}

impl<K: Clone + Eq + Hash> Kinds<K> {
    fn ask(&mut self, kind: K, now: Instant) -> Fate<K> {
        let known = self.0.entry(kind.clone());
        let known = known.or_insert_with(|| Kind { limit: Limit::new(now), kept: None });
        match known.limit.allow(now) {
            true => Fate::Told,
            false if known.limit.withheld() == 1 => Fate::Kept(kind),
            false => Fate::Counted,
        }
    }

    fn keep(&mut self, kind: &K, line: Vec<u8>) {
        if let Some(known) = self.0.get_mut(kind) {
            known.kept = Some(line);
        }
    }

    /// The lines that stand for withheld ones and may be written now; all of them if the process
    /// exits.
    fn reopened(&mut self, now: Instant, is_leaving: bool) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        // If that line is still being formatted, the kind waits for the next call.
        for kind in self.0.values_mut().filter(|kind| kind.kept.is_some()) {
            let withheld = match is_leaving {
                true => Some(kind.limit.withheld()),
                false => kind.limit.reopen(now),
            };
            let Some(withheld) = withheld else { continue };
            if let Some(mut line) = kind.kept.take() {
                if let Some(more) = withheld.checked_sub(1).filter(|more| *more > 0) {
                    line.truncate(line.trim_ascii_end().len());
                    line.extend_from_slice(format!(" and {more} more\n").as_bytes());
                }
                lines.push(line);
            }
        }
        lines
    }
}

/// A message that is being formatted.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    messages: &'a Messages,
    text: Vec<u8>,
    fate: Fate,
}

impl Write for Message<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.fate != Fate::Counted {
            self.text.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        match &self.fate {
            Fate::Told if text.is_empty() => {}
            Fate::Told => self.messages.hand_over(text),
            Fate::Kept(kind) => {
                let kinds = &self.messages.kinds;
                kinds.lock().unwrap_or_else(PoisonError::into_inner).keep(kind, text);
            }
            Fate::Counted => {}
        }
    }
}

struct Work {
    shared: Arc<WriterShared>,
    kinds: Arc<Mutex<Kinds<Identifier>>>,
}

impl Work {
    fn run(self, mut sink: Sink, receiver: &Receiver<Vec<u8>>) {
        let mut last = Moment::now().monotonic;
        loop {
            let message = match self.shared.is_leaving() {
                true => receiver.try_recv().ok(),
                false => match receiver.recv_timeout(writer::TICK / 4) {
                    Ok(message) => Some(message),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
            };
            let is_last = message.is_none() && self.shared.is_leaving();
            if let Some(message) = message {
                let written = self.write(&mut sink, &message);
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                if written {
                    self.log_dropped(&mut sink);
                } else if !self.shared.goes_on() {
                    return;
                }
            }
            let now = Moment::now().monotonic;
            if is_last || now >= last + writer::TICK {
                last = now;
                let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
                let lines = kinds.reopened(now, is_last);
                drop(kinds);
                for line in lines {
                    self.write(&mut sink, &line);
                }
                self.log_dropped(&mut sink);
            }
            if is_last {
                return;
            }
        }
    }

    fn write(&self, sink: &mut Sink, message: &[u8]) -> bool {
        writer::write(sink, message, &self.shared, |_| {}) == message.len()
    }

    fn log_dropped(&self, sink: &mut Sink) {
        let dropped = self.shared.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let line = format!(
                "WARN {dropped} log messages dropped: standard error did not accept them\n"
            );
            if !self.write(sink, line.as_bytes()) {
                self.shared.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::sink::SinkKind;
    use proptest::prelude::*;
    use std::fs;
    use std::time::Duration;
    use tracing_subscriber::layer::SubscriberExt;

    fn heard(say: impl FnOnce(&Messages)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("messages");
        let messages = Messages::start(SinkKind::File(path.clone())).unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(messages.clone())
            .with_ansi(false)
            .finish()
            .with(tracing_subscriber::filter::LevelFilter::INFO);
        tracing::subscriber::with_default(subscriber, || say(&messages));
        messages.finish();
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_limited_kind_logs_how_many_more_and_others_are_written() {
        let text = heard(|_| {
            for nth in 0..1_000 {
                tracing::info!(nth, "client moved to another target");
            }
            tracing::warn!("something else");
            // All of these fit into the queue, even if the writer thread is late.
            for nth in 0..800 {
                tracing::info!(target: UNLIMITED, nth, "listening");
            }
        });
        let told = text.lines().filter(|line| line.contains("client moved to another target"));
        let (last, others): (Vec<_>, Vec<_>) = told.partition(|line| line.contains(" more"));
        let [last] = *last.as_slice() else { panic!("{text}") };
        let more: usize = last.split(' ').nth_back(1).unwrap().parse().unwrap();
        assert_eq!(others.len() + 1 + more, 1_000, "{last}");
        assert!((100..120).contains(&others.len()), "{}", others.len());
        assert_eq!(text.matches("something else").count(), 1);
        assert_eq!(text.matches("listening").count(), 800);
    }

    #[test]
    fn a_message_is_a_line_or_more_and_is_cut_at_the_maximum() {
        let text = heard(|messages| {
            messages.say("a page\nof problems");
            messages.say(&"x".repeat(MAX_MESSAGE + 5));
        });
        assert_eq!(text, format!("a page\nof problems\n{}...\n", "x".repeat(MAX_MESSAGE)));
    }

    proptest! {
        #[test]
        fn each_line_is_written_or_counted_once_at_any_times(
            steps in proptest::collection::vec((0_u64..3_000, 0_u8..4, 0_usize..300), 1..60)
        ) {
            let mut now = Moment::now().monotonic;
            let mut kinds = Kinds::<u8>::default();
            let (mut asked, mut told) = (0_u64, 0_u64);
            let stands_for = |line: &[u8]| {
                let line = String::from_utf8(line.to_vec()).unwrap();
                let more = line.trim_end().strip_prefix("line and ");
                more.map_or(1, |more| 1 + more.strip_suffix(" more").unwrap().parse::<u64>().unwrap())
            };
            for (wait, kind, lines) in steps {
                now += Duration::from_millis(wait);
                told += kinds.reopened(now, false).iter().map(|line| stands_for(line)).sum::<u64>();
                for _ in 0..lines {
                    asked += 1;
                    match kinds.ask(kind, now) {
                        Fate::Told => told += 1,
                        Fate::Kept(kind) => kinds.keep(&kind, b"line\n".to_vec()),
                        Fate::Counted => {}
                    }
                }
            }
            told += kinds.reopened(now, true).iter().map(|line| stands_for(line)).sum::<u64>();
            prop_assert_eq!(told, asked);
        }
    }
}
