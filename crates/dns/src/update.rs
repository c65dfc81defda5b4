//! Updates of a zone (RFC 2136) that are signed (TSIG, RFC 8945).

use crate::message::{INTERNET, Reader, labels};

const TTL: u32 = 30;
/// Clocks may differ by so many seconds.
const FUDGE: u16 = 300;
const SOA: u16 = 6;
const TXT: u16 = 16;
const TSIG: u16 = 250;
const NONE: u16 = 254;
const ANY: u16 = 255;

/// A name in the form of messages, in lower case.
pub fn wire(name: &str) -> Result<Vec<u8>, String> {
    let bare = name.trim_end_matches('.');
    let good = bare.split('.').all(|label| (1..=63).contains(&label.len())) && bare.len() + 2 <= 255;
    if good { Ok(labels(bare)) } else { Err(format!("{name:?} is no name of the DNS")) }
}

fn header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let mut out = numbers(&[id, flags]);
    out.extend(numbers(&counts));
    out
}

/// Numbers as messages have them.
fn numbers(all: &[u16]) -> Vec<u8> {
    all.iter().flat_map(|n| n.to_be_bytes()).collect()
}

/// A question for the zone that begins at a name.
pub fn question_for_zone(id: u16, name: &str) -> Result<Vec<u8>, String> {
    let mut out = header(id, 0, [1, 0, 0, 0]);
    out.extend(wire(name)?);
    out.extend(numbers(&[SOA, INTERNET]));
    Ok(out)
}

/// An update of one TXT record.
pub fn update(id: u16, zone: &str, name: &str, value: &str, add: bool) -> Result<Vec<u8>, String> {
    let mut out = header(id, 5 << 11, [1, 0, 1, 0]);
    out.extend(wire(zone)?);
    out.extend(numbers(&[SOA, INTERNET]));
    out.extend(wire(name)?);
    let (class, ttl) = if add { (INTERNET, TTL) } else { (NONE, 0) };
    out.extend(numbers(&[TXT, class]));
    out.extend(ttl.to_be_bytes());
    let length = u8::try_from(value.len()).map_err(|_| "the record is too long")?;
    out.extend((u16::from(length) + 1).to_be_bytes());
    out.push(length);
    out.extend(value.as_bytes());
    Ok(out)
}

/// Who signs: the names of the key and of the algorithm, in the form of messages.
pub struct Signature {
    pub key: Vec<u8>,
    pub algorithm: Vec<u8>,
}

/// Signs a message: the record is put at its end. `mac` makes the seal of bytes; `now` are seconds since 1970.
pub fn sign(
    mut message: Vec<u8>,
    id: u16,
    by: &Signature,
    now: u64,
    mac: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let time = now.to_be_bytes();
    let time = &time[2..];
    let mut signed = message.clone();
    signed.extend(&by.key);
    signed.extend(ANY.to_be_bytes());
    signed.extend(0u32.to_be_bytes());
    signed.extend(&by.algorithm);
    signed.extend(time);
    signed.extend(numbers(&[FUDGE, 0, 0]));
    let mac = mac(&signed);
    let mut data = by.algorithm.clone();
    data.extend(time);
    data.extend(numbers(&[FUDGE, mac.len() as u16]));
    data.extend(mac);
    data.extend(numbers(&[id, 0, 0]));
    message.extend(&by.key);
    message.extend(numbers(&[TSIG, ANY]));
    message.extend(0u32.to_be_bytes());
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
    // One more additional record.
    if let Some(count) = message.get_mut(10..12) {
        count.copy_from_slice(&1u16.to_be_bytes());
    }
    message
}

/// Whether bytes are an answer to the question with this id: a header at least.
pub fn is_answer(message: &[u8], id: u16) -> bool {
    message.len() >= 12 && message.starts_with(&id.to_be_bytes()) && message[2] & 0x80 != 0
}

/// The code of an answer; that of a failure where it has none.
pub fn code(answer: &[u8]) -> u8 {
    answer.get(3).map_or(2, |code| code & 15)
}

/// Whether an answer says that a zone begins at the name that was asked for.
pub fn zone_begins(answer: &[u8]) -> bool {
    let find = || {
        let mut reader = Reader { message: answer, at: 4 };
        let (questions, answers) = (reader.number()?, reader.number()?);
        reader.at = 12;
        for _ in 0..questions.min(4) {
            reader.name()?;
            reader.number()?;
            reader.number()?;
        }
        reader.name()?;
        Ok::<_, crate::Bad>(answers > 0 && reader.number()? == SOA)
    };
    code(answer) == 0 && find().unwrap_or(false)
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
        let by = Signature { key: wire("k").unwrap(), algorithm: wire("hmac-sha256").unwrap() };
        let signed = sign(gone.clone(), 1, &by, 5, |_| vec![7; 32]);
        assert_eq!((&signed[10..12], signed.len()), (&[0, 1][..], gone.len() + 3 + 10 + 13 + 10 + 32 + 6));
        for bad in ["", "a..b", &"a".repeat(64), &"abc.".repeat(64)] {
            assert!(wire(bad).is_err(), "{bad}");
        }
        assert_eq!(
            question_for_zone(7, "b.org").unwrap(),
            b"\x00\x07\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01b\x03org\x00\x00\x06\x00\x01"
        );
    }

    #[test]
    fn answers_may_be_anything() {
        let soa = b"\x00\x01\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01b\x03org\x00\x00\x06\x00\x01\xc0\x0c\x00\x06\x00\x01";
        assert!(zone_begins(soa) && is_answer(soa, 1) && !is_answer(soa, 2) && code(soa) == 0);
        let mut text = soa.to_vec();
        text[soa.len() - 3] = TXT as u8;
        assert!(!zone_begins(&text));
        for end in 0..soa.len() - 2 {
            assert!(!zone_begins(&soa[..end]));
        }
        let mut noise = soa.to_vec();
        for at in 0..noise.len() {
            for value in [0, 63, 64, 192, 255] {
                let before = std::mem::replace(&mut noise[at], value);
                zone_begins(&noise);
                noise[at] = before;
            }
        }
    }
}
