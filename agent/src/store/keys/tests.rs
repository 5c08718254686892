use std::fmt::Write;

use super::*;

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn fence(revision: i64) -> Fence {
    Fence { epoch: Epoch(1), revision: Revision(revision) }
}

fn run(key: RunKey) -> RunId {
    RunId {
        task: TaskName::parse("default/a").unwrap(),
        incarnation: Incarnation { epoch: Epoch(1), revision: Revision(0x0203) },
        run: key,
        agent: None,
    }
}

const INSTANT: i64 = 0x0102_0304_0506;
const HASH: &str = "92c0523c4d865a2c35e6768a792f389a";

#[test]
fn keys_of_tasks_and_due_entries_are_these_bytes() {
    let (range, number) = (RangeId(0x0102), TaskNumber(0x0a0b));
    assert_eq!(hex(task_record(range, number)), "0102010000000000000a0b");
    let name = TaskName::parse("default/a").unwrap();
    assert_eq!(hex(task_name(range, &name)), "0102 02 64656661756c742f61".replace(' ', ""));
    let key = due(range, Instant::from_millis(INSTANT), number);
    assert_eq!(hex(key), "0102010203040506 0000000000000a0b".replace(' ', ""));
    assert_eq!(due_parts(&key), Some((range, INSTANT as u64, number)));
    let key = due_late(range, Instant::from_millis(INSTANT), number);
    assert_eq!(hex(key), "0102fe010203040506 0000000000000a0b".replace(' ', ""));
    assert_eq!((due_parts(&key), due_late_parts(&key)), (None, Some((INSTANT as u64, number))));
    assert_eq!(task_number_of(&task_record(range, number)), Some(number));
    assert_eq!(task_name_of(&task_name(range, &name)), Some(name));
}

#[test]
fn keys_of_runs_are_these_bytes() {
    let place = RunPlace::of(&run(RunKey::Instant(Instant::from_millis(INSTANT))));
    let check = |key: Vec<u8>, golden: &str| {
        assert_eq!(hex(key), golden.replace("HASH", HASH).replace(' ', ""));
    };
    check(
        place.row(fence(5)),
        "01 HASH fefdfcfbfaf9 fffffffefffffffffffffdfc fe fffffffefffffffffffffffa",
    );
    check(
        place.time(fence(5)),
        "02 fefdfcfbfaf9 HASH fffffffefffffffffffffdfc fe fffffffefffffffffffffffa",
    );
    check(
        place.state(5, fence(5)),
        "03 05 fefdfcfbfaf9 HASH fffffffefffffffffffffdfc fe fffffffefffffffffffffffa",
    );
    check(
        place.output(Attempt { fence: fence(5), number: 2 }, 1),
        "010203040506 HASH 000000010000000000000203 01 000000010000000000000005 00000002 01",
    );
    check(place.open_run(RangeId(0x0102)), "0102 010203040506 HASH 000000010000000000000203 01");
    let ulid = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;
    let place = RunPlace::of(&run(RunKey::Manual(ulid)));
    check(
        place.row(fence(5)),
        "01 HASH fefdfcfbfaf9 fffffffefffffffffffffdfc fd f8f7f6f5f4f3f2f1f0ef \
         fffffffefffffffffffffffa",
    );
    check(place.bytes(), "010203040506 HASH 000000010000000000000203 02 0708090a0b0c0d0e0f10");
    assert_eq!(hex(request(0xab)), format!("04{:032x}", 0xab));
}

#[test]
fn keys_of_meta_are_these_bytes() {
    assert_eq!(hex(meta_watermark(RangeId(0x0102))), "020102");
    assert_eq!(hex(meta_ledger(RangeId(0x0102))), "030102");
    assert_eq!(hex(meta_slice(0x0102)), "040102");
    assert_eq!([META_PROCESS, META_CUTOFF], [1, 5]);
    assert_eq!([CUTOFF_HISTORY, CUTOFF_REQUEST, CUTOFF_BYTES], [0, 1, 2]);
}

#[test]
fn what_a_key_was_made_of_is_read_back() {
    let ulid = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;
    for key in [RunKey::Instant(Instant::from_millis(INSTANT)), RunKey::Manual(ulid)] {
        let place = RunPlace::of(&run(key));
        let told = Some((place.clone(), fence(5)));
        assert_eq!(row_parts(&place.row(fence(5))), told);
        assert_eq!(time_parts(&place.time(fence(5))), told);
        assert_eq!(time_parts(&place.state(5, fence(5))), told);
        assert_eq!(RunPlace::read(&place.bytes()), Some(place.clone()));
        for key in [place.row(fence(5)), place.time(fence(5)), place.state(5, fence(5))] {
            assert_eq!(history_ms(&key), Some(INSTANT as u64));
        }
    }
}

#[test]
fn keys_sort_the_newest_first() {
    let place = |ms| RunPlace::of(&run(RunKey::Instant(Instant::from_millis(ms))));
    assert!(place(2).row(fence(1)) < place(1).row(fence(9)));
    assert!(place(1).row(fence(9)) < place(1).row(fence(1)));
    assert!(place(1).row(fence(1)) < behind(&place(1).row_prefix()));
    assert!(behind(&place(2).row_prefix()) < place(1).row(fence(9)));
    assert!(time_from(2) < place(2).time(fence(1)) && place(2).time(fence(1)) < time_from(1));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_key_or_none(bytes: Vec<u8>) {
        let _ = (row_parts(&bytes), time_parts(&bytes), due_parts(&bytes), history_ms(&bytes));
        let _ = (task_number_of(&bytes), task_name_of(&bytes), meta_number(&bytes));
        if let Some(place) = RunPlace::read(&bytes) {
            proptest::prop_assert_eq!(place.bytes(), bytes);
        }
    }
}
