//! A pair beside keepalived and HAProxy: the same hosts, the same faults, the same client, in one
//! run. The client opens a connection every five milliseconds and sends a request on it; an outage
//! is the longest time between two answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use evenkeel_testbed::pair::{KEPT_CONNECTIONS, NEW_CONNECTIONS, NODES, PairLab};
use evenkeel_testbed::{Process, command};
use rustix::process::Signal;

const VIP: &str = "10.77.0.100";
const SERVERS: &[&str] = &["10.77.0.11", "10.77.0.12"];

/// As fast as keepalived goes: with real-time priority.
const FASTEST: &str = "0.01";

/// A pause that begins so long after a fault has another reason: by then the other node has the addresses, or the
/// pause has begun.
const MOMENT_MS: u64 = 150;

/// Who shares the address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Evenkeel,
    /// With HAProxy beside it; the time between two adverts.
    Keepalived(&'static str),
}

impl Who {
    fn name(self) -> String {
        match self {
            Who::Evenkeel => "Evenkeel, defaults".into(),
            Who::Keepalived(FASTEST) => {
                format!("keepalived, adverts every {FASTEST} s, real-time priority")
            }
            Who::Keepalived(interval) => format!("keepalived, adverts every {interval} s"),
        }
    }
}

struct Bench {
    lab: PairLab,
    others: [Vec<Process>; 2],
    who: Who,
}

fn service(name: &str, vip: &str, mode: &str, keys: &str, port: &str) -> String {
    let mut text =
        format!("[[virtual-service]]\nname = \"{name}\"\nvip = [\"{vip}\"]\nmode = \"{mode}\"\n{keys}\n");
    for (number, server) in SERVERS.iter().enumerate() {
        let _ = writeln!(
            text,
            "[[virtual-service.real-server]]\nname = \"s{number}\"\naddress = \"{server}{port}\""
        );
    }
    text
}

fn shared() -> String {
    let user = "persistence = { type = \"header\", name = \"x-user\", size = 200000 }";
    [
        "[network]\nfloating-ips = [\"10.77.0.150/24\"]\n".to_owned(),
        service("web", &format!("{VIP}:80"), "http", user, ":80"),
        service("snat", "10.77.0.102:80", "snat", "source-addresses = [\"10.77.0.150\"]", ":80"),
    ]
    .concat()
}

impl Bench {
    fn new(who: Who, program: &str) -> anyhow::Result<Bench> {
        let name = if who == Who::Evenkeel { "bench-pair" } else { "bench-peer" };
        let lab = PairLab::new(name, program).ok_or_else(|| anyhow::anyhow!("needs root"))?;
        Ok(Bench { lab, others: [Vec::new(), Vec::new()], who })
    }

    fn start(&mut self) {
        match self.who {
            Who::Evenkeel => {
                // Beats adapt after so long, not after ten minutes.
                self.lab.start_pair("learning-time = \"20s\"\n", &shared());
            }
            Who::Keepalived(_) => {
                (0..2).for_each(|node| self.start_keepalived(node));
                while !self.lab.has(0, VIP) && !self.lab.has(1, VIP) {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
        std::thread::sleep(Duration::from_secs(2));
    }

    fn start_keepalived(&mut self, node: usize) {
        let Who::Keepalived(interval) = self.who else { return };
        let priority = 150 - node * 50;
        let first = if interval == FASTEST { " vrrp_rt_priority 50\n" } else { "" };
        let config = format!(
            "global_defs {{\n vrrp_version 3\n{first}}}\nvrrp_instance A {{\n state BACKUP\n interface e0\n virtual_router_id 51\n priority {priority}\n advert_int {interval}\n nopreempt\n virtual_ipaddress {{ {VIP}/32 dev e0 }}\n}}\n"
        );
        let place = &self.lab.place;
        let file = place.write(&format!("keepalived{node}.conf"), config).display().to_string();
        let pid = place.file(&format!("keepalived{node}.pid")).display().to_string();
        let _ = std::fs::remove_file(&pid);
        let arguments = ["-n", "-l", "-f", &file, "-p", &pid, "-r", &format!("{pid}.v")];
        let servers: String =
            SERVERS.iter().enumerate().map(|(n, s)| format!(" server s{n} {s}:80 check\n")).collect();
        let haproxy = format!(
            "global\n nbthread 1\n stats socket {0}/haproxy{node}.sock level admin\n localpeer lb{1}\npeers pair\n peer lb1 10.79.0.1:1024\n peer lb2 10.79.0.2:1024\ndefaults\n mode http\n timeout connect 4s\n timeout client 60s\n timeout server 60s\nfrontend web\n bind {VIP}:80 transparent\n default_backend web\nbackend web\n stick-table type string len 32 size 200k expire 5m peers pair\n stick on hdr(x-user)\n{servers}",
            place.folder().display(),
            node + 1
        );
        let haproxy = place.write(&format!("haproxy{node}.cfg"), haproxy).display().to_string();
        let host = NODES[node];
        let log = |name: &str| place.file(&format!("{name}{node}.log"));
        self.others[node] = vec![
            self.lab.hosts.start(host, "haproxy", &["-db", "-f", &haproxy], &log("haproxy")),
            self.lab.hosts.start(host, "keepalived", &arguments, &log("keepalived")),
        ];
    }

    fn active(&self) -> usize {
        usize::from(!self.lab.has(0, VIP))
    }

    fn await_on(&self, node: usize) {
        let end = Instant::now() + Duration::from_secs(20);
        while (!self.lab.has(node, VIP) || self.lab.has(1 - node, VIP)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(1_500));
    }

    /// The longest time without an answer around something that is done, and how many failed.
    fn outage(&self, act: impl FnOnce()) -> (u64, u64) {
        let client = self.lab.traffic("c", NEW_CONNECTIONS, &[VIP, "80", "5"]);
        std::thread::sleep(Duration::from_millis(1_200));
        act();
        std::thread::sleep(Duration::from_millis(match self.who {
            Who::Keepalived("1") => 6_000,
            _ => 3_500,
        }));
        let seen = client.end();
        (seen["gap_ms"].as_u64().unwrap_or(u64::MAX), seen["failed"].as_u64().unwrap_or(u64::MAX))
    }

    /// The longest time without an answer of those that lie in the moment of a fault: where both cores are busy
    /// there are long ones at other times too, as the row "nothing happens" shows. Where no answer takes longer than a
    /// second less is waited for.
    fn short_outage(&self, act: impl FnOnce()) -> u64 {
        let client = self.lab.traffic("c", NEW_CONNECTIONS, &[VIP, "80", "5"]);
        std::thread::sleep(Duration::from_millis(300));
        client.run_first();
        std::thread::sleep(Duration::from_millis(500));
        let began = since_1970_ms();
        act();
        let done = since_1970_ms();
        std::thread::sleep(Duration::from_millis(1_200));
        let seen = client.end();
        let gaps = seen["gaps"].as_array().map(Vec::as_slice).unwrap_or_default();
        let gaps = gaps.iter().filter_map(|gap| Some((gap[0].as_u64()?, gap[1].as_u64()?)));
        let inside = gaps.filter(|(at, lasts)| at + lasts >= began && *at <= done + MOMENT_MS);
        // Shorter ones are not told.
        let gap = inside.map(|gap| gap.1).max().unwrap_or(10);
        eprint!("at {began} ms, {} ms to do it, longest of all {} ms; ", done - began, seen["gap_ms"]);
        if seen["answered"].as_u64().unwrap_or(0) < 20 { u64::MAX } else { gap }
    }

    /// Nothing of a node is heard on any path any more, and no carrier tells of it.
    fn mute(&self, node: usize) {
        let chain = |number: usize| {
            let end = format!("{}{number}", NODES[node]);
            format!("chain c{number} {{ type filter hook ingress device {end} priority 0; policy drop; }};")
        };
        let chains: String = (0..3).map(chain).collect();
        self.lab.hosts.run("switch", "nft", &[&format!("table netdev power {{ {chains} }}")]);
    }

    fn unmute(&self) {
        self.lab.hosts.run("switch", "nft", &["delete table netdev power"]);
    }

    /// Whichever node stays active after a partition has healed.
    fn settle(&self) {
        std::thread::sleep(Duration::from_secs(2));
        self.await_on(self.active());
    }

    /// The time of death is what beats have been measured to allow, as it is ten minutes after a start.
    fn await_adapted(&self) {
        let end = Instant::now() + Duration::from_secs(90);
        let dead_ms = |node| self.lab.json(node, &["pair", "status"])["beats"]["dead-after-ms"].as_u64();
        while self.who == Who::Evenkeel && Instant::now() < end {
            let agreed = [dead_ms(0), dead_ms(1)];
            if agreed.iter().all(|ms| ms.is_some_and(|ms| ms < 150)) {
                eprint!("dead after {agreed:?} ms; ");
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// All cables of a node, as if its power had gone.
    fn cables(&self, node: usize, how: &str) {
        for number in 0..3 {
            let end = format!("{}{number}", NODES[node]);
            self.lab.hosts.ip("switch", &["link", "set", &end, how]);
        }
    }

    fn signal(&self, node: usize, signal: Signal) {
        if let Some(process) = &self.lab.nodes[node] {
            process.signal(signal);
        }
        // keepalived's own child holds the addresses.
        for process in &self.others[node] {
            let children = command("pgrep", &["-P", &process.id().to_string()]);
            for child in children.out.split_whitespace().filter_map(|p| p.parse::<i32>().ok()) {
                if let Some(pid) = rustix::process::Pid::from_raw(child) {
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
            process.signal(signal);
        }
    }

    /// How long both nodes have the address, until only the other one has it.
    fn both_until_moved(&self, from: usize, limit: Duration) -> Option<Duration> {
        let start = Instant::now();
        let (mut both, mut last, mut moved) = (Duration::ZERO, Instant::now(), None::<Instant>);
        while start.elapsed() < limit {
            let (old, new) = (self.lab.has(from, VIP), self.lab.has(1 - from, VIP));
            let now = Instant::now();
            if old && new {
                both += now - last;
            }
            last = now;
            moved = if new && !old { moved.or(Some(now)) } else { None };
            if moved.is_some_and(|at| at.elapsed() > Duration::from_millis(500)) {
                return Some(both);
            }
        }
        None
    }

    /// How long both nodes have the address, from now on; at most so long is looked.
    fn both(&self, limit: Duration) -> Option<Duration> {
        let (start, mut last) = (Instant::now(), None);
        let mut apart = 0;
        while start.elapsed() < limit {
            match self.lab.has(0, VIP) && self.lab.has(1, VIP) {
                true => (last, apart) = (Some(start.elapsed()), 0),
                false => apart += 1,
            }
            if apart > 100 {
                return Some(last.unwrap_or_default());
            }
        }
        None
    }
}

fn since_1970_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

fn sorted(mut all: Vec<u64>) -> Vec<u64> {
    all.sort_unstable();
    all
}

fn spread(all: Vec<u64>) -> String {
    let all = sorted(all);
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return "-".into() };
    format!("{} ms ({first} to {last})", all[all.len() / 2])
}

/// Every row of the table, by its name.
type Rows = BTreeMap<&'static str, Vec<(String, String)>>;

/// `only`: `faults`, `blink`, `memory`, `busy` or `beside` alone, of `blink` also one fault of one program
/// (`blink:killed:evenkeel`; see [`BLINKS`]); roles are looked at for so many minutes
/// while both cores are busy.
pub fn run(rounds: usize, only: Option<&str>, minutes: u64) -> anyhow::Result<String> {
    let mut words = only.unwrap_or_default().split(':');
    let (part, fault, one) = (words.next().unwrap_or_default(), words.next(), words.next());
    let wanted = |asked: &str| part.is_empty() || part == asked;
    let faults_of_blink: Vec<Blink> =
        BLINKS.iter().filter(|b| fault.is_none_or(|f| f == b.name || f == "all")).copied().collect();
    let fits = |who: &Who| one.is_none_or(|one| who.name().to_lowercase().starts_with(one));
    let program = std::env::current_exe()?.with_file_name("evenkeel").display().to_string();
    let mut rows: Rows = BTreeMap::new();
    let all = [Who::Evenkeel, Who::Keepalived("0.1"), Who::Keepalived("1")];
    for who in all.into_iter().filter(|_| wanted("faults") || wanted("busy")) {
        let rounds = if who == Who::Keepalived("1") { rounds.min(3) } else { rounds };
        let mut bench = Bench::new(who, &program)?;
        bench.start();
        if wanted("busy") {
            busy(&bench, minutes, &mut rows);
        }
        if wanted("faults") {
            faults(&mut bench, rounds, &mut rows)?;
        }
    }
    for who in
        [Who::Evenkeel, Who::Keepalived(FASTEST)].into_iter().filter(|who| wanted("blink") && fits(who))
    {
        let mut bench = Bench::new(who, &program)?;
        bench.start();
        blink(&mut bench, &faults_of_blink, rounds * 3, &mut rows);
        if wanted("busy") && who != Who::Evenkeel {
            busy(&bench, minutes, &mut rows);
        }
    }
    if wanted("beside") {
        beside(&program, minutes, &mut rows)?;
    }
    if wanted("memory") {
        let mut bench = Bench::new(Who::Evenkeel, &program)?;
        bench.start();
        memory(&mut bench, &mut rows)?;
        let mut haproxy = Bench::new(Who::Keepalived("0.1"), &program)?;
        haproxy.start();
        haproxy_memory(&haproxy, &mut rows)?;
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut text = format!(
        "# A pair beside keepalived and HAProxy\n\nWritten by `make bench-pair` on Linux {}, two cores for everything: both nodes, the client and the real servers, in network namespaces. keepalived 2.2.7 and HAProxy 2.6 of Debian 12, VRRP version 3, HAProxy's peers for tables. An outage is the longest time between two answers to a client that opens a connection every 5 ms; {rounds} rounds (3 of keepalived's with 1 s), median and range. \"Power cut\" takes all cables of the active node out at once. Evenkeel has its defaults but for `learning-time`, which is 20 s, so that beats adapt within the run.\n\n| property | who | measured |\n| --- | --- | --- |\n",
        kernel.trim()
    );
    for (property, measured) in rows {
        for (who, value) in measured {
            let _ = writeln!(
                text,
                "| {} | {who} | {value} |",
                property.split_once(' ').map_or(property, |p| p.1)
            );
        }
    }
    Ok(text)
}

fn busy_cores() -> Vec<Process> {
    let start = |_| Process::start(std::process::Command::new("sh").args(["-c", "while :; do :; done"]));
    (0..4).map(start).collect()
}

/// Nobody has a reason to take over; but both cores have other things to do.
fn busy(bench: &Bench, minutes: u64, rows: &mut Rows) {
    let node = bench.active();
    let loops = busy_cores();
    let (start, mut changes, mut last) = (Instant::now(), 0, node);
    while start.elapsed() < Duration::from_secs(60 * minutes) {
        let now = bench.active();
        changes += u32::from(now != last);
        last = now;
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(loops);
    let property = "04 changes of role while both cores are busy";
    eprintln!("{property}: {}: {changes}", bench.who.name());
    let value = format!("{changes} in {minutes} minutes");
    rows.entry(property).or_default().push((bench.who.name(), value));
}

/// Which nodes of a pair have held the address, over time.
struct Roles {
    active: Option<usize>,
    changes: u32,
    both: Duration,
    nobody: Duration,
}

impl Roles {
    fn sample(&mut self, bench: &Bench, passed: Duration) {
        match (bench.lab.has(0, VIP), bench.lab.has(1, VIP)) {
            (true, true) => self.both += passed,
            (false, false) => self.nobody += passed,
            (first, _) => {
                let active = usize::from(!first);
                self.changes += u32::from(self.active.is_some_and(|known| known != active));
                self.active = Some(active);
            }
        }
    }
}

/// Evenkeel with beats that have adapted and the fastest keepalived, at the same time on the same busy
/// cores: nobody has a reason to take over.
fn beside(program: &str, minutes: u64, rows: &mut Rows) -> anyhow::Result<()> {
    let mut pairs = [Bench::new(Who::Evenkeel, program)?, Bench::new(Who::Keepalived(FASTEST), program)?];
    pairs.iter_mut().for_each(Bench::start);
    // Beats adapt.
    std::thread::sleep(Duration::from_secs(30));
    let loops = busy_cores();
    let none = || Roles { active: None, changes: 0, both: Duration::ZERO, nobody: Duration::ZERO };
    let mut roles = [none(), none()];
    let start = Instant::now();
    let mut last = start;
    while start.elapsed() < Duration::from_secs(60 * minutes) {
        std::thread::sleep(Duration::from_millis(20));
        let now = Instant::now();
        for (roles, bench) in roles.iter_mut().zip(&pairs) {
            let before = roles.changes;
            roles.sample(bench, now - last);
            if roles.changes != before {
                eprintln!("{} after {:?}: change {}", bench.who.name(), start.elapsed(), roles.changes);
            }
        }
        last = now;
    }
    drop(loops);
    let property = "04b changes of role, both pairs at once on the same busy cores";
    for (roles, bench) in roles.iter().zip(&pairs) {
        let value = format!(
            "{} in {minutes} minutes (address on both {} ms, on none {} ms)",
            roles.changes,
            roles.both.as_millis(),
            roles.nobody.as_millis()
        );
        eprintln!("{property}: {}: {value}", bench.who.name());
        rows.entry(property).or_default().push((bench.who.name(), value));
    }
    Ok(())
}

/// A fault of which is measured how soon somebody answers again.
#[derive(Clone, Copy)]
struct Blink {
    name: &'static str,
    row: &'static str,
    /// Does it to the active node, heals it, and says how long nobody answered.
    play: fn(&mut Bench, usize) -> u64,
}

const BLINKS: &[Blink] = &[
    Blink { name: "nothing", row: "01b nothing happens, both cores busy: longest wait", play: play_nothing },
    Blink {
        name: "link",
        row: "01c outage at a service link that goes down, both cores busy",
        play: play_link,
    },
    Blink {
        name: "power",
        row: "01d outage at a power cut that carriers tell of, both cores busy",
        play: play_power,
    },
    Blink {
        name: "silent",
        row: "01e outage at a power cut that no carrier tells of, both cores busy",
        play: play_silent,
    },
    Blink {
        name: "killed",
        row: "01f outage at SIGKILL of the active daemon, both cores busy",
        play: play_killed,
    },
];

/// How soon somebody answers again, while both cores are busy. Each outage is told as it is measured.
fn blink(bench: &mut Bench, faults: &[Blink], rounds: usize, rows: &mut Rows) {
    let who = bench.who.name();
    // Beats adapt.
    std::thread::sleep(Duration::from_secs(30));
    let loops = busy_cores();
    for fault in faults {
        let outages = (0..rounds).map(|_| {
            let node = bench.active();
            let gap = (fault.play)(bench, node);
            eprintln!("{}, {}: {gap} ms", fault.name, bench.who.name());
            gap
        });
        let value = quantiles(outages.collect());
        eprintln!("{}: {who}: {value}", fault.row);
        rows.entry(fault.row).or_default().push((who.clone(), value));
    }
    drop(loops);
}

/// What the client waits for besides: it shares the cores, as the servers do.
fn play_nothing(bench: &mut Bench, _: usize) -> u64 {
    bench.short_outage(|| ())
}

fn play_link(bench: &mut Bench, node: usize) -> u64 {
    let end = format!("{}0", NODES[node]);
    let gap = bench.short_outage(|| bench.lab.hosts.ip("switch", &["link", "set", &end, "down"]));
    bench.lab.hosts.ip("switch", &["link", "set", &end, "up"]);
    bench.await_on(1 - node);
    gap
}

fn play_power(bench: &mut Bench, node: usize) -> u64 {
    let gap = bench.short_outage(|| bench.cables(node, "down"));
    bench.cables(node, "up");
    bench.settle();
    gap
}

fn play_silent(bench: &mut Bench, node: usize) -> u64 {
    bench.await_adapted();
    let gap = bench.short_outage(|| bench.mute(node));
    bench.unmute();
    bench.settle();
    gap
}

fn play_killed(bench: &mut Bench, node: usize) -> u64 {
    let gap = bench.short_outage(|| bench.signal(node, Signal::KILL));
    match bench.who {
        Who::Evenkeel => {
            drop(bench.lab.nodes[node].take());
            bench.lab.start(node);
        }
        Who::Keepalived(_) => {
            bench.others[node].clear();
            // What it left behind: nobody else takes the address away.
            bench.lab.hosts.ip(NODES[node], &["address", "del", &format!("{VIP}/32"), "dev", "e0"]);
            bench.start_keepalived(node);
        }
    }
    bench.await_on(1 - node);
    gap
}

fn quantiles(all: Vec<u64>) -> String {
    let all = sorted(all);
    let at = |share: usize| all[(all.len() * share).div_ceil(100).clamp(1, all.len()) - 1];
    format!(
        "p50 {} ms, p90 {} ms, p99 {} ms, longest {} ms of {}",
        at(50),
        at(90),
        at(99),
        at(100),
        all.len()
    )
}

fn faults(bench: &mut Bench, rounds: usize, rows: &mut Rows) -> anyhow::Result<()> {
    let who = bench.who;
    let mut note = |property: &'static str, value: String| {
        eprintln!("{property}: {}: {value}", who.name());
        rows.entry(property).or_default().push((who.name(), value));
    };
    let (mut cut, mut planned, mut failed, mut healed) = (Vec::new(), Vec::new(), 0, Vec::new());
    for _ in 0..rounds {
        let node = bench.active();
        cut.push(bench.outage(|| bench.cables(node, "down")).0);
        bench.cables(node, "up");
        let healing = bench.both(Duration::from_secs(5));
        healed.push(healing.map_or(5_000, |d| d.as_millis() as u64));
        let now = bench.active();
        bench.await_on(now);
    }
    note("01 outage at a power cut", spread(cut));
    note("05 address on both after a partition has healed", spread(healed));
    for _ in 0..rounds {
        let node = bench.active();
        let (gap, fails) = match who {
            Who::Evenkeel => bench.outage(|| drop(bench.lab.cli(node, &["pair", "switch-over"]))),
            Who::Keepalived(_) => {
                // What its manual offers: the active one is stopped, and started again later.
                let result = bench.outage(|| bench.signal(node, Signal::TERM));
                bench.others[node].clear();
                bench.start_keepalived(node);
                result
            }
        };
        planned.push(gap);
        failed += fails;
        bench.await_on(1 - node);
    }
    note("02 outage at a planned switch-over", spread(planned));
    note("03 requests that failed in all planned switch-overs", failed.to_string());

    // Connections of layer 7 over a death.
    let node = bench.active();
    let kept = bench.lab.traffic("c", KEPT_CONNECTIONS, &[VIP, "80", "100", "60000"]);
    std::thread::sleep(Duration::from_secs(3));
    bench.cables(node, "down");
    std::thread::sleep(Duration::from_secs(5));
    let seen = kept.end();
    note(
        "08 idle connections of layer 7 that have ended 5 s after a power cut, of those opened",
        format!("{} of {}", seen["ended"], seen["opened"]),
    );
    bench.cables(node, "up");
    std::thread::sleep(Duration::from_secs(3));

    if who == Who::Evenkeel {
        let kept = bench.lab.traffic("c", KEPT_CONNECTIONS, &["10.77.0.102", "80", "100", "100"]);
        std::thread::sleep(Duration::from_secs(3));
        let node = bench.active();
        bench.cables(node, "down");
        std::thread::sleep(Duration::from_secs(4));
        let seen = kept.end();
        note(
            "07 connections of layer 4 (SNAT) that live on over a power cut, of 100",
            format!(
                "{} (longest wait {} ms)",
                100 - seen["ended"].as_u64().unwrap_or(100) - seen["hung"].as_u64().unwrap_or(0),
                seen["stall_ms"]
            ),
        );
        bench.cables(node, "up");
        std::thread::sleep(Duration::from_secs(3));
    }

    death_of_the_daemon(bench, &mut note);
    Ok(())
}

/// A daemon that is frozen, and one that is killed.
fn death_of_the_daemon(bench: &mut Bench, note: &mut impl FnMut(&'static str, String)) {
    let node = bench.active();
    bench.signal(node, Signal::STOP);
    let both = bench.both_until_moved(node, Duration::from_secs(8));
    note("06 address on both after SIGSTOP of the active daemon", describe(both));
    bench.signal(node, Signal::CONT);
    std::thread::sleep(Duration::from_secs(4));
    let node = bench.active();
    bench.signal(node, Signal::KILL);
    let both = bench.both_until_moved(node, Duration::from_secs(8));
    note("06 address on both after SIGKILL of the active daemon", describe(both));
}

fn describe(both: Option<Duration>) -> String {
    match both {
        Some(time) => format!("{} ms", time.as_millis()),
        None => "for ever (looked for 8 s)".into(),
    }
}

// What the nodes remember

/// Requests with one user each on a kept connection from the client's host, by a small script.
const USERS: &str = r#"
const http = require('http'), fs = require('fs');
const [out, host, from, count] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
let next = +from, done = 0, failed = 0;
function one() {
  if (next >= +from + +count) return;
  const user = 'user' + next++;
  http.get({ host, port: 80, agent, headers: { 'x-user': user } }, r => { r.resume(); r.on('end', () => { done++; one(); }); })
    .on('error', () => { failed++; one(); });
}
for (let i = 0; i < 32; i++) one();
setInterval(() => { if (done + failed >= +count) fs.writeFileSync(out + '.done', 'x'); }, 20);
process.on('SIGTERM', () => { fs.writeFileSync(out, JSON.stringify({ done, failed })); process.exit(0); });
"#;

fn users(bench: &Bench, from: usize, count: usize) -> anyhow::Result<()> {
    let traffic = bench.lab.traffic("c", USERS, &[VIP, &from.to_string(), &count.to_string()]);
    let end = Instant::now() + Duration::from_secs(120);
    while Instant::now() < end {
        let done = std::fs::read_dir(bench.lab.place.folder())?.flatten().any(|e| {
            let name = e.file_name();
            name.to_string_lossy().ends_with(".json.done")
        });
        if done {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let seen = traffic.end();
    for entry in std::fs::read_dir(bench.lab.place.folder())?.flatten() {
        if entry.file_name().to_string_lossy().ends_with(".json.done") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    anyhow::ensure!(seen["done"] == count, "of {count} requests: {seen}");
    Ok(())
}

fn ask_socket(path: &std::path::Path, request: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn known(bench: &Bench, node: usize) -> usize {
    let socket = bench.lab.folder(node).join("admin.sock");
    let text = ask_socket(&socket, "GET /api/v1/persistence/web HTTP/1.0\r\n\r\n").unwrap_or_default();
    text.matches("\"real-server\"").count()
}

/// From an answer to the entry on the other node, as a poller of its socket sees it.
fn latencies(bench: &Bench, seen: impl Fn(&str) -> bool) -> anyhow::Result<Vec<u64>> {
    let namespace = bench.lab.hosts.name("c");
    let mut all = Vec::new();
    for n in 0..100 {
        let user = format!("late{n}x");
        let script = format!(
            "exec 3<>/dev/tcp/{VIP}/80; printf 'GET / HTTP/1.1\\r\\nHost: x\\r\\nX-User: {user}\\r\\nConnection: close\\r\\n\\r\\n' >&3; head -c 12 <&3; echo"
        );
        let mut child = std::process::Command::new("ip")
            .args(["netns", "exec", &namespace, "bash", "-c", &script])
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        let mut answer = [0; 12];
        child.stdout.take().ok_or_else(|| anyhow::anyhow!("no output"))?.read_exact(&mut answer)?;
        let start = Instant::now();
        while !seen(&user) && start.elapsed() < Duration::from_secs(2) {}
        all.push(start.elapsed().as_micros() as u64);
        child.wait()?;
    }
    Ok(sorted(all))
}

fn percentiles(all: &[u64]) -> String {
    let at = |share: usize| all[(all.len() - 1) * share / 100] as f64 / 1000.0;
    format!("p50 {:.1} ms, p95 {:.1} ms", at(50), at(95))
}

fn memory(bench: &mut Bench, rows: &mut Rows) -> anyhow::Result<()> {
    let who = "Evenkeel, defaults".to_owned();
    let mut note = |property: &'static str, value: String| {
        eprintln!("{property}: {value}");
        rows.entry(property).or_default().push((who.clone(), value));
    };
    let (active, passive) = (0, 1);
    let socket = bench.lab.folder(passive).join("admin.sock");
    let late = latencies(bench, |user| {
        ask_socket(&socket, "GET /api/v1/persistence/web HTTP/1.0\r\n\r\n").is_ok_and(|t| t.contains(user))
    })?;
    note("09 an entry on the peer, after its answer", percentiles(&late));

    let count = 100_000;
    users(bench, 0, count)?;
    std::thread::sleep(Duration::from_secs(2));
    let before = known(bench, active);
    if let Some(process) = bench.lab.nodes[passive].take() {
        process.signal(Signal::KILL);
    }
    std::fs::remove_file(bench.lab.folder(passive).join("state/clients.journal"))?;
    bench.lab.start(passive);
    let start = Instant::now();
    while known(bench, passive) < before && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = start.elapsed().as_millis();
    note(
        "10 100,000 entries learnt again, from the daemon's first answer",
        format!("{took} ms ({} of {before})", known(bench, passive)),
    );

    std::thread::sleep(Duration::from_secs(2));
    for node in 0..2 {
        if let Some(process) = bench.lab.nodes[node].take() {
            process.signal(Signal::KILL);
        }
    }
    bench.lab.start(active);
    let after = known(bench, active);
    note("11 entries there after both nodes were killed", format!("{after} of {before}"));
    Ok(())
}

fn haproxy_memory(bench: &Bench, rows: &mut Rows) -> anyhow::Result<()> {
    let socket = bench.lab.place.folder().join("haproxy1.sock");
    let late =
        latencies(bench, |user| ask_socket(&socket, "show table web\n").is_ok_and(|t| t.contains(user)))?;
    let value = percentiles(&late);
    rows.entry("09 an entry on the peer, after its answer")
        .or_default()
        .push(("HAProxy's peers".into(), value));
    Ok(())
}
