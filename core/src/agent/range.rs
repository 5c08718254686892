//! One range as an agent sees it: what its watch says (`Copy`), whether it is held and what was
//! written about it (`Writer`), what is due, what is open, and what was left behind elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::agent::adopt::{LeftBefore, Own};
use crate::agent::desk::Desk;
use crate::agent::edited::Unsure;
use crate::agent::effect::{
    BatchNumber, Interest, Notice, RunKeyName, SettleKey, SettledEnd, StoreOp, WriteKind,
};
use crate::agent::input::{ClaimSeen, LedgerSeen, Trigger};
use crate::agent::listing::{ENTRY_BYTES, listing_bytes};
use crate::agent::lull::Lull;
use crate::agent::near::DecidedNames;
use crate::agent::open::OpenRun;
use crate::agent::permits::Permits;
use crate::agent::pins::Pins;
use crate::agent::rules::Rule;
use crate::agent::runs::settled_end;
use crate::agent::standby::Silence;
use crate::agent::triggers::Asked;
use crate::claim;
use crate::due::wheel::NearEntry;
use crate::ids::{Epoch, Fence, Incarnation, LedgerNumber, RangeId, Revision, RunId, RunKey};
use crate::ids::{Session, TaskName};
use crate::ledger::{Entry, Marks};
use crate::limits;
use crate::run::RunRecord;
use crate::run::life::Stage;
use crate::task::Task;
use crate::time::{Instant, Mono, Now};

/// An entry of a ledger, with the longest name that a task can have.
const ENTRY_BYTES_MAX: usize = ENTRY_BYTES + 2 * limits::NAME_BYTES_MAX;

/// What the range's watch has told.
#[derive(Debug, Default)]
pub(crate) struct Copy {
    /// A list is complete and the watch goes on from it.
    pub listed: bool,
    pub list_sent: Now,
    pub stamp: u64,
    pub delivered: Revision,
    /// How many there are, as far as the watch tells creates from edits.
    pub tasks: usize,
    pub claim: Option<ClaimSeen>,
    pub ledger: Option<LedgerSeen>,
    pub vacant_since: Option<Mono>,
    pub triggers: BTreeMap<(TaskName, u128), Trigger>,
    pub settles: BTreeMap<SettleKey, (Session, SettledEnd)>,
    /// Tasks whose record cannot be read: they are there, and nothing of them starts. Each with the
    /// due up to which it had been decided.
    pub unreadable: BTreeMap<TaskName, Instant>,
    /// As it was before the list under way.
    pub was_unreadable: BTreeMap<TaskName, Instant>,
    /// Keys of open runs that the list under way has not named yet.
    pub unseen: BTreeSet<RunKeyName>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Hold {
    No,
    Claiming,
    Held {
        fence: Fence,
    },
    /// A final ledger is being written; nothing starts.
    Leaving {
        fence: Fence,
        since: Mono,
    },
}

/// Which of my writes it was, for finding it again in the watch.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Written {
    Beat(u64),
    Ledger(LedgerNumber),
}

/// A write that is under way. One at a time (L3).
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Prepared {
    pub kind: WriteKind,
    /// Runs that it lets go, once it is answered, with the due that it went by.
    pub dropped: Vec<(RunId, Instant)>,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Phase {
    Idle,
    /// Waits until the store has it on disk (L4).
    Syncing {
        batch: BatchNumber,
        prepared: Prepared,
    },
    InFlight {
        prepared: Prepared,
    },
    /// The outcome is unknown: read back before anything else.
    Unknown {
        at: Mono,
        prepared: Prepared,
    },
    ReadingBack {
        prepared: Prepared,
    },
}

#[derive(Debug)]
pub(crate) struct Writer {
    pub phase: Phase,
    /// Names the write that is under way: an answer to an earlier one finds nothing to answer.
    pub sequence: u64,
    /// The ledger's revision as I last saw it; 0: there is none.
    pub seen: Revision,
    pub beat: u64,
    /// My writes that the watch has not brought yet, with when they were sent.
    pub sent: VecDeque<(Written, Now)>,
    /// When the newest write of mine that the watch has brought was sent.
    pub proof: Option<Now>,
    /// The marks of my newest answered ledger. Nothing starts before there is one (L1).
    pub answered: Option<Marks>,
    /// The series that it lists: their instants are covered long before their turn comes.
    pub series: Vec<Entry>,
    /// The highest marks of any ledger I sent or inherited.
    pub marks: Marks,
    /// When anything was sent: a beat will do to prove the claim...
    pub last_sent: Mono,
    /// ...and when a ledger was: only that says what happened.
    pub ledger_sent: Mono,
    /// Not before this: a ledger was refused.
    pub ledger_after: Mono,
    /// A transaction with others in it was refused: it goes by itself.
    pub alone: bool,
    /// Something happened that a ledger should say.
    pub dirty: bool,
    /// It should say so at once.
    pub urgent: bool,
    /// Marks that cover every run which ended without having been listed: until a ledger has them
    /// there is something to say, or a takeover would decide these runs again.
    pub owed: Marks,
    /// Of what the newest ledger lists as over the first that its marks do not cover: an edit has
    /// put it off.
    pub put_off: Option<(Instant, Incarnation)>,
    /// The size of the newest ledger, about, in bytes of entries.
    pub bytes: usize,
}

impl Writer {
    pub fn new() -> Writer {
        Writer {
            phase: Phase::Idle,
            sequence: 0,
            seen: Revision(0),
            beat: 0,
            sent: VecDeque::new(),
            proof: None,
            answered: None,
            series: Vec::new(),
            marks: Marks::NONE,
            last_sent: Mono::default(),
            ledger_sent: Mono::default(),
            ledger_after: Mono::default(),
            alone: false,
            dirty: false,
            urgent: false,
            owed: Marks::NONE,
            put_off: None,
            bytes: 0,
        }
    }

    /// A run that was due then has ended, and no ledger lists it.
    pub fn owes(&mut self, due: Instant, incarnation: Incarnation) {
        self.owed.through = self.owed.through.max(due);
        self.owed.incarnation = self.owed.incarnation.max(incarnation);
    }

    /// The watch brought a write of mine.
    pub fn delivered(&mut self, written: Written) {
        let Some(at) = self.sent.iter().position(|(sent, _)| *sent == written) else { return };
        let sent = self.sent[at].1;
        self.sent.drain(..=at);
        if self.proof.is_none_or(|proof| proof.mono < sent.mono) {
            self.proof = Some(sent);
        }
    }

    pub fn note_sent(&mut self, written: Written, now: Now) {
        const REMEMBERED: usize = 64;
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((written, now));
        self.last_sent = now.mono;
        if matches!(written, Written::Ledger(_)) {
            self.ledger_sent = now.mono;
        }
    }
}

/// How far the range's due entries are loaded and decided.
#[derive(Debug)]
pub(crate) struct Window {
    /// What was decided before the window began.
    pub base: Marks,
    /// Beyond that: the newest instant of each task that this process has decided.
    pub decided_names: DecidedNames,
    /// Every task of the store has its due entry.
    pub scanned: bool,
    pub scanning: bool,
    /// Entries up to here are in the wheel.
    pub loaded_to: Instant,
    /// A load up to here is under way.
    pub asked_to: Option<Instant>,
    /// Everything due up to here is decided, unless it is parked.
    pub decided_to: Instant,
}

/// A run that executes here, or did, while its range is no longer mine.
#[derive(Debug)]
pub(crate) enum LeftRun {
    Running(Box<OpenRun>),
    /// `batch` wrote its end: it is said when that is on disk.
    Ended {
        end: SettledEnd,
        batch: BatchNumber,
    },
}

/// What my newest final ledger said.
#[derive(Debug)]
pub(crate) struct HandedOn {
    pub fence: Fence,
    /// Runs that end here all the same: it lists them as something else than ended, and how they
    /// ended is not seen to be written down for the next holder.
    pub not_ended: BTreeSet<RunId>,
}

#[derive(Debug)]
pub(crate) struct Range {
    pub id: RangeId,
    /// Where the ring has this agent in the range's ranking.
    pub rank: Option<usize>,
    pub interest: Interest,
    /// The store may have tasks of it.
    pub stored: bool,
    pub silence: Silence,
    pub copy: Copy,
    pub hold: Hold,
    /// The newest fence that was taken up: a process takes each up once, since its copy may show
    /// a claim for a moment after it was handed on.
    pub fence_taken: Fence,
    /// A hand-off was given up; not again before this.
    pub hand_off_after: Mono,
    /// Since when the ring has it with another, while it is held here.
    pub elsewhere_since: Option<Mono>,
    pub lull: Lull,
    pub asked: Asked,
    /// A claim was not made, a settle key not read: not again before these.
    pub claim_after: Mono,
    pub ask_after: Mono,
    /// Counts holdings and restarts of the window: what belongs to an earlier one is stale.
    pub holding: u32,
    pub writer: Writer,
    pub permits: Permits,
    /// The range is one's own still, or again: what was written down is still to be read.
    pub own: Option<Own>,
    pub left_before: LeftBefore,
    /// Tasks whose late edits wait for what this store knows of them.
    pub unsure: Unsure,
    /// Of what is pinned to this agent.
    pub pins: Option<Box<Pins>>,
    pub open: BTreeMap<RunId, OpenRun>,
    /// Some of them may be held elsewhere: they are looked for in each step.
    pub some_held: bool,
    /// Entries that are due and could not be decided yet.
    pub parked: BTreeSet<NearEntry>,
    pub window: Window,
    /// Names that changed while a read of the store was under way.
    pub fresh: BTreeMap<TaskName, Revision>,
    pub left: BTreeMap<SettleKey, LeftRun>,
    /// When it was said how they ended, of those that the newest ledger asks for.
    pub said: BTreeMap<SettleKey, Mono>,
    /// Runs taken back that go on here; whether their task is still there the scan will tell.
    pub taken_back: BTreeSet<RunId>,
    /// The present versions of tasks with open runs, until every task was seen.
    pub attached: BTreeMap<TaskName, Arc<Task>>,
    /// The revision of my final ledger: one before it does not know yet what was left.
    pub left_at: Revision,
    pub handed_on: Option<HandedOn>,
    pub full: bool,
    /// Runs that wait behind others may have their turn now.
    pub turns: bool,
    /// The claim that was lost while the range was held, and not being handed over: under which
    /// what became of it is written down.
    pub lost: Fence,
    /// There may be triggers that have no run yet.
    pub triggers_new: bool,
    /// Catch-ups wait for this second's share.
    pub catch_up_at: Option<Mono>,
}

impl Range {
    pub fn new(id: RangeId) -> Range {
        Range {
            id,
            rank: None,
            interest: Interest::Nothing,
            stored: true,
            silence: Silence::default(),
            copy: Copy::default(),
            hold: Hold::No,
            fence_taken: Fence::default(),
            hand_off_after: Mono::default(),
            elsewhere_since: None,
            lull: Lull::default(),
            asked: Asked::default(),
            claim_after: Mono::default(),
            ask_after: Mono::default(),
            holding: 0,
            writer: Writer::new(),
            permits: Permits::default(),
            own: None,
            left_before: LeftBefore::Nothing,
            unsure: Unsure::default(),
            pins: None,
            open: BTreeMap::new(),
            some_held: false,
            parked: BTreeSet::new(),
            window: Window {
                base: Marks::NONE,
                decided_names: DecidedNames::default(),
                scanned: false,
                scanning: false,
                loaded_to: Instant::MIN,
                asked_to: None,
                decided_to: Instant::MIN,
            },
            fresh: BTreeMap::new(),
            left: BTreeMap::new(),
            said: BTreeMap::new(),
            taken_back: BTreeSet::new(),
            attached: BTreeMap::new(),
            left_at: Revision(0),
            handed_on: None,
            full: false,
            turns: false,
            lost: Fence::default(),
            triggers_new: false,
            catch_up_at: None,
        }
    }

    pub fn fence(&self) -> Option<Fence> {
        match self.hold {
            Hold::Held { fence } | Hold::Leaving { fence, .. } => Some(fence),
            Hold::No | Hold::Claiming => None,
        }
    }

    /// Needs the whole range watched, whatever the ring says.
    pub fn busy(&self) -> bool {
        let left = !self.left.is_empty() || self.left_before == LeftBefore::Some;
        self.hold != Hold::No || left
    }

    /// The watch shows a claim of this session, whatever became of the answer to it.
    pub fn claimed_by(&self, me: Option<Session>) -> bool {
        let claim = self.copy.claim.as_ref().filter(|claim| claim.fence > self.fence_taken);
        me.is_some() && claim.is_some_and(|claim| Some(claim.session) == me)
    }

    /// The watch begins anew with another interest: what it said counts no more.
    pub fn forget_copy(&mut self) {
        let stamp = self.copy.stamp;
        self.copy = Copy { stamp, ..Copy::default() };
    }

    /// Whether a run of this range may start now.
    pub fn may_start(&self, desk: &Desk) -> bool {
        // What is pinned here has nobody else to go to.
        (desk.disk_free || self.is_local()) && self.may_decide(desk)
    }

    /// Whether what is due becomes runs now (L0, L1). An agent without room on its disk goes on
    /// with that, so that whoever takes the range over finds them listed.
    pub fn may_decide(&self, desk: &Desk) -> bool {
        let held = matches!(self.hold, Hold::Held { .. })
            || self.fence().is_some() && !desk.holds(Rule::Final);
        held && self.window.scanned
            && self.unsure.is_empty()
            && self.copy.listed
            && (self.writer.answered.is_some() || !desk.holds(Rule::FirstLedger))
            && self.clock_will_do(desk)
            && self.licence(desk) > desk.now.mono
    }

    /// One that is wrong for good is the only clock there is for what is pinned here.
    fn clock_will_do(&self, desk: &Desk) -> bool {
        desk.clock.verified() || self.is_local() && desk.clock.off_since().is_some()
    }

    pub fn licence(&self, desk: &Desk) -> Mono {
        if !desk.holds(Rule::Licence) || self.is_local() {
            return Mono::from_micros(u64::MAX);
        }
        let Some(mut lease) = desk.session.proof else { return Mono::default() };
        let mut written = self.writer.proof.map(|proof| proof.mono);
        if !desk.holds(Rule::WriteProof) {
            written = Some(lease.sent);
        }
        if !desk.holds(Rule::LeaseProof) {
            lease.sent = written.unwrap_or_default();
        }
        claim::licence(lease, written)
    }

    /// Lets go of a claim that is lost: nothing starts, what runs goes on as left behind.
    pub fn lose(&mut self, desk: &mut Desk) {
        if self.fence().is_some() {
            desk.notice(Notice::LostClaim { range: self.id });
        }
        if let Hold::Held { fence } = self.hold {
            self.lost = self.own.as_ref().map_or(fence, Own::fence);
        }
        self.release(desk);
    }

    /// Forgets everything of a holding. What executes here goes on and is reported when it ends.
    pub fn release(&mut self, desk: &mut Desk) {
        let open = std::mem::take(&mut self.open);
        for (id, run) in open {
            match run.stage {
                Stage::Queued => desk.ready.remove(run.queued_as, run.due, self.id, &id),
                Stage::Waiting { at } => {
                    desk.timers.remove(&(at, self.id, id));
                }
                // Its start was written down, and it has not begun.
                Stage::Opening { .. } => {
                    desk.running -= 1;
                    desk.store(StoreOp::CloseRun { range: self.id, run: id });
                }
                Stage::Running { .. } => {
                    let key = SettleKey { run: id, attempt: run.attempt };
                    self.left.insert(key, LeftRun::Running(Box::new(run)));
                }
                Stage::Ended { batch } => self.leave_ended(desk, id, &run, batch),
                Stage::Asking | Stage::Behind | Stage::Held { .. } | Stage::Doubtful => {}
            }
        }
        self.hold = Hold::No;
        self.elsewhere_since = None;
        self.lull = Lull::default();
        self.writer = Writer::new();
        self.permits = Permits::default();
        self.taken_back.clear();
        self.own = None;
        self.restart_window(desk, Marks::NONE);
        desk.store(StoreOp::ClearDue { range: self.id });
    }

    /// A final ledger of mine that was given up may have been written all the same, and list this
    /// run as left here: then how it ended is asked for. If no ledger asks, it is forgotten.
    fn leave_ended(&mut self, desk: &mut Desk, run: RunId, ended: &OpenRun, batch: BatchNumber) {
        if let Some(end) = ended.attempts.last().and_then(|attempt| attempt.end.as_ref()) {
            desk.sync_wanted = true;
            let (end, key) = (settled_end(end), SettleKey { run, attempt: ended.attempt });
            self.left.entry(key).or_insert(LeftRun::Ended { end, batch });
        }
    }

    /// Starts the window again: due entries are derived anew, from what `base` does not cover.
    pub fn restart_window(&mut self, desk: &mut Desk, base: Marks) {
        self.holding += 1;
        self.triggers_new = true;
        self.parked.clear();
        self.permits.unforesee();
        if let Some(own) = &mut self.own {
            own.begin_again();
        }
        self.fresh.clear();
        self.attached.clear();
        self.full = false;
        let mut decided_names = desk.near.remove_range(self.id);
        // Up to `base` is known here alone, and an edit goes by the marks.
        decided_names.keep(std::mem::take(&mut self.window.decided_names), self.writer.marks);
        desk.far.retain(|entry| entry.range != self.id);
        self.unsure.begin_again();
        self.window = Window {
            base,
            decided_names,
            scanned: false,
            scanning: false,
            loaded_to: Instant::MIN,
            asked_to: None,
            decided_to: base.through,
        };
    }

    /// The marks that everything decided so far would allow. What was not read may be overdue.
    pub fn decided_marks(&self, epoch: Epoch) -> Marks {
        let revision = self
            .unsure
            .known_before()
            .map_or(self.copy.delivered, |before| self.copy.delivered.min(before));
        let incarnation = Incarnation { epoch, revision };
        Marks { through: self.window.decided_to.min(self.window.loaded_to), incarnation }
    }

    /// What is decided as far as the window knows, whatever the ledgers say by now.
    pub fn decided_base(&self, epoch: Epoch) -> Marks {
        let (decided, marks) = (self.decided_marks(epoch), self.writer.marks);
        match self.window.scanned {
            true if decided.through >= marks.through => Marks {
                through: decided.through,
                incarnation: decided.incarnation.max(marks.incarnation),
            },
            // What is newer than the marks is told by its name.
            true => marks,
            // Not everything that was delivered has been decided.
            false => self.window.base,
        }
    }

    pub fn oldest_parked(&self) -> Option<Instant> {
        self.parked.first().map(|entry| entry.due)
    }

    /// Open runs of one task.
    pub fn runs_of<'a>(
        &'a self,
        task: &'a TaskName,
    ) -> impl Iterator<Item = (&'a RunId, &'a OpenRun)> + 'a {
        let first = RunId {
            task: task.clone(),
            incarnation: Incarnation::default(),
            run: RunKey::Instant(Instant::MIN),
            agent: None,
        };
        self.open.range(first..).take_while(move |(id, _)| id.task == *task)
    }

    pub fn open_records<'a>(&'a self, desk: &'a Desk) -> impl Iterator<Item = RunRecord> + 'a {
        let fence = self.fence().unwrap_or_default();
        let here = self.open.iter().filter(|(_, run)| !run.ended());
        let here = here.map(move |(id, run)| run.record(desk, id, fence, run.open_state()));
        let left = self.left.iter().filter_map(move |(key, left)| match left {
            LeftRun::Running(run) => {
                Some(run.record(desk, &key.run, key.attempt.fence, run.open_state()))
            }
            LeftRun::Ended { .. } => None,
        });
        here.chain(left)
    }

    /// How many more runs a ledger would be able to list (L8), by number and by bytes.
    pub fn room(&self) -> usize {
        let listable = self.open.iter().filter(|(_, run)| !run.ended() || run.listed);
        let (mut count, mut bytes) = (0, 0);
        for (id, _) in listable {
            count += 1;
            bytes += listing_bytes(id);
        }
        let by_bytes = limits::LEDGER_BYTES_RUNS_MAX.saturating_sub(bytes) / ENTRY_BYTES_MAX;
        limits::LEDGER_ENTRIES_RUNS_MAX.saturating_sub(count).min(by_bytes)
    }
}
