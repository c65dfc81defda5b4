//! What TLS towards clients and towards real servers should be like.

use std::path::PathBuf;

use crate::Managed;

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
}

impl TlsSettings {
    /// Whether clients who come to this port speak TLS.
    pub fn is_on(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }
}

/// Certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// A client without a certificate is refused.
    pub required: bool,
    pub ca: PathBuf,
    pub crl: Option<PathBuf>,
    /// Tell the real server who the client is, in `X-Client-Cert-…` headers.
    pub headers: bool,
}

/// TLS towards the real servers of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerTls {
    /// Refuse a real server whose certificate does not hold.
    pub verify: bool,
    /// Authorities to trust; the system's when absent.
    pub ca: Option<PathBuf>,
    /// The name to ask for and to verify; the address when absent.
    pub sni: Option<String>,
    /// What the name is taken from, for each connection anew; `sni` is for requests that have none.
    pub sni_from: Option<SniFrom>,
    /// Certificate and key to show the real server.
    pub certificate: Option<PathBuf>,
}

/// Where the name comes from that a server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SniFrom {
    /// The host of the request as it goes to the server.
    Host,
    /// What the TLS client asked for.
    ClientSni,
}
