//! The catalog: a copy of all that the cluster shares, kept whole by one watch, that answers
//! reads without asking etcd, but for those of one task (`service::look`).
//!
//! One task owns it (`owner`): it lists, watches, applies. `keeper` proves it: it writes this
//! coordinator's beat, and the copy is as old as the newest beat that came back through the watch,
//! so a watch that stalled without a word shows as `stale` within seconds. Readers take a shared
//! look at the state through this handle; looks are short (long scans go in pieces), hold no lock
//! over an await, and the owner is the only writer but for two cases: a service that has written a
//! task puts the new version in early, so that whoever got the answer finds it, and the auditor
//! notes what it has found due. `compare` looks for what a watch that skips events has kept from
//! it.

mod compare;
mod departed;
mod keeper;
mod owner;
mod places;
mod state;
mod tasks;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tocktower_cluster::keys::{Key, Keys};
use tocktower_cluster::port::KeyValue;
use tocktower_core::ids::{AgentName, Epoch, PoolName, RangeId, Revision, TaskName};
use tocktower_core::task::{Placement, Task};
use tocktower_core::time::{Instant, Mono};
use tokio::sync::watch;

pub use compare::{Comparer, Pace};
pub use keeper::{Keeper, KeeperConfig, Outdated};
pub use owner::{Note, own};
pub use state::{Claim, Kept, LedgerGist, Member, State};
pub use tasks::{Copied, Glance, Stored, Tasks, Unreadable};

use crate::clock;

/// A copy older than this is called stale: beats are written every 2 s.
pub const STALE_AFTER: Duration = Duration::from_secs(5);
/// A proof younger than this is as new as the beats make it.
const FRESH: Duration = Duration::from_millis(2_500);

/// How the copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The first list is whole.
    pub listed: bool,
    /// Lists that were whole.
    pub lists: u64,
    /// Everything up to here was delivered.
    pub delivered: Revision,
    /// When the newest proof was sent: the list, or a beat of this coordinator that came back.
    pub proved: Option<Mono>,
}

impl Standing {
    /// Time since the copy was proved whole.
    pub fn age(&self) -> Option<Duration> {
        Some(clock::mono().since(self.proved?))
    }

    /// The shared state answers as usual: the newest beat came back.
    pub fn fresh(&self) -> bool {
        self.age().is_some_and(|age| age <= FRESH)
    }
}

struct Inner {
    state: RwLock<State>,
    standing: watch::Sender<Standing>,
    keys: Keys,
}

/// Reads the catalog. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

impl Catalog {
    pub fn new(keys: Keys) -> Catalog {
        let standing = Standing { listed: false, lists: 0, delivered: Revision(0), proved: None };
        let inner = Inner { state: RwLock::default(), standing: watch::channel(standing).0, keys };
        Catalog { inner: Arc::new(inner) }
    }

    pub fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// A short look. `look` must not wait for anything.
    pub fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.inner.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// One task, decoded.
    pub fn task(&self, name: &TaskName) -> Option<Result<Task, Unreadable>> {
        let copied = self.look(|state| state.tasks.get(name).map(|stored| stored.copied()));
        copied.map(Copied::read)
    }

    pub fn standing(&self) -> Standing {
        *self.inner.standing.borrow()
    }

    pub fn follow_standing(&self) -> watch::Receiver<Standing> {
        self.inner.standing.subscribe()
    }

    /// The first list is whole, and a beat has proved the copy.
    pub fn ready(&self) -> bool {
        let standing = self.standing();
        standing.listed && standing.proved.is_some()
    }

    /// The shared state cannot be reached, or the watch is silent: this is what was last known.
    pub fn stale(&self) -> bool {
        self.age().is_none_or(|age| age > STALE_AFTER)
    }

    /// The shared state answers as usual: the newest beat came back.
    pub fn fresh(&self) -> bool {
        self.standing().fresh()
    }

    /// Time since the copy was proved whole.
    pub fn age(&self) -> Option<Duration> {
        self.standing().age()
    }

    pub fn epoch(&self) -> Epoch {
        self.look(|state| state.epoch)
    }

    /// Puts a version in that a service has just written, unless the watch is past it already.
    pub fn wrote(&self, placement: &Placement, name: &TaskName, item: Written<'_>) {
        let keys = &self.inner.keys;
        let item = KeyValue {
            key: keys.build(&Key::Task(placement.clone(), name.clone())),
            value: item.value.to_vec(),
            create_revision: item.create_revision,
            mod_revision: item.mod_revision,
            lease: None,
        };
        let mut state = self.inner.state.write().unwrap_or_else(PoisonError::into_inner);
        if self.standing().delivered < item.mod_revision {
            // The feed hears of it from the watch, in order.
            state.put(keys, clock::mono(), &item, &mut Vec::new());
        }
    }

    /// Takes a task away that a service has just deleted, unless the watch is past it already.
    pub fn deleted(&self, placement: &Placement, name: &TaskName, at: Revision) {
        self.gone(&Key::Task(placement.clone(), name.clone()), at);
    }

    /// Takes an agent's record away that a service has just deleted.
    pub fn forgot(&self, agent: &AgentName, at: Revision) {
        self.gone(&Key::Agent(agent.clone()), at);
    }

    /// Puts an agent's record in that a service has just written.
    pub fn wrote_agent(&self, agent: &AgentName, value: Vec<u8>, at: Revision) {
        let keys = &self.inner.keys;
        let key = keys.build(&Key::Agent(agent.clone()));
        let (create_revision, mod_revision) = (at, at);
        let item = KeyValue { key, value, create_revision, mod_revision, lease: None };
        let mut state = self.inner.state.write().unwrap_or_else(PoisonError::into_inner);
        if self.standing().delivered < at {
            state.put(keys, clock::mono(), &item, &mut Vec::new());
        }
    }

    fn gone(&self, key: &Key, at: Revision) {
        let keys = &self.inner.keys;
        let key = keys.build(key);
        let mut state = self.inner.state.write().unwrap_or_else(PoisonError::into_inner);
        if self.standing().delivered < at {
            state.delete(keys, clock::mono(), &key, at, &mut Vec::new());
        }
    }

    /// Notes a trigger that a service has just put, so that a retry finds it.
    pub fn asked(&self, task: &TaskName, ulid: u128, at: Revision) {
        let mut state = self.inner.state.write().unwrap_or_else(PoisonError::into_inner);
        if self.standing().delivered < at {
            state.triggers.entry(task.clone()).or_default().insert(ulid);
        }
    }

    /// For the auditor: what is first due of these ranges is found out anew. Whatever changes
    /// meanwhile counts from now on.
    pub fn recount(&self, ranges: &BTreeSet<(PoolName, RangeId)>) {
        self.change(|state| state.soonest.retain(|range, _| !ranges.contains(range)));
    }

    /// For the auditor: what it has found.
    pub fn counted(&self, found: impl Iterator<Item = ((PoolName, RangeId), Instant)>) {
        let found: Vec<_> = found.collect();
        self.change(|state| {
            for ((pool, range), due) in found {
                state.may_be_due(&pool, range, due);
            }
        });
    }

    /// For the owner: changes the state.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.inner.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn stand(&self, change: impl FnOnce(&mut Standing)) {
        self.inner.standing.send_modify(change);
    }
}

/// A version of a task as it was written.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    pub value: &'a [u8],
    pub create_revision: Revision,
    pub mod_revision: Revision,
}
