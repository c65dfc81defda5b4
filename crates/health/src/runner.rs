//! Probes on their own thread: each target has a task, started at its own moment.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evenkeel_model::{HealthCheck, Probe};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{sleep, timeout};

use crate::http;

/// A server to probe. `id` is the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub id: u32,
    pub address: SocketAddr,
    pub check: HealthCheck,
}

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub id: u32,
    pub passed: bool,
    /// For people: `connected in 1 ms`, `HTTP 500, expected 200-399`.
    pub detail: String,
    pub took: Duration,
}

/// The handle of the probing thread; probing ends when it is dropped.
pub struct Checker {
    orders: UnboundedSender<Order>,
}

enum Order {
    Targets(Vec<Target>),
    Now(u32),
}

/// While a server fails, probes come at least this often, so that both verdicts come soon.
const FAST_INTERVAL: Duration = Duration::from_secs(1);
/// Starts are spread over at most this long.
const SPREAD: Duration = Duration::from_millis(1_000);

impl Checker {
    /// Starts the thread. Reports go to `reports`.
    pub fn start(reports: UnboundedSender<Report>) -> std::io::Result<Checker> {
        let (orders, inbox) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("health".into())
            .spawn(move || LocalSet::new().block_on(&runtime, serve(inbox, reports)))?;
        Ok(Checker { orders })
    }

    /// Probes these targets from now on, and no others. One that was there before, unchanged,
    /// keeps its rhythm.
    pub fn set_targets(&self, targets: Vec<Target>) {
        let _ = self.orders.send(Order::Targets(targets));
    }

    /// Probes a target without waiting for its turn.
    pub fn probe_now(&self, id: u32) {
        let _ = self.orders.send(Order::Now(id));
    }
}

struct Running {
    target: Target,
    now: Rc<Notify>,
    task: JoinHandle<()>,
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
            Order::Targets(targets) => {
                let mut before = std::mem::take(&mut running);
                for target in targets.into_iter().filter(|t| t.check.probe != Probe::None) {
                    let id = target.id;
                    let kept = before.remove(&id).filter(|r| r.target == target);
                    running.insert(id, kept.unwrap_or_else(|| launch(target, &reports)));
                }
                before.into_values().for_each(|gone| gone.task.abort());
            }
        }
    }
}

fn launch(target: Target, reports: &UnboundedSender<Report>) -> Running {
    let now = Rc::new(Notify::new());
    let task = tokio::task::spawn_local(watch(target.clone(), now.clone(), reports.clone()));
    Running { target, now, task }
}

async fn watch(target: Target, now: Rc<Notify>, reports: UnboundedSender<Report>) {
    let spread = SPREAD.min(target.check.interval);
    // Multiplicative hashing spreads neighbouring numbers evenly.
    let share = f64::from(target.id.wrapping_mul(0x9e37_79b1)) / f64::from(u32::MAX);
    let mut pause = spread.mul_f64(share);
    loop {
        let asked = timeout(pause, now.notified()).await.is_ok();
        let started = Instant::now();
        let result = probe(&target).await;
        let took = started.elapsed();
        let passed = result.is_ok();
        let detail = result.unwrap_or_else(|why| why);
        if reports.send(Report { id: target.id, passed, detail, took }).is_err() {
            return;
        }
        let interval = if passed { target.check.interval } else { FAST_INTERVAL.min(target.check.interval) };
        pause = interval.saturating_sub(took);
        if asked && !passed {
            // Asked for again and again by failing traffic: not faster than this.
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// One attempt: what it found, or why it failed.
async fn probe(target: &Target) -> Result<String, String> {
    let mut address = target.address;
    if let Some(port) = target.check.port {
        address.set_port(port);
    }
    let limit = target.check.timeout;
    let started = Instant::now();
    let attempt = async {
        let stream = TcpStream::connect(address).await.map_err(|e| connect_error(&e))?;
        match &target.check.probe {
            Probe::Http(probe) => http::probe(stream, probe, address).await,
            Probe::Tcp | Probe::None => Ok("connected".to_owned()),
        }
    };
    match timeout(limit, attempt).await {
        Ok(Ok(what)) => Ok(format!("{what} in {} ms", started.elapsed().as_millis())),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!("no answer within {} ms", limit.as_millis())),
    }
}

fn connect_error(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "host unreachable".into(),
        std::io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        _ => error.to_string(),
    }
}
