//! Pound's configuration: that of Apsis (up to 3) and that of Poznyakoff (4).

mod changes;
mod conditions;
mod syntax;
mod targets;

use crate::draft::{Draft, Pool, Service, Table, Value, also, based, status};
use crate::tree::Node;
use crate::words::{address, name, port_number, quoted, with_port};
use changes::Changes;
use conditions::report;
use std::collections::BTreeMap;
use syntax::{is_on, keyword};

/// What holds where a listener or a service says nothing else, and what they name.
struct General<'a> {
    timeout: &'a str,
    client: &'a str,
    connect: Option<&'a str>,
    websocket: Option<&'a str>,
    transparent: bool,
    /// Upper and lower case of paths are the same.
    folds: bool,
    /// The headers about the client are added.
    adds: Adds,
    /// Where files without a folder lie.
    folder: String,
    lists: BTreeMap<&'a str, &'a Node>,
    conditions: BTreeMap<&'a str, &'a Node>,
    backends: BTreeMap<&'a str, &'a Node>,
    /// Services outside of listeners are for all of them, after their own.
    services: Vec<&'a Node>,
}

/// Which headers Pound adds by itself.
#[derive(Clone, Copy)]
struct Adds {
    /// About the client's connection.
    forwarded: bool,
    /// About TLS and the client's certificate.
    ssl: bool,
}

impl Adds {
    /// As each `HeaderOption` changes it.
    fn changed(mut self, nodes: &[Node]) -> Adds {
        let lines = nodes.iter().filter(|node| node.is("HeaderOption"));
        for word in lines.flat_map(|node| &node.words[1..]) {
            match word.as_str() {
                "all" => self = Adds { forwarded: true, ssl: true },
                "none" | "no-all" => self = Adds { forwarded: false, ssl: false },
                "forwarded" => self.forwarded = true,
                "no-forwarded" => self.forwarded = false,
                "ssl" => self.ssl = true,
                "no-ssl" => self.ssl = false,
                _ => {}
            }
        }
        self
    }
}

/// Lines that say how Pound itself runs.
const OF_THE_PROCESS: &[&str] = &[
    "user",
    "group",
    "rootjail",
    "daemon",
    "supervisor",
    "loglevel",
    "logfacility",
    "logformat",
    "logtag",
    "anonymise",
    "anonymize",
    "alive",
    "control",
    "grace",
    "threads",
    "dynscale",
    "pidfile",
    "sslengine",
    "workermincount",
    "workermaxcount",
    "workeridletimeout",
    "workerstacksize",
    "connectionqueuesize",
    "linebuffersize",
    "reservefd",
    "watcherttl",
    "resolver",
    "forwardedheader",
    "trustedip",
    "ecdhcurve",
];

pub fn read(text: &str, draft: &mut Draft) {
    let all = syntax::parse(text);
    let value = |key: &str| all.iter().find(|node| node.is(key)).and_then(|node| node.words.get(1));
    let named = |key: &str| -> BTreeMap<&str, &Node> {
        let nodes = all.iter().filter(|node| node.is(key));
        nodes.filter_map(|node| Some((node.words.get(1)?.as_str(), node))).collect()
    };
    let general = General {
        timeout: value("TimeOut").map_or("15", String::as_str),
        client: value("Client").map_or("10", String::as_str),
        connect: value("ConnTO").map(String::as_str),
        websocket: value("WSTimeOut").map(String::as_str),
        transparent: value("TProxy").is_some_and(|v| v == "1"),
        folds: value("IgnoreCase").is_some_and(|v| is_on(v)),
        adds: Adds { forwarded: true, ssl: true }.changed(&all),
        folder: value("IncludeDir").cloned().unwrap_or_else(|| "/etc".into()),
        lists: named("ACL"),
        conditions: named("Condition"),
        backends: named("Backend"),
        services: all.iter().filter(|node| node.is("Service")).collect(),
    };
    for node in &all {
        match keyword(&node.words).as_str() {
            "listenhttp" | "listenhttps" => listener(node, &general, draft),
            "service" | "timeout" | "client" | "connto" | "wstimeout" | "tproxy" | "ignorecase"
            | "headeroption" | "includedir" | "acl" | "condition" | "backend" => {}
            "balancer" | "regextype" | "combineheaders" => {
                draft.note(node.line, &node.words.join(" "), "not carried over")
            }
            "include" => draft.grave(
                node.line,
                &node.words.join(" "),
                "other files are not read: put what they say in its place",
            ),
            "tunnel" => tunnel(node, &general, draft),
            word if OF_THE_PROCESS.contains(&word) => {}
            word => draft.left(node.line, word, "not carried over"),
        }
    }
}

/// `Address` and `Port` of a listener.
fn place(node: &Node, usual: &str, draft: &mut Draft) -> Option<(String, String)> {
    let listed = node.value("Address").unwrap_or("0.0.0.0");
    let Some(host) = address(listed) else {
        let why = format!("{listed} is no address of this machine: the listener is left out");
        draft.grave(node.line, &node.words[0], why);
        return None;
    };
    let port = port_number(node.value("Port").unwrap_or(usual));
    if port.parse::<u16>().is_err() {
        draft.grave(node.line, &node.words[0], format!("{port} is no port: the listener is left out"));
        return None;
    }
    Some((host, port))
}

fn listener(node: &Node, general: &General<'_>, draft: &mut Draft) {
    let https = node.is("ListenHTTPS");
    let (scheme, usual) = if https { ("https", "443") } else { ("http", "80") };
    let Some((host, port)) = place(node, usual, draft) else { return };
    let wanted = node.words.get(1).cloned().unwrap_or_else(|| format!("{scheme}-{port}"));
    let mut service = Service {
        name: draft.fresh(&name(&wanted)),
        mode: "http".into(),
        vips: vec![with_port(&host, &port)],
        ..Service::default()
    };
    service.table.comments.clone_from(&node.comments);
    if https {
        tls(node, general, &mut service, draft);
        about_tls(node, general, &mut service, draft);
    }
    timeouts(node, general, &mut service);
    let changes = other_lines(node, general, &mut service, draft);
    forwarded(node, general, &changes.removals, &mut service);
    service.routes.extend(changes.into_routes("", &service.name));
    for child in node.children.iter().filter(|child| child.is("Rewrite")) {
        changes::rewrite(child, "", general, &mut service, draft);
    }
    refuse(node, &mut service, draft);
    let servers = services(node, general, &mut service, draft);
    changes::locations(node, https, &servers, &mut service);
    draft.services.push(service);
}

/// The headers that Pound adds by itself, but for those that are added by hand, which would stand there twice, and for
/// those that lines take away again.
fn forwarded(node: &Node, general: &General<'_>, removals: &Table, service: &mut Service) {
    let adds = |header: &str| {
        let text =
            |c: &Node| c.words.get(1).is_some_and(|w| w.to_lowercase().starts_with(&format!("{header}:")));
        let sets = |c: &&Node| ["AddHeader", "HeaderAdd", "SetHeader"].iter().any(|word| c.is(word));
        node.children.iter().filter(sets).any(text)
    };
    let removes = |header: &str| {
        let names = removals.get("remove-header").map_or(&[][..], Value::items);
        names.iter().filter_map(Value::as_text).any(|name| {
            let name = name.to_ascii_lowercase();
            name.strip_suffix('*').map_or(name == header, |begin| header.starts_with(begin))
        })
    };
    if general.adds.changed(&node.children).forwarded {
        let own = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-port"];
        let own: Vec<&str> = own.into_iter().filter(|header| !adds(header) && !removes(header)).collect();
        if !own.is_empty() {
            service.table.set_with("forwarded", Value::texts(own), "as Pound did by itself");
        }
    }
}

/// What Pound tells servers of TLS and of the client's certificate. What clients send under these names goes away, also
/// where nothing takes its place: servers believe it.
fn about_tls(node: &Node, general: &General<'_>, service: &mut Service, draft: &mut Draft) {
    if !general.adds.changed(&node.children).ssl {
        return;
    }
    let mut cleared = Table::default().with_text("name", &format!("own-{}", service.name));
    cleared.comments.push("Headers about TLS, as Pound set them by itself".into());
    cleared.texts("remove-header", &["X-SSL-*"]);
    service.routes.push(cleared);
    let mut told = Table::default().with_text("name", &format!("tls-{}", service.name));
    told.named("set-header", "X-SSL-cipher", "{tls-version}/{tls-cipher}");
    service.routes.push(told);
    if node.value("ClientCert").is_some_and(|level| level != "0") {
        let mut client = Table::default().with_text("name", &format!("client-{}", service.name));
        client.when("client-cert()");
        client.named("set-header", "X-SSL-Subject", "{client-certificate:subject}");
        client.add_name("set-header", "X-SSL-Issuer", "{client-certificate:issuer}");
        service.routes.push(client);
        let line = node.child("ClientCert").map_or(node.line, |child| child.line);
        let why = "X-SSL-Subject and X-SSL-Issuer are written /C=…/CN=…; X-SSL-notBefore, X-SSL-notAfter, X-SSL-serial and X-SSL-certificate are not made: see {client-certificate:FIELD} in docs/reference/routes.md";
        draft.left(line, "HeaderOption ssl", why);
    }
}

/// Certificates, and what clients must show.
fn tls(node: &Node, general: &General<'_>, service: &mut Service, draft: &mut Draft) {
    let file = |word: &str| based(Some(&general.folder), word);
    let all = node.children.iter().filter(|c| c.is("Cert"));
    let files: Vec<String> = all.filter_map(|c| c.words.get(1)).map(|word| file(word)).collect();
    let mut tls = Table::default().with("certificates", Value::texts(files));
    let disabled = node.children.iter().filter(|c| c.is("Disable")).filter_map(|c| c.words.get(1));
    if disabled.into_iter().any(|version| version.eq_ignore_ascii_case("TLSv1_2")) {
        tls.text("min-version", "1.3");
    }
    let level = node.value("ClientCert").unwrap_or("0");
    let ca = node.value("VerifyList").or_else(|| node.value("CAlist"));
    match (level, ca) {
        ("0", _) => {}
        ("1" | "2", Some(ca)) => {
            let mut clients = Table::default().with_text("ca", &file(ca));
            clients.text("mode", if level == "1" { "optional" } else { "required" });
            if let Some(crl) = node.value("CRLlist") {
                clients.text("crl", &file(crl));
            }
            tls.set("client-auth", clients);
        }
        _ => {
            let line = node.child("ClientCert").map_or(node.line, |child| child.line);
            let why = "certificates of clients need a VerifyList, and are verified: nobody is asked for one";
            draft.grave(line, &format!("ClientCert {level}"), why);
        }
    }
    service.table.set("tls", tls);
}

fn timeouts(node: &Node, general: &General<'_>, service: &mut Service) {
    let server = node.value("TimeOut").unwrap_or(general.timeout);
    let connect = node.value("ConnTO").or(general.connect).unwrap_or(server);
    let client = node.value("Client").unwrap_or(general.client);
    service.timeouts.text("connect", &format!("{connect}s"));
    service.timeouts.text("client", &format!("{client}s"));
    service.timeouts.text("server", &format!("{server}s"));
    // Pound waits for the next request as it does for the rest of one.
    service.timeouts.text("keep-alive", &format!("{client}s"));
    if let Some(websocket) = general.websocket {
        service.timeouts.text("tunnel", &format!("{websocket}s"));
    }
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
    let mut refusal = |when: String, comment: String, code: u16| {
        let mut route = Table::commented(vec![comment]);
        route.when(&when);
        route.set("deny", status(code));
        service.routes.insert(0, route);
    };
    if let Some(most) = node.value("MaxURI").filter(|most| most.bytes().all(|b| b.is_ascii_digit())) {
        refusal(format!("number(\"{{uri|length}}\") > {most}"), "MaxURI".into(), 414);
    }
    if let Some(check) = node.child("CheckURL") {
        let pattern = check.words.get(1).map_or("", String::as_str);
        match evenkeel_rules::regex(pattern, false) {
            Ok(_) => refusal(format!("!(text(\"{{uri}}\") =~ {})", quoted(pattern)), "CheckURL".into(), 501),
            Err(why) => draft.grave(check.line, "CheckURL", format!("{why}: what it refused is let in")),
        }
    }
    let value = node.value("xHTTP").unwrap_or("0");
    let Some(allowed) = value.parse::<usize>().ok().and_then(|most| METHODS.get(..=most)) else {
        let line = node.child("xHTTP").map_or(node.line, |child| child.line);
        return draft.wrong(line, "xHTTP", format!("{value} is no set of methods: all are taken"));
    };
    let names: Vec<String> = allowed.iter().flat_map(|some| some.iter()).map(|name| quoted(name)).collect();
    refusal(
        format!("!method({})", names.join(", ")),
        format!("xHTTP {value}: Pound takes no other methods"),
        501,
    );
}

/// The `Service` sections, those of the listener before the common ones, as routes and pools; the addresses of
/// their servers.
fn services(node: &Node, general: &General<'_>, service: &mut Service, draft: &mut Draft) -> Vec<String> {
    let mut servers = Vec::new();
    let mut takes_all = false;
    let own = node.children.iter().filter(|c| c.is("Service"));
    for (at, inner) in own.chain(general.services.iter().copied()).enumerate() {
        if inner.value("Disabled").is_some_and(is_on) {
            draft.note(inner.line, "Service", "it was disabled and is left out");
            continue;
        }
        if takes_all {
            draft.note(inner.line, "Service", "the one before it takes every request: it is left out");
            continue;
        }
        let logins: Vec<&str> = inner.children.iter().filter_map(conditions::login).collect();
        let asked = inner.children.iter().filter(|child| conditions::login(child).is_none());
        let when = match conditions::all(asked, general) {
            Ok(when) => when,
            Err(unasked) => {
                report(&unasked, "the Service", draft);
                continue;
            }
        };
        takes_all = when.is_empty() && logins.is_empty();
        let mut pool = targets::backends(inner, general, draft);
        let addresses = pool.servers.iter().filter_map(|server| server.text_of("address"));
        servers.extend(addresses.map(str::to_owned));
        let changes = service_lines(inner, &when, general, service, draft);
        if let [users, ..] = logins[..] {
            ask_login(inner, &based(Some(&general.folder), users), &when, service, draft);
        } else if !special(inner, at + 1, &when, service, draft) {
            let last = take_pool((inner, at + 1), &when, &mut pool, changes, general, service, draft);
            takes_all |= last;
            if last {
                service.own = Some(pool);
            }
        }
    }
    if service.own.is_none() {
        if !takes_all {
            let mut refuse = Table::commented(vec!["Pound answered 503 where no Service fits.".into()]);
            refuse.text("name", "no-service");
            refuse.set("deny", status(503));
            service.routes.push(refuse);
        }
        match service.routes.iter().find_map(|r| r.text_of("pool").map(str::to_owned)) {
            Some(first) => service.pool = Some(first),
            None => service.own = Some(Pool { servers: vec![crate::draft::nobody()], ..Pool::default() }),
        }
    }
    servers
}

/// Lines of a service beside what it asks and where it sends.
fn service_lines(
    inner: &Node,
    when: &str,
    general: &General<'_>,
    service: &mut Service,
    draft: &mut Draft,
) -> Changes {
    let mut changes = Changes::default();
    for child in &inner.children {
        match keyword(&child.words).as_str() {
            "url" | "path" | "query" | "queryparam" | "method" | "host" | "header" | "headrequire"
            | "headdeny" | "acl" | "match" | "eval" | "basicauth" | "backend" | "emergency"
            | "usebackend" | "session" | "balancer" | "redirect" | "redirectappend" | "redirectdynamic"
            | "error" | "ignorecase" | "disabled" | "dynscale" | "logsuppress" | "forwardedheader"
            | "trustedip" | "success" | "acme" | "metrics" | "control" | "sendfile" => {}
            "rewrite" => changes::rewrite(child, when, general, service, draft),
            _ if changes.take(child, draft) => {}
            _ => draft.left(child.line, &child.words[0], "not carried over"),
        }
    }
    changes
}

/// `Not BasicAuth` with `Error 401`: who has no password gets no further.
fn ask_login(inner: &Node, users: &str, when: &str, service: &mut Service, draft: &mut Draft) {
    if inner.value("Error") != Some("401") {
        let why = "Not BasicAuth is carried over with `Error 401` alone: the Service is left out";
        return draft.grave(inner.line, "Service", why);
    }
    let mut route = Table::commented(inner.comments.clone());
    route.text("name", &format!("login-{}", inner.line));
    also(&mut route, when);
    route.set("basic-auth", Table::default().with_text("users", users));
    let why = "passwords are bcrypt (`htpasswd -B`) or SHA-crypt: others of the file let nobody in";
    draft.note(inner.line, &format!("BasicAuth {users}"), why);
    service
        .answer_routes
        .retain(|route| !route.condition().is_empty() || !route.has("set-header") || !when.is_empty());
    service.routes.push(route);
}

/// Services that answer by themselves; whether this is one.
fn special(inner: &Node, number: usize, when: &str, service: &mut Service, draft: &mut Draft) -> bool {
    let redirect = inner
        .children
        .iter()
        .find(|c| ["Redirect", "RedirectAppend", "RedirectDynamic"].iter().any(|word| c.is(word)));
    if let Some(redirect) = redirect {
        if inner.child("Backend").is_some() {
            let why = "back ends beside a redirect: every request is redirected";
            draft.left(inner.line, "Service", why);
        }
        let route = targets::redirect_route(redirect, number, when, &inner.comments, draft);
        service.routes.extend(route);
        return true;
    }
    let mut route = Table::commented(inner.comments.clone());
    route.text("name", &format!("service-{number}"));
    also(&mut route, when);
    if let Some(error) = inner.child("Error") {
        let code = error.words.get(1).and_then(|code| code.parse::<u16>().ok()).unwrap_or(503);
        route.set("deny", status(code));
        if let Some(file) = error.words.get(2) {
            draft.left(error.line, &error.words.join(" "), format!("{file} is not shown: see `error-pages`"));
        }
    } else if inner.child("Success").is_some() {
        route.set("answer", status(200));
    } else if let Some(node) = inner
        .children
        .iter()
        .find(|c| ["ACME", "Metrics", "Control", "SendFile"].iter().any(|word| c.is(word)))
    {
        draft.grave(node.line, &node.words.join(" "), "nothing answers so here: it is a 503");
        route.set("deny", status(503));
    } else {
        return false;
    }
    service.routes.push(route);
    true
}

/// The pool of a service as a route; whether it is the service's own, which takes what is left.
fn take_pool(
    (inner, number): (&Node, usize),
    when: &str,
    pool: &mut Pool,
    changes: Changes,
    general: &General<'_>,
    service: &mut Service,
    draft: &mut Draft,
) -> bool {
    let label = inner.words.get(1).cloned().unwrap_or_else(|| format!("{}-{number}", service.name));
    if pool.servers.is_empty() {
        draft.grave(inner.line, "Service", "it has no back ends: its requests get a 503");
        let mut route = Table::default();
        route.text("name", &name(&format!("nobody-{label}")));
        also(&mut route, when);
        route.set("deny", status(503));
        service.routes.push(route);
        return false;
    }
    let timeout = targets::shared_timeout(inner, general, draft);
    if when.is_empty() {
        service.routes.extend(changes.into_routes("", &label));
        if let Some(timeout) = &timeout {
            let mut route = Table::default().with_text("name", &format!("time-of-{}", name(&label)));
            route.text("server-timeout", timeout);
            service.routes.push(route);
        }
        return true;
    }
    pool.name = draft.fresh(&name(&label));
    let mut route = Table::commented(inner.comments.clone());
    route.text("name", &format!("to-{}", pool.name));
    route.when(when);
    // What goes away does so before; what is set is set in the route that ends it, since a path that was
    // rewritten would be asked again.
    let Changes { removals, rest } = changes;
    service.routes.extend(Changes { removals, rest: Table::default() }.into_routes(when, &label));
    route.adopt(&rest);
    if let Some(timeout) = &timeout {
        route.text("server-timeout", timeout);
    }
    route.text("pool", &pool.name);
    service.routes.push(route);
    draft.pools.push(std::mem::take(pool));
    false
}

/// Error pages, limits and changes of headers; what is not carried over is told.
fn other_lines(node: &Node, general: &General<'_>, service: &mut Service, draft: &mut Draft) -> Changes {
    let mut pages = Table::default();
    let mut changes = Changes::default();
    for child in &node.children {
        let word = keyword(&child.words);
        let value = child.words.get(1).map_or("", String::as_str);
        match word.as_str() {
            "errorfile" if child.words.len() > 2 => page(value, &child.words[2], general, &mut pages),
            _ if word.len() == 6 && word.starts_with("err") => page(&word[3..], value, general, &mut pages),
            "maxrequest" if value.bytes().all(|b| b.is_ascii_digit()) => {
                service.table.text("max-body", value)
            }
            "address"
            | "port"
            | "cert"
            | "service"
            | "timeout"
            | "connto"
            | "client"
            | "xhttp"
            | "checkurl"
            | "maxuri"
            | "rewrite"
            | "rewritelocation"
            | "headeroption"
            | "clientcert"
            | "verifylist"
            | "crllist"
            | "loglevel"
            | "logfile"
            | "forwardedheader"
            | "trustedip"
            | "linebuffersize"
            | "sslhonorcipherorder"
            | "sslallowclientrenegotiation"
            | "nohttps11" => {}
            "calist" if node.child("VerifyList").is_none() => {}
            "calist" => draft.note(child.line, "CAlist", "clients are told of the authorities of VerifyList"),
            "disable" | "ciphers" => draft.note(
                child.line,
                &child.words.join(" "),
                "TLS 1.2 and 1.3 are spoken, with forward secrecy and authenticated encryption alone",
            ),
            "rewritedestination" if !is_on(value) => {}
            "rewritedestination" => {
                draft.left(child.line, "RewriteDestination", "the header goes to servers as it came")
            }
            "acme" => draft.left(
                child.line,
                &child.words.join(" "),
                "challenges are not read from a folder: [[acme]] orders certificates by itself",
            ),
            _ if changes.take(child, draft) => {}
            _ => draft.left(child.line, &child.words[0], "not carried over"),
        }
    }
    if !pages.lines.is_empty() {
        service.table.set("error-pages", pages);
    }
    changes
}

fn page(code: &str, file: &str, general: &General<'_>, pages: &mut Table) {
    if code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit()) && !file.is_empty() {
        pages.text(code, &based(Some(&general.folder), file));
    }
}

/// A `Tunnel`: bytes from here to there.
fn tunnel(node: &Node, general: &General<'_>, draft: &mut Draft) {
    let Some((host, port)) = place(node, "", draft) else { return };
    let pool = targets::backends(node, general, draft);
    if pool.servers.is_empty() {
        return draft.grave(node.line, "Tunnel", "it has no back end and is left out");
    }
    let wanted = node.words.get(1).cloned().unwrap_or_else(|| format!("tunnel-{port}"));
    draft.services.push(Service {
        name: draft.fresh(&name(&wanted)),
        mode: "tcp".into(),
        vips: vec![with_port(&host, &port)],
        own: Some(pool),
        ..Service::default()
    });
}

#[cfg(test)]
mod tests;
