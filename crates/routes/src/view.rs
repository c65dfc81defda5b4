//! A request as the routes see it: as it came, under what routes before have made of it.

use std::net::IpAddr;

use evenkeel_balance::{Counter, Figure};
use evenkeel_rules::{Captures, Facts, Fetch, LocalTime, Parameters, Template, normal_path, value_of};

use crate::changes::{Changes, path_of, query_of};
use crate::compile::{Resources, Routes};

/// A request, connection or answer as it came. What routes can change is asked by a method of its own,
/// and answered without their changes.
pub trait Source<R: Resources> {
    /// Path and query; empty for a connection without a request.
    fn target(&self) -> &[u8];
    /// The target as it came, whole where it was an address.
    fn whole_target(&self) -> &[u8] {
        self.target()
    }
    /// Scheme and authority of the target, where they go on with it whatever becomes of its path.
    fn authority(&self) -> &[u8] {
        b""
    }
    /// The client's address was told by a PROXY header, which counts before what routes say of the
    /// connection.
    fn is_told(&self) -> bool {
        false
    }
    /// The method; empty without a request.
    fn method(&self) -> &[u8];
    /// The host, which may have a port; empty where none is named.
    fn host(&self) -> &[u8];
    /// Gives each value of a header of the request to `test` until one will do; whether one did.
    fn request_field(&self, name: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool;
    /// Gives the names of the headers of the request.
    fn request_names(&self, each: &mut dyn FnMut(&[u8])) {
        let _ = each;
    }
    /// Gives those of the answer.
    fn answer_names(&self, each: &mut dyn FnMut(&[u8])) {
        let _ = each;
    }
    /// The same of the answer.
    fn answer_field(&self, name: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool;
    /// The real server that has answered; none where this program answers itself.
    fn server(&self) -> Option<&str>;
    /// One figure of what a key of a table has done; none where it has no entry.
    fn figure(&self, table: &R::Table, key: &[u8], figure: Figure) -> Option<u64>;
    /// Any other text, as in [`Facts::texts`].
    fn texts(&self, fetch: Fetch, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;
    /// As in [`Facts::address`].
    fn address(&self, fetch: Fetch) -> Option<IpAddr>;
    /// As in [`Facts::number`].
    fn number(&self, fetch: Fetch, arguments: &[String]) -> Option<u64>;
    /// As in [`Facts::flag`].
    fn flag(&self, fetch: Fetch) -> bool;
    /// As in [`Facts::local_time`].
    fn local_time(&self) -> LocalTime;
    /// As in [`Facts::random`].
    fn random(&self) -> u128;
    /// As in [`Facts::host_name`].
    fn host_name(&self) -> &[u8];
}

/// What a source says, under the changes of the routes that were walked so far.
pub struct View<'a, R: Resources, S> {
    /// As it came.
    pub source: &'a S,
    /// The routes that are walked.
    pub routes: &'a Routes<R>,
    /// What they have changed.
    pub changes: &'a Changes,
}

impl<'a, R: Resources, S: Source<R>> View<'a, R, S> {
    /// The path as conditions see it.
    pub fn path(&self) -> &'a [u8] {
        self.changes.normal_path.as_deref().unwrap_or(path_of(self.target()))
    }

    /// Renders a text that goes to a client, a server or a log.
    pub fn render_outward(&self, text: &Template, out: &mut Vec<u8>) {
        text.render_outward(self, &Captures::default(), out);
    }

    fn target(&self) -> &'a [u8] {
        self.changes.target.as_deref().unwrap_or(self.source.target())
    }

    /// Path and query as they will be after the current route.
    pub(crate) fn next_target(&self) -> &'a [u8] {
        self.changes.next_target.as_deref().unwrap_or(self.target())
    }

    fn method(&self) -> &'a [u8] {
        let came = self.changes.normal_method.as_deref().unwrap_or(self.source.method());
        self.changes.method.as_deref().unwrap_or(came)
    }

    /// In normal form, with the parameters of its segments.
    fn full_path(&self, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let path = path_of(self.target());
        let other = self.changes.normal_path.as_ref().and_then(|_| normal_path(path, Parameters::Keep));
        test(other.as_deref().unwrap_or(path))
    }

    fn query_value(&self, name: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        parameters(query_of(self.target()), name).any(test)
    }

    /// The host as conditions see it.
    pub(crate) fn host(&self) -> &'a [u8] {
        match self.changes.request.lines_named(b"host").last() {
            Some(host) => without_port(host),
            None => self.changes.normal_host.as_deref().unwrap_or(without_port(self.source.host())),
        }
    }

    fn request_field(&self, name: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let edits = &self.changes.request;
        let dropped = edits.drops_of_request(name);
        !dropped && self.source.request_field(name, test) || edits.lines_named(name).any(test)
    }

    fn answer_field(&self, name: &[u8], test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        // Before there is an answer, what routes will do to its head cannot be asked.
        if self.changes.status.is_none() {
            return false;
        }
        let edits = &self.changes.response;
        !edits.drops(name) && self.source.answer_field(name, test) || edits.lines_named(name).any(test)
    }

    /// What a table has for the key of this request; none where there is no such table, and then where
    /// there is no entry.
    fn figure(&self, table: &str, figure: Figure) -> Option<Option<u64>> {
        let table = self.routes.tables.iter().find(|t| t.name.as_str() == table)?;
        let mut key = self.changes.key.take();
        key.clear();
        table.key.render(self, &Captures::default(), &mut key);
        let found = self.source.figure(&table.table, &key, figure);
        self.changes.key.replace(key);
        Some(found)
    }

    /// What the key of this request has done in a table.
    fn counted(&self, fetch: Fetch, arguments: &[String]) -> Option<u64> {
        let [table, counter] = arguments else { return None };
        let figure = match (Counter::parse(counter), fetch) {
            (None, _) => Figure::Current,
            (Some(counter), Fetch::Rate) => Figure::Rate(counter),
            (Some(counter), _) => Figure::Total(counter),
        };
        Some(self.figure(table, figure)?.unwrap_or_default())
    }
}

impl<R: Resources, S: Source<R>> Facts for View<'_, R, S> {
    fn texts(&self, fetch: Fetch, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        match fetch {
            Fetch::Host => !self.host().is_empty() && test(self.host()),
            Fetch::Path => test(self.path()),
            Fetch::FullPath => self.full_path(test),
            Fetch::RawPath => test(path_of(self.target())),
            Fetch::Uri => !self.target().is_empty() && test(self.target()),
            Fetch::Url => match (self.changes.target.as_deref(), self.source.authority()) {
                (Some(target), b"") => !target.is_empty() && test(target),
                (Some(target), authority) => test(&[authority, target].concat()),
                (None, _) => !self.source.whole_target().is_empty() && test(self.source.whole_target()),
            },
            Fetch::Method => test(self.method()),
            Fetch::Query if name.is_empty() => self.target().contains(&b'?') && test(query_of(self.target())),
            Fetch::Query => self.query_value(name.as_bytes(), test),
            Fetch::Header => self.request_field(name.as_bytes(), test),
            Fetch::AnswerHeader => self.answer_field(name.as_bytes(), test),
            Fetch::AnswerCookieName => {
                self.answer_field(b"set-cookie", &mut |value| test(cookie_name(value)))
            }
            Fetch::Server => self.source.server().is_some_and(|name| test(name.as_bytes())),
            Fetch::Variable => self.changes.variables.get(name).is_some_and(test),
            other => self.source.texts(other, name, test),
        }
    }

    fn address(&self, fetch: Fetch) -> Option<IpAddr> {
        let said = &self.changes.addresses;
        let told = self.source.is_told();
        let own = match fetch {
            Fetch::Source => said.source(told),
            Fetch::Destination => said.destination(told),
            Fetch::ConnectionSource => said.connection_source,
            Fetch::ConnectionDestination => said.connection_destination,
            _ => None,
        };
        own.or_else(|| self.source.address(fetch))
    }

    fn number(&self, fetch: Fetch, arguments: &[String]) -> Option<u64> {
        let said = &self.changes.addresses;
        match fetch {
            Fetch::SourcePort if said.source_port.is_some() => said.source_port.map(u64::from),
            Fetch::Port if said.destination_port.is_some() => said.destination_port.map(u64::from),
            Fetch::Status => self.changes.status.map(u64::from),
            Fetch::Rate | Fetch::Count => self.counted(fetch, arguments),
            Fetch::InTable => {
                self.figure(arguments.first()?, Figure::Current).map(|found| u64::from(found.is_some()))
            }
            other => self.source.number(other, arguments),
        }
    }

    fn flag(&self, fetch: Fetch) -> bool {
        self.source.flag(fetch)
    }

    fn local_time(&self) -> LocalTime {
        self.source.local_time()
    }

    fn random(&self) -> u128 {
        self.source.random()
    }

    fn host_name(&self) -> &[u8] {
        self.source.host_name()
    }
}

/// The name of a cookie that is set.
fn cookie_name(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|byte| b"=;".contains(byte)).unwrap_or(value.len());
    value[..end].trim_ascii()
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

/// The values of a parameter of a query, or of a form that was sent.
pub fn parameters<'a>(text: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    text.split(|b| *b == b'&').filter_map(move |pair| value_of(pair, name))
}
