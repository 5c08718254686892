//! Compaction: what was before is gone, and whoever asks for it is told; and how agents, who all
//! may, agree on one of them.

use std::collections::BTreeMap;

use tocktower_cluster::agents::{AgentOps, Identity};
use tocktower_cluster::keys::Keys;
use tocktower_cluster::port::{PortError, WatchMessage, WatcherId};
use tocktower_core::agent::effect::ShareRequest;
use tocktower_core::agent::input::{CompactSeen, ShareAnswer};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{AgentName, Epoch, PoolName, Revision};
use tocktower_core::time::Wall;

use crate::vocabulary::Store;

pub async fn forgets_what_was_before(store: Store) {
    let first = store.put("a", "1").await;
    let kept = store.put("a", "2").await;
    let last = store.put("b", "1").await;
    let mut reader = store.watch();
    reader.open(1, first).await;
    assert_eq!(reader.story(1, last).await, ["+a=1", "+a=2", "+b=1"]);
    store.compact(kept).await.unwrap();

    let compacted = |error| match error {
        PortError::Compacted { asked, oldest } => (asked, oldest),
        other => panic!("instead of compacted: {other:?}"),
    };
    let error = store.try_list(store.page(10, Some(first))).await.unwrap_err();
    assert!(!error.retryable() && error.refused());
    let (asked, oldest) = compacted(error);
    assert_eq!(asked, first);
    assert!(oldest > first && oldest <= kept);
    assert_eq!(store.shown(Some(kept)).await.len(), 1);
    assert_eq!(store.shown(None).await.len(), 2);

    reader.open(2, first).await;
    let ended = WatchMessage::Compacted { watcher: WatcherId(2), oldest: kept };
    assert_eq!(reader.message().await, ended);
    reader.open(3, kept).await;
    assert_eq!(reader.story(3, last).await, ["+a=2", "+b=1"]);
    let next = store.put("c", "1").await;
    let mut on = [on(reader.message().await, next), on(reader.message().await, next)];
    on.sort_unstable();
    assert_eq!(on, [1, 3], "watchers that were ahead go on");

    let again = store.compact(first).await.unwrap_err();
    assert_eq!(compacted(again).0, first);
    let future = store.compact(Revision(next.0 + 1_000)).await.unwrap_err();
    assert!(matches!(future, PortError::Refused(_)), "{future:?}");
}

/// The watcher that got the events of this one revision.
fn on(message: WatchMessage, revision: Revision) -> u64 {
    match message {
        WatchMessage::Events { watcher, through, .. } if through == revision => watcher.0,
        other => panic!("instead of events: {other:?}"),
    }
}

/// What an agent hears when it asks, its keys being those of the case.
async fn ask(store: &Store, agent: &str, request: ShareRequest) -> ShareAnswer {
    let prefix = String::from_utf8(store.key("")).unwrap();
    let identity = Identity {
        agent: AgentName::parse(agent).unwrap(),
        pool: PoolName::parse("default").unwrap(),
        labels: BTreeMap::new(),
        version: String::new(),
        tz_version: String::new(),
        host_id: String::new(),
    };
    let keys = Keys::new(&prefix, RangeCount::DEFAULT);
    let ops = AgentOps::new(keys, identity, Epoch(1));
    let answer = store.call(ops.request(&request, Wall::default())).await;
    ops.answer(&request, answer)
}

/// The record as an agent reads it, in a store that is at `least` so far.
async fn read(store: &Store, agent: &str, least: Revision) -> CompactSeen {
    match ask(store, agent, ShareRequest::ReadCompact).await {
        ShareAnswer::CompactRead { record, revision } => {
            assert!(least <= revision && revision.0 < least.0 + 100, "{revision:?}");
            record
        }
        other => panic!("instead of the record: {other:?}"),
    }
}

pub async fn is_won_by_one_of_two_agents(store: Store) {
    let gone = store.put("a", "1").await;
    let kept = store.put("a", "2").await;
    let none = CompactSeen::default();
    assert_eq!(read(&store, "one", kept).await, none);

    let put = ShareRequest::PutCompact { seen: none.at, to: kept };
    assert_eq!(ask(&store, "one", put.clone()).await, ShareAnswer::Done);
    let record = store.get("compact").await.unwrap();
    assert_eq!(ask(&store, "two", put).await, ShareAnswer::Overtaken);
    assert_eq!(store.get("compact").await.unwrap(), record);

    let compact = ShareRequest::Compact { to: kept };
    assert_eq!(ask(&store, "one", compact.clone()).await, ShareAnswer::Done);
    let error = store.try_list(store.page(10, Some(gone))).await.unwrap_err();
    assert!(matches!(error, PortError::Compacted { .. }), "{error:?}");
    assert_eq!(ask(&store, "two", compact).await, ShareAnswer::Overtaken);

    // The next one compares with what this one wrote.
    let seen = CompactSeen { to: kept, at: record.mod_revision };
    let last = store.put("a", "3").await;
    assert_eq!(read(&store, "two", last).await, seen);
    let put = ShareRequest::PutCompact { seen: seen.at, to: last };
    assert_eq!(ask(&store, "two", put).await, ShareAnswer::Done);

    let future = ShareRequest::Compact { to: Revision(last.0 + 1_000) };
    let refused = ask(&store, "two", future).await;
    assert!(matches!(refused, ShareAnswer::Refused { retryable: false, .. }), "{refused:?}");
}

pub async fn leaves_a_record_alone_that_it_cannot_read(store: Store) {
    store.put("compact", "from a later version").await;
    let refused = ask(&store, "one", ShareRequest::ReadCompact).await;
    assert!(matches!(refused, ShareAnswer::Refused { retryable: false, .. }), "{refused:?}");
}
