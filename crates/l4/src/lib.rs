//! Layer 4: packets are forwarded by an XDP program (bpf/evenkeel.bpf.c) that this crate loads,
//! fills with services and watches.
//!
//! In: services with everything decided, next hops. Out: forwarded packets (in the kernel), counts,
//! a listing of flows. Never: routes or neighbours (it is told), configuration, the network itself.

mod book;
mod decapsulate;
mod floor;
mod generator;
mod keeper;
mod listing;
mod plane;
mod program;
pub mod reference;
mod remembered;
mod shared;
mod spec;
mod table;
mod tap;
mod write;

pub use book::Full;
pub use decapsulate::Decapsulator;
pub use floor::Floor;
pub use generator::Generator;
pub use keeper::FlowGate;
pub use listing::{FlowReader, PersistentInfo};
pub use plane::{Options, Plane, PlaneError};
pub use program::{Attached, LoadError, Run, Sizes, detach_leftovers, left_on};
pub use shared::SourceSlots;
pub use spec::{
    Clock, Counts, FlowInfo, Forwarding, Hop, Persist, Pick, ProbeSpec, Server, ServiceSpec, Takes,
};
pub use tap::{Batch, Tap};

/// What the library that talks to the kernel says goes to the log, not to the terminal.
pub fn messages_to_log() {
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Info, |_, text| tracing::debug!("{}", text.trim()))));
}
