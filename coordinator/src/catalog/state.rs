//! What a coordinator knows of the cluster, as its watch has told it: the pure part of the catalog.
//!
//! Values go in as they are stored, changes come out for the live feed. Nothing here reads a clock
//! or waits, so that everything about "what becomes of this event" can be tested with a line each.
//! Of ledgers only the gist is kept: the marks and the number of open entries. A fleet's ledgers
//! can be a hundred megabytes, and nobody asks a coordinator for more.
//!
//! A value that cannot be read never stops the catalog: a task is quarantined with its reason, the
//! rest is logged and left out.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use tocktower_cluster::keys::{Key, Keys};
use tocktower_cluster::port::{Event, KeyValue};
use tocktower_core::ids::{
    AgentName, CoordinatorId, Epoch, Fence, Incarnation, LeaseId, PoolName, RangeId, Revision,
    Session, TaskName,
};
use tocktower_core::ledger::Marks;
use tocktower_core::task::Placement;
use tocktower_core::time::{Instant, Mono};
use tocktower_proto::convert::{DecodeError, StoredTask, decode_record};
use tocktower_proto::store;

use super::departed::Departed;
use super::tasks::{Glance, Put, Tasks};
use crate::feed::What;
use crate::timeline::Timeline;

/// An agent's registration.
#[derive(Clone, PartialEq, Debug)]
pub struct Member {
    pub record: store::SessionRecord,
    pub session: Session,
}

/// What outlives an agent's session.
#[derive(Clone, PartialEq, Debug)]
pub struct Kept {
    pub record: store::AgentRecord,
    pub revision: Revision,
}

/// Who holds a range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    pub agent: AgentName,
    pub fence: Fence,
}

/// What is kept of a ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LedgerGist {
    pub marks: Marks,
    /// How far the schedules of the range's tasks are needed no more.
    pub done_with: Marks,
    pub open: u32,
}

/// The single key that several daemons write by turns: its newest revision, and when it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shared {
    pub value: i64,
    pub mod_revision: Revision,
    pub seen: Mono,
}

/// A coordinator's beat as the watch delivered it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    pub count: u64,
    pub lease: Option<LeaseId>,
}

#[derive(Default)]
pub struct State {
    pub epoch: Epoch,
    pub tasks: Tasks,
    pub departed: Departed,
    pub members: BTreeMap<AgentName, Member>,
    pub agents: BTreeMap<AgentName, Kept>,
    pub coordinators: BTreeMap<CoordinatorId, store::CoordinatorRecord>,
    pub claims: BTreeMap<(PoolName, RangeId), Claim>,
    pub ledgers: BTreeMap<(PoolName, RangeId), LedgerGist>,
    /// When the newest word of a range's holders came: a write, or that the claim is gone.
    pub heard: BTreeMap<(PoolName, RangeId), Mono>,
    /// Nothing of a range is due before this and after its ledger's marks. It may be too early:
    /// what was deleted, edited or decided since may have been the first.
    pub soonest: BTreeMap<(PoolName, RangeId), Instant>,
    pub triggers: BTreeMap<TaskName, BTreeSet<u128>>,
    pub beats: BTreeMap<CoordinatorId, Beat>,
    pub shared_beat: Option<Shared>,
    pub compact: Option<Shared>,
    /// Bytes of ledgers since the last compaction: their old versions are most of what etcd keeps.
    pub ledger_bytes: u64,
}

/// The open entries of a ledger, counted without reading more of them than is needed.
#[derive(Clone, PartialEq, Message)]
struct LedgerGlance {
    #[prost(int64, tag = "4")]
    through_ms: i64,
    #[prost(message, optional, tag = "5")]
    settled: Option<store::IncarnationRecord>,
    #[prost(message, repeated, tag = "6")]
    open: Vec<EntryGlance>,
}

/// Of an open entry, what tells whether it is a series, and from when on.
#[derive(Clone, PartialEq, Message)]
struct EntryGlance {
    #[prost(int64, tag = "3")]
    instant_ms: i64,
    #[prost(int64, optional, tag = "10")]
    catch_up_last_ms: Option<i64>,
}

impl State {
    /// Takes one event in, and says what has changed for those who follow.
    pub fn event(&mut self, keys: &Keys, now: Mono, event: &Event, changes: &mut Vec<What>) {
        match event {
            Event::Put(item) => self.put(keys, now, item, changes),
            Event::Delete { key, mod_revision } => {
                self.delete(keys, now, key, *mod_revision, changes);
            }
        }
    }

    pub fn put(&mut self, keys: &Keys, now: Mono, item: &KeyValue, changes: &mut Vec<What>) {
        let Some(key) = keys.parse(&item.key) else { return };
        if let Err(error) = self.put_known(keys, now, key, item, changes) {
            let key = String::from_utf8_lossy(&item.key);
            tracing::error!(%key, %error, "a record cannot be read and is left out");
        }
    }

    fn put_known(
        &mut self,
        keys: &Keys,
        now: Mono,
        key: Key,
        item: &KeyValue,
        changes: &mut Vec<What>,
    ) -> Result<(), DecodeError> {
        let bytes = &item.value;
        match key {
            Key::Cluster => {
                self.epoch = Epoch(decode_record::<store::ClusterRecord>(bytes)?.epoch);
            }
            Key::Compact => {
                let value = decode_record::<store::CompactRecord>(bytes)?.revision;
                self.compact = Some(Shared { value, mod_revision: item.mod_revision, seen: now });
                self.ledger_bytes = 0;
            }
            Key::Beat => {
                let mod_revision = item.mod_revision;
                self.shared_beat = Some(Shared { value: 0, mod_revision, seen: now });
            }
            Key::CoordinatorBeat(id) => {
                let count = decode_record::<store::BeatRecord>(bytes)?.count;
                self.beats.insert(id, Beat { count, lease: item.lease });
            }
            Key::Member(agent) => {
                let record = decode_record(bytes)?;
                let session = Session { epoch: self.epoch, revision: item.create_revision };
                self.members.insert(agent.clone(), Member { record, session });
                changes.push(What::Agent(agent));
            }
            Key::Agent(agent) => {
                // Of a version that cannot be read the one before tells nothing.
                self.agents.remove(&agent);
                let kept = Kept { record: decode_record(bytes)?, revision: item.mod_revision };
                self.agents.insert(agent.clone(), kept);
                changes.push(What::Agent(agent));
            }
            Key::Coordinator(id) => {
                self.coordinators.insert(id, decode_record(bytes)?);
            }
            Key::Claim(pool, range) => {
                let record: store::ClaimRecord = decode_record(bytes)?;
                let agent = AgentName::parse(&record.agent)
                    .map_err(|error| DecodeError::invalid("agent", error))?;
                let fence = Fence { epoch: self.epoch, revision: item.create_revision };
                self.heard.insert((pool.clone(), range), now);
                self.claims.insert((pool, range), Claim { agent, fence });
            }
            Key::Ledger(pool, range) => {
                let ledger: LedgerGlance = decode_record(bytes)?;
                let settled = ledger.settled.unwrap_or_default();
                let epoch = Epoch(settled.epoch);
                let incarnation = Incarnation { epoch, revision: Revision(settled.revision) };
                let through = Instant::from_millis(ledger.through_ms);
                let marks = Marks { through, incarnation };
                let open = u32::try_from(ledger.open.len()).unwrap_or(u32::MAX);
                let series = ledger.open.iter().filter(|entry| entry.catch_up_last_ms.is_some());
                let first = series.map(|entry| Instant::from_millis(entry.instant_ms)).min();
                let done_with = marks.done_with(first);
                self.heard.insert((pool.clone(), range), now);
                self.ledgers.insert((pool, range), LedgerGist { marks, done_with, open });
                self.ledger_bytes += u64::try_from(bytes.len()).unwrap_or(0);
            }
            Key::Task(placement, name) => self.put_task(keys, placement, name, item, changes),
            Key::Trigger(_, task, ulid) => {
                self.triggers.entry(task).or_default().insert(ulid);
            }
            Key::Elsewhere(_) | Key::Settle(..) | Key::PinsBeat(_) => {}
        }
        Ok(())
    }

    fn put_task(
        &mut self,
        keys: &Keys,
        placement: Placement,
        name: TaskName,
        item: &KeyValue,
        changes: &mut Vec<What>,
    ) {
        let range = keys.range_in(&placement, &name);
        let stored = StoredTask {
            name: name.clone(),
            placement,
            create_revision: item.create_revision,
            mod_revision: item.mod_revision,
        };
        let put = self.tasks.put(range, &stored, &item.value);
        if let (Put::Taken(Some(task)), Some(pool)) = (&put, stored.placement.pool()) {
            let through = self.through(pool, range);
            let due = Timeline::new(task).first_due_after(through);
            due.into_iter().for_each(|due| self.may_be_due(pool, range, due));
        }
        if !matches!(put, Put::Older) {
            let labels = decode_record::<Glance>(&item.value).unwrap_or_default().labels;
            changes.push(What::Task { name, labels });
        }
    }

    pub fn delete(
        &mut self,
        keys: &Keys,
        now: Mono,
        key: &[u8],
        at: Revision,
        changes: &mut Vec<What>,
    ) {
        match keys.parse(key) {
            Some(Key::Task(placement, name)) => {
                let labels = self.tasks.get(&name).map(|stored| stored.glance().labels);
                let labels = labels.unwrap_or_default();
                self.tasks.remove(&placement, keys.range_in(&placement, &name), &name, at);
                self.departed.went(name.clone(), labels.clone(), now);
                changes.push(What::Task { name, labels });
            }
            Some(Key::Member(agent)) => {
                self.members.remove(&agent);
                changes.push(What::Agent(agent));
            }
            Some(Key::Agent(agent)) => {
                self.agents.remove(&agent);
                changes.push(What::Agent(agent));
            }
            Some(Key::Coordinator(id)) => {
                self.coordinators.remove(&id);
            }
            Some(Key::Claim(pool, range)) => {
                self.heard.insert((pool.clone(), range), now);
                self.claims.remove(&(pool, range));
            }
            Some(Key::Ledger(pool, range)) => {
                self.ledgers.remove(&(pool, range));
            }
            Some(Key::CoordinatorBeat(id)) => {
                self.beats.remove(&id);
            }
            Some(Key::Trigger(_, task, ulid)) => {
                if let Some(left) = self.triggers.get_mut(&task) {
                    left.remove(&ulid);
                    if left.is_empty() {
                        self.triggers.remove(&task);
                    }
                }
            }
            Some(Key::Beat) => self.shared_beat = None,
            Some(Key::Compact) => self.compact = None,
            Some(Key::Cluster | Key::Elsewhere(_) | Key::Settle(..) | Key::PinsBeat(_)) | None => {}
        }
    }

    /// Up to where a range's ledger says that all is decided.
    pub fn through(&self, pool: &PoolName, range: RangeId) -> Instant {
        let gist = self.ledgers.get(&(pool.clone(), range));
        gist.map_or(Instant::MIN, |gist| gist.marks.through)
    }

    /// Who holds a range.
    pub fn holder(&self, pool: &PoolName, range: RangeId) -> Option<&AgentName> {
        self.claims.get(&(pool.clone(), range)).map(|claim| &claim.agent)
    }

    /// Something of a range may be due then.
    pub fn may_be_due(&mut self, pool: &PoolName, range: RangeId, due: Instant) {
        let soonest = self.soonest.entry((pool.clone(), range)).or_insert(due);
        *soonest = due.min(*soonest);
    }

    /// Labels of a task, also of one that has just gone.
    pub fn labels_of(&self, task: &TaskName) -> Option<BTreeMap<String, String>> {
        match self.tasks.get(task) {
            Some(stored) => Some(stored.glance().labels),
            None => self.departed.get(task).cloned(),
        }
    }

    /// Triggers of a task that have not run yet.
    pub fn triggers_of(&self, task: &TaskName) -> Vec<u128> {
        self.triggers.get(task).map_or_else(Vec::new, |ulids| ulids.iter().copied().collect())
    }

    /// Agents of a pool that have a session.
    pub fn agents_in(&self, pool: &PoolName) -> usize {
        let in_pool = |member: &&Member| member.record.pool == pool.as_str();
        self.members.values().filter(in_pool).count()
    }
}

#[cfg(test)]
mod tests {
    use tocktower_cluster::ledgers;
    use tocktower_core::hash::RangeCount;
    use tocktower_core::ids::{Attempt, LedgerNumber, RunId};
    use tocktower_core::ledger::{Entry, EntryState, Ledger};
    use tocktower_core::time::Wall;

    use super::*;

    #[test]
    fn a_series_that_a_ledger_lists_keeps_the_schedules_that_it_is_told_by() {
        let at = Instant::from_millis;
        let incarnation = Incarnation { epoch: Epoch(1), revision: Revision(5) };
        let marks = Marks { through: at(90_000), incarnation };
        let entry = |name: &str, from: i64, state| {
            let run = RunId::scheduled(TaskName::parse(name).unwrap(), incarnation, at(from));
            Entry { run, due: at(from), attempt: Attempt::NONE, state }
        };
        let series = EntryState::CatchUp { at: Wall::from_millis(0), last: at(60_000) };
        let open = vec![
            entry("a/early", 10_000, EntryState::Started),
            entry("a/late", 30_000, series),
            entry("a/later", 40_000, series),
        ];
        let (fence, number) = (Fence::default(), LedgerNumber::default());
        let ledger = Ledger { fence, number, marks, open };
        let keys = Keys::new("/t", RangeCount::DEFAULT);
        let pool = PoolName::parse("default").unwrap();
        let place = (pool.clone(), RangeId(3));
        let gist = |ledger: &Ledger| {
            let item = KeyValue {
                key: keys.build(&Key::Ledger(pool.clone(), RangeId(3))),
                value: ledgers::encode(ledger),
                create_revision: Revision(7),
                mod_revision: Revision(7),
                lease: None,
            };
            let mut state = State::default();
            state.put(&keys, Mono::default(), &item, &mut Vec::new());
            state.ledgers[&place]
        };
        let told = gist(&ledger);
        assert_eq!((told.marks, told.open), (marks, 3));
        assert_eq!(told.done_with, Marks { through: at(29_999), ..marks });
        assert_eq!(told.done_with, ledger.done_with());
        let plain = Ledger { open: ledger.open[..1].to_vec(), ..ledger };
        assert_eq!(gist(&plain).done_with, marks);
    }
}
