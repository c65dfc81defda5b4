//! Keys of the pair.

use super::{Table, ValueKind, duration, key, line, required, word};

pub static PAIR: Table = Table {
    name: "pair",
    doc: "This node's part in a pair. With `peer` the other node is Evenkeel too: both are joined by a key (`evenkeel pair invite`), and their messages are sealed with it. Without `peer`, VRRP is spoken with routers of any make. This table is each node's own; the rest of the file is the pair's.",
    keys: &[
        required("name", ValueKind::Name, "The name of this node."),
        key("peer", ValueKind::Listen, "", "The other node's address and port on the peer link."),
        key(
            "listen",
            ValueKind::Listen,
            "0.0.0.0:9694",
            "Where this node takes the peer's connections and beats.",
        ),
        key(
            "priority",
            ValueKind::Integer { min: 1, max: 254 },
            "100",
            "The node with the higher one becomes active where both may.",
        ),
        key(
            "failback",
            ValueKind::Flag,
            "false",
            "The node of the higher priority takes over again when it is back.",
        ),
        key(
            "dead-after",
            ValueKind::Integer { min: 2, max: 100 },
            "3",
            "Beats without which the peer counts as dead, on every path.",
        ),
        key(
            "beats",
            ValueKind::Choice(&[word("adaptive"), word("fixed")]),
            "adaptive",
            "`adaptive`: both nodes measure how late beats come, and take the shortest time of death that would not have been wrong in the last four hours, between `shortest-dead-time` and `dead-after` beats of `interval`. `fixed`: always the latter. A pair with a serial line keeps to the latter, too.",
        ),
        key(
            "shortest-dead-time",
            duration(20, 60_000),
            "30ms",
            "With adaptive beats: silence for less is never taken for death.",
        ),
        key(
            "learning-time",
            duration(1_000, 86_400_000),
            "10m",
            "With adaptive beats: how long the peer's are measured before the time of death becomes shorter, after each start of either node.",
        ),
        key(
            "on-silence",
            ValueKind::Choice(&[word("take-over"), word("wait")]),
            "take-over",
            "What a passive node does when every path is silent and there is no witness: `take-over` may make both active where the network between them is cut, `wait` leaves nobody active when the active one dies.",
        ),
        key(
            "join-wait",
            duration(0, 600_000),
            "1s",
            "How long a node that starts listens before it may become active.",
        ),
        key(
            "switch-over-drain",
            duration(0, 3_600_000),
            "60s",
            "How long the node that gives the role away by `pair switch-over` finishes its connections of layer 7, while the other one takes the new ones; what is left then is cut. `0s` ends them with the role. Needs nft on the node that takes over.",
        ),
        key("serial", ValueKind::File, "", "A serial line to the peer, as one more path for beats."),
        key(
            "witness",
            ValueKind::Listen,
            "",
            "A third machine (`evenkeel witness`) that is asked when the peer is silent: with it exactly one node is active, however the network is cut.",
        ),
        key(
            "ping",
            ValueKind::List(&ValueKind::Address),
            "[]",
            "Addresses that a fit node reaches, such as the router: the node that reaches more of them is active.",
        ),
        key(
            "track",
            ValueKind::List(&line(1024)),
            "[]",
            "Commands, each a text with its arguments behind blanks, run every two seconds; while one fails this node would rather not be active.",
        ),
        key(
            "notify",
            ValueKind::File,
            "",
            "Called at every change of role with keepalived's arguments: `INSTANCE NAME MASTER|BACKUP|FAULT PRIORITY`.",
        ),
        key(
            "vrrp",
            ValueKind::Tables(&VRRP),
            "",
            "Interfaces on which beats (or, without `peer`, adverts of VRRP) are sent.",
        ),
    ],
};

static VRRP: Table = Table {
    name: "vrrp",
    doc: "One virtual router. All of them have one role.",
    keys: &[
        required("interface", line(15), "The interface."),
        required(
            "router-id",
            ValueKind::Integer { min: 1, max: 255 },
            "The virtual router's number on this network.",
        ),
        key(
            "priority",
            ValueKind::Integer { min: 1, max: 254 },
            "that of the pair",
            "This node's priority there.",
        ),
        key(
            "interval",
            duration(10, 40_950),
            "50ms with a peer, 1s without",
            "Between two messages. Version 2 knows whole seconds alone.",
        ),
        key(
            "version",
            ValueKind::Integer { min: 2, max: 3 },
            "3",
            "Of VRRP: 3 (RFC 9568) or 2 (RFC 3768, IPv4 alone). Sealed beats are the same with both.",
        ),
        key(
            "password",
            line(8),
            "",
            "Of version 2 with routers of another make: keepalived's `auth_type PASS`. It goes over the wire as it is.",
        ),
        key(
            "family",
            ValueKind::Choice(&[word("ipv4"), word("ipv6")]),
            "ipv4",
            "Of the messages, and of the VIPs they name.",
        ),
        key(
            "unicast",
            ValueKind::List(&ValueKind::Address),
            "[]",
            "Send to these addresses instead of the group.",
        ),
    ],
};
