//! A store in a folder of its own, and short words for the operations of a batch.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tempfile::TempDir;
use tocktower_agent::store::{Loaded, OpenError, Opened, Store, StoreConfig};
use tocktower_core::agent::Kept;
use tocktower_core::agent::effect::{Batch, BatchNumber, LoadRequest, StoreOp};
use tocktower_core::agent::input::{Committed, DueLoaded, LoadAnswer};
use tocktower_core::ids::{
    AgentName, Attempt, Epoch, Fence, Incarnation, LeaseId, PoolName, RangeId, Revision, RunId,
    RunKey, Session, TaskName, TaskNumber,
};
use tocktower_core::run::{RunRecord, RunState};
use tocktower_core::schedule::Schedule;
use tocktower_core::task::{Action, Broadcast, CatchUp, CatchUpPolicy, Overlap, Retry, Spec, Task};
use tocktower_core::time::{Instant, Wall};
use tocktower_proto::convert::encode_task_row;

pub const RANGE: RangeId = RangeId(7);

/// The wall clock of all stores in tests.
static CLOCK_MS: AtomicI64 = AtomicI64::new(1_000_000);

pub fn clock() -> Wall {
    Wall::from_millis(CLOCK_MS.load(Ordering::Relaxed))
}

pub fn set_clock(ms: i64) {
    CLOCK_MS.store(ms, Ordering::Relaxed);
}

/// Owns the folder; the store may be closed and opened again.
pub struct Disk {
    pub dir: TempDir,
    opened: Option<Opened>,
    next: u64,
}

impl Disk {
    pub fn new() -> Disk {
        let mut disk = Disk { dir: TempDir::new().unwrap(), opened: None, next: 0 };
        disk.open().unwrap();
        disk
    }

    pub fn open(&mut self) -> Result<&Opened, OpenError> {
        self.opened = None;
        self.opened = Some(open(&self.dir)?);
        Ok(self.opened.as_ref().unwrap())
    }

    /// On another boot of the host than the first; always the same one.
    pub fn open_after_boot(&mut self) {
        self.opened = None;
        let boot = "another boot".to_owned();
        let config = StoreConfig { clock, boot, ..StoreConfig::default() };
        self.opened = Some(Store::open(self.dir.path(), config).unwrap());
    }

    pub fn close(&mut self) {
        self.opened = None;
    }

    /// The files of the log of what no other file holds yet.
    pub fn logs(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.dir.path().join("db")).unwrap().flatten();
        let logs = files.map(|file| file.path());
        logs.filter(|path| path.extension().is_some_and(|ext| ext == "log")).collect()
    }

    pub fn log_bytes(&self) -> u64 {
        self.logs().iter().map(|path| path.metadata().map_or(0, |of| of.len())).sum()
    }

    pub fn opened(&self) -> &Opened {
        self.opened.as_ref().unwrap()
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.opened().store
    }

    pub fn apply(&mut self, ops: impl IntoIterator<Item = StoreOp>) -> Committed {
        self.next += 1;
        self.store().apply(&batch(self.next, true, ops)).unwrap()
    }

    pub fn load(&self, request: LoadRequest) -> Loaded {
        self.store().load(&request).unwrap()
    }

    /// What is due in (after, through].
    pub fn due(&self, after: i64, through: i64, limit: usize) -> (Vec<DueLoaded>, i64) {
        let (after, through) = (at(after), at(through));
        match self.load(LoadRequest::Due { range: RANGE, after, through, limit }).answer {
            LoadAnswer::Due { entries, through } => (entries, through.millis()),
            other => panic!("{other:?}"),
        }
    }

    pub fn due_numbers(&self, after: i64, through: i64) -> Vec<u64> {
        self.due(after, through, 1_000).0.iter().map(|entry| entry.number.0).collect()
    }

    pub fn task(&self, name: &str) -> Option<(u64, Arc<Task>)> {
        match self.load(LoadRequest::Task { range: RANGE, name: named(name) }).answer {
            LoadAnswer::Task(task) => task.map(|(number, task)| (number.0, task)),
            other => panic!("{other:?}"),
        }
    }

    pub fn scan(&self, range: RangeId, after: Option<u64>, limit: usize) -> (Vec<u64>, bool) {
        let after = after.map(TaskNumber);
        match self.load(LoadRequest::Scan { range, after, limit }).answer {
            LoadAnswer::Scan { tasks, more } => {
                (tasks.iter().map(|(number, _)| number.0).collect(), more)
            }
            other => panic!("{other:?}"),
        }
    }
}

pub fn open(dir: &TempDir) -> Result<Opened, OpenError> {
    let config = StoreConfig { clock, ..StoreConfig::default() };
    Store::open(dir.path(), config)
}

pub fn batch(number: u64, sync: bool, ops: impl IntoIterator<Item = StoreOp>) -> Batch {
    Batch { number: BatchNumber(number), sync, ops: ops.into_iter().collect() }
}

pub fn at(ms: i64) -> Instant {
    Instant::from_millis(ms)
}

pub fn named(name: &str) -> TaskName {
    TaskName::parse(&format!("default/{name}")).unwrap()
}

// --- operations ---------------------------------------------------------------------------------

pub fn recurring(name: &str, number: u64) -> StoreOp {
    put(name, number, 1, None, recurring_raw(name, number))
}

/// As `recurring`, in another range.
pub fn recurring_in(range: RangeId, name: &str, number: u64) -> StoreOp {
    let (name, raw) = (named(name), recurring_raw(name, number).into());
    let (number, revision) = (TaskNumber(number), Revision(1));
    StoreOp::PutTask { range, number, name, revision, stamp: 1, request: None, raw }
}

pub fn one_shot(name: &str, number: u64) -> StoreOp {
    put(name, number, 1, None, one_shot_raw(name, number))
}

pub fn put(name: &str, number: u64, stamp: u64, request: Option<u128>, raw: Vec<u8>) -> StoreOp {
    StoreOp::PutTask {
        range: RANGE,
        number: TaskNumber(number),
        name: named(name),
        revision: Revision(i64::try_from(number).unwrap()),
        stamp,
        request,
        raw: raw.into(),
    }
}

pub fn delete(name: &str) -> StoreOp {
    StoreOp::DeleteTask { range: RANGE, name: named(name) }
}

pub fn due(ms: i64, number: u64) -> StoreOp {
    let due = at(ms);
    StoreOp::PutDue { range: RANGE, due, instant: due, number: TaskNumber(number) }
}

pub fn watermark(ms: i64) -> StoreOp {
    StoreOp::Watermark { range: RANGE, through: at(ms) }
}

pub fn history(run: RunRecord) -> StoreOp {
    StoreOp::History(Arc::new(run))
}

// --- runs ---------------------------------------------------------------------------------------

pub fn fence(revision: i64) -> Fence {
    Fence { epoch: Epoch(1), revision: Revision(revision) }
}

pub fn attempt(number: u32) -> Attempt {
    Attempt { fence: fence(5), number }
}

pub fn run_id(name: &str, ms: i64) -> RunId {
    let incarnation = Incarnation { epoch: Epoch(1), revision: Revision(3) };
    RunId { task: named(name), incarnation, run: RunKey::Instant(at(ms)), agent: None }
}

pub fn run(name: &str, ms: i64, state: RunState) -> RunRecord {
    RunRecord {
        id: run_id(name, ms),
        state,
        reason: None,
        instant: at(ms),
        due: at(ms).wall(),
        agent: AgentName::parse("web-1").unwrap(),
        fence: fence(5),
        attempts: Vec::new(),
        lateness_micros: None,
        waited_by_policy: false,
        provisional: false,
        span: None,
        request: None,
    }
}

// --- records ------------------------------------------------------------------------------------

pub fn recurring_raw(name: &str, number: u64) -> Vec<u8> {
    raw(name, number, vec![Schedule::At(at(1_000)), Schedule::At(at(2_000))], Action::Noop)
}

pub fn one_shot_raw(name: &str, number: u64) -> Vec<u8> {
    raw(name, number, vec![Schedule::At(at(60_000))], Action::Noop)
}

pub fn raw(name: &str, number: u64, schedules: Vec<Schedule>, action: Action) -> Vec<u8> {
    let revision = Revision(i64::try_from(number).unwrap());
    encode_task_row(&Task {
        spec: spec(&named(name), schedules, action),
        incarnation: Incarnation { epoch: Epoch(1), revision },
        revision,
        created_at: Wall::MIN,
        updated_at: Wall::MIN,
        effective_from: Wall::MIN,
        instants_by: None,
        last_instant: None,
        request: None,
        prior: Vec::new(),
        share_of: None,
    })
}

fn spec(name: &TaskName, schedules: Vec<Schedule>, action: Action) -> Spec {
    Spec {
        name: name.clone(),
        description: String::new(),
        labels: Default::default(),
        schedules,
        start_at: None,
        end_at: None,
        max_runs: None,
        jitter: Default::default(),
        exclude: Default::default(),
        action,
        placement: PoolName::parse("default").unwrap().into(),
        broadcast: Broadcast::default(),
        catch_up: CatchUp { policy: CatchUpPolicy::All, window: Default::default() },
        overlap: Overlap::Skip,
        retry: Retry::default(),
        timeout: None,
        start_deadline: None,
        delivery: Default::default(),
        priority: 0,
        paused: false,
    }
}

/// So that a process that comes after on the same boot may go on.
pub fn session() -> StoreOp {
    let session = Session { epoch: Epoch(1), revision: Revision(7) };
    StoreOp::Session(Some(Kept { lease: LeaseId(3), session, clock: None, latest: None }))
}
