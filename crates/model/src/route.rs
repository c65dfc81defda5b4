//! Routes: conditions in their written order, and what is done where one holds. Conditions and
//! texts with variables are parsed already: a route whose condition was not understood cannot be made.

use std::path::PathBuf;
use std::time::Duration;

use evenkeel_rules::{Expression, FieldNames, MapMatch, Template};

use crate::{Name, SEVERITIES, Secret};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub name: Name,
    /// Always, when absent.
    pub when: Option<Expression>,
    /// Carried out in this order; one that ends the journey is the last.
    pub actions: Vec<Action>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    // These go on with the next.
    /// Counts the request for its entry in a table.
    Track(Name),
    /// Changes a number of its entry in a table.
    Count {
        table: Name,
        /// Which of them, from 1.
        number: u8,
        /// How much: texts that are no number from 0 change nothing.
        value: Template,
        /// It is the new number, and not added.
        keeps: bool,
    },
    RateLimit(RateRule),
    ConcurrencyLimit {
        key: Template,
        max: u32,
        status: u16,
    },
    BasicAuth {
        realm: String,
        /// A file of names with hashes.
        users: Option<PathBuf>,
        /// Names with hashes of the configuration itself.
        accounts: Vec<(String, Secret)>,
    },
    /// Keeps a text for later routes of the same request; names that begin with `sess.` for all
    /// requests of the connection.
    SetVariable {
        name: String,
        value: Template,
    },
    /// Puts a text into the log line.
    Capture {
        name: String,
        value: Template,
    },
    /// From now on the client or the place it came to counts as this one; texts that are none change nothing.
    SetAddress {
        which: AddressKind,
        value: Template,
    },
    /// Smaller waits less in the queue; 0 is usual.
    Priority(i16),
    /// The server of the pool that takes it, if it can.
    Server(Name),
    /// In place of the service's.
    ServerTimeout(Duration),
    ConnectTimeout(Duration),
    QueueTimeout(Duration),
    /// How its log line is marked, or whether it has one.
    LogLevel(LogLevel),
    /// It may be sent once: no other server is asked after one has had it.
    Once,
    RewriteMethod(String),
    RewritePath(Template),
    RewriteQuery(Template),
    /// Path and query at once.
    RewriteUri(Template),
    Header(HeaderEdit),
    ResponseHeader(HeaderEdit),
    /// The status of an answer.
    Status(u16),
    // These end it.
    Pool(Name),
    /// The pool that a map file names for a key.
    PoolMap {
        key: Template,
        file: PathBuf,
        /// How its keys are compared.
        matching: MapMatch,
        default: Option<Name>,
    },
    Redirect {
        location: Template,
        status: u16,
        drop_query: bool,
    },
    Answer {
        status: u16,
        /// None: what the body or the file looks like.
        content_type: Option<String>,
        body: String,
        file: Option<PathBuf>,
        /// The body is a text with variables: this one, or what the file holds.
        variables: bool,
        text: Option<Template>,
    },
    /// Refuses at once.
    Deny {
        status: u16,
        /// The connection ends without an answer.
        silent: bool,
        /// And without a packet that says so.
        vanish: bool,
    },
    /// Refuses after a while, so that an attacker waits.
    Tarpit {
        delay: Duration,
        status: u16,
    },
}

impl Action {
    /// Whether the journey ends with it.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Action::Pool(_)
                | Action::PoolMap { .. }
                | Action::Redirect { .. }
                | Action::Answer { .. }
                | Action::Deny { .. }
                | Action::Tarpit { .. }
        )
    }
}

/// What becomes of a request's log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// There is none.
    Silent,
    /// It is written with this severity, by syslog's numbers.
    Severity(u8),
}

impl LogLevel {
    /// `silent`, or one of syslog's severities.
    pub fn of(word: &str) -> Option<LogLevel> {
        let severity = SEVERITIES.iter().position(|known| *known == word);
        match word {
            "silent" => Some(LogLevel::Silent),
            _ => severity.map(|number| LogLevel::Severity(number as u8)),
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Silent => "silent",
            LogLevel::Severity(number) => SEVERITIES.get(usize::from(number)).copied().unwrap_or("debug"),
        }
    }
}

/// What a route can say of a client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    /// The connection's, under what routes make of it for the request.
    ConnectionSource,
    ConnectionDestination,
}

impl AddressKind {
    pub const ALL: [(&str, AddressKind); 6] = [
        ("set-connection-source", AddressKind::ConnectionSource),
        ("set-connection-destination", AddressKind::ConnectionDestination),
        ("set-source", AddressKind::Source),
        ("set-destination", AddressKind::Destination),
        ("set-source-port", AddressKind::SourcePort),
        ("set-destination-port", AddressKind::DestinationPort),
    ];

    /// The key of routes.
    pub fn key(self) -> &'static str {
        AddressKind::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(key, _)| key)
    }
}

/// What is done with answers on their way to the client, in the written order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerRoute {
    pub route: Route,
    pub of: Answers,
    /// Later ones do not see an answer for which this one holds.
    pub stop: bool,
}

/// Whose answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    #[default]
    All,
    OfServers,
    /// This program's: pages, redirects, refusals, errors.
    Own,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateRule {
    pub key: Template,
    pub count: u32,
    pub period: Duration,
    pub status: u16,
}

/// Names are in the case to write them in; comparing ignores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    /// Replaces every header of the name.
    Set {
        name: String,
        value: Template,
    },
    Add {
        name: String,
        value: Template,
    },
    /// Makes a text of each header of the name; `{1}` in it is what the header was.
    Each {
        name: String,
        value: Template,
    },
    /// A `*` at the end stands for anything.
    Remove {
        name: String,
    },
    RemoveMatching(FieldNames),
}

/// A table that routes count in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRule {
    pub name: Name,
    /// Whose entry it is: a text with variables.
    pub key: Template,
    /// The table whose entries they are, where it has none of its own.
    pub entries_of: Option<Name>,
    pub size: u32,
    pub expire: Duration,
    /// The time that rates are counted over.
    pub period: Duration,
}
