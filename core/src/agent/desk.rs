//! What all ranges share: the agent's session and clock, the wheel and the near tasks, the ready
//! queue, and the effects and the store batch that are being gathered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::agent::Config;
use crate::agent::clock::{ClockWatch, Offset, Standing};
use crate::agent::compact::Compaction;
use crate::agent::effect::{
    Batch, BatchNumber, CallId, Effect, KeyDelete, LoadId, LoadRequest, Notice, ShareRequest,
    StoreOp, Ticket,
};
use crate::agent::fleet::Fleet;
use crate::agent::idle::Idle;
use crate::agent::input::{Duplicate, OwnRun};
use crate::agent::near::NearTasks;
use crate::agent::ready::Ready;
use crate::agent::rules::Rule;
use crate::agent::session::SessionWatch;
use crate::agent::stalled::StoreWatch;
use crate::agent::standby::Standbys;
use crate::due::wheel::{NearEntry, Wheel};
use crate::ids::{CoordinatorId, LedgerNumber, RangeId, Revision, RunId, Session, TaskNumber};
use crate::ring::Capacity;
use crate::run::RunRecord;
use crate::time::{Instant, Mono, Now, Wall};

/// The core looks around at least this often while it has anything to look after.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(100);
/// Who has not looked for so long was stopped, with all threads of the process.
const STOPPED: std::time::Duration = std::time::Duration::from_secs(1);

/// A request to the shared state that waits for its answer.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// `coming` tells for which coming of the agent it was sent: an answer to an earlier one says
    /// nothing of the present lease.
    Grant {
        sent: Mono,
        coming: u32,
    },
    KeepAlive {
        sent: Mono,
        coming: u32,
    },
    Register {
        coming: u32,
    },
    Reweigh {
        coming: u32,
        capacity: Capacity,
    },
    /// The session of the process before is put again.
    Adopt {
        coming: u32,
        capacity: Capacity,
    },
    Revoke,
    /// A lease that is given up; nobody waits for the answer.
    Drop,
    Claim {
        range: RangeId,
    },
    /// The ranges of a shared write, in order, each with the number of its write.
    Write(Vec<(RangeId, u64)>),
    ReadBack {
        range: RangeId,
        sequence: u64,
    },
    Delete(Vec<KeyDelete>),
    Settle,
    ReadSettle {
        range: RangeId,
        holding: u32,
        run: RunId,
    },
    /// For what the process before left there.
    Look {
        range: RangeId,
    },
    CommonBeat,
    PinsBeat,
    ReadCompact,
    PutCompact {
        to: Revision,
    },
    Compact {
        to: Revision,
    },
}

/// A read of the store that waits for its answer.
#[derive(Clone, Debug)]
pub(crate) enum Load {
    Due {
        range: RangeId,
        holding: u32,
    },
    Scan {
        range: RangeId,
        holding: u32,
    },
    Trigger {
        range: RangeId,
        holding: u32,
        run: RunId,
    },
    /// The task of a create whose request has already run.
    Duplicate(Duplicate),
    /// The task of a run that was begun, if it is there.
    Orphan {
        range: RangeId,
        row: OwnRun,
    },
    /// What the process before wrote down.
    Own {
        range: RangeId,
        holding: u32,
    },
    /// What has run of tasks that a late edit has changed.
    Ran {
        range: RangeId,
        holding: u32,
    },
}

pub(crate) struct Desk {
    pub config: Config,
    pub now: Now,
    pub clock: ClockWatch,
    pub session: SessionWatch,
    pub fleet: Fleet,
    pub standbys: Standbys,
    pub compaction: Compaction,
    pub wheel: Wheel,
    /// Entries of superseded versions that the wheel does not reach yet.
    pub far: BTreeSet<NearEntry>,
    pub near: NearTasks,
    pub idle: Idle,
    pub ready: Ready,
    /// Runs that go on at a time of their own.
    pub timers: BTreeSet<(Wall, RangeId, RunId)>,
    pub running: usize,
    pub tickets: BTreeMap<Ticket, (RangeId, RunId)>,
    /// Starts that wait for their batch to be written.
    pub opening: BTreeMap<BatchNumber, Vec<(RangeId, RunId)>>,
    pub calls: BTreeMap<CallId, Call>,
    pub loads: BTreeMap<LoadId, Load>,
    pub stored: StoreWatch,
    pub synced: BatchNumber,
    /// Ends whose batch is not answered: their rows of history cannot be read yet. Shared with the
    /// batches that the store has before it, and so bounded by its queue.
    pub unwritten: VecDeque<(BatchNumber, Arc<RunRecord>)>,
    /// Ended one-shots and triggers whose key is to be deleted once their end is on disk.
    pub done: VecDeque<(BatchNumber, RangeId, RunId)>,
    pub last_sync: Mono,
    /// Until when what runs may go on, once it was asked to go.
    pub leaving: Option<Mono>,
    /// By then its ranges go, whoever takes them.
    pub go_by: Mono,
    /// The disk has its reserve.
    pub disk_free: bool,
    pub sync_wanted: bool,
    pub wake_mono: Mono,
    /// Catch-up starts that this second still allows, and when it began.
    pub catch_up_left: (u64, Mono),
    /// Those of ranges that may start which were allowed and have found no place yet.
    pub catch_ups_waiting: usize,
    /// The range after the one that was allowed the last catch-up: it is asked first.
    pub catch_up_next: RangeId,
    /// Entries that this step may still decide, and the first range that was put off to the next.
    pub decisions_left: usize,
    pub undecided: Option<RangeId>,
    /// Settle keys were not put: not again before this.
    pub settle_after: Mono,
    /// Keys of what is done were not deleted: not again before this.
    pub delete_after: Mono,
    effects: Vec<Effect>,
    ops: Vec<StoreOp>,
    next_batch: u64,
    next_call: u64,
    next_load: u64,
    next_ticket: u64,
    next_task: u64,
    next_ledger: u64,
    next_stamp: u64,
    next_write: u64,
}

impl Desk {
    /// Whether a rule holds: all do, but in walks of the simulator that break one on purpose.
    pub fn holds(&self, rule: Rule) -> bool {
        self.config.broken != Some(rule)
    }

    /// Whether what is due at this instant may have been decided, by the clock as it is or was.
    pub fn is_past(&self, instant: Instant) -> bool {
        instant <= self.clock.latest(self.now.wall).instant()
    }

    pub fn new(config: Config, now: Now) -> Desk {
        let kept = config.former.as_ref().map(|former| former.kept);
        Desk {
            now,
            clock: match kept {
                Some(kept) => ClockWatch::going_on(kept.clock, kept.latest, now),
                None => ClockWatch::new(now),
            },
            session: SessionWatch::new(kept),
            fleet: Fleet::new(),
            standbys: Standbys::default(),
            compaction: Compaction::default(),
            wheel: Wheel::new(now.wall.instant()),
            far: BTreeSet::new(),
            near: NearTasks::default(),
            idle: Idle::default(),
            ready: Ready::default(),
            timers: BTreeSet::new(),
            running: 0,
            tickets: BTreeMap::new(),
            opening: BTreeMap::new(),
            calls: BTreeMap::new(),
            loads: BTreeMap::new(),
            stored: StoreWatch::new(now.mono),
            synced: BatchNumber(0),
            unwritten: VecDeque::new(),
            done: VecDeque::new(),
            last_sync: now.mono,
            leaving: None,
            go_by: Mono::default(),
            disk_free: true,
            sync_wanted: false,
            wake_mono: now.mono,
            catch_up_left: (0, now.mono),
            catch_ups_waiting: 0,
            catch_up_next: RangeId(0),
            decisions_left: 0,
            undecided: None,
            settle_after: Mono::default(),
            delete_after: Mono::default(),
            effects: Vec::new(),
            ops: Vec::new(),
            next_batch: 1,
            next_call: 0,
            next_load: 0,
            next_ticket: config.first_number,
            next_task: config.first_number,
            next_ledger: 0,
            next_stamp: config.first_number,
            next_write: 0,
            config,
        }
    }

    pub fn observe(&mut self, now: Now) {
        if now.mono.since(self.now.mono) > STOPPED {
            self.stored.resumed(now.mono);
        }
        let wall = match self.holds(Rule::Clock) {
            true => now.wall,
            false => now.wall.max(self.now.wall),
        };
        let now = Now { wall, ..now };
        self.now = now;
        self.wake_mono = now.mono.plus(LOOK_EVERY);
        let before = self.clock.standing();
        if let Some(moved_micros) = self.clock.observe(now) {
            self.notice(Notice::ClockMoved { moved_micros });
        }
        self.tell_clock(before);
    }

    pub fn clock_measured(&mut self, coordinator: CoordinatorId, offset: Offset) {
        let before = self.clock.standing();
        if self.clock.measured(self.now, coordinator.clone(), offset) {
            self.notice(Notice::ClockDisagrees { coordinator, micros: offset.micros });
        }
        self.tell_clock(before);
    }

    fn tell_clock(&mut self, before: Standing) {
        match (before, self.clock.standing()) {
            (Standing::Off(_), Standing::Off(_)) => {}
            (_, Standing::Off(micros)) => self.notice(Notice::ClockOff { micros }),
            (Standing::Unverified | Standing::Off(_), Standing::Verified) => {
                self.notice(Notice::ClockVerified);
            }
            _ => {}
        }
    }

    /// The weight that this agent should have now; at 0 its ranges go to others.
    pub fn weight(&self) -> u32 {
        let able = self.leaving.is_none() && self.disk_free && self.clock.off_since().is_none();
        let weight = self.fleet.asked.weight.unwrap_or(self.config.weight);
        if able { weight } else { 0 }
    }

    /// What the session key is to tell of this agent.
    pub fn capacity(&self) -> Capacity {
        Capacity { weight: self.weight(), duty: self.fleet.asked.duty }
    }

    /// Asks to be woken at `at`, if nothing comes before.
    pub fn wake_by(&mut self, at: Mono) {
        self.wake_mono = self.wake_mono.min(at.max(self.now.mono));
    }

    /// Whether more may be decided in this step; if not, the range goes on in the next, which comes
    /// at once.
    pub fn may_decide(&mut self, range: RangeId) -> bool {
        if self.decisions_left == 0 {
            self.undecided.get_or_insert(range);
            self.wake_by(self.now.mono);
        }
        self.decisions_left > 0
    }

    /// The next moment on the wall clock at which something comes due.
    pub fn next_due(&self) -> Option<Wall> {
        let wheel = self.wheel.next_due().map(Instant::wall);
        let timer = self.timers.first().map(|(at, ..)| *at);
        match (wheel, timer) {
            (Some(wheel), Some(timer)) => Some(wheel.min(timer)),
            (wheel, timer) => wheel.or(timer),
        }
    }

    pub fn share(&mut self, call: Call, request: ShareRequest) {
        self.next_call += 1;
        let id = CallId(self.next_call);
        self.calls.insert(id, call);
        self.effects.push(Effect::Share { call: id, request });
    }

    pub fn load(&mut self, load: Load, request: LoadRequest) {
        self.next_load += 1;
        let id = LoadId(self.next_load);
        self.loads.insert(id, load);
        self.effects.push(Effect::Load { load: id, request });
    }

    pub fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub fn notice(&mut self, notice: Notice) {
        self.effects.push(Effect::Notice(notice));
    }

    pub fn report(&mut self, record: impl Into<Arc<RunRecord>>) {
        self.effects.push(Effect::Report { record: record.into(), ended: 0 });
    }

    /// The end of a run, for history and for those who watch.
    pub fn end(&mut self, record: RunRecord) {
        self.end_many(record, 1);
    }

    /// The end of so many instants that were not told of before.
    pub fn end_many(&mut self, record: RunRecord, ended: u64) {
        let record = Arc::new(record);
        self.keep(Arc::clone(&record));
        self.effects.push(Effect::Report { record, ended });
    }

    /// The end of a run, for history alone. It can be asked for from now on.
    pub fn keep(&mut self, record: Arc<RunRecord>) {
        self.unwritten.push_back((self.batch(), Arc::clone(&record)));
        self.ops.push(StoreOp::History(record));
    }

    /// A batch, and with it every one before, is in the store: what it says can be read there.
    pub fn written(&mut self, batch: BatchNumber) {
        while self.unwritten.pop_front_if(|(number, _)| *number <= batch).is_some() {}
    }

    pub fn store(&mut self, op: StoreOp) {
        self.ops.push(op);
    }

    /// The session as it is now; a name that no session has if there is none.
    pub fn session_now(&self) -> Session {
        self.session.session().unwrap_or_default()
    }

    /// The number that the batch being gathered will have.
    pub fn batch(&self) -> BatchNumber {
        BatchNumber(self.next_batch)
    }

    pub fn next_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    pub fn next_task_number(&mut self) -> TaskNumber {
        self.next_task += 1;
        TaskNumber(self.next_task)
    }

    pub fn next_ledger_number(&mut self) -> LedgerNumber {
        self.next_ledger += 1;
        LedgerNumber { process: self.config.process, count: self.next_ledger }
    }

    pub fn next_write(&mut self) -> u64 {
        self.next_write += 1;
        self.next_write
    }

    pub fn next_stamp(&mut self) -> u64 {
        self.next_stamp += 1;
        self.next_stamp
    }

    /// Hands out what was gathered: the batch before all that speaks of it, reads after it.
    pub fn flush(&mut self, out: &mut Vec<Effect>) {
        self.keep_kept();
        let sync = std::mem::take(&mut self.sync_wanted);
        if sync {
            self.last_sync = self.now.mono;
        }
        if sync || !self.ops.is_empty() {
            let ops = std::mem::take(&mut self.ops);
            self.stored.sent(self.batch(), self.now.mono);
            out.push(Effect::Commit(Batch { number: self.batch(), sync, ops }));
            self.next_batch += 1;
        }
        out.append(&mut self.effects);
    }
}
