//! `[target_group.NAME.tls]`: verification of targets, and the file of certificate authorities.

use crate::config::node::{Node, Table};
use crate::config::problem::{Problem, Problems};
use crate::config::settings::target_tls::{TargetTls, Trust, server_name};
use crate::config::settings::{TargetAddress, TargetSettings};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The `tls` table of a group, if there is one.
pub(super) fn target_tls(
    group: &Table,
    targets: &[TargetSettings],
    base: &Path,
    problems: &mut Problems,
) -> Option<TargetTls> {
    let written = group.get("tls")?;
    let table = written.table();
    let verify = table.flag("verify");
    let ca = table.get("ca");
    let trust = match ca {
        Some(ca) if !verify => {
            let title = "`verify = false` and `ca` exclude each other";
            let problem = Problem::at(ca.span.clone(), title);
            problems.push(problem.help("remove one of them"));
            Trust::Anyone
        }
        None if !verify => Trust::Anyone,
        None => Trust::System,
        Some(ca) => Trust::Authorities(authorities(ca, base, problems).into()),
    };
    let server_name = table.get("server_name").and_then(|name| server_name(name.text()));
    if verify && server_name.is_none() {
        names_can_be_certified(written, targets, problems);
    }
    Some(TargetTls { trust, server_name })
}

/// Records targets whose names cannot be in a certificate.
fn names_can_be_certified(tls: &Node, targets: &[TargetSettings], problems: &mut Problems) {
    let hosts = targets.iter().filter_map(|target| match &target.address {
        TargetAddress::Host { host, .. } => Some(host),
        TargetAddress::Socket(_) => None,
    });
    for host in hosts.filter(|host| server_name(host).is_none()) {
        let title = format!("the target's host name `{host}` is not a valid certificate name");
        let problem = Problem::at(tls.key.clone(), title);
        problems.push(problem.help("set `server_name` to the name in the certificate"));
    }
}

/// Reads the certificates of a file.
fn authorities(path: &Node, base: &Path, problems: &mut Problems) -> Vec<CertificateDer<'static>> {
    let mut refuse = |title: String, label: Option<String>| {
        let problem = Problem::at(path.span.clone(), title);
        let problem = match label {
            Some(label) => problem.label(label),
            None => problem,
        };
        problems.push(problem.help(
            "name a PEM file with the CA certificates of your targets, each between BEGIN \
             CERTIFICATE and END CERTIFICATE",
        ));
        Vec::new()
    };
    let name = path.text();
    let content = match content(&base.join(name)) {
        Ok(content) => content,
        Err(error) => {
            return refuse(format!("cannot read `{name}`"), Some(super::reason(&error)));
        }
    };
    if content.len() as u64 > MAX_READ {
        return refuse(format!("`{name}` is larger than 4 MiB"), None);
    }
    let mut found = Vec::new();
    for (at, certificate) in CertificateDer::pem_slice_iter(&content).enumerate() {
        let nth = at + 1;
        let Ok(certificate) = certificate else {
            return refuse(format!("certificate {nth} of `{name}` is not valid PEM"), None);
        };
        if webpki::anchor_from_trusted_cert(&certificate).is_err() {
            return refuse(
                format!("certificate {nth} of `{name}` is not a valid X.509 certificate"),
                None,
            );
        }
        found.push(certificate.into_owned());
    }
    if found.is_empty() {
        return refuse(format!("no certificate in `{name}`"), None);
    }
    found
}

/// Maximum size of the file, 4 MiB. All authorities that a distribution trusts take a quarter of a
/// megabyte.
const MAX_READ: u64 = 4 << 20;

fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_READ + 1).read_to_end(&mut content)?;
    Ok(content)
}
