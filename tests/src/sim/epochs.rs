//! etcd put back from a backup, and the epoch that an operator raises then (docs/restore.md).
//!
//! The backup is a copy of the model. Seconds later etcd is that copy again, and some time after
//! that the cluster's record is put in its new epoch and the leases of the old one are ended, as
//! `tocktower raise-epoch --evict` does. In every other such walk the operator stops all agents
//! before; else they go on, and have to notice by themselves. An agent that has seen nothing of
//! what came after the backup cannot notice, nor one that finds etcd at a revision past all that it
//! has seen, which is why the steps of the page begin with a stop: such a one is down until the
//! epoch is raised, from the moment at which it would reach etcd.
//!
//! Which cluster an agent begins in, and whether it stands by, is decided by the shell around the
//! driver (`agent::cluster`), which no walk runs: `join` and `compare` are that in few words.

use tocktower_cluster::agents::{AgentOps, Identity};
use tocktower_cluster::cluster::{self, Cluster};
use tocktower_cluster::keys::{Keys, PREFIX};
use tocktower_cluster::port::{Op, Request, Txn};
use tocktower_core::agent::effect::ExitReason;
use tocktower_core::ids::{Epoch, Revision};
use tocktower_core::time::Wall;

use super::checker::Checker;
use super::etcd::Etcd;
use super::fault::Fault;
use super::world::{SECOND, World};

/// Between the backup and its end: enough for every store to have noted a later revision.
const GAP: (u64, u64) = (4 * SECOND, 10 * SECOND);
/// Between that and the raise.
const UNRAISED: (u64, u64) = (SECOND, 8 * SECOND);
const RETRY: u64 = SECOND;

/// What a store knows of its cluster.
#[derive(Clone, PartialEq, Debug)]
pub struct Known {
    pub cluster: Cluster,
    pub put_back: bool,
}

/// What an agent begins with.
pub struct Joined {
    pub epoch: Epoch,
    pub began: Wall,
    /// When the cluster's record was put, where there is one.
    pub record: Option<Revision>,
    pub seen: Revision,
}

impl Joined {
    /// Walks without a backup have no record, and one epoch.
    fn only() -> Joined {
        Joined { epoch: Epoch(1), began: Wall::MIN, record: None, seen: Revision(0) }
    }

    pub fn ops(&self, keys: Keys, identity: Identity) -> AgentOps {
        let ops = AgentOps::new(keys, identity, self.epoch);
        match self.record {
            Some(record) => ops.of_record(record),
            None => ops,
        }
    }

    pub fn of(cluster: &Cluster, seen: Revision) -> Joined {
        let (epoch, began) = (cluster.epoch, cluster.epoch_began);
        Joined { epoch, began, record: Some(cluster.revision), seen }
    }
}

/// What became of the shared state as a whole.
#[derive(Default)]
pub struct Epochs {
    /// The cluster has a record, and is put back once.
    restores: bool,
    backup: Option<(u64, Etcd)>,
    pub put_back_at: Option<u64>,
    /// The revision that etcd was put back to.
    put_back_to: Revision,
    raised: bool,
}

impl Epochs {
    /// Nothing is to be trusted, and whoever knows asks nothing.
    pub fn is_open(&self) -> bool {
        self.put_back_at.is_some() && !self.raised
    }

    /// Whether who has seen this cannot know that etcd was put back, now that it is at `revision`.
    fn is_blind(&self, seen: Revision, revision: Revision) -> bool {
        self.is_open() && seen <= revision
    }

    /// Whether a request of this time was on its way when etcd was put back.
    pub fn broke_since(&self, sent: u64) -> bool {
        self.put_back_at.is_some_and(|at| sent <= at)
    }

    pub fn epoch(&self) -> Epoch {
        Epoch(if self.raised { 2 } else { 1 })
    }
}

/// What an agent is to its cluster while it runs.
#[derive(Default)]
pub struct Standing {
    /// It stands by: the shared state is closed to it.
    pub closed: bool,
    /// It began without the record, and compares as soon as it can.
    compares: bool,
}

impl World {
    /// etcd will be put back once in this walk.
    pub fn restore(&mut self) {
        self.epochs.restores = true;
        let value = cluster::new_record("sim".to_owned(), self.keys.ranges());
        let put = Op::Put { key: cluster::key(PREFIX), value, lease: None };
        let put = Txn { then: vec![put], ..Txn::default() };
        self.etcd.call(&Request::Txn(put), self.now).expect("a model that is up");
        let at = self.rng.between(8 * SECOND, 18 * SECOND);
        let back = at + self.rng.between(GAP.0, GAP.1);
        let raise = back + self.rng.between(UNRAISED.0, UNRAISED.1);
        let stopped = self.rng.chance(500);
        self.add_fault(at, Fault::BackUp);
        self.add_fault(back, Fault::PutBack { stopped });
        self.add_fault(raise, Fault::RaiseEpoch);
    }

    pub(super) fn back_up(&mut self) {
        self.epochs.backup = Some((self.now, self.etcd.clone()));
    }

    pub(super) fn put_back(&mut self, stopped: bool) {
        let Some((of, etcd)) = self.epochs.backup.take() else { return };
        self.etcd.put_back(etcd, self.now);
        self.etcd_seen = self.etcd.revision();
        self.etcd_down_until = self.etcd_down_until.max(self.now + SECOND / 2);
        self.epochs.put_back_at = Some(self.now);
        self.epochs.put_back_to = self.etcd.revision();
        self.truth.put_back(of, self.etcd.revision(), self.now);
        for host in 0..self.hosts.len() {
            self.hosts[host].disturbed = true;
            let driver = self.hosts[host].driver.as_ref();
            let back_to = self.epochs.put_back_to;
            match driver.map(|driver| stopped || self.epochs.is_blind(driver.seen(), back_to)) {
                Some(true) => self.stop(host),
                Some(false) => self.end_watches(host),
                None => {}
            }
        }
    }

    pub(super) fn raise_epoch(&mut self) {
        let key = cluster::key(PREFIX);
        let item = self.etcd.items().find(|item| item.key == key).expect("it was put");
        let raise = cluster::raise(item, self.wall()).expect("a record that was put");
        self.etcd.call(&Request::Txn(raise), self.now).expect("a model that is up");
        self.epochs.raised = true;
        for lease in self.etcd.lease_ids() {
            self.etcd.end_lease(lease);
        }
        self.changed();
        self.truth.epoch = self.epochs.epoch();
        self.truth.raised = Some((self.now, self.wall()));
        for host in 0..self.hosts.len() {
            self.start_host(host, SECOND);
        }
    }

    /// An agent that reaches etcd while it cannot know that this was put back is stopped, until the
    /// epoch is raised. `true`: so was this one.
    pub(super) fn keep_down(&mut self, host: usize) -> bool {
        let driver = self.hosts[host].driver.as_ref();
        let blind =
            driver.is_some_and(|driver| self.epochs.is_blind(driver.seen(), self.etcd.revision()));
        if blind {
            self.truth.note(self.now, || format!("h{host} cannot know, and is stopped"));
            self.stop(host);
            self.start_host(host, RETRY);
        }
        blind
    }

    /// The process is killed; for what only its host can run this is a crash.
    fn stop(&mut self, host: usize) {
        self.hosts[host].crashed = true;
        self.halt(host);
    }

    fn found(&self, host: usize) -> Option<(Cluster, Revision)> {
        if !self.reaches(host) {
            return None;
        }
        let key = cluster::key(PREFIX);
        let item = self.etcd.items().find(|item| item.key == key)?;
        let found = cluster::read_item(item).expect("a record that was put");
        Some((found, self.etcd.revision()))
    }

    /// The cluster that an agent begins in. `None`: not yet, and it tries again.
    pub(super) fn join(&mut self, host: usize) -> Option<Joined> {
        if !self.epochs.restores {
            return Some(Joined::only());
        }
        let joined = self.joined(host);
        if joined.is_none() {
            self.start_host(host, RETRY);
        }
        joined
    }

    fn joined(&mut self, host: usize) -> Option<Joined> {
        let found = self.found(host);
        let open = self.epochs.is_open();
        let at = &mut self.hosts[host];
        at.standing = Standing::default();
        let (known, seen) = at.store.cluster();
        let noted = known.as_ref().is_some_and(|known| known.put_back);
        if self.epochs.is_blind(seen, self.epochs.put_back_to) && !noted {
            return None;
        }
        let goes_on = !at.store.pins_before().is_empty();
        match (known, found) {
            (Some(known), None) if goes_on => {
                at.standing = Standing { closed: known.put_back, compares: true };
                Some(Joined::of(&known.cluster, seen))
            }
            (_, None) => None,
            (Some(known), Some((found, now))) => match judge(&known, seen, &found, now) {
                // What it has seen was overtaken: it cannot know better.
                Verdict::Same if open => None,
                Verdict::Same => Some(Joined::of(&found, seen)),
                Verdict::Raised => Some(at.store.begin(found)),
                Verdict::PutBack => {
                    at.store.note_put_back();
                    at.standing = Standing { closed: true, compares: true };
                    goes_on.then(|| Joined::of(&known.cluster, seen))
                }
            },
            (None, Some((found, _))) => Some(at.store.begin(found)),
        }
    }

    /// An agent that began without the record compares, and one that stands by looks whether the
    /// epoch was raised. Each notes what it has seen.
    pub(super) fn compare(&mut self, host: usize) {
        let found = self.found(host);
        let at = &mut self.hosts[host];
        let Some(driver) = at.driver.as_ref().filter(|_| self.epochs.restores) else { return };
        at.store.note_seen(driver.seen());
        let (Some((found, now)), true) = (found, at.standing.compares) else { return };
        let (Some(known), seen) = at.store.cluster() else { return };
        let verdict = judge(&known, seen, &found, now);
        let ends = match verdict {
            Verdict::Same => {
                at.standing.compares = false;
                false
            }
            Verdict::Raised => true,
            Verdict::PutBack => {
                at.store.note_put_back();
                !at.standing.closed
            }
        };
        if ends {
            self.truth.note(self.now, || format!("h{host} ends: {verdict:?}"));
            self.stop(host);
            self.start_host(host, RETRY);
        }
    }

    /// What is decided in the new epoch is decided by what was listed in it: a task that came after
    /// the backup is none there, also on a host whose store still has it.
    pub(super) fn check_epochs(&mut self) {
        let Some((_, back)) = self.truth.put_back else { return };
        let mut wrong = Vec::new();
        for start in self.truth.starts.iter().filter(|at| at.attempt.fence.epoch > Epoch(1)) {
            let key = (start.run.task.clone(), start.run.incarnation);
            if self.truth.lives.get(&key).is_some_and(|life| life.deleted == Some(back)) {
                wrong.push((start.at, format!("{} started, and the backup has none", start.run)));
            }
        }
        for (at, text) in wrong {
            self.truth.violation(Checker::Phantom, at, text);
        }
    }

    /// A driver has come to its end.
    pub(super) fn exited(&mut self, host: usize, reason: &ExitReason) {
        self.truth.note(self.now, || format!("h{host} exits {reason:?}"));
        let went_back = matches!(reason, ExitReason::WentBack { .. });
        let raised = matches!(reason, ExitReason::EpochRaised);
        let since = self.epochs.put_back_at;
        if went_back && since.is_none() || raised && !self.epochs.raised {
            let text = format!("h{host} believes that etcd was put back: {reason:?}");
            self.truth.violation(Checker::Liveness, self.now, text);
        }
        if went_back {
            self.hosts[host].store.note_put_back();
        }
        let back = self.hosts[host].back_after.take().unwrap_or(SECOND);
        match went_back || raised {
            true => self.stop(host),
            false => self.halt(host),
        }
        self.start_host(host, back);
    }
}

/// What a record is to a store that knows its cluster.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Verdict {
    Same,
    Raised,
    PutBack,
}

fn judge(known: &Known, seen: Revision, found: &Cluster, now: Revision) -> Verdict {
    if found.epoch > known.cluster.epoch {
        return Verdict::Raised;
    }
    let back = found.epoch < known.cluster.epoch || now < seen || known.put_back;
    if back { Verdict::PutBack } else { Verdict::Same }
}
