//! What a key with its value means: the key says which kind of record it is, and that kind says how
//! to read the bytes. One function, so that a coordinator's catalog, an agent's watch and the tests
//! cannot differ in it.
//!
//! A value that cannot be read is [`Record::Unreadable`], with the reason: the caller sets it aside
//! and goes on. Nothing here fails.

use tocktower_core::ids::{AgentName, Attempt, CoordinatorId, RangeId};
use tocktower_core::ids::{PoolName, TaskName};
use tocktower_core::task::{Placement, Task};
use tocktower_core::time::Wall;
use tocktower_proto::convert::{
    DecodeError, RunName, StoredTask, decode_record, decode_task, placement_of, request_from_bytes,
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
    /// The name is of a task that is placed there.
    Elsewhere(TaskName, Placement),
    Trigger(Placement, TaskName, u128, Trigger),
    Settle(PoolName, TaskName, RunName, Attempt, store::SettleRecord),
    PinsBeat(AgentName, store::BeatRecord),
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
        Key::Task(placed, name) => Record::Task(Box::new(read_task(placed, name, item)?)),
        Key::Elsewhere(name) => Record::Elsewhere(name, read_elsewhere(bytes)?),
        Key::Trigger(placed, name, ulid) => {
            Record::Trigger(placed, name, ulid, read_trigger(bytes)?)
        }
        Key::PinsBeat(agent) => Record::PinsBeat(agent, decode_record(bytes)?),
        Key::Settle(pool, name, run, attempt) => {
            Record::Settle(pool, name, run, attempt, decode_record(bytes)?)
        }
    })
}

/// The task in the value of its key.
pub fn read_task(
    placement: Placement,
    name: TaskName,
    item: &KeyValue,
) -> Result<Task, DecodeError> {
    let stored = StoredTask {
        name,
        placement,
        create_revision: item.create_revision,
        mod_revision: item.mod_revision,
    };
    decode_task(&item.value, stored)
}

/// The placement in the value of a directory entry.
pub fn read_elsewhere(bytes: &[u8]) -> Result<Placement, DecodeError> {
    let record: store::ElsewhereRecord = decode_record(bytes)?;
    placement_of(&record.pool, &record.agent, &record.every_agent)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PREFIX;
    use proptest::prelude::*;
    use tocktower_core::hash::RangeCount;
    use tocktower_core::ids::{Epoch, Fence, Incarnation, Name, Namespace, Revision};
    use tocktower_core::time::Instant;

    const NAME: &str = "[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?";

    fn keys() -> Keys {
        Keys::new(PREFIX, RangeCount::DEFAULT)
    }

    fn any_task() -> impl Strategy<Value = TaskName> {
        (NAME, NAME).prop_map(|(namespace, name)| TaskName {
            namespace: Namespace::parse(&namespace).unwrap(),
            name: Name::parse(&name).unwrap(),
        })
    }

    fn any_run() -> impl Strategy<Value = RunName> {
        let timed =
            (0..=Instant::MAX.millis(), any::<u32>(), 0_i64..).prop_map(|(ms, epoch, revision)| {
                RunName::Instant {
                    instant: Instant::from_millis(ms),
                    incarnation: Incarnation { epoch: Epoch(epoch), revision: Revision(revision) },
                }
            });
        prop_oneof![any::<u128>().prop_map(RunName::Manual), timed]
    }

    fn any_key() -> impl Strategy<Value = Key> {
        let pool = || NAME.prop_map(|name| PoolName::parse(&name).unwrap());
        let agent = || NAME.prop_map(|name| AgentName::parse(&name).unwrap());
        let placed =
            || prop_oneof![pool().prop_map(Placement::Pool), agent().prop_map(Placement::Agent)];
        let every = pool().prop_map(Placement::EveryAgent);
        let coordinator = || NAME.prop_map(|name| CoordinatorId::parse(&name).unwrap());
        let range = || (0_u16..256).prop_map(RangeId);
        let attempt =
            (any::<u32>(), 0_i64.., any::<u32>()).prop_map(|(epoch, revision, number)| {
                let fence = Fence { epoch: Epoch(epoch), revision: Revision(revision) };
                Attempt { fence, number }
            });
        prop_oneof![
            Just(Key::Cluster),
            Just(Key::Compact),
            Just(Key::Beat),
            agent().prop_map(Key::Member),
            agent().prop_map(Key::Agent),
            coordinator().prop_map(Key::Coordinator),
            coordinator().prop_map(Key::CoordinatorBeat),
            (pool(), range()).prop_map(|(pool, range)| Key::Claim(pool, range)),
            (pool(), range()).prop_map(|(pool, range)| Key::Ledger(pool, range)),
            (placed(), any_task()).prop_map(|(placed, task)| Key::Task(placed, task)),
            (every, any_task()).prop_map(|(placed, task)| Key::Task(placed, task)),
            agent().prop_map(Key::PinsBeat),
            any_task().prop_map(Key::Elsewhere),
            (placed(), any_task(), any::<u128>())
                .prop_map(|(placed, task, ulid)| Key::Trigger(placed, task, ulid)),
            (pool(), any_task(), any_run(), attempt)
                .prop_map(|(pool, task, run, attempt)| Key::Settle(pool, task, run, attempt)),
        ]
    }

    fn item(key: Vec<u8>, value: Vec<u8>) -> KeyValue {
        let revision = Revision(1);
        KeyValue { key, value, create_revision: revision, mod_revision: revision, lease: None }
    }

    proptest! {
        #[test]
        fn every_key_reads_back(key in any_key()) {
            let keys = keys();
            let built = keys.build(&key);
            prop_assert!(keys.all().contains(&built));
            prop_assert_eq!(keys.parse(&built), Some(key));
        }

        #[test]
        fn any_value_of_a_known_key_is_a_record_or_unreadable(
            key in any_key(),
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let keys = keys();
            for value in [bytes.clone(), [&[1], bytes.as_slice()].concat()] {
                let record = read(&keys, &item(keys.build(&key), value));
                prop_assert!(!matches!(record, Record::Unknown));
            }
        }

        #[test]
        fn any_key_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let keys = keys();
            let _ = read(&keys, &item(bytes.clone(), Vec::new()));
            let _ = read(&keys, &item([PREFIX.as_bytes(), &bytes].concat(), Vec::new()));
        }

        #[test]
        fn all_of_a_task_lies_under_its_range(task in any_task(), run in any_run(), ulid: u128) {
            let keys = keys();
            let pool = PoolName::parse("default").unwrap();
            let range = keys.range(&pool, keys.ranges().range_of(&task));
            let attempt = Attempt { fence: Fence::default(), number: 1 };
            for key in [
                Key::Task(pool.clone().into(), task.clone()),
                Key::Elsewhere(task.clone()),
                Key::Trigger(pool.clone().into(), task.clone(), ulid),
                Key::Settle(pool.clone(), task.clone(), run, attempt),
            ] {
                prop_assert!(range.contains(&keys.build(&key)), "{:?}", key);
            }
        }
    }

    #[test]
    fn ranges_sort_as_numbers_do() {
        for count in [1, 16, 256, 4_096, 32_768] {
            let keys = Keys::new(PREFIX, RangeCount::new(count).unwrap());
            let pool = PoolName::parse("default").unwrap();
            let claim = |range| keys.build(&Key::Claim(pool.clone(), range));
            let built: Vec<Vec<u8>> = keys.ranges().all().map(claim).collect();
            assert!(built.is_sorted_by(|a, b| a < b), "{count}");
        }
    }

    #[test]
    fn a_task_in_a_range_that_is_not_its_own_is_not_taken_for_one() {
        let keys = keys();
        let task = TaskName::parse("default/nightly").unwrap();
        let foreign = keys.ranges().range_of(&task).0 ^ 1;
        let key = format!("{PREFIX}pools/default/{foreign:02x}/tasks/{task}");
        assert_eq!(read(&keys, &item(key.into_bytes(), Vec::new())), Record::Unknown);
    }
}
