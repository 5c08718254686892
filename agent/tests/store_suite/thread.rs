//! The store's thread: order, groups, bounds, failure.

use std::sync::Arc;

use tocktower_agent::store::{
    Query, QueryAnswer, Retention, SendError, StoreAnswer, StoreRequest, StoreThread, TrimBudget,
    TrimClock,
};
use tocktower_core::agent::effect::{BatchNumber, LoadId, LoadRequest};
use tocktower_core::agent::input::LoadAnswer;
use tocktower_core::run::RunState;

use crate::support::*;

#[test]
fn answers_come_in_order_and_a_load_sees_the_batches_before_it() {
    let disk = Disk::new();
    let (thread, handle, mut answers) = StoreThread::start(Arc::clone(disk.store())).unwrap();
    for n in 1..=40 {
        let batch = batch(n, n % 10 == 0, [recurring(&format!("t{n}"), n)]);
        handle.try_send(StoreRequest::Commit(batch)).unwrap();
    }
    let scan = LoadRequest::Scan { range: RANGE, after: None, limit: 100 };
    handle.try_send(StoreRequest::Load(LoadId(1), scan)).unwrap();
    let query = Box::new(Query::LastRun(named("t1")));
    handle.try_send(StoreRequest::Query(8, query)).unwrap();
    for n in 1..=40 {
        let Some(StoreAnswer::Committed(number, answer)) = answers.next_blocking() else {
            panic!()
        };
        let committed = answer.unwrap();
        assert_eq!((number, committed.batch), (BatchNumber(n), BatchNumber(n)));
        assert!(committed.synced || n % 10 != 0);
    }
    let Some(StoreAnswer::Loaded(LoadId(1), loaded)) = answers.next_blocking() else { panic!() };
    let LoadAnswer::Scan { tasks, .. } = loaded.unwrap().answer else { panic!() };
    assert_eq!(tasks.len(), 40);
    let Some(StoreAnswer::Queried(8, queried)) = answers.next_blocking() else { panic!() };
    assert_eq!(*queried.unwrap(), QueryAnswer::LastRun(None));
    assert!(disk.store().stats().syncs <= 4, "batches that wait together share a sync");
    drop(handle);
    thread.join();
    assert!(answers.next_blocking().is_none());
}

#[test]
fn what_waits_is_bounded_until_answers_are_taken() {
    let disk = Disk::new();
    let (_thread, handle, mut answers) = StoreThread::start(Arc::clone(disk.store())).unwrap();
    let mut sent = 0;
    let refused = loop {
        let op = history(run("a", sent, RunState::Succeeded));
        match handle.try_send(StoreRequest::Commit(batch(1, false, [op]))) {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, SendError::Full(_)));
    assert_eq!(handle.depth(), sent as usize);
    answers.next_blocking().unwrap();
    handle.try_send(StoreRequest::Commit(batch(1, false, []))).unwrap();
}

#[test]
fn ending_the_thread_writes_what_waits() {
    let mut disk = Disk::new();
    let (thread, handle, _answers) = StoreThread::start(Arc::clone(disk.store())).unwrap();
    for n in 1..=20 {
        let batch = batch(n, false, [recurring(&format!("t{n}"), n)]);
        handle.try_send(StoreRequest::Commit(batch)).unwrap();
    }
    drop(handle);
    thread.join();
    assert!(!disk.store().is_unsynced());
    disk.open().unwrap();
    assert_eq!(disk.scan(RANGE, None, 100).0.len(), 20);
}

#[test]
fn forgetting_is_answered_and_does_not_hold_up_batches() {
    let disk = Disk::new();
    let (thread, handle, mut answers) = StoreThread::start(Arc::clone(disk.store())).unwrap();
    let (rules, budget) = (Retention::default(), TrimBudget::default());
    for n in 1..=5 {
        let op = history(run("a", n, RunState::Succeeded));
        handle.try_send(StoreRequest::Commit(batch(n as u64, true, [op]))).unwrap();
        let clock = TrimClock { now: clock(), steady: true };
        handle.try_send(StoreRequest::Trim { clock, rules, budget }).unwrap();
    }
    drop(handle);
    thread.join();
    let (mut committed, mut trimmed) = (Vec::new(), 0);
    while let Some(answer) = answers.next_blocking() {
        match answer {
            StoreAnswer::Committed(number, answer) => {
                assert!(answer.unwrap().synced);
                committed.push(number.0);
            }
            StoreAnswer::Trimmed(answer) => {
                answer.unwrap();
                trimmed += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((committed, trimmed), (vec![1, 2, 3, 4, 5], 5));
}
