//! The table of limits in docs/security.md is what the program does.

use std::path::Path;

/// A row of the table by how it begins, what it says, and the lines of the program that say it.
type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const ROWS: &[Row] = &[
    (
        "client connections",
        "40,000",
        &[("config/src/schema/mod.rs", "\"40000\",\n            \"Client connections")],
    ),
    (
        "memory for bytes in flight",
        "256 MiB",
        &[("config/src/schema/mod.rs", "\"256MiB\",\n            \"Memory for bytes")],
    ),
    (
        "an answer that is compressed",
        "320 KiB and a buffer",
        &[("http/src/coding/encoder.rs", "MEMORY: usize = 320 * 1024;")],
    ),
    (
        "head of a request or of an answer",
        "16 KiB, to 1 MiB",
        &[
            ("l7/src/buffer.rs", "CAPACITY: usize = 16 * 1024;"),
            ("config/src/build.rs", "HEAD_SIZE: u64 = 16 << 10;"),
            ("config/src/schema/service.rs", "ValueKind::Size { min: 1 << 10, max: 1 << 20 }"),
        ],
    ),
    (
        "heads of more than 16 KiB together",
        "half of it",
        &[
            ("l7/src/buffer.rs", "if self.pool.memory.is_short()"),
            ("http/src/memory.rs", "self.used.get() >= self.limit / 2"),
        ],
    ),
    ("fields of a request's head", "128", &[("http/src/h1/mod.rs", "FIELDS: usize = 128;")]),
    (
        "decoded head of an HTTP/2",
        "16 KiB, to 1 MiB",
        &[("http/src/h2/fields.rs", "LIST_AT_MOST: usize = 16 * 1024;")],
    ),
    (
        "passwords of `basic-auth` that wait",
        "64; 8 of",
        &[("l7/src/auth.rs", "WAITING: usize = 64;"), ("l7/src/auth.rs", "WAITING_OF_A_CLIENT: usize = 8;")],
    ),
    (
        "a hashed password of `basic-auth`",
        "bcrypt of cost 15, SHA-crypt of 500,000 rounds",
        &[
            ("l7/src/auth.rs", "BCRYPT_COST_AT_MOST: u32 = 15;"),
            ("l7/src/auth.rs", "ROUNDS_AT_MOST: u32 = 500_000;"),
        ],
    ),
    (
        "passwords of `basic-auth` remembered",
        "4,096 a loop, five minutes",
        &[
            ("l7/src/auth.rs", "REMEMBERED: usize = 4096;"),
            ("l7/src/auth.rs", "REMEMBERED_MS: u64 = 5 * 60_000;"),
        ],
    ),
    (
        "connections of an admin listener",
        "1,000; 250",
        &[
            ("admin/src/connected.rs", "MOST: usize = 1000;"),
            ("admin/src/connected.rs", "MOST_OF_ADDRESS: usize = 250;"),
        ],
    ),
    (
        "clients of HAProxy's `stats socket`",
        "64, over TCP 16 of an address; 32",
        &[
            ("haproxy/src/commands.rs", "CLIENTS: usize = 64;"),
            ("haproxy/src/sockets.rs", "Door::Tcp(_)) { clients / 4 }"),
            ("haproxy/src/master.rs", "CLIENTS: usize = 32;"),
        ],
    ),
    (
        "time for a handshake",
        "10 s",
        &[("admin/src/serve.rs", "SLOWEST: Duration = Duration::from_secs(10);")],
    ),
    (
        "time at an admin listener",
        "20 s",
        &[("admin/src/connected.rs", "STRANGER: Duration = Duration::from_secs(20);")],
    ),
    (
        "time there of somebody known",
        "120 s; 30 s; 10 s, 9 minutes",
        &[
            ("admin/src/connected.rs", "IDLE: Duration = Duration::from_secs(120);"),
            ("admin/src/connected.rs", "UNREAD: Duration = Duration::from_secs(30);"),
            ("admin/src/given.rs", "SILENT: Duration = Duration::from_secs(10);"),
            ("admin/src/given.rs", "WHOLE: Duration = Duration::from_secs(540);"),
        ],
    ),
    ("requests of a person", "32", &[("admin/src/connected.rs", "MOST_OF_PERSON: usize = 32;")]),
    (
        "head of a request at an admin",
        "64 KiB; 64 KiB of HTTP/1",
        &[("admin/src/serve.rs", "BYTES_A_CONNECTION: usize = 64 << 10;")],
    ),
    (
        "answers with metrics",
        "64 MiB, or one",
        &[("admin/src/scrape.rs", "BYTES_AT_MOST: usize = 64 << 20;")],
    ),
    ("HTTP/2 streams of an admin", "100", &[("admin/src/serve.rs", "MOST_STREAMS: u32 = 100;")]),
    (
        "HTTP/2 streams of a client",
        "100",
        &[
            ("http/src/memory.rs", "SHARE_WHEN_SHORT: usize = 128 * 1024;"),
            ("http/src/h2/mux/mod.rs", "STREAMS_AT_MOST: usize = 100;"),
        ],
    ),
    ("a session of a client", "10 KiB", &[("http/src/memory.rs", "SESSION_MEMORY: usize = 10 * 1024;")]),
    (
        "body of a stranger's",
        "16 KiB",
        &[("admin/src/routes.rs", "STRANGERS_BODY_AT_MOST: usize = 16 << 10;")],
    ),
    ("body of a viewer's", "1 MiB", &[("admin/src/gate.rs", "Role::Viewer | Role::Operator => 1 << 20,")]),
    (
        "body of a certificate-manager's",
        "16 MiB",
        &[("admin/src/gate.rs", "Role::CertificateManager => 16 << 20,")],
    ),
    ("body of an admin's", "256 MiB", &[("admin/src/gate.rs", "Role::Admin => 256 << 20,")]),
    (
        "a regular expression",
        "16 KiB of text, 1 MiB",
        &[
            ("rules/src/regular.rs", "TEXT_AT_MOST: usize = 16 << 10;"),
            ("rules/src/regular.rs", "SIZE_AT_MOST: usize = 1 << 20;"),
        ],
    ),
    (
        "live streams of states",
        "400; 50",
        &[("admin/src/live.rs", "STREAMS: WatcherSlots = WatcherSlots::new(400, 50);")],
    ),
    (
        "live streams of logs",
        "40; 8",
        &[("admin/src/live.rs", "TAILS: WatcherSlots = WatcherSlots::new(40, 8);")],
    ),
    ("a session that is not used", "12 h", &[("config/src/schema/admin.rs", "\"12h\"")]),
    (
        "wrong passwords from a network",
        "5; 20",
        &[
            ("admin/src/accounts/lock.rs", "FREE: u32 = 5;"),
            ("admin/src/accounts/lock.rs", "FREE_WHERE_KNOWN: u32 = 20;"),
            ("admin/src/accounts/lock.rs", "FIRST_MS: u64 = 30_000;"),
            ("admin/src/accounts/lock.rs", "LONGEST_MS: u64 = 3_600_000;"),
        ],
    ),
    (
        "people, sessions, tokens",
        "1,000 each",
        &[
            ("admin/src/accounts/mod.rs", "MOST_SESSIONS: usize = 1000;"),
            ("admin/src/accounts/mod.rs", "MOST_USERS: usize = 1000;"),
            ("admin/src/accounts/mod.rs", "MOST_TOKENS: usize = 1000;"),
        ],
    ),
    (
        "audit log",
        "16 files of 4 MiB",
        &[
            ("admin/src/audit/mod.rs", "FILE_AT_MOST: u64 = 4 << 20;"),
            ("admin/src/audit/mod.rs", "FILES_KEPT: usize = 15;"),
        ],
    ),
    (
        "refusals of strangers",
        "12 in ten minutes, 6 of a network",
        &[
            ("admin/src/audit/repeats.rs", "PERIOD_MS: u64 = 10 * 60_000;"),
            ("admin/src/audit/repeats.rs", "OF_A_NETWORK: usize = 6;"),
            ("admin/src/audit/repeats.rs", "OF_STRANGERS: usize = 12;"),
        ],
    ),
    (
        "a file that the command line is given",
        "256 MiB",
        &[("control/src/text.rs", "FILE_AT_MOST: u64 = 256 << 20;")],
    ),
    (
        "files: lists and maps",
        "64 MiB; 16 MiB; 1 MiB",
        &[
            ("files/src/lib.rs", "LIST_AT_MOST: u64 = 64 << 20;"),
            ("files/src/lib.rs", "PEM_AT_MOST: u64 = 16 << 20;"),
            ("files/src/lib.rs", "TEXT_AT_MOST: u64 = 1 << 20;"),
        ],
    ),
];

#[test]
fn the_table_of_limits_is_what_the_program_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read =
        |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let page = read("docs/security.md");
    let table = page.split("## Limits").nth(1).expect("a table of limits");
    let table = table.split("\n## ").next().unwrap_or("");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    for row in &rows {
        let what = row.trim_start_matches("| ");
        assert!(
            ROWS.iter().any(|(begins, ..)| what.starts_with(begins)),
            "nothing holds this row against the program: {row}"
        );
    }
    for (begins, says, lines) in ROWS {
        let row = rows.iter().find(|row| row[2..].starts_with(begins));
        let row = row.unwrap_or_else(|| panic!("docs/security.md has no row {begins:?}"));
        assert!(row.contains(says), "{row} does not say {says:?}");
        for (file, line) in *lines {
            let text = read(&format!("crates/{file}"));
            assert!(text.contains(line), "crates/{file} has no {line:?}: does docs/security.md still hold?");
        }
    }
}
