//! Programs of the user's own, in the conventions of ldirectord, HAProxy and keepalived: bounded in
//! time, output, memory and processor time, without the daemon's environment, not as root.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use evenkeel_model::ScriptProbe;
use rustix::process::{Pid, Resource, Rlimit, Signal, getuid, kill_process_group, prlimit};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

const OUTPUT_AT_MOST: u64 = 4096;
const MEMORY_AT_MOST: u64 = 1 << 30;
const NOBODY: u32 = 65_534;

/// What a script said: a line for people, and a weight in percent where the convention has one.
pub type Said = (String, Option<u8>);

/// Ends the whole group of processes when dropped, however the probe ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// A command that has none of the daemon's capabilities, which an ordinary user's daemon hands on.
fn plain(program: &std::path::Path) -> std::process::Command {
    if !has_ambient_capabilities() {
        return std::process::Command::new(program);
    }
    let mut command = std::process::Command::new("/usr/bin/setpriv");
    command.args(["--ambient-caps=-all", "--inh-caps=-all", "--no-new-privs", "--"]).arg(program);
    command
}

fn has_ambient_capabilities() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapAmb:"));
    set.is_some_and(|set| set.trim().bytes().any(|digit| digit != b'0'))
}

pub async fn probe(
    script: &ScriptProbe,
    vip: Option<SocketAddr>,
    server: SocketAddr,
) -> Result<Said, String> {
    let vip = vip.unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
    let mut command = plain(&script.command);
    command.args(&script.arguments).env_clear().current_dir("/").stdin(Stdio::null());
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin");
    if !script.keepalived {
        // ldirectord's and HAProxy's: VIP, its port, the server's address, its port.
        command.args([vip.ip().to_string(), vip.port().to_string()]);
        command.args([server.ip().to_string(), server.port().to_string()]);
    }
    for (name, value) in [
        ("EVENKEEL_VIP", vip.ip().to_string()),
        ("EVENKEEL_VIP_PORT", vip.port().to_string()),
        ("EVENKEEL_SERVER", server.ip().to_string()),
        ("EVENKEEL_SERVER_PORT", server.port().to_string()),
    ] {
        command.env(name, value);
    }
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::null());
    if getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("{} cannot be run: {e}", script.command.display()))?;
    let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
    let group = Group(pid);
    let limit = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    let _ = prlimit(pid, Resource::As, limit(MEMORY_AT_MOST));
    let _ = prlimit(pid, Resource::Cpu, limit(30));
    let _ = prlimit(pid, Resource::Core, limit(0));
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = stdout.take(OUTPUT_AT_MOST).read_to_end(&mut output).await;
    }
    let status = child.wait().await.map_err(|e| e.to_string())?;
    drop(group);
    let line =
        String::from_utf8_lossy(&output).lines().next().unwrap_or("").chars().take(80).collect::<String>();
    let said = |what: String| if line.is_empty() { what } else { format!("{what}: {line}") };
    match (status.code(), script.keepalived) {
        (Some(0), _) => Ok((said("exit status 0".into()), None)),
        // keepalived: 2 to 255 are weights from 0 to 253.
        (Some(code @ 2..=255), true) => {
            let percent = ((code - 2).min(100)) as u8;
            Ok((said(format!("weight {percent}%")), Some(percent)))
        }
        (Some(code), _) => Err(said(format!("exit status {code}"))),
        (None, _) => Err(said("ended by a signal".into())),
    }
}
