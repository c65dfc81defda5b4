//! Who is trusted over TLS, for traffic and for health checks alike.
//!
//! In: certificates of authorities. Out: verifiers for rustls. A certificate that is byte for byte one
//! of the configured ones is trusted as it is (a pin), as OpenSSL does; all others need a chain.

mod about;
mod host;
mod key;
mod version1;

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

pub use about::{field, written_name};
pub use key::{has_key, shown};
use version1::Listed;

/// The certificates that a file of authorities holds.
#[derive(Clone, Debug)]
pub struct Authorities {
    roots: Arc<RootCertStore>,
    own: Arc<[CertificateDer<'static>]>,
}

impl Authorities {
    /// `None` where nothing of it can be used. Bundles of systems hold some that nothing can use.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Option<Authorities> {
        let mut roots = RootCertStore::empty();
        let mut own = certificates;
        own.retain(|der| roots.add(der.clone()).is_ok());
        (!roots.is_empty()).then(|| Authorities { roots: Arc::new(roots), own: own.into() })
    }

    /// For a verifier of clients, which is built with more than this.
    pub fn roots(&self) -> Arc<RootCertStore> {
        self.roots.clone()
    }

    /// Verifies servers; `named`: that they are who was asked for, and not only known to an authority.
    pub fn of_servers(
        &self,
        revoked: Revoked,
        provider: Arc<CryptoProvider>,
        named: bool,
    ) -> Result<Arc<dyn ServerCertVerifier>, String> {
        self.check(&revoked)?;
        let mut builder = WebPkiServerVerifier::builder_with_provider(self.roots(), provider.clone());
        if !revoked.lists.is_empty() {
            // Authorities without a list of theirs are taken at their word.
            builder = builder.with_crls(revoked.lists.clone()).allow_unknown_revocation_status();
        }
        let inner = builder.build().map_err(|error| error.to_string())?;
        let listed = Listed::new(&revoked.lists, &self.own);
        let old_listed = Listed::new(&revoked.old, &self.own);
        Ok(Arc::new(Servers { inner, own: self.own.clone(), listed, old_listed, provider, named }))
    }

    /// Verifies clients: as `inner` does, which was built with the same authorities and with the lists that
    /// rustls reads. Why the others cannot be used, where one of them cannot.
    pub fn of_clients(
        &self,
        inner: Arc<dyn ClientCertVerifier>,
        revoked: Revoked,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, &'static str> {
        self.check(&revoked)?;
        Ok(Arc::new(Clients {
            inner,
            own: self.own.clone(),
            listed: Listed::new(&revoked.lists, &self.own),
            old_listed: Listed::new(&revoked.old, &self.own),
            provider,
        }))
    }

    /// Lists of version 1 are these authorities' own, each signed by the one that it names. Those of others stand
    /// beside them in one file; alone they would say nothing.
    fn check(&self, revoked: &Revoked) -> Result<(), &'static str> {
        let is_ours = |list: &CertificateRevocationListDer<'static>| version1::is_list_of(list, &self.own);
        let mut strange = revoked.old.iter().filter(|list| !is_ours(list)).peekable();
        let none = strange.peek().is_some() && !revoked.old.iter().chain(&revoked.lists).any(is_ours);
        match none || strange.any(|list| version1::names_one_of(list, &self.own)) {
            true => Err(UNSIGNED),
            false => Ok(()),
        }
    }
}

const UNSIGNED: &str = "a list of version 1 is signed by none of the authorities";

/// Lists of revoked certificates.
#[derive(Clone, Debug, Default)]
pub struct Revoked {
    /// Those that rustls reads.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
    /// Those of version 1, as `openssl ca -gencrl` writes them without `crlnumber`: rustls refuses them.
    pub old: Vec<CertificateRevocationListDer<'static>>,
}

impl Revoked {
    pub fn new(all: Vec<CertificateRevocationListDer<'static>>) -> Revoked {
        let (old, lists) = all.into_iter().partition(|list| version1::is_old_list(list));
        Revoked { lists, old }
    }
}

/// Subject and issuer as they are written, or nothing where the certificate cannot be read.
fn ends(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some((parsed.tbs_certificate.subject.as_raw(), parsed.tbs_certificate.issuer.as_raw()))
}

/// Whether a certificate names itself as its issuer: a root, or one that stands alone.
pub fn is_self_issued(certificate: &[u8]) -> bool {
    ends(certificate).is_some_and(|(subject, issuer)| subject == issuer)
}

/// Whom a certificate is of, in words.
pub fn subject(certificate: &[u8]) -> String {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) if !parsed.tbs_certificate.subject.as_raw().is_empty() => {
            parsed.subject().to_string()
        }
        Ok((_, parsed)) => format!("no subject, serial {}", parsed.raw_serial_as_string()),
        Err(_) => "a certificate that cannot be read".into(),
    }
}

/// Places of those among `others` that vouch for `leaf`, each after the one that it signed, as RFC 5246 wants
/// them. Those that belong to no such chain are left out.
pub fn issuers(leaf: &[u8], others: &[CertificateDer<'_>]) -> Vec<usize> {
    let all: Vec<_> = others.iter().map(|der| ends(der)).collect();
    let mut chain: Vec<usize> = Vec::new();
    let mut wanted = ends(leaf).filter(|(subject, issuer)| subject != issuer).map(|(_, issuer)| issuer);
    while let Some(issuer) = wanted {
        let of_issuer = |i: &usize| all[*i].is_some_and(|(subject, _)| subject == issuer);
        let Some(next) = (0..all.len()).filter(|i| !chain.contains(i)).find(of_issuer) else { break };
        chain.push(next);
        wanted = all[next].filter(|(subject, issuer)| subject != issuer).map(|(_, issuer)| issuer);
    }
    chain
}

/// A reason in words, where rustls has only its own.
#[derive(Debug)]
struct Reason(&'static str);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Reason {}

impl Reason {
    fn error(why: &'static str) -> Error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Reason(why)))))
    }
}

/// Whether a certificate is one of those that are trusted as they are; its dates must hold all the same.
fn is_own(
    own: &[CertificateDer<'static>],
    certificate: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<bool, Error> {
    if !own.iter().any(|known| known.as_ref() == certificate.as_ref()) {
        return Ok(false);
    }
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    in_force(&parsed, now).map(|()| true)
}

/// Whether now is between its dates.
fn in_force(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < certificate.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    match seconds > certificate.validity().not_after.timestamp() {
        true => Err(CertificateError::Expired.into()),
        false => Ok(()),
    }
}

#[derive(Debug)]
struct Servers {
    inner: Arc<WebPkiServerVerifier>,
    own: Arc<[CertificateDer<'static>]>,
    /// For certificates of version 1: rustls looks at these for others.
    listed: Listed,
    /// Of lists that rustls does not read.
    old_listed: Listed,
    named: bool,
    provider: Arc<CryptoProvider>,
}

impl Servers {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        let is_own = is_own(&self.own, certificate, now)?;
        if self.old_listed.has(certificate, &self.own) {
            return Err(CertificateError::Revoked.into());
        }
        if let Some(trusted) = version1::verify(certificate, &self.own, &self.listed, now) {
            trusted.or_else(|e| if is_own { Ok(()) } else { Err(e) })?;
            return self.name_of(Err(CertificateError::NotValidForName.into()), certificate, name);
        }
        if is_own {
            let parsed = ParsedCertificate::try_from(certificate)?;
            return self.name_of(rustls::client::verify_server_name(&parsed, name), certificate, name);
        }
        // The chain comes before the name there.
        let verified = self.inner.verify_server_cert(certificate, others, name, ocsp, now);
        self.name_of(verified.map(|_| ()), certificate, name)
    }

    /// A name that no extension holds may be the subject's, and none may be wanted.
    fn name_of(
        &self,
        found: Result<(), Error>,
        certificate: &[u8],
        name: &ServerName<'_>,
    ) -> Result<(), Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        match found {
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
                if !self.named || host::is_common_name(certificate, name) =>
            {
                Ok(())
            }
            found => found,
        }
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(certificate, others, name, ocsp, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        key::verify_tls12(message, certificate, signed, &self.provider)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        key::verify_tls13(message, certificate, signed, &self.provider)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Clients {
    inner: Arc<dyn ClientCertVerifier>,
    own: Arc<[CertificateDer<'static>]>,
    /// For certificates of version 1: rustls looks at these for others.
    listed: Listed,
    /// Of lists that rustls does not read.
    old_listed: Listed,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if is_own(&self.own, certificate, now)? {
            return Ok(ClientCertVerified::assertion());
        }
        let verified = match version1::verify(certificate, &self.own, &self.listed, now) {
            Some(trusted) => trusted.map(|()| ClientCertVerified::assertion()),
            None => self.inner.verify_client_cert(certificate, others, now),
        }?;
        match self.old_listed.has(certificate, &self.own) {
            true => Err(CertificateError::Revoked.into()),
            false => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        key::verify_tls12(message, certificate, signed, &self.provider)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        key::verify_tls13(message, certificate, signed, &self.provider)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Takes any server's certificate: for networks that are trusted otherwise.
#[derive(Debug)]
pub struct Anyone(pub Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        key::verify_tls12(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        key::verify_tls13(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
