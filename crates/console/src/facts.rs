//! What the daemon says, as the console shows it.

use evenkeel_api as api;
use serde_json::Value;

#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub status: Option<api::Status>,
    pub machine: Option<api::Machine>,
    /// The configuration as data.
    pub values: Value,
    /// Nobody can log in yet: the first person is made with this.
    pub first_code: Option<String>,
    /// A commit goes back by itself unless it is confirmed within this time.
    pub confirm_within_ms: Option<u64>,
    /// Why nothing is known.
    pub trouble: Option<String>,
}

impl Facts {
    /// `[node]`, where the configuration has one.
    pub fn node(&self, key: &str) -> Option<&Value> {
        self.values.get("node")?.get(key)
    }

    /// The table of an interface in `[node]`.
    pub fn interface(&self, name: &str) -> Option<&Value> {
        let all = self.node("interface")?.as_array()?;
        all.iter().find(|i| i.get("name").and_then(Value::as_str) == Some(name))
    }

    /// Interfaces of the machine and of `[node]`, each once.
    pub fn interfaces(&self) -> Vec<String> {
        let here = self.machine.iter().flat_map(|m| &m.interfaces).map(|i| i.name.clone());
        let mut names: Vec<String> = here.filter(|name| name != "lo").collect();
        let set = self.node("interface").and_then(Value::as_array).into_iter().flatten();
        let set = set.filter_map(|i| i.get("name")?.as_str());
        for name in set {
            if !names.iter().any(|n| n == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// Addresses that a browser reaches this machine at, without those of VIPs.
    pub fn addresses(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for interface in self.machine.iter().flat_map(|m| &m.interfaces).filter(|i| i.name != "lo") {
            for address in interface.addresses.iter().filter(|a| !a.address.starts_with("fe80:")) {
                let mark = if address.placed { " (VIP)" } else { "" };
                found.push((interface.name.clone(), format!("{}{mark}", address.address)));
            }
        }
        found
    }

    /// Where the web UI is: the listeners, with this machine's addresses in place of "everywhere".
    pub fn web_ui(&self) -> Vec<String> {
        let listen = self.values.get("admin").and_then(|a| a.get("listen")).and_then(Value::as_array);
        let mut places = Vec::new();
        for place in listen.into_iter().flatten().filter_map(Value::as_str) {
            let Some((host, port)) = place.rsplit_once(':') else { continue };
            if host != "0.0.0.0" && host != "[::]" {
                places.push(format!("https://{place}/"));
                continue;
            }
            for (_, address) in self.addresses().iter().filter(|(_, a)| !a.ends_with("(VIP)")) {
                let bare = address.split('/').next().unwrap_or(address);
                match bare.contains(':') {
                    true if host == "[::]" => places.push(format!("https://[{bare}]:{port}/")),
                    true => {}
                    false => places.push(format!("https://{bare}:{port}/")),
                }
            }
        }
        places
    }

    /// Services that are not well, with their states; and how many there are in all.
    pub fn troubled_services(&self) -> (Vec<(String, String)>, usize) {
        let services = self.status.as_ref().map(|s| s.virtual_services.as_slice()).unwrap_or_default();
        let troubled = services.iter().filter(|s| s.state != "up");
        (troubled.map(|s| (s.name.clone(), s.state.clone())).collect(), services.len())
    }
}

/// The code of the first log-in among lines that the program has said; the latest counts.
pub fn code_in(lines: &[String]) -> Option<String> {
    let is_code = |word: &str| {
        word.len() >= 20
            && word.split('-').count() == 4
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let of = |line: &String| {
        let (_, rest) = line.split_once("with the code ")?;
        let word = rest.split([',', ' ']).next()?;
        is_code(word).then(|| word.to_owned())
    };
    lines.iter().rev().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_code_is_found_in_what_the_program_said() {
        let line = |code: &str| {
            format!(
                "WARN nobody can log in yet: open the web UI and make the first person with the code {code}, or run `x`"
            )
        };
        let lines = vec![line("aaaaa-bbbbb-ccccc-ddddd"), "other".into(), line("eeeee-fffff-00000-11111")];
        assert_eq!(code_in(&lines).as_deref(), Some("eeeee-fffff-00000-11111"));
        assert_eq!(code_in(&["with the code \u{1b}[2J".into()]), None);
    }

    #[test]
    fn the_web_ui_is_at_the_machines_own_addresses() {
        let machine = json!({"name": "lb1", "host": "lb1", "time_ms": 0, "time-ms": 0, "synchronised": true, "resolvers": [], "search": [], "routes": [],
            "interfaces": [{"name": "e0", "mac": "", "mtu": 1500, "up": true, "carrier": true, "addresses": [
                {"address": "192.0.2.10/24", "placed": false}, {"address": "192.0.2.80/24", "placed": true},
                {"address": "fe80::1/64", "placed": false}]}]});
        let facts = Facts {
            machine: serde_json::from_value(machine).ok(),
            values: json!({"admin": {"listen": ["0.0.0.0:9443", "127.0.0.1:9444"]}}),
            ..Facts::default()
        };
        assert_eq!(facts.web_ui(), ["https://192.0.2.10:9443/", "https://127.0.0.1:9444/"]);
        assert_eq!(facts.interfaces(), ["e0"]);
    }
}
