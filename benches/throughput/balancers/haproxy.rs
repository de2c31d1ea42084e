//! HAProxy with its own `cookie insert`. Under `maxidle` its cookie is dated and given anew once
//! the date is over four seconds old, so visitors that keep their first cookie get one each time.

use std::fs;
use std::io;
use std::process::Command;

use super::{Place, Recipe, SAID, version};
use crate::process::find_program;

pub(super) fn recipe(place: &Place<'_>) -> io::Result<Option<Recipe>> {
    recipe_with(place, "")
}

/// With bodies spliced from socket to socket, which is off by default.
pub(super) fn recipe_for_large_bodies(place: &Place<'_>) -> io::Result<Option<Recipe>> {
    recipe_with(place, "  option splice-response\n")
}

fn recipe_with(place: &Place<'_>, splicing: &str) -> io::Result<Option<Recipe>> {
    let Some(program) = find_program("haproxy") else { return Ok(None) };
    let file = place.room.join("haproxy.cfg");
    let configuration = configuration(place, splicing);
    fs::write(&file, &configuration)?;
    let mut command = Command::new(&program);
    command.arg("-db").arg("-f").arg(&file);
    let version = version(Command::new(&program).arg("-v"));
    Ok(Some(Recipe { command, log: SAID, settings: format!("{version}\n{configuration}") }))
}

fn configuration(place: &Place<'_>, splicing: &str) -> String {
    let Place { address, replicas: [first, second, third], .. } = place;
    format!(
        "global
  nbthread 1
  maxconn 4096
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  option forwardfor
{splicing}  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-request 15s
  timeout http-keep-alive 60s
frontend web
  bind {address}
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Port %[dst_port]
  default_backend app
backend app
  balance roundrobin
  http-reuse always
  cookie AWSALB insert maxidle 1d httponly
  server s1 {first} cookie s1 check inter 30s
  server s2 {second} cookie s2 check inter 30s
  server s3 {third} cookie s3 check inter 30s
"
    )
}
