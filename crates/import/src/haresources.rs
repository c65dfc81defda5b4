//! `haresources` of heartbeat, version 1: which node has which addresses and services.

use crate::draft::{Draft, Value};

pub fn read(text: &str, draft: &mut Draft) {
    let mut nodes: Vec<String> = Vec::new();
    let mut whole = String::new();
    let mut begin = 0;
    for (at, line) in text.lines().enumerate() {
        if whole.is_empty() {
            begin = at + 1;
        }
        let bare = line.trim();
        if let Some(comment) = bare.strip_prefix('#').filter(|_| whole.is_empty()) {
            let comment = comment.trim();
            if !comment.is_empty() {
                draft.head.push(comment.to_owned());
            }
            continue;
        }
        whole.push_str(bare.trim_end_matches('\\'));
        if bare.ends_with('\\') {
            whole.push(' ');
            continue;
        }
        let line = std::mem::take(&mut whole);
        let mut words = line.split_whitespace();
        let Some(node) = words.next() else { continue };
        words.for_each(|resource| one(begin, resource, draft));
        nodes.push(node.to_owned());
        if nodes.iter().any(|known| known != node) {
            let why = "each node had resources of its own: a pair has one role, and all addresses move together \
                       to the active node";
            draft.left(begin, node, why);
        }
    }
    if let Some(node) = nodes.first() {
        let why = "the node that has the addresses usually is the active one: write [pair] on both, then \
                   `evenkeel pair invite` (docs/pair.md)";
        draft.left(1, node, why);
    }
}

/// `ADDRESS[/PREFIX[/INTERFACE[/BROADCAST]]]`, or a script with its arguments.
fn one(line: usize, resource: &str, draft: &mut Draft) {
    let (script, arguments) =
        resource.split_once("::").filter(|(script, _)| is_script(script)).unwrap_or(("", resource));
    match if script.is_empty() && !arguments.contains(['.', ':', '/']) { arguments } else { script } {
        "" => address(line, resource, arguments, draft),
        "IPaddr" | "IPaddr2" | "IPv6addr" => address(line, resource, arguments, draft),
        "ldirectord" => {
            let why = format!("its services are in {arguments}: give it as well, `ldirectord {arguments}`");
            draft.note(line, resource, why);
        }
        "LVSSyncDaemonSwap" => {
            draft.remark(line, resource, "connections are known to both nodes of a pair by themselves");
        }
        served @ ("haproxy" | "pound" | "nginx" | "keepalived" | "stunnel" | "stunnel4") => {
            let why = format!("what {served} served is to be served here: give its file as well");
            draft.note(line, resource, why);
        }
        "MailTo" => {
            let to = arguments.split("::").next().unwrap_or("");
            draft.left(
                line,
                resource,
                format!("{to}: mail about the role is an alert: see `mail` of [alerts]"),
            );
        }
        "IPsrcaddr" => {
            let why = "what real servers see as the client's address says `source` of a service";
            draft.left(line, resource, why);
        }
        _ => {
            let why = "it is not started and stopped with the role: see `notify` of [pair]";
            draft.left(line, resource, why);
        }
    }
}

/// Whether a part before `::` is a script's name, not the beginning of an address of IPv6.
fn is_script(text: &str) -> bool {
    text.chars().any(|c| c.is_ascii_alphabetic() && !c.is_ascii_hexdigit()) && !text.contains(':')
}

fn address(line: usize, resource: &str, text: &str, draft: &mut Draft) {
    let mut parts = text.split('/');
    let host = parts.next().and_then(|host| host.parse::<std::net::IpAddr>().ok());
    let Some(host) = host else {
        return draft.left(line, resource, "it is no address: write it into floating-ips of [network]");
    };
    let most = u32::from(evenkeel_model::host_prefix(host));
    let length = match parts.next() {
        None => most,
        Some(mask) => match crate::draft::prefix(mask).filter(|length| *length <= most) {
            Some(length) => length,
            None => return draft.wrong(line, resource, format!("{mask} is no netmask")),
        },
    };
    if let Some(interface) = parts.next() {
        let why = format!("{interface}: the address is placed where the machine has its network");
        draft.remark(line, resource, why);
    }
    let network = draft.global("network");
    let own = Value::text(format!("{host}/{length}"));
    if !network.get("floating-ips").is_some_and(|known| known.items().contains(&own)) {
        network.push("floating-ips", own);
    }
}

#[cfg(test)]
mod tests {
    use crate::{Source, SourceKind, import};

    #[test]
    fn addresses_float_and_the_rest_is_told() {
        let text = "# the pair\nlb1 192.0.2.10 IPaddr::192.0.2.11/24/eth0 \\\n  IPv6addr::2001:db8::1/64 2001:db8::2 ldirectord::l.cf LVSSyncDaemonSwap::master\nlb1 IPaddr2::192.0.2.12/255.255.255.0/eth1/192.0.2.255 httpd haproxy MailTo::a@example.org\nlb1 192.0.2.13/99\n";
        let source = Source { kind: SourceKind::Haresources, file: "haresources".into(), text: text.into() };
        let made = import(&[source], &Default::default());
        evenkeel_config::read(&made.text).unwrap_or_else(|e| panic!("{e:?}\n{}", made.text));
        let floating = "floating-ips = [\"192.0.2.10/32\", \"192.0.2.11/24\", \"2001:db8::1/64\", \"2001:db8::2/128\", \"192.0.2.12/24\"]";
        assert!(made.text.contains(floating), "{}", made.text);
        let told: Vec<(usize, &str)> = made.left.iter().map(|l| (l.line, l.severity.as_str())).collect();
        let expected = [
            (2, "remark"),
            (2, "note"),
            (2, "remark"),
            (4, "remark"),
            (4, "lost"),
            (4, "note"),
            (4, "lost"),
            (5, "wrong"),
            (1, "lost"),
        ];
        assert_eq!(told, expected, "{:#?}", made.left);
    }
}
