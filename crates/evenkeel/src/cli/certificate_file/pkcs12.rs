//! PKCS#12 (RFC 7292): what a file holds, encrypted in today's way (PBES2) or in that of old exports of Windows
//! and Java (three-fold DES, RC2 of 40 bits).
//!
//! The file's own checksum is not looked at: key and certificate have to belong together, which says more.

use aws_lc_rs::digest;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};

/// What a file holds, in DER.
#[derive(Debug, Default)]
pub struct Contents {
    pub certificates: Vec<Vec<u8>>,
    /// In PKCS#8.
    pub keys: Vec<Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is something else, or cut off.
    Form,
    /// The passphrase does not open it.
    Passphrase,
    Cipher,
}

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
/// Followed by the kind of the bag.
const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1];
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
/// Followed by the cipher.
const OLD_CIPHER: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 2;
const OCTETS: u8 = 4;
const OBJECT: u8 = 6;
/// `[0]`, with something within.
const WITHIN: u8 = 0xa0;
/// `[0]` in the place of OCTET STRING.
const BARE: u8 = 0x80;

/// Rounds of the old derivation: a file must not keep a processor for days.
const MOST_ROUNDS: u64 = 10_000_000;
/// Bags within bags.
const DEEPEST: usize = 4;

/// What follows in DER.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element where it has this tag: its content, and the whole of it.
    fn element(&mut self, tag: u8) -> Result<(&'a [u8], &'a [u8]), Unread> {
        let all = self.0;
        let (found, content, after) = split(all).ok_or(Unread::Form)?;
        if found != tag {
            return Err(Unread::Form);
        }
        self.0 = after;
        Ok((content, &all[..all.len() - after.len()]))
    }

    fn content(&mut self, tag: u8) -> Result<&'a [u8], Unread> {
        self.element(tag).map(|(content, _)| content)
    }

    fn inside(&mut self, tag: u8) -> Result<Reader<'a>, Unread> {
        self.content(tag).map(Reader)
    }
}

/// Tag, content and what is behind the first element.
fn split(all: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, tail) = all.split_first()?;
    let (first, tail) = tail.split_first()?;
    let (length, tail) = match first {
        0..=0x7f => (usize::from(*first), tail),
        0x81..=0x84 => {
            let (bytes, tail) = tail.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |n: usize, b| n << 8 | usize::from(*b)), tail)
        }
        _ => return None,
    };
    let (content, after) = tail.split_at_checked(length)?;
    Some((*tag, content, after))
}

pub fn read(der: &[u8], passphrase: &str) -> Result<Contents, Unread> {
    let mut file = Reader(der).inside(SEQUENCE)?;
    if file.content(INTEGER)? != [3] {
        return Err(Unread::Form);
    }
    let mut safe = file.inside(SEQUENCE)?;
    if safe.content(OBJECT)? != DATA {
        return Err(Unread::Form);
    }
    let mut parts = Reader(safe.inside(WITHIN)?.content(OCTETS)?).inside(SEQUENCE)?;
    let mut contents = Contents::default();
    while !parts.0.is_empty() {
        let mut part = parts.inside(SEQUENCE)?;
        match part.content(OBJECT)? {
            DATA => bags(part.inside(WITHIN)?.content(OCTETS)?, passphrase, &mut contents, 0)?,
            ENCRYPTED_DATA => {
                let mut sealed = part.inside(WITHIN)?.inside(SEQUENCE)?;
                sealed.content(INTEGER)?;
                let mut sealed = sealed.inside(SEQUENCE)?;
                sealed.content(OBJECT)?;
                let (_, cipher) = sealed.element(SEQUENCE)?;
                let plain = decrypt(cipher, sealed.content(BARE)?, passphrase)?;
                bags(&plain, passphrase, &mut contents, 0)?;
            }
            // For the key of a certificate: nobody writes those.
            _ => return Err(Unread::Cipher),
        }
    }
    Ok(contents)
}

fn bags(der: &[u8], passphrase: &str, contents: &mut Contents, depth: usize) -> Result<(), Unread> {
    let mut all = Reader(der).inside(SEQUENCE)?;
    while !all.0.is_empty() {
        let mut bag = all.inside(SEQUENCE)?;
        let kind = bag.content(OBJECT)?.strip_prefix(BAG).ok_or(Unread::Form)?;
        let mut value = bag.inside(WITHIN)?;
        match kind {
            [1] => contents.keys.push(value.0.to_vec()),
            [2] => {
                let mut sealed = value.inside(SEQUENCE)?;
                let (_, cipher) = sealed.element(SEQUENCE)?;
                contents.keys.push(decrypt(cipher, sealed.content(OCTETS)?, passphrase)?);
            }
            [3] => {
                let mut certificate = value.inside(SEQUENCE)?;
                if certificate.content(OBJECT)? == X509 {
                    contents.certificates.push(certificate.inside(WITHIN)?.content(OCTETS)?.to_vec());
                }
            }
            [6] if depth < DEEPEST => bags(value.0, passphrase, contents, depth + 1)?,
            _ => {}
        }
    }
    Ok(())
}

/// `cipher` is an AlgorithmIdentifier.
fn decrypt(cipher: &[u8], sealed: &[u8], passphrase: &str) -> Result<Vec<u8>, Unread> {
    let mut algorithm = Reader(cipher).inside(SEQUENCE)?;
    let Some(old) = algorithm.content(OBJECT)?.strip_prefix(OLD_CIPHER) else {
        // Of the form of an encrypted key, whatever is in it.
        let whole = element(SEQUENCE, &[cipher, &element(OCTETS, sealed)].concat());
        let sealed = pkcs8::EncryptedPrivateKeyInfoRef::try_from(whole.as_slice());
        let plain = sealed.map_err(|_| Unread::Cipher)?.decrypt(passphrase);
        return plain.map(|plain| plain.as_bytes().to_vec()).map_err(|_| Unread::Passphrase);
    };
    let mut parameters = algorithm.inside(SEQUENCE)?;
    let salt = parameters.content(OCTETS)?;
    let rounds = parameters.content(INTEGER)?;
    let rounds = rounds.iter().fold(0u64, |n, byte| n.saturating_mul(256).saturating_add(u64::from(*byte)));
    if rounds > MOST_ROUNDS || salt.is_empty() {
        return Err(Unread::Cipher);
    }
    let derive = |purpose: u8, length| derived(purpose, passphrase, salt, rounds, length);
    match old {
        [3] => opened::<des::TdesEde3>(&derive(1, 24), &derive(2, 8), sealed),
        [4] => opened::<des::TdesEde2>(&derive(1, 16), &derive(2, 8), sealed),
        [5] => opened::<rc2::Rc2>(&derive(1, 16), &derive(2, 8), sealed),
        [6] => opened::<rc2::Rc2>(&derive(1, 5), &derive(2, 8), sealed),
        _ => Err(Unread::Cipher),
    }
}

fn opened<C: BlockCipherDecrypt + KeyInit>(key: &[u8], iv: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unread> {
    let cipher = cbc::Decryptor::<C>::new_from_slices(key, iv).map_err(|_| Unread::Cipher)?;
    cipher.decrypt_padded_vec::<Pkcs7>(sealed).map_err(|_| Unread::Passphrase)
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let long = content.len().to_be_bytes();
    // In DER no length is longer than it must be.
    let long = &long[long.iter().take_while(|byte| **byte == 0).count()..];
    match u8::try_from(content.len()) {
        Ok(short @ 0..=0x7f) => [&[tag, short], content].concat(),
        _ => [&[tag, 0x80 | long.len() as u8], long, content].concat(),
    }
}

/// RFC 7292, appendix B.2, with SHA-1.
fn derived(purpose: u8, passphrase: &str, salt: &[u8], rounds: u64, length: usize) -> Vec<u8> {
    const BLOCK: usize = 64;
    let passphrase: Vec<u8> = passphrase.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect();
    let filled = |bytes: &[u8]| -> Vec<u8> {
        bytes.iter().copied().cycle().take(bytes.len().div_ceil(BLOCK) * BLOCK).collect()
    };
    let mut input = [filled(salt), filled(&passphrase)].concat();
    let mut out = Vec::new();
    while out.len() < length {
        let first = [&[purpose; BLOCK][..], &input].concat();
        let mut hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &first);
        for _ in 1..rounds {
            hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, hash.as_ref());
        }
        out.extend_from_slice(hash.as_ref());
        let added: Vec<u8> = hash.as_ref().iter().copied().cycle().take(BLOCK).collect();
        for block in input.chunks_mut(BLOCK) {
            // The sum of both as numbers, and one.
            let mut carry = 1u16;
            for (byte, other) in block.iter_mut().zip(&added).rev() {
                carry += u16::from(*byte) + u16::from(*other);
                *byte = carry as u8;
                carry >>= 8;
            }
        }
    }
    out.truncate(length);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_or_changed_is_no_file() {
        // A file without bags: nothing to find, and nothing wrong.
        let safe = element(SEQUENCE, &[]);
        let info = [element(OBJECT, DATA), element(WITHIN, &element(OCTETS, &safe))].concat();
        let file = element(SEQUENCE, &[element(INTEGER, &[3]), element(SEQUENCE, &info)].concat());
        assert!(read(&file, "").unwrap().keys.is_empty());
        for end in 0..file.len() {
            assert_eq!(read(&file[..end], "").unwrap_err(), Unread::Form, "{end}");
        }
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                let _ = read(&changed, "");
            }
        }
    }
}
