//! The nouns of the load balancer, as types that cannot be wrong once built.
//!
//! In: values that `config` has read. Out: an immutable [`Snapshot`].
//! Never: a socket, a clock, a file, a thread.

mod address;
mod name;
mod policy;
mod service;
mod units;

pub use address::{AddressError, ListenAddress, PortRange, PortSet, Vip};
pub use name::{Name, NameError};
pub use policy::{
    CookieMethod, CookiePersistence, HealthCheck, HttpProbe, Persistence, Probe, SameSite, Scheduler,
    SourcePersistence, StatusSet, mask_address,
};
pub use service::{
    AccessLog, AdminSettings, AdminState, Fallback, Forwarded, Limits, LogFormat, LogSettings, Mode, Pool,
    RealServer, Snapshot, Timeouts, VirtualService,
};
pub use units::{UnitError, Weight, format_duration, format_size, parse_duration, parse_size};
