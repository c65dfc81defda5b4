use std::collections::BTreeMap;

use super::*;

mod haproxy_words;
mod other_sources;

/// Imports, checks that the result is a configuration, and that it holds these texts; what is left
/// is told by its keywords.
fn check(sources: &[(SourceKind, &str)], holds: &[&str], left: &[&str]) -> String {
    let sources: Vec<Source> = sources
        .iter()
        .map(|(kind, text)| Source {
            kind: *kind,
            file: format!("{}.conf", kind.as_str()),
            text: (*text).into(),
        })
        .collect();
    let imported = import(&sources, &BTreeMap::new());
    let (text, all) = (&imported.text, &imported.left);
    if let Err(problems) = evenkeel_config::read(text) {
        panic!("{problems:#?}\n{text}\n{all:#?}");
    }
    for part in holds {
        assert!(text.contains(part), "{part}\n---\n{text}\n{all:#?}");
    }
    let keywords: Vec<&str> = all.iter().map(|l| l.keyword.as_str()).collect();
    assert_eq!(keywords, left, "{text}\n{all:#?}");
    imported.text
}

/// One source; what comes out is a configuration.
pub(crate) fn made(kind: SourceKind, text: &str) -> crate::Imported {
    let file = format!("{}.conf", kind.as_str());
    let made = import(&[Source { kind, file, text: text.into() }], &BTreeMap::new());
    if let Err(problems) = evenkeel_config::read(&made.text) {
        panic!("{problems:#?}\n{}\n{:#?}", made.text, made.left);
    }
    made
}

/// What is told: line, word, and how grave it is.
pub(crate) fn told(made: &crate::Imported) -> Vec<(usize, &str, &'static str)> {
    made.left.iter().map(|l| (l.line, l.keyword.as_str(), l.severity.as_str())).collect()
}

#[test]
fn many_ports_in_the_old_form() {
    let text = "global\n  daemon\n  maxconn 40000\n  ulimit-n 81000\n  stats socket /run/h.stat mode 600\n\ndefaults\n  mode http\n  contimeout 4000\n  clitimeout 1800000\n  srvtimeout 1800000\n  balance roundrobin\n\n# telephones\nlisten OCS_ALL 192.0.2.20:5061\n  bind 192.0.2.20:5060,192.0.2.20:5065\n  mode tcp\n  balance leastconn\n  stick-table type ip size 10240k expire 30m\n  stick on src\n  server one 192.0.2.4 weight 1 check port 5061 inter 2000 rise 2 fall 3\n  server two 192.0.2.5 weight 1 check port 5061 inter 2000 rise 2 fall 3\n  server last 127.0.0.1:9081 backup\n  option redispatch\n\nlisten stats :7777\n  stats enable\n  stats uri /\n";
    check(
        &[(SourceKind::Haproxy, text)],
        &[
            "max-connections = 40000",
            "# telephones",
            "vip = [\"192.0.2.20:5061,5060,5065\"]",
            "mode = \"tcp\"",
            "scheduler = \"least-connections\"",
            "persistence = { type = \"source\", timeout = \"30m\", size = 10485760 }",
            "health-check = { type = \"tcp\", port = 5061, interval = \"2s\", rise = 2, fall = 3 }",
            "timeouts = { connect = \"4s\", client = \"30m\", server = \"30m\" }",
            "address = \"192.0.2.4\"  # the port that the client came to",
            "backup = true",
        ],
        &["stats", "listen stats"],
    );
}

#[test]
fn tables_that_count_and_rules_of_answers() {
    let text = "defaults\n mode http\n timeout connect 4s\n timeout client 30s\n timeout server 30s\nfrontend web\n bind 192.0.2.10:80\n stick-table type ip size 100k expire 30s store http_req_rate(10s),conn_cur\n acl abuser sc_http_req_rate(0) gt 20\n http-request track-sc0 src if !{ path_beg /static }\n http-request deny deny_status 429 if abuser or { sc0_conn_cur gt 10 }\n tcp-request content track-sc1 req.hdr(X-Key) table keys\n http-request deny if { src_http_req_rate(keys) gt 5 }\n http-request deny if { sc_http_err_rate(1) gt 5 }\n http-response set-header X-Was %[status] if { status 500:599 }\n http-response deny if { res.hdr(X-Secret) -m found }\n http-after-response set-header X-All 1\n default_backend app\nbackend app\n retry-on empty-response 503 junk-response\n http-reuse never\n http-response del-header Server\n server a 192.0.2.11:80\nbackend keys\n stick-table type string size 1m expire 1h store http_err_rate(1m)\n";
    check(
        &[(SourceKind::Haproxy, text)],
        &[
            "[[table]]\nname = \"web\"\nkey = \"{source}\"\nsize = 102400\nexpire = \"30s\"\nperiod = \"10s\"",
            "when = '!path(\"/static*\")'\n  track = \"web\"",
            "rate(\"web\", \"requests\") > 20 || count(\"web\", \"current\") > 10",
            "when = 'header(\"X-Key\")'\n  track = \"keys\"",
            "rate(\"keys\", \"errors\") > 5",
            "[[virtual-service.answer-route]]\n  when = 'variable(\"txn.goes-to\", \"app\")'\n  of = \"servers\"\n  remove-header = [\"Server\"]",
            "when = '(status >= 500 && status <= 599)'\n  of = \"servers\"\n  set-header = { \"X-Was\" = \"{status}\" }",
            "deny = { status = 502 }",
            "[[virtual-service.answer-route]]\n  set-header = { \"X-All\" = \"1\" }",
            "retry-on = [\"no-answer\", \"503\", \"bad-answer\"]",
            "connection-reuse = \"client\"",
        ],
        &["http-request deny if { src_http_req_rate(keys) gt 5 }"],
    );
}

#[test]
fn maps_pages_and_lines() {
    let text = "http-errors e\n errorfile 503 /e/503.http\ndefaults\n mode http\n timeout connect 4s\n timeout client 30s\n timeout server 30s\n log-format \"%ci %ST %{+Q}r\"\nfrontend web\n bind 192.0.2.10:80\n errorfiles e\n http-request redirect location %[path,map(/m/moved)] code 301 ignore-empty\n http-request set-header X-Zone %[src,map_ip(/m/zones,none)]\n http-request deny deny_status 404 errorfiles e if { path /a }\n http-request deny deny_status 429 content-type text/plain string slow if { path /b }\n http-request deny hdr X-A b unknown c\n use_backend %[req.hdr(host),lower,map_dom(/m/hosts,app)]\n use_backend %[path,map(/m/x,nowhere)]\n default_backend app\nbackend app\n server a 192.0.2.11:80\n";
    check(
        &[(SourceKind::Haproxy, text)],
        &[
            "error-pages = { 503 = \"/e/503.http\" }",
            "log-format = \"{client} {status} \\\"{request}\\\"\"",
            "when = 'text(\"{path|map(\\\"/m/moved\\\",exact)}\")'",
            "set-header = { \"X-Zone\" = \"{source|map(\\\"/m/zones\\\",network,\\\"none\\\")}\" }",
            // The section has no page for 404.
            "when = 'path(\"/a\")'\n  deny = { status = 404 }",
            "answer = { status = 429, content-type = \"text/plain\", body = \"slow\" }",
            "pool-map = { file = \"/m/hosts\", match = \"domain-in-order\", key = \"{header:Host|lower}\", default = \"app\" }",
        ],
        &["http-request deny hdr X-A b unknown c", "use_backend %[path,map(/m/x,nowhere)]"],
    );
}

#[test]
fn what_is_allowed_needs_no_more_rules_of_its_proxy() {
    let text = "defaults\n mode http\n timeout connect 4s\n timeout client 30s\n timeout server 30s\nfrontend web\n bind 192.0.2.10:80\n http-request set-header X-Before 1\n http-request allow if { src 10.0.0.0/8 }\n http-request deny if { path /a }\n http-request allow\n http-request set-header X-Never 1\n http-request silent-drop if { path /b }\n use_backend %[req.hdr(host),lower,map(/m/hosts)] if { path_beg /m }\n default_backend app\nbackend app\n http-request set-header X-App 1\n server a 192.0.2.11:80\nbackend other\n http-request deny if { method TRACE }\n http-response deny if { status 500 }\n server b 192.0.2.12:80\n";
    check(
        &[(SourceKind::Haproxy, text)],
        &[
            "name = \"rule-1\"\n  set-header = { \"X-Before\" = \"1\" }",
            "when = 'source(\"10.0.0.0/8\")'\n  set-variable = { \"txn.allowed-by-web\" = \"{\\\"1\\\"}\" }",
            "when = '!variable(\"txn.allowed-by-web\") && path(\"/a\")'\n  deny = { status = 403 }",
            "when = '!variable(\"txn.allowed-by-web\")'\n  set-header = { \"X-Never\" = \"1\" }",
            "deny = { vanish = true }",
            // Backends that only a map names keep their rules.
            "when = '(path(\"/m*\")) && text(\"{header:Host|lower|map(\\\"/m/hosts\\\",exact)}\", \"app\")'\n  set-header = { \"X-App\" = \"1\" }",
            "\"other\") && method(\"TRACE\")'",
            "\"other\") && status == 500'\n  of = \"servers\"\n  deny = { status = 502 }",
        ],
        &[],
    );
}

#[test]
fn who_may_come_before_everybody_else_may_not() {
    let servers = "  server s 10.0.0.1:80\n";
    let text = format!(
        "listen a\n  bind :81\n  mode tcp\n  tcp-request connection accept if {{ src 10.0.0.0/8 }}\n  tcp-request connection accept if {{ src 192.0.2.1 }}\n  tcp-request connection reject\n  tcp-request content accept if {{ req.ssl_hello_type 1 }}\n  tcp-request content accept if {{ payload(0,4) -m str SSH- }}\n  tcp-request content reject\n{servers}listen b\n  bind :82\n  mode tcp\n  tcp-request inspect-delay 5s\n  tcp-request content accept if HTTP\n{servers}"
    );
    let got = check(
        &[(SourceKind::Haproxy, &text)],
        &[
            "when = '!(source(\"10.0.0.0/8\")) && !(source(\"192.0.2.1\"))'",
            "when = '!(tls-hello()) && !(first-bytes-hex(\"5353482d*\"))'",
        ],
        &[],
    );
    // Nothing is behind it that it could keep off.
    assert_eq!(got.matches("deny = {}").count(), 2, "{got}");
    let unknown = "listen a\n  bind :81\n  mode tcp\n  tcp-request content accept if HTTP_9\n  tcp-request content reject\n  server s 10.0.0.1:80\n";
    check(&[(SourceKind::Haproxy, unknown)], &[], &["tcp-request content accept if HTTP_9"]);
}

#[test]
fn each_server_keeps_what_its_check_has_of_its_own() {
    let text = "listen pg\n  mode tcp\n  bind :81\n  option httpchk OPTIONS /primary\n  default-server inter 3s rise 4 port 8007\n  server a 10.0.0.1:5432 check port 8008\n  server b 10.0.0.2:5432 check port 8009 fall 2\n  server c 10.0.0.3:5432 check inter 500 rise 2\n  server d 10.0.0.4:5432\n";
    let got = check(
        &[(SourceKind::Haproxy, text)],
        &[
            "health-check = { type = \"http\", method = \"OPTIONS\", path = \"/primary\", version = \"1.0\" }",
            "health-check = { interval = \"3s\", rise = 4, port = 8008 }",
            "health-check = { interval = \"3s\", rise = 4, port = 8009, fall = 2 }",
            "health-check = { interval = \"500ms\", rise = 2, port = 8007 }",
        ],
        &[],
    );
    assert_eq!(got.matches("health-check").count(), 4, "{got}");
    let text = "virtual_server 10.0.0.9 80 {\n protocol TCP\n  lb_kind DR\n  delay_loop 6\n  real_server 10.0.0.1 80 {\n    TCP_CHECK {\n      connect_port 81\n    }\n  }\n  real_server 10.0.0.2 80 {\n    TCP_CHECK {\n      connect_port 82\n    }\n  }\n}\n";
    check(
        &[(SourceKind::Keepalived, text)],
        &[
            "health-check = { type = \"tcp\", rise = 1, timeout = \"5s\", interval = \"6s\", fast-interval = \"1s\", down-interval = \"6s\", fall = 2 }",
            "health-check = { port = 81 }",
            "health-check = { port = 82 }",
        ],
        &[],
    );
}

#[test]
fn tcp_keep_alive_is_of_clients_and_of_servers() {
    let text = "defaults\n mode tcp\n option tcpka\nfrontend f\n bind :81\n clitcpka-idle 30\n clitcpka-intvl 5s\n clitcpka-cnt 3\n default_backend b\nbackend b\n no option tcpka\n option srvtcpka\n server a 10.0.0.1:80\nfrontend g\n bind :82\n no option tcpka\n default_backend c\nbackend c\n no option tcpka\n server a 10.0.0.1:81\n";
    let holds = [
        "\ntcp-keep-alive = { idle = \"30s\", interval = \"5s\", probes = 3 }",
        "server-tcp-keep-alive = {}",
    ];
    let got = check(&[(SourceKind::Haproxy, text)], &holds, &[]);
    assert_eq!(got.matches("keep-alive").count(), 2, "{got}");
}

#[test]
fn what_opens_or_leaves_nobody_is_grave_and_what_nobody_sees_is_a_remark() {
    let severity = |kind, text: &str| {
        let source = Source { kind, file: "f".into(), text: text.into() };
        let imported = import(&[source], &BTreeMap::new());
        imported.left.into_iter().map(|l| (l.severity, l.keyword)).collect::<Vec<_>>()
    };
    let check = |kind, text: &str, expect: &[(Severity, &str)]| {
        let got = severity(kind, text);
        let got: Vec<(Severity, &str)> = got.iter().map(|(g, k)| (*g, k.as_str())).collect();
        assert_eq!(got, expect, "{text}");
    };
    let web = "frontend f
 mode http
 bind :80
 http-request ";
    let rest = "
 default_backend b
backend b
 mode http
 server s 10.0.0.1:80 check inter 20ms
backend empty
 mode http
";
    let quiet = [(Severity::Remark, "inter"), (Severity::Remark, "backend")];
    check(SourceKind::Haproxy, &format!("{web}set-header A b{rest}"), &quiet);
    let opens = "deny if { env(X) y }";
    let rule = format!("http-request {opens}");
    let all = severity(SourceKind::Haproxy, &format!("{web}{opens}{rest}"));
    assert!(all.contains(&(Severity::Critical, rule)), "{all:?}");
    for rule in [
        "reqdeny ^GET",
        "reqideny ^GET",
        "reqtarpit ^GET",
        "reqitarpit ^GET",
        "rspdeny ^A",
        "rspideny ^A",
        "http-response deny if { env(X) y }",
        "tcp-response content reject if { env(X) y }",
        "tcp-request content reject if { env(X) y }",
        "http-request tarpit if { env(X) y }",
    ] {
        let all = severity(
            SourceKind::Haproxy,
            &format!("listen l\n mode http\n bind :80\n {rule}\n server s 10.0.0.1:80\n"),
        );
        assert!(all.iter().any(|(g, _)| *g == Severity::Critical), "{rule}: {all:?}");
    }
    let nobody = severity(
        SourceKind::Haproxy,
        "listen l
 bind :80
 mode tcp
 server s name..example:80
",
    );
    assert!(nobody.iter().any(|(g, _)| *g == Severity::Critical), "{nobody:?}");
}

#[test]
fn what_servers_of_one_pool_do_not_share_is_told() {
    let text = "backend st\n  stick-table type ip size 20k expire 9m\nlisten a\n  bind :81\n  mode tcp\n  stick on src table st\n  server a 10.0.0.1:80 send-proxy-v2\n  server b 10.0.0.2:80\n  server c 10.0.0.3:80 send-proxy-v2 track st/x\n";
    let got = check(
        &[(SourceKind::Haproxy, text)],
        &[
            "persistence = { type = \"source\", timeout = \"9m\", size = 20480 }",
            "send-proxy = \"v2\"",
            "send-proxy = \"none\"",
        ],
        &["track"],
    );
    assert_eq!(got.matches("check = false").count(), 2, "{got}");
}

#[test]
fn what_frontends_add_and_ask() {
    let text = "global\n  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n  timeout tarpit 7s\nfrontend f\n  bind :80\n  bind :443 ssl crt /x.pem\n  option forwardfor except 127.0.0.0/8 header X-Client if-none\n  unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid\n  unique-id-header X-Request-ID\n  log-format %ID\\ %ci\n  http-request tarpit if { path /x }\n  http-request deny if { url_sub a?b }\n  http-request deny if { hdr_ip(X-Real-IP) 10.0.0.0/8 }\n  http-request deny if { hdr_cnt(host) gt 1 }\n  http-request del-header a -m end\n  http-request del-header ^x-.*-y$ -m reg\n  http-request set-method GET if { method TRACE }\n  http-request set-timeout server 90s if { path_beg /report }\n  http-request auth realm no if { path /never }\n  use_backend bk_%[req.hdr(host),lower]\n  default_backend bk_a\nbackend bk_a\n  use-server a if { hdr(X-To) a }\n  server a 10.0.0.1:80\nbackend bk_b\n  balance uri depth 2\n  http-response del-header Server if { status 500 }\n  server b 10.0.0.2:80\n";
    check(
        &[(SourceKind::Haproxy, text)],
        &[
            "set-variable = { \"txn.unique-id\" = \"{source}:{source-port}_{destination}:{port}_{uuid}\" }\n  set-header = { \"X-Request-ID\" = \"{variable:txn.unique-id}\" }",
            "log-format = \"{variable:txn.unique-id} {client}\"",
            "tarpit = { delay = \"7s\", status = 500 }",
            "when = 'text(\"{url}\", \"*a?b*\")'",
            "when = 'address(\"{header-value:X-Real-IP,-1}\", \"10.0.0.0/8\")'",
            "when = 'number(\"{header-count:host}\") > 1'",
            "remove-header = [\"*a\"]",
            "remove-header-matching = [\"^x-.*-y$\"]",
            "when = 'method(\"TRACE\")'\n  rewrite-method = \"GET\"",
            "server-timeout = \"90s\"",
            "when = 'path(\"/never\")'",
            "when = '!header(\"X-Client\") && !source(\"127.0.0.0/8\")'\n  add-header = { \"X-Client\" = \"{source}\" }",
            "when = 'text(\"bk_{header:Host|lower}\", \"bk_b\")'\n  pool = \"bk_b\"",
            "min-version = \"1.3\"",
            "when = 'variable(\"txn.goes-to\", \"bk_b\") && status == 500'\n  of = \"servers\"\n  remove-header = [\"Server\"]",
            "when = 'header-value(\"X-To\", \"a\")'\n  server = \"a\"",
        ],
        &["balance uri", "unique-id-format", "unique-id-format"],
    );
    let asks = "frontend f\n  mode http\n  bind :80\n  http-request deny if { hdr_ip(X-Forwarded-For) 10.0.0.0/8 }\n  http-request set-method HEAD\n  http-request return status 200\n";
    check(
        &[(SourceKind::Haproxy, asks)],
        &[],
        &["http-request deny if { hdr_ip(X-Forwarded-For) 10.0.0.0/8 }", "http-request set-method HEAD", "f"],
    );
}

#[test]
fn checks_are_carried_whole() {
    let backend = |lines: &str| {
        format!(
            "backend b\n  mode http\n{lines}  server s 10.0.0.1:80 check\nfrontend f\n  bind :80\n  mode http\n  default_backend b\n"
        )
    };
    for (lines, holds) in [
        (
            "  option tcp-check\n  tcp-check connect port 6379\n  tcp-check send PING\\r\\n\n  tcp-check expect string +PONG\n  tcp-check send info\\ replication\\r\\n\n  tcp-check expect rstring role:m.*\n  tcp-check send-binary 0d0a\n",
            "type = \"tcp\", port = 6379, steps = [{ send = \"PING\\r\\n\" }, { expect = \"+PONG\" }, { send = \"info replication\\r\\n\" }, { expect-regex = \"role:m.*\" }, { send-hex = \"0d0a\" }]",
        ),
        (
            "  option tcp-check\n  tcp-check send AMQP\\x00\\xff\n  tcp-check expect string AMQP\n",
            "steps = [{ send-hex = \"414d515000ff\" }, { expect = \"AMQP\" }]",
        ),
        (
            "  option httpchk\n  http-check send meth POST uri /up hdr Host www hdr X-A 1 hdr X-B 2 body ping\n  http-check expect comment why ! status 404,500-599\n",
            "method = \"POST\", version = \"1.0\", path = \"/up\", host = \"www\", headers = { \"X-A\" = \"1\", \"X-B\" = \"2\" }, body = \"ping\"",
        ),
        ("  option httpchk\n  http-check expect ! status 404,500-599\n", "status = \"100-403,405-499\""),
        ("  option httpchk /up\n", "method = \"OPTIONS\", path = \"/up\""),
        (
            "  option httpchk GET / HTTP/1.1\\r\\nHost:\\ a\\r\\nX-C:\\ 3\n",
            "host = \"a\", headers = { \"X-C\" = \"3\" }",
        ),
        (
            "  option tcp-check\n  tcp-check connect ssl sni a.example\n",
            "tls = { verify = false, sni = \"a.example\" }",
        ),
        ("  option mysql-check user haproxy\n", "type = \"mysql\", user = \"haproxy\""),
        ("  option mysql-check user u pre-41\n", "user = \"u\", old = true"),
        (
            "  option tcp-check\n  tcp-check connect\n  tcp-check connect port 1\n",
            "steps = [{ connect = { port = 1 } }]",
        ),
        (
            "  option tcp-check\n  tcp-check expect min-recv 5 ! string no\n",
            "steps = [{ within = 5 }, { refuse = \"no\" }]",
        ),
        (
            "  option httpchk\n  http-check send uri /a\n  http-check connect port 81\n  http-check send uri-lf /%[srv_name]\n",
            "path = \"/a\", fill-in = true, then = [{ version = \"1.0\", port = 81, path = \"/{server}\" }]",
        ),
        ("  option httpchk\n  http-check expect ! rstatus ^5\n", "status = \"100-499\""),
        ("  option smtpchk EHLO a.example\n", "type = \"smtp\", host = \"a.example\""),
    ] {
        check(&[(SourceKind::Haproxy, &backend(lines))], &[holds], &[]);
    }
    for (lines, left) in [
        ("  option tcp-check\n  tcp-check send-lf %[dst]\n", "tcp-check send-lf %[dst]"),
        ("  option tcp-check\n  tcp-check set-var(txn.a) str(b)\n", "tcp-check set-var(txn.a) str(b)"),
        ("  option httpchk\n  http-check send uri /a\n  http-check send uri /b\n", "http-check send"),
        ("  option spop-check\n", "option spop-check"),
    ] {
        check(&[(SourceKind::Haproxy, &backend(lines))], &[], &[left]);
    }
}

#[test]
fn remote_desktops() {
    let text = "defaults\n clitimeout 1h\n srvtimeout 1h\nlisten VIP1 192.0.2.10:3389\n mode tcp\n tcp-request inspect-delay 5s\n tcp-request content accept if RDP_COOKIE\n persist rdp-cookie\n balance rdp-cookie\n option tcpka\n option tcplog\n server a 192.0.2.11:3389 weight 1 check inter 2000 rise 2 fall 3\n server b 192.0.2.12:3389 weight 1 check inter 2000 rise 2 fall 3\n option redispatch\n";
    check(
        &[(SourceKind::Haproxy, text)],
        &[
            "tcp-keep-alive = {}",
            "server-tcp-keep-alive = {}",
            "persistence = { type = \"rdp-cookie\" }",
            "scheduler = \"rdp-cookie-hash\"",
            "timeouts = { client = \"1h\", server = \"1h\" }",
        ],
        &[],
    );
}

#[test]
fn addresses_that_servers_see() {
    let text = "listen web\n bind 192.0.2.10:80\n mode http\n source 0.0.0.0 usesrc clientip\n server a 192.0.2.11:80\n server b 127.0.0.1:80 backup source 0.0.0.0\n server c 192.0.2.12:80 source 192.0.2.1:0\nlisten plain\n bind 192.0.2.10:81\n source 0.0.0.0\n server a 192.0.2.11:80\n";
    let made = check(
        &[(SourceKind::Haproxy, text)],
        &["source = \"client\"  # full transparency", "source = \"own\"", "source = \"192.0.2.1\""],
        &[],
    );
    assert_eq!(made.matches("source = ").count(), 3, "{made}");
}

#[test]
fn tls_towards_servers() {
    let text = "global\n crt-base /etc/crt\n ca-base /etc/ca\nlisten web\n bind 192.0.2.10:80\n mode http\n default-server ssl ca-file ca.pem crt own.pem sni str(app.example)\n server a 192.0.2.11:443 observe layer7 error-limit 5 check\n server b 192.0.2.12:443 check\nlisten other\n bind 192.0.2.10:81\n server a 192.0.2.11:443 ssl verify none sni req.hdr(host)\n";
    check(
        &[(SourceKind::Haproxy, text)],
        &[
            "server-tls = { ca = \"/etc/ca/ca.pem\", sni = \"app.example\", certificate = \"/etc/crt/own.pem\" }",
            "server-tls = { verify = false }",
            "outlier = { failures = 5 }",
        ],
        &["sni"],
    );
}

#[test]
fn users_and_their_passwords() {
    let text = "userlist staff\n group admins users ann\n user ann password $5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5\n user bob insecure-password hello groups guests\n user old password 1b$abc\nlisten web\n bind 192.0.2.10:80\n mode http\n acl staff http_auth(staff)\n acl admins http_auth_group(staff) admins\n http-request auth realm Staff if !staff { path_beg /in }\n http-request auth unless admins\n http-request deny if staff\n server a 192.0.2.11:80\n";
    let made = check(
        &[(SourceKind::Haproxy, text)],
        &[
            "\"bob\" = \"plain:hello\" }, realm = \"Staff\" }",
            "basic-auth = { accounts = { \"ann\" = \"$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5\" }, realm = \"restricted\" }",
        ],
        &["user", "http-request deny if staff"],
    );
    assert_eq!(made.matches("when = 'path(").count(), 1, "{made}");
}

#[test]
fn what_is_hashed() {
    for (balance, keys) in [
        ("hdr(X-User)", "scheduler = \"header-hash\"\nhash-key = \"X-User\""),
        ("url_param user check_post", "scheduler = \"query-hash\"\nhash-key = \"user\""),
        ("hash req.cook(SID)", "scheduler = \"cookie-hash\"\nhash-key = \"SID\""),
        ("hash src", "scheduler = \"source-hash\""),
    ] {
        let text = format!(
            "listen web\n bind 192.0.2.10:80\n mode http\n balance {balance}\n hash-balance-factor 150\n cookie S insert domain .a.example domain .b.example\n server a 192.0.2.11:80\n"
        );
        let wanted = [keys, "hash-balance-factor = 150", "domains = [\".a.example\", \".b.example\"]"];
        check(&[(SourceKind::Haproxy, &text)], &wanted, &[]);
    }
}

#[test]
fn front_and_back_ends() {
    let text = "defaults\n mode http\n timeout connect 4s\n timeout client 1m\n timeout server 1m\n option httplog\nfrontend web\n bind :80\n bind *:443 ssl crt /etc/ssl/www.pem alpn h2,http/1.1\n # the shop's own\n acl shop hdr(host) -i shop.example.org www.shop.example.org\n acl static path_beg /img /css\n acl static path_end .png\n acl old path_reg -i ^/old/[0-9]+$\n acl few nbsrv(app) lt 2\n acl odd env(X) y\n http-request deny deny_status 429 if { src 198.51.100.0/24 } !shop\n http-request redirect scheme https code 301 unless { ssl_fc }\n http-request set-header X-Host \"%[req.hdr(host)] of %[src]\"\n http-request set-header X-Odd %[nbproc]\n use_backend static if static or old\n use_backend app if shop !static\n use_backend app if odd\n use_backend none if shop\n redirect location https://www.example.org/ if { path /home }\n default_backend app\n option forwardfor\nbackend app\n balance uri\n cookie SID insert indirect nocache httponly attr SameSite=Lax\n option httpchk GET /health HTTP/1.1\\r\\nHost:\\ app\n http-check expect status 200\n default-server check inter 3s fall 2\n server app1 192.0.2.31:8080 cookie app1 maxconn 200\n server app2 192.0.2.32:8080 cookie b disabled\n server app3 app3.example.org:8080\n errorfile 503 /etc/haproxy/503.http\nbackend static\n server s1 192.0.2.41:80\nbackend none\n";
    let made = check(
        &[(SourceKind::Haproxy, text)],
        &[
            "name = \"web\"\nvip = [\"0.0.0.0:80,443\"]",
            "tls = { alpn = [\"h2\", \"http/1.1\"], certificates = [\"/etc/ssl/www.pem\"], ports = [443] }",
            "forwarded = [\"x-forwarded-for\"]",
            "deny = { status = 429 }",
            "redirect = { location = \"https://{header:Host}{path}\", status = 301 }",
            "when = '!tls()'",
            "set-header = { \"X-Host\" = \"{header:Host} of {source}\" }",
            "pool = \"static\"",
            "max-connections = 200",
            "admin-state = \"halted\"  # it was disabled",
            "persistence = { type = \"cookie\", name = \"SID\", method = \"insert\", indirect = true, nocache = true, httponly = true, samesite = \"lax\" }",
            "health-check = { type = \"http\", method = \"GET\", path = \"/health\", host = \"app\", status = \"200\", interval = \"3s\", fall = 2 }",
            "health-check = { type = \"none\" }  # no server was checked",
        ],
        &["backend", "acl odd env(X) y", "http-request set-header X-Odd %[nbproc]", "use_backend app if odd"],
    );
    let conditions: Vec<&str> = made.lines().filter(|l| l.trim().starts_with("when")).collect();
    assert!(
        conditions[0].contains("source(\"198.51.100.0/24\") && !(host(\"shop.example.org\""),
        "{conditions:?}"
    );
    assert!(made.contains("=~ \"(?i)^/old/[0-9]+$\"") && !made.contains("web-tls"), "{made}");
}

/// A word of nobody's in every block and behind every line of every reader: each is told.
#[test]
fn words_that_no_reader_knows_are_told() {
    let check = |kind: SourceKind, text: &str| {
        let source = Source { kind, file: "f".into(), text: text.into() };
        let made = import(&[source], &BTreeMap::new());
        let told: Vec<String> =
            made.left.iter().map(|l| format!("{} {}", l.keyword, l.consequence)).collect();
        for word in
            text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| w.to_lowercase().starts_with("zz"))
        {
            let is_told = told.iter().any(|t| t.to_lowercase().contains(&word.to_lowercase()));
            assert!(is_told, "{kind:?}: {word}\n{told:#?}\n{}", made.text);
        }
    };
    check(
        SourceKind::Keepalived,
        "zztop 1\nglobal_defs {\n zzglobal 1\n}\nzzblock a {\n b 1\n}\nvrrp_script s {\n script \"/bin/true\"\n zzscript 1\n}\nvrrp_sync_group G {\n group {\n  V\n }\n zzsync 1\n}\nvrrp_instance V {\n zzinstance 1\n virtual_ipaddress {\n  192.0.2.1/24 zzaddress\n }\n track_script {\n s\n }\n unicast_peer {\n 192.0.2.9 zzpeer\n }\n}\nvirtual_server_group GG {\n 192.0.2.1 80 zzmember\n}\nvirtual_server group GG {\n zzservice 1\n lb_algo zzalgo\n lb_kind zzkind zzmore\n real_server 192.0.2.2 80 {\n zzserver 1\n  HTTP_GET {\n zzcheck 1\n url {\n path /\n zzurl 1\n }\n }\n }\n}\nvirtual_server 192.0.2.3 80 {\n protocol ZZTP\n}\n",
    );
    check(
        SourceKind::Ldirectord,
        "zzglobal=1\nvirtual=192.0.2.1:80\n\treal=192.0.2.2:80 gate 1 zzreal\n\tzzservice=1\n\tscheduler=zzscheduler\n\tchecktype=zzcheck\n\tfallback=192.0.2.9:80 zzfallback\n\tprotocol=zzprotocol\n",
    );
    check(
        SourceKind::Lvs,
        "zzglobal = 1\nvirtual a {\n active = 1\n address = 192.0.2.1 eth0:1\n port = 80\n zzservice = 2\n scheduler = zzscheduler\n server s {\n address = 192.0.2.2\n active = 1\n zzserver = 3\n }\n}\nfailover zzfailover {\n address = 1.2.3.4\n}\n",
    );
    check(
        SourceKind::Pound,
        "ZzGlobal 1\nListenHTTP\n Address 192.0.2.1\n Port 80\n ZzListener 1\n Service\n  ZzService 1\n  BackEnd\n   Address 192.0.2.2\n   Port 80\n   ZzBackEnd 1\n  End\n  Session\n   Type IP\n   TTL 5\n   ZzSession 1\n  End\n End\nEnd\n",
    );
    check(SourceKind::Haresources, "node1 192.0.2.1/24/zzinterface zzresource::a\n");
    check(
        SourceKind::Apache,
        "ZzGlobal 1\n<VirtualHost 192.0.2.1:80>\nServerName a.b\nZzHost 1\n<Location /x>\nZzLocation 1\n</Location>\n<Proxy balancer://b>\nBalancerMember http://192.0.2.2 zzmember=1\nZzProxy 1\nProxySet zzset=5\n</Proxy>\nProxyPass / balancer://b/ zzpass=5\n<ZzSection a>\nZzInside 1\n</ZzSection>\n</VirtualHost>\n",
    );
    check(
        SourceKind::Haproxy,
        "global\n zzglobal 1\ndefaults\n zzdefaults 1\nfrontend f\n mode http\n bind :80 zzbind\n zzfrontend 1\n option zzoption\n acl a zzfetch b\n http-request zzaction\n http-request deny if a\n default_backend b\nbackend b\n mode http\n zzbackend 1\n balance zzbalance\n server s 192.0.2.2:80 zzserver\n",
    );
}

#[test]
fn noise_is_survived() {
    let texts = [
        "",
        "{{{{",
        "}\n}\n",
        "listen",
        "frontend x\n bind\n",
        "virtual =",
        "ListenHTTPS\nEnd\nEnd\nEnd",
        "<Proxy",
        "real_server {",
        "\u{0}\u{fffd}\"",
        "server x {\n address",
        "acl a hdr(\nuse_backend b if {",
        "listen a :80\n server s\n server t 1.2.3.4:x check inter\n stick on\n timeout\n balance\n cookie\n retries\n option\n bind\n redirect\n http-request\n",
    ];
    for kind in SourceKind::ALL {
        for text in texts {
            let source = Source { kind, file: "noise".into(), text: text.into() };
            let _ = import(&[source], &BTreeMap::new());
        }
    }
}

proptest::proptest! {
    /// Lines out of words that the languages know, in any order: nothing panics.
    #[test]
    fn any_order_of_words_is_survived(words in proptest::collection::vec(0_usize..WORDS.len(), 0..120)) {
        let text: String = words.iter().map(|w| WORDS[*w]).collect();
        for kind in SourceKind::ALL {
            let source = Source { kind, file: "words".into(), text: text.clone() };
            let _ = import(&[source], &BTreeMap::new());
        }
    }
}

const WORDS: &[&str] = &[
    "\n",
    "\n",
    "\n",
    " ",
    " ",
    "listen ",
    "frontend ",
    "backend ",
    "defaults\n",
    "global\n",
    "bind ",
    ":80",
    "server ",
    "a ",
    "192.0.2.1:80 ",
    "check ",
    "inter ",
    "acl ",
    "if ",
    "unless ",
    "{ ",
    "} ",
    "path_beg ",
    "hdr(host) ",
    "use_backend ",
    "http-request ",
    "redirect ",
    "set-header ",
    "%[src]",
    "cookie ",
    "stick ",
    "on ",
    "src ",
    "timeout ",
    "4s ",
    "\"",
    "'",
    "\\",
    "#",
    "!",
    "virtual_server ",
    "192.0.2.1 80 ",
    "real_server ",
    "{\n",
    "}\n",
    "HTTP_GET ",
    "vrrp_instance ",
    "virtual_ipaddress ",
    "virtual=",
    "\treal=",
    "192.0.2.1->192.0.2.3:80 ",
    "gate ",
    "virtual x {\n",
    "server y {\n",
    "address = ",
    "ListenHTTPS\n",
    "Service\n",
    "BackEnd\n",
    "Address 192.0.2.1\n",
    "Port 80\n",
    "End\n",
    "URL ",
    "<VirtualHost *:80>\n",
    "</VirtualHost>\n",
    "<Proxy balancer://b>\n",
    "BalancerMember http://192.0.2.1 ",
    "</Proxy>\n",
    "ProxyPass / balancer://b/\n",
    "=",
    ",",
    "é",
];
