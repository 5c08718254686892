//! Watches: everything, in order, whole revisions, at the reader's pace.

use std::time::Duration;

use tocktower_cluster::port::{Event, KeyRange, Op, WatchCommand, WatchMessage, WatcherId};
use tocktower_core::ids::Revision;

use crate::vocabulary::{Store, always};

pub async fn start_in_the_past(store: Store) {
    let first = store.put("a", "1").await;
    let second = store.put("b", "1").await;
    let mut reader = store.watch();
    reader.open(1, first).await;
    assert_eq!(reader.story(1, second).await, ["+a=1", "+b=1"]);
    let third = store.put("a", "2").await;
    assert_eq!(reader.story(1, third).await, ["+a=2"]);

    reader.open(2, second).await;
    let (_, events) = reader.events(2).await;
    let Event::Put(item) = &events[0] else { panic!("{events:?}") };
    assert_eq!((item.key.clone(), item.create_revision), (store.key("b"), second));
}

pub async fn start_in_the_future(store: Store) {
    let now = store.put("a", "1").await;
    let mut reader = store.watch();
    reader.open(1, Revision(now.0 + 2)).await;
    store.put("b", "1").await;
    let wanted = store.put("c", "1").await;
    assert_eq!(reader.story(1, wanted).await, ["+c=1"]);
}

pub async fn bring_revisions_whole(store: Store) {
    let before = store.revision().await;
    let mut reader = store.watch();
    reader.open(1, before.next()).await;
    let batch = |number: usize| -> Vec<Op> {
        let put = |key| store.put_op(&format!("{number}-{key:03}"), "x");
        (0..8)
            .map(|nested| always((0..120).map(|one| put(nested * 120 + one)).collect()))
            .map(Op::Txn)
            .collect()
    };
    for number in 0..5 {
        let (revision, _) = store.run(batch(number)).await;
        let (through, events) = reader.events(1).await;
        assert_eq!((through, events.len()), (revision, 960));
        assert!(events.iter().all(|event| event.revision() == revision));
        let first = reader.tell(&events[0]);
        assert_eq!(first, format!("+{number}-000=x"), "events in the order of the operations");
    }
}

pub async fn show_deletes(store: Store) {
    let first = store.put("a", "1").await;
    store.delete("a").await;
    store.delete("a").await;
    let ops = vec![store.put_op("b", "1"), store.delete_op("c")];
    store.run(ops).await;
    let last = store.delete("b").await;
    let mut reader = store.watch();
    reader.open(1, first).await;
    assert_eq!(reader.story(1, last).await, ["+a=1", "-a", "+b=1", "-b"]);
}

pub async fn share_a_stream(store: Store) {
    let from = store.revision().await.next();
    let mut reader = store.watch();
    reader.open(1, from).await;
    for (watcher, name) in [(2, "a"), (3, "b")] {
        let range = KeyRange::prefix(&store.key(name));
        let watcher = WatcherId(watcher);
        reader.send(WatchCommand::Open { watcher, range, from, elsewhere: false });
        assert_eq!(reader.message().await, WatchMessage::Opened { watcher });
    }
    let ops = vec![store.put_op("a1", ""), store.put_op("b1", ""), store.put_op("c1", "")];
    store.run(ops).await;
    let mut stories = Vec::new();
    for _ in 0..3 {
        let WatchMessage::Events { watcher, events, .. } = reader.message().await else {
            panic!("events");
        };
        let story: Vec<String> = events.iter().map(|event| reader.tell(event)).collect();
        stories.push((watcher.0, story.join(" ")));
    }
    stories.sort();
    let expected = [(1, "+a1= +b1= +c1="), (2, "+a1="), (3, "+b1=")];
    assert_eq!(stories, expected.map(|(watcher, story)| (watcher, story.to_string())));
}

pub async fn can_be_closed(store: Store) {
    let from = store.revision().await.next();
    let mut reader = store.watch();
    reader.open(1, from).await;
    reader.open(2, from).await;
    reader.send(WatchCommand::Close { watcher: WatcherId(1) });
    reader.send(WatchCommand::Close { watcher: WatcherId(9) });
    // A stream obeys in order: once this one is open, the other is closed.
    reader.open(3, from).await;
    store.put("a", "1").await;
    let mut watchers = Vec::new();
    for _ in 0..2 {
        let WatchMessage::Events { watcher, .. } = reader.message().await else {
            panic!("events");
        };
        watchers.push(watcher.0);
    }
    watchers.sort_unstable();
    assert_eq!(watchers, [2, 3]);
    drop(reader.stream.commands);
    assert_eq!(reader.stream.messages.recv().await, None, "the stream ends with its commands");
}

pub async fn are_served_where_there_is_no_elsewhere(store: Store) {
    let from = store.revision().await.next();
    let mut reader = store.watch();
    reader.open(1, from).await;
    reader.ask_elsewhere(2, from);
    assert_eq!(reader.message().await, WatchMessage::Opened { watcher: WatcherId(2) });
    store.put("a", "1").await;
    let mut watchers = Vec::new();
    for _ in 0..2 {
        let WatchMessage::Events { watcher, .. } = reader.message().await else {
            panic!("events");
        };
        watchers.push(watcher.0);
    }
    watchers.sort_unstable();
    assert_eq!(watchers, [1, 2], "the other one is not disturbed");
}

pub async fn wait_for_slow_readers(store: Store) {
    let from = store.revision().await.next();
    let mut slow = store.watch_with(1);
    slow.open(1, from).await;
    let mut last = from;
    for number in 0..300 {
        last = store.put("a", &number.to_string()).await;
    }
    // The writer was not held up; now the reader takes all of it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let story = slow.story(1, last).await;
    let expected: Vec<String> = (0..300).map(|number| format!("+a={number}")).collect();
    assert_eq!(story, expected);
}
