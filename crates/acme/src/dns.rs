//! Records for dns-01, written into a zone by updates (RFC 2136) that are signed (TSIG, RFC 8945), over TCP.
//! What the name server answers is bounded and only looked at for its code.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{hmac, rand};
use evenkeel_model::TsigKey;

const PATIENCE: Duration = Duration::from_secs(15);
const TTL: u32 = 30;
/// Clocks may differ by so many seconds.
const FUDGE: u16 = 300;
const SOA: u16 = 6;
const TXT: u16 = 16;
const TSIG: u16 = 250;
const IN: u16 = 1;
const NONE: u16 = 254;
const ANY: u16 = 255;

/// A key with its secret.
struct Secret {
    name: Vec<u8>,
    algorithm: Vec<u8>,
    key: hmac::Key,
}

/// A name in the form of messages, in lower case.
fn wire(name: &str) -> Result<Vec<u8>, String> {
    let bad = || format!("{name:?} is no name of the DNS");
    let mut out = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|l| (1..=63).contains(l)).ok_or_else(bad)?;
        out.push(length);
        out.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
    }
    out.push(0);
    if out.len() > 255 { Err(bad()) } else { Ok(out) }
}

fn secret(key: &TsigKey) -> Result<Secret, String> {
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", key.file.display());
    let text = evenkeel_files::read_text(&key.file, evenkeel_files::TEXT_AT_MOST).map_err(|e| named(&e))?;
    let bytes = data_encoding::BASE64.decode(text.trim().as_bytes());
    let bytes = bytes.map_err(|_| named(&"holds no secret in base64"))?;
    let algorithm = match key.algorithm.as_str() {
        "hmac-sha384" => hmac::HMAC_SHA384,
        "hmac-sha512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    Ok(Secret {
        name: wire(&key.name)?,
        algorithm: wire(&key.algorithm)?,
        key: hmac::Key::new(algorithm, &bytes),
    })
}

fn header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let mut out = [id, flags].concat_bytes();
    out.extend(counts.concat_bytes());
    out
}

/// Numbers as messages have them.
trait Bytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl<const N: usize> Bytes for [u16; N] {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|n| n.to_be_bytes()).collect()
    }
}

/// An update of one TXT record.
fn update(id: u16, zone: &str, name: &str, value: &str, add: bool) -> Result<Vec<u8>, String> {
    let mut out = header(id, 5 << 11, [1, 0, 1, 0]);
    out.extend(wire(zone)?);
    out.extend([SOA, IN].concat_bytes());
    out.extend(wire(name)?);
    let (class, ttl) = if add { (IN, TTL) } else { (NONE, 0) };
    out.extend([TXT, class].concat_bytes());
    out.extend(ttl.to_be_bytes());
    let length = u8::try_from(value.len()).map_err(|_| "the record is too long")?;
    out.extend((u16::from(length) + 1).to_be_bytes());
    out.push(length);
    out.extend(value.as_bytes());
    Ok(out)
}

/// Signs a message: the record is put at its end.
fn sign(mut message: Vec<u8>, id: u16, secret: &Secret, now: u64) -> Vec<u8> {
    let time = now.to_be_bytes();
    let time = &time[2..];
    let mut signed = message.clone();
    signed.extend(&secret.name);
    signed.extend(ANY.to_be_bytes());
    signed.extend(0u32.to_be_bytes());
    signed.extend(&secret.algorithm);
    signed.extend(time);
    signed.extend([FUDGE, 0, 0].concat_bytes());
    let mac = hmac::sign(&secret.key, &signed);
    let mac = mac.as_ref();
    let mut data = secret.algorithm.clone();
    data.extend(time);
    data.extend([FUDGE, mac.len() as u16].concat_bytes());
    data.extend(mac);
    data.extend([id, 0, 0].concat_bytes());
    message.extend(&secret.name);
    message.extend([TSIG, ANY].concat_bytes());
    message.extend(0u32.to_be_bytes());
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
    // One more additional record.
    if let Some(count) = message.get_mut(10..12) {
        count.copy_from_slice(&1u16.to_be_bytes());
    }
    message
}

/// Sends a message and gives the answer: at least a header, for this id.
fn ask(server: SocketAddr, id: u16, message: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |e: std::io::Error| format!("the name server {server}: {e}");
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed).map_err(failed)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).map_err(failed)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).map_err(failed)?;
    let is_answer = answer.len() >= 12 && answer.starts_with(&id.to_be_bytes()) && answer[2] & 0x80 != 0;
    if is_answer { Ok(answer) } else { Err(format!("the name server {server} answers something else")) }
}

fn number() -> Result<u16, String> {
    let mut bytes = [0; 2];
    rand::fill(&mut bytes).map_err(|_| "there is no randomness")?;
    Ok(u16::from_be_bytes(bytes))
}

/// Whether an answer holds a record of a kind as its first one.
fn first_is(answer: &[u8], kind: u16) -> bool {
    let find = || -> Option<u16> {
        let count = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
        let (questions, answers) = (count(4)?, count(6)?);
        if answers == 0 || answer.get(3)? & 15 != 0 {
            return None;
        }
        let mut at = 12;
        for _ in 0..questions.min(4) {
            at = after_name(answer, at)? + 4;
        }
        count(after_name(answer, at)?)
    };
    find() == Some(kind)
}

fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer & 0xc0 == 0xc0 => return Some(at + 2),
            length if length < 64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

/// The zone that a name is in, as the server has it.
fn zone_of(server: SocketAddr, name: &str) -> Result<String, String> {
    let mut rest = name.trim_end_matches('.');
    loop {
        let id = number()?;
        let mut question = header(id, 0, [1, 0, 0, 0]);
        question.extend(wire(rest)?);
        question.extend([SOA, IN].concat_bytes());
        if first_is(&ask(server, id, &question)?, SOA) {
            return Ok(rest.to_owned());
        }
        rest = rest
            .split_once('.')
            .map(|(_, rest)| rest)
            .ok_or_else(|| format!("the name server {server} has no zone for {name}"))?;
    }
}

/// Adds or removes the record of a challenge.
pub fn write(
    server: SocketAddr,
    zone: Option<&str>,
    key: Option<&TsigKey>,
    name: &str,
    value: &str,
    add: bool,
) -> Result<(), String> {
    let zone = zone.map_or_else(|| zone_of(server, name), |zone| Ok(zone.to_owned()))?;
    let id = number()?;
    let mut message = update(id, &zone, name, value, add)?;
    if let Some(key) = key {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        message = sign(message, id, &secret(key)?, now);
    }
    let answer = ask(server, id, &message)?;
    let why = match answer.get(3).map_or(2, |code| code & 15) {
        0 => return Ok(()),
        2 => "has failed",
        5 => "refuses the update: its rules do not let this key or address write",
        9 => {
            "refuses the update: the key is not known there, its secret is another one, or the clocks differ"
        }
        10 => "does not have the name in this zone",
        _ => "does not take the update",
    };
    Err(format!("the name server {server} {why} ({name} in {zone})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_as_rfc_2136_writes_them() {
        let message = update(0x1234, "b.org.", "_acme-challenge.A.b.org", "text", true).unwrap();
        assert_eq!(&message[..12], [0x12, 0x34, 0x28, 0, 0, 1, 0, 0, 0, 1, 0, 0]);
        assert_eq!(&message[12..23], b"\x01b\x03org\x00\x00\x06\x00\x01");
        assert!(message.ends_with(b"\x00\x10\x00\x01\x00\x00\x00\x1e\x00\x05\x04text"));
        assert!(message[23..].starts_with(b"\x0f_acme-challenge\x01a\x01b\x03org\x00"));
        let gone = update(1, "b.org", "a.b.org", "text", false).unwrap();
        assert!(gone.ends_with(b"\x00\x10\x00\xfe\x00\x00\x00\x00\x00\x05\x04text"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let secret = Secret { name: wire("k").unwrap(), algorithm: wire("hmac-sha256").unwrap(), key };
        let signed = sign(gone.clone(), 1, &secret, 5);
        assert_eq!((&signed[10..12], signed.len()), (&[0, 1][..], gone.len() + 3 + 10 + 13 + 10 + 32 + 6));
        for bad in ["", "a..b", &"a".repeat(64), &"abc.".repeat(64)] {
            assert!(wire(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_may_be_anything() {
        let soa = b"\x00\x01\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01b\x03org\x00\x00\x06\x00\x01\xc0\x0c\x00\x06\x00\x01";
        assert!(first_is(soa, SOA) && !first_is(soa, TXT));
        for end in 0..soa.len() - 2 {
            first_is(&soa[..end], SOA);
        }
        let mut noise = soa.to_vec();
        for at in 0..noise.len() {
            for value in [0, 63, 64, 192, 255] {
                let before = std::mem::replace(&mut noise[at], value);
                first_is(&noise, SOA);
                noise[at] = before;
            }
        }
    }
}
