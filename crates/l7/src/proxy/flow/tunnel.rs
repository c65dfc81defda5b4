//! What follows an answer 101: bytes of both sides, passed on as they are.

use super::super::failure::Failure;
use super::super::relay;
use super::super::session::{Scratch, State};
use super::{After, Flow};
use crate::h1::response::Edits as ResponseEdits;

impl Flow<'_> {
    /// 101: from here on both sides say what they like.
    pub(super) async fn tunnel(&mut self) -> Result<After, Failure> {
        let Some(mut down) = self.down.take() else { return Err(Failure::BadAnswer) };
        let Scratch { response, head, record, .. } = &mut *self.scratch;
        response.write(down.bytes(), &ResponseEdits::default(), head);
        record.status = 101;
        record.answered_ms = Some(self.worker.reactor.now_ms());
        if !down.put_head(response.head_len, head) {
            return Err(Failure::BadAnswer);
        }
        self.session.state.set(State::Relaying);
        let idle_ms = self.context.view.timeouts(self.context.pool).tunnel.as_millis() as u64;
        let sides = relay::Sides {
            client: &self.client.link,
            server: &self.server,
            client_idle_ms: idle_ms,
            server_idle_ms: idle_ms,
            first_answer: None,
        };
        let counts = relay::Counts { view: self.context.view, record };
        let up = self.client.input.take();
        let ended = relay::run(self.worker, self.session, sides, counts, up, Some(down)).await;
        if let Some(cause) = ended.cause {
            record.end(cause, crate::log::Phase::Data);
        }
        Ok(After::Close)
    }
}
