//! The pair's rules in a made-up world, by seed.
//!
//! In: a seed. Out: whether everything held that must hold. Never: a real clock or socket.

/// The true rules with the world around them.
pub mod truth {
    pub use evenkeel_agree::{admission, agreement, past};
    pub use evenkeel_vrrp::{announce, beat, election, guard, lease, pace, reach, seal, witness};

    pub mod chance;
    pub mod checks;
    pub mod clients;
    pub mod edits;
    pub mod lives;
    pub mod machine;
    pub mod node;
    pub mod plan;
    pub mod world;
}
