//! Every sample and converter that is accepted, each over the same list of odd requests: values that are
//! repeated, empty, missing, in lists and in quotes.

use crate::case::Case;

/// Repeated, missing, empty, quoted, spaced.
const ASKS: &[&str] = &[
    "GET /a/b.html?x=1&y=2&x=3 | Host: www.example.org:8080 | X-A: one, two | X-A: three | Cookie: a=1; b=2; a=3 | Cookie: a=4 | X-IP: 10.0.0.1, 10.0.0.2 | X-N: 17",
    "GET / | Host: h",
    "GET /? | Host: H.Example.ORG | X-A: \"p,q\", r | Cookie: a=x; b | X-N: -5 | X-IP: bad",
    "GET /p;q=1/%41b+c?x=&x=%20a+b&&=v&z | Host: [::1]:80 | X-A: \"q,r\", s | X-A: , ,t | Cookie: a=x=y | X-N: 1,2 | X-IP: 2001:db8::1",
    "POST /f?x= | Host: h:1 | X-A: ,first | Cookie: A=up;a=low;  a = sp | X-N: 12abc || x=body&y=b2",
    "GET /m | X-A: abc | X-N: abc | X-IP: 127.0.0.1",
    "GET /q?x=1 | X-A: a b/c=d | X-N: 007 | Cookie: c=1; a=2",
];

const SAMPLES: &[&str] = &[
    "req.cook(a)",
    "cook(a)",
    "cook_cnt(a)",
    "req.cook_cnt(a)",
    "cook_val(a)",
    "hdr(x-a)",
    "req.hdr(x-a,1)",
    "req.hdr(x-a,2)",
    "req.hdr(x-a,-2)",
    "req.hdr(x-a,5)",
    "req.fhdr(x-a)",
    "req.fhdr(x-a,1)",
    "req.fhdr(x-a,-2)",
    "req.fhdr_cnt(x-a)",
    "hdr_cnt(x-a)",
    "hdr_val(x-n)",
    "req.hdr_ip(x-ip)",
    "hdr_ip(x-ip,1)",
    "url_param(x)",
    "url_param(X,,i)",
    "urlp(Y,?,i)",
    "urlp(y)",
    "urlp(z)",
    "urlp_val(x)",
    "url",
    "path",
    "pathq",
    "query",
    "base",
    "method",
    "req.ver",
    "hdr(host)",
    "int(5)",
    "bool(true)",
    "str(abc)",
    "src",
    "dst",
    "be_name",
    "ssl_f_serial",
    "ssl_c_sha1,hex",
    "http_first_req",
    "ssl_fc",
    "ssl_fc_has_sni",
    "base32",
    "url32",
    "capture.req.method",
    "capture.req.uri",
    "capture.req.ver",
    "var(txn.none)",
    "var(txn.none,dflt)",
];

/// Each of a header that may be missing, of a number and of the path.
const CONVERTERS: &[(&str, &str)] = &[
    (
        "hdr(x-a)",
        "lower upper length sha1,hex base64 b64dec url_enc json word(1,e) field(1,e) bytes(1,2) crc32 crc32(1) crc32c djb2 djb2(1) sdbm sdbm(1) xxh32 xxh32(5) xxh64 xxh64(7) xxh3 xxh3(7) wt6 wt6(1) digest(sha256),hex hmac(sha256,a2V5),hex sha2(256),hex hex ltrim(a) rtrim(e) regsub(e,E,g) concat(-,,z) map(FOLDER/twice.map) map(FOLDER/twice.map,def) map_beg(FOLDER/twice.map,def) map_end(FOLDER/twice.map,def) map_sub(FOLDER/twice.map,def) map_reg(FOLDER/twice.map,def) map_dir(FOLDER/twice.map) map_dir(FOLDER/twice.map,def) hex2i cut_crlf has_ctl",
    ),
    (
        "hdr(x-n)",
        "hex2i add(1) sub(1) mul(2) div(2) mod(7) and(3) or(3) xor(3) cpl neg odd even bool not iif(y,n)",
    ),
    (
        "path",
        "map_dir(FOLDER/twice.map,def) has_ctl,bool length url_dec map_beg(FOLDER/twice.map,def) word(1,/) field(2,/)",
    ),
    ("hdr(x-ip)", "ipmask(24) ipmask(24,64)"),
    ("hdr(host)", "host_only port_only lower"),
    ("url_param(x)", "url_dec url_dec(1)"),
    ("int(5)", "add(3) and(4) xor(1) cpl iif(y,n) odd"),
    ("date(784111777)", "mul(0)"),
    ("rand(1)", "add(0) bool"),
];

/// With the body, that is waited for.
const BODIES: &[&str] = &["req.body", "req.body_len", "req.body_param(x)", "req.body_param(y)"];

const RULES: &[&str] = &[
    "http-request set-var(txn.n) int(3)\n%[int(5),and(txn.n)]",
    "http-request set-var(txn.n) str(a)\nhttp-request set-var(txn.n,ifexists) str(b)\n%[var(txn.n)]",
    "http-request set-var(txn.n,ifexists) str(b)\n%[var(txn.n)]",
    "http-request set-var(txn.n) str(a)\nhttp-request set-var(txn.n,ifnotexists) str(b)\n%[var(txn.n)]",
    "http-request set-var(txn.n,ifnotexists) str(b)\n%[var(txn.n)]",
    "http-request set-var(txn.n) str(a)\nhttp-request unset-var(txn.n)\nhttp-request set-var(txn.n,ifset) str(b)\n%[var(txn.n)]",
    "http-request set-var-fmt(txn.n) a%[path]b\n%[var(txn.n)]",
    "http-request set-var(txn.a) req.cook(a)\nhttp-request set-var(txn.a) req.cook(b)\n%[var(txn.a)]",
];

const CONDITIONS: &[&str] = &[
    "req.cook(a) 4",
    "req.cook(a) 1",
    "req.cook(a) -m found",
    "cook_cnt(a) 3",
    "cook_cnt(a) gt 1",
    "url_param(x) 3",
    "url_param(x) 1",
    "hdr(x-a) one",
    "hdr(x-a) -m found",
    "query -m found",
    "hdr(x-n) -m int gt 5",
    "hdr(x-n) -m int 0",
    "hdr_val(x-n) gt 5",
    "hdr_val(x-n) 17",
    "hdr_cnt(x-a) 3",
    "req.fhdr_cnt(x-a) 2",
    "path_len gt 3",
    "path,length gt 3",
    "url_len gt 5",
    "req.ver 1.1",
    "hdr_ip(x-ip) 10.0.0.0/8",
    "rand(100) lt 101",
    "rand(100) gt 100",
    "ssl_fc_has_sni",
    "bool(true)",
];

pub const TOLD: &[&str] = &["hdr_ip(x-ip) 10"];

pub const KNOWN: &[&str] = &[
    // HAProxy 2.6 takes this for an overflow where the number is below 0.
    "hdr(x-n),sub(1)",
];

fn text(lines: &str, sample: &str) -> Case {
    let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    let config = format!(
        "listen @@\n  bind BIND\n{lines}  http-request return status 200 content-type text/plain lf-string \"<{sample}>\"\n"
    );
    Case::new(config, ASKS)
}

pub fn all() -> Vec<Case> {
    let mut cases: Vec<Case> = SAMPLES.iter().map(|sample| text("", &format!("%[{sample}]"))).collect();
    for (of, converters) in CONVERTERS {
        cases.extend(converters.split(' ').map(|converter| text("", &format!("%[{of},{converter}]"))));
    }
    cases.extend(BODIES.iter().map(|sample| text("option http-buffer-request", &format!("%[{sample}]"))));
    for rule in RULES {
        let (lines, sample) = rule.rsplit_once('\n').unwrap_or(("", rule));
        cases.push(text(lines, sample));
    }
    for condition in CONDITIONS {
        let said = "http-request return status 200 content-type text/plain string";
        let config = format!("listen @@\n  bind BIND\n  {said} yes if {{ {condition} }}\n  {said} no\n");
        cases.push(Case::new(config, ASKS));
    }
    cases
}
