//! A pair under random faults, by seed: nodes killed, frozen and replaced, ports dead, cables out, roles
//! moved, configurations committed. After each fault that what must hold holds again, and at the end nothing
//! is left over.

use std::time::{Duration, Instant};

use evenkeel_testbed::eventually;
use evenkeel_testbed::pair::{KEPT_CONNECTIONS, NEW_CONNECTIONS, NODES, PairLab};
use rustix::process::Signal;

use crate::layer4::service;
use crate::pair::{BACK, FRONT, lab};
use crate::pair_faults::is_at_rest;

/// A small generator, so that a seed tells the order of faults.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

const VIP: &str = "10.77.0.100";
/// What is broken is mended in that time, on a machine that is busy.
const HEALS: Duration = Duration::from_secs(60);

struct Soak {
    lab: PairLab,
    random: Random,
    seed: u64,
    story: Vec<String>,
    /// The mark of the last commit that was acknowledged.
    committed: Option<String>,
}

impl Soak {
    fn active(&self) -> Option<usize> {
        let roles = [self.lab.role(0), self.lab.role(1)];
        match (roles[0].as_str(), roles[1].as_str()) {
            ("active", "passive") => Some(0),
            ("passive", "active") => Some(1),
            _ => None,
        }
    }

    fn ports(&self, node: usize, ports: &[usize], set: &[&str]) {
        for port in ports {
            let port = format!("{}{port}", NODES[node]);
            self.lab.hosts.ip("switch", &[&["link", "set", &port], set].concat());
        }
    }

    fn one_fault(&mut self) {
        let node = self.random.below(2) as usize;
        let lasts = Duration::from_millis(50 + self.random.below(2_500));
        let kind = self.random.below(9);
        let what = [
            "killed",
            "stopped for a while",
            "ended in order",
            "dead port",
            "cable of the service network",
            "cable of the peer link",
            "all cables",
            "switch-over",
            "commit",
        ][kind as usize];
        self.story.push(format!("{what}: {} {} ms", NODES[node], lasts.as_millis()));
        match kind {
            0 | 2 => {
                let signal = if kind == 0 { Signal::KILL } else { Signal::TERM };
                let mut process = self.lab.nodes[node].take().unwrap();
                process.signal(signal);
                if kind == 2 {
                    let _ = process.wait();
                }
                std::thread::sleep(lasts);
                self.lab.start(node);
            }
            1 => {
                self.lab.nodes[node].as_ref().unwrap().signal(Signal::STOP);
                std::thread::sleep(lasts);
                self.lab.nodes[node].as_ref().unwrap().signal(Signal::CONT);
            }
            3 => {
                self.ports(node, &[0], &["nomaster"]);
                std::thread::sleep(lasts);
                self.ports(node, &[0], &["master", "front"]);
            }
            4..=6 => {
                let ports: &[usize] = [&[0][..], &[2], &[0, 1, 2]][kind as usize - 4];
                self.ports(node, ports, &["down"]);
                std::thread::sleep(lasts);
                self.ports(node, ports, &["up"]);
            }
            7 => drop(self.lab.cli(node, &["pair", "switch-over"])),
            _ => self.commit(node),
        }
    }

    fn commit(&mut self, node: usize) {
        let mark = format!("mark-{}", self.random.below(1_000_000));
        let text = std::fs::read_to_string(self.lab.config_file(node)).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.contains("# mark-")).collect();
        let text = kept.join("\n").replacen("[network]", &format!("[network] # {mark}"), 1);
        let text = match text.contains(&mark) {
            true => text,
            false => text + "\n[network] # " + &mark + "\nfloating-ips = [\"10.78.0.254/24\"]\n",
        };
        let file = self.lab.place.write("soak.toml", text).display().to_string();
        let done = self.lab.json(node, &["commit", &file]);
        self.story.push(format!("{mark}: {}", done["peer"]));
        if done["peer"] == "committed" {
            self.committed = Some(mark);
        }
    }

    fn say(&self) -> String {
        let logs: Vec<String> = (0..2).map(|node| tail(&self.lab.log(node))).collect();
        let links: Vec<String> =
            (0..2).map(|node| self.lab.json(node, &["pair", "status"])["link"].to_string()).collect();
        format!("SEED={} {:#?}\n{links:#?}\nlb1: {}\nlb2: {}", self.seed, self.story, logs[0], logs[1])
    }

    /// What must hold whenever nothing is broken any more.
    fn check(&self) {
        let began = Instant::now();
        let mut missing = "nothing was looked at";
        while began.elapsed() < HEALS {
            missing = match self.missing() {
                Some(missing) => missing,
                None => return,
            };
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{missing}\n{}", self.say());
    }

    fn missing(&self) -> Option<&'static str> {
        let Some(active) = self.active() else { return Some("one node is active") };
        if !self.lab.has(active, VIP) || self.lab.has(1 - active, VIP) {
            return Some("the VIP is on the active node alone");
        }
        let answer = self.lab.hosts.run("c", "curl", &["-sS", "--max-time", "3", &format!("http://{VIP}/")]);
        if !answer.out.starts_with('s') {
            return Some("clients are served");
        }
        let mark = self.committed.clone().unwrap_or_default();
        let has =
            |node| std::fs::read_to_string(self.lab.config_file(node)).unwrap_or_default().contains(&mark);
        if !has(0) || !has(1) {
            return Some("what was committed on both is on both");
        }
        let said = self.lab.json(0, &["pair", "status"]);
        (said["link"]["configuration"] != "same").then_some("both have the same configuration")
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// `SEED` for the same faults again, `EVENKEEL_SOAK` for more seconds than a few.
#[test]
fn a_pair_lives_through_random_faults() {
    let Some(mut lab) = lab("pair-soak") else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let seconds = number("EVENKEEL_SOAK").unwrap_or(25);
    println!("SEED={seed}");
    let check = "health-check = { type = \"tcp\", interval = \"1s\" }";
    let text = [
        "[network]\nfloating-ips = [\"10.78.0.254/24\"]\n".to_owned(),
        service("web", "10.77.0.100:80", "http", check, FRONT),
        service("raw", "10.77.0.101:80", "tcp", check, FRONT),
        service("nat", "10.77.0.102:80", "nat", check, BACK),
    ]
    .concat();
    lab.start_pair("learning-time = \"3s\"\nswitch-over-drain = \"3s\"", &text);
    let load = [
        lab.traffic("c", NEW_CONNECTIONS, &[VIP, "80", "20"]),
        lab.traffic("d", NEW_CONNECTIONS, &["10.77.0.101", "80", "20"]),
        lab.traffic("c", KEPT_CONNECTIONS, &["10.77.0.100,10.77.0.101", "80", "40", "200"]),
    ];
    let mut soak = Soak { lab, random: Random(seed), seed, story: Vec::new(), committed: None };
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        soak.one_fault();
        // Faults come on top of each other, too.
        if soak.random.below(3) > 0 {
            soak.check();
        }
    }
    soak.check();
    println!("SEED={seed}: {} faults", soak.story.len());
    load.into_iter().for_each(|load| println!("{}", load.end()));
    for node in 0..2 {
        eventually("nothing is left over", HEALS, || is_at_rest(&soak.lab, node));
        let log = soak.lab.log(node);
        assert!(!log.contains("panicked"), "{}", soak.say());
    }
}
