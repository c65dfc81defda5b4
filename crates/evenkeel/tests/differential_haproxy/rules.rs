//! What rules do with requests, answers and connections.

use crate::case::Case;

/// What is refused with a message.
pub const TOLD: &[&str] = &[
    "%HV",
    "http-response wait-for-body",
    "proc.n",
    "ltime",
    "language(",
    "hdr_names",
    "base32",
    "set-log-level",
    "set-nice",
    "set-tos",
    "set-mark",
    "capture cookie",
    "strict-mode",
    "disable-l7-retry",
    "set-priority-class",
    "early-hint",
    "set-timeout tunnel",
    "use-service",
    "http-error",
    "silent-drop",
    "res.ver",
    "http-response capture",
    "http-response track-sc0",
    "cache-store",
    "res.cook",
    "capture.req.hdr(0)",
];

/// What differs, as docs/haproxy.md says.
pub const KNOWN: &[&str] = &[
    // Figures of each process; names and some values are compared in haproxy_metrics.rs.
    "prometheus-exporter",
    // Lines about connections that are refused, and times of requests that are.
    "tcp-request connection reject",
    "tcp-request session reject",
    "tcp-request content reject",
    "http-request reject",
    "http-request tarpit",
    "monitor-uri",
    // A text of a rule that was not asked has no place in the line.
    "http-request capture",
    // What of `10.1.2.3` is a number.
    "req.hdr_val(x-a)",
];

const ASKS: &[&str] = &[
    "GET /app/one?x=1&y=2 | X-A: one, two | X-B: b",
    "GET / | Host: www.example.org:8080",
    "GET /app/ | Host: Other.Example.org | Cookie: c=1; d=2",
    "POST /app/form?z | X-A: three || a=b",
    "GET http://abs.example.org/abs/path?q=1 | Host: abs.example.org",
    "GET /a%20b//c/../d?e=%2F | X-A: 10.1.2.3",
];

/// Rules without their conditions.
const OF_REQUESTS: &[&str] = &[
    "http-request deny",
    "http-request deny deny_status 429",
    "http-request deny status 401",
    "http-request deny deny_status 404 content-type text/plain string \"not here\"",
    "http-request deny status 503 content-type text/plain lf-string \"no %[path]\" hdr x-why %[method]",
    "http-request deny deny_status 403 errorfile FOLDER/403.http",
    "http-request return status 200 content-type text/plain string \"hello\"",
    "http-request return status 200 content-type text/plain lf-string \"%[req.hdr(host)] %[path]\"",
    "http-request return status 200 content-type text/html file FOLDER/page.html",
    "http-request return status 200 content-type text/plain lf-file FOLDER/page.lf",
    "http-request return status 302 hdr Location /elsewhere",
    "http-request return status 404 default-errorfiles",
    "http-request return",
    "http-request redirect location /there",
    "http-request redirect location https://new.example.org%[path] code 301",
    "http-request redirect location https://%[req.hdr(host)]%[capture.req.uri] code 308",
    "http-request redirect prefix https://new.example.org",
    "http-request redirect prefix /deep code 307",
    "http-request redirect prefix https://new.example.org drop-query",
    "http-request redirect prefix https://new.example.org drop-query append-slash",
    "http-request redirect prefix / drop-query",
    "http-request redirect scheme https",
    "http-request redirect scheme https code 301",
    "http-request redirect scheme https drop-query",
    "http-request redirect location /c set-cookie SEEN=1",
    "http-request redirect location /c clear-cookie USERID=",
    "redirect location /old-form",
    "redirect prefix https://p.example.org code 301",
    "redirect scheme https code 301",
    "http-request set-header x-new value",
    "http-request set-header x-new \"two words\"",
    "http-request set-header x-a %[req.hdr(x-a)]-%[req.fhdr(x-a)]",
    "http-request set-header host inner.example.org",
    "http-request set-header X-Forwarded-Host %[req.hdr(host)]",
    "http-request set-header x-all \"%[src] %[dst_port] %[method] %[path] %[query]\"",
    "http-request set-header x-url \"%[url] %[pathq] %[base]\"",
    "http-request set-header x-vars \"%ci %HM %HP %HQ %HU %HV\"",
    "http-request set-header x-node \"%H %[hostname] %[hostname,upper]\"",
    "http-request set-header x-names \"%f %b %[fe_name] %[be_name]\"",
    "http-request set-header x-cook %[req.cook(c)]",
    "http-request set-header x-param %[url_param(x)]-%[urlp(y)]",
    "http-request set-header x-none \"<%[req.hdr(x-none)]>\"",
    "http-request set-header x-low %[req.hdr(host),lower]",
    "http-request set-header x-up %[path,upper]",
    "http-request set-header x-b64 %[path,base64]",
    "http-request set-header x-hash %[path,sha2(256),hex]",
    "http-request set-header x-hash %[path,sha1,hex]",
    "http-request set-header x-crc %[path,crc32]",
    "http-request set-header x-crc %[path,crc32c]",
    "http-request set-header x-port %[req.hdr(host),host_only]-%[req.hdr(host),port_only]",
    "http-request set-header x-int %[int(7),neg]-%[int(7),odd]-%[int(7),even]-%[int(7),bool]-%[int(0),not]",
    "http-request set-header x-trim %[method,ltrim(G)]-%[method,rtrim(T)]",
    "http-request set-var(txn.n) int(5)\nhttp-request set-header x-sum %[path,length,add(txn.n)]-%[path,length,mul(txn.n)]",
    "http-request set-header x-djb %[path,djb2]",
    "http-request set-header x-sdbm %[path,sdbm]",
    "http-request set-header x-wt6 %[path,wt6]",
    "http-request set-header x-xxh %[path,xxh32]-%[path,xxh64]",
    "http-request set-header x-field %[path,field(2,/)]",
    "http-request set-header x-field %[path,field(-1,/)]",
    "http-request set-header x-word %[path,word(2,/)]",
    "http-request set-header x-bytes %[path,bytes(1,3)]",
    "http-request set-header x-sub %[path,regsub(/app,/x)]",
    "http-request set-header x-sub %[path,regsub(a,A,g)]",
    "http-request set-header x-sub %[path,regsub(APP,y,i)]",
    "http-request set-header x-sub %[path,regsub(\\d+,N,g)]",
    "http-request set-header x-sub \"%[path,regsub('(a)(p)','<\\2\\1>')]\"",
    "http-request set-header x-sub '%[path,regsub(\"\\.\",\"-\",g)]'",
    "http-request set-header x-mask %[req.hdr_ip(x-b),ipmask(24,ffff:ffff::)]",
    "http-request set-header x-mask %[src,ipmask(255.0.255.0)]",
    "http-request set-header x-up %[nbsrv(@@b)]",
    "http-request set-header x-dec %[url_param(e),url_dec]",
    "http-request set-header x-enc %[path,url_enc]",
    "http-request set-header x-json %[path,json(utf8)]",
    "http-request set-header x-len %[path,length]",
    "http-request set-header x-hex %[method,hex]",
    "http-request set-header x-cat \"%[path,concat(<,txn.none,>)]\"",
    "http-request set-header x-iif %[ssl_fc,iif(tls,plain)]",
    "http-request set-header x-mask %[src,ipmask(8)]",
    "http-request set-header x-map %[path,map_beg(FOLDER/names.map,none)]",
    "http-request set-header x-map %[req.hdr(x-a),map(FOLDER/names.map)]",
    "http-request set-header x-map %[src,map_ip(FOLDER/names.map,far)]",
    "http-request set-header x-map %[req.hdr(host),lower,map(FOLDER/names.map,none)]",
    "http-request set-header x-int %[int(5),add(3),mul(2)]",
    "http-request set-header x-int %[path,length,sub(1)]",
    "http-request set-header x-int %[path,length,mod(4)]",
    "http-request set-header x-int %[int(7),and(3)]-%[int(4),or(1)]-%[int(5),xor(1)]-%[int(3),neg]",
    "http-request set-header x-bool %[path,length,even]-%[path,length,odd]-%[bool(true),not]",
    "http-request set-header x-date %[int(0),http_date]",
    "http-request set-header x-time %[int(0),ltime(%Y)]-%[int(0),utime(%Y-%m-%d)]",
    "http-request set-header x-lang %[req.hdr(accept-language),language(fr;de,en)]",
    "http-request set-header x-cnt %[req.hdr_cnt(x-a)]-%[req.fhdr_cnt(x-a)]",
    "http-request set-header x-val %[req.hdr_val(x-a)]",
    "http-request set-header x-ip %[req.hdr_ip(x-a)]",
    "http-request set-header x-tail %[path,ltrim(/)]-%[path,rtrim(/)]",
    "http-request set-header x-body \"%[req.body]\"",
    "http-request set-header x-names %[req.hdr_names]",
    "http-request set-header x-ver %[req.ver]-%[http_first_req]",
    "http-request set-header x-host %[req.hdr(host),host_only]-%[req.hdr(host),port_only]",
    "http-request set-header x-query %[query,field(1,&)]",
    "http-request set-header x-str %[str(fixed)]",
    "http-request set-header x-b32 %[base32]",
    "http-request set-header x-srv %[nbsrv(@@)]",
    "http-request set-header x-tls %[ssl_fc]-%[ssl_fc_sni]",
    "http-request add-header x-a more",
    "http-request add-header x-new %[path]",
    "http-request del-header x-a",
    "http-request del-header x- -m beg",
    "http-request del-header -a -m end",
    "http-request del-header x -m sub",
    "http-request del-header ^x-[ab]$ -m reg",
    "http-request set-path /new",
    "http-request set-path /new%[path]",
    "http-request set-path %[path,regsub(^/app,/)]",
    "http-request set-pathq /n?new=1",
    "http-request set-pathq %[path]?path=%[query]",
    "http-request set-query a=b",
    "http-request set-query %[query]&more=1",
    "http-request set-uri /whole?uri",
    "http-request set-uri http://u.example.org/whole%[path]",
    "http-request set-uri %[url,regsub(^/app,)]",
    "http-request set-method PUT",
    "http-request set-method %[str(DELETE)]",
    "http-request replace-header x-a (.*)one(.*) \\1ONE\\2",
    "http-request replace-header x-a one two",
    "http-request replace-header Host (.*) in.\\1",
    "http-request replace-header X-A \"^(.*), (.*)$\" \"\\2 \\1\"",
    "http-request replace-value x-a one ONE",
    "http-request replace-value x-a ^t(.*)$ T\\1",
    "http-request replace-path /app(/.*)? \\1",
    "http-request replace-path (.*) /foo\\1",
    "http-request replace-path /app/ /",
    "http-request replace-pathq /app/([^?]*)(.*) /p/\\1\\2",
    "http-request replace-pathq (.*)\\?x=1(.*) \\1\\2",
    "http-request replace-uri ^/app/(.*) /u/\\1",
    "http-request replace-uri ^http://abs.example.org(.*) \\1",
    "http-request replace-uri (.*) \\1",
    "http-request set-var(txn.x) path\nhttp-request set-header x-var %[var(txn.x)]",
    "http-request set-var(req.x) req.hdr(x-a),lower\nhttp-request set-header x-var %[var(req.x)]",
    "http-request set-var-fmt(txn.x) %[path]-%[method]\nhttp-request set-header x-var %[var(txn.x)]",
    "http-request set-var(txn.x) str(a)\nhttp-request unset-var(txn.x)\nhttp-request set-header x-var <%[var(txn.x)]>",
    "http-request set-var(sess.n) int(1)\nhttp-request set-header x-var %[var(sess.n),add(1)]",
    "http-request set-var(proc.n) int(1)\nhttp-request set-header x-var %[var(proc.n)]",
    "http-request allow",
    "http-request allow\nhttp-request set-header x-after allow",
    "http-request reject",
    "timeout tarpit 200ms\nhttp-request tarpit deny_status 500",
    "http-request set-log-level silent",
    "http-request set-nice 5",
    "http-request set-tos 8",
    "http-request set-mark 1",
    "http-request set-src hdr(x-a)",
    "http-request set-src-port int(1234)\nhttp-request set-header x-port %[src_port]",
    "http-request set-dst str(10.0.0.1)\nhttp-request set-header x-dst %[dst]",
    "http-request set-dst-port int(81)\nhttp-request set-header x-port %[dst_port]",
    "http-request capture req.hdr(host) len 20",
    "http-request capture path len 4",
    "capture request header X-A len 10\ncapture request header Host len 5",
    "capture cookie c len 5",
    "capture response header X-Server len 10",
    "http-request normalize-uri path-merge-slashes",
    "http-request normalize-uri path-strip-dotdot",
    "http-request normalize-uri percent-to-uppercase",
    "http-request normalize-uri query-sort-by-name",
    "http-request strict-mode on",
    "http-request wait-for-body time 1s",
    "http-request disable-l7-retry",
    "http-request set-priority-class int(1)",
    "http-request auth realm Secret",
    "http-request early-hint Link \"</a.css>; rel=preload\"",
    "http-request track-sc0 src",
    "http-request track-sc0 src table @@t",
    "http-request set-timeout server 5s",
    "http-request set-timeout tunnel 5s",
    "http-request use-service prometheus-exporter",
    "monitor-uri /app/",
    "errorfile 403 FOLDER/403.http\nhttp-request deny",
    "http-error status 403 content-type text/plain string \"own\"\nhttp-request deny",
    "unique-id-format %{+X}o%ci\nunique-id-header x-unique\nhttp-request set-header x-id fixed",
    "use-server s2",
    "tcp-request connection reject",
    "tcp-request connection accept",
    "tcp-request session reject",
    "tcp-request inspect-delay 1s\ntcp-request content reject",
    "tcp-request inspect-delay 1s\ntcp-request content accept",
    "tcp-request content set-var(txn.t) src\nhttp-request set-header x-t %[var(txn.t)]",
    "tcp-request connection set-var(sess.t) src\nhttp-request set-header x-t %[var(sess.t)]",
    "tcp-request connection silent-drop",
];

const WHEN: &[&str] =
    &["", " if { path_beg /app }", " unless METH_POST", " if { hdr(x-a) -m sub o } !{ path /x }"];

pub fn of_requests() -> Vec<Case> {
    let mut all = Vec::new();
    for (at, rule) in OF_REQUESTS.iter().enumerate() {
        // Each once without a condition and once with one of them, in a frontend or in a backend.
        let first = !rule.starts_with("tcp-request") && !rule.starts_with("use-server");
        for turn in 0..2 {
            let when = if turn == 0 && first { "" } else { WHEN[1 + at % (WHEN.len() - 1)] };
            if turn == 1 && takes_no_condition(rule) {
                continue;
            }
            let when =
                if rule.starts_with("tcp-request connection") || rule.starts_with("tcp-request session") {
                    [" if { src 127.0.0.0/8 }", " if { src 10.0.0.0/8 }"][turn]
                } else {
                    when
                };
            all.push(in_section(&conditional(rule, when), (at + turn) % 3));
        }
    }
    let heads = [
        "GET /a | Connection: Upgrade | Upgrade: websocket",
        "GET /b | Connection: Upgrade | Upgrade: chat",
        "POST /c | Transfer-Encoding: chunked, chunked",
        "POST /d | Transfer-Encoding: chunked, gzip, chunked",
        "POST /e | Transfer-Encoding: gzip, chunked",
        "GET /f | TE: trailers",
        "GET /g | TE: gzip, trailers",
        "GET /h | TE: trailers;q=0.5",
        "GET /i | X-Want: 101 | X-Answer: Upgrade: websocket | Connection: Upgrade | Upgrade: websocket | Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    all.push(Case::web("", &heads));
    all.push(Case::web("http-request set-method GET", &["HEAD /a", "HEAD /b", "GET /c"]).on_one_connection());
    for path in ["$.a.b", "$.n", "$.l[1]", "$.t", "$.none", "$.a"] {
        let line = format!("http-request set-header x-json \"<%[req.fhdr(x-j),json_query('{path}')]>\"");
        let text = r#"GET / | x-j: {"a":{"b":"v w"},"n":42,"l":[1,"two"],"t":true}"#;
        all.push(Case::web(&line, &[text, "GET / | x-j: none"]));
    }
    all
}

fn takes_no_condition(rule: &str) -> bool {
    ["capture re", "capture cookie", "monitor-uri", "unique-id"].iter().any(|word| rule.starts_with(word))
}

/// Every rule of some lines with a condition.
fn conditional(rules: &str, when: &str) -> String {
    let takes = |line: &&str| {
        let first = line.split(' ').next().unwrap_or("");
        ["http-request", "http-response", "redirect", "use-server", "tcp-request", "http-after-response"]
            .contains(&first)
            && !line.contains("inspect-delay")
    };
    let lines =
        rules.lines().map(|line| if takes(&line) { format!("{line}{when}") } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}

fn in_section(rules: &str, which: usize) -> Case {
    let of_front = ["tcp-request connection", "tcp-request session", "monitor-uri", "capture", "unique-id"];
    let of_back = rules.contains("use-server");
    let front = of_front.iter().any(|word| rules.contains(word));
    let tables = "backend @@t\n  stick-table type ip size 1k expire 1m store http_req_cnt,conn_cnt,gpc0\n";
    let mut case = match which {
        _ if of_back => Case::new(
            format!("listen @@\n  bind BIND\n  {rules}\n  server s1 S1\n  server s2 S2 weight 0\n"),
            ASKS,
        ),
        1 if !front => Case::pair("", rules, ASKS),
        0 => Case::pair(rules, "", ASKS),
        _ => Case::web(rules, ASKS),
    };
    if rules.contains("@@t") {
        case.config += tables;
    } else if rules.contains("track-sc0") {
        case.config = case.config.replacen(
            "  bind BIND\n",
            "  bind BIND\n  stick-table type ip size 1k store http_req_cnt\n",
            1,
        );
    }
    case
}

const OF_ANSWERS: &[&str] = &[
    "http-response set-header x-names \"%f %b %s 100%% %[srv_name]\"",
    "http-response set-header X-Server %s",
    "http-response set-header x-new value",
    "http-response set-header x-server over",
    "http-response set-header Location https://%[capture.req.hdr(0)]/x",
    "http-response set-header x-st %[status]-%[res.hdr(x-server)]",
    "http-response set-header x-st %[srv_name]-%[res.fhdr(x-list)]-%[res.ver]",
    "http-response add-header x-list three",
    "http-response del-header x-server",
    "http-response del-header x- -m beg",
    "http-response replace-header x-list (.*)one(.*) \\1ONE\\2",
    "http-response replace-header Location http://(.*) https://\\1",
    "http-response replace-header Set-Cookie (.*) \\1;Secure",
    "http-response replace-value x-list two TWO",
    "http-response set-status 418",
    "http-response set-status 503 reason Gone",
    "http-response deny",
    "http-response deny deny_status 500",
    "http-response return status 200 content-type text/plain string replaced",
    "http-response redirect location /after",
    "http-response redirect code 301 location /after?%[status] if { status 200 }",
    "http-response set-header x-gone yes\nhttp-response redirect location /after if { path /a }",
    "http-response return status 403 content-type text/plain lf-string \"was %[status]\" hdr x-was %[status] if { path /a }",
    "http-response set-header x-gone yes\nhttp-response return status 200 content-type text/plain string other",
    "http-response return status 404 errorfile FOLDER/403.http if { path /b }",
    "http-response set-var(txn.a) status\nhttp-response set-header x-var %[var(txn.a)]",
    "http-response set-var(res.a) res.hdr(x-list),lower\nhttp-response set-header x-var %[var(res.a)]",
    "http-response allow\nhttp-response set-header x-after allow",
    "http-response capture res.hdr(x-server) id 0",
    "http-response set-log-level silent",
    "http-response set-nice 1",
    "http-response set-tos 8",
    "http-response strict-mode on",
    "http-response track-sc0 src",
    "http-response cache-store none",
    "http-response wait-for-body time 1s",
    "http-after-response set-header x-own after",
    "http-after-response add-header x-list after",
    "http-after-response del-header x-server",
    "http-after-response set-status 200",
    "http-after-response set-header Strict-Transport-Security \"max-age=31536000\"",
    "http-request deny if { path /deny }\nhttp-after-response set-header x-own %[status]",
    "http-request redirect location /b if { path /deny }\nhttp-response set-header x-own yes",
    "tcp-response content accept",
    "tcp-response content reject",
    "tcp-response inspect-delay 1s\ntcp-response content accept",
    "http-response set-header x-ct %[res.cook(s)]",
    "http-response set-header x-rc %[res.hdr_cnt(x-list)]-%[res.fhdr_cnt(x-list)]",
    "http-response set-header x-val %[res.hdr_val(x-n)]",
    "http-request set-var(txn.h) req.hdr(host)\nhttp-response set-header x-host %[var(txn.h)]",
    "http-response set-header x-path %[capture.req.uri]-%[capture.req.method]-%[capture.req.ver]",
    "http-response set-header x-u %[path]",
    "http-response set-header x-id %[unique-id]",
];

const WANTED: &[&str] = &[
    "GET / | X-Answer: x-list: one, two",
    "GET /deny | X-Answer: x-list: one | X-Answer: x-list: Two",
    "GET / | X-Want: 404 | X-Answer: Location: http://in.example.org/a",
    "GET / | X-Want: 302 | X-Answer: Location: http://in.example.org/a | X-Answer: Set-Cookie: s=1; path=/ | X-Answer: Set-Cookie: t=2",
    "GET / | X-Want: 500 | X-Answer: x-n: 7",
    "GET / | X-Want: 204",
];

const OF_ANSWER: &[&str] = &[
    " if { status 404 }",
    " if { status 200:299 }",
    " if { res.hdr(x-list) -m found }",
    " unless { res.hdr(x-list) -m sub two }",
    " if { status ge 300 } { res.hdr(location) -m beg http: }",
    " if { srv_name s1 }",
    " if { res.hdr(x-list) -i ONE }",
    " if { res.hdr_cnt(x-list) gt 1 }",
];

pub fn of_answers() -> Vec<Case> {
    let mut all = Vec::new();
    for (at, rule) in OF_ANSWERS.iter().enumerate() {
        let after =
            rule.starts_with("http-after") || rule.starts_with("http-request") || rule.contains("inspect");
        let conditions = ["", OF_ANSWER[at % OF_ANSWER.len()]];
        for (turn, when) in conditions.iter().enumerate() {
            if turn == 1 && (after || rule.starts_with("tcp-")) {
                continue;
            }
            let rule = conditional(rule, when);
            let rule =
                if rule.contains("id 0") { format!("declare capture response len 10\n{rule}") } else { rule };
            let mut case = match (at + turn) % 2 {
                0 if !rule.contains("declare") => Case::pair("", &rule, WANTED),
                _ => Case::web(&rule, WANTED),
            };
            if rule.contains("capture.req.hdr(0)") {
                case.config = case.config.replacen(
                    "bind BIND\n",
                    "bind BIND\n  capture request header Host len 30\n",
                    1,
                );
            }
            if rule.contains("track-sc0") {
                case.config = case.config.replacen(
                    "  server s1",
                    "  stick-table type ip size 1k store http_req_cnt\n  server s1",
                    1,
                );
            }
            if rule.contains("cache-store") {
                case.config = case.config.replace("none", "@@c");
                case.config += "cache @@c\n  total-max-size 4\n";
            }
            all.push(case);
        }
    }
    all
}
