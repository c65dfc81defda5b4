//! Keys of a pool and its real servers.

use super::discovery::{DISCOVER, RESOLVE};
use super::health::{HEALTH_CHECK, SERVER_CHECK};
use super::route::SIZE;
use super::{DAY_MS, Key, STATE_TIMEOUT, Table, ValueKind, Variant, duration, join, key, required, word};

pub static POOL: Table = Table {
    name: "pool",
    doc: "Real servers that several services can share.",
    keys: &join::<{ OWN.len() + POOL_RULES.len() }>(OWN, POOL_RULES),
};

const OWN: &[Key] = &[
    required("name", ValueKind::Name, "The name that services refer to."),
    key("real-server", ValueKind::Tables(&REAL_SERVER), "", "The real servers."),
    key(
        "timeouts",
        ValueKind::Table(&POOL_TIMEOUTS),
        "those of the service",
        "Layer 7: how long states of connections with this pool's servers may last, whichever service or route leads there.",
    ),
    key(
        "compression",
        ValueKind::Table(&COMPRESSION),
        "that of the service",
        "Answers of this pool's servers are compressed for clients that take it, whichever service or route leads there.",
    ),
];

pub static COMPRESSION: Table = Table {
    name: "compression",
    doc: "Answers of real servers are compressed on their way to clients of HTTP/1.1 and HTTP/2 that take it, piece by piece as they come. An answer stays as it is where it has another status than 200 to 203, a `Content-Encoding`, a `Content-Range`, a checksum, trailers, a `Cache-Control` with `no-transform`, more than one `ETag`, or no type that is named; to a HEAD; and while half of `[limits] buffer-memory` is in use, since each answer that is compressed holds 320 KiB. A compressed one has `Vary: Accept-Encoding`, and a strong `ETag` becomes a weak one. `{}` is the usual.",
    keys: &[
        key(
            "codings",
            ValueKind::List(&ValueKind::Choice(&[
                word("gzip"),
                word("deflate"),
                word("raw-deflate"),
                word("identity"),
            ])),
            "[\"gzip\"]",
            "What clients are offered; the first where a client likes several the same. `raw-deflate` is `deflate` without its wrapper, `identity` cuts an answer into chunks and leaves it as it is, for tests.",
        ),
        key(
            "types",
            ValueKind::List(&ValueKind::Text { max: 128, lines: false }),
            "[\"text/*\", \"application/json\", \"application/javascript\", \"application/xml\", \"application/manifest+json\", \"application/wasm\", \"image/svg+xml\", \"font/ttf\"]",
            "The types of answers that are compressed, without their parameters; a `*` at the end stands for anything, and `\"*\"` for all types and for answers without one. `multipart/…` and gRPC never are.",
        ),
        key(
            "min-size",
            ValueKind::Size { min: 0, max: 1 << 30 },
            "0B",
            "Answers whose `Content-Length` is smaller stay as they are.",
        ),
        key(
            "offload",
            ValueKind::Flag,
            "false",
            "Real servers do not get the `Accept-Encoding` of clients that this program compresses for, so that they send their answers as they are.",
        ),
    ],
};

static POOL_TIMEOUTS: Table = Table {
    name: "pool.timeouts",
    doc: "In the place of those of the service that clients come by.",
    keys: &[
        key("connect", STATE_TIMEOUT, "that of the service", "Reaching a real server."),
        key(
            "server",
            STATE_TIMEOUT,
            "that of the service",
            "Silence of a real server that owes bytes or does not take them.",
        ),
        key("queue", STATE_TIMEOUT, "that of the service", "Waiting for a place on a real server."),
        key(
            "tunnel",
            STATE_TIMEOUT,
            "that of the service",
            "Silence on both sides of an upgraded connection; in mode `tcp` of either side once both are connected.",
        ),
    ],
};

/// The keys that say how a pool works; in a service they describe its own servers.
pub const POOL_RULES: &[Key] = &[
    key("scheduler", SCHEDULER, "round-robin", "How a real server is picked for a new client."),
    key(
        "hash-key",
        ValueKind::Token,
        "",
        "What `header-hash`, `query-hash` and `cookie-hash` look at: the name of a header, a query parameter or a cookie. A request without it goes to any server.",
    ),
    key(
        "hash-balance-factor",
        ValueKind::Integer { min: 0, max: 10_000 },
        "0",
        "Layer 7, of schedulers that hash: percent of its fair share of connections that a real server takes at most, such as 150; what is more goes to the next one in the table. 0 is no bound.",
    ),
    key(
        "hash-table",
        ValueKind::Choice(&[word("maglev"), word("modulo")]),
        "maglev",
        "Of `uri-hash`, `header-hash`, `query-hash` and `cookie-hash`: how a server is found by a hash. With `maglev` a change of the servers moves few keys. `modulo` divides the hash of sdbm by the number of servers: the same server as HAProxy's usual `hash-type map-based sdbm` has for a key, but a change moves most of them.",
    ),
    key("resolve", RESOLVE, "", "What is taken of the answers for real servers that are written by name."),
    key(
        "discover",
        DISCOVER,
        "[]",
        "Lists that further real servers are taken from; see [names and discovery](discovery.md).",
    ),
    key("persistence", PERSISTENCE, "", "Keeps a client on one real server."),
    key("health-check", HEALTH_CHECK, "{ type = \"tcp\" }", "How real servers are probed."),
    key(
        "slow-start",
        duration(0, DAY_MS),
        "0s",
        "How long a server that came up takes to reach its full weight.",
    ),
    key(
        "abort-on-close",
        ValueKind::Flag,
        "false",
        "A client that closes its sending side while its request waits for a real server, or for the answer, has left: the request is given up. Without it such a client gets its answer; one that resets its connection has left in any case.",
    ),
    key(
        "quorum",
        ValueKind::Integer { min: 0, max: 10_000_000 },
        "0",
        "Weight that the real servers that can take clients must have together, backups not counted. With less, backups take the clients, if one can; the service counts as down (or as served by its backups) and alerts say so. Without a backup the servers that are left go on.",
    ),
    key(
        "backups",
        ValueKind::Choice(&[word("all"), word("first")]),
        "all",
        "Layer 7: where clients go while backups alone can take them: to `all` of them, or to the `first` in the written order.",
    ),
    key(
        "retry-pause",
        duration(0, 60_000),
        "0s",
        "Before a further attempt on the same real server, where there is no other. With one, a server that refuses is not left out while it is the only one.",
    ),
    key(
        "retries",
        ValueKind::Integer { min: 0, max: 10 },
        "3",
        "Further attempts after a failed connection, on another server where there is one.",
    ),
    key(
        "retry-on",
        ValueKind::List(&ValueKind::Choice(&[
            word("no-answer"),
            word("bad-answer"),
            word("timeout"),
            word("401"),
            word("403"),
            word("404"),
            word("408"),
            word("425"),
            word("429"),
            word("500"),
            word("501"),
            word("502"),
            word("503"),
            word("504"),
        ])),
        "[\"no-answer\"]",
        "What else makes a further attempt: the connection ends before an answer comes, the answer cannot be read, none comes in time, or it has one of these statuses. Only requests that may be sent twice are (GET, HEAD, OPTIONS, TRACE, PUT, DELETE; RFC 9110, section 9.2.2), and only while they are held whole, up to 16 KiB.",
    ),
    key(
        "connection-reuse",
        ValueKind::Choice(&[word("all"), word("client")]),
        "all",
        "Who uses a kept connection to a real server again: requests of all clients, or only those of the client connection that it was made for. One on which NTLM or Negotiate was spoken, or whose server was told the client's address, is its client's in any case.",
    ),
    key(
        "same-address",
        ValueKind::Flag,
        "false",
        "Several real servers of the pool may have one address. It is a mistake otherwise.",
    ),
    key(
        "full-connections",
        ValueKind::Integer { min: 0, max: 10_000_000 },
        "0",
        "Clients of the pool, waiting ones among them, at which each server has all of its `max-connections`. With fewer a server that has `min-connections` has its share of them, and no less than `min-connections`: what comes at once waits here, and servers work on little at a time until there is much to do.",
    ),
    key(
        "max-queue",
        ValueKind::Integer { min: 0, max: 1_000_000 },
        "10000",
        "Clients that may wait for a place on a real server.",
    ),
    key(
        "server-http",
        ValueKind::Choice(&[word("1.1"), word("2")]),
        "1.1",
        "HTTP version towards real servers; `2` without `server-tls` is spoken by prior knowledge.",
    ),
    key("server-tls", ValueKind::Table(&SERVER_TLS), "", "Real servers speak TLS."),
    key(
        "send-proxy",
        ValueKind::Choice(&[word("v1"), word("v2")]),
        "",
        "Real servers get a PROXY protocol header with the client's address first.",
    ),
    key(
        "send-proxy-values",
        ValueKind::Map(&ValueKind::Template),
        "",
        "Values of that header in version 2, by their kinds (`0x05` an identity, `0xE0` to `0xEF` your own): `{ 0xE1 = \"{header:X-Tenant}\" }`. One that asks for what is not there is not sent. Requests with other values get another connection.",
    ),
    key(
        "source",
        ValueKind::Source,
        "",
        "The address that real servers see: one of this machine, or `client` for the client's own (full transparency, needs CAP_NET_ADMIN).",
    ),
    key(
        "server-tcp-keep-alive",
        ValueKind::Table(&TCP_KEEP_ALIVE),
        "",
        "The kernel asks a silent real server whether it is still there; `{}` is every two hours.",
    ),
    key(
        "server-tcp-user-timeout",
        duration(1, 3_600_000),
        "as the kernel has it",
        "A connection ends when what was sent to its real server has not been acknowledged for so long.",
    ),
    key("source-interface", ValueKind::Token, "", "Network interface to reach real servers through."),
    key(
        "on-marked-down",
        ValueKind::Choice(&[word("keep"), word("close")]),
        "keep",
        "What becomes of connections whose real server goes down.",
    ),
    key(
        "on-marked-up",
        ValueKind::Choice(&[word("keep"), word("close-backups")]),
        "keep",
        "What becomes of connections with backups when a server that is none can take clients again.",
    ),
    key(
        "on-removal",
        ValueKind::Choice(&[word("keep"), word("close")]),
        "keep",
        "Layer 4: what becomes of connections whose real server leaves the configuration.",
    ),
    key(
        "outlier",
        ValueKind::Table(&OUTLIER),
        "",
        "A pause for real servers that pass their checks but fail their clients.",
    ),
];

const SCHEDULER: ValueKind = ValueKind::Choice(&[
    word("round-robin"),
    word("weighted-round-robin"),
    word("least-connections"),
    word("weighted-least-connection"),
    word("source-hash"),
    word("uri-hash"),
    word("maglev"),
    word("random"),
    word("first"),
    word("shortest-expected-delay"),
    word("never-queue"),
    word("destination-hash"),
    word("header-hash"),
    word("query-hash"),
    word("cookie-hash"),
    word("rdp-cookie-hash"),
    word("least-response-time"),
]);

pub static REAL_SERVER: Table = Table {
    name: "real-server",
    doc: "One real server.",
    keys: &[
        required("name", ValueKind::Name, "The name in logs, metrics and commands; unique in its pool."),
        required(
            "address",
            ValueKind::Server,
            "`ADDRESS:PORT` or `NAME:PORT`, without a port for the one that the client connected to. A name is looked up again and again: see [names and discovery](discovery.md).",
        ),
        key("resolve", RESOLVE, "the pool's", "What is taken of the answers for its name."),
        key("server-tls", ValueKind::Table(&OWN_TLS), "the pool's", "TLS of this real server, or none."),
        key(
            "server-http",
            ValueKind::Choice(&[word("1.1"), word("2")]),
            "the pool's",
            "HTTP version towards this real server.",
        ),
        key(
            "send-proxy",
            ValueKind::Choice(&[word("v1"), word("v2"), word("none")]),
            "the pool's",
            "The PROXY protocol header that this real server gets, or `none`.",
        ),
        key(
            "weight",
            ValueKind::Integer { min: 0, max: 65535 },
            "100",
            "Its share beside the other servers; 0 takes no new clients.",
        ),
        key(
            "min-connections",
            ValueKind::Integer { min: 0, max: 10_000_000 },
            "0",
            "Modes `http` and `tcp`: its places while the pool has little to do; they grow to `max-connections` at the pool's `full-connections`. Layer 4: connections below which a server that was full takes clients again; 0 is three quarters of `max-connections`.",
        ),
        key(
            "max-connections",
            ValueKind::Integer { min: 0, max: 10_000_000 },
            "0",
            "Requests (http) or connections at a time; 0 is no limit. Over it clients wait in the queue, or go to other servers in layer 4.",
        ),
        key(
            "backup",
            ValueKind::Flag,
            "false",
            "Takes clients only while no other server of the pool can. Persistence does not remember it, unless it `keeps-clients`: they go back as soon as another server can take them.",
        ),
        key(
            "keeps-clients",
            ValueKind::Flag,
            "false",
            "Persistence remembers a backup like another server: clients that came to it stay when the others are back, and its cookie brings clients to it.",
        ),
        key(
            "non-stick",
            ValueKind::Flag,
            "false",
            "Persistence never remembers it: no cookie, no entry of a table and no broker's token keeps a client on it.",
        ),
        key(
            "admin-state",
            ValueKind::Choice(&[word("online"), word("draining"), word("halted")]),
            "online",
            "The state it starts in.",
        ),
        key(
            "check",
            ValueKind::Flag,
            "true",
            "The pool's health check probes it; without, only refused connections count.",
        ),
        key(
            "health-check",
            ValueKind::Table(&SERVER_CHECK),
            "",
            "What is this server's own in the pool's health check, such as `{ port = 8008 }`.",
        ),
        key(
            "source",
            ValueKind::Source,
            "",
            "The address that this real server sees, where that is not the pool's; `own` is this machine's usual one.",
        ),
        key(
            "cookie",
            ValueKind::Token,
            "its name",
            "What a persistence cookie names it by: clients that another load balancer gave a cookie stay where they are.",
        ),
    ],
};

pub static TCP_KEEP_ALIVE: Table = Table {
    name: "tcp-keep-alive",
    doc: "TCP keep-alive: the kernel asks a silent peer whether it is still there.",
    keys: &[
        key("idle", duration(1_000, 9 * 3_600_000), "2h", "Silence before the first question."),
        key(
            "interval",
            duration(1_000, 9 * 3_600_000),
            "75s",
            "From one question without an answer to the next.",
        ),
        key(
            "probes",
            ValueKind::Integer { min: 1, max: 127 },
            "9",
            "Questions without an answer that end the connection.",
        ),
    ],
};

static OUTLIER: Table = Table {
    name: "outlier",
    doc: "A pause for real servers that pass their checks but fail their clients.",
    keys: &[
        key(
            "failures",
            ValueKind::Integer { min: 1, max: 10_000 },
            "5",
            "Failures in a row: no connection, no answer, a broken one, or a status of 500 and above.",
        ),
        key(
            "pause",
            duration(100, DAY_MS),
            "10s",
            "The first pause; the second is twice as long, and so on up to ten times.",
        ),
        key(
            "max-percent",
            ValueKind::Integer { min: 1, max: 100 },
            "50",
            "Share of the pool that may be paused at a time.",
        ),
    ],
};

/// What one real server has of its own.
static OWN_TLS: Table = Table {
    name: "server-tls",
    doc: "TLS of this real server, where it is not as the pool says. What is not given here is the pool's.",
    keys: &join::<{ ENABLED.len() + SERVER_TLS.keys.len() }>(ENABLED, SERVER_TLS.keys),
};

const ENABLED: &[Key] =
    &[key("enabled", ValueKind::Flag, "true", "`false`: this real server speaks no TLS.")];

static SERVER_TLS: Table = Table {
    name: "server-tls",
    doc: "Real servers speak TLS.",
    keys: &[
        VERIFY,
        VERIFY_NAME,
        CA,
        CRL,
        key(
            "sni",
            ValueKind::ServerName,
            "",
            "Host name to ask for and to verify; the server's address when absent. `{host}` is the host of the request as it goes to the server, `{sni}` what the client asked for over TLS: a connection is then used for one name alone.",
        ),
        CERTIFICATE,
    ],
};

/// What checks speak.
pub static CHECK_TLS: Table = Table {
    name: "tls",
    doc: "The check speaks TLS.",
    keys: &[
        key(
            "enabled",
            ValueKind::Flag,
            "true",
            "`false`: the check speaks no TLS, where real servers do: for checks of another port.",
        ),
        VERIFY,
        VERIFY_NAME,
        CA,
        CRL,
        key(
            "sni",
            ValueKind::Token,
            "",
            "Host name to ask for and to verify; the server's address when absent.",
        ),
        CERTIFICATE,
    ],
};

const VERIFY: Key =
    key("verify", ValueKind::Flag, "true", "Use no real server whose certificate does not hold.");
const VERIFY_NAME: Key = key(
    "verify-name",
    ValueKind::Flag,
    "true",
    "The certificate must be for the name that is asked for. `false`: any that one of the authorities signed will do; with the system's authorities that is anybody's.",
);
const CA: Key =
    key("ca", ValueKind::File, "", "PEM file of the authorities to trust; the system's when absent.");
const CRL: Key = key(
    "crl",
    ValueKind::File,
    "",
    "Lists of certificates that their authorities have taken back, PEM or DER: a real server with one of those is not used. Authorities without a list are taken at their word.",
);
const CERTIFICATE: Key =
    key("certificate", ValueKind::File, "", "PEM file with certificate and key to show to real servers.");

const DRAINED: Key = key(
    "drained",
    ValueKind::Choice(&[word("stay"), word("move")]),
    "stay",
    "What becomes of clients that belong to a draining server: they stay until they have left, or move to another server with their next request or connection.",
);
const EXPIRE: Key =
    key("expire", duration(1_000, 365 * DAY_MS), "1h", "How long an entry stays after its last use.");
const ENTRIES: Key = key("size", SIZE, "65536", "Entries at most; the oldest give way.");

const PERSISTENCE: ValueKind = ValueKind::Typed(&[
    Variant {
        word: "source",
        doc: "By the client's address.",
        keys: &[
            key(
                "mask",
                ValueKind::Integer { min: 0, max: 32 },
                "32",
                "Leading bits of an IPv4 address that make one client.",
            ),
            key(
                "mask6",
                ValueKind::Integer { min: 0, max: 128 },
                "128",
                "Leading bits of an IPv6 address that make one client.",
            ),
            key(
                "timeout",
                duration(1_000, 365 * DAY_MS),
                "5m",
                "How long an entry stays after its last use.",
            ),
            key(
                "size",
                ValueKind::Integer { min: 16, max: 16_777_216 },
                "65536",
                "Entries at most; the oldest give way.",
            ),
            DRAINED,
        ],
    },
    Variant {
        word: "cookie",
        doc: "By a cookie that names the real server.",
        keys: &[
            key("name", ValueKind::Token, "SERVERID", "Name of the cookie."),
            key(
                "method",
                ValueKind::Choice(&[word("insert"), word("rewrite"), word("prefix"), word("passive")]),
                "insert",
                "`insert`: the load balancer sets the cookie. `rewrite`: the real server sets it, its value becomes the server's name. `prefix`: the server's name and `~` come before the value of the application's cookie. `passive`: the application itself names the server.",
            ),
            key(
                "indirect",
                ValueKind::Flag,
                "false",
                "The real server never sees the cookie, and clients that have it get no new one.",
            ),
            key(
                "nocache",
                ValueKind::Flag,
                "false",
                "Responses that set the cookie are marked `Cache-control: private`.",
            ),
            key("httponly", ValueKind::Flag, "false", "Scripts in the page cannot read the cookie."),
            key("secure", ValueKind::Flag, "false", "The cookie travels over TLS only."),
            key(
                "samesite",
                ValueKind::Choice(&[word("strict"), word("lax"), word("none")]),
                "",
                "The cookie's SameSite attribute. Browsers refuse a cookie with `none` that is not `secure`.",
            ),
            key(
                "domains",
                ValueKind::List(&ValueKind::Token),
                "[]",
                "The cookie's Domain attribute; of several, one cookie is set for each, and a browser keeps those of its own host.",
            ),
            key("postonly", ValueKind::Flag, "false", "Set the cookie in answers to POST requests alone."),
            key(
                "max-idle",
                duration(1_000, 3650 * DAY_MS),
                "",
                "The cookie counts no longer so long after its last use.",
            ),
            key(
                "max-life",
                duration(1_000, 3650 * DAY_MS),
                "",
                "The cookie counts no longer so long after it was first set.",
            ),
            DRAINED,
        ],
    },
    Variant {
        word: "rdp-cookie",
        doc: "By the user name that an RDP client sends (`mstshash`; Windows cuts it at nine characters, domain included), by the token of a Connection Broker (`msts`) where it names a server of the pool, else by the client's address.",
        keys: &[EXPIRE, ENTRIES, DRAINED],
    },
    Variant {
        word: "tls-session-id",
        doc: "By the session that a TLS client resumes, in connections that are passed through unopened. TLS 1.3 has no such id: its clients, and those with none yet, are kept by their address.",
        keys: &[EXPIRE, ENTRIES, DRAINED],
    },
    Variant {
        word: "header",
        doc: "By a header of the request.",
        keys: &[required("name", ValueKind::Token, "Name of the header."), EXPIRE, ENTRIES, DRAINED],
    },
    Variant {
        word: "query",
        doc: "By a parameter of the request's query.",
        keys: &[required("name", ValueKind::Token, "Name of the parameter."), EXPIRE, ENTRIES, DRAINED],
    },
    Variant {
        word: "destination",
        doc: "By the address that clients came to: all clients of one VIP are on one real server, and stay there until it is down. With its entry on another server they stay on that one, also when the first comes back.",
        keys: &[EXPIRE, ENTRIES, DRAINED],
    },
    Variant {
        word: "app-cookie",
        doc: "By a cookie of the application, learned from its answers.",
        keys: &[required("name", ValueKind::Token, "Name of the cookie."), EXPIRE, ENTRIES, DRAINED],
    },
]);
