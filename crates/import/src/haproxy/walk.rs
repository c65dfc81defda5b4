//! The rules of a proxy in the order in which they are tried, with those of the backends behind it.

use std::collections::BTreeMap;

use super::condition::Acls;
use super::proxy::{Proxy, SectionKind, Word};
use super::rules::rule;
use super::{answers, sample, stats, unique};
use crate::draft::{Draft, Table, also, status};
use crate::words::{name, quoted};

/// The variable that says which backend a request goes to.
const GOES_TO: &str = "txn.goes-to";

impl Proxy {
    /// Rules, in the order in which HAProxy takes them: those of requests, then the backends.
    pub fn routes(
        &self,
        backends: &BTreeMap<&str, &Proxy>,
        acls: &Acls,
        sees: bool,
        draft: &mut Draft,
    ) -> Vec<Table> {
        draft.frontend.clone_from(&self.name);
        let mut routes = Vec::new();
        if self.is_http() {
            routes.extend(unique::id(self, draft));
        }
        for pass in ["monitor", "early", "request", "statistics", "redirect", "response", "server", "backend"]
        {
            if pass == "response" && sees {
                continue;
            }
            if pass == "statistics" {
                routes.extend(stats::pages(self, draft));
            }
            routes.extend(self.pass(pass, backends, acls, sees, draft));
        }
        // The default backend has its rules, too.
        let target = self.last("default_backend").map(|w| w.arg(1));
        match target.map(|name| (name, backends.get(name))) {
            Some((_, Some(backend))) => {
                if backend.answers_have_rules(sees) {
                    let mut route = Table::default();
                    route.text("name", &format!("goes-to-{}", name(&backend.name)));
                    backend.is_gone_to(&mut route);
                    routes.push(route);
                }
                routes.extend(backend.rules_behind("", backends, sees, draft));
                routes.extend(self.forwarded(Some(backend), "", backends, draft));
            }
            Some((wanted, None)) => {
                let line = self.last("default_backend").map_or(self.line, |w| w.line);
                let why = format!("unable to find required default_backend: '{wanted}'");
                draft.wrong(line, "default_backend", why);
            }
            None => routes.extend(self.forwarded(None, "", backends, draft)),
        }
        routes
    }

    /// What the frontend and a backend tell servers of the client.
    fn forwarded(
        &self,
        back: Option<&Proxy>,
        when: &str,
        backends: &BTreeMap<&str, &Proxy>,
        draft: &mut Draft,
    ) -> Vec<Table> {
        if !self.is_http() {
            return Vec::new();
        }
        let mut routes = unique::forwarded(self, back, self.forwards_all(backends), draft);
        routes.iter_mut().for_each(|route| also(route, when));
        routes
    }

    /// Whether all requests of the service get `X-Forwarded-For`, whichever backend they come to.
    pub fn forwards_all(&self, backends: &BTreeMap<&str, &Proxy>) -> bool {
        let plain = |proxy: &Proxy| proxy.option("forwardfor").is_some_and(|w| w.words.len() == 2);
        let special = |proxy: &&Proxy| proxy.option("forwardfor").is_some_and(|w| w.words.len() > 2);
        let target = self.last("default_backend").and_then(|w| backends.get(w.arg(1)).copied());
        let alone = self.last("use_backend").is_none() && self.option("forwardfor").is_none();
        !backends.values().any(special) && (plain(self) || alone && target.is_some_and(plain))
    }

    /// The rules of one stage.
    fn pass(
        &self,
        pass: &str,
        backends: &BTreeMap<&str, &Proxy>,
        acls: &Acls,
        sees: bool,
        draft: &mut Draft,
    ) -> Vec<Table> {
        let mut routes = Vec::new();
        // What rules behind an `allow` or `accept` ask as well, by the rules that these end.
        let mut unless_allowed: BTreeMap<&str, String> = BTreeMap::new();
        let mut ended: Vec<&str> = Vec::new();
        for (at, word) in self.words.iter().enumerate() {
            let keyword = word.words[0].as_str();
            let of_pass = match keyword {
                "tcp-request" | "block" => "early",
                "http-request" => "request",
                "capture" if word.arg(1) == "response" => continue,
                "capture" => "request",
                "monitor-uri" | "monitor-net" => "monitor",
                "use-server" => "server",
                // What is answered by rules before these is not changed by them.
                "http-response" => "response",
                "redirect" => "redirect",
                "use_backend" => "backend",
                _ => continue,
            };
            if of_pass != pass {
                continue;
            }
            if !self.is_http() && keyword.starts_with("http-") {
                continue;
            }
            let stage = word.stage();
            let followed = self.words[at + 1..].iter().any(|w| w.stage() == stage && !w.allows());
            let allows = word.allows() && followed;
            if word.allows() && !followed {
                continue;
            }
            if allows && keyword == "tcp-request" {
                // What a connection is does not change: the rules behind ask for the opposite.
                match word.condition(acls) {
                    Ok(when) if when.is_empty() => ended.push(stage),
                    Ok(when) => {
                        let known = unless_allowed.get(stage).map(|old| format!("{old} && "));
                        unless_allowed.insert(stage, format!("{}!({when})", known.unwrap_or_default()));
                    }
                    Err(why) => draft.left(word.line, &word.written, why),
                }
            }
            if allows && keyword == "tcp-request" || ended.contains(&stage) {
                continue;
            }
            let noted = allows.then(|| self.allowing(word));
            let word = noted.as_ref().unwrap_or(word);
            for (word, chosen) in self.chosen_by_name(word, backends) {
                let counted = acls.counted.in_texts(&self.with_constants(&word, &draft.frontend));
                routes.extend(strictly(&counted, acls));
                match rule(&counted, acls, backends, self.is_http()) {
                    Ok(Some(mut route)) => {
                        if keyword == "monitor-uri" {
                            routes.extend(self.monitor_fails(&route, acls, draft));
                        }
                        also(&mut route, &chosen);
                        if let Some(unless) = unless_allowed.get(stage) {
                            also(&mut route, unless);
                        }
                        if allows {
                            unless_allowed.insert(stage, format!("!variable({})", quoted(&self.allowed())));
                        }
                        if route.has("pool-map") {
                            let own = route.condition().to_owned();
                            for (backend, when) in self.chosen_by_map(&word, &own, backends) {
                                routes.extend(backend.rules_behind(&when, backends, sees, draft));
                                routes.extend(self.forwarded(Some(backend), &when, backends, draft));
                            }
                        }
                        let behind = ["pool", "deny", "answer"].iter().any(|key| route.has(key));
                        if let Some(backend) =
                            backends.get(word.arg(1)).filter(|_| behind && keyword == "use_backend")
                        {
                            let when = route.condition().to_owned();
                            routes.extend(backend.rules_behind(&when, backends, sees, draft));
                            routes.extend(self.forwarded(Some(backend), &when, backends, draft));
                        }
                        if keyword == "use_backend" {
                            self.pages_behind(&word, backends, draft);
                            self.times_behind(&word, &mut route, backends, draft);
                            let backend = backends.get(word.arg(1)).filter(|b| b.answers_have_rules(sees));
                            if let Some(backend) = backend {
                                backend.is_gone_to(&mut route);
                            }
                        }
                        route.comments.clone_from(&word.comments);
                        routes.push(route);
                    }
                    Ok(None) => {}
                    Err(why) => draft.left(word.line, &word.written, why),
                }
            }
        }
        routes
    }

    /// Tells of error pages of a backend that a rule chooses: a service has one page for each status.
    fn pages_behind(&self, word: &Word, backends: &BTreeMap<&str, &Proxy>, draft: &mut Draft) {
        let target = self.last("default_backend").map(|w| w.arg(1));
        let Some(backend) = backends.get(word.arg(1)).filter(|b| Some(b.name.as_str()) != target) else {
            return;
        };
        // Without servers its page is the answer, see `without_servers`.
        if !self.is_http() || !backend.has_servers() {
            return;
        }
        let own = backend.words[backend.inherited..].iter().filter(|word| {
            ["errorfile", "errorfiles", "errorloc", "errorloc302", "errorloc303", "http-error"]
                .contains(&word.words[0].as_str())
        });
        for page in own {
            let why = format!(
                "requests that use_backend brings to {} get the pages of {}: write this page there",
                backend.name, self.name
            );
            draft.note(page.line, &page.written, why);
        }
    }

    /// The timeouts of a backend that is chosen by a rule, where they are not those of the service.
    fn times_behind(
        &self,
        word: &Word,
        route: &mut Table,
        backends: &BTreeMap<&str, &Proxy>,
        draft: &mut Draft,
    ) {
        let Some(backend) = backends.get(word.arg(1)).filter(|_| route.has("pool")) else { return };
        let target = self.last("default_backend").and_then(|w| backends.get(w.arg(1)));
        for which in ["server", "queue", "connect", "tunnel"] {
            let usual = target.and_then(|t| t.time(which)).or_else(|| self.time(which));
            let Some(time) = backend.time(which).filter(|time| usual.as_ref() != Some(time)) else {
                continue;
            };
            if which != "tunnel" && self.is_http() {
                route.text(&format!("{which}-timeout"), &time);
            } else {
                let name = route.text_of("pool").unwrap_or_default().to_owned();
                if let Some(pool) = draft.pools.iter_mut().find(|pool| pool.name == name) {
                    let key = format!("timeouts.{which}");
                    if !pool.table.has(&key) {
                        pool.table.text(&key, &time);
                    }
                    continue;
                }
                let line = backend.words.iter().rfind(|w| w.words[0] == "timeout" && w.arg(1) == which);
                let differs = format!("{time} of {}: the service's own time holds", backend.name);
                draft.note(line.map_or(word.line, |w| w.line), &format!("timeout {which}"), differs);
            }
        }
    }

    /// `monitor fail`: when monitors are told that all is not well.
    fn monitor_fails(&self, monitor: &Table, acls: &Acls, draft: &mut Draft) -> Vec<Table> {
        let mut routes = Vec::new();
        for word in self.all("monitor").filter(|word| word.arg(1) == "fail") {
            let asked = acls.condition(word.words.get(2..).unwrap_or_default()).and_then(of_requests);
            match asked {
                Ok(when) => {
                    let mut route = Table::default();
                    route.text("name", "monitor-fails");
                    let asked = monitor.condition().to_owned();
                    also(&mut route, &asked);
                    also(&mut route, &when);
                    route.set("deny", status(503));
                    routes.push(route);
                }
                Err(why) => draft.left(word.line, &word.written, why),
            }
        }
        routes
    }

    /// The rules of a backend, for those that come to it by a condition.
    fn rules_behind(
        &self,
        when: &str,
        backends: &BTreeMap<&str, &Proxy>,
        sees: bool,
        draft: &mut Draft,
    ) -> Vec<Table> {
        if self.kind != SectionKind::Backend {
            return Vec::new();
        }
        let mut scratch = draft.scratch();
        let acls = Acls::of(self, &mut scratch);
        // Each service that comes here asks anew; what cannot be carried over is told once.
        let mut routes = Vec::new();
        for pass in ["early", "request", "redirect", "response", "server"] {
            if pass != "response" || !sees {
                routes.extend(self.pass(pass, backends, &acls, sees, &mut scratch));
            }
        }
        self.report(scratch, draft);
        // Its rules are asked before its page.
        routes.extend(stats::pages(self, draft));
        routes.iter_mut().for_each(|route| also(route, when));
        routes
    }

    /// What could not be carried over, once.
    pub fn report(&self, scratch: Draft, draft: &mut Draft) {
        for left in scratch.left {
            let same = |l: &crate::Diagnostic| {
                (&l.file, l.line, &l.keyword) == (&left.file, left.line, &left.keyword)
            };
            if !draft.left.iter().any(same) {
                draft.left.push(left);
            }
        }
    }

    /// Whether a backend has rules that see answers: only those of requests that went there.
    pub fn answers_have_rules(&self, sees: bool) -> bool {
        let of_servers = |word: &Word| {
            let captures = word.words[0] == "capture" && word.arg(1) == "response";
            word.words[0] == "http-response" || captures || self.sees(word)
        };
        let of_answers = |word: &Word| word.words[0] == "http-after-response" || sees && of_servers(word);
        self.kind == SectionKind::Backend && self.words.iter().any(of_answers)
    }

    /// Has a route say that a request goes to this backend.
    fn is_gone_to(&self, route: &mut Table) {
        route.named("set-variable", GOES_TO, &sample::literal(&self.name));
    }

    /// When a request has gone to this backend.
    pub fn was_gone_to(&self) -> String {
        format!("variable({}, {})", quoted(GOES_TO), quoted(&self.name))
    }

    /// The variable that says that a request needs no more rules of this proxy.
    fn allowed(&self) -> String {
        format!("txn.allowed-by-{}", name(&self.name))
    }

    /// `http-request allow` as a note for the rules behind it.
    fn allowing(&self, word: &Word) -> Word {
        let note = ["http-request", &format!("set-var({})", self.allowed()), "str(1)"].map(str::to_owned);
        let words = note.into_iter().chain(word.words[2..].iter().cloned()).collect();
        Word { words, ..word.clone() }
    }

    /// `use_backend` whose backend is a text with variables: a rule for each backend, and when it is meant.
    pub fn chosen_by_name(&self, word: &Word, backends: &BTreeMap<&str, &Proxy>) -> Vec<(Word, String)> {
        let text = word.arg(1);
        let mapped = text
            .strip_prefix("%[")
            .and_then(|s| s.strip_suffix(']'))
            .is_some_and(|s| !s.contains("%[") && sample::looked_up(s).is_some());
        if word.words[0] != "use_backend" || !text.contains('%') || mapped {
            return vec![(word.clone(), String::new())];
        }
        let Ok(template) = sample::variables(text) else { return vec![(word.clone(), String::new())] };
        let each = backends.iter().filter(|(_, b)| b.is_http() == self.is_http()).map(|(called, _)| {
            let mut words = word.words.clone();
            words[1] = (*called).to_owned();
            let when = format!("text({}, {})", quoted(&template), quoted(called));
            (Word { words, ..word.clone() }, when)
        });
        each.collect()
    }

    /// The backends with rules that a map may choose, and when it does.
    pub fn chosen_by_map<'p>(
        &self,
        word: &Word,
        when: &str,
        backends: &BTreeMap<&str, &'p Proxy>,
    ) -> Vec<(&'p Proxy, String)> {
        let sample = word.arg(1).strip_prefix("%[").and_then(|s| s.strip_suffix(']'));
        let Some(Ok(chosen)) = sample.filter(|s| sample::looked_up(s).is_some()).map(sample::template) else {
            return Vec::new();
        };
        let with_rules = backends
            .iter()
            .filter(|(_, b)| b.is_http() == self.is_http())
            .filter(|(_, b)| b.words.iter().any(|word| word.is_rule() || word.words[0] == "option"));
        let own = if when.is_empty() { String::new() } else { format!("({when}) && ") };
        let when = |called: &str| format!("{own}text({}, {})", quoted(&chosen), quoted(called));
        with_rules.map(|(called, backend)| (*backend, when(called))).collect()
    }
}

/// A condition that a request can answer.
fn of_requests(when: String) -> Result<String, String> {
    if answers::asks_of_answer(&when) { Err(answers::NONE_YET.into()) } else { Ok(when) }
}

/// `normalize-uri … strict` refuses escapes that are none.
fn strictly(word: &Word, acls: &Acls) -> Option<Table> {
    let strict = word.arg(1) == "normalize-uri" && word.arg(3) == "strict" && word.words[0] == "http-request";
    let cut = word.words.iter().position(|w| w == "if" || w == "unless").unwrap_or(word.words.len());
    let condition = acls.condition(&word.words[cut..]).ok().filter(|_| strict)?;
    let mut route = Table::default();
    let wrong = "text(\"{uri}\") !~ \"^(?:[^%]|%[0-9A-Fa-f]{2})*$\"";
    route.when(wrong);
    route.set("deny", status(400));
    also(&mut route, &condition);
    Some(route)
}
