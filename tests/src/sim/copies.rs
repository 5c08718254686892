//! What agents have copied into their stores, held against the shared state: the copy of a range
//! must be what that held at the revision which the copy has come to, whoever holds the range. A
//! standby that misses an edit takes over with the task as it was.

use std::collections::BTreeMap;

use tocktower_cluster::port::{Answer, KeyRange, ListRequest, Request};
use tocktower_cluster::records::{self, Record};
use tocktower_core::ids::{PoolName, RangeId, Revision, TaskName};

use super::checker::Checker;
use super::world::World;

/// What may be on its way: a holder writes every second or two, so more are from long ago.
const OWED_MAX: usize = 8;
/// Revisions of the last two seconds or so.
const LATELY: i64 = 20;

impl World {
    /// Looks at every copy there is, and gives the number of those that stand by.
    pub fn check_copies(&mut self) -> usize {
        let mut standbys = 0;
        for host in 0..self.hosts.len() {
            let at = &self.hosts[host];
            let Some(driver) = at.driver.as_ref().filter(|_| at.paused_until <= self.now) else {
                continue;
            };
            let (copies, held) = (driver.copies(), driver.held());
            standbys += copies.iter().filter(|(range, _)| !held.contains(range)).count();
            for (range, through) in copies {
                match self.owed(range, through) {
                    (0, _) => {}
                    (_, ..=OWED_MAX) => continue,
                    (owed, _) => {
                        let text = format!("h{host} lacks {owed} events of {range:?}, for long");
                        self.truth.violation(Checker::Copies, self.now, text);
                        continue;
                    }
                }
                self.check_copy(host, range, self.whole(range));
            }
            let local = if self.shares { &RangeId::LOCAL[..] } else { &[] };
            for range in local.iter().copied() {
                let keys = self.local(host, range);
                // What is on its way is looked at no more.
                let lately = Revision(self.etcd.revision().0 - LATELY);
                if self.etcd.events(&keys, lately).is_ok_and(|events| events.is_empty()) {
                    self.check_copy(host, range, keys);
                }
            }
        }
        standbys
    }

    fn check_copy(&mut self, host: usize, range: RangeId, keys: KeyRange) {
        let (copied, there) = (self.hosts[host].store.tasks_of(range), self.tasks_in(keys));
        if copied != there {
            let text = format!("h{host} has {copied:?} of {range:?}: {there:?} are there");
            self.truth.violation(Checker::Copies, self.now, text);
        }
    }

    fn local(&self, host: usize, range: RangeId) -> KeyRange {
        match range {
            RangeId::BROADCAST => {
                self.keys.broadcast(&PoolName::parse("default").expect("a good name"))
            }
            _ => self.keys.pins(&self.hosts[host].name),
        }
    }

    fn whole(&self, range: RangeId) -> KeyRange {
        self.keys.range(&PoolName::parse("default").expect("a good name"), range)
    }

    /// Events that a copy has not come to, and how many of them are not of just now.
    fn owed(&self, range: RangeId, through: Revision) -> (usize, usize) {
        let Ok(since) = self.etcd.events(&self.whole(range), through.next()) else { return (0, 0) };
        let lately = Revision(self.etcd.revision().0 - LATELY);
        (since.len(), since.iter().filter(|event| event.revision() <= lately).count())
    }

    fn tasks_in(&mut self, range: KeyRange) -> BTreeMap<TaskName, Revision> {
        let mut rest = range.clone();
        let mut tasks = BTreeMap::new();
        loop {
            let list = ListRequest { range: rest, limit: 1_000, at: None, keys_only: false };
            let list = Request::List(list);
            let Ok(Answer::List { items, more, .. }) = self.etcd.call(&list, self.now) else {
                panic!("a model that is up");
            };
            let Some(last) = items.last().map(|item| item.key.clone()) else { return tasks };
            for item in &items {
                if let Record::Task(task) = records::read(&self.keys, item) {
                    tasks.insert(task.spec.name.clone(), task.revision);
                }
            }
            if !more {
                return tasks;
            }
            rest = range.clone();
            rest.start = last;
            rest.start.push(0);
        }
    }
}
