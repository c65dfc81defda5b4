//! A planned change of roles that keeps connections of layer 7. The node that leaves asks the other one to
//! send it the packets of its connections, keeps the addresses on the loopback interface, where it tells
//! nobody of them, and finishes: answers are their connection's last, downloads go on. What is not over
//! after a while is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use evenkeel_admin::Reply;
use evenkeel_api as api;
use evenkeel_model::{Mode, host_prefix};
use evenkeel_platform::{Forward, Network, Silence};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::control::Control;
use super::pair::{Say, Switch};

/// How long the other node may take to get ready.
const READY: Duration = Duration::from_secs(2);
/// The other node goes on a little longer than this one asks it to.
const SPARE: Duration = Duration::from_secs(5);
/// Addresses and ports; the connections of others end.
const MOST_VIPS: usize = 4_096;
/// Connections that are over are seen so late.
const SOON: Duration = Duration::from_millis(500);

/// A VIP and its port, and the interface that has it, by its MAC.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct KeptVip {
    vip: SocketAddr,
    mac: [u8; 6],
}

/// What goes on of this.
#[derive(Default)]
pub struct Keeping {
    asked: Option<PendingSwitch>,
    leaving: Option<Leaving>,
    /// Packets are sent on to the peer until then.
    forwards_until: Option<Instant>,
}

struct PendingSwitch {
    switch: Switch,
    reply: Reply<api::SwitchedOver>,
    since: Instant,
    /// Where the addresses are.
    interfaces: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

/// The connections that are left of a time when this node was active.
struct Leaving {
    from: Instant,
    until: Instant,
    loopback: u32,
    addresses: BTreeSet<IpAddr>,
    _silence: Vec<Silence>,
}

impl Keeping {
    /// A process before this one may have left rules: the next one of a running pair lets them be for their
    /// time, a fresh one takes them away.
    pub fn begin(goes_on: bool, keep: Duration) -> Keeping {
        if !goes_on {
            std::thread::spawn(evenkeel_platform::stop_forwarding);
        }
        let until = Instant::now() + keep + SPARE;
        Keeping { forwards_until: goes_on.then_some(until), ..Keeping::default() }
    }

    /// Sends on what the peer's connections get: the roles have moved by plan.
    pub fn forwards(&self) -> bool {
        self.forwards_until.is_some()
    }
}

impl Control {
    /// What of layer 7 listens on floating addresses.
    fn kept_vips(&self) -> BTreeSet<SocketAddr> {
        let services = self.snapshot().services.iter();
        let of_layer7 = services.filter(|s| matches!(s.mode, Mode::Http | Mode::Tcp));
        let vips = of_layer7.flat_map(|s| s.vips.iter());
        let vips = vips.filter(|vip| !vip.address.is_unspecified() && !vip.address.is_loopback());
        let each = |vip: &evenkeel_model::Vip| {
            let address = vip.address;
            vip.ports.iter().map(move |port| SocketAddr::new(address, port)).collect::<Vec<_>>()
        };
        vips.flat_map(each).filter(|vip| vip.port() > 0).take(MOST_VIPS).collect()
    }

    /// Where those addresses are on this machine: by VIP, the interface's name and MAC.
    fn kept_places(&self) -> std::io::Result<BTreeMap<SocketAddr, (String, [u8; 6])>> {
        let mut network = Network::open()?;
        let (interfaces, own) = (network.interfaces()?, network.addresses()?);
        let mut places = BTreeMap::new();
        for vip in self.kept_vips() {
            let there = own.iter().filter(|o| o.ours && o.address == vip.ip());
            let mut there =
                there.filter_map(|o| interfaces.iter().find(|i| i.index == o.interface && !i.loopback));
            if let Some(interface) = there.next_back() {
                places.insert(vip, (interface.name.clone(), interface.mac));
            }
        }
        Ok(places)
    }

    fn keeps_for(&self) -> Duration {
        self.pair().map_or(Duration::ZERO, |pair| pair.settings().keep)
    }

    /// Gives the role to the peer, connections and all where that is possible.
    pub fn switch_over(&mut self, switch: Switch, reply: Reply<api::SwitchedOver>) {
        let for_ms = self.keeps_for().as_millis() as u64;
        if !self.is_active_node() && for_ms > 0 && self.link_up().is_some() {
            // The other node is the one that has connections.
            self.say(&Say::GiveRole);
            tokio::task::spawn_blocking(move || {
                let given = switch.given(READY + READY);
                let _ = reply.send(given.map_or_else(|| switch.over(), Ok));
            });
            return;
        }
        let places = match self.is_active_node() && for_ms > 0 && self.link_up().is_some() {
            true => self.kept_places().unwrap_or_default(),
            false => BTreeMap::new(),
        };
        if places.is_empty() || self.keeping.asked.is_some() {
            return switch_now(switch, reply);
        }
        // What an earlier change of roles left is over before the peer begins anew.
        self.leave_nothing();
        let vips = places.iter().map(|(vip, (_, mac))| KeptVip { vip: *vip, mac: *mac }).collect();
        self.keeping.asked = Some(PendingSwitch {
            switch,
            reply,
            since: Instant::now(),
            interfaces: places.values().map(|(name, _)| name.clone()).collect(),
            addresses: places.keys().map(SocketAddr::ip).collect(),
        });
        self.say(&Say::Keep { vips, for_ms });
    }

    /// Somebody wants the role on the other node.
    pub fn give_role(&mut self) {
        let switch = self.pair().filter(|pair| pair.is_active()).map(super::pair::Pair::switch);
        if let Some(switch) = switch {
            // Who asked sees it by the role.
            let (reply, _) = tokio::sync::oneshot::channel();
            self.switch_over(switch, reply);
        }
    }

    /// The peer's answer, or none within its time: it is of an older version.
    fn go_on_switching(&mut self, refused: Option<String>) {
        let Some(asked) = self.keeping.asked.take() else { return };
        let prepared = match refused {
            None => self.stay_behind(&asked),
            Some(why) => Err(why),
        };
        if let Err(why) = prepared {
            warn!(why, "the connections of layer 7 end with this change of roles");
        }
        switch_now(asked.switch, asked.reply);
    }

    pub fn kept(&mut self, refused: Option<String>) {
        self.go_on_switching(refused);
    }

    /// The addresses stay here, where nobody hears of them.
    fn stay_behind(&mut self, asked: &PendingSwitch) -> Result<(), String> {
        let silence: Result<Vec<Silence>, _> = asked.interfaces.iter().map(|i| Silence::on(i)).collect();
        let silence = silence.map_err(|e| e.to_string())?;
        let mut network = Network::open().map_err(|e| e.to_string())?;
        let interfaces = network.interfaces().map_err(|e| e.to_string())?;
        let loopback = interfaces.iter().find(|i| i.loopback).ok_or("there is no loopback interface")?.index;
        let life = self.keeps_for();
        for address in &asked.addresses {
            network.keep_address(loopback, *address, life + SPARE).map_err(|e| format!("{address}: {e}"))?;
        }
        let now = Instant::now();
        let leaving = Leaving {
            from: now,
            until: now + life,
            loopback,
            addresses: asked.addresses.clone(),
            _silence: silence,
        };
        self.keeping.leaving = Some(leaving);
        info!(for_s = life.as_secs(), "connections of layer 7 are finished here, by way of the peer");
        Ok(())
    }

    /// This node is passive now.
    pub fn finish_or_cut(&mut self) {
        match &self.keeping.leaving {
            Some(leaving) => {
                let idle = leaving.until.saturating_duration_since(Instant::now() + SOON);
                self.engine().ease(Some(idle));
            }
            None => self.engine().cut_clients(),
        }
    }

    /// Ends what was kept: its time is over, or this node is active again.
    pub fn leave_nothing(&mut self) {
        let Some(leaving) = self.keeping.leaving.take() else { return };
        self.engine().ease(None);
        if !self.is_active_node() {
            self.engine().cut_clients();
        }
        if let Ok(mut network) = Network::open() {
            for address in leaving.addresses {
                let _ = network.remove_address(leaving.loopback, address, host_prefix(address));
            }
        }
        self.say(&Say::KeepNoMore);
    }

    /// The peer hands over, and would have what belongs to its connections.
    pub fn keep_for_peer(&mut self, vips: &[KeptVip], for_ms: u64) {
        let forwards = self.forwards_of(vips);
        let (parts, workers) = (self.engine().connections(), self.engine().workers());
        let Some(say) = self.link_up().map(super::pair::PeerLink::sayer) else { return };
        let lasts = Duration::from_millis(for_ms).min(Duration::from_secs(3_600)) + SPARE;
        self.keeping.forwards_until = Some(Instant::now() + lasts);
        tokio::task::spawn_blocking(move || {
            let lists = (0..workers).filter_map(|_| parts.recv_timeout(Duration::from_secs(1)).ok());
            let own: Vec<_> = lists.flatten().map(|c| (c.client, c.vip)).collect();
            let done = forwards.and_then(|mut all| {
                all.iter_mut().for_each(|forward| forward.own.clone_from(&own));
                evenkeel_platform::forward(&all)
            });
            say(&Say::Kept { refused: done.err() });
        });
    }

    fn forwards_of(&self, vips: &[KeptVip]) -> Result<Vec<Forward>, String> {
        let mut network = Network::open().map_err(|e| e.to_string())?;
        let interfaces = network.interfaces().map_err(|e| e.to_string())?;
        let own = network.addresses().map_err(|e| e.to_string())?;
        let mut all: BTreeMap<(u32, [u8; 6]), Forward> = BTreeMap::new();
        let known = self.kept_vips();
        for KeptVip { vip, mac } in vips.iter().filter(|kept| known.contains(&kept.vip)) {
            // Its network is this node's too, or the kernel knows the way there.
            let near = own.iter().find(|o| !o.ours && crate::neighbours::is_near(o, vip.ip()));
            let index =
                near.map(|o| o.interface).or_else(|| network.way_to(vip.ip()).ok().map(|w| w.interface));
            let interface = interfaces.iter().find(|i| Some(i.index) == index && !i.loopback);
            let interface = interface.ok_or_else(|| format!("no interface for {}", vip.ip()))?;
            let forward = all.entry((interface.index, *mac)).or_insert_with(|| Forward {
                interface: interface.name.clone(),
                own_mac: interface.mac,
                mac: *mac,
                vips: BTreeSet::new(),
                own: Vec::new(),
            });
            forward.vips.insert(*vip);
        }
        Ok(all.into_values().collect())
    }

    pub fn keep_no_more(&mut self) {
        if self.keeping.forwards_until.take().is_some() {
            tokio::task::spawn_blocking(evenkeel_platform::stop_forwarding);
        }
    }

    pub fn tick_keeping(&mut self, now: Instant) {
        if self.keeping.asked.as_ref().is_some_and(|asked| now >= asked.since + READY) {
            self.go_on_switching(Some("the peer did not get ready for it".into()));
        }
        if self.keeping.forwards_until.is_some_and(|until| now >= until) {
            self.keep_no_more();
        }
        let over = self.keeping.leaving.as_ref().is_some_and(|leaving| {
            let none = self.engine().connection_count() == 0 && now >= leaving.from + SOON;
            now >= leaving.until || (none && !self.is_active_node())
        });
        if over {
            self.leave_nothing();
        }
    }
}

fn switch_now(switch: Switch, reply: Reply<api::SwitchedOver>) {
    tokio::task::spawn_blocking(move || {
        let _ = reply.send(switch.over());
    });
}
