//! The console of the appliance: its way to the daemon is the admin socket.

use std::path::PathBuf;

use evenkeel_console::Daemon;

use super::client::Client;
use super::{Common, Outcome};

struct Socket(PathBuf);

impl Daemon for Socket {
    fn ask(&self, method: &str, path: &str, kind: &str, body: &str) -> Result<serde_json::Value, String> {
        Client::new(&self.0).ask(method, path, kind, body).map_err(|failure| failure.message)
    }
}

pub fn run(common: &Common, stay: bool) -> Outcome {
    Ok(evenkeel_console::run(Socket(common.socket.clone()), stay)?)
}
