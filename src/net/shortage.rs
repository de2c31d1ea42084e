//! What this process itself has run out of: descriptors, ports, memory. A target is not to blame
//! for it, and some descriptors are kept back from clients.

use nix::libc;
use std::io;
use std::os::fd::RawFd;

/// Descriptors kept back where the limit is ample enough.
const MIN_RESERVE: u64 = 32;

/// Whether a connection could not be made for want of something of ours: `connect(2)` and
/// `socket(2)` had no descriptor, no memory, or no local port to give.
pub fn is_our_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL)
    )
}

/// The first descriptor that no client gets, under a limit of so many. The kernel always gives the
/// lowest free one, so whoever gets this one or a higher one came when no more than the reserve was
/// left. The reserve is for checks, for connections to targets, and for files: a sixteenth, but no
/// fewer than 32 and no more than a quarter.
pub fn first_reserved(limit: u64) -> RawFd {
    let reserve = (limit / 16).max(MIN_RESERVE).min(limit / 4);
    RawFd::try_from(limit - reserve).unwrap_or(RawFd::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_lack_is_told_from_what_the_target_does() {
        for (code, ours) in [
            (libc::EMFILE, true),
            (libc::ENFILE, true),
            (libc::EADDRNOTAVAIL, true),
            (libc::ECONNREFUSED, false),
            (libc::EHOSTUNREACH, false),
            (libc::ETIMEDOUT, false),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(is_our_shortage(&error), ours, "{error}");
        }
        assert!(!is_our_shortage(&io::ErrorKind::TimedOut.into()));
    }

    #[test]
    fn the_reserve_grows_with_the_limit_and_leaves_most_to_clients() {
        for (limit, first) in
            [(0, 0), (64, 48), (256, 224), (1_024, 960), (524_288, 491_520), (u64::MAX, RawFd::MAX)]
        {
            assert_eq!(first_reserved(limit), first, "{limit}");
        }
    }
}
