//! Commands on lists of certificates, authorities and revocation lists: what hooks such as acme.sh's send besides
//! `set ssl cert`. All of it is in memory alone and stands in for the files until the process ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use evenkeel_admin::Request;
use evenkeel_model::Snapshot;
use evenkeel_trust::Authorities;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificates;
use super::sample::Known;

/// Authorities and revocation lists that wait for their commit.
const OPEN_AT_MOST: usize = 64;

/// Files that the configuration names, which commands may change.
#[derive(Default)]
pub struct Files {
    /// Lists of certificates, and folders of them, which HAProxy shows as lists.
    lists: BTreeSet<String>,
    /// Services by the lists whose first certificate answers clients that name no host of them.
    defaults: BTreeMap<String, BTreeSet<String>>,
    authorities: BTreeSet<String>,
    revocations: BTreeSet<String>,
    /// Of those kinds, made by `new`.
    new: Mutex<BTreeSet<(TrustFile, String)>>,
    open: Mutex<BTreeMap<String, String>>,
}

/// What a file of a command is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum TrustFile {
    Authorities,
    Revocations,
}

impl TrustFile {
    fn of(word: &str) -> Option<TrustFile> {
        match word {
            "ca-file" => Some(TrustFile::Authorities),
            "crl-file" => Some(TrustFile::Revocations),
            _ => None,
        }
    }

    fn words(self) -> &'static str {
        if self == TrustFile::Authorities { "CA" } else { "CRL" }
    }

    /// How many authorities a file has, as lists of files say it.
    fn counted(self, pem: &[u8]) -> String {
        let certificates = CertificateDer::pem_slice_iter(pem).flatten().count();
        if self == TrustFile::Authorities {
            format!(" - {certificates} certificate(s)")
        } else {
            String::new()
        }
    }

    /// Why a text is not what it should be.
    fn check(self, pem: &str) -> Result<(), String> {
        let certificates = || CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let lists =
            || CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let good = match self {
            TrustFile::Authorities => certificates().is_ok_and(|all| Authorities::new(all).is_some()),
            TrustFile::Revocations => lists().is_ok_and(|all| {
                !all.is_empty() && all.iter().all(|der| CertificateRevocationList::from_der(der).is_ok())
            }),
        };
        if good { Ok(()) } else { Err(format!("the payload holds no {} in PEM", self.words())) }
    }
}

impl Files {
    pub fn of(snapshot: &Snapshot) -> Files {
        let mut files = Files::default();
        for (service, tls) in snapshot.services.iter().filter_map(|s| Some((s, s.tls.as_ref()?))) {
            for list in tls.list.iter().filter(|_| !tls.strict_sni) {
                let of_list = files.defaults.entry(list.display().to_string()).or_default();
                of_list.insert(service.name.to_string());
            }
            let folders = tls.certificates.iter().filter(|path| path.is_dir());
            files.lists.extend(tls.list.iter().chain(folders).map(|path| path.display().to_string()));
            if let Some(auth) = &tls.client_auth {
                let authorities = std::iter::once(&auth.ca).chain(&auth.verify_ca);
                files.authorities.extend(authorities.map(|file| file.display().to_string()));
                files.revocations.extend(auth.crl.iter().map(|crl| crl.display().to_string()));
            }
        }
        for pool in &snapshot.pools {
            let own = pool.real_servers.iter().filter_map(|server| server.tls(pool));
            for tls in pool.server_tls.iter().chain(own) {
                files.authorities.extend(tls.ca.iter().map(|file| file.display().to_string()));
                files.revocations.extend(tls.crl.iter().map(|file| file.display().to_string()));
            }
        }
        files
    }

    /// Whether a new one may stand in for this file: it is not there, or it lies where certificates do. What else is
    /// on the disk is read by others, who must not find a certificate in its place.
    pub fn may_hold(&self, file: &Path, certificates: &[String]) -> bool {
        if std::fs::symlink_metadata(file).is_err() {
            return true;
        }
        let Some(folder) = file.parent() else { return false };
        let named = self.lists.iter().chain(&self.authorities).chain(&self.revocations).chain(certificates);
        let plain = !file.components().any(|part| part == std::path::Component::ParentDir);
        let holds = |path: &Path| path == folder || path.parent() == Some(folder);
        plain && named.map(|name| certificates::place(name)).any(|path| holds(&path))
    }

    fn list(&self, name: &str) -> Option<&str> {
        let plain = |path: &str| path.trim_end_matches('/').to_owned();
        self.lists.iter().find(|known| plain(known) == plain(name)).map(String::as_str)
    }

    /// Those of the configuration, and those that `new` has made.
    fn of_kind(&self, kind: TrustFile) -> BTreeSet<String> {
        let named = if kind == TrustFile::Authorities { &self.authorities } else { &self.revocations };
        let made = self.with_new(|new| {
            let made = new.iter().filter(|(of, _)| *of == kind);
            made.map(|(_, file)| file.clone()).collect::<Vec<_>>()
        });
        named.iter().cloned().chain(made).collect()
    }

    fn with_new<T>(&self, act: impl FnOnce(&mut BTreeSet<(TrustFile, String)>) -> T) -> T {
        act(&mut self.new.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        act(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A command that changes something; `None` is one that is not there.
pub async fn change(known: &Known, what: &str, words: &[&str], payload: &str) -> Option<String> {
    let words: Vec<&str> = words.iter().copied().filter(|word| *word != "<<").collect();
    let done = changed(known, what, &words, payload).await?;
    // Whoever asks next finds what was changed.
    if !matches!(words.first(), Some(&"cert")) && matches!(what, "add" | "del" | "commit") {
        let _ = known.ask(Request::ReadFiles).await;
    }
    Some(done)
}

/// The text of a list, or what is held in its place.
fn text_of(list: &str) -> std::io::Result<String> {
    evenkeel_files::read_text(Path::new(list), evenkeel_files::LIST_AT_MOST)
}

async fn changed(known: &Known, what: &str, words: &[&str], payload: &str) -> Option<String> {
    Some(match (what, words) {
        ("set", ["cert", file]) => certificates::set(known, file, payload).await,
        ("commit", ["cert", file]) => certificates::commit(known, file).await,
        ("abort", ["cert", file]) => certificates::abort(known, file),
        ("new", ["cert", file]) => certificates::new(known, file).await,
        ("del", ["cert", file]) => certificates::delete(known, file).await,
        ("add" | "del", ["cert", ..]) => return None,
        (_, ["cert", ..]) => format!("'{what} ssl cert' expects a filename\n"),
        ("add", ["crt-list", list, rest @ ..]) => {
            add(known, list, rest, payload).await.unwrap_or_else(|why| why)
        }
        ("del", ["crt-list", list, entry]) => delete(known, list, entry).await.unwrap_or_else(|why| why),
        ("add" | "del", ["crt-list", ..]) => {
            format!("'{what} ssl crt-list' expects a filename and an entry\n")
        }
        ("new", [word, file]) => new(known, TrustFile::of(word)?, file),
        ("del", [word, file]) => remove(known, TrustFile::of(word)?, file).await,
        ("set", [word, file]) => set(known, TrustFile::of(word)?, file, payload),
        ("add", ["ca-file", file]) => add_authority(known, file, payload),
        ("commit", [word, file]) => commit(known, TrustFile::of(word)?, file).await,
        ("abort", [word, file]) => abort(known, TrustFile::of(word)?, file),
        _ => return None,
    })
}

pub async fn show(known: &Known, words: &[&str]) -> Option<String> {
    Some(match words {
        ["cert", rest @ ..] => certificates::show(known, rest.first().copied()).await,
        ["crt-list"] => known.files.lists.iter().map(|list| format!("{list}\n")).collect(),
        ["crt-list", "-n", list] => show_list(known, list, true),
        ["crt-list", list] => show_list(known, list, false),
        [word] => {
            let kind = TrustFile::of(word)?;
            let open: Vec<String> = known.files.with(|open| {
                open.keys().filter(|file| known.files.of_kind(kind).contains(*file)).cloned().collect()
            });
            let waits = |file: &String| {
                let text = known.files.with(|open| open.get(file).cloned()).unwrap_or_default();
                format!("# transaction\n*{file}{}\n", kind.counted(text.as_bytes()))
            };
            let open: String = open.iter().map(waits).collect();
            let shown = |file: &String| format!("{file}{}\n", kind.counted(&certificates::content(file)));
            let all: String = known.files.of_kind(kind).iter().map(shown).collect();
            format!("{open}# filename\n{all}")
        }
        [word, file] => show_one(known, TrustFile::of(word)?, file),
        _ => return None,
    })
}

/// The entries of a list as they are written, with the numbers of their lines.
fn entries(list: &str) -> Result<Vec<(usize, String)>, String> {
    if Path::new(list).is_dir() {
        let files = evenkeel_l7::tls::files_in(Path::new(list)).map_err(|e| format!("{list}: {e}\n"))?;
        let numbered = files.iter().enumerate().map(|(i, file)| (i + 1, file.display().to_string()));
        return Ok(numbered.collect());
    }
    let text = text_of(list).map_err(|e| format!("{list}: {e}\n"))?;
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim().to_owned()));
    Ok(lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect())
}

fn show_list(known: &Known, name: &str, numbers: bool) -> String {
    let Some(list) = known.files.list(name) else { return "didn't find the specified filename\n".into() };
    let shown = |(number, line): (usize, String)| match (numbers, line.split_once(char::is_whitespace)) {
        (false, _) => format!("{line}\n"),
        (true, None) => format!("{line}:{number}\n"),
        (true, Some((file, names))) => format!("{file}:{number} {}\n", names.trim_start()),
    };
    match entries(list) {
        Ok(all) => format!("# {list}\n{}", all.into_iter().map(shown).collect::<String>()),
        Err(why) => why,
    }
}

async fn add(known: &Known, name: &str, rest: &[&str], payload: &str) -> Result<String, String> {
    let refused = |why: String| format!("Can't edit the crt-list: {why}\n");
    let lines: Vec<&str> = match rest {
        [] => payload.lines().map(str::trim).filter(|line| !line.is_empty()).collect(),
        [file] => vec![file],
        _ => Vec::new(),
    };
    let [line] = lines.as_slice() else {
        return Err(refused("one entry is expected: a certificate, or a line of the list as payload".into()));
    };
    let list = known.files.list(name);
    let list = list.ok_or_else(|| refused(format!("crt-list '{name}' does not exist!")))?;
    if line.contains(['[', ']']) {
        return Err(refused("options of single certificates are not there".into()));
    }
    let file = line.split_whitespace().next().unwrap_or_default();
    let place = Path::new(list).parent().unwrap_or(Path::new("")).join(file);
    let pem = evenkeel_files::read_text(&place, evenkeel_files::PEM_AT_MOST)
        .map_err(|_| refused(format!("certificate '{file}' does not exist!")))?;
    evenkeel_admin::tls(&pem, false).map_err(|why| refused(format!("certificate '{file}': {why}")))?;
    if Path::new(list).is_dir() {
        if place.parent() != Some(Path::new(list.trim_end_matches('/'))) {
            return Err(refused(format!("'{list}' is a folder: the certificate must lie in it")));
        }
    } else {
        let text = text_of(list).map_err(|e| refused(e.to_string()))?;
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        certificates::hold(known, list, format!("{text}{end}{line}\n").as_bytes()).await.map_err(refused)?;
    }
    Ok(format!("Inserting certificate '{file}' in crt-list '{list}'.\nSuccess!\n"))
}

async fn delete(known: &Known, name: &str, entry: &str) -> Result<String, String> {
    let refused = |why: &str| format!("Can't delete '{entry}' in crt-list '{name}': {why}\n");
    let list = known.files.list(name).ok_or_else(|| refused("the crt-list does not exist!"))?;
    if Path::new(list).is_dir() {
        return Err(refused("it is a folder: remove the file from it"));
    }
    let (file, number) = match entry.rsplit_once(':') {
        Some((file, number)) => match number.parse::<usize>() {
            Ok(number) => (file, Some(number)),
            Err(_) => (entry, None),
        },
        None => (entry, None),
    };
    let all = entries(list)?;
    let of_file = |(at, line): &&(usize, String)| {
        // A name in a list may leave its folder out.
        let named = line.split_whitespace().next().is_some_and(|named| Path::new(file).ends_with(named));
        named && number.is_none_or(|number| number == *at)
    };
    let found: Vec<usize> = all.iter().filter(of_file).map(|(at, _)| *at).collect();
    let at = match found.as_slice() {
        [] => return Err(refused("there is no such entry")),
        [_] if all.len() == 1 => return Err(refused("it is the last one")),
        [at] if all.first().is_some_and(|(first, _)| first == at)
            && known.files.defaults.contains_key(list) =>
        {
            let services: String =
                known.files.defaults[list].iter().map(|name| format!("\t- {name}\n")).collect();
            return Err(format!(
                "Can't delete the entry: certificate '{file}' cannot be deleted, it is used as default \
                 certificate by the following frontends:\n{services}"
            ));
        }
        [at] => *at,
        _ => {
            return Err(refused(
                "there are several entries of it: use 'CERTIFICATE:LINE', as 'show ssl crt-list -n' has them",
            ));
        }
    };
    let text = text_of(list).map_err(|e| refused(&e.to_string()))?;
    let left = text.lines().enumerate().filter(|(i, _)| i + 1 != at);
    let left: String = left.map(|(_, line)| format!("{line}\n")).collect();
    certificates::hold(known, list, left.as_bytes()).await.map_err(|why| refused(&why))?;
    Ok(format!("Entry '{file}' deleted in crtlist '{list}'!\n"))
}

fn set(known: &Known, kind: TrustFile, file: &str, pem: &str) -> String {
    let what = kind.words();
    if !known.files.of_kind(kind).contains(file) {
        return format!(
            "Can't replace a {what} file which is not referenced by the configuration!\nCan't update {file}!\n"
        );
    }
    if let Err(why) = kind.check(pem) {
        return format!("{why}\nCan't update {file}!\n");
    }
    known.files.with(|open| {
        if open.len() >= OPEN_AT_MOST && !open.contains_key(file) {
            return "too many transactions: commit or abort some\n".to_owned();
        }
        match open.insert(file.to_owned(), pem.to_owned()) {
            None => format!("transaction created for {what} {file}!\n"),
            Some(_) => format!("transaction updated for {what} {file}!\n"),
        }
    })
}

/// `add ssl ca-file`: one more authority, beside those that wait or those that are there.
fn add_authority(known: &Known, file: &str, pem: &str) -> String {
    let waits = known.files.with(|open| open.get(file).cloned());
    let before = waits.unwrap_or_else(|| String::from_utf8_lossy(&certificates::content(file)).into_owned());
    match TrustFile::Authorities.check(pem) {
        Ok(()) => set(known, TrustFile::Authorities, file, &format!("{}\n{pem}", before.trim_end())),
        Err(why) => format!("{why}\nCan't update {file}!\n"),
    }
}

/// `new ssl ca-file` and `new ssl crl-file`: room for what a server or an entry of a list shall be held against.
fn new(known: &Known, kind: TrustFile, file: &str) -> String {
    let what = kind.words();
    if known.files.of_kind(kind).contains(file) {
        return format!("Can't create a new {what} file!\n{what} file '{file}' already exists!\n");
    }
    if !known.files.may_hold(&certificates::place(file), &[]) {
        return format!("Can't create a new {what} file!\n{file}: {}\n", certificates::NOT_OURS);
    }
    known.files.with_new(|new| match new.len() >= OPEN_AT_MOST {
        true => format!("Can't create a new {what} file!\ntoo many new ones: delete some\n"),
        false => {
            new.insert((kind, file.to_owned()));
            format!("New {what} file created '{file}'!\n")
        }
    })
}

/// Takes back what `new` has made.
async fn remove(known: &Known, kind: TrustFile, file: &str) -> String {
    let what = kind.words();
    let refused = |why: &str| format!("Can't remove the {what} file: {why}\n");
    let in_use = || refused(&format!("{what} file '{file}' is in use, it can't be deleted!"));
    let is_new = known.files.with_new(|new| new.contains(&(kind, file.to_owned())));
    match is_new {
        true => {}
        false if known.files.of_kind(kind).contains(file) => return in_use(),
        false => return refused(&format!("{what} file '{file}' doesn't exist!")),
    }
    // Whoever needs it cannot do without.
    let before = evenkeel_files::hold(&certificates::place(file), None);
    if !matches!(known.ask(Request::ReadFiles).await, Some(Ok(()))) {
        evenkeel_files::hold(&certificates::place(file), before);
        let _ = known.ask(Request::ReadFiles).await;
        return in_use();
    }
    known.files.with_new(|new| new.remove(&(kind, file.to_owned())));
    known.files.with(|open| open.remove(file));
    format!("{what} file '{file}' deleted!\n")
}

/// Takes what waits for a file of this kind.
fn take(known: &Known, kind: TrustFile, file: &str) -> Option<String> {
    known.files.of_kind(kind).contains(file).then(|| known.files.with(|open| open.remove(file)))?
}

async fn commit(known: &Known, kind: TrustFile, file: &str) -> String {
    let Some(pem) = take(known, kind, file) else {
        return format!("No ongoing transaction! !\nCan't commit {file}!\n");
    };
    match certificates::hold(known, file, pem.as_bytes()).await {
        Ok(()) => format!("Committing {file}.\nSuccess!\n"),
        Err(why) => format!("{why}\nCan't commit {file}!\n"),
    }
}

fn abort(known: &Known, kind: TrustFile, file: &str) -> String {
    match take(known, kind, file) {
        Some(_) => format!("Transaction aborted for certificate '{file}'!\n"),
        None => "No ongoing transaction!\n".into(),
    }
}

/// A list's issuer, dates and what it revokes.
fn about_list(list: &CertificateRevocationList<'_>) -> String {
    let time = |at: i64| {
        let at = jiff::Timestamp::from_second(at).unwrap_or_default();
        at.strftime("%b %e %H:%M:%S %Y GMT").to_string()
    };
    let mut out = format!("Issuer: {}\n", evenkeel_trust::written_name(list.issuer()));
    out += &format!("Last Update: {}\n", time(list.last_update().timestamp()));
    out +=
        &list.next_update().map_or_else(String::new, |at| format!("Next Update: {}\n", time(at.timestamp())));
    let mut revoked = list.iter_revoked_certificates().peekable();
    out += if revoked.peek().is_none() { "No Revoked Certificates.\n" } else { "Revoked Certificates:\n" };
    for one in revoked {
        let serial: String = one.raw_serial().iter().map(|byte| format!("{byte:02X}")).collect();
        let date = time(one.revocation_date.timestamp());
        out += &format!("    Serial Number: {serial}\n        Revocation Date: {date}\n");
    }
    out
}

/// What one file holds; `*FILE` is the text that waits for its commit, `FILE:NUMBER` one of what it holds.
fn show_one(known: &Known, kind: TrustFile, name: &str) -> String {
    let numbered = name.rsplit_once(':').and_then(|(file, at)| Some((file, at.parse::<usize>().ok()?)));
    let (name, only) = numbered.map_or((name, None), |(file, at)| (file, Some(at)));
    let file = name.trim_start_matches('*');
    if !known.files.of_kind(kind).contains(file) {
        return format!("Can't display the {}: Not found!\n", kind.words());
    }
    let text = match name.starts_with('*') {
        true => known.files.with(|open| open.get(file).cloned()).unwrap_or_default().into_bytes(),
        false => certificates::content(file),
    };
    let mut out = format!("Filename: {name}\nStatus: Used\n");
    let wanted = if kind == TrustFile::Authorities { SectionKind::Certificate } else { SectionKind::Crl };
    let blocks =
        <(SectionKind, Vec<u8>)>::pem_slice_iter(&text).flatten().filter(|(kind, _)| *kind == wanted);
    for (i, (_, der)) in blocks.enumerate().filter(|(i, _)| only.is_none_or(|at| at == i + 1)) {
        let about = match kind {
            TrustFile::Authorities => {
                let asked = |name: &str| evenkeel_trust::field(&der, name).unwrap_or_default();
                format!(
                    "Certificate #{}:\nSerial: {}\nAlgorithm: {}\nSHA1 FingerPrint: {}\nSubject: {}\nIssuer: {}\n",
                    i + 1,
                    asked("serial"),
                    asked("key"),
                    asked("sha1"),
                    asked("subject"),
                    asked("issuer"),
                )
            }
            TrustFile::Revocations => {
                let list = CertificateRevocationList::from_der(&der).map(|(_, list)| about_list(&list));
                format!("Certificate Revocation List #{}:\n{}", i + 1, list.unwrap_or_default())
            }
        };
        out += &format!("\n{about}");
    }
    out
}
