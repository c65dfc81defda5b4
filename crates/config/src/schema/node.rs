//! Keys of the machine itself.

use super::{Table, ValueKind, key, line, required, word};

pub static NODE: Table = Table {
    name: "node",
    doc: "The machine itself: its name, interfaces, name servers, clock, SSH keys. Without this table nothing of the machine is touched, and with it only what is named. It is written for systemd-networkd, -resolved and -timesyncd, in files of their own. This table is each node's own; it never goes to the other node of a pair.",
    keys: &[
        key("host-name", line(64), "", "The name of this machine."),
        key("time-zone", line(64), "", "As `timedatectl list-timezones` names it: `Europe/Berlin`."),
        key(
            "dns",
            ValueKind::List(&ValueKind::Address),
            "",
            "Name servers, in the order in which they are asked.",
        ),
        key("search", ValueKind::List(&line(253)), "", "Domains in which short names are looked up."),
        key("ntp", ValueKind::List(&line(253)), "", "Time servers: names or addresses."),
        key(
            "ssh-keys",
            ValueKind::List(&line(8192)),
            "",
            "Public keys (`ssh-ed25519 AAAA… name`) with which root may log in. With the first one the SSH server is switched on; when none is left it is as it was before.",
        ),
        key(
            "proxy",
            line(1024),
            "",
            "The HTTP proxy through which packages are fetched: `http://HOST:PORT`.",
        ),
        key("interface", ValueKind::Tables(&INTERFACE), "", "A network interface."),
    ],
};

static INTERFACE: Table = Table {
    name: "interface",
    doc: "A network interface: one that the machine has, a VLAN, or a bond of several. Interfaces that are not named stay as they are.",
    keys: &[
        required("name", line(15), "`ens18`, or the name that the VLAN or bond gets."),
        key(
            "dhcp",
            ValueKind::Choice(&[word("no"), word("ipv4"), word("ipv6"), word("both")]),
            "no",
            "Whether addresses, gateway and name servers are asked for.",
        ),
        key(
            "router-advertisements",
            ValueKind::Flag,
            "as the system has it",
            "Whether what IPv6 routers announce is believed.",
        ),
        key(
            "addresses",
            ValueKind::List(&ValueKind::Network),
            "[]",
            "Addresses with their prefix length: `192.0.2.10/24`.",
        ),
        key(
            "gateways",
            ValueKind::List(&ValueKind::Address),
            "[]",
            "Default gateways, at most one of IPv4 and one of IPv6.",
        ),
        key(
            "mtu",
            ValueKind::Integer { min: 576, max: 65_535 },
            "that of the driver",
            "The largest packet; IPv6 needs 1280.",
        ),
        key(
            "vlan",
            ValueKind::Integer { min: 1, max: 4094 },
            "",
            "The number of the VLAN that this interface is.",
        ),
        key("on", line(15), "", "The interface that carries the VLAN."),
        key("bond", ValueKind::List(&line(15)), "", "The interfaces that this one bundles."),
        key(
            "bond-mode",
            ValueKind::Choice(&[
                word("active-backup"),
                word("802.3ad"),
                word("balance-rr"),
                word("balance-xor"),
            ]),
            "active-backup",
            "How the bond uses its interfaces; `802.3ad` is LACP, which the switch must speak.",
        ),
        key("route", ValueKind::Tables(&ROUTE), "", "A route to a network."),
    ],
};

static ROUTE: Table = Table {
    name: "route",
    doc: "A route to a network.",
    keys: &[
        required("to", ValueKind::Network, "The network: `10.20.0.0/16`."),
        key("via", ValueKind::Address, "on the interface itself", "The gateway."),
        key(
            "metric",
            ValueKind::Integer { min: 1, max: 4_294_967_294 },
            "that of the system",
            "Of several routes to a network the one with the smallest is taken.",
        ),
    ],
};
