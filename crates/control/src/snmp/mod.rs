//! What SNMP sees of this node: a sub-agent of the machine's SNMP agent, which asks the daemon's loop as
//! people do.

mod objects;
mod vrrp;

use std::time::Duration;

use evenkeel_admin::{Handle, Reply, Request};
use evenkeel_agentx::View;
use evenkeel_model::SnmpSettings;
use evenkeel_platform::Network;
use evenkeel_snmp::{Subagent, Trouble};
use tokio::sync::oneshot;
use tracing::warn;

use super::control::Control;

/// Trouble of so long is told: a restart of snmpd is none.
const TOLD_AFTER: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Snmp {
    handle: Option<Handle>,
    running: Option<(SnmpSettings, Subagent)>,
    /// People know that it does not work.
    told: bool,
}

impl Snmp {
    pub fn trouble(&self) -> Option<Trouble> {
        self.running.as_ref()?.1.trouble()
    }
}

/// Asks the daemon's loop, and waits; nothing where that has ended.
fn ask<T>(handle: &Handle, request: impl FnOnce(Reply<T>) -> Request) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    handle.0.blocking_send(request(reply)).ok()?;
    answer.blocking_recv().ok()?.ok()
}

/// The same of a question that is never refused.
fn ask_plainly<T>(handle: &Handle, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    handle.0.blocking_send(request(reply)).ok()?;
    answer.blocking_recv().ok()
}

fn read(handle: &Handle) -> View {
    let Some(status) = ask_plainly(handle, Request::Status) else { return View::default() };
    let pair = ask(handle, Request::Pair);
    let certificates = ask_plainly(handle, Request::Certificates).unwrap_or_default();
    let mut view = objects::view(&status, pair.as_ref(), &certificates);
    if let Some(pair) = pair.filter(|pair| !pair.routers.is_empty())
        && let Ok(mut network) = Network::open()
        && let (Ok(interfaces), Ok(own)) = (network.interfaces(), network.addresses())
    {
        vrrp::add(&mut view, &pair, &interfaces, &own);
    }
    view
}

impl Control {
    /// From now on the daemon's loop can be asked.
    pub fn start_snmp(&mut self, handle: Handle) {
        self.snmp.handle = Some(handle);
        self.follow_snmp();
    }

    /// The sub-agent of the running configuration.
    pub fn follow_snmp(&mut self) {
        let settings = self.snapshot().snmp.clone();
        let same = self.snmp.running.as_ref().map(|(settings, _)| settings) == settings.as_ref();
        if same {
            return;
        }
        (self.snmp.running, self.snmp.told) = (None, false);
        let (Some(settings), Some(handle)) = (settings, self.snmp.handle.clone()) else { return };
        match Subagent::start(settings.agentx.clone(), move || read(&handle)) {
            Ok(agent) => self.snmp.running = Some((settings, agent)),
            Err(error) => warn!(%error, "there is no thread for SNMP"),
        }
    }

    pub fn end_snmp(&mut self) {
        self.snmp.running = None;
    }

    /// Once a second: tells people when it does not work, and when it does again.
    pub fn watch_snmp(&mut self) {
        let node = self.node_name();
        match self.snmp.trouble() {
            Some((why, since)) if !self.snmp.told && since.elapsed() >= TOLD_AFTER => {
                self.snmp.told = true;
                self.happen("snmp", "warning", &node, format!("nothing of {node} is seen over SNMP: {why}"));
            }
            None if self.snmp.told => {
                self.snmp.told = false;
                self.happen("snmp", "good", &node, format!("{node} is seen over SNMP again"));
            }
            _ => {}
        }
    }
}
