//! Parts that are started anew while the rest runs on, and a question to the network.

use std::net::IpAddr;
use std::time::Duration;

use evenkeel_admin::{FailureKind, Refused, Reply};
use evenkeel_api as api;
use tokio::sync::Semaphore;
use tracing::info;

use super::addresses::Questions;
use super::control::Control;

/// How long a machine that has an address may take to say so.
const ANSWER: Duration = Duration::from_millis(400);
/// Each has sockets of its own.
static QUESTIONS: Semaphore = Semaphore::const_new(4);

impl Control {
    /// Starts a part anew, and says what that meant.
    pub fn restart(&mut self, part: api::Part) -> Result<api::Restarting, Refused> {
        let failed = |why: String| Refused::new(FailureKind::Failed, why);
        let not_there = |why: &str| Refused::new(FailureKind::NotFound, why);
        info!(?part, "is started anew");
        let detail = match part {
            api::Part::Program => {
                super::start_successor(std::env::current_exe().ok().as_ref()).map_err(failed)?;
                "the program starts anew and takes over; connections are kept".into()
            }
            api::Part::Checks => {
                let count = self.checker.restart().map_err(|e| failed(e.to_string()))?;
                let checks = evenkeel_model::counted(count, "check begins", "checks begin");
                format!("{checks} again; states stay until they have found something")
            }
            api::Part::Layer4 => match self.layer4.restart().map_err(failed)? {
                None => return Err(not_there("no virtual service is of layer 4")),
                Some(interfaces) => {
                    format!("attached again to {}; flows are kept", interfaces.join(", "))
                }
            },
            api::Part::Web => {
                let snapshot = self.snapshot.clone();
                let Some(administration) = &mut self.administration else {
                    return Err(not_there("there are no listeners of the web UI"));
                };
                administration.restart(&snapshot).map_err(failed)?;
                "listeners and certificate of the web UI are new; who is logged in stays so".into()
            }
            api::Part::Pair => {
                self.pair_or_refused()?.restart();
                "the paths to the other node are opened again; the role stays".into()
            }
            api::Part::Logs => {
                self.engine.log().reopen();
                "log files are opened again".into()
            }
        };
        Ok(api::Restarting { detail })
    }
}

/// Asks the networks of this machine who has an address.
pub fn who_has(address: IpAddr, reply: Reply<Vec<api::Holder>>) {
    let Ok(permit) = QUESTIONS.try_acquire() else {
        let why = "others are being asked for already: try again";
        return drop(reply.send(Err(Refused::new(FailureKind::Failed, why))));
    };
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let failed = |e: std::io::Error| {
            Refused::new(FailureKind::Failed, format!("the network cannot be asked for {address}: {e}"))
        };
        let answers = crate::neighbours::who_has(address, ANSWER).map_err(failed);
        let _ = reply.send(answers.and_then(|answers| match answers.asked.is_empty() && !address.is_loopback() {
            // Nobody else has a loopback address.
            false => Ok(answers.others),
            true => {
                let why = format!("{address} is in no network of an interface of this machine that is up, so nobody can be asked for it");
                Err(Refused::new(FailureKind::Invalid, why))
            }
        }));
    });
}

/// Asks the networks of this machine for what a plan would put here, away from the control thread, and tells `then` which
/// address another machine has and what to say of it. Where too many ask already nobody is asked: the commit does.
pub fn ask_for(questions: Option<Questions>, then: impl FnOnce(Option<(IpAddr, String)>) + Send + 'static) {
    let Some((questions, permit)) = questions.zip(QUESTIONS.try_acquire().ok()) else { return then(None) };
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        then(questions.ask());
    });
}
