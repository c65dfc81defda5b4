//! Instances of a service as Consul's health API lists them.
//!
//! In: the text of an answer, the state that it is of. Out: servers, the next question. Never: a socket.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::listing::{Details, Endpoint, List, too_many};

/// What is added to a question: answer when there is something newer than this state, or after a while.
pub fn question(index: Option<u64>, wait: Duration) -> String {
    index.map_or_else(String::new, |index| format!("&index={index}&wait={}s", wait.as_secs().max(1)))
}

/// The state that the next question is about. One that goes back begins anew, as Consul's documentation asks.
pub fn next_index(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    now.filter(|now| *now > 0 && before.is_none_or(|before| *now >= before))
}

/// One instance that makes no sense refuses the whole list.
pub fn servers(text: &[u8], at_most: u32) -> Result<List, String> {
    let value: Value = serde_json::from_slice(text).map_err(|e| format!("it is no JSON: {e}"))?;
    let all = value.as_array().ok_or("it is no list of instances")?;
    let mut list = List::new();
    for entry in all {
        let service = &entry["Service"];
        let id: String = service["ID"].as_str().unwrap_or("an instance").chars().take(80).collect();
        // A service without an address of its own is at its node's.
        let own = service["Address"].as_str().filter(|text| !text.is_empty());
        let host = own.or_else(|| entry["Node"]["Address"].as_str()).unwrap_or_default();
        let port = service["Port"].as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0);
        let port = port.ok_or_else(|| format!("{id} has no port"))?;
        let place = match host.parse() {
            Ok(ip) => Endpoint::parse(&SocketAddr::new(ip, port).to_string()),
            Err(_) => Endpoint::parse(&format!("{host}:{port}")),
        };
        let shown: String = host.chars().take(80).collect();
        let place = place.ok_or_else(|| format!("{id} has the address {shown:?}"))?;
        let weight = service["Weights"]["Passing"].as_u64().map(|w| u16::try_from(w).unwrap_or(u16::MAX));
        list.entry(place).or_insert(Details { weight, backup: false });
        if list.len() > at_most as usize {
            return Err(too_many(at_most));
        }
    }
    // 1 is what Consul says where nobody has said anything.
    if list.values().all(|d| d.weight.is_none_or(|w| w == 1)) {
        list.values_mut().for_each(|d| d.weight = None);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_servers() {
        let one = |address: &str, port: u32, weight: u32| {
            format!(
                r#"{{"Node":{{"Address":"10.1.0.1"}},"Service":{{"ID":"web-1","Address":"{address}","Port":{port},"Weights":{{"Passing":{weight},"Warning":1}}}}}}"#
            )
        };
        let check = |all: &[String], expect: Result<&str, &str>| {
            let text = format!("[{}]", all.join(","));
            let found = servers(text.as_bytes(), 2).map(|list| {
                let each = list.iter().map(|(place, d)| format!("{place:?} {:?}", d.weight));
                each.collect::<Vec<_>>().join(", ")
            });
            match expect {
                Ok(expect) => assert_eq!(found.as_deref(), Ok(expect), "{text}"),
                Err(expect) => {
                    assert!(found.as_ref().is_err_and(|e| e.contains(expect)), "{text}: {found:?}")
                }
            }
        };
        check(&[], Ok(""));
        check(&[one("10.0.0.1", 80, 1)], Ok("Address(10.0.0.1:80) None"));
        check(&[one("", 80, 7)], Ok("Address(10.1.0.1:80) Some(7)"));
        check(
            &[one("10.0.0.1", 80, 1), one("10.0.0.2", 80, 9)],
            Ok("Address(10.0.0.1:80) Some(1), Address(10.0.0.2:80) Some(9)"),
        );
        check(&[one("web.test", 80, 1)], Ok("Name(\"web.test\", 80) None"));
        check(&[one("fd00::1", 80, 1)], Ok("Address([fd00::1]:80) None"));
        check(&[one("10.0.0.1", 0, 1)], Err("web-1 has no port"));
        check(&[one("10.0.0.1", 70_000, 1)], Err("has no port"));
        check(&[one("a b", 80, 1)], Err("has the address"));
        check(&[one("0.0.0.0", 80, 1)], Err("has the address"));
        check(&[one("a", 1, 1), one("b", 1, 1), one("c", 1, 1)], Err("more than 2"));
        assert!(servers(b"{}", 2).is_err() && servers(b"[1]", 2).is_err() && servers(b"", 2).is_err());
    }

    #[test]
    fn the_next_question() {
        assert_eq!(question(None, Duration::from_secs(60)), "");
        assert_eq!(question(Some(7), Duration::from_millis(200)), "&index=7&wait=1s");
        assert_eq!(next_index(None, Some(7)), Some(7));
        assert_eq!(next_index(Some(7), Some(9)), Some(9));
        for (before, now) in [(Some(7), Some(3)), (Some(7), None), (None, Some(0))] {
            assert_eq!(next_index(before, now), None);
        }
    }
}
