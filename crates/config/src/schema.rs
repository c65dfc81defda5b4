//! Every key of the configuration, once: the validator, the JSON Schema and the reference page
//! are made from this table.

/// What a value must look like.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
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
    File,
    /// `200`, `200-399`, `200,404`
    Statuses,
    HttpPath,
    /// A token of RFC 9110.
    Token,
    /// `stdout`, `off`, `syslog:ADDRESS:PORT` or a file.
    AccessLog,
    List(&'static Kind),
    Table(&'static Table),
    Tables(&'static Table),
    /// A table whose `type` says which other keys it has.
    Typed(&'static [Variant]),
}

/// Whether the running program does what the key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Available {
    Now,
    /// Known, refused, and never silently accepted.
    NotYet,
}

#[derive(Debug)]
pub struct Word {
    pub word: &'static str,
    pub available: Available,
}

#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub default: &'static str,
    pub doc: &'static str,
    pub available: Available,
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
    pub available: Available,
    pub keys: &'static [Key],
}

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, required: false, default, doc, available: Available::Now }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, required: true, default: "", doc, available: Available::Now }
}

const fn later(name: &'static str, doc: &'static str) -> Key {
    let kind = Kind::Text { max: 0, lines: false };
    Key { name, kind, required: false, default: "", doc, available: Available::NotYet }
}

const fn word(word: &'static str) -> Word {
    Word { word, available: Available::Now }
}

const fn later_word(word: &'static str) -> Word {
    Word { word, available: Available::NotYet }
}

const fn line(max: usize) -> Kind {
    Kind::Text { max, lines: false }
}

const fn duration(min_ms: u64, max_ms: u64) -> Kind {
    Kind::Duration { min_ms, max_ms }
}

const DAY_MS: u64 = 86_400_000;
const STATE_TIMEOUT: Kind = duration(1, 7 * DAY_MS);

pub static ROOT: Table = Table {
    name: "",
    doc: "The whole file.",
    keys: &[
        key("admin", Kind::Table(&ADMIN), "", "How the program is administered."),
        key("state", Kind::Table(&STATE), "", "Where the program keeps what must survive a restart."),
        key("log", Kind::Table(&LOG), "", "The access log."),
        key("limits", Kind::Table(&LIMITS), "", "Bounds of the whole program."),
        key("virtual-service", Kind::Tables(&SERVICE), "", "VIPs and ports, and how they are handled."),
        key("pool", Kind::Tables(&POOL), "", "Real servers that several services can share."),
        later("pair", "Two nodes that share floating IPs."),
    ],
};

static ADMIN: Table = Table {
    name: "admin",
    doc: "How the program is administered.",
    keys: &[
        later("listen", "HTTPS addresses of the web UI and the REST API."),
        key(
            "plain-listen",
            Kind::List(&Kind::Listen),
            "[]",
            "HTTP addresses that serve `/metrics` and `/healthz` to the networks of `metrics-allow`.",
        ),
        key(
            "socket",
            Kind::File,
            "/run/evenkeel/admin.sock",
            "The Unix socket that the command line talks to; only its owner may use it.",
        ),
        key(
            "metrics-allow",
            Kind::List(&Kind::Network),
            "[\"127.0.0.0/8\", \"::1/128\"]",
            "Networks that may read `/metrics` and `/healthz`.",
        ),
    ],
};

static STATE: Table = Table {
    name: "state",
    doc: "Where the program keeps what must survive a restart.",
    keys: &[key(
        "directory",
        Kind::File,
        "/var/lib/evenkeel",
        "Admin states, live weights and the last revision number are kept here.",
    )],
};

static LOG: Table = Table {
    name: "log",
    doc: "The access log: one line a request (http) or a connection (tcp).",
    keys: &[
        key(
            "format",
            Kind::Choice(&[word("haproxy"), word("json")]),
            "haproxy",
            "HAProxy's HTTP and TCP formats byte for byte, or one JSON object a line.",
        ),
        key(
            "access",
            Kind::AccessLog,
            "off",
            "`stdout`, `off`, `syslog:ADDRESS:PORT` (UDP), or the path of a file.",
        ),
    ],
};

static LIMITS: Table = Table {
    name: "limits",
    doc: "Bounds of the whole program.",
    keys: &[
        key(
            "max-connections",
            Kind::Integer { min: 1, max: 10_000_000 },
            "40000",
            "Client connections at a time; further ones wait in the kernel.",
        ),
        key(
            "workers",
            Kind::Integer { min: 0, max: 256 },
            "0",
            "Threads that move traffic, one event loop each; 0 is one a core.",
        ),
        key(
            "buffer-memory",
            Kind::Size { min: 1 << 20, max: 1 << 40 },
            "256MiB",
            "Memory for bytes in flight; when it is used up, new requests get a 503 instead of hurting old ones.",
        ),
    ],
};

static SERVICE: Table = Table {
    name: "virtual-service",
    doc: "VIPs and ports, and how they are handled.",
    keys: &[
        required("name", Kind::Name, "The name in logs, metrics and commands."),
        required(
            "vip",
            Kind::List(&Kind::Vip),
            "Addresses with ports: `ADDRESS:80`, `ADDRESS:80,443`, `ADDRESS:6000-6100`.",
        ),
        required(
            "mode",
            Kind::Choice(&[
                word("http"),
                word("tcp"),
                later_word("dr"),
                later_word("nat"),
                later_word("tun"),
                later_word("snat"),
            ]),
            "`http` reads requests, `tcp` relays bytes.",
        ),
        later("protocol", "Transport protocol of a layer-4 service."),
        later("tls", "Certificates and TLS policy."),
        later("route", "Which requests go to which pool or get which answer."),
        key(
            "pool",
            Kind::Name,
            "",
            "The pool that clients go to, when the servers are not written inside the service.",
        ),
        POOL_RULES[0],
        POOL_RULES[1],
        POOL_RULES[2],
        POOL_RULES[3],
        POOL_RULES[4],
        POOL_RULES[5],
        key("timeouts", Kind::Table(&TIMEOUTS), "", "How long each state of a connection may last."),
        key(
            "forwarded",
            Kind::List(&Kind::Choice(&[
                word("x-forwarded-for"),
                word("x-forwarded-proto"),
                later_word("forwarded"),
            ])),
            "[]",
            "Headers that tell the real server about the client.",
        ),
        key("fallback", Kind::Table(&FALLBACK), "", "Where clients go when no real server is left."),
        key(
            "max-connections",
            Kind::Integer { min: 0, max: 10_000_000 },
            "0",
            "Client connections of this service; 0 is no limit of its own.",
        ),
        key("real-server", Kind::Tables(&REAL_SERVER), "", "Real servers of this service alone."),
    ],
};

static POOL: Table = Table {
    name: "pool",
    doc: "Real servers that several services can share.",
    keys: &[
        required("name", Kind::Name, "The name that services refer to."),
        POOL_RULES[0],
        POOL_RULES[1],
        POOL_RULES[2],
        POOL_RULES[3],
        POOL_RULES[4],
        POOL_RULES[5],
        key("real-server", Kind::Tables(&REAL_SERVER), "", "The real servers."),
    ],
};

/// The keys that say how a pool works; in a service they describe its own servers.
pub const POOL_RULES: [Key; 6] = [
    key("scheduler", SCHEDULER, "round-robin", "How a real server is picked for a new client."),
    key("persistence", PERSISTENCE, "", "Keeps a client on one real server."),
    key("health-check", HEALTH_CHECK, "{ type = \"tcp\" }", "How real servers are probed."),
    key(
        "slow-start",
        duration(0, DAY_MS),
        "0s",
        "How long a server that came up takes to reach its full weight.",
    ),
    key(
        "retries",
        Kind::Integer { min: 0, max: 10 },
        "3",
        "Further attempts after a failed connection, on another server where there is one.",
    ),
    key(
        "max-queue",
        Kind::Integer { min: 0, max: 1_000_000 },
        "10000",
        "Clients that may wait for a place on a real server.",
    ),
];

const SCHEDULER: Kind = Kind::Choice(&[
    word("round-robin"),
    word("weighted-round-robin"),
    word("least-connections"),
    word("weighted-least-connection"),
    word("source-hash"),
    word("uri-hash"),
    word("maglev"),
    word("random"),
    word("first"),
    later_word("shortest-expected-delay"),
    later_word("never-queue"),
    later_word("destination-hash"),
    later_word("header-hash"),
    later_word("least-response-time"),
    later_word("rdp-cookie-hash"),
]);

static REAL_SERVER: Table = Table {
    name: "real-server",
    doc: "One real server.",
    keys: &[
        required("name", Kind::Name, "The name in logs, metrics and commands; unique in its pool."),
        required("address", Kind::Listen, "`ADDRESS:PORT`."),
        key(
            "weight",
            Kind::Integer { min: 0, max: 65535 },
            "100",
            "Its share beside the other servers; 0 takes no new clients.",
        ),
        later("min-connections", "Connections below which a full server takes clients again."),
        key(
            "max-connections",
            Kind::Integer { min: 0, max: 10_000_000 },
            "0",
            "Requests (http) or connections (tcp) at a time, over which clients wait in the queue; 0 is no limit.",
        ),
        key("backup", Kind::Flag, "false", "Takes clients only while no other server of the pool can."),
        key(
            "admin-state",
            Kind::Choice(&[word("online"), word("draining"), word("halted")]),
            "online",
            "The state it starts in.",
        ),
    ],
};

static TIMEOUTS: Table = Table {
    name: "timeouts",
    doc: "How long each state of a connection may last.",
    keys: &[
        key("connect", STATE_TIMEOUT, "4s", "Reaching a real server."),
        key("client", STATE_TIMEOUT, "42s", "Silence of a client that owes bytes or does not take them."),
        key(
            "server",
            STATE_TIMEOUT,
            "43s",
            "Silence of a real server that owes bytes or does not take them.",
        ),
        key("queue", STATE_TIMEOUT, "10s", "Waiting for a place on a real server."),
        key("request", STATE_TIMEOUT, "10s", "From the first byte of a request's head to its last."),
        key("keep-alive", STATE_TIMEOUT, "1m", "Between two requests of one client connection."),
        key(
            "tunnel",
            STATE_TIMEOUT,
            "1h",
            "Silence on both sides of a WebSocket or another upgraded connection.",
        ),
    ],
};

static FALLBACK: Table = Table {
    name: "fallback",
    doc: "Where clients go when no real server is left: a page (http), or a server.",
    keys: &[
        key("status", Kind::Integer { min: 200, max: 599 }, "503", "Status of the page."),
        key("body", Kind::Text { max: 65_536, lines: true }, "", "Body of the page."),
        key(
            "content-type",
            line(256),
            "text/plain; charset=utf-8",
            "Type of the page; a body that starts with `<` is `text/html` unless said otherwise.",
        ),
        key("server", Kind::Listen, "", "A server that takes the clients instead."),
    ],
};

const PERSISTENCE: Kind = Kind::Typed(&[
    Variant {
        word: "source",
        doc: "By the client's address.",
        available: Available::Now,
        keys: &[
            key(
                "mask",
                Kind::Integer { min: 0, max: 32 },
                "32",
                "Leading bits of an IPv4 address that make one client.",
            ),
            key(
                "mask6",
                Kind::Integer { min: 0, max: 128 },
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
                Kind::Integer { min: 16, max: 16_777_216 },
                "65536",
                "Entries at most; the oldest give way.",
            ),
        ],
    },
    Variant {
        word: "cookie",
        doc: "By a cookie that names the real server.",
        available: Available::Now,
        keys: &[
            key("name", Kind::Token, "SERVERID", "Name of the cookie."),
            key(
                "method",
                Kind::Choice(&[
                    word("insert"),
                    later_word("rewrite"),
                    later_word("prefix"),
                    later_word("passive"),
                ]),
                "insert",
                "`insert`: the load balancer sets the cookie.",
            ),
            key(
                "indirect",
                Kind::Flag,
                "false",
                "The real server never sees the cookie, and clients that have it get no new one.",
            ),
            key(
                "nocache",
                Kind::Flag,
                "false",
                "Responses that set the cookie are marked `Cache-control: private`.",
            ),
            key("httponly", Kind::Flag, "false", "Scripts in the page cannot read the cookie."),
            key("secure", Kind::Flag, "false", "The cookie travels over TLS only."),
            key(
                "samesite",
                Kind::Choice(&[word("strict"), word("lax"), word("none")]),
                "",
                "The cookie's SameSite attribute.",
            ),
            key("domain", Kind::Token, "", "The cookie's Domain attribute."),
        ],
    },
    Variant { word: "rdp-cookie", doc: "By the RDP cookie.", available: Available::NotYet, keys: &[] },
    Variant { word: "tls-session-id", doc: "By the TLS session.", available: Available::NotYet, keys: &[] },
    Variant { word: "header", doc: "By a header.", available: Available::NotYet, keys: &[] },
]);

const INTERVAL: Key = key("interval", duration(50, DAY_MS), "2s", "From one probe to the next.");
const TIMEOUT: Key = key("timeout", duration(10, DAY_MS), "1s", "How long a probe may take.");
const RISE: Key =
    key("rise", Kind::Integer { min: 1, max: 100 }, "2", "Passed probes in a row that bring a server up.");
const FALL: Key =
    key("fall", Kind::Integer { min: 1, max: 100 }, "3", "Failed probes in a row that take a server down.");
const PORT: Key =
    key("port", Kind::Integer { min: 1, max: 65535 }, "", "Probe this port instead of the server's own.");

const HEALTH_CHECK: Kind = Kind::Typed(&[
    Variant {
        word: "tcp",
        doc: "A connection can be opened.",
        available: Available::Now,
        keys: &[INTERVAL, TIMEOUT, RISE, FALL, PORT],
    },
    Variant {
        word: "http",
        doc: "A request gets the expected answer.",
        available: Available::Now,
        keys: &[
            INTERVAL,
            TIMEOUT,
            RISE,
            FALL,
            PORT,
            key("method", Kind::Token, "GET", "Request method."),
            key("path", Kind::HttpPath, "/", "Request target."),
            key("host", line(255), "", "`Host` header; the server's address when absent."),
            key("status", Kind::Statuses, "200-399", "Statuses that pass."),
            key("expect", line(1024), "", "Text that the first 64 KiB of the body must hold."),
        ],
    },
    Variant {
        word: "none",
        doc: "No probes; a refused connection takes a server out for `interval`.",
        available: Available::Now,
        keys: &[INTERVAL],
    },
]);
