//! nginx, whose free build of that age has no `sticky`: a map turns the cookie into a replica, and
//! every answer names its replica in a fresh cookie.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::{Place, Recipe, version};
use crate::process::find_program;

pub(super) fn recipe(place: &Place<'_>) -> io::Result<Option<Recipe>> {
    recipe_with(place, "")
}

/// With larger buffers than nginx has by default, which halves what a large body costs it.
pub(super) fn recipe_for_large_bodies(place: &Place<'_>) -> io::Result<Option<Recipe>> {
    const BUFFERS: &str =
        "proxy_buffer_size 16k; proxy_buffers 16 64k; proxy_busy_buffers_size 128k;";
    recipe_with(place, BUFFERS)
}

fn recipe_with(place: &Place<'_>, buffers: &str) -> io::Result<Option<Recipe>> {
    let Some(program) = find_program("nginx") else { return Ok(None) };
    let file = place.room.join("nginx.conf");
    let configuration = configuration(place, buffers)?;
    fs::write(&file, &configuration)?;
    let mut command = Command::new(&program);
    // -e as well, or it opens the log its package was built with before it reads the file.
    command.arg("-e").arg(place.room.join("error.log"));
    command.arg("-p").arg(place.room).arg("-c").arg(&file);
    let version = version(Command::new(&program).arg("-v"));
    Ok(Some(Recipe { command, log: "access.log", settings: format!("{version}\n{configuration}") }))
}

fn configuration(place: &Place<'_>, buffers: &str) -> io::Result<String> {
    let Place { address, replicas: [first, second, third], room } = place;
    // A worker that root starts becomes `nobody`, who may not enter a temporary folder.
    let is_root = fs::metadata(room)?.uid() == 0;
    let user = if is_root { "user root;\n" } else { "" };
    let room = room.display();
    // 64 connections to each replica at most; nginx's default of 1000 requests would dial anew.
    let kept = "keepalive 64; keepalive_requests 1000000000;";
    Ok(format!(
        r#"{user}worker_processes 1;
daemon off;
pid {room}/nginx.pid;
error_log {room}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  log_format line escape=json '{{"time":"$time_iso8601","client":"$remote_addr:$remote_port",'
    '"method":"$request_method","host":"$http_host","uri":"$request_uri","status":$status,'
    '"bytes_in":$request_length,"bytes_out":$bytes_sent,"duration":$request_time,'
    '"target":"$upstream_addr","target_status":"$upstream_status",'
    '"target_duration":"$upstream_response_time","sticky":"$cookie_AWSALB",'
    '"user_agent":"$http_user_agent"}}';
  access_log {room}/access.log line buffer=64k flush=100ms;
  client_body_temp_path {room}/body;
  proxy_temp_path {room}/proxy;
  fastcgi_temp_path {room}/fastcgi;
  uwsgi_temp_path {room}/uwsgi;
  scgi_temp_path {room}/scgi;

  upstream app {{ server {first}; server {second}; server {third}; {kept} }}
  upstream s1 {{ server {first}; {kept} }}
  upstream s2 {{ server {second}; {kept} }}
  upstream s3 {{ server {third}; {kept} }}
  map $cookie_AWSALB $pool {{ s1 s1; s2 s2; s3 s3; default app; }}
  map $upstream_addr $pin {{ {first} s1; {second} s2; {third} s3; }}

  server {{
    listen {address};
    keepalive_requests 1000000000;
    location / {{
      proxy_pass http://$pool;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_max_temp_file_size 0; {buffers}
      add_header Set-Cookie "AWSALB=$pin; Max-Age=86400; Path=/; HttpOnly" always;
    }}
  }}
}}
"#
    ))
}
