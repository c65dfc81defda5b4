//! Probes over UDP: DNS, NTP, RADIUS, SIP. Each answer must belong to its question.

use std::net::SocketAddr;

use tokio::net::UdpSocket;

use crate::connect::describe;

const ANSWER_AT_MOST: usize = 4096;

/// Sends one datagram, again each third of a second, until an answer is judged to be its own.
async fn ask<T>(
    address: SocketAddr,
    request: &[u8],
    judge: impl Fn(&[u8]) -> Option<Result<T, String>>,
) -> Result<T, String> {
    let local: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).await.map_err(|e| describe(&e))?;
    // Connected: only the server's datagrams come, and its ICMP errors.
    socket.connect(address).await.map_err(|e| describe(&e))?;
    let mut buffer = [0; ANSWER_AT_MOST];
    loop {
        socket.send(request).await.map_err(|e| describe(&e))?;
        let again = tokio::time::sleep(std::time::Duration::from_millis(333));
        tokio::pin!(again);
        loop {
            tokio::select! {
                received = socket.recv(&mut buffer) => {
                    let count = received.map_err(|e| describe(&e))?;
                    if let Some(result) = judge(&buffer[..count]) {
                        return result;
                    }
                }
                () = &mut again => break,
            }
        }
    }
}

/// A number that nobody can guess or find out: whoever knows a RADIUS authenticator before it is sent
/// can forge the answer, and one that comes twice shows the password (RFC 2865 section 3).
fn unguessed() -> Result<[u8; 16], String> {
    let mut number = [0; 16];
    aws_lc_rs::rand::fill(&mut number).map_err(|_| "there is no randomness")?;
    Ok(number)
}

pub async fn dns(address: SocketAddr, name: &str) -> Result<String, String> {
    let id = unguessed()?;
    // Recursion desired, one question: the name's A record.
    let mut query = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.').filter(|l| !l.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        query.push(label.len() as u8);
        query.extend_from_slice(label);
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    ask(address, &query, |answer| {
        let ours = answer.len() >= 12 && answer[..2] == id[..2] && answer[2] & 0x80 != 0;
        ours.then(|| match answer[3] & 0x0f {
            0 => Ok(evenkeel_model::counted(u16::from_be_bytes([answer[6], answer[7]]), "answer", "answers")),
            3 => Err("the name does not exist (NXDOMAIN)".into()),
            code => Err(format!("DNS error {code}")),
        })
    })
    .await
}

pub async fn ntp(address: SocketAddr) -> Result<String, String> {
    let mut request = [0; 48];
    // Version 4, client; the time stamp comes back as the origin's.
    request[0] = 0x23;
    request[40..48].copy_from_slice(&unguessed()?[..8]);
    let sent = request;
    ask(address, &request, |answer| {
        let ours = answer.len() >= 48 && answer[0] & 7 == 4 && answer[24..32] == sent[40..48];
        ours.then(|| match (answer[0] >> 6, answer[1]) {
            (3, _) | (_, 0 | 16..) => Err(format!("not synchronised (stratum {})", answer[1])),
            (_, stratum) => Ok(format!("stratum {stratum}")),
        })
    })
    .await
}

/// An Access-Request (RFC 2865) whose answer proves that the server knows the secret. A refusal
/// shows a working server as well as an acceptance does, but the check wants its user accepted.
pub async fn radius(address: SocketAddr, user: &str, password: &str, secret: &str) -> Result<String, String> {
    let authenticator = unguessed()?;
    let (request, id) = radius_request(&authenticator, user, password, secret);
    ask(address, &request, |answer| {
        let length = usize::from(u16::from_be_bytes([*answer.get(2)?, *answer.get(3)?]));
        let answer = answer.get(..length).filter(|a| a.len() >= 20 && a[1] == id)?;
        let signed = [&answer[..4], &authenticator, &answer[20..], secret.as_bytes()].concat();
        if md5::compute(signed).0 != answer[4..20] {
            return Some(Err("the answer is signed with another secret".into()));
        }
        Some(match answer[0] {
            2 => Ok("accepted".into()),
            3 => Err("the user was refused".into()),
            11 => Ok("challenged".into()),
            code => Err(format!("RADIUS code {code}")),
        })
    })
    .await
}

fn radius_request(authenticator: &[u8; 16], user: &str, password: &str, secret: &str) -> (Vec<u8>, u8) {
    let id = authenticator[0];
    let mut packet = vec![1, id, 0, 0];
    packet.extend_from_slice(authenticator);
    packet.push(1);
    packet.push(user.len() as u8 + 2);
    packet.extend_from_slice(user.as_bytes());
    // The password is hidden in blocks of sixteen (section 5.2).
    let mut hidden = password.as_bytes().to_vec();
    hidden.resize(hidden.len().max(1).next_multiple_of(16), 0);
    let mut before = authenticator.to_vec();
    for block in hidden.chunks_mut(16) {
        let mask = md5::compute([secret.as_bytes(), &before].concat()).0;
        block.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        before = block.to_vec();
    }
    packet.push(2);
    packet.push(hidden.len() as u8 + 2);
    packet.extend_from_slice(&hidden);
    // A Message-Authenticator (RFC 3579), which servers of today insist on.
    packet.extend_from_slice(&[80, 18]);
    let at = packet.len();
    packet.extend_from_slice(&[0; 16]);
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    let signature = hmac_md5(secret.as_bytes(), &packet);
    packet[at..].copy_from_slice(&signature);
    (packet, id)
}

/// RFC 2104.
fn hmac_md5(key: &[u8], message: &[u8]) -> [u8; 16] {
    let mut block = [0u8; 64];
    match block.get_mut(..key.len()) {
        Some(start) => start.copy_from_slice(key),
        None => block[..16].copy_from_slice(&md5::compute(key).0),
    }
    let inner = md5::compute([&block.map(|b| b ^ 0x36), message].concat());
    md5::compute([&block.map(|b| b ^ 0x5c)[..], &inner.0].concat()).0
}

/// The OPTIONS request of a SIP probe.
pub fn sip_options(address: SocketAddr, transport: &str) -> Result<String, String> {
    let tag: String = unguessed()?.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!(
        "OPTIONS sip:{address} SIP/2.0\r\nVia: SIP/2.0/{transport} evenkeel.invalid;branch=z9hG4bK{tag};rport\r\nMax-Forwards: 1\r\nFrom: <sip:evenkeel@evenkeel.invalid>;tag={tag}\r\nTo: <sip:{address}>\r\nCall-ID: {tag}\r\nCSeq: 1 OPTIONS\r\nContact: <sip:evenkeel@evenkeel.invalid>\r\nAccept: application/sdp\r\nContent-Length: 0\r\n\r\n"
    ))
}

pub async fn sip(address: SocketAddr) -> Result<String, String> {
    let request = sip_options(address, "UDP")?;
    ask(address, request.as_bytes(), |answer| {
        let line = answer.split(|b| *b == b'\r').next()?;
        let text = std::str::from_utf8(line.strip_prefix(b"SIP/2.0 ")?).ok()?;
        Some(match text.starts_with("200") {
            true => Ok(format!("SIP {text}")),
            false => Err(format!("SIP {text}, expected 200")),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_from_the_system_and_not_from_the_clock() {
        let all: std::collections::HashSet<[u8; 16]> = (0..1_000).map(|_| unguessed().unwrap()).collect();
        assert_eq!(all.len(), 1_000);
        // Half of the bits of each differ from the one before, more or less.
        let all: Vec<_> = (0..256).map(|_| u128::from_be_bytes(unguessed().unwrap())).collect();
        let differ: u32 = all.windows(2).map(|w| (w[0] ^ w[1]).count_ones()).sum();
        assert!((255 * 56..255 * 72).contains(&differ), "{differ}");
    }

    /// RFC 2202, and the example of RFC 2865 section 7.1 for the hidden password.
    #[test]
    fn signatures() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(&hmac_md5(&[0x0b; 16], b"Hi There")), "9294727a3638bb1c13f48ef8158bfc9d");
        assert_eq!(
            hex(&hmac_md5(&[0xaa; 80], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"
        );
        let authenticator =
            [0x0f, 0x40, 0x3f, 0x94, 0x73, 0x97, 0x80, 0x57, 0xbd, 0x83, 0xd5, 0xcb, 0x98, 0xf4, 0x22, 0x7a];
        let (packet, _) = radius_request(&authenticator, "nemo", "arctangent", "xyzzy5461");
        assert!(hex(&packet).contains("02120dbe708d93d413ce3196e43f782a0aee"), "{}", hex(&packet));
    }
}
