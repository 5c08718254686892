//! Ledgers as they lie in the shared state, to and from what the core says.

use tocktower_core::ids::{
    AgentName, Attempt, LedgerNumber, PoolName, RangeId, RunId, RunKey, TaskName,
};
use tocktower_core::ledger::{Entry, EntryState, Ledger, Marks};
use tocktower_core::time::{Instant, Wall};
use tocktower_proto::convert::{
    DecodeError, decode_record, encode_record, fence_from_record, fence_record,
    incarnation_from_record, incarnation_record, session_from_record, session_record, ulid_bytes,
    ulid_from_bytes,
};
use tocktower_proto::store::{
    EntryRecord, EntryStateRecord, LedgerRecord, entry_record::Run as RunRecord,
};

use crate::keys::{Key, Keys};
use crate::port::{Answer, Op, OpAnswer, Txn};
use crate::tasks::AnswerError;

pub fn encode(ledger: &Ledger) -> Vec<u8> {
    encode_record(&LedgerRecord {
        fence: Some(fence_record(ledger.fence)),
        process: ledger.number.process,
        count: ledger.number.count,
        through_ms: ledger.marks.through.millis(),
        settled: Some(incarnation_record(ledger.marks.incarnation)),
        open: ledger.open.iter().map(entry_record).collect(),
    })
}

/// Reads the ledger of a range.
pub fn get(keys: &Keys, pool: &PoolName, range: RangeId) -> Txn {
    let key = keys.build(&Key::Ledger(pool.clone(), range));
    Txn { then: vec![Op::Get { key }], ..Txn::default() }
}

/// The ledger that was read; `None`: the range has none yet.
pub fn read_get(answer: &Answer) -> Result<Option<Ledger>, AnswerError> {
    let Answer::Txn { answers, .. } = answer else { return Err(AnswerError::Mismatch) };
    match answers.as_slice() {
        [OpAnswer::Got(item)] => {
            let ledger = item.as_ref().map(|item| decode(&item.value)).transpose();
            ledger.map_err(AnswerError::Unreadable)
        }
        _ => Err(AnswerError::Mismatch),
    }
}

pub fn decode(bytes: &[u8]) -> Result<Ledger, DecodeError> {
    let record: LedgerRecord = decode_record(bytes)?;
    let fence = record.fence.as_ref().ok_or(DecodeError::missing("fence"))?;
    let settled = record.settled.as_ref().ok_or(DecodeError::missing("settled"))?;
    Ok(Ledger {
        fence: fence_from_record(fence),
        number: LedgerNumber { process: record.process, count: record.count },
        marks: Marks {
            through: Instant::from_millis(record.through_ms),
            incarnation: incarnation_from_record(settled),
        },
        open: record.open.iter().map(entry).collect::<Result<_, _>>()?,
    })
}

fn entry_record(entry: &Entry) -> EntryRecord {
    let run = match entry.run.run {
        RunKey::Instant(instant) => RunRecord::InstantMs(instant.millis()),
        RunKey::Manual(ulid) => RunRecord::Ulid(ulid_bytes(ulid)),
    };
    let mut record = EntryRecord {
        task: entry.run.task.to_string(),
        incarnation: Some(incarnation_record(entry.run.incarnation)),
        run: Some(run),
        attempt_fence: Some(fence_record(entry.attempt.fence)),
        attempt: entry.attempt.number,
        due_ms: entry.due.millis(),
        share_of: entry.run.agent.as_ref().map_or_else(String::new, ToString::to_string),
        ..EntryRecord::default()
    };
    match entry.state {
        EntryState::Started => record.set_state(EntryStateRecord::Started),
        EntryState::Permitted => record.set_state(EntryStateRecord::Permitted),
        EntryState::Ended => record.set_state(EntryStateRecord::Ended),
        EntryState::Waiting { at } => {
            record.set_state(EntryStateRecord::Waiting);
            record.waiting_at_us = at.micros();
        }
        EntryState::CatchUp { at, last } => {
            record.set_state(EntryStateRecord::Waiting);
            record.waiting_at_us = at.micros();
            record.catch_up_last_ms = Some(last.millis());
        }
        EntryState::Held { session } => {
            record.set_state(EntryStateRecord::Held);
            record.held_by = Some(session_record(session));
        }
    }
    record
}

fn entry(record: &EntryRecord) -> Result<Entry, DecodeError> {
    let task =
        TaskName::parse(&record.task).map_err(|error| DecodeError::invalid("task", error))?;
    let incarnation = record.incarnation.as_ref().ok_or(DecodeError::missing("incarnation"))?;
    let incarnation = incarnation_from_record(incarnation);
    let run = match record.run.as_ref().ok_or(DecodeError::missing("run"))? {
        RunRecord::InstantMs(ms) => RunId::scheduled(task, incarnation, Instant::from_millis(*ms)),
        RunRecord::Ulid(bytes) => RunId::manual(task, ulid_from_bytes(bytes)?),
    };
    let agent = match record.share_of.as_str() {
        "" => None,
        agent => {
            let agent = AgentName::parse(agent);
            Some(agent.map_err(|error| DecodeError::invalid("share_of", error))?)
        }
    };
    let run = RunId { agent, ..run };
    let fence = record.attempt_fence.as_ref().ok_or(DecodeError::missing("attempt_fence"))?;
    let attempt = Attempt { fence: fence_from_record(fence), number: record.attempt };
    let at = Wall::from_micros(record.waiting_at_us);
    let state = match (record.state(), record.catch_up_last_ms) {
        (EntryStateRecord::Started, _) => EntryState::Started,
        (EntryStateRecord::Permitted, _) => EntryState::Permitted,
        (EntryStateRecord::Ended, _) => EntryState::Ended,
        (EntryStateRecord::Waiting, None) => EntryState::Waiting { at },
        (EntryStateRecord::Waiting, Some(last)) => {
            EntryState::CatchUp { at, last: Instant::from_millis(last) }
        }
        (EntryStateRecord::Held, _) => {
            let session = record.held_by.as_ref().ok_or(DecodeError::missing("held_by"))?;
            EntryState::Held { session: session_from_record(session) }
        }
        (EntryStateRecord::Unspecified, _) => return Err(DecodeError::missing("state")),
    };
    Ok(Entry { run, due: Instant::from_millis(record.due_ms), attempt, state })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tocktower_core::ids::{Epoch, Fence, Incarnation, Revision, Session};

    fn states() -> impl Strategy<Value = EntryState> {
        let session = Session { epoch: Epoch(1), revision: Revision(9) };
        let at = Wall::from_micros(1_234_567);
        prop_oneof![
            Just(EntryState::Started),
            Just(EntryState::Permitted),
            Just(EntryState::Ended),
            Just(EntryState::Waiting { at }),
            Just(EntryState::CatchUp { at, last: Instant::from_millis(77) }),
            Just(EntryState::Held { session }),
        ]
    }

    fn entries() -> impl Strategy<Value = Entry> {
        (states(), any::<u32>(), 0..i64::from(u32::MAX), any::<bool>()).prop_map(
            |(state, number, ms, manual)| {
                let task = TaskName::parse("a/b").unwrap();
                let incarnation = Incarnation { epoch: Epoch(2), revision: Revision(ms) };
                let instant = Instant::from_millis(ms);
                let run = match manual {
                    true => RunId::manual(task, u128::from(number)),
                    false => RunId::scheduled(task, incarnation, instant),
                };
                let fence = Fence { epoch: Epoch(1), revision: Revision(ms) };
                Entry { run, due: instant, attempt: Attempt { fence, number }, state }
            },
        )
    }

    proptest! {
        #[test]
        fn a_ledger_reads_back_as_it_was_written(
            open in proptest::collection::vec(entries(), 0..9),
        ) {
            let fence = Fence { epoch: Epoch(1), revision: Revision(5) };
            let number = LedgerNumber { process: u64::MAX, count: 3 };
            let marks = Marks {
                through: Instant::from_millis(99),
                incarnation: Incarnation { epoch: Epoch(1), revision: Revision(4) },
            };
            let ledger = Ledger { fence, number, marks, open };
            prop_assert_eq!(decode(&encode(&ledger)).unwrap(), ledger);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
