//! The load generator over TLS: one thread, one runtime, a task for each client. The origin uses
//! the same runtime.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use stayput::testing::base::clock::Moment;

use crate::client::{Answer, Client};
use crate::load::{Load, STALL};
use crate::measure::{Handshakes, Run};
use crate::origin::Lent;
use crate::process::Reading;
use crate::scenario::{Length, Protocol, Reuse};

impl Load<'_> {
    /// As `run`. Warm-up begins when each client has had a response: all connections are open then,
    /// and resuming clients have a ticket.
    pub(crate) fn run_over_tls(
        &self,
        length: &Length,
        origin: Lent<'_>,
        read: impl Fn() -> Reading,
    ) -> io::Result<Run> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let tasks = LocalSet::new();
        let count = Rc::new(Count::default());
        let clients = self.scenario.connections;
        for (_, visitor) in (0..clients).zip(self.visitors.iter().cycle()) {
            let client = Client::new(self.address, self.scenario, visitor)?;
            let visits = Visits { client, count: Rc::clone(&count), begun: Cell::new(false) };
            tasks.spawn_local(visits.go_on(self.scenario.protocol, self.scenario.reuse));
        }
        let measured = async {
            if timeout(STALL, count.reaches(clients)).await.is_err() {
                let fault = count.fault.take();
                return Err(fault
                    .unwrap_or_else(|| io::Error::new(ErrorKind::TimedOut, "no answer for 5 s")));
            }
            sleep(length.warm).await;
            count.run.replace(Some(Run::with_room_for(length.measured)));
            let before = read();
            let from = now();
            sleep(length.measured).await;
            let mut run = count.run.take().ok_or(ErrorKind::Other)?;
            run.elapsed = now() - from;
            run.used = read().since(before);
            if let Some(fault) = count.fault.take() {
                eprintln!("\n{} wrong, the last of them: {fault}", run.errors);
            }
            Ok(run)
        };
        tasks.block_on(&runtime, async {
            tokio::select! {
                run = measured => run,
                failed = serve(origin) => failed.and(Err(ErrorKind::Other.into())),
            }
        })
    }
}

/// State shared by all clients.
#[derive(Default)]
struct Count {
    /// `None` while nothing is measured.
    run: RefCell<Option<Run>>,
    /// Number of clients that have had a response.
    begun: Cell<usize>,
    /// The last error.
    fault: Cell<Option<io::Error>>,
}

/// State of one client.
struct Visits {
    client: Client,
    count: Rc<Count>,
    begun: Cell<bool>,
}

/// Pause after an error, so that a balancer that refuses all clients does not occupy the thread.
const PAUSE: Duration = Duration::from_millis(1);

impl Visits {
    /// Sends requests until dropped.
    async fn go_on(self, protocol: Protocol, reuse: Reuse) {
        let visits = Rc::new(self);
        loop {
            let done = match (protocol, reuse) {
                (Protocol::Http2(streams), _) => Rc::clone(&visits).by_streams(streams).await,
                (_, Reuse::Kept) => visits.on_one_connection().await,
                (_, Reuse::Fresh | Reuse::Resumed) => visits.once().await,
            };
            if let Err(error) = done {
                visits.count.fail(error);
                sleep(PAUSE).await;
            }
        }
    }

    async fn on_one_connection(&self) -> io::Result<()> {
        let (mut kept, handshake) = self.client.open(None).await?;
        self.count.add(handshake);
        loop {
            let due = now();
            let answer = self.client.ask(&mut kept).await?;
            self.record(due, &answer);
        }
    }

    async fn once(&self) -> io::Result<()> {
        let due = now();
        let (mut kept, handshake) = self.client.open(None).await?;
        self.count.add(handshake);
        let answer = self.client.ask(&mut kept).await?;
        self.record(due, &answer);
        kept.close().await;
        Ok(())
    }

    async fn by_streams(self: Rc<Self>, streams: usize) -> io::Result<()> {
        let (connection, handshake) = self.client.open_streams(None).await?;
        self.count.add(handshake);
        let mut asking = JoinSet::new();
        for _ in 0..streams {
            let (visits, requests) = (Rc::clone(&self), connection.requests.clone());
            asking.spawn_local(async move {
                loop {
                    let due = now();
                    match visits.client.ask_by_stream(requests.clone()).await {
                        Ok(answer) => visits.record(due, &answer),
                        Err(error) => return error,
                    }
                }
            });
        }
        while let Some(ended) = asking.join_next().await {
            match ended {
                // The connection is to be renewed; the other streams get their responses first.
                Ok(error) if is_clean_goaway(&error) => {}
                Ok(error) => return Err(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(())
    }

    fn record(&self, due: Instant, answer: &Answer) {
        if !self.begun.replace(true) {
            self.count.begun.set(self.count.begun.get() + 1);
        }
        let tickets = self.client.take_ticket_count();
        self.count.add(Handshakes { tickets, ..Handshakes::default() });
        if let Some(run) = &mut *self.count.run.borrow_mut() {
            run.record(now() - due, answer.moved, answer.fresh_cookie);
        }
    }
}

impl Count {
    async fn reaches(&self, clients: usize) {
        while self.begun.get() < clients {
            sleep(PAUSE).await;
        }
    }

    fn add(&self, handshakes: Handshakes) {
        if let Some(run) = &mut *self.run.borrow_mut() {
            run.handshakes += handshakes;
        }
    }

    fn fail(&self, error: io::Error) {
        if let Some(run) = &mut *self.run.borrow_mut() {
            run.errors += 1;
        }
        self.fault.set(Some(error));
    }
}

/// True for a GOAWAY without an error, as after ten thousand requests.
fn is_clean_goaway(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<h2::Error>());
    error.is_some_and(|error| error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR))
}

/// Serves until dropped.
async fn serve(mut origin: Lent<'_>) -> io::Result<()> {
    use std::os::fd::AsFd;
    let readiness = origin.readiness().as_fd().try_clone_to_owned()?;
    // The deprecated part is that a type may name another descriptor from call to call; an owned
    // one does not. Its replacement is unsafe.
    #[allow(deprecated)]
    let readiness = AsyncFd::with_interest(readiness, Interest::READABLE)?;
    loop {
        let mut ready = readiness.readable().await?;
        origin.serve_what_is_ready();
        ready.clear_ready();
    }
}

fn now() -> Instant {
    Moment::now().monotonic
}
