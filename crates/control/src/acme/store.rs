//! What is kept of certificates that are managed: files in `acme` of the state directory, which travel to
//! the peer as they are. Names end by what they hold: `.pem`, `.order`, `.record`, `.account`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use evenkeel_acme::{Account, AccountKey, CertificateKey, Pending, Seconds};
use evenkeel_model::{Authority, Managed};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use tracing::warn;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Of one file.
const FILE_AT_MOST: u64 = 1 << 20;
const ENDINGS: [&str; 4] = [".pem", ".order", ".record", ".account"];

/// The folder.
#[derive(Clone, Debug)]
pub struct Store(PathBuf);

/// What is remembered of a certificate beside itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// When this was written, in milliseconds: the later one of two nodes is right.
    pub changed_ms: u64,
    pub authority: String,
    /// In a row.
    pub failures: u32,
    pub last_error: Option<String>,
    pub last_attempt: Option<Seconds>,
    /// No attempt before.
    pub not_before: Option<Seconds>,
    /// The authority's window for the renewal, and of which certificate.
    pub window: Option<(Seconds, Seconds)>,
    pub window_of: Option<String>,
    pub asked_window: Option<Seconds>,
    /// A person wants a new one.
    pub wanted: bool,
    pub revoked: bool,
}

/// A certificate that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub names: Vec<String>,
    pub issuer: String,
    pub serial: String,
    pub not_before: Seconds,
    pub not_after: Seconds,
}

/// An account, as it is kept.
#[derive(Serialize, Deserialize)]
struct StoredAccount {
    directory: String,
    /// PKCS#8 in base64.
    key: String,
    url: Option<String>,
}

impl Store {
    pub fn new(state: &Path) -> Store {
        Store(state.join("acme"))
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.0.join(format!("{name}{ending}"))
    }

    fn read(&self, name: &str, ending: &str) -> Option<String> {
        let path = self.path(name, ending);
        match evenkeel_files::read_text(&path, FILE_AT_MOST) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                warn!(file = %path.display(), %error, "cannot be read");
                None
            }
        }
    }

    /// Replaces a file, or removes it.
    pub fn write(&self, name: &str, ending: &str, content: Option<&str>) -> Result<(), String> {
        let path = self.path(name, ending);
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        match content {
            Some(content) => {
                evenkeel_files::make_folder(&self.0).map_err(failed)?;
                evenkeel_files::write_private(&path, content.as_bytes()).map_err(failed)
            }
            None => evenkeel_files::remove(&path).map(drop).map_err(failed),
        }
    }

    pub fn record(&self, name: &str) -> Record {
        let text = self.read(name, ".record");
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    pub fn order(&self, name: &str) -> Option<Pending> {
        serde_json::from_str(&self.read(name, ".order")?).ok()
    }

    pub fn pem(&self, name: &str) -> Option<String> {
        self.read(name, ".pem")
    }

    /// The account at an authority; a new key where there is none yet. `true` when it is new.
    pub fn account(&self, authority: &Authority) -> Result<(Account, bool), String> {
        let name = file_name(authority.name.as_str());
        let stored = self.read(&name, ".account");
        let known = stored.and_then(|text| serde_json::from_str::<StoredAccount>(&text).ok());
        if let Some(known) = known.filter(|known| known.directory == authority.directory) {
            let pkcs8 = data_encoding::BASE64.decode(known.key.as_bytes());
            let key = AccountKey::from_pkcs8(&pkcs8.map_err(|_| "the account's key is no base64")?)?;
            return Ok((Account { key, url: known.url }, false));
        }
        let account = Account { key: AccountKey::make()?, url: None };
        self.keep_account(authority, account.key.pkcs8(), None)?;
        Ok((account, true))
    }

    pub fn keep_account(&self, authority: &Authority, pkcs8: &[u8], url: Option<&str>) -> Result<(), String> {
        let stored = StoredAccount {
            directory: authority.directory.clone(),
            key: data_encoding::BASE64.encode(pkcs8),
            url: url.map(str::to_owned),
        };
        let text = serde_json::to_string(&stored).map_err(|e| e.to_string())?;
        self.write(&file_name(authority.name.as_str()), ".account", Some(&text))
    }

    /// This node joins another one, whose certificates count: its own are laid aside.
    pub fn give_way(&self) -> Result<(), String> {
        let aside = self.0.join("before-joining");
        for (file, _) in self.all() {
            let failed = |e: std::io::Error| format!("{}: {e}", self.0.join(&file).display());
            evenkeel_files::make_folder(&aside).map_err(failed)?;
            std::fs::rename(self.0.join(&file), aside.join(&file)).map_err(failed)?;
        }
        Ok(())
    }

    /// Every file, for the peer.
    pub fn all(&self) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| is_ours(name)).collect();
        names.sort();
        names.into_iter().filter_map(|name| Some((name.clone(), self.read(&name, "")?))).collect()
    }

    /// One file, for the peer.
    pub fn one(&self, name: &str, ending: &str) -> (String, Option<String>) {
        (format!("{name}{ending}"), self.read(name, ending))
    }

    /// Takes a file of the peer where it is the better one; whether it did.
    pub fn take(&self, file: &str, content: Option<&str>, of_active: bool) -> Result<bool, String> {
        if !is_ours(file) || content.is_some_and(|c| c.len() as u64 > FILE_AT_MOST) {
            return Err(format!("the peer sent a file that is none of a certificate: {file:?}"));
        }
        let own = self.read(file, "");
        if own.as_deref() == content {
            return Ok(false);
        }
        let better = match (file.rsplit_once('.').map(|(_, ending)| ending), content) {
            (Some("pem"), Some(theirs)) => {
                let theirs = held(theirs).map_err(|why| format!("the peer's {file} {why}"))?;
                evenkeel_acme::key_fits(content.unwrap_or(""))?;
                own.as_deref()
                    .and_then(|own| held(own).ok())
                    .is_none_or(|own| theirs.not_before > own.not_before)
            }
            (Some("record"), Some(theirs)) => {
                let parse = |text: &str| serde_json::from_str::<Record>(text).ok();
                let theirs = parse(theirs).ok_or("the peer's record cannot be read")?;
                own.as_deref().and_then(parse).is_none_or(|own| theirs.changed_ms > own.changed_ms)
            }
            (Some("pem" | "record"), None) => false,
            // A node that comes back may still have an order that the other one has brought to its end.
            (Some("order"), _) => of_active,
            // The active node's counts.
            _ => of_active || (own.is_none() && content.is_some()),
        };
        if better {
            self.write(file, "", content)?;
        }
        Ok(better)
    }
}

/// A name that is one of a file here, and nothing else.
fn is_ours(file: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    file.len() <= 128
        && !file.starts_with('.')
        && file.bytes().all(plain)
        && ENDINGS.iter().any(|ending| file.len() > ending.len() && file.ends_with(ending))
}

pub fn file_name(name: &str) -> String {
    name.replace(':', "_")
}

/// The name of a managed certificate's files.
pub fn name_of(managed: &Managed) -> String {
    managed.file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("").to_owned()
}

/// What the first certificate of a PEM text says.
pub fn held(pem: &str) -> Result<Held, String> {
    let leaf = CertificateDer::pem_slice_iter(pem.as_bytes()).next().and_then(Result::ok);
    let leaf = leaf.ok_or("holds no certificate")?;
    let (_, parsed) =
        X509Certificate::from_der(&leaf).map_err(|_| "holds a certificate that cannot be read")?;
    let mut names = Vec::new();
    if let Ok(Some(alternative)) = parsed.subject_alternative_name() {
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                _ => {}
            }
        }
    }
    Ok(Held {
        names,
        issuer: parsed.issuer().to_string(),
        serial: parsed.raw_serial().iter().map(|b| format!("{b:02x}")).collect(),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    use std::net::IpAddr;
    let four = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    four.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)).map(|address| address.to_string())
}

/// The key in a PEM text.
pub fn key_in(pem: &str) -> Option<CertificateKey> {
    let at = pem.match_indices("-----BEGIN ").find(|(at, _)| {
        pem.get(at + 11..).and_then(|rest| rest.lines().next()).is_some_and(|l| l.contains("PRIVATE KEY"))
    })?;
    CertificateKey::from_pem(pem.get(at.0..)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_of_the_peer() {
        let folder = std::env::temp_dir().join(format!("evenkeel-acme-store-{}", std::process::id()));
        let store = Store::new(&folder);
        // An order that the passive node still has is over; the active one's is not, and ends with it.
        assert_eq!(store.take("web.order", Some("{}"), false), Ok(false));
        assert_eq!(store.take("web.order", Some("{}"), true), Ok(true));
        assert_eq!(store.take("web.order", None, false), Ok(false));
        assert_eq!(store.take("web.order", None, true), Ok(true));
        assert_eq!(store.take("ca.account", Some("a"), false), Ok(true));
        assert_eq!(store.take("ca.account", Some("b"), false), Ok(false));
        assert_eq!(store.take("ca.account", Some("b"), true), Ok(true));
        let record =
            |ms: u64| serde_json::to_string(&Record { changed_ms: ms, ..Record::default() }).unwrap();
        assert_eq!(store.take("web.record", Some(&record(5)), false), Ok(true));
        assert_eq!(store.take("web.record", Some(&record(4)), true), Ok(false));
        assert_eq!(store.take("web.record", None, true), Ok(false));
        let pem = |year: i32| {
            let pair = rcgen::KeyPair::generate().unwrap();
            let mut parameters = rcgen::CertificateParams::new(vec!["a.org".to_owned()]).unwrap();
            parameters.not_before = rcgen::date_time_ymd(year, 1, 1);
            parameters.self_signed(&pair).unwrap().pem() + &pair.serialize_pem()
        };
        let (old, new) = (pem(2020), pem(2021));
        assert_eq!(store.take("web.pem", Some(&new), false), Ok(true));
        assert_eq!(store.take("web.pem", Some(&old), true), Ok(false));
        let mixed = new[..new.find("-----BEGIN PRIVATE").unwrap()].to_owned()
            + &old[old.find("-----BEGIN PRIVATE").unwrap()..];
        for bad in ["", "x", &mixed] {
            assert!(store.take("web.pem", Some(bad), true).is_err(), "{bad}");
        }
        assert!(store.take("../web.pem", Some(&new), true).is_err());
        assert_eq!(store.pem("web").as_deref(), Some(new.as_str()));
        assert!(key_in(&new).is_some() && key_in("").is_none());
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn only_files_of_certificates_are_taken() {
        for good in ["web.pem", "a.b.order", "x_y-1.record", "letsencrypt.account"] {
            assert!(is_ours(good), "{good}");
        }
        for bad in ["", ".pem", "../x.pem", "a/b.pem", "web.txt", ".hidden.pem", "a b.pem", "web.pem\n"] {
            assert!(!is_ours(bad), "{bad:?}");
        }
    }
}
