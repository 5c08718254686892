//! A model of etcd: one ordered map with revisions, leases and a history for watches, doing what
//! etcd does and what it may do: late expiry, a live lease revoked early, compaction behind a
//! watcher. How its answers travel, or get lost, is the world's business.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tocktower_cluster::port::{
    Answer, Compare, Event, KeyRange, KeyValue, ListRequest, Op, OpAnswer, PortError, Request, Txn,
};
use tocktower_core::ids::{LeaseId, Revision};

/// Keys in a page of a list: few, so that lists have pages here too.
const PAGE: usize = 5;

#[derive(Clone, Debug)]
struct Lease {
    ttl: Duration,
    expires_us: u64,
    keys: BTreeSet<Vec<u8>>,
}

/// What one revision changed, and what was there before.
#[derive(Clone, Debug)]
struct Past {
    events: Vec<Event>,
    replaced: Vec<Replaced>,
}

/// A key, and what it was until then.
type Replaced = (Vec<u8>, Option<KeyValue>);

#[derive(Clone, Debug)]
pub struct Etcd {
    items: BTreeMap<Vec<u8>, KeyValue>,
    revision: i64,
    compacted: i64,
    /// What each revision since the last compaction changed.
    history: BTreeMap<i64, Past>,
    /// What the revision that is being made replaces.
    replaced: Vec<Replaced>,
    leases: BTreeMap<LeaseId, Lease>,
    next_lease: i64,
    /// Leases that are gone and are kept alive all the same, until then.
    dead: BTreeMap<LeaseId, (u64, Duration)>,
    /// It is out of space until then.
    pub full_until: u64,
}

impl Default for Etcd {
    fn default() -> Etcd {
        Etcd {
            items: BTreeMap::new(),
            revision: 1,
            compacted: 0,
            history: BTreeMap::new(),
            replaced: Vec::new(),
            leases: BTreeMap::new(),
            next_lease: 1,
            dead: BTreeMap::new(),
            full_until: 0,
        }
    }
}

impl Etcd {
    pub fn revision(&self) -> Revision {
        Revision(self.revision)
    }

    pub fn call(&mut self, request: &Request, now_us: u64) -> Result<Answer, PortError> {
        match request {
            Request::Txn(txn) => {
                let branch = self.holds(&txn.when);
                let plan = self.plan(txn, branch);
                if !plan.iter().all(|planned| self.leases_live(planned)) {
                    return Err(PortError::NoLease);
                }
                let (succeeded, answers) = self.transact(txn);
                Ok(Answer::Txn { revision: self.revision(), succeeded, answers })
            }
            Request::List(list) => self.list(list),
            Request::GrantLease { ttl } => {
                let (lease, ttl) = (LeaseId(self.next_lease), (*ttl).max(Duration::from_secs(2)));
                self.next_lease += 1;
                let expires_us = now_us + micros(ttl);
                self.leases.insert(lease, Lease { ttl, expires_us, keys: BTreeSet::new() });
                Ok(Answer::Lease { lease, ttl })
            }
            Request::KeepAlive { lease }
                if self.dead.get(lease).is_some_and(|(until, _)| now_us < *until) =>
            {
                Ok(Answer::Lease { lease: *lease, ttl: self.dead[lease].1 })
            }
            Request::KeepAlive { lease } => {
                let found = self.leases.get_mut(lease).ok_or(PortError::NoLease)?;
                found.expires_us = now_us + micros(found.ttl);
                Ok(Answer::Lease { lease: *lease, ttl: found.ttl })
            }
            Request::RevokeLease { lease } => {
                self.end_lease(*lease).ok_or(PortError::NoLease)?;
                Ok(Answer::Done { revision: self.revision() })
            }
            Request::Compact { to } if to.0 <= self.compacted => {
                let oldest = Revision(self.compacted);
                Err(PortError::Compacted { asked: *to, oldest })
            }
            Request::Compact { to } if to.0 > self.revision => {
                Err(PortError::Refused("a future revision".to_owned()))
            }
            Request::Compact { to } => {
                self.compact(to.0);
                Ok(Answer::Done { revision: self.revision() })
            }
            Request::Status => {
                let (bytes, version) = (0, "model".to_owned());
                Ok(Answer::Status { revision: self.revision(), bytes, version })
            }
        }
    }

    /// As `call`, of an agent, to whom it may be out of space.
    pub fn serve(&mut self, request: &Request, now_us: u64) -> Result<Answer, PortError> {
        match now_us < self.full_until && takes_space(request) {
            true => Err(PortError::NoSpace),
            false => self.call(request, now_us),
        }
    }

    pub fn compact(&mut self, to: i64) {
        self.compacted = self.compacted.max(to.min(self.revision));
        self.history = self.history.split_off(&(self.compacted + 1));
    }

    /// The first revision that is left.
    pub fn oldest(&self) -> Revision {
        Revision(self.compacted + 1)
    }

    /// Ends the leases whose time has come, and tells whether there were any. etcd is sometimes
    /// late with it: `spare` are kept.
    pub fn expire(&mut self, now_us: u64, spare: bool) -> bool {
        let over: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.expires_us <= now_us)
            .map(|(id, _)| *id)
            .collect();
        if spare {
            return false;
        }
        for lease in &over {
            self.end_lease(*lease);
        }
        !over.is_empty()
    }

    /// Ends a lease, and answers keep-alives of it until then as a member may that does not know.
    pub fn end_unnoticed(&mut self, lease: LeaseId, until_us: u64) {
        if let Some(ttl) = self.leases.get(&lease).map(|lease| lease.ttl) {
            self.dead.insert(lease, (until_us, ttl));
            self.end_lease(lease);
        }
    }

    /// As a leader change does: every lease gets its whole time again.
    pub fn renew_all(&mut self, now_us: u64) {
        for lease in self.leases.values_mut() {
            lease.expires_us = now_us + micros(lease.ttl);
        }
    }

    pub fn lease_ids(&self) -> Vec<LeaseId> {
        self.leases.keys().copied().collect()
    }

    /// As an earlier copy of it was; leases have all their time again, and none is given out twice.
    pub fn put_back(&mut self, copy: Etcd, now_us: u64) {
        let next_lease = self.next_lease;
        *self = Etcd { next_lease, ..copy };
        self.renew_all(now_us);
    }

    pub fn items(&self) -> impl Iterator<Item = &KeyValue> {
        self.items.values()
    }

    pub fn end_lease(&mut self, lease: LeaseId) -> Option<()> {
        let lease = self.leases.remove(&lease)?;
        let mut events = Vec::new();
        let revision = self.revision + 1;
        for key in lease.keys {
            if let Some(gone) = self.items.remove(&key) {
                self.replaced.push((key.clone(), Some(gone)));
                events.push(Event::Delete { key, mod_revision: Revision(revision) });
            }
        }
        self.commit(events);
        Some(())
    }

    /// Events of `range` from revision `from` on. `Err`: what is asked for was compacted.
    pub fn events(&self, range: &KeyRange, from: Revision) -> Result<Vec<Event>, Revision> {
        if from.0 <= self.compacted {
            return Err(Revision(self.compacted + 1));
        }
        let events = self.history.range(from.0..).flat_map(|(_, past)| &past.events);
        Ok(events.filter(|event| range.contains(event.key())).cloned().collect())
    }

    fn list(&self, list: &ListRequest) -> Result<Answer, PortError> {
        let at = list.at.unwrap_or(self.revision());
        if at.0 < self.compacted {
            return Err(PortError::Compacted { asked: at, oldest: Revision(self.compacted) });
        }
        let shown = self.shown_at(&list.range, at);
        let limit = list.limit.min(PAGE);
        let more = shown.len() > limit;
        let items = shown.into_iter().take(limit).collect();
        Ok(Answer::List { revision: at, items, more })
    }

    /// The keys of a range as they were at a revision: today's, with what came later undone.
    fn shown_at(&self, range: &KeyRange, at: Revision) -> Vec<KeyValue> {
        let today = self.items.range(range.start.clone()..range.end.clone());
        let mut shown: BTreeMap<&[u8], KeyValue> =
            today.map(|(key, item)| (key.as_slice(), item.clone())).collect();
        let later = self.history.range(at.0 + 1..).rev();
        for (key, was) in later.flat_map(|(_, past)| past.replaced.iter().rev()) {
            match was {
                Some(item) if range.contains(key) => shown.insert(key, item.clone()),
                Some(_) | None => shown.remove(key.as_slice()),
            };
        }
        shown.into_values().collect()
    }

    fn transact(&mut self, txn: &Txn) -> (bool, Vec<OpAnswer>) {
        let branch = self.holds(&txn.when);
        let mut events = BTreeMap::new();
        let plan = self.plan(txn, branch);
        let answers = self.apply(&plan, &mut events);
        self.commit(events.into_values().collect());
        (branch, answers)
    }

    /// All compares, nested ones included, are looked at before anything is applied.
    fn plan<'a>(&self, txn: &'a Txn, branch: bool) -> Vec<Planned<'a>> {
        let ops = if branch { &txn.then } else { &txn.otherwise };
        ops.iter()
            .map(|op| match op {
                Op::Txn(nested) => {
                    let branch = self.holds(&nested.when);
                    Planned::Nested(branch, self.plan(nested, branch))
                }
                other => Planned::One(other),
            })
            .collect()
    }

    /// A put under a lease that does not exist fails the whole transaction.
    fn leases_live(&self, planned: &Planned<'_>) -> bool {
        match planned {
            Planned::One(Op::Put { lease: Some(lease), .. }) => self.leases.contains_key(lease),
            Planned::One(_) => true,
            Planned::Nested(_, plan) => plan.iter().all(|planned| self.leases_live(planned)),
        }
    }

    fn holds(&self, when: &[Compare]) -> bool {
        when.iter().all(|compare| {
            let (key, at, created) = match compare {
                Compare::Created { key, at } => (key, at, true),
                Compare::Modified { key, at } => (key, at, false),
            };
            let item = self.items.get(key);
            let revision = item.map_or(Revision(0), |item| match created {
                true => item.create_revision,
                false => item.mod_revision,
            });
            revision == *at
        })
    }

    fn apply(
        &mut self,
        plan: &[Planned<'_>],
        events: &mut BTreeMap<Vec<u8>, Event>,
    ) -> Vec<OpAnswer> {
        let revision = Revision(self.revision + 1);
        let mut answers = Vec::new();
        for planned in plan {
            answers.push(match planned {
                Planned::Nested(succeeded, nested) => {
                    let answers = self.apply(nested, events);
                    OpAnswer::Txn { succeeded: *succeeded, answers }
                }
                Planned::One(Op::Get { key }) => OpAnswer::Got(self.items.get(key).cloned()),
                Planned::One(Op::Put { key, value, lease }) => {
                    self.put(key, value, *lease, revision, events);
                    OpAnswer::Put
                }
                Planned::One(Op::Delete { key }) => {
                    let gone = self.items.remove(key);
                    if let Some(lease) = gone.as_ref().and_then(|item| item.lease)
                        && let Some(lease) = self.leases.get_mut(&lease)
                    {
                        lease.keys.remove(key);
                    }
                    let count = u64::from(gone.is_some());
                    if gone.is_some() {
                        self.replaced.push((key.clone(), gone));
                        let event = Event::Delete { key: key.clone(), mod_revision: revision };
                        events.insert(key.clone(), event);
                    }
                    OpAnswer::Deleted { count }
                }
                Planned::One(Op::Txn(_)) => unreachable!("nested transactions are planned"),
            });
        }
        answers
    }

    fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        lease: Option<LeaseId>,
        revision: Revision,
        events: &mut BTreeMap<Vec<u8>, Event>,
    ) {
        let before = self.items.get(key);
        if let Some(old) = before.and_then(|item| item.lease)
            && let Some(old) = self.leases.get_mut(&old)
        {
            old.keys.remove(key);
        }
        let create_revision = before.map_or(revision, |item| item.create_revision);
        if let Some(found) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
            found.keys.insert(key.to_vec());
        }
        let item = KeyValue {
            key: key.to_vec(),
            value: value.to_vec(),
            create_revision,
            mod_revision: revision,
            lease,
        };
        let was = self.items.insert(key.to_vec(), item.clone());
        self.replaced.push((key.to_vec(), was));
        events.insert(key.to_vec(), Event::Put(item));
    }

    fn commit(&mut self, events: Vec<Event>) {
        if !events.is_empty() {
            self.revision += 1;
            let replaced = std::mem::take(&mut self.replaced);
            self.history.insert(self.revision, Past { events, replaced });
        }
    }
}

/// Whether etcd refuses it while it is out of space: what might put something, and leases.
fn takes_space(request: &Request) -> bool {
    fn puts(txn: &Txn) -> bool {
        txn.then.iter().chain(&txn.otherwise).any(|op| match op {
            Op::Put { .. } => true,
            Op::Txn(nested) => puts(nested),
            Op::Get { .. } | Op::Delete { .. } => false,
        })
    }
    match request {
        Request::Txn(txn) => puts(txn),
        Request::GrantLease { .. } => true,
        _ => false,
    }
}

enum Planned<'a> {
    One(&'a Op),
    Nested(bool, Vec<Planned<'a>>),
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).expect("a lease is short")
}
