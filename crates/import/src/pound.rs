//! Pound's configuration.

use crate::draft::{Draft, Pool, Service, Table, Twice, Value, status, unverified};
use crate::tree::{Node, Tree};
use crate::words::{address, name, quoted, with_port};

const BLOCKS: [&str; 7] =
    ["listenhttp", "listenhttps", "service", "backend", "emergency", "session", "control"];

fn parse(text: &str) -> Vec<Node> {
    let mut tree = Tree::new();
    let mut comments = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let bare = line.trim();
        if let Some(comment) = bare.strip_prefix('#') {
            comments.push(comment.trim().to_owned());
            continue;
        }
        let mut words: Vec<String> = Vec::new();
        for (part, text) in bare.split('"').enumerate() {
            match part % 2 {
                0 => words.extend(text.split_whitespace().map(str::to_owned)),
                _ => words.push(text.to_owned()),
            }
        }
        let Some(keyword) = words.first().map(|w| w.to_lowercase()) else { continue };
        if keyword == "end" {
            tree.end();
            continue;
        }
        let comments = std::mem::take(&mut comments);
        // `Control` is a block in new versions, and has the socket's path behind it in old ones.
        let opens = BLOCKS.contains(&keyword.as_str()) && !(keyword == "control" && words.len() > 1);
        tree.push(Node { line: at + 1, words, children: Vec::new(), comments });
        if opens {
            tree.begin();
        }
    }
    tree.finish()
}

pub fn read(text: &str, draft: &mut Draft) {
    let all = parse(text);
    let timeout = all.iter().find(|n| n.is("TimeOut")).and_then(|n| n.words.get(1)).cloned();
    let client = all.iter().find(|n| n.is("Client")).and_then(|n| n.words.get(1)).cloned();
    let connect = all.iter().find(|n| n.is("ConnTO")).and_then(|n| n.words.get(1)).cloned();
    let folds = all.iter().any(|n| n.is("IgnoreCase") && n.words.get(1).is_some_and(|v| v == "1"));
    let general = General {
        timeout: timeout.as_deref(),
        client: client.as_deref(),
        connect: connect.as_deref(),
        transparent: all.iter().any(|n| n.is("TProxy") && n.words.get(1).is_some_and(|v| v == "1")),
        folds,
    };
    // Services outside of listeners are for all of them, after their own.
    let common: Vec<&Node> = all.iter().filter(|n| n.is("Service")).collect();
    for node in &all {
        match node.words[0].to_lowercase().as_str() {
            "listenhttp" | "listenhttps" => {
                listener(node, &common, &general, draft);
            }
            "service" | "timeout" | "client" | "connto" | "tproxy" | "user" | "group" | "rootjail"
            | "daemon" | "loglevel" | "logfacility" | "alive" | "control" | "grace" | "threads"
            | "ignorecase" | "dynscale" => {}
            other => draft.left(node.line, other, "not carried over"),
        }
    }
}

/// What holds where a listener or a service says nothing else.
struct General<'a> {
    timeout: Option<&'a str>,
    client: Option<&'a str>,
    connect: Option<&'a str>,
    transparent: bool,
    /// Upper and lower case of paths are the same.
    folds: bool,
}

/// The name of headers that `HeadRemove` takes away; its `.*` is a `*`.
fn removed(pattern: &str) -> Option<String> {
    let name = pattern.split(':').next().unwrap_or("").trim_start_matches('^').trim_end_matches('$');
    let name = name.replace(".*", "*");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_*".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

fn listener(node: &Node, common: &[&Node], general: &General<'_>, draft: &mut Draft) {
    let https = node.is("ListenHTTPS");
    let host =
        node.value("Address").and_then(|a| if a == "0.0.0.0" { Some(a.to_owned()) } else { address(a) });
    let (Some(host), Some(port)) = (host, node.value("Port")) else {
        return draft.left(
            node.line,
            &node.words[0],
            "an Address and a Port are needed: the listener is left out",
        );
    };
    let wanted = if https { "https" } else { "http" };
    let mut service = Service {
        name: draft.fresh(&name(&format!("{wanted}-{port}"))),
        mode: "http".into(),
        vips: vec![with_port(&host, port)],
        ..Service::default()
    };
    service.table.comments.clone_from(&node.comments);
    let adds = |header: &str| {
        let text =
            |c: &Node| c.words.get(1).is_some_and(|w| w.to_lowercase().starts_with(&format!("{header}:")));
        node.children.iter().any(|c| c.is("AddHeader") && text(c))
    };
    // What is added by hand would stand there twice.
    let own = ["x-forwarded-for", "x-forwarded-proto"].into_iter().filter(|header| !adds(header));
    let own: Vec<&str> = own.collect();
    service.table.set_with("forwarded", Value::texts(own), "as Pound did by itself");
    if https {
        let all = node.children.iter().filter(|c| c.is("Cert"));
        let files: Vec<String> = all.filter_map(|c| c.words.get(1).cloned()).collect();
        service.table.set("tls", Table::default().with("certificates", Value::texts(files)));
    }
    timeouts(node, general, &mut service);
    if !add_services(node, common, general, &mut service, draft) {
        return draft.left(node.line, &node.words[0], "it has no back ends and is left out");
    }
    add_other_lines(node, &mut service, draft);
    refuse(node, &mut service, draft);
    draft.services.push(service);
}

/// Methods by the value of `xHTTP` that first takes them.
const METHODS: [&[&str]; 5] = [
    &["GET", "POST", "HEAD"],
    &["PUT", "PATCH", "DELETE"],
    &[
        "LOCK",
        "UNLOCK",
        "PROPFIND",
        "PROPPATCH",
        "SEARCH",
        "MKCOL",
        "MOVE",
        "COPY",
        "OPTIONS",
        "TRACE",
        "MKACTIVITY",
        "CHECKOUT",
        "MERGE",
        "REPORT",
    ],
    &[
        "SUBSCRIBE",
        "UNSUBSCRIBE",
        "NOTIFY",
        "BPROPFIND",
        "BPROPPATCH",
        "POLL",
        "BMOVE",
        "BCOPY",
        "BDELETE",
        "CONNECT",
    ],
    &["RPC_IN_DATA", "RPC_OUT_DATA"],
];

/// What Pound does not take: methods, those of a web page alone where nothing is said, and addresses.
fn refuse(node: &Node, service: &mut Service, draft: &mut Draft) {
    let mut refusal = |when: String, comment: String| {
        let mut route = Table::commented(vec![comment]);
        route.when(&when);
        route.set("deny", status(501));
        service.routes.insert(0, route);
    };
    if let Some(check) = node.child("CheckURL") {
        let pattern = check.words.get(1).map_or("", String::as_str);
        match evenkeel_rules::regex(pattern, false) {
            Ok(_) => refusal(format!("!(text(\"{{uri}}\") =~ {})", quoted(pattern)), "CheckURL".into()),
            Err(why) => draft.grave(check.line, "CheckURL", format!("{why}: what it refused is let in")),
        }
    }
    let value = node.value("xHTTP").unwrap_or("0");
    let Some(allowed) = value.parse::<usize>().ok().and_then(|most| METHODS.get(..=most)) else {
        let line = node.child("xHTTP").map_or(node.line, |child| child.line);
        return draft.wrong(line, "xHTTP", format!("{value} is no set of methods: all are taken"));
    };
    let names: Vec<String> = allowed.iter().flat_map(|some| some.iter()).map(|name| quoted(name)).collect();
    refusal(format!("!method({})", names.join(", ")), format!("xHTTP {value}: Pound takes no other methods"));
}

fn timeouts(node: &Node, general: &General<'_>, service: &mut Service) {
    if let Some(connect) = general.connect {
        service.timeouts.text("connect", &format!("{connect}s"));
    }
    if let Some(client) = node.value("Client").or(general.client) {
        service.timeouts.text("client", &format!("{client}s"));
    }
    let own = node.children.iter().find(|c| c.is("TimeOut"));
    let own = own.map(|c| c.words.get(1).map_or("60", String::as_str));
    if let Some(timeout) = own.or(general.timeout) {
        service.timeouts.text("server", &format!("{timeout}s"));
    }
}

/// The route of `Redirect [CODE] "URL"`.
fn redirect_route(redirect: &Node, number: usize, when: &str, comments: &[String]) -> Table {
    let mut route = Table::commented(comments.to_vec());
    route.text("name", &format!("redirect-{number}"));
    if !when.is_empty() {
        route.when(when);
    }
    let words = &redirect.words[1..];
    let is_code = |w: &&String| w.len() == 3 && w.bytes().all(|b| b.is_ascii_digit());
    let status = words.iter().find(is_code).map_or("302", String::as_str);
    let to = words.iter().find(|w| !is_code(w)).map_or("/", String::as_str);
    // One without a path of its own keeps that of the request.
    let bare = to.split_once("://").map_or(to, |(_, rest)| rest).trim_end_matches('/');
    let keeps_path = !bare.contains('/');
    let location = if keeps_path { format!("{}{{path}}", to.trim_end_matches('/')) } else { to.to_owned() };
    let mut place = Table::default().with_text("location", &location).with_number("status", status);
    if !keeps_path {
        place.set("drop-query", true);
    }
    route.set("redirect", place);
    route
}

/// The `Service` sections, those of the listener before the common ones, as routes and pools; whether there
/// is a back end at all.
fn add_services(
    node: &Node,
    common: &[&Node],
    general: &General<'_>,
    service: &mut Service,
    draft: &mut Draft,
) -> bool {
    let mut last_pool: Option<Pool> = None;
    let own = node.children.iter().filter(|c| c.is("Service"));
    for (at, inner) in own.chain(common.iter().copied()).enumerate() {
        if inner.value("Disabled").is_some_and(is_on) {
            draft.note(inner.line, "Service", "it was disabled and is left out");
            continue;
        }
        if last_pool.is_some() {
            draft.note(inner.line, "Service", "the one before it takes every request: it is left out");
            continue;
        }
        let when = conditions(inner, general.folds, draft);
        if let Some(redirect) = inner.child("Redirect") {
            service.routes.push(redirect_route(redirect, at + 1, &when, &inner.comments));
            continue;
        }
        let mut pool = backends(inner, general.transparent, draft);
        if pool.servers.is_empty() {
            continue;
        }
        if when.is_empty() {
            last_pool = Some(pool);
            continue;
        }
        pool.name = draft.fresh(&name(&format!("{}-{}", service.name, at + 1)));
        let mut route = Table::commented(inner.comments.clone());
        route.text("name", &format!("to-{}", pool.name));
        if !when.is_empty() {
            route.when(&when);
        }
        route.text("pool", &pool.name);
        service.routes.push(route);
        draft.pools.push(pool);
    }
    match last_pool {
        Some(pool) => service.own = Some(pool),
        None => {
            let first = service.routes.iter().find_map(|r| r.text_of("pool").map(str::to_owned));
            let Some(first) = first else { return false };
            let mut refuse = Table::commented(vec!["Pound answered 503 where no Service fits.".into()]);
            refuse.text("name", "no-service");
            refuse.set("deny", status(503));
            service.routes.push(refuse);
            service.pool = Some(first);
        }
    }
    true
}

/// Error pages and changes of headers; what is not carried over is told.
fn add_other_lines(node: &Node, service: &mut Service, draft: &mut Draft) {
    let mut pages = Table::default();
    let mut removals = 0;
    for child in &node.children {
        let keyword = child.words[0].to_lowercase();
        match keyword.as_str() {
            "err404" | "err413" | "err414" | "err500" | "err501" | "err503"
                if child.words.get(1).is_some_and(|file| file.starts_with('/')) =>
            {
                pages.text(&keyword[3..], &child.words[1]);
            }
            "address"
            | "port"
            | "cert"
            | "service"
            | "timeout"
            | "client"
            | "xhttp"
            | "checkurl"
            | "ciphers"
            | "disable"
            | "sslhonorcipherorder"
            | "sslallowclientrenegotiation"
            | "logfile" => {}
            "headremove" => {
                let pattern = child.words.get(1).cloned().unwrap_or_default();
                let Some(header) = removed(&pattern) else {
                    let why = "names by regular expression are not carried over: the header stays";
                    draft.left(child.line, &child.words.join(" "), why);
                    continue;
                };
                let mut route = Table::default();
                route.text("name", &format!("without-{}", name(&header)));
                route.texts("remove-header", &[header]);
                // What clients send goes before anything is added.
                service.routes.insert(removals, route);
                removals += 1;
            }
            "addheader" => {
                let field = child.words.get(1).cloned().unwrap_or_default();
                let (header, value) = field.split_once(':').unwrap_or((&field, ""));
                let mut route = Table::default();
                route.text("name", &format!("with-{}", name(header)));
                // A client's own word for it must not stand beside.
                let key = if header.to_lowercase().starts_with("x-forwarded-") { "set" } else { "add" };
                route.named(&format!("{key}-header"), header, value.trim());
                service.routes.insert(removals, route);
            }
            "rewritelocation" if child.words.get(1).is_some_and(|v| v == "0") => {}
            "rewritelocation" | "rewritedestination" => {
                draft.left(child.line, &keyword, "addresses in answers are left as they are")
            }
            _ => draft.left(child.line, &child.words[0], "not carried over"),
        }
    }
    if !pages.lines.is_empty() {
        service.table.set("error-pages", pages);
    }
}

fn conditions(node: &Node, folds: bool, draft: &mut Draft) -> String {
    let mut all = Vec::new();
    let folds = node.value("IgnoreCase").map_or(folds, |v| v == "1");
    for child in &node.children {
        let value = child.words.get(1).cloned().unwrap_or_default();
        match child.words[0].to_lowercase().as_str() {
            "url" => {
                let flag = if folds { "(?i)" } else { "" };
                all.push(format!("path =~ {}", quoted(&format!("{flag}{value}"))));
            }
            "headrequire" => {
                let (header, pattern) = value.split_once(':').unwrap_or((&value, ""));
                let pattern = pattern.trim();
                let plain: String = pattern.replace("\\.", ".");
                let is_plain = !plain.is_empty()
                    && plain.chars().all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c));
                all.push(match (header.eq_ignore_ascii_case("host"), is_plain) {
                    (true, true) => format!("host({})", quoted(&plain)),
                    (true, false) => format!("host =~ {}", quoted(pattern)),
                    (false, _) => format!("header({}) =~ {}", quoted(header), quoted(pattern)),
                });
            }
            "headdeny" => {
                let (header, pattern) = value.split_once(':').unwrap_or((&value, ""));
                all.push(format!("!(header({}) =~ {})", quoted(header), quoted(pattern.trim())));
            }
            "backend" | "emergency" | "session" | "redirect" | "ignorecase" | "dynscale" | "disabled" => {}
            _ => draft.left(child.line, &child.words[0], "not carried over"),
        }
    }
    all.join(" && ")
}

/// The `Priority` of a server that has none.
const PRIORITY: &str = "5";

fn is_on(value: &str) -> bool {
    ["1", "yes", "true", "on"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn backends(node: &Node, transparent: bool, draft: &mut Draft) -> Pool {
    let mut pool = Pool::default();
    for child in &node.children {
        let kind = child.words[0].to_lowercase();
        match kind.as_str() {
            "backend" | "emergency" => {
                let (Some(host), Some(port)) =
                    (child.value("Address").and_then(address), child.value("Port"))
                else {
                    draft.left(
                        child.line,
                        &child.words[0],
                        "an address and a port are needed: it is left out",
                    );
                    continue;
                };
                let mut server = Table::commented(child.comments.clone());
                server.text("name", &name(&format!("{}-{port}", host.replace([':', '.'], "-"))));
                server.text("address", &with_port(&host, port));
                server.number("weight", child.value("Priority").unwrap_or(PRIORITY));
                if child.value("Disabled").is_some_and(is_on) {
                    server.set_with("admin-state", Value::text("halted"), "it was disabled");
                }
                if kind == "emergency" {
                    server.set("backup", true);
                }
                if child.children.iter().any(|c| c.is("HTTPS")) {
                    pool.table.set("server-tls", unverified());
                }
                for word in &child.children {
                    let value = word.words.get(1).map_or("", String::as_str);
                    match word.words[0].to_lowercase().as_str() {
                        "address" | "port" | "priority" | "https" | "disabled" => {}
                        "haport" if !value.contains('.') => {
                            let check = Table::default().with_text("type", "tcp").with_number("port", value);
                            pool.table.set("health-check", check);
                        }
                        keyword => draft.left(word.line, keyword, "not carried over"),
                    }
                }
                pool.add(server, Twice::Shares, child.line, draft);
            }
            "session" => {
                for word in child.children.iter().filter(|c| !["Type", "TTL", "ID"].iter().any(|k| c.is(k))) {
                    draft.left(word.line, &word.words[0], "not carried over");
                }
                let time = child.value("TTL").map_or_else(|| "5m".into(), |t| format!("{t}s"));
                let id = child.value("ID").unwrap_or("session").to_owned();
                let kind = |kind: &str| Table::default().with_text("type", kind);
                let named = |kept: Table| kept.with_text("name", &id).with_text("expire", &time);
                let value = match child.value("Type").unwrap_or("IP").to_uppercase().as_str() {
                    "COOKIE" => named(kind("app-cookie")),
                    "HEADER" => named(kind("header")),
                    "IP" => kind("source").with_text("timeout", &time),
                    other => {
                        draft.left(child.line, "Session", format!("{other}: not carried over"));
                        continue;
                    }
                };
                pool.table.set("persistence", value);
            }
            _ => {}
        }
    }
    // Where nobody has a priority, all have the same share.
    let said = node.children.iter().any(|child| child.value("Priority").is_some());
    if !said && pool.servers.iter().all(|server| server.get("weight") == Some(&Value::Number(5))) {
        pool.servers.iter_mut().for_each(|server| server.lines.retain(|line| line.key != "weight"));
    }
    if transparent && !pool.servers.is_empty() {
        pool.table.set_with(
            "source",
            Value::text("client"),
            "TProxy: the rules of the kernel are set up by Evenkeel",
        );
    }
    pool
}

#[cfg(test)]
mod tests {
    use crate::{Source, SourceKind, import};

    #[test]
    fn what_clients_send_goes_before_anything_is_added() {
        let text = "ListenHTTP\n Address 192.0.2.1\n Port 80\n AddHeader \"X-Real: yes\"\n HeadRemove \"X-Real\"\n HeadRemove \"X-Forwarded-.*\"\n HeadRemove \"X-(A|B)\"\n Service\n  BackEnd\n   Address 192.0.2.2\n   Port 80\n  End\n End\nEnd\n";
        let source = Source { kind: SourceKind::Pound, file: "pound.cfg".into(), text: text.into() };
        let made = import(&[source], &Default::default());
        let at = |part: &str| made.text.find(part).unwrap_or_else(|| panic!("{part}: {}", made.text));
        assert!(at("remove-header = [\"X-Real\"]") < at("add-header = { \"X-Real\" = \"yes\" }"));
        assert!(at("remove-header = [\"X-Forwarded-*\"]") < at("add-header"));
        assert_eq!(made.left.iter().map(|l| l.line).collect::<Vec<_>>(), [7], "{:?}", made.left);
    }

    #[test]
    fn what_is_added_by_hand_stands_there_once() {
        let text = "ListenHTTP\n Address 192.0.2.1\n Port 80\n AddHeader \"X-Forwarded-Proto: http\"\n Service\n  BackEnd\n   Address 192.0.2.2\n   Port 80\n  End\n End\nEnd\n";
        let source = Source { kind: SourceKind::Pound, file: "pound.cfg".into(), text: text.into() };
        let text = import(&[source], &Default::default()).text;
        assert!(text.contains("forwarded = [\"x-forwarded-for\"]"), "{text}");
        assert!(text.contains("set-header = { \"X-Forwarded-Proto\" = \"http\" }"), "{text}");
    }
}
