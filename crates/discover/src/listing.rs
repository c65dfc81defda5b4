//! Lists of servers: Prometheus' file_sd, and which lists are believed.
//!
//! In: the text of a list, lists with their time. Out: servers. Never: a file, a socket, a clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use evenkeel_model::{Discover, HostName, counted};
use serde_json::Value;

/// Where a server of a list is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    Address(SocketAddr),
    Name(HostName, u16),
}

impl Endpoint {
    pub fn parse(text: &str) -> Option<Endpoint> {
        let address = text.parse::<SocketAddr>().ok().filter(|a| a.port() > 0 && is_usable(a.ip()));
        address.map(Endpoint::Address).or_else(|| {
            let (name, port) = HostName::with_port(text)?;
            (port > 0).then_some(Endpoint::Name(name, port))
        })
    }
}

fn is_usable(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Details {
    pub weight: Option<u16>,
    pub backup: bool,
}

/// A list: each server once, in an order of its own.
pub type List = BTreeMap<Endpoint, Details>;

/// `[{ "targets": ["10.0.0.1:80"], "labels": { "weight": "50" } }]`. One entry that makes no sense refuses the
/// whole list: half of it could be the wrong half.
pub fn file_sd(text: &[u8], at_most: u32) -> Result<List, String> {
    let value: Value = serde_json::from_slice(text).map_err(|e| format!("it is no JSON: {e}"))?;
    groups(&value, at_most)
}

/// The same in YAML, where a label may be a bare number.
pub fn file_sd_yaml(text: &[u8], at_most: u32) -> Result<List, String> {
    let value: Value = serde_saphyr::from_slice(text).map_err(|e| {
        let why = e.to_string();
        format!("it is no YAML: {}", why.lines().next().unwrap_or_default())
    })?;
    groups(&value, at_most)
}

/// What is said of a list that is longer than it may be.
pub fn too_many(at_most: u32) -> String {
    format!("it has more than {}", counted(at_most, "server", "servers"))
}

fn groups(value: &Value, at_most: u32) -> Result<List, String> {
    let groups = value.as_array().ok_or("it is no list of groups")?;
    let mut list = List::new();
    for group in groups {
        let targets = group["targets"].as_array().ok_or("a group has no list of `targets`")?;
        let details = details(&group["labels"])?;
        for target in targets {
            let text = target.as_str().ok_or("a target is no text")?;
            let place = Endpoint::parse(text).ok_or_else(|| {
                let shown: String = text.chars().take(80).collect();
                format!("{shown:?} is neither ADDRESS:PORT nor NAME:PORT")
            })?;
            list.entry(place).or_insert(details);
            if list.len() > at_most as usize {
                return Err(too_many(at_most));
            }
        }
    }
    Ok(list)
}

fn details(labels: &Value) -> Result<Details, String> {
    let wrong = || "the label `weight` is no number from 0 to 65535".to_owned();
    let weight = match &labels["weight"] {
        Value::Null => None,
        Value::String(text) => Some(text.parse().map_err(|_| wrong())?),
        number => Some(number.as_u64().and_then(|n| u16::try_from(n).ok()).ok_or_else(wrong)?),
    };
    Ok(Details { weight, backup: labels["backup"] == "true" || labels["backup"] == true })
}

/// Which lists of one source are believed.
#[derive(Clone, Debug, Default)]
pub struct Believed {
    list: Option<List>,
    /// A much shorter list, and since when it is the one that comes.
    waits_since_ms: Option<u64>,
}

/// What becomes of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Taken,
    /// The same as before.
    Same,
    /// Not taken, for this reason.
    Kept(String),
}

impl Believed {
    /// What was taken before a restart.
    pub fn remembered(list: List) -> Believed {
        Believed { list: Some(list), waits_since_ms: None }
    }

    pub fn list(&self) -> Option<&List> {
        self.list.as_ref()
    }

    pub fn on_list(&mut self, now_ms: u64, new: List, rules: &Discover) -> Verdict {
        let (had, has) = (self.list.as_ref().map_or(0, List::len), new.len());
        if self.list.as_ref() == Some(&new) {
            self.waits_since_ms = None;
            return Verdict::Same;
        }
        if has < rules.at_least as usize {
            self.waits_since_ms = None;
            return Verdict::Kept(format!(
                "it has {}, and at-least is {}",
                counted(has, "server", "servers"),
                rules.at_least
            ));
        }
        if has * 2 < had {
            let since_ms = *self.waits_since_ms.get_or_insert(now_ms);
            let settle_ms = rules.settle.as_millis() as u64;
            if now_ms.saturating_sub(since_ms) < settle_ms {
                let lost = format!("it has {}, and had {had}", counted(has, "server", "servers"));
                return Verdict::Kept(format!(
                    "{lost}: it is taken when that stays so for {:?}",
                    rules.settle
                ));
            }
        }
        self.waits_since_ms = None;
        self.list = Some(new);
        Verdict::Taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use evenkeel_model::DiscoverSource;

    use super::*;

    #[test]
    fn lists_of_prometheus() {
        let text = br#"[{"targets":["10.0.0.1:80","web.internal:81"],"labels":{"weight":"50","x":"y"}},{"targets":["[::1]:80"],"labels":{"backup":"true"}},{"targets":[]}]"#;
        let list = file_sd(text, 10).unwrap();
        let details = |text: &str| list.get(&Endpoint::parse(text).unwrap()).copied();
        assert_eq!(details("10.0.0.1:80"), Some(Details { weight: Some(50), backup: false }));
        assert_eq!(details("web.internal:81"), Some(Details { weight: Some(50), backup: false }));
        assert_eq!(details("[::1]:80"), Some(Details { weight: None, backup: true }));
        assert_eq!(list.len(), 3);
        assert!(file_sd(text, 2).unwrap_err().contains("more than 2"));
        for bad in [
            "",
            "[",
            "{}",
            "[1]",
            "[{}]",
            r#"[{"targets":[1]}]"#,
            r#"[{"targets":["10.0.0.1"]}]"#,
            r#"[{"targets":["10.0.0.1:0"]}]"#,
            r#"[{"targets":["0.0.0.0:80"]}]"#,
            r#"[{"targets":["a b:80"]}]"#,
            r#"[{"targets":["10.0.0.1:80"],"labels":{"weight":"70000"}}]"#,
            r#"[{"targets":["10.0.0.1:80"],"labels":{"weight":[1]}}]"#,
            r#"[{"targets":["10.0.0.1:80"],"labels":{"weight":-1}}]"#,
        ] {
            assert!(file_sd(bad.as_bytes(), 10).is_err(), "{bad}");
        }
        assert!(file_sd("[".repeat(100_000).as_bytes(), 10).is_err());
    }

    #[test]
    fn lists_in_yaml() {
        let text = b"# web\n- targets:\n  - 10.0.0.1:80\n  - 'web.internal:81'\n  labels: { weight: 50, x: y }\n- targets: ['[::1]:80']\n  labels:\n    backup: true\n";
        let list = file_sd_yaml(text, 10).unwrap();
        let details = |text: &str| list.get(&Endpoint::parse(text).unwrap()).copied();
        assert_eq!(details("10.0.0.1:80"), Some(Details { weight: Some(50), backup: false }));
        assert_eq!(details("web.internal:81"), Some(Details { weight: Some(50), backup: false }));
        assert_eq!(details("[::1]:80"), Some(Details { weight: None, backup: true }));
        // JSON is YAML as well.
        assert_eq!(file_sd_yaml(br#"[{"targets":["10.0.0.1:80"]}]"#, 1).unwrap().len(), 1);
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
            + &(0..12).map(|n| format!("b{n}: &b{n} [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n")).collect::<String>();
        for bad in [
            "",
            "- targets: [10.0.0.1:80",
            "a: b",
            "- targets: 10.0.0.1:80",
            "- 1",
            "- targets: [10.0.0.1]",
            &bomb,
        ] {
            assert!(file_sd_yaml(bad.as_bytes(), 10).is_err(), "{bad}");
        }
        assert!(file_sd_yaml("[".repeat(100_000).as_bytes(), 10).is_err());
        assert!(file_sd_yaml(&[0xff, 0xfe, 0], 10).is_err());
    }

    #[test]
    fn a_list_that_collapses_waits() {
        let rules = Discover {
            source: DiscoverSource::File("/x".into()),
            interval: Duration::from_secs(5),
            at_least: 1,
            settle: Duration::from_secs(30),
            at_most: 100,
        };
        let list = |count: u8| -> List {
            let place = |n| Endpoint::parse(&format!("10.0.0.{n}:80")).unwrap();
            (1..=count).map(|n| (place(n), Details::default())).collect()
        };
        let mut believed = Believed::default();
        let kept = |verdict: Verdict| matches!(verdict, Verdict::Kept(_));
        assert!(kept(believed.on_list(0, list(0), &rules)));
        assert_eq!(believed.on_list(0, list(10), &rules), Verdict::Taken);
        assert_eq!(believed.on_list(1, list(10), &rules), Verdict::Same);
        assert_eq!(believed.on_list(2, list(5), &rules), Verdict::Taken);
        assert!(kept(believed.on_list(1_000, list(2), &rules)));
        assert_eq!(believed.on_list(2_000, list(5), &rules), Verdict::Same);
        // The wait begins anew.
        assert!(kept(believed.on_list(31_500, list(2), &rules)));
        assert!(kept(believed.on_list(61_000, list(2), &rules)));
        assert_eq!(believed.on_list(61_500, list(2), &rules), Verdict::Taken);
        // Nothing is never believed.
        assert!(kept(believed.on_list(900_000, list(0), &rules)));
        assert_eq!(believed.list().unwrap().len(), 2);
    }
}
