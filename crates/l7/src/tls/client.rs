//! TLS towards the real servers of a pool.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use evenkeel_model::ServerTls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, Connection, DigitallySignedStruct, SignatureScheme};

use super::certificate;
use crate::file_error::FileError;

#[derive(Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
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
    let builder = match (settings.verify, &settings.ca) {
        (false, _) => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        (true, Some(ca)) => builder.with_root_certificates(certificate::authorities(ca)?),
        (true, None) => {
            let system = SYSTEM_AUTHORITIES.iter().map(Path::new).find(|f| f.is_file());
            let none =
                "the system has no bundle of authorities; install ca-certificates, or name one with `ca`";
            let file = system.ok_or_else(|| FileError::new(Path::new(SYSTEM_AUTHORITIES[0]), none))?;
            builder.with_root_certificates(certificate::authorities(file)?)
        }
    };
    let mut config = match &settings.certificate {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let (chain, key) = certificate::one(file)?;
            builder.with_client_auth_cert(chain, key).map_err(|e| FileError::new(file, e.to_string()))?
        }
    };
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let name = settings.sni.as_ref().and_then(|name| ServerName::try_from(name.clone()).ok());
    Ok(TlsClient { config: Arc::new(config), name })
}

impl TlsClient {
    /// A connection to a real server, before its first byte.
    pub fn connection(&self, address: IpAddr) -> Result<Connection, rustls::Error> {
        let name = self.name.clone().unwrap_or(ServerName::IpAddress(address.into()));
        ClientConnection::new(self.config.clone(), name).map(Connection::Client)
    }
}

/// Takes any certificate: for servers in a network that is trusted otherwise.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
