//! The connections of a listener: how many there may be, who goes when there are too many, and which
//! have stood still for too long.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Connections of a listener at a time.
pub const MOST: usize = 1000;
/// Of one address at a time.
pub const MOST_OF_ADDRESS: usize = 250;
/// Requests of one person that are under way, over all listeners, live streams aside.
pub const MOST_OF_PERSON: usize = 32;
/// How long a connection may stay on which nobody has said who they are.
const STRANGER: Duration = Duration::from_secs(20);
/// How long one of a known person may stay without a request.
const IDLE: Duration = Duration::from_secs(120);
/// How long a client may leave an answer that is ready unread.
const UNREAD: Duration = Duration::from_secs(30);

/// On requests: what is known of the connection that they came by.
#[derive(Clone)]
pub struct Conversation(Arc<Mutex<ConnectionState>>);

struct ConnectionState {
    began: Instant,
    /// A request came from somebody who is known.
    proven: bool,
    under_way: usize,
    last_request: Instant,
    /// Parts of answers that are ready, and since when.
    ready: BTreeMap<u64, Instant>,
    next: u64,
}

impl Default for Conversation {
    fn default() -> Conversation {
        let now = Instant::now();
        let (proven, under_way, next) = (false, 0, 0);
        let told = ConnectionState {
            began: now,
            proven,
            under_way,
            last_request: now,
            ready: BTreeMap::new(),
            next,
        };
        Conversation(Arc::new(Mutex::new(told)))
    }
}

impl Conversation {
    fn told(&self) -> MutexGuard<'_, ConnectionState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn prove(&self) {
        self.told().proven = true;
    }

    /// A request has come; it ends when its answer has been given, or dropped.
    pub fn begin(&self) -> UnderWay {
        let mut told = self.told();
        told.under_way += 1;
        told.next += 1;
        told.last_request = Instant::now();
        UnderWay { of: self.clone(), number: told.next }
    }

    /// Why the connection has to end now, if it has to.
    pub fn is_over(&self, now: Instant) -> bool {
        let told = self.told();
        let since = |then: Instant| now.saturating_duration_since(then);
        let unread = told.ready.values().any(|at| since(*at) >= UNREAD);
        let idle = told.under_way == 0 && since(told.last_request) >= IDLE;
        unread || idle || (!told.proven && since(told.began) >= STRANGER)
    }
}

/// A request until its answer has been given.
pub struct UnderWay {
    of: Conversation,
    number: u64,
}

impl UnderWay {
    /// A part of the answer waits for the client.
    pub fn is_ready(&self) {
        self.of.told().ready.insert(self.number, Instant::now());
    }

    /// The client has room; the answer waits for this program.
    pub fn is_waited_for(&self) {
        self.of.told().ready.remove(&self.number);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut told = self.of.told();
        told.ready.remove(&self.number);
        told.under_way -= 1;
        told.last_request = Instant::now();
    }
}

/// The connections of a listener, the oldest first.
#[derive(Default)]
pub struct Open(Vec<Connected>);

struct Connected {
    address: IpAddr,
    conversation: Conversation,
    /// Ends the connection at once when it is told to. Dropping it, as the listener does when it
    /// closes, leaves the connection to finish what it was asked.
    end: oneshot::Sender<()>,
}

impl Open {
    /// Makes room for one more: of those who have not said who they are the oldest goes, then whoever has
    /// asked nothing for the longest time; of the same address where that has its share already.
    pub fn admit(&mut self, address: IpAddr) -> Option<(Conversation, oneshot::Receiver<()>)> {
        self.0.retain(|c| !c.end.is_closed());
        let own = self.0.iter().filter(|c| c.address == address).count();
        let of_address = own >= MOST_OF_ADDRESS;
        if of_address || self.0.len() >= MOST {
            let goes = self.who_goes(of_address.then_some(address))?;
            let _ = self.0.remove(goes).end.send(());
        }
        let (end, ended) = oneshot::channel();
        let conversation = Conversation::default();
        self.0.push(Connected { address, conversation: conversation.clone(), end });
        Some((conversation, ended))
    }

    fn who_goes(&self, address: Option<IpAddr>) -> Option<usize> {
        let all = self.0.iter().enumerate().filter(|(_, c)| address.is_none_or(|a| a == c.address));
        let rank = |connected: &Connected| {
            let told = connected.conversation.told();
            match told.proven {
                false => Some((0, told.began)),
                true if told.under_way == 0 => Some((1, told.last_request)),
                true => None,
            }
        };
        all.filter_map(|(place, c)| Some((rank(c)?, place))).min().map(|(_, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_open(end: &mut oneshot::Receiver<()>) -> bool {
        end.try_recv() == Err(oneshot::error::TryRecvError::Empty)
    }

    #[test]
    fn the_oldest_stranger_goes_first() {
        let mut open = Open::default();
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let (known, mut first) = open.admit(address(1)).unwrap();
        known.prove();
        let mut all: Vec<_> = (0..2000).map(|_| open.admit(address(1)).unwrap().1).collect();
        assert!(is_open(&mut first), "it is known");
        assert_eq!(open.0.len(), MOST_OF_ADDRESS);
        assert_eq!(all[0].try_recv(), Ok(()));
        // A listener that closes leaves its connections to finish.
        let (_, mut ended) = open.admit(address(2)).unwrap();
        open.0.clear();
        assert!(ended.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn people_cannot_keep_others_out_either() {
        let mut open = Open::default();
        let address = |n: usize| IpAddr::from([192, 0, 2, (n % 8) as u8]);
        let mut all: Vec<_> = (0..MOST).map(|n| open.admit(address(n)).unwrap()).collect();
        all.iter().for_each(|(conversation, _)| conversation.prove());
        let busy = all[0].0.begin();
        drop(all[1].0.begin());
        let (_stranger, mut end) = open.admit(address(1)).unwrap();
        assert!(is_open(&mut all[0].1), "it is being served");
        assert!(is_open(&mut all[1].1), "it was served last");
        assert_eq!(all[2].1.try_recv(), Ok(()), "it has asked nothing for the longest time");
        let (_next, _) = open.admit(address(1)).unwrap();
        assert_eq!(end.try_recv(), Ok(()), "the stranger goes before any of them");
        drop(busy);
    }

    #[test]
    fn what_stands_still_is_over() {
        let conversation = Conversation::default();
        let after = |time: Duration| conversation.is_over(Instant::now() + time);
        assert!(!after(Duration::ZERO) && after(STRANGER));
        conversation.prove();
        assert!(!after(STRANGER) && after(IDLE), "nothing is asked");
        let request = conversation.begin();
        assert!(!after(IDLE * 100), "this program takes its time");
        request.is_ready();
        assert!(!after(UNREAD / 2) && after(UNREAD), "the client takes nothing");
        request.is_waited_for();
        assert!(!after(IDLE * 100));
        drop(request);
        assert!(after(IDLE));
    }
}
