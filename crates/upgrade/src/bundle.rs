//! The file: one line, a manifest, its signature in minisign's format, and the parts one after the other.
//!
//! `EVENKEEL-BUNDLE 1 <bytes of the manifest> <bytes of the signature>`. The signature is over the manifest, which
//! has the size and SHA-256 of each part. Nothing of a bundle is used before all of it has been checked, and what
//! is used is checked again while it is copied: the file may change meanwhile.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use minisign_verify::{PublicKey, Signature};
use serde::{Deserialize, Serialize};

/// The longest head that is read before a signature has been checked.
const LONGEST_HEAD: usize = 128;
const LONGEST_MANIFEST: usize = 64 << 10;
const LONGEST_SIGNATURE: usize = 4 << 10;
const MOST_PARTS: usize = 16;
/// The largest part: a system partition is of 1.5 GiB.
const LARGEST_PART: u64 = 8 << 30;
const MOST_KEYS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    pub version: String,
    /// As Debian calls it: `amd64`.
    pub architecture: String,
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Part {
    pub kind: PartKind,
    pub size: u64,
    /// In hexadecimal digits.
    pub sha256: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartKind {
    /// A Debian package of the program.
    Package,
    /// The root of an appliance as an ext4 file system.
    System,
}

#[derive(Debug)]
pub struct Bundle {
    pub manifest: Manifest,
    /// The file of the key that has signed it.
    pub signed_by: String,
    file: File,
    /// Where the first part begins.
    parts_at: u64,
}

impl Bundle {
    /// A bundle of which everything has been checked.
    pub fn open(file: &Path, keys: &Path) -> Result<Bundle, String> {
        let name = file.display();
        let cannot = |e: std::io::Error| format!("{name}: {e}");
        let opened = File::open(file).map_err(cannot)?;
        let about = opened.metadata().map_err(cannot)?;
        if !about.is_file() {
            return Err(format!("{name} is no regular file"));
        }
        let mut reader = BufReader::new(opened);
        let (manifest, signature, parts_at) =
            read_head(&mut reader).map_err(|why| format!("{name} {why}"))?;
        let signed_by = verify(&manifest, &signature, keys).map_err(|why| format!("{name}: {why}"))?;
        let manifest: Manifest = serde_json::from_slice(&manifest)
            .map_err(|e| format!("{name}: its manifest is not understood by this version: {e}"))?;
        check(&manifest).map_err(|why| format!("{name}: {why}"))?;
        let sum = manifest.parts.iter().try_fold(parts_at, |sum, part| sum.checked_add(part.size));
        if sum != Some(about.len()) {
            return Err(format!(
                "{name} has {} bytes and should have {}: it was not copied as a whole",
                about.len(),
                sum.unwrap_or(u64::MAX)
            ));
        }
        let mut bundle = Bundle { manifest, signed_by, file: reader.into_inner(), parts_at };
        for at in 0..bundle.manifest.parts.len() {
            bundle.copy_at(at, &mut std::io::sink()).map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(bundle)
    }

    pub fn part(&self, kind: PartKind) -> Option<&Part> {
        self.manifest.parts.iter().find(|part| part.kind == kind)
    }

    /// Writes a part; an error where what was written is not what was signed.
    pub fn copy(&mut self, kind: PartKind, to: &mut dyn Write) -> Result<(), String> {
        let at = self.manifest.parts.iter().position(|part| part.kind == kind);
        self.copy_at(at.ok_or("the bundle has no such part")?, to)
    }

    fn copy_at(&mut self, at: usize, to: &mut dyn Write) -> Result<(), String> {
        let before: u64 = self.manifest.parts[..at].iter().map(|part| part.size).sum();
        let part = &self.manifest.parts[at];
        self.file.seek(SeekFrom::Start(self.parts_at + before)).map_err(|e| e.to_string())?;
        let (count, digest) = copy(&mut self.file, part.size, to).map_err(|e| e.to_string())?;
        if count < part.size {
            return Err("it ends too early".into());
        }
        match digest == part.sha256 {
            true => Ok(()),
            false => Err("a part is not what was signed: its SHA-256 differs".into()),
        }
    }
}

/// Copies so many bytes, or as many as there are: their number, and their SHA-256 in hexadecimal digits.
pub fn copy(from: &mut File, size: u64, to: &mut dyn Write) -> std::io::Result<(u64, String)> {
    let (mut context, mut buffer, mut copied) = (Context::new(&SHA256), vec![0; 1 << 20], 0);
    let mut rest = from.take(size);
    loop {
        match rest.read(&mut buffer)? {
            0 => return Ok((copied, HEXLOWER.encode(context.finish().as_ref()))),
            count => {
                context.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
                copied += count as u64;
            }
        }
    }
}

/// The manifest, the signature, and where the parts begin.
fn read_head(reader: &mut BufReader<File>) -> Result<(Vec<u8>, Vec<u8>, u64), String> {
    let mut line = Vec::new();
    let failed = |e: std::io::Error| format!("cannot be read: {e}");
    reader.by_ref().take(LONGEST_HEAD as u64).read_until(b'\n', &mut line).map_err(failed)?;
    let text = std::str::from_utf8(&line).unwrap_or("");
    let words: Vec<&str> = text.split_whitespace().collect();
    let (manifest, signature) = match words[..] {
        ["EVENKEEL-BUNDLE", "1", manifest, signature] if text.ends_with('\n') => (manifest, signature),
        ["EVENKEEL-BUNDLE", other, ..] => {
            return Err(format!("is a bundle of format {other}, which this version does not know"));
        }
        _ => return Err("is no bundle with a new version".into()),
    };
    let length = |text: &str, most: usize| text.parse::<usize>().ok().filter(|n| (1..=most).contains(n));
    let (Some(manifest), Some(signature)) =
        (length(manifest, LONGEST_MANIFEST), length(signature, LONGEST_SIGNATURE))
    else {
        return Err("has a manifest or a signature of impossible size".into());
    };
    let mut head = (vec![0; manifest], vec![0; signature]);
    let both = reader.read_exact(&mut head.0).and_then(|()| reader.read_exact(&mut head.1));
    both.map_err(|_| "ends within its manifest".to_owned())?;
    Ok((head.0, head.1, (line.len() + manifest + signature) as u64))
}

/// The name of the key that has signed the manifest.
fn verify(manifest: &[u8], signature: &[u8], keys: &Path) -> Result<String, String> {
    let text = std::str::from_utf8(signature).map_err(|_| "its signature is none of minisign's")?;
    let signature =
        Signature::decode(text).map_err(|e| format!("its signature is none of minisign's: {e}"))?;
    let folder = keys.display();
    let help = format!("put the public key of who makes your bundles, as minisign writes it, into {folder}");
    let listed = match std::fs::read_dir(keys) {
        Ok(listed) => listed,
        Err(error) => return Err(format!("no key is known to check it with ({folder}: {error}); {help}")),
    };
    let mut files: Vec<_> = listed.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "pub") && file.is_file());
    files.sort();
    let mut known = 0;
    for file in files.iter().take(MOST_KEYS) {
        let Ok(key) = PublicKey::from_file(file) else {
            return Err(format!("{} is no public key of minisign's", file.display()));
        };
        known += 1;
        if key.verify(manifest, &signature, true).is_ok() {
            return Ok(file.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    Err(match known {
        0 => format!("no key is known to check it with: {folder} has no file *.pub; {help}"),
        1 => format!("it is not signed by the key of {folder}; nothing is changed"),
        n => format!("it is signed by none of the {n} keys of {folder}; nothing is changed"),
    })
}

fn check(manifest: &Manifest) -> Result<(), String> {
    let plain = |text: &str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+~-".contains(&b))
            && text.as_bytes()[0].is_ascii_alphanumeric()
    };
    if !plain(&manifest.version) || !plain(&manifest.architecture) {
        return Err("its manifest has no version or architecture that can be one".into());
    }
    if manifest.parts.is_empty() || manifest.parts.len() > MOST_PARTS {
        return Err("its manifest has no parts, or too many".into());
    }
    for (at, part) in manifest.parts.iter().enumerate() {
        if part.size == 0 || part.size > LARGEST_PART {
            return Err("a part is empty or too large".into());
        }
        if manifest.parts[..at].iter().any(|other| other.kind == part.kind) {
            return Err("it has two parts of one kind".into());
        }
    }
    Ok(())
}
