//! Interim answers of a target on their way to an HTTP/2 client: the exchange puts them in, the task of
//! the client's stream sends them before it looks at the final answer.

use crate::http1::response::Response;
use crate::policy::headers::interim::{self, MAX_INTERIM};
use std::cell::{Cell, RefCell};

/// Those of one exchange that were not sent yet.
#[derive(Debug, Default)]
pub struct InterimQueue {
    waiting: RefCell<Vec<Response>>,
    /// Bytes of all there were.
    taken: Cell<usize>,
}

impl InterimQueue {
    /// Puts one in; whether it will be sent. One past the bound is dropped, as a hint may be.
    pub fn push(&self, response: &Response) -> bool {
        let mut head = response.clone();
        interim::strip(&mut head.fields);
        let taken = self.taken.get() + interim::size(&head.fields);
        if taken > MAX_INTERIM {
            return false;
        }
        self.taken.set(taken);
        self.waiting.borrow_mut().push(head);
        true
    }

    /// Takes out all that wait.
    pub fn take(&self) -> Vec<Response> {
        // Most exchanges have none, and an empty list costs no allocation.
        self.waiting.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::name::Name;
    use http::StatusCode;

    #[test]
    fn interim_answers_are_sent_in_their_order_up_to_the_bound() {
        let queue = InterimQueue::default();
        let hint = |length: usize| {
            let mut hint = Response::new(StatusCode::EARLY_HINTS);
            hint.fields.append_named("link", &vec![b'x'; length]);
            hint
        };
        let processing = Response::new(StatusCode::PROCESSING);
        assert!(queue.push(&hint(4)) && queue.push(&processing));
        let sent: Vec<_> = queue.take().iter().map(|head| head.status).collect();
        assert_eq!(sent, [StatusCode::EARLY_HINTS, StatusCode::PROCESSING]);
        assert!(queue.take().is_empty());
        // What was sent counts.
        assert!(!queue.push(&hint(MAX_INTERIM - 200)));
        assert!(queue.push(&hint(MAX_INTERIM - 300)));
        let more = (0..100).filter(|_| queue.push(&processing)).count();
        assert!((1..3).contains(&more), "{more}");
        assert!(!queue.take()[0].fields.has(Name::Server));
    }
}
