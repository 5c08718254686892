//! What is derived from an `Idempotency-Key`: the hash that a record carries, the name of a task
//! that has none, the ulid of a trigger. A request that is sent again must come out the same.
//!
//! A one-shot without a key gets a hash by chance. It costs eighteen bytes and buys two things: the
//! create may be sent to the store again after an unknown outcome, and its run in the history says
//! that it was a one-shot after the task is gone.

use tocktower_core::hash::hash_parts_wide;
use tocktower_core::time::Wall;
use ulid::Ulid;

/// Bytes of a ulid that are not its time.
const ULID_END_BYTES: usize = 10;

/// 16 bytes of the hash of (key, index in the batch).
pub fn request(key: &str, index: usize) -> u128 {
    hash_parts_wide(&[key.as_bytes(), index.to_string().as_bytes()])
}

/// A hash that no other request has.
pub fn request_by_chance() -> u128 {
    let (first, second) = (Ulid::generate(), Ulid::generate());
    hash_parts_wide(&[&first.to_bytes(), &second.to_bytes()])
}

/// The name of a task that was sent without one.
pub fn name(key: Option<&str>, index: usize) -> String {
    let ulid = match key {
        Some(key) => {
            Ulid(hash_parts_wide(&[b"name", key.as_bytes(), index.to_string().as_bytes()]))
        }
        None => Ulid::generate(),
    };
    ulid.to_string().to_ascii_lowercase()
}

/// The ulid of a trigger asked for at `now`: of the same request its lower part is the same.
pub fn ulid(request: Option<u128>, now: Wall) -> u128 {
    let low = request.unwrap_or_else(|| Ulid::generate().0);
    let ms = u64::try_from(now.millis()).unwrap_or(0);
    Ulid::from_parts(ms, low).0
}

/// Whether two ulids may be of one request: a retry comes later, so its time differs.
pub fn same_request(ulid: u128, other: u128) -> bool {
    ulid_end(ulid) == ulid_end(other)
}

/// What all ulids of one request have in common: the bytes behind the time.
pub fn ulid_end(ulid: u128) -> [u8; ULID_END_BYTES] {
    let [_, _, _, _, _, _, end @ ..] = ulid.to_be_bytes();
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocktower_core::ids::Name;

    #[test]
    fn a_request_that_is_sent_again_comes_out_the_same() {
        assert_eq!(request("key", 3), request("key", 3));
        assert_ne!(request("key", 3), request("key", 4));
        assert_eq!(name(Some("key"), 0), name(Some("key"), 0));
        assert_ne!(name(None, 0), name(None, 0));
        assert!(Name::parse(&name(Some("key"), 0)).is_ok());
    }

    #[test]
    fn a_triggers_ulid_tells_the_time_and_is_known_again_later() {
        let request = Some(request("key", 0));
        let first = ulid(request, Wall::from_millis(1_790_000_000_000));
        let later = ulid(request, Wall::from_millis(1_790_000_009_000));
        assert!(same_request(first, later) && first != later);
        assert_eq!(Ulid(first).timestamp_ms(), 1_790_000_000_000);
        assert!(!same_request(first, ulid(None, Wall::from_millis(1_790_000_000_000))));
    }
}
