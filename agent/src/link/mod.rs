//! The links to coordinators: the agent dials each of them and keeps one stream to each.
//!
//! Agents dial, so that hosts behind NAT work. Up go statistics each second, the run events that a
//! coordinator asked for, and answers; down come interest, questions, cancels and clock probes.
//! Nothing here decides anything: what concerns runs goes to the agent's loop as a `LinkCommand`
//! and is answered by it, history is read through a port.
//!
//! The loop must never wait for a coordinator. `report` and `set_coordinator` return at once; each
//! coordinator has a task of its own (`dial`, `connection`), a bounded queue of events (`feed`) and
//! a bounded number of queries (`query`). What a slow coordinator cannot take is counted and told
//! to it, and the others do not notice.
//!
//! Contract: `Links::start` inside a tokio runtime; `set_coordinator` whenever the shared state
//! says so; the receiver of `commands` is read for as long as the handle lives; `shutdown` last.
//! Dropping the handle ends everything too, only without waiting.

mod connection;
mod dial;
mod feed;
mod history;
mod limits;
mod live;
mod metrics;
mod query;
mod stats;
mod stored;
#[cfg(test)]
mod tests;
mod unsettled;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tocktower_core::agent::input::Offset;
use tocktower_core::ids::{AgentName, CoordinatorId, PoolName, RunId};
use tocktower_core::run::RunRecord;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use history::{History, HistoryError, HistoryPage, HistoryRuns, PageMark};
pub use live::{Live, LiveRuns};
pub use metrics::LinkMetrics;
pub use stats::{EndedRuns, LatenessMeter, LinkStats};
pub use unsettled::Telling;

use dial::Dial;
use feed::Feeds;

/// What the agent says of itself in Hello.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    pub agent: AgentName,
    pub pool: PoolName,
    /// Version of the program.
    pub build: String,
    /// Of the time zone database.
    pub tz_version: String,
    /// Name of the host.
    pub host: String,
}

/// What the links need from the rest of the agent.
pub struct LinkPorts {
    pub history: Arc<dyn History>,
    pub live: Arc<dyn Live>,
    pub commands: mpsc::Sender<LinkCommand>,
    /// The newest figures; sent each second.
    pub stats: watch::Receiver<LinkStats>,
    pub lateness: LatenessMeter,
}

/// What the links ask of the agent's loop.
#[derive(Debug)]
pub enum LinkCommand {
    /// Somebody wants this run ended. It was open a moment ago.
    CancelRun(RunId),
    /// What a coordinator says of this clock, as the core takes it. A measurement with a long round
    /// trip, or of the clock before it was set, is not passed on.
    ClockOffset { coordinator: CoordinatorId, offset: Offset },
    /// What the history does not tell yet: every run that has not ended here, and those whose end
    /// is on its way to the disk.
    Unstored(oneshot::Sender<Vec<RunRecord>>),
    /// Rows of history, to come back with `provisional` as it is now. The loop may add the runs
    /// that are open; they are merged by run, the higher fence first.
    Provisional(Vec<RunRecord>, oneshot::Sender<Vec<RunRecord>>),
}

pub struct Links;

impl Links {
    /// Called inside a tokio runtime, which then runs everything. Dials nobody yet.
    pub fn start(config: LinkConfig, ports: LinkPorts) -> LinksHandle {
        let metrics = Arc::new(LinkMetrics::default());
        let shared = Shared {
            config,
            ports,
            feeds: Feeds::new(Arc::clone(&metrics)),
            metrics,
            reads: Arc::new(Semaphore::new(limits::READS_MAX)),
        };
        LinksHandle {
            shared: Arc::new(shared),
            runtime: Handle::current(),
            dialled: Mutex::default(),
        }
    }
}

/// What every link has at hand.
struct Shared {
    config: LinkConfig,
    ports: LinkPorts,
    feeds: Arc<Feeds>,
    metrics: Arc<LinkMetrics>,
    /// Permits to read the history.
    reads: Arc<Semaphore>,
}

/// The handle on all links. Calls return at once, but for `shutdown`.
pub struct LinksHandle {
    shared: Arc<Shared>,
    runtime: Handle,
    dialled: Mutex<BTreeMap<CoordinatorId, Dialled>>,
}

struct Dialled {
    address: String,
    /// Set, or dropped: the task comes to its end.
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl LinksHandle {
    /// There is a coordinator at this address, or (`None`) it is gone. The same address again
    /// changes nothing, another one means a new link.
    pub fn set_coordinator(&self, id: CoordinatorId, address: Option<String>) {
        let mut dialled = self.lock();
        let Some(address) = address else {
            if dialled.remove(&id).is_some() {
                tracing::info!(coordinator = %id, "the coordinator is gone; its link ends");
            }
            return;
        };
        if dialled.get(&id).is_some_and(|known| known.address == address) {
            return;
        }
        // Before the new one is dialled the old link is told to end.
        dialled.remove(&id);
        if dialled.len() >= limits::COORDINATORS_MAX {
            tracing::warn!(coordinator = %id, "too many coordinators; this one is not dialled");
            return;
        }
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::clone(&self.shared);
        let dial = Dial::new(shared, id.clone(), address.clone(), stopped);
        let task = self.runtime.spawn(dial.run());
        dialled.insert(id, Dialled { address, stop, task });
    }

    /// A run as it is after a change. Costs one look at an atomic while nobody wants to know.
    pub fn report(&self, run: RunRecord) {
        if self.wanted() {
            self.shared.feeds.report(&Arc::new(run));
        }
    }

    /// For the loop, which has one: tells changes as `report` does, and later what was settled.
    pub fn telling(&self) -> Telling {
        Telling::new(Arc::clone(&self.shared.feeds))
    }

    /// Whether `report` has anybody to tell, for a caller that would have to make the record.
    pub fn wanted(&self) -> bool {
        self.shared.feeds.wanted()
    }

    pub fn metrics(&self) -> Arc<LinkMetrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Ends all links: each sends the events that it still has, within a bound.
    pub async fn shutdown(&self) {
        let dialled = std::mem::take(&mut *self.lock());
        let mut tasks: Vec<JoinHandle<()>> = Vec::with_capacity(dialled.len());
        for (_, one) in dialled {
            one.stop.send_replace(true);
            tasks.push(one.task);
        }
        let end = tokio::time::Instant::now() + limits::SHUTDOWN_WITHIN;
        for task in &mut tasks {
            if tokio::time::timeout_at(end, &mut *task).await.is_err() {
                task.abort();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<CoordinatorId, Dialled>> {
        self.dialled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
