//! What a certificate says, as OpenSSL writes it: for conditions and texts of routes, and for people.
//!
//! In: certificates in DER. Out: texts. Never: whether one is trusted.

use aws_lc_rs::digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::objects::{oid_registry, oid2abbrev, oid2sn};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

/// A field of a certificate; `None` where it cannot be read, or has no such field. `der` and `serial` are texts
/// as well: hexadecimal in upper case.
pub fn field(der: &[u8], name: &str) -> Option<String> {
    if name == "der" {
        return Some(hex(der));
    }
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(match name {
        "sha1" => hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()),
        "serial" => hex(serial(&parsed)),
        "subject" => written_name(parsed.subject()),
        "issuer" => written_name(parsed.issuer()),
        "not-before" => stamp(&parsed.validity().not_before),
        "not-after" => stamp(&parsed.validity().not_after),
        "signature-algorithm" => signature_algorithm(&parsed),
        "key-algorithm" => key_algorithm(&parsed),
        "key" => key(&parsed),
        "version" => (parsed.version().0 + 1).to_string(),
        _ => match name.split_once('.')? {
            ("subject", part) => part_of(parsed.subject(), part)?,
            ("issuer", part) => part_of(parsed.issuer(), part)?,
            _ => return None,
        },
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Without the byte that says that it is no number below 0.
fn serial<'a>(parsed: &'a X509Certificate<'_>) -> &'a [u8] {
    match parsed.raw_serial() {
        [0, rest @ ..] if !rest.is_empty() => rest,
        whole => whole,
    }
}

/// `330917162600Z`, and with four digits of the year from 2050 on (RFC 5280 section 4.1.2.5).
fn stamp(time: &ASN1Time) -> String {
    let at = time.to_datetime();
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    match at.year() {
        1950..=2049 => format!("{:02}{rest}", at.year().rem_euclid(100)),
        year => format!("{year:04}{rest}"),
    }
}

/// The parts of a name with their short words. Control characters have no business in a header.
fn parts<'a>(name: &'a X509Name<'_>) -> impl Iterator<Item = (String, String)> + 'a {
    name.iter_attributes().map(|attribute| {
        let oid = attribute.attr_type();
        let word = oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), str::to_owned);
        let value = attribute.as_str().map_or_else(|_| hex(attribute.as_slice()), str::to_owned);
        (word, value.chars().map(|c| if c.is_control() { '?' } else { c }).collect())
    })
}

/// `/C=FR/CN=a.example`
pub fn written_name(name: &X509Name<'_>) -> String {
    parts(name).map(|(word, value)| format!("/{word}={value}")).collect()
}

fn part_of(name: &X509Name<'_>, wanted: &str) -> Option<String> {
    parts(name).find(|(word, _)| word.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
}

/// OpenSSL's names; the rest as the object identifiers are called.
fn signature_algorithm(parsed: &X509Certificate<'_>) -> String {
    let oid = &parsed.signature_algorithm.algorithm;
    match oid.to_id_string().as_str() {
        "1.2.840.113549.1.1.5" => "RSA-SHA1".into(),
        "1.2.840.113549.1.1.10" => "RSASSA-PSS".into(),
        "1.2.840.113549.1.1.11" => "RSA-SHA256".into(),
        "1.2.840.113549.1.1.12" => "RSA-SHA384".into(),
        "1.2.840.113549.1.1.13" => "RSA-SHA512".into(),
        "1.2.840.113549.1.1.14" => "RSA-SHA224".into(),
        "1.2.840.10045.4.3.2" => "ecdsa-with-SHA256".into(),
        "1.2.840.10045.4.3.3" => "ecdsa-with-SHA384".into(),
        "1.2.840.10045.4.3.4" => "ecdsa-with-SHA512".into(),
        "1.3.101.112" => "ED25519".into(),
        other => oid2sn(oid, oid_registry()).map_or_else(|_| other.to_owned(), str::to_owned),
    }
}

fn key_algorithm(parsed: &X509Certificate<'_>) -> String {
    let oid = &parsed.public_key().algorithm.algorithm;
    match oid.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => "rsaEncryption".into(),
        "1.2.840.10045.2.1" => "id-ecPublicKey".into(),
        "1.3.101.112" => "ED25519".into(),
        other => other.to_owned(),
    }
}

/// Its kind with its bits: `RSA2048`.
fn key(parsed: &X509Certificate<'_>) -> String {
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA{}", key.key_size()),
        Ok(PublicKey::EC(point)) => format!("EC{}", point.key_size()),
        _ => key_algorithm(parsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_openssl_says_of_a_certificate() {
        let pem = include_str!("about.pem");
        let der: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
        let der = unbase64(&der);
        let asked = |name: &str| field(&der, name).unwrap_or_default();
        assert_eq!(asked("subject"), "/C=FR/O=Example/CN=www.example.org");
        assert_eq!(asked("issuer"), asked("subject"));
        assert_eq!(asked("subject.cn"), "www.example.org");
        assert_eq!(asked("signature-algorithm"), "ecdsa-with-SHA256");
        assert_eq!((asked("key-algorithm").as_str(), asked("key").as_str()), ("id-ecPublicKey", "EC256"));
        assert_eq!(asked("version"), "3");
        assert_eq!(asked("serial"), SERIAL);
        assert_eq!(asked("sha1"), SHA1);
        assert_eq!((asked("not-before").as_str(), asked("not-after").as_str()), (BEFORE, AFTER));
        assert_eq!(field(&der, "colour"), None);
        assert_eq!(field(b"no certificate", "subject"), None);
    }

    fn unbase64(text: &str) -> Vec<u8> {
        const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
        for byte in text.bytes().filter(|byte| *byte != b'=') {
            bits = bits << 6 | SIGNS.iter().position(|sign| *sign == byte).unwrap() as u32;
            count += 6;
            if count >= 8 {
                count -= 8;
                out.push((bits >> count) as u8);
            }
        }
        out
    }

    // As `openssl x509 -noout -serial -fingerprint -sha1 -dates` says.
    const SERIAL: &str = "6DD233F703294615A25ACDCC233623ACFB2B05DD";
    const SHA1: &str = "828DD4AD67E50F409AA6219958B19B3E906F8951";
    const BEFORE: &str = "261128111003Z";
    const AFTER: &str = "20510720111003Z";
}
