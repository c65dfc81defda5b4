//! `stick`, `persist`, `cookie` and `appsession` as the persistence of a pool.

use super::bind::{cookie, size};
use super::proxy::{Proxy, Word};
use super::sample;
use crate::draft::{Draft, Pool, Table};
use crate::words::duration;

/// What a `stick` line keeps clients by: the kind of persistence, and what it is called there.
#[derive(Clone, PartialEq, Eq)]
struct By {
    kind: &'static str,
    name: String,
    /// Leading bits of addresses.
    masks: Vec<String>,
}

const NONE: &str = "not carried over: clients are kept by src, dst, a header, a cookie, url_param, an RDP cookie \
                    or ssl_fc_session_id, as they come";

/// Reads the sample of a `stick` line.
fn by(text: &str) -> Option<By> {
    let parts = sample::chain(text);
    let (first, converters) = parts.split_first()?;
    let argument = first.1.as_deref().unwrap_or("");
    let made = |kind, name: &str| Some(By { kind, name: name.trim().to_owned(), masks: Vec::new() });
    let named = || Some(argument.split(',').next().unwrap_or("")).filter(|name| !name.is_empty());
    if let [(mask, Some(bits))] = converters
        && mask == "ipmask"
        && first.0 == "src"
    {
        let masks = bits.split(',').map(|bits| bits.trim().to_owned()).collect();
        return Some(By { kind: "source", name: String::new(), masks });
    }
    if !converters.is_empty() {
        return None;
    }
    match first.0.as_str() {
        "src" => made("source", ""),
        "dst" => made("destination", ""),
        "rdp_cookie" | "req.rdp_cookie" | "req_rdp_cookie" => made("rdp-cookie", ""),
        "ssl_fc_session_id" => made("tls-session-id", ""),
        "hdr" | "req.hdr" | "fhdr" | "req.fhdr" => made("header", named()?),
        "url_param" | "urlp" if !argument.contains(',') => made("query", named()?),
        "cook" | "req.cook" | "cookie" | "res.cook" | "scook" | "set-cookie" => made("app-cookie", named()?),
        _ => None,
    }
}

impl By {
    fn needs_http(&self) -> bool {
        ["header", "query", "app-cookie"].contains(&self.kind)
    }
}

/// The table that entries are in, as keys of persistence.
struct Entries {
    expire: Option<String>,
    size: Option<i64>,
}

impl Entries {
    /// `words`: those of the `stick-table` line; none where there is none.
    fn of(words: &[String]) -> Entries {
        let after = |key: &str| words.iter().skip_while(|w| *w != key).nth(1).cloned();
        let expire = after("expire").and_then(|e| duration(&e, "ms"));
        // Without a time an entry stays.
        let expire = expire.or_else(|| (!words.is_empty()).then(|| "365d".to_owned()));
        let size = after("size").and_then(|text| Some(size(&text)?.clamp(16, 16_777_216) as i64));
        Entries { expire, size }
    }

    fn table(&self, by: &By) -> Table {
        let mut value = Table::default().with_text("type", by.kind);
        if let Some(expire) = &self.expire {
            value.text(if by.kind == "source" { "timeout" } else { "expire" }, expire);
        }
        if let Some(size) = self.size {
            value.set("size", size);
        }
        if !by.name.is_empty() {
            value.text("name", &by.name);
        }
        for (key, mask) in ["mask", "mask6"].iter().zip(&by.masks) {
            if let Some(bits) = crate::draft::prefix(mask) {
                value.set(key, bits);
            }
        }
        value
    }
}

impl Proxy {
    pub(super) fn persistence(&self, pool: &mut Pool, draft: &mut Draft) {
        // A table of its own, or that of another proxy.
        let named = self.all("stick").find_map(|w| w.words.iter().skip_while(|w| *w != "table").nth(1));
        let table = draft.stick_tables.get(named.unwrap_or(&self.name)).cloned().unwrap_or_default();
        let entries = Entries::of(&table);
        let balances_rdp =
            !self.is_http() && self.last("balance").is_some_and(|w| w.arg(1).starts_with("rdp-cookie"));
        if self.all("persist").any(|w| w.arg(1).starts_with("rdp-cookie")) || balances_rdp {
            let rdp = By { kind: "rdp-cookie", name: String::new(), masks: Vec::new() };
            pool.table.set("persistence", entries.table(&rdp));
        }
        self.sticks(&entries, named, pool, draft);
        if let Some(word) = self.last("cookie").filter(|_| self.is_http()) {
            pool.table.set("persistence", cookie(word, draft));
        }
        if let Some(word) = self.last("appsession") {
            let kept = Table::default().with_text("type", "app-cookie").with_text("name", word.arg(1));
            pool.table.set("persistence", kept);
        }
    }

    fn sticks(&self, entries: &Entries, named: Option<&String>, pool: &mut Pool, draft: &mut Draft) {
        let mut kept: Option<By> = None;
        for word in self.all("stick").filter(|word| ["on", "match"].contains(&word.arg(1))) {
            let found = by(word.arg(2)).filter(|by| self.is_http() || !by.needs_http());
            let Some(by) = found else {
                draft.left(word.line, &word.written, NONE);
                continue;
            };
            if kept.as_ref().is_some_and(|kept| *kept != by) {
                let why = "a pool keeps its clients in one way: by what the first such line names";
                draft.left(word.line, &word.written, why);
                continue;
            }
            if word.words.iter().any(|w| w == "if" || w == "unless") {
                draft.left(word.line, &word.written, "all clients are kept, whatever its condition");
            } else if word.arg(1) == "match" && named.is_some_and(|table| *table != self.name) {
                let why = "clients are kept by this pool's own entries, not by those of another";
                draft.left(word.line, &word.written, why);
            }
            let learned = |word: &Word| word.arg(1) == "store-response";
            if by.kind == "app-cookie" && !self.all("stick").any(learned) {
                draft.note(word.line, "stick", "the cookie is learned from answers as well");
            }
            pool.table.set("persistence", entries.table(&by));
            kept = Some(by);
        }
        for word in self.all("stick").filter(|word| word.arg(1).starts_with("store-")) {
            let stored = by(word.arg(2));
            let of_answers = word.arg(1) == "store-response";
            let learned =
                stored.as_ref().is_some_and(|by| ["app-cookie", "tls-session-id"].contains(&by.kind));
            let differs = match &kept {
                None if of_answers => Some("no line asks for what is stored"),
                // It is never asked for.
                None => None,
                Some(kept) if stored.as_ref() != Some(kept) => {
                    Some("what is stored is not what is asked for")
                }
                Some(_) if of_answers && !learned => Some("answers are looked at for cookies alone"),
                Some(_) => None,
            };
            // A table that others ask is theirs.
            if let Some(why) = differs {
                draft.left(word.line, &word.written, format!("not carried over: {why}"));
            }
        }
    }
}
