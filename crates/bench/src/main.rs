//! Measures Evenkeel beside Debian's HAProxy and nginx, interleaved in one run.
//!
//! The proxy has core 0 for itself, load generator and origin share core 1. What is compared is
//! requests a second of CPU time of the proxy's process, as the kernel counts it; each figure is
//! the median of several short rounds, in which the programs take turns.

mod cases;
mod load;
mod origin;
mod packets;
mod peers;
mod poll;
mod report;

use std::net::SocketAddr;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Side-by-side measurements against HAProxy and nginx")]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Rounds of each case
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds a round takes
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only cases whose name holds this
    #[arg(long)]
    only: Option<String>,
    /// Where the table is written, beside standard output
    #[arg(long, default_value = "docs/benchmarks.md")]
    output: std::path::PathBuf,
}

#[derive(Subcommand)]
enum Role {
    /// The cheap origin: answers every request with canned bytes
    #[command(hide = true)]
    Origin { address: SocketAddr },
    /// Layer 4: nanoseconds a packet; needs root
    Packets,
    /// One round of load; prints what it counted
    #[command(hide = true)]
    Load {
        kind: load::Kind,
        address: SocketAddr,
        path: String,
        connections: usize,
        seconds: f64,
        #[arg(default_value_t = 0.0)]
        rate: f64,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Origin { address }) => origin::serve(address),
        Some(Role::Packets) => {
            println!("{}", packets::render(&packets::run(arguments.rounds.max(15))?));
            Ok(())
        }
        Some(Role::Load { kind, address, path, connections, seconds, rate }) => {
            let counted = load::run(kind, address, &path, connections, seconds, rate)?;
            println!("{} {} {} {}", counted.requests, counted.bytes, counted.errors, counted.p99_us);
            Ok(())
        }
        None => {
            let plan =
                cases::Plan { rounds: arguments.rounds, seconds: arguments.seconds, only: arguments.only };
            let results = cases::run(&plan)?;
            let text = report::render(&plan, &results)?;
            println!("{text}");
            if plan.only.is_none() {
                std::fs::write(&arguments.output, text)?;
                println!("written to {}", arguments.output.display());
            }
            Ok(())
        }
    }
}
