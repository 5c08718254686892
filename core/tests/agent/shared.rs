//! A model of the shared state as the core speaks of it: claims, ledgers, task records, triggers
//! and settle keys, each change with a revision and as news for the range's watch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tocktower_core::agent::effect::{
    KeyDelete, RangeWrite, RunKeyName, SettleKey, SettledEnd, ShareRequest, WriteKind,
};
use tocktower_core::agent::input::{
    Asked, ClaimSeen, LedgerSeen, Member, RangeNews, ReadBack, ShareAnswer, SharedNews, Trigger,
    WriteOutcome,
};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{
    AgentName, Epoch, Fence, Incarnation, LeaseId, LedgerNumber, PoolName, RangeId, Revision,
    Session, TaskName,
};
use tocktower_core::ledger::{Ledger, Marks};
use tocktower_core::ring::{Capacity, Duty};
use tocktower_core::task::{Placement, Task};
use tocktower_core::time::{Instant, Now};

pub const EPOCH: Epoch = Epoch(1);
pub const TTL: Duration = Duration::from_secs(3);

/// What a backup of the shared state has.
pub struct Backup {
    revision: Revision,
    keys: BTreeMap<RangeId, Keys>,
}

/// A task's key: `readable` is false while its record cannot be decoded.
#[derive(Clone)]
pub struct Record {
    pub task: Arc<Task>,
    pub readable: bool,
}

#[derive(Clone, Default)]
pub struct Keys {
    pub claim: Option<ClaimSeen>,
    pub ledger: Option<LedgerSeen>,
    pub tasks: BTreeMap<TaskName, Record>,
    pub triggers: BTreeMap<(TaskName, u128), Trigger>,
    settles: BTreeMap<SettleKey, (Session, SettledEnd)>,
}

pub struct Shared {
    pub ranges: RangeCount,
    pub epoch: Epoch,
    pub revision: Revision,
    pub keys: BTreeMap<RangeId, Keys>,
    pub lease_until_us: Option<u64>,
    /// No lease runs out, as after a change of etcd's leader.
    pub spared: bool,
    lease: LeaseId,
    members: BTreeMap<AgentName, Member>,
    pub asked: Asked,
    /// What the watches have not brought yet, in order.
    pub news: Vec<(RangeId, RangeNews)>,
    pub fleet_news: Vec<SharedNews>,
}

impl Shared {
    pub fn new(ranges: RangeCount) -> Shared {
        Shared {
            ranges,
            epoch: EPOCH,
            revision: Revision(100),
            keys: ranges.all().chain(RangeId::LOCAL).map(|id| (id, Keys::default())).collect(),
            lease_until_us: None,
            spared: false,
            lease: LeaseId(0),
            members: BTreeMap::new(),
            asked: Asked::default(),
            news: Vec::new(),
            fleet_news: Vec::new(),
        }
    }

    pub fn back_up(&self) -> Backup {
        Backup { revision: self.revision, keys: self.keys.clone() }
    }

    /// It is as the backup has it, every lease has run out, and the epoch is raised.
    pub fn put_back(&mut self, backup: Backup) {
        self.revision = backup.revision;
        self.keys = backup.keys;
        self.keys.values_mut().for_each(|keys| keys.claim = None);
        self.members.clear();
        self.lease_until_us = None;
        self.epoch = Epoch(self.epoch.0 + 1);
    }

    /// Where the key of a task lies.
    pub fn range_of(&self, name: &TaskName) -> RangeId {
        let local = |range: &RangeId| self.keys[range].tasks.contains_key(name);
        RangeId::LOCAL.into_iter().find(local).unwrap_or_else(|| self.ranges.range_of(name))
    }

    pub fn of(&mut self, range: RangeId) -> &mut Keys {
        self.keys.get_mut(&range).expect("a range of the cluster")
    }

    /// The revision that the change under way makes.
    pub fn next(&mut self) -> Revision {
        self.revision = self.revision.next();
        self.revision
    }

    pub fn tell(&mut self, range: RangeId, news: RangeNews) {
        let revision = self.revision;
        self.news.push((range, news));
        self.news.push((range, RangeNews::Delivered { revision }));
    }

    pub fn serve(&mut self, request: &ShareRequest, now_us: u64) -> ShareAnswer {
        match request {
            ShareRequest::GrantLease { ttl } => {
                self.lease = LeaseId(self.lease.0 + 1);
                self.lease_until_us = Some(now_us + micros(*ttl));
                ShareAnswer::Lease { lease: self.lease, ttl: *ttl }
            }
            ShareRequest::KeepAlive { lease } if self.lives(*lease) => {
                self.lease_until_us = Some(now_us + micros(TTL));
                ShareAnswer::KeptAlive { ttl: TTL }
            }
            ShareRequest::KeepAlive { .. } => ShareAnswer::NoLease,
            ShareRequest::RevokeLease { .. } => {
                self.end_lease();
                ShareAnswer::Done
            }
            ShareRequest::Register { asked, .. } if *asked != self.asked => {
                ShareAnswer::Asked(self.asked)
            }
            ShareRequest::Register { capacity, .. } => {
                let session = Session { epoch: self.epoch, revision: self.next() };
                self.put_member("a", session, *capacity);
                self.ask(self.asked.duty, self.asked.weight);
                ShareAnswer::Registered { session }
            }
            ShareRequest::Reweigh { session, capacity, .. } => {
                self.put_member("a", *session, *capacity);
                ShareAnswer::Done
            }
            ShareRequest::Claim { range, session, .. } => self.claim(*range, "a", *session),
            ShareRequest::Write(writes) => {
                self.next();
                ShareAnswer::Wrote(writes.iter().map(|write| self.write(write)).collect())
            }
            ShareRequest::ReadBack { range } => ShareAnswer::ReadBack(self.read_back(*range)),
            ShareRequest::Delete(deletes) => {
                ShareAnswer::Deleted(deletes.iter().map(|delete| self.delete(delete)).collect())
            }
            ShareRequest::Settle { session, settles } => {
                for put in settles {
                    self.settle(put.range, put.key.clone(), *session, put.end);
                }
                ShareAnswer::Done
            }
            ShareRequest::ReadSettle { range, run, attempt } => {
                let key = SettleKey { run: run.clone(), attempt: *attempt };
                ShareAnswer::Settle(self.of(*range).settles.get(&key).map(|(_, end)| *end))
            }
            ShareRequest::PinsBeat { .. } => {
                let revision = self.next();
                self.news.push((RangeId::PINS, RangeNews::Delivered { revision }));
                ShareAnswer::Done
            }
            ShareRequest::CommonBeat { .. } => {
                let revision = self.next();
                self.fleet_news.push(SharedNews::Beat { revision });
                ShareAnswer::Done
            }
            ShareRequest::ReadCompact
            | ShareRequest::PutCompact { .. }
            | ShareRequest::Compact { .. } => ShareAnswer::Overtaken,
        }
    }

    fn lives(&self, lease: LeaseId) -> bool {
        self.lease == lease && self.lease_until_us.is_some()
    }

    /// The lease has run out, or is revoked: session and claims go with it.
    pub fn end_lease(&mut self) {
        self.lease_until_us = None;
        let agent = AgentName::parse("a").expect("a good name");
        let Some(gone) = self.members.remove(&agent) else { return };
        self.next();
        self.fleet_news.push(SharedNews::MemberGone { agent });
        self.unclaim_all(gone.session);
    }

    fn unclaim_all(&mut self, session: Session) {
        let ranges: Vec<RangeId> = self.keys.keys().copied().collect();
        for range in ranges {
            if self.of(range).claim.as_ref().is_some_and(|claim| claim.session == session) {
                self.unclaim(range);
            }
        }
    }

    /// A session of an agent is there, or has another weight.
    pub fn join(&mut self, agent: &str, session: Session, weight: u32) {
        self.put_member(agent, session, Capacity { weight, duty: Duty::Full });
    }

    /// A session of an agent is there, or tells something else of it.
    /// The members are listed to an agent that begins.
    pub fn list_fleet(&mut self) {
        self.fleet_news.clear();
        self.fleet_news.push(SharedNews::ListBegan);
        let members = self.members.values().cloned().map(SharedNews::Member);
        self.fleet_news.extend(members);
        self.fleet_news.push(SharedNews::ListEnded { revision: self.revision });
    }

    pub fn put_member(&mut self, agent: &str, session: Session, capacity: Capacity) {
        let agent = AgentName::parse(agent).expect("a good name");
        let pool = PoolName::parse("default").expect("a good name");
        let member = Member { agent: agent.clone(), session, pool, capacity };
        self.members.insert(agent, member.clone());
        self.fleet_news.push(SharedNews::Member(member));
    }

    /// The session of another agent has ended, and its claims with it.
    pub fn part(&mut self, agent: &str) {
        let agent = AgentName::parse(agent).expect("a good name");
        let gone = self.members.remove(&agent).expect("it is there");
        self.next();
        self.fleet_news.push(SharedNews::MemberGone { agent });
        self.unclaim_all(gone.session);
    }

    /// An operator asks something of the agent.
    pub fn ask(&mut self, duty: Duty, weight: Option<u32>) {
        self.asked = Asked { duty, weight, revision: self.next() };
        self.fleet_news.push(SharedNews::Asked(self.asked));
    }

    /// What the session of an agent tells of it.
    pub fn capacity(&self, agent: &str) -> Capacity {
        self.members[&AgentName::parse(agent).expect("a good name")].capacity
    }

    /// The session that an agent has now.
    pub fn session(&self, agent: &str) -> Session {
        self.members[&AgentName::parse(agent).expect("a good name")].session
    }

    pub fn claim(&mut self, range: RangeId, agent: &str, session: Session) -> ShareAnswer {
        if self.of(range).claim.is_some() {
            return ShareAnswer::NotClaimed;
        }
        let revision = self.next();
        let agent = AgentName::parse(agent).expect("a good name");
        let fence = Fence { epoch: self.epoch, revision };
        let claim = ClaimSeen { agent, session, fence, beat: 0, revision };
        self.of(range).claim = Some(claim.clone());
        self.tell(range, RangeNews::Claim(Some(claim)));
        ShareAnswer::Claimed { revision }
    }

    pub fn unclaim(&mut self, range: RangeId) {
        self.next();
        self.of(range).claim = None;
        self.tell(range, RangeNews::Claim(None));
    }

    /// Another agent has the range now.
    pub fn take_over(&mut self, range: RangeId, agent: &str, session: Session) -> Fence {
        let fence = Fence { epoch: self.epoch, revision: self.next() };
        let agent = AgentName::parse(agent).expect("a good name");
        let claim = ClaimSeen { agent, session, fence, beat: 0, revision: self.revision };
        self.of(range).claim = Some(claim.clone());
        self.tell(range, RangeNews::Claim(Some(claim)));
        fence
    }

    /// Another agent puts its claims again, as a holder does every two seconds.
    pub fn beat_as(&mut self, agent: &str) {
        self.next();
        let revision = self.revision;
        let ranges: Vec<RangeId> = self.keys.keys().copied().collect();
        for range in ranges {
            let claim = self.of(range).claim.as_mut();
            if let Some(claim) = claim.filter(|claim| claim.agent.as_str() == agent) {
                (claim.beat, claim.revision) = (claim.beat + 1, revision);
                let claim = claim.clone();
                self.tell(range, RangeNews::Claim(Some(claim)));
            }
        }
    }

    /// Another agent has behind it what is due by then, and has run all of it.
    pub fn behind_as(&mut self, range: RangeId, through: Instant) {
        let claim = self.of(range).claim.as_ref().expect("it holds the range");
        let (fence, count) = (claim.fence, self.revision.0.unsigned_abs());
        let incarnation = Incarnation { epoch: EPOCH, revision: self.next() };
        let number = LedgerNumber { process: 3, count };
        let marks = Marks { through, incarnation };
        self.put_ledger(range, Ledger { fence, number, marks, open: Vec::new() });
    }

    fn write(&mut self, write: &RangeWrite) -> WriteOutcome {
        let (range, revision) = (write.range, self.revision);
        let keys = self.of(range);
        let at = keys.ledger.as_ref().map_or(Revision(0), |ledger| ledger.revision);
        let mine = keys.claim.as_ref().is_some_and(|claim| claim.fence == write.fence);
        let still = match &write.kind {
            WriteKind::Beat { .. } => true,
            WriteKind::Ledger { seen, .. } | WriteKind::Final { seen, .. } => *seen == at,
        };
        if !mine || !still {
            return WriteOutcome::Differs(self.read_back(range));
        }
        if let (Some(before), WriteKind::Ledger { ledger, .. } | WriteKind::Final { ledger, .. }) =
            (keys.ledger.as_ref().and_then(|seen| seen.ledger.as_ref().ok()), &write.kind)
        {
            let (before, after) = (before.marks, ledger.marks);
            let forth = after.through >= before.through && after.incarnation >= before.incarnation;
            assert!(forth, "marks went back from {before:?} to {after:?} (L5)");
        }
        match &write.kind {
            WriteKind::Beat { beat, .. } => {
                let claim = keys.claim.as_mut().expect("compared");
                (claim.beat, claim.revision) = (*beat, revision);
                let claim = claim.clone();
                self.tell(range, RangeNews::Claim(Some(claim)));
            }
            WriteKind::Ledger { ledger, taken, .. } => {
                self.put_ledger(range, ledger.clone());
                self.take(range, taken);
            }
            WriteKind::Final { ledger, taken, .. } => {
                self.put_ledger(range, ledger.clone());
                self.take(range, taken);
                self.of(range).claim = None;
                self.tell(range, RangeNews::Claim(None));
            }
        }
        WriteOutcome::Written { revision }
    }

    pub fn put_ledger(&mut self, range: RangeId, ledger: Ledger) {
        let revision = self.revision;
        let seen = LedgerSeen { ledger: Ok(Arc::new(ledger)), revision };
        self.of(range).ledger = Some(seen.clone());
        self.tell(range, RangeNews::Ledger(Some(seen)));
    }

    fn take(&mut self, range: RangeId, taken: &[SettleKey]) {
        for key in taken {
            if self.of(range).settles.remove(key).is_some() {
                self.tell(range, RangeNews::SettleGone { key: key.clone() });
            }
        }
    }

    pub fn settle(&mut self, range: RangeId, key: SettleKey, session: Session, end: SettledEnd) {
        self.next();
        self.of(range).settles.insert(key.clone(), (session, end));
        self.tell(range, RangeNews::SettlePut { key, session, end });
    }

    fn read_back(&self, range: RangeId) -> ReadBack {
        let keys = &self.keys[&range];
        ReadBack { claim: keys.claim.clone(), ledger: keys.ledger.clone() }
    }

    /// The newest ledger of a range.
    pub fn ledger(&self, range: RangeId) -> Arc<Ledger> {
        let seen = self.keys[&range].ledger.as_ref().expect("a ledger was written");
        seen.ledger.clone().expect("readable")
    }

    /// A ledger that somebody else writes in place of the one that is there.
    pub fn write_as(&mut self, range: RangeId, fence: Fence, process: u64) {
        self.next();
        let marks = match &self.keys[&range].ledger {
            Some(_) => self.ledger(range).marks,
            None => Marks::NONE,
        };
        let number = LedgerNumber { process, count: 1 };
        self.put_ledger(range, Ledger { fence, number, marks, open: Vec::new() });
    }

    pub fn put_task(&mut self, task: Arc<Task>) {
        let name = task.spec.name.clone();
        let range = match task.spec.placement {
            Placement::Pool(_) => self.ranges.range_of(&name),
            Placement::Agent(_) => RangeId::PINS,
            Placement::EveryAgent(_) => RangeId::BROADCAST,
        };
        let record = Record { task: task.clone(), readable: true };
        self.of(range).tasks.insert(name, record);
        let raw = raw_of(&task);
        self.tell(range, RangeNews::TaskPut { task, raw });
    }

    /// Somebody has put what this agent cannot read in the place of a task's record.
    pub fn garble(&mut self, name: &TaskName) {
        let range = self.range_of(name);
        self.next();
        self.of(range).tasks.get_mut(name).expect("a task").readable = false;
        self.tell(range, unreadable(name));
    }

    pub fn put_trigger(&mut self, trigger: Trigger) {
        let range = self.range_of(&trigger.task);
        self.of(range).triggers.insert((trigger.task.clone(), trigger.ulid), trigger.clone());
        self.tell(range, RangeNews::TriggerPut(Box::new(trigger)));
    }

    pub fn remove(&mut self, range: RangeId, key: &RunKeyName) {
        let revision = self.next();
        match key {
            RunKeyName::Task(name) => drop(self.of(range).tasks.remove(name)),
            RunKeyName::Trigger(name, ulid) => {
                drop(self.of(range).triggers.remove(&(name.clone(), *ulid)));
            }
        }
        self.tell(range, RangeNews::Gone { key: key.clone(), revision });
    }

    fn delete(&mut self, delete: &KeyDelete) -> bool {
        let keys = &self.keys[&delete.range];
        let at = match &delete.key {
            RunKeyName::Task(name) => keys.tasks.get(name).map(|record| record.task.revision),
            RunKeyName::Trigger(name, ulid) => {
                keys.triggers.get(&(name.clone(), *ulid)).map(|trigger| trigger.revision)
            }
        };
        let there = at == Some(delete.at);
        if there {
            self.remove(delete.range, &delete.key);
        }
        there
    }

    /// What a list of a range's claim brings.
    pub fn list_claim(&mut self, range: RangeId, sent: Now) {
        let claim = RangeNews::Claim(self.keys[&range].claim.clone());
        let ended = RangeNews::ListEnded { revision: self.revision };
        let news = [RangeNews::ListBegan { sent }, claim, ended];
        self.news.extend(news.map(|news| (range, news)));
    }

    /// What a list of a range brings, in the order of keys.
    pub fn list(&mut self, range: RangeId, sent: Now) {
        let keys = &self.keys[&range];
        let mut news = vec![
            RangeNews::ListBegan { sent },
            RangeNews::Claim(keys.claim.clone()),
            RangeNews::Ledger(keys.ledger.clone()),
        ];
        for (key, (session, end)) in &keys.settles {
            let (key, session, end) = (key.clone(), *session, *end);
            news.push(RangeNews::SettlePut { key, session, end });
        }
        for (name, record) in &keys.tasks {
            let task = record.task.clone();
            news.push(match record.readable {
                true => RangeNews::TaskPut { raw: raw_of(&task), task },
                false => unreadable(name),
            });
        }
        let triggers = keys.triggers.values().cloned().map(Box::new);
        news.extend(triggers.map(RangeNews::TriggerPut));
        news.push(RangeNews::ListEnded { revision: self.revision });
        self.news.extend(news.into_iter().map(|news| (range, news)));
    }
}

fn unreadable(name: &TaskName) -> RangeNews {
    RangeNews::TaskUnreadable { name: name.clone(), error: "a field of the future".to_owned() }
}

/// A row of the store is not read in these stories: its version says which task it is.
fn raw_of(task: &Task) -> Arc<[u8]> {
    Arc::from(task.revision.0.to_be_bytes())
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).expect("small")
}
