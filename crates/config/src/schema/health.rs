//! Keys of health checks.

use super::pool::CHECK_TLS;
use super::{DAY_MS, Key, Table, ValueKind, Variant, duration, join, key, line, required, word};

const INTERVAL: Key = key("interval", duration(50, DAY_MS), "2s", "From one probe to the next.");
const FAST: Key =
    key("fast-interval", duration(50, DAY_MS), "1s", "From one probe to the next while they fail.");
const DOWN: Key = key(
    "down-interval",
    duration(50, DAY_MS),
    "that of `fast-interval`",
    "From one probe to the next while the server is down.",
);
const TIMEOUT: Key = key("timeout", duration(1, DAY_MS), "1s", "How long a probe may take.");
const RISE: Key = key(
    "rise",
    ValueKind::Integer { min: 1, max: 10_000 },
    "2",
    "Passed probes in a row that bring a server up.",
);
const FALL: Key = key(
    "fall",
    ValueKind::Integer { min: 1, max: 10_000 },
    "3",
    "Failed probes in a row that take a server down.",
);
const PORT: Key = key(
    "port",
    ValueKind::Integer { min: 1, max: 65535 },
    "",
    "Probe this port instead of the server's own.",
);
const ADDRESS: Key =
    key("address", ValueKind::Address, "", "Probe this address instead of the server's own.");
const TLS: Key = key(
    "tls",
    ValueKind::Table(&CHECK_TLS),
    "",
    "Probe over TLS; HTTP and gRPC do as the pool's `server-tls` says.",
);
const SEND_PROXY: Key = key("send-proxy", ValueKind::Flag, "false", "Begin with a PROXY protocol header.");
const SEND_PROXY_VERSION: Key = key(
    "send-proxy-version",
    ValueKind::Choice(&[word("v1"), word("v2")]),
    "v2",
    "The version of that header: `v1` is text and names the addresses of the probe, `v2` is of type LOCAL. A version that is named sends it.",
);
const THROUGH_VIP: Key = key(
    "through-vip",
    ValueKind::Flag,
    "false",
    "Modes `dr` and `tun`: the probe reaches the real server as a client's packets do, with the VIP as target. For checks over TCP.",
);
const FILL_IN: Key = key(
    "fill-in",
    ValueKind::Flag,
    "false",
    "`{server}` in what is sent (path, host, headers, bodies, steps) is the real server's name.",
);
const AGENT: Key =
    key("agent", ValueKind::Table(&AGENT_CHECK), "", "Ask an agent on the server for its weight and state.");

pub static SERVER_CHECK: Table = Table {
    name: "real-server.health-check",
    doc: "What one real server has of its own in the pool's health check; what is absent is as there.",
    keys: &[
        own(PORT),
        own(ADDRESS),
        own(INTERVAL),
        own(FAST),
        own(DOWN),
        own(TIMEOUT),
        own(RISE),
        own(FALL),
        own(TLS),
        own(SEND_PROXY),
        own(SEND_PROXY_VERSION),
        own(AGENT),
        key("ask-agent", ValueKind::Flag, "true", "Whether an `agent` is asked about this server."),
    ],
};

/// A key whose default is what the pool's health check says.
const fn own(of_pool: Key) -> Key {
    Key { default: "as the pool's", ..of_pool }
}

/// The keys of checks over a connection.
macro_rules! keys {
    ($($own:expr),* $(,)?) => {
        &[INTERVAL, FAST, DOWN, TIMEOUT, RISE, FALL, PORT, ADDRESS, TLS, SEND_PROXY, SEND_PROXY_VERSION, THROUGH_VIP, AGENT, FILL_IN, $($own),*]
    };
}

static AGENT_CHECK: Table = Table {
    name: "agent",
    doc: "A program on the real server that answers with a line of words: `75%`, `up`, `down`, `drain`, `maint`, `ready`, `maxconn:30` (HAProxy's agent protocol, which feedback agents speak too).",
    keys: &[
        key("port", ValueKind::Integer { min: 1, max: 65535 }, "3333", "Where the agent listens."),
        key("address", ValueKind::Address, "", "The agent's address; the real server's when absent."),
        key("interval", duration(50, DAY_MS), "2s", "From one question to the next."),
        key("send", line(256), "", "What to send first."),
    ],
};

const SPEAK_TLS: Key =
    key("tls", ValueKind::Flag, "false", "Speak TLS there; the server's certificate is not verified.");
const SNI: Key = key("sni", ValueKind::Token, "", "The host name to ask for over TLS.");

static CONNECT: Table = Table {
    name: "connect",
    doc: "A further connection of a check; what is absent is as at the check's first one, but for TLS.",
    keys: CONNECT_KEYS,
};

/// What is asked and expected over HTTP.
const REQUEST: &[Key] = &[
    key("method", ValueKind::Token, "GET", "Request method."),
    key("path", ValueKind::HttpPath, "/", "Request target."),
    key(
        "version",
        ValueKind::Choice(&[word("1.0"), word("1.1")]),
        "1.1",
        "The version of HTTP; `1.0` sends no `Host` but one that is written.",
    ),
    key("host", line(255), "", "`Host` header; the server's address when absent."),
    key("headers", ValueKind::Map(&line(1024)), "", "Further request headers."),
    key("body", ValueKind::Text { max: 4096, lines: true }, "", "Request body."),
    key("status", ValueKind::Statuses, "200-399", "Statuses that pass."),
    key("expect", line(1024), "", "Text that the first 64 KiB of the body must hold."),
    key("expect-regex", line(1024), "", "A regular expression that they must match."),
    key("refuse", line(1024), "", "Text that they must not hold."),
    key("refuse-regex", line(1024), "", "A regular expression that they must not match."),
    key(
        "expect-headers",
        ValueKind::Map(&line(1024)),
        "",
        "Headers of the answer with a text that each must hold.",
    ),
    key(
        "expect-headers-regex",
        ValueKind::Map(&line(1024)),
        "",
        "Headers of the answer with a regular expression that each must match.",
    ),
    key(
        "refuse-headers-regex",
        ValueKind::Map(&line(1024)),
        "",
        "Headers that the answer must not have with a value that matches a regular expression.",
    ),
];

static THEN: Table = Table {
    name: "then",
    doc: "A further request of the check, over a connection of its own.",
    keys: &join::<{ CONNECT_KEYS.len() + REQUEST.len() }>(CONNECT_KEYS, REQUEST),
};
const CONNECT_KEYS: &[Key] = &[PORT, ADDRESS, SPEAK_TLS, SNI, SEND_PROXY, SEND_PROXY_VERSION];

const OF_HTTP: &[Key] = &join::<{ keys!().len() + REQUEST.len() + 1 }>(
    &join::<{ keys!().len() + REQUEST.len() }>(keys!(), REQUEST),
    &[key("then", ValueKind::Tables(&THEN), "", "Further requests, in their order: all must pass.")],
);

static STEP: Table = Table {
    name: "steps",
    doc: "One step of a conversation: `{ send = \"…\" }`, `{ expect = \"…\" }`…",
    keys: &[
        key(
            "send",
            ValueKind::Text { max: 4096, lines: true },
            "",
            "Text to send; write line endings as \\r\\n.",
        ),
        key("send-hex", line(8192), "", "Bytes to send, in hexadecimal."),
        key(
            "expect",
            ValueKind::Text { max: 1024, lines: true },
            "",
            "Text that must come, whatever comes before it.",
        ),
        key("expect-hex", line(2048), "", "Bytes that must come, in hexadecimal."),
        key("expect-regex", line(1024), "", "A regular expression that what comes must match."),
        key(
            "refuse",
            ValueKind::Text { max: 1024, lines: true },
            "",
            "Text that must not come before the server ends the connection.",
        ),
        key("refuse-hex", line(2048), "", "Bytes that must not come, in hexadecimal."),
        key("refuse-regex", line(1024), "", "A regular expression that what comes must not match."),
        key(
            "within",
            ValueKind::Integer { min: 1, max: 65536 },
            "",
            "For the steps behind it: what must not come is judged as soon as so many bytes have come.",
        ),
        key("connect", ValueKind::Table(&CONNECT), "", "Go on over a new connection."),
    ],
};

const USER: Key = key("user", line(128), "", "Log in as this user.");
const PASSWORD: Key = key("password", line(128), "", "The user's password.");

macro_rules! check {
    ($word:expr, $doc:expr, $keys:expr $(,)?) => {
        Variant { word: $word, doc: $doc, keys: $keys }
    };
}

/// The keys of other checks.
macro_rules! bare {
    ($($own:expr),* $(,)?) => {
        &[INTERVAL, FAST, DOWN, TIMEOUT, RISE, FALL, PORT, ADDRESS, AGENT, $($own),*]
    };
}

pub const HEALTH_CHECK: ValueKind = ValueKind::Typed(&[
    check!(
        "tcp",
        "A connection can be opened, and a conversation goes as expected where one is written.",
        keys!(
            key("send", ValueKind::Text { max: 4096, lines: true }, "", "Text to send."),
            key("expect", ValueKind::Text { max: 1024, lines: true }, "", "Text that must come."),
            key("steps", ValueKind::Tables(&STEP), "", "Several steps, in their order."),
        ),
    ),
    check!("http", "A request gets the expected answer.", OF_HTTP,),
    check!("tls", "A TLS handshake comes to its end.", keys!()),
    check!(
        "grpc",
        "gRPC's health protocol says SERVING.",
        keys!(key("service", line(100), "", "The service asked about; the whole server when absent.")),
    ),
    check!(
        "smtp",
        "A mail server greets, and answers HELO.",
        keys!(key("host", ValueKind::Token, "localhost", "Name to say in HELO.")),
    ),
    check!("imap", "An IMAP server greets; with `user` it lets that user in.", keys!(USER, PASSWORD)),
    check!("pop", "A POP3 server greets; with `user` it lets that user in.", keys!(USER, PASSWORD)),
    check!("ftp", "An FTP server greets; with `user` it lets that user in.", keys!(USER, PASSWORD)),
    check!("redis", "Redis answers PING.", keys!(PASSWORD)),
    check!(
        "mysql",
        "MySQL or MariaDB greets; with `user` it lets that user in, who has no password.",
        keys!(
            key(
                "user",
                line(64),
                "",
                "The user; without one the server may count the check as a connection that failed."
            ),
            key("old", ValueKind::Flag, "false", "Log in as clients before MySQL 4.1 did.")
        ),
    ),
    check!(
        "postgresql",
        "PostgreSQL asks a user to authenticate.",
        keys!(key("user", line(64), "postgres", "The user.")),
    ),
    check!("ldap", "An LDAP server accepts an anonymous bind.", keys!()),
    check!("rdp", "A terminal server confirms a connection.", keys!()),
    check!(
        "sip",
        "A SIP server answers OPTIONS with 200.",
        keys!(key("udp", ValueKind::Flag, "true", "Over UDP; else over TCP.")),
    ),
    check!("ping", "The host answers ICMP echo.", bare!()),
    check!(
        "dns",
        "A DNS server answers a question.",
        bare!(key("name", line(253), ".", "The name to ask for.")),
    ),
    check!("ntp", "A time server is synchronised.", bare!()),
    check!(
        "radius",
        "A RADIUS server accepts a user.",
        bare!(
            required("user", line(128), "The user."),
            required("password", line(120), "The user's password."),
            required("secret", line(128), "The secret shared with the server."),
        ),
    ),
    check!(
        "script",
        "A program says it: exit status 0 is up. It runs as nobody, in a few bounds, and gets VIP, its port, the server's address and its port as arguments (as ldirectord's and HAProxy's do).",
        bare!(
            required("command", ValueKind::File, "The program."),
            key("arguments", ValueKind::List(&line(1024)), "[]", "Arguments before those."),
            key(
                "keepalived",
                ValueKind::Flag,
                "false",
                "keepalived's convention: no further arguments, and an exit status from 2 to 255 is a weight from 0 to 253 percent."
            ),
        ),
    ),
    check!("none", "No probes; a refused connection takes a server out for `interval`.", &[INTERVAL, AGENT],),
]);
