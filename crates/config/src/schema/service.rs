//! Keys of a virtual service.

use super::log::{LINES, TARGET};
use super::pool::{COMPRESSION, POOL_RULES, REAL_SERVER, TCP_KEEP_ALIVE};
use super::route::{ANSWER_ROUTE, ROUTE};
use super::{DAY_MS, Key, STATE_TIMEOUT, Table, ValueKind, duration, join, key, line, required, word};

pub static SERVICE: Table = Table {
    name: "virtual-service",
    doc: "VIPs and ports, and how they are handled.",
    keys: &join::<{ OWN.len() + POOL_RULES.len() }>(OWN, POOL_RULES),
};

const OWN: &[Key] = &[
    required("name", ValueKind::Name, "The name in logs, metrics and commands."),
    required(
        "vip",
        ValueKind::List(&ValueKind::Vip),
        "Addresses with ports: `ADDRESS:80`, `ADDRESS:80,443`, `ADDRESS:6000-6100`; `*:80` is all addresses, `0.0.0.0:80` and `[::]:80`.",
    ),
    required(
        "mode",
        ValueKind::Choice(&[word("http"), word("tcp"), word("dr"), word("nat"), word("tun"), word("snat")]),
        "`http` reads requests, `tcp` relays bytes; `dr`, `nat`, `tun` and `snat` forward packets in the kernel (layer 4).",
    ),
    key(
        "protocol",
        ValueKind::Choice(&[word("tcp"), word("udp"), word("both")]),
        "tcp",
        "Layer 4: transport protocol of the service.",
    ),
    key(
        "tunnel",
        ValueKind::Choice(&[word("ipip"), word("gue")]),
        "ipip",
        "Mode `tun`: `ipip` (also IPv6 in either place), or `gue` (in UDP, port 6080).",
    ),
    key(
        "source-addresses",
        ValueKind::List(&ValueKind::Address),
        "that of the route",
        "Mode `snat`: addresses of this machine that real servers see.",
    ),
    key(
        "source-ports",
        ValueKind::Ports,
        "1024-32767",
        "Mode `snat`: ports of those addresses; each real server can have as many connections as addresses times ports.",
    ),
    key(
        "auto-nat",
        ValueKind::Flag,
        "false",
        "Mode `nat`: connections that the real servers open themselves leave with this machine's address.",
    ),
    key(
        "auto-nat-addresses",
        ValueKind::List(&ValueKind::Address),
        "the kernel's choice",
        "The addresses of this machine that these connections leave with, one of IPv4, one of IPv6, or both. A server of several services has that of the first that names one.",
    ),
    key(
        "tcp-keep-alive",
        ValueKind::Table(&TCP_KEEP_ALIVE),
        "",
        "The kernel asks a silent client whether it is still there; `{}` is every two hours.",
    ),
    key(
        "tcp-user-timeout",
        duration(1, 3_600_000),
        "as the kernel has it",
        "A connection ends when what was sent to its client has not been acknowledged for so long: a client that is gone is not waited for.",
    ),
    key(
        "tcp-mss",
        ValueKind::Integer { min: 88, max: 32767 },
        "as the kernel has it",
        "The largest TCP segment that clients are told of and sent, where a tunnel on the way has room for less.",
    ),
    key(
        "protection",
        ValueKind::Table(&PROTECTION),
        "",
        "Layer 4: limits on new connections, before they cost an entry.",
    ),
    key("tls", ValueKind::Table(&TLS), "", "Clients speak TLS: certificates and policy."),
    key("route", ValueKind::Tables(&ROUTE), "", "Which requests go to which pool or get which answer."),
    key("answer-route", ValueKind::Tables(&ANSWER_ROUTE), "", "What is done with answers."),
    key(
        "pool",
        ValueKind::Name,
        "",
        "The pool that clients go to, when the servers are not written inside the service.",
    ),
    key("timeouts", ValueKind::Table(&TIMEOUTS), "", "How long each state of a connection may last."),
    key(
        "forwarded",
        ValueKind::List(&ValueKind::Choice(&[
            word("x-forwarded-for"),
            word("x-forwarded-proto"),
            word("x-forwarded-host"),
            word("x-forwarded-port"),
            word("x-real-ip"),
            word("forwarded"),
        ])),
        "[]",
        "Headers that tell the real server about the client.",
    ),
    key("fallback", ValueKind::Table(&FALLBACK), "", "Where clients go when no real server is left."),
    key(
        "max-connections",
        ValueKind::Integer { min: 0, max: 10_000_000 },
        "0",
        "Client connections of this service; 0 is no limit of its own.",
    ),
    key(
        "proxy-protocol-from",
        ValueKind::List(&ValueKind::Network),
        "",
        "Networks whose connections must begin with a PROXY protocol header (v1 or v2), whose addresses are then used.",
    ),
    key(
        "client-address",
        ValueKind::Table(&CLIENT_ADDRESS),
        "",
        "Mode `http`: where a CDN or another proxy says who the client is.",
    ),
    key(
        "max-body",
        ValueKind::Size { min: 0, max: 1 << 50 },
        "",
        "Size of a request's body; larger ones get a 413.",
    ),
    key(
        "head-size",
        ValueKind::Size { min: 1 << 10, max: 1 << 20 },
        "16KiB",
        "Mode `http`: how long the head of a request, or of an answer to one, may be (a header list, in HTTP/2): cookies, tokens of Kerberos, SAML. A request with a longer one gets a 431, a longer answer becomes a 502. What is more than 16 KiB is held only while such a head is on its way, and only while less than half of the memory for buffers is in use; otherwise the request gets a 503.",
    ),
    key(
        "normalize",
        ValueKind::Choice(&[word("match"), word("forward"), word("off")]),
        "match",
        "Other spellings of a path (`%61`, `//`, `/./`, `/x/../`, `;a=b`) and host (upper case, final dot): `match` shows conditions the normal form and sends the server what came, `forward` sends the normal form, `off` compares what came.",
    ),
    key(
        "unclear-paths",
        ValueKind::Choice(&[word("refuse"), word("pass")]),
        "refuse",
        "Paths with `%2F`, `%5C`, `%00`, a backslash, `%uXXXX` or UTF-8 that is longer than it need be (`%C0%AF`), which servers read differently, where a route looks at paths: they get a 400, or pass.",
    ),
    key(
        "request-heads",
        ValueKind::Choice(&[word("strict"), word("wide"), word("loose")]),
        "strict",
        "Which heads of HTTP/1 are taken: `strict` wants a Host in HTTP/1.1, a target of http or https whose host is that of Host, and one way to tell a body's end, and sends servers the path alone of a target with a host. `wide` takes what HAProxy takes: no Host, another scheme, a user in the target, Content-Length beside chunks (it is dropped and the connection ends), Host twice with the same value; targets go on as they came. `loose` takes targets with a fragment or with another host than Host as well.",
    ),
    key(
        "close-after-answer",
        ValueKind::Flag,
        "false",
        "Close the client's connection behind each answer (HTTP/1): for clients that must not keep connections, or to have each request balanced by the network in front anew. Without it connections are kept.",
    ),
    key(
        "request-trailers",
        ValueKind::Flag,
        "false",
        "Pass on what clients send behind a chunked body. Without it only gRPC over HTTP/2 on both sides keeps trailers.",
    ),
    key(
        "compression",
        ValueKind::Table(&COMPRESSION),
        "",
        "Mode `http`: answers are compressed for clients that take it, whatever pool they come from, unless that one has its own.",
    ),
    key(
        "wait-for-body",
        ValueKind::Flag,
        "false",
        "Wait for the body of a request before routes are asked and a server is chosen: `body` can be asked then, up to what a buffer of 16 KiB holds beside the head. A client that does not send it in `timeouts.request` gets a 408.",
    ),
    key(
        "error-pages",
        ValueKind::Map(&ValueKind::File),
        "",
        "Files that clients get instead of this program's own words: `{ 503 = \"/etc/evenkeel/503.html\" }`. A file that is a whole HTTP answer gives its head as well; an empty one closes the connection without a word.",
    ),
    key(
        "error-answers",
        ValueKind::Map(&ERROR_ANSWER),
        "",
        "The same written out, and redirects: `{ 503 = { status = 302, headers = { Location = \"https://sorry.example.org/\" } } }`. They come before files.",
    ),
    key("log-format", ValueKind::LogFormat, "that of [log]", "Of the service's lines in the access log."),
    key("log", ValueKind::Tables(&TARGET), "those of [log]", "Where its lines go. `log = []` writes none."),
    key("log-lines", ValueKind::Table(&LINES), "", "Which lines it has, and when."),
    key("real-server", ValueKind::Tables(&REAL_SERVER), "", "Real servers of this service alone."),
];

const ERROR_ANSWER: ValueKind = ValueKind::Table(&ERROR_ANSWER_KEYS);

static ERROR_ANSWER_KEYS: Table = Table {
    name: "error-answers",
    doc: "What clients get instead of this program's own words for a status.",
    keys: &[
        key(
            "status",
            ValueKind::Integer { min: 200, max: 599 },
            "that status",
            "The status that clients get.",
        ),
        key("content-type", line(255), "text/html; charset=utf-8", "The type of the body."),
        key("headers", ValueKind::Map(&line(4096)), "", "Headers of the answer."),
        key("body", ValueKind::Text { max: 65536, lines: true }, "", "The body."),
    ],
};

static CLIENT_ADDRESS: Table = Table {
    name: "client-address",
    doc: "A request of a trusted peer counts as from the client that its header names: in routes, tables, limits, persistence, schedulers, forwarded headers and lines. PROXY headers for servers and `source = \"client\"` have the connection's own address. From others the header is not looked at, and a text that is no address changes nothing.",
    keys: &[
        required("header", ValueKind::Token, "`CF-Connecting-IP`, `X-Forwarded-For`, `Forwarded`."),
        required(
            "trusted",
            ValueKind::List(&ValueKind::NetworkOrFile),
            "Networks of the CDN or proxy, and files with one a line, which are read again when they change.",
        ),
        key(
            "last",
            ValueKind::Choice(&[word("untrusted"), word("always")]),
            "untrusted",
            "Which address of several counts: the last one that is not trusted itself, or always the last.",
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
            "Silence on both sides of a WebSocket or another upgraded connection. Where it is written in mode `tcp`: of either side once both are connected, in the place of `client` and `server`.",
        ),
        key("syn", STATE_TIMEOUT, "30s", "Layer 4: a first segment, until the client's next one."),
        key("established", duration(1_000, 7 * DAY_MS), "1h", "Layer 4: silence of a TCP connection."),
        key(
            "closing",
            STATE_TIMEOUT,
            "2m",
            "Layer 4: silence after one side has ended (in `dr` and `tun`: the client).",
        ),
        key("closed", STATE_TIMEOUT, "10s", "Layer 4: after a reset, or the end of both sides."),
        key("udp", STATE_TIMEOUT, "5m", "Layer 4: silence of a UDP flow."),
    ],
};

static PROTECTION: Table = Table {
    name: "protection",
    doc: "Limits on new connections, before they cost an entry in the table.",
    keys: &[
        key("new-connections", ValueKind::Rate, "", "New connections of the service: `20000/s`."),
        key(
            "per-source",
            ValueKind::Rate,
            "",
            "New connections of one client address (IPv4) or /64 network (IPv6): `100/s`.",
        ),
        key(
            "syn-cookies",
            ValueKind::Choice(&[word("over-rate"), word("always"), word("off")]),
            "over-rate",
            "Modes `nat` and `snat`: over `new-connections` (or always) clients of TCP are asked to prove their address, without an entry in the table, in place of being dropped.",
        ),
    ],
};

static FALLBACK: Table = Table {
    name: "fallback",
    doc: "Where clients go when no real server is left: a page (http), or a server.",
    keys: &[
        key("status", ValueKind::Integer { min: 200, max: 599 }, "503", "Status of the page."),
        key("body", ValueKind::Text { max: 65_536, lines: true }, "", "Body of the page."),
        key(
            "content-type",
            line(256),
            "text/plain; charset=utf-8",
            "Type of the page; a body that starts with `<` is `text/html` unless said otherwise.",
        ),
        key("server", ValueKind::Listen, "", "A server that takes the clients instead."),
    ],
};

static TLS: Table = Table {
    name: "tls",
    doc: "Clients speak TLS.",
    keys: &[
        key(
            "certificates",
            ValueKind::List(&ValueKind::File),
            "",
            "PEM files (chain and key; the key may be in FILE.key) and folders of them. The first is for clients that name no known host. A file NAME.ocsp beside one is stapled. `FILE.rsa` and `FILE.ecdsa` are read where FILE is not there.",
        ),
        key(
            "certificate-list",
            ValueKind::File,
            "",
            "A file with more of them, one a line: `FILE NAME…`, as HAProxy's crt-list without options. Without names it is for those in the certificate; `*.example.org` is any one label, `!NAME` is not for it. `#` begins a comment; a FILE without a folder lies beside the list.",
        ),
        key(
            "acme",
            ValueKind::Name,
            "",
            "The authority that gives this service its certificate: the name of an [[acme]], or `letsencrypt`, `letsencrypt-staging`, `zerossl`, `google`, `google-staging`, `buypass`. Ordered and renewed by itself.",
        ),
        key(
            "names",
            ValueKind::CertificateNames,
            "",
            "What that certificate is for: host names, wildcards, addresses; `\"routes\"` takes the hosts that the service's routes name in `host(\"…\")`.",
        ),
        key(
            "min-version",
            ValueKind::Choice(&[word("1.2"), word("1.3")]),
            "1.2",
            "The oldest TLS that is spoken.",
        ),
        key(
            "max-version",
            ValueKind::Choice(&[word("1.2"), word("1.3")]),
            "1.3",
            "The newest TLS that is spoken. `1.2` is for clients that fail where a newer one is offered.",
        ),
        key(
            "policy",
            ValueKind::Choice(&[word("modern"), word("intermediate")]),
            "intermediate",
            "`modern`: TLS 1.3 alone. `intermediate`: TLS 1.2 too, with forward secrecy and authenticated encryption. Both offer the post-quantum key exchange X25519MLKEM768.",
        ),
        key(
            "alpn",
            ValueKind::List(&ValueKind::Choice(&[word("h2"), word("http/1.1")])),
            "[\"h2\", \"http/1.1\"] in mode http",
            "Protocols offered, the preferred one first.",
        ),
        key("strict-sni", ValueKind::Flag, "false", "Refuse clients that name no host of a certificate."),
        key("client-auth", ValueKind::Table(&CLIENT_AUTH), "", "Clients show certificates."),
        key(
            "ports",
            ValueKind::List(&ValueKind::Integer { min: 1, max: 65535 }),
            "all of the service",
            "The ports of `vip` whose clients speak TLS; clients of the others do not: one service for HTTP and HTTPS.",
        ),
        key(
            "vips",
            ValueKind::List(&ValueKind::Vip),
            "all of the service",
            "In the place of `ports`, where a port speaks TLS at one address and not at another: the entries of `vip` whose clients speak TLS.",
        ),
    ],
};

static CLIENT_AUTH: Table = Table {
    name: "client-auth",
    doc: "Clients show certificates.",
    keys: &[
        required("ca", ValueKind::File, "PEM file of the authorities that vouch for clients."),
        key(
            "verify-ca",
            ValueKind::File,
            "",
            "PEM file of further authorities that vouch for clients; clients are told of those in `ca` alone.",
        ),
        key("crl", ValueKind::File, "", "Revoked certificates: a list of the authority, PEM or DER."),
        key(
            "mode",
            ValueKind::Choice(&[word("required"), word("optional")]),
            "required",
            "`optional` serves clients without a certificate too; a bad one is refused, but for what `ignore` names.",
        ),
        key(
            "ignore",
            ValueKind::List(&ValueKind::Choice(&[
                word("all"),
                word("expired"),
                word("not-yet-valid"),
                word("revoked"),
                word("unknown-issuer"),
                word("bad-signature"),
                word("wrong-use"),
                word("no-revocation-list"),
                word("revocation-list-expired"),
                word("other"),
            ])),
            "[]",
            "What may be wrong with a client's own certificate and lets it in all the same: routes must ask for it, `client-certificate(\"verify\", \"0\")` is a good one. A certificate out of its dates must have been good before, and `wrong-use` and `other` count with `unknown-issuer` alone, since they are seen before who signed it. Nothing of such a client is proven but that it has the certificate's key, and `headers` say nothing of it.",
        ),
        key(
            "headers",
            ValueKind::Flag,
            "true",
            "Tell the real server who the client is: X-Client-Cert-Subject, -Issuer, -CN, -Serial, -Fingerprint. What clients send under these names is removed.",
        ),
    ],
};
