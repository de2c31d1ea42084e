//! Replicas for trying a balancer: each sends its name, counts a visitor's visits in its own
//! memory, and stops on `POST /kill`. `POST /revive` restarts all.

use crate::base::random::Random;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, COOKIE, HeaderValue, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;

/// The cookie by which a replica recognises a visitor. It is the application's own; the balancer
/// neither reads nor writes it.
const VISITOR: &str = "visitor";
/// Maximum number of visitors of one replica, to bound its memory; at the bound it drops them all.
const MAX_VISITORS: usize = 10_000;

/// Several replicas on one thread.
#[derive(Debug)]
pub struct Fleet {
    replicas: Vec<(String, TcpListener)>,
}

impl Fleet {
    /// Binds the addresses; the replicas are named a, b, c and so on.
    ///
    /// # Errors
    /// If an address cannot be bound.
    pub fn bind(addresses: &[SocketAddr]) -> io::Result<Self> {
        let names = (b'a'..=b'z').map(|letter| char::from(letter).to_string());
        let names = names.chain((27..).map(|number: u32| format!("r{number}")));
        let bound =
            names.zip(addresses).map(|(name, address)| Ok((name, TcpListener::bind(address)?)));
        Ok(Self { replicas: bound.collect::<io::Result<_>>()? })
    }

    /// Names and addresses of the replicas.
    pub fn addresses(&self) -> io::Result<Vec<(String, SocketAddr)>> {
        let address =
            |(name, socket): &(String, TcpListener)| Ok((name.clone(), socket.local_addr()?));
        self.replicas.iter().map(address).collect()
    }

    /// Serves until the process ends. Needs a local runtime.
    ///
    /// # Errors
    /// If a socket cannot be used.
    pub async fn serve(self) -> io::Result<()> {
        let mut replicas = Vec::new();
        for (name, socket) in self.replicas {
            let random = Random::from_system().map_err(io::Error::other)?;
            let address = socket.local_addr()?;
            let replica = Replica {
                name,
                address,
                is_alive: Cell::new(true),
                visits: RefCell::default(),
                random: RefCell::new(random),
                killed: tokio::sync::Notify::new(),
            };
            replicas.push((Rc::new(replica), socket));
        }
        let fleet: Rc<[Rc<Replica>]> =
            replicas.iter().map(|(replica, _)| replica.clone()).collect();
        let mut lives = JoinSet::new();
        for (replica, socket) in replicas {
            lives.spawn_local(replica.live(socket, fleet.clone()));
        }
        while let Some(life) = lives.join_next().await {
            life.map_err(io::Error::other)??;
        }
        Ok(())
    }
}

struct Replica {
    name: String,
    address: SocketAddr,
    is_alive: Cell<bool>,
    visits: RefCell<HashMap<String, u32>>,
    random: RefCell<Random>,
    killed: tokio::sync::Notify,
}

impl Replica {
    /// Runs a replica: serve until it is killed, wait until it is revived, and again.
    async fn live(self: Rc<Self>, socket: TcpListener, fleet: Rc<[Rc<Self>]>) -> io::Result<()> {
        let mut socket = Some(socket);
        loop {
            let listener = match socket.take() {
                Some(socket) => socket,
                None => TcpListener::bind(self.address)?,
            };
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let mut visitors = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        let (replica, fleet) = (self.clone(), fleet.clone());
                        visitors.spawn_local(replica.serve(stream, fleet));
                    }
                    Some(_) = visitors.join_next() => {}
                    () = self.killed.notified() => break,
                }
            }
            // All state of the replica ends here: sockets, connections, visits.
            drop((listener, visitors));
            self.visits.borrow_mut().clear();
            while !self.is_alive.get() {
                tokio::time::sleep(REVIVAL).await;
            }
        }
    }

    async fn serve(self: Rc<Self>, stream: tokio::net::TcpStream, fleet: Rc<[Rc<Self>]>) {
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request: Request<Incoming>| {
            let answer = self.answer(&request, &fleet);
            async { Ok::<_, Infallible>(answer) }
        });
        // A client that disconnects early is no error.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        if !self.is_alive.get() {
            self.killed.notify_one();
        }
    }

    fn answer(&self, request: &Request<Incoming>, fleet: &[Rc<Self>]) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/kill") => {
                if fleet.iter().filter(|other| other.is_alive.get()).count() == 1 {
                    return text(
                        StatusCode::CONFLICT,
                        format!("{} is the last replica running: POST /revive first\n", self.name),
                    );
                }
                self.is_alive.set(false);
                let mut answer =
                    text(StatusCode::OK, format!("{} stops and loses its sessions\n", self.name));
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                answer
            }
            (&Method::POST, "/revive") => {
                fleet.iter().for_each(|replica| replica.is_alive.set(true));
                text(StatusCode::OK, "all replicas run again\n".to_owned())
            }
            _ => self.visit(request.headers()),
        }
    }

    fn visit(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
        if agent.starts_with(b"ELB-HealthChecker") {
            return text(StatusCode::OK, "ok\n".to_owned());
        }
        let (visitor, is_known) = match visitor_of(headers) {
            Some(visitor) => (visitor, true),
            None => (format!("{:016x}", self.random.borrow_mut().bits()), false),
        };
        let mut visits = self.visits.borrow_mut();
        if visits.len() >= MAX_VISITORS {
            visits.clear();
        }
        let count = visits.entry(visitor.clone()).or_insert(0);
        *count += 1;
        let pin = headers.get("x-stayput-verdict").and_then(|verdict| verdict.to_str().ok());
        let pin = pin.map(|verdict| format!("  pin {verdict}")).unwrap_or_default();
        let mut answer = text(StatusCode::OK, format!("{}  visit {count}{pin}\n", self.name));
        if !is_known {
            let cookie = format!("{VISITOR}={visitor}; Path=/; HttpOnly");
            if let Ok(cookie) = HeaderValue::try_from(cookie) {
                answer.headers_mut().append(SET_COOKIE, cookie);
            }
        }
        answer
    }
}

/// Interval at which a stopped replica checks whether it is revived.
const REVIVAL: Duration = Duration::from_millis(50);

fn visitor_of(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let value = crate::policy::affinity::cookie::values(lines, VISITOR).next()?;
    let is_ours = value.len() == 16 && value.iter().all(u8::is_ascii_hexdigit);
    is_ours.then(|| String::from_utf8_lossy(value).into_owned())
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}
