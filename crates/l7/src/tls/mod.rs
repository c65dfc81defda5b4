//! TLS towards clients and towards real servers, by rustls.
//!
//! In: settings, PEM files, ClientHellos. Out: agreed connections and what is known of them.
//! Never: an own cipher, an own parser of certificates on the path of trust.

mod certificate;
mod client;
mod link;
pub mod pool;
mod server;
mod ticket;
mod tolerant;

use std::cell::Cell;
use std::path::Path;

use crate::file_error::FileError;
pub use certificate::{CertificateInfo, STAND_IN, files_in, listed_files};
pub use client::{TlsClient, load as load_client};
use evenkeel_model::CertificateFault;
pub use link::{HandshakeError, RECORD, TlsLink};
use rustls::pki_types::CertificateDer;
use rustls::{Connection, ProtocolVersion};
pub use server::{TlsServer, fingerprint, load as load_server};
pub use ticket::{TicketKeys, TicketSecrets};

/// What both sides agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `TLSv1.3`, as HAProxy and OpenSSL write it.
    pub version: &'static str,
    pub cipher: &'static str,
    pub h2: bool,
    /// HTTP/1.1 was agreed on by its name, and not because nothing was.
    pub h1: bool,
    pub resumed: bool,
    /// The host name that the client asked for; of a connection to a real server, the name that its
    /// requests are for, where that is taken from requests.
    pub sni: Option<Box<str>>,
    /// The peer's certificate, which was verified; see `fault`.
    pub peer: Option<Box<Identity>>,
    /// What is wrong with the client's certificate, where that is overlooked.
    pub fault: Option<CertificateFault>,
    /// The rules for clients that it was let in by, see [`TlsServer::lets_in`].
    admitted_by: Cell<u64>,
    /// What the peer has shown: its certificate, and those behind it.
    pub chain: Chain,
    /// What was shown to a client.
    pub own: Chain,
}

/// Who a client is, by its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub subject: String,
    pub common_name: String,
    pub issuer: String,
    /// Hexadecimal, in upper case.
    pub serial: String,
    /// SHA-256 of the certificate, hexadecimal in lower case.
    pub fingerprint: String,
    pub names: Vec<String>,
}

/// A certificate with those that vouch for it; many connections may have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain(std::sync::Arc<[CertificateDer<'static>]>);

impl Chain {
    /// All of it, where anything was shown.
    fn shown(&self) -> Option<&[CertificateDer<'static>]> {
        Some(&*self.0).filter(|chain| !chain.is_empty())
    }

    /// A field of the certificate, see `evenkeel_trust::field`.
    pub fn field(&self, name: &str) -> Option<String> {
        let leaf = self.0.first()?;
        match name {
            "chain-der" => Some(self.0.iter().filter_map(|der| evenkeel_trust::field(der, "der")).collect()),
            _ => evenkeel_trust::field(leaf, name),
        }
    }
}

impl Facts {
    /// `own` is what was shown to a client.
    fn of(connection: &Connection, own: Chain) -> Facts {
        let resumed = connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let leaf = connection.peer_certificates().and_then(|chain| chain.first());
        let (sni, peer) = match connection {
            Connection::Server(server) => (
                server.server_name().map(Into::into),
                leaf.and_then(|der| certificate::identity(der)).map(Box::new),
            ),
            Connection::Client(_) => (None, None),
        };
        Facts {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "-",
            },
            cipher: connection.negotiated_cipher_suite().map_or("-", |s| cipher_name(s.suite())),
            h2: connection.alpn_protocol() == Some(b"h2"),
            h1: connection.alpn_protocol() == Some(b"http/1.1"),
            resumed,
            sni,
            peer,
            fault: None,
            admitted_by: Cell::new(0),
            chain: connection.peer_certificates().map_or_else(Chain::default, |chain| Chain(chain.into())),
            own,
        }
    }
}

/// The name that RFC 8446 and OpenSSL give a TLS 1.3 suite.
fn cipher_name(suite: rustls::CipherSuite) -> &'static str {
    match suite {
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        rustls::CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, FileError> {
    evenkeel_files::read(file, evenkeel_files::PEM_AT_MOST).map_err(|e| FileError::unreadable(file, &e))
}

pub(crate) fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests;
