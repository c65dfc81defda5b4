//! Answers to the challenges of an ACME authority: a text for http-01 (RFC 8555 section 8.3), a
//! certificate for tls-alpn-01 (RFC 8737). All loops share them; while there is none, a request or
//! handshake costs one look at a flag.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};

/// The protocol that the authority offers.
pub const ALPN: &[u8] = b"acme-tls/1";
const PATH: &[u8] = b"/.well-known/acme-challenge/";

/// One answer: `challenge` is `http-01` or `tls-alpn-01`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeAnswer {
    pub challenge: evenkeel_model::Challenge,
    /// The host name or address that is asked about.
    pub name: String,
    pub token: String,
    /// The key authorisation.
    pub text: String,
}

/// What is answered now.
#[derive(Default)]
pub struct Challenges {
    any: AtomicBool,
    texts: Mutex<HashMap<String, String>>,
    certificates: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl std::fmt::Debug for Challenges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Challenges")
    }
}

impl Challenges {
    /// From now on these are answered, and no others.
    pub fn set(&self, answers: &[ChallengeAnswer]) -> Result<(), String> {
        use evenkeel_model::Challenge;
        let mut certificates = HashMap::new();
        for answer in answers.iter().filter(|a| a.challenge == Challenge::TlsAlpn) {
            certificates.insert(asked_as(&answer.name), configuration(answer)?);
        }
        let texts = answers.iter().filter(|a| a.challenge == Challenge::Http);
        let texts: HashMap<String, String> = texts.map(|a| (a.token.clone(), a.text.clone())).collect();
        let any = !texts.is_empty() || !certificates.is_empty();
        *self.texts.lock().unwrap_or_else(PoisonError::into_inner) = texts;
        *self.certificates.lock().unwrap_or_else(PoisonError::into_inner) = certificates;
        self.any.store(any, Relaxed);
        Ok(())
    }

    /// The text for a path, where it is that of an open challenge.
    pub fn text(&self, path: &[u8]) -> Option<String> {
        if !self.any.load(Relaxed) {
            return None;
        }
        let token = std::str::from_utf8(path.strip_prefix(PATH)?).ok()?;
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// The configuration for a handshake that is a challenge.
    pub fn config_for(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        if !self.any.load(Relaxed) {
            return None;
        }
        let mut offered = hello.alpn()?;
        if offered.next() != Some(ALPN) || offered.next().is_some() {
            return None;
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned()
    }
}

/// How a client hello names a host or address (RFC 8738 section 6).
fn asked_as(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(address)) => {
            let digits = address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let digits: Vec<String> = digits.map(|d| format!("{d:x}")).collect();
            format!("{}.ip6.arpa", digits.join("."))
        }
        Err(_) => name.to_ascii_lowercase(),
    }
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

static VERSIONS: &[&SupportedProtocolVersion] = rustls::ALL_VERSIONS;

fn configuration(answer: &ChallengeAnswer) -> Result<Arc<ServerConfig>, String> {
    let failed = |e: &dyn std::fmt::Display| format!("the answer to tls-alpn-01 cannot be made: {e}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, answer.text.as_bytes());
    let extension = rcgen::CustomExtension::new_acme_identifier(digest.as_ref());
    let key = certified(std::slice::from_ref(&answer.name), "challenge", vec![extension])?;
    let builder = ServerConfig::builder_with_provider(crate::tls::provider());
    let builder = builder.with_protocol_versions(VERSIONS).map_err(|e| failed(&e))?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Always(Arc::new(key))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// A certificate that nobody vouches for.
pub fn certified(
    names: &[String],
    issuer: &str,
    extensions: Vec<rcgen::CustomExtension>,
) -> Result<CertifiedKey, String> {
    let failed = |e: &dyn std::fmt::Display| format!("a certificate cannot be made: {e}");
    let pair = rcgen::KeyPair::generate().map_err(|e| failed(&e))?;
    let mut parameters = rcgen::CertificateParams::new(names.to_vec()).map_err(|e| failed(&e))?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, issuer);
    parameters.custom_extensions = extensions;
    let certificate = parameters.self_signed(&pair).map_err(|e| failed(&e))?;
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).map_err(|e| failed(&e))?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_by_their_token_alone() {
        let challenges = Challenges::default();
        let path = |token: &str| [PATH, token.as_bytes()].concat();
        assert_eq!(challenges.text(&path("t1")), None);
        let answer = |challenge, token: &str| ChallengeAnswer {
            challenge,
            name: "a.org".into(),
            token: token.into(),
            text: format!("{token}.thumb"),
        };
        use evenkeel_model::Challenge;
        challenges.set(&[answer(Challenge::Http, "t1"), answer(Challenge::TlsAlpn, "t2")]).unwrap();
        assert_eq!(challenges.text(&path("t1")).as_deref(), Some("t1.thumb"));
        for other in ["t2", "", "t1/", "t1?x", "T1", "\u{fffd}"] {
            assert_eq!(challenges.text(&path(other)), None, "{other}");
        }
        assert_eq!(challenges.text(b"/.well-known/acme-challenge"), None);
        challenges.set(&[]).unwrap();
        assert_eq!(challenges.text(&path("t1")), None);
    }

    #[test]
    fn addresses_are_asked_for_by_their_reverse_names() {
        assert_eq!(asked_as("192.0.2.17"), "17.2.0.192.in-addr.arpa");
        let six = asked_as("2001:db8::1");
        assert!(six.starts_with("1.0.0.0.") && six.ends_with(".8.b.d.0.1.0.0.2.ip6.arpa"), "{six}");
        assert_eq!(asked_as("Www.Example.org"), "www.example.org");
    }
}
