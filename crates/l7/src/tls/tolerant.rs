//! Clients whose certificate does not hold, and who are let in all the same where the configuration says so.
//! In: a certificate. Out: what is wrong with it. Never: a client that does not have the certificate's key.

use std::sync::Arc;

use evenkeel_model::CertificateFault;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Overlooks what is named; `inner` knows what is wrong.
#[derive(Debug)]
pub struct Tolerant {
    pub inner: Arc<dyn ClientCertVerifier>,
    pub ignore: Vec<CertificateFault>,
}

impl Tolerant {
    /// What is wrong with a certificate that was let in.
    pub fn fault(&self, chain: &[CertificateDer<'_>]) -> Option<CertificateFault> {
        let (leaf, others) = chain.split_first()?;
        let now = UnixTime::now();
        let verified = self.inner.verify_client_cert(leaf, others, now);
        verified.err().map(|error| fault_of(&error, leaf, now).unwrap_or(CertificateFault::Other))
    }
}

/// None where it is not the client's own certificate that is to blame.
fn fault_of(error: &Error, leaf: &CertificateDer<'_>, now: UnixTime) -> Option<CertificateFault> {
    use CertificateError as E;
    let Error::InvalidCertificate(error) = error else { return None };
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = || X509Certificate::from_der(leaf).ok().map(|(_, parsed)| parsed.validity().clone());
    Some(match error {
        E::Expired | E::ExpiredContext { .. } => {
            validity().filter(|v| v.not_after.timestamp() < seconds).map(|_| CertificateFault::Expired)?
        }
        E::NotValidYet | E::NotValidYetContext { .. } => validity()
            .filter(|v| v.not_before.timestamp() > seconds)
            .map(|_| CertificateFault::NotYetValid)?,
        E::Revoked => CertificateFault::Revoked,
        E::UnknownIssuer => CertificateFault::UnknownIssuer,
        E::BadSignature => CertificateFault::BadSignature,
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => CertificateFault::WrongUse,
        E::UnknownRevocationStatus => CertificateFault::NoRevocationList,
        E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => {
            CertificateFault::RevocationListExpired
        }
        _ => CertificateFault::Other,
    })
}

impl ClientCertVerifier for Tolerant {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(certificate, others, now);
        verified.or_else(|error| match fault_of(&error, certificate, now) {
            Some(fault) if self.ignore.contains(&fault) => Ok(ClientCertVerified::assertion()),
            _ => Err(error),
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
