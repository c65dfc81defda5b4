//! What people changed live: admin states, weights and servers, and the revision. Kept in one file of the
//! state directory, replaced as a whole, so that a crash loses nothing that was acknowledged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evenkeel_agree::past::{Lineage, Past};
use evenkeel_model::AdminState;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Clone, Debug)]
pub struct Overrides {
    path: PathBuf,
    content: Content,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Content {
    revision: u64,
    /// Of the text that the revision stands for.
    #[serde(default)]
    text_hash: u64,
    #[serde(default, flatten)]
    live: Live,
    /// How a pair's nodes came to what they share of the running text.
    #[serde(default)]
    past: Past,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unconfirmed: Option<Unconfirmed>,
}

/// A revision that goes unless somebody confirms it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Unconfirmed {
    pub revision: u64,
    /// Of the wall clock, so that a crash does not make it last.
    pub until_ms: u64,
    pub back_to: u64,
}

/// What people changed live, by `pool/server`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Live {
    /// Counts changes: of two nodes' the higher one is the later.
    #[serde(default)]
    stamp: u64,
    #[serde(default)]
    admin_states: BTreeMap<String, String>,
    #[serde(default)]
    weights: BTreeMap<String, u16>,
    /// Servers that were added, or whose keys were set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    servers: BTreeMap<String, RunTime>,
    /// Times in which real servers are drained or halted, by number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    maintenance: BTreeMap<String, Maintenance>,
}

impl Live {
    /// What is said of servers here and otherwise, or no more, there.
    pub fn change_to(&self, after: &Live) -> Vec<String> {
        fn of<T: PartialEq>(
            before: &BTreeMap<String, T>,
            after: &BTreeMap<String, T>,
            say: impl Fn(&T) -> String,
        ) -> Vec<String> {
            let other = before.iter().filter(|(key, was)| after.get(*key) != Some(*was));
            let said = |value: Option<&T>| value.map_or_else(|| "as configured".into(), &say);
            other.map(|(key, was)| format!("{key} {} (was {})", said(after.get(key)), say(was))).collect()
        }
        let mut all = of(&self.admin_states, &after.admin_states, String::clone);
        all.extend(of(&self.weights, &after.weights, |weight| format!("weight {weight}")));
        all.extend(of(&self.servers, &after.servers, |_| "set at run time".into()));
        all.extend(of(&self.maintenance, &after.maintenance, |window| {
            format!("maintenance of {} by {}", window.servers.join(" "), window.by)
        }));
        all
    }
}

/// A time in which real servers are drained or halted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Maintenance {
    pub servers: Vec<String>,
    pub from_ms: u64,
    pub until_ms: u64,
    pub admin_state: String,
    #[serde(default)]
    pub begun: bool,
    /// Those that it has turned, which come back at its end.
    #[serde(default)]
    pub turned: Vec<String>,
    pub by: String,
    #[serde(default)]
    pub message: String,
}

/// A real server that somebody added, or of whose keys somebody set some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunTime {
    /// The place that the file gave it when its keys were set; none of a server that was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    /// One of the file that was taken away; with keys, another one that was added in its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// Keys of `[[pool.real-server]]`.
    pub keys: Map<String, Value>,
    pub since_ms: u64,
    /// Of the wall clock: it goes by itself then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    #[serde(default)]
    pub by: String,
}

impl RunTime {
    /// Of the name of one that was taken away.
    pub fn is_another(&self) -> bool {
        self.gone && !self.keys.is_empty()
    }
}

/// What both nodes of a pair have of a text that was read.
pub fn shared_of(text: &str) -> String {
    evenkeel_config::shared_of_read(text).unwrap_or_default()
}

/// What both nodes know it by.
pub fn hash_of_shared(shared: &str) -> u64 {
    evenkeel_balance::hash_bytes(shared.trim().as_bytes())
}

impl Overrides {
    /// Reads the file; a missing one is empty, a damaged one is set aside and reported.
    pub fn load(directory: &Path) -> Overrides {
        let path = directory.join("state.json");
        let content = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                let aside = path.with_extension("json.damaged");
                let _ = std::fs::rename(&path, &aside);
                tracing::error!(file = %path.display(), kept = %aside.display(), %error, "the state file is damaged: admin states and weights are as configured");
                Content::default()
            }),
            Err(_) => Content::default(),
        };
        Overrides { path, content }
    }

    pub fn revision(&self) -> u64 {
        self.content.revision
    }

    /// The running text: a new one is a new revision.
    pub fn set_text(&mut self, text: &str, at_least: u64) {
        let hash = evenkeel_balance::hash_bytes(text.as_bytes());
        let content = &mut self.content;
        if content.text_hash != hash || content.revision == 0 {
            content.text_hash = hash;
            content.revision += 1;
        }
        content.revision = content.revision.max(at_least);
        content.past.run(hash_of_shared(&shared_of(text)));
    }

    pub fn past(&self) -> &Past {
        &self.content.past
    }

    /// The other node's past is this one's too: both run the same.
    pub fn adopt_past(&mut self, way: &Lineage) {
        let text = self.content.past.text();
        self.content.past.adopt(way, text);
    }

    pub fn unconfirmed(&self) -> Option<Unconfirmed> {
        self.content.unconfirmed.filter(|u| u.revision == self.content.revision)
    }

    pub fn set_unconfirmed(&mut self, unconfirmed: Option<Unconfirmed>) {
        self.content.unconfirmed = unconfirmed;
    }

    /// Takes a live state from a backup: it is later than every one before.
    pub fn restore_live(&mut self, live: Live) {
        let stamp = self.content.live.stamp.max(live.stamp) + 1;
        self.content.live = Live { stamp, ..live };
    }

    /// What was before, where nobody has been told of anything later.
    pub fn put_live_back(&mut self, live: Live) {
        self.content.live = live;
    }

    pub fn live(&self) -> &Live {
        &self.content.live
    }

    /// Takes what the other node has if it is later; whether it was.
    pub fn adopt_live(&mut self, live: &Live) -> bool {
        let text = |live: &Live| serde_json::to_string(live).unwrap_or_default();
        let own = &self.content.live;
        // Where both changed as often while they were apart, both find the same one later.
        let later = live.stamp > own.stamp || (live.stamp == own.stamp && text(live) > text(own));
        if later {
            self.content.live = live.clone();
        }
        later
    }

    /// The other node's, however often those of this one changed: it has joined that one.
    pub fn replace_live(&mut self, live: Live) {
        self.content.live = live;
    }

    /// Whether somebody has set an admin state or a weight.
    pub fn have_states(&self) -> bool {
        !self.content.live.admin_states.is_empty() || !self.content.live.weights.is_empty()
    }

    pub fn admin(&self, pool: &str, server: &str) -> Option<AdminState> {
        // Most have none, and this is asked of every server.
        let states = &self.content.live.admin_states;
        if states.is_empty() {
            return None;
        }
        states.get(&format!("{pool}/{server}")).and_then(|word| AdminState::parse(word))
    }

    pub fn weight(&self, pool: &str, server: &str) -> Option<u16> {
        let weights = &self.content.live.weights;
        if weights.is_empty() { None } else { weights.get(&format!("{pool}/{server}")).copied() }
    }

    pub fn set_admin(&mut self, pool: &str, server: &str, state: AdminState) {
        self.content.live.stamp += 1;
        self.content.live.admin_states.insert(format!("{pool}/{server}"), state.as_str().into());
    }

    pub fn set_weight(&mut self, pool: &str, server: &str, weight: u16) {
        self.content.live.stamp += 1;
        self.content.live.weights.insert(format!("{pool}/{server}"), weight);
    }

    pub fn maintenance(&self) -> &BTreeMap<String, Maintenance> {
        &self.content.live.maintenance
    }

    pub fn set_maintenance(&mut self, id: &str, window: Option<Maintenance>) {
        self.content.live.stamp += 1;
        match window {
            Some(window) => drop(self.content.live.maintenance.insert(id.to_owned(), window)),
            None => drop(self.content.live.maintenance.remove(id)),
        }
    }

    /// Servers that were added or set, by `pool/server`.
    pub fn servers(&self) -> &BTreeMap<String, RunTime> {
        &self.content.live.servers
    }

    pub fn server(&self, pool: &str, server: &str) -> Option<&RunTime> {
        self.content.live.servers.get(&format!("{pool}/{server}"))
    }

    /// Adds or changes a server; nothing takes away what was said of it.
    pub fn set_server(&mut self, key: &str, server: Option<RunTime>) {
        self.content.live.stamp += 1;
        match server {
            Some(server) => drop(self.content.live.servers.insert(key.to_owned(), server)),
            None => drop(self.content.live.servers.remove(key)),
        }
    }

    /// Forgets what the file now says itself of servers.
    pub fn retain_servers(&mut self, keep: impl FnMut(&String, &mut RunTime) -> bool) {
        self.content.live.servers.retain(keep);
    }

    /// Forgets what the file now says itself, for one server.
    pub fn forget(&mut self, pool: &str, server: &str, admin: bool, weight: bool) {
        let key = format!("{pool}/{server}");
        if admin {
            self.content.live.admin_states.remove(&key);
        }
        if weight {
            self.content.live.weights.remove(&key);
        }
    }

    pub fn save(&self) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            evenkeel_files::make_folder(folder)?;
        }
        let bytes = serde_json::to_vec_pretty(&self.content)?;
        evenkeel_files::write_atomically(&self.path, &bytes)
    }
}
