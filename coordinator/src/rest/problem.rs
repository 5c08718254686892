//! The one table from refusals to HTTP, and the one shape that they have: RFC 9457,
//! `application/problem+json`.
//!
//! Everything that is not an answer goes through here: services' errors, wrong bodies, unknown
//! paths. A refusal is logged where it is handled, which is here too, and only if a person should
//! look: what a client did wrong is the client's to read.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tocktower_core::task::FieldError;
use tocktower_proto::json::{Problem, ProblemField};

use crate::service::{Code, Fault};

/// The table.
pub fn status_of(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest => StatusCode::BAD_REQUEST,
        Code::InvalidTask => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::AlreadyDue | Code::AlreadyEnded | Code::AgentAlive => {
            StatusCode::CONFLICT
        }
        Code::RevisionConflict => StatusCode::PRECONDITION_FAILED,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::StoreUnavailable | Code::OutcomeUnknown | Code::NotReady | Code::AgentsSilent => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::Unreadable | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A refusal on its way out.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: Code,
    pub detail: String,
    pub errors: Vec<FieldError>,
    pub retry_after: Option<Duration>,
}

pub type Answer = Result<Response, Failure>;

impl Failure {
    pub fn new(code: Code, detail: impl Into<String>) -> Failure {
        Failure { code, detail: detail.into(), errors: Vec::new(), retry_after: None }
    }

    /// One wrong part of the request, by its name.
    pub fn bad(path: &str, message: impl Into<String>) -> Failure {
        Failure {
            errors: vec![FieldError::new(path, message)],
            ..Failure::new(Code::InvalidRequest, "the request is not valid")
        }
    }

    pub fn problem(&self) -> Problem {
        let status = status_of(self.code);
        let errors = self
            .errors
            .iter()
            .map(|error| ProblemField { path: error.path.clone(), message: error.message.clone() });
        Problem {
            kind: None,
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            code: self.code.as_str().to_owned(),
            detail: self.detail.clone(),
            errors: errors.collect(),
        }
    }
}

impl<F: Fault> From<F> for Failure {
    fn from(fault: F) -> Failure {
        Failure {
            code: fault.code(),
            detail: fault.detail(),
            errors: fault.fields().to_vec(),
            retry_after: fault.retry_after(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if self.code == Code::Internal {
            tracing::error!(detail = self.detail, "a request failed");
        }
        let body = serde_json::to_vec(&self.problem()).unwrap_or_default();
        let mut response = (status_of(self.code), body).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_that_says_whose_fault_it_is() {
        for code in Code::ALL {
            let status = status_of(code);
            assert!(status.is_client_error() || status.is_server_error(), "{code:?}");
        }
        let names: std::collections::BTreeSet<&str> =
            Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
