//! The first message of an RDP client: a connection request of X.224 in a TPKT (MS-RDPBCGR
//! section 2.2.1.1), which may name the user or carry the token of a Connection Broker.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What a connection request says, as far as persistence needs it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// `mstshash`: the user, which Windows cuts after nine characters; see [`user_key`].
    pub user: Option<&'a [u8]>,
    /// `msts`: the server that the broker chose.
    pub token: Option<SocketAddr>,
}

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRequest {
    /// More bytes are needed to tell.
    Partial,
    /// The bytes are no connection request.
    NotRdp,
}

/// No client sends a longer request, or a longer user name.
const LENGTH_AT_MOST: usize = 4096;
const USER_AT_MOST: usize = 256;

/// Reads a connection request from the beginning of a connection.
pub fn parse(bytes: &[u8]) -> Result<Request<'_>, NoRequest> {
    // TPKT: version 3 and a reserved byte. X.224: the code of a connection request.
    for (at, want) in [(0, 3), (1, 0), (5, 0xe0)] {
        if bytes.get(at).is_some_and(|b| *b & if at == 5 { 0xf0 } else { 0xff } != want) {
            return Err(NoRequest::NotRdp);
        }
    }
    let Some((tpkt, _)) = bytes.split_at_checked(4) else { return Err(NoRequest::Partial) };
    let length = usize::from(u16::from_be_bytes([tpkt[2], tpkt[3]]));
    if !(11..=LENGTH_AT_MOST).contains(&length) {
        return Err(NoRequest::NotRdp);
    }
    let Some(message) = bytes.get(4..length) else { return Err(NoRequest::Partial) };
    // The length indicator counts what follows it, and the fixed part is six bytes.
    if usize::from(message[0]) + 1 != message.len() {
        return Err(NoRequest::NotRdp);
    }
    let variable = &message[7..];
    let mut found = Request::default();
    let Some(end) = memchr::memmem::find(variable, b"\r\n") else { return Ok(found) };
    let line = &variable[..end];
    if let Some(user) = line.strip_prefix(b"Cookie: mstshash=") {
        if user.len() > USER_AT_MOST {
            return Err(NoRequest::NotRdp);
        }
        found.user = (!user.is_empty()).then_some(user);
    } else if let Some(token) = line.strip_prefix(b"Cookie: msts=") {
        found.token = read_token(token);
    }
    Ok(found)
}

/// `ADDRESS.PORT.RESERVED`, numbers in decimal, their bytes in the order of a small machine.
fn read_token(token: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(token).ok()?;
    let mut parts = text.split('.');
    let digits = |part: Option<&str>| {
        part.filter(|p| !p.is_empty() && p.len() <= 10 && p.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|p| p.parse::<u32>().ok())
    };
    let (address, port) = (digits(parts.next())?, digits(parts.next())?);
    digits(parts.next())?;
    if parts.next().is_some() {
        return None;
    }
    let port = u16::try_from(port).ok()?.swap_bytes();
    Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(address.to_le_bytes())), port))
}

/// Windows cuts what it sends at so many characters, the domain included.
const CUT_AT: usize = 9;

/// What makes one client of a user name: `DOMAIN\user`, `domain/user` and `user@domain` are the same
/// user in upper or lower case. A name that ends where Windows cuts may go on: it is taken as it
/// came, unless the cut was in the domain behind it.
pub fn user_key(user: &[u8]) -> Vec<u8> {
    let characters = std::str::from_utf8(user).map_or(user.len(), |text| text.chars().count());
    let is_cut = user.len() == CUT_AT || characters == CUT_AT;
    let start = memchr::memchr2(b'\\', b'/', user).map_or(0, |at| at + 1);
    let behind = &user[start..];
    let name = match memchr::memchr(b'@', behind) {
        Some(at) => &behind[..at],
        None if is_cut => user,
        None => behind,
    };
    let name = if name.is_empty() { user } else { name };
    let lower = match std::str::from_utf8(name) {
        Ok(text) => text.to_lowercase().into_bytes(),
        Err(_) => name.to_ascii_lowercase(),
    };
    [b"user:", lower.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Vec<u8> {
        let mut message = vec![0xe0, 0, 0, 0, 0, 0];
        message.extend_from_slice(line.as_bytes());
        // A negotiation request follows.
        message.extend_from_slice(&[1, 0, 8, 0, 3, 0, 0, 0]);
        let mut bytes = vec![3, 0];
        bytes.extend_from_slice(&(message.len() as u16 + 5).to_be_bytes());
        bytes.push(message.len() as u8);
        bytes.extend(message);
        bytes
    }

    #[test]
    fn connection_requests() {
        let user = request("Cookie: mstshash=CORP\\alic\r\n");
        assert_eq!(parse(&user).unwrap().user, Some(&b"CORP\\alic"[..]));
        for cut in 0..user.len() {
            assert_eq!(parse(&user[..cut]), Err(NoRequest::Partial), "{cut}");
        }
        let token = request("Cookie: msts=3640205228.15629.0000\r\n");
        let expect = SocketAddr::from((3640205228u32.to_le_bytes(), 3389));
        assert_eq!(parse(&token).unwrap(), Request { user: None, token: Some(expect) });
        assert_eq!(parse(&request("")).unwrap(), Request::default());
        assert_eq!(parse(&request("Cookie: mstshash=\r\n")).unwrap(), Request::default());
        for bad in [
            "Cookie: msts=1.2\r\n",
            "Cookie: msts=99999999999.1.0\r\n",
            "Cookie: msts=1.70000.0\r\n",
            "Cookie: msts=-1.1.0\r\n",
            "Cookie: msts=1.1.0.0\r\n",
        ] {
            assert_eq!(parse(&request(bad)).unwrap().token, None, "{bad}");
        }
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(NoRequest::NotRdp));
        assert_eq!(parse(&[3, 0, 0xff, 0xff, 6, 0xe0]), Err(NoRequest::NotRdp));
        assert_eq!(parse(&[3, 0, 0, 11, 200, 0xe0, 0, 0, 0, 0, 0]), Err(NoRequest::NotRdp));
    }

    #[test]
    fn users() {
        let key = |user: &str| String::from_utf8(user_key(user.as_bytes())).unwrap();
        for (user, name) in [
            ("bob", "bob"),
            ("Bob", "bob"),
            ("CORP\\BOB", "bob"),
            ("corp/bob", "bob"),
            ("bob@corp", "bob"),
            // Longer than where Windows cuts: some client sends all of it.
            ("CORP\\alexander", "alexander"),
            ("corp.example/Alexander", "alexander"),
            ("alexander@corp.example", "alexander"),
            ("CORP\\alexander@corp.example", "alexander"),
            // Nine characters: the cut was in the domain, or may have been in the name.
            ("bob@examp", "bob"),
            ("CORP\\Alex", "corp\\alex"),
            ("corp/alex", "corp/alex"),
            ("Alexander", "alexander"),
            ("LONGCORP\\", "longcorp\\"),
            ("\u{c4}NNE", "\u{e4}nne"),
            (
                "D\\\u{e4}\u{f6}\u{fc}\u{df}\u{e4}\u{f6}\u{fc}",
                "d\\\u{e4}\u{f6}\u{fc}\u{df}\u{e4}\u{f6}\u{fc}",
            ),
            ("@corp", "@corp"),
            ("CORP\\", "corp\\"),
        ] {
            assert_eq!(key(user), format!("user:{name}"), "{user}");
        }
        assert_eq!(user_key(b"CORP\\B\xc4"), b"user:b\xc4", "no UTF-8");
    }
}
