//! What there is to read: values by their identifiers, and the questions that SNMP has for them.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::codec::{Pdu, SearchRange};
use crate::oid::Oid;

/// Values in one answer to GetBulk; the agent asks on.
const MOST_IN_BULK: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Integer(i32),
    Octets(Vec<u8>),
    Null,
    Oid(Oid),
    IpAddress([u8; 4]),
    Counter32(u32),
    Gauge32(u32),
    TimeTicks(u32),
    Opaque(Vec<u8>),
    Counter64(u64),
    NoSuchObject,
    NoSuchInstance,
    EndOfMibView,
}

impl Value {
    /// A text, no longer than SNMP's text conventions allow.
    pub fn text(text: &str) -> Value {
        let end = (0..=text.len().min(255)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        Value::Octets(text.as_bytes()[..end].to_vec())
    }

    /// A number of things; more than SNMP's gauge holds stays at its end (RFC 2578, section 7.1.7).
    pub fn gauge(number: u64) -> Value {
        Value::Gauge32(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// SNMPv2-TC's TruthValue.
    pub fn truth(truth: bool) -> Value {
        Value::Integer(if truth { 1 } else { 2 })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VarBind {
    pub name: Oid,
    pub value: Value,
}

/// Everything that can be read, at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    values: BTreeMap<Oid, Value>,
}

impl View {
    pub fn insert(&mut self, name: Oid, value: Value) {
        self.values.insert(name, value);
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Everything in its order.
    pub fn iter(&self) -> impl Iterator<Item = (&Oid, &Value)> {
        self.values.iter()
    }

    fn get(&self, name: &Oid) -> VarBind {
        let value = self.values.get(name).cloned().unwrap_or_else(|| self.absent(name));
        VarBind { name: name.clone(), value }
    }

    /// RFC 2741, section 7.2.3.1: another instance of the same object may exist.
    fn absent(&self, name: &Oid) -> Value {
        let Some((_, object)) = name.arcs().split_last() else { return Value::NoSuchObject };
        let object = Oid::new(object);
        match self.values.range(object.clone()..).next() {
            Some((next, _)) if next.starts_with(&object) => Value::NoSuchInstance,
            _ => Value::NoSuchObject,
        }
    }

    /// RFC 2741, section 7.2.3.2.
    fn next(&self, range: &SearchRange) -> VarBind {
        let start = match range.include {
            true => Bound::Included(range.start.clone()),
            false => Bound::Excluded(range.start.clone()),
        };
        let found = self.values.range((start, Bound::Unbounded)).next();
        match found.filter(|(name, _)| range.end.is_empty() || **name < range.end) {
            Some((name, value)) => VarBind { name: name.clone(), value: value.clone() },
            None => VarBind { name: range.start.clone(), value: Value::EndOfMibView },
        }
    }

    fn bulk(&self, non_repeaters: u16, repetitions: u16, ranges: &[SearchRange]) -> Vec<VarBind> {
        let (once, repeated) = ranges.split_at(usize::from(non_repeaters).min(ranges.len()));
        let mut answer: Vec<VarBind> = once.iter().map(|range| self.next(range)).collect();
        let mut repeated = repeated.to_vec();
        if repeated.is_empty() {
            return answer;
        }
        for _ in 0..repetitions {
            if answer.len() + repeated.len() > MOST_IN_BULK {
                break;
            }
            let mut ended = true;
            for range in &mut repeated {
                let one = self.next(range);
                ended &= one.value == Value::EndOfMibView;
                (range.start, range.include) = (one.name.clone(), false);
                answer.push(one);
            }
            if ended {
                break;
            }
        }
        answer
    }

    /// The answer to a question; none for what is no question.
    pub fn answer(&self, question: &Pdu) -> Option<Vec<VarBind>> {
        match question {
            Pdu::Get(ranges) => Some(ranges.iter().map(|range| self.get(&range.start)).collect()),
            Pdu::GetNext(ranges) => Some(ranges.iter().map(|range| self.next(range)).collect()),
            Pdu::GetBulk { non_repeaters, repetitions, ranges } => {
                Some(self.bulk(*non_repeaters, *repetitions, ranges))
            }
            _ => None,
        }
    }
}
