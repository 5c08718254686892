//! Where a moment stands among the instants of a task.
//!
//! A task is a row of versions: the schedules that edits replaced, as far as its record still has
//! them, and the present one. Each says which instants there are between two moments. What no
//! version speaks of is unknown, and said to be: an instant that is not there any more must not be
//! taken for one that never was. The instant of a one-shot stands for itself, whenever the task was
//! edited: it may have been created late. Of a task of every agent it is the timeline of the share
//! that the task names (`share_of`), if it names one: each has dues of its own.

use std::time::Duration;

use tocktower_core::schedule::{Timetable, jitter};
use tocktower_core::task::{Task, timetable};
use tocktower_core::time::{Instant, Wall};

/// How fine the time of schedules is.
pub const MILLISECOND: Duration = Duration::from_millis(1);

/// The versions of a task that are known, the oldest first.
pub struct Timeline<'a> {
    task: &'a Task,
    versions: Vec<Version>,
}

struct Version {
    table: Timetable,
    jitter: Duration,
    splay: Duration,
    paused: bool,
    /// Its instants are those after this...
    from: Instant,
    /// ...and up to this.
    until: Instant,
}

/// What a moment is to a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// One of its instants, due then; `paused` by the version that it belongs to.
    Instant { due: Wall, paused: bool },
    /// None of its instants.
    Between,
    /// The task was created only then.
    BeforeTask { created: Wall },
    /// The versions that are known begin only then.
    BeforeEdit { edited: Wall },
}

impl Timeline<'_> {
    pub fn new(task: &Task) -> Timeline<'_> {
        let version = |task: &Task, until: Instant| Version {
            table: timetable(&task.spec, task.last_instant),
            jitter: task.spec.jitter,
            splay: task.spec.broadcast.splay,
            paused: task.spec.paused,
            from: match task.spec.one_shot_at() {
                Some(at) => at.minus(MILLISECOND),
                None => task.effective_from.instant(),
            },
            until,
        };
        let priors = task.prior.iter();
        let priors = priors.map(|prior| version(&prior.version(task), prior.until.instant()));
        let versions = priors.chain([version(task, Instant::MAX)]).collect();
        Timeline { task, versions }
    }

    pub fn moment(&self, at: Instant) -> Moment {
        let version = self.versions.iter().rev().find(|version| version.has(at));
        if let Some(version) = version {
            let due = self.due(version, at);
            return Moment::Instant { due, paused: version.paused };
        }
        let speaks = |version: &&Version| version.from < at && at <= version.until;
        if self.task.spec.one_shot_at().is_some() && self.task.prior.is_empty()
            || self.versions.iter().any(|version| speaks(&version))
        {
            return Moment::Between;
        }
        if at <= self.task.created_at.instant() {
            return Moment::BeforeTask { created: self.task.created_at };
        }
        let begins = self.versions.iter().map(|version| version.from).filter(|from| at <= *from);
        let edited = begins.min().map_or(self.task.updated_at, Instant::wall);
        Moment::BeforeEdit { edited }
    }

    /// The newest instant before `at` that is known.
    pub fn previous(&self, at: Instant) -> Option<Instant> {
        let before = at.minus(MILLISECOND);
        let last =
            |version: &Version| version.table.last_between(version.from, version.until.min(before));
        self.versions.iter().filter_map(last).max().filter(|previous| *previous < at)
    }

    /// The first instant after `at` that is known.
    pub fn next(&self, at: Instant) -> Option<Instant> {
        let first = |version: &Version| {
            let next = version.table.next_after(at.max(version.from))?;
            Some(next).filter(|next| *next <= version.until)
        };
        self.versions.iter().filter_map(first).min()
    }

    /// The newest instant that should have run by now; if there is none yet, the next one.
    pub fn newest_due(&self, now: Wall) -> Option<Instant> {
        let mut newest = self.previous(now.instant().plus(MILLISECOND));
        while let Some(at) = newest {
            match self.moment(at) {
                // With jitter it is due later; one before it may be due by now.
                Moment::Instant { due, .. } if due > now => newest = self.previous(at),
                _ => return Some(at),
            }
        }
        self.next(now.instant()).or_else(|| self.previous(Instant::MAX))
    }

    /// When a run of it is due for the first time after `through`, unless somebody has to end a
    /// pause before.
    pub fn first_due_after(&self, through: Instant) -> Option<Instant> {
        if self.task.spec.paused {
            return None;
        }
        let unpaused = self.versions.iter().filter(|version| !version.paused);
        unpaused.filter_map(|version| self.first_due_of(version, through)).min()
    }

    /// A due lies before the next instant: so it is that of the last instant up to `through`, or
    /// of the one after it.
    fn first_due_of(&self, version: &Version, through: Instant) -> Option<Instant> {
        if version.delays() {
            let last = version.table.last_between(version.from, through.min(version.until));
            let due = last.map(|last| self.due(version, last).instant());
            if let Some(due) = due.filter(|due| *due > through) {
                return Some(due);
            }
        }
        let next = version.table.next_after(through.max(version.from))?;
        let next = Some(next).filter(|next| *next <= version.until)?;
        Some(self.due(version, next).instant())
    }

    /// The timetable that has an instant.
    pub fn table_of(&self, at: Instant) -> Option<&Timetable> {
        let version = self.versions.iter().rev().find(|version| version.has(at));
        version.map(|version| &version.table)
    }

    fn due(&self, version: &Version, at: Instant) -> Wall {
        if !version.delays() {
            return at.wall();
        }
        let next = version.table.next_after(at);
        let share = self.task.share_of.as_ref().map(|agent| (agent, version.splay));
        jitter::due_of_share(&self.task.spec.name, share, at, next, version.jitter)
    }
}

impl Version {
    fn delays(&self) -> bool {
        !self.jitter.is_zero() || !self.splay.is_zero()
    }

    fn has(&self, at: Instant) -> bool {
        let before = at.minus(MILLISECOND);
        self.from < at && at <= self.until && self.table.next_after(before) == Some(at)
    }
}
