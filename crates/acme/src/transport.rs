//! HTTPS to the authority. Blocking, bounded in time and size; redirects are not followed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::order::Heard;

const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer is a certificate with its chain.
const ANSWER_AT_MOST: u64 = 256 << 10;

/// The way to one authority.
#[derive(Debug)]
pub struct Transport {
    agent: ureq::Agent,
}

impl Transport {
    /// `ca` holds the authorities to trust; the well-known ones otherwise.
    pub fn new(ca: Option<&Path>) -> Result<Transport, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        if let Some(file) = ca {
            let named = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
            let pem = evenkeel_files::read(file, evenkeel_files::PEM_AT_MOST).map_err(|e| named(&e))?;
            let items: Vec<Certificate<'static>> = ureq::tls::parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(ureq::tls::PemItem::Certificate(one)) => Some(one),
                    _ => None,
                })
                .collect();
            if items.is_empty() {
                return Err(named(&"holds no certificate of an authority"));
            }
            tls = tls.root_certs(RootCerts::new_with_certs(&items));
        }
        let agent = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Transport { agent })
    }

    pub fn call(&self, method: &str, url: &str, body: Option<Vec<u8>>) -> Result<Heard, String> {
        let failed = |e: ureq::Error| format!("the authority cannot be asked ({url}): {e}");
        let answer = match (method, body) {
            ("HEAD", _) => self.agent.head(url).call(),
            (_, None) => self.agent.get(url).call(),
            (_, Some(body)) => {
                let request = self.agent.post(url).content_type("application/jose+json");
                request
                    .header("Accept", "application/pem-certificate-chain, application/json")
                    .send(&body[..])
            }
        };
        let mut answer = answer.map_err(failed)?;
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let links = answer.headers().get_all("link").iter().filter_map(|v| v.to_str().ok());
        let alternates = links.flat_map(|line| line.split(',')).filter_map(alternate).take(20).collect();
        let mut heard = Heard {
            status: answer.status().as_u16(),
            nonce: header("replay-nonce"),
            location: header("location"),
            retry_after: header("retry-after").and_then(|text| retry_after(&text, SystemTime::now())),
            alternates,
            body: Vec::new(),
        };
        if method != "HEAD" {
            let read = answer.body_mut().with_config().limit(ANSWER_AT_MOST).read_to_vec();
            heard.body = read.map_err(failed)?;
        }
        Ok(heard)
    }
}

/// `<URL>;rel="alternate"`
fn alternate(link: &str) -> Option<String> {
    let (url, about) = link.trim().strip_prefix('<')?.split_once('>')?;
    about.contains("alternate").then(|| url.to_owned())
}

/// Seconds, or a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    SystemTime::from(at).duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_headers_say() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Tue, 14 Nov 2023 22:14:20 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Tue, 14 Nov 2000 22:14:20 GMT", now), None);
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(alternate("<https://a/1>;rel=\"alternate\""), Some("https://a/1".into()));
        assert_eq!(alternate("<https://a/1>;rel=\"index\""), None);
        assert_eq!(alternate("nonsense"), None);
    }
}
