//! Keys of names that are looked up, and of lists that real servers are taken from.

use super::{DAY_MS, Key, Table, ValueKind, Variant, duration, key, line, required, word};

const SERVERS: &ValueKind = &ValueKind::List(&ValueKind::Listen);
const YEAR_MS: u64 = 365 * DAY_MS;

pub static RESOLVER: Table = Table {
    name: "resolver",
    doc: "How the names of real servers are looked up.",
    keys: &[
        key(
            "name-servers",
            *SERVERS,
            "those of `resolv-conf`",
            "Name servers, each `ADDRESS:PORT`; the next one is asked when one fails. Eight at most.",
        ),
        key(
            "resolv-conf",
            ValueKind::File,
            "/etc/resolv.conf",
            "Where name servers, `search`, `ndots`, `timeout` and `attempts` are read from; changes are followed.",
        ),
        key(
            "hosts",
            ValueKind::File,
            "/etc/hosts",
            "Names that are known without DNS; changes are followed. `/dev/null` for none.",
        ),
        key("timeout", duration(10, 60_000), "1s", "How long one name server may take for one question."),
        key(
            "retries",
            ValueKind::Integer { min: 0, max: 10 },
            "2",
            "Further rounds through all name servers.",
        ),
        key("min-ttl", duration(100, DAY_MS), "1s", "Answers hold at least so long, whatever they say."),
        key("max-ttl", duration(100, 7 * DAY_MS), "5m", "Answers hold at most so long, whatever they say."),
        key("retry-after", duration(100, DAY_MS), "5s", "Until the next look-up after one that failed."),
        key(
            "udp-size",
            ValueKind::Integer { min: 512, max: 8192 },
            "1232",
            "Bytes of an answer over UDP (EDNS); what is cut off is asked for over TCP.",
        ),
        key(
            "hold",
            ValueKind::Table(&HOLD),
            "",
            "How long the last good answer is used on, by what is answered since.",
        ),
    ],
};

static HOLD: Table = Table {
    name: "hold",
    doc: "How long the last good answer is used on, by what is answered since; then its servers are down.",
    keys: &[
        key("valid", duration(100, 7 * DAY_MS), "", "How long an answer holds, instead of its TTL."),
        key("nx", duration(0, YEAR_MS), "for ever", "The name does not exist, or has no address."),
        key("refused", duration(0, YEAR_MS), "for ever", "The name servers refuse."),
        key("timeout", duration(0, YEAR_MS), "for ever", "No name server answers."),
        key("other", duration(0, YEAR_MS), "for ever", "Another failure."),
        key(
            "obsolete",
            duration(0, YEAR_MS),
            "30s",
            "How long an address is used that answers no longer hold; name servers that give a few of many addresses in turn would make servers change without it.",
        ),
    ],
};

pub const RESOLVE: ValueKind = ValueKind::Table(&RESOLVE_TABLE);

static RESOLVE_TABLE: Table = Table {
    name: "resolve",
    doc: "What is taken of the answers for real servers that are written by name.",
    keys: &[
        key(
            "prefer",
            ValueKind::Choice(&[word("ipv4"), word("ipv6")]),
            "ipv4",
            "Which addresses come first where a name has both.",
        ),
        key(
            "init",
            ValueKind::List(&ValueKind::Token),
            "[\"last\", \"lookup\"]",
            "Where the address is from before the first answer, the first of these that has one: `last` (the state directory), `lookup` (the start waits some seconds), an IPv4 address, `none` (down until the first answer). A start never fails for a name.",
        ),
    ],
};

const INTERVAL: Key =
    key("interval", duration(200, DAY_MS), "5s", "How often it is looked at; names by their TTL.");
const AT_LEAST: Key = key(
    "at-least",
    ValueKind::Integer { min: 0, max: 10_000 },
    "1",
    "A list of fewer servers is not taken: the one before stays, and an alert says so.",
);
const SETTLE: Key = key(
    "settle",
    duration(0, DAY_MS),
    "30s",
    "How long a list has to stay that has lost more than half of its servers before it is taken.",
);
const AT_MOST: Key = key(
    "at-most",
    ValueKind::Integer { min: 1, max: 10_000 },
    "1000",
    "A list of more servers is not taken.",
);

const CA: Key = key(
    "ca",
    ValueKind::File,
    "the well-known authorities",
    "Certificates (PEM) of the authorities to trust, with `https`.",
);
const TOKEN: Key = key(
    "token-file",
    ValueKind::File,
    "",
    "A file that holds a token, which is shown with each question (`Authorization: Bearer`). It is read each time.",
);

pub static DISCOVER: ValueKind = ValueKind::List(&ValueKind::Typed(&[
    Variant {
        word: "file",
        doc: "A file in Prometheus' file_sd format (JSON, or YAML where its name ends in `.yml` or `.yaml`): `[{ \"targets\": [\"10.0.0.1:80\"], \"labels\": { \"weight\": \"50\" } }]`. The labels `weight` and `backup` are read.",
        keys: &[
            required("path", ValueKind::File, "The file; it is watched."),
            INTERVAL,
            AT_LEAST,
            SETTLE,
            AT_MOST,
        ],
    },
    Variant {
        word: "http",
        doc: "The same list, got over HTTP (Prometheus' http_sd): any registry of one's own.",
        keys: &[
            required("url", line(2_200), "`http://HOST:PORT/PATH`, or `https`."),
            CA,
            TOKEN,
            INTERVAL,
            AT_LEAST,
            SETTLE,
            AT_MOST,
        ],
    },
    Variant {
        word: "docker",
        doc: "Running containers, from the API of Docker or podman. A container's labels say its `evenkeel.port`, `evenkeel.weight` and `evenkeel.backup`; one that is unhealthy is left out.",
        keys: &[
            key("socket", ValueKind::File, "/var/run/docker.sock", "The socket of the API."),
            required("label", line(256), "Which containers: a label that they have, `KEY` or `KEY=VALUE`."),
            key(
                "port",
                ValueKind::Integer { min: 1, max: 65535 },
                "",
                "The port of containers without the label `evenkeel.port`.",
            ),
            key(
                "network",
                ValueKind::Token,
                "",
                "The network whose address is taken; needed where a container is on several.",
            ),
            INTERVAL,
            AT_LEAST,
            SETTLE,
            AT_MOST,
        ],
    },
    Variant {
        word: "consul",
        doc: "The instances of a service in Consul's catalogue. Consul answers as soon as something changes (blocking queries). Weights of instances are read (`Weights.Passing`).",
        keys: &[
            required("url", line(300), "Consul's agent: `http://HOST:PORT`, or `https`."),
            required("service", ValueKind::Token, "The service's name."),
            key("tag", ValueKind::Token, "", "Only instances with this tag."),
            key("datacenter", ValueKind::Token, "the agent's own", "Of which datacenter."),
            key("passing", ValueKind::Flag, "true", "Only instances whose checks pass in Consul."),
            CA,
            TOKEN,
            key(
                "interval",
                duration(1_000, 600_000),
                "60s",
                "How long Consul may wait with its answer while nothing changes.",
            ),
            AT_LEAST,
            SETTLE,
            AT_MOST,
        ],
    },
    Variant {
        word: "dns-srv",
        doc: "SRV records: their targets, ports and weights; those of a later priority are backups.",
        keys: &[
            required("name", ValueKind::Token, "Such as `_http._tcp.example.org`."),
            AT_LEAST,
            SETTLE,
            AT_MOST,
        ],
    },
    Variant {
        word: "dns",
        doc: "Each address of a name is a server.",
        keys: &[
            required("name", ValueKind::Token, "The name."),
            required("port", ValueKind::Integer { min: 1, max: 65535 }, "The port of its servers."),
            AT_LEAST,
            SETTLE,
            AT_MOST,
        ],
    },
]));
