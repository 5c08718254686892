//! The closed list of what can wake the agent's core.

use std::sync::Arc;
use std::time::Duration;

pub use crate::agent::clock::Offset;
use crate::agent::effect::{
    BatchNumber, CallId, LoadId, RunKeyName, SettleKey, SettledEnd, Ticket,
};
use crate::ids::{
    AgentName, Attempt, CoordinatorId, Fence, LeaseId, PoolName, RangeId, Revision, RunId, Session,
    TaskName, TaskNumber,
};
use crate::ledger::Ledger;
use crate::ring::{Capacity, Duty};
use crate::run::Finished;
use crate::task::Task;
use crate::time::{Instant, Now};

#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// The time asked for has come.
    Wake,
    Answered {
        call: CallId,
        answer: ShareAnswer,
    },
    /// News of the range's watch, in order.
    Range {
        range: RangeId,
        news: RangeNews,
    },
    /// News of the watch of `shared/`, in order.
    Shared(SharedNews),
    Committed(Committed),
    Loaded {
        load: LoadId,
        answer: LoadAnswer,
    },
    Finished {
        ticket: Ticket,
        finished: Box<Finished>,
    },
    /// The attempt was not begun: its licence had run out.
    Unstarted {
        ticket: Ticket,
    },
    /// Somebody asks that this run ends.
    CancelRun {
        run: RunId,
    },
    /// A coordinator measured this clock.
    ClockOffset {
        coordinator: CoordinatorId,
        offset: Offset,
    },
    /// Whether the disk has the room that the agent needs to go on.
    Disk {
        free: bool,
    },
    /// Hand everything over, then exit; what runs has until `deadline` from now.
    Leave {
        deadline: Duration,
    },
}

/// `revision` is the store's at the answer, where it tells.
#[derive(Clone, PartialEq, Debug)]
pub enum ShareAnswer {
    Lease {
        lease: LeaseId,
        ttl: Duration,
    },
    KeptAlive {
        ttl: Duration,
    },
    /// The lease is gone.
    NoLease,
    Registered {
        session: Session,
    },
    NameTaken {
        holder: Session,
    },
    /// An operator asks something else than the registration went by: nothing was done.
    Asked(Asked),
    Claimed {
        revision: Revision,
    },
    NotClaimed,
    /// One outcome for each range, in order.
    Wrote(Vec<WriteOutcome>),
    ReadBack(ReadBack),
    /// Whether each key was deleted, in order.
    Deleted(Vec<bool>),
    Settle(Option<SettledEnd>),
    CompactRead {
        record: CompactSeen,
        revision: Revision,
    },
    /// Somebody else was there first; nothing was done.
    Overtaken,
    Done,
    /// It certainly did not happen.
    Refused {
        error: String,
        retryable: bool,
    },
    /// It may or may not have happened.
    Unknown {
        error: String,
    },
}

/// The record of the last compaction. Both 0: there is none yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CompactSeen {
    /// What was compacted to.
    pub to: Revision,
    /// The record's own revision.
    pub at: Revision,
}

#[derive(Clone, PartialEq, Debug)]
pub enum WriteOutcome {
    Written {
        revision: Revision,
    },
    /// A compare failed: what is there instead.
    Differs(ReadBack),
}

#[derive(Clone, PartialEq, Debug)]
pub struct ReadBack {
    pub claim: Option<ClaimSeen>,
    pub ledger: Option<LedgerSeen>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimSeen {
    pub agent: AgentName,
    pub session: Session,
    pub fence: Fence,
    pub beat: u64,
    pub revision: Revision,
}

#[derive(Clone, PartialEq, Debug)]
pub struct LedgerSeen {
    /// `Err`: it cannot be decoded; the range must not be touched.
    pub ledger: Result<Arc<Ledger>, String>,
    pub revision: Revision,
}

#[derive(Clone, PartialEq, Debug)]
pub enum RangeNews {
    /// A list was asked for at `sent`; its items follow, then `ListEnded`.
    ListBegan {
        sent: Now,
    },
    /// Everything up to `revision` is delivered.
    ListEnded {
        revision: Revision,
    },
    /// Everything up to `revision` is delivered (W1).
    Delivered {
        revision: Revision,
    },
    Claim(Option<ClaimSeen>),
    Ledger(Option<LedgerSeen>),
    TaskPut {
        task: Arc<Task>,
        raw: Arc<[u8]>,
    },
    /// A task that cannot be decoded: quarantined, and treated as if it were not there.
    TaskUnreadable {
        name: TaskName,
        error: String,
    },
    TriggerPut(Box<Trigger>),
    Gone {
        key: RunKeyName,
        revision: Revision,
    },
    SettlePut {
        key: SettleKey,
        session: Session,
        end: SettledEnd,
    },
    SettleGone {
        key: SettleKey,
    },
}

/// A manual run that was asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Trigger {
    pub task: TaskName,
    pub ulid: u128,
    pub revision: Revision,
    pub asked_at: Instant,
    pub payload: Option<Arc<str>>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum SharedNews {
    ListBegan,
    ListEnded {
        revision: Revision,
    },
    Delivered {
        revision: Revision,
    },
    Member(Member),
    MemberGone {
        agent: AgentName,
    },
    /// Of this agent alone.
    Asked(Asked),
    Beat {
        revision: Revision,
    },
}

/// A session of an agent, as the shared state shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub agent: AgentName,
    pub session: Session,
    pub pool: PoolName,
    pub capacity: Capacity,
}

/// What an operator asks of this agent, in the record that outlives its sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    pub duty: Duty,
    /// In place of the configured one.
    pub weight: Option<u32>,
    /// Of the record; 0: there is none.
    pub revision: Revision,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    pub batch: BatchNumber,
    pub synced: bool,
    pub duplicates: Vec<Duplicate>,
}

/// A task of the batch whose `request` has already run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Duplicate {
    pub range: RangeId,
    pub number: TaskNumber,
    /// At which it was put: that of its life.
    pub revision: Revision,
    /// The run that the request has made.
    pub earlier: RunId,
}

#[derive(Clone, PartialEq, Debug)]
pub enum LoadAnswer {
    /// `through`: every entry up to here was read.
    Due {
        entries: Vec<DueLoaded>,
        through: Instant,
    },
    Scan {
        tasks: Vec<(TaskNumber, Arc<Task>)>,
        more: bool,
    },
    Task(Option<(TaskNumber, Arc<Task>)>),
    Own(Vec<OwnRun>),
}

/// What an earlier process wrote down of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnRun {
    pub run: RunId,
    /// The newest attempt that it began; number 0: none.
    pub attempt: Attempt,
    /// Under which it was written down; the default: what there was of it is forgotten.
    pub fence: Fence,
    /// Its end, if that is written down too. Of several instants in one row, `until` is the last.
    pub end: Option<SettledEnd>,
    pub until: Option<Instant>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct DueLoaded {
    pub due: Instant,
    pub instant: Instant,
    pub number: TaskNumber,
    pub task: Arc<Task>,
}
