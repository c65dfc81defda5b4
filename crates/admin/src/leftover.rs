//! What a client still sends after it was refused: a bounded amount is taken, so that it gets to
//! read the refusal instead of a broken connection.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// More than any form of the pages holds; whoever sends more is cut off.
const AT_MOST: usize = 256 << 10;
const WITHIN: Duration = Duration::from_secs(1);

type Slot = Arc<Mutex<Option<Body>>>;

/// The rest of a body, once its reader has let go of it.
pub struct Leftover(Slot);

struct Lent {
    body: Option<Body>,
    slot: Slot,
}

/// A body to read, and what will be left of it.
pub fn lend(body: Body) -> (Body, Leftover) {
    let slot = Slot::default();
    (Body::new(Lent { body: Some(body), slot: slot.clone() }), Leftover(slot))
}

impl Leftover {
    pub async fn drain(self) {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(body) = body.filter(|b| !b.is_end_stream()) {
            let _ = tokio::time::timeout(WITHIN, axum::body::to_bytes(body, AT_MOST)).await;
        }
    }
}

/// Around all that a listener serves, also where no route is: a client that is still sending gets to read why not.
pub async fn drained(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let (body, leftover) = lend(body);
    let response = next.run(Request::from_parts(parts, body)).await;
    if !response.status().is_success() {
        leftover.drain().await;
    }
    response
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_nobody_read_is_taken() {
        let (lent, leftover) = lend(Body::from("one two"));
        drop(lent);
        assert!(leftover.0.lock().unwrap().is_some());
        leftover.drain().await;
        let (lent, leftover) = lend(Body::from("one two"));
        assert_eq!(axum::body::to_bytes(lent, 10).await.unwrap(), "one two");
        leftover.drain().await;
    }
}
