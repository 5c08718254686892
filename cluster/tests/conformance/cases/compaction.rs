//! Compaction: what was before is gone, and whoever asks for it is told.

use tocktower_cluster::port::{PortError, WatchMessage, WatcherId};
use tocktower_core::ids::Revision;

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
