//! The table, with medians, spread and the method.

use std::fmt::Write;

use crate::cases::{CaseResult, Plan, Series};

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn spread(series: &Series) -> String {
    let (low, high) = series.figures.iter().fold((f64::MAX, f64::MIN), |(l, h), f| (l.min(*f), h.max(*f)));
    let errors = if series.errors > 0 { format!(", {} errors", series.errors) } else { String::new() };
    match series.figures.len() {
        1 => format!("{:.0}{errors}", series.figures[0]),
        _ => format!("{:.0} ({low:.0}-{high:.0}){errors}", median(&series.figures)),
    }
}

/// The figures of a case in a line, for a run that does not come to its end.
pub fn brief(result: &CaseResult) -> String {
    let one = |series: &Series| format!("{} {}", series.peer, spread(series));
    result.series.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn version(program: &std::ffi::OsStr, argument: &str) -> String {
    let output = std::process::Command::new(program).arg(argument).output();
    let text = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("").to_owned()
}

pub fn render(plan: &Plan, results: &[CaseResult]) -> anyhow::Result<String> {
    let mut out = String::new();
    writeln!(out, "# Benchmarks\n")?;
    writeln!(
        out,
        "Written by `make bench`. {} rounds of {} s a case, the programs in turn within each round; medians, with",
        plan.rounds, plan.seconds
    )?;
    writeln!(
        out,
        "the lowest and highest round in brackets. Each program has one worker, pinned to core 0; load generator"
    )?;
    writeln!(
        out,
        "and origin (both of `crates/bench`) share core 1. \"CPU second\" is the proxy's own CPU time from the"
    )?;
    writeln!(
        out,
        "kernel's scheduler. A ratio above 1 means that Evenkeel does better; absolute figures mean nothing on"
    )?;
    writeln!(
        out,
        "another machine. The bar is the ratio aimed at, against the better peer or the one named.\n"
    )?;
    let mut versions = vec![version("haproxy".as_ref(), "-v"), version("nginx".as_ref(), "-v")];
    versions.extend(
        plan.beside
            .iter()
            .map(|b| format!("{}: {}", b.name, version(b.program.as_os_str(), b.version_flag()))),
    );
    writeln!(out, "{}\n", versions.join("; "))?;
    let mut columns = vec![("haproxy", "HAProxy"), ("nginx", "nginx")];
    columns.extend(plan.beside.iter().map(|b| (b.name.as_str(), b.name.as_str())));
    let shown: String = columns.iter().map(|(_, title)| format!(" {title} |")).collect();
    let against: String = columns.iter().map(|(_, title)| format!(" against {title} |")).collect();
    writeln!(out, "| case | unit | Evenkeel |{shown}{against} bar |")?;
    writeln!(out, "|{}", " --- |".repeat(4 + 2 * columns.len()))?;
    for result in results {
        let of = |name: &str| result.series.iter().find(|s| s.peer == name);
        let cell = |name: &str| of(name).map_or_else(|| "-".into(), spread);
        let ratio = |name: &str| match (of("evenkeel"), of(name)) {
            (Some(ours), Some(theirs)) => {
                let (ours, theirs) = (median(&ours.figures).max(1e-9), median(&theirs.figures).max(1e-9));
                let ratio = if result.unit.higher_is_better() { ours / theirs } else { theirs / ours };
                format!("{ratio:.2}")
            }
            _ => "-".into(),
        };
        let figures: String = columns.iter().map(|(name, _)| format!(" {} |", cell(name))).collect();
        let ratios: String = columns.iter().map(|(name, _)| format!(" {} |", ratio(name))).collect();
        let (name, unit) = (&result.name, result.unit.as_str());
        writeln!(out, "| {name} | {unit} | {} |{figures}{ratios} {} |", cell("evenkeel"), result.bar)?;
    }
    Ok(out)
}
