//! Rules that are broken on purpose: a checker that cannot fail is not one.

use tocktower_cluster::port::{Op, Request, Txn};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Break {
    /// L1.
    StartBeforeLedger,
    /// L2: without permission...
    StartUnpermitted,
    /// ...or by one that a later ledger has taken back...
    StartOnPermissionTakenBack,
    /// ...or again, after an earlier holder had permission.
    StartWhatIsDoubtful,
    /// A final ledger that lists as permitted what has not started.
    HandOnPermissions,
    /// A process that goes on with a session after a power cut.
    AdoptAfterPowerCut,
    /// L3.
    NoFenceCompare,
    /// L4.
    LedgerBeforeSync,
    /// L5.
    MarksPastUndecided,
    /// L0.
    StartPastLicence,
    /// W3, of a range that is held by another.
    LeaveSilentWatch,
}

impl Break {
    pub const ALL: [Break; 11] = [
        Break::StartBeforeLedger,
        Break::StartUnpermitted,
        Break::StartOnPermissionTakenBack,
        Break::StartWhatIsDoubtful,
        Break::HandOnPermissions,
        Break::AdoptAfterPowerCut,
        Break::NoFenceCompare,
        Break::LedgerBeforeSync,
        Break::MarksPastUndecided,
        Break::StartPastLicence,
        Break::LeaveSilentWatch,
    ];
}

/// The request as an agent would send it that compares neither fence nor ledger.
pub fn without_fence(request: Request) -> Request {
    match request {
        Request::Txn(txn) => Request::Txn(stripped(txn)),
        other => other,
    }
}

fn stripped(txn: Txn) -> Txn {
    let ledger = |op: &Op| matches!(op, Op::Put { key, .. } if key.ends_with(b"/ledger"));
    let when = match txn.then.iter().any(ledger) {
        true => Vec::new(),
        false => txn.when,
    };
    let then = txn
        .then
        .into_iter()
        .map(|op| match op {
            Op::Txn(nested) => Op::Txn(stripped(nested)),
            other => other,
        })
        .collect();
    Txn { when, then, otherwise: txn.otherwise }
}
