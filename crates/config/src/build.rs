//! Builds the snapshot out of a validated document, and finds what no single key can show:
//! duplicates, dangling names, combinations that mean nothing.

mod compression;
mod peers;
mod pool;
mod run_time;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_model::{
    AdminSettings, Authority, CookieMethod, CookiePersistence, ErrorAnswer, ErrorPage, Fallback, Forwarded,
    KeyedPersistence, Layer4, Limits, ListenAddress, LogFormat, Mode, Name, Normalize, Persistence, Pool,
    PoolTimeouts, PortRange, RealServer, SameSite, Scheduler, Snapshot, SourceAddress, SourcePersistence,
    TcpKeepAlive, Timeouts, Vip, VirtualService,
};
use toml::de::DeTable;

use crate::problem::Problem;
use crate::schema::{POOL_RULES, ROOT};
use crate::section::{Section, network};
use crate::suggest::nearest;
use crate::validate::{self, Findings};
use crate::{acme, alert, discovery, layer4, log, node, pair, route, tls};

pub use run_time::{run_time_server, server_problems, service_problems};

/// Bytes of a head, where nothing is said.
const HEAD_SIZE: u64 = 16 << 10;
/// Ports that one layer-7 service may listen on.
const PORTS_AT_MOST: usize = 4096;

/// Reads a whole configuration, or returns every problem in it, in the order of the text.
pub fn read(text: &str) -> Result<Snapshot, Vec<Problem>> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = syntax
        .iter()
        .map(|e| Problem::new(e.span().unwrap_or(0..0), e.message().replace('\n', ", ")))
        .collect();
    if problems.is_empty() {
        let root = document.get_ref();
        let mut found = Findings::default();
        validate::table(root, 0..0, &ROOT, &mut found);
        problems = found.problems;
        let mut builder = Builder {
            problems: &mut problems,
            bound: HashMap::new(),
            taken: layer4::Taken::default(),
            log_format: LogFormat::default(),
            log: log::Common::default(),
            authorities: Vec::new(),
            state_directory: PathBuf::new(),
        };
        let snapshot = builder.snapshot(Section { table: root, parsed: &found.parsed });
        if problems.is_empty() {
            return Ok(snapshot);
        }
    }
    problems.sort_by_key(|p| p.span.start);
    Err(problems)
}

/// How lines are written; none where the key is not there.
fn line_format(table: Section<'_>, key: &str) -> Option<LogFormat> {
    match table.text(key)? {
        "haproxy" => Some(LogFormat::Haproxy),
        "json" => Some(LogFormat::Json),
        _ => table.line_format(key).map(LogFormat::Line),
    }
}

/// Pools as they are built, and what each name already belongs to.
#[derive(Default)]
struct Pools {
    built: Vec<Arc<Pool>>,
    places: HashMap<Name, String>,
}

/// A server that is told of certificates by one service believes the same fields by another, which has the
/// same servers or others beside it.
fn hide_certificate_fields(services: &mut [VirtualService]) {
    let tells = |service: &VirtualService| {
        service.tls.as_ref().and_then(|tls| tls.client_auth.as_ref()).is_some_and(|auth| auth.headers)
    };
    if services.iter().any(tells) {
        for service in services.iter_mut().filter(|service| service.mode == Mode::Http) {
            service.hides_certificate_fields = true;
        }
    }
}

struct Builder<'p> {
    problems: &'p mut Vec<Problem>,
    /// Every address and port that something listens on already, and what that is.
    bound: HashMap<SocketAddr, String>,
    /// The same of layer 4.
    taken: layer4::Taken,
    /// Of services that say nothing about it.
    log_format: LogFormat,
    log: log::Common,
    authorities: Vec<Authority>,
    state_directory: PathBuf,
}

impl Builder<'_> {
    fn problem(&mut self, span: Option<Range<usize>>, message: String, help: &str) {
        let problem = Problem::new(span.unwrap_or(0..0), message);
        let problem = if help.is_empty() { problem } else { problem.help(help) };
        // A VIP of all addresses is looked at for each IP version; one mistake is told once.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn snapshot(&mut self, root: Section<'_>) -> Snapshot {
        let empty = DeTable::new();
        let section = |key: &str| root.section(key).map(|s| s.table);
        let admin = self.admin(Section { table: section("admin").unwrap_or(&empty), ..root });
        let log = Section { table: section("log").unwrap_or(&empty), ..root };
        self.log_format = line_format(log, "format").unwrap_or_default();
        self.log = log::Common::of(log);
        let state = Section { table: section("state").unwrap_or(&empty), ..root };
        let limits = Section { table: section("limits").unwrap_or(&empty), ..root };

        self.state_directory = state.text("directory").unwrap_or("/var/lib/evenkeel").into();
        self.authorities = acme::authorities(root, self.problems);
        let mut pools = self.shared_pools(root);
        let tables = route::tables(root, self.problems);
        let pending = self.services_with_pools(root, &mut pools);
        let Pools { built: pools, .. } = pools;
        let names = route::Names {
            pools: pools.iter().map(|p| p.name.as_str().to_owned()).collect(),
            tables: tables.iter().map(|t| t.name.as_str().to_owned()).collect(),
            servers: pools
                .iter()
                .flat_map(|p| p.real_servers.iter().map(|s| s.name.as_str().to_owned()))
                .collect(),
        };
        route::check_tables(root.parsed, &names, self.problems);
        let mut services: Vec<VirtualService> = pending
            .into_iter()
            .map(|(table, name, mode, pool)| self.service(table, name, mode, pool, &names))
            .collect();
        hide_certificate_fields(&mut services);
        let services: Vec<Arc<VirtualService>> = services.into_iter().map(Arc::new).collect();
        self.modes(&root, &services, &pools);
        Snapshot {
            admin,
            authorities: std::mem::take(&mut self.authorities),
            state_directory: self.state_directory.clone(),
            log: log::of_process(log, &self.log),
            limits: Limits {
                max_connections: limits.number("max-connections", 40_000),
                workers: limits.number("workers", 0),
                buffer_memory: limits.size("buffer-memory", 256 << 20),
            },
            packet_path: layer4::packet_path(root),
            addresses: layer4::addresses(root, self.problems),
            node: node::node(root, self.problems),
            pair: pair::pair(root, &services, self.problems),
            alerts: alert::alerts(root, self.problems),
            snmp: alert::snmp(root, self.problems),
            resolver: discovery::resolver(root, self.problems),
            graphs_size: root.section("graphs").map_or(64 << 20, |g| g.size("size", 64 << 20)),
            tables,
            services,
            pools,
        }
    }

    /// The pools that several services can share.
    fn shared_pools(&mut self, root: Section<'_>) -> Pools {
        let mut pools = Pools::default();
        for (pool, _) in root.sections("pool") {
            let Some(name) = pool.name("name") else { continue };
            match pools.places.entry(name.clone()) {
                Entry::Occupied(_) => self.problem(
                    pool.span("name"),
                    format!("a second pool is named {name}"),
                    "names of pools are unique",
                ),
                Entry::Vacant(entry) => {
                    entry.insert(format!("pool {name}"));
                    let built = Pool {
                        timeouts: pool_timeouts(pool),
                        compression: compression::read(pool),
                        ..self.pool(pool, name)
                    };
                    pools.built.push(Arc::new(built));
                }
            }
        }
        pools
    }

    /// The services with the names of their pools; pools that are written inside a service are built.
    fn services_with_pools<'a>(
        &mut self,
        root: Section<'a>,
        pools: &mut Pools,
    ) -> Vec<(Section<'a>, Name, Mode, Name)> {
        let mut found = Vec::new();
        let mut names: HashMap<Name, ()> = HashMap::new();
        for (table, span) in root.sections("virtual-service") {
            let Some(name) = table.name("name") else { continue };
            if names.insert(name.clone(), ()).is_some() {
                self.problem(
                    table.span("name"),
                    format!("a second virtual service is named {name}"),
                    "names of virtual services are unique",
                );
                continue;
            }
            let Some(mode) = mode(table) else { continue };
            if let Some(pool) = self.pool_of_service(table, span, &name, pools) {
                found.push((table, name, mode, pool));
            }
        }
        found
    }

    /// The name of the pool that a service names or has in itself.
    fn pool_of_service(
        &mut self,
        table: Section<'_>,
        span: Range<usize>,
        name: &Name,
        pools: &mut Pools,
    ) -> Option<Name> {
        let own_servers = table.value("real-server").is_some() || table.value("discover").is_some();
        match (table.name("pool"), own_servers) {
            (Some(pool), false) => {
                self.reference(table, &pool, &pools.places);
                Some(pool)
            }
            (None, true) => {
                if pools.places.insert(name.clone(), format!("service {name}")).is_some() {
                    self.problem(
                        table.span("name"),
                        format!(
                            "the service {name} has real servers of its own and a pool has the same name"
                        ),
                        "rename one of them",
                    );
                }
                let built = self.pool(table, name.clone());
                pools.built.push(Arc::new(built));
                Some(name.clone())
            }
            (Some(_), true) => {
                self.problem(
                    table.span("pool"),
                    format!("the service {name} names a pool and has real servers of its own"),
                    "keep one of them",
                );
                None
            }
            (None, false) => {
                if table.value("pool").is_none() {
                    self.problem(
                        Some(span),
                        format!("the service {name} has no real servers"),
                        "add [[virtual-service.real-server]] tables, or name a pool with `pool = \"NAME\"`",
                    );
                }
                None
            }
        }
    }

    fn admin(&mut self, admin: Section<'_>) -> AdminSettings {
        let mut plain_listen = Vec::new();
        for item in admin.list("plain-listen") {
            let parsed = item.get_ref().as_str().and_then(|t| ListenAddress::parse(t).ok());
            if let Some(address) = parsed {
                self.bind(address.0, "[admin] plain-listen", item.span());
                plain_listen.push(address);
            }
        }
        let metrics_allow = match admin.value("metrics-allow") {
            Some(_) => admin.list("metrics-allow").filter_map(|v| network(v.get_ref().as_str()?)).collect(),
            None => vec![(Ipv4Addr::new(127, 0, 0, 0).into(), 8), (Ipv6Addr::LOCALHOST.into(), 128)],
        };
        let mut listen = Vec::new();
        for item in admin.list("listen") {
            let parsed = item.get_ref().as_str().and_then(|t| ListenAddress::parse(t).ok());
            if let Some(address) = parsed {
                self.bind(address.0, "[admin] listen", item.span());
                listen.push(address);
            }
        }
        let allow = admin.list("allow").filter_map(|v| network(v.get_ref().as_str()?)).collect();
        AdminSettings {
            listen,
            certificate: admin.text("certificate").map(Into::into),
            only_tls13: admin.text("min-tls") == Some("1.3"),
            allow,
            session_timeout: admin.duration("session-timeout", Duration::from_secs(12 * 3600)),
            plain_listen,
            socket: admin.text("socket").unwrap_or("/run/evenkeel/admin.sock").into(),
            metrics_allow,
        }
    }

    fn bind(&mut self, address: SocketAddr, owner: &str, span: Range<usize>) {
        let port = PortRange { first: address.port(), last: address.port() };
        if let Some((_, other)) = self.taken.owner(address.ip(), false, port) {
            let message = format!("{address} is already taken by {other}");
            self.problem(Some(span), message, "an address and port belong to one service");
            return;
        }
        match self.bound.entry(address) {
            Entry::Vacant(entry) => {
                entry.insert(owner.to_owned());
            }
            Entry::Occupied(entry) => {
                let message = format!("{address} is already taken by {}", entry.get());
                self.problem(Some(span), message, "an address and port belong to one listener");
            }
        }
    }

    fn reference(&mut self, table: Section<'_>, pool: &Name, known: &HashMap<Name, String>) {
        if !known.contains_key(pool) {
            let near = nearest(pool.as_str(), known.keys().map(Name::as_str));
            let help = match near {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("add [[pool]] with name = \"{pool}\""),
            };
            self.problem(table.span("pool"), format!("there is no pool named {pool}"), &help);
        }
        for key in POOL_RULES.iter().map(|k| k.name).filter(|k| table.value(k).is_some()) {
            self.problem(
                table.span(key),
                format!("`{key}` belongs to the pool {pool}, which this service refers to"),
                "write it in [[pool]]; it then holds for every service of that pool",
            );
        }
    }

    fn service(
        &mut self,
        table: Section<'_>,
        name: Name,
        mode: Mode,
        pool: Name,
        names: &route::Names,
    ) -> VirtualService {
        let layer4 = layer4::of_service(table, mode, self.problems);
        let vips = self.vips(table, &name, mode, layer4.as_ref());
        let forwarded = |word: &str| table.list("forwarded").any(|v| v.get_ref().as_str() == Some(word));
        let forwarded = Forwarded {
            x_forwarded_for: forwarded("x-forwarded-for"),
            x_forwarded_proto: forwarded("x-forwarded-proto"),
            x_forwarded_host: forwarded("x-forwarded-host"),
            x_forwarded_port: forwarded("x-forwarded-port"),
            forwarded: forwarded("forwarded"),
            x_real_ip: forwarded("x-real-ip"),
        };
        if mode == Mode::Tcp && forwarded != Forwarded::default() {
            self.problem(
                table.span("forwarded"),
                "`forwarded` adds headers, which mode \"tcp\" does not read".into(),
                "use mode = \"http\", or remove it",
            );
        }
        let normalize = match table.text("normalize") {
            Some("off") => Normalize::Off,
            Some("forward") => Normalize::Forward,
            _ => Normalize::Match,
        };
        let mut routes = route::read(table, mode, names, self.problems);
        let mut answer_routes = route::read_answers(table, mode, names, self.problems);
        if normalize != Normalize::Off {
            let all = routes.iter_mut().chain(answer_routes.iter_mut().map(|answer| &mut answer.route));
            all.flat_map(|route| &mut route.when).for_each(evenkeel_rules::Expression::normalize);
        }
        let mut tls = tls::of_service(table, mode, self.problems);
        let managed =
            acme::managed(table, &name, &routes, &self.state_directory, &mut self.authorities, self.problems);
        tls.iter_mut().for_each(|tls| tls.managed.clone_from(&managed));
        VirtualService {
            fallback: self.fallback(table, mode),
            proxy_protocol_from: table
                .list("proxy-protocol-from")
                .filter_map(|v| network(v.get_ref().as_str()?))
                .collect(),
            client_address: self.client_address(table, mode),
            max_body: table.size("max-body", 0),
            head_size: table.size("head-size", HEAD_SIZE) as u32,
            normalize,
            tcp_keep_alive: tcp_keep_alive(table, "tcp-keep-alive"),
            tcp_user_timeout: table.duration("tcp-user-timeout", Duration::ZERO),
            tcp_mss: table.number("tcp-mss", 0),
            unclear_paths: table.text("unclear-paths") == Some("pass"),
            wide_requests: table.text("request-heads").is_some_and(|word| word != "strict"),
            loose_requests: table.text("request-heads") == Some("loose"),
            request_trailers: table.flag("request-trailers"),
            close_after_answer: table.flag("close-after-answer"),
            hides_certificate_fields: false,
            wait_for_body: table.flag("wait-for-body"),
            compression: self.compression_of_service(table, mode),
            error_pages: self.error_pages(table),
            error_answers: self.error_answers(table),
            log_format: self.format_of_lines(table, mode),
            log: log::of_service(table, &self.log),
            log_lines: log::lines(table),
            routes,
            answer_routes,
            timeouts: timeouts(table, mode),
            max_connections: table.number("max-connections", 0),
            tls,
            layer4,
            name,
            vips,
            mode,
            pool,
            forwarded,
        }
    }

    /// The addresses and ports of a service, which no other one may have.
    fn vips(&mut self, table: Section<'_>, name: &Name, mode: Mode, layer4: Option<&Layer4>) -> Vec<Vip> {
        let owner = format!("virtual service {name}");
        let mut vips: Vec<Vip> = Vec::new();
        let each = table.list("vip").flat_map(|item| {
            let all = item.get_ref().as_str().and_then(|t| Vip::parse_all(t).ok()).unwrap_or_default();
            all.into_iter().map(move |vip| (item, vip))
        });
        for (item, vip) in each {
            if let Some(layer4) = layer4 {
                if vip.address.is_unspecified() {
                    let message = format!("mode {:?} forwards packets of single addresses", mode.as_str());
                    self.problem(Some(item.span()), message, "name the address, such as \"192.0.2.10:80\"");
                    break;
                }
                let proxied = self
                    .bound
                    .iter()
                    .find(|(a, _)| layer4.tcp && a.ip() == vip.address && vip.ports.contains(a.port()));
                let taken = match proxied {
                    Some((address, other)) => Err((*address, other.clone())),
                    None => self.taken.take(&vip, layer4, &owner),
                };
                if let Err((address, other)) = taken {
                    let message = format!("{address} is already taken by {other}");
                    self.problem(Some(item.span()), message, "an address and port belong to one service");
                }
                vips.push(vip);
                continue;
            }
            if vip.ports.is_all() {
                let message = format!("a service of mode {:?} cannot have all ports (`*`)", mode.as_str());
                self.problem(Some(item.span()), message, "name the ports, such as 80,443 or 6000-6100");
                continue;
            }
            let total = vip.ports.count() + vips.iter().map(|v| v.ports.count()).sum::<usize>();
            if total > PORTS_AT_MOST {
                let message = format!("the service {name} listens on {total} ports");
                let help = format!("at most {PORTS_AT_MOST} in mode {:?}", mode.as_str());
                self.problem(Some(item.span()), message, &help);
                continue;
            }
            for address in vip.socket_addresses() {
                self.bind(address, &owner, item.span());
            }
            vips.push(vip);
        }
        if vips.is_empty() && table.list("vip").next().is_none() {
            self.problem(table.span("vip"), format!("the service {name} has no VIP"), "");
        }
        vips
    }

    /// Its own, or everybody's.
    fn format_of_lines(&mut self, table: Section<'_>, mode: Mode) -> LogFormat {
        let Some(format) = line_format(table, "log-format") else { return self.log_format.clone() };
        if let LogFormat::Line(line) = &format
            && mode != Mode::Http
            && line.requests().iter().any(evenkeel_rules::Template::needs_http)
        {
            self.problem(
                table.span("log-format"),
                format!("`log-format` asks about requests, which mode {:?} does not read", mode.as_str()),
                "leave such variables out, or use mode = \"http\"",
            );
        }
        format
    }

    fn error_pages(&mut self, table: Section<'_>) -> Vec<ErrorPage> {
        let mut pages = Vec::new();
        for (status, file) in table.entries("error-pages") {
            match (status.parse(), file.get_ref().as_str()) {
                (Ok(status @ 400..=599), Some(path)) => pages.push(ErrorPage { status, file: path.into() }),
                _ => self.problem(
                    Some(file.span()),
                    format!("`error-pages`: {status} is no status from 400 to 599"),
                    "such as { 503 = \"/etc/evenkeel/503.html\" }",
                ),
            }
        }
        pages
    }

    fn error_answers(&mut self, table: Section<'_>) -> Vec<ErrorAnswer> {
        let mut answers = Vec::new();
        for (of, value) in table.entries("error-answers") {
            let Some(inner) = value.get_ref().as_table() else { continue };
            let answer = Section { table: inner, ..table };
            let Some(of) = of.parse().ok().filter(|of| (400..=599).contains(of)) else {
                self.problem(
                    Some(value.span()),
                    format!("`error-answers`: {of} is no status from 400 to 599"),
                    "such as { 503 = { body = \"later\" } }",
                );
                continue;
            };
            let text = |key: &str, default: &str| answer.text(key).unwrap_or(default).to_owned();
            let mut headers = Vec::new();
            for (name, value) in answer.entries("headers") {
                let token = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
                let framing = ["content-length", "transfer-encoding", "connection"];
                if name.is_empty()
                    || !name.bytes().all(token)
                    || framing.iter().any(|own| name.eq_ignore_ascii_case(own))
                {
                    let why = format!("`error-answers`: {name:?} is no header of an answer");
                    self.problem(Some(value.span()), why, "such as { Location = \"/sorry\" }");
                    continue;
                }
                headers.extend(value.get_ref().as_str().map(|text| (name.to_owned(), text.to_owned())));
            }
            answers.push(ErrorAnswer {
                of,
                status: answer.number("status", of),
                content_type: text("content-type", "text/html; charset=utf-8"),
                headers,
                body: text("body", ""),
            });
        }
        answers
    }

    fn fallback(&mut self, table: Section<'_>, mode: Mode) -> Option<Fallback> {
        let fallback = table.section("fallback")?;
        let place = table.span("fallback");
        let page = ["status", "body", "content-type"].iter().any(|k| fallback.value(k).is_some());
        if let Some(server) = fallback.listen("server") {
            if page {
                self.problem(place, "`fallback` is a page and a server at once".into(), "keep one of them");
            }
            return Some(Fallback::Server(server));
        }
        if mode != Mode::Http {
            self.problem(
                place,
                "a fallback page needs mode \"http\"".into(),
                "in other modes use fallback = { server = \"ADDRESS:PORT\" }",
            );
        }
        let body = fallback.text("body").unwrap_or("Service unavailable.\n").to_owned();
        let html = body.trim_start().starts_with('<');
        let default_type = if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
        Some(Fallback::Page {
            status: fallback.number("status", 503),
            content_type: fallback.text("content-type").unwrap_or(default_type).to_owned(),
            body,
        })
    }

    /// What a pool's rules need of the services that use it, and loops.
    fn modes(&mut self, root: &Section<'_>, services: &[Arc<VirtualService>], pools: &[Arc<Pool>]) {
        let by_name: HashMap<&Name, &Arc<Pool>> = pools.iter().map(|p| (&p.name, p)).collect();
        let tables: HashMap<&str, Section<'_>> =
            root.sections("virtual-service").filter_map(|(t, _)| Some((t.text("name")?, t))).collect();
        for service in services {
            let Some(pool) = by_name.get(&service.pool) else { continue };
            let Some(table) = tables.get(service.name.as_str()) else { continue };
            if service.mode.is_layer4() {
                layer4::check_pool(*table, service, pool, self.problems);
                continue;
            }
            if pool.health_check.through_vip {
                let message = format!("`through-vip` does nothing in mode {:?}", service.mode.as_str());
                let place = table.span("health-check").or_else(|| table.span("pool"));
                self.problem(place, message, "it needs mode \"dr\" or \"tun\"");
            }
            if pool.scheduler.is_of_layer4() {
                let message = format!(
                    "scheduler {:?} does nothing in mode {:?}",
                    pool.scheduler.as_str(),
                    service.mode.as_str()
                );
                let place = table.span("scheduler").or_else(|| table.span("pool"));
                self.problem(place, message, "it needs mode \"dr\", \"nat\", \"tun\" or \"snat\"");
            }
            if service.mode == Mode::Http && pool.scheduler == Scheduler::RdpCookieHash {
                let place = table.span("scheduler").or_else(|| table.span("pool"));
                self.problem(place, "scheduler \"rdp-cookie-hash\" needs mode \"tcp\"".to_owned(), "");
            }
            if service.mode == Mode::Http
                && matches!(pool.persistence, Persistence::RdpCookie(_) | Persistence::TlsSessionId(_))
            {
                let message = format!("persistence by {} needs mode \"tcp\"", pool.persistence.as_str());
                let place = table.span("persistence").or_else(|| table.span("pool"));
                self.problem(place, message, "in mode \"http\" use { type = \"cookie\" }");
            }
            if service.mode == Mode::Tcp && pool.real_servers.iter().any(|s| s.speaks_h2(pool)) {
                let place = table.span("server-http").or_else(|| table.span("pool"));
                self.problem(place, "`server-http` needs mode \"http\"".to_owned(), "");
            }
            if service.mode == Mode::Tcp && pool.names_by_host() {
                let place = table.span("server-tls").or_else(|| table.span("pool"));
                let help = "\"{sni}\" is what the client asked for over TLS";
                self.problem(place, "`sni = \"{host}\"` needs mode \"http\"".to_owned(), help);
            }
            if service.mode == Mode::Tcp {
                let place = |key: &str| table.span(key).or_else(|| table.span("pool"));
                if matches!(
                    pool.persistence,
                    Persistence::Cookie(_)
                        | Persistence::Header { .. }
                        | Persistence::Query { .. }
                        | Persistence::AppCookie { .. }
                ) {
                    let message = format!("persistence by {} needs mode \"http\"", pool.persistence.as_str());
                    self.problem(place("persistence"), message, "in mode \"tcp\" use { type = \"source\" }");
                }
                if pool.scheduler.reads_requests() {
                    let message = format!("scheduler {:?} needs mode \"http\"", pool.scheduler.as_str());
                    self.problem(
                        place("scheduler"),
                        message,
                        "in mode \"tcp\" use \"source-hash\" or \"maglev\"",
                    );
                }
            }
            if let Some(server) = pool.real_servers.iter().find(|s| is_looped(service, s)) {
                let message = format!(
                    "the real server {} of {} is the service's own VIP {}",
                    server.name, pool.name, server.address
                );
                self.problem(
                    table.span("vip"),
                    message,
                    "traffic would go round in a loop; use the server's own address",
                );
            }
        }
    }
}

/// Whether a real server of a service of layer 7 is the service itself.
fn is_looped(service: &VirtualService, server: &RealServer) -> bool {
    let is_own = |v: &Vip| v.address == server.address.ip() && v.ports.contains(server.address.port());
    server.host.is_none() && service.vips.iter().any(is_own)
}

fn mode(table: Section<'_>) -> Option<Mode> {
    match table.text("mode")? {
        "http" => Some(Mode::Http),
        "tcp" => Some(Mode::Tcp),
        "dr" => Some(Mode::Dr),
        "nat" => Some(Mode::Nat),
        "tun" => Some(Mode::Tun),
        "snat" => Some(Mode::Snat),
        _ => None,
    }
}

fn source(text: &str) -> SourceAddress {
    match text {
        "client" => SourceAddress::Client,
        _ => text.parse().map_or(SourceAddress::Own, SourceAddress::Fixed),
    }
}

fn tcp_keep_alive(table: Section<'_>, key: &str) -> Option<TcpKeepAlive> {
    table.section(key).map(|section| TcpKeepAlive {
        idle: section.duration("idle", Duration::from_secs(7200)),
        interval: section.duration("interval", Duration::from_secs(75)),
        probes: section.number("probes", 9),
    })
}

fn timeouts(table: Section<'_>, mode: Mode) -> Timeouts {
    let empty = DeTable::new();
    let section = table.section("timeouts").unwrap_or(Section { table: &empty, ..table });
    let seconds = |key, default| section.duration(key, Duration::from_secs(default));
    let tunnel = seconds("tunnel", 3600);
    let relays = mode == Mode::Tcp && section.value("tunnel").is_some();
    Timeouts {
        connect: seconds("connect", 4),
        client: seconds("client", 42),
        server: seconds("server", 43),
        queue: seconds("queue", 10),
        request: seconds("request", 10),
        keep_alive: seconds("keep-alive", 60),
        tunnel,
        relay: relays.then_some(tunnel),
    }
}

/// Those of a pool that is written by itself; of one inside a service the service's hold.
fn pool_timeouts(table: Section<'_>) -> PoolTimeouts {
    let Some(section) = table.section("timeouts") else { return PoolTimeouts::default() };
    let own = |key| section.value(key).map(|_| section.duration(key, Duration::ZERO));
    PoolTimeouts {
        connect: own("connect"),
        server: own("server"),
        queue: own("queue"),
        tunnel: own("tunnel"),
    }
}

fn persistence(table: Section<'_>) -> Persistence {
    let Some(section) = table.section("persistence") else { return Persistence::None };
    match section.text("type") {
        Some("source") => Persistence::Source(SourcePersistence {
            mask: section.number("mask", 32),
            mask6: section.number("mask6", 128),
            timeout: section.duration("timeout", Duration::from_secs(300)),
            size: section.number("size", 65_536),
        }),
        Some("cookie") => Persistence::Cookie(CookiePersistence {
            name: section.text("name").unwrap_or("SERVERID").to_owned(),
            method: match section.text("method") {
                Some("rewrite") => CookieMethod::Rewrite,
                Some("prefix") => CookieMethod::Prefix,
                Some("passive") => CookieMethod::Passive,
                _ => CookieMethod::Insert,
            },
            postonly: section.flag("postonly"),
            max_idle: section.value("max-idle").map(|_| section.duration("max-idle", Duration::ZERO)),
            max_life: section.value("max-life").map(|_| section.duration("max-life", Duration::ZERO)),
            indirect: section.flag("indirect"),
            nocache: section.flag("nocache"),
            httponly: section.flag("httponly"),
            secure: section.flag("secure"),
            samesite: match section.text("samesite") {
                Some("strict") => Some(SameSite::Strict),
                Some("lax") => Some(SameSite::Lax),
                Some("none") => Some(SameSite::None),
                _ => None,
            },
            domains: section.texts("domains"),
        }),
        Some("rdp-cookie") => Persistence::RdpCookie(keyed(section)),
        Some("tls-session-id") => Persistence::TlsSessionId(keyed(section)),
        Some("header") => Persistence::Header {
            name: section.text("name").unwrap_or_default().to_owned(),
            table: keyed(section),
        },
        Some("query") => Persistence::Query {
            name: section.text("name").unwrap_or_default().to_owned(),
            table: keyed(section),
        },
        Some("destination") => Persistence::Destination(keyed(section)),
        Some("app-cookie") => Persistence::AppCookie {
            name: section.text("name").unwrap_or_default().to_owned(),
            table: keyed(section),
        },
        _ => Persistence::None,
    }
}

fn keyed(section: Section<'_>) -> KeyedPersistence {
    KeyedPersistence {
        expire: section.duration("expire", Duration::from_secs(3600)),
        size: section.number("size", 65_536),
    }
}
