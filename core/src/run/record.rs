//! A run as it is reported and kept: the one shape that history, API and live feed share.

use crate::ids::{AgentName, Attempt, Fence, RunId, Session};
use crate::run::{AttemptEnd, ResultCode};
use crate::time::{Instant, Wall};

/// Where a run is in its life. The last seven are ends; a run reaches exactly one of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RunState {
    Queued,
    Running,
    WaitingRetry,
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    Lost,
    Skipped,
    Missed,
}

impl RunState {
    pub fn is_end(self) -> bool {
        !matches!(self, RunState::Queued | RunState::Running | RunState::WaitingRetry)
    }
}

/// One attempt of a run; while it runs, it has no end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttemptRecord {
    pub attempt: Attempt,
    pub agent: AgentName,
    pub session: Session,
    /// When the action began; `None` if it never did.
    pub started_at: Option<Wall>,
    pub finished_at: Option<Wall>,
    pub end: Option<AttemptEnd>,
    pub code: Option<ResultCode>,
}

/// A run of an instant or a trigger; or, with `span`, several instants that were not run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunRecord {
    pub id: RunId,
    pub state: RunState,
    /// Why it is in that state, where that is not plain.
    pub reason: Option<String>,
    /// The scheduled time; of a trigger, when it was asked for.
    pub instant: Instant,
    /// Instant and jitter: when it should have started.
    pub due: Wall,
    /// The holder that reports, and under which fence. Of two accounts the higher fence counts.
    pub agent: AgentName,
    pub fence: Fence,
    pub attempts: Vec<AttemptRecord>,
    /// Start of the first attempt minus due, in microseconds.
    pub lateness_micros: Option<i64>,
    /// A wait that the task's policy asked for (overlap, catch-up) is part of the lateness.
    pub waited_by_policy: bool,
    /// The loss of its host can still turn the end into a repeat.
    pub provisional: bool,
    /// Further instants that share this end, which had no attempt: up to `until`, `count` in all.
    pub span: Option<Span>,
    /// The request that created the one-shot.
    pub request: Option<u128>,
}

/// Consecutive instants of one task that all ended in the same way without an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub until: Instant,
    /// Counted up to a bound; see `limits::SPAN_COUNT_MAX`.
    pub count: u64,
}

impl RunRecord {
    /// When the newest attempt ended, or, of a run without one, when it was due.
    pub fn ended_at(&self) -> Wall {
        self.attempts.last().and_then(|attempt| attempt.finished_at).unwrap_or(self.due)
    }
}
