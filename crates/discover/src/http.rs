//! Gets lists over HTTP and HTTPS. Blocking, bounded in time and size; redirects are not followed. The names
//! of hosts were looked up before, by this crate's own rules.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::HttpSource;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// Of a token's file.
const TOKEN_AT_MOST: u64 = 64 << 10;

/// An answer 200.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub body: Vec<u8>,
    /// Which state of Consul's it is.
    pub index: Option<u64>,
}

/// Where the host is, as it was looked up.
#[derive(Debug)]
struct Places(Vec<SocketAddr>);

impl Resolver for Places {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        self.0.iter().take(8).for_each(|place| found.push(*place));
        Ok(found)
    }
}

/// The whole exchange takes so long at most. `query` is added to the path.
pub fn get(
    source: &HttpSource,
    query: &str,
    addresses: &[IpAddr],
    patience: Duration,
    at_most: u64,
) -> Result<Heard, String> {
    if addresses.is_empty() {
        return Err("its host has no address".into());
    }
    let places = addresses.iter().map(|ip| SocketAddr::new(*ip, source.port)).collect();
    let config = Agent::config_builder()
        .tls_config(trusted(source.ca.as_deref())?)
        .timeout_global(Some(patience))
        .max_redirects(0)
        .max_response_header_size(16 << 10)
        .http_status_as_error(false)
        .proxy(None)
        .user_agent("evenkeel")
        .build();
    let agent = Agent::with_parts(config, DefaultConnector::default(), Places(places));
    let mut request = agent.get(format!("{source}{query}")).header("Accept", "application/json");
    if let Some(file) = &source.token {
        let named = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
        let token = evenkeel_files::read_text(file, TOKEN_AT_MOST).map_err(|e| named(&e))?;
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(named(&"holds no token"));
        }
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut answer = request.call().map_err(|e| e.to_string())?;
    let status = answer.status().as_u16();
    if status != 200 {
        return Err(format!("it answers {status}"));
    }
    let index = answer.headers().get("x-consul-index").and_then(|v| v.to_str().ok()?.parse().ok());
    let read = answer.body_mut().with_config().limit(at_most).read_to_vec();
    let body = read.map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(_) => format!("the answer is larger than {} MiB", at_most >> 20),
        error => error.to_string(),
    })?;
    Ok(Heard { body, index })
}

fn trusted(ca: Option<&Path>) -> Result<TlsConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    let Some(file) = ca else { return Ok(tls.build()) };
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let pem = evenkeel_files::read(file, evenkeel_files::PEM_AT_MOST).map_err(|e| named(&e))?;
    let certificates = ureq::tls::parse_pem(&pem).filter_map(|item| match item {
        Ok(ureq::tls::PemItem::Certificate(one)) => Some(one),
        _ => None,
    });
    let all: Vec<Certificate<'static>> = certificates.collect();
    if all.is_empty() {
        return Err(named(&"holds no certificate of an authority"));
    }
    Ok(tls.root_certs(RootCerts::new_with_certs(&all)).build())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// What is made of one answer, and the question that it was for.
    fn heard(answer: &'static str) -> (Result<Heard, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = Vec::new();
            let mut byte = [0];
            while !question.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                question.push(byte[0]);
            }
            let _ = stream.write_all(answer.as_bytes());
            String::from_utf8(question).unwrap()
        });
        let source = HttpSource::parse(&format!("http://registry.test:{port}/sd?x=y")).unwrap();
        let here = ["127.0.0.1".parse().unwrap()];
        let got = get(&source, "&index=7", &here, Duration::from_secs(60), 10);
        (got, asked.join().unwrap())
    }

    #[test]
    fn answers() {
        let check = |answer: &'static str, expect: Result<&str, &str>| {
            let found = heard(answer).0.map(|h| String::from_utf8(h.body).unwrap());
            match (found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect, "{answer:?}"),
                (Err(found), Err(expect)) => assert!(found.contains(expect), "{answer:?}: {found}"),
                (found, expect) => panic!("{answer:?}: {found:?}, not {expect:?}"),
            }
        };
        check("HTTP/1.0 200 OK\r\n\r\n[]", Ok("[]"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", Ok("[]"));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1;x=y\r\n]\r\n0\r\n\r\n",
            Ok("[]"),
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]", Err(""));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[", Err(""));
        check("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n[]", Err("it answers 503"));
        check("HTTP/1.1 302 No\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", Err("302"));
        check("nonsense\r\n\r\n", Err(""));
        check("HTTP/1.0 200 OK\r\n\r\n[           ]", Err("larger than 0 MiB"));
    }

    #[test]
    fn questions() {
        let (got, asked) = heard("HTTP/1.1 200 OK\r\nX-Consul-Index: 42\r\nContent-Length: 2\r\n\r\n[]");
        assert_eq!(got, Ok(Heard { body: b"[]".to_vec(), index: Some(42) }));
        assert!(asked.starts_with("GET /sd?x=y&index=7 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.to_ascii_lowercase().contains("host: registry.test:"), "{asked}");
    }
}
