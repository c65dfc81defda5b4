//! `set`, `commit`, `abort`, `new`, `del` and `show ssl cert`: how hooks of acme.sh and certbot roll certificates. A new one is
//! kept until it is committed, as HAProxy does; then it is checked with its key, written, and in use.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use evenkeel_admin::Request;
use evenkeel_api as api;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::sample::Known;

/// What one command may carry.
pub const PAYLOAD_AT_MOST: usize = 1 << 20;
/// Certificates that wait for their commit.
const OPEN_AT_MOST: usize = 64;

/// Certificates that were set and not committed, by file.
#[derive(Default)]
pub struct Transactions {
    open: Mutex<BTreeMap<String, String>>,
    /// Those that `new ssl cert` has made: whether they are written.
    new: Mutex<BTreeMap<String, bool>>,
}

impl Transactions {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        act(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_new<T>(&self, act: impl FnOnce(&mut BTreeMap<String, bool>) -> T) -> T {
        act(&mut self.new.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_new(&self, file: &str) -> bool {
        self.with_new(|new| new.contains_key(file))
    }
}

/// Whether a line announces text up to an empty line.
pub fn wants_payload(line: &str) -> bool {
    line.trim_end().ends_with("<<")
}

async fn all(known: &Known) -> Vec<api::Certificate> {
    known.ask(Request::Certificates).await.unwrap_or_default()
}

/// `set ssl cert FILE <<`, with what followed.
pub async fn set(known: &Known, file: &str, pem: &str) -> String {
    if !known.certificates.is_new(file) && !all(known).await.iter().any(|one| one.file == file) {
        return format!(
            "Can't replace a certificate which is not referenced by the configuration!\nCan't update {file}!\n"
        );
    }
    if pem.trim().is_empty() {
        return "'set ssl cert' expects a filename and a certificate as a payload\n".into();
    }
    if let Err(why) = evenkeel_admin::tls(pem, false) {
        return format!("{why}\nCan't update {file}!\n");
    }
    known.certificates.with(|open| {
        if open.len() >= OPEN_AT_MOST && !open.contains_key(file) {
            return "too many transactions: commit or abort some\n".to_owned();
        }
        match open.insert(file.to_owned(), pem.to_owned()) {
            None => format!("Transaction created for certificate {file}!\n"),
            Some(_) => format!("Transaction updated for certificate {file}!\n"),
        }
    })
}

pub async fn commit(known: &Known, file: &str) -> String {
    let Some(pem) = known.certificates.with(|open| open.remove(file)) else {
        return format!("No ongoing transaction! !\nCan't commit {file}!\n");
    };
    if known.certificates.is_new(file) && !all(known).await.iter().any(|one| one.file == file) {
        let written = known.certificates.with_new(|new| new.get(file).copied()) == Some(true);
        if !written && is_there(file) {
            return format!("{file}: {NOT_OURS}\nCan't commit {file}!\n");
        }
        return match evenkeel_files::write_private(Path::new(file), pem.as_bytes()) {
            Ok(()) => {
                known.certificates.with_new(|new| new.insert(file.to_owned(), true));
                format!("Committing {file}.\nSuccess!\n")
            }
            Err(error) => format!("{file}: {error}\nCan't commit {file}!\n"),
        };
    }
    let name = file.to_owned();
    match known.ask(|reply| Request::PutCertificate { name, pem, reply }).await {
        Some(Ok(_)) => format!("Committing {file}.\nSuccess!\n"),
        Some(Err(refused)) => format!("{}\nCan't commit {file}!\n", refused.failure.detail),
        None => "the process stops\n".into(),
    }
}

pub fn abort(known: &Known, file: &str) -> String {
    match known.certificates.with(|open| open.remove(file)) {
        Some(_) => format!("Transaction aborted for certificate '{file}'!\n"),
        None => "No ongoing transaction!\n".into(),
    }
}

/// A key, or what another program has there, must not be replaced, nor removed by `del ssl cert` afterwards.
const NOT_OURS: &str = "a file is there that the configuration does not name";

fn is_there(file: &str) -> bool {
    std::fs::symlink_metadata(file).is_ok()
}

/// `new ssl cert FILE`: room for a certificate that a list shall have. It is written with its commit.
pub async fn new(known: &Known, file: &str) -> String {
    let refused = |why: &str| format!("Can't create a new certificate store!\n{why}\n");
    let used: Vec<String> = all(known).await.into_iter().map(|one| one.file).collect();
    if used.iter().any(|one| one == file) || known.certificates.is_new(file) {
        return refused(&format!("certificate '{file}' already exists!"));
    }
    if !known.files.may_hold(Path::new(file), &used) {
        return refused(&format!("'{file}' lies in no folder that the configuration has certificates in"));
    }
    if is_there(file) {
        return refused(&format!("{file}: {NOT_OURS}"));
    }
    known.certificates.with_new(|new| {
        if new.len() >= OPEN_AT_MOST {
            return refused("too many new ones: delete some");
        }
        new.insert(file.to_owned(), false);
        format!("New empty certificate store '{file}'!\n")
    })
}

/// `del ssl cert FILE`: takes back what `new ssl cert` has made.
pub async fn delete(known: &Known, file: &str) -> String {
    let refused = |why: String| format!("Can't remove the certificate: {why}\n");
    if all(known).await.iter().any(|one| one.file == file) {
        return refused(format!("certificate '{file}' is in use, it can't be deleted!"));
    }
    let Some(written) = known.certificates.with_new(|new| new.remove(file)) else {
        return refused(format!("certificate '{file}' doesn't exist!"));
    };
    known.certificates.with(|open| open.remove(file));
    match if written { std::fs::remove_file(file) } else { Ok(()) } {
        Ok(()) => format!("Certificate '{file}' deleted!\n"),
        Err(error) => refused(format!("{file}: {error}")),
    }
}

/// All files, or one with what is in it; `*FILE` is the one that waits for its commit.
pub async fn show(known: &Known, file: Option<&str>) -> String {
    let open: Vec<String> = known.certificates.with(|open| open.keys().cloned().collect());
    let Some(file) = file else {
        let transactions: String = open.iter().map(|file| format!("# transaction\n*{file}\n")).collect();
        let mut names: Vec<String> = all(known).await.into_iter().map(|one| one.file).collect();
        let new = known.certificates.with_new(|new| new.keys().cloned().collect::<Vec<_>>());
        let unused: Vec<String> = new.into_iter().filter(|file| !names.contains(file)).collect();
        names.extend(unused);
        let files: String = names.iter().map(|name| format!("{name}\n")).collect();
        return format!("{transactions}# filename\n{files}");
    };
    let plain = file.trim_start_matches('*');
    let Some(one) = all(known).await.into_iter().find(|one| one.file == plain) else {
        return "Can't display the certificate: Not found or the certificate is a bundle!\n".into();
    };
    let time = |ms: i64| {
        let at = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
        at.strftime("%b %e %H:%M:%S %Y GMT").to_string()
    };
    let names: Vec<String> = one.names.iter().map(|name| format!("DNS:{name}")).collect();
    let waits = known.certificates.with(|open| open.get(plain).cloned()).filter(|_| file.starts_with('*'));
    let pem = waits.map(String::into_bytes).or_else(|| std::fs::read(plain).ok()).unwrap_or_default();
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
    let leaf = chain.first().map_or(&[][..], |der| der);
    let asked = |name: &str| evenkeel_trust::field(leaf, name).unwrap_or_default();
    let mut out = format!(
        "Filename: {file}\nStatus: {}\nSerial: {}\nnotBefore: {}\nnotAfter: {}\nSubject Alternative Name: {}\nAlgorithm: {}\nSHA1 FingerPrint: {}\nSubject: {}\nIssuer: {}\n",
        if one.used_by.is_empty() { "Unused" } else { "Used" },
        asked("serial"),
        time(one.not_before_ms),
        time(one.not_after_ms),
        names.join(", "),
        asked("key"),
        asked("sha1"),
        asked("subject"),
        asked("issuer"),
    );
    for der in chain.iter().skip(1) {
        let of = |name: &str| evenkeel_trust::field(der, name).unwrap_or_default();
        out += &format!("Chain Subject: {}\nChain Issuer: {}\n", of("subject"), of("issuer"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_announce_text() {
        assert!(wants_payload("set ssl cert /a.pem <<") && wants_payload("set ssl cert /a.pem << "));
        assert!(!wants_payload("set ssl cert /a.pem") && !wants_payload("<< set"));
    }
}
