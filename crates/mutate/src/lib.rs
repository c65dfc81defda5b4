//! Runs fuzz targets with seeded mutations of a small corpus, on a stable toolchain.
//!
//! In: a target written with [`fuzz_target!`], example inputs, a number of runs or a time. Out: a
//! panic of the target, preceded by the seed and the input that caused it. Never: coverage feedback;
//! for that the same targets run under libFuzzer (`make fuzz` with a nightly toolchain).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Longest input, in bytes.
const INPUT_AT_MOST: usize = 4096;

/// What a target takes; made from any bytes.
pub trait Input<'a>: Sized {
    /// `None` if these bytes are no such input (text that is not UTF-8).
    fn from_bytes(bytes: &'a [u8]) -> Option<Self>;
}

impl<'a> Input<'a> for &'a [u8] {
    fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        Some(bytes)
    }
}

impl<'a> Input<'a> for &'a str {
    fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()
    }
}

/// The first byte, and the rest.
impl Input<'_> for (u8, Vec<u8>) {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        Some((*first, rest.to_vec()))
    }
}

/// Defines a target as libFuzzer's macro of this name does, as a function `run` over bytes.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: $kind:ty| $body:expr) => {
        /// Runs the target once.
        pub fn run(bytes: &[u8]) {
            fn body($input: $kind) {
                $body
            }
            if let Some(input) = <$kind as $crate::Input>::from_bytes(bytes) {
                body(input);
            }
        }
    };
}

/// xorshift64*: small and reproducible (Vigna, "An experimental exploration of Marsaglia's xorshift
/// generators, scrambled", 2016).
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// Any seed but zero gives its own sequence.
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`; 0 for a bound of 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound.max(1)
    }
}

/// Bytes that parsers treat specially.
const SPECIAL: &[u8] = b"\0\t\n\r \"%+,-./0:;<=>?@[\\]{|}\x7f\x80\xff";

/// One change of an input: bits, bytes, numbers, pieces moved, repeated, cut or taken from another.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len());
    let length = random.below(16) + 1;
    let end = (at + length).min(bytes.len());
    match random.below(9) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
        2 => bytes.insert(at, SPECIAL[random.below(SPECIAL.len())]),
        3 if !bytes.is_empty() => bytes[at] = SPECIAL[random.below(SPECIAL.len())],
        4 => drop(bytes.drain(at..end)),
        5 => {
            let piece = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            for _ in 0..=random.below(4) {
                bytes.splice(to..to, piece.iter().copied());
            }
        }
        6 if !other.is_empty() => {
            let from = random.below(other.len());
            let to = (from + random.below(64) + 1).min(other.len());
            bytes.splice(at..at, other[from..to].iter().copied());
        }
        7 => bytes.truncate(at),
        // A number at the edge of its range, big-endian.
        _ => {
            let number = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, u64::MAX][random.below(9)];
            let width = 1 << random.below(4);
            for (byte, new) in bytes[at..].iter_mut().zip(&number.to_be_bytes()[8 - width..]) {
                *byte = *new;
            }
        }
    }
    bytes.truncate(INPUT_AT_MOST);
}

/// How long a target runs.
#[derive(Clone, Copy, Debug)]
pub enum Effort {
    Runs(u64),
    Time(Duration),
}

/// `EVENKEEL_FUZZ_SECONDS`, or else a number of runs that takes a second or so.
pub fn effort(runs: u64) -> Effort {
    match std::env::var("EVENKEEL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()) {
        Some(seconds) => Effort::Time(Duration::from_secs(seconds)),
        None => Effort::Runs(runs),
    }
}

/// `EVENKEEL_FUZZ_SEED`, or else 1: a run can be repeated.
pub fn seed() -> u64 {
    std::env::var("EVENKEEL_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Runs a target over the examples, then over mutations of them; returns how many inputs it took.
///
/// # Panics
/// With the target's own panic, after printing the seed and the input.
pub fn drive(examples: &[&[u8]], seed: u64, effort: Effort, target: fn(&[u8])) -> u64 {
    let begun = Instant::now();
    let mut random = Random::new(seed);
    let mut corpus: Vec<Vec<u8>> = examples.iter().map(|example| example.to_vec()).collect();
    corpus.push(Vec::new());
    for example in &corpus {
        once(example, seed, target);
    }
    let mut runs = corpus.len() as u64;
    loop {
        match effort {
            Effort::Runs(count) if runs >= count => return runs,
            Effort::Time(time) if begun.elapsed() >= time => return runs,
            _ => {}
        }
        let mut bytes = corpus[random.below(corpus.len())].clone();
        let other = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(6) {
            mutate(&mut bytes, &other, &mut random);
        }
        once(&bytes, seed, target);
        runs += 1;
        // Without coverage there is no telling which input was interesting: some are kept by chance.
        if random.below(64) == 0 && !bytes.is_empty() {
            let place = examples.len() + 1 + random.below(64);
            match corpus.get_mut(place) {
                Some(kept) => *kept = bytes,
                None => corpus.push(bytes),
            }
        }
    }
}

fn once(bytes: &[u8], seed: u64, target: fn(&[u8])) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        eprintln!("seed {seed}, input {:?}", bytes.escape_ascii().to_string());
        resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_behind_two_bytes_is_found() {
        let found = catch_unwind(|| {
            drive(&[b"GET / HTTP/1.1"], 1, Effort::Runs(200_000), |bytes| {
                assert!(!(bytes.starts_with(b"GET") && bytes.contains(&0) && bytes.contains(&b'%')));
            })
        });
        assert!(found.is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let inputs = |seed| {
            let mut random = Random::new(seed);
            let mut bytes = b"some example".to_vec();
            (0..100).for_each(|_| mutate(&mut bytes, b"another", &mut random));
            bytes
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(9));
    }
}
