//! How an open run stands in a ledger, and how much room it takes there.

use crate::agent::desk::Desk;
use crate::agent::effect::WriteKind;
use crate::agent::open::OpenRun;
use crate::agent::rules::Rule;
use crate::ids::{RunId, Session};
use crate::ledger::{Entry, EntryState, Marks};
use crate::run::life::Stage;

/// Bytes of an entry beside names, at most.
pub(super) const ENTRY_BYTES: usize = 80;
/// Bytes of a settle key and a compare beside names, at most.
const KEY_BYTES: usize = 200;

pub(super) enum Listing {
    As(EntryState),
    /// Ended and covered: this ledger lets it go.
    Leaves,
    /// Not covered and not listed before: the marks say enough about it.
    NotYet,
}

/// How a run stands in a ledger with these marks. `last`: a final ledger of this session.
pub(super) fn listing(
    id: &RunId,
    run: &OpenRun,
    marks: Marks,
    desk: &Desk,
    last: Option<Session>,
) -> Listing {
    let own_key = run.waits_for_key();
    let covered = !own_key && marks.cover(run.due, id.incarnation);
    let must = run.listed || covered || last.is_some();
    match run.stage {
        Stage::Ended { .. } if own_key && !desk.holds(Rule::KeyGone) => Listing::Leaves,
        Stage::Ended { .. } if !own_key && !desk.holds(Rule::Covered) => Listing::Leaves,
        Stage::Ended { .. } if own_key => match run.listed || last.is_some() {
            true => Listing::As(EntryState::Ended),
            false => Listing::NotYet,
        },
        Stage::Ended { .. } if covered || run.key.is_none() && !run.listed => Listing::Leaves,
        Stage::Ended { .. } => Listing::As(EntryState::Ended),
        Stage::Running { .. } => match last {
            Some(session) => Listing::As(EntryState::Held { session }),
            None if run.at_most_once() => Listing::As(EntryState::Permitted),
            None if must || own_key => Listing::As(EntryState::Started),
            None => Listing::NotYet,
        },
        Stage::Held { session, .. } => Listing::As(EntryState::Held { session }),
        Stage::Doubtful => Listing::As(EntryState::Permitted),
        Stage::Asking | Stage::Queued | Stage::Opening { .. }
            if run.at_most_once() && (last.is_none() || !desk.holds(Rule::HandOnWaiting)) =>
        {
            Listing::As(EntryState::Permitted)
        }
        Stage::Waiting { at } if must || run.attempt.number > 0 => {
            Listing::As(EntryState::Waiting { at })
        }
        _ if own_key && !run.listed && run.attempt.number == 0 => Listing::NotYet,
        Stage::Asking
        | Stage::Queued
        | Stage::Opening { .. }
        | Stage::Behind
        | Stage::Waiting { .. }
            if must || run.attempt.number > 0 =>
        {
            match run.catch_up_last {
                Some(last) => Listing::As(EntryState::CatchUp { at: desk.now.wall, last }),
                None => Listing::As(EntryState::Waiting { at: run.due.wall() }),
            }
        }
        _ => Listing::NotYet,
    }
}

/// What a write adds to its transaction, at most.
pub(super) fn size_of(kind: &WriteKind) -> usize {
    match kind {
        WriteKind::Beat { .. } => 4 * KEY_BYTES,
        WriteKind::Ledger { ledger, taken, .. } | WriteKind::Final { ledger, taken, .. } => {
            let entries: usize = ledger.open.iter().map(entry_bytes).sum();
            let keys: usize = taken.iter().map(|key| KEY_BYTES + run_bytes(&key.run)).sum();
            4 * KEY_BYTES + entries + keys
        }
    }
}

pub(super) fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_BYTES + run_bytes(&entry.run)
}

fn run_bytes(run: &RunId) -> usize {
    run.task.namespace.as_str().len() + run.task.name.as_str().len()
}

/// What a run would take in a ledger, at most.
pub(super) fn listing_bytes(run: &RunId) -> usize {
    ENTRY_BYTES + run_bytes(run)
}
