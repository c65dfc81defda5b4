//! Certificates from an ACME authority (RFC 8555, 8737, 8738, 9773).
//!
//! In: what is wanted, a key of an account, what the authority answers. Out: requests to send, answers to
//! challenges that must be visible, certificates that were checked. The order is a machine without I/O
//! (`order.rs`); `work.rs` drives it over HTTPS in a thread that may wait. Never: an answer of the
//! authority is believed unchecked or read without a bound; a private key in a log line.

mod dns;
mod issued;
mod jws;
mod key;
mod order;
mod records;
mod schedule;
mod transport;
mod work;

pub use issued::{Issued, check as check_issued, key_fits};
pub use key::{AccountKey, CertificateKey};
pub use order::{Account, Answer, Failure, Heard, NextAction, Order, Pending, Terms};
pub use records::{clean_up, present};
pub use schedule::{back_off, renewal_at, spread};
pub use transport::Transport;
pub use work::{Desk, renewal_id_of, renewal_window, revoke, run, wait};

/// Seconds since 1970.
pub type Seconds = i64;
