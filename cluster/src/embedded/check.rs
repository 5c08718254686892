//! What etcd refuses before it looks at its data, refused here in the same way, so that a program
//! that works on one host does not fail on the day it moves to etcd.
//!
//! - *Operations.* A level of a transaction weighs as much as the longest of its three lists. etcd
//!   takes 128 from the first level, and hands what is left of the 128 to the levels below: the
//!   limit is a budget along each path, so 8 nested transactions of 120 creates pass, and
//!   120 nested transactions of 9 do not.
//! - *One write per key.* A key is put at most once, and not both put and deleted, except that the
//!   two branches of a nested transaction exclude each other. One order slips through etcd's check
//!   and therefore through this one: a nested put followed by a sibling's nested delete.
//! - *Size.* 1.5 MiB for a request, as etcd counts by default.

use std::collections::BTreeSet;

use tocktower_core::limits;

use crate::port::{Compare, ListRequest, Op, PortError, Txn};

/// etcd's `--max-request-bytes`, by default.
const REQUEST_BYTES_MAX: usize = 1_536 * 1_024;

pub(super) fn txn(txn: &Txn) -> Result<(), PortError> {
    operations(txn, limits::ETCD_OPS_MAX)?;
    if bytes(txn) > REQUEST_BYTES_MAX {
        return Err(PortError::TooLarge);
    }
    writes(&txn.then)?;
    writes(&txn.otherwise)?;
    Ok(())
}

pub(super) fn list(request: &ListRequest) -> Result<(), PortError> {
    if request.limit == 0 {
        return Err(PortError::Refused("a list needs a limit of at least 1".into()));
    }
    if request.range.start.is_empty() {
        return Err(PortError::Refused("key is not provided".into()));
    }
    match request.at {
        Some(at) if at.0 <= 0 => Err(PortError::Refused(format!("no revision {}", at.0))),
        _ => Ok(()),
    }
}

fn operations(txn: &Txn, budget: usize) -> Result<(), PortError> {
    let weight = txn.when.len().max(txn.then.len()).max(txn.otherwise.len());
    if weight > budget {
        return Err(PortError::Refused("too many operations in txn request".into()));
    }
    let keys = txn.when.iter().map(compared);
    let keys = keys.chain(txn.then.iter().chain(&txn.otherwise).filter_map(touched));
    if keys.into_iter().any(<[u8]>::is_empty) {
        return Err(PortError::Refused("key is not provided".into()));
    }
    for op in txn.then.iter().chain(&txn.otherwise) {
        if let Op::Txn(nested) = op {
            operations(nested, budget - weight)?;
        }
    }
    Ok(())
}

fn compared(compare: &Compare) -> &[u8] {
    match compare {
        Compare::Created { key, .. } | Compare::Modified { key, .. } => key,
    }
}

fn touched(op: &Op) -> Option<&[u8]> {
    match op {
        Op::Get { key } | Op::Put { key, .. } | Op::Delete { key } => Some(key),
        Op::Txn(_) => None,
    }
}

fn bytes(txn: &Txn) -> usize {
    let compares: usize = txn.when.iter().map(|compare| compared(compare).len()).sum();
    let ops = txn.then.iter().chain(&txn.otherwise).map(|op| match op {
        Op::Get { key } | Op::Delete { key } => key.len(),
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Txn(nested) => bytes(nested),
    });
    compares + ops.sum::<usize>()
}

type Keys<'a> = BTreeSet<&'a [u8]>;

/// The keys that `ops` put and delete, at any depth. The order of the three passes is etcd's.
fn writes(ops: &[Op]) -> Result<(Keys<'_>, Keys<'_>), PortError> {
    let duplicate = || Err(PortError::Refused("duplicate key given in txn request".into()));
    let mut puts = Keys::new();
    let mut deletes: Keys<'_> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Delete { key } => Some(key.as_slice()),
            _ => None,
        })
        .collect();
    for op in ops {
        let Op::Txn(nested) = op else { continue };
        let (then_puts, then_deletes) = writes(&nested.then)?;
        let (else_puts, else_deletes) = writes(&nested.otherwise)?;
        let either: Keys<'_> = then_puts.union(&else_puts).copied().collect();
        if either.iter().any(|key| puts.contains(key) || deletes.contains(key)) {
            return duplicate();
        }
        puts.extend(either);
        deletes.extend(then_deletes);
        deletes.extend(else_deletes);
    }
    for op in ops {
        let Op::Put { key, .. } = op else { continue };
        if deletes.contains(key.as_slice()) || !puts.insert(key) {
            return duplicate();
        }
    }
    Ok((puts, deletes))
}
