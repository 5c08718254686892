//! Executors: what a run does, once it is decided that it starts.
//!
//! The agent's loop decides; this module does. `start` hands a run over and returns at once,
//! whatever the run is, and for each start exactly one `Finished` comes out of the channel, also
//! when the program does not exist, the host has no memory or an executor panics (`report.rs`).
//!
//! Nothing here limits how many runs go on at a time: who calls `start` has slots and a ready
//! queue, and a second limit would only hide runs from both. What is bounded is what one run may
//! cost: the memory of its output, the time of its request, the processes it leaves behind.
//!
//! `noop` ends inside `start` without a task of its own, since it is there to measure everything
//! else. A `command` and an `http` are one tokio task each; spawning a process, which waits for the
//! disk, is done on the blocking threads.

mod capture;
mod command;
mod http;
mod limits;
mod live;
mod report;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tocktower_core::ids::{Attempt, Epoch, Fence, RunId};
use tocktower_core::limits::OUTPUT_BYTES_MAX;
use tocktower_core::run::{AttemptEnd, Captured, Finished};
use tocktower_core::task::Action;
use tocktower_core::time::{Instant, Mono, Now, Wall};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument;

pub use capture::Chunk;
pub use live::{LiveOutput, Stream};

use command::Commands;
use http::HttpClient;
use live::RunOutput;
use report::{Report, failed};

use crate::waker::now;

/// The caller's number for one started attempt; not used twice while the attempt goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// What came of a start; `None`: it was not begun, since its licence had run out.
pub type End = (Ticket, Option<Finished>);

/// An attempt to start now.
#[derive(Clone, Debug)]
pub struct StartRun {
    pub ticket: Ticket,
    pub run: RunId,
    pub attempt: Attempt,
    /// `None` for a manual run.
    pub instant: Option<Instant>,
    pub due: Wall,
    pub action: Arc<Action>,
    /// Of a manual trigger.
    pub payload: Option<String>,
    pub timeout: Option<Duration>,
    /// The licence: from this moment on it must not begin (ledger.md, L0).
    pub until: Mono,
}

/// What the agent's own configuration says about execution.
#[derive(Clone, Debug)]
pub struct ExecConfig {
    /// Users, besides the agent's own, that a command may run as.
    pub allow_users: Vec<String>,
    /// Time from TERM to KILL.
    pub grace: Duration,
    /// Of the head, and again of the tail, of each output stream.
    pub output_bytes: usize,
    /// Refuse requests to link-local and cloud metadata addresses.
    pub http_deny_link_local: bool,
    /// Runs `shell` commands.
    pub shell: String,
    /// `PATH` of commands that set none.
    pub path: String,
    /// Give each command a cgroup of its own where the host allows it.
    pub cgroups: bool,
}

impl Default for ExecConfig {
    fn default() -> ExecConfig {
        const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        ExecConfig {
            allow_users: Vec::new(),
            grace: Duration::from_secs(10),
            output_bytes: OUTPUT_BYTES_MAX,
            http_deny_link_local: true,
            shell: "/bin/sh".to_owned(),
            path: std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned()),
            cgroups: true,
        }
    }
}

/// The handle on everything that runs. Calls return at once; ends come through the channel.
pub struct Executors {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<ExecConfig>,
    runtime: Handle,
    finished: mpsc::Sender<End>,
    running: Mutex<HashMap<Ticket, Running>>,
    /// Starts whose end is not yet in the channel.
    open: watch::Sender<usize>,
    closed: AtomicBool,
    commands: Commands,
    http: HttpClient,
}

struct Running {
    stop: Option<oneshot::Sender<()>>,
    output: Arc<RunOutput>,
}

impl Executors {
    /// Called inside a tokio runtime, which then runs everything. Makes the process the reaper of
    /// its orphaned descendants and raises its limit of open files.
    pub fn new(config: ExecConfig, finished: mpsc::Sender<End>) -> Executors {
        let config = Arc::new(config);
        let shared = Shared {
            commands: Commands::new(Arc::clone(&config)),
            http: HttpClient::new(config.http_deny_link_local),
            config,
            runtime: Handle::current(),
            finished,
            running: Mutex::new(HashMap::new()),
            open: watch::Sender::new(0),
            closed: AtomicBool::new(false),
        };
        let shared = Arc::new(shared);
        let preparing = Arc::clone(&shared);
        tokio::spawn(async move { preparing.http.prepare().await });
        Executors { shared }
    }

    /// Starts one attempt.
    pub fn start(&self, run: StartRun) {
        self.start_all(std::iter::once(run));
    }

    /// Starts a batch; for `noop` this costs one clock reading and, at worst, one task.
    pub fn start_all(&self, runs: impl IntoIterator<Item = StartRun>) {
        let mut noops = Noops { at: None, waiting: Vec::new() };
        for run in runs {
            if self.shared.closed.load(Ordering::Acquire) {
                let finished = failed("the agent is shutting down".to_owned());
                noops.deliver(&self.shared, run.ticket, Some(finished));
            } else if matches!(*run.action, Action::Noop) {
                let finished = noops.finished(run.until);
                noops.deliver(&self.shared, run.ticket, finished);
            } else {
                self.spawn(run);
            }
        }
        if !noops.waiting.is_empty() {
            let finished = self.shared.finished.clone();
            let open = OpenCount::new(&self.shared, noops.waiting.len());
            self.shared.runtime.spawn(async move {
                for end in noops.waiting {
                    // A closed channel means that the agent is on its way out.
                    let _ = finished.send(end).await;
                }
                drop(open);
            });
        }
    }

    /// Whether the action of an attempt that goes on has begun: it can no longer come back as
    /// unstarted.
    pub fn has_begun(&self, ticket: Ticket) -> bool {
        self.shared.running().get(&ticket).is_some_and(|run| run.output.has_begun())
    }

    /// Stops an attempt: TERM, grace, KILL for a command; a request is dropped. Its end comes as
    /// for every other. False if it has already ended or was never started.
    pub fn cancel(&self, ticket: Ticket) -> bool {
        let mut running = self.shared.running();
        let Some(run) = running.get_mut(&ticket) else {
            return false;
        };
        run.stop.take().map(|stop| stop.send(()));
        true
    }

    /// Attempts that go on now.
    pub fn running(&self) -> usize {
        self.shared.running().len()
    }

    /// Follows the output of an attempt that goes on. The answer to an http task is its stdout.
    pub fn tail(&self, ticket: Ticket, stream: Stream) -> Option<LiveOutput> {
        let output = Arc::clone(&self.shared.running().get(&ticket)?.output);
        Some(LiveOutput::new(output, stream))
    }

    /// The agent is on its way out: from `at` on a command that is stopped, or is being stopped
    /// already, has the short grace only. Of two such moments the earlier counts.
    pub fn hurry_from(&self, at: std::time::Instant) {
        self.shared.commands.hurry_from(at);
    }

    /// Ends everything, for an agent that ends: refuses new starts, cancels what runs, and waits
    /// until each tree is gone, which takes the short grace and, at worst, a bound. Says how many
    /// were cancelled. Ends still come through the channel while somebody reads it.
    pub async fn shutdown(&self) -> usize {
        self.shared.closed.store(true, Ordering::Release);
        self.hurry_from(std::time::Instant::now());
        let mut open = self.shared.open.subscribe();
        let left: Vec<Ticket> = self.shared.running().keys().copied().collect();
        let cancelled = left.into_iter().filter(|ticket| self.cancel(*ticket)).count();
        let gone = open.wait_for(|open| *open == 0);
        if tokio::time::timeout(limits::SHUTDOWN_MAX, gone).await.is_err() {
            tracing::warn!(left = self.running(), "runs outlived the shutdown");
        }
        cancelled
    }

    fn spawn(&self, run: StartRun) {
        let (stop, mut stopped) = oneshot::channel();
        let output = Arc::new(RunOutput::new(self.shared.config.output_bytes));
        let entry = Running { stop: Some(stop), output: Arc::clone(&output) };
        let before = self.shared.running().insert(run.ticket, entry);
        assert!(before.is_none(), "ticket {} is in use", run.ticket.0);
        let report = Report::new(run.ticket, Arc::clone(&self.shared));
        let span = tracing::info_span!("execute", run = %run.run, ticket = run.ticket.0);
        let shared = Arc::clone(&self.shared);
        let execute = async move {
            let run = Arc::new(run);
            let finished = match &*run.action {
                Action::Command(_) => shared.commands.run(&run, &output, &mut stopped).await,
                _ if run.until <= now().mono => None,
                Action::Http(http) => {
                    output.begin();
                    Some(shared.http.run(&run, http, &output, &mut stopped).await)
                }
                Action::Noop => Some(noop(now().wall)),
            };
            report.send(finished).await;
        };
        self.shared.runtime.spawn(execute.instrument(span));
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, HashMap<Ticket, Running>> {
        self.running.lock().expect("nothing panics while it holds the table of runs")
    }

    fn forget(&self, ticket: Ticket) {
        self.running().remove(&ticket);
    }
}

/// The ends that a batch knows at once.
struct Noops {
    at: Option<Now>,
    /// Ends that found the channel full.
    waiting: Vec<End>,
}

impl Noops {
    fn finished(&mut self, until: Mono) -> Option<Finished> {
        let at = *self.at.get_or_insert_with(now);
        (at.mono < until).then(|| noop(at.wall))
    }

    fn deliver(&mut self, shared: &Shared, ticket: Ticket, finished: Option<Finished>) {
        if !self.waiting.is_empty() {
            self.waiting.push((ticket, finished));
        } else if let Err(TrySendError::Full(end)) = shared.finished.try_send((ticket, finished)) {
            self.waiting.push(end);
        }
    }
}

/// Keeps `shutdown` waiting for ends that are known but not yet in the channel.
struct OpenCount {
    shared: Arc<Shared>,
    count: usize,
}

impl OpenCount {
    fn new(shared: &Arc<Shared>, count: usize) -> OpenCount {
        shared.open.send_modify(|open| *open += count);
        OpenCount { shared: Arc::clone(shared), count }
    }
}

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.shared.open.send_modify(|open| *open -= self.count);
    }
}

fn noop(at: Wall) -> Finished {
    Finished {
        started_at: Some(at),
        finished_at: at,
        end: AttemptEnd::Succeeded,
        code: None,
        output: Captured::default(),
    }
}

/// An instant as jobs see it, in RFC 3339.
fn instant_text(instant: Instant) -> String {
    jiff::Timestamp::from_millisecond(instant.millis())
        .expect("every instant is within the years that RFC 3339 can write")
        .to_string()
}

/// A fence as jobs see it and as the API shows it: a number that grows with each change of the
/// holder, and the epoch that comes before it in that order, `None` while it is the first.
fn fence_texts(fence: Fence) -> (String, Option<String>) {
    let epoch = (fence.epoch > Epoch(1)).then(|| fence.epoch.0.to_string());
    (fence.revision.0.to_string(), epoch)
}
