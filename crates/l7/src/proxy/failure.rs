//! Why an attempt on a server came to nothing.

use super::connect::Trouble;
use crate::log::Cause;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Refused,
    ConnectTimeout,
    Unreachable,
    /// TLS with the server came to nothing.
    Handshake,
    /// A connection kept open from before turned out to be closed.
    Stale,
    /// The server closed or reset before it answered.
    NoAnswer,
    /// It did in the middle of the head.
    HalfAnswer,
    AnswerTimeout,
    BadAnswer,
    /// A route of answers does not let it out.
    Denied {
        status: u16,
    },
    /// A redirection or a page of a route of answers stands in its place: which route and step.
    Replaced {
        by: (usize, usize),
    },
    /// An answer whose status makes another attempt worth it.
    Unwanted,
    /// A path that servers read differently, where routes look at paths.
    UnclearPath,
    /// It is for a host whose connection the client has to open, to show its certificate there.
    Misdirected,
    /// The client's body is malformed, or stopped coming.
    BadBody,
    /// More than the service takes.
    TooLarge,
    BodyTimeout,
    /// The client has closed its side in the middle of a body that is waited for.
    BodyCut,
    ClientGone,
    Killed,
    NoMemory,
    /// No descriptor or port was left for a connection to the server.
    Local,
    /// The answer has begun and cannot be taken back.
    Cut {
        cause: Cause,
    },
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        match trouble {
            Trouble::Refused => Failure::Refused,
            Trouble::Unreachable => Failure::Unreachable,
            Trouble::Local => Failure::Local,
            Trouble::TimedOut => Failure::ConnectTimeout,
            Trouble::Killed => Failure::Killed,
            Trouble::Handshake => Failure::Handshake,
        }
    }
}

impl Failure {
    /// Whether the server is to blame.
    pub fn is_the_servers(self) -> bool {
        matches!(self, Failure::Cut { cause } if cause.is_the_servers())
            || matches!(
                self,
                Failure::Refused
                    | Failure::ConnectTimeout
                    | Failure::Unreachable
                    | Failure::Handshake
                    | Failure::NoAnswer
                    | Failure::HalfAnswer
                    | Failure::AnswerTimeout
                    | Failure::BadAnswer
            )
    }
}
