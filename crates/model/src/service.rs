//! The whole configuration as one immutable value.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_rules::{LineFormat, Template};

use crate::{
    Addresses, AlertSettings, AnswerRoute, Compression, Discover, HealthCheck, Host, Layer4, ListenAddress,
    Name, Origin, OutlierRule, PacketPath, PairSettings, Persistence, ResolverSettings, RetryOn, Route,
    Scheduler, ServerTls, SniFrom, TableRule, TlsSettings, Vip, Weight,
};

/// One configuration, checked. Services and pools are shared so that an unchanged one is the
/// same allocation in the next snapshot's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Authorities that give certificates.
    pub authorities: Vec<crate::Authority>,
    pub admin: AdminSettings,
    pub state_directory: PathBuf,
    /// Where lines go of services that say nothing about it.
    pub log: Vec<LogTarget>,
    pub limits: Limits,
    pub packet_path: PacketPath,
    pub addresses: Addresses,
    /// The machine itself; nothing where others look after it.
    pub node: Option<crate::NodeSettings>,
    pub pair: Option<PairSettings>,
    pub alerts: AlertSettings,
    /// Off where there is none.
    pub snmp: Option<crate::SnmpSettings>,
    pub resolver: ResolverSettings,
    /// Bytes of the file that remembers for graphs; 0 for none.
    pub graphs_size: u64,
    pub tables: Vec<Arc<TableRule>>,
    pub services: Vec<Arc<VirtualService>>,
    /// Every pool, those written inside a service too (they carry the service's name).
    pub pools: Vec<Arc<Pool>>,
}

impl Snapshot {
    pub fn pool(&self, name: &Name) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|p| p.name == *name)
    }

    pub fn service(&self, name: &str) -> Option<&Arc<VirtualService>> {
        self.services.iter().find(|s| s.name.as_str() == name)
    }

    /// Makes services and pools that are equal to those of another snapshot the same allocations: they are
    /// in memory once, and comparing them again costs nothing.
    pub fn share(&mut self, other: &Snapshot) {
        share(&mut self.services, &other.services, |service| &service.name);
        share(&mut self.pools, &other.pools, |pool| &pool.name);
    }
}

fn share<T: Eq>(own: &mut [Arc<T>], others: &[Arc<T>], name: impl Fn(&T) -> &Name) {
    let by_name: HashMap<&Name, &Arc<T>> = others.iter().map(|other| (name(other), other)).collect();
    for one in own {
        if let Some(other) = by_name.get(name(one)).filter(|other| **other == one) {
            *one = Arc::clone(other);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// HTTPS.
    pub listen: Vec<ListenAddress>,
    pub certificate: Option<PathBuf>,
    pub only_tls13: bool,
    /// Networks (address, prefix length) that may connect to `listen`.
    pub allow: Vec<(std::net::IpAddr, u8)>,
    pub session_timeout: Duration,
    pub plain_listen: Vec<ListenAddress>,
    pub socket: PathBuf,
    /// Networks (address, prefix length) that may read `/metrics` and `/healthz` unencrypted.
    pub metrics_allow: Vec<(std::net::IpAddr, u8)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Haproxy,
    Json,
    /// A text with fields of lines and variables.
    Line(LineFormat),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Stdout,
    Stderr,
    File(PathBuf),
    Syslog(SocketAddr),
    /// A socket of this machine, such as `/dev/log`.
    SyslogSocket(PathBuf),
}

/// A place where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTarget {
    pub access: AccessLog,
    /// The program's name in lines for syslog.
    pub tag: String,
    /// RFC 3164's number.
    pub facility: u8,
    /// The mildest severity whose lines go there, by syslog's numbers: 7 is all.
    pub level: u8,
    /// What is more severe is written with this severity.
    pub gravest: u8,
    pub header: LogHeader,
    /// The name of this machine in headers that have one; none means its own.
    pub host_name: Option<String>,
    /// Longer lines are cut off, header and all; 0 means none.
    pub length: u32,
    /// Of so many lines in a row those of these numbers go there; none means all.
    pub sample: Option<LogSample>,
}

/// What lines begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogHeader {
    /// Nothing.
    #[default]
    Raw,
    /// RFC 3164's without the machine's name.
    Local,
    Rfc3164,
    Rfc5424,
    /// `<PRIORITY>`
    Priority,
    /// `<SEVERITY>`
    Short,
    /// `<SEVERITY>` and the time of RFC 3339.
    Timed,
    /// The time of RFC 3339.
    Iso,
}

impl LogHeader {
    pub const ALL: [(&str, LogHeader); 8] = [
        ("raw", LogHeader::Raw),
        ("local", LogHeader::Local),
        ("rfc3164", LogHeader::Rfc3164),
        ("rfc5424", LogHeader::Rfc5424),
        ("priority", LogHeader::Priority),
        ("short", LogHeader::Short),
        ("timed", LogHeader::Timed),
        ("iso", LogHeader::Iso),
    ];

    pub fn parse(text: &str) -> Option<LogHeader> {
        LogHeader::ALL.iter().find(|(word, _)| *word == text).map(|(_, header)| *header)
    }
}

/// `1,3-4:10`: lines 1, 3 and 4 of every ten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSample {
    pub ranges: Vec<(u32, u32)>,
    pub of: u32,
}

impl LogSample {
    const RANGES_AT_MOST: usize = 64;

    pub fn parse(text: &str) -> Option<LogSample> {
        let (ranges, of) = text.split_once(':')?;
        let of: u32 = of.parse().ok()?;
        let range = |text: &str| {
            let (from, to) = text.split_once('-').unwrap_or((text, text));
            let (from, to) = (from.parse().ok()?, to.parse().ok()?);
            (0 < from && from <= to && to <= of).then_some((from, to))
        };
        let ranges = ranges.split(',').take(LogSample::RANGES_AT_MOST + 1).map(range);
        let ranges: Vec<(u32, u32)> = ranges.collect::<Option<_>>()?;
        (ranges.len() <= LogSample::RANGES_AT_MOST).then_some(LogSample { ranges, of })
    }

    /// Whether the line of this number goes there, counted from 0.
    pub fn has(&self, number: u64) -> bool {
        let number = (number % u64::from(self.of)) as u32 + 1;
        self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&number))
    }
}

/// Syslog's severities, by their numbers.
pub const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// When a service's lines are written, and which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogLines {
    /// Once the answer has begun, or the server's connection stands.
    pub early: bool,
    /// Only of requests and connections with trouble.
    pub only_trouble: bool,
    /// Those with trouble are errors (`err`).
    pub trouble_is_error: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections of all layer-7 services together.
    pub max_connections: u32,
    /// Worker threads, one event loop each; 0 means one a core.
    pub workers: u16,
    /// Buffer memory of all workers together, in bytes.
    pub buffer_memory: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Http,
    Tcp,
    Dr,
    Nat,
    Tun,
    Snat,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Http => "http",
            Mode::Tcp => "tcp",
            Mode::Dr => "dr",
            Mode::Nat => "nat",
            Mode::Tun => "tun",
            Mode::Snat => "snat",
        }
    }

    /// Packets are forwarded in the kernel; else connections end at this program.
    pub fn is_layer4(self) -> bool {
        !matches!(self, Mode::Http | Mode::Tcp)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    pub x_forwarded_for: bool,
    pub x_forwarded_proto: bool,
    pub x_forwarded_host: bool,
    pub x_forwarded_port: bool,
    /// RFC 7239.
    pub forwarded: bool,
    pub x_real_ip: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    Page { status: u16, body: String, content_type: String },
    Server(SocketAddr),
}

/// What clients get instead of this program's own words for a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    pub status: u16,
    pub file: PathBuf,
}

/// The same, written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorAnswer {
    pub of: u16,
    /// What the client is told in the place of the status.
    pub status: u16,
    pub content_type: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// Which header of the PROXY protocol a real server gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    V1,
    V2,
}

/// The address that real servers see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceAddress {
    /// Whichever the kernel takes.
    #[default]
    Own,
    Fixed(std::net::IpAddr),
    /// The client's own: full transparency.
    Client,
}

/// TCP keep-alive: the kernel asks a silent peer whether it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpKeepAlive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// From one probe without an answer to the next.
    pub interval: Duration,
    /// Probes without an answer that end the connection.
    pub probes: u32,
}

/// Peers that say in a header which client a request is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddressRule {
    pub header: String,
    /// Networks (address, prefix length) of such peers.
    pub trusted: Vec<(std::net::IpAddr, u8)>,
    /// Files with more of them, one a line.
    pub files: Vec<PathBuf>,
    /// Of a list the last address counts that is not trusted itself, else the last one.
    pub recursive: bool,
}

/// How long each state of a connection may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// Silence of a client that owes bytes, or does not take them.
    pub client: Duration,
    /// Silence of a real server that owes bytes, or does not take them.
    pub server: Duration,
    pub queue: Duration,
    /// From the first byte of a request's head to its last.
    pub request: Duration,
    /// Between two requests of one client connection.
    pub keep_alive: Duration,
    /// Silence on both sides of a WebSocket or another upgraded connection.
    pub tunnel: Duration,
    /// Mode tcp: silence of either side once both are connected, where that is not as `client` and `server` say.
    pub relay: Option<Duration>,
}

/// Times that a pool has of its own: they hold for whoever goes to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolTimeouts {
    pub connect: Option<Duration>,
    pub server: Option<Duration>,
    pub queue: Option<Duration>,
    pub tunnel: Option<Duration>,
}

impl Timeouts {
    /// What holds for clients of a pool.
    pub fn with(&self, pool: &PoolTimeouts) -> Timeouts {
        Timeouts {
            connect: pool.connect.unwrap_or(self.connect),
            server: pool.server.unwrap_or(self.server),
            queue: pool.queue.unwrap_or(self.queue),
            tunnel: pool.tunnel.unwrap_or(self.tunnel),
            relay: pool.tunnel.or(self.relay),
            ..*self
        }
    }
}

/// Who gets the normal form of paths and hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalize {
    /// Nobody: conditions see what came.
    Off,
    /// Conditions; the server gets what came.
    #[default]
    Match,
    /// The server too.
    Forward,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualService {
    pub name: Name,
    pub vips: Vec<Vip>,
    pub mode: Mode,
    /// The pool that clients go to; always present in the snapshot's `pools`.
    pub pool: Name,
    pub forwarded: Forwarded,
    pub fallback: Option<Fallback>,
    pub timeouts: Timeouts,
    /// Client connections of this service, over which new ones wait in the kernel; 0 is no limit.
    pub max_connections: u32,
    /// Tried in this order for each request (http) or connection (tcp).
    pub routes: Vec<Route>,
    pub answer_routes: Vec<AnswerRoute>,
    /// Networks whose connections begin with a PROXY protocol header, which is believed.
    pub proxy_protocol_from: Vec<(std::net::IpAddr, u8)>,
    /// Who is believed about clients' addresses in a header (mode http).
    pub client_address: Option<ClientAddressRule>,
    /// Bytes that a request's body may have; 0 is no limit.
    pub max_body: u64,
    /// Bytes that the head of a request, or of an answer to one, may have.
    pub head_size: u32,
    /// What conditions and servers get of paths and hosts that are spelled in another way.
    pub normalize: Normalize,
    /// Paths that servers read differently are let through, though routes look at paths.
    pub unclear_paths: bool,
    /// Requests that HAProxy takes are taken, and targets go on as they came.
    pub wide_requests: bool,
    /// And what HAProxy takes with `option accept-invalid-http-request`.
    pub loose_requests: bool,
    /// Of clients' connections.
    pub tcp_keep_alive: Option<TcpKeepAlive>,
    /// How long what was sent to a client may stay without its acknowledgement; zero is as the kernel has it.
    pub tcp_user_timeout: Duration,
    /// The largest segment that clients are told of; 0 is as the kernel has it.
    pub tcp_mss: u16,
    /// What follows a request's chunked body goes on.
    pub request_trailers: bool,
    /// The client's connection ends behind each answer.
    pub close_after_answer: bool,
    /// Some service of the configuration tells servers of clients' certificates: what clients send under those
    /// names reaches no server, by whichever service.
    pub hides_certificate_fields: bool,
    /// Routes are asked once the body is there, as far as the buffer holds it.
    pub wait_for_body: bool,
    /// Of the answers of all pools that have none of their own.
    pub compression: Option<Compression>,
    pub error_pages: Vec<ErrorPage>,
    /// Those that are written out; they come before files.
    pub error_answers: Vec<ErrorAnswer>,
    /// Of its lines in the access log.
    pub log_format: LogFormat,
    /// Where its lines go; none means where those of the process go.
    pub log: Option<Vec<LogTarget>>,
    pub log_lines: LogLines,
    /// Clients speak TLS.
    pub tls: Option<TlsSettings>,
    /// Of the modes of layer 4.
    pub layer4: Option<Layer4>,
}

/// Real servers with the rules that choose among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub name: Name,
    pub scheduler: Scheduler,
    /// The header, query parameter or cookie that the scheduler hashes.
    pub hash_key: String,
    /// Percent of its fair share of connections that a server takes at most where the scheduler
    /// hashes; 0 is no bound.
    pub hash_balance_factor: u16,
    /// A hash is divided by the number of servers, as HAProxy does it, in place of a table of Maglev's.
    pub hash_modulo: bool,
    pub persistence: Persistence,
    /// Clients that belong to a draining server go to others with their next request or connection.
    pub moves_drained: bool,
    pub health_check: HealthCheck,
    /// How long a server that came up takes to reach its full weight; zero is at once.
    pub slow_start: Duration,
    /// Further attempts after a failed connection.
    pub retries: u32,
    /// Before the same server is tried again, where there is no other. With one, a server that refuses is not
    /// left out while it is the only one.
    pub retry_pause: Duration,
    /// A client that closes its sending side before the answer came has left.
    pub abort_on_close: bool,
    /// In the place of the service's.
    pub compression: Option<Compression>,
    /// Weight that servers that are no backups have together where all is well; with less, backups serve. 0 is none.
    pub quorum: u32,
    /// Of several backups the first that can takes all clients.
    pub one_backup: bool,
    /// What else a request is tried again for.
    pub retry_on: RetryOn,
    /// Clients of this pool at which its servers have all of their places, where those grow; 0: they do not.
    pub full_connections: u32,
    /// Clients that may wait for a place on a real server of this pool.
    pub max_queue: u32,
    /// In the place of the service's.
    pub timeouts: PoolTimeouts,
    pub send_proxy: Option<ProxyVersion>,
    /// Values of the PROXY header by their kinds; what is not there is not sent.
    pub proxy_values: Vec<(u8, Template)>,
    pub source: SourceAddress,
    /// The network interface to reach real servers through.
    pub source_interface: Option<String>,
    /// Connections end when their real server goes down.
    pub cut_when_down: bool,
    /// Connections with backups end when a server that is none can take clients again.
    pub cut_backups: bool,
    /// Connections end when their real server leaves the configuration (layer 4).
    pub cut_when_removed: bool,
    /// Of connections to real servers.
    pub tcp_keep_alive: Option<TcpKeepAlive>,
    /// How long what was sent to a real server may stay without its acknowledgement; zero is as the kernel has it.
    pub tcp_user_timeout: Duration,
    pub outlier: Option<OutlierRule>,
    /// A connection to a real server is used again by the client that it was made for alone.
    pub own_connections: bool,
    /// Real servers speak HTTP/2.
    pub server_h2: bool,
    /// Real servers speak TLS.
    pub server_tls: Option<ServerTls>,
    pub real_servers: Vec<RealServer>,
    /// Several real servers may have one address.
    pub same_address: bool,
    /// Lists that further real servers are taken from.
    pub discover: Vec<Discover>,
}

impl Pool {
    /// A server of it is asked over TLS for the host of each request.
    pub fn names_by_host(&self) -> bool {
        let own = self.real_servers.iter().filter_map(|server| server.tls(self));
        self.server_tls.iter().chain(own).any(|tls| tls.sni_from == Some(SniFrom::Host))
    }

    /// Connections made for the one would be wrong for the other.
    pub fn reaches_otherwise(&self, other: &Pool) -> bool {
        let how = |p: &Pool| {
            let from = (p.send_proxy, p.proxy_values.clone(), p.source, p.source_interface.clone());
            (p.server_tls.clone(), from, p.server_h2, p.own_connections)
        };
        // Servers that come or go change nothing for those that stay.
        let of_server = |s: &RealServer| (s.source, s.speaks.clone(), s.h2, s.send_proxy);
        let own = |s: &&RealServer| of_server(s) != (None, None, None, None);
        let special = |p: &Pool| p.real_servers.iter().filter(own).count() > 0;
        let differs = || {
            let others: HashMap<_, _> = other.real_servers.iter().map(|s| (&s.name, s)).collect();
            let both = self.real_servers.iter().filter_map(|s| Some((s, others.get(&s.name)?)));
            both.into_iter().any(|(s, o)| of_server(s) != of_server(o))
        };
        how(self) != how(other) || ((special(self) || special(other)) && differs())
    }

    /// The places that a server with so many at least, and so many at most, has while the pool has `load` clients,
    /// those that wait among them.
    pub fn places_at(&self, least: u32, most: u32, load: u64) -> u32 {
        let full = u64::from(self.full_connections);
        if full == 0 || least == 0 || least >= most || load >= full {
            return most;
        }
        least.max((load * u64::from(most) / full) as u32)
    }

    /// Whether some real server is reached from clients' own addresses.
    pub fn is_transparent(&self) -> bool {
        let whole =
            self.source == SourceAddress::Client && self.real_servers.iter().any(|s| s.source.is_none());
        whole || self.real_servers.iter().any(|s| s.source == Some(SourceAddress::Client))
    }

    /// How this one of its servers is probed.
    pub fn check_of<'a>(&'a self, server: &'a RealServer) -> &'a HealthCheck {
        server.health_check.as_deref().unwrap_or(&self.health_check)
    }

    pub fn real_server(&self, name: &str) -> Option<&RealServer> {
        self.real_servers.iter().find(|s| s.name.as_str() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealServer {
    pub name: Name,
    /// Port 0: the port that the client connected to. Of a server that is written by name where it is
    /// now; an unspecified address while that is not known.
    pub address: SocketAddr,
    /// The name that it is written by.
    pub host: Option<Host>,
    /// Where it is from, where it is not of the configuration's file.
    pub found_in: Option<Box<Origin>>,
    pub weight: Weight,
    /// Connections (tcp) or requests (http) at a time; 0 is no limit.
    pub max_connections: u32,
    /// Layer 7: its places while its pool has little to do. Layer 4: once full, it takes clients again below this
    /// number; 0 is three quarters.
    pub min_connections: u32,
    /// Takes clients only while no other server of the pool can.
    pub backup: bool,
    /// A backup that persistence remembers like another server.
    pub keeps_clients: bool,
    /// No cookie, table or token keeps a client on it.
    pub non_stick: bool,
    pub admin_state: AdminState,
    /// What a persistence cookie names it by, where that is not its name.
    pub cookie: Option<String>,
    /// The pool's health check probes it.
    pub check: bool,
    /// The pool's health check with what is this server's own, where something is.
    pub health_check: Option<Box<HealthCheck>>,
    /// The address it sees, where that is not the pool's.
    pub source: Option<SourceAddress>,
    /// TLS or not, and which, where that is not as the pool says.
    pub speaks: Option<Box<ServerSpeaks>>,
    /// HTTP/2 or not, where that is not as the pool says.
    pub h2: Option<bool>,
    /// The PROXY header that it gets, or none, where that is not as the pool says.
    pub send_proxy: Option<Option<ProxyVersion>>,
}

/// What one real server speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerSpeaks {
    Plain,
    Tls(ServerTls),
}

impl RealServer {
    /// Whether there is an address to connect to.
    pub fn is_placed(&self) -> bool {
        self.host.is_none() || !self.address.ip().is_unspecified()
    }

    /// Its address as it is written: with its name, where it has one.
    pub fn place(&self) -> String {
        match (&self.host, self.address.port()) {
            (Some(host), 0) => host.name.to_string(),
            (Some(host), port) => format!("{}:{port}", host.name),
            // The port is the client's.
            (None, 0) => self.address.ip().to_string(),
            (None, _) => self.address.to_string(),
        }
    }

    /// The TLS that it speaks in this pool.
    pub fn tls<'a>(&'a self, pool: &'a Pool) -> Option<&'a ServerTls> {
        match self.speaks.as_deref() {
            Some(ServerSpeaks::Plain) => None,
            Some(ServerSpeaks::Tls(own)) => Some(own),
            None => pool.server_tls.as_ref(),
        }
    }

    /// Whether it speaks HTTP/2 in this pool.
    pub fn speaks_h2(&self, pool: &Pool) -> bool {
        self.h2.unwrap_or(pool.server_h2)
    }

    /// The PROXY header that it gets in this pool.
    pub fn proxy_version(&self, pool: &Pool) -> Option<ProxyVersion> {
        self.send_proxy.unwrap_or(pool.send_proxy)
    }

    pub fn cookie(&self) -> &str {
        self.cookie.as_deref().unwrap_or(self.name.as_str())
    }

    /// Whether persistence remembers it. A backup that keeps no clients is not: they go back as soon as
    /// another server of the pool can take them.
    pub fn is_remembered(&self) -> bool {
        (!self.backup || self.keeps_clients) && !self.non_stick
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminState {
    #[default]
    Online,
    /// No new clients; persistent ones and existing connections finish.
    Draining,
    /// Nothing; connections are closed.
    Halted,
}

impl AdminState {
    pub const ALL: [AdminState; 3] = [AdminState::Online, AdminState::Draining, AdminState::Halted];

    pub fn as_str(self) -> &'static str {
        match self {
            AdminState::Online => "online",
            AdminState::Draining => "draining",
            AdminState::Halted => "halted",
        }
    }

    pub fn parse(word: &str) -> Option<AdminState> {
        AdminState::ALL.into_iter().find(|s| s.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There are tens of thousands of them, each several times: what few have is behind a pointer.
    #[test]
    fn a_real_server_is_small() {
        assert!(size_of::<RealServer>() <= 192, "{} bytes", size_of::<RealServer>());
    }
}
