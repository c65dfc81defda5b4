//! Certificates and keys from PEM files, and what is in them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use evenkeel_model::Managed;
use evenkeel_trust::Authorities;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Identity, read};
use crate::file_error::FileError;

/// A certificate with its key, ready to be shown to clients.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub key: Arc<CertifiedKey>,
    pub info: CertificateInfo,
    /// Names that it is not for, though one of its own matches.
    pub except: Vec<String>,
}

/// What people want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    pub file: PathBuf,
    /// Host names it is for, in lower case; `*.example.org` for any one label.
    pub names: Vec<String>,
    pub issuer: String,
    /// `ECDSA`, `RSA`, `Ed25519`
    pub algorithm: &'static str,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    pub stapled: bool,
}

/// The issuer of certificates that serve until an authority has given one.
pub const STAND_IN: &str = "Evenkeel stand-in, not verified";

/// Files with what they held, and the state that they were in then.
pub type Known = HashMap<PathBuf, (u64, Vec<Loaded>)>;

/// Reads files of certificates: each that is as it was is not read again, so that a change of one among
/// thousands costs what one costs.
#[derive(Default)]
pub struct Files<'a> {
    before: Option<&'a Known>,
    pub known: Known,
    /// How many were read.
    pub read: usize,
}

impl<'a> Files<'a> {
    pub fn new(before: Option<&'a Known>) -> Files<'a> {
        Files { before, ..Files::default() }
    }

    fn load(&mut self, file: &Path) -> Result<Vec<Loaded>, FileError> {
        // Looked at before it is read: what changes meanwhile is read once more.
        let state = state(file);
        let same = |known: &Known| known.get(file).filter(|(then, _)| *then == state).map(|(_, l)| l.clone());
        let loaded = match same(&self.known).or_else(|| self.before.and_then(same)) {
            Some(loaded) => loaded,
            None => {
                self.read += 1;
                load_file(file)?
            }
        };
        self.known.insert(file.to_owned(), (state, loaded.clone()));
        Ok(loaded)
    }
}

/// Changes whenever a file does, or one that is read beside it.
fn state(file: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    std::iter::once(file.to_owned()).chain(companions(file)).for_each(|path| note(&path, &mut hasher));
    hasher.finish()
}

/// Size and time of a file, without reading it.
pub fn note(path: &Path, hasher: &mut DefaultHasher) {
    let about = std::fs::metadata(path).ok();
    let changed = about.as_ref().and_then(|m| m.modified().ok());
    let since = changed.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok());
    (path, about.map(|m| m.len()), since, evenkeel_files::held_version(path)).hash(hasher);
}

/// The certificate that an authority has given. Until it is there, one that nobody vouches for.
pub fn load_managed(managed: &Managed, files: &mut Files<'_>) -> Result<Vec<Loaded>, FileError> {
    if let Ok(found) = files.load(&managed.file) {
        return Ok(found);
    }
    let failed = |why: String| FileError::new(&managed.file, why);
    let key = crate::challenge::certified(&managed.names, STAND_IN, Vec::new()).map_err(failed)?;
    let der = key.cert.first().ok_or_else(|| failed("there is no certificate".into()))?;
    let info = describe(&managed.file, der, &key.key, false)?;
    Ok(vec![Loaded { key: Arc::new(key), info, except: Vec::new() }])
}

/// Every certificate of a file, or of each file in a folder. A file that is not there may be one for each kind of
/// key, as HAProxy names them: `FILE.ecdsa` and `FILE.rsa`.
pub fn load(path: &Path, files: &mut Files<'_>) -> Result<Vec<Loaded>, FileError> {
    if !path.is_dir() {
        let kinds: Vec<PathBuf> =
            by_kind(path).into_iter().filter(|file| evenkeel_files::is_file(file)).collect();
        if path.exists() || kinds.is_empty() {
            return files.load(path);
        }
        let each = kinds.iter().map(|file| files.load(file));
        return Ok(each.collect::<Result<Vec<_>, _>>()?.concat());
    }
    let found = files_in(path).map_err(|e| FileError::unreadable(path, &e))?;
    if found.is_empty() {
        return Err(FileError::new(path, "the folder holds no .pem or .crt file"));
    }
    let mut all = Vec::new();
    for file in found {
        all.extend(files.load(&file)?);
    }
    Ok(all)
}

/// Files of certificates in a folder, in the order in which they are read.
pub fn files_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?;
    let mut found: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    found.extend(evenkeel_files::held_in(folder).into_iter().filter(|file| !file.exists()));
    found.retain(|f| {
        evenkeel_files::is_file(f) && matches!(f.extension().and_then(|e| e.to_str()), Some("pem" | "crt"))
    });
    found.sort();
    Ok(found)
}

/// A line of a list: its number, the file, names.
type Listed = (usize, PathBuf, Vec<String>);

/// Lines of `FILE NAME…`; `#` begins a comment.
fn read_list(list: &Path) -> Result<Vec<Listed>, FileError> {
    let text = evenkeel_files::read_text(list, evenkeel_files::LIST_AT_MOST);
    let text = text.map_err(|e| FileError::unreadable(list, &e))?;
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        let Some(file) = words.next() else { continue };
        let names: Vec<String> = words.map(str::to_ascii_lowercase).collect();
        if names.iter().any(|name| name.contains(['[', ']'])) {
            let why = format!(
                "line {}: options in brackets: options of single certificates are not there",
                number + 1
            );
            return Err(FileError::new(list, why));
        }
        let file = list.parent().unwrap_or(Path::new("")).join(file);
        all.push((number + 1, file, names));
    }
    Ok(all)
}

/// The files that a list names; none where it cannot be read.
pub fn listed_files(list: &Path) -> Vec<PathBuf> {
    read_list(list).unwrap_or_default().into_iter().map(|(_, file, _)| file).collect()
}

/// Every certificate that a list names, for the names that it says.
pub fn load_list(list: &Path, files: &mut Files<'_>) -> Result<Vec<Loaded>, FileError> {
    let mut all: Vec<Loaded> = Vec::new();
    for (line, file, names) in read_list(list)? {
        let loaded = load(&file, files);
        let loaded = loaded
            .map_err(|e| FileError::new(list, format!("line {line}: the file that it names: {}", e.why)))?;
        let (except, names): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| name.starts_with('!'));
        let except: Vec<String> = except.into_iter().map(|name| name[1..].to_owned()).collect();
        all.extend(loaded.into_iter().map(|mut one| {
            if !names.is_empty() {
                one.info.names.clone_from(&names);
            }
            Loaded { except: except.clone(), ..one }
        }));
    }
    match all.is_empty() {
        true => Err(FileError::new(list, "names no certificate")),
        false => Ok(all),
    }
}

struct Bundle {
    certificates: Vec<CertificateDer<'static>>,
    keys: Vec<PrivateKeyDer<'static>>,
}

fn load_file(file: &Path) -> Result<Vec<Loaded>, FileError> {
    let mut all = Vec::new();
    for (chain, key) in pairs(file)? {
        let key = signing_key(file, &key)?;
        let mut certified = CertifiedKey::new(chain, key.clone());
        certified.ocsp = read(&beside(file, "ocsp")).ok().filter(|der| !der.is_empty());
        let leaf = certified.cert.first().ok_or_else(|| FileError::new(file, "holds no certificate"))?;
        let info = describe(file, leaf, &key, certified.ocsp.is_some())?;
        all.push(Loaded { key: Arc::new(certified), info, except: Vec::new() });
    }
    Ok(all)
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Each key of a file with its certificate, and behind it those that vouch for it, in their order.
fn pairs(file: &Path) -> Result<Vec<Pair>, FileError> {
    let mut bundle = read_bundle(file)?;
    if bundle.certificates.is_empty() {
        return Err(FileError::new(
            file,
            "holds no certificate (a block that begins with BEGIN CERTIFICATE)",
        ));
    }
    if bundle.keys.is_empty() {
        bundle.keys = key_beside(file)?;
    }
    let Bundle { certificates, keys } = bundle;
    let mut leaves = Vec::new();
    for key in &keys {
        let signing = signing_key(file, key)?;
        let leaf = certificates.iter().position(|der| belongs(&signing, der));
        leaves.push(leaf.ok_or_else(|| stranger(file, &signing, &certificates))?);
    }
    let others = certificates.iter().enumerate().filter(|(i, _)| !leaves.contains(i));
    let others: Vec<CertificateDer<'static>> = others.map(|(_, der)| der.clone()).collect();
    let with_chain = |(leaf, key): (usize, PrivateKeyDer<'static>)| {
        let leaf = &certificates[leaf];
        let issuers = evenkeel_trust::issuers(leaf, &others);
        // What the chain does not need may be of use to a client all the same: a cross-signed one.
        let rest = (0..others.len()).filter(|i| !issuers.contains(i));
        let behind = issuers.iter().copied().chain(rest).map(|i| others[i].clone());
        (std::iter::once(leaf.clone()).chain(behind).collect(), key)
    };
    Ok(leaves.into_iter().zip(keys).map(with_chain).collect())
}

fn signing_key(file: &Path, key: &PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, FileError> {
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(key);
    key.map_err(|e| FileError::new(file, format!("the private key cannot be used: {e}")))
}

fn belongs(key: &Arc<dyn SigningKey>, der: &CertificateDer<'static>) -> bool {
    evenkeel_trust::has_key(der, key.as_ref())
}

/// How many files of a folder are looked at for the certificate that a key is of.
const LOOKED_AT: usize = 200;

/// Why a key goes with none of the certificates, and whose it is, as far as files in the folder say so.
fn stranger(file: &Path, key: &Arc<dyn SigningKey>, certificates: &[CertificateDer<'static>]) -> FileError {
    let here = certificates.iter().map(|der| evenkeel_trust::subject(der)).collect::<Vec<_>>().join("; ");
    let folder = file.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let mut files: Vec<PathBuf> = folder.into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.retain(|other| other != file && other.is_file());
    files.sort();
    let owner = files.iter().take(LOOKED_AT).find_map(|other| {
        let found = read_bundle(other).ok()?.certificates;
        let own = found.iter().find(|der| belongs(key, der))?;
        Some(format!("; it is the key of the one in {}: {}", other.display(), evenkeel_trust::subject(own)))
    });
    let why = format!(
        "the private key belongs to no certificate of the file (its certificates: {here}){}",
        owner.unwrap_or_default()
    );
    FileError::new(file, why)
}

fn beside(file: &Path, extension: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// Where the key of a file is looked for that holds certificates alone.
fn key_files(file: &Path) -> [PathBuf; 3] {
    [beside(file, "key"), file.with_extension("key"), file.with_file_name("privkey.pem")]
}

/// Every file that is read beside one that the configuration names.
pub fn companions(file: &Path) -> impl Iterator<Item = PathBuf> {
    // Of one that is there none is asked for.
    let kinds = by_kind(file).into_iter().filter(|_| !file.exists()).flat_map(|file| {
        let ocsp = beside(&file, "ocsp");
        key_files(&file).into_iter().chain([ocsp, file])
    });
    key_files(file).into_iter().chain([beside(file, "ocsp")]).chain(kinds)
}

/// Files with one kind of key each.
fn by_kind(file: &Path) -> [PathBuf; 2] {
    [beside(file, "rsa"), beside(file, "ecdsa")]
}

/// The key of a file that holds certificates alone: `FILE.key`, `NAME.key`, or certbot's
/// `privkey.pem` in the same folder.
fn key_beside(file: &Path) -> Result<Vec<PrivateKeyDer<'static>>, FileError> {
    for candidate in key_files(file) {
        if evenkeel_files::is_file(&candidate) && candidate != file {
            let keys = read_bundle(&candidate)?.keys;
            if !keys.is_empty() {
                return Ok(keys);
            }
        }
    }
    let name = beside(file, "key");
    let why = format!("holds no private key, and {} is not there either", name.display());
    Err(FileError::new(file, why))
}

fn read_bundle(file: &Path) -> Result<Bundle, FileError> {
    let text = read(file)?;
    let has = |words: &str| memchr::memmem::find(&text, words.as_bytes()).is_some();
    if has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
        let why = "the private key is encrypted with a passphrase; write it without one: evenkeel cert import FILE --passphrase-file PASSPHRASE --out PLAIN, or openssl pkey -in KEY -out PLAIN";
        return Err(FileError::new(file, why));
    }
    if !has("-----BEGIN ") && text.first() == Some(&0x30) {
        let why = "is in DER or PKCS#12, not in PEM; write it anew: evenkeel cert import FILE --out FILE.pem";
        return Err(FileError::new(file, why));
    }
    if matches!(text.get(..2), Some([0xff, 0xfe] | [0xfe, 0xff])) {
        return Err(FileError::new(file, "is text in UTF-16; save it as UTF-8 or ASCII"));
    }
    // Editors of Windows begin a file with a mark.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let mut bundle = Bundle { certificates: Vec::new(), keys: Vec::new() };
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|_| FileError::new(file, "is no PEM"))?;
        match kind {
            SectionKind::Certificate => bundle.certificates.push(der.into()),
            SectionKind::PrivateKey => bundle.keys.push(PrivatePkcs8KeyDer::from(der).into()),
            SectionKind::RsaPrivateKey => bundle.keys.push(PrivatePkcs1KeyDer::from(der).into()),
            SectionKind::EcPrivateKey => bundle.keys.push(PrivateSec1KeyDer::from(der).into()),
            _ => {}
        }
    }
    Ok(bundle)
}

/// Certificate chain and key of a file that holds one of each.
pub fn one(file: &Path) -> Result<Pair, FileError> {
    let found = pairs(file)?.pop();
    found.ok_or_else(|| FileError::new(file, "holds no certificate with a private key"))
}

/// The certificates of a bundle of authorities.
pub fn authorities<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<Authorities, FileError> {
    let mut all = Vec::new();
    for file in files {
        let certificates = read_bundle(file)?.certificates;
        Authorities::new(certificates.clone())
            .ok_or_else(|| FileError::new(file, "holds no certificate of an authority"))?;
        all.extend(certificates);
    }
    Authorities::new(all).ok_or_else(|| FileError::new(Path::new(""), "no authority is named"))
}

pub fn revocations(
    file: &Path,
) -> Result<Vec<rustls::pki_types::CertificateRevocationListDer<'static>>, FileError> {
    let bytes = read(file)?;
    let mut lists = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes) {
        if let Ok((SectionKind::Crl, der)) = section {
            lists.push(der.into());
        }
    }
    if lists.is_empty() {
        // Authorities publish DER.
        x509_parser::revocation_list::CertificateRevocationList::from_der(&bytes)
            .map_err(|_| FileError::new(file, "holds no certificate revocation list"))?;
        lists.push(bytes.into());
    }
    Ok(lists)
}

fn describe(
    file: &Path,
    der: &CertificateDer<'_>,
    key: &Arc<dyn SigningKey>,
    stapled: bool,
) -> Result<CertificateInfo, FileError> {
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|e| FileError::new(file, format!("a certificate cannot be read: {e}")))?;
    let mut names = dns_names(&parsed);
    // Where it is no name of its host, clients that ask for it say no themselves.
    names.extend(common_name(&parsed).filter(|name| !names.contains(name)));
    names.iter_mut().for_each(|name| name.make_ascii_lowercase());
    // A name that is none of a host's finds nobody; the certificate may still be the default one.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._*".contains(&b);
    names.retain(|name| name.bytes().all(plain));
    Ok(CertificateInfo {
        file: file.to_owned(),
        names,
        issuer: parsed.issuer().to_string(),
        algorithm: match key.algorithm() {
            rustls::SignatureAlgorithm::RSA => "RSA",
            rustls::SignatureAlgorithm::ECDSA => "ECDSA",
            rustls::SignatureAlgorithm::ED25519 => "Ed25519",
            _ => "other",
        },
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        stapled,
    })
}

fn dns_names(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    names.collect()
}

fn common_name(parsed: &X509Certificate<'_>) -> Option<String> {
    Some(parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned())
}

/// Who a peer is. `None` when its certificate, verified as it is, cannot be read.
pub fn identity(der: &[u8]) -> Option<Identity> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    // Header values: control bytes have no business in them.
    let clean =
        |text: String| text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    Some(Identity {
        subject: clean(parsed.subject().to_string()),
        common_name: clean(common_name(&parsed).unwrap_or_default()),
        issuer: clean(parsed.issuer().to_string()),
        serial: hex(parsed.raw_serial()).to_ascii_uppercase(),
        fingerprint: hex(digest.as_ref()),
        names: dns_names(&parsed).into_iter().map(clean).collect(),
    })
}
