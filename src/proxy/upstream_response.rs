//! The source of a response: an HTTP/1.1 connection, or a stream of an HTTP/2 connection.

use super::upload::RequestBody;
use super::upstream::kept_body::KeptBody;
use crate::net::http1::{BodyError, Connection};
use crate::net::http2::stream::Stream;
use bytes::Bytes;
use http_body::Frame;
use std::task::{Context, Poll};

/// A target's side of an exchange, from the head of its response on.
#[derive(Debug)]
pub(crate) enum UpstreamResponse {
    /// A connection that this exchange uses alone.
    Http1(Box<Connection<RequestBody>>),
    /// A stream on a shared connection.
    Http2(Box<Stream<KeptBody>>),
}

impl UpstreamResponse {
    /// Returns true if part of the request is still to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_sending(),
            Self::Http2(stream) => stream.is_sending(),
        }
    }

    /// Sends more of the request.
    pub(crate) fn poll_sending(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Http1(connection) => connection.poll_sending(cx),
            Self::Http2(stream) => stream.poll_sending(cx),
        }
    }

    /// The next frame of the answer's body.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Http1(connection) => connection.poll_frame(cx),
            Self::Http2(stream) => stream.poll_frame(cx),
        }
    }

    /// Returns true if the whole response body was read.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_done(),
            Self::Http2(stream) => stream.is_done(),
        }
    }

    /// The number of body bytes left; `None` if it is not known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Http1(connection) => connection.left(),
            Self::Http2(stream) => stream.left(),
        }
    }
}
