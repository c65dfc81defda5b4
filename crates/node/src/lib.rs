//! The settings of a machine (`[node]`) as the files that systemd reads, and what a change of them means.
//!
//! In: settings that `config` has checked. Out: whole files, all of them below names that belong to Evenkeel; the
//! steps from one setting to the next; the settings as text again. Never: a file, a program, a clock.

mod changes;
mod files;
mod text;

pub use changes::{Action, Cut, NodeChange, changes};
pub use files::{FilePlace, NodeFile, OWN_PLACES, files, is_own, restarts};
pub use text::as_toml;
