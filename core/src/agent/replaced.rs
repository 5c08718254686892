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
use crate::limits;
use crate::run::life::Stage;
use crate::task::Task;
use crate::time::{Instant, MILLISECOND};

pub(super) const REPLACED: &str = "an edit has taken its instant away";

impl Range {
    /// Every task was seen, and what was written down here of its runs: they are held against the
    /// present versions.
    pub(super) fn end_all_replaced(&mut self, desk: &mut Desk) {
        for task in std::mem::take(&mut self.attached).into_values() {
            self.end_replaced(desk, &task);
        }
    }

    /// Ends the open runs of a task whose instants are none any more. `task`: its present version.
    pub(super) fn end_replaced(&mut self, desk: &mut Desk, task: &Arc<Task>) {
        // Where nobody has edited it, an instant that it has no more is one of another time zone
        // database.
        let effective = match task.effective_from > task.created_at {
            true => task.effective_from.instant(),
            false => Instant::MAX,
        };
        let of_task = self.runs_of(&task.spec.name).filter(|(id, run)| {
            let looked_at = run.key.is_none() || run.catch_up_last.is_some();
            id.is_of(task.incarnation) && looked_at && run.task.is_some()
        });
        let ids: Vec<RunId> = of_task.map(|(id, _)| id.clone()).collect();
        let mut present = None;
        for id in ids {
            let (RunKey::Instant(first), Some(run)) = (id.run, self.open.get(&id)) else {
                continue;
            };
            let last = run.catch_up_last.unwrap_or(first);
            // A one-shot's run that stands for a series of the time when it was none.
            if run.key.is_some() {
                let present = present.get_or_insert_with(|| Timed::new(task.clone()));
                self.end_replaced_rest(desk, &id, present);
            } else if last > effective {
                let present = present.get_or_insert_with(|| Timed::new(task.clone()));
                self.end_replaced_rest(desk, &id, present);
                match present.has(first) {
                    _ if first <= effective => {}
                    // It is due by another jitter now, and has its end until the marks pass that.
                    true => {
                        self.list_over(desk, task, first, present.due(first));
                        self.not_replaced(&id);
                    }
                    false => self.replaced(desk, &id),
                }
            } else if task.effective_from > task.created_at {
                self.end_of_before(desk, task, &id, first);
            }
        }
    }

    /// A run at an instant before the newest edit is held against the version that counted then.
    fn end_of_before(&mut self, desk: &mut Desk, task: &Arc<Task>, id: &RunId, first: Instant) {
        let Some(run) = self.open.get(id) else { return };
        let version = version_before(id, task);
        let timed = version.clone().map(Timed::new).filter(|timed| timed.has(first));
        // By that one, too, it may be due later than it was begun by.
        let later = timed.as_ref().map(|timed| timed.due(first)).filter(|due| *due > run.due);
        match version {
            // The record does not say when the pause began. What has started was before it.
            Some(version) if version.spec.paused => {
                let waits = !run.has_started();
                self.not_begun_later(id);
                if waits {
                    self.pause_run(desk, task, id);
                }
            }
            Some(_) if timed.is_some() => {}
            Some(_) => self.replaced(desk, id),
            // The record keeps each schedule that leaves an instant undecided, as long as they are
            // not too many: what no ledger covers is of none of them.
            None if task.prior.len() < limits::PRIORS_MAX
                && !self.writer.marks.cover(run.due, id.incarnation) =>
            {
                self.replaced(desk, id);
            }
            None => {}
        }
        if let Some(due) = later {
            self.list_over(desk, task, first, due);
        }
    }

    fn replaced(&mut self, desk: &mut Desk, id: &RunId) {
        self.not_begun_later(id);
        if self.open.get(id).is_some_and(|run| !run.has_started()) {
            self.end_unstarted(desk, id, REPLACED, REPLACED);
        }
    }

    /// One that is with its executor may come back without having begun.
    fn not_begun_later(&mut self, id: &RunId) {
        if let Some(run) = self.open.get_mut(id) {
            run.replaced = run.ticket().is_some();
        }
    }

    /// An edit has given its instant back.
    fn not_replaced(&mut self, id: &RunId) {
        if let Some(run) = self.open.get_mut(id) {
            run.replaced = false;
        }
    }

    /// A start that was handed back, of a run that an edit has taken away meanwhile.
    pub(super) fn end_if_replaced(&mut self, desk: &mut Desk, id: &RunId) {
        if self.open.get(id).is_some_and(|run| run.replaced && !run.has_started()) {
            self.end_unstarted(desk, id, REPLACED, REPLACED);
        }
    }

    /// Of a series of the version before, what lies behind the edit: instants that the present one
    /// has as well wait on by themselves. Where there is no room for them it stays as it is.
    fn end_replaced_rest(&mut self, desk: &mut Desk, id: &RunId, present: &Timed) {
        let (Some(run), RunKey::Instant(first)) = (self.open.get(id), id.run) else { return };
        let effective = present.task.effective_from;
        let from = first.max(effective.instant());
        let last = run.catch_up_last.filter(|last| *last > from);
        let (Some(last), Some(timed)) = (last, run.series_of.clone()) else { return };
        if run.series_from() == Some(effective) {
            return;
        }
        let room = self.room();
        let both = timed.timetable.instants_after(from).take_while(|at| *at <= last);
        let both: Vec<Instant> = both.filter(|at| present.has(*at)).take(room + 1).collect();
        if both.len() > room {
            return;
        }
        if let Some(run) = self.open.get_mut(id) {
            run.catch_up_last = (from > first).then_some(from);
        }
        for instant in both {
            let run = OpenRun::new(present.task.clone(), instant, present.due(instant));
            let stage = Stage::Behind;
            let run = OpenRun { stage, waited_by_policy: true, catch_up: true, ..run };
            self.open.entry(run_id(&present.task, instant)).or_insert(run);
        }
        self.skip_instants(desk, &timed, (from.plus(MILLISECOND), last), REPLACED);
    }
}

impl Timed {
    pub(super) fn has(&self, instant: Instant) -> bool {
        self.timetable.next_after(instant.minus(MILLISECOND)) == Some(instant)
    }
}
