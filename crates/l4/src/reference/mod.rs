//! The rules of bpf/evenkeel.bpf.c once more, in plain Rust: what should become of a frame.
//!
//! In: services, next hops, frames in their order. Out: the action and the frame as it should be.
//! Never: the kernel, a clock of its own (no flow expires here; of rates, cookies and fragments the
//! caller says when), the secret of the tables. What the program draws by that secret (source ports of
//! SNAT and GUE) is read from its answer and then held against the rules.

mod guard;
mod read;
mod write;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use evenkeel_model::{SynCookies, Tunnel, Vip};

use crate::shared::SourceSlots;
use crate::spec::{Clock, Forwarding, Hop, Server, ServiceSpec};
use guard::{Guard, Moment, Rate, Shift};
use read::{ETHERNET, Fragment, Packet, Read, ip_at, mac_at, quoted, read, u16_at};
use write::{
    Answer, answer, encapsulate, is_last_hop, lower_ttl, octets, replace, reset, translate, write_outer,
    write_quoted,
};

pub const DROP: u32 = 1;
pub const PASS: u32 = 2;
pub const SEND: u32 = 3;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What should become of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub action: u32,
    /// Of [`SEND`]; else nobody sees it again.
    pub frame: Vec<u8>,
}

/// What the program did with a frame, between which moments.
pub struct Observation<'a> {
    pub action: u32,
    pub frame: &'a [u8],
    pub limited: Limited,
    /// The program's clock before it and after.
    pub clock: Clock,
    pub until: u64,
}

/// Which rate the program refused a frame by, as its counters say: a frame that is dropped may have passed
/// every rate and used them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limited {
    /// The rate of its source.
    pub source: bool,
    /// The rate of its service.
    pub service: bool,
}

/// Not seeded anew by each process, so that a seed's frames are the same in each run.
type Map<K, V> = HashMap<K, V, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tuple {
    source: SocketAddr,
    target: SocketAddr,
    protocol: u8,
}

impl Tuple {
    fn turned(self) -> Tuple {
        Tuple { source: self.target, target: self.source, protocol: self.protocol }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Syn,
    Established,
    Closing,
    Closed,
    Udp,
    PickedUp,
    /// The real server is asked, after the client has proved its address.
    Cookie,
}

#[derive(Clone, Debug)]
struct Flow {
    service: usize,
    server: usize,
    state: State,
    client_mac: [u8; 6],
    client_fin: bool,
    server_fin: bool,
    /// Somebody closed it.
    cut: bool,
    /// Of SNAT: what the real server sees.
    own: Option<SocketAddr>,
    /// Of a client that was asked for a cookie.
    shift: Option<Shift>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FragmentKey {
    source: IpAddr,
    target: IpAddr,
    identity: u32,
    protocol: u8,
}

/// Where the later fragments of a packet go.
#[derive(Clone, Copy, Debug)]
struct Noted {
    flow: Tuple,
    reply: bool,
    at: Moment,
}

#[derive(Default)]
pub struct Reference {
    pub mac: [u8; 6],
    services: Vec<ServiceSpec>,
    hops: HashMap<IpAddr, Hop>,
    flows: Map<Tuple, Flow>,
    /// What real servers send, to the flow it belongs to.
    replies: Map<Tuple, Tuple>,
    fragments: HashMap<FragmentKey, Noted>,
    turns: HashMap<String, u64>,
    clients: HashMap<(usize, IpAddr), usize>,
    guard: Guard,
}

impl Reference {
    pub fn new(mac: [u8; 6]) -> Reference {
        Reference { mac, ..Reference::default() }
    }

    /// Services keep their places: flows name them.
    pub fn set_services(&mut self, services: Vec<ServiceSpec>, hops: HashMap<IpAddr, Hop>) {
        (self.services, self.hops) = (services, hops);
    }

    /// Which sources share a rate in the program's table; without it none do.
    pub fn set_source_slots(&mut self, slots: SourceSlots) {
        self.guard.slots = Some(slots);
    }

    pub fn flow_count(&self) -> usize {
        self.flows.len()
    }

    /// The program's table of fragments is bounded and forgets the oldest; whether this frame is one
    /// that it may have forgotten. From now on it is unknown here, too: ask again what should become of it.
    pub fn may_have_forgotten(&mut self, frame: &[u8]) -> bool {
        let Read::Fine(packet) = read(frame) else { return false };
        packet.fragment == Fragment::Later && self.fragments.remove(&packet.fragment_key()).is_some()
    }

    /// What should become of a frame. `seen` is what the program made of it.
    pub fn process(&mut self, frame: &[u8], seen: &Observation<'_>) -> Verdict {
        self.guard.look_at(seen);
        let seen = seen.frame;
        let pass = || Verdict { action: PASS, frame: frame.to_vec() };
        if frame.len() < ETHERNET || frame[..6] != self.mac {
            return pass();
        }
        let packet = match read(frame) {
            Read::Other => return pass(),
            Read::Malformed => return drop_it(),
            Read::Fine(packet) => packet,
        };
        if packet.fragment == Fragment::Later {
            return self.later_fragment(frame, &packet, seen);
        }
        match packet.protocol {
            1 | 58 => self.icmp(frame, &packet, seen),
            6 | 17 => self.transport(frame, &packet, seen),
            _ => pass(),
        }
    }

    fn transport(&mut self, frame: &[u8], packet: &Packet, seen: &[u8]) -> Verdict {
        let tuple = packet.tuple();
        if let Some(flow) = self.flows.get(&tuple).cloned() {
            let takes = self.server(&flow).takes;
            if goes_on(packet, &flow, takes) {
                if flow.state == State::Cookie {
                    return self.client_waits(frame, packet, tuple, seen);
                }
                self.note_fragment(packet, tuple, false);
                return self.known(frame, packet, tuple, seen);
            }
            let opens = packet.protocol == 17 || packet.flags & (SYN | ACK) == SYN;
            if flow.cut && !opens {
                self.advance(tuple, RST, false);
                return reset(frame, packet);
            }
            self.end(tuple);
            return match (opens, takes.resets) {
                (true, _) => self.fresh(frame, packet, seen),
                (false, true) => reset(frame, packet),
                (false, false) => drop_it(),
            };
        }
        if let Some(forward) = self.replies.get(&tuple).copied() {
            let flow = self.flows[&forward].clone();
            let takes = self.server(&flow).takes;
            if flow.cut {
                return self.cut_reply(frame, packet, forward);
            }
            if !takes.existing {
                return if takes.resets { self.cut_reply(frame, packet, forward) } else { drop_it() };
            }
            let opens = packet.flags & (SYN | RST) == SYN;
            if flow.shift.is_some() && (flow.state == State::Cookie || opens) {
                return self.server_answers(frame, packet, forward);
            }
            self.note_fragment(packet, forward, true);
            if packet.protocol == 6 && packet.flags != 0 {
                self.advance(forward, packet.flags, true);
            }
            return self.to_client(frame, packet, forward);
        }
        self.fresh(frame, packet, seen)
    }

    /// A real server that may keep nothing, or whose flow somebody closed: its first segment becomes a
    /// reset for the client, the next one is answered with a reset.
    fn cut_reply(&mut self, frame: &[u8], packet: &Packet, forward: Tuple) -> Verdict {
        if packet.protocol != 6 || packet.flags & RST != 0 {
            return drop_it();
        }
        let flow = self.flows[&forward].clone();
        if flow.state == State::Closed {
            if !flow.cut {
                self.end(forward);
            }
            return reset(frame, packet);
        }
        let network = if packet.v6 { 40 } else { 20 };
        if !packet.plain || frame.len() < ETHERNET + network + 20 || is_last_hop(frame, packet) {
            return drop_it();
        }
        self.advance(forward, RST, true);
        // As if the client had asked for a reset of what it has: the same frame, turned round twice.
        let mut asked = frame.to_vec();
        let at = ETHERNET + network;
        let (first, size) = if packet.v6 { (ETHERNET + 8, 16) } else { (ETHERNET + 12, 4) };
        asked[first..first + size].copy_from_slice(&octets(forward.source.ip(), packet.v6));
        asked[first + size..first + 2 * size].copy_from_slice(&octets(forward.target.ip(), packet.v6));
        asked[at..at + 2].copy_from_slice(&forward.source.port().to_be_bytes());
        asked[at + 2..at + 4].copy_from_slice(&forward.target.port().to_be_bytes());
        let mut sequence = frame[at + 4..at + 8].to_vec();
        if let Some(shift) = flow.shift {
            let number = u32::from_be_bytes([sequence[0], sequence[1], sequence[2], sequence[3]]);
            let number = match flow.state {
                State::Cookie => shift.difference.wrapping_add(1),
                _ => number.wrapping_sub(shift.difference),
            };
            sequence = number.to_be_bytes().to_vec();
        }
        let acknowledged = frame[at + 8..at + 12].to_vec();
        let mut out = reset(&asked, packet).frame;
        // Sequence and acknowledgement stay the server's own.
        replace(&mut out, at + 4, &sequence, &[at + 16]);
        replace(&mut out, at + 8, &acknowledged, &[at + 16]);
        let word = [out[at + 12], RST | ACK];
        replace(&mut out, at + 12, &word, &[at + 16]);
        out[..6].copy_from_slice(&flow.client_mac);
        out[6..12].copy_from_slice(&self.mac);
        Verdict { action: SEND, frame: out }
    }

    fn known(&mut self, frame: &[u8], packet: &Packet, tuple: Tuple, seen: &[u8]) -> Verdict {
        if let Some(flow) = self.flows.get_mut(&tuple) {
            flow.client_mac = mac_at(frame, 6);
        }
        if packet.protocol == 6 && packet.flags & (FIN | RST | ACK) != 0 {
            self.advance(tuple, packet.flags, false);
        }
        self.to_server(frame, packet, &self.flows[&tuple].clone(), tuple, seen)
    }

    fn service_of(&self, tuple: &Tuple) -> Option<usize> {
        self.services.iter().position(|s| {
            let speaks = if tuple.protocol == 6 { s.tcp } else { s.udp };
            let is_at = |v: &Vip| v.address == tuple.target.ip() && v.ports.contains(tuple.target.port());
            speaks && s.vips.iter().any(is_at)
        })
    }

    fn fresh(&mut self, frame: &[u8], packet: &Packet, seen: &[u8]) -> Verdict {
        let tuple = packet.tuple();
        let Some(service) = self.service_of(&tuple) else {
            return Verdict { action: PASS, frame: frame.to_vec() };
        };
        if is_last_hop(frame, packet) {
            return answer(frame, packet, Answer::TimeExceeded);
        }
        let mut state = State::Udp;
        if tuple.protocol == 6 {
            if packet.flags & RST != 0 {
                return drop_it();
            }
            state = if packet.flags & (SYN | ACK) == SYN { State::Syn } else { State::PickedUp };
        }
        let mut shift = None;
        if state == State::PickedUp {
            shift = self.cookie_answered(frame, packet, service, seen);
        }
        match shift {
            Some(_) => state = State::Cookie,
            None => match self.within_rates(service, packet, state) {
                Rate::Within => {}
                Rate::Over
                    if state == State::Syn && self.services[service].syn_cookies != SynCookies::Off =>
                {
                    return self.ask_for_cookie(frame, packet, service, seen);
                }
                Rate::Over | Rate::SourceOver => return drop_it(),
            },
        }
        let known = self.persistent(service, tuple.source.ip());
        let Some(server) = known.or_else(|| self.pick(service, state, seen)) else {
            return if tuple.protocol == 6 { reset(frame, packet) } else { drop_it() };
        };
        let spec = &self.services[service];
        let snat = spec.forwarding == Forwarding::Snat;
        if snat && state == State::PickedUp {
            return reset(frame, packet);
        }
        let mut flow = Flow {
            service,
            server,
            state,
            client_mac: mac_at(frame, 6),
            client_fin: false,
            server_fin: false,
            cut: false,
            own: None,
            shift,
        };
        if snat {
            match self.source_seen(packet, seen, &flow, tuple) {
                Some(own) => flow.own = Some(own),
                None => return drop_it(),
            }
        }
        if let Some(reply) = self.reply_of(&flow, tuple) {
            if let Some(other) = self.replies.get(&reply).copied() {
                let over = |f: &Flow| f.cut || matches!(f.state, State::Closing | State::Closed);
                if !self.flows.get(&other).is_some_and(over) {
                    return drop_it();
                }
                self.end(other);
            }
            self.replies.insert(reply, tuple);
        }
        let remembered = self.services[service].servers[server].takes.remembered;
        if let Some(key) = self.client_key(service, tuple.source.ip()).filter(|_| remembered) {
            self.clients.insert(key, server);
        }
        self.flows.insert(tuple, flow.clone());
        self.note_fragment(packet, tuple, false);
        if state == State::Cookie {
            return self.first_for_server(frame, packet, tuple, seen);
        }
        self.to_server(frame, packet, &flow, tuple, seen)
    }

    fn client_key(&self, service: usize, client: IpAddr) -> Option<(usize, IpAddr)> {
        let rule = self.services[service].persist?;
        Some((service, evenkeel_model::mask_address(client, rule.mask, rule.mask6)))
    }

    /// The server that this client is remembered to have.
    fn persistent(&self, service: usize, client: IpAddr) -> Option<usize> {
        let server = *self.clients.get(&self.client_key(service, client)?)?;
        let takes = self.services[service].servers[server].takes;
        (takes.persistent && takes.remembered).then_some(server)
    }

    /// Somebody closes a flow of this client at this VIP; whether it counted as active.
    pub fn cut(&mut self, client: SocketAddr, vip: SocketAddr, protocol: u8) -> bool {
        let flow = self.flows.get_mut(&Tuple { source: client, target: vip, protocol });
        let Some(flow) = flow.filter(|flow| !flow.cut && flow.state != State::Closed) else { return false };
        flow.cut = true;
        flow.state != State::Closing
    }

    /// A flow for a test to close: its client, its VIP, its protocol.
    pub fn some_flow(&self, number: usize) -> Option<(SocketAddr, SocketAddr, u8)> {
        let tuple = self.flows.keys().nth(number % self.flows.len().max(1))?;
        Some((tuple.source, tuple.target, tuple.protocol))
    }

    /// A flow of which real servers answer through here, for a test to answer: what they would send.
    pub fn some_reply(&self, number: usize) -> Option<(SocketAddr, SocketAddr, bool)> {
        let reply = self.replies.keys().nth(number % self.replies.len().max(1))?;
        Some((reply.source, reply.target, reply.protocol == 17))
    }

    /// The server whose turn it is; for a segment in mid-flow one of those that take new clients, as
    /// the program's hash has it.
    fn pick(&mut self, service: usize, state: State, seen: &[u8]) -> Option<usize> {
        let spec = &self.services[service];
        let able: Vec<usize> = (0..spec.servers.len())
            .filter(|i| spec.servers[*i].takes.new && spec.servers[*i].weight > 0)
            .collect();
        if able.is_empty() {
            return None;
        }
        if state == State::PickedUp {
            let goes_to = |i: &&usize| {
                let hop = self.hops.get(&spec.servers[**i].address.ip());
                hop.is_some_and(|hop| seen.starts_with(&hop.mac))
            };
            return Some(*able.iter().find(goes_to).unwrap_or(&able[0]));
        }
        let turn = self.turns.entry(spec.name.clone()).or_default();
        let chosen = able[(*turn % able.len() as u64) as usize];
        *turn += 1;
        Some(chosen)
    }

    /// The address and port that the program drew, if the rules allow it.
    fn source_seen(&self, packet: &Packet, seen: &[u8], flow: &Flow, tuple: Tuple) -> Option<SocketAddr> {
        let at = ETHERNET + if packet.v6 { 8 } else { 12 };
        let size = if packet.v6 { 16 } else { 4 };
        if seen.len() < packet.transport + 2 {
            return None;
        }
        let address = ip_at(seen, at, size);
        let port = u16_at(seen, packet.transport);
        let own = SocketAddr::new(address, port);
        let spec = &self.services[flow.service];
        let hop = self.hops.get(&self.server(flow).address.ip())?;
        let allowed =
            if spec.sources.is_empty() { hop.source.into_iter().collect() } else { spec.sources.clone() };
        let ports = spec.source_ports;
        let free = Flow { own: Some(own), ..flow.clone() };
        let taken = self.reply_of(&free, tuple).is_some_and(|r| self.replies.contains_key(&r));
        (allowed.contains(&address) && (ports.first..=ports.last).contains(&port) && !taken).then_some(own)
    }

    fn server(&self, flow: &Flow) -> &Server {
        &self.services[flow.service].servers[flow.server]
    }

    fn real(&self, flow: &Flow, tuple: Tuple) -> SocketAddr {
        let address = self.server(flow).address;
        match (address.port(), self.services[flow.service].forwarding) {
            (0, _) | (_, Forwarding::Dr | Forwarding::Tun(_)) => {
                SocketAddr::new(address.ip(), tuple.target.port())
            }
            _ => address,
        }
    }

    fn reply_of(&self, flow: &Flow, tuple: Tuple) -> Option<Tuple> {
        let source = self.real(flow, tuple);
        match self.services[flow.service].forwarding {
            Forwarding::Nat => Some(Tuple { source, target: tuple.source, protocol: tuple.protocol }),
            Forwarding::Snat => Some(Tuple { source, target: flow.own?, protocol: tuple.protocol }),
            _ => None,
        }
    }

    fn end(&mut self, tuple: Tuple) {
        if let Some(flow) = self.flows.remove(&tuple)
            && let Some(reply) = self.reply_of(&flow, tuple)
        {
            self.replies.remove(&reply);
        }
        self.fragments.retain(|_, noted| noted.flow != tuple);
    }

    fn advance(&mut self, tuple: Tuple, flags: u8, reply: bool) {
        let Some(flow) = self.flows.get_mut(&tuple) else { return };
        if flags & RST != 0 {
            flow.state = State::Closed;
        } else if flags & FIN != 0 {
            if reply {
                flow.server_fin = true;
            } else {
                flow.client_fin = true;
            }
            if flow.state != State::Closed {
                let both = flow.client_fin && flow.server_fin;
                flow.state = if both { State::Closed } else { State::Closing };
            }
        } else if !reply && flow.state == State::Syn && flags & (ACK | SYN) == ACK
            || reply && flow.state == State::PickedUp
        {
            flow.state = State::Established;
        }
    }

    fn note_fragment(&mut self, packet: &Packet, flow: Tuple, reply: bool) {
        if packet.fragment == Fragment::First {
            let at = self.guard.now();
            self.fragments.insert(packet.fragment_key(), Noted { flow, reply, at });
        }
    }

    fn later_fragment(&mut self, frame: &[u8], packet: &Packet, seen: &[u8]) -> Verdict {
        let noted = self.fragments.get(&packet.fragment_key()).copied();
        if let Some(Noted { flow: tuple, reply, .. }) = noted.filter(|n| self.guard.keeps_fragments_of(n.at))
            && let Some(flow) = self.flows.get(&tuple).cloned()
        {
            if !self.server(&flow).takes.existing || flow.cut || is_last_hop(frame, packet) {
                return drop_it();
            }
            return match reply {
                true => self.to_client(frame, packet, tuple),
                false => match self.to_server(frame, packet, &flow, tuple, seen) {
                    // Too big or at its end: of fragments the sender is told nothing.
                    verdict if verdict.frame.len() < frame.len() => drop_it(),
                    verdict => verdict,
                },
            };
        }
        match self.services.iter().any(|s| s.vips.iter().any(|v| v.address == packet.target)) {
            true => drop_it(),
            false => Verdict { action: PASS, frame: frame.to_vec() },
        }
    }

    /// The frame on its way to the real server.
    fn to_server(&self, frame: &[u8], packet: &Packet, flow: &Flow, tuple: Tuple, seen: &[u8]) -> Verdict {
        let Some(hop) = self.hops.get(&self.server(flow).address.ip()) else { return drop_it() };
        if is_last_hop(frame, packet) {
            return answer(frame, packet, Answer::TimeExceeded);
        }
        let forwarding = self.services[flow.service].forwarding;
        let real = self.real(flow, tuple);
        let mut out = frame.to_vec();
        match forwarding {
            Forwarding::Dr => lower_ttl(&mut out, packet),
            Forwarding::Tun(tunnel) => {
                let header = if real.is_ipv4() { 20 } else { 40 };
                let overhead = header + if tunnel == Tunnel::Gue { 8 } else { 0 };
                if packet.length + overhead > hop.mtu as usize {
                    return answer(frame, packet, Answer::TooBig(hop.mtu as u16 - overhead as u16));
                }
                lower_ttl(&mut out, packet);
                let Some(own) = hop.source else { return drop_it() };
                out = encapsulate(&out, packet, own, real.ip(), tunnel, seen);
            }
            Forwarding::Nat | Forwarding::Snat => {
                if let Some(shift) =
                    flow.shift.filter(|_| flow.state != State::Cookie && packet.flags & ACK != 0)
                {
                    shift_number(&mut out, packet, packet.transport + 8, shift.difference);
                }
                let source = flow.own.unwrap_or(tuple.source);
                translate(&mut out, packet, (source, real));
                lower_ttl(&mut out, packet);
            }
        }
        out[..6].copy_from_slice(&hop.mac);
        out[6..12].copy_from_slice(&self.mac);
        Verdict { action: SEND, frame: out }
    }

    fn to_client(&self, frame: &[u8], packet: &Packet, forward: Tuple) -> Verdict {
        if is_last_hop(frame, packet) {
            return answer(frame, packet, Answer::TimeExceeded);
        }
        let mut out = frame.to_vec();
        if let Some(shift) = self.flows[&forward].shift {
            shift_number(&mut out, packet, packet.transport + 4, shift.difference.wrapping_neg());
        }
        self.to_client_unshifted(&out, packet, forward)
    }

    fn to_client_unshifted(&self, frame: &[u8], packet: &Packet, forward: Tuple) -> Verdict {
        let flow = &self.flows[&forward];
        let mut out = frame.to_vec();
        translate(&mut out, packet, (forward.target, forward.source));
        lower_ttl(&mut out, packet);
        out[..6].copy_from_slice(&flow.client_mac);
        out[6..12].copy_from_slice(&self.mac);
        Verdict { action: SEND, frame: out }
    }

    fn icmp(&mut self, frame: &[u8], packet: &Packet, seen: &[u8]) -> Verdict {
        let pass = || Verdict { action: PASS, frame: frame.to_vec() };
        let at = packet.transport;
        if frame.len() < at + 8 {
            return pass();
        }
        let kinds: HashSet<u8> = if packet.v6 { (1..=4).collect() } else { [3, 11, 12].into() };
        let Some(quoted) = kinds.contains(&frame[at]).then(|| quoted(frame, packet)).flatten() else {
            return pass();
        };
        let about = quoted.turned();
        let (tuple, to_server) = match (self.flows.contains_key(&about), self.replies.get(&about)) {
            (true, _) => (about, true),
            (false, Some(forward)) => (*forward, false),
            (false, None) => return pass(),
        };
        let flow = self.flows[&tuple].clone();
        if !self.server(&flow).takes.existing || is_last_hop(frame, packet) {
            return drop_it();
        }
        let real = self.real(&flow, tuple);
        let Some(hop) = self.hops.get(&real.ip()) else { return drop_it() };
        let forwarding = self.services[flow.service].forwarding;
        if to_server && matches!(forwarding, Forwarding::Dr | Forwarding::Tun(_)) {
            let verdict = self.to_server(frame, packet, &flow, tuple, seen);
            return if verdict.frame.len() < frame.len() { drop_it() } else { verdict };
        }
        let mut out = frame.to_vec();
        let (written, outer, mac) = if to_server {
            let written = Tuple { source: real, target: flow.own.unwrap_or(quoted.target), ..quoted };
            (written, (packet.source, real.ip()), hop.mac)
        } else {
            let written = Tuple { source: tuple.source, target: tuple.target, ..quoted };
            let source = if packet.source == real.ip() { tuple.target.ip() } else { packet.source };
            let target = if forwarding == Forwarding::Snat { tuple.source.ip() } else { packet.target };
            (written, (source, target), flow.client_mac)
        };
        let shift = flow.shift.filter(|_| to_server && flow.state != State::Cookie);
        write_quoted(&mut out, packet, written, shift.map_or(0, |s| s.difference));
        write_outer(&mut out, packet, outer);
        lower_ttl(&mut out, packet);
        out[..6].copy_from_slice(&mac);
        out[6..12].copy_from_slice(&self.mac);
        Verdict { action: SEND, frame: out }
    }
}

/// Adds to one of a segment's numbers, which its checksum covers.
fn shift_number(frame: &mut [u8], packet: &Packet, at: usize, by: u32) {
    if packet.protocol != 6 || packet.fragment == Fragment::Later {
        return;
    }
    let number = u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    replace(frame, at, &number.wrapping_add(by).to_be_bytes(), &[packet.transport + 16]);
}

fn drop_it() -> Verdict {
    Verdict { action: DROP, frame: Vec::new() }
}

fn goes_on(packet: &Packet, flow: &Flow, takes: crate::spec::Takes) -> bool {
    let alive = takes.new || takes.persistent;
    let over = matches!(flow.state, State::Closing | State::Closed | State::PickedUp);
    let opens = packet.flags & (SYN | ACK) == SYN;
    takes.existing
        && !flow.cut
        && match packet.protocol {
            17 => alive,
            _ => !opens || !over && alive,
        }
}
