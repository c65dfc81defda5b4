//! Carries actions out: questions to the daemon, programs of the system.

use std::net::{IpAddr, ToSocketAddrs};
use std::process::{Command, Stdio};

use evenkeel_api as api;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::facts::{Facts, code_in};
use crate::state::{Action, Answer, CONFIRM_MS};

/// The way to the daemon.
pub trait Daemon {
    /// An answer as JSON, or why there is none.
    fn ask(&self, method: &str, path: &str, kind: &str, body: &str) -> Result<Value, String>;
}

/// What is left to do for whoever has the terminal.
pub enum Done {
    Answer(Answer),
    Shell,
}

const JSON: &str = "application/json";
/// Of what a program prints.
const LINES_AT_MOST: usize = 16;

pub fn perform(action: Action, daemon: &dyn Daemon) -> Done {
    let answer = match action {
        Action::Shell { name, password, code } => match prove(daemon, &name, &password, &code) {
            Ok(()) => return Done::Shell,
            Err(why) => Err(why),
        },
        Action::Look => Ok(Answer::Facts(Box::new(gather_facts(daemon)))),
        Action::Propose(edits) => propose(daemon, edits),
        Action::Commit { text, base } => {
            let path =
                format!("/api/v1/commit?confirm-ms={CONFIRM_MS}&base={base}&message=at%20the%20console");
            let committed: Result<api::Committed, String> =
                daemon.ask("POST", &path, "application/toml", &text).and_then(read);
            committed.map(|c| Answer::Committed { within_ms: c.confirm_within_ms })
        }
        Action::Confirm => {
            daemon.ask("POST", "/api/v1/confirm", JSON, "").map(|_| told("The change is kept", Vec::new()))
        }
        Action::GoBack => {
            let back = daemon.ask("POST", "/api/v1/rollback", JSON, "{}");
            back.map(|_| told("The former settings are back", Vec::new()))
        }
        Action::Ping(machine) => {
            run("ping", &["-c", "3", "-w", "6", "--", &machine]).map(|lines| told("Ping", lines))
        }
        Action::LookUp(name) => look_up(&name),
        Action::WhoHas(address) => who_has(daemon, &address),
        Action::SetPassword { name, password } => {
            let body = json!({ "password": password }).to_string();
            let set = daemon.ask("PUT", &format!("/api/v1/users/{}", encoded(&name)), JSON, &body);
            set.map(|_| {
                told("The password is set", vec!["A lock-out of that person has ended with it.".into()])
            })
        }
        Action::Restart => run("systemctl", &["reboot"]).map(|_| told("The machine restarts", Vec::new())),
        Action::ShutDown => {
            run("systemctl", &["poweroff"]).map(|_| told("The machine is shut down", Vec::new()))
        }
        Action::RestartProgram => {
            let body = json!({ "part": "program" }).to_string();
            daemon
                .ask("POST", "/api/v1/restart", JSON, &body)
                .map(|_| told("The program starts anew", Vec::new()))
        }
    };
    Done::Answer(answer.unwrap_or_else(Answer::Refused))
}

fn told(title: &str, lines: Vec<String>) -> Answer {
    Answer::Told { title: title.into(), lines }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| format!("the daemon's answer is not understood: {e}"))
}

fn get<T: DeserializeOwned>(daemon: &dyn Daemon, path: &str) -> Result<T, String> {
    daemon.ask("GET", path, JSON, "").and_then(read)
}

fn gather_facts(daemon: &dyn Daemon) -> Facts {
    let status = match get::<api::Status>(daemon, "/api/v1/status") {
        Ok(status) => status,
        Err(why) => return Facts { trouble: Some(why), ..Facts::default() },
    };
    let configuration = get::<api::Configuration>(daemon, "/api/v1/configuration").ok();
    let is_first = get::<api::Door>(daemon, "/api/v1/door").is_ok_and(|door| door.first);
    let said = is_first.then(|| get::<Vec<String>>(daemon, "/api/v1/program-log").ok()).flatten();
    Facts {
        status: Some(status),
        machine: get(daemon, "/api/v1/node").ok(),
        confirm_within_ms: configuration.as_ref().and_then(|c| c.confirm_within_ms),
        values: configuration.map(|c| c.values).unwrap_or_default(),
        first_code: said.and_then(|lines| code_in(&lines)),
        trouble: None,
    }
}

fn propose(daemon: &dyn Daemon, edits: Vec<api::Edit>) -> Result<Answer, String> {
    let edits = serde_json::to_string(&api::Edits { text: None, edits }).map_err(|e| e.to_string())?;
    let proposal = daemon.ask("POST", "/api/v1/configuration/propose", JSON, &edits).and_then(read)?;
    Ok(Answer::Proposal(Box::new(proposal)))
}

fn prove(daemon: &dyn Daemon, name: &str, password: &str, code: &str) -> Result<(), String> {
    let code = Some(code).filter(|code| !code.is_empty()).map(str::to_owned);
    let login = api::Login { name: name.into(), password: password.into(), code };
    let body = serde_json::to_string(&login).map_err(|e| e.to_string())?;
    let myself: api::Myself = daemon.ask("POST", "/api/v1/login", JSON, &body).and_then(read)?;
    match myself.role {
        api::Role::Admin => Ok(()),
        _ => Err(format!("{name} is no administrator")),
    }
}

fn look_up(name: &str) -> Result<Answer, String> {
    let found = (name, 0).to_socket_addrs().map_err(|e| format!("{name} is not found: {e}"))?;
    let mut lines: Vec<String> = found.map(|address| address.ip().to_string()).collect();
    lines.dedup();
    lines.truncate(LINES_AT_MOST);
    Ok(told(&format!("Addresses of {name}"), lines))
}

fn who_has(daemon: &dyn Daemon, address: &str) -> Result<Answer, String> {
    let bare = address.split('/').next().unwrap_or(address);
    let bare: IpAddr = bare.parse().map_err(|_| format!("{address} is no address"))?;
    let holders = daemon.ask("GET", &format!("/api/v1/who-has?address={bare}"), JSON, "")?;
    let holders = holders.as_array().cloned().unwrap_or_default();
    let text = |holder: &Value, key: &str| holder.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let mut lines: Vec<String> = holders
        .iter()
        .map(|holder| {
            let values = holder.as_object().into_iter().flatten().map(|(key, _)| text(holder, key));
            values.filter(|value| !value.is_empty()).collect::<Vec<_>>().join("  ")
        })
        .collect();
    lines.push(match holders.len() {
        0 => "No other machine answers for it: it is free, or the machine is off.".into(),
        1 => "One machine answers for it.".into(),
        many => format!("{many} machines answer for it: the address is there more than once."),
    });
    Ok(told(&format!("Who has {bare}"), lines))
}

/// What a program printed.
fn run(program: &str, arguments: &[&str]) -> Result<Vec<String>, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{program} cannot be run: {e}"))?;
    let text = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    let lines: Vec<String> =
        String::from_utf8_lossy(text).lines().take(LINES_AT_MOST).map(str::to_owned).collect();
    match output.status.success() {
        true => Ok(lines),
        false => Err(lines.join("\n")),
    }
}

/// A name as a part of a path.
fn encoded(text: &str) -> String {
    let letter = |byte: u8| match byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one path, and no other.
    struct Only(&'static str, Value);

    impl Daemon for Only {
        fn ask(&self, _: &str, path: &str, _: &str, _: &str) -> Result<Value, String> {
            match path == self.0 {
                true => Ok(self.1.clone()),
                false => Err(format!("{path} is not asked here")),
            }
        }
    }

    #[test]
    fn a_shell_is_for_administrators() {
        let as_role = |role: &str| {
            let myself = json!({"name": "ann", "role": role, "second-factor": false, "by": "session"});
            let action = Action::Shell { name: "ann".into(), password: "pw".into(), code: String::new() };
            matches!(perform(action, &Only("/api/v1/login", myself)), Done::Shell)
        };
        assert!(as_role("admin"));
        assert!(!as_role("operator") && !as_role("viewer") && !as_role("certificate-manager"));
        let refused = perform(
            Action::Shell { name: "ann".into(), password: "pw".into(), code: String::new() },
            &Only("/", Value::Null),
        );
        assert!(matches!(refused, Done::Answer(Answer::Refused(_))));
    }

    #[test]
    fn what_is_no_address_is_not_asked_for() {
        let done = perform(Action::WhoHas("1.2.3.4&x=y".into()), &Only("/", Value::Null));
        assert!(matches!(done, Done::Answer(Answer::Refused(why)) if why.contains("no address")));
        assert_eq!(encoded("a/../b c"), "a%2F..%2Fb%20c");
    }
}
