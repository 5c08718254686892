//! What an agent keeps of its session, and what a process that comes after knows by it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::agent::desk::Desk;
use crate::agent::effect::StoreOp;
use crate::ids::{LeaseId, LedgerNumber, RangeId, Session};
use crate::time::Wall;

/// What an agent keeps of its session in the store, for a process that comes after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    pub lease: LeaseId,
    pub session: Session,
    /// Wall minus boot clock, in microseconds, if the wall clock was believed.
    pub clock: Option<i64>,
    /// The clock has been set back, or is doubted, and up to here something may have been decided
    /// before.
    pub latest: Option<Wall>,
}

/// What the process before left in this store.
#[derive(Clone, Debug)]
pub struct Former {
    pub kept: Kept,
    /// The newest ledger of each range that it was about to send, and behind it those of processes
    /// before it that may be the one in etcd.
    pub numbers: BTreeMap<RangeId, Vec<LedgerNumber>>,
}

/// A clock may drift from what is kept of it by as much, in microseconds, before that is kept anew.
const CLOCK_KEPT_WITHIN: u64 = 50_000;
/// By as much the clock may have gone past what is kept as its latest moment.
pub(crate) const LATEST_KEPT_WITHIN: Duration = Duration::from_secs(1);

impl Kept {
    fn near(&self, other: &Kept) -> bool {
        let clock = match (self.clock, other.clock) {
            (Some(one), Some(other)) => one.abs_diff(other) <= CLOCK_KEPT_WITHIN,
            (one, other) => one == other,
        };
        let latest = match (self.latest, other.latest) {
            (Some(one), Some(other)) => one.max(other).since(one.min(other)) < LATEST_KEPT_WITHIN,
            (one, other) => one == other,
        };
        let same = (self.lease, self.session) == (other.lease, other.session);
        clock && latest && same
    }
}

impl Desk {
    /// Writes down what a process that comes after is to know of the session and the clock.
    pub fn keep_kept(&mut self) {
        let clock = self.clock.believed();
        let latest = self.clock.latest_to_keep(self.now.wall);
        let kept = self.session.to_keep();
        let kept = kept.map(|(lease, session)| Kept { lease, session, clock, latest });
        let same = match (&kept, &self.session.kept) {
            (Some(kept), Some(before)) => kept.near(before),
            (kept, before) => kept.is_none() && before.is_none(),
        };
        if !same {
            self.session.kept = kept;
            self.store(StoreOp::Session(kept));
        }
    }

    /// Whether a process before wrote a ledger, and this store knows it.
    pub fn former_wrote(&self, range: RangeId, number: LedgerNumber) -> bool {
        let wrote = |newest: &LedgerNumber| {
            newest.process == number.process && newest.count >= number.count
        };
        self.former_numbers(range).iter().any(wrote)
    }

    /// The newest ledger of each process before whose ledger may be the one in etcd.
    pub fn former_numbers(&self, range: RangeId) -> &[LedgerNumber] {
        let former = self.config.former.as_ref();
        former.and_then(|former| former.numbers.get(&range)).map_or(&[], Vec::as_slice)
    }
}
