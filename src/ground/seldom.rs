//! What may be said only now and then, however often there is cause.

use std::time::{Duration, Instant};

/// The time between two lines of one kind.
const INTERVAL: Duration = Duration::from_mins(1);

/// When something was last said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether it may be said again; if so, it counts as said.
    pub fn may(&mut self, now: Instant) -> bool {
        let may = self.0.is_none_or(|last| now >= last + INTERVAL);
        if may {
            self.0 = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::Moment;

    #[test]
    fn it_is_said_once_a_minute() {
        let mut seldom = Seldom::default();
        let now = Moment::now().monotonic;
        let said = [0, 1, 59, 60, 61, 119, 120].map(|at| seldom.may(now + Duration::from_secs(at)));
        assert_eq!(said, [true, false, false, true, false, false, true]);
    }
}
