//! Many creates in few calls, and those that the store failed sent again.
//!
//! A batch is answered item by item: while etcd changes its leader some items are made and others
//! are not, or nobody knows. Whoever asked for a thousand tasks should not have to sort that out,
//! and the idempotency key makes it safe: such items are sent again under the same key, with the
//! waits of every other call, for as long as the client is patient.
//!
//! The server knows an item by the key and its index in the call, so an item must stay at its
//! place. What is decided is replaced by an empty task, of which no server makes anything. To send
//! the whole batch again would be as safe and say less clearly what is meant: what somebody deleted
//! meanwhile would be made again, and each one-shot that has run would leave a skipped run.
//!
//! A one-shot that may run at most once is not sent again while its outcome is unknown: the server
//! knows a repeat for as long as its range stays with one holder, and no longer. A batch with such
//! a task is not sent again after a lost answer.

use backon::BackoffBuilder;
use prost::Message;
use tocktower_proto::v1;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::client::{Client, Repeat, backoff, tasks};
use crate::error::{Error, Refusal};
use crate::limits;
use crate::task::{Task, runs_only_once};
use crate::tasks::{Warning, named, new_key};

/// What came of one task of a batch.
#[derive(Debug)]
pub struct BatchItem {
    pub namespace: String,
    pub name: String,
    /// The revision of the new task, or why there is none.
    pub result: Result<i64, Error>,
    pub warnings: Vec<Warning>,
}

impl Client {
    /// Makes many tasks; each is made or refused by itself. The answers are in the order given.
    ///
    /// Long batches are sent in several calls. When one of them fails as a whole, what was made
    /// before stays made: ask again with the same names, and these answer `already_exists`.
    ///
    /// Items that the store failed are sent again, for as long as the client is patient after the
    /// first answer. One that nobody knows the outcome of even then is an `Error::UnknownOutcome`.
    ///
    /// # Errors
    /// Only what fails a whole call; wrong tasks are in the answer.
    pub async fn batch(&self, all: Vec<Task>) -> Result<Vec<BatchItem>, Error> {
        let mut items = Vec::with_capacity(all.len());
        for part in parts(all) {
            items.append(&mut self.batch_part(part).await?);
        }
        Ok(items)
    }

    async fn batch_part(&self, part: Vec<v1::Task>) -> Result<Vec<BatchItem>, Error> {
        let mut message = v1::BatchCreateRequest { tasks: part, idempotency_key: new_key() };
        let mut items = self.send_batch(&message).await?;
        let give_up = Instant::now() + self.patience();
        let mut waits = backoff().build();
        while any_open(&items, &message.tasks)
            && let Some(wait) = waits.next().filter(|wait| Instant::now() + *wait < give_up)
        {
            tokio::time::sleep(wait).await;
            leave_open(&mut message.tasks, &items);
            let tasks = &message.tasks;
            let open = items
                .iter_mut()
                .zip(0..tasks.len())
                .filter(|(item, index)| is_open(item, &tasks[*index]));
            match self.send_batch(&message).await {
                Ok(mut answers) => {
                    open.for_each(|(item, index)| std::mem::swap(item, &mut answers[index]));
                }
                Err(Error::UnknownOutcome { source, .. }) => {
                    open.for_each(|(item, _)| item.result = Err(unknown(*source.clone())));
                    break;
                }
                // Nothing came of this call: what was said before is still so.
                Err(_) => break,
            }
        }
        Ok(items)
    }

    async fn send_batch(&self, message: &v1::BatchCreateRequest) -> Result<Vec<BatchItem>, Error> {
        let harmful = message.tasks.iter().any(runs_only_once);
        let repeat = if harmful { Repeat::Harmful } else { Repeat::Harmless };
        let answer = self.call("the batch", repeat, |channel| {
            let request = self.request(message.clone());
            async move { tasks(channel).batch_create(request).await }
        });
        let results = answer.await.result?.results;
        if results.len() != message.tasks.len() {
            return Err(Error::Incomplete("result for each task"));
        }
        results.into_iter().map(batch_item).collect()
    }
}

/// The store failed it: the same may succeed a little later, or has already.
fn is_open(item: &BatchItem, task: &v1::Task) -> bool {
    match &item.result {
        Ok(_) => false,
        Err(Error::UnknownOutcome { .. }) => !runs_only_once(task),
        Err(error) => error.retryable(),
    }
}

fn any_open(items: &[BatchItem], tasks: &[v1::Task]) -> bool {
    items.iter().zip(tasks).any(|(item, task)| is_open(item, task))
}

/// Leaves what is open at its place, and nothing else that anything could be made of.
fn leave_open(tasks: &mut Vec<v1::Task>, items: &[BatchItem]) {
    let open: Vec<bool> =
        items.iter().zip(tasks.iter()).map(|(item, task)| is_open(item, task)).collect();
    let last = open.iter().rposition(|open| *open).map_or(0, |last| last + 1);
    tasks.truncate(last);
    for (task, open) in tasks.iter_mut().zip(open) {
        if !open {
            *task = v1::Task::default();
        }
    }
}

fn unknown(source: Status) -> Error {
    Error::UnknownOutcome { what: "the create", source: Box::new(source) }
}

/// Cuts a batch so that each part is well within what one call may carry.
fn parts(all: Vec<Task>) -> Vec<Vec<v1::Task>> {
    let mut parts: Vec<Vec<v1::Task>> = Vec::new();
    let mut bytes = 0;
    for task in all {
        let task = named(task).into_proto();
        let size = task.encoded_len();
        let full = |part: &Vec<v1::Task>| {
            part.len() == limits::BATCH_TASKS_MAX || bytes + size > limits::BATCH_BYTES_MAX
        };
        match parts.last_mut() {
            Some(part) if !full(part) => part.push(task),
            _ => {
                parts.push(vec![task]);
                bytes = 0;
            }
        }
        bytes += size;
    }
    parts
}

fn batch_item(result: v1::BatchResult) -> Result<BatchItem, Error> {
    let v1::BatchResult { namespace, name, result, warnings } = result;
    let result = match result {
        Some(v1::batch_result::Result::Revision(revision)) => Ok(revision),
        Some(v1::batch_result::Result::Error(error)) if error.code == "outcome_unknown" => {
            Err(unknown(Status::new(Code::Unknown, error.detail)))
        }
        Some(v1::batch_result::Result::Error(error)) => {
            Err(Error::Refused(Box::new(Refusal::of_item(error))))
        }
        None => return Err(Error::Incomplete("result for each task")),
    };
    Ok(BatchItem { namespace, name, result, warnings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_batch_is_cut_by_number_and_by_size() {
        let small = vec![Task::new("default", "a"); limits::BATCH_TASKS_MAX + 1];
        let sizes: Vec<usize> = parts(small).iter().map(Vec::len).collect();
        assert_eq!(sizes, [limits::BATCH_TASKS_MAX, 1]);

        let large = Task::new("default", "a").description("x".repeat(3 * 1024 * 1024));
        let sizes: Vec<usize> = parts(vec![large; 5]).iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 2, 1]);
    }
}
