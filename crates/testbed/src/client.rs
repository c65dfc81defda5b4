//! A client that sends bytes as they are and reads whole answers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header field, the first of its name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

pub struct Connection {
    stream: TcpStream,
    /// Bytes that came behind the last answer.
    pub rest: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        Connection { stream, rest: Vec::new() }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that refuses early may have closed: the answer tells.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub fn finish_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends a GET with a Host field and reads the answer.
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.answer().unwrap_or_else(|| panic!("no answer to GET {path}"))
    }

    /// The next whole answer; `None` when the connection ends before one.
    pub fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET")
    }

    pub fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let mut ended = false;
        loop {
            if let Some((answer, used)) = parse_answer(&self.rest, method, ended) {
                self.rest.drain(..used);
                return Some(answer);
            }
            if ended {
                return None;
            }
            ended = !self.read_some();
        }
    }

    /// Reads what comes next; whether anything did before the end.
    pub fn read_some(&mut self) -> bool {
        let mut buffer = [0; 65_536];
        match self.stream.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.rest.extend_from_slice(&buffer[..count]);
                true
            }
        }
    }

    /// Everything until the end.
    pub fn read_all(mut self) -> Vec<u8> {
        while self.read_some() {}
        self.rest
    }

    /// Whether the other side closes within the time that a read may take.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => {
                !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
            }
        }
    }
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    Connection::open(address).get(path)
}

/// A whole answer at the start of some bytes, and how many of them it takes.
pub fn parse_answer(bytes: &[u8], method: &str, ended: bool) -> Option<(Answer, usize)> {
    let head_len = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_len]).into_owned();
    let status = head.split(' ').nth(1)?.get(..3)?.parse().ok()?;
    let mut answer = Answer { status, head, body: Vec::new() };
    let body = &bytes[head_len..];
    if method == "HEAD" || status < 200 || status == 204 || status == 304 {
        return Some((answer, head_len));
    }
    if answer.field("transfer-encoding").is_some() {
        let mut at = 0;
        loop {
            let line = body.get(at..)?.windows(2).position(|w| w == b"\r\n")? + at;
            let digits = String::from_utf8_lossy(&body[at..line]).into_owned();
            let size = usize::from_str_radix(digits.split(';').next()?.trim(), 16).ok()?;
            at = line + 2;
            if size == 0 {
                // Trailers, then an empty line.
                loop {
                    let end = body.get(at..)?.windows(2).position(|w| w == b"\r\n")? + at;
                    let empty = end == at;
                    at = end + 2;
                    if empty {
                        return Some((answer, head_len + at));
                    }
                }
            }
            answer.body.extend_from_slice(body.get(at..at + size)?);
            at += size + 2;
        }
    }
    if let Some(length) = answer.field("content-length").and_then(|l| l.parse::<usize>().ok()) {
        answer.body = body.get(..length)?.to_vec();
        return Some((answer, head_len + length));
    }
    if !ended {
        return None;
    }
    answer.body = body.to_vec();
    Some((answer, bytes.len()))
}
