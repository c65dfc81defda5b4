//! What is done to requests and answers on their way: headers, paths, places in answers.

use super::conditions::{self, report};
use super::{General, syntax::keyword};
use crate::draft::{Draft, Service, Table, Value, also};
use crate::tree::Node;
use crate::words::{is_token, literal, name};

/// A text as Evenkeel has it: `%[path]` and the like become variables, `$1` the group of the route's condition.
pub fn text(text: &str) -> Result<String, String> {
    let mut made = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['%', '$']) {
        made.push_str(&literal(&rest[..at]));
        rest = &rest[at..];
        if let Some(sign) =
            rest.strip_prefix("$$").map(|_| '$').or_else(|| rest.strip_prefix("$%").map(|_| '%'))
        {
            made.push(sign);
            rest = &rest[2..];
            continue;
        }
        let taken = if rest.starts_with('%') { accessor(rest, &mut made)? } else { group(rest, &mut made)? };
        rest = &rest[taken..];
    }
    made.push_str(&literal(rest));
    Ok(made)
}

/// `%[NAME ARGUMENT]`; how many bytes it takes.
fn accessor(rest: &str, made: &mut String) -> Result<usize, String> {
    let Some(inner) = rest.strip_prefix("%[") else {
        made.push('%');
        return Ok(1);
    };
    let end = inner.find(']').ok_or("%[ is not closed")?;
    let words: Vec<&str> = inner[..end].split_whitespace().collect();
    made.push_str(&match words[..] {
        ["url"] => "{uri}".to_owned(),
        ["path"] => "{path}".into(),
        ["query"] => "{query}".into(),
        ["host"] => "{host}".into(),
        ["remoteip"] | ["remoteip", "0"] => "{source}".into(),
        ["param", of] if is_token(of) => format!("{{query:{of}}}"),
        ["header", of] if is_token(of) => format!("{{header:{of}}}"),
        _ => return Err(format!("%[{}] is not known here", &inner[..end])),
    });
    Ok(end + 3)
}

/// `$1` or `${1}`; how many bytes it takes.
fn group(rest: &str, made: &mut String) -> Result<usize, String> {
    let (digits, around) = match rest[1..].strip_prefix('{') {
        Some(inner) => (inner, 3),
        None => (&rest[1..], 1),
    };
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let closed = around == 1 || digits[length..].starts_with('}');
    let behind = digits[length..].starts_with('(');
    match digits[..length].parse::<u8>() {
        Ok(1..=9) if closed && !behind => made.push_str(&format!("{{{}}}", &digits[..length])),
        _ if length == 0 => made.push('$'),
        _ => return Err("only $1 to $9, of the last pattern, are carried over".into()),
    }
    Ok(if length == 0 { 1 } else { length + around })
}

/// Whether a text has groups of a pattern.
pub fn has_groups(text: &str) -> bool {
    text.as_bytes().windows(2).any(|pair| pair[0] == b'$' && (pair[1].is_ascii_digit() || pair[1] == b'{'))
}

/// The name of headers that a pattern takes away; its `.*` is a `*`.
fn removed(pattern: &str) -> Option<String> {
    let name = pattern.split(':').next().unwrap_or("").trim_start_matches('^').trim_end_matches('$');
    let name = name.replace(".*", "*");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_*".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

/// Takes away what `DeleteHeader` and its older names mean.
fn remove(node: &Node, route: &mut Table, draft: &mut Draft) {
    let pattern = node.words.iter().skip(1).rfind(|word| !word.starts_with('-')).map_or("", String::as_str);
    let options: Vec<&str> =
        node.words.iter().skip(1).map(String::as_str).filter(|w| w.starts_with('-')).collect();
    let (names, values) = pattern.split_once(':').unwrap_or((pattern, ""));
    let whole = values.trim().is_empty() || ["*", ".*", ".*$"].contains(&values.trim());
    let way = options.iter().find(|o| !["-icase", "-case", "-re", "-posix", "-pcre", "-perl"].contains(o));
    match (way, removed(pattern)) {
        (None, Some(header)) if whole => route.push("remove-header", Value::text(&header)),
        (Some(&"-exact"), Some(header)) if !header.contains('*') && values.is_empty() => {
            route.push("remove-header", Value::text(&header));
        }
        (Some(&"-beg"), Some(header)) if !header.contains('*') && values.is_empty() => {
            route.push("remove-header", Value::text(format!("{header}*")));
        }
        (None, None) if whole && evenkeel_rules::regex(&names.to_lowercase(), false).is_ok() => {
            route.push("remove-header-matching", Value::text(names.to_lowercase()));
        }
        _ => draft.grave(
            node.line,
            &node.words.join(" "),
            "what it takes away is more than names: the header stays",
        ),
    }
}

/// What one line changes, in the routes that it takes: in front what goes away, then what is set.
#[derive(Default)]
pub struct Changes {
    pub removals: Table,
    pub rest: Table,
}

impl Changes {
    /// Whether the line changes something; what it is is taken up, or told.
    pub fn take(&mut self, node: &Node, draft: &mut Draft) -> bool {
        let value = node.words.iter().skip(1).rfind(|word| !word.starts_with('-')).map_or("", String::as_str);
        let key = match keyword(&node.words).as_str() {
            "headremove" | "headerremove" | "deleteheader" => {
                remove(node, &mut self.removals, draft);
                return true;
            }
            "addheader" | "headeradd" | "setheader" => {
                self.set_header(node, value, draft);
                return true;
            }
            "seturl" => "rewrite-uri",
            "setpath" => "rewrite-path",
            "setquery" => "rewrite-query",
            _ => return false,
        };
        match text(value) {
            Ok(_) if node.words.iter().any(|word| word == "-encode") => draft.grave(
                node.line,
                &node.words.join(" "),
                "-encode is not carried over: nothing is changed",
            ),
            Ok(value) => self.rest.text(key, &value),
            Err(why) => draft.grave(node.line, &node.words.join(" "), format!("{why}: nothing is changed")),
        }
        true
    }

    fn set_header(&mut self, node: &Node, value: &str, draft: &mut Draft) {
        let (header, value) = value.split_once(':').unwrap_or((value, ""));
        let header = header.trim();
        // Old versions know no variables, and have no other meaning for their signs.
        let sets = node.is("SetHeader");
        let value = match sets {
            true => text(value.trim()),
            false => Ok(literal(value.trim())),
        };
        match value {
            Ok(value) if is_token(header) => {
                // A client's own word for it must not stand beside.
                self.rest.add_name("set-header", header, &value);
            }
            Ok(_) => {
                draft.left(node.line, &node.words.join(" "), "a name and a colon are needed: it is not added")
            }
            Err(why) => draft.left(node.line, &node.words.join(" "), format!("{why}: it is not added")),
        }
    }

    /// The removals first, as a route of its own: a route sets before it removes.
    pub fn into_routes(self, when: &str, label: &str) -> Vec<Table> {
        let mut routes = Vec::new();
        for (table, what) in [(self.removals, "without"), (self.rest, "with")] {
            if table.lines.is_empty() {
                continue;
            }
            let mut route = Table::default();
            route.text("name", &name(&format!("{what}-{label}")));
            also(&mut route, when);
            route.adopt(&table);
            routes.push(route);
        }
        routes
    }
}

/// A `Rewrite` block: of requests as routes with a condition, of answers where it has none.
pub fn rewrite(node: &Node, around: &str, general: &General<'_>, service: &mut Service, draft: &mut Draft) {
    let told = node.words.join(" ");
    if node.children.iter().any(|child| child.is("Else")) {
        return draft.grave(
            node.line,
            &told,
            "blocks with Else are not carried over: write a route for each",
        );
    }
    let of_answers = node.words.get(1).is_some_and(|word| word.eq_ignore_ascii_case("response"));
    let mut changes = Changes::default();
    for child in &node.children {
        let known = changes.take(child, draft);
        if !known
            && (of_answers || conditions::all(std::iter::once(child), general).is_ok_and(|c| c.is_empty()))
        {
            return draft.grave(child.line, &child.words.join(" "), "the block is not carried over");
        }
    }
    if of_answers {
        let mut routes = changes.into_routes("", "answers");
        routes.iter_mut().for_each(|route| also(route, around));
        return service.answer_routes.extend(routes);
    }
    match conditions::all(node.children.iter(), general) {
        Ok(when) => {
            let mut routes = changes.into_routes(&when, &format!("rewrite-{}", node.line));
            routes.iter_mut().for_each(|route| also(route, around));
            service.routes.extend(routes);
        }
        Err(unasked) => report(&unasked, "the block", draft),
    }
}

/// `RewriteLocation`, which is 1 where nothing is said: places at a real server become places at the host that was
/// asked for, and those at this listener with the other scheme get its own.
pub fn locations(node: &Node, https: bool, servers: &[String], service: &mut Service) {
    let level = node.value("RewriteLocation").unwrap_or("1");
    if level == "0" {
        return;
    }
    let mut from: Vec<String> = servers.iter().map(|server| format!("http://{server}")).collect();
    from.extend(
        servers.iter().filter_map(|server| server.strip_suffix(":80")).map(|host| format!("http://{host}")),
    );
    let over_tls: Vec<String> = from.iter().map(|place| place.replacen("http", "https", 1)).collect();
    from.extend(over_tls.into_iter().filter(|_| level == "1"));
    if !from.is_empty() {
        let mut route = Table::commented(vec!["RewriteLocation: places at servers are places here.".into()]);
        route.text("name", "places");
        let mut places = Table::default();
        places.texts("from", &from);
        places.text("to", "/");
        route.set("rewrite-location", places);
        service.answer_routes.push(route);
    }
    if level == "1" && https {
        let mut route = Table::default();
        route.text("name", "own-scheme");
        route.when("answer-header(\"Location\") =~ \"(?i)^http://([^/:]+)(?::80)?(/.*)?$\" && text(\"{1|lower}\") == \"{host}\"");
        route.named("edit-header", "Location", "https://{host}{2}");
        service.answer_routes.push(route);
    }
}
