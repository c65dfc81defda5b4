//! Runs a system program with text on its standard input.

use std::io::Write;
use std::process::{Command, Stdio};

/// What it printed, or its first line of complaint.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|e| format!("{program} cannot be run: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| format!("{program}: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let why = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program} {}: {}", arguments.join(" "), why.lines().next().unwrap_or("failed")))
        }
    }
}

/// Switches off the merging of received packets on an interface.
pub fn stop_merging(interface: &str) -> Result<(), String> {
    run("ethtool", &["-K", interface, "gro", "off", "lro", "off"], "").map(drop)
}
