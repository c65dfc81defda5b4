//! What the conditions of routes can ask about a request or a connection.

use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_balance::{Figure, Key};
use evenkeel_routes::Source;
use evenkeel_rules::{Fetch, LocalTime};

use super::ServiceView;
use super::session::Client;
use crate::counters::Counter;
use crate::h1::field;
use crate::h1::request::Request;
use crate::h1::response::Response;
use crate::proxy_header;
use crate::routing::{Live, TableSpec};
use crate::tls::{Chain, Facts};
use crate::worker::Worker;

/// A request with its head, or a connection without one, as it came.
pub struct RequestFacts<'a> {
    pub worker: &'static Worker,
    pub view: &'a ServiceView,
    pub client: &'a Client,
    pub request: Option<(&'a Request, &'a [u8])>,
    /// Of a TLS connection that is passed through unopened.
    pub hello: Option<&'a Hello>,
    /// What came of the request, for the routes of answers.
    pub answer: Option<Answer<'a>>,
}

/// An answer on its way to the client.
pub struct Answer<'a> {
    pub response: &'a Response,
    pub head: &'a [u8],
    /// None where this program answers itself.
    pub server: Option<&'a str>,
    /// TLS with that server.
    pub server_tls: Option<&'a Facts>,
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

impl RequestFacts<'_> {
    fn peer(
        &self,
        part: impl Fn(&crate::tls::Identity) -> &str,
        test: &mut dyn FnMut(&[u8]) -> bool,
    ) -> bool {
        let peer = self.client.tls.as_ref().and_then(|tls| tls.peer.as_ref());
        peer.is_some_and(|peer| test(part(peer).as_bytes()))
    }

    /// The certificate that is asked, with those that vouch for it.
    fn certificate(&self, fetch: Fetch) -> Option<&Chain> {
        let tls = self.client.tls.as_deref();
        match fetch {
            Fetch::ClientCertificate => tls.map(|tls| &tls.chain),
            Fetch::OwnCertificate => tls.map(|tls| &tls.own),
            _ => self.answer.as_ref()?.server_tls.map(|tls| &tls.chain),
        }
    }
}

/// Gives the values of the fields of a name to a test until one will do.
fn any_value(fields: &[field::Field], head: &[u8], name: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let named = fields.iter().filter(|f| f.name.of(head).eq_ignore_ascii_case(name));
    named.map(|f| f.value.of(head)).any(test)
}

impl Source<Live> for RequestFacts<'_> {
    fn target(&self) -> &[u8] {
        self.request.map_or(b"", |(request, head)| request.path(head))
    }

    fn whole_target(&self) -> &[u8] {
        self.request.map_or(b"", |(request, head)| request.whole_target(head))
    }

    fn is_told(&self) -> bool {
        self.client.told
    }

    fn authority(&self) -> &[u8] {
        let keeps = self.view.spec.service.wide_requests;
        self.request.filter(|_| keeps).map_or(b"", |(request, head)| request.authority(head))
    }

    fn method(&self) -> &[u8] {
        self.request.map_or(b"", |(request, head)| request.method_span.of(head))
    }

    fn host(&self) -> &[u8] {
        let normalizes = self.view.spec.routes.normalizes;
        self.request.map_or(b"", |(request, head)| match normalizes {
            true => request.named_host(head),
            false => request.host.of(head),
        })
    }

    fn request_field(&self, name: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.request.is_some_and(|(request, head)| any_value(&request.fields, head, name, test))
    }

    fn request_names(&self, each: &mut dyn FnMut(&[u8])) {
        let Some((request, head)) = self.request else { return };
        request.fields.iter().for_each(|field| each(field.name.of(head)));
    }

    fn answer_names(&self, each: &mut dyn FnMut(&[u8])) {
        let Some(answer) = &self.answer else { return };
        answer.response.fields().iter().for_each(|field| each(field.name.of(answer.head)));
    }

    fn answer_field(&self, name: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let answer = self.answer.as_ref();
        answer.is_some_and(|answer| any_value(answer.response.fields(), answer.head, name, test))
    }

    fn server(&self) -> Option<&str> {
        self.answer.as_ref().and_then(|answer| answer.server)
    }

    fn figure(&self, table: &Arc<TableSpec>, key: &[u8], figure: Figure) -> Option<u64> {
        table.table.figure(&Key::text(key), figure, self.worker.reactor.now_ms())
    }

    fn texts(&self, fetch: Fetch, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let tls = self.client.tls.as_ref();
        match fetch {
            Fetch::CookieName => {
                self.request.is_some_and(|(request, head)| request.any_cookie_name(head, test))
            }
            Fetch::Cookie => {
                self.request.is_some_and(|(request, head)| request.any_cookie(head, name.as_bytes(), test))
            }
            Fetch::Body => self.request.is_some_and(|(request, head)| {
                let body = request.body(head);
                match name {
                    "" => !body.is_empty() && test(&body),
                    _ => evenkeel_routes::parameters(&body, name.as_bytes()).any(test),
                }
            }),
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
                (None, Some(tls)) if tls.h2 => test(b"h2"),
                (None, Some(tls)) if tls.h1 => test(b"http/1.1"),
                (None, Some(_)) => false,
                (None, None) => false,
            },
            Fetch::ProxyValue => {
                let kind = u8::from_str_radix(name.trim_start_matches("0x"), 16);
                let found = self.client.values.as_deref().zip(kind.ok());
                found.and_then(|(values, kind)| proxy_header::value(values, kind)).is_some_and(test)
            }
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
            Fetch::ClientCertFingerprint => self.peer(|p| &p.fingerprint, test),
            Fetch::ClientCertificate if name.starts_with("verify") => tls.is_some_and(|tls| {
                let (number, word) = tls.fault.map_or((0, "X509_V_OK"), |fault| fault.of_openssl());
                if name == "verify" { test(number.to_string().as_bytes()) } else { test(word.as_bytes()) }
            }),
            Fetch::ClientCertificate | Fetch::OwnCertificate | Fetch::ServerCertificate => self
                .certificate(fetch)
                .and_then(|chain| chain.field(name))
                .is_some_and(|f| test(f.as_bytes())),
            _ => false,
        }
    }

    fn address(&self, fetch: Fetch) -> Option<IpAddr> {
        let came = self.client.came.unwrap_or((self.client.address, self.client.vip));
        match fetch {
            Fetch::ConnectionSource => Some(came.0.ip().to_canonical()),
            Fetch::ConnectionDestination => Some(came.1.ip().to_canonical()),
            Fetch::Source => Some(self.client.address.ip().to_canonical()),
            Fetch::Destination => Some(self.client.vip.ip().to_canonical()),
            _ => None,
        }
    }

    fn number(&self, fetch: Fetch, arguments: &[String]) -> Option<u64> {
        match fetch {
            Fetch::FirstBytesLength => self.hello.map(|hello| hello.length as u64),
            Fetch::Port => Some(u64::from(self.client.vip.port())),
            Fetch::SourcePort => Some(u64::from(self.client.address.port())),
            Fetch::ContentLength => match self.request?.0.framing {
                crate::h1::Framing::Length(length) => Some(length),
                crate::h1::Framing::None => Some(0),
                _ => None,
            },
            Fetch::ServiceConnections => {
                Some(self.view.spec.counters.sum(|counters| counters.current_connections.get()))
            }
            Fetch::ServerUp | Fetch::ServerConnections => {
                let number = self.view.spec.routes.pool_number(arguments.first()?)?;
                let pool = self.view.pools.get(number)?;
                let at = pool.named(arguments.get(1)?)?;
                Some(match fetch {
                    Fetch::ServerUp => {
                        u64::from(pool.balancer.borrow().servers().get(at)?.takes_new_clients())
                    }
                    _ => pool.server(at)?.all_current(),
                })
            }
            Fetch::ServersUp | Fetch::Connections | Fetch::Queued => {
                let number = self.view.spec.routes.pool_number(arguments.first()?)?;
                let pool = self.view.pools.get(number)?;
                Some(match fetch {
                    Fetch::ServersUp => pool.balancer.borrow().able() as u64,
                    Fetch::Connections => pool.spec().current.sum(Counter::get),
                    _ => u64::from(pool.spec().waiting.load(std::sync::atomic::Ordering::Relaxed)),
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
            Fetch::TlsResumed => tls.is_some_and(|t| t.resumed),
            Fetch::FirstRequest => self.client.requests <= 1,
            Fetch::ClientCert => tls.is_some_and(|t| t.peer.is_some()),
            _ => false,
        }
    }

    fn local_time(&self) -> LocalTime {
        let (weekday, minute_of_day) = self.worker.local_minute();
        LocalTime { weekday, minute_of_day, unix_s: self.worker.reactor.now().wall_ms / 1_000 }
    }

    fn random(&self) -> u128 {
        u128::from(self.worker.random()) << 64 | u128::from(self.worker.random())
    }

    fn host_name(&self) -> &[u8] {
        crate::log::host_name()
    }
}
