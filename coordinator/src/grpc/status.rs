//! The one table from refusals to gRPC, and the shape that they have.
//!
//! gRPC's own codes are too few to act on: a task that is due already and one that has another
//! revision are both a failed precondition. So the stable code, the detail and the wrong fields
//! ride along as an encoded `tocktower.v1.Error` in the metadata `tocktower-problem-bin`, which is
//! what the SDK reads; the bare code is for proxies and people. Metadata has a bound that the
//! receiver sets, often 8 KiB, and beyond it the stream is broken: so of many mistakes there only
//! as many ride along as fit, with how many more there are.

use prost::Message;
use tocktower_core::task::FieldError;
use tocktower_proto::{json, v1};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code as GrpcCode, Status};

use crate::service::{Code, Fault, TaskError};

/// Metadata of a refusal: an encoded `tocktower.v1.Error`.
pub const PROBLEM_METADATA: &str = "tocktower-problem-bin";
const RETRY_AFTER_METADATA: &str = "retry-after";

/// Largest detail and largest problem in metadata: as base64, which takes a third more, both and
/// the rest of the trailers are within 8 KiB.
const DETAIL_BYTES_MAX: usize = 500;
const PROBLEM_BYTES_MAX: usize = 4 * 1_024;

/// The table.
pub fn code_of(code: Code) -> GrpcCode {
    match code {
        Code::InvalidRequest | Code::InvalidTask | Code::UnsupportedMediaType => {
            GrpcCode::InvalidArgument
        }
        Code::NotFound => GrpcCode::NotFound,
        Code::AlreadyExists => GrpcCode::AlreadyExists,
        Code::AlreadyDue | Code::AlreadyEnded | Code::AgentAlive | Code::RevisionConflict => {
            GrpcCode::FailedPrecondition
        }
        Code::TooLarge | Code::RateLimited => GrpcCode::ResourceExhausted,
        Code::StoreUnavailable | Code::NotReady | Code::AgentsSilent => GrpcCode::Unavailable,
        Code::OutcomeUnknown => GrpcCode::Unknown,
        Code::Unreadable => GrpcCode::DataLoss,
        Code::MethodNotAllowed => GrpcCode::Unimplemented,
        Code::Internal => GrpcCode::Internal,
    }
}

/// A refusal as a status.
pub fn refused(fault: impl Fault) -> Status {
    let problem = fitted(problem(&fault), fault.fields());
    if fault.code() == Code::Internal {
        tracing::error!(detail = problem.detail, "a request failed");
    }
    let mut metadata = MetadataMap::new();
    let value = MetadataValue::from_bytes(&problem.encode_to_vec());
    metadata.insert_bin(PROBLEM_METADATA, value);
    if let Some(after) = fault.retry_after() {
        metadata.insert(RETRY_AFTER_METADATA, MetadataValue::from(after.as_secs().max(1)));
    }
    Status::with_metadata(code_of(fault.code()), problem.detail, metadata)
}

/// The mistakes of a task that was sent.
pub fn invalid_task(errors: Vec<FieldError>) -> Status {
    refused(TaskError::Invalid(errors))
}

/// One wrong part of a request.
pub fn bad(path: &str, message: impl Into<String>) -> Status {
    refused(TaskError::bad(path, message))
}

/// A refusal as data, for one item of a batch.
pub fn problem(fault: &impl Fault) -> v1::Error {
    v1::Error {
        code: fault.code().as_str().to_owned(),
        detail: fault.detail(),
        errors: field_errors(fault.fields()),
    }
}

fn field_errors(errors: &[FieldError]) -> Vec<v1::FieldError> {
    let one = |error: &FieldError| v1::FieldError {
        path: error.path.clone(),
        message: error.message.clone(),
    };
    errors.iter().map(one).collect()
}

/// As much of a problem as fits into metadata.
fn fitted(mut problem: v1::Error, fields: &[FieldError]) -> v1::Error {
    problem.detail = json::shorten(problem.detail, DETAIL_BYTES_MAX);
    let mut keep = problem.errors.len();
    while problem.encoded_len() > PROBLEM_BYTES_MAX && keep > 0 {
        keep -= 1;
        problem.errors = field_errors(&json::cut(fields.to_vec(), keep));
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_mistakes_as_many_ride_along_as_fit() {
        let wrong = |n: usize| FieldError::new(format!("labels.{n}"), "x".repeat(300));
        let status = invalid_task((0..1_000).map(wrong).collect());
        let bytes = status.metadata().get_bin(PROBLEM_METADATA).unwrap().to_bytes().unwrap();
        assert!(bytes.len() <= PROBLEM_BYTES_MAX, "{}", bytes.len());
        let problem = v1::Error::decode(bytes).unwrap();
        let told = problem.errors.len() - 1;
        assert!(told > 5, "{told}");
        assert_eq!(problem.errors[told].message, format!("and {} more", 1_000 - told));
        let few = invalid_task((0..3).map(wrong).collect());
        let bytes = few.metadata().get_bin(PROBLEM_METADATA).unwrap().to_bytes().unwrap();
        assert_eq!(v1::Error::decode(bytes).unwrap().errors.len(), 3);
    }

    #[test]
    fn every_code_is_a_refusal_and_carries_its_problem() {
        for code in Code::ALL {
            assert_ne!(code_of(code), GrpcCode::Ok);
        }
        let status = bad("limit", "0; allowed is 1 to 1000");
        let bytes = status.metadata().get_bin(PROBLEM_METADATA).unwrap().to_bytes().unwrap();
        let problem = v1::Error::decode(bytes).unwrap();
        assert_eq!((problem.code.as_str(), problem.errors.len()), ("invalid_request", 1));
    }
}
