//! Keys of the administration: who may come in, who is told, what is remembered.

use super::{Table, ValueKind, duration, key, line, required, word};

pub static ADMIN: Table = Table {
    name: "admin",
    doc: "How the program is administered.",
    keys: &[
        key(
            "listen",
            ValueKind::List(&ValueKind::Listen),
            "[]",
            "HTTPS addresses of the web UI and the REST API.",
        ),
        key(
            "certificate",
            ValueKind::File,
            "one that the program makes itself",
            "PEM file with the certificate chain and the key of `listen`; read again when it changes.",
        ),
        key(
            "min-tls",
            ValueKind::Choice(&[word("1.2"), word("1.3")]),
            "1.2",
            "The oldest version of TLS that `listen` speaks.",
        ),
        key(
            "allow",
            ValueKind::List(&ValueKind::Network),
            "[\"0.0.0.0/0\", \"::/0\"]",
            "Networks that may connect to `listen`.",
        ),
        key(
            "session-timeout",
            duration(60_000, 30 * 86_400_000),
            "12h",
            "A session of the web UI that is not used for so long ends.",
        ),
        key(
            "plain-listen",
            ValueKind::List(&ValueKind::Listen),
            "[]",
            "HTTP addresses that serve `/metrics` and `/healthz` to the networks of `metrics-allow`, and send browsers to `listen`.",
        ),
        key(
            "socket",
            ValueKind::File,
            "/run/evenkeel/admin.sock",
            "The Unix socket that the command line talks to; only its owner may use it.",
        ),
        key(
            "metrics-allow",
            ValueKind::List(&ValueKind::Network),
            "[\"127.0.0.0/8\", \"::1/128\"]",
            "Networks that may read `/metrics` and `/healthz`.",
        ),
    ],
};

pub static GRAPHS: Table = Table {
    name: "graphs",
    doc: "What is remembered for graphs: a file of fixed size in the state directory, from the last minutes to a year.",
    keys: &[key(
        "size",
        ValueKind::Size { min: 0, max: 1 << 34 },
        "64MiB",
        "The file's size; 0 remembers nothing. A service takes about 150 KiB, a real server 70 KiB; where it does not suffice, services come first.",
    )],
};

const KINDS: ValueKind = ValueKind::List(&ValueKind::Choice(&[
    word("server-down"),
    word("server-up"),
    word("service-down"),
    word("service-up"),
    word("service-on-backups"),
    word("flapping"),
    word("role"),
    word("split-brain"),
    word("certificate"),
    word("storage"),
    word("discovery"),
    word("configuration"),
    word("admin-state"),
    word("snmp"),
]));

pub static ALERTS: Table = Table {
    name: "alerts",
    doc: "Who is told when something happens. What happens together is told in one message.",
    keys: &[
        key(
            "gather",
            duration(0, 600_000),
            "10s",
            "How long after the first thing that happens others are gathered into the same message.",
        ),
        key(
            "quiet",
            duration(0, 86_400_000),
            "5m",
            "After a message the next one waits for so long, and then has everything since; split brain, roles and services that go down do not wait.",
        ),
        key(
            "certificate-days",
            ValueKind::Integer { min: 1, max: 365 },
            "21",
            "A certificate that ends within so many days is told of, once a day.",
        ),
        key("email", ValueKind::Tables(&EMAIL), "", "Mail."),
        key("webhook", ValueKind::Tables(&WEBHOOK), "", "An HTTP POST."),
        key("script", ValueKind::Tables(&SCRIPT), "", "A program."),
        key("syslog", ValueKind::Tables(&SYSLOG), "", "Syslog (RFC 5424)."),
        key("snmp", ValueKind::Tables(&SNMP_ALERTS), "", "SNMP notifications."),
    ],
};

const AGENTX: super::Key = key(
    "agentx",
    line(107),
    "/var/agentx/master",
    "Where snmpd waits for sub-agents: the path of its socket, or `ADDRESS:PORT`.",
);

pub static SNMP: Table = Table {
    name: "snmp",
    doc: "What SNMP sees of this node: with this table the program is a sub-agent (AgentX, RFC 2741) of the machine's snmpd, which asks for passwords and speaks SNMP. Nothing can be set over it. See [SNMP](../snmp.md).",
    keys: &[AGENTX],
};

static SNMP_ALERTS: Table = Table {
    name: "snmp",
    doc: "Everything that happens, one notification each, sent by the machine's snmpd to whom its configuration names: traps or informs, v2c or v3. Nothing is gathered. It works with and without `[snmp]`.",
    keys: &[AGENTX, key("kinds", KINDS, "all", "What is told.")],
};

static EMAIL: Table = Table {
    name: "email",
    doc: "Alerts by mail.",
    keys: &[
        required("server", line(255), "`HOST:PORT` of the mail server."),
        key(
            "security",
            ValueKind::Choice(&[word("starttls"), word("tls"), word("none")]),
            "starttls",
            "TLS after a greeting, TLS from the first byte, or none.",
        ),
        key(
            "ca",
            ValueKind::File,
            "the well-known ones",
            "PEM file of authorities that the mail server is known by.",
        ),
        key("username", line(255), "", "Name for the mail server."),
        key("password-file", ValueKind::File, "", "A file whose first line is the password."),
        required("from", line(255), "The sender's address."),
        required("to", ValueKind::List(&line(255)), "The receivers' addresses."),
        key("kinds", KINDS, "all", "What is told."),
    ],
};

static WEBHOOK: Table = Table {
    name: "webhook",
    doc: "Alerts by HTTP POST.",
    keys: &[
        required("url", line(2048), "`https://…` or `http://…`"),
        key(
            "shape",
            ValueKind::Choice(&[word("generic"), word("slack")]),
            "generic",
            "A JSON object with `title`, `text` and `happenings`, or what Slack, Mattermost and Rocket.Chat take.",
        ),
        key(
            "ca",
            ValueKind::File,
            "the well-known ones",
            "PEM file of authorities that the receiver is known by.",
        ),
        key("kinds", KINDS, "all", "What is told."),
    ],
};

static SCRIPT: Table = Table {
    name: "script",
    doc: "Alerts by a program: it gets the message on standard input as the generic webhook does, and the title as its only argument. No shell is involved.",
    keys: &[
        required("command", ValueKind::File, "The program."),
        key("timeout", duration(100, 600_000), "30s", "After so long it is ended."),
        key("kinds", KINDS, "all", "What is told."),
    ],
};

static SYSLOG: Table = Table {
    name: "syslog",
    doc: "Everything that happens, one message each, to a syslog server (RFC 5424). Nothing is gathered.",
    keys: &[
        required("server", line(255), "`HOST:PORT` of the syslog server."),
        key(
            "transport",
            ValueKind::Choice(&[word("udp"), word("tcp"), word("tls")]),
            "udp",
            "UDP (RFC 5426), TCP with counted octets (RFC 6587), or TLS (RFC 5425).",
        ),
        key(
            "ca",
            ValueKind::File,
            "the well-known ones",
            "PEM file of authorities that the server is known by.",
        ),
        key(
            "facility",
            ValueKind::Integer { min: 0, max: 23 },
            "3",
            "The facility: 3 is daemon, 16 to 23 are local0 to local7.",
        ),
        key("kinds", KINDS, "all", "What is told."),
    ],
};
