//! Answers without an end: states as they change, log lines as they come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use evenkeel_api as api;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use crate::accounts::Who;
use crate::connected::MOST_OF_PERSON;
use crate::gate::now_ms;
use crate::routes::ask;
use crate::{App, FailureKind, Refused, Request};

/// Messages that may wait for a slow browser before it is let go.
const WAITING: usize = 8;

/// How long a message waits for a browser that takes none.
const PATIENCE: Duration = Duration::from_secs(30);

/// Streams of all listeners at a time; those of logs hold a thread each.
static STREAMS: WatcherSlots = WatcherSlots::new(400, 50);
static TAILS: WatcherSlots = WatcherSlots::new(40, 8);
/// Requests of those who are known, until their answers have been given.
pub static REQUESTS: WatcherSlots = WatcherSlots::new(1_000, MOST_OF_PERSON);

pub struct WatcherSlots {
    all: Semaphore,
    of_a_person: usize,
    people: Mutex<BTreeMap<String, usize>>,
}

/// Given back when it is dropped.
pub struct WatcherSlot {
    of: &'static WatcherSlots,
    person: String,
    _one: SemaphorePermit<'static>,
}

impl WatcherSlots {
    const fn new(all: usize, of_a_person: usize) -> WatcherSlots {
        WatcherSlots { all: Semaphore::const_new(all), of_a_person, people: Mutex::new(BTreeMap::new()) }
    }

    fn take(&'static self, person: &str) -> Result<WatcherSlot, Refused> {
        let full = |why| Refused::new(FailureKind::Failed, why);
        self.place_of(person).map_err(|all| match all {
            true => full("too many are watching already; close another page"),
            false => full("you are watching too often already; close another page"),
        })
    }

    /// A place for a person, or whether it is those of all that are taken.
    pub fn place_of(&'static self, person: &str) -> Result<WatcherSlot, bool> {
        let one = self.all.try_acquire().map_err(|_| true)?;
        let mut people = self.people.lock().unwrap_or_else(PoisonError::into_inner);
        let own = people.entry(person.to_owned()).or_default();
        if *own >= self.of_a_person {
            return Err(false);
        }
        *own += 1;
        Ok(WatcherSlot { of: self, person: person.to_owned(), _one: one })
    }
}

impl Drop for WatcherSlot {
    fn drop(&mut self) {
        let mut people = self.of.people.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = people.get_mut(&self.person) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                people.remove(&self.person);
            }
        }
    }
}

/// Server-sent events: `status` whole at first and whenever services come or go, then `change` with
/// what differs, and `happening`.
pub async fn stream(State(app): State<App>, Extension(who): Extension<Who>) -> Result<Response, Refused> {
    let place = STREAMS.take(&who.name)?;
    let first = ask(&app.handle, Request::Status).await?;
    let (sender, receiver) = mpsc::channel::<Bytes>(WAITING);
    tokio::spawn(async move {
        stream_changes(app, who, first, sender).await;
        drop(place);
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((kind, Body::new(Lines(receiver))).into_response())
}

fn event(name: &str, data: &impl serde::Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

async fn stream_changes(app: App, who: Who, first: api::Status, to: mpsc::Sender<Bytes>) {
    let mut status = app.feed.status.subscribe();
    let mut happenings = app.feed.happenings.subscribe();
    let mut last = Arc::new(first);
    if to.send(event("status", &*last)).await.is_err() {
        return;
    }
    loop {
        let message = tokio::select! {
            changed = status.changed() => {
                if changed.is_err() || !app.accounts.still(&who, now_ms()) {
                    return;
                }
                let Some(now) = status.borrow_and_update().clone() else { continue };
                let message = difference(&last, &now);
                last = now;
                message
            }
            happening = happenings.recv() => match happening {
                Ok(_) if !app.accounts.still(&who, now_ms()) => return,
                Ok(happening) => event("happening", &happening),
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
            () = to.closed() => return,
        };
        if to.send_timeout(message, PATIENCE).await.is_err() {
            return;
        }
    }
}

/// What differs, as `[place, service without its servers, [[place, server], …]]`.
fn difference(old: &api::Status, new: &api::Status) -> Bytes {
    let names = |s: &api::Service| {
        let servers: Vec<_> = s.real_servers.iter().map(|r| r.name.clone()).collect();
        (s.name.clone(), servers)
    };
    let alike = old.virtual_services.len() == new.virtual_services.len()
        && old.virtual_services.iter().zip(&new.virtual_services).all(|(a, b)| names(a) == names(b));
    if !alike || old.revision != new.revision {
        return event("status", new);
    }
    let mut services = Vec::new();
    for (place, (a, b)) in old.virtual_services.iter().zip(&new.virtual_services).enumerate() {
        let servers = a.real_servers.iter().zip(&b.real_servers).enumerate();
        let changed = servers.filter(|(_, (a, b))| a != b);
        let changed: Vec<Value> = changed.map(|(place, (a, b))| json!([place, fields(a, b)])).collect();
        let own = fields(&bare(a), &bare(b));
        if !changed.is_empty() || own.as_object().is_some_and(|o| !o.is_empty()) {
            services.push(json!([place, own, changed]));
        }
    }
    let mut head = json!({
        "uptime-seconds": new.uptime_seconds,
        "connections": new.connections,
        "node": new.node,
        "services": services,
    });
    if old.pools != new.pools {
        head["pools"] = json!(new.pools);
    }
    event("change", &head)
}

fn bare(service: &api::Service) -> api::Service {
    api::Service { real_servers: Vec::new(), ..service.clone() }
}

/// The fields of `b` that `a` has otherwise.
fn fields<T: serde::Serialize>(a: &T, b: &T) -> Value {
    let map = |of: &T| match serde_json::to_value(of) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (map(a), map(b));
    // What is no longer there is told as null.
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let gone: Vec<_> = gone.collect();
    let differs = new.into_iter().filter(|(key, value)| old.get(key) != Some(value));
    Value::Object(differs.chain(gone).collect())
}

/// Access log lines, until the reader goes away.
pub async fn logs(State(app): State<App>, Extension(who): Extension<Who>) -> Result<Response, Refused> {
    let place = TAILS.take(&who.name)?;
    let lines = ask(&app.handle, Request::Logs).await?;
    let (sender, receiver) = mpsc::channel::<Bytes>(64);
    tokio::task::spawn_blocking(move || {
        let _place = place;
        loop {
            match lines.recv_timeout(Duration::from_secs(1)) {
                Ok(batch) => {
                    if !app.accounts.still(&who, now_ms()) || sender.blocking_send(batch.into()).is_err() {
                        return;
                    }
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                    if !sender.is_closed() && app.accounts.still(&who, now_ms()) => {}
                Err(_) => return,
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::new(Lines(receiver))).into_response())
}

/// A body fed by a channel.
struct Lines(mpsc::Receiver<Bytes>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|item| item.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_takes_few_places() {
        static FEW: WatcherSlots = WatcherSlots::new(10, 2);
        let (first, second) = (FEW.take("ann").unwrap(), FEW.take("ann").unwrap());
        assert!(FEW.take("ann").is_err() && FEW.take("bob").is_ok(), "others are not kept out");
        drop(first);
        assert!(FEW.take("ann").is_ok());
        drop(second);
        assert!(FEW.people.lock().unwrap().is_empty() && FEW.all.available_permits() == 10);
    }

    #[test]
    fn only_what_differs_is_told() {
        let server = |name: &str, total| {
            json!({ "name": name, "address": "a", "weight": 1, "state": "up", "admin-state": "online", "backup": false,
                "check": { "verdict": "passed", "detail": "", "since-ms": 1 }, "current-connections": 0,
                "total-connections": total, "bytes-in": 0, "bytes-out": 0, "connect-errors": 0, "response-errors": 0 })
        };
        let status = |second: u64, revision: u64| -> api::Status {
            let service = |name: &str, total| {
                json!({ "name": name, "mode": "http", "vip": ["1"], "pool": "p", "state": "up", "current-connections": 0,
                    "total-connections": total, "requests": 0, "bad-requests": 0, "bytes-in": 0, "bytes-out": 0,
                    "queued": 0, "real-servers": [server("x", 0), server("y", total)] })
            };
            serde_json::from_value(json!({ "revision": revision, "version": "1", "uptime-seconds": 9,
                "node": { "role": "active" }, "connections": 0, "workers": 1,
                "virtual-services": [service("one", 0), service("two", second)] }))
            .unwrap()
        };
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let changed = text(difference(&status(0, 1), &status(5, 1)));
        assert!(
            changed.contains("[[1,{\"total-connections\":5},[[1,{\"total-connections\":5}]]]]"),
            "{changed}"
        );
        assert!(text(difference(&status(0, 1), &status(0, 1))).contains("\"services\":[]"));
        assert!(text(difference(&status(0, 1), &status(0, 2))).starts_with("event: status\n"));
    }
}
