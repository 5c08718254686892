//! What an operator asks of an agent: to take no more ranges, to hand over those that it holds, to
//! weigh more or less than it is configured to.
//!
//! It lies in the record that outlives the agent's sessions, beside what the agent puts there when
//! it registers. So both sides compare the revision that they have seen: a drain is not lost to a
//! restart at the same moment, and whoever comes second starts from what the first has written.
//! What becomes of it is the agent's affair: it reads its own record, and its session tells all
//! others, by whom the ring is computed.

use tocktower_core::agent::input::Asked;
use tocktower_core::ids::{AgentName, Revision};
use tocktower_core::ring::Duty;
use tocktower_proto::convert::{DecodeError, decode_record, encode_record};
use tocktower_proto::store::AgentRecord;

use crate::keys::{Key, Keys};
use crate::port::{Answer, Compare, KeyValue, Op, OpAnswer, Txn};
use crate::tasks::AnswerError;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// One that is drained stays so: it is cordoned already.
    Cordon,
    Drain,
    Uncordon,
    /// `None`: as it is configured.
    Weight(Option<u32>),
}

impl Ask {
    /// The record after it was asked.
    pub fn apply(self, record: &AgentRecord) -> AgentRecord {
        let record = record.clone();
        match self {
            Ask::Cordon => AgentRecord { cordoned: true, ..record },
            Ask::Drain => AgentRecord { cordoned: true, draining: true, ..record },
            Ask::Uncordon => AgentRecord { cordoned: false, draining: false, ..record },
            Ask::Weight(weight_asked) => AgentRecord { weight_asked, ..record },
        }
    }
}

/// What came of writing a record, or of reading it.
#[derive(Clone, PartialEq, Debug)]
pub enum Wrote {
    Done {
        revision: Revision,
    },
    NotThere,
    /// It is another than the one that was seen.
    Changed {
        record: AgentRecord,
        now: Revision,
    },
}

/// Puts the record if it is still the one that was seen.
pub fn write(keys: &Keys, agent: &AgentName, seen: Revision, record: &AgentRecord) -> Txn {
    let key = keys.build(&Key::Agent(agent.clone()));
    let value = encode_record(record);
    Txn {
        when: vec![Compare::Modified { key: key.clone(), at: seen }],
        then: vec![Op::Put { key: key.clone(), value, lease: None }],
        otherwise: vec![Op::Get { key }],
    }
}

/// Reads the record, which was not seen yet.
pub fn read(keys: &Keys, agent: &AgentName) -> Txn {
    let key = keys.build(&Key::Agent(agent.clone()));
    Txn { then: vec![Op::Get { key }], ..Txn::default() }
}

/// What came of [`write()`] or [`read`].
pub fn read_wrote(answer: &Answer) -> Result<Wrote, AnswerError> {
    let Answer::Txn { revision, answers, .. } = answer else { return Err(AnswerError::Mismatch) };
    match answers.as_slice() {
        [OpAnswer::Put] => Ok(Wrote::Done { revision: *revision }),
        [OpAnswer::Got(None)] => Ok(Wrote::NotThere),
        [OpAnswer::Got(Some(item))] => {
            Ok(Wrote::Changed { record: decode_record(&item.value)?, now: item.mod_revision })
        }
        _ => Err(AnswerError::Mismatch),
    }
}

/// What the record asks of its agent.
pub fn asked(item: &KeyValue) -> Result<Asked, DecodeError> {
    let record: AgentRecord = decode_record(&item.value)?;
    let duty = duty_of(record.cordoned, record.draining);
    Ok(Asked { duty, weight: record.weight_asked, revision: item.mod_revision })
}

/// Who is drained is cordoned, too.
pub fn duty_of(cordoned: bool, draining: bool) -> Duty {
    match (cordoned, draining) {
        (_, true) => Duty::Draining,
        (true, false) => Duty::Cordoned,
        (false, false) => Duty::Full,
    }
}

/// As records have it: cordoned, and draining.
pub fn duty_flags(duty: Duty) -> (bool, bool) {
    (duty != Duty::Full, duty == Duty::Draining)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use tocktower_core::agent::effect::ShareRequest;
    use tocktower_core::agent::input::ShareAnswer;
    use tocktower_core::hash::RangeCount;
    use tocktower_core::ids::{Epoch, LeaseId, PoolName};
    use tocktower_core::ring::Capacity;
    use tocktower_core::time::Wall;

    use super::*;
    use crate::agents::{AgentOps, Identity};
    use crate::embedded::Embedded;
    use crate::keys::PREFIX;
    use crate::port::{Port, Request};

    /// One agent, and the operator who asks something of it.
    struct Fleet {
        keys: Keys,
        port: Arc<Embedded>,
        ops: AgentOps,
    }

    fn name() -> AgentName {
        AgentName::parse("a").unwrap()
    }

    impl Fleet {
        fn new() -> Fleet {
            let keys = Keys::new(PREFIX, RangeCount::DEFAULT);
            let identity = Identity {
                agent: name(),
                pool: PoolName::parse("default").unwrap(),
                labels: BTreeMap::new(),
                version: String::new(),
                tz_version: String::new(),
                host_id: String::new(),
            };
            let ops = AgentOps::new(keys.clone(), identity, Epoch(1));
            Fleet { keys, port: Embedded::in_memory().unwrap(), ops }
        }

        /// Registers by what it takes to be asked.
        async fn comes(&self, asked: Asked) -> (LeaseId, ShareAnswer) {
            let grant = Request::GrantLease { ttl: Duration::from_secs(60) };
            let Answer::Lease { lease, .. } = self.port.call(grant).await.unwrap() else {
                panic!("no lease");
            };
            let capacity = Capacity { weight: asked.weight.unwrap_or(100), duty: asked.duty };
            let register = ShareRequest::Register { lease, capacity, asked };
            let request = self.ops.request(&register, Wall::from_millis(5));
            (lease, self.ops.answer(&register, self.port.call(request).await))
        }

        async fn send(&self, txn: Txn) -> Wrote {
            let answer = self.port.call(Request::Txn(txn)).await.unwrap();
            read_wrote(&answer).unwrap()
        }

        async fn record(&self) -> Option<(AgentRecord, Revision)> {
            match self.send(read(&self.keys, &name())).await {
                Wrote::Changed { record, now } => Some((record, now)),
                _ => None,
            }
        }

        async fn ask(&self, ask: Ask) -> Revision {
            let (record, seen) = self.record().await.unwrap();
            let wrote = self.send(write(&self.keys, &name(), seen, &ask.apply(&record))).await;
            let Wrote::Done { revision } = wrote else { panic!("{wrote:?}") };
            revision
        }
    }

    #[tokio::test]
    async fn what_was_asked_outlives_the_session_and_the_next_one_goes_by_it() {
        let fleet = Fleet::new();
        let (lease, answer) = fleet.comes(Asked::default()).await;
        assert!(matches!(answer, ShareAnswer::Registered { .. }), "{answer:?}");
        fleet.ask(Ask::Drain).await;
        let revision = fleet.ask(Ask::Weight(Some(30))).await;
        fleet.port.call(Request::RevokeLease { lease }).await.unwrap();
        // It knows nothing of it, and is told instead of being registered.
        let (lease, answer) = fleet.comes(Asked::default()).await;
        let asked = Asked { duty: Duty::Draining, weight: Some(30), revision };
        assert_eq!(answer, ShareAnswer::Asked(asked));
        fleet.port.call(Request::RevokeLease { lease }).await.unwrap();
        let (_, answer) = fleet.comes(asked).await;
        assert!(matches!(answer, ShareAnswer::Registered { .. }), "{answer:?}");
        let (record, _) = fleet.record().await.unwrap();
        assert!(record.draining && record.cordoned && record.weight_asked == Some(30));
        fleet.ask(Ask::Uncordon).await;
        let (record, _) = fleet.record().await.unwrap();
        assert!(!record.draining && !record.cordoned && record.weight_asked == Some(30));
    }

    #[tokio::test]
    async fn of_two_who_ask_at_once_the_second_starts_from_what_the_first_has_written() {
        let fleet = Fleet::new();
        assert_eq!(fleet.record().await, None);
        fleet.comes(Asked::default()).await;
        let (record, seen) = fleet.record().await.unwrap();
        let now = fleet.ask(Ask::Drain).await;
        let late = write(&fleet.keys, &name(), seen, &Ask::Weight(Some(5)).apply(&record));
        let Wrote::Changed { record, now: at } = fleet.send(late).await else {
            panic!("the drain was overwritten");
        };
        assert!(record.draining && at == now);
    }

    #[test]
    fn a_cordon_does_not_end_a_drain() {
        let drained = Ask::Drain.apply(&AgentRecord::default());
        assert_eq!(Ask::Cordon.apply(&drained), drained);
        for duty in [Duty::Full, Duty::Cordoned, Duty::Draining] {
            let (cordoned, draining) = duty_flags(duty);
            assert_eq!(duty_of(cordoned, draining), duty);
        }
    }
}
