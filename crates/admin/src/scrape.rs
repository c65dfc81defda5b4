//! Answers with metrics on their way: bounded in bytes, since each is as long as the configuration is large
//! and whoever may read metrics need not read them.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};

/// All such answers together. A single one is let through whatever its length.
const BYTES_AT_MOST: usize = 64 << 20;
/// What a connection is given at a time.
const PART: usize = 64 << 10;

pub static SCRAPES: Scrapes = Scrapes::new(BYTES_AT_MOST);

pub struct Scrapes {
    most: usize,
    under_way: AtomicUsize,
    /// The length of the last answer, as which the next one counts before it is there.
    last: AtomicUsize,
}

impl Scrapes {
    const fn new(most: usize) -> Scrapes {
        Scrapes { most, under_way: AtomicUsize::new(0), last: AtomicUsize::new(1) }
    }

    /// A place for an answer, before anybody works for it.
    pub fn begin(&'static self) -> Option<ScrapeSlot> {
        let bytes = self.last.load(Relaxed).max(1);
        let with = |used: usize| (used == 0 || used + bytes <= self.most).then_some(used + bytes);
        self.under_way.fetch_update(Relaxed, Relaxed, with).ok()?;
        Some(ScrapeSlot { all: self, bytes })
    }
}

pub struct ScrapeSlot {
    all: &'static Scrapes,
    bytes: usize,
}

impl ScrapeSlot {
    pub fn with(mut self, text: String) -> Text {
        self.all.last.store(text.len(), Relaxed);
        self.all.under_way.fetch_add(text.len(), Relaxed);
        self.all.under_way.fetch_sub(std::mem::replace(&mut self.bytes, text.len()), Relaxed);
        Text { rest: text.into(), _place: self }
    }
}

impl Drop for ScrapeSlot {
    fn drop(&mut self) {
        self.all.under_way.fetch_sub(self.bytes, Relaxed);
    }
}

/// The body of an answer, which has its place until it is sent.
pub struct Text {
    rest: Bytes,
    _place: ScrapeSlot,
}

impl Body for Text {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let count = self.rest.len().min(PART);
        Poll::Ready((count > 0).then(|| Ok(Frame::data(self.rest.split_to(count)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_long_answers_or_many_short_ones_are_under_way() {
        static ALL: Scrapes = Scrapes::new(100);
        let text = |length: usize| ALL.begin().map(|place| place.with("x".repeat(length)));
        let first = text(1000).expect("one is let through");
        assert!(ALL.begin().is_none(), "beside it there is no room");
        drop(first);
        // The next counts as long as the last was, until it is known.
        let short = text(10).unwrap();
        let others: Vec<Text> = std::iter::from_fn(|| text(10)).collect();
        assert_eq!(others.len(), 9);
        drop((short, others));
        assert_eq!(ALL.under_way.load(Relaxed), 0);
    }
}
