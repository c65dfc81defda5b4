//! Two nodes that are edited, on a link that breaks, with deaths and changes of role. Everything
//! follows from a seed. In the end both run the same, or both say that they differ.
//!
//! This file is compiled once with the true rules beside it, and once for each mutant of them. What
//! a node does with the rules' answers is what the daemon does (`control/sync.rs`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::agreement::{Agreement, Answered, Begin, CommitReply, Greeted, Relation, Settled};
use super::chance::Chance;
use super::past::{Head, Lineage, Past};
use super::world::Broken;

type Millis = u64;

const FAULTS_END: Millis = 20_000;
const END: Millis = FAULTS_END + 12_000;
/// Messages of a world: more would be two nodes that never come to rest.
const TALK_AT_MOST: usize = 400;
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
}

struct Node {
    alive: bool,
    active: bool,
    // What a crash leaves.
    past: Past,
    revision: u64,
    /// Texts that it has run.
    kept: Vec<u64>,
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
        self.at(FAULTS_END, Happens::Start(0));
        self.at(FAULTS_END, Happens::Start(1));
        self.at(FAULTS_END + 1, Happens::Connect);
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
                Some(Answer::Refused) if self.calm && !self.was_in_the_way(ticket) => {
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
    /// the same time that went on.
    fn was_in_the_way(&self, refused: &Ticket) -> bool {
        let overlaps = |other: &&Ticket| {
            other.answer == Some(Answer::Both)
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
            Happens::ByHand(node) if self.nodes[node].alive => {
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
            Happens::Kill(node) => {
                let n = &mut self.nodes[node];
                if let Some((_, ticket)) = n.own {
                    self.tickets[ticket].died = true;
                }
                (n.alive, n.session, n.own, n.prepared) = (false, None, None, None);
                n.agreement = Agreement::default();
                self.cut();
            }
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
            Happens::Up(node, session) => {
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
            }
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
            self.tickets[ticket].answer = Some(answer);
            self.tickets[ticket].answered = self.now;
            self.record(|| format!("node {node}: commit {ticket}: {answer:?}"));
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
        let ticket = self.tickets.len();
        let step = self.nodes[node].past.next(text);
        let now = self.now;
        self.tickets.push(Ticket { text, fresh, step, asked: now, answered: now, answer: None, died: false });
        if !self.can_run(node, text) {
            self.tickets[ticket].answer = Some(Answer::Refused);
            return;
        }
        let n = &mut self.nodes[node];
        match n.agreement.begin(&n.past, n.session.is_some(), now) {
            Begin::Busy => self.tickets[ticket].answer = Some(Answer::Refused),
            Begin::Alone => {
                self.run_text(node, text, 0);
                self.tickets[ticket].answer = Some(Answer::Here);
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
                    if self.run_text(to, text, stand.revision) {
                        self.nodes[to].past.adopt(&way, text);
                    }
                    self.say_hello(to);
                }
            }
            Say::Ask { id, base, text } => {
                let n = &mut self.nodes[to];
                let asked = n.agreement.on_ask(&n.past, n.active, id, base, now);
                if asked == (CommitReply::Yes { gave_up: true }) {
                    self.answer(to, Answer::Refused);
                }
                let mut refused = !matches!(asked, CommitReply::Yes { .. });
                if !refused && !self.can_run(to, text) && self.chance.percent(70) {
                    self.nodes[to].agreement.withdraw(id);
                    refused = true;
                }
                if !refused {
                    self.nodes[to].prepared = Some((id, text));
                }
                self.say(to, Say::Answer { id, refused });
            }
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
