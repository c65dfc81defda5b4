//! Gets a list over HTTP (Prometheus' http_sd). Asks as HTTP/1.0, so that the answer comes in one piece.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use evenkeel_model::HttpSource;

/// The whole exchange.
const LIMIT: Duration = Duration::from_secs(10);
const HEAD_AT_MOST: usize = 16 << 10;

/// The body of an answer 200 of at most so many bytes.
pub async fn get(source: &HttpSource, addresses: &[IpAddr], at_most: usize) -> Result<Vec<u8>, String> {
    let Some(address) = addresses.first() else { return Err("its host has no address".into()) };
    let address = SocketAddr::new(*address, source.port);
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "GET {} HTTP/1.0\r\nHost: {}:{}\r\nAccept: application/json\r\nUser-Agent: evenkeel\r\nX-Prometheus-Refresh-Interval-Seconds: 60\r\nConnection: close\r\n\r\n",
            source.path, source.host, source.port
        );
        stream.write_all(head.as_bytes()).await?;
        let mut stream = stream.take((at_most + HEAD_AT_MOST) as u64 + 1);
        let mut bytes = Vec::new();
        // Some keep the connection all the same: with a length the answer ends by itself.
        while stream.read_buf(&mut bytes).await? > 0 && !is_whole(&bytes) {}
        Ok::<_, std::io::Error>(bytes)
    };
    match tokio::time::timeout(LIMIT, exchange).await {
        Ok(Ok(bytes)) => body(&bytes, at_most),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address} does not answer in time")),
    }
}

/// As many bytes have come as the head says.
fn is_whole(answer: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(answer) else { return false };
    let says = head.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
    let says = says.and_then(|h| std::str::from_utf8(h.value).ok()?.trim().parse::<usize>().ok());
    says.is_some_and(|says| answer.len() - length >= says)
}

/// What a whole answer says, where it is 200 and whole.
pub fn body(answer: &[u8], at_most: usize) -> Result<Vec<u8>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(answer) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_AT_MOST => length,
        _ => return Err("the answer is no HTTP".into()),
    };
    let body = &answer[length..];
    match head.code {
        Some(200) => {}
        code => return Err(format!("it answers {}", code.unwrap_or(0))),
    }
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("the answer to HTTP/1.0 comes in chunks".into());
        }
        let says = std::str::from_utf8(header.value).ok().and_then(|v| v.trim().parse::<usize>().ok());
        if header.name.eq_ignore_ascii_case("content-length") && says != Some(body.len()) {
            return Err("the answer is cut off".into());
        }
    }
    match body.len() <= at_most {
        true => Ok(body.to_vec()),
        false => Err(format!("the answer is larger than {} MiB", at_most >> 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check = |answer: &str, expect: Result<&str, &str>| {
            let found = body(answer.as_bytes(), 10).map(|b| String::from_utf8(b).unwrap());
            assert_eq!(found, expect.map(str::to_owned).map_err(str::to_owned), "{answer:?}");
        };
        check("HTTP/1.0 200 OK\r\n\r\n[]", Ok("[]"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", Ok("[]"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]", Err("the answer is cut off"));
        check("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n[]", Err("the answer is cut off"));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Err("the answer to HTTP/1.0 comes in chunks"),
        );
        check("HTTP/1.1 503 No\r\n\r\n[]", Err("it answers 503"));
        check("HTTP/1.1 200 OK\r\n", Err("the answer is no HTTP"));
        check("", Err("the answer is no HTTP"));
        check("HTTP/1.0 200 OK\r\n\r\n[           ]", Err("the answer is larger than 0 MiB"));
    }
}
