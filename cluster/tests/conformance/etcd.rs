//! etcd: the suite, and what only it can show: restarts, members that hang, a lost majority, and a
//! watcher that has much to catch up with.

use std::time::{Duration, Instant};

use tocktower_cluster::etcd::{Etcd, EtcdOptions};
use tocktower_cluster::port::{PortError, WatchMessage, WatcherId};
use tocktower_core::ids::Revision;

use crate::cases;
use crate::figures::create;
use crate::harness::EtcdCluster;
use crate::vocabulary::{Reader, SOON, Store, always};

const TIMEOUT: Duration = Duration::from_secs(2);

fn store(endpoints: &[String]) -> Store {
    let options = EtcdOptions { timeout: TIMEOUT, ..EtcdOptions::default() };
    Store::new(Etcd::connect(endpoints, options).unwrap())
}

#[tokio::test]
async fn the_suite_holds_on_etcd() {
    let etcd = EtcdCluster::start(1).await;
    cases::run(Etcd::connect(&etcd.endpoints(), EtcdOptions::default()).unwrap()).await;
}

#[tokio::test]
async fn endpoints_are_checked() {
    assert!(Etcd::connect(&[], EtcdOptions::default()).is_err());
    for bad in ["", "localhost:2379", "https://localhost:2379", "http://"] {
        assert!(Etcd::connect(&[bad.into()], EtcdOptions::default()).is_err(), "{bad}");
    }
}

async fn until_put(store: &Store, name: &str) -> Revision {
    let put = async {
        loop {
            match store.try_txn(always(vec![store.put_op(name, "x")])).await {
                Ok((revision, ..)) => return revision,
                Err(error) => assert!(error.retryable(), "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, put).await.unwrap()
}

async fn until_ended(reader: &mut Reader, watcher: u64) {
    match reader.message().await {
        WatchMessage::Ended { watcher: ended, .. } => assert_eq!(ended, WatcherId(watcher)),
        other => panic!("instead of the end: {other:?}"),
    }
}

/// Opens until it is open, as a caller does.
async fn until_open(reader: &mut Reader, watchers: std::ops::Range<u64>, from: Revision) -> u64 {
    for watcher in watchers {
        reader.ask(watcher, from);
        match reader.message().await {
            WatchMessage::Opened { .. } => return watcher,
            WatchMessage::Ended { .. } => {}
            other => panic!("neither open nor ended: {other:?}"),
        }
    }
    panic!("the watcher does not open");
}

#[tokio::test]
async fn a_restart_ends_watchers_and_fails_calls_for_a_while() {
    let mut etcd = EtcdCluster::start(1).await;
    let store = store(&etcd.endpoints());
    let before = store.put("a", "1").await;
    let (lease, _) = store.grant(Duration::from_secs(60)).await;
    store.keep_alive(lease).await.unwrap();
    let mut reader = store.watch();
    reader.open(1, before).await;
    assert_eq!(reader.story(1, before).await, ["+a=1"]);
    reader.open(2, before.next()).await;

    etcd.stop(0);
    let mut ended = [reader.message().await, reader.message().await].map(|message| match message {
        WatchMessage::Ended { watcher, .. } => watcher.0,
        other => panic!("{other:?}"),
    });
    ended.sort_unstable();
    assert_eq!(ended, [1, 2]);
    let error = store.try_txn(always(vec![store.put_op("b", "x")])).await.unwrap_err();
    assert!(matches!(error, PortError::Unreachable(_)), "nobody listens: {error:?}");
    assert!(store.keep_alive(lease).await.unwrap_err().retryable());
    reader.ask(3, before.next());
    until_ended(&mut reader, 3).await;

    etcd.restart(0);
    let after = until_put(&store, "b").await;
    store.keep_alive(lease).await.unwrap();
    let watcher = until_open(&mut reader, 4..20, before.next()).await;
    assert_eq!(reader.story(watcher, after).await, ["+b=x"]);
}

#[tokio::test]
async fn a_member_that_hangs_costs_one_timeout() {
    let mut etcd = EtcdCluster::start(1).await;
    let store = store(&etcd.endpoints());
    store.put("a", "1").await;
    let (lease, _) = store.grant(Duration::from_secs(60)).await;
    store.keep_alive(lease).await.unwrap();
    // Nothing is ever due on this one; only its pings tell that etcd is silent.
    let options = EtcdOptions {
        ping_interval: Duration::from_secs(1),
        ping_timeout: Duration::from_secs(1),
        ..EtcdOptions::default()
    };
    let pinging = Store::new(Etcd::connect(&etcd.endpoints(), options).unwrap());
    let mut silent = pinging.watch();
    silent.open(1, Revision(1_000)).await;
    etcd.pause(0);
    let begun = Instant::now();
    let error = store.try_txn(always(vec![store.put_op("b", "x")])).await.unwrap_err();
    assert!(matches!(error, PortError::Unknown(_)), "it may happen yet: {error:?}");
    assert!(begun.elapsed() < TIMEOUT * 3 / 2);
    let begun = Instant::now();
    assert!(store.keep_alive(lease).await.unwrap_err().retryable());
    assert!(begun.elapsed() < TIMEOUT, "keep-alives have a limit of their own");
    let mut reader = store.watch();
    reader.ask(1, Revision(1));
    until_ended(&mut reader, 1).await;
    until_ended(&mut silent, 1).await;
    etcd.resume(0);
    etcd.healthy().await.unwrap();
    until_put(&store, "c").await;
    store.keep_alive(lease).await.unwrap();
}

#[tokio::test]
async fn three_members_outlive_one_and_stand_still_without_two() {
    let mut etcd = EtcdCluster::start(3).await;
    let store = store(&etcd.endpoints());
    let before = store.put("a", "1").await;
    let mut reader = store.watch();
    reader.open(1, before.next()).await;

    // The first endpoint is the one in use.
    etcd.stop(0);
    until_ended(&mut reader, 1).await;
    let after = until_put(&store, "b").await;
    let watcher = until_open(&mut reader, 2..20, before.next()).await;
    assert_eq!(reader.story(watcher, after).await, ["+b=x"]);

    etcd.stop(1);
    let begun = Instant::now();
    while begun.elapsed() < TIMEOUT {
        let error = store.try_txn(always(vec![store.put_op("c", "x")])).await.unwrap_err();
        assert!(error.retryable(), "{error:?}");
        let error = store.try_list(store.page(1, None)).await.unwrap_err();
        assert!(error.retryable(), "a list is linearizable: {error:?}");
    }
    // The last member runs, but asks for a leader in vain.
    until_ended(&mut reader, watcher).await;

    etcd.restart(0);
    until_put(&store, "d").await;
}

#[tokio::test]
async fn a_watcher_that_kept_silent_is_opened_at_another_member() {
    let etcd = EtcdCluster::start(3).await;
    let store = store(&etcd.endpoints());
    let before = store.put("a", "1").await;
    let mut reader = store.watch();
    reader.open(1, before.next()).await;
    // Its connections stay open; pings would tell after a quarter of a minute.
    etcd.pause(0);
    let after = until_put(&store, "b").await;
    reader.ask_elsewhere(2, before.next());
    until_ended(&mut reader, 1).await;
    assert_eq!(reader.message().await, WatchMessage::Opened { watcher: WatcherId(2) });
    // A put whose answer was lost with the old member may have come through as well.
    let told = reader.story(2, after).await;
    assert!(!told.is_empty() && told.iter().all(|event| event == "+b=x"), "{told:?}");
    // Others who stalled with the old member come now: the stream does not move on for each.
    reader.ask_elsewhere(3, before.next());
    assert_eq!(reader.message().await, WatchMessage::Opened { watcher: WatcherId(3) });
    assert_eq!(reader.story(3, after).await, told);
    etcd.resume(0);
}

const CREATES: usize = 200_000;

#[tokio::test]
async fn a_watcher_catches_up_behind_200_000_creates() {
    let etcd = EtcdCluster::start(1).await;
    let store = store(&etcd.endpoints());
    let from = store.revision().await.next();
    let took = create(&store, CREATES, 8).await;
    println!("{CREATES} creates: {took:?}");

    let begun = Instant::now();
    let last = store.revision().await;
    assert_eq!(last.0 - from.0 + 1, i64::try_from(CREATES.div_ceil(120)).unwrap());
    let mut reader = store.watch_with(4);
    reader.open(1, from).await;
    // A reader that does not read holds up nobody else.
    let other = Store::new(store.port.clone());
    for _ in 0..20 {
        other.put("meanwhile", "x").await;
    }
    let (mut seen, mut next) = (0, from);
    while next <= last {
        let (through, events) = reader.events(1).await;
        for revision in events.chunk_by(|one, other| one.revision() == other.revision()) {
            assert_eq!(revision[0].revision(), next, "no gap");
            assert!(revision.len() == 120 || next == last || revision.len() == CREATES % 120);
            next = next.next();
            seen += revision.len();
        }
        assert_eq!(through.next(), next);
    }
    assert_eq!(seen, CREATES);
    println!("{CREATES} events: {:?}", begun.elapsed());
}
