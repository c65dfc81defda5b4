//! What is done with an authority, in a thread of its own: an order, or a question for the time of renewal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use evenkeel_acme::{
    Account, Answer, CertificateKey, Desk, Failure, Issued, Order, Pending, Seconds, Terms, Transport,
};
use evenkeel_model::Authority;
use tokio::sync::mpsc::UnboundedSender;

/// The daemon answers within this time, the peer's answer included.
const DAEMON: Duration = Duration::from_secs(30);

/// Who waits for the daemon.
pub type Waiter = SyncSender<Result<(), String>>;

/// What a thread tells the daemon's loop.
#[derive(Debug)]
pub enum News {
    Account { authority: Arc<Authority>, pkcs8: Vec<u8>, url: String, waiter: Waiter },
    Keep { name: String, pending: Box<Pending>, waiter: Waiter },
    Publish { name: String, answers: Vec<Answer>, waiter: Waiter },
    Ended { name: String, result: Result<Box<Issued>, Failure> },
    Window { name: String, of: String, result: Result<Option<(Seconds, Seconds)>, String> },
    Revoked { name: String, result: Result<(), String> },
}

/// Everything that an order needs.
pub struct Job {
    pub name: String,
    pub authority: Arc<Authority>,
    pub terms: Terms,
    pub account: Account,
    /// To be used again.
    pub key: Option<CertificateKey>,
    pub pending: Option<Pending>,
    pub over: Arc<AtomicBool>,
    pub news: UnboundedSender<News>,
}

struct Talk<'a> {
    name: &'a str,
    authority: &'a Arc<Authority>,
    pkcs8: Vec<u8>,
    over: &'a AtomicBool,
    news: &'a UnboundedSender<News>,
    /// Records that are to be taken away at the end.
    written: Vec<Answer>,
}

impl Talk<'_> {
    fn ask(&self, question: impl FnOnce(Waiter) -> News) -> Result<(), String> {
        let (waiter, answer) = sync_channel(1);
        self.news.send(question(waiter)).map_err(|_| "the program stops")?;
        match answer.recv_timeout(DAEMON) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err("what was ordered could not be kept in time".into()),
            Err(RecvTimeoutError::Disconnected) => Err("the order was given up".into()),
        }
    }
}

impl Desk for Talk<'_> {
    fn keep_account(&mut self, url: &str) -> Result<(), String> {
        let (authority, pkcs8, url) = (self.authority.clone(), self.pkcs8.clone(), url.to_owned());
        self.ask(|waiter| News::Account { authority, pkcs8, url, waiter })
    }

    fn keep(&mut self, pending: &Pending) -> Result<(), String> {
        let (name, pending) = (self.name.to_owned(), Box::new(pending.clone()));
        self.ask(|waiter| News::Keep { name, pending, waiter })
    }

    fn publish(&mut self, answers: &[Answer]) -> Result<(), String> {
        let (name, answers) = (self.name.to_owned(), answers.to_vec());
        if let Some(dns) = &self.authority.dns {
            self.written.extend(answers.iter().cloned());
            if evenkeel_acme::present(dns, &answers)? {
                // Every name server is to have it.
                evenkeel_acme::wait(dns.wait, &|| self.is_over());
            }
        }
        self.ask(|waiter| News::Publish { name, answers, waiter })
    }

    fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }
}

fn failure(words: String) -> Failure {
    Failure { words, retry_after: None, order_lost: false }
}

impl Job {
    /// Begins; what comes of it is news.
    pub fn start(self) -> std::io::Result<()> {
        std::thread::Builder::new().name("acme".into()).spawn(move || {
            let (name, news) = (self.name.clone(), self.news.clone());
            let result = self.run().map(Box::new);
            let _ = news.send(News::Ended { name, result });
        })?;
        Ok(())
    }

    fn run(mut self) -> Result<Issued, Failure> {
        let transport = Transport::new(self.authority.ca.as_deref()).map_err(failure)?;
        if let Some(external) =
            self.authority.external_account.as_ref().filter(|_| self.account.url.is_none())
        {
            let text = evenkeel_files::read_text(&external.key_file, evenkeel_files::TEXT_AT_MOST);
            let text = text.map_err(|e| failure(format!("{}: {e}", external.key_file.display())))?;
            let secret = data_encoding::BASE64URL_NOPAD.decode(text.trim().trim_end_matches('=').as_bytes());
            let secret = secret.map_err(|_| {
                failure(format!("{}: holds no key in base64url", external.key_file.display()))
            })?;
            self.terms.external = Some((external.key_id.clone(), secret));
        }
        let pkcs8 = self.account.key.pkcs8().to_vec();
        // Another node may have written them.
        let written = self.pending.as_ref().map(|p| p.answers.clone()).unwrap_or_default();
        let order = Order::new(self.terms, self.account, self.authority.key_type, self.key, self.pending);
        let order = order.map_err(failure)?;
        let (name, authority) = (&self.name, &self.authority);
        let mut talk = Talk { name, authority, pkcs8, over: &self.over, news: &self.news, written };
        let result = evenkeel_acme::run(order, &transport, &mut talk);
        // An order that was given up goes on elsewhere, and needs them.
        if let Some(dns) = authority.dns.as_ref().filter(|_| !talk.is_over())
            && let Err(why) = evenkeel_acme::clean_up(dns, &talk.written)
        {
            tracing::warn!(certificate = name, why, "a record of a challenge stays in the DNS");
        }
        result
    }
}

/// Asks when a certificate is to be renewed.
pub fn ask_window(
    authority: Arc<Authority>,
    name: String,
    of: String,
    pem: String,
    news: UnboundedSender<News>,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("acme".into()).spawn(move || {
        let transport = Transport::new(authority.ca.as_deref());
        let result = transport.and_then(|t| evenkeel_acme::renewal_window(&t, &authority.directory, &pem));
        let _ = news.send(News::Window { name, of, result });
    })?;
    Ok(())
}

/// Has a certificate revoked.
pub fn revoke(
    authority: Arc<Authority>,
    name: String,
    account: Account,
    pem: String,
    news: UnboundedSender<News>,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("acme".into()).spawn(move || {
        let transport = Transport::new(authority.ca.as_deref());
        let result =
            transport.and_then(|t| evenkeel_acme::revoke(&t, &authority.directory, &account, &pem, 0));
        let _ = news.send(News::Revoked { name, result });
    })?;
    Ok(())
}
