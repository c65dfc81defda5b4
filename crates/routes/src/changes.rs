//! What the routes have said of one request so far. Memory is used again for the next one.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use evenkeel_model::{AddressKind, LogLevel, Name};
use evenkeel_rules::{Captures, Parameters, is_named, is_named_alike, normal_host, normal_path};

use crate::compile::Edit;
use crate::index::Candidates;
use crate::view::without_port;

/// A text captured for the log is cut after this many bytes.
const CAPTURED_AT_MOST: usize = 256;

/// What becomes of a request and of its answer.
#[derive(Default)]
pub struct Changes {
    /// The new path with query, when it changes.
    pub target: Option<Vec<u8>>,
    /// The new method.
    pub method: Option<Arc<[u8]>>,
    /// The head that the server gets.
    pub request: HeadChanges,
    /// The head that the client gets.
    pub response: HeadChanges,
    /// Texts of the request for the log line, each with a `|` behind it.
    pub captured: Vec<u8>,
    /// The same of the answer.
    pub captured_answer: Vec<u8>,
    /// In the queue: smaller waits less.
    pub priority: i16,
    /// In place of the service's.
    pub server_timeout_ms: Option<u64>,
    /// The same of connecting and of queues.
    pub connect_timeout_ms: Option<u64>,
    /// Of queues.
    pub queue_timeout_ms: Option<u64>,
    /// No other server is asked after one has had it.
    pub once: bool,
    /// How its log line is marked.
    pub log_level: Option<LogLevel>,
    /// The server that takes it, if it can.
    pub server: Option<Name>,
    /// Whose request it is.
    pub addresses: Addresses,
    /// What routes keep for later ones.
    pub(crate) variables: Variables,
    /// What the current route makes of path and query: seen by the next one.
    pub(crate) next_target: Option<Vec<u8>>,
    /// The normal forms of path and host, where they are others.
    pub(crate) normal_path: Option<Vec<u8>>,
    pub(crate) normal_host: Option<Vec<u8>>,
    /// The method in upper case, as some servers read it.
    pub(crate) normal_method: Option<Vec<u8>>,
    /// The status of the answer, while routes of answers are walked.
    pub(crate) status: Option<u16>,
    /// What the condition of the current route captured.
    pub(crate) captures: Captures,
    /// The routes that can hold for the path and the host as they are now.
    pub(crate) candidates: Candidates,
    /// The body or the place of an answer that stands in the place of a server's.
    pub replacement: Vec<u8>,
    /// The text of the current step.
    pub(crate) rendered: Vec<u8>,
    /// The key of a table that a condition asks.
    pub(crate) key: RefCell<Vec<u8>>,
}

impl Changes {
    /// Forgets the request. Variables of the connection stay.
    pub fn clear(&mut self) {
        self.target = None;
        self.method = None;
        self.next_target = None;
        self.server_timeout_ms = None;
        self.connect_timeout_ms = None;
        self.queue_timeout_ms = None;
        self.once = false;
        self.log_level = None;
        self.server = None;
        self.addresses = Addresses::default();
        self.request.clear();
        self.response.clear();
        self.captured.clear();
        self.captured_answer.clear();
        self.replacement.clear();
        self.priority = 0;
        self.variables.end_request();
    }

    /// A walk begins: path, host and method are looked at in their normal form.
    pub(crate) fn begin(&mut self, target: &[u8], host: &[u8], method: &[u8], normalizes: bool) {
        self.next_target = None;
        self.normal_path = None;
        self.normal_host = None;
        self.normal_method = None;
        if normalizes {
            let path = path_of(self.target.as_deref().unwrap_or(target));
            self.normal_path = normal_path(path, Parameters::Strip);
            self.normal_host = normal_host(without_port(host));
            let has_small = method.iter().any(u8::is_ascii_lowercase);
            self.normal_method = has_small.then(|| method.to_ascii_uppercase());
        }
    }

    /// What a route has made of the target counts from now on.
    pub(crate) fn settle(&mut self, normalizes: bool) -> bool {
        let Some(target) = self.next_target.take() else { return false };
        self.normal_path = if normalizes { normal_path(path_of(&target), Parameters::Strip) } else { None };
        self.target = Some(target);
        true
    }

    pub(crate) fn capture(text: &[u8], captured: &mut Vec<u8>) {
        captured.extend_from_slice(&text[..text.len().min(CAPTURED_AT_MOST)]);
        // What is not there has its place all the same.
        captured.push(b'|');
    }
}

/// What routes have said of the client's address and of where it came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The client's.
    pub source: Option<IpAddr>,
    /// Where it came to.
    pub destination: Option<IpAddr>,
    /// The client's.
    pub source_port: Option<u16>,
    /// Where it came to.
    pub destination_port: Option<u16>,
    pub(crate) connection_source: Option<IpAddr>,
    pub(crate) connection_destination: Option<IpAddr>,
}

impl Addresses {
    pub(crate) fn set(&mut self, which: AddressKind, text: &[u8]) {
        let text = std::str::from_utf8(text).unwrap_or("").trim();
        let (address, port) = (text.parse::<IpAddr>().ok(), text.parse::<u16>().ok());
        match which {
            AddressKind::Source => self.source = address.or(self.source),
            AddressKind::Destination => self.destination = address.or(self.destination),
            AddressKind::SourcePort => self.source_port = port.or(self.source_port),
            AddressKind::DestinationPort => self.destination_port = port.or(self.destination_port),
            AddressKind::ConnectionSource => self.connection_source = address.or(self.connection_source),
            AddressKind::ConnectionDestination => {
                self.connection_destination = address.or(self.connection_destination);
            }
        }
    }

    /// The client's address, where it was said. `told`: a PROXY header said so, which counts before what is said
    /// of the connection.
    pub(crate) fn source(&self, told: bool) -> Option<IpAddr> {
        self.source.or(self.connection_source.filter(|_| !told))
    }

    /// The same of where it came to.
    pub(crate) fn destination(&self, told: bool) -> Option<IpAddr> {
        self.destination.or(self.connection_destination.filter(|_| !told))
    }

    /// The client as it counts, where nothing else was said this one.
    pub fn client(&self, came: SocketAddr, told: bool) -> SocketAddr {
        let address = self.source(told).unwrap_or(came.ip());
        SocketAddr::new(address, self.source_port.unwrap_or(came.port()))
    }

    /// Where it counts to have come to.
    pub fn place(&self, came: SocketAddr, told: bool) -> SocketAddr {
        let address = self.destination(told).unwrap_or(came.ip());
        SocketAddr::new(address, self.destination_port.unwrap_or(came.port()))
    }
}

/// A target without its query.
pub(crate) fn path_of(target: &[u8]) -> &[u8] {
    &target[..memchr::memchr(b'?', target).unwrap_or(target.len())]
}

/// The query of a target.
pub(crate) fn query_of(target: &[u8]) -> &[u8] {
    memchr::memchr(b'?', target).map_or(&[], |at| &target[at + 1..])
}

/// Fields of a head to remove, and lines to add.
#[derive(Debug, Default)]
pub struct HeadChanges {
    /// Names, each with a line break behind it: memory that is used again.
    drops: Vec<u8>,
    /// Whole lines, in their order.
    pub lines: Vec<u8>,
}

impl HeadChanges {
    /// Whether the head stays as it is.
    pub fn is_empty(&self) -> bool {
        self.drops.is_empty() && self.lines.is_empty()
    }

    /// Whether a field of the original head stays behind.
    pub fn drops(&self, field: &[u8]) -> bool {
        self.dropped().any(|name| is_named(field, name))
    }

    /// Whether a field of a request stays behind. Names are one where servers take them for one.
    pub fn drops_of_request(&self, field: &[u8]) -> bool {
        self.dropped().any(|name| is_named_alike(field, name))
    }

    fn dropped(&self) -> impl Iterator<Item = &[u8]> {
        self.drops.split(|b| *b == b'\n').filter(|name| !name.is_empty())
    }

    /// Removes fields of a name; `*` in it stands for anything.
    pub fn drop_named(&mut self, name: &[u8]) {
        self.drops.extend_from_slice(name);
        self.drops.push(b'\n');
    }

    /// Adds a line. What a decoded variable brought must not end it: control characters become spaces
    /// (RFC 9110 section 5.5).
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let out = &mut self.lines;
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        let start = out.len();
        out.extend_from_slice(value);
        let is_control = |byte: &&mut u8| **byte != b'\t' && byte.is_ascii_control();
        out[start..].iter_mut().filter(is_control).for_each(|byte| *byte = b' ');
        out.extend_from_slice(b"\r\n");
    }

    /// Values of the lines that were added under a name.
    pub fn lines_named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.lines.split(|b| *b == b'\n').filter_map(|line| {
            let at = memchr::memchr(b':', line)?;
            Some((&line[..at], line[at + 1..].trim_ascii()))
        });
        lines.filter(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Back to a head that stays as it is.
    pub fn clear(&mut self) {
        self.drops.clear();
        self.lines.clear();
    }

    pub(crate) fn apply(&mut self, edit: &Edit, value: &[u8]) {
        match edit {
            Edit::Remove { name } => {
                self.forget(edit);
                self.drop_named(name);
            }
            Edit::Set { name, .. } => {
                self.forget(edit);
                self.drop_named(name);
                self.add(name, value);
            }
            Edit::Add { name, .. } => self.add(name, value),
            // See `replace` and `drop_each`: they need what the fields were.
            Edit::Each { .. } | Edit::RemoveMatching(_) => {}
        }
    }

    /// Other lines in the place of all those of a name.
    pub(crate) fn replace(&mut self, name: &[u8], values: &[Vec<u8>]) {
        self.forget_named(|field| is_named(field, name));
        self.drop_named(name);
        values.iter().for_each(|value| self.add(name, value));
    }

    /// Removes the fields of these names, and lines that were added.
    pub(crate) fn drop_each(&mut self, names: &[Vec<u8>], edit: &Edit) {
        self.forget(edit);
        names.iter().for_each(|name| self.drop_named(name));
    }

    /// Takes back lines that earlier routes added and a later one replaces.
    fn forget(&mut self, edit: &Edit) {
        self.forget_named(|field| edit.drops(field));
    }

    fn forget_named(&mut self, drops: impl Fn(&[u8]) -> bool) {
        let mut at = 0;
        while at < self.lines.len() {
            let end = memchr::memchr(b'\n', &self.lines[at..]).map_or(self.lines.len(), |n| at + n + 1);
            let name = self.lines[at..end].split(|b| *b == b':').next().unwrap_or(b"");
            match drops(name) {
                true => {
                    self.lines.drain(at..end);
                }
                false => at = end,
            }
        }
    }
}

/// What routes have kept for later ones, by name. Memory is used again.
#[derive(Debug, Default)]
pub struct Variables(Vec<(Box<str>, Option<Vec<u8>>)>);

impl Variables {
    /// The value that a route has set.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(known, _)| **known == *name)?.1.as_deref()
    }

    /// Keeps a value.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_routes_say() {
        let came: SocketAddr = "192.0.2.1:5".parse().unwrap();
        let mut said = Addresses::default();
        assert_eq!((said.client(came, false), said.place(came, false)), (came, came));
        said.set(AddressKind::ConnectionSource, b"10.0.0.1");
        // What a PROXY header says of the client comes behind what is said of the connection.
        assert_eq!(said.client(came, false).to_string(), "10.0.0.1:5");
        assert_eq!(said.client(came, true), came);
        said.set(AddressKind::Source, b"2001:db8::1");
        said.set(AddressKind::SourcePort, b"81");
        said.set(AddressKind::Source, b"nobody");
        said.set(AddressKind::DestinationPort, b"99999");
        assert_eq!(said.client(came, true).to_string(), "[2001:db8::1]:81");
        assert_eq!(said.place(came, false), came);
    }
}
