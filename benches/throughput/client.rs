//! One visitor over TLS, by HTTP/1.1 or by HTTP/2; every response is checked.

use std::io::{self, Error, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use http::header::{ACCEPT, COOKIE, SET_COOKIE, USER_AGENT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};
use tokio_rustls::client::TlsStream;

use crate::certificate::SERVER_NAME;
use crate::measure::Handshakes;
use crate::response::read_head;
use crate::scenario::{Protocol, Reuse, Scenario};
use crate::tls::{Dialer, HTTP1, HTTP2};
use crate::visitor::Visitor;

/// The request it repeats, and the expected response.
pub(crate) struct Client {
    dialer: Dialer,
    /// Over HTTP/1.1, all bytes.
    head: Vec<u8>,
    /// Over HTTP/2.
    request: Request<()>,
    body: usize,
    replica: usize,
}

/// A correct response.
pub(crate) struct Answer {
    /// True if it came from another replica than the visitor's.
    pub(crate) moved: bool,
    pub(crate) fresh_cookie: bool,
}

/// An HTTP/1.1 connection, and a buffer for a response.
pub(crate) struct Kept {
    stream: TlsStream<TcpStream>,
    answer: Vec<u8>,
}

/// An HTTP/2 connection and the task that reads and writes on it, which ends with this value.
pub(crate) struct Streams {
    pub(crate) requests: SendRequest<Bytes>,
    task: JoinHandle<()>,
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    pub(crate) fn new(
        address: SocketAddr,
        scenario: &Scenario,
        visitor: &Visitor,
    ) -> io::Result<Self> {
        let alpn = if matches!(scenario.protocol, Protocol::Http2(_)) { HTTP2 } else { HTTP1 };
        let mut request = Request::get(format!("https://{SERVER_NAME}/{}", scenario.body))
            .header(USER_AGENT, "throughput")
            .header(ACCEPT, "*/*");
        if let Some(cookie) = visitor.cookie.as_deref().filter(|_| scenario.returning) {
            request = request.header(COOKIE, cookie);
        }
        Ok(Self {
            dialer: Dialer::new(address, alpn, scenario.reuse == Reuse::Resumed),
            head: visitor.head(address, scenario),
            request: request.body(()).map_err(Error::other)?,
            body: scenario.body,
            replica: visitor.replica,
        })
    }

    pub(crate) async fn open(&self, source: Option<Ipv4Addr>) -> io::Result<(Kept, Handshakes)> {
        let (stream, handshake) = self.dialer.dial(source).await?;
        Ok((Kept { stream, answer: Vec::with_capacity(4096) }, handshake))
    }

    /// Must be called within a `LocalSet`.
    pub(crate) async fn open_streams(
        &self,
        source: Option<Ipv4Addr>,
    ) -> io::Result<(Streams, Handshakes)> {
        let (stream, handshake) = self.dialer.dial(source).await?;
        let (requests, connection) = h2::client::handshake(stream).await.map_err(Error::other)?;
        let task = spawn_local(async move {
            // Its streams report the error.
            let _ = connection.await;
        });
        Ok((Streams { requests, task }, handshake))
    }

    /// Sends the request and waits for the whole response.
    pub(crate) async fn ask(&self, kept: &mut Kept) -> io::Result<Answer> {
        let Kept { stream, answer } = kept;
        stream.write_all(&self.head).await?;
        stream.flush().await?;
        answer.clear();
        loop {
            if stream.read_buf(answer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let Some(head) = read_head(answer) else { continue };
            let Some(body) = head.body else { return Err(wrong("an answer without its length")) };
            if answer.len() >= head.length + body {
                let body = answer.len() - head.length;
                return self.judge(head.status, body, head.replica, head.cookie.is_some());
            }
        }
    }

    /// Sends the request on a new stream, and waits for the whole response.
    pub(crate) async fn ask_by_stream(&self, to: SendRequest<Bytes>) -> io::Result<Answer> {
        self.exchange(to).await.map_err(Error::other)?
    }

    async fn exchange(&self, to: SendRequest<Bytes>) -> Result<io::Result<Answer>, h2::Error> {
        let (answer, _) = to.ready().await?.send_request(self.request.clone(), true)?;
        let (head, mut body) = answer.await?.into_parts();
        let mut length = 0;
        while let Some(data) = body.data().await.transpose()? {
            length += data.len();
            body.flow_control().release_capacity(data.len())?;
        }
        let replica = head.headers.get("x-replica").and_then(|name| name.to_str().ok());
        let replica = replica.and_then(|name| name.parse().ok());
        let cookie = head.headers.contains_key(SET_COOKIE);
        Ok(self.judge(head.status.as_u16(), length, replica, cookie))
    }

    fn judge(
        &self,
        status: u16,
        body: usize,
        replica: Option<usize>,
        fresh_cookie: bool,
    ) -> io::Result<Answer> {
        match status {
            200 if body == self.body => {
                Ok(Answer { moved: replica != Some(self.replica), fresh_cookie })
            }
            200 => Err(wrong("a body of another length")),
            _ => Err(wrong("a status other than 200")),
        }
    }

    /// Number of tickets since the last call.
    pub(crate) fn take_ticket_count(&self) -> u64 {
        self.dialer.take_ticket_count()
    }
}

impl Kept {
    /// Waits for the balancer to close first, so that no port of this side stays in TIME_WAIT.
    pub(crate) async fn close(mut self) {
        while matches!(self.stream.read_buf(&mut self.answer).await, Ok(count) if count > 0) {}
    }
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}
