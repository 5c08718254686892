//! What an answer to `why` is drawn from, as plain data: gathered in `mod`, judged in `verdict`,
//! told in `words`.

use std::time::Duration;

use crate::timeline::Moment;
use tocktower_core::ids::{AgentName, Fence, PoolName, RangeId, RunKey};
use tocktower_core::ledger::{Entry, EntryState, Marks};
use tocktower_core::run::{RunRecord, RunState};
use tocktower_core::task::Task;
use tocktower_core::time::{Instant, Wall};

#[derive(Clone, PartialEq, Debug)]
pub struct Facts {
    pub now: Wall,
    /// The moment that is asked about.
    pub at: Instant,
    pub subject: Subject,
    /// The run of that instant, or the row of instants that were not run to which it belongs.
    pub run: Option<RunRecord>,
    /// An earlier run of the task that has not ended, if that is of interest.
    pub ahead: Option<RunRecord>,
    pub range: RangeFacts,
    /// Agents that may know more and did not answer, or are down.
    pub incomplete: Vec<String>,
    /// This coordinator cannot reach the shared state.
    pub stale: bool,
}

/// What is known of the task itself.
#[derive(Clone, PartialEq, Debug)]
pub enum Subject {
    Task {
        task: Box<Task>,
        moment: Moment,
        /// The instants around it, as far as they are known.
        previous: Option<Shown>,
        next: Option<Shown>,
    },
    /// Its record cannot be read.
    Unreadable { error: String },
    /// There is no task of that name now; its newest run, if one is known.
    Gone { newest: Option<Box<RunRecord>> },
}

/// An instant, with its time by the zone of its schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    pub instant: Instant,
    pub local: String,
}

/// The range of the task, its holder and its ledger.
#[derive(Clone, PartialEq, Debug)]
pub struct RangeFacts {
    /// `None`: it is pinned, or it is gone and nobody knows where it was.
    pub pool: Option<PoolName>,
    /// The agent that the task is pinned to: its range has no part in that.
    pub pinned: Option<Pinned>,
    pub id: RangeId,
    /// Hexadecimal, of fixed width.
    pub hex: String,
    pub holder: Option<Holder>,
    /// Time since the newest write of a holder came, or since the last one left. `None`: none ever
    /// did.
    pub quiet: Option<Duration>,
    /// `None`: it has no ledger yet.
    pub marks: Option<Marks>,
    /// What the ledger lists of the run.
    pub entry: Option<Entry>,
    /// Why the ledger could not be read; the marks are those of the catalog then.
    pub ledger_error: Option<String>,
    pub agents: PoolAgents,
    /// What its holder knows to be in the way of what comes due.
    pub in_the_way: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    pub agent: AgentName,
    pub fence: Fence,
    /// It has a link to this coordinator.
    pub linked: bool,
}

/// The one agent that runs a task, or whose share of one of every agent is asked about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pinned {
    pub agent: AgentName,
    /// There is, or was, an agent of this name.
    pub known: bool,
    /// It has a link to this coordinator.
    pub linked: bool,
    /// Of a task of every agent: whether this one has a share of it, as far as is known.
    pub selected: Option<bool>,
}

/// Who could hold ranges of the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PoolAgents {
    /// With a session.
    pub present: usize,
    /// Of those, such as weigh more than 0.
    pub able: usize,
    /// Of those, such as are neither cordoned nor drained.
    pub taking: usize,
}

impl RangeFacts {
    /// A sentence on what is in the way of the holder, if it knows.
    pub fn what_the_holder_says(&self) -> String {
        let told = self.in_the_way.as_ref();
        told.map(|told| format!(" It says what is in its way: {told}.")).unwrap_or_default()
    }
}

impl Facts {
    pub fn task(&self) -> Option<&Task> {
        match &self.subject {
            Subject::Task { task, .. } => Some(task),
            Subject::Unreadable { .. } | Subject::Gone { .. } => None,
        }
    }

    pub fn moment(&self) -> Option<Moment> {
        match self.subject {
            Subject::Task { moment, .. } => Some(moment),
            Subject::Unreadable { .. } | Subject::Gone { .. } => None,
        }
    }

    /// The instants before and after it.
    pub fn around(&self) -> (Option<&Shown>, Option<&Shown>) {
        match &self.subject {
            Subject::Task { previous, next, .. } => (previous.as_ref(), next.as_ref()),
            Subject::Unreadable { .. } | Subject::Gone { .. } => (None, None),
        }
    }

    /// When it should start, or should have.
    pub fn due(&self) -> Option<Wall> {
        match (self.moment(), &self.run) {
            // That of a row of instants is of its last one.
            (Some(Moment::Instant { due, .. }), _) => Some(due),
            (_, Some(run)) if run.span.is_none() => Some(run.due),
            _ => None,
        }
    }

    /// How long it has been due.
    pub fn late(&self) -> Duration {
        self.due().map_or(Duration::ZERO, |due| self.now.since(due))
    }

    /// Whether the ledger says of the instant that it is decided. `None`: it says nothing of such
    /// runs, as those of one-shots and those asked for by hand.
    pub fn covered(&self) -> Option<bool> {
        let task = self.task()?;
        let Some(Moment::Instant { due, .. }) = self.moment() else { return None };
        if task.spec.one_shot_at() == Some(self.at) {
            return None;
        }
        let marks = self.range.marks.unwrap_or(Marks::NONE);
        Some(marks.cover(due.instant(), task.incarnation))
    }

    /// Whether whoever is asked about runs it at all.
    pub fn selected(&self) -> bool {
        self.range.pinned.as_ref().is_none_or(|pinned| pinned.selected != Some(false))
    }

    /// What has not started waits for the end of a pause. Who asks for a run gets it.
    pub fn pause_holds(&self) -> bool {
        let paused = self.task().is_some_and(|task| task.spec.paused);
        let manual = |run: &RunRecord| matches!(run.id.run, RunKey::Manual(_));
        let running = |run: &RunRecord| run.state == RunState::Running;
        paused && !self.run.as_ref().is_some_and(|run| manual(run) || running(run))
    }

    /// Whether the holder was asked and kept silent.
    pub fn holder_silent(&self) -> bool {
        let holder = self.range.holder.as_ref().map(|holder| holder.agent.to_string());
        holder.is_some_and(|holder| self.incomplete.contains(&holder))
    }
}

/// How the state of an entry is told, and when one that waits goes on.
pub fn entry_shown(entry: &Entry) -> (&'static str, Option<Wall>) {
    match entry.state {
        EntryState::Started => ("started", None),
        EntryState::Permitted => ("permitted", None),
        EntryState::Held { .. } => ("held", None),
        EntryState::Waiting { at } => ("waiting", Some(at)),
        EntryState::CatchUp { at, .. } => ("catch_up", Some(at)),
        EntryState::Ended => ("ended", None),
    }
}
