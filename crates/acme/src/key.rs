//! Keys: of accounts, which sign what is sent, and of certificates.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use data_encoding::BASE64URL_NOPAD;
use evenkeel_model::KeyType;
use serde_json::{Value, json};

/// The key of an account: P-256.
pub struct AccountKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl std::fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccountKey")
    }
}

impl AccountKey {
    pub fn make() -> Result<AccountKey, String> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| "a key of an account cannot be made")?;
        AccountKey::from_pkcs8(pkcs8.as_ref())
    }

    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<AccountKey, String> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
            .map_err(|_| "the key of the account is no P-256 key")?;
        Ok(AccountKey { pair, pkcs8: pkcs8.to_vec() })
    }

    /// For storing.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// RFC 7517. Members in the order that the thumbprint wants.
    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        // 4, then the two coordinates.
        let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
        json!({ "crv": "P-256", "kty": "EC", "x": BASE64URL_NOPAD.encode(x), "y": BASE64URL_NOPAD.encode(y) })
    }

    /// RFC 7638.
    pub fn thumbprint(&self) -> String {
        BASE64URL_NOPAD.encode(digest(&SHA256, self.jwk().to_string().as_bytes()).as_ref())
    }

    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| "a message to the authority cannot be signed")?.as_ref().to_vec())
    }
}

/// The key of a certificate.
pub struct CertificateKey(rcgen::KeyPair);

impl std::fmt::Debug for CertificateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificateKey")
    }
}

impl CertificateKey {
    pub fn make(kind: KeyType) -> Result<CertificateKey, String> {
        use rcgen::RsaKeySize;
        let made = match kind {
            KeyType::EcdsaP256 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyType::EcdsaP384 => rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyType::Rsa2048 => rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
            KeyType::Rsa4096 => rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
        };
        made.map(CertificateKey).map_err(|e| format!("a key cannot be made: {e}"))
    }

    pub fn from_pem(pem: &str) -> Result<CertificateKey, String> {
        rcgen::KeyPair::from_pem(pem).map(CertificateKey).map_err(|e| format!("the key cannot be read: {e}"))
    }

    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// Whether it is of a kind.
    pub fn is(&self, kind: KeyType) -> bool {
        let raw = self.0.public_key_raw().len();
        match kind {
            KeyType::EcdsaP256 => self.0.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyType::EcdsaP384 => self.0.is_compatible(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyType::Rsa2048 => self.0.is_compatible(&rcgen::PKCS_RSA_SHA256) && raw < 400,
            KeyType::Rsa4096 => self.0.is_compatible(&rcgen::PKCS_RSA_SHA256) && raw >= 400,
        }
    }

    /// The public key's own bytes, as certificates hold them.
    pub fn public(&self) -> &[u8] {
        self.0.public_key_raw()
    }

    /// A request for a certificate, DER.
    pub fn request(&self, names: &[String]) -> Result<Vec<u8>, String> {
        let failed = |e: rcgen::Error| format!("the request for a certificate cannot be made: {e}");
        let mut parameters = rcgen::CertificateParams::new(names.to_vec()).map_err(failed)?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        let request = parameters.serialize_request(&self.0).map_err(failed)?;
        Ok(request.der().to_vec())
    }
}
