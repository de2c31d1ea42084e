//! An HTTP/2 client with prior knowledge that follows the RFC.

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than any step of the tests.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection of the client.
pub struct Http2 {
    driver: Handle,
    /// Ends the thread that drives the connection when it is dropped.
    _until: oneshot::Sender<()>,
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The value of the balancer's cookie, if it was set.
    pub fn pin(&self) -> Option<String> {
        let lines = self.headers.get_all("set-cookie").iter();
        lines
            .filter_map(|line| line.to_str().unwrap().strip_prefix("AWSALB="))
            .next()
            .map(|line| line.split(';').next().unwrap().to_owned())
    }
}

/// A request whose response is not read yet.
pub struct Asked {
    answer: ResponseFuture,
    pub body: SendStream<Bytes>,
}

impl Asked {
    /// The status of the next interim response.
    pub async fn interim(&mut self) -> Option<StatusCode> {
        self.interim_head().await.map(|head| head.status())
    }

    /// The next interim response; `None` if the final response is next.
    pub async fn interim_head(&mut self) -> Option<Response<()>> {
        let next = std::future::poll_fn(|cx| self.answer.poll_informational(cx)).await;
        next.map(Result::unwrap)
    }
}

impl Http2 {
    /// Connects, and waits until the balancer has sent its SETTINGS.
    pub fn to(address: SocketAddr) -> Self {
        Self::with(address, |_| {})
    }

    /// Connects with other settings.
    pub fn with(address: SocketAddr, settings: impl FnOnce(&mut Builder)) -> Self {
        let (until, ended) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let driver = runtime.handle().clone();
        // Frames are read and acknowledged even while the test waits for none.
        std::thread::spawn(move || runtime.block_on(ended));
        let mut builder = Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
        settings(&mut builder);
        let (sender, connection) = driver.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            let (sender, mut connection) = builder.handshake(stream).await.unwrap();
            let mut ping = connection.ping_pong().unwrap();
            let connection = tokio::spawn(connection);
            ping.ping(h2::Ping::opaque()).await.unwrap();
            (sender, connection)
        });
        Self { driver, _until: until, sender, connection }
    }

    /// Waits for a future of this connection, with a bound.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        let bounded = async { tokio::time::timeout(PATIENCE, future).await };
        self.driver.block_on(bounded).expect("nothing within ten seconds")
    }

    /// A request head with the fields of a browser.
    pub fn head(path: &str) -> http::request::Builder {
        Request::get(format!("http://shop.example{path}"))
    }

    /// Sends a head; the request ends with it if `ends`.
    pub fn ask(&self, request: http::request::Builder, ends: bool) -> Result<Asked, h2::Error> {
        let sender = self.sender.clone();
        self.wait(async {
            let request = request.body(()).unwrap();
            let (answer, body) = sender.ready().await?.send_request(request, ends)?;
            Ok(Asked { answer, body })
        })
    }

    /// Reads the response head, and leaves the body to be read.
    pub fn begun(
        &self,
        asked: Asked,
    ) -> Result<(Response<RecvStream>, SendStream<Bytes>), h2::Error> {
        let Asked { answer, body } = asked;
        self.wait(async { Ok((answer.await?, body)) })
    }

    /// Reads the whole response.
    pub fn reply(&self, asked: Asked) -> Result<Reply, h2::Error> {
        let (response, _body) = self.begun(asked)?;
        let (parts, mut stream) = response.into_parts();
        self.wait(async {
            let mut body = Vec::new();
            while let Some(data) = stream.data().await {
                let data = data?;
                stream.flow_control().release_capacity(data.len())?;
                body.extend_from_slice(&data);
            }
            let trailers = stream.trailers().await?;
            Ok(Reply { status: parts.status, headers: parts.headers, body, trailers })
        })
    }

    /// Sends a request without a body and reads the response.
    pub fn send(&self, request: http::request::Builder) -> Result<Reply, h2::Error> {
        self.reply(self.ask(request, true)?)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send(Self::head(path)).unwrap()
    }

    /// Waits until the balancer closes the connection, and returns the result.
    pub fn closed(self) -> Result<(), h2::Error> {
        let Self { driver, _until, sender, connection } = self;
        // It stays open as long as a request could be sent.
        drop(sender);
        driver
            .block_on(async { tokio::time::timeout(PATIENCE, connection).await })
            .expect("not closed within ten seconds")
            .unwrap()
    }

    /// Waits until the connection was closed, or takes no more requests.
    pub fn until_refused(&self) {
        super::until("the connection takes no more", || {
            self.wait(async { self.sender.clone().ready().await.is_err() }).then_some(())
        });
    }
}

/// The error code of a stream reset.
pub fn reset(error: &h2::Error) -> Option<Reason> {
    error.is_reset().then(|| error.reason()).flatten()
}
