//! The agent protocol of HAProxy: a line of words from the real server itself. Feedback agents
//! that say a percentage speak it too.

use std::net::SocketAddr;

use evenkeel_model::AgentCheck;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LINE_AT_MOST: usize = 512;

/// What an agent said. Words that it did not say leave things as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentState {
    /// Share of the configured weight, in percent.
    pub weight: Option<u8>,
    pub max_connections: Option<u32>,
    /// `up` or `down`, as a probe would find it.
    pub up: Option<bool>,
    /// `ready`, `drain` or `maint`, as a person would set it.
    pub admin: Option<AgentAdmin>,
    /// The agent's own words, for people.
    pub said: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentAdmin {
    Ready,
    Drain,
    Maintenance,
}

/// Reads one line; `None` when it holds no word that is known.
pub fn parse(line: &str) -> Option<AgentState> {
    let (words, reason) = line.split_once('#').unwrap_or((line, ""));
    let mut state = AgentState::default();
    let mut known = 0;
    for word in words.split([' ', '\t', ',']).filter(|w| !w.is_empty()) {
        let lower = word.to_ascii_lowercase();
        match lower.as_str() {
            "up" => state.up = Some(true),
            "down" | "failed" | "fail" | "stopped" => state.up = Some(false),
            "ready" => state.admin = Some(AgentAdmin::Ready),
            "drain" => state.admin = Some(AgentAdmin::Drain),
            "maint" => state.admin = Some(AgentAdmin::Maintenance),
            _ => match (lower.strip_suffix('%'), lower.strip_prefix("maxconn:")) {
                (Some(percent), _) => state.weight = Some(percent.parse::<u8>().ok()?.min(100)),
                (_, Some(count)) => state.max_connections = Some(count.parse().ok()?),
                _ => return None,
            },
        }
        known += 1;
    }
    let shown = if reason.trim().is_empty() {
        words.trim().to_owned()
    } else {
        format!("{} ({})", words.trim(), reason.trim())
    };
    state.said = shown.chars().filter(|c| !c.is_control()).take(80).collect();
    (known > 0).then_some(state)
}

/// What an agent says, and its connection: an agent that sees it end may count on having been heard.
pub async fn ask(check: &AgentCheck, server: SocketAddr) -> Result<(AgentState, TcpStream), String> {
    let address = SocketAddr::new(check.address.unwrap_or(server.ip()), check.port);
    let mut stream = TcpStream::connect(address).await.map_err(|e| crate::connect::describe(&e))?;
    let send = check.send.expose();
    if !send.is_empty() {
        stream.write_all(send.as_bytes()).await.map_err(|e| crate::connect::describe(&e))?;
    }
    let mut line = Vec::new();
    let mut buffer = [0; LINE_AT_MOST];
    while !line.contains(&b'\n') && line.len() < LINE_AT_MOST {
        match stream.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => line.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(crate::connect::describe(&error)),
        }
    }
    let text = String::from_utf8_lossy(&line).into_owned();
    let first = text.lines().next().unwrap_or("");
    let shown: String = first.chars().take(40).collect();
    let state = parse(first).ok_or_else(|| format!("the agent's answer {shown:?} is not understood"))?;
    Ok((state, stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that sees its connection end asks at once what was made of its word.
    #[tokio::test]
    async fn an_agents_connection_ends_after_it_was_heard() {
        let agent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = agent.local_addr().unwrap();
        let check = AgentCheck {
            address: None,
            port: place.port(),
            interval: std::time::Duration::from_secs(1),
            send: Default::default(),
        };
        let (asked, accepted) = tokio::join!(ask(&check, place), async {
            let mut stream = agent.accept().await.unwrap().0;
            stream.write_all(b"drain,50%\n").await.unwrap();
            stream
        });
        let (state, connection) = asked.unwrap();
        assert_eq!((state.admin, state.weight), (Some(AgentAdmin::Drain), Some(50)));
        let (mut accepted, mut byte) = (accepted, [0]);
        let soon = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, accepted.read(&mut byte)).await.is_err(), "it is open");
        drop(connection);
        assert!(matches!(accepted.read(&mut byte).await, Ok(0)));
    }

    #[test]
    fn lines_of_agents() {
        let check = |line: &str| parse(line).unwrap();
        assert_eq!(check("75%").weight, Some(75));
        assert_eq!(check("up 100%").up, Some(true));
        assert_eq!(check("down # disk full").said, "down (disk full)");
        assert_eq!(check("drain,50%").admin, Some(AgentAdmin::Drain));
        assert_eq!(check("maxconn:30 ready").max_connections, Some(30));
        assert_eq!(check("250%").weight, Some(100), "more than all is all");
        assert_eq!(check("stopped").up, Some(false));
        for bad in ["", "hello", "up 12", "300000%", "-5%", "\u{0}\u{1}", "maxconn:x"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
