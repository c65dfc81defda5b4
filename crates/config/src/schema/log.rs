//! Keys of the access log.

use super::{Table, ValueKind, key, line, required, word};

pub static LOG: Table = Table {
    name: "log",
    doc: "The access log: one line a request (http) or a connection (tcp).",
    keys: &[
        key(
            "format",
            ValueKind::LogFormat,
            "haproxy",
            "HAProxy's HTTP and TCP formats byte for byte, one JSON object a line, or a text with fields and variables: see [conditions, variables and lines](routes.md).",
        ),
        key(
            "access",
            ValueKind::AccessLog,
            "off",
            "`stdout`, `stderr`, `off`, `syslog:ADDRESS:PORT` (UDP), `syslog:/dev/log`, or the path of a file.",
        ),
        key("tag", line(32), "evenkeel", "The program's name in lines for syslog."),
        key(
            "facility",
            ValueKind::Integer { min: 0, max: 23 },
            "16",
            "The facility of lines for syslog: 3 is daemon, 16 to 23 are local0 to local7.",
        ),
        key("also", ValueKind::Tables(&TARGET), "", "Further places where the same lines go."),
    ],
};

pub static TARGET: Table = Table {
    name: "log",
    doc: "A place where lines of the access log go.",
    keys: &[
        required(
            "to",
            ValueKind::AccessLog,
            "`stdout`, `stderr`, `syslog:ADDRESS:PORT` (UDP), `syslog:/dev/log`, or the path of a file.",
        ),
        key("tag", line(32), "that of [log]", "The program's name in lines for syslog."),
        key(
            "facility",
            ValueKind::Integer { min: 0, max: 23 },
            "that of [log]",
            "The facility of lines for syslog: 3 is daemon, 16 to 23 are local0 to local7.",
        ),
        key(
            "level",
            LEVEL,
            "debug",
            "Only lines as severe as this, or more. Lines are `info`; those of errors may be `err`: see `log-lines`.",
        ),
        key("gravest", LEVEL, "emerg", "Lines that are more severe than this are written as this."),
        key(
            "header",
            ValueKind::Choice(&[
                word("raw"),
                word("local"),
                word("rfc3164"),
                word("rfc5424"),
                word("priority"),
                word("short"),
                word("timed"),
                word("iso"),
            ]),
            "local for syslog, else raw",
            "What a line begins with: nothing; RFC 3164's without or with the name of the machine; RFC 5424's; `<134>`; `<6>`; `<6>` and the time; the time.",
        ),
        key("host-name", line(255), "the machine's", "The name of the machine in headers that have one."),
        key(
            "length",
            ValueKind::Integer { min: 0, max: 65_535 },
            "0",
            "Longer lines are cut off, header and all; 0 cuts none.",
        ),
        key(
            "sample",
            ValueKind::Sample,
            "all",
            "`1,3-4:10` has lines 1, 3 and 4 of every ten, so that several places share the lines.",
        ),
    ],
};

const LEVEL: ValueKind = ValueKind::Choice(&[
    word("emerg"),
    word("alert"),
    word("crit"),
    word("err"),
    word("warning"),
    word("notice"),
    word("info"),
    word("debug"),
]);

pub static LINES: Table = Table {
    name: "log-lines",
    doc: "Which lines of the access log a service has, and when.",
    keys: &[
        key(
            "early",
            ValueKind::Flag,
            "false",
            "Once the answer has begun (http) or the server's connection stands (tcp): times and sizes are those so far, with a `+`.",
        ),
        key(
            "only-trouble",
            ValueKind::Flag,
            "false",
            "Only requests and connections that were retried, ended before their time, or had an answer of 500 or more.",
        ),
        key("trouble-is-error", ValueKind::Flag, "false", "Those have the severity `err` instead of `info`."),
    ],
};
