//! `listen`, `frontend` and `backend` as services and pools.

use std::collections::{BTreeMap, BTreeSet};

use super::answers;
use super::bind::{bind_options, both_families, gathered, vip};
use super::condition::Acls;
use super::options::DefaultServers;
use super::replies::Page;
use super::{keywords, places, run, server};
use crate::draft::{Draft, Line, Pool, Service, Table, Value, status};
use crate::words::{duration, name, split_port, with_port};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    Listen,
    Frontend,
    Backend,
}

/// A line of a section.
#[derive(Clone, Debug)]
pub struct Word {
    pub line: usize,
    pub words: Vec<String>,
    pub comments: Vec<String>,
    /// The line as its file has it, which messages quote.
    pub written: String,
}

#[derive(Clone)]
pub struct Proxy {
    pub kind: SectionKind,
    pub name: String,
    pub file: String,
    pub line: usize,
    pub comments: Vec<String>,
    /// The name of its `defaults`, where it says one.
    pub defaults: Option<String>,
    /// Of its `defaults` first.
    pub words: Vec<Word>,
    /// How many of them are the defaults'.
    pub inherited: usize,
}

impl Word {
    pub fn new(line: usize, words: Vec<String>, comments: Vec<String>) -> Word {
        Word { line, written: words.join(" "), words, comments }
    }

    /// Something that is done with each request, connection or answer.
    pub fn is_rule(&self) -> bool {
        ["http-request", "http-response", "http-after-response", "tcp-request", "tcp-response", "use-server"]
            .contains(&self.words[0].as_str())
    }

    /// The rules among which it is taken, in their order.
    pub fn stage(&self) -> &str {
        match self.words[0].as_str() {
            "tcp-request" => self.arg(1),
            "http-request" => "http-request",
            _ => "",
        }
    }

    /// It only ends the rules of its stage.
    pub fn allows(&self) -> bool {
        let what = self.words.iter().take(3).map(String::as_str).collect::<Vec<_>>();
        matches!(what.as_slice(), ["http-request", "allow", ..] | ["tcp-request", _, "accept"])
    }

    /// What stands behind its `if` or `unless`.
    pub fn condition(&self, acls: &Acls) -> Result<String, String> {
        let at = self.words.iter().position(|w| w == "if" || w == "unless");
        acls.condition(at.map_or(&[][..], |at| &self.words[at..]))
    }

    /// A word of it; empty where there is none.
    pub fn arg(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }
}

impl Proxy {
    pub fn new(
        kind: SectionKind,
        name: &str,
        line: usize,
        comments: Vec<String>,
        defaults: Vec<Word>,
    ) -> Proxy {
        let inherited = defaults.len();
        Proxy {
            kind,
            name: name.into(),
            file: String::new(),
            line,
            comments,
            defaults: None,
            words: defaults,
            inherited,
        }
    }

    pub fn all(&self, keyword: &str) -> impl Iterator<Item = &Word> {
        self.words.iter().filter(move |w| w.words[0] == keyword)
    }

    /// The last word on something.
    pub fn last(&self, keyword: &str) -> Option<&Word> {
        self.words.iter().rfind(|w| w.words[0] == keyword)
    }

    pub fn option(&self, wanted: &str) -> Option<&Word> {
        let on = |w: &&Word| w.words[0] == "option" && w.words.get(1).is_some_and(|o| o == wanted);
        let found = self.words.iter().rposition(|w| on(&w));
        let off = self.words.iter().rposition(|w| {
            w.words[0] == "no"
                && w.words.get(1).is_some_and(|o| o == "option")
                && w.words.get(2).is_some_and(|o| o == wanted)
        });
        found.filter(|at| off.is_none_or(|off| off < *at)).map(|at| &self.words[at])
    }

    /// `option httpclose`, which the other ways of HAProxy undo that stand behind it.
    fn closes_connections(&self) -> bool {
        const WAYS: [&str; 5] =
            ["httpclose", "forceclose", "http-server-close", "http-keep-alive", "http-tunnel"];
        let chosen = self.all("option").filter(|word| WAYS.contains(&word.arg(1))).last();
        let way = chosen.map_or("", |word| word.arg(1));
        ["httpclose", "forceclose"].contains(&way) && self.option(way).is_some()
    }

    /// TCP keep-alive on one side, `cli` or `srv`: the option, with its times and number.
    fn tcp_keep_alive(&self, side: &str) -> Option<Table> {
        self.option("tcpka").or_else(|| self.option(&format!("{side}tcpka")))?;
        let word = |end: &str| self.last(&format!("{side}tcpka-{end}")).map(|word| word.arg(1));
        let mut asked = Table::default();
        for (end, key) in [("idle", "idle"), ("intvl", "interval")] {
            if let Some(time) = word(end).and_then(|time| duration(time, "s")) {
                asked.text(key, &time);
            }
        }
        if let Some(count) = word("cnt") {
            asked.number("probes", count);
        }
        Some(asked)
    }

    /// What cannot be right, whatever it becomes.
    pub fn check(&self, draft: &mut Draft) {
        let (name, section) = (&self.name, self.section());
        for word in &self.words[self.inherited..] {
            let keyword = word.words[0].as_str();
            let plain = if keyword == "no" || keyword == "default" { word.arg(1) } else { keyword };
            if !keywords::is_of_sections(plain) {
                draft.wrong(
                    word.line,
                    keyword,
                    format!("unknown keyword '{keyword}' in '{section}' section"),
                );
            }
            if keyword == "mode" && !["http", "tcp", "health", "log"].contains(&word.arg(1)) {
                draft.wrong(word.line, "mode", format!("unknown proxy mode '{}'", word.arg(1)));
            }
            if self.kind == SectionKind::Backend && keyword == "bind" {
                draft.wrong(word.line, "bind", format!("'bind' cannot be used in a backend ('{name}')"));
            }
            if self.kind == SectionKind::Frontend && keyword == "server" {
                draft.wrong(word.line, "server", format!("'server' cannot be used in a frontend ('{name}')"));
            }
        }
    }

    pub fn section(&self) -> &'static str {
        match self.kind {
            SectionKind::Listen => "listen",
            SectionKind::Frontend => "frontend",
            SectionKind::Backend => "backend",
        }
    }

    /// What those need to know who name it as HAProxy does.
    pub fn facts(&self, at: usize, unverified: bool) -> run::Proxy {
        let defaults = DefaultServers::of(self);
        let servers = self.all("server").filter(|w| w.words.len() > 2).map(|word| {
            let (options, written) = (defaults.options_of(word), defaults.written_of(word));
            let after = |key: &str| {
                let at = options.iter().rposition(|w| *w == key)?;
                options.get(at + 1)?.parse::<u32>().ok()
            };
            run::Server {
                name: word.arg(1).into(),
                own: name(word.arg(1)),
                checked: options.iter().any(|w| ["check", "track"].contains(&w.as_str())),
                agent: options.iter().any(|w| *w == "agent-check"),
                resolved: options.iter().any(|w| *w == "resolvers"),
                rise: after("rise").unwrap_or(2).max(1),
                fall: after("fall").unwrap_or(3).max(1),
                tls: written.iter().rev().find_map(|w| tls_word(w)).unwrap_or(0),
                tls_options: tls_options(&written, unverified),
            }
        });
        run::Proxy {
            name: self.name.clone(),
            kind: match self.kind {
                SectionKind::Listen => run::ProxyKind::Listen,
                SectionKind::Frontend => run::ProxyKind::Frontend,
                SectionKind::Backend => run::ProxyKind::Backend,
            },
            // The first one is 2, as HAProxy counts.
            id: self.last("id").and_then(|w| w.arg(1).parse().ok()).unwrap_or(at as u32 + 2),
            http: self.is_http(),
            services: Vec::new(),
            pool: None,
            servers: servers.collect(),
            dynamic: self.is_dynamic(),
            disabled: self.is_disabled(),
            logs: Vec::new(),
            log_tag: String::new(),
            logs_checks: self.option("log-health-checks").is_some(),
            check_steps: super::checks::steps::told(self),
        }
    }

    /// Whether it has servers, or may get some by commands while it runs.
    pub fn takes_servers(&self, runs: bool) -> bool {
        const PAGES: [&str; 4] = ["errorfile", "errorfiles", "http-error", "stick-table"];
        let plain = !self.words.iter().any(|word| PAGES.contains(&word.words[0].as_str()));
        self.has_servers() || runs && plain && self.has_a_place_for_servers() && self.is_dynamic()
    }

    fn has_a_place_for_servers(&self) -> bool {
        self.kind == SectionKind::Backend || self.kind == SectionKind::Listen && !self.has_backends()
    }

    /// Whether its balancing knows servers that come and go.
    pub fn is_dynamic(&self) -> bool {
        let algorithm = self.last("balance").map_or("roundrobin", |word| word.arg(1));
        let is_consistent = || self.last("hash-type").is_some_and(|word| word.arg(1) == "consistent");
        match algorithm.split('(').next().unwrap_or_default() {
            "roundrobin" | "leastconn" | "first" | "random" => true,
            "static-rr" => false,
            _ => is_consistent(),
        }
    }

    pub fn has_servers(&self) -> bool {
        ["server", "server-template", "dispatch"].iter().any(|keyword| self.all(keyword).next().is_some())
    }

    fn has_backends(&self) -> bool {
        self.all("use_backend").chain(self.all("default_backend")).next().is_some()
    }

    fn is_disabled(&self) -> bool {
        let found = self.words.iter().rfind(|w| ["disabled", "enabled"].contains(&w.words[0].as_str()));
        found.is_some_and(|w| w.words[0] == "disabled")
    }

    pub fn is_http(&self) -> bool {
        // HAProxy's mode is tcp unless it is told otherwise.
        self.last("mode").and_then(|w| w.words.get(1)).is_some_and(|m| m == "http")
    }

    /// A timeout by its new or its old name.
    pub fn time(&self, which: &str) -> Option<String> {
        let old = match which {
            "connect" => "contimeout",
            "client" => "clitimeout",
            "server" => "srvtimeout",
            _ => "",
        };
        let found = self.words.iter().rfind(|w| {
            w.words[0] == old && !old.is_empty()
                || w.words[0] == "timeout" && w.words.get(1).is_some_and(|t| t == which)
        })?;
        let longest = |time: String| {
            // Zero is for ever there, a week the longest here.
            if time.starts_with("0") { "7d".into() } else { time }
        };
        duration(found.words.last()?, "ms").map(longest)
    }

    /// Servers and all that belongs to them.
    pub fn pool(&self, draft: &mut Draft) -> Pool {
        let mut pool = Pool { name: name(&self.name), ..Pool::default() };
        pool.table.comments.clone_from(&self.comments);
        self.balance(&mut pool, draft);
        self.persistence(&mut pool, draft);
        if let Some(word) = self.last("retries").and_then(|w| w.words.get(1)) {
            pool.table.number("retries", word);
        }
        self.retry_on(&mut pool, draft);
        if self.option("abortonclose").is_some() {
            pool.table.set("abort-on-close", true);
        }
        let defaults = DefaultServers::of(self);
        let backups =
            self.all("server").filter(|word| defaults.options_of(word).iter().any(|w| w == "backup"));
        if backups.count() > 1 && self.option("allbackups").is_none() {
            pool.table.text("backups", "first");
        }
        if draft.run.is_some() {
            pool.table.text("retry-pause", "1s");
        }
        if let Some(word) = self.last("source").filter(|w| w.words.len() > 2 || !server::is_any(w.arg(1))) {
            let more = word.words.get(2..).unwrap_or_default();
            server::source(word.arg(1), more, &mut pool.table, word.line, draft);
        }
        if let Some(asked) = self.tcp_keep_alive("srv") {
            pool.table.set("server-tcp-keep-alive", asked);
        }
        let never = self.last("http-reuse").is_some_and(|w| w.arg(1) == "never");
        let never = never || self.kind != SectionKind::Frontend && self.closes_connections();
        if self.is_http() && (never || self.last("dispatch").is_some()) {
            pool.table.text("connection-reuse", "client");
        }
        let ports: usize = self.all("bind").flat_map(|w| w.arg(1).split(',')).count();
        let ranges = self.all("bind").any(|w| split_port(w.arg(1)).1.is_some_and(|p| p.contains('-')));
        server::servers(self, ports > 1 || ranges || self.kind == SectionKind::Backend, &mut pool, draft);
        places::grow(self, &mut pool, draft);
        if self.kind == SectionKind::Backend {
            self.compression(&mut pool.table, draft);
            self.what_is_left(draft);
        }
        pool
    }

    /// What requests are tried again for. Those that may not be sent twice never are.
    fn retry_on(&self, pool: &mut Pool, draft: &mut Draft) {
        let Some(word) = self.last("retry-on") else {
            if draft.run.is_some() && self.is_http() {
                pool.table.texts::<&str>("retry-on", &[]);
            }
            return;
        };
        let mut causes: Vec<&str> = Vec::new();
        for cause in &word.words[1..] {
            match cause.as_str() {
                "none" => pool.table.set("retries", 0u8),
                "conn-failure" => {}
                "empty-response" => causes.push("no-answer"),
                "junk-response" => causes.push("bad-answer"),
                "response-timeout" => causes.push("timeout"),
                "all-retryable-errors" => {
                    causes.extend(["no-answer", "bad-answer", "timeout", "500", "502", "503", "504"]);
                }
                "401" | "403" | "404" | "408" | "425" | "429" | "500" | "501" | "502" | "503" | "504" => {
                    causes.push(cause);
                }
                other => draft.left(word.line, &format!("retry-on {other}"), "not carried over"),
            }
        }
        let note = "only requests that may be sent twice (not POST)";
        pool.table.set_with("retry-on", Value::texts(&causes), note);
    }

    fn balance(&self, pool: &mut Pool, draft: &mut Draft) {
        let Some(word) = self.last("balance") else { return };
        let algorithm = word.words.get(1).map_or("roundrobin", String::as_str);
        let second = word.words.get(2).map_or("", String::as_str);
        let named = if algorithm.contains('(') { algorithm } else { second };
        let scheduler = match algorithm.split('(').next().unwrap_or("") {
            "rdp-cookie" if self.is_http() => {
                let why = "RDP cookies are of mode tcp: round robin is used instead";
                draft.left(word.line, "balance rdp-cookie", why);
                "round-robin"
            }
            "roundrobin" | "static-rr" => "round-robin",
            "leastconn" => "least-connections",
            "source" => "source-hash",
            "uri" => "uri-hash",
            "random" => "random",
            "first" => "first",
            "hdr" => "header-hash",
            "url_param" => "query-hash",
            "rdp-cookie" => "rdp-cookie-hash",
            "hash" => match named.split('(').next().unwrap_or("") {
                "src" => "source-hash",
                "path" | "pathq" | "url" => "uri-hash",
                "hdr" | "req.hdr" => "header-hash",
                "cook" | "req.cook" => "cookie-hash",
                "url_param" | "urlp" => "query-hash",
                other => {
                    draft.left(word.line, &format!("balance hash {other}"), "round robin is used instead");
                    "round-robin"
                }
            },
            other => {
                draft.left(word.line, &format!("balance {other}"), "round robin is used instead");
                "round-robin"
            }
        };
        pool.table.text("scheduler", scheduler);
        if scheduler == "uri-hash" && word.words.len() > 2 && algorithm == "uri" && second != "path-only" {
            let what = word.words[2..].join(" ");
            draft.note(word.line, "balance uri", format!("{what}: the whole path is hashed"));
        }
        if matches!(scheduler, "header-hash" | "query-hash" | "cookie-hash") {
            // `hdr(NAME)` carries the name in brackets, `url_param NAME` behind it.
            let inner = named.split_once('(').map(|(_, name)| name.trim_end_matches(')'));
            pool.table.text("hash-key", inner.unwrap_or(named));
        }
        if draft.run.is_some() && self.maps_keys(scheduler) {
            pool.table.text("hash-table", "modulo");
        }
        let factor = self.last("hash-balance-factor").and_then(|w| w.arg(1).parse::<u16>().ok());
        if let Some(factor) = factor.filter(|f| (101..=10_000).contains(f) && scheduler.ends_with("-hash")) {
            pool.table.set("hash-balance-factor", factor);
        }
    }

    /// Whether keys go to servers by HAProxy's usual `hash-type map-based sdbm`.
    pub fn maps_keys(&self, scheduler: &str) -> bool {
        let kind: Vec<&str> = self
            .last("hash-type")
            .map_or_else(Vec::new, |word| word.words[1..].iter().map(String::as_str).collect());
        let usual = matches!(kind.as_slice(), [] | ["map-based"] | ["map-based", "sdbm"]);
        usual && ["uri-hash", "header-hash", "query-hash", "cookie-hash"].contains(&scheduler)
    }

    /// The service, or two where some of its ports speak TLS.
    pub fn services(&self, backends: &BTreeMap<&str, &Proxy>, acls: &Acls, draft: &mut Draft) {
        let is_page = self.all("stats").next().is_some() && !self.has_servers() && !self.has_backends();
        if self.is_disabled() {
            draft.remark(self.line, &self.name, "it is disabled and is left out");
            return;
        }
        if is_page && draft.run.is_none() {
            let place = self.all("bind").next().map_or(":9443", |w| w.arg(1));
            let why = format!(
                "the page at {place} is Evenkeel's web UI: see [admin] listen, and `evenkeel user add`"
            );
            draft.note(self.line, &format!("{} {}", self.section(), self.name), why);
            return;
        }
        let mut plain: Vec<String> = Vec::new();
        let mut secret: Vec<String> = Vec::new();
        let mut tls = Table::default();
        let mut more = Table::default();
        let mut by_sockets = false;
        for word in self.all("bind") {
            let ends_tls = word.words.iter().any(|w| w == "ssl");
            for place in word.arg(1).split(',') {
                let known = draft.run.as_ref().and_then(|run| run.places.sockets.get(place));
                by_sockets |= known.is_some();
                match known
                    .map(|a| with_port(&a.ip().to_string(), &a.port().to_string()))
                    .or_else(|| vip(place))
                {
                    Some(vip) => {
                        let other = both_families(&vip, &word.words, &draft.ports_of_ipv4);
                        let all = if ends_tls { &mut secret } else { &mut plain };
                        all.extend([Some(vip), other].into_iter().flatten());
                    }
                    None => draft.left(word.line, place, "nothing listens there: an ADDRESS:PORT is needed"),
                }
            }
            bind_options(word, &mut tls, &mut more, draft);
        }
        if plain.is_empty() && secret.is_empty() {
            draft.left(self.line, &self.name, "it has no address and is left out");
            return;
        }
        let mut service =
            Service { name: draft.fresh_service(&name(&self.name), false), ..Service::default() };
        service.table.comments.clone_from(&self.comments);
        service.mode = if self.is_http() { "http" } else { "tcp" }.into();
        let sees = [self].into_iter().chain(backends.values().copied()).any(answers::must_see);
        service.routes = self.routes(backends, acls, sees, draft);
        if draft.run.is_none() {
            service.routes = crate::draft::together(std::mem::take(&mut service.routes));
        }
        if self.is_http() {
            service.answer_routes = self.answer_routes(backends, acls, sees, draft);
        }
        let names: Vec<Option<Value>> = service.routes.iter().map(|r| r.get("name").cloned()).collect();
        for (at, route) in service.routes.iter_mut().enumerate() {
            let twice = names[at].is_some() && names[..at].contains(&names[at]);
            if names[at].is_none() || twice {
                route.remove("name");
                route.lines.insert(0, Line::new("name", Value::text(format!("rule-{}", at + 1))));
            }
        }
        self.own_or_named(&mut service, draft);
        if service.own.is_some() {
            service.name = draft.fresh_service(&service.name, true);
        }
        let target = self.last("default_backend").and_then(|w| backends.get(w.arg(1)).copied());
        self.timeouts(target, draft.run.is_some(), &mut service);
        // One with conditions is a rule, see `walk`.
        if self.is_http() && self.forwards_all(backends) {
            service.table.texts("forwarded", &["x-forwarded-for"]);
        }
        if self.is_http() && [Some(self), target].into_iter().flatten().any(|p| p.waits_for_body(draft)) {
            service.table.set("wait-for-body", true);
        }
        self.compression(&mut service.table, draft);
        if let Some(asked) = self.tcp_keep_alive("cli") {
            service.table.set("tcp-keep-alive", asked);
        }
        if let Some(size) = draft.heads.size().filter(|_| self.is_http()) {
            service.table.text("head-size", &evenkeel_model::format_size(size as u64));
        }
        if let Some(max) = self.last("maxconn") {
            service.table.number("max-connections", max.arg(1));
        }
        let mut pages = target.map_or_else(BTreeMap::new, |target| target.pages(draft));
        pages.extend(self.pages(draft));
        if !pages.is_empty() && self.is_http() {
            own_pages(&pages, &mut service.table);
        }
        self.lines(&mut service.table, draft);
        self.service_logs(&mut service.table, draft);
        if self.is_http() && looks_at_address(&service) {
            // HAProxy compares paths and hosts as they came.
            service.table.text("normalize", "off");
        }
        if self.is_http() && draft.run.is_some() {
            // What a frontend says counts for its clients.
            let loose = self.option("accept-invalid-http-request").is_some();
            service.table.text("request-heads", if loose { "loose" } else { "wide" });
        }
        if self.is_http() && self.closes_connections() {
            service.table.set("close-after-answer", true);
        }
        service.table.adopt(&more);
        self.what_is_left(draft);
        if plain.is_empty() {
            service.table.set("tls", tls);
            service.vips = gathered(&secret);
        } else if secret.is_empty() {
            service.vips = gathered(&plain);
        } else if let Some(ports) = ports_of_tls(&plain, &secret).filter(|_| !by_sockets) {
            tls.set("ports", Value::List(ports.into_iter().map(Value::from).collect()));
            service.table.set("tls", tls);
            plain.extend(secret);
            service.vips = gathered(&plain);
        } else if !by_sockets {
            // A port that is plain at one address and TLS at another.
            tls.texts("vips", &gathered(&secret));
            service.table.set("tls", tls);
            service.vips = gathered(&plain);
            service.vips.extend(gathered(&secret));
        } else {
            // Given sockets have one address for all: a second service on the same servers.
            if let Some(mut own) = service.own.take() {
                own.name = draft.fresh(&format!("{}-servers", service.name));
                service.pool = Some(own.name.clone());
                draft.pools.push(own);
            }
            service.vips = gathered(&plain);
            let mut second = service.clone();
            draft.services.push(service);
            second.name = draft.fresh(&format!("{}-tls", second.name));
            second.table.comments = vec!["The same with TLS.".into()];
            second.vips = gathered(&secret);
            second.table.set("tls", tls);
            draft.services.push(second);
            return;
        }
        draft.services.push(service);
    }

    fn own_or_named(&self, service: &mut Service, draft: &mut Draft) {
        let named = self.last("default_backend").and_then(|w| w.words.get(1)).map(|n| name(n));
        // Where both are there the default backend has all requests, in HAProxy as well.
        if self.kind == SectionKind::Listen && self.has_servers() && named.is_none() {
            let mut pool = self.pool(draft);
            let comments = std::mem::take(&mut pool.table.comments);
            service.table.comments.extend(comments.into_iter().skip(self.comments.len()));
            service.own = Some(pool);
            return;
        }
        match named.filter(|n| draft.pools.iter().any(|p| p.name == *n)) {
            Some(named) => service.pool = Some(named),
            None => {
                // Routes may answer everything; what they do not has no server.
                let first = service.routes.iter().find_map(|r| r.text_of("pool").map(str::to_owned));
                match first {
                    Some(pool) => {
                        let mut last = Table::commented(vec!["What no rule takes had no backend.".into()]);
                        last.text("name", "no-backend");
                        last.set("deny", if self.is_http() { status(503) } else { Table::default() });
                        service.routes.push(last);
                        service.pool = Some(pool);
                    }
                    // Servers may be added to it.
                    None if self.takes_servers(draft.run.is_some()) => {
                        let mut pool = self.pool(draft);
                        pool.servers.push(server::nobody(&pool));
                        service.own = Some(pool);
                    }
                    None => {
                        draft.remark(
                            self.line,
                            &self.name,
                            "it has no servers: what it answers by itself is kept in routes",
                        );
                        let servers = vec![crate::draft::nobody()];
                        service.own = Some(Pool { servers, ..Pool::default() });
                    }
                }
            }
        }
    }

    /// Whether rules are asked once the body is there.
    fn waits_for_body(&self, draft: &mut Draft) -> bool {
        let mut waits = self.option("http-buffer-request").is_some();
        for word in self.all("http-request").filter(|word| word.arg(1) == "wait-for-body") {
            let differs = "each body is waited for, up to 16 KiB, as long as timeout http-request says";
            draft.note(word.line, "http-request wait-for-body", differs);
            waits = true;
        }
        waits
    }

    /// `as_it_runs`: with what HAProxy takes for timeouts that are not written.
    fn timeouts(&self, target: Option<&Proxy>, as_it_runs: bool, service: &mut Service) {
        let mut set = |key: &str, time: Option<String>| {
            if let Some(time) = time {
                service.timeouts.text(key, &time);
            }
        };
        let behind = |which: &str| target.and_then(|t| t.time(which)).or_else(|| self.time(which));
        set("connect", behind("connect"));
        set("client", self.time("client"));
        let connect = behind("connect").filter(|_| as_it_runs);
        set("queue", behind("queue").or(connect));
        if self.is_http() {
            set("server", behind("server"));
            let request = self.time("http-request").or_else(|| self.time("client").filter(|_| as_it_runs));
            set("request", request);
            set("keep-alive", self.time("http-keep-alive"));
            set("tunnel", behind("tunnel"));
        } else {
            // Once both sides have spoken only the tunnel's time counts.
            set("client", behind("tunnel").or_else(|| self.time("client")));
            set("server", behind("tunnel").or_else(|| behind("server")));
        }
    }
}

/// The ports that speak TLS, in a list, where none of them is plain at another address.
fn ports_of_tls(plain: &[String], secret: &[String]) -> Option<BTreeSet<u16>> {
    let ports = |vips: &[String]| -> Option<BTreeSet<u16>> {
        let mut all = BTreeSet::new();
        for vip in vips {
            let (first, last) = split_port(vip).1.map(|p| p.split_once('-').unwrap_or((p, p)))?;
            let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
            // Longer lists are no pleasure to read.
            if last.saturating_sub(first) > 16 && std::ptr::eq(vips, secret) {
                return None;
            }
            all.extend(first..=last);
        }
        Some(all)
    };
    let (plain, secret) = (ports(plain)?, ports(secret)?);
    plain.is_disjoint(&secret).then_some(secret)
}

/// Whether a route, or a line of the log, asks for path or host: what other spellings mean matters then.
fn looks_at_address(service: &Service) -> bool {
    let routes = service.routes.iter().chain(&service.answer_routes);
    let lines = routes.chain([&service.table]).flat_map(|table| &table.lines);
    let mut asks = false;
    for line in lines {
        line.value.for_each_text(&mut |text| {
            for word in ["path", "host"] {
                let spelt = [format!("{word}("), format!("{word} "), format!("{{{word}")];
                asks |= spelt.iter().any(|spelt| text.contains(spelt));
            }
        });
    }
    asks
}

/// The pages of a service, files and those that are written out.
fn own_pages(pages: &BTreeMap<String, Page>, table: &mut Table) {
    let (mut files, mut written) = (Table::default(), Table::default());
    for (status, page) in pages {
        match page {
            Page::File(file) => files.text(status, file),
            page => written.set(status, page.answer().unwrap_or_default()),
        }
    }
    for (key, each) in [("error-pages", files), ("error-answers", written)] {
        if !each.lines.is_empty() {
            table.set(key, each);
        }
    }
}

/// How TLS is spoken with a server, where it has `ssl`, be it taken back or not.
fn tls_options(written: &[String], unverified: bool) -> Vec<String> {
    const WITH_VALUE: [&str; 6] = ["verify", "verifyhost", "ca-file", "crl-file", "crt", "sni"];
    if !written.iter().any(|word| word == "ssl") {
        return Vec::new();
    }
    let mut all = vec!["ssl".to_owned()];
    if unverified {
        all.extend(["verify".to_owned(), "none".to_owned()]);
    }
    for pair in written.windows(2).filter(|pair| WITH_VALUE.contains(&pair[0].as_str())) {
        all.extend(pair.iter().cloned());
    }
    all
}

fn tls_word(option: &str) -> Option<i8> {
    match option {
        "ssl" => Some(1),
        "no-ssl" => Some(-1),
        _ => None,
    }
}
