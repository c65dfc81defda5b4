//! keepalived, ldirectord, Piranha, Pound and Apache.

use super::*;

#[test]
fn keepalived_with_every_checker() {
    let text = "! configuration\nglobal_defs {\n notification_email {\n  ops@example.org\n }\n notification_email_from lb@example.org\n smtp_server 192.0.2.25\n}\nvrrp_sync_group G { group { VI_1 } }\nvrrp_instance VI_1 {\n state BACKUP\n interface eth0\n virtual_router_id 51\n priority 150\n advert_int 1\n nopreempt\n authentication {\n  auth_type PASS\n  auth_pass 1111\n }\n virtual_ipaddress {\n  192.0.2.10/24 dev eth0\n  192.0.2.11\n }\n notify_master \"/etc/master.sh now\"\n}\nvirtual_server 192.0.2.10 80 {\n delay_loop 6\n lb_algo wlc\n lb_kind DR\n persistence_timeout 50\n protocol TCP\n sorry_server 192.0.2.99 80\n # the first\n real_server 192.0.2.21 80 {\n  weight 3\n  HTTP_GET {\n   url {\n    path /up\n    status_code 200\n   }\n   connect_timeout 3\n   retry 2\n  }\n }\n real_server 192.0.2.22 80 {\n  weight 1\n  TCP_CHECK {\n   connect_timeout 3\n  }\n }\n}\nvirtual_server 192.0.2.11 53 {\n lb_algo sh\n lb_kind NAT\n protocol UDP\n real_server 192.0.2.31 5353 { weight 1 }\n}\nvirtual_server fwmark 7 { lb_kind DR }\n";
    check(
        &[(SourceKind::Keepalived, text)],
        &[
            "name = \"lb1\"",
            "router-id = 51",
            "priority = 150",
            "interval = \"1s\"",
            "version = 2",
            "failback = false",
            "floating-ips = [\"192.0.2.10/24\", \"192.0.2.11/32\"]",
            "mode = \"dr\"",
            "scheduler = \"least-connections\"",
            "persistence = { type = \"source\", timeout = \"50s\" }",
            "health-check = { type = \"http\", path = \"/up\", status = \"200\", rise = 1, timeout = \"3s\", interval = \"6s\", fast-interval = \"3s\", down-interval = \"6s\", fall = 3 }",
            "# the first",
            "weight = 3",
            "password = \"1111\"",
            "protocol = \"udp\"",
            "address = \"192.0.2.31:5353\"",
            "to = [\"ops@example.org\"]",
        ],
        &["192.0.2.10/24 dev eth0", "notify_master", "real_server", "protocol", "fwmark"],
    );
}

#[test]
fn ldirectord_and_piranha() {
    let text = "checktimeout=3\ncheckinterval=5\nautoreload=yes\nquiescent=no\n\n# shop\nvirtual=192.0.2.10:80\n  real=192.0.2.21->192.0.2.23:80 gate 5\n  fallback=127.0.0.1:80\n  service=http\n  request=\"index.html\"\n  receive=\"Test Page\"\n  scheduler=wrr\n  persistent=600\n  netmask=255.255.255.0\n  protocol=tcp\n  checktype=negotiate\nvirtual=192.0.2.10:3389\n  real=192.0.2.31:3389 masq\n  checktype=connect\n";
    check(
        &[(SourceKind::Ldirectord, text)],
        &[
            "# shop",
            "address = \"192.0.2.23\"",
            "weight = 5",
            "mode = \"dr\"",
            "mode = \"nat\"",
            "persistence = { type = \"source\", timeout = \"600s\", mask = 24 }",
            "health-check = { type = \"http\", path = \"/index.html\", expect-regex = \"Test Page\", interval = \"5s\", timeout = \"3s\", rise = 1, fall = 1 }",
        ],
        &["fallback"],
    );
    // keepalived's own sample, and times of none.
    let text = "global_defs {\n notification_email {\n  acassen\n }\n smtp_server 192.0.2.25 2525\n}\nvirtual_server 192.0.2.10 80 {\n protocol TCP\n lb_kind DR\n persistence_timeout 0\n real_server 192.0.2.21 80 { weight 1 }\n}\n";
    let made = check(
        &[(SourceKind::Keepalived, text)],
        &["server = \"192.0.2.25:2525\"", "to = [\"acassen@localhost\"]"],
        &[],
    );
    assert!(!made.contains("persistence"), "{made}");
    // Ports by name, and numbers as other programs write them.
    let text = "emailalert=\"a@example.org, b@example.org\"\nsmtp=192.0.2.9\nvirtual=192.0.2.10:www\n  real=192.0.2.21:http-alt masq 007\n  service=http\nvirtual=192.0.2.10:domain\n  real=192.0.2.31:domain gate\n  protocol=udp\n";
    check(
        &[(SourceKind::Ldirectord, text)],
        &[
            "vip = [\"192.0.2.10:80\"]",
            "address = \"192.0.2.21:8080\"",
            "weight = 7",
            "vip = [\"192.0.2.10:53\"]",
            "server = \"192.0.2.9:25\"",
            "to = [\"a@example.org\", \"b@example.org\"]",
        ],
        &[],
    );
    let text = "serial_no = 4\nprimary = 192.0.2.1\nservice = lvs\nbackup_active = 1\nbackup = 192.0.2.2\nnetwork = tunnel\ndebug_level = NONE\n\n## plain\nvirtual http-pool {\n active = 1\n address = 192.0.2.10 eth0:1\n vip_nmask = 255.255.255.255\n port = 80\n send = \"GET / HTTP/1.0\\r\\n\\r\\n\"\n expect = \"HTTP\"\n load_monitor = none\n scheduler = wlc\n protocol = tcp\n timeout = 6\n reentry = 15\n quiesce_server = 0\n server web1 {\n  address = 192.0.2.21\n  active = 1\n  weight = 2\n }\n server web2 {\n  address = 192.0.2.22\n  active = 0\n  weight = 1\n }\n}\nvirtual ssl-pool {\n active = 1\n address = 192.0.2.10 eth0:1\n port = 443\n persistent = 600\n scheduler = lblc\n server web1 {\n  address = 192.0.2.21\n  active = 1\n  weight = 1\n }\n}\n";
    check(
        &[(SourceKind::Lvs, text)],
        &[
            "name = \"http-pool\"",
            "# plain",
            "mode = \"tun\"",
            "weight = 2",
            "admin-state = \"halted\"  # it was not active",
            "timeout = \"600s\"",
            "health-check = { type = \"http\", path = \"/\", version = \"1.0\", status = \"100-599\", interval = \"6s\", rise = 3 }",
        ],
        &["backup_active", "address", "lblc", "address"],
    );
}

#[test]
fn pound_in_front_of_haproxy_is_one_service() {
    let pound = "TimeOut 60\nClient 30\nListenHTTPS\n  Address 192.0.2.142\n  Port 443\n  Cert \"/etc/pound/www.pem\"\n  Service\n    BackEnd\n      Address 192.0.2.142\n      Port 81\n    End\n  End\nEnd\n";
    let haproxy = "defaults\n mode http\n contimeout 4000\n clitimeout 42000\n srvtimeout 43000\nlisten SSL_Backend 192.0.2.142:81\n option forwardfor\n cookie SERVERID insert nocache indirect\n server RIP 192.0.2.98:80 weight 1 cookie RIP check inter 2000\n";
    check(
        &[(SourceKind::Pound, pound), (SourceKind::Haproxy, haproxy)],
        &[
            "vip = [\"192.0.2.142:443\"]",
            "vip = [\"192.0.2.142:81\"]",
            "tls = { certificates = [\"/etc/pound/www.pem\"] }",
            "pool = \"SSL_Backend-servers\"",
            "ended TLS in front of SSL_Backend: here it is one service.",
            "name = \"SERVERID\"",
        ],
        &[],
    );
    let alone = "# front\nListenHTTP\n  Address 192.0.2.22\n  Port 80\n  HeadRemove \"X-Secret:.*\"\n  Service\n    HeadRequire \"Host: .*www\\.example\\.org.*\"\n    URL \"^/shop\"\n    BackEnd\n      Address 192.0.2.31\n      Port 8080\n      Priority 5\n    End\n    Session\n      Type COOKIE\n      ID \"JSESSIONID\"\n      TTL 300\n    End\n  End\n  Service\n    Redirect \"https://www.example.org\"\n  End\nEnd\n";
    check(
        &[(SourceKind::Pound, alone)],
        &[
            "# front",
            "weight = 5",
            "persistence = { type = \"app-cookie\", name = \"JSESSIONID\", expire = \"300s\" }",
            "redirect = { location = \"https://www.example.org{path}\", status = 302 }",
            "remove-header = [\"X-Secret\"]",
        ],
        &[],
    );
}

#[test]
fn apaches_balancer() {
    let text = "<VirtualHost *:80>\n  ServerName www.example.org\n  ServerAlias example.org\n  ProxyRequests off\n  # two of them\n  <Proxy balancer://mycluster>\n    BalancerMember http://192.0.2.21:80 route=web1 loadfactor=2\n    BalancerMember http://192.0.2.22:80 route=web2\n    BalancerMember http://192.0.2.23:80 status=+H\n    Order Deny,Allow\n    Allow from all\n    ProxySet lbmethod=byrequests stickysession=JSESSIONID|jsessionid\n  </Proxy>\n  <Location /balancer-manager>\n    SetHandler balancer-manager\n  </Location>\n  ProxyPass /balancer-manager !\n  ProxyPass /app balancer://mycluster/app\n  ProxyPass / balancer://mycluster/\n</VirtualHost>\n";
    check(
        &[(SourceKind::Apache, text)],
        &[
            "name = \"www.example.org\"",
            "name = \"mycluster\"",
            "weight = 200",
            "backup = true  # a hot standby",
            // Sessions end with the route of their member.
            r#"text("{cookie:JSESSIONID}") =~ "^[^.]*\\.web1$" || text("{uri}") =~ "jsessionid=[^.?&;]*\\.web1([?&;]|$)"'"#,
            "server = \"web2\"",
            "pool = \"mycluster\"",
            "scheduler = \"round-robin\"",
        ],
        &["ProxyPass /balancer-manager !", "ProxyPreserveHost"],
    );
}

/// What is no configuration at all must not end the importer.
#[test]
fn what_keepalived_checks_and_follows() {
    let text = "vrrp_script fit {\n script \"/usr/bin/pgrep nginx\"\n weight -20\n}\nvrrp_instance V {\n interface eth0\n virtual_router_id 7\n unicast_src_ip 192.0.2.1\n unicast_peer { 192.0.2.2 }\n track_script { fit }\n notify \"/etc/n.sh\"\n virtual_ipaddress { 192.0.2.10 }\n}\nvirtual_server_group G {\n 192.0.2.20 80\n 192.0.2.21-23 443\n fwmark 5\n}\nvirtual_server group G {\n lb_kind DR\n delay_loop 6\n virtualhost www.example.org\n retry 4\n delay_before_retry 2\n real_server 192.0.2.31 80 {\n  HTTP_GET {\n   url {\n    path /a\n    regex \"all.fine\"\n   }\n   url { path /b }\n   connect_ip 192.0.2.99\n   bindto 192.0.2.1\n  }\n }\n}\nvirtual_server 192.0.2.10 25 {\n lb_kind NAT\n real_server 192.0.2.32 25 {\n  MISC_CHECK {\n   misc_path \"/etc/c.sh 1\"\n   misc_dynamic\n  }\n }\n}\n";
    check(
        &[(SourceKind::Keepalived, text)],
        &[
            "track = [\"/usr/bin/pgrep nginx\"]",
            "notify = \"/etc/n.sh\"",
            "unicast = [\"192.0.2.2\"]",
            "vip = [\"192.0.2.20:80\", \"192.0.2.21:443\", \"192.0.2.22:443\", \"192.0.2.23:443\"]",
            "health-check = { type = \"http\", path = \"/a\", status = \"200-299\", expect-regex = \"all.fine\", host = \"www.example.org\", then = [{ path = \"/b\", status = \"200-299\", host = \"www.example.org\" }], rise = 1, address = \"192.0.2.99\", timeout = \"5s\", interval = \"6s\", fast-interval = \"2s\", down-interval = \"6s\", fall = 5 }",
            "health-check = { type = \"script\", command = \"/etc/c.sh\", arguments = [\"1\"], keepalived = true, rise = 1, timeout = \"60s\", interval = \"60s\", fast-interval = \"1s\", down-interval = \"60s\", fall = 1 }",
        ],
        &["vrrp_script", "unicast_src_ip", "notify", "protocol", "fwmark 5", "bindto", "protocol"],
    );
}

/// What keepalived does where a file says one thing and another beside it.
#[test]
fn what_keepalived_takes_for_granted() {
    let instance = |lines: &str, address: &str| {
        format!(
            "vrrp_instance V {{\n interface eth0\n virtual_router_id 7\n{lines} virtual_ipaddress {{ {address} }}\n}}\n"
        )
    };
    let check =
        |text: &str, holds: &[&str], left: &[&str]| check(&[(SourceKind::Keepalived, text)], holds, left);
    check(&instance(" state MASTER\n nopreempt\n", "192.0.2.10"), &["failback = true"], &["nopreempt"]);
    check(&instance(" state BACKUP\n nopreempt\n", "192.0.2.10"), &["failback = false"], &[]);
    // The version that the addresses need.
    let got = check(&instance("", "2001:db8::1"), &["family = \"ipv6\""], &[]);
    assert!(!got.contains("version = 2"), "{got}");
    let server = |check: &str| {
        format!(
            "virtual_server 192.0.2.20 80 {{\n lb_kind NAT\n protocol TCP\n sorry_server 192.0.2.99 80\n real_server 192.0.2.31 80 {{\n  {check}\n }}\n}}\n"
        )
    };
    let plain = check_text(&server("MISC_CHECK { misc_path /etc/c.sh }"));
    assert!(!plain.contains("keepalived = true"), "any status but 0 is a failure: {plain}");
    let dynamic = check_text(&server("MISC_CHECK {\n misc_path /etc/c.sh\n misc_dynamic\n }"));
    assert!(dynamic.contains("keepalived = true"), "{dynamic}");
    // The one for when all else fails is not asked for the page of the others.
    for text in [plain, dynamic] {
        let sorry = text.split("name = \"sorry\"").nth(1).unwrap();
        assert!(sorry.contains("check = false"), "{text}");
    }
}

fn check_text(text: &str) -> String {
    made(SourceKind::Keepalived, text).text
}

/// Every word of keepalived's pages: as a check asks it, or told.
#[test]
fn keepaliveds_pages_are_requests_of_one_check() {
    let check = |inside: &str, holds: &[&str], left: &[&str]| {
        let text = format!(
            "virtual_server 192.0.2.20 443 {{\n protocol TCP\n virtualhost all.example\n real_server 192.0.2.31 443 {{\n  {inside}\n }}\n}}\n"
        );
        check(&[(SourceKind::Keepalived, &text)], holds, left);
    };
    check(
        "SSL_GET {\n enable_sni\n url {\n path /a\n status_code 200-299 301\n status_code 404\n }\n url {\n path /b\n virtualhost b.example\n regex \"down|broken\"\n regex_no_match\n regex_options caseless multiline\n }\n url {\n path /c\n digest 9b3a0c85a887a256d6939da88aabd8cd\n status_code 200\n }\n retry 0\n }",
        &[
            "path = \"/a\", status = \"200-299,301,404\", host = \"all.example\"",
            "tls = { verify = false, sni = \"all.example\" }",
            "then = [{ tls = true, sni = \"b.example\", path = \"/b\", status = \"200-299\", refuse-regex = \"(?im)down|broken\", host = \"b.example\" }, { tls = true, sni = \"all.example\", path = \"/c\", status = \"200\", host = \"all.example\" }]",
            "fall = 1 }",
        ],
        &["digest"],
    );
    // Several checkers of pages are one check; what a page has of its own is kept.
    check(
        "HTTP_GET {\n url {\n path /a\n }\n }\n HTTP_GET {\n connect_port 8080\n url {\n path /b\n }\n }\n TCP_CHECK {\n }",
        &["then = [{ path = \"/b\", status = \"200-299\", host = \"all.example\", port = 8080 }]"],
        &["TCP_CHECK"],
    );
    check(
        "HTTP_GET {\n connect_port 81\n url {\n path /a\n }\n }\n HTTP_GET {\n delay_loop 7\n url {\n path /b\n regex_options dupnames\n }\n }",
        &["host = \"all.example\", port = 443 }]", "port = 81"],
        &["regex_options dupnames", "delay_loop"],
    );
    // What keepalived itself ignores, and what it would refuse.
    check(
        "HTTP_GET {\n url {\n path /\n status_code 20 500-400 200\n regex \"(?=a)\"\n }\n url {\n }\n fast_recovery\n http_protocol 1.1\n connect_timeout x\n }",
        &["status = \"200\""],
        &["status_code 20", "status_code 500-400", "regex (?=a)", "url", "x"],
    );
    check("HTTP_GET {\n }", &["type = \"tcp\""], &["HTTP_GET"]);
    check("UDP_CHECK {\n }", &["type = \"ping\""], &["UDP_CHECK"]);
}

#[test]
fn what_ldirectord_asks() {
    let text = "negotiatetimeout=7\nvirtual=192.0.2.10:143\n\treal=192.0.2.21->192.0.2.22:143 gate\n\treal=nowhere:143 gate\n\tservice=imaps\n\tlogin=\"a\"\n\tpasswd=\"b\"\n\treceive=\"x\"\nvirtual=192.0.2.10:81\n\treal=192.0.2.21:81 gate 1 \"ask\", \"get\"\n\tchecktype=external\n\tcheckcommand=\"/etc/c.sh -a\"\n\tops=yes\n";
    check(
        &[(SourceKind::Ldirectord, text)],
        &[
            "type = \"imap\", tls = { verify = false }, user = \"a\", password = \"b\", interval = \"10s\", timeout = \"7s\", rise = 1, fall = 1",
            "address = \"192.0.2.22\"",
            "address = \"nowhere\"",
            "command = \"/etc/c.sh\", arguments = [\"-a\"]",
        ],
        &["receive", "real", "ops"],
    );
}

/// The times and kinds of ldirectord(8) where nothing is written, and what no message shows.
#[test]
fn what_ldirectord_does_by_itself() {
    let checks = [
        (53, "", "protocol = \"udp\""),
        (
            119,
            "",
            "type = \"tcp\", steps = [{ expect-regex = \"^20[01]\" }], interval = \"10s\", timeout = \"30s\"",
        ),
        (587, "", "type = \"smtp\""),
        (636, "", "type = \"ldap\", tls = { verify = false }"),
        (995, "login=\"a\"", "type = \"pop\", tls = { verify = false }, user = \"a\""),
        (3306, "login=\"m\"", "type = \"mysql\", user = \"m\""),
        (5432, "login=\"p\"", "type = \"postgresql\", user = \"p\""),
        (
            81,
            "service=simpletcp\n\trequest=\"hi\\n\"\n\treceive=\"^ok\"",
            "steps = [{ send = \"hi\\n\" }, { expect-regex = \"^ok\" }]",
        ),
        (81, "checktype=connect", "type = \"tcp\", interval = \"10s\", timeout = \"5s\", rise = 1, fall = 1"),
        (
            81,
            "servicename=\"shop\"\n\tcomment=\"of the shop\"",
            "# of the shop\n[[virtual-service]]\nname = \"shop\"",
        ),
        (80, "", "scheduler = \"round-robin\""),
    ];
    for (port, line, part) in checks {
        let text = format!(
            "virtual=192.0.2.10:{port}\n\treal=192.0.2.21:{port} gate 1 \"l:5\" \"u:20\"\n\t{line}\n"
        );
        let made = check(&[(SourceKind::Ldirectord, &text)], &[part], &[]);
        assert!(made.contains("min-connections = 5") && made.contains("max-connections = 20"), "{made}");
    }
    let pair = "virtual=192.0.2.10:80\n\treal=192.0.2.21:80 gate 1 \"/up\", \"OK\"\n\treal=192.0.2.22:80 gate 1 \"/up\", \"OK\"\n\treal=192.0.2.23:80 gate\n";
    check(&[(SourceKind::Ldirectord, pair)], &["path = \"/up\", expect-regex = \"OK\""], &["real"]);
    let secret = "virtual=192.0.2.10:389\n\treal=192.0.2.21:389 gate\n\tpasswd=\"s3cr3t\"\n";
    let source = Source { kind: SourceKind::Ldirectord, file: "l.cf".into(), text: secret.into() };
    let told = format!("{:?}", import(&[source], &BTreeMap::new()).left);
    assert!(told.contains("passwd") && !told.contains("s3cr3t"), "{told}");
    check(&[(SourceKind::Ldirectord, "[vip]\nvirtual=7\n")], &[], &["[vip]", "virtual"]);
}

#[test]
fn pounds_socket_swallows_nothing() {
    let text = "Control \"/run/poundctl.socket\"\nConnTO 3\nListenHTTP\n Address 192.0.2.10\n Port 80\n Client 20\n Err503 \"/etc/503.html\"\n Service\n  URL \"^/a\"\n  IgnoreCase 1\n  BackEnd\n   Address 192.0.2.21\n   Port 80\n   HAport 8080\n   TimeOut 30\n  End\n End\n Service\n  URL \"^/b\"\n  Redirect 301 \"https://www.example.org/b\"\n End\n Service\n  Redirect \"https://www.example.org\"\n End\nEnd\n";
    check(
        &[(SourceKind::Pound, text)],
        &[
            "connect = \"3s\", client = \"20s\"",
            "error-pages = { 503 = \"/etc/503.html\" }",
            "path =~ \"(?i)^/a\"",
            "server-timeout = \"30s\"",
            "{ type = \"tcp\", port = 8080 }",
            "redirect = { location = \"https://www.example.org/b\", status = 301, drop-query = true }",
            "redirect = { location = \"https://www.example.org{path}\", status = 302 }",
        ],
        &[],
    );
}

#[test]
fn apaches_limits_of_heads() {
    let host = |name: &str, lines: &str| {
        format!(
            "<VirtualHost *:80>\n ServerName {name}\n ProxyPreserveHost On\n{lines} ProxyPass / http://192.0.2.2/\n</VirtualHost>\n"
        )
    };
    for (text, part) in [
        (host("a.b", " LimitRequestFieldSize 65536\n"), "head-size = \"80KiB\""),
        (host("a.b", " LimitRequestLine 100000\n LimitRequestFieldSize 20000\n"), "head-size = \"114KiB\""),
        (host("a.b", " LimitRequestFieldSize 0\n"), "head-size = \"1MiB\""),
        (format!("LimitRequestFieldSize 65536\n{}", host("a.b", "")), "head-size = \"80KiB\""),
        (host("a.b", "") + &host("c.d", " LimitRequestFieldSize 65536\n"), "head-size = \"80KiB\""),
    ] {
        check(&[(SourceKind::Apache, &text)], &[part], &[]);
    }
    let made = check(
        &[(SourceKind::Apache, &host("a.b", " LimitRequestFieldSize 4000\n LimitRequestFields 100\n"))],
        &[],
        &[],
    );
    assert!(!made.contains("head-size"), "{made}");
    check(
        &[(SourceKind::Apache, &host("a.b", " LimitRequestFields 500\n"))],
        &[],
        &["LimitRequestFields 500"],
    );
}

#[test]
fn apaches_hosts_share_an_address() {
    let text = "<VirtualHost *:443>\n ServerName one.example\n SSLEngine on\n SSLCertificateFile /one.pem\n SSLProtocol -all +TLSv1.3\n ProxyTimeout 30\n Header always set X-A \"1\"\n RequestHeader set X-B \"%{REMOTE_ADDR}s\"\n ProxyPreserveHost On\n ProxyPass / http://192.0.2.21:8080/\n</VirtualHost>\n<VirtualHost *:443>\n ServerName two.example\n SSLEngine on\n SSLCertificateFile /two.pem\n ProxyPass /api/ https://192.0.2.22/v1/ timeout=90\n ProxyPass / http://192.0.2.23/\n <Location /x>\n  ProxyPass http://192.0.2.24/\n </Location>\n</VirtualHost>\n";
    check(
        &[(SourceKind::Apache, text)],
        &[
            "tls = { min-version = \"1.3\", certificates = [\"/one.pem\", \"/two.pem\"] }",
            "timeouts = { client = \"60s\", server = \"30s\" }",
            "set-response-header = { \"X-A\" = \"1\" }",
            "when = 'host(\"two.example\") && path(\"/api/*\")'\n  rewrite-path = \"/v1/{1}\"\n  server-timeout = \"90s\"\n  pool = \"192-0-2-22-443\"",
            "when = 'host(\"two.example\")'\n  pool = \"192-0-2-23-80\"\n  server-timeout = \"60s\"",
            "when = 'host(\"two.example\") && path(\"/x\", \"/x/*\")'",
            "address = \"192.0.2.21:8080\"",
        ],
        &["RequestHeader set X-B %{REMOTE_ADDR}s", "ProxyPreserveHost"],
    );
}

/// What Pound, Apache and their like refuse where nothing is written, and what all hosts have from the server.
#[test]
fn what_is_refused_and_inherited_without_being_written_in_a_host() {
    let pound = |more: &str| {
        format!(
            "ListenHTTP\n Address 192.0.2.1\n Port 80\n{more} Service\n  BackEnd\n   Address 192.0.2.2\n   Port 80\n  End\n End\nEnd\n"
        )
    };
    check(
        &[(SourceKind::Pound, &pound(""))],
        &["when = '!method(\"GET\", \"POST\", \"HEAD\")'\n  deny = { status = 501 }"],
        &[],
    );
    check(
        &[(SourceKind::Pound, &pound(" xHTTP 1\n CheckURL \"^/[a-z]+\"\n"))],
        &[
            "when = '!method(\"GET\", \"POST\", \"HEAD\", \"PUT\", \"PATCH\", \"DELETE\")'",
            "when = '!(text(\"{uri}\") =~ \"^/[a-z]+\")'\n  deny = { status = 501 }",
        ],
        &[],
    );
    check(&[(SourceKind::Pound, &pound(" xHTTP 9\n"))], &[], &["xHTTP"]);
    let text = "ServerRoot /etc/apache2\nTraceEnable Off\nProxyPreserveHost On\nProxyTimeout 7\nHeader set X-A 1\n<Location /in>\n AuthType Basic\n AuthName in\n AuthUserFile users\n Require valid-user\n</Location>\n<VirtualHost 192.0.2.1:80>\n ServerName a.b\n ProxyTimeout 9\n ProxyPass / http://192.0.2.2/\n</VirtualHost>\n<VirtualHost 192.0.2.3:80>\n ServerName c.d\n ProxyPass / http://192.0.2.2/\n</VirtualHost>\n";
    let made = check(
        &[(SourceKind::Apache, text)],
        &[
            "timeouts = { client = \"60s\", server = \"9s\" }",
            "timeouts = { client = \"60s\", server = \"7s\" }",
        ],
        &["AuthUserFile /etc/apache2/users"],
    );
    for (part, count) in [
        ("when = 'method(\"TRACE\")'\n  deny = { status = 405 }", 2),
        ("set-response-header = { \"X-A\" = \"1\" }", 2),
        ("basic-auth = { users = \"/etc/apache2/users\", realm = \"in\" }", 2),
    ] {
        assert_eq!(made.matches(part).count(), count, "{part}\n{made}");
    }
}

/// Each source, with a server that it names twice and another port of the same host.
#[test]
fn a_server_named_twice_and_a_host_with_two_ports() {
    let pound = |port| format!("  BackEnd\n   Address 192.0.2.21\n   Port {port}\n   Priority 3\n  End\n");
    let pound = [pound(80), pound(80), pound(81)].concat();
    let ldirectord = "virtual=192.0.2.10:80\n real=192.0.2.21:80 masq 3\n real=192.0.2.21:80 masq 3\n real=192.0.2.21:81 masq 3\n";
    let keepalived = |port| format!(" real_server 192.0.2.21 {port} {{ weight 3 }}\n");
    let keepalived = [keepalived(80), keepalived(80), keepalived(81)].concat();
    let lvs = |name, port| {
        format!(
            " server {name} {{\n  address = 192.0.2.21\n  port = {port}\n  weight = 3\n  active = 1\n }}\n"
        )
    };
    let lvs = [lvs("a", 80), lvs("a", 80), lvs("a", 81)].concat();
    let member = |port| format!(" BalancerMember http://192.0.2.21:{port} loadfactor=3\n");
    let members = [member(80), member(80), member(81)].concat();
    for (kind, text, weight) in [
        (SourceKind::Ldirectord, ldirectord.to_owned(), "3"),
        (
            SourceKind::Keepalived,
            format!("virtual_server 192.0.2.10 80 {{\n lb_kind NAT\n protocol TCP\n{keepalived}}}\n"),
            "3",
        ),
        (
            SourceKind::Lvs,
            format!("virtual web {{\n active = 1\n address = 192.0.2.10 eth0:1\n port = 80\n{lvs}}}\n"),
            "3",
        ),
        (
            SourceKind::Apache,
            format!(
                "<Proxy balancer://c>\n{members}</Proxy>\n<VirtualHost *:80>\n ServerName x.org\n ProxyPass / balancer://c/\n</VirtualHost>\n"
            ),
            "300",
        ),
        (
            SourceKind::Pound,
            format!("ListenHTTP\n Address 192.0.2.10\n Port 80\n Service\n{pound} End\nEnd\n"),
            "6",
        ),
    ] {
        let imported = import(&[Source { kind, file: "its.conf".into(), text }], &BTreeMap::new());
        assert!(
            !imported.left.iter().any(|d| d.severity == Severity::Invalid),
            "{kind:?} {:?}",
            imported.left
        );
        let twice = imported.left.iter().filter(|d| d.consequence.contains("named twice")).count();
        assert_eq!(twice, 1, "{kind:?} {:?}", imported.left);
        let addresses = imported.text.matches("  address = \"192.0.2.21").count();
        assert_eq!(addresses, 2, "{kind:?}\n{}", imported.text);
        assert!(imported.text.contains(&format!("weight = {weight}\n")), "{kind:?}\n{}", imported.text);
        if let Err(problems) = evenkeel_config::read(&imported.text) {
            panic!("{kind:?} {problems:#?}\n{}", imported.text);
        }
    }
}

#[test]
fn what_pound_has_switched_off_and_what_it_never_reaches() {
    let end = |port, more: &str| format!("  BackEnd\n   Address 192.0.2.21\n   Port {port}\n{more}  End\n");
    let text = [
        "ListenHTTP\n Address 192.0.2.10\n Port 80\n Service\n  Disabled 1\n  URL \"^/off\"\n",
        &end(70, ""),
        " End\n Service\n",
        &end(80, "   Priority 2\n"),
        &end(81, "   Disabled yes\n"),
        " End\n Service\n  URL \"^/never\"\n",
        &end(90, ""),
        " End\nEnd\n",
    ]
    .concat();
    let imported = check(
        &[(SourceKind::Pound, &text)],
        &["weight = 2", "weight = 5\n  admin-state = \"halted\""],
        &["Service", "Service"],
    );
    assert!(!imported.contains("/off") && !imported.contains("/never"), "{imported}");
}

#[test]
fn times_that_apaches_members_have() {
    let text = "<Proxy balancer://c>\n BalancerMember http://192.0.2.21:80 timeout=2min connectiontimeout=500ms retry=5\n BalancerMember http://192.0.2.22:80 timeout=2min connectiontimeout=500ms\n</Proxy>\n<Proxy balancer://d>\n BalancerMember http://192.0.2.23:80 timeout=30\n BalancerMember http://192.0.2.24:80\n ProxySet nofailover=On\n</Proxy>\n<VirtualHost *:80>\n ServerName x.org\n ProxyPreserveHost On\n ProxyPass /d balancer://d/\n ProxyPass /e http://192.0.2.25/ connectiontimeout=3\n ProxyPass / balancer://c/\n</VirtualHost>\n";
    check(
        &[(SourceKind::Apache, text)],
        &["timeouts = { server = \"2m\", connect = \"500ms\" }", "timeouts = { connect = \"3s\" }"],
        &["retry=5", "nofailover=On", "timeout=30"],
    );
}

#[test]
fn whom_apache_believes_about_clients() {
    let host = "<VirtualHost 192.0.2.10:80>\n ProxyPreserveHost On\n ProxyPass / http://192.0.2.21:8080/\n</VirtualHost>\n";
    let asked = "RemoteIPHeader X-Forwarded-For\nRemoteIPInternalProxy 192.0.2.1 198.51.100.0/255.255.255.0 2001:db8::/32 gateway.example\nRemoteIPTrustedProxyList /etc/apache2/proxies\n";
    check(
        &[(SourceKind::Apache, &format!("{asked}{host}"))],
        &[
            "client-address = { header = \"X-Forwarded-For\", trusted = [\"192.0.2.1/32\", \"198.51.100.0/24\", \"2001:db8::/32\", \"/etc/apache2/proxies\"] }",
        ],
        &["RemoteIPInternalProxy gateway.example"],
    );
    check(
        &[(SourceKind::Apache, &format!("RemoteIPHeader X-Client\n{host}"))],
        &["client-address = { header = \"X-Client\", trusted = [\"0.0.0.0/0\", \"::/0\"] }"],
        &["RemoteIPHeader"],
    );
}

#[test]
fn roles_and_quorums_of_keepalived_are_told() {
    let instance = |name: &str, state: &str, priority: u8, more: &str| {
        format!(
            "vrrp_instance {name} {{\n state {state}\n interface eth0\n virtual_router_id {priority}\n priority {priority}\n {more}\n virtual_ipaddress {{ 192.0.2.{priority}/24 }}\n}}\n"
        )
    };
    let told = |text: &str| {
        let source = Source { kind: SourceKind::Keepalived, file: "k.conf".into(), text: text.to_owned() };
        let made = import(&[source], &BTreeMap::new());
        let left = made.left.iter();
        left.map(|d| format!("{} {}", d.keyword, d.consequence)).collect::<Vec<_>>().join("\n")
    };
    let check = |text: &str, part: &str, is_told: bool| {
        let told = told(text);
        assert_eq!(told.contains(part), is_told, "{part}\n{text}\n{told}");
    };
    let both = |one: (&str, u8), two: (&str, u8), more: &str| {
        instance("A", one.0, one.1, "") + &instance("B", two.0, two.1, more)
    };
    let (roles, alone) = ("a pair has one role", "moved to the other node by itself");
    check(&both(("MASTER", 150), ("BACKUP", 100), ""), roles, true);
    // With nopreempt both begin as backups.
    check(&both(("BACKUP", 150), ("BACKUP", 100), ""), roles, true);
    check(&both(("MASTER", 150), ("MASTER", 140), ""), roles, true);
    check(&both(("BACKUP", 150), ("BACKUP", 150), ""), roles, false);
    check(&both(("BACKUP", 150), ("BACKUP", 150), ""), alone, true);
    let group = "vrrp_sync_group G { group { A B } }\n";
    check(&(both(("BACKUP", 150), ("BACKUP", 150), "") + group), alone, false);
    check(&both(("BACKUP", 150), ("BACKUP", 150), "nopreempt"), "one `failback`", true);
    check(&instance("A", "MASTER", 150, ""), "vrrp_instance", false);
    for word in ["notify_master", "notify_backup", "notify_fault", "notify_stop"] {
        let said = format!("{word} /etc/{word}.sh");
        check(&instance("A", "MASTER", 150, &said), &format!("{word} /etc/{word}.sh: see `notify`"), true);
    }
    let server = |more: &str| {
        format!(
            "virtual_server 192.0.2.10 80 {{\n lb_kind DR\n {more}\n real_server 192.0.2.31 80 {{ weight 1 }}\n}}\n"
        )
    };
    check(&server("quorum 2"), "quorum", false);
    let source = Source { kind: SourceKind::Keepalived, file: "k.conf".into(), text: server("quorum 2") };
    let made = import(&[source], &BTreeMap::new()).text;
    assert!(made.contains("quorum = 2"), "{made}");
    check(&server("hysteresis 1"), "hysteresis 1: the quorum has none", true);
    check(&server("quorum_up \"/etc/up.sh now\""), "quorum_up /etc/up.sh now: see [[alerts.script]]", true);
    check(&server("quorum_down \"/etc/down.sh\""), "kinds = [\"service-down\"]", true);
}

/// Words of a source are the same words in the result, whatever signs they have.
#[test]
fn hostile_words_stay_what_they_are() {
    for text in
        ["a\"b", "a\\\\b", "a'b", "a{b}c", "a#b", "a\u{1}b", "a\u{7f}b", "a\tb", "\u{e9}\u{4e2d}", "]]\"}"]
    {
        let pound = format!(
            "ListenHTTP\n Address 192.0.2.1\n Port 80\n Service\n  HeadRequire 'X:{text}'\n  BackEnd\n   Address 192.0.2.2\n   Port 80\n  End\n End\nEnd\n"
        );
        let apache = format!(
            "# {text}\n<VirtualHost *:80>\n ServerName a.test\n ProxyPreserveHost On\n RequestHeader set X-A '{text}'\n Redirect '/{text}' 'https://b.test/{text}'\n ProxyPass / http://192.0.2.2:80/\n</VirtualHost>\n"
        );
        let haproxy = format!(
            "frontend f\n mode http\n bind 192.0.2.1:80\n http-request set-header X-A '{text}' if {{ path '/{text}' }}\n http-request return status 200 content-type text/plain string '{text}'\n default_backend b\nbackend b\n mode http\n option httpchk GET '/{text}'\n server s 192.0.2.2:80 check\n"
        );
        for (kind, text) in
            [(SourceKind::Pound, pound), (SourceKind::Apache, apache), (SourceKind::Haproxy, haproxy)]
        {
            let source = Source { kind, file: "a".into(), text };
            let made = import(std::slice::from_ref(&source), &Default::default());
            let read = evenkeel_config::format(&made.text);
            assert_eq!(read.as_deref(), Ok(made.text.as_str()), "{}", source.text);
        }
    }
    let header = Source {
        kind: SourceKind::Haproxy,
        file: "a".into(),
        text: "frontend f\n mode http\n bind 192.0.2.1:80\n http-request return status 200 if { hdr(x) -m str \"a\tb\u{7f}\" }\n default_backend b\nbackend b\n server s 192.0.2.2:80\n".into(),
    };
    let made = import(&[header], &Default::default());
    let values = evenkeel_config::values(&made.text);
    let when = values["virtual-service"][0]["route"][0]["when"].as_str().unwrap_or_default();
    assert!(when.contains("\"a\tb\u{7f}\""), "{when:?}\n{}", made.text);
}

/// A word where a number belongs is left out and told, however deep its table is.
#[test]
fn words_that_are_no_numbers_are_told() {
    let text = "backend b\n option tcp-check\n server s 192.0.2.2:80 check port many weight lots\n";
    let source = Source { kind: SourceKind::Haproxy, file: "a".into(), text: text.into() };
    let made = import(&[source], &Default::default());
    let told: Vec<&str> = made
        .left
        .iter()
        .filter(|l| l.consequence.contains("is no value"))
        .map(|l| l.keyword.as_str())
        .collect();
    assert!(told.contains(&"port") && told.contains(&"weight"), "{:?}\n{}", made.left, made.text);
}

/// What most public files of keepalived have, each tried with `keepalived -t`.
#[test]
fn what_most_files_of_keepalived_say() {
    let instance = |lines: &str| {
        format!(
            "vrrp_script chk {{\n script \"killall -0 haproxy\"\n}}\nvrrp_track_process run {{\n process haproxy\n}}\nvrrp_instance A {{\n interface eth0\n virtual_ipaddress {{\n  192.0.2.1/24\n }}\n{lines}}}\n"
        )
    };
    for (lines, part, told) in [
        (" priority 255\n", "priority = 254", "priority"),
        (" advert_int 0.5\n", "interval = \"1s\"", "advert_int"),
        (" advert_int 1.7\n", "interval = \"2s\"", "advert_int"),
        (" version 3\n advert_int 0.5\n", "interval = \"500ms\"", ""),
        // The program that is asked for is no longer there: its script would keep both nodes passive.
        (" track_script { chk }\n", "router-id = 51", "vrrp_script"),
        (" track_process {\n  run\n }\n", "router-id = 51", "track_process"),
    ] {
        let told: &[&str] = if told.is_empty() { &[] } else { &[told] };
        let made = check(&[(SourceKind::Keepalived, &instance(lines))], &[part], told);
        assert!(!made.contains("track ="), "{made}");
    }
    let local = "virtual_server 192.0.2.1 80 {\n protocol TCP\n lb_kind DR\n sorry_server 127.0.0.1 80\n real_server 192.0.2.2 80 {\n }\n}\n";
    let made = check(&[(SourceKind::Keepalived, local)], &["192.0.2.2"], &["sorry_server"]);
    assert!(!made.contains("127.0.0.1"), "{made}");
    let source = Source {
        kind: SourceKind::Keepalived,
        file: "k.conf".into(),
        text: "include vhosts/*.conf\n".into(),
    };
    let left = import(&[source], &BTreeMap::new()).left;
    assert!(left.iter().all(|left| left.severity == Severity::Critical) && left.len() == 1, "{left:?}");
}
