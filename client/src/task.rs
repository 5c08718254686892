//! A task as a value: built field by field, or as the server answered.
//!
//! `Task` is the message on the wire with a way to write it down that reads well. What is left out
//! takes the server's default, so that a default is decided in one place. Everything the wire knows
//! can be reached through `proto` and `into_proto`, so this type never stands in the way.

use std::time::{Duration, SystemTime};

use tocktower_proto::v1;

use crate::action::{Command, Http};
use crate::schedule::{Cron, Schedule};
use crate::time::{span, system_time, timestamp};

pub use v1::{CatchUpPolicy, Delivery, Overlap, TaskState};

/// A definition: schedules, an action, and policies; identified by namespace and name.
///
/// ```
/// use std::time::Duration;
/// use tocktower_client::{Command, Cron, Overlap, Retry, Task};
///
/// let task = Task::new("default", "nightly-backup")
///     .cron(Cron::new("30 2 * * *").in_zone("Europe/Berlin"))
///     .command(Command::new(["/usr/local/bin/backup", "--all"]).user("backup"))
///     .overlap(Overlap::Skip)
///     .retry(Retry::attempts(3).backoff(Duration::from_secs(10)))
///     .timeout(Duration::from_secs(3600))
///     .label("team", "db");
/// assert_eq!(task.name(), "nightly-backup");
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Task(v1::Task);

impl Task {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Task {
        Task(v1::Task { namespace: namespace.into(), name: name.into(), ..v1::Task::default() })
    }

    /// A task whose name does not matter: one is made when it is created.
    pub fn unnamed(namespace: impl Into<String>) -> Task {
        Task::new(namespace, "")
    }

    pub fn description(mut self, text: impl Into<String>) -> Task {
        self.0.description = text.into();
        self
    }

    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Task {
        self.0.labels.insert(name.into(), value.into());
        self
    }

    /// One more schedule.
    pub fn schedule(mut self, schedule: impl Into<Schedule>) -> Task {
        self.0.schedules.push(schedule.into().into());
        self
    }

    /// One more cron expression.
    pub fn cron(self, cron: impl Into<Cron>) -> Task {
        self.schedule(Schedule::cron(cron))
    }

    /// Once, at this moment; a task's only schedule.
    pub fn at(self, time: impl Into<SystemTime>) -> Task {
        self.schedule(Schedule::at(time))
    }

    /// Again and again, counted from the Unix epoch; a second at least.
    pub fn every(self, interval: Duration) -> Task {
        self.schedule(Schedule::every(interval))
    }

    /// No instant before this moment.
    pub fn start_at(mut self, time: impl Into<SystemTime>) -> Task {
        self.0.start_at = Some(timestamp(time.into()));
        self
    }

    /// No instant after this moment.
    pub fn end_at(mut self, time: impl Into<SystemTime>) -> Task {
        self.0.end_at = Some(timestamp(time.into()));
        self
    }

    /// Ends after so many instants, started or not.
    pub fn max_runs(mut self, runs: u64) -> Task {
        self.0.max_runs = Some(runs);
        self
    }

    /// Puts off each start by a share of this that is fixed for the task and the instant.
    pub fn jitter(mut self, most: Duration) -> Task {
        self.0.jitter = Some(span(most));
        self
    }

    /// No instant on this date (`YYYY-MM-DD`) in the zone of each schedule.
    pub fn exclude_date(mut self, date: impl Into<String>) -> Task {
        self.0.exclude.get_or_insert_default().dates.push(date.into());
        self
    }

    pub fn command(self, command: impl Into<Command>) -> Task {
        self.action(v1::action::Kind::Command(command.into().into()))
    }

    /// A line for `/bin/sh -c`.
    pub fn shell(self, line: impl Into<String>) -> Task {
        self.command(Command::shell(line))
    }

    pub fn http(self, http: Http) -> Task {
        self.action(v1::action::Kind::Http(http.into()))
    }

    /// Does nothing, for measuring.
    pub fn noop(self) -> Task {
        self.action(v1::action::Kind::Noop(v1::Noop {}))
    }

    /// Any agent of this pool; left out: `default`.
    pub fn pool(mut self, pool: impl Into<String>) -> Task {
        let kind = Some(v1::placement::Kind::Pool(pool.into()));
        self.0.placement = Some(v1::Placement { kind });
        self
    }

    /// This agent and no other, in place of a pool. The task goes on there while the agent is cut
    /// off from all others, and its history can be read when it is back.
    pub fn agent(mut self, agent: impl Into<String>) -> Task {
        let kind = Some(v1::placement::Kind::Agent(agent.into()));
        self.0.placement = Some(v1::Placement { kind });
        self
    }

    /// Every agent of `pool` that has all of these labels, in place of any agent of a pool: each
    /// runs its own share, and goes on with it while it is cut off from all others. Without labels
    /// all agents of the pool do. Starts are spread over `splay`.
    pub fn every_agent<K: Into<String>, V: Into<String>>(
        mut self,
        pool: impl Into<String>,
        labels: impl IntoIterator<Item = (K, V)>,
        splay: Duration,
    ) -> Task {
        let labels = labels.into_iter().map(|(name, value)| (name.into(), value.into()));
        let every = v1::EveryAgent {
            pool: pool.into(),
            labels: labels.collect(),
            splay: Some(span(splay)),
        };
        let kind = Some(v1::placement::Kind::EveryAgent(every));
        self.0.placement = Some(v1::Placement { kind });
        self
    }

    /// What becomes of instants that nobody could run in time; older ones than `window` are missed.
    pub fn catch_up(mut self, policy: CatchUpPolicy, window: Option<Duration>) -> Task {
        let mut catch_up = v1::CatchUp { policy: 0, window: window.map(span) };
        catch_up.set_policy(policy);
        self.0.catch_up = Some(catch_up);
        self
    }

    /// What the loss of a host does to a run that it may have started; left out: it is started
    /// again.
    pub fn delivery(mut self, delivery: Delivery) -> Task {
        self.0.set_delivery(delivery);
        self
    }

    /// What an instant does while an earlier run goes on; left out: it is skipped.
    pub fn overlap(mut self, overlap: Overlap) -> Task {
        self.0.set_overlap(overlap);
        self
    }

    pub fn retry(mut self, retry: Retry) -> Task {
        self.0.retry = Some(retry.0);
        self
    }

    /// How long an attempt may take.
    pub fn timeout(mut self, timeout: Duration) -> Task {
        self.0.timeout = Some(span(timeout));
        self
    }

    /// A run that could not start this long after its due is missed.
    pub fn start_deadline(mut self, deadline: Duration) -> Task {
        self.0.start_deadline = Some(span(deadline));
        self
    }

    /// Higher starts first when an agent is full.
    pub fn priority(mut self, priority: i32) -> Task {
        self.0.priority = priority;
        self
    }

    pub fn paused(mut self, paused: bool) -> Task {
        self.0.paused = paused;
        self
    }

    fn action(mut self, kind: v1::action::Kind) -> Task {
        self.0.action = Some(v1::Action { kind: Some(kind) });
        self
    }
}

/// What the task is, and what the server adds.
impl Task {
    pub fn namespace(&self) -> &str {
        if self.0.namespace.is_empty() { "default" } else { &self.0.namespace }
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Which version this is; 0 before the server has seen it.
    pub fn revision(&self) -> i64 {
        self.0.revision
    }

    pub fn state(&self) -> TaskState {
        self.0.state()
    }

    /// The next instant, if there is one and the task is not paused.
    pub fn next_at(&self) -> Option<SystemTime> {
        self.0.next_at.as_ref().map(system_time)
    }

    /// A one-shot that has ended and left: its name and its last run are all that is known of it.
    pub fn is_history(&self) -> bool {
        self.state() == TaskState::Finished && self.revision() == 0
    }

    /// It has one instant only.
    pub fn is_one_shot(&self) -> bool {
        let at = |s: &v1::Schedule| matches!(s.kind, Some(v1::schedule::Kind::At(_)));
        self.0.schedules.iter().any(at)
    }

    /// Whether a create of it must not be sent again while its outcome is unknown: it may have run
    /// and be gone, and a second one would run as well.
    pub(crate) fn runs_only_once(&self) -> bool {
        runs_only_once(&self.0)
    }

    /// The message on the wire.
    pub fn proto(&self) -> &v1::Task {
        &self.0
    }

    pub fn into_proto(self) -> v1::Task {
        self.0
    }
}

impl From<v1::Task> for Task {
    fn from(task: v1::Task) -> Task {
        Task(task)
    }
}

impl From<Task> for v1::Task {
    fn from(task: Task) -> v1::Task {
        task.0
    }
}

/// How often a failed run is tried again, and after what waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry(v1::Retry);

impl Retry {
    /// So many attempts in all, the first one counted.
    pub fn attempts(attempts: u32) -> Retry {
        Retry(v1::Retry { max_attempts: Some(attempts), ..v1::Retry::default() })
    }

    /// The wait before the second attempt; left out: 1 s.
    pub fn backoff(mut self, wait: Duration) -> Retry {
        self.0.backoff = Some(span(wait));
        self
    }

    /// How much longer each wait is than the one before; left out: 2.
    pub fn factor(mut self, factor: f64) -> Retry {
        self.0.factor = Some(factor);
        self
    }

    /// The longest wait; left out: 5 min.
    pub fn max_backoff(mut self, wait: Duration) -> Retry {
        self.0.max_backoff = Some(span(wait));
        self
    }

    /// The share of each wait that is spread at random, 0 to 1; left out: 0.1.
    pub fn jitter(mut self, share: f64) -> Retry {
        self.0.jitter = Some(share);
        self
    }
}

/// A one-shot with delivery at most once.
pub(crate) fn runs_only_once(task: &v1::Task) -> bool {
    let at = |s: &v1::Schedule| matches!(s.kind, Some(v1::schedule::Kind::At(_)));
    task.delivery() == Delivery::AtMostOnce && task.schedules.iter().any(at)
}
