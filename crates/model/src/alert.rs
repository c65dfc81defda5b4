//! Who is told when something happens.

use std::path::PathBuf;
use std::time::Duration;

use crate::{AgentxAddress, Secret};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSettings {
    /// Others are gathered for so long after the first.
    pub gather: Duration,
    /// The least time between two messages that can wait.
    pub quiet: Duration,
    pub certificate_days: u16,
    pub receivers: Vec<Receiver>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// What it is told of; empty for everything.
    pub kinds: Vec<String>,
    pub how: Delivery,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    Email(EmailSettings),
    Webhook {
        url: Secret,
        slack: bool,
        ca: Option<PathBuf>,
    },
    Script {
        command: PathBuf,
        timeout: Duration,
    },
    Syslog {
        server: String,
        transport: Transport,
        ca: Option<PathBuf>,
        facility: u8,
    },
    /// Notifications of the machine's SNMP agent.
    Snmp {
        agentx: AgentxAddress,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailSettings {
    pub host: String,
    pub port: u16,
    pub security: MailSecurity,
    pub ca: Option<PathBuf>,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    pub from: String,
    pub to: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    StartTls,
    Tls,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Receiver {
    /// For people: what it is and where.
    pub fn name(&self) -> String {
        match &self.how {
            Delivery::Email(mail) => format!("e-mail to {}", mail.to.join(", ")),
            Delivery::Webhook { url, .. } => {
                // The path of a webhook is a secret more often than not, and so is a user before the host.
                let authority = url.expose().split(['/', '?', '#']).nth(2).unwrap_or("");
                let place = authority.rsplit('@').next().unwrap_or("");
                format!("webhook at {place}")
            }
            Delivery::Script { command, .. } => format!("script {}", command.display()),
            Delivery::Syslog { server, .. } => format!("syslog at {server}"),
            Delivery::Snmp { agentx } => format!("SNMP notifications by {agentx}"),
        }
    }

    pub fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || kind == "test" || self.kinds.iter().any(|k| k == kind)
    }
}
