//! What an agent asks of the shared state and what it hears from it, as data: the core's requests
//! become transactions of the port, answers and watched keys become the core's inputs. Written
//! once, without I/O: the agent's driver runs it, and so does the simulator.
//!
//! Each range of a shared write is a nested transaction of its own (L8), so that one that has moved
//! on does not fail the others; each compares the fence, and a ledger its own revision too (L3).
//!
//! A record that cannot be read is left alone. The core is told of tasks and ledgers, for whom it
//! has words; all others are named in the log by `Quarantine`, so that nothing vanishes silently.

use std::collections::BTreeMap;
use std::sync::Arc;

use tocktower_core::agent::effect::{
    KeyDelete, RangeWrite, RunKeyName, SettleKey, SettlePut, SettledEnd, ShareRequest, WriteKind,
};
use tocktower_core::agent::input::{
    Asked, ClaimSeen, CompactSeen, LedgerSeen, Member, RangeNews, ReadBack, ShareAnswer,
    SharedNews, Trigger, WriteOutcome,
};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{
    AgentName, CoordinatorId, Epoch, Fence, LeaseId, PoolName, RangeId, Revision, Session,
};
use tocktower_core::ring::Capacity;
use tocktower_core::task::Placement;
use tocktower_core::time::Wall;
use tocktower_proto::convert::{
    DecodeError, RunName, decode_record, encode_record, encode_task_row, session_from_record,
    session_record,
};
use tocktower_proto::store::{
    AgentRecord, BeatRecord, ClaimRecord, CompactRecord, CoordinatorRecord, SessionRecord,
    SettleOutcomeRecord, SettleRecord,
};

use crate::duty;
use crate::keys::{Key, Keys};
use crate::ledgers;
use crate::port::{Answer, Compare, Event, KeyValue, Op, OpAnswer, PortError, Request, Txn};
use crate::quarantine::Quarantine;
use crate::records;

/// What an agent says of itself when it registers.
#[derive(Clone, Debug)]
pub struct Identity {
    pub agent: AgentName,
    pub pool: PoolName,
    pub labels: BTreeMap<String, String>,
    pub version: String,
    pub tz_version: String,
    pub host_id: String,
}

/// Builds and reads for one agent of one cluster.
#[derive(Clone, Debug)]
pub struct AgentOps {
    pub keys: Keys,
    pub identity: Identity,
    pub epoch: Epoch,
    /// When the cluster's record was put that the epoch is from.
    pub(crate) record: Option<Revision>,
    quarantine: Quarantine,
}

impl AgentOps {
    pub fn new(keys: Keys, identity: Identity, epoch: Epoch) -> AgentOps {
        AgentOps { keys, identity, epoch, record: None, quarantine: Quarantine::default() }
    }

    pub fn ranges(&self) -> RangeCount {
        self.keys.ranges()
    }

    /// The request to the port that a request of the core is. `now` dates records.
    pub fn request(&self, request: &ShareRequest, now: Wall) -> Request {
        match request {
            ShareRequest::GrantLease { ttl } => Request::GrantLease { ttl: *ttl },
            ShareRequest::KeepAlive { lease } => Request::KeepAlive { lease: *lease },
            ShareRequest::RevokeLease { lease } => Request::RevokeLease { lease: *lease },
            ShareRequest::Register { lease, capacity, asked } => {
                self.register(*lease, *capacity, asked, now)
            }
            ShareRequest::Reweigh { session, lease, capacity, since } => {
                let key = self.keys.build(&Key::Member(self.identity.agent.clone()));
                let value = encode_record(&self.session_value(*capacity, *since));
                Request::Txn(Txn {
                    when: vec![Compare::Created { key: key.clone(), at: session.revision }],
                    then: vec![Op::Put { key, value, lease: Some(*lease) }],
                    otherwise: Vec::new(),
                })
            }
            ShareRequest::Claim { range, session, lease } => {
                let key = self.claim_key(*range);
                let member = self.keys.build(&Key::Member(self.identity.agent.clone()));
                let value = self.claim_value(*session, 0);
                Request::Txn(Txn {
                    when: vec![
                        Compare::absent(key.clone()),
                        Compare::Created { key: member, at: session.revision },
                    ],
                    then: vec![Op::Put { key, value, lease: Some(*lease) }],
                    otherwise: Vec::new(),
                })
            }
            ShareRequest::Write(writes) => each(writes.iter().map(|write| self.write(write))),
            ShareRequest::ReadBack { range } => Request::Txn(Txn {
                when: Vec::new(),
                then: self.read_back(*range),
                otherwise: Vec::new(),
            }),
            ShareRequest::Delete(deletes) => each(deletes.iter().map(|d| self.delete(d))),
            ShareRequest::Settle { session, settles } => {
                each(settles.iter().map(|settle| self.settle(*session, settle)))
            }
            ShareRequest::ReadSettle { run, attempt, .. } => {
                let key = self.settle_key(&SettleKey { run: run.clone(), attempt: *attempt });
                Request::Txn(Txn { then: vec![Op::Get { key }], ..Txn::default() })
            }
            ShareRequest::CommonBeat { seen } => {
                let writer = self.identity.agent.to_string();
                let value = encode_record(&BeatRecord { writer, count: 0 });
                put_if_still(self.keys.build(&Key::Beat), *seen, value)
            }
            ShareRequest::PinsBeat { session } => {
                let member = self.keys.build(&Key::Member(self.identity.agent.clone()));
                let key = self.keys.build(&Key::PinsBeat(self.identity.agent.clone()));
                let writer = self.identity.agent.to_string();
                let value = encode_record(&BeatRecord { writer, count: 0 });
                Request::Txn(Txn {
                    when: vec![Compare::Created { key: member, at: session.revision }],
                    then: vec![Op::Put { key, value, lease: None }],
                    otherwise: Vec::new(),
                })
            }
            ShareRequest::ReadCompact => {
                let key = self.keys.build(&Key::Compact);
                Request::Txn(Txn { then: vec![Op::Get { key }], ..Txn::default() })
            }
            ShareRequest::PutCompact { seen, to } => {
                let value = encode_record(&CompactRecord { revision: to.0 });
                put_if_still(self.keys.build(&Key::Compact), *seen, value)
            }
            ShareRequest::Compact { to } => Request::Compact { to: *to },
        }
    }

    /// Session and record at once, so that neither is there without the other; what an operator
    /// has asked must be what this session goes by.
    fn register(&self, lease: LeaseId, capacity: Capacity, asked: &Asked, now: Wall) -> Request {
        let member = self.keys.build(&Key::Member(self.identity.agent.clone()));
        let agent = self.keys.build(&Key::Agent(self.identity.agent.clone()));
        let session = encode_record(&self.session_value(capacity, now));
        let record = encode_record(&self.agent_value(capacity.weight, asked));
        let mut txn = Txn {
            when: vec![
                Compare::absent(member.clone()),
                Compare::Modified { key: agent.clone(), at: asked.revision },
            ],
            then: vec![
                Op::Put { key: member.clone(), value: session, lease: Some(lease) },
                Op::Put { key: agent.clone(), value: record, lease: None },
            ],
            otherwise: vec![Op::Get { key: member }, Op::Get { key: agent }],
        };
        self.only_in_epoch(&mut txn);
        Request::Txn(txn)
    }

    fn session_value(&self, capacity: Capacity, since: Wall) -> SessionRecord {
        let (cordoned, draining) = duty::duty_flags(capacity.duty);
        SessionRecord {
            pool: self.identity.pool.to_string(),
            labels: self.identity.labels.clone().into_iter().collect(),
            weight: capacity.weight,
            version: self.identity.version.clone(),
            tz_version: self.identity.tz_version.clone(),
            host_id: self.identity.host_id.clone(),
            since_us: since.micros(),
            cordoned,
            draining,
        }
    }

    fn agent_value(&self, weight: u32, asked: &Asked) -> AgentRecord {
        let (cordoned, draining) = duty::duty_flags(asked.duty);
        AgentRecord {
            pool: self.identity.pool.to_string(),
            labels: self.identity.labels.clone().into_iter().collect(),
            weight,
            // It is here: what a coordinator has noted of its absence is over.
            absent_since_us: None,
            cordoned,
            draining,
            weight_asked: asked.weight,
        }
    }

    fn claim_key(&self, range: RangeId) -> Vec<u8> {
        self.keys.build(&Key::Claim(self.identity.pool.clone(), range))
    }

    fn ledger_key(&self, range: RangeId) -> Vec<u8> {
        self.keys.build(&Key::Ledger(self.identity.pool.clone(), range))
    }

    fn settle_key(&self, key: &SettleKey) -> Vec<u8> {
        let (task, run) = (key.run.task.clone(), RunName::of(&key.run));
        self.keys.build(&Key::Settle(self.identity.pool.clone(), task, run, key.attempt))
    }

    fn claim_value(&self, session: Session, beat: u64) -> Vec<u8> {
        let agent = self.identity.agent.to_string();
        encode_record(&ClaimRecord { agent, session: Some(session_record(session)), beat })
    }

    fn read_back(&self, range: RangeId) -> Vec<Op> {
        vec![Op::Get { key: self.claim_key(range) }, Op::Get { key: self.ledger_key(range) }]
    }

    fn write(&self, write: &RangeWrite) -> Txn {
        let claim = self.claim_key(write.range);
        let ledger_key = self.ledger_key(write.range);
        let mut when = vec![Compare::Created { key: claim.clone(), at: write.fence.revision }];
        let mut then = Vec::new();
        match &write.kind {
            WriteKind::Beat { session, lease, beat } => {
                let value = self.claim_value(*session, *beat);
                then.push(Op::Put { key: claim, value, lease: Some(*lease) });
            }
            WriteKind::Ledger { seen, ledger, taken } => {
                when.push(Compare::Modified { key: ledger_key.clone(), at: *seen });
                let value = ledgers::encode(ledger);
                then.push(Op::Put { key: ledger_key, value, lease: None });
                then.extend(taken.iter().map(|key| Op::Delete { key: self.settle_key(key) }));
            }
            WriteKind::Final { seen, ledger, taken } => {
                when.push(Compare::Modified { key: ledger_key.clone(), at: *seen });
                let value = ledgers::encode(ledger);
                then.push(Op::Put { key: ledger_key, value, lease: None });
                then.push(Op::Delete { key: claim });
                then.extend(taken.iter().map(|key| Op::Delete { key: self.settle_key(key) }));
            }
        }
        Txn { when, then, otherwise: self.read_back(write.range) }
    }

    fn delete(&self, delete: &KeyDelete) -> Txn {
        let placed = match delete.range {
            RangeId::PINS => Placement::Agent(self.identity.agent.clone()),
            RangeId::BROADCAST => Placement::EveryAgent(self.identity.pool.clone()),
            _ => Placement::Pool(self.identity.pool.clone()),
        };
        let (key, elsewhere) = match &delete.key {
            RunKeyName::Task(task) => {
                let elsewhere = (placed != *self.keys.directory())
                    .then(|| self.keys.build(&Key::Elsewhere(task.clone())));
                (Key::Task(placed, task.clone()), elsewhere)
            }
            RunKeyName::Trigger(task, ulid) => (Key::Trigger(placed, task.clone(), *ulid), None),
        };
        let key = self.keys.build(&key);
        let mut then = vec![Op::Delete { key: key.clone() }];
        then.extend(elsewhere.map(|key| Op::Delete { key }));
        Txn { when: vec![Compare::Modified { key, at: delete.at }], then, otherwise: Vec::new() }
    }

    fn settle(&self, session: Session, settle: &SettlePut) -> Txn {
        let member = self.keys.build(&Key::Member(self.identity.agent.clone()));
        let key = self.settle_key(&settle.key);
        let record = SettleRecord {
            session: Some(session_record(session)),
            outcome: outcome_of(settle.end).into(),
            ..SettleRecord::default()
        };
        Txn {
            when: vec![Compare::Created { key: member, at: session.revision }],
            then: vec![Op::Put { key, value: encode_record(&record), lease: None }],
            otherwise: Vec::new(),
        }
    }

    /// What the answer of the port means to the core.
    pub fn answer(&self, request: &ShareRequest, answer: Result<Answer, PortError>) -> ShareAnswer {
        let answer = match answer {
            Ok(answer) => answer,
            Err(PortError::NoLease) => return ShareAnswer::NoLease,
            Err(PortError::Compacted { .. }) if matches!(request, ShareRequest::Compact { .. }) => {
                return ShareAnswer::Overtaken;
            }
            Err(error) if error.refused() => {
                let retryable = error.retryable();
                return ShareAnswer::Refused { error: error.to_string(), retryable };
            }
            Err(error) => return ShareAnswer::Unknown { error: error.to_string() },
        };
        match (request, answer) {
            (ShareRequest::GrantLease { .. }, Answer::Lease { lease, ttl }) => {
                ShareAnswer::Lease { lease, ttl }
            }
            (ShareRequest::KeepAlive { .. }, Answer::Lease { ttl, .. }) => {
                ShareAnswer::KeptAlive { ttl }
            }
            (_, Answer::Txn { revision, succeeded, answers }) => {
                self.txn_answer(request, revision, succeeded, answers)
            }
            _ => ShareAnswer::Done,
        }
    }

    fn txn_answer(
        &self,
        request: &ShareRequest,
        revision: Revision,
        succeeded: bool,
        answers: Vec<OpAnswer>,
    ) -> ShareAnswer {
        let session_at = |revision| Session { epoch: self.epoch, revision };
        match request {
            ShareRequest::Register { .. } if succeeded => {
                ShareAnswer::Registered { session: session_at(revision) }
            }
            ShareRequest::Register { lease, .. } => match got(answers.first()) {
                // Under my lease it is mine: an earlier request came through, its answer did not.
                Some(item) if item.lease == Some(*lease) => {
                    ShareAnswer::Registered { session: session_at(item.create_revision) }
                }
                Some(item) => ShareAnswer::NameTaken { holder: session_at(item.create_revision) },
                None => ShareAnswer::Asked(self.asked(got(answers.get(1)))),
            },
            ShareRequest::Claim { .. } if succeeded => ShareAnswer::Claimed { revision },
            ShareRequest::Claim { .. } => ShareAnswer::NotClaimed,
            ShareRequest::Write(_) => {
                let outcomes = answers.iter().map(|a| self.write_outcome(a, revision)).collect();
                ShareAnswer::Wrote(outcomes)
            }
            ShareRequest::ReadBack { .. } => ShareAnswer::ReadBack(self.read_back_of(&answers)),
            ShareRequest::Delete(_) => ShareAnswer::Deleted(answers.iter().map(took).collect()),
            ShareRequest::ReadSettle { .. } => {
                let item = got(answers.first());
                let settle =
                    item.and_then(|item| self.quarantine.read(item, settle_of(&item.value)));
                ShareAnswer::Settle(settle.map(|(_, end)| end))
            }
            ShareRequest::ReadCompact => compact_read(got(answers.first()), revision),
            ShareRequest::PutCompact { .. } if !succeeded => ShareAnswer::Overtaken,
            _ => ShareAnswer::Done,
        }
    }

    /// A record that cannot be read asks nothing.
    fn asked(&self, item: Option<&KeyValue>) -> Asked {
        let Some(item) = item else { return Asked::default() };
        let revision = item.mod_revision;
        let asked = self.quarantine.read(item, duty::asked(item));
        asked.unwrap_or(Asked { revision, ..Asked::default() })
    }

    fn write_outcome(&self, answer: &OpAnswer, revision: Revision) -> WriteOutcome {
        match answer {
            OpAnswer::Txn { succeeded: true, .. } => WriteOutcome::Written { revision },
            OpAnswer::Txn { answers, .. } => WriteOutcome::Differs(self.read_back_of(answers)),
            _ => WriteOutcome::Differs(ReadBack { claim: None, ledger: None }),
        }
    }

    fn read_back_of(&self, answers: &[OpAnswer]) -> ReadBack {
        let claim = got(answers.first()).and_then(|item| self.claim_seen(item));
        let ledger = got(answers.get(1)).map(ledger_seen);
        ReadBack { claim, ledger }
    }

    /// A claim that cannot be read is nobody's that we know, but it is one.
    fn claim_seen(&self, item: &KeyValue) -> Option<ClaimSeen> {
        let record: ClaimRecord = decode_record(&item.value).unwrap_or_default();
        let fence = Fence { epoch: self.epoch, revision: item.create_revision };
        let agent = AgentName::parse(&record.agent).or_else(|_| AgentName::parse("unreadable"));
        Some(ClaimSeen {
            agent: agent.ok()?,
            session: record.session.as_ref().map(session_from_record).unwrap_or_default(),
            fence,
            beat: record.beat,
            revision: item.mod_revision,
        })
    }

    /// What a key of a range, as listed or put, tells the core. `None`: nothing that it knows.
    pub fn range_item(&self, item: &KeyValue) -> Option<RangeNews> {
        match self.keys.parse(&item.key)? {
            Key::Claim(..) => Some(RangeNews::Claim(self.claim_seen(item))),
            Key::Ledger(..) => Some(RangeNews::Ledger(Some(ledger_seen(item)))),
            Key::Task(placed, name) => Some(match records::read_task(placed, name.clone(), item) {
                Ok(task) => {
                    let raw = Arc::from(encode_task_row(&task));
                    RangeNews::TaskPut { task: Arc::new(task), raw }
                }
                Err(error) => RangeNews::TaskUnreadable { name, error: error.to_string() },
            }),
            Key::Trigger(_, task, ulid) => {
                let trigger = self.quarantine.read(item, records::read_trigger(&item.value))?;
                let payload = trigger.payload.map(String::from_utf8).transpose();
                let payload = self.quarantine.read(item, payload)?;
                Some(RangeNews::TriggerPut(Box::new(Trigger {
                    task,
                    ulid,
                    revision: item.mod_revision,
                    asked_at: trigger.created_at.instant(),
                    payload: payload.map(Arc::from),
                })))
            }
            Key::Settle(_, task, run, attempt) => {
                let (session, end) = self.quarantine.read(item, settle_of(&item.value))?;
                let key = SettleKey { run: run.id(task), attempt };
                Some(RangeNews::SettlePut { key, session, end })
            }
            _ => None,
        }
    }

    /// What an event of a range's watch tells the core.
    pub fn range_event(&self, event: &Event) -> Option<RangeNews> {
        let (key, revision) = match event {
            Event::Put(item) => return self.range_item(item),
            Event::Delete { key, mod_revision } => (key, *mod_revision),
        };
        match self.keys.parse(key)? {
            Key::Claim(..) => Some(RangeNews::Claim(None)),
            Key::Ledger(..) => Some(RangeNews::Ledger(None)),
            Key::Task(_, name) => Some(RangeNews::Gone { key: RunKeyName::Task(name), revision }),
            Key::Trigger(_, task, ulid) => {
                Some(RangeNews::Gone { key: RunKeyName::Trigger(task, ulid), revision })
            }
            Key::Settle(_, task, run, attempt) => {
                let key = SettleKey { run: run.id(task), attempt };
                Some(RangeNews::SettleGone { key })
            }
            _ => None,
        }
    }

    pub fn shared_item(&self, item: &KeyValue) -> Option<SharedNews> {
        match self.keys.parse(&item.key)? {
            Key::Member(agent) => {
                let record = decode_record(&item.value);
                let record: SessionRecord = self.quarantine.read(item, record)?;
                let session = Session { epoch: self.epoch, revision: item.create_revision };
                let pool = self.quarantine.read(item, PoolName::parse(&record.pool))?;
                let duty = duty::duty_of(record.cordoned, record.draining);
                let capacity = Capacity { weight: record.weight, duty };
                Some(SharedNews::Member(Member { agent, session, pool, capacity }))
            }
            Key::Agent(agent) if agent == self.identity.agent => {
                Some(SharedNews::Asked(self.asked(Some(item))))
            }
            Key::Beat => Some(SharedNews::Beat { revision: item.mod_revision }),
            _ => None,
        }
    }

    /// A coordinator and the address at which agents reach it.
    pub fn coordinator_item(&self, item: &KeyValue) -> Option<(CoordinatorId, Option<String>)> {
        let Key::Coordinator(id) = self.keys.parse(&item.key)? else { return None };
        let record = decode_record(&item.value);
        let record: CoordinatorRecord = self.quarantine.read(item, record)?;
        Some((id, Some(record.address)))
    }

    pub fn coordinator_event(&self, event: &Event) -> Option<(CoordinatorId, Option<String>)> {
        match event {
            Event::Put(item) => self.coordinator_item(item),
            Event::Delete { key, .. } => match self.keys.parse(key)? {
                Key::Coordinator(id) => Some((id, None)),
                _ => None,
            },
        }
    }

    pub fn shared_event(&self, event: &Event) -> Option<SharedNews> {
        match event {
            Event::Put(item) => self.shared_item(item),
            Event::Delete { key, .. } => match self.keys.parse(key)? {
                Key::Member(agent) => Some(SharedNews::MemberGone { agent }),
                _ => None,
            },
        }
    }
}

/// One transaction of nested ones, each with an outcome of its own.
fn each(txns: impl Iterator<Item = Txn>) -> Request {
    Request::Txn(Txn { then: txns.map(Op::Txn).collect(), ..Txn::default() })
}

/// A put that happens only if the key is still at the revision `seen`; 0: not there.
fn put_if_still(key: Vec<u8>, seen: Revision, value: Vec<u8>) -> Request {
    Request::Txn(Txn {
        when: vec![Compare::Modified { key: key.clone(), at: seen }],
        then: vec![Op::Put { key, value, lease: None }],
        otherwise: Vec::new(),
    })
}

pub(crate) fn got(answer: Option<&OpAnswer>) -> Option<&KeyValue> {
    match answer {
        Some(OpAnswer::Got(item)) => item.as_ref(),
        _ => None,
    }
}

fn took(answer: &OpAnswer) -> bool {
    matches!(answer, OpAnswer::Txn { succeeded: true, .. })
}

fn ledger_seen(item: &KeyValue) -> LedgerSeen {
    let ledger = ledgers::decode(&item.value).map(Arc::new).map_err(|error| error.to_string());
    LedgerSeen { ledger, revision: item.mod_revision }
}

/// A record that cannot be read is left alone: somebody newer may have written it.
fn compact_read(item: Option<&KeyValue>, revision: Revision) -> ShareAnswer {
    let Some(item) = item else {
        return ShareAnswer::CompactRead { record: CompactSeen::default(), revision };
    };
    match decode_record::<CompactRecord>(&item.value) {
        Ok(found) => {
            let record = CompactSeen { to: Revision(found.revision), at: item.mod_revision };
            ShareAnswer::CompactRead { record, revision }
        }
        Err(error) => {
            let error = format!("its record cannot be read: {error}");
            ShareAnswer::Refused { error, retryable: false }
        }
    }
}

fn settle_of(bytes: &[u8]) -> Result<(Session, SettledEnd), DecodeError> {
    let record: SettleRecord = decode_record(bytes)?;
    let session = record.session.as_ref().ok_or(DecodeError::missing("session"))?;
    let end = match record.outcome() {
        SettleOutcomeRecord::Succeeded => SettledEnd::Succeeded,
        SettleOutcomeRecord::Failed => SettledEnd::Failed,
        SettleOutcomeRecord::TimedOut => SettledEnd::TimedOut,
        SettleOutcomeRecord::Cancelled => SettledEnd::Cancelled,
        SettleOutcomeRecord::Gone => SettledEnd::Gone,
        SettleOutcomeRecord::Unspecified => return Err(DecodeError::missing("outcome")),
    };
    Ok((session_from_record(session), end))
}

fn outcome_of(end: SettledEnd) -> SettleOutcomeRecord {
    match end {
        SettledEnd::Succeeded => SettleOutcomeRecord::Succeeded,
        SettledEnd::Failed => SettleOutcomeRecord::Failed,
        SettledEnd::TimedOut => SettleOutcomeRecord::TimedOut,
        SettledEnd::Cancelled => SettleOutcomeRecord::Cancelled,
        SettledEnd::Gone => SettleOutcomeRecord::Gone,
    }
}

#[cfg(test)]
mod tests {
    use tocktower_core::ids::{Attempt, TaskName};

    use super::*;

    fn ops() -> AgentOps {
        let identity = Identity {
            agent: AgentName::parse("a").unwrap(),
            pool: PoolName::parse("default").unwrap(),
            labels: BTreeMap::new(),
            version: String::new(),
            tz_version: String::new(),
            host_id: String::new(),
        };
        AgentOps::new(Keys::new("/t/v1/", RangeCount::DEFAULT), identity, Epoch(1))
    }

    fn item(ops: &AgentOps, key: &Key, value: &[u8]) -> KeyValue {
        KeyValue {
            key: ops.keys.build(key),
            value: value.to_vec(),
            create_revision: Revision(3),
            mod_revision: Revision(3),
            lease: None,
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_alone_and_named_once() {
        let ops = ops();
        let (pool, task) = (ops.identity.pool.clone(), TaskName::parse("default/job").unwrap());
        let attempt = Attempt { fence: Fence::default(), number: 1 };
        let trigger = Key::Trigger(pool.clone().into(), task.clone(), 7);
        let settle = Key::Settle(pool, task, RunName::Manual(7), attempt);
        for key in [trigger, settle] {
            let item = item(&ops, &key, b"\xff\xff");
            assert_eq!(ops.range_event(&Event::Put(item.clone())), None);
            assert!(!ops.quarantine.is_news(&item), "{key:?} was not named");
        }
        for key in [Key::Member(AgentName::parse("b").unwrap()), Key::Beat] {
            let item = item(&ops, &key, b"\xff\xff");
            let known = ops.shared_item(&item).is_some();
            assert_eq!(ops.quarantine.is_news(&item), known, "{key:?}");
        }
    }
}
