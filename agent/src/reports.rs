//! What the agent tells others about its runs: to the coordinators that asked, through the links;
//! in figures, each second; and where the output of what runs now can be followed.
//!
//! The core reports a run as running when it hands the attempt over, and the executor looks at the
//! licence once more: an attempt may come back unstarted, and its run is started again. So an
//! attempt is kept here by its ticket until it is over, however that comes about, and its lateness
//! counts only once its action has begun. Counting at the end would be as right and late by hours.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tocktower_core::hash::RangeCount;
use tocktower_core::ids::RunId;
use tocktower_core::run::{RunRecord, RunState};
use tokio::sync::watch;

use crate::driver::DriverInput;
use crate::exec::{Executors, StartRun, Ticket};
use crate::link::{EndedRuns, LatenessMeter, LinkStats, LinksHandle, LiveRuns, Telling};
use crate::metrics::Lateness;
use crate::stats::AgentStats;
use crate::store::Store;

/// How often the ranges that there is history of are looked up.
const HISTORY_EVERY: Duration = Duration::from_secs(2);

pub(crate) struct Reports {
    pub links: LinksHandle,
    pub telling: Telling,
    pub live: Arc<LiveRuns>,
    /// Without the starts that their task's own policy put off, as for the metrics.
    pub lateness: LatenessMeter,
    pub lateness_seconds: Lateness,
    pub link_stats: watch::Sender<LinkStats>,
    /// Ranges with history, as a bitmap.
    pub kept_ranges: watch::Receiver<Vec<u8>>,
    pub ended: EndedRuns,
    /// The attempts that the executors have.
    running: HashMap<Ticket, RunId>,
    /// Of them, those that are not known to have begun and whose start counts.
    starting: HashMap<Ticket, Late>,
}

/// The lateness of a start.
#[derive(Clone, Copy)]
struct Late {
    micros: i64,
    by_policy: bool,
}

impl Reports {
    pub fn new(
        links: LinksHandle,
        live: Arc<LiveRuns>,
        lateness: LatenessMeter,
        link_stats: watch::Sender<LinkStats>,
        kept_ranges: watch::Receiver<Vec<u8>>,
    ) -> Reports {
        Reports {
            telling: links.telling(),
            links,
            live,
            lateness,
            lateness_seconds: Lateness::new(),
            link_stats,
            kept_ranges,
            ended: EndedRuns::default(),
            running: HashMap::new(),
            starting: HashMap::new(),
        }
    }

    /// An attempt is handed to the executors.
    pub fn started(&mut self, start: &StartRun) {
        self.live.started(&start.run, start.attempt, start.ticket);
        self.running.insert(start.ticket, start.run.clone());
    }

    /// Takes the ends of attempts among what the loop has taken in; the runs whose attempt never
    /// began come back.
    pub fn attempts_over(&mut self, inputs: &[DriverInput]) -> Vec<RunId> {
        let mut unstarted = Vec::new();
        for input in inputs {
            match input {
                DriverInput::Finished { ticket, .. } => {
                    self.begun(Ticket(ticket.0));
                    self.over(Ticket(ticket.0));
                }
                DriverInput::Unstarted { ticket } => {
                    self.starting.remove(&Ticket(ticket.0));
                    unstarted.extend(self.over(Ticket(ticket.0)));
                }
                _ => {}
            }
        }
        unstarted
    }

    /// Says of runs that were reported as running, and whose attempt never began, how they are now:
    /// `open` is what the core knows. Of one that is not there another holder tells.
    pub fn correct(&self, unstarted: &[RunId], open: Vec<RunRecord>) {
        corrections(unstarted, open).for_each(|record| self.links.report(record));
    }

    /// A change of a run, each once; that an end is settled is no change. `ended`: instants that
    /// have ended with it.
    pub fn report(&mut self, record: Arc<RunRecord>, ended: u64) {
        if record.state == RunState::Running
            && let [only] = &record.attempts[..]
            && let Some(micros) = record.lateness_micros
            && let Some(ticket) = self.live.ticket(&record.id, only.attempt)
        {
            self.starting.insert(ticket, Late { micros, by_policy: record.waited_by_policy });
        }
        self.ended.count(record.state, ended);
        self.telling.changed(record);
    }

    /// Counts the starts that have begun meanwhile; of those that end sooner, their end tells.
    pub fn count_begun(&mut self, executors: &Executors) {
        let begun = |ticket: &&Ticket| executors.has_begun(**ticket);
        let begun: Vec<Ticket> = self.starting.keys().filter(begun).copied().collect();
        begun.into_iter().for_each(|ticket| self.begun(ticket));
    }

    fn begun(&mut self, ticket: Ticket) {
        let Some(late) = self.starting.remove(&ticket) else { return };
        if !late.by_policy {
            self.lateness.record([late.micros]);
            self.lateness_seconds.observe(late.micros);
        }
    }

    fn over(&mut self, ticket: Ticket) -> Option<RunId> {
        let run = self.running.remove(&ticket)?;
        self.live.ended(&run, ticket);
        Some(run)
    }

    pub fn publish(&self, stats: &AgentStats, in_the_way: Option<String>) {
        let core = stats.core;
        self.link_stats.send_replace(LinkStats {
            core,
            waiting: core.open.saturating_sub(core.running + core.queued),
            ended: self.ended,
            ranges_held: stats.held.clone(),
            history_ranges: self.kept_ranges.borrow().clone(),
            session: stats.session,
            in_the_way,
        });
    }
}

/// What was told of these runs and holds no longer.
fn corrections(unstarted: &[RunId], open: Vec<RunRecord>) -> impl Iterator<Item = RunRecord> {
    let unstarted: HashSet<&RunId> = unstarted.iter().collect();
    let untrue = |record: &RunRecord| record.state != RunState::Running;
    open.into_iter().filter(move |record| untrue(record) && unstarted.contains(&record.id))
}

/// Keeps the bitmap of the ranges with history up to date, away from the loop: it reads the disk.
pub(crate) fn watch_history(store: Arc<Store>, ranges: RangeCount) -> watch::Receiver<Vec<u8>> {
    let (sender, receiver) = watch::channel(Vec::new());
    tokio::spawn(async move {
        loop {
            let store = Arc::clone(&store);
            let read = tokio::task::spawn_blocking(move || store.history_ranges(ranges)).await;
            match read {
                Ok(Ok(ranges)) => {
                    if sender.send(LinkStats::bitmap(ranges)).is_err() {
                        return;
                    }
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "the ranges with history cannot be read");
                }
                Err(_) => return,
            }
            tokio::time::sleep(HISTORY_EVERY).await;
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tocktower_core::agent::effect;
    use tocktower_core::ids::{
        AgentName, Attempt, Epoch, Fence, Incarnation, PoolName, Revision, RunKey, Session,
        TaskName,
    };
    use tocktower_core::run::{AttemptEnd, AttemptRecord, Captured, Finished};
    use tocktower_core::task::Action;
    use tocktower_core::time::{Instant, Mono, Wall};
    use tokio::sync::mpsc;

    use super::*;
    use crate::exec::ExecConfig;
    use crate::link::{LinkConfig, LinkPorts, Links};
    use crate::store::StoreConfig;

    const LATE: i64 = 1_500;

    struct Bench {
        reports: Reports,
        executors: Arc<Executors>,
        _folder: tempfile::TempDir,
    }

    fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreConfig::default()).unwrap().store;
        let executors = Arc::new(Executors::new(ExecConfig::default(), mpsc::channel(16).0));
        let live = Arc::new(LiveRuns::new(executors.clone()));
        let (link_stats, stats) = watch::channel(LinkStats::default());
        let lateness = LatenessMeter::default();
        let config = LinkConfig {
            agent: AgentName::parse("a").unwrap(),
            pool: PoolName::parse("default").unwrap(),
            build: String::new(),
            tz_version: String::new(),
            host: String::new(),
        };
        let ports = LinkPorts {
            history: store,
            live: live.clone(),
            commands: mpsc::channel(1).0,
            stats,
            lateness: lateness.clone(),
        };
        let links = Links::start(config, ports);
        let (_, kept) = watch::channel(Vec::new());
        let reports = Reports::new(links, live, lateness, link_stats, kept);
        Bench { reports, executors, _folder: folder }
    }

    fn run(ms: i64) -> RunId {
        RunId {
            task: TaskName::parse("default/job").unwrap(),
            incarnation: Incarnation { epoch: Epoch(1), revision: Revision(3) },
            run: RunKey::Instant(Instant::from_millis(ms)),
            agent: None,
        }
    }

    fn attempt(number: u32) -> Attempt {
        Attempt { fence: Fence { epoch: Epoch(1), revision: Revision(7) }, number }
    }

    fn start(ticket: u64, ms: i64) -> StartRun {
        StartRun {
            ticket: Ticket(ticket),
            run: run(ms),
            attempt: attempt(1),
            instant: None,
            due: Wall::from_millis(ms),
            action: Arc::new(Action::Noop),
            payload: None,
            timeout: None,
            until: Mono::from_micros(u64::MAX),
        }
    }

    fn record(ms: i64, state: RunState) -> RunRecord {
        let attempt = AttemptRecord {
            attempt: attempt(1),
            agent: AgentName::parse("a").unwrap(),
            session: Session { epoch: Epoch(1), revision: Revision(2) },
            started_at: Some(Wall::from_millis(ms)),
            finished_at: None,
            end: None,
            code: None,
        };
        RunRecord {
            id: run(ms),
            state,
            reason: None,
            instant: Instant::from_millis(ms),
            due: Wall::from_millis(ms),
            agent: AgentName::parse("a").unwrap(),
            fence: Fence { epoch: Epoch(1), revision: Revision(7) },
            attempts: vec![attempt],
            lateness_micros: Some(LATE),
            waited_by_policy: false,
            provisional: true,
            span: None,
            request: None,
        }
    }

    fn finished(ticket: u64) -> DriverInput {
        let finished = Finished {
            started_at: Some(Wall::from_millis(0)),
            finished_at: Wall::from_millis(0),
            end: AttemptEnd::Succeeded,
            code: None,
            output: Captured::default(),
        };
        DriverInput::Finished { ticket: effect::Ticket(ticket), finished: Box::new(finished) }
    }

    impl Bench {
        /// The core starts a run and reports it, in its order.
        fn start(&mut self, ticket: u64, ms: i64) {
            self.reports.started(&start(ticket, ms));
            self.reports.report(Arc::new(record(ms, RunState::Running)), 0);
        }

        fn known(&self, ms: i64) -> bool {
            self.reports.live.ticket(&run(ms), attempt(1)).is_some()
        }
    }

    #[tokio::test]
    async fn a_start_that_never_began_leaves_nothing_and_the_next_one_counts() {
        let mut bench = bench();
        bench.start(1, 10);
        let over = DriverInput::Unstarted { ticket: effect::Ticket(1) };
        assert_eq!(bench.reports.attempts_over(&[over]), [run(10)]);
        assert!(!bench.known(10), "its ticket is forgotten");
        assert_eq!(bench.reports.lateness_seconds.counted(), 0);

        bench.start(2, 10);
        bench.reports.count_begun(&bench.executors);
        assert_eq!(bench.reports.lateness_seconds.counted(), 0, "nobody knows yet");
        assert_eq!(bench.reports.attempts_over(&[finished(2)]), []);
        assert_eq!(bench.reports.lateness_seconds.counted(), 1);
        assert!(!bench.known(10));
        assert!(bench.reports.running.is_empty() && bench.reports.starting.is_empty());
    }

    #[tokio::test]
    async fn only_what_was_told_wrongly_is_corrected() {
        let open = [
            record(10, RunState::Queued),
            record(20, RunState::Queued),
            record(30, RunState::Running),
        ];
        let unstarted = [run(10), run(30), run(40)];
        let told: Vec<RunId> =
            corrections(&unstarted, open.into()).map(|record| record.id).collect();
        assert_eq!(told, [run(10)]);
    }
}
