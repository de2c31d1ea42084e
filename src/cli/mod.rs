//! Layer 11: the command line. Exit codes: 0 fine, 1 could not start or bad configuration, 2 wrong
//! usage, 3 the drain deadline or a second signal cut connections.

mod check;
mod cookie;
mod cookie_jar;
mod demo;
mod echo;
mod explain;
mod keys;
pub(crate) mod replica;
mod run;
mod terminal;
mod words;

use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Default path of the configuration file.
const DEFAULT_CONFIG: &str = "/etc/stayput/stayput.toml";

/// A layer-7 load balancer that keeps a client's session on the replica that holds it.
#[derive(Debug, Parser)]
#[command(name = "stayput", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct ConfigArgument {
    /// Configuration file; `-` reads standard input (not with `run`).
    #[arg(short, long = "config", env = "STAYPUT_CONFIG", default_value = DEFAULT_CONFIG, value_name = "FILE")]
    config: PathBuf,
}

// There is one value per process, so its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the load balancer.
    Run(ConfigArgument),
    /// Check the configuration file and print all problems, or `ok`.
    Check {
        #[command(flatten)]
        config: ConfigArgument,
        /// Print the effective configuration with all defaults, without secrets.
        #[arg(long)]
        print: bool,
    },
    /// Run a demo balancer with three replicas on this machine.
    Demo {
        /// Port of the balancer; the replicas use the next free ports.
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Run test replicas that answer with their name.
    Echo {
        /// Addresses to listen on, one replica each, for example 127.0.0.1:3001.
        #[arg(long, required = true, num_args = 1.., value_name = "ADDR")]
        listen: Vec<SocketAddr>,
    },
    /// Explain which target a request would go to, and why.
    Explain(explain::Arguments),
    /// Inspect, verify or create affinity cookies.
    #[command(subcommand)]
    Cookie(cookie::Command),
    /// Create affinity keys.
    #[command(subcommand)]
    Keys(keys::Command),
}

/// Parses the command line and runs the command. Exits with 2 after wrong usage.
pub fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let done = match command {
        Command::Run(ConfigArgument { config }) => run::run(&config),
        Command::Check { config, print } => check::check(&config.config, print),
        Command::Demo { port } => demo::demo(port),
        Command::Echo { listen } => echo::echo(&listen),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Cookie(command) => cookie::cookie(&command),
        Command::Keys(command) => keys::keys(&command),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            terminal::message(&failure.0);
            ExitCode::from(1)
        }
    }
}

/// Error message of a command that exits with 1.
#[derive(Debug)]
struct Failed(String);

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(format!("stayput: {error}"))
    }
}

/// Reads a file for a command other than `run`; `-` is standard input.
fn read_config(path: &Path) -> Result<crate::config::Loaded, Failed> {
    let loaded = if path == Path::new("-") {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::stdin(), &mut text)?;
        crate::config::parse(&text, "standard input", Path::new(""))
    } else {
        crate::config::load(path)
    };
    loaded.map_err(|problems| Failed(problems.render(terminal::messages_are_coloured())))
}
