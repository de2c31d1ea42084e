//! Shortages of this process: descriptors, ports, memory. They are no fault of a target, and some
//! descriptors are reserved.

use nix::libc;
use std::io;
use std::os::fd::RawFd;

/// Minimum reserve of descriptors under a sufficient limit.
const MIN_RESERVE: u64 = 32;

/// Returns true if `connect(2)` or `socket(2)` failed because this process had no descriptor,
/// memory or local port.
pub(crate) fn is_our_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL)
    )
}

/// The first descriptor number that is refused to clients, under a limit of this many descriptors.
/// The kernel always assigns the lowest free number, so this number or a higher one means that only
/// the reserve was left. The reserve is for checks, connections to targets, and files: a sixteenth
/// of the limit, at least 32 and at most a quarter.
pub(crate) fn first_reserved(limit: u64) -> RawFd {
    let reserve = (limit / 16).max(MIN_RESERVE).min(limit / 4);
    RawFd::try_from(limit - reserve).unwrap_or(RawFd::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_shortages_are_distinguished_from_faults_of_the_target() {
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
