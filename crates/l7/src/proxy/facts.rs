//! What the conditions of routes can ask about a request or a connection.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_balance::{Counter, Key};
use evenkeel_model::Normalize;
use evenkeel_rules::{Captures, Facts, Fetch, LocalTime, Parameters, normal_host, normal_path};

use super::ServiceView;
use super::route::HeadChanges;
use super::session::Client;
use crate::h1::field;
use crate::h1::request::Request;
use crate::h1::response::Response;
use crate::worker::Worker;

/// A request with its head, or a connection without one.
pub struct Asked<'a> {
    pub worker: &'static Worker,
    pub view: &'a ServiceView,
    pub client: &'a Client,
    pub request: Option<(&'a Request, &'a [u8])>,
    /// Of the request: what is asked for most, found once.
    path: &'a [u8],
    query: &'a [u8],
    host: &'a [u8],
    /// The normal forms of both, where they are others.
    normal_path: Option<Vec<u8>>,
    normal_host: Option<Vec<u8>>,
    /// What routes before have made of path and query, and of the head: later ones see it.
    pub target: Option<Vec<u8>>,
    /// What this route makes of it: seen by the next.
    pub next_target: Option<Vec<u8>>,
    pub method: Option<Arc<[u8]>>,
    pub edits: HeadChanges,
    /// Of a TLS connection that is passed through unopened.
    pub hello: Option<&'a Hello>,
    /// What came of the request, for the routes of answers.
    pub answer: Option<Answer<'a>>,
    /// Memory for the keys of tables.
    pub key: RefCell<Vec<u8>>,
    pub variables: Variables,
}

/// An answer on its way to the client.
pub struct Answer<'a> {
    pub response: &'a Response,
    pub head: &'a [u8],
    pub status: u16,
    /// What answer routes have made of its head.
    pub edits: HeadChanges,
    pub server: Option<&'a str>,
}

/// What routes have kept for later ones, by name. Memory is used again.
#[derive(Debug, Default)]
pub struct Variables(Vec<(Box<str>, Option<Vec<u8>>)>);

impl Variables {
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| **known == *name)?.1.as_deref()
    }

    pub fn set(&mut self, name: &str, value: &[u8]) {
        match self.0.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, Some(kept))) => {
                kept.clear();
                kept.extend_from_slice(value);
            }
            Some((_, kept)) => *kept = Some(value.to_vec()),
            None => self.0.push((name.into(), Some(value.to_vec()))),
        }
    }

    /// The request has ended; the connection's variables stay.
    pub fn end_request(&mut self) {
        self.0.iter_mut().filter(|(name, _)| !name.starts_with("sess.")).for_each(|(_, value)| *value = None);
    }
}

/// What the first message of a client says, for the most part one of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    pub server_name: Option<String>,
    pub alpn: Option<Vec<u8>>,
    pub session_id: Vec<u8>,
    /// It is one of TLS.
    pub is_tls: bool,
    /// Its first bytes as they came, where conditions ask for them, and how many there were.
    pub first: Vec<u8>,
    pub length: usize,
}

impl<'a> Asked<'a> {
    pub fn new(
        worker: &'static Worker,
        view: &'a ServiceView,
        client: &'a Client,
        request: Option<(&'a Request, &'a [u8])>,
        hello: Option<&'a Hello>,
        key: Vec<u8>,
    ) -> Asked<'a> {
        let target = request.map_or(&b""[..], |(request, head)| request.path(head));
        let (path, query) = match memchr::memchr(b'?', target) {
            Some(at) => (&target[..at], &target[at + 1..]),
            None => (target, &b""[..]),
        };
        let host = without_port(request.map_or(&b""[..], |(request, head)| request.host.of(head)));
        let normalizes = view.spec.service.normalize != Normalize::Off;
        Asked {
            worker,
            view,
            client,
            request,
            path,
            query,
            host,
            normal_path: normalizes.then(|| normal_path(path, Parameters::Strip)).flatten(),
            normal_host: normalizes.then(|| normal_host(host)).flatten(),
            hello,
            answer: None,
            key: RefCell::new(key),
            variables: Variables::default(),
            target: None,
            next_target: None,
            method: None,
            edits: HeadChanges::default(),
        }
    }
}

impl Asked<'_> {
    /// As conditions see it.
    pub fn path(&self) -> &[u8] {
        self.normal_path.as_deref().unwrap_or(self.raw_path())
    }

    /// Later routes see this path and query.
    pub fn set_target(&mut self, target: Vec<u8>) {
        self.target = Some(target);
        let normalizes = self.view.spec.service.normalize != Normalize::Off;
        self.normal_path = normalizes.then(|| normal_path(self.raw_path(), Parameters::Strip)).flatten();
    }

    /// In normal form, with the parameters of its segments.
    fn full_path(&self, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let other = self.normal_path.as_ref().and_then(|_| normal_path(self.raw_path(), Parameters::Keep));
        test(other.as_deref().unwrap_or(self.raw_path()))
    }

    fn raw_path(&self) -> &[u8] {
        match &self.target {
            Some(target) => &target[..memchr::memchr(b'?', target).unwrap_or(target.len())],
            None => self.path,
        }
    }

    fn query(&self) -> &[u8] {
        match &self.target {
            Some(target) => memchr::memchr(b'?', target).map_or(&[], |at| &target[at + 1..]),
            None => self.query,
        }
    }

    /// Path and query as they will be.
    pub fn whole_target(&self) -> &[u8] {
        match (self.next_target.as_ref().or(self.target.as_ref()), self.request) {
            (Some(target), _) => target,
            (None, Some((request, head))) => request.path(head),
            (None, None) => b"",
        }
    }

    fn host(&self) -> &[u8] {
        match self.edits.lines_named(b"host").last() {
            Some(host) => without_port(host),
            None => self.normal_host.as_deref().unwrap_or(self.host),
        }
    }

    fn method(&self) -> &[u8] {
        match &self.method {
            Some(method) => method,
            None => self.request.map_or(b"", |(request, head)| request.method_span.of(head)),
        }
    }

    fn peer(
        &self,
        part: impl Fn(&crate::tls::Identity) -> &str,
        test: &mut dyn FnMut(&[u8]) -> bool,
    ) -> bool {
        let peer = self.client.tls.as_ref().and_then(|tls| tls.peer.as_ref());
        peer.is_some_and(|peer| test(part(peer).as_bytes()))
    }
}

/// The host of `host:port`; an IPv6 address keeps its brackets.
pub fn without_port(host: &[u8]) -> &[u8] {
    let end = if host.starts_with(b"[") {
        memchr::memchr(b']', host).map(|at| at + 1)
    } else {
        memchr::memchr(b':', host)
    };
    &host[..end.unwrap_or(host.len())]
}

/// Whether a header of a name, as routes have changed the head, has a value that passes.
fn any_value(
    fields: &[field::Field],
    head: &[u8],
    dropped: bool,
    edits: &HeadChanges,
    name: &[u8],
    test: &mut dyn FnMut(&[u8]) -> bool,
) -> bool {
    let original = fields.iter().filter(|f| f.name.of(head).eq_ignore_ascii_case(name) && !dropped);
    original.map(|f| f.value.of(head)).any(&mut *test) || edits.lines_named(name).any(test)
}

impl Facts for Asked<'_> {
    fn texts(&self, fetch: Fetch, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let tls = self.client.tls.as_ref();
        match fetch {
            Fetch::Host => !self.host().is_empty() && test(self.host()),
            Fetch::Path => test(self.path()),
            Fetch::FullPath => self.full_path(test),
            Fetch::RawPath => test(self.raw_path()),
            Fetch::Method => test(self.method()),
            Fetch::Query if name.is_empty() => test(self.query()),
            Fetch::Query => {
                let pairs = self.query().split(|b| *b == b'&');
                pairs.filter_map(|pair| value_of(pair, name.as_bytes())).any(test)
            }
            Fetch::Header => self.request.is_some_and(|(request, head)| {
                let name = name.as_bytes();
                let dropped = self.edits.drops_of_request(name);
                any_value(&request.fields, head, dropped, &self.edits, name, test)
            }),
            Fetch::AnswerHeader => self.answer.as_ref().is_some_and(|answer| {
                let (name, edits) = (name.as_bytes(), &answer.edits);
                any_value(answer.response.fields(), answer.head, edits.drops(name), edits, name, test)
            }),
            Fetch::Server => {
                self.answer.as_ref().and_then(|a| a.server).is_some_and(|name| test(name.as_bytes()))
            }
            Fetch::Cookie => self
                .request
                .is_some_and(|(request, head)| request.cookie(head, name.as_bytes()).is_some_and(test)),
            Fetch::Version => match self.request {
                Some(_) if self.client.h2 => test(b"2"),
                Some((request, _)) => test(if request.version_11 { b"1.1" } else { b"1.0" }),
                None => false,
            },
            Fetch::Scheme => test(self.client.scheme().as_bytes()),
            Fetch::Sni => match (self.hello.filter(|hello| hello.is_tls), tls) {
                (Some(hello), _) => hello.server_name.as_ref().is_some_and(|n| test(n.as_bytes())),
                (None, Some(tls)) => tls.sni.as_ref().is_some_and(|n| test(n.as_bytes())),
                (None, None) => false,
            },
            Fetch::Alpn => match (self.hello.filter(|hello| hello.is_tls), tls) {
                (Some(hello), _) => hello.alpn.as_ref().is_some_and(|p| test(p)),
                (None, Some(tls)) => test(if tls.h2 { b"h2" } else { b"http/1.1" }),
                (None, None) => false,
            },
            Fetch::FirstBytes => self.hello.is_some_and(|hello| test(&hello.first)),
            Fetch::FirstBytesHex => self.hello.is_some_and(|hello| {
                let digit = |half: u8| b"0123456789abcdef"[usize::from(half & 15)];
                let digits = hello.first.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]);
                test(&digits.collect::<Vec<_>>())
            }),
            Fetch::TlsVersion => tls.is_some_and(|tls| test(tls.version.as_bytes())),
            Fetch::TlsCipher => tls.is_some_and(|tls| test(tls.cipher.as_bytes())),
            Fetch::ClientCertCn => self.peer(|p| &p.common_name, test),
            Fetch::ClientCertSubject => self.peer(|p| &p.subject, test),
            Fetch::ClientCertIssuer => self.peer(|p| &p.issuer, test),
            Fetch::ClientCertSerial => self.peer(|p| &p.serial, test),
            Fetch::Variable => self.variables.get(name).is_some_and(test),
            Fetch::ClientCertFingerprint => self.peer(|p| &p.fingerprint, test),
            _ => false,
        }
    }

    fn address(&self, fetch: Fetch) -> Option<IpAddr> {
        match fetch {
            Fetch::Source => Some(self.client.address.ip().to_canonical()),
            Fetch::Destination => Some(self.client.vip.ip().to_canonical()),
            _ => None,
        }
    }

    fn number(&self, fetch: Fetch, arguments: &[String]) -> Option<u64> {
        match fetch {
            Fetch::Status => self.answer.as_ref().map(|answer| u64::from(answer.status)),
            Fetch::FirstBytesLength => self.hello.map(|hello| hello.length as u64),
            Fetch::Port => Some(u64::from(self.client.vip.port())),
            Fetch::SourcePort => Some(u64::from(self.client.address.port())),
            Fetch::ContentLength => match self.request?.0.framing {
                crate::h1::Framing::Length(length) => Some(length),
                crate::h1::Framing::None => Some(0),
                _ => None,
            },
            Fetch::ServersUp | Fetch::Connections | Fetch::Queued => {
                let name = arguments.first()?;
                let pool = self.view.pools.iter().find(|p| p.spec().pool.name.as_str() == name)?;
                Some(match fetch {
                    Fetch::ServersUp => {
                        pool.balancer.borrow().servers().iter().filter(|s| s.takes_new_clients()).count()
                            as u64
                    }
                    Fetch::Connections => {
                        pool.spec().servers.iter().map(|s| s.counters.sum(|c| c.current.get())).sum()
                    }
                    _ => u64::from(pool.spec().waiting.load(std::sync::atomic::Ordering::Relaxed)),
                })
            }
            Fetch::Rate | Fetch::Count => {
                let [table, counter] = arguments else { return None };
                let table = self.view.spec.routes.tables.iter().find(|t| t.rule.name.as_str() == table)?;
                let mut key = self.key.take();
                key.clear();
                table.key.render(self, &Captures::default(), &mut key);
                let found = table.table.peek(&Key::text(&key), self.worker.reactor.now_ms());
                self.key.replace(key);
                let activity = found.and_then(|e| e.activity).unwrap_or_default();
                Some(match (Counter::parse(counter), fetch) {
                    (None, _) => u64::from(activity.current),
                    (Some(counter), Fetch::Rate) => activity.rates[counter as usize],
                    (Some(counter), _) => activity.totals[counter as usize],
                })
            }
            _ => None,
        }
    }

    fn flag(&self, fetch: Fetch) -> bool {
        let tls = self.client.tls.as_ref();
        match fetch {
            Fetch::TlsHello => self.hello.is_some_and(|hello| hello.is_tls),
            Fetch::Tls => tls.is_some() || self.client.over_tls,
            Fetch::FirstRequest => self.client.requests <= 1,
            Fetch::ClientCert => tls.is_some_and(|t| t.peer.is_some()),
            _ => false,
        }
    }

    fn local_time(&self) -> LocalTime {
        let (weekday, minute_of_day) = self.worker.local_minute();
        LocalTime { weekday, minute_of_day }
    }

    fn random(&self) -> u128 {
        u128::from(self.worker.random()) << 64 | u128::from(self.worker.random())
    }
}

/// The value of `name=value` or of `name` alone.
fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match pair.strip_prefix(name)? {
        [b'=', value @ ..] => Some(value),
        [] => Some(b""),
        _ => None,
    }
}
