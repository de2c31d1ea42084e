//! Connections against servers in the same thread: the library's own, and servers that misbehave
//! frame by frame.

use super::connections::{Connections, DialConfig, MAX_CONNECTIONS, MAX_PRIVATE};
use super::stream::{Stream, StreamPermit};
use super::{MAX_STREAMS, STREAM_WINDOW};
use crate::base::clock::Moment;
use crate::base::name::Name;
use crate::http1::response::Response as Head;
use crate::model::live::TargetState;
use crate::model::target_registry::TargetRegistry;
use crate::net::connect::ConnectError;
use crate::net::http1::RequestError;
use bytes::Bytes;
use h2::Reason;
use h2::server::{self, SendResponse};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;

/// Runs a scene, which must end by itself.
fn run(scene: impl Future<Output = ()>) {
    let options = tokio::runtime::LocalOptions::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(options);
    runtime.unwrap().block_on(async {
        let scene = tokio::time::timeout(Duration::from_secs(20), scene);
        scene.await.expect("the scene stands still");
    });
}

/// A body of given frames.
#[derive(Debug, Default)]
struct Frames(Vec<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready((!self.0.is_empty()).then(|| Ok(self.0.remove(0))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// A body that never yields a frame.
#[derive(Debug)]
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Pending
    }
}

/// A target and a worker's connections to it.
struct Scene {
    connections: Rc<Connections>,
    target: Arc<TargetState>,
    address: SocketAddr,
    /// Number of failed dials.
    failures: Rc<Cell<usize>>,
}

impl Scene {
    fn new(address: SocketAddr, max_connections: Option<u32>) -> Self {
        let name = |text| Name::new(text).unwrap();
        let (group, id) = (name("app"), name("a"));
        let target =
            TargetRegistry::default().target(&group, &id, Some(address), max_connections, None);
        Self { connections: Rc::default(), target, address, failures: Rc::default() }
    }

    async fn take(&self) -> Result<StreamPermit, ConnectError> {
        self.take_within(Duration::from_secs(5)).await
    }

    fn way(&self, timeout: Duration) -> DialConfig {
        let failures = Rc::clone(&self.failures);
        let failed = Box::new(move || failures.set(failures.get() + 1));
        let (address, keep_alive) = (self.address, Duration::ZERO);
        DialConfig { address, timeout, tls: None, keep_alive, failed, connected: Box::new(|| {}) }
    }

    async fn take_within(&self, timeout: Duration) -> Result<StreamPermit, ConnectError> {
        let way = self.way(timeout);
        self.connections.take(way, &self.target, None, false).await
    }

    /// The connections of another worker to the same target.
    fn elsewhere(&self) -> Self {
        Self {
            connections: Rc::default(),
            target: Arc::clone(&self.target),
            address: self.address,
            failures: Rc::default(),
        }
    }

    async fn begin(&self, body: Option<Frames>) -> Stream<Frames> {
        self.take().await.unwrap().begin(get(), body).unwrap()
    }
}

fn get() -> Request<()> {
    Request::get("http://app.internal/").body(()).unwrap()
}

async fn answer(stream: &mut Stream<Frames>) -> Result<StatusCode, RequestError> {
    let mut response = Head::default();
    let answered = poll_fn(|cx| stream.poll_answer(cx, &mut response)).await;
    answered.map(|()| response.status)
}

/// Reads the whole body and its trailers; `Err` if the body breaks off.
async fn body(stream: &mut Stream<Frames>) -> Result<(Vec<u8>, HeaderMap), ()> {
    let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = poll_fn(|cx| stream.poll_frame(cx)).await {
        match frame.map_err(drop)?.into_data() {
            Ok(piece) => data.extend_from_slice(&piece),
            Err(frame) => trailers = frame.into_trailers().unwrap(),
        }
    }
    Ok((data, trailers))
}

/// Starts a server. Returns its address and the number of connections it got.
async fn server<F: Future<Output = ()> + 'static>(
    most_streams: u32,
    serve: impl Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> F + Clone + 'static,
) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let came = Rc::new(Cell::new(0));
    let count = Rc::clone(&came);
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.set(count.get() + 1);
            let serve = serve.clone();
            tokio::task::spawn_local(async move {
                let mut builder = server::Builder::new();
                builder.max_concurrent_streams(most_streams);
                let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::task::spawn_local(serve(request, respond));
                }
            });
        }
    });
    (address, came)
}

async fn ok(_: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>) {
    let _ = respond.send_response(Response::new(()), true);
}

/// Starts a server that reads the head of each request and answers with these bytes, in which
/// `____` is replaced by the stream id.
async fn raw(answer: &'static [u8], closes: bool) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let came = Rc::new(Cell::new(0));
    let count = Rc::clone(&came);
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.set(count.get() + 1);
            tokio::task::spawn_local(misbehave(stream, answer, closes));
        }
    });
    (address, came)
}

async fn misbehave(mut stream: TcpStream, answer: &'static [u8], closes: bool) {
    stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream.read_exact(&mut [0; 24]).await.unwrap();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] != 1 {
            continue;
        }
        let mut answer = answer.to_vec();
        while let Some(at) = answer.windows(4).position(|bytes| bytes == b"____") {
            answer[at..at + 4].copy_from_slice(&head[5..]);
        }
        stream.write_all(&answer).await.unwrap();
        if closes {
            return;
        }
    }
}

#[test]
fn ten_requests_at_once_to_a_cold_target_make_one_connection() {
    run(async {
        let (address, came) = server(100, ok).await;
        let scene = Rc::new(Scene::new(address, None));
        let all = (0..10).map(|_| {
            let scene = Rc::clone(&scene);
            tokio::task::spawn_local(async move {
                let mut stream = scene.begin(None).await;
                answer(&mut stream).await.unwrap()
            })
        });
        for answered in all.collect::<Vec<_>>() {
            assert_eq!(answered.await.unwrap(), 200);
        }
        assert_eq!(came.get(), 1);
    });
}

#[test]
fn a_full_connection_gets_a_second_or_its_room_is_awaited() {
    run(async {
        let (address, came) = server(2, ok).await;
        let scene = Scene::new(address, None);
        let held = [scene.begin(None).await, scene.begin(None).await];
        let third = scene.begin(None).await;
        assert_eq!(came.get(), 2);
        drop((held, third));

        let (address, came) = server(2, ok).await;
        let scene = Scene::new(address, Some(1));
        let held = [scene.begin(None).await, scene.begin(None).await];
        let mut third = Box::pin(scene.begin(None));
        for _ in 0..20 {
            assert!(is_pending(&mut third));
            yield_now().await;
        }
        drop(held);
        assert_eq!(answer(&mut third.await).await, Ok(StatusCode::OK));
        assert_eq!(came.get(), 1);
    });
}

#[test]
fn a_place_wanted_by_another_worker_is_given_up_without_losses() {
    run(async {
        let (address, came) = server(100, ok).await;
        let here = Scene::new(address, Some(1));
        let elsewhere = here.elsewhere();
        let mut held = here.begin(None).await;
        let mut other = Box::pin(elsewhere.begin(None));
        assert!(is_pending(&mut other));
        let now = Moment::now().monotonic;
        here.connections.sweep(now, &here.target);
        assert!(is_pending(&mut other));
        assert_eq!(answer(&mut held).await, Ok(StatusCode::OK));
        drop(held);
        here.connections.sweep(now, &here.target);
        assert_eq!(answer(&mut other.await).await, Ok(StatusCode::OK));
        assert_eq!(came.get(), 2);
    });
}

/// Starts a server that takes one stream on each connection and then sends GOAWAY.
async fn one_each() -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let came = Rc::new(Cell::new(0));
    let count = Rc::clone(&came);
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.set(count.get() + 1);
            tokio::task::spawn_local(async move {
                let mut builder = server::Builder::new();
                builder.max_concurrent_streams(1);
                let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    connection.graceful_shutdown();
                    ok(request, respond).await;
                }
            });
        }
    });
    (address, came)
}

#[test]
fn all_waiting_requests_get_the_single_connection_in_turn() {
    run(async {
        let (address, came) = one_each().await;
        let here = Rc::new(Scene::new(address, Some(1)));
        let elsewhere = Rc::new(here.elsewhere());
        let served = Rc::new(std::cell::RefCell::new(Vec::new()));
        let mut all = Vec::new();
        for number in 0..20 {
            let scene = Rc::clone(if number % 2 == 0 { &here } else { &elsewhere });
            let served = Rc::clone(&served);
            all.push(tokio::task::spawn_local(async move {
                let mut polls = 0;
                let mut take = Box::pin(scene.take());
                let place = poll_fn(|cx| {
                    polls += 1;
                    take.as_mut().poll(cx)
                });
                let place = place.await.unwrap();
                served.borrow_mut().push(number);
                let mut stream = place.begin::<Frames>(get(), None).unwrap();
                assert_eq!(answer(&mut stream).await, Ok(StatusCode::OK));
                polls
            }));
            yield_now().await;
        }
        for served in all {
            let polls = served.await.unwrap();
            assert!(polls <= 2, "{polls}");
        }
        for worker in 0..2 {
            let served = served.borrow();
            let served: Vec<_> = served.iter().filter(|number| *number % 2 == worker).collect();
            assert!(served.len() == 10 && served.is_sorted(), "{served:?}");
        }
        assert_eq!(came.get(), 20);
    });
}

#[test]
fn free_room_goes_to_the_longest_waiting_request() {
    run(async {
        let (address, _) = server(1, ok).await;
        let scene = Scene::new(address, Some(1));
        let held = scene.take().await.unwrap();
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(scene.take())).collect();
        for wait in &mut waits {
            assert!(is_pending(wait));
        }
        // One of them leaves before it receives its room, which goes to the next.
        drop(held);
        assert!(scene.connections.room(false).is_none());
        drop(waits.remove(0));
        assert!(scene.connections.room(false).is_none());
        assert!(is_pending(&mut waits[1]));
        let place = waits.remove(0).await.unwrap();
        drop(place);
        drop(waits.remove(0).await.unwrap());
        assert!(scene.connections.room(false).is_some());
    });
}

#[test]
fn a_target_that_raises_its_stream_limit_serves_waiting_requests() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scene = Scene::new(listener.local_addr().unwrap(), Some(1));
        let may = Rc::new(tokio::sync::Notify::new());
        let more = Rc::clone(&may);
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x01").await.unwrap();
            more.notified().await;
            stream.write_all(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64").await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let _held = scene.begin(None).await;
        let mut second = Box::pin(scene.take());
        assert!(is_pending(&mut second));
        may.notify_one();
        let sweep = async {
            loop {
                scene.connections.sweep(Moment::now().monotonic, &scene.target);
                yield_now().await;
            }
        };
        tokio::select! {
            second = second => drop(second.unwrap()),
            () = sweep => {}
        }
    });
}

#[test]
fn a_body_at_the_limit_is_sent_while_others_ask_for_room() {
    run(async {
        for streams in [1, 2, 3] {
            let serve = |mut request: Request<h2::RecvStream>, respond| async move {
                while let Some(Ok(_)) = request.body_mut().data().await {}
                ok(request, respond).await;
            };
            let (address, _) = server(streams, serve).await;
            let scene = Scene::new(address, Some(1));
            let mut others = Vec::new();
            for _ in 1..streams {
                // The body does not end.
                let place = scene.take().await.unwrap();
                others.push(place.begin(get(), Some(Endless)).unwrap());
                yield_now().await;
            }
            let data = Frames(vec![Frame::data(Bytes::from_static(b"body"))]);
            let mut stream = scene.begin(Some(data)).await;
            let (mut response, mut polls) = (Head::default(), 0);
            let answer = poll_fn(|cx| {
                let answer = stream.poll_answer(cx, &mut response);
                // Before the stream was sent.
                polls += 1;
                assert!(polls > 1 || scene.connections.room(false).is_none());
                answer
            });
            assert_eq!(answer.await, Ok(()), "{streams}");
            assert_eq!(response.status, StatusCode::OK, "{streams}");
        }
    });
}

#[test]
fn a_target_without_streams_for_a_while_serves_waiting_requests_later() {
    run(async {
        const LIMITS: [&[u8]; 3] = [
            b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x03",
            b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\0",
            b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x02",
        ];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scene = Scene::new(listener.local_addr().unwrap(), Some(1));
        let next = Rc::new(tokio::sync::Notify::new());
        let step = Rc::clone(&next);
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for limit in LIMITS {
                stream.write_all(limit).await.unwrap();
                step.notified().await;
            }
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let held = scene.begin(None).await;
        let sweep = || scene.connections.sweep(Moment::now().monotonic, &scene.target);
        next.notify_one();
        while scene.connections.room(false).is_some() {
            yield_now().await;
        }
        // The end of a refused stream makes no room.
        drop(held);
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(scene.take())).collect();
        for wait in &mut waits {
            sweep();
            assert!(is_pending(wait));
        }
        next.notify_one();
        let sweeps = async {
            loop {
                sweep();
                yield_now().await;
            }
        };
        let first = tokio::select! {
            first = waits.remove(0) => first.unwrap(),
            () = sweeps => return,
        };
        // Two have room, in their order, and the third waits for one of them.
        let _second = waits.remove(0).await.unwrap();
        assert!(is_pending(&mut waits[0]));
        drop(first);
        drop(waits.remove(0).await.unwrap());
    });
}

#[test]
fn a_refused_request_comes_again_before_later_ones() {
    run(async {
        let refuses = Rc::new(Cell::new(true));
        let (address, came) = server(1, move |request, mut respond| {
            let refuses = Rc::clone(&refuses);
            async move {
                match refuses.replace(false) {
                    true => respond.send_reset(Reason::REFUSED_STREAM),
                    false => ok(request, respond).await,
                }
            }
        })
        .await;
        let scene = Scene::new(address, None);
        let place = scene.take().await.unwrap();
        let (first, ticket) = (Rc::clone(place.connection()), place.ticket());
        let mut stream = place.begin::<Frames>(get(), None).unwrap();
        assert_eq!(answer(&mut stream).await, Err(RequestError::Lost { unsent: true }));
        drop(stream);
        assert!(first.is_backing_off() && scene.connections.room(false).is_none());
        let mut later = Box::pin(scene.take());
        assert!(is_pending(&mut later));
        let way = scene.way(Duration::from_secs(5));
        let mut again = Box::pin(scene.connections.take(way, &scene.target, Some(ticket), false));
        assert!(is_pending(&mut again));
        let place = again.await.unwrap();
        assert!(is_pending(&mut later));
        let mut stream = place.begin::<Frames>(get(), None).unwrap();
        assert_eq!(answer(&mut stream).await, Ok(StatusCode::OK));
        drop(stream);
        assert!(Rc::ptr_eq(later.await.unwrap().connection(), &first));
        assert_eq!(came.get(), 1);
    });
}

/// Takes a permit for a request that authenticates its connection.
async fn take_private(scene: &Scene) -> Result<StreamPermit, ConnectError> {
    scene.connections.take(scene.way(Duration::from_secs(5)), &scene.target, None, true).await
}

#[test]
fn a_private_stream_is_the_last_of_its_connection_and_delays_no_other() {
    run(async {
        // The bits select the waiting requests that are private.
        for privates in [0b1, 0b10, 0b1010_1010, 0b0101_0101, 0x3fff_ffff, 0x2000_0000_u32] {
            let (address, _) = server(100, ok).await;
            let scene = Rc::new(Scene::new(address, None));
            let begun = Rc::new(std::cell::RefCell::new(Vec::new()));
            let all = (0..30).map(|number| {
                let (scene, begun) = (Rc::clone(&scene), Rc::clone(&begun));
                let is_private = privates >> number & 1 == 1;
                tokio::task::spawn_local(async move {
                    let place = match is_private {
                        true => take_private(&scene).await,
                        false => scene.take().await,
                    };
                    let place = place.unwrap();
                    begun.borrow_mut().push((Rc::clone(place.connection()), is_private));
                    let mut stream = place.begin::<Frames>(get(), None).unwrap();
                    assert_eq!(answer(&mut stream).await, Ok(StatusCode::OK));
                })
            });
            for answered in all.collect::<Vec<_>>() {
                answered.await.unwrap();
            }
            let begun = begun.borrow();
            assert_eq!(begun.len(), 30);
            for (at, (connection, is_private)) in begun.iter().enumerate() {
                let later = begun[at + 1..].iter().any(|(other, _)| Rc::ptr_eq(connection, other));
                assert!(!(later && *is_private), "{privates:b} {at}");
            }
        }
    });
}

#[test]
fn an_unused_private_permit_leaves_the_connection_to_others() {
    run(async {
        let (address, came) = server(100, ok).await;
        let scene = Scene::new(address, None);
        let place = take_private(&scene).await.unwrap();
        assert!(scene.connections.room(false).is_none());
        drop(place);
        // No private permit is given beside one whose stream may yet begin.
        let ordinary = scene.connections.room(false).unwrap();
        assert!(scene.connections.room(true).is_none());
        let _under_way = ordinary.begin::<Frames>(get(), None).unwrap();
        let private = scene.connections.room(true).unwrap();
        let _private = private.begin::<Frames>(get(), None).unwrap();
        assert!(scene.connections.room(false).is_none());
        assert_eq!(came.get(), 1);
    });
}

#[test]
fn a_request_keeps_its_turn_if_its_connection_stopped_before_the_stream() {
    run(async {
        let (address, came) = server(1, ok).await;
        let scene = Scene::new(address, None);
        let held = scene.take().await.unwrap();
        let connection = Rc::clone(held.connection());
        // The first of them gets the room that becomes free.
        let mut waits: Vec<_> = (0..2).map(|_| Box::pin(scene.take())).collect();
        for wait in &mut waits {
            assert!(is_pending(wait));
        }
        drop(held);
        connection.retire();
        let place = waits.remove(0).await.unwrap();
        assert!(!Rc::ptr_eq(place.connection(), &connection));
        assert!(is_pending(&mut waits[0]));
        drop(place);
        drop(waits.remove(0).await.unwrap());
        assert_eq!(came.get(), 2);
    });
}

#[test]
fn slow_private_streams_are_bounded_and_block_no_ordinary_request() {
    run(async {
        let (address, came) = server(100, ok).await;
        let scene = Scene::new(address, None);
        let mut held = Vec::new();
        for _ in 0..MAX_PRIVATE {
            let place = take_private(&scene).await.unwrap();
            held.push(place.begin::<Frames>(get(), None).unwrap());
        }
        assert_eq!(came.get(), MAX_PRIVATE);
        for _ in 0..2 {
            assert!(matches!(take_private(&scene).await, Err(ConnectError::Full)));
            let mut ordinary = scene.begin(None).await;
            assert_eq!(answer(&mut ordinary).await, Ok(StatusCode::OK));
        }
        drop(held.pop());
        let place = take_private(&scene).await.unwrap();
        held.push(place.begin::<Frames>(get(), None).unwrap());
        assert!(matches!(take_private(&scene).await, Err(ConnectError::Full)));
        drop(scene.take().await.unwrap());
    });
}

#[test]
fn connections_that_take_streams_are_bounded_apart_from_retired_ones() {
    run(async {
        let (address, came) = server(1, ok).await;
        let scene = Scene::new(address, None);
        let mut held = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            held.push(scene.begin(None).await);
        }
        let short = Duration::from_millis(50);
        assert!(matches!(scene.take_within(short).await, Err(ConnectError::Full)));
        held[0].take_no_more();
        held.push(scene.begin(None).await);
        assert!(matches!(scene.take_within(short).await, Err(ConnectError::Full)));
        assert_eq!(came.get(), MAX_CONNECTIONS + 1);
    });
}

#[test]
fn requests_served_at_once_do_not_wait_whatever_their_number() {
    run(async {
        let (address, _) = server(1, ok).await;
        let scene = Scene::new(address, Some(1));
        let place = scene.take().await.unwrap();
        let ticket = place.ticket();
        let elsewhere: Vec<_> = std::iter::from_fn(|| scene.target.wait_for_connection()).collect();
        let again = || {
            let way = scene.way(Duration::from_secs(5));
            scene.connections.take(way, &scene.target, Some(ticket), false)
        };
        assert!(matches!(again().await, Err(ConnectError::Full)));
        drop(place);
        assert!(!elsewhere.is_empty() && again().await.is_ok());
    });
}

#[test]
fn waiting_is_bounded_and_a_target_without_streams_gets_one_connection() {
    run(async {
        let timeout = Duration::from_millis(500);
        for streams in [0, 1] {
            let (address, came) = server(streams, ok).await;
            let scene = Scene::new(address, (streams > 0).then_some(1));
            let _held = if streams > 0 { Some(scene.take().await.unwrap()) } else { None };
            let began = Moment::now().monotonic;
            let waits = [scene.take_within(timeout), scene.take_within(timeout)];
            for wait in waits.map(Box::pin) {
                assert!(matches!(wait.await, Err(ConnectError::Full)));
            }
            // One time-out after the other.
            assert!(began.elapsed() >= 2 * timeout && began.elapsed() < 4 * timeout);
            assert_eq!((came.get(), scene.failures.get()), (1, 0));
        }
    });
}

#[test]
fn a_failed_dial_is_reported_even_if_no_request_waits() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scene = Scene::new(listener.local_addr().unwrap(), None);
        let mut take = Box::pin(scene.take());
        assert!(is_pending(&mut take));
        drop(take);
        drop(listener.accept().await.unwrap());
        while scene.failures.get() == 0 {
            yield_now().await;
        }
        assert_eq!(scene.failures.get(), 1);
    });
}

fn is_pending<F: Future>(future: &mut Pin<Box<F>>) -> bool {
    future.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending()
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    run(async {
        let (address, _) = server(100, |mut request, mut respond| async move {
            let mut way = respond.send_response(Response::new(()), false).unwrap();
            while let Some(data) = request.body_mut().data().await {
                let data = data.unwrap();
                request.body_mut().flow_control().release_capacity(data.len()).unwrap();
                way.send_data(data, false).unwrap();
            }
            let trailers = request.body_mut().trailers().await.unwrap();
            way.send_trailers(trailers.unwrap_or_default()).unwrap();
        })
        .await;
        let scene = Scene::new(address, None);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let large = Bytes::from(vec![7; 3 * STREAM_WINDOW as usize]);
        let frames = [Frame::data(large.clone()), Frame::trailers(trailers.clone())];
        let mut stream = scene.begin(Some(Frames(frames.into()))).await;
        assert_eq!(answer(&mut stream).await, Ok(StatusCode::OK));
        let (data, got) = {
            let both = async {
                let mut data = Vec::new();
                loop {
                    let frame = poll_fn(|cx| {
                        stream.poll_sending(cx);
                        stream.poll_frame(cx)
                    });
                    match frame.await.unwrap().unwrap().into_data() {
                        Ok(piece) => data.extend_from_slice(&piece),
                        Err(frame) => return (data, frame.into_trailers().unwrap()),
                    }
                }
            };
            both.await
        };
        assert!(data == large && got == trailers);
        assert!(stream.is_done() && !stream.is_sending());
    });
}

#[test]
fn dropping_an_exchange_cancels_only_its_own_stream() {
    run(async {
        let reset = Rc::new(Cell::new(None));
        let seen = Rc::clone(&reset);
        let (address, came) = server(100, move |request, mut respond| {
            let seen = Rc::clone(&seen);
            async move {
                if request.uri().path() == "/" {
                    let _ = respond.send_response(Response::new(()), true);
                    return;
                }
                seen.set(Some(poll_fn(|cx| respond.poll_reset(cx)).await.unwrap()));
            }
        })
        .await;
        let scene = Scene::new(address, None);
        let slow = Request::get("http://app.internal/slow").body(()).unwrap();
        let slow = scene.take().await.unwrap().begin::<Frames>(slow, None).unwrap();
        let mut other = scene.begin(None).await;
        assert_eq!(answer(&mut other).await, Ok(StatusCode::OK));
        drop(slow);
        while reset.get().is_none() {
            yield_now().await;
        }
        assert_eq!(reset.get(), Some(Reason::CANCEL));
        assert_eq!(answer(&mut scene.begin(None).await).await, Ok(StatusCode::OK));
        assert_eq!(came.get(), 1);
    });
}

#[test]
fn late_frames_of_a_thousand_cancels_do_not_close_the_connection() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scene = Scene::new(listener.local_addr().unwrap(), None);
        // Sends on each stream that was reset, and answers the first one at the end.
        const CANCELS: u32 = 2_000;
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
            stream.read_exact(&mut [0; 24]).await.unwrap();
            let (mut head, mut left) = ([0; 9], CANCELS);
            while stream.read_exact(&mut head).await.is_ok() {
                let length = usize::from(head[1]) << 8 | usize::from(head[2]);
                stream.read_exact(&mut vec![0; length]).await.unwrap();
                if head[3] == 3 && left > 0 {
                    let late = [b"\0\0\x01\0\0", &head[5..], b"x"].concat();
                    stream.write_all(&late).await.unwrap();
                    left -= 1;
                    if left == 0 {
                        stream.write_all(b"\0\0\x01\x01\x05\0\0\0\x01\x88").await.unwrap();
                    }
                }
            }
        });
        let mut first = scene.begin(None).await;
        for _ in 0..CANCELS {
            drop(scene.begin(None).await);
            yield_now().await;
        }
        assert_eq!(answer(&mut first).await, Ok(StatusCode::OK));
    });
}

const GOAWAY_ABOVE_NOTHING: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
const REFUSED: &[u8] = b"\0\0\x04\x03\0____\0\0\0\x07";
const INTERNAL_ERROR: &[u8] = b"\0\0\x04\x03\0____\0\0\0\x02";
/// `:status: 200` without END_STREAM.
const HEAD_OF_AN_ANSWER: &[u8] = b"\0\0\x01\x01\x04____\x88";

#[test]
fn unprocessed_requests_are_distinguished_from_possibly_processed_ones() {
    for (bytes, closes, expected) in [
        (GOAWAY_ABOVE_NOTHING, false, RequestError::Lost { unsent: true }),
        (REFUSED, false, RequestError::Lost { unsent: true }),
        (INTERNAL_ERROR, false, RequestError::Reset),
        (b"", true, RequestError::Lost { unsent: false }),
        // `:path` in a response.
        (b"\0\0\x01\x01\x05____\x84", false, RequestError::Malformed),
    ] {
        run(async move {
            let (address, _) = raw(bytes, closes).await;
            let mut stream = Scene::new(address, None).begin(None).await;
            assert_eq!(answer(&mut stream).await, Err(expected), "{bytes:?}");
        });
    }
}

#[test]
fn goaway_moves_new_requests_to_a_new_connection_a_refusal_does_not() {
    run(async {
        for (bytes, on_the_same) in [(GOAWAY_ABOVE_NOTHING, false), (REFUSED, true)] {
            let (address, came) = raw(bytes, false).await;
            let scene = Scene::new(address, None);
            let place = scene.take().await.unwrap();
            let first = Rc::clone(place.connection());
            let mut stream = place.begin::<Frames>(get(), None).unwrap();
            assert!(answer(&mut stream).await.is_err());
            let next = scene.take().await.unwrap();
            assert_eq!(Rc::ptr_eq(next.connection(), &first), on_the_same);
            drop(next);
            assert_eq!(came.get(), 1 + usize::from(!on_the_same));
        }
    });
}

#[test]
fn a_response_that_breaks_off_is_never_done() {
    run(async {
        let (address, _) = raw(HEAD_OF_AN_ANSWER, true).await;
        let mut stream = Scene::new(address, None).begin(None).await;
        assert_eq!(answer(&mut stream).await, Ok(StatusCode::OK));
        assert!(body(&mut stream).await.is_err());
        assert!(!stream.is_done());
    });
}

#[test]
fn a_target_of_http1_fails_ten_waiting_requests_with_one_dial() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scene = Rc::new(Scene::new(listener.local_addr().unwrap(), None));
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let all = (0..10).map(|_| {
            let scene = Rc::clone(&scene);
            tokio::task::spawn_local(async move {
                assert_eq!(scene.take().await.unwrap_err().word(), "target_not_http2");
            })
        });
        for told in all.collect::<Vec<_>>() {
            told.await.unwrap();
        }
        assert_eq!(scene.failures.get(), 1);
    });
}

#[test]
fn a_target_that_closes_at_once_is_unreachable_not_wrong_in_protocol() {
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    let leaves = [SETTINGS, GOAWAY_ABOVE_NOTHING].concat();
    for (first, closes, word) in [
        (&b""[..], true, "target_unreachable"),
        (SETTINGS, true, "target_unreachable"),
        (&leaves, false, "target_unreachable"),
        (&leaves, true, "target_unreachable"),
        // SETTINGS on a stream.
        (b"\0\0\0\x04\0\0\0\0\x01", false, "target_not_http2"),
        (b"SSH-2.0-OpenSSH\r\n", true, "target_not_http2"),
    ] {
        let first = first.to_vec();
        run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let scene = Scene::new(listener.local_addr().unwrap(), None);
            let said = first.clone();
            tokio::task::spawn_local(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.read_exact(&mut [0; 24]).await.unwrap();
                stream.write_all(&said).await.unwrap();
                if !closes {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            });
            let place = scene.take().await;
            // The target's first frame may arrive before its end.
            if let Ok(place) = place {
                assert!(first.starts_with(SETTINGS) && word == "target_unreachable");
                let mut stream = place.begin::<Frames>(get(), None).unwrap();
                assert!(matches!(answer(&mut stream).await, Err(RequestError::Lost { .. })));
                return;
            }
            assert_eq!(place.unwrap_err().word(), word, "{first:?} {closes}");
            assert_eq!(scene.failures.get(), 1);
        });
    }
}

#[test]
fn clients_that_read_nothing_block_only_their_own_streams() {
    run(async {
        let sent = Rc::new(Cell::new(0));
        let count = Rc::clone(&sent);
        let (address, came) = server(1_000, move |request, mut respond| {
            let count = Rc::clone(&count);
            async move {
                if request.uri().path() == "/" {
                    return drop(respond.send_response(Response::new(()), true));
                }
                let mut way = respond.send_response(Response::new(()), false).unwrap();
                loop {
                    way.reserve_capacity(16_384);
                    let Some(Ok(room)) = poll_fn(|cx| way.poll_capacity(cx)).await else { return };
                    count.set(count.get() + room);
                    way.send_data(Bytes::from(vec![1; room]), false).unwrap();
                }
            }
        })
        .await;
        let scene = Scene::new(address, None);
        let mut stalled = Vec::new();
        for _ in 0..MAX_STREAMS - 1 {
            let endless = Request::get("http://app.internal/endless").body(()).unwrap();
            let place = scene.take().await.unwrap();
            let mut stream = place.begin::<Frames>(endless, None).unwrap();
            assert_eq!(answer(&mut stream).await, Ok(StatusCode::OK));
            stalled.push(stream);
        }
        let most = (MAX_STREAMS - 1) * STREAM_WINDOW as usize;
        while sent.get() < most {
            yield_now().await;
        }
        assert_eq!(answer(&mut scene.begin(None).await).await, Ok(StatusCode::OK));
        assert_eq!((sent.get(), came.get()), (most, 1));
        // A client that reads some gets more.
        for _ in 0..2 * STREAM_WINDOW / 16_384 {
            poll_fn(|cx| stalled[0].poll_frame(cx)).await.unwrap().unwrap();
        }
    });
}

#[test]
fn stalled_clients_block_no_others_when_targets_send_small_messages() {
    run(async {
        const SMALL: usize = 50;
        let sent = Rc::new(Cell::new(0));
        let count = Rc::clone(&sent);
        let (address, came) = server(1_000, move |request, mut respond| {
            let count = Rc::clone(&count);
            async move {
                if request.uri().path() == "/" {
                    return drop(respond.send_response(Response::new(()), true));
                }
                let mut way = respond.send_response(Response::new(()), false).unwrap();
                loop {
                    way.reserve_capacity(SMALL);
                    let Some(Ok(_)) = poll_fn(|cx| way.poll_capacity(cx)).await else { return };
                    if way.capacity() < SMALL {
                        continue;
                    }
                    count.set(count.get() + SMALL);
                    way.send_data(Bytes::from_static(&[1; SMALL]), false).unwrap();
                }
            }
        })
        .await;
        let scene = Scene::new(address, None);
        let mut stalled = Vec::new();
        for _ in 0..32 {
            let endless = Request::get("http://app.internal/endless").body(()).unwrap();
            let place = scene.take().await.unwrap();
            let mut stream = place.begin::<Frames>(endless, None).unwrap();
            assert_eq!(answer(&mut stream).await, Ok(StatusCode::OK));
            stalled.push(stream);
        }
        let most = stalled.len() * (STREAM_WINDOW as usize / SMALL * SMALL);
        while sent.get() < most {
            yield_now().await;
        }
        assert_eq!(answer(&mut scene.begin(None).await).await, Ok(StatusCode::OK));
        assert_eq!(came.get(), 1);
        for stream in &mut stalled {
            assert!(poll_fn(|cx| stream.poll_frame(cx)).await.unwrap().is_ok());
        }
    });
}

#[test]
fn endless_interim_heads_are_an_error() {
    // `:status: 103` and a field of 16,000 bytes, more than a megabyte in total.
    let mut interim = b"\x08\x03103\x00\x01x\x7f\x81\x7c".to_vec();
    interim.extend([b'y'; 16_000]);
    let length = interim.len();
    let mut frame = vec![(length >> 16) as u8, (length >> 8) as u8, length as u8, 1, 4];
    frame.extend_from_slice(b"____");
    frame.extend(interim);
    let flood: &'static [u8] = frame.repeat(70).leak();
    run(async move {
        let (address, _) = raw(flood, false).await;
        let mut stream = Scene::new(address, None).begin(None).await;
        assert_eq!(answer(&mut stream).await, Err(RequestError::Malformed));
    });
}

#[test]
fn an_interim_head_is_passed_on_if_polled() {
    // `:status: 103` and a field; `:status: 200`, another field and the end.
    let frames = |ends: u8, block: &[u8]| {
        [&[0, 0, block.len() as u8, 1, ends, 0, 0, 0, 1][..], block].concat()
    };
    let interim = frames(4, b"\x08\x03103\x00\x04link\x04</a>");
    let last = frames(5, b"\x88\x00\x06server\x01x");
    let answers: &'static [u8] = [interim, last].concat().leak();
    for asks in [true, false] {
        run(async move {
            let (address, _) = raw(answers, false).await;
            let mut stream = Scene::new(address, None).begin(None).await;
            let (mut head, mut hints) = (Head::default(), 0);
            let answered = poll_fn(|cx| {
                while asks && stream.poll_interim(cx, &mut head)? == Poll::Ready(()) {
                    assert_eq!(head.status, StatusCode::EARLY_HINTS);
                    assert_eq!(head.fields.get_named("link"), Some(&b"</a>"[..]));
                    hints += 1;
                }
                stream.poll_answer(cx, &mut head)
            });
            assert_eq!(answered.await, Ok(()));
            assert_eq!(hints, i32::from(asks));
            assert_eq!(head.status, StatusCode::OK);
            assert_eq!(head.fields.get_named("server"), Some(&b"x"[..]));
            assert!(head.fields.get_named("link").is_none());
        });
    }
}

#[test]
fn idle_connections_close_and_dead_ones_end_their_streams() {
    run(async {
        let (address, came) = raw(b"", false).await;
        let scene = Scene::new(address, None);
        let began = Moment::now().monotonic;
        let sweep = |second| {
            scene.connections.sweep(began + Duration::from_secs(second), &scene.target);
        };
        let mut stream = scene.begin(None).await;
        // This server answers no PING.
        for second in 1..=45 {
            sweep(second);
            yield_now().await;
        }
        assert_eq!(answer(&mut stream).await, Err(RequestError::Lost { unsent: false }));
        drop(stream);
        drop(scene.take().await.unwrap());
        assert_eq!(came.get(), 2);
        // A connection that died while it had no streams is found sooner.
        for second in 46..=60 {
            sweep(second);
        }
        let mut stream = scene.begin(None).await;
        for second in 61..=71 {
            sweep(second);
            yield_now().await;
        }
        assert_eq!(answer(&mut stream).await, Err(RequestError::Lost { unsent: false }));
        drop(stream);
        drop(scene.take().await.unwrap());
        assert_eq!(came.get(), 3);
        for second in [100, 130, 159] {
            sweep(second);
        }
        drop(scene.take().await.unwrap());
        assert_eq!(came.get(), 3);
        for second in [200, 260] {
            sweep(second);
        }
        drop(scene.take().await.unwrap());
        assert_eq!(came.get(), 4);
    });
}
