//! TLS of a service: which certificate for which host, which versions, whose clients.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest;
use evenkeel_model::{ClientAuth, TlsPolicy, TlsSettings, TlsVersion};
use evenkeel_trust::Revoked;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureScheme, SupportedProtocolVersion};

use super::certificate::{self, CertificateInfo, Files, Known, Loaded};
use super::ticket::{Binding, ServiceTickets};
use super::tolerant::Tolerant;
use super::{Chain, Facts, TicketKeys};
use crate::file_error::FileError;

/// A service's TLS, ready to accept clients.
#[derive(Debug)]
pub struct TlsServer {
    pub config: Arc<ServerConfig>,
    /// For clients that offer only protocols which are not spoken here: no protocol is named.
    without_alpn: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// The same, where something is overlooked.
    tolerant: Option<Arc<Tolerant>>,
    /// Differs where other clients are let in: another authority, another list of what was revoked.
    rules_for_clients: u64,
    resolver: Arc<Resolver>,
    pub certificates: Vec<CertificateInfo>,
    /// Names the files and their state, so that a change of them is seen.
    pub fingerprint: u64,
    /// What the files held.
    known: Known,
}

impl TlsServer {
    /// The configuration for what a client offers by ALPN. A client with no protocol in common is
    /// served as one that offers none.
    pub fn config_for(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let spoken = &self.config.alpn_protocols;
        let common = |mut offered: Box<dyn Iterator<Item = &[u8]> + '_>| {
            offered.any(|name| spoken.iter().any(|known| known == name))
        };
        match hello.alpn().is_none_or(|offered| common(Box::new(offered))) {
            true => self.config.clone(),
            false => self.without_alpn.clone(),
        }
    }

    /// What a client is shown that says this first.
    pub fn shown_to(&self, hello: &ClientHello<'_>) -> Chain {
        let all = self.resolver.candidates(hello.server_name());
        self.resolver
            .choose(all, hello.signature_schemes())
            .map_or_else(Chain::default, |(_, chain)| chain.clone())
    }

    /// Whether a session that was resumed may still be: certificates expire, and a session outlives
    /// the moment in which its certificate was looked at.
    pub fn check_resumed(&self, chain: Option<&[CertificateDer<'_>]>) -> Result<(), rustls::Error> {
        let Some(verifier) = &self.verifier else { return Ok(()) };
        match chain.and_then(<[_]>::split_first) {
            Some((leaf, others)) => verifier.verify_client_cert(leaf, others, UnixTime::now()).map(|_| ()),
            None if verifier.client_auth_mandatory() => Err(rustls::Error::NoCertificatesPresented),
            None => Ok(()),
        }
    }
}

impl TlsServer {
    /// Notes by which rules a client was let in, and what was overlooked.
    pub(super) fn admit(&self, facts: &mut Facts) {
        facts.fault = self.tolerant.as_ref().and_then(|tolerant| tolerant.fault(facts.chain.shown()?));
        facts.admitted_by.set(self.rules_for_clients);
    }

    /// Whether a client that was let in still would be: a connection that is kept outlives the rules of its
    /// handshake. Looks again only where they are others by now.
    pub fn lets_in(&self, facts: &Facts) -> bool {
        if facts.admitted_by.get() == self.rules_for_clients {
            return true;
        }
        let good = self.check_resumed(facts.chain.shown()).is_ok();
        if good {
            facts.admitted_by.set(self.rules_for_clients);
        }
        good
    }
}

/// Reads every file that the settings of a service name, of certificates those that are not as `before` has them.
pub fn load(
    service: &str,
    settings: &TlsSettings,
    tickets: &Arc<TicketKeys>,
    before: Option<&TlsServer>,
) -> Result<TlsServer, FileError> {
    let fingerprint = fingerprint(settings);
    let mut files = Files::new(before.map(|before| &before.known));
    let mut loaded = Vec::new();
    for path in &settings.certificates {
        loaded.extend(certificate::load(path, &mut files)?);
    }
    if let Some(list) = &settings.list {
        loaded.extend(certificate::load_list(list, &mut files)?);
    }
    if let Some(managed) = &settings.managed {
        loaded.extend(certificate::load_managed(managed, &mut files)?);
    }
    let certificates = loaded.iter().map(|l| l.info.clone()).collect();
    let provider = super::provider();
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(versions(settings)).map_err(|e| internal(settings, e))?;
    let strict = settings.client_auth.as_ref().map(|auth| verifier(auth, provider)).transpose()?;
    let ignore = settings.client_auth.iter().flat_map(|auth| auth.ignore.iter().copied()).collect::<Vec<_>>();
    let tolerant = strict.clone().filter(|_| !ignore.is_empty());
    let tolerant = tolerant.map(|inner| Arc::new(Tolerant { inner, ignore }));
    let verifier = tolerant.clone().map(|known| known as Arc<dyn ClientCertVerifier>).or(strict);
    let builder = match &verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
    };
    let rules_for_clients = rules_for_clients(settings)?;
    let binding = binding(service, settings, &loaded, &rules_for_clients);
    let resolver = Arc::new(Resolver::new(loaded, settings.strict_sni));
    let mut config = builder.with_cert_resolver(resolver.clone());
    config.alpn_protocols = settings.alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config.ticketer = Arc::new(ServiceTickets::new(tickets.clone(), binding));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ignore_client_order = true;
    let mut without_alpn = config.clone();
    without_alpn.alpn_protocols.clear();
    let (config, without_alpn) = (Arc::new(config), Arc::new(without_alpn));
    // Never that of somebody who was asked for nothing.
    let digest = digest::digest(&digest::SHA256, &rules_for_clients);
    let short = digest.as_ref().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let rules_for_clients = if rules_for_clients.is_empty() { 0 } else { short | 1 };
    Ok(TlsServer {
        config,
        without_alpn,
        verifier,
        tolerant,
        rules_for_clients,
        resolver,
        certificates,
        fingerprint,
        known: files.known,
    })
}

/// What a session of the service means. A session is good only where all of this is the same: it
/// says who the client is, and that these rules have let it in.
fn binding(service: &str, settings: &TlsSettings, loaded: &[Loaded], rules_for_clients: &[u8]) -> Binding {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut note = |part: &[u8]| {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    };
    note(service.as_bytes());
    let spoken = (settings.min_version, settings.max_version);
    note(format!("{:?} {spoken:?} {}", settings.policy, settings.strict_sni).as_bytes());
    for one in loaded {
        one.key.cert.first().into_iter().for_each(|leaf| note(leaf));
        one.info.names.iter().chain(&one.except).for_each(|name| note(name.as_bytes()));
    }
    note(b"client-auth");
    note(rules_for_clients);
    let mut binding = Binding::default();
    binding.copy_from_slice(context.finish().as_ref());
    binding
}

/// What decides which clients are let in, as bytes; nothing where they are asked for nothing.
fn rules_for_clients(settings: &TlsSettings) -> Result<Vec<u8>, FileError> {
    let Some(auth) = &settings.client_auth else { return Ok(Vec::new()) };
    let mut all = vec![u8::from(auth.required)];
    all.extend(auth.ignore.iter().map(|fault| fault.of_openssl().0 as u8));
    all.push(0);
    for file in std::iter::once(&auth.ca).chain(&auth.verify_ca).chain(&auth.crl) {
        let content = super::read(file)?;
        all.extend_from_slice(&(content.len() as u64).to_be_bytes());
        all.extend_from_slice(&content);
    }
    Ok(all)
}

/// Changes whenever one of the files does, without reading them.
pub fn fingerprint(settings: &TlsSettings) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut note = |path: &PathBuf| certificate::note(path, &mut hasher);
    let listed = settings.list.as_deref().map_or_else(Vec::new, certificate::listed_files);
    settings.list.iter().for_each(&mut note);
    settings.managed.iter().for_each(|managed| note(&managed.file));
    for path in settings.certificates.iter().chain(&listed) {
        note(path);
        let files = std::fs::read_dir(path).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
        let mut files: Vec<PathBuf> = files.chain(certificate::companions(path)).collect();
        files.sort();
        files.iter().for_each(&mut note);
    }
    if let Some(auth) = &settings.client_auth {
        note(&auth.ca);
        auth.verify_ca.iter().chain(&auth.crl).for_each(&mut note);
    }
    hasher.finish()
}

fn internal(settings: &TlsSettings, error: rustls::Error) -> FileError {
    let first = settings.certificates.first().or(settings.list.as_ref());
    FileError::new(first.unwrap_or(&PathBuf::new()), error.to_string())
}

static TLS13_ALONE: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

static TLS12_ALONE: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

fn versions(settings: &TlsSettings) -> &'static [&'static SupportedProtocolVersion] {
    match (settings.policy, settings.min_version, settings.max_version) {
        (TlsPolicy::Intermediate, TlsVersion::Tls12, TlsVersion::Tls13) => rustls::ALL_VERSIONS,
        (TlsPolicy::Intermediate, TlsVersion::Tls12, TlsVersion::Tls12) => TLS12_ALONE,
        _ => TLS13_ALONE,
    }
}

fn verifier(
    auth: &ClientAuth,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, FileError> {
    let authorities =
        certificate::authorities(std::iter::once(&auth.ca).chain(&auth.verify_ca).map(PathBuf::as_path))?;
    let revoked = auth.crl.as_deref().map_or_else(|| Ok(Vec::new()), certificate::revocations)?;
    let revoked = Revoked::new(revoked);
    let mut builder = WebPkiClientVerifier::builder_with_provider(authorities.roots(), provider.clone());
    if !revoked.lists.is_empty() {
        // Authorities without a list of theirs are taken at their word.
        builder = builder.with_crls(revoked.lists.clone()).allow_unknown_revocation_status();
    }
    if auth.verify_ca.is_some() {
        let told = certificate::authorities([auth.ca.as_path()])?.roots();
        builder = builder.clear_root_hint_subjects().add_root_hint_subjects(told.subjects());
    }
    if !auth.required {
        builder = builder.allow_unauthenticated();
    }
    let built = builder.build();
    let unusable = |why: String| FileError::new(auth.crl.as_ref().unwrap_or(&auth.ca), why);
    let built = built.map_err(|e| unusable(e.to_string()))?;
    authorities.of_clients(built, revoked, provider).map_err(|why| unusable(why.to_owned()))
}

/// A certificate with its key, and what a client sees of it.
type Candidate = (Arc<CertifiedKey>, Chain);

/// Certificates by host name: exact names before wildcards before the first of all.
#[derive(Debug)]
pub(super) struct Resolver {
    exact: HashMap<String, Vec<Candidate>>,
    /// By what follows the first label.
    wildcard: HashMap<String, Vec<Candidate>>,
    default: Vec<Candidate>,
    strict: bool,
}

impl Resolver {
    pub(super) fn new(loaded: Vec<Loaded>, strict: bool) -> Resolver {
        let mut resolver =
            Resolver { exact: HashMap::new(), wildcard: HashMap::new(), default: Vec::new(), strict };
        let first_names = loaded.first().map(|l| l.info.names.clone()).unwrap_or_default();
        // Elliptic curves first: where a client takes both, they cost a tenth.
        let mut ordered = loaded;
        ordered.sort_by_key(|l| l.info.algorithm == "RSA");
        let mut excepted: Vec<(String, Arc<CertifiedKey>)> = Vec::new();
        for one in ordered {
            let candidate = (one.key.clone(), Chain(one.key.cert.as_slice().into()));
            if one.info.names == first_names {
                resolver.default.push(candidate.clone());
            }
            for name in &one.info.names {
                let (table, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut resolver.wildcard, rest),
                    None => (&mut resolver.exact, name.as_str()),
                };
                table.entry(name.to_owned()).or_default().push(candidate.clone());
            }
            excepted.extend(one.except.into_iter().map(|name| (name, one.key.clone())));
        }
        // A name that a wildcard would match, and is not to.
        for (name, key) in excepted {
            let of_wildcard = name.split_once('.').and_then(|(_, rest)| resolver.wildcard.get(rest));
            let known = resolver.exact.get(&name).or(of_wildcard).cloned().unwrap_or_default();
            let left = known.into_iter().filter(|(other, _)| !Arc::ptr_eq(other, &key)).collect();
            resolver.exact.insert(name, left);
        }
        resolver
    }

    pub(super) fn candidates(&self, name: Option<&str>) -> &[Candidate] {
        // rustls gives names in lower case.
        let known = name.and_then(|name| {
            let exact = self.exact.get(name);
            exact.or_else(|| self.wildcard.get(name.split_once('.')?.1))
        });
        let known = known.filter(|found| !found.is_empty());
        match known {
            Some(found) => found,
            None if self.strict => &[],
            None => &self.default,
        }
    }
}

impl Resolver {
    /// The first that a client with these schemes can check.
    fn choose<'a>(&self, all: &'a [Candidate], schemes: &[SignatureScheme]) -> Option<&'a Candidate> {
        all.iter().find(|(key, _)| key.key.choose_scheme(schemes).is_some()).or(all.first())
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = self.candidates(hello.server_name());
        self.choose(all, hello.signature_schemes()).map(|(key, _)| key.clone())
    }
}
