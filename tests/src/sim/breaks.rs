//! Rules that are broken on purpose: a checker that cannot fail is not one. Most are the core's
//! own; the others are of what stands around it.

use std::fmt;

use tocktower_cluster::port::{Compare, Op, Request, Txn};
use tocktower_core::agent::Rule;

use super::{CLOSE_EDITS_FROM, Report, Tasks, walk, walk_lagging};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Break {
    Core(Rule),
    /// L0, its other half: an executor starts what has waited until the licence was over.
    LicenceOfExecutor,
    /// L3: ledgers are written with no compare, neither of the fence...
    NoCompare,
    /// ...nor of the ledger that was last seen; here without the latter alone. Without the former
    /// alone a walk hardly ever differs: `cluster/tests/fence.rs` holds it.
    NoLedgerCompare,
    /// L4.
    LedgerBeforeSync,
    /// A process that goes on with a session after a power cut.
    AdoptAfterPowerCut,
    /// A process whose disk has failed keeps its session, and the next one goes on with that.
    AdoptAfterDiskFailed,
    /// An edit forgets what was due under the schedule before.
    NoPrior,
    /// W4: somebody compacts to what a watch may not have brought yet.
    CompactYoung,
}

impl Break {
    pub fn all() -> impl Iterator<Item = Break> {
        let around = [
            Break::LicenceOfExecutor,
            Break::NoCompare,
            Break::NoLedgerCompare,
            Break::LedgerBeforeSync,
            Break::AdoptAfterPowerCut,
            Break::AdoptAfterDiskFailed,
            Break::NoPrior,
            Break::CompactYoung,
        ];
        Rule::ALL.into_iter().map(Break::Core).chain(around)
    }

    /// Walks one seed of the kind that shows it.
    pub fn walk(self, seed: u64, tasks: Tasks) -> Report {
        match self {
            _ if self.lags() => walk_lagging(seed, Some(self), false),
            Break::Core(Rule::LateEdit) => {
                walk(CLOSE_EDITS_FROM + seed, Tasks::Broadcast, Some(self))
            }
            _ => walk(seed, tasks, Some(self)),
        }
    }

    /// Only walks in which watches lag show it.
    pub fn lags(self) -> bool {
        matches!(self, Break::CompactYoung | Break::Core(Rule::Unread))
    }

    /// The core's part in it.
    pub fn rule(self) -> Option<Rule> {
        match self {
            Break::Core(rule) => Some(rule),
            _ => None,
        }
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Break::Core(rule) => write!(f, "{rule:?}"),
            around => write!(f, "{around:?}"),
        }
    }
}

/// The request as an agent would send it that does not compare what it should.
pub fn without_compare(request: Request, broken: Option<Break>) -> Request {
    match (request, broken) {
        (Request::Txn(txn), Some(rule @ (Break::NoCompare | Break::NoLedgerCompare))) => {
            Request::Txn(stripped(txn, rule))
        }
        (request, _) => request,
    }
}

fn stripped(mut txn: Txn, rule: Break) -> Txn {
    let of_ledger = |key: &[u8]| key.ends_with(b"/ledger");
    let ledger = |op: &Op| matches!(op, Op::Put { key, .. } if of_ledger(key));
    if txn.then.iter().any(ledger) {
        txn.when.retain(|compare| match compare {
            Compare::Modified { key, .. } if of_ledger(key) => false,
            _ => rule == Break::NoLedgerCompare,
        });
    }
    let then = txn.then.into_iter().map(|op| match op {
        Op::Txn(nested) => Op::Txn(stripped(nested, rule)),
        other => other,
    });
    Txn { then: then.collect(), ..txn }
}
