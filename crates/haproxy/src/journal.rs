//! What becomes of servers, told to each proxy's own `log` in HAProxy's words.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;

use evenkeel_health::{Outcome, Report};
use evenkeel_import::{LogTarget, Process, Proxy, ProxyKind};
use evenkeel_model::{AdminState, Probe};

use super::statistics::check_status;
use evenkeel_control::{ServerTurn, Turn, Watcher};

/// Severities of syslog.
const EMERGENCY: u8 = 0;
const ALERT: u8 = 1;
const NOTICE: u8 = 5;
const INFO: u8 = 6;

struct Journal {
    /// By the names of pools.
    proxies: HashMap<String, Proxy>,
    servers: RefCell<HashMap<(String, String), Counted>>,
    sockets: Sockets,
}

/// A server's checks as HAProxy counts them: from 0, by `rise` to up, by `fall` more at most.
#[derive(Clone, Copy)]
struct Counted {
    health: u32,
    status: Option<&'static str>,
    admin: AdminState,
}

/// None where no proxy has a log.
pub fn watcher(proxies: &[Proxy]) -> Option<Watcher> {
    let telling = proxies.iter().filter(|p| !p.logs.is_empty());
    let proxies: HashMap<String, Proxy> =
        telling.filter_map(|proxy| Some((proxy.pool.clone()?, proxy.clone()))).collect();
    if proxies.is_empty() {
        return None;
    }
    let journal = Journal { proxies, servers: RefCell::default(), sockets: Sockets::open() };
    Some(Box::new(move |seen| journal.take(seen)))
}

impl Journal {
    fn take(&self, seen: &ServerTurn<'_>) {
        let Some(proxy) = self.proxies.get(seen.pool) else { return };
        let known = proxy.servers.iter().find(|s| s.own == seen.server);
        let server = known.map_or(seen.server, |s| s.name.as_str());
        let name = format!("{}/{server}", proxy.name);
        let mut servers = self.servers.borrow_mut();
        let counted = servers.entry((seen.pool.into(), seen.server.into())).or_insert(Counted {
            health: seen.rise,
            status: None,
            admin: AdminState::Online,
        });
        let left = |word: &str| format!("{} active and {} backup servers {word}.", seen.active, seen.backup);
        let ending = format!("{} sessions active, 0 requeued, 0 remaining in queue.", seen.connections);
        match seen.turn {
            Turn::Probed => {
                let Some(report) = seen.report else { return };
                let line = counted.probed(report, seen, &proxy.check_steps);
                if let Some(line) = line.filter(|_| proxy.logs_checks) {
                    let word = if report.passed { "succeeded" } else { "failed" };
                    self.write_line(proxy, NOTICE, &format!("Health check for server {name} {word}{line}"));
                }
                return;
            }
            Turn::Up => {
                let why = match seen.report {
                    Some(report) if !proxy.logs_checks => reason(report, seen.probe, &proxy.check_steps),
                    _ => String::new(),
                };
                let line = format!(
                    "Server {name} is UP{why}. {} 0 sessions requeued, 0 total in queue.",
                    left("online")
                );
                self.write_line(proxy, NOTICE, &line);
            }
            Turn::Down => {
                // Without a failed check it was traffic that found the server closed.
                let why = match seen.report.filter(|r| !r.passed) {
                    Some(_) if proxy.logs_checks => String::new(),
                    Some(report) => reason(report, seen.probe, &proxy.check_steps),
                    None => ", reason: Layer4 connection problem".into(),
                };
                self.write_line(
                    proxy,
                    ALERT,
                    &format!("Server {name} is DOWN{why}. {} {ending}", left("left")),
                );
            }
            Turn::Set(state) => {
                let before = std::mem::replace(&mut counted.admin, state);
                if before == AdminState::Halted {
                    // Its checks begin anew.
                    (counted.health, counted.status) = (seen.rise, None);
                }
                let line = match (before, state) {
                    (_, AdminState::Halted) => {
                        format!("Server {name} is going DOWN for maintenance. {} {ending}", left("left"))
                    }
                    (_, AdminState::Draining) => {
                        format!("Server {name} enters drain state. {} {ending}", left("left"))
                    }
                    (AdminState::Draining, _) => {
                        format!("Server {name} is UP (leaving forced drain). {}", left("online"))
                    }
                    _ => format!("Server {name} is UP/READY (leaving forced maintenance)."),
                };
                let level = if state == AdminState::Halted { ALERT } else { NOTICE };
                self.write_line(proxy, level, &line);
            }
        }
        let away = !matches!(seen.turn, Turn::Up | Turn::Set(AdminState::Online));
        if away && seen.active + seen.backup == 0 {
            let kind = if proxy.kind == ProxyKind::Listen { "proxy" } else { "backend" };
            self.write_line(proxy, EMERGENCY, &format!("{kind} {} has no server available!", proxy.name));
        }
    }

    fn write_line(&self, proxy: &Proxy, level: u8, line: &str) {
        self.sockets.write_line(&proxy.logs, &proxy.log_tag, level, line);
    }
}

/// Says a line to the places of `global`, in notes' own level.
pub fn remark(process: &Process, line: &str) {
    Sockets::open().write_line(&process.logs, &process.log_tag, INFO, line);
}

/// What datagrams go out by.
struct Sockets {
    ipv4: Option<UdpSocket>,
    ipv6: Option<UdpSocket>,
}

impl Sockets {
    fn open() -> Sockets {
        let socket = |any: &str| UdpSocket::bind(any).ok().filter(|s| s.set_nonblocking(true).is_ok());
        Sockets { ipv4: socket("0.0.0.0:0"), ipv6: socket("[::]:0") }
    }

    /// Never waits: a server of logs that cannot be reached misses lines.
    fn write_line(&self, targets: &[LogTarget], tag: &str, level: u8, line: &str) {
        let stamp = jiff::Zoned::now().strftime("%b %e %H:%M:%S").to_string();
        for target in targets.iter().filter(|t| level <= t.level) {
            let priority = target.facility * 8 + level.max(target.gravest);
            let header = match target.header.as_deref() {
                Some("raw") => String::new(),
                _ => format!("<{priority}>{stamp} {tag}[{}]: ", std::process::id()),
            };
            let datagram = format!("{header}{line}\n");
            match target.place.as_str() {
                "stdout" => {
                    let _ = std::io::stdout().write_all(datagram.as_bytes());
                    continue;
                }
                "stderr" => {
                    let _ = std::io::stderr().write_all(datagram.as_bytes());
                    continue;
                }
                _ => {}
            }
            let sent = match target.place.parse::<SocketAddr>() {
                Ok(address) => {
                    let socket = if address.is_ipv4() { &self.ipv4 } else { &self.ipv6 };
                    socket.as_ref().map(|s| s.send_to(datagram.as_bytes(), address))
                }
                // Its server may begin anew at any time.
                Err(_) => UnixDatagram::unbound().ok().map(|socket| {
                    socket.set_nonblocking(true)?;
                    socket.send_to(datagram.as_bytes(), &target.place)
                }),
            };
            if let Some(Err(error)) = sent {
                tracing::debug!(%error, target.place, "a line of the log is lost");
            }
        }
    }
}

impl Counted {
    /// The end of the line about a check; none where it changed nothing.
    fn probed(&mut self, report: &Report, seen: &ServerTurn<'_>, steps: &[String]) -> Option<String> {
        let most = seen.rise + seen.fall - 1;
        let before = self.health;
        self.health = match report.passed {
            true if before + 1 >= seen.rise => most,
            true => before + 1,
            false if before > seen.rise => before - 1,
            false => 0,
        };
        let (status, _) = check_status(report.outcome.as_str(), report.layer.number());
        let changed = self.status.replace(status) != Some(status);
        if self.health == before && !changed {
            return None;
        }
        let (at, of, word) = match self.health >= seen.rise {
            true => (self.health - seen.rise + 1, seen.fall, "UP"),
            false => (self.health, seen.rise, "DOWN"),
        };
        Some(format!("{}, status: {at}/{of} {word}.", reason(report, seen.probe, steps)))
    }
}

/// `, reason: …` of a check. `steps` are those of a conversation, in words.
fn reason(report: &Report, probe: &Probe, steps: &[String]) -> String {
    let outcome = match (probe, report.outcome) {
        // An error of PostgreSQL is an answer that makes no sense to HAProxy, and noise a wrong one.
        (Probe::PostgreSql { .. }, Outcome::Refused) => Outcome::Invalid,
        (Probe::PostgreSql { .. }, Outcome::Invalid) => Outcome::Refused,
        (_, outcome) => outcome,
    };
    // A server that ends the connection at the greeting of TLS has answered it, with nothing.
    let resets =
        *probe == Probe::Tls && outcome == Outcome::Unreachable && report.said.contains("reset by peer");
    let (outcome, layer) = match resets {
        true => (Outcome::Invalid, Some(6)),
        false => (outcome, report.layer.number()),
    };
    let (short, long) = check_status(outcome.as_str(), layer);
    let mut out = format!(", reason: {long}");
    if let Some(code) = report.code.or(if short == "L7STS" { Some(0) } else { None }) {
        let _ = write!(out, ", code: {code}");
    }
    let said = report.said.as_str();
    let step = report.step.and_then(|step| steps.get(step));
    let info = match (probe, report.outcome) {
        (_, Outcome::Timeout | Outcome::Unreachable) if step.is_some() => {
            format!("{said} at {}", step.map_or("", String::as_str))
        }
        _ if resets => "TCPCHK got an empty response at step 2".into(),
        (Probe::Http(_), Outcome::Passed) => String::new(),
        (Probe::Ldap, Outcome::Passed) => "Success".into(),
        (Probe::Ldap, Outcome::Refused) => "See RFC: http://tools.ietf.org/html/rfc4511#section-4.1.9".into(),
        (Probe::Ldap, Outcome::Invalid) => "Not LDAPv3 protocol".into(),
        (Probe::PostgreSql { .. }, Outcome::Invalid) => "PostgreSQL unknown error".into(),
        (Probe::Tls, Outcome::Invalid)
            if ["eof", "(os error 104)"].iter().any(|e| report.detail.ends_with(e)) =>
        {
            "TCPCHK got an empty response at step 2".into()
        }
        (Probe::PostgreSql { .. }, Outcome::Passed) => "PostgreSQL server is ok".into(),
        (Probe::Steps(_), Outcome::Passed) if said == "+PONG" => "Redis server is ok".into(),
        (_, Outcome::Unreachable) if said.contains("unreachable") => format!("General socket error ({said})"),
        (_, Outcome::Invalid) if said.is_empty() => report.detail.clone(),
        _ => said.to_owned(),
    };
    if !info.is_empty() {
        let _ = write!(out, ", info: \"{info}\"");
    }
    let _ = write!(out, ", check duration: {}ms", report.took.as_millis());
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use evenkeel_health::Layer;

    use super::*;

    #[test]
    fn checks_are_counted_as_haproxy_does() {
        let mut counted = Counted { health: 2, status: None, admin: AdminState::Online };
        let mut probed = |passed: bool| {
            let outcome = if passed { Outcome::Passed } else { Outcome::Refused };
            let report = Report {
                id: 1,
                passed,
                outcome,
                layer: Layer::Service,
                code: Some(if passed { 200 } else { 500 }),
                said: "word".into(),
                step: None,
                agent: None,
                agent_only: false,
                detail: "HTTP".into(),
                took: Duration::from_millis(3),
            };
            let seen = ServerTurn {
                pool: "p",
                server: "s",
                turn: Turn::Probed,
                report: Some(&report),
                probe: &Probe::Tcp,
                rise: 2,
                fall: 3,
                active: 1,
                backup: 0,
                connections: 0,
            };
            counted.probed(&report, &seen, &[])
        };
        let line = |status: &str, code: u16, state: &str| {
            Some(format!(
                ", reason: Layer7 {status}, code: {code}, info: \"word\", check duration: 3ms, status: {state}."
            ))
        };
        assert_eq!(probed(true), line("check passed", 200, "3/3 UP"));
        assert_eq!(probed(true), None);
        assert_eq!(probed(false), line("wrong status", 500, "2/3 UP"));
        assert_eq!(probed(false), line("wrong status", 500, "1/3 UP"));
        assert_eq!(probed(false), line("wrong status", 500, "0/2 DOWN"));
        assert_eq!(probed(false), None);
        assert_eq!(probed(true), line("check passed", 200, "1/2 DOWN"));
        assert_eq!(probed(true), line("check passed", 200, "3/3 UP"));
    }
}
