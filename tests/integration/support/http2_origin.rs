//! A target that speaks HTTP/2 with prior knowledge, and a target for gRPC calls ("gRPC over
//! HTTP2").

use bytes::{Buf, Bytes, BytesMut};
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// A request's head as it arrived.
pub type Head = Request<()>;

/// A request, and the handle for its response.
pub struct Exchange {
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
    /// Number of requests that this target had before.
    pub nth: usize,
}

/// The target. Its thread lives as long as the process.
pub struct Http2Origin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<Head>>>,
}

impl Http2Origin {
    /// Responds to every request with its name.
    pub fn named(name: &'static str) -> Self {
        Self::serving(move |mut exchange| async move { exchange.say(name) })
    }

    /// Serves each request with this function, health checks too.
    pub fn serving<F>(serve: impl Fn(Exchange) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(|_| {}, usize::MAX, serve)
    }

    /// A target with other settings; each connection sends GOAWAY after this many requests.
    pub fn with<F>(
        settings: impl FnOnce(&mut Builder),
        most_requests: usize,
        serve: impl Fn(Exchange) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let origin = Self { address, connections: Arc::default(), heard: Arc::default() };
        let (connections, heard) = (origin.connections.clone(), origin.heard.clone());
        let mut builder = Builder::new();
        settings(&mut builder);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    // As servers do: a response head waits for no acknowledgement of earlier data.
                    let _ = stream.set_nodelay(true);
                    let (serve, heard, builder) = (serve.clone(), heard.clone(), builder.clone());
                    let connections = connections.clone();
                    tokio::spawn(async move {
                        // A client with another protocol is not served.
                        let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
                            return;
                        };
                        connections.fetch_add(1, Ordering::SeqCst);
                        let mut count = 0;
                        while let Some(Ok((request, respond))) = connection.accept().await {
                            count += 1;
                            if count == most_requests {
                                connection.graceful_shutdown();
                            }
                            let mut head = Request::new(());
                            *head.method_mut() = request.method().clone();
                            *head.uri_mut() = request.uri().clone();
                            *head.headers_mut() = request.headers().clone();
                            let nth = {
                                let mut heard = heard.lock().unwrap();
                                heard.push(head);
                                heard.len() - 1
                            };
                            tokio::spawn(serve(Exchange { request, respond, nth }));
                        }
                    });
                }
            });
        });
        origin
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of connections over which HTTP/2 was spoken.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The heads of all requests so far.
    pub fn heard(&self) -> Vec<Head> {
        self.heard.lock().unwrap().clone()
    }
}

impl Exchange {
    /// Sends 200 with this text.
    pub fn say(&mut self, text: &'static str) {
        if let Ok(mut body) = self.respond.send_response(Response::new(()), false) {
            let _ = body.send_data(Bytes::from_static(text.as_bytes()), true);
        }
    }

    /// Sends REFUSED_STREAM: the request was not processed and can be sent again.
    pub fn refuse(&mut self) {
        self.respond.send_reset(Reason::REFUSED_STREAM);
    }

    /// Waits until the stream is reset. Returns the error code.
    pub async fn until_reset(&mut self) -> Reason {
        poll_fn(|cx| self.respond.poll_reset(cx)).await.unwrap()
    }

    /// The next bytes of the body; opens the window for as many again.
    pub async fn data(&mut self) -> Option<Bytes> {
        let body = self.request.body_mut();
        let data = body.data().await?.ok()?;
        let _ = body.flow_control().release_capacity(data.len());
        Some(data)
    }
}

/// Sends data as fast as the window allows.
pub async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = loop {
            match stream.capacity() {
                0 => match poll_fn(|cx| stream.poll_capacity(cx)).await {
                    Some(room) => drop(room?),
                    None => return Err(Reason::CANCEL.into()),
                },
                room => break room,
            }
        };
        stream.send_data(data.split_to(room.min(data.len())), false)?;
    }
    Ok(())
}

/// A gRPC message as it is sent.
pub fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), text.as_bytes()].concat().into()
}

/// Removes whole messages from the front.
pub fn messages(buffer: &mut BytesMut) -> Vec<String> {
    let mut found = Vec::new();
    while buffer.len() >= 5 {
        let length = u32::from_be_bytes(buffer[1..5].try_into().unwrap()) as usize;
        if buffer.len() < 5 + length {
            break;
        }
        buffer.advance(5);
        found.push(String::from_utf8(buffer.split_to(length).to_vec()).unwrap());
    }
    found
}

/// A service with the four kinds of method, called `name`, which each call's initial metadata
/// contains. Its response to health checks is that of a server without such a method, as with ALB.
pub fn service(name: &'static str) -> Http2Origin {
    Http2Origin::serving(move |mut exchange| async move {
        let mut head = Response::new(());
        let headers = head.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("served-by", HeaderValue::from_static(name));
        let method = exchange.request.uri().path().to_owned();
        if !method.starts_with("/echo.Echo/") {
            headers.insert("grpc-status", HeaderValue::from_static("12"));
            let _ = exchange.respond.send_response(head, true);
            return;
        }
        let Ok(mut answer) = exchange.respond.send_response(head, false) else { return };
        let (mut buffer, mut all) = (BytesMut::new(), Vec::new());
        while let Some(data) = exchange.data().await {
            buffer.extend_from_slice(&data);
            for text in messages(&mut buffer) {
                if method.ends_with("Both") {
                    let _ = send(&mut answer, message(&text)).await;
                }
                all.push(text);
            }
        }
        match method.rsplit('/').next() {
            Some("Server") => {
                for at in 0..all[0].parse().unwrap() {
                    let _ = send(&mut answer, message(&format!("{at}"))).await;
                }
            }
            Some("Client") => drop(send(&mut answer, message(&all.join("+"))).await),
            Some("Unary") => drop(send(&mut answer, message(&all[0])).await),
            _ => {}
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("messages", HeaderValue::from(all.len()));
        let _ = answer.send_trailers(trailers);
    })
}
