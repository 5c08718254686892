//! Requests applied to one write transaction of redb, durable for all of them at once.
//!
//! A request is refused before it has written anything, or else applied whole, so that one bad
//! request never takes the others of its batch down. A transaction goes as etcd's does: first every
//! compare, nested ones included, is evaluated against the state before the transaction, and the
//! branches to take are known; then the leases of its puts are checked; then the operations run in
//! order, and a get sees what those before it have written. All of it is one revision, and one that
//! writes nothing leaves the revision as it is.

use std::time::Duration;

use redb::{ReadableTable, StorageError, Table, WriteTransaction};
use tocktower_core::ids::{LeaseId, Revision};
use tocktower_core::time::Mono;

use super::check;
use super::disk::{self, Malformed};
use super::history::{Change, Committed, History, Past};
use super::leases::{Leases, TTL_MAX, TTL_MIN};
use crate::port::{Answer, Compare, Event, KeyValue, ListRequest, Op, OpAnswer, PortError, Txn};

/// Why a request was not applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The request is at fault; the batch goes on.
    #[error(transparent)]
    Refused(PortError),
    /// The disk is; nothing of the batch happened.
    #[error("{0}")]
    Disk(String),
}

impl From<PortError> for Fault {
    fn from(error: PortError) -> Fault {
        Fault::Refused(error)
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Fault {
        Fault::Disk(error.to_string())
    }
}

impl From<redb::TableError> for Fault {
    fn from(error: redb::TableError) -> Fault {
        Fault::Disk(error.to_string())
    }
}

impl From<Malformed> for Fault {
    fn from(error: Malformed) -> Fault {
        Fault::Disk(error.to_string())
    }
}

type Bytes<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// Which branch a transaction takes, and each nested one of that branch, in order.
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

impl Path {
    fn branch<'a>(&self, txn: &'a Txn) -> &'a [Op] {
        if self.succeeded { &txn.then } else { &txn.otherwise }
    }
}

pub(super) struct Batch<'t> {
    keys: Bytes<'t>,
    leases: Bytes<'t>,
    lease_keys: Bytes<'t>,
    meta: Bytes<'t>,
    revision: Revision,
    compacted: Revision,
    /// What this batch has written, not on disk yet.
    committed: Vec<Committed>,
    changes: Vec<Change>,
    dirty: bool,
}

impl<'t> Batch<'t> {
    pub(super) fn begin(transaction: &'t WriteTransaction) -> Result<Batch<'t>, Fault> {
        let meta = transaction.open_table(disk::META)?;
        let mut batch = Batch {
            keys: transaction.open_table(disk::KEYS)?,
            leases: transaction.open_table(disk::LEASES)?,
            lease_keys: transaction.open_table(disk::LEASE_KEYS)?,
            meta,
            revision: Revision(0),
            compacted: Revision(0),
            committed: Vec::new(),
            changes: Vec::new(),
            dirty: false,
        };
        // An empty etcd is at revision 1.
        batch.revision = Revision(batch.number(disk::REVISION)?.unwrap_or(1));
        batch.compacted = Revision(batch.number(disk::COMPACTED)?.unwrap_or(0));
        Ok(batch)
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Hands over what was written; `None`: nothing, there is nothing to commit.
    pub(super) fn finish(mut self) -> Result<Option<Vec<Committed>>, Fault> {
        if !self.dirty {
            return Ok(None);
        }
        self.set_number(disk::REVISION, self.revision.0)?;
        Ok(Some(self.committed))
    }

    pub(super) fn txn(&mut self, txn: &Txn) -> Result<Answer, Fault> {
        check::txn(txn)?;
        let path = self.path(txn)?;
        self.leases_exist(txn, &path)?;
        let answers = self.apply(txn, &path)?;
        let revision = self.seal();
        Ok(Answer::Txn { revision, succeeded: path.succeeded, answers })
    }

    pub(super) fn list(
        &mut self,
        request: &ListRequest,
        history: &History,
    ) -> Result<Answer, Fault> {
        check::list(request)?;
        let past = match request.at {
            Some(at) => self.past(request, at, history)?,
            None => Past::new(),
        };
        let mut past = past.into_iter().peekable();
        let range = request.range.start.as_slice()..request.range.end.as_slice();
        let mut items = Vec::new();
        let mut found = |item: KeyValue| {
            items.push(item);
            items.len() > request.limit
        };
        let mut full = false;
        for row in self.keys.range::<&[u8]>(range)? {
            let (key, value) = row?;
            // Keys that have gone since come before the key that is still there.
            while let Some((_, then)) = past.next_if(|(old, _)| old.as_slice() < key.value()) {
                full = full || then.is_some_and(&mut found);
            }
            let changed = past.next_if(|(old, _)| old.as_slice() == key.value());
            let item = match changed {
                Some((_, then)) => then,
                None => Some(disk::record(key.value(), value.value())?),
            };
            full = full || item.is_some_and(&mut found);
            if full {
                break;
            }
        }
        for (_, then) in past {
            full = full || then.is_some_and(&mut found);
        }
        items.truncate(request.limit);
        if request.keys_only {
            items.iter_mut().for_each(|item| item.value = Vec::new());
        }
        Ok(Answer::List { revision: request.at.unwrap_or(self.revision), items, more: full })
    }

    pub(super) fn grant(
        &mut self,
        ttl: Duration,
        leases: &mut Leases,
        now: Mono,
    ) -> Result<Answer, Fault> {
        let ttl = ttl.clamp(TTL_MIN, TTL_MAX);
        let lease = LeaseId(self.number(disk::LEASE)?.unwrap_or(0) + 1);
        self.set_number(disk::LEASE, lease.0)?;
        let ms = i64::try_from(ttl.as_millis()).expect("ten years of milliseconds fit");
        self.leases.insert(&lease.0.to_be_bytes()[..], &disk::number_bytes(ms)[..])?;
        leases.start(lease, ttl, now);
        Ok(Answer::Lease { lease, ttl })
    }

    /// Deletes the lease and its keys, in one revision.
    pub(super) fn revoke(&mut self, lease: LeaseId, leases: &mut Leases) -> Result<Answer, Fault> {
        if !leases.remove(lease) {
            return Err(PortError::NoLease.into());
        }
        let first = disk::lease_key(lease, &[]);
        let mut keys = Vec::new();
        for row in self.lease_keys.range::<&[u8]>(first.as_slice()..)? {
            let (key, _) = row?;
            match key.value().strip_prefix(first.as_slice()) {
                Some(key) => keys.push(key.to_vec()),
                None => break,
            }
        }
        for key in keys {
            self.delete(&key)?;
        }
        self.leases.remove(first.as_slice())?;
        self.dirty = true;
        Ok(Answer::Done { revision: self.seal() })
    }

    pub(super) fn compact(&mut self, to: Revision, history: &History) -> Result<Answer, Fault> {
        if to > self.revision {
            return Err(PortError::Refused("required revision is a future revision".into()).into());
        }
        if to <= self.compacted {
            return Err(PortError::Compacted { asked: to, oldest: self.compacted }.into());
        }
        self.set_number(disk::COMPACTED, to.0)?;
        self.compacted = to;
        history.compact(to);
        Ok(Answer::Done { revision: self.revision })
    }

    /// The leases on disk with their time to live.
    pub(super) fn stored_leases(&self) -> Result<Vec<(LeaseId, Duration)>, Fault> {
        let mut leases = Vec::new();
        for row in self.leases.iter()? {
            let (key, value) = row?;
            let ms = disk::number("leases", key.value(), value.value())?;
            let ttl = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            leases.push((disk::lease_of(key.value())?, ttl));
        }
        Ok(leases)
    }

    fn past(
        &self,
        request: &ListRequest,
        at: Revision,
        history: &History,
    ) -> Result<Past, PortError> {
        if at > self.revision {
            return Err(PortError::Refused("required revision is a future revision".into()));
        }
        if at < self.compacted {
            return Err(PortError::Compacted { asked: at, oldest: self.compacted });
        }
        let mut past = Past::new();
        let later = self.committed.iter().rev().take_while(|one| one.revision > at);
        later.for_each(|one| one.undo(&request.range, &mut past));
        history.undo(&request.range, at, &mut past)?;
        Ok(past)
    }

    fn path(&self, txn: &Txn) -> Result<Path, Fault> {
        let mut path = Path { succeeded: true, nested: Vec::new() };
        for compare in &txn.when {
            path.succeeded = path.succeeded && self.holds(compare)?;
        }
        for op in path.branch(txn) {
            if let Op::Txn(nested) = op {
                path.nested.push(self.path(nested)?);
            }
        }
        Ok(path)
    }

    fn holds(&self, compare: &Compare) -> Result<bool, Fault> {
        let none = Revision(0);
        Ok(match compare {
            Compare::Created { key, at } => {
                *at == self.get(key)?.map_or(none, |item| item.create_revision)
            }
            Compare::Modified { key, at } => {
                *at == self.get(key)?.map_or(none, |item| item.mod_revision)
            }
        })
    }

    fn leases_exist(&self, txn: &Txn, path: &Path) -> Result<(), Fault> {
        let mut nested_paths = path.nested.iter();
        for op in path.branch(txn) {
            match op {
                Op::Put { lease: Some(lease), .. } => {
                    if self.leases.get(&lease.0.to_be_bytes()[..])?.is_none() {
                        return Err(PortError::NoLease.into());
                    }
                }
                Op::Txn(nested) => {
                    let path = nested_paths.next().expect("a path for every nested transaction");
                    self.leases_exist(nested, path)?;
                }
                Op::Put { .. } | Op::Get { .. } | Op::Delete { .. } => {}
            }
        }
        Ok(())
    }

    fn apply(&mut self, txn: &Txn, path: &Path) -> Result<Vec<OpAnswer>, Fault> {
        let mut nested_paths = path.nested.iter();
        let mut answers = Vec::with_capacity(path.branch(txn).len());
        for op in path.branch(txn) {
            answers.push(match op {
                Op::Get { key } => OpAnswer::Got(self.get(key)?),
                Op::Put { key, value, lease } => {
                    self.put(key, value, *lease)?;
                    OpAnswer::Put
                }
                Op::Delete { key } => OpAnswer::Deleted { count: self.delete(key)? },
                Op::Txn(nested) => {
                    let path = nested_paths.next().expect("a path for every nested transaction");
                    let answers = self.apply(nested, path)?;
                    OpAnswer::Txn { succeeded: path.succeeded, answers }
                }
            });
        }
        Ok(answers)
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Fault> {
        let Some(value) = self.keys.get(key)? else {
            return Ok(None);
        };
        Ok(Some(disk::record(key, value.value())?))
    }

    fn put(&mut self, key: &[u8], value: &[u8], lease: Option<LeaseId>) -> Result<(), Fault> {
        let revision = self.revision.next();
        let previous = self.get(key)?;
        let item = KeyValue {
            key: key.to_vec(),
            value: value.to_vec(),
            create_revision: previous.as_ref().map_or(revision, |item| item.create_revision),
            mod_revision: revision,
            lease,
        };
        self.keys.insert(key, disk::record_bytes(&item).as_slice())?;
        let before = previous.as_ref().and_then(|item| item.lease);
        if before != lease {
            self.detach(before, key)?;
            if let Some(lease) = lease {
                let row = disk::lease_key(lease, key);
                self.lease_keys.insert(row.as_slice(), disk::LEASE_KEY_VALUE)?;
            }
        }
        self.changes.push(Change { event: Event::Put(item), previous });
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<u64, Fault> {
        let Some(previous) = self.get(key)? else {
            return Ok(0);
        };
        self.keys.remove(key)?;
        self.detach(previous.lease, key)?;
        let event = Event::Delete { key: key.to_vec(), mod_revision: self.revision.next() };
        self.changes.push(Change { event, previous: Some(previous) });
        Ok(1)
    }

    fn detach(&mut self, lease: Option<LeaseId>, key: &[u8]) -> Result<(), Fault> {
        if let Some(lease) = lease {
            self.lease_keys.remove(disk::lease_key(lease, key).as_slice())?;
        }
        Ok(())
    }

    /// Makes what was written since the last one a revision, if anything was.
    fn seal(&mut self) -> Revision {
        if !self.changes.is_empty() {
            self.revision = self.revision.next();
            self.dirty = true;
            let changes = std::mem::take(&mut self.changes);
            self.committed.push(Committed::new(self.revision, changes));
        }
        self.revision
    }

    fn number(&self, name: &[u8]) -> Result<Option<i64>, Fault> {
        let Some(value) = self.meta.get(name)? else {
            return Ok(None);
        };
        Ok(Some(disk::number("meta", name, value.value())?))
    }

    fn set_number(&mut self, name: &[u8], number: i64) -> Result<(), Fault> {
        self.meta.insert(name, disk::number_bytes(number).as_slice())?;
        self.dirty = true;
        Ok(())
    }
}
