//! Edits that come late. Until an agent hears of an edit it goes on by the schedule before, also
//! beyond the moment from which the edit counts. When the news is there, or somebody else takes the
//! range over, three things are to be told apart:
//!
//! - What ran by the older schedule. By the newer one it may be due later; it is listed as over
//!   until marks pass that. An agent asks its own store what ran; who has taken the range over goes
//!   by the schedules that the record keeps, and by what the marks say was known.
//! - What only the newer one has and was due by then is ended as `edited_late`: nobody knew of it
//!   in time.
//! - The rest is yet to be decided, by the newer one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::agent::desk::{Desk, Load};
use crate::agent::effect::{Fences, LoadRequest};
use crate::agent::input::OwnRun;
use crate::agent::near::Timed;
use crate::agent::news::UNREADABLE;
use crate::agent::range::Range;
use crate::agent::rules::Rule;
use crate::agent::take::covered_to;
use crate::ids::{Incarnation, Revision, RunKey, TaskName};
use crate::ledger::Marks;
use crate::limits;
use crate::task::Task;
use crate::time::{Instant, MILLISECOND, Wall};

/// Instants of a late edit that are ended one by one.
const EDITED_LATE_MAX: usize = 1_000;

pub(super) const EDITED_LATE: &str = "edited_late";

/// What has been decided of a task, as this process remembers it.
pub(super) struct Decided {
    pub at: Option<Instant>,
    pub by: Option<Arc<Timed>>,
}

/// Tasks of which an edit came late, with the moment before their first undecided instant. Of what
/// an older version ran after that the store is asked; until it has answered nothing is decided,
/// and marks do not say that the edit is known.
#[derive(Debug, Default)]
pub(crate) struct Unsure {
    wanted: BTreeMap<TaskName, (Instant, Arc<Task>)>,
    asked: BTreeMap<TaskName, (Instant, Arc<Task>)>,
    in_flight: bool,
    before: Option<Revision>,
}

impl Unsure {
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && !self.in_flight
    }

    /// The newest revision of which all is known.
    pub fn known_before(&self) -> Option<Revision> {
        self.before
    }

    /// A list goes over all tasks again, and those that were edited since are found there.
    pub fn begin_again(&mut self) {
        *self = Unsure::default();
    }

    /// The task is gone.
    pub fn forget(&mut self, name: &TaskName) {
        self.wanted.remove(name);
        self.asked.remove(name);
        self.settle();
    }

    /// Where nothing is left to be known, all is.
    fn settle(&mut self) {
        if self.is_empty() {
            self.before = None;
        }
    }

    fn want(&mut self, task: &Arc<Task>, instant: Instant, by: Revision) {
        let (name, at) = (task.spec.name.clone(), instant.minus(MILLISECOND));
        let (after, newest) = self.wanted.entry(name).or_insert_with(|| (at, task.clone()));
        (*after, *newest) = (at.min(*after), task.clone());
        let before = Revision(by.0 - 1);
        self.before = Some(self.before.map_or(before, |known| known.min(before)));
    }
}

impl Range {
    /// An instant that a version is yet to decide lies in the past: one before, by which it was due
    /// sooner, may have run it if that went on meanwhile. `by`: the revision of the version.
    pub(super) fn ask_what_ran(
        &mut self,
        desk: &mut Desk,
        task: &Arc<Task>,
        instant: Instant,
        by: Revision,
    ) {
        // Under this fence nothing has run yet, in no process.
        if !self.is_local() && self.own.is_none() && self.writer.answered.is_none() {
            return;
        }
        // What is pinned here may also have been another agent's business, or be back as a backup
        // knows it.
        let news = self.is_local()
            || match self.window.scanned {
                true => task.brings_instants(),
                false => by != task.incarnation.revision && !desk.was_known(self.window.base, by),
            };
        // By a clock that was set back nothing is past.
        let behind = self.writer.marks.through > desk.now.wall.instant();
        let past = desk.is_past(instant) || behind;
        if news && past && desk.holds(Rule::LateEdit) {
            self.unsure.want(task, instant, by);
            self.want_what_ran(desk);
        }
    }

    /// Another version came before the answer did.
    pub(super) fn edited_again(&mut self, task: &Arc<Task>) {
        for tasks in [&mut self.unsure.wanted, &mut self.unsure.asked] {
            if let Some((_, newest)) = tasks.get_mut(&task.spec.name) {
                *newest = task.clone();
            }
        }
    }

    pub(super) fn want_what_ran(&mut self, desk: &mut Desk) {
        let Some(newest) = self.fence().filter(|_| self.window.scanned) else { return };
        if self.unsure.wanted.is_empty() || self.unsure.in_flight {
            return;
        }
        self.unsure.in_flight = true;
        self.unsure.asked = std::mem::take(&mut self.unsure.wanted);
        let asked = self.unsure.asked.iter();
        let tasks = asked.map(|(name, (after, _))| (name.clone(), *after)).collect();
        let (range, holding) = (self.id, self.holding);
        // What is pinned here has run here, whichever process that was.
        let under = Fences { newest, earlier: self.is_local() };
        let request = LoadRequest::Own { range, under, runs: Vec::new(), tasks };
        desk.load(Load::Ran { range, holding }, request);
    }

    pub(super) fn what_ran(&mut self, desk: &mut Desk, rows: &[OwnRun]) {
        self.unsure.in_flight = false;
        let asked = std::mem::take(&mut self.unsure.asked);
        let mut told: BTreeMap<&TaskName, Vec<&OwnRun>> = BTreeMap::new();
        for row in rows {
            told.entry(&row.run.task).or_default().push(row);
        }
        for (name, mut rows) in told {
            let Some((_, task)) = asked.get(name) else { continue };
            rows.retain(|row| row.run.is_of(task.incarnation));
            self.ran_before(desk, task, &rows);
        }
        self.unsure.settle();
        self.want_what_ran(desk);
        self.writer.dirty = true;
    }

    /// What these rows tell of has come to something here: those instants that the present versions
    /// have as well are over.
    fn ran_before(&mut self, desk: &mut Desk, task: &Arc<Task>, rows: &[&OwnRun]) {
        let version = |version: Task, until: Instant| (Timed::new(Arc::new(version)), until);
        let priors = task.prior.iter().map(|p| version(p.version(task), p.until.instant()));
        let versions: Vec<_> = priors.chain([version((**task).clone(), Instant::MAX)]).collect();
        for row in rows {
            let RunKey::Instant(first) = row.run.run else { continue };
            let last = row.until.unwrap_or(first);
            // A row of many is of the instants of one version, and ends anywhere after the last.
            let made = |made: &Timed| made.has(first) && made.task.effective_from.instant() < first;
            let makers = versions.iter().filter(|(timed, _)| made(timed));
            let makers: Vec<&Timed> = makers.map(|(made, _)| made).collect();
            let told = |at: Instant| {
                at == first || makers.is_empty() || makers.iter().any(|made| made.has(at))
            };
            if let Some(at) = task.spec.one_shot_at()
                && (first..=last).contains(&at)
                && told(at)
            {
                self.end_one_shot_that_ran(desk, task);
            }
            for (timed, until) in &versions {
                let recurring = timed.task.spec.one_shot_at().is_none();
                let from = timed.task.effective_from.instant().max(first.minus(MILLISECOND));
                let instants = self.not_covered(timed, from, last.min(*until));
                for instant in instants.into_iter().filter(|at| recurring && told(*at)) {
                    self.list_over(desk, task, instant, timed.due(instant));
                }
            }
        }
    }

    /// A one-shot that was a recurring task before has run as an instant of that. It has a key now,
    /// which is settled.
    fn end_one_shot_that_ran(&mut self, desk: &mut Desk, task: &Arc<Task>) {
        let Some(at) = task.spec.one_shot_at() else { return };
        let due = Timed::new(task.clone()).due(at);
        self.keep_ended(desk, task, at, due);
        self.attach(desk, task);
    }

    /// Instants of a new version that lie before what was decided, or before what a ledger covers,
    /// must not start; those that the old schedule had as well have come to something already, and
    /// a version that leaves the instants alone has no others. Gives the first instant that is
    /// left to the new version, with its due: what was decided is told by instants, what a ledger
    /// covers by dues.
    pub(super) fn end_late_instants(
        &mut self,
        desk: &mut Desk,
        timed: &Timed,
        decided: &Decided,
        silent: Option<Instant>,
    ) -> Option<(Instant, Instant)> {
        let effective = timed.task.effective_from.instant();
        let marks = self.writer.marks;
        let covered = (timed.task.incarnation <= marks.incarnation).then_some(marks.through);
        let after = effective.max(decided.at.unwrap_or(Instant::MIN));
        let first = timed.first_due_after(covered.unwrap_or(Instant::MIN), after);
        let until = covered_to(decided.at.max(covered).unwrap_or(effective), first);
        if let Some(silent) = silent {
            // The marks went on meanwhile.
            self.skip_silent(desk, timed, (silent, after), until);
        } else if timed.task.brings_instants() {
            self.skip_late(desk, timed, decided, until);
            for instant in self.not_covered(timed, effective, until) {
                self.list_over(desk, &timed.task, instant, timed.due(instant));
            }
        }
        first
    }

    /// Names what came due after `silent` and was not decided, since the record could not be read.
    pub(super) fn skip_silent(
        &mut self,
        desk: &mut Desk,
        timed: &Timed,
        (silent, after): (Instant, Instant),
        until: Instant,
    ) {
        let first = timed.first_due_after(silent, after);
        if let Some((first, _)) = first.filter(|(first, _)| *first <= until) {
            self.skip_instants(desk, timed, (first, until), UNREADABLE);
        }
    }

    /// The same of the schedules before this version, as far as marks cover them: what they do not
    /// cover is still to be decided.
    pub(super) fn skip_silent_priors(&mut self, desk: &mut Desk, task: &Task, silent: Instant) {
        let marks = self.decided_base(desk.config.epoch);
        let near = desk.near.decided_of(self.id, &task.spec.name);
        let near: Vec<(Wall, Instant)> =
            near.map(|(timed, at)| (timed.task.effective_from, at)).collect();
        for prior in task.prior.iter().filter(|_| task.incarnation <= marks.incarnation) {
            let timed = Timed::new(Arc::new(prior.version(task)));
            let named = self.window.decided_names.of_version(&timed.task);
            let of = near.iter().filter(|(from, _)| *from == prior.from).map(|(_, at)| *at);
            let after = of.chain(named).fold(prior.from.instant(), Instant::max);
            let undecided = timed.first_due_after(marks.through, after);
            let until = covered_to(marks.through, undecided).min(prior.until.instant());
            self.skip_silent(desk, &timed, (silent, after), until);
            desk.near.decide_to(self.id, &task.spec.name, prior.from, until);
        }
    }

    /// Names what the version before did not have; beyond `EDITED_LATE_MAX` all as one, which gives
    /// way to every other account.
    fn skip_late(&mut self, desk: &mut Desk, timed: &Timed, decided: &Decided, until: Instant) {
        let had = |instant: Instant| {
            let by = decided.at.filter(|at| instant <= *at).and(decided.by.as_ref());
            by.is_some_and(|old| old.has(instant))
        };
        let effective = timed.task.effective_from.instant();
        let mut late = timed.timetable.instants_after(effective).take_while(|at| *at <= until);
        let singly: Vec<Instant> = late.by_ref().take(EDITED_LATE_MAX).collect();
        let rest = late.next();
        for instant in singly.into_iter().filter(|instant| !had(*instant)) {
            self.skip_instants(desk, timed, (instant, instant), EDITED_LATE);
        }
        if let Some(rest) = rest {
            self.skip_instants(desk, timed, (rest, until), EDITED_LATE);
        }
    }

    /// Of a version's instants after `from` and up to `until` those that may be due after what the
    /// ledger covers.
    fn not_covered(&self, timed: &Timed, from: Instant, until: Instant) -> Vec<Instant> {
        // A due lies before the next instant.
        let last = timed.timetable.last_between(from, self.writer.marks.through.min(until));
        let from = last.map_or(from, |last| last.minus(MILLISECOND));
        let instants = timed.timetable.instants_after(from).take_while(|at| *at <= until);
        instants.take(EDITED_LATE_MAX).collect()
    }

    /// Versions that `base`, what was decided before the window began, did not know: whoever held
    /// the range went on by an older one.
    pub(super) fn meet_late_edits(&mut self, desk: &mut Desk, present: &Arc<Task>, base: Marks) {
        let known = base.incarnation.revision;
        if present.incarnation > base.incarnation || present.instants_revision() <= known {
            return;
        }
        let priors = present.prior.iter();
        let priors = priors.map(|p| (p.revision, p.until.instant(), Arc::new(p.version(present))));
        let own = (present.instants_revision(), Instant::MAX, present.clone());
        let mut before: Vec<Timed> = Vec::new();
        for (by, until, version) in priors.chain([own]) {
            let timed = Timed::new(version);
            if by > known {
                self.meet_late_edit(desk, (&timed, until), &before, base);
            }
            before.push(timed);
        }
    }

    /// `before`: the versions of which one was gone on with.
    fn meet_late_edit(
        &mut self,
        desk: &mut Desk,
        (timed, until): (&Timed, Instant),
        before: &[Timed],
        base: Marks,
    ) {
        // A full record has forgotten some.
        let forgotten = before.len() >= limits::PRIORS_MAX;
        let told = self.is_local();
        let ran = |at: Instant| {
            !told && (forgotten || before.iter().any(|before| before.decided(at, base)))
        };
        if let Some(at) = timed.task.spec.one_shot_at() {
            if ran(at) && at <= base.through {
                self.skip_instants(desk, timed, (at, at), EDITED_LATE);
                self.end_one_shot_that_ran(desk, &timed.task);
            }
            return;
        }
        let (from, until) = (timed.task.effective_from.instant(), until.min(base.through));
        if until <= from {
            return;
        }
        for instant in self.not_covered(timed, from, until) {
            let due = timed.due(instant);
            if ran(instant) {
                if due > base.through {
                    // Its account is with who ran it, if anybody did.
                    self.skip_instants(desk, timed, (instant, instant), EDITED_LATE);
                }
                self.list_over(desk, &timed.task, instant, due);
            }
        }
        let decided = self.window.decided_names.of_version(&timed.task).unwrap_or(Instant::MIN);
        let undecided = timed.first_due_after(base.through, from.max(decided));
        let through = covered_to(until, undecided);
        if from < through {
            let first = from.plus(MILLISECOND);
            self.skip_instants(desk, timed, (first, through), EDITED_LATE);
            // Those of them that a series would have made up for have ended with this.
            self.cut_series(&timed.task, first);
        }
    }
}

impl Desk {
    /// Whether a revision had been heard of where these marks come from. Those of another epoch
    /// have come again since.
    pub(super) fn was_known(&self, marks: Marks, revision: Revision) -> bool {
        let Incarnation { epoch, revision: known } = marks.incarnation;
        epoch == self.config.epoch && revision <= known
    }
}

impl Timed {
    /// Whether it has this instant, and marks tell that it was decided.
    fn decided(&self, instant: Instant, marks: Marks) -> bool {
        let recurring = self.task.spec.one_shot_at().is_none();
        recurring && self.has(instant) && self.due(instant) <= marks.through
    }
}
