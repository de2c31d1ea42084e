//! TLS handshakes with clients, each in its connection's own task.

use super::certificates::{CertificateEntry, Certificates};
use crate::config::settings::ClientAuth;
use crate::policy::tls::choice::Choice;
use crate::policy::tls::fault::HandshakeFault;
use crate::policy::tls::{client_certificate, openssl};
use http::header::{HeaderName, HeaderValue};
use rustls::server::{Accepted, Acceptor};
use rustls::{HandshakeKind, ServerConnection};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::server::StartHandshake;

/// A client's connection after the handshake.
pub(crate) type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Bound on the ClientHellos a worker answers before it serves its other connections again. One
/// costs up to a millisecond (RSA); open exchanges wait no longer than this many.
pub(crate) const ANSWERS_AT_ONCE: usize = 16;

/// Bound in bytes on a ClientHello: ten times the longest that browsers send. The library's own
/// bound is four times as high.
const MAX_HELLO: usize = 16 << 10;

/// The first byte of a record that holds a handshake (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// The negotiated parameters, for the log and the targets.
#[derive(Debug)]
pub(crate) struct Session {
    /// For example `TLSv1.3`.
    pub version: &'static str,
    /// The name in OpenSSL's spelling.
    pub cipher: &'static str,
    /// The SNI name, if it selected a certificate.
    pub server_name: Option<Box<str>>,
    /// The id of the certificate sent, or `session-reused`.
    pub certificate: Arc<str>,
    /// Header fields with these values, for targets.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

/// Error: a failed handshake.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The cause of the failure.
    pub fault: HandshakeFault,
    /// The connection, if the client speaks HTTP without TLS and can get a response.
    pub plain: Option<TcpStream>,
}

impl From<HandshakeFault> for Refused {
    fn from(fault: HandshakeFault) -> Self {
        Self { fault, plain: None }
    }
}

/// Performs the handshake. Before the client has sent something it costs a socket; before its hello
/// is complete, no more than that hello. `turns` has [`ANSWERS_AT_ONCE`] permits, shared by the
/// worker. It has no time-out of its own: dropping it ends it.
///
/// # Errors
/// See [`Refused`].
pub(crate) async fn accept(
    stream: TcpStream,
    certificates: &Certificates,
    turns: &Semaphore,
) -> Result<(Box<ServerStream>, Session), Refused> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == HANDSHAKE_RECORD => {}
        Ok(1) if first[0].is_ascii_alphabetic() => {
            return Err(Refused { fault: HandshakeFault::PlainHttp, plain: Some(stream) });
        }
        Ok(1) => return Err(HandshakeFault::NotTls.into()),
        Ok(_) | Err(_) => return Err(HandshakeFault::ClientGone.into()),
    }
    let hello = hello(&stream).await?;
    let served = certificates.current();
    let (choice, entry) = served.choose(&hello.client_hello()).ok_or(HandshakeFault::Other)?;
    // The semaphore is never closed.
    let turn = turns.acquire().await.map_err(|_| HandshakeFault::Other)?;
    let config = Arc::clone(entry.config(&hello.client_hello()));
    let start = StartHandshake::from_parts(hello, stream);
    let mut handshake = start.into_stream(config);
    let answered = poll_fn(|cx| Poll::Ready(Pin::new(&mut handshake).poll(cx))).await;
    // A handshake that waits for a turn gets it after the connections being served had theirs. The
    // turn must not be held until the client continues: some never do.
    tokio::task::yield_now().await;
    drop(turn);
    let done = match answered {
        Poll::Ready(done) => done,
        Poll::Pending => handshake.await,
    };
    let stream = done.map_err(|error| fault(&error))?;
    let session = session(stream.get_ref().1, certificates, choice, entry);
    Ok((Box::new(stream), session))
}

/// Reads a whole ClientHello.
async fn hello(stream: &TcpStream) -> Result<Accepted, HandshakeFault> {
    let mut acceptor = Acceptor::default();
    let mut taken = 0;
    loop {
        stream.readable().await.map_err(|_| HandshakeFault::ClientGone)?;
        match acceptor.read_tls(&mut WhatIsThere(stream)) {
            Ok(0) => return Err(HandshakeFault::ClientGone),
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return Err(HandshakeFault::ClientGone),
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) if taken > MAX_HELLO => return Err(HandshakeFault::NotTls),
            Ok(None) => {}
            Err((error, mut alert)) => {
                // As much as the socket takes at once: all of it, or the client is gone.
                let _ = alert.write_all(&mut WhatIsThere(stream));
                return Err(HandshakeFault::of(&error));
            }
        }
    }
}

/// A socket written without waiting.
struct WhatIsThere<'s>(&'s TcpStream);

impl io::Read for WhatIsThere<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl io::Write for WhatIsThere<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fault(error: &io::Error) -> HandshakeFault {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    inner.map_or(HandshakeFault::ClientGone, HandshakeFault::of)
}

fn session(
    connection: &ServerConnection,
    certificates: &Certificates,
    choice: Choice,
    entry: &CertificateEntry,
) -> Session {
    let settings = certificates.settings();
    let version = connection.protocol_version().map_or("-", openssl::version);
    let suite = connection.negotiated_cipher_suite();
    let cipher = suite.map_or("-", |suite| openssl::cipher(suite.suite()));
    let chain = connection.peer_certificates().unwrap_or_default();
    let mut fields = match settings.client_auth {
        ClientAuth::Off => Vec::new(),
        ClientAuth::Passthrough => client_certificate::passed_through(chain),
        ClientAuth::Verify(_) => client_certificate::verified(chain),
    };
    if settings.tls_headers {
        let told = [("x-amzn-tls-version", version), ("x-amzn-tls-cipher-suite", cipher)];
        fields.extend(
            told.map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            }),
        );
    }
    let is_reused = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    let name = connection.server_name().filter(|_| choice.by_name);
    Session {
        version,
        cipher,
        server_name: name.map(Into::into),
        certificate: if is_reused { "session-reused".into() } else { Arc::clone(&entry.id) },
        fields,
    }
}
