//! Two nodes that are edited, on a link that breaks, with deaths and changes of role. Everything
//! follows from a seed. In the end both run the same, or both say that they differ.
//!
//! This file is compiled once with the true rules beside it, and once for each mutant of them. What
//! a node does with the rules' answers is what the daemon does (`control/sync.rs`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::admission::{CommitRequest, admits_backup};
use super::agreement::{Agreement, Answered, Begin, CommitReply, Greeted, Relation, Settled};
use super::chance::Chance;
use super::past::{Head, Lineage, Past};
use super::world::Broken;

type Millis = u64;

const FAULTS_END: Millis = 20_000;
const END: Millis = FAULTS_END + 12_000;
/// Messages of a world: more would be two nodes that never come to rest.
const TALK_AT_MOST: usize = 240;
const TICK: Millis = 100;

#[derive(Clone, Debug)]
enum Say {
    Hello { stand: Head, way: Lineage },
    Configuration { stand: Head, way: Lineage, text: u64, forced: bool },
    Ask { id: u64, base: u64, text: u64 },
    Answer { id: u64, refused: bool },
    Commit { id: u64 },
    Committed { id: u64, failed: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing was changed.
    Refused,
    /// Here alone, and it is said so.
    Here,
    Both,
}

/// A commit that somebody asked for.
#[derive(Clone, Debug)]
struct Ticket {
    text: u64,
    /// The text was never there before.
    fresh: bool,
    /// The step that it would be.
    step: u64,
    asked: Millis,
    answered: Millis,
    answer: Option<Answer>,
    /// Who asked heard no more: the node died.
    died: bool,
    /// It was refused for a reason that is one: what was read did not run any more, a disk took nothing, the node only
    /// followed.
    excused: bool,
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    Edit(usize),
    /// The file is edited by hand, and read again.
    ByHand(usize),
    Kill(usize),
    Start(usize),
    Break,
    Connect,
    Up(usize, u64),
    Down(usize, u64),
    Role(usize, bool),
    Tick(usize),
    /// Somebody reads what runs, thinks, and commits it changed, for the revision that they saw.
    Read(usize, Millis),
    Based {
        node: usize,
        base: u64,
        from: u64,
        text: u64,
    },
    /// Whether the disk takes anything: it is full, or read-only.
    Disk(usize, bool),
    /// A backup is restored.
    Restore(usize),
}

struct Node {
    alive: bool,
    active: bool,
    // What a crash leaves.
    past: Past,
    revision: u64,
    /// Texts that it has run.
    kept: Vec<u64>,
    /// What the disk has of it.
    stored: (Past, u64),
    has_disk: bool,
    // What it does not.
    agreement: Agreement,
    /// The connection that it believes in.
    session: Option<u64>,
    own: Option<(u64, usize)>,
    prepared: Option<(u64, u64)>,
}

pub struct Edits {
    chance: Chance,
    now: Millis,
    order: u64,
    queue: BinaryHeap<Reverse<(Millis, u64, usize)>>,
    events: Vec<Event>,
    nodes: [Node; 2],
    /// The connection that there is.
    session: Option<u64>,
    sessions: u64,
    /// When the last message of each direction arrives: they stay in order.
    arrives: [Millis; 2],
    tickets: Vec<Ticket>,
    by_hand: Vec<u64>,
    texts: u64,
    talk: usize,
    /// Both came to one text by ways of their own: one way is forgotten then.
    twins: bool,
    /// Nothing but edits happens.
    calm: bool,
    /// Disks fail, and what could not be taken is sent again after a time. In the other worlds nothing heals by waiting.
    disks_fail: bool,
    wrong: Option<String>,
    trace: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
enum Event {
    Happens(Happens),
    Arrives { to: usize, session: u64, say: Say },
}

pub fn broken(seed: u64) -> Option<String> {
    play(seed, false).err().map(|b| format!("edits, {} ms: {}", b.at, b.what))
}

pub fn play(seed: u64, traced: bool) -> Result<(), Broken> {
    let mut world = Edits::new(seed);
    world.trace = traced.then(Vec::new);
    let result = world.run();
    if let Some(trace) = &world.trace {
        trace.iter().for_each(|line| println!("{line}"));
    }
    result.map_err(|what| Broken { seed, at: world.now, what })
}

impl Edits {
    fn new(seed: u64) -> Edits {
        let node = |active| {
            let mut past = Past::default();
            past.run(1);
            Node {
                alive: true,
                active,
                stored: (past.clone(), 1),
                has_disk: true,
                past,
                revision: 1,
                kept: vec![1],
                agreement: Agreement::default(),
                session: None,
                own: None,
                prepared: None,
            }
        };
        let mut world = Edits {
            chance: Chance::new(seed ^ 0x00ed_1700),
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            nodes: [node(true), node(false)],
            session: None,
            sessions: 0,
            arrives: [0; 2],
            tickets: Vec::new(),
            by_hand: Vec::new(),
            texts: 1,
            talk: 0,
            twins: false,
            calm: seed.is_multiple_of(4),
            disks_fail: (seed / 4).is_multiple_of(2),
            wrong: None,
            trace: None,
        };
        world.plan();
        world
    }

    fn plan(&mut self) {
        self.at(1, Happens::Connect);
        let pick = |chance: &mut Chance| 500 + chance.below(FAULTS_END - 4_500);
        for _ in 0..2 + self.chance.below(10) {
            let when = pick(&mut self.chance);
            let node = self.chance.below(2) as usize;
            self.at(when, Happens::Edit(node));
            // Somebody else, at the same moment.
            if self.chance.percent(40) {
                let other = when + self.chance.below(60);
                self.at(other, Happens::Edit(1 - node));
            }
        }
        self.plan_people_and_disks();
        for node in 0..2 {
            self.at(TICK, Happens::Tick(node));
        }
        if self.calm {
            return;
        }
        for _ in 0..self.chance.below(3) {
            let (when, node) = (pick(&mut self.chance), self.chance.below(2) as usize);
            self.at(when, Happens::ByHand(node));
            if self.chance.percent(60) {
                let close = when.saturating_sub(30) + self.chance.below(60);
                let editor = self.chance.below(2) as usize;
                self.at(close, Happens::Edit(editor));
            }
        }
        for _ in 0..self.chance.below(3) {
            let (when, node) = (pick(&mut self.chance), self.chance.below(2) as usize);
            let lasts = 50 + self.chance.below(4_000);
            self.at(when, Happens::Kill(node));
            self.at(when + lasts, Happens::Start(node));
        }
        for _ in 0..self.chance.below(4) {
            let when = pick(&mut self.chance);
            let lasts = 100 + self.chance.below(4_000);
            self.at(when, Happens::Break);
            self.at(when + lasts, Happens::Connect);
        }
        for _ in 0..self.chance.below(4) {
            let when = pick(&mut self.chance);
            let active = self.chance.below(2) as usize;
            // For a moment both are, or neither.
            let apart = self.chance.below(200);
            self.at(when, Happens::Role(active, true));
            self.at(when + apart, Happens::Role(1 - active, false));
        }
        for node in 0..2 {
            self.at(FAULTS_END, Happens::Disk(node, true));
        }
        self.at(FAULTS_END, Happens::Start(0));
        self.at(FAULTS_END, Happens::Start(1));
        self.at(FAULTS_END + 1, Happens::Connect);
    }

    /// Two operators, disks that take nothing for a while, a backup that is restored.
    fn plan_people_and_disks(&mut self) {
        let pick = |chance: &mut Chance| 500 + chance.below(FAULTS_END - 4_500);
        for _ in 0..self.chance.below(6) {
            let (when, node) = (pick(&mut self.chance), self.chance.below(2) as usize);
            let thinks = self.chance.below(900);
            self.at(when, Happens::Read(node, thinks));
            if self.chance.percent(50) {
                let other = when + self.chance.below(300);
                let elsewhere = self.chance.below(2) as usize;
                self.at(other, Happens::Read(elsewhere, thinks));
            }
        }
        for _ in 0..if self.disks_fail { self.chance.below(3) } else { 0 } {
            let (when, node) = (pick(&mut self.chance), self.chance.below(2) as usize);
            let lasts = 100 + self.chance.below(3_000);
            self.at(when, Happens::Disk(node, false));
            self.at(when + lasts, Happens::Disk(node, true));
            if self.chance.percent(60) {
                let editor = self.chance.below(2) as usize;
                let within = when + self.chance.below(lasts);
                self.at(within, Happens::Edit(editor));
                self.at(when + lasts + 50, Happens::Edit(1 - editor));
            }
        }
        if self.chance.percent(40) {
            let (when, node) = (pick(&mut self.chance), self.chance.below(2) as usize);
            self.at(when, Happens::Restore(node));
        }
    }

    fn at(&mut self, when: Millis, what: Happens) {
        self.push(when, Event::Happens(what));
    }

    fn push(&mut self, when: Millis, event: Event) {
        self.order += 1;
        self.events.push(event);
        self.queue.push(Reverse((when, self.order, self.events.len() - 1)));
    }

    fn record(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6}  {}", self.now, line()));
        }
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse((when, _, at))) = self.queue.pop() {
            if when > END {
                break;
            }
            self.now = when;
            match self.events[at].clone() {
                Event::Happens(what) => self.happens(what),
                Event::Arrives { to, session, say } => self.arrives(to, session, say),
            }
            if let Some(what) = self.wrong.take() {
                return Err(what);
            }
            if self.talk > TALK_AT_MOST {
                return Err("the nodes never come to rest".into());
            }
        }
        self.judge()?;
        // Where people had to decide, one node's configuration is pushed.
        if self.relation(0) == Relation::Differs && self.can_run(1, self.nodes[0].past.text()) {
            self.now = END;
            self.say_configuration(0, true);
            while let Some(Reverse((when, _, at))) = self.queue.pop() {
                if when > END + 9_000 {
                    break;
                }
                self.now = when;
                if let Event::Arrives { to, session, say } = self.events[at].clone() {
                    self.arrives(to, session, say);
                }
            }
            if self.relation(0) != Relation::Same || self.relation(1) != Relation::Same {
                return Err(format!("after a push: {:?}, {:?}", self.relation(0), self.relation(1)));
            }
        }
        Ok(())
    }

    fn relation(&self, node: usize) -> Relation {
        self.nodes[node].agreement.relation(&self.nodes[node].past)
    }

    /// What must hold once all is quiet.
    fn judge(&self) -> Result<(), String> {
        let [a, b] = &self.nodes;
        let relations = [self.relation(0), self.relation(1)];
        match relations {
            [Relation::Same, Relation::Same] if a.past.text() == b.past.text() => {}
            [Relation::Differs, Relation::Differs] if a.past.text() != b.past.text() => {}
            // One cannot run what the other does, and says so each time.
            [Relation::Ahead, Relation::Behind] if !self.can_run(1, a.past.text()) => {}
            [Relation::Behind, Relation::Ahead] if !self.can_run(0, b.past.text()) => {}
            _ => return Err(format!("{relations:?} with texts {} and {}", a.past.text(), b.past.text())),
        }
        let has = |node: &Node, step: u64| node.past.lineage().steps.contains(&step);
        let same = relations[0] == Relation::Same;
        for (number, ticket) in self.tickets.iter().enumerate() {
            let Ticket { text, fresh, step, answer, .. } = ticket;
            let found = (has(a, *step), has(b, *step));
            match answer {
                None if !ticket.died => return Err(format!("nobody is told what became of commit {number}")),
                Some(Answer::Here) if self.calm && (0..2).all(|node| self.can_run(node, *text)) => {
                    return Err(format!("commit {number} was made here alone, for no reason"));
                }
                Some(Answer::Refused) if self.calm && !ticket.excused && !self.was_in_the_way(ticket) => {
                    return Err(format!("commit {number} of text {text} was refused, for no reason"));
                }
                Some(Answer::Refused) if *fresh && found != (false, false) => {
                    return Err(format!(
                        "commit {number} of text {text} was refused, and yet it is {found:?}"
                    ));
                }
                Some(Answer::Both) if found != (true, true) => {
                    return Err(format!("commit {number} of text {text} was on both, and is {found:?}"));
                }
                Some(Answer::Here) if same && !self.twins && found != (true, true) => {
                    return Err(format!(
                        "commit {number} of text {text} was acknowledged and is lost: {found:?}"
                    ));
                }
                _ => {}
            }
        }
        for step in &self.by_hand {
            if same && !self.twins && !(has(a, *step) && has(b, *step)) {
                return Err("a file edited by hand was run, and is lost".into());
            }
        }
        Ok(())
    }

    /// Whether a commit that was refused had a reason: a machine that cannot run it, or another one at
    /// the same time that went on, or was refused by the other node's disk.
    fn was_in_the_way(&self, refused: &Ticket) -> bool {
        let overlaps = |other: &&Ticket| {
            (other.answer == Some(Answer::Both) || other.excused)
                && other.asked <= refused.answered + 100
                && refused.asked <= other.answered + 100
        };
        !(0..2).all(|node| self.can_run(node, refused.text)) || self.tickets.iter().any(|t| overlaps(&t))
    }

    /// Some texts name what one of the machines has not.
    fn can_run(&self, node: usize, text: u64) -> bool {
        self.calm || text % 13 != 5 + node as u64
    }

    fn happens(&mut self, what: Happens) {
        self.record(|| format!("{what:?}"));
        match what {
            Happens::Edit(node) if self.nodes[node].alive => self.edit(node),
            Happens::Read(node, thinks) if self.nodes[node].alive => {
                self.texts += 1;
                let n = &self.nodes[node];
                let based = Happens::Based { node, base: n.revision, from: n.past.id(), text: self.texts };
                self.at(self.now + thinks, based);
            }
            Happens::Based { node, base, from, text } if self.nodes[node].alive => {
                let is_other = self.nodes[node].past.id() != from;
                self.ask_for(node, text, true, Some((base, is_other)));
            }
            Happens::Read(..) | Happens::Based { .. } => {}
            Happens::Disk(node, works) => self.nodes[node].has_disk = works,
            Happens::Restore(node) if self.nodes[node].alive => self.restore(node),
            Happens::Restore(_) => {}
            Happens::ByHand(node) if self.nodes[node].alive && self.nodes[node].has_disk => {
                self.texts += 1;
                let text = self.texts;
                if self.can_run(node, text) {
                    self.by_hand.push(self.nodes[node].past.next(text));
                    self.run_text(node, text, 0);
                    self.say_hello(node);
                    self.compare(node);
                }
            }
            Happens::Edit(_) | Happens::ByHand(_) => {}
            Happens::Kill(node) => self.kill(node),
            Happens::Start(node) => {
                let restarted = !std::mem::replace(&mut self.nodes[node].alive, true);
                let when = self.now + 20 + self.chance.below(300);
                if restarted {
                    self.at(when, Happens::Connect);
                }
            }
            Happens::Break => self.cut(),
            Happens::Connect if self.session.is_none() && self.nodes.iter().all(|n| n.alive) => {
                self.sessions += 1;
                let session = self.sessions;
                self.session = Some(session);
                for node in 0..2 {
                    let when = self.now + 1 + self.chance.below(50);
                    self.arrives[node] = self.now;
                    self.at(when, Happens::Up(node, session));
                }
            }
            Happens::Connect => {}
            Happens::Up(node, session) => self.up(node, session),
            Happens::Down(node, session) => {
                if self.nodes[node].session == Some(session) {
                    self.down(node);
                }
            }
            Happens::Role(node, active) => self.nodes[node].active = active,
            Happens::Tick(node) => {
                if self.now + TICK <= END {
                    self.at(self.now + TICK, Happens::Tick(node));
                }
                let now = self.now;
                if let Some(settled) = self.nodes[node].agreement.tick(now) {
                    self.settle(node, settled);
                }
                let n = &mut self.nodes[node];
                let talks = self.disks_fail && n.alive && n.session.is_some();
                if talks && n.agreement.is_due_again(&n.past, now) {
                    self.compare(node);
                }
            }
        }
    }

    /// What is on its disk is left.
    fn kill(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        if let Some((_, ticket)) = n.own {
            self.tickets[ticket].died = true;
        }
        (n.alive, n.session, n.own, n.prepared) = (false, None, None, None);
        (n.past, n.revision) = n.stored.clone();
        n.agreement = Agreement::default();
        self.cut();
    }

    fn up(&mut self, node: usize, session: u64) {
        if self.session == Some(session) && self.nodes[node].alive {
            if self.nodes[node].session.is_some() {
                self.down(node);
            }
            self.nodes[node].session = Some(session);
            self.nodes[node].agreement.on_link_up();
            self.say_hello(node);
            self.compare(node);
        }
    }

    /// The connection breaks; each side notices in its own time.
    fn cut(&mut self) {
        let Some(session) = self.session.take() else { return };
        for node in 0..2 {
            let when = self.now + 1 + self.chance.below(1_500);
            self.at(when, Happens::Down(node, session));
        }
        let again = self.now + 1_600 + self.chance.below(1_000);
        self.at(again, Happens::Connect);
    }

    fn down(&mut self, node: usize) {
        self.nodes[node].session = None;
        self.nodes[node].prepared = None;
        if let Some(settled) = self.nodes[node].agreement.on_link_down() {
            self.settle(node, settled);
        }
    }

    fn settle(&mut self, node: usize, settled: Settled) {
        let answer = if settled == Settled::Done { Answer::Here } else { Answer::Refused };
        self.answer(node, answer);
    }

    fn answer(&mut self, node: usize, answer: Answer) {
        if let Some((_, ticket)) = self.nodes[node].own.take() {
            self.acknowledge(node, ticket, answer);
            self.tickets[ticket].answered = self.now;
            self.record(|| format!("node {node}: commit {ticket}: {answer:?}"));
        }
    }

    /// Whoever asked is told. What is acknowledged outlives the process.
    fn acknowledge(&mut self, node: usize, ticket: usize, answer: Answer) {
        self.tickets[ticket].answer = Some(answer);
        let n = &self.nodes[node];
        if answer != Answer::Refused && n.stored.0.id() != n.past.id() {
            self.wrong = Some(format!("commit {ticket} was acknowledged, and is on no disk"));
        }
    }

    /// What runs is written down; what was promised before has its place on the disk already.
    fn store(&mut self, node: usize, has_place: bool) {
        let n = &mut self.nodes[node];
        if n.has_disk || has_place {
            n.stored = (n.past.clone(), n.revision);
        }
    }

    fn restore(&mut self, node: usize) {
        let n = &self.nodes[node];
        let (active, linked) = (n.active, n.session.is_some());
        let text = n.kept[self.chance.below(n.kept.len() as u64) as usize];
        if admits_backup(active, linked).is_ok() {
            if !active && linked {
                self.wrong =
                    Some("a backup on the passive node has replaced what the active one runs".into());
            }
            self.ask_for(node, text, false, None);
        } else if active || !linked {
            self.wrong = Some("a backup was refused, for no reason".into());
        }
    }

    fn say(&mut self, from: usize, say: Say) {
        let Some(session) = self.nodes[from].session else { return };
        let to = 1 - from;
        self.record(|| format!("node {from} says {say:?}"));
        self.talk += 1;
        if self.session != Some(session) {
            return;
        }
        let slow = if !self.calm && self.chance.percent(5) { 3_500 } else { 20 };
        let when = (self.now + 1 + self.chance.below(slow)).max(self.arrives[to]) + 1;
        self.arrives[to] = when;
        self.push(when, Event::Arrives { to, session, say });
    }

    fn say_hello(&mut self, node: usize) {
        let n = &self.nodes[node];
        let say = Say::Hello { stand: n.past.head(n.revision), way: n.past.lineage().clone() };
        self.say(node, say);
    }

    fn say_configuration(&mut self, node: usize, forced: bool) {
        let n = &self.nodes[node];
        let (stand, way, text) = (n.past.head(n.revision), n.past.lineage().clone(), n.past.text());
        self.say(node, Say::Configuration { stand, way, text, forced });
    }

    /// Makes a text the running one, if this machine can.
    fn run_text(&mut self, node: usize, text: u64, at_least: u64) -> bool {
        if !self.can_run(node, text) {
            return false;
        }
        let n = &mut self.nodes[node];
        n.past.run(text);
        n.kept.push(text);
        n.revision = (n.revision + 1).max(at_least);
        self.store(node, false);
        true
    }

    fn compare(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        let greeted = n.agreement.compare(&n.past);
        self.greet(node, greeted);
    }

    fn greet(&mut self, node: usize, greeted: Greeted) {
        if self.relation(node) == Relation::SameTextOtherHistory {
            self.twins = true;
        }
        match greeted {
            Greeted::Send => self.say_configuration(node, false),
            Greeted::Adopt => {
                let n = &mut self.nodes[node];
                let (way, text) = (n.agreement.peers_lineage(), n.past.text());
                n.past.adopt(&way, text);
                self.store(node, false);
                self.say_hello(node);
            }
            Greeted::Nothing | Greeted::Differs => {}
        }
    }

    fn edit(&mut self, node: usize) {
        // Now and then back to what was there before.
        let fresh = !self.chance.percent(25);
        let text = if fresh {
            self.texts += 1;
            self.texts
        } else {
            let kept = &self.nodes[node].kept;
            kept[self.chance.below(kept.len() as u64) as usize]
        };
        self.ask_for(node, text, fresh, None);
    }

    /// `base`: the revision that it was made for, and whether another step runs by now.
    fn ask_for(&mut self, node: usize, text: u64, fresh: bool, base: Option<(u64, bool)>) {
        let ticket = self.tickets.len();
        let (step, now) = (self.nodes[node].past.next(text), self.now);
        let is_other = base.is_some_and(|base| base.1);
        self.tickets.push(Ticket {
            text,
            fresh,
            step,
            asked: now,
            answered: now,
            answer: None,
            died: false,
            // The same text committed once more is another revision.
            excused: base.is_some_and(|base| base.0 != self.nodes[node].revision)
                || !self.nodes[node].has_disk,
        });
        let request = CommitRequest { base: base.map(|base| base.0), running: self.nodes[node].revision };
        let (usable, storable) = (self.can_run(node, text), self.nodes[node].has_disk);
        let check = |holds: bool| if holds { Ok(()) } else { Err(()) };
        if request.admit(|| check(usable), || check(storable)).is_err() {
            return self.acknowledge(node, ticket, Answer::Refused);
        }
        if is_other && !self.twins {
            self.wrong = Some("what somebody else had changed meanwhile was overwritten".into());
        }
        let n = &mut self.nodes[node];
        match n.agreement.begin(&n.past, n.session.is_some(), now) {
            Begin::Busy => self.acknowledge(node, ticket, Answer::Refused),
            Begin::Alone => {
                self.run_text(node, text, 0);
                self.acknowledge(node, ticket, Answer::Here);
                self.say_hello(node);
                self.compare(node);
            }
            Begin::Ask { id } => {
                n.own = Some((id, ticket));
                let base = n.agreement.base(&n.past);
                self.say(node, Say::Ask { id, base, text });
            }
        }
    }

    fn on_ask(&mut self, to: usize, id: u64, base: u64, text: u64) {
        let now = self.now;
        let n = &mut self.nodes[to];
        let asked = n.agreement.on_ask(&n.past, n.active, id, base, now);
        if asked == (CommitReply::Yes { gave_up: true }) {
            self.answer(to, Answer::Refused);
        }
        let mut refused = !matches!(asked, CommitReply::Yes { .. });
        let tried = self.can_run(to, text) || !self.chance.percent(70);
        let could = tried && self.nodes[to].has_disk;
        if !refused && !could {
            self.nodes[to].agreement.withdraw(id);
            refused = true;
            if let Some((_, ticket)) = self.nodes[1 - to].own {
                self.tickets[ticket].excused |= !self.nodes[to].has_disk;
            }
        }
        if !refused {
            self.nodes[to].prepared = Some((id, text));
        }
        self.say(to, Say::Answer { id, refused });
    }

    fn arrives(&mut self, to: usize, session: u64, say: Say) {
        // The first words may come before this side knows that the link is up: it cannot answer then.
        if self.session != Some(session) || !self.nodes[to].alive {
            return;
        }
        if self.nodes[to].session.is_some_and(|known| known != session) {
            self.down(to);
        }
        self.record(|| format!("node {to} hears {say:?}"));
        let now = self.now;
        match say {
            Say::Hello { stand, way } => {
                let n = &mut self.nodes[to];
                let greeted = n.agreement.on_hello(&n.past, stand, way);
                self.greet(to, greeted);
            }
            Say::Configuration { stand, way, text, forced } => {
                let n = &mut self.nodes[to];
                if n.agreement.on_configuration(&n.past, stand, way.clone(), forced) {
                    if self.nodes[to].has_disk && self.run_text(to, text, stand.revision) {
                        self.nodes[to].past.adopt(&way, text);
                        self.store(to, false);
                    }
                    self.say_hello(to);
                }
            }
            Say::Ask { id, base, text } => self.on_ask(to, id, base, text),
            Say::Answer { id, refused } => {
                let n = &mut self.nodes[to];
                match n.agreement.on_answer(&n.past, id, refused, now) {
                    Answered::Late => {}
                    Answered::GiveUp | Answered::Changed => self.answer(to, Answer::Refused),
                    Answered::Commit => {
                        let text = n.own.map_or(0, |(_, ticket)| self.tickets[ticket].text);
                        // A disk may be full just now.
                        if (!self.calm && self.chance.percent(5)) || !self.run_text(to, text, 0) {
                            self.nodes[to].agreement.failed();
                            return self.answer(to, Answer::Refused);
                        }
                        self.store(to, true);
                        self.say(to, Say::Commit { id });
                        self.say_hello(to);
                    }
                }
            }
            Say::Commit { id } => {
                let n = &mut self.nodes[to];
                let followed = n.agreement.on_commit(&n.past, id).is_ok();
                let text = n.prepared.take_if(|(prepared, _)| *prepared == id).map(|(_, text)| text);
                let failed = !followed || !text.is_some_and(|text| self.run_text(to, text, 0));
                if !failed {
                    self.store(to, true);
                    let n = &mut self.nodes[to];
                    n.agreement.followed(&n.past);
                }
                self.say(to, Say::Committed { id, failed });
                self.say_hello(to);
            }
            Say::Committed { id, failed } => {
                let n = &mut self.nodes[to];
                if n.agreement.on_committed(&n.past, id, failed) {
                    self.answer(to, if failed { Answer::Here } else { Answer::Both });
                }
            }
        }
    }
}
