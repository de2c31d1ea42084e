//! Checks over HTTP/2: the same request as over HTTP/1.1, or a gRPC call ("gRPC over HTTP2").

use super::{AGENT, MAX_BODY, Probe, ProbeResult, failed, host, judge};
use crate::config::settings::{GRPC_HEALTH_PATH, Health};
use crate::net::http2::MAX_HEADER_LIST;
use crate::policy::health::drain_request::DrainRequest;
use crate::policy::health::progress::Failure;
use bytes::{Buf, Bytes};
use h2::RecvStream;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

/// A gRPC message without fields: not compressed, no bytes. For gRPC's health check it means the
/// whole server.
const EMPTY_MESSAGE: &[u8] = &[0; 5];
/// `grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING`
const SERVING: u64 = 1;

pub(super) async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    probe: &Probe,
) -> Result<ProbeResult, Failure> {
    let mut request = request(probe)?;
    if probe.health.body.is_none() {
        let accepted = HeaderValue::from_static("gzip, compressed");
        request.headers_mut().insert(ACCEPT_ENCODING, accepted);
    }
    let (response, _driven) = exchange(stream, request, None).await?;
    Ok(judge(response, &probe.health).await)
}

pub(super) async fn call(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    probe: &Probe,
) -> Result<ProbeResult, Failure> {
    let mut request = request(probe)?;
    *request.method_mut() = http::Method::POST;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let message = Bytes::from_static(EMPTY_MESSAGE);
    let (response, _driven) = exchange(stream, request, Some(message)).await?;
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        let got = head.status.as_u16();
        return Err(failed(&format_args!(
            "the target answered the gRPC call with HTTP status {got}"
        )));
    }
    let (message, trailers) = read(body).await?;
    let drain_request = DrainRequest::of(head.status, &head.headers, false);
    let judgement = judge_call(&probe.health, &head.headers, &trailers, &message);
    Ok(ProbeResult { judgement, drain_request })
}

fn judge_call(
    health: &Health,
    head: &HeaderMap,
    trailers: &HeaderMap,
    message: &[u8],
) -> Result<(), Failure> {
    // A response without a message may have its status in the head (Trailers-Only).
    let code = trailers.get(GRPC_STATUS).or_else(|| head.get(GRPC_STATUS));
    let code = code.and_then(|code| code.to_str().ok()?.parse().ok());
    let Some(got) = code else { return Err(failed(&"the response has no grpc-status")) };
    if !health.matcher.accepts(got) {
        return Err(Failure::ResponseCodeMismatch { got });
    }
    let is_asked = health.path == GRPC_HEALTH_PATH && got == 0;
    match serving_status(message) {
        status if is_asked && status != Some(SERVING) => {
            Err(failed(&"the gRPC health status is not SERVING"))
        }
        _ => Ok(()),
    }
}

const GRPC_STATUS: &str = "grpc-status";

/// The status in a `HealthCheckResponse`, its only field; if absent it is `UNKNOWN`.
fn serving_status(message: &[u8]) -> Option<u64> {
    let (prefix, fields) = message.split_at_checked(EMPTY_MESSAGE.len())?;
    if prefix[0] != 0 {
        // Compressed, although no compression was offered.
        return None;
    }
    match fields {
        [] => Some(0),
        // Field 1 as a varint of one byte, which is enough for every status.
        [0x08, status] if status & 0x80 == 0 => Some(u64::from(*status)),
        _ => None,
    }
}

fn request(probe: &Probe) -> Result<Request<()>, Failure> {
    let scheme = if probe.tls.is_some() { "https" } else { "http" };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(host(probe.address))
        .path_and_query(probe.health.path.as_str())
        .build()
        .map_err(|error| failed(&error))?;
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    request.headers_mut().insert(USER_AGENT, AGENT);
    Ok(request)
}

/// Task that drives a connection; aborted when dropped.
struct Driven(AbortHandle);

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    request: Request<()>,
    message: Option<Bytes>,
) -> Result<(Response<Answered>, Driven), Failure> {
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(MAX_HEADER_LIST);
    let (mut sender, connection) =
        builder.handshake(stream).await.map_err(|error| failed(&error))?;
    let driven = Driven(tokio::task::spawn_local(connection).abort_handle());
    let asked = sender.send_request(request, message.is_none());
    let (response, mut way) = asked.map_err(|error| failed(&error))?;
    if let Some(message) = message {
        way.send_data(message, true).map_err(|error| failed(&error))?;
    }
    let response = response.await.map_err(|error| failed(&error))?;
    // Held until the response came, because the connection would end without it.
    drop(sender);
    Ok((response.map(Answered), driven))
}

/// Body of a response.
struct Answered(RecvStream);

impl Body for Answered {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.0.poll_data(cx)) {
            let data = data?;
            self.0.flow_control().release_capacity(data.len())?;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(self.0.poll_trailers(cx))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

/// Reads the first bytes of a body and its trailers. A longer body fails the check.
async fn read(mut body: Answered) -> Result<(Vec<u8>, HeaderMap), Failure> {
    let mut message = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| failed(&error))?.into_data() {
            Ok(data) if message.len() + data.remaining() > MAX_BODY => {
                return Err(failed(&"the response is longer than 64 KiB"));
            }
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => {
                let trailers = frame.into_trailers();
                return Ok((message, trailers.unwrap_or_default()));
            }
        }
    }
    Ok((message, HeaderMap::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[track_caller]
    fn check(health: &str, head: &str, trailers: &str, message: &[u8], passes: bool) {
        let text = format!(
            "[listener.web]\naddress = \"127.0.0.1:0\"\n[target_group.app]\nprotocol = \"grpc\"\n\
             targets = [\"127.0.0.1:1\"]\nhealth = {{ {health} }}\n"
        );
        let config = config::parse(&text, "test.toml", "/".as_ref()).unwrap().config;
        let fields = |code: &str| {
            let code = Some(code).filter(|code| !code.is_empty());
            code.map(|code| (GRPC_STATUS.parse().unwrap(), code.parse().unwrap()))
                .into_iter()
                .collect::<HeaderMap>()
        };
        let judged =
            judge_call(&config.groups[0].health, &fields(head), &fields(trailers), message);
        assert_eq!(judged.is_ok(), passes, "{health}: {head} {trailers} {message:?}: {judged:?}");
    }

    #[test]
    fn a_call_passes_by_its_status_in_the_head_or_in_the_trailers() {
        check("", "12", "", b"", true);
        check("", "", "12", b"", true);
        check("", "", "0", b"\0\0\0\0\0", false);
        check("", "", "", b"", false);
        check("", "OK", "", b"", false);
        check("matcher = \"0-99\"", "", "7", b"", true);
    }

    #[test]
    fn the_health_service_must_report_serving() {
        let health = format!("path = \"{GRPC_HEALTH_PATH}\"");
        check(&health, "", "0", b"\0\0\0\0\x02\x08\x01", true);
        for bad in [&b"\0\0\0\0\x02\x08\x02"[..], b"\0\0\0\0\0", b"", b"\x01\0\0\0\x02\x08\x01"] {
            check(&health, "", "0", bad, false);
        }
        check(&health, "", "12", b"", false);
    }
}
