//! What TLS towards clients and towards real servers should be like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::{Managed, Vip};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

impl TlsVersion {
    pub fn as_str(self) -> &'static str {
        match self {
            TlsVersion::Tls12 => "1.2",
            TlsVersion::Tls13 => "1.3",
        }
    }

    pub fn parse(word: &str) -> Option<TlsVersion> {
        [TlsVersion::Tls12, TlsVersion::Tls13].into_iter().find(|v| v.as_str() == word)
    }
}

/// Which cipher suites are offered, by the names that Mozilla's recommendations use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsPolicy {
    /// TLS 1.3 alone.
    Modern,
    /// TLS 1.3, and TLS 1.2 with forward secrecy and authenticated encryption.
    #[default]
    Intermediate,
}

impl TlsPolicy {
    pub fn parse(word: &str) -> Option<TlsPolicy> {
        match word {
            "modern" => Some(TlsPolicy::Modern),
            "intermediate" => Some(TlsPolicy::Intermediate),
            _ => None,
        }
    }
}

/// TLS of a service's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM files (chain and key, several in one file too) and folders of them. The first
    /// certificate is for clients that name no host, or none that a certificate is for.
    pub certificates: Vec<PathBuf>,
    /// A file with more: a PEM file a line, and the names that it is for.
    pub list: Option<PathBuf>,
    /// One that an authority gives; it comes after those of files.
    pub managed: Option<Managed>,
    /// Refuse such clients instead.
    pub strict_sni: bool,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    pub policy: TlsPolicy,
    /// Protocols in the order of preference: `h2`, `http/1.1`.
    pub alpn: Vec<String>,
    pub client_auth: Option<ClientAuth>,
    /// The ports whose clients speak TLS; all of the service where there are none.
    pub ports: Vec<u16>,
    /// In the place of ports: the VIPs with TLS, and those of the service without.
    pub vips: Vec<Vip>,
    pub plain: Vec<Vip>,
}

impl TlsSettings {
    /// Whether clients who come to this port speak TLS.
    pub fn is_on(&self, at: SocketAddr) -> bool {
        if self.vips.is_empty() {
            return self.ports.is_empty() || self.ports.contains(&at.port());
        }
        let is = |vips: &[Vip], address: IpAddr| {
            vips.iter().any(|vip| vip.address == address && vip.ports.contains(at.port()))
        };
        let everywhere = match at {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        // The address itself counts before all addresses, as it does for the kernel.
        is(&self.vips, at.ip()) || !is(&self.plain, at.ip()) && is(&self.vips, everywhere)
    }
}

/// Certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// A client without a certificate is refused.
    pub required: bool,
    pub ca: PathBuf,
    /// Further authorities that vouch for clients, and that clients are not told of.
    pub verify_ca: Option<PathBuf>,
    pub crl: Option<PathBuf>,
    /// Tell the real server who the client is, in `X-Client-Cert-…` headers.
    pub headers: bool,
    /// What is wrong with a certificate, and its client is let in all the same.
    pub ignore: Vec<CertificateFault>,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateFault {
    Expired,
    NotYetValid,
    Revoked,
    /// No authority that is trusted vouches for it.
    UnknownIssuer,
    BadSignature,
    /// It is for something else.
    WrongUse,
    /// Its authority has no list of what was revoked.
    NoRevocationList,
    RevocationListExpired,
    Other,
}

impl CertificateFault {
    pub const ALL: [CertificateFault; 9] = [
        CertificateFault::Expired,
        CertificateFault::NotYetValid,
        CertificateFault::Revoked,
        CertificateFault::UnknownIssuer,
        CertificateFault::BadSignature,
        CertificateFault::WrongUse,
        CertificateFault::NoRevocationList,
        CertificateFault::RevocationListExpired,
        CertificateFault::Other,
    ];

    pub fn parse(word: &str) -> Option<CertificateFault> {
        CertificateFault::ALL.into_iter().find(|fault| fault.as_str() == word)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            CertificateFault::Expired => "expired",
            CertificateFault::NotYetValid => "not-yet-valid",
            CertificateFault::Revoked => "revoked",
            CertificateFault::UnknownIssuer => "unknown-issuer",
            CertificateFault::BadSignature => "bad-signature",
            CertificateFault::WrongUse => "wrong-use",
            CertificateFault::NoRevocationList => "no-revocation-list",
            CertificateFault::RevocationListExpired => "revocation-list-expired",
            CertificateFault::Other => "other",
        }
    }

    /// The number and name that OpenSSL gives it, see verify(1).
    pub fn of_openssl(self) -> (u16, &'static str) {
        match self {
            CertificateFault::Expired => (10, "X509_V_ERR_CERT_HAS_EXPIRED"),
            CertificateFault::NotYetValid => (9, "X509_V_ERR_CERT_NOT_YET_VALID"),
            CertificateFault::Revoked => (23, "X509_V_ERR_CERT_REVOKED"),
            CertificateFault::UnknownIssuer => (20, "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY"),
            CertificateFault::BadSignature => (7, "X509_V_ERR_CERT_SIGNATURE_FAILURE"),
            CertificateFault::WrongUse => (26, "X509_V_ERR_INVALID_PURPOSE"),
            CertificateFault::NoRevocationList => (3, "X509_V_ERR_UNABLE_TO_GET_CRL"),
            CertificateFault::RevocationListExpired => (12, "X509_V_ERR_CRL_HAS_EXPIRED"),
            CertificateFault::Other => (1, "X509_V_ERR_UNSPECIFIED"),
        }
    }
}

/// TLS towards the real servers of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerTls {
    /// Refuse a real server whose certificate does not hold.
    pub verify: bool,
    /// Its name must be the one that is asked for; else an authority's word for any name will do.
    pub verify_name: bool,
    /// Authorities to trust; the system's when absent.
    pub ca: Option<PathBuf>,
    /// Certificates that their authorities have taken back.
    pub crl: Option<PathBuf>,
    /// The name to ask for and to verify; the address when absent.
    pub sni: Option<String>,
    /// What the name is taken from, for each connection anew; `sni` is for requests that have none.
    pub sni_from: Option<SniFrom>,
    /// Certificate and key to show the real server.
    pub certificate: Option<PathBuf>,
}

impl ServerTls {
    /// Whether a certificate of another name is refused.
    pub fn verifies_name(&self) -> bool {
        self.verify && self.verify_name
    }

    /// TLS with any server, whoever it is.
    pub fn with_anyone() -> ServerTls {
        ServerTls {
            verify: false,
            verify_name: false,
            ca: None,
            crl: None,
            sni: None,
            sni_from: None,
            certificate: None,
        }
    }
}

/// Where the name comes from that a server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SniFrom {
    /// The host of the request as it goes to the server.
    Host,
    /// What the TLS client asked for.
    ClientSni,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_itself_says_who_speaks_tls() {
        let vips = |texts: &[&str]| texts.iter().flat_map(|text| Vip::parse_all(text).unwrap()).collect();
        let check = |on: &[&str], off: &[&str], at: &str, expect: bool| {
            let (vips, plain): (Vec<Vip>, Vec<Vip>) = (vips(on), vips(off));
            let settings = TlsSettings {
                certificates: Vec::new(),
                list: None,
                managed: None,
                strict_sni: false,
                min_version: TlsVersion::Tls12,
                max_version: TlsVersion::Tls13,
                policy: TlsPolicy::default(),
                alpn: Vec::new(),
                client_auth: None,
                ports: Vec::new(),
                vips,
                plain,
            };
            assert_eq!(settings.is_on(at.parse().unwrap()), expect, "{on:?} {off:?} {at}");
        };
        check(&[], &[], "192.0.2.1:80", true);
        check(&["192.0.2.1:443"], &["192.0.2.1:80,443"], "192.0.2.1:443", true);
        check(&["192.0.2.1:443"], &["192.0.2.1:80,443"], "192.0.2.1:80", false);
        check(&["192.0.2.1:443"], &["192.0.2.2:443"], "192.0.2.2:443", false);
        check(&["0.0.0.0:443"], &["192.0.2.2:443"], "192.0.2.1:443", true);
        check(&["0.0.0.0:443"], &["192.0.2.2:443"], "192.0.2.2:443", false);
        check(&["192.0.2.2:443"], &["0.0.0.0:443"], "192.0.2.2:443", true);
        check(&["192.0.2.2:443"], &["0.0.0.0:443"], "192.0.2.1:443", false);
        check(&["0.0.0.0:443"], &["[::]:443"], "[2001:db8::1]:443", false);
        check(&["*:443"], &["*:80"], "[2001:db8::1]:443", true);
    }
}
