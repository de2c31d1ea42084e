//! The facts of a certificate: its names, its validity and its fingerprint.

use sha2::{Digest, Sha256};
use std::fmt;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// The end entity's certificate of a chain.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The host names it is for, lower case, for example `shop.example` and `*.shop.example`.
    pub names: Vec<Box<str>>,
    /// The first second of its validity, since the Unix epoch; 0 for an earlier one.
    pub not_before: u64,
    /// The last second of its validity, since the Unix epoch.
    pub not_after: u64,
    /// The first bytes of the SHA-256 of its DER.
    pub fingerprint: [u8; 8],
    /// The kind of its key.
    pub key: KeyKind,
    /// The length of its key in bits.
    pub key_bits: usize,
}

/// The kind of a key. The greater is preferred if a client accepts both (AWS, "SSL certificates for
/// your Application Load Balancer": ECDSA over RSA).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// Neither RSA nor ECDSA.
    Other,
    /// RSA.
    Rsa,
    /// ECDSA.
    Ecdsa,
}

/// The validity of a certificate at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It is valid, and does not end soon.
    Valid,
    /// It becomes valid in this many days, rounded up.
    NotYet(u64),
    /// It is valid for this many more days, rounded down: fewer than 14.
    EndsSoon(u64),
    /// It ended this many days ago, rounded down.
    Expired(u64),
}

/// Days before the end at which a warning begins: certificates are commonly renewed a month before
/// they end.
const SOON: u64 = 14;
const DAY: u64 = 86_400;

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    /// The parser's message.
    pub fn of_der(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        let (key, key_bits) = match parsed.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => (KeyKind::Rsa, key.key_size()),
            Ok(PublicKey::EC(point)) => (KeyKind::Ecdsa, point.key_size()),
            _ => (KeyKind::Other, 0),
        };
        let hash = Sha256::digest(der);
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&hash[..8]);
        Ok(Self {
            names: names(&parsed),
            not_before: seconds(parsed.validity().not_before.timestamp()),
            not_after: seconds(parsed.validity().not_after.timestamp()),
            fingerprint,
            key,
            key_bits,
        })
    }

    /// The validity at this second since the Unix epoch.
    pub fn validity(&self, now: u64) -> Validity {
        if now < self.not_before {
            Validity::NotYet((self.not_before - now).div_ceil(DAY))
        } else if now > self.not_after {
            Validity::Expired((now - self.not_after) / DAY)
        } else {
            match (self.not_after - now) / DAY {
                days if days < SOON => Validity::EndsSoon(days),
                _ => Validity::Valid,
            }
        }
    }

    /// `shop.example, *.shop.example`, the first five of many; `no host name` if there is none.
    pub fn names_text(&self) -> String {
        const SHOWN: usize = 5;
        let shown: Vec<&str> = self.names.iter().take(SHOWN).map(|name| &**name).collect();
        match self.names.len() {
            0 => "no host name".to_owned(),
            count if count > SHOWN => format!("{} and {} more", shown.join(", "), count - SHOWN),
            _ => shown.join(", "),
        }
    }

    /// `certificate/` and 16 digits: in place of AWS's ARN in its access log.
    pub fn id_text(&self) -> String {
        let digits = self.fingerprint.iter().map(|byte| format!("{byte:02x}"));
        format!("certificate/{}", digits.collect::<String>())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id_text(), self.names_text())
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = |days: &u64| if *days == 1 { "1 day".into() } else { format!("{days} days") };
        match self {
            Validity::Valid => f.write_str("is valid"),
            Validity::NotYet(left) => write!(f, "is not valid for another {}", days(left)),
            Validity::EndsSoon(0) => f.write_str("expires within a day"),
            Validity::EndsSoon(left) => write!(f, "expires in {}", days(left)),
            Validity::Expired(0) => f.write_str("expired today"),
            Validity::Expired(ago) => write!(f, "expired {} ago", days(ago)),
        }
    }
}

/// The DNS names among the alternative names. The subject's common name counts only if there are no
/// alternative names (RFC 9525 has removed it; old certificates have nothing else).
fn names(parsed: &X509Certificate<'_>) -> Vec<Box<str>> {
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let dns: Vec<Box<str>> = alternative
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
            _ => None,
        })
        .collect();
    if alternative.is_some() {
        return dns;
    }
    let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.map(|name| name.to_ascii_lowercase().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(not_before: u64, not_after: u64) -> Certificate {
        Certificate {
            names: vec!["shop.example".into()],
            not_before,
            not_after,
            fingerprint: [0xab; 8],
            key: KeyKind::Ecdsa,
            key_bits: 256,
        }
    }

    #[test]
    fn validity_is_exact_to_the_second_and_reported_in_days() {
        let life = certificate(100 * DAY, 200 * DAY);
        for (now, validity, words) in [
            (99 * DAY + 1, Validity::NotYet(1), "is not valid for another 1 day"),
            (100 * DAY - 1, Validity::NotYet(1), "is not valid for another 1 day"),
            (100 * DAY, Validity::Valid, "is valid"),
            (186 * DAY, Validity::Valid, "is valid"),
            (186 * DAY + 1, Validity::EndsSoon(13), "expires in 13 days"),
            (200 * DAY, Validity::EndsSoon(0), "expires within a day"),
            (200 * DAY + 1, Validity::Expired(0), "expired today"),
            (203 * DAY, Validity::Expired(3), "expired 3 days ago"),
        ] {
            assert_eq!(life.validity(now), validity, "{now}");
            assert_eq!(life.validity(now).to_string(), words);
        }
    }

    #[test]
    fn names_dates_and_key_are_those_of_the_certificate() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let mut parameters =
            rcgen::CertificateParams::new(vec!["Shop.example".into(), "*.shop.example".into()])
                .unwrap();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let made = parameters.self_signed(&key).unwrap();
        let read = Certificate::of_der(made.der()).unwrap();
        assert_eq!(read.names_text(), "shop.example, *.shop.example");
        assert_eq!((read.not_before, read.not_after), (1_577_836_800, 1_893_456_000));
        assert_eq!((read.key, read.key_bits), (KeyKind::Ecdsa, 384));
        assert!(read.id_text().starts_with("certificate/") && read.id_text().len() == 28);
        assert!(Certificate::of_der(b"no DER").is_err());
        assert!(Certificate::of_der(&made.der()[..40]).is_err());
    }
}
