//! The console as a state machine: keys and answers in, actions out. It draws nothing and asks nobody.

use evenkeel_api as api;

use crate::facts::Facts;
use crate::form::{Form, FormKind};

/// How long a change waits for its confirmation.
pub const CONFIRM_MS: u64 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Up,
    Down,
    Enter,
    Back,
    Next,
    Previous,
    Delete,
    Letter(char),
}

/// What shall be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Facts anew.
    Look,
    Propose(Vec<api::Edit>),
    Commit {
        text: String,
        base: u64,
    },
    Confirm,
    GoBack,
    Ping(String),
    LookUp(String),
    WhoHas(String),
    SetPassword {
        name: String,
        password: String,
    },
    /// A shell for who proves to be an administrator.
    Shell {
        name: String,
        password: String,
        code: String,
    },
    Restart,
    ShutDown,
    RestartProgram,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Answer {
    Facts(Box<Facts>),
    Proposal(Box<api::Proposal>),
    Committed {
        within_ms: Option<u64>,
    },
    /// A title and lines for people.
    Told {
        title: String,
        lines: Vec<String>,
    },
    Refused(String),
}

#[derive(Clone, Debug)]
pub enum View {
    Home,
    Interfaces {
        at: usize,
    },
    Tests {
        at: usize,
    },
    Power {
        at: usize,
    },
    Form(Form),
    /// What a change would do.
    Plan {
        text: String,
        base: u64,
        lines: Vec<String>,
    },
    /// A change that goes back by itself.
    Confirming,
    Question {
        text: String,
        yes: Action,
    },
    Told {
        title: String,
        lines: Vec<String>,
    },
    /// An action is under way.
    Waiting(&'static str),
}

/// Entries of the first screen.
pub const HOME: &[&str] = &[
    "Network interfaces",
    "Name, time and name servers",
    "Tests of the network",
    "New password of an administrator",
    "Shell",
    "Restart and shut down",
    "Back to defaults",
];
pub const TESTS: &[&str] = &["Ping a machine", "Look a name up", "Who has an address"];
pub const POWER: &[&str] =
    &["Restart the program, connections are kept", "Restart the machine", "Shut the machine down"];

#[derive(Debug)]
pub struct Console {
    pub facts: Facts,
    pub view: View,
    pub home_at: usize,
    /// Why the last thing was not done.
    pub wrong: Option<String>,
}

impl Default for Console {
    fn default() -> Console {
        Console { facts: Facts::default(), view: View::Home, home_at: 0, wrong: None }
    }
}

impl Console {
    /// One key; what is to be done for it.
    pub fn key(&mut self, key: Key) -> Option<Action> {
        self.wrong = None;
        match std::mem::replace(&mut self.view, View::Home) {
            View::Home => self.key_at_home(key),
            View::Interfaces { at } => {
                let names = self.facts.interfaces();
                match listed(key, at, names.len() + 1) {
                    Listed::At(at) => self.view = View::Interfaces { at },
                    Listed::Taken(at) => {
                        let form = Form::interface(&self.facts, names.get(at).map(String::as_str));
                        self.view = View::Form(form);
                    }
                    Listed::Left => {}
                }
                None
            }
            View::Tests { at } => {
                match listed(key, at, TESTS.len()) {
                    Listed::At(at) => self.view = View::Tests { at },
                    Listed::Taken(at) => self.view = View::Form(test_form(at)),
                    Listed::Left => {}
                }
                None
            }
            View::Power { at } => {
                match listed(key, at, POWER.len()) {
                    Listed::At(at) => self.view = View::Power { at },
                    Listed::Taken(at) => self.view = power_question(at),
                    Listed::Left => {}
                }
                None
            }
            View::Form(form) => self.key_in_form(form, key),
            View::Plan { text, base, lines } => match key {
                Key::Enter => self.wait("It is applied", Action::Commit { text, base }),
                Key::Back => None,
                _ => {
                    self.view = View::Plan { text, base, lines };
                    None
                }
            },
            View::Confirming => match key {
                Key::Enter => self.wait("It is kept", Action::Confirm),
                Key::Back => self.wait("It goes back", Action::GoBack),
                _ => {
                    self.view = View::Confirming;
                    None
                }
            },
            View::Question { text, yes } => match key {
                Key::Letter('y' | 'Y') => self.answer_yes(yes),
                Key::Letter('n' | 'N') | Key::Back => None,
                _ => {
                    self.view = View::Question { text, yes };
                    None
                }
            },
            View::Told { .. } if matches!(key, Key::Enter | Key::Back) => None,
            // What is under way is not left: its answer would come to another screen.
            other => {
                self.view = other;
                None
            }
        }
    }

    fn key_at_home(&mut self, key: Key) -> Option<Action> {
        match listed(key, self.home_at, HOME.len()) {
            Listed::At(at) => {
                self.home_at = at;
                return None;
            }
            Listed::Left => return None,
            Listed::Taken(at) => self.home_at = at,
        }
        self.view = match self.home_at {
            0 => View::Interfaces { at: 0 },
            1 => View::Form(Form::machine(&self.facts)),
            2 => View::Tests { at: 0 },
            3 => View::Form(Form::password()),
            4 => View::Form(Form::shell()),
            5 => View::Power { at: 0 },
            _ => View::Question {
                text: "Services, pools and all other settings are taken out of the configuration. People, the web UI's listeners and the history stay. Go on?".into(),
                yes: Action::Propose(self.to_defaults()),
            },
        };
        None
    }

    fn key_in_form(&mut self, mut form: Form, key: Key) -> Option<Action> {
        match key {
            Key::Back => return None,
            Key::Enter
                if form.at + 1 == form.fields.len()
                    || form.kind == FormKind::Interface
                    || form.kind == FormKind::Machine =>
            {
                return self.sent(form);
            }
            Key::Down | Key::Next | Key::Enter => form.next(),
            Key::Up | Key::Previous => form.previous(),
            Key::Delete => form.field().into_iter().for_each(|field| field.deleted()),
            Key::Letter(letter) => form.field().into_iter().for_each(|field| field.typed(letter)),
        }
        self.view = View::Form(form);
        None
    }

    /// A form is complete.
    fn sent(&mut self, form: Form) -> Option<Action> {
        let value = |at: usize| form.value(at).trim().to_owned();
        let (doing, action) = match form.kind {
            FormKind::Interface | FormKind::Machine => match form.edits(&self.facts) {
                Ok(edits) if edits.is_empty() => return self.refuse(form, "nothing is changed"),
                Ok(edits) => ("It is checked", Action::Propose(edits)),
                Err(why) => return self.refuse(form, &why),
            },
            _ if value(0).is_empty() => return self.refuse(form, "the first field is empty"),
            FormKind::Ping => ("Pinging", Action::Ping(value(0))),
            FormKind::Lookup => ("Asking the name servers", Action::LookUp(value(0))),
            FormKind::WhoHas => ("Asking the network", Action::WhoHas(value(0))),
            FormKind::Password if form.value(1) != form.value(2) => {
                return self.refuse(form, "the two passwords differ");
            }
            FormKind::Password => {
                let password = form.value(1).to_owned();
                ("The password is set", Action::SetPassword { name: value(0), password })
            }
            FormKind::Shell => {
                let password = form.value(1).to_owned();
                ("Asking", Action::Shell { name: value(0), password, code: value(2) })
            }
        };
        self.wait(doing, action)
    }

    fn refuse(&mut self, form: Form, why: &str) -> Option<Action> {
        self.wrong = Some(why.to_owned());
        self.view = View::Form(form);
        None
    }

    fn wait(&mut self, doing: &'static str, action: Action) -> Option<Action> {
        self.view = View::Waiting(doing);
        Some(action)
    }

    fn answer_yes(&mut self, yes: Action) -> Option<Action> {
        match yes {
            Action::Propose(edits) if edits.is_empty() => {
                self.wrong = Some("the configuration has nothing but defaults".into());
                None
            }
            yes => self.wait("It is done", yes),
        }
    }

    /// Everything goes that is not how this program is administered.
    fn to_defaults(&self) -> Vec<api::Edit> {
        let keys = self.facts.values.as_object().into_iter().flat_map(|map| map.keys());
        let gone = keys.filter(|key| !["admin", "state"].contains(&key.as_str()));
        gone.map(|key| api::Edit::Remove { at: vec![key.clone()] }).collect()
    }

    /// What came of an action; what is to be done then.
    pub fn heard(&mut self, answer: Answer) -> Option<Action> {
        match answer {
            Answer::Facts(facts) => {
                // Another person's change that waits is not this one's to keep.
                if facts.confirm_within_ms.is_none() && matches!(self.view, View::Confirming) {
                    self.view = View::Told {
                        title: "The former settings are back".into(),
                        lines: vec![
                            "Nobody has confirmed the change in time, or it was confirmed elsewhere.".into(),
                        ],
                    };
                }
                self.facts = *facts;
                return None;
            }
            Answer::Proposal(proposal) => self.view = plan_of(*proposal),
            Answer::Committed { within_ms: Some(within_ms) } => {
                self.facts.confirm_within_ms = Some(within_ms);
                self.view = View::Confirming;
            }
            Answer::Committed { within_ms: None } => self.view = View::Home,
            Answer::Told { title, lines } => self.view = View::Told { title, lines },
            Answer::Refused(why) => {
                self.view = View::Told { title: "That was not done".into(), lines: vec![why] };
            }
        }
        Some(Action::Look)
    }
}

/// Where a key leads in a list.
enum Listed {
    At(usize),
    Taken(usize),
    Left,
}

fn listed(key: Key, at: usize, length: usize) -> Listed {
    match key {
        Key::Up | Key::Previous => Listed::At((at + length - 1) % length),
        Key::Down | Key::Next => Listed::At((at + 1) % length),
        Key::Enter => Listed::Taken(at.min(length - 1)),
        Key::Back => Listed::Left,
        Key::Letter(digit) => match digit.to_digit(10).map(|d| d as usize) {
            Some(digit) if (1..=length).contains(&digit) => Listed::Taken(digit - 1),
            _ => Listed::At(at),
        },
        Key::Delete => Listed::At(at),
    }
}

fn test_form(at: usize) -> Form {
    match at {
        0 => Form::one("Ping a machine", FormKind::Ping, "Machine", "a name or an address"),
        1 => Form::one("Look a name up", FormKind::Lookup, "Name", "www.example.net"),
        _ => Form::one(
            "Who has an address",
            FormKind::WhoHas,
            "Address",
            "more than one answer: it is there twice",
        ),
    }
}

fn power_question(at: usize) -> View {
    let (text, yes) = match at {
        0 => ("The program starts anew; connections are kept. Go on?", Action::RestartProgram),
        1 => (
            "The machine restarts. Connections are cut; a passive node of a pair takes over. Go on?",
            Action::Restart,
        ),
        _ => ("The machine is shut down, and must be switched on again by hand. Go on?", Action::ShutDown),
    };
    View::Question { text: text.into(), yes }
}

fn plan_of(proposal: api::Proposal) -> View {
    let problems = proposal.problems.iter().map(|p| p.message.clone());
    let problems: Vec<String> = problems.collect();
    let Some(plan) = proposal.plan.filter(|_| problems.is_empty()) else {
        return View::Told { title: "That cannot be".into(), lines: problems };
    };
    let step = |step: &api::PlanStep| {
        let detail = if step.detail.is_empty() { String::new() } else { format!(": {}", step.detail) };
        format!("{} {}{detail} ({})", step.action, step.subject, step.impact)
    };
    let mut lines: Vec<String> = plan.steps.iter().map(step).collect();
    lines.extend(plan.notes.iter().cloned());
    lines.extend(plan.warnings.iter().map(|warning| format!("warning: {warning}")));
    if lines.is_empty() {
        lines.push("Nothing changes.".into());
    }
    View::Plan { text: proposal.text, base: plan.from, lines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn console() -> Console {
        let values = json!({
            "admin": {"listen": ["0.0.0.0:9443"]},
            "node": {"interface": [{"name": "e0", "dhcp": "ipv4"}]},
            "virtual-service": [{"name": "web"}],
        });
        Console { facts: Facts { values, ..Facts::default() }, ..Console::default() }
    }

    fn keys(console: &mut Console, text: &str) -> Option<Action> {
        let mut last = None;
        for letter in text.chars() {
            last = console.key(match letter {
                '\n' => Key::Enter,
                '\t' => Key::Next,
                '<' => Key::Back,
                '_' => Key::Delete,
                letter => Key::Letter(letter),
            });
        }
        last
    }

    fn proposal() -> api::Proposal {
        let step = api::PlanStep {
            action: "change".into(),
            subject: "node: interface e0".into(),
            detail: "DHCP ipv4 becomes no".into(),
            impact: "connections over it may be cut".into(),
        };
        let plan = api::Plan { from: 1, steps: vec![step], peer: None, notes: vec![], warnings: vec![] };
        let (text, diff) = ("new".into(), String::new());
        api::Proposal { text, values: json!({}), diff, problems: vec![], plan: Some(plan) }
    }

    #[test]
    fn an_address_is_set_looked_at_and_confirmed() {
        let mut console = console();
        // Interfaces, the first one; DHCP three steps on, then an address.
        let action = keys(&mut console, "11   \t192.0.2.10/24\n");
        let Some(Action::Propose(edits)) = action else { panic!("{action:?}") };
        assert_eq!(edits.len(), 2, "{edits:?}");
        assert!(matches!(console.view, View::Waiting(_)));
        assert!(keys(&mut console, "<\n").is_none(), "what is under way is not left");
        console.heard(Answer::Proposal(Box::new(proposal())));
        let View::Plan { lines, .. } = &console.view else { panic!("{:?}", console.view) };
        assert!(lines[0].contains("may be cut"), "{lines:?}");
        assert_eq!(keys(&mut console, "\n"), Some(Action::Commit { text: "new".into(), base: 1 }));
        console.heard(Answer::Committed { within_ms: Some(CONFIRM_MS) });
        assert!(matches!(console.view, View::Confirming));
        assert!(keys(&mut console, "xy\t").is_none(), "only one key keeps it");
        assert_eq!(keys(&mut console, "\n"), Some(Action::Confirm));
        console.heard(Answer::Told { title: "It is kept".into(), lines: vec![] });
        keys(&mut console, "\n");
        assert!(matches!(console.view, View::Home));
    }

    #[test]
    fn a_change_that_nobody_confirms_is_told_of() {
        let mut console = console();
        console.heard(Answer::Committed { within_ms: Some(CONFIRM_MS) });
        let facts = Facts { confirm_within_ms: Some(1000), ..Facts::default() };
        console.heard(Answer::Facts(Box::new(facts)));
        assert!(matches!(console.view, View::Confirming));
        console.heard(Answer::Facts(Box::default()));
        assert!(matches!(&console.view, View::Told { title, .. } if title.contains("back")));
    }

    #[test]
    fn questions_stand_before_what_cannot_be_undone() {
        let mut console = console();
        assert!(keys(&mut console, "63").is_none());
        assert!(keys(&mut console, "\n").is_none(), "Enter is no yes");
        assert!(keys(&mut console, "n").is_none());
        assert!(matches!(console.view, View::Home));
        assert_eq!(keys(&mut console, "63y"), Some(Action::ShutDown));
    }

    #[test]
    fn defaults_keep_the_way_in() {
        let mut console = console();
        let Some(Action::Propose(edits)) = keys(&mut console, "7y") else { panic!("{:?}", console.view) };
        let gone: Vec<_> = edits
            .iter()
            .map(|e| match e {
                api::Edit::Remove { at } => at[0].as_str(),
                _ => "?",
            })
            .collect();
        assert_eq!(gone, ["node", "virtual-service"]);
    }

    #[test]
    fn two_passwords_must_be_the_same() {
        let mut console = console();
        assert!(keys(&mut console, "4ann\nsecret\nsecreT\n").is_none());
        assert!(console.wrong.as_ref().is_some_and(|w| w.contains("differ")));
        let set = keys(&mut console, "_t\n");
        assert_eq!(set, Some(Action::SetPassword { name: "ann".into(), password: "secret".into() }));
    }

    #[test]
    fn a_shell_asks_who_it_is_for() {
        let mut console = console();
        let shell = keys(&mut console, "5ann\npw\n\n");
        assert_eq!(
            shell,
            Some(Action::Shell { name: "ann".into(), password: "pw".into(), code: String::new() })
        );
    }
}
