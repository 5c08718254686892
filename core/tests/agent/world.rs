//! One agent in a world that does what the story says. Time jumps from one event to the next, and
//! what is at hand at one moment is taken in as one batch, as the driver does.
//!
//! Some rules hold in every story and are looked at whenever something is sent or started: one
//! write of a range at a time, read back before anything else, marks that never go back, a number
//! on disk before its ledger is sent (L3 to L5); no start without a licence, before an answered
//! ledger or after a final one, none twice and none early (L0, L1, promise 8); and none that may
//! start only once before an answered ledger permits it (L2).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tocktower_core::agent::effect::{
    Batch, BatchNumber, CallId, Effect, ExitReason, Interest, LoadId, LoadRequest, Notice,
    PinsRecord, RangeWrite, ShareRequest, Start, StoreOp, Ticket, WriteKind,
};
use tocktower_core::agent::input::{
    Committed, Input, LoadAnswer, Offset, RangeNews, ShareAnswer, SharedNews, WriteOutcome,
};
use tocktower_core::agent::{Agent, Config, Former, PinsBefore};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{
    AgentName, Attempt, CoordinatorId, Epoch, Fence, PoolName, RangeId, RunId,
};
use tocktower_core::ledger::{EntryState, Ledger, Marks};
use tocktower_core::run::{AttemptEnd, Finished};
use tocktower_core::task::Task;
use tocktower_core::time::{Mono, Now, Wall};

use crate::shared::{Backup, EPOCH, Shared, TTL};
use crate::store::Store;

/// When every story begins: a full hour, and a full minute with it.
pub const BEGIN_MS: i64 = 1_800_000_000_000;
const BOOTED_US: u64 = 5_000_000_000;
/// How long each thing takes that the story says nothing of.
const SHARE_US: u64 = 1_000;
const NEWS_US: u64 = 1_000;
const STORE_US: u64 = 500;
/// Events of one moment: more is a loop without end.
const EVENTS_MAX: usize = 100_000;

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fate {
    Served,
    /// It is served, and its answer is lost.
    AnswerLost,
    /// It never arrives, and nobody can know.
    Lost,
    Refused {
        retryable: bool,
    },
    /// Nobody answers until the story says so.
    Held,
}

/// A write of one range that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at_us: u64,
    pub range: RangeId,
    pub fence: Fence,
    pub kind: WriteKind,
}

impl Sent {
    pub fn ledger(&self) -> Option<&Ledger> {
        match &self.kind {
            WriteKind::Ledger { ledger, .. } | WriteKind::Final { ledger, .. } => Some(ledger),
            WriteKind::Beat { .. } => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Started {
    pub at_us: u64,
    pub run: RunId,
    pub attempt: Attempt,
    pub due: Wall,
    pub payload: Option<String>,
    pub timeout: Option<Duration>,
}

/// How a task's attempts go: how long each takes, and how it ends.
#[derive(Clone, Debug)]
pub struct Conduct {
    pub took: Duration,
    /// The ends of its next attempts; then all succeed.
    pub ends: Vec<AttemptEnd>,
}

#[derive(Debug)]
enum Event {
    Told(Box<Input>),
    Begin(Box<Start>),
    News,
    Over(Ticket, AttemptEnd),
}

pub struct World {
    pub now_us: u64,
    /// How far the agent's wall clock is ahead.
    pub ahead_ms: i64,
    listed_us: Option<u64>,
    pub agent: Agent,
    places: usize,
    /// Those of the next process.
    pub labels: BTreeMap<String, String>,
    process: u64,
    epoch_began: Wall,
    pub shared: Shared,
    pub store: Store,
    pub starts: Vec<Started>,
    pub sent: Vec<Sent>,
    pub requests: Vec<(u64, ShareRequest)>,
    pub notices: Vec<(u64, Notice)>,
    pub exited: Option<ExitReason>,
    pub running: BTreeMap<Ticket, Start>,
    pub conducts: BTreeMap<String, Conduct>,
    /// How long a task's attempt takes of which the story says nothing.
    pub usual: Duration,
    /// How long a start is on its way to its executor.
    pub executor_us: u64,
    /// The watches bring nothing while this is set.
    pub deaf: bool,
    interests: BTreeMap<RangeId, Interest>,
    /// Watches that keep silent until they are opened again, and what they have not said.
    pub silent: BTreeSet<RangeId>,
    unsaid: Vec<(RangeId, RangeNews)>,
    /// Whole ranges that were listed, and watches that were opened again for their silence.
    pub lists: Vec<(u64, RangeId)>,
    pub reopened: Vec<(u64, RangeId)>,
    fate: Box<dyn FnMut(&ShareRequest) -> Fate>,
    pub held: Vec<(CallId, ShareRequest)>,
    /// Reads of the store that the story answers.
    pub hold_loads: fn(&LoadRequest) -> bool,
    pub held_loads: Vec<(LoadId, LoadAnswer)>,
    /// Nothing that is written is answered.
    pub hang_disk: bool,
    held_commits: Vec<Committed>,
    /// The process stands still until then.
    stopped_until_us: u64,
    /// Requests on their way, with what becomes of them there.
    arriving: BTreeMap<(u64, u64), (CallId, ShareRequest, Fate)>,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    rules: Held,
}

/// What the rules that hold in every story go by.
#[derive(Default)]
struct Held {
    under_way: BTreeMap<(RangeId, Fence), CallId>,
    unknown: BTreeMap<RangeId, Fence>,
    marks: BTreeMap<(RangeId, Fence), Marks>,
    answered: BTreeSet<(RangeId, Fence)>,
    /// A final ledger was sent, and no later one is answered.
    left: BTreeSet<(RangeId, Fence)>,
    /// By the newest answered ledger, and by every one that was sent since (L2).
    permitted: BTreeMap<RangeId, BTreeSet<(RunId, Attempt)>>,
    started: BTreeSet<(RunId, Attempt)>,
    newest_batch: BatchNumber,
    /// Ledgers of local ranges that are on their way to the disk.
    pins: Vec<(BatchNumber, RangeId, Ledger)>,
}

impl Held {
    fn pins_written(&mut self, batch: &Batch) {
        for op in &batch.ops {
            if let StoreOp::Pins(range, PinsRecord::Ledger(ledger)) = op {
                let listed = permissions(ledger);
                let permitted = self.permitted.entry(*range).or_default();
                permitted.retain(|run| listed.contains(run));
                self.pins.push((batch.number, *range, ledger.clone()));
            }
        }
    }

    fn pins_synced(&mut self, batch: BatchNumber) {
        let (synced, rest): (Vec<_>, _) = self.pins.drain(..).partition(|(at, ..)| *at <= batch);
        self.pins = rest;
        for (_, range, ledger) in synced {
            self.permitted.insert(range, permissions(&ledger));
            self.answered.insert((range, ledger.fence));
        }
    }
}

impl World {
    /// An agent called `a`, alone, with so many ranges and places.
    pub fn new(ranges: u32, places: usize) -> World {
        World::labelled(ranges, places, BTreeMap::new())
    }

    /// As [`World::new`], with labels.
    pub fn labelled(ranges: u32, places: usize, labels: BTreeMap<String, String>) -> World {
        let ranges = RangeCount::new(ranges).expect("a power of two");
        let mut shared = Shared::new(ranges);
        shared.fleet_news.push(SharedNews::ListBegan);
        shared.fleet_news.push(SharedNews::ListEnded { revision: shared.revision });
        let first = config(ranges, places, (7, EPOCH), None, BTreeMap::new());
        let first = Config { labels: labels.clone(), ..first };
        let mut world = World {
            now_us: 0,
            ahead_ms: 0,
            listed_us: None,
            agent: Agent::new(first, now_at(0)),
            places,
            labels,
            process: 7,
            epoch_began: Wall::MIN,
            shared,
            store: Store::default(),
            starts: Vec::new(),
            sent: Vec::new(),
            requests: Vec::new(),
            notices: Vec::new(),
            exited: None,
            running: BTreeMap::new(),
            conducts: BTreeMap::new(),
            usual: Duration::from_millis(1),
            executor_us: 1,
            deaf: false,
            interests: BTreeMap::new(),
            silent: BTreeSet::new(),
            unsaid: Vec::new(),
            lists: Vec::new(),
            reopened: Vec::new(),
            fate: Box::new(|_| Fate::Served),
            held: Vec::new(),
            hold_loads: |_| false,
            held_loads: Vec::new(),
            hang_disk: false,
            held_commits: Vec::new(),
            stopped_until_us: 0,
            arriving: BTreeMap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            rules: Held::default(),
        };
        world.measure_clock();
        world
    }

    /// A coordinator says that the agent's clock is right.
    pub fn measure_clock(&mut self) {
        self.clock_measured("c1", 0);
    }

    /// A coordinator says how far its clock is ahead of the agent's; most others agree with it.
    pub fn clock_measured(&mut self, by: &str, ahead_ms: i64) {
        let coordinator = CoordinatorId::parse(by).expect("a name");
        let offset = Offset { micros: ahead_ms * 1_000, others_agree: true };
        self.agent.apply(self.now(), Input::ClockOffset { coordinator, offset });
    }

    pub fn now(&self) -> Now {
        let now = now_at(self.now_us);
        let wall = Wall::from_micros(now.wall.micros() + self.ahead_ms * 1_000);
        Now { wall, ..now }
    }

    /// What becomes of requests from now on.
    pub fn fate(&mut self, fate: impl FnMut(&ShareRequest) -> Fate + 'static) {
        self.fate = Box::new(fate);
    }

    /// Time goes on by so many milliseconds, and everything happens that happens then.
    pub fn pass(&mut self, ms: u64) {
        self.pass_us(ms * 1_000);
    }

    pub fn pass_us(&mut self, us: u64) {
        let until = self.now_us + us;
        self.share_news();
        let mut events = 0;
        loop {
            let next = self.next_event_us();
            if next > until {
                break;
            }
            events = if next == self.now_us { events + 1 } else { 0 };
            assert!(events < EVENTS_MAX, "a loop without end at {next} us");
            self.now_us = next;
            self.turn();
        }
        self.now_us = until;
    }

    fn next_event_us(&self) -> u64 {
        let queued = self.events.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
        let arrives = self.arriving.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
        let wake = self.agent.wake();
        let mono = wake.mono.micros().saturating_sub(BOOTED_US);
        let begin = (BEGIN_MS + self.ahead_ms) * 1_000;
        let wall =
            wake.wall.map_or(u64::MAX, |wall| u64::try_from(wall.micros() - begin).unwrap_or(0));
        let lease = self.lease_over_us().map_or(u64::MAX, |until| until + 1);
        let agent = queued.min(mono).min(wall).max(self.stopped_until_us);
        agent.min(arrives).min(lease).max(self.now_us + 1)
    }

    fn lease_over_us(&self) -> Option<u64> {
        self.shared.lease_until_us.filter(|_| !self.shared.spared)
    }

    /// The process stands still for so long, as by SIGSTOP: the world goes on without it, and what
    /// was told to it meanwhile is at hand when it wakes.
    pub fn stop(&mut self, ms: u64) {
        self.stopped_until_us = self.now_us + ms * 1_000;
    }

    /// kill -9, and another process that begins at once on the same store. What was on its way to
    /// the shared state may still arrive; what was told to the process before is lost, and what it
    /// ran has ended with it.
    pub fn restart(&mut self) {
        let (former, pins) = (self.store.former(), self.store.locals_before(true));
        self.begin_process(former, pins);
    }

    /// The host loses its power and boots again: what was not synced is lost.
    pub fn power_cut(&mut self) {
        self.store.lose_unsynced();
        let pins = self.store.locals_before(false);
        self.begin_process(None, pins);
    }

    /// The data directory is lost, and another agent of this name begins with an empty one.
    pub fn lose_store(&mut self) {
        self.store.lose_all();
        self.begin_process(None, BTreeMap::new());
    }

    /// The shared state is put back from a backup, the epoch is raised, and the agent begins on its
    /// store: as a stranger, but for what is pinned to it.
    pub fn put_back(&mut self, backup: Backup) {
        self.shared.put_back(backup);
        self.epoch_began = self.now().wall;
        let pins = self.store.locals_before(true);
        self.begin_process(None, pins);
    }

    fn begin_process(&mut self, former: Option<Former>, pins: BTreeMap<RangeId, PinsBefore>) {
        self.process += 1;
        self.store.open_again();
        let process = (self.process, self.shared.epoch);
        let config = config(self.shared.ranges, self.places, process, former, pins);
        let (epoch_began, labels) = (self.epoch_began, self.labels.clone());
        let config = Config { epoch_began, labels, ..config };
        self.agent = Agent::new(config, self.now());
        self.events.clear();
        self.running.clear();
        self.held.clear();
        self.held_loads.clear();
        self.rules.under_way.clear();
        self.rules.unknown.clear();
        self.rules.answered.clear();
        self.rules.permitted.clear();
        self.rules.marks.clear();
        self.rules.newest_batch = BatchNumber(0);
        self.rules.pins.clear();
        self.shared.news.clear();
        self.interests.clear();
        self.unsaid.clear();
        self.shared.list_fleet();
    }

    /// Takes in all that is at hand, and does what comes of it.
    fn turn(&mut self) {
        if self.lease_over_us().is_some_and(|until| until < self.now_us) {
            self.shared.end_lease();
            self.share_news();
        }
        self.serve_arrived();
        if self.stopped_until_us > self.now_us {
            return;
        }
        let mut inputs = Vec::new();
        while let Some(first) = self.events.first_entry() {
            if first.key().0 > self.now_us {
                break;
            }
            let event = first.remove();
            self.take(event, &mut inputs);
        }
        let now = self.now();
        for input in inputs {
            self.agent.apply(now, input);
        }
        let mut effects = Vec::new();
        self.agent.advance(now, &mut effects);
        for effect in effects {
            self.perform(effect);
        }
        self.share_news();
    }

    fn take(&mut self, event: Event, inputs: &mut Vec<Input>) {
        match event {
            Event::Told(input) => {
                if let Input::Committed(Committed { batch, synced: true, .. }) = &*input {
                    self.store.sync(*batch);
                    self.rules.pins_synced(*batch);
                }
                inputs.push(*input);
            }
            Event::Begin(start) => self.begin(*start),
            Event::News => {
                let news = std::mem::take(&mut self.shared.fleet_news);
                inputs.extend(news.into_iter().map(Input::Shared));
                let news = self.brought();
                inputs.extend(news.into_iter().map(|(range, news)| Input::Range { range, news }));
            }
            Event::Over(ticket, end) if self.running.remove(&ticket).is_some() => {
                let finished = Box::new(finished(self.now().wall, end));
                inputs.push(Input::Finished { ticket, finished });
            }
            Event::Over(..) => {}
        }
    }

    /// What the ranges' watches bring: of one that follows the claim alone, no more than that.
    fn brought(&mut self) -> Vec<(RangeId, RangeNews)> {
        let of_claim = |news: &RangeNews| {
            let ends = matches!(news, RangeNews::ListBegan { .. } | RangeNews::ListEnded { .. });
            ends || matches!(news, RangeNews::Claim(_) | RangeNews::Delivered { .. })
        };
        let mut brought = Vec::new();
        for (range, news) in std::mem::take(&mut self.shared.news) {
            let interest = self.interests.get(&range).copied().unwrap_or(Interest::Nothing);
            match interest {
                Interest::Nothing => {}
                Interest::Claim if !of_claim(&news) => {}
                _ if self.silent.contains(&range) => self.unsaid.push((range, news)),
                _ => brought.push((range, news)),
            }
        }
        brought
    }

    fn list_whole(&mut self, range: RangeId) {
        self.shared.news.retain(|(at, _)| *at != range);
        self.lists.push((self.now_us, range));
        self.shared.list(range, self.now());
    }

    /// The shared state answers what has come to it, whether or not the process stands still.
    fn serve_arrived(&mut self) {
        while let Some(first) = self.arriving.first_entry() {
            if first.key().0 > self.now_us {
                break;
            }
            let (call, request, fate) = first.remove();
            let answer = self.answer(&request, fate);
            self.note_answer(call, &request, &answer);
            self.tell(0, Input::Answered { call, answer });
            self.share_news();
        }
    }

    fn answer(&mut self, request: &ShareRequest, fate: Fate) -> ShareAnswer {
        let error = "no answer".to_owned();
        match fate {
            Fate::Served => self.serve(request),
            Fate::AnswerLost => {
                self.serve(request);
                ShareAnswer::Unknown { error }
            }
            Fate::Lost | Fate::Held => ShareAnswer::Unknown { error },
            Fate::Refused { retryable } => {
                ShareAnswer::Refused { error: "etcd says no".to_owned(), retryable }
            }
        }
    }

    pub fn serve(&mut self, request: &ShareRequest) -> ShareAnswer {
        self.shared.serve(request, self.now_us)
    }

    /// Answers a request that was held.
    pub fn release(&mut self, answer: impl Fn(&mut World, &ShareRequest) -> ShareAnswer) {
        for (call, request) in std::mem::take(&mut self.held) {
            let answer = answer(self, &request);
            self.note_answer(call, &request, &answer);
            self.tell(0, Input::Answered { call, answer });
        }
    }

    /// Gives the answers to reads of the store that were held.
    pub fn release_loads(&mut self) {
        for (load, answer) in std::mem::take(&mut self.held_loads) {
            self.tell(0, Input::Loaded { load, answer });
        }
    }

    /// What was written while the disk hung is there now.
    pub fn free_disk(&mut self) {
        self.hang_disk = false;
        for committed in std::mem::take(&mut self.held_commits) {
            self.tell(0, Input::Committed(committed));
        }
    }

    /// The watch of the first range is opened anew and lists it.
    pub fn list(&mut self) {
        self.listed_us = Some(self.now_us);
        self.shared.news.retain(|(at, _)| *at != RangeId(0));
        self.shared.list(RangeId(0), self.now());
    }

    pub fn tell(&mut self, after_us: u64, input: Input) {
        self.at(self.now_us + after_us, Event::Told(Box::new(input)));
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((at_us, self.next_event), event);
    }

    /// Has the watches bring what has changed.
    fn share_news(&mut self) {
        let some = !self.shared.news.is_empty() || !self.shared.fleet_news.is_empty();
        if some && !self.deaf {
            self.at(self.now_us + NEWS_US, Event::News);
        }
    }

    pub fn finish(&mut self, ticket: Ticket, end: AttemptEnd) {
        self.at(self.now_us + 1, Event::Over(ticket, end));
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Share { call, request } => self.send(call, request),
            Effect::Follow { range, interest } => {
                // What was under way for the watch before is nobody's any more.
                self.shared.news.retain(|(at, _)| *at != range);
                self.interests.insert(range, interest);
                match interest {
                    Interest::Nothing => {}
                    Interest::Claim => self.shared.list_claim(range, self.now()),
                    Interest::Whole => self.list_whole(range),
                }
            }
            Effect::Relist { range } => self.list_whole(range),
            Effect::Reopen { range } => {
                self.reopened.push((self.now_us, range));
                self.silent.remove(&range);
                let (kept, rest) = std::mem::take(&mut self.unsaid)
                    .into_iter()
                    .partition(|(at, _): &(RangeId, RangeNews)| *at == range);
                self.unsaid = rest;
                self.shared.news.splice(0..0, kept);
            }
            Effect::Commit(batch) => {
                self.store.apply(&batch);
                self.rules.pins_written(&batch);
                assert!(batch.number > self.rules.newest_batch, "batches are counted");
                self.rules.newest_batch = batch.number;
                let (batch, synced) = (batch.number, batch.sync);
                let committed = Committed { batch, synced, duplicates: Vec::new() };
                match self.hang_disk {
                    true => self.held_commits.push(committed),
                    false => self.tell(STORE_US, Input::Committed(committed)),
                }
            }
            Effect::Load { load, request } => {
                let answer = self.store.load(&request);
                match (self.hold_loads)(&request) {
                    true => self.held_loads.push((load, answer)),
                    false => self.tell(STORE_US, Input::Loaded { load, answer }),
                }
            }
            Effect::Start(start) => {
                assert!(start.until > self.now().mono, "{} without a licence (L0)", start.run);
                self.check_permission(&start);
                self.at(self.now_us + self.executor_us, Event::Begin(start));
            }
            Effect::Cancel { ticket } => self.finish(ticket, AttemptEnd::Cancelled),
            Effect::Notice(notice) => self.notices.push((self.now_us, notice)),
            Effect::Exit { reason } => self.exited = Some(reason),
            Effect::Report { .. } | Effect::ExpectWatch { .. } => {}
        }
    }

    fn send(&mut self, call: CallId, request: ShareRequest) {
        match &request {
            ShareRequest::Write(writes) => {
                for write in writes {
                    self.note_sent(call, write);
                }
            }
            ShareRequest::ReadBack { range } => {
                let newest = self.sent.iter().rev().find(|sent| sent.range == *range);
                // One that has written nothing here looks for what was left.
                let fence = newest.map_or(Fence::default(), |newest| newest.fence);
                let before = self.rules.under_way.insert((*range, fence), call);
                assert_eq!(before, None, "read back while a write is under way (L3)");
            }
            _ => {}
        }
        self.requests.push((self.now_us, request.clone()));
        match (self.fate)(&request) {
            Fate::Held => self.held.push((call, request)),
            fate => {
                self.next_event += 1;
                let at = (self.now_us + SHARE_US, self.next_event);
                self.arriving.insert(at, (call, request, fate));
            }
        }
    }

    fn note_sent(&mut self, call: CallId, write: &RangeWrite) {
        let (range, fence) = (write.range, write.fence);
        let before = self.rules.under_way.insert((range, fence), call);
        assert_eq!(before, None, "two writes of {range:?} at a time (L3)");
        let unknown = self.rules.unknown.get(&range) == Some(&fence);
        assert!(!unknown, "{range:?} is written before it was read back (L3)");
        let sent = Sent { at_us: self.now_us, range, fence, kind: write.kind.clone() };
        if let Some(ledger) = sent.ledger() {
            let before = *self.rules.marks.get(&(range, fence)).unwrap_or(&Marks::NONE);
            let forth = ledger.marks.through >= before.through
                && ledger.marks.incarnation >= before.incarnation;
            assert!(forth, "marks went back from {before:?} to {:?} (L5)", ledger.marks);
            self.rules.marks.insert((range, fence), ledger.marks);
            assert!(self.store.knows(ledger.number), "sent before it was synced (L4)");
            let listed = permissions(ledger);
            self.rules.permitted.entry(range).or_default().retain(|run| listed.contains(run));
        }
        if matches!(write.kind, WriteKind::Final { .. }) {
            self.rules.left.insert((range, fence));
        }
        self.sent.push(sent);
    }

    fn note_answer(&mut self, call: CallId, request: &ShareRequest, answer: &ShareAnswer) {
        self.rules.under_way.retain(|_, under_way| *under_way != call);
        match (request, answer) {
            (ShareRequest::Write(writes), ShareAnswer::Wrote(outcomes)) => {
                for (write, outcome) in writes.iter().zip(outcomes) {
                    let written = matches!(outcome, WriteOutcome::Written { .. });
                    if let (true, WriteKind::Ledger { ledger, .. }) = (written, &write.kind) {
                        self.rules.permitted.insert(write.range, permissions(ledger));
                        self.rules.left.remove(&(write.range, write.fence));
                        self.rules.answered.insert((write.range, write.fence));
                    }
                }
            }
            (ShareRequest::Write(_), ShareAnswer::Refused { retryable: false, .. }) => {}
            (ShareRequest::Write(writes), _) => {
                let ledgers = writes.iter().filter(|w| !matches!(w.kind, WriteKind::Beat { .. }));
                self.rules.unknown.extend(ledgers.map(|write| (write.range, write.fence)));
            }
            (ShareRequest::ReadBack { range }, ShareAnswer::ReadBack(found)) => {
                let Some(fence) = self.rules.unknown.remove(range) else { return };
                let there = found.ledger.as_ref().and_then(|seen| seen.ledger.as_ref().ok());
                let newest = self.sent.iter().rev().find(|sent| sent.range == *range);
                let ordinary = newest.filter(|s| matches!(s.kind, WriteKind::Ledger { .. }));
                let number = ordinary.and_then(Sent::ledger).map(|ledger| ledger.number);
                if let Some(there) = there.filter(|there| Some(there.number) == number) {
                    self.rules.permitted.insert(*range, permissions(there));
                    self.rules.left.remove(&(*range, fence));
                    self.rules.answered.insert((*range, fence));
                }
            }
            _ => {}
        }
    }

    /// Where the task of a run lies, or lay.
    fn range_of_run(&self, run: &RunId) -> RangeId {
        let mut versions = self.store.versions.values();
        let pinned = |task: &std::sync::Arc<Task>| {
            task.spec.name == run.task && task.spec.placement.agent().is_some()
        };
        match versions.any(pinned) {
            _ if run.agent.is_some() => RangeId::BROADCAST,
            true => RangeId::PINS,
            false => self.shared.ranges.range_of(&run.task),
        }
    }

    /// L2, from outside.
    fn check_permission(&self, start: &Start) {
        let mut versions = self.store.versions.values();
        let of = |task: &&std::sync::Arc<Task>| task.spec.name == start.run.task;
        if !versions.find(of).is_some_and(|task| task.spec.at_most_once()) {
            return;
        }
        let range = self.range_of_run(&start.run);
        let permitted = self.rules.permitted.get(&range);
        let key = (start.run.clone(), start.attempt);
        let may = permitted.is_some_and(|permitted| permitted.contains(&key));
        assert!(may, "{} as {:?} without permission (L2)", start.run, start.attempt);
    }

    /// L0, from outside: the lease was kept alive and the range was written under this fence, or
    /// listed, both asked for within the licence.
    fn check_licence(&self, range: RangeId, fence: Fence) {
        let since = self.now_us.saturating_sub(2_700_000);
        let alive = |request: &ShareRequest| {
            matches!(request, ShareRequest::KeepAlive { .. } | ShareRequest::GrantLease { .. })
        };
        let mut newest = self.requests.iter().rev().take_while(|(at, _)| *at >= since);
        assert!(newest.any(|(_, request)| alive(request)), "a start by an old lease (L0)");
        let mut newest = self.sent.iter().rev().take_while(|sent| sent.at_us >= since);
        let written = newest.any(|sent| sent.range == range && sent.fence == fence);
        // A list that shows the claim proves as much as a write that came back.
        let listed = self.listed_us.is_some_and(|at| at >= since);
        assert!(written || listed, "a start by an old copy of its range (L0)");
    }

    /// The executor: it looks at the licence last, and then begins.
    fn begin(&mut self, start: Start) {
        let now = self.now();
        if start.until <= now.mono {
            self.tell(1, Input::Unstarted { ticket: start.ticket });
            return;
        }
        let range = self.range_of_run(&start.run);
        let fence = start.attempt.fence;
        let run = &start.run;
        assert!(start.due <= now.wall, "{run} started early");
        assert!(self.rules.answered.contains(&(range, fence)), "{run} before a ledger (L1)");
        assert!(!self.rules.left.contains(&(range, fence)), "{run} after a final ledger");
        if !RangeId::LOCAL.contains(&range) {
            self.check_licence(range, fence);
        }
        let first = self.rules.started.insert((run.clone(), start.attempt));
        assert!(first, "{run} started twice as attempt {:?}", start.attempt);
        self.starts.push(Started {
            at_us: self.now_us,
            run: run.clone(),
            attempt: start.attempt,
            due: start.due,
            payload: start.payload.as_deref().map(str::to_owned),
            timeout: start.timeout,
        });
        let conduct = self.conducts.get_mut(&run.task.to_string());
        let took = conduct.as_ref().map_or(self.usual, |conduct| conduct.took);
        let end = conduct.filter(|conduct| !conduct.ends.is_empty());
        let end = end.map_or(AttemptEnd::Succeeded, |conduct| conduct.ends.remove(0));
        let ticket = start.ticket;
        self.running.insert(ticket, start);
        if took < Duration::MAX {
            let over = self.now_us + u64::try_from(took.as_micros()).expect("small");
            self.at(over, Event::Over(ticket, end));
        }
    }
}

fn config(
    ranges: RangeCount,
    places: usize,
    (process, epoch): (u64, Epoch),
    former: Option<Former>,
    pins: BTreeMap<RangeId, PinsBefore>,
) -> Config {
    Config {
        agent: AgentName::parse("a").expect("a good name"),
        pool: PoolName::parse("default").expect("a good name"),
        weight: 100,
        ttl: TTL,
        ranges,
        epoch,
        epoch_began: Wall::MIN,
        process,
        first_number: process * 1_000,
        running_max: places,
        compact: false,
        broken: None,
        former,
        labels: BTreeMap::new(),
        pins,
    }
}

fn now_at(us: u64) -> Now {
    let wall = Wall::from_micros(BEGIN_MS * 1_000 + i64::try_from(us).expect("small"));
    Now { wall, mono: Mono::from_micros(BOOTED_US + us) }
}

fn permissions(ledger: &Ledger) -> BTreeSet<(RunId, Attempt)> {
    let permitted = ledger.open.iter().filter(|entry| entry.state == EntryState::Permitted);
    permitted.map(|entry| (entry.run.clone(), entry.attempt)).collect()
}

fn finished(now: Wall, end: AttemptEnd) -> Finished {
    let output = Default::default();
    Finished { started_at: Some(now), finished_at: now, end, code: None, output }
}
