//! What a coordinator writes to stay a member, and to know that its copy is whole: its lease, its
//! address for agents, its beats, the common beat, and the compaction of etcd.
//!
//! One task, one write at a time, so that revisions in its answers only grow. If they do not, etcd
//! was put back from a backup under us, and nothing this process remembers can be trusted: it stops
//! and says so (ledger.md, "etcd put back from a backup"), as it does when the epoch was raised.
//!
//! Compaction is done by whoever finds the last one a minute old and wins the compare; it goes only
//! to a revision that is a minute old itself, since some versions of etcd skip events for watchers
//! that are behind a compaction (W4).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tocktower_cluster::cluster::Cluster;
use tocktower_cluster::keys::Key;
use tocktower_cluster::port::{Answer, Compare, Op, Port, PortError, Request, Txn};
use tocktower_core::ids::{CoordinatorId, Epoch, LeaseId, Revision};
use tocktower_core::time::Mono;
use tocktower_proto::convert::encode_record;
use tocktower_proto::store;
use tokio::sync::mpsc;

use super::{Catalog, Note};
use crate::clock;
use crate::stop::Stop;

const BEAT_EVERY: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(500);
/// The common beat is written when it is this old.
const SHARED_BEAT_AGE: Duration = Duration::from_secs(1);
/// What is written under the lease is gone this long after the process is.
const LEASE_TTL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(3);
/// A write that takes longer is given up; the next beat tells how things stand.
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// How old the last compaction is before the next, and how old what it compacts to.
const COMPACT_AGE: Duration = Duration::from_secs(60);
/// Ledgers write whole records every second: after this much of them etcd is compacted sooner.
const COMPACT_BYTES: u64 = 64 * 1_024 * 1_024;
/// How often the revision is noted, to know which one is a minute old.
const NOTE_EVERY: Duration = Duration::from_secs(5);
const NOTES_MAX: usize = 64;

pub struct KeeperConfig {
    pub id: CoordinatorId,
    /// Where agents reach this coordinator.
    pub address: String,
    /// As it was when this process read it.
    pub cluster: Cluster,
    pub compact: bool,
}

/// What this process remembers is of another life of the shared state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Outdated {
    #[error(
        "the shared state is at revision {}, but {} was seen before: it was put back from a \
         backup. Stop all daemons, raise the cluster's epoch with `tocktower raise-epoch`, then \
         start them again",
        now.0, seen.0
    )]
    PutBack { seen: Revision, now: Revision },
    #[error("the cluster's epoch {} is over, it was raised: start again", was.0)]
    Raised { was: Epoch },
}

pub struct Keeper {
    config: KeeperConfig,
    catalog: Catalog,
    port: Arc<dyn Port>,
    notes: mpsc::Sender<Note>,
    lease: Option<LeaseId>,
    registered: bool,
    beats: u64,
    seen: Revision,
    next_beat: Mono,
    next_keep_alive: Mono,
    next_note: Mono,
    /// Revisions with the moment at which they were known, the oldest first.
    known: VecDeque<(Mono, Revision)>,
    troubled: bool,
}

enum Wrong {
    Port(PortError),
    Outdated(Outdated),
}

impl From<PortError> for Wrong {
    fn from(error: PortError) -> Wrong {
        Wrong::Port(error)
    }
}

impl Keeper {
    pub fn new(
        config: KeeperConfig,
        catalog: Catalog,
        port: Arc<dyn Port>,
        notes: mpsc::Sender<Note>,
    ) -> Keeper {
        Keeper {
            config,
            catalog,
            port,
            notes,
            lease: None,
            registered: false,
            beats: 0,
            seen: Revision(0),
            next_beat: Mono::default(),
            next_keep_alive: Mono::default(),
            next_note: Mono::default(),
            known: VecDeque::new(),
            troubled: false,
        }
    }

    /// Runs until it is stopped, or until the shared state is found to have gone back.
    pub async fn keep(mut self, mut stop: Stop) -> Result<(), Outdated> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.stopped() => {
                    self.leave().await;
                    return Ok(());
                }
            }
            match self.step().await {
                Ok(()) if self.troubled => {
                    self.troubled = false;
                    tracing::info!("the shared state answers again");
                }
                Ok(()) => {}
                Err(Wrong::Outdated(outdated)) => return Err(outdated),
                Err(Wrong::Port(PortError::NoLease)) => self.lost_lease(),
                Err(Wrong::Port(error)) => {
                    if !self.troubled {
                        tracing::warn!(%error, "the shared state does not answer");
                    }
                    self.troubled = true;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<(), Wrong> {
        let now = clock::mono();
        let lease = match self.lease {
            Some(lease) => lease,
            None => self.grant().await?,
        };
        if self.next_keep_alive <= now {
            self.call(Request::KeepAlive { lease }).await?;
            self.next_keep_alive = now.plus(KEEP_ALIVE_EVERY);
        }
        if !self.registered {
            self.register(lease).await?;
        }
        if self.next_beat <= now {
            self.beat(lease, now).await?;
            self.next_beat = now.plus(BEAT_EVERY);
        }
        if self.catalog.standing().listed {
            if self.catalog.epoch() != self.config.cluster.epoch {
                return Err(self.raised());
            }
            self.shared_beat(now).await?;
            if self.config.compact {
                self.compact(now).await?;
            }
        }
        Ok(())
    }

    async fn call(&mut self, request: Request) -> Result<Answer, Wrong> {
        let answer = tokio::time::timeout(CALL_WITHIN, self.port.call(request)).await;
        let late = || PortError::Unknown(format!("no answer within {CALL_WITHIN:?}"));
        Ok(answer.unwrap_or_else(|_| Err(late()))?)
    }

    /// A transaction; its revision must not be below one that was seen.
    async fn write(&mut self, txn: Txn) -> Result<(Revision, bool), Wrong> {
        match self.call(Request::Txn(txn)).await? {
            Answer::Txn { revision, succeeded, .. } => {
                let delivered = self.catalog.standing().delivered;
                if revision < self.seen {
                    let put_back = Outdated::PutBack { seen: self.seen, now: revision };
                    return Err(Wrong::Outdated(put_back));
                }
                self.seen = revision.max(delivered);
                Ok((revision, succeeded))
            }
            other => {
                Err(PortError::Unknown(format!("not a transaction's answer: {other:?}")).into())
            }
        }
    }

    async fn grant(&mut self) -> Result<LeaseId, Wrong> {
        match self.call(Request::GrantLease { ttl: LEASE_TTL }).await? {
            Answer::Lease { lease, .. } => {
                self.lease = Some(lease);
                self.next_keep_alive = clock::mono().plus(KEEP_ALIVE_EVERY);
                Ok(lease)
            }
            other => Err(PortError::Unknown(format!("not a lease's answer: {other:?}")).into()),
        }
    }

    fn lost_lease(&mut self) {
        tracing::warn!("the lease of this coordinator is gone; it registers again");
        self.lease = None;
        self.registered = false;
        self.next_beat = Mono::default();
    }

    async fn register(&mut self, lease: LeaseId) -> Result<(), Wrong> {
        let record = store::CoordinatorRecord {
            address: self.config.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let key = self.catalog.keys().build(&Key::Coordinator(self.config.id.clone()));
        let mut txn = put(key, encode_record(&record), Some(lease));
        let (key, at) = (self.catalog.keys().build(&Key::Cluster), self.config.cluster.revision);
        txn.when.push(Compare::Modified { key, at });
        self.registered = self.write(txn).await?.1;
        if !self.registered {
            return Err(self.raised());
        }
        Ok(())
    }

    fn raised(&self) -> Wrong {
        Wrong::Outdated(Outdated::Raised { was: self.config.cluster.epoch })
    }

    async fn beat(&mut self, lease: LeaseId, now: Mono) -> Result<(), Wrong> {
        self.beats += 1;
        let writer = self.config.id.to_string();
        let record = store::BeatRecord { writer, count: self.beats };
        let key = self.catalog.keys().build(&Key::CoordinatorBeat(self.config.id.clone()));
        // The owner stops when this task does; who listens no more needs no note.
        let _ = self.notes.send(Note::Sent { count: self.beats, at: now }).await;
        let (revision, _) = self.write(put(key, encode_record(&record), Some(lease))).await?;
        let _ = self.notes.send(Note::Answered { revision }).await;
        if self.next_note <= now {
            self.next_note = now.plus(NOTE_EVERY);
            if self.known.len() >= NOTES_MAX {
                self.known.pop_front();
            }
            self.known.push_back((now, revision));
        }
        Ok(())
    }

    /// A failed compare: another wrote it.
    async fn shared_beat(&mut self, now: Mono) -> Result<(), Wrong> {
        let known = self.catalog.look(|state| state.shared_beat);
        if known.is_some_and(|known| now.since(known.seen) < SHARED_BEAT_AGE) {
            return Ok(());
        }
        let key = self.catalog.keys().build(&Key::Beat);
        let at = known.map_or(Revision(0), |known| known.mod_revision);
        let record = store::BeatRecord { writer: self.config.id.to_string(), count: self.beats };
        let mut txn = put(key.clone(), encode_record(&record), None);
        txn.when.push(Compare::Modified { key, at });
        self.write(txn).await?;
        Ok(())
    }

    async fn compact(&mut self, now: Mono) -> Result<(), Wrong> {
        let old = |(at, _): &&(Mono, Revision)| now.since(*at) >= COMPACT_AGE;
        let Some((_, to)) = self.known.iter().rev().find(old).copied() else { return Ok(()) };
        let (known, bytes) = self.catalog.look(|state| (state.compact, state.ledger_bytes));
        let young = known.is_some_and(|known| now.since(known.seen) < COMPACT_AGE);
        if (young && bytes < COMPACT_BYTES) || known.is_some_and(|known| known.value >= to.0) {
            return Ok(());
        }
        let key = self.catalog.keys().build(&Key::Compact);
        let at = known.map_or(Revision(0), |known| known.mod_revision);
        let mut txn =
            put(key.clone(), encode_record(&store::CompactRecord { revision: to.0 }), None);
        txn.when.push(Compare::Modified { key, at });
        if let (_, true) = self.write(txn).await? {
            match self.call(Request::Compact { to }).await {
                Ok(_) => tracing::info!(revision = to.0, "compacted"),
                // Somebody else was there first.
                Err(Wrong::Port(PortError::Compacted { .. })) => {}
                Err(wrong) => return Err(wrong),
            }
        }
        Ok(())
    }

    /// Takes this coordinator off the list at once, instead of when its lease ends.
    async fn leave(&mut self) {
        if let Some(lease) = self.lease.take() {
            let revoke = self.port.call(Request::RevokeLease { lease });
            // Gone either way: the lease ends by itself.
            let _ = tokio::time::timeout(Duration::from_secs(1), revoke).await;
        }
    }
}

fn put(key: Vec<u8>, value: Vec<u8>, lease: Option<LeaseId>) -> Txn {
    Txn { then: vec![Op::Put { key, value, lease }], ..Txn::default() }
}
