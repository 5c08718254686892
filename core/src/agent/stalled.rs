//! A store that does not answer any more, as one on a disk that hangs. Nothing starts before its
//! start is written down and no ledger is sent before its number is synced, so an agent with such a
//! store would hold its ranges, keep its session alive and run nothing. It gives the session up
//! instead, and comes again when the store has answered.

use std::time::Duration;

use crate::agent::Agent;
use crate::agent::effect::{BatchNumber, Notice};
use crate::limits;
use crate::time::Mono;

#[derive(Debug)]
pub(crate) struct StoreWatch {
    sent: BatchNumber,
    answered: BatchNumber,
    /// When it answered last, or was given something while it owed nothing.
    since: Mono,
    pub stalled: bool,
}

impl StoreWatch {
    pub fn new(now: Mono) -> StoreWatch {
        let none = BatchNumber(0);
        StoreWatch { sent: none, answered: none, since: now, stalled: false }
    }

    pub fn sent(&mut self, batch: BatchNumber, now: Mono) {
        if self.answered >= self.sent {
            self.since = now;
        }
        self.sent = batch;
    }

    pub fn answered(&mut self, batch: BatchNumber, now: Mono) {
        self.answered = batch.max(self.answered);
        self.since = now;
    }

    /// Nothing was looked at for a while: the process was stopped, and the store with it.
    pub fn resumed(&mut self, now: Mono) {
        self.since = now;
    }

    /// How long it has owed an answer without giving one.
    fn silent(&self, now: Mono) -> Option<Duration> {
        (self.answered < self.sent).then(|| now.since(self.since))
    }
}

impl Agent {
    /// Gives the session up when the store has stalled.
    pub(super) fn watch_store(&mut self) {
        let now = self.desk.now.mono;
        let silent = self.desk.stored.silent(now);
        let stalled = silent.is_some_and(|silent| silent >= limits::STORE_STALLED);
        if silent.is_some() && !stalled {
            self.desk.wake_by(self.desk.stored.since.plus(limits::STORE_STALLED));
        }
        match (std::mem::replace(&mut self.desk.stored.stalled, stalled), stalled) {
            (false, true) => {
                self.desk.notice(Notice::StoreStalled { silent: silent.unwrap_or_default() });
                self.come_as_stranger();
            }
            (true, false) => self.desk.notice(Notice::StoreAnswers),
            _ => {}
        }
    }
}
