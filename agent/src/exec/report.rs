//! The promise that each start has exactly one end.
//!
//! Whoever waits for a run counts on hearing of it: an end that got lost would keep its task from
//! ever running again under `overlap: skip`. So a report is made when the run is taken on, and if
//! the executor panics or its task is dropped, the report's own drop says so.

use std::sync::Arc;

use tocktower_core::run::{AttemptEnd, Captured, Finished};
use tokio::sync::mpsc::error::TrySendError;

use super::{Shared, Ticket};
use crate::waker::now;

pub(super) struct Report {
    ticket: Ticket,
    shared: Arc<Shared>,
    sent: bool,
}

impl Report {
    pub(super) fn new(ticket: Ticket, shared: Arc<Shared>) -> Report {
        shared.open.send_modify(|open| *open += 1);
        Report { ticket, shared, sent: false }
    }

    /// Waits while the channel is full: ends are never dropped.
    pub(super) async fn send(mut self, finished: Option<Finished>) {
        self.shared.forget(self.ticket);
        // A closed channel means that the agent is on its way out and nobody keeps books.
        let _ = self.shared.finished.send((self.ticket, finished)).await;
        self.sent = true;
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.sent {
            tracing::error!(ticket = self.ticket.0, "an executor gave up without an end");
            self.shared.forget(self.ticket);
            let reason = "the agent's executor gave up: see its log".to_owned();
            let end = (self.ticket, Some(failed(reason)));
            if let Err(TrySendError::Full(end)) = self.shared.finished.try_send(end) {
                let finished = self.shared.finished.clone();
                self.shared.runtime.spawn(async move { finished.send(end).await });
            }
        }
        self.shared.open.send_modify(|open| *open -= 1);
    }
}

/// The end of an attempt whose action never began.
pub(super) fn failed(reason: String) -> Finished {
    never_began(AttemptEnd::Failed { reason })
}

pub(super) fn never_began(end: AttemptEnd) -> Finished {
    Finished {
        started_at: None,
        finished_at: now().wall,
        end,
        code: None,
        output: Captured::default(),
    }
}
