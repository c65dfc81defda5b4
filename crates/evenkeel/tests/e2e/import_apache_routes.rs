//! What Apache passes on beside Apache itself: the same requests reach the same servers with the same paths.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use evenkeel_testbed::{Place, Scripted, eventually, parse_answer, read_head, require};

use crate::import_apache::apache;
use crate::start;

/// Lines of a host; `A` and `B` are the places of the two servers.
const CASES: &[&str] = &[
    "ProxyPass / http://A/",
    "ProxyPass /x http://A/y\nProxyPass / http://B/",
    "ProxyPass /x/ http://A/\nProxyPass / http://B/",
    "ProxyPass /x !\nProxyPass / http://A/",
    "<Location /x>\nProxyPass http://A/x\n</Location>\nProxyPass / http://B/",
    "<Location /x/>\nProxyPass http://A/\nProxyPassReverse http://A/\n</Location>\nProxyPass / http://B/",
    // Sections come before the lines of the host, the last one first.
    "ProxyPass / http://B/\n<Location /x>\nProxyPass http://A/x\n</Location>",
    "<Location />\nProxyPass http://B/\n</Location>\n<Location /x>\nProxyPass http://A/x\n</Location>",
    "ProxyPassMatch ^/(.*\\.gif)$ http://A/$1\nProxyPass / http://B/",
    "ProxyPassMatch ^/x(/.*)?$ http://A/in$1\nProxyPass / http://B/",
    "ProxyPassMatch \\.gif$ http://A\nProxyPass / http://B/",
    "ProxyPassMatch ^/x/(.*)$ !\nProxyPass / http://B/",
    "<LocationMatch \"^/x/(.*)$\">\nProxyPass http://A/m/$1\n</LocationMatch>\nProxyPass / http://B/",
    "<Location ~ \"^/x/(.*)$\">\nProxyPass http://A/t/$1\n</Location>\nProxyPass / http://B/",
    "RewriteEngine on\nRewriteRule ^/x/(.*)$ http://A/r/$1 [P]\nProxyPass / http://B/",
    "RewriteEngine on\nRewriteRule ^/X/(.*)$ http://A/r/$1 [P,NC,L]\nProxyPass / http://B/",
    "RewriteEngine on\nRewriteRule ^/x/(.*)$ /z/$1 [PT]\nProxyPass /z/ http://A/\nProxyPass / http://B/",
    "Define PLACE A\nDefine WHERE /x\nProxyPass ${WHERE} http://${PLACE}/d\nProxyPass / http://B/",
    "Define HERE\n<IfDefine HERE>\nProxyPass /x http://A/if\n</IfDefine>\n<IfDefine !HERE>\nProxyPass /x http://B/not\n</IfDefine>\nProxyPass / http://B/",
    "<Location />\nRequestHeader set X-Told yes\n</Location>\nProxyPass / http://A/",
    "LimitRequestBody 10\nProxyPass / http://A/",
    "ProxyAddHeaders Off\nProxyPass / http://A/",
];

const ASKS: &[(&str, &str)] = &[
    ("GET", "/"),
    ("GET", "/x"),
    ("GET", "/x/"),
    ("GET", "/x/y"),
    ("GET", "/x/y?q=1"),
    ("GET", "/xy"),
    ("GET", "/z/a"),
    ("GET", "/a.gif"),
    ("GET", "/x/b.gif?c=2"),
    ("POST", "/x/y"),
];

/// Answers with what it was asked.
fn echo(at: SocketAddr, name: &'static str) -> Scripted {
    Scripted::start(at, move |mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        let line = head.lines().next().unwrap_or_default();
        let path = line.split(' ').nth(1).unwrap_or_default();
        let has = |name: &str| head.lines().any(|line| line.to_lowercase().starts_with(name));
        let body = format!("{name} {path} told={} forwarded={}", has("x-told: yes"), has("x-forwarded-for:"));
        let answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    })
}

/// Status and body; of an error the status alone.
fn asked(at: SocketAddr, (method, path): (&str, &str)) -> (u16, String) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let body = if method == "POST" { "Content-Length: 20\r\n\r\n01234567890123456789" } else { "\r\n" };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{body}");
    stream.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    match parse_answer(&bytes, method, true) {
        Some((answer, _)) if answer.status == 200 => {
            (200, String::from_utf8_lossy(&answer.body).into_owned())
        }
        Some((answer, _)) => (answer.status, String::new()),
        None => (0, String::new()),
    }
}

const MODULES: &str =
    "mpm_event authn_core authz_core authz_host access_compat alias rewrite headers proxy proxy_http";

fn written(folder: &Place, at: impl Fn(usize) -> SocketAddr, servers: [SocketAddr; 2]) -> String {
    let folder = folder.folder().display();
    let mut text = format!("ServerRoot {folder}\nServerName test\nDocumentRoot {folder}/www\n");
    for (number, lines) in CASES.iter().enumerate() {
        let mut lines = (*lines).to_owned();
        for (name, server) in ["A", "B"].iter().zip(servers) {
            lines = lines.replace(&format!("//{name}"), &format!("//{server}"));
            lines = lines.replace(&format!("PLACE {name}"), &format!("PLACE {server}"));
        }
        let vip = at(number);
        text += &format!(
            "Listen {vip}\n<VirtualHost {vip}>\nServerName a{number}.test\nProxyPreserveHost On\n{lines}\n</VirtualHost>\n"
        );
    }
    text
}

#[test]
fn what_apache_passes_on_arrives_where_it_did() {
    if !require(&["apache2"]) {
        return;
    }
    let (place, other) = (Place::new("import-apache-routes"), Place::new("import-apache-routes-other"));
    let servers = [place.at(9001), place.at(9002)];
    let _servers = [echo(servers[0], "A"), echo(servers[1], "B")];
    let theirs = |number: usize| place.at(20_000 + number as u16);
    let ours = |number: usize| other.at(20_000 + number as u16);
    let _apache = apache(&place, MODULES, &written(&place, theirs, servers));
    let source = place.write("hosts.conf", written(&place, ours, servers));
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(["import", "apache"])
        .arg(&source)
        .output()
        .unwrap();
    let (text, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{told}\n{text}");
    let _evenkeel = start(&other, &text);
    let last = CASES.len() - 1;
    eventually("both serve", Duration::from_secs(20), || {
        [theirs(last), ours(last)].iter().all(|at| TcpStream::connect(at).is_ok())
    });
    let mut wrong = Vec::new();
    for (number, lines) in CASES.iter().enumerate() {
        for ask in ASKS {
            let (expected, got) = (asked(theirs(number), *ask), asked(ours(number), *ask));
            // Files of Apache's own have several words for nothing.
            if expected != got && (expected.0 < 400 || got.0 < 400) {
                wrong.push(format!("{ask:?}: Apache {expected:?}, Evenkeel {got:?}\n{lines}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}\n{told}\n{text}", wrong.len(), wrong.join("\n\n"));
}
