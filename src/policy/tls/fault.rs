//! Why a handshake came to nothing, in words that are few and fixed.

use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible};

/// The cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFault {
    /// It took longer than `timeouts.header_read`.
    TimedOut,
    /// The client left in the middle of it.
    ClientGone,
    /// The client speaks HTTP without TLS.
    PlainHttp,
    /// What came is no TLS, or broken TLS.
    NotTls,
    /// No version of TLS is common.
    NoCommonVersion,
    /// No cipher, group or signature is common.
    NoCommonCipher,
    /// No protocol within TLS is common.
    NoCommonProtocol,
    /// The client ended it, often because it does not believe the certificate.
    ClientRefused,
    /// The client showed no certificate.
    NoClientCertificate,
    /// The client's certificate is not one of those taken.
    ClientCertificateUntrusted,
    /// The client's certificate has expired, or is not valid yet.
    ClientCertificateExpired,
    /// The client's certificate is wrong in another way.
    ClientCertificateInvalid,
    /// Anything else.
    Other,
}

impl HandshakeFault {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 13] = [
        Self::TimedOut,
        Self::ClientGone,
        Self::PlainHttp,
        Self::NotTls,
        Self::NoCommonVersion,
        Self::NoCommonCipher,
        Self::NoCommonProtocol,
        Self::ClientRefused,
        Self::NoClientCertificate,
        Self::ClientCertificateUntrusted,
        Self::ClientCertificateExpired,
        Self::ClientCertificateInvalid,
        Self::Other,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::ClientGone => "client_gone",
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::NoCommonVersion => "no_common_version",
            Self::NoCommonCipher => "no_common_cipher",
            Self::NoCommonProtocol => "no_common_protocol",
            Self::ClientRefused => "client_refused",
            Self::NoClientCertificate => "no_client_certificate",
            Self::ClientCertificateUntrusted => "client_certificate_untrusted",
            Self::ClientCertificateExpired => "client_certificate_expired",
            Self::ClientCertificateInvalid => "client_certificate_invalid",
            Self::Other => "other",
        }
    }

    /// Of what the library says.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion)
            | Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            ) => Self::NoCommonVersion,
            Error::PeerIncompatible(_) => Self::NoCommonCipher,
            Error::NoApplicationProtocol => Self::NoCommonProtocol,
            Error::AlertReceived(_) => Self::ClientRefused,
            Error::NoCertificatesPresented => Self::NoClientCertificate,
            Error::InvalidCertificate(why) => match why {
                CertificateError::UnknownIssuer => Self::ClientCertificateUntrusted,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::ClientCertificateExpired,
                _ => Self::ClientCertificateInvalid,
            },
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(_)
            | Error::DecryptError
            | Error::PeerSentOversizedRecord => Self::NotTls,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::AlertDescription;

    #[test]
    fn each_fault_is_counted_in_its_own_place_under_its_own_word() {
        for (at, fault) in HandshakeFault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, at);
            let same = HandshakeFault::ALL.iter().filter(|other| other.word() == fault.word());
            assert_eq!(same.count(), 1);
        }
    }

    #[test]
    fn what_the_library_says_has_its_word() {
        for (error, word) in [
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "not_tls"),
            (Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered), "no_common_version"),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), "no_common_cipher"),
            (Error::NoApplicationProtocol, "no_common_protocol"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "client_refused"),
            (Error::NoCertificatesPresented, "no_client_certificate"),
            (CertificateError::UnknownIssuer.into(), "client_certificate_untrusted"),
            (CertificateError::NotValidYet.into(), "client_certificate_expired"),
            (CertificateError::BadSignature.into(), "client_certificate_invalid"),
            (Error::General("x".to_owned()), "other"),
        ] {
            assert_eq!(HandshakeFault::of(&error).word(), word, "{error}");
        }
    }
}
