//! Records for dns-01, written into a zone by signed updates, over TCP. What the name server answers is
//! bounded and only looked at for its code.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{hmac, rand};
use evenkeel_dns as dns;
use evenkeel_model::TsigKey;

const PATIENCE: Duration = Duration::from_secs(15);

/// A key with its secret.
struct Secret {
    by: dns::Signature,
    key: hmac::Key,
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
    let by = dns::Signature { key: dns::wire(&key.name)?, algorithm: dns::wire(&key.algorithm)? };
    Ok(Secret { by, key: hmac::Key::new(algorithm, &bytes) })
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
    if dns::is_answer(&answer, id) {
        Ok(answer)
    } else {
        Err(format!("the name server {server} answers something else"))
    }
}

fn number() -> Result<u16, String> {
    let mut bytes = [0; 2];
    rand::fill(&mut bytes).map_err(|_| "there is no randomness")?;
    Ok(u16::from_be_bytes(bytes))
}

/// The zone that a name is in, as the server has it.
fn zone_of(server: SocketAddr, name: &str) -> Result<String, String> {
    let mut rest = name.trim_end_matches('.');
    loop {
        let id = number()?;
        let question = dns::question_for_zone(id, rest)?;
        if dns::zone_begins(&ask(server, id, &question)?) {
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
    let mut message = dns::update(id, &zone, name, value, add)?;
    if let Some(key) = key {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let Secret { by, key } = secret(key)?;
        message = dns::sign(message, id, &by, now, |bytes| hmac::sign(&key, bytes).as_ref().to_vec());
    }
    let answer = ask(server, id, &message)?;
    let why = match dns::code(&answer) {
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
