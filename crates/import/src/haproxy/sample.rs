//! HAProxy's samples and their converters as texts with variables.

use evenkeel_model::CertificateFault;

use evenkeel_rules::unbase64;

use super::flags::{Flags, flags};
use super::identity;
pub use crate::words::literal;
use crate::words::quoted;

/// Where `unique-id-format` is kept.
pub const UNIQUE_ID: &str = "txn.unique-id";

/// A text with HAProxy's variables, with Evenkeel's.
pub fn variables(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    let mut of_all = Flags::default();
    while let Some(at) = rest.find('%') {
        out.push_str(&literal(&rest[..at]));
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (flags, after) = flags(rest)?;
        rest = after;
        let (word, after) = match rest.strip_prefix('[') {
            Some(inner) => {
                let end = end_of(inner).ok_or("a %[ has no ]")?;
                (&inner[..end], &inner[end + 1..])
            }
            None => {
                let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        rest = after;
        // `%{+Q}o` is of all that follow.
        if word == "o" {
            of_all = flags;
            continue;
        }
        let quote = if flags.quoted.or(of_all.quoted).unwrap_or(false) { "\"" } else { "" };
        out.push_str(&format!("{quote}{}{quote}", template(word)?));
    }
    out.push_str(&literal(rest));
    Ok(out)
}

/// The bracket that ends a sample; those of arguments do not.
pub fn end_of(text: &str) -> Option<usize> {
    let mut depth = 0i32;
    text.bytes().position(|byte| {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        byte == b']' && depth <= 0
    })
}

/// A sample with its converters: names, and what stands in their parentheses.
pub fn chain(text: &str) -> Vec<(String, Option<String>)> {
    let mut parts = vec![String::new()];
    let (mut depth, mut quote) = (0i32, None);
    for c in text.trim().chars() {
        let last = parts.len() - 1;
        match c {
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() && depth > 0 => quote = Some(c),
            '(' if quote.is_none() => depth += 1,
            ')' if quote.is_none() => depth -= 1,
            ',' if depth == 0 && quote.is_none() => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts[last].push(c);
    }
    let split = |part: String| match part.trim().split_once('(') {
        Some((name, rest)) => (name.to_owned(), Some(rest.strip_suffix(')').unwrap_or(rest).to_owned())),
        None => (part.trim().to_owned(), None),
    };
    parts.into_iter().map(split).collect()
}

/// The arguments of a converter, quotes taken away.
fn arguments(text: Option<&str>) -> Vec<String> {
    let Some(text) = text else { return Vec::new() };
    let mut all = vec![String::new()];
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = all.len() - 1;
        match c {
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            // Another one is a part of an expression, such as `\d` or `\1`.
            '\\' if quote != Some('\'') => {
                let escaped = chars.next_if(|next| "\\\"' ".contains(*next));
                all[last].push(escaped.unwrap_or('\\'));
            }
            ',' if quote.is_none() => all.push(String::new()),
            c => all[last].push(c),
        }
    }
    all
}

/// A variable's name: those of one request or one connection have a counterpart.
pub fn variable(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match name.split_once('.') {
        Some(("txn" | "req" | "res" | "sess", rest)) if !rest.is_empty() && name.chars().all(plain) => {
            Ok(name.into())
        }
        Some(("proc", _)) => {
            Err(format!("the variable {name} of the process is set in global alone: take txn. or sess."))
        }
        _ => Err(format!("the variable {name} has no counterpart")),
    }
}

/// A sample as a text with one variable, and its converters.
pub fn template(text: &str) -> Result<String, String> {
    let parts = chain(text);
    let Some(((name, argument), converters)) = parts.split_first() else {
        return Err("a sample is needed".into());
    };
    let whole = source(name, argument.as_deref())?;
    if converters.is_empty() {
        return Ok(whole);
    }
    let sure = [
        "{\"",
        "{path",
        "{source",
        "{destination",
        "{port",
        "{method",
        "{random",
        "{unix-time",
        "{uuid",
        "{hostname",
    ];
    let always = sure.iter().any(|begin| whole.starts_with(begin)) || whole.contains("|default(");
    let (Some(inner), 1) =
        (whole.strip_prefix('{').and_then(|w| w.strip_suffix('}')), whole.matches('{').count())
    else {
        return Err(format!("the converters of {name} have no counterpart"));
    };
    let mut out = inner.to_owned();
    let mut is_number = ["int", "bool", "date", "rand"].contains(&name.as_str())
        || name.ends_with("_cnt")
        || name.ends_with("_val");
    let mut sure = always || out.contains("|present");
    // A text ends at its first zero byte there.
    let mut is_binary = ["var", "bin", "req.payload", "body"].contains(&name.trim_start_matches("req."));
    for (name, argument) in converters {
        let mut converted = converter(name, &arguments(argument.as_deref()))?;
        if name == "length" && is_binary {
            converted = replace("(?s-u:\\x00.*)$", "", false)? + "|length";
        }
        is_binary = makes_bytes(name) || is_binary && name == "bytes";
        if converted.is_empty() {
            continue;
        }
        // Nothing is made of what is not there.
        if !sure && makes_something(&converted) {
            out.push_str("|present");
            sure = true;
        }
        if !is_number && wants_number(name) {
            out.push_str("|integer");
        }
        is_number = wants_number(name) && name != "iif";
        sure &= !may_fail(&converted);
        out = format!("{out}|{converted}");
    }
    Ok(format!("{{{out}}}"))
}

/// Converters whose value may have any bytes.
fn makes_bytes(name: &str) -> bool {
    ["b64dec", "ub64dec", "sha1", "sha2", "digest", "hmac"].contains(&name)
}

/// Converters that make something of an empty text as well.
fn makes_something(converter: &str) -> bool {
    let name = converter.split('(').next().unwrap_or("");
    let harmless =
        ["lower", "upper", "trim", "field", "word", "bytes", "hex", "json", "default", "replace", "network"];
    // A map without a text for those that are not there.
    let is_bare_map = name == "map" && !converter.ends_with("\")");
    !harmless.contains(&name) && !is_bare_map && !name.contains("decode") && !name.contains("encode")
}

/// Converters that find nothing in some texts.
fn may_fail(converter: &str) -> bool {
    let name = converter.split('(').next().unwrap_or("");
    let is_bare_map = name == "map" && !converter.ends_with("\")");
    ["field", "word", "json-query", "param", "base64-decode"].contains(&name) || is_bare_map
}

/// Converters that take their value for a number.
fn wants_number(name: &str) -> bool {
    let of_bits = ["and", "or", "xor", "cpl", "not", "bool", "odd", "even", "iif", "neg", "http_date"];
    of_bits.contains(&name) || ["add", "sub", "mul", "div", "mod"].contains(&name)
}

fn source(name: &str, argument: Option<&str>) -> Result<String, String> {
    let whole = argument.unwrap_or("");
    let bare = name.trim_start_matches("req.");
    // One of a header's values, as an address or a number.
    if bare == "hdr_ip" && !whole.is_empty() {
        let text = source("req.hdr", argument)?;
        return Ok(format!("{}|network(32,128)}}", text.trim_end_matches('}')));
    }
    if let Some(made) = identity::source(name, whole) {
        return Ok(made);
    }
    // Made by `Counted::in_texts`.
    if name == "counted" {
        return Ok(format!("{{{whole}}}"));
    }
    let of_number = [
        ("hdr_val", "req.hdr"),
        ("res.hdr_val", "res.hdr"),
        ("shdr_val", "res.hdr"),
        ("cook_val", "req.cook"),
        ("urlp_val", "urlp"),
    ];
    if let Some((_, of)) = of_number.iter().find(|(name, _)| *name == bare) {
        let text = source(of, argument)?;
        return Ok(format!("{}|present|integer}}", text.trim_end_matches('}')));
    }
    if ["url_param", "urlp"].contains(&bare)
        && let Some((name, more)) = whole.split_once(',')
    {
        return super::parameters::named(name.trim(), more);
    }
    let argument = whole.trim();
    let (first, occurrence) = argument.split_once(',').unwrap_or((argument, ""));
    // A captured header is known by the number of its line alone.
    if name.starts_with("capture.") && name.ends_with("hdr") {
        return Err(format!("{name}({whole}) has no counterpart: name the header itself"));
    }
    let bare = name.trim_start_matches("req.").trim_start_matches("capture.req.");
    Ok(match bare {
        "str" => {
            let text = arguments(Some(whole)).join(",");
            if text.contains(['{', '}']) {
                return Err("a text with braces has no counterpart here".into());
            }
            format!("{{{}}}", quoted(&text))
        }
        "bin" if argument.bytes().all(|b| b.is_ascii_hexdigit()) => format!("{{\"{argument}\"|hex-decode}}"),
        "cook_cnt" if argument.is_empty() => "{cookie-count}".into(),
        "cook_names" => "{cookie-names}".into(),
        "res.cook_names" => "{answer-cookie-names}".into(),
        "cook" | "cookie" if argument.is_empty() => "{cookie}".into(),
        "hdr_cnt" if !first.is_empty() => format!("{{header-count:{first}}}"),
        "fhdr_cnt" if !first.is_empty() => format!("{{header-lines:{first}}}"),
        "res.hdr_cnt" | "shdr_cnt" if !first.is_empty() => format!("{{answer-header-count:{first}}}"),
        "res.fhdr_cnt" if !first.is_empty() => format!("{{answer-header-lines:{first}}}"),
        "cook_cnt" if !first.is_empty() => format!("{{cookie-count:{first}}}"),
        "int" if argument.parse::<i64>().is_ok() => format!("{{{}}}", quoted(argument)),
        "bool" if ["true", "yes", "on", "1"].contains(&argument) => "{\"1\"}".into(),
        "bool" if ["false", "no", "off", "0"].contains(&argument) => "{\"0\"}".into(),
        "body" if argument.is_empty() && name == "req.body" => "{body}".into(),
        "body_len" if name == "req.body_len" => "{body|length}".into(),
        "body_param" if !first.is_empty() && name == "req.body_param" => format!("{{body:{first}}}"),
        "rand" if argument.is_empty() => "{random}".into(),
        "rand" if argument.parse::<u32>().is_ok_and(|n| n > 0) => format!("{{random|mod({argument})}}"),
        "date" if argument.is_empty() => "{unix-time}".into(),
        "date" if argument.parse::<i64>().is_ok() => format!("{{unix-time|add({argument})}}"),
        "ssl_fc_alpn" => "{alpn}".into(),
        "ssl_fc_has_sni" => "{sni|if(\"1\",\"0\")}".into(),
        "var" if occurrence.is_empty() => format!("{{variable:{}}}", variable(first)?),
        "var" => {
            let text = arguments(Some(occurrence)).join(",");
            format!("{{variable:{}|default({})}}", variable(first)?, self::argument(&text))
        }
        "ipv4" | "ipv6" if argument.parse::<std::net::IpAddr>().is_ok() => format!("{{\"{argument}\"}}"),
        "fc_pp_authority" => "{proxy-value:0x02}".into(),
        "fc_pp_unique_id" => "{proxy-value:0x05}".into(),
        "fc_pp_tlv" if number(argument).is_some() => {
            format!("{{proxy-value:0x{:02x}}}", number(argument).unwrap_or(0))
        }
        "fc_src" => "{connection-source}".into(),
        "fc_dst" => "{connection-destination}".into(),
        "src" | "ci" => "{source}".into(),
        "src_port" | "cp" => "{source-port}".into(),
        "dst" | "fi" => "{destination}".into(),
        "dst_port" | "fp" => "{port}".into(),
        "hostname" | "H" if argument.is_empty() => "{hostname}".into(),
        "http_first_req" => "{first-request}".into(),
        "ssl_fc" => "{tls}".into(),
        "ssl_fc_is_resumed" => "{tls-resumed}".into(),
        "ssl_c_used" | "ssl_fc_has_crt" => "{client-cert}".into(),
        "ssl_c_verify" | "ssl_c_err" => VERIFY.into(),
        // A client whose handshake fails, or whose authorities do not verify, makes no requests.
        "ssl_c_ca_err" | "ssl_c_ca_err_depth" | "ssl_fc_err" | "fc_err" => "{\"0\"}".into(),
        "status" => "{status}".into(),
        "srv_name" => "{server}".into(),
        "uuid" if ["", "4"].contains(&argument) => "{uuid}".into(),
        // A variable that the first rule sets.
        "unique-id" | "ID" => format!("{{variable:{UNIQUE_ID}}}"),
        "res.fhdr" if !first.is_empty() && occurrence.is_empty() => format!("{{last-answer-header:{first}}}"),
        "res.fhdr" if !first.is_empty() => {
            format!("{{answer-header-line:{first},{}}}", occurrence_of(occurrence)?)
        }
        "res.hdr" | "shdr" if !first.is_empty() => {
            format!("{{answer-header-value:{first},{}}}", occurrence_of(occurrence)?)
        }
        "path" | "HP" => "{path}".into(),
        "uri" | "url" | "HU" if !name.starts_with("capture") => "{url}".into(),
        "uri" | "pathq" | "HPO" => "{uri}".into(),
        "query" | "HQ" => "{query}".into(),
        "method" | "HM" => "{method}".into(),
        "base" => "{header:Host}{path}".into(),
        "base32" => "{header:Host|append(\"{path}\")|sdbm(mixed)}".into(),
        "url32" => "{header:Host|append(\"{uri}\")|sdbm(mixed)}".into(),
        // There the four bytes of the number and those of the address; as a key it is as good.
        "base32+src" => "{header:Host|append(\"{path}\")|sdbm(mixed)|append(\"-{source}\")}".into(),
        "url32+src" => "{header:Host|append(\"{uri}\")|sdbm(mixed)|append(\"-{source}\")}".into(),
        "ssl_fc_sni" | "ssl_sni" | "req_ssl_sni" => "{sni}".into(),
        "ssl_fc_protocol" | "sslv" => "{tls-version}".into(),
        "ssl_fc_cipher" | "sslc" => "{tls-cipher}".into(),
        "ssl_c_s_dn" if argument.eq_ignore_ascii_case("cn") => "{client-cert-cn}".into(),
        _ if of_certificate(bare, argument).is_some() => of_certificate(bare, argument).unwrap_or_default(),
        // With its port.
        "hdr" | "fhdr" if first.eq_ignore_ascii_case("host") => "{header:Host}".into(),
        "ver" if name.starts_with("capture") => "HTTP/{version}".into(),
        "ver" | "req_ver" => "{version}".into(),
        "fhdr" if !first.is_empty() && occurrence.is_empty() => format!("{{last-header:{first}}}"),
        "fhdr" if !first.is_empty() => format!("{{header-line:{first},{}}}", occurrence_of(occurrence)?),
        // The parts of a list are values of their own there; the last one is used.
        "hdr" if !first.is_empty() => format!("{{header-value:{first},{}}}", occurrence_of(occurrence)?),
        "cook" | "cookie" if !first.is_empty() => format!("{{last-cookie:{first}}}"),
        "url_param" | "urlp" if !first.is_empty() => format!("{{query:{first}}}"),
        _ => return Err(format!("the variable {name} has no counterpart")),
    })
}

/// What is wrong with a client's certificate.
const VERIFY: &str = "{client-certificate:verify}";

/// `ssl_c_s_dn`, `ssl_f_sha1`, `ssl_s_notafter` and their like: whose certificate, and which field.
fn of_certificate(name: &str, argument: &str) -> Option<String> {
    let (whose, field) = name.strip_prefix("ssl_")?.split_at_checked(2)?;
    let whose = match whose {
        "c_" => "client",
        "f_" => "own",
        "s_" => "server",
        _ => return None,
    };
    let field = match field {
        "der" | "sha1" | "serial" => return Some(format!("{{{whose}-certificate:{field}|hex-decode}}")),
        "chain_der" => return Some(format!("{{{whose}-certificate:chain-der|hex-decode}}")),
        "notafter" => "not-after",
        "notbefore" => "not-before",
        "sig_alg" => "signature-algorithm",
        "key_alg" => "key-algorithm",
        "version" => "version",
        "s_dn" => "subject",
        "i_dn" => "issuer",
        _ => return None,
    };
    match (field, argument) {
        (_, "") => Some(format!("{{{whose}-certificate:{field}}}")),
        ("subject" | "issuer", part) if part.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Some(format!("{{{whose}-certificate:{field}.{part}}}"))
        }
        _ => None,
    }
}

/// A byte, also as `0xE1`.
fn number(text: &str) -> Option<u8> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Which of several values; the last one unless it says otherwise.
fn occurrence_of(text: &str) -> Result<i64, String> {
    match text.trim() {
        "" => Ok(-1),
        text => match text.parse() {
            Ok(0) | Err(_) => Err(format!("the occurrence {text} is no number from 1, or from -1")),
            Ok(at) => Ok(at),
        },
    }
}

/// A sample of several values, of which a condition asks each: of headers those in lists, or whole lines.
pub fn each(text: &str, lines: bool) -> Result<String, String> {
    let template = template(text)?;
    let (begin, rest) = template.split_once([',', '|', '}']).unwrap_or((&template, ""));
    let at = begin.len();
    let name = begin.split_once(':').map_or("", |(_, name)| name);
    let of_answer = begin.starts_with("{answer") || begin.starts_with("{last-answer");
    let kind = if lines { "header-line" } else { "header-value" };
    let rest = match template.as_bytes().get(at) {
        Some(b',') => rest.strip_prefix("-1").unwrap_or(rest).to_owned(),
        _ => template[at..].to_owned(),
    };
    Ok(format!("{{{}{kind}:{name},each{rest}", if of_answer { "answer-" } else { "" }))
}

/// When a sample has a value; empty where it always has one. Without one HAProxy leaves a variable as it
/// was.
pub fn presence(text: &str) -> String {
    let parts = chain(text);
    if parts.first().is_some_and(|(name, _)| name == "query") {
        return "text(\"{uri}\", \"*?*\")".into();
    }
    let fails = |(name, argument): &(String, Option<String>)| {
        converter(name, &arguments(argument.as_deref())).is_ok_and(|converted| may_fail(&converted))
    };
    let of_proxy_header = parts.first().is_some_and(|(name, _)| name.starts_with("fc_pp_"));
    if (of_proxy_header || parts.iter().skip(1).any(fails))
        && let Ok(template) = template(text)
    {
        return format!("present({})", quoted(&template));
    }
    let Some((name, Some(argument))) = parts.first() else { return String::new() };
    // Of any case.
    if name.trim_start_matches("req.").starts_with("url") && argument.ends_with(",i") {
        return template(text).map_or_else(|_| String::new(), |text| format!("present({})", quoted(&text)));
    }
    if name == "var" && argument.contains(',') {
        return String::new();
    }
    let first = argument.split(',').next().unwrap_or("").trim();
    let test = match name.trim_start_matches("req.") {
        "hdr" | "fhdr" => "header",
        "cook" | "cookie" | "cook_val" => "cookie",
        "url_param" | "urlp" => "query",
        "res.hdr" | "res.fhdr" | "shdr" => "answer-header",
        "var" => "variable",
        _ => return String::new(),
    };
    if first.is_empty() { String::new() } else { format!("{test}({})", quoted(first)) }
}

pub fn is_map(converter: &str) -> bool {
    converter == "map" || converter.starts_with("map_")
}

/// How the keys of `map`, `map_beg`, `map_dom_int` and their like are compared. A value is a text, whichever
/// type the name asks for; `map_beg_key`, which gives the key, is refused.
pub fn compared(converter: &str) -> Result<&'static str, String> {
    let mut words = converter.split('_').skip(1);
    let kind = words.next().unwrap_or("");
    let given = words.next().unwrap_or("str");
    if !matches!(given, "str" | "int" | "ip") || words.next().is_some() {
        return Err(format!("the converter {converter} has no counterpart"));
    }
    Ok(match kind {
        "" | "str" => "exact",
        "beg" => "begin",
        // Lists there, in which the first one that fits is taken.
        "end" => "end-in-order",
        "dom" => "domain-in-order",
        "dir" => "directory-in-order",
        "sub" => "contains",
        "reg" => "regex",
        "regm" => "regex-groups",
        "ip" => "network",
        _ => return Err(format!("the converter {converter} has no counterpart")),
    })
}

/// What is looked up in a map.
#[derive(Debug, PartialEq, Eq)]
pub struct LookUp {
    pub key: String,
    pub file: String,
    /// How the keys of the file are compared.
    pub matching: &'static str,
    pub default: Option<String>,
}

/// A chain that ends in a map.
pub fn looked_up(text: &str) -> Option<Result<LookUp, String>> {
    let parts = chain(text);
    let (name, written) = parts.last().filter(|(name, _)| is_map(name))?;
    let mut words = arguments(written.as_deref()).into_iter();
    let file = words.next().unwrap_or_default();
    let before: Vec<String> = parts[..parts.len() - 1]
        .iter()
        .map(|(name, argument)| argument.as_ref().map_or_else(|| name.clone(), |a| format!("{name}({a})")))
        .collect();
    let default = words.next();
    let key = template(&before.join(","));
    Some(key.and_then(|key| Ok(LookUp { key, file, matching: compared(name)?, default })))
}

/// A text as an argument of Evenkeel's converters.
pub fn argument(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The rules that replace write the text in the place of all, where the expression matches a part.
pub fn replace_whole(regex: &str, text: &str) -> Result<String, String> {
    replace(&format!("^(?s:.*?)(?:{regex})(?s:.*)$"), text, false)
}

/// The same of each value of a list.
pub fn replace_values(regex: &str, text: &str) -> Result<String, String> {
    let bare = regex.strip_prefix('^').unwrap_or(regex);
    let from = if bare.len() < regex.len() { "" } else { "[^,]*?" };
    let inner = bare.strip_suffix('$').filter(|r| !r.ends_with('\\')).unwrap_or(bare);
    let to = if inner.len() < bare.len() { "" } else { "[^,]*" };
    let inner = within_values(inner).ok_or("an expression that asks beyond one value is not carried over")?;
    let end = if to.is_empty() { "[ \\t]*(?:(,)|$)" } else { "" };
    if !end.is_empty() {
        // What follows the value is written again.
        let text = shifted(text);
        let groups = inner.matches('(').count() - inner.matches("(?").count() - inner.matches("\\(").count();
        let text = format!("\\1{text}\\{}", groups + 2);
        return replace(&format!("(^|,)[ \\t]*{from}(?:{inner}){end}"), &text, true);
    }
    replace(&format!("(^|,)[ \\t]*{from}(?:{inner}){to}"), &format!("\\1{}", shifted(text)), true)
}

/// An expression that matches no comma where it takes any character.
fn within_values(regex: &str) -> Option<String> {
    let mut out = String::new();
    let (mut class, mut chars) = (false, regex.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let next = chars.next()?;
                if "DWSPbB".contains(next) {
                    return None;
                }
                out.extend([c, next]);
            }
            '.' if !class => out.push_str("[^,]"),
            '^' | '$' if !class => return None,
            '[' if !class => {
                class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push_str("^,");
                }
            }
            ']' => {
                class = false;
                out.push(']');
            }
            c => out.push(c),
        }
    }
    Some(out)
}

/// A text whose groups are counted behind one more.
fn shifted(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(digit @ '1'..='8') => {
                    out.push_str(&format!("\\{}", digit.to_digit(10).unwrap_or(0) + 1))
                }
                Some(other) => out.extend(['\\', other]),
                None => {}
            },
            _ => out.push(c),
        }
    }
    out
}

/// `replace(…)` of a regular expression and a text with `\\1`.
pub fn replace(regex: &str, text: &str, all: bool) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => return Err("a replacement with variables is not carried over".into()),
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some(digit @ '0'..='9') => out.push_str(&format!("${{{digit}}}")),
                Some(other) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
    }
    Ok(format!("replace({},{}{})", argument(regex), argument(&out), if all { ",all" } else { "" }))
}

fn converter(name: &str, arguments: &[String]) -> Result<String, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(made) = identity::converter(name, &words) {
        return made;
    }
    let digest = |text: &str| {
        let plain = text.to_ascii_lowercase().replace('-', "");
        match ["sha1", "sha224", "sha256", "sha384", "sha512"].contains(&plain.as_str()) {
            true => Ok(plain),
            false => Err(format!("the digest {text} has no counterpart")),
        }
    };
    Ok(match (name, words.as_slice()) {
        ("lower" | "upper" | "length" | "base64" | "sha1" | "crc32" | "crc32c", []) => name.into(),
        ("crc32" | "crc32c", ["0"]) => name.into(),
        ("djb2" | "sdbm" | "wt6" | "xxh3" | "xxh32" | "xxh64", [] | ["0"]) => name.into(),
        ("crc32" | "crc32c" | "djb2" | "sdbm" | "wt6", [flag]) if flag.parse::<u32>().is_ok() => {
            format!("{name}(mixed)")
        }
        ("xxh3" | "xxh32" | "xxh64", [seed]) if seed.parse::<u32>().is_ok() => format!("{name}({seed})"),
        // Made by `numbered`.
        ("server_number", pairs) => {
            let each = pairs.iter().map(|text| argument(text)).collect::<Vec<_>>();
            format!("choose({})", each.join(","))
        }
        ("x509_v_err_str", []) => {
            let faults = CertificateFault::ALL.map(CertificateFault::of_openssl);
            let all = std::iter::once((0, "X509_V_OK")).chain(faults);
            let each = all.map(|(number, name)| format!("{number},{name}")).collect::<Vec<_>>();
            format!("choose({})", each.join(","))
        }
        ("http_date", []) => "http-date".into(),
        ("hex2i", []) => "hex-integer".into(),
        ("cut_crlf", []) => replace("[\\r\\n](?s:.*)$", "", false)?,
        // What has none is taken out whole.
        ("has_ctl", []) => replace("^[^\\x00-\\x1f\\x7f]*$", "", false)? + "|length|if(\"1\",\"0\")",
        ("ltime" | "utime", _) => {
            return Err(format!("{name} writes times in a form of its own: http_date is carried over"));
        }
        ("json_query", [path] | [path, _]) => format!("json-query({})", argument(path)),
        // The second alternative takes everything, and the group is empty.
        ("port_only", []) => {
            let port = replace("^(?:\\[[^]]*\\]|[^:]*):([0-9]+)$|^.*$", "\\1", false)?;
            port + "|default(\"0\")"
        }
        ("param", [name, rest @ ..]) if rest.len() <= 1 => {
            let sign = rest.first().copied().unwrap_or("&");
            if sign.len() != 1 {
                return Err(format!("the converter param({}) has no counterpart", words.join(",")));
            }
            format!("param({},{})", argument(name), argument(sign))
        }
        // What is not padded is none.
        ("b64dec", []) => replace("^(?:[^=]{4})*[^=]{1,3}$", "", false)? + "|base64-decode",
        ("ub64enc", []) => "base64url".into(),
        ("ub64dec", []) => "base64url-decode".into(),
        ("hex", []) => "hex|upper".into(),
        ("url_dec", [] | ["0"]) => "uri-decode".into(),
        ("url_dec", ["1"]) => "form-decode".into(),
        ("url_enc", [] | ["query"]) => "url-encode".into(),
        ("host_only", []) => replace("^(\\[[^]]*\\]|[^:]*).*$", "\\1", false)? + "|lower",
        ("json", [] | ["ascii"] | ["utf8"] | ["utf8s"]) => "json".into(),
        ("sha2", []) => "sha256".into(),
        ("sha2", [bits]) => digest(&format!("sha{bits}"))?,
        ("digest", [kind]) => digest(kind)?,
        ("hmac", [kind, key]) => {
            if let Ok(name) = variable(key) {
                return Ok(format!("hmac({},\"{{variable:{name}|base64-decode}}\")", digest(kind)?));
            }
            let key = unbase64(key.as_bytes(), false).ok_or("a key is in Base64, or a variable")?;
            let digits: String = key.iter().map(|b| format!("{b:02x}")).collect();
            format!("hmac({},\"hex:{digits}\")", digest(kind)?)
        }
        ("field" | "word", [at, signs]) => format!("{name}({at},{})", argument(signs)),
        ("field" | "word", [at, signs, count]) => format!("{name}({at},{},{count})", argument(signs)),
        ("be2hex", []) => "hex|upper".into(),
        ("be2hex", [separator, size]) => format!("hex({},{size})|upper", argument(separator)),
        ("be2hex", [separator, size, "0"]) => format!("hex({},{size})|upper", argument(separator)),
        ("be2hex", [separator, size, _]) => format!("hex({},{size},whole)|upper", argument(separator)),
        ("be2dec", [separator, size]) => format!("decimal({},{size})", argument(separator)),
        ("be2dec", [separator, size, "0"]) => format!("decimal({},{size})", argument(separator)),
        ("be2dec", [separator, size, _]) => format!("decimal({},{size},whole)", argument(separator)),
        (map, [file, rest @ ..]) if is_map(map) && rest.len() <= 1 => {
            let default = rest.first().map_or_else(String::new, |d| format!(",{}", argument(d)));
            format!("map({},{}{default})", argument(file), compared(map)?)
        }
        ("strcmp", [name]) => format!("compare(\"{{variable:{}}}\")", variable(name)?),
        ("bytes", [offset]) => format!("bytes({offset})"),
        ("bytes", [offset, length]) => format!("bytes({offset},{length})"),
        ("iif", [then, other]) => format!("if({},{})", argument(then), argument(other)),
        ("ipmask", [v4]) => {
            format!("{}|network({v4})", replace("^.*:.*$", "", false)?)
        }
        ("ipmask", [v4, v6]) => format!("network({v4},{v6})"),
        ("add" | "sub" | "mul" | "div" | "mod" | "and" | "or" | "xor", [n]) if n.parse::<i64>().is_ok() => {
            format!("{name}({n})")
        }
        ("add" | "sub" | "mul" | "div" | "mod" | "and" | "or" | "xor", [of]) if variable(of).is_ok() => {
            format!("{name}(\"{{variable:{of}}}\")")
        }
        ("cpl", []) => "cpl".into(),
        ("neg", []) => "mul(-1)".into(),
        ("bool", []) => "if(\"1\",\"0\")".into(),
        ("not", []) => "if(\"0\",\"1\")".into(),
        ("odd", []) => "mod(2)|if(\"1\",\"0\")".into(),
        ("even", []) => "mod(2)|if(\"0\",\"1\")".into(),
        ("ltrim" | "rtrim", [signs]) if !signs.is_empty() => {
            let class: String = signs.chars().map(|c| format!("\\x{{{:x}}}", u32::from(c))).collect();
            let found = if name == "ltrim" { format!("^[{class}]+") } else { format!("[{class}]+$") };
            replace(&found, "", false)?
        }
        ("regsub", [regex, text]) => replace(regex, text, false)?,
        ("regsub", [regex, text, flags]) => {
            let regex = if flags.contains('i') { format!("(?i){regex}") } else { (*regex).to_owned() };
            replace(&regex, text, flags.contains('g'))?
        }
        ("concat", [before, rest @ ..]) if rest.len() <= 2 => {
            let name = rest.first().copied().unwrap_or("").trim();
            let between =
                if name.is_empty() { String::new() } else { format!("{{variable:{}}}", variable(name)?) };
            let after = literal(rest.get(1).copied().unwrap_or(""));
            format!("append({})", argument(&format!("{}{between}{after}", literal(before))))
        }
        ("add_item", [separator, rest @ ..]) if !rest.is_empty() && rest.len() <= 2 => {
            let name = rest[0].trim();
            let item =
                if name.is_empty() { String::new() } else { format!("{{variable:{}}}", variable(name)?) };
            let after = literal(rest.get(1).copied().unwrap_or(""));
            format!("append-item({},{})", argument(separator), argument(&format!("{item}{after}")))
        }
        // HAProxy's says 0 where both are the same: conditions turn that round.
        ("secure_memcmp", [name]) => format!("equals(\"{{variable:{}}}\")", variable(name)?),
        ("str" | "ltrim" | "rtrim", _) | (_, _) => {
            return Err(format!("the converter {name} has no counterpart"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_converters() {
        let check = |text: &str, expect: &str| assert_eq!(variables(text).as_deref(), Ok(expect), "{text}");
        check("%{+Q}[ssl_c_s_dn] %[src]", "\"{client-certificate:subject}\" {source}");
        check("%{+Q,-E}[req.fhdr(a)]%{-Q}[src]", "\"{last-header:a}\"{source}");
        check("%{+Q}o%[src] %{-Q}[src] %{-Q}o%ci", "\"{source}\" {source} {source}");
        check("%{+Q}ci", "\"{source}\"");
        check("a %[src] %% {x}", "a {source} % {{x}}");
        check("%[req.fhdr(X-Id),lower]", "{last-header:X-Id|lower}");
        check("%[req.hdr(X-Id)]", "{header-value:X-Id,-1}");
        check("%[req.hdr(X-Id,2)]", "{header-value:X-Id,2}");
        check("%[req.fhdr(X-Id,2)]", "{header-line:X-Id,2}");
        check("%[req.cook(a)]", "{last-cookie:a}");
        check("%[var(txn.a),sha2(512),hex]", "{variable:txn.a|present|sha512|hex|upper}");
        check(
            "%[var(txn.a,x),length]",
            r#"{variable:txn.a|default("x")|replace("(?s-u:\\x00.*)$","")|length}"#,
        );
        check("%[hdr_val(a),add(1)]", "{header-value:a,-1|present|integer|add(1)}");
        check("%[int(5),and(3),xor(1)]", "{\"5\"|and(3)|xor(1)}");
        check("%[rand(100)]", "{random|mod(100)}");
        check("%[path,field(2,/)]-%ci", "{path|field(2,\"/\")}-{source}");
        check("%[str(a b),base64]", "{\"a b\"|base64}");
        check("%[src,ipmask(24,64)]", "{source|network(24,64)}");
        check("%[path,regsub(^/(.)/,/x\\1,g)]", "{path|replace(\"^/(.)/\",\"/x${1}\",all)}");
        check("%[path,regsub(\\d+\\.,)]", r#"{path|replace("\\d+\\.","")}"#);
        check("%[path,regsub(\"\\\\d\",x)]", r#"{path|replace("\\d","x")}"#);
        check("%[path,regsub('^/(.)','\\1')]", "{path|replace(\"^/(.)\",\"${1}\")}");
        check("%[path,hmac(sha256,a2V5)]", "{path|hmac(sha256,\"hex:6b6579\")}");
        check("%[path,map_beg(/m,/x)]", "{path|map(\"/m\",begin,\"/x\")}");
        check("%[req.ssl_sni,lower]%[req_ssl_sni]", "{sni|lower}{sni}");
        check("%[src,map_ip(/m)]", "{source|map(\"/m\",network)}");
        assert_eq!(
            looked_up("req.fhdr(x-a),lower,map_dom(/m,d)"),
            Some(Ok(LookUp {
                key: "{last-header:x-a|lower}".into(),
                file: "/m".into(),
                matching: "domain-in-order",
                default: Some("d".into())
            }))
        );
        for bad in [
            "%{+X}[src]",
            "%{+Q[src]",
            "%[rand(x)]",
            "%[path,ltime(x)]",
            "%[var(proc.x)]",
            "%[path",
            "%[base,lower]",
        ] {
            assert!(variables(bad).is_err(), "{bad}");
        }
    }
}
