//! When leases expire. The leases themselves are on disk; their clocks are not: after a restart
//! each gets its full time again, since nobody could keep it alive while the store was closed.
//!
//! Time is `CLOCK_BOOTTIME` and an argument: a host that slept for a TTL wakes up with its leases
//! expired.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tocktower_core::ids::LeaseId;
use tocktower_core::time::Mono;

/// Shortest lease that is granted. etcd grants at least 2 s, because its leader may change.
pub(super) const TTL_MIN: Duration = Duration::from_millis(500);
/// Longest lease that is granted: ten years, so that adding it to a clock is safe.
pub(super) const TTL_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

#[derive(Default)]
pub(super) struct Leases {
    leases: BTreeMap<LeaseId, (Duration, Mono)>,
    queue: BTreeSet<(Mono, LeaseId)>,
}

impl Leases {
    pub(super) fn start(&mut self, lease: LeaseId, ttl: Duration, now: Mono) {
        self.remove(lease);
        let expires = now.plus(ttl);
        self.leases.insert(lease, (ttl, expires));
        self.queue.insert((expires, lease));
    }

    /// Starts its time again, and answers how long that is.
    pub(super) fn keep_alive(&mut self, lease: LeaseId, now: Mono) -> Option<Duration> {
        let (ttl, _) = *self.leases.get(&lease)?;
        self.start(lease, ttl, now);
        Some(ttl)
    }

    pub(super) fn remove(&mut self, lease: LeaseId) -> bool {
        let Some((_, expires)) = self.leases.remove(&lease) else {
            return false;
        };
        self.queue.remove(&(expires, lease));
        true
    }

    pub(super) fn expired(&self, now: Mono) -> Vec<LeaseId> {
        let due = self.queue.iter().take_while(|(expires, _)| *expires <= now);
        due.map(|(_, lease)| *lease).collect()
    }

    pub(super) fn next_expiry(&self) -> Option<Mono> {
        self.queue.first().map(|(expires, _)| *expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_is_kept_alive_expires_later() {
        let second = Duration::from_secs(1);
        let start = Mono::from_micros(0);
        let mut leases = Leases::default();
        leases.start(LeaseId(1), second * 2, start);
        leases.start(LeaseId(2), second * 3, start);
        assert_eq!(leases.keep_alive(LeaseId(1), start.plus(second)), Some(second * 2));
        assert_eq!(leases.next_expiry(), Some(start.plus(second * 3)));
        assert_eq!(leases.expired(start.plus(second * 2)), []);
        assert_eq!(leases.expired(start.plus(second * 3)), [LeaseId(1), LeaseId(2)]);
        assert!(leases.remove(LeaseId(1)) && !leases.remove(LeaseId(1)));
        assert_eq!(leases.keep_alive(LeaseId(1), start), None);
    }
}
