//! The key of a certificate, whatever else the certificate holds: of version 1, with extensions that nobody
//! knows, without names.
//!
//! In: certificates in DER. Out: whether a key or a signature is that of one.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved};
use x509_parser::asn1_rs::Sequence;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Whether a private key is that of the certificate.
pub fn has_key(certificate: &CertificateDer<'_>, key: &dyn SigningKey) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    key.public_key().is_some_and(|public| public.as_ref() == parsed.public_key().raw)
}

/// What a side shows that has one certificate: a chain, and the key of its first.
pub fn shown(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<Arc<SingleCertAndKey>, String> {
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(key);
    let key = key.map_err(|e| format!("the private key cannot be used: {e}"))?;
    match chain.first() {
        Some(first) if has_key(first, key.as_ref()) => {
            Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))))
        }
        Some(_) => Err("the private key is not that of the first certificate".into()),
        None => Err("holds no certificate".into()),
    }
}

/// As rustls does, of a certificate of any version.
pub fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    provider: &CryptoProvider,
) -> Result<HandshakeSignatureValid, Error> {
    let known = &provider.signature_verification_algorithms;
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return verify_tls12_signature(message, certificate, signed, known);
    };
    let key = parsed.public_key();
    let of_scheme = known.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let (_, algorithms) = of_scheme.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    let algorithm = algorithm_of(key.raw)
        .and_then(|id| algorithms.iter().find(|algorithm| algorithm.public_key_alg_id().as_ref() == id));
    let algorithm = algorithm.ok_or(CertificateError::BadSignature)?;
    match algorithm.verify_signature(&key.subject_public_key.data, message, signed.signature()) {
        Ok(()) => Ok(HandshakeSignatureValid::assertion()),
        Err(_) => Err(CertificateError::BadSignature.into()),
    }
}

/// As rustls does, of a certificate of any version.
pub fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    provider: &CryptoProvider,
) -> Result<HandshakeSignatureValid, Error> {
    let known = &provider.signature_verification_algorithms;
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => {
            let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
            verify_tls13_signature_with_raw_key(message, &key, signed, known)
        }
        Err(_) => verify_tls13_signature(message, certificate, signed, known),
    }
}

/// The bytes that say of what kind a key is: RFC 5280 section 4.1.2.7, without their own head.
fn algorithm_of(key: &[u8]) -> Option<&[u8]> {
    let whole = content(key)?;
    content(whole)
}

/// What a sequence holds.
fn content(der: &[u8]) -> Option<&[u8]> {
    let (_, sequence) = Sequence::from_der(der).ok()?;
    match sequence.content {
        std::borrow::Cow::Borrowed(content) => Some(content),
        std::borrow::Cow::Owned(_) => None,
    }
}
