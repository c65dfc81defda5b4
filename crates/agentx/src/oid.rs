//! Object identifiers, in their order.

use std::fmt;

/// Ordered as SNMP walks them: arc by arc, the shorter one first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(Vec<u32>);

impl Oid {
    /// RFC 2578, section 3.5.
    pub const MOST_ARCS: usize = 128;

    /// Arcs over the bound of SNMP are left out.
    pub fn new(arcs: &[u32]) -> Oid {
        Oid(arcs.iter().copied().take(Self::MOST_ARCS).collect())
    }

    pub fn arcs(&self) -> &[u32] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With further arcs at its end.
    pub fn with(&self, arcs: &[u32]) -> Oid {
        Oid(self.0.iter().chain(arcs).copied().take(Self::MOST_ARCS).collect())
    }

    pub fn starts_with(&self, root: &Oid) -> bool {
        self.0.starts_with(&root.0)
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, arc) in self.0.iter().enumerate() {
            write!(f, "{}{arc}", if at == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}
