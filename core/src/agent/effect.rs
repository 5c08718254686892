//! The closed list of what the agent's core can ask for. Order is the safety argument: persist,
//! then act, then tell. The core never assumes that an effect happened; it waits for the answer
//! that `input` names.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::Kept;
use crate::agent::input::Asked;
use crate::ids::{
    Attempt, CoordinatorId, Fence, LeaseId, LedgerNumber, RangeId, Revision, RunId, Session,
    TaskName, TaskNumber,
};
use crate::ledger::Ledger;
use crate::ring::{Capacity, Duty};
use crate::run::{Captured, RunRecord, RunState};
use crate::task::Action;
use crate::time::{Instant, Mono, Wall};

/// Names one request to the shared state; its answer carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId(pub u64);

/// Names one started attempt towards the executors.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// Counts the batches of the store, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BatchNumber(pub u64);

/// Names one read of the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LoadId(pub u64);

#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// A request to the shared state, answered once by `Input::Answered`.
    Share {
        call: CallId,
        request: ShareRequest,
    },
    /// Follow this much of a range from now on.
    Follow {
        range: RangeId,
        interest: Interest,
    },
    /// The range's watch must bring `revision`; if nothing came by then, it is opened again (W3).
    ExpectWatch {
        range: RangeId,
        revision: Revision,
    },
    /// The range's watch keeps silent: open it again behind what it has brought (W3).
    Reopen {
        range: RangeId,
    },
    /// The copy of the range lacks something: list it again.
    Relist {
        range: RangeId,
    },
    /// One atomic write of the store, answered by `Input::Committed`, in order.
    Commit(Batch),
    /// A read of the store that sees every batch before it, answered by `Input::Loaded`.
    Load {
        load: LoadId,
        request: LoadRequest,
    },
    Start(Box<Start>),
    /// Ends an attempt with its whole process tree; `Input::Finished` still comes.
    Cancel {
        ticket: Ticket,
    },
    /// A run has changed, for those who watch. `ended`: instants that have ended with it; a span
    /// that grows is reported whole again and again.
    Report {
        record: Arc<RunRecord>,
        ended: u64,
    },
    Notice(Notice),
    /// The agent has left, or cannot go on; the process ends.
    Exit {
        reason: ExitReason,
    },
}

/// How much of a range is watched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Interest {
    Nothing,
    Claim,
    Whole,
}

#[derive(Clone, PartialEq, Debug)]
pub enum ShareRequest {
    GrantLease {
        ttl: Duration,
    },
    KeepAlive {
        lease: LeaseId,
    },
    RevokeLease {
        lease: LeaseId,
    },
    /// Puts the session key if there is none, and the record that outlives it if that is still as
    /// it was `asked`.
    Register {
        lease: LeaseId,
        capacity: Capacity,
        asked: Asked,
    },
    /// Puts the session key again, capacity changed.
    Reweigh {
        session: Session,
        lease: LeaseId,
        capacity: Capacity,
        /// When the session was registered.
        since: Wall,
    },
    /// Puts the claim if there is none and the session is still mine.
    Claim {
        range: RangeId,
        session: Session,
        lease: LeaseId,
    },
    /// At most `LEDGER_RANGES_MAX`, each a nested transaction of its own.
    Write(Vec<RangeWrite>),
    /// Reads claim and ledger, linearizably.
    ReadBack {
        range: RangeId,
    },
    /// Deletes keys of ended one-shots and triggers; at most `DELETES_MAX`.
    Delete(Vec<KeyDelete>),
    /// Says how attempts ended that were left with this session.
    Settle {
        session: Session,
        settles: Vec<SettlePut>,
    },
    /// Reads a settle key, linearizably.
    ReadSettle {
        range: RangeId,
        run: RunId,
        attempt: Attempt,
    },
    /// Puts the common beat if it is still at `seen`.
    CommonBeat {
        seen: Revision,
    },
    /// Puts the key by which the watch of what is pinned here is proved.
    PinsBeat {
        session: Session,
    },
    /// Reads the record of the last compaction, and how far the shared state is.
    ReadCompact,
    /// Puts the record of the last compaction if it is still at `seen`; 0: there is none.
    PutCompact {
        seen: Revision,
        to: Revision,
    },
    /// Forgets what was before `to`; asked for only by whoever put the record.
    Compact {
        to: Revision,
    },
}

/// What one range adds to a shared transaction; compares `fence`, always.
#[derive(Clone, PartialEq, Debug)]
pub struct RangeWrite {
    pub range: RangeId,
    pub fence: Fence,
    pub kind: WriteKind,
}

#[derive(Clone, PartialEq, Debug)]
pub enum WriteKind {
    /// Puts the claim again, with its beat counted on.
    Beat { session: Session, lease: LeaseId, beat: u64 },
    /// Puts the ledger if it is still at `seen`, and deletes the settle keys it took in.
    Ledger { seen: Revision, ledger: Ledger, taken: Vec<SettleKey> },
    /// As `Ledger`, and deletes the claim.
    Final { seen: Revision, ledger: Ledger, taken: Vec<SettleKey> },
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SettleKey {
    pub run: RunId,
    pub attempt: Attempt,
}

#[derive(Clone, PartialEq, Debug)]
pub struct SettlePut {
    pub range: RangeId,
    pub key: SettleKey,
    pub end: SettledEnd,
}

/// How an attempt ended, as its former holder says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SettledEnd {
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    /// The former holder has no record of it.
    Gone,
}

impl SettledEnd {
    /// Of a run that has ended like this: what is not tried again counts as cancelled.
    pub fn of(state: RunState) -> SettledEnd {
        match state {
            RunState::Succeeded => SettledEnd::Succeeded,
            RunState::Failed => SettledEnd::Failed,
            RunState::TimedOut => SettledEnd::TimedOut,
            _ => SettledEnd::Cancelled,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyDelete {
    pub range: RangeId,
    pub key: RunKeyName,
    /// Deleted only if still at this revision: an edit meanwhile wins (L7).
    pub at: Revision,
}

/// The key of a one-shot or a trigger.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RunKeyName {
    Task(TaskName),
    Trigger(TaskName, u128),
}

/// One atomic write. With `sync`, it and all before it are on disk when it is answered.
#[derive(Clone, PartialEq, Debug)]
pub struct Batch {
    pub number: BatchNumber,
    pub sync: bool,
    pub ops: Vec<StoreOp>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum StoreOp {
    /// Puts a version of a task and forgets the one before. `raw` is its row: name,
    /// revisions and record in one.
    /// `stamp` tells the listing that saw it (see `Sweep`). With `request`, the answer says
    /// whether that request has already run.
    PutTask {
        range: RangeId,
        number: TaskNumber,
        name: TaskName,
        revision: Revision,
        stamp: u64,
        request: Option<u128>,
        raw: Arc<[u8]>,
    },
    DeleteTask {
        range: RangeId,
        name: TaskName,
    },
    /// Forgets tasks of a range that no listing since `stamp` has seen.
    Sweep {
        range: RangeId,
        stamp: u64,
    },
    /// Forgets a range's tasks and due entries.
    DropRange {
        range: RangeId,
    },
    /// Forgets a range's due entries: they are derived anew.
    ClearDue {
        range: RangeId,
    },
    PutDue {
        range: RangeId,
        due: Instant,
        instant: Instant,
        number: TaskNumber,
    },
    /// Due entries of the range up to here are behind.
    Watermark {
        range: RangeId,
        through: Instant,
    },
    OpenRun {
        range: RangeId,
        run: RunId,
        attempt: Attempt,
    },
    CloseRun {
        range: RangeId,
        run: RunId,
    },
    History(Arc<RunRecord>),
    Output {
        run: RunId,
        attempt: Attempt,
        output: Captured,
    },
    /// A ledger is about to be sent. Until one was answered since the range was taken, the one in
    /// etcd may be of a process before: the newest of each of those, in `before`, newest first.
    LedgerNumber {
        range: RangeId,
        number: LedgerNumber,
        before: Vec<LedgerNumber>,
    },
    /// What a process that comes after has to know of a local range.
    Pins(RangeId, PinsRecord),
    /// The session that this agent has, or that it has none: a process that comes after goes on
    /// from it.
    Session(Option<Kept>),
}

/// See `PinsBefore`.
#[derive(Clone, PartialEq, Debug)]
pub enum PinsRecord {
    Born(Wall),
    Delivered(Revision),
    Ledger(Ledger),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoadRequest {
    /// Due entries in (after, through], in order, at most `limit`.
    Due {
        range: RangeId,
        after: Instant,
        through: Instant,
        limit: usize,
    },
    /// Tasks of a range in the order of their numbers.
    Scan {
        range: RangeId,
        after: Option<TaskNumber>,
        limit: usize,
    },
    Task {
        range: RangeId,
        name: TaskName,
    },
    /// What processes before this one have written down: of `runs`, and of all runs of each of
    /// `tasks` at instants after the one that is given.
    Own {
        range: RangeId,
        under: Fences,
        runs: Vec<RunId>,
        tasks: Vec<(TaskName, Instant)>,
    },
}

/// Whose accounts are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fences {
    pub newest: Fence,
    /// Those of the fences before as well.
    pub earlier: bool,
}

impl Fences {
    /// An account under no fence gives way to every other, and is none of a holder's.
    pub fn has(self, fence: Fence) -> bool {
        let earlier = self.earlier && Fence::default() < fence && fence < self.newest;
        fence == self.newest || earlier
    }
}

/// Everything an executor needs to begin an attempt.
#[derive(Clone, PartialEq, Debug)]
pub struct Start {
    pub ticket: Ticket,
    pub run: RunId,
    pub attempt: Attempt,
    pub instant: Instant,
    pub due: Wall,
    pub action: Arc<Action>,
    pub payload: Option<Arc<str>>,
    pub timeout: Option<Duration>,
    /// The licence: looked at again where the attempt begins. From this moment on it must not
    /// begin; `Input::Unstarted` says that it did not.
    pub until: Mono,
}

/// Something a person may want to know; the shell logs it once.
#[derive(Clone, PartialEq, Debug)]
pub enum Notice {
    Registered {
        session: Session,
    },
    /// The session of the process before goes on.
    Adopted {
        session: Session,
    },
    /// The store has owed an answer for so long: the session is given up.
    StoreStalled {
        silent: Duration,
    },
    StoreAnswers,
    /// Another session has the name; it is waited for.
    NameTaken {
        holder: Session,
    },
    /// A local range is taken up; `restored`: as the process before left it.
    Pinned {
        range: RangeId,
        restored: bool,
    },
    Claimed {
        range: RangeId,
        fence: Fence,
    },
    Holding {
        range: RangeId,
        fence: Fence,
    },
    HandedOff {
        range: RangeId,
    },
    LostClaim {
        range: RangeId,
    },
    LeaseLost,
    /// The wall clock was set.
    ClockMoved {
        moved_micros: i64,
    },
    /// A coordinator's time is so far from ours.
    ClockDisagrees {
        coordinator: CoordinatorId,
        micros: i64,
    },
    /// It is this clock that is wrong: others get the ranges.
    ClockOff {
        micros: i64,
    },
    ClockVerified,
    DiskLow,
    DiskFree,
    /// An operator wants something else of this agent.
    Duty {
        duty: Duty,
    },
    /// What could not be handed over in order is given up with the session.
    GaveUp,
    Stranger {
        range: RangeId,
    },
    Quarantined {
        range: RangeId,
        key: String,
        error: String,
    },
    RangeFull {
        range: RangeId,
    },
    /// The shared state was compacted by this agent.
    Compacted {
        to: Revision,
    },
    Refused {
        what: &'static str,
        error: String,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExitReason {
    Left,
    /// Another process has this agent's name.
    NameTaken,
    /// The shared state went back in time: it was put back from a backup.
    WentBack {
        seen: Revision,
        now: Revision,
    },
    /// The cluster's epoch was raised since this process read it.
    EpochRaised,
}
