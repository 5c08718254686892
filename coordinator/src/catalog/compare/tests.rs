//! Stories of a copy, on the embedded store behind a port whose watch can lose events, or lag, as
//! it is told; and of writes that come between the reads of the comparer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use tocktower_cluster::cluster::Cluster;
use tocktower_cluster::embedded::Embedded;
use tocktower_cluster::keys::{Keys, PREFIX};
use tocktower_cluster::port::{Event, Op, PortError, Txn, WatchMessage, WatchStream};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{AgentName, CoordinatorId, PoolName, TaskName};
use tocktower_core::time::Wall;
use tokio::sync::watch;

use super::*;
use crate::catalog::{Keeper, KeeperConfig, Written, own};
use crate::feed::Feed;
use crate::links::{Interests, Links};
use crate::stop::{Stopper, stop};

const QUICK: Pace =
    Pace { page_keys: 10, page: Duration::ZERO, look: Duration::ZERO, rest: Duration::ZERO };

fn pool(name: &str) -> Placement {
    match name.strip_prefix('@') {
        Some(agent) => Placement::Agent(AgentName::parse(agent).unwrap()),
        None => Placement::Pool(PoolName::parse(name).unwrap()),
    }
}

fn name(text: &str) -> TaskName {
    TaskName::parse(text).unwrap()
}

fn key(name_of: &str) -> TaskKey {
    in_pool("default", name_of)
}

fn in_pool(pool_of: &str, name_of: &str) -> TaskKey {
    TaskKey { placement: pool(pool_of), name: name(name_of) }
}

fn keys(ranges: u32) -> Keys {
    Keys::new(PREFIX, RangeCount::new(ranges).unwrap())
}

fn built(keys: &Keys, key: &TaskKey) -> Vec<u8> {
    keys.build(&Key::Task(key.placement.clone(), key.name.clone()))
}

/// What others write round a read of one key: before it, and after it, so that the copy has that
/// too before the answer comes.
#[derive(Default)]
struct Meanwhile {
    before: Vec<Op>,
    after: Vec<Op>,
}

struct Faulty {
    store: Arc<Embedded>,
    catalog: Catalog,
    /// Keys whose next event the watch skips.
    lost: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    /// The watch delivers nothing.
    held: watch::Sender<bool>,
    /// Pages that were answered.
    pages: watch::Sender<usize>,
    /// Whether a page was asked for while the copy was stale.
    asked_stale: AtomicBool,
    /// Reads of one key that were answered.
    reads: watch::Sender<usize>,
    /// Lists that are refused.
    refused: Mutex<usize>,
    script: Mutex<VecDeque<Meanwhile>>,
}

impl Faulty {
    async fn write(store: &Embedded, then: Vec<Op>) -> Revision {
        let txn = Txn { then, ..Txn::default() };
        match store.call(Request::Txn(txn)).await.unwrap() {
            Answer::Txn { revision, .. } => revision,
            other => panic!("{other:?}"),
        }
    }
}

impl Port for Faulty {
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Answer, PortError>> {
        let Request::List(list) = &request else { return self.store.call(request) };
        let mut refused = self.refused.lock().unwrap();
        if *refused > 0 {
            *refused -= 1;
            return async { Err(PortError::NoLeader) }.boxed();
        }
        let (told, round_it) = match list.limit {
            1 => (&self.reads, self.script.lock().unwrap().pop_front().unwrap_or_default()),
            _ => {
                self.asked_stale.fetch_or(!self.catalog.fresh(), Ordering::SeqCst);
                (&self.pages, Meanwhile::default())
            }
        };
        let (told, store, catalog) = (told.clone(), self.store.clone(), self.catalog.clone());
        async move {
            if !round_it.before.is_empty() {
                Faulty::write(&store, round_it.before).await;
            }
            let answer = store.call(request).await;
            if !round_it.after.is_empty() {
                delivered(&catalog, Faulty::write(&store, round_it.after).await).await;
            }
            told.send_modify(|answered| *answered += 1);
            answer
        }
        .boxed()
    }

    fn watch(&self, capacity: usize) -> WatchStream {
        let WatchStream { commands, mut messages } = self.store.watch(capacity);
        let (out, faulty) = mpsc::channel(capacity);
        let (lost, mut held) = (self.lost.clone(), self.held.subscribe());
        tokio::spawn(async move {
            while let Some(mut message) = messages.recv().await {
                if held.wait_for(|held| !held).await.is_err() {
                    return;
                }
                if let WatchMessage::Events { events, .. } = &mut message {
                    let mut lost = lost.lock().unwrap();
                    events.retain(|event: &Event| !lost.remove(event.key()));
                }
                if out.send(message).await.is_err() {
                    return;
                }
            }
        });
        WatchStream { commands, messages: faulty }
    }
}

/// Waits for what a test needs; so long only if it is broken.
async fn until<T>(mut told: watch::Receiver<T>, holds: impl FnMut(&T) -> bool) {
    let held = timeout(Duration::from_secs(20), told.wait_for(holds)).await;
    assert!(held.is_ok_and(|held| held.is_ok()), "it never came");
}

async fn delivered(catalog: &Catalog, at: Revision) {
    until(catalog.follow_standing(), |standing| standing.delivered >= at).await;
}

struct Story {
    port: Arc<Faulty>,
    catalog: Catalog,
    notes: mpsc::Sender<Note>,
    metrics: Arc<Metrics>,
    stop: Stop,
    _stopper: Stopper,
}

impl Story {
    /// A cluster with these tasks, and a coordinator that has listed them.
    async fn of(ranges: u32, tasks: impl IntoIterator<Item = TaskKey>) -> Story {
        let (store, catalog) = (Embedded::in_memory().unwrap(), Catalog::new(keys(ranges)));
        let port = Arc::new(Faulty {
            store,
            catalog: catalog.clone(),
            lost: Arc::default(),
            held: watch::Sender::new(false),
            pages: watch::Sender::new(0),
            asked_stale: AtomicBool::default(),
            reads: watch::Sender::new(0),
            refused: Mutex::default(),
            script: Mutex::default(),
        });
        let ops: Vec<Op> = tasks.into_iter().map(|task| put(&catalog, &task)).collect();
        for ops in ops.chunks(100) {
            Faulty::write(&port.store, ops.to_vec()).await;
        }
        let (stopper, stop) = stop();
        let (notes, notes_in) = mpsc::channel(16);
        let id = CoordinatorId::parse("c1").unwrap();
        let feed = Feed::new();
        tokio::spawn(own(catalog.clone(), id.clone(), port.clone(), feed, notes_in, stop.clone()));
        // There is no record, and so it stays.
        let cluster = Cluster {
            id: String::new(),
            epoch: catalog.epoch(),
            epoch_began: Wall::MIN,
            ranges: RangeCount::DEFAULT,
            revision: Revision(0),
        };
        let config = KeeperConfig { id, address: String::new(), cluster, compact: false };
        let keeper = Keeper::new(config, catalog.clone(), port.clone(), notes.clone());
        tokio::spawn(keeper.keep(stop.clone()));
        until(catalog.follow_standing(), |standing| standing.listed).await;
        let metrics = Arc::new(Metrics::new());
        Story { port, catalog, notes, metrics, stop, _stopper: stopper }
    }

    fn comparer(&self) -> Comparer {
        let (catalog, port) = (self.catalog.clone(), self.port.clone());
        Comparer::new(catalog, port, self.notes.clone(), self.metrics.clone(), QUICK)
    }

    async fn round(&self) -> Result<(), Wrong> {
        let mut comparer = self.comparer();
        timeout(Duration::from_secs(20), comparer.round()).await.expect("a round ends")
    }

    async fn writes(&self, ops: Vec<Op>) -> Revision {
        Faulty::write(&self.port.store, ops).await
    }

    /// A write that the copy has taken in; its watch skipped the events of these keys.
    async fn loses(&self, lost: &[&TaskKey], ops: Vec<Op>) -> Revision {
        let lost = lost.iter().map(|key| built(self.catalog.keys(), key));
        self.port.lost.lock().unwrap().extend(lost);
        let at = self.writes(ops).await;
        delivered(&self.catalog, at).await;
        assert!(self.port.lost.lock().unwrap().is_empty());
        at
    }

    fn put(&self, task: &TaskKey) -> Op {
        put(&self.catalog, task)
    }

    fn delete(&self, task: &TaskKey) -> Op {
        Op::Delete { key: built(self.catalog.keys(), task) }
    }

    fn copied(&self, task: &TaskKey) -> Option<Revision> {
        self.catalog.look(|state| copied(&state.tasks, task))
    }

    async fn stored(&self) -> BTreeMap<TaskKey, Revision> {
        let range = self.catalog.keys().pools();
        let list = ListRequest { range, limit: 10_000, at: None, keys_only: true };
        match self.port.store.call(Request::List(list)).await.unwrap() {
            Answer::List { revision, items, .. } => {
                delivered(&self.catalog, revision).await;
                let page = Page::read(self.catalog.keys(), revision, &items, false);
                page.tasks.into_iter().map(|held| (held.key, held.revision)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// The copy is what is stored, when nobody writes.
    async fn is_right(&self) -> bool {
        let stored = self.stored().await;
        let copy: BTreeMap<TaskKey, Revision> = self.catalog.look(|state| {
            let all = state.tasks.from(std::ops::Bound::Unbounded);
            let owned = |stored: crate::catalog::Stored<'_>| {
                let key = TaskKey { placement: stored.placement.clone(), name: stored.name() };
                (key, stored.mod_revision)
            };
            all.map(owned).collect()
        });
        stored == copy
    }

    /// The metrics that begin so.
    fn counted(&self, metric: &str) -> u64 {
        let feed = Feed::new();
        let links = Links::new(Interests::new(), feed.clone());
        let text = self.metrics.text(&self.catalog, &links, &feed);
        let line = |line: &str| line.strip_prefix(metric).map(|count| count.trim().to_owned());
        text.lines().find_map(line).unwrap().parse().unwrap()
    }
}

fn put(catalog: &Catalog, task: &TaskKey) -> Op {
    Op::Put { key: built(catalog.keys(), task), value: Vec::new(), lease: None }
}

/// Sixty tasks in two pools: pages of ten cut the ranges anyhow.
fn sixty() -> Vec<TaskKey> {
    let pool = |number| if number % 3 == 0 { "blue" } else { "default" };
    (0..60).map(|number| in_pool(pool(number), &format!("a/t{number:02}"))).collect()
}

#[tokio::test]
async fn nothing_is_found_in_a_copy_that_is_whole() {
    for ranges in [1, 4, 256] {
        let story = Story::of(ranges, sixty()).await;
        let (mut comparer, listed) = (story.comparer(), *story.port.pages.borrow());
        assert_eq!(comparer.round().await, Ok(()));
        assert!(*story.port.pages.borrow() - listed >= 6, "all sixty went by");
        assert_eq!(*story.port.reads.borrow(), 0, "nothing was suspected");
        assert!(comparer.searches.is_empty());
    }
}

#[tokio::test]
async fn an_edit_that_the_watch_skipped_is_found() {
    for ranges in [1, 4, 256] {
        for task in [key("a/t01"), key("a/t32"), key("a/t59"), in_pool("blue", "a/t33")] {
            let story = Story::of(ranges, sixty()).await;
            let before = story.copied(&task);
            let now = story.loses(&[&task], vec![story.put(&task)]).await;
            let wrong = Wrong { key: task, stored: Some(now), copied: before };
            assert_eq!(story.round().await, Err(wrong));
        }
    }
}

#[tokio::test]
async fn changes_of_pinned_tasks_that_the_watch_skipped_are_found() {
    let (old, new) = (in_pool("@web-1", "a/pin"), in_pool("@web-2", "b/pin"));
    let held = || -> Vec<TaskKey> {
        sixty().into_iter().chain([old.clone(), in_pool("@web-1", "a/other")]).collect()
    };
    let story = Story::of(4, held()).await;
    assert_eq!(story.round().await, Ok(()));
    let now = story.loses(&[&new], vec![story.put(&new)]).await;
    let wrong = Wrong { key: new.clone(), stored: Some(now), copied: None };
    assert_eq!(story.round().await, Err(wrong));
    let story = Story::of(4, held()).await;
    let before = story.copied(&old);
    let now = story.loses(&[&old], vec![story.put(&old)]).await;
    let wrong = Wrong { key: old.clone(), stored: Some(now), copied: before };
    assert_eq!(story.round().await, Err(wrong));
    let story = Story::of(4, held()).await;
    let before = story.copied(&old);
    story.loses(&[&old], vec![story.delete(&old)]).await;
    assert_eq!(story.round().await, Err(Wrong { key: old, stored: None, copied: before }));
}

#[tokio::test]
async fn a_new_task_that_the_watch_skipped_is_found() {
    for task in [key("a/new"), in_pool("red", "b/new"), in_pool("a-pool", "c/new")] {
        let story = Story::of(4, sixty()).await;
        let now = story.loses(&[&task], vec![story.put(&task)]).await;
        let wrong = Wrong { key: task, stored: Some(now), copied: None };
        assert_eq!(story.round().await, Err(wrong));
    }
}

#[tokio::test]
async fn a_delete_that_the_watch_skipped_is_found() {
    for ranges in [1, 4, 256] {
        for task in [key("a/t01"), key("a/t32"), key("a/t59"), in_pool("blue", "a/t33")] {
            let story = Story::of(ranges, sixty()).await;
            let before = story.copied(&task);
            story.loses(&[&task], vec![story.delete(&task)]).await;
            let wrong = Wrong { key: task, stored: None, copied: before };
            assert_eq!(story.round().await, Err(wrong));
        }
    }
}

#[tokio::test]
async fn ghosts_are_found_where_nothing_else_is_left() {
    let ghost = in_pool("red", "a/alone");
    let story = Story::of(4, [ghost.clone()]).await;
    let before = story.copied(&ghost);
    story.loses(&[&ghost], vec![story.delete(&ghost)]).await;
    let wrong = Wrong { key: ghost, stored: None, copied: before };
    assert_eq!(story.round().await, Err(wrong));
}

#[tokio::test]
async fn a_move_that_the_watch_skipped_is_found() {
    let (from, to) = (key("a/t32"), in_pool("blue", "a/t32"));
    let story = Story::of(4, sixty()).await;
    let moved = vec![story.put(&to), story.delete(&from)];
    let now = story.loses(&[&from, &to], moved).await;
    let wrong = Wrong { key: to, stored: Some(now), copied: None };
    assert_eq!(story.round().await, Err(wrong));
}

/// The watch is held until this many were answered, and whoever asked has seen it.
async fn releases(story: &Story, told: &watch::Sender<usize>, answered: usize) {
    until(told.subscribe(), |count| *count >= answered).await;
    others_run().await;
    story.port.held.send_replace(false);
}

/// On one thread: what can go on without waiting for another thread does.
async fn others_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_copy_that_is_behind_is_waited_for() {
    let story = Story::of(1, sixty()).await;
    story.port.held.send_replace(true);
    // All on the first page.
    let [new, edited, gone] = ["a/new", "a/t00", "a/t03"].map(|name| in_pool("blue", name));
    let others = vec![story.put(&edited), story.put(&new), story.delete(&gone)];
    let at = story.writes(others).await;
    let next = *story.port.pages.borrow() + 1;
    let (found, ()) = tokio::join!(story.round(), releases(&story, &story.port.pages, next));
    assert_eq!(found, Ok(()));
    assert!(story.catalog.standing().delivered >= at);
    assert_eq!(*story.port.reads.borrow(), 0, "nothing was suspected");
}

#[tokio::test]
async fn a_suspicion_waits_for_a_copy_that_is_behind() {
    let tasks = [key("a/t01"), key("a/new"), key("a/t02")];
    for (index, task) in tasks.iter().enumerate() {
        let story = Story::of(4, sixty()).await;
        story.port.held.send_replace(true);
        let [edited, new, gone] = &tasks;
        story.writes(vec![story.put(edited), story.put(new), story.delete(gone)]).await;
        let comparer = story.comparer();
        let convict = comparer.convict(task.clone());
        let (found, ()) = tokio::join!(convict, releases(&story, &story.port.reads, 1));
        assert_eq!(found, None, "{index}");
        assert_eq!(*story.port.reads.borrow(), 1, "the copy agrees");
    }
}

#[tokio::test]
async fn a_copy_that_is_stale_is_not_compared() {
    let story = Story::of(4, sixty()).await;
    story.port.held.send_replace(true);
    others_run().await;
    story.catalog.stand(|standing| standing.proved = None);
    story.port.asked_stale.store(false, Ordering::SeqCst);
    let comes_to_life = async {
        // Timers fire in order: whatever pause the round makes is over.
        for _ in 0..3 {
            sleep(Duration::from_millis(1)).await;
        }
        story.port.held.send_replace(false);
    };
    let (found, ()) = tokio::join!(story.round(), comes_to_life);
    assert_eq!(found, Ok(()));
    assert!(!story.port.asked_stale.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_version_that_was_put_in_early_is_not_suspected() {
    let (edited, gone) = (key("a/t01"), key("a/t02"));
    let story = Story::of(4, sixty()).await;
    let (old, _) = story.comparer().stored(&edited).await.unwrap();
    let page = story.comparer().list(Pages::of(story.catalog.keys().pools()).request(99)).await;
    let page = page.unwrap();
    story.port.held.send_replace(true);
    let at = story.writes(vec![story.put(&edited), story.delete(&gone)]).await;
    let written = Written { value: b"", create_revision: old.unwrap(), mod_revision: at };
    story.catalog.wrote(&edited.placement, &edited.name, written);
    story.catalog.deleted(&gone.placement, &gone.name, at);
    assert_eq!(story.copied(&edited), Some(at));
    let suspects = story.catalog.look(|state| suspects(&state.tasks, &page));
    assert_eq!(
        suspects,
        std::slice::from_ref(&gone),
        "one that is gone may have been deleted since"
    );
    // The second read of both finds them as the copy has them.
    story.port.held.send_replace(false);
    assert_eq!(story.comparer().confirm(vec![edited, gone]).await, Ok(()));
}

/// A suspicion of this key, with these writes round the two reads: whether it stands.
async fn convicted(story: &Story, task: &TaskKey, script: [Meanwhile; 2]) -> bool {
    *story.port.script.lock().unwrap() = VecDeque::from(script);
    story.comparer().convict(task.clone()).await.is_some()
}

#[tokio::test]
async fn a_key_that_changes_between_the_reads_proves_nothing() {
    let task = key("a/t01");
    let story = Story::of(4, sixty()).await;
    story.loses(&[&task], vec![story.put(&task)]).await;
    let edited = Meanwhile { before: vec![story.put(&task)], after: Vec::new() };
    assert!(!convicted(&story, &task, [Meanwhile::default(), edited]).await);

    let task = key("a/t02");
    story.loses(&[&task], vec![story.put(&task)]).await;
    let deleted = Meanwhile { before: vec![story.delete(&task)], after: Vec::new() };
    assert!(!convicted(&story, &task, [Meanwhile::default(), deleted]).await);

    let task = key("a/t04");
    story.loses(&[&task], vec![story.put(&task)]).await;
    assert!(convicted(&story, &task, Default::default()).await);
}

#[tokio::test]
async fn a_task_that_came_and_went_between_the_reads_proves_nothing() {
    let task = key("a/brief");
    let story = Story::of(4, sixty()).await;
    let came = Meanwhile { before: Vec::new(), after: vec![story.put(&task)] };
    let went = Meanwhile { before: vec![story.delete(&task)], after: Vec::new() };
    assert!(!convicted(&story, &task, [came, went]).await);
    assert_eq!(*story.port.reads.borrow(), 1, "a later version needs no second read");
}

#[tokio::test]
async fn a_task_that_was_deleted_since_proves_nothing() {
    let task = key("a/t01");
    let story = Story::of(4, sixty()).await;
    let deleted = Meanwhile { before: Vec::new(), after: vec![story.delete(&task)] };
    assert!(!convicted(&story, &task, [deleted, Meanwhile::default()]).await);
    assert_eq!(*story.port.reads.borrow(), 2, "it was suspected");
}

#[tokio::test]
async fn without_an_answer_a_page_is_asked_for_again_and_a_suspicion_is_dropped() {
    let task = key("a/t01");
    let story = Story::of(4, sixty()).await;
    *story.port.refused.lock().unwrap() = 3;
    assert_eq!(story.round().await, Ok(()));
    assert_eq!(*story.port.refused.lock().unwrap(), 0);
    story.loses(&[&task], vec![story.put(&task)]).await;
    *story.port.refused.lock().unwrap() = 1;
    assert_eq!(story.comparer().confirm(vec![task.clone()]).await, Ok(()));
    assert!(story.comparer().confirm(vec![task]).await.is_err());
}

/// Edits, deletes, creates and moves tasks as services do, who put them into the copy early.
async fn changes(port: Arc<Faulty>, catalog: Catalog, enough: Arc<AtomicBool>) {
    let pools = ["default", "blue"];
    let delete = |task: &TaskKey| Op::Delete { key: built(catalog.keys(), task) };
    let mut created: BTreeMap<TaskName, (Placement, Revision)> = BTreeMap::new();
    for number in 0_u32.. {
        if enough.load(Ordering::SeqCst) {
            return;
        }
        let name = name(&format!("a/t{:02}", number * 7 % 60));
        let to = pool(pools[usize::try_from(number / 60 % 2).unwrap()]);
        let to = TaskKey { placement: to, name: name.clone() };
        let from = created
            .remove(&name)
            .map(|(from, at)| (TaskKey { placement: from, name: name.clone() }, at));
        match from {
            Some((from, _)) if number % 5 == 0 => {
                let at = Faulty::write(&port.store, vec![delete(&from)]).await;
                catalog.deleted(&from.placement, &from.name, at);
            }
            from => {
                let mut ops = vec![put(&catalog, &to)];
                let moved = from.as_ref().filter(|(from, _)| *from != to);
                ops.extend(moved.map(|(from, _)| delete(from)));
                let at = Faulty::write(&port.store, ops).await;
                let kept = from.filter(|(from, _)| *from == to).map(|(_, created)| created);
                let create_revision = kept.unwrap_or(at);
                let written = Written { value: b"", create_revision, mod_revision: at };
                catalog.wrote(&to.placement, &name, written);
                created.insert(name, (to.placement, create_revision));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn constant_changes_are_no_finding() {
    let story = Story::of(4, []).await;
    let enough = Arc::new(AtomicBool::default());
    let writer = changes(story.port.clone(), story.catalog.clone(), enough.clone());
    let writer = tokio::spawn(writer);
    let (mut comparer, mut rounds) = (story.comparer(), 0);
    while rounds < 200 || *story.port.reads.borrow() == 0 {
        let found = timeout(Duration::from_secs(20), comparer.round()).await;
        assert_eq!(found.expect("a round ends"), Ok(()));
        rounds += 1;
    }
    enough.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    assert!(story.is_right().await);
    assert_eq!(story.catalog.standing().lists, 1);
}

#[tokio::test]
async fn after_a_finding_the_copy_is_listed_again_and_right() {
    let (edited, gone, new) = (key("a/t01"), key("a/t02"), key("a/new"));
    let story = Story::of(4, sixty()).await;
    let lost = vec![story.put(&edited), story.delete(&gone), story.put(&new)];
    story.loses(&[&edited, &gone, &new], lost).await;
    assert!(!story.is_right().await);
    tokio::spawn(story.comparer().compare(story.stop.clone()));
    until(story.catalog.follow_standing(), |standing| standing.lists == 2).await;
    // Rounds go on, and so does the watch.
    let before = *story.port.pages.borrow();
    until(story.port.pages.subscribe(), |pages| *pages > before + 30).await;
    delivered(&story.catalog, story.writes(vec![story.put(&gone)]).await).await;
    assert!(story.is_right().await);
    assert_eq!(story.counted("tocktower_coordinator_catalog_wrong_total"), 1);
    assert!(story.counted("tocktower_coordinator_catalog_compared_total") > 0);
    assert_eq!(story.catalog.standing().lists, 2);
}

#[test]
fn rests_grow_with_each_finding_up_to_an_hour() {
    let pace = Pace::default();
    let rests = [0, 1, 2, 6, 7, 40].map(|found| pace.rest(found).as_secs());
    assert_eq!(rests, [30, 60, 120, 1_920, 3_600, 3_600]);
}
