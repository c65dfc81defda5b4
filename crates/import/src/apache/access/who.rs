//! Whom the rules of one section let in.
//!
//! What a route cannot ask counts as if nobody were meant: it never lets anybody in, and it is told.

use super::super::Words;
use super::login::{Login, Users};
use crate::draft::Draft;
use crate::words::quoted;

#[derive(Clone, Debug, PartialEq)]
pub enum Who {
    All,
    Nobody,
    Those(String),
}

impl Who {
    pub fn not(self) -> Who {
        match self {
            Who::All => Who::Nobody,
            Who::Nobody => Who::All,
            Who::Those(when) => Who::Those(format!("!({when})")),
        }
    }

    pub fn and(self, other: Who) -> Who {
        match (self, other) {
            (Who::Nobody, _) | (_, Who::Nobody) => Who::Nobody,
            (Who::All, one) | (one, Who::All) => one,
            (Who::Those(a), Who::Those(b)) if a == b => Who::Those(a),
            (Who::Those(a), Who::Those(b)) => Who::Those(format!("({a}) && ({b})")),
        }
    }

    pub fn or(self, other: Who) -> Who {
        match (self, other) {
            (Who::All, _) | (_, Who::All) => Who::All,
            (Who::Nobody, one) | (one, Who::Nobody) => one,
            (Who::Those(a), Who::Those(b)) if a == b => Who::Those(a),
            (Who::Those(a), Who::Those(b)) => Who::Those(format!("({a}) || ({b})")),
        }
    }
}

/// One kind of rules of a section. Sections take each other's place within a kind; all kinds must let a
/// request in.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Who comes in without a password.
    pub at_once: Who,
    /// Who comes in with one.
    pub with_password: Who,
    pub users: Option<Users>,
    pub status: u16,
}

impl Rule {
    fn plain(who: Who) -> Rule {
        Rule { at_once: who.clone(), with_password: who, users: None, status: 403 }
    }

    pub fn nobody() -> Rule {
        Rule::plain(Who::Nobody)
    }

    pub fn lets_all_in(&self) -> bool {
        self.at_once == Who::All
    }
}

/// The kinds: `Require`, `Order` with `Allow` and `Deny`, TLS, methods.
pub type Rules = [Option<Rule>; 4];

/// Rules that stand in a `Limit`, and those that stand in none.
struct Part<'a> {
    methods: Option<Who>,
    rules: Vec<&'a Words>,
}

/// What the rules of a section say. `Err`: they are no rules of routes, and nobody comes in.
pub fn read(rules: &[Words], login: &Login, draft: &mut Draft) -> Result<Rules, String> {
    let is = |words: &[String], names: &[&str]| names.iter().any(|name| words[0].eq_ignore_ascii_case(name));
    let has = |names: &[&str]| rules.iter().any(|(_, words)| is(words, names));
    let any = |(_, w): &&Words| w.get(1).is_some_and(|w| w.eq_ignore_ascii_case("any"));
    if rules.iter().filter(|(_, words)| is(words, &["satisfy"])).any(|line| any(&line)) {
        return Err("Satisfy Any lets in by either of two kinds of rules".into());
    }
    let merges = |(_, w): &&Words| w.get(1).is_some_and(|w| !w.eq_ignore_ascii_case("off"));
    if rules.iter().filter(|(_, words)| is(words, &["authmerging"])).any(|line| merges(&line)) {
        return Err("AuthMerging adds to the rules of other sections".into());
    }
    let mut parts = parts(rules)?;
    let mut found: Rules = [None, None, None, None];
    if requires(rules) {
        found[0] = Some(required(&parts, login, draft)?);
    }
    if has(&["order", "allow", "deny"]) {
        found[1] = Some(Rule::plain(by_order(&mut parts, draft)?));
    }
    for (at, words) in rules {
        let value = words.get(1).map_or(String::new(), |w| w.to_lowercase());
        match words[0].to_lowercase().as_str() {
            "sslrequiressl" => found[2] = Some(Rule::plain(Who::Those("tls()".into()))),
            "sslverifyclient" if value == "none" => {}
            word @ ("sslverifyclient" | "sslrequire") => {
                draft.grave(
                    *at,
                    &words.join(" "),
                    format!("{word} asks for certificates: {}", super::CLOSED),
                );
                found[2] = Some(Rule::nobody());
            }
            "allowmethods" if value == "reset" => {
                found[3] = Some(Rule { status: 405, ..Rule::plain(Who::All) });
            }
            "allowmethods" => {
                found[3] = Some(Rule { status: 405, ..Rule::plain(methods(&words[1..])) });
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Whether there is a `Require` among the rules.
pub fn requires(rules: &[Words]) -> bool {
    rules.iter().any(|(_, words)| words[0].to_lowercase().starts_with("require"))
}

/// Rules by the methods that they are for.
fn parts(rules: &[Words]) -> Result<Vec<Part<'_>>, String> {
    let mut all = vec![Part { methods: None, rules: Vec::new() }];
    let (mut in_limit, mut depth) = (false, 0);
    for line in rules {
        let words = &line.1;
        let keyword = words[0].to_lowercase();
        match keyword.as_str() {
            "<limit" | "<limitexcept" => {
                if in_limit || depth > 0 {
                    return Err(format!("{} stands within other rules", words.join(" ")));
                }
                in_limit = true;
                let named: Vec<String> =
                    words[1..].iter().map(|w| w.trim_end_matches('>').to_owned()).collect();
                let who = methods(&named);
                let who = if keyword == "<limit" { who } else { who.not() };
                all.push(Part { methods: Some(who), rules: Vec::new() });
            }
            "</limit>" | "</limitexcept>" => in_limit = false,
            word if word.starts_with("<if") || word.starts_with("<else") => {
                return Err(format!("{} is a condition of its own", words.join(" ")));
            }
            word => {
                depth += i32::from(word.starts_with("<require")) - i32::from(word.starts_with("</require"));
                let at = if in_limit { all.len() - 1 } else { 0 };
                all[at].rules.push(line);
            }
        }
    }
    Ok(all)
}

fn methods(words: &[String]) -> Who {
    let mut named: Vec<String> =
        words.iter().map(|w| w.to_uppercase()).filter(|w| !w.is_empty()).map(|w| quoted(&w)).collect();
    // Who may ask for a page may ask for its head.
    if named.iter().any(|name| name == "\"GET\"") && !named.iter().any(|name| name == "\"HEAD\"") {
        named.push("\"HEAD\"".into());
    }
    match named.is_empty() {
        true => Who::Nobody,
        false => Who::Those(format!("method({})", named.join(", "))),
    }
}

/// `Require` and its containers. Those of other methods than the request's do not count; where none counts,
/// everybody comes in.
fn required(parts: &[Part<'_>], login: &Login, draft: &mut Draft) -> Result<Rule, String> {
    let mut users = None;
    let mut each = Vec::new();
    for password in [false, true] {
        let mut who = Who::Nobody;
        let mut none_counts = Who::All;
        for part in parts {
            let lines: Vec<&Words> = part
                .rules
                .iter()
                .filter(|(_, w)| {
                    w[0].to_lowercase().contains("require") && !w[0].to_lowercase().starts_with("ssl")
                })
                .copied()
                .collect();
            let mut reader = Reader { password, users: Vec::new(), login, draft, rest: lines.iter() };
            let Some(found) = reader.container("any", false)? else { continue };
            users = users.or(login.users(&reader.users)?);
            let methods = part.methods.clone().unwrap_or(Who::All);
            none_counts = none_counts.and(methods.clone().not());
            who = who.or(methods.and(found));
        }
        each.push(who.or(none_counts));
    }
    let with_password = each.pop().unwrap_or(Who::Nobody);
    let at_once = each.pop().unwrap_or(Who::Nobody);
    Ok(Rule { at_once, with_password, users, status: 403 })
}

struct Reader<'a, 'b> {
    /// As if the right one came along.
    password: bool,
    /// The lists of users that were met.
    users: Vec<Vec<String>>,
    login: &'b Login,
    draft: &'b mut Draft,
    rest: std::slice::Iter<'a, &'a Words>,
}

impl Reader<'_, '_> {
    /// The rules up to the end of a container of a kind: `any`, `all` or `none`.
    fn container(&mut self, kind: &str, is_negated: bool) -> Result<Option<Who>, String> {
        let mut each: Vec<(bool, Who)> = Vec::new();
        while let Some((at, words)) = self.rest.next() {
            let keyword = words[0].to_lowercase();
            let one = match keyword.as_str() {
                "<requireany>" => self.container("any", is_negated)?.map(|who| (false, who)),
                "<requireall>" => self.container("all", is_negated)?.map(|who| (false, who)),
                // It fails where one holds, and lets nobody in by itself.
                "<requirenone>" => self.container("none", !is_negated)?.map(|who| (true, who.not())),
                "require" => Some(self.require(*at, &words[1..], is_negated)?),
                word if word.starts_with("</") => break,
                _ => return Err(format!("{} is not understood", words.join(" "))),
            };
            each.extend(one);
        }
        if each.is_empty() {
            return Ok(None);
        }
        let negated = each.iter().any(|(negated, _)| *negated);
        Ok(Some(match kind {
            // As in Apache, what only refuses lets nobody in.
            "all" if each.iter().all(|(negated, _)| *negated) => Who::Nobody,
            "all" => each.into_iter().fold(Who::All, |all, (_, who)| all.and(who)),
            _ if negated => return Err("`not` stands where it has no effect".into()),
            _ => each.into_iter().fold(Who::Nobody, |all, (_, who)| all.or(who)),
        }))
    }

    /// One `Require`; whether it is negated.
    fn require(&mut self, at: usize, words: &[String], is_negated: bool) -> Result<(bool, Who), String> {
        let lower: Vec<String> = words.iter().map(|w| w.to_lowercase()).collect();
        let plain: Vec<&str> = lower.iter().map(String::as_str).collect();
        let who = match plain.as_slice() {
            ["not", "not", ..] => return Err("not not".into()),
            ["not", ..] => return Ok((true, self.require(at, &words[1..], !is_negated)?.1.not())),
            ["all", "granted"] => Who::All,
            ["all", "denied"] => Who::Nobody,
            ["local"] => Who::Those(super::LOCAL.into()),
            ["ip", all @ ..] if !all.is_empty() => {
                sources(at, &format!("Require {}", words.join(" ")), all, is_negated, self.draft)
            }
            ["method", ..] if words.len() > 1 => methods(&words[1..]),
            ["valid-user"] | ["user", _, ..] if !is_negated && self.login.is_known() => {
                self.users.push(words[1..].to_vec());
                if self.password { Who::All } else { Who::Nobody }
            }
            ["valid-user"] | ["user", ..] if is_negated => {
                return Err(format!("Require not {} has no counterpart", words.join(" ")));
            }
            ["valid-user"] | ["user", ..] => {
                let why = self.login.why();
                self.unknown(at, &format!("Require {}", words.join(" ")), &why, is_negated)
            }
            ["host" | "forward-dns", ..] => {
                let why = "names of clients are not looked up";
                self.unknown(at, &format!("Require {}", words.join(" ")), why, is_negated)
            }
            _ => {
                self.unknown(at, &format!("Require {}", words.join(" ")), "it has no counterpart", is_negated)
            }
        };
        Ok((false, who))
    }

    /// What no route can ask: nobody comes in by it.
    fn unknown(&mut self, at: usize, text: &str, why: &str, is_negated: bool) -> Who {
        self.draft.grave(at, text, format!("{why}: {}", super::NOBODY));
        if is_negated { Who::All } else { Who::Nobody }
    }
}

/// `Order`, `Allow from` and `Deny from`; at most one `Limit` has some.
fn by_order(parts: &mut [Part<'_>], draft: &mut Draft) -> Result<Who, String> {
    let is_old = |line: &&Words| ["order", "allow", "deny"].contains(&line.1[0].to_lowercase().as_str());
    parts.iter_mut().for_each(|part| part.rules.retain(is_old));
    let Some((outside, limits)) = parts.split_first() else { return Ok(Who::All) };
    let mut limits = limits.iter().filter(|part| !part.rules.is_empty());
    let others = match outside.rules.is_empty() {
        true => Who::All,
        false => one_order(outside.rules.iter().copied(), draft)?,
    };
    match (limits.next(), limits.next()) {
        (None, _) => Ok(others),
        (Some(limit), None) => {
            let inside = one_order(outside.rules.iter().chain(&limit.rules).copied(), draft)?;
            let methods = limit.methods.clone().unwrap_or(Who::All);
            Ok(methods.clone().and(inside).or(methods.not().and(others)))
        }
        _ => Err("Order, Allow and Deny of several groups of methods are no route here".into()),
    }
}

fn one_order<'a>(rules: impl Iterator<Item = &'a Words>, draft: &mut Draft) -> Result<Who, String> {
    let (mut allow, mut deny, mut allow_first) = (Who::Nobody, Who::Nobody, false);
    for (at, words) in rules {
        let keyword = words[0].to_lowercase();
        if keyword == "order" {
            let order = words[1..].concat().to_lowercase();
            allow_first = match order.as_str() {
                "deny,allow" => false,
                "allow,deny" | "mutual-failure" => true,
                other => return Err(format!("Order {other} is not known")),
            };
            continue;
        }
        if !words.get(1).is_some_and(|w| w.eq_ignore_ascii_case("from")) {
            return Err(format!("{} has no counterpart", words.join(" ")));
        }
        let lower: Vec<String> = words[2..].iter().map(|w| w.to_lowercase()).collect();
        let who = match lower.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["all"] => Who::All,
            all => sources(*at, &words.join(" "), all, keyword == "deny", draft),
        };
        let side = if keyword == "allow" { &mut allow } else { &mut deny };
        *side = side.clone().or(who);
    }
    Ok(if allow_first { allow.and(deny.not()) } else { deny.not().or(allow) })
}

/// Addresses and networks, those of the first numbers alone as well. `refuses`: who is among them stays out, so
/// that a name which cannot be asked stands for everybody.
fn sources(at: usize, rule: &str, all: &[&str], refuses: bool, draft: &mut Draft) -> Who {
    let mut each = Vec::new();
    let mut who = Who::Nobody;
    for text in all {
        match (network(text), *text) {
            (Some(network), _) => each.push(quoted(&network)),
            (None, "localhost") => each.extend(["\"127.0.0.0/8\"".to_owned(), "\"::1/128\"".to_owned()]),
            (None, _) => {
                let why = format!("{text} is no address, and names and variables of clients are not asked");
                draft.grave(at, rule, format!("{why}: {}", super::NOBODY));
                if refuses {
                    who = Who::All;
                }
            }
        }
    }
    match each.is_empty() {
        true => who,
        false => who.or(Who::Those(format!("source({})", each.join(", ")))),
    }
}

fn network(text: &str) -> Option<String> {
    let (host, mask) = text.split_once('/').map_or((text, None), |(host, mask)| (host, Some(mask)));
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        let most = u32::from(evenkeel_model::host_prefix(address));
        let length = mask.map_or(Some(most), crate::draft::prefix).filter(|n| *n <= most)? as u8;
        return Some(format!("{}/{length}", evenkeel_model::mask_address(address, length, length)));
    }
    // `10.1` is all that begins with it.
    let parts: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let sound = parts.len() < 4 && parts.iter().all(|part| part.parse::<u8>().is_ok());
    if !sound || mask.is_some_and(|_| parts.len() < 4) {
        return None;
    }
    let whole: Vec<&str> = parts.iter().copied().chain(std::iter::repeat("0")).take(4).collect();
    Some(format!("{}/{}", whole.join("."), parts.len() * 8))
}
