//! The ClientHello (RFC 8446 section 4.1.2) of a TLS connection that is passed through without being
//! decrypted: the host name, the session to resume, the first protocol offered.
//!
//! In: the first bytes of a connection. Out: what they say, or that more are needed. Never: a handshake.

/// What a ClientHello says, as far as routing needs it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The host name of the SNI extension: not empty, and only characters of host names.
    pub server_name: Option<&'a str>,
    /// The session that the client wants to resume; empty if none.
    pub session_id: &'a [u8],
    /// The first protocol of the ALPN extension.
    pub alpn: Option<&'a [u8]>,
}

/// Why there is no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHello {
    /// More bytes are needed to tell.
    Partial,
    /// No TLS, or nothing that a TLS client would send.
    NotTls,
}

/// The length of a record. A ClientHello in several records is [`NoHello::NotTls`].
const RECORD_AT_MOST: usize = 16 * 1024;

/// Reads a ClientHello that comes in one record.
pub fn parse(bytes: &[u8]) -> Result<Hello<'_>, NoHello> {
    let known = [(0, 0x16u8), (1, 3), (5, 1)];
    if known.iter().any(|(at, want)| bytes.get(*at).is_some_and(|b| b != want)) {
        return Err(NoHello::NotTls);
    }
    let Some((header, rest)) = bytes.split_at_checked(5) else { return Err(NoHello::Partial) };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if !(4..=RECORD_AT_MOST).contains(&length) {
        return Err(NoHello::NotTls);
    }
    let Some(record) = rest.get(..length) else { return Err(NoHello::Partial) };
    let mut record = Reader(record);
    let message = (|| {
        record.take(1)?;
        let length = record.number(3)?;
        record.take(length)
    })();
    body(Reader(message.ok_or(NoHello::NotTls)?)).ok_or(NoHello::NotTls)
}

fn body<'a>(mut hello: Reader<'a>) -> Option<Hello<'a>> {
    hello.take(2 + 32)?;
    let session_id = hello.vector(1)?;
    if session_id.len() > 32 {
        return None;
    }
    let suites = hello.vector(2)?;
    let methods = hello.vector(1)?;
    if suites.is_empty() || methods.is_empty() {
        return None;
    }
    let mut found = Hello { session_id, ..Hello::default() };
    if hello.0.is_empty() {
        return Some(found);
    }
    let mut extensions = Reader(hello.vector(2)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let value = Reader(extensions.vector(2)?);
        match kind {
            0 => found.server_name = Some(server_name(value)?),
            16 => found.alpn = Some(first_protocol(value)?),
            _ => {}
        }
    }
    Some(found)
}

fn server_name(mut value: Reader<'_>) -> Option<&str> {
    let mut list = Reader(value.vector(2)?);
    if list.number(1)? != 0 {
        return None;
    }
    let name = list.vector(2)?;
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._".contains(b);
    let good = !name.is_empty() && name.len() <= 253 && name.iter().all(plain);
    if good { std::str::from_utf8(name).ok() } else { None }
}

fn first_protocol(mut value: Reader<'_>) -> Option<&[u8]> {
    Reader(value.vector(2)?).vector(1)
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    fn vector(&mut self, length_bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(length_bytes)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello record with a session id and these extensions.
    fn hello(session: &[u8], extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(session.len() as u8);
        body.extend(session);
        body.extend([0, 2, 0x13, 1, 1, 0]);
        let mut all = Vec::new();
        for (kind, value) in extensions {
            all.extend(kind.to_be_bytes());
            all.extend((value.len() as u16).to_be_bytes());
            all.extend(*value);
        }
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
        let mut record = vec![0x16, 3, 1];
        record.extend(((body.len() + 4) as u16).to_be_bytes());
        record.extend([1, 0]);
        record.extend((body.len() as u16).to_be_bytes());
        record.extend(body);
        record
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        let length = name.len() as u16;
        let mut value = (length + 3).to_be_bytes().to_vec();
        value.push(0);
        value.extend(length.to_be_bytes());
        value.extend(name);
        value
    }

    #[test]
    fn client_hellos() {
        let name = sni(b"www.example.org");
        let alpn = b"\x00\x0c\x02h2\x08http/1.1";
        let whole = hello(b"abc", &[(10, b"xx"), (0, &name), (16, &alpn[..])]);
        let found = parse(&whole).unwrap();
        assert_eq!(found.server_name, Some("www.example.org"));
        assert_eq!(found.session_id, b"abc");
        assert_eq!(found.alpn, Some(&b"h2"[..]));
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), Err(NoHello::Partial), "cut at {cut}");
        }
        let without = hello(b"", &[]);
        assert_eq!(parse(&without).unwrap().server_name, None);
        let evil = hello(b"", &[(0, &sni(b"a\0b"))]);
        assert_eq!(parse(&evil), Err(NoHello::NotTls));
        assert_eq!(parse(&hello(b"", &[(0, &sni(b""))])), Err(NoHello::NotTls));
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(NoHello::NotTls));
        let mut lying = whole.clone();
        lying[43] = 0xff;
        assert_eq!(parse(&lying), Err(NoHello::NotTls));
    }
}
