//! Configurations of other load balancers, as Evenkeel's: readable, with the names and comments of
//! the source, and a list of what could not be carried over.
//!
//! In: texts, and the variables that they may use. Out: one text, and what is left. Never: a file, a
//! guess that is not said.

mod apache;
mod appliance;
mod draft;
mod haproxy;
mod haresources;
mod keepalived;
mod layers;
mod ldirectord;
mod lvs;
mod pound;
mod proof;
mod tree;
mod words;

use std::collections::BTreeMap;

use draft::Draft;
pub use haproxy::condition_holds;
pub use haproxy::manual::{Fate, fate as keyword_fate, page as keywords_page, words as keywords};
pub use haproxy::run::{
    HostNeeds, LogTarget, Places, Process, Proxy, ProxyKind, Resolvers, Running, Server, SocketAccess,
    StatsPage, StatsSocket, StickTable, places, running,
};
pub use words::{name as real_server_name, without_family};

/// Whose configuration a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    Haproxy,
    Keepalived,
    Ldirectord,
    /// Piranha's `lvs.cf`.
    Lvs,
    Pound,
    Apache,
    /// Heartbeat's, of version 1.
    Haresources,
    /// The recovery file of Loadbalancer.org's appliance.
    LbConfig,
}

impl SourceKind {
    pub const ALL: [SourceKind; 8] = [
        SourceKind::Haproxy,
        SourceKind::Keepalived,
        SourceKind::Ldirectord,
        SourceKind::Lvs,
        SourceKind::Pound,
        SourceKind::Apache,
        SourceKind::Haresources,
        SourceKind::LbConfig,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            SourceKind::Haproxy => "haproxy",
            SourceKind::Keepalived => "keepalived",
            SourceKind::Ldirectord => "ldirectord",
            SourceKind::Lvs => "lvs",
            SourceKind::Pound => "pound",
            SourceKind::Apache => "apache",
            SourceKind::Haresources => "haresources",
            SourceKind::LbConfig => "lb_config",
        }
    }
}

/// One file of the source.
#[derive(Clone, Debug)]
pub struct Source {
    pub kind: SourceKind,
    pub file: String,
    pub text: String,
}

/// What it means that a line was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing differs for those who use it.
    Remark,
    /// Nothing is lost; something differs.
    Note,
    /// Something that the source does is not done.
    Unsupported,
    /// What is not done kept somebody off, or a service has no server without it.
    Critical,
    /// The source itself is not right.
    Invalid,
}

impl Severity {
    /// As `import --json` prints it; scripts rely on these words.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Remark => "remark",
            Severity::Note => "note",
            Severity::Unsupported => "lost",
            Severity::Critical => "grave",
            Severity::Invalid => "wrong",
        }
    }
}

/// Something that could not be carried over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub file: String,
    pub line: usize,
    pub keyword: String,
    /// What that means for whoever relied on it.
    pub consequence: String,
}

#[derive(Clone, Debug)]
pub struct Imported {
    pub text: String,
    pub left: Vec<Diagnostic>,
}

/// Several sources make one configuration.
pub fn import(sources: &[Source], variables: &BTreeMap<String, String>) -> Imported {
    let mut draft = Draft::default();
    let haproxy: Vec<&Source> = sources.iter().filter(|s| s.kind == SourceKind::Haproxy).collect();
    if let Some(first) = haproxy.first() {
        haproxy::read(&haproxy, variables, &mut draft);
        draft.told_if_empty(first, [0; 4]);
    }
    for source in sources {
        draft.file.clone_from(&source.file);
        let before = draft.gathered();
        match source.kind {
            SourceKind::Haproxy => {}
            SourceKind::Keepalived => keepalived::read(&source.text, &mut draft),
            SourceKind::Ldirectord => ldirectord::read(&source.text, &mut draft),
            SourceKind::Lvs => lvs::read(&source.text, &mut draft),
            SourceKind::Pound => pound::read(&source.text, &mut draft),
            SourceKind::Apache => apache::read(&source.text, &mut draft),
            SourceKind::Haresources => haresources::read(&source.text, &mut draft),
            SourceKind::LbConfig => appliance::read(&source.text, &mut draft),
        }
        if source.kind != SourceKind::Haproxy {
            draft.told_if_empty(source, before);
        }
    }
    draft.join_layers();
    draft.drop_unsound();
    let text = draft.print();
    proof::prove(&text, &sources.iter().collect::<Vec<_>>(), &mut draft);
    Imported { text, left: draft.left }
}

#[cfg(test)]
mod tests;
