//! A balancer in this process, in front of origins.

use super::Origin;
use stayput::Server;
use stayput::config;
use stayput::config::settings::{Config, Health};
use stayput::testing::control::resolve::Resolver;
use stayput::testing::model::live::Availability;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Sets a long time-out for checks: on a loaded machine a response may be late, and a sound target
/// would be down. A time-out that the test sets itself is kept.
fn be_patient(health: &mut Health) {
    if health.timeout == health.interval && health.interval < Duration::from_millis(400) {
        health.timeout = Duration::from_secs(5);
    }
}

/// A running balancer and its directory.
pub struct World {
    server: Option<Server>,
    address: SocketAddr,
    runtime: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
}

impl World {
    /// One listener `web` with these settings, and one group `app` of these origins (a, b, c ...)
    /// with these settings. Waits until every target has been checked once.
    pub fn new(origins: &[&Origin], listener: &str, group: &str) -> Self {
        let targets = ('a'..)
            .zip(origins)
            .map(|(id, origin)| format!("{{ id = \"{id}\", address = \"{}\" }}", origin.address()));
        let targets = targets.collect::<Vec<_>>().join(", ");
        Self::of_text(&format!(
            "[runtime]\nworkers = 2\nstate_dir = \"state\"\ndrain_timeout = \"5s\"\n\
             [log]\naccess = {{ to = \"access.log\" }}\n\
             [listener.web]\naddress = \"127.0.0.1:0\"\n{listener}\n\
             [target_group.app]\ntargets = [{targets}]\n{group}\n"
        ))
    }

    /// A balancer of this configuration, with `state` and `access.log` in a directory of its own.
    pub fn of_text(text: &str) -> Self {
        Self::of_config(text, |_| {})
    }

    /// A balancer of this configuration with changes that no file can contain: times too long for a
    /// test.
    pub fn of_config(text: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::asking(text, change, Resolver::of_system())
    }

    /// A balancer of this configuration with this resolver for host names.
    pub fn of_names(text: &str, resolver: Resolver) -> Self {
        Self::asking(text, |_| {}, resolver)
    }

    fn asking(text: &str, change: impl FnOnce(&mut Config), resolver: Resolver) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config::parse(text, "test.toml", dir.path())
            .unwrap_or_else(|problems| panic!("{}", problems.render(false)))
            .config;
        config.groups.iter_mut().for_each(|group| be_patient(&mut group.health));
        change(&mut config);
        let mut server = Server::start_asking(config, resolver).unwrap();
        let address = server.addresses()[0].1;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(server.ready());
        Self { server: Some(server), address, runtime, dir }
    }

    /// Address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The running balancer.
    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// The published state of the target with this index in the first group.
    pub fn availability(&self, target: usize) -> Availability {
        self.server().published().current().groups[0].targets[target].state.availability()
    }

    /// Drains. Returns the number of exchanges that were cut.
    pub fn drain(&mut self) -> usize {
        let server = self.server.take().unwrap();
        self.runtime.block_on(server.drain(std::future::pending()))
    }

    /// Waits for a record that `wanted` accepts, in the log written so far.
    pub fn record(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        super::until("an access record", || {
            let text = std::fs::read_to_string(self.log_path()).ok()?;
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).find(&wanted)
        })
    }

    /// Waits for a log line of any format that `wanted` accepts.
    pub fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.lines(1, wanted).remove(0)
    }

    /// Waits for this many such lines.
    pub fn lines(&self, count: usize, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        super::until("lines of the access log", || {
            let text = std::fs::read_to_string(self.log_path()).ok()?;
            // The text after the last line end may be half a line.
            let whole = &text[..text.rfind('\n')?];
            let found = whole.lines().filter(|line| wanted(line)).map(str::to_owned);
            Some(found.collect::<Vec<_>>()).filter(|found| found.len() >= count)
        })
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("access.log")
    }
}
