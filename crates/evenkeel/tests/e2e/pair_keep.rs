//! Planned changes of roles under connections of layer 7: nothing of them is lost.

use std::time::Duration;

use evenkeel_testbed::eventually;
use evenkeel_testbed::pair::PairLab;

use crate::layer4::service;
use crate::pair::{FRONT, lab};
use crate::pair_faults::is_at_rest;

/// Kept connections with a request every few milliseconds, as a browser has them: what the server closes
/// between two requests, or says that it will close, is opened again. `HOST PORT COUNT EVERY_MS`. And
/// downloads, one after the other: `DOWNLOADS`.
const CAREFUL: &str = r#"
const net = require('net'), fs = require('fs');
const [out, host, port, count, every, downloads] = process.argv.slice(2);
let answered = 0, failed = 0, opened = 0, finished = 0, broken = 0, stall = 0, ending = false;
const why = {}, ms = () => Number(process.hrtime.bigint()) / 1e6;
function keep() {
  if (ending) return;
  const s = net.connect({ host, port: +port });
  let waiting = 0, text = '', over = false;
  const ask = () => {
    if (over || ending) return;
    waiting = ms(); text = '';
    s.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  };
  const end = what => {
    if (over) return;
    over = true; s.destroy();
    if (waiting && !ending) { failed++; why[what] = (why[what] || 0) + 1; }
    setTimeout(keep, 5);
  };
  s.on('connect', () => { opened++; ask(); });
  s.on('data', d => {
    text += d;
    const head = text.indexOf('\r\n\r\n');
    if (head < 0) return;
    const length = /content-length: (\d+)/i.exec(text);
    if (text.length < head + 4 + (length ? +length[1] : 0)) return;
    answered++; stall = Math.max(stall, ms() - waiting); waiting = 0;
    if (/connection: close/i.test(text.slice(0, head))) return end('told');
    setTimeout(ask, +every);
  });
  s.on('error', e => end(e.code));
  s.on('close', () => end('closed'));
}
function download() {
  if (ending) return;
  const s = net.connect({ host, port: +port });
  let got = 0, need = -1, head = '';
  s.on('connect', () => s.write('GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'));
  s.on('data', d => {
    if (need >= 0) { got += d.length; return; }
    head += d.toString('latin1');
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return;
    need = +(/content-length: (\d+)/i.exec(head) || [0, 0])[1];
    got = head.length - end - 4;
  });
  s.on('error', e => { why['download ' + e.code] = 1; });
  s.on('close', () => {
    if (ending) return;
    if (need > 0 && got === need) finished++; else broken++;
    setTimeout(download, 10);
  });
}
for (let i = 0; i < +count; i++) setTimeout(keep, i * 3);
for (let i = 0; i < +downloads; i++) setTimeout(download, i * 50);
process.on('SIGTERM', () => {
  ending = true;
  fs.writeFileSync(out, JSON.stringify({ answered, failed, why, opened, finished, broken, stall_ms: Math.round(stall) }));
  process.exit(0);
});
"#;

/// `EVENKEEL_SWITCH_OVERS`, or so many.
pub fn rounds(usual: usize) -> usize {
    std::env::var("EVENKEEL_SWITCH_OVERS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Switches a pair over, whose first node is active, asking either node.
fn switch_over(lab: &PairLab, rounds: usize, pause: Duration) {
    let mut active = 0;
    for round in 0..rounds {
        let at = if round % 3 == 2 { 1 - active } else { active };
        let done = lab.cli(at, &["pair", "switch-over"]);
        assert_eq!(done.code, 0, "round {round}: {}{}", done.out, done.err);
        active = 1 - active;
        lab.await_role(active, "active");
        std::thread::sleep(pause);
    }
}

#[test]
fn a_planned_switch_over_breaks_no_request_and_no_download() {
    let Some(mut lab) = lab("pair-keep") else { return };
    if !evenkeel_testbed::require(&["nft"]) {
        return;
    }
    let rounds = rounds(3);
    let check = "health-check = { type = \"tcp\", interval = \"1s\" }";
    let text = [
        service("web", "10.77.0.100:80", "http", check, FRONT),
        service("raw", "10.77.0.101:80", "tcp", check, FRONT),
        service("web6", "[fd77::100]:80", "http", check, FRONT),
    ]
    .concat();
    lab.start_pair("switch-over-drain = \"30s\"", &text);
    eventually("the VIP is on the first node", Duration::from_secs(10), || lab.has(0, "10.77.0.101"));
    let load: Vec<_> = ["10.77.0.100", "10.77.0.101", "fd77::100"]
        .map(|vip| lab.traffic("c", CAREFUL, &[vip, "80", "40", "50", "4"]))
        .into();
    std::thread::sleep(Duration::from_secs(2));
    switch_over(&lab, rounds, Duration::from_millis(1_500));
    // So that downloads that began before the last one can end.
    std::thread::sleep(Duration::from_secs(8));
    for load in load {
        let seen = load.end();
        eprintln!("{rounds} switch-overs: {seen}");
        assert_eq!((&seen["failed"], &seen["broken"]), (&0.into(), &0.into()), "{seen}\n{}", lab.log(0));
        assert!(seen["answered"].as_u64() > Some(100) && seen["finished"].as_u64() > Some(0), "{seen}");
    }
    for node in 0..2 {
        eventually("nothing is left over", Duration::from_secs(60), || is_at_rest(&lab, node));
        let host = evenkeel_testbed::pair::NODES[node];
        eventually("no rule is left over", Duration::from_secs(60), || {
            let rules = lab.hosts.run(host, "nft", &["list", "tables"]).out;
            let own = lab.hosts.run(host, "ip", &["addr", "show", "dev", "lo"]).out;
            !rules.contains("evenkeel_keep") && !own.contains("10.77.0.10")
        });
        let arp = lab.hosts.run(host, "sysctl", &["-n", "net.ipv4.conf.e0.arp_ignore"]).out;
        assert_eq!(arp.trim(), "0");
    }
}

/// A server of streams on two ports: WebSockets (frames come back as they are) on 9090, gRPC (HTTP/2 by prior
/// knowledge, each message comes back, `grpc-status` in the trailers) on 9091.
const STREAM_SERVER: &str = r#"
const http = require('http'), http2 = require('http2'), crypto = require('crypto'), fs = require('fs');
const web = http.createServer((_, answer) => answer.end('no'));
web.on('upgrade', (request, socket) => {
  const key = crypto.createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${key}\r\n\r\n`);
  socket.on('error', () => {});
  socket.pipe(socket);
});
web.listen(9090, '::');
const grpc = http2.createServer();
grpc.on('stream', (stream) => {
  stream.on('error', () => {});
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.pipe(stream);
});
grpc.on('sessionError', () => {});
grpc.listen(9091, '::');
process.on('SIGTERM', () => { fs.writeFileSync(process.argv[2], '{}'); process.exit(0); });
"#;

/// WebSockets and calls of gRPC that live for seconds with a message every 50 ms that must come back, and
/// downloads of a file of 1 GB: `HOST COUNT`. A connection that says by GOAWAY that it ends takes no new call.
const STREAMS: &str = r#"
const net = require('net'), http2 = require('http2'), fs = require('fs');
const [out, host, count] = process.argv.slice(2);
let ending = false;
const seen = { sockets: 0, calls: 0, downloads: 0, connections: 0, unsent: 0, broken: 0, why: {}, stall_ms: 0, megabytes: 0 };
const ms = () => Number(process.hrtime.bigint()) / 1e6;
const broke = what => { if (!ending) { seen.broken++; seen.why[what] = (seen.why[what] || 0) + 1; } };
const life = () => 3000 + Math.random() * 6000;
// Numbered messages of eight bytes; `done` once all came back in order.
function talk(write, finish) {
  let sent = 0, got = 0, rest = Buffer.alloc(0), waiting = [];
  const until = ms() + life();
  const timer = setInterval(() => {
    if (ms() > until) { clearInterval(timer); finish(() => sent === got); return; }
    const message = Buffer.alloc(8); message.writeUInt32BE(3, 1); message.writeUInt8(sent % 256, 7);
    sent++; waiting.push(ms()); write(message);
  }, 50);
  return {
    take(bytes) {
      rest = Buffer.concat([rest, bytes]);
      for (; rest.length >= 8; rest = rest.subarray(8)) {
        if (rest.readUInt8(7) !== got % 256) broke('out of order');
        got++; seen.stall_ms = Math.max(seen.stall_ms, Math.round(ms() - waiting.shift()));
      }
    },
    stop: () => clearInterval(timer), all: () => sent === got,
  };
}
function socket() {
  if (ending) return;
  const s = net.connect({ host, port: 90 });
  let open = false, good = false, head = '', talker;
  s.on('connect', () => s.write('GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'));
  s.on('data', bytes => {
    if (open) return talker.take(bytes);
    head += bytes.toString('latin1');
    if (!head.includes('\r\n\r\n')) return;
    if (!head.startsWith('HTTP/1.1 101')) { broke('socket ' + head.slice(9, 12)); good = true; s.destroy(); return; }
    open = true;
    talker = talk(m => s.write(m), all => setTimeout(() => {
      good = true;
      if (all()) seen.sockets++; else broke('socket: messages are missing');
      s.end();
    }, 1500));
  });
  s.on('error', e => { if (!good) { good = true; broke('socket ' + e.code); } });
  s.on('close', () => { if (talker) talker.stop(); if (!good) broke('socket closed'); setTimeout(socket, 20); });
}
let session = null;
function connection() {
  if (session && !session.closed && !session.destroyed && !session.leaves) return session;
  const made = http2.connect(`http://${host.includes(':') ? `[${host}]` : host}:91`);
  seen.connections++;
  made.on('goaway', code => { made.leaves = true; if (code) broke('goaway ' + code); });
  made.on('error', e => { made.leaves = true; });
  return session = made;
}
function call() {
  if (ending) return;
  const stream = connection().request({ ':authority': 'x', ':method': 'POST', ':path': '/echo.Echo/Talk', 'content-type': 'application/grpc', te: 'trailers' });
  let trailers = null, over = false, unsent = false;
  const talker = talk(m => stream.write(m), () => stream.end());
  const end = what => {
    if (over) return;
    over = true; talker.stop();
    if (unsent) seen.unsent++; else if (what) broke('call ' + what); else if (!ending) seen.calls++;
    setTimeout(call, 20);
  };
  stream.on('data', bytes => talker.take(bytes));
  // The client read GOAWAY before it had written this call: nobody has seen it.
  stream.on('frameError', (type, code) => { unsent = type === 1; });
  stream.on('trailers', t => trailers = t);
  stream.on('error', e => end(e.code + ' ' + e.message));
  stream.on('close', () => end(!trailers ? 'without trailers' : trailers['grpc-status'] !== '0' ? 'status' : !talker.all() ? 'messages are missing' : ''));
}
function download() {
  if (ending) return;
  const s = net.connect({ host, port: 80 });
  let got = 0, need = -1, head = '';
  s.on('connect', () => s.write('GET /huge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'));
  s.on('data', bytes => {
    if (need >= 0) { got += bytes.length; return; }
    head += bytes.toString('latin1');
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return;
    need = +(/content-length: (\d+)/i.exec(head) || [0, 0])[1];
    got = head.length - end - 4;
  });
  let good = false;
  s.on('error', e => { good = true; broke('download ' + e.code); });
  s.on('close', () => {
    seen.megabytes += Math.round(got / 1048576);
    if (need === 2 ** 30 && got === need) seen.downloads++; else if (!good) broke(`download of ${got} bytes`);
    setTimeout(download, 10);
  });
}
for (let i = 0; i < +count; i++) { setTimeout(socket, i * 7); setTimeout(call, i * 11); }
for (let i = 0; i < +count / 16; i++) download();
process.on('SIGTERM', () => { ending = true; fs.writeFileSync(out, JSON.stringify(seen)); process.exit(0); });
"#;

#[test]
fn a_planned_switch_over_breaks_no_websocket_no_grpc_call_and_no_gigabyte() {
    let Some(mut lab) = lab("pair-streams") else { return };
    if !evenkeel_testbed::require(&["nft"]) {
        return;
    }
    let rounds = rounds(3);
    // What two cores with a test beside bear without the daemons standing still.
    let streams = if rounds > 3 { "32" } else { "12" };
    let check = "health-check = { type = \"tcp\", interval = \"1s\" }";
    let on = |port| FRONT.iter().map(move |(name, at)| (*name, at.replace(":80", port))).collect::<Vec<_>>();
    let named = |servers: &[(&'static str, String)], name: &str, vip: &str, keys: &str| {
        let servers: Vec<_> = servers.iter().map(|(name, at)| (*name, at.as_str())).collect();
        service(name, vip, "http", &format!("{check}\n{keys}"), &servers)
    };
    let text = ["10.77.0.100", "[fd77::100]"]
        .iter()
        .zip(["", "6"])
        .map(|(vip, six)| {
            [
                named(&on(":80"), &format!("files{six}"), &format!("{vip}:80"), ""),
                named(&on(":9090"), &format!("sockets{six}"), &format!("{vip}:90"), ""),
                named(&on(":9091"), &format!("calls{six}"), &format!("{vip}:91"), "server-http = \"2\""),
            ]
            .concat()
        })
        .collect::<String>();
    for server in ["s1", "s2"] {
        // Without a byte on the disk.
        let huge = std::fs::File::create(lab.place.folder().join(format!("nginx-{server}/huge"))).unwrap();
        huge.set_len(1 << 30).unwrap();
    }
    let servers: Vec<_> = ["s1", "s2"].map(|host| lab.traffic(host, STREAM_SERVER, &[])).into();
    lab.start_pair("switch-over-drain = \"60s\"", &text);
    eventually("the VIP is on the first node", Duration::from_secs(10), || lab.has(0, "10.77.0.100"));
    std::thread::sleep(Duration::from_secs(2));
    let load: Vec<_> =
        ["10.77.0.100", "fd77::100"].map(|vip| lab.traffic("c", STREAMS, &[vip, streams])).into();
    std::thread::sleep(Duration::from_secs(2));
    switch_over(&lab, rounds, Duration::from_millis(2_500));
    // So that streams that began before the last one can end.
    std::thread::sleep(Duration::from_secs(10));
    for load in load {
        let seen = load.end();
        eprintln!("{rounds} switch-overs: {seen}");
        assert_eq!(seen["broken"], 0, "{seen}\n{}", lab.log(0));
        assert!(["sockets", "calls", "downloads"].iter().all(|what| seen[what].as_u64() > Some(0)), "{seen}");
    }
    for node in 0..2 {
        eventually("nothing is left over", Duration::from_secs(60), || is_at_rest(&lab, node));
    }
    for server in servers {
        server.end();
    }
}
