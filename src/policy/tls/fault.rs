//! Reasons for failed handshakes, as a fixed set of words.

use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible};

/// The reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFault {
    /// It took longer than `timeouts.header_read`.
    TimedOut,
    /// The client left during the handshake.
    ClientGone,
    /// The client speaks HTTP without TLS.
    PlainHttp,
    /// The bytes are not TLS, or invalid TLS.
    NotTls,
    /// The client and the listener have no common version of TLS.
    NoCommonVersion,
    /// They have no common cipher, group or signature.
    NoCommonCipher,
    /// They have no common protocol within TLS.
    NoCommonProtocol,
    /// The client ended it, often because it does not trust the certificate.
    ClientRefused,
    /// The client sent no certificate.
    NoClientCertificate,
    /// No accepted authority issued the client's certificate.
    ClientCertificateUntrusted,
    /// The client's certificate has expired, or is not valid yet.
    ClientCertificateExpired,
    /// The client's certificate is invalid in another way.
    ClientCertificateInvalid,
    /// Any other failure.
    Other,
}

impl HandshakeFault {
    /// All reasons, in the order of their counters.
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

    /// The reason's word.
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

    /// Maps an error of the library to its reason.
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
    fn each_fault_has_its_own_counter_and_word() {
        for (at, fault) in HandshakeFault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, at);
            let same = HandshakeFault::ALL.iter().filter(|other| other.word() == fault.word());
            assert_eq!(same.count(), 1);
        }
    }

    #[test]
    fn each_error_of_the_library_maps_to_its_word() {
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
