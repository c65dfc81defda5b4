//! Files that a configuration names travel with it: what the other node of a pair lacks of certificates, keys,
//! authorities, revocation lists, lists and error pages is put there before the configuration is tried out. What
//! the other node has already is left as it is; scripts stay where they are.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use evenkeel_model::{ClientAuth, Snapshot};
use tracing::{info, warn};

use super::control::{Control, read};
use super::pair::Say;

/// Of one file, and of all that are sent or kept at a time.
const FILE_AT_MOST: u64 = 4 << 20;
const ALL_AT_MOST: usize = 32 << 20;

/// What was sent and what has come.
#[derive(Default)]
pub struct SharedFiles {
    /// As they were when they were sent on this link.
    sent: HashMap<PathBuf, (Option<SystemTime>, u64)>,
    /// Of the peer, for the next configuration.
    offered: HashMap<PathBuf, String>,
}

impl SharedFiles {
    /// A peer that comes knows nothing.
    pub fn forget(&mut self) {
        *self = SharedFiles::default();
    }
}

/// Files and folders that a configuration names; those of managed certificates go their own way.
fn named(snapshot: &Snapshot) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for service in &snapshot.services {
        if let Some(tls) = &service.tls {
            all.extend(tls.certificates.iter().cloned());
            all.extend(tls.list.clone());
            let auth = tls.client_auth.iter();
            let files = |auth: &ClientAuth| [Some(auth.ca.clone()), auth.verify_ca.clone(), auth.crl.clone()];
            all.extend(auth.flat_map(files).flatten());
        }
        all.extend(service.error_pages.iter().map(|page| page.file.clone()));
    }
    for pool in &snapshot.pools {
        let own = pool.real_servers.iter().filter_map(|server| server.tls(pool));
        for tls in pool.server_tls.iter().chain(own) {
            all.extend(tls.ca.iter().chain(&tls.crl).chain(&tls.certificate).cloned());
        }
    }
    all
}

/// Where the key of a certificate is looked for.
fn beside(file: &Path) -> [PathBuf; 3] {
    let mut longer = file.as_os_str().to_owned();
    longer.push(".key");
    [longer.into(), file.with_extension("key"), file.with_file_name("privkey.pem")]
}

/// Every file that exists of those.
fn expanded(named: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for path in named {
        match std::fs::read_dir(path) {
            Ok(entries) => all.extend(entries.flatten().map(|e| e.path()).filter(|p| p.is_file())),
            Err(_) => all.extend(beside(path).into_iter().chain([path.clone()]).filter(|p| p.is_file())),
        }
    }
    all
}

/// Whether a configuration that names these looks for a file.
fn belongs(file: &Path, named: &BTreeSet<PathBuf>) -> bool {
    let plain = file.is_absolute() && !file.components().any(|part| part.as_os_str() == "..");
    let key_of = |path: &PathBuf| beside(path).iter().any(|key| key == file);
    plain
        && (file.parent().is_some_and(|folder| named.contains(folder))
            || named.contains(file)
            || named.iter().any(key_of))
}

impl Control {
    /// Sends what a configuration names and the peer has not been sent yet.
    pub(super) fn tell_named_files(&mut self, text: &str) {
        let Ok(snapshot) = read(text) else { return };
        if self.link_up().is_none() {
            return;
        }
        let mut files = Vec::new();
        let mut total = 0;
        for path in expanded(&named(&snapshot)) {
            let about = std::fs::metadata(&path).ok();
            let state = (about.as_ref().and_then(|m| m.modified().ok()), about.map_or(0, |m| m.len()));
            if self.sync().files.sent.get(&path) == Some(&state) {
                continue;
            }
            let Ok(content) = evenkeel_files::read_text(&path, FILE_AT_MOST) else { continue };
            total += content.len();
            if total > ALL_AT_MOST {
                warn!(
                    "the files that the configuration names are too many for the link: the peer is not sent all of them"
                );
                break;
            }
            self.sync_mut().files.sent.insert(path.clone(), state);
            files.push((path, content));
        }
        if !files.is_empty() {
            self.say(&Say::Files { files });
        }
    }

    pub(super) fn named_files_came(&mut self, files: Vec<(PathBuf, String)>) {
        let offered = &mut self.sync_mut().files.offered;
        offered.extend(files);
        if offered.values().map(String::len).sum::<usize>() > 2 * ALL_AT_MOST {
            offered.clear();
        }
    }

    /// Puts those in place that a configuration of the peer's names and this node lacks; which ones.
    pub(super) fn place_named_files(&mut self, snapshot: &Snapshot) -> Vec<PathBuf> {
        let wanted = named(snapshot);
        let mut placed = Vec::new();
        for (path, content) in &self.sync().files.offered {
            if !belongs(path, &wanted) {
                continue;
            }
            if let Ok(own) = evenkeel_files::read(path, FILE_AT_MOST) {
                if own != content.as_bytes() {
                    warn!(file = %path.display(), "the other node has another content of this file");
                }
                continue;
            }
            let folder = path.parent().map_or(Ok(()), evenkeel_files::make_folder);
            match folder.and_then(|()| evenkeel_files::write_private(path, content.as_bytes())) {
                Ok(()) => {
                    info!(file = %path.display(), "was sent by the other node");
                    placed.push(path.clone());
                }
                Err(error) => {
                    warn!(file = %path.display(), %error, "what the other node sent cannot be written")
                }
            }
        }
        placed
    }

    /// A configuration that is not taken leaves nothing behind.
    pub(super) fn take_named_files_back(&self, placed: &[PathBuf]) {
        for path in placed {
            if let Err(error) = evenkeel_files::remove(path) {
                warn!(file = %path.display(), %error, "cannot be taken back");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_named_are_written() {
        let named: BTreeSet<PathBuf> = ["/etc/e/a.pem", "/etc/e/more"].map(PathBuf::from).into();
        for good in
            ["/etc/e/a.pem", "/etc/e/a.pem.key", "/etc/e/a.key", "/etc/e/privkey.pem", "/etc/e/more/b.pem"]
        {
            assert!(belongs(Path::new(good), &named), "{good}");
        }
        for bad in
            ["/etc/passwd", "/etc/e/b.pem", "/etc/e/more/../b.pem", "etc/e/a.pem", "/etc/e/more/x/y.pem", "/"]
        {
            assert!(!belongs(Path::new(bad), &named), "{bad}");
        }
    }
}
