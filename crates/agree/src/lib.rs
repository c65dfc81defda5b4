//! One configuration on two nodes.
//!
//! In: what this node has run ([`past`]), what the other one says, the time. Out: what to say, and
//! whether to commit. Never: a socket, a clock, the text itself.
//!
//! A commit goes through two phases while both nodes are in step ([`agreement`]): the other node says
//! that it could, then both do. Who was away is brought up to date when the pasts show that it is
//! behind. Where both have gone on by themselves, neither gives way: people decide. What must hold before a node changes anything is in [`admission`].

pub mod admission;
pub mod agreement;
pub mod past;

/// Milliseconds of a clock that only goes forward.
pub type Millis = u64;
