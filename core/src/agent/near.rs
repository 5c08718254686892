//! The tasks that matter now: those with an entry in the wheel or an instant decided lately. All
//! others are in the store alone, so memory follows what is due soon, not how many tasks there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{Incarnation, RangeId, TaskName, TaskNumber};
use crate::ledger::Marks;
use crate::schedule::{Timetable, jitter};
use crate::task::Task;
use crate::time::{Instant, Mono};

/// How long a task without an entry is remembered: an edit that was under way while its instant
/// was decided arrives well within it (the licence is shorter).
const REMEMBERED: Duration = Duration::from_secs(10);

/// A task with the times it runs at.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    pub task: Arc<Task>,
    pub timetable: Timetable,
}

impl Timed {
    pub fn new(task: Arc<Task>) -> Timed {
        let timetable = Timetable {
            schedules: task.spec.schedules.clone(),
            start: task.spec.start_at.map(|start| start.instant()),
            end: task.spec.end_at.map(|end| end.instant()),
            last: task.last_instant,
            exclude: task.spec.exclude.clone(),
        };
        Timed { task, timetable }
    }

    /// The due of an instant of this task.
    pub fn due(&self, instant: Instant) -> Instant {
        if self.task.spec.jitter.is_zero() {
            return instant;
        }
        let next = self.timetable.next_after(instant);
        jitter::due(&self.task.spec.name, instant, next, self.task.spec.jitter).instant()
    }

    /// The first instant whose due is after `through`, and which itself is after `from`.
    pub fn first_due_after(&self, through: Instant, from: Instant) -> Option<(Instant, Instant)> {
        let mut after = through.minus(self.task.spec.jitter).max(from);
        loop {
            let instant = self.timetable.next_after(after)?;
            let due = self.due(instant);
            if due > through || through < from {
                return Some((instant, due));
            }
            after = instant;
        }
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
    pub touched: Mono,
}

#[derive(Debug, Default)]
pub(crate) struct NearTasks {
    tasks: BTreeMap<TaskNumber, NearTask>,
    names: BTreeMap<(RangeId, TaskName), TaskNumber>,
    /// Versions that were superseded and still owe instants.
    superseded: BTreeMap<(RangeId, TaskName), Vec<TaskNumber>>,
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
        self.names.get(&(range, name.clone())).copied()
    }

    pub fn insert(&mut self, number: TaskNumber, task: NearTask) {
        let name = task.timed.task.spec.name.clone();
        self.names.insert((task.range, name), number);
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
            let decided = None;
            self.insert(number, NearTask { timed, range, queued, decided, until, touched });
        }
        if let Some(task) = self.tasks.get_mut(&number) {
            task.decided = task.decided.max(Some(decided));
        }
    }

    /// Forgets a version. Its entry, if it has one, is stale from now on.
    pub fn remove(&mut self, number: TaskNumber) -> Option<NearTask> {
        let task = self.tasks.remove(&number)?;
        let key = (task.range, task.timed.task.spec.name.clone());
        if self.names.get(&key) == Some(&number) {
            self.names.remove(&key);
        }
        if let Some(old) = self.superseded.get_mut(&key) {
            old.retain(|other| *other != number);
            if old.is_empty() {
                self.superseded.remove(&key);
            }
        }
        Some(task)
    }

    /// Takes a version's name away, so that a newer one can have it; its entries go on.
    pub fn supersede(&mut self, number: TaskNumber, until: Instant) {
        if let Some(task) = self.tasks.get_mut(&number) {
            task.until = Some(until);
            let key = (task.range, task.timed.task.spec.name.clone());
            self.names.remove(&key);
            self.superseded.entry(key).or_default().push(number);
        }
    }

    /// Takes out the versions of a range that were superseded and still owe instants.
    pub fn take_superseded(&mut self, range: RangeId) -> Vec<NearTask> {
        let of = self.superseded.iter().filter(|((at, _), _)| *at == range);
        let numbers: Vec<TaskNumber> = of.flat_map(|(_, numbers)| numbers).copied().collect();
        numbers.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    /// The record of a task cannot be read: no entry of it counts any more, and what was decided
    /// stays known. Hands back the next instant that it had here, and its superseded versions.
    pub fn silence(&mut self, range: RangeId, name: &TaskName) -> (Option<Instant>, Vec<NearTask>) {
        let old = self.superseded.remove(&(range, name.clone())).unwrap_or_default();
        let old: Vec<NearTask> = old.into_iter().filter_map(|number| self.remove(number)).collect();
        let present = self.named(range, name).and_then(|number| self.get_mut(number));
        (present.and_then(|near| near.queued.take()).map(|(_, instant)| instant), old)
    }

    /// Forgets a task with all its versions: it was deleted.
    pub fn remove_named(&mut self, range: RangeId, name: &TaskName) {
        let old = self.superseded.remove(&(range, name.clone())).unwrap_or_default();
        for number in self.named(range, name).into_iter().chain(old) {
            self.remove(number);
        }
    }

    /// Forgets a range's tasks; what was decided of each is handed back, by name and life.
    pub fn remove_range(&mut self, range: RangeId) -> BTreeMap<(TaskName, Incarnation), Instant> {
        let mut decided = BTreeMap::new();
        self.tasks.retain(|_, near| {
            let task = &near.timed.task;
            if near.range == range
                && let Some(at) = near.decided
            {
                let newest =
                    decided.entry((task.spec.name.clone(), task.incarnation)).or_insert(at);
                *newest = at.max(*newest);
            }
            near.range != range
        });
        self.names.retain(|(at, _), _| *at != range);
        self.superseded.retain(|(at, _), _| *at != range);
        decided
    }

    /// Forgets what has no entry and was not touched lately. What no ledger has `covered` yet is
    /// kept, however long that takes while clocks disagree: nobody else remembers that it started.
    pub fn sweep(&mut self, now: Mono, covered: impl Fn(RangeId) -> Option<Marks>) {
        let stale: Vec<TaskNumber> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.queued.is_none() && now.since(task.touched) > REMEMBERED)
            .filter(|(_, task)| match (task.decided, covered(task.range)) {
                (Some(at), Some(marks)) => marks.cover(at, task.timed.task.incarnation),
                (decided, _) => decided.is_none(),
            })
            .map(|(number, _)| *number)
            .collect();
        for number in stale {
            self.remove(number);
        }
    }
}
