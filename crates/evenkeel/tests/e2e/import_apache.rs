//! Apache's access rules beside Apache itself: what it closes stays closed, what it serves is served.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_testbed::{Place, Process, Scripted, eventually, parse_answer, require};

use crate::start;

/// A request: method, path, the last part of the client's address, user and password.
type Ask = (&'static str, &'static str, u8, &'static str);

/// Sections of a host. `exact`: written as it is, a path gets the same status from both; else Evenkeel may only
/// be stricter, and says so.
struct Case {
    exact: bool,
    rules: &'static str,
}

const fn exact(rules: &'static str) -> Case {
    Case { exact: true, rules }
}

const fn stricter(rules: &'static str) -> Case {
    Case { exact: false, rules }
}

const CASES: &[Case] = &[
    exact("<Location /x>\nRequire all denied\n</Location>"),
    exact("<Location /x/>\nRequire all denied\n</Location>"),
    exact("<Location />\nRequire all denied\n</Location>"),
    exact("<Location /x>\nRequire ip 127.0.0.2\n</Location>"),
    exact("<Location /x>\nRequire ip 127.0.0.2/31 127.9\n</Location>"),
    exact(
        "<Location />\nRequire all denied\n</Location>\n<Location /x>\nRequire ip 127.0.0.2\n</Location>\n<Location /x/y>\nRequire all granted\n</Location>",
    ),
    exact("<Location />\nRequire all denied\n</Location>\n<Location /x>\n</Location>"),
    // Kinds of rules do not take each other's place.
    exact(
        "<Location />\nOrder deny,allow\nDeny from all\n</Location>\n<Location /x>\nRequire all granted\n</Location>",
    ),
    exact(
        "<Location />\nRequire all denied\n</Location>\n<Location /x>\nOrder allow,deny\nAllow from all\n</Location>",
    ),
    exact(
        "<Proxy *>\nOrder deny,allow\nDeny from all\nAllow from 127.0.0.2\n</Proxy>\n<Location /x>\nRequire all granted\n</Location>",
    ),
    exact("<Location /x>\nRequire all granted\n</Location>\n<Proxy *>\nRequire all denied\n</Proxy>"),
    exact(
        "<Location />\nOrder deny,allow\nDeny from all\n</Location>\n<Location /x>\nAllow from all\n</Location>",
    ),
    exact("<Location /x>\nOrder allow,deny\n</Location>"),
    exact("<Location /x>\nOrder deny,allow\n</Location>"),
    exact("<Location /x>\nDeny from 127.0.0.2\n</Location>"),
    exact("<Location /x>\nAllow from 127.0.0.2\nDeny from 127\n</Location>"),
    exact(
        "<Location /x>\nOrder mutual-failure\nAllow from 127.0.0.2 127.0.0.3\nDeny from 127.0.0.3\n</Location>",
    ),
    exact("<Location /x>\nOrder allow,deny\nAllow from 127\nOrder deny,allow\nDeny from all\n</Location>"),
    exact(
        "<Location /x>\nOrder deny,allow\nDeny from all\nAllow from 127.0.0.2/255.255.255.255\n</Location>",
    ),
    // Methods.
    exact("<Location /x>\n<Limit GET>\nRequire all denied\n</Limit>\n</Location>"),
    exact("<Location /x>\n<LimitExcept GET>\nRequire all denied\n</LimitExcept>\n</Location>"),
    exact("<Location /x>\n<Limit POST PUT>\nOrder deny,allow\nDeny from all\n</Limit>\n</Location>"),
    exact(
        "<Location /x>\n<LimitExcept GET POST>\nOrder deny,allow\nDeny from all\nAllow from 127.0.0.2\n</LimitExcept>\n</Location>",
    ),
    exact("<Location /x>\nRequire ip 127.0.0.2\n<Limit POST>\nRequire ip 127.0.0.3\n</Limit>\n</Location>"),
    exact("<Location /x>\nDeny from 127.0.0.3\n<Limit POST>\nDeny from 127.0.0.2\n</Limit>\n</Location>"),
    exact("<Location /x>\nRequire method GET POST\n</Location>"),
    exact("<Location /x>\nAllowMethods GET\n</Location>"),
    // Containers.
    exact(
        "<Location /x>\n<RequireAll>\nRequire all granted\nRequire not ip 127.0.0.2\n</RequireAll>\n</Location>",
    ),
    exact(
        "<Location /x>\n<RequireAny>\nRequire ip 127.0.0.2\nRequire method POST\n</RequireAny>\n</Location>",
    ),
    exact(
        "<Location /x>\n<RequireAll>\nRequire ip 127\n<RequireNone>\nRequire ip 127.0.0.2 127.0.0.3\nRequire method PUT\n</RequireNone>\n</RequireAll>\n</Location>",
    ),
    exact(
        "<Location /x>\n<RequireAll>\n<RequireAny>\nRequire ip 127.0.0.2\nRequire ip 127.0.0.3\n</RequireAny>\nRequire not method POST\n</RequireAll>\n</Location>",
    ),
    // Places.
    exact("<LocationMatch \"/x$\">\nRequire all denied\n</LocationMatch>"),
    exact("<Location ~ \"^/(x|z)/\">\nRequire all denied\n</Location>"),
    exact("<Location /x*>\nRequire all denied\n</Location>"),
    exact("<Location /?/y>\nRequire all denied\n</Location>"),
    exact("<Location \"/a b\">\nRequire all denied\n</Location>"),
    exact("<Location /a+b@c>\nRequire all denied\n</Location>"),
    exact("<LocationMatch \"^/a.b\">\nRequire all denied\n</LocationMatch>"),
    exact("<LocationMatch \"^/a[^x]\">\nRequire all denied\n</LocationMatch>"),
    exact("<LocationMatch \"/x\">\nRequire all denied\n</LocationMatch>"),
    exact(
        "<Location />\nRequire all denied\n</Location>\n<LocationMatch \"[.]png$\">\nRequire all granted\n</LocationMatch>",
    ),
    exact(
        "<Location />\nRequire all denied\n</Location>\n<Location /a+b@c>\nRequire all granted\n</Location>",
    ),
    exact("<ProxyMatch .*>\nRequire all denied\n</ProxyMatch>"),
    // Who is asked first: mod_rewrite, ProxyPass, Redirect.
    exact("Redirect 302 /x http://z.test/"),
    exact("Redirect 302 /x http://z.test/\nProxyPass /x/y !"),
    exact("ProxyPass /x !\nRedirect 302 /x/y http://z.test/\nRedirectMatch 301 ^/x$ http://z.test/"),
    // Rules of mod_rewrite that refuse.
    exact("RewriteEngine on\nRewriteRule ^/x/ - [F]"),
    exact("RewriteEngine on\nRewriteCond %{REQUEST_METHOD} ^(PUT|TRACE)\nRewriteRule .* - [F]"),
    exact("RewriteEngine on\nRewriteRule \"^/a b$\" - [F,NC]"),
    // Conditions of the configuration.
    exact(
        "<Location /x>\n<IfModule mod_authz_core.c>\nRequire all denied\n</IfModule>\n<IfModule !mod_authz_core.c>\nOrder allow,deny\nAllow from all\n</IfModule>\n</Location>",
    ),
    exact(
        "<IfVersion < 2.4>\n<Location />\nOrder allow,deny\nAllow from all\n</Location>\n</IfVersion>\n<IfVersion >= 2.4>\n<Location />\nRequire ip 127.0.0.2\n</Location>\n</IfVersion>",
    ),
    // Passwords.
    exact(
        "<Location /x>\nAuthType Basic\nAuthName \"s\"\nAuthUserFile USERS\nRequire valid-user\n</Location>",
    ),
    exact(
        "<Location /x>\nAuthType Basic\nAuthName \"s\"\nAuthBasicProvider file\nAuthUserFile USERS\nRequire valid-user\nRequire ip 127.0.0.2\n</Location>",
    ),
    exact(
        "<Location /x>\nAuthType Basic\nAuthName \"s\"\nAuthUserFile USERS\n<RequireAll>\nRequire valid-user\nRequire ip 127.0.0.2\n</RequireAll>\n</Location>",
    ),
    exact(
        "<Location /x>\nAuthType Basic\nAuthName \"s\"\nAuthUserFile USERS\nRequire valid-user\nOrder deny,allow\nDeny from 127.0.0.2\n</Location>",
    ),
    exact(
        "<Location />\nAuthType Basic\nAuthName \"s\"\nAuthUserFile USERS\nRequire valid-user\n</Location>\n<Location /x>\nRequire all granted\n</Location>",
    ),
    exact(
        "<Location />\nAuthType Basic\nAuthName \"s\"\nAuthUserFile USERS\nRequire all granted\n</Location>\n<Location /x>\nRequire valid-user\n</Location>",
    ),
    exact(
        "<Location /x>\nAuthType Basic\nAuthName \"s\"\nAuthUserFile USERS\n<Limit POST>\nRequire valid-user\n</Limit>\n</Location>",
    ),
    // Those of other names get 403 here, and are asked again by Apache.
    stricter(
        "<Location /x>\nAuthType Basic\nAuthName \"s\"\nAuthUserFile USERS\nRequire user ann\n</Location>",
    ),
    stricter(
        "<Location /x>\nAuthType Basic\nAuthName \"s\"\nAuthUserFile USERS\n<RequireAll>\nRequire valid-user\nRequire not user bob\n</RequireAll>\n</Location>",
    ),
    // What no route can ask.
    stricter(
        "<Location /x>\nAuthType Basic\nAuthName \"s\"\nAuthUserFile USERS\nRequire valid-user\nOrder deny,allow\nDeny from all\nAllow from 127.0.0.2\nSatisfy any\n</Location>",
    ),
    stricter("<Location /x>\nRequire host localhost\n</Location>"),
    stricter("<Location /x>\nRequire host example.org\nRequire ip 127.0.0.2\n</Location>"),
    stricter("<Location /x>\nOrder allow,deny\nAllow from all\nDeny from example.org\n</Location>"),
    stricter("<Location /x>\nOrder allow,deny\nAllow from example.org 127.0.0.2\n</Location>"),
    stricter("SetEnvIf User-Agent test in\n<Location /x>\nRequire env in\n</Location>"),
    stricter("<Location /x>\nOrder deny,allow\nDeny from all\nAllow from env=in\n</Location>"),
    stricter("<Location /x>\nRequire expr \"%{REQUEST_METHOD} == 'GET'\"\n</Location>"),
    stricter(
        "<Location />\nRequire ip 127.0.0.2\n</Location>\n<Location /x>\nAuthMerging And\nRequire ip 127.0.0.3 127.0.0.2\n</Location>",
    ),
    stricter(
        "<Location />\nRequire all granted\n</Location>\n<If \"%{REQUEST_URI} =~ m#^/x#\">\nRequire all denied\n</If>",
    ),
    stricter("<Location />\nRequire all denied\n<If \"true\">\nRequire all granted\n</If>\n</Location>"),
    stricter("<LocationMatch \"^/(?=x)\">\nRequire all denied\n</LocationMatch>"),
    stricter("<Location /[xz]>\nRequire all denied\n</Location>"),
    stricter("<Proxy http://SERVER/>\nRequire all denied\n</Proxy>"),
    stricter("<Location /x>\nRequire valid-user\n</Location>"),
    stricter("<Location /x>\nRequire local\n</Location>"),
    stricter("<Location /x>\nAuthType Basic\nAuthName \"s\"\nAuthUserFile USERS\n</Location>"),
];

/// As they are written by those who mean no harm.
const PLAIN: &[&str] =
    &["/", "/x", "/x/", "/x/y", "/xy", "/z/", "/x?q=1", "/a/x", "/a.png", "/a%20b", "/a+b@c"];
/// Other spellings, and what looks like one.
const ODD: &[&str] = &[
    "//x",
    "/./x",
    "/a/../x",
    "/%78",
    "/%2e/x",
    "/x//y",
    "/x;a=b",
    "/x%2fy",
    "/a/..;/x",
    "/X",
    "/a%2bb%40c",
    "/a%2Bb@c",
    "/s/a.png;b",
    "/s;a.png",
    "/a%2epng",
    "/x%00",
    "/%2578",
    "/a%25b",
    "/x/%2e%2e/s",
    "/x/../s",
    "/x/y/..",
    "/x/..;/s",
    "/s;a=/x/y",
    "/s;x/a/x",
];

fn asks() -> Vec<(bool, Ask)> {
    let mut all: Vec<(bool, Ask)> = Vec::new();
    all.extend(PLAIN.iter().map(|path| (true, ("GET", *path, 1, ""))));
    all.extend(ODD.iter().map(|path| (false, ("GET", *path, 1, ""))));
    for client in [2, 3] {
        all.extend(["/", "/x", "/x/y"].map(|path| (true, ("GET", path, client, ""))));
    }
    for method in ["HEAD", "POST", "PUT"] {
        all.extend([1, 2, 3].map(|client| (true, (method, "/x", client, ""))));
    }
    for user in ["ann:secret", "ann:wrong", "bob:other", "eve:", ":"] {
        all.extend([1, 2].map(|client| (true, ("GET", "/x", client, user))));
    }
    all.push((true, ("POST", "/x", 1, "ann:secret")));
    all
}

/// The status that a client of this address gets.
fn status(at: SocketAddr, (method, path, client, user): Ask) -> u16 {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, client)), 0)).unwrap();
    connect(&socket, &at).unwrap_or_else(|e| panic!("{at}: {e}"));
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let login = match user {
        "" => String::new(),
        _ => format!("Authorization: Basic {}\r\n", base64(user)),
    };
    let length = if method == "GET" || method == "HEAD" { "" } else { "Content-Length: 0\r\n" };
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{login}{length}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut bytes);
    parse_answer(&bytes, method, true).map_or(0, |(answer, _)| answer.status)
}

fn base64(text: &str) -> String {
    const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for part in text.as_bytes().chunks(3) {
        let bits =
            part.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for at in 0..4 {
            let sign = SIGNS[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= part.len() { char::from(sign) } else { '=' });
        }
    }
    out
}

const MODULES: &str = "mpm_event authn_core authn_file authz_core authz_host authz_user authz_groupfile auth_basic \
                       access_compat allowmethods alias rewrite setenvif env headers proxy proxy_http";

/// The hosts, each at a port of its own, with what stands before them.
fn written(place: &Place, at: impl Fn(usize) -> SocketAddr, server: SocketAddr) -> String {
    let folder = place.folder().display();
    let mut text = format!("ServerRoot {folder}\nServerName test\nDocumentRoot {folder}/www\n");
    for (number, case) in CASES.iter().enumerate() {
        let rules =
            case.rules.replace("USERS", &format!("{folder}/users")).replace("SERVER", &server.to_string());
        let vip = at(number);
        text += &format!(
            "<VirtualHost {vip}>\nServerName a{number}.test\nProxyPreserveHost On\n{rules}\nProxyPass / http://{server}/\n</VirtualHost>\n"
        );
    }
    text
}

/// Debian's Apache with these modules and lines.
pub fn apache(place: &Place, modules: &str, lines: &str) -> Process {
    let folder = place.folder().display();
    std::fs::create_dir_all(place.file("www")).unwrap();
    let modules: Vec<String> = modules
        .split_whitespace()
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .collect();
    let config = format!("PidFile {folder}/pid\nErrorLog {folder}/error.log\n{}{lines}", modules.concat());
    let file = place.write("apache.conf", config);
    let tried = Command::new("apache2").arg("-t").arg("-f").arg(&file).output().unwrap();
    assert!(tried.status.success(), "{}", String::from_utf8_lossy(&tried.stderr));
    Process::start(Command::new("apache2").args(["-DFOREGROUND", "-f"]).arg(file).stderr(Stdio::null()))
}

#[test]
fn what_apache_closes_stays_closed() {
    if !require(&["apache2", "htpasswd"]) {
        return;
    }
    let (place, other) = (Place::new("import-apache"), Place::new("import-apache-other"));
    let server = place.at(9001);
    let _server =
        Scripted::answering(server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let users = place.file("users").display().to_string();
    for (flags, name, password) in [("-bcB", "ann", "secret"), ("-bB", "bob", "other")] {
        let done =
            Command::new("htpasswd").args([flags, "-C", "5", &users, name, password]).output().unwrap();
        assert!(done.status.success());
    }
    let theirs = |number: usize| place.at(20_000 + number as u16);
    let ours = |number: usize| other.at(20_000 + number as u16);
    let listen: Vec<String> = (0..CASES.len()).map(|number| format!("Listen {}\n", theirs(number))).collect();
    let closed = "<Directory />\nRequire all denied\n</Directory>\n";
    let lines = format!("{}{closed}{}", listen.concat(), written(&place, theirs, server));
    let _apache = apache(&place, MODULES, &lines);
    let source = place.write("hosts.conf", written(&place, ours, server));
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(["import", "apache"])
        .arg(&source)
        .output()
        .unwrap();
    let (text, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "what cannot be said is told: {told}\n{text}");
    let _evenkeel = start(&other, &text);
    let last = CASES.len() - 1;
    eventually("both serve", Duration::from_secs(20), || {
        [theirs(last), ours(last)].iter().all(|at| TcpStream::connect(at).is_ok())
    });
    let mut wrong = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        for (is_plain, ask) in asks() {
            let (expected, got) = (status(theirs(number), ask), status(ours(number), ask));
            let is_open = |status: u16| status == 200;
            // What Apache takes for no path at all is no matter of its rules, where they let the rest in.
            if expected == 404 && is_open(status(theirs(number), ("GET", "/x", ask.2, ask.3))) {
                continue;
            }
            // What is excluded was Apache's own, which has several words for nothing.
            let nothing = case.rules.contains(" !") && expected >= 400 && got >= 400;
            let same = !case.exact || !is_plain || expected == got || nothing;
            if is_open(got) && !is_open(expected) || !same {
                wrong.push(format!("{ask:?}: Apache {expected}, Evenkeel {got}\n{}", case.rules));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}\n{told}", wrong.len(), wrong.join("\n\n"));
    // Each of those that are stricter is told with its line.
    let source = std::fs::read_to_string(source).unwrap();
    for case in CASES
        .iter()
        .filter(|case| !case.exact && !case.rules.contains("user ann") && !case.rules.contains("local\n"))
    {
        let first = case.rules.lines().next().unwrap().replace("SERVER", &server.to_string());
        let begins = source.lines().position(|line| line == first);
        assert!(begins.is_some(), "{first}");
        let lines = case.rules.lines().map(|line| line.replace("USERS", &users));
        let mut words = lines.filter(|line| line.len() > 4 && !line.starts_with("</"));
        assert!(words.any(|line| told.contains(line.replace('"', "").as_str())), "{}\n{told}", case.rules);
    }
}
