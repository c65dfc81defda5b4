//! What the languages of the sources have in common: durations, addresses, names.

/// A duration: a number in some unit, or a number in the unit that goes without saying.
pub fn duration(text: &str, unit: &str) -> Option<String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = if digits == text.len() { unit } else { &text[digits..] };
    Some(match unit {
        "us" => format!("{}ms", number.div_ceil(1000)),
        "ms" if number > 0 && number.is_multiple_of(3_600_000) => format!("{}h", number / 3_600_000),
        "ms" if number > 0 && number.is_multiple_of(60_000) => format!("{}m", number / 60_000),
        "ms" if number > 0 && number.is_multiple_of(1000) => format!("{}s", number / 1000),
        "ms" | "s" | "m" | "h" | "d" => format!("{number}{unit}"),
        _ => return None,
    })
}

/// A name as Evenkeel takes it, of any text.
pub fn name(text: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() || "._-:".contains(c) { c } else { '-' };
    let plain: String = text.chars().map(good).collect();
    let trimmed = plain.trim_start_matches(['-', '.', '_', ':']);
    let short: String = trimmed.chars().take(64).collect();
    if short.is_empty() { "service".into() } else { short }
}

/// A place without the family that HAProxy writes before it (`ipv4@`, `tcp6@`), and whether it is that of IPv6.
pub fn family(place: &str) -> (Option<bool>, &str) {
    let place = place.strip_prefix("stream+").unwrap_or(place);
    let families = [("ipv4@", false), ("tcp4@", false), ("ipv6@", true), ("tcp6@", true)];
    let of = families.iter().find_map(|(word, is_v6)| Some((Some(*is_v6), place.strip_prefix(word)?)));
    of.unwrap_or_else(|| {
        let bare = ["tcp@", "ip@"].iter().find_map(|word| place.strip_prefix(word));
        (None, bare.unwrap_or(place))
    })
}

/// The place alone.
pub fn without_family(place: &str) -> &str {
    family(place).1
}

/// Whether a host is an address; `localhost` is one.
pub fn address(host: &str) -> Option<String> {
    let bare = family(host).1.trim_matches(['[', ']']);
    if bare == "localhost" {
        return Some("127.0.0.1".into());
    }
    bare.parse::<std::net::IpAddr>().ok().map(|a| a.to_string())
}

/// What is said of a server at layer 4 that is this machine.
pub const NO_LOCAL_SERVER: &str = "layer 4 reaches no server of this machine; mode tcp or http can";

/// Whether an address is one of this machine alone.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    bare.parse::<std::net::IpAddr>().is_ok_and(|own| own.is_loopback())
}

/// An address, or a host name as it is written.
pub fn host(host: &str) -> Option<String> {
    address(host).or_else(|| evenkeel_model::HostName::new(host).map(|name| name.as_str().to_owned()))
}

/// `ADDRESS` and the text behind its last colon; IPv6 with or without brackets.
pub fn split_port(text: &str) -> (&str, Option<&str>) {
    let bare_ipv6 = text.ends_with(']') || text.parse::<std::net::Ipv6Addr>().is_ok() && text != "::";
    match text.rsplit_once(':') {
        Some((host, port)) if !bare_ipv6 => (host, Some(port)),
        _ => (text, None),
    }
}

/// Names of ports that are balanced, as IANA has them and `/etc/services` lists them.
const PORTS: &[(&str, u16)] = &[
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("mail", 25),
    ("domain", 53),
    ("tftp", 69),
    ("http", 80),
    ("www", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("pop-3", 110),
    ("sunrpc", 111),
    ("nntp", 119),
    ("ntp", 123),
    ("imap2", 143),
    ("imap", 143),
    ("snmp", 161),
    ("ldap", 389),
    ("https", 443),
    ("submissions", 465),
    ("ssmtp", 465),
    ("smtps", 465),
    ("syslog", 514),
    ("nntps", 563),
    ("submission", 587),
    ("ldaps", 636),
    ("rsync", 873),
    ("ftps-data", 989),
    ("ftps", 990),
    ("telnets", 992),
    ("imaps", 993),
    ("pop3s", 995),
    ("socks", 1080),
    ("openvpn", 1194),
    ("ms-sql-s", 1433),
    ("radius", 1812),
    ("radius-acct", 1813),
    ("nfs", 2049),
    ("squid", 3128),
    ("mysql", 3306),
    ("ms-wbt-server", 3389),
    ("svn", 3690),
    ("sieve", 4190),
    ("sip", 5060),
    ("sip-tls", 5061),
    ("xmpp-client", 5222),
    ("postgresql", 5432),
    ("amqps", 5671),
    ("amqp", 5672),
    ("x11", 6000),
    ("redis", 6379),
    ("http-alt", 8080),
    ("webcache", 8080),
];

/// The number of a port that may be written by its name; other texts stay as they are.
pub fn port_number(port: &str) -> String {
    let known = PORTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(port));
    known.map_or_else(|| port.to_owned(), |(_, number)| number.to_string())
}

/// An address with a port, brackets where they are needed.
pub fn with_port(address: &str, port: &str) -> String {
    match address.contains(':') && !address.starts_with('[') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

/// Whether a text is one word as HTTP has them (RFC 9110 section 5.6.2).
pub fn is_token(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

/// A text that has no variables, as texts with variables have it.
pub fn literal(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// A text between quotes as conditions and texts with variables have it, which escape a quote and a backslash
/// alone: other signs stand for themselves.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The text of a TOML string.
pub fn unquoted(value: &str) -> String {
    match value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')) {
        Some(literal) => literal.to_owned(),
        None => serde_json::from_str(value).unwrap_or_else(|_| value.to_owned()),
    }
}

/// The text as a regular expression that matches it alone.
pub fn regex_literal(text: &str) -> String {
    let mut literal = String::new();
    for sign in text.chars() {
        if !sign.is_ascii_alphanumeric() && sign.is_ascii() && !"/-_ ".contains(sign) {
            literal.push('\\');
        }
        literal.push(sign);
    }
    literal
}
