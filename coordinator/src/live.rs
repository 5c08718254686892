//! A live view for one reader, whatever it is read through: a snapshot in pages, then each change,
//! and a fresh snapshot when something was missed.
//!
//! The feed is followed from before the snapshot is taken, so a change in between comes twice, once
//! in the snapshot and once as an event, and never not at all. Every message carries the whole of
//! what it is about, so that twice does no harm.
//!
//! Agents do not know labels. So runs by label are picked here from pages of all runs, as many as
//! it takes within a bound; where a bound cuts a snapshot short, its last page says so.

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
/// Pages in which those are looked for, where the filter names labels.
const NEWEST_PAGES_MAX: usize = 20;
/// Pages of open runs in one snapshot.
const OPEN_PAGES_MAX: usize = 20;
/// Open live feeds of one coordinator, of each transport.
pub const FEEDS_MAX: i64 = 10_000;
const OPEN: [RunState; 3] = [RunState::Queued, RunState::Running, RunState::WaitingRetry];

/// A page of a snapshot.
#[derive(Debug, Default)]
pub struct Page {
    pub tasks: Vec<Shown>,
    pub runs: Vec<RunRecord>,
    pub agents: Vec<AgentView>,
    /// Agents that may know more runs and did not answer. In the last page.
    pub silent: Vec<String>,
    /// There are more runs than a snapshot holds. In the last page.
    pub cut: bool,
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

/// What comes next of a snapshot. `pages` were read before.
#[derive(Debug)]
enum Stage {
    Tasks { cursor: Option<String> },
    NewestRuns { cursor: Option<String>, pages: usize, found: usize },
    OpenRuns { cursor: Option<String>, pages: usize },
    Agents,
    Following,
}

const NEWEST: Stage = Stage::NewestRuns { cursor: None, pages: 0, found: 0 };

pub struct Live {
    app: App,
    follower: Follower,
    stage: Stage,
    /// A page that is being made; kept while `next` is dropped and called again.
    silent: Vec<String>,
    cut: bool,
}

impl Live {
    pub fn new(app: App, filter: Filter) -> Live {
        let follower = app.runs.follow(filter);
        let stage = Stage::Tasks { cursor: None };
        Live { app, follower, stage, silent: Vec::new(), cut: false }
    }

    /// Begins again, with another filter.
    pub fn change_filter(&mut self, filter: Filter) {
        self.follower = self.app.runs.follow(filter);
        self.again();
    }

    fn again(&mut self) {
        self.stage = Stage::Tasks { cursor: None };
        self.silent.clear();
        self.cut = false;
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
                Stage::Tasks { .. } => self.step(NEWEST),
                Stage::NewestRuns { cursor, pages, found } if kinds.run => {
                    self.newest_runs(cursor.clone(), *pages, *found).await
                }
                Stage::NewestRuns { .. } => self.step(Stage::Agents),
                Stage::OpenRuns { cursor, pages } => self.open_runs(cursor.clone(), *pages).await,
                Stage::Agents | Stage::Following => {
                    let agents = match kinds.agent {
                        true => self
                            .app
                            .fleet
                            .agents(None)
                            .map_or_else(|_| Vec::new(), |read| read.value),
                        false => Vec::new(),
                    };
                    self.stage = Stage::Following;
                    let silent = std::mem::take(&mut self.silent);
                    let cut = std::mem::take(&mut self.cut);
                    return Page { agents, silent, cut, last: true, ..Page::default() };
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
            // Its changes are of the catalog, too.
            let read = self.app.tasks.get_copied(&name).await;
            let tasks = read.map(|read| vec![read.value]).unwrap_or_default();
            return Page { tasks, ..self.step(NEWEST) };
        }
        let wanted = TaskFilter {
            namespace: filter.namespace.clone(),
            labels: filter.labels.clone(),
            ..TaskFilter::default()
        };
        let Ok(read) = self.app.tasks.list(&wanted, PAGE, cursor.as_deref()).await else {
            return self.step(NEWEST);
        };
        self.stage = match read.value.next_cursor {
            Some(cursor) => Stage::Tasks { cursor: Some(cursor) },
            None => NEWEST,
        };
        let named = |shown: &Shown| match (&filter.task, shown) {
            (None, _) => true,
            (Some(name), Shown::Task(task, _)) => task.spec.name.name == *name,
            (Some(name), Shown::Unreadable(task)) => task.name.name == *name,
            (Some(_), Shown::Ended { .. }) => true,
        };
        Page { tasks: read.value.items.into_iter().filter(named).collect(), ..Page::default() }
    }

    async fn newest_runs(&mut self, cursor: Option<String>, pages: usize, found: usize) -> Page {
        let by_label = !self.follower.filter().labels.is_empty();
        let limit = if by_label { PAGE } else { NEWEST_RUNS };
        let (mut runs, next) = self.runs(&[], limit, cursor.as_deref()).await;
        let more = next.is_some() || found + runs.len() > NEWEST_RUNS;
        runs.truncate(NEWEST_RUNS.saturating_sub(found));
        let (found, pages) = (found + runs.len(), pages + 1);
        self.stage = match next {
            Some(next) if by_label && found < NEWEST_RUNS && pages < NEWEST_PAGES_MAX => {
                Stage::NewestRuns { cursor: Some(next), pages, found }
            }
            // There are more than these: the open ones among them are of interest.
            Some(_) | None if more => {
                self.cut |= by_label && found < NEWEST_RUNS;
                Stage::OpenRuns { cursor: None, pages: 0 }
            }
            Some(_) | None => Stage::Agents,
        };
        Page { runs, ..Page::default() }
    }

    async fn open_runs(&mut self, cursor: Option<String>, pages: usize) -> Page {
        let (runs, next) = self.runs(&OPEN, PAGE, cursor.as_deref()).await;
        self.stage = match next {
            Some(next) if pages < OPEN_PAGES_MAX => {
                Stage::OpenRuns { cursor: Some(next), pages: pages + 1 }
            }
            next => {
                self.cut |= next.is_some();
                Stage::Agents
            }
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
        let catalog = &self.app.catalog;
        let labels_of = |task: &TaskName| catalog.look(|state| state.labels_of(task));
        let carries = |run: &RunRecord| {
            filter.labels.is_empty()
                || labels_of(&run.id.task).is_some_and(|labels| filter.carries(&labels))
        };
        (page.runs.into_iter().filter(carries).collect(), page.next_cursor)
    }
}
