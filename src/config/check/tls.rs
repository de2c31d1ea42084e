//! `[listener.NAME.tls]`: reads and validates its files.

use super::reason;
use crate::base::clock::Moment;
use crate::config::certificate_files::{self, CertificateFiles, Unreadable};
use crate::config::keys::https_port;
use crate::config::node::{Node, Table};
use crate::config::problem::{Problem, Problems};
use crate::config::settings::{Alpn, ClientAuth, ListenerTls, TlsVersion};
use crate::policy::tls::authorities::Authorities;
use crate::policy::tls::certificate::Validity;
use crate::policy::tls::pair::{Defect, Pair};
use std::net::SocketAddr;
use std::path::Path;

/// The settings of the table; `None` if there is no table or a file is invalid.
pub(super) fn tls(listener: &Table, base: &Path, problems: &mut Problems) -> Option<ListenerTls> {
    let table = listener.get("tls")?.table();
    let written = table.get("certificates")?;
    let list = table.list("certificates");
    if list.is_empty() {
        let problem = Problem::at(written.span.clone(), "`certificates` is empty");
        let help = "add one: `certificates = [{ cert = \"shop.pem\", key = \"shop.key\" }]`";
        problems.push(problem.help(help));
    }
    let certificates = list.iter().filter_map(|one| certificate(one.table(), base, problems));
    Some(ListenerTls {
        certificates: certificates.collect(),
        min_version: match table.text("min_version") {
            "1.3" => TlsVersion::V13,
            _ => TlsVersion::V12,
        },
        alpn: table.list("alpn").iter().map(alpn).collect(),
        client_auth: client_auth(table, base, problems),
        tls_headers: table.flag("tls_headers"),
    })
}

fn alpn(protocol: &Node) -> Alpn {
    match protocol.text() {
        "h2" => Alpn::Http2,
        _ => Alpn::Http1,
    }
}

fn certificate(
    table: &Table,
    base: &Path,
    problems: &mut Problems,
) -> Option<(CertificateFiles, Pair)> {
    let (cert, key) = (table.get("cert")?, table.get("key")?);
    let files = CertificateFiles { cert: base.join(cert.text()), key: base.join(key.text()) };
    match files.read() {
        Ok(pair) => {
            let validity = pair.certificate.validity(Moment::now().unix_seconds());
            if validity != Validity::Valid {
                let names = pair.certificate.names_text();
                let title = format!("certificate of {names} {validity}");
                let help = "renew it; until then it is still served";
                problems.push(Problem::at(cert.span.clone(), title).help(help).warning());
            }
            return Some((files, pair));
        }
        Err(Unreadable::Cert(error)) => problems.push(unreadable(cert, "certificate", &error)),
        Err(Unreadable::Key(error)) => problems.push(unreadable(key, "key", &error)),
        Err(Unreadable::Unfit(defect)) => {
            let at_fault = if defect.is_of_the_certificate() { cert } else { key };
            let mut problem = unfit(at_fault, &defect);
            if defect == Defect::Mismatch {
                problem = problem.other(cert.span.clone(), "the certificate");
            }
            problems.push(problem);
        }
    }
    None
}

fn client_auth(tls: &Table, base: &Path, problems: &mut Problems) -> ClientAuth {
    let table = tls.table("client_auth");
    let ca = table.get("ca");
    match (table.text("mode"), ca) {
        ("verify", Some(ca)) => {
            let read = certificate_files::read(&base.join(ca.text()));
            let problem = match read.map(|text| Authorities::of_pem(&text)) {
                Ok(Ok(authorities)) => return ClientAuth::Verify(authorities),
                Ok(Err(defect)) => {
                    unfit(ca, &defect).help("use a PEM file of one or more CA certificates")
                }
                Err(error) => unreadable(ca, "CA file", &error),
            };
            problems.push(problem);
            ClientAuth::Off
        }
        ("verify", None) => {
            if let Some(mode) = table.get("mode").filter(|_| !table.refused("ca")) {
                let title = "`mode = \"verify\"` needs `ca`";
                let problem = Problem::at(mode.span.clone(), title);
                problems.push(problem.help("set the CA file: `ca = \"clients.pem\"`"));
            }
            ClientAuth::Off
        }
        (mode, Some(ca)) => {
            let title = "`ca` needs `mode = \"verify\"`";
            problems.push(
                Problem::at(ca.key.clone(), title).help("remove it, or set `mode = \"verify\"`"),
            );
            if mode == "passthrough" { ClientAuth::Passthrough } else { ClientAuth::Off }
        }
        ("passthrough", None) => ClientAuth::Passthrough,
        _ => ClientAuth::Off,
    }
}

fn unreadable(path: &Node, what: &str, error: &std::io::Error) -> Problem {
    let title = format!("cannot read the {what} `{}`", path.text());
    Problem::at(path.span.clone(), title)
        .label(reason(error))
        .help("paths are relative to this file; the balancer's user must be allowed to read it")
}

fn unfit(path: &Node, defect: &Defect) -> Problem {
    let title = format!("cannot use `{}`: {defect}", path.text());
    Problem::at(path.span.clone(), title).help(defect.remedy())
}

/// Records a `redirect_to` that leads to a listener of this file without TLS, or to a port other
/// than that of the TLS listener.
pub(super) fn redirect_reaches_tls(redirect_to: &Node, file: &Table, problems: &mut Problems) {
    let Some(port) = https_port(redirect_to.text()) else { return };
    let listeners = || file.table("listener").entries().map(|(name, node)| (name, node.table()));
    let is_on = |listener: &Table| {
        let addresses = listener.list("address").iter();
        addresses
            .filter_map(|one| one.text().parse::<SocketAddr>().ok())
            .any(|it| it.port() == port)
    };
    let on_port: Vec<_> = listeners().filter(|(_, listener)| is_on(listener)).collect();
    if let Some((name, plain)) = on_port.iter().find(|(_, listener)| !listener.knows("tls")) {
        let title = format!("clients would be redirected to `listener.{name}`, which has no TLS");
        let problem = Problem::at(redirect_to.span.clone(), title);
        let problem = match plain.get("address") {
            Some(address) => {
                problem.other(address.span.clone(), format!("the listener on port {port}"))
            }
            None => problem,
        };
        problems.push(problem.help(format!("add `[listener.{name}.tls]`, or set another port")));
    } else if on_port.is_empty()
        && let Some((name, _)) = listeners().find(|(_, listener)| listener.knows("tls"))
    {
        let title = format!("no TLS listener on port {port}, but `{name}` has TLS on another port");
        let help = "set its port with `redirect_to = \"https:PORT\"`, unless the port is mapped";
        problems.push(Problem::at(redirect_to.span.clone(), title).help(help).warning());
    }
}

/// Records a redirect from HTTPS to HTTP, which ALB refuses (AWS, "Listener rules for your
/// Application Load Balancer": you can redirect HTTP to HTTPS, but not HTTPS to HTTP).
pub(super) fn no_redirect_to_http(
    redirect: &Node,
    listeners: &[(&str, &Table)],
    problems: &mut Problems,
) {
    let Some(scheme) = redirect.table().get("scheme").filter(|node| node.text() == "http") else {
        return;
    };
    if let Some((name, _)) = listeners.iter().find(|(_, listener)| listener.knows("tls")) {
        let title = format!("clients of `listener.{name}` would be redirected from HTTPS to HTTP");
        let help = "remove `scheme`, or name other `listeners` in the rule";
        problems.push(Problem::at(scheme.span.clone(), title).help(help));
    }
}
