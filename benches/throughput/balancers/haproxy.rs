//! HAProxy with its own `cookie insert`. Under `maxidle` its cookie is dated and set anew once the
//! date is over four seconds old, so visitors that keep their first cookie get one each time.

use std::fs;
use std::io;
use std::process::Command;

use super::{Place, Recipe, SAID, version};
use crate::process::find_program;
use crate::scenario::Variant;

pub(super) fn recipe(place: &Place<'_>) -> io::Result<Option<Recipe>> {
    let Some(program) = find_program("haproxy") else { return Ok(None) };
    let file = place.room.join("haproxy.cfg");
    let configuration = configuration(place);
    fs::write(&file, &configuration)?;
    let mut command = Command::new(&program);
    command.arg("-db").arg("-f").arg(&file);
    let version = version(Command::new(&program).arg("-v"));
    Ok(Some(Recipe { command, log: SAID, settings: format!("{version}\n{configuration}") }))
}

fn configuration(place: &Place<'_>) -> String {
    let Place { address, replicas, variant, certificate, .. } = place;
    let workers = variant.workers();
    let log = if variant.logs() { "  log stdout format raw local0\n" } else { "" };
    let httplog = if variant.logs() { "  log global\n  option httplog\n" } else { "" };
    // Splices bodies from socket to socket, which is off by default.
    let splicing = match variant {
        Variant::Tuned => "  option splice-response\n  option splice-request\n",
        _ => "",
    };
    let both = certificate.both.display();
    let (tls, scheme) = match variant {
        Variant::Tls => (format!(" ssl crt {both} ssl-min-ver TLSv1.3 alpn http/1.1"), "https"),
        Variant::Http2 => {
            (format!(" ssl crt {both} ssl-min-ver TLSv1.3 alpn h2,http/1.1"), "https")
        }
        _ => (String::new(), "http"),
    };
    let mut rules = String::new();
    for (number, host) in variant.hosts().enumerate() {
        rules += &format!("  acl h{number} req.hdr(host) -m str {host}\n");
        rules += &format!("  use_backend app if h{number}\n");
    }
    let mut servers = String::new();
    for (replica, number) in replicas.iter().zip(1..) {
        servers += &format!("  server s{number} {replica} cookie s{number} check inter 30s\n");
    }
    format!(
        "global
  nbthread {workers}
  maxconn 17000
  no strict-limits
{log}defaults
  mode http
{httplog}  option forwardfor
{splicing}  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-request 15s
  timeout http-keep-alive 60s
frontend web
  bind {address}{tls}
  http-request set-header X-Forwarded-Proto {scheme}
  http-request set-header X-Forwarded-Port %[dst_port]
{rules}  default_backend app
backend app
  balance roundrobin
  option redispatch
  retries 2
  http-reuse always
  cookie AWSALB insert maxidle 1d httponly
{servers}"
    )
}
