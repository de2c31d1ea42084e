//! Sinks of log lines: a file, a FIFO or a standard stream. A write may block, so each sink belongs
//! to one thread that does nothing else.
//!
//! A refused write (a full disk, a reader that is gone) loses no line: the caller still has
//! everything after the last whole line written. A partial line is cut off or ended, so that no
//! other line is appended to it.

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::PathBuf;

/// Bytes that a pipe takes atomically (POSIX: at least 512; Linux: 4,096). Lines are written to
/// pipes in pieces of at most this size, so that two writers of one pipe do not split each other's
/// lines.
const PIPE_BUF: usize = 4_096;
/// Milliseconds to wait for a full pipe before `goes_on` is called.
const WAIT_MS: u16 = 100;

/// The kind of a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SinkKind {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to; it may be a FIFO.
    File(PathBuf),
}

/// A refused write.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Bytes written before the refusal: whole lines.
    pub written: usize,
    /// The error of the refusal.
    pub error: io::Error,
}

/// A sink of log lines.
#[derive(Debug)]
pub(crate) struct Sink {
    place: SinkKind,
    /// `None` while a FIFO has no reader, and for a closed standard stream.
    file: Option<File>,
    is_pipe: bool,
    /// True if a partial line is at its end.
    is_broken: bool,
}

impl Sink {
    /// Opens the sink. A FIFO without a reader is opened by a later write.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub(crate) fn open(place: SinkKind) -> io::Result<Self> {
        let mut sink = Self { place, file: None, is_pipe: false, is_broken: false };
        match sink.reopen() {
            Err(error) if is_absent_reader(&error) => {
                // ENXIO also comes for sockets and devices, which will never have a reader.
                let SinkKind::File(path) = &sink.place else { return Err(error) };
                match path.metadata()?.file_type().is_fifo() {
                    true => Ok(sink),
                    false => Err(error),
                }
            }
            // A closed standard stream must not prevent the start.
            Err(_) if !matches!(sink.place, SinkKind::File(_)) => Ok(sink),
            other => other.map(|()| sink),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = match &self.place {
            SinkKind::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            SinkKind::Stderr => File::from(io::stderr().as_fd().try_clone_to_owned()?),
            SinkKind::File(path) => {
                let mut options = OpenOptions::new();
                // Non-blocking: a FIFO without a reader would block the open and then every write.
                options.create(true).append(true).custom_flags(libc::O_NONBLOCK);
                let file = options.open(path)?;
                if file.metadata()?.is_file() {
                    self.is_broken = ends_within_a_line(path).unwrap_or(false);
                }
                file
            }
        };
        let kind = file.metadata()?.file_type();
        self.is_pipe = kind.is_fifo() || kind.is_socket();
        self.file = Some(file);
        Ok(())
    }

    /// Writes whole lines. While a full pipe takes nothing, `goes_on` is called some ten times a
    /// second and decides whether to keep waiting.
    ///
    /// # Errors
    /// If the sink takes no more; it may again later.
    pub(crate) fn write(
        &mut self,
        lines: &[u8],
        goes_on: impl Fn() -> bool,
    ) -> Result<(), Refused> {
        if self.file.is_none()
            && let Err(error) = self.reopen()
        {
            return Err(Refused { written: 0, error });
        }
        if self.is_broken {
            self.write_piece(b"\n", &goes_on)
                .map_err(|(_, error)| Refused { written: 0, error })?;
            self.is_broken = false;
        }
        let mut written = 0;
        while written < lines.len() {
            let rest = &lines[written..];
            let piece = if self.is_pipe { piece(rest) } else { rest };
            match self.write_piece(piece, &goes_on) {
                Ok(()) => written += piece.len(),
                Err((count, error)) => {
                    let whole = memchr::memrchr(b'\n', &piece[..count]).map_or(0, |at| at + 1);
                    self.mend((count - whole) as u64, &error);
                    return Err(Refused { written: written + whole, error });
                }
            }
        }
        Ok(())
    }

    /// Writes the piece, or returns the number of bytes written before the error.
    fn write_piece(
        &mut self,
        piece: &[u8],
        goes_on: &impl Fn() -> bool,
    ) -> Result<(), (usize, io::Error)> {
        let Some(file) = &mut self.file else { return Err((0, ErrorKind::NotConnected.into())) };
        let mut written = 0;
        while written < piece.len() {
            match file.write(&piece[written..]) {
                Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && goes_on() => {
                    let room = PollFd::new(file.as_fd(), PollFlags::POLLOUT);
                    // The result does not matter: the next write fails or succeeds by itself.
                    let _ = poll(&mut [room], PollTimeout::from(WAIT_MS));
                }
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    /// Cuts off or marks a partial line of this many bytes whose rest was refused.
    fn mend(&mut self, half: u64, error: &io::Error) {
        if half > 0 && !self.take_back(half) {
            self.is_broken = true;
        }
        // The next reader of a FIFO gets a new pipe, which begins with a whole line.
        if error.kind() == ErrorKind::BrokenPipe && matches!(self.place, SinkKind::File(_)) {
            (self.file, self.is_broken) = (None, false);
        }
    }

    /// Cuts this many bytes off the end of a file, unless another process has appended to it since.
    fn take_back(&mut self, half: u64) -> bool {
        let Some(file) = self.file.as_mut().filter(|_| matches!(self.place, SinkKind::File(_)))
        else {
            return false;
        };
        let length = match (file.metadata(), file.stream_position()) {
            (Ok(known), Ok(end)) if known.is_file() && known.len() == end => end.checked_sub(half),
            _ => None,
        };
        length.is_some_and(|length| file.set_len(length).is_ok())
    }
}

/// The whole lines that a pipe takes at once, or a single longer line.
fn piece(lines: &[u8]) -> &[u8] {
    let window = &lines[..lines.len().min(PIPE_BUF)];
    let end = match memchr::memrchr(b'\n', window) {
        Some(at) => at + 1,
        None => memchr::memchr(b'\n', lines).map_or(lines.len(), |at| at + 1),
    };
    &lines[..end]
}

/// True if the error is ENXIO: no process has opened the FIFO for reading (open(2)).
fn is_absent_reader(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENXIO)
}

/// True if a file's last line has no newline: the process before this one could not write the rest.
fn ends_within_a_line(path: &PathBuf) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use proptest::prelude::*;
    use std::fs;

    const NEVER: fn() -> bool = || false;

    fn fifo() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        (dir, path)
    }

    fn reader(path: &PathBuf) -> File {
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
    }

    fn all_in(reader: &mut File) -> String {
        let mut text = Vec::new();
        let ended = reader.read_to_end(&mut text);
        assert!(ended.is_ok_and(|_| true) || !text.is_empty());
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_fifo_is_opened_without_a_reader_and_written_once_there_is_one() {
        let (_dir, path) = fifo();
        let mut sink = Sink::open(SinkKind::File(path.clone())).unwrap();
        let refused = sink.write(b"one\n", NEVER).unwrap_err();
        assert!(refused.written == 0 && is_absent_reader(&refused.error));
        let mut first = reader(&path);
        sink.write(b"one\n", NEVER).unwrap();
        assert_eq!(all_in(&mut first), "one\n");
        drop(first);
        assert_eq!(sink.write(b"two\n", NEVER).unwrap_err().error.kind(), ErrorKind::BrokenPipe);
        let mut second = reader(&path);
        sink.write(b"two\n", NEVER).unwrap();
        assert_eq!(all_in(&mut second), "two\n");
    }

    #[test]
    fn a_full_pipe_takes_whole_lines_and_the_caller_keeps_the_rest() {
        let (_dir, path) = fifo();
        let mut sink = Sink::open(SinkKind::File(path.clone())).unwrap();
        let mut reader = reader(&path);
        let lines: String = (0..50_000).map(|nth| format!("{nth}\n")).collect();
        let refused = sink.write(lines.as_bytes(), NEVER).unwrap_err();
        assert_eq!(refused.error.kind(), ErrorKind::WouldBlock);
        assert!(refused.written > 0);
        assert_eq!(all_in(&mut reader), lines[..refused.written]);
    }

    #[test]
    fn a_partial_line_at_the_end_of_a_file_is_ended_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for (before, after) in [("", "one\n"), ("whole\n", "whole\none\n"), ("ha", "ha\none\n")] {
            fs::write(&path, before).unwrap();
            let mut sink = Sink::open(SinkKind::File(path.clone())).unwrap();
            sink.write(b"one\n", NEVER).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn a_partial_line_is_cut_off_unless_another_line_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut sink = Sink::open(SinkKind::File(path.clone())).unwrap();
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        sink.write(b"one\nhal", NEVER).unwrap();
        sink.mend(3, &full());
        sink.write(b"half\n", NEVER).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\nhalf\n");
        sink.write(b"hal", NEVER).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"other").unwrap();
        sink.mend(3, &full());
        sink.write(b"half\n", NEVER).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\nhalf\nhalother\nhalf\n");
    }

    #[test]
    fn a_full_device_takes_nothing_and_is_tried_again() {
        let mut sink = Sink::open(SinkKind::File("/dev/full".into())).unwrap();
        for _ in 0..3 {
            let refused = sink.write(b"one\n", NEVER).unwrap_err();
            assert_eq!((refused.written, refused.error.kind()), (0, ErrorKind::StorageFull));
        }
        assert!(Sink::open(SinkKind::File("/nowhere/log".into())).is_err());
    }

    proptest! {
        #[test]
        fn pieces_are_whole_lines_that_fit_a_pipe_and_cover_the_input(
            lengths in proptest::collection::vec(0_usize..6_000, 1..30)
        ) {
            let lines: Vec<u8> = lengths
                .iter()
                .flat_map(|&length| [vec![b'x'; length], b"\n".to_vec()].concat())
                .collect();
            let mut at = 0;
            while at < lines.len() {
                let piece = piece(&lines[at..]);
                prop_assert_eq!(piece.last(), Some(&b'\n'));
                let count = piece.iter().filter(|&&byte| byte == b'\n').count();
                prop_assert!(piece.len() <= PIPE_BUF || count == 1);
                at += piece.len();
            }
            prop_assert_eq!(at, lines.len());
        }
    }
}
