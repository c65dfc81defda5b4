//! How real servers are probed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::{ProxyVersion, Secret, ServerTls, StatusSet};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    pub probe: Probe,
    pub interval: Duration,
    /// Between probes while they fail.
    pub fast_interval: Duration,
    /// Between probes of a server that is down; like `fast_interval` where nothing is said.
    pub down_interval: Option<Duration>,
    pub timeout: Duration,
    /// Passed probes in a row that bring a server up.
    pub rise: u32,
    /// Failed probes in a row that take a server down.
    pub fall: u32,
    /// Probe this address or port instead of the real server's own.
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    /// Probe over TLS.
    pub tls: Option<ServerTls>,
    /// Without TLS, whatever real servers speak.
    pub plain: bool,
    /// Begin with a PROXY protocol header: version 1 names the probe's addresses, 2 says LOCAL.
    pub send_proxy: Option<ProxyVersion>,
    /// Probe as a client's packet would come, with the VIP as target (modes dr and tun).
    pub through_vip: bool,
    /// Mark of the sockets of such probes, by which the packet path knows them; the daemon gives it.
    pub mark: u32,
    pub agent: Option<AgentCheck>,
    /// `{server}` in what is sent is the real server's name.
    pub fill_in: bool,
}

impl HealthCheck {
    /// The check as this real server gets it.
    pub fn of(&self, server: &str) -> HealthCheck {
        let mut check = self.clone();
        if !self.fill_in {
            return check;
        }
        match &mut check.probe {
            Probe::Http(probe) => probe.fill_in(server),
            Probe::Steps(steps) => {
                for step in steps {
                    if let Step::Send(bytes) = step {
                        let text = String::from_utf8_lossy(bytes.expose()).replace("{server}", server);
                        *bytes = text.into_bytes().into();
                    }
                }
            }
            _ => {}
        }
        check
    }
}

impl Default for HealthCheck {
    fn default() -> HealthCheck {
        HealthCheck {
            probe: Probe::Tcp,
            interval: Duration::from_secs(2),
            fast_interval: Duration::from_secs(1),
            down_interval: None,
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            address: None,
            port: None,
            tls: None,
            plain: false,
            send_proxy: None,
            through_vip: false,
            mark: 0,
            agent: None,
            fill_in: false,
        }
    }
}

/// A program on the real server that says how it is (HAProxy's agent protocol).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentCheck {
    /// Another address than the real server's own.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub interval: Duration,
    /// What to send first, if anything.
    pub send: Secret,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// No probes: only refused connections from traffic take a server out, for one interval.
    None,
    /// A connection can be opened; where steps are given, they are taken.
    Tcp,
    Steps(Vec<Step>),
    Http(Box<HttpProbe>),
    /// A TLS handshake.
    Tls,
    Ping,
    Dns {
        name: String,
    },
    Ntp,
    Radius {
        user: String,
        password: Secret,
        secret: Secret,
    },
    Sip {
        udp: bool,
    },
    Grpc {
        service: String,
    },
    /// With a user, who is let in without a password.
    Mysql {
        user: Option<String>,
        /// Log in as clients before 4.1 did.
        old: bool,
    },
    PostgreSql {
        user: String,
    },
    Ldap,
    Rdp,
    Script(ScriptProbe),
}

/// One step of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Send(Secret<Vec<u8>>),
    /// These bytes come, whatever comes before them.
    Expect(Vec<u8>),
    /// What comes matches this regular expression.
    ExpectRegex(String),
    /// These bytes do not come before the server ends the connection.
    Refuse(Vec<u8>),
    /// The same of a regular expression.
    RefuseRegex(String),
    /// What must not come is judged as soon as so many bytes have come.
    Within(usize),
    /// Go on over a new connection.
    Connect(Connect),
}

/// Where and how a check goes on over a further connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Connect {
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    /// TLS; the server's certificate is not verified.
    pub tls: bool,
    pub sni: Option<String>,
    pub send_proxy: Option<ProxyVersion>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    pub method: String,
    pub path: String,
    /// HTTP/1.0, not HTTP/1.1.
    pub version_10: bool,
    pub host: Option<String>,
    pub headers: Vec<(String, Secret)>,
    pub body: Secret,
    pub status: StatusSet,
    /// Text that the first 64 KiB of the body must hold.
    pub expect: Option<String>,
    /// A regular expression that they must match.
    pub expect_regex: Option<String>,
    /// Headers that the answer must have, each with a text that its value holds.
    pub expect_headers: Vec<(String, String)>,
    /// The same with regular expressions.
    pub expect_headers_regex: Vec<(String, String)>,
    /// Text that the body must not hold.
    pub refuse: Option<String>,
    /// A regular expression that it must not match.
    pub refuse_regex: Option<String>,
    /// Headers that the answer must not have with a value that matches a regular expression.
    pub refuse_headers_regex: Vec<(String, String)>,
    /// Further requests, each over a connection of its own.
    pub then: Vec<(Connect, HttpProbe)>,
}

impl HttpProbe {
    fn fill_in(&mut self, server: &str) {
        let filled = |text: &str| text.replace("{server}", server);
        self.path = filled(&self.path);
        self.host = self.host.as_deref().map(filled);
        for (_, value) in &mut self.headers {
            *value = filled(value.expose()).into();
        }
        self.body = filled(self.body.expose()).into();
        self.then.iter_mut().for_each(|(_, probe)| probe.fill_in(server));
    }
}

/// A program of the user's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScriptProbe {
    pub command: PathBuf,
    pub arguments: Vec<String>,
    /// keepalived's convention: no arguments of ours, exit status 2 and above is a weight.
    pub keepalived: bool,
}
