//! The command line: what each verb takes, and who carries it out.

mod certificate_file;
mod client;
mod console;
mod demo;
mod doctor;
mod files;
mod import;
mod live;
mod logs;
mod maintenance;
mod pair;
mod people;
mod real_server;
mod revisions;
mod run;
mod server;
mod table;
mod upgrade;
mod upgrade_pair;
mod upkeep;

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use evenkeel_control::outcome::{Exit, Failure, Outcome};
use evenkeel_control::text::{counted, describe, encoded, place, read_file};

const EXITS: &str =
    "Exit status: 0 done, 1 failed, 2 usage, 3 timed out, 4 daemon not reachable, 78 configuration error.";

#[derive(Parser, Debug)]
#[command(name = "evenkeel", version, about = "A load balancer for people who run their own servers", after_help = EXITS)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub verb: Verb,
}

/// The command line as it was read; a mistake in it ends the program.
pub fn arguments() -> Arguments {
    let mut command = Arguments::command();
    let matches = command.get_matches_mut();
    if let Some(("run", run)) = matches.subcommand()
        && run.value_source("socket") == Some(ValueSource::CommandLine)
    {
        let message = "`run` serves the admin socket that its file names: write there\n\n  [admin]\n  socket = \"/run/evenkeel/admin.sock\"";
        command.error(ErrorKind::ArgumentConflict, message).exit();
    }
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

#[derive(Args, Debug, Clone)]
pub struct Common {
    /// The daemon's admin socket
    #[arg(
        long,
        global = true,
        env = "EVENKEEL_SOCKET",
        default_value = "/run/evenkeel/admin.sock",
        value_name = "PATH"
    )]
    pub socket: PathBuf,
    /// Print JSON instead of tables and sentences
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Run the daemon in the foreground
    #[command(
        after_help = "SIGHUP applies the file if it is valid. SIGTERM drains and stops. SIGUSR2 starts the program anew\nand hands the listening sockets over; so does starting it a second time.\n\nExample: evenkeel run --config /etc/evenkeel/evenkeel.toml"
    )]
    Run(RunArguments),
    /// Report every error of a configuration file with its place
    #[command(after_help = "Example: evenkeel check /etc/evenkeel/evenkeel.toml")]
    Check { file: PathBuf },
    /// Print a configuration file in canonical form, comments kept
    #[command(after_help = "Example: evenkeel fmt --write evenkeel.toml")]
    Fmt {
        file: PathBuf,
        /// Replace the file
        #[arg(long, short)]
        write: bool,
        /// Print nothing; exit 1 when the file is not in canonical form
        #[arg(long, conflicts_with = "write")]
        check: bool,
    },
    /// Print the configuration's JSON Schema, for editors
    #[command(after_help = "Example: evenkeel schema > evenkeel.schema.json")]
    Schema,
    /// Print an Evenkeel configuration made of another load balancer's
    #[command(
        after_help = "What could not be carried over is listed on standard error. Several sources make one configuration.\nKinds: haproxy, keepalived, ldirectord, lvs, pound, apache, haresources, lb_config.\nExample: evenkeel import keepalived keepalived.conf haproxy haproxy.cfg > evenkeel.toml"
    )]
    Import {
        /// KIND FILE... and further kinds with their files
        #[arg(required = true, num_args = 1.., value_name = "KIND FILE")]
        sources: Vec<String>,
        /// Exit with 1 when anything was left
        #[arg(long)]
        strict: bool,
    },
    /// Run HAProxy's configuration as it is, with HAProxy's command line
    #[command(
        disable_help_flag = true,
        after_help = "A program of the name `haproxy`, such as a link to this one, takes the same words.\nExample: evenkeel haproxy -f /etc/haproxy/haproxy.cfg"
    )]
    Haproxy {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
        words: Vec<String>,
    },
    /// Show what committing a file would do
    #[command(after_help = "Example: evenkeel plan evenkeel.toml")]
    Plan { file: PathBuf },
    /// Make a file the running configuration, and the one that the next start reads
    #[command(
        after_help = "On a pair it is on both nodes afterwards, or the answer says so.\nExample: evenkeel commit evenkeel.toml --confirm 60s --message 'new web servers', then: evenkeel confirm"
    )]
    Commit {
        file: PathBuf,
        /// Only where this revision is the running one still: the one that the file was made from
        /// (default: the one that runs when the command begins)
        #[arg(long, value_name = "REVISION")]
        base: Option<u64>,
        /// Go back by itself unless `evenkeel confirm` comes within this time
        #[arg(long, value_parser = duration, value_name = "TIME")]
        confirm: Option<Duration>,
        /// Why, for the history
        #[arg(long, short, value_name = "TEXT")]
        message: Option<String>,
    },
    /// Keep the revision that a commit with --confirm has made
    #[command(
        after_help = "Example: evenkeel commit evenkeel.toml --confirm 60s, then within that time: evenkeel confirm"
    )]
    Confirm,
    /// Make an earlier revision the running one: the one before, or the one that is named
    #[command(after_help = "Example: evenkeel rollback 12")]
    Rollback { revision: Option<u64> },
    /// List the revisions that have run: when, by whom, why
    #[command(after_help = "Example: evenkeel history, then: evenkeel diff 11 12")]
    History,
    /// Show what differs between two revisions, or between one and the running configuration
    #[command(after_help = "Example: evenkeel diff 11 12")]
    Diff { from: u64, to: Option<u64> },
    /// Show virtual services and their real servers
    #[command(after_help = "Example: evenkeel status web")]
    Status {
        /// Only this virtual service
        service: Option<String>,
    },
    /// Status, refreshed every second, with rates
    #[command(after_help = "Example: evenkeel top --count 10")]
    Top {
        /// Stop after so many refreshes
        #[arg(long, value_name = "N")]
        count: Option<u32>,
    },
    /// List client connections
    #[command(after_help = "Example: evenkeel connections --service web --state idle")]
    Connections {
        #[arg(long)]
        service: Option<String>,
        #[arg(long)]
        server: Option<String>,
        #[arg(long)]
        state: Option<String>,
        #[arg(long, value_name = "ADDRESS")]
        client: Option<std::net::IpAddr>,
        /// List so many at most [default: 10000]
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Close the client connections of a service, of one of its real servers, of one client, or one of them
    #[command(
        override_usage = "evenkeel close SERVICE[/SERVER] [--client ADDRESS[:PORT]]\n       evenkeel close --client ADDRESS[:PORT]",
        after_help = "Examples: evenkeel close web/web1 --client 192.0.2.7; evenkeel close --client 192.0.2.7:51514"
    )]
    Close {
        #[arg(value_name = "SERVICE[/SERVER]", required_unless_present = "client")]
        of: Option<String>,
        /// Of this address, or of one port of it
        #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = live::client_of)]
        client: Option<live::ClientPlace>,
    },
    /// Say what keeps clients from being served, and how to mend it
    #[command(after_help = "Run it on the load balancer, as root. Example: evenkeel doctor --json")]
    Doctor,
    /// Make this machine a real server of mode dr or tun, check it, undo it
    #[command(
        subcommand,
        after_help = "Example: evenkeel real-server setup --mode dr --vip 192.0.2.10 --persist"
    )]
    RealServer(real_server::RealServerVerb),
    /// Print access log lines as they come
    #[command(after_help = "Example: evenkeel logs --follow --service web --status 5xx")]
    Logs {
        #[arg(long, short)]
        follow: bool,
        /// Only lines that hold this text
        #[arg(long, value_name = "TEXT")]
        grep: Option<String>,
        /// Only lines of this virtual service
        #[arg(long)]
        service: Option<String>,
        /// Only lines of this real server
        #[arg(long)]
        server: Option<String>,
        /// Only answers with this status, such as 503 or 5xx
        #[arg(long)]
        status: Option<String>,
        /// Only lines of this client
        #[arg(long, value_name = "ADDRESS")]
        client: Option<std::net::IpAddr>,
        /// Stop after so many lines
        #[arg(long, value_name = "N")]
        count: Option<usize>,
    },
    /// Send a real server no new clients; persistent ones and existing connections finish
    #[command(after_help = "Example: evenkeel drain web/web1 --wait --timeout 5m")]
    Drain(StateArguments),
    /// Send a real server nothing and close its connections
    #[command(after_help = "Example: evenkeel halt web/web1")]
    Halt(StateArguments),
    /// Let a real server take clients again
    #[command(after_help = "Example: evenkeel online web/web1")]
    Online(StateArguments),
    /// Drain real servers at a time, and have them back by themselves
    #[command(
        subcommand,
        after_help = "Example: evenkeel maintenance plan web/web1 --at 02:00 --for 2h --message 'new disks'"
    )]
    Maintenance(maintenance::MaintenanceVerb),
    /// Change a real server's weight; survives restart
    #[command(after_help = "Example: evenkeel weight web/web1 50")]
    Weight {
        #[arg(value_name = "SERVICE/SERVER")]
        server: ServerName,
        weight: u16,
    },
    /// Add real servers, set and remove them, without a change of the file; survives restart
    #[command(
        subcommand,
        after_help = "Example: evenkeel server add web/web3 --address 10.0.0.3:8080 --expires 5m"
    )]
    Server(server::ServerVerb),
    /// List or clear entries of a persistence table
    #[command(subcommand, after_help = "Example: evenkeel persistence list terminal-servers --key user:")]
    Persistence(PersistenceVerb),
    /// Say which real server a request would go to, and why not the others
    #[command(
        after_help = "Example: evenkeel explain http://127.0.0.1:8080/cart --header 'Cookie: SERVERID=web2' --source 192.0.2.7"
    )]
    Explain {
        /// http://VIP:PORT/PATH, https://…, or tcp://VIP:PORT
        target: String,
        /// The request method
        #[arg(long, short = 'X', value_name = "METHOD")]
        method: Option<String>,
        #[arg(long, short = 'H', value_name = "HEADER")]
        header: Vec<String>,
        /// The client's address
        #[arg(long, value_name = "ADDRESS")]
        source: Option<std::net::IpAddr>,
        /// Ask a proposed configuration instead of the running one
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Two nodes that share floating IPs: join them, see them, switch over
    #[command(subcommand, after_help = "Example: evenkeel pair status")]
    Pair(pair::PairVerb),
    /// Be the third machine that two nodes ask when they cannot hear each other
    #[command(
        after_help = "The folder holds the file `key` of a node's state directory (pair/key).\nExample: evenkeel witness --listen 0.0.0.0:9695 --folder /var/lib/evenkeel-witness"
    )]
    Witness {
        #[arg(long, default_value = "0.0.0.0:9695", value_name = "ADDRESS:PORT")]
        listen: std::net::SocketAddr,
        #[arg(long, default_value = "/var/lib/evenkeel-witness", value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// People who may log in to the web UI
    #[command(subcommand, after_help = "Example: evenkeel user add ann --role admin")]
    User(people::UserVerb),
    /// Tokens with which scripts use the REST API
    #[command(subcommand, after_help = "Example: evenkeel token add ci --role operator --days 90")]
    Token(people::TokenVerb),
    /// Show what people did, or prove that nobody has changed the record
    #[command(after_help = "Example: evenkeel audit --verify")]
    Audit {
        /// Check every entry's seal; exit 1 where it is broken
        #[arg(long)]
        verify: bool,
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
    },
    /// List certificates and when they end, replace one, or read one of another format
    #[command(
        after_help = "Examples: evenkeel cert\n          evenkeel cert import www.p12 --passphrase-file secret --out www.pem\n          evenkeel cert renew web\n          evenkeel cert revoke web\n          evenkeel cert --replace www.pem new.pem"
    )]
    Cert {
        #[command(subcommand)]
        verb: Option<upkeep::CertificateVerb>,
        /// Replace the file of this name by FILE, which holds the chain and the key
        #[arg(long, num_args = 2, value_names = ["NAME", "FILE"])]
        replace: Option<Vec<String>>,
    },
    /// Show what happened lately: servers, services, roles, commits
    #[command(after_help = "Example: evenkeel events --limit 200")]
    Events {
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
    },
    /// Send a test message to every receiver of alerts
    #[command(after_help = "Example: evenkeel test-alerts")]
    TestAlerts,
    /// Write everything that makes this node what it is: configuration, certificates, people, live states
    #[command(
        after_help = "It holds private keys: keep it as safe as they are.\nExample: evenkeel backup lb1.backup"
    )]
    Backup { file: Option<PathBuf> },
    /// Make a backup the running state; a node of a pair stays passive until it is released
    #[command(after_help = "Example: evenkeel restore lb1.json --as this-node")]
    Restore {
        file: PathBuf,
        /// Of another node's backup: keep this node's name, peer and doors, or become that node
        #[arg(long = "as", value_parser = ["this-node", "that-node"])]
        part: Option<String>,
    },
    /// Write what a helper needs to see, without secrets
    #[command(after_help = "Example: evenkeel support-bundle lb1.json")]
    SupportBundle { file: Option<PathBuf> },
    /// Close what is open: addresses, old TLS, tokens without an end, sessions; rotate the pair's key
    #[command(after_help = "Example: evenkeel lockdown --json")]
    Lockdown,
    /// Start the program, or one part of it, anew; connections are kept
    #[command(
        after_help = "program: a new process takes over, also a newer program on disk\nchecks: every health check begins again\nlayer4: the programs are attached again; routes and neighbours are read again\nweb: listeners and certificate of the web UI\npair: the paths to the other node\nlogs: files of the access log\nExample: evenkeel restart checks"
    )]
    Restart {
        #[arg(value_parser = ["program", "checks", "layer4", "web", "pair", "logs"], default_value = "program")]
        part: String,
    },
    /// Make the new version of a signed bundle the one that runs
    #[command(
        after_help = "Signature, size and version are checked before anything changes. Connections are kept where only the\nprogram changes. Of a pair: the passive node first, then the active one, which switches over.\nExample: evenkeel upgrade --check evenkeel-0.2.0.bundle"
    )]
    Upgrade(upgrade::UpgradeArguments),
    /// Ask the network which machines answer for an address
    #[command(after_help = "Example: evenkeel who-has 192.0.2.10")]
    WhoHas { address: std::net::IpAddr },
    /// Start real servers, traffic and a view of who gets what, on this machine
    #[command(after_help = "Example: evenkeel demo --duration 30s --port 9080")]
    Demo {
        /// Stop by itself after this long, such as 30s
        #[arg(long, value_parser = duration)]
        duration: Option<Duration>,
        /// First of the six loopback ports that it uses
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// The console of the appliance: see this machine and set it up, by keyboard alone
    #[command(
        after_help = "Works on a screen of 80x24 and over a serial line. Run it as root.\nExample: evenkeel console"
    )]
    Console {
        /// Stay when Ctrl-C is pressed: it is all that the screen shows
        #[arg(long)]
        stay: bool,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example: evenkeel completion bash > /etc/bash_completion.d/evenkeel")]
    Completion { shell: clap_complete::Shell },
    /// Print the manual page, or write one for each verb into a folder
    #[command(after_help = "Example: evenkeel man | man -l -")]
    Man {
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
    #[command(hide = true)]
    Guard { silence_ms: u64 },
    /// Run the scripts of a daemon that is not root; a service manager starts it with its socket
    #[command(hide = true)]
    Scripts,
    /// Check or apply the settings of the machine for a daemon that is not root: one question on standard input
    #[command(hide = true)]
    NodeHelper,
    #[command(hide = true)]
    DemoServer { name: String, address: std::net::SocketAddr },
}

#[derive(Args, Debug, Clone)]
pub struct RunArguments {
    /// The configuration file
    #[arg(long, short, default_value = "/etc/evenkeel/evenkeel.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// How long existing connections may go on after SIGTERM
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub drain_timeout: Duration,
    /// Fail when another process serves the same admin socket, instead of taking over from it
    #[arg(long)]
    pub no_take_over: bool,
    /// End when standard input is closed, and remove this folder: `evenkeel demo` may be killed
    #[arg(long, hide = true, value_name = "FOLDER")]
    pub ends_with_input: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct StateArguments {
    #[arg(value_name = "SERVICE/SERVER")]
    pub server: ServerName,
    /// Wait until the real server has no connection left
    #[arg(long)]
    pub wait: bool,
    /// Give up waiting after this long (exit status 3)
    #[arg(long, default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
}

#[derive(Subcommand, Debug)]
pub enum PersistenceVerb {
    /// Show which client belongs to which real server, or what clients have done (a table)
    #[command(after_help = "Example: evenkeel persistence list terminal-servers --key user: --server ts1")]
    List {
        service: String,
        /// Only keys that hold this text
        #[arg(long, value_name = "TEXT")]
        key: Option<String>,
        /// Only entries of this real server
        #[arg(long)]
        server: Option<String>,
    },
    /// Forget all entries of a service, or one
    #[command(after_help = "Example: evenkeel persistence clear terminal-servers user:ann")]
    Clear { service: String, key: Option<String> },
}

/// `SERVICE/SERVER`
#[derive(Clone, Debug)]
pub struct ServerName {
    pub service: String,
    pub server: String,
}

impl std::str::FromStr for ServerName {
    type Err = String;

    fn from_str(text: &str) -> Result<ServerName, String> {
        match text.split_once('/') {
            Some((service, server)) if !service.is_empty() && !server.is_empty() => {
                Ok(ServerName { service: service.into(), server: server.into() })
            }
            _ => Err("expected SERVICE/SERVER, such as web/web1".into()),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    evenkeel_model::parse_duration(text).map_err(|e| e.to_string())
}

pub fn dispatch(arguments: Arguments) -> Outcome {
    let common = arguments.common;
    match arguments.verb {
        Verb::Run(run) => run::run(&run),
        Verb::Check { file } => files::check(&file, common.json),
        Verb::Fmt { file, write, check } => files::fmt(&file, write, check),
        Verb::Schema => files::schema(),
        Verb::Haproxy { .. } => Ok(()),
        Verb::Import { sources, strict } => import::run(&sources, strict, common.json),
        Verb::Plan { file } => live::plan(&common, &file),
        Verb::Commit { file, base, confirm, message } => live::commit(&common, &file, base, confirm, message),
        Verb::Confirm => revisions::confirm(&common),
        Verb::Rollback { revision } => revisions::rollback(&common, revision),
        Verb::History => revisions::history(&common),
        Verb::Diff { from, to } => revisions::diff(&common, from, to),
        Verb::Status { service } => live::status(&common, service.as_deref()),
        Verb::Top { count } => live::top(&common, count),
        Verb::Connections { service, server, state, client, limit } => {
            let filter = evenkeel_api::ConnectionFilter { service, server, state, client, limit };
            live::connections(&common, &filter)
        }
        Verb::Doctor => doctor::run(&common),
        Verb::Server(verb) => server::run(&common, verb),
        Verb::RealServer(verb) => real_server::run(&common, verb),
        Verb::Logs { follow, grep, service, server, status, client, count } => {
            let client = client.map(|c| c.to_string());
            logs::tail(&common, follow, &logs::Filter { grep, service, server, status, client }, count)
        }
        Verb::Drain(change) => live::change_state(&common, &change, "draining"),
        Verb::Halt(change) => live::change_state(&common, &change, "halted"),
        Verb::Online(change) => live::change_state(&common, &change, "online"),
        Verb::Maintenance(verb) => maintenance::run(&common, verb),
        Verb::Weight { server, weight } => live::weight(&common, &server, weight),
        Verb::Close { of, client } => live::close(&common, of.as_deref(), client),
        Verb::Persistence(PersistenceVerb::List { service, key, server }) => {
            live::persistence(&common, &service, key.as_deref(), server.as_deref())
        }
        Verb::Persistence(PersistenceVerb::Clear { service, key }) => {
            live::clear_persistence(&common, &service, key.as_deref())
        }
        Verb::Explain { target, method, header, source, config } => {
            let source = source.map(|s| s.to_string());
            let question = evenkeel_api::Question {
                target,
                headers: header,
                source,
                method,
                configuration: None,
                reads: false,
            };
            live::explain(&common, question, config.as_deref())
        }
        Verb::Pair(verb) => pair::run(&common, verb),
        Verb::Witness { listen, folder } => pair::witness(listen, &folder),
        Verb::Guard { silence_ms } => pair::guard(silence_ms),
        Verb::Console { stay } => console::run(&common, stay),
        Verb::Scripts => scripts(),
        Verb::NodeHelper => Ok(evenkeel_control::answer_for_node()?),
        Verb::User(verb) => people::user(&common, verb),
        Verb::Token(verb) => people::token(&common, verb),
        Verb::Audit { verify, limit } => people::audit(&common, verify, limit),
        Verb::Cert { verb, replace } => {
            let both = replace.and_then(|mut both| both.pop().zip(both.pop()));
            upkeep::certificates(&common, verb, both.map(|(file, name)| (name, file.into())))
        }
        Verb::Events { limit } => upkeep::happenings(&common, limit),
        Verb::TestAlerts => upkeep::test_alerts(&common),
        Verb::Backup { file } => upkeep::backup(&common, file.as_deref()),
        Verb::Restore { file, part } => upkeep::restore(&common, &file, part.as_deref()),
        Verb::SupportBundle { file } => upkeep::support_bundle(&common, file.as_deref()),
        Verb::Lockdown => upkeep::lockdown(&common),
        Verb::Restart { part } => upkeep::restart(&common, &part),
        Verb::Upgrade(arguments) => upgrade::run(&common, &arguments),
        Verb::WhoHas { address } => upkeep::who_has(&common, address),
        Verb::Demo { duration, port } => demo::run(duration, port),
        Verb::Completion { shell } => completion(shell),
        Verb::Man { folder } => man(folder),
        Verb::DemoServer { name, address } => demo::serve(&name, address),
    }
}

fn man(folder: Option<PathBuf>) -> Outcome {
    let command = Arguments::command();
    match folder {
        Some(folder) => clap_mangen::generate_to(command, folder)?,
        None => clap_mangen::Man::new(command).render(&mut std::io::stdout())?,
    }
    Ok(())
}

fn completion(shell: clap_complete::Shell) -> Outcome {
    clap_complete::generate(shell, &mut Arguments::command(), "evenkeel", &mut std::io::stdout());
    Ok(())
}

/// Runs scripts for a daemon that is another user.
fn scripts() -> Outcome {
    let Some(listener) = evenkeel_platform::given_unix_listener() else {
        let why = format!("a service manager starts this with a socket at {}", evenkeel_scripts::RUNNER);
        return Err(Failure::new(Exit::Failed, why));
    };
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(async { evenkeel_scripts::serve(tokio::net::UnixListener::from_std(listener)?).await })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The help of every verb, and of every verb of a verb, has an example that is a command of this program.
    #[test]
    fn every_verb_has_an_example() {
        let mut left = vec![("evenkeel".to_owned(), Arguments::command())];
        while let Some((name, command)) = left.pop() {
            for verb in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
                let name = format!("{name} {}", verb.get_name());
                let help = verb.clone().render_help().to_string();
                let example = help.split_once("Example").is_some_and(|(_, example)| example.contains(&name));
                assert!(example, "{name}: no example of it\n{help}");
                left.push((name, verb.clone()));
            }
        }
    }
}
