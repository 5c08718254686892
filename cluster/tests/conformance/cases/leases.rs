//! Leases: they expire, are kept alive, are revoked; their keys go with them.

use std::time::{Duration, Instant};

use tocktower_cluster::port::{Event, PortError};

use crate::vocabulary::Store;

const TTL: Duration = Duration::from_secs(1);

pub async fn take_their_keys_along_when_they_expire(store: Store) {
    let from = store.revision().await.next();
    let mut reader = store.watch();
    reader.open(1, from).await;
    let granted = Instant::now();
    let (lease, ttl) = store.grant(TTL).await;
    assert!(ttl >= TTL);
    let ops = vec![store.leased_op("a", lease), store.leased_op("b", lease)];
    let (put, _) = store.run(ops).await;
    assert_eq!(store.get("a").await.unwrap().lease, Some(lease));
    store.put("c", "stays").await;

    assert_eq!(reader.events(1).await.0, put);
    assert_eq!(reader.events(1).await.1.len(), 1);
    let (expired, events) = reader.events(1).await;
    assert!(granted.elapsed() >= ttl, "not before its time");
    let mut story: Vec<String> = events.iter().map(|event| reader.tell(event)).collect();
    story.sort();
    assert_eq!(story, ["-a", "-b"]);
    assert!(events.iter().all(|event| event.revision() == expired), "in one revision");
    assert_eq!(store.shown(None).await.keys().collect::<Vec<_>>(), ["c"]);
    assert_eq!(store.keep_alive(lease).await, Err(PortError::NoLease));
    assert_eq!(store.revoke(lease).await, Err(PortError::NoLease));
}

pub async fn live_as_long_as_they_are_kept_alive(store: Store) {
    let (lease, ttl) = store.grant(TTL).await;
    store.run(vec![store.leased_op("a", lease)]).await;
    let begun = Instant::now();
    while begun.elapsed() < ttl + ttl / 2 {
        assert_eq!(store.keep_alive(lease).await, Ok(ttl));
        tokio::time::sleep(ttl / 4).await;
    }
    assert!(store.get("a").await.is_some());
    store.revoke(lease).await.unwrap();
}

pub async fn can_be_revoked(store: Store) {
    let (lease, _) = store.grant(Duration::from_secs(60)).await;
    let (other, _) = store.grant(Duration::from_secs(60)).await;
    assert_ne!(lease, other);
    store.run(vec![store.leased_op("a", lease), store.leased_op("b", lease)]).await;
    let before = store.run(vec![store.leased_op("c", other)]).await.0;
    let mut reader = store.watch();
    reader.open(1, before.next()).await;
    assert!(store.keep_alive(lease).await.is_ok());
    let revision = store.revoke(lease).await.unwrap();
    assert_eq!(revision, before.next());
    let (through, events) = reader.events(1).await;
    assert_eq!(through, revision);
    assert!(events.iter().all(|event| matches!(event, Event::Delete { .. })));
    assert_eq!(store.shown(None).await.keys().collect::<Vec<_>>(), ["c"]);
    assert_eq!(store.keep_alive(lease).await, Err(PortError::NoLease));
    assert!(store.keep_alive(other).await.is_ok());
    store.revoke(other).await.unwrap();
    assert!(store.shown(None).await.is_empty());
}

pub async fn let_go_of_keys_that_were_put_again(store: Store) {
    let (old, _) = store.grant(Duration::from_secs(60)).await;
    let (new, _) = store.grant(Duration::from_secs(60)).await;
    for name in ["a", "b", "c"] {
        store.run(vec![store.leased_op(name, old)]).await;
    }
    store.run(vec![store.leased_op("a", new)]).await;
    store.put("b", "for good").await;
    store.delete("c").await;
    store.put("c", "made again").await;
    store.revoke(old).await.unwrap();
    assert_eq!(store.shown(None).await.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(store.get("a").await.unwrap().lease, Some(new));
    assert_eq!(store.get("b").await.unwrap().lease, None);
    store.revoke(new).await.unwrap();
    assert_eq!(store.shown(None).await.keys().collect::<Vec<_>>(), ["b", "c"]);
}
