//! Real clients against one shop: two replicas behind a listener in clear text and one over TLS.

use crate::support::origin::{Origin, Then};
use crate::support::{Authority, World};
use std::io::Write;
use std::net::SocketAddr;

mod chromium;
mod curl;
mod grpc;
mod h2load;
mod http2;
mod openssl;
mod schemes;
mod websockets;

/// The name in the certificate.
const NAME: &str = "shop.example";

/// The shop, with a certificate of the authority.
struct Shop {
    authority: Authority,
    origins: [Origin; 2],
    world: World,
}

impl Shop {
    fn open() -> Self {
        Self::with("", "")
    }

    /// A shop with these settings of both listeners and of the group.
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

    /// Number of requests that each replica has had.
    fn heard(&self) -> [usize; 2] {
        [self.origins[0].heard().len(), self.origins[1].heard().len()]
    }
}

/// A balancer with listeners `plain` and `secure` before these replicas, and the authority of its
/// certificate.
fn before(replicas: &[SocketAddr], listener: &str, group: &str) -> (Authority, World) {
    let authority = Authority::new();
    let entry = authority.sign("shop", &[NAME, "localhost"]).entry();
    let world = World::of_text(&text(replicas, &entry, listener, group));
    (authority, world)
}

/// The configuration of the shop.
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

/// Responds with its name, or with the request's body.
fn replica(name: &'static str) -> Origin {
    Origin::scripted(move |request, stream| {
        let body = if request.body.is_empty() { name.as_bytes() } else { &request.body };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        // In one write: a second write would wait for the first to be acknowledged.
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        Then::KeepAlive
    })
}
