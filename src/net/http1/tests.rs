use super::*;
use crate::http1::name::Name;
use http_body_util::Empty;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::Waker;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// A body that can grow: the frames so far, and true if it has ended.
#[derive(Clone, Debug, Default)]
struct Coming(Rc<RefCell<(Vec<Frame<Bytes>>, bool)>>);

impl Coming {
    fn push(&self, piece: &'static str) {
        self.0.borrow_mut().0.push(Frame::data(piece.into()));
    }

    fn push_trailers(&self, fields: &[(&'static str, &'static str)]) {
        let field = |&(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        };
        let trailers = fields.iter().map(field).collect();
        self.0.borrow_mut().0.push(Frame::trailers(trailers));
    }

    fn end(&self) {
        self.0.borrow_mut().1 = true;
    }
}

impl Body for Coming {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (frames, has_ended) = &mut *self.0.borrow_mut();
        match (frames.is_empty(), *has_ended) {
            (false, _) => Poll::Ready(Some(Ok(frames.remove(0)))),
            (true, true) => Poll::Ready(None),
            (true, false) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        let (frames, has_ended) = &*self.0.borrow();
        frames.is_empty() && *has_ended
    }
}

/// A connection, its target and one exchange.
struct Scene<B> {
    connection: Connection<B>,
    target: TcpStream,
    waiting: Waiting,
    response: Response,
    scratch: Vec<u8>,
    method: Method,
    head: &'static [u8],
}

impl<B: Body<Data = Bytes> + Unpin> Scene<B> {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (target, _) = listener.accept().await.unwrap();
        target.set_nodelay(true).unwrap();
        Self {
            connection: Connection::new(TargetStream::Plain(connected), None),
            target,
            waiting: Waiting::default(),
            response: Response::default(),
            scratch: vec![0; 4_096],
            method: Method::GET,
            head: GET,
        }
    }

    fn begin(&mut self, outbound: Option<Outbound<B>>) {
        self.connection.begin(outbound);
        self.waiting = Waiting::default();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answered, RequestError>> {
        let Self { connection, waiting, response, scratch, method, head, .. } = self;
        let request = Request { method, head };
        connection.poll_answer(cx, request, waiting, scratch, response)
    }

    /// Polls once, without a waker.
    fn look(&mut self) -> Poll<Result<Answered, RequestError>> {
        self.poll(&mut Context::from_waker(Waker::noop()))
    }

    async fn answered(&mut self) -> Result<Answered, RequestError> {
        poll_fn(|cx| self.poll(cx)).await
    }

    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.target.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads at the target until exactly this text has arrived.
    async fn takes(&mut self, expected: &str) {
        let mut bytes = vec![0; expected.len()];
        self.target.read_exact(&mut bytes).await.unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    /// Waits until the runtime knows of the target's output.
    async fn readable(&self) {
        let TargetStream::Plain(stream) = &self.connection.stream else { return };
        stream.readable().await.unwrap();
    }

    async fn body(&mut self) -> Result<Vec<u8>, BodyError> {
        let mut body = Vec::new();
        while let Some(frame) = poll_fn(|cx| self.connection.poll_frame(cx)).await {
            body.extend(frame?.into_data().unwrap_or_default());
        }
        Ok(body)
    }
}

fn run(scene: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(scene);
}

#[test]
fn a_head_and_a_small_body_arrive_with_one_read() {
    run(async {
        let mut scene: Scene<Empty<Bytes>> = Scene::new().await;
        scene.begin(None);
        assert!(scene.look().is_pending());
        scene.takes(std::str::from_utf8(GET).unwrap()).await;
        scene.write("HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 5\r\n\r\nhello").await;
        assert_eq!(scene.answered().await, Ok(Answered::Final));
        assert_eq!(scene.response.fields.get(Name::Server), Some(&b"x"[..]));
        // The frame is available already.
        let frame = scene.connection.poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Some(Ok(frame))) = frame else { panic!("it has to be read for") };
        assert_eq!(frame.into_data().unwrap(), "hello");
        assert!(scene.connection.is_done() && scene.connection.become_idle());
        assert!(!scene.connection.had_body());
    });
}

/// Responses to a GET, each with the expected body.
const ANSWERS: [(&str, &str); 4] = [
    ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-a: b\r\n\r\nhello", "hello"),
    (
        "HTTP/1.1 200 Fine\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\nx: y\r\n\r\n",
        "hello",
    ),
    ("HTTP/1.1 204 No Content\r\n\r\n", ""),
    (
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",
        "ab",
    ),
];

#[test]
fn a_response_does_not_depend_on_where_it_is_cut() {
    run(async {
        let mut scene: Scene<Empty<Bytes>> = Scene::new().await;
        for (text, body) in ANSWERS {
            for cut in 1..=text.len() {
                let (first, second) = text.as_bytes().split_at(cut);
                scene.begin(None);
                assert!(scene.look().is_pending());
                scene.write(first).await;
                scene.readable().await;
                let mut interim = Vec::new();
                let mut told = loop {
                    match scene.look() {
                        Poll::Ready(Ok(Answered::Interim)) => {
                            interim.push(scene.response.status.as_u16());
                        }
                        told => break told,
                    }
                };
                scene.write(second).await;
                while told != Poll::Ready(Ok(Answered::Final)) {
                    told = Poll::Ready(scene.answered().await);
                    assert!(matches!(told, Poll::Ready(Ok(_))), "{text:?} cut at {cut}");
                    if told == Poll::Ready(Ok(Answered::Interim)) {
                        interim.push(scene.response.status.as_u16());
                    }
                }
                let expected: &[u16] = if text.contains(" 103 ") { &[100, 103] } else { &[] };
                assert_eq!(interim, expected, "{text:?} cut at {cut}");
                assert_eq!(scene.body().await.unwrap(), body.as_bytes(), "{text:?} cut at {cut}");
                assert!(scene.connection.become_idle(), "{text:?} cut at {cut}");
                // The target reads and ignores the requests.
                scene.takes(std::str::from_utf8(GET).unwrap()).await;
            }
        }
    });
}

#[test]
fn interim_heads_arrive_with_their_fields_up_to_a_bound() {
    run(async {
        let mut scene: Scene<Empty<Bytes>> = Scene::new().await;
        scene.begin(None);
        scene.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 20").await;
        assert_eq!(scene.answered().await, Ok(Answered::Interim));
        assert_eq!(scene.response.status, StatusCode::EARLY_HINTS);
        assert_eq!(scene.response.fields.get_named("link"), Some(&b"</a>"[..]));
        scene.write("0 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(scene.answered().await, Ok(Answered::Final));
        assert!(scene.response.fields.get_named("link").is_none());
        assert!(scene.connection.become_idle());

        scene.begin(None);
        let interim = format!("HTTP/1.1 103 Early Hints\r\nx: {}\r\n\r\n", "y".repeat(16_000));
        let mut count = 0;
        let error = loop {
            scene.write(&interim).await;
            match scene.answered().await {
                Ok(answered) => assert_eq!(answered, Answered::Interim),
                Err(error) => break error,
            }
            count += 1;
        };
        assert_eq!((error, count), (RequestError::Malformed, MAX_INTERIM / interim.len()));
    });
}

#[test]
fn a_protocol_switch_is_final_and_the_rest_belongs_to_the_tunnel() {
    run(async {
        let mut scene: Scene<Empty<Bytes>> = Scene::new().await;
        scene.begin(None);
        scene.write("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nfirst").await;
        assert_eq!(scene.answered().await, Ok(Answered::Final));
        assert!(!scene.connection.keep_alive);
        assert_eq!(scene.connection.into_tunnel().1, "first");
    });
}

#[test]
fn a_missing_response_has_its_cause() {
    for (text, expected) in [
        ("", RequestError::Lost { unsent: false }),
        ("HTTP/1.1 200 O", RequestError::Malformed),
        ("HTTP/1.1 100 Continue\r\n\r\n", RequestError::Malformed),
        ("SSH-2.0-OpenSSH_9.2\r\n", RequestError::Malformed),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            RequestError::Malformed,
        ),
    ] {
        run(async {
            let mut scene: Scene<Empty<Bytes>> = Scene::new().await;
            scene.begin(None);
            assert!(scene.look().is_pending());
            scene.takes(std::str::from_utf8(GET).unwrap()).await;
            scene.write(text).await;
            scene.target.shutdown().await.unwrap();
            let mut answered = scene.answered().await;
            while answered == Ok(Answered::Interim) {
                answered = scene.answered().await;
            }
            assert_eq!(answered, Err(expected), "{text:?}");
        });
    }
}

#[test]
fn a_body_that_breaks_off_or_is_too_long_closes_the_connection() {
    for (text, body, rests) in [
        ("content-length: 2\r\n\r\nab", Ok("ab"), true),
        ("content-length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n", Ok("ab"), false),
        ("content-length: 2\r\nconnection: close\r\n\r\nab", Ok("ab"), false),
        ("\r\nab", Ok("ab"), false),
        ("content-length: 3\r\n\r\nab", Err(BodyError), false),
        ("transfer-encoding: chunked\r\n\r\n2\r\nab\r\n", Err(BodyError), false),
        ("transfer-encoding: chunked\r\n\r\n2\r\nabc", Err(BodyError), false),
    ] {
        run(async {
            let mut scene: Scene<Empty<Bytes>> = Scene::new().await;
            scene.begin(None);
            scene.write(format!("HTTP/1.1 200 OK\r\n{text}")).await;
            scene.target.shutdown().await.unwrap();
            assert_eq!(scene.answered().await, Ok(Answered::Final));
            let got = scene.body().await;
            assert_eq!(got, body.map(|text| text.as_bytes().to_vec()), "{text:?}");
            assert_eq!(scene.connection.become_idle(), rests, "{text:?}");
        });
    }
}

#[test]
fn trailers_are_passed_on_announced_or_not() {
    run(async {
        let mut scene = Scene::new().await;
        scene.head = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let body = Coming::default();
        body.push("0123456789abcdef");
        body.push("g");
        body.push_trailers(&[("x-sum", "9"), ("x-other", "")]);
        scene.begin(Some(Outbound { body, chunked: true }));
        assert!(scene.look().is_pending());
        scene
            .takes(
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
                 10\r\n0123456789abcdef\r\n1\r\ng\r\n0\r\nx-sum: 9\r\nx-other: \r\n\r\n",
            )
            .await;
        scene.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(scene.answered().await, Ok(Answered::Final));
        assert!(scene.connection.become_idle() && scene.connection.had_body());
    });
}

const POST: &[u8] = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n";

#[test]
fn an_early_response_is_the_last_of_its_connection() {
    // The last piece is there before the response is read, at the same time, or later.
    for (before, with) in [(true, false), (false, true), (false, false)] {
        run(async {
            let mut scene = Scene::new().await;
            scene.head = POST;
            let body = Coming::default();
            body.push("ab");
            scene.begin(Some(Outbound { body: body.clone(), chunked: false }));
            assert!(scene.look().is_pending());
            scene.takes("POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nab").await;
            if before {
                body.push("cd");
                body.end();
                assert!(scene.look().is_pending());
                scene.takes("cd").await;
            }
            scene.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            scene.readable().await;
            if with {
                body.push("cd");
                body.end();
            }
            assert_eq!(scene.look(), Poll::Ready(Ok(Answered::Final)));
            assert_eq!(scene.connection.is_sending(), !before);
            if !before {
                body.push("cd");
                body.end();
                // The target gets the rest of the request.
                poll_fn(|cx| {
                    scene.connection.poll_sending(cx);
                    if scene.connection.is_sending() { Poll::Pending } else { Poll::Ready(()) }
                })
                .await;
                scene.takes("cd").await;
            }
            assert!(scene.connection.is_done());
            assert_eq!(scene.connection.become_idle(), before, "{before} {with}");
        });
    }
}

#[test]
fn a_body_counts_as_long_until_the_connection_was_quiet() {
    static LONG: LazyLock<String> = LazyLock::new(|| "a".repeat(70 * 1_024));
    for (text, is_long) in [("a", false), (LONG.as_str(), true)] {
        run(async {
            let mut scene = Scene::new().await;
            scene.head = POST;
            let body = Coming::default();
            scene.begin(Some(Outbound { body: body.clone(), chunked: false }));
            body.push(text);
            body.end();
            while scene.look().is_pending() && scene.connection.is_sending() {
                tokio::task::yield_now().await;
            }
            assert_eq!(scene.connection.end(), is_long);
            scene.begin(None);
            assert_eq!(scene.connection.end(), is_long, "a request without a body changes nothing");
            scene.connection.record_reusable();
            scene.begin(None);
            assert!(!scene.connection.end());
        });
    }
}

#[test]
fn an_early_response_is_seen_before_the_runtime_reports_it() {
    for answers in [true, false] {
        run(async {
            let mut scene = Scene::new().await;
            scene.head = POST;
            let body = Coming::default();
            scene.begin(Some(Outbound { body: body.clone(), chunked: false }));
            assert!(scene.look().is_pending());
            scene.takes(std::str::from_utf8(POST).unwrap()).await;
            assert!(scene.look().is_pending());
            // This task does not wait from here to the last byte, so the runtime gets no turn.
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            if answers {
                assert_eq!(scene.target.try_write(answer).unwrap(), answer.len());
            }
            body.push("abcd");
            body.end();
            let _ = scene.look();
            assert!(!scene.connection.is_sending());
            if !answers {
                scene.write(answer).await;
            }
            assert_eq!(scene.answered().await, Ok(Answered::Final));
            assert_eq!(scene.connection.become_idle(), !answers);
        });
    }
}

#[test]
fn an_interim_head_may_arrive_while_the_request_is_sent() {
    run(async {
        let mut scene = Scene::new().await;
        scene.head = POST;
        let body = Coming::default();
        scene.begin(Some(Outbound { body: body.clone(), chunked: false }));
        assert!(scene.look().is_pending());
        scene.takes(std::str::from_utf8(POST).unwrap()).await;
        scene.write("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(scene.answered().await, Ok(Answered::Interim));
        body.push("abcd");
        body.end();
        assert!(scene.look().is_pending());
        scene.takes("abcd").await;
        scene.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(scene.answered().await, Ok(Answered::Final));
        assert!(scene.connection.become_idle());
    });
}

#[test]
fn unasked_output_is_seen_before_the_runtime_reports_it() {
    run(async {
        let mut scene: Scene<Empty<Bytes>> = Scene::new().await;
        assert!(scene.connection.is_reusable() && scene.connection.is_quiet_by_now());
        // After one poll without input, the runtime does not check again until an event arrives.
        let target = scene.target.into_std().unwrap();
        let word = std::io::Write::write(&mut &target, b"x");
        assert_eq!(word.unwrap(), 1);
        assert!(scene.connection.is_reusable());
        assert!(!scene.connection.is_quiet_by_now());
    });
}
