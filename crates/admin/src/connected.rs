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

/// The connections of a listener, the oldest first, and how many there may be.
pub struct Open {
    most: usize,
    most_of_address: usize,
    all: Vec<Connected>,
}

struct Connected {
    address: IpAddr,
    conversation: Conversation,
    /// Ends the connection at once when it is told to. Dropping it, as the listener does when it
    /// closes, leaves the connection to finish what it was asked.
    end: oneshot::Sender<()>,
}

impl Default for Open {
    fn default() -> Open {
        Open::of(MOST, MOST_OF_ADDRESS)
    }
}

impl Open {
    pub fn of(most: usize, most_of_address: usize) -> Open {
        Open { most, most_of_address, all: Vec::new() }
    }

    /// Makes room for one more: of those who have not said who they are the oldest goes, then whoever has
    /// asked nothing for the longest time; of the same address (IPv6: /64) where that has its share already.
    /// Nothing where all others are being served.
    pub fn admit(&mut self, address: IpAddr) -> Option<(Conversation, oneshot::Receiver<()>)> {
        let address = network_of(address);
        self.all.retain(|c| !c.end.is_closed());
        let own = self.all.iter().filter(|c| c.address == address).count();
        let of_address = own >= self.most_of_address;
        if of_address || self.all.len() >= self.most {
            let goes = self.who_goes(of_address.then_some(address))?;
            let _ = self.all.remove(goes).end.send(());
        }
        let (end, ended) = oneshot::channel();
        let conversation = Conversation::default();
        self.all.push(Connected { address, conversation: conversation.clone(), end });
        Some((conversation, ended))
    }

    fn who_goes(&self, address: Option<IpAddr>) -> Option<usize> {
        let all = self.all.iter().enumerate().filter(|(_, c)| address.is_none_or(|a| a == c.address));
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

/// Who has one address of IPv6 has the others of its /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & u128::MAX << 64).into()),
        v4 => v4,
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
        assert_eq!(open.all.len(), MOST_OF_ADDRESS);
        assert_eq!(all[0].try_recv(), Ok(()));
        // A listener that closes leaves its connections to finish.
        let (_, mut ended) = open.admit(address(2)).unwrap();
        open.all.clear();
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
    fn a_network_of_ipv6_is_one_address() {
        let mut open = Open::of(8, 2);
        let address = |n: u128| IpAddr::V6((0x2001_0db8_0000_0001 << 64 | n).into());
        let mut all: Vec<_> = (0..3).map(|n| open.admit(address(n)).unwrap().1).collect();
        assert_eq!(all[0].try_recv(), Ok(()), "the oldest of the network goes");
        assert!(is_open(&mut all[1]) && is_open(&mut all[2]));
        let mut other = open.admit("2001:db8:0:2::1".parse().unwrap()).unwrap().1;
        let mut mapped = open.admit("::ffff:192.0.2.1".parse().unwrap()).unwrap().1;
        let mut v4 = open.admit("198.51.100.1".parse().unwrap()).unwrap().1;
        assert!([&mut other, &mut mapped, &mut v4].into_iter().all(is_open), "each has its own share");
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
