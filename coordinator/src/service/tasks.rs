//! Tasks are made here, one or ten thousand at a time.
//!
//! A create is checked, encoded and handed to the group commit; nothing is read first, since the
//! create itself finds out whether the name is taken. What is found in its place may be the same
//! request, sent again after a lost answer: then the first answer is given again.
//!
//! Edits are in `edits`, reads in `look`, triggers in `triggers`: one service, several files.

use std::sync::Arc;
use std::time::Duration;

use tocktower_cluster::commit::{Commit, Wanted};
use tocktower_cluster::port::{Answer, Port, PortError, Request, Txn};
use tocktower_cluster::tasks::{self as tasks_ops, Create, Created, Lookup, Taken};
use tocktower_core::ids::{Epoch, Revision, TaskName};
use tocktower_core::limits;
use tocktower_core::task::{NewVersion, Placement, Spec, Task, create};
use tocktower_proto::convert::{TaskStatus, encode_task};
use tokio::sync::Semaphore;

use super::error::{Code, Fault, TaskError};
use super::requests;
use super::runs::Runs;
use crate::catalog::{Catalog, Kept, Written};
use crate::clock;
use crate::links::Links;
use crate::metrics::Metrics;

/// Edits, deletes and triggers that are with the shared state at once; more of them wait.
const WRITES_MAX: usize = 256;
/// As many reads, behind which no such transaction waits.
const READS_MAX: usize = 256;
/// Others may change a task between look and write, or read, this often before it is given up.
pub(super) const ROUNDS_MAX: usize = 5;
/// A write that takes longer is of unknown outcome.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// Agents call for slower creates when their newest proof is over a second old; a second later
/// creates are refused.
const PRESSED_FOR: Duration = Duration::from_secs(1);

/// The task service. Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    pub(super) catalog: Catalog,
    pub(super) port: Arc<dyn Port>,
    pub(super) epoch: Epoch,
    pub(super) links: Links,
    pub(super) runs: Runs,
    commit: Commit,
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// Something accepted that a person should look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    pub code: String,
    pub message: String,
}

/// A task as it was written.
#[derive(Clone, PartialEq, Debug)]
pub struct TaskWritten {
    pub task: Task,
    pub status: TaskStatus,
    /// It did not exist before.
    pub created: bool,
    /// Its placement changed: it is a new incarnation.
    pub moved: bool,
    pub warnings: Vec<Warning>,
}

impl Tasks {
    pub fn new(
        catalog: Catalog,
        port: Arc<dyn Port>,
        epoch: Epoch,
        links: Links,
        runs: Runs,
        metrics: Arc<Metrics>,
    ) -> Tasks {
        let observed = metrics.clone();
        let observer = Arc::new(move |creates: usize, took: Duration| {
            observed.committed(creates, took);
        });
        let commit = Commit::start(port.clone(), catalog.keys().clone(), epoch, observer);
        let writes = Arc::new(Semaphore::new(WRITES_MAX));
        let reads = Arc::new(Semaphore::new(READS_MAX));
        Tasks { catalog, port, epoch, links, runs, commit, writes, reads, metrics }
    }

    /// Makes a new task. With a key it may be sent again.
    pub async fn create(&self, spec: Spec, key: Option<&str>) -> Result<TaskWritten, TaskError> {
        let mut results = self.create_all([(0, Ok(spec))].into_iter(), key).await?;
        results.pop().unwrap_or(Err(TaskError::OutcomeUnknown))
    }

    /// Makes many new tasks, each for itself; results are in order. What was refused before it
    /// became a task is handed through, so that it keeps its place. Each comes with its index in
    /// the whole request, by which a retry knows it again. Nothing is asked of `specs` before
    /// their number is known to be allowed.
    pub async fn create_all(
        &self,
        specs: impl ExactSizeIterator<Item = (usize, Result<Spec, TaskError>)>,
        key: Option<&str>,
    ) -> Result<Vec<Result<TaskWritten, TaskError>>, TaskError> {
        batch_fits(specs.len())?;
        self.ready()?;
        let mut mistakes_left = limits::BATCH_MISTAKES_MAX;
        let mut results: Vec<Result<TaskWritten, TaskError>> = Vec::with_capacity(specs.len());
        let mut sent: Vec<(usize, NewVersion)> = Vec::new();
        let mut wanted = Vec::new();
        for (index, spec) in specs {
            match spec.and_then(|spec| self.prepare(spec, key, index)) {
                Ok((version, create)) => {
                    sent.push((results.len(), version));
                    wanted.push(create);
                    results.push(Err(TaskError::OutcomeUnknown));
                }
                Err(error) => results.push(Err(error.within(&mut mistakes_left))),
            }
        }
        let values: Vec<Vec<u8>> = wanted.iter().map(|w: &Wanted| w.create.value.clone()).collect();
        let outcomes = self.commit.create(wanted).await?;
        for (((place, version), outcome), value) in sent.into_iter().zip(outcomes).zip(values) {
            let result = match outcome {
                Ok(created) => self.created(version, created, &value).await,
                Err(error) => Err(TaskError::from(error)),
            };
            if let Some(slot) = results.get_mut(place) {
                *slot = result;
            }
        }
        self.metrics.created(results.iter().filter(|result| result.is_ok()).count());
        match without_the_store(&results) {
            Some(error) => Err(error),
            None => Ok(results),
        }
    }

    fn prepare(
        &self,
        spec: Spec,
        key: Option<&str>,
        index: usize,
    ) -> Result<(NewVersion, Wanted), TaskError> {
        // If this coordinator's own writes do not come back either, it is the shared state that
        // fails, and the create itself will say so.
        let pressed = spec
            .placement
            .pool()
            .is_some_and(|pool| self.links.pressed(pool, clock::mono(), PRESSED_FOR));
        if pressed && self.catalog.fresh() {
            return Err(TaskError::Pressed);
        }
        let request = match key {
            Some(key) => Some(requests::request(key, index)),
            None => spec.one_shot_at().map(|_| requests::request_by_chance()),
        };
        let version = create(spec, clock::wall(), request).map_err(TaskError::Invalid)?;
        let create = Create::new(&version, self.epoch)?;
        Ok((version, Wanted { create, known_again: request.is_some() }))
    }

    async fn created(
        &self,
        version: NewVersion,
        created: Created,
        value: &[u8],
    ) -> Result<TaskWritten, TaskError> {
        let request = version.request;
        let name = version.spec.name.clone();
        let there = match created {
            Created::Done { incarnation, revision } => {
                let task = version.written(incarnation, revision);
                self.show_early(&task, value);
                return Ok(self.written(task, true, false));
            }
            Created::Exists(Taken::Here(task)) => Some(*task),
            Created::Exists(Taken::Elsewhere(placed)) if request.is_some() => {
                self.read(&placed, &name).await?
            }
            Created::Exists(Taken::Elsewhere(_)) => None,
        };
        match there {
            // The same request: the first answer again.
            Some(task) if request.is_some() && task.request == request => {
                Ok(self.written(task, true, false))
            }
            Some(_) | None => Err(TaskError::Exists(name)),
        }
    }

    /// So that whoever has the answer finds the task, before the watch brings it.
    pub(super) fn show_early(&self, task: &Task, value: &[u8]) {
        let (create_revision, mod_revision) = (task.incarnation.revision, task.revision);
        let written = Written { value, create_revision, mod_revision };
        self.catalog.wrote(&task.spec.placement, &task.spec.name, written);
    }

    pub(super) fn show_version(&self, task: &Task, version: &NewVersion) {
        self.show_early(task, &encode_task(version, task.incarnation.epoch));
    }

    pub(super) fn written(&self, task: Task, created: bool, moved: bool) -> TaskWritten {
        let status = TaskStatus::at(&task, clock::wall());
        let warnings = self.warnings(&task.spec);
        TaskWritten { task, status, created, moved, warnings }
    }

    /// What is accepted and worth a look.
    fn warnings(&self, spec: &Spec) -> Vec<Warning> {
        let known = self.catalog.look(|state| match &spec.placement {
            Placement::Pool(pool) | Placement::EveryAgent(pool) => {
                let kept = |kept: &Kept| kept.record.pool == pool.as_str();
                state.agents_in(pool) > 0 || state.agents.values().any(kept)
            }
            Placement::Agent(agent) => {
                state.members.contains_key(agent) || state.agents.contains_key(agent)
            }
        });
        if known {
            return Vec::new();
        }
        let (code, message) = match &spec.placement {
            Placement::Pool(pool) | Placement::EveryAgent(pool) => {
                let message =
                    format!("no agent is in the pool {pool}: its tasks wait until one is");
                ("unknown_pool", message)
            }
            Placement::Agent(agent) => {
                let message = format!("no agent is called {agent}: the task waits until one is");
                ("unknown_agent", message)
            }
        };
        vec![Warning { code: code.to_owned(), message }]
    }

    pub(super) fn ready(&self) -> Result<(), TaskError> {
        match self.catalog.standing().listed {
            true => Ok(()),
            false => Err(TaskError::NotReady),
        }
    }

    /// Sends a transaction that writes; beyond a bound it waits for its turn.
    pub(super) async fn send(&self, txn: Txn) -> Result<Answer, PortError> {
        self.send_among(&self.writes, txn).await
    }

    /// Sends one that reads.
    async fn asked(&self, txn: Txn) -> Result<Answer, TaskError> {
        // A read that was not answered leaves nothing unknown.
        self.send_among(&self.reads, txn).await.map_err(TaskError::Store)
    }

    async fn send_among(&self, turns: &Semaphore, txn: Txn) -> Result<Answer, PortError> {
        let _turn = turns.acquire().await.map_err(|_| closing())?;
        let answer = self.port.call(Request::Txn(txn));
        let late = || PortError::Unknown(format!("no answer within {WRITE_WITHIN:?}"));
        tokio::time::timeout(WRITE_WITHIN, answer).await.unwrap_or_else(|_| Err(late()))
    }

    /// Reads a task from where it is placed, past the catalog.
    pub(super) async fn read(
        &self,
        placement: &Placement,
        name: &TaskName,
    ) -> Result<Option<Task>, TaskError> {
        let answer = self.asked(tasks_ops::get(self.catalog.keys(), placement, name)).await?;
        Ok(tasks_ops::read_get(placement, name, &answer)?)
    }

    /// Finds a task by its name, past the catalog.
    pub(super) async fn look_up(&self, name: &TaskName) -> Result<Option<Task>, TaskError> {
        let keys = self.catalog.keys();
        for _ in 0..ROUNDS_MAX {
            let answer = self.asked(tasks_ops::lookup(keys, name)).await?;
            match tasks_ops::read_lookup(keys, name, &answer)? {
                Lookup::Found(task) => return Ok(Some(*task)),
                Lookup::Absent => return Ok(None),
                // Not there any more: it may have moved on between the two reads.
                Lookup::Elsewhere(placed) => {
                    if let Some(task) = self.read(&placed, name).await? {
                        return Ok(Some(task));
                    }
                }
            }
        }
        Err(TaskError::Contended)
    }
}

/// What to refuse a batch with that failed as one, since the shared state did not take any of it.
/// If of any task nobody knows whether it was created, that is the answer.
fn without_the_store(results: &[Result<TaskWritten, TaskError>]) -> Option<TaskError> {
    let of_store = |result: &Result<TaskWritten, TaskError>| match result {
        Err(error) => matches!(error.code(), Code::StoreUnavailable | Code::OutcomeUnknown),
        Ok(_) => false,
    };
    if !results.iter().all(of_store) {
        return None;
    }
    let mut errors = results.iter().filter_map(|result| result.as_ref().err());
    let unknown = errors.clone().find(|error| error.code() == Code::OutcomeUnknown);
    unknown.or_else(|| errors.next()).cloned()
}

/// Whether a batch of so many tasks is taken.
pub fn batch_fits(given: usize) -> Result<(), TaskError> {
    let max = limits::BATCH_TASKS_MAX;
    if given > max { Err(TaskError::BatchTooLong { given, max }) } else { Ok(()) }
}

fn closing() -> PortError {
    PortError::Unreachable("the coordinator stops".to_owned())
}

/// `If-Match`: what was given must be what is there.
pub(super) fn matches(given: Option<Revision>, now: Revision) -> Result<(), TaskError> {
    match given {
        Some(given) if given != now => Err(TaskError::Conflict { given, now }),
        Some(_) | None => Ok(()),
    }
}
