//! What etcd's errors say about a request: whether it can have happened, and what to do.
//!
//! A request certainly did not happen if no connection was made, or if etcd said so in one of the
//! ways below. Everything else is unknown, timeouts of etcd's own included: they may come after the
//! proposal was handed to the log. etcd tells its errors apart by text (`rpctypes/error.go`), which
//! has not changed from 3.4 on; a text that we do not know falls back on the gRPC code.

use std::error::Error as _;

use etcd_client::Error;
use tocktower_core::ids::Revision;
use tonic::{Code, Status};

use crate::port::PortError;

/// `asked` is the revision that the request named, if it named one.
pub(super) fn port_error(error: &Error, asked: Revision) -> PortError {
    match error {
        Error::GRpcStatus(status) => from_status(status, asked),
        Error::LeaseKeepAliveError(text) if text == "lease not found" => PortError::NoLease,
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
            PortError::Refused(error.to_string())
        }
        other => PortError::Unknown(other.to_string()),
    }
}

pub(super) fn from_status(status: &Status, asked: Revision) -> PortError {
    let text = status.message();
    let says = |part: &str| text.contains(part);
    if never_connected(status) {
        return PortError::Unreachable(deepest(status));
    }
    if says("no leader") || says("not leader") {
        return PortError::NoLeader;
    }
    if says("required revision has been compacted") {
        // etcd does not say how far; what is certain is that the revision asked for is gone.
        return PortError::Compacted { asked, oldest: asked.next() };
    }
    if says("requested lease not found") {
        return PortError::NoLease;
    }
    if says("database space exceeded") {
        return PortError::NoSpace;
    }
    if says("request is too large") || says("received message larger than max") {
        return PortError::TooLarge;
    }
    if says("too many requests") || says("not supported for learner") {
        return PortError::Unreachable(text.to_string());
    }
    match status.code() {
        // tonic's own, for an answer that is too long to decode.
        Code::OutOfRange if !says("etcdserver") => PortError::Unknown(describe(status)),
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => PortError::Refused(text.to_string()),
        _ => PortError::Unknown(describe(status)),
    }
}

fn never_connected(status: &Status) -> bool {
    chain(status).any(|error| error.downcast_ref::<tonic::ConnectError>().is_some())
}

/// The last cause says most: "connection refused" instead of "transport error".
fn deepest(status: &Status) -> String {
    chain(status).last().map_or_else(|| describe(status), ToString::to_string)
}

fn chain(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(status.source(), |&error| error.source())
}

fn describe(status: &Status) -> String {
    format!("{} ({:?})", status.message(), status.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_errors_say_whether_the_request_happened() {
        let asked = Revision(5);
        let compacted = PortError::Compacted { asked, oldest: Revision(6) };
        let refused = |text: &str| PortError::Refused(text.into());
        let future = "etcdserver: mvcc: required revision is a future revision";
        let table = [
            (Code::Unavailable, "etcdserver: no leader", PortError::NoLeader),
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted", compacted),
            (Code::OutOfRange, future, refused(future)),
            (Code::NotFound, "etcdserver: requested lease not found", PortError::NoLease),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                PortError::NoSpace,
            ),
            (Code::InvalidArgument, "etcdserver: request is too large", PortError::TooLarge),
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (2 vs. 1)",
                PortError::TooLarge,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
                refused("etcdserver: duplicate key given in txn request"),
            ),
        ];
        for (code, text, expected) in table {
            assert_eq!(from_status(&Status::new(code, text), asked), expected);
        }
        for (code, text) in [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: server stopped"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unknown, "transport error"),
            (Code::OutOfRange, "decoded message length too large"),
            (Code::Cancelled, "operation was canceled"),
        ] {
            let error = from_status(&Status::new(code, text), asked);
            assert!(matches!(error, PortError::Unknown(_)), "{text}: {error:?}");
        }
    }
}
