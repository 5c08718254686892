//! What somebody who follows runs would see of a host, held against what becomes of them.
//!
//! An end that was told can be asked for at any moment from then on: until its row of history is
//! written the core tells of it, and no longer. And an end that a host calls settled is the last
//! word: the run never starts again, and nobody with a higher fence has started it before.

use std::sync::Arc;

use tocktower_core::agent::Settled;
use tocktower_core::agent::effect::BatchNumber;
use tocktower_core::ids::{Fence, RunId};
use tocktower_core::ledger::{Entry, EntryState};
use tocktower_core::run::RunRecord;

use super::checker::Checker;
use super::truth::Started;
use super::world::World;

/// What was told of one host's runs.
#[derive(Default)]
pub struct Followers {
    /// Ends whose batch is not answered; `None`: there was none.
    unwritten: Vec<(Option<BatchNumber>, Arc<RunRecord>)>,
    provisional: Vec<Arc<RunRecord>>,
}

impl Followers {
    /// `batch`: what the same step wrote before it told.
    pub fn told(&mut self, record: Arc<RunRecord>, batch: Option<BatchNumber>) {
        self.provisional.retain(|known| known.id != record.id);
        if record.state.is_end() {
            self.unwritten.push((batch, Arc::clone(&record)));
            self.provisional.push(record);
        }
    }
}

/// A host has called the end of a run settled.
#[derive(Debug)]
pub struct Announced {
    pub run: RunId,
    pub fence: Fence,
    pub at: u64,
}

impl World {
    /// The batch is about to be answered: from then on its rows can be read, up to then not.
    pub fn check_unwritten(&mut self, host: usize, batch: BatchNumber) {
        let followers = &mut self.hosts[host].followers;
        let ends = followers.unwritten.extract_if(.., |(of, _)| of.is_none_or(|of| of <= batch));
        let ends: Vec<RunRecord> = ends.map(|(_, record)| (*record).clone()).collect();
        let Some(driver) = self.hosts[host].driver.as_ref().filter(|_| !ends.is_empty()) else {
            return;
        };
        let known = driver.unstored_runs();
        self.truth.ends_asked_for += ends.len();
        for end in ends.iter().filter(|end| !known.contains(end)) {
            let text = format!("h{host} told the end of {} and knows of none", end.id);
            self.truth.violation(Checker::Durability, self.now, text);
        }
    }

    /// Every host that goes on looks which of the ends that it told are settled.
    pub fn ask_settled(&mut self) {
        for number in 0..self.hosts.len() {
            let host = &mut self.hosts[number];
            let Some(driver) = host.driver.as_ref().filter(|_| host.paused_until <= self.now)
            else {
                continue;
            };
            let mut here = Vec::new();
            host.followers.provisional.retain(|record| {
                let settled = driver.settled(record);
                if settled == Settled::Here {
                    here.push(Arc::clone(record));
                }
                settled == Settled::NotYet
            });
            for record in here {
                let (run, fence, at) = (record.id.clone(), record.fence, self.now);
                self.truth.announced.push(Announced { run, fence, at });
            }
        }
    }

    /// What only one host can run is known to its disk alone: a new one knows nothing of what was
    /// started or called settled before.
    fn forgot(&self, start: &Started, since: u64) -> bool {
        let local = self.truth.home_of(&start.run, &self.keys).local().is_some();
        let first = since.min(start.at);
        local && self.hosts[start.host].disk_lost_at.is_some_and(|at| at > first)
    }

    /// Nothing that came after the backup is known in the epoch after it.
    fn put_back_since(&self, start: &Started, announced: &Announced) -> bool {
        let of = self.truth.put_back.map(|(of, _)| of);
        of.is_some_and(|of| announced.at > of) && start.attempt.fence.epoch > announced.fence.epoch
    }

    /// Settled is settled; and in calm everything is, in time.
    pub fn check_announced(&mut self, calm: bool) {
        let mut wrong = Vec::new();
        for announced in &self.truth.announced {
            let again = self.truth.starts.iter().find(|start| {
                // One that was before may start it yet, until its licence is over; its account is
                // not the one that counts.
                let overtaken = start.attempt.fence > announced.fence;
                let again = start.at > announced.at && start.attempt.fence == announced.fence;
                start.run == announced.run
                    && (again || overtaken)
                    && !self.put_back_since(start, announced)
                    && !self.forgot(start, announced.at)
            });
            if let Some(start) = again {
                wrong.push((start.at, format!("{} was settled and started again", start.run)));
            }
        }
        for host in self.hosts.iter().filter(|_| calm) {
            let closed = host.followers.provisional.iter().filter(|record| {
                // One that is tried again is open, however long that takes.
                let home = self.truth.home_of(&record.id, &self.keys);
                let newest = self.truth.ledgers.get(&home).and_then(|ledgers| ledgers.last());
                let open =
                    |entry: &Entry| entry.run == record.id && entry.state != EntryState::Ended;
                !newest.is_some_and(|(_, ledger)| ledger.open.iter().any(open))
            });
            let end = self.wall().instant().minus(std::time::Duration::from_secs(15));
            // An edit may put the due of one that has ended off: then that has to be covered first.
            let old = closed.filter(|record| record.due.instant() < end).filter(|record| {
                let ends = self.truth.ends.get(&record.id);
                ends.is_some_and(|ends| ends.iter().all(|(_, at)| at + 15_000_000 < self.now))
            });
            wrong.extend(
                old.map(|record| (self.now, format!("{} is not settled: {record:?}", record.id))),
            );
        }
        for (at, text) in wrong {
            self.truth.violation(Checker::Durability, at, text);
        }
    }
}
