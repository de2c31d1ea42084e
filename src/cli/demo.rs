//! `stayput demo`: a balancer and three replicas on one machine, for use with curl.

use super::replica::Fleet;
use super::terminal::data;
use super::{Failed, echo, run};
use crate::config;
use crate::observe::messages::Messages;
use crate::policy::affinity::keys::Key;
use crate::server::Server;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

/// Ports tried before the demo gives up.
const MAX_PORTS: u16 = 200;

pub(super) fn demo(port: u16) -> Result<ExitCode, Failed> {
    run::with_message_log(|messages| begin(port, messages))
}

fn begin(port: u16, messages: &Messages) -> Result<ExitCode, Failed> {
    let mut free = FreePorts { next: port };
    let balancer = free.take()?;
    let addresses = [free.take()?, free.take()?, free.take()?];
    let fleet = Fleet::bind(&addresses)?;
    let replicas = fleet.addresses()?;
    let home = Home::make()?;
    let file = home.write(balancer, &replicas)?;
    let loaded = config::load(&file).map_err(|problems| Failed(problems.render(false)))?;
    run::install_logging(messages, tracing_subscriber::filter::LevelFilter::WARN, false);
    let for_replicas = messages.clone();
    thread::Builder::new().name("replicas".into()).spawn(move || {
        if let Err(error) = echo::serve(fleet) {
            for_replicas.say(&format!("stayput: the demo replicas failed: {error}"));
        }
    })?;
    let server = Server::start(loaded.config)?;
    story(balancer, &replicas, &file)?;
    let code = run::until_signalled(server);
    drop(home);
    code
}

/// The demo's text and commands. A test runs the same lines.
fn story(
    balancer: SocketAddr,
    replicas: &[(String, SocketAddr)],
    file: &Path,
) -> Result<(), Failed> {
    let url = format!("http://{balancer}");
    let names = replicas.iter().map(|(name, address)| format!("{name} :{}", address.port()));
    let names = names.collect::<Vec<_>>().join("  ");
    let program = std::env::current_exe()?;
    data(&format!("stayput demo: balancer {url}, replicas {names}   (stop with Ctrl-C)"));
    data("In another terminal:");
    data(&format!("  1. without cookies              for i in 1 2 3 4; do curl -s {url}/; done"));
    data(&format!(
        "  2. with cookies you stay        for i in 1 2 3 4; do curl -s -c jar -b jar {url}/; done"
    ));
    data(&format!("  3. kill your replica            curl -s -b jar -X POST {url}/kill"));
    data("  4. you move once, then stay     (run step 2 again)");
    data(&format!(
        "  5. explain the choice           {} explain -c {} --cookie-jar jar {url}/",
        program.display(),
        file.display()
    ));
    Ok(())
}

struct FreePorts {
    next: u16,
}

impl FreePorts {
    fn take(&mut self) -> Result<SocketAddr, Failed> {
        for _ in 0..MAX_PORTS {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next));
            self.next = self.next.saturating_add(1);
            if TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
        Err(Failed("stayput: no free ports found; set another one with --port".to_owned()))
    }
}

/// Temporary directory of the demo, readable only by its user, removed at the end.
struct Home(PathBuf);

impl Home {
    fn make() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("stayput-demo-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Writes a configuration file. The key is beside it, because `explain` in another terminal
    /// must open the tokens that the balancer sealed.
    fn write(
        &self,
        balancer: SocketAddr,
        replicas: &[(String, SocketAddr)],
    ) -> Result<PathBuf, Failed> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let key = Key::generate(bytes).to_base64_line();
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        options.open(self.0.join("affinity.key"))?.write_all(key.as_bytes())?;
        let targets = replicas
            .iter()
            .map(|(name, address)| format!("  {{ id = \"{name}\", address = \"{address}\" }},\n"));
        let text = format!(
            "[runtime]\nworkers = 1\nstate_dir = \".\"\ndrain_timeout = \"1s\"\n\n\
             [affinity]\nkeys = [{{ id = 1, file = \"affinity.key\" }}]\n\n\
             [log]\nlevel = \"warn\"\naccess = {{ to = \"stdout\", format = \"short\" }}\n\n\
             [listener.demo]\naddress = \"{balancer}\"\ndebug_headers = true\n\n\
             [target_group.app]\ntargets = [\n{}]\n\n\
             [target_group.app.health]\ninterval = \"1s\"\nfast_interval = \"250ms\"\n\
             healthy_threshold = 1\nunhealthy_threshold = 1\n",
            targets.collect::<String>()
        );
        let file = self.0.join("stayput.toml");
        fs::write(&file, text)?;
        Ok(file)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Remaining files are in the system's temporary directory, which is cleaned anyway.
        let _ = fs::remove_dir_all(&self.0);
    }
}
