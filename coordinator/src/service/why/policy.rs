//! Which of a task's policies decided, read from what agents note as the reason of an end.
//!
//! A reason is written for people and kept for ever, so it is matched by how it begins, and one
//! that nobody here knows is told as it is: a newer agent may have reasons that this coordinator
//! has never heard of.

use tocktower_core::run::{RunRecord, RunState};
use tocktower_core::task::Spec;
use tocktower_proto::convert::spec_json;

use super::facts::Facts;
use super::verdict::Verdict;

/// A field of the task, with the value that it has now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    pub field: &'static str,
    pub value: String,
}

/// Why a run came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    Overlap,
    Paused,
    /// A later instant stands for it.
    Superseded,
    /// Older than the catch-up window.
    Window,
    StartDeadline,
    EditedLate,
    Duplicate,
    Deleted,
    Other,
}

impl Cause {
    pub fn of(run: &RunRecord) -> Cause {
        let reason = run.reason.as_deref().unwrap_or_default();
        const BEGINNINGS: [(&str, Cause); 8] = [
            ("overlap: ", Cause::Overlap),
            ("paused", Cause::Paused),
            ("catch-up: ", Cause::Superseded),
            ("nobody could run it within its catch-up window", Cause::Window),
            ("it could not start before its start deadline", Cause::StartDeadline),
            ("edited_late", Cause::EditedLate),
            ("duplicate_of ", Cause::Duplicate),
            ("its task was deleted", Cause::Deleted),
        ];
        let found = BEGINNINGS.iter().find(|(begins, _)| reason.starts_with(begins));
        found.map_or(Cause::Other, |(_, cause)| *cause)
    }
}

/// The policy that the verdict rests on.
pub fn policy(facts: &Facts, verdict: Verdict) -> Option<Policy> {
    let spec = &facts.task()?.spec;
    let cause = facts.run.as_ref().map(Cause::of);
    let field = match (verdict, cause) {
        (Verdict::Skipped | Verdict::Missed | Verdict::Cancelled, Some(cause)) => match cause {
            Cause::Overlap => "overlap",
            Cause::Superseded | Cause::Window => "catch_up",
            Cause::StartDeadline => "start_deadline",
            Cause::Paused => "paused",
            Cause::EditedLate | Cause::Duplicate | Cause::Deleted | Cause::Other => return None,
        },
        (Verdict::Lost, _) => "delivery",
        (Verdict::TimedOut, _) => "timeout",
        (Verdict::WaitingRetry | Verdict::Failed, _) => "retry",
        (Verdict::WaitingBehind, _) => "overlap",
        (Verdict::Queued, _) if is_made_up_for(facts) => "catch_up",
        (Verdict::Paused, _) => "paused",
        _ => return None,
    };
    Some(Policy { field, value: value(spec, field)? })
}

/// Whether it waits because an outage brought more runs together than may start at once.
pub fn is_made_up_for(facts: &Facts) -> bool {
    let waits = |run: &RunRecord| run.state == RunState::Queued && run.waited_by_policy;
    let late = facts.late() > tocktower_core::limits::ON_TIME;
    late && facts.ahead.is_none() && facts.run.as_ref().is_none_or(waits)
}

fn value(spec: &Spec, field: &str) -> Option<String> {
    let json = spec_json(spec);
    match field {
        "delivery" => json.delivery,
        "overlap" => json.overlap,
        "catch_up" => {
            let catch_up = json.catch_up?;
            Some(format!("{} within {}", catch_up.policy?, catch_up.window?))
        }
        "start_deadline" => json.start_deadline,
        "timeout" => json.timeout,
        "retry" => Some(format!("{} attempts at most", spec.retry.max_attempts)),
        "paused" => Some(spec.paused.to_string()),
        _ => None,
    }
}
