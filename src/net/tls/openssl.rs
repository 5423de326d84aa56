//! Failed handshakes in OpenSSL's words, which is what nginx logs and people search for.

use rustls::{AlertDescription, Error, PeerIncompatible, PeerMisbehaved};

use super::handshake::Failure;

/// What OpenSSL would have said.
pub fn words(failure: &Failure) -> String {
    match failure {
        Failure::Rejected => "error:0A0000EA:SSL routines::callback failed".to_owned(),
        Failure::NoCertificate => "error:0A000179:SSL routines::cert cb error".to_owned(),
        Failure::Tls(error) => error_words(error),
        Failure::Closed | Failure::Io(_) => "unexpected eof while reading".to_owned(),
    }
}

/// What OpenSSL would have said to an error of rustls; rustls's own words where the two do not meet.
pub fn error_words(error: &Error) -> String {
    let known = match error {
        Error::AlertReceived(alert) => return alert_words(*alert),
        Error::NoApplicationProtocol => "0A0000EB:SSL routines::no application protocol",
        Error::DecryptError => "0A000119:SSL routines::decryption failed or bad record mac",
        Error::PeerIncompatible(why) => match why {
            PeerIncompatible::NoCipherSuitesInCommon => "0A0000C1:SSL routines::no shared cipher",
            PeerIncompatible::NoKxGroupsInCommon => "0A000065:SSL routines::no suitable key share",
            PeerIncompatible::NoSignatureSchemesInCommon => "0A000076:SSL routines::no suitable signature algorithm",
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => "0A000102:SSL routines::unsupported protocol",
            _ => return format!("error:{error}"),
        },
        Error::InvalidMessage(_) => "0A00010B:SSL routines::wrong version number",
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "0A0000F4:SSL routines::unexpected message"
        }
        Error::PeerMisbehaved(PeerMisbehaved::BadCertChainExtensions) => "0A00006E:SSL routines::bad extension",
        other => return format!("error:{other}"),
    };
    format!("error:{known}")
}

fn alert_words(alert: AlertDescription) -> String {
    let number = u8::from(alert);
    let words = match alert {
        AlertDescription::UnexpectedMessage => "ssl/tls alert unexpected message",
        AlertDescription::BadRecordMac => "ssl/tls alert bad record mac",
        AlertDescription::HandshakeFailure => "ssl/tls alert handshake failure",
        AlertDescription::BadCertificate => "ssl/tls alert bad certificate",
        AlertDescription::UnsupportedCertificate => "ssl/tls alert unsupported certificate",
        AlertDescription::CertificateRevoked => "ssl/tls alert certificate revoked",
        AlertDescription::CertificateExpired => "ssl/tls alert certificate expired",
        AlertDescription::CertificateUnknown => "ssl/tls alert certificate unknown",
        AlertDescription::IllegalParameter => "ssl/tls alert illegal parameter",
        AlertDescription::UnknownCA => "tlsv1 alert unknown ca",
        AlertDescription::AccessDenied => "tlsv1 alert access denied",
        AlertDescription::DecodeError => "tlsv1 alert decode error",
        AlertDescription::DecryptError => "tlsv1 alert decrypt error",
        AlertDescription::ProtocolVersion => "tlsv1 alert protocol version",
        AlertDescription::InsufficientSecurity => "tlsv1 alert insufficient security",
        AlertDescription::InternalError => "tlsv1 alert internal error",
        AlertDescription::UserCanceled => "tlsv1 alert user cancelled",
        AlertDescription::NoRenegotiation => "tlsv1 alert no renegotiation",
        AlertDescription::UnrecognisedName => "tlsv1 unrecognized name",
        AlertDescription::CertificateRequired => "tlsv13 alert certificate required",
        AlertDescription::NoApplicationProtocol => "tlsv1 alert no application protocol",
        _ => "tlsv1 alert",
    };
    format!("error:0A{:06X}:SSL routines::{words}:SSL alert number {number}", 1000 + u32::from(number))
}
