//! One exchange on a connection: a request, its response, and both bodies with back-pressure.

use super::Connection;
use super::connections::Connections;
use super::send::{BodySender, RequestBodyError};
use crate::http1::response::Response;
use crate::http1::value::content_length;
use crate::net::http1::{BodyError, RequestError};
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body, Frame};
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};

/// Bound in bytes on the interim heads before a final head, as with HTTP/1.1.
const MAX_INTERIM: usize = 1_024 * 1_024;

/// Room for one stream on a connection, given back when dropped.
#[derive(Debug)]
pub struct StreamPermit {
    pub(super) connection: Rc<Connection>,
    owner: Weak<Connections>,
    ticket: Ticket,
    /// True if no other stream may begin on the connection.
    is_private: bool,
    has_begun: bool,
    /// True if the target refused the request, so that its end does not mean free room.
    is_refused: Cell<bool>,
}

/// The turn of a request among the requests of its worker that wait for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);

impl StreamPermit {
    /// Takes room if the connection has some. When it is given back, a request that waits at
    /// `owner` gets it. With `is_private`, the connection gives no other permit from now on, and no
    /// permit may be out whose stream has yet to begin: it would use an authenticated connection.
    pub(super) fn take(
        connection: &Rc<Connection>,
        owner: &Rc<Connections>,
        ticket: Ticket,
        is_private: bool,
    ) -> Option<Self> {
        if !connection.has_room() || is_private && connection.promised.get() > 0 {
            return None;
        }
        connection.open.set(connection.open.get() + 1);
        connection.promised.set(connection.promised.get() + 1);
        if is_private {
            connection.is_private.set(true);
        }
        if let Some(since) = connection.idle_since.take() {
            connection.resumed.set(Some(since));
        }
        let (connection, owner) = (Rc::clone(connection), Rc::downgrade(owner));
        let is_refused = Cell::new(false);
        Some(Self { connection, owner, ticket, is_private, has_begun: false, is_refused })
    }

    /// The connection of this permit.
    pub fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    /// The turn for a new try if the target refuses the request.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Returns true if the connection has answered before, so that its loss may be due to its age.
    pub fn is_proven(&self) -> bool {
        self.connection.has_answered.get()
    }

    /// Begins an exchange: `request` is the head in HTTP/2's form, `body` the request's body.
    ///
    /// # Errors
    /// If the connection accepts no more streams; nothing was sent then.
    pub fn begin<B: Body<Data = Bytes> + Unpin>(
        mut self,
        request: Request<()>,
        body: Option<B>,
    ) -> Result<Stream<B>, RequestError> {
        let unsent = RequestError::Lost { unsent: true };
        if self.connection.is_going_away() {
            return Err(unsent);
        }
        // A sender that has begun a stream can wait for one stream only, and would replace the
        // waker of that stream's body. So each stream has a sender of its own, and the one that
        // checks if the connection continues has begun none.
        let sender = self.connection.sender.borrow().clone();
        let begun = sender.map(|mut sender| sender.send_request(request, body.is_none()));
        let Some(Ok((response, way))) = begun else { return Err(unsent) };
        self.has_begun = true;
        let promised = self.connection.promised.get() - 1;
        self.connection.promised.set(promised);
        if self.is_private {
            self.connection.retire();
        } else if promised == 0
            && let Some(owner) = self.owner.upgrade()
        {
            // A private request may wait for this moment.
            owner.serve();
        }
        Ok(Stream {
            response,
            sending: body.map_or_else(BodySender::nothing, |body| BodySender::of(way, body)),
            body: None,
            has_ended: false,
            unreleased: 0,
            left: None,
            interim: 0,
            permit: self,
        })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.connection.open.set(self.connection.open.get() - 1);
        if !self.has_begun {
            self.connection.promised.set(self.connection.promised.get() - 1);
            if self.is_private {
                self.connection.is_private.set(false);
            }
        }
        if !self.is_refused.get() {
            self.connection.is_backing_off.set(false);
        }
        if let Some(owner) = self.owner.upgrade() {
            owner.serve();
        }
    }
}

/// The exchange. Dropping it before its end resets the stream with CANCEL (RFC 9113 section 8.7);
/// the connection continues for the other streams.
pub struct Stream<B> {
    response: ResponseFuture,
    sending: BodySender<B>,
    /// Present from the final head until the body breaks off.
    body: Option<RecvStream>,
    has_ended: bool,
    /// Bytes of the last frame; the target gets window for them only after the client took them.
    unreleased: usize,
    left: Option<u64>,
    interim: usize,
    // The last field: the connection has room only after the fields above are dropped.
    permit: StreamPermit,
}

impl<B> fmt::Debug for Stream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("permit", &self.permit).finish_non_exhaustive()
    }
}

impl<B: Body<Data = Bytes> + Unpin> Stream<B> {
    /// Sends the request and waits for the final head, which replaces the content of `response`. An
    /// interim head not taken with [`Stream::poll_interim`] before is dropped.
    pub fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut Response,
    ) -> Poll<Result<(), RequestError>> {
        if let Poll::Ready(Err(RequestBodyError)) = self.sending.poll(cx) {
            return Poll::Ready(Err(RequestError::BodyBroken));
        }
        while self.next_interim(cx)?.is_some() {}
        let answer = ready!(Pin::new(&mut self.response).poll(cx));
        let (head, body) = answer.map_err(|error| self.error(&error))?.into_parts();
        self.permit.connection.has_answered.set(true);
        self.permit.connection.refusals.set(0);
        self.permit.connection.is_active.set(true);
        fill(response, head.status, &head.headers);
        self.left = match body.is_end_stream() {
            true => Some(0),
            false => content_length(&response.fields),
        };
        self.body = Some(body);
        Poll::Ready(Ok(()))
    }

    /// Takes an interim head, which replaces the content of `response`; pending if none has
    /// arrived. Sends nothing of the request.
    ///
    /// # Errors
    /// If there will be no response, or too many interim heads arrived.
    pub fn poll_interim(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut Response,
    ) -> Poll<Result<(), RequestError>> {
        match self.next_interim(cx)? {
            None => Poll::Pending,
            Some((status, headers)) => {
                fill(response, status, &headers);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn next_interim(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<Option<(StatusCode, HeaderMap)>, RequestError> {
        let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) else {
            return Ok(None);
        };
        let interim = interim.map_err(|error| self.error(&error))?.into_parts().0;
        self.interim += size(&interim.headers);
        if self.interim > MAX_INTERIM {
            return Err(RequestError::Malformed);
        }
        Ok(Some((interim.status, interim.headers)))
    }

    fn error(&self, error: &h2::Error) -> RequestError {
        let refused = error.is_remote()
            && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
        if refused {
            if error.is_reset() {
                self.permit.is_refused.set(true);
                self.permit.connection.back_off(&self.permit.owner);
            }
            // The target did not process the request (RFC 9113 section 8.7), whatever its method.
            return RequestError::Lost { unsent: true };
        }
        // If the library reset this stream, its response was malformed. If the library closed the
        // connection, another stream may be the cause.
        let is_malformed = error.is_library() && error.is_reset();
        match error.is_remote() && error.is_reset() {
            _ if is_malformed || self.interim > 0 => RequestError::Malformed,
            true => RequestError::Reset,
            false => RequestError::Lost { unsent: false },
        }
    }

    /// Retires the connection, because this exchange authenticated it; open streams continue.
    pub fn take_no_more(&self) {
        self.permit.connection.is_private.set(true);
        self.permit.connection.retire();
    }

    /// Returns true if part of the request is still to be sent.
    pub fn is_sending(&self) -> bool {
        !self.sending.is_over()
    }

    /// Bytes of the request for which the target gave window, and true if more is ready but
    /// blocked.
    pub fn taken(&self) -> (u64, bool) {
        self.sending.taken()
    }

    /// Sends more of the request after the response has begun.
    pub fn poll_sending(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(RequestBodyError)) = self.sending.poll(cx) {
            self.sending.give_up();
        }
    }

    /// The next frame of the response's body, or its trailers. A call confirms that the previous
    /// frame was taken: only then does the target get window for as much again.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Some(Err(BodyError))) };
        if self.unreleased > 0 {
            // Fails only for more than was received.
            let _ = body.flow_control().release_capacity(std::mem::take(&mut self.unreleased));
        }
        while let Some(data) = ready!(body.poll_data(cx)) {
            let Ok(data) = data else {
                self.body = None;
                return Poll::Ready(Some(Err(BodyError)));
            };
            self.permit.connection.is_active.set(true);
            if data.is_empty() {
                continue;
            }
            self.unreleased = data.len();
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Ok(trailers) = ready!(body.poll_trailers(cx)) else {
            self.body = None;
            return Poll::Ready(Some(Err(BodyError)));
        };
        self.has_ended = true;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    /// Returns true if the whole response body was read, including trailers.
    pub fn is_done(&self) -> bool {
        self.has_ended || self.body.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    /// The number of body bytes left; `None` if it is not known.
    pub fn left(&self) -> Option<u64> {
        self.left
    }
}

/// Converts a head to the form of HTTP/1.1.
fn fill(response: &mut Response, status: StatusCode, headers: &HeaderMap) {
    response.begin(status);
    for (name, value) in headers {
        response.fields.append_named(name.as_str(), value.as_bytes());
    }
}

fn size(headers: &HeaderMap) -> usize {
    // Plus 32 for each field and for the status, as RFC 9113 section 6.5.2 counts.
    32 + headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>()
}
