//! `ProxyPass` and `ProxyPassMatch`: what goes to which server.

use super::{Members, TIMEOUTS, Words, lines, time, timeouts_of};
use crate::draft::{Draft, Pool, Service, Table, status, unverified};
use crate::words::{name, quoted, split_port, with_port};

pub(super) fn pass(at: usize, words: &[String], members: &Members, service: &mut Service, draft: &mut Draft) {
    let (path, to) = (words.get(1).map_or("/", String::as_str), words.get(2).map_or("", String::as_str));
    if to == "!" {
        let mut route = Table::default();
        route.when(&places(path.trim_end_matches('/')));
        route.set("deny", status(404));
        service.routes.push(route);
        let why = "that was Apache's own: here it answers 404 (the balancer manager is Evenkeel's web UI)";
        draft.note(at, &format!("ProxyPass {path} !"), why);
        return;
    }
    let alone = ["http://", "https://", "ws://", "wss://"].iter().any(|scheme| to.starts_with(scheme));
    let Some(of) = to.strip_prefix("balancer://").or(to.split_once("://").map(|t| t.1).filter(|_| alone))
    else {
        draft.left(at, &words.join(" "), "write its server into a pool");
        return;
    };
    let (of, below) = of.split_once('/').unwrap_or((of, ""));
    let secret = to.starts_with("https") || to.starts_with("wss");
    let own = if alone { single(of, secret, Some((at, words.to_vec())), draft) } else { None };
    if alone && own.is_none() {
        draft.left(at, &words.join(" "), format!("{of} is no address: write its server into a pool"));
        return;
    }
    let pool = own.unwrap_or_else(|| name(of));
    let time = words.iter().find_map(|w| w.strip_prefix("timeout=")).and_then(time);
    for option in words.iter().skip(3).filter(|w| !lines::is_of_connections(w)) {
        draft.left(at, option, "not carried over");
    }
    if !draft.pools.iter().any(|p| p.name == pool) {
        draft.left(at, &words.join(" "), format!("there is no balancer {of} with members"));
        return;
    }
    let under = path.trim_end_matches('/');
    let below = &below_members(&pool, members, below, at, draft);
    if under.is_empty() && below.is_empty() {
        if let Some(time) = time {
            service.timeouts.text("server", &time);
        }
        service.pool = Some(pool);
        return;
    }
    let there = format!("/{}", below.trim_matches('/'));
    let there = there.trim_end_matches('/');
    let mut add = |when: &str, rewritten: Option<String>| {
        let mut route = Table::default();
        route.text("name", &format!("to-{pool}"));
        route.when(when);
        rewritten.iter().for_each(|path| route.text("rewrite-path", path));
        time.iter().for_each(|time| route.text("server-timeout", time));
        route.text("pool", &pool);
        service.routes.push(route);
    };
    let changes = there != under;
    let rest = changes.then(|| format!("{there}/{{1}}"));
    match path.len() > 1 && path.ends_with('/') {
        // What has no slash behind it is not below it.
        true => add(&format!("path({})", quoted(&format!("{under}/*"))), rest),
        // The place itself has no slash behind it there either.
        false if changes && !there.is_empty() && !under.is_empty() => {
            add(&format!("path({})", quoted(under)), Some(there.to_owned()));
            add(&format!("path({})", quoted(&format!("{under}/*"))), rest);
        }
        false => add(&places(under), rest),
    }
}

/// `ProxyPassMatch REGEX URL`: what stands for `$1` in the URL, or the path as it came where nothing does.
pub(super) fn pass_matching(at: usize, words: &[String], service: &mut Service, draft: &mut Draft) {
    let told = words.join(" ");
    let (Some(pattern), Some(to)) = (words.get(1), words.get(2)) else {
        return draft.wrong(at, &told, "a pattern and a place are needed");
    };
    let mut route = Table::default();
    if let Err(why) = evenkeel_rules::regex(pattern, false) {
        return draft.grave(at, &told, format!("{why}: it is left out"));
    }
    route.when(&format!("path =~ {}", quoted(pattern)));
    if to == "!" {
        route.set("deny", status(404));
        return service.routes.push(route);
    }
    let time = words.iter().find_map(|word| word.strip_prefix("timeout=")).and_then(time);
    match remote_place(to, true, draft) {
        Some((pool, path)) => {
            route.text("name", &format!("to-{pool}"));
            path.iter().for_each(|path| route.text("rewrite-path", path));
            time.iter().for_each(|time| route.text("server-timeout", time));
            route.text("pool", &pool);
            service.routes.push(route);
        }
        None => draft.grave(at, &told, "no server is known for it: write its server into a pool"),
    }
}

/// The pool of a URL with groups of a pattern, and the path that is asked for there, if it is not the client's.
/// `appends`: a place without groups has the client's path behind it.
pub(super) fn remote_place(to: &str, appends: bool, draft: &mut Draft) -> Option<(String, Option<String>)> {
    let (scheme, rest) = to.split_once("://")?;
    let (place, below) = rest.split_at(rest.find(['/', '$', '%']).unwrap_or(rest.len()));
    let pool = match scheme {
        "http" | "ws" => single(place, false, None, draft)?,
        "https" | "wss" => single(place, true, None, draft)?,
        "balancer" => name(place),
        _ => return None,
    };
    if !draft.pools.iter().any(|known| known.name == pool) || below.contains(['%', '{', '?']) {
        return None;
    }
    let mut path = String::new();
    let mut signs = below.chars().peekable();
    while let Some(sign) = signs.next() {
        match signs.next_if(|digit| sign == '$' && digit.is_ascii_digit() && *digit != '0') {
            Some(group) => path.push_str(&format!("{{{group}}}")),
            None if sign == '$' => return None,
            None => path.push(sign),
        }
    }
    if !path.contains('{') {
        let front = path.trim_end_matches('/');
        return Some((pool, (appends && !front.is_empty()).then(|| format!("{front}{{path}}"))));
    }
    // A pattern that begins with the slash has it in its group or not: there is one.
    let path = if path.starts_with('/') { path } else { format!("/{path}").replace("/{1}", "{1}") };
    Some((pool, Some(path)))
}

/// A path and all below it.
fn places(under: &str) -> String {
    let (all, below) = (quoted(if under.is_empty() { "/" } else { under }), quoted(&format!("{under}/*")));
    format!("path({all}, {below})")
}

/// What stands before the path that members of a balancer are asked for: what they are named with, if all of
/// them are named with the same.
fn below_members(pool: &str, members: &Members, below: &str, at: usize, draft: &mut Draft) -> String {
    let paths = members.get(pool).map_or(&[][..], Vec::as_slice);
    let first = paths.first().map_or("", String::as_str);
    if paths.iter().any(|path| path != first) {
        let why = format!("its members have different paths: {first} is asked of all of them");
        draft.left(at, &format!("balancer://{pool}"), why);
    }
    let both = format!("{}/{}", first.trim_matches('/'), below.trim_matches('/'));
    both.trim_matches('/').to_owned()
}

/// The pool of a server that is named without a balancer, with the `ProxyPass` that names it.
pub(super) fn single(place: &str, secret: bool, line: Option<Words>, draft: &mut Draft) -> Option<String> {
    let (host, port) = split_port(place);
    let (host, port) = (crate::words::host(host)?, port.unwrap_or(if secret { "443" } else { "80" }));
    let wanted = name(&format!("{host}-{port}").replace([':', '.'], "-"));
    if !draft.pools.iter().any(|p| p.name == wanted) {
        let mut pool = Pool { name: wanted.clone(), ..Pool::default() };
        if secret {
            pool.table.set("server-tls", unverified());
        }
        let mut server = Table::default();
        server.text("name", &wanted);
        server.text("address", &with_port(&host, port));
        pool.servers.push(server);
        // The time for answers is the route's.
        timeouts_of(line.as_slice(), &TIMEOUTS[1..], &mut pool.table, draft);
        draft.pools.push(pool);
    }
    Some(wanted)
}
