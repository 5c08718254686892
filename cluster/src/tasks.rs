//! Operations on tasks: the transactions to send, and what their answers mean.
//!
//! A name is unique in the cluster. Its range in the pool `default` is the directory: the task is
//! there itself, or an `elsewhere` key says which pool has it. Both keys are written and deleted in
//! the transaction of the task, so they are never at odds; every create compares both absent.
//!
//! Creates are committed in groups. Each is a nested transaction of its own, so that one name that
//! is taken fails alone, and all that succeed share one revision. etcd refuses a transaction that
//! puts a key twice, so of two creates of one name the second waits for the next group.

use std::collections::{BTreeSet, VecDeque};

use tocktower_core::ids::{Epoch, Incarnation, PoolName, Revision, TaskName};
use tocktower_core::limits;
use tocktower_core::task::{NewVersion, Task};
use tocktower_proto::convert::{DecodeError, encode_record, encode_task};
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
    pub pool: PoolName,
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
    Elsewhere(PoolName),
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
    Elsewhere(PoolName),
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
            pool: version.spec.pool.clone(),
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
        keys.build(&Key::Task(create.pool.clone(), create.name.clone()))
    });
    group
}

/// About what a create takes in a transaction: its value, and its keys as often as they stand there.
fn create_bytes(keys: &Keys, create: &Create) -> usize {
    let key = keys.build(&Key::Task(create.pool.clone(), create.name.clone()));
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
    if create.pool != *keys.directory() {
        then.push(put(elsewhere.clone(), elsewhere_value(&create.pool)));
    }
    let key = keys.build(&Key::Task(create.pool.clone(), create.name.clone()));
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
                Lookup::Elsewhere(pool) => Ok(Created::Exists(Taken::Elsewhere(pool))),
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

/// Reads a task from the pool that it is in.
pub fn get(keys: &Keys, pool: &PoolName, name: &TaskName) -> Txn {
    let key = keys.build(&Key::Task(pool.clone(), name.clone()));
    Txn { when: Vec::new(), then: vec![Op::Get { key }], otherwise: Vec::new() }
}

/// The task that was read; `None`: it is not there (any more).
pub fn read_get(
    pool: &PoolName,
    name: &TaskName,
    answer: &Answer,
) -> Result<Option<Task>, AnswerError> {
    match answer {
        Answer::Txn { answers, .. } => match answers.as_slice() {
            [OpAnswer::Got(item)] => read_item(pool, name, item.as_ref()),
            _ => Err(AnswerError::Mismatch),
        },
        _ => Err(AnswerError::Mismatch),
    }
}

fn read_item(
    pool: &PoolName,
    name: &TaskName,
    item: Option<&KeyValue>,
) -> Result<Option<Task>, AnswerError> {
    let read = item.map(|item| read_task(pool.clone(), name.clone(), item));
    Ok(read.transpose()?)
}

/// Writes a version in the place of `current`, if that is still the newest; also to another pool,
/// as a delete and a create in one. `epoch` is the cluster's. `triggers` are those of a moved task
/// (they are deleted with it).
pub fn replace(
    keys: &Keys,
    current: &Task,
    version: &NewVersion,
    epoch: Epoch,
    triggers: &[u128],
) -> Result<Txn, TooLarge> {
    let key = keys.build(&Key::Task(current.spec.pool.clone(), current.spec.name.clone()));
    let mut txn = Txn {
        when: vec![Compare::Modified { key: key.clone(), at: current.revision }],
        then: Vec::new(),
        otherwise: vec![Op::Get { key: key.clone() }],
    };
    if !version.moved {
        txn.then.push(put(key, encoded(version, current.incarnation.epoch)?));
        return Ok(txn);
    }
    let new_pool = &version.spec.pool;
    let new_key = keys.build(&Key::Task(new_pool.clone(), version.spec.name.clone()));
    txn.when.push(Compare::absent(new_key.clone()));
    txn.then.push(Op::Delete { key });
    txn.then.push(put(new_key, encoded(version, epoch)?));
    let elsewhere = keys.build(&Key::Elsewhere(current.spec.name.clone()));
    txn.then.push(match *new_pool == *keys.directory() {
        true => Op::Delete { key: elsewhere },
        false => put(elsewhere, elsewhere_value(new_pool)),
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
    let key = keys.build(&Key::Task(current.spec.pool.clone(), current.spec.name.clone()));
    let mut then = vec![Op::Delete { key: key.clone() }];
    if current.spec.pool != *keys.directory() {
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
            let task = read_item(&current.spec.pool, &current.spec.name, item.as_ref())?;
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
        let (pool, name) = (task.spec.pool.clone(), task.spec.name.clone());
        Op::Delete { key: keys.build(&Key::Trigger(pool, name, *ulid)) }
    })
}

fn elsewhere_value(pool: &PoolName) -> Vec<u8> {
    encode_record(&store::ElsewhereRecord { pool: pool.to_string() })
}

fn put(key: Vec<u8>, value: Vec<u8>) -> Op {
    Op::Put { key, value, lease: None }
}
