//! `haproxy.cfg`, new and old forms.

mod access;
mod answers;
mod arguments;
mod bind;
mod captures;
mod checks;
mod compression;
mod condition;
mod constants;
mod counting;
mod defaults;
mod flags;
mod header_names;
mod heads;
mod identity;
mod keywords;
mod leftovers;
mod lexer;
mod lines;
mod load;
pub mod logs;
mod mail;
pub mod manual;
mod old_rules;
mod options;
mod parameters;
mod places;
mod preprocess;
mod proxy;
mod reasons;
mod remedies;
mod replies;
mod resolvers;
mod rules;
pub mod run;
mod sample;
mod server;
mod stats;
mod stick;
mod tables;
#[cfg(test)]
mod tests;
mod times;
mod unique;
mod walk;

use std::collections::BTreeMap;

use crate::Source;
use crate::draft::Draft;
use crate::words::name;
pub use bind::Versions;
use condition::Acls;
pub use heads::Heads;
use preprocess::Branch;
pub use preprocess::condition_holds;
use proxy::{Proxy, SectionKind, Word};
pub use tables::Keys;

/// Keywords of the `global` section that Evenkeel does by itself, or that mean nothing to it.
const GLOBAL_MOOT: &[&str] = &[
    "daemon",
    "pidfile",
    "ulimit-n",
    "nbproc",
    "nbthread",
    "quiet",
    "debug",
    "spread-checks",
    "master-worker",
    "cpu-map",
    "node",
    "description",
    "maxpipes",
    "noepoll",
    "nopoll",
    "nosplice",
    "tune.ssl.default-dh-param",
    "ssl-default-bind-options",
    "ssl-default-server-options",
    "hard-stop-after",
    "server-state-base",
    "server-state-file",
    "set-dumpable",
    "zero-warning",
    // Scripts and what is experimental are there, or are not, whatever is said.
    "expose-experimental-directives",
    "insecure-fork-wanted",
    "insecure-setuid-wanted",
    "numa-cpu-mapping",
    "strict-limits",
];

/// All files together are one configuration.
pub fn read(sources: &[&Source], variables: &BTreeMap<String, String>, draft: &mut Draft) {
    let mut reader = Reader { variables: variables.clone(), ..Reader::default() };
    let mut lines = 0;
    for source in sources {
        draft.file.clone_from(&source.file);
        draft.starts.push((lines, source.file.clone()));
        reader.section.clear();
        reader.feed(&source.text, lines, draft);
        lines += source.text.lines().count();
    }
    mail::receivers(&reader.proxies, &reader.mailers, draft);
    build(&reader.proxies, draft);
    // Others count their own lines.
    draft.starts.clear();
}

#[derive(Default)]
struct Reader {
    variables: BTreeMap<String, String>,
    /// What `global` gives to variables of the process, with its name as samples write it.
    of_process: Vec<(String, String)>,
    proxies: Vec<Proxy>,
    /// By name; those without one under their place.
    defaults: Vec<(String, Vec<Word>)>,
    section: String,
    /// The list of users or errors that is read.
    list: String,
    comments: Vec<String>,
    branches: Vec<Branch>,
    mailers: mail::Mailers,
}

impl Reader {
    fn feed(&mut self, text: &str, start: usize, draft: &mut Draft) {
        let mut number = start;
        for raw in text.lines() {
            number += 1;
            let line = lexer::split(number, raw, &self.variables);
            if let Some(problem) = line.problem {
                draft.wrong(number, raw.split_whitespace().next().unwrap_or(""), problem);
                continue;
            }
            if line.words.first().is_some_and(|w| w.starts_with('.')) {
                self.directive(number, raw, draft);
                continue;
            }
            if !self.branches.iter().all(|b| b.taken) {
                continue;
            }
            self.count(&line, draft);
            self.line(line, draft);
        }
        if !self.branches.is_empty() {
            self.branches.clear();
            draft.wrong(number, ".if", "the file ends inside of a block");
        }
        draft.head.append(&mut self.comments);
    }

    /// A word too many is an error where HAProxy's own is read as it is; older ones passed it over.
    fn count(&self, line: &lexer::Line, draft: &mut Draft) {
        let (Some(keyword), Some(why)) = (line.words.first(), arguments::surplus(&self.section, &line.words))
        else {
            return;
        };
        match draft.run {
            Some(_) => draft.wrong(line.number, keyword, why),
            None => draft.left(line.number, keyword, why),
        }
    }

    /// `.if` and its like, and messages.
    fn directive(&mut self, number: usize, raw: &str, draft: &mut Draft) {
        let raw = raw.trim();
        let (word, rest) = raw.split_once(char::is_whitespace).unwrap_or((raw, ""));
        let outer = |branches: &[Branch]| branches.iter().all(|b| b.taken);
        let holds = |draft: &mut Draft| {
            let holds = condition_holds(rest, &self.variables);
            holds.unwrap_or_else(|why| {
                draft.wrong(number, word, why);
                false
            })
        };
        match word {
            ".if" => {
                let taken = outer(&self.branches);
                let holds = taken && holds(draft);
                self.branches.push(Branch { taken: holds, done: holds || !taken, last: false });
            }
            ".elif" | ".else" => {
                let Some(mut branch) = self.branches.pop() else {
                    return draft.wrong(number, word, format!("lone '{word}' with no matching '.if'"));
                };
                if branch.last {
                    draft.wrong(number, word, format!("'{word}' after '.else'"));
                }
                branch.last |= word == ".else";
                branch.taken = !branch.done && (word == ".else" || holds(draft));
                branch.done |= branch.taken;
                self.branches.push(branch);
            }
            ".endif" => {
                if self.branches.pop().is_none() {
                    draft.wrong(number, word, "lone '.endif' with no matching '.if'");
                }
            }
            _ if !outer(&self.branches) => {}
            ".notice" | ".diag" => draft.remark(number, word, rest.trim_matches('"')),
            ".warning" => draft.note(number, word, rest.trim_matches('"')),
            ".alert" => draft.wrong(number, word, rest.trim_matches('"')),
            _ => draft.wrong(number, word, format!("unknown directive '{word}'")),
        }
    }

    fn line(&mut self, line: lexer::Line, draft: &mut Draft) {
        if let Some(comment) = line.comment.filter(|_| line.words.is_empty()) {
            self.comments.push(comment);
            return;
        }
        let Some(keyword) = line.words.first().cloned() else { return };
        let own = std::mem::take(&mut self.comments);
        let (number, mut words) = (line.number, line.words);
        lexer::expand_addresses(&mut words, &self.variables);
        times::settle(&mut words, number, draft);
        for (sample, text) in &self.of_process {
            for word in words.iter_mut().filter(|word| word.contains(sample.as_str())) {
                *word = word.replace(sample.as_str(), text);
            }
        }
        match keyword.as_str() {
            "global" => {
                self.section = keyword;
                draft.head.extend(own);
            }
            "defaults" => {
                self.section = keyword;
                let inherited = self.inherited(&words, 2, number, draft).unwrap_or_default();
                if inherited.iter().any(Word::is_rule) {
                    let why = "a defaults section with rules cannot be used to initialize another one";
                    draft.wrong(number, "defaults", why);
                }
                let unnamed = words.get(1).is_none_or(|w| w == "from");
                let name = if unnamed { format!(" {number}") } else { words[1].clone() };
                self.defaults.push((name, inherited));
                draft.head.extend(own);
            }
            "listen" | "frontend" | "backend" => self.open(keyword, number, &words, own, draft),
            "userlist" | "peers" | "resolvers" | "mailers" | "program" | "cache" | "ring" | "http-errors"
            | "fcgi-app" | "log-forward" | "crt-store" | "traces" | "acme" | "log-profile"
            | "healthcheck" => {
                self.section = keyword.clone();
                match keyword.as_str() {
                    "peers" => {
                        self.list = words.get(1).cloned().unwrap_or_default();
                        draft.note(number, &keyword, "tables are the pair's by themselves: see [pair]")
                    }
                    "mailers" => {
                        self.list = words.get(1).cloned().unwrap_or_default();
                        self.mailers.entry(self.list.clone()).or_default();
                    }
                    "userlist" => {
                        let name = words.get(1).cloned().unwrap_or_default();
                        draft.userlists.entry(name.clone()).or_default();
                        self.list = name;
                    }
                    "http-errors" => {
                        self.list = words.get(1).cloned().unwrap_or_default();
                        draft.errors.entry(self.list.clone()).or_default();
                    }
                    "resolvers" => {
                        let name = words.get(1).cloned().unwrap_or_default();
                        let sections = draft.run.iter_mut().map(|run| &mut run.resolvers);
                        sections.for_each(|all| {
                            all.push(run::Resolvers { name: name.clone(), servers: Vec::new() })
                        });
                    }
                    section => draft.left(number, section, remedies::of(&["section", section])),
                }
            }
            _ if self.section == "global" => self.global(number, &words, draft),
            // Tables of `peers` are named with their section.
            _ if self.section == "peers" => {
                if let (true, Some(table)) = (keyword == "table", words.get(1)) {
                    draft.stick_tables.insert(format!("{}/{table}", self.list), words[1..].to_vec());
                }
            }
            _ if self.section == "mailers" => {
                mail::line(&words, &self.list, &mut self.mailers, number, draft);
            }
            _ if self.section == "resolvers" => resolvers::line(&words, number, draft),
            _ if self.section == "userlist" => {
                let list = draft.userlists.entry(self.list.clone()).or_default();
                if let Err(why) = access::line(&words, list) {
                    draft.left(number, &keyword, why);
                }
            }
            _ if self.section == "http-errors" => {
                let files = draft.errors.entry(self.list.clone()).or_default();
                if let Err(why) = replies::line(&words, files) {
                    draft.left(number, &keyword, why);
                }
            }
            _ if self.section == "defaults" => {
                if let Some((name, defaults)) = self.defaults.last_mut() {
                    if name.starts_with(' ') && Word::new(number, words.clone(), Vec::new()).is_rule() {
                        let why = format!("'{keyword}' is not allowed in anonymous 'defaults' section");
                        draft.wrong(number, &keyword, why);
                    }
                    let word = Word::new(number, words.clone(), Vec::new());
                    if let Some(why) = defaults::unnamed(name, &word).filter(|_| word.is_rule()) {
                        draft.wrong(number, &keyword, why);
                    }
                    let negated = keyword == "no" || keyword == "default";
                    let plain = if negated { words.get(1).map_or("", String::as_str) } else { &keyword };
                    if !keywords::is_of_sections(plain) {
                        draft.wrong(
                            number,
                            &keyword,
                            format!("unknown keyword '{keyword}' in 'defaults' section"),
                        );
                    }
                    defaults.push(Word::new(number, words, own));
                }
            }
            _ if ["listen", "frontend", "backend"].contains(&self.section.as_str()) => {
                if let Some(proxy) = self.proxies.last_mut() {
                    let written = words.join(" ");
                    let words = old_rules::read(words, number, draft);
                    let all = server::expanded(words, number, draft);
                    let each = all.into_iter().map(|words| {
                        let written = written.clone();
                        Word { written, ..Word::new(number, words, Vec::new()) }
                    });
                    let first = proxy.words.len();
                    proxy.words.extend(each);
                    if let Some(word) = proxy.words.get_mut(first) {
                        word.comments = own;
                    }
                }
            }
            // A section that was left as a whole, or none at all.
            _ if self.section.is_empty() => {
                draft.wrong(number, &keyword, format!("unknown keyword '{keyword}' out of section"));
            }
            _ => {}
        }
    }

    /// The defaults that a section names behind `from`, or the last ones; none while there are none.
    fn inherited(
        &self,
        words: &[String],
        from: usize,
        number: usize,
        draft: &mut Draft,
    ) -> Option<Vec<Word>> {
        let named = (1..=from).find(|at| words.get(*at).is_some_and(|w| w == "from"));
        let Some(name) = named.and_then(|at| words.get(at + 1)) else {
            return self.defaults.last().filter(|_| words[0] != "defaults").map(|(_, words)| words.clone());
        };
        let found = self.defaults.iter().rfind(|(n, _)| n == name).map(|(_, words)| words.clone());
        if found.is_none() {
            draft.wrong(number, name, format!("defaults section '{name}' not found"));
        }
        found
    }

    /// Why defaults with rules cannot be those of a proxy.
    fn misused(&self, kind: SectionKind, words: &[String], defaults: &[Word]) -> Option<String> {
        let name = words.iter().skip_while(|w| *w != "from").nth(1)?;
        if !defaults.iter().any(Word::is_rule) {
            return None;
        }
        let has = |first: &str, seconds: &[&str]| {
            defaults.iter().any(|w| w.words[0] == first && seconds.contains(&w.arg(1)))
        };
        let of_clients = has("tcp-request", &["connection", "session"]);
        let other = |p: &Proxy| p.kind != kind && p.defaults.as_ref() == Some(name);
        Some(match kind {
            SectionKind::Listen => {
                format!("defaults section '{name}' has rules and cannot be used by a listen section")
            }
            SectionKind::Backend if of_clients => {
                format!("defaults section '{name}' has rules of connections and cannot be used by a backend")
            }
            SectionKind::Frontend if has("tcp-response", &["content", "inspect-delay"]) => {
                format!("defaults section '{name}' has rules of responses and cannot be used by a frontend")
            }
            _ if self.proxies.iter().any(other) => {
                format!(
                    "defaults section '{name}' has rules and cannot be used by frontends and backends at once"
                )
            }
            _ => return None,
        })
    }

    fn open(
        &mut self,
        keyword: String,
        number: usize,
        words: &[String],
        own: Vec<String>,
        draft: &mut Draft,
    ) {
        let kind = match keyword.as_str() {
            "listen" => SectionKind::Listen,
            "frontend" => SectionKind::Frontend,
            _ => SectionKind::Backend,
        };
        self.section = keyword;
        let Some(wanted) = words.get(1) else {
            return draft.wrong(number, &self.section, format!("'{}' expects a name", self.section));
        };
        let twice = self.proxies.iter().find(|p| {
            p.name == *wanted
                && (p.kind == kind || (p.kind == SectionKind::Backend) == (kind == SectionKind::Backend))
        });
        if let Some(other) = twice {
            let (file, line) = draft.place(other.line);
            let why = format!("'{wanted}' has the same name as the proxy declared at {file}:{line}");
            draft.wrong(number, wanted, why);
        }
        let defaults = self.inherited(words, 3, number, draft).unwrap_or_default();
        if let Some(why) = self.misused(kind, words, &defaults) {
            draft.wrong(number, &words[0], why);
        }
        let named = words.iter().skip_while(|w| *w != "from").nth(1).cloned();
        let mut proxy = Proxy::new(kind, wanted, number, own, defaults);
        proxy.defaults = named;
        proxy.file.clone_from(&draft.file);
        // `listen NAME ADDRESS:PORT`, as it was written before 1.5.
        if let Some(bind) = words.get(2).filter(|w| *w != "from") {
            let words = vec!["bind".into(), bind.clone()];
            proxy.words.push(Word::new(number, words, Vec::new()));
        }
        self.proxies.push(proxy);
    }

    /// A variable of the process; what `global` says of it holds for ever.
    fn of_process(&mut self, verb: &str, name: &str, value: &str) -> Result<(), String> {
        if !name.starts_with("proc.") {
            return Err(format!("{name}: a variable of the process is proc.NAME"));
        }
        let constant = |text: &str| {
            let inner = ["str(", "int("].iter().find_map(|kind| text.strip_prefix(kind));
            inner.and_then(|inner| inner.strip_suffix(')')).map(str::to_owned)
        };
        let text = match verb {
            "set-var" => constant(value),
            // Those that stood in it are constants by now.
            _ => {
                let mut text = value.to_owned();
                while let Some((before, rest)) = text.split_once("%[") {
                    let Some((sample, after)) = rest.split_once(']') else { break };
                    let Some(known) = constant(sample) else { break };
                    text = format!("{before}{known}{after}");
                }
                Some(text)
            }
        };
        let plain = |text: &String| !text.contains(['%', '(', ')', ',', '"', '\'', '{', '}', ']']);
        let text = text.filter(plain).ok_or("a variable of the process has a constant text or number")?;
        let sample = format!("var({name})");
        self.of_process.retain(|(known, _)| *known != sample);
        self.of_process.push((sample, format!("str({text})")));
        Ok(())
    }

    fn global(&mut self, number: usize, words: &[String], draft: &mut Draft) {
        let value = |at: usize| words.get(at).cloned().unwrap_or_default();
        match words[0].as_str() {
            "setenv" => drop(self.variables.insert(value(1), value(2))),
            "presetenv" => drop(self.variables.entry(value(1)).or_insert_with(|| value(2))),
            verb @ ("set-var" | "set-var-fmt") => {
                if let Err(why) = self.of_process(verb, &value(1), &words[2.min(words.len())..].join(" ")) {
                    draft.left(number, &words.join(" "), why);
                }
            }
            "unsetenv" => words[1..].iter().for_each(|name| drop(self.variables.remove(name))),
            "resetenv" => self.variables.retain(|name, _| words[1..].contains(name)),
            "maxconn" => draft.global("limits").number("max-connections", &value(1)),
            "stats" if draft.run.is_some() => stats::socket(number, words, draft),
            "stats" => draft.note(
                number,
                "stats",
                "the admin socket is Evenkeel's own: `evenkeel status`, `drain`, `weight`…; see [admin] socket",
            ),
            "crt-base" => draft.crt_base = words.get(1).cloned(),
            "ca-base" => draft.ca_base = words.get(1).cloned(),
            "log" | "log-tag" | "log-send-hostname" => {
                if let Err(why) = draft.logs.line(words) {
                    logs::told(number, words, &why, draft);
                }
            }
            "ssl-server-verify" => draft.servers_unverified = value(1) == "none",
            "ssl-default-server-options" => server::versions(&words[1..], number, draft),
            "ssl-default-bind-options" => {
                draft.versions = bind::Versions::of_all(&words[1..], number, draft);
            }
            _ => {}
        }
        if let Some(run) = &mut draft.run {
            let process = &mut run.process;
            match words[0].as_str() {
                "daemon" => process.daemon = true,
                "master-worker" => process.master_worker = true,
                "quiet" => process.quiet = true,
                "zero-warning" => process.zero_warning = true,
                "pidfile" => process.pidfile = words.get(1).cloned(),
                "maxconn" => process.maxconn = words.get(1).and_then(|n| n.parse().ok()),
                "nbthread" => {
                    process.threads = words.get(1).and_then(|n| n.parse().ok());
                    draft.global("limits").number("workers", &value(1));
                }
                "node" => process.node = words.get(1).cloned(),
                "description" => process.description = Some(words[1..].join(" ")),
                _ => {}
            }
        }
        let done = [
            "set-var",
            "set-var-fmt",
            "setenv",
            "presetenv",
            "unsetenv",
            "resetenv",
            "maxconn",
            "stats",
            "log",
            "log-tag",
            "log-send-hostname",
            "crt-base",
            "ca-base",
            "ssl-server-verify",
        ];
        match words[0].as_str() {
            word if done.contains(&word) => {}
            "unix-bind" if words.iter().any(|word| word == "prefix") => {
                draft.left(number, "unix-bind prefix", "write the whole path at each bind");
            }
            "unix-bind" => {}
            word @ ("user" | "group" | "uid" | "gid" | "chroot") => {
                draft.note(number, word, "the program keeps the user and the root that it is started with");
            }
            word if word.starts_with("ssl-default-") && word.contains("cipher") => {
                draft.note(
                    number,
                    word,
                    "the cipher suites are those of TLS 1.2 and 1.3 that are held to be good",
                );
            }
            word if let Some(told) = draft.heads.line(words) => match told {
                heads::Consequence::Nothing => {}
                heads::Consequence::Remark(why) => draft.remark(number, word, why),
                heads::Consequence::Lost(why) => draft.left(number, word, why),
            },
            word if word.starts_with("tune.") && word != "tune.ssl.default-dh-param" => {
                draft.remark(number, word, "memory, buffers and limits are this program's own: see [limits]");
            }
            word if keywords::differs(keywords::SECTION_DIFFERS, word).is_some() => {
                draft.note(
                    number,
                    word,
                    keywords::differs(keywords::SECTION_DIFFERS, word).unwrap_or_default(),
                );
            }
            word if word.starts_with("thread-") => draft.remark(number, word, "threads are not in groups"),
            word if GLOBAL_MOOT.contains(&word) => {}
            word if keywords::means_nothing(word).is_some() => {
                draft.remark(number, word, keywords::means_nothing(word).unwrap_or_default());
            }
            word if keywords::is_global(word) => remedies::diagnose(draft, number, word, &[word]),
            "no" if words.get(1).is_some_and(|w| keywords::is_global(w)) => {}
            word => draft.wrong(number, word, format!("unknown keyword '{word}' in 'global' section")),
        }
    }
}

fn build(proxies: &[Proxy], draft: &mut Draft) {
    let named: Vec<Proxy> = proxies
        .iter()
        .map(|proxy| proxy.with_captures_named().with_counting_spelled_out().with_odd_names_removed())
        .collect();
    let proxies = &named[..];
    let backends: BTreeMap<&str, &Proxy> =
        proxies.iter().filter(|p| p.kind != SectionKind::Frontend).map(|p| (p.name.as_str(), p)).collect();
    for proxy in proxies {
        if let Some(word) = proxy.last("stick-table") {
            draft.stick_tables.insert(proxy.name.clone(), word.words.clone());
        }
    }
    draft.numbers = proxies.iter().map(|proxy| (proxy.line, proxy.numbers_behind(&backends))).collect();
    draft.ports_of_ipv4 = bind::ports_of_ipv4(proxies.iter().flat_map(|proxy| proxy.all("bind")));
    logs::of_all(proxies, draft);
    tables::gather(proxies, draft);
    let tables = tables::of_all(draft);
    draft.run.iter_mut().for_each(|run| run.tables.clone_from(&tables));
    draft.tracked = proxies.iter().flat_map(server::those_to_track).collect();
    for (at, proxy) in proxies.iter().enumerate() {
        draft.file.clone_from(&proxy.file);
        proxy.check(draft);
        let mut facts = proxy.facts(at, draft.servers_unverified);
        if let Some(run) = &mut draft.run {
            facts.logs = proxy.logs(&draft.logs);
            facts.log_tag = proxy.log_tag(&draft.logs).unwrap_or_else(|| "haproxy".into());
            run.proxies.push(facts);
        }
    }
    for (at, proxy) in proxies.iter().enumerate().filter(|(_, p)| p.kind == SectionKind::Backend) {
        draft.file.clone_from(&proxy.file);
        let mut pool = proxy.pool(draft);
        pool.name = draft.fresh(&name(&proxy.name));
        // Some are there for their table alone.
        if pool.servers.is_empty() && draft.stick_tables.contains_key(&proxy.name) {
            continue;
        }
        if pool.servers.is_empty() && proxy.takes_servers(draft.run.is_some()) {
            pool.servers.push(server::nobody(&pool));
        }
        if pool.servers.is_empty() {
            let why = format!("{} has no servers: what comes to it is refused with 503", proxy.name);
            draft.remark(proxy.line, "backend", why);
            continue;
        }
        if let Some(run) = &mut draft.run {
            run.proxies[at].pool = Some(pool.name.clone());
        }
        draft.pools.push(pool);
    }
    for (at, proxy) in proxies.iter().enumerate().filter(|(_, p)| p.kind != SectionKind::Backend) {
        draft.file.clone_from(&proxy.file);
        let acls = Acls::of(proxy, draft);
        let before = draft.services.len();
        proxy.services(&backends, &acls, draft);
        let made: Vec<String> = draft.services[before..].iter().map(|s| s.name.clone()).collect();
        let own = proxy.kind == SectionKind::Listen && proxy.takes_servers(draft.run.is_some());
        let pool = draft.services.get(before).filter(|_| own).map(|s| match &s.pool {
            Some(pool) => pool.clone(),
            None => s.name.clone(),
        });
        if let Some(run) = &mut draft.run {
            (run.proxies[at].services, run.proxies[at].pool) = (made, pool);
        }
    }
}
