//! The embedded store: the suite in memory and on disk, and what only it can show.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tocktower_cluster::embedded::{Embedded, OpenError};
use tocktower_cluster::port::{
    Answer, KeyRange, ListRequest, Op, OpAnswer, Port, PortError, Request, WatchMessage, WatcherId,
};
use tocktower_core::ids::Revision;

use crate::cases;
use crate::vocabulary::{Store, always};

#[tokio::test]
async fn the_suite_holds_in_memory() {
    cases::run(Embedded::in_memory().unwrap()).await;
}

#[tokio::test]
async fn the_suite_holds_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    cases::run(Embedded::open(folder.path()).unwrap()).await;
}

/// A store whose cases share a prefix, so that they find their keys again.
fn opened(folder: &Path) -> (Arc<Embedded>, Store) {
    let embedded = Embedded::open(folder).unwrap();
    (embedded.clone(), Store::new(embedded))
}

#[tokio::test]
async fn an_open_folder_is_not_opened_twice() {
    let folder = tempfile::tempdir().unwrap();
    let first = Embedded::open(folder.path()).unwrap();
    let second = Embedded::open(folder.path()).map(|_| ()).unwrap_err();
    assert!(matches!(second, OpenError::InUse(_)), "{second:?}");
    assert!(second.to_string().contains("is in use"), "{second}");
    drop(first);
    Embedded::open(folder.path()).unwrap();
}

#[tokio::test]
async fn a_store_opened_again_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (embedded, store) = opened(folder.path());
    let created = store.put("a", "1").await;
    let (lease, ttl) = store.grant(Duration::from_secs(1)).await;
    store.run(vec![store.leased_op("leased", lease)]).await;
    let last = store.put("a", "2").await;
    let before = store.get("a").await;
    let key = store.key("a");
    drop((store, embedded));

    let embedded = Embedded::open(folder.path()).unwrap();
    let port: Arc<Embedded> = embedded.clone();
    let list = |at| {
        let range = KeyRange::one(&key);
        Request::List(ListRequest { range, limit: 1, at, keys_only: false })
    };
    let Answer::List { revision, items, .. } = port.call(list(None)).await.unwrap() else {
        panic!("a list");
    };
    assert_eq!((revision, items.first()), (last, before.as_ref()));
    assert!(port.call(list(Some(last))).await.is_ok());
    let error = port.call(list(Some(created))).await.unwrap_err();
    assert_eq!(error, PortError::Compacted { asked: created, oldest: last });

    let store = Store::new(embedded);
    let mut reader = store.watch();
    reader.open(1, last).await;
    let compacted = WatchMessage::Compacted { watcher: WatcherId(1), oldest: last.next() };
    assert_eq!(reader.message().await, compacted);
    reader.open(2, last.next()).await;
    // The lease has its whole time again, and then takes its key along.
    assert_eq!(store.keep_alive(lease).await, Ok(ttl));
    assert_eq!(store.put("b", "1").await, last.next());
    assert_eq!(reader.story(2, last.next()).await, ["+b=1"]);
    let (other, _) = store.grant(Duration::from_secs(60)).await;
    assert!(other > lease, "a lease's number is not used again");
    let gone = async {
        while store.keep_alive(lease).await.is_ok() {
            tokio::time::sleep(ttl * 2).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
}

#[tokio::test]
async fn closing_the_store_ends_its_watchers_and_refuses_requests() {
    let embedded = Embedded::in_memory().unwrap();
    let store = Store::new(embedded.clone());
    let mut reader = store.watch();
    reader.open(1, Revision(2)).await;
    let late = store.port.call(Request::Status);
    drop((store, embedded));
    // The reader holds the store as well.
    let stream = reader.into_stream();
    assert!(matches!(late.await, Err(PortError::Unreachable(_))));
    let mut messages = stream.messages;
    assert!(matches!(messages.recv().await, Some(WatchMessage::Ended { .. })));
}

#[tokio::test]
async fn a_reader_behind_the_history_is_told_so() {
    let store = Store::new(Embedded::in_memory().unwrap());
    let mut reader = store.watch_with(1);
    reader.open(1, store.revision().await.next()).await;
    let batch = |number: usize| {
        let put = |key| store.put_op(&format!("{number:03}-{key:03}"), "");
        let nested = |from: usize| Op::Txn(always((from..from + 120).map(put).collect()));
        (0..8).map(|part| nested(part * 120)).collect()
    };
    for number in 0..150 {
        store.run(batch(number)).await;
    }
    let mut next = Revision(2);
    loop {
        match reader.message().await {
            WatchMessage::Events { events, through, .. } => {
                assert_eq!(events[0].revision(), next, "no gap before it is told");
                next = through.next();
            }
            WatchMessage::Compacted { oldest, .. } => {
                assert!(oldest > next);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

const VICTIM: &str = "TOCKTOWER_TEST_VICTIM";

/// Not a test of its own: the process that the next one kills.
#[tokio::test]
async fn victim() {
    let Ok(folder) = std::env::var(VICTIM) else {
        return;
    };
    let store = Store::new(Embedded::open(Path::new(&folder)).unwrap());
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let name = format!("{writer}-{number}");
                let revision = store.put(&name, "x").await;
                let key = String::from_utf8(store.key(&name)).unwrap();
                writeln!(std::io::stdout().lock(), "acknowledged {key} {}", revision.0).unwrap();
            }
        })
    });
    futures::future::join_all(writers).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::victim", "--nocapture"])
        .env(VICTIM, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    for line in lines.by_ref() {
        acknowledged.extend(parse(&line.unwrap()));
        if acknowledged.len() == 500 {
            victim.kill().unwrap();
            break;
        }
    }
    acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
    victim.wait().unwrap();
    assert!(acknowledged.len() >= 500);

    let store = Store::new(Embedded::open(folder.path()).unwrap());
    for (key, revision) in &acknowledged {
        let get = Op::Get { key: key.as_bytes().to_vec() };
        let (_, answers) = store.run(vec![get]).await;
        let OpAnswer::Got(Some(item)) = &answers[0] else {
            panic!("{key} was acknowledged and is gone");
        };
        assert_eq!(item.mod_revision, *revision);
    }
    let newest = acknowledged.iter().map(|(_, revision)| *revision).max().unwrap();
    assert!(store.put("after", "").await > newest);
}

fn parse(line: &str) -> Option<(String, Revision)> {
    let (_, rest) = line.split_once("acknowledged ")?;
    let (key, revision) = rest.split_once(' ')?;
    Some((key.to_string(), Revision(revision.parse().ok()?)))
}
