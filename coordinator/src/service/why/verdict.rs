//! Facts in, verdict out: one word that says what became of an instant, and why.
//!
//! The order is that of trust. What an agent tells of the run itself comes first; then what the
//! schedule says, as nothing else matters where there is no instant; then the ledger, which knows
//! that something is done or open although nobody tells more; and last what stands in the way of a
//! start that is due: a pause, no shared state, no holder, a holder that does not write, one that
//! does not answer. The words are a promise to programs, as codes of errors are: they are never
//! renamed, and docs/why.md says what to do about each.

use std::time::Duration;

use tocktower_core::ledger::EntryState;
use tocktower_core::run::RunState;

use super::facts::{Facts, Subject};
use crate::timeline::Moment;

/// A start that is so late is not worth a word: it is being decided.
const AT_ONCE: Duration = Duration::from_secs(2);
/// A holder of something that is due writes once a second; its licence ends 3 s after the newest
/// write, as leases are by default.
const WRITES_WITHIN: Duration = Duration::from_secs(5);

macro_rules! verdicts {
    ($($(#[$doc:meta])* $variant:ident $text:literal)+) => {
        /// What became of an instant.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Verdict { $($(#[$doc])* $variant),+ }

        impl Verdict {
            pub const ALL: &[Verdict] = &[$(Verdict::$variant),+];

            /// The word for it in the API.
            pub fn as_str(self) -> &'static str {
                match self { $(Verdict::$variant => $text),+ }
            }
        }
    };
}

verdicts! {
    Succeeded "succeeded"
    Failed "failed"
    TimedOut "timed_out"
    Cancelled "cancelled"
    Lost "lost"
    Skipped "skipped"
    Missed "missed"
    Running "running"
    /// It waits for a place, or to be made up for.
    Queued "queued"
    WaitingRetry "waiting_retry"
    /// It waits for the end of an earlier run of its task.
    WaitingBehind "waiting_behind"
    /// It is still to come.
    Upcoming "upcoming"
    /// The task is paused, which keeps it from starting.
    Paused "paused"
    /// It came due a moment ago.
    Starting "starting"
    /// It is due, its holder is well, and has not decided it.
    Late "late"
    /// It is due, and nobody holds its range.
    Unheld "unheld"
    /// It is due, and the holder of its range has stopped to write, so it may not start anything.
    HolderSilent "holder_silent"
    /// It is due, and the holder of its range does not answer this coordinator.
    HolderUnreachable "holder_unreachable"
    /// It is due, and the agent that it is pinned to, or whose share it is, has no link to this
    /// coordinator: it goes on there, and what came of it is told when the agent is back.
    AgentAway "agent_away"
    /// The task runs on every agent that it selects, and this one is none of them.
    NotSelected "not_selected"
    /// It is due, and this coordinator cannot reach the shared state.
    StoreUnavailable "store_unavailable"
    /// It ended; who may know how did not answer.
    HistoryAway "history_away"
    /// It ended, and nobody knows how any more.
    HistoryGone "history_gone"
    /// The task has no such instant.
    NotAnInstant "not_an_instant"
    /// The task did not exist then.
    BeforeTask "before_task"
    /// The instants of that time belong to a schedule that is not known any more.
    BeforeEdit "before_edit"
    /// There is no such task now, and no run of that moment is known.
    TaskGone "task_gone"
    /// The record of the task cannot be read.
    TaskUnreadable "task_unreadable"
}

pub fn verdict(facts: &Facts) -> Verdict {
    if let Some(run) = &facts.run {
        return of_run(facts, run.state);
    }
    let moment = match &facts.subject {
        Subject::Task { moment, .. } => *moment,
        Subject::Unreadable { .. } => return Verdict::TaskUnreadable,
        Subject::Gone { .. } => return Verdict::TaskGone,
    };
    match moment {
        Moment::BeforeTask { .. } => Verdict::BeforeTask,
        Moment::BeforeEdit { .. } => Verdict::BeforeEdit,
        Moment::Between => Verdict::NotAnInstant,
        Moment::Instant { .. } if !facts.selected() => Verdict::NotSelected,
        Moment::Instant { due, .. } if due > facts.now => match facts.pause_holds() {
            true => Verdict::Paused,
            false => Verdict::Upcoming,
        },
        Moment::Instant { .. } => of_due(facts),
    }
}

/// By what agents tell of the run.
fn of_run(facts: &Facts, state: RunState) -> Verdict {
    match state {
        RunState::Succeeded => Verdict::Succeeded,
        RunState::Failed => Verdict::Failed,
        RunState::TimedOut => Verdict::TimedOut,
        RunState::Cancelled => Verdict::Cancelled,
        RunState::Lost => Verdict::Lost,
        RunState::Skipped => Verdict::Skipped,
        RunState::Missed => Verdict::Missed,
        RunState::Running => Verdict::Running,
        RunState::Queued | RunState::WaitingRetry if facts.pause_holds() => Verdict::Paused,
        RunState::WaitingRetry => Verdict::WaitingRetry,
        RunState::Queued if facts.ahead.is_some() => Verdict::WaitingBehind,
        RunState::Queued => Verdict::Queued,
    }
}

/// Of an instant that is due and that no agent tells of.
fn of_due(facts: &Facts) -> Verdict {
    match &facts.range.entry {
        Some(entry) => of_entry(facts, entry.state, entry.attempt.number),
        None if facts.covered() == Some(true) => ended(facts),
        None => in_the_way(facts),
    }
}

/// What keeps it from starting.
fn in_the_way(facts: &Facts) -> Verdict {
    if facts.pause_holds() {
        return Verdict::Paused;
    }
    if let Some(pinned) = &facts.range.pinned {
        let silent = facts.incomplete.contains(&pinned.agent.to_string());
        return match pinned.linked && !silent {
            false => Verdict::AgentAway,
            true if facts.late() <= AT_ONCE => Verdict::Starting,
            true => Verdict::Late,
        };
    }
    if facts.stale {
        return Verdict::StoreUnavailable;
    }
    if facts.range.holder.is_none() {
        return Verdict::Unheld;
    }
    if facts.range.quiet.is_none_or(|quiet| quiet > WRITES_WITHIN) {
        return Verdict::HolderSilent;
    }
    match facts.holder_silent() {
        true => Verdict::HolderUnreachable,
        false if facts.late() <= AT_ONCE => Verdict::Starting,
        false => Verdict::Late,
    }
}

/// By what the ledger lists, where no agent tells more.
fn of_entry(facts: &Facts, state: EntryState, attempts: u32) -> Verdict {
    match state {
        EntryState::Started | EntryState::Held { .. } => Verdict::Running,
        // It may be running, and may yet start: whoever holds the range knows.
        EntryState::Permitted => in_the_way(facts),
        EntryState::Ended => ended(facts),
        EntryState::Waiting { .. } | EntryState::CatchUp { .. } if facts.pause_holds() => {
            Verdict::Paused
        }
        EntryState::Waiting { .. } if attempts > 0 => Verdict::WaitingRetry,
        EntryState::Waiting { .. } | EntryState::CatchUp { .. } => Verdict::Queued,
    }
}

/// It has ended, and nobody tells how.
fn ended(facts: &Facts) -> Verdict {
    match facts.incomplete.is_empty() {
        true => Verdict::HistoryGone,
        false => Verdict::HistoryAway,
    }
}
