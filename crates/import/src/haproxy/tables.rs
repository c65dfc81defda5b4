//! Stick tables that count, with `track-sc` and the tests that ask them, as tables of routes.

use std::collections::{BTreeMap, BTreeSet};

use super::bind::size;
use super::proxy::{Proxy, Word};
use super::run::StickTable;
use super::{load, sample};
use crate::draft::{Draft, Table};
use crate::words::{duration, name, quoted};

/// Tables that are counted in, by HAProxy's name.
pub type Keys = BTreeMap<String, Known>;

/// A table that is counted in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    key: String,
    /// What `gpc` and `gpt` of it are, in the order of the table's numbers.
    numbers: Vec<String>,
    /// Tables that have its entries by other keys.
    by_other_keys: Vec<String>,
}

/// The table that has the entries of this one by a sample.
fn place_of<'k>(keys: &'k Keys, table: &str, sample: &str) -> Option<&'k str> {
    let wanted = key(sample).ok()?;
    let (name, known) = keys.get_key_value(table)?;
    let others = known.by_other_keys.iter().filter_map(|other| keys.get_key_value(other));
    let mut all = [(name, known)].into_iter().chain(others);
    all.find(|(_, known)| known.key == wanted).map(|(name, _)| name.as_str())
}

/// What the tests of one proxy mean.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    own: String,
    keys: Keys,
    /// Tables by the number of `track-sc`.
    by_number: BTreeMap<String, String>,
    /// The numbers that are tracked under a condition, where rules change what is counted.
    sometimes: BTreeSet<String>,
    /// When there is something to count under a number.
    presence: BTreeMap<String, String>,
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

/// Samples of a rule or a condition that ask a table by a key that they name, with both.
fn asks_by_key(text: &str, own: &str) -> Option<(String, String)> {
    let text = text.trim_start_matches(['%', '[', '"']);
    // What `src_inc_gpc0(TABLE)` became.
    if let Some((_, table)) = text.split_once("src:").filter(|_| text.starts_with("sc-")) {
        return Some(("src".into(), table.trim_end_matches(')').to_owned()));
    }
    let (sample, rest) = text.split_once(",table_").or_else(|| text.split_once(",in_table"))?;
    let arguments = rest.split_once('(').filter(|(word, _)| !word.contains(','));
    let table = arguments.and_then(|(_, arguments)| arguments.split(')').next()).unwrap_or("");
    Some((sample.to_owned(), if table.is_empty() { own.to_owned() } else { table.to_owned() }))
}

/// What `store` of a table says, with its arguments.
pub fn stored(rules: &[String]) -> Vec<String> {
    let lists = rules.iter().enumerate().filter(|(at, _)| *at > 0 && rules[at - 1] == "store");
    lists.flat_map(|(_, list)| list.split(',')).map(|word| word.trim().to_owned()).collect()
}

/// `gpc0`, `gpt(3)` and their like as names of single numbers.
fn numbers_of(rules: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for word in stored(rules) {
        let (name, argument) = word.split_once('(').unwrap_or((&word, ""));
        let name = name.trim_end_matches("_rate");
        let count = argument.split(',').next().and_then(|n| n.trim_end_matches(')').parse::<usize>().ok());
        let each: Vec<String> = match name {
            "gpc0" | "gpc1" | "gpt0" => vec![format!("{}:{}", &name[..3], &name[3..])],
            "gpc" | "gpt" => (0..count.unwrap_or(1)).map(|at| format!("{name}:{at}")).collect(),
            _ => continue,
        };
        each.into_iter().for_each(|one| {
            if !all.contains(&one) {
                all.push(one);
            }
        });
    }
    all
}

/// A table has so many numbers of its own.
const NUMBERS: usize = 8;

/// Every table that something is tracked in, written once.
pub fn gather(proxies: &[Proxy], draft: &mut Draft) {
    let tracks = |word: &Word, own: &str| track(word, own).map(|(_, sample, table)| vec![(sample, table)]);
    let asks = |word: &Word, own: &str| {
        Some(word.words.iter().filter_map(|text| asks_by_key(text, own)).collect::<Vec<_>>())
    };
    gather_by(proxies, draft, true, &tracks);
    // What only asks makes no entries: there is no key to agree with.
    gather_by(proxies, draft, false, &asks);
}

/// Samples with the tables that they are keys of.
type Pairs = Vec<(String, String)>;

fn gather_by(proxies: &[Proxy], draft: &mut Draft, told: bool, pairs: &dyn Fn(&Word, &str) -> Option<Pairs>) {
    for proxy in proxies {
        let all = proxy.words.iter().filter_map(|word| Some((word, pairs(word, &proxy.name)?)));
        for (word, (sample, table)) in
            all.flat_map(|(word, all)| all.into_iter().map(move |pair| (word, pair)))
        {
            let Some(rules) = draft.stick_tables.get(&table).cloned() else { continue };
            let key = match key(&sample) {
                Ok(key) => key,
                Err(why) => {
                    if told {
                        draft.left(word.line, &word.written, why);
                    }
                    continue;
                }
            };
            let numbers = numbers_of(&rules);
            if numbers.len() > NUMBERS && !draft.counted.contains_key(&table) {
                let why =
                    format!("{table}: a table has {NUMBERS} of gpc and gpt together, not {}", numbers.len());
                draft.left(word.line, &word.written, why);
            }
            match draft.counted.get(&table) {
                Some(_) if !told || place_of(&draft.counted, &table, &sample).is_some() => {}
                Some(_) => add_key(&table, key, numbers, draft),
                None => {
                    draft.tables.push(written(&table, &key, &rules));
                    draft.counted.insert(table, Known { key, numbers, by_other_keys: Vec::new() });
                }
            }
        }
    }
}

/// A table for entries of another one by a key of its own.
fn add_key(table: &str, key: String, numbers: Vec<String>, draft: &mut Draft) {
    let taken =
        |wanted: &String| draft.counted.contains_key(wanted) || draft.stick_tables.contains_key(wanted);
    let Some(other) = (2..).map(|number| format!("{table}-{number}")).find(|wanted| !taken(wanted)) else {
        return;
    };
    let mut out = Table::default();
    out.text("name", &name(&other));
    out.text("key", &key);
    out.text("entries-of", &name(table));
    draft.tables.push(out);
    draft.counted.insert(other.clone(), Known { key, numbers, by_other_keys: Vec::new() });
    if let Some(known) = draft.counted.get_mut(table) {
        known.by_other_keys.push(other);
    }
}

/// All tables, for those who ask for them by HAProxy's names.
pub fn of_all(draft: &Draft) -> Vec<StickTable> {
    let each = draft.stick_tables.iter().map(|(called, rules)| {
        let after = |key: &str| rules.iter().skip_while(|w| *w != key).nth(1).map_or("", String::as_str);
        let known = draft.counted.get(called);
        StickTable {
            name: called.clone(),
            kind: after("type").to_owned(),
            size: size(after("size")).unwrap_or(0),
            stores: stored(rules),
            counted: known.map(|_| name(called)),
            numbers: known.map(|known| known.numbers.clone()).unwrap_or_default(),
        }
    });
    each.collect()
}

fn written(table: &str, key: &str, rules: &[String]) -> Table {
    let mut out = Table::default();
    let value = |wanted: &str| rules.iter().skip_while(|w| *w != wanted).nth(1);
    out.text("name", &name(table));
    out.text("key", key);
    if let Some(entries) = value("size").and_then(|text| size(text)) {
        out.set("size", entries.clamp(16, 16_777_216) as i64);
    }
    if let Some(expire) = value("expire").and_then(|text| duration(text, "ms")) {
        out.text("expire", &expire);
    }
    // Rates of one table have one period here.
    let periods = rules.iter().flat_map(|w| w.split("_rate(").skip(1));
    // Of `gpc_rate(N,PERIOD)` what stands behind the comma.
    let last = |rest: &str| rest.split(')').next()?.rsplit(',').next().map(str::to_owned);
    let period = periods.filter_map(|rest| duration(&last(rest)?, "ms")).next();
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
    // A text with one variable, as conditions ask it.
    let text = asked.strip_prefix("number(\"{").and_then(|rest| rest.strip_suffix("}\")"));
    if let Some(text) = text {
        return format!("counted({})", text.replace("\\\"", "\""));
    }
    let plain = asked.replace(['"', ' ', ')'], "").replace('(', ":");
    format!("counted({plain})")
}

impl Counted {
    pub fn of(proxy: &Proxy, keys: &Keys) -> Counted {
        let tracked: Vec<_> = proxy.words.iter().filter_map(|w| Some((w, track(w, &proxy.name)?))).collect();
        let place = |table: String, sample: &str| {
            place_of(keys, &table, sample).map_or_else(|| table.clone(), str::to_owned)
        };
        let changes = proxy.words.iter().any(|w| w.words.iter().take(3).any(|verb| verb.starts_with("sc-")));
        let conditional = |w: &Word| changes && w.words.iter().any(|word| word == "if" || word == "unless");
        let mut of = Counted { own: proxy.name.clone(), keys: keys.clone(), ..Counted::default() };
        for (word, (number, sample, table)) in tracked {
            if conditional(word) {
                of.sometimes.insert(number.clone());
            }
            of.presence.insert(number.clone(), sample::presence(&sample));
            of.by_number.insert(number, place(table, &sample));
        }
        of
    }

    /// The table that a rule counts in, and when there is something to count.
    pub fn tracked(&self, word: &Word) -> Result<(String, String), String> {
        let (_, sample, table) = track(word, &self.own).ok_or("not carried over")?;
        match place_of(&self.keys, &table, &sample) {
            Some(table) => Ok((name(table), sample::presence(&sample))),
            None => Err(format!("there is no table {table} with this key")),
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
            while let Some(at) = super::flags::begin_of(rest) {
                let (before, inner) = rest.split_at(at);
                let Some(end) = sample::end_of(inner) else { break };
                let of_table = self.of_table(&inner[..end]);
                out.push_str(before);
                out.push_str(&format!("{}]", of_table.as_deref().unwrap_or(&inner[..end])));
                rest = &inner[end + 1..];
            }
            *text = out + rest;
        }
        word
    }

    fn of_table(&self, text: &str) -> Option<String> {
        // Whether there is an entry is asked by conditions alone.
        if text.contains(",in_table") {
            return None;
        }
        let end = text.find([',', '(']).filter(|at| text[*at..].starts_with(','));
        let end = end.or_else(|| text.find("),").map(|at| at + 1));
        let (first, converters) = text.split_at(end.unwrap_or(text.len()));
        if let Some(Ok(figure)) = load::figure(first, &self.own)
            && !figure.text.is_empty()
        {
            return Some(format!("counted({}){converters}", figure.text));
        }
        if let Some(Ok(asked)) = self.asked(first) {
            return Some(counted(&asked) + converters);
        }
        self.converted(text)?.ok().map(|asked| counted(&asked))
    }

    /// `KEY,table_http_req_rate(TABLE)`: the entry of this request, where the table has that key.
    fn converted(&self, text: &str) -> Option<Result<String, String>> {
        if let Some((sample, table)) = asks_by_key(text, &self.own).filter(|_| text.contains(",in_table")) {
            return Some(match place_of(&self.keys, &table, &sample) {
                Some(table) => Ok(format!("in-table({})", quoted(&name(table)))),
                None => Err(format!("there is no table {table} with this key")),
            });
        }
        let (sample, converter) = text.rsplit_once(",table_")?;
        let (what, table) = match converter.strip_suffix(')') {
            Some(named) => named.split_once('(')?,
            None => (converter, ""),
        };
        let table = if table.is_empty() { self.own.as_str() } else { table };
        let Some(table) = place_of(&self.keys, table, sample) else {
            return Some(Err(format!("there is no table {table} with this key")));
        };
        let tracked = Counted { by_number: BTreeMap::from([("0".into(), table.to_owned())]), ..self.clone() };
        tracked.asked(&format!("sc_{what}(0)"))
    }

    /// What a proxy or a server has to do now, as what a condition asks.
    pub fn load(&self, fetch: &str) -> Option<Result<load::Figure, String>> {
        load::figure(fetch, &self.own)
    }

    /// `sc_http_req_rate(0)` and the like as what a condition asks; none where it is no such test.
    pub fn asked(&self, fetch: &str) -> Option<Result<String, String>> {
        if fetch.contains(",table_") || fetch.contains(",in_table") {
            return self.converted(fetch);
        }
        let (whole, arguments) = match fetch.split_once('(') {
            Some((whole, rest)) => (whole, rest.trim_end_matches(')')),
            None => (fetch, ""),
        };
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        let (table, what) = if let Some(what) = whole.strip_prefix("src_") {
            let table = if arguments[0].is_empty() { &*self.own } else { arguments[0] };
            (place_of(&self.keys, table, "src").unwrap_or(table).to_owned(), what)
        } else {
            let rest = whole.strip_prefix("sc")?;
            let (number, what, named) = match rest.strip_prefix('_') {
                Some(what) => (arguments[0], what, arguments.get(1)),
                None => (rest.get(..1)?, rest.get(1..)?.strip_prefix('_')?, arguments.first()),
            };
            let named = named.filter(|t| !t.is_empty()).map(|t| (*t).to_owned());
            (self.by_key_of(named, number)?, what)
        };
        let (function, counter) = match what {
            "http_req_rate" => ("rate", "requests"),
            "http_req_cnt" => ("count", "requests"),
            "http_err_rate" => ("rate", "errors"),
            "http_err_cnt" => ("count", "errors"),
            "conn_rate" => ("rate", "connections"),
            "conn_cnt" => ("count", "connections"),
            "conn_cur" | "trackers" => ("count", "current"),
            "sess_cnt" => ("count", "connections"),
            "sess_rate" => ("rate", "connections"),
            "http_fail_cnt" => ("count", "failures"),
            "http_fail_rate" => ("rate", "failures"),
            "bytes_in_rate" => ("rate", "bytes-in"),
            "bytes_out_rate" => ("rate", "bytes-out"),
            "kbytes_in" => ("count", "bytes-in"),
            "kbytes_out" => ("count", "bytes-out"),
            // No server stands in a table that counts.
            "server_id" => return Some(Ok("number(\"{\\\"0\\\"}\")".into())),
            _ => {
                let index = arguments.iter().find_map(|word| word.parse::<u32>().ok());
                let number = self.number_of(&table, what, index)?;
                let function = if what.ends_with("_rate") { "rate" } else { "count" };
                return Some(number.and_then(|number| {
                    self.asks_own(&table, whole)?;
                    Ok(format!("{function}({}, \"{number}\")", quoted(&name(&table))))
                }));
            }
        };
        if what.starts_with("kbytes") {
            let table = name(&table);
            return Some(Ok(format!("number(\"{{count:{table},{counter}|div(1024)}}\")")));
        }
        let own = self.asks_own(&table, whole);
        Some(own.map(|()| format!("{function}({}, \"{counter}\")", quoted(&name(&table)))))
    }

    /// The table that a sample names, by the key of its number where that is tracked in it.
    fn by_key_of(&self, named: Option<String>, number: &str) -> Option<String> {
        let tracked = self.by_number.get(number);
        let Some(named) = named else { return tracked.cloned() };
        let others = self.keys.get(&named).map_or(&[][..], |known| &known.by_other_keys);
        Some(tracked.filter(|tracked| others.contains(tracked)).cloned().unwrap_or(named))
    }

    /// Whether a sample asks the entry of the request's own key.
    fn asks_own(&self, table: &str, whole: &str) -> Result<(), String> {
        let key = self.keys.get(table).map(|known| known.key.as_str());
        match key {
            Some(key) if !whole.starts_with("src_") || key == "{source}" => Ok(()),
            _ => Err(format!("nothing is tracked in the table {table} by this key")),
        }
    }

    /// The number that `get_gpc0`, `gpc1_rate`, `get_gpt` and their like mean; none where it is none of them.
    fn number_of(&self, table: &str, what: &str, index: Option<u32>) -> Option<Result<String, String>> {
        let bare = what.trim_start_matches("get_").trim_end_matches("_rate");
        let wanted = match bare {
            "gpc0" | "gpc1" | "gpt0" => format!("{}:{}", &bare[..3], &bare[3..]),
            "gpc" | "gpt" => format!("{bare}:{}", index.unwrap_or(0)),
            _ => return None,
        };
        let known = self.keys.get(table);
        let at = known.and_then(|known| known.numbers.iter().position(|one| *one == wanted));
        Some(match at.filter(|at| *at < NUMBERS) {
            Some(at) => Ok(format!("number-{}", at + 1)),
            None => Err(format!("the table {table} does not store {}", wanted.replace(':', "(") + ")")),
        })
    }

    /// `sc-inc-gpc0(0)`, `sc-add-gpc(1,0) 5`, `sc-set-gpt0(0) 7` as what a route counts, and when it does.
    pub fn action(&self, verb: &str, value: &str) -> Option<Result<(Table, String), String>> {
        let (verb, arguments) = verb.split_once('(')?;
        let what = ["sc-inc-", "sc-add-", "sc-set-"].iter().find_map(|start| verb.strip_prefix(start))?;
        let arguments: Vec<&str> = arguments.trim_end_matches(')').split(',').map(str::trim).collect();
        // An array's index comes before the number of `track-sc`.
        let (index, number) = match (what, arguments.as_slice()) {
            ("gpc" | "gpt", [index, number]) => (index.parse::<u32>().ok(), *number),
            (_, [number]) => (None, *number),
            _ => return Some(Err(format!("{verb}: an index and a number of track-sc are needed"))),
        };
        let by_source = number.strip_prefix("src:");
        let by_source = by_source.map(|table| place_of(&self.keys, table, "src").unwrap_or(table));
        let named = number.strip_prefix("table:").or(by_source).map(str::to_owned);
        let Some(table) = &named.or_else(|| self.by_number.get(number).cloned()) else {
            return Some(Err(format!("{verb}: nothing is tracked as track-sc{number} in this section")));
        };
        let own = by_source.map_or(Ok(()), |table| self.asks_own(table, "src_"));
        if let Err(why) = own {
            return Some(Err(why));
        }
        let counter = match self.number_of(table, what, index)? {
            Ok(counter) => counter,
            Err(why) => return Some(Err(why)),
        };
        let mut count = Table::default().with_text("table", &name(table)).with_text("number", &counter);
        if !verb.starts_with("sc-inc") {
            let value = match value.parse::<u64>() {
                Ok(number) => number.to_string(),
                Err(_) => match sample::template(value) {
                    Ok(text) => text,
                    Err(why) => return Some(Err(why)),
                },
            };
            count.text(if verb.starts_with("sc-set") { "set" } else { "add" }, &value);
        }
        let when = if self.sometimes.contains(number) {
            format!("variable({})", quoted(&tracked(number)))
        } else {
            self.presence.get(number).cloned().unwrap_or_default()
        };
        Some(Ok((count, when)))
    }

    /// The variable that says that a request is counted under a number, where a condition decides.
    pub fn notes(&self, word: &Word) -> Option<String> {
        let (number, ..) = track(word, &self.own)?;
        self.sometimes.contains(&number).then(|| tracked(&number))
    }
}

fn tracked(number: &str) -> String {
    format!("txn.tracks-sc{number}")
}
