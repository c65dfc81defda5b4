//! Keys of authorities that give certificates.

use super::{Table, ValueKind, Variant, duration, key, line, required, word};

const WAIT: super::Key = key(
    "wait",
    duration(0, 3_600_000),
    "10s",
    "How long the authority is kept from looking, so that every name server has the record.",
);
const ALIAS: super::Key = key(
    "alias",
    line(253),
    "",
    "Write the record at this name: `_acme-challenge.NAME` is a CNAME to it, in a zone that may be written to.",
);

pub static ACME: Table = Table {
    name: "acme",
    doc: "An authority that gives certificates by ACME (RFC 8555). Who names one agrees to its terms of service. `tls = { acme = \"NAME\" }` of a service uses it.",
    keys: &[
        required("name", ValueKind::Name, "The name in `tls = { acme = \"NAME\" }`."),
        key(
            "directory",
            line(1024),
            "that of the name",
            "The URL of its directory, or one of `letsencrypt`, `letsencrypt-staging`, `zerossl`, `google`, `google-staging`, `buypass`.",
        ),
        key("contact", ValueKind::List(&line(255)), "[]", "Mail addresses that the authority may write to."),
        key(
            "ca",
            ValueKind::File,
            "the well-known ones",
            "PEM file of authorities that the directory's server is known by.",
        ),
        key(
            "external-account",
            ValueKind::Table(&EXTERNAL),
            "",
            "An account that the authority's customer has already (external account binding).",
        ),
        key(
            "preferred-chain",
            line(255),
            "",
            "The common name of the issuer at whose certificate the chain should end, where the authority offers several.",
        ),
        key(
            "profile",
            line(64),
            "",
            "What kind of certificate, in the authority's words: `classic`, `tlsserver`, `shortlived`.",
        ),
        key(
            "challenges",
            ValueKind::List(&ValueKind::Choice(&[word("http-01"), word("tls-alpn-01"), word("dns-01")])),
            "by what is there",
            "How the authority is shown that names are this machine's, the preferred one first.",
        ),
        key(
            "key-type",
            ValueKind::Choice(&[word("ecdsa-p256"), word("ecdsa-p384"), word("rsa-2048"), word("rsa-4096")]),
            "ecdsa-p256",
            "Of the certificates' keys.",
        ),
        key("reuse-key", ValueKind::Flag, "false", "The next certificate is for the same key."),
        key(
            "http-port",
            ValueKind::Integer { min: 1, max: 65_535 },
            "80",
            "Where the authority comes to for http-01; another one only for private authorities.",
        ),
        key(
            "tls-port",
            ValueKind::Integer { min: 1, max: 65_535 },
            "443",
            "Where the authority comes to for tls-alpn-01; another one only for private authorities.",
        ),
        key(
            "dns",
            ValueKind::Typed(DNS),
            "",
            "Who writes records into the DNS, for dns-01: wildcards need it.",
        ),
    ],
};

static EXTERNAL: Table = Table {
    name: "external-account",
    doc: "An account that the authority's customer has already.",
    keys: &[
        required("key-id", line(255), "The number that the authority gave."),
        required("key-file", ValueKind::File, "A file with the key that the authority gave, in base64url."),
    ],
};

static DNS: &[Variant] = &[
    Variant {
        word: "update",
        doc: "A name server that takes updates (RFC 2136): BIND, Knot, PowerDNS, Windows.",
        keys: &[
            required("server", ValueKind::Server, "Its address; port 53 unless another is written."),
            key("zone", line(253), "found by asking", "The zone that the records are in."),
            key("key-name", line(253), "", "The name of the TSIG key."),
            key(
                "key-algorithm",
                ValueKind::Choice(&[word("hmac-sha256"), word("hmac-sha384"), word("hmac-sha512")]),
                "hmac-sha256",
                "Of the TSIG key.",
            ),
            key("key-file", ValueKind::File, "", "A file with the TSIG key's secret in base64."),
            WAIT,
            ALIAS,
        ],
    },
    Variant {
        word: "hook",
        doc: "A program of your own, run as an unprivileged user with `present NAME VALUE` and `cleanup NAME VALUE` (lego's exec), and with CERTBOT_DOMAIN and CERTBOT_VALIDATION in its environment.",
        keys: &[
            required("command", ValueKind::File, "The program."),
            key("timeout", duration(1_000, 600_000), "60s", "How long it may take."),
            WAIT,
            ALIAS,
        ],
    },
];
