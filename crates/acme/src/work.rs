//! Drives an order over the network, in a thread that may wait.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Seconds;
use crate::issued::{self, Issued};
use crate::jws;
use crate::order::{Account, Answer, Failure, NextAction, Order, Pending};
use crate::transport::Transport;

/// What the order needs of the daemon. Each answers when it is done, here and with the peer.
pub trait Desk {
    fn keep_account(&mut self, url: &str) -> Result<(), String>;
    fn keep(&mut self, pending: &Pending) -> Result<(), String>;
    fn publish(&mut self, answers: &[Answer]) -> Result<(), String>;
    /// Nobody wants this order any more.
    fn is_over(&self) -> bool;
}

/// Runs an order to its end.
pub fn run(mut order: Order, transport: &Transport, desk: &mut dyn Desk) -> Result<Issued, Failure> {
    loop {
        if desk.is_over() {
            order.stopped("the order was given up: another node or configuration goes on");
        }
        let kept = match order.step() {
            NextAction::Call { method, url, body } => {
                let heard = transport.call(method, &url, body);
                order.heard(heard);
                continue;
            }
            NextAction::KeepAccount(url) => desk.keep_account(&url),
            NextAction::Keep(pending) => desk.keep(&pending),
            NextAction::Publish(answers) => desk.publish(&answers),
            NextAction::Wait(time) => {
                wait(time, &|| desk.is_over());
                Ok(())
            }
            NextAction::Done(issued) => return Ok(*issued),
            NextAction::Failed(failure) => return Err(failure),
        };
        match kept {
            Ok(()) => order.went_on(),
            Err(why) => order.stopped(&why),
        }
    }
}

/// Sleeps, until it is over.
pub fn wait(time: Duration, is_over: &dyn Fn() -> bool) {
    const PART: Duration = Duration::from_millis(250);
    let mut left = time;
    while !left.is_zero() && !is_over() {
        std::thread::sleep(left.min(PART));
        left = left.saturating_sub(PART);
    }
}

fn get(transport: &Transport, url: &str) -> Result<Value, String> {
    let heard = transport.call("GET", url, None)?;
    if heard.status != 200 {
        return Err(format!("the authority answers {}", heard.status));
    }
    serde_json::from_slice(&heard.body).map_err(|_| "the authority's answer is no JSON".into())
}

/// When the authority wants a certificate (the first of `pem`) renewed, where it says so (RFC 9773), and how
/// soon it may be asked again.
pub fn renewal_window(
    transport: &Transport,
    directory: &str,
    pem: &str,
) -> Result<Option<(Seconds, Seconds)>, String> {
    let of = get(transport, directory)?;
    let Some(base) = of["renewalInfo"].as_str().filter(|url| same_scheme(directory, url)) else {
        return Ok(None);
    };
    let Some(id) = renewal_id_of(pem) else { return Ok(None) };
    let info = get(transport, &format!("{}/{id}", base.trim_end_matches('/')))?;
    let at = |key: &str| -> Option<Seconds> {
        let time: jiff::Timestamp = info["suggestedWindow"][key].as_str()?.parse().ok()?;
        Some(time.as_second())
    };
    match (at("start"), at("end")) {
        (Some(from), Some(to)) if from < to => Ok(Some((from, to))),
        _ => Err("the authority's renewal information has no window".into()),
    }
}

/// RFC 9773's name of the first certificate of a text.
pub fn renewal_id_of(pem: &str) -> Option<String> {
    let leaf = CertificateDer::pem_slice_iter(pem.as_bytes()).next()?.ok()?;
    issued::renewal_id(&X509Certificate::from_der(&leaf).ok()?.1)
}

fn same_scheme(directory: &str, url: &str) -> bool {
    url.len() < 2048
        && url.starts_with("http")
        && (!directory.starts_with("https:") || url.starts_with("https:"))
}

/// Has the authority take back the first certificate of a text.
pub fn revoke(
    transport: &Transport,
    directory: &str,
    account: &Account,
    pem: &str,
    reason: u8,
) -> Result<(), String> {
    let of = get(transport, directory)?;
    let part = |key: &str| of[key].as_str().filter(|url| same_scheme(directory, url)).map(str::to_owned);
    let url = part("revokeCert").ok_or("the authority revokes nothing")?;
    let nonces = part("newNonce").ok_or("the authority gives no nonces")?;
    let leaf = CertificateDer::pem_slice_iter(pem.as_bytes()).next().and_then(Result::ok);
    let leaf = leaf.ok_or("there is no certificate")?;
    let payload = json!({ "certificate": BASE64URL_NOPAD.encode(&leaf), "reason": reason });
    let mut why = String::new();
    let mut nonce = None;
    for _ in 0..20 {
        let with = match nonce.take() {
            Some(nonce) => nonce,
            None => transport.call("HEAD", &nonces, None)?.nonce.ok_or("the authority gave no nonce")?,
        };
        let body = jws::signed(&account.key, account.url.as_deref(), &with, &url, Some(&payload))?;
        let heard = transport.call("POST", &url, Some(body))?;
        if heard.status == 200 {
            return Ok(());
        }
        let problem: Value = serde_json::from_slice(&heard.body).unwrap_or(Value::Null);
        let kind = problem["type"].as_str().unwrap_or("");
        if kind.ends_with(":alreadyRevoked") {
            return Ok(());
        }
        let detail = problem["detail"].as_str().unwrap_or("without a reason");
        why = detail.chars().filter(|c| !c.is_control()).take(500).collect();
        if !kind.ends_with(":badNonce") {
            break;
        }
        nonce = heard.nonce;
    }
    Err(format!("the authority does not revoke it: {why}"))
}
