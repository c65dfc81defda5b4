//! How a pool chooses and judges its servers: scheduler, persistence, health check.

use std::net::IpAddr;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheduler {
    RoundRobin,
    LeastConnections,
    ShortestExpectedDelay,
    NeverQueue,
    SourceHash,
    DestinationHash,
    UriHash,
    HeaderHash,
    QueryHash,
    CookieHash,
    RdpCookieHash,
    Maglev,
    Random,
    First,
    LeastResponseTime,
}

impl Scheduler {
    pub const ALL: [Scheduler; 15] = [
        Scheduler::RoundRobin,
        Scheduler::LeastConnections,
        Scheduler::ShortestExpectedDelay,
        Scheduler::NeverQueue,
        Scheduler::SourceHash,
        Scheduler::DestinationHash,
        Scheduler::UriHash,
        Scheduler::HeaderHash,
        Scheduler::QueryHash,
        Scheduler::CookieHash,
        Scheduler::RdpCookieHash,
        Scheduler::Maglev,
        Scheduler::Random,
        Scheduler::First,
        Scheduler::LeastResponseTime,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Scheduler::RoundRobin => "round-robin",
            Scheduler::LeastConnections => "least-connections",
            Scheduler::ShortestExpectedDelay => "shortest-expected-delay",
            Scheduler::NeverQueue => "never-queue",
            Scheduler::SourceHash => "source-hash",
            Scheduler::DestinationHash => "destination-hash",
            Scheduler::UriHash => "uri-hash",
            Scheduler::HeaderHash => "header-hash",
            Scheduler::QueryHash => "query-hash",
            Scheduler::CookieHash => "cookie-hash",
            Scheduler::RdpCookieHash => "rdp-cookie-hash",
            Scheduler::Maglev => "maglev",
            Scheduler::Random => "random",
            Scheduler::First => "first",
            Scheduler::LeastResponseTime => "least-response-time",
        }
    }

    /// Needs the count of connections and the destination as layer 4 has them.
    pub fn is_of_layer4(self) -> bool {
        matches!(self, Scheduler::ShortestExpectedDelay | Scheduler::NeverQueue | Scheduler::DestinationHash)
    }

    /// Needs a request, of HTTP.
    pub fn reads_requests(self) -> bool {
        self == Scheduler::UriHash || self.has_key()
    }

    /// Hashes a part of the request that has a name.
    pub fn has_key(self) -> bool {
        matches!(self, Scheduler::HeaderHash | Scheduler::QueryHash | Scheduler::CookieHash)
    }

    /// Needs a proxy, which reads what clients send or times what servers answer.
    pub fn is_of_layer7(self) -> bool {
        self.reads_requests() || matches!(self, Scheduler::RdpCookieHash | Scheduler::LeastResponseTime)
    }

    /// Finds the server by a hash in a table.
    pub fn is_hash(self) -> bool {
        matches!(
            self,
            Scheduler::SourceHash | Scheduler::DestinationHash | Scheduler::RdpCookieHash | Scheduler::Maglev
        ) || self.reads_requests()
    }

    /// Reads the canonical names and the weighted aliases that LVS users know.
    pub fn parse(word: &str) -> Option<Scheduler> {
        match word {
            "weighted-round-robin" => Some(Scheduler::RoundRobin),
            "weighted-least-connection" | "weighted-least-connections" | "least-connection" => {
                Some(Scheduler::LeastConnections)
            }
            _ => Scheduler::ALL.into_iter().find(|s| s.as_str() == word),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Persistence {
    None,
    Source(SourcePersistence),
    Cookie(CookiePersistence),
    /// The user name of an RDP client (`mstshash`), or the token of a Connection Broker (`msts`).
    RdpCookie(KeyedPersistence),
    /// The session that a TLS client resumes, of connections passed through unopened.
    TlsSessionId(KeyedPersistence),
    /// A header of the request.
    Header {
        name: String,
        table: KeyedPersistence,
    },
    /// A parameter of the request's query.
    Query {
        name: String,
        table: KeyedPersistence,
    },
    /// The address that the client came to.
    Destination(KeyedPersistence),
    /// A cookie of the application, learned from its answers.
    AppCookie {
        name: String,
        table: KeyedPersistence,
    },
}

impl Persistence {
    pub fn as_str(&self) -> &'static str {
        match self {
            Persistence::None => "none",
            Persistence::Source(_) => "source",
            Persistence::Cookie(_) => "cookie",
            Persistence::RdpCookie(_) => "rdp-cookie",
            Persistence::TlsSessionId(_) => "tls-session-id",
            Persistence::Header { .. } => "header",
            Persistence::Query { .. } => "query",
            Persistence::Destination(_) => "destination",
            Persistence::AppCookie { .. } => "app-cookie",
        }
    }

    /// Size and expiry of the table, where the kind has one.
    pub fn table(&self) -> Option<KeyedPersistence> {
        match self {
            Persistence::None | Persistence::Cookie(_) => None,
            Persistence::Source(rule) => Some(KeyedPersistence { expire: rule.timeout, size: rule.size }),
            Persistence::RdpCookie(table)
            | Persistence::TlsSessionId(table)
            | Persistence::Destination(table)
            | Persistence::Query { table, .. }
            | Persistence::Header { table, .. }
            | Persistence::AppCookie { table, .. } => Some(table.clone()),
        }
    }
}

/// A table of keys that clients bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedPersistence {
    /// After its last use.
    pub expire: Duration,
    /// Entries kept at most.
    pub size: u32,
}

/// When a real server that answers its checks but fails its clients gets a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierRule {
    /// Failures in a row: no answer, a broken one, or a status of 500 and above.
    pub failures: u32,
    /// The first pause; each further one is as much longer.
    pub pause: Duration,
    /// Share of a pool, in percent, that may be paused at a time.
    pub max_percent: u8,
}

/// The same client network goes to the same real server until `timeout` after its last connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePersistence {
    pub mask: u8,
    pub mask6: u8,
    pub timeout: Duration,
    /// Entries kept at most; the least recently used of a set gives way.
    pub size: u32,
}

/// The length of the network that holds one address alone.
pub fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The leading `mask` bits (IPv4) or `mask6` bits (IPv6) of an address; IPv4-mapped counts as IPv4.
pub fn mask_address(address: IpAddr, mask: u8, mask6: u8) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(a) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(mask.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(a) & keep).into())
        }
        IpAddr::V6(a) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(mask6.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(a) & keep).into())
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieMethod {
    /// This program sets a cookie of its own.
    Insert,
    /// The real server sets it, this program writes the server's name into it.
    Rewrite,
    /// This program puts the server's name before the value of the application's cookie.
    Prefix,
    /// The application names the server itself.
    Passive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

impl SameSite {
    pub fn as_str(self) -> &'static str {
        match self {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookiePersistence {
    pub name: String,
    pub method: CookieMethod,
    /// Remove the cookie before the request goes to the real server.
    pub indirect: bool,
    /// Mark the response that sets the cookie as not cacheable by shared caches.
    pub nocache: bool,
    pub httponly: bool,
    pub secure: bool,
    pub samesite: Option<SameSite>,
    /// One cookie is set for each; none is the host that was asked.
    pub domains: Vec<String>,
    /// Set it in answers to POST requests alone.
    pub postonly: bool,
    /// The cookie is forgotten so long after its last use, and after its first.
    pub max_idle: Option<Duration>,
    pub max_life: Option<Duration>,
}

/// HTTP statuses that count as healthy: `200`, `200-399`, or several of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StatusSet(pub Vec<(u16, u16)>);

impl StatusSet {
    pub fn parse(text: &str) -> Option<StatusSet> {
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
            if first > last || !(100..=599).contains(&first) || last > 599 {
                return None;
            }
            ranges.push((first, last));
        }
        Some(StatusSet(ranges))
    }

    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl std::fmt::Display for StatusSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        let check = |address: &str, mask, mask6, expect: &str| {
            let masked = mask_address(address.parse().unwrap(), mask, mask6);
            assert_eq!(masked, expect.parse::<IpAddr>().unwrap());
        };
        check("10.1.2.3", 24, 64, "10.1.2.0");
        check("10.1.2.3", 32, 64, "10.1.2.3");
        check("10.1.2.3", 0, 64, "0.0.0.0");
        check("::ffff:10.1.2.3", 16, 64, "10.1.0.0");
        check("2001:db8:1:2:3:4:5:6", 24, 64, "2001:db8:1:2::");
        check("2001:db8::1", 24, 0, "::");
        check("2001:db8::1", 24, 128, "2001:db8::1");
    }

    #[test]
    fn scheduler_names() {
        for scheduler in Scheduler::ALL {
            assert_eq!(Scheduler::parse(scheduler.as_str()), Some(scheduler));
        }
        assert_eq!(Scheduler::parse("weighted-round-robin"), Some(Scheduler::RoundRobin));
        assert_eq!(Scheduler::parse("weighted-least-connection"), Some(Scheduler::LeastConnections));
        assert_eq!(Scheduler::parse("fastest"), None);
    }

    #[test]
    fn status_sets() {
        let set = StatusSet::parse("200-299,404").unwrap();
        assert!(set.contains(204) && set.contains(404) && !set.contains(302));
        assert_eq!(set.to_string(), "200-299,404");
        for bad in ["", "99", "600", "300-200", "abc", "200,"] {
            assert_eq!(StatusSet::parse(bad), None, "{bad}");
        }
    }
}
