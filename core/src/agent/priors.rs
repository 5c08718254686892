//! Schedules that a task had before. Each is a version of its own beside the present one: it says
//! which instants there are up to the edit that replaced it, and nothing else. The holder that
//! takes an edit in has the old version in memory; whoever takes the range over, or lists it again,
//! has it from the task's record (`task::Prior`).
//!
//! Such a version has no entry in the store: a due that is too far ahead for the wheel waits in
//! memory until the wheel reaches it. A version that owes nothing more is remembered until a ledger
//! covers it, or the record would bring it again.

use std::sync::Arc;

use crate::agent::desk::Desk;
use crate::agent::near::{NearTask, Timed};
use crate::agent::open::OpenRun;
use crate::agent::range::Range;
use crate::agent::take::run_id;
use crate::due::wheel::NearEntry;
use crate::ids::{RunId, RunKey};
use crate::ledger::Marks;
use crate::limits;
use crate::run::RunState;
use crate::run::life::Stage;
use crate::task::Task;
use crate::time::{Instant, MILLISECOND};

const TOO_MANY: &str = "too many replaced schedules wait at its agent";

impl Range {
    /// Takes up what `marks` leave undecided of the schedules before this version, as far as it is
    /// not known here.
    pub(super) fn admit_priors(&mut self, desk: &mut Desk, present: &Arc<Task>, marks: Marks) {
        for prior in &present.prior {
            let name = &present.spec.name;
            if desk.near.superseded_from(self.id, name, prior.from).is_some() {
                continue;
            }
            let mut version = prior.version(present);
            // Whether the present version is paused may change while this one waits.
            version.spec.paused = prior.paused;
            let timed = Arc::new(Timed::new(Arc::new(version)));
            let covered = present.incarnation <= marks.incarnation;
            let through = if covered { marks.through } else { Instant::MIN };
            let decided = self.window.decided_names.of_version(&timed.task);
            let after = prior.from.instant().max(decided.unwrap_or(Instant::MIN));
            let until = prior.until.instant();
            let undecided = timed.first_due_after(through, after);
            let Some((instant, due)) = undecided.filter(|(instant, _)| *instant <= until) else {
                continue;
            };
            self.unsure_of(desk, present, instant);
            if self.is_local() || !desk.was_known(marks, prior.revision) {
                self.ask_what_ran(desk, present, instant, prior.revision);
            }
            self.cut_series(&timed.task, instant);
            if desk.far.len() >= limits::FAR_ENTRIES_MAX {
                let stretch = (instant, until);
                self.end_instants(desk, &timed, stretch, RunState::Missed, TOO_MANY);
                self.window.decided_names.note(&timed, until);
                continue;
            }
            let number = desk.next_task_number();
            let (queued, touched) = (Some((due, instant)), desk.now.mono);
            let (range, until) = (self.id, Some(until));
            let newest = Some(present.clone());
            let near = NearTask { timed, range, queued, decided, until, newest, touched };
            desk.near.insert_superseded(number, near);
            let entry = NearEntry { due, number, range: self.id, hold: self.holding };
            self.place(desk, present, entry);
        }
    }

    /// A run that is over, and whose due by a newer version the marks have not passed: a next
    /// holder, who knows that version alone, has to find it in the list.
    pub(super) fn list_over(
        &mut self,
        desk: &mut Desk,
        task: &Arc<Task>,
        instant: Instant,
        due: Instant,
    ) {
        if due <= self.writer.marks.through {
            return;
        }
        let id = run_id(task, instant);
        if let Some(run) = self.open.get_mut(&id) {
            run.listed |= due > run.due || run.ended();
            self.writer.dirty = true;
            self.put_off_to(desk, &id, due);
        } else {
            // Also where the ledger is full: nothing else knows that it is over.
            self.keep_ended(desk, task, instant, due);
        }
    }

    /// A run is due later than it was known to be: its place is by its due. Where it has begun, a
    /// ledger lists it until marks cover that.
    pub(super) fn put_off_to(&mut self, desk: &mut Desk, id: &RunId, due: Instant) {
        let Some(run) = self.open.get_mut(id).filter(|run| run.due < due) else { return };
        run.listed |= run.has_started();
        self.writer.dirty = true;
        let stage = run.stage;
        self.leave_place(desk, id, stage);
        let Some(run) = self.open.get_mut(id) else { return };
        run.due = due;
        match stage {
            Stage::Queued => self.requeue(desk, id),
            Stage::Asking => self.permits.asks(due, id),
            _ => {}
        }
    }

    /// Lists a run as over.
    pub(super) fn keep_ended(
        &mut self,
        desk: &Desk,
        task: &Arc<Task>,
        instant: Instant,
        due: Instant,
    ) {
        let over = OpenRun::inherited(Some(task.clone()), instant, due);
        let stage = Stage::Ended { batch: desk.batch() };
        let over = OpenRun { stage, listed: true, ..over };
        self.open.entry(run_id(task, instant)).or_insert(over);
        self.writer.dirty = true;
    }

    fn leave_place(&mut self, desk: &mut Desk, id: &RunId, stage: Stage) {
        if matches!(stage, Stage::Queued | Stage::Asking) {
            self.leave_stage(desk, id, stage);
        }
    }

    /// Puts an entry where it waits: among what is overdue, in the wheel, or, if it is too far
    /// ahead for that, aside.
    pub(super) fn place(&mut self, desk: &mut Desk, task: &Task, entry: NearEntry) {
        let due = entry.due;
        if due <= self.window.decided_to || due <= desk.now.wall.instant() {
            // One that is overdue lowers what counts as decided.
            let before = due.minus(MILLISECOND);
            self.window.decided_to = self.window.decided_to.min(before);
            self.parked.insert(entry);
            return;
        }
        if task.spec.at_most_once() {
            self.permits.foresee(entry);
        }
        if desk.wheel.reaches(due) {
            desk.wheel.put(entry);
        } else {
            desk.far.insert(entry);
        }
    }
}

impl Desk {
    /// Takes what has come near enough into the wheel.
    pub(super) fn bring_far_near(&mut self) {
        while let Some(entry) = self.far.first().copied().filter(|e| self.wheel.reaches(e.due)) {
            self.far.remove(&entry);
            // The wheel hands out what is overdue at once; a stale entry finds nothing.
            self.wheel.put(entry);
        }
    }
}

impl OpenRun {
    /// Its task was found, or has a newer version, which says how it runs from now on.
    pub fn attach(&mut self, id: &RunId, present: &Arc<Task>) {
        let old = version_before(id, present);
        if self.catch_up_last.is_some() && self.series_of.is_none() {
            self.series_of = match (&old, self.task.take()) {
                (_, Some(before)) => Some(Arc::new(Timed::new(before))),
                (Some(old), None) => Some(Arc::new(Timed::new(old.clone()))),
                (None, None) => None,
            };
        }
        // Where it is due sooner by this version, marks may cover that while it is still open.
        if let RunKey::Instant(instant) = id.run
            && instant < self.due
            && !self.listed
            && !self.ended()
        {
            self.listed = due_at(id, present, instant).is_some_and(|due| due < self.due);
        }
        // A task that has become a one-shot still has runs of the time before.
        let other = present.spec.one_shot_at().is_some() && !is_one_shot(id, present);
        self.task = Some(old.filter(|_| other).unwrap_or_else(|| present.clone()));
    }
}

/// The version whose instant a run is at, if that is not the present one.
pub(super) fn version_before(id: &RunId, present: &Arc<Task>) -> Option<Arc<Task>> {
    let RunKey::Instant(instant) = id.run else { return None };
    let at = instant.wall();
    let mut priors = present.prior.iter();
    let prior = priors.find(|prior| prior.from < at && at <= prior.until)?;
    Some(Arc::new(prior.version(present)))
}

/// When a run is due by the version whose instant it is at, if that has such an instant.
pub(super) fn due_at(id: &RunId, present: &Arc<Task>, instant: Instant) -> Option<Instant> {
    let version = version_before(id, present).unwrap_or_else(|| present.clone());
    let timed = Timed::new(version);
    timed.has(instant).then(|| timed.due(instant))
}

/// Whether a run is the one of a one-shot.
pub(super) fn is_one_shot(id: &RunId, task: &Task) -> bool {
    matches!(id.run, RunKey::Instant(at) if task.spec.one_shot_at() == Some(at))
}
