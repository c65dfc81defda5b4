//! The nouns of the load balancer, as types that cannot be wrong once built.
//!
//! In: values that `config` has read. Out: an immutable [`Snapshot`].
//! Never: a socket, a clock, a file, a thread.

mod acme;
mod address;
mod alert;
mod compression;
mod discovery;
mod health;
mod layer4;
mod name;
mod node;
mod pair;
mod policy;
mod retry;
mod route;
mod secret;
mod service;
mod snmp;
mod tls;
mod units;

pub use acme::{
    Authority, Challenge, DnsSettings, DnsWriter, ExternalAccount, KeyType, Managed, PRESETS, TsigKey,
    is_certificate_name,
};
pub use address::{AddressError, ListenAddress, PortRange, PortSet, Vip, bare_address, shared_address};
pub use alert::{AlertSettings, Delivery, EmailSettings, MailSecurity, Receiver, Transport};
pub use compression::{Coding, Compression};
pub use discovery::{
    ConsulSource, Discover, DiscoverSource, DockerSource, Holds, Host, HostName, HttpSource, Init, Origin,
    ResolverSettings,
};
pub use health::{AgentCheck, Connect, HealthCheck, HttpProbe, Probe, ScriptProbe, Step};
pub use layer4::{Addresses, Attach, FlowRate, FlowTimeouts, Layer4, PacketPath, SynCookies, Tunnel};
pub use name::{Name, NameError};
pub use node::{BondMode, Dhcp, Interface, InterfaceKind, NodeRoute, NodeSettings};
pub use pair::{AdaptiveBeats, PairSettings, VrrpSettings};
pub use policy::{
    CookieMethod, CookiePersistence, KeyedPersistence, OutlierRule, Persistence, SameSite, Scheduler,
    SourcePersistence, StatusSet, host_prefix, mask_address,
};
pub use retry::RetryOn;
pub use route::{
    Action, AddressKind, AnswerRoute, Answers, HeaderEdit, LogLevel, RateRule, Route, TableRule,
};
pub use secret::Secret;
pub use service::{
    AccessLog, AdminSettings, AdminState, ClientAddressRule, ErrorAnswer, ErrorPage, Fallback, Forwarded,
    Limits, LogFormat, LogHeader, LogLines, LogSample, LogTarget, Mode, Normalize, Pool, PoolTimeouts,
    ProxyVersion, RealServer, SEVERITIES, ServerSpeaks, Snapshot, SourceAddress, TcpKeepAlive, Timeouts,
    VirtualService,
};
pub use snmp::{AgentxAddress, SnmpSettings};
pub use tls::{CertificateFault, ClientAuth, ServerTls, SniFrom, TlsPolicy, TlsSettings, TlsVersion};
pub use units::{UnitError, Weight, format_duration, format_size, parse_duration, parse_size};

/// `1 entry`, `2 entries`: how counts are told to people.
pub fn counted<N: std::fmt::Display + PartialEq + From<u8>>(n: N, one: &str, many: &str) -> String {
    let word = if n == N::from(1) { one } else { many };
    format!("{n} {word}")
}
