//! The words that HAProxy's configuration manual knows, so that a mistake is told from what is not
//! supported.

use super::manual;

/// Of syslog, in the order of their numbers.
pub const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "auth2", "ftp", "ntp",
    "audit", "alert", "cron2", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

/// Words of sections that are older than the list of keywords, and what stands in them without its first word.
const PROXY: &[&str] = &[
    "appsession",
    "grace",
    "http-check",
    "no",
    "redisp",
    "redispatch",
    "reqadd",
    "reqallow",
    "reqdel",
    "reqdeny",
    "reqiallow",
    "reqidel",
    "reqideny",
    "reqipass",
    "reqirep",
    "reqisetbe",
    "reqpass",
    "reqrep",
    "reqitarpit",
    "reqsetbe",
    "reqtarpit",
    "rspadd",
    "rspdel",
    "rspdeny",
    "rspidel",
    "rspideny",
    "rspirep",
    "rsprep",
    "tcp-check",
    "crt",
    "httplog",
    "dontlognull",
];

pub fn is_global(word: &str) -> bool {
    manual::is_known("global", word)
}

/// A line of a section may begin with this word.
pub fn is_of_sections(word: &str) -> bool {
    let first = |known: &(&str, &str)| known.0 == "proxy" && known.1.split(' ').next() == Some(word);
    PROXY.contains(&word) || manual::all().iter().any(first)
}

/// Words of `bind` that are taken without an effect, with what that means.
pub const BIND_DIFFERS: &[(&str, &str)] = &[
    ("tfo", "TCP fast open is not used"),
    ("defer-accept", "connections are taken before their first byte is there"),
    ("transparent", "an address that this machine does not have is listened on where the kernel allows it"),
    ("no-tls-tickets", "sessions are resumed by tickets as well"),
    ("npn", "protocols are agreed on by ALPN"),
    ("nice", "all services weigh the same"),
];

/// Words of `server` that are taken without an effect, with what that means.
pub const SERVER_DIFFERS: &[(&str, &str)] = &[
    ("on-error", "what traffic shows is a pause of the server: see `outlier`"),
    ("pool-max-conn", "how many idle connections stay open is this program's own"),
    ("pool-low-conn", "how many idle connections stay open is this program's own"),
    ("pool-purge-delay", "how long idle connections stay open is this program's own"),
    ("maxqueue", "who belongs to a server waits for it, however many they are: see timeout queue"),
    ("log-proto", "lines of the log do not go to servers of a section"),
    ("shard", "peers are the pair's"),
    ("tfo", "TCP fast open is not used"),
];

/// Words of `global` and of sections that are taken without an effect, with what that means.
pub const SECTION_DIFFERS: &[(&str, &str)] = &[
    ("hard-stop-after", "a process that is replaced ends when its connections have, or when it is told to"),
    ("max-keep-alive-queue", "a kept connection is used whatever the queue of its server"),
    ("option http-use-proxy-header", "Proxy-Connection of clients is not heeded"),
    ("option independent-streams", "each direction that carries data keeps a connection alive"),
    ("option idle-close-on-response", "a replaced process closes idle connections at once"),
];

/// Words of `global` that mean nothing here (`*` ends a beginning), with the reason.
pub const GLOBAL_MEANS_NOTHING: &[(&str, &str)] = &[
    ("external-check", "scripts run all the same, in an environment of their own"),
    ("busy-polling", "this program waits and copies in its own way"),
    ("max-threads-per-group", "threads are not in groups"),
    ("stress-level", "for those who build HAProxy"),
    ("noevports", "this program waits and copies in its own way"),
    ("nokqueue", "this program waits and copies in its own way"),
    ("noreuseport", "each thread has its own socket"),
    ("no-memory-trimming", "memory is this program's own: see [limits]"),
    ("prealloc-fd", "the limit of open files is the service manager's"),
    ("fd-hard-limit", "the limit of open files is the service manager's"),
    ("setcap", "what the process may is the service manager's: AmbientCapabilities="),
    ("cpu-*", "which processors it runs on is the service manager's: CPUAffinity="),
    ("max-spread-checks", "checks are spread by themselves"),
    ("mworker-max-reloads", "a process that is replaced ends by itself"),
    ("close-spread-time", "connections of a process that is replaced end with their requests"),
    ("grace", "a process that ends accepts no more at once, and finishes what there is"),
    ("profiling.*", "see `evenkeel status` and /metrics"),
    ("warn-blocked-traffic-after", "see `evenkeel status` and /metrics"),
    ("anonkey", "`evenkeel support-bundle` leaves secrets out"),
    ("pp2-never-send-local", "checks send a PROXY header where servers ask for one"),
    ("stats-file", "counters begin anew with the process"),
    ("shm-stats-file*", "counters begin anew with the process"),
    ("ssl-dh-param-file", "TLS 1.2 and 1.3 are spoken with elliptic curves"),
    ("ssl-mode-async", "TLS is this program's own"),
    ("ssl-skip-self-issued-ca", "chains are sent as their files have them"),
    ("ssl-security-level", "TLS 1.2 and 1.3 are spoken with what is held to be good"),
    ("h1-accept-payload-with-any-method", "requests of any method may have a body"),
    ("harden.reject-privileged-ports.quic", "HTTP/3 is not spoken"),
    ("no-quic", "HTTP/3 is not spoken"),
    ("limited-quic", "HTTP/3 is not spoken"),
    ("noktls", "TLS is this program's own, not the kernel's"),
    ("force-cfg-parser-pause", "the file is read at once"),
    ("expose-deprecated-directives", "what is old is there, or is not, whatever is said"),
    ("httpclient.*", "there are no requests of this program's own that it would be for"),
    ("maxcomp*", "answers stay as they are while half of the memory is in use: see [limits]"),
    ("maxzlibmem", "answers stay as they are while half of the memory is in use: see [limits]"),
    ("51degrees-*", "kinds of devices are not told apart, and what asks for them is refused"),
    ("deviceatlas-*", "kinds of devices are not told apart, and what asks for them is refused"),
    ("wurfl-*", "kinds of devices are not told apart, and what asks for them is refused"),
    ("ocsp-update.*", "proofs of OCSP stand in FILE.ocsp beside each certificate"),
];

/// Why a word of `global` means nothing here.
pub fn means_nothing(word: &str) -> Option<&'static str> {
    let holds = |of: &str| of.strip_suffix('*').map_or(of == word, |start| word.starts_with(start));
    GLOBAL_MEANS_NOTHING.iter().find(|(of, _)| holds(of)).map(|(_, why)| *why)
}

/// Why a word of a table has no effect.
pub fn differs(table: &'static [(&'static str, &'static str)], word: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == word).map(|(_, why)| *why)
}
