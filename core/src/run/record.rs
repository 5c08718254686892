//! A run as it is reported and kept: the one shape that history, API and live feed share.

use std::fmt;

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
    pub const ALL: [RunState; 10] = [
        RunState::Queued,
        RunState::Running,
        RunState::WaitingRetry,
        RunState::Succeeded,
        RunState::Failed,
        RunState::TimedOut,
        RunState::Cancelled,
        RunState::Lost,
        RunState::Skipped,
        RunState::Missed,
    ];

    /// The word for it in the API and in the logs.
    pub fn as_str(self) -> &'static str {
        match self {
            RunState::Queued => "queued",
            RunState::Running => "running",
            RunState::WaitingRetry => "waiting_retry",
            RunState::Succeeded => "succeeded",
            RunState::Failed => "failed",
            RunState::TimedOut => "timed_out",
            RunState::Cancelled => "cancelled",
            RunState::Lost => "lost",
            RunState::Skipped => "skipped",
            RunState::Missed => "missed",
        }
    }

    pub fn parse(text: &str) -> Option<RunState> {
        RunState::ALL.into_iter().find(|state| state.as_str() == text)
    }

    pub fn is_end(self) -> bool {
        !matches!(self, RunState::Queued | RunState::Running | RunState::WaitingRetry)
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
    /// Instant and jitter: when it should have started. Of a span, when its last one should have,
    /// at the latest.
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

    /// What came of attempts whose holder had been replaced: the run was ended as lost, or tried
    /// again, before that was known.
    pub fn late_results(&self) -> impl Iterator<Item = &AttemptRecord> {
        let newest = self.newest().map(|newest| newest.attempt);
        self.attempts.iter().filter(move |attempt| {
            let replaced = attempt.attempt.fence < self.fence;
            let last = Some(attempt.attempt) == newest;
            replaced
                && match &attempt.end {
                    None => false,
                    // One that failed may have been tried again in order.
                    Some(AttemptEnd::Failed { .. } | AttemptEnd::TimedOut { .. }) => {
                        last && self.state == RunState::Lost
                    }
                    Some(AttemptEnd::Succeeded | AttemptEnd::Cancelled) => {
                        !last || self.state == RunState::Lost
                    }
                }
        })
    }

    /// The newest attempt.
    pub fn newest(&self) -> Option<&AttemptRecord> {
        self.attempts.last()
    }
}

impl AttemptRecord {
    /// What went wrong, for people.
    pub fn error(&self) -> Option<String> {
        match self.end.as_ref()? {
            AttemptEnd::Failed { reason } => Some(reason.clone()),
            AttemptEnd::TimedOut { after } => Some(format!("timed out after {after:?}")),
            AttemptEnd::Succeeded | AttemptEnd::Cancelled => None,
        }
    }

    /// How long it ran, in microseconds.
    pub fn duration_us(&self) -> Option<i64> {
        Some(self.finished_at?.micros_since(self.started_at?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_word_that_reads_back() {
        for state in RunState::ALL {
            assert_eq!(RunState::parse(state.as_str()), Some(state));
        }
        assert_eq!(RunState::parse("done"), None);
        assert_eq!(RunState::ALL.iter().filter(|state| !state.is_end()).count(), 3);
    }
}
