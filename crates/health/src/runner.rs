//! Probes on their own thread: each target has a task, started at its own moment.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel_balance::Health;
use evenkeel_model::{AgentCheck, HealthCheck, HttpProbe, Probe, ServerTls, Step};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{sleep, timeout};

use crate::agent::{self, AgentState};
use crate::connect::{Stream, open_again};
use crate::found::{Failure, Found, Layer, Outcome};
use crate::{datagram, http, steps};

/// A server to probe. `id` is the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub id: u32,
    pub address: SocketAddr,
    /// The first VIP and port of a service that uses the server, for scripts.
    pub vip: Option<SocketAddr>,
    /// The pool speaks TLS with it, and HTTP probes do too unless told otherwise.
    pub tls: Option<ServerTls>,
    /// Most servers of a pool have one.
    pub check: Arc<HealthCheck>,
}

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub id: u32,
    pub passed: bool,
    pub outcome: Outcome,
    /// Where it passed or failed.
    pub layer: Layer,
    /// In the service's own protocol, such as the status of HTTP.
    pub code: Option<u16>,
    /// The server's own words.
    pub said: String,
    /// See [`Found::step`].
    pub step: Option<usize>,
    /// From an agent or a script: how much of its weight the server wants, and more.
    pub agent: Option<AgentState>,
    /// Only the agent was asked: what the probe last found still holds.
    pub agent_only: bool,
    /// For people: `connected in 1 ms`, `HTTP 500, expected 200-399`.
    pub detail: String,
    pub took: Duration,
}

/// The handle of the probing thread; probing ends when it is dropped.
pub struct Checker {
    orders: UnboundedSender<Order>,
    reports: UnboundedSender<Report>,
    targets: Vec<Arc<Target>>,
}

enum Order {
    Targets(Vec<Arc<Target>>),
    Now(u32),
    Once(Box<Target>, tokio::sync::oneshot::Sender<Report>),
}

/// Starts are spread over at most this long.
const SPREAD: Duration = Duration::from_millis(1_000);

impl Checker {
    /// Starts the thread. Reports go to `reports`.
    pub fn start(reports: UnboundedSender<Report>) -> std::io::Result<Checker> {
        let (orders, inbox) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let to = reports.clone();
        std::thread::Builder::new()
            .name("health".into())
            .spawn(move || LocalSet::new().block_on(&runtime, serve(inbox, to)))?;
        Ok(Checker { orders, reports, targets: Vec::new() })
    }

    /// Begins anew on a new thread; returns how many targets there are.
    pub fn restart(&mut self) -> std::io::Result<usize> {
        let mut anew = Checker::start(self.reports.clone())?;
        anew.follow(std::mem::take(&mut self.targets));
        *self = anew;
        Ok(self.targets.len())
    }

    /// Probes these targets from now on, and no others. One that was there before, unchanged,
    /// keeps its rhythm.
    pub fn set_targets(&mut self, targets: Vec<Target>) {
        self.follow(targets.into_iter().map(Arc::new).collect());
    }

    fn follow(&mut self, targets: Vec<Arc<Target>>) {
        self.targets.clone_from(&targets);
        let _ = self.orders.send(Order::Targets(targets));
    }

    /// Probes something once that is no target.
    pub fn attempt(&self, target: Target, reply: tokio::sync::oneshot::Sender<Report>) {
        let _ = self.orders.send(Order::Once(Box::new(target), reply));
    }

    /// Probes a target without waiting for its turn.
    pub fn probe_now(&self, id: u32) {
        let _ = self.orders.send(Order::Now(id));
    }
}

struct Running {
    target: Arc<Target>,
    now: Rc<Notify>,
    task: JoinHandle<()>,
    agent: Option<JoinHandle<()>>,
}

/// A task whose handle is only dropped goes on for ever, and what it finds counts for the server.
impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        self.agent.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(mut inbox: UnboundedReceiver<Order>, reports: UnboundedSender<Report>) {
    let mut running: HashMap<u32, Running> = HashMap::new();
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Now(id) => {
                if let Some(one) = running.get(&id) {
                    one.now.notify_one();
                }
            }
            Order::Once(target, reply) => drop(tokio::task::spawn_local(async move {
                let _ = reply.send(probe_once(&target).await);
            })),
            Order::Targets(targets) => {
                let mut before = std::mem::take(&mut running);
                let probed = |t: &Arc<Target>| t.check.probe != Probe::None || t.check.agent.is_some();
                for target in targets.into_iter().filter(probed) {
                    let id = target.id;
                    let kept = before.remove(&id).filter(|r| r.target == target);
                    running.insert(id, kept.unwrap_or_else(|| launch(target, &reports)));
                }
            }
        }
    }
}

fn launch(target: Arc<Target>, reports: &UnboundedSender<Report>) -> Running {
    let now = Rc::new(Notify::new());
    let task = tokio::task::spawn_local(watch(target.clone(), now.clone(), reports.clone()));
    let agent = target.check.agent.clone();
    let agent =
        agent.map(|check| tokio::task::spawn_local(poll_agent(target.clone(), check, reports.clone())));
    Running { target, now, task, agent }
}

async fn watch(target: Arc<Target>, now: Rc<Notify>, reports: UnboundedSender<Report>) {
    if target.check.probe == Probe::None {
        return;
    }
    let spread = SPREAD.min(target.check.interval);
    // Multiplicative hashing spreads neighbouring numbers evenly.
    let share = f64::from(target.id.wrapping_mul(0x9e37_79b1)) / f64::from(u32::MAX);
    let mut pause = spread.mul_f64(share);
    let mut health = Health::resume(target.check.rise, target.check.fall, true);
    loop {
        let asked = timeout(pause, now.notified()).await.is_ok();
        let report = probe_once(&target).await;
        let (passed, took) = (report.passed, report.took);
        let check = &target.check;
        // No verdict: the server stays what it was, and is asked again soon.
        if report.outcome != Outcome::Local && reports.send(report).is_err() {
            return;
        }
        health.on_probe(passed);
        pause = interval(passed, &health, check).saturating_sub(took);
        if asked {
            // Asked for again and again by failing traffic: not faster than this.
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// When a server is asked again: while the check holds it for down that may be another time.
fn interval(passed: bool, health: &Health, check: &HealthCheck) -> Duration {
    match (passed, check.down_interval) {
        (true, _) => check.interval,
        (false, Some(down)) if !health.is_up() => down,
        (false, _) => check.fast_interval.min(check.interval),
    }
}

async fn probe_once(target: &Target) -> Report {
    let started = Instant::now();
    let reached = Cell::new(Layer::Connection);
    let result = probe(target, &reached).await;
    let took = started.elapsed();
    let passed = result.is_ok();
    let (outcome, found, weight) = match result {
        Ok((found, weight)) => (Outcome::Passed, found, weight),
        Err(failure) => (failure.outcome, failure.found, None),
    };
    let agent = weight.map(|weight| AgentState { weight: Some(weight), ..AgentState::default() });
    let Found { detail, code, said, step } = found;
    let layer = reached.get();
    Report { id: target.id, passed, outcome, layer, code, said, step, agent, agent_only: false, detail, took }
}

/// An agent's connection stays open for so long behind what it has said.
const HEARD: Duration = Duration::from_millis(5);

/// Asks the agent again and again; what it says is reported when it changes.
async fn poll_agent(target: Arc<Target>, check: AgentCheck, reports: UnboundedSender<Report>) {
    let mut last: Option<AgentState> = None;
    loop {
        let started = Instant::now();
        // An agent that cannot be asked says nothing: the probes alone decide.
        if let Ok(Ok((state, connection))) =
            timeout(target.check.timeout, agent::ask(&check, target.address)).await
            && last.as_ref() != Some(&state)
        {
            last = Some(state.clone());
            let (passed, detail) = (state.up != Some(false), format!("agent: {}", state.said));
            let took = started.elapsed();
            let report = Report {
                id: target.id,
                passed,
                outcome: if passed { Outcome::Passed } else { Outcome::Refused },
                layer: Layer::Service,
                code: None,
                said: state.said.clone(),
                step: None,
                agent: Some(state),
                agent_only: true,
                detail,
                took,
            };
            if reports.send(report).is_err() {
                return;
            }
            // Who hears it works on another thread, and has it by then.
            sleep(HEARD).await;
            drop(connection);
        }
        sleep(check.interval.saturating_sub(started.elapsed())).await;
    }
}

/// One attempt: what it found, with the weight that a script gave, or why it failed.
async fn probe(target: &Target, reached: &Cell<Layer>) -> Result<(Found, Option<u8>), Failure> {
    let check = &target.check;
    let mut address = target.address;
    if let Some(port) = check.port {
        address.set_port(port);
    }
    if let Some(ip) = check.address {
        address.set_ip(ip);
    }
    let started = Instant::now();
    match timeout(check.timeout, attempt(target, address, reached)).await {
        Ok(Ok((mut found, weight))) => {
            found.detail = format!("{} in {} ms", found.detail, started.elapsed().as_millis());
            Ok((found, weight))
        }
        Ok(Err(failure)) => Err(failure),
        Err(_) => {
            Err(Failure::new(Outcome::Timeout, format!("no answer within {} ms", check.timeout.as_millis())))
        }
    }
}

async fn attempt(
    target: &Target,
    address: SocketAddr,
    reached: &Cell<Layer>,
) -> Result<(Found, Option<u8>), Failure> {
    let check = &target.check;
    let asks_by_datagram = match &check.probe {
        Probe::Script(_) => Some(Layer::Script),
        Probe::Dns { .. } | Probe::Ntp | Probe::Radius { .. } | Probe::Sip { udp: true } => {
            Some(Layer::Service)
        }
        _ => None,
    };
    reached.set(asks_by_datagram.unwrap_or_default());
    let said = match &check.probe {
        Probe::Script(script) => {
            let (said, weight) = crate::script::probe(script, target.vip, address).await?;
            return Ok((said.into(), weight));
        }
        Probe::Ping => crate::ping::probe(address, target.id as u16).await,
        Probe::Dns { name } => datagram::dns(address, name).await,
        Probe::Ntp => datagram::ntp(address).await,
        Probe::Radius { user, password, secret } => {
            datagram::radius(address, user, password.expose(), secret.expose()).await
        }
        Probe::Sip { udp: true } => datagram::sip(address).await,
        _ => return Ok((converse(target, address, reached).await?, None)),
    };
    Ok((said?.into(), None))
}

/// Probes over a connection.
async fn converse(target: &Target, address: SocketAddr, reached: &Cell<Layer>) -> Result<Found, Failure> {
    let check = &target.check;
    let mut check = std::borrow::Cow::Borrowed(&**check);
    if check.tls.is_none() && !check.plain {
        check.to_mut().tls = match check.probe {
            // As the pool's own connections are made.
            Probe::Http(_) | Probe::Grpc { .. } => target.tls.clone(),
            Probe::Tls => Some(ServerTls::with_anyone()),
            _ => None,
        };
    }
    // A little before the probe is given up, so that it can say what came instead.
    let deadline = tokio::time::Instant::now() + check.timeout.mul_f64(0.95);
    let alpn: &[u8] = if matches!(check.probe, Probe::Grpc { .. }) { b"h2" } else { b"" };
    let mut stream = crate::connect::open(&check, address, alpn, reached).await.map_err(|mut failure| {
        failure.found.step = matches!(check.probe, Probe::Steps(_)).then_some(0);
        failure
    })?;
    if !matches!(check.probe, Probe::Tcp | Probe::Tls) {
        reached.set(Layer::Service);
    }
    let further = steps::Further { check: &check, address, reached };
    match &check.probe {
        Probe::Http(probe) => return requests(stream, probe, &further).await,
        Probe::Steps(taken) => {
            let at = Cell::new(0);
            let ended = steps::run(stream, taken, &further, (deadline, &at)).await;
            return ended.map_err(|mut failure| {
                failure.found.step = Some(at.get());
                failure
            });
        }
        Probe::Sip { .. } => {
            let ask = Step::Send(datagram::sip_options(address, "TCP")?.into_bytes().into());
            let taken = [ask, Step::Expect(b"SIP/2.0 200".to_vec())];
            return steps::run(stream, &taken, &further, (deadline, &Cell::new(0))).await;
        }
        _ => {}
    }
    let stream: &mut dyn Stream = &mut stream;
    match &check.probe {
        Probe::Tls => Ok("TLS handshake".into()),
        Probe::Grpc { service } => {
            let tls = check.tls.is_some();
            Ok(crate::grpc::probe(stream, service, &address.to_string(), tls).await?.into())
        }
        Probe::Mysql { user, old } => steps::mysql(stream, user.as_deref(), *old).await,
        Probe::PostgreSql { user } => steps::postgresql(stream, user).await,
        Probe::Ldap => steps::ldap(stream).await,
        Probe::Rdp => Ok(steps::rdp(stream).await?.into()),
        _ => Ok("connected".into()),
    }
}

/// The requests of a check, each over a connection of its own; the last one's finding is the check's.
async fn requests(
    mut stream: Box<dyn Stream>,
    first: &HttpProbe,
    further: &steps::Further<'_>,
) -> Result<Found, Failure> {
    let mut found = http::probe(&mut stream, first, further.address).await?;
    for (number, (connect, probe)) in first.then.iter().enumerate() {
        let told = |mut failure: Failure| {
            failure.found.detail = format!("request {}: {}", number + 2, failure.found.detail);
            failure
        };
        drop(stream);
        let opened = open_again(further.check, connect, further.address, further.reached).await;
        stream = opened.map_err(told)?;
        further.reached.set(Layer::Service);
        found = http::probe(&mut stream, probe, further.address).await.map_err(told)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check that is changed, or taken away, is not made any more.
    #[test]
    fn a_check_that_has_changed_ends() {
        use std::net::TcpListener;
        let listener = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let (old, new) = (listener(), listener());
        let target = |to: &TcpListener| Target {
            id: 1,
            address: to.local_addr().unwrap(),
            vip: None,
            tls: None,
            check: Arc::new(HealthCheck {
                probe: Probe::Tcp,
                interval: Duration::from_millis(20),
                ..HealthCheck::default()
            }),
        };
        // How many come until ten have come somewhere else.
        let come = |here: &TcpListener, until: &TcpListener| {
            let end = Instant::now() + Duration::from_secs(20);
            let (mut count, mut others) = (0, 0);
            while others < 10 && Instant::now() < end {
                count += usize::from(here.accept().is_ok());
                others += usize::from(until.accept().is_ok());
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(others, 10, "probes come");
            count
        };
        let (reports, mut found) = unbounded_channel();
        let mut checker = Checker::start(reports).unwrap();
        checker.set_targets(vec![target(&old)]);
        assert_eq!(come(&new, &old), 0);
        checker.set_targets(vec![target(&new)]);
        // The last of the old ones may be on its way.
        come(&old, &new);
        assert_eq!(come(&old, &new), 0, "the check before goes on");
        checker.set_targets(Vec::new());
        let third = listener();
        checker.set_targets(vec![target(&third)]);
        come(&new, &third);
        assert_eq!(come(&new, &third), 0, "a check that was taken away goes on");
        while found.try_recv().is_ok() {}
    }

    #[test]
    fn a_server_that_is_down_is_asked_when_the_check_says() {
        let ms = Duration::from_millis;
        let check = HealthCheck {
            interval: ms(900),
            fast_interval: ms(100),
            down_interval: Some(ms(500)),
            rise: 2,
            fall: 2,
            ..HealthCheck::default()
        };
        let mut health = Health::resume(check.rise, check.fall, true);
        let mut after = |passed: bool, check: &HealthCheck| {
            health.on_probe(passed);
            interval(passed, &health, check)
        };
        let seen = [true, false, false, false, true, false].map(|passed| after(passed, &check));
        assert_eq!(seen, [ms(900), ms(100), ms(500), ms(500), ms(900), ms(500)]);
        // Up again: one that fails is asked soon.
        let seen = [true, true, false].map(|passed| after(passed, &check));
        assert_eq!(seen, [ms(900), ms(900), ms(100)]);
        let plain = HealthCheck { down_interval: None, ..check };
        assert_eq!([false, false].map(|passed| after(passed, &plain)), [ms(100), ms(100)]);
    }
}
