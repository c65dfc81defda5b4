//! Every fetch with every flag and way to compare, in turn as a named or nameless condition, with `if`
//! and `unless`, `!`, `or` and several values, at the places that take conditions.

use crate::case::Case;

/// A text that is fetched, with words that fit what clients send.
struct Fetch {
    text: &'static str,
    whole: &'static str,
    begin: &'static str,
    end: &'static str,
    part: &'static str,
    /// Between slashes and between dots.
    folder: &'static str,
    domain: &'static str,
    regex: &'static str,
    length: &'static str,
}

const fn fetch(text: &'static str, words: [&'static str; 8]) -> Fetch {
    let [whole, begin, end, part, folder, domain, regex, length] = words;
    Fetch { text, whole, begin, end, part, folder, domain, regex, length }
}

const PATH: [&str; 8] = ["/app/One.php", "/app", ".php", "p/On", "app", "php", "^/a.*p$", "12"];
const URL: [&str; 8] = ["/app?X=1", "/app/O", "X=1", "php?x", "app", "php", "[?]x=1", "8"];
const HEADER: [&str; 8] = ["one", "t", "o", "hre", "one", "two", "^(one|three)$", "3"];
const HOST: [&str; 8] =
    ["www.example.org", "www", "example.org", "exam", "www", "example.org", "^www[.]e.*g$", "15"];
const TEXTS: &[Fetch] = &[
    fetch("path", PATH),
    fetch("url", URL),
    fetch("pathq", URL),
    fetch("query", ["X=1", "x=1", "b", "=1&", "x", "y", "^[xX]=1", "7"]),
    fetch(
        "base",
        ["www.example.org/app/One.php", "www.ex", ".php", "org/a", "app", "example.org", "g/$", "16"],
    ),
    fetch("hdr(x-a)", HEADER),
    fetch("req.fhdr(x-a)", ["one, Two", "one", "Two", "e, T", "one", "three", "^one,", "8"]),
    fetch("req.hdr(x-a,1)", HEADER),
    fetch("hdr(host)", HOST),
    fetch("req.hdr(Host)", HOST),
    fetch("hdr(host),lower", HOST),
    fetch("req.cook(c)", ["Red", "R", "d", "e", "Red", "Red", "^R.d$", "3"]),
    fetch("url_param(x)", ["1", "1", "1", "1", "1", "1", "^[0-9]$", "1"]),
    fetch("path,lower", ["/app/one.php", "/app", ".php", "/one", "app", "php", "^/a.*p$", "12"]),
    fetch("method", ["POST", "P", "T", "OS", "GET", "GET", "^(GET|POST)$", "3"]),
    fetch("req.ver", ["1.0", "1", "0", ".", "1.1", "1.1", "^1[.]1$", "3"]),
    fetch("var(txn.v)", PATH),
];

const ASKS: &[&str] = &[
    "GET /app/One.php?x=1&a=b | X-A: one, Two | Cookie: c=Red; d=2",
    "GET / | Host: www.example.org:8080 | X-A: one | X-A: three",
    "GET /APP/one.php | Host: WWW.Example.ORG | X-A: TWO | Cookie: c=red",
    "POST /app?X=1 | X-A: ONE || body",
    "GET /x/app/ | Host: example.org.evil.net | X-A: ",
    "GET http://abs.example.org/app/One.php?y=1 | Host: abs.example.org",
    "GET / HTTP/1.0",
];

pub fn flags() -> Vec<Case> {
    let mut all = Vec::new();
    for fetch in TEXTS {
        for test in tests(fetch) {
            all.push(placed(&test, all.len()));
        }
    }
    for test in NUMBERS.iter().chain(NAMED) {
        all.push(placed(test, all.len()));
    }
    all
}

fn tests(fetch: &Fetch) -> Vec<String> {
    let name = fetch.text;
    let upper = |text: &str| text.to_uppercase();
    let mut all = vec![
        format!("{name} {}", fetch.whole),
        format!("{name} -i {}", upper(fetch.whole)),
        format!("{name} -m str {} other", fetch.whole),
        format!("{name} -m beg {}", fetch.begin),
        format!("{name} -i -m beg other {}", upper(fetch.begin)),
        format!("{name} -m end {}", fetch.end),
        format!("{name} -m end -i {}", upper(fetch.end)),
        format!("{name} -m sub {}", fetch.part),
        format!("{name} -m sub -i {}", upper(fetch.part)),
        format!("{name} -m dir {}", fetch.folder),
        format!("{name} -m dir -i {}", upper(fetch.folder)),
        format!("{name} -m dom {}", fetch.domain),
        format!("{name} -m dom -i {}", upper(fetch.domain)),
        format!("{name} -m reg {}", fetch.regex),
        format!("{name} -m reg -i {}", upper(fetch.regex)),
        format!("{name} -m len {}", fetch.length),
        format!("{name} -m len 2:5 {}", fetch.length),
        format!("{name} -m found"),
        format!("{name} -f FOLDER/words.lst"),
        format!("{name} -i -f FOLDER/words.lst"),
        format!("{name} -m beg -f FOLDER/words.lst"),
        format!("{name} -m sub -i -f FOLDER/words.lst -- {}", fetch.part),
        format!("{name} -m reg -f FOLDER/words.lst"),
    ];
    if matches!(name, "method") {
        all.truncate(3);
    }
    all
}

/// Numbers, addresses and yes or no.
const NUMBERS: &[&str] = &[
    "hdr_cnt(x-a) 2",
    "hdr_cnt(x-a) gt 1",
    "hdr_cnt(x-a) 0:1",
    "req.fhdr_cnt(x-a) eq 2",
    "req.hdr_cnt(host) ge 1",
    "hdr_val(x-a) 5",
    "url_param(x) -m int 1",
    "url_param(x) -m int gt 0",
    "req.hdr(x-a) -m int lt 10",
    "hdr_ip(x-a) 10.0.0.0/8",
    "req.hdr_ip(x-a,1) 10.1.2.3",
    "req.hdr(x-a) -m ip 10.0.0.0/8",
    "src 127.0.0.0/8",
    "src 10.0.0.0/8 127.0.0.1",
    "src -f FOLDER/networks.lst",
    "src -n -f FOLDER/networks.lst 192.168.0.0/16",
    "var(txn.v) -f FOLDER/words.lst",
    "var(txn.v) -m str -i -f FOLDER/words.lst -- /never",
    "var(txn.v) -m beg -f FOLDER/words.lst",
    "var(txn.v) -m dom -f FOLDER/words.lst",
    "path,lower -f FOLDER/words.lst",
    "path_beg -i -f FOLDER/words.lst",
    "path_reg -f FOLDER/words.lst",
    "src,ipmask(8) -m ip 127.0.0.0/8",
    "dst_port 1:65535",
    "dst_port 80",
    "src_port gt 1023",
    "ssl_fc",
    "ssl_fc_sni -m found",
    "nbsrv(@@b) ge 1",
    "nbsrv(@@b) lt 1",
    "always_true",
    "always_false",
    "path,length 1",
    "path,length gt 5",
    "query,length 0",
    "http_first_req",
    "req.body_len gt 0",
    "req.body_size 4",
    "req.cook_cnt(c) 1",
    "req.cook(d) -m int 2",
    "rand(1) lt 1",
    "req.hdr(host),field(1,:) -i www.example.org",
    "req.hdr(host),host_only www.example.org",
    "req.hdr(x-a),lower,word(1,e) on",
    "path,field(2,/) -m str app APP",
    "str(a) a",
    "int(5) gt 4",
    "bool(true)",
];

/// Conditions that have a name already, and old names of fetches.
const NAMED: &[&str] = &[
    "path_beg /app /static",
    "path_beg -i /APP",
    "path_end .php .png",
    "path_end -i .PHP",
    "path_sub One",
    "path_dir app",
    "path_dom php",
    "path_reg ^/app/[A-Z]",
    "path_reg -i ^/APP/one",
    "path_len 1",
    "url_beg /app",
    "url_beg -i /APP",
    "url_end =b",
    "url_sub ?x",
    "url_dir app",
    "url_dom abs.example.org",
    "url_reg [?].*=b$",
    "url_len gt 3",
    "hdr_beg(host) www",
    "hdr_beg(host) -i WWW",
    "hdr_end(host) example.org",
    "hdr_end(host) -i EXAMPLE.org",
    "hdr_sub(host) evil",
    "hdr_dom(host) example.org",
    "hdr_dom(host) -i EXAMPLE",
    "hdr_reg(host) -i ^WWW[.]",
    "hdr_len(host) 15",
    "hdr_dir(x-a) one",
    "hdr_sub(x-a) n",
    "cook(c) Red",
    "cook_beg(c) R",
    "cook_end(c) d",
    "cook_sub(c) -i ED",
    "cook_reg(c) ^[Rr]ed$",
    "cook_len(c) 3",
    "urlp_beg(x) 1",
    "urlp_reg(a) ^b$",
    "urlp(a) b",
    "urlp_len(x) ge 1",
    "base_beg www.example.org/app",
    "base_end .php",
    "base_sub org/APP",
    "base_dom evil.net",
    "base_reg ^www.*php$",
    "method GET",
    "method HEAD POST",
    "meth(GET)",
    "req_ver 1.0",
    "req.proto_http",
];

/// The test in one of the forms that conditions have, at one of the places that take them.
fn placed(test: &str, at: usize) -> Case {
    let (acl, when) = match at % 7 {
        0 | 4 => (String::new(), format!("if {{ {test} }}")),
        1 => (format!("acl t {test}"), "if t".into()),
        2 => (String::new(), format!("unless {{ {test} }}")),
        3 => (format!("acl t {test}"), "if !t".into()),
        5 => (format!("acl t {test}\nacl t path /never"), "if t METH_GET or METH_POST t".into()),
        _ => (String::new(), format!("if !{{ {test} }} or {{ path /never }}")),
    };
    let early = "http-request set-var(txn.v) path\nhttp-request set-header x-first %[path]";
    let front = match (at / 7) % 6 {
        0 => format!("{acl}\n{early}\nhttp-request set-header x-hit yes {when}"),
        1 => format!("{acl}\n{early}\nhttp-request deny {when}"),
        2 => format!("{acl}\n{early}\nhttp-request redirect location /there code 303 {when}"),
        3 => format!("{acl}\n{early}\nuse_backend @@o {when}"),
        4 => format!("{acl}\n{early}\nhttp-request set-path /other%[path] {when}"),
        _ => format!("{acl}\n{early}\nhttp-request add-header x-hit %[method] {when}"),
    };
    let front: String = front.lines().filter(|l| !l.is_empty()).map(|l| format!("  {l}\n")).collect();
    let config = format!(
        "frontend @@\n  bind BIND\n{front}  default_backend @@b\nbackend @@b\n  server s1 S1\nbackend @@o\n  server s2 S2\n"
    );
    // Whole addresses as proxies' clients send them go on without scheme and host.
    let whole = ["url", "capture.req.uri"].iter().any(|word| test.starts_with(word))
        && !test.starts_with("url_param");
    let asks: Vec<&str> = ASKS.iter().filter(|ask| !(whole && ask.contains("http://"))).copied().collect();
    Case::new(config, &asks)
}

/// What is refused with a message.
pub const TOLD: &[&str] = &[
    // A list is compared with one sample, not with a text of several.
    "base -m beg -f ",
    "base -m sub -i -f ",
    "base -m reg -f ",
    "base -i -f ",
    // Numbers of one header of several, counts, and what a body holds.
    "hdr_val(x-a)",
    "req.hdr(x-a) -m ",
    "req.fhdr_cnt",
    "req.body_",
    "req.cook_cnt",
    "url_param(x) -m int",
    "req.cook(d) -m int",
    "rand(",
    "req.proto_http",
    "bool(true)",
    "req.ssl",
];

/// What differs, as docs/haproxy.md says.
pub const KNOWN: &[&str] = &[];
