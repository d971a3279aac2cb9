//! What can be wrong with a peer's certificate, and how each fault looks on the wire and in the ledger.

use std::io;

use banqiao_proto::exchange::v1::Reason;
use rustls::{AlertDescription, CertificateError, Error as TlsError};

/// Why a certificate is refused.
///
/// Each fault has one [`Reason`], and so one TLS alert: the table in `banqiao/exchange/v1/reason.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CertificateFault {
    /// The city's CA has no CRL at hand, or it is past its grace: the status is unknown, so it is denied.
    #[error("no CRL of the certificate's city is at hand, or it is past its grace")]
    CrlUnavailable,
    /// Before or after the certificate's own validity.
    #[error("the certificate is not yet or no longer valid")]
    Expired,
    /// The certificate breaks the profile, or is not of the identity that was asked for; the text says how.
    #[error("the certificate breaks the profile: {0}")]
    Invalid(&'static str),
    /// The peer sent no certificate.
    #[error("the peer sent no certificate")]
    Missing,
    /// On its city's CRL.
    #[error("the certificate is revoked")]
    Revoked,
    /// Not issued by a CA of the city that its SPIFFE ID names, or that CA's own certificate has expired.
    #[error("the certificate is not issued by a CA of the city that its SPIFFE ID names")]
    Untrusted,
}

impl CertificateFault {
    /// The reason under which the fault is counted.
    pub const fn reason(self) -> Reason {
        match self {
            Self::CrlUnavailable => Reason::CrlUnavailable,
            Self::Expired => Reason::CertificateExpired,
            Self::Invalid(_) => Reason::CertificateInvalid,
            Self::Missing => Reason::CertificateMissing,
            Self::Revoked => Reason::CertificateRevoked,
            Self::Untrusted => Reason::CertificateUntrusted,
        }
    }

    /// The error that makes rustls send the alert of the reason table.
    pub(crate) fn into_tls(self) -> TlsError {
        TlsError::InvalidCertificate(match self {
            Self::CrlUnavailable => CertificateError::UnknownRevocationStatus,
            Self::Expired => CertificateError::Expired,
            Self::Invalid(_) => CertificateError::BadEncoding,
            // rustls itself answers a missing certificate, with `certificate_required`.
            Self::Missing => return TlsError::NoCertificatesPresented,
            Self::Revoked => CertificateError::Revoked,
            Self::Untrusted => CertificateError::UnknownIssuer,
        })
    }
}

/// The fault of the peer's certificate that made a handshake fail on this side.
///
/// `None` for every other cause: a broken connection, another protocol, an alert of the peer. The text of
/// [`CertificateFault::Invalid`] is a general one here; the verifier logs the particular one at debug level.
pub fn handshake_fault(error: &io::Error) -> Option<CertificateFault> {
    let cause = match tls_error(error)? {
        TlsError::InvalidCertificate(cause) => cause,
        TlsError::NoCertificatesPresented => return Some(CertificateFault::Missing),
        _ => return None,
    };
    Some(match cause {
        CertificateError::BadEncoding => CertificateFault::Invalid("see the debug log"),
        CertificateError::Expired => CertificateFault::Expired,
        CertificateError::Revoked => CertificateFault::Revoked,
        CertificateError::UnknownIssuer => CertificateFault::Untrusted,
        CertificateError::UnknownRevocationStatus => CertificateFault::CrlUnavailable,
        // The rest is not of our verifiers: a handshake signature that does not fit the certificate's key.
        _ => return None,
    })
}

/// What the peer said of our own certificate, from the alert with which it ended the connection.
///
/// In TLS 1.3 a server judges the client after the client's handshake is complete, so a client sees this as the
/// error of its first read, not of its connect. `unknown_ca` reads as [`CertificateFault::Untrusted`], although a
/// peer without our city's CRL sends it too.
pub fn refusal_by_peer(error: &io::Error) -> Option<CertificateFault> {
    let TlsError::AlertReceived(alert) = tls_error(error)? else {
        return None;
    };
    Some(match alert {
        AlertDescription::BadCertificate => CertificateFault::Invalid("says the peer"),
        AlertDescription::CertificateExpired => CertificateFault::Expired,
        AlertDescription::CertificateRequired => CertificateFault::Missing,
        AlertDescription::CertificateRevoked => CertificateFault::Revoked,
        AlertDescription::UnknownCA => CertificateFault::Untrusted,
        _ => return None,
    })
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [CertificateFault; 6] = [
        CertificateFault::CrlUnavailable,
        CertificateFault::Expired,
        CertificateFault::Invalid("see the debug log"),
        CertificateFault::Missing,
        CertificateFault::Revoked,
        CertificateFault::Untrusted,
    ];

    #[test]
    fn every_fault_is_read_back_from_the_handshake_error() {
        for fault in ALL {
            let error = io::Error::new(io::ErrorKind::InvalidData, fault.into_tls());
            assert_eq!(handshake_fault(&error), Some(fault));
        }
        assert_eq!(
            handshake_fault(&io::ErrorKind::ConnectionReset.into()),
            None
        );
    }

    #[test]
    fn alerts_are_those_of_the_reason_table() {
        for fault in ALL {
            let alert = match fault.into_tls() {
                TlsError::InvalidCertificate(cause) => AlertDescription::from(cause),
                _ => AlertDescription::CertificateRequired,
            };
            let name = match alert {
                AlertDescription::BadCertificate => "bad_certificate",
                AlertDescription::CertificateExpired => "certificate_expired",
                AlertDescription::CertificateRequired => "certificate_required",
                AlertDescription::CertificateRevoked => "certificate_revoked",
                AlertDescription::UnknownCA => "unknown_ca",
                other => panic!("{other:?}"),
            };
            assert_eq!(banqiao_proto::reasons().rule(fault.reason()).alert, name);
        }
    }
}
