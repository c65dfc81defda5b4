//! A new version, in a signed bundle: whether it is what it says and from whom, and its parts.
//!
//! In: a file, a folder of keys. Out: verified parts; on the appliance, the other system partition and which one
//! starts. Never: a change before everything has been checked; a decision to restart.

mod bundle;
mod grubenv;
mod outcome;
mod system;
mod version;

pub use bundle::{Bundle, Manifest, Part, PartKind};
pub use grubenv::GrubEnvironment;
pub use outcome::{Outcome, Stage, outcome_folder};
pub use system::{Boot, write_partition};
pub use version::is_newer;

#[cfg(test)]
mod tests;
