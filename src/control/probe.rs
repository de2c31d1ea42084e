//! Health checks of a target (AWS, "Health checks for your target groups").

mod http2;

use crate::config::settings::{Health, HealthProtocol};
use crate::net::shortage::is_our_shortage;
use crate::net::tls::{self, Connector};
use crate::policy::health::drain_request::DrainRequest;
use crate::policy::health::progress::Failure;
use crate::policy::proxy_protocol::{self, ProxySource, Version};
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// ALB's agent first, for applications that know it, then the name of this balancer.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("ELB-HealthChecker/2.0 stayput/", env!("CARGO_PKG_VERSION")));

/// Maximum number of bytes read of a response body: a check searches for a short text.
const MAX_BODY: usize = 64 * 1_024;

/// The destination and the settings of a check.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// Address to check.
    pub address: SocketAddr,
    /// Request and accepted responses.
    pub health: Health,
    /// TLS of the check, if any.
    pub tls: Option<Connector>,
    /// True if the check uses HTTP/2.
    pub http2: bool,
    /// Version of the PROXY header, if the target needs one; it declares the balancer itself as the
    /// source.
    pub send_proxy: Option<Version>,
}

/// The address and protocol of a target's traffic.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// Address of the traffic.
    pub address: SocketAddr,
    /// TLS of the traffic, if any.
    pub tls: Option<Connector>,
    /// True if ALPN must agree on HTTP/2.
    pub http2: bool,
    /// Version of the PROXY header, if the target needs one.
    pub send_proxy: Option<Version>,
    /// Time-out of the dial.
    pub timeout: Duration,
}

/// A response in time, passed or failed.
#[derive(Debug)]
pub(crate) struct ProbeResult {
    /// `Ok` if the check passed.
    pub judgement: Result<(), Failure>,
    /// The target's request to drain, if any.
    pub drain_request: DrainRequest,
}

impl ProbeResult {
    /// A passed check without a request to drain.
    const PASSED: Self = Self { judgement: Ok(()), drain_request: DrainRequest::None };
}

/// Reason why a check got no response.
#[derive(Debug)]
pub(crate) enum ProbeError {
    /// The target did not respond.
    Failed(Failure),
    /// This process lacked a resource for the check; the target's state stays as it is.
    Shortage(io::Error),
}

impl From<Failure> for ProbeError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Runs one check on a new connection.
///
/// # Errors
/// The reason why there was no response.
pub(crate) async fn ask(probe: &Probe) -> Result<ProbeResult, ProbeError> {
    let answer = async {
        let stream = open(probe.address, probe.send_proxy).await?;
        if probe.health.protocol == HealthProtocol::Tcp {
            return Ok(ProbeResult::PASSED);
        }
        let Some(tls) = &probe.tls else { return Ok(ask_over(stream, probe).await?) };
        Ok(ask_over(secure(stream, tls, probe.http2).await?, probe).await?)
    };
    let timeout = probe.health.timeout;
    tokio::time::timeout(timeout, answer).await.unwrap_or(Err(Failure::Timeout.into()))
}

/// Dials the traffic address and closes the connection; `None` if this process lacked a resource.
pub(crate) async fn reach(to: &Reach) -> Option<bool> {
    let connected = async {
        let stream = open(to.address, to.send_proxy).await?;
        if let Some(tls) = &to.tls {
            secure(stream, tls, to.http2).await?;
        }
        Ok(())
    };
    match tokio::time::timeout(to.timeout, connected).await {
        Ok(Ok(())) => Some(true),
        Ok(Err(ProbeError::Shortage(_))) => None,
        Ok(Err(ProbeError::Failed(_))) | Err(_) => Some(false),
    }
}

async fn open(address: SocketAddr, send_proxy: Option<Version>) -> Result<TcpStream, ProbeError> {
    let mut stream = connect(address).await?;
    if let Some(version) = send_proxy {
        let header = proxy_protocol::write(version, &ProxySource::Itself);
        stream.write_all(&header).await.map_err(|error| failed(&error))?;
    }
    Ok(stream)
}

async fn secure(
    stream: TcpStream,
    tls: &Connector,
    http2: bool,
) -> Result<tls::TlsStream, Failure> {
    let stream = tls.connect(stream).await.map_err(|error| failed(&format!("TLS: {error}")))?;
    match http2 && !tls::agreed_on_http2(&stream) {
        true => Err(failed(&"TLS: the target did not select HTTP/2 in ALPN")),
        false => Ok(stream),
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, ProbeError> {
    TcpStream::connect(address).await.map_err(|error| match is_our_shortage(&error) {
        true => ProbeError::Shortage(error),
        false => failed(&error).into(),
    })
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::FailedHealthChecks { cause: error.to_string() }
}

async fn ask_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    probe: &Probe,
) -> Result<ProbeResult, Failure> {
    match probe.health.protocol {
        HealthProtocol::Grpc => http2::call(stream, probe).await,
        _ if probe.http2 => http2::get(stream, probe).await,
        _ => ask_http(stream, probe).await,
    }
}

async fn ask_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    probe: &Probe,
) -> Result<ProbeResult, Failure> {
    let request = request(probe)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let driver = tokio::task::spawn_local(connection);
    let answer = match sender.send_request(request).await {
        Ok(response) => Ok(judge(response, &probe.health).await),
        Err(error) => Err(failed(&error)),
    };
    driver.abort();
    answer
}

async fn judge<B>(response: Response<B>, health: &Health) -> ProbeResult
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    let drain_request =
        DrainRequest::of(response.status(), response.headers(), health.drain_on_404);
    let got = response.status().as_u16();
    let judgement = match &health.body {
        _ if drain_request == DrainRequest::DrainUnjudged => Ok(()),
        _ if !health.matcher.accepts(got) => Err(Failure::ResponseCodeMismatch { got }),
        None => Ok(()),
        Some(wanted) => find(wanted.as_bytes(), response.into_body()).await,
    };
    ProbeResult { judgement, drain_request }
}

/// Reads until the text is found, the body has ended, or [`MAX_BODY`] is reached.
async fn find<B>(wanted: &[u8], mut body: B) -> Result<(), Failure>
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| failed(&error))?.into_data() else { continue };
        // The text may begin in the previous chunk.
        let begin = read.len().saturating_sub(wanted.len());
        let room = MAX_BODY - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if memchr::memmem::find(&read[begin..], wanted).is_some() {
            return Ok(());
        }
        if read.len() == MAX_BODY {
            break;
        }
    }
    Err(Failure::ResponseStringMismatch)
}

/// Host of the request: without the port if it is a default port, as in ALB.
fn host(address: SocketAddr) -> String {
    match address.port() {
        80 | 443 if address.is_ipv6() => format!("[{}]", address.ip()),
        80 | 443 => address.ip().to_string(),
        _ => address.to_string(),
    }
}

fn request(probe: &Probe) -> Result<Request<Empty<Bytes>>, Failure> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = probe.health.path.parse().map_err(|error| failed(&error))?;
    let host = host(probe.address);
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(host).map_err(|error| failed(&error))?);
    headers.insert(USER_AGENT, AGENT);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if probe.health.body.is_none() {
        // As ALB; but a text cannot be found in a compressed body.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, compressed"));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn probe(address: &str, health: &str) -> Probe {
        let text = format!(
            "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\n\
             targets = [\"127.0.0.1:1\"]\nhealth = {{ {health} }}\n"
        );
        let config = config::parse(&text, "test.toml", "/".as_ref()).unwrap().config;
        let health = config.groups[0].health.clone();
        let address = address.parse().unwrap();
        Probe { address, health, tls: None, http2: false, send_proxy: None }
    }

    #[test]
    fn host_is_the_bare_address_on_a_default_port_else_with_its_port() {
        for (address, host) in [
            ("192.0.2.1:80", "192.0.2.1"),
            ("192.0.2.1:443", "192.0.2.1"),
            ("192.0.2.1:8080", "192.0.2.1:8080"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]:3000", "[2001:db8::1]:3000"),
        ] {
            let request = request(&probe(address, "path = \"/up?deep=1\"")).unwrap();
            assert_eq!(request.headers()[HOST], host);
            assert_eq!(request.uri(), "/up?deep=1");
        }
    }

    #[test]
    fn a_check_sends_the_header_fields_of_alb_and_no_more() {
        let names = |health: &str| {
            let request = request(&probe("192.0.2.1:80", health)).unwrap();
            let mut names: Vec<_> = request.headers().keys().map(|name| name.to_string()).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(names("path = \"/\""), "accept-encoding connection host user-agent");
        // A text cannot be found in a compressed body.
        assert_eq!(names("body = \"ok\""), "connection host user-agent");
    }
}
