//! Every word that Debian's HAProxy knows: it works here, or it is told; none is swallowed.

use std::collections::BTreeMap;
use std::process::Command;

use evenkeel_import::{Places, Source, SourceKind, running};

/// What becomes of a word.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Works,
    Told,
    Swallowed,
}

/// The words that HAProxy prints, each as lines of a configuration that uses it.
pub fn configurations() -> Vec<(String, String)> {
    let output = Command::new("haproxy").args(["-dKall", "-q", "-c", "-f", "/dev/null"]).output();
    let text = String::from_utf8_lossy(&output.expect("HAProxy runs").stdout).into_owned();
    let (mut part, mut section) = (String::new(), String::new());
    let mut all = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("# List of registered ") {
            part = title.to_owned();
            continue;
        }
        if !line.starts_with('\t') && part.starts_with("configuration") {
            section = line.trim().to_owned();
            continue;
        }
        let used = match part.split(' ').next().unwrap_or("") {
            "ACL" => line.split(" = ").next().map(condition),
            "configuration" => configured(&section, line.trim()),
            "sample" if part.contains("converter") => line.split([':', '(']).next().map(converter),
            "sample" => line.rsplit_once("] ").and_then(|(_, name)| name.split([':', '(']).next()).map(fetch),
            _ => None,
        };
        if let Some(used) = used.filter(|_| !line.starts_with('#') && !line.trim().is_empty()) {
            all.push((line.trim().to_owned(), used));
        }
    }
    all
}

/// What words of servers need beside them.
const CHECKED: &str = " check agent-check observe layer7 ssl";

fn condition(name: &str) -> String {
    section("", &format!("  http-request deny if {{ {name}(x) 1 }}\n"), "")
}

fn converter(name: &str) -> String {
    section("", &format!("  http-request set-header x %[path,{name}(1)]\n"), "")
}

fn fetch(name: &str) -> String {
    let of_answer = ["res.", "resp_", "shdr", "scook", "status", "bc_", "srv_", "cpu_", "lat_"]
        .iter()
        .any(|b| name.starts_with(b));
    let rule = if of_answer { "http-response" } else { "http-request" };
    section("", &format!("  {rule} set-header x %[{name}(x)]\n"), "")
}

fn section(bind: &str, lines: &str, server: &str) -> String {
    let usual = "  option tcpka\n  option httpchk GET /\n";
    format!("listen a\n  mode http\n  bind 127.0.0.1:1{bind}\n{usual}{lines}  server s 127.0.0.1:2{server}\n")
}

/// `bind <addr> alpn +1`, `http-request deny`, `option X [ FE HTTP ]`, or the first word of a line.
fn configured(of: &str, line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let values = words.iter().find_map(|w| w.strip_prefix('+')).and_then(|n| n.parse().ok()).unwrap_or(0);
    let last = words.iter().rfind(|word| !word.starts_with('+')).copied().unwrap_or("");
    let fitting = match last {
        "proto" | "alpn" => "h2",
        "on-marked-down" => "shutdown-sessions",
        "on-marked-up" => "shutdown-backup-sessions",
        "weight" | "fall" | "rise" => "7",
        "addr" => "127.0.0.3",
        "init-addr" | "resolve-prefer" => "unknown",
        "verify" if words.contains(&"bind") => "optional",
        "verify" => "none",
        _ => "1",
    };
    let values = format!(" {fitting}").repeat(values);
    let plain = |word: &str| word.trim_end_matches('*').to_owned();
    Some(match (of, words.as_slice()) {
        ("global", [word, ..]) => format!("global\n  {word} 1\n{}", section("", "", "")),
        ("listen", ["bind", _, "ssl", word, ..]) => section(&format!(" ssl crt /x {word}{values}"), "", ""),
        ("listen", ["bind", _, word, ..]) => section(&format!(" {word}{values}"), "", ""),
        ("listen", ["server", _, _, word, ..]) => section("", "", &format!("{CHECKED} {word}{values}")),
        ("listen", ["option", word, ..]) => section("", &format!("  option {word}\n"), ""),
        ("listen", [rules @ ("tcp-request" | "tcp-response"), stage, word, ..]) if !stage.ends_with('*') => {
            section("", &format!("  {rules} {stage} {}(x) 1\n", plain(word)), "")
        }
        ("listen", [rules @ ("http-request" | "http-response" | "http-after-response"), word, ..]) => {
            section("", &format!("  {rules} {} 1 2 3\n", plain(word)), "")
        }
        ("listen", [word @ ("http-check" | "tcp-check"), ..]) => {
            section("", &format!("  {word} send meth GET uri /x\n"), "")
        }
        ("listen", [word, ..]) => section("", &format!("  {word} 1 2\n"), ""),
        _ => return None,
    })
}

fn read(text: &str) -> (String, usize) {
    let source = Source { kind: SourceKind::Haproxy, file: "x.cfg".into(), text: text.into() };
    let made = running(&[source], &BTreeMap::new(), Places::default());
    (made.text, made.left.len())
}

/// The words that nobody hears of, though nothing is made of them.
pub fn swallowed() -> Vec<String> {
    let (usual, told) = read(&section("", "", ""));
    let (usual_tls, told_tls) = read(&section(" ssl crt /x", "", ""));
    let (usual_server, told_server) = read(&section("", "", CHECKED));
    let fate = |text: &str| {
        let (made, left) = read(text);
        let (usual, told) = match () {
            () if text.contains(":1 ssl crt /x") => (&usual_tls, told_tls),
            () if text.contains(CHECKED) => (&usual_server, told_server),
            () => (&usual, told),
        };
        match () {
            () if left > told => Fate::Told,
            () if made != *usual => Fate::Works,
            () => Fate::Swallowed,
        }
    };
    let all = configurations();
    assert!(all.len() > 800, "HAProxy's list has another form: {}", all.len());
    let gone = all.into_iter().filter(|(_, text)| fate(text) == Fate::Swallowed);
    gone.map(|(word, _)| word).collect()
}

/// Options that take nothing back of what `default-server` says.
pub fn not_taken_back() -> Vec<&'static str> {
    let with = |default: &str, own: &str| read(&section("", &format!("  default-server {default}\n"), own));
    let pairs = [
        ("check", " no-check"),
        ("agent-check", " no-agent-check"),
        ("backup", " no-backup"),
        ("disabled", " enabled"),
        ("check check-ssl", " no-check-ssl"),
        ("check check-send-proxy", " no-check-send-proxy"),
        ("send-proxy", " no-send-proxy"),
        ("send-proxy-v2", " no-send-proxy-v2"),
        ("send-proxy-v2-ssl", " no-send-proxy-v2-ssl"),
        ("send-proxy-v2-ssl-cn", " no-send-proxy-v2-ssl-cn"),
        ("ssl verifyhost a.example", " no-verifyhost"),
        ("ssl verify none", " no-ssl"),
        ("tfo", " no-tfo"),
    ];
    let same = |(default, own): &(&str, &str)| with(default, own) == with(default, "");
    pairs.into_iter().filter(same).map(|(_, own)| own).collect()
}

/// Words that need nothing here, and those whose work this program does by itself.
pub const MOOT: &[&str] = &[
    // Folders that other words use, and what is spoken of TLS anyway.
    "ca-base",
    "crt-base",
    "ssl-default-bind-options",
    "ssl-default-server-options",
    "tune.ssl.default-dh-param",
    "bind <addr> ssl no-sslv3",
    "bind <addr> ssl no-tlsv10",
    "bind <addr> ssl no-tlsv11",
    "server <name> <addr> no-sslv3",
    "server <name> <addr> no-tlsv10",
    "server <name> <addr> no-tlsv11",
    "server <name> <addr> ssl-min-ver +1",
    // Of rules that fail in HAProxy only.
    "http-response strict-mode",
    "http-after-response strict-mode",
    // Of sockets of HAProxy's own commands, of files of sockets, and names for statistics.
    "bind <addr> gid +1",
    "bind <addr> group +1",
    "bind <addr> id +1",
    "bind <addr> level +1",
    "bind <addr> mode +1",
    "bind <addr> name +1",
    "bind <addr> uid +1",
    "bind <addr> user +1",
    "server <name> <addr> id +1",
    // What is done with names; the server of these configurations is written by address.
    "server <name> <addr> resolvers +1",
    // The kernel's queue, and which threads take connections.
    "bind <addr> backlog +1",
    "bind <addr> process +1",
    "bind <addr> shards +1",
    "bind <addr> thread +1",
    // A wildcard of IPv6 takes what the address says.
    "bind <addr> v4v6",
    "bind <addr> v6only",
    // What is so anyway; these take back what default-server says, see `not_taken_back`.
    "server <name> <addr> enabled",
    "server <name> <addr> no-agent-check",
    "server <name> <addr> no-backup",
    "server <name> <addr> no-check",
    "server <name> <addr> no-check-send-proxy",
    "server <name> <addr> no-check-ssl",
    "server <name> <addr> no-send-proxy",
    "server <name> <addr> no-send-proxy-v2",
    "server <name> <addr> no-send-proxy-v2-ssl",
    "server <name> <addr> no-send-proxy-v2-ssl-cn",
    "server <name> <addr> no-tfo",
    "server <name> <addr> ssl",
    "server <name> <addr> stick",
    "server <name> <addr> check",
    "server <name> <addr> agent-check",
    "server <name> <addr> observe +1",
    "option abortonclose [ BE ]",
    "option allbackups [ BE ]",
    "option contstats [ FE ]",
    "option dontlognull [ FE ]",
    "option http-ignore-probes [ FE HTTP ]",
    "option http-no-delay [ FE BE HTTP ]",
    "option http-pretend-keepalive [ BE HTTP ]",
    "option nolinger [ FE BE ]",
    "option prefer-last-server [ BE HTTP ]",
    "option socket-stats [ FE ]",
    "option splice-auto [ FE BE ]",
    "option splice-request [ FE BE ]",
    "option splice-response [ FE BE ]",
    "option tcp-smart-accept [ FE ]",
    "option tcp-smart-connect [ BE ]",
    // Lines about checks are written by the process, not by the translation; rules behind it are not asked.
    "option log-health-checks [ BE ]",
    "http-request allow",
    // Asked beside others here: what checks send, both versions of HTTP, cookies, and keep-alive of one side.
    "http-check",
    "tcp-check",
    "bind <addr> proto +1",
    "server <name> <addr> non-stick",
    "option clitcpka [ FE ]",
    "option srvtcpka [ BE ]",
];
