//! The link between two nodes: TLS in which each knows the other's very certificate, frames in
//! both directions, and how a node joins by a one-time code.
//!
//! In: frames to send, the peer's certificate. Out: frames that came, whether the link is up.
//! Never: what a frame means.

mod code;
mod frame;
mod identity;
mod link;

pub use code::Code;
pub use frame::{Frame, FrameError, LONGEST};
pub use identity::{Identity, IdentityError, fingerprint};
pub use link::{Admits, Applicant, Event, Invite, Joined, Link, LinkOptions, LinkState, join};

/// Of the frames' meaning. A node speaks with those whose range meets its own.
pub const VERSION: u32 = 2;
pub const OLDEST_VERSION: u32 = 1;
