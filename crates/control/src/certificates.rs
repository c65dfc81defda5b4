//! Certificates of services and of the web UI: who uses which, and when they end; replacing one.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use evenkeel_admin::{FailureKind, Refused};
use evenkeel_api as api;
use tracing::info;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::control::{Control, wall_ms};

const DAY_MS: i64 = 86_400_000;

/// What files held when they were last read, and of when they were.
pub type Read = Mutex<HashMap<PathBuf, (State, api::Certificate)>>;

/// When a file was changed, and the version of what is held in its place.
type State = (Option<SystemTime>, Option<u64>);

impl Control {
    /// Files with certificates, and who uses them.
    pub fn certificate_files(&self) -> BTreeMap<PathBuf, Vec<String>> {
        let mut files: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
        for service in &self.snapshot().services {
            let Some(tls) = &service.tls else { continue };
            let listed = tls.list.as_deref().map_or_else(Vec::new, evenkeel_l7::tls::listed_files);
            let managed = tls.managed.iter().map(|managed| &managed.file);
            for path in tls.certificates.iter().chain(&listed).chain(managed) {
                for file in files_in(path) {
                    let used_by = files.entry(file).or_default();
                    if !used_by.iter().any(|name| name == service.name.as_str()) {
                        used_by.push(service.name.as_str().to_owned());
                    }
                }
            }
        }
        for pool in &self.snapshot().pools {
            for tls in pool.real_servers.iter().filter_map(|server| server.tls(pool)) {
                let Some(file) = &tls.certificate else { continue };
                let (used_by, name) = (files.entry(file.clone()).or_default(), format!("pool {}", pool.name));
                if !used_by.contains(&name) {
                    used_by.push(name);
                }
            }
        }
        let admin = &self.snapshot().admin;
        if !admin.listen.is_empty() {
            let own = self.snapshot().state_directory.join("admin.pem");
            let file = admin.certificate.clone().unwrap_or(own);
            files.entry(file).or_default().push("the web UI".into());
        }
        files
    }

    /// The first certificate of every file; the first to end comes first.
    pub fn certificates(&self) -> Vec<api::Certificate> {
        // A scrape of the metrics asks for all of them: only files that are new are read.
        let mut known = self.certificates_read.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *known);
        let mut all = Vec::new();
        for (file, used_by) in self.certificate_files() {
            let modified = std::fs::metadata(&file).and_then(|m| m.modified()).ok();
            let changed = (modified, evenkeel_files::held_version(&file));
            let same = before.get(&file).filter(|(at, _)| changed != (None, None) && *at == changed);
            let mut one = same.map_or_else(|| describe(&file, used_by.clone()), |(_, one)| one.clone());
            known.insert(file.clone(), (changed, one.clone()));
            let path = file;
            if one.trouble.is_none() {
                one.days_left = days_left(one.not_after_ms);
            }
            one.managed = self.managed_by(&path);
            if let Some(managed) = one.managed.as_ref().filter(|managed| managed.stand_in) {
                one.names.clone_from(&managed.names);
                one.trouble = Some(match &managed.last_error {
                    Some(why) => format!("not there yet, a self-signed one is served: {why}"),
                    None => "not there yet, a self-signed one is served".into(),
                });
            }
            all.push(api::Certificate { used_by, ..one });
        }
        all.sort_by_key(|c| c.not_after_ms);
        all
    }

    /// Replaces a file that the configuration names: a certificate and its key, checked together.
    pub fn put_certificate(&mut self, name: &str, pem: &str) -> Result<api::Certificate, Refused> {
        let files = self.certificate_files();
        let mut found = files
            .into_iter()
            .filter(|(file, _)| file.file_name().is_some_and(|f| f == name) || file == Path::new(name));
        let (first, second) = (found.next(), found.next());
        if let (Some((first, _)), Some((second, _))) = (&first, &second) {
            let (first, second) = (first.display(), second.display());
            let why = format!(
                "several files are named {name}, {first} and {second} among them: nothing was changed; give them names of their own"
            );
            return Err(Refused::new(FailureKind::Failed, why));
        }
        let Some((file, used_by)) = first else {
            let why = format!(
                "no service uses a certificate file named {name}; GET /api/v1/certificates lists them"
            );
            return Err(Refused::new(FailureKind::NotFound, why));
        };
        let invalid = |why: String| Refused::new(FailureKind::Invalid, why);
        // What could not be served must not replace what can.
        evenkeel_admin::tls(pem, false).map_err(invalid)?;
        let new = describe_text(&file, pem.as_bytes(), used_by.clone());
        if let Some(trouble) = new.trouble {
            return Err(invalid(trouble));
        }
        if new.not_after_ms <= wall_ms() as i64 {
            return Err(invalid("the certificate has ended already".into()));
        }
        let failed =
            |e: std::io::Error| Refused::new(FailureKind::Failed, format!("{}: {e}", file.display()));
        evenkeel_files::write_private(&file, pem.as_bytes()).map_err(failed)?;
        evenkeel_files::hold(&file, None);
        info!(file = %file.display(), "certificate replaced");
        self.look_at_files();
        Ok(describe(&file, used_by))
    }
}

fn days_left(not_after_ms: i64) -> i64 {
    (not_after_ms - wall_ms() as i64).div_euclid(DAY_MS)
}

fn files_in(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.is_file()).collect();
    files.extend(evenkeel_files::held_in(path));
    files.sort();
    files.dedup();
    files
}

fn describe(file: &Path, used_by: Vec<String>) -> api::Certificate {
    match evenkeel_files::read(file, evenkeel_files::PEM_AT_MOST) {
        Ok(pem) => describe_text(file, &pem, used_by),
        Err(error) => troubled(file, used_by, error.to_string()),
    }
}

fn troubled(file: &Path, used_by: Vec<String>, why: String) -> api::Certificate {
    api::Certificate {
        file: file.display().to_string(),
        used_by,
        names: Vec::new(),
        issuer: String::new(),
        not_before_ms: 0,
        not_after_ms: 0,
        days_left: 0,
        trouble: Some(why),
        managed: None,
    }
}

/// Whether a text can be what a file of certificates, of a key, or of both holds.
pub fn check_pem(text: &str) -> Result<(), String> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let keys: Result<Vec<_>, _> = PrivateKeyDer::pem_slice_iter(text.as_bytes()).collect();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let (Ok(keys), Ok(certificates)) = (keys, certificates) else { return Err("is no PEM".into()) };
    for der in &certificates {
        X509Certificate::from_der(der).map_err(|_| "a certificate in it cannot be read".to_owned())?;
    }
    match (certificates.len(), keys.len()) {
        (0, 0) => Err("holds neither a certificate nor a key".into()),
        // A certificate with its key, which must belong to it.
        (1.., 1) => evenkeel_admin::tls(text, false).map(drop),
        _ => Ok(()),
    }
}

/// The certificate that a text begins with.
pub fn described(file: &Path, pem: &[u8]) -> api::Certificate {
    describe_text(file, pem, Vec::new())
}

fn describe_text(file: &Path, pem: &[u8], used_by: Vec<String>) -> api::Certificate {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let first = CertificateDer::pem_slice_iter(pem).next();
    let Some(Ok(der)) = first else { return troubled(file, used_by, "there is no certificate in it".into()) };
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else {
        return troubled(file, used_by, "the certificate cannot be read".into());
    };
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push((*name).to_owned()),
                GeneralName::IPAddress([a, b, c, d]) => names.push(format!("{a}.{b}.{c}.{d}")),
                _ => {}
            }
        }
    }
    if names.is_empty() {
        names.push(certificate.subject().to_string());
    }
    let ms = |time: &x509_parser::time::ASN1Time| time.timestamp() * 1000;
    let (from, to) = (ms(&certificate.validity().not_before), ms(&certificate.validity().not_after));
    api::Certificate {
        file: file.display().to_string(),
        used_by,
        names,
        issuer: certificate.issuer().to_string(),
        not_before_ms: from,
        not_after_ms: to,
        days_left: days_left(to),
        trouble: None,
        managed: None,
    }
}
