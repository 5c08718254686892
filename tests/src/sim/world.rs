//! The simulated world: hosts with their drivers, one etcd, a network between them, a client, and
//! faults. One thread, one queue of events in the order of their times; every delay, loss and fault
//! comes from the seed, so that one seed is one walk, byte for byte.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use tocktower_agent::driver::{Driver, DriverEffect, DriverInput, PortCall};
use tocktower_cluster::agents::Identity;
use tocktower_cluster::duty::{self, Ask, Wrote};
use tocktower_cluster::keys::{Keys, PREFIX};
use tocktower_cluster::port::{
    Answer, KeyRange, PortError, Request, WatchCommand, WatchMessage, WatcherId,
};
use tocktower_core::agent::Config;
use tocktower_core::agent::effect::{BatchNumber, Notice, Start, Ticket};
use tocktower_core::agent::input::{Committed, Offset};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{
    AgentName, Attempt, CoordinatorId, Epoch, PoolName, RangeId, Revision, RunId,
};
use tocktower_core::run::{AttemptEnd, Finished};
use tocktower_core::time::Wall;

use super::breaks::Break;
use super::checker::Checker;
use super::clocks::{GOOD_CLOCK, SKEW_MOST, skew};
use super::epochs::{Epochs, Standing};
use super::etcd::Etcd;
use super::fault::{Act, Fault};
use super::followers::Followers;
use super::home::Home;
use super::rng::Rng;
use super::shares::Member;
use super::store::Store;
use super::truth::{Started, Truth};

/// When the simulation's clock starts: a day with nothing special about it.
pub(super) const EPOCH_US: i64 = 1_795_478_400_000_000;
pub const TTL: Duration = Duration::from_secs(3);
/// How much a host runs at a time.
pub const PLACES: usize = 50;
pub const SECOND: u64 = 1_000_000;

#[derive(Debug)]
enum Event {
    Step {
        host: usize,
        life: u32,
    },
    Input {
        host: usize,
        life: u32,
        input: Box<DriverInput>,
    },
    Call {
        host: usize,
        life: u32,
        call: PortCall,
        request: Request,
        sent: u64,
    },
    Committed {
        host: usize,
        life: u32,
        batch: BatchNumber,
        sync: bool,
        rows: usize,
    },
    /// What an executor had before its process stopped.
    Execute {
        host: usize,
        life: u32,
        start: Box<Start>,
        asked: Wall,
    },
    Push {
        host: usize,
        life: u32,
    },
    Expire,
    Client,
    /// Two coordinators measure every host's clock.
    Measure,
    Fault(Fault),
    Start {
        host: usize,
    },
}

struct Watcher {
    range: KeyRange,
    next: Revision,
    opened: bool,
    silent: bool,
}

pub struct Host {
    pub name: AgentName,
    pub life: u32,
    pub driver: Option<Driver>,
    pub store: Store,
    /// This host had a fault: what ran on it may be repeated.
    pub disturbed: bool,
    /// Its process ended at once, so that what it had not written was lost.
    pub crashed: bool,
    pub disk_lost_at: Option<u64>,
    /// Its clock was set back.
    pub clock_back: bool,
    /// How far ahead its clock was, at most.
    pub ahead_us: u64,
    /// How far behind, at most.
    pub behind_us: u64,
    pub followers: Followers,
    pub member: Member,
    pub skew_us: i64,
    /// Each time at which its clock was set.
    pub clock_sets: Vec<u64>,
    /// By how many millionths its monotonic clock is too fast.
    pub drift: i64,
    inbox: Vec<DriverInput>,
    pub paused_until: u64,
    /// It stops for so long when it next starts something.
    pause_in_batch: Option<u64>,
    cut_until: u64,
    deaf_until: u64,
    step_at: u64,
    watchers: BTreeMap<WatcherId, Watcher>,
    push_at: u64,
    pub running: BTreeMap<Ticket, (RunId, Attempt)>,
    /// What its executor has and has not begun.
    handed_over: BTreeSet<Ticket>,
    disk_at: u64,
    /// The next write fails, the process is back so much later, and what was not synced is lost.
    disk_fails: Option<(u64, bool)>,
    pub back_after: Option<u64>,
    pub standing: Standing,
}

pub struct World {
    pub now: u64,
    pub rng: Rng,
    pub etcd: Etcd,
    pub hosts: Vec<Host>,
    pub truth: Truth,
    pub keys: Keys,
    pub broken: Option<Break>,
    /// Every other task is pinned to a host.
    pub pins: bool,
    /// Some tasks are of every agent.
    pub shares: bool,
    /// Hosts come back with other labels now and then.
    pub relabels: bool,
    /// Tasks that are rarely due, and edits in a row, of when they are.
    pub close_edits: bool,
    /// How far off the clocks of the two coordinators are, and which of them is asked next.
    pub coordinators: [i64; 2],
    pub asks: Rng,
    /// Hosts may be out of touch while they run.
    pub cut_off: bool,
    /// When every agent has been told of all that was changed before.
    pub pins_told_by: u64,
    /// For how long the watch of what is pinned may keep silent.
    pub pins_silent: u64,
    /// A watch that is behind a compaction skips events without a word.
    pub skips: bool,
    /// A request may reach etcd long after whoever sent it has given it up.
    pub straggles: bool,
    /// Some clock was off by more than what is on time.
    pub clock_far: bool,
    straggler: Rng,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    pub etcd_down_until: u64,
    pub etcd_seen: Revision,
    clients_until: u64,
    pub epochs: Epochs,
}

impl World {
    pub fn new(seed: u64, hosts: usize, broken: Option<Break>) -> World {
        let mut rng = Rng::new(seed);
        let ranges = RangeCount::new(8).expect("a power of two");
        let hosts = (0..hosts)
            .map(|number| Host {
                name: AgentName::parse(&format!("h{number}")).expect("a good name"),
                life: 0,
                driver: None,
                store: Store::default(),
                disturbed: false,
                clock_sets: Vec::new(),
                crashed: false,
                disk_lost_at: None,
                clock_back: false,
                ahead_us: 0,
                behind_us: 0,
                followers: Followers::default(),
                member: Member::default(),
                skew_us: skew(rng.between(0, 2 * SKEW_MOST)),
                drift: 0,
                inbox: Vec::new(),
                paused_until: 0,
                pause_in_batch: None,
                cut_until: 0,
                deaf_until: 0,
                step_at: u64::MAX,
                watchers: BTreeMap::new(),
                push_at: u64::MAX,
                running: BTreeMap::new(),
                handed_over: BTreeSet::new(),
                disk_at: 0,
                disk_fails: None,
                back_after: None,
                standing: Standing::default(),
            })
            .collect();
        let mut world = World {
            now: SECOND,
            rng,
            etcd: Etcd::default(),
            hosts,
            truth: Truth::default(),
            keys: Keys::new(PREFIX, ranges),
            broken,
            pins: false,
            shares: false,
            relabels: false,
            close_edits: false,
            coordinators: [0; 2],
            asks: Rng::new(seed ^ 0xc00d),
            cut_off: false,
            pins_told_by: 0,
            pins_silent: 0,
            skips: false,
            straggles: false,
            clock_far: false,
            straggler: Rng::new(seed ^ 0x57a6),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            etcd_down_until: 0,
            etcd_seen: Revision(1),
            clients_until: 0,
            epochs: Epochs::default(),
        };
        world.truth.epoch = Epoch(1);
        world.at(world.now, Event::Expire);
        world.at(world.now + SECOND, Event::Measure);
        world
    }

    /// How every host sees every range now, for people.
    pub fn note_state(&mut self) {
        for (host, at) in self.hosts.iter().enumerate() {
            let Some(driver) = &at.driver else { continue };
            for range in self.keys.ranges().all() {
                let note = || format!("at the end h{host} sees {}", driver.explain(range));
                self.truth.note(self.now, note);
            }
        }
    }

    pub fn start_host(&mut self, host: usize, after: u64) {
        self.at(self.now + after, Event::Start { host });
    }

    pub fn add_fault(&mut self, at: u64, fault: Fault) {
        self.at(at, Event::Fault(fault));
    }

    pub fn run_clients(&mut self, until: u64) {
        self.clients_until = until;
        self.at(self.now + SECOND, Event::Client);
    }

    pub fn run(&mut self, until: u64) {
        while let Some(Reverse((at, id))) = self.queue.pop() {
            if at > until {
                self.queue.push(Reverse((at, id)));
                break;
            }
            self.now = at;
            if let Some(event) = self.events.remove(&id) {
                self.happen(event);
            }
        }
        self.now = until;
    }

    fn at(&mut self, at: u64, event: Event) {
        self.next_event += 1;
        self.events.insert(self.next_event, event);
        self.queue.push(Reverse((at.max(self.now), self.next_event)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Step { host, life } if self.lives(host, life) => self.step(host),
            Event::Input { host, life, input } if self.lives(host, life) => {
                if let DriverInput::Finished { ticket, finished } = &*input
                    && let Some((run, attempt)) = self.hosts[host].running.remove(ticket)
                {
                    self.truth.attempt_ended(&run, attempt, &finished.end);
                }
                self.hosts[host].inbox.push(*input);
                self.step(host);
            }
            Event::Committed { host, life, batch, sync, rows } if self.lives(host, life) => {
                self.check_unwritten(host, batch);
                let store = &mut self.hosts[host].store;
                if sync && self.broken != Some(Break::LedgerBeforeSync) {
                    store.sync(batch, rows);
                }
                for (range, ledger) in store.local_ledgers_of(batch) {
                    self.truth.ledger(Home::of_local(range, host), ledger, self.now);
                }
                let store = &mut self.hosts[host].store;
                let duplicates = std::mem::take(&mut store.pending);
                let committed = Committed { batch, synced: sync, duplicates };
                self.hosts[host].inbox.push(DriverInput::Committed(committed));
                self.step(host);
            }
            Event::Call { host, life, call, request, sent } => {
                self.serve(host, life, call, &request, sent);
            }
            Event::Execute { host, life, start, asked }
                if self.lives(host, life) && self.hosts[host].handed_over.remove(&start.ticket) =>
            {
                self.start(host, life, *start, asked);
            }
            Event::Push { host, life } if self.lives(host, life) => self.push(host),
            Event::Expire => {
                let late = self.rng.chance(200);
                if self.etcd.expire(self.now, late || self.now < self.etcd_down_until) {
                    self.truth.expiries.insert(self.now);
                }
                self.changed();
                self.at(self.now + SECOND / 5, Event::Expire);
            }
            Event::Client if self.now < self.clients_until => {
                self.client_acts();
                self.changed();
                let wait = self.rng.between(SECOND / 20, SECOND);
                self.at(self.now + wait, Event::Client);
            }
            Event::Measure => self.measure(),
            Event::Fault(fault) => self.fault(fault),
            Event::Start { host } => self.boot(host),
            _ => {}
        }
    }

    /// What two coordinators find, and tell the hosts that they can reach.
    fn measure(&mut self) {
        self.at(self.now + 2 * SECOND, Event::Measure);
        self.ask_settled();
        (0..self.hosts.len()).for_each(|host| self.compare(host));
        for number in 0..self.hosts.len() {
            let host = &self.hosts[number];
            if host.driver.is_none() || host.cut_until.max(host.deaf_until) > self.now {
                continue;
            }
            for (id, clock) in ["c1", "c2"].into_iter().zip(self.coordinators) {
                let off = |host: &Host| (clock - host.skew_us).abs() > GOOD_CLOCK;
                let alive = self.hosts.iter().enumerate().filter(|(_, host)| host.driver.is_some());
                let others: Vec<&Host> =
                    alive.filter(|(other, _)| *other != number).map(|(_, host)| host).collect();
                let agree = others.iter().filter(|host| !off(host)).count();
                let micros = clock - self.hosts[number].skew_us;
                let offset = Offset { micros, others_agree: agree * 2 > others.len() };
                let coordinator = CoordinatorId::parse(id).expect("a good name");
                let told = DriverInput::ClockOffset { coordinator, offset };
                self.hosts[number].inbox.push(told);
            }
            self.step(number);
        }
    }

    /// Whether this write of a host fails: then its process ends when it hears of that.
    fn disk_fails(&mut self, host: usize, life: u32) -> bool {
        let Some((back_after, lost)) = self.hosts[host].disk_fails else { return false };
        if back_after > 0 {
            // What is written after it fails too, without a word.
            self.hosts[host].disk_fails = Some((0, lost));
            let failed = Fault::DiskFailed { host, life, back_after, lost };
            self.at(self.now + 500, Event::Fault(failed));
        }
        true
    }

    fn disk(&mut self, host: usize, free: bool) {
        if self.hosts[host].driver.is_some() {
            self.hosts[host].inbox.push(DriverInput::Disk { free });
            self.step(host);
        }
    }

    fn operate(&mut self, host: usize, act: Act) {
        match act {
            Act::Ask { ask, for_us } => {
                self.ask(host, ask);
                let then = |act| Event::Fault(Fault::Operator { host, act });
                self.at(self.now + for_us, then(Act::StopDrained));
                self.at(self.now + for_us + 5 * SECOND, then(Act::Uncordon));
            }
            Act::StopDrained => {
                let driver = self.hosts[host].driver.as_ref();
                if driver.is_some_and(|driver| driver.stats().drained) {
                    self.truth.stopped_drained += 1;
                    // For what is pinned to it this is a crash.
                    self.hosts[host].crashed = true;
                    self.halt(host);
                    self.at(self.now + SECOND, Event::Start { host });
                }
            }
            Act::Uncordon => self.ask(host, Ask::Uncordon),
        }
    }

    /// Written at once, as by a coordinator that has no faults.
    fn ask(&mut self, host: usize, ask: Ask) {
        if self.epochs.is_open() {
            return;
        }
        let name = self.hosts[host].name.clone();
        let read = Request::Txn(duty::read(&self.keys, &name));
        let answer = self.etcd.call(&read, self.now).expect("a model that is up");
        if let Ok(Wrote::Changed { record, now }) = duty::read_wrote(&answer) {
            let write = duty::write(&self.keys, &name, now, &ask.apply(&record));
            self.etcd.call(&Request::Txn(write), self.now).expect("a model that is up");
            self.changed();
        }
    }

    /// Whether an attempt of this run goes on anywhere.
    pub fn runs_somewhere(&self, run: &RunId) -> bool {
        self.hosts.iter().any(|host| host.running.values().any(|(other, _)| other == run))
    }

    pub fn reaches(&self, host: usize) -> bool {
        let at = &self.hosts[host];
        at.cut_until.max(at.deaf_until).max(self.etcd_down_until) <= self.now
    }

    fn refuse(&mut self, host: usize, call: PortCall) {
        let error = PortError::Unreachable("it was put back from a backup".to_owned());
        let input = Box::new(DriverInput::Answered { call, answer: Err(error) });
        let life = self.hosts[host].life;
        self.at(self.now + 1_000, Event::Input { host, life, input });
    }

    fn lives(&self, host: usize, life: u32) -> bool {
        self.hosts[host].life == life && self.hosts[host].driver.is_some()
    }

    fn boot(&mut self, host: usize) {
        if self.hosts[host].driver.is_some() {
            return;
        }
        let Some(joined) = self.join(host) else { return };
        self.enter(host);
        let now = self.host_now(host);
        let keys = self.keys.clone();
        let at = &mut self.hosts[host];
        at.life += 1;
        let former = at.store.open();
        let former = former.filter(|former| former.kept.session.epoch == joined.epoch);
        let pins = at.store.pins_before();
        let labels = at.member.labels();
        let pool = PoolName::parse("default").expect("a good name");
        let config = Config {
            agent: at.name.clone(),
            pool: pool.clone(),
            weight: 100,
            ttl: TTL,
            ranges: keys.ranges(),
            epoch: joined.epoch,
            epoch_began: joined.began,
            process: at.store.process,
            first_number: at.store.process << 32,
            running_max: PLACES,
            compact: true,
            broken: self.broken.and_then(Break::rule),
            former,
            labels: labels.clone(),
            pins,
        };
        let identity = Identity {
            agent: at.name.clone(),
            pool,
            labels,
            version: "sim".to_owned(),
            tz_version: "sim".to_owned(),
            host_id: at.name.to_string(),
        };
        let ops = joined.ops(keys, identity);
        let mut effects = Vec::new();
        at.driver = Some(Driver::new(config, ops, joined.seen, now, &mut effects));
        at.step_at = u64::MAX;
        at.push_at = u64::MAX;
        at.disk_at = self.now;
        self.perform(host, effects);
        self.step(host);
    }

    /// The process is gone: what it had in memory, its watches, its running attempts.
    pub(super) fn halt(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        if at.driver.take().is_some() {
            at.member.stops.push(self.now);
        }
        at.followers = Followers::default();
        at.life += 1;
        at.inbox.clear();
        at.watchers.clear();
        at.paused_until = 0;
        at.pause_in_batch = None;
        at.disk_fails = None;
        at.handed_over.clear();
        for (run, _) in std::mem::take(&mut at.running).into_values() {
            self.truth.vanished(&run, host, self.now);
        }
    }

    pub(super) fn step(&mut self, host: usize) {
        let now = self.host_now(host);
        let at = &mut self.hosts[host];
        if at.paused_until > self.now {
            let (life, until) = (at.life, at.paused_until);
            self.at(until, Event::Step { host, life });
            return;
        }
        let inputs = std::mem::take(&mut at.inbox);
        let Some(driver) = at.driver.as_mut() else { return };
        let mut effects = Vec::new();
        driver.step(now, inputs, &mut effects);
        let drained = driver.stats().drained;
        self.perform(host, effects);
        let mut running = self.hosts[host].running.values().filter(|_| drained);
        // What is pinned to it goes on.
        let pooled =
            running.find(|(run, _)| matches!(self.truth.home_of(run, &self.keys), Home::Range(_)));
        if let Some((run, _)) = pooled {
            let text = format!("h{host} calls itself drained while {run} goes on");
            self.truth.violation(Checker::Liveness, self.now, text);
        }
        self.plan_wake(host);
    }

    fn plan_wake(&mut self, host: usize) {
        let now = self.host_now(host);
        let at = &self.hosts[host];
        let Some(driver) = at.driver.as_ref() else { return };
        let wake = driver.wake();
        let mono = u64::try_from(wake.mono.since(now.mono).as_micros()).expect("soon");
        let mono = at.by_true_time(mono);
        let wall = wake.wall.map(|wall| wall.since(now.wall).as_micros());
        let wall = wall.map_or(mono, |wall| u64::try_from(wall).expect("soon"));
        let after = wall.min(mono).max(50);
        let (life, due) = (at.life, self.now + after);
        let planned = self.hosts[host].step_at;
        if planned <= self.now || due < planned {
            self.hosts[host].step_at = due;
            self.at(due, Event::Step { host, life });
        }
    }

    fn perform(&mut self, host: usize, effects: Vec<DriverEffect>) {
        let life = self.hosts[host].life;
        let mut committing = None;
        for effect in effects {
            match effect {
                DriverEffect::Call { call, request } => self.send(host, life, call, request),
                DriverEffect::Watch(command) => self.watch(host, command),
                DriverEffect::Commit(_) if self.disk_fails(host, life) => {}
                DriverEffect::Commit(batch) => {
                    let store = &mut self.hosts[host].store;
                    let duplicates = store.apply(&batch).duplicates;
                    store.pending.extend(duplicates);
                    self.note_birth(host);
                    let rows = self.hosts[host].store.history().len();
                    let sync = batch.sync;
                    let took = self.rng.between(100, if batch.sync { 8_000 } else { 800 });
                    let done = self.hosts[host].disk_at.max(self.now) + took;
                    self.hosts[host].disk_at = done;
                    let batch = batch.number;
                    committing = Some(batch);
                    self.at(done, Event::Committed { host, life, batch, sync, rows });
                }
                DriverEffect::Load { load, request } => {
                    let answer = self.hosts[host].store.load(&request);
                    let input = Box::new(DriverInput::Loaded { load, answer });
                    let done = self.hosts[host].disk_at.max(self.now) + self.rng.between(50, 2_000);
                    self.hosts[host].disk_at = done;
                    self.at(done, Event::Input { host, life, input });
                }
                DriverEffect::Start(start) => self.hand_over(host, life, start),
                DriverEffect::Cancel { ticket } => {
                    self.hosts[host].handed_over.remove(&ticket);
                    self.finish(host, life, ticket, 1_000, true);
                }
                DriverEffect::Report { record, .. } => {
                    let fails = self.hosts[host].disk_fails;
                    let kept = fails.is_none_or(|(back_after, _)| back_after > 0);
                    self.truth.reported(&record, kept, self.now);
                    self.check_name(host, &record);
                    self.hosts[host].followers.told(record, committing);
                }
                DriverEffect::Exit { reason } => {
                    self.exited(host, &reason);
                    return;
                }
                DriverEffect::Notice(notice) => {
                    self.truth.adopted += usize::from(matches!(notice, Notice::Adopted { .. }));
                    if let Notice::HandedOff { range } = notice {
                        for (host, at) in self.hosts.iter().enumerate() {
                            let Some(driver) = &at.driver else { continue };
                            let how = driver.explain(range);
                            self.truth.note(self.now, || format!("h{host} sees {how}"));
                        }
                    }
                    self.truth.note(self.now, || format!("h{host} {notice:?}"));
                }
                DriverEffect::Coordinator { .. } => {}
                DriverEffect::Trouble { what, error } => {
                    self.truth.note(self.now, || format!("h{host} {what} {error}"));
                }
            }
        }
    }

    /// A start is with the executor: at once, but where the process stops in the middle of a batch.
    fn hand_over(&mut self, host: usize, life: u32, start: Box<Start>) {
        let asked = self.host_now(host).wall;
        let at = &mut self.hosts[host];
        if let Some(for_us) = at.pause_in_batch.take_if(|_| self.now < self.clients_until) {
            at.paused_until = self.now + for_us;
        }
        match at.paused_until {
            until if until > self.now => {
                at.handed_over.insert(start.ticket);
                self.at(until, Event::Execute { host, life, start, asked });
            }
            _ => self.start(host, life, *start, asked),
        }
    }

    /// `asked`: the host's clock as it was when the start was asked for.
    fn start(&mut self, host: usize, life: u32, start: Start, asked: Wall) {
        let now = self.host_now(host);
        let checks = self.broken != Some(Break::LicenceOfExecutor);
        if checks && start.until <= now.mono {
            let input = Box::new(DriverInput::Unstarted { ticket: start.ticket });
            self.at(self.now, Event::Input { host, life, input });
            return;
        }
        let long = self.rng.chance(150);
        let took = self.rng.between(1_000, if long { 20 * SECOND } else { SECOND / 2 });
        self.hosts[host].running.insert(start.ticket, (start.run.clone(), start.attempt));
        let started = Started {
            run: start.run,
            attempt: start.attempt,
            host,
            at: self.now,
            asked,
            due: start.due,
            fast: self.hosts[host].skew_us > GOOD_CLOCK,
            forgot: self.hosts[host].disk_lost_at.filter(|_| self.hosts[host].clock_back),
        };
        self.truth.started(started, &self.keys);
        self.finish(host, life, start.ticket, took, false);
    }

    fn finish(&mut self, host: usize, life: u32, ticket: Ticket, took: u64, cancel: bool) {
        let failed = self.rng.chance(100);
        let end = match (cancel, failed) {
            (true, _) => AttemptEnd::Cancelled,
            (false, true) => AttemptEnd::Failed { reason: "exit code 1".to_owned() },
            (false, false) => AttemptEnd::Succeeded,
        };
        let wall = self.host_now(host).wall;
        let finished = Finished {
            started_at: Some(wall),
            finished_at: wall.plus(Duration::from_micros(took)),
            end,
            code: None,
            output: Default::default(),
        };
        let input = Box::new(DriverInput::Finished { ticket, finished: Box::new(finished) });
        self.at(self.now + took, Event::Input { host, life, input });
    }

    fn send(&mut self, host: usize, life: u32, call: PortCall, request: Request) {
        let request = super::breaks::without_compare(request, self.broken);
        if self.hosts[host].standing.closed {
            self.refuse(host, call);
            return;
        }
        let slow = self.rng.chance(5);
        let delay = self.rng.between(150, if slow { SECOND } else { 1_500 });
        let lost = self.hosts[host].cut_until > self.now || self.etcd_down_until > self.now;
        if lost {
            let error = PortError::Unknown("timed out".to_owned());
            let input = Box::new(DriverInput::Answered { call, answer: Err(error) });
            self.at(self.now + SECOND, Event::Input { host, life, input });
            return;
        }
        let straggles = self.straggles && self.now < self.clients_until;
        let delay = match straggles && self.straggler.chance(3) {
            true => self.straggler.between(SECOND, 4 * SECOND),
            false => delay,
        };
        if delay > SECOND {
            self.hosts[host].disturbed = true;
            let error = PortError::Unknown("timed out".to_owned());
            let input = Box::new(DriverInput::Answered { call, answer: Err(error) });
            self.at(self.now + SECOND, Event::Input { host, life, input });
        }
        self.at(self.now + delay, Event::Call { host, life, call, request, sent: self.now });
    }

    fn serve(&mut self, host: usize, life: u32, call: PortCall, request: &Request, sent: u64) {
        if self.lives(host, life) && self.keep_down(host) {
            return;
        }
        let answer = match self.epochs.broke_since(sent) {
            true => Err(PortError::Unknown("the connection broke".to_owned())),
            false => self.etcd.serve(request, self.now),
        };
        self.changed();
        // Its own request may have brought etcd to just what it has seen.
        if self.lives(host, life) && self.keep_down(host) {
            return;
        }
        if let (Request::Compact { to }, Ok(_)) = (request, &answer) {
            self.truth.compacted(*to, self.now);
        }
        if self.now > sent + SECOND {
            // Nobody waits for it any more.
            return;
        }
        let deaf = self.hosts[host].deaf_until > self.now || self.hosts[host].cut_until > self.now;
        let (answer, delay): (Result<Answer, PortError>, u64) = match deaf || self.rng.chance(2) {
            true => (Err(PortError::Unknown("timed out".to_owned())), SECOND),
            false => (answer, self.rng.between(150, 1_500)),
        };
        let input = Box::new(DriverInput::Answered { call, answer });
        self.at(self.now + delay, Event::Input { host, life, input });
    }

    /// Something may have changed in etcd: note what is true now, and have the watches told.
    pub(super) fn changed(&mut self) {
        if self.etcd.revision() == self.etcd_seen {
            return;
        }
        let from = Revision(self.etcd_seen.0 + 1);
        if let Ok(events) = self.etcd.events(&self.keys.all(), from) {
            self.truth.shared(&events, &self.keys, self.now);
        }
        self.etcd_seen = self.etcd.revision();
        self.truth.reached(self.etcd_seen, self.now);
        for host in 0..self.hosts.len() {
            self.plan_push(host);
        }
    }

    fn plan_push(&mut self, host: usize) {
        let planned = self.hosts[host].push_at;
        if planned != u64::MAX && planned > self.now {
            return;
        }
        let slow = self.rng.chance(5);
        let at = self.now + self.rng.between(150, if slow { SECOND } else { 2_000 });
        self.hosts[host].push_at = at;
        let life = self.hosts[host].life;
        self.at(at, Event::Push { host, life });
    }

    fn watch(&mut self, host: usize, command: WatchCommand) {
        match command {
            // All members are one here.
            WatchCommand::Open { watcher, range, from, .. } => {
                let watching = Watcher { range, next: from, opened: false, silent: false };
                self.hosts[host].watchers.insert(watcher, watching);
                self.plan_push(host);
            }
            WatchCommand::Close { watcher } => {
                self.hosts[host].watchers.remove(&watcher);
            }
        }
    }

    /// Delivers what the host's watchers have not seen, unless the network is cut.
    fn push(&mut self, host: usize) {
        self.hosts[host].push_at = u64::MAX;
        if self.hosts[host].standing.closed {
            return;
        }
        let silent = self.hosts[host].cut_until.max(self.hosts[host].deaf_until);
        let mut silent = silent.max(self.etcd_down_until);
        if self.skips {
            // What waits for a process that stands still is no more than a window holds.
            silent = silent.max(self.hosts[host].paused_until);
        }
        if silent > self.now {
            let life = self.hosts[host].life;
            self.hosts[host].push_at = silent + 1;
            self.at(silent + 1, Event::Push { host, life });
            return;
        }
        if self.keep_down(host) {
            return;
        }
        let mut gone = Vec::new();
        let mut messages = Vec::new();
        for (id, watcher) in &mut self.hosts[host].watchers {
            let lags = watcher.opened;
            if !watcher.opened {
                watcher.opened = true;
                messages.push(WatchMessage::Opened { watcher: *id });
            }
            if watcher.silent {
                continue;
            }
            if self.skips && lags {
                watcher.next = watcher.next.max(self.etcd.oldest());
            }
            match self.etcd.events(&watcher.range, watcher.next) {
                Ok(events) if events.is_empty() => {}
                Ok(events) => {
                    let through = events.last().map(|e| e.revision()).unwrap_or_default();
                    watcher.next = through.next();
                    messages.push(WatchMessage::Events { watcher: *id, through, events });
                }
                Err(oldest) => {
                    gone.push(*id);
                    messages.push(WatchMessage::Compacted { watcher: *id, oldest });
                }
            }
        }
        for id in gone {
            self.hosts[host].watchers.remove(&id);
        }
        let inputs = messages.into_iter().map(DriverInput::Watch);
        self.hosts[host].inbox.extend(inputs);
        self.step(host);
    }

    /// Counts a fault for the report, by its kind.
    fn count(&mut self, fault: &Fault) {
        let down = |host: &usize| self.hosts[*host].driver.is_none();
        match fault {
            Fault::Crash { host, .. }
            | Fault::Pause { host, .. }
            | Fault::Cut { host, .. }
            | Fault::Deaf { host, .. }
            | Fault::DiskFails { host, .. }
                if down(host) => {}
            Fault::DiskFailed { .. } => {}
            _ => {
                let told = format!("{fault:?}");
                let kind = told.split([' ', '{', '(']).next().unwrap_or_default();
                *self.truth.faults.entry(kind.to_owned()).or_default() += 1;
            }
        }
    }

    pub(super) fn end_watches(&mut self, host: usize) {
        let ended = std::mem::take(&mut self.hosts[host].watchers);
        for watcher in ended.into_keys() {
            let reason = "the connection broke".to_owned();
            let message = WatchMessage::Ended { watcher, reason };
            self.hosts[host].inbox.push(DriverInput::Watch(message));
        }
        if self.hosts[host].driver.is_some() {
            self.step(host);
        } else {
            self.hosts[host].inbox.clear();
        }
    }

    fn hush(&mut self, host: usize) {
        let watchers = &mut self.hosts[host].watchers;
        let Some(last) = watchers.len().checked_sub(1) else { return };
        let which = self.rng.between(0, u64::try_from(last).expect("few") + 1);
        let watcher = watchers.values_mut().nth(usize::try_from(which).expect("few"));
        watcher.expect("one of them").silent = true;
    }

    /// All of its watches bring nothing any more, until they are opened again.
    pub(super) fn hush_all(&mut self, host: usize) {
        self.hosts[host].watchers.values_mut().for_each(|watcher| watcher.silent = true);
    }

    /// The process that comes next knows that the disk has failed.
    fn disk_failed(&mut self, host: usize, lost: bool) {
        let forgetful = self.broken == Some(Break::AdoptAfterDiskFailed);
        match lost {
            true => self.lose_unsynced(host, forgetful, false),
            false => self.hosts[host].store.distrust(),
        }
    }

    fn cut_power(&mut self, host: usize) {
        let forgetful = self.broken == Some(Break::AdoptAfterPowerCut);
        // Walks with pins lose a disk now and then: what lies on it is nowhere else.
        let disk = self.pins && self.rng.chance(200);
        if disk {
            self.hosts[host].disk_lost_at = Some(self.now);
        }
        self.lose_unsynced(host, forgetful, disk);
    }

    fn lose_unsynced(&mut self, host: usize, forgetful: bool, disk: bool) {
        self.hosts[host].member.note_power_cut();
        self.hosts[host].store.power_cut(forgetful, disk);
        for range in RangeId::LOCAL {
            let home = Home::of_local(range, host);
            self.truth.ledgers.remove(&home);
            if let Some(ledger) = self.hosts[host].store.local_ledger(range) {
                self.truth.ledger(home, ledger.clone(), self.now);
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.truth.note(self.now, || format!("fault {fault:?}"));
        self.count(&fault);
        match fault {
            Fault::Crash { host, back_after, power } => {
                self.hosts[host].disturbed = true;
                self.hosts[host].crashed = true;
                self.halt(host);
                if power {
                    self.cut_power(host);
                }
                self.at(self.now + back_after, Event::Start { host });
            }
            Fault::Pause { host, for_us } => {
                self.hosts[host].disturbed = true;
                let busy = self.now < self.clients_until;
                match for_us % 2 {
                    1 if busy => self.hosts[host].pause_in_batch = Some(for_us),
                    _ => self.hosts[host].paused_until = self.now + for_us,
                }
            }
            Fault::Cut { host, for_us } => {
                self.hosts[host].disturbed = true;
                self.hosts[host].cut_until = self.now + for_us;
            }
            Fault::Deaf { host, for_us } => {
                self.hosts[host].disturbed = true;
                self.hosts[host].deaf_until = self.now + for_us;
            }
            Fault::ClockJump { host, by_us } => self.clock_jumps(host, by_us),
            Fault::ClockSet { host } => self.set_clock(host),
            Fault::DiskLow { host, for_us } => {
                self.at(self.now + for_us, Event::Fault(Fault::DiskFree { host }));
                self.disk(host, false);
            }
            Fault::DiskFree { host } => self.disk(host, true),
            Fault::Operator { host, act } => self.operate(host, act),
            Fault::Leave { host, back_after } => {
                self.hosts[host].back_after = Some(back_after);
                let deadline = Duration::from_secs(20);
                self.hosts[host].inbox.push(DriverInput::Leave { deadline });
                if self.hosts[host].driver.is_some() {
                    self.step(host);
                }
            }
            Fault::Join { host } => self.boot(host),
            Fault::DiskFails { host, back_after, lost } => {
                if self.hosts[host].driver.is_some() {
                    self.hosts[host].disk_fails = Some((back_after, lost));
                }
            }
            Fault::DiskFailed { host, life, back_after, lost } => {
                if self.lives(host, life) {
                    if self.broken != Some(Break::AdoptAfterDiskFailed) {
                        self.give_up(host);
                    }
                    let power = false;
                    self.fault(Fault::Crash { host, back_after, power });
                    self.disk_failed(host, lost);
                }
            }
            Fault::EndWatches { host } => self.end_watches(host),
            Fault::Hush { host } => self.hush(host),
            Fault::BackUp => self.back_up(),
            Fault::PutBack { stopped } => self.put_back(stopped),
            Fault::RaiseEpoch => self.raise_epoch(),
            of_etcd => self.etcd_fails(of_etcd),
        }
    }
}
