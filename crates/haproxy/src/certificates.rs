//! `set`, `commit`, `abort`, `new`, `del` and `show ssl cert`: how hooks of acme.sh and certbot roll certificates. A new one is
//! kept until it is committed, and stands in for its file then until the process ends, as HAProxy's do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use evenkeel_admin::Request;
use evenkeel_api as api;
use evenkeel_model::Snapshot;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::sample::Known;

/// What one command may carry.
pub const PAYLOAD_AT_MOST: usize = 1 << 20;
/// Certificates that wait for their commit.
const OPEN_AT_MOST: usize = 64;

/// Certificates that were set and not committed, by file.
#[derive(Default)]
pub struct Transactions {
    open: Mutex<BTreeMap<String, String>>,
    /// Those that `new ssl cert` has made.
    new: Mutex<BTreeSet<String>>,
    /// Those that servers of the configuration are shown. HAProxy keeps them when their servers go.
    of_servers: BTreeSet<String>,
}

impl Transactions {
    pub fn of(snapshot: &Snapshot) -> Transactions {
        let each = snapshot
            .pools
            .iter()
            .flat_map(|pool| pool.real_servers.iter().filter_map(|server| server.tls(pool)));
        let of_servers =
            each.filter_map(|tls| tls.certificate.as_ref()).map(|file| file.display().to_string());
        Transactions { of_servers: of_servers.collect(), ..Transactions::default() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        act(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what waits for a certificate, and for its key where that lies apart.
    fn take(&self, file: &str) -> Vec<(String, String)> {
        let names = std::iter::once(file.to_owned()).chain(keys_of(file));
        self.with(|open| names.filter_map(|name| open.remove_entry(&name)).collect())
    }

    fn with_new<T>(&self, act: impl FnOnce(&mut BTreeSet<String>) -> T) -> T {
        act(&mut self.new.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_new(&self, file: &str) -> bool {
        self.of_servers.contains(file) || self.with_new(|new| new.contains(file))
    }
}

/// Whether a line announces text up to an empty line.
pub fn wants_payload(line: &str) -> bool {
    line.trim_end().ends_with("<<")
}

async fn all(known: &Known) -> Vec<api::Certificate> {
    known.ask(Request::Certificates).await.unwrap_or_default()
}

/// The certificate whose key lies in a file of its own, and that file.
fn owner_of_key<'a>(file: &str, known: &'a [api::Certificate]) -> Option<&'a str> {
    known.iter().map(|one| one.file.as_str()).find(|one| keys_of(one).iter().any(|key| key == file))
}

/// Where the key of a certificate may be.
fn keys_of(file: &str) -> [String; 2] {
    [format!("{file}.key"), Path::new(file).with_extension("key").display().to_string()]
}

/// Why a certificate, or the key that lies beside one, is not what it should be.
fn check(file: &str, pem: &str, is_key: bool) -> Result<(), String> {
    if is_key {
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes());
        return key.map(drop).map_err(|_| "holds no private key that can be used".into());
    }
    let has_key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).is_ok();
    match !has_key && keys_of(file).iter().any(|key| evenkeel_files::is_file(&place(key))) {
        // Its key may come after it: both are tried together when they are committed.
        true => match CertificateDer::pem_slice_iter(pem.as_bytes()).next() {
            Some(Ok(_)) => Ok(()),
            _ => Err("holds no certificate".into()),
        },
        false => evenkeel_admin::tls(pem, false).map(drop),
    }
}

/// `set ssl cert FILE <<`, with what followed: a certificate with its key, or one of both where they are apart.
pub async fn set(known: &Known, file: &str, pem: &str) -> String {
    let used = all(known).await;
    let is_certificate = known.certificates.is_new(file) || used.iter().any(|one| one.file == file);
    if !is_certificate && owner_of_key(file, &used).is_none() {
        return format!(
            "Can't replace a certificate which is not referenced by the configuration!\nCan't update {file}!\n"
        );
    }
    if pem.trim().is_empty() {
        return "'set ssl cert' expects a filename and a certificate as a payload\n".into();
    }
    if let Err(why) = check(file, pem, !is_certificate) {
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

/// Where a file is that a command names; some have no folder.
pub fn place(file: &str) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| PathBuf::from(file))
}

/// Puts a content in the place of a file's and has it used; what there was before stays where it cannot be.
pub async fn hold(known: &Known, file: &str, content: &[u8]) -> Result<(), String> {
    hold_all(known, &[(file, content)]).await
}

/// The same of several files at once: all of them, or none.
async fn hold_all(known: &Known, all: &[(&str, &[u8])]) -> Result<(), String> {
    let before: Vec<_> = all
        .iter()
        .map(|(file, content)| (place(file), evenkeel_files::hold(&place(file), Some((*content).into()))))
        .collect();
    match known.ask(Request::ReadFiles).await {
        Some(Ok(())) => Ok(()),
        refused => {
            for (place, before) in before {
                evenkeel_files::hold(&place, before);
            }
            let _ = known.ask(Request::ReadFiles).await;
            Err(refused.and_then(Result::err).unwrap_or_else(|| "the process stops".into()))
        }
    }
}

pub async fn commit(known: &Known, file: &str) -> String {
    let taken = known.certificates.take(file);
    if taken.is_empty() {
        return format!("No ongoing transaction! !\nCan't commit {file}!\n");
    }
    let contents: Vec<(&str, &[u8])> =
        taken.iter().map(|(file, pem)| (file.as_str(), pem.as_bytes())).collect();
    match hold_all(known, &contents).await {
        Ok(()) => format!("Committing {file}.\nSuccess!\n"),
        Err(why) => format!("{why}\nCan't commit {file}!\n"),
    }
}

pub fn abort(known: &Known, file: &str) -> String {
    match known.certificates.take(file).is_empty() {
        false => format!("Transaction aborted for certificate '{file}'!\n"),
        true => "No ongoing transaction!\n".into(),
    }
}

pub const NOT_OURS: &str =
    "a file is there that the configuration does not name, in a folder without certificates";

/// `new ssl cert FILE`: room for a certificate that a list or a server shall have.
pub async fn new(known: &Known, file: &str) -> String {
    let refused = |why: &str| format!("Can't create a new certificate store!\n{why}\n");
    let used: Vec<String> = all(known).await.into_iter().map(|one| one.file).collect();
    if used.iter().any(|one| one == file) || known.certificates.is_new(file) {
        return refused(&format!("certificate '{file}' already exists!"));
    }
    if !known.files.may_hold(&place(file), &used) {
        return refused(&format!("{file}: {NOT_OURS}"));
    }
    known.certificates.with_new(|new| {
        if new.len() >= OPEN_AT_MOST {
            return refused("too many new ones: delete some");
        }
        new.insert(file.to_owned());
        format!("New empty certificate store '{file}'!\n")
    })
}

/// `del ssl cert FILE`: takes back what `new ssl cert` has made.
pub async fn delete(known: &Known, file: &str) -> String {
    let refused = |why: String| format!("Can't remove the certificate: {why}\n");
    if all(known).await.iter().any(|one| one.file == file) {
        return refused(format!("certificate '{file}' is in use, it can't be deleted!"));
    }
    if !known.certificates.with_new(|new| new.remove(file)) {
        return refused(format!("certificate '{file}' doesn't exist!"));
    }
    known.certificates.with(|open| open.remove(file));
    evenkeel_files::hold(&place(file), None);
    format!("Certificate '{file}' deleted!\n")
}

/// What a file holds, or what is held in its place.
pub fn content(file: &str) -> Vec<u8> {
    evenkeel_files::read(&place(file), evenkeel_files::PEM_AT_MOST).unwrap_or_default()
}

/// All files, or one with what is in it; `*FILE` is the one that waits for its commit.
pub async fn show(known: &Known, file: Option<&str>) -> String {
    let open: Vec<String> = known.certificates.with(|open| open.keys().cloned().collect());
    let Some(file) = file else {
        let transactions: String = open.iter().map(|file| format!("# transaction\n*{file}\n")).collect();
        let mut names: Vec<String> = all(known).await.into_iter().map(|one| one.file).collect();
        let new = known.certificates.with_new(|new| new.iter().cloned().collect::<Vec<_>>());
        let unused: Vec<String> = new.into_iter().filter(|file| !names.contains(file)).collect();
        names.extend(unused);
        let kept: Vec<String> =
            known.certificates.of_servers.iter().filter(|file| !names.contains(file)).cloned().collect();
        names.extend(kept);
        let files: String = names.iter().map(|name| format!("{name}\n")).collect();
        return format!("{transactions}# filename\n{files}");
    };
    let plain = file.trim_start_matches('*');
    let waits = known.certificates.with(|open| open.get(plain).cloned()).filter(|_| file.starts_with('*'));
    let pem = waits.map(String::into_bytes).unwrap_or_else(|| content(plain));
    let one = match all(known).await.into_iter().find(|one| one.file == plain) {
        Some(one) => one,
        None if known.certificates.is_new(plain) => evenkeel_control::described(Path::new(plain), &pem),
        None => return "Can't display the certificate: Not found or the certificate is a bundle!\n".into(),
    };
    let time = |ms: i64| {
        let at = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
        at.strftime("%b %e %H:%M:%S %Y GMT").to_string()
    };
    let names: Vec<String> = one.names.iter().map(|name| format!("DNS:{name}")).collect();
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
    fn keys_lie_beside_their_certificates() {
        let one = |file: &str| evenkeel_control::described(Path::new(file), b"");
        let known = [one("/c/a.crt"), one("/c/b.pem")];
        assert_eq!(owner_of_key("/c/a.key", &known), Some("/c/a.crt"));
        assert_eq!(owner_of_key("/c/b.pem.key", &known), Some("/c/b.pem"));
        assert_eq!(owner_of_key("/c/c.key", &known), None);
        let open = Transactions::default();
        open.with(|all| all.insert("/c/a.key".into(), "key".into()));
        assert_eq!(open.take("/c/a.crt"), [("/c/a.key".to_owned(), "key".to_owned())]);
        assert!(open.take("/c/a.crt").is_empty());
    }

    #[test]
    fn lines_that_announce_text() {
        assert!(wants_payload("set ssl cert /a.pem <<") && wants_payload("set ssl cert /a.pem << "));
        assert!(!wants_payload("set ssl cert /a.pem") && !wants_payload("<< set"));
    }
}
