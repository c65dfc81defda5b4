//! Containers as Docker's API lists them over its socket (podman's speaks the same).
//!
//! Asked as HTTP/1.0, so that the answer comes in one piece. Bounded in time and size.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use evenkeel_model::DockerSource;
use serde_json::Value;

use crate::listing::{Details, Endpoint, List, too_many};

const HEAD_AT_MOST: usize = 16 << 10;

/// What the API says of running containers with the label.
pub fn containers(source: &DockerSource, patience: Duration, at_most: usize) -> Result<Vec<u8>, String> {
    let filters = serde_json::json!({ "status": ["running"], "label": [source.label] }).to_string();
    let filters = filters.bytes().fold(String::new(), |mut out, byte| {
        match byte.is_ascii_alphanumeric() {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
        out
    });
    let head = format!("GET /containers/json?filters={filters} HTTP/1.0\r\nHost: docker\r\n\r\n");
    let end = Instant::now() + patience;
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", source.socket.display());
    let left = |stream: &UnixStream| {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).and_then(|()| stream.set_write_timeout(Some(left)))
    };
    let mut stream = UnixStream::connect(&source.socket).map_err(|e| named(&e))?;
    left(&stream).and_then(|()| stream.write_all(head.as_bytes())).map_err(|e| named(&e))?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = left(&stream).and_then(|()| stream.read(&mut buffer));
        match read {
            Ok(0) => break,
            Ok(count) => answer.extend(&buffer[..count]),
            Err(_) if Instant::now() >= end => return Err(named(&"it does not answer in time")),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(named(&error)),
        }
        if answer.len() > at_most + HEAD_AT_MOST || is_whole(&answer) {
            break;
        }
        if Instant::now() >= end {
            return Err(named(&"it does not answer in time"));
        }
    }
    body(&answer, at_most).map_err(|why| named(&why))
}

/// Some keep the connection all the same: as many bytes have come as the head says.
fn is_whole(answer: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(answer) else { return false };
    content_length(&head).is_some_and(|says| Some(answer.len() - length) >= says)
}

/// What the head says of the length, where it says something; nothing in it where that is no number.
fn content_length(head: &httparse::Response<'_, '_>) -> Option<Option<usize>> {
    let says = head.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
    says.map(|h| std::str::from_utf8(h.value).ok().and_then(|v| v.trim().parse().ok()))
}

/// What a whole answer says, where it is 200 and whole.
fn body(answer: &[u8], at_most: usize) -> Result<Vec<u8>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(answer) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_AT_MOST => length,
        _ => return Err("the answer is no HTTP".into()),
    };
    let body = &answer[length..];
    match head.code {
        Some(200) => {}
        code => return Err(format!("it answers {}", code.unwrap_or(0))),
    }
    if head.headers.iter().any(|h| h.name.eq_ignore_ascii_case("transfer-encoding")) {
        return Err("the answer to HTTP/1.0 comes in chunks".into());
    }
    if content_length(&head).is_some_and(|says| says != Some(body.len())) {
        return Err("the answer is cut off".into());
    }
    match body.len() <= at_most {
        true => Ok(body.to_vec()),
        false => Err(format!("the answer is larger than {} MiB", at_most >> 20)),
    }
}

/// The servers of a list of containers. One that makes no sense refuses the whole list: half of it could be
/// the wrong half. Containers without an address (they have just begun, or have no network) are passed over.
pub fn servers(text: &[u8], source: &DockerSource, at_most: u32) -> Result<List, String> {
    let value: Value = serde_json::from_slice(text).map_err(|e| format!("it is no JSON: {e}"))?;
    let containers = value.as_array().ok_or("it is no list of containers")?;
    let mut list = List::new();
    for container in containers {
        let name = container["Names"][0].as_str().or(container["Id"].as_str()).unwrap_or("a container");
        let name: String = name.trim_start_matches('/').chars().take(80).collect();
        // `Up 5 minutes (unhealthy)`, and the same before the first check has ended.
        let status = container["Status"].as_str().unwrap_or_default();
        if status.contains("(unhealthy)") || status.contains("starting)") {
            continue;
        }
        let labels = &container["Labels"];
        let said = labels["evenkeel.port"].as_str();
        let port = match said {
            Some(text) => text.parse().ok().filter(|p| *p > 0),
            None => source.port,
        };
        let port: u16 = port.ok_or_else(|| match said {
            Some(said) => format!("{name}: its label evenkeel.port is {said:?}"),
            None => format!("{name} has no label evenkeel.port, and the list has no `port`"),
        })?;
        let Some(ip) =
            address(container, source.network.as_deref()).map_err(|why| format!("{name} {why}"))?
        else {
            continue;
        };
        let weight = match labels["evenkeel.weight"].as_str() {
            Some(text) => {
                Some(text.parse().map_err(|_| format!("{name}: its label evenkeel.weight is {text:?}"))?)
            }
            None => None,
        };
        let details = Details { weight, backup: labels["evenkeel.backup"] == "true" };
        list.insert(Endpoint::Address(SocketAddr::new(ip, port)), details);
        if list.len() > at_most as usize {
            return Err(too_many(at_most));
        }
    }
    Ok(list)
}

/// The address of a container on the network that is meant; none where it has none.
fn address(container: &Value, network: Option<&str>) -> Result<Option<IpAddr>, String> {
    let networks = container["NetworkSettings"]["Networks"].as_object();
    let mut all = networks.into_iter().flatten().filter(|(name, _)| network.is_none_or(|n| n == *name));
    let Some((_, first)) = all.next() else {
        return match network {
            Some(network) => Err(format!("is not on the network {network}")),
            None => Ok(None),
        };
    };
    if all.next().is_some() {
        return Err("is on several networks: say which with `network`".into());
    }
    let addresses = ["IPAddress", "GlobalIPv6Address"].map(|key| first[key].as_str().unwrap_or_default());
    let found = addresses.iter().find(|text| !text.is_empty());
    match found.map(|text| text.parse::<IpAddr>()) {
        None => Ok(None),
        Some(Ok(ip)) if !ip.is_unspecified() && !ip.is_multicast() => Ok(Some(ip)),
        Some(_) => Err(format!("has the address {:?}", found.unwrap_or(&""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(port: Option<u16>, network: Option<&str>) -> DockerSource {
        let network = network.map(str::to_owned);
        DockerSource { socket: "/s".into(), label: "evenkeel.pool=web".into(), port, network }
    }

    fn container(name: &str, status: &str, labels: &str, networks: &str) -> String {
        format!(
            r#"{{"Id":"9f","Names":["/{name}"],"Status":"{status}","Labels":{{{labels}}},"NetworkSettings":{{"Networks":{{{networks}}}}}}}"#
        )
    }

    const A: &str = r#""bridge":{"IPAddress":"172.17.0.2","GlobalIPv6Address":""}"#;
    const B: &str = r#""back":{"IPAddress":"10.9.0.2"}"#;

    #[test]
    fn containers_are_servers() {
        let check = |all: &[String], source: &DockerSource, expect: Result<&str, &str>| {
            let text = format!("[{}]", all.join(","));
            let found = servers(text.as_bytes(), source, 2).map(|list| {
                let each = list.iter().map(|(place, d)| match place {
                    Endpoint::Address(at) => {
                        format!("{at}*{}{}", d.weight.unwrap_or(100), if d.backup { "b" } else { "" })
                    }
                    Endpoint::Name(..) => String::new(),
                });
                each.collect::<Vec<_>>().join(" ")
            });
            match expect {
                Ok(expect) => assert_eq!(found.as_deref(), Ok(expect), "{text}"),
                Err(expect) => {
                    assert!(found.as_ref().is_err_and(|e| e.contains(expect)), "{text}: {found:?}")
                }
            }
        };
        let plain = source(Some(80), None);
        let one = || container("a", "Up 5 minutes", "", A);
        check(&[], &plain, Ok(""));
        check(&[one()], &plain, Ok("172.17.0.2:80*100"));
        let labels = r#""evenkeel.port":"81","evenkeel.weight":"7","evenkeel.backup":"true""#;
        check(&[container("a", "Up", labels, A)], &plain, Ok("172.17.0.2:81*7b"));
        check(&[one()], &source(None, None), Err("a has no label evenkeel.port"));
        check(&[container("a", "Up 5 minutes (unhealthy)", "", A)], &plain, Ok(""));
        check(&[container("a", "Up 1 second (health: starting)", "", A)], &plain, Ok(""));
        check(&[container("a", "Up 5 minutes (healthy)", "", A)], &plain, Ok("172.17.0.2:80*100"));
        check(&[container("a", "Up", "", "")], &plain, Ok(""));
        check(&[container("a", "Up", "", r#""host":{"IPAddress":""}"#)], &plain, Ok(""));
        let both = || container("a", "Up", "", &format!("{A},{B}"));
        check(&[both()], &plain, Err("several networks"));
        check(&[both()], &source(Some(80), Some("back")), Ok("10.9.0.2:80*100"));
        check(&[both()], &source(Some(80), Some("x")), Err("not on the network x"));
        check(&[container("a", "Up", r#""evenkeel.port":"0""#, A)], &plain, Err("evenkeel.port"));
        check(&[container("a", "Up", r#""evenkeel.weight":"70000""#, A)], &plain, Err("evenkeel.weight"));
        check(&[container("a", "Up", "", r#""b":{"IPAddress":"x"}"#)], &plain, Err("has the address"));
        for bad in ["", "{}", "[1"] {
            assert!(servers(bad.as_bytes(), &plain, 2).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers() {
        let check = |answer: &str, expect: Result<&str, &str>| {
            let found = body(answer.as_bytes(), 10).map(|b| String::from_utf8(b).unwrap());
            assert_eq!(found, expect.map(str::to_owned).map_err(str::to_owned), "{answer:?}");
        };
        check("HTTP/1.0 200 OK\r\n\r\n[]", Ok("[]"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", Ok("[]"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]", Err("the answer is cut off"));
        check("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n[]", Err("the answer is cut off"));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Err("the answer to HTTP/1.0 comes in chunks"),
        );
        check("HTTP/1.1 503 No\r\n\r\n[]", Err("it answers 503"));
        check("HTTP/1.1 200 OK\r\n", Err("the answer is no HTTP"));
        check("", Err("the answer is no HTTP"));
        check("HTTP/1.0 200 OK\r\n\r\n[           ]", Err("the answer is larger than 0 MiB"));
        assert!(is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"));
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n["));
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\n\r\n[]"));
    }
}
