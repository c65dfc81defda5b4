//! What makes a real server again at every boot: a systemd unit for each VIP.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Arguments, Method, Outcome, ServerMode, failed, say};

fn name(vip: IpAddr) -> String {
    format!("evenkeel-real-server-{vip}.service")
}

fn path(vip: IpAddr) -> PathBuf {
    Path::new("/etc/systemd/system").join(name(vip))
}

pub fn write(arguments: &Arguments) -> Outcome {
    for vip in &arguments.vip {
        let file = path(*vip);
        evenkeel_files::write_atomically(&file, text(arguments, *vip)?.as_bytes())
            .map_err(|e| failed(format!("{} cannot be written: {e}", file.display())))?;
        let enabled = Command::new("systemctl").args(["-q", "enable", &name(*vip)]).status();
        if !enabled.is_ok_and(|status| status.success()) {
            let (file, name) = (file.display(), name(*vip));
            say(&format!("{file} is written; enable it with: systemctl enable {name}"))?;
        }
    }
    Ok(())
}

fn text(arguments: &Arguments, vip: IpAddr) -> Result<String, super::Failure> {
    let program = std::env::current_exe()?;
    let mut command = format!("{} real-server setup --vip {vip}", program.display());
    command += match arguments.mode {
        ServerMode::Dr => " --mode dr",
        ServerMode::Tun => " --mode tun",
    };
    if arguments.method == Method::Redirect {
        command += " --method redirect";
    }
    arguments.interface.iter().for_each(|name| command += &format!(" --interface {name}"));
    // Which interface the default route has is known when there is one.
    let after = match arguments.mode == ServerMode::Tun && arguments.interface.is_empty() {
        true => "Wants=network-online.target\nAfter=network-online.target",
        false => "After=network.target",
    };
    Ok(format!(
        "# Written by `evenkeel real-server setup --persist`; `evenkeel real-server undo` removes it.\n[Unit]\nDescription=Real server of a load balancer, for {vip}\n{after}\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={command}\n\n[Install]\nWantedBy=multi-user.target\n"
    ))
}

/// Removes the unit of a VIP; whether there was one.
pub fn remove(vip: IpAddr) -> Result<bool, super::Failure> {
    let file = path(vip);
    if !file.exists() {
        return Ok(false);
    }
    let _ = Command::new("systemctl").args(["-q", "disable", &name(vip)]).status();
    std::fs::remove_file(&file).map_err(failed)?;
    Ok(true)
}
