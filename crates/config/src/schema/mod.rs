//! Every key of the configuration, once: the validator, the JSON Schema and the reference page
//! are made from this table.

mod acme;
mod admin;
mod discovery;
mod health;
mod log;
mod node;
mod pair;
mod pool;
mod route;
mod service;

use acme::ACME;
use admin::{ADMIN, ALERTS, GRAPHS, SNMP};
use discovery::RESOLVER;
use log::LOG;
use node::NODE;
use pair::PAIR;
use pool::POOL;
pub use pool::{POOL_RULES, REAL_SERVER};
use route::TABLE;
use service::SERVICE;

/// What a value must look like.
#[derive(Clone, Copy, Debug)]
pub enum ValueKind {
    /// Text of at most so many bytes, without control characters unless `lines`.
    Text {
        max: usize,
        lines: bool,
    },
    Name,
    Flag,
    Integer {
        min: i64,
        max: i64,
    },
    Duration {
        min_ms: u64,
        max_ms: u64,
    },
    Size {
        min: u64,
        max: u64,
    },
    Choice(&'static [Word]),
    /// `ADDRESS:PORT`
    Listen,
    /// `ADDRESS:PORTS`
    Vip,
    /// `ADDRESS/PREFIX`
    Network,
    /// `ADDRESS/PREFIX`, or a file of them.
    NetworkOrFile,
    File,
    /// `200`, `200-399`, `200,404`
    Statuses,
    HttpPath,
    /// A token of RFC 9110.
    Token,
    /// A host name, `{host}` or `{sni}`.
    ServerName,
    /// `ADDRESS:PORT` or `NAME:PORT`, or without a port for the one that the client connected to.
    Server,
    /// A condition of the routes' language.
    Condition,
    /// A text with variables of the routes' language.
    Template,
    /// `100/10s`
    Rate,
    /// An address alone.
    Address,
    /// A range of ports.
    Ports,
    /// An address, or `client`.
    Source,
    /// A table whose keys are the user's own.
    Map(&'static ValueKind),
    /// `stdout`, `off`, `syslog:ADDRESS:PORT`, `syslog:/SOCKET` or a file.
    AccessLog,
    /// `1,3-4:10`: which lines of so many.
    Sample,
    /// `haproxy`, `json`, or a text with fields of lines and variables.
    LogFormat,
    List(&'static ValueKind),
    /// A list of host names and addresses, or `routes`.
    CertificateNames,
    Table(&'static Table),
    Tables(&'static Table),
    /// A table whose `type` says which other keys it has.
    Typed(&'static [Variant]),
}

#[derive(Debug)]
pub struct Word {
    pub word: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: ValueKind,
    pub required: bool,
    pub default: &'static str,
    pub doc: &'static str,
}

#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    pub doc: &'static str,
    pub keys: &'static [Key],
}

#[derive(Debug)]
pub struct Variant {
    pub word: &'static str,
    pub doc: &'static str,
    pub keys: &'static [Key],
}

const fn key(name: &'static str, kind: ValueKind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, required: false, default, doc }
}

const fn required(name: &'static str, kind: ValueKind, doc: &'static str) -> Key {
    Key { name, kind, required: true, default: "", doc }
}

const fn word(word: &'static str) -> Word {
    Word { word }
}

const fn line(max: usize) -> ValueKind {
    ValueKind::Text { max, lines: false }
}

const fn duration(min_ms: u64, max_ms: u64) -> ValueKind {
    ValueKind::Duration { min_ms, max_ms }
}

/// Two lists of keys as one.
const fn join<const N: usize>(first: &[Key], second: &[Key]) -> [Key; N] {
    let mut all = [first[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
        at += 1;
    }
    all
}

const DAY_MS: u64 = 86_400_000;
const STATE_TIMEOUT: ValueKind = duration(1, 7 * DAY_MS);

pub static ROOT: Table = Table {
    name: "",
    doc: "The whole file.",
    keys: &[
        key("admin", ValueKind::Table(&ADMIN), "", "How the program is administered."),
        key("state", ValueKind::Table(&STATE), "", "Where the program keeps what must survive a restart."),
        key("log", ValueKind::Table(&LOG), "", "The access log."),
        key("limits", ValueKind::Table(&LIMITS), "", "Bounds of the whole program."),
        key("layer-4", ValueKind::Table(&LAYER4), "", "The packet path of layer 4."),
        key("network", ValueKind::Table(&NETWORK), "", "Addresses that the program gives to this machine."),
        key(
            "node",
            ValueKind::Table(&NODE),
            "",
            "The machine itself: name, interfaces, name servers, clock, SSH keys.",
        ),
        key("table", ValueKind::Tables(&TABLE), "", "What is counted of clients, for routes to act on."),
        key("acme", ValueKind::Tables(&ACME), "", "Authorities that give certificates."),
        key("virtual-service", ValueKind::Tables(&SERVICE), "", "VIPs and ports, and how they are handled."),
        key("pool", ValueKind::Tables(&POOL), "", "Real servers that several services can share."),
        key("resolver", ValueKind::Table(&RESOLVER), "", "How the names of real servers are looked up."),
        key("alerts", ValueKind::Table(&ALERTS), "", "Who is told when something happens."),
        key("snmp", ValueKind::Table(&SNMP), "", "What SNMP sees of this node."),
        key("graphs", ValueKind::Table(&GRAPHS), "", "What is remembered for graphs."),
        key("pair", ValueKind::Table(&PAIR), "", "The other node, and who of the two is active."),
    ],
};

static STATE: Table = Table {
    name: "state",
    doc: "Where the program keeps what must survive a restart.",
    keys: &[key(
        "directory",
        ValueKind::File,
        "/var/lib/evenkeel",
        "Admin states, live weights and the last revision number are kept here.",
    )],
};

static LAYER4: Table = Table {
    name: "layer-4",
    doc: "The packet path of the modes `dr`, `nat`, `tun` and `snat`.",
    keys: &[
        key(
            "connections",
            ValueKind::Integer { min: 1024, max: 67_108_864 },
            "1000000",
            "Entries of the connection table, of about 110 bytes each.",
        ),
        key(
            "persistent-clients",
            ValueKind::Integer { min: 1024, max: 16_777_216 },
            "262144",
            "Clients that persistence remembers, of all layer-4 services.",
        ),
        key(
            "lease",
            duration(200, 60_000),
            "1s",
            "How long packets are forwarded without word from the daemon: a dead or frozen one loses its traffic after that.",
        ),
        key(
            "grace",
            duration(0, 600_000),
            "30s",
            "The same after an orderly stop (SIGTERM), so that a restart loses nothing.",
        ),
        key(
            "attach",
            ValueKind::Choice(&[word("auto"), word("native"), word("generic")]),
            "auto",
            "Where the program runs: in the driver, or in the network stack. `auto` takes the driver where it can.",
        ),
        key(
            "interfaces",
            ValueKind::List(&line(15)),
            "those of the VIPs and of the routes to real servers",
            "Interfaces whose packets are looked at.",
        ),
    ],
};

static NETWORK: Table = Table {
    name: "network",
    doc: "Addresses that the program gives to this machine.",
    keys: &[
        key(
            "own-vips",
            ValueKind::Flag,
            "true, but false for layer 7 where `net.ipv4.ip_nonlocal_bind` is set",
            "Put each VIP that the machine does not have on the interface whose network it is in. Others move them where that is false.",
        ),
        key(
            "at-stop",
            ValueKind::Choice(&[word("keep"), word("remove")]),
            "keep",
            "What an orderly stop (SIGTERM) does with the addresses that the program has added: the next start finds them, or they are gone. A pair's go to the other node.",
        ),
        key(
            "floating-ips",
            ValueKind::List(&ValueKind::Network),
            "[]",
            "Further addresses with prefix length, such as the default gateway of real servers in mode `nat`, or VIPs of no network here that a router sends to this machine.",
        ),
    ],
};

static LIMITS: Table = Table {
    name: "limits",
    doc: "Bounds of the whole program.",
    keys: &[
        key(
            "max-connections",
            ValueKind::Integer { min: 1, max: 10_000_000 },
            "40000",
            "Client connections at a time; further ones wait in the kernel.",
        ),
        key(
            "workers",
            ValueKind::Integer { min: 0, max: 256 },
            "0",
            "Threads that move traffic, one event loop each; 0 is one a core.",
        ),
        key(
            "buffer-memory",
            ValueKind::Size { min: 1 << 20, max: 1 << 40 },
            "256MiB",
            "Memory for bytes in flight; when it is used up, new requests get a 503 instead of hurting old ones.",
        ),
    ],
};
