//! Conversations of several steps: send, expect, send… The presets of text and binary protocols
//! are such conversations too.

use std::cell::Cell;
use std::net::SocketAddr;

use evenkeel_model::{HealthCheck, Step, counted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::connect::{Stream, open_again};
use crate::found::{Failure, Found, Layer, Outcome};

/// Bytes that one answer may have.
const ANSWER_AT_MOST: usize = 64 * 1024;

/// Where further connections of a conversation go.
pub struct Further<'c> {
    pub check: &'c HealthCheck,
    pub address: SocketAddr,
    pub reached: &'c Cell<Layer>,
}

/// Takes each step in turn; bytes behind what was expected are there for the next. `at` is the step that is
/// taken, counted from 1.
pub async fn run(
    mut stream: Box<dyn Stream>,
    steps: &[Step],
    further: &Further<'_>,
    (deadline, at): (Instant, &Cell<usize>),
) -> Result<Found, Failure> {
    let mut seen: Vec<u8> = Vec::new();
    let mut last = String::from("connected");
    let mut least = None;
    for (number, step) in steps.iter().enumerate() {
        at.set(number + 1);
        match step {
            Step::Send(bytes) => {
                let broken = |e: std::io::Error| format!("step {}: connection broke: {e}", number + 1);
                stream.write_all(bytes.expose()).await.map_err(broken)?;
                stream.flush().await.map_err(broken)?;
            }
            Step::Expect(wanted) => {
                let found = |seen: &[u8]| memchr::memmem::find(seen, wanted).map(|at| at + wanted.len());
                let shown = || format!("{:?}", String::from_utf8_lossy(wanted));
                last = until(&mut stream, &mut seen, (number, deadline), &shown, &found).await?;
            }
            Step::ExpectRegex(pattern) => {
                let regex = evenkeel_rules::regex(pattern, false)?;
                let found = |seen: &[u8]| regex.find(seen).map(|m| m.end());
                let shown = || format!("/{pattern}/");
                last = until(&mut stream, &mut seen, (number, deadline), &shown, &found).await?;
            }
            Step::Within(count) => least = Some(*count),
            Step::Refuse(unwanted) => {
                let found = |seen: &[u8]| memchr::memmem::find(seen, unwanted).is_some();
                let shown = || format!("{:?}", String::from_utf8_lossy(unwanted));
                last = without(&mut stream, &mut seen, (number, deadline), least, &shown, &found).await?;
            }
            Step::RefuseRegex(pattern) => {
                let regex = evenkeel_rules::regex(pattern, false)?;
                let found = |seen: &[u8]| regex.is_match(seen);
                let shown = || format!("/{pattern}/");
                last = without(&mut stream, &mut seen, (number, deadline), least, &shown, &found).await?;
            }
            Step::Connect(connect) => {
                seen.clear();
                further.reached.set(Layer::Connection);
                let opened = open_again(further.check, connect, further.address, further.reached).await;
                stream = opened.map_err(|mut failure| {
                    failure.found.detail = format!("step {}: {}", number + 1, failure.found.detail);
                    failure
                })?;
                further.reached.set(Layer::Service);
                "connected".clone_into(&mut last);
            }
        }
    }
    let (code, said) = code_of(&last);
    Ok(Found { code, said, detail: last, step: None })
}

/// Of protocols whose answers begin with three digits.
fn code_of(line: &str) -> (Option<u16>, String) {
    let digits = line.get(..3).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
    let code = digits.filter(|_| line[3..].is_empty() || line[3..].starts_with([' ', '-']));
    match code.and_then(|digits| digits.parse().ok()) {
        Some(code) => (Some(code), line[3..].trim_start_matches([' ', '-']).to_owned()),
        None => (None, line.to_owned()),
    }
}

/// Reads until the server ends the connection, or until there is enough to judge, and nothing unwanted came.
/// What came is there for the next step.
async fn without(
    stream: &mut Box<dyn Stream>,
    seen: &mut Vec<u8>,
    (number, deadline): (usize, Instant),
    least: Option<usize>,
    unwanted: &dyn Fn() -> String,
    found: &dyn Fn(&[u8]) -> bool,
) -> Result<String, Failure> {
    let mut buffer = [0; 4096];
    loop {
        let line = last_line(seen);
        if found(seen) {
            let (code, said) = code_of(&line);
            let detail = format!("step {}: {} came", number + 1, unwanted());
            return Err(Failure {
                outcome: Outcome::Refused,
                found: Found { detail, code, said, step: None },
            });
        }
        let enough = least.is_some_and(|least| !seen.is_empty() && seen.len() >= least);
        if enough || seen.len() > ANSWER_AT_MOST {
            return Ok(line);
        }
        match timeout_at(deadline, stream.read(&mut buffer)).await {
            Ok(Ok(0)) if seen.is_empty() => {
                let detail = format!("step {}: the connection ended without an answer", number + 1);
                return Err(Failure::new(Outcome::Invalid, detail));
            }
            Ok(Ok(0)) => return Ok(line),
            Ok(Ok(count)) => seen.extend_from_slice(&buffer[..count]),
            Ok(Err(error)) => {
                return Err(format!("step {}: connection broke: {error}", number + 1).into());
            }
            Err(_) => {
                let detail = format!("step {}: it is not over, so {} may still come", number + 1, unwanted());
                return Err(Failure::new(Outcome::Timeout, detail));
            }
        }
    }
}

/// Reads until something is found, and forgets it with what stood before it.
async fn until(
    stream: &mut Box<dyn Stream>,
    seen: &mut Vec<u8>,
    (number, deadline): (usize, Instant),
    wanted: &dyn Fn() -> String,
    found: &dyn Fn(&[u8]) -> Option<usize>,
) -> Result<String, Failure> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = found(seen) {
            let line = first_line(&seen[..end]);
            seen.drain(..end);
            return Ok(line);
        }
        let read = timeout_at(deadline, stream.read(&mut buffer)).await;
        let late = read.is_err();
        let ended = match read.unwrap_or(Ok(0)) {
            Ok(0) => true,
            Ok(count) => {
                seen.extend_from_slice(&buffer[..count]);
                false
            }
            Err(error) => return Err(format!("step {}: connection broke: {error}", number + 1).into()),
        };
        if ended || seen.len() > ANSWER_AT_MOST {
            let last = last_line(seen);
            let got = if seen.is_empty() { "nothing".to_owned() } else { format!("{last:?}") };
            let detail = format!("step {}: expected {}, got {got}", number + 1, wanted());
            let (code, said) = code_of(&last);
            let outcome = match (late, code) {
                (_, Some(_)) => Outcome::Refused,
                // What Redis and POP say no with.
                (_, None) if last.starts_with('-') => Outcome::Refused,
                (true, None) => Outcome::Timeout,
                (false, None) => Outcome::Invalid,
            };
            return Err(Failure { outcome, found: Found { detail, code, said, step: None } });
        }
    }
}

/// What people are shown of an answer.
pub fn first_line(bytes: &[u8]) -> String {
    shown(bytes.split(|b| *b == b'\n').find(|l| !l.trim_ascii().is_empty()))
}

fn last_line(bytes: &[u8]) -> String {
    shown(bytes.rsplit(|b| *b == b'\n').find(|l| !l.trim_ascii().is_empty()))
}

fn shown(line: Option<&[u8]>) -> String {
    let line = line.unwrap_or(&[]);
    let text = String::from_utf8_lossy(&line[..line.len().min(128)]).trim().to_owned();
    text.chars().map(|c| if c.is_control() { '.' } else { c }).collect()
}

/// A bind of nobody (RFC 4511 section 4.2), and the answer's beginning is judged.
pub async fn ldap(stream: &mut dyn Stream) -> Result<Found, Failure> {
    let request = b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00";
    let mut answer = ask(stream, request, 1).await?;
    loop {
        match bind_result(&answer) {
            Ok(0) => return Ok("bound".into()),
            Ok(code) => {
                let detail = format!("the bind was refused with code {code}");
                return Err(Failure::refused(detail, Some(u16::from(code)), String::new()));
            }
            Err(true) => answer.extend_from_slice(&ask(stream, b"", 1).await?),
            Err(false) => return Err("the answer is no LDAP".into()),
        }
    }
}

/// The result code of a bind response in BER; the error says whether more of it may still come.
fn bind_result(answer: &[u8]) -> Result<u8, bool> {
    // Each tag with its length, which big servers write in four bytes however small it is.
    let enter = |rest: &mut &[u8], tag: u8| -> Result<usize, bool> {
        let (&found, behind) = rest.split_first().ok_or(true)?;
        let (&first, behind) = behind.split_first().ok_or(found == tag)?;
        let more = if first & 0x80 == 0 { 0 } else { usize::from(first & 0x7f) };
        if found != tag || more > 4 {
            return Err(false);
        }
        let (digits, behind) = behind.split_at_checked(more).ok_or(true)?;
        *rest = behind;
        let long = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        Ok(if more == 0 { usize::from(first) } else { long })
    };
    let rest = &mut &answer[..];
    enter(rest, 0x30)?;
    let number = enter(rest, 0x02)?;
    *rest = rest.get(number..).ok_or(number <= 4)?;
    enter(rest, 0x61)?;
    match enter(rest, 0x0a)? {
        1 => rest.first().copied().ok_or(true),
        _ => Err(false),
    }
}

/// The greeting of MySQL and MariaDB: protocol 10, or an error packet. A user without a password logs
/// in and says goodbye; what it says does not depend on the greeting, and need not wait for it.
pub async fn mysql(stream: &mut dyn Stream, user: Option<&str>, old: bool) -> Result<Found, Failure> {
    if let Some(user) = user {
        // HandshakeResponse41: what is understood, the longest packet, utf8, 23 times nothing.
        let mut login = vec![0x00, 0x82, 0x00, 0x00, 0x00, 0x80, 0x00, 0x01, 0x21];
        login.resize(32, 0);
        if old {
            // HandshakeResponse320: what is understood, the longest packet.
            login = vec![0x00, 0x80, 0x00, 0x00, 0x01];
        }
        login.extend_from_slice(user.as_bytes());
        login.extend_from_slice(&[0, 0]);
        let [a, b, c, _] = (login.len() as u32).to_le_bytes();
        let goodbye = [1, 0, 0, 0, 1];
        let broken = |e: std::io::Error| format!("connection broke: {e}");
        stream.write_all(&[&[a, b, c, 1], &login[..], &goodbye].concat()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
    }
    let mut seen = Vec::new();
    let greeting = mysql_packet(stream, &mut seen, user.is_some()).await?;
    let said = match greeting[4] {
        10 => first_line(greeting[5..].split(|b| *b == 0).next().unwrap_or(&[])),
        0xff => return Err(mysql_error(&greeting)),
        _ => return Err("the answer is no MySQL".into()),
    };
    if user.is_some() {
        let answer = mysql_packet(stream, &mut seen, false).await?;
        if answer[4] == 0xff {
            return Err(mysql_error(&answer));
        }
    }
    Ok(Found { detail: format!("version {said}"), said, ..Found::default() })
}

/// A packet of at least one byte, with its head of three bytes of length and one of its number. Where another
/// one follows it is read to its end, and what came behind it stays in `seen`; of the last one, and of an error,
/// the beginning will do.
async fn mysql_packet(
    stream: &mut dyn Stream,
    seen: &mut Vec<u8>,
    another_follows: bool,
) -> Result<Vec<u8>, String> {
    let mut least = 5;
    loop {
        if let Some([a, b, c, _, first]) = seen.first_chunk() {
            if !another_follows || *first == 0xff {
                return Ok(std::mem::take(seen));
            }
            least = 4 + usize::from(*a) + (usize::from(*b) << 8) + (usize::from(*c) << 16);
            if least == 4 || least > ANSWER_AT_MOST {
                return Err("the answer is no MySQL".into());
            }
            if seen.len() >= least {
                return Ok(seen.drain(..least).collect());
            }
        }
        seen.extend(ask(stream, b"", 1).await.map_err(|why| match seen.is_empty() {
            true => why,
            false => format!("closed after {} of {}", seen.len(), counted(least, "byte", "bytes")),
        })?);
    }
}

fn mysql_error(packet: &[u8]) -> Failure {
    let code = packet.get(5..7).map(|c| u16::from_le_bytes([c[0], c[1]]));
    let said = packet.get(7..).unwrap_or(&[]);
    // `#` and five characters of SQL's own codes.
    let said = first_line(if said.first() == Some(&b'#') { said.get(6..).unwrap_or(&[]) } else { said });
    Failure::refused(format!("refused: {said}"), code, said)
}

/// A start-up message; any request for authentication shows a server that works.
pub async fn postgresql(stream: &mut dyn Stream, user: &str) -> Result<Found, Failure> {
    let mut message = vec![0, 0, 0, 0, 0, 3, 0, 0];
    message.extend_from_slice(format!("user\0{user}\0\0").as_bytes());
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_be_bytes());
    let answer = ask(stream, &message, 9).await?;
    match answer[0] {
        b'R' => Ok("asks for authentication".into()),
        b'E' => {
            let field = |kind: u8| {
                let mut fields = answer[5..].split(|b| *b == 0);
                first_line(fields.find(|f| f.first() == Some(&kind)).map_or(b"", |f| &f[1..]))
            };
            let (severity, message) = (field(b'S'), field(b'M'));
            let what = if message.is_empty() { &severity } else { &message };
            Err(Failure::refused(format!("refused: {what}"), None, severity))
        }
        _ => Err("the answer is no PostgreSQL".into()),
    }
}

/// A connection request of X.224 and its confirmation.
pub async fn rdp(stream: &mut dyn Stream) -> Result<String, String> {
    let request = b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00";
    let answer = ask(stream, request, 7).await?;
    match (answer[0], answer[5] & 0xf0) {
        (3, 0xd0) => Ok("connection confirmed".into()),
        _ => Err("the answer is no RDP".into()),
    }
}

/// Sends a request and reads an answer of at least so many bytes.
async fn ask(stream: &mut dyn Stream, request: &[u8], least: usize) -> Result<Vec<u8>, String> {
    let broken = |e: std::io::Error| format!("connection broke: {e}");
    stream.write_all(request).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while answer.len() < least {
        match stream.read(&mut buffer).await.map_err(broken)? {
            0 => return Err(format!("closed after {}", counted(answer.len(), "byte", "bytes"))),
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_binds() {
        let good = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x31\x04\x00\x04\x00";
        assert_eq!(bind_result(good), Ok(0x31));
        // As Active Directory writes it.
        let long = b"\x30\x84\x00\x00\x00\x10\x02\x01\x01\x61\x84\x00\x00\x00\x07\x0a\x01\x00";
        assert_eq!(bind_result(long), Ok(0));
        for end in 0..long.len() {
            assert_eq!(bind_result(&long[..end]), Err(true), "{end}");
        }
        for noise in [&b"HTTP/1.1 400"[..], b"\x30\x0c\x02\x01\x01\x60", b"\x30\xff\x01", b"\x30\x05\x02\x7f"]
        {
            assert_eq!(bind_result(noise), Err(false), "{noise:?}");
        }
    }

    #[test]
    fn codes_in_front_of_lines() {
        assert_eq!(code_of("421 later"), (Some(421), "later".into()));
        assert_eq!(code_of("250-more"), (Some(250), "more".into()));
        assert_eq!(code_of("4211 x"), (None, "4211 x".into()));
        assert_eq!(code_of("é1"), (None, "é1".into()));
    }
}
