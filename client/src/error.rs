//! What can go wrong with a call, in the four ways that a caller has to tell apart: it was set up
//! wrongly, nobody was reached, nobody knows what came of it, or the server said no.
//!
//! The third is the one that scripts get wrong. After a lost answer a create may have happened or
//! not; this crate sends a call again only where that cannot do harm, and otherwise says
//! `Error::UnknownOutcome` instead of guessing.
//!
//! What the server says is read from the metadata `tocktower-problem-bin`, a `tocktower.v1.Error`.
//! Where a proxy took it away, the details of the gRPC status are read, and last its bare code.

use prost::Message;
use tocktower_proto::v1;
use tonic::{Code, Status};

/// Metadata of a refusal: an encoded `tocktower.v1.Error`.
pub const PROBLEM_METADATA: &str = "tocktower-problem-bin";

/// Codes with which a server says that it cannot just now, and did nothing.
const BUSY: [&str; 4] = ["rate_limited", "store_unavailable", "not_ready", "agents_silent"];

/// Why a call failed. `Display` is a sentence for people and does not repeat the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration of the client cannot work.
    #[error("{0}")]
    Config(String),
    /// No server took the call: nothing has happened.
    #[error("no server could be reached (tried {servers})")]
    Unreachable {
        servers: String,
        #[source]
        source: Box<Status>,
    },
    /// The answer was lost: the call may have been carried out.
    #[error(
        "the answer was lost, so it is not known whether {what} happened; look before you repeat it"
    )]
    UnknownOutcome {
        what: &'static str,
        #[source]
        source: Box<Status>,
    },
    /// A server answered no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// A server answered, but not with what the contract says.
    #[error("the server's answer has no {0}")]
    Incomplete(&'static str),
}

impl Error {
    /// The same call may succeed a little later, and to send it does no harm. An unknown outcome
    /// is none of these: what was safe to repeat has been repeated already.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Unreachable { .. } => true,
            Error::Refused(refusal) => refusal.code != "too_large" && refusal.is_busy(),
            Error::UnknownOutcome { .. } | Error::Config(_) | Error::Incomplete(_) => false,
        }
    }

    /// The server's stable code of a refusal: `not_found`, `already_exists`, ...
    pub fn code(&self) -> Option<&str> {
        match self {
            Error::Refused(refusal) => Some(&refusal.code),
            _ => None,
        }
    }

    /// The wrong fields of a refusal.
    pub fn fields(&self) -> &[FieldError] {
        match self {
            Error::Refused(refusal) => &refusal.fields,
            _ => &[],
        }
    }

    /// What lies at the bottom of it, in a few words: `Connection refused`, `Timeout expired`.
    pub fn root_cause(&self) -> Option<String> {
        let (Error::Unreachable { source, .. } | Error::UnknownOutcome { source, .. }) = self
        else {
            return None;
        };
        let mut root: Option<&dyn std::error::Error> = std::error::Error::source(&**source);
        while let Some(deeper) = root.and_then(std::error::Error::source) {
            root = Some(deeper);
        }
        // A status that came from a server has no cause but its own words.
        Some(root.map_or_else(|| source.message().to_owned(), ToString::to_string))
    }

    /// The server knows no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Refused(refusal) if refusal.status == Code::NotFound)
    }
}

/// A server's no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail} ({code})")]
pub struct Refusal {
    pub status: Code,
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub detail: String,
    /// Every wrong field, not only the first.
    pub fields: Vec<FieldError>,
}

/// One wrong field of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct FieldError {
    /// Where it is, as in JSON: `schedules[0].cron`.
    pub path: String,
    /// What was given and what is allowed.
    pub message: String,
}

impl From<v1::FieldError> for FieldError {
    fn from(error: v1::FieldError) -> FieldError {
        FieldError { path: error.path, message: error.message }
    }
}

impl Refusal {
    /// One item of a batch was refused.
    pub(crate) fn of_item(error: v1::Error) -> Refusal {
        let status = match error.code.as_str() {
            "already_exists" => Code::AlreadyExists,
            "rate_limited" | "too_large" => Code::ResourceExhausted,
            "store_unavailable" => Code::Unavailable,
            "forbidden" => Code::PermissionDenied,
            _ => Code::InvalidArgument,
        };
        Refusal::of(status, error)
    }

    fn is_busy(&self) -> bool {
        BUSY.contains(&self.code.as_str())
            || matches!(self.status, Code::Unavailable | Code::ResourceExhausted)
    }

    fn of(status: Code, error: v1::Error) -> Refusal {
        let fields = error.errors.into_iter().map(FieldError::from).collect();
        Refusal { status, code: error.code, detail: error.detail, fields }
    }

    pub(crate) fn of_status(status: &Status) -> Refusal {
        let mut problem = problem(status).unwrap_or_default();
        if problem.code.is_empty() {
            problem.code = stable_code(status.code()).to_owned();
        }
        if problem.detail.is_empty() {
            problem.detail = status.message().to_owned();
        }
        Refusal::of(status.code(), problem)
    }
}

/// How far a call came before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// The connection was not made: no server has seen the call.
    Nobody,
    /// It was sent, and no answer says what came of it.
    Unknown,
    /// A server answered that it cannot just now, and that it did nothing.
    Busy,
    /// A server answered no.
    Refused,
}

/// A status that came from a server has no source; one that this side made up has the error of the
/// transport as its source.
pub(crate) fn reached(status: &Status) -> Reached {
    let mut source = std::error::Error::source(status);
    let local = source.is_some();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return Reached::Nobody;
        }
        source = error.source();
    }
    if local {
        return Reached::Unknown;
    }
    // The stable codes say it exactly; the codes of gRPC stand in where no problem came along.
    match problem(status).unwrap_or_default().code.as_str() {
        "outcome_unknown" => return Reached::Unknown,
        code if BUSY.contains(&code) => return Reached::Busy,
        _ => {}
    }
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Reached::Unknown,
        Code::ResourceExhausted if Refusal::of_status(status).code != "too_large" => Reached::Busy,
        _ => Reached::Refused,
    }
}

fn problem(status: &Status) -> Option<v1::Error> {
    if let Some(value) = status.metadata().get_bin(PROBLEM_METADATA)
        && let Ok(bytes) = value.to_bytes()
        && let Ok(error) = v1::Error::decode(bytes)
    {
        return Some(error);
    }
    let details = RpcStatus::decode(status.details()).ok()?;
    details.details.iter().find_map(|any| match any.type_url.rsplit('/').next() {
        Some("tocktower.v1.Error") => v1::Error::decode(any.value.as_slice()).ok(),
        Some("google.rpc.BadRequest") => {
            let bad = BadRequest::decode(any.value.as_slice()).ok()?;
            let errors = bad
                .field_violations
                .into_iter()
                .map(|v| v1::FieldError { path: v.field, message: v.description })
                .collect();
            Some(v1::Error { errors, ..v1::Error::default() })
        }
        _ => None,
    })
}

fn stable_code(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument | Code::OutOfRange => "invalid_argument",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::FailedPrecondition | Code::Aborted => "revision_conflict",
        Code::Unauthenticated => "unauthenticated",
        Code::PermissionDenied => "forbidden",
        Code::ResourceExhausted => "rate_limited",
        Code::Unavailable => "store_unavailable",
        Code::Unimplemented => "unimplemented",
        Code::DeadlineExceeded | Code::Cancelled => "timed_out",
        _ => "internal",
    }
}

/// `google.rpc.Status`, of which only the details are read.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<AnyMessage>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct AnyMessage {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::{MetadataMap, MetadataValue};

    fn invalid() -> v1::Error {
        v1::Error {
            code: "invalid_task".into(),
            detail: "1 field is wrong".into(),
            errors: vec![v1::FieldError {
                path: "schedules[0].cron".into(),
                message: "minute 60: 0 to 59 are allowed".into(),
            }],
        }
    }

    #[test]
    fn fields_are_read_from_the_problem_metadata() {
        let mut metadata = MetadataMap::new();
        let value = MetadataValue::from_bytes(&invalid().encode_to_vec());
        metadata.insert_bin(PROBLEM_METADATA, value);
        let status = Status::with_metadata(Code::InvalidArgument, "wrong", metadata);
        let refusal = Refusal::of_status(&status);
        assert_eq!(refusal.code, "invalid_task");
        assert_eq!(refusal.fields[0].path, "schedules[0].cron");
    }

    #[test]
    fn fields_are_read_from_the_status_details() {
        let any = AnyMessage {
            type_url: "type.googleapis.com/tocktower.v1.Error".into(),
            value: invalid().encode_to_vec(),
        };
        let bytes = RpcStatus { details: vec![any] }.encode_to_vec();
        let status = Status::with_details(Code::InvalidArgument, "wrong", bytes.into());
        assert_eq!(Refusal::of_status(&status).fields.len(), 1);

        let violation = FieldViolation { field: "name".into(), description: "is empty".into() };
        let bad = BadRequest { field_violations: vec![violation] };
        let any = AnyMessage {
            type_url: "type.googleapis.com/google.rpc.BadRequest".into(),
            value: bad.encode_to_vec(),
        };
        let bytes = RpcStatus { details: vec![any] }.encode_to_vec();
        let status = Status::with_details(Code::InvalidArgument, "wrong", bytes.into());
        let refusal = Refusal::of_status(&status);
        assert_eq!((refusal.code.as_str(), refusal.detail.as_str()), ("invalid_argument", "wrong"));
        assert_eq!(refusal.fields[0].to_string(), "name: is empty");
    }

    #[test]
    fn garbage_in_the_details_is_no_error_of_ours() {
        let status = Status::with_details(Code::NotFound, "no such task", vec![0xff; 9].into());
        let refusal = Refusal::of_status(&status);
        assert_eq!(refusal.to_string(), "no such task (not_found)");
    }

    #[test]
    fn only_what_the_server_refused_is_final() {
        assert_eq!(reached(&Status::unavailable("no majority")), Reached::Unknown);
        for (code, expected) in [
            ("store_unavailable", Reached::Busy),
            ("outcome_unknown", Reached::Unknown),
            ("already_ended", Reached::Refused),
        ] {
            let error = v1::Error { code: code.into(), ..v1::Error::default() };
            let mut metadata = MetadataMap::new();
            let value = MetadataValue::from_bytes(&error.encode_to_vec());
            metadata.insert_bin(PROBLEM_METADATA, value);
            let status = Status::with_metadata(Code::Aborted, "", metadata);
            assert_eq!(reached(&status), expected, "{code}");
        }
        assert_eq!(reached(&Status::resource_exhausted("slow down")), Reached::Busy);
        assert_eq!(reached(&Status::not_found("x")), Reached::Refused);
        let connect = tonic::ConnectError("refused".into());
        assert_eq!(reached(&Status::from_error(Box::new(connect))), Reached::Nobody);
    }
}
