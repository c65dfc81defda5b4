//! The result is read as a configuration before anybody sees it: what is none is told with the line
//! of the source that it came from.
//!
//! Readers do not keep the line of each word, so it is found again by the names and values that the
//! faulty line of the result shares with the source.

use std::ops::Range;

use crate::words::{name, unquoted};
use crate::{Diagnostic, Draft, Severity, Source};

pub fn prove(text: &str, sources: &[&Source], draft: &mut Draft) {
    let Err(problems) = evenkeel_config::read(text) else { return };
    for problem in problems {
        let (file, line, keyword) = origin(text, &problem.span, sources);
        // The words of the source before those of the result.
        let source = sources.iter().find(|source| source.file == file);
        let written = source.and_then(|source| source.text.lines().nth(line.saturating_sub(1)));
        // A section's first line says nothing of what is wrong in it.
        let heads = ["listen ", "frontend ", "backend "];
        let written = written.map(str::trim).filter(|written| !written.is_empty());
        let written = written.filter(|written| !heads.iter().any(|head| written.starts_with(head)));
        let consequence = match written {
            Some(written) => format!("'{written}': {}", problem.message),
            None => problem.message,
        };
        let left = Diagnostic { severity: Severity::Invalid, file, line, keyword, consequence };
        if !draft.left.contains(&left) {
            draft.left.push(left);
        }
    }
}

/// File, line and word of the source that a part of the result came from.
fn origin(text: &str, span: &Range<usize>, sources: &[&Source]) -> (String, usize, String) {
    let at = (0..=span.start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let number = text[..at].matches('\n').count();
    let lines: Vec<&str> = text.lines().collect();
    let own = lines.get(number).map_or("", |line| line.trim());
    let key = own.split(" = ").next().unwrap_or("").trim_matches(['[', ']']).to_owned();
    let (outer, inner) = names(&lines, number);
    let all: Vec<(&str, usize, &str)> = sources
        .iter()
        .flat_map(|s| s.text.lines().enumerate().map(|(at, line)| (s.file.as_str(), at + 1, line)))
        .collect();
    let named = |wanted: &str, from: usize| {
        (from..all.len()).find(|at| words(all[*at].2).any(|word| word == wanted || name(word) == wanted))
    };
    let outer = outer.and_then(|wanted| named(&wanted, 0));
    let inner = inner.and_then(|wanted| named(&wanted, outer.unwrap_or(0)));
    let start = inner.or(outer).unwrap_or(0);
    // The part itself first, then what else its line says, the longest first.
    let part = text.get(span.clone()).filter(|part| !part.contains('\n')).map(unquoted);
    let mut parts: Vec<&str> = words(own.split_once(" = ").map_or("", |(_, value)| value)).collect();
    parts.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let parts = part.into_iter().chain(parts.into_iter().map(str::to_owned)).filter(|part| !part.is_empty());
    let found = parts.into_iter().find_map(|part| {
        let holds = |at: &usize| all[*at].2.contains(&part) && !all[*at].2.trim_start().starts_with('#');
        let near = (start..all.len()).find(holds);
        near.or_else(|| (0..start).find(holds)).map(|at| (at, part))
    });
    let (at, word) = found.map_or((start, key.clone()), |(at, part)| (at, part));
    let word = if key.is_empty() { word } else { key };
    match all.get(at) {
        Some((file, line, _)) => ((*file).to_owned(), *line, word),
        None => (sources.first().map(|s| s.file.clone()).unwrap_or_default(), 1, word),
    }
}

/// The name of the service or pool that a line of the result belongs to, and that of its server.
fn names(lines: &[&str], number: usize) -> (Option<String>, Option<String>) {
    let head = |wanted: fn(&str) -> bool| {
        let at =
            (0..=number.min(lines.len().saturating_sub(1))).rev().find(|at| wanted(lines[*at].trim()))?;
        let inside = lines[at + 1..].iter().map(|line| line.trim()).take_while(|line| !line.starts_with('['));
        let named = inside.filter_map(|line| line.strip_prefix("name = ")).map(unquoted);
        Some((at, named.into_iter().next()?))
    };
    if lines.is_empty() {
        return (None, None);
    }
    let outer = head(|line| line.starts_with('[') && !line.contains('.'));
    let inner = head(|line| line.starts_with("[[") && line.ends_with(".real-server]]"));
    let inner = inner.filter(|(at, _)| outer.as_ref().is_some_and(|(first, _)| at > first));
    (outer.map(|(_, name)| name), inner.map(|(_, name)| name))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || "\"'{}[],;=".contains(c)).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::{Severity, Source, SourceKind, import, running};

    /// One of each reader, with as many of its words as fit.
    const EXAMPLES: &[(SourceKind, &str)] = &[
        (
            SourceKind::Haproxy,
            "global\n  maxconn 4000\n  log 127.0.0.1 local0\n  stats socket /run/h.sock\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\nfrontend be:ns:web\n  bind 192.0.2.1:80\n  bind 192.0.2.1:443 ssl crt /etc/h/a.pem alpn h2,http/1.1\n  maxconn 2000\n  stick-table type ip size 10k expire 30s store http_req_rate(10s)\n  acl static path_beg -i /static /images\n  http-request track-sc0 src\n  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 20 }\n  http-request set-header X-A %[src] if !static\n  http-request redirect scheme https code 301 unless { ssl_fc }\n  http-response set-header X-B \"a b\"\n  use_backend files if static\n  default_backend app\nbackend app\n  balance hdr(X-Key)\n  cookie SRV insert indirect nocache maxidle 30m\n  option httpchk GET /health\n  http-check expect status 200-299\n  retries 2\n  errorfile 503 /etc/h/503.http\n  server one 192.0.2.4:80 weight 10 check inter 2s rise 2 fall 3 maxconn 30 cookie c1\n  server two 192.0.2.5:80 check port 81 backup send-proxy slowstart 10s\nbackend files\n  stick-table type ip size 1m expire 30m\n  stick on src\n  server s 192.0.2.6:80 check-ssl verify none\nlisten db\n  mode tcp\n  bind :3306\n  option mysql-check user haproxy\n  balance leastconn\n  server d 192.0.2.7:3306 check\n",
        ),
        (
            SourceKind::Keepalived,
            "global_defs {\n  notification_email { a@b.example }\n  router_id LB1\n}\nvrrp_instance VI_1 {\n  state MASTER\n  interface eth0\n  virtual_router_id 51\n  priority 100\n  advert_int 1\n  authentication { auth_type PASS auth_pass secret }\n  virtual_ipaddress { 192.0.2.20/24 dev eth0 }\n}\nvirtual_server 192.0.2.20 80 {\n  delay_loop 6\n  lb_algo wlc\n  lb_kind DR\n  persistence_timeout 300\n  persistence_granularity 255.255.255.0\n  protocol TCP\n  sorry_server 192.0.2.99 80\n  real_server 192.0.2.4 80 {\n    weight 2\n    HTTP_GET {\n      url { path /up status_code 200 }\n      connect_timeout 3\n      nb_get_retry 3\n      delay_before_retry 2\n    }\n  }\n  real_server 192.0.2.5 80 {\n    TCP_CHECK { connect_port 81 connect_timeout 3 }\n  }\n}\n",
        ),
        (
            SourceKind::Ldirectord,
            "checktimeout = 3\ncheckinterval = 5\nquiescent = no\nautoreload = yes\nvirtual = 192.0.2.30:80\n\treal = 192.0.2.4:80 gate 5\n\treal = 192.0.2.5:80 masq 1\n\tfallback = 127.0.0.1:80\n\tservice = http\n\tscheduler = wrr\n\tpersistent = 600\n\tnetmask = 255.255.255.0\n\tprotocol = tcp\n\tchecktype = negotiate\n\trequest = \"/index.html\"\n\treceive = \"ok\"\n\tvirtualhost = www.example.org\n",
        ),
        (
            SourceKind::Lvs,
            "serial_no = 5\nprimary = 192.0.2.2\nservice = lvs\nbackup = 192.0.2.3\nheartbeat_port = 539\nkeepalive = 6\ndeadtime = 18\nnetwork = direct\nvirtual web {\n  active = 1\n  address = 192.0.2.40 eth0:1\n  port = 80\n  send = \"GET / HTTP/1.0\\r\\n\\r\\n\"\n  expect = \"HTTP\"\n  scheduler = wlc\n  protocol = tcp\n  timeout = 6\n  reentry = 15\n  persistent = 300\n  pmask = 255.255.255.0\n  server one {\n    address = 192.0.2.4\n    active = 1\n    weight = 2\n  }\n}\n",
        ),
        (
            SourceKind::Pound,
            "Alive 30\nTimeOut 60\nListenHTTPS\n  Address 192.0.2.50\n  Port 443\n  Cert \"/etc/pound/a.pem\"\n  HeadRemove \"X-Forwarded-Proto\"\n  AddHeader \"X-Forwarded-Proto: https\"\n  Service\n    HeadRequire \"Host: .*www.example.org.*\"\n    URL \"/app.*\"\n    BackEnd\n      Address 192.0.2.4\n      Port 80\n      Priority 5\n      TimeOut 20\n    End\n    Session\n      Type COOKIE\n      ID \"SID\"\n      TTL 300\n    End\n  End\nEnd\n",
        ),
        (
            SourceKind::Apache,
            "Listen 192.0.2.60:80\n<Proxy balancer://app>\n  BalancerMember http://192.0.2.4:8080 route=a loadfactor=2 timeout=5\n  BalancerMember http://192.0.2.5:8080 route=b status=+H\n  ProxySet lbmethod=byrequests stickysession=JSESSIONID|jsessionid\n</Proxy>\n<VirtualHost 192.0.2.60:80>\n  ServerName www.example.org\n  ServerAlias *.example.net\n  ProxyPass /static !\n  ProxyPass /app balancer://app\n  ProxyPassReverse /app balancer://app\n  Redirect permanent /old https://www.example.org/new\n  <Location /admin>\n    Require ip 10.0.0.0/8\n  </Location>\n  <Proxy *>\n    Order deny,allow\n    Deny from all\n    Allow from 192.168.0.0/16\n  </Proxy>\n  <LocationMatch ^/x>\n    <RequireAll>\n      Require all granted\n      Require not ip 10.1\n    </RequireAll>\n  </LocationMatch>\n  RequestHeader set X-Proto http\n</VirtualHost>\n",
        ),
        (
            SourceKind::Haresources,
            "# pair\nlb1 192.0.2.10 IPaddr::192.0.2.11/24/eth0 ldirectord::l.cf\nlb1 IPv6addr::2001:db8::1/64 httpd\n",
        ),
        (
            SourceKind::LbConfig,
            "<config>\n <physical>\n  <network>\n   <hostname>lbmaster</hostname>\n   <slave>192.0.2.81</slave>\n  </network>\n </physical>\n</config>\n",
        ),
    ];

    const BAD: &[&str] = &[
        "",
        "0",
        "-1",
        "99999999999999999999",
        "70000",
        "300",
        "\"",
        "'",
        "\\",
        "\u{1}",
        "é",
        "a b",
        "{",
        "}",
        "=",
        "#",
        "[",
        "]]",
        "%[",
        "*",
        "/",
        ":",
        "::",
        "0.0.0.0/0",
        "192.0.2.999",
        "nobody",
        "!",
        "%",
        "\t",
        "$X",
        "1.5s",
        "9d",
        "[[virtual-service]]",
        "\"\"\"",
        "'''",
        "x\ry",
    ];

    /// The same numbers in each run.
    struct Seeded(u64);

    impl Seeded {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end.max(1) as u64) as usize
        }
    }

    fn mutate(text: &str, random: &mut Seeded) -> String {
        let mut lines: Vec<Vec<String>> =
            text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
        for _ in 0..=random.below(3) {
            let at = random.below(lines.len());
            let word = random.below(lines[at].len());
            let (other, bad) = (random.below(lines.len()), BAD[random.below(BAD.len())]);
            match random.below(8) {
                0 => lines[at][word] = bad.into(),
                1 => lines[at].insert(word, bad.into()),
                2 => lines[at][word] += bad,
                3 => drop(lines[at].remove(word)),
                4 => lines.swap(at, other),
                5 => {
                    let again = lines[at].clone();
                    lines.insert(other, again);
                }
                6 => {
                    let from = random.below(lines[other].len());
                    let taken = lines[other].get(from).cloned().unwrap_or_default();
                    lines[at][word] = taken;
                }
                _ => lines[at].truncate(word),
            }
            lines.iter_mut().filter(|line| line.is_empty()).for_each(|line| line.push(String::new()));
        }
        lines.iter().map(|line| line.join(" ") + "\n").collect()
    }

    #[test]
    fn examples_are_configurations() {
        for (kind, text) in EXAMPLES {
            let source = Source { kind: *kind, file: "a.conf".into(), text: (*text).into() };
            let imported = import(&[source], &BTreeMap::new());
            let wrong = imported.left.iter().find(|l| l.severity == Severity::Invalid);
            assert!(wrong.is_none(), "{wrong:?}\n{}", imported.text);
        }
    }

    /// Whatever is done to a file: the result is a configuration, or the line is told that is in its way.
    #[test]
    fn mutated_files_make_a_configuration_or_an_error_with_its_line() {
        for (kind, text) in EXAMPLES {
            let mut random = Seeded(0x9e37_79b9_7f4a_7c15);
            for round in 0..120 {
                let mutated = mutate(text, &mut random);
                let source = Source { kind: *kind, file: "a.conf".into(), text: mutated.clone() };
                let imported = import(std::slice::from_ref(&source), &BTreeMap::new());
                let shown = || {
                    format!(
                        "{kind:?}, round {round}:\n{mutated}\n---\n{}\n{:#?}",
                        imported.text, imported.left
                    )
                };
                assert!(evenkeel_config::format(&imported.text).is_ok(), "no TOML: {}", shown());
                let lines = mutated.lines().count();
                let wrong: Vec<_> =
                    imported.left.iter().filter(|l| l.severity == Severity::Invalid).collect();
                assert!(imported.left.iter().all(|l| l.line <= lines.max(1)), "{}", shown());
                if evenkeel_config::read(&imported.text).is_err() {
                    assert!(wrong.iter().any(|l| l.line > 0 && l.file == "a.conf"), "{}", shown());
                }
                if *kind == SourceKind::Haproxy {
                    running(&[source], &BTreeMap::new(), crate::Places::default());
                }
            }
        }
    }

    #[test]
    fn the_line_of_the_source_is_told() {
        let text = "defaults\n mode http\n timeout connect 4s\n timeout client 4s\n timeout server 4s\nlisten a\n bind 192.0.2.1:80\n server one 192.0.2.4:80 weight 10\nlisten b\n bind 192.0.2.1:81\n server one 192.0.2.4:80 weight 10\n server two 192.0.2.5:80 weight 70000\n";
        let source = Source { kind: SourceKind::Haproxy, file: "h.cfg".into(), text: text.into() };
        let imported = import(&[source], &BTreeMap::new());
        let wrong: Vec<_> = imported.left.iter().filter(|l| l.severity == Severity::Invalid).collect();
        let places: Vec<_> = wrong.iter().map(|l| (l.file.as_str(), l.line, l.keyword.as_str())).collect();
        assert_eq!(places, [("h.cfg", 12, "weight")], "{}\n{:#?}", imported.text, imported.left);
    }
}
