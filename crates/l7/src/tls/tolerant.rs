//! Clients whose certificate does not hold, and who are let in all the same where the configuration says so.
//! In: a certificate. Out: what is wrong with it. Never: a client that does not have the certificate's key.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::CertificateFault;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

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

/// A time at which the certificate was good, where its dates alone are to blame: dates are looked at before the
/// chain, so that a certificate out of its dates may be anybody's.
fn in_its_dates(fault: CertificateFault, leaf: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let seconds = match fault {
        CertificateFault::Expired => parsed.validity().not_after.timestamp(),
        CertificateFault::NotYetValid => parsed.validity().not_before.timestamp(),
        _ => return None,
    };
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().ok()?)))
}

fn is_before_3(leaf: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(leaf).is_ok_and(|(_, parsed)| parsed.version() != X509Version::V3)
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
        // One of version 1 is refused in words of its own: none of the authorities signed it.
        E::Other(_) if is_before_3(leaf) => CertificateFault::UnknownIssuer,
        E::BadSignature => CertificateFault::BadSignature,
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => CertificateFault::WrongUse,
        E::UnknownRevocationStatus => CertificateFault::NoRevocationList,
        E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => {
            CertificateFault::RevocationListExpired
        }
        _ => CertificateFault::Other,
    })
}

/// Whether somebody of the authorities vouches for the certificate all the same, or nobody needs to. What else is
/// wrong with a certificate is found before its chain is looked at.
fn is_of_chain(fault: CertificateFault, anybody: bool) -> bool {
    use CertificateFault as F;
    anybody
        || matches!(
            fault,
            F::Revoked | F::BadSignature | F::UnknownIssuer | F::NoRevocationList | F::RevocationListExpired
        )
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
        let verify = |at| self.inner.verify_client_cert(certificate, others, at);
        let overlooked =
            |error: &Error, at| fault_of(error, certificate, at).filter(|fault| self.ignore.contains(fault));
        let Err(error) = verify(now) else { return Ok(ClientCertVerified::assertion()) };
        let Some(fault) = overlooked(&error, now) else { return Err(error) };
        let (error, fault) = match in_its_dates(fault, certificate) {
            Some(then) => match verify(then) {
                Ok(verified) => return Ok(verified),
                Err(other) => {
                    let fault = overlooked(&other, then);
                    (other, fault)
                }
            },
            None => (error, Some(fault)),
        };
        let anybody = self.ignore.contains(&CertificateFault::UnknownIssuer);
        match fault.is_some_and(|fault| is_of_chain(fault, anybody)) {
            true => Ok(ClientCertVerified::assertion()),
            false => Err(error),
        }
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
