//! Names that are looked up, and lists that real servers are taken from: from checked keys to the model.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_model::{
    Discover, DiscoverSource, Holds, Host, HostName, HttpSource, Init, ListenAddress, ResolverSettings,
};

use crate::problem::Problem;
use crate::section::Section;

/// Name servers at most.
const NAME_SERVERS: usize = 8;
/// Lists of one pool at most.
const LISTS: usize = 32;

pub fn resolver(root: Section<'_>, problems: &mut Vec<Problem>) -> ResolverSettings {
    let default = ResolverSettings::default();
    let Some(table) = root.section("resolver") else { return default };
    let listed = table.list("name-servers").filter_map(|v| v.get_ref().as_str());
    let servers: Vec<SocketAddr> = listed.filter_map(|t| Some(ListenAddress::parse(t).ok()?.0)).collect();
    if servers.len() > NAME_SERVERS {
        let message = format!("{} name servers are more than {NAME_SERVERS}", servers.len());
        problems.push(Problem::new(table.span("name-servers").unwrap_or(0..0), message));
    }
    let min_ttl = table.duration("min-ttl", default.min_ttl);
    let max_ttl = table.duration("max-ttl", default.max_ttl);
    if min_ttl > max_ttl {
        let place = table.span("min-ttl").or_else(|| table.span("max-ttl")).unwrap_or(0..0);
        problems.push(Problem::new(place, "`min-ttl` is longer than `max-ttl`"));
    }
    ResolverSettings {
        servers,
        resolv_conf: table.text("resolv-conf").map_or(default.resolv_conf, Into::into),
        hosts: table.text("hosts").map_or(default.hosts, Into::into),
        timeout: table.duration("timeout", default.timeout),
        retries: table.number("retries", default.retries),
        min_ttl,
        max_ttl,
        retry_after: table.duration("retry-after", default.retry_after),
        udp_size: table.number("udp-size", default.udp_size),
        hold: table.section("hold").map_or(default.hold, |hold| {
            let some = |key: &str| hold.text(key).map(|_| hold.duration(key, Duration::ZERO));
            Holds {
                valid: some("valid"),
                nx: some("nx"),
                refused: some("refused"),
                timeout: some("timeout"),
                other: some("other"),
                obsolete: hold.duration("obsolete", Duration::from_secs(30)),
            }
        }),
    }
}

/// The name of a real server with what its pool or it itself says of answers.
pub fn host(pool: Section<'_>, server: Section<'_>, name: HostName, problems: &mut Vec<Problem>) -> Host {
    let own = [server.section("resolve"), pool.section("resolve")].into_iter().flatten();
    let own: Vec<Section<'_>> = own.collect();
    let prefer = own.iter().find_map(|s| s.text("prefer"));
    let init = own.iter().find(|s| s.value("init").is_some()).map(|s| init(*s, problems));
    Host {
        name,
        prefer_ipv6: prefer == Some("ipv6"),
        init: init.unwrap_or_else(|| vec![Init::Last, Init::Lookup]),
    }
}

fn init(resolve: Section<'_>, problems: &mut Vec<Problem>) -> Vec<Init> {
    let mut all = Vec::new();
    for item in resolve.list("init") {
        let Some(word) = item.get_ref().as_str() else { continue };
        match (word, word.parse()) {
            ("last", _) => all.push(Init::Last),
            ("lookup", _) => all.push(Init::Lookup),
            ("none", _) => all.push(Init::None),
            (_, Ok(address)) => all.push(Init::Address(address)),
            _ => {
                let message = format!("`init` has no choice {word:?}");
                let problem = Problem::new(item.span(), message);
                problems.push(problem.help("one of \"last\", \"lookup\", \"none\", or an address"));
            }
        }
    }
    all
}

/// The lists of a pool.
pub fn discover(pool: Section<'_>, problems: &mut Vec<Problem>) -> Vec<Discover> {
    let mut all: Vec<Discover> = Vec::new();
    for (table, span) in pool.sections("discover") {
        let name = |key: &str, problems: &mut Vec<Problem>| {
            let text = table.text(key)?;
            let name = HostName::new(text);
            if name.is_none() {
                let message = format!("{text:?} is not a host name");
                problems.push(Problem::new(table.span(key).unwrap_or(0..0), message));
            }
            name
        };
        let source = match table.text("type") {
            Some("file") => table.text("path").map(|path| DiscoverSource::File(path.into())),
            Some("http") => {
                let url = table.text("url").unwrap_or_default();
                let source = HttpSource::parse(url);
                if source.is_none() {
                    let message = "`url` is http://HOST:PORT/PATH";
                    problems.push(Problem::new(table.span("url").unwrap_or(0..0), message));
                }
                source.map(DiscoverSource::Http)
            }
            Some("dns-srv") => name("name", problems).map(DiscoverSource::DnsSrv),
            Some("dns") => name("name", problems).map(|n| DiscoverSource::Dns(n, table.number("port", 0))),
            _ => None,
        };
        let Some(source) = source else { continue };
        if all.iter().any(|d| d.source == source) {
            problems.push(Problem::new(span, format!("the list {source} is there twice")));
            continue;
        }
        all.push(Discover {
            source,
            interval: table.duration("interval", Duration::from_secs(5)),
            at_least: table.number("at-least", 1),
            settle: table.duration("settle", Duration::from_secs(30)),
            at_most: table.number("at-most", 1000),
        });
    }
    if all.len() > LISTS {
        let place = pool.span("discover").unwrap_or(0..0);
        problems.push(Problem::new(place, format!("{} lists are more than {LISTS}", all.len())));
    }
    all
}
