//! Measures Evenkeel beside Debian's HAProxy and nginx, interleaved in one run.
//!
//! The proxy has core 0 for itself, load generator and origin share core 1. What is compared is
//! requests a second of CPU time of the proxy's process, as the kernel counts it; each figure is
//! the median of several short rounds, in which the programs take turns.

mod cases;
mod growth;
mod live;
mod load;
mod memory;
mod origin;
mod packets;
mod pair;
mod peers;
mod poll;
mod report;
mod secure;

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
    /// Only cases whose name holds this; may be given more than once
    #[arg(long)]
    only: Vec<String>,
    /// Another program side by side: evenkeel-NAME=PROGRAM or haproxy-NAME=PROGRAM; may be given more
    /// than once
    #[arg(long, value_name = "NAME=PROGRAM")]
    beside: Vec<peers::Beside>,
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
    Packets {
        /// Only the live frames
        #[arg(long)]
        live: bool,
    },
    /// A pair beside keepalived and HAProxy; needs root
    Pair {
        /// How long changes of role are looked for while both cores are busy
        #[arg(long, default_value_t = 5)]
        minutes: u64,
    },
    /// Memory that clients make the programs hold
    Memory,
    /// Sends UDP datagrams; prints how many
    #[command(hide = true)]
    Send { address: SocketAddr, flows: usize, seconds: f64 },
    /// One round of load; prints what it counted
    #[command(hide = true)]
    Load {
        kind: load::LoadKind,
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
        Some(Role::Packets { live: true }) => {
            println!("{}", live_part()?);
            Ok(())
        }
        Some(Role::Packets { .. }) => {
            let text = packets_page(arguments.rounds)?;
            println!("{text}");
            Ok(std::fs::write("docs/benchmarks-layer4.md", text)?)
        }
        Some(Role::Pair { minutes }) => {
            let whole = arguments.only.is_empty();
            let text = pair::run(arguments.rounds * 2, arguments.only.first().map(String::as_str), minutes)?;
            println!("{text}");
            if whole {
                std::fs::write("docs/benchmarks-pair.md", text)?;
            }
            Ok(())
        }
        Some(Role::Memory) => {
            let folder = std::env::temp_dir().join(format!("evenkeel-bench-memory-{}", std::process::id()));
            std::fs::create_dir_all(&folder)?;
            let table = memory::run(&folder, arguments.only.first().map(String::as_str));
            std::fs::remove_dir_all(&folder)?;
            let table = table?;
            println!("{table}");
            if arguments.only.is_empty() {
                memory::write(&arguments.output, &table)?;
            }
            Ok(())
        }
        Some(Role::Send { address, flows, seconds }) => {
            println!("{}", live::send(address, flows, seconds)?);
            Ok(())
        }
        Some(Role::Load { kind, address, path, connections, seconds, rate }) => {
            let counted = load::run(kind, address, &path, connections, seconds, rate)?;
            println!("{} {} {} {}", counted.requests, counted.bytes, counted.errors, counted.p99_us);
            Ok(())
        }
        None => {
            let Arguments { rounds, seconds, only, beside, .. } = arguments;
            let plan = cases::Plan { rounds, seconds, only, beside };
            let measured = cases::run(&plan)?;
            let text = report::render(&plan, &measured.results)?;
            println!("{text}");
            if plan.only.is_empty() {
                let before = std::fs::read_to_string(&arguments.output).unwrap_or_default();
                std::fs::write(&arguments.output, text)?;
                if let Some(at) = before.find(memory::HEADING) {
                    memory::write(&arguments.output, &before[at..])?;
                }
                println!("written to {}", arguments.output.display());
            }
            anyhow::ensure!(measured.failed.is_empty(), "not measured: {}", measured.failed.join(", "));
            Ok(())
        }
    }
}

/// Layer 4's page: test runs and live frames.
fn packets_page(rounds: usize) -> anyhow::Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut text = format!(
        "# Layer 4: nanoseconds a packet\n\nWritten by `make bench-packets` on Linux {}, one core; JIT on. Each figure is of single frames through BPF_PROG_TEST_RUN, in windows of 1,000 to 10,000 in which the cases take turns. The floor (a program that sends the frame back at once) is taken off in the last two columns. \"Look-ups alone\" is a program that does what a load balancer on the kernel's hash and LRU maps cannot do without (a VIP in a hash, a flow in an LRU, a server in an array, two counters, the clock), and nothing else: no header is changed.\n\n",
        kernel.trim()
    );
    text += &packets::render(&packets::run(rounds.max(15))?);
    let (all, change) = packets::scale()?;
    text += &format!(
        "\n10,000 services of five real servers each: told to the packet path in {all:.2} s; one server's state changed in {:.2} ms.\n",
        change * 1000.0
    );
    text += &live_part()?;
    Ok(text)
}

fn live_part() -> anyhow::Result<String> {
    let mut text = String::new();
    text += "\nLive frames as a driver hands them on (BPF_F_TEST_XDP_LIVE_FRAMES), through virtual pairs, NAT to another network, beside nftables (DNAT and masquerade; the kernel makes its buffers of them as for a network card). Generator and load balancer share one core; the floor is a load balancer that drops at once. Making a frame costs much more than forwarding it: figures below 100 ns are within what rounds differ by.\n";
    for flows in [256, 16_000] {
        text += &format!("\n{}", live::render(&live::run_as_driver(9, flows)?, flows as usize));
    }
    text += "\nThe same from sockets: UDP datagrams of one core through virtual pairs and a bridge. They begin as the kernel's buffers, which its own NAT changes in place and XDP has to copy. Sender, switch and load balancer share that core; the floor is the same way to a load balancer that drops at once.\n";
    for flows in [256, 16_000] {
        text += &format!("\n{}", live::render(&live::run(3, flows)?, flows));
    }
    Ok(text)
}
