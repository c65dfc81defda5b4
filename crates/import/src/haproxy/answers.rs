//! `http-response` and `http-after-response` as routes of answers.

use std::collections::BTreeMap;

use super::condition::Acls;
use super::constants::{numbered, spelled_out};
use super::proxy::{Proxy, SectionKind, Word};
use super::replies::Reply;
use super::rules::{captured, log_level, redirection, removed, replaced, table_of};
use super::sample::{self, variables};
use crate::draft::{Draft, Line, Table, also, both, flag};
use crate::words::{name, quoted};

/// Why a rule of requests cannot have what `asking` finds.
pub const NONE_YET: &str = "it asks about an answer, which there is none of yet";

/// Whether a route's line asks about the answer.
pub fn asking(line: &Line) -> bool {
    let mut found = false;
    line.value.for_each_text(&mut |text| found |= asks(&line.key, text));
    found
}

/// Whether a condition does.
pub fn asks_of_answer(condition: &str) -> bool {
    asks("when", condition)
}

fn asks(key: &str, text: &str) -> bool {
    let variables = [
        "{status}",
        "{status|",
        "answer-header",
        "answer-cookie",
        "{server}",
        "{server|",
        "{server-certificate:",
    ];
    let tests = ["status ==", "status !=", "status >", "status <", "answer-header(", "server("];
    variables.iter().any(|word| text.contains(word))
        || key == "when" && tests.iter().any(|word| text.contains(word))
}

/// Samples that an answer alone has.
const OF_ANSWERS: [&str; 10] =
    ["status", "srv_name", "srv_id", "srv_queue", "res.", "res_", "resp_", "shdr", "scook", "ssl_s_"];

fn is_of_answers(text: &str) -> bool {
    let text = spelled_out(text);
    OF_ANSWERS.iter().any(|name| {
        let begins =
            |at: usize| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "._-".contains(c));
        text.match_indices(name).any(|(at, _)| begins(at))
    })
}

/// Whether the rules of a proxy must see the answer; otherwise they are settled with the request.
pub fn must_see(proxy: &Proxy) -> bool {
    const SETTLED: &[&str] = &["set-header", "add-header", "del-header"];
    // ACLs that ask about the answer: who names one of them asks as well.
    let named: Vec<&str> = proxy
        .all("acl")
        .filter(|word| word.words.iter().skip(2).take(1).any(|test| is_of_answers(test)))
        .map(|word| word.arg(1))
        .collect();
    proxy.words.iter().filter(|w| w.words[0] == "http-response").any(|word| {
        let verb = word.arg(1);
        let settled = SETTLED.contains(&verb) || verb.starts_with("set-var") || verb.starts_with("unset-var");
        let by_regex = verb == "del-header" && word.words.iter().any(|w| w == "reg");
        let condition = word.words.iter().skip_while(|w| *w != "if" && *w != "unless").skip(1);
        let mut names = condition.map(|w| w.trim_start_matches('!'));
        !settled
            || by_regex
            || word.words.iter().skip(2).any(|text| is_of_answers(text))
            || names.any(|name| named.contains(&name))
    }) || proxy.words.iter().any(|w| w.words[0] == "capture" && w.arg(1) == "response" || proxy.sees(w))
}

impl Proxy {
    /// Rules of answers, in the order in which HAProxy takes them: the backends' before the frontend's,
    /// and those that see this program's own answers last.
    pub fn answer_routes(
        &self,
        backends: &BTreeMap<&str, &Proxy>,
        acls: &Acls,
        sees: bool,
        draft: &mut Draft,
    ) -> Vec<Table> {
        let mut behind: Vec<(&Proxy, String)> = Vec::new();
        if self.kind != SectionKind::Backend {
            for word in self.all("use_backend") {
                for (word, chosen) in self.chosen_by_name(word, backends) {
                    let Ok(when) = word.condition(acls) else { continue };
                    let when = both(&chosen, &when);
                    behind.extend(self.chosen_by_map(&word, &when, backends));
                    behind.extend(backends.get(word.arg(1)).map(|backend| (*backend, backend.was_gone_to())));
                }
            }
            let default = self.last("default_backend").and_then(|w| backends.get(w.arg(1)));
            behind.extend(default.map(|backend| (*backend, backend.was_gone_to())));
            // One that several rules choose has its rules once.
            let mut seen: Vec<(String, String)> = Vec::new();
            behind.retain(|(backend, when)| {
                let pair = (backend.name.clone(), when.clone());
                let first = !seen.contains(&pair);
                seen.push(pair);
                first
            });
        }
        let mut routes = Vec::new();
        for keyword in ["tcp-response", "http-response", "http-after-response"] {
            if keyword != "http-after-response" && !sees {
                continue;
            }
            for (backend, when) in &behind {
                let mut scratch = draft.scratch();
                let own = Acls::of(backend, &mut scratch);
                let mut rules = backend.answer_rules(keyword, &own, &mut scratch);
                backend.report(scratch, draft);
                ends_alone(&mut rules, keyword, &backend.name);
                rules.iter_mut().for_each(|route| also(route, when));
                routes.extend(rules);
            }
            let mut rules = self.answer_rules(keyword, acls, draft);
            if keyword != "http-after-response" {
                ends_alone(&mut rules, keyword, &self.name);
            }
            routes.extend(rules);
        }
        routes
    }

    /// Names of servers with HAProxy's numbers of them.
    fn numbers_of_servers(&self) -> Vec<(String, String)> {
        let servers = self.all("server").enumerate().map(|(at, word)| {
            let id = word.words.iter().skip_while(|w| *w != "id").nth(1).cloned();
            (name(word.arg(1)), id.unwrap_or_else(|| (at + 1).to_string()))
        });
        servers.collect()
    }

    /// The same of all servers that a request may come to; none where one name has two numbers.
    pub fn numbers_behind(&self, backends: &BTreeMap<&str, &Proxy>) -> Vec<(String, String)> {
        let mut all = self.numbers_of_servers();
        let chosen = self.all("use_backend").chain(self.last("default_backend"));
        let by_text = self.all("use_backend").any(|word| word.arg(1).contains('%'));
        let named: Vec<&Proxy> = match by_text {
            true => {
                backends.values().copied().filter(|backend| backend.is_http() == self.is_http()).collect()
            }
            false => chosen.filter_map(|word| backends.get(word.arg(1)).copied()).collect(),
        };
        for one in named.iter().flat_map(|backend| backend.numbers_of_servers()) {
            match all.iter().find(|known| known.0 == one.0) {
                Some(known) if known.1 != one.1 => return Vec::new(),
                Some(_) => {}
                None => all.push(one),
            }
        }
        all
    }

    /// `tcp-response content` of mode http, where there is an answer to see.
    pub fn sees(&self, word: &Word) -> bool {
        let of_answers = word.words[0] == "tcp-response" && word.arg(1) == "content";
        self.is_http() && self.kind != SectionKind::Frontend && of_answers
    }

    fn answer_rules(&self, keyword: &str, acls: &Acls, draft: &mut Draft) -> Vec<Table> {
        let mut routes = Vec::new();
        let servers = draft.numbers.get(&self.line).cloned().unwrap_or_default();
        for word in &self.words {
            let captures = word.words[0] == "capture" && word.arg(1) == "response";
            if word.words[0] != keyword && !(captures && keyword == "http-response") {
                continue;
            }
            if keyword == "tcp-response" && !self.sees(word) {
                continue;
            }
            // What it is about cannot fail here.
            if word.arg(1) == "strict-mode" {
                continue;
            }
            let mut word = self.with_constants(word, &draft.frontend);
            word.words.iter_mut().for_each(|text| *text = numbered(text, &servers));
            match rule(&acls.counted.in_texts(&word), acls) {
                Ok(mut route) => {
                    route.comments.clone_from(&word.comments);
                    routes.push(route);
                }
                Err(why) => draft.left(word.line, &word.written, why),
            }
        }
        routes
    }
}

/// `allow` ends the rules of one section: the others' are asked all the same.
fn ends_alone(rules: &mut [Table], keyword: &str, section: &str) {
    let variable = format!("res.allowed-{keyword}-{}", name(section));
    let mut ended = false;
    for route in rules {
        if ended {
            also(route, &format!("!variable({})", quoted(&variable)));
        }
        if route.has("stop") {
            route.lines.retain(|line| line.key != "stop");
            route.named("set-variable", &variable, "1");
            ended = true;
        }
    }
}

/// `return` in the place of a server's answer.
fn replace(words: &[&str], acls: &Acls, route: &mut Table) -> Result<(), String> {
    let reply = Reply::read(words, "200", acls)?;
    let (key, value) = reply.returned(words);
    route.set(key, value);
    reply.add_headers("add-header", route);
    Ok(())
}

/// One rule of answers.
fn rule(word: &Word, acls: &Acls) -> Result<Table, String> {
    let words = &word.words;
    let cut = words.iter().position(|w| w == "if" || w == "unless").unwrap_or(words.len());
    let (does, when) = words.split_at(cut);
    let condition = acls.condition(when)?;
    let mut route = Table::default();
    if !condition.is_empty() {
        route.when(&condition);
    }
    if does[0] != "http-after-response" {
        route.text("of", "servers");
    }
    let mut does: Vec<&str> = does.iter().map(String::as_str).collect();
    if does[0] == "tcp-response" {
        does.remove(1);
        match does.as_slice() {
            [_, "reject" | "close"] => {
                route.set("deny", flag("silent"));
                return Ok(route);
            }
            [_, "accept"] => {
                route.set("stop", true);
                return Ok(route);
            }
            [_, "set-log-level", _] => {}
            [_, verb, ..] if verb.starts_with("set-var") || verb.starts_with("unset-var") => {}
            _ => return Err(super::remedies::of(&does)),
        }
    }
    match &does[1..] {
        ["set-header", name, value @ ..] => route.set("set-header", table_of(name, &value.join(" "))?),
        ["add-header", name, value @ ..] => route.set("add-header", table_of(name, &value.join(" "))?),
        ["del-header", rest @ ..] => {
            let (key, value) = removed("", rest)?;
            route.set(&key, value);
        }
        [verb @ ("replace-header" | "replace-value"), name, regex, text] => {
            let value = format!("{{1|{}}}", replaced(verb, regex, text)?);
            route.named("edit-header", name, &value);
        }
        ["set-status", status] => route.number("status", status),
        ["set-status", status, "reason", ..] => {
            route.number("status", status);
            route.comment("status", "its phrase is the usual one");
        }
        ["deny", rest @ ..] => {
            let status = rest.iter().skip_while(|w| **w != "deny_status" && **w != "status").nth(1);
            route.set("deny", Table::default().with_number("status", status.unwrap_or(&"502")));
        }
        ["redirect", rest @ ..] => {
            let (place, text) = redirection(rest, "add-header", &mut route)?;
            route.set("redirect", place);
            text.iter().for_each(|text| also(&mut route, text));
        }
        ["return", rest @ ..] => replace(rest, acls, &mut route)?,
        ["allow"] => route.set("stop", true),
        [set, value_words @ ..] if set.starts_with("set-var") || set.starts_with("unset-var") => {
            let (what, name) = set.split_once('(').ok_or("a variable is needed")?;
            let name = sample::variable(name.trim_end_matches(')'))?;
            let value = match what {
                "set-var" => sample::template(&value_words.join(" "))?,
                "set-var-fmt" => variables(&value_words.join(" "))?,
                _ => String::new(),
            };
            route.named("set-variable", &name, &value);
            if what == "set-var" {
                also(&mut route, &sample::presence(&value_words.join(" ")));
            }
        }
        ["set-log-level", level] => route.text("log-level", log_level(level)?),
        ["capture", what @ .., "len", length] => {
            route.set("capture", captured(&what.join(" "), length)?);
        }
        ["response", "header", name, "len", length] => {
            route.set("capture", captured(&format!("res.fhdr({name})"), length)?);
        }
        _ => return Err(super::remedies::of(&does)),
    }
    Ok(route)
}
