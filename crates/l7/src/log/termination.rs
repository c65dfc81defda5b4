//! How a request or connection ended, by name. The letters of HAProxy ("Session state at
//! disconnection" in its manual) are made here, where a line is written.

/// Which event ended it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client closed or reset.
    ClientAbort,
    /// The client said nothing for too long.
    ClientTimeout,
    /// The server closed, reset or refused.
    ServerAbort,
    /// The server said nothing for too long, or no place on one came free.
    ServerTimeout,
    /// This program refused it: a rule, or a broken message.
    Proxy,
    /// This program has answered it itself.
    LocalReply,
    /// Memory, descriptors or ports had run out.
    Resource,
    /// Somebody ended it: an administrator, or the end of the process.
    Killed,
}

impl Cause {
    fn letter(self) -> u8 {
        match self {
            Cause::ClientAbort => b'C',
            Cause::ClientTimeout => b'c',
            Cause::ServerAbort => b'S',
            Cause::ServerTimeout => b's',
            Cause::Proxy => b'P',
            Cause::LocalReply => b'L',
            Cause::Resource => b'R',
            Cause::Killed => b'K',
        }
    }

    /// Whether the client is to blame.
    pub fn is_the_clients(self) -> bool {
        matches!(self, Cause::ClientAbort | Cause::ClientTimeout)
    }

    /// Whether the server is to blame.
    pub fn is_the_servers(self) -> bool {
        matches!(self, Cause::ServerAbort | Cause::ServerTimeout)
    }
}

/// What it was doing then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The client's request, TLS or PROXY header was not complete.
    Request,
    /// It waited for a place on a server.
    Queue,
    /// A connection to the server was being opened.
    Connect,
    /// The server's head was awaited.
    Headers,
    /// Bytes of a body or of a connection flowed.
    Data,
    /// The client was made to wait for its refusal.
    Tarpit,
}

impl Phase {
    fn letter(self) -> u8 {
        match self {
            Phase::Request => b'R',
            Phase::Queue => b'Q',
            Phase::Connect => b'C',
            Phase::Headers => b'H',
            Phase::Data => b'D',
            Phase::Tarpit => b'T',
        }
    }
}

/// What the client's persistence cookie was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieRead {
    /// It sent none.
    None,
    /// Too old.
    Expired,
    /// Of no server of the pool.
    Invalid,
    /// Of a server that takes it.
    Valid,
    /// Of a server that is down.
    Down,
}

impl CookieRead {
    fn letter(self) -> u8 {
        match self {
            CookieRead::None => b'N',
            CookieRead::Expired => b'E',
            CookieRead::Invalid => b'I',
            CookieRead::Valid => b'V',
            CookieRead::Down => b'D',
        }
    }
}

/// What became of the cookie in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieSent {
    /// Nothing.
    None,
    /// The client had no valid one and got one.
    Inserted,
    /// The client had a valid one and got a new one.
    Updated,
    /// The server's own was rewritten.
    Rewritten,
    /// The server's own went on as it was.
    Passed,
}

impl CookieSent {
    fn letter(self) -> u8 {
        match self {
            CookieSent::None => b'N',
            CookieSent::Inserted => b'I',
            CookieSent::Updated => b'U',
            CookieSent::Rewritten => b'R',
            CookieSent::Passed => b'P',
        }
    }
}

/// How a request or connection ended: nothing of it after an orderly end without a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Termination {
    pub cause: Option<Cause>,
    pub phase: Option<Phase>,
    /// Both only where cookies of the pool say where clients belong.
    pub cookie_read: Option<CookieRead>,
    pub cookie_sent: Option<CookieSent>,
}

impl Termination {
    /// Cause, phase, cookie of the client, cookie of the answer; `-` where there is nothing to tell.
    pub fn letters(self) -> [u8; 4] {
        [
            self.cause.map_or(b'-', Cause::letter),
            self.phase.map_or(b'-', Phase::letter),
            self.cookie_read.map_or(b'-', CookieRead::letter),
            self.cookie_sent.map_or(b'-', CookieSent::letter),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Record;

    #[test]
    fn what_ended_it_first_is_what_the_line_tells() {
        let mut record = Record::new(([192, 0, 2, 1], 1).into());
        assert_eq!(&record.termination.letters(), b"----");
        record.end(Cause::ServerTimeout, Phase::Headers);
        record.end(Cause::ClientAbort, Phase::Data);
        record.termination.cookie_read = Some(CookieRead::Valid);
        record.termination.cookie_sent = Some(CookieSent::Updated);
        assert_eq!(&record.termination.letters(), b"sHVU");
        record.restart(record.client, 0, 0);
        assert_eq!(record.termination, Termination::default(), "the next request begins anew");
    }
}
