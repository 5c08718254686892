//! The live feed: every change of a task, a run or an agent, once, to whoever follows.
//!
//! Those who change (the catalog's owner, the links) never wait for those who follow. A bounded
//! ring holds the newest changes in batches as they came; each follower reads it at its own pace
//! and picks out what its filter matches. One that falls behind the ring is told how much it
//! missed, and takes a fresh snapshot: a gap is never silent.
//!
//! The text of a change is made once, by the first follower that needs it, and shared by all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tocktower_core::ids::{AgentName, Name, Namespace, TaskName};
use tocktower_core::run::RunRecord;
use tocktower_proto::convert::run_from_proto;
use tocktower_proto::v1;
use tokio::sync::broadcast;

use crate::links::{Interested, Interests};

/// Batches that a follower may be behind.
const BATCHES_MAX: usize = 4_096;

/// What has changed.
#[derive(Debug)]
pub enum What {
    /// As the catalog has it now, or gone.
    Task {
        name: TaskName,
        labels: BTreeMap<String, String>,
    },
    Run(Box<RunRecord>),
    Agent(AgentName),
    /// Run events that an agent could not report, or all of what the catalog has: look again.
    LeftOut {
        missed: u64,
    },
}

/// One change, with its text once somebody has made it.
#[derive(Debug)]
pub struct Change {
    pub what: What,
    pub text: OnceLock<String>,
}

struct Batch {
    first: u64,
    changes: Vec<Arc<Change>>,
}

/// Where changes come in. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    next: Arc<Mutex<u64>>,
    ring: broadcast::Sender<Arc<Batch>>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed::new()
    }
}

impl Feed {
    pub fn new() -> Feed {
        let (ring, _) = broadcast::channel(BATCHES_MAX);
        Feed { next: Arc::default(), ring }
    }

    /// Whether anybody follows; if not, changes need not be put together.
    pub fn followed(&self) -> bool {
        self.ring.receiver_count() > 0
    }

    pub fn followers(&self) -> usize {
        self.ring.receiver_count()
    }

    pub fn changed(&self, changes: Vec<What>) {
        if changes.is_empty() || !self.followed() {
            return;
        }
        let changes: Vec<Arc<Change>> = changes
            .into_iter()
            .map(|what| Arc::new(Change { what, text: OnceLock::new() }))
            .collect();
        let count = u64::try_from(changes.len()).unwrap_or(u64::MAX);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = Batch { first: *next, changes };
        *next += count;
        // Under the lock, so that batches stand in the ring in the order of their numbers.
        let _ = self.ring.send(Arc::new(batch));
    }

    pub fn agent_changed(&self, agent: &AgentName) {
        self.changed(vec![What::Agent(agent.clone())]);
    }

    pub fn runs_changed(&self, runs: Vec<v1::Run>) {
        if self.followed() {
            let runs = readable(runs).into_iter().map(|run| What::Run(Box::new(run)));
            self.changed(runs.collect());
        }
    }

    pub fn left_out(&self, agent: &AgentName, missed: u64) {
        tracing::warn!(%agent, missed, "an agent had to leave run events out");
        self.changed(vec![What::LeftOut { missed }]);
    }

    /// Follows from now on. While it lives, agents report the runs that `filter` matches.
    pub fn follow(&self, interests: &Interests, filter: Filter) -> Follower {
        let interested = filter.kinds.run.then(|| interests.add(filter.of_runs()));
        let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        Follower { ring: self.ring.subscribe(), filter, next, held: None, _interested: interested }
    }
}

/// Runs as agents report them, without what this version cannot read.
pub fn readable(runs: Vec<v1::Run>) -> Vec<RunRecord> {
    let read = |run: v1::Run| match run_from_proto(&run) {
        Ok(run) => Some(run),
        Err(error) => {
            tracing::warn!(run_id = run.run_id, %error, "a run that cannot be read is left out");
            None
        }
    };
    runs.into_iter().filter_map(read).collect()
}

/// Which kinds of change are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kinds {
    pub run: bool,
    pub task: bool,
    pub agent: bool,
}

impl Kinds {
    pub const ALL: Kinds = Kinds { run: true, task: true, agent: true };
    pub const RUNS: Kinds = Kinds { run: true, task: false, agent: false };
}

/// What a follower wants to see. What is left out matches everything; agents are not filtered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    pub kinds: Kinds,
    pub namespace: Option<Namespace>,
    pub task: Option<Name>,
    pub labels: BTreeMap<String, String>,
}

impl Filter {
    pub fn all(kinds: Kinds) -> Filter {
        Filter { kinds, namespace: None, task: None, labels: BTreeMap::new() }
    }

    pub fn one_task(kinds: Kinds, task: &TaskName) -> Filter {
        let (namespace, name) = (task.namespace.clone(), task.name.clone());
        Filter { namespace: Some(namespace), task: Some(name), ..Filter::all(kinds) }
    }

    fn of_runs(&self) -> v1::RunFilter {
        v1::RunFilter {
            namespace: self.namespace.as_ref().map_or_else(String::new, ToString::to_string),
            task: self.task.as_ref().map_or_else(String::new, ToString::to_string),
            labels: self.labels.clone(),
        }
    }

    pub fn names(&self, task: &TaskName) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == task.namespace)
            && self.task.as_ref().is_none_or(|name| *name == task.name)
    }

    pub fn carries(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// `labels_of` is asked for the labels of a run's task only where the filter names labels.
    fn matches(&self, what: &What, labels_of: &LabelsOf<'_>) -> bool {
        match what {
            What::Task { name, labels } => {
                self.kinds.task && self.names(name) && self.carries(labels)
            }
            What::Run(run) => {
                let task = &run.id.task;
                let carried = || labels_of(task).is_some_and(|labels| self.carries(&labels));
                self.kinds.run && self.names(task) && (self.labels.is_empty() || carried())
            }
            What::Agent(_) => self.kinds.agent,
            What::LeftOut { .. } => true,
        }
    }
}

type LabelsOf<'a> = dyn Fn(&TaskName) -> Option<BTreeMap<String, String>> + Send + Sync + 'a;

/// What a follower sees next.
#[derive(Debug)]
pub enum Next {
    Changes(Vec<Arc<Change>>),
    /// So many were missed: a fresh snapshot is needed.
    Lagged {
        missed: u64,
    },
    Closed,
}

/// Reads the feed at its own pace.
pub struct Follower {
    ring: broadcast::Receiver<Arc<Batch>>,
    filter: Filter,
    next: u64,
    held: Option<Arc<Batch>>,
    _interested: Option<Interested>,
}

impl Follower {
    /// Waits for the next changes that match. May be dropped while it waits; nothing is lost.
    pub async fn next(&mut self, labels_of: &LabelsOf<'_>) -> Next {
        loop {
            let batch = match self.held.take() {
                Some(batch) => batch,
                None => match self.ring.recv().await {
                    Ok(batch) => batch,
                    // What is left in the ring begins behind the gap, which its number shows.
                    Err(broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(broadcast::error::RecvError::Closed) => return Next::Closed,
                },
            };
            let missed = batch.first.saturating_sub(self.next);
            if missed > 0 {
                self.next = batch.first;
                self.held = Some(batch);
                return Next::Lagged { missed };
            }
            self.next = batch.first + u64::try_from(batch.changes.len()).unwrap_or(0);
            let matching: Vec<Arc<Change>> = batch
                .changes
                .iter()
                .filter(|change| self.filter.matches(&change.what, labels_of))
                .cloned()
                .collect();
            if let Some(missed) = matching.iter().find_map(|change| match change.what {
                What::LeftOut { missed } => Some(missed),
                What::Task { .. } | What::Run(_) | What::Agent(_) => None,
            }) {
                return Next::Lagged { missed };
            }
            if !matching.is_empty() {
                return Next::Changes(matching);
            }
        }
    }

    pub fn filter(&self) -> &Filter {
        &self.filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str) -> What {
        let name = TaskName::parse(name).unwrap();
        What::Task { name, labels: BTreeMap::from([("team".to_owned(), "db".to_owned())]) }
    }

    fn none(_: &TaskName) -> Option<BTreeMap<String, String>> {
        None
    }

    async fn names(follower: &mut Follower) -> Vec<String> {
        let Next::Changes(changes) = follower.next(&none).await else { panic!("no changes") };
        let name = |change: &Arc<Change>| match &change.what {
            What::Task { name, .. } => name.to_string(),
            other => format!("{other:?}"),
        };
        changes.iter().map(name).collect()
    }

    #[tokio::test]
    async fn a_follower_sees_what_its_filter_matches() {
        let feed = Feed::new();
        let mut filter = Filter::all(Kinds::ALL);
        filter.namespace = Some(Namespace::parse("b").unwrap());
        let mut follower = feed.follow(&Interests::new(), filter);
        feed.changed(vec![task("a/1"), task("a/2")]);
        feed.changed(vec![task("a/3"), task("b/1"), task("b/2")]);
        assert_eq!(names(&mut follower).await, ["b/1", "b/2"]);
    }

    #[tokio::test]
    async fn labels_are_matched_as_well() {
        let feed = Feed::new();
        let mut filter = Filter::all(Kinds::ALL);
        filter.labels.insert("team".to_owned(), "web".to_owned());
        let mut none_of_them = feed.follow(&Interests::new(), filter.clone());
        filter.labels.insert("team".to_owned(), "db".to_owned());
        let mut all_of_them = feed.follow(&Interests::new(), filter);
        feed.changed(vec![task("a/1")]);
        assert_eq!(names(&mut all_of_them).await, ["a/1"]);
        drop(feed);
        assert!(matches!(none_of_them.next(&none).await, Next::Closed));
    }

    #[tokio::test]
    async fn who_falls_behind_is_told_how_much_and_goes_on_from_there() {
        let feed = Feed::new();
        let mut follower = feed.follow(&Interests::new(), Filter::all(Kinds::ALL));
        for _ in 0..BATCHES_MAX + 10 {
            feed.changed(vec![task("a/old"), task("a/old")]);
        }
        let Next::Lagged { missed } = follower.next(&none).await else { panic!("no lag") };
        assert_eq!(missed, 20);
        assert_eq!(names(&mut follower).await.len(), 2);
    }
}
