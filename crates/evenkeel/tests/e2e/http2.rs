//! HTTP/2 on both sides, with real clients and servers: curl, h2load, Node.

use std::io::{Read, Write};
use std::time::Duration;

use evenkeel_testbed::{Authority, Place, Scripted, command, eventually, nginx_with, node, require};

use crate::{service, start};

/// A TLS service at 8443, a plain one at 8080, both before the servers given.
fn both(place: &Place, ca: &Authority, port: u16, keys: &str) -> String {
    let pem = ca.server(place, "a.pem", &["a.example"]);
    let keys = format!("health-check = {{ type = \"none\" }}\n{keys}");
    let tls = format!("{keys}\ntls = {{ certificates = [\"{}\"] }}", pem.display());
    service("tls", "http", place.at(8443), &[place.at(port)], &tls)
        + &service("plain", "http", place.at(8080), &[place.at(port)], &keys)
}

fn curl(place: &Place, ca: &Authority, path: &str, more: &[&str]) -> evenkeel_testbed::Output {
    let vip = place.at(8443);
    let resolve = format!("a.example:{}:{}", vip.port(), vip.ip());
    let url = format!("https://a.example:{}{path}", vip.port());
    let ca = ca.file.display().to_string();
    let mut all = vec!["-sS", "--max-time", "20", "--http2", "--resolve", &resolve, "--cacert", &ca];
    all.extend(more);
    all.push(&url);
    command("curl", &all)
}

#[test]
fn clients_speak_http2_over_tls_and_by_prior_knowledge() {
    if !require(&["curl", "nginx", "h2load"]) {
        return;
    }
    let place = Place::new("h2-clients");
    let ca = Authority::new(&place, "ca");
    let _nginx = nginx_with(
        &place,
        "n",
        place.at(9001),
        "location / { return 200 \"$request_method $http_host $http_cookie\"; } location /put { client_max_body_size 0; dav_methods PUT; root /; return 200 \"$content_length\"; }",
    );
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let file = place.write("files/big", &body);
    let log = place.file("access.log");
    let config = format!("[log]\naccess = \"{}\"\n", log.display()) + &both(&place, &ca, 9001, "");
    let evenkeel = start(&place, &config);
    let answer = curl(
        &place,
        &ca,
        "/x",
        &["-w", " %{http_version} %{http_code}", "-H", "Cookie: a=b", "-H", "Cookie: c=d"],
    );
    assert_eq!(
        answer.out,
        format!("GET a.example:{} a=b; c=d 2 200", place.at(8443).port()),
        "{}",
        answer.err
    );
    let head = curl(&place, &ca, "/x", &["-I"]);
    assert!(head.out.starts_with("HTTP/2 200"), "{}", head.out);
    let got = place.file("got");
    for _ in 0..3 {
        curl(&place, &ca, "/files/big", &["-o", &got.display().to_string()]);
        assert!(std::fs::read(&got).unwrap() == body);
    }
    let plain = command(
        "curl",
        &[
            "-sS",
            "--http2-prior-knowledge",
            "-w",
            " %{http_version}",
            &format!("http://{}/y", place.at(8080)),
        ],
    );
    assert_eq!(plain.out, format!("GET {}  2", place.at(8080)), "{}", plain.err);
    let old = curl(&place, &ca, "/x", &["--http1.1", "-w", " %{http_version}"]);
    assert!(old.out.ends_with(" 1.1"), "{}", old.out);
    let load =
        command("h2load", &["-n", "5000", "-c", "4", "-m", "100", &format!("https://{}/", place.at(8443))]);
    assert!(load.out.contains("5000 succeeded, 0 failed"), "{}", load.out);
    let large = command(
        "h2load",
        &["-n", "100", "-c", "3", "-m", "20", "-w", "16", &format!("http://{}/files/big", place.at(8080))],
    );
    assert!(large.out.contains("100 succeeded, 0 failed"), "{}", large.out);
    let upload = curl(
        &place,
        &ca,
        "/put",
        &["-T", &file.display().to_string(), "-o", "/dev/null", "-w", "%{http_code}"],
    );
    assert!(upload.out == "200" || upload.out == "405", "{}{}", upload.out, upload.err);
    eventually("every connection has been counted out", Duration::from_secs(5), || {
        evenkeel.service("tls")["current-connections"] == 0
            && evenkeel.service("plain")["current-connections"] == 0
    });
    assert!(evenkeel.service("tls")["requests"].as_u64().unwrap() > 5000);
    eventually("the version is in the log", Duration::from_secs(5), || {
        std::fs::read_to_string(&log).unwrap_or_default().contains(" tls~ tls/s1 ")
            && std::fs::read_to_string(&log).unwrap_or_default().contains("\"GET /x HTTP/2.0\"")
    });
}

/// Answers over HTTP/2 without TLS: echoes what comes, sets trailers as gRPC does.
const GRPC: &str = r#"
const http2 = require('http2');
const server = http2.createServer();
server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  if (headers[':path'] === '/refuse') { stream.close(http2.constants.NGHTTP2_REFUSED_STREAM); return; }
  if (headers[':path'] === '/only') { stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '5' }, { endStream: true }); return; }
  stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'x-te': headers['te'] || 'none', 'x-scheme': headers[':scheme'] }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'grpc-message': 'ok' }));
  stream.on('data', (data) => stream.write(data));
  stream.on('end', () => stream.end());
});
server.listen(+process.argv[3], process.argv[2]);
"#;

/// A call with messages both ways, one after the other, on one stream; tells what it saw.
const CALL: &str = r#"
const http2 = require('http2');
const session = http2.connect(process.argv[2], { rejectUnauthorized: false });
const path = process.argv[3] || '/echo';
const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', 'te': 'trailers' });
const seen = [];
stream.on('response', (headers) => seen.push('status ' + headers[':status'] + ' te ' + headers['x-te'] + ' grpc ' + headers['grpc-status']));
let count = 0;
stream.on('data', (data) => { seen.push(data.toString()); count += 1; if (count < 3) stream.write('message ' + count); else stream.end(); });
stream.on('trailers', (headers) => seen.push('trailers ' + headers['grpc-status'] + ' ' + headers['grpc-message']));
stream.on('close', () => { console.log(seen.join('|')); session.close(); });
stream.on('error', (error) => seen.push(error.code));
stream.write('message 0');
if (path !== '/echo') stream.end();
"#;

#[test]
fn grpc_streams_go_both_ways_with_trailers() {
    if !require(&["node"]) {
        return;
    }
    let place = Place::new("h2-grpc");
    let ca = Authority::new(&place, "ca");
    let _server = node(&place, "grpc", place.at(9001), GRPC);
    let script = place.write("call.js", CALL).display().to_string();
    let evenkeel = start(&place, &both(&place, &ca, 9001, "server-http = \"2\""));
    for url in [format!("https://{}", place.at(8443)), format!("http://{}", place.at(8080))] {
        for _ in 0..3 {
            let call = command("node", &[&script, &url]);
            assert_eq!(
                call.out.trim(),
                "status 200 te trailers grpc undefined|message 0|message 1|message 2|trailers 0 ok",
                "{}",
                call.err
            );
        }
        let only = command("node", &[&script, &url, "/only"]);
        assert!(only.out.starts_with("status 200 te undefined grpc 5"), "{}{}", only.out, only.err);
    }
    // HTTP/1 clients before an HTTP/2 server.
    let plain =
        command("curl", &["-sS", "--http1.1", "-d", "hello", &format!("http://{}/echo", place.at(8080))]);
    assert_eq!(plain.out, "hello", "{}", plain.err);
    // What the server has not begun with is tried again, then answered.
    let refused = command(
        "curl",
        &["-sS", "-o", "/dev/null", "-w", "%{http_code}", &format!("http://{}/refuse", place.at(8080))],
    );
    assert_eq!(refused.out, "502", "{}", refused.err);
    // Requests share the connections.
    let load = command(
        "h2load",
        &["-n", "2000", "-c", "4", "-m", "50", "-d", &script, &format!("http://{}/echo", place.at(8080))],
    );
    assert!(load.out.contains("2000 succeeded, 0 failed"), "{}", load.out);
    let metrics = evenkeel.service("plain");
    assert!(metrics["real-servers"][0]["total-connections"].as_u64().unwrap() >= 2000);
}

#[test]
fn real_servers_speak_http2_over_tls() {
    if !require(&["nginx", "curl"]) {
        return;
    }
    let place = Place::new("h2-servers");
    let ca = Authority::new(&place, "ca");
    let pem = ca.server(&place, "s.pem", &["s.example"]);
    place.write("big", vec![b'x'; 2_000_000]);
    let config = |http2: &str| {
        format!(
            "daemon off; pid {0}/pid; error_log {0}/error.log; events {{}}\nhttp {{ access_log off; client_body_temp_path {0}/t; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/g;\nserver {{ listen {1} ssl{http2}; ssl_certificate {2}; ssl_certificate_key {2}; location / {{ return 200 \"$server_protocol $scheme\"; }} location /big {{ root {0}; }} }} }}\n",
            place.folder().display(),
            place.at(9443),
            pem.display()
        )
    };
    let run = |http2: &str| {
        let path = place.write("nginx.conf", config(http2));
        let process = evenkeel_testbed::Process::start(
            std::process::Command::new("nginx").arg("-c").arg(path).stderr(std::process::Stdio::null()),
        );
        eventually("nginx listens", Duration::from_secs(10), || {
            std::net::TcpStream::connect(place.at(9443)).is_ok()
        });
        process
    };
    let nginx = run(" http2");
    let keys = format!(
        "health-check = {{ type = \"none\" }}\nretries = 0\nserver-http = \"2\"\nserver-tls = {{ ca = \"{}\", sni = \"s.example\" }}",
        ca.file.display()
    );
    let evenkeel = start(&place, &service("web", "http", place.at(8080), &[place.at(9443)], &keys));
    let mut connection = evenkeel_testbed::Connection::open(place.at(8080));
    for _ in 0..3 {
        assert_eq!(connection.get("/").text(), "HTTP/2.0 https");
    }
    assert_eq!(connection.get("/big").body.len(), 2_000_000);
    let load = command("h2load", &["--h1", "-n", "3000", "-c", "20", &format!("http://{}/", place.at(8080))]);
    assert!(load.out.contains("3000 succeeded, 0 failed"), "{}", load.out);
    // A restart of the server costs no request that came later.
    drop(nginx);
    let _nginx = run(" http2");
    eventually("the new server answers", Duration::from_secs(5), || {
        evenkeel_testbed::get(place.at(8080), "/").status == 200
    });
    drop(_nginx);
    let _nginx = run("");
    eventually("a server without HTTP/2 is not used", Duration::from_secs(5), || {
        evenkeel_testbed::get(place.at(8080), "/").status == 503
    });
    eventually("the reason is in the log", Duration::from_secs(5), || {
        evenkeel_testbed::get(place.at(8080), "/");
        evenkeel.log().contains("does not speak HTTP/2")
    });
}

/// A WebSocket's client over HTTP/2 (RFC 8441): sends bytes, tells what came back.
const SOCKET: &str = r#"
const http2 = require('http2');
const session = http2.connect(process.argv[2], { rejectUnauthorized: false });
session.on('remoteSettings', (settings) => {
  if (!settings.enableConnectProtocol) { console.log('no extended CONNECT'); session.close(); return; }
  const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', ':scheme': 'https', ':authority': 'a.example', 'sec-websocket-version': '13' }, { endStream: false });
  const seen = [];
  stream.on('response', (headers) => { seen.push(headers[':status']); stream.write('hello'); });
  stream.on('data', (data) => { seen.push(data.toString()); if (seen.length === 2) stream.write('again'); else stream.end(); });
  stream.on('close', () => { console.log(seen.join('|')); session.close(); });
});
"#;

#[test]
fn websockets_go_through_http2() {
    if !require(&["node"]) {
        return;
    }
    let place = Place::new("h2-websocket");
    let ca = Authority::new(&place, "ca");
    let script = place.write("socket.js", SOCKET).display().to_string();
    // Shouts back, once upgraded as RFC 6455 wants it.
    let _server = Scripted::start(place.at(9001), |mut stream| {
        let Some(head) = evenkeel_testbed::read_head(&mut stream) else { return };
        let good =
            head.contains("upgrade: websocket\r\n") && head.to_lowercase().contains("sec-websocket-key: ");
        let answer = if good {
            "101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x"
        } else {
            "400 No\r\nContent-Length: 0"
        };
        let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes());
        let mut buffer = [0; 100];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..count].to_ascii_uppercase());
        }
    });
    let _evenkeel = start(&place, &both(&place, &ca, 9001, ""));
    let socket = command("node", &[&script, &format!("https://{}", place.at(8443))]);
    assert_eq!(socket.out.trim(), "200|HELLO|AGAIN", "{}", socket.err);
}

/// A server of HTTP/2 that takes WebSockets (RFC 8441) and shouts back, or takes none.
const SHOUTING: &str = r#"
const http2 = require('http2');
const [address, port, takes] = process.argv.slice(2);
const server = http2.createServer({ settings: { enableConnectProtocol: takes === 'yes' } });
server.on('stream', (stream, headers) => {
  if (headers[':method'] === 'CONNECT') {
    if (headers[':protocol'] === 'shout') { stream.respond({ ':status': 200 }); stream.on('data', (data) => stream.write(data.toString().toUpperCase())); return; }
    const good = headers[':protocol'] === 'websocket' && headers[':path'] === '/chat' && !headers['sec-websocket-key'];
    stream.respond({ ':status': good ? 200 : 400 });
    stream.on('data', (data) => stream.write(data.toString().toUpperCase()));
    stream.on('end', () => stream.end());
    return;
  }
  stream.respond({ ':status': 200 });
  stream.end('plain ' + (headers.upgrade || 'request'));
});
server.listen(Number(port), address);
"#;

#[test]
fn websockets_reach_servers_of_http2() {
    if !require(&["node"]) {
        return;
    }
    let place = Place::new("h2-websocket-server");
    let ca = Authority::new(&place, "ca");
    let client = place.write("socket.js", SOCKET).display().to_string();
    let script = place.write("shouting.js", SHOUTING).display().to_string();
    let node = |port: u16, takes: &str| {
        let mut command = std::process::Command::new("node");
        let address = place.at(port);
        command.args([&script, &address.ip().to_string(), &address.port().to_string(), takes]);
        evenkeel_testbed::Process::start(&mut command)
    };
    let _servers = [node(9001, "yes"), node(9002, "no")];
    for port in [9001, 9002] {
        eventually("Node listens", Duration::from_secs(10), || {
            std::net::TcpStream::connect(place.at(port)).is_ok()
        });
    }
    let plain = service("none", "http", place.at(8081), &[place.at(9002)], "server-http = \"2\"");
    let text = both(&place, &ca, 9001, "server-http = \"2\"");
    let _evenkeel = start(&place, &format!("{text}{plain}"));
    // Over HTTP/2 on both sides; the connection to the server is new.
    let socket = command("node", &[&client, &format!("https://{}", place.at(8443))]);
    assert_eq!(socket.out.trim(), "200|HELLO|AGAIN", "{}", socket.err);
    // An old client, a new and a kept connection to the server.
    let upgrade = "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for _ in 0..4 {
        let mut connection = evenkeel_testbed::Connection::open(place.at(8080));
        connection.send(upgrade);
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, answer.field("upgrade")), (101, Some("websocket")), "{}", answer.head);
        // The example of RFC 6455, section 1.3.
        assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        connection.send("hello");
        connection.read_some();
        assert_eq!(connection.rest, b"HELLO");
    }
    // Any other protocol with a name.
    let mut connection = evenkeel_testbed::Connection::open(place.at(8080));
    connection.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nhey");
    let answer = connection.answer().unwrap();
    assert_eq!((answer.status, answer.field("upgrade")), (101, Some("shout")), "{}", answer.head);
    connection.read_some();
    assert_eq!(connection.rest, b"HEY");
    // What has no form in HTTP/2 goes without.
    let mut connection = evenkeel_testbed::Connection::open(place.at(8080));
    connection.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat/1\r\n\r\n");
    let answer = connection.answer().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "plain request"));
    // A server that takes none says so, and serves on.
    let mut connection = evenkeel_testbed::Connection::open(place.at(8081));
    connection.send(upgrade);
    assert_eq!(connection.answer().unwrap().status, 502);
    assert_eq!(evenkeel_testbed::get(place.at(8081), "/").text(), "plain request");
}

#[test]
fn connections_say_goodbye_when_the_program_is_replaced() {
    if !require(&["curl", "nginx"]) {
        return;
    }
    let place = Place::new("h2-handover");
    let ca = Authority::new(&place, "ca");
    let _nginx = nginx_with(&place, "n", place.at(9001), "location / { return 200 \"ok\"; }");
    let mut evenkeel = start(&place, &both(&place, &ca, 9001, ""));
    // One client that keeps its connection and asks on, across the hand-over.
    let urls: Vec<String> =
        (0..400).map(|n| format!("https://a.example:{}/{n}", place.at(8443).port())).collect();
    let vip = place.at(8443);
    let resolve = format!("a.example:{}:{}", vip.port(), vip.ip());
    let mut client = std::process::Command::new("curl");
    client.args([
        "-sS",
        "--http2",
        "--rate",
        "200/s",
        "--resolve",
        &resolve,
        "--cacert",
        &ca.file.display().to_string(),
    ]);
    client.args(["-w", "%{http_code}\n", "-o", "/dev/null"]);
    for url in &urls {
        client.args([url.as_str(), "-o", "/dev/null"]);
    }
    let running =
        client.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(600));
    let mut old = evenkeel.hand_over();
    let output = running.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let good = text.lines().filter(|l| *l == "200").count();
    assert_eq!(good, 400, "{text}{}", String::from_utf8_lossy(&output.stderr));
    eventually("the old process has ended", Duration::from_secs(10), || old.has_ended());
}
