//! What is due: stale entries, whole milliseconds, watermarks.

use tocktower_core::agent::effect::StoreOp;
use tocktower_core::ids::TaskNumber;

use crate::support::*;

#[test]
fn entries_come_in_order_with_their_tasks() {
    let mut disk = Disk::new();
    let jittered =
        StoreOp::PutDue { range: RANGE, due: at(30), instant: at(20), number: TaskNumber(1) };
    disk.apply([recurring("a", 1), one_shot("b", 2), jittered, due(10, 2), due(11, 2)]);
    let (entries, through) = disk.due(10, 100, 10);
    assert_eq!(through, 100);
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry.due.millis(), entry.instant.millis(), entry.task.spec.name.clone()))
        .collect();
    assert_eq!(told, [(11, 11, named("b")), (30, 20, named("a"))]);
    assert!(disk.due(100, 100, 10).0.is_empty());
}

#[test]
fn an_entry_of_a_version_that_is_gone_is_skipped() {
    let mut disk = Disk::new();
    disk.apply([recurring("a", 1), one_shot("b", 2), one_shot("c", 3)]);
    disk.apply([due(10, 1), due(11, 2), due(12, 3)]);
    disk.apply([recurring("a", 4), delete("b")]);
    assert_eq!(disk.due_numbers(0, 100), [3]);
    assert_eq!(disk.store().stats().stale_due, 2);
}

#[test]
fn entries_that_are_derived_anew_carry_the_record_again() {
    let mut disk = Disk::new();
    disk.apply([one_shot("a", 1), due(10, 1)]);
    disk.apply([StoreOp::ClearDue { range: RANGE }]);
    assert!(disk.due(0, 100, 10).0.is_empty());
    disk.apply([due(20, 1)]);
    assert_eq!(disk.due_numbers(0, 100), [1]);
    disk.apply([delete("a")]);
    assert_eq!(disk.due_numbers(0, 100), [] as [u64; 0]);
}

#[test]
fn an_answer_never_ends_within_a_millisecond() {
    let mut disk = Disk::new();
    disk.apply((1..=9).map(|n| recurring(&format!("t{n}"), n)));
    // 3 at 10, 4 at 20, 2 at 30.
    disk.apply((1..=9).map(|n| due([10, 20, 30][[0, 0, 0, 0, 1, 1, 1, 1, 2, 2][n as usize]], n)));
    let got = |after, limit| {
        let (entries, through) = disk.due(after, 100, limit);
        (entries.len(), through)
    };
    assert_eq!(got(0, 1), (3, 10), "the first millisecond is read to its end");
    assert_eq!(got(0, 3), (3, 10));
    assert_eq!(got(0, 5), (3, 19), "what does not fit comes with the next answer");
    assert_eq!(got(0, 7), (7, 20));
    assert_eq!(got(19, 4), (4, 20));
    assert_eq!(got(20, 10), (2, 100));
}

#[test]
fn entries_behind_the_watermark_are_not_read() {
    let mut disk = Disk::new();
    disk.apply([recurring("a", 1), due(10, 1), due(20, 1), due(30, 1), watermark(20)]);
    assert_eq!(disk.due(0, 100, 10).0.len(), 1);
    disk.apply([StoreOp::ClearDue { range: RANGE }, due(15, 1)]);
    assert_eq!(disk.due(0, 100, 10).0.len(), 1, "cleared entries may begin earlier again");
}

#[test]
fn compaction_drops_what_is_behind_the_watermark() {
    let mut disk = Disk::new();
    disk.apply([recurring("a", 1)]);
    disk.apply((1..=1_000).map(|ms| due(ms, 1)));
    disk.apply([watermark(900)]);
    disk.store().compact().unwrap();
    let rows = disk.store().stats().rows;
    let due_rows = rows.iter().find(|(family, _)| *family == "due").unwrap().1;
    assert_eq!(due_rows, 100);
    assert_eq!(disk.due(0, 2_000, 1_000).0.len(), 100);
}

#[test]
fn an_entry_that_is_put_behind_the_watermark_is_read_all_the_same() {
    let mut disk = Disk::new();
    disk.apply([one_shot("a", 1), one_shot("b", 2), one_shot("c", 3), due(10, 1), watermark(50)]);
    disk.apply([due(20, 2), due(60, 1), due(50, 3)]);
    disk.store().compact().unwrap();
    assert_eq!(disk.due_numbers(0, 100), [2, 3, 1], "an overdue one-shot is not lost");
    assert_eq!(disk.due_numbers(20, 50), [3]);
    assert_eq!(disk.due(0, 100, 1), (disk.due(0, 20, 9).0, 20));
    disk.apply([watermark(30)]);
    assert_eq!(disk.due_numbers(0, 100), [3, 1], "a watermark never goes back");
    disk.apply([watermark(50)]);
    assert_eq!(disk.due_numbers(0, 100), [1]);
    disk.apply([watermark(70), due(65, 2), watermark(70), due(66, 3)]);
    assert_eq!(disk.due_numbers(0, 100), [3], "the operations of a batch follow each other");
}
