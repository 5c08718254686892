//! Operations on triggers: a manual run asked for is a key of its own, a one-shot in every respect.
//!
//! It is created only beside the incarnation of the task that was meant, in one transaction, so
//! that a trigger never outlives a delete it was sent after. A request that is sent again brings
//! the same ulid and finds its first trigger.

use tocktower_core::ids::{Revision, RunId};
use tocktower_core::limits;
use tocktower_core::task::Task;
use tocktower_proto::convert::{encode_record, request_bytes};
use tocktower_proto::store;

use crate::keys::{Key, Keys};
use crate::port::{Answer, Compare, Op, OpAnswer, Txn};
use crate::records::{Trigger, read_trigger};
use crate::tasks::AnswerError;

/// The payload is larger than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload has {bytes} bytes; at most {} are allowed", limits::PAYLOAD_BYTES_MAX)]
pub struct PayloadTooLarge {
    pub bytes: usize,
}

/// What came of asking for a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    Done {
        revision: Revision,
    },
    /// The same request was here before.
    Already(Trigger),
    /// The task was deleted, or made anew, meanwhile.
    TaskGone,
}

/// The run that a trigger of a task makes.
pub fn run_id(task: &Task, ulid: u128) -> RunId {
    RunId::manual(task.spec.name.clone(), ulid)
}

/// Asks for a run of `task`.
pub fn create(
    keys: &Keys,
    task: &Task,
    ulid: u128,
    trigger: &Trigger,
) -> Result<Txn, PayloadTooLarge> {
    let bytes = trigger.payload.as_ref().map_or(0, Vec::len);
    if bytes > limits::PAYLOAD_BYTES_MAX {
        return Err(PayloadTooLarge { bytes });
    }
    let (placement, name) = (task.spec.placement.clone(), task.spec.name.clone());
    let task_key = keys.build(&Key::Task(placement.clone(), name.clone()));
    let key = keys.build(&Key::Trigger(placement, name, ulid));
    let value = encode_record(&store::TriggerRecord {
        payload: trigger.payload.clone(),
        created_at_us: trigger.created_at.micros(),
        request: request_bytes(trigger.request),
    });
    Ok(Txn {
        when: vec![
            Compare::Created { key: task_key, at: task.incarnation.revision },
            Compare::absent(key.clone()),
        ],
        then: vec![Op::Put { key: key.clone(), value, lease: None }],
        otherwise: vec![Op::Get { key }],
    })
}

/// What came of [`create`].
pub fn read_create(answer: &Answer) -> Result<Asked, AnswerError> {
    match answer {
        Answer::Txn { revision, succeeded: true, .. } => Ok(Asked::Done { revision: *revision }),
        Answer::Txn { succeeded: false, answers, .. } => match answers.as_slice() {
            [OpAnswer::Got(Some(item))] => Ok(Asked::Already(read_trigger(&item.value)?)),
            [OpAnswer::Got(None)] => Ok(Asked::TaskGone),
            _ => Err(AnswerError::Mismatch),
        },
        _ => Err(AnswerError::Mismatch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::Embedded;
    use crate::keys::PREFIX;
    use crate::port::{Port, Request};
    use crate::tasks;
    use std::sync::Arc;
    use tocktower_core::hash::RangeCount;
    use tocktower_core::ids::Epoch;
    use tocktower_core::time::Wall;
    use tocktower_proto::convert::{Given, Purpose, task_from_json};
    use tocktower_proto::json;

    fn trigger() -> Trigger {
        Trigger { payload: Some(b"a".to_vec()), created_at: Wall::from_millis(5), request: Some(7) }
    }

    async fn send(port: &Arc<Embedded>, txn: Txn) -> Answer {
        port.call(Request::Txn(txn)).await.unwrap()
    }

    async fn made(keys: &Keys, port: &Arc<Embedded>) -> Task {
        let every = json::Schedule { every: Some("10s".into()), ..Default::default() };
        let body = json::Task {
            schedules: Some(vec![every]),
            action: Some(json::Action { noop: Some(json::Noop {}), ..Default::default() }),
            ..Default::default()
        };
        let purpose = Purpose::Edit;
        let given = Given { namespace: None, name: None, fresh_name: "a", purpose };
        let spec = task_from_json(&body, given).unwrap();
        let version = tocktower_core::task::create(spec, Wall::MIN, None).unwrap();
        let create = tasks::Create::new(&version, Epoch(1)).unwrap();
        send(port, tasks::create(keys, std::slice::from_ref(&create))).await;
        let answer = send(port, tasks::get(keys, &create.placement, &create.name)).await;
        tasks::read_get(&create.placement, &create.name, &answer).unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_trigger_that_is_sent_again_is_one() {
        let keys = Keys::new(PREFIX, RangeCount::DEFAULT);
        let port = Embedded::in_memory().unwrap();
        let task = made(&keys, &port).await;
        let txn = create(&keys, &task, 9, &trigger()).unwrap();
        let first = read_create(&send(&port, txn.clone()).await).unwrap();
        assert!(matches!(first, Asked::Done { .. }));
        let again = read_create(&send(&port, txn).await).unwrap();
        assert_eq!(again, Asked::Already(trigger()));
    }

    #[tokio::test]
    async fn a_trigger_needs_the_incarnation_it_was_meant_for() {
        let keys = Keys::new(PREFIX, RangeCount::DEFAULT);
        let port = Embedded::in_memory().unwrap();
        let first = made(&keys, &port).await;
        send(&port, tasks::delete(&keys, &first, &[])).await;
        let txn = create(&keys, &first, 9, &trigger()).unwrap();
        assert_eq!(read_create(&send(&port, txn.clone()).await), Ok(Asked::TaskGone));
        let second = made(&keys, &port).await;
        assert_eq!(read_create(&send(&port, txn).await), Ok(Asked::TaskGone));
        let txn = create(&keys, &second, 9, &trigger()).unwrap();
        assert!(matches!(read_create(&send(&port, txn).await), Ok(Asked::Done { .. })));
        // Deleted with its task.
        send(&port, tasks::delete(&keys, &second, &[9])).await;
        let third = made(&keys, &port).await;
        let txn = create(&keys, &third, 9, &trigger()).unwrap();
        assert!(matches!(read_create(&send(&port, txn).await), Ok(Asked::Done { .. })));
    }

    #[tokio::test]
    async fn a_payload_is_bounded() {
        let keys = Keys::new(PREFIX, RangeCount::DEFAULT);
        let port = Embedded::in_memory().unwrap();
        let task = made(&keys, &port).await;
        let payload = Some(vec![0; limits::PAYLOAD_BYTES_MAX + 1]);
        let large = Trigger { payload, ..trigger() };
        assert!(create(&keys, &task, 9, &large).is_err());
    }
}
