//! Stayput with every setting at its default except the worker count and the path of the log.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use super::{Place, Recipe, version};
use crate::scenario::Variant;

pub(super) fn recipe(place: &Place<'_>) -> io::Result<Option<Recipe>> {
    // Another build than cargo's own, for a comparison of two.
    let named = std::env::var_os("STAYPUT_BENCH_BINARY");
    let program = named.map_or_else(|| env!("CARGO_BIN_EXE_stayput").into(), PathBuf::from);
    let file = place.room.join("stayput.toml");
    let configuration = configuration(place);
    fs::write(&file, &configuration)?;
    let mut command = Command::new(&program);
    command.arg("run").arg("-c").arg(&file);
    let version = version(Command::new(&program).arg("--version"));
    Ok(Some(Recipe { command, log: "access.log", settings: format!("{version}\n{configuration}") }))
}

fn configuration(place: &Place<'_>) -> String {
    let Place { address, replicas, variant, room, certificate } = place;
    let (room, workers) = (room.display(), variant.workers());
    let log = if variant.logs() { format!("{room}/access.log") } else { "off".to_owned() };
    let targets = replicas.iter().map(|replica| format!("\"{replica}\"")).collect::<Vec<_>>();
    let targets = targets.join(", ");
    let tls = match variant {
        Variant::Tls | Variant::Http2 => {
            let (cert, key) = (certificate.chain.display(), certificate.key.display());
            let alpn =
                if *variant == Variant::Http2 { r#""h2", "http/1.1""# } else { r#""http/1.1""# };
            format!(
                r#"
[listener.web.tls]
certificates = [{{ cert = "{cert}", key = "{key}" }}]
min_version = "1.3"
alpn = [{alpn}]
"#
            )
        }
        _ => String::new(),
    };
    let mut configuration = format!(
        r#"[runtime]
workers = {workers}
state_dir = "{room}"

[log]
access = {{ to = "{log}", format = "json" }}

[listener.web]
address = "{address}"
default = "app"
limits = {{ connections = 17000 }}
{tls}
[target_group.app]
targets = [{targets}]
"#
    );
    for host in variant.hosts() {
        configuration += &format!("\n[[rule]]\nhosts = [\"{host}\"]\nforward = \"app\"\n");
    }
    configuration
}
