//! Runs that the process before had begun after its newest ledger, and whose tasks have no such
//! instant here any more: the task was deleted or made anew meanwhile, does not select this agent
//! any more, or is there again as a backup has it.

use crate::agent::desk::Desk;
use crate::agent::effect::{SettleKey, StoreOp};
use crate::agent::input::OwnRun;
use crate::agent::open::OpenRun;
use crate::agent::range::Range;
use crate::ids::{Fence, RunKey};
use crate::run::RunState;

const ORPHANED: &str = "it had begun when its process ended, and its task has no such instant here \
                        any more";

impl Range {
    /// Says of a run that nobody knows how it ended.
    pub(super) fn end_orphan(&self, desk: &mut Desk, row: &OwnRun) {
        let key = SettleKey { run: row.run.clone(), attempt: row.attempt };
        let RunKey::Instant(instant) = row.run.run else { return };
        // One that still runs here tells of its end itself.
        if row.end.is_some() || self.left.contains_key(&key) {
            return;
        }
        let run = OpenRun::inherited(None, instant, instant);
        // Under the lowest fence, as of all whose task is gone: any other account counts more.
        let mut record = run.record(desk, &row.run, Fence::default(), RunState::Lost);
        record.reason = Some(ORPHANED.to_owned());
        desk.end(record);
        desk.store(StoreOp::CloseRun { range: self.id, run: row.run.clone() });
    }
}
