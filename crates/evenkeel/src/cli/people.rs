//! Verbs of people, tokens and the audit log.

use std::io::{BufRead, IsTerminal, Write};

use clap::Subcommand;
use evenkeel_api as api;
use evenkeel_control::text::encoded;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::client::Client;
use super::live::{print_json, say};
use super::revisions::time;
use super::table::Table;
use super::{Common, Exit, Failure, Outcome};

#[derive(Subcommand, Debug)]
pub enum UserVerb {
    /// Add a person who may log in to the web UI
    #[command(after_help = "Example: evenkeel user add ann --role admin")]
    Add {
        name: String,
        /// viewer, operator, certificate-manager or admin
        #[arg(long, default_value = "admin")]
        role: api::Role,
        /// Read the password from standard input instead of asking for it
        #[arg(long)]
        password_stdin: bool,
    },
    /// List people, their roles, and who is locked out
    #[command(after_help = "Example: evenkeel user list")]
    List,
    /// Change a person's role
    #[command(after_help = "Example: evenkeel user role ann operator")]
    Role { name: String, role: api::Role },
    /// Give a person a new password, which also ends a lock-out
    #[command(after_help = "Example: evenkeel user password ann")]
    Password {
        name: String,
        /// Read the password from standard input instead of asking for it
        #[arg(long)]
        password_stdin: bool,
    },
    /// Take a person's second factor away, when the phone is lost
    #[command(after_help = "Example: evenkeel user no-second-factor ann")]
    NoSecondFactor { name: String },
    /// Remove a person, their sessions and tokens
    #[command(after_help = "Example: evenkeel user remove ann")]
    Remove { name: String },
}

#[derive(Subcommand, Debug)]
pub enum TokenVerb {
    /// Make a token for a script; it is shown once
    #[command(
        after_help = "Example: curl -H \"Authorization: Bearer $(evenkeel token add ci --role operator --days 90)\" https://lb1:9443/api/v1/status"
    )]
    Add {
        name: String,
        /// viewer, operator, certificate-manager or admin
        #[arg(long, default_value = "viewer")]
        role: api::Role,
        /// Days until it ends; 0 for never
        #[arg(long, default_value_t = 90)]
        days: u32,
    },
    /// List tokens and when they end
    #[command(after_help = "Example: evenkeel token list")]
    List,
    /// Revoke a token by its id
    #[command(after_help = "Example: evenkeel token list, then: evenkeel token revoke ID")]
    Revoke { id: String },
}

pub fn user(common: &Common, verb: UserVerb) -> Outcome {
    let client = Client::new(&common.socket);
    let path = |name: &str| format!("/api/v1/users/{}", encoded(name));
    let change = |name: &str, change: api::UserChange| client.put::<Vec<api::User>>(&path(name), &change);
    let users = match verb {
        UserVerb::Add { name, role, password_stdin } => {
            let password = password(password_stdin)?;
            client.post("/api/v1/users", &api::NewUser { name, role, password })?
        }
        UserVerb::List => client.get("/api/v1/users")?,
        UserVerb::Role { name, role } => {
            change(&name, api::UserChange { role: Some(role), ..Default::default() })?
        }
        UserVerb::Password { name, password_stdin } => {
            let password = Some(password(password_stdin)?);
            change(&name, api::UserChange { password, ..Default::default() })?
        }
        UserVerb::NoSecondFactor { name } => {
            change(&name, api::UserChange { second_factor: Some(false), ..Default::default() })?
        }
        UserVerb::Remove { name } => client.delete(&path(&name))?,
    };
    if common.json {
        return print_json(&users);
    }
    let mut table = Table::new(&["NAME", "ROLE", "SECOND FACTOR", "LOCKED FOR"], &[]);
    for user in users {
        let locked = match user.locked_ms {
            0 => String::new(),
            ms => format!("{} s", ms.div_ceil(1000)),
        };
        let factor = if user.second_factor { "yes" } else { "no" };
        table.row(vec![user.name, user.role.as_str().into(), factor.into(), locked]);
    }
    say(table.to_string().trim_end())
}

pub fn token(common: &Common, verb: TokenVerb) -> Outcome {
    let client = Client::new(&common.socket);
    let tokens: Vec<api::Token> = match verb {
        TokenVerb::Add { name, role, days } => {
            let new = api::NewToken { name, role, valid_days: (days > 0).then_some(days) };
            let token: api::Token = client.post("/api/v1/tokens", &new)?;
            return match common.json {
                true => print_json(&token),
                false => say(token.token.as_deref().unwrap_or("")),
            };
        }
        TokenVerb::List => client.get("/api/v1/tokens")?,
        TokenVerb::Revoke { id } => client.delete(&format!("/api/v1/tokens/{}", encoded(&id)))?,
    };
    if common.json {
        return print_json(&tokens);
    }
    let mut table = Table::new(&["ID", "NAME", "ROLE", "OWNER", "ENDS (UTC)"], &[]);
    for token in tokens {
        let ends = token.expires_ms.map_or_else(|| "never".into(), time);
        table.row(vec![token.id, token.name, token.role.as_str().into(), token.owner, ends]);
    }
    say(table.to_string().trim_end())
}

pub fn audit(common: &Common, verify: bool, limit: usize) -> Outcome {
    let client = Client::new(&common.socket);
    if verify {
        let verdict: api::AuditVerdict = client.get("/api/v1/audit/verify")?;
        match common.json {
            true => print_json(&verdict)?,
            false => say(&verdict.detail)?,
        }
        return match verdict.intact {
            true => Ok(()),
            false => Err(Failure::new(Exit::Failed, "the audit log was tampered with")),
        };
    }
    let entries: Vec<api::AuditEntry> = client.get(&format!("/api/v1/audit?limit={limit}"))?;
    if common.json {
        return print_json(&entries);
    }
    let mut table = Table::new(&["TIME (UTC)", "WHO", "FROM", "WHAT", "OUTCOME"], &[]);
    for entry in entries.into_iter().rev() {
        table.row(vec![time(entry.time_ms), entry.who, entry.from, entry.what, entry.outcome]);
    }
    say(table.to_string().trim_end())
}

fn password(from_stdin: bool) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if from_stdin || !stdin.is_terminal() {
        let mut line = String::new();
        stdin.lock().read_line(&mut line)?;
        return Ok(line.trim_end_matches(['\n', '\r']).to_owned());
    }
    let first = ask_hidden("Password: ")?;
    match first == ask_hidden("Once more: ")? {
        true => Ok(first),
        false => Err(Failure::new(Exit::Failed, "the two passwords differ")),
    }
}

fn ask_hidden(prompt: &str) -> Result<String, Failure> {
    eprint!("{prompt}");
    std::io::stderr().flush()?;
    let stdin = std::io::stdin();
    let shown = tcgetattr(&stdin).map_err(std::io::Error::from)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(std::io::Error::from)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &shown).map_err(std::io::Error::from)?;
    eprintln!();
    read?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
