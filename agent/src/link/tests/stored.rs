//! Queries against the real store.

use tocktower_core::agent::effect::{Batch, BatchNumber, StoreOp};
use tocktower_core::run::Captured;
use tocktower_proto::v1::query::Kind;

use super::*;
use crate::store::{Store, StoreConfig};

#[tokio::test]
async fn the_store_is_read_page_by_page_and_gives_output() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreConfig::default()).unwrap().store;
    let spread = (0..100).map(|n| run("default/one", 1_000 + n, RunState::Failed));
    let together = (0..200).map(|n| run(&format!("default/t{n}"), 5_000, RunState::Succeeded));
    let runs: Vec<RunRecord> = spread.chain(together).collect();
    let last = runs.last().unwrap().clone();
    let mut ops: Vec<StoreOp> =
        runs.iter().cloned().map(|run| StoreOp::History(Arc::new(run))).collect();
    let stdout = CapturedStream { head: b"hello".to_vec(), ..CapturedStream::default() };
    ops.push(StoreOp::Output {
        run: last.id.clone(),
        attempt: last.attempts[0].attempt,
        output: Captured { stdout, ..Captured::default() },
    });
    store.apply(&Batch { number: BatchNumber(1), sync: false, ops }).unwrap();
    let agent = Agent::reading(store, Arc::default(), Arc::new(Nothing));
    let (_coordinator, mut peer) = agent.linked().await;
    for states in [vec![], vec![v1::RunState::Failed.into()]] {
        let query = v1::RunsQuery { states: states.clone(), limit: 33, ..Default::default() };
        let seen = walk(&mut peer, query).await;
        assert_eq!(seen.len(), if states.is_empty() { 300 } else { 100 });
        assert!(seen.is_sorted_by(|one, other| one > other));
    }
    let (namespace, task) = ("default".to_owned(), "one".to_owned());
    let query = v1::RunsQuery { namespace, task, limit: 33, ..Default::default() };
    assert_eq!(walk(&mut peer, query).await.len(), 100);
    peer.ask(
        1_000,
        Kind::Output(v1::OutputQuery { run_id: last.id.to_string(), ..Default::default() }),
    )
    .await;
    let Some(v1::query_answer::Kind::Output(chunk)) = peer.answer().await.kind else {
        panic!("no output")
    };
    assert_eq!(chunk.data, b"hello");
}

/// All pages of a list.
async fn walk(peer: &mut Peer, query: v1::RunsQuery) -> Vec<(i64, String)> {
    static IDS: AtomicU64 = AtomicU64::new(1);
    let mut seen: Vec<(i64, String)> = Vec::new();
    loop {
        let before = seen.last().cloned();
        let before = before.map(|(instant_ms, run_id)| v1::RunCursor { instant_ms, run_id });
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        peer.ask(id, Kind::Runs(v1::RunsQuery { before, ..query.clone() })).await;
        let runs = peer.runs(id).await.unwrap();
        let full = runs.len() == usize::try_from(query.limit).unwrap();
        seen.extend(runs.into_iter().map(|run| {
            let instant = run.instant.unwrap();
            (instant.seconds * 1_000 + i64::from(instant.nanos / 1_000_000), run.run_id)
        }));
        if !full {
            return seen;
        }
    }
}
