//! A range's durable progress record: what its holders have behind them, and what is open.
//!
//! The whole argument is in docs/ledger.md; rules are named by their numbers (L1 to L8). This file
//! holds the record and its one question, "is this run covered?". `takeover` reads a predecessor's
//! record, the agent's `ledgering` writes one.

use crate::ids::{Attempt, Fence, Incarnation, LedgerNumber, Revision, RunId, RunKey, Session};
use crate::time::{Instant, MILLISECOND, Wall};

pub mod takeover;

/// What the marks have passed. Both only grow, over all fences (L5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marks {
    /// Every run due at or before this is decided...
    pub through: Instant,
    /// ...if its task was created at or before this.
    pub incarnation: Incarnation,
}

impl Marks {
    /// The marks of a range that nobody has held yet.
    pub const NONE: Marks = Marks {
        through: Instant::MIN,
        incarnation: Incarnation { epoch: crate::ids::Epoch(0), revision: Revision(0) },
    };

    /// Whether a recurring run that is due at `due` is behind the marks: it has ended, or is
    /// listed. One-shots and triggers are never covered: as long as its key exists, such a run is
    /// not done.
    pub fn cover(&self, due: Instant, incarnation: Incarnation) -> bool {
        due <= self.through && incarnation <= self.incarnation
    }

    /// How far the schedules of tasks are needed no more, where a ledger with these marks lists
    /// series, the earliest of which begins at `series`: what a series holds is told by the
    /// schedule that it is of.
    pub fn done_with(self, series: Option<Instant>) -> Marks {
        let before = series.map_or(self.through, |first| first.minus(MILLISECOND));
        Marks { through: self.through.min(before), ..self }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Ledger {
    pub fence: Fence,
    pub number: LedgerNumber,
    pub marks: Marks,
    pub open: Vec<Entry>,
}

/// A run that is not done, or done and not yet covered or deleted.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    pub run: RunId,
    /// When the run was due; of a trigger, when it was asked for.
    pub due: Instant,
    /// The attempt that the state speaks of; number 0: none was made yet.
    pub attempt: Attempt,
    pub state: EntryState,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum EntryState {
    /// The attempt runs, or was running when its holder was last heard of.
    Started,
    /// An attempt of an at-most-once run that may be running, or may yet start (L2).
    Permitted,
    /// Nothing runs; the next attempt goes on at `at`.
    Waiting { at: Wall },
    /// Instants of one task from the entry's own to `last` that are to be made up for, in order.
    CatchUp { at: Wall, last: Instant },
    /// The attempt was left running with an earlier holder.
    Held { session: Session },
    /// Done, but not yet covered or its key not yet seen gone.
    Ended,
}

impl Ledger {
    /// What there is before the first one.
    pub fn empty() -> Ledger {
        let (fence, number) = (Fence::default(), LedgerNumber::default());
        Ledger { fence, number, marks: Marks::NONE, open: Vec::new() }
    }

    /// How far the schedules of the range's tasks are needed no more.
    pub fn done_with(&self) -> Marks {
        let series = self.open.iter().filter_map(|entry| match (entry.state, entry.run.run) {
            (EntryState::CatchUp { .. }, RunKey::Instant(first)) => Some(first),
            _ => None,
        });
        self.marks.done_with(series.min())
    }

    /// Whether a run is open by this ledger: listed itself, or in a series that is.
    pub fn lists(&self, run: &RunId) -> bool {
        self.open.iter().any(|entry| entry.speaks_of(run))
    }
}

impl Entry {
    /// Whether a run is this entry's, or one of those that are made up for after it.
    pub fn speaks_of(&self, run: &RunId) -> bool {
        let EntryState::CatchUp { last, .. } = self.state else { return self.run == *run };
        let (RunKey::Instant(first), RunKey::Instant(instant)) = (self.run.run, run.run) else {
            return self.run == *run;
        };
        let same = self.run.task == run.task && self.run.incarnation == run.incarnation;
        same && (first..=last).contains(&instant)
    }
}
