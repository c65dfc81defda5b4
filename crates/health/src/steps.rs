//! Conversations of several steps: send, expect, send… The presets of text and binary protocols
//! are such conversations too.

use evenkeel_model::Step;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::connect::Stream;

/// Bytes that one answer may have.
const ANSWER_AT_MOST: usize = 64 * 1024;

/// Takes each step in turn; bytes behind what was expected are there for the next.
pub async fn run(stream: &mut dyn Stream, steps: &[Step], deadline: Instant) -> Result<String, String> {
    let mut seen: Vec<u8> = Vec::new();
    let mut last = String::from("connected");
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Send(bytes) => {
                let broken = |e: std::io::Error| format!("step {}: connection broke: {e}", number + 1);
                stream.write_all(bytes).await.map_err(broken)?;
                stream.flush().await.map_err(broken)?;
            }
            Step::Expect(wanted) => {
                let found = |seen: &[u8]| memchr::memmem::find(seen, wanted).map(|at| at + wanted.len());
                let shown = || format!("{:?}", String::from_utf8_lossy(wanted));
                last = until(stream, &mut seen, (number, deadline), &shown, &found).await?;
            }
            Step::ExpectRegex(pattern) => {
                let regex =
                    regex::bytes::RegexBuilder::new(pattern).unicode(false).size_limit(1 << 20).build();
                let regex = regex.map_err(|e| e.to_string())?;
                let found = |seen: &[u8]| regex.find(seen).map(|m| m.end());
                let shown = || format!("/{pattern}/");
                last = until(stream, &mut seen, (number, deadline), &shown, &found).await?;
            }
        }
    }
    Ok(last)
}

/// Reads until something is found, and forgets it with what stood before it.
async fn until(
    stream: &mut dyn Stream,
    seen: &mut Vec<u8>,
    (number, deadline): (usize, Instant),
    wanted: &dyn Fn() -> String,
    found: &dyn Fn(&[u8]) -> Option<usize>,
) -> Result<String, String> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = found(seen) {
            let line = first_line(&seen[..end]);
            seen.drain(..end);
            return Ok(line);
        }
        let ended = match timeout_at(deadline, stream.read(&mut buffer)).await.unwrap_or(Ok(0)) {
            Ok(0) => true,
            Ok(count) => {
                seen.extend_from_slice(&buffer[..count]);
                false
            }
            Err(error) => return Err(format!("step {}: connection broke: {error}", number + 1)),
        };
        if ended || seen.len() > ANSWER_AT_MOST {
            let got = if seen.is_empty() { "nothing".to_owned() } else { format!("{:?}", last_line(seen)) };
            return Err(format!("step {}: expected {}, got {got}", number + 1, wanted()));
        }
    }
}

/// What people are shown of an answer.
fn first_line(bytes: &[u8]) -> String {
    shown(bytes.split(|b| *b == b'\n').find(|l| !l.trim_ascii().is_empty()))
}

fn last_line(bytes: &[u8]) -> String {
    shown(bytes.rsplit(|b| *b == b'\n').find(|l| !l.trim_ascii().is_empty()))
}

fn shown(line: Option<&[u8]>) -> String {
    let line = line.unwrap_or(&[]);
    let text = String::from_utf8_lossy(&line[..line.len().min(80)]).trim().to_owned();
    text.chars().map(|c| if c.is_control() { '.' } else { c }).collect()
}

/// A bind of nobody (RFC 4511 section 4.2), and the answer's beginning is judged.
pub async fn ldap(stream: &mut dyn Stream) -> Result<String, String> {
    let answer = ask(stream, b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00", 10).await?;
    // The result code is the first element of the bind response: 0a 01 CODE.
    let response = memchr::memmem::find(&answer, b"\x0a\x01").filter(|_| answer.contains(&0x61));
    match response.and_then(|at| answer.get(at + 2)) {
        Some(0) => Ok("bound".into()),
        Some(code) => Err(format!("the bind was refused with code {code}")),
        None => Err("the answer is no LDAP".into()),
    }
}

/// The greeting of MySQL and MariaDB: protocol 10, or an error packet.
pub async fn mysql(stream: &mut dyn Stream) -> Result<String, String> {
    let greeting = ask(stream, b"", 5).await?;
    match greeting[4] {
        10 => {
            let version = greeting[5..].split(|b| *b == 0).next().unwrap_or(&[]);
            Ok(format!("version {}", first_line(version)))
        }
        0xff => Err(format!("refused: {}", first_line(greeting.get(7..).unwrap_or(&[])))),
        _ => Err("the answer is no MySQL".into()),
    }
}

/// A start-up message; any request for authentication shows a server that works.
pub async fn postgresql(stream: &mut dyn Stream, user: &str) -> Result<String, String> {
    let mut message = vec![0, 0, 0, 0, 0, 3, 0, 0];
    message.extend_from_slice(format!("user\0{user}\0database\0postgres\0\0").as_bytes());
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_be_bytes());
    let answer = ask(stream, &message, 9).await?;
    match answer[0] {
        b'R' => Ok("asks for authentication".into()),
        b'E' => {
            let fields = answer[5..].split(|b| *b == 0);
            let message = fields.into_iter().find(|f| f.first() == Some(&b'M')).unwrap_or(b"M");
            Err(format!("refused: {}", first_line(&message[1..])))
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
            0 => return Err(format!("closed after {} bytes", answer.len())),
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(answer)
}
