//! `keepalived.conf`: virtual servers, checkers, VRRP.

mod checks;

use crate::draft::{Draft, Pool, Service, Table, Value};
use crate::tree::{Node, Tree};
use crate::words::{NO_LOCAL_SERVER, address, is_loopback, name, with_port};

/// Words, with quotes and comments; a brace is a word of its own.
fn parse(text: &str) -> Vec<Node> {
    let mut tree = Tree::new();
    let mut comments = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut words: Vec<String> = Vec::new();
        let mut rest = line.trim();
        while !rest.is_empty() {
            if let Some(comment) = rest.strip_prefix(['#', '!']) {
                if words.is_empty() {
                    comments.push(comment.trim().to_owned());
                }
                break;
            }
            let (word, after) = match rest.strip_prefix('"') {
                Some(inner) => inner.split_once('"').unwrap_or((inner, "")),
                None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
            };
            words.push(word.to_owned());
            rest = after.trim_start();
        }
        for part in words.split_inclusive(|w| w == "{" || w == "}") {
            let (opens, closes) =
                (part.last().is_some_and(|w| w == "{"), part.last().is_some_and(|w| w == "}"));
            let own: Vec<String> = part.iter().filter(|w| *w != "{" && *w != "}").cloned().collect();
            if !own.is_empty() || opens {
                let comments = std::mem::take(&mut comments);
                tree.push(Node { line: at + 1, words: own, children: Vec::new(), comments });
            }
            if opens {
                tree.begin();
            } else if closes {
                tree.end();
            }
        }
    }
    tree.finish()
}

pub fn read(text: &str, draft: &mut Draft) {
    let all = parse(text);
    let version = all.iter().filter(|n| n.is("global_defs")).find_map(|n| n.value("vrrp_version"));
    active_on_both(&all, draft);
    let synced = all.iter().any(|n| n.is("vrrp_sync_group"));
    for node in &all {
        match node.words.first().map_or("", String::as_str) {
            "global_defs" => {
                mail(node, draft);
                globals(node, draft);
            }
            "virtual_server" => virtual_server(node, &all, draft),
            "vrrp_instance" => instance(node, synced, version, &all, draft),
            // Told where they are used.
            "virtual_server_group" | "vrrp_script" => {}
            "vrrp_sync_group" => {
                for child in node.children.iter().filter(|child| !child.is("group")) {
                    let word = child.words.first().map_or("", String::as_str);
                    let script = child.words.get(1).cloned().unwrap_or_default();
                    let why = format!(
                        "{script}: see `notify` of [pair], or [[alerts.script]] with kinds = [\"role\"]"
                    );
                    draft.left(
                        child.line,
                        word,
                        if word.starts_with("notify") { &why } else { "not carried over" },
                    );
                }
            }
            "include" => draft.grave(
                node.line,
                &node.words.join(" "),
                "other files are not read: put what they say in its place",
            ),
            // The processes are told where they are asked for.
            "vrrp_track_process" => {}
            other => draft.left(node.line, other, "not carried over"),
        }
    }
}

/// Words for all, beside those about mail.
fn globals(node: &Node, draft: &mut Draft) {
    for child in &node.children {
        let word = child.words.first().map_or("", String::as_str);
        match word {
            "notification_email"
            | "notification_email_from"
            | "smtp_server"
            | "smtp_connect_timeout"
            | "router_id"
            | "vrrp_version" => {}
            "script_user" | "enable_script_security" => {
                draft.note(child.line, word, "scripts run as nobody, a user that owns nothing: what they read, write and call has to be open to it");
            }
            _ if ["vrrp_garp", "vrrp_gna", "garp_"].iter().any(|start| word.starts_with(start)) => {
                draft.note(child.line, word, "addresses are announced for a minute after they have moved");
            }
            _ => draft.left(child.line, word, "not carried over"),
        }
    }
}

/// Who is told by mail.
fn mail(node: &Node, draft: &mut Draft) {
    let to: Vec<&str> = node.child("notification_email").map_or(Vec::new(), |n| {
        n.children.iter().filter_map(|c| c.words.first().map(String::as_str)).collect()
    });
    if to.is_empty() {
        return;
    }
    let server = node.child("smtp_server").map_or(&[][..], |n| &n.words);
    let [address, port] =
        [(1, "127.0.0.1"), (2, "25")].map(|(at, usual)| server.get(at).map_or(usual, |w| w));
    let from = node.value("notification_email_from").unwrap_or("evenkeel@localhost");
    draft.mail(address, port, from, &to);
}

fn seconds(text: &str) -> String {
    match text.split_once('.') {
        Some(_) => format!("{}ms", (text.parse::<f64>().unwrap_or(1.0) * 1000.0) as u64),
        None => format!("{text}s"),
    }
}

/// A node that is master of one address and backup of another has one role here.
fn active_on_both(all: &[Node], draft: &mut Draft) {
    let routers: Vec<&Node> = all.iter().filter(|n| n.is("vrrp_instance")).collect();
    let Some(first) = routers.first() else { return };
    let state = |n: &Node| n.value("state").map(str::to_uppercase);
    let priority = |n: &Node| n.value("priority").and_then(|p| p.parse::<u16>().ok()).unwrap_or(100);
    // Two instances that begin alike are told apart by their priorities: the other node has its own.
    let differs = |n: &&Node| {
        let states = state(first).zip(state(n)).is_some_and(|(one, other)| one != other);
        states || priority(first) != priority(n)
    };
    for other in routers.iter().filter(|n| differs(n)) {
        let why = "each node was master of some addresses, or could be: a pair has one role, and all addresses move \
                   together to the active node";
        draft.left(other.line, "vrrp_instance", why);
    }
    let synced = |n: &Node| {
        let mut groups = all.iter().filter(|n| n.is("vrrp_sync_group")).filter_map(|n| n.child("group"));
        let name = n.words.get(1);
        groups.any(|group| {
            let inside = group.children.iter().flat_map(|c| &c.words);
            inside.chain(&group.words[1..]).any(|word| Some(word) == name)
        })
    };
    let alone = |n: &&&Node| !differs(n) && (!synced(first) || !synced(n));
    if let Some(other) = routers.iter().skip(1).find(|n| alone(n)) {
        let why = "an instance moved to the other node by itself when its interface or script failed: all \
                   addresses of a pair move together";
        draft.note(other.line, "vrrp_instance", why);
    }
    let gives_back = |n: &Node| n.child("nopreempt").is_none();
    if let Some(other) = routers.iter().find(|n| gives_back(n) != gives_back(first)) {
        draft.left(other.line, "nopreempt", "a pair has one `failback`: that of the first instance");
    }
}

/// 255 is for a router whose own address it is (RFC 9568, section 5.2.4), which gives it to nobody.
fn priority(node: &Node, all: &[Node], router: &mut Table, draft: &mut Draft) -> u16 {
    let child = node.child("priority");
    let line = child.map_or(node.line, |child| child.line);
    let written = child.and_then(|child| child.words.get(1)).map_or("100", String::as_str);
    // keepalived itself takes 100 then.
    let said = written.parse::<u8>().ok().filter(|priority| *priority > 0);
    if said.is_none() {
        draft.left(
            line,
            "priority",
            format!("{written} is no priority: it is 100, as keepalived has it then"),
        );
    }
    let (said, raised) = (u16::from(said.unwrap_or(100)), raised_by(node, all));
    let whole = u16::try_from(i32::from(said) + raised).unwrap_or(254).min(254);
    if said == 255 {
        draft.note(line, "priority", "255 is for addresses that do not move: 254");
    }
    let comment =
        if raised > 0 { format!("{said}, and {raised} while its scripts succeed") } else { String::new() };
    router.set_with("priority", whole, &comment);
    whole
}

/// Version 2 has whole seconds: others are rounded, as keepalived does it.
fn interval(node: &Node, old: bool, router: &mut Table, draft: &mut Draft) {
    let Some(child) = node.child("advert_int") else { return };
    let written = child.words.get(1).map_or("1", String::as_str);
    let parts = written.parse::<f32>().ok().filter(|seconds| seconds.fract() != 0.0);
    match parts.filter(|_| old).map(|seconds| seconds.round().clamp(1.0, 255.0)) {
        Some(whole) => {
            draft.note(child.line, "advert_int", format!("version 2 has whole seconds: {whole}"));
            router.text("interval", &format!("{whole}s"));
        }
        None => router.text("interval", &seconds(written)),
    }
}

/// Whether the node takes the addresses back when it is well again.
fn failback(node: &Node, draft: &mut Draft) -> bool {
    let nopreempt = node.child("nopreempt");
    let begins_active = node.value("state").is_some_and(|state| state == "MASTER");
    if let Some(nopreempt) = nopreempt.filter(|_| begins_active) {
        let why = "keepalived pays no heed to it beside `state MASTER`: this node takes the addresses back";
        draft.note(nopreempt.line, "nopreempt", why);
    }
    nopreempt.is_none() || begins_active
}

/// Whether it speaks version 2 of VRRP.
fn is_old(node: &Node, version: Option<&str>) -> bool {
    let addresses = node.child("virtual_ipaddress").into_iter().flat_map(|n| &n.children);
    let is_v6 = |c: &Node| c.words.first().is_some_and(|a| a.contains(':'));
    // With addresses of IPv6 keepalived takes version 3 by itself.
    let has_v6 = addresses.into_iter().any(is_v6);
    let said = node.value("version").or(version);
    said.map_or(!has_v6, |version| version == "2")
}

/// Version 2 has passwords, of eight bytes at most.
fn password(node: &Node, old: bool, router: &mut Table, draft: &mut Draft) {
    let Some(block) = node.child("authentication") else { return };
    let kind = block.value("auth_type").unwrap_or("PASS");
    match block.value("auth_pass") {
        _ if !old => draft.note(block.line, "authentication", "version 3 of VRRP has none, in keepalived neither"),
        Some(pass) if kind.eq_ignore_ascii_case("PASS") => {
            let first = (0..=pass.len().min(8)).rev().find(|end| pass.is_char_boundary(*end)).unwrap_or(0);
            router.set_with("password", Value::text(&pass[..first]), "keeps nobody out; a pair with `peer` seals its messages");
            if first < pass.len() {
                draft.note(block.line, "auth_pass", "its first eight bytes, as keepalived");
            }
        }
        _ => draft.left(block.line, "authentication", format!("{kind} is not spoken: take it out of the other router's file before this node starts, or each refuses the other's adverts and both have the addresses")),
    }
}

/// The pair that all instances are of.
fn begin_pair(failback: bool, draft: &mut Draft) {
    if draft.globals.iter().all(|(name, _)| name != "pair") {
        let pair = draft.global("pair");
        pair.comments
            .push("VRRP as before, with routers of any make. Between two nodes of Evenkeel, set".into());
        pair.comments
            .push("peer = \"ADDRESS:9694\" and run `evenkeel pair invite`: see docs/pair.md.".into());
        pair.set_with("name", Value::text("lb1"), "the name of this node");
        pair.set("failback", failback);
    }
}

/// Words of an instance that are read elsewhere here, or that need no counterpart.
const HANDLED: [&str; 16] = [
    "interface",
    "virtual_router_id",
    "priority",
    "advert_int",
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "nopreempt",
    "state",
    "version",
    "garp_master_delay",
    "garp_master_refresh",
    "dont_track_primary",
    "smtp_alert",
    "unicast_peer",
    "track_script",
    "authentication",
];

fn instance(node: &Node, synced: bool, version: Option<&str>, all: &[Node], draft: &mut Draft) {
    let get = |key: &str| node.value(key).map(str::to_owned);
    let failback = failback(node, draft);
    begin_pair(failback, draft);
    let mut router = Table::commented(node.comments.clone());
    router.comments.push(node.words.get(1).cloned().unwrap_or_default());
    router.text("interface", &get("interface").unwrap_or_else(|| "eth0".into()));
    router.number("router-id", node.value("virtual_router_id").unwrap_or("51"));
    let priority = priority(node, all, &mut router, draft);
    let old = is_old(node, version);
    interval(node, old, &mut router, draft);
    if old {
        router.set_with("version", 2u8, "keepalived's own default");
    }
    password(node, old, &mut router, draft);
    let own = node.child("virtual_ipaddress").and_then(|n| n.children.first());
    if own.and_then(|c| c.words.first()).is_some_and(|a| a.contains(':')) {
        router.text("family", "ipv6");
    }
    if let Some(peers) = node.child("unicast_peer") {
        // In its block, with more about each behind it, or on its line.
        for more in peers.children.iter().filter(|c| c.words.len() > 1 && address(&c.words[1]).is_none()) {
            draft.left(more.line, &more.words[1..].join(" "), "not carried over");
        }
        let all = peers.children.iter().flat_map(|c| c.words.iter().take_while(|w| address(w).is_some()));
        let peers: Vec<&str> = peers.words[1..].iter().chain(all).map(String::as_str).collect();
        router.texts("unicast", &peers);
    }
    draft.routers.push(router);
    for script in node.children.iter().filter(|c| c.is("track_script")) {
        track(script, priority, all, draft);
    }
    floating_addresses(node, draft);
    if synced && draft.routers.len() == 2 {
        draft.left(node.line, "vrrp_sync_group", "all routers of [pair] move together by themselves");
    }
    for child in &node.children {
        let keyword = child.words.first().map_or("", String::as_str);
        match keyword {
            _ if HANDLED.contains(&keyword) => {}
            "track_process" => track_process(child, all, draft),
            "unicast_src_ip" | "mcast_src_ip" => {
                draft.note(child.line, keyword, "messages come from the interface's own address");
            }
            "notify" if child.words.len() == 2 && child.words[1].starts_with('/') => {
                let script = child.words[1].clone();
                match draft.known("pair", "notify") {
                    Some(known) if known != script => {
                        draft.left(child.line, keyword, "a pair has one `notify`")
                    }
                    _ => {
                        draft.global("pair").text("notify", &script);
                        let why = "it is called as INSTANCE lb1 STATE 100, by the `name` and `priority` of [pair] and not \
                                   those of the instance, as nobody, and not when the node starts as backup";
                        draft.left(child.line, keyword, why);
                    }
                }
            }
            "lvs_sync_daemon_interface" | "lvs_sync_daemon_inteface" => {
                draft.note(child.line, keyword, "with `peer` the other node knows all connections");
            }
            _ if keyword.starts_with("garp_") => {
                draft.note(child.line, keyword, "addresses are announced for a minute after they have moved");
            }
            "notify_master" | "notify_backup" | "notify_fault" | "notify" | "notify_stop" => {
                let script = child.words.get(1).cloned().unwrap_or_default();
                draft.left(
                    child.line,
                    keyword,
                    format!("{script}: see `notify` of [pair], or [[alerts.script]] with kinds = [\"role\"]"),
                );
            }
            _ => draft.left(child.line, keyword, in_its_place(keyword)),
        }
    }
}

/// What there is in the place of a keyword of a `vrrp_instance`.
fn in_its_place(keyword: &str) -> &'static str {
    match keyword {
        "preempt_delay" => {
            "a node that is well again takes the addresses back at once: see `failback` and `join-wait` of [pair]"
        }
        "virtual_routes" | "virtual_rules" => {
            "they do not move with the addresses: write them into the machine's own configuration, or see `notify` of [pair]"
        }
        "track_interface" | "track_file" => {
            "interfaces of [[pair.vrrp]] alone are looked at; a command can ask of others: \
             track = [\"/usr/bin/grep -qx 1 /sys/class/net/eth1/carrier\"]"
        }
        _ => "not carried over",
    }
}

const PLACED: &str = "the address is placed where the machine has its network";

fn floating_addresses(node: &Node, draft: &mut Draft) {
    let addresses = ["virtual_ipaddress", "virtual_ipaddress_excluded"];
    let usual = node.value("interface").unwrap_or("eth0");
    for more in addresses.iter().filter_map(|key| node.child(key)).flat_map(|n| &n.children) {
        let device = more.words.iter().skip_while(|word| *word != "dev").nth(1).map_or(usual, String::as_str);
        let words = more.words.join(" ");
        if device != usual {
            let why = format!(
                "keepalived puts it on {device}; here it goes where the machine has its network, else to the interface \
                 of the default route, or nowhere: give {device} an address of its own of that network"
            );
            draft.left(more.line, &words, why);
        } else if more.words.len() > 1 {
            draft.note(more.line, &words, PLACED);
        }
    }
    let floating: Vec<String> = addresses
        .iter()
        .filter_map(|key| node.child(key))
        .flat_map(|n| &n.children)
        .filter_map(|c| c.words.first().cloned())
        .map(|a| {
            if a.contains('/') {
                a
            } else if a.contains(':') {
                format!("{a}/128")
            } else {
                format!("{a}/32")
            }
        })
        .collect();
    for address in floating {
        draft.global("network").push("floating-ips", Value::text(address));
    }
    let why = "each is put where the machine has its network, whatever `interface` says";
    draft.global("network").comment("floating-ips", why);
}

/// Programs that Evenkeel takes the place of.
const REPLACED: [&str; 4] = ["haproxy", "keepalived", "ldirectord", "pound"];

/// The program that a script asks for, where it only asks whether one of those runs.
fn own_process<'a>(words: &[&'a str]) -> Option<&'a str> {
    let (program, rest) = words.split_first()?;
    let program = program.rsplit('/').next().unwrap_or(program);
    let name = rest.iter().find(|word| !word.starts_with('-') && **word != "0")?;
    let asks = ["killall", "pidof", "pgrep", "pkill"].contains(&program);
    let only = rest.iter().filter(|word| !word.starts_with('-') && **word != "0").count() == 1;
    (asks && only && REPLACED.contains(&name.rsplit('/').next().unwrap_or(name))).then_some(*name)
}

/// `track_process`: whether a program runs.
fn track_process(node: &Node, all: &[Node], draft: &mut Draft) {
    let inside = node.children.iter().filter_map(|c| c.words.first());
    for name in node.words[1..].iter().take(1).chain(inside) {
        let known = all.iter().find(|n| n.is("vrrp_track_process") && n.words.get(1) == Some(name));
        let process = known.and_then(|node| node.value("process")).unwrap_or(name);
        if REPLACED.contains(&process.rsplit('/').next().unwrap_or(process)) {
            let why = format!("Evenkeel stands in the place of {process} and is watched by its guard");
            draft.note(node.line, "track_process", why);
        } else {
            let why =
                format!("{process}: a script can ask: track = [\"/usr/bin/pgrep\", \"-x\", \"{process}\"]");
            draft.left(node.line, "track_process", why);
        }
    }
}

/// What a script adds to the priority: below nothing while it fails, above it while it does not.
fn weight_of(script: &Node) -> i32 {
    script.value("weight").and_then(|weight| weight.parse().ok()).unwrap_or(0)
}

/// What the scripts of an instance add to its priority while all of them succeed.
fn raised_by(node: &Node, all: &[Node]) -> i32 {
    let asked = node.children.iter().filter(|child| child.is("track_script"));
    let inside = |child: &Node| {
        let lines = child.children.iter().map(|line| line.words.clone());
        std::iter::once(child.words[1..].to_vec()).chain(lines).collect::<Vec<_>>()
    };
    let weight = |words: Vec<String>| {
        let own = words.iter().skip_while(|word| *word != "weight").nth(1).and_then(|word| word.parse().ok());
        let script = all.iter().find(|n| n.is("vrrp_script") && n.words.get(1) == words.first());
        script.map_or(0, |script| own.unwrap_or_else(|| weight_of(script)).max(0))
    };
    asked.flat_map(inside).map(weight).sum()
}

/// What a command of `track` takes off the priority while it fails.
const COST_OF_TRACK: u16 = evenkeel_model::PairSettings::COST_OF_CHECK;

/// What a failing script does here, beside what it did there.
fn while_it_fails(priority: u16, weight: i32) -> String {
    let lowered = priority.saturating_sub(COST_OF_TRACK).max(1);
    let there = match weight {
        0 => "keepalived gives the addresses away".to_owned(),
        weight => format!("keepalived takes {} off", weight.unsigned_abs()),
    };
    format!(
        "while it fails, the priority is {COST_OF_TRACK} less ({lowered} in place of {priority}; {there}): with VRRP alone \
         the other router takes over only where its own priority is above {lowered}. With `peer` the other node is \
         active, if its own passes"
    )
}

/// The script that says whether this node is fit to be active.
fn track(node: &Node, node_priority: u16, all: &[Node], draft: &mut Draft) {
    let inside = node.children.iter().filter_map(|c| c.words.first());
    for name in node.words[1..].iter().take(1).chain(inside) {
        let script = all.iter().find(|n| n.is("vrrp_script") && n.words.get(1) == Some(name));
        let Some(script) = script else {
            draft.left(node.line, "track_script", format!("there is no vrrp_script {name}"));
            continue;
        };
        let command = script.value("script").unwrap_or("");
        let words: Vec<&str> = command.split_whitespace().collect();
        let weight = weight_of(script);
        if let Some(process) = own_process(&words) {
            let why = format!(
                "Evenkeel stands in the place of {process} and is watched by its guard: no script is needed"
            );
            draft.note(script.line, "vrrp_script", why);
            continue;
        }
        if !command.starts_with('/') || command.contains(['|', '&', ';', '$', '`', '<', '>', '\'']) {
            let why = format!(
                "{command}: write it as a program with its arguments, or put it into a file of its own: track = [\"/etc/evenkeel/fit.sh\"]"
            );
            draft.left(script.line, "vrrp_script", why);
        } else {
            let pair = draft.global("pair");
            let track = Value::text(words.join(" "));
            if pair.get("track").is_none_or(|known| !known.items().contains(&track)) {
                pair.push("track", track);
            }
            pair.comment("track", "run every two seconds");
            let why = while_it_fails(node_priority, weight);
            draft.left(script.line, "vrrp_script", why);
        }
        for child in &script.children {
            match child.words[0].as_str() {
                "script" | "weight" => {}
                word @ ("interval" | "timeout" | "rise" | "fall" | "init_fail" | "user") => {
                    draft.note(
                        child.line,
                        word,
                        "it is run every two seconds, as a user that owns nothing; three failures count",
                    );
                }
                word => draft.left(child.line, word, "not carried over"),
            }
        }
    }
}

fn add_sorry(host: &str, sorry: &Node, mode: &str, pool: &mut Pool) {
    let mut server = Table::commented(vec!["sorry_server".into()]);
    server.text("name", "sorry");
    server.text("address", &place(host, sorry.words.get(2).map(String::as_str), mode));
    pool.add_last(server);
}

/// keepalived takes UDP where nothing is said, unless a check of a server tells it otherwise; files that say nothing
/// were written for TCP.
fn protocol(node: &Node, draft: &mut Draft) -> String {
    let said = node.value("protocol");
    if said.is_none() {
        let why =
            "none is written: it is TCP here, and UDP in newer versions of keepalived (protocol UDP says so)";
        draft.note(node.line, "protocol", why);
    }
    said.unwrap_or("TCP").to_lowercase()
}

fn virtual_server(node: &Node, all: &[Node], draft: &mut Draft) {
    let protocol = protocol(node, draft);
    let Some(vips) = addresses_of(node, all, draft) else { return };
    if vips.is_empty() {
        return draft.grave(node.line, "virtual_server", "it has no address and is left out");
    }
    if !["tcp", "udp"].contains(&protocol.as_str()) {
        let why = format!("{protocol} is not balanced: the service is left out");
        return draft.grave(node.line, "protocol", why);
    }
    let method = node.child("lb_kind").or_else(|| node.child("lvs_method"));
    let word = method.and_then(|m| m.words.get(1)).map_or("NAT", |w| w);
    let mode = match word.to_uppercase().as_str() {
        "DR" => "dr",
        "TUN" => "tun",
        "NAT" => "nat",
        _ => {
            draft.left(node.line, word, "the mode is nat instead");
            "nat"
        }
    };
    if let Some(more) = method.filter(|m| m.words.len() > 2) {
        draft.left(more.line, &more.words[2..].join(" "), "not carried over");
    }
    let wanted = format!("service-{}", vips[0].trim_start_matches('[').replace([':', '.', ']'], "-"));
    let mut service =
        Service { name: draft.fresh(&name(&wanted)), mode: mode.into(), vips, ..Service::default() };
    service.table.comments.clone_from(&node.comments);
    service.table.text("protocol", if protocol == "udp" { "udp" } else { "tcp" });
    let mut pool = Pool::default();
    pool.ipvs_scheduler(node.value("lb_algo").or_else(|| node.value("lvs_sched")), node.line, draft);
    let kept = node.child("persistence_timeout").map(|n| n.words.get(1).map_or("360", String::as_str));
    pool.by_source(kept, node.value("persistence_granularity"));
    if let Some(sorry) = node.child("sorry_server")
        && let Some(host) = sorry.words.get(1).and_then(|h| address(h))
    {
        if is_loopback(&host) {
            draft.left(sorry.line, "sorry_server", format!("{host}: {NO_LOCAL_SERVER}"));
        } else {
            add_sorry(&host, sorry, mode, &mut pool);
        }
    }
    if let Some(quorum) =
        node.value("quorum").and_then(|quorum| quorum.parse::<u32>().ok()).filter(|q| *q > 1)
    {
        pool.table.set("quorum", quorum);
    }
    real_servers(node, mode, &mut pool, draft);
    for child in &node.children {
        let keyword = child.words.first().map_or("", String::as_str);
        if !OF_A_SERVICE.contains(&keyword) {
            draft.left(child.line, keyword, what_to_do(child));
        }
    }
    service.own = Some(pool);
    draft.services.push(service);
}

/// What there is in the place of a keyword of a `virtual_server`.
fn what_to_do(child: &Node) -> String {
    let given = child.words[1..].join(" ");
    match child.words[0].as_str() {
        "hysteresis" => format!("{given}: the quorum has none, see `rise` and `fall` of health-check"),
        "quorum_up" | "quorum_down" => {
            let kind = if child.is("quorum_up") { "service-up" } else { "service-down" };
            format!("{given}: see [[alerts.script]] with kinds = [\"{kind}\"], which names the service")
        }
        "ops" => "every packet of UDP is a flow of its own: its silence is timeouts.udp".to_owned(),
        _ => "not carried over".to_owned(),
    }
}

/// Keywords of a `virtual_server` that are read, or say nothing here.
const OF_A_SERVICE: &[&str] = &[
    "delay_loop",
    "lb_algo",
    "lvs_sched",
    "lb_kind",
    "lvs_method",
    "persistence_timeout",
    "persistence_granularity",
    "quorum",
    "protocol",
    "sorry_server",
    "real_server",
    "nat_mask",
    "virtualhost",
    "ha_suspend",
    "alpha",
    "omega",
    "retry",
    "delay_before_retry",
    "connect_timeout",
    "warmup",
];

/// The addresses and ports of a `virtual_server`; `None` where it was told why it has none.
fn addresses_of(node: &Node, all: &[Node], draft: &mut Draft) -> Option<Vec<String>> {
    let found = match (node.words.get(1).map(String::as_str), node.words.get(2)) {
        (Some("group"), Some(group)) => {
            let found = all.iter().find(|n| n.is("virtual_server_group") && n.words.get(1) == Some(group));
            let lines = found.map_or(&[][..], |n| &n.children[..]);
            for line in lines.iter().filter(|c| c.words.len() > 2 && !members(c).is_empty()) {
                draft.left(line.line, &line.words[2..].join(" "), "not carried over");
            }
            for line in lines.iter().filter(|c| members(c).is_empty()) {
                draft.left(line.line, &line.words.join(" "), "a service needs its addresses and ports");
            }
            lines.iter().flat_map(members).collect()
        }
        (Some("fwmark"), mark) => {
            let mark = mark.cloned().unwrap_or_default();
            draft.grave(node.line, "fwmark", format!("the service of mark {mark} needs its addresses and ports: vip = [\"ADDRESS:80,443\"] has one entry for all"));
            return None;
        }
        (Some(host), port) => address(host)
            .map(|a| with_port(&a, port.map_or("*", |p| if p == "0" { "*" } else { p })))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    };
    Some(found)
}

/// The real servers with their checks.
fn real_servers(node: &Node, mode: &str, pool: &mut Pool, draft: &mut Draft) {
    let mut checks: Vec<(usize, Table)> = Vec::new();
    let mut asked: Option<(Table, usize)> = None;
    let scripts = checks::each_its_own(node, draft);
    for real in node.children.iter().filter(|c| c.is("real_server")) {
        let Some(host) = real.words.get(1).and_then(|h| address(h)) else { continue };
        let server = real_server(real, &host, mode);
        if pool.has(&server, real.line, draft) {
            continue;
        }
        let at = pool.servers.iter().filter(|s| !s.has("backup")).count();
        pool.servers.insert(at, server);
        if let Some(mut whole) = checks::check(real, node, draft) {
            if let Some(script) = &scripts {
                whole.remove("keepalived");
                whole.adopt(script);
            }
            let mut own = Table::default();
            (own.lines, whole.lines) =
                whole.lines.into_iter().partition(|line| checks::OWN.contains(&line.key.as_str()));
            match &asked {
                Some((known, line)) if *known != whole => {
                    let why = format!("all servers of a service are asked alike: as in line {line}");
                    match [known, &whole].iter().any(|check| check.text_of("type") == Some("script")) {
                        true => draft.grave(
                            real.line,
                            "real_server",
                            format!("{why}, which says nothing of this one"),
                        ),
                        false => draft.left(real.line, "real_server", why),
                    }
                    own = checks[0].1.clone();
                }
                Some(_) => {}
                None => asked = Some((whole, real.line)),
            }
            checks.push((at, own));
        }
        what_is_left(real, draft);
    }
    let mut check = asked.map_or_else(Table::default, |(asked, _)| asked);
    crate::draft::take_shared(&mut checks).into_iter().for_each(|line| check.put(line));
    if check.lines.is_empty() {
        check.text("type", "none");
    }
    pool.table.set("health-check", check);
    for (at, own) in checks.into_iter().filter(|(_, own)| !own.lines.is_empty()) {
        pool.servers[at].set("health-check", own);
    }
}

fn real_server(real: &Node, host: &str, mode: &str) -> Table {
    let mut server = Table::commented(real.comments.clone());
    server.text(
        "name",
        &name(&format!("{host}-{}", real.words.get(2).map_or("0", String::as_str)).replace([':', '.'], "-")),
    );
    server.text("address", &place(host, real.words.get(2).map(String::as_str), mode));
    server.number("weight", real.value("weight").unwrap_or("1"));
    for (key, to) in [("uthreshold", "max-connections"), ("lthreshold", "min-connections")] {
        if let Some(value) = real.value(key) {
            server.number(to, value);
        }
    }
    server
}

/// What a `real_server` says beside its address, weight and check.
fn what_is_left(real: &Node, draft: &mut Draft) {
    for child in &real.children {
        match child.words[0].as_str() {
            keyword if keyword.starts_with("notify_") => {
                let why = "see [[alerts.script]] with kinds = [\"server-up\", \"server-down\"]";
                draft.left(child.line, keyword, why);
            }
            // A server that is down keeps its connections anyway.
            "weight" | "uthreshold" | "lthreshold" | "inhibit_on_failure" | "virtualhost" | "retry"
            | "delay_loop" | "delay_before_retry" | "connect_timeout" | "alpha" | "warmup" | "smtp_alert" => {
            }
            keyword if checks::CHECKERS.contains(&keyword) => {}
            keyword => draft.left(child.line, keyword, "not carried over"),
        }
    }
}

/// `ADDRESS[-LAST] PORT` of a group.
fn members(node: &Node) -> Vec<String> {
    let [place, rest @ ..] = node.words.as_slice() else { return Vec::new() };
    let port = rest.first().map_or("*", |p| if p == "0" { "*" } else { p });
    let (first, last) = place.split_once('-').unwrap_or((place, ""));
    let Some(first) = address(first) else { return Vec::new() };
    let mut all = vec![with_port(&first, port)];
    // The last part counts on, in the digits of its version.
    let sign = if first.contains(':') { ':' } else { '.' };
    let radix = if sign == ':' { 16 } else { 10 };
    if let Some((network, from)) = first.rsplit_once(sign)
        && let (Ok(from), Ok(to)) = (u32::from_str_radix(from, radix), u32::from_str_radix(last, radix))
    {
        let each = (from + 1..=to.min(from + 255)).map(|n| match sign {
            ':' => format!("{network}:{n:x}"),
            _ => format!("{network}.{n}"),
        });
        all.extend(each.map(|host| with_port(&host, port)));
    }
    all
}

/// In `dr` and `tun` the port is the VIP's.
fn place(host: &str, port: Option<&str>, mode: &str) -> String {
    match port.filter(|p| *p != "0" && mode == "nat") {
        Some(port) => with_port(host, port),
        None => host.to_owned(),
    }
}
