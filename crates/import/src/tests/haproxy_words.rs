//! Words of HAProxy.

use super::*;

/// What HAProxy is asked in a frontend, with two backends behind it.
fn of_haproxy(lines: &str) -> String {
    format!("defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n{lines}")
}

#[test]
fn flags_of_conditions_are_heeded() {
    let text = of_haproxy(
        "listen a\n bind 192.0.2.1:80\n acl b path_end -i .asp .php\n http-request deny if { path_beg -i /admin }\n http-request deny if b\n http-request deny if { req.hdr(user-agent) -m sub -i badbot }\n http-request deny if { cook(role) -i root }\n http-request deny if { path -m dir -i /x/ }\n http-request deny if { path,lower -i -m reg ^/Y }\n http-request deny if { path_len gt 9 }\n http-request deny if { base_beg -i h/ }\n http-request deny if { path a*b }\n server s 192.0.2.2:80\n",
    );
    check(
        &[(SourceKind::Haproxy, &text)],
        &[
            r#"path =~ "(?i)^/admin""#,
            r#"path =~ "(?i)(?:\\.asp|\\.php)$""#,
            r#"header-value("user-agent") =~ "(?i)badbot""#,
            r#"cookie("role") =~ "(?i)^root$""#,
            r#"path =~ "(?i)(?:^|[/?])x(?:[/?]|$)""#,
            r#"text("{path|lower}") =~ "(?i)^/Y""#,
            r#"number("{path|length}") > 9"#,
            r#"text("{header:Host}{path}") =~ "(?i)^h/""#,
            r#"path =~ "^a\\*b$""#,
        ],
        &[],
    );
    let text = of_haproxy(
        "listen a\n bind 192.0.2.1:80\n http-request deny if { path -i -f /list }\n http-request deny if { path -M /x }\n server s 192.0.2.2:80\n",
    );
    check(&[(SourceKind::Haproxy, &text)], &[], &["http-request deny if { path -M /x }"]);
}

#[test]
fn values_that_toml_cannot_read_are_told() {
    let text = format!(
        "global\n maxconn \"\"\n{}",
        of_haproxy("listen a\n bind 192.0.2.1:80\n server s 192.0.2.2:80\n")
    );
    check(&[(SourceKind::Haproxy, &text)], &[], &["max-connections"]);
}

#[test]
fn what_a_backend_brings_behind_a_rule() {
    let text = of_haproxy(
        "frontend f\n bind 192.0.2.1:80\n stats uri /st\n use_backend reports if { path_beg /r }\n use_backend app if { path_beg /app }\n use_backend m if { path_beg /m }\n default_backend web\nbackend web\n server s 192.0.2.2:80\nbackend reports\n timeout server 20s\n timeout queue 9s\n server s 192.0.2.2:80\nbackend app\n server a1 app1.internal:8080 check\nbackend m\n errorfile 503 /m.http\n",
    );
    check(
        &[(SourceKind::Haproxy, &text)],
        &[
            "vip = [\"192.0.2.1:80\"]",
            "server-timeout = \"20s\"",
            "queue-timeout = \"9s\"",
            "address = \"app1.internal:8080\"",
            "answer = { status = 503, file = \"/m.http\" }",
        ],
        &["backend", "stats"],
    );
}

#[test]
fn timeouts_of_tunnels_and_hosts_in_old_forms() {
    let text = "defaults\n mode tcp\n timeout connect 1s\n timeout client 2s\n timeout server 2s\n timeout tunnel 60s\nlisten a\n bind 192.0.2.1:80\n option httpchk\n http-check send meth GET uri / ver HTTP/1.1\\r\\nHost:\\ inner.test\n server s 192.0.2.2:80 check\n";
    check(
        &[(SourceKind::Haproxy, text)],
        &["client = \"60s\", server = \"60s\"", "host = \"inner.test\""],
        &[],
    );
}

#[test]
fn keepalived_tells_two_roles_and_heeds_the_global_version() {
    let one = |name: &str, state: &str, id: u8| {
        format!(
            "vrrp_instance {name} {{\n state {state}\n interface eth0\n virtual_router_id {id}\n priority 100\n virtual_ipaddress {{\n 192.0.2.{id}/24\n }}\n}}\n"
        )
    };
    let text =
        format!("global_defs {{\n vrrp_version 3\n}}\n{}{}", one("A", "MASTER", 51), one("B", "BACKUP", 52));
    let made = check(&[(SourceKind::Keepalived, &text)], &[], &["vrrp_instance"]);
    assert!(!made.contains("version = 2"), "{made}");
}

#[test]
fn servers_that_persistence_does_not_remember() {
    let import = |keys: &str, servers: &[&str]| {
        let servers: String = servers.iter().map(|s| format!(" server {s}\n")).collect();
        let text = format!(
            "defaults\n mode http\n timeout connect 4s\n timeout client 30s\n timeout server 30s\nlisten web\n bind 192.0.2.10:80\n{keys}{servers}"
        );
        check(&[(SourceKind::Haproxy, &text)], &[], &[])
    };
    let blocks = |text: &str| -> Vec<bool> {
        text.split("real-server]]").skip(1).map(|block| block.contains("non-stick = true")).collect()
    };
    // By a cookie: who has no value of one is not remembered, and a backup never is.
    let servers = ["a 192.0.2.1:80 cookie A", "b 192.0.2.2:80", "c 192.0.2.3:80 backup"];
    assert_eq!(blocks(&import(" cookie S insert indirect\n", &servers)), [false, true, false]);
    // By a table: who is said not to be.
    let table = " stick-table type ip size 10k expire 30m\n stick on src\n default-server non-stick\n";
    let servers = ["a 192.0.2.1:80 stick", "b 192.0.2.2:80", "c 192.0.2.3:80 cookie C"];
    assert_eq!(blocks(&import(table, &servers)), [false, true, true]);
    assert_eq!(blocks(&import("", &servers[1..])), [false, false]);
}

#[test]
fn what_clients_are_kept_by() {
    let import = |mode: &str, keys: &str, lost: &[&str]| {
        let text = format!(
            "defaults\n mode {mode}\n timeout connect 4s\n timeout client 30s\n timeout server 30s\nlisten web\n bind 192.0.2.10:80\n stick-table type string len 64 size 100k\n{keys} server a 192.0.2.1:80\n server b 192.0.2.2:80 backup\n server c 192.0.2.2:81 backup non-stick\n"
        );
        let got = check(&[(SourceKind::Haproxy, &text)], &[], lost);
        let kept = got.lines().find_map(|line| line.trim().strip_prefix("persistence = ")).unwrap_or("none");
        assert_eq!(got.matches("keeps-clients = true").count(), usize::from(kept != "none"), "{got}");
        kept.to_owned()
    };
    let keyed = |kind: &str, more: &str| {
        let time = if kind == "source" { "timeout" } else { "expire" };
        format!("{{ type = \"{kind}\", {time} = \"365d\", size = 102400{more} }}")
    };
    for (mode, keys, expect) in [
        ("tcp", " stick on dst\n", keyed("destination", "")),
        ("tcp", " stick on src\n", keyed("source", "")),
        ("tcp", " stick on src,ipmask(24,64)\n", keyed("source", ", mask = 24, mask6 = 64")),
        (
            "http",
            " stick match url_param(room)\n stick store-request url_param(room)\n",
            keyed("query", ", name = \"room\""),
        ),
        (
            "http",
            " stick store-response res.cook(SID)\n stick match req.cook(SID)\n",
            keyed("app-cookie", ", name = \"SID\""),
        ),
        ("http", " stick on req.cook(SID)\n", keyed("app-cookie", ", name = \"SID\"")),
        ("http", " stick on req.hdr(X-A)\n", keyed("header", ", name = \"X-A\"")),
    ] {
        let told: &[&str] = if keys == " stick on req.cook(SID)\n" { &["stick"] } else { &[] };
        assert_eq!(import(mode, keys, told), expect, "{keys}");
    }
    for (mode, keys, lost) in [
        ("http", " stick on hdr(x-a),lower\n", "stick on hdr(x-a),lower"),
        ("http", " stick on path\n", "stick on path"),
        ("tcp", " stick on url_param(a)\n", "stick on url_param(a)"),
        ("http", " stick store-response res.cook(a)\n", "stick store-response res.cook(a)"),
    ] {
        assert_eq!(import(mode, keys, &[lost]), "none", "{keys}");
    }
    for keys in
        [" stick on src\n stick on req.cook(a)\n", " stick on src\n stick store-response res.cook(a)\n"]
    {
        let lost = keys.lines().nth(1).unwrap().trim();
        assert_eq!(import("http", keys, &[lost]), keyed("source", ""), "{keys}");
    }
}

/// The words of messages are the file's: no rule that the reader makes of a line, no key of Evenkeel's alone.
#[test]
fn messages_quote_the_line_of_the_file() {
    for line in [
        "http-request allow if local signed",
        "option httpchk GET",
        "balance url_param a,b",
        "http-request capture req.nothing(x) len 5",
        "http-response set-header X-A %[nothing] if local",
        "reqadd X-A:\\ %[nothing] if none",
        "stick on nothing(x)",
        "http-request deny if { sc0_inc_gpc0 gt 1 } none",
        "use_backend %[nothing] if local",
        "tcp-request content capture nothing len 9",
        "http-request normalize-uri path-merge-slashes if none",
        "server t 192.0.2.3:80 check fall 99999999",
    ] {
        let text = format!(
            "userlist l\n user a insecure-password x\ndefaults\n mode http\n timeout connect 4s\n timeout client 30s\n timeout server 30s\nlisten web\n bind 192.0.2.10:80\n stick-table type ip size 1k store gpc0\n acl local src 192.0.2.0/24\n acl signed http_auth(l)\n {line}\n http-request deny if {{ path /x }}\n server s 192.0.2.1:80 check\n"
        );
        let source = crate::Source { kind: SourceKind::Haproxy, file: "h.cfg".into(), text };
        let left = crate::import(&[source], &std::collections::BTreeMap::new()).left;
        let mild = [crate::Severity::Note, crate::Severity::Remark];
        let told: Vec<_> = left.iter().filter(|l| !mild.contains(&l.severity)).collect();
        assert!(!told.is_empty(), "{line} is taken");
        for left in &told {
            let words = format!("{}: {}", left.keyword, left.consequence);
            let plain = line.replace('\\', "");
            assert!(left.line == 13 && words.contains(&plain), "{line}: {left:?}");
        }
    }
}

#[test]
fn servers_of_haproxy_by_name_and_each_with_its_tls() {
    let text = of_haproxy(
        "resolvers dns\n nameserver a 192.0.2.53:53\n nameserver b 192.0.2.54:53\n parse-resolv-conf\n resolve_retries 3\n timeout retry 500ms\n hold valid 10s\n hold nx 30s\nlisten a\n bind 192.0.2.1:80\n server s web.internal:8080 resolvers dns resolve-prefer ipv4 init-addr last,libc,none\n server t web.internal:8080 resolvers dns ssl verify none sni str(t.example)\n server u 192.0.2.3:80\n",
    );
    check(
        &[(SourceKind::Haproxy, &text)],
        &[
            "[resolver]",
            "name-servers = [\"192.0.2.53:53\", \"192.0.2.54:53\"]",
            "retries = 3",
            "timeout = \"500ms\"",
            "hold = { valid = \"10s\", nx = \"30s\" }",
            "address = \"web.internal:8080\"",
            "resolve = { init = [\"last\", \"lookup\", \"none\"] }",
            "resolve = { prefer = \"ipv6\" }",
            "server-tls = { verify = false, sni = \"t.example\" }",
        ],
        &[],
    );
}

#[test]
fn a_template_of_haproxy_is_many_servers() {
    let text = of_haproxy(
        "resolvers dns\n nameserver a 192.0.2.53:53\nlisten a\n bind 192.0.2.1:80\n server-template web 2 web.internal:8080 check resolvers dns\nlisten b\n bind 192.0.2.1:81\n server-template t 3-4 192.0.2.9:80 weight 7\nlisten c\n bind 192.0.2.1:82\n server-template s 5 _http._tcp.internal resolvers dns check\n",
    );
    check(
        &[(SourceKind::Haproxy, &text)],
        &[
            "name = \"web1\"",
            "name = \"web2\"",
            "address = \"web.internal:8080\"",
            "name = \"t3\"",
            "name = \"t4\"",
            "weight = 7",
            "same-address = true",
            "discover = [{ type = \"dns-srv\", name = \"_http._tcp.internal\" }]",
        ],
        &[],
    );
}

#[test]
fn scripts_that_check_and_names_that_are_asked_for() {
    let text = "global\n external-check\nlisten a\n bind 192.0.2.10:80\n mode http\n option external-check\n external-check path \"/bin\"\n external-check command /etc/check.sh\n http-response set-header X-Node %[hostname]\n server s 192.0.2.11:443 check ssl verify none sni req.hdr(host),field(1,:)\n";
    super::check(
        &[(SourceKind::Haproxy, text)],
        &[
            "type = \"script\", command = \"/etc/check.sh\"",
            "sni = \"{host}\"",
            "\"X-Node\" = \"{hostname}\"",
        ],
        &["external-check", "external-check", "external-check path"],
    );
    // The words behind an option that is left out are told with it.
    let text = "listen a\n bind 192.0.2.10:443 ssl crt /a.pem ca-sign-file roots.pem label x\n mode http\n server s 192.0.2.11:80 socks4 192.0.2.1:1 cc bbr\n";
    super::check(
        &[(SourceKind::Haproxy, text)],
        &[],
        &["ca-sign-file roots.pem", "label x", "socks4", "cc bbr"],
    );
}
