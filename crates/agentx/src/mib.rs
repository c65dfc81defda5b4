//! Where EVENKEEL-MIB (`packaging/snmp/EVENKEEL-MIB.txt`) has its objects.

use crate::oid::Oid;
use crate::view::{Value, VarBind};

/// Below netSnmpPlaypen, until there is a number of our own.
pub const ROOT: &[u32] = &[1, 3, 6, 1, 4, 1, 8072, 9999, 9999, 7133];

/// VRRPV3-MIB.
const VRRP: &[u32] = &[1, 3, 6, 1, 2, 1, 207];

const NOTIFICATIONS: u32 = 0;
const OBJECTS: u32 = 1;
const EVENT: u32 = 6;
const NODE: u32 = 1;

/// Kinds of happenings, in the order of their notifications; the first is 1.
pub const KINDS: &[&str] = &[
    "server-down",
    "server-up",
    "service-down",
    "service-up",
    "service-on-backups",
    "flapping",
    "role",
    "split-brain",
    "certificate",
    "storage",
    "discovery",
    "configuration",
    "admin-state",
    "snmp",
    "test",
];

/// Levels of happenings; the first is 1.
pub const LEVELS: &[&str] = &["info", "good", "warning", "bad"];

pub fn root() -> Oid {
    Oid::new(ROOT)
}

/// An object of a group: `object(3, &[1, 2, 7])` is column 2 of table 3 in the row with the index 7.
pub fn object(group: u32, rest: &[u32]) -> Oid {
    root().with(&[OBJECTS, group]).with(rest)
}

/// An object of VRRPV3-MIB (RFC 6527).
pub fn vrrp(rest: &[u32]) -> Oid {
    Oid::new(VRRP).with(rest)
}

/// The place of a word in a list of words, from 1 on.
pub fn number_of(words: &[&str], word: &str) -> Option<u32> {
    words.iter().position(|w| *w == word).map(|at| at as u32 + 1)
}

/// The notification of a happening; a kind without one of its own is told as a test.
pub fn notification(node: &str, kind: &str, level: &str, subject: &str, text: &str) -> Vec<VarBind> {
    // snmpTrapOID.0
    let trap = Oid::new(&[1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0]);
    let number = number_of(KINDS, kind).unwrap_or(KINDS.len() as u32);
    let which = Value::Oid(root().with(&[NOTIFICATIONS, number]));
    let level = number_of(LEVELS, level).unwrap_or(1);
    let event = |column: u32, value| VarBind { name: object(EVENT, &[column, 0]), value };
    vec![
        VarBind { name: trap, value: which },
        VarBind { name: object(NODE, &[1, 0]), value: Value::text(node) },
        event(1, Value::text(kind)),
        event(2, Value::Integer(level.cast_signed())),
        event(3, Value::text(subject)),
        event(4, Value::text(text)),
    ]
}
