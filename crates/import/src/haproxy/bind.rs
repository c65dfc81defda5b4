//! `bind` lines, and cookies.

use std::collections::BTreeSet;

use evenkeel_model::CertificateFault;

use super::keywords;
use super::options::BIND_WITH_VALUE;
use super::proxy::Word;
use crate::draft::{Draft, Table, Value};
use crate::words::{address, duration, family, split_port};

pub fn cookie(word: &Word, draft: &mut Draft) -> Table {
    let mut rest = word.words.iter().skip(2);
    let mut method = "passive";
    let mut keys = Table::default();
    let mut domains = Vec::new();
    while let Some(option) = rest.next() {
        match option.as_str() {
            "insert" | "rewrite" | "prefix" => method = option,
            "indirect" | "nocache" | "httponly" | "secure" | "postonly" => keys.set(option, true),
            "domain" => domains.push(rest.next().map_or("", String::as_str)),
            "maxidle" | "maxlife" => {
                let differs = "the cookie's date is written otherwise: clients that have one of HAProxy's are spread anew, once";
                draft.note(word.line, option, differs);
                let time = rest.next().and_then(|t| duration(t, "s")).unwrap_or_else(|| "1h".into());
                keys.text(&format!("max-{}", &option[3..]), &time);
            }
            "attr" => match rest.next().map(|a| a.to_lowercase()) {
                Some(attribute) if attribute.starts_with("samesite=") => {
                    keys.text("samesite", &attribute[9..]);
                }
                other => {
                    draft.left(word.line, "attr", format!("{}: not carried over", other.unwrap_or_default()))
                }
            },
            "preserve" | "dynamic" => draft.left(word.line, option, "not carried over"),
            _ => draft.left(word.line, option, "not carried over"),
        }
    }
    if !domains.is_empty() {
        keys.texts("domains", &domains);
    }
    let name = word.words.get(1).map_or("SERVERID", String::as_str);
    let mut cookie = Table::default().with_text("type", "cookie").with_text("name", name);
    cookie.text("method", method);
    cookie.adopt(&keys);
    cookie
}

/// A count with HAProxy's units.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "k" => 1024,
        "m" => 1024 * 1024,
        "g" => 1024 * 1024 * 1024,
        _ => 1,
    };
    Some(digits.parse::<u64>().ok()?.saturating_mul(factor))
}

/// `ADDRESS:PORTS`, of what HAProxy binds.
pub fn vip(place: &str) -> Option<String> {
    let (is_v6, place) = family(place);
    let (host, port) = split_port(place);
    let port = port.filter(|p| p.split('-').all(|n| n.parse::<u16>().is_ok()))?;
    let host = match host {
        "" | "*" if is_v6 == Some(true) => "::".into(),
        "" | "*" | "0.0.0.0" => "0.0.0.0".into(),
        "::" | "[::]" => "::".into(),
        host => address(host)?,
    };
    Some(crate::words::with_port(&host, port))
}

/// Where else a socket takes clients: one of IPv6 that has no address of its own takes those of IPv4 as well,
/// unless it says otherwise or another line listens for them.
pub fn both_families(vip: &str, words: &[String], of_ipv4: &BTreeSet<String>) -> Option<String> {
    let port = vip.strip_prefix("[::]:")?;
    let is_alone = words.iter().any(|word| word == "v6only") || of_ipv4.contains(port);
    (!is_alone).then(|| format!("0.0.0.0:{port}"))
}

/// Ports that lines listen on for all clients of IPv4.
pub fn ports_of_ipv4<'a>(binds: impl Iterator<Item = &'a Word>) -> BTreeSet<String> {
    let places = binds.flat_map(|word| word.arg(1).split(','));
    places.filter_map(|place| Some(vip(place)?.strip_prefix("0.0.0.0:")?.to_owned())).collect()
}

/// VIPs with all ports of an address together.
pub fn gathered(vips: &[String]) -> Vec<String> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for vip in vips {
        let (host, port) = split_port(vip);
        let port = port.unwrap_or("").to_owned();
        match all.iter_mut().find(|(h, _)| h == host) {
            Some((_, ports)) if !ports.contains(&port) => ports.push(port),
            Some(_) => {}
            None => all.push((host.to_owned(), vec![port])),
        }
    }
    all.into_iter().map(|(host, ports)| format!("{host}:{}", ports.join(","))).collect()
}

/// The versions of TLS that are spoken, where something is said of them.
#[derive(Clone, Debug, Default)]
pub struct Versions(Table);

impl Versions {
    pub fn is_flag(word: &str) -> bool {
        ["no-sslv", "no-tlsv", "force-sslv", "force-tlsv"].iter().any(|begin| word.starts_with(begin))
    }

    /// One word of `bind` about versions.
    pub fn told(word: &str, value: &str, tls: &mut Table, line: usize, draft: &mut Draft) {
        match (word, value) {
            ("ssl-min-ver" | "ssl-max-ver", "TLSv1.2" | "TLSv1.3") => {
                tls.text(if word == "ssl-min-ver" { "min-version" } else { "max-version" }, &value[4..]);
            }
            ("no-sslv3" | "no-tlsv10" | "no-tlsv11", _) => {}
            ("no-tlsv12", _) => tls.text("min-version", "1.3"),
            ("no-tlsv13", _) => tls.text("max-version", "1.2"),
            ("force-tlsv12" | "force-tlsv13", _) => {
                let version = if word == "force-tlsv12" { "1.2" } else { "1.3" };
                tls.text("min-version", version);
                tls.text("max-version", version);
            }
            _ => {
                let named = if value.is_empty() { word } else { value };
                draft.left(line, word, format!("{named}: TLS 1.2 is the oldest that is spoken"));
            }
        }
    }

    /// `ssl-default-bind-options` with its words.
    pub fn of_all(words: &[String], line: usize, draft: &mut Draft) -> Versions {
        let mut tls = Table::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "ssl-min-ver" | "ssl-max-ver" => {
                    let value = rest.next().cloned().unwrap_or_default();
                    Versions::told(word, &value, &mut tls, line, draft);
                }
                flag if Versions::is_flag(flag) => Versions::told(flag, "", &mut tls, line, draft),
                _ => {}
            }
        }
        Versions(tls)
    }

    /// What a `bind` says nothing of.
    fn fill(&self, tls: &mut Table) {
        let own = ["min-version", "max-version"].iter().any(|key| tls.get(key).is_some());
        for line in self.0.lines.iter().filter(|_| !own) {
            tls.put(line.clone());
        }
    }
}

/// The errors of `crt-ignore-err`: `all`, OpenSSL's numbers and names.
fn overlooked(given: &str) -> Result<Vec<&'static str>, String> {
    if given == "all" {
        return Ok(vec!["all"]);
    }
    let mut faults = Vec::new();
    for error in given.split(',').map(str::trim).filter(|error| !error.is_empty()) {
        let known = CertificateFault::ALL.into_iter().find(|fault| {
            let (number, name) = fault.of_openssl();
            error == name || error.parse() == Ok(number)
        });
        // Its issuer is not there, at whichever end of the chain.
        let issuers = [
            ("2", "UNABLE_TO_GET_ISSUER_CERT"),
            ("18", "DEPTH_ZERO_SELF_SIGNED_CERT"),
            ("19", "SELF_SIGNED_CERT_IN_CHAIN"),
            ("21", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"),
            ("27", "CERT_UNTRUSTED"),
        ];
        let of_issuer = issuers.iter().any(|(number, name)| {
            error == *number || error.strip_prefix("X509_V_ERR_").is_some_and(|error| error == *name)
        });
        let fault = known.or_else(|| of_issuer.then_some(CertificateFault::UnknownIssuer));
        let why = || {
            let all: Vec<&str> = CertificateFault::ALL.iter().map(|fault| fault.of_openssl().1).collect();
            format!("{error}: those that are known here are all, {}", all.join(", "))
        };
        faults.push(fault.ok_or_else(why)?.as_str());
    }
    faults.dedup();
    Ok(faults)
}

pub fn bind_options(word: &Word, tls: &mut Table, more: &mut Table, draft: &mut Draft) {
    let mut files: Vec<String> = Vec::new();
    let mut auth = Table::default();
    let mut verify = String::new();
    let mut rest = word.words.iter().skip(2);
    while let Some(option) = rest.next() {
        let mut value = || rest.next().cloned().unwrap_or_default();
        if let Some(why) = keywords::differs(keywords::BIND_DIFFERS, option) {
            draft.remark(word.line, option, why);
        }
        match option.as_str() {
            "ssl" | "defer-accept" | "tfo" | "transparent" | "v4v6" | "v6only" | "no-tls-tickets" => {}
            // Nothing but the protocol of `mode` is offered.
            "no-alpn" => tls.texts::<&str>("alpn", &[]),
            "crt" => {
                let file = value();
                let placed = draft.placed(draft.crt_base.clone(), &file, word.line, "crt");
                // Told; the result is a configuration all the same.
                files.push(placed.unwrap_or_else(|| format!("/etc/evenkeel/certs/{file}")));
            }
            "crt-list" => {
                let file = value();
                // Files of a list lie beside it, unless their folder is named.
                let beside = file.rsplit_once('/').map(|(folder, _)| folder);
                match &draft.crt_base {
                    Some(base) if Some(base.trim_end_matches('/')) != beside => {
                        draft.left(
                            word.line,
                            "crt-list",
                            format!("{file}: name its files with their folder, not by crt-base"),
                        );
                    }
                    _ => tls.text("certificate-list", &file),
                }
            }
            "alpn" => {
                let all = value();
                let (known, other): (Vec<&str>, Vec<&str>) =
                    all.split(',').partition(|p| ["h2", "http/1.1"].contains(p));
                // Nobody asks for HTTP/1.0 by name.
                if other.iter().any(|protocol| *protocol != "http/1.0") {
                    let why =
                        format!("{}: h2 and http/1.1 are the protocols that are offered", other.join(","));
                    draft.note(word.line, "alpn", why);
                }
                tls.texts("alpn", &known);
            }
            "ssl-min-ver" | "ssl-max-ver" => Versions::told(option, &value(), tls, word.line, draft),
            flag if Versions::is_flag(flag) => Versions::told(flag, "", tls, word.line, draft),
            "strict-sni" => tls.set("strict-sni", true),
            "ca-file" | "ca-verify-file" | "crl-file" => {
                let file = value();
                let placed = draft.placed(draft.ca_base.clone(), &file, word.line, option);
                let key = match option.as_str() {
                    "ca-verify-file" => "verify-ca",
                    other => other.trim_end_matches("-file"),
                };
                if let Some(file) = placed {
                    auth.text(key, &file);
                }
            }
            "verify" => verify = value(),
            "crt-ignore-err" => match overlooked(&value()) {
                Ok(faults) => auth.texts("ignore", &faults),
                Err(why) => draft.left(word.line, "crt-ignore-err", why),
            },
            "accept-proxy" => more.set_with(
                "proxy-protocol-from",
                Value::texts(["0.0.0.0/0", "::/0"]),
                "name the networks that really send it",
            ),
            "name" | "backlog" | "id" | "nice" | "process" | "thread" | "level" | "mode" | "user" | "uid"
            | "gid" | "group" | "npn" | "shards" => drop(value()),
            "tcp-ut" => match duration(&value(), "ms").filter(|time| !time.starts_with('0')) {
                Some(time) => more.text("tcp-user-timeout", &time),
                None => draft.remark(word.line, option, "as the kernel has it"),
            },
            "mss" => {
                let given = value();
                match given.parse::<u16>().ok().filter(|mss| (88..=32767).contains(mss)) {
                    Some(mss) => more.set("tcp-mss", mss),
                    None => draft.left(
                        word.line,
                        "mss",
                        format!("{given}: a number from 88 is the largest segment"),
                    ),
                }
            }
            "ciphers" | "ciphersuites" | "curves" | "ecdhe" => {
                drop(value());
                let differs = "the policy of `tls` says what is spoken: modern or intermediate";
                draft.note(word.line, option, differs);
            }
            "maxconn" => {
                drop(value());
                draft.note(word.line, option, "connections are limited for the service: max-connections");
            }
            // Both versions are spoken to whoever begins with them.
            "proto" if word.words.iter().any(|w| w == "h2" || w == "h1") => drop(value()),
            "interface" => {
                let on = value();
                draft.left(
                    word.line,
                    "interface",
                    format!("{on}: the service listens on its address, whatever the interface"),
                );
            }
            other => {
                let given = if BIND_WITH_VALUE.contains(&other) { value() } else { String::new() };
                let told = format!("{other} {given}");
                super::remedies::diagnose(draft, word.line, told.trim_end(), &[other]);
            }
        }
    }
    draft.versions.fill(tls);
    for file in files {
        tls.push("certificates", Value::text(file));
    }
    client_auth(&verify, auth, word, tls, draft);
}

/// What clients must show: nothing, unless `verify` says so.
fn client_auth(verify: &str, mut auth: Table, word: &Word, tls: &mut Table, draft: &mut Draft) {
    let has_authority = auth.has("ca");
    match verify {
        "" | "none" if auth.lines.is_empty() => {}
        "" | "none" => {
            draft.remark(word.line, "verify", "clients are asked for no certificate without verify required")
        }
        "required" | "optional" if !has_authority => {
            let why = "a certificate of clients is asked for, and no ca-file says who vouches for it";
            draft.wrong(word.line, "verify", why);
        }
        "required" | "optional" => {
            if verify == "optional" {
                auth.text("mode", "optional");
            }
            // Servers get what rules of the file say of certificates.
            auth.set("headers", false);
            tls.set("client-auth", auth);
        }
        other => {
            draft.wrong(word.line, "verify", format!("unknown word '{other}': none, optional or required"))
        }
    }
}
