//! A live view for one reader, whatever it is read through: a snapshot in pages, then each change,
//! and a fresh snapshot when something was missed.
//!
//! The feed is followed from before the snapshot is taken, so a change in between comes twice, once
//! in the snapshot and once as an event, and never not at all. Every message carries the whole of
//! what it is about, so that twice does no harm.

use std::sync::Arc;

use tocktower_core::ids::TaskName;
use tocktower_core::run::{RunRecord, RunState};

use crate::feed::{Change, Filter, Follower, Next};
use crate::rest::App;
use crate::service::{AgentView, RunFilter, Shown, TaskFilter};

/// Items of one page of a snapshot.
const PAGE: usize = 500;
/// The newest runs are part of a snapshot, ended or not.
const NEWEST_RUNS: usize = 100;
/// Pages of open runs in one snapshot.
const OPEN_PAGES_MAX: usize = 20;
const OPEN: [RunState; 3] = [RunState::Queued, RunState::Running, RunState::WaitingRetry];

/// A page of a snapshot.
#[derive(Debug, Default)]
pub struct Page {
    pub tasks: Vec<Shown>,
    pub runs: Vec<RunRecord>,
    pub agents: Vec<AgentView>,
    /// Agents that may know more runs and did not answer.
    pub silent: Vec<String>,
    /// No further page follows.
    pub last: bool,
}

#[derive(Debug)]
pub enum Message {
    Snapshot(Page),
    Changes(Vec<Arc<Change>>),
    /// So many were missed; a fresh snapshot follows.
    Lagged {
        missed: u64,
    },
    /// The coordinator stops.
    Closed,
}

/// What comes next of a snapshot.
#[derive(Debug)]
enum Stage {
    Tasks { cursor: Option<String> },
    NewestRuns,
    OpenRuns { cursor: Option<String>, pages: usize },
    Agents,
    Following,
}

pub struct Live {
    app: App,
    follower: Follower,
    stage: Stage,
    /// A page that is being made; kept while `next` is dropped and called again.
    silent: Vec<String>,
}

impl Live {
    pub fn new(app: App, filter: Filter) -> Live {
        let follower = app.runs.follow(filter);
        Live { app, follower, stage: Stage::Tasks { cursor: None }, silent: Vec::new() }
    }

    /// Begins again, with another filter.
    pub fn change_filter(&mut self, filter: Filter) {
        self.follower = self.app.runs.follow(filter);
        self.again();
    }

    fn again(&mut self) {
        self.stage = Stage::Tasks { cursor: None };
        self.silent.clear();
    }

    /// Waits for the next message. May be dropped while it waits; nothing is lost.
    pub async fn next(&mut self) -> Message {
        if !matches!(self.stage, Stage::Following) {
            return Message::Snapshot(self.page().await);
        }
        let catalog = &self.app.catalog;
        let labels_of = |task: &TaskName| catalog.look(|state| state.labels_of(task));
        match self.follower.next(&labels_of).await {
            Next::Changes(changes) => Message::Changes(changes),
            Next::Lagged { missed } => {
                self.again();
                Message::Lagged { missed }
            }
            Next::Closed => Message::Closed,
        }
    }

    /// The next page that holds something, or the last.
    async fn page(&mut self) -> Page {
        loop {
            let kinds = self.follower.filter().kinds;
            let page = match &self.stage {
                Stage::Tasks { cursor } if kinds.task => self.tasks(cursor.clone()).await,
                Stage::Tasks { .. } => self.step(Stage::NewestRuns),
                Stage::NewestRuns if kinds.run => self.newest_runs().await,
                Stage::NewestRuns => self.step(Stage::Agents),
                Stage::OpenRuns { cursor, pages } => self.open_runs(cursor.clone(), *pages).await,
                Stage::Agents | Stage::Following => {
                    let agents = match kinds.agent {
                        true => self.app.fleet.agents(None).unwrap_or_default(),
                        false => Vec::new(),
                    };
                    self.stage = Stage::Following;
                    let silent = std::mem::take(&mut self.silent);
                    return Page { agents, silent, last: true, ..Page::default() };
                }
            };
            if !page.tasks.is_empty() || !page.runs.is_empty() {
                return page;
            }
        }
    }

    fn step(&mut self, next: Stage) -> Page {
        self.stage = next;
        Page::default()
    }

    async fn tasks(&mut self, cursor: Option<String>) -> Page {
        let filter = self.follower.filter().clone();
        if let (Some(namespace), Some(name)) = (filter.namespace.clone(), filter.task.clone()) {
            let name = TaskName { namespace, name };
            let read = self.app.tasks.get(&name).await;
            let tasks = read.map(|read| vec![read.value]).unwrap_or_default();
            return Page { tasks, ..self.step(Stage::NewestRuns) };
        }
        let wanted = TaskFilter {
            namespace: filter.namespace.clone(),
            labels: filter.labels.clone(),
            ..TaskFilter::default()
        };
        let Ok(read) = self.app.tasks.list(&wanted, PAGE, cursor.as_deref()).await else {
            return self.step(Stage::NewestRuns);
        };
        self.stage = match read.value.next_cursor {
            Some(cursor) => Stage::Tasks { cursor: Some(cursor) },
            None => Stage::NewestRuns,
        };
        let named = |shown: &Shown| match (&filter.task, shown) {
            (None, _) => true,
            (Some(name), Shown::Task(task, _)) => task.spec.name.name == *name,
            (Some(name), Shown::Unreadable(task)) => task.name.name == *name,
            (Some(_), Shown::Ended { .. }) => true,
        };
        Page { tasks: read.value.items.into_iter().filter(named).collect(), ..Page::default() }
    }

    async fn newest_runs(&mut self) -> Page {
        let page = self.runs(&[], NEWEST_RUNS, None).await;
        self.stage = match page.1 {
            // There are more than these: the open ones among them are of interest.
            Some(_) => Stage::OpenRuns { cursor: None, pages: 0 },
            None => Stage::Agents,
        };
        Page { runs: page.0, ..Page::default() }
    }

    async fn open_runs(&mut self, cursor: Option<String>, pages: usize) -> Page {
        let (runs, next) = self.runs(&OPEN, PAGE, cursor.as_deref()).await;
        self.stage = match next {
            Some(next) if pages < OPEN_PAGES_MAX => {
                Stage::OpenRuns { cursor: Some(next), pages: pages + 1 }
            }
            Some(_) | None => Stage::Agents,
        };
        Page { runs, ..Page::default() }
    }

    async fn runs(
        &mut self,
        states: &[RunState],
        limit: usize,
        cursor: Option<&str>,
    ) -> (Vec<RunRecord>, Option<String>) {
        let filter = self.follower.filter().clone();
        let wanted = RunFilter {
            namespace: filter.namespace.clone(),
            task: filter.task.clone(),
            states: states.to_vec(),
            ..RunFilter::default()
        };
        let Ok(page) = self.app.runs.list(&wanted, limit, cursor).await else {
            return (Vec::new(), None);
        };
        for agent in page.silent {
            if !self.silent.contains(&agent) {
                self.silent.push(agent);
            }
        }
        let carries = |run: &RunRecord| {
            let labels = self.app.catalog.look(|state| state.labels_of(&run.id.task));
            filter.labels.is_empty() || labels.is_some_and(|labels| filter.carries(&labels))
        };
        (page.runs.into_iter().filter(carries).collect(), page.next_cursor)
    }
}
