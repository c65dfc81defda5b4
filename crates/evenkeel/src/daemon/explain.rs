//! Why a request goes where it goes: the journey of a connection, walked without one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use evenkeel_admin::{Kind, Refused};
use evenkeel_api as api;
use evenkeel_balance::{Balancer, Refusal, Server, hash_address, hash_bytes, hash_flow};
use evenkeel_model::{Fallback, Mode, Persistence, Pool, Scheduler, Snapshot, VirtualService, mask_address};

use super::control::{Control, monotonic_ms, read};

/// The state of one server of a pool, as the explanation uses it.
struct Seen {
    server: Server,
    full: bool,
}

impl Control {
    pub fn explain(&self, question: &api::Question) -> Result<api::Explanation, Refused> {
        let proposed = question.configuration.as_deref().map(read).transpose()?;
        let snapshot = proposed.as_ref().unwrap_or(self.snapshot());
        let config = self.engine().config();
        let live = |pool: &Pool| -> Vec<Seen> {
            let running = config.pools.iter().find(|p| p.pool.name == pool.name);
            let spec =
                |name: &str| running.and_then(|p| p.servers.iter().find(|s| s.server.name.as_str() == name));
            let mut seen = as_configured(pool);
            for one in &mut seen {
                let Some(spec) = spec(&one.server.name) else { continue };
                let current = spec.counters.sum(|c| c.current.get());
                one.server.connections = current as u32;
                one.full =
                    spec.server.max_connections != 0 && current >= u64::from(spec.server.max_connections);
                if let Some(state) = self.engine().state(spec.id) {
                    (one.server.up, one.server.up_since_ms) = (state.up, state.up_since_ms);
                    (one.server.admin, one.server.weight) = (state.admin, state.weight);
                }
            }
            seen
        };
        let remembered = |pool: &Pool, client: IpAddr| -> Option<String> {
            let running = config.pools.iter().find(|p| p.pool.name == pool.name)?;
            let entry = running.table.as_ref()?.peek(client, monotonic_ms())?;
            let server = running.servers.iter().find(|s| s.id == entry.server)?;
            Some(server.server.name.as_str().to_owned())
        };
        explain(snapshot, question, live, remembered).map_err(|why| Refused::new(Kind::NotFound, why))
    }
}

/// Without a daemon: servers are as the configuration says, and all up.
pub fn offline(question: &api::Question) -> Result<api::Explanation, String> {
    let text = question.configuration.as_deref().ok_or("a configuration is needed")?;
    let snapshot = read(text).map_err(|refused| refused.failure.error)?;
    explain(&snapshot, question, as_configured, |_, _| None)
}

fn as_configured(pool: &Pool) -> Vec<Seen> {
    let servers = pool.real_servers.iter().map(|s| Seen {
        server: Server {
            name: s.name.as_str().into(),
            weight: s.weight.get(),
            admin: s.admin_state,
            up: true,
            backup: s.backup,
            up_since_ms: None,
            connections: 0,
        },
        full: false,
    });
    servers.collect()
}

/// What is asked about, read from the question.
struct Asked {
    vip: SocketAddr,
    path: String,
    http: bool,
    client: SocketAddr,
}

fn parse(question: &api::Question) -> Result<Asked, String> {
    let shape = "expected http://ADDRESS:PORT/PATH or tcp://ADDRESS:PORT";
    let (scheme, rest) = question.target.split_once("://").ok_or(shape)?;
    let http = match scheme {
        "http" => true,
        "tcp" => false,
        _ => return Err(format!("{scheme}:// is not understood: {shape}")),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let with_port = if http && authority.parse::<IpAddr>().is_ok() {
        format!("{authority}:80")
    } else {
        authority.into()
    };
    let vip = with_port.parse().map_err(|_| {
        format!(
            "{authority:?} is not ADDRESS:PORT: name the VIP itself, and the host with --header 'Host: …'"
        )
    })?;
    let source = match &question.source {
        Some(text) => text.parse().map_err(|_| format!("{text:?} is not an address"))?,
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    Ok(Asked { vip, path: path.into(), http, client: SocketAddr::new(source, 40_000) })
}

fn explain(
    snapshot: &Snapshot,
    question: &api::Question,
    servers: impl Fn(&Pool) -> Vec<Seen>,
    remembered: impl Fn(&Pool, IpAddr) -> Option<String>,
) -> Result<api::Explanation, String> {
    let asked = parse(question)?;
    let service = find_service(snapshot, asked.vip)?;
    if asked.http && service.mode == Mode::Tcp {
        return Err(format!(
            "{} is in mode \"tcp\" and reads no requests: ask tcp://{}",
            service.name, asked.vip
        ));
    }
    let pool = snapshot.pool(&service.pool).ok_or("the service's pool is missing")?;
    let seen = servers(pool);
    let mut reasons = vec![format!(
        "{} is a VIP of virtual service {}, mode {}",
        asked.vip,
        service.name,
        service.mode.as_str()
    )];
    let index_of = |name: &str| seen.iter().position(|s| s.server.name == name);
    let belongs = match &pool.persistence {
        Persistence::None => {
            reasons.push("no persistence: the scheduler decides".into());
            None
        }
        Persistence::Cookie(rule) => {
            let value = cookie(&question.headers, &rule.name);
            reasons.push(match &value {
                None => {
                    format!("no cookie {}: the scheduler decides, and the answer sets the cookie", rule.name)
                }
                Some(v) if index_of(v).is_none() => {
                    format!("cookie {}={v} names no server of the pool: the scheduler decides", rule.name)
                }
                Some(v) => format!("cookie {}={v} names a server of the pool", rule.name),
            });
            value.and_then(|v| index_of(&v))
        }
        Persistence::Source(rule) => {
            let network = mask_address(asked.client.ip(), rule.mask, rule.mask6);
            let entry = remembered(pool, network);
            reasons.push(match &entry {
                Some(server) => format!("the persistence table has {network} on {server}"),
                None => format!("the persistence table has no entry for {network}: the scheduler decides"),
            });
            entry.and_then(|name| index_of(&name))
        }
    };
    let kept = belongs.filter(|i| {
        let usable = seen[*i].server.takes_persistent_clients();
        if !usable {
            reasons.push(format!("{} cannot take it: the scheduler decides anew", seen[*i].server.name));
        }
        usable
    });
    let key = match pool.scheduler {
        Scheduler::SourceHash => hash_address(asked.client.ip()),
        Scheduler::Maglev => hash_flow(asked.client),
        Scheduler::UriHash => hash_bytes(asked.path.split('?').next().unwrap_or("").as_bytes()),
        _ => 0,
    };
    let slow_start_ms = pool.slow_start.as_millis() as u64;
    let states = seen.iter().map(|s| s.server.clone()).collect();
    let mut balancer = Balancer::new(pool.scheduler, slow_start_ms, states, monotonic_ms());
    let chosen = kept.or_else(|| balancer.pick(key, 0x5555_5555_5555_5555, |i| !seen[i].full));
    reasons.extend(how(pool.scheduler, kept.is_some(), chosen.is_some()));
    if chosen.is_none() {
        reasons.push(no_server(service, seen.iter().any(|s| s.full)));
    }
    let candidates = balancer.explain(chosen, |i| seen[i].full).into_iter().map(|choice| api::Candidate {
        real_server: seen[choice.server].server.name.clone(),
        effective_weight: choice.effective_weight,
        current_connections: u64::from(choice.connections),
        verdict: verdict(choice.refusal).into(),
    });
    Ok(api::Explanation {
        service: service.name.as_str().into(),
        pool: pool.name.as_str().into(),
        scheduler: pool.scheduler.as_str().into(),
        reasons,
        candidates: candidates.collect(),
        real_server: chosen.map(|i| seen[i].server.name.clone()),
    })
}

fn find_service(snapshot: &Snapshot, vip: SocketAddr) -> Result<&VirtualService, String> {
    let listens = |s: &VirtualService, address: IpAddr| {
        s.vips.iter().any(|v| v.address == address && v.ports.contains(vip.port()))
    };
    let any = if vip.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
    };
    let exact = snapshot.services.iter().find(|s| listens(s, vip.ip()));
    let found = exact.or_else(|| snapshot.services.iter().find(|s| listens(s, any)));
    found.map(|s| &**s).ok_or_else(|| format!("no virtual service has the VIP {vip}"))
}

fn cookie(headers: &[String], name: &str) -> Option<String> {
    let values = headers.iter().filter_map(|h| {
        let (field, value) = h.split_once(':')?;
        field.trim().eq_ignore_ascii_case("cookie").then_some(value)
    });
    let mut pairs = values.flat_map(|v| v.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(n, _)| *n == name).map(|(_, value)| value.trim_matches('"').to_owned())
}

fn how(scheduler: Scheduler, kept: bool, chosen: bool) -> Option<String> {
    if kept || !chosen {
        return None;
    }
    Some(match scheduler {
        Scheduler::RoundRobin => "round-robin: each event loop takes servers in turn by weight; a first client of a fresh loop gets the one shown".into(),
        Scheduler::LeastConnections => "least-connections: the fewest connections for its weight".into(),
        Scheduler::Random => "random: the less loaded of two drawn by weight; the one shown is an example".into(),
        Scheduler::First => "first: the first server in the written order that can take it".into(),
        Scheduler::SourceHash => "source-hash: by the hash of the client's address".into(),
        Scheduler::UriHash => "uri-hash: by the hash of the path".into(),
        Scheduler::Maglev => "maglev: by the hash of the client's address and port (40000 is assumed)".into(),
    })
}

fn no_server(service: &VirtualService, full: bool) -> String {
    match &service.fallback {
        _ if full => "every server that could take it is full: it waits in the queue".into(),
        Some(Fallback::Page { status, .. }) => {
            format!("no server can take it: the fallback page is answered, status {status}")
        }
        Some(Fallback::Server(address)) => {
            format!("no server can take it: it goes to the fallback server {address}")
        }
        None => "no server can take it: it is answered 503 (http) or closed (tcp)".into(),
    }
}

fn verdict(refusal: Option<Refusal>) -> &'static str {
    match refusal {
        None => "chosen",
        Some(Refusal::Down) => "down",
        Some(Refusal::Draining) => "draining",
        Some(Refusal::Halted) => "halted",
        Some(Refusal::WeightZero) => "weight 0",
        Some(Refusal::BackupNotNeeded) => "backup, not needed",
        Some(Refusal::Full) => "full",
        Some(Refusal::NotItsTurn) => "not its turn",
    }
}
