//! What must cost the same however large a configuration is: pools of 10 and of 10,000 real servers,
//! traffic to one and over 10,000 services. The small and the large take turns in each round, in one
//! process; what is told of the large one is what a request costs there beside the small one.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use crate::cases::{CaseResult, Plan, Series, Unit};
use crate::peers::{self, Setup};

/// One of each kind of scheduler.
const SCHEDULERS: [&str; 5] = ["round-robin", "least-connections", "source-hash", "random", "first"];
const SIZES: [usize; 2] = [10, 10_000];
/// The first port; those of a scheduler follow each other.
const PORT: u16 = 18_120;
const ORIGIN_PORT: u16 = 19_001;
const SERVICES: usize = 10_000;

/// Addresses of loopback that the origin answers at.
fn address(number: usize) -> String {
    format!("127.30.{}.{}:{ORIGIN_PORT}", number / 250, number % 250 + 1)
}

fn pools() -> String {
    let mut text = String::new();
    for (number, scheduler) in SCHEDULERS.iter().enumerate() {
        for (which, size) in SIZES.iter().enumerate() {
            let port = PORT as usize + 2 * number + which;
            let _ = write!(
                text,
                "[[virtual-service]]\nname = \"{scheduler}-{size}\"\nvip = [\"127.0.0.1:{port}\"]\nmode = \"http\"\nscheduler = \"{scheduler}\"\nhealth-check = {{ type = \"none\" }}\n"
            );
            for server in 0..*size {
                let address = address(server);
                let _ = write!(
                    text,
                    "[[virtual-service.real-server]]\nname = \"r{server}\"\naddress = \"{address}\"\n"
                );
            }
        }
    }
    text
}

fn services() -> String {
    let mut text = String::new();
    for service in 0..SERVICES {
        let (c, d) = (service / 250, service % 250 + 1);
        let _ = write!(
            text,
            "[[virtual-service]]\nname = \"s{service}\"\nvip = [\"127.31.{c}.{d}:18200\"]\nmode = \"http\"\nhealth-check = {{ type = \"none\" }}\n[[virtual-service.real-server]]\nname = \"r\"\naddress = \"{}\"\n",
            peers::ORIGIN
        );
    }
    text
}

/// Requests a CPU second of both, and of each pair what the second costs beside the first.
fn compared(
    plan: &Plan,
    name: String,
    names: [&str; 2],
    mut round: impl FnMut(usize) -> anyhow::Result<f64>,
) -> anyhow::Result<Vec<CaseResult>> {
    let mut figures = [Vec::new(), Vec::new()];
    // The first rounds open the connections with the servers and do not count.
    for number in 0..=plan.rounds {
        for (which, figures) in figures.iter_mut().enumerate() {
            let figure = round(which)?;
            if number > 0 {
                figures.push(figure);
            }
        }
    }
    let bars = ["", "0.91 of the row above"];
    let row = |(which, figures): (usize, Vec<f64>)| CaseResult {
        name: format!("{name}, {}", names[which]),
        unit: Unit::RequestsPerCpuSecond,
        bar: bars[which],
        series: vec![Series { peer: "evenkeel".into(), figures, errors: 0 }],
    };
    Ok(figures.into_iter().enumerate().map(row).collect())
}

/// Pools of both sizes by each kind of scheduler.
pub fn of_pools(plan: &Plan, folder: &Path) -> anyhow::Result<Vec<CaseResult>> {
    let setup = Setup { folder: folder.to_path_buf(), logging: false };
    let last = PORT + 2 * SCHEDULERS.len() as u16 - 1;
    let peer = setup.evenkeel_with("pools", &pools(), SocketAddr::from(([127, 0, 0, 1], last)))?;
    let mut results = Vec::new();
    for (number, scheduler) in SCHEDULERS.iter().enumerate() {
        let name = format!("pools: {scheduler}, kept alive, 64 connections");
        results.extend(compared(plan, name, ["10 real servers", "10,000 real servers"], |which| {
            let at = SocketAddr::from(([127, 0, 0, 1], PORT + 2 * number as u16 + which as u16));
            let before = peer.cpu();
            let [requests, _, errors, _] = peers::load("keep", at, "/s", 64, plan.seconds, 0.0)?;
            anyhow::ensure!(errors == 0, "{errors} requests to {at} failed");
            Ok(requests as f64 / (peer.cpu() - before).as_secs_f64().max(1e-9))
        })?);
    }
    Ok(results)
}

/// 512 connections to one service, and each to another one.
pub fn of_services(plan: &Plan, folder: &Path) -> anyhow::Result<Vec<CaseResult>> {
    let setup = Setup { folder: folder.to_path_buf(), logging: false };
    let last = SocketAddr::from(([127, 31, 39, 250], 18_200));
    let peer = setup.evenkeel_with("services", &services(), last)?;
    let at = SocketAddr::from(([127, 31, 0, 1], 18_200));
    let name = "services: 10,000, kept alive, 512 connections".to_owned();
    compared(plan, name, ["to one of them", "each to another"], |which| {
        let before = peer.cpu();
        let kind = ["keep", "spread"][which];
        let [requests, _, errors, _] = peers::load(kind, at, "/s", 512, plan.seconds, 0.0)?;
        anyhow::ensure!(errors == 0, "{errors} requests failed");
        Ok(requests as f64 / (peer.cpu() - before).as_secs_f64().max(1e-9))
    })
}
