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

pub async fn ask(check: &AgentCheck, server: SocketAddr) -> Result<AgentState, String> {
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
    parse(first).ok_or_else(|| format!("the agent's answer {shown:?} is not understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
