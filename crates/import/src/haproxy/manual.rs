//! Every keyword of HAProxy's from 2.6 to 3.4, and what becomes of it: the import is asked about each, and
//! the page of keywords in the documentation is what it answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::OnceLock;

use super::reasons::{EXAMPLES, SILENT};
use super::run::{Places, Running, running};
use crate::{Diagnostic, Severity, Source, SourceKind};

/// Words by the place where they stand, as `[PLACE]` and words behind it; words of proxies one a line.
const WORDS: &str = include_str!("manual.txt");

/// What becomes of a keyword; the better come first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Works,
    /// It works, and this differs.
    Differs(String),
    /// It is taken and changes nothing, for this reason.
    NoEffect(String),
    /// It is taken, nothing becomes of it, and nobody is told: a fault of the import.
    Swallowed,
    /// A configuration with it does not start, for this reason.
    Refused(String),
}

/// All keywords, each with its place.
pub fn words() -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut place = "";
    WORDS.lines().flat_map(move |line| {
        if let Some(named) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            place = named;
            return Vec::new();
        }
        let each = if place == "proxy" { vec![line] } else { line.split(' ').collect() };
        each.into_iter().map(|word| (place, word)).collect()
    })
}

pub fn all() -> &'static [(&'static str, &'static str)] {
    static ALL: OnceLock<Vec<(&str, &str)>> = OnceLock::new();
    ALL.get_or_init(|| words().collect())
}

/// HAProxy knows this word at this place.
pub fn is_known(place: &str, word: &str) -> bool {
    all().contains(&(place, word))
}

/// Configurations that use a word, each with the one that does not.
fn uses(place: &str, word: &str) -> Vec<(String, String)> {
    if let Some((_, _, example)) = EXAMPLES.iter().find(|(at, known, _)| *at == place && *known == word) {
        let without: Vec<&str> = example.lines().filter(|line| !line.contains('@')).collect();
        return vec![(example.replace('@', ""), without.join("\n") + "\n")];
    }
    let line = |text: String| (proxies("", &text, ""), proxies("", "", ""));
    let values = ["", " 1", " 10s", " x", " /x", " x 1", " 127.0.0.1:1", " on", " 1 2 3", " none", " 99999"];
    match place {
        "section" => vec![(format!("{}{word} x\n  x\n", proxies("", "", "")), proxies("", "", ""))],
        "global" => values.map(|value| global(&format!("  {word}{value}\n"))).to_vec(),
        "proxy" if word.starts_with("compression ") => {
            let usual = "  compression algo gzip\n";
            let each = ["", " deflate", " response", " text/css", " 7"];
            each.map(|value| (proxies("", &format!("{usual}  {word}{value}\n"), ""), proxies("", usual, "")))
                .to_vec()
        }
        "proxy" => values.iter().flat_map(|value| in_sections(&format!("  {word}{value}\n"))).collect(),
        "bind" => {
            let each = |value: &&str| {
                let tls =
                    (proxies(&format!(" ssl crt /x {word}{value}"), "", ""), proxies(" ssl crt /x", "", ""));
                [(proxies(&format!(" {word}{value}"), "", ""), proxies("", "", "")), tls]
            };
            values.iter().flat_map(each).collect()
        }
        "server" => {
            let checked = " check agent-check agent-port 9 observe layer7 ssl verify none";
            let each = |value: &&str| {
                let plain = (proxies("", "", &format!(" {word}{value}")), proxies("", "", ""));
                [plain, (proxies("", "", &format!("{checked} {word}{value}")), proxies("", "", checked))]
            };
            values.iter().flat_map(each).collect()
        }
        "sample" | "acl" | "converter" => samples(place, word),
        "http-check" | "tcp-check" => values
            .map(|value| {
                let option = format!("  option {}\n", place.replace("http-check", "httpchk"));
                let text = format!("{option}  {place} {word}{value}\n");
                (proxies("", &text, " check"), proxies("", &option, " check"))
            })
            .to_vec(),
        rules => {
            let values =
                ["", " 1", " x", " x 1", " x y z", " 127.0.0.1:1", "(txn.x) str(1)", "(0)", "(0,1) 1"];
            let more = [" err", "(x) x", "(txn.x)", " hdr(x)", " src", " src table b", "(0,b) src"];
            let all = values.iter().chain(&more);
            all.map(|value| line(format!("  {rules} {word}{value}\n"))).collect()
        }
    }
}

fn proxies(bind: &str, lines: &str, server: &str) -> String {
    format!(
        "listen a\n  mode http\n  log 127.0.0.1:9 local0\n  bind 127.0.0.1:1{bind}\n{lines}  \
         server s 127.0.0.1:2{server}\nbackend b\n  mode http\n  server t 127.0.0.1:3\n  \
         stick-table type string size 1k store gpc0,http_req_rate(1s)\n"
    )
}

/// Arguments that samples and converters have.
const ARGUMENTS: [&str; 20] = [
    "",
    "(x)",
    "(1)",
    "(0,4)",
    "(1,a)",
    "(txn.x)",
    "(b)",
    "(b/t)",
    "(0)",
    "(0,b)",
    "(0,0)",
    "(t1)",
    "(t1,1)",
    "(sha256)",
    "(sha256,a2V5)",
    "('$.a')",
    "(%Y)",
    "(/x)",
    "(\",\",txn.x)",
    "(txn.x,txn.y)",
];

/// Uses of a sample, a converter, or the name of a condition.
fn samples(place: &str, word: &str) -> Vec<(String, String)> {
    let line = |text: String| (sampling(&text), sampling(""));
    match place {
        "sample" => {
            let each = |arguments: &&str| {
                let of = format!("{word}{arguments}");
                [
                    line(format!("  http-request set-header x %[{of}]\n")),
                    line(format!("  http-response set-header x %[{of}]\n")),
                    line(format!("  http-request deny if {{ {of} 1 }}\n")),
                    line(format!("  tcp-request content reject if {{ {of} }}\n")),
                ]
            };
            ARGUMENTS.iter().flat_map(each).collect()
        }
        "acl" => [" x", "(x) x", " 1", "(x) 1"]
            .map(|value| line(format!("  http-request deny if {{ {word}{value} }}\n")))
            .to_vec(),
        _ => {
            let mut all = Vec::new();
            for arguments in ARGUMENTS {
                for input in ["path", "int(7)", "src", "bin(00)", "date"] {
                    let text = format!("  http-request set-header x %[{input},{word}{arguments}]\n");
                    all.push(line(text));
                }
            }
            all
        }
    }
}

/// A place with all that samples ask of: tables that are tracked, and people.
fn sampling(lines: &str) -> String {
    let counters = "conn_cnt,conn_cur,conn_rate(1s),sess_cnt,sess_rate(1s),http_req_cnt,http_req_rate(1s),\
                    http_err_cnt,http_err_rate(1s),http_fail_cnt,http_fail_rate(1s),bytes_in_cnt,\
                    bytes_in_rate(1s),bytes_out_cnt,bytes_out_rate(1s),gpc0,gpc0_rate(1s),gpc1,gpc1_rate(1s),gpt0";
    let tables: String = ["t0", "t1", "t2"]
        .map(|name| format!("backend {name}\n  stick-table type ip size 1k store {counters}\n"))
        .concat();
    let tracks: String =
        [0, 1, 2].map(|at| format!("  http-request track-sc{at} src table t{at}\n")).concat();
    let people = "userlist x\n  user u insecure-password p\n";
    proxies("", &format!("  stick-table type ip size 1k store {counters}\n{tracks}{lines}"), "")
        + &tables
        + people
}

fn global(line: &str) -> (String, String) {
    (format!("global\n{line}{}", proxies("", "", "")), format!("global\n{}", proxies("", "", "")))
}

/// A line in a `listen`, and in a `frontend` and a `backend`.
fn in_sections(line: &str) -> [(String, String); 3] {
    let rest = "backend c\n  mode http\n  server t 127.0.0.1:3\n";
    let front = |line: &str| {
        format!("frontend f\n  mode http\n  bind 127.0.0.1:1\n{line}  default_backend c\n{rest}")
    };
    let back = |line: &str| {
        format!("frontend f\n  mode http\n  bind 127.0.0.1:1\n  default_backend c\n{rest}{line}")
    };
    [(proxies("", line, ""), proxies("", "", "")), (front(line), front("")), (back(line), back(""))]
}

fn read(text: &str) -> Running {
    let source = Source { kind: SourceKind::Haproxy, file: "x".into(), text: text.into() };
    let own_pages = Some((SocketAddr::from(([127, 0, 0, 1], 9)), "word".to_owned()));
    running(&[source], &BTreeMap::new(), Places { stats: own_pages, ..Places::default() })
}

/// What the import says of it, for the use that it likes best.
pub fn fate(place: &str, word: &str) -> Fate {
    let mut best: Option<Fate> = None;
    let mut known: BTreeMap<String, Running> = BTreeMap::new();
    for (with, without) in uses(place, word) {
        let usual = known.entry(without).or_insert_with_key(|text| read(text));
        let found = of_use(&read(&with), usual, place, word);
        if best.as_ref().is_none_or(|best| better(&found, best)) {
            best = Some(found);
        }
        if best == Some(Fate::Works) {
            break;
        }
    }
    best.unwrap_or(Fate::Swallowed)
}

/// Among reasons to refuse, those that say something of the word come first.
fn better(found: &Fate, best: &Fate) -> bool {
    let of_word = |why: &str| {
        let vague = ["unknown", "needed", "not a ", "is out of range", "neither"];
        !vague.iter().any(|part| why.contains(part))
    };
    match (found, best) {
        (Fate::Refused(found), Fate::Refused(best)) => of_word(found) && !of_word(best),
        (found, best) => found < best && !(*found == Fate::Swallowed && matches!(best, Fate::Differs(_))),
    }
}

fn of_use(made: &Running, usual: &Running, place: &str, word: &str) -> Fate {
    let new: Vec<&Diagnostic> = made
        .left
        .iter()
        .filter(|left| {
            let same = |known: &&Diagnostic| {
                (&known.keyword, &known.consequence) == (&left.keyword, &left.consequence)
            };
            !usual.left.iter().any(|known| same(&known))
        })
        .collect();
    let first = |severities: &[Severity]| new.iter().find(|left| severities.contains(&left.severity));
    if let Some(left) = first(&[Severity::Critical, Severity::Unsupported, Severity::Invalid]) {
        return Fate::Refused(left.consequence.clone());
    }
    let facts = |run: &Running| {
        let Running { text, proxies, sockets, pages, process, resolvers, tables, .. } = run;
        format!("{text:?}{proxies:?}{sockets:?}{pages:?}{process:?}{resolvers:?}{tables:?}")
    };
    let changed = facts(made) != facts(usual);
    if let Some(left) = first(&[Severity::Note]) {
        return if changed {
            Fate::Differs(left.consequence.clone())
        } else {
            Fate::NoEffect(left.consequence.clone())
        };
    }
    if let Some(left) = first(&[Severity::Remark]) {
        return Fate::NoEffect(left.consequence.clone());
    }
    match silent(place, word) {
        _ if changed => Fate::Works,
        Some("") => Fate::Works,
        Some(why) => Fate::NoEffect(why.to_owned()),
        None => Fate::Swallowed,
    }
}

/// Why a word that nothing becomes of is taken without a word; an empty reason is that it is how this program
/// works.
fn silent(place: &str, word: &str) -> Option<&'static str> {
    // A `?` is the space inside a keyword.
    let word = word.replace(' ', "?");
    let holds = |of: &&str| match of.split_once('*') {
        Some((start, end)) => word.starts_with(start) && word.ends_with(end),
        None => *of == word,
    };
    SILENT
        .iter()
        .find(|(at, words, _)| *at == place && words.split(' ').any(|w| holds(&w)))
        .map(|(_, _, why)| *why)
}

/// The page of the documentation, or the tables of some places.
pub fn page(places: Option<&[&str]>) -> String {
    let wanted = |place: &str| places.is_none_or(|places| places.contains(&place));
    let all: Vec<(&str, &str)> = words().filter(|(place, _)| wanted(place)).collect();
    let fates: Vec<Fate> = all.iter().map(|(at, word)| fate(at, word)).collect();
    let mut out = String::from(
        "# HAProxy's keywords\n\nEvery keyword of HAProxy 2.6 to 3.4, and what becomes of it in `evenkeel haproxy` \
         and in `evenkeel import haproxy`. This page is generated: the import was asked about each.\n\n\
         - **works**: it does what HAProxy's does.\n- **differs**: it works, and what is said differs.\n\
         - **no effect**: it is taken, and changes nothing for the reason that is said.\n\
         - **refused**: the configuration does not start; the reason says what to write instead.\n",
    );
    if places.is_some() {
        out.clear();
    }
    let mut place = "";
    for ((at, word), fate) in all.into_iter().zip(fates) {
        if at != place {
            place = at;
            out.push_str(&format!("\n## {}\n\n| keyword | fate | |\n|---|---|---|\n", title(place)));
        }
        let (fate, why) = match fate {
            Fate::Works => ("works", String::new()),
            Fate::Differs(why) => ("differs", why),
            Fate::NoEffect(why) => ("no effect", why),
            Fate::Swallowed => ("swallowed", String::new()),
            Fate::Refused(why) => ("refused", why),
        };
        let why = why.replace('|', "\\|").replace('\n', " ").replace('<', "&lt;");
        out.push_str(&format!("| `{word}` | {fate} | {why} |\n"));
    }
    out
}

fn title(place: &str) -> String {
    match place {
        "section" => "Sections".into(),
        "global" => "Keywords of `global`".into(),
        "proxy" => "Keywords of `defaults`, `frontend`, `listen` and `backend`".into(),
        "bind" => "Options of `bind`".into(),
        "server" => "Options of `server`".into(),
        "sample" => "Samples".into(),
        "acl" => "Names of conditions".into(),
        "converter" => "Converters".into(),
        rules => format!("Rules: `{rules}`"),
    }
}
