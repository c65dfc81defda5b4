//! Configurations of other load balancers, as Evenkeel's: readable, with the names and comments of
//! the source, and a list of what could not be carried over.
//!
//! In: texts, and the variables that they may use. Out: one text, and what is left. Never: a file, a
//! guess that is not said.

mod apache;
mod draft;
mod haproxy;
mod keepalived;
mod ldirectord;
mod lvs;
mod pound;
mod tree;
mod words;

use std::collections::BTreeMap;

use draft::Draft;
pub use haproxy::condition_holds;
pub use haproxy::run::{
    LogTarget, Places, Process, Proxy, ProxyKind, Running, Server, StatsPage, StatsSocket, Wanted, places,
    running,
};

/// Whose configuration a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Haproxy,
    Keepalived,
    Ldirectord,
    /// Piranha's `lvs.cf`.
    Lvs,
    Pound,
    Apache,
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::Haproxy, Kind::Keepalived, Kind::Ldirectord, Kind::Lvs, Kind::Pound, Kind::Apache];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Haproxy => "haproxy",
            Kind::Keepalived => "keepalived",
            Kind::Ldirectord => "ldirectord",
            Kind::Lvs => "lvs",
            Kind::Pound => "pound",
            Kind::Apache => "apache",
        }
    }
}

/// One file of the source.
#[derive(Clone, Debug)]
pub struct Source {
    pub kind: Kind,
    pub file: String,
    pub text: String,
}

/// What it means that a line was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gravity {
    /// Nothing differs for those who use it.
    Remark,
    /// Nothing is lost; something differs.
    Note,
    /// Something that the source does is not done.
    Lost,
    /// What is not done kept somebody off, or a service has no server without it.
    Grave,
    /// The source itself is not right.
    Wrong,
}

/// Something that could not be carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub gravity: Gravity,
    pub file: String,
    pub line: usize,
    pub keyword: String,
    /// What that means for whoever relied on it.
    pub consequence: String,
}

#[derive(Clone, Debug)]
pub struct Imported {
    pub text: String,
    pub left: Vec<Left>,
}

/// Several sources make one configuration.
pub fn import(sources: &[Source], variables: &BTreeMap<String, String>) -> Imported {
    let mut draft = Draft::default();
    let haproxy: Vec<&Source> = sources.iter().filter(|s| s.kind == Kind::Haproxy).collect();
    if !haproxy.is_empty() {
        haproxy::read(&haproxy, variables, &mut draft);
    }
    for source in sources {
        draft.file.clone_from(&source.file);
        match source.kind {
            Kind::Haproxy => {}
            Kind::Keepalived => keepalived::read(&source.text, &mut draft),
            Kind::Ldirectord => ldirectord::read(&source.text, &mut draft),
            Kind::Lvs => lvs::read(&source.text, &mut draft),
            Kind::Pound => pound::read(&source.text, &mut draft),
            Kind::Apache => apache::read(&source.text, &mut draft),
        }
    }
    draft.join_layers();
    draft.drop_unsound();
    let text = draft.print();
    Imported { text, left: draft.left }
}

#[cfg(test)]
mod tests;
