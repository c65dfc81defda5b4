//! Signatures of JSON Web Tokens in compact form (RFC 7515, RFC 7518): `HEADER.PAYLOAD.SIGNATURE`, each
//! part in Base64 for addresses.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self as sign, ParsedPublicKey, VerificationAlgorithm};

use crate::convert::unbase64;

/// Algorithms with a public key. `none` is not there: a token without a signature proves nothing.
const WITH_PUBLIC_KEY: [(&str, &dyn VerificationAlgorithm); 9] = [
    ("RS256", &sign::RSA_PKCS1_2048_8192_SHA256),
    ("RS384", &sign::RSA_PKCS1_2048_8192_SHA384),
    ("RS512", &sign::RSA_PKCS1_2048_8192_SHA512),
    ("PS256", &sign::RSA_PSS_2048_8192_SHA256),
    ("PS384", &sign::RSA_PSS_2048_8192_SHA384),
    ("PS512", &sign::RSA_PSS_2048_8192_SHA512),
    ("ES256", &sign::ECDSA_P256_SHA256_FIXED),
    ("ES384", &sign::ECDSA_P384_SHA384_FIXED),
    ("ES512", &sign::ECDSA_P521_SHA512_FIXED),
];

const WITH_SECRET: [(&str, hmac::Algorithm); 3] =
    [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];

/// What came of a check; as texts the numbers that HAProxy's `jwt_verify` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    Yes,
    No,
    /// No algorithm of RFC 7518, or none for this kind of key.
    UnknownAlgorithm,
    /// It has not three parts, its signature is not in Base64, or is no pair of numbers
    /// where it has to be.
    InvalidToken,
    /// The algorithm has a public key, and what is there is a secret.
    NoCertificate,
}

impl Verified {
    pub fn as_str(self) -> &'static str {
        match self {
            Verified::Yes => "1",
            Verified::No => "0",
            Verified::UnknownAlgorithm => "-1",
            Verified::InvalidToken => "-3",
            Verified::NoCertificate => "-5",
        }
    }
}

/// The algorithm is one of those with a secret.
pub fn has_secret(algorithm: &[u8]) -> bool {
    WITH_SECRET.iter().any(|(name, _)| name.as_bytes() == algorithm)
}

/// The algorithm is one of those with a public key.
pub fn has_public_key(algorithm: &[u8]) -> bool {
    WITH_PUBLIC_KEY.iter().any(|(name, _)| name.as_bytes() == algorithm)
}

/// What is signed, and the signature.
fn parts(token: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let mut dots = memchr::memchr_iter(b'.', token);
    let (Some(_), Some(second), None) = (dots.next(), dots.next(), dots.next()) else { return None };
    let text = &token[second + 1..];
    // One sign more than whole bytes have is no Base64.
    let signature = unbase64(text, true).filter(|bytes| !bytes.is_empty() && text.len() % 4 != 1)?;
    Some((&token[..second], signature))
}

/// Whether a token was signed with a secret.
pub fn verified_by_secret(token: &[u8], algorithm: &[u8], secret: &[u8]) -> Verified {
    let Some((_, digest)) = WITH_SECRET.iter().find(|(name, _)| name.as_bytes() == algorithm) else {
        return match (has_public_key(algorithm), parts(token)) {
            (false, _) => Verified::UnknownAlgorithm,
            (true, None) => Verified::InvalidToken,
            (true, Some(_)) => Verified::NoCertificate,
        };
    };
    let Some((signed, signature)) = parts(token) else { return Verified::InvalidToken };
    match hmac::verify(&hmac::Key::new(*digest, secret), signed, &signature) {
        Ok(()) if !secret.is_empty() => Verified::Yes,
        _ => Verified::No,
    }
}

/// A public key, ready for each algorithm that it fits.
#[derive(Clone)]
pub struct PublicKey(Vec<(&'static str, ParsedPublicKey)>);

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl PublicKey {
    /// Of the first `PUBLIC KEY` or `CERTIFICATE` of a file (PEM, RFC 7468).
    pub fn read(text: &str) -> Result<PublicKey, String> {
        let mut info = None;
        for block in x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()).filter_map(Result::ok) {
            info = match block.label.as_str() {
                "PUBLIC KEY" => Some(block.contents),
                "CERTIFICATE" => {
                    let certificate = block.parse_x509().map_err(|_| "its certificate cannot be read")?;
                    Some(certificate.public_key().raw.to_vec())
                }
                _ => continue,
            };
            break;
        }
        let info = info.ok_or("expected a public key or a certificate (PEM)")?;
        let fit = |(name, algorithm): &(&'static str, &'static dyn VerificationAlgorithm)| {
            ParsedPublicKey::new(*algorithm, &info).ok().map(|key| (*name, key))
        };
        let all: Vec<_> = WITH_PUBLIC_KEY.iter().filter_map(fit).collect();
        match all.is_empty() {
            true => {
                Err("its key is neither RSA (2048 to 8192 bits) nor of the curves P-256, P-384 and P-521"
                    .into())
            }
            false => Ok(PublicKey(all)),
        }
    }

    /// Whether a token was signed with the key that belongs to this one.
    pub fn verify(&self, token: &[u8], algorithm: &[u8]) -> Verified {
        if !has_public_key(algorithm) {
            return Verified::UnknownAlgorithm;
        }
        // One of a curve is two numbers of the same length (RFC 7518 section 3.4).
        let fits = |signature: &[u8]| !algorithm.starts_with(b"ES") || signature.len().is_multiple_of(2);
        let Some((signed, signature)) = parts(token).filter(|(_, signature)| fits(signature)) else {
            return Verified::InvalidToken;
        };
        let key = self.0.iter().find(|(name, _)| name.as_bytes() == algorithm);
        match key.map(|(_, key)| key.verify_sig(signed, &signature)) {
            Some(Ok(())) => Verified::Yes,
            _ => Verified::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair, RsaKeyPair};

    use super::*;
    use crate::convert::base64;

    /// A token with a header that nobody looks at here.
    fn token(sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let signed = [base64(b"{\"alg\":\"?\"}", true), base64(b"{\"sub\":\"me\"}", true)].join(&b'.');
        let signature = base64(&sign(&signed), true);
        [signed, signature].join(&b'.')
    }

    fn pem(spki: &PublicKeyX509Der<'_>) -> String {
        let text = String::from_utf8(base64(spki.as_ref(), false)).unwrap();
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// Every algorithm's token with every algorithm that could be asked for: one is right.
    #[test]
    fn each_algorithm_takes_its_own_signatures_alone() {
        let random = SystemRandom::new();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa_key = PublicKey::read(&pem(&rsa.public_key().as_der().unwrap())).unwrap();
        let mut tokens = Vec::new();
        for (name, padding) in [
            ("RS256", &sign::RSA_PKCS1_SHA256 as &'static dyn sign::RsaEncoding),
            ("RS384", &sign::RSA_PKCS1_SHA384),
            ("RS512", &sign::RSA_PKCS1_SHA512),
            ("PS256", &sign::RSA_PSS_SHA256),
            ("PS384", &sign::RSA_PSS_SHA384),
            ("PS512", &sign::RSA_PSS_SHA512),
        ] {
            let made = token(|signed| {
                let mut signature = vec![0; rsa.public_modulus_len()];
                rsa.sign(padding, &random, signed, &mut signature).unwrap();
                signature
            });
            tokens.push((name, made, rsa_key.clone()));
        }
        for (name, algorithm) in [
            ("ES256", &sign::ECDSA_P256_SHA256_FIXED_SIGNING),
            ("ES384", &sign::ECDSA_P384_SHA384_FIXED_SIGNING),
            ("ES512", &sign::ECDSA_P521_SHA512_FIXED_SIGNING),
        ] {
            let pair = EcdsaKeyPair::generate(algorithm).unwrap();
            let key = PublicKey::read(&pem(&pair.public_key().as_der().unwrap())).unwrap();
            let made = token(|signed| pair.sign(&random, signed).unwrap().as_ref().to_vec());
            tokens.push((name, made, key));
        }
        for (own, made, key) in &tokens {
            for (asked, _) in WITH_PUBLIC_KEY {
                let expect = if asked == *own { Verified::Yes } else { Verified::No };
                assert_eq!(key.verify(made, asked.as_bytes()), expect, "{own} as {asked}");
            }
            for (asked, _) in WITH_SECRET {
                assert_eq!(key.verify(made, asked.as_bytes()), Verified::UnknownAlgorithm);
            }
            for at in [0, made.len() / 2, made.len() - 3] {
                let mut bent = made.clone();
                bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
                assert_ne!(
                    key.verify(&bent, own.as_bytes()),
                    Verified::Yes,
                    "{own} with another sign at {at}"
                );
            }
        }
    }

    #[test]
    fn secrets_sign_too() {
        for (name, digest) in WITH_SECRET {
            let key = hmac::Key::new(digest, b"secret");
            let made = token(|signed| hmac::sign(&key, signed).as_ref().to_vec());
            assert_eq!(verified_by_secret(&made, name.as_bytes(), b"secret"), Verified::Yes);
            assert_eq!(verified_by_secret(&made, name.as_bytes(), b"Secret"), Verified::No);
            for other in WITH_SECRET.iter().filter(|(other, _)| *other != name) {
                assert_eq!(verified_by_secret(&made, other.0.as_bytes(), b"secret"), Verified::No);
            }
            assert_eq!(verified_by_secret(&made, b"RS256", b"secret"), Verified::NoCertificate);
            for other in ["none", "", "hs256"] {
                let found = verified_by_secret(&made, other.as_bytes(), b"secret");
                assert_eq!(found, Verified::UnknownAlgorithm, "{other}");
            }
        }
        // Nobody signs with nothing.
        let made =
            token(|signed| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b""), signed).as_ref().to_vec());
        assert_eq!(verified_by_secret(&made, b"HS256", b""), Verified::No);
        for bad in ["", "a", "a.b", "a.b.", "a.b.c.d", "a.b.!", "a.b.c", "a.b.AAAAA", ".."] {
            assert_eq!(verified_by_secret(bad.as_bytes(), b"HS256", b"x"), Verified::InvalidToken, "{bad}");
        }
    }

    #[test]
    fn what_is_no_key_is_told() {
        let told = |text: &str| PublicKey::read(text).unwrap_err();
        assert!(told("").contains("expected a public key or a certificate"));
        let block = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        assert!(told(block).contains("neither RSA"));
        assert!(told(&block.replace("PUBLIC KEY", "CERTIFICATE")).contains("cannot be read"));
        assert!(told(&block.replace("PUBLIC KEY", "PRIVATE KEY")).contains("expected a public key"));
    }
}
