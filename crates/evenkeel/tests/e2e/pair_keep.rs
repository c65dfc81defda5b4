//! Planned changes of roles under connections of layer 7: nothing of them is lost.

use std::time::Duration;

use evenkeel_testbed::eventually;

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

/// `EVENKEEL_SWITCH_OVERS` for more than a few.
#[test]
fn a_planned_switch_over_breaks_no_request_and_no_download() {
    let Some(mut lab) = lab("pair-keep") else { return };
    if !evenkeel_testbed::require(&["nft"]) {
        return;
    }
    let rounds = std::env::var("EVENKEEL_SWITCH_OVERS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
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
    let mut active = 0;
    for round in 0..rounds {
        // On either node.
        let at = if round % 3 == 2 { 1 - active } else { active };
        let done = lab.cli(at, &["pair", "switch-over"]);
        assert_eq!(done.code, 0, "round {round}: {}{}", done.out, done.err);
        active = 1 - active;
        lab.await_role(active, "active");
        std::thread::sleep(Duration::from_millis(1_500));
    }
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
