//! Changes to tasks that exist: replace, patch, pause, resume, delete.
//!
//! All of them are one loop: take the newest version that is known, decide with `core::task`, write
//! if that version is still the newest, else decide again with the one that is. With `If-Match` the
//! loop ends at the first difference. The catalog's copy is good enough to begin with: if it is
//! behind, the compare says so and brings the newer one. Where nothing is written there is no
//! compare: that all is as asked for already, that its revision is another, or that the edit does
//! not fit it is said of the version that the shared state has. What must be there before a PUT
//! decides which of its two halves is tried: with `If-None-Match: *` the create alone, with
//! `If-Match` the edit alone.

use tocktower_cluster::keys::Key;
use tocktower_cluster::port::{Answer, Compare, Op, OpAnswer, PortError, Txn};
use tocktower_cluster::tasks::{self as tasks_ops, Changed};
use tocktower_core::ids::{Incarnation, Revision, TaskName};
use tocktower_core::ledger::Marks;
use tocktower_core::task::{FieldError, NewVersion, Placement, Spec, Task, pause, replace, resume};

use super::error::TaskError;
use super::tasks::{ROUNDS_MAX, TaskWritten, Tasks, matches};
use crate::catalog::Unreadable;
use crate::clock;

/// What must be there for a PUT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// A task or none.
    Anything,
    /// No task.
    Nothing,
    /// Some version of the task.
    Something,
    Revision(Revision),
}

/// What an edit decides on.
type Decided = Result<Option<NewVersion>, TaskError>;

impl Tasks {
    /// Creates the task, or puts `spec` in the place of what is there.
    pub async fn put(
        &self,
        spec: Spec,
        expected: Expected,
        key: Option<&str>,
    ) -> Result<TaskWritten, TaskError> {
        self.ready()?;
        let name = spec.name.clone();
        let decide = |current: &Task| {
            Ok(replace(current, spec.clone(), clock::wall(), self.marks(current))?)
        };
        let if_revision = match expected {
            Expected::Anything => return self.put_anyway(&spec, key).await,
            Expected::Nothing => {
                return self.create(spec, key).await.map_err(|error| match error {
                    TaskError::Exists(name) => TaskError::NotAbsent(name),
                    error => error,
                });
            }
            Expected::Something => None,
            Expected::Revision(revision) => Some(revision),
        };
        self.edit(&name, if_revision, decide).await.map_err(|error| match error {
            TaskError::NotFound(name) => TaskError::Absent(name),
            error => error,
        })
    }

    async fn put_anyway(&self, spec: &Spec, key: Option<&str>) -> Result<TaskWritten, TaskError> {
        let name = &spec.name;
        let mut absent = self.known(name)?.is_none();
        for _ in 0..ROUNDS_MAX {
            if absent {
                match self.create(spec.clone(), key).await {
                    Err(TaskError::Exists(_)) => {}
                    result => return result,
                }
            }
            let decide = |current: &Task| {
                Ok(replace(current, spec.clone(), clock::wall(), self.marks(current))?)
            };
            match self.edit(name, None, decide).await {
                // Deleted, which the catalog may not know yet: create it.
                Err(TaskError::NotFound(_)) => absent = true,
                result => return result,
            }
        }
        Err(TaskError::Contended)
    }

    /// Changes the task by what `patch` makes of the version that is there.
    pub async fn patch(
        &self,
        name: &TaskName,
        if_revision: Option<Revision>,
        patch: impl Fn(&Task) -> Result<Spec, Vec<FieldError>>,
    ) -> Result<TaskWritten, TaskError> {
        let decide = |current: &Task| {
            let spec = patch(current).map_err(TaskError::Invalid)?;
            Ok(replace(current, spec, clock::wall(), self.marks(current))?)
        };
        self.edit(name, if_revision, decide).await
    }

    pub async fn pause(
        &self,
        name: &TaskName,
        if_revision: Option<Revision>,
    ) -> Result<TaskWritten, TaskError> {
        let decide = |current: &Task| Ok(pause(current, clock::wall(), self.marks(current))?);
        self.edit(name, if_revision, decide).await
    }

    pub async fn resume(
        &self,
        name: &TaskName,
        if_revision: Option<Revision>,
    ) -> Result<TaskWritten, TaskError> {
        let decide = |current: &Task| Ok(resume(current, clock::wall(), self.marks(current))?);
        self.edit(name, if_revision, decide).await
    }

    /// How far the newest ledger that is known of the task's range needs its schedules no more.
    fn marks(&self, task: &Task) -> Marks {
        let range = self.catalog.keys().ranges().range_of(&task.spec.name);
        // What is pinned has its ledger with its agent: nothing is known of it here.
        let Some(pool) = task.spec.placement.pool() else { return Marks::NONE };
        let key = (pool.clone(), range);
        self.catalog
            .look(|state| state.ledgers.get(&key).map_or(Marks::NONE, |gist| gist.done_with))
    }

    async fn edit(
        &self,
        name: &TaskName,
        if_revision: Option<Revision>,
        decide: impl Fn(&Task) -> Decided,
    ) -> Result<TaskWritten, TaskError> {
        self.ready()?;
        let (mut current, mut sure) = self.newest(name).await?;
        for _ in 0..ROUNDS_MAX {
            let decided = matches(if_revision, current.revision).and_then(|()| decide(&current));
            let version = match decided {
                Ok(Some(version)) => version,
                unwritten if !sure => {
                    match self.look_again(&current, unwritten.err()).await? {
                        Some(newer) => (current, sure) = (newer, true),
                        None => return Ok(self.written(current, false, false)),
                    }
                    continue;
                }
                Ok(None) => return Ok(self.written(current, false, false)),
                Err(error) => return Err(error),
            };
            match self.replace(&current, &version).await? {
                Changed::Done { incarnation, revision } => {
                    return Ok(self.replaced(current, version, incarnation, revision));
                }
                Changed::Conflict(Some(newer)) => (current, sure) = (*newer, true),
                // Gone, or placed elsewhere.
                Changed::Conflict(None) => {
                    let found = self.look_up(name).await?;
                    let found = found.ok_or_else(|| TaskError::NotFound(name.clone()))?;
                    (current, sure) = (found, true);
                }
            }
        }
        Err(TaskError::Contended)
    }

    /// By the catalog's version nothing is to be written, for the `refused` reason if there is one.
    /// That counts if the shared state has no other. `Some`: it has.
    async fn look_again(
        &self,
        current: &Task,
        refused: Option<TaskError>,
    ) -> Result<Option<Task>, TaskError> {
        let name = &current.spec.name;
        match (self.stored(&current.spec.placement, name).await, refused) {
            (Ok(Some(task)), _) if task.revision != current.revision => Ok(Some(task)),
            (Ok(None), _) => Err(TaskError::NotFound(name.clone())),
            (Ok(Some(_)), Some(error)) => Err(error),
            (Ok(Some(_)), None) => Ok(None),
            // A mistake in the request is one also while the shared state does not answer.
            (Err(_), Some(TaskError::Invalid(errors))) => Err(TaskError::Invalid(errors)),
            (Err(error), _) => Err(error),
        }
    }

    fn replaced(
        &self,
        current: Task,
        version: NewVersion,
        incarnation: Incarnation,
        revision: Revision,
    ) -> TaskWritten {
        let moved = version.moved;
        let task = version.clone().written(incarnation, revision);
        if moved {
            self.catalog.deleted(&current.spec.placement, &current.spec.name, revision);
        }
        self.show_version(&task, &version);
        self.written(task, false, moved)
    }

    async fn replace(&self, current: &Task, version: &NewVersion) -> Result<Changed, TaskError> {
        let triggers = self.catalog.look(|state| state.triggers_of(&current.spec.name));
        let keys = self.catalog.keys();
        let txn = tasks_ops::replace(keys, current, version, self.epoch, &triggers)?;
        match self.send(txn).await {
            Ok(answer) => Ok(tasks_ops::read_replace(current, version, self.epoch, &answer)?),
            Err(PortError::Unknown(_)) => self.look_into(version).await,
            Err(error) => Err(TaskError::Store(error)),
        }
    }

    /// After an unknown outcome: what is there as it was sent was written. What is there otherwise
    /// may have been written over it, so that nothing is written again.
    async fn look_into(&self, version: &NewVersion) -> Result<Changed, TaskError> {
        let (placement, name) = (&version.spec.placement, &version.spec.name);
        let found = self.read(placement, name).await.map_err(|_| TaskError::OutcomeUnknown)?;
        let (incarnation, revision) = match &found {
            Some(task) => (task.incarnation, task.revision),
            None => return Err(TaskError::OutcomeUnknown),
        };
        match found == Some(version.clone().written(incarnation, revision)) {
            true => Ok(Changed::Done { incarnation, revision }),
            false => Err(TaskError::OutcomeUnknown),
        }
    }

    /// Deletes the task; also one whose record cannot be read.
    pub async fn delete(
        &self,
        name: &TaskName,
        if_revision: Option<Revision>,
    ) -> Result<(), TaskError> {
        self.ready()?;
        let (mut current, mut sure) = match self.newest(name).await {
            Ok(newest) => newest,
            Err(TaskError::Unreadable { .. }) => {
                return self.delete_unreadable(name, if_revision).await;
            }
            Err(error) => return Err(error),
        };
        for _ in 0..ROUNDS_MAX {
            if let Err(other) = matches(if_revision, current.revision) {
                let newer = match sure {
                    true => None,
                    false => self.look_again(&current, Some(other.clone())).await?,
                };
                (current, sure) = (newer.ok_or(other)?, true);
                continue;
            }
            let triggers = self.catalog.look(|state| state.triggers_of(name));
            let txn = tasks_ops::delete(self.catalog.keys(), &current, &triggers);
            let answer = match self.send(txn).await {
                Ok(answer) => answer,
                // Asked again, a delete does no harm, and its absence is its success.
                Err(PortError::Unknown(_)) => match self.look_up(name).await {
                    Ok(None) => return Ok(()),
                    Ok(Some(_)) | Err(_) => return Err(TaskError::OutcomeUnknown),
                },
                Err(error) => return Err(TaskError::Store(error)),
            };
            match tasks_ops::read_delete(&current, &answer)? {
                Changed::Done { revision, .. } => {
                    self.catalog.deleted(&current.spec.placement, name, revision);
                    return Ok(());
                }
                Changed::Conflict(Some(newer)) => (current, sure) = (*newer, true),
                Changed::Conflict(None) => {
                    let found = self.look_up(name).await?;
                    let found = found.ok_or_else(|| TaskError::NotFound(name.clone()))?;
                    (current, sure) = (found, true);
                }
            }
        }
        Err(TaskError::Contended)
    }

    async fn delete_unreadable(
        &self,
        name: &TaskName,
        if_revision: Option<Revision>,
    ) -> Result<(), TaskError> {
        let keys = self.catalog.keys();
        let known = self.catalog.look(|state| {
            let stored = state.tasks.get(name);
            stored.map(|stored| (stored.placement.clone(), stored.mod_revision))
        });
        let (placement, revision) = known.ok_or_else(|| TaskError::NotFound(name.clone()))?;
        matches(if_revision, revision)?;
        let key = keys.build(&Key::Task(placement.clone(), name.clone()));
        let mut then = vec![Op::Delete { key: key.clone() }];
        if placement != *keys.directory() {
            then.push(Op::Delete { key: keys.build(&Key::Elsewhere(name.clone())) });
        }
        let when = vec![Compare::Modified { key: key.clone(), at: revision }];
        let txn = Txn { when, then, otherwise: vec![Op::Get { key }] };
        match self.send(txn).await? {
            Answer::Txn { revision, succeeded: true, .. } => {
                self.catalog.deleted(&placement, name, revision);
                Ok(())
            }
            Answer::Txn { answers, .. } if answers == [OpAnswer::Got(None)] => {
                Err(TaskError::NotFound(name.clone()))
            }
            _ => Err(TaskError::Contended),
        }
    }

    /// The version in the catalog, decoded.
    pub(super) fn known(&self, name: &TaskName) -> Result<Option<Task>, TaskError> {
        self.catalog
            .task(name)
            .transpose()
            .map_err(|Unreadable { name, error, .. }| TaskError::Unreadable { name, error })
    }

    /// The newest version that can be had without waiting; if the catalog has none, the store's,
    /// which is the newest for sure.
    pub(super) async fn newest(&self, name: &TaskName) -> Result<(Task, bool), TaskError> {
        if let Some(task) = self.known(name)? {
            return Ok((task, false));
        }
        // It may have been made through another coordinator a moment ago.
        let found = self.look_up(name).await?;
        Ok((found.ok_or_else(|| TaskError::NotFound(name.clone()))?, true))
    }

    /// The newest version, past the catalog, of a task that was last seen in this place.
    pub(super) async fn stored(
        &self,
        place: &Placement,
        name: &TaskName,
    ) -> Result<Option<Task>, TaskError> {
        match self.read(place, name).await? {
            Some(task) => Ok(Some(task)),
            // Deleted, or moved.
            None => self.look_up(name).await,
        }
    }
}
