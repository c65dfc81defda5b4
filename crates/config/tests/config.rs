//! What a person sees of the configuration: errors that point, formatting that keeps, plans.

use evenkeel_config::{Report, format, json_schema, plan, read};
use proptest::prelude::*;

const GOOD: &str = r#"
[admin]
plain-listen = ["127.0.0.1:9080"]
socket = "/run/evenkeel/admin.sock"

[limits]
max-connections = 40000

[[virtual-service]]
name = "web"
vip = ["127.0.0.1:8080", "[::1]:8080"]   # both families
mode = "http"
scheduler = "least-connections"
persistence = { type = "cookie", name = "SERVERID", method = "insert", indirect = true, nocache = true, httponly = true }
timeouts = { connect = "4s", client = "42s", server = "43s", queue = "10s" }
forwarded = ["x-forwarded-for", "x-forwarded-proto"]
health-check = { type = "http", path = "/healthz", interval = "2s", timeout = "1s", rise = 2, fall = 3 }
fallback = { status = 503, body = "Back soon." }

  [[virtual-service.real-server]]
  name = "web1"
  address = "127.0.0.1:9001"
  weight = 100

  [[virtual-service.real-server]]
  name = "web2"
  address = "127.0.0.1:9002"
  weight = 100
  max-connections = 500

[[virtual-service]]
name = "mail"
vip = ["127.0.0.1:25,465,587"]
mode = "tcp"
pool = "mail"

[[pool]]
name = "mail"
scheduler = "round-robin"
  [[pool.real-server]]
  name = "m1"
  address = "127.0.0.1:9101"
"#;

fn report(text: &str) -> String {
    match read(text) {
        Ok(_) => String::new(),
        Err(problems) => Report { file: "test.toml", text, problems: &problems }.to_string(),
    }
}

#[test]
fn a_good_file_becomes_a_snapshot() {
    let snapshot = read(GOOD).unwrap_or_else(|_| panic!("{}", report(GOOD)));
    assert_eq!(snapshot.services.len(), 2);
    assert_eq!(snapshot.pools.len(), 2);
    let web = snapshot.service("web").unwrap();
    assert_eq!(web.vips.len(), 2);
    assert_eq!(web.timeouts.server.as_secs(), 43);
    assert_eq!(snapshot.service("mail").unwrap().vips[0].ports.count(), 3);
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once_with_its_place() {
    let text = r#"[[virtual-service]]
name = "web"
vip = ["127.0.0.1:80"]
mode = "htpp"
sheduler = "round-robin"
persistence = { type = "cookei" }
timeouts = { connect = "4 s" }

  [[virtual-service.real-server]]
  name = "a b"
  address = "we b:80"
  weight = 70000
"#;
    let expect = r#"test.toml:4:8: error: `mode` has no choice "htpp"
4 | mode = "htpp"
  |        ^^^^^^
  = help: did you mean "http"?
test.toml:5:1: error: `virtual-service` has no key "sheduler"
5 | sheduler = "round-robin"
  | ^^^^^^^^
  = help: did you mean `scheduler`?
test.toml:6:24: error: `persistence` has no type "cookei"
6 | persistence = { type = "cookei" }
  |                        ^^^^^^^^
  = help: did you mean "cookie"?
test.toml:7:24: error: `connect`: unknown unit " s", expected one of ms, s, m, h, d
7 | timeouts = { connect = "4 s" }
  |                        ^^^^^
  = help: expected a duration such as "2s"
test.toml:10:10: error: `name`: a name holds letters, digits and . _ : - only, this one holds ' '
10 |   name = "a b"
   |          ^^^^^
   = help: expected a name in quotes
test.toml:11:13: error: `address`: "we b" is not an IPv4 or IPv6 address
11 |   address = "we b:80"
   |             ^^^^^^^^^
   = help: expected an address or a name, with or without a port, such as "192.0.2.10:80"
test.toml:12:12: error: `weight` is out of range
12 |   weight = 70000
   |            ^^^^^
   = help: a whole number from 0 to 65535
7 errors in test.toml
"#;
    assert_eq!(report(text), expect);
}

#[test]
fn single_mistakes() {
    let base = |service: &str, more: &str| {
        format!(
            "[[virtual-service]]\nname = \"web\"\nvip = [\"127.0.0.1:80\"]\nmode = \"http\"\n{service}\n[[virtual-service.real-server]]\nname = \"a\"\naddress = \"127.0.0.1:9001\"\n{more}"
        )
    };
    let check = |text: &str, expect: &str| {
        let report = report(text);
        assert!(report.contains(expect), "expected {expect:?} in:\n{report}\nfor:\n{text}");
    };
    assert_eq!(report(&base("", "")), "");
    let everywhere = base("", "").replace("127.0.0.1:80", "*:80,443");
    let vips: Vec<String> =
        read(&everywhere).unwrap().services[0].vips.iter().map(ToString::to_string).collect();
    assert_eq!(vips, ["0.0.0.0:80,443", "[::]:80,443"]);
    check(&everywhere.replace("\"*:80,443\"", "\"*:80\", \"0.0.0.0:80\""), "0.0.0.0:80 is already taken");
    check(&base("tls = { certificates = [] }", ""), "`tls` names no certificate");
    check(
        &base("tls = { certificates = [\"/a.pem\"], ports = [1] }", ""),
        "no `vip` of this service has port 1",
    );
    check(&base("scheduler = \"header-hash\"", ""), "needs `hash-key`");
    check(&base("hash-key = \"X-User\"", ""), "`hash-key` does nothing with scheduler \"round-robin\"");
    check(&base("hash-balance-factor = 150", ""), "does nothing with scheduler \"round-robin\"");
    check(&base("scheduler = \"uri-hash\"\nhash-balance-factor = 90", ""), "could take everything");
    check(&base("scheduler = \"rdp-cookie-hash\"", ""), "\"rdp-cookie-hash\" needs mode \"tcp\"");
    assert_eq!(report(&base("scheduler = \"least-response-time\"", "")), "");
    check(
        &base("persistence = { type = \"rdp-cookie\", expire = \"1h\" }", ""),
        "persistence by rdp-cookie needs mode \"tcp\"",
    );
    check(&base("[[virtual-service.route]]\nname = \"x\"", ""), "the route x does nothing");
    assert_eq!(report(&base("", "").replace("127.0.0.1:9001", "127.0.0.9")), "");
    check(
        "[[pool]]\nname = \"p\"\n[[pool.real-server]]\nname = \"a\"\naddress = \"127.0.0.9\"\n",
        "has no port, so its health check needs one",
    );
    let routed = |keys: &str| {
        base("", "").replace(
            "[[virtual-service.real",
            &format!("[[virtual-service.route]]\n{keys}\n[[virtual-service.real"),
        )
    };
    check(&routed("when = 'path(\"/a\" && tls()'\ndeny = {}"), "expected `,` or `)`, found `&&`");
    check(&routed("when = 'pth(\"/a\")'\ndeny = {}"), "test.toml:7:9: error: there is no function `pth`");
    check(&routed("pool = \"wbe\""), "did you mean \"web\"?");
    check(&routed("deny = {}\nredirect = { location = \"/\" }"), "ends in several ways");
    check(&routed("redirect = { location = \"/{pth}\" }"), "there is no variable {pth}");
    check(&routed("redirect = { location = \"/\", status = 305 }"), "305 is no redirection");
    check(&routed("set-header = { Content-Length = \"5\" }"), "says how the message is framed");
    check(&routed("set-header = { \"X A\" = \"5\" }"), "not a single word");
    check(&routed("track = \"t\""), "there is no table named t");
    let tables = |more: &str| format!("[[table]]\nname = \"a\"\n[[table]]\nname = \"b\"\n{more}\n");
    assert_eq!(report(&tables("key = \"{port}\"\nentries-of = \"a\"")), "");
    check(&tables("entries-of = \"c\""), "there is no table c with entries before this one");
    check(&tables("entries-of = \"b\""), "there is no table b with entries");
    check(&tables("entries-of = \"a\"\nsize = 16"), "`size` is said by the table a");
    check(
        &tables("entries-of = \"a\"\n[[table]]\nname = \"c\"\nentries-of = \"b\""),
        "no table b with entries",
    );
    check(&routed("when = 'rate(\"t\", \"requests\") > 1'\ndeny = {}"), "there is no table named t");
    check(&routed("rate-limit = { rate = \"5\" }"), "not a rate");
    check(&routed("when = 'path(\"/a\")'\ndeny = {}").replace("\"http\"", "\"tcp\""), "does not read");
    check(&routed("redirect = { location = \"/\" }").replace("\"http\"", "\"tcp\""), "`redirect` needs mode");
    check(
        &routed("set-header = { A = \"{source}\" }").replace("\"http\"", "\"tcp\""),
        "`set-header` needs mode",
    );
    check(&routed("set-variable = { a = \"{path}\" }").replace("\"http\"", "\"tcp\""), "does not read");
    assert_eq!(report(&routed("set-variable = { a = \"{sni|lower}\" }").replace("\"http\"", "\"tcp\"")), "");
    check(&routed("when = 'status == 500'\ndeny = {}"), "asks about an answer, which there is none of yet");
    check(&routed("set-header = { X = \"{status}\" }"), "asks about an answer");
    let answered = |keys: &str| routed(keys).replace("virtual-service.route", "virtual-service.answer-route");
    assert_eq!(report(&answered("when = 'status >= 500'\ndeny = {}")), "");
    check(&answered("when = 'status >= 500'"), "does nothing");
    check(&answered("of = \"own\"\ndeny = {}"), "neither denied nor replaced");
    check(&answered("deny = {}\nredirect = { location = \"/\" }"), "several ways");
    check(&answered("pool = \"web\""), "has no key \"pool\"");
    check(&answered("set-header = { Content-Length = \"5\" }"), "says how the message is framed");
    check(&answered("stop = true").replace("\"http\"", "\"tcp\""), "`answer-route` needs mode");
    check(&base("error-pages = { 200 = \"/x\" }", ""), "no status from 400 to 599");
    check(&base("source = \"me\"", ""), "neither an address nor");
    check("[pair]\nname = \"lb1\"", "a pair needs `peer`, or [[pair.vrrp]]");
    let peer = "[pair]\nname = \"lb1\"\npeer = \"10.0.0.2:9694\"\n";
    check(&format!("{peer}listen = \"[::1]:9694\""), "different families");
    check(
        "[pair]\nname = \"lb1\"\nserial = \"/dev/ttyS0\"\n[[pair.vrrp]]\ninterface = \"e\"\nrouter-id = 1",
        "`serial` needs `peer`",
    );
    let router = "[[pair.vrrp]]\ninterface = \"eth0\"\nrouter-id = 5\n";
    check(&format!("{peer}{router}{router}"), "a second virtual router 5 on eth0");
    check(&format!("[pair]\nname = \"lb1\"\n{router}version = 2\ninterval = \"500ms\""), "whole seconds");
    check(&format!("{peer}{router}unicast = [\"::1\"]"), "of another family");
    check(
        &format!(
            "{peer}[[virtual-service]]\nname = \"w\"\nvip = [\"10.0.0.9:80\"]\nmode = \"snat\"\n[[virtual-service.real-server]]\nname = \"a\"\naddress = \"10.0.0.1:80\""
        ),
        "has no source-addresses",
    );
    check(&base("pool = \"x\"", ""), "names a pool and has real servers of its own");
    check(
        "[[virtual-service]]\nname = \"w\"\nvip = [\"127.0.0.1:80\"]\nmode = \"http\"\n",
        "has no real servers",
    );
    check(
        "[[virtual-service]]\nname = \"w\"\nvip = [\"127.0.0.1:80\"]\nmode = \"http\"\npool = \"apo\"\n[[pool]]\nname=\"api\"\n",
        "did you mean \"api\"?",
    );
    check(
        "[[virtual-service]]\nname = \"w\"\nvip = [\"127.0.0.1:80\"]\nmode = \"http\"\npool = \"api\"\nscheduler = \"first\"\n[[pool]]\nname=\"api\"\n",
        "belongs to the pool api",
    );
    check(
        &base("", "[[virtual-service.real-server]]\nname = \"a\"\naddress = \"127.0.0.1:9002\"\n"),
        "second real server named a",
    );
    check(
        &base("", "[[virtual-service.real-server]]\nname = \"b\"\naddress = \"127.0.0.1:9001\"\n"),
        "has the address of a",
    );
    check(&base("", "").repeat(2), "a second virtual service is named web");
    check(
        &format!("{}{}", base("", ""), base("", "").replace("\"web\"", "\"web2\"")),
        "127.0.0.1:80 is already taken by virtual service web",
    );
    check(&base("", "").replace("127.0.0.1:80\"", "127.0.0.1:9001\""), "own VIP");
    check(
        &base("persistence = { type = \"cookie\" }", "").replace("\"http\"", "\"tcp\""),
        "needs mode \"http\"",
    );
    check(&base("scheduler = \"uri-hash\"", "").replace("\"http\"", "\"tcp\""), "needs mode \"http\"");
    check(&base("forwarded = [\"x-forwarded-for\"]", "").replace("\"http\"", "\"tcp\""), "does not read");
    check(&base("fallback = { status = 503, server = \"127.0.0.1:1\" }", ""), "a page and a server at once");
    check(&base("", "").replace(":80\"", ":*\""), "a service of mode \"http\" cannot have all ports (`*`)");
    check(&base("", "").replace(":80\"", ":1-60000\""), "listens on 60000 ports");
    check(&base("", "").replace(":80\"", ":0\""), "is not a port");
    check(&base("name = \"x\"", ""), "duplicate key");
    check("virtual-service = 5", "a list of tables, written [[virtual-service]]");
    check("[limits]\nmax-connections = \"many\"", "`max-connections` is a whole number");
    check("[limits]\nmax-connections = 99999999999999999999", "`max-connections` is out of range");
    check("[log]\naccess = \"nowhere\"", "none of these");
    check("[admin]\nplain-listen = [\"127.0.0.1:80\", \"127.0.0.1:80\"]", "already taken");
    check("[state]\ndirectory = \"relative\"", "not an absolute path");
    check("[[virtual-service]]\nname = \"a\\u001b[2J\"", "holds");
    assert!(!report("a = \"\\u001b[31m\"\n# \u{1b}[2J x\nb = 1").contains('\u{1b}'));
}

#[test]
fn a_file_cut_at_any_byte_is_refused_or_read_but_never_a_panic() {
    for end in (0..GOOD.len()).filter(|i| GOOD.is_char_boundary(*i)) {
        let text = &GOOD[..end];
        if let Err(problems) = read(text) {
            assert!(!problems.is_empty());
            report(text);
        }
        let _ = format(text);
    }
}

#[test]
fn formatting_keeps_comments_and_meaning_and_settles() {
    let messy = r#"

# who: ops
[admin]
plain-listen=[ "127.0.0.1:9080", ]   # local only


[[virtual-service]]
# the shop
name="web"
vip = ["127.0.0.1:8080"
  , "[::1]:8080"]
mode = "http"

# sticky
persistence = {type="source",mask=24}
[[virtual-service.real-server]]
name = "web1"
# rack 4
address = "127.0.0.1:9001"
# the end
"#;
    let expect = r#"# who: ops
[admin]
plain-listen = ["127.0.0.1:9080"]  # local only

[[virtual-service]]
# the shop
name = "web"
vip = ["127.0.0.1:8080", "[::1]:8080"]
mode = "http"

# sticky
persistence = { type = "source", mask = 24 }

  [[virtual-service.real-server]]
  name = "web1"
  # rack 4
  address = "127.0.0.1:9001"
# the end
"#;
    assert_eq!(format(messy).unwrap(), expect);
    assert_eq!(format(expect).unwrap(), expect);
    assert_eq!(read(messy).unwrap(), read(expect).unwrap());
    let good = format(GOOD).unwrap();
    assert_eq!(format(&good).unwrap(), good);
    assert_eq!(read(&good).unwrap(), read(GOOD).unwrap());
}

#[test]
fn plans_say_what_happens() {
    let old = read(GOOD).unwrap();
    assert_eq!(plan(&old, &old).to_string(), "nothing changes\n");
    let text = GOOD
        .replace("weight = 100\n  max", "weight = 50\n  max")
        .replace("\"least-connections\"", "\"first\"")
        .replace("127.0.0.1:25,465,587", "127.0.0.1:25");
    let new = read(&text).unwrap();
    assert_eq!(
        plan(&old, &new).to_string(),
        "~ pool web: scheduler least-connections becomes first  (new connections follow the new rule, established ones finish)\n\
         ~ real server web/web2: weight 100 becomes 50  (new connections follow the new rule, established ones finish)\n\
         - virtual service mail: VIP 127.0.0.1:25,465,587  (established connections finish, no new ones)\n\
         + virtual service mail: VIP 127.0.0.1:25  (no connection notices)\n"
    );
}

#[test]
fn a_real_server_has_keys_of_its_own_in_the_check() {
    let text = |own: &str| {
        GOOD.replace("weight = 100\n  max", &format!("weight = 100\n  health-check = {own}\n  max"))
    };
    let snapshot = read(&text("{ port = 8008, rise = 5, interval = \"700ms\" }")).unwrap();
    let pool = snapshot.pools.iter().find(|p| p.name.as_str() == "web").unwrap();
    let [one, two] = [0, 1].map(|at| pool.check_of(&pool.real_servers[at]));
    assert_eq!(*one, pool.health_check);
    assert_eq!((two.port, two.rise, two.fall, two.interval.as_millis()), (Some(8008), 5, 3, 700));
    assert_eq!((&two.probe, two.timeout), (&one.probe, one.timeout));
    let plan = plan(&read(GOOD).unwrap(), &snapshot).to_string();
    assert_eq!(
        plan,
        "~ real server web/web2: health-check port its own becomes 8008, health-check interval 2s becomes 700ms, health-check rise 2 becomes 5  (new connections follow the new rule, established ones finish)\n"
    );
    let check = |text: &str, expect: &str| assert!(report(text).contains(expect), "{}", report(text));
    check(&text("{ prot = 1 }"), "did you mean `port`?");
    check(&text("{ path = \"/\" }"), "has no key \"path\"");
    check(&text("8008"), "`health-check` is");
    let ping = text("{ port = 1, tls = {} }")
        .replace("{ type = \"http\", path = \"/healthz\",", "{ type = \"ping\",");
    check(&ping, "`tls` does nothing");
    let none = GOOD.replace("9101\"", "9101\"\n  health-check = { port = 1 }");
    assert_eq!(report(&none), "");
    let none = none.replace("round-robin\"", "round-robin\"\nhealth-check = { type = \"none\" }");
    check(&none, "the pool probes nobody");
    // A server without a port needs one for its check, its own or the pool's.
    let portless = GOOD.replace("127.0.0.1:9101\"", "127.0.0.1\"\n  health-check = { port = 1 }");
    assert_eq!(report(&portless), "");
    check(&portless.replace("port = 1", "rise = 1"), "has no port, so its health check needs one");
}

#[test]
fn a_hundred_thousand_services_are_checked_in_seconds() {
    let mut text = String::new();
    for i in 0..100_000u32 {
        let [_, b, c, d] = i.to_be_bytes();
        text.push_str(&format!("[[virtual-service]]\nname = \"s{i}\"\nvip = [\"10.{b}.{c}.{d}:80\"]\nmode = \"http\"\n[[virtual-service.real-server]]\nname = \"r\"\naddress = \"127.0.0.1:9001\"\n"));
    }
    assert_eq!(read(&text).unwrap().services.len(), 100_000);
}

#[test]
fn what_is_hardly_meant_is_told() {
    let told = |keys: &str| {
        let text = format!(
            "[[virtual-service]]\nname = \"web\"\nvip = [\"127.0.0.1:80\"]\nmode = \"http\"\npersistence = {{ type = \"cookie\", {keys} }}\n[[virtual-service.real-server]]\nname = \"a\"\naddress = \"127.0.0.1:9001\"\n"
        );
        evenkeel_config::warnings(&read(&text).unwrap()).join("\n")
    };
    assert!(told("samesite = \"none\"").contains("browsers refuse it"));
    for good in ["samesite = \"none\", secure = true", "samesite = \"lax\"", "name = \"S\""] {
        assert_eq!(told(good), "");
    }
}

#[test]
fn mistakes_in_layer_4() {
    let base = |mode: &str, vip: &str, address: &str, service: &str| {
        format!(
            "[[virtual-service]]\nname = \"web\"\nvip = [\"{vip}\"]\nmode = \"{mode}\"\n{service}\n[[virtual-service.real-server]]\nname = \"a\"\naddress = \"{address}\"\n"
        )
    };
    let check = |text: &str, expect: &str| {
        let report = report(text);
        let right = if expect.is_empty() { report.is_empty() } else { report.contains(expect) };
        assert!(right, "expected {expect:?} in:\n{report}\nfor:\n{text}");
    };
    let (vip, real) = ("10.0.0.100:80", "10.0.0.1");
    for mode in ["dr", "nat", "tun", "snat"] {
        check(&base(mode, vip, real, ""), "");
        for all in ["*:80", "0.0.0.0:80", "[::]:80"] {
            check(&base(mode, all, real, ""), "forwards packets of single addresses");
        }
        check(&base(mode, vip, "10.0.0.100", ""), "has the VIP 10.0.0.100 as its address");
        let moves = "persistence = { type = \"source\", drained = \"move\" }";
        check(&base(mode, vip, real, moves), "needs a proxy");
        check(&base(mode, vip, real, "tls = { certificates = [\"/a.pem\"] }"), "`tls` does nothing in mode");
        check(&base(mode, vip, real, "retries = 2"), "`retries` does nothing in mode");
        check(&base(mode, vip, real, "timeouts = { client = \"5s\" }"), "`timeouts.client` does nothing");
        check(&base(mode, vip, real, "persistence = { type = \"cookie\" }"), "needs a proxy");
        check(&base(mode, vip, real, "scheduler = \"uri-hash\""), "reads requests");
        check(&base(mode, vip, real, "fallback = { status = 503 }"), "a fallback page needs mode");
    }
    check(&base("dr", vip, "10.0.0.1:8080", ""), "cannot change ports");
    check(&base("dr", vip, "10.0.0.1:80", ""), "");
    check(&base("nat", vip, "10.0.0.1:8080", ""), "");
    check(&base("nat", vip, "[fd00::1]:80", ""), "not of one IP version");
    check(&base("tun", vip, "fd00::1", ""), "");
    check(&base("nat", vip, real, "tunnel = \"gue\""), "`tunnel` does nothing in mode \"nat\"");
    check(&base("snat", vip, real, "source-ports = \"1-2,5\""), "not a range of ports");
    check(&base("http", vip, "10.0.0.1:80", "protocol = \"udp\""), "does nothing in mode \"http\"");
    check(&base("tcp", vip, "10.0.0.1:80", "scheduler = \"never-queue\""), "does nothing in mode \"tcp\"");
    let two = |first: &str, second: &str| {
        base("dr", first, real, "") + &base("nat", second, "10.0.0.2", "").replace("\"web\"", "\"two\"")
    };
    check(&two("10.0.0.100:80-90", "10.0.0.100:85"), "10.0.0.100:85 is already taken by virtual service web");
    check(&two("10.0.0.100:*", "10.0.0.100:443"), "10.0.0.100:443 is already taken");
    check(&two("10.0.0.100:80", "10.0.0.101:80"), "");
    let http = base("http", vip, "10.0.0.1:80", "").replace("\"web\"", "\"two\"");
    check(&(base("dr", "10.0.0.100:*", real, "") + &http), "already taken by virtual service");
    check(&(http + &base("dr", "10.0.0.100:*", real, "")), "already taken by virtual service");
}

#[test]
fn the_schema_knows_the_keys() {
    let schema = json_schema();
    let service = &schema["properties"]["virtual-service"]["items"];
    assert_eq!(service["required"], serde_json::json!(["name", "vip", "mode"]));
    assert_eq!(
        service["properties"]["mode"]["enum"],
        serde_json::json!(["http", "tcp", "dr", "nat", "tun", "snat"])
    );
    assert!(schema["properties"].get("pair").is_some());
}

#[test]
fn the_reference_pages_are_current() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let schema = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    for (file, made) in [
        ("configuration.md", evenkeel_config::reference_markdown()),
        ("routes.md", evenkeel_config::routes_markdown()),
        ("evenkeel.schema.json", schema),
    ] {
        let path = root.join(file);
        if std::env::var_os("UPDATE_REFERENCE").is_some() {
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(&path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == made, "{file} drifted: run UPDATE_REFERENCE=1 cargo test -p evenkeel-config");
    }
}

/// The blocks of a page that are marked as TOML.
fn examples(page: &str) -> Vec<String> {
    let text =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page))
            .unwrap();
    let blocks = text.split("```toml\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or("").to_owned()).collect()
}

#[test]
fn every_example_of_the_documentation_is_right() {
    let pages = [
        "configuration",
        "tls",
        "certificates",
        "routes",
        "persistence",
        "addresses",
        "health",
        "coming-from",
        "recipes",
        "discovery",
    ];
    let blocks: Vec<String> = pages.iter().flat_map(|page| examples(&format!("docs/{page}.md"))).collect();
    assert!(blocks.len() >= 13);
    for block in blocks {
        assert_eq!(report(&block), "", "{block}");
    }
    let readme =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md"))
            .unwrap();
    let inline = readme.split("<<'END'\n").nth(1).and_then(|rest| rest.split("\nEND").next()).unwrap();
    assert_eq!(report(inline), "");
}

proptest! {
    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..2000) {
        let noise = String::from_utf8_lossy(&bytes);
        let mut text = GOOD.to_owned();
        let at = at.min(text.len());
        if text.is_char_boundary(at) {
            text.insert_str(at, &noise);
        }
        report(&text);
        report(&noise);
        if let Ok(formatted) = format(&text) {
            prop_assert_eq!(format(&formatted).unwrap(), formatted.clone());
            prop_assert_eq!(read(&formatted).is_ok(), read(&text).is_ok());
        }
    }
}
