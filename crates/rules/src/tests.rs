use std::borrow::Cow;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

/// A request as the tests have it.
struct Request {
    path: &'static str,
    query: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    source: IpAddr,
    time: LocalTime,
}

fn request() -> Request {
    Request {
        path: "/api/v1/users/7",
        query: "lang=de&debug",
        headers: vec![
            ("Host", "WWW.example.org"),
            ("X-A", "one"),
            ("X-A", "two"),
            ("X-L", "\"a,b\", c"),
            ("X-N", "3, 12x"),
        ],
        source: "10.1.2.3".parse().unwrap(),
        time: LocalTime { weekday: 4, minute_of_day: 23 * 60, unix_s: 784_111_777 },
    }
}

impl Facts for Request {
    fn texts(&self, fetch: Fetch, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let value: Cow<'_, str> = match fetch {
            Fetch::Path | Fetch::RawPath => self.path.into(),
            Fetch::FullPath => format!("{};full", self.path).into(),
            Fetch::Host => "WWW.example.org".into(),
            Fetch::Method => "GET".into(),
            Fetch::Scheme => "https".into(),
            Fetch::Uri | Fetch::Url => format!("{}?{}", self.path, self.query).into(),
            Fetch::Query if name.is_empty() => self.query.into(),
            Fetch::Query => match self.query.split('&').find_map(|p| p.strip_prefix(name)) {
                Some(rest) => rest.strip_prefix('=').unwrap_or(rest).into(),
                None => return false,
            },
            Fetch::Header => {
                let mut all = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
                return all.any(|(_, v)| test(v.as_bytes()));
            }
            _ => return false,
        };
        test(value.as_bytes())
    }

    fn address(&self, fetch: Fetch) -> Option<IpAddr> {
        (fetch == Fetch::Source).then_some(self.source)
    }

    fn number(&self, fetch: Fetch, arguments: &[String]) -> Option<u64> {
        match fetch {
            Fetch::Port => Some(443),
            Fetch::ServersUp if arguments == ["web"] => Some(2),
            _ => None,
        }
    }

    fn flag(&self, fetch: Fetch) -> bool {
        fetch == Fetch::Tls
    }

    fn local_time(&self) -> LocalTime {
        self.time
    }

    fn random(&self) -> u128 {
        u128::MAX
    }

    fn host_name(&self) -> &[u8] {
        b"lb1"
    }
}

fn holds(text: &str) -> bool {
    let expression = Expression::parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    expression.holds(&request(), &mut Captures::default())
}

#[test]
fn conditions() {
    for yes in [
        r#"path("/api/*") && method("GET", "POST")"#,
        r#"host("www.example.org")"#,
        r#"host("*.example.org") and not method("POST")"#,
        r#"header("x-a", "two")"#,
        r#"header("X-A")"#,
        r#"!header("X-B")"#,
        r#"text("{header:X-A}") && text("{header:X-A}", "*")"#,
        r#"!text("{header:X-B}") && !text("{header:X-B}", "*")"#,
        r#"!header("X-A", "TWO") && text("{last-header:X-A|upper}", "TWO")"#,
        r#"header("X-B") != "two""#,
        r#"query("lang", "de") && query("debug")"#,
        r#"path =~ "^/api/v[0-9]+/" && path !~ "admin""#,
        r#"path == "/api/v1/users/7""#,
        r#"source("10.0.0.0/8") && !source("10.1.2.0/25", "::/0") || source("10.1.2.3")"#,
        "port(80, 443) && port == 443 && port >= 443 && port < 444 && tls()",
        r#"servers-up("web") > 1"#,
        r#"time("22:00-06:00") && weekday("fri,sat") && weekday("thu-mon") && !time("06:00-22:00")"#,
        r#"(path("/x") || path("/api/*/users/*")) && scheme("https")"#,
        r#"method("POST") || method("GET") && port(443)"#,
    ] {
        assert!(holds(yes), "{yes}");
        assert!(!holds(&format!("!({yes})")), "not {yes}");
    }
    for no in [
        r#"servers-up("other") > 0"#,
        r#"host("example.org")"#,
        r#"path("/api")"#,
        r#"weekday("sat-thu")"#,
        r#"cookie("a")"#,
        r#"(method("POST") || method("GET")) && port(80)"#,
    ] {
        assert!(!holds(no), "{no}");
    }
}

#[test]
fn each_value_of_a_list_is_asked() {
    let of = |headers: &[(&'static str, &'static str)], text: &str| {
        let request = Request { headers: headers.to_vec(), ..request() };
        let expression = Expression::parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        expression.holds(&request, &mut Captures::default())
    };
    let list = &[("X-A", "one, two;q=1 ,\"a, b\""), ("x-a", "three")];
    for text in [
        r#"header-value("x-a", "one")"#,
        r#"header-value("x-a", "two*")"#,
        r#"header-value("x-a", "three")"#,
        r#"header-value("x-a", "\"a, b\"")"#,
        r#"header-value("x-a") =~ "^t[a-z]+$""#,
        r#"header-value("x-a")"#,
        r#"!header-value("x-a", "b\"")"#,
        r#"!header-value("x-a", "one, two*")"#,
    ] {
        assert!(of(list, text), "{text}");
    }
    assert!(!of(&[], r#"header-value("x-a")"#));
}

#[test]
fn the_example_of_every_function_is_right() {
    for function in FUNCTIONS {
        Expression::parse(function.example).unwrap_or_else(|e| panic!("{}: {e:?}", function.example));
    }
}

#[test]
fn mistakes_are_pointed_at() {
    let check = |text: &str, at: &str, message: &str, help: &str| {
        let error = Expression::parse(text).expect_err(text);
        assert_eq!(&text[error.span.clone()], at, "{text}: {error:?}");
        assert!(error.message.contains(message), "{text}: {error:?}");
        assert!(error.help.clone().unwrap_or_default().contains(help), "{text}: {error:?}");
    };
    check(r#"pth("/a")"#, "pth", "no function `pth`", "did you mean `path`?");
    check(r#"path("/a" method("GET")"#, "method", "expected `,` or `)`", "");
    check(r#"path("/a") method("GET")"#, "method", "expected `&&`, `||` or the end", "");
    check(r#"path("/a") &&"#, "", "expected a function", "");
    check(r#"(path("/a")"#, "", "expected `)`", "");
    check(r#"path("/a"#, r#""/a"#, "no closing quote", "");
    check("path & port", "&", "means nothing here", "&& ||");
    check("header()", "header", "needs its NAME", r#"header("User-Agent""#);
    check(r#"source("10.0.0.0/33")"#, r#""10.0.0.0/33""#, "is no network", "192.0.2.0/24");
    check(r#"path =~ "(""#, r#""(""#, "no regular expression: unclosed group", "");
    check("path > 5", ">", "compares numbers", "==");
    check("port", "port", "compared with nothing", "port(80, 443)");
    check(r#"port("80")"#, r#""80""#, "without quotes", "");
    check(r#"time("8-9")"#, "time", "no span of the day", "08:00");
    check(r#"weekday("monday")"#, "weekday", "no day of the week", "mon-fri");
    check(r#"rate("t", "hits") > 1"#, r#""hits""#, "no counter", "requests");
    check("port > 99999999999999999999999", "99999999999999999999999", "too large", "");
    check(r#"host("@list")"#, r#""@list""#, "absolute path", "");
    check("tls() > 1", ">", "cannot be compared", "");
    check(&"!".repeat(1000), "!", "nested more than", "");
    check(&format!("{}tls(){}", "(".repeat(1000), ")".repeat(1000)), "(", "nested more than", "");
}

#[test]
fn texts_with_variables() {
    let render = |condition: &str, text: &str| {
        let mut captures = Captures::wanted();
        Expression::parse(condition).unwrap().holds(&request(), &mut captures);
        let mut out = Vec::new();
        Template::parse(text).unwrap().render(&request(), &captures, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(render("tls()", "https://www.example.net{path}"), "https://www.example.net/api/v1/users/7");
    assert_eq!(
        render("tls()", "{scheme}://{host}:{port}{uri} {{x}} {header:x-a} {source}"),
        "https://WWW.example.org:443/api/v1/users/7?lang=de&debug {x} one 10.1.2.3"
    );
    assert_eq!(render(r#"path("/api/*/users/*")"#, "/u/{2}/{1}{3}"), "/u/7/v1");
    for (text, expect) in [
        (
            "{header-value:x-l} {header-value:x-l,1} {header-value:x-l,-2} {header-value:x-l,9}",
            "c \"a,b\" \"a,b\" ",
        ),
        ("{header-line:x-a,1} {header-line:x-a,-1} {header-lines:x-a} {header-count:x-l}", "one two 2 2"),
        ("{header:x-none|present|length}{header:x-a|present|length}", "3"),
        ("{hostname} {hostname|upper}", "lb1 LB1"),
        ("{unix-time|http-date} {url}", "Sun, 06 Nov 1994 08:49:37 GMT /api/v1/users/7?lang=de&debug"),
        ("{\"5\"|and(4)|or(1)|xor(7)|cpl} {\"12abc\"|integer}", "-3 12"),
    ] {
        assert_eq!(render("tls()", text), expect, "{text}");
    }
    assert!(Template::parse("{header-value:a,0}").is_err() && Template::parse("{header-value:a,x}").is_err());
    assert!(holds("header-number(\"X-N\") > 5") && !holds("header-number(\"X-N\") > 12"));
    assert_eq!(render(r#"path =~ "^/api/(v.)/(.*)$""#, "{2}-{1}"), "users/7-v1");
    assert_eq!(render("tls()", "{query:lang} {query}"), "de lang=de&debug");
    assert_eq!(render("tls()", "{last-header:X-A} {tls} {first-request}"), "two 1 0");
    // Texts within converters have variables as well.
    assert_eq!(render("tls()", r#"{method|append("-{header:X-A|upper}")}"#), "GET-ONE");
    assert_eq!(render("tls()", r#"{header:X-A|append-item(",","{scheme}")}"#), "one,https");
    assert_eq!(render("tls()", r#"{header:X-B|append-item(",","{scheme}")}"#), "https");
    assert_eq!(render("tls()", r#"{header:X-A|equals("one")}{header:X-A|equals("{method}")}"#), "10");
    let with = |key: &str| render("tls()", &format!("{{path|hmac(sha256,\"{key}\")|hex}}"));
    assert_eq!(with("{method}"), with("GET"));
    assert_ne!(with("{method}"), with("one"));
    assert_eq!(render(r#"path("/api/*")"#, r#"{method|append("{1}")}"#), "GETv1/users/7");
    let needs =
        |text: &str| Template::parse(text).map(|t| (t.needs_http(), t.needs_answer(), t.has_captures()));
    assert_eq!(needs(r#"{source|append("{status}")}"#), Ok((false, true, false)));
    assert_eq!(needs(r#"{source|append("{path}{1}")}"#), Ok((true, false, true)));
    for (bad, message) in [
        ("{pth}", "no variable {pth}"),
        ("a{path", "without"),
        ("{header:a b}", "no name"),
        ("{0}", "no variable"),
    ] {
        let error = Template::parse(bad).expect_err(bad);
        assert!(error.message.contains(message), "{bad}: {error:?}");
    }
}

#[test]
fn explanations_show_every_test() {
    let expression = Expression::parse(r#"path("/x") && (method("GET") || port == 80)"#).unwrap();
    let leaves = expression.explain(&request());
    let shown: Vec<_> = leaves.iter().map(|l| (l.text.as_str(), l.holds)).collect();
    assert_eq!(shown, [(r#"path("/x")"#, false), (r#"method("GET")"#, true), ("port == 80", false)]);
}

#[test]
fn gates_let_through_what_can_hold() {
    let gate = |text: &str| Expression::parse(text).unwrap().path_gate();
    let lets = |text: &str, path: &str| {
        gate(text).unwrap().lets(path.as_bytes(), crate::PathStart::of(path.as_bytes()))
    };
    // Beginnings shorter and longer than what is looked at first, alike and not.
    let texts = ["/", "/a", "/abcdefg", "/abcdefgh", "/abcdefx", "/b/c", "/abcdefghijkl"];
    for one in texts {
        for two in texts {
            for path in texts.iter().flat_map(|t| [t.to_string(), format!("{t}/x"), t[..t.len() - 1].into()])
            {
                let expected = path.starts_with(one) || path == two;
                assert_eq!(
                    lets(&format!("path(\"{one}*\", \"{two}\")"), &path),
                    expected,
                    "{one} {two} {path}"
                );
            }
        }
    }
    assert!(lets(r#"method("GET") && path("/a/*", "/b")"#, "/a/x") && lets(r#"path("/a/*", "/b")"#, "/b"));
    assert!(!lets(r#"path("/a/*", "/b")"#, "/b/c") && !lets(r#"path == "/x""#, "/xy"));
    for open in [
        r#"path("/a") || tls()"#,
        r#"!path("/a")"#,
        r#"path("*.png")"#,
        r#"path != "/a""#,
        r#"path =~ "a""#,
        "tls()",
    ] {
        assert_eq!(gate(open), None, "{open}");
    }
}

#[test]
fn lists_of_a_hundred_thousand() {
    let mut text = String::from("# hosts\n");
    for i in 0..100_000 {
        text.push_str(&format!("h{i}.example.org\n*.d{i}.example.net # any of these\n"));
    }
    let (set, _) = read_patterns(&text, crate::ListForm { folds: true, normal: None });
    assert_eq!(set.len(), 200_000);
    assert!(set.matches(b"H99999.Example.org") && set.matches(b"a.b.d77.example.net"));
    assert!(!set.matches(b"h100000.example.org") && !set.matches(b"d77.example.net"));
    let networks: String = (0..100_000u32).map(|i| format!("{}/32\n", std::net::Ipv4Addr::from(i))).collect();
    let set = read_networks(&networks).unwrap();
    assert!(set.contains("0.1.134.159".parse().unwrap()) && !set.contains("0.1.134.160".parse().unwrap()));
    assert_eq!(read_networks("10.0.0.0/8\n\n10.0.0.0/99\n"), Err(3));
}

#[test]
fn maps() {
    let text = "# comment\na one\n/img/* images\n/img/big/* big\n*.org  org pool\nx https://a/#b # why\n";
    let map = Map::read(text, MapMatch::Stars).unwrap();
    let get = |key: &str| map.get(key.as_bytes()).map(|value| value.into_owned());
    for (key, value) in [
        ("a", Some("one")),
        ("/img/x", Some("images")),
        ("/img/big/x", Some("big")),
        ("example.org", Some("org pool")),
        ("x", Some("https://a/#b")),
        ("b", None),
    ] {
        assert_eq!(get(key).as_deref(), value, "{key}");
    }
    let wrong = |text: &str, matching| Map::read(text, matching).unwrap_err();
    assert_eq!(wrong("a b\nc\n", MapMatch::Stars), MapError { line: 2, why: "expected KEY VALUE".into() });
    for (text, matching) in [
        ("*a* b", MapMatch::Stars),
        ("a*b c", MapMatch::Stars),
        ("( b", MapMatch::Regex),
        ("a b", MapMatch::Network),
    ] {
        assert_eq!(wrong(text, matching).line, 1, "{text}");
    }
}

#[test]
fn maps_compare_their_keys_as_they_are_told() {
    for (matching, text, key, value) in [
        (MapMatch::Exact, "a* x\na y", "a*", Some("x")),
        (MapMatch::Exact, "a* x", "ab", None),
        (MapMatch::Begin, "/a 1\n/a/b 2", "/a/b/c", Some("2")),
        (MapMatch::End, ".org 1\nb.org 2", "a.b.org", Some("2")),
        (MapMatch::Domain, "example.com 1\nwww.example.com 2\n", "a.www.example.com:80", Some("2")),
        (MapMatch::Domain, "ample.com 1", "www.example.com", None),
        (MapMatch::Domain, "a.b 1\nlonger.c 2", "a.b.longer.c", Some("2")),
        (MapMatch::DomainInOrder, "b.org 1\na.b.org 2", "a.b.org:80", Some("1")),
        (MapMatch::DomainInOrder, ".b.b. 1", "xb.b.b/c", Some("1")),
        (MapMatch::DomainInOrder, "ample.com 1", "www.example.com", None),
        (MapMatch::EndInOrder, ".org 1\nb.org 2", "a.b.org", Some("1")),
        (MapMatch::Contains, "zz 0\nb 1\nab 2", "cabc", Some("1")),
        (MapMatch::Regex, "^/(.)/ \\1", "/x/y", Some("\\1")),
        (MapMatch::RegexGroups, "^(.*)\\.(.*)$ \\1_AND_\\2", "left.right", Some("left_AND_right")),
        (MapMatch::Network, "10.0.0.0/8 wide\n10.1.0.0/16 narrow\n::/0 six", "10.1.2.3", Some("narrow")),
        (MapMatch::Network, "10.0.0.0/8 wide", "11.1.2.3", None),
        (MapMatch::Network, "10.0.0.0/8 wide", "no address", None),
    ] {
        let map = Map::read(text, matching).unwrap();
        assert_eq!(map.get(key.as_bytes()).as_deref(), value, "{matching:?} {text:?} {key}");
    }
    let mut text =
        Template::parse("{method|map(\"/m\",exact,\"none\")}-{path|append(\"{host|map(/h)}\")}").unwrap();
    assert_eq!(text.files().len(), 2);
    let loaded = |text: &str| Ok::<_, ()>(std::sync::Arc::new(Map::read(text, MapMatch::Exact).unwrap()));
    text.load(&mut |file, _| loaded(if file == std::path::Path::new("/m") { "GET got" } else { "x y" }))
        .unwrap();
    let mut out = Vec::new();
    text.render(&request(), &Captures::default(), &mut out);
    assert!(out.starts_with(b"got-"), "{}", String::from_utf8_lossy(&out));
}

proptest! {
    #[test]
    fn nothing_that_is_typed_panics(text in ".{0,200}") {
        let _ = Expression::parse(&text);
        let _ = Template::parse(&text);
        for (_, matching) in MapMatch::WORDS {
            let _ = Map::read(&text, matching).map(|map| map.get(text.as_bytes()).is_some());
        }
    }

    /// Built from the language's own words, so that most of it parses.
    #[test]
    fn nothing_that_parses_panics(words in proptest::collection::vec(
        prop::sample::select(vec!["path", "(", ")", "\"/a*b*\"", "&&", "||", "!", "port", "==", "443", ",", "header", "=~", "tls()", "source(\"::/0\")"]), 0..24)) {
        if let Ok(expression) = Expression::parse(&words.join(" ")) {
            let mut captures = Captures::wanted();
            expression.holds(&request(), &mut captures);
            expression.explain(&request());
        }
    }

    #[test]
    fn sets_agree_with_plain_matching(patterns in proptest::collection::vec("[ab*]{1,5}", 1..6), value in "[ab]{0,6}") {
        let mut set = PatternSet::new(false);
        patterns.iter().for_each(|p| set.insert(p));
        let plain = patterns.iter().any(|p| {
            let regex = format!("^{}$", p.replace('*', ".*"));
            regex::Regex::new(&regex).unwrap().is_match(&value)
        });
        prop_assert_eq!(set.matches(value.as_bytes()), plain);
    }
}

#[test]
fn names_that_servers_take_for_one_are_one() {
    for (header, name, same) in [
        ("X_Real_IP", "x-real-ip", true),
        ("x-real_ip", "X_Real-IP", true),
        ("X_Client_Cert_CN", "x-client-cert-*", true),
        ("A_secret_B", "*-Secret-*", true),
        // As lighttpd and older Apaches make variables of them.
        ("X.Real.IP", "x-real-ip", true),
        ("x!real~ip", "x-real-ip", true),
        ("X.Client*Cert'CN", "x-client-cert-*", true),
        ("a*secret|b", "*-secret-*", true),
        ("asecretb", "*-secret-*", false),
        ("XReal-IP", "x-real-ip", false),
        ("X-Real-IPs", "x-real-ip", false),
    ] {
        assert_eq!(crate::is_named_alike(header.as_bytes(), name.as_bytes()), same, "{header} {name}");
    }
}

/// Decisions see the path without the parameters of its segments; what leaves the program has them.
#[test]
fn parameters_of_segments_stay_in_what_goes_out() {
    let template = Template::parse("https://{host}{path}|{path|upper}").unwrap();
    let (mut decided, mut sent) = (Vec::new(), Vec::new());
    template.render(&request(), &Captures::default(), &mut decided);
    template.render_outward(&request(), &Captures::default(), &mut sent);
    assert_eq!(String::from_utf8_lossy(&decided), "https://WWW.example.org/api/v1/users/7|/API/V1/USERS/7");
    assert_eq!(
        String::from_utf8_lossy(&sent),
        "https://WWW.example.org/api/v1/users/7;full|/API/V1/USERS/7;FULL"
    );
    let condition = Expression::parse(r#"text("{path}") == "/api/v1/users/7""#).unwrap();
    assert!(condition.holds(&request(), &mut Captures::default()));
}

#[test]
fn lists_hold_keys_alone_with_or_without_case() {
    let text = "# who\n/Old\nexample.org   # a comment\n\n two words \n";
    let holds = |matching, folds, key: &str| {
        let form = crate::MapForm { matching, content: crate::Content::List, folds };
        Map::read(text, form).unwrap().holds(key.as_bytes())
    };
    for (matching, folds, key, expected) in [
        (MapMatch::Exact, false, "/Old", true),
        (MapMatch::Exact, false, "/old", false),
        (MapMatch::Exact, true, "/OLD", true),
        (MapMatch::Exact, false, "two words", true),
        (MapMatch::Exact, false, "", false),
        (MapMatch::Begin, true, "/oLDer", true),
        (MapMatch::End, false, "www.example.org", true),
        (MapMatch::Contains, true, "x/old/y", true),
        (MapMatch::DomainInOrder, true, "a.EXAMPLE.org:80", true),
        (MapMatch::Regex, true, "EXAMPLE-ORG", true),
        (MapMatch::Regex, false, "EXAMPLE-ORG", false),
    ] {
        assert_eq!(holds(matching, folds, key), expected, "{matching:?} {folds} {key}");
    }
    let form = crate::MapForm { matching: MapMatch::Network, content: crate::Content::List, folds: false };
    assert!(Map::read("10.0.0.0/8\n2001:db8::/32", form).unwrap().holds(b"10.1.2.3"));
    assert_eq!(Map::read("10.0.0.0/8\nnobody", form).unwrap_err().line, 2);
}

#[test]
fn each_value_is_asked_behind_converters() {
    for (text, expect) in [
        ("text(\"{header-value:X-N,each|upper}\", \"3\")", true),
        ("text(\"{header-value:X-N,each|upper}\", \"12X\")", true),
        ("text(\"{header-value:X-N,-1|upper}\", \"3\")", false),
        ("text(\"{header-line:X-A,each|upper}\", \"ONE\")", true),
        ("number(\"{header-value:X-N,each|length}\") == 1", true),
        ("present(\"{header-value:X-B,each|length}\")", false),
        ("servers-up(\"web\") == 2 && text(\"{servers-up:web}\", \"2\")", true),
    ] {
        assert_eq!(holds(text), expect, "{text}");
    }
}
