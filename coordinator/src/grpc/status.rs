//! The one table from refusals to gRPC, and the shape that they have.
//!
//! gRPC's own codes are too few to act on: a task that is due already and one that has another
//! revision are both a failed precondition. So the stable code, the detail and the wrong fields
//! ride along as an encoded `tocktower.v1.Error` in the metadata `tocktower-problem-bin`, which is
//! what the SDK reads; the bare code is for proxies and people.

use prost::Message;
use tocktower_core::task::FieldError;
use tocktower_proto::v1;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code as GrpcCode, Status};

use crate::service::{Code, Fault, TaskError};

/// Metadata of a refusal: an encoded `tocktower.v1.Error`.
pub const PROBLEM_METADATA: &str = "tocktower-problem-bin";
const RETRY_AFTER_METADATA: &str = "retry-after";

/// The table.
pub fn code_of(code: Code) -> GrpcCode {
    match code {
        Code::InvalidRequest | Code::InvalidTask | Code::UnsupportedMediaType => {
            GrpcCode::InvalidArgument
        }
        Code::NotFound => GrpcCode::NotFound,
        Code::AlreadyExists => GrpcCode::AlreadyExists,
        Code::AlreadyDue | Code::AlreadyEnded | Code::RevisionConflict => {
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
    let problem = problem(&fault);
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
    let errors = fault
        .fields()
        .iter()
        .map(|error| v1::FieldError { path: error.path.clone(), message: error.message.clone() });
    v1::Error {
        code: fault.code().as_str().to_owned(),
        detail: fault.detail(),
        errors: errors.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
