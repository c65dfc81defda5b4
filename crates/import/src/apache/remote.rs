//! `mod_remoteip`: who is believed about clients' addresses.

use crate::draft::{Draft, Table, Value};
use crate::words::address;

/// Lines of the whole server that each host has.
pub const DIRECTIVES: [&str; 5] = [
    "remoteipheader",
    "remoteiptrustedproxy",
    "remoteipinternalproxy",
    "remoteiptrustedproxylist",
    "remoteipinternalproxylist",
];

/// What the directives of a host say.
#[derive(Default)]
pub struct Remote {
    header: Option<String>,
    trusted: Vec<String>,
}

impl Remote {
    /// Whether a line is one of these, which is taken then.
    pub fn takes(&mut self, at: usize, words: &[String], draft: &mut Draft) -> bool {
        let keyword = words[0].to_lowercase();
        match keyword.as_str() {
            "remoteipheader" => self.header = words.get(1).cloned(),
            "remoteiptrustedproxy" | "remoteipinternalproxy" => {
                for word in &words[1..] {
                    match network(word) {
                        Some(network) => self.trusted.push(network),
                        None => draft.left(at, &format!("{} {word}", words[0]), "name its address"),
                    }
                }
            }
            "remoteiptrustedproxylist" | "remoteipinternalproxylist" => {
                self.trusted.extend(words.get(1).cloned());
            }
            _ => return false,
        }
        true
    }

    /// Writes the key of the service. Without a header there is nothing to believe.
    pub fn place(self, at: usize, service: &mut Table, draft: &mut Draft) {
        let Some(header) = self.header else { return };
        let mut trusted = self.trusted;
        if trusted.is_empty() {
            let why = "everybody is believed, as by Apache: name the proxies in `trusted`";
            draft.note(at, "RemoteIPHeader", why);
            trusted = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
        }
        let believed = Table::default().with_text("header", &header).with("trusted", Value::texts(trusted));
        service.set("client-address", believed);
    }
}

/// A network with its prefix; the mask may be an address.
fn network(word: &str) -> Option<String> {
    let (place, prefix) = word.split_once('/').unwrap_or((word, ""));
    let ip: std::net::IpAddr = address(place)?.trim_matches(['[', ']']).parse().ok()?;
    let whole = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix.parse::<std::net::Ipv4Addr>() {
        Ok(mask) => {
            let bits = u32::from(mask);
            (bits.leading_ones() + bits.trailing_zeros() == 32).then_some(bits.leading_ones())?
        }
        Err(_) if prefix.is_empty() => whole,
        Err(_) => prefix.parse().ok().filter(|prefix| *prefix <= whole)?,
    };
    Some(format!("{ip}/{prefix}"))
}
