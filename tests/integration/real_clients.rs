//! Clients that others wrote, against one shop: two replicas behind a listener in clear text and one
//! over TLS.

use crate::support::origin::{Origin, Then};
use crate::support::{Authority, World};
use std::io::Write;
use std::net::SocketAddr;

/// Chromium: a page, its fetches and its WebSockets.
mod chromium;
/// curl in every version of HTTP it can be told to speak.
mod curl;
/// Python's `grpcio` at both ends.
mod grpc;
/// h2load: thousands of requests, none of which fails.
mod h2load;
/// Python's `h2`: streams, crumbs of cookies, trailers, resets, the end of a connection.
mod http2;
/// `openssl s_client`: names, protocols by ALPN, sessions, and plain HTTP where TLS is spoken.
mod openssl;
/// Chromium and curl, led from https to http and back, and Python with a clock that is wrong.
mod schemes;
/// Python's `websockets` at both ends.
mod websockets;

/// The name its certificate is for.
const NAME: &str = "shop.example";

/// The shop. Its certificate is one file of the authority's.
struct Shop {
    authority: Authority,
    origins: [Origin; 2],
    world: World,
}

impl Shop {
    fn open() -> Self {
        Self::with("", "")
    }

    /// With these settings of both listeners, and these of the group.
    fn with(listener: &str, group: &str) -> Self {
        let origins = [replica("a"), replica("b")];
        let addresses = [origins[0].address(), origins[1].address()];
        let (authority, world) = before(&addresses, listener, group);
        Self { authority, origins, world }
    }

    fn plain(&self) -> SocketAddr {
        listener(&self.world, "plain")
    }

    fn secure(&self) -> SocketAddr {
        listener(&self.world, "secure")
    }

    /// How many requests each replica has had.
    fn heard(&self) -> [usize; 2] {
        [self.origins[0].heard().len(), self.origins[1].heard().len()]
    }
}

/// A balancer with listeners `plain` and `secure` before these replicas, and who signed for it.
fn before(replicas: &[SocketAddr], listener: &str, group: &str) -> (Authority, World) {
    let authority = Authority::new();
    let entry = authority.sign("shop", &[NAME, "localhost"]).entry();
    let world = World::of_text(&text(replicas, &entry, listener, group));
    (authority, world)
}

/// Its file.
fn text(replicas: &[SocketAddr], entry: &str, listener: &str, group: &str) -> String {
    let target = |(id, address)| format!("{{ id = \"{id}\", address = \"{address}\" }}");
    let targets = ('a'..).zip(replicas).map(target).collect::<Vec<_>>().join(", ");
    format!(
        "[runtime]\nworkers = 2\nstate_dir = \"state\"\ndrain_timeout = \"2s\"\n\
         [log]\naccess = {{ to = \"access.log\" }}\n\
         [listener.plain]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n{listener}\n\
         [listener.secure]\naddress = \"127.0.0.1:0\"\ndebug_headers = true\n{listener}\n\
         tls = {{ certificates = [{entry}] }}\n\
         [target_group.app]\ntargets = [{targets}]\n{group}\n"
    )
}

fn listener(world: &World, name: &str) -> SocketAddr {
    let mut all = world.server().addresses().iter();
    all.find(|(known, _)| known.as_str() == name).unwrap().1
}

/// Answers with its name, or with the body it was sent.
fn replica(name: &'static str) -> Origin {
    Origin::scripted(move |request, stream| {
        let body = if request.body.is_empty() { name.as_bytes() } else { &request.body };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        // In one piece: the second of two would wait for the first to be acknowledged.
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        Then::KeepAlive
    })
}
