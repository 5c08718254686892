//! The calls on tasks.
//!
//! Which of them may be sent again after a lost answer, and why:
//!
//! - create, batch (see there) and trigger carry an idempotency key that is made once per call, so
//!   the server knows a repeat. A task without a name gets one here, as a repeat must ask for the
//!   same task. A one-shot that may run at most once is the exception: the server knows a repeat
//!   for as long as its range stays with one holder, and no longer.
//! - put of a recurring task ends in the same state however often it is sent. Put of a one-shot
//!   does not: it may have run and gone between two attempts, and would be made a second time.
//! - delete, pause and resume end in the same state; a delete that finds nothing after a lost
//!   answer has done its work.
//! - a change with a revision is refused the second time because of its own first time. That is not
//!   a conflict with anybody, so it is told as an unknown outcome.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures::Stream;
use futures::stream::{self, TryStreamExt};
use tocktower_proto::v1;
use tonic::Code;
use ulid::Ulid;

use crate::client::{Answer, Client, Repeat, tasks};
use crate::error::Error;
use crate::limits;
use crate::read::Read;
use crate::schedule::Schedule;
use crate::task::{Task, TaskState};
use crate::time::{span, timestamp};

pub use v1::Warning;

/// A task that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub task: Task,
    /// It did not exist before.
    pub created: bool,
    /// Its placement changed: it is a new incarnation.
    pub moved: bool,
    /// What was accepted and should be looked at.
    pub warnings: Vec<Warning>,
}

/// Which tasks to list. `Default` is every task of every namespace, without stdin, env and body.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskFilter {
    /// Left out: all.
    pub namespace: Option<String>,
    /// Of the name.
    pub prefix: String,
    /// All of them must be there.
    pub labels: BTreeMap<String, String>,
    /// Empty: every state.
    pub states: Vec<TaskState>,
    /// Part of the name or the description.
    pub search: String,
    /// With stdin, env and body.
    pub full: bool,
}

impl TaskFilter {
    /// Every task of one namespace.
    pub fn namespace(namespace: impl Into<String>) -> TaskFilter {
        TaskFilter { namespace: Some(namespace.into()), ..TaskFilter::default() }
    }
}

/// One page of tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskPage {
    pub tasks: Vec<Task>,
    pub next_cursor: Option<String>,
    /// The server cannot reach the shared state: this is what it last knew.
    pub stale: bool,
}

/// The next instants of schedules.
pub use v1::PreviewScheduleResponse as Preview;

/// What became of an instant, and the facts that this is drawn from.
pub use v1::WhyResponse as Why;

/// A run that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Triggered {
    pub run_id: String,
    /// What was known of it when the answer was given.
    pub run: Option<v1::Run>,
}

impl Client {
    /// Makes a new task.
    ///
    /// # Errors
    /// `already_exists` if there is one of that name, `invalid_task` with every wrong field;
    /// `Error::UnknownOutcome` if the answer was lost and the task is a one-shot that may run at
    /// most once: look whether it is there or has run, then decide.
    ///
    /// ```no_run
    /// # async fn f(client: tocktower_client::Client) -> Result<(), tocktower_client::Error> {
    /// use std::time::{Duration, SystemTime};
    /// use tocktower_client::{Http, Task};
    ///
    /// let reminder = Task::unnamed("mail")
    ///     .at(SystemTime::now() + Duration::from_secs(3600))
    ///     .http(Http::post("https://example.com/remind/42"));
    /// let written = client.create(reminder).await?;
    /// println!("{} at revision {}", written.task.name(), written.task.revision());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create(&self, task: Task) -> Result<Written, Error> {
        let repeat = if task.runs_only_once() { Repeat::Harmful } else { Repeat::Harmless };
        let task = Some(named(task).into_proto());
        let message = v1::CreateTaskRequest { task, idempotency_key: new_key() };
        let answer = self.call("the create", repeat, |channel| {
            let request = self.request(message.clone());
            async move { tasks(channel).create_task(request).await }
        });
        let answer = answer.await.result?;
        let task = answer.task.ok_or(Error::Incomplete("task"))?.into();
        Ok(Written { task, created: true, moved: false, warnings: answer.warnings })
    }

    /// Creates or replaces a task; with `if_revision`, only if it still has that revision.
    ///
    /// # Errors
    /// `revision_conflict`, `invalid_task`; `Error::UnknownOutcome` if the answer was lost and to
    /// send it again might do harm: look at the task, then decide.
    pub async fn put(&self, task: Task, if_revision: Option<i64>) -> Result<Written, Error> {
        let repeat = if task.is_one_shot() && if_revision.is_none() {
            Repeat::Harmful
        } else {
            Repeat::Harmless
        };
        let message = v1::PutTaskRequest { task: Some(named(task).into_proto()), if_revision };
        let answer = self.call("the put", repeat, |channel| {
            let request = self.request(message.clone());
            async move { tasks(channel).put_task(request).await }
        });
        let answer = own_conflict("the put", answer.await)?;
        let task = answer.task.ok_or(Error::Incomplete("task"))?.into();
        let (created, moved) = (answer.created, answer.moved);
        Ok(Written { task, created, moved, warnings: answer.warnings })
    }

    /// A task as it is now, with its last run. A one-shot that has ended is known for a while.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Read<Task>, Error> {
        let message = v1::GetTaskRequest { namespace: namespace.into(), name: name.into() };
        let answer = self.read(|channel| {
            let request = self.request(message.clone());
            async move { tasks(channel).get_task(request).await }
        });
        let answer = answer.await?;
        let value = answer.task.ok_or(Error::Incomplete("task"))?.into();
        Ok(Read { value, stale: answer.stale })
    }

    /// Every task that matches, page by page as the stream is read. Whether the answers may be out
    /// of date is told by `list_page` alone.
    ///
    /// ```no_run
    /// # async fn f(client: tocktower_client::Client) -> Result<(), tocktower_client::Error> {
    /// use futures::TryStreamExt;
    /// use tocktower_client::TaskFilter;
    ///
    /// let mut tasks = std::pin::pin!(client.list(TaskFilter::namespace("default")));
    /// while let Some(task) = tasks.try_next().await? {
    ///     println!("{}", task.name());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list(
        &self,
        filter: TaskFilter,
    ) -> impl Stream<Item = Result<Task, Error>> + Send + use<> {
        let client = self.clone();
        let pages = stream::try_unfold(Some(String::new()), move |cursor| {
            let (client, filter) = (client.clone(), filter.clone());
            async move {
                let Some(cursor) = cursor else {
                    return Ok(None);
                };
                let page = client.list_page(&filter, &cursor, limits::PAGE_ITEMS_MAX).await?;
                Ok(Some((stream::iter(page.tasks.into_iter().map(Ok)), page.next_cursor)))
            }
        });
        pages.try_flatten()
    }

    /// One page of a list.
    ///
    /// # Errors
    /// `invalid_argument` for a cursor that is not from such a list.
    pub async fn list_page(
        &self,
        filter: &TaskFilter,
        cursor: &str,
        limit: u32,
    ) -> Result<TaskPage, Error> {
        let view = if filter.full { v1::TaskView::Full } else { v1::TaskView::Basic };
        let message = v1::ListTasksRequest {
            namespace: filter.namespace.clone().unwrap_or_else(|| "-".to_owned()),
            prefix: filter.prefix.clone(),
            labels: filter.labels.clone(),
            states: filter.states.iter().map(|&state| state.into()).collect(),
            search: filter.search.clone(),
            limit,
            cursor: cursor.to_owned(),
            view: view.into(),
        };
        let answer = self.read(|channel| {
            let request = self.request(message.clone());
            async move { tasks(channel).list_tasks(request).await }
        });
        let answer = answer.await?;
        Ok(TaskPage {
            tasks: answer.tasks.into_iter().map(Task::from).collect(),
            next_cursor: Some(answer.next_cursor).filter(|cursor| !cursor.is_empty()),
            stale: answer.stale,
        })
    }

    /// Deletes a task; with `if_revision`, only if it still has that revision. Once this has
    /// answered, nothing more starts under it.
    ///
    /// # Errors
    /// `not_found`, `revision_conflict`.
    pub async fn delete(
        &self,
        namespace: &str,
        name: &str,
        if_revision: Option<i64>,
    ) -> Result<(), Error> {
        let message =
            v1::DeleteTaskRequest { namespace: namespace.into(), name: name.into(), if_revision };
        let answer = self.call("the delete", Repeat::Harmless, |channel| {
            let request = self.request(message.clone());
            async move { tasks(channel).delete_task(request).await }
        });
        let answer = answer.await;
        match answer.result {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() && answer.maybe_done_before => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Starts nothing more of a task until it is resumed.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn pause(&self, namespace: &str, name: &str) -> Result<Task, Error> {
        let message = v1::PauseTaskRequest {
            namespace: namespace.into(),
            name: name.into(),
            if_revision: None,
        };
        let answer = self.call("the pause", Repeat::Harmless, |channel| {
            let request = self.request(message.clone());
            async move { tasks(channel).pause_task(request).await }
        });
        Ok(answer.await.result?.task.ok_or(Error::Incomplete("task"))?.into())
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn resume(&self, namespace: &str, name: &str) -> Result<Task, Error> {
        let message = v1::ResumeTaskRequest {
            namespace: namespace.into(),
            name: name.into(),
            if_revision: None,
        };
        let answer = self.call("the resume", Repeat::Harmless, |channel| {
            let request = self.request(message.clone());
            async move { tasks(channel).resume_task(request).await }
        });
        Ok(answer.await.result?.task.ok_or(Error::Incomplete("task"))?.into())
    }

    /// Runs a task now, whatever its schedule; with `wait`, answers when the run has ended or that
    /// time is over.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn trigger(
        &self,
        namespace: &str,
        name: &str,
        payload: Option<String>,
        wait: Option<Duration>,
    ) -> Result<Triggered, Error> {
        let message = v1::TriggerTaskRequest {
            namespace: namespace.into(),
            name: name.into(),
            payload,
            idempotency_key: new_key(),
            wait: wait.map(span),
        };
        let timeout = self.timeout() + wait.unwrap_or_default();
        let answer = self.call("the trigger", Repeat::Harmless, |channel| {
            let request = self.request_within(message.clone(), timeout);
            async move { tasks(channel).trigger_task(request).await }
        });
        let answer = answer.await.result?;
        Ok(Triggered { run_id: answer.run_id, run: answer.run })
    }

    /// The next instants of a task after a moment; left out: now.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn upcoming(
        &self,
        namespace: &str,
        name: &str,
        count: u32,
        after: Option<SystemTime>,
    ) -> Result<Read<Preview>, Error> {
        let message = v1::UpcomingRequest {
            namespace: namespace.into(),
            name: name.into(),
            count,
            after: after.map(timestamp),
        };
        let answer = self.read(|channel| {
            let request = self.request(message.clone());
            async move { tasks(channel).upcoming(request).await }
        });
        let v1::UpcomingResponse { instants, description, warnings, stale } = answer.await?;
        Ok(Read { value: Preview { instants, description, warnings }, stale })
    }

    /// What became of an instant of a task, and why; left out: of the newest that should have run
    /// by now. `agent`: of a task of every agent, which needs it, whose share is asked about.
    ///
    /// # Errors
    /// `not_found` for a name that nobody has ever heard of; `agents_silent` if one who may have
    /// does not answer.
    pub async fn why(
        &self,
        namespace: &str,
        name: &str,
        at: Option<SystemTime>,
        agent: Option<&str>,
    ) -> Result<Read<Why>, Error> {
        let message = v1::WhyRequest {
            namespace: namespace.into(),
            name: name.into(),
            at: at.map(timestamp),
            agent: agent.unwrap_or_default().into(),
        };
        let answer = self.read(|channel| {
            let request = self.request(message.clone());
            async move { tasks(channel).why(request).await }
        });
        let value = answer.await?;
        Ok(Read { stale: value.stale, value })
    }

    /// The next instants of schedules that belong to no task yet. `H` spreads by the name of
    /// `task`, a namespace and a name.
    ///
    /// # Errors
    /// `invalid_task` with every wrong field.
    pub async fn preview(
        &self,
        schedules: Vec<Schedule>,
        count: u32,
        after: Option<SystemTime>,
        task: Option<(&str, &str)>,
    ) -> Result<Preview, Error> {
        let (namespace, name) = task.unwrap_or_default();
        let message = v1::PreviewScheduleRequest {
            schedules: schedules.into_iter().map(v1::Schedule::from).collect(),
            after: after.map(timestamp),
            count,
            namespace: namespace.into(),
            name: name.into(),
        };
        self.read(|channel| {
            let request = self.request(message.clone());
            async move { tasks(channel).preview_schedule(request).await }
        })
        .await
    }
}

/// A task with a name: to send a create again, both must ask for the same one.
pub(crate) fn named(task: Task) -> Task {
    if !task.name().is_empty() {
        return task;
    }
    let mut task = task.into_proto();
    task.name = new_key();
    task.into()
}

/// Keys and names are ulids in lower case, as the server would make them.
pub(crate) fn new_key() -> String {
    Ulid::generate().to_string().to_lowercase()
}

/// A refusal for a revision that this call itself may have passed is no conflict.
fn own_conflict<T>(what: &'static str, answer: Answer<T>) -> Result<T, Error> {
    match answer.result {
        Err(Error::Refused(refusal))
            if answer.maybe_done_before
                && matches!(refusal.status, Code::FailedPrecondition | Code::Aborted) =>
        {
            let source = Box::new(tonic::Status::new(refusal.status, refusal.detail.clone()));
            Err(Error::UnknownOutcome { what, source })
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_without_a_name_gets_one_before_it_is_sent() {
        let name = named(Task::unnamed("default")).into_proto().name;
        assert_eq!(name.len(), 26);
        assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{name}");
        assert_eq!(named(Task::new("default", "a")).name(), "a");
    }
}
