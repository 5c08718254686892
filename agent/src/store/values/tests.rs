use std::fmt::Write;

use proptest::prelude::*;

use tocktower_core::ids::{Incarnation, RunKey};

use super::*;

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn check(value: impl AsRef<[u8]>, golden: &str) {
    assert_eq!(hex(value), golden.replace(' ', ""));
}

const RECORD: TaskRecord<'_> = TaskRecord { name: "d/a", raw: &[0xaa, 0xbb] };

#[test]
fn values_of_tasks_and_due_entries_are_these_bytes() {
    check(RECORD.encode(), "01 0003 642f61 aabb");
    let row = NameRow { number: TaskNumber(0x0a0b), stamp: 7 };
    check(row.encode(), "01 0000000000000a0b 0000000000000007");
    let instant = Some(Instant::from_millis(0x0102));
    let due = |instant, inline| DueRow { instant, inline }.encode();
    check(due(None, None), "01");
    check(due(instant, None), "02 000000000102");
    check(due(None, Some(RECORD)), "03 0003 642f61 aabb");
    check(due(instant, Some(RECORD)), "04 000000000102 0003 642f61 aabb");
}

#[test]
fn values_of_runs_are_these_bytes() {
    let run = RunId {
        task: TaskName::parse("d/a").unwrap(),
        incarnation: Incarnation { epoch: Epoch(1), revision: Revision(2) },
        run: RunKey::Instant(Instant::from_millis(0x0304)),
        agent: None,
    };
    let fence = Fence { epoch: Epoch(1), revision: Revision(5) };
    let attempt = Attempt { fence, number: 6 };
    check(open_run_encode(&run, attempt), "01 000000010000000000000005 00000006 642f61");
    let decoded = open_run_decode(&open_run_encode(&run, attempt));
    assert_eq!(decoded, Some((attempt, run.task.clone(), None)));
    let agent = AgentName::parse("w").unwrap();
    let share = RunId { agent: Some(agent.clone()), ..run.clone() };
    let bytes = "01 000000010000000000000005 00000006 642f6140 77";
    check(open_run_encode(&share, attempt), bytes);
    let decoded = open_run_decode(&open_run_encode(&share, attempt));
    assert_eq!(decoded, Some((attempt, run.task.clone(), Some(agent))));
    check(history_encode(RunState::Failed, &[0xaa]), "01 05 aa");
    let hash = hex(keys::task_hash(&run.task));
    check(
        request_encode(0x0102, &run),
        &format!("01 000000000102 000000000304 {hash} 000000010000000000000002 01 642f61"),
    );
    for key in [run.run, RunKey::Manual(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10)] {
        let run = RunId { run: key, ..run.clone() };
        assert_eq!(request_decode(&request_encode(9, &run)), Some((9, run)));
    }
}

#[test]
fn states_are_these_bytes() {
    let states: Vec<_> = (1..=10).map(|byte| state_of(byte).unwrap()).collect();
    assert_eq!(
        states,
        [
            RunState::Queued,
            RunState::Running,
            RunState::WaitingRetry,
            RunState::Succeeded,
            RunState::Failed,
            RunState::TimedOut,
            RunState::Cancelled,
            RunState::Lost,
            RunState::Skipped,
            RunState::Missed,
        ]
    );
    assert!((1..=10).all(|byte| state_byte(state_of(byte).unwrap()) == byte));
    assert_eq!((state_of(0), state_of(11)), (None, None));
}

#[test]
fn values_of_output_and_meta_are_these_bytes() {
    let stream = CapturedStream { head: b"ab".to_vec(), tail: b"c".to_vec(), dropped: 9 };
    check(output_encode(&stream), "02 0000000000000009 00000002 00000001 616263");
    let long = CapturedStream { head: vec![b'x'; 999], tail: vec![b'y'; 9], dropped: 0 };
    let value = output_encode(&long);
    assert!(value.len() < 60);
    check(&value[..17], "01 0000000000000000 000003e7 00000009");
    assert_eq!(output_decode(&value), Some(long));
    check(process_encode(0x0102), "01 00000102");
    check(ms_encode(0x0102), "01 000000000102");
    let number = LedgerNumber { process: 1, count: 2 };
    check(ledger_numbers_encode(number, &[]), "01 0000000000000001 0000000000000002");
    let before = LedgerNumber { process: 3, count: 4 };
    let both = ledger_numbers_encode(number, &[before]);
    check(&both[17..], "0000000000000003 0000000000000004");
    assert_eq!(ledger_numbers_decode(&both), Some(vec![number, before]));
    assert_eq!(ledger_numbers_decode(&both[..25]), None);
    assert_eq!(ledger_numbers_decode(&both[..20]), None);
    assert_eq!(ledger_numbers_decode(&both[..1]), None);
}

#[test]
fn what_is_kept_of_a_session_is_these_bytes() {
    let session = Session { epoch: Epoch(3), revision: Revision(4) };
    let known =
        Kept { lease: LeaseId(2), session, clock: Some(-1), latest: Some(Wall::from_micros(-2)) };
    let value = kept_encode(&known, "b");
    let clocks = "ffffffffffffffff fffffffffffffffe";
    check(&value, &format!("03 0000000000000002 00000003 0000000000000004 {clocks} 62"));
    assert_eq!(kept_decode(&value), Some((known, "b")));
    let doubted = Kept { clock: None, latest: None, ..known };
    assert_eq!(kept_decode(&kept_encode(&doubted, "")), Some((doubted, "")));
    let of_before = [&[2], &value[1..29], &value[37..]].concat();
    assert_eq!(kept_decode(&of_before), None);
}

/// `x` a hundred times, as zstd 1.5.7 packed it: what it writes may change, what it reads may not.
const PACKED: [u8; 34] = [
    1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, // to the end of the lengths
    0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x64, 0x45, 0x00, 0x00, 0x10, 0x78, 0x78, 0x01, 0x00, 0x3f, 0x01,
    0x2c,
];

#[test]
fn output_that_an_older_zstd_packed_is_read() {
    let stream = CapturedStream { head: vec![b'x'; 100], tail: vec![], dropped: 0 };
    assert_eq!(output_decode(&PACKED), Some(stream));
}

proptest! {
    #[test]
    fn any_bytes_are_a_value_or_none(bytes: Vec<u8>, format in 0u8..6) {
        for bytes in [bytes.clone(), [&[format][..], &bytes].concat()] {
            let _ = (TaskRecord::decode(&bytes), NameRow::decode(&bytes), DueRow::decode(&bytes));
            let _ = (history_decode(&bytes), request_decode(&bytes), output_decode(&bytes));
            let _ = (process_decode(&bytes), ms_decode(&bytes), ledger_numbers_decode(&bytes));
            let _ = (request_at(&bytes), open_run_decode(&bytes));
        }
    }

    #[test]
    fn what_is_written_is_read(name in "[a-z]{1,9}/[a-z]{1,9}", raw: Vec<u8>, ms in 0i64..1 << 47) {
        let record = TaskRecord { name: &name, raw: &raw };
        let value = record.encode();
        prop_assert_eq!(TaskRecord::decode(&value), Some(record));
        for instant in [None, Some(Instant::from_millis(ms))] {
            for inline in [None, Some(record)] {
                let row = DueRow { instant, inline };
                let value = row.encode();
                prop_assert_eq!(DueRow::decode(&value), Some(row));
            }
        }
        let stream = CapturedStream { head: raw.clone(), tail: raw, dropped: 3 };
        prop_assert_eq!(output_decode(&output_encode(&stream)), Some(stream));
    }
}
