//! Buffers of a loop, held only while bytes are in flight.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use evenkeel_http::memory::MemoryBudget;

/// Room in front of what is read, so that a head can grow in place.
pub const HEADROOM: usize = 1024;
/// Bytes one buffer takes from a socket at most.
pub const CAPACITY: usize = 16 * 1024;

/// Keeps the busy first bytes of neighbouring blocks out of the same cache sets.
const STAGGER: usize = 64;

/// The buffers of one loop: a bound on how many there are, and the unused ones.
pub struct BufferPool {
    unused: RefCell<Vec<Box<[u8]>>>,
    /// The fewest unused blocks since [`Self::rest`].
    fewest: Cell<usize>,
    /// Shared with the streams of HTTP/2, whose bytes count like buffers.
    memory: Rc<MemoryBudget>,
    /// See [`Self::is_filling`].
    filling_from: usize,
}

/// One block.
const BLOCK: usize = HEADROOM + CAPACITY + STAGGER;

/// Bytes between two marks of a block of memory. Gives the block back when dropped.
///
/// The block has one size, but for bytes that wait ([`Self::shrink`]) and for long heads ([`Self::widen`]).
pub struct Buffer {
    block: Box<[u8]>,
    start: usize,
    end: usize,
    pool: &'static BufferPool,
}

impl BufferPool {
    /// How many unused blocks are kept for the next burst: one for each session that rests. A block that is made
    /// anew is 17 KB to clear.
    const KEPT: usize = 1024;

    pub fn leak(memory: u64) -> &'static BufferPool {
        let limit = (memory as usize / BLOCK).max(16);
        let memory = Rc::new(MemoryBudget::new(limit * BLOCK));
        let filling_from = limit * BLOCK / 16;
        let pool = BufferPool { unused: RefCell::default(), fewest: Cell::new(0), memory, filling_from };
        Box::leak(Box::new(pool))
    }

    /// A buffer for a new request: an eighth of all is kept for work that has begun.
    pub fn get_for_new(&'static self) -> Option<Buffer> {
        if self.memory.refuses_new() { None } else { self.get() }
    }

    /// A sixteenth of the memory is in use: so many are at work that whoever waits holds no more than its
    /// bytes need from the beginning.
    pub fn is_filling(&self) -> bool {
        self.memory.used() >= self.filling_from
    }

    /// The budget that buffers and streams share.
    pub fn memory(&self) -> &Rc<MemoryBudget> {
        &self.memory
    }

    /// An empty buffer; `None` when the memory bound is reached.
    pub fn get(&'static self) -> Option<Buffer> {
        if self.memory.is_full() {
            return None;
        }
        self.memory.take(BLOCK);
        let mut unused = self.unused.borrow_mut();
        let block = unused.pop();
        self.fewest.set(self.fewest.get().min(unused.len()));
        drop(unused);
        let block = block.unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice());
        Some(Buffer { block, start: HEADROOM, end: HEADROOM, pool: self })
    }

    fn put_back(&self, block: Box<[u8]>) {
        self.memory.give_back(block.len());
        let mut unused = self.unused.borrow_mut();
        if block.len() == BLOCK && unused.len() < BufferPool::KEPT {
            unused.push(block);
        }
    }

    /// Frees half of the blocks that nobody has used since the last time: memory goes back after a peak.
    pub fn rest(&self) {
        let mut unused = self.unused.borrow_mut();
        let keep = unused.len() - self.fewest.get().min(unused.len()).div_ceil(2);
        unused.truncate(keep);
        self.fewest.set(keep);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.put_back(std::mem::take(&mut self.block));
    }
}

impl Buffer {
    pub fn bytes(&self) -> &[u8] {
        &self.block[self.start..self.end]
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Free room behind the bytes; [`Self::filled`] says how much of it was used.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.block[self.end..]
    }

    /// The same, for so many bytes at most.
    pub fn room_for(&mut self, most: usize) -> &mut [u8] {
        let room = self.room();
        let most = most.min(room.len());
        &mut room[..most]
    }

    pub fn is_full(&self) -> bool {
        self.block.len() >= BLOCK && self.end == self.block.len()
    }

    /// Holds no more memory than the bytes need, for those that wait long. There is no room until
    /// [`Self::grow`].
    pub fn shrink(&mut self) {
        if self.block.len() >= BLOCK {
            let small: Box<[u8]> = self.bytes().into();
            (self.start, self.end) = (0, small.len());
            self.pool.memory.take(small.len());
            self.pool.put_back(std::mem::replace(&mut self.block, small));
        }
    }

    /// Has a whole block again; `None` when the memory bound is reached.
    pub fn grow(&mut self) -> Option<&mut Buffer> {
        if self.block.len() != BLOCK {
            self.resize()?;
        }
        Some(self)
    }

    /// A whole block instead of a small one, or of a large one whose bytes have gone. What is longer than a block
    /// gets a large one.
    #[cold]
    fn resize(&mut self) -> Option<()> {
        if self.len() > CAPACITY {
            return if self.room().is_empty() { self.reserve(self.len() + CAPACITY) } else { Some(()) };
        }
        if self.block.len() < BLOCK || self.is_empty() {
            let mut whole = self.pool.get()?;
            whole.append(self.bytes());
            *self = whole;
        }
        Some(())
    }

    /// Has room for a head of at least twice as many bytes as it holds now, up to `most`. `None` where half of the
    /// memory is in use: the rest is for those who need less.
    pub fn widen(&mut self, most: usize) -> Option<()> {
        self.reserve((2 * self.len()).min(most))
    }

    /// Has room for so many bytes in all, where that is more than others need. `None` as in [`Self::widen`].
    fn reserve(&mut self, bytes: usize) -> Option<()> {
        if self.pool.memory.is_short() {
            return None;
        }
        let capacity = bytes.max(self.len()).max(CAPACITY);
        let mut block = vec![0; HEADROOM + capacity + STAGGER].into_boxed_slice();
        let end = HEADROOM + self.len();
        block[HEADROOM..end].copy_from_slice(self.bytes());
        self.pool.memory.take(block.len());
        self.pool.put_back(std::mem::replace(&mut self.block, block));
        (self.start, self.end) = (HEADROOM, end);
        Some(())
    }

    /// Whether it has no room for more of a head.
    pub fn holds_a_full_head(&self) -> bool {
        self.len() >= CAPACITY.max(self.block.len().saturating_sub(HEADROOM + STAGGER))
    }

    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.block.len());
    }

    /// Forgets the first bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    /// Forgets the last bytes.
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    /// Takes bytes out of the middle.
    pub fn cut_out(&mut self, range: std::ops::Range<usize>) {
        let end = range.end.min(self.len());
        if range.start < end {
            self.block.copy_within(self.start + end..self.end, self.start + range.start);
            self.end -= end - range.start;
        }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.block[self.start..self.end]
    }

    pub fn clear(&mut self) {
        let start = HEADROOM.min(self.block.len());
        (self.start, self.end) = (start, start);
    }

    /// Moves the bytes to the front, leaving the headroom, so that more can be read.
    pub fn compact(&mut self) {
        if self.start > HEADROOM {
            self.block.copy_within(self.start..self.end, HEADROOM);
            (self.start, self.end) = (HEADROOM, HEADROOM + self.len());
        }
    }

    /// [`Self::put_head`] where the block has room for it; whether it had. One that has grown
    /// beyond the headroom moves what follows it.
    fn replace_head(&mut self, old_len: usize, head: &[u8]) -> bool {
        let mut body = self.start + old_len.min(self.len());
        if head.len() > body {
            let more = head.len() - body;
            if self.end + more > self.block.len() {
                return false;
            }
            self.block.copy_within(body..self.end, body + more);
            self.end += more;
            body += more;
        }
        self.start = body - head.len();
        self.block[self.start..body].copy_from_slice(head);
        true
    }

    /// Puts a new head in place of the first `old_len` bytes, in a larger block where that is needed; whether there
    /// was memory for it.
    pub fn put_head(&mut self, old_len: usize, head: &[u8]) -> bool {
        self.replace_head(old_len, head)
            || (self.reserve(self.len() + head.len()).is_some() && self.replace_head(old_len, head))
    }

    /// Appends, in a larger block where that is needed; whether there was memory for it.
    pub fn put(&mut self, bytes: &[u8]) -> bool {
        self.append(bytes) || (self.reserve(self.len() + bytes.len()).is_some() && self.append(bytes))
    }

    /// Appends; whether it fitted.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let room = self.room();
        if bytes.len() > room.len() {
            return false;
        }
        room[..bytes.len()].copy_from_slice(bytes);
        self.filled(bytes.len());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_grow_and_shrink_in_place() {
        let pool = BufferPool::leak(1);
        let mut buffer = pool.get().unwrap();
        assert!(buffer.append(b"GET / HTTP/1.1\r\n\r\nbody"));
        assert!(buffer.replace_head(18, b"GET /longer HTTP/1.1\r\nA: b\r\n\r\n"));
        assert_eq!(buffer.bytes(), b"GET /longer HTTP/1.1\r\nA: b\r\n\r\nbody");
        assert!(buffer.replace_head(30, b"G\r\n\r\n"));
        assert_eq!(buffer.bytes(), b"G\r\n\r\nbody");
        assert!(buffer.replace_head(5, &[b'x'; 2 * HEADROOM]));
        assert_eq!(buffer.len(), 2 * HEADROOM + 4);
        assert!(!buffer.replace_head(2 * HEADROOM, &[b'x'; HEADROOM + CAPACITY + STAGGER]));
        buffer.consume(2 * HEADROOM);
        buffer.compact();
        assert_eq!(buffer.bytes(), b"body");
    }

    #[test]
    fn who_waits_holds_what_it_has() {
        let pool = BufferPool::leak(1);
        let mut buffer = pool.get().unwrap();
        assert!(buffer.append(b"GET / HTTP/1.1\r\nHost: "));
        buffer.consume(4);
        buffer.shrink();
        buffer.shrink();
        assert_eq!((buffer.bytes(), pool.memory.used()), (&b"/ HTTP/1.1\r\nHost: "[..], 18));
        assert!(buffer.room().is_empty() && !buffer.is_full() && !buffer.append(b"a"));
        assert!(buffer.grow().is_some_and(|b| b.append(b"a\r\n\r\n")));
        assert_eq!((buffer.bytes(), pool.memory.used()), (&b"/ HTTP/1.1\r\nHost: a\r\n\r\n"[..], BLOCK));
        buffer.consume(23);
        buffer.shrink();
        buffer.clear();
        buffer.compact();
        assert_eq!((buffer.len(), pool.memory.used()), (0, 0));
        assert!(buffer.grow().is_some_and(|b| b.replace_head(0, b"head")));
        buffer.shrink();
        drop(buffer);
        assert_eq!(pool.memory.used(), 0);
    }

    #[test]
    fn long_heads_grow_and_give_back() {
        let pool = BufferPool::leak(1 << 20);
        let mut buffer = pool.get().unwrap();
        let long: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let mut taken = 0;
        while taken < long.len() {
            let buffer = buffer.grow().unwrap();
            if buffer.holds_a_full_head() {
                buffer.widen(250_000).unwrap();
            }
            let room = buffer.room();
            let count = room.len().min(long.len() - taken).min(5_000);
            room[..count].copy_from_slice(&long[taken..taken + count]);
            buffer.filled(count);
            taken += count;
        }
        assert!(buffer.bytes() == long && buffer.block.len() < 2 * long.len());
        buffer.shrink();
        assert_eq!(pool.memory.used(), long.len());
        assert!(
            buffer
                .grow()
                .is_some_and(|b| b.bytes() == long && !b.room().is_empty() && b.put_head(1, &[b'x'; 9_000]))
        );
        // Once its bytes have gone it is like others.
        buffer.consume(usize::MAX);
        assert!(buffer.grow().is_some());
        assert_eq!(pool.memory.used(), BLOCK);
        // Half of the memory is there for others.
        buffer.append(&long[..CAPACITY]);
        let mut others: Vec<_> = std::iter::from_fn(|| pool.get()).take(30).collect();
        assert!(pool.memory.is_short() && buffer.widen(1 << 20).is_none());
        others.clear();
        assert!(buffer.widen(1 << 20).is_some());
        drop(buffer);
        assert_eq!(pool.memory.used(), 0);
    }

    #[test]
    fn unused_blocks_go_back() {
        let pool = BufferPool::leak(1 << 20);
        drop(std::iter::from_fn(|| pool.get()).take(40).collect::<Vec<_>>());
        let unused = || pool.unused.borrow().len();
        pool.rest();
        assert_eq!(unused(), 40, "they were used since the last time");
        let used: Vec<_> = std::iter::from_fn(|| pool.get()).take(10).collect();
        drop(used);
        pool.rest();
        assert_eq!(unused(), 25);
        for _ in 0..6 {
            pool.rest();
        }
        assert_eq!(unused(), 0);
    }

    /// Requests that come and go by hundreds clear no memory for each.
    #[test]
    fn a_burst_finds_the_blocks_of_the_last_one() {
        let pool = BufferPool::leak(64 << 20);
        let burst = || std::iter::from_fn(|| pool.get()).take(1_000).collect::<Vec<_>>();
        let place = |buffer: &Buffer| buffer.block.as_ptr();
        let first = burst();
        let mut places: Vec<_> = first.iter().map(place).collect();
        places.sort();
        drop(first);
        let mut again: Vec<_> = burst().iter().map(place).collect();
        again.sort();
        assert_eq!(again, places);
    }

    #[test]
    fn the_pool_is_bounded_and_reuses() {
        let pool = BufferPool::leak(1);
        let all: Vec<_> = std::iter::from_fn(|| pool.get()).collect();
        assert_eq!(all.len(), 16);
        drop(all);
        assert_eq!(pool.memory.used(), 0);
        assert!(pool.get().is_some_and(|b| b.is_empty()));
    }

    #[test]
    fn who_waits_holds_little_at_once_where_many_are_at_work() {
        let pool = BufferPool::leak(64 * BLOCK as u64);
        let mut all: Vec<_> = std::iter::from_fn(|| pool.get()).take(3).collect();
        assert!(!pool.is_filling());
        all.extend(pool.get());
        assert!(pool.is_filling());
        all.iter_mut().for_each(Buffer::shrink);
        assert!(!pool.is_filling());
    }
}
