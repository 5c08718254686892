//! Operations on the records of agents that are away: to note since when, and to forget them.
//!
//! What outlives a session is put when an agent registers, and nobody but a coordinator could take
//! it away. Each of these transactions compares that the agent has no session and that its record
//! is the one that was seen, so that an agent that comes back in between always wins: registering
//! puts both keys at once, and a session without a record is never left behind.

use tocktower_core::ids::{AgentName, Revision};
use tocktower_core::limits;
use tocktower_proto::convert::encode_record;
use tocktower_proto::store::AgentRecord;

use crate::keys::{Key, Keys};
use crate::port::{Answer, Compare, Op, OpAnswer, Txn};
use crate::tasks::AnswerError;

/// Agents of one transaction. Whoever has more goes on with the next.
pub const CHANGES_MAX: usize = 32;

const _: () = assert!(CHANGES_MAX < limits::ETCD_OPS_MAX);

/// What becomes of the record of an agent without a session.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    pub agent: AgentName,
    /// Of the record that was seen.
    pub seen: Revision,
    pub to: To,
}

#[derive(Clone, PartialEq, Debug)]
pub enum To {
    /// The same record, with the time since when the agent is absent.
    Noted(AgentRecord),
    Forgotten,
}

/// What came of forgetting one agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forgot {
    Done {
        revision: Revision,
    },
    /// There is no record, and no session either.
    NotThere,
    /// It has a session.
    Alive,
    /// The record is another by now.
    Changed {
        now: Revision,
    },
}

/// Changes several records, each for itself: one that has moved on does not fail the others.
pub fn change(keys: &Keys, changes: &[Change]) -> Txn {
    Txn { then: changes.iter().map(|c| Op::Txn(one(keys, c))).collect(), ..Txn::default() }
}

/// For each change of [`change`] whether it was made.
pub fn read_change(changes: &[Change], answer: &Answer) -> Result<Vec<bool>, AnswerError> {
    let Answer::Txn { answers, .. } = answer else { return Err(AnswerError::Mismatch) };
    if answers.len() != changes.len() {
        return Err(AnswerError::Mismatch);
    }
    let made = |answer: &OpAnswer| match answer {
        OpAnswer::Txn { succeeded, .. } => Ok(*succeeded),
        OpAnswer::Got(_) | OpAnswer::Put | OpAnswer::Deleted { .. } => Err(AnswerError::Mismatch),
    };
    answers.iter().map(made).collect()
}

/// Forgets one agent whose record was seen at this revision; 0: none was seen.
pub fn forget(keys: &Keys, agent: &AgentName, seen: Revision) -> Txn {
    let (member, record) = both(keys, agent);
    let forgotten = one(keys, &Change { agent: agent.clone(), seen, to: To::Forgotten });
    Txn { otherwise: vec![Op::Get { key: member }, Op::Get { key: record }], ..forgotten }
}

/// What came of [`forget`].
pub fn read_forget(answer: &Answer) -> Result<Forgot, AnswerError> {
    let Answer::Txn { revision, succeeded, answers } = answer else {
        return Err(AnswerError::Mismatch);
    };
    match (succeeded, answers.as_slice()) {
        (true, [OpAnswer::Deleted { count: 0 }]) => Ok(Forgot::NotThere),
        (true, [OpAnswer::Deleted { .. }]) => Ok(Forgot::Done { revision: *revision }),
        (false, [OpAnswer::Got(Some(_)), OpAnswer::Got(_)]) => Ok(Forgot::Alive),
        (false, [OpAnswer::Got(None), OpAnswer::Got(Some(item))]) => {
            Ok(Forgot::Changed { now: item.mod_revision })
        }
        (false, [OpAnswer::Got(None), OpAnswer::Got(None)]) => Ok(Forgot::NotThere),
        _ => Err(AnswerError::Mismatch),
    }
}

fn one(keys: &Keys, change: &Change) -> Txn {
    let (member, key) = both(keys, &change.agent);
    let when =
        vec![Compare::absent(member), Compare::Modified { key: key.clone(), at: change.seen }];
    let then = match &change.to {
        To::Noted(record) => Op::Put { key, value: encode_record(record), lease: None },
        To::Forgotten => Op::Delete { key },
    };
    Txn { when, then: vec![then], otherwise: Vec::new() }
}

/// The keys of an agent's session and of what outlives it.
fn both(keys: &Keys, agent: &AgentName) -> (Vec<u8>, Vec<u8>) {
    (keys.build(&Key::Member(agent.clone())), keys.build(&Key::Agent(agent.clone())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use tocktower_core::agent::effect::ShareRequest;
    use tocktower_core::agent::input::Asked;
    use tocktower_core::hash::RangeCount;
    use tocktower_core::ids::{Epoch, LeaseId, PoolName};
    use tocktower_core::ring::{Capacity, Duty};
    use tocktower_core::time::Wall;
    use tocktower_proto::convert::decode_record;

    use super::*;
    use crate::agents::{AgentOps, Identity};
    use crate::embedded::Embedded;
    use crate::keys::PREFIX;
    use crate::port::{KeyValue, Port, Request};

    /// One shared state, and agents that come and go.
    struct Fleet {
        keys: Keys,
        port: Arc<Embedded>,
    }

    fn name(text: &str) -> AgentName {
        AgentName::parse(text).unwrap()
    }

    impl Fleet {
        fn new() -> Fleet {
            let keys = Keys::new(PREFIX, RangeCount::DEFAULT);
            Fleet { keys, port: Embedded::in_memory().unwrap() }
        }

        async fn send(&self, txn: Txn) -> Answer {
            self.port.call(Request::Txn(txn)).await.unwrap()
        }

        /// Registers as an agent does.
        async fn comes(&self, agent: &str) -> LeaseId {
            let grant = Request::GrantLease { ttl: Duration::from_secs(60) };
            let Answer::Lease { lease, .. } = self.port.call(grant).await.unwrap() else {
                panic!("no lease");
            };
            let identity = Identity {
                agent: name(agent),
                pool: PoolName::parse("default").unwrap(),
                labels: BTreeMap::new(),
                version: String::new(),
                tz_version: String::new(),
                host_id: String::new(),
            };
            let ops = AgentOps::new(self.keys.clone(), identity, Epoch(1));
            let register = ShareRequest::Register {
                lease,
                capacity: Capacity { weight: 100, duty: Duty::Full },
                asked: self.asked(agent).await,
            };
            let request = ops.request(&register, Wall::from_millis(5));
            let answer = self.port.call(request).await.unwrap();
            assert!(matches!(answer, Answer::Txn { succeeded: true, .. }), "{answer:?}");
            lease
        }

        async fn asked(&self, agent: &str) -> Asked {
            let seen = self.record(agent).await.map(|(_, seen)| seen);
            Asked { revision: seen.unwrap_or_default(), ..Asked::default() }
        }

        async fn goes(&self, lease: LeaseId) {
            self.port.call(Request::RevokeLease { lease }).await.unwrap();
        }

        async fn record(&self, agent: &str) -> Option<(AgentRecord, Revision)> {
            let key = self.keys.build(&Key::Agent(name(agent)));
            let answer = self.send(Txn { then: vec![Op::Get { key }], ..Txn::default() }).await;
            let Answer::Txn { answers, .. } = answer else { panic!("{answer:?}") };
            let [OpAnswer::Got(item)] = answers.as_slice() else { panic!("{answers:?}") };
            let read = |item: &KeyValue| (decode_record(&item.value).unwrap(), item.mod_revision);
            item.as_ref().map(read)
        }

        async fn forget(&self, agent: &str, seen: Revision) -> Forgot {
            let answer = self.send(forget(&self.keys, &name(agent), seen)).await;
            read_forget(&answer).unwrap()
        }

        async fn change(&self, changes: &[Change]) -> Vec<bool> {
            let answer = self.send(change(&self.keys, changes)).await;
            read_change(changes, &answer).unwrap()
        }
    }

    fn noted(agent: &str, record: &AgentRecord, seen: Revision, at: i64) -> Change {
        let record = AgentRecord { absent_since_us: Some(at), ..record.clone() };
        Change { agent: name(agent), seen, to: To::Noted(record) }
    }

    #[tokio::test]
    async fn an_agent_is_forgotten_only_without_a_session_and_as_it_was_seen() {
        let fleet = Fleet::new();
        let lease = fleet.comes("a").await;
        let (_, seen) = fleet.record("a").await.unwrap();
        assert_eq!(fleet.forget("a", seen).await, Forgot::Alive);
        fleet.goes(lease).await;
        let other = Revision(seen.0 - 1);
        assert_eq!(fleet.forget("a", other).await, Forgot::Changed { now: seen });
        assert_eq!(fleet.forget("a", Revision(0)).await, Forgot::Changed { now: seen });
        assert!(matches!(fleet.forget("a", seen).await, Forgot::Done { .. }));
        assert_eq!(fleet.record("a").await, None);
        assert_eq!(fleet.forget("a", seen).await, Forgot::NotThere);
        assert_eq!(fleet.forget("a", Revision(0)).await, Forgot::NotThere);
        // It comes back as if for the first time.
        fleet.comes("a").await;
        assert!(fleet.record("a").await.is_some());
        assert_eq!(fleet.forget("a", seen).await, Forgot::Alive);
    }

    #[tokio::test]
    async fn registering_takes_back_what_was_noted_of_an_absence() {
        let fleet = Fleet::new();
        let lease = fleet.comes("a").await;
        fleet.goes(lease).await;
        let (record, seen) = fleet.record("a").await.unwrap();
        assert_eq!(fleet.change(&[noted("a", &record, seen, 7)]).await, [true]);
        let (kept, _) = fleet.record("a").await.unwrap();
        assert_eq!((kept.absent_since_us, kept.weight), (Some(7), 100));
        fleet.comes("a").await;
        let (kept, seen) = fleet.record("a").await.unwrap();
        assert_eq!(kept.absent_since_us, None);
        assert_eq!(fleet.change(&[noted("a", &record, seen, 7)]).await, [false], "it is there");
    }

    #[tokio::test]
    async fn one_that_has_come_back_does_not_keep_the_others_from_it() {
        let fleet = Fleet::new();
        for agent in ["a", "b", "c"] {
            let lease = fleet.comes(agent).await;
            fleet.goes(lease).await;
        }
        let mut changes = Vec::new();
        for agent in ["a", "b"] {
            let (_, seen) = fleet.record(agent).await.unwrap();
            changes.push(Change { agent: name(agent), seen, to: To::Forgotten });
        }
        let (record, seen) = fleet.record("c").await.unwrap();
        changes.push(noted("c", &record, seen, 7));
        let lease = fleet.comes("a").await;
        fleet.goes(lease).await;
        // It was here since, so its record is another, though it has no session now either.
        assert_eq!(fleet.change(&changes).await, [false, true, true]);
        assert!(fleet.record("a").await.is_some());
        assert_eq!(fleet.record("b").await, None);
    }
}
