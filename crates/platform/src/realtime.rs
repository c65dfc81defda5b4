//! Real-time priority for one thread.

use std::process::{Command, Stdio};

/// Gives the calling thread a real-time priority, by util-linux's `chrt`: it then runs before
/// everything else that wants the processor. What the thread starts has no such priority.
pub fn run_first() -> Result<(), String> {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut command = Command::new("chrt");
    command
        .args(["--reset-on-fork", "--rr", "--pid", "50", &thread])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let output = command.stderr(Stdio::piped()).output().map_err(|e| format!("chrt: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
