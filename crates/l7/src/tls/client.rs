//! TLS towards the real servers of a pool.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use evenkeel_model::{ServerTls, SniFrom};
use evenkeel_trust::Anyone;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection};

use super::certificate;
use crate::file_error::FileError;

#[derive(Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    /// What the name is taken from, for each connection anew.
    name_from: Option<SniFrom>,
}

/// Where distributions keep the authorities that the system trusts.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Reads every file that the settings name. `alpn` is what to offer, if anything.
pub fn load(settings: &ServerTls, alpn: &[&str]) -> Result<TlsClient, FileError> {
    let provider = super::provider();
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let nowhere = Path::new("server-tls");
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| FileError::new(nowhere, e.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = match (settings.verify, &settings.ca) {
        (false, _) => Arc::new(Anyone(provider)),
        (true, ca) => {
            let system = || SYSTEM_AUTHORITIES.iter().map(Path::new).find(|f| f.is_file());
            let none =
                "the system has no bundle of authorities; install ca-certificates, or name one with `ca`";
            let file = ca.as_deref().or_else(system);
            let file = file.ok_or_else(|| FileError::new(Path::new(SYSTEM_AUTHORITIES[0]), none))?;
            let verifier = certificate::authorities(file)?.of_servers(provider);
            verifier.map_err(|e| FileError::new(file, e.to_string()))?
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match &settings.certificate {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let (chain, key) = certificate::one(file)?;
            builder.with_client_auth_cert(chain, key).map_err(|e| FileError::new(file, e.to_string()))?
        }
    };
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    Ok(TlsClient { config: Arc::new(config), name: None, name_from: None }.named(settings))
}

impl TlsClient {
    /// The same for a server of another name.
    pub fn named(&self, settings: &ServerTls) -> TlsClient {
        let name = settings.sni.as_ref().and_then(|name| ServerName::try_from(name.clone()).ok());
        TlsClient { config: self.config.clone(), name, name_from: settings.sni_from }
    }

    pub fn name_from(&self) -> Option<SniFrom> {
        self.name_from
    }

    /// A connection to a real server, before its first byte. `asked` is the name that the request is for,
    /// where the servers' names are taken from requests.
    pub fn connection(&self, address: IpAddr, asked: Option<&str>) -> Result<Connection, rustls::Error> {
        let asked = asked.and_then(|name| ServerName::try_from(name.to_owned()).ok());
        let name = asked.or_else(|| self.name.clone());
        let name = name.unwrap_or(ServerName::IpAddress(address.into()));
        ClientConnection::new(self.config.clone(), name).map(Connection::Client)
    }
}
