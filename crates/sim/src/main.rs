//! Plays many seeds: `evenkeel-sim [COUNT] [FIRST]`, or one with its story: `evenkeel-sim --story SEED`
//! (who is active), `evenkeel-sim --edits SEED` (the configuration), `evenkeel-sim --machine SEED` (the guard and what
//! the kernel keeps).

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use evenkeel_sim::truth::world::{Broken, broken as broken_world, play_traced};
use evenkeel_sim::truth::{edits, machine};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|a| a.parse::<u64>().ok());
    let seed = number(1).unwrap_or(0);
    match arguments.first().map(String::as_str) {
        Some("--story") => return told(play_traced(seed, arguments.get(2).is_none(), true).map(drop)),
        Some("--edits") => return told(edits::play(seed, true)),
        Some("--machine") => return told(machine::play(seed, true)),
        _ => {}
    }
    let (count, first) = (number(0).unwrap_or(100_000), number(1).unwrap_or(0));
    let (next, broken) = (AtomicU64::new(first), AtomicU64::new(0));
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    if let Some(why) =
                        broken_world(seed).or_else(|| edits::broken(seed)).or_else(|| machine::broken(seed))
                    {
                        println!("seed {seed}: {why}");
                        broken.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        let mut told = Duration::ZERO;
        while next.load(Relaxed) < first + count {
            std::thread::sleep(Duration::from_millis(100));
            if start.elapsed() > told + Duration::from_secs(10) {
                told = start.elapsed();
                eprintln!("{} of {count} seeds after {} s", next.load(Relaxed) - first, told.as_secs());
            }
        }
    });
    let broken = broken.load(Relaxed);
    println!("{count} seeds from {first}: {broken} broken, {:.1} s", start.elapsed().as_secs_f64());
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What one seed has come to.
fn told(played: Result<(), Broken>) -> ExitCode {
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(broken) => {
            println!("seed {}, {} ms: {}", broken.seed, broken.at, broken.what);
            ExitCode::FAILURE
        }
    }
}
