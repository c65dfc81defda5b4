//! Why a request goes where it goes: the journey of a connection, walked without one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use evenkeel_admin::{FailureKind, Refused};
use evenkeel_api as api;
use evenkeel_balance::{
    Balancer, Figure, Key, Refusal, Server, hash_address, hash_bytes, hash_flow, hash_sdbm,
};
use evenkeel_l7::PoolSpec;
use evenkeel_model::{
    AdminState, CookieMethod, Fallback, Mode, Name, Origin, Persistence, Pool, RealServer, Scheduler,
    Snapshot, VirtualService, mask_address,
};
use evenkeel_routes::{Changes, Routes};

use super::control::{Control, monotonic_ms, read};
use super::imagined::{self, ExplainQuery, Imagined, InWords, Walked};

/// The state of one server of a pool, as the explanation uses it.
pub struct ServerState {
    pub server: Server,
    pub full: bool,
}

impl Control {
    pub fn explain(&self, question: &api::Question) -> Result<api::Explanation, Refused> {
        let proposed = question.configuration.as_deref().map(read).transpose()?;
        let snapshot = proposed.as_ref().unwrap_or(self.snapshot());
        let config = self.engine().config();
        let live = |pool: &Pool| -> Vec<ServerState> {
            let running = config.pools.iter().find(|p| p.pool.name == pool.name);
            let spec =
                |name: &str| running.and_then(|p| p.servers.iter().find(|s| s.server.name.as_str() == name));
            let mut seen = as_configured(pool);
            for one in &mut seen {
                let Some(spec) = spec(&one.server.name) else { continue };
                let flows =
                    running.map_or(0, |pool| super::metrics::flows_of_server(self, pool, spec).active);
                let current = spec.counters.sum(|c| c.current.get()) + u64::from(flows);
                one.server.connections = current as u32;
                let limits = (spec.server.min_connections, spec.server.max_connections);
                // The client that is asked about comes to those who are there.
                let places = pool.places_at(limits.0, limits.1, running.map_or(0, clients_of) + 1);
                one.full = places != 0 && current >= u64::from(places);
                if let Some(state) = self.engine().state(spec.id) {
                    (one.server.up, one.server.up_since_ms) = (state.up, state.up_since_ms);
                    (one.server.admin, one.server.weight) = (state.admin, state.weight);
                }
            }
            seen
        };
        let remembered = |pool: &Pool, key: &Key| -> Option<String> {
            let running = config.pools.iter().find(|p| p.pool.name == pool.name)?;
            if let Some(name) = self.remembered_in_kernel(running, key) {
                return Some(name);
            }
            let entry = running.table.as_ref()?.peek(key, monotonic_ms())?;
            let server = running.servers.iter().find(|s| Some(s.id) == entry.server)?;
            Some(server.server.name.as_str().to_owned())
        };
        let figure = |table: &Name, key: &[u8], figure: Figure| -> Option<u64> {
            let found = config.tables.iter().find(|t| t.rule.name == *table)?;
            found.table.figure(&Key::text(key), figure, monotonic_ms())
        };
        let known = Known { servers: &live, remembered: &remembered, figure: &figure };
        explain(snapshot, question, &known).map_err(|why| Refused::new(FailureKind::NotFound, why))
    }
}

impl Control {
    /// What a service of layer 4 remembers of a client's network.
    fn remembered_in_kernel(&self, pool: &PoolSpec, key: &Key) -> Option<String> {
        let address = key.to_address()?;
        let services = self.services().iter();
        let service = services.into_iter().find(|s| s.pool_id == pool.id && s.service.mode.is_layer4())?;
        let known = self.layer4().plane()?.persistent(service.service.name.as_str()).ok()?;
        known.into_iter().find(|k| k.client == address).map(|k| k.server)
    }
}

/// Without a daemon: servers are as the configuration says, and all up.
pub fn offline(question: &api::Question) -> Result<api::Explanation, String> {
    // Whoever has the file may read it.
    let question = &api::Question { reads: true, ..question.clone() };
    let text = question.configuration.as_deref().ok_or("a configuration is needed")?;
    let snapshot = read(text).map_err(|refused| refused.failure.detail)?;
    let known = Known { servers: &as_configured, remembered: &|_, _| None, figure: &|_, _, _| None };
    explain(&snapshot, question, &known)
}

/// Clients with a pool's servers, and those who wait for one.
fn clients_of(pool: &Arc<PoolSpec>) -> u64 {
    let waiting = pool.waiting.load(std::sync::atomic::Ordering::Relaxed);
    pool.current.sum(evenkeel_l7::counters::Counter::get) + u64::from(waiting)
}

fn as_configured(pool: &Pool) -> Vec<ServerState> {
    let servers = pool.real_servers.iter().map(|s| ServerState {
        server: Server {
            name: s.name.as_str().into(),
            weight: s.weight.get(),
            admin: s.admin_state,
            up: true,
            backup: s.backup,
            up_since_ms: None,
            connections: 0,
            answer_us: 0,
        },
        full: false,
    });
    servers.collect()
}

/// What a table of this name has for a key.
pub type TableFigure<'a> = dyn Fn(&Name, &[u8], Figure) -> Option<u64> + 'a;

/// What the running program knows beside the configuration.
pub struct Known<'a> {
    pub servers: &'a dyn Fn(&Pool) -> Vec<ServerState>,
    /// The server that a pool's table has for a key.
    pub remembered: &'a dyn Fn(&Pool, &Key) -> Option<String>,
    /// What a table that routes count in has for a key.
    pub figure: &'a TableFigure<'a>,
}

fn balancer_of(pool: &Pool, seen: &[ServerState]) -> Balancer {
    let (slow_start_ms, now_ms) = (pool.slow_start.as_millis() as u64, monotonic_ms());
    let states = seen.iter().map(|s| s.server.clone()).collect();
    let balancer = Balancer::new(pool.scheduler, slow_start_ms, states, now_ms);
    let balancer = balancer.backups(pool.one_backup, pool.quorum, now_ms, &mut { u64::MAX });
    let balancer = balancer.modulo(pool.hash_modulo, now_ms, &mut { u64::MAX });
    balancer.bounded(pool.hash_balance_factor)
}

fn explain(
    snapshot: &Snapshot,
    question: &api::Question,
    known: &Known<'_>,
) -> Result<api::Explanation, String> {
    let mut asked = ExplainQuery::parse(question)?;
    let service = find_service(snapshot, asked.vip)?;
    let mut reasons = asks(service, &asked)?;
    let routes = imagined::compile(snapshot, service)?;
    reasons
        .extend(routes.client_address.as_ref().filter(|_| asked.http).and_then(|rule| asked.believe(rule)));
    let imagined = Imagined { asked: &asked, snapshot, known, answering: None };
    if asked.http && routes.normalizes {
        reasons.extend(asked.seen());
    }
    let mut changes = Changes::default();
    let walked = imagined::walk(&imagined, &routes, &mut changes);
    let Some(pool_name) = walked.pool.clone() else {
        reasons.push(format!("a route ends it: {}", walked.ending));
        if let Some(status) = walked.status {
            answered(&imagined, &routes, status, &mut changes, &mut reasons);
        }
        return Ok(nowhere(service, walked, reasons));
    };
    let pool = snapshot.pool(&pool_name).ok_or("the service's pool is missing")?;
    if !service.routes.is_empty() {
        reasons.push(format!("{}: pool {}", walked.ending, pool.name));
    }
    let seen = (known.servers)(pool);
    let index_of = |name: &str| seen.iter().position(|s| *s.server.name == *name);
    let named = changes.server.as_ref().and_then(|name| index_of(name.as_str()));
    if let Some(at) = named {
        reasons.push(format!("a route names {}", seen[at].server.name));
    }
    let kept = kept(pool, &asked, known, &seen, named, &mut reasons);
    let key = hash_key(pool, &asked);
    let mut balancer = balancer_of(pool, &seen);
    let chosen = kept.or_else(|| balancer.pick(key, 0x5555_5555_5555_5555, |i| !seen[i].full));
    let open = is_open(service, pool, kept, chosen);
    if open {
        reasons.push(format!(
            "{}: which of the able servers it is, the packet path alone decides",
            pool.scheduler.as_str()
        ));
    } else {
        if pool.scheduler.has_key() && key == 0 && kept.is_none() {
            reasons.push(format!("nothing named {} in it: any server; one is shown", pool.hash_key));
        }
        reasons.extend(how(pool, kept.is_some(), chosen.is_some()));
    }
    if chosen.is_none() {
        reasons.push(no_server(service, seen.iter().any(|s| s.full)));
    }
    if let Some(changed) = asked.changed(service.normalize, &changes).filter(|_| asked.http) {
        reasons.push(asked.shown(&format!("the server gets {changed}")));
    }
    let waits = seen.iter().any(|s| s.full);
    let status = match (chosen, &service.fallback) {
        (Some(_), _) => Some(200),
        (None, None) if !waits => Some(503),
        (None, Some(Fallback::Page { status, .. })) if !waits => Some(*status),
        _ => None,
    };
    if let Some(status) = status {
        let answering = chosen.map(|index| &*seen[index].server.name);
        answered(&Imagined { answering, ..imagined }, &routes, status, &mut changes, &mut reasons);
    }
    let server = chosen.and_then(|index| pool.real_server(&seen[index].server.name));
    reasons.extend(server.and_then(origin));
    Ok(api::Explanation {
        service: service.name.as_str().into(),
        pool: pool.name.as_str().into(),
        scheduler: pool.scheduler.as_str().into(),
        routes: walked.routes,
        reasons,
        candidates: candidates(&balancer, &seen, chosen, open),
        real_server: chosen.filter(|_| !open).map(|i| seen[i].server.name.to_string()),
    })
}

/// Where a server is from that is not written with its address.
fn origin(server: &RealServer) -> Option<String> {
    let (name, now) = (&server.name, server.address);
    match (&server.host, server.found_in.as_deref()) {
        (Some(host), None) if server.is_placed() => {
            Some(format!("{name} is {}, which is {now} now", host.name))
        }
        (_, Some(Origin::List(list))) => Some(format!("{name} was found in the list {list}")),
        (_, Some(Origin::RunTime)) => {
            Some(format!("{name} was added at run time; the file does not have it"))
        }
        _ => None,
    }
}

/// Where a route ends it, no server is asked for.
fn nowhere(service: &VirtualService, walked: Walked, reasons: Vec<String>) -> api::Explanation {
    api::Explanation {
        service: service.name.as_str().into(),
        pool: String::new(),
        scheduler: String::new(),
        routes: walked.routes,
        reasons,
        candidates: Vec::new(),
        real_server: None,
    }
}

/// Of a server that the packet path may choose.
const POSSIBLE: &str = "possible";

/// Each server of the pool, with what speaks against it.
fn candidates(
    balancer: &Balancer,
    seen: &[ServerState],
    chosen: Option<usize>,
    open: bool,
) -> Vec<api::Candidate> {
    let choices = balancer.explain(chosen, |i| seen[i].full).into_iter();
    let candidates = choices.map(|choice| api::Candidate {
        real_server: seen[choice.server].server.name.to_string(),
        effective_weight: choice.effective_weight,
        current_connections: u64::from(choice.connections),
        verdict: match choice.refusal {
            None | Some(Refusal::NotItsTurn) if open => POSSIBLE.into(),
            refusal => verdict(refusal).into(),
        },
    });
    candidates.collect()
}

/// Whose VIP is asked, if it can be asked so.
fn asks(service: &VirtualService, asked: &ExplainQuery) -> Result<Vec<String>, String> {
    if asked.http && service.mode != Mode::Http {
        return Err(format!(
            "{} is in mode {:?} and reads no requests: ask tcp://{}",
            service.name,
            service.mode.as_str(),
            asked.vip
        ));
    }
    Ok(vec![format!(
        "{} is a VIP of virtual service {}, mode {}",
        asked.vip,
        service.name,
        service.mode.as_str()
    )])
}

/// Which server it is cannot be told: the tables of the packet path have other hashes, and turns of
/// their own.
fn is_open(service: &VirtualService, pool: &Pool, kept: Option<usize>, chosen: Option<usize>) -> bool {
    let by_hash = matches!(
        pool.scheduler,
        Scheduler::SourceHash | Scheduler::DestinationHash | Scheduler::Maglev | Scheduler::RoundRobin
    );
    service.mode.is_layer4() && kept.is_none() && by_hash && chosen.is_some()
}

/// The server that the request is kept on, by a route or by persistence.
fn kept(
    pool: &Pool,
    asked: &ExplainQuery,
    known: &Known<'_>,
    seen: &[ServerState],
    named: Option<usize>,
    reasons: &mut Vec<String>,
) -> Option<usize> {
    let index_of = |name: &str| seen.iter().position(|s| *s.server.name == *name);
    let is_remembered = |index: &usize| {
        let name = &seen[*index].server.name;
        pool.real_servers.iter().any(|s| s.name.as_str() == &**name && s.is_remembered())
    };
    let belongs = named.or_else(|| belongs(pool, asked, known, &index_of, reasons).filter(is_remembered));
    belongs.filter(|i| {
        let server = &seen[*i].server;
        let leaves = pool.moves_drained && server.admin == AdminState::Draining;
        let usable = server.takes_persistent_clients() && !leaves;
        if !usable {
            reasons.push(format!("{} cannot take it: the scheduler decides anew", seen[*i].server.name));
        }
        usable
    })
}

/// What a scheduler by hash hashes; 0 where there is nothing of it.
fn hash_key(pool: &Pool, asked: &ExplainQuery) -> u64 {
    let hash = if pool.hash_modulo { hash_sdbm } else { hash_bytes };
    let hashed = |text: Option<String>| text.map_or(0, |text| hash(text.as_bytes()));
    match pool.scheduler {
        Scheduler::SourceHash => hash_address(asked.client.ip()),
        Scheduler::Maglev => hash_flow(asked.client),
        Scheduler::RdpCookieHash => hash_address(asked.client.ip()),
        Scheduler::UriHash => hash(asked.path.split('?').next().unwrap_or("").as_bytes()),
        Scheduler::HeaderHash => hashed(asked.header(&pool.hash_key)),
        Scheduler::CookieHash => hashed(asked.cookie(&pool.hash_key)),
        Scheduler::QueryHash => hashed(asked.parameter(&pool.hash_key)),
        _ => 0,
    }
}

/// What the routes of answers make of one with this status.
fn answered(
    imagined: &Imagined<'_>,
    routes: &Routes<InWords>,
    status: u16,
    changes: &mut Changes,
    reasons: &mut Vec<String>,
) {
    if routes.answers.is_empty() {
        return;
    }
    let (mut imagined, mut now) = (Imagined { ..*imagined }, status);
    loop {
        reasons.push(match imagined.answering {
            Some(server) => format!("an answer of {server} with status {now} and no headers of note:"),
            None => format!("an answer of this program with status {now}:"),
        });
        // What routes of the request have said is in the head of an own answer already.
        if imagined.answering.is_none() {
            changes.response.clear();
        }
        let (said, last, denied) = imagined::walk_answers(&imagined, routes, now, changes);
        reasons.extend(said);
        now = last;
        if !denied {
            break;
        }
        // In its place comes an error of this program's, which has its routes as well.
        imagined.answering = None;
    }
    if now != status {
        reasons.push(format!("the client gets status {now}"));
    }
}

/// The server that persistence has for the request, with the reasons.
fn belongs(
    pool: &Pool,
    asked: &ExplainQuery,
    known: &Known<'_>,
    index_of: &dyn Fn(&str) -> Option<usize>,
    reasons: &mut Vec<String>,
) -> Option<usize> {
    let by_table = |what: String, key: Key, reasons: &mut Vec<String>| {
        let entry = (known.remembered)(pool, &key);
        reasons.push(match &entry {
            Some(server) => format!("the persistence table has {what} on {server}"),
            None => format!("the persistence table has no entry for {what}: the scheduler decides"),
        });
        entry.and_then(|name| index_of(&name))
    };
    let by_value =
        |value: Option<String>, shown: &str, missing: String, reasons: &mut Vec<String>| match value {
            Some(value) => by_table(format!("{shown}{value}"), Key::text(value.as_bytes()), reasons),
            None => {
                reasons.push(missing);
                None
            }
        };
    match &pool.persistence {
        Persistence::None => {
            reasons.push("no persistence: the scheduler decides".into());
            None
        }
        Persistence::Cookie(rule) => {
            let whole = asked.cookie(&rule.name);
            let divider = if rule.method == CookieMethod::Prefix { '~' } else { '|' };
            let value = whole.as_deref().map(|v| v.split(divider).next().unwrap_or(v));
            reasons.push(match value {
                None => {
                    format!("no cookie {}: the scheduler decides, and the answer sets the cookie", rule.name)
                }
                Some(v) if index_of(v).is_none() => {
                    format!("cookie {}={v} names no server of the pool: the scheduler decides", rule.name)
                }
                Some(v) => format!("cookie {}={v} names a server of the pool", rule.name),
            });
            value.and_then(index_of)
        }
        Persistence::Source(rule) => {
            let network = mask_address(asked.client.ip(), rule.mask, rule.mask6);
            by_table(network.to_string(), Key::address(network), reasons)
        }
        Persistence::Header { name, .. } => {
            let missing = format!("no header {name}: the scheduler decides");
            by_value(asked.header(name), &format!("{name}: "), missing, reasons)
        }
        Persistence::Destination(_) => {
            let vip = asked.vip.ip();
            by_table(vip.to_string(), Key::address(vip), reasons)
        }
        Persistence::Query { name, .. } => {
            let missing = format!("no parameter {name}: the scheduler decides");
            by_value(asked.parameter(name), &format!("{name}="), missing, reasons)
        }
        Persistence::AppCookie { name, .. } => {
            let missing =
                format!("no cookie {name}: the scheduler decides, and the answer's cookie is learned");
            by_value(asked.cookie(name), &format!("cookie {name}="), missing, reasons)
        }
        Persistence::RdpCookie(_) => {
            let source = format!("source:{}", asked.client.ip().to_canonical());
            reasons.push("the RDP cookie would decide; without one it is the client's address".into());
            by_table(source.clone(), Key::text(source.as_bytes()), reasons)
        }
        Persistence::TlsSessionId(_) => {
            reasons.push("the id of the TLS session would decide, which is not known here".into());
            None
        }
    }
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

fn how(pool: &Pool, kept: bool, chosen: bool) -> Option<String> {
    if kept || !chosen {
        return None;
    }
    let key = &pool.hash_key;
    Some(match pool.scheduler {
        Scheduler::RoundRobin => "round-robin: each event loop takes servers in turn by weight; a first client of a fresh loop gets the one shown".into(),
        Scheduler::LeastConnections => "least-connections: the fewest connections for its weight".into(),
        Scheduler::Random => "random: the less loaded of two drawn by weight; the one shown is an example".into(),
        Scheduler::First => "first: the first server in the written order that can take it".into(),
        Scheduler::ShortestExpectedDelay => {
            "shortest-expected-delay: the fewest connections, with this one, for its weight".into()
        }
        Scheduler::NeverQueue => "never-queue: an idle server, else the shortest expected delay".into(),
        Scheduler::DestinationHash => "destination-hash: by the hash of the VIP".into(),
        Scheduler::SourceHash => "source-hash: by the hash of the client's address".into(),
        Scheduler::UriHash => "uri-hash: by the hash of the path".into(),
        Scheduler::HeaderHash => format!("header-hash: by the hash of the header {key}"),
        Scheduler::QueryHash => format!("query-hash: by the hash of the query parameter {key}"),
        Scheduler::CookieHash => format!("cookie-hash: by the hash of the cookie {key}"),
        Scheduler::RdpCookieHash => {
            "rdp-cookie-hash: by the hash of the user an RDP client names, of its address where it names none, which is assumed".into()
        }
        Scheduler::LeastResponseTime => {
            "least-response-time: the shortest answers for its connections, as each event loop has timed them; the one shown has the fewest connections".into()
        }
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
        Some(Refusal::BelowQuorum) => "backups serve: the others are below the quorum",
        Some(Refusal::Full) => "full",
        Some(Refusal::NotItsTurn) => "not its turn",
    }
}
