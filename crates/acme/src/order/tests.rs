//! Orders played against an authority that is made up: it errs, refuses nonces, answers nonsense, and the
//! node dies in between. By seed.

use std::collections::HashSet;

use super::*;

const NOW: Seconds = 1_700_000_000;

/// xorshift
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// What goes wrong, in percent of all messages.
#[derive(Clone, Copy, Default)]
struct Faults {
    nonce: u64,
    server: u64,
    lost: u64,
    nonsense: u64,
}

struct Authority {
    dice: Dice,
    faults: Faults,
    nonces: HashSet<String>,
    made: u64,
    accounts: u32,
    orders: u32,
    names: Vec<String>,
    /// `pending`, `processing`, `valid`, `invalid`
    order: &'static str,
    /// Of each name.
    told: Vec<bool>,
    visible: Vec<Answer>,
    refuses: bool,
    /// The certificate's key, as the node keeps it.
    key: String,
}

impl Authority {
    fn new(seed: u64, faults: Faults, names: &[String]) -> Authority {
        Authority {
            dice: Dice(seed * 2 + 1),
            faults,
            nonces: HashSet::new(),
            made: 0,
            accounts: 0,
            orders: 0,
            names: names.to_vec(),
            order: "pending",
            told: vec![false; names.len()],
            visible: Vec::new(),
            refuses: false,
            key: String::new(),
        }
    }

    fn nonce(&mut self) -> String {
        self.made += 1;
        let nonce = format!("nonce-{}", self.made);
        self.nonces.insert(nonce.clone());
        nonce
    }

    fn problem(status: u16, kind: &str, detail: &str) -> Heard {
        let body = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail });
        Heard { status, body: body.to_string().into_bytes(), ..Heard::default() }
    }

    fn answer(&mut self, method: &str, url: &str, body: Option<&[u8]>) -> Result<Heard, String> {
        if self.dice.below(100) < self.faults.lost {
            return Err("timed out".into());
        }
        if self.dice.below(100) < self.faults.server {
            return Ok(Self::problem(500, "serverInternal", "try later"));
        }
        let mut heard = self.answer_well(method, url, body);
        heard.nonce = Some(self.nonce());
        if self.dice.below(100) < self.faults.nonsense {
            let kinds: [&[u8]; 4] = [b"", b"{}", b"[1,2", b"{\"status\":7,\"authorizations\":[\"ftp://x\"]}"];
            heard.body = kinds[self.dice.below(4) as usize].to_vec();
        }
        // The answer may be lost after the deed.
        if self.dice.below(100) < self.faults.lost {
            return Err("the connection broke".into());
        }
        Ok(heard)
    }

    fn answer_well(&mut self, method: &str, url: &str, body: Option<&[u8]>) -> Heard {
        let json =
            |value: Value| Heard { status: 200, body: value.to_string().into_bytes(), ..Heard::default() };
        let path = url.strip_prefix("https://ca/").expect("a known host");
        if path == "directory" {
            let of = |what: &str| format!("https://ca/{what}");
            return json(
                json!({ "newNonce": of("nonce"), "newAccount": of("account"), "newOrder": of("order"), "meta": {} }),
            );
        }
        if method == "HEAD" {
            return json(json!({}));
        }
        let message: Value = serde_json::from_slice(body.expect("a signed message")).unwrap();
        let protected = BASE64URL_NOPAD.decode(message["protected"].as_str().unwrap().as_bytes()).unwrap();
        let protected: Value = serde_json::from_slice(&protected).unwrap();
        assert_eq!(protected["url"], url);
        let fresh = self.nonces.remove(protected["nonce"].as_str().unwrap());
        assert!(fresh, "a nonce was used twice, or is made up");
        if self.dice.below(100) < self.faults.nonce {
            return Self::problem(400, "badNonce", "another one");
        }
        if path == "account" {
            self.accounts += 1;
            return Heard { location: Some("https://ca/account/1".into()), status: 201, ..json(json!({})) };
        }
        assert_eq!(protected["kid"], "https://ca/account/1");
        if path == "order" {
            self.orders += 1;
            (self.order, self.told) = ("pending", vec![false; self.names.len()]);
            return Heard { location: Some("https://ca/order/1".into()), status: 201, ..json(self.order()) };
        }
        if path == "order/1" {
            if self.order == "pending" && self.told.iter().all(|t| *t) {
                self.order = if self.refuses { "invalid" } else { "ready" };
            } else if self.order == "processing" {
                self.order = "valid";
            }
            return json(self.order());
        }
        if path == "finalize" {
            if self.order != "ready" {
                return Self::problem(403, "orderNotReady", "not now");
            }
            self.order = "processing";
            return json(self.order());
        }
        if path == "certificate" {
            return Heard { status: 200, body: self.certificate(), ..Heard::default() };
        }
        let n: usize = path.rsplit('/').next().unwrap().parse().unwrap();
        if path.starts_with("challenge/") {
            let name = self.names[n].trim_start_matches("*.");
            let shown = self.visible.iter().any(|a| a.name == name && a.token == token(n));
            assert!(shown, "the authority was told to look before the answer was visible");
            if std::mem::replace(&mut self.told[n], true) {
                return Self::problem(400, "malformed", "it is being looked at");
            }
            return json(json!({}));
        }
        json(self.authorization(n))
    }

    fn order(&self) -> Value {
        let all: Vec<String> =
            (0..self.names.len()).map(|n| format!("https://ca/authorization/{n}")).collect();
        json!({
            "status": self.order, "authorizations": all,
            "finalize": "https://ca/finalize", "certificate": "https://ca/certificate"
        })
    }

    fn authorization(&self, n: usize) -> Value {
        let (wildcard, name) = match self.names[n].strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, self.names[n].as_str()),
        };
        let status = match (self.told[n], self.refuses) {
            (false, _) => "pending",
            (true, false) => "valid",
            (true, true) => "invalid",
        };
        let error = json!({ "detail": format!("{name} shows\nnothing") });
        let challenge = |kind: &str| {
            let mut one = json!({
                "type": kind, "status": status, "token": token(n), "url": format!("https://ca/challenge/{n}")
            });
            if status == "invalid" {
                one["error"] = error.clone();
            }
            one
        };
        let all = if wildcard { vec!["dns-01"] } else { vec!["dns-01", "http-01", "tls-alpn-01", "new-99"] };
        json!({
            "status": status, "identifier": { "type": "dns", "value": name }, "wildcard": wildcard,
            "challenges": all.into_iter().map(challenge).collect::<Vec<_>>()
        })
    }

    fn certificate(&self) -> Vec<u8> {
        let pair = rcgen::KeyPair::from_pem(&self.key).unwrap();
        let mut parameters = rcgen::CertificateParams::new(self.names.clone()).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2200, 1, 1);
        parameters.self_signed(&pair).unwrap().pem().into_bytes()
    }
}

fn token(n: usize) -> String {
    format!("token-of-many-letters-{n}")
}

fn terms(names: &[&str]) -> Terms {
    Terms {
        directory: "https://ca/directory".into(),
        contact: vec!["a@example.org".into()],
        external: None,
        profile: None,
        preferred_chain: None,
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        challenges: vec![Challenge::Http, Challenge::Dns],
        replaces: None,
        now: NOW,
    }
}

/// What outlives a node.
struct Kept {
    account: Vec<u8>,
    url: Option<String>,
    pending: Option<Pending>,
}

/// Plays until there is a result; the node dies with a chance of `deaths` percent before each step. The
/// orders that deaths may have cost are counted.
fn play(
    terms: &Terms,
    authority: &mut Authority,
    kept: &mut Kept,
    deaths: u64,
) -> (Result<Issued, Failure>, u32) {
    let mut lost = 0;
    let mut steps = 0;
    'lives: loop {
        let account = Account { key: AccountKey::from_pkcs8(&kept.account).unwrap(), url: kept.url.clone() };
        let mut order =
            Order::new(terms.clone(), account, KeyType::EcdsaP256, None, kept.pending.clone()).unwrap();
        loop {
            steps += 1;
            assert!(steps < 20_000, "it comes to no end");
            let step = order.step();
            let dies = authority.dice.below(100) < deaths;
            if dies && !matches!(step, NextAction::Call { .. }) {
                // An order that nobody has kept yet is lost.
                lost += u32::from(
                    matches!(&step, NextAction::Keep(p) if p.answers.is_empty() && kept.pending.is_none()),
                );
                continue 'lives;
            }
            match step {
                NextAction::Call { method, url, body } => {
                    let orders = authority.orders;
                    let heard = authority.answer(method, &url, body.as_deref());
                    // Made, but the node has not heard of it.
                    lost += u32::from(authority.orders > orders && heard.is_err());
                    order.heard(heard);
                    continue;
                }
                NextAction::KeepAccount(url) => kept.url = Some(url),
                NextAction::Keep(pending) => {
                    authority.key.clone_from(&pending.key);
                    kept.pending = Some(pending);
                }
                NextAction::Publish(answers) => authority.visible = answers,
                NextAction::Wait(_) => {}
                NextAction::Done(issued) => return (Ok(*issued), lost),
                NextAction::Failed(failure) => return (Err(failure), lost),
            }
            order.went_on();
        }
    }
}

fn nothing_kept() -> Kept {
    Kept { account: AccountKey::make().unwrap().pkcs8().to_vec(), url: None, pending: None }
}

#[test]
fn an_order_comes_to_its_certificate() {
    let terms = terms(&["a.org", "*.a.org", "b.org"]);
    let mut authority = Authority::new(1, Faults::default(), &terms.names);
    let (issued, _) = play(&terms, &mut authority, &mut nothing_kept(), 0);
    let issued = issued.unwrap();
    assert!(issued.pem.contains("PRIVATE KEY") && issued.not_after > NOW);
    assert_eq!((authority.orders, authority.accounts), (1, 1));
    let kinds: Vec<&str> = authority.visible.iter().map(|a| a.challenge.as_str()).collect();
    assert_eq!(kinds, ["http-01", "dns-01", "http-01"]);
}

#[test]
fn nodes_that_die_order_nothing_twice() {
    let terms = terms(&["a.org", "b.org"]);
    for seed in 1..150 {
        let mut authority = Authority::new(seed, Faults { nonce: 20, ..Faults::default() }, &terms.names);
        let (issued, lost) = play(&terms, &mut authority, &mut nothing_kept(), 15);
        issued.unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
        assert!(authority.orders <= 1 + lost, "seed {seed}: {} orders", authority.orders);
    }
}

#[test]
fn an_authority_that_errs_ends_every_attempt() {
    let terms = terms(&["a.org", "b.org"]);
    let (mut good, mut bad) = (0, 0);
    for seed in 1..300 {
        let faults = Faults { nonce: seed % 60, server: seed % 11, lost: seed % 7, nonsense: seed % 5 };
        let mut authority = Authority::new(seed, faults, &terms.names);
        let mut kept = nothing_kept();
        let mut orders = 0;
        // Attempts follow each other, as they do later by the clock.
        let done = (0..50).any(|_| {
            let (result, lost) = play(&terms, &mut authority, &mut kept, seed % 4);
            orders += lost;
            match result {
                Ok(_) => return true,
                Err(failure) => {
                    assert!(!failure.words.is_empty() && !failure.words.contains('\n'), "{failure:?}");
                    if failure.order_lost {
                        orders += 1;
                        kept.pending = None;
                    }
                    bad += 1;
                }
            }
            false
        });
        assert!(done, "seed {seed}");
        good += 1;
        assert!(authority.orders <= 1 + orders, "seed {seed}: {} orders", authority.orders);
    }
    assert!(good > 200 && bad > 20, "{good} {bad}");
}

#[test]
fn a_refusal_is_told_in_the_authoritys_words() {
    let terms = terms(&["a.org", "b.org"]);
    let mut authority = Authority::new(7, Faults::default(), &terms.names);
    authority.refuses = true;
    let (failed, _) = play(&terms, &mut authority, &mut nothing_kept(), 0);
    let failure = failed.unwrap_err();
    assert_eq!(failure.words, "a.org, dns-01: a.org shows nothing");
    assert!(failure.order_lost);
}

/// Answers that lead elsewhere or nowhere.
#[test]
fn addresses_and_tokens_of_others_are_refused() {
    let start = || {
        let account = Account { key: AccountKey::make().unwrap(), url: Some("https://ca/account/1".into()) };
        Order::new(terms(&["a.org"]), account, KeyType::EcdsaP256, None, None).unwrap()
    };
    let tell = |order: &mut Order, value: Value| {
        let _ = order.step();
        let body = value.to_string().into_bytes();
        let location = Some("https://ca/order/1".to_owned());
        let nonce = Some("n1".to_owned());
        order.heard(Ok(Heard { status: 200, body, location, nonce, ..Heard::default() }));
    };
    let directory =
        json!({ "newNonce": "https://ca/n", "newAccount": "https://ca/a", "newOrder": "https://ca/o" });
    for bad in ["http://ca/x", "https://elsewhere/x", "file:///etc/passwd", "https:///", "https://ca/\nx"] {
        let mut order = start();
        tell(&mut order, directory.clone());
        tell(&mut order, json!({}));
        order.went_on();
        tell(&mut order, json!({ "status": "pending", "authorizations": [bad] }));
        assert!(matches!(order.step(), NextAction::Failed(_)), "{bad}");
    }
    for token in ["", "short", "../../../../etc/passwd", "a\nbbbbbbbbbbbbbbbbbbbbbbb"] {
        let mut order = start();
        tell(&mut order, directory.clone());
        tell(&mut order, json!({}));
        order.went_on();
        tell(&mut order, json!({ "status": "pending", "authorizations": ["https://ca/z"] }));
        let challenge =
            json!({ "type": "http-01", "token": token, "url": "https://ca/c", "status": "pending" });
        let identifier = json!({ "value": "a.org" });
        tell(&mut order, json!({ "status": "pending", "identifier": identifier, "challenges": [challenge] }));
        assert!(matches!(order.step(), NextAction::Failed(_)), "{token:?}");
    }
    let mut order = start();
    tell(&mut order, json!({ "newNonce": "https://ca/n", "meta": [[[]]] }));
    let NextAction::Failed(failure) = order.step() else { panic!("it goes on") };
    assert!(failure.words.contains("no directory"), "{}", failure.words);
}

#[test]
fn a_wish_of_the_authority_to_wait_is_kept() {
    let account = Account { key: AccountKey::make().unwrap(), url: None };
    let mut order = Order::new(terms(&["a.org"]), account, KeyType::EcdsaP256, None, None).unwrap();
    let _ = order.step();
    let hour = Some(Duration::from_secs(3600));
    let limited = Authority::problem(429, "rateLimited", "too many certificates already issued");
    order.heard(Ok(Heard { retry_after: hour, ..limited }));
    let NextAction::Failed(failure) = order.step() else { panic!("it goes on") };
    assert_eq!((failure.retry_after, failure.words.as_str()), (hour, "too many certificates already issued"));
}
