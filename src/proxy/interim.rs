//! Interim responses of a target for an HTTP/2 client: the exchange queues them, and the task of
//! the client's stream sends them before it polls the final response.

use crate::http1::response::Response;
use crate::policy::headers::interim::{self, MAX_INTERIM};
use std::cell::{Cell, RefCell};

/// Interim responses of one exchange that were not sent yet.
#[derive(Debug, Default)]
pub(crate) struct InterimQueue {
    waiting: RefCell<Vec<Response>>,
    /// Bytes of all interim responses so far.
    taken: Cell<usize>,
}

impl InterimQueue {
    /// Queues one. Returns true if it will be sent; one over the bound is dropped, because interim
    /// responses are only hints.
    pub(crate) fn push(&self, response: &Response) -> bool {
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

    /// Takes all waiting ones.
    pub(crate) fn take(&self) -> Vec<Response> {
        // Most exchanges have none, and an empty list needs no allocation.
        self.waiting.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::name::Name;
    use http::StatusCode;

    #[test]
    fn interim_responses_are_sent_in_order_up_to_the_bound() {
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
        // Sent ones count.
        assert!(!queue.push(&hint(MAX_INTERIM - 200)));
        assert!(queue.push(&hint(MAX_INTERIM - 300)));
        let more = (0..100).filter(|_| queue.push(&processing)).count();
        assert!((1..3).contains(&more), "{more}");
        assert!(!queue.take()[0].fields.has(Name::Server));
    }
}
