//! What a probe found: for people as a line, for programs as how far it came and what was wrong.

/// How far a probe came, by the layers of OSI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layer {
    #[default]
    Connection,
    Tls,
    /// The service's own protocol.
    Service,
    /// A program of the user's own said it.
    Script,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Timeout,
    /// No connection, or it broke.
    Unreachable,
    /// This machine could not ask: no descriptor, port or memory was left. Says nothing of the server.
    Local,
    /// An answer that makes no sense, or none.
    Invalid,
    /// The service answered, and not as it should.
    Refused,
}

impl Layer {
    /// The layer's number; none of a program.
    pub fn number(self) -> Option<u8> {
        match self {
            Layer::Connection => Some(4),
            Layer::Tls => Some(6),
            Layer::Service => Some(7),
            Layer::Script => None,
        }
    }
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Timeout => "timeout",
            Outcome::Unreachable => "unreachable",
            Outcome::Local => "local",
            Outcome::Invalid => "invalid",
            Outcome::Refused => "refused",
        }
    }
}

/// Why a probe passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// For people.
    pub detail: String,
    /// In the service's own protocol, such as the status of HTTP.
    pub code: Option<u16>,
    /// The server's own words.
    pub said: String,
    /// Of a conversation, the step that failed, counted from 1; 0 is its first connection.
    pub step: Option<usize>,
}

/// Why a probe failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub outcome: Outcome,
    pub found: Found,
}

impl Failure {
    pub fn new(outcome: Outcome, detail: impl Into<String>) -> Failure {
        Failure { outcome, found: Found::from(detail.into()) }
    }

    pub fn refused(detail: String, code: Option<u16>, said: String) -> Failure {
        Failure { outcome: Outcome::Refused, found: Found { detail, code, said, step: None } }
    }
}

impl From<String> for Found {
    fn from(detail: String) -> Found {
        Found { detail, ..Found::default() }
    }
}

impl From<&str> for Found {
    fn from(detail: &str) -> Found {
        Found::from(detail.to_owned())
    }
}

/// What nothing better is known of makes no sense.
impl From<String> for Failure {
    fn from(detail: String) -> Failure {
        Failure::new(Outcome::Invalid, detail)
    }
}

impl From<&str> for Failure {
    fn from(detail: &str) -> Failure {
        Failure::from(detail.to_owned())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        let text = error.to_string();
        let said = text.split(" (os error").next().unwrap_or("").to_owned();
        let found = Found { detail: crate::connect::describe(&error), said, ..Found::default() };
        let outcome = if is_local(&error) { Outcome::Local } else { Outcome::Unreachable };
        Failure { outcome, found }
    }
}

/// Whether an error is for want of something that this machine has too little of.
fn is_local(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let local = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|raw| local.iter().any(|e| e.raw_os_error() == raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn what_this_machine_lacks_says_nothing_of_servers() {
        let outcome = |errno: Errno| Failure::from(std::io::Error::from(errno)).outcome;
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL] {
            assert_eq!(outcome(errno), Outcome::Local, "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::CONNRESET] {
            assert_eq!(outcome(errno), Outcome::Unreachable, "{errno}");
        }
    }
}
