//! Servers that are written by name, and lists of servers that others keep.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A host name: lower case, without the dot of the root, 1 to 253 characters out of letters, digits,
/// `-` and `_`, in labels of at most 63. It is never an address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

impl HostName {
    pub const MAX_LENGTH: usize = 253;

    pub fn new(text: &str) -> Option<HostName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        let label = |l: &str| {
            (1..=63).contains(&l.len()) && l.bytes().all(plain) && !l.starts_with('-') && !l.ends_with('-')
        };
        let good = text.len() <= Self::MAX_LENGTH && text.split('.').all(label);
        // `10.0.0.256` is a mistyped address, and no top-level domain is a number (RFC 3696, section 2).
        let last = text.rsplit('.').next().unwrap_or(text);
        let number = last.bytes().all(|c| c.is_ascii_digit());
        (good && !number).then(|| HostName(text.to_ascii_lowercase().into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `NAME:PORT`, or `NAME` for the port that the client connected to, which is 0 here.
    pub fn with_port(text: &str) -> Option<(HostName, u16)> {
        match text.rsplit_once(':') {
            Some((name, port)) => {
                let port = port.parse().ok().filter(|p| *p > 0 && !port.starts_with('+'))?;
                Some((HostName::new(name)?, port))
            }
            None => Some((HostName::new(text)?, 0)),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The name that a server is written by, and what is taken of its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub name: HostName,
    /// Addresses of this version are taken before others.
    pub prefer_ipv6: bool,
    /// Where the address is from while nothing is known yet; the first that has one.
    pub init: Vec<Init>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// The address it had last, from the state directory.
    Last,
    /// The start waits a while for the first answer.
    Lookup,
    /// The server is down until the first answer.
    None,
    Address(IpAddr),
}

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverSettings {
    /// Name servers; those of `resolv_conf` where there are none.
    pub servers: Vec<SocketAddr>,
    pub resolv_conf: PathBuf,
    pub hosts: PathBuf,
    /// Of one question to one name server.
    pub timeout: Duration,
    /// Further rounds through the name servers.
    pub retries: u32,
    /// How long an answer holds: its TTL within these bounds, or `hold.valid`.
    pub min_ttl: Duration,
    pub max_ttl: Duration,
    /// Until the next look-up after one that failed.
    pub retry_after: Duration,
    /// Bytes of an answer over UDP.
    pub udp_size: u16,
    pub hold: Holds,
}

/// How long the last good answer is used on, by what is answered since; without a number for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Instead of the TTL.
    pub valid: Option<Duration>,
    pub nx: Option<Duration>,
    pub refused: Option<Duration>,
    pub timeout: Option<Duration>,
    pub other: Option<Duration>,
    /// How long an address is used that answers no longer hold.
    pub obsolete: Duration,
}

impl Default for ResolverSettings {
    fn default() -> ResolverSettings {
        ResolverSettings {
            servers: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            timeout: Duration::from_secs(1),
            retries: 2,
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
            retry_after: Duration::from_secs(5),
            udp_size: 1232,
            hold: Holds {
                valid: None,
                nx: None,
                refused: None,
                timeout: None,
                other: None,
                obsolete: Duration::from_secs(30),
            },
        }
    }
}

/// A list of servers that is kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Discover {
    pub source: DiscoverSource,
    /// How often it is looked at.
    pub interval: Duration,
    /// A list of fewer servers is not taken.
    pub at_least: u32,
    /// How long a list has to stay that has lost more than half of its servers.
    pub settle: Duration,
    /// Servers at most.
    pub at_most: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DiscoverSource {
    /// Prometheus' file_sd: YAML where the name ends so, else JSON.
    File(PathBuf),
    DnsSrv(HostName),
    /// Prometheus' http_sd.
    Http(HttpSource),
    /// Each address of a name is a server with this port.
    Dns(HostName, u16),
    Docker(DockerSource),
    Consul(ConsulSource),
}

/// Containers, as the API of Docker or podman lists them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DockerSource {
    pub socket: PathBuf,
    /// `KEY` or `KEY=VALUE` that a container's labels have.
    pub label: String,
    /// Of containers whose labels say none.
    pub port: Option<u16>,
    /// Whose address is taken, where a container is on several.
    pub network: Option<String>,
}

/// A service of Consul's catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsulSource {
    pub at: HttpSource,
    pub service: String,
    pub tag: Option<String>,
    pub datacenter: Option<String>,
    /// Instances whose checks do not pass are left out.
    pub passing: bool,
}

/// Where a server is from that the configuration's file does not have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    List(DiscoverSource),
    /// Somebody has added it at run time.
    RunTime,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::List(source) => source.fmt(f),
            Origin::RunTime => f.write_str("added at run time"),
        }
    }
}

/// A URL of a list, in its parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpSource {
    pub tls: bool,
    /// An address or a host name; IPv6 in brackets.
    pub host: String,
    pub port: u16,
    pub path: String,
    /// Authorities to trust instead of the well-known ones.
    pub ca: Option<PathBuf>,
    /// A file that holds the token to show.
    pub token: Option<PathBuf>,
}

impl HttpSource {
    /// `http://HOST[:PORT][/PATH]`, or `https`.
    pub fn parse(url: &str) -> Option<HttpSource> {
        let (tls, rest) = match url.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("http://")?),
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (place, path) = rest.split_at(at);
        let (host, port) = match place.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => (host, port.parse().ok().filter(|p| *p > 0)?),
            None => (place, if tls { 443 } else { 80 }),
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let known = match bare {
            Some(six) => six.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.parse::<std::net::Ipv4Addr>().is_ok() || HostName::new(host).is_some(),
        };
        let plain = path.len() <= 2048 && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let host = host.to_ascii_lowercase();
        (known && plain).then_some(HttpSource { tls, host, port, path, ca: None, token: None })
    }
}

impl fmt::Display for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

impl fmt::Display for DiscoverSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiscoverSource::File(path) => write!(f, "file {}", path.display()),
            DiscoverSource::Http(source) => source.fmt(f),
            DiscoverSource::DnsSrv(name) => write!(f, "dns-srv {name}"),
            DiscoverSource::Dns(name, port) => write!(f, "dns {name}:{port}"),
            DiscoverSource::Docker(d) => {
                write!(f, "docker {} {}", d.socket.display(), d.label)?;
                d.network.iter().try_for_each(|network| write!(f, " on {network}"))?;
                d.port.iter().try_for_each(|port| write!(f, " port {port}"))
            }
            DiscoverSource::Consul(c) => {
                write!(f, "consul {} {}", c.at, c.service)?;
                c.tag.iter().try_for_each(|tag| write!(f, " tag {tag}"))?;
                c.datacenter.iter().try_for_each(|place| write!(f, " in {place}"))?;
                if c.passing { Ok(()) } else { f.write_str(" whatever its checks") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_lists() {
        let check = |url: &str, expect: Option<&str>| {
            let shown = HttpSource::parse(url).map(|s| DiscoverSource::Http(s).to_string());
            assert_eq!(shown.as_deref(), expect, "{url}");
        };
        check("http://Registry.internal", Some("http://registry.internal:80/"));
        check("http://10.0.0.1:8500/v1/sd?x=y", Some("http://10.0.0.1:8500/v1/sd?x=y"));
        check("http://[::1]:81/", Some("http://[::1]:81/"));
        check("http://[::1]", Some("http://[::1]:80/"));
        check("http://a?b", Some("http://a:80/?b"));
        check("https://a/", Some("https://a:443/"));
        check("https://a:8501", Some("https://a:8501/"));
        for bad in [
            "ftp://a/",
            "a/b",
            "http://",
            "http://a:0/",
            "http://u@a/",
            "http://a/\r\nX: y",
            "http://a/ b",
            "http://::1/",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn host_names() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(HostName::new(text).as_ref().map(HostName::as_str), expect, "{text:?}");
        };
        check("web", Some("web"));
        check("Web.Internal.", Some("web.internal"));
        check("_http._tcp.example.org", Some("_http._tcp.example.org"));
        let long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "a..b",
            "10.0.0.256",
            "1",
            "-a.b",
            "a-.b",
            "a b",
            "a/b",
            "é.example",
            "a\0",
            "::1",
            &long,
        ] {
            check(bad, None);
        }
        check(&"abc.".repeat(64), None);
        assert_eq!(HostName::with_port("a.b:80"), Some((HostName::new("a.b").unwrap(), 80)));
        assert_eq!(HostName::with_port("a.b"), Some((HostName::new("a.b").unwrap(), 0)));
        for bad in ["a.b:", "a.b:0", "a.b:65536", "a.b:+80", ":80", "a:b:80"] {
            assert_eq!(HostName::with_port(bad), None, "{bad}");
        }
    }
}
