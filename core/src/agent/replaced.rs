//! Runs whose instants an edit has taken away. Who did not know of the edit yet has decided by the
//! schedule before, and so has one whose clock was ahead. What has started goes on; what has not
//! started never does (promise 6).

use std::sync::Arc;

use crate::agent::desk::Desk;
use crate::agent::near::Timed;
use crate::agent::open::OpenRun;
use crate::agent::priors::version_before;
use crate::agent::range::Range;
use crate::agent::take::run_id;
use crate::ids::{RunId, RunKey};
use crate::run::life::Stage;
use crate::task::Task;
use crate::time::{Instant, MILLISECOND};

const REPLACED: &str = "an edit has taken its instant away";

impl Range {
    /// Every task was seen: what was taken over is held against its present version.
    pub(super) fn end_all_replaced(&mut self, desk: &mut Desk) {
        let mut tasks: Vec<Arc<Task>> = Vec::new();
        for run in self.open.values().filter(|run| run.key.is_none() && !run.has_started()) {
            let Some(task) = &run.task else { continue };
            if tasks.last().is_none_or(|last| last.spec.name != task.spec.name) {
                tasks.push(task.clone());
            }
        }
        for task in tasks {
            self.end_replaced(desk, &task);
        }
    }

    /// Ends the open runs of a task whose instants are none any more.
    pub(super) fn end_replaced(&mut self, desk: &mut Desk, task: &Arc<Task>) {
        let effective = task.effective_from.instant();
        let of_task = self.runs_of(&task.spec.name).filter(|(id, run)| {
            id.is_of(task.incarnation) && run.key.is_none() && !run.has_started()
        });
        let ids: Vec<RunId> = of_task.map(|(id, _)| id.clone()).collect();
        let mut present = None;
        for id in ids {
            let RunKey::Instant(first) = id.run else { continue };
            let last = self.open.get(&id).and_then(|run| run.catch_up_last).unwrap_or(first);
            if last > effective {
                let present = present.get_or_insert_with(|| Timed::new(task.clone()));
                self.end_replaced_rest(desk, &id, present);
                if first > effective && !present.has(first) {
                    self.end_unstarted(desk, &id, REPLACED, REPLACED);
                }
            } else if let Some(version) = version_before(&id, task)
                && !Timed::new(version).has(first)
            {
                self.end_unstarted(desk, &id, REPLACED, REPLACED);
            }
        }
    }

    /// Of a series of the version before, what lies behind the edit: instants that the present one
    /// has as well wait on by themselves.
    fn end_replaced_rest(&mut self, desk: &mut Desk, id: &RunId, present: &Timed) {
        let (Some(run), RunKey::Instant(first)) = (self.open.get_mut(id), id.run) else { return };
        let effective = present.task.effective_from;
        if run.series_from() == Some(effective) {
            return;
        }
        let from = first.max(effective.instant());
        let Some(last) = run.catch_up_last.filter(|last| *last > from) else { return };
        run.catch_up_last = (from > first).then_some(from);
        let Some(timed) = run.series_of.clone() else { return };
        let mut room = self.room();
        let both = timed.timetable.instants_after(from).take_while(|at| *at <= last);
        for instant in both.filter(|at| present.has(*at)) {
            let id = run_id(&present.task, instant);
            if room == 0 || self.open.contains_key(&id) {
                continue;
            }
            room -= 1;
            let run = OpenRun::new(present.task.clone(), instant, present.due(instant));
            let stage = Stage::Behind;
            let run = OpenRun { stage, waited_by_policy: true, catch_up: true, ..run };
            self.open.insert(id, run);
        }
        self.skip_instants(desk, &timed, (from.plus(MILLISECOND), last), REPLACED);
    }
}

impl Timed {
    fn has(&self, instant: Instant) -> bool {
        self.timetable.next_after(instant.minus(MILLISECOND)) == Some(instant)
    }
}
