//! TLS towards the real servers of a pool.

use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use evenkeel_model::{ServerTls, SniFrom};
use evenkeel_trust::{Anyone, Revoked};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection};

use super::certificate;
use crate::file_error::FileError;

#[derive(Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    /// The state of the files when they were read.
    files: u64,
    name: Option<ServerName<'static>>,
    /// What the name is taken from, for each connection anew.
    name_from: Option<SniFrom>,
}

/// Where distributions keep the authorities that the system trusts.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Changes whenever a file does that the settings name, without reading it.
pub fn files(settings: &ServerTls) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut note = |path: &Path| certificate::note(path, &mut hasher);
    match (settings.verify, &settings.ca) {
        (false, _) => {}
        (true, Some(ca)) => note(ca),
        (true, None) => system_authorities().into_iter().for_each(&mut note),
    }
    settings.crl.iter().filter(|_| settings.verify).for_each(|crl| note(crl));
    if let Some(file) = &settings.certificate {
        note(file);
        certificate::companions(file).for_each(|file| note(&file));
    }
    hasher.finish()
}

fn system_authorities<'a>() -> Option<&'a Path> {
    SYSTEM_AUTHORITIES.iter().map(Path::new).find(|file| file.is_file())
}

/// Reads every file that the settings name. `alpn` is what to offer, if anything.
pub fn load(settings: &ServerTls, alpn: &[&str]) -> Result<TlsClient, FileError> {
    // Looked at before they are read: what changes meanwhile is read once more.
    let files = files(settings);
    let provider = super::provider();
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let nowhere = Path::new("server-tls");
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| FileError::new(nowhere, e.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = match (settings.verify, &settings.ca) {
        (false, _) => Arc::new(Anyone(provider)),
        (true, ca) => {
            let none =
                "the system has no bundle of authorities; install ca-certificates, or name one with `ca`";
            let file = ca.as_deref().or_else(system_authorities);
            let file = file.ok_or_else(|| FileError::new(Path::new(SYSTEM_AUTHORITIES[0]), none))?;
            let revoked = settings.crl.as_deref().map_or_else(|| Ok(Vec::new()), certificate::revocations)?;
            let revoked = Revoked::new(revoked);
            let known = certificate::authorities([file])?;
            let verifier = known.of_servers(revoked, provider, settings.verify_name);
            verifier.map_err(|why| FileError::new(settings.crl.as_deref().unwrap_or(file), why))?
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match &settings.certificate {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let (chain, key) = certificate::one(file)?;
            let shown = evenkeel_trust::shown(chain, &key).map_err(|why| FileError::new(file, why))?;
            builder.with_client_cert_resolver(shown)
        }
    };
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    Ok(TlsClient { config: Arc::new(config), files, name: None, name_from: None }.named(settings))
}

impl TlsClient {
    /// The same for a server of another name.
    pub fn named(&self, settings: &ServerTls) -> TlsClient {
        let name = settings.sni.as_ref().and_then(|name| ServerName::try_from(name.clone()).ok());
        TlsClient { config: self.config.clone(), files: self.files, name, name_from: settings.sni_from }
    }

    /// Whether a file has changed on disk since it was read.
    pub fn is_stale(&self, settings: &ServerTls) -> bool {
        self.files != files(settings)
    }

    /// Whether both were made of files in the same state.
    pub fn has_files_of(&self, other: &TlsClient) -> bool {
        self.files == other.files
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
