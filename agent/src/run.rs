//! The shell round the driver: reads the clocks, does what the driver asks for, and tells it what
//! came of it. No decision about tasks is made here.
//!
//! One loop owns the driver. Everything that can wake it comes through one inbox, the store's
//! answers and the waker; whatever is at hand is taken together, so that a busy agent works in
//! batches. Requests to the shared state run as tasks of their own, so nothing on the firing path
//! waits for etcd, and the store is a thread of its own, so nothing waits for the disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tocktower_cluster::agents::{AgentOps, Identity};
use tocktower_cluster::cluster::Cluster;
use tocktower_cluster::keys::Keys;
use tocktower_cluster::port::{Port, Request, WatchCommand, WatchMessage};
use tocktower_core::agent::effect::{self, Start};
use tocktower_core::agent::{Config, Former, PinsBefore};
use tocktower_core::ids::{AgentName, PoolName, RangeId, Revision, RunKey};
use tocktower_core::schedule::tz_database_version;
use tocktower_core::steady::SteadyClock;
use tocktower_core::time::{Mono, Now};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use crate::cluster::WHAT_TO_DO;
use crate::cluster::{Joined, Memory, OtherCluster, join};
use crate::disk::{Disk, as_news, watch_disk};
use crate::driver::{Driver, DriverEffect, DriverInput};
use crate::ended::with_causes;
pub use crate::ended::{Ended, StartError};
use crate::exec::{End, ExecConfig, Executors, StartRun, Ticket};
use crate::inlets::{Gathered, Inlets};
use crate::link::{
    LatenessMeter, LinkCommand, LinkConfig, LinkMetrics, LinkPorts, LinkStats, Links, LiveRuns,
};
use crate::metrics::{AgentMetrics, Sources};
use crate::notices::{self, HeldCount, LostClaims, Troubles};
use crate::ready::in_the_way;
use crate::reports::{Reports, watch_history};
use crate::stats::AgentStats;
use crate::store::{
    Opened, Retention, Store, StoreAnswer, StoreConfig, StoreHandle, StoreRequest, StoreThread,
    TrimBudget, TrimClock,
};
use crate::waker::{self, Waker, now};
use crate::watchdog::{Progress, Watchdog};

/// Inputs that wait for the loop; beyond this their senders wait.
const INBOX_MAX: usize = 16_384;
/// Watch messages that wait for the loop.
const WATCH_MAX: usize = 1_024;
const STATS_EVERY: Duration = Duration::from_secs(1);
const TRIM_EVERY: Duration = Duration::from_secs(5);
/// What giving the session up may take when the store has failed.
const GIVE_UP: Duration = Duration::from_secs(1);

/// What an agent is started with.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    pub name: AgentName,
    pub pool: PoolName,
    pub labels: BTreeMap<String, String>,
    pub weight: u32,
    pub data_dir: PathBuf,
    /// Where Tocktower lives in the shared state.
    pub prefix: String,
    pub lease_ttl: Duration,
    pub running_max: usize,
    /// Compact the shared state when no coordinator does; off where others share it.
    pub compact: bool,
    pub exec: ExecConfig,
    pub retention: Retention,
    /// What has to be free on the disk, in bytes. `None`: 1 GiB, or 5 % of a small disk.
    pub disk_reserve: Option<u64>,
    pub version: String,
    pub host_id: String,
}

/// A running agent.
pub struct RunningAgent {
    pub stats: watch::Receiver<AgentStats>,
    pub store: Arc<Store>,
    pub links: Arc<LinkMetrics>,
    pub disk: watch::Receiver<Disk>,
    metrics: AgentMetrics,
    leave: mpsc::Sender<Duration>,
    ended: JoinHandle<Ended>,
}

impl RunningAgent {
    /// A time sent here has the agent hand everything over and end; what runs has that long.
    pub fn leave(&self) -> mpsc::Sender<Duration> {
        self.leave.clone()
    }

    /// All of its figures; the handle may outlive the agent.
    pub fn metrics(&self) -> AgentMetrics {
        self.metrics.clone()
    }

    /// Waits until the agent has ended.
    pub async fn ended(self) -> Ended {
        self.ended.await.unwrap_or_else(|error| Ended::Store(error.to_string()))
    }
}

/// Starts an agent on the shared state: opens its store, waits for the cluster's record, begins to
/// follow, claim and run.
pub async fn start(config: AgentConfig, port: Arc<dyn Port>) -> Result<RunningAgent, StartError> {
    let opened = open(config.data_dir.clone()).await?;
    let Joined { cluster, seen, port, other } = join(&opened, &port, &config.prefix).await?;
    let (store_thread, store, mut answers) = StoreThread::start(opened.store.clone())?;
    let (waker, wakes) = Waker::start()?;
    let (inbox, inputs) = mpsc::channel(INBOX_MAX);
    let (finished, ends) = mpsc::channel(INBOX_MAX);
    let (answered, store_answers) = mpsc::unbounded_channel();
    let (leave, leaving) = mpsc::channel(4);
    let (commands, asked) = mpsc::channel(256);
    let (stats, stats_seen) = watch::channel(AgentStats::default());
    let stream = port.watch(WATCH_MAX);
    // Bounded by the store's own queue, which counts a request until its answer is taken.
    tokio::spawn(async move {
        while let Some(answer) = answers.next().await {
            if answered.send(answer).is_err() {
                break;
            }
        }
    });
    forward(inbox.clone(), stream.messages);
    let executors = Arc::new(Executors::new(config.exec.clone(), finished));
    let first_number = opened.process << 32;
    let mut effects = Vec::new();
    let process = (opened.process, first_number);
    let same = opened.cluster.is_none_or(|known| known.cluster.id == cluster.id);
    let pins = if same { opened.pins } else { BTreeMap::new() };
    let before = before(&cluster, opened.former.filter(|_| same), pins);
    let driver = driver(&config, (&cluster, seen), process, before, &mut effects);
    let live = Arc::new(LiveRuns::new(executors.clone()));
    let (link_stats, link_stats_seen) = watch::channel(LinkStats::default());
    let lateness = LatenessMeter::default();
    let ports = LinkPorts {
        history: opened.store.clone(),
        live: live.clone(),
        commands,
        stats: link_stats_seen,
        lateness: lateness.clone(),
    };
    let links = Links::start(link_config(&config), ports);
    let link_metrics = links.metrics();
    let kept_ranges = watch_history(opened.store.clone(), cluster.ranges);
    let reports = Reports::new(links, live, lateness, link_stats, kept_ranges);
    let disk = watch_disk(config.data_dir, config.disk_reserve).await;
    let shell = Shell {
        driver,
        port,
        watches: stream.commands,
        store,
        executors,
        inbox,
        waker,
        stats,
        reports,
        held_count: HeldCount::default(),
        lost_claims: LostClaims::default(),
        troubles: Troubles::default(),
        clock: SteadyClock::default(),
        retention: config.retention,
        progress: Progress::begun(),
        disk: disk.clone(),
        noted: seen,
    };
    let watchdog = Watchdog::start(shell.progress.clone(), shell.port.clone(), config.lease_ttl)?;
    let sources = Sources {
        version: config.version,
        stats: stats_seen.clone(),
        disk: disk.clone(),
        links: link_metrics.clone(),
        store: Arc::downgrade(&opened.store),
    };
    let metrics = AgentMetrics::new(sources, shell.reports.lateness_seconds.clone());
    let looked_at = as_news(&disk);
    let inlets = Inlets { inputs, ends, store_answers, wakes, asked, leaving, disk: looked_at };
    let guards = (watchdog, other, Memory::of(&opened.store, cluster));
    let ended = tokio::spawn(shell.run_and_close(inlets, effects, store_thread, guards));
    let (stats, store, links) = (stats_seen, opened.store, link_metrics);
    Ok(RunningAgent { stats, store, links, disk, metrics, leave, ended })
}

/// A new epoch makes every store a stranger's, but for what is pinned here.
fn before(
    cluster: &Cluster,
    former: Option<Former>,
    pins: BTreeMap<RangeId, PinsBefore>,
) -> (Option<Former>, BTreeMap<RangeId, PinsBefore>) {
    (former.filter(|former| former.kept.session.epoch == cluster.epoch), pins)
}

fn driver(
    config: &AgentConfig,
    (cluster, seen): (&Cluster, Revision),
    (process, first_number): (u64, u64),
    (former, pins): (Option<Former>, BTreeMap<RangeId, PinsBefore>),
    effects: &mut Vec<DriverEffect>,
) -> Driver {
    let core = Config {
        agent: config.name.clone(),
        pool: config.pool.clone(),
        weight: config.weight,
        ttl: config.lease_ttl,
        ranges: cluster.ranges,
        epoch: cluster.epoch,
        epoch_began: cluster.epoch_began,
        process,
        first_number,
        running_max: config.running_max,
        compact: config.compact,
        broken: None,
        former,
        labels: config.labels.clone(),
        pins,
    };
    let identity = Identity {
        agent: config.name.clone(),
        pool: config.pool.clone(),
        labels: config.labels.clone(),
        version: config.version.clone(),
        tz_version: tz_database_version().to_owned(),
        host_id: config.host_id.clone(),
    };
    let ops = AgentOps::new(Keys::new(&config.prefix, cluster.ranges), identity, cluster.epoch);
    Driver::new(core, ops.of_record(cluster.revision), seen, now(), effects)
}

async fn open(dir: PathBuf) -> Result<Opened, StartError> {
    let opening = move || Store::open(&dir, StoreConfig::default());
    let opened = tokio::task::spawn_blocking(opening).await;
    let opened = opened.map_err(|error| StartError::Cluster(error.to_string()))??;
    tell_set_aside(&opened);
    Ok(opened)
}

fn tell_set_aside(opened: &Opened) {
    if let Some(aside) = &opened.set_aside {
        let (path, reason) = (aside.path.display(), &aside.reason);
        tracing::error!(%path, %reason, "the store was damaged and set aside; history is in it");
    }
}

fn link_config(config: &AgentConfig) -> LinkConfig {
    LinkConfig {
        agent: config.name.clone(),
        pool: config.pool.clone(),
        build: config.version.clone(),
        tz_version: tz_database_version().to_owned(),
        host: config.host_id.clone(),
    }
}

/// Moves what the watches bring into the inbox, waiting while that is full.
fn forward(inbox: mpsc::Sender<DriverInput>, mut watches: mpsc::Receiver<WatchMessage>) {
    tokio::spawn(async move {
        while let Some(message) = watches.recv().await {
            if inbox.send(DriverInput::Watch(message)).await.is_err() {
                break;
            }
        }
    });
}

/// What the end of an attempt is to the driver. `None`: the attempt never started.
fn end_input((Ticket(ticket), finished): End) -> DriverInput {
    let ticket = effect::Ticket(ticket);
    match finished {
        Some(finished) => DriverInput::Finished { ticket, finished: Box::new(finished) },
        None => DriverInput::Unstarted { ticket },
    }
}

struct Shell {
    driver: Driver,
    port: Arc<dyn Port>,
    watches: mpsc::UnboundedSender<WatchCommand>,
    store: StoreHandle,
    executors: Arc<Executors>,
    inbox: mpsc::Sender<DriverInput>,
    waker: Waker,
    stats: watch::Sender<AgentStats>,
    reports: Reports,
    held_count: HeldCount,
    lost_claims: LostClaims,
    troubles: Troubles,
    clock: SteadyClock,
    retention: Retention,
    progress: Progress,
    disk: watch::Receiver<Disk>,
    /// The highest revision of the shared state that the store was told of.
    noted: Revision,
}

impl Shell {
    async fn run_and_close(
        mut self,
        inlets: Inlets,
        first: Vec<DriverEffect>,
        store_thread: StoreThread,
        (watchdog, other, memory): (Watchdog, OtherCluster, Memory),
    ) -> Ended {
        let ended = tokio::select! {
            ended = self.run(inlets, first) => ended,
            ended = other.met() => ended,
        };
        drop(watchdog);
        self.reports.telling.close(|run| self.driver.settled(run));
        // Whatever the reason was, nothing that was started here goes on unsupervised: whoever
        // takes over would repeat it beside itself.
        let failed = matches!(ended, Ended::Store(_));
        let (cancelled, (), ()) = tokio::join!(
            self.executors.shutdown(),
            self.reports.links.shutdown(),
            self.give_up(failed)
        );
        if cancelled > 0 {
            tracing::warn!(cancelled, "what still ran was stopped with the agent");
        }
        drop(self);
        memory.keep(&ended).await;
        // The end of the process takes RocksDB's statics away: nobody may be within it then.
        let joined = tokio::task::spawn_blocking(move || store_thread.join()).await;
        // A panic of the thread was reported where it happened.
        drop(joined);
        ended
    }

    /// Nothing can be written down any more, so nothing can be handed over in order: others take
    /// over at once what the session's end leaves to them.
    async fn give_up(&self, failed: bool) {
        let Some(lease) = self.progress.lease().filter(|_| failed) else { return };
        let revoked = self.port.call(Request::RevokeLease { lease });
        // Where it does not arrive, the lease ends by itself.
        let _ = tokio::time::timeout(GIVE_UP, revoked).await;
        tracing::error!("the store has failed: the session is given up, the ranges go to others");
    }

    async fn run(&mut self, mut inlets: Inlets, first: Vec<DriverEffect>) -> Ended {
        let mut taken = Gathered::default();
        let (mut stats_at, mut trim_at) = (Mono::default(), now().mono.plus(TRIM_EVERY));
        if let Some(ended) = self.perform(first).await {
            return ended;
        }
        loop {
            let asleep = self.sleep_time();
            inlets.next(asleep, &mut taken).await;
            let inputs = match self.inputs(&mut taken) {
                Ok(inputs) => inputs,
                Err(error) => return Ended::Store(error),
            };
            let unstarted = self.reports.attempts_over(&inputs);
            let at = now();
            let mut effects = Vec::new();
            self.driver.step(at, inputs, &mut effects);
            self.progress.made(at.mono, self.driver.lease());
            if !unstarted.is_empty() {
                self.reports.correct(&unstarted, self.driver.open_runs());
            }
            if let Some(ended) = self.perform(effects).await {
                return ended;
            }
            let second = stats_at <= at.mono;
            self.reports.telling.look_again(second, |run| self.driver.settled(run));
            if second {
                stats_at = at.mono.plus(STATS_EVERY);
                self.publish(at);
                self.note_seen().await;
            }
            if trim_at <= at.mono {
                trim_at = at.mono.plus(TRIM_EVERY);
                self.trim(at).await;
            }
        }
    }

    /// Arms the waker, and says how long to sleep for what is timed by the boot clock.
    fn sleep_time(&self) -> Duration {
        let wake = self.driver.wake();
        self.waker.wake_at(wake.wall);
        wake.mono.since(waker::now().mono)
    }

    /// What the driver is told of it, the store's answers first. `Err`: the store has failed.
    fn inputs(&mut self, taken: &mut Gathered) -> Result<Vec<DriverInput>, String> {
        let count = taken.answers.len() + taken.inputs.len() + taken.ends.len();
        let mut inputs = Vec::with_capacity(count);
        for answer in taken.answers.drain(..) {
            inputs.extend(store_input(answer)?);
        }
        inputs.append(&mut taken.inputs);
        inputs.extend(taken.ends.drain(..).map(end_input));
        inputs.extend(taken.commands.drain(..).filter_map(|command| self.command(command)));
        for deadline in taken.deadlines.drain(..) {
            // What the core cancels at the deadline must have ended before it gives up.
            self.executors.hurry_from(std::time::Instant::now() + deadline);
            inputs.push(DriverInput::Leave { deadline });
        }
        inputs.extend(taken.disk_free.take().map(|free| DriverInput::Disk { free }));
        Ok(inputs)
    }

    fn command(&mut self, command: LinkCommand) -> Option<DriverInput> {
        match command {
            LinkCommand::CancelRun(run) => Some(DriverInput::CancelRun { run }),
            LinkCommand::ClockOffset { coordinator, offset } => {
                Some(DriverInput::ClockOffset { coordinator, offset })
            }
            LinkCommand::Unstored(answer) => {
                let records = self.driver.unstored_runs();
                self.reports.telling.shown(&records);
                // Who asked may have gone away.
                let _ = answer.send(records);
                None
            }
            LinkCommand::Provisional(mut records, answer) => {
                for record in &mut records {
                    record.provisional = self.driver.provisional(record);
                }
                self.reports.telling.shown(&records);
                let _ = answer.send(records);
                None
            }
        }
    }

    /// Does what the driver asks for, in order. `Some`: the agent has ended.
    async fn perform(&mut self, effects: Vec<DriverEffect>) -> Option<Ended> {
        let mut starts = Vec::new();
        for effect in effects {
            match effect {
                DriverEffect::Call { call, request } => {
                    let (answer, inbox) = (self.port.call(request), self.inbox.clone());
                    tokio::spawn(async move {
                        let answer = answer.await;
                        // The loop has ended; nobody waits for it.
                        let _ = inbox.send(DriverInput::Answered { call, answer }).await;
                    });
                }
                DriverEffect::Watch(command) => {
                    if self.watches.send(command).is_err() {
                        return Some(Ended::Store("the watch stream has ended".to_owned()));
                    }
                }
                DriverEffect::Commit(batch) => {
                    if self.store.send(StoreRequest::Commit(batch)).await.is_err() {
                        return Some(Ended::Store("the store's thread has ended".to_owned()));
                    }
                }
                DriverEffect::Load { load, request } => {
                    if self.store.send(StoreRequest::Load(load, request)).await.is_err() {
                        return Some(Ended::Store("the store's thread has ended".to_owned()));
                    }
                }
                DriverEffect::Start(start) => {
                    let start = start_run(*start);
                    self.reports.started(&start);
                    starts.push(start);
                }
                DriverEffect::Cancel { ticket } => {
                    self.executors.cancel(Ticket(ticket.0));
                }
                DriverEffect::Report { record, ended } => self.reports.report(record, ended),
                DriverEffect::Coordinator { id, address } => {
                    self.reports.links.set_coordinator(id, address);
                }
                DriverEffect::Notice(notice) => {
                    self.lost_claims.note(now().mono, &notice);
                    notices::log(&notice);
                }
                DriverEffect::Trouble { what, error } => {
                    self.troubles.log(now().mono, what, &error);
                }
                DriverEffect::Exit { reason } => return Some(Ended::Exit(reason)),
            }
        }
        self.executors.start_all(starts);
        None
    }

    fn publish(&mut self, at: Now) {
        let (core, session) = (self.driver.stats(), self.driver.session());
        self.clock.look(at, core.clock_verified);
        self.reports.count_begun(&self.executors);
        let (held, ended) = (self.driver.held(), self.reports.ended);
        let stats = AgentStats { at: at.mono, core, held, session, ended };
        self.reports.publish(&stats, in_the_way(&stats, *self.disk.borrow(), at));
        self.lost_claims.log(at.mono);
        if let Some(ranges) = self.held_count.settled(core.held) {
            tracing::info!(ranges, "holding");
        }
        self.stats.send_replace(stats);
    }

    /// A process that comes after is to notice when revisions have gone back.
    async fn note_seen(&mut self) {
        let seen = self.driver.seen();
        if seen > self.noted {
            self.noted = seen;
            // A store whose thread has ended says so at the next batch.
            let _ = self.store.send(StoreRequest::Seen(seen)).await;
        }
    }

    async fn trim(&self, at: Now) {
        let (rules, budget) = (self.retention, TrimBudget::default());
        let clock = TrimClock { now: at.wall, steady: self.clock.steady(at) };
        // A store whose thread has ended says so at the next batch.
        let _ = self.store.send(StoreRequest::Trim { clock, rules, budget }).await;
    }
}

/// What the store's answer is to the driver. `Err`: the store has failed.
fn store_input(answer: StoreAnswer) -> Result<Option<DriverInput>, String> {
    match answer {
        StoreAnswer::Committed(_, Ok(committed)) => Ok(Some(DriverInput::Committed(committed))),
        StoreAnswer::Committed(_, Err(error)) => Err(with_causes(&error)),
        StoreAnswer::Loaded(load, Ok(loaded)) => {
            for unreadable in &loaded.unreadable {
                tracing::error!(?unreadable, "a row of the store cannot be read and is left out");
            }
            Ok(Some(DriverInput::Loaded { load, answer: loaded.answer }))
        }
        StoreAnswer::Loaded(_, Err(error)) | StoreAnswer::Seen(Err(error)) => {
            Err(with_causes(&error))
        }
        StoreAnswer::Trimmed(Err(error)) => {
            tracing::error!(%error, "history could not be trimmed");
            Ok(None)
        }
        StoreAnswer::Queried(..) | StoreAnswer::Trimmed(Ok(_)) | StoreAnswer::Seen(Ok(())) => {
            Ok(None)
        }
    }
}

fn start_run(start: Start) -> StartRun {
    let instant = match start.run.run {
        RunKey::Instant(_) => Some(start.instant),
        RunKey::Manual(_) => None,
    };
    StartRun {
        ticket: Ticket(start.ticket.0),
        run: start.run,
        attempt: start.attempt,
        instant,
        due: start.due,
        action: start.action,
        payload: start.payload.map(|payload| payload.to_string()),
        timeout: start.timeout,
        until: start.until,
    }
}
