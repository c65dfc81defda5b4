//! What fails in a made-up world of two nodes and maybe a witness: kinds of faults, and a choice of them.

use super::chance::Chance;

type Millis = u64;

/// The witness's own quiet time at its start is over by then.
pub const START: Millis = 10_000;
pub const FAULTS_END: Millis = START + 7_000;
pub const WITNESS: usize = 2;

#[derive(Clone, Debug)]
pub enum Fault {
    Kill(usize),
    Freeze(usize, Millis),
    Thaw(usize),
    Start(usize),
    /// One direction of one way, or of all.
    Cut {
        from: usize,
        to: usize,
        way: Option<usize>,
        lasts: Millis,
    },
    /// The port of the service network (the first way) is dead, its carrier stays.
    Port {
        at: usize,
        into: bool,
        out: bool,
        lasts: Millis,
    },
    Loss {
        percent: u64,
        lasts: Millis,
    },
    Give(usize),
    Want(usize),
    Trouble(usize, u16),
    /// A new process takes the node's part (SIGUSR2), and needs so long for it.
    Replace(usize, Millis),
    /// It comes back without the pair's key, and gets it later.
    Join(usize),
    GetsKey(usize),
    WitnessDies,
    WitnessStarts,
    Heal,
}

/// What fails in a world, and when.
pub fn plan(chance: &mut Chance, healthy: bool, with_witness: bool) -> Vec<(Millis, Fault)> {
    let mut all = Vec::new();
    unrest(chance, &mut all);
    renewal(chance, healthy, &mut all);
    for _ in 0..1 + chance.below(4) {
        let when = START + 800 + chance.below(FAULTS_END - START - 800);
        let node = chance.below(2) as usize;
        let mut lasts = 20 + chance.below(1_500);
        // In every eighth world nothing fails: there an attacker must not change a thing.
        let kind = if healthy { 6 + chance.below(3) } else { chance.below(14) };
        if kind > 10 {
            lasts *= 3;
        }
        let fault = match kind {
            0 => {
                let back = when + 10 + chance.below(2_000);
                all.push((back, Fault::Start(node)));
                Fault::Kill(node)
            }
            1 => {
                all.push((when + lasts, Fault::Thaw(node)));
                Fault::Freeze(node, lasts)
            }
            2 | 3 => {
                let other = 1 - node;
                if chance.percent(60) {
                    let back = Fault::Cut { from: other, to: node, way: None, lasts };
                    all.push((when, back));
                }
                Fault::Cut { from: node, to: other, way: None, lasts }
            }
            4 => Fault::Cut { from: node, to: 1 - node, way: Some(chance.below(2) as usize), lasts },
            5 => Fault::Loss { percent: 20 + chance.below(60), lasts },
            6 => Fault::Give(node),
            7 => Fault::Want(node),
            8 => {
                let back = when + lasts;
                all.push((back, Fault::Trouble(node, 0)));
                Fault::Trouble(node, 1 + chance.below(100) as u16)
            }
            11..14 => {
                let (into, out) = [(true, true), (true, false), (false, true)][kind as usize - 11];
                if kind == 11 && chance.percent(30) {
                    all.push((when, Fault::Port { at: 1 - node, into, out, lasts }));
                }
                Fault::Port { at: node, into, out, lasts }
            }
            9 if with_witness => {
                all.push((when + lasts, Fault::WitnessStarts));
                Fault::WitnessDies
            }
            _ if with_witness => {
                all.push((when, Fault::Cut { from: WITNESS, to: node, way: None, lasts }));
                Fault::Cut { from: node, to: WITNESS, way: None, lasts }
            }
            _ => Fault::Give(node),
        };
        all.push((when, fault));
    }
    all.push((FAULTS_END, Fault::Heal));
    all
}

/// Processes that are replaced, and nodes that join.
fn renewal(chance: &mut Chance, healthy: bool, all: &mut Vec<(Millis, Fault)>) {
    for _ in 0..chance.below(3) {
        let when = START + 1_500 + chance.below(FAULTS_END - START - 1_500);
        all.push((when, Fault::Replace(chance.below(2) as usize, 5 + chance.below(20))));
    }
    if !healthy && chance.percent(15) {
        let node = chance.below(2) as usize;
        let when = START + 800 + chance.below(FAULTS_END - START - 2_000);
        all.push((when, Fault::Join(node)));
        all.push((when + 100 + chance.below(1_500), Fault::GetsKey(node)));
    }
}

/// What people and their checks do while it is not clear who is active.
fn unrest(chance: &mut Chance, all: &mut Vec<(Millis, Fault)>) {
    // Troubles that come and go while it is not yet clear who is active.
    if chance.percent(30) {
        let mut when = START - 200 + chance.below(600);
        for _ in 0..12 {
            when += 10 + chance.below(70);
            let node = chance.below(2) as usize;
            let trouble = chance.below(3) as u16;
            all.push((when, Fault::Trouble(node, trouble)));
        }
        all.push((when + 50, Fault::Trouble(0, 0)));
        all.push((when + 50, Fault::Trouble(1, 0)));
    }
    // Somebody who cannot make up their mind.
    if chance.percent(20) {
        let mut when = START + 1_500 + chance.below(3_000);
        for _ in 0..16 {
            when += 1 + chance.below(40);
            let node = chance.below(2) as usize;
            let fault = if chance.percent(70) { Fault::Give(node) } else { Fault::Want(node) };
            all.push((when, fault));
        }
    }
}
