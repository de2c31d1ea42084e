//! Sleeps, time-outs and intervals from a timer wheel with slots of 10 ms, one wheel a thread.
//!
//! tokio's time driver costs some 1,100 instructions a request, because it runs in every turn of
//! the event loop, even if no timer waits. This wheel costs something only when a wait begins and
//! when it ends. A wait ends up to 10 ms after its time, and never before.

mod alarm;
mod driver;
mod wheel;

use crate::base::clock::{self, Moment};
use driver::Timers;
pub(crate) use driver::install;
use pin_project_lite::pin_project;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use wheel::Key;

/// Replaces times that overflow the clock: 30 years.
const FAR: Duration = Duration::from_hours(24 * 365 * 30);

/// Ends after this time; at once if it is zero.
pub(crate) fn sleep(time: Duration) -> Sleep {
    if time.is_zero() {
        return Sleep { state: State::Over };
    }
    let now = clock::monotonic();
    sleep_until(now.checked_add(time).unwrap_or(now + FAR))
}

/// Ends after this moment.
pub(crate) fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { state: State::New(deadline) }
}

/// Waits for `future`, at most this long. The time starts when `future` is first polled and not
/// ready; until then no clock is read. With a time of zero, `future` is polled once.
pub(crate) fn timeout<F: Future>(time: Duration, future: F) -> Timeout<F> {
    Timeout { future, limit: Limit::After(time) }
}

/// Waits for `future` until the deadline.
pub(crate) fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout { future, limit: Limit::Until(sleep_until(deadline)) }
}

/// Ticks at once, and then one period after each tick that was taken: a late tick delays the later
/// ones instead of causing several at once.
pub(crate) fn interval(period: Duration) -> Interval {
    Interval { period, next: Sleep { state: State::Over } }
}

/// See [`sleep`]. Dropping it frees its entry in the wheel and its waker.
#[derive(Debug)]
#[must_use = "a sleep passes only while it is awaited"]
pub(crate) struct Sleep {
    state: State,
}

#[derive(Debug)]
enum State {
    New(Instant),
    Waiting(Rc<Timers>, Key),
    /// There is no wheel: outside a runtime, or without a descriptor on a thread that did not call
    /// [`install`]. The task reads the clock in every turn of the event loop.
    Polling(Instant),
    Over,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let next = match &self.state {
                State::Over => return Poll::Ready(()),
                State::New(deadline) => match driver::current() {
                    None => State::Polling(*deadline),
                    Some(timers) => match timers.insert(*deadline, cx.waker()) {
                        None => State::Over,
                        Some(key) => {
                            self.state = State::Waiting(timers, key);
                            return Poll::Pending;
                        }
                    },
                },
                State::Waiting(timers, key) => match timers.renew(*key, cx.waker()) {
                    true => return Poll::Pending,
                    false => State::Over,
                },
                State::Polling(deadline) if clock::monotonic() < *deadline => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Polling(_) => State::Over,
            };
            self.state = next;
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let State::Waiting(timers, key) = &self.state {
            timers.remove(*key);
        }
    }
}

pin_project! {
    /// See [`timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub(crate) struct Timeout<F> {
        #[pin]
        future: F,
        limit: Limit,
    }
}

#[derive(Debug)]
enum Limit {
    /// The time starts at the first poll at which the future is not ready.
    After(Duration),
    Until(Sleep),
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let mut over = match this.limit {
            Limit::Until(over) => Pin::new(over),
            Limit::After(time) => {
                let over = sleep(*time);
                *this.limit = Limit::Until(over);
                match this.limit {
                    Limit::Until(over) => Pin::new(over),
                    Limit::After(_) => return Poll::Pending,
                }
            }
        };
        over.as_mut().poll(cx).map(|()| Err(Elapsed))
    }
}

/// Error: the time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is over")
    }
}

impl std::error::Error for Elapsed {}

/// See [`interval`].
#[derive(Debug)]
pub(crate) struct Interval {
    period: Duration,
    next: Sleep,
}

impl Interval {
    /// Waits for the next tick and returns the moment it was taken. If dropped before, the tick
    /// remains due.
    pub(crate) async fn tick(&mut self) -> Moment {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Moment> {
        ready!(Pin::new(&mut self.next).poll(cx));
        let now = Moment::now();
        let next = now.monotonic.checked_add(self.period);
        self.next = sleep_until(next.unwrap_or(now.monotonic + FAR));
        Poll::Ready(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::task::Waker;

    const SOON: Duration = Duration::from_millis(30);
    const LATER: Duration = Duration::from_mins(10);

    /// Runs a test as a worker runs its tasks: without the runtime's own timers, which would panic.
    fn run(test: impl Future<Output = ()>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_io();
        if !cfg!(target_os = "linux") {
            builder.enable_time();
        }
        builder.build().unwrap().block_on(test);
    }

    fn since(begun: Instant) -> Duration {
        clock::monotonic().saturating_duration_since(begun)
    }

    fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn timers() -> Rc<Timers> {
        driver::current().unwrap()
    }

    #[test]
    fn a_sleep_ends_after_its_time_and_not_before() {
        run(async {
            for millis in [0, 1, 10, 25, 60] {
                let (begun, time) = (clock::monotonic(), Duration::from_millis(millis));
                sleep(time).await;
                assert!(since(begun) >= time, "{millis}");
                sleep_until(begun).await;
                let begun = clock::monotonic();
                sleep_until(begun + time).await;
                assert!(since(begun) >= time, "{millis}");
            }
        });
    }

    #[test]
    fn sleeps_end_in_the_order_of_their_deadlines() {
        run(async {
            let order = std::cell::RefCell::new(Vec::new());
            let after = async |millis| {
                sleep(Duration::from_millis(millis)).await;
                order.borrow_mut().push(millis);
            };
            tokio::join!(after(90), after(30), after(60), after(0));
            assert_eq!(order.take(), [0, 30, 60, 90]);
        });
    }

    #[test]
    fn an_overflowing_time_waits_without_a_panic() {
        run(async {
            let mut forever = sleep(Duration::MAX);
            assert!(poll_once(&mut forever).is_pending());
            let waits = timeout(Duration::MAX, sleep(SOON));
            assert_eq!(waits.await, Ok(()));
            assert!(poll_once(&mut forever).is_pending());
        });
    }

    #[test]
    fn a_timeout_returns_what_is_ready_in_time_and_an_error_else() {
        run(async {
            for time in [Duration::ZERO, SOON, LATER] {
                assert_eq!(timeout(time, ready(7)).await, Ok(7));
                assert_eq!(timeout_at(clock::monotonic() + time, ready(7)).await, Ok(7));
            }
            for time in [Duration::ZERO, SOON] {
                let begun = clock::monotonic();
                assert_eq!(timeout(time, pending::<()>()).await, Err(Elapsed));
                assert_eq!(timeout_at(begun + time, pending::<()>()).await, Err(Elapsed));
                assert!(since(begun) >= time);
            }
            assert_eq!(timeout(LATER, sleep(SOON)).await, Ok(()));
            assert_eq!(timers().waiting(), 0);
        });
    }

    #[test]
    fn a_zero_time_ends_without_a_wait() {
        run(async {
            assert!(poll_once(&mut sleep(Duration::ZERO)).is_ready());
            let mut none = timeout(Duration::ZERO, pending::<()>());
            assert_eq!(poll_once(&mut none), Poll::Ready(Err(Elapsed)));
        });
    }

    #[test]
    fn a_ready_future_touches_no_timers() {
        run(async {
            assert_eq!(timeout(LATER, ready(1)).await, Ok(1));
            let _never_awaited = sleep(LATER);
            assert!(!timers().is_set());
            assert_eq!(timers().waiting(), 0);
        });
    }

    #[test]
    fn a_dropped_sleep_leaves_neither_waker_nor_entry() {
        struct Counted;
        impl std::task::Wake for Counted {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        run(async {
            let counted = std::sync::Arc::new(Counted);
            let waker = Waker::from(std::sync::Arc::clone(&counted));
            let mut sleeps: Vec<_> = (0..100).map(|_| sleep(LATER)).collect();
            for sleep in &mut sleeps {
                // A second poll keeps the same entry.
                for _ in 0..2 {
                    let mut cx = Context::from_waker(&waker);
                    assert!(Pin::new(&mut *sleep).poll(&mut cx).is_pending());
                }
            }
            assert_eq!((timers().waiting(), std::sync::Arc::strong_count(&counted)), (100, 102));
            // Another waker replaces the first.
            assert!(poll_once(&mut sleeps[0]).is_pending());
            assert_eq!((timers().waiting(), std::sync::Arc::strong_count(&counted)), (100, 101));
            drop(sleeps);
            assert_eq!((timers().waiting(), std::sync::Arc::strong_count(&counted)), (0, 2));
        });
    }

    #[test]
    fn the_alarm_is_set_only_while_a_timer_waits() {
        run(async {
            assert!(!timers().is_set());
            sleep(SOON).await;
            assert!(!timers().is_set(), "it rang, and nothing else waits");
            let kept = timeout(LATER, async {
                assert_eq!(timeout(SOON, pending::<()>()).await, Err(Elapsed));
                // For the remaining sleep.
                assert!(timers().is_set());
            });
            kept.await.unwrap();
            // After a cancel, the alarm expires at most once more.
            let dropped = timeout(SOON, std::future::poll_fn(|_| Poll::<()>::Pending));
            assert_eq!(timeout(SOON / 2, dropped).await, Err(Elapsed));
            sleep(2 * SOON).await;
            assert_eq!(timers().waiting(), 0);
        });
    }

    #[test]
    fn an_interval_ticks_at_once_and_then_a_period_after_each_tick() {
        run(async {
            let mut interval = interval(SOON);
            let first = timeout(Duration::ZERO, interval.tick()).await.unwrap();
            // A dropped tick remains due.
            assert_eq!(timeout(SOON / 3, interval.tick()).await.map(drop), Err(Elapsed));
            let second = interval.tick().await;
            assert!(second.since(first) >= SOON);
            // A late tick causes no second one at once.
            sleep(3 * SOON).await;
            let late = interval.tick().await;
            assert!(interval.tick().await.since(late) >= SOON);
        });
    }

    #[test]
    fn every_runtime_of_a_thread_has_its_own_timers_which_end_with_it() {
        let runtime = || {
            let options = tokio::runtime::LocalOptions::default();
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build_local(options).unwrap()
        };
        let (one, other) = (runtime(), runtime());
        let nap = || async {
            sleep(SOON).await;
            Rc::downgrade(&timers())
        };
        let of_one = one.block_on(nap());
        // Waits in the first, and sleeps under it while the second has its own.
        let waits = one.spawn_local(sleep(4 * SOON));
        let of_other = other.block_on(nap());
        assert!(of_one.upgrade().is_some() && !of_one.ptr_eq(&of_other));
        one.block_on(waits).unwrap();
        assert!(one.block_on(nap()).ptr_eq(&of_one), "it keeps them");
        drop(one);
        assert!(of_one.upgrade().is_none() && of_other.upgrade().is_some());
        drop(other);
        assert!(of_other.upgrade().is_none());
    }

    #[test]
    fn a_sleep_that_outlives_its_runtime_drops_without_a_panic() {
        let mut left = None;
        run(async {
            let mut sleep = sleep(LATER);
            assert!(poll_once(&mut sleep).is_pending());
            left = Some(sleep);
        });
        assert!(left.as_mut().is_some_and(|left| poll_once(left).is_pending()));
        drop(left);
    }

    #[test]
    fn a_sleep_outside_a_runtime_still_ends() {
        assert!(install().is_err());
        let begun = clock::monotonic();
        let mut sleep = sleep(SOON);
        while poll_once(&mut sleep).is_pending() {}
        assert!(since(begun) >= SOON);
    }

    #[test]
    fn many_sleeps_under_way_all_end() {
        let options = tokio::runtime::LocalOptions::default();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build_local(options).unwrap();
        runtime.block_on(async {
            let begun = clock::monotonic();
            let nap = |each: u64| {
                let time = Duration::from_millis(each * 7 % 150);
                tokio::task::spawn_local(async move {
                    // A third of them wait less than their time-out and cancel it.
                    match each % 3 {
                        0 => timeout(LATER, sleep_until(begun + time)).await.unwrap(),
                        _ => sleep_until(begun + time).await,
                    }
                    assert!(since(begun) >= time);
                })
            };
            let naps: Vec<_> = (0..2_000).map(nap).collect();
            for nap in naps {
                nap.await.unwrap();
            }
            assert_eq!(timers().waiting(), 0);
        });
    }
}
