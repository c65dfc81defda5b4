//! Authorities that give certificates by ACME (RFC 8555), and who wants what of them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::Name;

/// Directories that are named by a word.
pub const PRESETS: &[(&str, &str)] = &[
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
    ("zerossl", "https://acme.zerossl.com/v2/DV90"),
    ("google", "https://dv.acme-v02.api.pki.goog/directory"),
    ("google-staging", "https://dv.acme-v02.test-api.pki.goog/directory"),
    ("buypass", "https://api.buypass.com/acme/directory"),
];

/// How an authority is shown that a name is this machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Challenge {
    /// A text at port 80.
    Http,
    /// A certificate in a TLS handshake at port 443.
    TlsAlpn,
    /// A record in the DNS.
    Dns,
}

impl Challenge {
    pub const ALL: [Challenge; 3] = [Challenge::Http, Challenge::TlsAlpn, Challenge::Dns];

    pub fn as_str(self) -> &'static str {
        match self {
            Challenge::Http => "http-01",
            Challenge::TlsAlpn => "tls-alpn-01",
            Challenge::Dns => "dns-01",
        }
    }

    pub fn parse(word: &str) -> Option<Challenge> {
        Challenge::ALL.into_iter().find(|c| c.as_str() == word)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyType {
    #[default]
    EcdsaP256,
    EcdsaP384,
    Rsa2048,
    Rsa4096,
}

impl KeyType {
    pub fn parse(word: &str) -> Option<KeyType> {
        match word {
            "ecdsa-p256" => Some(KeyType::EcdsaP256),
            "ecdsa-p384" => Some(KeyType::EcdsaP384),
            "rsa-2048" => Some(KeyType::Rsa2048),
            "rsa-4096" => Some(KeyType::Rsa4096),
            _ => None,
        }
    }
}

/// An account that a customer of the authority has already (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    pub key_id: String,
    /// Holds the key in base64url, as authorities give it.
    pub key_file: PathBuf,
}

/// Who puts records into the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsWriter {
    /// A name server that takes updates (RFC 2136), signed by TSIG (RFC 8945).
    Update { server: SocketAddr, zone: Option<String>, key: Option<TsigKey> },
    /// A program: `present NAME VALUE`, `cleanup NAME VALUE`.
    Hook { command: PathBuf, timeout: Duration },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsigKey {
    pub name: String,
    /// `hmac-sha256`, `hmac-sha384`, `hmac-sha512`
    pub algorithm: String,
    /// Holds the secret in base64.
    pub file: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    pub writer: DnsWriter,
    /// How long the authority is kept from looking, so that all name servers have the record.
    pub wait: Duration,
    /// The record is written at this name: `_acme-challenge.NAME` is a CNAME to it.
    pub alias: Option<String>,
}

/// `[[acme]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    pub name: Name,
    /// The URL of its directory.
    pub directory: String,
    pub contact: Vec<String>,
    /// Whom to trust as the authority's server; the well-known ones when absent.
    pub ca: Option<PathBuf>,
    pub external_account: Option<ExternalAccount>,
    /// The common name of an issuer that the chain should end at.
    pub preferred_chain: Option<String>,
    pub profile: Option<String>,
    /// Those that may be used, in this order; chosen by what is there when empty.
    pub challenges: Vec<Challenge>,
    pub key_type: KeyType,
    /// The same key for the next certificate.
    pub reuse_key: bool,
    /// Where the authority comes to: 80 and 443 unless it is a private one.
    pub http_port: u16,
    pub tls_port: u16,
    pub dns: Option<DnsSettings>,
}

/// `tls = { acme = "NAME", names = [...] }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    pub authority: Name,
    /// In lower case and in order, each once: host names, wildcards, IP addresses.
    pub names: Vec<String>,
    /// Where certificate and key are kept, once they are there.
    pub file: PathBuf,
}

/// Whether a text can be a name in a certificate: a host's in lower case with two labels at least, a
/// wildcard of one, or an address.
pub fn is_certificate_name(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    host.len() <= 253 && host.contains('.') && !numeric && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_certificates() {
        for good in
            ["example.org", "*.example.org", "a-b.x1.org", "192.0.2.1", "2001:db8::1", "xn--bcher-kva.de"]
        {
            assert!(is_certificate_name(good), "{good}");
        }
        let long = format!("{}.org", "a".repeat(64));
        for bad in
            ["", "localhost", "*.org.", "Example.org", "a..b", "-a.org", "*.*.org", "a b.org", "1.2.3", &long]
        {
            assert!(!is_certificate_name(bad), "{bad}");
        }
    }
}
