//! Tasks: versions, listings, ranges, requests.

use tocktower_core::agent::effect::{LoadRequest, StoreOp};
use tocktower_core::agent::input::Duplicate;
use tocktower_core::ids::{RangeId, Revision, TaskNumber};
use tocktower_core::run::RunState;

use crate::support::*;

#[test]
fn a_put_replaces_the_version_before() {
    let mut disk = Disk::new();
    disk.apply([recurring("a", 1), recurring("b", 2)]);
    disk.apply([recurring("a", 3)]);
    assert_eq!(disk.task("a").unwrap().0, 3);
    assert_eq!(disk.task("a").unwrap().1.revision, Revision(3));
    assert_eq!(disk.scan(RANGE, None, 10), (vec![2, 3], false));
    disk.apply([delete("a"), delete("unknown")]);
    assert!(disk.task("a").is_none());
    assert_eq!(disk.scan(RANGE, None, 10), (vec![2], false));
}

#[test]
fn operations_of_one_batch_see_each_other() {
    let mut disk = Disk::new();
    disk.apply([one_shot("a", 1), one_shot("a", 2), due(500, 1), due(500, 2), delete("b")]);
    assert_eq!(disk.scan(RANGE, None, 10), (vec![2], false));
    assert_eq!(disk.due_numbers(0, 1_000), [2]);
    disk.apply([one_shot("c", 3), delete("c"), delete("a"), one_shot("a", 4)]);
    assert_eq!(disk.scan(RANGE, None, 10), (vec![4], false));
}

#[test]
fn a_scan_goes_page_by_page() {
    let mut disk = Disk::new();
    disk.apply((1..=5).map(|n| recurring(&format!("t{n}"), n)));
    assert_eq!(disk.scan(RANGE, None, 2), (vec![1, 2], true));
    assert_eq!(disk.scan(RANGE, Some(2), 3), (vec![3, 4, 5], false));
    assert_eq!(disk.scan(RANGE, Some(u64::MAX), 3), (vec![], false));
}

#[test]
fn a_sweep_forgets_what_no_listing_has_seen() {
    let mut disk = Disk::new();
    let stamped =
        |name: &str, number, stamp| put(name, number, stamp, None, one_shot_raw(name, number));
    disk.apply([stamped("old", 1, 1), stamped("new", 2, 2), stamped("again", 3, 1), due(9, 1)]);
    let sweep = StoreOp::Sweep { range: RANGE, stamp: 2 };
    disk.apply([stamped("again", 4, 2), stamped("early", 5, 1), sweep]);
    assert_eq!(disk.scan(RANGE, None, 10), (vec![2, 4], false));
    assert_eq!(disk.due_numbers(0, 10), [] as [u64; 0]);
    assert!(disk.task("old").is_none() && disk.task("early").is_none());
}

#[test]
fn dropping_a_range_leaves_its_neighbours() {
    let mut disk = Disk::new();
    let other = RangeId(RANGE.0 + 1);
    let mut beside = recurring("b", 2);
    if let StoreOp::PutTask { range, .. } = &mut beside {
        *range = other;
    }
    disk.apply([recurring("a", 1), beside, due(100, 1), watermark(50)]);
    disk.apply([StoreOp::DropRange { range: RANGE }, recurring("c", 3), due(40, 3)]);
    assert_eq!(disk.scan(RANGE, None, 10), (vec![3], false));
    assert_eq!(disk.scan(other, None, 10), (vec![2], false));
    assert_eq!(disk.due_numbers(0, 1_000), [3], "the watermark went with the range");
}

#[test]
fn a_request_that_has_run_is_a_duplicate() {
    let mut disk = Disk::new();
    let again = |name: &str, number| put(name, number, 1, Some(77), one_shot_raw(name, number));
    assert_eq!(disk.apply([again("a", 1)]).duplicates, []);
    let mut first = run("a", 5_000, RunState::Running);
    first.request = Some(77);
    disk.apply([history(first.clone())]);
    assert_eq!(disk.apply([again("a", 2)]).duplicates, [], "it has not ended");
    first.state = RunState::Succeeded;
    disk.apply([history(first.clone()), delete("a")]);
    let told = disk.apply([again("a", 3)]).duplicates;
    let duplicate = |number, revision| Duplicate {
        range: RANGE,
        number: TaskNumber(number),
        revision: Revision(revision),
        earlier: first.id.clone(),
    };
    assert_eq!(told, [duplicate(3, 3)]);

    let mut second = run("a", 9_000, RunState::Skipped);
    second.request = Some(77);
    disk.apply([history(second)]);
    disk.open().unwrap();
    let told = disk.apply([again("a", 4)]).duplicates;
    assert_eq!(told, [duplicate(4, 4)], "the first run of a request counts");
}

#[test]
fn a_record_that_cannot_be_read_is_told_and_left_out() {
    let mut disk = Disk::new();
    disk.apply([recurring("a", 1), put("bad", 2, 1, None, b"?".to_vec()), recurring("c", 3)]);
    disk.apply([due(10, 1), due(11, 2), due(12, 3)]);
    let scanned = disk.load(LoadRequest::Scan { range: RANGE, after: None, limit: 10 });
    assert_eq!(scanned.unreadable.len(), 1);
    assert_eq!(scanned.unreadable[0].number, TaskNumber(2));
    assert_eq!(scanned.unreadable[0].name.as_deref(), Some("default/bad"));
    assert_eq!(disk.scan(RANGE, None, 10).0, [1, 3]);
    assert_eq!(disk.due_numbers(0, 100), [1, 3]);
    let bad = disk.load(LoadRequest::Task { range: RANGE, name: named("bad") });
    assert!(!bad.unreadable[0].error.is_empty());
    assert_eq!(disk.store().stats().unreadable, 4);
}
