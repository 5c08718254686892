//! Runs asked for by hand.
//!
//! A trigger is a key of its own, put beside the incarnation of the task that was meant. Sent again
//! with the same `Idempotency-Key` it is one trigger: the lower bits of its ulid come from the key,
//! so a retry finds the first in the catalog while it waits, or in the history once it has run, for
//! as long as a request is known again. If an agent is silent that may know of it, the retry is
//! refused, since nobody can tell it from a new one. Two of one key that are sent at the same
//! moment through two coordinators are both written, since each looks before the other's is there;
//! the holder of the range, where both arrive, ends the second as `duplicate_of` the first.
//!
//! With `wait` the answer comes when the run has ended: by the live feed, and by asking now and
//! then, since a feed may have begun a moment too late.

use std::time::Duration;

use tocktower_cluster::port::PortError;
use tocktower_cluster::records::Trigger;
use tocktower_cluster::triggers::{self as trigger_ops, Asked};
use tocktower_core::ids::{RunId, TaskName};
use tocktower_core::limits;
use tocktower_core::run::RunRecord;
use tocktower_core::task::Task;
use tocktower_proto::convert::format_run_id;
use tokio::time::Instant;

use super::error::TaskError;
use super::requests;
use super::tasks::Tasks;
use crate::clock;
use crate::feed::{Filter, Follower, Kinds, Next, What};

/// The longest `wait`.
pub const WAIT_MAX: Duration = Duration::from_secs(300);
/// How often a run that is waited for is asked about.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How far back a retried trigger is looked for: runs carry the time of the coordinator that took
/// the trigger in, whose clock may be behind this one.
const LOOK_BACK: Duration = Duration::from_secs(limits::REQUEST_KEPT.as_secs() + 60);
/// The task may be edited between look and write this often.
const ROUNDS_MAX: usize = 3;

/// A trigger as it was taken in.
#[derive(Clone, PartialEq, Debug)]
pub struct Triggered {
    pub run_id: String,
    /// What is known of the run when the answer is given.
    pub run: Option<RunRecord>,
}

/// Its trigger would be every agent's, and nobody's to delete.
fn refuse_every_agent(task: &Task) -> Result<(), TaskError> {
    match task.spec.placement.every_agent() {
        None => Ok(()),
        Some(pool) => Err(TaskError::bad(
            "placement.every_agent",
            format!(
                "the task runs on every agent of pool {pool} that it selects, and cannot be run by \
                 hand: allowed are `placement.pool` and `placement.agent`"
            ),
        )),
    }
}

impl Tasks {
    pub async fn trigger(
        &self,
        name: &TaskName,
        payload: Option<Vec<u8>>,
        key: Option<&str>,
        wait: Option<Duration>,
    ) -> Result<Triggered, TaskError> {
        self.ready()?;
        let request = key.map(|key| requests::request(key, 0));
        // Followed from before it is asked for, so that its end cannot come unseen.
        let follower = wait.map(|_| self.runs.follow(Filter::one_task(Kinds::RUNS, name)));
        let id = self.ask(name, payload, request).await?;
        let run_id = format_run_id(&id);
        let run = match (wait, follower) {
            (Some(wait), Some(follower)) => self.ended_within(&run_id, wait, follower).await,
            _ => self.runs.one(&run_id).await.ok(),
        };
        Ok(Triggered { run_id, run })
    }

    async fn ask(
        &self,
        name: &TaskName,
        payload: Option<Vec<u8>>,
        request: Option<u128>,
    ) -> Result<RunId, TaskError> {
        let (mut task, _) = self.newest(name).await?;
        refuse_every_agent(&task)?;
        let ulid = requests::ulid(request, clock::wall());
        if request.is_some()
            && let Some(id) = self.asked_before(&task, ulid).await?
        {
            return Ok(id);
        }
        let waiting = self.catalog.look(|state| state.triggers_of(name).len());
        if waiting >= limits::TRIGGERS_WAITING_MAX {
            return Err(TaskError::ManyTriggers);
        }
        for _ in 0..ROUNDS_MAX {
            let payload = payload.clone();
            let trigger = Trigger { payload, created_at: clock::wall(), request };
            let txn = trigger_ops::create(self.catalog.keys(), &task, ulid, &trigger)?;
            let answer = match self.send(txn.clone()).await {
                // Sent again it finds itself; had it run meanwhile, its name is not started twice.
                Err(PortError::Unknown(_)) => self.send(txn).await?,
                answer => answer?,
            };
            match trigger_ops::read_create(&answer)? {
                Asked::Done { revision } => {
                    self.catalog.asked(name, ulid, revision);
                    return Ok(trigger_ops::run_id(&task, ulid));
                }
                Asked::Already(_) => return Ok(trigger_ops::run_id(&task, ulid)),
                Asked::TaskGone => {
                    let found = self.look_up(name).await?;
                    task = found.ok_or_else(|| TaskError::NotFound(name.clone()))?;
                    refuse_every_agent(&task)?;
                }
            }
        }
        Err(TaskError::Contended)
    }

    /// The run that the same request asked for before. The catalog is looked at first: a run is in
    /// the history before its key goes.
    async fn asked_before(&self, task: &Task, ulid: u128) -> Result<Option<RunId>, TaskError> {
        let waiting = self.catalog.look(|state| state.triggers_of(&task.spec.name));
        if let Some(first) = waiting.into_iter().find(|w| requests::same_request(*w, ulid)) {
            return Ok(Some(trigger_ops::run_id(task, first)));
        }
        let since = clock::wall().minus(LOOK_BACK).instant();
        let found = self.runs.of_request(task, ulid, since).await;
        found.map_err(TaskError::Unrecognized)
    }

    async fn ended_within(
        &self,
        run_id: &str,
        wait: Duration,
        mut follower: Follower,
    ) -> Option<RunRecord> {
        let until = Instant::now() + wait.min(WAIT_MAX);
        let no_labels = |_: &TaskName| None;
        let mut ask = tokio::time::interval(ASK_EVERY);
        let mut known: Option<RunRecord> = None;
        loop {
            tokio::select! {
                next = follower.next(&no_labels) => if let Next::Changes(changes) = next {
                    for change in changes {
                        if let What::Run(run) = &change.what && format_run_id(&run.id) == run_id {
                            known = Some(run.as_ref().clone());
                        }
                    }
                },
                _ = ask.tick() => if let Ok(run) = self.runs.one(run_id).await {
                    known = Some(run);
                },
                () = tokio::time::sleep_until(until) => return known,
            }
            if known.as_ref().is_some_and(|run| run.state.is_end()) {
                return known;
            }
        }
    }
}
