//! A pool: its real servers, their checks, and what its scheduler hashes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use evenkeel_model::{
    AdminState, HealthCheck, Host, Name, OutlierRule, Pool, PoolTimeouts, Probe, ProxyVersion, RealServer,
    RetryOn, Scheduler, ServerTls, SourceAddress, Vip, Weight,
};

use super::{Builder, persistence, source, tcp_keep_alive};
use evenkeel_rules::Template;

use crate::problem::Problem;
use crate::section::Section;
use crate::{discovery, health, tls};

impl Builder<'_> {
    pub(super) fn pool(&mut self, table: Section<'_>, name: Name) -> Pool {
        let mut health_check = health::read(table, self.problems);
        let mut real_servers = self.real_servers(table, &name, &health_check);
        self.give_port(table, &mut health_check, &mut real_servers);
        let scheduler = table.text("scheduler").and_then(Scheduler::parse).unwrap_or(Scheduler::RoundRobin);
        Pool {
            hash_key: self.hash_key(table, scheduler),
            hash_balance_factor: self.hash_balance_factor(table, scheduler),
            hash_modulo: self.hash_modulo(table, scheduler),
            moves_drained: table.section("persistence").and_then(|p| p.text("drained")) == Some("move"),
            scheduler,
            persistence: persistence(table),
            health_check,
            slow_start: table.duration("slow-start", Duration::ZERO),
            retries: table.number("retries", 3),
            retry_pause: table.duration("retry-pause", Duration::ZERO),
            abort_on_close: table.flag("abort-on-close"),
            compression: None,
            quorum: table.number("quorum", 0),
            one_backup: table.text("backups") == Some("first"),
            retry_on: match table.value("retry-on") {
                Some(_) => {
                    let words = table.list("retry-on").filter_map(|w| RetryOn::parse(w.get_ref().as_str()?));
                    words.fold(RetryOn::NOTHING, RetryOn::and)
                }
                None => RetryOn::NO_ANSWER,
            },
            full_connections: table.number("full-connections", 0),
            max_queue: table.number("max-queue", 10_000),
            timeouts: PoolTimeouts::default(),
            server_tls: tls::of_servers(table),
            send_proxy: proxy_version(table.text("send-proxy")),
            proxy_values: self.proxy_values(table),
            source: table.text("source").map_or(SourceAddress::Own, source),
            source_interface: table.text("source-interface").map(str::to_owned),
            cut_when_down: table.text("on-marked-down") == Some("close"),
            cut_backups: table.text("on-marked-up") == Some("close-backups"),
            tcp_keep_alive: tcp_keep_alive(table, "server-tcp-keep-alive"),
            tcp_user_timeout: table.duration("server-tcp-user-timeout", Duration::ZERO),
            cut_when_removed: table.text("on-removal") == Some("close"),
            outlier: table.section("outlier").map(|outlier| OutlierRule {
                failures: outlier.number("failures", 5),
                pause: outlier.duration("pause", Duration::from_secs(10)),
                max_percent: outlier.number("max-percent", 50),
            }),
            own_connections: table.text("connection-reuse") == Some("client"),
            server_h2: table.text("server-http") == Some("2"),
            real_servers,
            same_address: table.flag("same-address"),
            discover: discovery::discover(table, self.problems),
            name,
        }
    }

    /// Values of the PROXY header.
    fn proxy_values(&mut self, table: Section<'_>) -> Vec<(u8, Template)> {
        const KEY: &str = "send-proxy-values";
        let mut all = Vec::new();
        let mut servers = table.sections("real-server");
        let sent = table.text("send-proxy") == Some("v2")
            || servers.any(|(server, _)| server.text("send-proxy") == Some("v2"));
        if table.value(KEY).is_some() && !sent {
            let place = table.span(KEY).unwrap_or(0..0);
            let problem = Problem::new(place, format!("`{KEY}` needs send-proxy = \"v2\""));
            self.problems.push(problem.help("version 1 of the header has no values"));
        }
        for (kind, value) in table.entries(KEY) {
            let digits = kind.strip_prefix("0x").or(kind.strip_prefix("0X"));
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(kind) => all.extend(table.template_of(value).map(|text| (kind, text))),
                None => {
                    let problem = Problem::new(value.span(), format!("{kind:?} is no kind of a value"));
                    self.problems.push(problem.help("two hexadecimal digits, as 0xE1"));
                }
            }
        }
        all
    }

    fn real_servers(&mut self, table: Section<'_>, name: &Name, check: &HealthCheck) -> Vec<RealServer> {
        let mut real_servers: Vec<RealServer> = Vec::new();
        let mut names: HashMap<Name, ()> = HashMap::new();
        let mut addresses: HashMap<SocketAddr, Name> = HashMap::new();
        let mut cookies: HashMap<String, Name> = HashMap::new();
        for (server, _) in table.sections("real-server") {
            let (Some(server_name), Some((address, host))) = (server.name("name"), server.server("address"))
            else {
                continue;
            };
            if names.insert(server_name.clone(), ()).is_some() {
                let message = format!("{name} has a second real server named {server_name}");
                self.problem(server.span("name"), message, "names are unique in a pool");
                continue;
            }
            let value = server.text("cookie").unwrap_or(server_name.as_str()).to_owned();
            if let Some(before) = cookies.insert(value.clone(), server_name.clone()) {
                let message = format!("{server_name} has the cookie of {before}, {value:?}");
                let place = server.span("cookie").or_else(|| server.span("name"));
                self.problem(place, message, "a cookie's value names one real server of the pool");
                continue;
            }
            // Servers of one name share its addresses.
            if host.is_none()
                && let Some(before) = addresses.insert(address, server_name.clone())
                && !table.flag("same-address")
            {
                let message = format!("{server_name} has the address of {before}, {address}");
                self.problem(
                    server.span("address"),
                    message,
                    "a real server is in a pool once; give it a larger weight, or set same-address = true",
                );
                continue;
            }
            let host = host.map(|host| discovery::host(Some(table), server, host, self.problems));
            let common = tls::of_servers(table);
            real_servers.push(self.real_server(server, server_name, (address, host), common, check));
        }
        real_servers
    }

    /// One real server, whose name and place are known.
    pub(super) fn real_server(
        &mut self,
        server: Section<'_>,
        name: Name,
        (address, host): (SocketAddr, Option<Host>),
        common: Option<ServerTls>,
        check: &HealthCheck,
    ) -> RealServer {
        RealServer {
            speaks: tls::of_server(common, server, host.as_ref()).map(Box::new),
            name,
            address,
            host,
            found_in: None,
            weight: server.integer("weight").and_then(|w| Weight::new(w).ok()).unwrap_or_default(),
            max_connections: server.number("max-connections", 0),
            min_connections: server.number("min-connections", 0),
            backup: server.flag("backup"),
            keeps_clients: server.flag("keeps-clients"),
            non_stick: server.flag("non-stick"),
            admin_state: server.text("admin-state").and_then(AdminState::parse).unwrap_or_default(),
            cookie: server.text("cookie").map(str::to_owned),
            check: server.value("check").is_none() || server.flag("check"),
            health_check: health::of_server(server, check, self.problems),
            source: server.text("source").map(source),
            h2: server.text("server-http").map(|version| version == "2"),
            send_proxy: server.text("send-proxy").map(|version| proxy_version(Some(version))),
        }
    }

    /// A check that opens a connection needs a port: that of the real server, its own, or the first one
    /// of the service that the pool is written in.
    fn give_port(
        &mut self,
        table: Section<'_>,
        health_check: &mut HealthCheck,
        real_servers: &mut [RealServer],
    ) {
        let portless = |s: &&RealServer| {
            s.address.port() == 0 && s.health_check.as_ref().is_none_or(|own| own.port.is_none())
        };
        if let Some(server) = real_servers.iter().find(portless).map(|s| s.name.clone())
            && health_check.port.is_none()
            && health_check.probe != Probe::None
            && health_check.probe != Probe::Ping
        {
            // Of a service's own servers the first port of its first VIP is probed.
            let vip = table.list("vip").next().and_then(|v| Vip::parse_all(v.get_ref().as_str()?).ok());
            health_check.port = vip.and_then(|v| v.first()?.ports.iter().next());
            for own in real_servers.iter_mut().filter_map(|s| s.health_check.as_mut()) {
                own.port = own.port.or(health_check.port);
            }
            if health_check.port.is_none() {
                let message = format!("the real server {server} has no port, so its health check needs one");
                let place = table.span("health-check").or_else(|| table.span("name"));
                self.problem(place, message, "write health-check = { type = \"tcp\", port = 80 }");
            }
        }
    }

    fn hash_key(&mut self, table: Section<'_>, scheduler: Scheduler) -> String {
        let word = scheduler.as_str();
        match (scheduler.has_key(), table.text("hash-key")) {
            (true, Some(key)) => return key.to_owned(),
            (true, None) => {
                let message = format!("scheduler {word:?} needs `hash-key`, the name of what it hashes");
                self.problem(table.span("scheduler"), message, "such as hash-key = \"X-User\"");
            }
            (false, Some(_)) => {
                let message = format!("`hash-key` does nothing with scheduler {word:?}");
                let help = "it needs \"header-hash\", \"query-hash\" or \"cookie-hash\"";
                self.problem(table.span("hash-key"), message, help);
            }
            (false, None) => {}
        }
        String::new()
    }

    fn hash_modulo(&mut self, table: Section<'_>, scheduler: Scheduler) -> bool {
        let modulo = table.text("hash-table") == Some("modulo");
        if modulo && !scheduler.reads_requests() {
            let message = format!("`hash-table` does nothing with scheduler {:?}", scheduler.as_str());
            self.problem(table.span("hash-table"), message, "it needs one that hashes a part of the request");
        }
        modulo && scheduler.reads_requests()
    }

    fn hash_balance_factor(&mut self, table: Section<'_>, scheduler: Scheduler) -> u16 {
        let factor = table.number("hash-balance-factor", 0);
        if (1..=100).contains(&factor) {
            let message = format!("with {factor} percent of its share no server could take everything");
            self.problem(table.span("hash-balance-factor"), message, "0 is no bound; 150 is usual");
        } else if factor != 0 && !scheduler.is_hash() {
            let message =
                format!("`hash-balance-factor` does nothing with scheduler {:?}", scheduler.as_str());
            self.problem(table.span("hash-balance-factor"), message, "it needs one that hashes");
        }
        factor
    }
}

fn proxy_version(word: Option<&str>) -> Option<ProxyVersion> {
    match word {
        Some("v1") => Some(ProxyVersion::V1),
        Some("v2") => Some(ProxyVersion::V2),
        _ => None,
    }
}
