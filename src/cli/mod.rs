//! Layer 10: the operator's door. The commands, and the exit codes: 0 fine, 1 could not start or
//! bad configuration, 2 wrong usage, 3 the drain deadline or a second signal cut connections.

mod check;
mod cookie;
mod cookie_jar;
mod demo;
mod echo;
mod explain;
mod keys;
pub mod replica;
mod run;
mod terminal;
mod words;

use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the file is when nobody says.
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
    /// The configuration file; `-` reads standard input where nothing is run from it.
    #[arg(short, long = "config", env = "STAYPUT_CONFIG", default_value = DEFAULT_CONFIG, value_name = "FILE")]
    config: PathBuf,
}

// One value a process: its size is nobody's concern.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
enum Command {
    /// Balance.
    Run(ConfigArgument),
    /// Check the file: every problem in one pass, or `ok`.
    Check {
        #[command(flatten)]
        config: ConfigArgument,
        /// Print what the file means, with every default; secrets are never shown.
        #[arg(long)]
        print: bool,
    },
    /// Show the whole story on this machine: a balancer and three replicas.
    Demo {
        /// The balancer's port; the replicas take the next free ones.
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Run replicas that name themselves.
    Echo {
        /// Where they listen; each is a replica of its own.
        #[arg(long, required = true, num_args = 1.., value_name = "ADDR")]
        listen: Vec<SocketAddr>,
    },
    /// Say where a request would go, and why.
    Explain(explain::Arguments),
    /// Look into affinity cookies, or make one.
    #[command(subcommand)]
    Cookie(cookie::Command),
    /// Make affinity keys.
    #[command(subcommand)]
    Keys(keys::Command),
}

/// Parses the command line and runs the command. Wrong usage exits with 2 on its own.
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

/// What a command tells the operator before it exits with 1.
#[derive(Debug)]
struct Failed(String);

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(format!("stayput: {error}"))
    }
}

/// Reads a file for a command that does not run from it; `-` is standard input.
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
