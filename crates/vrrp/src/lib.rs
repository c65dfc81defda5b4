//! Who of two nodes is active.
//!
//! In: messages that were received, the time, what is known of this node's own health. Out: the
//! role, and messages to send. Never: a socket, a clock, randomness of its own.
//!
//! Two Evenkeel nodes elect by sealed beats ([`beat`], [`seal`], [`election`]), with or without a
//! third that is asked when they cannot hear each other ([`witness`], [`desk`]). Beside routers of other
//! makes the rules of RFC 9568 hold ([`advert`], [`router`]). What becomes of the addresses when the daemon dies or stands
//! still is in [`guard`] and [`lease`].

pub mod advert;
pub mod announce;
pub mod beat;
pub mod desk;
pub mod election;
pub mod guard;
pub mod lease;
pub mod pace;
pub mod reach;
#[cfg(test)]
mod replay_tests;
pub mod router;
pub mod seal;
pub mod witness;

/// Milliseconds of a clock that only goes forward.
pub type Millis = u64;
