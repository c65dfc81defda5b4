//! Names that are looked up, and lists that real servers are taken from: from checked keys to the model.

use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_model::{
    ConsulSource, Discover, DiscoverSource, DockerSource, Holds, Host, HostName, HttpSource, Init,
    ListenAddress, ResolverSettings,
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
pub fn host(
    pool: Option<Section<'_>>,
    server: Section<'_>,
    name: HostName,
    problems: &mut Vec<Problem>,
) -> Host {
    let own = [server.section("resolve"), pool.and_then(|p| p.section("resolve"))].into_iter().flatten();
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
            Some("http") => url(table, "url", "", problems).map(DiscoverSource::Http),
            Some("docker") => docker(table, problems).map(DiscoverSource::Docker),
            Some("consul") => consul(table, problems).map(DiscoverSource::Consul),
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
            interval: table.duration("interval", interval_of(&source)),
            source,
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

/// How often a source is looked at; one that answers when something changes, how long it may keep silent.
fn interval_of(source: &DiscoverSource) -> Duration {
    match source {
        DiscoverSource::Consul(_) => Duration::from_secs(60),
        _ => Duration::from_secs(5),
    }
}

/// Where a list is got over HTTP. `path` is what the key itself does not say.
fn url(table: Section<'_>, key: &str, path: &str, problems: &mut Vec<Problem>) -> Option<HttpSource> {
    let text = table.text(key)?;
    let parsed = HttpSource::parse(text).filter(|s| path.is_empty() || s.path == "/");
    let Some(source) = parsed else {
        let form = if path.is_empty() { "HOST:PORT/PATH" } else { "HOST:PORT" };
        let message = format!("`{key}` is http://{form} or https://{form}");
        problems.push(Problem::new(table.span(key).unwrap_or(0..0), message));
        return None;
    };
    if !source.tls && table.value("ca").is_some() {
        let message = format!("`ca` does nothing: `{key}` is without TLS");
        problems.push(Problem::new(table.span("ca").unwrap_or(0..0), message).help("write https://"));
    }
    let path = if path.is_empty() { source.path } else { path.to_owned() };
    let file = |key: &str| table.text(key).map(Into::into);
    Some(HttpSource { path, ca: file("ca"), token: file("token-file"), ..source })
}

fn docker(table: Section<'_>, problems: &mut Vec<Problem>) -> Option<DockerSource> {
    let label = table.text("label")?.to_owned();
    if label.is_empty() || label.chars().any(char::is_control) {
        let message = "`label` is KEY or KEY=VALUE";
        problems.push(Problem::new(table.span("label").unwrap_or(0..0), message));
    }
    Some(DockerSource {
        socket: table.text("socket").unwrap_or("/var/run/docker.sock").into(),
        label,
        port: table.integer("port").and_then(|p| u16::try_from(p).ok()),
        network: table.text("network").map(str::to_owned),
    })
}

fn consul(table: Section<'_>, problems: &mut Vec<Problem>) -> Option<ConsulSource> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let mut word = |key: &str| {
        let text = table.text(key)?;
        if text.is_empty() || text.len() > 128 || !text.bytes().all(plain) {
            let message = format!("`{key}` is of letters, digits, `-`, `_` and `.`");
            problems.push(Problem::new(table.span(key).unwrap_or(0..0), message));
        }
        Some(text.to_owned())
    };
    let (service, tag, datacenter) = (word("service")?, word("tag"), word("datacenter"));
    let passing = table.value("passing").is_none() || table.flag("passing");
    let mut path = format!("/v1/health/service/{service}?stale");
    if passing {
        path.push_str("&passing=1");
    }
    tag.iter().for_each(|tag| path.push_str(&format!("&tag={tag}")));
    datacenter.iter().for_each(|place| path.push_str(&format!("&dc={place}")));
    let at = url(table, "url", &path, problems)?;
    Some(ConsulSource { at, service, tag, datacenter, passing })
}
