//! The requests that every balancer of a row gets: a visitor sends one without a cookie of the
//! balancer, and then sends with each request the cookies of the previous response.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::header::{ACCEPT, COOKIE, SET_COOKIE, USER_AGENT};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio_rustls::TlsConnector;

use crate::certificate::{Certificate, SERVER_NAME};
use crate::origin::BODY;
use crate::rows::{Protocol, Reuse, Row};

type Done<T = ()> = Result<T, Box<dyn Error>>;

/// Kept connections, one visitor on each; one request at a time is in flight on all of them
/// together.
const CONNECTIONS: usize = 8;
/// Concurrent streams of one HTTP/2 connection.
const STREAMS: usize = 10;
/// A User-Agent as long as a browser's; nginx reads each byte of a field.
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
/// Time-out that suffices under callgrind and on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The visitors of one row.
pub(crate) enum Visits {
    /// Over HTTP/1.1, plain or within TLS.
    OneByOne { client: Client, reuse: Reuse, visitors: Vec<(Visitor, Option<Link>)>, next: usize },
    /// Over one HTTP/2 connection, on which this many requests are kept in flight.
    Streams(Streams),
}

impl Visits {
    pub(crate) fn new(row: &Row, address: SocketAddr, certificate: &Certificate) -> Done<Self> {
        let tls = match row.protocol {
            Protocol::Plain => None,
            Protocol::Tls => Some(tls(certificate, b"http/1.1")?),
            Protocol::Http2 => {
                let tls = tls(certificate, b"h2")?;
                return Ok(Self::Streams(Streams::open(address, tls)?));
            }
        };
        let visitors = (0..CONNECTIONS).map(|_| (Visitor::default(), None)).collect();
        Ok(Self::OneByOne { client: Client { address, tls }, reuse: row.reuse, visitors, next: 0 })
    }

    /// Sends this many requests, and checks every response.
    pub(crate) fn ask(&mut self, count: usize) -> Done {
        match self {
            Self::Streams(streams) => streams.ask(count),
            Self::OneByOne { client, reuse, visitors, next } => {
                for _ in 0..count {
                    let (visitor, kept) = &mut visitors[*next];
                    *next = (*next + 1) % CONNECTIONS;
                    let mut link = match kept.take() {
                        Some(link) => link,
                        None => client.connect()?,
                    };
                    visitor.ask(&mut link, *reuse)?;
                    if *reuse == Reuse::Kept {
                        *kept = Some(link);
                    }
                }
                Ok(())
            }
        }
    }

    /// True if each visitor got a cookie with its last response.
    pub(crate) fn have_fresh_cookies(&self) -> bool {
        match self {
            Self::Streams(streams) => streams.visitor.borrow().was_given,
            Self::OneByOne { visitors, .. } => {
                visitors.iter().all(|(visitor, _)| visitor.was_given)
            }
        }
    }
}

/// One client: its cookies, and the target with its session.
#[derive(Default)]
pub(crate) struct Visitor {
    /// In the order in which they were first set.
    cookies: Vec<(String, String)>,
    target: Option<char>,
    /// True if the last response set a cookie.
    was_given: bool,
}

impl Visitor {
    fn line(&self) -> String {
        let theme = "theme=dark".to_owned();
        self.cookies.iter().fold(theme, |line, (name, value)| format!("{line}; {name}={value}"))
    }

    fn ask(&mut self, link: &mut Link, reuse: Reuse) -> Done {
        let close = if reuse == Reuse::Fresh { "Connection: close\r\n" } else { "" };
        let request = format!(
            "GET /cart?item=1 HTTP/1.1\r\nHost: {SERVER_NAME}\r\nUser-Agent: {BROWSER}\r\n\
             Accept: */*\r\n{close}Cookie: {}\r\n\r\n",
            self.line()
        );
        link.write_all(request.as_bytes())?;
        link.flush()?;
        let mut answer = Vec::new();
        let mut room = [0; 4_096];
        let (head, body) = loop {
            let count = link.read(&mut room)?;
            if count == 0 {
                return Err("the balancer closed the connection early".into());
            }
            answer.extend_from_slice(&room[..count]);
            let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end.filter(|end| answer.len() >= end + 4 + BODY) {
                break (str::from_utf8(&answer[..end])?, &answer[end + 4..]);
            }
        };
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.get(9..12)).unwrap_or_default();
        let fields = lines.filter_map(|line| line.split_once(": "));
        self.take(status, body, fields)?;
        // The balancer closes first, so that no port of this side stays in TIME_WAIT.
        while reuse == Reuse::Fresh && !matches!(link.read(&mut room), Ok(0) | Err(_)) {}
        Ok(())
    }

    /// Checks a response and keeps its cookies.
    fn take<'a>(
        &mut self,
        status: &str,
        body: &[u8],
        fields: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Done {
        if status != "200" || body.len() != BODY {
            return Err(format!("answered {status} with {} bytes", body.len()).into());
        }
        let target = char::from(body[0]);
        self.was_given = false;
        for (name, value) in fields {
            if name.eq_ignore_ascii_case("set-cookie") {
                let pair = value.split(';').next().unwrap_or_default();
                let (name, value) = pair.split_once('=').ok_or("a cookie without a name")?;
                self.was_given = true;
                match self.cookies.iter_mut().find(|(known, _)| known == name) {
                    Some((_, old)) => value.clone_into(old),
                    None => self.cookies.push((name.to_owned(), value.to_owned())),
                }
            }
        }
        let pinned = *self.target.get_or_insert(target);
        if pinned != target {
            return Err(format!("answered by target {target}, pinned to {pinned}").into());
        }
        Ok(())
    }
}

pub(crate) enum Link {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Link {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(room),
            Self::Tls(stream) => stream.read(room),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

pub(crate) struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    fn connect(&self) -> Done<Link> {
        let stream = connect(self.address)?;
        let Some(tls) = &self.tls else { return Ok(Link::Plain(stream)) };
        let session = ClientConnection::new(Arc::clone(tls), server_name()?)?;
        Ok(Link::Tls(Box::new(StreamOwned::new(session, stream))))
    }
}

pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn server_name() -> Done<ServerName<'static>> {
    Ok(ServerName::try_from(SERVER_NAME)?)
}

/// One version, one cipher suite, one group, so that all balancers do the same work.
fn tls(certificate: &Certificate, alpn: &[u8]) -> Done<Arc<ClientConfig>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&certificate.chain)?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}

/// One HTTP/2 connection and its visitor; each request carries the newest cookies.
pub(crate) struct Streams {
    runtime: Runtime,
    tasks: LocalSet,
    requests: SendRequest<Bytes>,
    visitor: Rc<RefCell<Visitor>>,
}

impl Streams {
    fn open(address: SocketAddr, tls: Arc<ClientConfig>) -> Done<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let tasks = LocalSet::new();
        let requests = tasks.block_on(&runtime, async {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = TlsConnector::from(tls).connect(server_name()?, stream).await?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err("no HTTP/2 was agreed on".into());
            }
            let (requests, connection) = h2::client::handshake(stream).await?;
            spawn_local(async move {
                // An error of the connection is an error of each of its streams too.
                let _ = connection.await;
            });
            Done::Ok(requests)
        })?;
        let mut streams = Self { runtime, tasks, requests, visitor: Rc::default() };
        // The first response pins all that follow.
        streams.ask(1)?;
        Ok(streams)
    }

    fn ask(&mut self, count: usize) -> Done {
        let left = Rc::new(Cell::new(count));
        self.tasks.block_on(&self.runtime, async {
            let mut asking = JoinSet::new();
            for _ in 0..STREAMS.min(count) {
                let (left, visitor) = (Rc::clone(&left), Rc::clone(&self.visitor));
                let requests = self.requests.clone();
                asking.spawn_local(async move {
                    while let Some(fewer) = left.get().checked_sub(1) {
                        left.set(fewer);
                        let one = exchange(requests.clone(), &visitor);
                        let one = tokio::time::timeout(PATIENCE, one).await;
                        one.map_err(|_| "no answer over HTTP/2".to_owned())?
                            .map_err(|problem| problem.to_string())?;
                    }
                    Ok::<(), String>(())
                });
            }
            while let Some(ended) = asking.join_next().await {
                ended??;
            }
            Done::Ok(())
        })
    }
}

async fn exchange(to: SendRequest<Bytes>, visitor: &RefCell<Visitor>) -> Done {
    let request = http::Request::get(format!("https://{SERVER_NAME}/cart?item=1"))
        .header(USER_AGENT, BROWSER)
        .header(ACCEPT, "*/*")
        .header(COOKIE, visitor.borrow().line())
        .body(())?;
    let (answer, _) = to.ready().await?.send_request(request, true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut whole = Vec::new();
    while let Some(data) = body.data().await.transpose()? {
        whole.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    let cookies = head.headers.get_all(SET_COOKIE).iter();
    let fields = cookies.filter_map(|value| Some((SET_COOKIE.as_str(), value.to_str().ok()?)));
    visitor.borrow_mut().take(head.status.as_str(), &whole, fields)
}
