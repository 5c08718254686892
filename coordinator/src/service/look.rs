//! Reads of tasks: one, or a page of those that match.
//!
//! One is read as the shared state has it, so that it is never older than a change that anybody
//! has had an answer to, whichever coordinator that came from. Where the shared state does not
//! answer soon it is what was last known, and says that it may be out of date. Pages are answered
//! from the catalog.
//!
//! Lists walk the names in order and go on where the cursor says, so a page is stable while tasks
//! come and go: each that was there all the time is seen once. A filter that matches little walks
//! far; it does so in short looks with a pause between them, so that neither the catalog's owner
//! nor other readers wait for it.
//!
//! A one-shot that has ended has left the shared state. Its name is answered from the history of
//! agents for as long as they keep it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use tocktower_core::ids::{Namespace, RunKey, TaskName};
use tocktower_core::run::RunRecord;
use tocktower_core::task::Task;
use tocktower_proto::convert::{TaskState, TaskStatus};

use super::asking::ANSWER_WITHIN;
use super::cursor;
use super::error::{Code, Fault, TaskError};
use super::tasks::Tasks;
use crate::catalog::{Glance, Stored, Unreadable};
use crate::clock;

/// How long the newest run of a task that is shown may take. Of one that has ended it is all there
/// is, and worth the whole time that agents have for a question.
const LAST_RUN_WITHIN: Duration = Duration::from_secs(1);
/// How long the shared state has to say how a task is, and where it has not answered for a while.
const READ_WITHIN: Duration = Duration::from_secs(1);
const READ_WITHIN_STALE: Duration = Duration::from_millis(200);
/// Tasks in one look at the catalog.
const LOOK_TASKS: usize = 1_000;
/// Items of one page.
pub const PAGE_MAX: usize = 1_000;
pub const PAGE_DEFAULT: usize = 100;

/// What is known of a task.
#[derive(Clone, PartialEq, Debug)]
pub enum Shown {
    Task(Box<Task>, Box<TaskStatus>),
    /// Its record cannot be read.
    Unreadable(Unreadable),
    /// A one-shot that has ended; only its run is left.
    Ended {
        name: TaskName,
        run: Box<RunRecord>,
    },
}

/// A task, if there is one, and if its record can be read.
pub type Found = Option<Result<Task, Unreadable>>;

/// A read, and whether it may be out of date.
#[derive(Clone, PartialEq, Debug)]
pub struct Read<T> {
    pub value: T,
    pub stale: bool,
}

/// Which tasks a list shows. What is left out matches everything.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TaskFilter {
    pub namespace: Option<Namespace>,
    /// Of the name.
    pub prefix: String,
    pub labels: BTreeMap<String, String>,
    pub states: Vec<ListState>,
    /// Part of the name or the description, in any case.
    pub search: String,
}

/// A state that a list can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListState {
    Of(TaskState),
    Unreadable,
}

impl ListState {
    pub const ALLOWED: &str = "active, paused, finished, unreadable";

    pub fn parse(text: &str) -> Option<ListState> {
        match text {
            "unreadable" => Some(ListState::Unreadable),
            text => TaskState::parse(text).map(ListState::Of),
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct TaskPage {
    pub items: Vec<Shown>,
    pub next_cursor: Option<String>,
}

impl Tasks {
    /// One task as it is now, with its newest run if an agent tells of it in time.
    pub async fn get(&self, name: &TaskName) -> Result<Read<Shown>, TaskError> {
        let current = self.current(name).await?;
        self.show(name, current).await
    }

    /// The same as the catalog has it, as old as what follows from there.
    pub async fn get_copied(&self, name: &TaskName) -> Result<Read<Shown>, TaskError> {
        self.ready()?;
        let read = Read { value: self.catalog.task(name), stale: self.catalog.stale() };
        self.show(name, read).await
    }

    /// The task as the shared state has it, or as it was last known.
    pub async fn current(&self, name: &TaskName) -> Result<Read<Found>, TaskError> {
        self.ready()?;
        let known = self.catalog.task(name);
        let place = match &known {
            Some(Ok(task)) => Some(&task.spec.placement),
            Some(Err(_)) => return Ok(Read { value: known, stale: self.catalog.stale() }),
            None => None,
        };
        let asked = async {
            match place {
                Some(place) => self.stored(place, name).await,
                None => self.look_up(name).await,
            }
        };
        let within = if self.catalog.stale() { READ_WITHIN_STALE } else { READ_WITHIN };
        match tokio::time::timeout(within, asked).await {
            Ok(Ok(task)) => Ok(Read { value: task.map(Ok), stale: false }),
            Ok(Err(error)) if error.code() == Code::Unreadable => Err(error),
            Ok(Err(_)) | Err(_) => Ok(Read { value: known, stale: true }),
        }
    }

    /// What was found, with the newest run.
    pub async fn show(
        &self,
        name: &TaskName,
        Read { value, stale }: Read<Found>,
    ) -> Result<Read<Shown>, TaskError> {
        let value = match value {
            Some(Ok(task)) => {
                let last_run = self.runs.last_of(name, LAST_RUN_WITHIN).await.run;
                let status = TaskStatus { last_run, ..TaskStatus::at(&task, clock::wall()) };
                Shown::Task(Box::new(task), Box::new(status))
            }
            Some(Err(unreadable)) => Shown::Unreadable(unreadable),
            None => match self.ended(name).await {
                Err(TaskError::NotFound(name)) if stale => return Err(TaskError::Unread(name)),
                ended => ended?,
            },
        };
        Ok(Read { value, stale })
    }

    /// What history says of a name that no task has. Only the run of a one-shot carries a request,
    /// so a recurring task that was deleted is not taken for one that has ended. While somebody is
    /// silent who may know, that there is none is not known either.
    async fn ended(&self, name: &TaskName) -> Result<Shown, TaskError> {
        let newest = self.runs.last_of(name, ANSWER_WITHIN).await;
        let run = newest.run.filter(|run| run.request.is_some() && run.state.is_end());
        match run {
            Some(run) if matches!(run.id.run, RunKey::Instant(_)) => {
                Ok(Shown::Ended { name: name.clone(), run: Box::new(run) })
            }
            Some(_) | None if newest.silent.is_empty() => Err(TaskError::NotFound(name.clone())),
            Some(_) | None => Err(TaskError::Silent(newest.silent)),
        }
    }

    /// A page of the tasks that match, in the order of their names.
    pub async fn list(
        &self,
        filter: &TaskFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Read<TaskPage>, TaskError> {
        self.ready()?;
        let stale = self.catalog.stale();
        let after = cursor
            .map(cursor::read_text)
            .transpose()
            .map_err(|error| TaskError::bad("cursor", error.to_string()))?;
        let first = filter.first();
        // An exclusive bound goes on behind the cursor; the first look begins at the filter's own.
        let mut from = match after {
            Some(after) if after >= first => Bound::Excluded(after),
            Some(_) | None => Bound::Included(first),
        };
        let mut items = Vec::new();
        loop {
            let look = self.look(filter, from, limit + 1 - items.len());
            items.extend(look.found);
            if items.len() > limit {
                items.truncate(limit);
                let next_cursor = items.last().map(|(key, _)| cursor::write_text(key));
                return Ok(page(items, next_cursor, stale));
            }
            match look.next {
                Some(next) => from = Bound::Excluded(next),
                None => return Ok(page(items, None, stale)),
            }
            tokio::task::yield_now().await;
        }
    }

    /// One short look: at most so many tasks, at most so many found.
    fn look(&self, filter: &TaskFilter, from: Bound<String>, wanted: usize) -> Look {
        let now = clock::wall();
        let end = filter.end();
        let from = from.as_ref().map(String::as_str);
        // Copied out under the lock, decoded after it.
        let (rows, next) = self.catalog.look(|state| {
            let mut rows = Vec::new();
            let mut last = None;
            for (seen, stored) in state.tasks.from(from).enumerate() {
                if !stored.key.starts_with(&end) {
                    return (rows, None);
                }
                if seen == LOOK_TASKS || rows.len() == wanted {
                    return (rows, last);
                }
                if filter.may_match(&stored) {
                    rows.push((stored.key.to_owned(), stored.copied()));
                }
                last = Some(stored.key.to_owned());
            }
            (rows, None)
        });
        let found = rows.into_iter().filter_map(|(key, copied)| {
            let shown = match copied.read() {
                Ok(task) => {
                    let status = TaskStatus::at(&task, now);
                    Shown::Task(Box::new(task), Box::new(status))
                }
                Err(unreadable) => Shown::Unreadable(unreadable),
            };
            filter.state_matches(&shown).then_some((key, shown))
        });
        Look { found: found.collect(), next }
    }
}

struct Look {
    found: Vec<(String, Shown)>,
    /// The last one looked at, if there are more.
    next: Option<String>,
}

fn page(items: Vec<(String, Shown)>, next_cursor: Option<String>, stale: bool) -> Read<TaskPage> {
    let items = items.into_iter().map(|(_, shown)| shown).collect();
    Read { value: TaskPage { items, next_cursor }, stale }
}

impl TaskFilter {
    /// Where the walk begins: the namespace and the prefix are one range of names.
    fn first(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.prefix),
            None => String::new(),
        }
    }

    /// What every name of the walk begins with.
    fn end(&self) -> String {
        self.first()
    }

    /// What can be said without decoding the whole record.
    fn may_match(&self, stored: &Stored<'_>) -> bool {
        let name = stored.key.split_once('/').map_or(stored.key, |(_, name)| name);
        if !name.starts_with(&self.prefix) {
            return false;
        }
        if stored.error.is_some() {
            // Its labels cannot be read; who asks for labels does not mean it.
            return self.labels.is_empty() && (self.search.is_empty() || self.found_in(name, ""));
        }
        if self.labels.is_empty() && self.search.is_empty() && self.states.is_empty() {
            return true;
        }
        let glance = stored.glance();
        let carries = |(key, value): (&String, &String)| glance.labels.get(key) == Some(value);
        self.labels.iter().all(carries)
            && (self.search.is_empty() || self.found_in(name, &glance.description))
            && self.pause_matches(&glance)
    }

    fn found_in(&self, name: &str, description: &str) -> bool {
        let search = self.search.to_lowercase();
        name.contains(&search) || description.to_lowercase().contains(&search)
    }

    /// Whether a task is paused is in its record; the other states need its instants.
    fn pause_matches(&self, glance: &Glance) -> bool {
        let paused = |state: &ListState| *state == ListState::Of(TaskState::Paused);
        self.states.is_empty() || self.states.iter().any(|state| paused(state) == glance.paused)
    }

    fn state_matches(&self, shown: &Shown) -> bool {
        let state = match shown {
            Shown::Task(_, status) => ListState::Of(status.state),
            Shown::Unreadable(_) => ListState::Unreadable,
            Shown::Ended { .. } => ListState::Of(TaskState::Finished),
        };
        self.states.is_empty() || self.states.contains(&state)
    }
}
