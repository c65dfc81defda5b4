//! Options, ways to balance, cookies, pages, checks, defaults.

use crate::case::Case;

/// What is refused with a message.
pub const TOLD: &[&str] = &[
    "http-restrict-req-hdr-names reject",
    "monitor fail if { nbsrv lt",
    "lf-string \"sorry",
    "text/html file FOLDER/page.html hdr",
    "send-state",
    "uri-lf",
    "http-send-name-header",
    "option accept-invalid",
    "option checkcache",
    "option disable-h2-upgrade",
    "option transparent",
    "rate-limit",
    "max-session-srv-conns",
    "email-alert",
    "force-persist",
    "ignore-persist",
    "declare capture",
    "server-state-file-name",
    "stick on req.cook",
    "stick on url_param",
    "stick store-response",
    "filter trace",
    "Partitioned",
    "preserve",
    "dynamic",
    "balance rdp-cookie",
    "balance hash path,lower",
    " redir ",
    "on-marked-up",
    "max-reuse",
    " tfo",
    " ws ",
    "resolve-prefer",
    "socks4",
    "server-template",
];

/// What differs, as docs/haproxy.md says.
pub const KNOWN: &[&str] = &[
    // The page has a text of its own, and what it and monitors are asked is logged.
    "stats uri /",
    "monitor-uri /",
    // Caches are told to keep cookies' answers to one client, a cookie of its name from a server stays, each domain
    // has a cookie of its own, and dates and prefixes of cookies are written otherwise.
    "indirect nocache",
    "insert postonly",
    "domain .b.org",
    "maxlife",
    "SRV prefix",
    "  cookie SRV\n",
    // Hashes and the order among servers of unlike weights are this program's own.
    "weight 2",
    // A server of weight 0 counts, and a backup takes what servers refuse before they are known to be down.
    "server s2 S2 backup",
    // Where nobody serves, and servers without a name of their own.
    "dispatch",
    "listen @@\n  bind BIND\n\n",
    "server s1 DEAD",
    "backend @@b\n  errorfile",
    "backend @@b\n  http-error",
    "backend @@b\n  errorloc",
    "backend @@b\n  errorfiles",
    "backend @@b\n\n",
    // A cookie that no server has is not taken back.
    "  cookie SRV insert\n",
    "  cookie OTHER insert\n",
    // Checks have a PROXY header of version 2.
    "-send-proxy",
    "inter 300ms fastinter 100ms rise 1 fall 1 send-proxy",
];

const ASKS: &[&str] = &[
    "GET /a?x=1 | X-A: one",
    "GET /b | X-A: two | X-Forwarded-For: 10.0.0.9",
    "POST /c | Cookie: SRV=s2; other=1 || body",
    "GET /d | X-Want: 404 | Cookie: SRV=s1",
    "GET /e | X_Odd: 1 | X.Dot: 2 | X-Even: 3",
];

const OPTIONS: &[&str] = &[
    "option abortonclose",
    "option accept-invalid-http-request",
    "option accept-invalid-http-response",
    "option allbackups",
    "option checkcache",
    "option clitcpka",
    "option contstats",
    "option disable-h2-upgrade",
    "option dontlog-normal",
    "option dontlognull",
    "option forwardfor",
    "option forwardfor except 127.0.0.0/8",
    "option forwardfor header X-Client",
    "option forwardfor if-none",
    "option forwardfor except 10.0.0.0/8 header X-Real if-none",
    "option h1-case-adjust-bogus-client",
    "option h1-case-adjust-bogus-server",
    "option http-buffer-request",
    "option http-ignore-probes",
    "option http-keep-alive",
    "option http-no-delay",
    "option http-pretend-keepalive",
    "option http-restrict-req-hdr-names delete",
    "option http-restrict-req-hdr-names preserve",
    "option http-restrict-req-hdr-names reject",
    "option http-server-close",
    "option httpclose",
    "option http-use-proxy-header",
    "option httplog",
    "option httpslog",
    "option idle-close-on-response",
    "option independent-streams",
    "option log-separate-errors",
    "option logasap",
    "option nolinger",
    "option originalto",
    "option originalto header X-Dst",
    "option persist",
    "option prefer-last-server",
    "option redispatch",
    "option redispatch 1",
    "option socket-stats",
    "option splice-auto",
    "option splice-request",
    "option splice-response",
    "option srvtcpka",
    "option tcp-smart-accept",
    "option tcp-smart-connect",
    "option tcpka",
    "option tcplog",
    "option transparent",
    "no option httplog",
    "no log",
    "retries 0",
    "retries 1",
    "retry-on conn-failure",
    "retry-on all-retryable-errors",
    "retry-on 404",
    "fullconn 100",
    "maxconn 100",
    "rate-limit sessions 1000",
    "backlog 100",
    "http-reuse safe",
    "http-reuse always",
    "http-reuse aggressive",
    "http-reuse never",
    "max-keep-alive-queue 10",
    "max-session-srv-conns 5",
    "hash-type consistent",
    "log-tag tagged",
    "log-format \"%f %b %s %ST %HM %HP\"",
    "timeout http-request 5s",
    "timeout http-keep-alive 5s",
    "timeout queue 5s",
    "timeout tunnel 5s",
    "timeout client-fin 5s",
    "timeout server-fin 5s",
    "timeout tarpit 5s",
    "timeout check 5s",
    "compression algo gzip",
    "compression algo gzip\ncompression type text/plain",
    "compression offload",
    "monitor-uri /b",
    "monitor-uri /b\nmonitor fail if { nbsrv lt 5 }",
    "errorfile 503 FOLDER/503.http",
    "errorloc 503 /sorry",
    "errorloc302 404 /sorry",
    "errorloc303 503 /sorry",
    "http-error status 503 content-type text/plain string sorry",
    "http-send-name-header X-Target",
    "http-request set-header x-a 1",
    "stats enable",
    "stats uri /b",
    "stats uri /b\nstats auth a:b",
    "stats enable\nstats uri /b\nstats realm R\nstats auth a:b",
    "source 127.0.0.1",
    "description text",
    "id 5",
    "email-alert level info",
    "force-persist if TRUE",
    "ignore-persist if { path /c }",
    "declare capture request len 10",
    "server-state-file-name x",
    "load-server-state-from-file none",
    "external-check command /bin/true",
    "stick-table type ip size 1k expire 1m\nstick on src",
    "stick-table type string len 20 size 1k expire 1m\nstick on hdr(x-a)",
    "stick-table type string size 1k\nstick on req.cook(SRV)",
    "stick-table type string size 1k\nstick on url_param(x)",
    "stick-table type string size 1k\nstick match req.hdr(x-a)\nstick store-request req.hdr(x-a)",
    "stick-table type string size 1k\nstick store-response res.hdr(x-server)",
    "stick-table type ip size 1k nopurge store conn_cnt,http_req_rate(10s)\nhttp-request track-sc0 src\nhttp-request deny if { sc0_conn_cnt gt 2 }",
    "stick-table type ip size 1k store http_req_cnt\nhttp-request track-sc0 src\nhttp-request set-header x-n %[sc0_http_req_cnt]",
    "stick-table type binary len 20 size 1k expire 10s store http_req_rate(10s)\nhttp-request track-sc0 base32+src\nhttp-request set-var(req.limit) int(2)\nhttp-request set-var(req.rate) base32+src,table_http_req_rate()\nacl abuse var(req.limit),sub(req.rate) lt 0\nhttp-request deny deny_status 429 if abuse",
    "stick-table type ip size 1k expire 10s store http_req_cnt\nhttp-request track-sc0 src\nhttp-request deny deny_status 429 if { src,table_http_req_cnt() gt 2 }",
    "stick-table type ip size 1k store gpc0\nhttp-request track-sc0 src\nhttp-request sc-inc-gpc0(0)\nhttp-request set-header x-n %[sc0_get_gpc0]",
    "stick-table type ip size 1k store gpt0\nhttp-request track-sc0 src\nhttp-request sc-set-gpt0(0) 7\nhttp-request set-header x-n %[sc0_get_gpt0]",
    "stick-table type ip size 1k store gpc0,gpc1\nhttp-request track-sc0 src\nhttp-request sc-inc-gpc0(0) if { path /a }\nhttp-request sc-inc-gpc1(0)\nhttp-request deny deny_status 429 if { sc0_get_gpc1 gt 1 }\nhttp-request set-header x-n %[sc0_get_gpc0]-%[sc0_get_gpc1]-%[src_get_gpc1]",
    "stick-table type string size 1k store gpt0,gpc0\nhttp-request track-sc0 path\nhttp-request sc-set-gpt0(0) int(5) if { sc0_get_gpt0 0 }\nhttp-request set-header x-n %[path,table_gpt0]\nhttp-request set-header x-in yes if { path,in_table }",
    "stick-table type string size 1k store http_req_cnt\nhttp-request track-sc1 req.hdr(x-a)\nhttp-request deny deny_status 429 if { sc1_http_req_cnt gt 1 }",
    "stick-table type ip size 1k store gpc0\nhttp-request track-sc0 src\nhttp-request deny deny_status 429 if { path /a } { sc0_inc_gpc0 gt 1 }",
    "stick-table type ip size 1k store gpc0,gpc1\nhttp-request track-sc0 src\nacl often sc0_inc_gpc0 gt 2\nacl twice src_inc_gpc1 gt 1\nacl forget sc0_clr_gpc0 ge 0\nhttp-request allow if { path /b } forget\nhttp-request set-header x-twice yes unless !twice\nhttp-request deny deny_status 429 if !{ path /c } often || { path /d }\nhttp-request set-header x-n %[sc0_get_gpc0]-%[src_get_gpc1]",
    "stick-table type ip size 1k store gpc0\nhttp-request deny deny_status 429 if { src_inc_gpc0 gt 2 }",
    "stick-table type string len 40 size 1k store http_req_cnt,gpc0\nhttp-request track-sc0 path\nhttp-request track-sc1 req.hdr(x-a)\nhttp-request sc-inc-gpc0(1)\nhttp-request deny deny_status 429 if { sc1_http_req_cnt gt 2 }\nhttp-request set-header x-many yes if { sc1_get_gpc0 gt 1 }\nhttp-request set-header x-n %[sc0_http_req_cnt]-%[path,table_gpc0]",
    "stick-table type string len 40 size 1k store http_req_cnt\nhttp-request set-var(txn.a) path\nhttp-request set-var(txn.b) req.hdr(x-a)\nhttp-request track-sc1 var(txn.a)\nhttp-request track-sc2 var(txn.b)\nhttp-request set-var(txn.n) sc_http_req_cnt(2)\nhttp-request deny deny_status 429 if { var(txn.n) -m int gt 2 }\nhttp-request set-header x-n %[sc_http_req_cnt(1)]",
    "stick-table type ip size 1k store http_err_cnt\nhttp-request track-sc0 src\nhttp-request set-header x-n %[src_http_err_cnt]",
    "acl bad path /b\nhttp-request deny if bad",
    "block if { path /b }",
    "filter compression",
    "filter trace",
];

const COOKIES: &[&str] = &[
    "cookie SRV insert",
    "cookie SRV insert indirect",
    "cookie SRV insert indirect nocache",
    "cookie SRV insert indirect nocache httponly secure",
    "cookie SRV insert postonly",
    "cookie SRV insert domain example.org",
    "cookie SRV insert domain .a.org domain .b.org",
    "cookie SRV insert indirect maxidle 30m maxlife 8h",
    "cookie SRV insert attr SameSite=Lax",
    "cookie SRV insert attr SameSite=None attr Partitioned",
    "cookie SRV insert preserve",
    "cookie SRV insert indirect preserve",
    "cookie SRV rewrite",
    "cookie SRV rewrite nocache",
    "cookie SRV prefix",
    "cookie SRV prefix nocache",
    "cookie SRV",
    "cookie SRV indirect",
    "cookie SRV insert dynamic\ndynamic-cookie-key KEY",
];

const BALANCE: &[&str] = &[
    "balance roundrobin",
    "balance static-rr",
    "balance leastconn",
    "balance first",
    "balance source",
    "balance source\nhash-type consistent",
    "balance source\nhash-type map-based",
    "balance uri",
    "balance uri whole",
    "balance uri depth 1",
    "balance uri len 2",
    "balance uri\nhash-type map-based sdbm",
    "balance uri path-only",
    "balance uri\nhash-type consistent sdbm avalanche",
    "balance uri\nhash-type map-based djb2",
    "balance url_param x",
    "balance url_param x check_post",
    "balance hdr(x-a)",
    "balance hdr(host) use_domain_only",
    "balance hdr(x-a)\nhash-type consistent",
    "balance random",
    "balance random(2)",
    "balance rdp-cookie",
    "balance hash path",
    "balance hash req.hdr(x-a)",
    "balance hash src",
    "balance hash url_param(x)",
    "balance hash path,lower",
    "balance source\nhash-balance-factor 150",
];

const SERVERS: &[&str] = &[
    "server s1 S1 weight 0\n server s2 S2",
    "server s1 S1 backup\n server s2 S2",
    "server s1 DEAD\n option redispatch\n retries 1\n server s2 S2 backup",
    "server s1 DEAD\n server s2 S2 backup",
    "server s1 S1 disabled\n server s2 S2",
    "server s1 S1 maxconn 5",
    "server s1 S1 maxqueue 5 maxconn 1",
    "server s1 S1 minconn 1 maxconn 5\n fullconn 10",
    "server s1 S1 source 127.0.0.1",
    "server s1 S1 send-proxy",
    "server s1 S1 send-proxy-v2",
    "server s1 S1 redir http://r.example.org",
    "server s1 S1 id 7",
    "server s1 S1 observe layer4 check",
    "server s1 S1 on-error mark-down",
    "server s1 S1 on-marked-down shutdown-sessions",
    "server s1 S1 on-marked-up shutdown-backup-sessions",
    "server s1 S1 init-addr last,libc",
    "server s1 S1 pool-max-conn 0",
    "server s1 S1 pool-purge-delay 1s",
    "server s1 S1 max-reuse 1",
    "server s1 S1 tcp-ut 5s",
    "server s1 S1 tfo",
    "server s1 S1 slowstart 10s",
    "server s1 S1 namespace x",
    "server s1 S1 proto h1",
    "server s1 S1 ws h1",
    "server s1 S1 error-limit 5",
    "server s1 S1 no-check",
    "server s1 S1 enabled",
    "server s1 S1 agent-inter 5s",
    "server s1 S1 resolve-prefer ipv4",
    "server s1 S1 socks4 S2",
    "server s1 S1 usesrc x",
    "default-server inter 1s weight 5\n server s1 S1\n server s2 S2",
    "server-template t 2 S1",
    "server s1 S1 log-proto octet-count",
    "server s1 S1 track @@/s2\n server s2 S2 check",
    "",
    "dispatch S1",
    "server s1 S1\n use-server s1 if { path /a }\n server s2 S2",
    "option transparent",
    "server be:ns:app S1 cookie c",
    "server s-1_x.y S1",
];

const PAGES: &[&str] = &[
    "errorfile 503 FOLDER/503.http",
    "errorfile 404 FOLDER/403.http",
    "errorloc 503 /sorry",
    "errorloc303 503 /sorry303",
    "http-error status 503 content-type text/plain string \"sorry %[path]\"",
    "http-error status 503 content-type text/plain lf-string \"sorry %[path]\"",
    "http-error status 503 errorfile FOLDER/503.http",
    "http-error status 503 content-type text/html file FOLDER/page.html hdr x-why none",
    "errorfiles @@e",
    "errorfiles @@e 503",
];

pub fn all() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let section = |lines: &str| lines.lines().map(|l| format!("  {}\n", l.trim())).collect::<String>();
    let two = "  server s1 S1 cookie s1\n  server s2 S2 cookie s2\n";
    for lines in OPTIONS {
        let config = format!("listen @@\n  bind BIND\n{}  server s1 S1\n", section(lines));
        let case = Case::new(config, ASKS);
        cases.push(if lines.starts_with("option http") { case.on_one_connection() } else { case });
    }
    for lines in COOKIES {
        let config = format!("listen @@\n  bind BIND\n  balance roundrobin\n{}{two}", section(lines));
        let asks = [
            "GET /a",
            "GET /b | Cookie: SRV=s2",
            "GET /c | Cookie: a=1; SRV=s1; b=2",
            "GET /d | Cookie: SRV=nobody",
            "POST /e | Cookie: SRV=s2 || x",
            "GET /f | X-Answer: Set-Cookie: SRV=own; path=/",
            "GET /g | Cookie: SRV=s2~app | X-Answer: Set-Cookie: SRV=app",
            "GET /h | X-Answer: Cache-Control: public",
        ];
        cases.push(Case::new(config, &asks));
    }
    for lines in BALANCE {
        let config =
            format!("listen @@\n  bind BIND\n{}{two}  server s3 S3 cookie s3 weight 2\n", section(lines));
        let asks = [
            "GET /a/b?x=1 | X-A: one",
            "GET /a/c?x=2 | X-A: two",
            "GET /b/c/d?x=3 | X-A: three",
            "GET /a/b?x=1 | X-A: one",
            "GET /c | Host: other.example.com",
            "GET /d",
            "GET /e?x=5 | X-A: five",
            "GET /f | X-A: 6",
        ];
        cases.push(Case::new(config, &asks));
    }
    for lines in SERVERS {
        // Where nobody serves, the section does not count what is refused.
        let states = !lines.is_empty();
        cases.push(Case::new(format!("listen @@\n  bind BIND\n{}", section(lines)), ASKS).states(states));
        if cases.len().is_multiple_of(2) {
            let config =
                format!("frontend @@\n  bind BIND\n  default_backend @@b\nbackend @@b\n{}", section(lines));
            let config = config.replace("@@/s2", "@@b/s2");
            cases.push(Case::new(config, ASKS).states(states));
        }
    }
    for lines in PAGES {
        let errors = "http-errors @@e\n  errorfile 503 FOLDER/503.http\n  errorfile 403 FOLDER/403.http\n";
        let more = if lines.contains("@@e") { errors } else { "" };
        let asks = ["GET /a", "GET /b | X-Want: 503"];
        let lines = section(lines);
        cases.push(Case::new(
            format!("{more}frontend @@\n  bind BIND\n  default_backend @@b\nbackend @@b\n{lines}"),
            &asks,
        ));
        cases.push(Case::new(
            format!("{more}frontend @@\n  bind BIND\n{lines}  default_backend @@b\nbackend @@b\n"),
            &asks,
        ));
        cases.push(Case::new(
            format!("{more}listen @@\n  bind BIND\n{lines}  server s1 DEAD\n  retries 0\n"),
            &asks,
        ));
        cases.push(Case::new(
            format!("{more}frontend @@\n  bind BIND\n  use_backend @@b if {{ path /a }}\n  default_backend @@g\nbackend @@b\n{lines}backend @@g\n  server s1 S1\n"),
            &asks,
        ));
    }
    cases
}

const CHECKS: &[&str] = &[
    "",
    "option httpchk",
    "option httpchk /health",
    "option httpchk GET /health",
    "option httpchk GET /health HTTP/1.0",
    "option httpchk HEAD /h HTTP/1.1\\r\\nHost:\\ www.example.org",
    "option httpchk GET /h HTTP/1.1\\r\\nHost:\\ www.example.org\\r\\nX-B:\\ c",
    "option httpchk GET /h \"HTTP/1.1\\r\\nHost: quoted.example.org\"",
    "option httpchk\nhttp-check send meth GET uri /s ver HTTP/1.1 hdr Host h.example.org",
    "option httpchk\nhttp-check send meth POST uri /s body hello hdr X-A b",
    "option httpchk\nhttp-check connect\nhttp-check send meth GET uri /x\nhttp-check expect status 200",
    "option httpchk GET /\nhttp-check expect status 200-399",
    "option httpchk GET /\nhttp-check expect status 404",
    "option httpchk GET /\nhttp-check expect ! status 500",
    "option httpchk GET /\nhttp-check expect string GET",
    "option httpchk GET /\nhttp-check expect string nothing-like-it",
    "option httpchk GET /\nhttp-check expect ! string GET",
    "option httpchk GET /\nhttp-check expect rstring ^GET",
    "option httpchk GET /\nhttp-check expect ! rstring GET",
    "option httpchk GET /\nhttp-check expect rstatus ^2[0-9]{2}$",
    "option httpchk GET /\nhttp-check expect ! rstatus ^5",
    "option httpchk GET /\nhttp-check expect rstatus (200|301)",
    "option httpchk GET /\nhttp-check expect hdr name x-server value own",
    "option httpchk GET /\nhttp-check expect fhdr name x-server value -m beg ow",
    "option httpchk GET /\nhttp-check expect hdr name x-none",
    "option httpchk\nhttp-check send meth GET uri / hdr X-Want 404\nhttp-check expect string 404",
    "option httpchk\nhttp-check send meth GET uri / hdr X-Want 404\nhttp-check disable-on-404",
    "option httpchk\nhttp-check send meth GET uri / hdr X-Want 500",
    "option httpchk\nhttp-check send meth GET uri / hdr X-Want 302",
    "option httpchk\nhttp-check send meth GET uri /one\nhttp-check expect status 200\nhttp-check send meth GET uri /two\nhttp-check expect status 200",
    "option httpchk GET /\nhttp-check send-state",
    "option httpchk GET /lf\nhttp-check send uri-lf /%[src]",
    "option tcp-check",
    "option tcp-check\ntcp-check connect",
    "option tcp-check\ntcp-check send GET\\ /t\\ HTTP/1.0\\r\\n\\r\\n\ntcp-check expect string 200",
    "option tcp-check\ntcp-check send \"GET /t HTTP/1.0\\r\\n\\r\\n\"\ntcp-check expect rstring HTTP/1.1\\ 200",
    "option tcp-check\ntcp-check send \"GET /t HTTP/1.0\\r\\n\\r\\n\"\ntcp-check expect ! string 500",
    "option tcp-check\ntcp-check send-binary 474554202f62696e20485454502f312e300d0a0d0a\ntcp-check expect binary 48545450",
    "option tcp-check\ntcp-check connect\ntcp-check send \"GET /t HTTP/1.0\\r\\n\\r\\n\"\ntcp-check expect string nothing-like-it",
    "option httpchk GET /\nhttp-check comment text\nhttp-check expect comment why status 200",
    "option httpchk GET /\nhttp-check set-var(check.x) int(1)",
    "option httpchk GET /\nhttp-check connect port 1",
    "option httpchk\nhttp-check connect\nhttp-check send meth GET uri /one\nhttp-check expect status 200\nhttp-check expect string one\nhttp-check connect\nhttp-check send meth GET uri /two\nhttp-check expect string two",
    "option httpchk\nhttp-check connect\nhttp-check send meth GET uri /one\nhttp-check expect string two\nhttp-check connect\nhttp-check send meth GET uri /two",
    "option httpchk\nhttp-check connect\nhttp-check send meth GET uri /one\nhttp-check connect send-proxy\nhttp-check send meth GET uri /two hdr X-Want 404\nhttp-check expect status 404",
    "option httpchk\nhttp-check set-var(check.x) str(foo)\nhttp-check set-var-fmt(check.y) \"%[var(check.x)]-%[srv_name]\"\nhttp-check send meth GET uri-lf /%[var(check.y)]/100%% hdr X-N %[srv_name]-%[be_name] body-lf <%[var(check.x)]>",
    "option httpchk GET /\nhttp-check expect ! string nothing-like-it",
    "option httpchk GET /\nhttp-check expect ! hdr name x-server value own",
    "option httpchk GET /\nhttp-check expect ! hdr name x-server value -m reg ^o..$",
    "option httpchk GET /\nhttp-check expect hdr name x-server value -m reg ^o..$",
    "option httpchk GET /\nhttp-check expect hdr name x-server value -m end n",
    "option httpchk GET /\nhttp-check expect hdr name x-server value -m sub w",
    "option httpchk GET /\nhttp-check expect ! fhdr name x-none",
    "option tcp-check\ntcp-check send \"GET /t HTTP/1.0\\r\\n\\r\\n\"\ntcp-check expect min-recv 8 ! string 500",
    "option tcp-check\ntcp-check send \"GET /t HTTP/1.0\\r\\n\\r\\n\"\ntcp-check expect min-recv 8 ! string 200",
    "option tcp-check\ntcp-check send \"GET /t HTTP/1.0\\r\\n\\r\\n\"\ntcp-check expect ! rstring HTTP/1..500",
    "option tcp-check\ntcp-check send \"GET /t HTTP/1.0\\r\\n\\r\\n\"\ntcp-check expect ! binary 48545450",
    "option tcp-check\ntcp-check connect\ntcp-check send \"GET /t HTTP/1.0\\r\\n\\r\\n\"\ntcp-check expect string 200\ntcp-check connect send-proxy\ntcp-check set-var(check.p) str(two)\ntcp-check send-lf \"GET /%[var(check.p)]/%[srv_name] HTTP/1.0\\r\\n\\r\\n\"\ntcp-check expect string 200",
    "option tcp-check\ntcp-check send \"GET /t HTTP/1.0\\r\\n\\r\\n\"\ntcp-check expect string 200\ntcp-check connect port 1",
    "option mysql-check user u pre-41",
    "option mysql-check user u",
    "option smtpchk",
    "option ssl-hello-chk",
    "option log-health-checks\noption httpchk GET /",
];

pub fn checks() -> Vec<Case> {
    let mut cases = Vec::new();
    for (at, lines) in CHECKS.iter().enumerate() {
        let lines: String = lines.lines().map(|l| format!("  {l}\n")).collect();
        let more =
            ["", " send-proxy", " check-send-proxy", " port 1"][if at % 5 == 4 { at / 5 % 4 } else { 0 }];
        let config = format!(
            "listen @@\n  bind BIND\n{lines}  server s1 OWN check inter 300ms fastinter 100ms rise 1 fall 1{more}\n"
        );
        cases.push(Case::new(config, &[]).states(true));
    }
    for server in [
        "server s1 S1 check addr 127.0.0.1 port 1 inter 200 fall 1",
        "server s1 DEAD check inter 200 fall 1",
        "server s1 S1 check port 1 inter 200 fall 1\n  server s2 S2 check inter 200 backup",
        "server s1 DEAD check inter 200 fall 2 rise 3\n  server s2 S2 weight 5",
        "default-server check inter 200 fall 1\n  server s1 S1\n  server s2 DEAD",
        // What stands before a line of defaults does not have them, and each may take them back.
        "server a DEAD\n  default-server check inter 200 fall 1\n  server b DEAD\n  server c S1",
        "default-server check inter 200 fall 1\n  server a DEAD no-check\n  server b DEAD\n  server c S1",
        "default-server check inter 200 fall 1 disabled\n  server a S1 enabled\n  server b S2",
        "default-server backup check inter 200\n  server a S1 no-backup\n  server b S2",
        "default-server send-proxy check inter 200 fall 1\n  server a S1 no-send-proxy\n  server b S2 no-send-proxy",
        "server s1 S1 check disabled",
        "server s1 S1 track @@/s2\n  server s2 DEAD check inter 200 fall 1",
        "server s1 DEAD check inter 200 fall 1\n  server s2 S2 backup\n  server s3 S3 backup",
        "option allbackups\n  server s1 DEAD check inter 200 fall 1\n  server s2 S2 backup\n  server s3 S3 backup",
    ] {
        cases.push(Case::new(format!("listen @@\n  bind BIND\n  {server}\n"), &[]).states(true));
    }
    // Which backups take requests.
    for lines in ["", "  option allbackups\n"] {
        let config = format!(
            "listen @@\n  bind BIND\n{lines}  server s1 DEAD check inter 200 fall 1 disabled\n  server s2 S2 backup\n  server s3 S3 backup\n"
        );
        cases.push(Case::new(config, &["GET /1", "GET /2", "GET /3", "GET /4"]));
    }
    cases
}

pub fn scopes() -> Vec<Case> {
    let asks = ["GET /a | X-A: one", "GET /b | X-Want: 404", "POST /c || body"];
    let own = |defaults: &str, sections: &str| {
        let lines: String = defaults.lines().map(|l| format!("  {}\n", l.trim())).collect();
        let base = "  mode http\n  log global\n  option httplog\n  timeout connect 2s\n  timeout client 8s\n  timeout server 8s\n";
        Case::new(format!("defaults @@d\n{base}{lines}{sections}"), &asks)
    };
    let listen = "listen @@ from @@d\n  bind BIND\n  server s1 S1\n";
    let both =
        "frontend @@ from @@d\n  bind BIND\n  default_backend @@b\nbackend @@b from @@d\n  server s1 S1\n";
    let mut cases = Vec::new();
    for lines in [
        "option forwardfor",
        "option forwardfor except 127.0.0.0/8",
        "errorfile 503 FOLDER/503.http",
        "balance source",
        "cookie SRV insert",
        "retries 0",
        "option httpclose",
        "default-server weight 5",
        "http-reuse never",
        "maxconn 50",
        "option redispatch",
        "no option httplog",
        "option dontlognull",
        "option http-server-close",
        "monitor-uri /a",
        "stats uri /a",
        "stats enable",
        "http-send-name-header X-T",
        "option originalto",
        "http-error status 503 content-type text/plain string d",
        "fullconn 5",
        "unique-id-header X-U",
        "unique-id-format fixed\nunique-id-header X-U",
        "log-format \"%f %b %s %ST\"",
        "option httpchk GET /d",
        "errorloc 503 /s",
        "compression algo gzip",
        "source 127.0.0.1",
        "option persist",
        "hash-type consistent",
        "timeout tunnel 1h",
        "timeout http-request 3s",
        "option tcpka",
        "log-tag x",
        "default_backend @@b",
    ] {
        cases.push(own(lines, if lines.contains("@@b") { both } else { listen }));
        cases.push(own(lines, both));
    }
    for (lines, sections) in [
        ("http-request set-header x-d yes", both.replace("backend @@b from @@d", "backend @@b")),
        ("http-response set-header x-d yes", both.replace("backend @@b from @@d", "backend @@b")),
        ("option forwardfor", both.replace("  server", "  no option forwardfor\n  server")),
        ("option forwardfor", both.replace("  default_backend", "  no option forwardfor\n  default_backend")),
        ("cookie SRV insert", both.replace("  server", "  cookie OTHER insert\n  server")),
        (
            "errorfile 503 FOLDER/503.http",
            "frontend @@ from @@d\n  bind BIND\n  default_backend @@b\nbackend @@b from @@d\n".into(),
        ),
        (
            "mode tcp",
            both.replace("  bind", "  mode http\n  bind").replace("  server", "  mode http\n  server"),
        ),
        ("default-server inter 1s weight 3", both.replace("S1\n", "S1\n  server s2 S2 weight 6\n")),
    ] {
        cases.push(own(lines, &sections));
    }
    cases
}
