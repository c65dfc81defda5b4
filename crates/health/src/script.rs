//! Checks by programs of the user's own, in the conventions of ldirectord, HAProxy and keepalived.

use std::net::SocketAddr;

use evenkeel_model::ScriptProbe;
use evenkeel_scripts::Job;

/// What a script said: a line for people, and a weight in percent where the convention has one.
pub type Said = (String, Option<u8>);

pub async fn probe(
    script: &ScriptProbe,
    vip: Option<SocketAddr>,
    server: SocketAddr,
) -> Result<Said, String> {
    let vip = vip.unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
    let mut arguments = script.arguments.clone();
    let parts =
        [vip.ip().to_string(), vip.port().to_string(), server.ip().to_string(), server.port().to_string()];
    if !script.keepalived {
        // ldirectord's and HAProxy's: VIP, its port, the server's address, its port.
        arguments.extend(parts.clone());
    }
    let names = ["EVENKEEL_VIP", "EVENKEEL_VIP_PORT", "EVENKEEL_SERVER", "EVENKEEL_SERVER_PORT"];
    let environment = names.into_iter().map(str::to_owned).zip(parts).collect();
    // The time is the probe's: it is dropped when it takes too long.
    let job =
        Job { command: script.command.clone(), arguments, environment, is_check: true, ..Job::default() };
    let ended = evenkeel_scripts::run(&job).await?;
    let line = ended.output.lines().next().unwrap_or("").chars().take(80).collect::<String>();
    let said = |what: String| if line.is_empty() { what } else { format!("{what}: {line}") };
    match (ended.code, script.keepalived) {
        (Some(0), _) => Ok((said("exit status 0".into()), None)),
        // keepalived: 2 to 255 are weights from 0 to 253.
        (Some(code @ 2..=255), true) => {
            let percent = ((code - 2).min(100)) as u8;
            Ok((said(format!("weight {percent}%")), Some(percent)))
        }
        _ => Err(said(ended.in_words())),
    }
}
