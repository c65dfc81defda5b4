//! The objects of EVENKEEL-MIB, made of the shapes of the API. Each table here is one of the MIB, column by
//! column; a test holds the two together.

use std::collections::HashSet;

use evenkeel_agentx::{Value, View, mib};
use evenkeel_api as api;

const NODE: u32 = 1;
const PAIR: u32 = 2;
const SERVICES: u32 = 3;
const SERVERS: u32 = 4;
const CERTIFICATES: u32 = 5;

/// Words of the API, in the order of their numbers in the MIB, from 1 on.
const ROLES: &[&str] = &["active", "passive", "joining"];
const SERVICE_STATES: &[&str] = &["up", "degraded", "down", "halted"];
const SERVER_STATES: &[&str] = &["up", "down"];
const ADMIN_STATES: &[&str] = &["online", "draining", "halted"];
const CONFIGURATIONS: &[&str] = &["same", "this node is ahead", "the peer is ahead", "differs"];

/// 0, `unknown` in the MIB, where the word is none of them.
fn word(words: &[&str], word: &str) -> Value {
    Value::Integer(mib::number_of(words, word).unwrap_or(0).cast_signed())
}

type Column<T> = (&'static str, fn(&T) -> Value);

const NODE_OBJECTS: &[Column<api::Status>] = &[
    ("evNodeName", |s| Value::text(&s.node.name)),
    ("evNodeVersion", |s| Value::text(&s.version)),
    ("evNodeUptime", |s| Value::TimeTicks((s.uptime_seconds.wrapping_mul(100) & 0xffff_ffff) as u32)),
    ("evNodeRole", |s| word(ROLES, &s.node.role)),
    ("evNodeRevision", |s| Value::gauge(s.revision)),
    ("evNodeConnections", |s| Value::gauge(s.connections)),
    ("evNodeServices", |s| Value::gauge(s.virtual_services.len() as u64)),
    ("evNodeServicesDown", |s| {
        Value::gauge(s.virtual_services.iter().filter(|v| v.state == "down").count() as u64)
    }),
    ("evNodeServersDown", |s| {
        let servers = s.virtual_services.iter().flat_map(|v| &v.real_servers);
        Value::gauge(servers.filter(|r| r.state == "down").count() as u64)
    }),
    ("evNodeStorageTrouble", |s| Value::text(s.storage.as_deref().unwrap_or(""))),
];

fn peer<'p>(pair: &'p api::Pair, of: impl Fn(&'p api::PairPeer) -> Option<&'p String>) -> &'p str {
    pair.peer.as_ref().and_then(of).map_or("", String::as_str)
}

const PAIR_OBJECTS: &[Column<api::Pair>] = &[
    ("evPairPeerName", |p| Value::text(peer(p, |peer| peer.name.as_ref()))),
    ("evPairPeerAddress", |p| Value::text(peer(p, |peer| Some(&peer.address)))),
    ("evPairPeerHeard", |p| Value::truth(p.peer.as_ref().is_some_and(|peer| peer.heard))),
    ("evPairPeerRole", |p| word(ROLES, peer(p, |peer| peer.role.as_ref()))),
    ("evPairPeerVersion", |p| {
        Value::text(p.link.as_ref().and_then(|l| l.peer_version.as_deref()).unwrap_or(""))
    }),
    ("evPairSplitBrain", |p| Value::truth(p.split_brain)),
    ("evPairTrouble", |p| Value::gauge(p.trouble.into())),
    ("evPairPriority", |p| Value::gauge(p.priority.into())),
    ("evPairHeld", |p| Value::truth(p.held)),
    ("evPairReason", |p| Value::text(&p.why)),
    ("evPairLinkUp", |p| Value::truth(p.link.as_ref().is_some_and(|l| l.connected))),
    ("evPairConfiguration", |p| word(CONFIGURATIONS, p.link.as_ref().map_or("", |l| &l.configuration))),
];

fn up(service: &api::Service) -> u64 {
    service.real_servers.iter().filter(|s| s.state == "up").count() as u64
}

const SERVICE_COLUMNS: &[Column<api::Service>] = &[
    ("evServiceName", |s| Value::text(&s.name)),
    ("evServiceMode", |s| Value::text(&s.mode)),
    ("evServiceVips", |s| Value::text(&s.vip.join(", "))),
    ("evServicePool", |s| Value::text(&s.pool)),
    ("evServiceState", |s| word(SERVICE_STATES, &s.state)),
    ("evServiceServers", |s| Value::gauge(s.real_servers.len() as u64)),
    ("evServiceServersUp", |s| Value::gauge(up(s))),
    ("evServiceCurrentConnections", |s| Value::gauge(s.current_connections)),
    ("evServiceConnections", |s| Value::Counter64(s.total_connections)),
    ("evServiceRequests", |s| Value::Counter64(s.requests)),
    ("evServiceBadRequests", |s| Value::Counter64(s.bad_requests)),
    ("evServiceRefused", |s| Value::Counter64(s.refused)),
    ("evServiceBytesIn", |s| Value::Counter64(s.bytes_in)),
    ("evServiceBytesOut", |s| Value::Counter64(s.bytes_out)),
    ("evServiceQueued", |s| Value::gauge(s.queued)),
    ("evServiceAnswers1xx", |s| Value::Counter64(s.answers[0])),
    ("evServiceAnswers2xx", |s| Value::Counter64(s.answers[1])),
    ("evServiceAnswers3xx", |s| Value::Counter64(s.answers[2])),
    ("evServiceAnswers4xx", |s| Value::Counter64(s.answers[3])),
    ("evServiceAnswers5xx", |s| Value::Counter64(s.answers[4])),
];

/// After the name of whose it is: a service's, or a pool's that only routes lead to.
const SERVER_COLUMNS: &[Column<api::RealServer>] = &[
    ("evServerName", |s| Value::text(&s.name)),
    ("evServerAddress", |s| Value::text(&s.address)),
    ("evServerState", |s| word(SERVER_STATES, &s.state)),
    ("evServerAdminState", |s| word(ADMIN_STATES, &s.admin_state)),
    ("evServerWeight", |s| Value::gauge(s.weight.into())),
    ("evServerBackup", |s| Value::truth(s.backup)),
    ("evServerCheckDetail", |s| Value::text(&s.check.detail)),
    ("evServerSince", |s| date_and_time(s.check.since_ms.cast_signed())),
    ("evServerCurrentConnections", |s| Value::gauge(s.current_connections)),
    ("evServerConnections", |s| Value::Counter64(s.total_connections)),
    ("evServerBytesIn", |s| Value::Counter64(s.bytes_in)),
    ("evServerBytesOut", |s| Value::Counter64(s.bytes_out)),
    ("evServerConnectErrors", |s| Value::Counter64(s.connect_errors)),
    ("evServerResponseErrors", |s| Value::Counter64(s.response_errors)),
    ("evServerAnswers5xx", |s| Value::Counter64(s.answers[4])),
];

const CERTIFICATE_COLUMNS: &[Column<api::Certificate>] = &[
    ("evCertificateFile", |c| Value::text(&c.file)),
    ("evCertificateNames", |c| Value::text(&c.names.join(", "))),
    ("evCertificateIssuer", |c| Value::text(&c.issuer)),
    ("evCertificateNotAfter", |c| date_and_time(c.not_after_ms)),
    ("evCertificateDaysLeft", |c| {
        let days = c.days_left.clamp(i32::MIN.into(), i32::MAX.into());
        Value::Integer(i32::try_from(days).unwrap_or(0))
    }),
    ("evCertificateUsedBy", |c| Value::text(&c.used_by.join(", "))),
    ("evCertificateManaged", |c| Value::truth(c.managed.is_some())),
    ("evCertificateTrouble", |c| Value::text(c.trouble.as_deref().unwrap_or(""))),
];

/// SNMPv2-TC's DateAndTime, in UTC.
fn date_and_time(ms: i64) -> Value {
    let Ok(at) = jiff::Timestamp::from_millisecond(ms) else { return Value::Octets(vec![0; 8]) };
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    let year = at.year().clamp(0, 9999).cast_unsigned().to_be_bytes();
    let byte = |n: i8| n.clamp(0, i8::MAX).cast_unsigned();
    let (month, day, hour) = (byte(at.month()), byte(at.day()), byte(at.hour()));
    let tenth = (at.millisecond() / 100).clamp(0, 9) as u8;
    let (minute, second) = (byte(at.minute()), byte(at.second()));
    Value::Octets(vec![year[0], year[1], month, day, hour, minute, second, tenth, b'+', 0, 0])
}

/// Numbers of rows, made of names: the same on both nodes of a pair and after every start.
#[derive(Default)]
struct Rows(HashSet<u32>);

impl Rows {
    fn number(&mut self, name: &str) -> u32 {
        // FNV-1a, within what Integer32 holds.
        let hash = name
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let mut number = (hash & 0x7fff_ffff).max(1);
        while !self.0.insert(number) {
            number = (number % 0x7fff_ffff) + 1;
        }
        number
    }
}

/// The first column that can be read: the two before it are for indices.
const FIRST: u32 = 3;

fn row<T>(view: &mut View, group: u32, first: u32, columns: &[Column<T>], index: &[u32], of: &T) {
    for (at, (_, value)) in columns.iter().enumerate() {
        // The entry of a table is arc 1.
        let place = [&[1, first + at as u32], index].concat();
        view.insert(mib::object(group, &place), value(of));
    }
}

fn scalars<T>(view: &mut View, group: u32, first: u32, objects: &[Column<T>], of: &T) {
    for (at, (_, value)) in objects.iter().enumerate() {
        view.insert(mib::object(group, &[first + at as u32, 0]), value(of));
    }
}

/// Everything that SNMP sees.
pub fn view(status: &api::Status, pair: Option<&api::Pair>, certificates: &[api::Certificate]) -> View {
    let mut view = View::default();
    scalars(&mut view, NODE, 1, NODE_OBJECTS, status);
    view.insert(mib::object(PAIR, &[1, 0]), Value::truth(pair.is_some()));
    if let Some(pair) = pair {
        scalars(&mut view, PAIR, 2, PAIR_OBJECTS, pair);
    }
    let mut owners = Rows::default();
    let mut owned = Vec::new();
    for service in &status.virtual_services {
        let number = owners.number(&service.name);
        row(&mut view, SERVICES, FIRST, SERVICE_COLUMNS, &[number], service);
        owned.push((number, service.name.as_str(), &service.real_servers));
    }
    for pool in &status.pools {
        owned.push((owners.number(&format!("pool {}", pool.name)), pool.name.as_str(), &pool.real_servers));
    }
    for (number, owner, servers) in owned {
        let mut rows = Rows::default();
        for server in servers {
            let index = [number, rows.number(&server.name)];
            view.insert(mib::object(SERVERS, &[1, FIRST, index[0], index[1]]), Value::text(owner));
            row(&mut view, SERVERS, FIRST + 1, SERVER_COLUMNS, &index, server);
        }
    }
    let mut rows = Rows::default();
    for certificate in certificates {
        let index = [rows.number(&certificate.file)];
        row(&mut view, CERTIFICATES, FIRST, CERTIFICATE_COLUMNS, &index, certificate);
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: &str = include_str!("../../../../packaging/snmp/EVENKEEL-MIB.txt");

    /// Where the MIB has an object: `evNode 3`.
    fn place(name: &str) -> Option<String> {
        let from = MIB.find(&format!("\n{name} "))?;
        let rest = MIB[from..].split_once("::=")?.1;
        let place = rest.split_once('{')?.1.split_once('}')?.0;
        Some(place.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_mib_has_every_object_where_it_is() {
        fn names<T>(columns: &[Column<T>]) -> Vec<&'static str> {
            columns.iter().map(|(name, _)| *name).collect()
        }
        for (parent, first, objects) in [
            ("evNode", 1, names(NODE_OBJECTS)),
            ("evPair", 2, names(PAIR_OBJECTS)),
            ("evServiceEntry", FIRST, names(SERVICE_COLUMNS)),
            ("evServerEntry", 1 + FIRST, names(SERVER_COLUMNS)),
            ("evCertificateEntry", FIRST, names(CERTIFICATE_COLUMNS)),
        ] {
            for (at, name) in objects.iter().enumerate() {
                let expect = format!("{parent} {}", at as u32 + first);
                assert_eq!(place(name), Some(expect), "{name}");
            }
        }
        assert_eq!(place("evServerOwner"), Some(format!("evServerEntry {FIRST}")));
        for (at, kind) in mib::KINDS.iter().enumerate() {
            let name: String = kind.split('-').map(|w| w[..1].to_uppercase() + &w[1..]).collect();
            let expect = format!("evNotifications {}", at + 1);
            assert_eq!(place(&format!("ev{name}")), Some(expect), "{kind}");
        }
    }

    #[test]
    fn rows_have_numbers_of_their_own() {
        let mut rows = Rows::default();
        let first = rows.number("web");
        assert_ne!(first, rows.number("web"), "names that meet stay apart");
        assert_eq!(first, Rows::default().number("web"), "the same after every start");
        let numbers: HashSet<u32> = (0..1000).map(|n| rows.number(&format!("s{n}"))).collect();
        assert!(numbers.len() == 1000 && numbers.iter().all(|n| (1..=0x7fff_ffff).contains(n)));
    }

    #[test]
    fn times_are_those_of_the_text_convention() {
        let expect = vec![0x07, 0xe7, 11, 14, 22, 13, 20, 1, b'+', 0, 0];
        assert_eq!(date_and_time(1_700_000_000_123), Value::Octets(expect));
        assert_eq!(date_and_time(i64::MAX), Value::Octets(vec![0; 8]));
    }
}
