//! What a key with its value means: the key says which kind of record it is, and that kind says how
//! to read the bytes. One function, so that a coordinator's catalog, an agent's watch and the tests
//! cannot differ in it.
//!
//! A value that cannot be read is [`Record::Unreadable`], with the reason: the caller sets it aside
//! and goes on. Nothing here fails.

use tocktower_core::ids::{AgentName, Attempt, CoordinatorId, RangeId};
use tocktower_core::ids::{PoolName, TaskName};
use tocktower_core::task::Task;
use tocktower_core::time::Wall;
use tocktower_proto::convert::{
    DecodeError, RunName, StoredTask, decode_record, decode_task, request_from_bytes,
};
use tocktower_proto::store;

use crate::keys::{Key, Keys};
use crate::port::KeyValue;

/// A manual run asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trigger {
    pub payload: Option<Vec<u8>>,
    pub created_at: Wall,
    /// The hash of the idempotency key that asked for it.
    pub request: Option<u128>,
}

/// A key and its value, read.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    Cluster(store::ClusterRecord),
    Compact(store::CompactRecord),
    Member(AgentName, store::SessionRecord),
    Coordinator(CoordinatorId, store::CoordinatorRecord),
    Agent(AgentName, store::AgentRecord),
    Beat(store::BeatRecord),
    CoordinatorBeat(CoordinatorId, store::BeatRecord),
    Claim(PoolName, RangeId, store::ClaimRecord),
    Ledger(PoolName, RangeId, store::LedgerRecord),
    Task(Box<Task>),
    /// The name is of a task in this pool.
    Elsewhere(TaskName, PoolName),
    Trigger(PoolName, TaskName, u128, Trigger),
    Settle(PoolName, TaskName, RunName, Attempt, store::SettleRecord),
    /// The key is known, the value is not.
    Unreadable(Key, DecodeError),
    /// Nothing that this program knows.
    Unknown,
}

/// Reads a key with its value.
pub fn read(keys: &Keys, item: &KeyValue) -> Record {
    let Some(key) = keys.parse(&item.key) else { return Record::Unknown };
    read_known(key.clone(), item).unwrap_or_else(|error| Record::Unreadable(key, error))
}

fn read_known(key: Key, item: &KeyValue) -> Result<Record, DecodeError> {
    let bytes = &item.value;
    Ok(match key {
        Key::Cluster => Record::Cluster(decode_record(bytes)?),
        Key::Compact => Record::Compact(decode_record(bytes)?),
        Key::Member(agent) => Record::Member(agent, decode_record(bytes)?),
        Key::Coordinator(id) => Record::Coordinator(id, decode_record(bytes)?),
        Key::Agent(agent) => Record::Agent(agent, decode_record(bytes)?),
        Key::Beat => Record::Beat(decode_record(bytes)?),
        Key::CoordinatorBeat(id) => Record::CoordinatorBeat(id, decode_record(bytes)?),
        Key::Claim(pool, range) => Record::Claim(pool, range, decode_record(bytes)?),
        Key::Ledger(pool, range) => Record::Ledger(pool, range, decode_record(bytes)?),
        Key::Task(pool, name) => Record::Task(Box::new(read_task(pool, name, item)?)),
        Key::Elsewhere(name) => Record::Elsewhere(name, read_elsewhere(bytes)?),
        Key::Trigger(pool, name, ulid) => Record::Trigger(pool, name, ulid, read_trigger(bytes)?),
        Key::Settle(pool, name, run, attempt) => {
            Record::Settle(pool, name, run, attempt, decode_record(bytes)?)
        }
    })
}

/// The task in the value of its key.
pub fn read_task(pool: PoolName, name: TaskName, item: &KeyValue) -> Result<Task, DecodeError> {
    let stored = StoredTask {
        name,
        pool,
        create_revision: item.create_revision,
        mod_revision: item.mod_revision,
    };
    decode_task(&item.value, stored)
}

/// The pool in the value of a directory entry.
pub fn read_elsewhere(bytes: &[u8]) -> Result<PoolName, DecodeError> {
    let record: store::ElsewhereRecord = decode_record(bytes)?;
    PoolName::parse(&record.pool).map_err(|error| DecodeError::invalid("pool", error))
}

/// The trigger in the value of its key.
pub fn read_trigger(bytes: &[u8]) -> Result<Trigger, DecodeError> {
    let record: store::TriggerRecord = decode_record(bytes)?;
    Ok(Trigger {
        payload: record.payload,
        created_at: Wall::from_micros(record.created_at_us),
        request: request_from_bytes(&record.request)?,
    })
}
