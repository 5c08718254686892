//! How long a retry waits. It goes on at a time of the wall clock; where that clock was ahead when
//! the time was noted, here or at a former holder, it would wait for as long as the clock was
//! wrong. No retry waits longer than its backoff.

use crate::agent::desk::Desk;
use crate::agent::open::OpenRun;
use crate::agent::range::Range;
use crate::ids::RunId;
use crate::run::life::Stage;
use crate::run::retry;
use crate::time::Wall;

impl OpenRun {
    /// Its wait, counted from now on, is no longer than its backoff.
    pub fn shorten_wait(&mut self, id: &RunId, now: Wall) {
        let (Stage::Waiting { at }, Some(task)) = (self.stage, &self.task) else { return };
        let Some(backoff) = retry::wait_after(&task.spec.retry, id, self.attempt.number) else {
            return;
        };
        if self.attempt.number > 0 {
            self.stage = Stage::Waiting { at: at.min(now.plus(backoff)) };
        }
    }
}

impl Range {
    /// The wall clock was set.
    pub(super) fn shorten_waits(&mut self, desk: &mut Desk) {
        for (id, run) in &mut self.open {
            let Stage::Waiting { at: before } = run.stage else { continue };
            run.shorten_wait(id, desk.now.wall);
            if let Stage::Waiting { at } = run.stage
                && at < before
            {
                desk.timers.remove(&(before, self.id, id.clone()));
                desk.timers.insert((at, self.id, id.clone()));
                self.writer.dirty = true;
            }
        }
    }
}
