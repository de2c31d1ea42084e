//! Interim answers of a target on their way to an HTTP/2 client: the exchange puts them in, the task of
//! the client's stream sends them before it looks at the final answer.

use crate::policy::headers::interim::{self, MAX_INTERIM};
use http::{HeaderMap, Response, StatusCode};
use std::cell::{Cell, RefCell};

/// Those of one exchange that were not sent yet.
#[derive(Debug, Default)]
pub struct InterimQueue {
    waiting: RefCell<Vec<Response<()>>>,
    /// Bytes of all there were.
    taken: Cell<usize>,
}

impl InterimQueue {
    /// Puts one in; whether it will be sent. One past the bound is dropped, as a hint may be.
    pub fn push(&self, status: StatusCode, mut headers: HeaderMap) -> bool {
        interim::strip(&mut headers);
        let taken = self.taken.get() + interim::size(&headers);
        if taken > MAX_INTERIM {
            return false;
        }
        self.taken.set(taken);
        let mut head = Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = headers;
        self.waiting.borrow_mut().push(head);
        true
    }

    /// Takes out all that wait.
    pub fn take(&self) -> Vec<Response<()>> {
        // Most exchanges have none, and an empty list costs no allocation.
        self.waiting.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::LINK;

    #[test]
    fn interim_answers_are_sent_in_their_order_up_to_the_bound() {
        let queue = InterimQueue::default();
        let hint = |length: usize| {
            let link = HeaderValue::from_bytes(&vec![b'x'; length]).unwrap();
            HeaderMap::from_iter([(LINK, link)])
        };
        let processing = StatusCode::PROCESSING;
        assert!(queue.push(StatusCode::EARLY_HINTS, hint(4)));
        assert!(queue.push(processing, HeaderMap::new()));
        let sent: Vec<_> = queue.take().iter().map(Response::status).collect();
        assert_eq!(sent, [StatusCode::EARLY_HINTS, processing]);
        assert!(queue.take().is_empty());
        // What was sent counts.
        assert!(!queue.push(processing, hint(MAX_INTERIM - 200)));
        assert!(queue.push(processing, hint(MAX_INTERIM - 300)));
        let more = (0..100).filter(|_| queue.push(processing, HeaderMap::new())).count();
        assert!((1..3).contains(&more), "{more}");
    }
}
