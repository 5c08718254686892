//! Runs as they are kept in an agent's history: one row a run, for now in its plain form.

use std::time::Duration;

use tocktower_core::ids::{
    AgentName, Attempt, Fence, Name, NameError, Namespace, RunId, RunKey, TaskName,
};
use tocktower_core::run::{AttemptEnd, AttemptRecord, ResultCode, RunRecord, RunState, Span};
use tocktower_core::time::{Instant, Wall};

use super::numbers::{
    fence_from_record, fence_record, incarnation_from_record, incarnation_record, request_bytes,
    request_from_bytes, session_from_record, session_record, ulid_bytes, ulid_from_bytes,
};
use super::record::{DecodeError, decode_record, encode_record};
use crate::store::attempt_record::Code;
use crate::store::history_row::Run;
use crate::store::{self, AttemptEndRecord, RunStateRecord};

/// The value of a history row.
pub fn encode_run(run: &RunRecord) -> Vec<u8> {
    encode_record(&store::HistoryRow {
        namespace: run.id.task.namespace.to_string(),
        name: run.id.task.name.to_string(),
        incarnation: Some(incarnation_record(run.id.incarnation)),
        run: Some(match run.id.run {
            RunKey::Instant(instant) => Run::InstantMs(instant.millis()),
            RunKey::Manual(ulid) => Run::Ulid(ulid_bytes(ulid)),
        }),
        due_us: run.due.micros(),
        state: state_record(run.state).into(),
        reason: run.reason.clone().unwrap_or_default(),
        provisional: run.provisional,
        fence: Some(fence_record(run.fence)),
        agent: run.agent.to_string(),
        attempts: run.attempts.iter().map(|attempt| attempt_record(attempt, run)).collect(),
        until_ms: run.span.map(|span| span.until.millis()),
        span_count: run.span.map_or(0, |span| span.count),
        request: request_bytes(run.request),
        lateness_us: run.lateness_micros,
        waited_by_policy: run.waited_by_policy,
        asked_ms: match run.id.run {
            RunKey::Instant(_) => None,
            RunKey::Manual(_) => Some(run.instant.millis()),
        },
        share: run.id.agent.is_some(),
    })
}

/// The run in a history row.
pub fn decode_run(bytes: &[u8]) -> Result<RunRecord, DecodeError> {
    let row: store::HistoryRow = decode_record(bytes)?;
    let task = TaskName {
        namespace: Namespace::parse(&row.namespace).map_err(bad_name)?,
        name: Name::parse(&row.name).map_err(bad_name)?,
    };
    let (run, instant) = match row.run.ok_or_else(|| DecodeError::missing("run"))? {
        Run::InstantMs(ms) => {
            let instant = Instant::from_millis(ms);
            (RunKey::Instant(instant), instant)
        }
        Run::Ulid(bytes) => {
            let asked = Instant::from_millis(row.asked_ms.unwrap_or(0));
            (RunKey::Manual(ulid_from_bytes(&bytes)?), asked)
        }
    };
    let fence = row.fence.as_ref().map_or_else(Fence::default, fence_from_record);
    let agent = AgentName::parse(&row.agent).map_err(bad_name)?;
    let read_attempt = |attempt| attempt_of(attempt, fence, &agent);
    let incarnation = row.incarnation.as_ref().map(incarnation_from_record);
    Ok(RunRecord {
        id: RunId {
            task,
            incarnation: incarnation.unwrap_or_default(),
            run,
            agent: row.share.then(|| agent.clone()),
        },
        state: state_of(row.state)?,
        reason: Some(row.reason).filter(|reason| !reason.is_empty()),
        instant,
        due: Wall::from_micros(row.due_us),
        lateness_micros: row.lateness_us,
        waited_by_policy: row.waited_by_policy,
        provisional: row.provisional,
        attempts: row.attempts.into_iter().map(read_attempt).collect::<Result<_, _>>()?,
        span: row
            .until_ms
            .map(|ms| Span { until: Instant::from_millis(ms), count: row.span_count }),
        request: request_from_bytes(&row.request)?,
        agent,
        fence,
    })
}

fn attempt_record(attempt: &AttemptRecord, run: &RunRecord) -> store::AttemptRecord {
    let (end, error, timed_out_after_ms) = match &attempt.end {
        None => (AttemptEndRecord::Unspecified, "", 0),
        Some(AttemptEnd::Succeeded) => (AttemptEndRecord::Succeeded, "", 0),
        Some(AttemptEnd::Failed { reason }) => (AttemptEndRecord::Failed, reason.as_str(), 0),
        Some(AttemptEnd::Cancelled) => (AttemptEndRecord::Cancelled, "", 0),
        Some(AttemptEnd::TimedOut { after }) => {
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            (AttemptEndRecord::TimedOut, "", after_ms)
        }
    };
    let same_fence = attempt.attempt.fence == run.fence;
    let same_agent = run.agent == attempt.agent;
    store::AttemptRecord {
        number: attempt.attempt.number,
        fence: (!same_fence).then(|| fence_record(attempt.attempt.fence)),
        agent: if same_agent { String::new() } else { attempt.agent.to_string() },
        session: Some(session_record(attempt.session)),
        started_at_us: attempt.started_at.map(Wall::micros),
        finished_at_us: attempt.finished_at.map(Wall::micros),
        end: end.into(),
        error: error.to_owned(),
        timed_out_after_ms,
        code: attempt.code.map(|code| match code {
            ResultCode::Exit(code) => Code::ExitCode(code),
            ResultCode::Signal(signal) => Code::Signal(signal),
            ResultCode::HttpStatus(status) => Code::HttpStatus(status.into()),
        }),
    }
}

fn attempt_of(
    record: store::AttemptRecord,
    fence: Fence,
    agent: &AgentName,
) -> Result<AttemptRecord, DecodeError> {
    let agent = match record.agent.as_str() {
        "" => agent.clone(),
        other => AgentName::parse(other).map_err(bad_name)?,
    };
    let end = AttemptEndRecord::try_from(record.end)
        .map_err(|_| DecodeError::invalid("end", format!("{} is not known", record.end)))?;
    Ok(AttemptRecord {
        attempt: Attempt {
            fence: record.fence.as_ref().map_or(fence, fence_from_record),
            number: record.number,
        },
        agent,
        session: record.session.as_ref().map(session_from_record).unwrap_or_default(),
        started_at: record.started_at_us.map(Wall::from_micros),
        finished_at: record.finished_at_us.map(Wall::from_micros),
        end: match end {
            AttemptEndRecord::Unspecified => None,
            AttemptEndRecord::Succeeded => Some(AttemptEnd::Succeeded),
            AttemptEndRecord::Failed => Some(AttemptEnd::Failed { reason: record.error }),
            AttemptEndRecord::TimedOut => {
                let after = Duration::from_millis(record.timed_out_after_ms);
                Some(AttemptEnd::TimedOut { after })
            }
            AttemptEndRecord::Cancelled => Some(AttemptEnd::Cancelled),
        },
        code: match record.code {
            None => None,
            Some(Code::ExitCode(code)) => Some(ResultCode::Exit(code)),
            Some(Code::Signal(signal)) => Some(ResultCode::Signal(signal)),
            Some(Code::HttpStatus(status)) => Some(ResultCode::HttpStatus(
                u16::try_from(status).map_err(|error| DecodeError::invalid("code", error))?,
            )),
        },
    })
}

fn bad_name(error: NameError) -> DecodeError {
    DecodeError::invalid("name", error)
}

fn state_record(state: RunState) -> RunStateRecord {
    match state {
        RunState::Queued => RunStateRecord::Queued,
        RunState::Running => RunStateRecord::Running,
        RunState::WaitingRetry => RunStateRecord::WaitingRetry,
        RunState::Succeeded => RunStateRecord::Succeeded,
        RunState::Failed => RunStateRecord::Failed,
        RunState::TimedOut => RunStateRecord::TimedOut,
        RunState::Cancelled => RunStateRecord::Cancelled,
        RunState::Lost => RunStateRecord::Lost,
        RunState::Skipped => RunStateRecord::Skipped,
        RunState::Missed => RunStateRecord::Missed,
    }
}

fn state_of(number: i32) -> Result<RunState, DecodeError> {
    let found = RunState::ALL.into_iter().find(|state| i32::from(state_record(*state)) == number);
    found.ok_or_else(|| DecodeError::invalid("state", format!("{number} is not known")))
}
