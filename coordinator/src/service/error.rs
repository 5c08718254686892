//! What services refuse, and why: one small enum per service, and the short list of codes that
//! programs know them by.
//!
//! A code is a promise, a message is not. The transports look at nothing else: `rest` and `grpc`
//! each map codes to their own in one table, and print the message with its sources. So a new
//! refusal is a variant here and, seldom, a code.

use std::time::Duration;

use tocktower_cluster::commit::CommitError;
use tocktower_cluster::port::PortError;
use tocktower_cluster::tasks::{AnswerError, TooLarge};
use tocktower_cluster::triggers::PayloadTooLarge;
use tocktower_core::ids::{AgentName, NameError, Revision, TaskName};
use tocktower_core::limits;
use tocktower_core::run::RunState;
use tocktower_core::task::{EditError, FieldError};
use tocktower_core::time::Instant;
use tocktower_proto::json;

/// The stable names of refusals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Code {
    InvalidRequest,
    InvalidTask,
    NotFound,
    AlreadyExists,
    AlreadyDue,
    AlreadyEnded,
    AgentAlive,
    RevisionConflict,
    TooLarge,
    RateLimited,
    StoreUnavailable,
    OutcomeUnknown,
    NotReady,
    AgentsSilent,
    Unreadable,
    MethodNotAllowed,
    UnsupportedMediaType,
    Internal,
}

impl Code {
    pub const ALL: [Code; 18] = [
        Code::InvalidRequest,
        Code::InvalidTask,
        Code::NotFound,
        Code::AlreadyExists,
        Code::AlreadyDue,
        Code::AlreadyEnded,
        Code::AgentAlive,
        Code::RevisionConflict,
        Code::TooLarge,
        Code::RateLimited,
        Code::StoreUnavailable,
        Code::OutcomeUnknown,
        Code::NotReady,
        Code::AgentsSilent,
        Code::Unreadable,
        Code::MethodNotAllowed,
        Code::UnsupportedMediaType,
        Code::Internal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidRequest => "invalid_request",
            Code::InvalidTask => "invalid_task",
            Code::NotFound => "not_found",
            Code::AlreadyExists => "already_exists",
            Code::AlreadyDue => "already_due",
            Code::AlreadyEnded => "already_ended",
            Code::AgentAlive => "agent_alive",
            Code::RevisionConflict => "revision_conflict",
            Code::TooLarge => "too_large",
            Code::RateLimited => "rate_limited",
            Code::StoreUnavailable => "store_unavailable",
            Code::OutcomeUnknown => "outcome_unknown",
            Code::NotReady => "not_ready",
            Code::AgentsSilent => "agents_silent",
            Code::Unreadable => "unreadable",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::UnsupportedMediaType => "unsupported_media_type",
            Code::Internal => "internal",
        }
    }
}

/// What a transport needs to know of a refusal.
pub trait Fault: std::error::Error {
    fn code(&self) -> Code;

    /// The wrong fields, where the request is to blame.
    fn fields(&self) -> &[FieldError] {
        &[]
    }

    /// When to come back, where that helps.
    fn retry_after(&self) -> Option<Duration> {
        match self.code() {
            Code::RateLimited
            | Code::StoreUnavailable
            | Code::OutcomeUnknown
            | Code::NotReady
            | Code::AgentsSilent => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// The message with its sources, in one line.
    fn detail(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }

    /// The same request may be sent again as it is; after an unknown outcome one has to look first.
    fn retryable(&self) -> bool {
        self.retry_after().is_some() && self.code() != Code::OutcomeUnknown
    }
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum TaskError {
    #[error("the request is not valid")]
    BadRequest(Vec<FieldError>),
    #[error("the task is not valid")]
    Invalid(Vec<FieldError>),
    #[error("there is no task {0}")]
    NotFound(TaskName),
    #[error(
        "the shared state does not answer, and no task {0} was known before: whether there is one \
         cannot be told"
    )]
    Unread(TaskName),
    #[error("there is a task {0} already")]
    Exists(TaskName),
    #[error(
        "the task is a one-shot whose instant, {at:?}, has come: it cannot be changed any more; \
         delete it and create another"
    )]
    AlreadyDue { at: Instant },
    #[error("the task has revision {}, not {}: read it again", now.0, given.0)]
    Conflict { given: Revision, now: Revision },
    #[error("there is no task {0}, and the request expects one")]
    Absent(TaskName),
    #[error("there is a task {0} already, and the request expects none")]
    NotAbsent(TaskName),
    #[error("the task changes faster than it can be written; try again")]
    Contended,
    #[error(transparent)]
    TooSoon(EditError),
    #[error("the task is too large")]
    TooLarge(#[from] TooLarge),
    #[error("the payload is too large")]
    Payload(#[from] PayloadTooLarge),
    #[error("{given} tasks in one batch; at most {max} are allowed")]
    BatchTooLong { given: usize, max: usize },
    #[error("the record of {name} cannot be read ({error}); it can be deleted")]
    Unreadable { name: TaskName, error: String },
    #[error("agents that may know of it do not answer: {}", .0.join(", "))]
    Silent(Vec<String>),
    #[error(
        "whether this trigger was sent before cannot be told; send it again later, or without an \
         Idempotency-Key"
    )]
    Unrecognized(#[source] RunError),
    #[error("more creates are waiting than this coordinator takes in; try again")]
    Busy,
    #[error(
        "{} runs of the task that were asked for by hand wait already: try again when some of them \
         have run, or cancel them",
        limits::TRIGGERS_WAITING_MAX
    )]
    ManyTriggers,
    #[error("agents of the pool lag in writing to the shared state; creates are slowed down")]
    Pressed,
    #[error("this coordinator has not read the shared state yet")]
    NotReady,
    #[error("whether it was done is not known; look at the task before sending it again")]
    OutcomeUnknown,
    #[error("the shared state cannot be written to")]
    Store(#[source] PortError),
    #[error("the shared state gave an answer that does not fit")]
    Answer(#[from] AnswerError),
}

impl TaskError {
    /// One wrong part of a request that is no task.
    pub fn bad(path: &str, message: impl Into<String>) -> TaskError {
        TaskError::BadRequest(vec![FieldError::new(path, message)])
    }

    pub fn name(path: &str, error: &NameError) -> TaskError {
        TaskError::bad(path, error.to_string())
    }

    /// With no more mistakes than are left for its batch, and its first in any case.
    pub fn within(self, mistakes_left: &mut usize) -> TaskError {
        let mut cut = |errors: Vec<FieldError>| {
            let keep = errors.len().min(*mistakes_left).max(1);
            *mistakes_left = mistakes_left.saturating_sub(keep);
            json::cut(errors, keep)
        };
        match self {
            TaskError::BadRequest(errors) => TaskError::BadRequest(cut(errors)),
            TaskError::Invalid(errors) => TaskError::Invalid(cut(errors)),
            error => error,
        }
    }
}

impl From<PortError> for TaskError {
    fn from(error: PortError) -> TaskError {
        match error {
            PortError::Unknown(_) => TaskError::OutcomeUnknown,
            error => TaskError::Store(error),
        }
    }
}

impl From<CommitError> for TaskError {
    fn from(error: CommitError) -> TaskError {
        match error {
            CommitError::Full => TaskError::Busy,
            CommitError::OutcomeUnknown | CommitError::Stopping => TaskError::OutcomeUnknown,
            CommitError::Refused(error) => TaskError::from(error),
            CommitError::Answer(error) => TaskError::Answer(error),
        }
    }
}

impl From<EditError> for TaskError {
    fn from(error: EditError) -> TaskError {
        match error {
            EditError::AlreadyDue { at, .. } => TaskError::AlreadyDue { at },
            EditError::Invalid(errors) => TaskError::Invalid(errors),
            error @ EditError::TooSoon => TaskError::TooSoon(error),
        }
    }
}

impl Fault for TaskError {
    fn code(&self) -> Code {
        match self {
            TaskError::BadRequest(_) => Code::InvalidRequest,
            TaskError::Invalid(_) => Code::InvalidTask,
            TaskError::NotFound(_) => Code::NotFound,
            TaskError::Exists(_) => Code::AlreadyExists,
            TaskError::AlreadyDue { .. } => Code::AlreadyDue,
            TaskError::Conflict { .. }
            | TaskError::Absent(_)
            | TaskError::NotAbsent(_)
            | TaskError::Contended => Code::RevisionConflict,
            TaskError::TooSoon(_) => Code::RateLimited,
            TaskError::TooLarge(_) | TaskError::Payload(_) | TaskError::BatchTooLong { .. } => {
                Code::TooLarge
            }
            TaskError::Unreadable { .. } | TaskError::Answer(AnswerError::Unreadable(_)) => {
                Code::Unreadable
            }
            TaskError::Busy | TaskError::Pressed | TaskError::ManyTriggers => Code::RateLimited,
            TaskError::NotReady => Code::NotReady,
            TaskError::Silent(_) => Code::AgentsSilent,
            TaskError::Unrecognized(error) => error.code(),
            TaskError::OutcomeUnknown => Code::OutcomeUnknown,
            TaskError::Unread(_) => Code::StoreUnavailable,
            TaskError::Store(error) if error.retryable() => Code::StoreUnavailable,
            TaskError::Store(PortError::TooLarge) => Code::TooLarge,
            TaskError::Store(_) | TaskError::Answer(AnswerError::Mismatch) => Code::Internal,
        }
    }

    fn fields(&self) -> &[FieldError] {
        match self {
            TaskError::BadRequest(errors) | TaskError::Invalid(errors) => errors,
            _ => &[],
        }
    }
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum RunError {
    #[error("the request is not valid")]
    BadRequest(Vec<FieldError>),
    #[error("there is no run {0}")]
    NotFound(String),
    #[error(
        "there is no run {run_id} with the agents that are up; down, and may know of it: {}",
        .down.join(", ")
    )]
    NotFoundNow { run_id: String, down: Vec<String> },
    #[error("the run {run_id} has no attempt {attempt}")]
    NoAttempt { run_id: String, attempt: u32 },
    #[error("the run is over: {0}")]
    Over(RunState),
    #[error("{0} waits until an agent holds its range")]
    Waits(String),
    #[error("agents that may know of it do not answer: {}", .0.join(", "))]
    Silent(Vec<String>),
    #[error("agent {0} has as many questions of this kind as it takes; try again")]
    Busy(String),
    #[error("the task has more runs in this time than are looked through")]
    TooMany,
    #[error("this coordinator has as many live feeds as it takes")]
    TooManyFeeds,
    #[error("agent {agent} refuses: {detail}")]
    Refused { agent: String, detail: String },
    #[error("this coordinator has not read the shared state yet")]
    NotReady,
}

impl RunError {
    pub fn bad(path: &str, message: impl Into<String>) -> RunError {
        RunError::BadRequest(vec![FieldError::new(path, message)])
    }
}

impl Fault for RunError {
    fn code(&self) -> Code {
        match self {
            RunError::BadRequest(_) => Code::InvalidRequest,
            RunError::NotFound(_) | RunError::NotFoundNow { .. } | RunError::NoAttempt { .. } => {
                Code::NotFound
            }
            RunError::Over(_) => Code::AlreadyEnded,
            RunError::Silent(_) | RunError::Waits(_) => Code::AgentsSilent,
            RunError::Busy(_) | RunError::TooMany | RunError::TooManyFeeds => Code::RateLimited,
            RunError::Refused { .. } => Code::Internal,
            RunError::NotReady => Code::NotReady,
        }
    }

    fn fields(&self) -> &[FieldError] {
        match self {
            RunError::BadRequest(errors) => errors,
            _ => &[],
        }
    }
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum FleetError {
    #[error("there is no agent {0}")]
    NotFound(AgentName),
    #[error("agent {0} has a session: it can be forgotten once it has stopped")]
    Alive(AgentName),
    #[error("agent {0} is connected to this coordinator: it can be forgotten once it has stopped")]
    Linked(AgentName),
    #[error("the agent's record changes faster than it can be written to; try again")]
    Contended,
    #[error("this coordinator has not read the shared state yet")]
    NotReady,
    #[error("whether it was done is not known; look at the agent before sending it again")]
    OutcomeUnknown,
    #[error("the shared state cannot be written to")]
    Store(#[source] PortError),
    #[error("the shared state gave an answer that does not fit")]
    Answer(#[from] AnswerError),
}

impl From<PortError> for FleetError {
    fn from(error: PortError) -> FleetError {
        match error {
            PortError::Unknown(_) => FleetError::OutcomeUnknown,
            error => FleetError::Store(error),
        }
    }
}

impl Fault for FleetError {
    fn code(&self) -> Code {
        match self {
            FleetError::NotFound(_) => Code::NotFound,
            FleetError::Alive(_) | FleetError::Linked(_) => Code::AgentAlive,
            FleetError::Contended => Code::RevisionConflict,
            FleetError::NotReady => Code::NotReady,
            FleetError::OutcomeUnknown => Code::OutcomeUnknown,
            FleetError::Store(error) if error.retryable() => Code::StoreUnavailable,
            FleetError::Store(_) | FleetError::Answer(_) => Code::Internal,
        }
    }
}
