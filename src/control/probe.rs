//! Asking a target whether it serves (AWS, "Health checks for your target groups").

use crate::config::settings::{Health, HealthProtocol};
use crate::net::shortage::is_our_shortage;
use crate::policy::health::progress::Failure;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// ALB's agent first, for applications that know it, then our name.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("ELB-HealthChecker/2.0 stayput/", env!("CARGO_PKG_VERSION")));

/// An answer's body is read so far and no further: a check looks for a word, not for a file.
const MOST_BODY: usize = 64 * 1_024;

/// Whom to ask, and what.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where.
    pub address: SocketAddr,
    /// What is asked, and what is accepted.
    pub health: Health,
}

/// Why a check did not pass.
#[derive(Debug)]
pub enum Trouble {
    /// It failed.
    Failed(Failure),
    /// It could not be made for want of something of ours, which says nothing about the target.
    Shortage(io::Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Asks once, on a connection of its own.
///
/// # Errors
/// Why the check did not pass.
pub async fn ask(question: &Question) -> Result<(), Trouble> {
    let answer = async {
        match question.health.protocol {
            HealthProtocol::Tcp => connect(question.address).await.map(drop),
            HealthProtocol::Http => ask_http(question).await,
        }
    };
    let timeout = question.health.timeout;
    tokio::time::timeout(timeout, answer).await.unwrap_or(Err(Failure::Timeout.into()))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Trouble> {
    TcpStream::connect(address).await.map_err(|error| match is_our_shortage(&error) {
        true => Trouble::Shortage(error),
        false => failed(&error).into(),
    })
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::FailedHealthChecks { cause: error.to_string() }
}

async fn ask_http(question: &Question) -> Result<(), Trouble> {
    let stream = connect(question.address).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let driver = tokio::task::spawn_local(connection);
    let answer = async {
        let request = request(question)?;
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let got = response.status().as_u16();
        if !question.health.matcher.accepts(got) {
            return Err(Failure::ResponseCodeMismatch { got });
        }
        let Some(wanted) = &question.health.body else { return Ok(()) };
        find(wanted.as_bytes(), response.into_body()).await
    };
    let answer = answer.await;
    driver.abort();
    Ok(answer?)
}

/// Reads until the word has come, the body has ended, or [`MOST_BODY`] is reached.
async fn find(wanted: &[u8], mut body: Incoming) -> Result<(), Failure> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| failed(&error))?.into_data() else { continue };
        // The word may have begun in what came before.
        let begin = read.len().saturating_sub(wanted.len());
        let room = MOST_BODY - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if memchr::memmem::find(&read[begin..], wanted).is_some() {
            return Ok(());
        }
        if read.len() == MOST_BODY {
            break;
        }
    }
    Err(Failure::ResponseStringMismatch)
}

fn request(question: &Question) -> Result<Request<Empty<Bytes>>, Failure> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = question.health.path.parse().map_err(|error| failed(&error))?;
    let address = question.address;
    // ALB: the bare address on a default port.
    let host = match address.port() {
        80 | 443 if address.is_ipv6() => format!("[{}]", address.ip()),
        80 | 443 => address.ip().to_string(),
        _ => address.to_string(),
    };
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(host).map_err(|error| failed(&error))?);
    headers.insert(USER_AGENT, AGENT);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if question.health.body.is_none() {
        // As ALB; but a word cannot be found in what is compressed.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, compressed"));
    }
    Ok(request)
}
