//! A task as it was asked for, checked and typed. `Task` adds what the shared state knows of it.
//!
//! Only what is built is here: a field whose feature does not exist yet has no place to hide in,
//! so the API refuses it by name instead of accepting and ignoring it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::Date;

use crate::ids::{AgentName, Incarnation, Revision, TaskName};
use crate::schedule::Schedule;
use crate::task::{Broadcast, Placement, Prior};
use crate::time::{Instant, Wall};

/// What a client asks for.
#[derive(Clone, PartialEq, Debug)]
pub struct Spec {
    pub name: TaskName,
    pub description: String,
    pub labels: BTreeMap<String, String>,
    pub schedules: Vec<Schedule>,
    pub start_at: Option<Wall>,
    pub end_at: Option<Wall>,
    /// Counts instants, not starts.
    pub max_runs: Option<u64>,
    pub jitter: Duration,
    pub exclude: BTreeSet<Date>,
    pub action: Action,
    pub placement: Placement,
    /// With `Placement::EveryAgent`; else it says nothing.
    pub broadcast: Broadcast,
    /// No edit changes it.
    pub delivery: Delivery,
    pub catch_up: CatchUp,
    pub overlap: Overlap,
    pub retry: Retry,
    pub timeout: Option<Duration>,
    /// A run that could not start this long after its due ends as `missed`.
    pub start_deadline: Option<Duration>,
    /// Higher starts first when an agent is full.
    pub priority: i32,
    pub paused: bool,
}

impl Spec {
    /// The instant of a one-shot: `at` is a task's only schedule.
    pub fn one_shot_at(&self) -> Option<Instant> {
        match self.schedules.as_slice() {
            [Schedule::At(at)] => Some(*at),
            _ => None,
        }
    }

    /// The longest that a due is behind its instant.
    pub fn delay_max(&self) -> Duration {
        self.jitter.saturating_add(self.broadcast.splay)
    }

    pub fn at_most_once(&self) -> bool {
        self.delivery == Delivery::AtMostOnce
    }
}

/// A task as the shared state holds it.
#[derive(Clone, PartialEq, Debug)]
pub struct Task {
    pub spec: Spec,
    pub incarnation: Incarnation,
    /// The revision that put this version.
    pub revision: Revision,
    pub created_at: Wall,
    pub updated_at: Wall,
    /// Instants up to here belong to the version before.
    pub effective_from: Wall,
    /// The revision that put these instants; 0: an edit that is this version. None: they are there
    /// from the beginning, or a release before this one has written the record.
    pub instants_by: Option<Revision>,
    /// The last instant that `max_runs` allows, counted when this version was written.
    pub last_instant: Option<Instant>,
    /// Hash of the `Idempotency-Key` and the index in its batch that created the task.
    pub request: Option<u128>,
    /// Schedules before this version, of which instants may be undecided; oldest first.
    pub prior: Vec<Prior>,
    /// Of a task of every agent: whose share this is. No record says so: an agent puts itself here
    /// when it takes the task in.
    pub share_of: Option<AgentName>,
}

impl Task {
    /// Whether this version is an edit that changed the instants, or a resume: one that leaves the
    /// instants alone keeps `effective_from` as it was.
    pub fn brings_instants(&self) -> bool {
        match self.instants_by {
            Some(by) => by == Revision(0),
            None => self.effective_from > self.created_at && self.effective_from >= self.updated_at,
        }
    }

    /// The revision that put these instants. Of a record that does not say so they count as there
    /// from the beginning, if its last edit has left them alone.
    pub fn instants_revision(&self) -> Revision {
        let own = if self.brings_instants() { self.revision } else { self.incarnation.revision };
        self.instants_by.filter(|by| *by != Revision(0)).unwrap_or(own)
    }
}

/// What a run does.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    Command(Command),
    Http(Http),
    Noop,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    pub program: Program,
    pub env: BTreeMap<String, String>,
    pub cwd: Option<String>,
    pub user: Option<String>,
    pub stdin: Option<String>,
    pub success_codes: Vec<i32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Program {
    /// Program and arguments; no shell.
    Argv(Vec<String>),
    /// A line for `/bin/sh -c`.
    Shell(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    pub method: String,
    pub url: String,
    pub headers: BTreeMap<String, String>,
    pub body: Option<String>,
    /// Inclusive ranges of status codes.
    pub success_status: Vec<(u16, u16)>,
}

/// What the loss of a host does to a run that it may have started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Delivery {
    /// It is started again.
    #[default]
    AtLeastOnce,
    /// It ends as `lost`. No attempt starts that the range's ledger did not list before (L2).
    AtMostOnce,
}

/// What becomes of instants that nobody could run in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CatchUp {
    pub policy: CatchUpPolicy,
    /// Older instants are `missed`, whatever the policy.
    pub window: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CatchUpPolicy {
    None,
    Latest,
    All,
}

/// What an instant does that comes while an earlier run of its task goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overlap {
    Skip,
    Allow,
    Queue,
    CancelRunning,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Retry {
    pub max_attempts: u32,
    pub backoff: Duration,
    pub factor: f64,
    pub max_backoff: Duration,
    /// 0 to 1: the share of each wait that is spread.
    pub jitter: f64,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            max_attempts: 1,
            backoff: Duration::from_secs(1),
            factor: 2.0,
            max_backoff: Duration::from_secs(300),
            jitter: 0.1,
        }
    }
}
