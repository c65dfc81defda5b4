//! Clients of a pair, one near each node: each sends to the node that it has heard last to have the addresses, and asks
//! nobody. What the network loses or parts it does not hear.
//!
//! This file is compiled once with the true rules beside it, and once for each mutant of them.

type Millis = u64;

/// A client may send to the wrong node for so long, once nothing fails any more.
const BLACK_HOLE: Millis = 1_500;

#[derive(Default)]
pub struct Clients {
    /// Whom each has heard last.
    learnt: [Option<usize>; 2],
    /// Until when the service network is in two parts.
    parted: Millis,
    lost_since: [Option<Millis>; 2],
}

impl Clients {
    pub fn part(&mut self, until: Millis) {
        self.parted = self.parted.max(until);
    }

    pub fn heal(&mut self) {
        self.parted = 0;
    }

    /// A node says that it has the addresses.
    pub fn learn(&mut self, client: usize, node: usize, now: Millis) {
        if client == node || now >= self.parted {
            self.learnt[client] = Some(node);
        }
    }

    /// Where one node alone serves, and nothing has failed for a while, every client knows it.
    pub fn check(&mut self, serves: [bool; 2], unrest: Millis, now: Millis) -> Result<(), String> {
        for client in 0..2 {
            let server = match serves {
                [true, false] => Some(0),
                [false, true] => Some(1),
                _ => None,
            };
            let reaches = |node: usize| node == client || now >= self.parted;
            let lost = server.is_some_and(|node| reaches(node) && self.learnt[client] != Some(node));
            if !lost {
                self.lost_since[client] = None;
                continue;
            }
            let since = *self.lost_since[client].get_or_insert(now);
            let lasts = now - since.max(unrest).max(self.parted.min(now));
            if lasts > BLACK_HOLE {
                return Err(format!("client {client} has sent to the wrong node for {lasts} ms"));
            }
        }
        Ok(())
    }
}
