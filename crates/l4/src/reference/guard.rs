//! What stands before a new flow: rates, and SYN cookies (RFC 4987, section 3.6).
//!
//! Time is known as two bounds, around the moment at which the program saw the frame. Where the rules
//! allow both outcomes within them, the program's is taken, and counted.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use evenkeel_model::{FlowRate, SynCookies};

use crate::program::{FRAGMENT_SECONDS, tick_shift};
use crate::shared::SourceSlots;

use super::read::{ETHERNET, Packet, Read, read, u16_at};
use super::write::{adjust, is_last_hop, octets};
use super::{
    ACK, FIN, Limited, Observation, PASS, RST, Reference, SEND, SYN, State, Tuple, Verdict, drop_it,
};

/// A flow whose client was asked for a cookie: what its numbers are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shift {
    pub(super) client_number: u32,
    /// The server's number less our own; our own until the server has answered.
    pub(super) difference: u32,
}

/// In 1/1024 jiffies, as the program counts; the true moment is between.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    from: u64,
    until: u64,
}

/// When a rate's next flow is due.
type Due = Moment;

/// Whose rate it is: of what falls into one place of the program's table, or of one source alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum SourceKey {
    Slot(u32),
    Own(usize, IpAddr),
}

#[derive(Default)]
pub(super) struct Guard {
    hertz: u64,
    now: Moment,
    /// What the program did with the frame in hand.
    action: u32,
    limited: Limited,
    flows: HashMap<usize, Due>,
    sources: HashMap<SourceKey, Due>,
    pub(super) slots: Option<SourceSlots>,
    /// Numbers given to clients: the client's own and ours.
    asked: HashMap<Tuple, Vec<(u32, u32)>>,
    order: Vec<(Tuple, u32, u32)>,
    /// Services that have asked for cookies.
    asking: HashSet<usize>,
    ambiguous: usize,
    proved: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rate {
    Within,
    Over,
    SourceOver,
}

impl Guard {
    pub(super) fn look_at(&mut self, seen: &Observation<'_>) {
        self.hertz = seen.clock.hertz;
        self.now = Moment { from: seen.clock.jiffies << 10, until: seen.until << 10 };
        (self.action, self.limited) = (seen.action, seen.limited);
    }

    pub(super) fn now(&self) -> Moment {
        self.now
    }

    /// Whether fragments of a packet whose first one came then are still sent after it.
    pub(super) fn keeps_fragments_of(&mut self, noted: Moment) -> bool {
        let shift = tick_shift(self.hertz);
        let kept = (self.hertz * FRAGMENT_SECONDS) >> shift;
        let tick = |at: u64| at >> 10 >> shift;
        let surely = tick(self.now.until) < tick(noted.from) + kept;
        let surely_not = tick(self.now.from) >= tick(noted.until) + kept;
        self.ambiguous += usize::from(!surely && !surely_not);
        surely || !surely_not && self.action != PASS
    }

    /// Generic cell rate algorithm; `refused` says what the program has decided.
    fn within(&self, due: &mut Due, rate: FlowRate, refused: bool) -> (bool, bool) {
        let now = self.now;
        let interval = (self.hertz * 1024 / u64::from(rate.per_second.max(1))).max(1);
        let burst = interval * u64::from(rate.burst);
        let surely_not = due.from > now.until + burst;
        let surely = due.until <= now.from + burst;
        let within = surely || !surely_not && !refused;
        if within {
            due.from = due.from.max(now.from) + interval;
            due.until = due.until.max(now.until) + interval;
        }
        (within, !surely && !surely_not)
    }

    /// The moment of a cookie, in its five bits, as it may be now.
    fn cookie_moments(&self) -> [u32; 2] {
        let shift = 10 + (self.hertz / 8).max(1).ilog2() + 8;
        [self.now.from, self.now.until].map(|at| (at >> shift) as u32 & 31)
    }
}

impl Reference {
    /// Whether the service's rates have room for this flow.
    pub(super) fn within_rates(&mut self, service: usize, packet: &Packet, state: State) -> Rate {
        let spec = &self.services[service];
        let key = self.source_key(service, packet.source);
        let guard = &mut self.guard;
        let mut source = guard.sources.get(&key).copied().unwrap_or_default();
        let mut flow = guard.flows.get(&service).copied().unwrap_or_default();
        if let Some(rate) = spec.source_rate {
            let (within, unclear) = guard.within(&mut source, rate, guard.limited.source);
            guard.sources.insert(key, source);
            guard.ambiguous += usize::from(unclear);
            if !within {
                return Rate::SourceOver;
            }
        }
        if spec.syn_cookies == SynCookies::Always && state == State::Syn {
            return Rate::Over;
        }
        let Some(rate) = spec.rate else { return Rate::Within };
        let (within, unclear) = guard.within(&mut flow, rate, guard.limited.service);
        guard.flows.insert(service, flow);
        guard.ambiguous += usize::from(unclear);
        if within { Rate::Within } else { Rate::Over }
    }

    fn source_key(&self, service: usize, source: IpAddr) -> SourceKey {
        let slot = self.guard.slots.as_ref().and_then(|slots| slots.of(&self.services[service].name, source));
        let own = || SourceKey::Own(service, evenkeel_model::mask_address(source, 32, 64));
        slot.map_or_else(own, SourceKey::Slot)
    }

    /// What is known of the rates that a frame falls under, for the message of a test: when the next flow is due.
    pub fn rates_of(&self, frame: &[u8]) -> String {
        let Read::Fine(packet) = read(frame) else { return String::new() };
        let Some(service) = self.service_of(&packet.tuple()) else { return String::new() };
        let key = self.source_key(service, packet.source);
        let (source, flow) = (self.guard.sources.get(&key), self.guard.flows.get(&service));
        let (name, now) = (&self.services[service].name, self.guard.now);
        format!(
            "{name} {now:?}, its source {source:?}, the service {flow:?}, {:?}",
            self.flows.get(&packet.tuple())
        )
    }

    /// A first segment is answered with a number that proves the client's address when it comes back.
    pub(super) fn ask_for_cookie(
        &mut self,
        frame: &[u8],
        packet: &Packet,
        service: usize,
        seen: &[u8],
    ) -> Verdict {
        self.guard.asking.insert(service);
        if !packet.plain {
            return drop_it();
        }
        let tuple = packet.tuple();
        let number = number_at(frame, packet.transport + 4);
        // Its upper bits say when it was given and the size of segments, the rest is secret.
        let own = match seen.len() >= packet.transport + 8 {
            true => number_at(seen, packet.transport + 4),
            false => 0,
        };
        let size = offered_size(frame, packet);
        let now = self.guard.cookie_moments();
        let moment = if own >> 27 == now[0] { now[0] } else { now[1] };
        let own = own & 0x1ff_ffff | size << 25 | moment << 27;
        self.guard.asked.entry(tuple).or_default().push((number, own));
        self.guard.order.push((tuple, number, own));
        let write =
            Segment { sequence: own, acknowledged: number.wrapping_add(1), flags: SYN | ACK, window: 0 };
        let mut out = write.in_place_of(frame, packet, tuple.turned(), Some(size_of_segments(own)));
        turn_back(&mut out, frame);
        Verdict { action: SEND, frame: out }
    }

    /// What the client's numbers are, if this segment answers a cookie of ours.
    pub(super) fn cookie_answered(
        &mut self,
        frame: &[u8],
        packet: &Packet,
        service: usize,
        seen: &[u8],
    ) -> Option<Shift> {
        if !self.guard.asking.contains(&service) || !packet.plain {
            return None;
        }
        let number = number_at(frame, packet.transport + 4).wrapping_sub(1);
        let own = number_at(frame, packet.transport + 8).wrapping_sub(1);
        let given = self.guard.asked.get(&packet.tuple())?;
        let now = self.guard.cookie_moments();
        let [good, later] = now.map(|now| now.wrapping_sub(own >> 27) & 31 <= 1);
        let good = match good == later {
            true => good,
            // Only of such a segment does a first one come.
            false => seen.get(packet.transport + 13) == Some(&SYN),
        };
        self.guard.ambiguous += usize::from(now[0] != now[1]);
        let good = good && given.contains(&(number, own));
        good.then_some(Shift { client_number: number, difference: own })
    }

    /// Cookies that were given lately, for a test to answer: from, to, the client's number, ours.
    pub fn some_cookie(&self, number: usize) -> Option<(SocketAddr, SocketAddr, u32, u32)> {
        let recent = &self.guard.order[self.guard.order.len().saturating_sub(32)..];
        let (tuple, client, own) = recent.get(number % recent.len().max(1))?;
        Some((tuple.source, tuple.target, *client, *own))
    }

    /// Real servers that were asked after a cookie, for a test to answer: from, to.
    pub fn some_asked_server(&self, number: usize) -> Option<(SocketAddr, SocketAddr)> {
        let recent = &self.guard.order[self.guard.order.len().saturating_sub(64)..];
        let mut asked = recent.iter().cycle().skip(number).take(recent.len()).filter_map(|(tuple, ..)| {
            let flow = self.flows.get(tuple).filter(|f| f.state == State::Cookie)?;
            self.reply_of(flow, *tuple)
        });
        asked.next().map(|reply| (reply.source, reply.target))
    }

    /// Connections that came about by a cookie, with the real server's answer.
    pub fn proved(&self) -> usize {
        self.guard.proved
    }

    /// Decisions that depended on moments which only the program knows.
    pub fn ambiguous(&self) -> usize {
        self.guard.ambiguous
    }

    /// The first segment that the real server sees is written from the client's proof.
    pub(super) fn first_for_server(
        &self,
        frame: &[u8],
        packet: &Packet,
        tuple: Tuple,
        seen: &[u8],
    ) -> Verdict {
        let flow = self.flows[&tuple].clone();
        let (Some(shift), true) = (flow.shift, packet.plain) else { return drop_it() };
        let window = u16_at(frame, packet.transport + 14);
        let first = Segment { sequence: shift.client_number, acknowledged: 0, flags: SYN, window };
        let out = first.in_place_of(frame, packet, tuple, Some(size_of_segments(shift.difference)));
        let Read::Fine(written) = read(&out) else { return drop_it() };
        self.to_server(&out, &written, &flow, tuple, seen)
    }

    /// The client speaks again before the real server has answered.
    pub(super) fn client_waits(
        &mut self,
        frame: &[u8],
        packet: &Packet,
        tuple: Tuple,
        seen: &[u8],
    ) -> Verdict {
        if packet.flags & SYN != 0 || is_last_hop(frame, packet) {
            return drop_it();
        }
        if packet.flags & (RST | FIN) != 0 {
            self.end(tuple);
            return drop_it();
        }
        self.first_for_server(frame, packet, tuple, seen)
    }

    /// What the real server says to a first segment of ours.
    pub(super) fn server_answers(&mut self, frame: &[u8], packet: &Packet, forward: Tuple) -> Verdict {
        let flow = self.flows[&forward].clone();
        let (Some(shift), true) = (flow.shift, packet.plain) else { return drop_it() };
        if is_last_hop(frame, packet) {
            return drop_it();
        }
        let number = number_at(frame, packet.transport + 4);
        let window = u16_at(frame, packet.transport + 14);
        let own = shift.difference;
        let (sequence, acknowledged) = (own.wrapping_add(1), shift.client_number.wrapping_add(1));
        let to_client = |reference: &Reference, segment: Segment| {
            let out = segment.in_place_of(frame, packet, packet.tuple(), None);
            match read(&out) {
                Read::Fine(written) => reference.to_client_unshifted(&out, &written, forward),
                _ => drop_it(),
            }
        };
        if packet.flags & RST != 0 {
            self.advance(forward, RST, true);
            return to_client(self, Segment { sequence, acknowledged, flags: RST | ACK, window: 0 });
        }
        if packet.flags & (SYN | ACK) != SYN | ACK {
            return drop_it();
        }
        if flow.state == State::Cookie {
            self.guard.proved += 1;
            if let Some(flow) = self.flows.get_mut(&forward) {
                flow.state = State::Established;
                flow.shift = Some(Shift { difference: number.wrapping_sub(own), ..shift });
            }
            return to_client(self, Segment { sequence, acknowledged, flags: ACK, window });
        }
        // It has not heard of the client yet, which waits for it to speak.
        let segment = Segment {
            sequence: acknowledged,
            acknowledged: number.wrapping_add(1),
            flags: ACK,
            window: 64_000,
        };
        let mut out = segment.in_place_of(frame, packet, packet.tuple().turned(), None);
        turn_back(&mut out, frame);
        Verdict { action: SEND, frame: out }
    }
}

fn turn_back(out: &mut [u8], frame: &[u8]) {
    out[..6].copy_from_slice(&frame[6..12]);
    out[6..12].copy_from_slice(&frame[..6]);
}

fn number_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The size that a client offers in its first option, as the nearest one below that a cookie can say.
fn offered_size(frame: &[u8], packet: &Packet) -> u32 {
    let option = packet.transport + 20;
    let long_enough = frame[packet.transport + 12] >> 4 >= 6 && frame.len() >= option + 4;
    if !long_enough || frame[option..option + 2] != [2, 4] {
        return 0;
    }
    match u16_at(frame, option + 2) {
        1440.. => 3,
        1300.. => 2,
        1220.. => 1,
        _ => 0,
    }
}

fn size_of_segments(own: u32) -> u16 {
    [536, 1220, 1300, 1440][(own >> 25 & 3) as usize]
}

/// A segment without data, with one option at most.
struct Segment {
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    window: u16,
}

impl Segment {
    /// The frame with this segment in it, between these two.
    fn in_place_of(&self, frame: &[u8], packet: &Packet, between: Tuple, size: Option<u16>) -> Vec<u8> {
        let network = if packet.v6 { 40 } else { 20 };
        let mut out = frame[..ETHERNET + network].to_vec();
        let (source, target) =
            (octets(between.source.ip(), packet.v6), octets(between.target.ip(), packet.v6));
        let mut tcp = Vec::new();
        tcp.extend_from_slice(&between.source.port().to_be_bytes());
        tcp.extend_from_slice(&between.target.port().to_be_bytes());
        tcp.extend_from_slice(&self.sequence.to_be_bytes());
        tcp.extend_from_slice(&self.acknowledged.to_be_bytes());
        tcp.extend_from_slice(&[6 << 4, self.flags]);
        tcp.extend_from_slice(&self.window.to_be_bytes());
        tcp.extend_from_slice(&[0, 0, 0, 0]);
        match size {
            Some(size) => tcp.extend_from_slice(&[2, 4, (size >> 8) as u8, size as u8]),
            None => tcp.extend_from_slice(&[1; 4]),
        }
        let length = tcp.len() as u16;
        let pseudo = [&source[..], &target, &length.to_be_bytes(), &[0, 6], &tcp].concat();
        let sum = adjust(0xffff, &vec![0; pseudo.len()], &pseudo);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        if packet.v6 {
            out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&length.to_be_bytes());
            out[ETHERNET + 7] = 64;
            out[ETHERNET + 8..].copy_from_slice(&[source, target].concat());
        } else {
            let ip = &mut out[ETHERNET..];
            ip[2..4].copy_from_slice(&(20 + length).to_be_bytes());
            ip[6..12].copy_from_slice(&[0x40, 0, 64, 6, 0, 0]);
            ip[12..].copy_from_slice(&[source, target].concat());
            let sum = adjust(0xffff, &[0; 20], ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        out.extend_from_slice(&tcp);
        out
    }
}
