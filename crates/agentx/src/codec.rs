//! Messages as bytes, and back (RFC 2741, sections 5 and 6). Written in network byte order, read in both.

use thiserror::Error;

use crate::oid::Oid;
use crate::view::{Value, VarBind};

const HEADER: usize = 20;
const NETWORK_BYTE_ORDER: u8 = 0x10;
const NON_DEFAULT_CONTEXT: u8 = 0x08;
/// The longest message that is taken, or made.
pub const LONGEST: usize = 1 << 20;

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    #[error("another version of AgentX than 1")]
    Version,
    #[error("a message that is too long, or no multiple of four bytes")]
    Length,
    #[error("a message that ends too early")]
    Short,
    #[error("an object identifier of too many parts")]
    Oid,
    #[error("a value of unknown kind")]
    Value,
}

/// One message with its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub session: u32,
    pub transaction: u32,
    pub packet: u32,
    pub pdu: Pdu,
}

/// Where to look: from `start` on, before `end` unless that is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchRange {
    pub start: Oid,
    pub include: bool,
    pub end: Oid,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pdu {
    Open {
        timeout: u8,
        id: Oid,
        description: String,
    },
    Close {
        reason: u8,
    },
    Register {
        timeout: u8,
        priority: u8,
        subtree: Oid,
    },
    Get(Vec<SearchRange>),
    GetNext(Vec<SearchRange>),
    GetBulk {
        non_repeaters: u16,
        repetitions: u16,
        ranges: Vec<SearchRange>,
    },
    TestSet,
    CommitSet,
    UndoSet,
    CleanupSet,
    Notify(Vec<VarBind>),
    Ping,
    Response {
        uptime: u32,
        error: u16,
        index: u16,
        binds: Vec<VarBind>,
    },
    /// One that a sub-agent has no use for.
    Other(u8),
}

impl Pdu {
    fn code(&self) -> u8 {
        match self {
            Pdu::Open { .. } => 1,
            Pdu::Close { .. } => 2,
            Pdu::Register { .. } => 3,
            Pdu::Get(_) => 5,
            Pdu::GetNext(_) => 6,
            Pdu::GetBulk { .. } => 7,
            Pdu::TestSet => 8,
            Pdu::CommitSet => 9,
            Pdu::UndoSet => 10,
            Pdu::CleanupSet => 11,
            Pdu::Notify(_) => 12,
            Pdu::Ping => 13,
            Pdu::Response { .. } => 18,
            Pdu::Other(code) => *code,
        }
    }
}

// Writing

fn put_oid(out: &mut Vec<u8>, oid: &Oid, include: bool) {
    // RFC 2741, section 5.1: 1.3.6.1.N is written as a prefix.
    let (prefix, rest) = match oid.arcs() {
        [1, 3, 6, 1, prefix @ 1..=255, rest @ ..] => (*prefix as u8, rest),
        all => (0, all),
    };
    out.extend([rest.len() as u8, prefix, u8::from(include), 0]);
    rest.iter().for_each(|arc| out.extend(arc.to_be_bytes()));
}

fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    out.extend((octets.len() as u32).to_be_bytes());
    out.extend(octets);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn put_bind(out: &mut Vec<u8>, bind: &VarBind) {
    let code: u16 = match &bind.value {
        Value::Integer(_) => 2,
        Value::Octets(_) => 4,
        Value::Null => 5,
        Value::Oid(_) => 6,
        Value::IpAddress(_) => 64,
        Value::Counter32(_) => 65,
        Value::Gauge32(_) => 66,
        Value::TimeTicks(_) => 67,
        Value::Opaque(_) => 68,
        Value::Counter64(_) => 70,
        Value::NoSuchObject => 128,
        Value::NoSuchInstance => 129,
        Value::EndOfMibView => 130,
    };
    out.extend(code.to_be_bytes());
    out.extend([0, 0]);
    put_oid(out, &bind.name, false);
    match &bind.value {
        Value::Integer(n) => out.extend(n.to_be_bytes()),
        Value::Octets(octets) | Value::Opaque(octets) => put_octets(out, octets),
        Value::Oid(oid) => put_oid(out, oid, false),
        Value::IpAddress(address) => put_octets(out, address),
        Value::Counter32(n) | Value::Gauge32(n) | Value::TimeTicks(n) => out.extend(n.to_be_bytes()),
        Value::Counter64(n) => out.extend(n.to_be_bytes()),
        Value::Null | Value::NoSuchObject | Value::NoSuchInstance | Value::EndOfMibView => {}
    }
}

fn put_ranges(out: &mut Vec<u8>, ranges: &[SearchRange]) {
    for range in ranges {
        put_oid(out, &range.start, range.include);
        put_oid(out, &range.end, false);
    }
}

/// The bytes of a message.
pub fn encode(frame: &Frame) -> Vec<u8> {
    let mut out = vec![1, frame.pdu.code(), NETWORK_BYTE_ORDER, 0];
    for field in [frame.session, frame.transaction, frame.packet, 0] {
        out.extend(field.to_be_bytes());
    }
    match &frame.pdu {
        Pdu::Open { timeout, id, description } => {
            out.extend([*timeout, 0, 0, 0]);
            put_oid(&mut out, id, false);
            put_octets(&mut out, description.as_bytes());
        }
        Pdu::Close { reason } => out.extend([*reason, 0, 0, 0]),
        Pdu::Register { timeout, priority, subtree } => {
            out.extend([*timeout, *priority, 0, 0]);
            put_oid(&mut out, subtree, false);
        }
        Pdu::Get(ranges) | Pdu::GetNext(ranges) => put_ranges(&mut out, ranges),
        Pdu::GetBulk { non_repeaters, repetitions, ranges } => {
            out.extend(non_repeaters.to_be_bytes());
            out.extend(repetitions.to_be_bytes());
            put_ranges(&mut out, ranges);
        }
        Pdu::Notify(binds) => binds.iter().for_each(|bind| put_bind(&mut out, bind)),
        Pdu::Response { uptime, error, index, binds } => {
            out.extend(uptime.to_be_bytes());
            out.extend(error.to_be_bytes());
            out.extend(index.to_be_bytes());
            binds.iter().for_each(|bind| put_bind(&mut out, bind));
        }
        Pdu::TestSet | Pdu::CommitSet | Pdu::UndoSet | Pdu::CleanupSet | Pdu::Ping | Pdu::Other(_) => {}
    }
    let payload = (out.len() - HEADER) as u32;
    out[16..HEADER].copy_from_slice(&payload.to_be_bytes());
    out
}

// Reading

struct Reader<'b> {
    rest: &'b [u8],
    big: bool,
}

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], Invalid> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Invalid::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Invalid> {
        self.take(N)?.try_into().map_err(|_| Invalid::Short)
    }

    fn u16(&mut self) -> Result<u16, Invalid> {
        let bytes = self.array()?;
        Ok(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&mut self) -> Result<u32, Invalid> {
        let bytes = self.array()?;
        Ok(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn u64(&mut self) -> Result<u64, Invalid> {
        let bytes = self.array()?;
        Ok(if self.big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    fn octets(&mut self) -> Result<Vec<u8>, Invalid> {
        let length = self.u32()? as usize;
        if length > self.rest.len() {
            return Err(Invalid::Short);
        }
        let octets = self.take(length)?.to_vec();
        self.take(length.next_multiple_of(4) - length)?;
        Ok(octets)
    }

    fn oid(&mut self) -> Result<(Oid, bool), Invalid> {
        let [count, prefix, include, _] = self.array()?;
        let mut arcs = if prefix == 0 { Vec::new() } else { vec![1, 3, 6, 1, u32::from(prefix)] };
        if arcs.len() + usize::from(count) > Oid::MOST_ARCS {
            return Err(Invalid::Oid);
        }
        for _ in 0..count {
            arcs.push(self.u32()?);
        }
        Ok((Oid::new(&arcs), include != 0))
    }

    fn ranges(&mut self) -> Result<Vec<SearchRange>, Invalid> {
        let mut ranges = Vec::new();
        while !self.rest.is_empty() {
            let (start, include) = self.oid()?;
            let (end, _) = self.oid()?;
            ranges.push(SearchRange { start, include, end });
        }
        Ok(ranges)
    }

    fn bind(&mut self) -> Result<VarBind, Invalid> {
        let code = self.u16()?;
        self.u16()?;
        let (name, _) = self.oid()?;
        let value = match code {
            2 => Value::Integer(self.u32()?.cast_signed()),
            4 => Value::Octets(self.octets()?),
            5 => Value::Null,
            6 => Value::Oid(self.oid()?.0),
            64 => Value::IpAddress(self.octets()?.try_into().map_err(|_| Invalid::Value)?),
            65 => Value::Counter32(self.u32()?),
            66 => Value::Gauge32(self.u32()?),
            67 => Value::TimeTicks(self.u32()?),
            68 => Value::Opaque(self.octets()?),
            70 => Value::Counter64(self.u64()?),
            128 => Value::NoSuchObject,
            129 => Value::NoSuchInstance,
            130 => Value::EndOfMibView,
            _ => return Err(Invalid::Value),
        };
        Ok(VarBind { name, value })
    }

    fn binds(&mut self) -> Result<Vec<VarBind>, Invalid> {
        let mut binds = Vec::new();
        while !self.rest.is_empty() {
            binds.push(self.bind()?);
        }
        Ok(binds)
    }

    fn pdu(&mut self, code: u8) -> Result<Pdu, Invalid> {
        Ok(match code {
            1 => {
                let [timeout, ..] = self.array::<4>()?;
                let (id, _) = self.oid()?;
                Pdu::Open { timeout, id, description: String::from_utf8_lossy(&self.octets()?).into_owned() }
            }
            2 => Pdu::Close { reason: self.array::<4>()?[0] },
            3 => {
                let [timeout, priority, ..] = self.array::<4>()?;
                Pdu::Register { timeout, priority, subtree: self.oid()?.0 }
            }
            5 => Pdu::Get(self.ranges()?),
            6 => Pdu::GetNext(self.ranges()?),
            7 => {
                Pdu::GetBulk { non_repeaters: self.u16()?, repetitions: self.u16()?, ranges: self.ranges()? }
            }
            8 => Pdu::TestSet,
            9 => Pdu::CommitSet,
            10 => Pdu::UndoSet,
            11 => Pdu::CleanupSet,
            12 => Pdu::Notify(self.binds()?),
            13 => Pdu::Ping,
            18 => Pdu::Response {
                uptime: self.u32()?,
                error: self.u16()?,
                index: self.u16()?,
                binds: self.binds()?,
            },
            other => Pdu::Other(other),
        })
    }
}

/// How long the message is that begins with these bytes; none while its head is not there.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Invalid> {
    let Some(head) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    if head[0] != 1 {
        return Err(Invalid::Version);
    }
    let field = [head[16], head[17], head[18], head[19]];
    let big = head[2] & NETWORK_BYTE_ORDER != 0;
    let payload = if big { u32::from_be_bytes(field) } else { u32::from_le_bytes(field) } as usize;
    if payload > LONGEST || !payload.is_multiple_of(4) {
        return Err(Invalid::Length);
    }
    Ok(Some(HEADER + payload))
}

/// One whole message.
pub fn decode(bytes: &[u8]) -> Result<Frame, Invalid> {
    let whole = length(bytes)?.ok_or(Invalid::Short)?;
    let bytes = bytes.get(..whole).ok_or(Invalid::Short)?;
    let (code, flags) = (bytes[1], bytes[2]);
    let mut reader = Reader { rest: &bytes[4..], big: flags & NETWORK_BYTE_ORDER != 0 };
    let (session, transaction, packet) = (reader.u32()?, reader.u32()?, reader.u32()?);
    reader.u32()?;
    if flags & NON_DEFAULT_CONTEXT != 0 {
        reader.octets()?;
    }
    Ok(Frame { session, transaction, packet, pdu: reader.pdu(code)? })
}
