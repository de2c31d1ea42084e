//! nginx, whose free build of that version has no `sticky`: a map turns the cookie into a replica,
//! and every response names its replica in a fresh cookie.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::{Place, Recipe, version};
use crate::process::find_program;
use crate::scenario::Variant;

pub(super) fn recipe(place: &Place<'_>) -> io::Result<Option<Recipe>> {
    let Some(program) = find_program("nginx") else { return Ok(None) };
    let file = place.room.join("nginx.conf");
    let configuration = configuration(place)?;
    fs::write(&file, &configuration)?;
    let mut command = Command::new(&program);
    // With -e too, or it opens the log of its package before it reads the file.
    command.arg("-e").arg(place.room.join("error.log"));
    command.arg("-p").arg(place.room).arg("-c").arg(&file);
    let version = version(Command::new(&program).arg("-v"));
    Ok(Some(Recipe { command, log: "access.log", settings: format!("{version}\n{configuration}") }))
}

fn configuration(place: &Place<'_>) -> io::Result<String> {
    let Place { address, replicas, variant, room, certificate } = place;
    let workers = variant.workers();
    // Larger buffers than the defaults, and unbuffered bodies, halve its cost of a large body.
    let buffers = match variant {
        Variant::Tuned => {
            "proxy_buffer_size 16k; proxy_buffers 16 64k; proxy_busy_buffers_size 128k; \
             proxy_request_buffering off; client_body_buffer_size 256k;"
        }
        _ => "",
    };
    // A worker of a root master changes to the user of `user`, whose default may not enter a
    // temporary folder.
    let is_root = fs::metadata(room)?.uid() == 0;
    let user = if is_root { "user root;\n" } else { "" };
    let room = room.display();
    // At most 64 connections to each replica; after nginx's default of 1000 requests it would dial
    // anew.
    let kept = "keepalive 64; keepalive_requests 1000000000;";
    let (mut servers, mut pools) = (String::new(), String::new());
    let (mut by_cookie, mut by_address) = (String::new(), String::new());
    for (replica, number) in replicas.iter().zip(1..) {
        servers += &format!("server {replica}; ");
        // With few replicas, the others serve for a dead one, as its own `sticky` would do.
        let others = replicas.iter().filter(|other| *other != replica && replicas.len() == 3);
        let backups: String = others.map(|other| format!("server {other} backup; ")).collect();
        pools += &format!("  upstream s{number} {{ server {replica}; {backups}{kept} }}\n");
        by_cookie += &format!("s{number} s{number}; ");
        by_address += &format!("{replica} s{number}; ");
    }
    let log = match variant.logs() {
        true => format!("access_log {room}/access.log line buffer=64k flush=100ms;"),
        false => "access_log off;".to_owned(),
    };
    // It issues tickets by default, as the others do.
    let (listen, tls) = match variant {
        Variant::Tls | Variant::Http2 => {
            let (cert, key) = (certificate.chain.display(), certificate.key.display());
            let protocol = if *variant == Variant::Http2 { " http2" } else { "" };
            let tls = format!(
                "ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; \
                 ssl_session_tickets on;"
            );
            (format!("{address} ssl{protocol}"), tls)
        }
        _ => (address.to_string(), String::new()),
    };
    let names: Vec<String> = variant.hosts().collect();
    let server = |names: &str| {
        format!(
            r#"
  server {{
    listen {listen}; {tls}
    {names}
    keepalive_requests 1000000000;
    client_max_body_size 0;
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
"#
        )
    };
    let mut sites: String =
        names.iter().map(|name| server(&format!("server_name {name};"))).collect();
    if sites.is_empty() {
        sites = server("");
    }
    Ok(format!(
        r#"{user}worker_processes {workers};
daemon off;
pid {room}/nginx.pid;
error_log {room}/error.log warn;
events {{ worker_connections 17000; }}
http {{
  log_format line escape=json '{{"time":"$time_iso8601","client":"$remote_addr:$remote_port",'
    '"method":"$request_method","host":"$http_host","uri":"$request_uri","status":$status,'
    '"bytes_in":$request_length,"bytes_out":$bytes_sent,"duration":$request_time,'
    '"target":"$upstream_addr","target_status":"$upstream_status",'
    '"target_duration":"$upstream_response_time","sticky":"$cookie_AWSALB",'
    '"user_agent":"$http_user_agent"}}';
  {log}
  client_body_temp_path {room}/body;
  proxy_temp_path {room}/proxy;
  fastcgi_temp_path {room}/fastcgi;
  uwsgi_temp_path {room}/uwsgi;
  scgi_temp_path {room}/scgi;

  server_names_hash_max_size 8192; map_hash_max_size 8192; map_hash_bucket_size 128;
  upstream app {{ {servers}{kept} }}
{pools}  map $cookie_AWSALB $pool {{ {by_cookie}default app; }}
  map $upstream_addr $pin {{ {by_address}}}
{sites}}}
"#
    ))
}
