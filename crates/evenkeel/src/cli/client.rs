//! Talks HTTP to the daemon's admin socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use evenkeel_api as api;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Exit, Failure};

pub struct Client<'a> {
    socket: &'a Path,
}

impl<'a> Client<'a> {
    pub fn new(socket: &'a Path) -> Client<'a> {
        Client { socket }
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.request("GET", path, "", &[])
    }

    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.request("DELETE", path, "", &[])
    }

    pub fn post_text<T: DeserializeOwned>(&self, path: &str, text: &str) -> Result<T, Failure> {
        self.request("POST", path, "application/toml", text.as_bytes())
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(anyhow::Error::from)?;
        self.request("POST", path, "application/json", &body)
    }

    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(anyhow::Error::from)?;
        self.request("PUT", path, "application/json", &body)
    }

    pub fn put_text<T: DeserializeOwned>(&self, path: &str, text: &str) -> Result<T, Failure> {
        self.request("PUT", path, "application/x-pem-file", text.as_bytes())
    }

    /// Any request with its answer as JSON.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &str,
    ) -> Result<serde_json::Value, Failure> {
        self.request(method, path, kind, body.as_bytes())
    }

    fn request<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<T, Failure> {
        let (status, _, mut stream) = self.send(method, path, kind, body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        if status == 200 {
            let wrong = |e| Failure::new(Exit::Failed, format!("the daemon's answer is not understood: {e}"));
            return serde_json::from_slice(&answer).map_err(wrong);
        }
        Err(refusal(status, &answer))
    }

    /// The number that is a resource's ETag, without the resource; none where the daemon refuses it.
    pub fn tag(&self, path: &str) -> Result<Option<u64>, Failure> {
        self.send("HEAD", path, "", &[]).map(|(status, tag, _)| tag.filter(|_| status == 200))
    }

    /// Lines of an answer without an end.
    pub fn lines(
        &self,
        path: &str,
    ) -> Result<impl Iterator<Item = std::io::Result<String>> + use<>, Failure> {
        let (status, _, mut stream) = self.send("GET", path, "", &[])?;
        if status != 200 {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            return Err(refusal(status, &answer));
        }
        stream.get_ref().set_read_timeout(None)?;
        Ok(stream.lines())
    }

    /// The status of the answer, the number that is its ETag, and what follows its head.
    fn send(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<(u16, Option<u64>, BufReader<UnixStream>), Failure> {
        let unreachable = |e: std::io::Error| {
            let why = format!(
                "the daemon is not reachable at {}: {e}; is `evenkeel run` running?",
                self.socket.display()
            );
            Failure::new(Exit::Unreachable, why)
        };
        let mut stream = UnixStream::connect(self.socket).map_err(unreachable)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        // HTTP/1.0: the answer is not chunked and ends with the connection.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: evenkeel\r\nX-Evenkeel-User: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            super::live::author(),
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| Failure::new(Exit::Failed, "the daemon's answer is no HTTP"))?;
        let mut tag = None;
        while line.trim_end() != "" {
            line.clear();
            reader.read_line(&mut line)?;
            let value = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("etag"));
            tag = tag.or_else(|| value?.1.trim().trim_matches('"').parse().ok());
        }
        Ok((status, tag, reader))
    }
}

fn refusal(status: u16, answer: &[u8]) -> Failure {
    let Ok(failure) = serde_json::from_slice::<api::Failure>(answer) else {
        let text = String::from_utf8_lossy(answer);
        return Failure::new(Exit::Failed, format!("the daemon answered {status}: {}", text.trim()));
    };
    let exit = if status == 422 { Exit::Configuration } else { Exit::Failed };
    let mut message = failure.detail;
    for problem in failure.problems {
        message
            .push_str(&format!("\n  line {}, column {}: {}", problem.line, problem.column, problem.message));
        if let Some(help) = problem.help {
            message.push_str(&format!(" ({help})"));
        }
    }
    Failure::new(exit, message)
}
