//! What a certificate says of itself: its names, when it is valid, what it is told apart by.

use sha2::{Digest, Sha256};
use std::fmt;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// The end entity's certificate of a chain.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The host names it is for, lower case, as `shop.example` and `*.shop.example`.
    pub names: Vec<Box<str>>,
    /// The first second of its life, since the Unix epoch; 0 for one before it.
    pub not_before: u64,
    /// The last one.
    pub not_after: u64,
    /// The first bytes of the SHA-256 of its DER.
    pub fingerprint: [u8; 8],
    /// What its key is.
    pub key: KeyKind,
    /// Bits of its key.
    pub key_bits: usize,
}

/// What a key is. The greater is preferred where a client takes both (AWS, "SSL certificates for
/// your Application Load Balancer": ECDSA over RSA).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// Neither of the two.
    Other,
    /// RSA.
    Rsa,
    /// ECDSA.
    Ecdsa,
}

/// How a certificate stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It is valid, and for a while.
    Valid,
    /// Its life begins in so many days, rounded up.
    NotYet(u64),
    /// It is valid for so many more days, rounded down, and that is few.
    EndsSoon(u64),
    /// Its life ended so many days ago, rounded down.
    Expired(u64),
}

/// Few enough days to warn: certificates are commonly renewed a month before they end.
const SOON: u64 = 14;
const DAY: u64 = 86_400;

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    /// What is wrong, in the parser's words.
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

    /// How it stands at this second since the Unix epoch.
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

    /// `shop.example, *.shop.example`, or words where there is no name; the first few of many.
    pub fn names_text(&self) -> String {
        const SHOWN: usize = 5;
        let shown: Vec<&str> = self.names.iter().take(SHOWN).map(|name| &**name).collect();
        match self.names.len() {
            0 => "no host name".to_owned(),
            count if count > SHOWN => format!("{} and {} more", shown.join(", "), count - SHOWN),
            _ => shown.join(", "),
        }
    }

    /// `certificate/` and 16 digits: the place of AWS's ARN in its access log.
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

/// The DNS names among the alternative names. The subject's common name counts only where there
/// are none (RFC 9525 has done away with it; old certificates have nothing else).
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
    fn a_certificate_stands_by_the_second_and_is_told_of_in_days() {
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
    fn names_dates_and_key_are_those_in_the_certificate() {
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
