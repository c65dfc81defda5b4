//! What a line of HAProxy's becomes, where the differential tests found that it became something else.

use std::collections::BTreeMap;

use crate::{Imported, Places, Severity, Source, SourceKind, import, running};

fn section(lines: &str) -> String {
    format!("listen a\n mode http\n bind 192.0.2.1:80\n{lines}\n server s 192.0.2.2:80\n")
}

fn sources(texts: &[&str]) -> Vec<Source> {
    let one = |(at, text): (usize, &&str)| Source {
        kind: SourceKind::Haproxy,
        file: format!("{}.cfg", at + 1),
        text: (*text).to_owned(),
    };
    texts.iter().enumerate().map(one).collect()
}

fn made(lines: &str) -> Imported {
    let made = import(&sources(&[&section(lines)]), &BTreeMap::new());
    evenkeel_config::read(&made.text).unwrap_or_else(|e| panic!("{e:?}\n{}", made.text));
    made
}

fn becomes(lines: &str, part: &str) {
    let made = made(lines);
    assert!(made.text.contains(part), "{lines}: {part}\n{}\n{:?}", made.text, made.left);
}

#[test]
fn lists_hosts_queries_and_whole_values() {
    becomes(" http-request deny if { hdr(x-a) one }", "when = 'header-value(\"x-a\", \"one\")'");
    becomes(" http-request deny if { req.fhdr(x-a) one }", "when = 'header(\"x-a\", \"one\")'");
    becomes(" http-request deny if { hdr(x-a,2) one }", "{header-value:x-a,2}");
    becomes(
        " http-request deny if { hdr(x-a),lower one }",
        "text(\"{header-value:x-a,each|lower}\", \"one\")",
    );
    becomes(" http-request deny if { base -m len 5 }", "=~ \"^(?s-u:.{5,5})$\"");
    becomes(" http-request deny if { query,length 0 }", "text(\"{uri}\", \"*?*\")");
    becomes(" http-request redirect location /x%[path]", "drop-query = true");
    becomes(" http-request redirect scheme https drop-query", "https://{header:Host}{path}");
    becomes(" http-request redirect prefix https://b", "location = \"https://b{path}\", status = 302 }");
    becomes(
        " http-request replace-path /a/ /",
        "rewrite-path = \"{path|replace(\\\"^(?s:.*?)(?:/a/)(?s:.*)$\\\"",
    );
    becomes(
        " http-response replace-header Set-Cookie (.*) \\1;Secure",
        "edit-header = { \"Set-Cookie\" = \"{1|replace(",
    );
    becomes(
        " http-request set-uri http://b/c%[path]",
        "set-header = { \"Host\" = \"b\" }\n  rewrite-uri = \"/c{path}\"",
    );
    becomes(
        " capture request header X-A len 9\n http-request set-header b %[capture.req.hdr(0)]",
        "{last-header:X-A}",
    );
    // As it runs: with port and case.
    let text = section(" http-request deny if { hdr(host) a }");
    let runs = running(&sources(&[&text]), &BTreeMap::new(), Places::default());
    assert!(runs.text.contains("header(\"host\", \"a\")"), "{}", runs.text);
}

#[test]
fn what_cannot_be_meant_is_told() {
    for lines in [
        " http-request set-header a %[capture.req.hdr(3)]",
        " http-request replace-value a \\W b",
        " balance rdp-cookie",
        " bind 192.0.2.1:443 ssl crt www.pem",
    ] {
        let left = made(lines).left;
        assert!(
            left.iter().any(|l| matches!(l.severity, Severity::Unsupported | Severity::Critical)),
            "{lines}: {left:?}"
        );
    }
}

#[test]
fn headers_set_together_are_one_route() {
    let set =
        " http-request set-header A 1\n http-request set-header B 2\n http-request set-header C %[hdr(A)]\n";
    becomes(set, "set-header = { \"A\" = \"1\", \"B\" = \"2\" }");
    assert_eq!(made(set).text.matches("set-header").count(), 2);
    assert_eq!(
        made(" http-request set-header A 1\n http-request set-header A 2\n")
            .text
            .matches("set-header")
            .count(),
        2
    );
}

#[test]
fn lines_are_those_of_their_files() {
    let first = "global\n\ndefaults\n mode http\n filter trace\n";
    let second = "listen a\n bind 192.0.2.1:80\n server s 192.0.2.2:80\n rate-limit sessions 3\n";
    let made = import(&sources(&[first, second]), &BTreeMap::new());
    let told: Vec<(&str, usize)> = made.left.iter().map(|l| (l.file.as_str(), l.line)).collect();
    assert!(told.contains(&("1.cfg", 5)) && told.contains(&("2.cfg", 4)), "{:?}", made.left);
}

#[test]
fn who_follows_a_server_has_its_verdict() {
    let text = " server t 192.0.2.3:80 check inter 7s port 81\n server u 192.0.2.4:80 track a/t";
    becomes(text, "health-check = { address = \"192.0.2.3\" }");
}

/// A frontend, a backend and one with both kinds of addresses keep the names that their file has.
#[test]
fn names_are_the_sources_own() {
    let text = "defaults\n mode http\n timeout connect 4s\n timeout client 4s\n timeout server 4s\nfrontend web\n bind :80\n bind :443 ssl crt /a.pem\n bind :8443 ssl crt /a.pem\n default_backend web\nbackend web\n server a 192.0.2.2:80\nlisten be:ns:app\n bind :81\n bind 192.0.2.9:444 ssl crt /a.pem\n server a 192.0.2.2:80\n";
    let source = Source { kind: SourceKind::Haproxy, file: "h.cfg".into(), text: text.into() };
    let made = crate::import(&[source], &Default::default()).text;
    evenkeel_config::read(&made).unwrap_or_else(|e| panic!("{e:?}\n{made}"));
    for part in [
        "[[virtual-service]]\nname = \"web\"\nvip = [\"0.0.0.0:80,443,8443\"]",
        "ports = [443, 8443]",
        "pool = \"web\"",
        "[[pool]]\nname = \"web\"",
        "name = \"be:ns:app\"\nvip = [\"0.0.0.0:81\", \"192.0.2.9:444\"]",
        "ports = [444]",
    ] {
        assert!(made.contains(part), "{part}\n{made}");
    }
}

/// As HAProxy: what the server wants, unless the check asks elsewhere or opens a connection of its own kind.
#[test]
fn checks_greet_as_their_server_wants() {
    let check_of = |options: &str, more: &str| {
        let lines = format!(
            "defaults\n timeout connect 4s\n timeout client 4s\n timeout server 4s\nlisten a\n bind :81\n{more} server a 192.0.2.2:80 {options}\n"
        );
        let source = Source { kind: SourceKind::Haproxy, file: "h.cfg".into(), text: lines };
        let made = crate::import(&[source], &Default::default()).text;
        evenkeel_config::read(&made).unwrap_or_else(|e| panic!("{e:?}\n{made}"));
        let line = made.lines().find(|line| line.starts_with("health-check")).unwrap_or("").to_owned();
        line.trim_start_matches("health-check = { type = \"tcp\"")
            .trim_end_matches(" }")
            .trim_start_matches(", ")
            .to_owned()
    };
    let v1 = "send-proxy = true, send-proxy-version = \"v1\"";
    assert_eq!(check_of("check", ""), "");
    assert_eq!(check_of("check check-send-proxy", ""), v1);
    assert_eq!(check_of("check send-proxy", ""), v1);
    assert_eq!(check_of("check send-proxy-v2", ""), "send-proxy = true");
    assert_eq!(check_of("check send-proxy port 81", ""), "port = 81");
    assert_eq!(check_of("check send-proxy port 81 check-send-proxy", ""), format!("port = 81, {v1}"));
    let own = " option tcp-check\n tcp-check connect\n";
    assert_eq!(check_of("check send-proxy", own), "");
    assert_eq!(check_of("check send-proxy", " option tcp-check\n tcp-check connect default\n"), v1);
    assert_eq!(check_of("check", " option tcp-check\n tcp-check connect send-proxy\n"), v1);
}

#[test]
fn checks_name_their_host_and_expect_headers() {
    let lines = " option httpchk GET /\n http-check comment why\n http-check expect hdr name X-Up value -m sub yes\n server a 192.0.2.2:443 check ssl verify none check-sni a.example\n";
    let text = format!(
        "defaults\n timeout connect 4s\n timeout client 4s\n timeout server 4s\nlisten a\n bind :81\n{lines}"
    );
    let source = Source { kind: SourceKind::Haproxy, file: "h.cfg".into(), text };
    let made = crate::import(&[source], &Default::default());
    evenkeel_config::read(&made.text).unwrap_or_else(|e| panic!("{e:?}\n{}", made.text));
    assert!(made.text.contains("expect-headers-regex = { \"X-Up\" = \"yes\" }"), "{}", made.text);
    assert!(made.text.contains("tls = { verify = false, sni = \"a.example\" }"), "{}", made.text);
    assert!(made.left.is_empty(), "{:?}", made.left);
}

#[test]
fn predefined_names_of_tests_are_known() {
    for name in [
        "TRUE",
        "FALSE",
        "METH_CONNECT",
        "METH_DELETE",
        "METH_GET",
        "METH_HEAD",
        "METH_OPTIONS",
        "METH_POST",
        "METH_PUT",
        "METH_TRACE",
        "HTTP_1.0",
        "HTTP_1.1",
        "HTTP_2.0",
        "HTTP_CONTENT",
        "HTTP_URL_SLASH",
        "HTTP_URL_STAR",
        "LOCALHOST",
    ] {
        let text = section(&format!(
            " timeout connect 4s\n timeout client 4s\n timeout server 4s\n http-request deny if {name}\n"
        ));
        let source = Source { kind: SourceKind::Haproxy, file: "h.cfg".into(), text };
        let made = import(&[source], &BTreeMap::new());
        evenkeel_config::read(&made.text).unwrap_or_else(|e| panic!("{e:?}\n{}", made.text));
        assert!(made.text.contains("deny = "), "{name}: {}\n{:?}", made.text, made.left);
    }
}

/// What a configuration becomes that is run as it is.
fn as_it_runs(lines: &str) -> String {
    let text = format!(
        "defaults\n mode http\n timeout connect 4s\n timeout client 4s\n timeout server 4s\nfrontend f\n bind 192.0.2.1:80\n{lines}backend b\n server s 192.0.2.2:80\n"
    );
    let runs = running(&sources(&[&text]), &BTreeMap::new(), Places::default());
    evenkeel_config::read(&runs.text).unwrap_or_else(|e| panic!("{e:?}\n{}", runs.text));
    assert!(runs.left.is_empty(), "{lines}: {:?}", runs.left);
    runs.text
}

#[test]
fn pages_monitors_redirects_and_where_requests_go() {
    let becomes = |lines: &str, part: &str| {
        let text = as_it_runs(&format!("{lines} default_backend b\n"));
        assert!(text.contains(part), "{lines}: {part}\n{text}");
    };
    becomes(
        " errorloc303 503 http://x/s\n",
        "error-answers = { 503 = { status = 303, headers = { Location = \"http://x/s\" } } }",
    );
    becomes(
        " http-error status 404 content-type text/plain string no\n",
        "error-answers = { 404 = { content-type = \"text/plain\", body = \"no\" } }",
    );
    becomes(
        " monitor-uri /m\n monitor fail if { nbsrv(b) lt 1 }\n",
        "when = 'servers-up(\"b\") < 1 && path(\"/m\")'\n  deny = { status = 503 }",
    );
    becomes(" monitor-net 10.0.0.0/255.0.0.0\n", "when = 'source(\"10.0.0.0/8\")'");
    becomes(
        " option originalto except 10.0.0.0/8\n",
        "add-header = { \"X-Original-To\" = \"{destination}\" }",
    );
    becomes(" redirect prefix http://h append-slash\n", "location = \"http://h{uri|replace(");
    becomes(
        " http-request redirect location /x clear-cookie A=\n",
        "add-response-header = { Set-Cookie = \"A=; path=/; Max-Age=0;\" }",
    );
    becomes("", "retry-pause = \"1s\"");
    // Rules of answers are asked of those that went to their backend.
    let text =
        " default_backend b\nbackend b2\n http-after-response set-header X-A b\n server s 192.0.2.3:80\n";
    let text = as_it_runs(&format!(" use_backend b2 if {{ path /2 }}\n{text}"));
    assert!(text.contains("set-variable = { \"txn.goes-to\" = \"b2\" }"), "{text}");
    assert!(text.contains("when = 'variable(\"txn.goes-to\", \"b2\")'"), "{text}");
}

#[test]
fn counters_in_texts_and_bodies() {
    let lines = " stick-table type ip size 1k expire 1m store http_req_rate(10s),http_req_cnt\n http-request track-sc0 src\n http-request set-header x-rate <%[sc_http_req_rate(0)]>\n http-request set-header x-count %[src,table_http_req_cnt(f)]\n http-request set-header x-more %[src_http_req_cnt(f),add(1)]\n default_backend b\n";
    let text = as_it_runs(lines);
    for part in ["<{rate:f,requests}>", "\"{count:f,requests}\"", "{count:f,requests|present|integer|add(1)}"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = as_it_runs(
        " option http-buffer-request\n http-request deny if { req.body_len gt 10 }\n http-request set-header x-p %[req.body_param(p)]\n default_backend b\n",
    );
    for part in ["wait-for-body = true", "when = 'number(\"{body|length}\") > 10'", "{body:p}"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// What a sample becomes between two texts and beside another one is what it becomes alone.
#[test]
fn a_sample_means_the_same_wherever_it_stands() {
    let stored = "conn_cnt,conn_cur,conn_rate(9s),sess_cnt,sess_rate(9s),http_req_cnt,http_req_rate(9s),http_err_cnt,http_err_rate(9s),http_fail_cnt,http_fail_rate(9s),bytes_in_cnt,bytes_in_rate(9s),bytes_out_cnt,bytes_out_rate(9s),gpc0,gpc1,gpt0,server_id";
    let counters = "conn_cnt conn_cur conn_rate sess_cnt sess_rate http_req_cnt http_req_rate http_err_cnt http_err_rate http_fail_cnt http_fail_rate bytes_in_rate bytes_out_rate kbytes_in kbytes_out get_gpc0 get_gpc1 get_gpt0";
    let of_entry = |what: &str| {
        let table = what.trim_start_matches("get_");
        [
            format!("sc_{what}(0)"),
            format!("sc0_{what}"),
            format!("src_{what}(f)"),
            format!("src,table_{table}(f)"),
        ]
    };
    let counted = counters.split(' ').flat_map(of_entry);
    let others = "src dst_port path url query method req.ver hdr(a) req.fhdr(a) hdr_cnt(a) cook(a) urlp(a) rand(5) date uuid nbsrv(b) be_conn(b) queue(b) fe_conn srv_conn(b/s) var(txn.a) str(a) int(3) ssl_fc ssl_fc_sni unique-id base32 hdr(a),lower var(txn.a,1),add(2) src,ipmask(24)";
    let mut taken = 0;
    for sample in counted.chain(others.split(' ').map(str::to_owned)) {
        let lines = format!(
            " stick-table type ip size 1k expire 9s store {stored}\n http-request track-sc0 src\n http-request set-header x-alone %[{sample}]\n http-request set-header x-among a%[{sample}]b%[path]%[{sample}]c\n default_backend b\n"
        );
        let text = as_it_runs(&lines);
        let after = |name: &str| {
            let rest = text.split_once(&format!("\"{name}\" = "))?.1;
            rest.split(" }\n").next()
        };
        let Some(alone) = after("x-alone") else { continue };
        taken += 1;
        let inner = alone.trim_matches('"');
        assert!(
            inner.starts_with('{') && inner.ends_with('}') && !inner.contains("number("),
            "{sample}: {alone}"
        );
        assert_eq!(after("x-among"), Some(&*format!("\"a{inner}b{{path}}{inner}c\"")), "{sample}");
    }
    assert!(taken > 90, "{taken}");
}

/// A check of another port or address does not speak TLS because its server does.
#[test]
fn checks_of_other_places_speak_as_they_say() {
    for (options, speaks) in [
        ("check", ""),
        ("check port 81", "tls = { enabled = false }"),
        ("check addr 192.0.2.13", "tls = { enabled = false }"),
        ("check port 81 check-ssl", "tls = { verify = false }"),
        ("check port 81 check-sni a.test", "tls = { enabled = false }"),
    ] {
        let backend = |check: &str| {
            as_it_runs(&format!(
                " default_backend c\nbackend c\n{check} server s1 192.0.2.11:80 ssl verify none {options}\n"
            ))
        };
        let text = backend(" option httpchk GET /\n");
        let found = text.lines().filter(|line| line.contains("health-check")).collect::<String>();
        assert_eq!(found.contains("tls = {"), !speaks.is_empty(), "{options}: {found}");
        assert!(found.contains(speaks), "{options}: {found}");
        assert!(!backend("").contains("enabled = false"), "{options}");
    }
}

#[test]
fn servers_of_one_pool_speak_as_each_line_says() {
    let lines = " default_backend c\nbackend c\n server s1 192.0.2.11:80 send-proxy\n server s2 192.0.2.12:80 proto h2\n server s3 192.0.2.13:80 send-proxy-v2 proto h2\n";
    let text = as_it_runs(lines);
    for part in [
        "send-proxy = \"v1\"",
        "name = \"s2\"\naddress = \"192.0.2.12:80\"",
        "send-proxy = \"none\"",
        "server-http = \"2\"",
        "send-proxy = \"v2\"",
    ] {
        assert!(text.replace("\n  ", "\n").contains(part), "{part}: {text}");
    }
    assert_eq!(text.matches("server-http = \"2\"").count(), 2, "{text}");
}

#[test]
fn tables_by_host_path_and_source() {
    let text = as_it_runs(
        " stick-table type binary len 20 size 1k expire 9s store http_req_rate(9s)\n http-request track-sc0 base32+src\n http-request set-var(req.rate) base32+src,table_http_req_rate()\n http-request deny if { base32+src,table_http_req_rate(f) gt 5 }\n default_backend b\n",
    );
    for part in [
        "key = \"{header:Host}{path} {source}\"",
        "set-variable = { \"req.rate\" = \"{rate:f,requests}\" }",
        "when = 'rate(\"f\", \"requests\") > 5'",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn versions_of_tls_are_those_that_are_named() {
    let tls = |options: &str| {
        let text = format!(
            "listen a\n mode http\n bind 192.0.2.1:443 ssl crt /c.pem {options}\n server s 192.0.2.2:80\n"
        );
        let made = import(&sources(&[&text]), &BTreeMap::new());
        let line = made.text.lines().find(|line| line.starts_with("tls = ")).unwrap_or_default().to_owned();
        (line, made.left.iter().map(|l| l.consequence.clone()).collect::<Vec<_>>().join("\n"))
    };
    for (options, part) in [
        ("ssl-max-ver TLSv1.2", "max-version = \"1.2\""),
        ("force-tlsv12", "min-version = \"1.2\", max-version = \"1.2\""),
        ("no-tlsv13", "max-version = \"1.2\""),
        ("no-tlsv12", "min-version = \"1.3\""),
        ("force-tlsv13", "min-version = \"1.3\", max-version = \"1.3\""),
        ("no-alpn", "alpn = []"),
    ] {
        let (line, left) = tls(options);
        assert!(line.contains(part) && left.is_empty(), "{options}: {line} {left}");
    }
    assert!(tls("no-sslv3 no-tlsv10 no-tlsv11").1.is_empty());
    for old in ["force-tlsv11", "ssl-max-ver TLSv1.1"] {
        assert!(tls(old).1.contains("TLS 1.2 is the oldest"), "{old}");
    }
    let text = "global\n ssl-default-bind-options ssl-max-ver TLSv1.2\nlisten a\n bind 192.0.2.1:443 ssl crt /c\n \
                bind 192.0.2.1:444 ssl crt /c\n server s 192.0.2.2:80\n";
    assert!(import(&sources(&[text]), &BTreeMap::new()).text.contains("max-version = \"1.2\""));
    // Towards servers both are offered: less is told.
    let of_server = |word: &str| {
        let text = format!("backend a\n server s 192.0.2.2:443 ssl verify none {word}\n");
        import(&sources(&[&text]), &BTreeMap::new()).left.iter().any(|l| l.keyword.starts_with(word))
    };
    assert!(of_server("force-tlsv12") && of_server("ssl-max-ver TLSv1.2"));
    assert!(!of_server("ssl-min-ver TLSv1.2") && !of_server("no-tlsv11"));
}

#[test]
fn servers_are_verified_unless_the_process_says_otherwise() {
    let tls = |of_server: &str| {
        let text = format!(
            "global\n ssl-server-verify none\nlisten a\n bind 192.0.2.1:80\n server s 192.0.2.2:443 ssl {of_server}\n"
        );
        import(&sources(&[&text]), &BTreeMap::new()).text
    };
    assert!(tls("").contains("verify = false"));
    assert!(!tls("verify required ca-file /ca.pem").contains("verify = false"));
}

#[test]
fn lines_of_the_log_go_where_they_are_sent_in_the_form_that_is_asked_for() {
    for (to, access) in [("stderr", "stderr"), ("fd@2", "stderr"), ("stdout", "stdout"), ("fd@1", "stdout")] {
        let text = format!("global\n log {to} local0\n log {to} local1\n{}", section(" log global"));
        let made = import(&sources(&[&text]), &BTreeMap::new());
        for facility in [16, 17] {
            let target = format!("{{ to = \"{access}\", facility = {facility}, header = \"local\" }}");
            assert!(made.text.contains(&target), "{}", made.text);
        }
        assert!(!made.left.iter().any(|l| l.keyword == "log"), "{:?}", made.left);
    }
    let text = "global\n log 192.0.2.5 local0\ndefaults\n log global\n log stdout format raw user\n\
                frontend a\n bind 192.0.2.1:80\n log 192.0.2.6 local1 err\n log-tag a\n use_backend c\n\
                frontend b\n bind 192.0.2.1:81\n no log\n use_backend c\n\
                backend c\n log 192.0.2.7 local2\n server s 192.0.2.2:80\n";
    let all = import(&sources(&[text]), &BTreeMap::new());
    for part in [
        "access = \"syslog:192.0.2.5:514\"",
        "log = [{ to = \"syslog:192.0.2.5:514\", tag = \"a\", facility = 16 }, { to = \"stdout\", tag = \"a\", \
         facility = 1 }, { to = \"syslog:192.0.2.6:514\", tag = \"a\", facility = 17, level = \"err\" }]",
        "log = []",
    ] {
        assert!(all.text.contains(part), "{part}\n{}", all.text);
    }
    assert!(!all.text.contains("192.0.2.7"), "lines of requests are the frontend's: {}", all.text);
    evenkeel_config::read(&all.text).unwrap_or_else(|e| panic!("{e:?}\n{}", all.text));
    let options = made_with_text(" option logasap\n option dontlog-normal\n option log-separate-errors");
    assert!(options.contains("log-lines = { early = true, only-trouble = true, trouble-is-error = true }"));
    becomes(
        " log stdout user",
        "log-format = \"Connect from {client}:{client-port} to {destination}:{port} ({service}/HTTP)\"",
    );
    let secure = made_with_text(" option httpslog\n capture request header Host len 9");
    assert!(
        secure.contains("{{{captured}}} \\\"{request}\\\" 0/{tls|")
            && secure.contains("/{tls-resumed} {sni}/{tls-version}/"),
        "{secure}"
    );
    becomes(" option tcplog", "log-format = \"{client}:{client-port} [{time}]");
    assert!(!made(" option tcplog\n option httplog").text.contains("log-format"));
}

#[test]
fn servers_that_are_down_are_asked_in_their_own_time() {
    let text = "listen a\n bind 192.0.2.1:80\n server s 192.0.2.2:80 check inter 1s fastinter 20 downinter 7s\n \
                server t 192.0.2.3:80 track a/s\n";
    let made = import(&sources(&[text]), &BTreeMap::new());
    evenkeel_config::read(&made.text).unwrap_or_else(|e| panic!("{e:?}\n{}", made.text));
    assert!(made.text.contains("down-interval = \"7s\"") && made.text.contains("fast-interval = \"50ms\""));
    assert!(made.left.iter().all(|l| l.severity == Severity::Remark), "{:?}", made.left);
    becomes(" http-response strict-mode off\n http-response set-header a b", "\"a\" = \"b\"");
}

#[test]
fn slots_of_captures_are_filled_by_their_number() {
    let made = made(
        " http-request capture req.hdr(X-A) len 9\n declare capture request len 5\n \
         http-request capture url_param(q),lower id 1 if { path /a }\n \
         http-request set-header b %[capture.req.hdr(1),upper]%[capture.req.hdr(0)]",
    );
    for part in [
        "when = 'query(\"q\") && path(\"/a\")'",
        "set-variable = { \"txn.captured-1\" = \"{query:q|lower|bytes(0,5)}\" }",
        "set-variable = { \"txn.captured-0\" = \"{header-value:X-A,-1|bytes(0,9)}\" }",
        "\"b\" = \"{variable:txn.captured-1|upper}{variable:txn.captured-0}\"",
    ] {
        assert!(made.text.contains(part), "{part}\n{}\n{:?}", made.text, made.left);
    }
    assert!(made.text.matches("capture = {").count() == 2 && made.left.is_empty(), "{:?}", made.left);
    // A header that rules change was captured before them: nothing has it any more.
    let changed = " capture request header X-A len 9\n http-request set-header X-A b\n \
                   http-request set-header c %[capture.req.hdr(0)]";
    assert!(made_with(changed).contains("name the header itself"));
}

fn made_with_text(lines: &str) -> String {
    made(lines).text
}

fn made_with(lines: &str) -> String {
    made(lines).left.iter().map(|l| l.consequence.clone()).collect()
}

#[test]
fn backups_come_one_after_the_other_or_all_at_once() {
    let backups = " server b 127.0.0.1:3 backup\n server c 127.0.0.1:4 backup";
    becomes(backups, "backups = \"first\"");
    let text = made(&format!(" option allbackups\n{backups}")).text;
    assert!(!text.contains("backups"), "{text}");
}

#[test]
fn longer_heads_than_usual() {
    let frontend =
        "frontend f\n mode http\n bind :80\n default_backend b\nbackend b\n server s 127.0.0.1:1\n";
    let made = |global: &str| import(&sources(&[&format!("global\n{global}{frontend}")]), &BTreeMap::new());
    for (global, part) in [
        (" tune.bufsize 65536\n", "head-size = \"63KiB\""),
        (" tune.bufsize 65536\n tune.maxrewrite 16384\n", "head-size = \"48KiB\""),
        (" tune.maxrewrite 90000\n tune.bufsize 131072\n", "head-size = \"64KiB\""),
        (" tune.bufsize 9999999\n", "head-size = \"1MiB\""),
    ] {
        assert!(made(global).text.contains(part), "{global}{part}\n{}", made(global).text);
    }
    for global in ["", " tune.bufsize 16384\n", " tune.bufsize 8192\n", " tune.http.maxhdr 100\n"] {
        assert!(!made(global).text.contains("head-size"), "{global}");
    }
    assert!(made(" tune.http.maxhdr 500\n").left.iter().any(|l| l.consequence.contains("128 fields")));
}

#[test]
fn options_that_end_connections_have_an_effect() {
    becomes(" option abortonclose", "abort-on-close = true");
    becomes(" option httpclose", "close-after-answer = true");
    becomes(" option forceclose", "close-after-answer = true");
    for kept in
        [" option httpclose\n no option httpclose", " option httpclose\n option http-server-close", ""]
    {
        let text = made(kept).text;
        assert!(!text.contains("close-after-answer"), "{kept}\n{text}");
    }
}

#[test]
fn addresses_normal_forms_names_and_values_of_connections() {
    let becomes = |lines: &str, part: &str| {
        let text = as_it_runs(&format!("{lines} default_backend b\n"));
        assert!(text.contains(part), "{lines}: {part}\n{text}");
    };
    becomes("", "request-heads = \"wide\"");
    becomes(" option accept-invalid-http-request\n", "request-heads = \"loose\"");
    becomes(
        " tcp-request connection set-src ipv4(10.0.0.1)\n",
        "set-connection-source = \"{\\\"10.0.0.1\\\"}\"",
    );
    becomes(" http-request set-src hdr(x-src)\n", "set-source = \"{header-value:x-src,-1}\"");
    becomes(" http-request set-dst-port int(81)\n", "set-destination-port = ");
    becomes(
        " http-request set-header a %[fc_src]%[fc_pp_tlv(0xEA)]\n",
        "{connection-source}{proxy-value:0xea}",
    );
    becomes(
        " http-request normalize-uri path-strip-dotdot full\n",
        "{uri|normalize(path-strip-dotdot-full)}",
    );
    becomes(" http-request normalize-uri percent-to-uppercase strict\n", "deny = { status = 400 }");
    becomes(" http-request del-header ^x-[ab]$ -m reg\n", "remove-header-matching = [\"^x-[ab]$\"]");
    becomes(" http-response del-header ^x-[ab]$ -m reg\n", "remove-header-matching = [\"^x-[ab]$\"]");
    becomes(
        " http-request set-var(txn.p) path\n http-request deny if { var(txn.p),field(3,/) -m found }\n",
        "when = 'present(\"{variable:txn.p|field(3,\\\"/\\\")}\")'",
    );
    becomes(
        " http-error status 404 content-type text/plain lf-string \"no %[path]\"\n http-request deny deny_status 404\n",
        "answer = { status = 404, content-type = \"text/plain\", body = \"no {path}\", variables = true }",
    );
    becomes(
        " http-error status 404\n",
        "error-answers = { 404 = { headers = { Cache-Control = \"no-cache\" } } }",
    );
}

#[test]
fn what_servers_are_told_and_wait_for_behind_rules() {
    let text = as_it_runs(
        " option forwardfor if-none\n use_backend c if { path /c }\n default_backend b\nbackend c\n option forwardfor except 10.0.0.0/8\n timeout connect 1s\n timeout queue 2s\n server s 192.0.2.3:80\n",
    );
    // One of both must be told: it is added whether there is one or not.
    assert!(text.contains("when = 'path(\"/c\") && !source(\"10.0.0.0/8\")'"), "{text}");
    assert!(text.contains("when = '!header(\"X-Forwarded-For\")'"), "{text}");
    assert!(text.contains("connect-timeout = \"1s\"") && text.contains("queue-timeout = \"2s\""), "{text}");
    let text = as_it_runs(
        " default_backend b\nbackend c\n http-after-response allow if { status 502 }\n http-after-response set-header a b\n server s 192.0.2.3:80\n",
    );
    assert!(!text.contains("stop = true"), "{text}");
}

#[test]
fn a_port_with_and_without_tls_is_one_service() {
    let binds = " bind 192.0.2.3:81\n bind 192.0.2.4:81 ssl crt /etc/ssl/a.pem ca-file /etc/ssl/ca.pem verify optional\n";
    becomes(binds, "vips = [\"192.0.2.4:81\"] }");
    becomes(binds, "vip = [\"192.0.2.1:80\", \"192.0.2.3:81\", \"192.0.2.4:81\"]");
    assert_eq!(made(binds).text.matches("[[virtual-service]]").count(), 1);
    // What stands in a table of its own stays there.
    becomes(
        " bind 192.0.2.4:443 ssl crt /etc/ssl/a.pem ca-file /etc/ssl/ca.pem verify optional\n",
        ", ports = [443] }",
    );
}

#[test]
fn what_tcp_is_told_is_carried_over() {
    let bind = " bind 192.0.2.3:81 tcp-ut 30s mss 1400\n";
    becomes(bind, "tcp-user-timeout = \"30s\"");
    becomes(bind, "tcp-mss = 1400");
    becomes(" default-server tcp-ut 2500\n", "server-tcp-user-timeout = \"2500ms\"");
    assert!(made(" bind 192.0.2.3:81 mss -12\n").left.iter().any(|l| l.keyword == "mss"));
}

#[test]
fn places_grow_where_haproxys_do() {
    let server = " server g 192.0.2.9:80 minconn 2 maxconn 9\n";
    becomes(&format!(" fullconn 50\n{server}"), "full-connections = 50");
    becomes(&format!(" fullconn 50\n{server}"), "min-connections = 2");
    // A tenth of what may come, as HAProxy has it.
    becomes(&format!(" maxconn 95\n{server}"), "full-connections = 10");
    becomes(" server g 192.0.2.9:80 minconn 7\n", "max-connections = 7");
    assert!(!made(" server g 192.0.2.9:80 minconn 7\n").text.contains("min-connections"));
    assert!(made(server).left.iter().any(|l| l.keyword == "minconn"));
}

#[test]
fn answers_are_compressed_and_requests_are_not() {
    let all = "types = [\"*\"]";
    becomes(" compression algo gzip", &format!("compression = {{ codings = [\"gzip\"], {all} }}"));
    becomes(
        " compression algo gzip deflate\n compression type text/css text/html\n compression offload",
        "compression = { codings = [\"gzip\", \"deflate\"], types = [\"text/css\", \"text/html\"], offload = true }",
    );
    becomes(
        " compression direction response\n compression algo-res deflate\n compression minsize-res 100",
        &format!("compression = {{ codings = [\"deflate\"], {all}, min-size = \"100B\" }}"),
    );
    for words in ["compression direction both", "compression algo-req gzip", "compression type-req a/b"] {
        let made = made(&format!(" compression algo gzip\n {words}"));
        assert!(made.left.iter().any(|left| left.keyword == words), "{words}: {:?}", made.left);
    }
}

#[test]
fn checks_of_a_section_stand_in_the_place_of_those_of_its_defaults() {
    let text = "defaults\n mode http\n option httpchk GET /d\n http-check send hdr Host d body one\nlisten a\n bind 192.0.2.1:80\n http-check send hdr Host own body two\n server s 192.0.2.2:80 check\n";
    let made = import(&sources(&[text]), &BTreeMap::new());
    assert!(made.text.contains("host = \"own\"") && made.text.contains("body = \"two\""), "{}", made.text);
    assert!(made.left.is_empty() && !made.text.contains("one"), "{:?}\n{}", made.left, made.text);
    assert!(made.text.contains("OPTIONS") && !made.text.contains("path = "), "{}", made.text);
    let other = text.replace(" http-check send hdr Host own body two", " option httpchk");
    let made = import(&sources(&[&other]), &BTreeMap::new());
    assert!(!made.text.contains("path = ") && !made.text.contains("body"), "{}", made.text);
    becomes(
        " option tcp-check\n tcp-check expect !rstring ^error comment \"it is bad\"\n tcp-check expect string valid comment good\n server t 192.0.2.3:80 check",
        "steps = [{ refuse-regex = \"^error\" }, { expect = \"valid\" }]",
    );
}

#[test]
fn rules_of_a_default_backend_know_that_it_was_gone_to() {
    for rule in ["tcp-response content reject", "http-response deny", "capture response header X-A len 9"] {
        let text = format!(
            "frontend f\n mode http\n bind 192.0.2.1:80\n default_backend b\nbackend b\n mode http\n {rule}\n server s 192.0.2.2:80\n"
        );
        let made = import(&sources(&[&text]), &BTreeMap::new());
        assert!(made.text.contains("set-variable = { \"txn.goes-to\" = \"b\" }"), "{rule}: {}", made.text);
    }
}

#[test]
fn a_listen_goes_to_other_backends_by_their_rules() {
    let text = "listen l\n mode http\n bind 192.0.2.1:80\n use_backend c if { path_beg /c }\n default_backend b\nbackend b\n mode http\n http-request deny if { path /b }\n http-response set-header a b\n server s 192.0.2.2:80\nbackend c\n mode http\n http-response set-header a c\n server s 192.0.2.3:80\n";
    let made = import(&sources(&[text]), &BTreeMap::new()).text;
    for expected in ["'path(\"/b\")'", "{ \"a\" = \"b\" }", "{ \"a\" = \"c\" }"] {
        assert!(made.contains(expected), "{expected}: {made}");
    }
}

#[test]
fn each_value_of_a_list_is_asked_behind_converters() {
    for (test, when) in [
        (
            "hdr(x),lower,field(1,-) -m str a",
            "text(\"{header-value:x,each|lower|field(1,\\\"-\\\")}\", \"a\")",
        ),
        ("hdr(x),length gt 3", "number(\"{header-value:x,each|present|length}\") > 3"),
        ("nbsrv(a) lt 2", "servers-up(\"a\") < 2"),
        ("srv_is_up(a/s)", "server-up(\"a\", \"s\")"),
        ("fe_conn gt 9", "service-connections > 9"),
    ] {
        becomes(&format!(" http-request deny if {{ {test} }}"), when);
    }
    becomes(" http-request set-header a %[be_conn(a)]", "{ \"a\" = \"{connections:a}\" }");
}

#[test]
fn answers_of_servers_are_replaced() {
    becomes(
        " http-response redirect location /x code 301 if { status 404 }",
        "when = 'status == 404'\n  of = \"servers\"\n  redirect = { location = \"/x\", status = 301 }",
    );
    becomes(
        " http-response return status 403 content-type text/plain lf-string \"%[status]\" hdr X-A b",
        "answer = { status = 403, content-type = \"text/plain\", body = \"{status}\", variables = true }\n  add-header = { \"X-A\" = \"b\" }",
    );
}
