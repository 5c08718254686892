//! Operations on triggers: a manual run asked for is a key of its own, a one-shot in every respect.
//!
//! It is created only beside the incarnation of the task that was meant, in one transaction, so
//! that a trigger never outlives a delete it was sent after. A request that is sent again brings
//! the same ulid and finds its first trigger.

use tocktower_core::ids::{Revision, RunId, RunKey};
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
    RunId { task: task.spec.name.clone(), incarnation: task.incarnation, run: RunKey::Manual(ulid) }
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
    let (pool, name) = (task.spec.pool.clone(), task.spec.name.clone());
    let task_key = keys.build(&Key::Task(pool.clone(), name.clone()));
    let key = keys.build(&Key::Trigger(pool, name, ulid));
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
