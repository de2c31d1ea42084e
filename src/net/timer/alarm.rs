//! The kernel timer of a thread's timer wheel: one timerfd that the event loop watches.

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::Alarm;
#[cfg(target_os = "linux")]
pub(super) use of_linux::Alarm;

#[cfg(target_os = "linux")]
mod of_linux {
    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::time::Duration;
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// A one-shot timer.
    #[derive(Debug)]
    pub(in super::super) struct Alarm(AsyncFd<Watched>);

    /// The timerfd in the form `AsyncFd` takes.
    #[derive(Debug)]
    struct Watched(TimerFd);

    impl AsRawFd for Watched {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    impl Alarm {
        /// Creates a timer that is not set. Needs a runtime with I/O.
        ///
        /// # Errors
        /// If no descriptor is available.
        // Deprecated for types whose descriptor changes or is closed while it is watched, in favour
        // of a function whose caller guarantees otherwise; `Watched` owns its descriptor.
        #[allow(deprecated)]
        pub(in super::super) fn new() -> io::Result<Self> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = Watched(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
            Ok(Self(AsyncFd::with_interest(timer, Interest::READABLE)?))
        }

        /// Sets the timer to expire after this time, in place of an earlier setting.
        pub(in super::super) fn set(&self, after: Duration) {
            // Zero would unset it.
            let after = TimeSpec::from_duration(after.max(Duration::from_nanos(1)));
            let once = Expiration::OneShot(after);
            // The kernel refuses only an invalid time or timer (timerfd_create(2), "ERRORS").
            if let Err(error) = self.0.get_ref().0.set(once, TimerSetTimeFlags::empty()) {
                tracing::error!(%error, "cannot set a timer");
            }
        }

        /// Waits until it expires. `Err` after the runtime has ended.
        pub(in super::super) async fn expired(&self) -> io::Result<()> {
            // No read(2) is needed: epoll is edge-triggered, and timerfd_settime(2) resets the
            // count of expirations, so the next one is an edge again.
            self.0.readable().await?.clear_ready();
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use crate::base::clock;
    use std::io;
    use std::sync::{Mutex, PoisonError};
    use std::time::{Duration, Instant};
    use tokio::sync::Notify;

    /// A one-shot timer built on tokio's timers: the runtime must have a time driver.
    #[derive(Debug)]
    pub(in super::super) struct Alarm {
        at: Mutex<Option<Instant>>,
        was_set: Notify,
    }

    impl Alarm {
        /// Creates a timer that is not set.
        ///
        /// # Errors
        /// None.
        pub(in super::super) fn new() -> io::Result<Self> {
            Ok(Self { at: Mutex::new(None), was_set: Notify::new() })
        }

        /// Sets the timer to expire after this time, in place of an earlier setting.
        pub(in super::super) fn set(&self, after: Duration) {
            let at = clock::monotonic().checked_add(after);
            *self.at.lock().unwrap_or_else(PoisonError::into_inner) = at;
            self.was_set.notify_one();
        }

        /// Waits until it expires.
        pub(in super::super) async fn expired(&self) -> io::Result<()> {
            loop {
                let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
                let over = async {
                    match at {
                        Some(at) => tokio::time::sleep_until(at.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = self.was_set.notified() => {}
                    () = over => {
                        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = None;
                        return Ok(());
                    }
                }
            }
        }
    }
}
