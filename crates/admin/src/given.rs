//! Bodies on their way: those that come have to come on, those that go are cut into small parts, so that
//! it is seen whether their client takes them.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::connected::UnderWay;
use crate::live::WatcherSlot;

/// How long a part of a request's body may be waited for.
const SILENT: Duration = Duration::from_secs(10);
/// How long a whole one may take: 256 MiB at 4 Mbit/s.
const WHOLE: Duration = Duration::from_secs(540);
/// Larger parts of answers are cut.
const PART: usize = 16 << 10;

/// The body of a request.
pub struct Coming {
    body: Body,
    /// Whoever sent the head may still do what it asks for.
    still: Box<dyn Fn() -> bool + Send + Sync>,
    until: Instant,
    silent: Duration,
    patience: Pin<Box<Sleep>>,
}

impl Coming {
    /// `still` is asked with each part: who is removed while a body comes does nothing by it any more.
    pub fn of(body: Body, still: impl Fn() -> bool + Send + Sync + 'static) -> Body {
        let until = Instant::now() + WHOLE;
        let still = Box::new(still);
        Body::new(Coming { body, still, until, silent: SILENT, patience: Box::pin(sleep(SILENT)) })
    }
}

impl HttpBody for Coming {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(_) if !(self.still)() => {
                let ended = std::io::Error::new(
                    std::io::ErrorKind::PermissionDenied,
                    "the sender's rights have ended",
                );
                Poll::Ready(Some(Err(axum::Error::new(ended))))
            }
            Poll::Ready(frame) => {
                let next = (Instant::now() + self.silent).min(self.until);
                self.patience.as_mut().reset(next);
                Poll::Ready(frame)
            }
            Poll::Pending => self.patience.as_mut().poll(context).map(|()| {
                let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "the body came too slowly");
                Some(Err(axum::Error::new(late)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        HttpBody::size_hint(&self.body)
    }
}

/// The body of an answer, with what it holds until it has been given.
pub struct Going {
    body: Body,
    /// Of a part that was too large.
    rest: Bytes,
    under_way: Option<UnderWay>,
    _place: Option<WatcherSlot>,
}

impl Going {
    pub fn of(body: Body, under_way: Option<UnderWay>, place: Option<WatcherSlot>) -> Body {
        if let Some(under_way) = &under_way {
            under_way.is_ready();
        }
        Body::new(Going { body, rest: Bytes::new(), under_way, _place: place })
    }

    fn part(&mut self) -> Frame<Bytes> {
        let part = self.rest.split_to(self.rest.len().min(PART));
        // A copy, so that what waits for the client does not hold the whole.
        Frame::data(if self.rest.is_empty() { part } else { Bytes::copy_from_slice(&part) })
    }
}

impl HttpBody for Going {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = match self.rest.is_empty() {
            false => Poll::Ready(Some(Ok(self.part()))),
            true => Pin::new(&mut self.body).poll_frame(context),
        };
        let polled = match polled {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) if data.len() > PART => {
                    self.rest = data;
                    self.part()
                }
                Ok(data) => Frame::data(data),
                Err(other) => other,
            }))),
            other => other,
        };
        if let Some(under_way) = &self.under_way {
            match &polled {
                Poll::Ready(_) => under_way.is_ready(),
                Poll::Pending => under_way.is_waited_for(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = HttpBody::size_hint(&self.body);
        let rest = self.rest.len() as u64;
        match inner.exact() {
            Some(exact) => SizeHint::with_exact(exact + rest),
            None => inner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connected::Conversation;

    #[tokio::test]
    async fn answers_go_in_small_parts_and_are_whole() {
        let text = "0123456789".repeat(10_000);
        let conversation = Conversation::default();
        let mut body = Going::of(Body::from(text.clone()), Some(conversation.begin()), None);
        let later = std::time::Instant::now() + Duration::from_secs(60);
        conversation.prove();
        assert!(conversation.is_over(later), "nobody takes it");
        assert_eq!(HttpBody::size_hint(&body).exact(), Some(100_000));
        let mut got = Vec::new();
        while let Some(frame) = std::future::poll_fn(|c| Pin::new(&mut body).poll_frame(c)).await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= PART);
            got.extend_from_slice(&data);
            assert_eq!(HttpBody::size_hint(&body).exact(), Some((100_000 - got.len()) as u64));
        }
        assert!(got == text.as_bytes());
        drop(body);
        assert!(!conversation.is_over(later), "it has been given");
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_is_an_error() {
        let silent = Duration::from_millis(20);
        let (until, patience) = (Instant::now() + WHOLE, Box::pin(sleep(silent)));
        let mut body = Body::new(Coming {
            body: Body::new(Endless(0)),
            still: Box::new(|| true),
            until,
            silent,
            patience,
        });
        let mut parts = 0;
        let error = loop {
            match std::future::poll_fn(|c| Pin::new(&mut body).poll_frame(c)).await.unwrap() {
                Ok(_) => parts += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(parts, 3);
        assert!(error.to_string().contains("too slowly"), "{error}");
    }

    /// Three parts, and nothing more.
    struct Endless(usize);

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            self.0 += 1;
            match self.0 {
                1..=3 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x"))))),
                _ => Poll::Pending,
            }
        }
    }
}
