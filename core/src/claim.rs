//! Session, lease and licence (ledger.md, L0): until when a holder may start runs of a range.
//!
//! A licence rests on two proofs, each dated by the moment *before* its request was sent: the
//! lease was kept alive, so nobody else can have been given the claim; and a write of my own under
//! my fence came back through the range's watch, so the claim was mine then and my copy of the
//! range is no older than that. Either alone has a hole: etcd may revoke a live lease, and may
//! answer OK for a dead one.

use std::time::Duration;

use crate::time::Mono;

/// What an agent's lease is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseProof {
    /// When the newest request that was answered OK was sent; the grant counts.
    pub sent: Mono,
    pub ttl: Duration,
}

/// The part of a TTL that is never used, for the difference of two clocks' rates.
pub fn margin(ttl: Duration) -> Duration {
    ttl / 10
}

/// Until when runs of a range may start, from the lease and the newest write of the range's own
/// that its watch has delivered.
pub fn licence(lease: LeaseProof, write_sent: Option<Mono>) -> Mono {
    match write_sent {
        Some(sent) => lease.sent.min(sent).plus(lease.ttl - margin(lease.ttl)),
        None => Mono::default(),
    }
}

/// How often a lease is kept alive.
pub fn keep_alive_every(ttl: Duration) -> Duration {
    ttl / 3
}

/// The longest a held range goes without a write.
pub fn beat_every(ttl: Duration) -> Duration {
    ttl * 2 / 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono::from_micros(ms * 1_000)
    }

    #[test]
    fn the_older_of_the_two_proofs_counts() {
        let ttl = Duration::from_secs(3);
        let lease = LeaseProof { sent: at(10_000), ttl };
        assert_eq!(licence(lease, Some(at(9_000))), at(11_700));
        assert_eq!(licence(lease, Some(at(20_000))), at(12_700));
    }

    #[test]
    fn without_a_write_that_came_back_there_is_no_licence() {
        let lease = LeaseProof { sent: at(10_000), ttl: Duration::from_secs(3) };
        assert_eq!(licence(lease, None), Mono::default());
    }
}
