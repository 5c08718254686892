//! The tasks that matter now: those with an entry in the wheel or an instant decided lately. All
//! others are in the store alone, so memory follows what is due soon, not how many tasks there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::priors::version_before;
use crate::agent::take::run_id;
use crate::ids::{Incarnation, RangeId, TaskName, TaskNumber};
use crate::ledger::Marks;
use crate::schedule::{Timetable, jitter};
use crate::task::{Task, timetable};
use crate::time::{Instant, Mono, Wall};

/// How long a task without an entry is remembered: an edit that was under way while its instant
/// was decided arrives well within it (the licence is shorter).
const REMEMBERED: Duration = Duration::from_secs(10);
/// How often those are looked for: it is a walk over all that is near.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A task with the times it runs at.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    pub task: Arc<Task>,
    pub timetable: Timetable,
}

impl Timed {
    pub fn new(task: Arc<Task>) -> Timed {
        let timetable = timetable(&task.spec, task.last_instant);
        Timed { task, timetable }
    }

    /// The due of an instant of this task.
    pub fn due(&self, instant: Instant) -> Instant {
        let spec = &self.task.spec;
        if spec.delay_max().is_zero() {
            return instant;
        }
        let next = self.timetable.next_after(instant);
        let share = self.task.share_of.as_ref().map(|agent| (agent, spec.broadcast.splay));
        jitter::due_of_share(&spec.name, share, instant, next, spec.jitter).instant()
    }

    /// How far marks have to be to cover what was decided up to this instant: they tell of dues.
    /// Of a one-shot they tell nothing; what it knows is of the schedules before.
    pub fn last_due(&self, decided: Instant) -> Instant {
        let before = decided.minus(self.task.spec.delay_max());
        let last = match before < decided && self.task.spec.one_shot_at().is_none() {
            true => self.timetable.last_between(before, decided),
            false => None,
        };
        last.map_or(decided, |last| self.due(last).max(decided))
    }

    /// Whether marks cover all that was decided up to this instant.
    pub fn is_told_by(&self, marks: Marks, decided: Instant) -> bool {
        let life = self.task.incarnation;
        marks.cover(decided, life) && marks.cover(self.last_due(decided), life)
    }

    /// The first instant whose due is after `through`, and which itself is after `from`.
    pub fn first_due_after(&self, through: Instant, from: Instant) -> Option<(Instant, Instant)> {
        // A due lies before the next instant: of those up to `through` only the last may be due
        // later, however many the jitter spans.
        let before = through.minus(self.task.spec.delay_max()).max(from);
        let last = match before < through {
            true => self.timetable.last_between(before, through),
            false => None,
        };
        let late = last.map(|at| (at, self.due(at))).filter(|(_, due)| *due > through);
        late.or_else(|| {
            let next = self.timetable.next_after(through.max(from))?;
            Some((next, self.due(next)))
        })
    }
}

#[derive(Debug)]
pub(crate) struct NearTask {
    pub timed: Arc<Timed>,
    pub range: RangeId,
    /// The due of its entry in the wheel or among the parked, with the instant it stands for.
    pub queued: Option<(Instant, Instant)>,
    /// The newest instant that was decided.
    pub decided: Option<Instant>,
    /// Superseded: instants after this belong to a newer version.
    pub until: Option<Instant>,
    /// Superseded: the newest version, which says what starts. It need not be near itself.
    pub newest: Option<Arc<Task>>,
    pub touched: Mono,
}

impl NearTask {
    pub fn is_paused(&self) -> bool {
        self.timed.task.spec.paused || self.newest.as_ref().is_some_and(|task| task.spec.paused)
    }

    /// The version by which an instant of this one starts: a superseded one only says which
    /// instants there are. A task that has become a one-shot still has those of the time before.
    pub fn starts_as(&self, instant: Instant) -> Arc<Task> {
        let own = &self.timed.task;
        let newest = self.newest.as_ref().unwrap_or(own);
        match newest.spec.one_shot_at().is_some() && own.spec.one_shot_at().is_none() {
            true => version_before(&run_id(own, instant), newest).unwrap_or_else(|| own.clone()),
            false => newest.clone(),
        }
    }
}

/// Up to which instant tasks are decided, as it was known before a window began anew.
#[derive(Debug, Default)]
pub(crate) struct DecidedNames {
    lives: BTreeMap<(TaskName, Incarnation), DecidedTo>,
    /// By the moment from which on the version's instants count: it tells the versions of a task
    /// apart that have different instants.
    versions: BTreeMap<(TaskName, Incarnation, Wall), DecidedTo>,
}

/// All instants up to `at` are decided, the last of them was due at `due`.
#[derive(Clone, Copy, Debug)]
struct DecidedTo {
    at: Instant,
    due: Instant,
}

impl DecidedTo {
    fn and(self, other: DecidedTo) -> DecidedTo {
        DecidedTo { at: self.at.max(other.at), due: self.due.max(other.due) }
    }
}

impl DecidedNames {
    pub fn note(&mut self, version: &Timed, at: Instant) {
        let decided = DecidedTo { at, due: version.last_due(at) };
        let task = &version.task;
        self.note_both(&task.spec.name, task.incarnation, task.effective_from, decided);
    }

    fn note_both(
        &mut self,
        name: &TaskName,
        life: Incarnation,
        effective_from: Wall,
        decided: DecidedTo,
    ) {
        let newest = self.lives.entry((name.clone(), life)).or_insert(decided);
        *newest = newest.and(decided);
        let key = (name.clone(), life, effective_from);
        let newest = self.versions.entry(key).or_insert(decided);
        *newest = newest.and(decided);
    }

    /// Takes over what was known before and is not covered: it may begin anew several times before
    /// a ledger says anything.
    pub fn keep(&mut self, before: DecidedNames, marks: Marks) {
        for ((name, life, from), decided) in before.versions {
            if !marks.cover(decided.due, life) {
                self.note_both(&name, life, from, decided);
            }
        }
    }

    /// Forgets what ledgers tell by now.
    pub fn forget_covered(&mut self, marks: Marks) {
        self.lives.retain(|(_, life), decided| !marks.cover(decided.due, *life));
        self.versions.retain(|(_, life, _), decided| !marks.cover(decided.due, *life));
    }

    /// Of any version of a task's life.
    pub fn of_life(&self, task: &Task) -> Option<Instant> {
        self.lives.get(&(task.spec.name.clone(), task.incarnation)).map(|decided| decided.at)
    }

    /// What a version before had decided is for one that brings instants.
    pub fn that_bind(&self, task: &Task) -> Option<Instant> {
        match task.brings_instants() {
            true => self.of_life(task),
            false => self.of_version(task),
        }
    }

    pub fn of_version(&self, task: &Task) -> Option<Instant> {
        let key = (task.spec.name.clone(), task.incarnation, task.effective_from);
        self.versions.get(&key).map(|decided| decided.at)
    }

    pub fn clear(&mut self) {
        self.lives.clear();
        self.versions.clear();
    }
}

#[derive(Debug, Default)]
pub(crate) struct NearTasks {
    tasks: BTreeMap<TaskNumber, NearTask>,
    names: BTreeMap<RangeId, BTreeMap<TaskName, TaskNumber>>,
    /// Versions that were superseded and still owe instants.
    superseded: BTreeMap<(RangeId, TaskName), Vec<TaskNumber>>,
    swept: Mono,
}

impl NearTasks {
    pub fn get(&self, number: TaskNumber) -> Option<&NearTask> {
        self.tasks.get(&number)
    }

    pub fn get_mut(&mut self, number: TaskNumber) -> Option<&mut NearTask> {
        self.tasks.get_mut(&number)
    }

    /// The present version of a task, if it is near.
    pub fn named(&self, range: RangeId, name: &TaskName) -> Option<TaskNumber> {
        self.names.get(&range)?.get(name).copied()
    }

    /// When the next entry of a range is due, by the present versions of its tasks.
    pub fn next_due(&self, range: RangeId) -> Option<Instant> {
        let near = self.names.get(&range)?.values().filter_map(|number| self.tasks.get(number));
        near.filter_map(|near| near.queued).map(|(due, _)| due).min()
    }

    pub fn insert(&mut self, number: TaskNumber, task: NearTask) {
        let name = task.timed.task.spec.name.clone();
        self.names.entry(task.range).or_default().insert(name, number);
        self.tasks.insert(number, task);
    }

    /// Notes up to where a version's instants are decided, with or without an entry of its own.
    pub fn remember(
        &mut self,
        number: TaskNumber,
        timed: &Arc<Timed>,
        range: RangeId,
        decided: Instant,
        touched: Mono,
    ) {
        if !self.tasks.contains_key(&number) {
            let (timed, queued, until) = (timed.clone(), None, None);
            let (decided, newest) = (None, None);
            self.insert(number, NearTask { timed, range, queued, decided, until, newest, touched });
        }
        if let Some(task) = self.tasks.get_mut(&number) {
            task.decided = task.decided.max(Some(decided));
        }
    }

    /// Forgets a version. Its entry, if it has one, is stale from now on.
    pub fn remove(&mut self, number: TaskNumber) -> Option<NearTask> {
        let task = self.tasks.remove(&number)?;
        let key = (task.range, task.timed.task.spec.name.clone());
        if let Some(names) = self.names.get_mut(&task.range)
            && names.get(&key.1) == Some(&number)
        {
            names.remove(&key.1);
        }
        if let Some(old) = self.superseded.get_mut(&key) {
            old.retain(|other| *other != number);
            if old.is_empty() {
                self.superseded.remove(&key);
            }
        }
        Some(task)
    }

    /// Takes a version's name away, so that a newer one can have it; what it owes up to `until`
    /// goes on, and what was decided of it stays known.
    pub fn supersede(&mut self, number: TaskNumber, until: Instant) {
        if let Some(task) = self.tasks.get_mut(&number) {
            task.until = Some(until);
            task.queued = task.queued.filter(|(_, instant)| *instant <= until);
            let key = (task.range, task.timed.task.spec.name.clone());
            if let Some(names) = self.names.get_mut(&key.0) {
                names.remove(&key.1);
            }
            self.superseded.entry(key).or_default().push(number);
        }
    }

    /// What starts at an instant of a superseded version is said by this one from now on.
    pub fn renew_superseded(&mut self, range: RangeId, newest: &Arc<Task>) {
        let Some(numbers) = self.superseded.get(&(range, newest.spec.name.clone())) else { return };
        for number in numbers {
            if let Some(near) = self.tasks.get_mut(number)
                && near.timed.task.incarnation == newest.incarnation
            {
                near.newest = Some(newest.clone());
            }
        }
    }

    /// Puts a version beside the present one: of its instants up to `until` some may be undecided.
    pub fn insert_superseded(&mut self, number: TaskNumber, task: NearTask) {
        let key = (task.range, task.timed.task.spec.name.clone());
        self.tasks.insert(number, task);
        self.superseded.entry(key).or_default().push(number);
    }

    /// The superseded version of a task whose instants begin after `from`.
    pub fn superseded_from(
        &self,
        range: RangeId,
        name: &TaskName,
        from: Wall,
    ) -> Option<&NearTask> {
        let numbers = self.superseded.get(&(range, name.clone()))?;
        let all = numbers.iter().filter_map(|number| self.tasks.get(number));
        all.into_iter().find(|near| near.timed.task.effective_from == from)
    }

    /// The record of a task cannot be read: no entry of it counts any more, and what was decided
    /// stays known. Hands back when it was due next, if that was here, and its superseded versions.
    pub fn silence(&mut self, range: RangeId, name: &TaskName) -> (Option<Instant>, Vec<NearTask>) {
        let old = self.superseded.remove(&(range, name.clone())).unwrap_or_default();
        let old: Vec<NearTask> = old.into_iter().filter_map(|number| self.remove(number)).collect();
        let present = self.named(range, name).and_then(|number| self.get_mut(number));
        (present.and_then(|near| near.queued.take()).map(|(due, _)| due), old)
    }

    /// Up to where the versions of a task are decided, as far as they are near.
    pub fn decided_of(
        &self,
        range: RangeId,
        name: &TaskName,
    ) -> impl Iterator<Item = (&Timed, Instant)> {
        let old = self.superseded.get(&(range, name.clone())).into_iter().flatten().copied();
        let all = self.named(range, name).into_iter().chain(old);
        let all = all.filter_map(|number| self.tasks.get(&number));
        all.filter_map(|near| Some((&*near.timed, near.decided?)))
    }

    /// The instants of a version up to `at` are decided, if it is near.
    pub fn decide_to(&mut self, range: RangeId, name: &TaskName, from: Wall, at: Instant) {
        let old = self.superseded.get(&(range, name.clone())).into_iter().flatten().copied();
        let numbers: Vec<TaskNumber> = self.named(range, name).into_iter().chain(old).collect();
        for number in numbers {
            if let Some(near) = self.tasks.get_mut(&number)
                && near.timed.task.effective_from == from
            {
                near.decided = near.decided.max(Some(at));
            }
        }
    }

    /// Forgets a task with all its versions: it was deleted.
    pub fn remove_named(&mut self, range: RangeId, name: &TaskName) {
        let old = self.superseded.remove(&(range, name.clone())).unwrap_or_default();
        for number in self.named(range, name).into_iter().chain(old) {
            self.remove(number);
        }
    }

    /// Forgets a range's tasks; what was decided of each is handed back.
    pub fn remove_range(&mut self, range: RangeId) -> DecidedNames {
        let mut names = DecidedNames::default();
        self.tasks.retain(|_, near| {
            if near.range == range
                && let Some(at) = near.decided
            {
                names.note(&near.timed, at);
            }
            near.range != range
        });
        self.names.remove(&range);
        self.superseded.retain(|(at, _), _| *at != range);
        names
    }

    /// Forgets what has no entry and was not touched lately. What no ledger has `covered` yet is
    /// kept, however long that takes while clocks disagree: nobody else remembers that it started.
    pub fn sweep(&mut self, now: Mono, covered: impl Fn(RangeId) -> Option<Marks>) {
        if now.since(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        let stale: Vec<TaskNumber> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.queued.is_none() && now.since(task.touched) > REMEMBERED)
            .filter(|(_, task)| match (task.decided, covered(task.range)) {
                (Some(at), Some(marks)) => task.timed.is_told_by(marks, at),
                (decided, _) => decided.is_none(),
            })
            .map(|(number, _)| *number)
            .collect();
        for number in stale {
            self.remove(number);
        }
    }
}
