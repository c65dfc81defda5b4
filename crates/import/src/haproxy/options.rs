//! The options that hold for a server: those of the `default-server` lines before it, then its own, each
//! without what a later one takes back.

use super::proxy::{Proxy, Word};

/// Options of servers with a value behind them.
pub const WITH_VALUE: &[&str] = &[
    "addr",
    "agent-addr",
    "agent-inter",
    "agent-port",
    "agent-send",
    "alpn",
    "ca-file",
    "cc",
    "check-alpn",
    "check-pool-conn-name",
    "check-proto",
    "check-sni",
    "ciphers",
    "ciphersuites",
    "client-sigalgs",
    "cookie",
    "crl-file",
    "crt",
    "curves",
    "downinter",
    "error-limit",
    "fall",
    "fastinter",
    "guid",
    "hash-key",
    "healthcheck",
    "id",
    "idle-ping",
    "init-addr",
    "init-state",
    "inter",
    "interface",
    "ktls",
    "log-bufsize",
    "log-proto",
    "max-reuse",
    "maxconn",
    "maxqueue",
    "minconn",
    "namespace",
    "npn",
    "observe",
    "on-error",
    "on-marked-down",
    "on-marked-up",
    "pool-conn-name",
    "pool-low-conn",
    "pool-max-conn",
    "pool-purge-delay",
    "port",
    "proto",
    "proxy-v2-options",
    "quic-cc-algo",
    "redir",
    "resolve-net",
    "resolve-opts",
    "resolve-prefer",
    "resolvers",
    "rise",
    "shard",
    "sigalgs",
    "slowstart",
    "sni",
    "socks4",
    "source",
    "ssl-max-ver",
    "ssl-min-ver",
    "tcp-md5sig",
    "tcp-ut",
    "track",
    "usesrc",
    "verify",
    "verifyhost",
    "weight",
    "ws",
];

/// Options of `bind` that are not carried over and have a value behind them.
pub const BIND_WITH_VALUE: &[&str] = &[
    "accept-netscaler-cip",
    "ca-ignore-err",
    "ca-sign-file",
    "ca-sign-pass",
    "ca-verify-file",
    "cc",
    "client-sigalgs",
    "crt-ignore-err",
    "default-crt",
    "expose-fd",
    "guid-prefix",
    "idle-ping",
    "ktls",
    "label",
    "mss",
    "namespace",
    "nbconn",
    "npn",
    "quic-cc-algo",
    "quic-socket",
    "severity-output",
    "sigalgs",
    "tcp-md5sig",
    "tcp-ss",
    "tls-ticket-keys",
];

/// What an option takes back, by what those begin with.
const TAKES_BACK: &[(&str, &[&str])] = &[
    ("enabled", &["disabled"]),
    ("stick", &["non-stick"]),
    ("non-stick", &["stick"]),
    ("no-send-proxy", &["send-proxy"]),
    ("no-send-proxy-v2", V2),
    ("no-send-proxy-v2-ssl", V2),
    ("no-send-proxy-v2-ssl-cn", V2),
];

const V2: &[&str] = &["send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn"];

/// Options that begin with `no-` and are no other's opposite.
const NO_OPPOSITE: &[&str] = &["no-sslv3", "no-tlsv10", "no-tlsv11", "no-tlsv12", "no-tlsv13"];

/// Is this option the opposite of `earlier`?
fn takes_back(option: &str, earlier: &str) -> bool {
    if let Some((_, all)) = TAKES_BACK.iter().find(|(word, _)| *word == option) {
        return all.contains(&earlier);
    }
    let is_opposite = |one: &str, other: &str| one.strip_prefix("no-") == Some(other);
    !NO_OPPOSITE.contains(&option)
        && !NO_OPPOSITE.contains(&earlier)
        && (is_opposite(option, earlier) || is_opposite(earlier, option))
}

/// Options as they are read one after the other, without those that a later one takes back, and without
/// words that have taken something back and say nothing else.
pub fn effective(options: &[String]) -> Vec<String> {
    let mut held: Vec<&[String]> = Vec::new();
    let mut rest = options;
    while let Some(option) = rest.first() {
        let length = if WITH_VALUE.contains(&option.as_str()) { 2.min(rest.len()) } else { 1 };
        let before = held.len();
        held.retain(|earlier| !takes_back(option, &earlier[0]));
        let says_more = !option.starts_with("no-") && option != "enabled" && option != "stick";
        if held.len() == before || says_more {
            held.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    held.concat()
}

/// The `default-server` lines of a section: those that it inherits have no line of their own.
pub struct DefaultServers(Vec<(Option<usize>, Vec<String>)>);

impl DefaultServers {
    pub fn of(proxy: &Proxy) -> DefaultServers {
        let (inherited, own) = proxy.words.split_at(proxy.inherited);
        let inherited = inherited.iter().map(|word| (None, word));
        let all = inherited.chain(own.iter().map(|word| (Some(word.line), word)));
        let all = all.filter(|(_, word)| word.words[0] == "default-server");
        DefaultServers(all.map(|(line, word)| (line, word.words[1..].to_vec())).collect())
    }

    /// The options of a line `server NAME PLACE …`.
    pub fn options_of(&self, server: &Word) -> Vec<String> {
        effective(&self.written_of(server))
    }

    /// The same with what later words take back.
    pub fn written_of(&self, server: &Word) -> Vec<String> {
        let before = self.0.iter().filter(|(line, _)| line.is_none_or(|line| line < server.line));
        let all = before.flat_map(|(_, options)| options).chain(server.words.iter().skip(3));
        all.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::effective;

    fn left(options: &str) -> String {
        let words: Vec<String> = options.split(' ').map(str::to_owned).collect();
        effective(&words).join(" ")
    }

    #[test]
    fn later_words_take_back_earlier_ones() {
        for (options, holds) in [
            ("check inter 1s no-check", "inter 1s"),
            ("check no-check check", "check"),
            ("disabled enabled", ""),
            ("backup weight 3 no-backup", "weight 3"),
            ("ssl verify none no-ssl", "verify none"),
            ("send-proxy no-send-proxy", ""),
            ("send-proxy-v2-ssl no-send-proxy-v2", ""),
            ("send-proxy no-send-proxy-v2", "send-proxy no-send-proxy-v2"),
            ("verifyhost a.example no-verifyhost", ""),
            ("agent-check agent-port 1 no-agent-check", "agent-port 1"),
            ("non-stick stick", ""),
            ("no-tls-tickets tls-tickets", "tls-tickets"),
            ("check-ssl no-check-ssl", ""),
            // A value that looks like an option.
            ("cookie check no-check", "cookie check no-check"),
            ("no-sslv3 weight 1", "no-sslv3 weight 1"),
        ] {
            assert_eq!(left(options), holds, "{options}");
        }
    }
}
