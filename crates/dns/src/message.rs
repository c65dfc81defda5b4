//! Questions for addresses and services, and their answers (RFC 1035, 2782, 6891).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use evenkeel_model::HostName;

/// Records of an answer that are taken.
pub const RECORDS: usize = 10_000;
/// Names that lead to another within one answer.
const ALIASES: usize = 16;
const OPT: u16 = 41;
const CNAME: u16 = 5;
pub(crate) const INTERNET: u16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    A,
    Aaaa,
    Srv,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Aaaa => 28,
            Kind::Srv => 33,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: HostName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Addresses {
        addresses: Vec<IpAddr>,
        ttl: u32,
    },
    Services {
        services: Vec<Service>,
        ttl: u32,
    },
    /// The name is another name for this one, of which the answer says nothing.
    Alias {
        name: HostName,
        ttl: u32,
    },
    /// The name exists and has nothing of this kind.
    Nothing,
    NoName,
    /// To be asked again over TCP.
    Truncated,
    Refused,
    Failed,
}

/// Why bytes are no answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    Short,
    /// Another id or question: of somebody else, or forged.
    Other,
    Name,
    Record,
}

/// A question that wants recursion, with room for `udp_size` bytes of answer.
pub fn question(id: u16, name: &HostName, kind: Kind, udp_size: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.as_str().len() + 29);
    out.extend(id.to_be_bytes());
    // Recursion desired; one question, one additional record.
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    out.extend(labels(name.as_str()));
    out.extend(kind.number().to_be_bytes());
    out.extend(INTERNET.to_be_bytes());
    out.push(0);
    out.extend(OPT.to_be_bytes());
    out.extend(udp_size.to_be_bytes());
    out.extend([0; 6]);
    out
}

/// A name in the form of messages; each of its labels has at most 63 bytes.
pub(crate) fn labels(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
    }
    out.push(0);
    out
}

/// What a message answers to the question with this id.
pub fn reply(message: &[u8], id: u16, name: &HostName, kind: Kind) -> Result<Reply, Bad> {
    let mut reader = Reader { message, at: 0 };
    let is_id = reader.number()? == id;
    let flags = reader.number()?;
    let counts = [reader.number()?, reader.number()?, reader.number()?, reader.number()?];
    // An answer (not a question) to a plain query.
    if !is_id || flags & 0x8000 == 0 || flags & 0x7800 != 0 || counts[0] > 1 {
        return Err(Bad::Other);
    }
    let code = flags & 0xf;
    match counts[0] {
        1 => {
            let asked = reader.name()?;
            let same = asked == name.as_str();
            if !same || reader.number()? != kind.number() || reader.number()? != INTERNET {
                return Err(Bad::Other);
            }
        }
        // Some servers that refuse leave the question away; without it nothing good is believed.
        _ if code != 0 && code != 3 => {}
        _ => return Err(Bad::Other),
    }
    match code {
        0 => {}
        3 => return Ok(Reply::NoName),
        5 => return Ok(Reply::Refused),
        _ => return Ok(Reply::Failed),
    }
    if flags & 0x0200 != 0 {
        return Ok(Reply::Truncated);
    }
    let mut records = Vec::new();
    for _ in 0..usize::from(counts[1]).min(RECORDS) {
        records.extend(reader.record(kind)?);
    }
    Ok(follow(&records, name, kind))
}

enum Data {
    Address(IpAddr),
    Service(Service),
    Alias(HostName),
}

struct Record {
    owner: String,
    ttl: u32,
    data: Data,
}

/// Follows aliases from the name to what was asked for.
fn follow(records: &[Record], name: &HostName, kind: Kind) -> Reply {
    let mut owner = name.clone();
    let mut ttl = u32::MAX;
    for _ in 0..ALIASES {
        let own = || records.iter().filter(|r| r.owner == owner.as_str());
        let (mut addresses, mut services) = (Vec::new(), Vec::new());
        let mut alias = None;
        let mut shortest = ttl;
        for record in own() {
            match &record.data {
                Data::Address(address) => addresses.push(*address),
                Data::Service(service) => services.push(service.clone()),
                Data::Alias(to) => alias = Some(to.clone()),
            }
            shortest = shortest.min(record.ttl);
        }
        ttl = shortest;
        if kind == Kind::Srv && !services.is_empty() {
            return Reply::Services { services, ttl };
        }
        if !addresses.is_empty() {
            return Reply::Addresses { addresses, ttl };
        }
        match alias {
            Some(to) => owner = to,
            None if owner == *name => return Reply::Nothing,
            None => return Reply::Alias { name: owner, ttl },
        }
    }
    // Aliases in a circle.
    Reply::Failed
}

pub(crate) struct Reader<'a> {
    pub message: &'a [u8],
    pub at: usize,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Result<&[u8], Bad> {
        let bytes = self.message.get(self.at..).and_then(|rest| rest.get(..length)).ok_or(Bad::Short)?;
        self.at += length;
        Ok(bytes)
    }

    pub fn number(&mut self) -> Result<u16, Bad> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// In lower case, without the dot of the root. Pointers lead backwards only, so that a name ends
    /// (RFC 1035, section 4.1.4).
    pub fn name(&mut self) -> Result<String, Bad> {
        let mut text = String::new();
        let (mut at, mut lowest) = (self.at, self.at);
        let mut after = None;
        loop {
            let length = usize::from(*self.message.get(at).ok_or(Bad::Short)?);
            match length >> 6 {
                0 if length == 0 => {
                    self.at = after.unwrap_or(at + 1);
                    return Ok(text);
                }
                0 => {
                    let label = self.message.get(at + 1..at + 1 + length).ok_or(Bad::Short)?;
                    if text.len() + length + 1 > 255 || !label.is_ascii() {
                        return Err(Bad::Name);
                    }
                    if !text.is_empty() {
                        text.push('.');
                    }
                    // A dot inside of a label would make two of it.
                    let plain =
                        |b: &u8| if *b == b'.' { '\u{1}' } else { char::from(b.to_ascii_lowercase()) };
                    text.extend(label.iter().map(plain));
                    at += 1 + length;
                }
                3 => {
                    let low = usize::from(*self.message.get(at + 1).ok_or(Bad::Short)?);
                    let target = (length & 0x3f) << 8 | low;
                    if target >= lowest {
                        return Err(Bad::Name);
                    }
                    after = after.or(Some(at + 2));
                    (at, lowest) = (target, target);
                }
                _ => return Err(Bad::Name),
            }
        }
    }

    /// One record; nothing where it is of no use here.
    fn record(&mut self, kind: Kind) -> Result<Option<Record>, Bad> {
        let owner = self.name()?;
        let (number, class) = (self.number()?, self.number()?);
        let (high, low) = (self.number()?, self.number()?);
        // A TTL with its highest bit set is 0 (RFC 2181, section 8).
        let ttl = Some(u32::from(high) << 16 | u32::from(low)).filter(|ttl| *ttl <= i32::MAX as u32);
        let ttl = ttl.unwrap_or(0);
        let length = usize::from(self.number()?);
        let end = self.at + length;
        if end > self.message.len() {
            return Err(Bad::Short);
        }
        let data = match (class, number) {
            (INTERNET, CNAME) => HostName::new(&self.name()?).map(Data::Alias),
            (INTERNET, n) if n == kind.number() => self.data(kind, length)?,
            _ => None,
        };
        if self.at > end {
            return Err(Bad::Record);
        }
        self.at = end;
        Ok(data.map(|data| Record { owner, ttl, data }))
    }

    fn data(&mut self, kind: Kind, length: usize) -> Result<Option<Data>, Bad> {
        Ok(match kind {
            Kind::A => {
                let bytes: [u8; 4] = self.take(length)?.try_into().map_err(|_| Bad::Record)?;
                usable(Ipv4Addr::from(bytes).into()).map(Data::Address)
            }
            Kind::Aaaa => {
                let bytes: [u8; 16] = self.take(length)?.try_into().map_err(|_| Bad::Record)?;
                usable(Ipv6Addr::from(bytes).to_canonical()).map(Data::Address)
            }
            Kind::Srv => {
                let (priority, weight, port) = (self.number()?, self.number()?, self.number()?);
                // The root as target: the service is decidedly not there (RFC 2782).
                let target = HostName::new(&self.name()?).filter(|_| port > 0);
                target.map(|target| Data::Service(Service { priority, weight, port, target }))
            }
        })
    }
}

/// An address that a server can have.
fn usable(address: IpAddr) -> Option<IpAddr> {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    (!address.is_unspecified() && !address.is_multicast() && !broadcast).then_some(address)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
