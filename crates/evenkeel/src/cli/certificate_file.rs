//! `cert import`: one PEM file, as services take it, of what people get their certificates in: DER, PKCS#12, PEM
//! of any order, keys with a passphrase.

mod pkcs12;

use std::path::PathBuf;

use data_encoding::{BASE64, BASE64_MIME_PERMISSIVE};
use evenkeel_control::text::counted;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use self::pkcs12::Unread;
use super::live::{print_json, say};
use super::{Common, Exit, Failure, Outcome};

#[derive(clap::Args, Debug)]
pub struct ImportArguments {
    /// Certificate, chain and key: in one file or in several
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A file with the passphrase of the key or of the PKCS#12 file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Write it there, for its owner's eyes alone (default: print it)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What a certificate with chain and key may have, as services read them.
const AT_MOST: u64 = 8 << 20;

pub fn import(common: &Common, arguments: &ImportArguments) -> Outcome {
    let read = |file: &PathBuf| {
        let failed = |e: std::io::Error| Failure::new(Exit::Failed, format!("{}: {e}", file.display()));
        let length = std::fs::metadata(file).map_err(failed)?.len();
        if length > AT_MOST {
            return Err(Failure::new(Exit::Failed, format!("{} has {length} bytes", file.display())));
        }
        std::fs::read(file).map_err(failed)
    };
    let passphrase = match &arguments.passphrase_file {
        None => None,
        Some(file) => {
            let text = String::from_utf8(read(file)?)
                .map_err(|_| Failure::new(Exit::Failed, format!("{} is no UTF-8", file.display())))?;
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    };
    let mut found = Found::default();
    for file in &arguments.files {
        let bytes = read(file)?;
        let told = found.take(&bytes, passphrase.as_deref());
        told.map_err(|why| Failure::new(Exit::Failed, format!("{}: {why}", file.display())))?;
    }
    let made = found.made().map_err(|why| Failure::new(Exit::Failed, why))?;
    made.notes.iter().for_each(|note| eprintln!("note: {note}"));
    match &arguments.out {
        None => say(made.pem.trim_end()),
        Some(out) => {
            evenkeel_files::write_private(out, made.pem.as_bytes())?;
            if common.json {
                return print_json(&serde_json::json!({
                    "file": out, "subject": made.subject, "chain": made.chain, "notes": made.notes,
                }));
            }
            let chain = counted(made.chain as u64, "certificate", "certificates");
            say(&format!("{}: {}, with its key and {chain} of its chain", out.display(), made.subject))
        }
    }
}

#[derive(Debug)]
struct Made {
    pem: String,
    subject: String,
    /// Certificates behind the first.
    chain: usize,
    notes: Vec<String>,
}

/// What the files hold.
#[derive(Default)]
struct Found {
    certificates: Vec<CertificateDer<'static>>,
    keys: Vec<PrivateKeyDer<'static>>,
}

impl Found {
    fn take(&mut self, bytes: &[u8], passphrase: Option<&str>) -> Result<(), String> {
        if let Some(text) = text_of(bytes) {
            return self.take_pem(&text, passphrase);
        }
        match bytes.first() {
            Some(0x30) => self.take_der(bytes, passphrase),
            Some(0xfe) if bytes.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) => Err(
                "is a Java keystore; make PKCS#12 of it: keytool -importkeystore -srckeystore FILE -destkeystore FILE.p12 -deststoretype PKCS12".into(),
            ),
            _ => Err("is neither PEM nor DER nor PKCS#12".into()),
        }
    }

    fn take_pem(&mut self, text: &str, passphrase: Option<&str>) -> Result<(), String> {
        let before = self.certificates.len() + self.keys.len();
        let mut rest = text;
        while let Some((_, from)) = rest.split_once("-----BEGIN ") {
            let (label, from) = from.split_once("-----").ok_or("a line with BEGIN has no end")?;
            let (body, after) = from
                .split_once(&format!("-----END {label}-----"))
                .ok_or_else(|| format!("the block BEGIN {label} has no END: the file is cut off"))?;
            rest = after;
            let known = label.ends_with("PRIVATE KEY") || label.ends_with("CERTIFICATE");
            if body.contains("Proc-Type: 4,ENCRYPTED") {
                return Err(
                    "the key is encrypted in OpenSSL's old way; write it in today's first: openssl pkey -in KEY -aes256 -out KEY.new".into(),
                );
            }
            if label.contains("PKCS7") || label == "CMS" {
                return Err("is PKCS#7, which holds no key; take its certificates out: openssl pkcs7 -print_certs -in FILE -out FILE.pem".into());
            }
            if !known {
                continue;
            }
            let der = BASE64_MIME_PERMISSIVE.decode(body.trim().as_bytes());
            let der = der.map_err(|_| format!("the block BEGIN {label} is no base64"))?;
            self.take_block(label, der, passphrase)?;
        }
        match self.certificates.len() + self.keys.len() {
            n if n == before => Err("holds neither certificate nor private key".into()),
            _ => Ok(()),
        }
    }

    fn take_block(&mut self, label: &str, der: Vec<u8>, passphrase: Option<&str>) -> Result<(), String> {
        match label {
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
                // OpenSSL's trusted ones have what they are trusted for behind them.
                let (behind, _) = X509Certificate::from_der(&der)
                    .map_err(|e| format!("a certificate cannot be read: {e}"))?;
                let length = der.len() - behind.len();
                self.certificates.push(der[..length].to_vec().into());
            }
            "PRIVATE KEY" => self.keys.push(PrivatePkcs8KeyDer::from(der).into()),
            "RSA PRIVATE KEY" => self.keys.push(PrivatePkcs1KeyDer::from(der).into()),
            "EC PRIVATE KEY" => self.keys.push(PrivateSec1KeyDer::from(der).into()),
            "ENCRYPTED PRIVATE KEY" => self.keys.push(decrypted(&der, passphrase)?),
            other => return Err(format!("a block BEGIN {other} is not understood")),
        }
        Ok(())
    }

    fn take_der(&mut self, der: &[u8], passphrase: Option<&str>) -> Result<(), String> {
        if let Ok((behind, _)) = X509Certificate::from_der(der) {
            self.certificates.push(der[..der.len() - behind.len()].to_vec().into());
            return Ok(());
        }
        if is_encrypted_key(der) {
            self.keys.push(decrypted(der, passphrase)?);
            return Ok(());
        }
        let contents = pkcs12::read(der, passphrase.unwrap_or(""));
        // PKCS#12 first: what looks for keys takes its first bytes for one.
        if let (Err(Unread::Form), Ok(key)) = (&contents, PrivateKeyDer::try_from(der)) {
            self.keys.push(key.clone_key());
            return Ok(());
        }
        let contents = contents.map_err(|why| match (why, passphrase) {
            (Unread::Form, _) => "is neither a certificate nor a key nor PKCS#12; of PKCS#7 (.p7b) take the certificates out: openssl pkcs7 -inform DER -print_certs -in FILE -out FILE.pem",
            (Unread::Cipher, _) => "is PKCS#12 with a cipher that is not understood; make PEM of it: openssl pkcs12 -in FILE -nodes -out FILE.pem",
            (Unread::Passphrase, None) => "is PKCS#12 with a passphrase: name the file that holds it, --passphrase-file",
            (Unread::Passphrase, Some(_)) => "the passphrase is not the one of this file",
        })?;
        self.certificates.extend(contents.certificates.into_iter().map(CertificateDer::from));
        self.keys.extend(contents.keys.into_iter().map(|der| PrivatePkcs8KeyDer::from(der).into()));
        Ok(())
    }

    /// The certificate of the key, those that vouch for it, the key.
    fn made(self) -> Result<Made, String> {
        let Found { mut certificates, keys } = self;
        let mut seen = std::collections::HashSet::new();
        certificates.retain(|der| seen.insert(der.to_vec()));
        let subjects = || certificates.iter().map(|der| evenkeel_trust::subject(der)).collect::<Vec<_>>();
        if certificates.is_empty() {
            return Err("there is a key and no certificate: name the file of the certificate too".into());
        }
        let [key] = keys.as_slice() else {
            return Err(match keys.len() {
                0 => format!("there is no private key to {}: name its file too", subjects().join(", ")),
                n => format!("there are {n} private keys: one file is for one certificate with its key"),
            });
        };
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(key)
            .map_err(|e| format!("the private key cannot be used: {e}"))?;
        let leaf = certificates.iter().find(|der| evenkeel_trust::has_key(der, signing.as_ref()));
        let leaf = leaf.ok_or_else(|| {
            let of = subjects().join(", ");
            format!("the private key is of none of the certificates, which are of {of}")
        })?;
        let others: Vec<CertificateDer<'static>> =
            certificates.iter().filter(|der| *der != leaf).cloned().collect();
        let issuers = evenkeel_trust::issuers(leaf, &others);
        let (roots, chain): (Vec<usize>, Vec<usize>) =
            issuers.iter().partition(|i| evenkeel_trust::is_self_issued(&others[**i]));
        let mut notes = Vec::new();
        let left = |i: usize| evenkeel_trust::subject(&others[i]);
        notes.extend(roots.iter().map(|i| format!("left out: the root {}, which clients have", left(*i))));
        let strange = (0..others.len()).filter(|i| !issuers.contains(i));
        notes.extend(strange.map(|i| format!("left out: {}, which is not of the chain", left(i))));
        if issuers.is_empty() && !evenkeel_trust::is_self_issued(leaf) {
            notes.push(
                "there is no certificate of the authority: many clients need the intermediate one".into(),
            );
        }
        if let Ok((_, parsed)) = X509Certificate::from_der(leaf)
            && !parsed.validity().is_valid()
        {
            notes.push(format!(
                "the certificate holds from {} to {}",
                parsed.validity().not_before,
                parsed.validity().not_after
            ));
        }
        let certified = std::iter::once(leaf).chain(chain.iter().map(|i| &others[*i]));
        let mut pem: String = certified.map(|der| block("CERTIFICATE", der)).collect();
        let (label, der) = match key {
            PrivateKeyDer::Pkcs1(key) => ("RSA PRIVATE KEY", key.secret_pkcs1_der()),
            PrivateKeyDer::Sec1(key) => ("EC PRIVATE KEY", key.secret_sec1_der()),
            key => ("PRIVATE KEY", key.secret_der()),
        };
        pem += &block(label, der);
        Ok(Made { pem, subject: evenkeel_trust::subject(leaf), chain: chain.len(), notes })
    }
}

/// The text of a PEM file, of whatever encoding an editor gave it.
fn text_of(bytes: &[u8]) -> Option<String> {
    let wide = |little: bool| {
        let units = bytes[2..].chunks_exact(2).map(|two| match little {
            true => u16::from_le_bytes([two[0], two[1]]),
            false => u16::from_be_bytes([two[0], two[1]]),
        });
        char::decode_utf16(units).map(|c| c.unwrap_or('?')).collect::<String>()
    };
    let text = match bytes {
        [0xff, 0xfe, ..] => wide(true),
        [0xfe, 0xff, ..] => wide(false),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    text.contains("-----BEGIN ").then_some(text)
}

fn is_encrypted_key(der: &[u8]) -> bool {
    pkcs8::EncryptedPrivateKeyInfoRef::try_from(der).is_ok()
}

fn decrypted(der: &[u8], passphrase: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
    let Some(passphrase) = passphrase else {
        return Err("the key has a passphrase: name the file that holds it, --passphrase-file".into());
    };
    let sealed = pkcs8::EncryptedPrivateKeyInfoRef::try_from(der)
        .map_err(|e| format!("an encrypted key cannot be read ({e}): openssl pkey -in KEY -out PLAIN"))?;
    let plain = sealed.decrypt(passphrase).map_err(|e| {
        format!("the passphrase is not the one of the key, or its cipher is not understood ({e})")
    })?;
    Ok(PrivatePkcs8KeyDer::from(plain.as_bytes().to_vec()).into())
}

fn block(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: String = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n").collect();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

#[cfg(test)]
mod tests;
