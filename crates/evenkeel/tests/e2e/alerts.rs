//! Who is told when something happens, by real receivers.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_testbed::{Authority, Evenkeel, Place, Process, Scripted, eventually, require};

use crate::start;

/// A mail server that wants TLS, a name and a password, and writes every mail into a file.
const MAIL: &str = r#"
import ssl, sys, time
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
host, port, pem, out = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
class Keep:
    async def handle_DATA(self, server, session, envelope):
        with open(out, "ab") as file:
            file.write(("TO " + ",".join(envelope.rcpt_tos) + "\n").encode() + envelope.content + b"\n=====\n")
        return "250 kept"
def known(server, session, envelope, mechanism, data):
    return AuthResult(success=data.login == b"alerts" and data.password == b"s3cret")
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(pem)
Controller(Keep(), hostname=host, port=port, tls_context=context, require_starttls=True, auth_required=True, authenticator=known).start()
time.sleep(600)
"#;

/// A web server that writes every POST into a file.
const HOOK: &str = r#"
import http.server, ssl, sys
host, port, pem, out = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with open(out, "ab") as file:
            file.write(self.path.encode() + b" " + body + b"\n")
        self.send_response(200 if self.path != "/broken" else 500)
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer((host, port), Hook)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(pem)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// A syslog server that speaks TLS, and writes what it gets into a file.
const SYSLOG: &str = r#"
import socketserver, ssl, sys
host, port, pem, out = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(pem)
class Keep(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            stream = context.wrap_socket(self.request, server_side=True)
            while data := stream.recv(65536):
                with open(out, "ab") as file:
                    file.write(data)
        except OSError:
            pass
socketserver.ThreadingTCPServer((host, port), Keep).serve_forever()
"#;

fn python(place: &Place, name: &str, script: &str, at: SocketAddr, pem: &Path) -> Process {
    let file = place.write(&format!("{name}.py"), script);
    let process = Process::start(
        Command::new("/usr/bin/python3")
            .arg(file)
            .args([at.ip().to_string(), at.port().to_string()])
            .arg(pem)
            .arg(place.file(&format!("{name}.out")))
            .stderr(Stdio::null()),
    );
    eventually("it listens", Duration::from_secs(10), || std::net::TcpStream::connect(at).is_ok());
    process
}

fn read(place: &Place, name: &str) -> String {
    std::fs::read_to_string(place.file(name)).unwrap_or_default()
}

fn servers(place: &Place, count: u16) -> String {
    let mut text = format!(
        "[[virtual-service]]\nname = \"shop\"\nvip = [\"{}\"]\nmode = \"tcp\"\nhealth-check = {{ type = \"tcp\", interval = \"300ms\", fall = 1, rise = 1 }}\n",
        place.at(8080)
    );
    for server in 0..count {
        text += &format!(
            "[[virtual-service.real-server]]\nname = \"s{server}\"\naddress = \"{}\"\n",
            place.at(9100 + server)
        );
    }
    text
}

#[test]
fn forty_servers_behind_a_dead_switch_are_one_message() {
    let place = Place::new("alerts");
    if !require(&["aiosmtpd", "openssl"]) {
        return;
    }
    let authority = Authority::new(&place, "authority");
    let host = place.at(0).ip().to_string();
    let pem = authority.server(&place, "server.pem", &[&host]);
    let _mail = python(&place, "mail", MAIL, place.at(2525), &pem);
    let _hook = python(&place, "hook", HOOK, place.at(8444), &pem);
    let syslog = UdpSocket::bind(place.at(5514)).unwrap();
    syslog.set_nonblocking(true).unwrap();
    let _tls = python(&place, "tls", SYSLOG, place.at(6514), &pem);
    let script = place.write(
        "told.sh",
        format!("#!/bin/sh\n{{ echo \"TITLE $1\"; cat; echo; }} >> {}\n", place.file("script.out").display()),
    );
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // It runs as nobody.
    let out = place.write("script.out", "");
    std::fs::set_permissions(out, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let password = place.write("password", "s3cret\n");
    let ca = authority.file.display();
    let alerts = format!(
        "[alerts]\ngather = \"1500ms\"\nquiet = \"4s\"\n[[alerts.email]]\nserver = \"{host}:2525\"\nca = \"{ca}\"\nusername = \"alerts\"\npassword-file = \"{}\"\nfrom = \"evenkeel@example.org\"\nto = [\"ann@example.org\", \"bob@example.org\"]\nkinds = [\"server-down\", \"server-up\", \"service-down\"]\n[[alerts.webhook]]\nurl = \"https://{host}:8444/generic\"\nca = \"{ca}\"\n[[alerts.webhook]]\nurl = \"https://{host}:8444/slack\"\nshape = \"slack\"\nca = \"{ca}\"\nkinds = [\"server-down\"]\n[[alerts.script]]\ncommand = \"{}\"\n[[alerts.syslog]]\nserver = \"{host}:5514\"\nfacility = 16\n[[alerts.syslog]]\nserver = \"{host}:6514\"\ntransport = \"tls\"\nca = \"{ca}\"\n",
        password.display(),
        script.display()
    );
    let mut origins: Vec<Scripted> = (0..41).map(|n| Scripted::named(place.at(9100 + n), "one")).collect();
    let evenkeel = start(&place, &format!("{alerts}{}", servers(&place, 41)));
    (0..41).for_each(|n| evenkeel.await_server("shop", &format!("s{n}"), "up"));
    // The switch dies.
    origins.truncate(1);
    eventually("a mail comes", Duration::from_secs(20), || read(&place, "mail.out").contains("====="));
    std::thread::sleep(Duration::from_secs(1));
    let mails = read(&place, "mail.out");
    assert_eq!(mails.matches("=====").count(), 1, "{mails}");
    assert!(
        mails.contains("TO ann@example.org,bob@example.org") && mails.contains("40 real servers down"),
        "{mails}"
    );
    assert!(
        mails.contains("shop/s40 is down: connection refused") && !mails.contains("shop/s0 is down"),
        "{mails}"
    );
    let hooks = read(&place, "hook.out");
    assert!(hooks.contains("/generic {\"node\":") && hooks.contains("\"kind\":\"server-down\""), "{hooks}");
    assert!(hooks.contains("/slack {\"text\":\"*[") && hooks.matches("/slack").count() == 1, "{hooks}");
    assert!(read(&place, "script.out").contains("40 real servers down"));
    let mut lines = Vec::new();
    let mut packet = [0; 2000];
    while let Ok(length) = syslog.recv(&mut packet) {
        lines.push(String::from_utf8_lossy(&packet[..length]).into_owned());
    }
    // RFC 5424: facility 16 and severity 3, version 1, a time, and the kind.
    let downs = lines
        .iter()
        .filter(|l| {
            l.starts_with("<131>1 20") && l.contains(" evenkeel ") && l.contains(" server-down [origin ")
        })
        .count();
    assert_eq!(downs, 40, "{lines:?}");
    eventually("syslog by TLS", Duration::from_secs(5), || {
        let text = read(&place, "tls.out");
        text.matches(" server-down [origin ").count() == 40
            && text.split(' ').next().is_some_and(|n| n.parse::<usize>().is_ok())
    });
    // They come back: that waits, and is one message again. Then the last one goes: that does not.
    let back: Vec<Scripted> = (1..41).map(|n| Scripted::named(place.at(9100 + n), "one")).collect();
    eventually("the second mail", Duration::from_secs(20), || {
        read(&place, "mail.out").matches("=====").count() == 2
    });
    assert!(read(&place, "mail.out").contains("40 real servers up"));
    drop((back, origins));
    eventually("the service is down", Duration::from_secs(20), || {
        read(&place, "mail.out").contains("1 service down")
    });
    // The test button says what became of each.
    let tested = evenkeel.json(&["test-alerts"]);
    let sent = tested["receivers"].as_array().unwrap();
    assert!(sent.len() == 6 && sent.iter().all(|r| r["sent"] == true), "{tested}");
    assert!(evenkeel.ok(&["events"]).contains("shop is down"));
}

#[test]
fn a_receiver_that_hangs_holds_up_nobody() {
    let place = Place::new("alerts-hang");
    let silent = TcpListener::bind(place.at(2525)).unwrap();
    let log = UdpSocket::bind(place.at(5514)).unwrap();
    log.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let host = place.at(0).ip();
    let config = |more: &str| {
        format!(
            "[alerts]\ngather = \"0s\"\n{more}[[alerts.email]]\nserver = \"{host}:2525\"\nsecurity = \"none\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n[[alerts.syslog]]\nserver = \"{host}:5514\"\n{}",
            servers(&place, 1)
        )
    };
    let origin = Scripted::named(place.at(9100), "one");
    let evenkeel: Evenkeel = start(&place, &config(""));
    evenkeel.await_server("shop", "s0", "up");
    drop(origin);
    let (mut stream, _) = silent.accept().unwrap();
    let mut packet = [0; 2000];
    let length = log.recv(&mut packet).unwrap();
    let line = String::from_utf8_lossy(&packet[..length]).into_owned();
    assert!(line.contains("shop/s0 is down"), "{line}");
    // Nothing was said to it before it greets.
    stream.set_nonblocking(true).unwrap();
    assert!(stream.read(&mut packet).is_err());
    assert_eq!(evenkeel.service("shop")["state"], "down");
    // What cannot be is said with its place.
    for (bad, why) in [
        (
            "[[alerts.email]]\nserver = \"nowhere\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n",
            "is no server",
        ),
        (
            "[[alerts.email]]\nserver = \"h:25\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\\nBcc: x@y\"]\n",
            "control",
        ),
        (
            "[[alerts.email]]\nserver = \"h:25\"\nfrom = \"nobody\"\nto = [\"b@example.org\"]\n",
            "is no mail address",
        ),
        ("[[alerts.webhook]]\nurl = \"ftp://x\"\n", "https://"),
    ] {
        let file = place.write("bad.toml", Evenkeel::complete(&place, &config(bad)));
        let output = evenkeel.cli(&["check", &file.display().to_string()]);
        assert!(
            output.code == 78 && format!("{}{}", output.out, output.err).contains(why),
            "{why}: {output:?}"
        );
    }
}

#[test]
fn a_certificate_that_ends_soon_is_told_of() {
    let place = Place::new("alerts-certificate");
    let day = Duration::from_secs(24 * 60 * 60);
    let (began, ends) = (day * 85, day * 5 - Duration::from_secs(60));
    let authority = Authority::new(&place, "ca");
    let pem = authority.server_within(&place, "www.pem", &["www.example.org"], began, ends);
    let log = UdpSocket::bind(place.at(5514)).unwrap();
    log.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let _origin = Scripted::named(place.at(9100), "one");
    let config = format!(
        "[alerts]\n[[alerts.syslog]]\nserver = \"{}\"\nkinds = [\"certificate\"]\n{}",
        place.at(5514),
        servers(&place, 1).replace(
            "mode = \"tcp\"",
            &format!("mode = \"tcp\"\ntls = {{ certificates = [\"{}\"] }}", pem.display())
        )
    );
    let evenkeel = start(&place, &config);
    let mut packet = [0; 2000];
    let length = log.recv(&mut packet).unwrap();
    let line = String::from_utf8_lossy(&packet[..length]).into_owned();
    assert!(
        line.contains(" certificate [origin") && line.contains("www.example.org ends in 4 days"),
        "{line}"
    );
    assert!(evenkeel.ok(&["cert"]).contains("www.example.org"));
}
