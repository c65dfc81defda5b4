//! One order at an authority, as a machine: it says what is to be done next (`step`) and is told what came
//! of it (`heard`, `went_on`). It has no socket, clock or file, so that it can be played against any answer.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use evenkeel_model::{Challenge, KeyType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::issued::{self, Issued};
use crate::key::{AccountKey, CertificateKey};
use crate::{Seconds, jws};

/// Messages that one order may cost, whatever the authority answers.
const CALLS_AT_MOST: u32 = 600;
/// Nonces that may be refused in a row.
const NONCES_AT_MOST: u32 = 30;
/// The same message again after an error of the network or the server.
const TRIES: u32 = 4;
/// How long an order may wait in all.
const PATIENCE: Duration = Duration::from_secs(600);
/// A longer wait ends the attempt: the next one begins after it.
const LONG_WAIT: Duration = Duration::from_secs(60);
const NAMES_AT_MOST: usize = 100;
const URL_AT_MOST: usize = 2048;
const WORDS_AT_MOST: usize = 500;
/// Other chains that are looked at for the preferred one.
const CHAINS_AT_MOST: usize = 8;

/// How an account is known to the authority.
#[derive(Debug)]
pub struct Account {
    pub key: AccountKey,
    /// Its URL; nothing before it was made.
    pub url: Option<String>,
}

/// What is ordered, and how.
#[derive(Clone, Debug)]
pub struct Terms {
    pub directory: String,
    pub contact: Vec<String>,
    /// Key id and secret of an account outside.
    pub external: Option<(String, Vec<u8>)>,
    pub profile: Option<String>,
    pub preferred_chain: Option<String>,
    pub names: Vec<String>,
    /// Ways to show that a name is ours, the best first.
    pub challenges: Vec<Challenge>,
    /// The renewal id of the certificate that this one replaces.
    pub replaces: Option<String>,
    /// Now, for the check of dates.
    pub now: Seconds,
}

/// What must survive this process, so that the order goes on elsewhere.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Pending {
    pub url: String,
    /// The certificate's key, PEM.
    pub key: String,
    pub names: Vec<String>,
    #[serde(default)]
    pub answers: Vec<Answer>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("url", &self.url).field("names", &self.names).finish()
    }
}

/// What must be visible before the authority looks.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Answer {
    /// `http-01`, `tls-alpn-01`, `dns-01`
    pub challenge: String,
    pub name: String,
    pub token: String,
    /// The key authorisation; for the DNS what the record says.
    pub text: String,
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub words: String,
    /// The authority wants no attempt before.
    pub retry_after: Option<Duration>,
    /// The order is lost: the next attempt begins a new one.
    pub order_lost: bool,
}

/// What is to be done next.
#[derive(Debug)]
pub enum NextAction {
    /// A request: GET without a body, HEAD for a nonce, POST with one.
    Call {
        method: &'static str,
        url: String,
        body: Option<Vec<u8>>,
    },
    /// The account's URL is new: it is to be stored.
    KeepAccount(String),
    /// To be stored here and with the peer before anything goes on.
    Keep(Pending),
    /// The answers of what was kept must be visible.
    Publish(Vec<Answer>),
    Wait(Duration),
    Done(Box<Issued>),
    Failed(Failure),
}

/// What the authority answered.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub status: u16,
    pub nonce: Option<String>,
    pub location: Option<String>,
    pub retry_after: Option<Duration>,
    /// Other chains of a certificate.
    pub alternates: Vec<String>,
    pub body: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Directory,
    Register,
    KeepAccount(String),
    NewOrder,
    KeepOrder,
    Order,
    Authorization(usize),
    /// The same, of an order that has failed: for the reason.
    Reason(usize),
    KeepAnswers,
    Publish,
    Challenge(usize),
    Pause(Duration, Box<Phase>),
    Finalize,
    Certificate,
    Chain(usize),
    Done(Box<Issued>),
    Failed(Failure),
}

#[derive(Debug, Default)]
struct Directory {
    new_nonce: String,
    new_account: String,
    new_order: String,
    hosts: Vec<String>,
    profiles: Vec<String>,
}

/// One order.
#[derive(Debug)]
pub struct Order {
    terms: Terms,
    account: Account,
    key: CertificateKey,
    phase: Phase,
    directory: Directory,
    nonce: Option<String>,
    /// The message that was sent was for a nonce.
    wants_nonce: bool,
    pending: Option<Pending>,
    authorizations: Vec<String>,
    /// URLs of challenges that the authority has not been told to look at.
    open: Vec<String>,
    told: bool,
    finalize: String,
    certificate: String,
    chain: Vec<u8>,
    chains: Vec<String>,
    calls: u32,
    nonces: u32,
    tries: u32,
    waited: Duration,
}

impl Order {
    /// `pending` is an order that began earlier or on the other node; `key` the key to use again.
    pub fn new(
        terms: Terms,
        account: Account,
        key_type: KeyType,
        key: Option<CertificateKey>,
        pending: Option<Pending>,
    ) -> Result<Order, String> {
        if terms.names.is_empty() || terms.names.len() > NAMES_AT_MOST {
            return Err(format!("a certificate is for 1 to {NAMES_AT_MOST} names"));
        }
        let pending = pending.filter(|p| p.names == terms.names);
        let key = match &pending {
            Some(pending) => CertificateKey::from_pem(&pending.key)?,
            None => key.filter(|key| key.is(key_type)).map_or_else(|| CertificateKey::make(key_type), Ok)?,
        };
        Ok(Order {
            terms,
            account,
            key,
            phase: Phase::Directory,
            directory: Directory::default(),
            nonce: None,
            wants_nonce: false,
            pending,
            authorizations: Vec::new(),
            open: Vec::new(),
            told: false,
            finalize: String::new(),
            certificate: String::new(),
            chain: Vec::new(),
            chains: Vec::new(),
            calls: 0,
            nonces: 0,
            tries: 0,
            waited: Duration::ZERO,
        })
    }

    /// What is to be done next.
    pub fn step(&mut self) -> NextAction {
        match self.phase.clone() {
            Phase::Directory => self.get(self.terms.directory.clone()),
            Phase::Register => self.register(),
            Phase::KeepAccount(url) => NextAction::KeepAccount(url),
            Phase::NewOrder => self.new_order(),
            Phase::KeepOrder | Phase::KeepAnswers => match &self.pending {
                Some(pending) => NextAction::Keep(pending.clone()),
                None => self.give_up("there is no order"),
            },
            Phase::Publish => {
                NextAction::Publish(self.pending.as_ref().map(|p| p.answers.clone()).unwrap_or_default())
            }
            Phase::Order => {
                let url = self.pending.as_ref().map(|p| p.url.clone()).unwrap_or_default();
                self.post(url, None)
            }
            Phase::Authorization(n) | Phase::Reason(n) => match self.authorizations.get(n).cloned() {
                Some(url) => self.post(url, None),
                None => self.give_up("the authority names no authorization"),
            },
            Phase::Challenge(n) => match self.open.get(n).cloned() {
                Some(url) => self.post(url, Some(json!({}))),
                None => self.give_up("the authority names no challenge"),
            },
            Phase::Pause(time, _) => NextAction::Wait(time),
            Phase::Finalize => match self.key.request(&self.terms.names) {
                Ok(request) => {
                    let payload = json!({ "csr": BASE64URL_NOPAD.encode(&request) });
                    self.post(self.finalize.clone(), Some(payload))
                }
                Err(why) => self.give_up(&why),
            },
            Phase::Certificate => self.post(self.certificate.clone(), None),
            Phase::Chain(n) => match self.chains.get(n).cloned() {
                Some(url) => self.post(url, None),
                None => self.give_up("there is no other chain"),
            },
            Phase::Done(issued) => NextAction::Done(issued),
            Phase::Failed(failure) => NextAction::Failed(failure),
        }
    }

    /// What was to be kept or published is; a pause is over.
    pub fn went_on(&mut self) {
        let next = match self.phase.clone() {
            Phase::KeepAccount(_) => self.after_account(),
            Phase::KeepOrder => Phase::Order,
            Phase::KeepAnswers => Phase::Publish,
            Phase::Publish => match self.open.is_empty() {
                true => {
                    self.told = true;
                    self.pause(Duration::from_secs(1), Phase::Order)
                }
                false => Phase::Challenge(0),
            },
            Phase::Pause(time, next) => {
                self.waited += time;
                *next
            }
            other => other,
        };
        self.phase = next;
    }

    /// What could not be kept or published.
    pub fn stopped(&mut self, why: &str) {
        self.fail(why.to_owned(), None, false);
    }

    /// What came of a call.
    pub fn heard(&mut self, result: Result<Heard, String>) {
        let heard = match result {
            Ok(heard) => heard,
            Err(why) => return self.again(why, None),
        };
        if let Some(nonce) = heard.nonce.clone().filter(|n| is_plain(n)) {
            self.nonce = Some(nonce);
        }
        if std::mem::take(&mut self.wants_nonce) {
            if self.nonce.is_none() || heard.status >= 400 {
                self.again(format!("the authority gave no nonce (HTTP {})", heard.status), heard.retry_after);
            }
            return;
        }
        if !(200..300).contains(&heard.status) {
            return self.refused(&heard);
        }
        self.nonces = 0;
        let before = self.phase.clone();
        match before {
            Phase::Certificate | Phase::Chain(_) => return self.chain_came(heard),
            // Their addresses are enough: what was made once is not asked for again.
            Phase::Register | Phase::NewOrder => {
                self.tries = 0;
                let made =
                    if before == Phase::Register { self.registered(&heard) } else { self.order_came(&heard) };
                return made.unwrap_or_else(|why| self.fail(why, None, false));
            }
            _ => {}
        }
        let body: Value = serde_json::from_slice(&heard.body).unwrap_or(Value::Null);
        if !body.is_object() {
            return self.again("the authority's answer is no JSON object".into(), heard.retry_after);
        }
        self.tries = 0;
        let result = match before {
            Phase::Directory => self.directory_came(&body),
            Phase::Order | Phase::Finalize => self.order_says(&body, heard.retry_after),
            Phase::Authorization(n) => self.authorization_says(n, &body),
            Phase::Reason(n) => self.reason(n, &body),
            Phase::Challenge(n) => {
                self.phase = match n + 1 < self.open.len() {
                    true => Phase::Challenge(n + 1),
                    false => {
                        self.told = true;
                        self.pause(Duration::from_secs(1), Phase::Order)
                    }
                };
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(why) = result {
            self.fail(why, None, false);
        }
    }

    // Sending

    fn call(&mut self, method: &'static str, url: String, body: Option<Vec<u8>>) -> NextAction {
        self.calls += 1;
        if self.calls > CALLS_AT_MOST {
            return self.give_up("the authority comes to no end");
        }
        NextAction::Call { method, url, body }
    }

    fn get(&mut self, url: String) -> NextAction {
        self.call("GET", url, None)
    }

    /// A signed message, once there is a nonce for it.
    fn post(&mut self, url: String, payload: Option<Value>) -> NextAction {
        let Some(nonce) = self.nonce.take() else {
            self.wants_nonce = true;
            return self.call("HEAD", self.directory.new_nonce.clone(), None);
        };
        let account = self.account.url.as_deref().filter(|_| self.phase != Phase::Register);
        match jws::signed(&self.account.key, account, &nonce, &url, payload.as_ref()) {
            Ok(body) => self.call("POST", url, Some(body)),
            Err(why) => self.give_up(&why),
        }
    }

    fn register(&mut self) -> NextAction {
        let url = self.directory.new_account.clone();
        let mut payload = json!({ "termsOfServiceAgreed": true });
        if !self.terms.contact.is_empty() {
            let mail = |c: &String| if c.contains(':') { c.clone() } else { format!("mailto:{c}") };
            payload["contact"] = self.terms.contact.iter().map(mail).collect();
        }
        if let Some((id, secret)) = &self.terms.external {
            payload["externalAccountBinding"] = jws::external(&self.account.key, id, secret, &url);
        }
        self.post(url, Some(payload))
    }

    fn new_order(&mut self) -> NextAction {
        let identifiers = self.terms.names.iter().map(|name| {
            let kind = if name.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
            json!({ "type": kind, "value": name })
        });
        let mut payload = json!({ "identifiers": identifiers.collect::<Vec<_>>() });
        if let Some(profile) = &self.terms.profile {
            payload["profile"] = profile.as_str().into();
        }
        if let Some(replaces) = &self.terms.replaces {
            payload["replaces"] = replaces.as_str().into();
        }
        self.post(self.directory.new_order.clone(), Some(payload))
    }

    // Failing

    fn fail(&mut self, words: String, retry_after: Option<Duration>, order_lost: bool) {
        self.phase = Phase::Failed(Failure { words: plain_words(&words), retry_after, order_lost });
    }

    fn give_up(&mut self, why: &str) -> NextAction {
        self.fail(why.to_owned(), None, true);
        NextAction::Failed(Failure { words: why.to_owned(), retry_after: None, order_lost: true })
    }

    fn pause(&mut self, time: Duration, next: Phase) -> Phase {
        let time = time.clamp(Duration::from_millis(200), LONG_WAIT);
        Phase::Pause(time, Box::new(next))
    }

    /// The same once more, after a while.
    fn again(&mut self, why: String, retry_after: Option<Duration>) {
        self.wants_nonce = false;
        self.tries += 1;
        if self.tries >= TRIES || retry_after.is_some_and(|t| t > LONG_WAIT) {
            return self.fail(why, retry_after, false);
        }
        let wait = retry_after.unwrap_or(Duration::from_secs(1 << self.tries));
        let next = match self.phase.clone() {
            // It may have been taken, though the answer is lost: the order says how far it is.
            Phase::Finalize | Phase::Challenge(_) => Phase::Order,
            same => same,
        };
        self.phase = self.pause(wait, next);
    }

    fn refused(&mut self, heard: &Heard) {
        let problem: Value = serde_json::from_slice(&heard.body).unwrap_or(Value::Null);
        let kind = problem["type"].as_str().unwrap_or("");
        let kind = kind.rsplit(':').next().unwrap_or("").to_owned();
        let words = describe_problem(&problem)
            .unwrap_or_else(|| format!("the authority answers {} without a reason", heard.status));
        match kind.as_str() {
            "badNonce" if self.nonces < NONCES_AT_MOST => self.nonces += 1,
            "rateLimited" => self.fail(words, heard.retry_after, false),
            "accountDoesNotExist" if self.account.url.is_some() => {
                // It is made anew, once.
                self.account.url = None;
                self.pending = None;
                self.phase = Phase::Register;
            }
            "alreadyReplaced" if self.terms.replaces.is_some() => self.terms.replaces = None,
            // The order of an earlier attempt may be over.
            _ if self.phase == Phase::Order && matches!(heard.status, 404 | 410) => {
                self.fail(words, heard.retry_after, true);
            }
            "serverInternal" | "orderNotReady" => self.again(words, heard.retry_after),
            _ if heard.status >= 500 || heard.status == 429 => self.again(words, heard.retry_after),
            _ => {
                let lost = !matches!(self.phase, Phase::Directory | Phase::Register);
                self.fail(words, heard.retry_after, lost);
            }
        }
    }

    // What came

    fn url(&self, value: &Value) -> Result<String, String> {
        let text = value.as_str().filter(|t| t.len() <= URL_AT_MOST && is_url(t));
        let text = text.ok_or("an address in the authority's answer is none")?;
        let secure = self.terms.directory.starts_with("https:");
        if secure && !text.starts_with("https:") {
            return Err("the authority names an address without TLS".into());
        }
        let known = self.directory.hosts.is_empty() || self.directory.hosts.iter().any(|h| h == host(text));
        match known {
            true => Ok(text.to_owned()),
            false => Err("the authority names an address of somebody else".into()),
        }
    }

    fn directory_came(&mut self, body: &Value) -> Result<(), String> {
        let none = "what the directory's address gives is no directory of ACME";
        let of = |key: &str| self.url(&body[key]).map_err(|_| none.to_owned());
        let (new_nonce, new_account, new_order) = (of("newNonce")?, of("newAccount")?, of("newOrder")?);
        let mut hosts: Vec<String> = vec![host(&self.terms.directory).to_owned()];
        hosts.extend([&new_nonce, &new_account, &new_order].map(|url| host(url).to_owned()));
        let known = body["meta"]["profiles"].as_object();
        let profiles = known.map(|all| all.keys().take(20).cloned().collect()).unwrap_or_default();
        self.directory = Directory { new_nonce, new_account, new_order, hosts, profiles };
        if let Some(wanted) = &self.terms.profile
            && !self.directory.profiles.contains(wanted)
        {
            let there = match self.directory.profiles.is_empty() {
                true => "none".into(),
                false => self.directory.profiles.join(", "),
            };
            return Err(format!("the authority has no profile {wanted:?}; there are: {there}"));
        }
        let external = body["meta"]["externalAccountRequired"] == true;
        if external && self.terms.external.is_none() && self.account.url.is_none() {
            return Err(
                "the authority wants an account of its own first: external-account names key id and key"
                    .into(),
            );
        }
        self.phase = match self.account.url {
            Some(_) => self.after_account(),
            None => Phase::Register,
        };
        Ok(())
    }

    fn after_account(&self) -> Phase {
        if self.pending.is_some() { Phase::Order } else { Phase::NewOrder }
    }

    fn registered(&mut self, heard: &Heard) -> Result<(), String> {
        let location = heard.location.clone().map_or(Value::Null, Value::String);
        let url = self.url(&location)?;
        self.account.url = Some(url.clone());
        self.phase = Phase::KeepAccount(url);
        Ok(())
    }

    fn order_came(&mut self, heard: &Heard) -> Result<(), String> {
        let location = heard.location.clone().map_or(Value::Null, Value::String);
        let url = self.url(&location)?;
        let (key, names) = (self.key.pem(), self.terms.names.clone());
        self.pending = Some(Pending { url, key, names, answers: Vec::new() });
        self.phase = Phase::KeepOrder;
        Ok(())
    }

    fn order_says(&mut self, body: &Value, retry_after: Option<Duration>) -> Result<(), String> {
        let list = body["authorizations"].as_array().map(Vec::as_slice).unwrap_or_default();
        if list.len() > NAMES_AT_MOST {
            return Err("the authority names too many authorizations".into());
        }
        self.authorizations = list.iter().map(|url| self.url(url)).collect::<Result<_, _>>()?;
        if self.waited > PATIENCE {
            return Err(
                "the authority has not decided in ten minutes; the order goes on at the next attempt".into(),
            );
        }
        let wait = retry_after.unwrap_or(Duration::from_secs(2));
        match body["status"].as_str().unwrap_or("") {
            "pending" if self.told => self.phase = self.pause(wait, Phase::Order),
            "pending" if self.authorizations.is_empty() => {
                return Err("the order has no authorizations".into());
            }
            "pending" => {
                self.open.clear();
                if let Some(pending) = &mut self.pending {
                    pending.answers.clear();
                }
                self.phase = Phase::Authorization(0);
            }
            "ready" => {
                self.finalize = self.url(&body["finalize"])?;
                self.phase = Phase::Finalize;
            }
            "processing" => self.phase = self.pause(wait, Phase::Order),
            "valid" => {
                self.certificate = self.url(&body["certificate"])?;
                self.phase = Phase::Certificate;
            }
            "invalid" => match describe_problem(&body["error"]) {
                Some(words) if self.authorizations.is_empty() => self.fail(words, None, true),
                _ if self.authorizations.is_empty() => {
                    self.fail("the authority has refused the order without a reason".into(), None, true);
                }
                _ => self.phase = Phase::Reason(0),
            },
            _ => return Err("the authority's order has a status that is not known".into()),
        }
        Ok(())
    }

    fn authorization_says(&mut self, n: usize, body: &Value) -> Result<(), String> {
        if body["status"] == "pending" {
            let name = body["identifier"]["value"].as_str().unwrap_or("").to_ascii_lowercase();
            let wildcard = body["wildcard"] == true;
            let is_ours = self.terms.names.iter().any(|ours| match ours.strip_prefix("*.") {
                Some(base) => wildcard && base == name,
                None => !wildcard && *ours == name,
            });
            if !is_ours {
                return Err("the authority wants to know of a name that was not ordered".into());
            }
            let offered = body["challenges"].as_array().map(Vec::as_slice).unwrap_or_default();
            let of = |kind: &Challenge| offered.iter().take(20).find(|c| c["type"] == kind.as_str());
            let possible = self.terms.challenges.iter().filter(|kind| !wildcard || **kind == Challenge::Dns);
            let Some((kind, challenge)) = possible.clone().find_map(|kind| Some((*kind, of(kind)?))) else {
                let ours: Vec<&str> = possible.map(|kind| kind.as_str()).collect();
                let theirs: Vec<&str> = offered.iter().take(20).filter_map(|c| c["type"].as_str()).collect();
                let (ours, theirs) = (listed(&ours), plain_words(&listed(&theirs)));
                return Err(format!("{name}: the authority offers {theirs}; possible here: {ours}"));
            };
            let token = challenge["token"].as_str().filter(|t| is_token(t));
            let token = token.ok_or("the authority's token is none")?.to_owned();
            // One that it looks at already, for an order that goes on, is not to be told of again.
            if challenge["status"] == "pending" {
                self.open.push(self.url(&challenge["url"])?);
            }
            let text = self.answer_to(kind, &token);
            let answer = Answer { challenge: kind.as_str().into(), name, token, text };
            self.pending.iter_mut().for_each(|p| p.answers.push(answer.clone()));
        }
        self.phase = match n + 1 < self.authorizations.len() {
            true => Phase::Authorization(n + 1),
            false => Phase::KeepAnswers,
        };
        Ok(())
    }

    fn answer_to(&self, kind: Challenge, token: &str) -> String {
        use aws_lc_rs::digest::{SHA256, digest};
        let whole = format!("{token}.{}", self.account.key.thumbprint());
        match kind {
            Challenge::Dns => BASE64URL_NOPAD.encode(digest(&SHA256, whole.as_bytes()).as_ref()),
            Challenge::Http | Challenge::TlsAlpn => whole,
        }
    }

    /// Why an order was refused: what the authority says of its challenges.
    fn reason(&mut self, n: usize, body: &Value) -> Result<(), String> {
        let name = body["identifier"]["value"].as_str().unwrap_or("");
        let offered = body["challenges"].as_array().map(Vec::as_slice).unwrap_or_default();
        let error =
            offered.iter().take(20).find_map(|c| Some((c["type"].as_str()?, describe_problem(&c["error"])?)));
        match error {
            Some((kind, words)) => self.fail(format!("{name}, {kind}: {words}"), None, true),
            None if n + 1 < self.authorizations.len() => self.phase = Phase::Reason(n + 1),
            None => self.fail("the authority has refused the order without a reason".into(), None, true),
        }
        Ok(())
    }

    fn chain_came(&mut self, heard: Heard) {
        if let Err(why) = issued::check(&heard.body, &self.key, &self.terms.names, self.terms.now) {
            // Another chain that is wrong is not needed.
            if self.chain.is_empty() {
                return self.fail(why, None, true);
            }
        }
        let next = match self.phase {
            Phase::Chain(n) => n + 1,
            _ => {
                let others = heard.alternates.iter().take(CHAINS_AT_MOST);
                self.chains = others.filter_map(|url| self.url(&json!(url)).ok()).collect();
                0
            }
        };
        let preferred = self.terms.preferred_chain.as_deref();
        let found = preferred.is_none_or(|wanted| issued::ends_at(&heard.body, wanted));
        if self.chain.is_empty() || found {
            self.chain = heard.body;
        }
        if !found && next < self.chains.len() {
            self.phase = Phase::Chain(next);
            return;
        }
        match issued::check(&self.chain, &self.key, &self.terms.names, self.terms.now) {
            Ok(issued) => self.phase = Phase::Done(Box::new(issued)),
            Err(why) => self.fail(why, None, true),
        }
    }
}

fn listed(words: &[&str]) -> String {
    if words.is_empty() { "nothing".into() } else { words.join(", ") }
}

fn is_plain(text: &str) -> bool {
    (1..=512).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

fn is_token(text: &str) -> bool {
    text.len() >= 16 && text.len() <= 256 && is_plain(text)
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|r| !r.is_empty() && !r.starts_with('/')) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Host and port of a URL.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// Words of others, for people: of bounded length, without control characters.
fn plain_words(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut words: String = clean.take(WORDS_AT_MOST).collect();
    words.truncate(words.trim_end().len());
    words
}

/// RFC 7807, with the authority's subproblems.
fn describe_problem(problem: &Value) -> Option<String> {
    let detail = problem["detail"].as_str().or_else(|| problem["type"].as_str())?;
    let parts = problem["subproblems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let parts = parts.iter().take(5).filter_map(|part| {
        let name = part["identifier"]["value"].as_str().unwrap_or("");
        Some(format!("{name}: {}", part["detail"].as_str()?))
    });
    let parts: Vec<String> = parts.collect();
    let words = match parts.is_empty() {
        true => detail.to_owned(),
        false => format!("{detail} ({})", parts.join("; ")),
    };
    Some(plain_words(&words))
}

#[cfg(test)]
mod tests;
