//! The balancers of the table, each configured for one row: one worker, two targets, kept
//! connections to them, X-Forwarded-For, -Proto and -Port added.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificate::Certificate;
use crate::rows::{Cookies, Protocol, Row};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Balancer {
    Nginx,
    Haproxy,
    Stayput,
}

/// The addresses and files of one balancer.
pub(crate) struct Place<'a> {
    pub(crate) row: &'a Row,
    pub(crate) address: SocketAddr,
    pub(crate) targets: [SocketAddr; 2],
    pub(crate) room: &'a Path,
    pub(crate) certificate: &'a Certificate,
}

/// Path of the Stayput under test: the one that cargo built with this bench, or the one that the
/// environment names.
pub(crate) fn stayput() -> PathBuf {
    let named = std::env::var_os("STAYPUT_BENCH_BINARY");
    named.map_or_else(|| env!("CARGO_BIN_EXE_stayput").into(), PathBuf::from)
}

impl Balancer {
    pub(crate) const ALL: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Stayput];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Stayput => "stayput",
        }
    }

    /// Path of the program; `None` if it is not installed. Debian keeps daemons outside of an
    /// ordinary user's PATH.
    pub(crate) fn program(self) -> Option<PathBuf> {
        if self == Self::Stayput {
            return Some(stayput());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
            .map(|folder| folder.join(self.name()))
            .find(|program| program.is_file())
    }

    /// Adds the program and its arguments to `command`, and writes its configuration.
    pub(crate) fn add_to(
        self,
        command: &mut Command,
        program: &Path,
        place: &Place<'_>,
    ) -> io::Result<()> {
        let file = place.room.join("configuration");
        let text = match self {
            Self::Nginx => nginx(place)?,
            Self::Haproxy => haproxy(place),
            Self::Stayput => stayput_toml(place),
        };
        fs::write(&file, text)?;
        command.arg(program);
        match self {
            Self::Nginx => command
                .arg("-e")
                .arg(place.room.join("error.log"))
                .arg("-p")
                .arg(place.room)
                .arg("-c")
                .arg(&file),
            Self::Haproxy => {
                // Its request log is its standard output, which is a file here.
                command.stdout(File::create(place.room.join("access.log"))?);
                command.arg("-db").arg("-f").arg(&file)
            }
            Self::Stayput => command.arg("run").arg("-c").arg(&file),
        };
        Ok(())
    }
}

/// nginx 1.22 has no `sticky`: a map turns the cookie into a target, and each response names its
/// target in a fresh cookie.
fn nginx(place: &Place<'_>) -> io::Result<String> {
    let Place { row, address, targets: [one, two], room, certificate } = place;
    // A worker of a root master runs as the user of the `user` directive, whose default may not
    // enter a temporary folder.
    let user = if fs::metadata(room)?.uid() == 0 { "user root;\n" } else { "" };
    let room = room.display();
    let log = match row.log {
        true => format!("access_log {room}/access.log combined buffer=64k flush=100ms;"),
        false => "access_log off;".to_owned(),
    };
    let (cert, key) = (certificate.chain.display(), certificate.key.display());
    let tls = format!(
        "ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; \
         ssl_session_tickets on;"
    );
    let (listen, tls) = match row.protocol {
        Protocol::Plain => (address.to_string(), ""),
        Protocol::Tls => (format!("{address} ssl"), &*tls),
        Protocol::Http2 => (format!("{address} ssl http2"), &*tls),
    };
    let kept = "keepalive 64; keepalive_requests 1000000000;";
    Ok(format!(
        r#"{user}worker_processes 1;
daemon off;
master_process off;
pid {room}/nginx.pid;
error_log {room}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  {log}
  client_body_temp_path {room}/body;
  proxy_temp_path {room}/proxy;
  fastcgi_temp_path {room}/fastcgi;
  uwsgi_temp_path {room}/uwsgi;
  scgi_temp_path {room}/scgi;
  upstream app {{ server {one}; server {two}; {kept} }}
  upstream s1 {{ server {one}; server {two} backup; {kept} }}
  upstream s2 {{ server {two}; server {one} backup; {kept} }}
  map $cookie_AWSALB $pool {{ s1 s1; s2 s2; default app; }}
  map $upstream_addr $pin {{ {one} s1; {two} s2; }}
  server {{
    listen {listen}; {tls}
    keepalive_requests 1000000000;
    location / {{
      proxy_pass http://$pool;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Port $server_port;
      add_header Set-Cookie "AWSALB=$pin; Max-Age=86400; Path=/; HttpOnly" always;
    }}
  }}
}}
"#
    ))
}

fn haproxy(place: &Place<'_>) -> String {
    let Place { row, address, targets: [one, two], certificate, .. } = place;
    let log = if row.log { "  log stdout format raw local0\n" } else { "" };
    let httplog = if row.log { "  log global\n  option httplog\n" } else { "" };
    let tls = |alpn: &str| {
        format!(" ssl crt {} ssl-min-ver TLSv1.3 alpn {alpn}", certificate.both.display())
    };
    let (tls, scheme) = match row.protocol {
        Protocol::Plain => (String::new(), "http"),
        Protocol::Tls => (tls("http/1.1"), "https"),
        Protocol::Http2 => (tls("h2,http/1.1"), "https"),
    };
    format!(
        "global
  nbthread 1
  maxconn 1000
  no strict-limits
{log}defaults
  mode http
{httplog}  option forwardfor
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-request 60s
  timeout http-keep-alive 60s
frontend web
  bind {address}{tls}
  http-request set-header X-Forwarded-Proto {scheme}
  http-request set-header X-Forwarded-Port %[dst_port]
  default_backend app
backend app
  balance roundrobin
  http-reuse always
  cookie AWSALB insert maxidle 1d httponly
  server s1 {one} cookie s1
  server s2 {two} cookie s2
"
    )
}

/// Every setting at its default except the number of workers, the path of the log, and the subject
/// of the row.
fn stayput_toml(place: &Place<'_>) -> String {
    let Place { row, address, targets: [one, two], room, certificate } = place;
    let room = room.display();
    let log = if row.log { format!("{room}/access.log") } else { "off".to_owned() };
    let (cert, key) = (certificate.chain.display(), certificate.key.display());
    let tls = |alpn: &str| {
        format!(
            "[listener.web.tls]\ncertificates = [{{ cert = \"{cert}\", key = \"{key}\" }}]\n\
             min_version = \"1.3\"\nalpn = [{alpn}]\n"
        )
    };
    let tls = match row.protocol {
        Protocol::Plain => String::new(),
        Protocol::Tls => tls(r#""http/1.1""#),
        Protocol::Http2 => tls(r#""h2", "http/1.1""#),
    };
    let twin = match row.cookies {
        Cookies::One => "[target_group.app.stickiness]\ncors_twin = \"never\"\n",
        Cookies::Twin => "",
    };
    format!(
        "[runtime]\nworkers = 1\nstate_dir = \"{room}\"\n\
         [log]\naccess = {{ to = \"{log}\", format = \"json\" }}\n\
         [listener.web]\naddress = \"{address}\"\ndefault = \"app\"\n{tls}\
         [target_group.app]\ntargets = [\"{one}\", \"{two}\"]\n{twin}"
    )
}
