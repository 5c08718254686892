//! Runs that the process before had begun after its newest ledger, and whose tasks have no such
//! instant here any more: the task was deleted or made anew meanwhile, does not select this agent
//! any more, or is there again as a backup has it.

use std::sync::Arc;

use crate::agent::desk::{Desk, Load};
use crate::agent::effect::{LoadRequest, SettleKey, StoreOp};
use crate::agent::input::OwnRun;
use crate::agent::near::Timed;
use crate::agent::open::OpenRun;
use crate::agent::priors::version_before;
use crate::agent::range::Range;
use crate::ids::{Fence, RunKey};
use crate::run::RunState;
use crate::task::Task;
use crate::time::Instant;

const ORPHANED: &str = "it had begun when its process ended, and its task has no such instant here \
                        any more";

impl Range {
    /// A run whose task has nothing that is due: whether it is to be decided yet lies with its
    /// task, which is read.
    pub(super) fn look_at_orphan(&self, desk: &mut Desk, row: &OwnRun) {
        if row.end.is_some() {
            return;
        }
        let (range, name) = (self.id, row.run.task.clone());
        let load = Load::Orphan { range, row: row.clone() };
        desk.load(load, LoadRequest::Task { range, name });
    }

    pub(super) fn orphan_read(&self, desk: &mut Desk, row: &OwnRun, found: Option<Arc<Task>>) {
        let RunKey::Instant(instant) = row.run.run else { return };
        let key = SettleKey { run: row.run.clone(), attempt: row.attempt };
        // One that still runs here tells of its end itself, and so does one that was taken up.
        let known = self.left.contains_key(&key) || self.is_open(row, instant);
        let task = found.filter(|task| row.run.is_of(task.incarnation));
        let task = task.and_then(|task| self.share(desk, task));
        if known || task.is_some_and(|task| self.is_to_come(row, &task, instant)) {
            return;
        }
        let run = OpenRun::inherited(None, instant, instant);
        // Under the lowest fence, as of all whose task is gone: any other account counts more.
        let mut record = run.record(desk, &row.run, Fence::default(), RunState::Lost);
        record.reason = Some(ORPHANED.to_owned());
        desk.end(record);
        desk.store(StoreOp::CloseRun { range: self.id, run: row.run.clone() });
    }

    /// Whether it, or a series that it is of, is open.
    fn is_open(&self, row: &OwnRun, instant: Instant) -> bool {
        let within = |first: Instant, run: &OpenRun| {
            first < instant && run.catch_up_last.is_some_and(|last| instant <= last)
        };
        self.runs_of(&row.run.task).any(|(id, run)| match id.run {
            RunKey::Instant(first) => *id == row.run || within(first, run),
            RunKey::Manual(_) => false,
        })
    }

    /// Whether this holder decides it when its time comes: a one-shot that is paused, or an instant
    /// that is not due any more, since the clock was set back.
    fn is_to_come(&self, row: &OwnRun, task: &Arc<Task>, instant: Instant) -> bool {
        if task.spec.one_shot_at() == Some(instant) {
            return true;
        }
        let version = version_before(&row.run, task).unwrap_or_else(|| task.clone());
        let timed = Timed::new(version);
        timed.has(instant) && !self.window.base.cover(timed.due(instant), row.run.incarnation)
    }
}
