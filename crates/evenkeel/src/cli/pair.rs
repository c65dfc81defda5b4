//! Verbs of the pair.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Subcommand;
use evenkeel_api as api;

use super::client::Client;
use super::live::{print_json, say};
use super::table::Table;
use super::{Common, Exit, Failure, Outcome};

#[derive(Subcommand, Debug)]
pub enum PairVerb {
    /// Make a one-time code by which the other node joins this one
    #[command(after_help = "Example: evenkeel pair invite --peer 192.0.2.2 --interface eth0")]
    Invite {
        #[command(flatten)]
        part: Part,
        /// The other node's address, where the configuration has no [pair] yet
        #[arg(long, value_name = "ADDRESS[:PORT]")]
        peer: Option<String>,
    },
    /// Join the node that made a code: its key and its configuration become this node's too
    #[command(after_help = "Example, on the second node: evenkeel pair join CODE")]
    Join {
        code: String,
        #[command(flatten)]
        part: Part,
    },
    /// Show both nodes' roles, and why; the paths between them; what the peer has
    #[command(after_help = "Example: evenkeel pair status --json")]
    Status,
    /// Make the other node active (or this one, if it is passive)
    #[command(after_help = "Example: evenkeel pair switch-over")]
    SwitchOver,
    /// Switch over and back, and measure how long the VIPs were away
    #[command(after_help = "Run it on the active node.\nExample: evenkeel pair rehearse")]
    Rehearse,
    /// Make the peer take this node's configuration, where the two differ
    #[command(after_help = "Example: evenkeel pair push")]
    Push,
    /// Give both nodes a new key, without a gap; a witness needs the new file
    #[command(after_help = "Example: evenkeel pair rotate-key")]
    RotateKey,
    /// Keep this node passive until `release`; survives a restart
    #[command(after_help = "Example: evenkeel pair hold, then, when its work is done: evenkeel pair release")]
    Hold,
    /// Let a node that was held be active again
    #[command(after_help = "Example: evenkeel pair release")]
    Release,
}

/// This node's part, where the configuration has no [pair] yet.
#[derive(clap::Args, Debug)]
pub struct Part {
    /// This node's name [default: the machine's]
    #[arg(long)]
    name: Option<String>,
    /// The interface of the services, as a second path for beats
    #[arg(long)]
    interface: Option<String>,
}

pub fn run(common: &Common, verb: PairVerb) -> Outcome {
    let client = Client::new(&common.socket);
    match verb {
        PairVerb::Status => {
            let pair: api::Pair = client.get("/api/v1/pair")?;
            if common.json { print_json(&pair) } else { show(&pair) }
        }
        PairVerb::SwitchOver => {
            let done: api::SwitchedOver = client.post("/api/v1/pair/switch-over", &())?;
            match common.json {
                true => print_json(&done),
                false => say(&format!("{} is active, after {} ms", done.active, done.took_ms)),
            }
        }
        PairVerb::Rehearse => rehearse(common, &client),
        PairVerb::Push => {
            let pair: api::Pair = client.post("/api/v1/pair/push", &())?;
            if common.json {
                print_json(&pair)
            } else {
                say("told the peer; `evenkeel pair status` shows when it has it")
            }
        }
        PairVerb::RotateKey => {
            let pair: api::Pair = client.post("/api/v1/pair/rotate-key", &())?;
            if common.json { print_json(&pair) } else { say("both nodes have a new key") }
        }
        PairVerb::Hold => {
            let pair: api::Pair = client.post("/api/v1/pair/hold", &())?;
            if common.json {
                print_json(&pair)
            } else {
                say("this node stays passive until `evenkeel pair release`")
            }
        }
        PairVerb::Release => {
            let pair: api::Pair = client.delete("/api/v1/pair/hold")?;
            if common.json { print_json(&pair) } else { say("this node may be active again") }
        }
        PairVerb::Invite { part, peer } => {
            let part = api::PairPart { name: part.name, peer, interface: part.interface };
            let invitation: api::Invitation = client.post("/api/v1/pair/invite", &part)?;
            if common.json {
                return print_json(&invitation);
            }
            say(&format!("On the other node, within {} minutes:\n", invitation.valid_seconds / 60))?;
            say(&format!("  evenkeel pair join {}", invitation.code))
        }
        PairVerb::Join { code, part } => {
            let part = api::PairPart { name: part.name, peer: None, interface: part.interface };
            let joined: api::Pair = client.post("/api/v1/pair/join", &api::Join { code, part })?;
            let joined = settled(&client, joined)?;
            if common.json {
                return print_json(&joined);
            }
            say("joined: this node has the pair's key, configuration and people")?;
            show(&after_joining(joined))
        }
    }
}

/// The key is there as soon as the join has been answered; the election reads it a moment later.
fn after_joining(pair: api::Pair) -> api::Pair {
    api::Pair { paired: true, ..pair }
}

/// The pair once both nodes speak with each other, which takes a moment; or as it is then.
fn settled(client: &Client<'_>, mut pair: api::Pair) -> Result<api::Pair, Failure> {
    let until = Instant::now() + Duration::from_secs(5);
    let speaks = |pair: &api::Pair| pair.paired && pair.link.as_ref().is_some_and(|l| l.connected);
    while !speaks(&pair) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
        pair = client.get("/api/v1/pair")?;
    }
    Ok(pair)
}

/// Gives the role away and takes it back. While it is passive this node is a client like any other.
fn rehearse(common: &Common, client: &Client<'_>) -> Outcome {
    let status: api::Status = client.get("/api/v1/status")?;
    if status.node.role != "active" {
        let why = format!("this node is {}: rehearse on the active one", status.node.role);
        return Err(Failure::new(Exit::Failed, why));
    }
    let usable = |s: &&api::Service| ["http", "tcp", "nat", "snat"].contains(&s.mode.as_str());
    let services = || status.virtual_services.iter().filter(usable);
    let proxied = services().find(|s| s.mode == "http" || s.mode == "tcp");
    let vips = proxied.or(services().next()).into_iter().flat_map(|s| &s.vip);
    let Some(target) = vips.filter_map(|v| v.parse::<SocketAddr>().ok()).next() else {
        let why = "no service has a VIP and port that this node could try (modes http, tcp, nat, snat)";
        return Err(Failure::new(Exit::Failed, why));
    };
    let until_answered = |since: Instant| -> Result<u64, Failure> {
        while since.elapsed() < Duration::from_secs(10) {
            if TcpStream::connect_timeout(&target, Duration::from_millis(20)).is_ok() {
                return Ok(since.elapsed().as_millis() as u64);
            }
        }
        Err(Failure::new(Exit::TimedOut, format!("{target} did not answer within 10 s of the switch-over")))
    };
    let began = Instant::now();
    let _: api::SwitchedOver = client.post("/api/v1/pair/switch-over", &())?;
    let there_ms = until_answered(began)?;
    std::thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    let back: api::SwitchedOver = client.post("/api/v1/pair/switch-over", &())?;
    // Its own packets do not pass layer 4: there the role is what can be seen.
    let back_ms = if proxied.is_some() { until_answered(began)? } else { back.took_ms };
    let seen = api::Rehearsal { there_ms, back_ms, target: target.to_string() };
    if common.json {
        return print_json(&seen);
    }
    say(&format!(
        "{target} answered {there_ms} ms after the switch-over began, and {back_ms} ms after the one back"
    ))
}

pub(super) fn ago(ms: Option<u64>) -> String {
    match ms {
        None => "never".into(),
        Some(ms) if ms < 10_000 => format!("{ms} ms ago"),
        Some(ms) => format!("{} s ago", ms / 1000),
    }
}

fn nodes(pair: &api::Pair) -> Table {
    let mut nodes = Table::new(&["NODE", "ROLE", "PRIORITY", "TROUBLE", "REVISION", "HEARD"], &[2, 3, 4]);
    let number = |n: Option<u64>| n.map_or_else(|| "-".into(), |n| n.to_string());
    nodes.row(vec![
        format!("{} (this)", pair.name),
        pair.role.clone(),
        pair.priority.to_string(),
        pair.trouble.to_string(),
        pair.revision.to_string(),
        String::new(),
    ]);
    if let Some(peer) = &pair.peer {
        nodes.row(vec![
            match &peer.name {
                Some(name) => format!("{name} ({})", peer.address),
                None => peer.address.clone(),
            },
            match (peer.heard, &peer.role) {
                (true, Some(role)) => role.clone(),
                // The last that was heard may be the farewell, which gives no role.
                (false, Some(_)) => "silent".into(),
                (_, None) => "never heard".into(),
            },
            number(peer.priority.map(u64::from)),
            number(peer.trouble.map(u64::from)),
            number(peer.revision),
            ago(peer.heard_ms_ago),
        ]);
    }
    nodes
}

fn stood_still(stall: &api::StoodStill) -> String {
    format!(
        "{:.2} s, which ended {}: {}",
        stall.lasted_ms as f64 / 1000.0,
        ago(Some(stall.ended_ms_ago)),
        stall.cause
    )
}

fn show(pair: &api::Pair) -> Outcome {
    say(nodes(pair).to_string().trim_end())?;
    say(&format!("\n{} for {} s: {}", pair.role, pair.since_ms / 1000, pair.why))?;
    if !pair.paired {
        say(
            "not paired yet: `evenkeel pair invite` on the first node, `evenkeel pair join CODE` on the second",
        )?;
    }
    if pair.held {
        say("held: stays passive until `evenkeel pair release`")?;
    }
    if pair.split_brain {
        say("SPLIT BRAIN: both nodes are active")?;
    }
    for trouble in &pair.troubles {
        say(&format!("trouble: {trouble}"))?;
    }
    if let Some(stall) = &pair.stood_still {
        say(&format!("this node stood still for {}", stood_still(stall)))?;
    }
    if let Some(stall) = pair.peer.as_ref().and_then(|peer| peer.stood_still.as_ref()) {
        say(&format!("the peer stood still for {}", stood_still(stall)))?;
    }
    if let Some(conflict) = &pair.conflict {
        say(&format!("conflict: {conflict}"))?;
    }
    for path in &pair.paths {
        let trouble = path.trouble.as_ref().map_or_else(String::new, |t| format!(": {t}"));
        say(&format!("path {}: heard {}{trouble}", path.name, ago(path.heard_ms_ago)))?;
    }
    if pair.peer.as_ref().is_some_and(api::PairPeer::is_deaf) {
        say("the peer does not hear this node on any path: what comes in there is lost (its firewall?)")?;
    } else if pair.peer.as_ref().is_some_and(|peer| peer.misses_a_path) {
        say("the peer does not hear this node on one of these paths: `evenkeel pair status` there names it")?;
    }
    if let Some(beats) = &pair.beats {
        let (every, dead) = (beats.every_ms, beats.dead_after_ms);
        say(&format!("beats every {every} ms, the peer is dead after {dead} ms of silence: {}", beats.why))?;
    }
    if let Some(witness) = &pair.witness {
        say(&format!("witness {}: heard {}", witness.address, ago(witness.heard_ms_ago)))?;
    }
    if let Some(link) = &pair.link {
        let there = link.peer_version.as_deref().unwrap_or("an unknown version");
        say(&format!("versions: {} here, {there} there", pair.version))?;
        let state = if link.connected { "connected" } else { "not connected" };
        let advice = match link.configuration.as_str() {
            "differs" => " (`evenkeel pair push` on the node whose configuration shall be kept)",
            _ => "",
        };
        say(&format!("link: {state}; configuration: {}{advice}; {}", link.configuration, link.detail))?;
        if let (Some(here), Some(there)) = (link.here, link.there) {
            say(&format!(
                "remembered here and there: flows {} and {}, entries {} and {}",
                here.flows, there.flows, here.entries, there.entries
            ))?;
        }
    }
    for address in &pair.addresses_without_interface {
        say(&format!("{address} is in the network of no interface of this node"))?;
    }
    say(&format!("addresses announced: {}", ago(pair.announced_ms_ago)))?;
    for (why, count) in pair.refused.iter().filter(|(why, _)| !why.starts_with("heard before")) {
        say(&format!("messages refused: {count} ({why})"))?;
    }
    if !pair.guarded {
        say("no guard process: the addresses would outlive a daemon that is killed")?;
    }
    if !pair.real_time {
        say("no real-time priority: a busy machine may lose its role for nothing")?;
    }
    Ok(())
}

/// `evenkeel witness`
pub fn witness(listen: SocketAddr, key: &Path) -> Outcome {
    evenkeel_control::witness(listen, key)
}

/// `evenkeel guard MILLISECONDS`
pub fn guard(silence_ms: u64) -> Outcome {
    Ok(evenkeel_control::guard(Duration::from_millis(silence_ms))?)
}
