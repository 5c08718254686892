//! Operations on tasks: the transactions to send, and what their answers mean.
//!
//! A name is unique in the cluster. Its range in the pool `default` is the directory: the task is
//! there itself, or an `elsewhere` key says where it is placed. Both keys are written and deleted
//! in the transaction of the task, so they are never at odds; every create compares both absent.
//!
//! Creates are committed in groups. Each is a nested transaction of its own, so that one name that
//! is taken fails alone, and all that succeed share one revision. etcd refuses a transaction that
//! puts a key twice, so of two creates of one name the second waits for the next group.

use std::collections::{BTreeSet, VecDeque};

use tocktower_core::ids::{Epoch, Incarnation, Revision, TaskName};
use tocktower_core::limits;
use tocktower_core::task::{NewVersion, Placement, Task};
use tocktower_proto::convert::{DecodeError, encode_record, encode_task, every_agent_text};
use tocktower_proto::store;

use crate::keys::{Key, Keys};
use crate::port::{Answer, Compare, KeyValue, Op, OpAnswer, Txn};
use crate::records::{read_elsewhere, read_task};

/// An answer that does not fit its request: a bug, here or in the port's adapter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("the shared state answered something else than was asked")]
    Mismatch,
    #[error("a record of the shared state cannot be read")]
    Unreadable(#[from] DecodeError),
}

/// A task to be created: what goes into the store, ready to be grouped.
#[derive(Clone, PartialEq, Debug)]
pub struct Create {
    pub name: TaskName,
    pub placement: Placement,
    pub value: Vec<u8>,
}

/// The encoded record is larger than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the task has {bytes} bytes when stored; at most {} are allowed", limits::RECORD_BYTES_MAX)]
pub struct TooLarge {
    pub bytes: usize,
}

/// What is in the place of a task that was to be created.
#[derive(Clone, PartialEq, Debug)]
pub enum Taken {
    Here(Box<Task>),
    /// Look it up there: it may be the same request.
    Elsewhere(Placement),
}

/// What came of one create.
#[derive(Clone, PartialEq, Debug)]
pub enum Created {
    Done { incarnation: Incarnation, revision: Revision },
    Exists(Taken),
}

/// What is known of a name.
#[derive(Clone, PartialEq, Debug)]
pub enum Lookup {
    Found(Box<Task>),
    /// Read it from there with [`get`].
    Elsewhere(Placement),
    Absent,
}

/// What came of a change that compared a revision.
#[derive(Clone, PartialEq, Debug)]
pub enum Changed {
    /// `incarnation` is a new one if the task was moved.
    Done { incarnation: Incarnation, revision: Revision },
    /// Somebody else changed it first; this is how it is now. `None`: it is gone.
    Conflict(Option<Box<Task>>),
}

impl Create {
    pub fn new(version: &NewVersion, epoch: Epoch) -> Result<Create, TooLarge> {
        Ok(Create {
            name: version.spec.name.clone(),
            placement: version.spec.placement.clone(),
            value: encoded(version, epoch)?,
        })
    }
}

fn encoded(version: &NewVersion, epoch: Epoch) -> Result<Vec<u8>, TooLarge> {
    let value = encode_task(version, epoch);
    match value.len() {
        0..=limits::RECORD_BYTES_MAX => Ok(value),
        bytes => Err(TooLarge { bytes }),
    }
}

/// Takes the next group off `waiting`: as many as one transaction may hold, each name once, sorted
/// by key, so that one transaction touches few ranges.
pub fn next_group(keys: &Keys, waiting: &mut VecDeque<Create>) -> Vec<Create> {
    let mut names: BTreeSet<TaskName> = BTreeSet::new();
    let mut group = Vec::new();
    let mut later = VecDeque::new();
    let mut bytes = 0;
    while let Some(create) = waiting.pop_front() {
        let size = create_bytes(keys, &create);
        let full = group.len() == limits::COMMIT_CREATES_MAX
            || (!group.is_empty() && bytes + size > limits::TXN_BYTES_MAX);
        if full {
            waiting.push_front(create);
            break;
        }
        if names.insert(create.name.clone()) {
            bytes += size;
            group.push(create);
        } else {
            later.push_back(create);
        }
    }
    while let Some(create) = later.pop_back() {
        waiting.push_front(create);
    }
    group.sort_by_cached_key(|create| {
        keys.build(&Key::Task(create.placement.clone(), create.name.clone()))
    });
    group
}

/// About what a create takes in a transaction: its value, and its keys each time they stand there.
fn create_bytes(keys: &Keys, create: &Create) -> usize {
    let key = keys.build(&Key::Task(create.placement.clone(), create.name.clone()));
    create.value.len() + 6 * (key.len() + 16)
}

/// One transaction for a group of creates.
pub fn create(keys: &Keys, group: &[Create]) -> Txn {
    let then = group.iter().map(|create| Op::Txn(create_one(keys, create))).collect();
    Txn { when: Vec::new(), then, otherwise: Vec::new() }
}

fn create_one(keys: &Keys, create: &Create) -> Txn {
    let directory = keys.build(&Key::Task(keys.directory().clone(), create.name.clone()));
    let elsewhere = keys.build(&Key::Elsewhere(create.name.clone()));
    let mut then = Vec::new();
    if create.placement != *keys.directory() {
        then.push(put(elsewhere.clone(), elsewhere_value(&create.placement)));
    }
    let key = keys.build(&Key::Task(create.placement.clone(), create.name.clone()));
    then.push(put(key, create.value.clone()));
    Txn {
        when: vec![Compare::absent(directory.clone()), Compare::absent(elsewhere.clone())],
        then,
        otherwise: vec![Op::Get { key: directory }, Op::Get { key: elsewhere }],
    }
}

/// What came of each create of a group, in its order.
pub fn read_create(
    keys: &Keys,
    group: &[Create],
    epoch: Epoch,
    answer: &Answer,
) -> Result<Vec<Created>, AnswerError> {
    let Answer::Txn { revision, answers, .. } = answer else { return Err(AnswerError::Mismatch) };
    if answers.len() != group.len() {
        return Err(AnswerError::Mismatch);
    }
    let read = |(create, answer): (&Create, &OpAnswer)| match answer {
        OpAnswer::Txn { succeeded: true, .. } => Ok(Created::Done {
            incarnation: Incarnation { epoch, revision: *revision },
            revision: *revision,
        }),
        OpAnswer::Txn { succeeded: false, answers } => {
            match read_directory(keys, &create.name, answers)? {
                Lookup::Found(task) => Ok(Created::Exists(Taken::Here(task))),
                Lookup::Elsewhere(placed) => Ok(Created::Exists(Taken::Elsewhere(placed))),
                Lookup::Absent => Err(AnswerError::Mismatch),
            }
        }
        OpAnswer::Got(_) | OpAnswer::Put | OpAnswer::Deleted { .. } => Err(AnswerError::Mismatch),
    };
    group.iter().zip(answers).map(read).collect()
}

/// Reads both directory keys of a name.
pub fn lookup(keys: &Keys, name: &TaskName) -> Txn {
    let then = vec![
        Op::Get { key: keys.build(&Key::Task(keys.directory().clone(), name.clone())) },
        Op::Get { key: keys.build(&Key::Elsewhere(name.clone())) },
    ];
    Txn { when: Vec::new(), then, otherwise: Vec::new() }
}

pub fn read_lookup(keys: &Keys, name: &TaskName, answer: &Answer) -> Result<Lookup, AnswerError> {
    match answer {
        Answer::Txn { answers, .. } => read_directory(keys, name, answers),
        _ => Err(AnswerError::Mismatch),
    }
}

fn read_directory(
    keys: &Keys,
    name: &TaskName,
    answers: &[OpAnswer],
) -> Result<Lookup, AnswerError> {
    match answers {
        [OpAnswer::Got(Some(item)), OpAnswer::Got(_)] => {
            let task = read_task(keys.directory().clone(), name.clone(), item)?;
            Ok(Lookup::Found(Box::new(task)))
        }
        [OpAnswer::Got(None), OpAnswer::Got(Some(item))] => {
            Ok(Lookup::Elsewhere(read_elsewhere(&item.value)?))
        }
        [OpAnswer::Got(None), OpAnswer::Got(None)] => Ok(Lookup::Absent),
        _ => Err(AnswerError::Mismatch),
    }
}

/// Reads a task from where it is placed.
pub fn get(keys: &Keys, placement: &Placement, name: &TaskName) -> Txn {
    let key = keys.build(&Key::Task(placement.clone(), name.clone()));
    Txn { when: Vec::new(), then: vec![Op::Get { key }], otherwise: Vec::new() }
}

/// The task that was read; `None`: it is not there (any more).
pub fn read_get(
    placement: &Placement,
    name: &TaskName,
    answer: &Answer,
) -> Result<Option<Task>, AnswerError> {
    match answer {
        Answer::Txn { answers, .. } => match answers.as_slice() {
            [OpAnswer::Got(item)] => read_item(placement, name, item.as_ref()),
            _ => Err(AnswerError::Mismatch),
        },
        _ => Err(AnswerError::Mismatch),
    }
}

fn read_item(
    placement: &Placement,
    name: &TaskName,
    item: Option<&KeyValue>,
) -> Result<Option<Task>, AnswerError> {
    let read = item.map(|item| read_task(placement.clone(), name.clone(), item));
    Ok(read.transpose()?)
}

/// Writes a version in the place of `current`, if that is still the newest; also to another
/// placement, as a delete and a create in one. `epoch` is the cluster's. `triggers` are those of a
/// moved task (they are deleted with it).
pub fn replace(
    keys: &Keys,
    current: &Task,
    version: &NewVersion,
    epoch: Epoch,
    triggers: &[u128],
) -> Result<Txn, TooLarge> {
    let key = keys.build(&Key::Task(current.spec.placement.clone(), current.spec.name.clone()));
    let mut txn = Txn {
        when: vec![Compare::Modified { key: key.clone(), at: current.revision }],
        then: Vec::new(),
        otherwise: vec![Op::Get { key: key.clone() }],
    };
    if !version.moved {
        txn.then.push(put(key, encoded(version, current.incarnation.epoch)?));
        return Ok(txn);
    }
    let new_place = &version.spec.placement;
    let new_key = keys.build(&Key::Task(new_place.clone(), version.spec.name.clone()));
    txn.when.push(Compare::absent(new_key.clone()));
    txn.then.push(Op::Delete { key });
    txn.then.push(put(new_key, encoded(version, epoch)?));
    let elsewhere = keys.build(&Key::Elsewhere(current.spec.name.clone()));
    txn.then.push(match *new_place == *keys.directory() {
        true => Op::Delete { key: elsewhere },
        false => put(elsewhere, elsewhere_value(new_place)),
    });
    txn.then.extend(delete_triggers(keys, current, triggers));
    Ok(txn)
}

/// What came of [`replace`].
pub fn read_replace(
    current: &Task,
    version: &NewVersion,
    epoch: Epoch,
    answer: &Answer,
) -> Result<Changed, AnswerError> {
    match answer {
        Answer::Txn { revision, succeeded: true, .. } => {
            let incarnation = match version.moved {
                true => Incarnation { epoch, revision: *revision },
                false => current.incarnation,
            };
            Ok(Changed::Done { incarnation, revision: *revision })
        }
        Answer::Txn { succeeded: false, answers, .. } => read_conflict(current, answers),
        _ => Err(AnswerError::Mismatch),
    }
}

/// Deletes a task if `current` is still the newest version, with its triggers as far as they are
/// known; one that was made meanwhile has no task, and whoever holds the range ends it.
pub fn delete(keys: &Keys, current: &Task, triggers: &[u128]) -> Txn {
    let key = keys.build(&Key::Task(current.spec.placement.clone(), current.spec.name.clone()));
    let mut then = vec![Op::Delete { key: key.clone() }];
    if current.spec.placement != *keys.directory() {
        let elsewhere = keys.build(&Key::Elsewhere(current.spec.name.clone()));
        then.push(Op::Delete { key: elsewhere });
    }
    then.extend(delete_triggers(keys, current, triggers));
    Txn {
        when: vec![Compare::Modified { key: key.clone(), at: current.revision }],
        then,
        otherwise: vec![Op::Get { key }],
    }
}

/// What came of [`delete`]: `revision` is that of the delete.
pub fn read_delete(current: &Task, answer: &Answer) -> Result<Changed, AnswerError> {
    match answer {
        Answer::Txn { revision, succeeded: true, .. } => {
            Ok(Changed::Done { incarnation: current.incarnation, revision: *revision })
        }
        Answer::Txn { succeeded: false, answers, .. } => read_conflict(current, answers),
        _ => Err(AnswerError::Mismatch),
    }
}

fn read_conflict(current: &Task, answers: &[OpAnswer]) -> Result<Changed, AnswerError> {
    match answers {
        [OpAnswer::Got(item)] => {
            let task = read_item(&current.spec.placement, &current.spec.name, item.as_ref())?;
            Ok(Changed::Conflict(task.map(Box::new)))
        }
        _ => Err(AnswerError::Mismatch),
    }
}

fn delete_triggers<'a>(
    keys: &'a Keys,
    task: &'a Task,
    triggers: &'a [u128],
) -> impl Iterator<Item = Op> + 'a {
    triggers.iter().take(limits::DELETES_MAX).map(|ulid| {
        let (placement, name) = (task.spec.placement.clone(), task.spec.name.clone());
        Op::Delete { key: keys.build(&Key::Trigger(placement, name, *ulid)) }
    })
}

fn elsewhere_value(placement: &Placement) -> Vec<u8> {
    encode_record(&store::ElsewhereRecord {
        pool: placement.pool().map_or_else(String::new, ToString::to_string),
        agent: placement.agent().map_or_else(String::new, ToString::to_string),
        every_agent: every_agent_text(placement),
    })
}

fn put(key: Vec<u8>, value: Vec<u8>) -> Op {
    Op::Put { key, value, lease: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::Embedded;
    use crate::port::{Port, Request};
    use std::sync::Arc;
    use tocktower_core::hash::RangeCount;
    use tocktower_core::ids::{AgentName, PoolName};
    use tocktower_core::ledger::Marks;
    use tocktower_core::task::{Spec, replace as edit};
    use tocktower_core::time::Wall;
    use tocktower_proto::convert::{Given, Purpose, task_from_json};
    use tocktower_proto::json;

    const EPOCH: Epoch = Epoch(1);
    const NOW: Wall = Wall::MIN;

    struct Store {
        keys: Keys,
        port: Arc<Embedded>,
    }

    impl Store {
        fn new() -> Store {
            let keys = Keys::new(crate::keys::PREFIX, RangeCount::DEFAULT);
            Store { keys, port: Embedded::in_memory().unwrap() }
        }

        async fn send(&self, txn: Txn) -> Answer {
            self.port.call(Request::Txn(txn)).await.unwrap()
        }

        async fn create(&self, group: &[Create]) -> Vec<Created> {
            let answer = self.send(super::create(&self.keys, group)).await;
            read_create(&self.keys, group, EPOCH, &answer).unwrap()
        }

        async fn lookup(&self, task: &TaskName) -> Lookup {
            let answer = self.send(super::lookup(&self.keys, task)).await;
            read_lookup(&self.keys, task, &answer).unwrap()
        }

        async fn get(&self, place: &str, task: &TaskName) -> Option<Task> {
            let place = placed(place);
            let answer = self.send(super::get(&self.keys, &place, task)).await;
            read_get(&place, task, &answer).unwrap()
        }

        async fn made(&self, task: &str, pool: &str) -> Task {
            self.create(&[in_pool(task, pool)]).await;
            self.get(pool, &name(task)).await.unwrap()
        }

        async fn replace(&self, current: &Task, version: &NewVersion) -> Changed {
            let txn = super::replace(&self.keys, current, version, EPOCH, &[]).unwrap();
            read_replace(current, version, EPOCH, &self.send(txn).await).unwrap()
        }
    }

    /// A pool, or an agent behind an `@`.
    fn placed(text: &str) -> Placement {
        match text.strip_prefix('@') {
            Some(agent) => Placement::Agent(AgentName::parse(agent).unwrap()),
            None => Placement::Pool(PoolName::parse(text).unwrap()),
        }
    }

    fn name(text: &str) -> TaskName {
        TaskName::parse(text).unwrap()
    }

    fn spec(task: &str, pool: &str) -> Spec {
        let name = name(task);
        let every = json::Schedule { every: Some("10s".into()), ..Default::default() };
        let body = json::Task {
            schedules: Some(vec![every]),
            action: Some(json::Action { noop: Some(json::Noop {}), ..Default::default() }),
            ..Default::default()
        };
        let given = Given {
            namespace: Some(name.namespace.as_str()),
            name: Some(name.name.as_str()),
            fresh_name: "fresh",
            purpose: Purpose::Edit,
        };
        Spec { placement: placed(pool), ..task_from_json(&body, given).unwrap() }
    }

    fn in_pool(task: &str, pool: &str) -> Create {
        let version = tocktower_core::task::create(spec(task, pool), NOW, Some(1)).unwrap();
        Create::new(&version, EPOCH).unwrap()
    }

    fn edited(current: &Task, change: impl FnOnce(&mut Spec)) -> NewVersion {
        let mut spec = current.spec.clone();
        change(&mut spec);
        edit(current, spec, NOW, Marks::NONE).unwrap().unwrap()
    }

    fn pool_of(lookup: &Lookup) -> String {
        match lookup {
            Lookup::Found(task) => format!("here: {}", task.spec.placement),
            Lookup::Elsewhere(placed) => format!("elsewhere: {placed}"),
            Lookup::Absent => "absent".to_owned(),
        }
    }

    #[tokio::test]
    async fn in_a_batch_one_name_that_is_taken_fails_alone() {
        let store = Store::new();
        store.create(&[in_pool("a/b", "default")]).await;
        let group = [in_pool("a/a", "default"), in_pool("a/b", "edge"), in_pool("a/c", "edge")];
        let answers = store.create(&group).await;
        assert!(matches!(answers[0], Created::Done { .. }));
        assert!(matches!(answers[1], Created::Exists(Taken::Here(_))), "{answers:?}");
        assert!(matches!(answers[2], Created::Done { .. }));
        assert_eq!(pool_of(&store.lookup(&name("a/c")).await), "elsewhere: pool edge");
        let task = store.get("edge", &name("a/c")).await.unwrap();
        let Created::Done { incarnation, revision } = answers[2] else { panic!() };
        assert_eq!((task.incarnation, task.revision), (incarnation, revision));
    }

    #[tokio::test]
    async fn a_name_is_unique_over_all_pools() {
        let store = Store::new();
        store.create(&[in_pool("a/b", "edge")]).await;
        for pool in ["default", "edge", "other", "@web-1"] {
            let answers = store.create(&[in_pool("a/b", pool)]).await;
            let edge = placed("edge");
            assert_eq!(answers, [Created::Exists(Taken::Elsewhere(edge))]);
        }
        assert_eq!(pool_of(&store.lookup(&name("a/z")).await), "absent");
    }

    #[tokio::test]
    async fn an_edit_keeps_the_incarnation_and_a_late_one_is_a_conflict() {
        let store = Store::new();
        let first = store.made("a/b", "default").await;
        let version = edited(&first, |spec| spec.description = "one".into());
        let changed = store.replace(&first, &version).await;
        let Changed::Done { incarnation, revision } = changed else { panic!("{changed:?}") };
        assert_eq!(incarnation, first.incarnation);
        assert!(revision > first.revision);
        let late = edited(&first, |spec| spec.description = "two".into());
        let changed = store.replace(&first, &late).await;
        let Changed::Conflict(Some(now)) = changed else { panic!("{changed:?}") };
        assert_eq!(now.spec.description, "one");
        assert_eq!((now.incarnation, now.revision), (incarnation, revision));
    }

    #[tokio::test]
    async fn a_move_goes_there_and_back_as_new_incarnations() {
        let store = Store::new();
        let mut task = store.made("a/b", "default").await;
        for (pool, found) in [
            ("edge", "elsewhere: pool edge"),
            ("@web-1", "elsewhere: agent web-1"),
            ("@web-2", "elsewhere: agent web-2"),
            ("far", "elsewhere: pool far"),
            ("@web-1", "elsewhere: agent web-1"),
            ("default", "here: pool default"),
        ] {
            let before = task.clone();
            let version = edited(&before, |spec| spec.placement = placed(pool));
            let changed = store.replace(&before, &version).await;
            assert!(matches!(changed, Changed::Done { .. }), "{changed:?}");
            assert_eq!(pool_of(&store.lookup(&name("a/b")).await), found);
            let left = super::get(&store.keys, &before.spec.placement, &name("a/b"));
            let left = store.send(left).await;
            assert_eq!(read_get(&before.spec.placement, &name("a/b"), &left), Ok(None));
            task = store.get(pool, &name("a/b")).await.unwrap();
            assert!(task.incarnation > before.incarnation);
        }
    }

    #[tokio::test]
    async fn a_delete_takes_all_keys_and_only_the_version_it_was_meant_for() {
        let store = Store::new();
        let task = store.made("a/b", "edge").await;
        let stale = Task { revision: Revision(1), ..task.clone() };
        let answer = store.send(delete(&store.keys, &stale, &[])).await;
        assert!(matches!(read_delete(&stale, &answer), Ok(Changed::Conflict(Some(_)))));
        let answer = store.send(delete(&store.keys, &task, &[])).await;
        assert!(matches!(read_delete(&task, &answer), Ok(Changed::Done { .. })));
        assert_eq!(pool_of(&store.lookup(&name("a/b")).await), "absent");
        let answer = store.send(delete(&store.keys, &task, &[])).await;
        assert_eq!(read_delete(&task, &answer), Ok(Changed::Conflict(None)));
    }

    #[test]
    fn a_group_is_bounded_sorted_and_holds_each_name_once() {
        let keys = Keys::new(crate::keys::PREFIX, RangeCount::DEFAULT);
        let mut waiting: VecDeque<Create> =
            (0..300).map(|number| in_pool(&format!("a/t{}", number % 200), "default")).collect();
        let mut sizes = Vec::new();
        let mut all = Vec::new();
        while !waiting.is_empty() {
            let group = next_group(&keys, &mut waiting);
            let names: BTreeSet<&TaskName> = group.iter().map(|create| &create.name).collect();
            assert_eq!(names.len(), group.len());
            assert!(group.is_sorted_by_key(|create| keys.ranges().range_of(&create.name)));
            sizes.push(group.len());
            all.extend(group);
        }
        assert_eq!(all.len(), 300);
        assert!(sizes.iter().all(|size| *size <= limits::COMMIT_CREATES_MAX), "{sizes:?}");
        assert_eq!(sizes.len(), 3, "{sizes:?}");
    }

    #[test]
    fn large_records_make_smaller_groups_and_too_large_ones_are_refused() {
        let keys = Keys::new(crate::keys::PREFIX, RangeCount::DEFAULT);
        let large = |task: String| Create { value: vec![0; 60_000], ..in_pool(&task, "default") };
        let mut waiting: VecDeque<Create> =
            (0..40).map(|number| large(format!("a/t{number}"))).collect();
        let group = next_group(&keys, &mut waiting);
        let bytes: usize = group.iter().map(|create| create.value.len()).sum();
        assert!(bytes <= limits::TXN_BYTES_MAX && group.len() > 10, "{bytes}");

        let description = "x".repeat(limits::RECORD_BYTES_MAX);
        let short = tocktower_core::task::create(spec("a/b", "default"), NOW, None).unwrap();
        let spec = Spec { description, ..short.spec.clone() };
        let version = NewVersion { spec, ..short };
        assert!(Create::new(&version, EPOCH).is_err());
    }
}
