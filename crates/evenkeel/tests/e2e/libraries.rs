//! What people's programs are made of: Python's h2, gRPC's own library, a browser.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use evenkeel_testbed::{Authority, Place, command, eventually, has_program, node, require, skip};

use crate::{service, start};

/// The one that Debian's packages of modules are for, whichever else there is.
const PYTHON: &str = "/usr/bin/python3";

/// Whether Python has a module; where it has not, the test is skipped.
fn has_module(name: &str) -> bool {
    let asked = Command::new(PYTHON).args(["-c", &format!("import {name}")]).output();
    let found = asked.is_ok_and(|output| output.status.success());
    if !found {
        skip(&format!("Python's {name}"));
    }
    found
}

/// An HTTPS service and a plain one, both of them over one server.
fn both(place: &Place, ca: &Authority, keys: &str) -> String {
    let pem = ca.server(place, "a.pem", &["a.example", "localhost"]);
    let keys = format!("health-check = {{ type = \"none\" }}\n{keys}");
    let tls = format!("{keys}\ntls = {{ certificates = [\"{}\"] }}", pem.display());
    service("tls", "http", place.at(8443), &[place.at(9001)], &tls)
        + &service("plain", "http", place.at(8080), &[place.at(9001)], &keys)
}

/// Fifty requests at once with bodies larger than any window, each answered with its own body.
const PYTHON_H2: &str = r#"
import socket, ssl, sys, h2.connection, h2.config, h2.events
host, port, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]
raw = socket.create_connection((host, port), timeout=20)
if ca:
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(['h2'])
    raw = context.wrap_socket(raw, server_hostname='a.example')
    assert raw.selected_alpn_protocol() == 'h2'
connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding='utf-8'))
connection.initiate_connection()
raw.sendall(connection.data_to_send())
bodies, left, answers, statuses = {}, {}, {}, {}
for number in range(50):
    stream = connection.get_next_available_stream_id()
    bodies[stream] = bytes([65 + number % 26]) * (1000 + number * 3000)
    left[stream] = bodies[stream]
    answers[stream] = b''
    connection.send_headers(stream, [(':method', 'POST'), (':path', '/echo'), (':scheme', 'https'), (':authority', 'a.example'), ('cookie', 'a=b'), ('cookie', 'c=d'), ('content-length', str(len(bodies[stream])))])
def push():
    for stream, data in list(left.items()):
        while data:
            count = min(connection.local_flow_control_window(stream), connection.max_outbound_frame_size, len(data))
            if count <= 0:
                break
            connection.send_data(stream, data[:count], end_stream=count == len(data))
            data = data[count:]
        left[stream] = data
        if not data:
            del left[stream]
open_streams = set(bodies)
while open_streams:
    push()
    raw.sendall(connection.data_to_send())
    data = raw.recv(65536)
    assert data, 'the connection ended'
    for event in connection.receive_data(data):
        if isinstance(event, h2.events.ResponseReceived):
            statuses[event.stream_id] = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            answers[event.stream_id] += event.data
            connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            open_streams.discard(event.stream_id)
        elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
            raise SystemExit('ended: %r' % event)
good = sum(answers[s] == bodies[s] and statuses[s][':status'] == '200' and statuses[s]['x-cookie'] == 'a=b; c=d' for s in bodies)
print(good, 'of', len(bodies))
"#;

const ECHO: &str = r#"
require('http').createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => { response.setHeader('x-cookie', request.headers.cookie || ''); response.end(Buffer.concat(parts)); });
}).listen(+process.argv[3], process.argv[2]);
"#;

#[test]
fn pythons_h2_sends_and_reads_fifty_bodies_at_once() {
    if !has_module("h2") || !require(&["node"]) {
        return;
    }
    let place = Place::new("python-h2");
    let ca = Authority::new(&place, "ca");
    let _server = node(&place, "echo", place.at(9001), ECHO);
    let _evenkeel = start(&place, &both(&place, &ca, ""));
    let script = place.write("h2.py", PYTHON_H2).display().to_string();
    let host = place.at(0).ip().to_string();
    for (port, ca) in [(8443, ca.file.display().to_string()), (8080, String::new())] {
        let said = command(PYTHON, &["-I", &script, &host, &place.at(port).port().to_string(), &ca]);
        assert_eq!(said.out.trim(), "50 of 50", "{}", said.err);
    }
}

/// gRPC's own library at both ends: calls of all four kinds, errors with details, a deadline, a
/// call taken back, and large messages.
const GRPC: &str = r#"
import sys, time, threading, grpc
from concurrent import futures
server_address, plain, tls, ca = sys.argv[1:5]
cancelled = threading.Event()
def one(request, context):
    if request == b'fail':
        context.set_trailing_metadata((('x-why', 'because'),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, 'not now: %')
    if request == b'sleep':
        context.add_callback(cancelled.set)
        time.sleep(2)
    return request[::-1]
def out(request, context):
    for number in range(int(request)):
        yield b'%d' % number
def into(requests, context):
    return b'%d' % sum(len(r) for r in requests)
def ways(requests, context):
    for request in requests:
        yield request.upper()
handlers = {'One': grpc.unary_unary_rpc_method_handler(one), 'Out': grpc.unary_stream_rpc_method_handler(out), 'Into': grpc.stream_unary_rpc_method_handler(into), 'Ways': grpc.stream_stream_rpc_method_handler(ways)}
server = grpc.server(futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler('test.Echo', handlers),))
assert server.add_insecure_port(server_address)
server.start()
def check(channel):
    with channel:
        call = channel.unary_unary('/test.Echo/One')
        assert call(b'abc', timeout=10) == b'cba'
        large = bytes(range(256)) * 8000
        assert call(large, timeout=20) == large[::-1]
        assert list(channel.unary_stream('/test.Echo/Out')(b'500', timeout=10)) == [b'%d' % n for n in range(500)]
        assert channel.stream_unary('/test.Echo/Into')((b'x' * 1000 for _ in range(300)), timeout=10) == b'300000'
        answers = channel.stream_stream('/test.Echo/Ways')(iter([b'a', b'b', b'c']), timeout=10)
        assert list(answers) == [b'A', b'B', b'C']
        try:
            call(b'fail', timeout=10)
            raise SystemExit('it did not fail')
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION and error.details() == 'not now: %', error
            assert ('x-why', 'because') in error.trailing_metadata(), error
        try:
            channel.unary_unary('/test.Echo/Nothing')(b'', timeout=10)
            raise SystemExit('there is no such method')
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
        cancelled.clear()
        try:
            call(b'sleep', timeout=0.3)
            raise SystemExit('it was not late')
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        assert cancelled.wait(1.5), 'the server hears of a call that was taken back'
        many = [call.future(b'%d' % n, timeout=20) for n in range(300)]
        assert [m.result() for m in many] == [(b'%d' % n)[::-1] for n in range(300)]
options = (('grpc.ssl_target_name_override', 'a.example'), ('grpc.max_receive_message_length', 1 << 24))
check(grpc.insecure_channel(plain))
check(grpc.secure_channel(tls, grpc.ssl_channel_credentials(open(ca, 'rb').read()), options))
print('all well')
server.stop(0)
"#;

#[test]
fn grpcs_own_library_at_both_ends() {
    if !has_module("grpc") {
        return;
    }
    let place = Place::new("grpc-library");
    let ca = Authority::new(&place, "ca");
    let evenkeel = start(&place, &both(&place, &ca, "server-http = \"2\""));
    let script = place.write("calls.py", GRPC).display().to_string();
    let at = |port: u16| place.at(port).to_string();
    let ca = ca.file.display().to_string();
    let said = command(PYTHON, &["-I", &script, &at(9001), &at(8080), &at(8443), &ca]);
    assert_eq!(said.out.trim(), "all well", "{}\n{}", said.err, evenkeel.log());
}

/// A page that loads a hundred pictures and speaks over a WebSocket, and says what it saw.
const SITE: &str = r#"
const { createHash } = require('crypto');
const page = `<!doctype html><title>loading</title><script>
(async () => {
  const pictures = await Promise.all([...Array(100).keys()].map((n) => fetch('/n/' + n).then((r) => r.text())));
  const socket = new WebSocket('wss://' + location.host + '/chat');
  const heard = await new Promise((done) => { socket.onopen = () => socket.send('hello'); socket.onmessage = (e) => done(e.data); socket.onerror = () => done('error'); });
  const used = new Set(performance.getEntriesByType('resource').map((e) => e.nextHopProtocol));
  const right = pictures.filter((text, n) => text === String(n)).length;
  document.title = [right, [...used].join(), heard].join('|');
})();
</script>`;
const server = require('http').createServer((request, response) => {
  const number = request.url.match(/^\/n\/(\d+)$/);
  response.setHeader('content-type', 'text/html');
  response.end(number ? number[1] : page);
});
server.on('upgrade', (request, socket) => {
  const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ' + accept + '\r\n\r\n');
  socket.once('data', (frame) => {
    const length = frame[1] & 127, mask = frame.subarray(2, 6);
    const text = Buffer.from(frame.subarray(6, 6 + length).map((byte, n) => byte ^ mask[n % 4])).toString().toUpperCase();
    socket.write(Buffer.concat([Buffer.from([0x81, text.length]), Buffer.from(text)]));
  });
  socket.on('error', () => {});
});
server.listen(+process.argv[3], process.argv[2]);
"#;

const BROWSER: &str = r#"
import { chromium } from 'playwright-core';
const [program, url] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: program, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
const page = await browser.newPage({ ignoreHTTPSErrors: true });
await page.goto(url);
await page.waitForFunction(() => document.title !== 'loading', null, { timeout: 30000 });
console.log(await page.title());
await browser.close();
"#;

#[test]
fn a_browser_loads_a_page_and_opens_a_websocket() {
    let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|p| has_program(p));
    let ui = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../ui");
    let (Some(chromium), true, true) =
        (chromium, ui.join("node_modules/playwright-core").exists(), has_program("node"))
    else {
        return skip("chromium, node and `make ui`");
    };
    let path = command("sh", &["-c", &format!("command -v {chromium}")]).out.trim().to_owned();
    let place = Place::new("browser");
    let ca = Authority::new(&place, "ca");
    let _server = node(&place, "site", place.at(9001), SITE);
    let log = place.file("access.log");
    let text = format!("[log]\naccess = \"{}\"\n{}", log.display(), both(&place, &ca, ""));
    let evenkeel = start(&place, &text);
    let mut browser = Command::new("node");
    browser.current_dir(&ui).args(["--input-type=module", "-e", BROWSER, "browser", &path]);
    let output = browser.arg(format!("https://{}/", place.at(8443))).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "100|h2|HELLO", "{errors}\n{}", evenkeel.log());
    eventually("the socket is in the log", Duration::from_secs(5), || {
        std::fs::read_to_string(&log).unwrap_or_default().contains("GET /chat HTTP/2.0")
    });
}
