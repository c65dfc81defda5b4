//! Stick tables that count, with `track-sc` and the tests that ask them, as tables of routes.

use std::collections::BTreeMap;

use super::bind::size;
use super::proxy::{Proxy, Word};
use super::sample;
use crate::draft::{Draft, Table};
use crate::words::{duration, name, quoted};

/// Tables that are counted in: their keys, by HAProxy's name.
pub type Keys = BTreeMap<String, String>;

/// What the tests of one proxy mean.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    own: String,
    keys: Keys,
    /// Tables by the number of `track-sc`.
    by_number: BTreeMap<String, String>,
}

/// `track-scN KEY [table NAME]`: number, key, table.
fn track(word: &Word, own: &str) -> Option<(String, String, String)> {
    if !["http-request", "tcp-request"].contains(&word.words[0].as_str()) {
        return None;
    }
    let at = word.words.iter().take(3).position(|w| w.starts_with("track-sc"))?;
    let number = word.words[at].trim_start_matches("track-sc").to_owned();
    let table = match word.words.get(at + 2).map(String::as_str) {
        Some("table") => word.arg(at + 3).to_owned(),
        _ => own.to_owned(),
    };
    Some((number, word.arg(at + 1).to_owned(), table))
}

/// Every table that something is tracked in, written once.
pub fn gather(proxies: &[Proxy], draft: &mut Draft) {
    for proxy in proxies {
        for word in &proxy.words {
            let Some((_, sample, table)) = track(word, &proxy.name) else { continue };
            let Some(of) = proxies.iter().find(|p| p.name == table) else { continue };
            let Some(rules) = of.last("stick-table") else { continue };
            let key = match key(&sample) {
                Ok(key) => key,
                Err(why) => {
                    draft.left(word.line, &word.words.join(" "), why);
                    continue;
                }
            };
            match draft.counted.get(&table) {
                Some(known) if *known == key => {}
                Some(_) => {
                    let why = format!("the table {table} has other keys already: use one table for each key");
                    draft.left(word.line, &word.words.join(" "), why);
                }
                None => {
                    draft.tables.push(written(&table, &key, rules));
                    draft.counted.insert(table, key);
                }
            }
        }
    }
}

fn written(table: &str, key: &str, rules: &Word) -> Table {
    let mut out = Table::default();
    let value = |wanted: &str| rules.words.iter().skip_while(|w| *w != wanted).nth(1);
    out.text("name", &name(table));
    out.text("key", key);
    if let Some(entries) = value("size").and_then(|text| size(text)) {
        out.set("size", entries.clamp(16, 16_777_216).to_string());
    }
    if let Some(expire) = value("expire").and_then(|text| duration(text, "ms")) {
        out.text("expire", &expire);
    }
    // Rates of one table have one period here.
    let periods = rules.words.iter().flat_map(|w| w.split("_rate(").skip(1));
    let period = periods.filter_map(|rest| duration(rest.split(')').next()?, "ms")).next();
    if let Some(period) = period {
        out.text("period", &period);
    }
    out
}

/// A sample as the key of a table. Those that HAProxy makes a hash of are the text that it is made of.
fn key(sample: &str) -> Result<String, String> {
    Ok(match sample {
        "base32" => "{header:Host}{path}".into(),
        "base32+src" => "{header:Host}{path} {source}".into(),
        "url32" => "{header:Host}{uri}".into(),
        "url32+src" => "{header:Host}{uri} {source}".into(),
        _ => return sample::template(sample),
    })
}

/// `rate("t", "requests")` as a sample.
fn counted(asked: &str) -> String {
    let plain = asked.replace(['"', ' ', ')'], "").replace('(', ":");
    format!("counted({plain})")
}

impl Counted {
    pub fn of(proxy: &Proxy, keys: &Keys) -> Counted {
        let tracked = proxy.words.iter().filter_map(|w| track(w, &proxy.name));
        let by_number = tracked.map(|(number, _, table)| (number, table)).collect();
        Counted { own: proxy.name.clone(), keys: keys.clone(), by_number }
    }

    /// The table that a rule counts in, and when there is something to count.
    pub fn tracked(&self, word: &Word) -> Result<(String, String), String> {
        let (_, sample, table) = track(word, &self.own).ok_or("not carried over")?;
        match self.keys.get(&table) {
            Some(known) if key(&sample).as_ref() == Ok(known) => {
                Ok((name(&table), sample::presence(&sample)))
            }
            _ => Err(format!("there is no table {table} with this key")),
        }
    }

    /// A rule whose samples in texts are what its variables are: `%[sc_http_req_rate(0)]` and
    /// `%[src,table_http_req_rate(t)]` as `%[counted(rate:t,requests)]`.
    pub fn in_texts(&self, word: &Word) -> Word {
        let mut word = word.clone();
        // What a variable is set to is a sample without braces.
        let set = word.words.iter().position(|w| w.starts_with("set-var(")).map(|at| at + 1);
        if let Some(text) = set.and_then(|at| word.words.get_mut(at))
            && let Some(of_table) = self.of_table(text)
        {
            *text = of_table;
        }
        for text in &mut word.words {
            let mut out = String::new();
            let mut rest = text.as_str();
            while let Some((before, inner)) = rest.split_once("%[") {
                let Some(end) = sample::end_of(inner) else { break };
                let of_table = self.of_table(&inner[..end]);
                out.push_str(before);
                out.push_str(&format!("%[{}]", of_table.as_deref().unwrap_or(&inner[..end])));
                rest = &inner[end + 1..];
            }
            *text = out + rest;
        }
        word
    }

    fn of_table(&self, text: &str) -> Option<String> {
        let (first, converters) = text.split_at(text.find("),").map_or(text.len(), |at| at + 1));
        if let Some(Ok(asked)) = self.asked(first) {
            return Some(counted(&asked) + converters);
        }
        self.converted(text)?.ok().map(|asked| counted(&asked))
    }

    /// `KEY,table_http_req_rate(TABLE)`: the entry of this request, where the table has that key.
    fn converted(&self, text: &str) -> Option<Result<String, String>> {
        let (sample, converter) = text.rsplit_once(",table_")?;
        let (what, table) = converter.strip_suffix(')')?.split_once('(')?;
        let table = if table.is_empty() { self.own.as_str() } else { table };
        if self.keys.get(table) != key(sample).ok().as_ref() {
            return Some(Err(format!("there is no table {table} with this key")));
        }
        let tracked = Counted { by_number: BTreeMap::from([("0".into(), table.to_owned())]), ..self.clone() };
        tracked.asked(&format!("sc_{what}(0)"))
    }

    /// `sc_http_req_rate(0)` and the like as what a condition asks; none where it is no such test.
    pub fn asked(&self, fetch: &str) -> Option<Result<String, String>> {
        if fetch.contains(",table_") {
            return self.converted(fetch);
        }
        let (whole, arguments) = match fetch.split_once('(') {
            Some((whole, rest)) => (whole, rest.trim_end_matches(')')),
            None => (fetch, ""),
        };
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        let (table, what) = if let Some(what) = whole.strip_prefix("src_") {
            let table = if arguments[0].is_empty() { &*self.own } else { arguments[0] };
            (table.to_owned(), what)
        } else {
            let rest = whole.strip_prefix("sc")?;
            let (number, what, named) = match rest.strip_prefix('_') {
                Some(what) => (arguments[0], what, arguments.get(1)),
                None => (rest.get(..1)?, rest.get(1..)?.strip_prefix('_')?, arguments.first()),
            };
            let named = named.filter(|t| !t.is_empty()).map(|t| (*t).to_owned());
            (named.or_else(|| self.by_number.get(number).cloned())?, what)
        };
        let (function, counter) = match what {
            "http_req_rate" => ("rate", "requests"),
            "http_req_cnt" => ("count", "requests"),
            "http_err_rate" => ("rate", "errors"),
            "http_err_cnt" => ("count", "errors"),
            "conn_rate" => ("rate", "connections"),
            "conn_cnt" => ("count", "connections"),
            "conn_cur" => ("count", "current"),
            "bytes_in_rate" => ("rate", "bytes-in"),
            "bytes_out_rate" => ("rate", "bytes-out"),
            _ => return None,
        };
        let key = self.keys.get(&table).map(String::as_str);
        if key.is_none() || whole.starts_with("src_") && key != Some("{source}") {
            return Some(Err(format!("nothing is tracked in the table {table} by this key")));
        }
        Some(Ok(format!("{function}({}, \"{counter}\")", quoted(&name(&table)))))
    }
}
