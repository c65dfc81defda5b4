//! Names without DNS: the hosts file, and what resolv.conf says of name servers (hosts(5), resolv.conf(5)).
//!
//! In: the text of the files. Out: addresses by name, name servers, search domains. Never: a file.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use evenkeel_model::HostName;

/// Addresses of one name in the hosts file.
const ADDRESSES: usize = 64;
const NAME_SERVERS: usize = 3;
const SEARCH: usize = 6;

/// Addresses by name, in the order of the file. Lines that say nothing are passed over.
pub fn hosts(text: &str) -> HashMap<HostName, Vec<IpAddr>> {
    let mut all: HashMap<HostName, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next().and_then(|w| w.parse::<IpAddr>().ok()) else { continue };
        if address.is_unspecified() || address.is_multicast() {
            continue;
        }
        for name in words.filter_map(HostName::new) {
            let known = all.entry(name).or_default();
            if known.len() < ADDRESSES && !known.contains(&address) {
                known.push(address);
            }
        }
    }
    all
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<SocketAddr>,
    pub search: Vec<HostName>,
    /// A name with fewer dots is tried in the search domains first.
    pub dots: usize,
    pub timeout: Option<Duration>,
    /// Rounds through the name servers.
    pub attempts: Option<u32>,
}

pub fn resolv_conf(text: &str) -> ResolvConf {
    let mut found =
        ResolvConf { servers: Vec::new(), search: Vec::new(), dots: 1, timeout: None, attempts: None };
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            // A scope (`fe80::1%eth0`) is not followed.
            Some("nameserver") => {
                let server = words.next().and_then(|w| w.parse().ok());
                let room = found.servers.len() < NAME_SERVERS;
                found.servers.extend(server.filter(|_| room).map(|ip| SocketAddr::new(ip, 53)));
            }
            Some("search" | "domain") => {
                found.search = words.filter_map(HostName::new).take(SEARCH).collect();
            }
            Some("options") => words.for_each(|word| option(word, &mut found)),
            _ => {}
        }
    }
    if found.servers.is_empty() {
        // As resolv.conf(5) has it.
        found.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53));
    }
    found
}

fn option(word: &str, found: &mut ResolvConf) {
    let Some((key, Ok(number))) = word.split_once(':').map(|(key, n)| (key, n.parse::<u32>())) else {
        return;
    };
    match key {
        "ndots" => found.dots = number.min(15) as usize,
        "timeout" => found.timeout = Some(Duration::from_secs(number.clamp(1, 30).into())),
        "attempts" => found.attempts = Some(number.clamp(1, 5)),
        _ => {}
    }
}

impl ResolvConf {
    /// The names to ask for, in their order.
    pub fn candidates(&self, name: &HostName) -> Vec<HostName> {
        let within = self.search.iter().filter_map(|domain| HostName::new(&format!("{name}.{domain}")));
        let dots = name.as_str().bytes().filter(|b| *b == b'.').count();
        match dots >= self.dots {
            true => std::iter::once(name.clone()).chain(within).collect(),
            false => within.chain(std::iter::once(name.clone())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file() {
        let text = "127.0.0.1 localhost\n::1 localhost ip6-localhost # comment\n10.0.0.1\tWeb.Internal web\n10.0.0.1 web\nnonsense web\n0.0.0.0 ads\n\0\n";
        let all = hosts(text);
        let check = |name: &str, expect: &[&str]| {
            let found = all.get(&HostName::new(name).unwrap()).cloned().unwrap_or_default();
            let expect: Vec<IpAddr> = expect.iter().map(|t| t.parse().unwrap()).collect();
            assert_eq!(found, expect, "{name}");
        };
        check("localhost", &["127.0.0.1", "::1"]);
        check("web", &["10.0.0.1"]);
        check("web.internal", &["10.0.0.1"]);
        check("ads", &[]);
        check("comment", &[]);
        let many: String = (0..1000).map(|n| format!("10.0.{}.{} many\n", n / 250, n % 250 + 1)).collect();
        assert_eq!(hosts(&many).values().map(Vec::len).sum::<usize>(), ADDRESSES);
    }

    #[test]
    fn a_resolv_conf() {
        let found = resolv_conf(
            "# c\nnameserver 10.0.0.53\nnameserver 2001:db8::53\nnameserver x\nsearch a.org b.org\noptions ndots:2 timeout:0 attempts:99 rotate\n",
        );
        assert_eq!(found.servers, ["10.0.0.53:53".parse().unwrap(), "[2001:db8::53]:53".parse().unwrap()]);
        assert_eq!((found.dots, found.timeout, found.attempts), (2, Some(Duration::from_secs(1)), Some(5)));
        let names = |name: &str| {
            let all = found.candidates(&HostName::new(name).unwrap());
            all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("web"), "web.a.org web.b.org web");
        assert_eq!(names("web.x.y"), "web.x.y web.x.y.a.org web.x.y.b.org");
        assert_eq!(resolv_conf("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }
}
