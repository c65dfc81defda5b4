//! From single probes to a verdict: rise, fall, and refused connections that count at once.

/// What a server's probes and its traffic say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    rise: u32,
    fall: u32,
    up: bool,
    /// Probes in a row that disagree with `up`.
    against: u32,
    /// No probe has finished yet, so the first one decides alone.
    untested: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    Up,
    Down,
}

impl Health {
    /// A new server takes traffic until its first probe says otherwise.
    pub fn new(rise: u32, fall: u32) -> Health {
        Health { rise: rise.max(1), fall: fall.max(1), up: true, against: 0, untested: true }
    }

    /// The same server, as another process or an earlier configuration knew it.
    pub fn resume(rise: u32, fall: u32, up: bool) -> Health {
        Health { up, untested: false, ..Health::new(rise, fall) }
    }

    /// The same verdict under other numbers.
    pub fn with_limits(self, rise: u32, fall: u32) -> Health {
        Health { rise: rise.max(1), fall: fall.max(1), against: 0, ..self }
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Probes in a row that disagree with the verdict, and how many would change it.
    fn progress(&self) -> (u32, u32) {
        (self.against, if self.up { self.fall } else { self.rise })
    }

    pub fn on_probe(&mut self, passed: bool) -> Option<Transition> {
        let first = std::mem::replace(&mut self.untested, false);
        if passed == self.up {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let (_, needed) = self.progress();
        if first || self.against >= needed { Some(self.turn()) } else { None }
    }

    /// Traffic found the server closed: no need to wait for probes.
    pub fn on_refused(&mut self) -> Option<Transition> {
        self.untested = false;
        if self.up { Some(self.turn()) } else { None }
    }

    fn turn(&mut self) -> Transition {
        self.up = !self.up;
        self.against = 0;
        if self.up { Transition::Up } else { Transition::Down }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs probes (`+` passed, `-` failed, `x` refused) and shows the state after each.
    fn check(rise: u32, fall: u32, probes: &str, expect: &str) {
        let mut health = Health::new(rise, fall);
        let states: String = probes
            .chars()
            .map(|c| {
                match c {
                    'x' => health.on_refused(),
                    c => health.on_probe(c == '+'),
                };
                if health.is_up() { 'U' } else { 'd' }
            })
            .collect();
        assert_eq!(states, expect, "{probes}");
    }

    #[test]
    fn rise_and_fall() {
        check(2, 3, "+---++", "UUUddU");
        check(2, 3, "+--+--", "UUUUUU");
        check(2, 3, "-++", "ddU");
        check(1, 1, "+-+-", "UdUd");
        check(2, 3, "+x+-++", "UddddU");
        check(2, 3, "x-+", "ddd");
    }
}
