//! What must hold in a made-up world, looked at after each event.
//!
//! This file is compiled once with the true rules beside it, and once for each mutant of them.

use super::beat::Role;
use super::node::{Life, Node};
use super::plan::WITNESS;
use super::reach::WORST;
use super::world::{DEAD, EVERY, UNOWNED, World};

type Millis = u64;

impl World {
    pub(super) fn excuse(&mut self, lasts: Millis) {
        self.excused_until = self.excused_until.max(self.now + lasts);
    }

    pub(super) fn check(&mut self) -> Result<(), String> {
        let holders = self.nodes.iter().filter(|n| n.holds).count();
        let runs = [0, 1].map(|at| self.nodes[at].life == Life::Runs);
        let mut deaf = [false; 2];
        let (looked_at, ran) = std::mem::replace(&mut self.looked_at, (self.now, runs));
        for at in 0..2 {
            // Beats that did not come for nearly the time of death are a partition. Time in which nobody was there
            // to send them does not count; what was lost before and after it does.
            if !ran[1 - at] && self.cut[1 - at][at].iter().any(|until| self.now >= *until) {
                self.heard_at[at] = (self.heard_at[at] + (self.now - looked_at)).min(self.now);
            }
            let dead_ms = self.nodes[at].election.settings().dead_ms;
            deaf[at] = self.now.saturating_sub(self.heard_at[at]) >= dead_ms - 20;
        }
        let both_run = runs[0] && runs[1];
        self.check_places(both_run)?;
        let holds = [0, 1].map(|at| runs[at] && self.nodes[at].holds && self.now >= self.port_dead[at]);
        let unrest = self.last_fault.max(self.port_dead[0]).max(self.port_dead[1]).min(self.now);
        self.clients.check(holds, unrest, self.now)?;
        if deaf[0] || deaf[1] {
            self.excuse(DEAD + EVERY + 60);
        }
        if holders == 2 {
            self.two_until = self.now;
        }
        if holders == 2 && both_run && deaf[0] != deaf[1] {
            let since = *self.one_deaf_since.get_or_insert(self.now);
            if self.now - since > EVERY / 2 {
                self.long_deaf_at = self.now;
            }
            if self.now - since > 2 * DEAD + 2 * EVERY {
                return Err("two nodes have the addresses although one hears the other".into());
            }
        } else {
            self.one_deaf_since = None;
        }
        // Where one was deaf for long, the end of that and its giving up may cross.
        let told = self.now.saturating_sub(self.last_fault) < 5;
        let crossed = told
            || (self.now < self.loss.1 + DEAD && self.loss.0 >= 20)
            || self.now - self.long_deaf_at < DEAD;
        if holders == 0 && both_run && !self.with_witness && self.now - self.two_until < 3 && !crossed {
            return Err("both nodes gave the addresses up".into());
        }
        let active = |n: &&Node| n.life == Life::Runs && n.election.role() == Role::Active;
        let believers = self.nodes.iter().filter(active).count();
        if self.with_witness && believers > 1 {
            return Err("two nodes are active beside a witness".into());
        }
        if holders > 1 && self.now > self.excused_until {
            return Err("two nodes have the addresses, and nothing parts them".into());
        }
        if holders > 0 {
            self.unowned_since = None;
            return Ok(());
        }
        let since = *self.unowned_since.get_or_insert(self.now);
        let connected = |a: usize, b: usize| {
            let up = |from: usize, to: usize| self.cut[from][to].iter().any(|until| self.now >= *until);
            up(a, b) && up(b, a)
        };
        let can = |at: usize| {
            let asked = self.witness.is_some()
                && self.cut[at][WITNESS][0] <= self.now
                && self.cut[WITNESS][at][0] <= self.now;
            runs[at]
                && self.nodes[at].keyed
                // One without the key vouches for nobody.
                && (!self.with_witness
                    || asked
                    || (runs[1 - at] && self.nodes[1 - at].keyed && connected(0, 1)))
        };
        let quiet = self.now.saturating_sub(since.max(self.last_fault));
        if quiet > UNOWNED && (can(0) || can(1)) {
            return Err(format!("nobody has had the addresses for {quiet} ms"));
        }
        Ok(())
    }

    /// Both nodes have long been equally fit, and nobody asked for a change.
    pub(super) fn is_balanced(&self) -> bool {
        const LONG: Millis = 2_500;
        let [one, other] = [0, 1].map(|at| &self.nodes[at]);
        let dead = self.port_dead.map(|until| self.now < until);
        let lossy = self.loss.0 >= 10 && self.now < self.loss.1 + LONG;
        !self.failback
            && !lossy
            && dead[0] == dead[1]
            && self.now > self.unequal_at.max(self.fault_at) + LONG
            && one.trouble == other.trouble
            && one.life == Life::Runs
            && other.life == Life::Runs
    }

    /// Where both nodes hear each other, the one that reaches the clients has the addresses.
    fn check_places(&mut self, both_run: bool) -> Result<(), String> {
        // Two that die at the same moment do so one after the other here.
        let dead = self.port_dead.map(|until| self.now < until);
        if dead[0] != dead[1] && self.now > self.port_at {
            self.unequal_at = self.now;
        }
        if let Some(what) = self.needless.take() {
            return Err(what);
        }
        let heard = |from: usize, to: usize| self.now >= self.cut[from][to][1];
        let quiet = both_run && heard(0, 1) && heard(1, 0) && (self.now >= self.loss.1 || self.loss.0 < 10);
        let misplaced = quiet
            && (0..2).any(|at| {
                let (here, there) = (&self.nodes[at], &self.nodes[1 - at]);
                let worse = there.trouble < here.trouble + WORST / 3;
                let dead = self.now < self.port_dead[at] && self.now >= self.port_dead[1 - at];
                here.holds && !there.holds && dead && worse
            });
        if !misplaced {
            self.misplaced_since = None;
            return Ok(());
        }
        let since = *self.misplaced_since.get_or_insert(self.now);
        let lasts = self.now - since.max(self.fault_at).max(self.port_at);
        // One that took over a moment ago keeps the role for ten times of death.
        match lasts > 10 * DEAD + 1_000 {
            true => Err(format!("a node that reaches nobody has had the addresses for {lasts} ms")),
            false => Ok(()),
        }
    }

    pub(super) fn check_end(&mut self) -> Result<(), String> {
        let roles: Vec<Role> = self.nodes.iter().map(|n| n.election.role()).collect();
        match roles[..] {
            [Role::Active, Role::Passive] | [Role::Passive, Role::Active] => Ok(()),
            _ => Err(format!("at the end the nodes are {roles:?}")),
        }
    }
}
