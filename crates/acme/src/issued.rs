//! What an authority has given, checked before it replaces anything.

use std::net::IpAddr;

use data_encoding::BASE64URL_NOPAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::Seconds;
use crate::key::CertificateKey;

/// Certificates of a chain.
const CHAIN_AT_MOST: usize = 10;

/// A certificate with its key, ready to be stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The chain, then the key.
    pub pem: String,
    pub not_before: Seconds,
    pub not_after: Seconds,
    pub issuer: String,
    /// How the authority's renewal information names it (RFC 9773).
    pub renewal_id: Option<String>,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("not_after", &self.not_after).field("issuer", &self.issuer).finish()
    }
}

/// The chain of a PEM text, in order.
fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).take(CHAIN_AT_MOST + 1).collect();
    match parsed {
        Ok(chain) if chain.is_empty() => Err("what the authority sent holds no certificate".into()),
        Ok(chain) if chain.len() > CHAIN_AT_MOST => Err("the authority's chain is too long".into()),
        Ok(chain) => Ok(chain),
        Err(_) => Err("what the authority sent is no PEM".into()),
    }
}

/// Whether the key in a PEM text is that of its first certificate.
pub fn key_fits(pem: &str) -> Result<(), String> {
    use rustls::pki_types::PrivateKeyDer;
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "there is no key in it")?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|e| e.to_string())?;
    let certified = rustls::sign::CertifiedKey::new(chain(pem.as_bytes())?, key);
    certified.keys_match().map_err(|_| "the key is that of another certificate".into())
}

/// Whether the chain ends at an issuer of this common name.
pub fn ends_at(pem: &[u8], wanted: &str) -> bool {
    let Ok(chain) = chain(pem) else { return false };
    chain.last().is_some_and(|der| {
        let Ok((_, last)) = X509Certificate::from_der(der) else { return false };
        last.issuer().iter_common_name().any(|name| name.as_str() == Ok(wanted))
    })
}

/// Whether a chain is what was ordered: for this key, all names, and now.
pub fn check(pem: &[u8], key: &CertificateKey, names: &[String], now: Seconds) -> Result<Issued, String> {
    let chain = chain(pem)?;
    for der in &chain {
        X509Certificate::from_der(der).map_err(|_| "a certificate of the authority cannot be read")?;
    }
    let leaf = chain.first().ok_or("there is no certificate")?;
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|_| "the certificate of the authority cannot be read")?;
    if parsed.public_key().subject_public_key.data.as_ref() != key.public() {
        return Err("the authority's certificate is for another key".into());
    }
    let held = names_of(&parsed);
    if let Some(missing) = names.iter().find(|name| !held.contains(name)) {
        return Err(format!("the authority's certificate is not for {missing}"));
    }
    let (not_before, not_after) =
        (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    if not_after <= now {
        return Err("the authority's certificate has ended already: look at the clocks".into());
    }
    let mut whole = String::new();
    for der in &chain {
        let text = data_encoding::BASE64.encode(der);
        whole.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            whole.push_str(&String::from_utf8_lossy(line));
            whole.push('\n');
        }
        whole.push_str("-----END CERTIFICATE-----\n");
    }
    whole.push_str(&key.pem());
    Ok(Issued {
        pem: whole,
        not_before,
        not_after,
        issuer: parsed.issuer().to_string(),
        renewal_id: renewal_id(&parsed),
    })
}

fn names_of(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternative)) = parsed.subject_alternative_name() else { return Vec::new() };
    let names = alternative.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(four) => Some(IpAddr::from(four).to_string()),
            Err(_) => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    });
    names.collect()
}

/// RFC 9773 section 4.1.
pub(crate) fn renewal_id(parsed: &X509Certificate<'_>) -> Option<String> {
    use x509_parser::extensions::ParsedExtension;
    let id = parsed.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(found) => found.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    })?;
    let serial = parsed.raw_serial();
    Some(format!("{}.{}", BASE64URL_NOPAD.encode(id), BASE64URL_NOPAD.encode(serial)))
}

#[cfg(test)]
mod tests {
    use evenkeel_model::KeyType;

    use super::*;

    fn made(key: &CertificateKey, names: &[&str], days: i64) -> String {
        let pair = rcgen::KeyPair::from_pem(&key.pem()).unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        let (y, m, d) = if days > 0 { (2200, 1, 1) } else { (2001, 1, 1) };
        parameters.not_before = rcgen::date_time_ymd(2000, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(y, m, d);
        parameters.self_signed(&pair).unwrap().pem()
    }

    #[test]
    fn only_what_was_ordered_is_taken() {
        let key = CertificateKey::make(KeyType::EcdsaP256).unwrap();
        let other = CertificateKey::make(KeyType::EcdsaP384).unwrap();
        assert!(key.is(KeyType::EcdsaP256) && !key.is(KeyType::EcdsaP384) && !key.is(KeyType::Rsa2048));
        let names = ["a.org".to_owned(), "*.b.org".to_owned(), "2001:db8::1".to_owned()];
        let all = ["a.org", "*.b.org", "2001:db8::1"];
        let good = made(&key, &all, 1);
        let now = 1_700_000_000;
        let issued = check(good.as_bytes(), &key, &names, now).unwrap();
        assert!(issued.pem.contains("BEGIN CERTIFICATE") && issued.pem.contains("PRIVATE KEY"));
        assert!(!format!("{issued:?}").contains("KEY"));
        let again =
            CertificateKey::from_pem(&issued.pem[issued.pem.find("-----BEGIN P").unwrap()..]).unwrap();
        assert_eq!(again.public(), key.public());
        for (pem, why) in [
            (made(&other, &all, 1), "another key"),
            (made(&key, &all[..2], 1), "not for 2001:db8::1"),
            (made(&key, &all, 0), "has ended"),
            (String::new(), "no certificate"),
            (good.repeat(11), "too long"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(), "cannot be read"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".into(), "no PEM"),
        ] {
            let error = check(pem.as_bytes(), &key, &names, now).unwrap_err();
            assert!(error.contains(why), "{error} instead of {why}");
        }
    }
}
