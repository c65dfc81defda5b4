//! Reads `[[acme]]`, and what services want of the authorities.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use evenkeel_model::{
    Authority, Challenge, DnsSettings, DnsWriter, ExternalAccount, KeyType, Managed, Name, PRESETS, Route,
    TsigKey, is_certificate_name,
};
use evenkeel_model::{Mode, Snapshot, Vip, VirtualService};

use crate::problem::Problem;
use crate::section::Section;
use crate::suggest::nearest;

/// Authorities limit names to this or less.
const NAMES_AT_MOST: usize = 100;

pub fn authorities(root: Section<'_>, problems: &mut Vec<Problem>) -> Vec<Authority> {
    let mut all: Vec<Authority> = Vec::new();
    for (table, span) in root.sections("acme") {
        let Some(name) = table.name("name") else { continue };
        if all.iter().any(|known| known.name == name) {
            let what = format!("a second [[acme]] is named {name}");
            problems.push(Problem::new(table.span("name").unwrap_or(span), what));
            continue;
        }
        let place = || table.span("directory").or_else(|| table.span("name")).unwrap_or_else(|| span.clone());
        let written = table.text("directory").unwrap_or(name.as_str());
        let preset = PRESETS.iter().find(|(word, _)| *word == written).map(|(_, url)| (*url).to_owned());
        let Some(directory) = preset.or_else(|| is_url(written).then(|| written.to_owned())) else {
            let known: Vec<&str> = PRESETS.iter().map(|(word, _)| *word).collect();
            let what = format!("{written:?} is no directory of an authority");
            let help =
                format!("`directory` is a URL that begins with https://, or one of {}", known.join(", "));
            problems.push(Problem::new(place(), what).help(help));
            continue;
        };
        let mut authority = preset_of(name, directory);
        authority.contact = table.texts("contact");
        authority.ca = table.text("ca").map(Into::into);
        authority.external_account = table.section("external-account").and_then(|external| {
            let key_id = external.text("key-id")?.to_owned();
            Some(ExternalAccount { key_id, key_file: external.text("key-file")?.into() })
        });
        authority.preferred_chain = table.text("preferred-chain").map(str::to_owned);
        authority.profile = table.text("profile").map(str::to_owned);
        let words = table.texts("challenges");
        authority.challenges = words.iter().filter_map(|word| Challenge::parse(word)).collect();
        authority.key_type = table.text("key-type").and_then(KeyType::parse).unwrap_or_default();
        authority.reuse_key = table.flag("reuse-key");
        authority.http_port = table.number("http-port", 80);
        authority.tls_port = table.number("tls-port", 443);
        authority.dns = table.section("dns").and_then(|dns| dns_of(dns, problems));
        if authority.challenges.contains(&Challenge::Dns) && authority.dns.is_none() {
            let what = "dns-01 needs somebody who writes records";
            let place = table.span("challenges").unwrap_or(span);
            problems
                .push(Problem::new(place, what).help("dns = { type = \"update\", server = … }, or a hook"));
        }
        all.push(authority);
    }
    all
}

/// An authority with nothing but its directory.
fn preset_of(name: Name, directory: String) -> Authority {
    Authority {
        name,
        directory,
        contact: Vec::new(),
        ca: None,
        external_account: None,
        preferred_chain: None,
        profile: None,
        challenges: Vec::new(),
        key_type: KeyType::default(),
        reuse_key: false,
        http_port: 80,
        tls_port: 443,
        dns: None,
    }
}

fn dns_of(dns: Section<'_>, problems: &mut Vec<Problem>) -> Option<DnsSettings> {
    let writer = match dns.text("type")? {
        "update" => {
            let (server, name) = dns.server("server")?;
            if name.is_some() {
                let place = dns.span("server").unwrap_or(0..0);
                problems.push(Problem::new(
                    place,
                    "`server` must be an address here: a name server is not looked up",
                ));
            }
            let port = if server.port() == 0 { 53 } else { server.port() };
            let key = match (dns.text("key-name"), dns.text("key-file")) {
                (Some(name), Some(file)) => Some(TsigKey {
                    name: name.to_owned(),
                    algorithm: dns.text("key-algorithm").unwrap_or("hmac-sha256").to_owned(),
                    file: file.into(),
                }),
                (None, None) => None,
                _ => {
                    let place = dns.span("key-name").or_else(|| dns.span("key-file")).unwrap_or(0..0);
                    problems.push(Problem::new(place, "`key-name` and `key-file` belong together"));
                    None
                }
            };
            let zone = dns.text("zone").map(str::to_owned);
            DnsWriter::Update { server: SocketAddr::new(server.ip(), port), zone, key }
        }
        _ => DnsWriter::Hook {
            command: dns.text("command")?.into(),
            timeout: dns.duration("timeout", Duration::from_secs(60)),
        },
    };
    let alias = dns.text("alias").map(str::to_owned);
    Some(DnsSettings { writer, wait: dns.duration("wait", Duration::from_secs(10)), alias })
}

/// What a service wants, where its `tls` names an authority. One that is a well-known one need not be
/// written.
pub fn managed(
    table: Section<'_>,
    service: &Name,
    routes: &[Route],
    state: &Path,
    authorities: &mut Vec<Authority>,
    problems: &mut Vec<Problem>,
) -> Option<Managed> {
    let tls = table.section("tls")?;
    let place = |key: &str| tls.span(key).or_else(|| table.span("tls")).unwrap_or(0..0);
    let Some(wanted) = tls.name("acme") else {
        if tls.value("names").is_some() {
            let what = "`names` says what to order, but no authority is named";
            problems.push(Problem::new(place("names"), what).help("acme = \"letsencrypt\""));
        }
        return None;
    };
    if !authorities.iter().any(|a| a.name == wanted) {
        match PRESETS.iter().find(|(word, _)| *word == wanted.as_str()) {
            Some((_, url)) => authorities.push(preset_of(wanted.clone(), (*url).to_owned())),
            None => {
                let known = authorities.iter().map(|a| a.name.as_str());
                let known = known.chain(PRESETS.iter().map(|(word, _)| *word));
                let help = match nearest(wanted.as_str(), known) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("add [[acme]] with name = \"{wanted}\" and its directory"),
                };
                let what = format!("there is no authority named {wanted}");
                problems.push(Problem::new(place("acme"), what).help(help));
                return None;
            }
        }
    }
    let mut names: BTreeSet<String> = BTreeSet::new();
    if tls.text("names") == Some("routes") {
        let hosts = routes.iter().filter_map(|route| route.when.as_ref()).flat_map(|when| when.hosts());
        names.extend(hosts.filter(|host| is_certificate_name(host)));
    } else {
        names.extend(tls.texts("names").iter().map(|name| match name.parse::<std::net::IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => name.trim_end_matches('.').to_ascii_lowercase(),
        }));
    }
    let bad = |what: String, help: &str| Problem::new(place("names"), what).help(help.to_owned());
    if names.is_empty() {
        let help =
            "names = [\"www.example.org\"], or \"routes\" for the hosts that host(\"…\") of routes names";
        problems.push(bad("there is no name to order a certificate for".into(), help));
    }
    if names.len() > NAMES_AT_MOST {
        problems
            .push(bad(format!("a certificate has at most {NAMES_AT_MOST} names"), "use several services"));
    }
    let authority = authorities.iter().find(|a| a.name == wanted);
    for name in &names {
        if !is_certificate_name(name) {
            let help = "host names with a dot, *.example.org, or addresses";
            problems.push(bad(format!("{name:?} is no name that a certificate can have"), help));
        } else if name.starts_with("*.") && authority.is_some_and(|a| a.dns.is_none()) {
            let help = format!("add dns = {{ type = \"update\", … }} or a hook to [[acme]] {wanted}");
            problems.push(bad(format!("{name}: authorities give wildcards by dns-01 only"), &help));
        }
    }
    let file = state.join("acme").join(format!("{}.pem", file_name(service)));
    Some(Managed { authority: wanted, names: names.into_iter().collect(), file })
}

/// Names of services may hold a colon.
fn file_name(service: &Name) -> String {
    service.as_str().replace(':', "_")
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|r| r.split(['/', '?', '#']).next());
    host.is_some_and(|h| {
        !h.is_empty() && h.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
    }) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// How an authority can be shown that a service's names are this machine's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// The best first.
    pub challenges: Vec<Challenge>,
    /// Where a listener must be opened for http-01, since nobody listens.
    pub doors: Vec<SocketAddr>,
}

/// The ways for a service; nothing where its authority gives it no certificate.
pub fn ways<'a>(snapshot: &'a Snapshot, service: &VirtualService) -> Option<(Ways, &'a Authority)> {
    let managed = service.tls.as_ref()?.managed.as_ref()?;
    let authority = snapshot.authorities.iter().find(|a| a.name == managed.authority)?;
    let mut possible = Vec::new();
    let mut doors = Vec::new();
    if authority.dns.is_some() {
        possible.push(Challenge::Dns);
    }
    let addresses: BTreeSet<std::net::IpAddr> = service.vips.iter().map(|vip| vip.address).collect();
    let mut answers = true;
    for address in addresses {
        let at = SocketAddr::new(address, authority.http_port);
        let listens = |other: &&std::sync::Arc<VirtualService>| {
            let same = |vip: &Vip| {
                let everywhere = vip.address.is_unspecified() && vip.address.is_ipv4() == address.is_ipv4();
                (vip.address == address || everywhere) && vip.ports.contains(at.port())
            };
            other.vips.iter().any(same)
        };
        match snapshot.services.iter().find(listens) {
            Some(other) => answers &= other.mode == Mode::Http && other.tls.is_none(),
            None => doors.push(at),
        }
    }
    if answers {
        possible.push(Challenge::Http);
    }
    if service.vips.iter().any(|vip| vip.ports.contains(authority.tls_port)) {
        possible.push(Challenge::TlsAlpn);
    }
    let challenges = match authority.challenges.is_empty() {
        true => possible,
        false => authority.challenges.iter().copied().filter(|c| possible.contains(c)).collect(),
    };
    Some((Ways { challenges, doors }, authority))
}

/// What will be ordered, in words: of services that are new, or want something else than before.
pub fn orders(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let mut notes = Vec::new();
    for service in &new.services {
        let Some((ways, authority)) = ways(new, service) else { continue };
        let managed = |s: &VirtualService| s.tls.as_ref().and_then(|tls| tls.managed.clone());
        let before = old.services.iter().find(|s| s.name == service.name).and_then(|s| managed(s));
        let Some(now) = managed(service).filter(|now| before.as_ref() != Some(now)) else { continue };
        let names = now.names.join(", ");
        let how = match ways.challenges.first() {
            None => format!(
                "but nothing here can answer {}: it listens on port {} in another mode, and {} has no port {}",
                authority.name, authority.http_port, service.name, authority.tls_port
            ),
            Some(Challenge::Http) if !ways.doors.is_empty() => {
                let doors: Vec<String> = ways.doors.iter().map(ToString::to_string).collect();
                format!("by http-01; a listener is opened on {} for that time", doors.join(", "))
            }
            Some(way) => format!("by {}", way.as_str()),
        };
        notes.push(format!(
            "a certificate for {names} is ordered from {} ({}), {how}; until it is there a self-signed one is served",
            authority.name, authority.directory
        ));
    }
    notes
}
