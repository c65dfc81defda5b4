//! Files of keepalived, Pound and Apache mean what their own program makes of them, or somebody is told.

use std::collections::BTreeMap;

use evenkeel_import::{Diagnostic, Severity, Source, SourceKind, import};

/// What a file becomes, which is a configuration, and what is said of it.
fn made(kind: SourceKind, text: &str) -> (String, Vec<Diagnostic>) {
    let source = Source { kind, file: "a.conf".into(), text: text.into() };
    let made = import(&[source], &BTreeMap::new());
    if let Err(problems) = evenkeel_config::read(&made.text) {
        panic!("{problems:#?}\n{}\n{:#?}", made.text, made.left);
    }
    (made.text, made.left)
}

/// Whether something of at least this weight is said with these words.
fn says(left: &[Diagnostic], severities: &[Severity], part: &str) -> bool {
    left.iter().any(|one| severities.contains(&one.severity) && one.consequence.contains(part))
}

fn host(lines: &str) -> String {
    format!("<VirtualHost *:80>\n ServerName a.example\n ProxyPreserveHost On\n{lines}</VirtualHost>\n")
}

#[test]
fn apaches_first_place_takes_what_fits() {
    let all = " ProxyPass / http://192.0.2.1/\n";
    for later in [
        " ProxyPass /api http://192.0.2.2/api\n",
        " ProxyPass /private !\n",
        " ProxyPassMatch ^/api/(.*)$ http://192.0.2.2/$1\n",
        " ProxyPass / http://192.0.2.2/\n",
    ] {
        let (text, left) = made(SourceKind::Apache, &host(&format!("{all}{later}")));
        assert!(says(&left, &[Severity::Remark], "never reached"), "{later}{left:?}");
        assert!(!text.contains("pool = \"192-0-2-2-80\"") && !text.contains("deny ="), "{later}{text}");
        let (text, left) = made(SourceKind::Apache, &host(&format!("{later}{all}")));
        let twice = later.contains("ProxyPass / ");
        assert_eq!(says(&left, &[Severity::Remark], "never reached"), twice, "{later}{left:?}");
        assert!(text.contains("pool = \"192-0-2-2-80\"") || text.contains("deny ="), "{later}{text}");
    }
    // What a section passes on comes before the lines of its host.
    let section = " <Location /api>\n  ProxyPass http://192.0.2.2/api\n </Location>\n";
    let (text, _) = made(SourceKind::Apache, &host(&format!("{all}{section}")));
    assert!(text.contains("pool = \"192-0-2-2-80\""), "{text}");
}

#[test]
fn sessions_go_to_the_member_that_they_end_with() {
    let balancer = |routes: [&str; 2], more: &str| {
        host(&format!(
            " <Proxy balancer://c>\n  BalancerMember http://192.0.2.1 {}\n  BalancerMember http://192.0.2.2 {}\n  ProxySet stickysession=SID|sid\n </Proxy>\n{more} ProxyPass / balancer://c/\n",
            routes[0], routes[1]
        ))
    };
    let (text, _) = made(SourceKind::Apache, &balancer(["route=n1", "route=n.2"], ""));
    assert!(text.contains(r#"text("{cookie:SID}") =~ "^[^.]*\\.n1$""#), "{text}");
    assert!(text.contains(r#"text("{uri}") =~ "sid=[^.?&;]*\\.n\\.2([?&;]|$)"'"#), "{text}");
    assert!(text.contains("server = \"n1\"") && !text.contains("app-cookie"), "{text}");
    let (text, _) = made(SourceKind::Apache, &balancer(["", ""], ""));
    assert!(text.contains("app-cookie") && !text.contains("session-of"), "{text}");
    let cookie =
        " Header add Set-Cookie \"SID=.%{BALANCER_WORKER_ROUTE}e; path=/\" env=BALANCER_ROUTE_CHANGED\n";
    let (text, _) = made(SourceKind::Apache, &balancer(["route=n1", "route=n2"], cookie));
    assert!(text.contains("method = \"insert\"") && !text.contains("server = \"n1\""), "{text}");
}

#[test]
fn pounds_patterns_meet_the_blank_behind_the_colon() {
    for (pattern, condition) in [
        ("Host:.*.www.a.org.*", r#"text("Host: {host}") =~ "(?i)Host:.*.www.a.org.*""#),
        ("Host:*.a.org.*", r#"text("Host: {host}") =~ "(?i)Host:*.a.org.*""#),
        ("Host:.www.a.org", r#"text("Host: {host}") =~ "(?i)Host:.www.a.org""#),
        ("X-A:.b", r#"header("X-A") && text("X-A: {header:X-A}") =~ "(?i)X-A:.b""#),
        ("Host:.*www.a.org", r#"host =~ "(?i).*www.a.org""#),
        ("Host: .*www.a.org", r#"host =~ "(?i).*www.a.org""#),
        ("X-A:.*", r#"header("X-A")"#),
    ] {
        let text = format!(
            "ListenHTTP\n Address 192.0.2.1\n Port 80\n Service\n  HeadRequire \"{pattern}\"\n  BackEnd\n   Address 192.0.2.2\n   Port 80\n  End\n End\nEnd\n"
        );
        let (text, _) = made(SourceKind::Pound, &text);
        assert!(text.contains(&format!("when = '{condition}'")), "{pattern}\n{text}");
    }
}

fn service(checks: [&str; 2]) -> String {
    let server = |(number, check): (usize, &&str)| {
        format!(" real_server 192.0.2.{} 80 {{\n  {check}\n }}\n", number + 1)
    };
    let servers: String = checks.iter().enumerate().map(server).collect();
    format!("virtual_server 192.0.2.9 80 {{\n lb_kind NAT\n protocol TCP\n{servers}}}\n")
}

#[test]
fn each_server_is_asked_by_its_own_script() {
    let misc = |path: &str, more: &str| format!("MISC_CHECK {{\n   misc_path \"{path}\"\n{more}  }}");
    let own = [misc("/c 192.0.2.1", ""), misc("/c 192.0.2.2 a;b", "")];
    let (text, _) = made(SourceKind::Keepalived, &service([&own[0], &own[1]]));
    let script =
        "case $3 in 192.0.2.1) exec /c 192.0.2.1 ;; 192.0.2.2) exec /c 192.0.2.2 'a;b' ;; *) exit 1 ;; esac";
    assert!(text.contains(script), "{text}");
    // keepalived adds no arguments.
    let (text, left) = made(SourceKind::Keepalived, &service([&misc("/c", ""), &misc("/c", "")]));
    assert!(
        text.contains("arguments = [\"-c\", \"exec /c\", \"misc_check\"]") && left.is_empty(),
        "{text}{left:?}"
    );
    let dynamic = [misc("/c 1", "   misc_dynamic\n"), misc("/c 2", "   misc_dynamic\n")];
    let (text, left) = made(SourceKind::Keepalived, &service([&dynamic[0], &dynamic[1]]));
    assert!(
        text.contains("192.0.2.2) /c 2; case $? in 1|126|127) exit 1 ;; esac ;;")
            && !text.contains("keepalived = true"),
        "{text}"
    );
    assert!(says(&left, &[Severity::Unsupported], "weight is not carried over"), "{left:?}");
    let (_, left) = made(SourceKind::Keepalived, &service([&misc("/c", ""), "TCP_CHECK {\n  }"]));
    assert!(says(&left, &[Severity::Critical], "asked alike"), "{left:?}");
}

#[test]
fn retries_of_pages_are_none_of_other_checks() {
    let (text, left) = made(SourceKind::Keepalived, &service(["TCP_CHECK {\n   nb_get_retry 3\n  }"; 2]));
    assert!(
        text.contains("fall = 2") && left.iter().any(|one| one.keyword == "nb_get_retry"),
        "{text}{left:?}"
    );
    let (_, left) =
        made(SourceKind::Keepalived, &service(["TCP_CHECK {\n  }"; 2]).replace(" protocol TCP\n", ""));
    assert!(left.iter().any(|one| one.keyword == "protocol"), "{left:?}");
}

fn instance(scripts: &str, lines: &str) -> String {
    format!(
        "{scripts}vrrp_instance V {{\n interface v0\n virtual_router_id 7\n{lines} virtual_ipaddress {{\n  192.0.2.10/24\n }}\n}}\n"
    )
}

#[test]
fn scripts_of_keepalived_and_what_they_weigh() {
    let script = |name: &str, command: &str, weight: &str| {
        format!("vrrp_script {name} {{\n script \"{command}\"\n{weight}}}\n")
    };
    let follows = " priority 150\n track_script {\n  a\n  b\n }\n";
    let both = |weights: [&str; 2]| {
        let scripts = script("a", "/usr/bin/a -x 1", weights[0]) + &script("b", "/usr/bin/b", weights[1]);
        made(SourceKind::Keepalived, &instance(&scripts, follows))
    };
    let (text, left) = both(["", " weight -60\n"]);
    assert!(text.contains("track = [\"/usr/bin/a -x 1\", \"/usr/bin/b\"]"), "{text}");
    assert!(text.contains("priority = 150\n"), "{text}");
    for part in ["130 in place of 150; keepalived gives the addresses away", "keepalived takes 60 off"] {
        assert!(says(&left, &[Severity::Unsupported], part), "{part}\n{left:?}");
    }
    // What is added while it succeeds: the other router's priority has it, too.
    let (text, _) = both([" weight 2\n", " weight 10\n"]);
    assert!(text.contains("priority = 162  # 150, and 12 while its scripts succeed"), "{text}");
    let scripts = script("a", "killall -0 haproxy", " weight 2\n");
    let (text, _) = made(SourceKind::Keepalived, &instance(&scripts, " priority 101\n track_script { a }\n"));
    assert!(text.contains("priority = 103"), "{text}");
}

#[test]
fn what_keepaliveds_instances_do_otherwise_is_told() {
    for (lines, part) in [
        (" notify /etc/n.sh\n", "INSTANCE lb1 STATE 100"),
        (" priority 100,x\n", "it is 100"),
        (" preempt_delay 30\n", "join-wait"),
        (" track_interface {\n  eth1 weight 5\n }\n", "carrier"),
        (" virtual_routes {\n  10.0.0.0/8 via 192.0.2.1\n }\n", "do not move"),
        (" virtual_ipaddress_excluded {\n  198.51.100.7/24 dev v1\n }\n", "keepalived puts it on v1"),
    ] {
        let (_, left) = made(SourceKind::Keepalived, &instance("", lines));
        assert!(says(&left, &[Severity::Unsupported], part), "{lines}{left:?}");
    }
    let (_, left) =
        made(SourceKind::Keepalived, "virtual_server fwmark 7 {\n real_server 192.0.2.1 80 {\n }\n}\n");
    assert!(says(&left, &[Severity::Critical], "mark 7"), "{left:?}");
    let (text, left) = made(SourceKind::Keepalived, &instance("", ""));
    assert!(
        text.contains("# each is put where the machine has its network") && left.is_empty(),
        "{text}{left:?}"
    );
}

#[test]
fn whole_addresses_are_redirects_without_a_flag() {
    for (rule, redirects) in [
        ("(.*) https://%{HTTP_HOST}%{REQUEST_URI}", true),
        ("^ https://%{SERVER_NAME}%{REQUEST_URI} [L]", true),
        ("^ http://www.example.org%{REQUEST_URI}", true),
        // The host itself, of which Apache takes the path alone.
        ("^ http://%{HTTP_HOST}%{REQUEST_URI}", false),
        ("^ http://a.example%{REQUEST_URI}", false),
    ] {
        let (text, left) =
            made(SourceKind::Apache, &host(&format!(" RewriteEngine on\n RewriteRule {rule}\n")));
        assert_eq!(text.contains("status = 302"), redirects, "{rule}\n{text}");
        let told = left.iter().any(|one| one.keyword.starts_with("RewriteRule"));
        assert_eq!(told, !redirects, "{rule}\n{left:?}");
    }
}

#[test]
fn certificates_of_apaches_servers_are_not_looked_at() {
    let told = |line: &str| {
        let lines = format!(" SSLProxyEngine on\n {line}\n ProxyPass / https://192.0.2.1/\n");
        let (text, left) = made(SourceKind::Apache, &host(&lines));
        assert!(text.contains("server-tls = { verify = false }"), "{text}");
        left.iter().any(|one| one.keyword.starts_with("SSLProxy"))
    };
    for line in ["SSLProxyVerify none", "SSLProxyCheckPeerName Off", "SSLProxyCheckPeerCN off"] {
        assert!(!told(line), "{line}");
    }
    assert!(told("SSLProxyVerify require"));
}

#[test]
fn keys_of_certificates_that_are_not_found_are_told() {
    for (key, is_told) in [("/c.pem", false), ("/c.pem.key", false), ("/k.pem", true)] {
        let lines = format!(
            " SSLEngine on\n SSLCertificateKeyFile {key}\n SSLCertificateFile /c.pem\n ProxyPass / http://192.0.2.1/\n"
        );
        let (_, left) = made(SourceKind::Apache, &host(&lines));
        assert_eq!(says(&left, &[Severity::Unsupported], "put it there"), is_told, "{key}{left:?}");
    }
}

#[test]
fn servers_hear_of_certificates_what_haproxys_rules_say() {
    for (verify, mode) in [("required", ""), ("optional", ", mode = \"optional\"")] {
        let text = format!(
            "listen f\n mode http\n bind 192.0.2.1:443 ssl crt /a.pem ca-file /ca.pem verify {verify}\n timeout client 1s\n timeout server 1s\n timeout connect 1s\n server a 192.0.2.2:80\n"
        );
        let (text, _) = made(SourceKind::Haproxy, &text);
        assert!(text.contains(&format!("ca = \"/ca.pem\"{mode}, headers = false")), "{text}");
    }
}

#[test]
fn lines_have_the_places_of_haproxys_captures() {
    let frontend = |lines: &str| {
        format!(
            "frontend f\n mode http\n bind 192.0.2.1:80\n log 127.0.0.1 local0\n timeout client 1s\n{lines} default_backend b\nbackend b\n mode http\n timeout server 1s\n timeout connect 1s\n server a 192.0.2.2:80\n"
        )
    };
    let both = " capture request header Host len 9\n capture response header Server len 9\n";
    for (lines, there, absent) in [
        (format!(" option httplog\n{both}"), "{{{captured}}} {{{captured-answer}}} ", "none of it"),
        (" option httplog\n capture request header Host len 9\n".into(), "virtual-service", "log-format"),
        (" log-format \"%ST %hr %{+Q}hs %%hs END\"\n".into(), "{status}   %hs END", "captured"),
        (
            format!("{both} log-format \"%ST %hr %hs END\"\n"),
            "{{{captured}}} {{{captured-answer}}} END",
            "none of it",
        ),
    ] {
        let (text, _) = made(SourceKind::Haproxy, &frontend(&lines));
        assert!(text.contains(there) && !text.contains(absent), "{lines}\n{text}");
    }
}

#[test]
fn comments_of_ldirectord_stay_with_their_service() {
    let service = |last: u8| {
        format!(
            "virtual=192.0.2.{last}:80\n  #real=192.0.2.7{last}:80 gate\n  real=192.0.2.8{last}:80 gate\n"
        )
    };
    let (text, _) = made(SourceKind::Ldirectord, &format!("# one\n{}# two\n{}", service(1), service(2)));
    for part in ["# one\n# real=192.0.2.71:80 gate\n[[", "# two\n# real=192.0.2.72:80 gate\n[["] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}
