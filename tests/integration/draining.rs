use crate::support::origin::Then;
use crate::support::{Origin, Visitor, World, until};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn gated() -> (Origin, Arc<Mutex<()>>) {
    let gate = Arc::new(Mutex::new(()));
    let held = gate.clone();
    let origin = Origin::scripted(move |request, stream| {
        if request.path() == "/slow" {
            drop(held.lock().unwrap());
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        Then::KeepAlive
    });
    (origin, gate)
}

#[test]
fn what_is_in_flight_finishes_and_its_answer_ends_the_connection() {
    let (origin, gate) = gated();
    let mut world = World::new(&[&origin], "", "");
    let mut visitor = Visitor::of(world.address());
    let closed = gate.lock().unwrap();
    visitor.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is under way", || origin.heard().first().cloned());
    let address = world.address();
    let drained = std::thread::spawn(move || (world.drain(), world));
    until("nothing more is accepted", || {
        std::net::TcpStream::connect(address).is_err().then_some(())
    });
    drop(closed);
    let answer = visitor.read_answer(false);
    assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
    assert_eq!(answer.field("connection"), Some("close"));
    let (cut, _world) = drained.join().unwrap();
    assert_eq!(cut, 0);
}

#[test]
fn what_does_not_finish_in_time_is_cut_and_counted() {
    let (origin, gate) = gated();
    let text = format!(
        "[runtime]\nworkers = 2\nstate_dir = \"state\"\ndrain_timeout = \"300ms\"\n\
         [log]\naccess = {{ to = \"access.log\" }}\n[listener.web]\naddress = \"127.0.0.1:0\"\n\
         [target_group.app]\ntargets = [\"{}\"]\n",
        origin.address()
    );
    let mut world = World::of_text(&text);
    let mut visitor = Visitor::of(world.address());
    let closed = gate.lock().unwrap();
    visitor.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is under way", || origin.heard().first().cloned());
    assert_eq!(world.drain(), 1);
    assert!(visitor.sees_close());
    drop(closed);
}

#[test]
fn idle_connections_close_within_their_grace() {
    let (origin, _gate) = gated();
    let mut world = World::new(&[&origin], "", "");
    let mut visitors: Vec<_> = (0..5).map(|_| Visitor::of(world.address())).collect();
    visitors.iter_mut().for_each(|visitor| assert_eq!(visitor.get("/").status, 200));
    let begun = Instant::now();
    assert_eq!(world.drain(), 0);
    assert!(begun.elapsed() < Duration::from_secs(5), "the drain waited for its deadline");
    assert!(visitors.iter_mut().all(Visitor::sees_close));
}
