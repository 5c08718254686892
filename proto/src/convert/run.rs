//! Runs as they are reported: in core, in proto (API and agent link), in JSON.

use std::time::Duration;

use tocktower_core::ids::{AgentName, Attempt, Epoch, Fence, NameError, Revision, RunId, Session};
use tocktower_core::run::{AttemptEnd, AttemptRecord, ResultCode, RunRecord, RunState, Span};
use tocktower_core::time::Wall;

use super::numbers::{request_bytes, request_from_bytes};
use super::record::DecodeError;
use super::run_id::{format_incarnation, format_run_id, parse_incarnation, parse_run_id};
use super::task_out::{span, timestamp};
use crate::{json, v1};

/// A run for the gRPC API and the agent link.
pub fn run_proto(run: &RunRecord) -> v1::Run {
    use v1::run::Code;
    let newest = run.newest();
    v1::Run {
        run_id: format_run_id(&run.id),
        namespace: run.id.task.namespace.to_string(),
        task: run.id.task.name.to_string(),
        instant: Some(timestamp(run.instant.wall())),
        due: Some(timestamp(run.due)),
        state: run_state_proto(run.state).into(),
        reason: run.reason.clone().unwrap_or_default(),
        provisional: run.provisional,
        attempt: newest.map_or(0, |newest| newest.attempt.number),
        agent: run.agent.to_string(),
        fence: Some(fence_proto(run.fence)),
        started_at: newest.and_then(|newest| newest.started_at).map(timestamp),
        finished_at: newest.and_then(|newest| newest.finished_at).map(timestamp),
        lateness_us: run.lateness_micros,
        waited_by_policy: run.waited_by_policy,
        duration_us: newest.and_then(AttemptRecord::duration_us),
        code: newest.and_then(|newest| newest.code).map(|code| match code {
            ResultCode::Exit(code) => Code::ExitCode(code),
            ResultCode::Signal(signal) => Code::Signal(signal),
            ResultCode::HttpStatus(status) => Code::HttpStatus(status.into()),
        }),
        error: newest.and_then(AttemptRecord::error).unwrap_or_default(),
        attempts: run.attempts.iter().map(attempt_proto).collect(),
        late_results: run.late_results().map(attempt_proto).collect(),
        until: run.span.map(|span| timestamp(span.until.wall())),
        count: run.span.map_or(0, |span| span.count),
        incarnation: format_incarnation(run.id.incarnation),
        request: request_bytes(run.request),
    }
}

/// A run as an agent or a coordinator sent it.
pub fn run_from_proto(run: &v1::Run) -> Result<RunRecord, DecodeError> {
    let (task, name) =
        parse_run_id(&run.run_id).map_err(|error| DecodeError::invalid("run_id", error))?;
    let incarnation = parse_incarnation(&run.incarnation)
        .ok_or_else(|| DecodeError::invalid("incarnation", format!("{:?}", run.incarnation)))?;
    let instant = run.instant.as_ref().ok_or_else(|| DecodeError::missing("instant"))?;
    let count = run.count;
    let until = run.until.as_ref().map(|until| wall(until, "until")).transpose()?;
    Ok(RunRecord {
        id: RunId { task, incarnation, run: name.key(), agent: name.agent() },
        state: run_state_from_proto(run.state)?,
        reason: Some(run.reason.clone()).filter(|reason| !reason.is_empty()),
        instant: wall(instant, "instant")?.instant(),
        due: wall(run.due.as_ref().ok_or_else(|| DecodeError::missing("due"))?, "due")?,
        lateness_micros: run.lateness_us,
        waited_by_policy: run.waited_by_policy,
        provisional: run.provisional,
        agent: agent_of(&run.agent)?,
        fence: run.fence.as_ref().map_or_else(Fence::default, fence_of),
        attempts: run.attempts.iter().map(attempt_of).collect::<Result<_, _>>()?,
        span: until.map(|until| Span { until: until.instant(), count }),
        request: request_from_bytes(&run.request)?,
    })
}

/// A run for the REST API.
pub fn run_json(run: &RunRecord) -> json::Run {
    let newest = run.newest();
    let (exit_code, signal, http_status) = codes(newest.and_then(|newest| newest.code));
    json::Run {
        run_id: format_run_id(&run.id),
        namespace: run.id.task.namespace.to_string(),
        task: run.id.task.name.to_string(),
        instant: json::format_instant(run.instant),
        due: json::format_wall(run.due),
        state: run.state.as_str().to_owned(),
        reason: run.reason.clone(),
        provisional: run.provisional,
        attempt: newest.map_or(0, |newest| newest.attempt.number),
        agent: run.agent.to_string(),
        fence: run.fence.revision.0,
        epoch: Some(run.fence.epoch.0).filter(|epoch| *epoch != 1),
        started_at: newest.and_then(|newest| newest.started_at).map(json::format_wall),
        finished_at: newest.and_then(|newest| newest.finished_at).map(json::format_wall),
        lateness_us: run.lateness_micros,
        waited_by_policy: run.waited_by_policy,
        duration_us: newest.and_then(AttemptRecord::duration_us),
        exit_code,
        signal,
        http_status,
        error: newest.and_then(AttemptRecord::error),
        attempts: run.attempts.iter().map(attempt_json).collect(),
        late_results: run.late_results().map(attempt_json).collect(),
        until: run.span.map(|span| json::format_instant(span.until)),
        count: run.span.map(|span| span.count),
    }
}

fn attempt_json(attempt: &AttemptRecord) -> json::Attempt {
    let (exit_code, signal, http_status) = codes(attempt.code);
    let state = match &attempt.end {
        None => RunState::Running,
        Some(AttemptEnd::Succeeded) => RunState::Succeeded,
        Some(AttemptEnd::Failed { .. }) => RunState::Failed,
        Some(AttemptEnd::TimedOut { .. }) => RunState::TimedOut,
        Some(AttemptEnd::Cancelled) => RunState::Cancelled,
    };
    json::Attempt {
        number: attempt.attempt.number,
        agent: attempt.agent.to_string(),
        session: attempt.session.revision.0,
        fence: attempt.attempt.fence.revision.0,
        started_at: attempt.started_at.map(json::format_wall),
        finished_at: attempt.finished_at.map(json::format_wall),
        duration_us: attempt.duration_us(),
        state: state.as_str().to_owned(),
        exit_code,
        signal,
        http_status,
        error: attempt.error(),
    }
}

fn codes(code: Option<ResultCode>) -> (Option<i32>, Option<i32>, Option<u16>) {
    match code {
        None => (None, None, None),
        Some(ResultCode::Exit(code)) => (Some(code), None, None),
        Some(ResultCode::Signal(signal)) => (None, Some(signal), None),
        Some(ResultCode::HttpStatus(status)) => (None, None, Some(status)),
    }
}

fn attempt_proto(attempt: &AttemptRecord) -> v1::Attempt {
    use v1::AttemptEnd as End;
    use v1::attempt::Code;
    let (end, error, after) = match &attempt.end {
        None => (End::Unspecified, "", None),
        Some(AttemptEnd::Succeeded) => (End::Succeeded, "", None),
        Some(AttemptEnd::Failed { reason }) => (End::Failed, reason.as_str(), None),
        Some(AttemptEnd::TimedOut { after }) => (End::TimedOut, "", Some(span(*after))),
        Some(AttemptEnd::Cancelled) => (End::Cancelled, "", None),
    };
    v1::Attempt {
        number: attempt.attempt.number,
        fence: Some(fence_proto(attempt.attempt.fence)),
        agent: attempt.agent.to_string(),
        session: Some(v1::Session {
            epoch: attempt.session.epoch.0,
            revision: attempt.session.revision.0,
        }),
        started_at: attempt.started_at.map(timestamp),
        finished_at: attempt.finished_at.map(timestamp),
        end: end.into(),
        error: error.to_owned(),
        timed_out_after: after,
        code: attempt.code.map(|code| match code {
            ResultCode::Exit(code) => Code::ExitCode(code),
            ResultCode::Signal(signal) => Code::Signal(signal),
            ResultCode::HttpStatus(status) => Code::HttpStatus(status.into()),
        }),
    }
}

fn attempt_of(attempt: &v1::Attempt) -> Result<AttemptRecord, DecodeError> {
    use v1::AttemptEnd as End;
    use v1::attempt::Code;
    let end = End::try_from(attempt.end)
        .map_err(|_| DecodeError::invalid("end", format!("{} is not known", attempt.end)))?;
    let session = attempt.session.as_ref();
    Ok(AttemptRecord {
        attempt: Attempt {
            fence: attempt.fence.as_ref().map_or_else(Fence::default, fence_of),
            number: attempt.number,
        },
        agent: agent_of(&attempt.agent)?,
        session: session.map_or_else(Session::default, |session| Session {
            epoch: Epoch(session.epoch),
            revision: Revision(session.revision),
        }),
        started_at: attempt.started_at.as_ref().map(|at| wall(at, "started_at")).transpose()?,
        finished_at: attempt.finished_at.as_ref().map(|at| wall(at, "finished_at")).transpose()?,
        end: match end {
            End::Unspecified => None,
            End::Succeeded => Some(AttemptEnd::Succeeded),
            End::Failed => Some(AttemptEnd::Failed { reason: attempt.error.clone() }),
            End::TimedOut => Some(AttemptEnd::TimedOut { after: after(attempt)? }),
            End::Cancelled => Some(AttemptEnd::Cancelled),
        },
        code: match attempt.code {
            None => None,
            Some(Code::ExitCode(code)) => Some(ResultCode::Exit(code)),
            Some(Code::Signal(signal)) => Some(ResultCode::Signal(signal)),
            Some(Code::HttpStatus(status)) => Some(ResultCode::HttpStatus(
                u16::try_from(status).map_err(|error| DecodeError::invalid("code", error))?,
            )),
        },
    })
}

fn after(attempt: &v1::Attempt) -> Result<Duration, DecodeError> {
    let Some(after) = &attempt.timed_out_after else { return Ok(Duration::ZERO) };
    let bad = || DecodeError::invalid("timed_out_after", "is no time limit");
    let seconds = u64::try_from(after.seconds).map_err(|_| bad())?;
    let nanos = u32::try_from(after.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    Ok(Duration::new(seconds, nanos.ok_or_else(bad)?))
}

fn agent_of(text: &str) -> Result<AgentName, DecodeError> {
    AgentName::parse(text).map_err(|error: NameError| DecodeError::invalid("agent", error))
}

fn wall(time: &prost_types::Timestamp, field: &'static str) -> Result<Wall, DecodeError> {
    let micros = time.seconds.checked_mul(1_000_000);
    let micros = micros.and_then(|micros| micros.checked_add(i64::from(time.nanos / 1_000)));
    micros.map(Wall::from_micros).ok_or_else(|| DecodeError::invalid(field, "is out of range"))
}

fn fence_proto(fence: Fence) -> v1::Fence {
    v1::Fence { epoch: fence.epoch.0, revision: fence.revision.0 }
}

fn fence_of(fence: &v1::Fence) -> Fence {
    Fence { epoch: Epoch(fence.epoch), revision: Revision(fence.revision) }
}

/// The state as the API numbers it.
pub fn run_state_proto(state: RunState) -> v1::RunState {
    match state {
        RunState::Queued => v1::RunState::Queued,
        RunState::Running => v1::RunState::Running,
        RunState::WaitingRetry => v1::RunState::WaitingRetry,
        RunState::Succeeded => v1::RunState::Succeeded,
        RunState::Failed => v1::RunState::Failed,
        RunState::TimedOut => v1::RunState::TimedOut,
        RunState::Cancelled => v1::RunState::Cancelled,
        RunState::Lost => v1::RunState::Lost,
        RunState::Skipped => v1::RunState::Skipped,
        RunState::Missed => v1::RunState::Missed,
    }
}

/// What [`run_state_proto`] made of a state.
pub fn run_state_from_proto(number: i32) -> Result<RunState, DecodeError> {
    let found =
        RunState::ALL.into_iter().find(|state| i32::from(run_state_proto(*state)) == number);
    found.ok_or_else(|| DecodeError::invalid("state", format!("{number} is not known")))
}
