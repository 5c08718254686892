//! Instants that are made up for, one after the other: a stretch of a task's instants is one run
//! that waits and knows the last of them. When it has its turn, the rest goes on waiting.
//!
//! An instant of the stretch may be open already: one that a former holder had started and listed
//! before the marks reached it, or one that was decided before the clock was set back. It goes on
//! by itself, and the stretch goes round it; neither does it start twice, nor does it end what
//! comes after it.

use std::sync::Arc;

use crate::agent::near::Timed;
use crate::agent::open::OpenRun;
use crate::agent::range::Range;
use crate::agent::take::run_id;
use crate::ids::RunKey;
use crate::run::life::Stage;
use crate::task::Task;
use crate::time::{Instant, MILLISECOND};

impl Range {
    /// Lets the instants of a stretch wait for their turn. `of`: the version whose instants they
    /// are, if it is not the present one.
    pub(super) fn make_up(
        &mut self,
        task: &Arc<Task>,
        of: Option<Arc<Timed>>,
        stretch: (Instant, Instant),
    ) {
        let timed = of.clone().unwrap_or_else(|| Arc::new(Timed::new(task.clone())));
        for (from, last) in self.around_open(&timed.task, stretch) {
            let first = timed.timetable.next_after(from.minus(MILLISECOND));
            let Some(first) = first.filter(|first| *first <= last) else { continue };
            let mut run = OpenRun::new(task.clone(), first, timed.due(first));
            run.stage = Stage::Behind;
            run.waited_by_policy = true;
            run.catch_up = true;
            run.catch_up_last = (first < last).then_some(last);
            run.series_of = of.clone();
            self.open.insert(run_id(task, first), run);
            self.turns = true;
        }
    }

    /// What of a stretch of a version's instants lies between those that are open.
    pub(super) fn around_open(
        &self,
        version: &Task,
        (from, through): (Instant, Instant),
    ) -> Vec<(Instant, Instant)> {
        let mut from = from;
        let mut parts = Vec::new();
        for (id, run) in self.runs_of(&version.spec.name) {
            let RunKey::Instant(open) = id.run else { continue };
            // A series of another version has none of this one's instants but its own.
            let last =
                run.catch_up_last.filter(|_| run.series_from() == Some(version.effective_from));
            let last = last.unwrap_or(open);
            if id.incarnation != version.incarnation || last < from || open > through {
                continue;
            }
            if from < open {
                parts.push((from, open.minus(MILLISECOND)));
            }
            from = last.plus(MILLISECOND);
        }
        if from <= through {
            parts.push((from, through));
        }
        parts
    }
}
