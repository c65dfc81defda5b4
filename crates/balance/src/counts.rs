//! What is counted of one key of a table: totals, rates over a period, connections now. Time is an
//! argument.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    Connections,
    Requests,
    Errors,
    BytesIn,
    BytesOut,
    Failures,
    /// What routes count or keep themselves.
    Number1,
    Number2,
    Number3,
    Number4,
    Number5,
    Number6,
    Number7,
    Number8,
}

impl Counter {
    /// How many there are.
    pub const COUNT: usize = Counter::ALL.len();

    pub const ALL: [Counter; 14] = [
        Counter::Connections,
        Counter::Requests,
        Counter::Errors,
        Counter::BytesIn,
        Counter::BytesOut,
        Counter::Failures,
        Counter::Number1,
        Counter::Number2,
        Counter::Number3,
        Counter::Number4,
        Counter::Number5,
        Counter::Number6,
        Counter::Number7,
        Counter::Number8,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Counter::Connections => "connections",
            Counter::Requests => "requests",
            Counter::Errors => "errors",
            Counter::BytesIn => "bytes-in",
            Counter::BytesOut => "bytes-out",
            Counter::Failures => "failures",
            Counter::Number1 => "number-1",
            Counter::Number2 => "number-2",
            Counter::Number3 => "number-3",
            Counter::Number4 => "number-4",
            Counter::Number5 => "number-5",
            Counter::Number6 => "number-6",
            Counter::Number7 => "number-7",
            Counter::Number8 => "number-8",
        }
    }

    pub fn parse(word: &str) -> Option<Counter> {
        Counter::ALL.into_iter().find(|c| c.as_str() == word)
    }

    /// What routes count themselves, from 1 to 8.
    pub fn number(number: u8) -> Counter {
        Counter::ALL[(Counter::Number1 as usize + usize::from(number.clamp(1, 8))) - 1]
    }
}

/// What one key has done: totals, rates over the table's period, connections now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    pub totals: [u64; Counter::COUNT],
    pub rates: [u64; Counter::COUNT],
    pub current: u32,
}

/// What conditions ask of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Connections or requests now.
    Current,
    Total(Counter),
    /// Over the table's period.
    Rate(Counter),
}

/// Counts of a span of time, so that a rate needs neither a list nor a timer: what the present
/// span has, and the share of the last one that still lies within a period.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    pub start_ms: u64,
    pub now: u64,
    pub before: u64,
}

impl Rate {
    fn turn(&mut self, now_ms: u64, period_ms: u64) {
        let age = now_ms.saturating_sub(self.start_ms);
        if age >= 2 * period_ms {
            *self = Rate { start_ms: now_ms, now: 0, before: 0 };
        } else if age >= period_ms {
            *self = Rate { start_ms: self.start_ms + period_ms, now: 0, before: self.now };
        }
    }

    pub fn add(&mut self, amount: u64, now_ms: u64, period_ms: u64) {
        self.turn(now_ms, period_ms);
        self.now = self.now.saturating_add(amount);
    }

    pub fn get(mut self, now_ms: u64, period_ms: u64) -> u64 {
        self.turn(now_ms, period_ms);
        let left = period_ms.saturating_sub(now_ms.saturating_sub(self.start_ms));
        let share = u128::from(self.before) * u128::from(left) / u128::from(period_ms.max(1));
        self.now.saturating_add(share as u64)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct CounterCell {
    pub total: u64,
    pub rate: Rate,
}

/// What is counted of a key: cells of those counters alone that have counted something, in their order.
#[derive(Debug, Default)]
pub struct Counts {
    /// Something was counted, were it nothing.
    pub any: bool,
    /// A bit for each counter that has a cell.
    has: u16,
    pub current: u32,
    pub cells: Box<[CounterCell]>,
}

const _: () = assert!(Counter::COUNT <= u16::BITS as usize);

impl Counts {
    /// Nothing but connections that are still to be counted out.
    pub fn of_current(current: u32) -> Counts {
        Counts { any: current > 0, current, ..Counts::default() }
    }

    pub const fn bit(what: usize) -> u16 {
        1 << what
    }

    /// Where the cell of a counter is, or would be.
    fn place(&self, what: usize) -> usize {
        (self.has & (Counts::bit(what) - 1)).count_ones() as usize
    }

    pub fn get(&self, what: usize) -> CounterCell {
        self.cells.get(self.place(what)).filter(|_| self.has(what)).copied().unwrap_or_default()
    }

    /// Makes cells for counters that have none, in one piece of memory.
    pub fn make(&mut self, wanted: u16) {
        self.any = true;
        if wanted & !self.has == 0 {
            return;
        }
        let all = self.has | wanted;
        let numbers = (0..Counter::COUNT).filter(|what| all & Counts::bit(*what) != 0);
        let mut cells = Vec::with_capacity(all.count_ones() as usize);
        cells.extend(numbers.map(|what| self.get(what)));
        self.cells = cells.into_boxed_slice();
        self.has = all;
    }

    pub fn has(&self, what: usize) -> bool {
        self.has & Counts::bit(what) != 0
    }

    /// The cell of a counter, made where there is none.
    pub fn cell(&mut self, what: usize) -> Option<&mut CounterCell> {
        self.make(Counts::bit(what));
        let place = self.place(what);
        self.cells.get_mut(place)
    }
}
