//! The header fields that describe a client's certificate to a target (AWS, "Mutual authentication
//! with TLS in Application Load Balancer").

use crate::base::calendar::Civil;
use http::header::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use std::fmt::Write;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

const CHAIN: HeaderName = HeaderName::from_static("x-amzn-mtls-clientcert");
const SERIAL: HeaderName = HeaderName::from_static("x-amzn-mtls-clientcert-serial-number");
const ISSUER: HeaderName = HeaderName::from_static("x-amzn-mtls-clientcert-issuer");
const SUBJECT: HeaderName = HeaderName::from_static("x-amzn-mtls-clientcert-subject");
const VALIDITY: HeaderName = HeaderName::from_static("x-amzn-mtls-clientcert-validity");
const LEAF: HeaderName = HeaderName::from_static("x-amzn-mtls-clientcert-leaf");

/// The field if nothing was verified: the chain as the client sent it.
pub(crate) fn passed_through(chain: &[CertificateDer<'_>]) -> Vec<(HeaderName, HeaderValue)> {
    if chain.is_empty() {
        return Vec::new();
    }
    let pem: String = chain.iter().map(|one| pem(one)).collect();
    field(CHAIN, &percent_encoded(&pem)).into_iter().collect()
}

/// The fields if the chain was verified: the facts of its first certificate, and that certificate.
pub(crate) fn verified(chain: &[CertificateDer<'_>]) -> Vec<(HeaderName, HeaderValue)> {
    let Some(leaf) = chain.first() else { return Vec::new() };
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return Vec::new() };
    let validity = parsed.validity();
    let validity = format!(
        "NotBefore={};NotAfter={}",
        iso8601(validity.not_before.timestamp()),
        iso8601(validity.not_after.timestamp())
    );
    let fields = [
        field(SERIAL, &serial(parsed.raw_serial())),
        field(ISSUER, &distinguished_name(parsed.issuer())),
        field(SUBJECT, &distinguished_name(parsed.subject())),
        field(VALIDITY, &validity),
        field(LEAF, &percent_encoded(&pem(leaf))),
    ];
    fields.into_iter().flatten().collect()
}

fn field(name: HeaderName, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
}

/// In upper-case hexadecimal, as in AWS's example, without the zero byte that only makes it
/// positive.
fn serial(raw: &[u8]) -> String {
    let significant = raw.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(raw);
    significant.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn pem(der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|&byte| char::from(byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// AWS does not escape `+`, `=` and `/`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'~' | b'+' | b'=' | b'/' => out.push(char::from(byte)),
            // Writing to a String cannot fail, here and below.
            other => drop(write!(out, "%{other:02X}")),
        }
    }
    out
}

/// `CN=client,OU=tests,C=DE`: the last part first, special characters escaped (RFC 2253 sections
/// 2.1 to 2.4). Other bytes than printable ASCII are written as pairs of digits, as in its section
/// 2.4.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut out = String::new();
    for (at, part) in parts.into_iter().rev().enumerate() {
        if at > 0 {
            out.push(',');
        }
        for (at, attribute) in part.iter().enumerate() {
            if at > 0 {
                out.push('+');
            }
            let oid = attribute.attr_type().to_id_string();
            match short_name(&oid) {
                Some(name) => out.push_str(name),
                None => out.push_str(&oid),
            }
            out.push('=');
            match attribute.as_str() {
                Ok(text) => escape(text, &mut out),
                Err(_) => {
                    out.push('#');
                    let _ = attribute.as_slice().iter().try_for_each(|b| write!(out, "{b:02x}"));
                }
            }
        }
    }
    out
}

fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

fn escape(text: &str, out: &mut String) {
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let is_at_an_end = at == 0 || at == last;
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' ' if is_at_an_end => out.push_str("\\ "),
            b'#' if at == 0 => out.push_str("\\#"),
            b' '..=b'~' => out.push(char::from(byte)),
            other => drop(write!(out, "\\{other:02X}")),
        }
    }
}

/// `2026-11-21T08:49:30Z`, also before 1970.
fn iso8601(unix: i64) -> String {
    let Civil { year, month, day, hour, minute, second } = Civil::of(unix);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SerialNumber};

    fn made() -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new(Vec::<String>::new()).unwrap();
        let mut name = DistinguishedName::new();
        name.push(DnType::CountryName, "US");
        name.push(DnType::OrganizationName, "mTLS, Inc.");
        name.push(DnType::CommonName, " r\u{e4}\n");
        parameters.distinguished_name = name;
        parameters.serial_number = Some(SerialNumber::from(vec![0x03, 0xa5, 0xb1]));
        parameters.not_before = rcgen::date_time_ymd(1969, 12, 31);
        parameters.not_after = rcgen::date_time_ymd(2028, 2, 29);
        let key = KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_verified_certificate_is_sent_in_albs_five_fields() {
        let fields = verified(&[made()]);
        let text: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let name = "CN=\\ r\\C3\\A4\\0A,O=mTLS\\, Inc.,C=US";
        assert_eq!(text[0], ("x-amzn-mtls-clientcert-serial-number", "03A5B1"));
        assert_eq!(text[1], ("x-amzn-mtls-clientcert-issuer", name));
        assert_eq!(text[2], ("x-amzn-mtls-clientcert-subject", name));
        let validity = "NotBefore=1969-12-31T00:00:00Z;NotAfter=2028-02-29T00:00:00Z";
        assert_eq!(text[3], ("x-amzn-mtls-clientcert-validity", validity));
        assert_eq!(text[4].0, "x-amzn-mtls-clientcert-leaf");
        assert!(text[4].1.starts_with("-----BEGIN%20CERTIFICATE-----%0AMII"), "{}", text[4].1);
        assert_eq!(text.len(), 5);
    }

    #[test]
    fn the_whole_chain_is_passed_through_in_order_and_none_if_empty() {
        let (leaf, root) = (made(), made());
        let fields = passed_through(&[leaf.clone(), root.clone()]);
        let value = fields[0].1.to_str().unwrap();
        let expected = percent_encoded(&(pem(&leaf) + &pem(&root)));
        assert_eq!((fields.len(), fields[0].0.as_str()), (1, "x-amzn-mtls-clientcert"));
        assert_eq!(value, expected);
        assert!(passed_through(&[]).is_empty() && verified(&[]).is_empty());
    }
}
