//! A client's body on its way to a target: counted, limited, and aborted on an error.

use super::client_io::ClientBodyError;
use super::deadline::Deadline;
use super::failure::Failure;
use super::recv_body::ClientBody;
use crate::http1::value::list_has;
use crate::observe::counters::Counters;
use crate::policy::headers::hop_by_hop;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Error: a body that broke off. The exchange has the reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadError;

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body ended early")
    }
}

impl std::error::Error for UploadError {}

/// The client's body on its way to a target. It can be taken back until a frame of it was read.
#[derive(Debug)]
pub(crate) struct RequestBody(pub Rc<Upload>);

/// A client's body on its way to a target.
#[derive(Debug)]
pub(crate) struct Upload {
    incoming: RefCell<ClientBody>,
    state: Cell<UploadState>,
    passed: Cell<u64>,
    limit: Option<u64>,
    trailers: Trailers,
    deadline: Rc<Deadline>,
    counters: Arc<Counters>,
}

/// The trailers of a request that are forwarded, except forbidden ones.
#[derive(Debug)]
pub(crate) enum Trailers {
    /// All, to a target over HTTP/2.
    All,
    /// Fields that the head's Trailer field names, over HTTP/1.1: a target may ignore others.
    Named(Box<[u8]>),
}

impl Trailers {
    fn pass(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let Self::Named(named) = self else { return frame };
        match frame.into_trailers() {
            Err(frame) => frame,
            Ok(mut trailers) => {
                remove_unless(&mut trailers, |name| {
                    list_has(std::iter::once(&**named), name.as_str().as_bytes())
                });
                Frame::trailers(trailers)
            }
        }
    }
}

/// The progress of a client's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadState {
    /// Nothing was read, so that it can go to another target.
    Untouched,
    /// A part was read.
    Begun,
    /// All of it was read.
    Finished,
    /// It exceeds the limit.
    TooLarge,
    /// Its framing is malformed.
    Malformed,
    /// The client left.
    Abandoned,
}

impl Upload {
    /// Wraps a client's body.
    pub(crate) fn new(
        incoming: ClientBody,
        limit: Option<u64>,
        trailers: Trailers,
        deadline: Rc<Deadline>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            incoming: RefCell::new(incoming),
            state: Cell::new(UploadState::Untouched),
            passed: Cell::new(0),
            limit,
            trailers,
            deadline,
            counters,
        }
    }

    /// The current progress.
    pub(crate) fn state(&self) -> UploadState {
        self.state.get()
    }

    /// The failure that ended it, if any.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match self.state.get() {
            UploadState::TooLarge => Some(Failure::BodyTooLarge),
            UploadState::Malformed => Some(Failure::BodyMalformed),
            UploadState::Abandoned => Some(Failure::ClientGone),
            UploadState::Untouched | UploadState::Begun | UploadState::Finished => None,
        }
    }

    fn finish(&self) {
        self.state.set(UploadState::Finished);
        self.deadline.request_is_read();
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let body = &mut *self.incoming.borrow_mut();
        let frame = match std::task::ready!(body.poll_frame(cx)) {
            None => {
                self.finish();
                return Poll::Ready(None);
            }
            Some(Err(fault)) => {
                self.state.set(match fault {
                    ClientBodyError::Malformed => UploadState::Malformed,
                    ClientBodyError::Gone => UploadState::Abandoned,
                });
                return Poll::Ready(Some(Err(UploadError)));
            }
            Some(Ok(frame)) => frame,
        };
        self.state.set(UploadState::Begun);
        let passed = self.passed.get() + frame.data_ref().map_or(0, |data| data.len() as u64);
        self.passed.set(passed);
        if self.limit.is_some_and(|limit| passed > limit) {
            self.state.set(UploadState::TooLarge);
            return Poll::Ready(Some(Err(UploadError)));
        }
        if body.is_end_stream() {
            self.finish();
        }
        if !frame.is_trailers() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let allowed = without_forbidden_trailers(frame, &self.counters);
        Poll::Ready(Some(Ok(self.trailers.pass(allowed))))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        self.0.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.incoming.borrow().is_end_stream()
    }
}

/// Removes trailers that are forbidden (RFC 9110 section 6.5.1).
pub(super) fn without_forbidden_trailers(frame: Frame<Bytes>, counters: &Counters) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            let removed = remove_unless(&mut trailers, hop_by_hop::may_be_trailer);
            counters.trailers_dropped.add(removed as u64);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// Removes the fields that `keep` rejects. Returns the number of removed names.
fn remove_unless(trailers: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> usize {
    let removed: Vec<HeaderName> = trailers.keys().filter(|name| !keep(name)).cloned().collect();
    removed.iter().for_each(|name| drop(trailers.remove(name)));
    removed.len()
}
