//! The numbers that name lives, holders and requests, to and from their stored forms.

use tocktower_core::hash::hash_parts_wide;
use tocktower_core::ids::{Epoch, Fence, Incarnation, Revision, Session};

use super::record::DecodeError;
use crate::store;

pub fn fence_record(fence: Fence) -> store::FenceRecord {
    store::FenceRecord { epoch: fence.epoch.0, revision: fence.revision.0 }
}

pub fn fence_from_record(record: &store::FenceRecord) -> Fence {
    Fence { epoch: Epoch(record.epoch), revision: Revision(record.revision) }
}

pub fn incarnation_record(incarnation: Incarnation) -> store::IncarnationRecord {
    store::IncarnationRecord { epoch: incarnation.epoch.0, revision: incarnation.revision.0 }
}

pub fn incarnation_from_record(record: &store::IncarnationRecord) -> Incarnation {
    Incarnation { epoch: Epoch(record.epoch), revision: Revision(record.revision) }
}

pub fn session_record(session: Session) -> store::SessionNumber {
    store::SessionNumber { epoch: session.epoch.0, revision: session.revision.0 }
}

pub fn session_from_record(record: &store::SessionNumber) -> Session {
    Session { epoch: Epoch(record.epoch), revision: Revision(record.revision) }
}

/// What a create or a trigger is known by when it is sent again: the hash of its idempotency key
/// and of its index in the batch, 0 for a single one.
pub fn request_of(idempotency_key: &str, index: u32) -> u128 {
    hash_parts_wide(&[idempotency_key.as_bytes(), &index.to_be_bytes()])
}

/// A request's hash as it is stored: 16 bytes, or none.
pub fn request_bytes(request: Option<u128>) -> Vec<u8> {
    request.map_or_else(Vec::new, |request| request.to_be_bytes().to_vec())
}

pub fn request_from_bytes(bytes: &[u8]) -> Result<Option<u128>, DecodeError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    wide(bytes, "request").map(Some)
}

/// A ULID as it is stored: 16 bytes, big-endian.
pub fn ulid_bytes(ulid: u128) -> Vec<u8> {
    ulid.to_be_bytes().to_vec()
}

pub fn ulid_from_bytes(bytes: &[u8]) -> Result<u128, DecodeError> {
    wide(bytes, "ulid")
}

fn wide(bytes: &[u8], field: &'static str) -> Result<u128, DecodeError> {
    let bytes: [u8; 16] = bytes
        .try_into()
        .map_err(|_| DecodeError::invalid(field, format!("{} bytes, not 16", bytes.len())))?;
    Ok(u128::from_be_bytes(bytes))
}
