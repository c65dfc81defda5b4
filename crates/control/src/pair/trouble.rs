//! What makes this node less fit to be active: links that are down, addresses that do not answer,
//! commands that fail, services without a real server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_health::{Checker, Report, Target};
use evenkeel_model::{HealthCheck, PairSettings, Probe, ScriptProbe};
use evenkeel_platform::Network;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// How much each weighs. Links are weighed by the pair's thread, which the kernel tells of them at once.
const ADDRESS: u16 = PairSettings::COST_OF_CHECK;
const COMMAND: u16 = PairSettings::COST_OF_CHECK;
const SERVICES: u16 = 10;
/// Between two looks at the links.
const LINKS: Duration = Duration::from_millis(200);
/// Looks that must agree.
const FALL: u32 = 3;

pub struct Troubles {
    checker: Checker,
    reports: UnboundedReceiver<Report>,
    names: Vec<(String, u16)>,
    failing: BTreeMap<u32, u32>,
    network: Option<Network>,
    links_at: Instant,
    links_down: Vec<String>,
    no_servers: u32,
    /// The sum, and the links, which are weighed elsewhere.
    told: (u16, Vec<String>),
}

impl Troubles {
    pub fn start(settings: &PairSettings) -> std::io::Result<Troubles> {
        let (sender, reports) = unbounded_channel();
        let mut troubles = Troubles {
            checker: Checker::start(sender)?,
            reports,
            names: Vec::new(),
            failing: BTreeMap::new(),
            network: Network::open().ok(),
            links_at: Instant::now(),
            links_down: Vec::new(),
            no_servers: 0,
            told: (0, Vec::new()),
        };
        troubles.set(settings);
        Ok(troubles)
    }

    pub fn set(&mut self, settings: &PairSettings) {
        self.failing.clear();
        let pings = settings.ping.iter().map(|address| {
            (format!("{address} does not answer"), ADDRESS, Probe::Ping, SocketAddr::new(*address, 0))
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let tracks = settings.track.iter().map(|command| {
            let mut words = command.split_whitespace().map(str::to_owned);
            let script = ScriptProbe {
                command: words.next().unwrap_or_default().into(),
                arguments: words.collect(),
                keepalived: true,
            };
            (format!("{command} fails"), COMMAND, Probe::Script(script), nowhere)
        });
        let all: Vec<_> = pings.chain(tracks).collect();
        let targets = all.iter().enumerate().map(|(id, (_, _, probe, address))| Target {
            id: id as u32,
            address: *address,
            vip: None,
            tls: None,
            check: Arc::new(HealthCheck {
                probe: probe.clone(),
                interval: Duration::from_secs(if matches!(probe, Probe::Ping) { 1 } else { 2 }),
                fast_interval: Duration::from_millis(500),
                ..HealthCheck::default()
            }),
        });
        self.checker.set_targets(targets.collect());
        self.names = all.into_iter().map(|(name, weight, _, _)| (name, weight)).collect();
    }

    /// The sum, where it has changed.
    pub fn update(&mut self, settings: &PairSettings, serving: bool) -> Option<u16> {
        while let Ok(report) = self.reports.try_recv() {
            let count = self.failing.entry(report.id).or_default();
            // Any status of a command but 0 is a failure: none is a weight here.
            *count = if report.passed && report.agent.is_none() { 0 } else { *count + 1 };
        }
        self.no_servers = if serving { 0 } else { self.no_servers + 1 };
        if Instant::now() >= self.links_at {
            self.links_at = Instant::now() + LINKS;
            self.look_at_links(settings);
        }
        let now = (self.sum(), self.links_down.clone());
        (now != self.told).then(|| {
            let sum = now.0;
            self.told = now;
            sum
        })
    }

    fn look_at_links(&mut self, settings: &PairSettings) {
        let Some(network) = &mut self.network else { return };
        let Ok(interfaces) = network.interfaces() else { return };
        let trouble = |name: &str| match interfaces.iter().find(|i| i.name == name) {
            None => Some(format!("there is no interface {name}")),
            Some(found) if !(found.up && found.carrier) => Some(format!("{name} is down")),
            Some(_) => None,
        };
        let mut down: Vec<String> = settings.routers.iter().filter_map(|r| trouble(&r.interface)).collect();
        down.dedup();
        self.links_down = down;
    }

    fn each(&self) -> impl Iterator<Item = (String, u16)> + '_ {
        let links = self.links_down.iter().map(|what| (what.clone(), 0));
        let failing = self.failing.iter().filter(|(_, count)| **count >= FALL);
        let failing = failing.filter_map(|(id, _)| self.names.get(*id as usize).cloned());
        // A moment of it is no reason: probes have just begun, or a real server restarts.
        let none = (self.no_servers > 10).then(|| ("no service has a real server".to_owned(), SERVICES));
        links.chain(failing).chain(none)
    }

    fn sum(&self) -> u16 {
        self.each().fold(0, |sum, (_, weight)| sum.saturating_add(weight))
    }

    pub fn describe(&self) -> Vec<String> {
        self.each().map(|(name, _)| name).collect()
    }
}
