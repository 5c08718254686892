//! The agent's core: one state machine that is told what happened and says what to do.
//!
//! `apply` takes one input in; `advance` then does everything that time and state permit and hands
//! out the effects. A shell that has many inputs at hand applies them all and advances once: that
//! is where batches come from. Nothing here waits, reads a clock or fails; every answer that can
//! come is an `Input`, and a request that is never answered is the shell's bug.
//!
//! The state is in two parts, so that a range can be worked on while everything else is at hand:
//! `ranges` (one file of rules each: `news`, `take`, `decide`, `runs`, `ledgering`, `handoff`) and
//! the `Desk` with what they share.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::hash::RangeCount;
use crate::ids::{AgentName, Epoch, LeaseId, PoolName, RangeId, Revision, RunId, Session};
use crate::run::RunRecord;
use crate::time::{Mono, Now, Wall};

mod adopt;
mod answers;
mod broadcast;
mod clock;
mod compact;
mod decide;
mod desk;
mod duplicates;
mod edited;
pub mod effect;
mod epoch;
mod fleet;
mod handoff;
mod idle;
pub mod input;
mod kept;
mod ledgering;
mod listing;
mod lull;
mod near;
mod news;
mod open;
mod orphans;
mod permits;
mod pins;
mod priors;
mod provisional;
mod range;
mod ready;
mod replaced;
mod rules;
mod runs;
mod series;
mod session;
mod settle;
mod stalled;
mod standby;
mod take;
mod triggers;
mod waits;
mod weight;

use desk::Desk;
use effect::Effect;
use input::Input;
pub use kept::{Former, Kept};
pub use pins::PinsBefore;
pub use provisional::Settled;
use range::Range;
pub use rules::Rule;

/// What an agent is told once.
#[derive(Clone, Debug)]
pub struct Config {
    pub agent: AgentName,
    pub pool: PoolName,
    pub weight: u32,
    /// The lease's time to live that is asked for; what is granted counts.
    pub ttl: Duration,
    pub ranges: RangeCount,
    pub epoch: Epoch,
    /// When it began: what was due before in an earlier one may have run. Never, for the first.
    pub epoch_began: Wall,
    /// Names this process in its ledgers; no other process of any store has the same.
    pub process: u64,
    /// What this process numbers (tasks, attempts, listings) counts on from here, and no other
    /// process of this store has counted there.
    pub first_number: u64,
    /// Attempts that run at once.
    pub running_max: usize,
    /// Whether the shared state is compacted when no coordinator does; off where others share it.
    pub compact: bool,
    /// The simulator's: a rule that does not hold. None in any program that is meant to work.
    pub broken: Option<Rule>,
    /// What the process before left in the same store, if that can be gone on from.
    pub former: Option<Former>,
    /// By which tasks of every agent select it.
    pub labels: BTreeMap<String, String>,
    /// What is in this store of its local ranges; of one that is not there nothing was ever.
    pub pins: BTreeMap<RangeId, PinsBefore>,
}

/// When the core wants to be woken, on either clock, if nothing comes before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wake {
    pub wall: Option<Wall>,
    pub mono: Mono,
}

/// Figures of the moment, for metrics and the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    pub held: usize,
    /// Ranges that others hold and of which there is a copy here, and the tasks of these.
    pub standby: usize,
    pub standby_tasks: usize,
    /// Whole ranges that were listed to be held.
    pub range_lists: u64,
    pub running: usize,
    pub queued: usize,
    /// Ranges whose list of open runs is full: new runs of them wait.
    pub full: usize,
    pub open: usize,
    pub near: usize,
    /// The oldest due of a run that is due and not started.
    pub oldest_due: Option<Wall>,
    /// How long the oldest write has been under way that a range's watch has not brought back.
    pub proof_lag: Duration,
    pub clock_verified: bool,
    /// The coordinators and most other agents say that this clock is wrong.
    pub clock_off: bool,
    /// The store has not answered for so long that the session was given up.
    pub store_stalled: bool,
    /// An operator drains this agent, it holds nothing, and all that it ran is settled.
    pub drained: bool,
}

pub struct Agent {
    desk: Desk,
    ranges: BTreeMap<RangeId, Range>,
}

impl Agent {
    pub fn new(config: Config, now: Now) -> Agent {
        let ranges = config.ranges.all().map(Range::new).chain(RangeId::LOCAL.map(Range::local));
        let ranges = ranges.map(|range| (range.id, range)).collect();
        Agent { desk: Desk::new(config, now), ranges }
    }

    /// Takes one input in. Effects come out of `advance`.
    pub fn apply(&mut self, now: Now, input: Input) {
        self.desk.observe(now);
        match input {
            Input::Wake => {}
            Input::Answered { call, answer } => self.answered(call, answer),
            Input::Range { range, news } => self.range_news(range, news),
            Input::Shared(news) => self.shared_news(news),
            Input::Committed(committed) => self.committed(&committed),
            Input::Loaded { load, answer } => self.loaded(load, answer),
            Input::Finished { ticket, finished } => self.finished(ticket, *finished),
            Input::Unstarted { ticket } => self.unstarted(ticket),
            Input::CancelRun { run } => self.cancel_run(&run),
            Input::ClockOffset { coordinator, offset } => {
                self.desk.clock_measured(coordinator, offset);
            }
            Input::Disk { free } => self.disk(free),
            Input::Leave { deadline } => self.leave(deadline),
        }
    }

    /// Does what is due and possible, and hands out the effects in the order in which they must
    /// be done.
    pub fn advance(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.desk.observe(now);
        self.mend_clock();
        self.watch_store();
        self.keep_session();
        self.keep_weight();
        self.follow_ring();
        self.take_ranges();
        self.keep_pins();
        self.decide_due();
        self.wake_waiting();
        self.open_ready();
        self.load_ahead();
        self.hand_off();
        self.look_for_left();
        self.settle();
        self.delete_done();
        self.write_ledgers();
        self.keep_compacted();
        self.leave_when_done();
        self.desk.flush(out);
    }

    /// `apply`, then `advance`.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        self.apply(now, input);
        self.advance(now, out);
    }

    pub fn wake(&self) -> Wake {
        let wall = self.desk.next_due();
        Wake { wall, mono: self.desk.wake_mono }
    }

    /// Every run that has not ended here.
    pub fn open_runs(&self) -> impl Iterator<Item = RunRecord> + '_ {
        self.ranges.values().flat_map(|range| range.open_records(&self.desk))
    }

    /// Every run that has ended here and whose row of history the store does not show yet: it is
    /// among the open ones no more.
    pub fn unwritten_runs(&self) -> impl Iterator<Item = &RunRecord> {
        self.desk.unwritten.iter().map(|(_, record)| record.as_ref())
    }

    pub fn stats(&self) -> Stats {
        let held = self.pooled().filter(|range| range.fence().is_some());
        let asking: usize = self.ranges.values().map(|range| range.permits.asking()).sum();
        let proof_lag = held
            .clone()
            .filter_map(|range| range.writer.sent.front())
            .map(|(_, sent)| self.desk.now.mono.since(sent.mono))
            .max();
        let standby = self.ranges.values().filter(|range| range.stands_by());
        Stats {
            held: held.count(),
            standby: standby.clone().count(),
            range_lists: self.desk.standbys.range_lists,
            standby_tasks: standby.map(|range| range.copy.tasks).sum(),
            running: self.desk.running,
            queued: self.desk.ready.len() + asking,
            full: self.ranges.values().filter(|range| range.full).count(),
            open: self.ranges.values().map(|range| range.open.len()).sum(),
            near: self.desk.wheel.len(),
            oldest_due: self.oldest_due(),
            proof_lag: proof_lag.unwrap_or_default(),
            clock_verified: self.desk.clock.verified(),
            clock_off: self.desk.clock.off_since().is_some(),
            store_stalled: self.desk.stored.stalled,
            drained: self.drained(),
        }
    }

    /// The session under which this agent is registered now.
    pub fn session(&self) -> Option<Session> {
        self.desk.session.session()
    }

    /// The lease that this agent has, to be given up when it can run nothing more.
    pub fn lease(&self) -> Option<LeaseId> {
        self.desk.session.lease()
    }

    /// How a range stands with this agent, for people who look for a fault.
    pub fn explain(&self, range: RangeId) -> String {
        let Some(range) = self.ranges.get(&range) else { return "no such range".to_owned() };
        let (copy, rank) = (&range.copy, range.rank);
        format!(
            "{:?} rank {rank:?} {:?} {:?} listed {} delivered {:?} claim {:?} vacant {:?} \
             scanned {} loaded {:?} decided {:?} parked {} open {} left {} fence taken {:?} \
             session {:?}",
            range.id,
            range.interest,
            range.hold,
            copy.listed,
            copy.delivered,
            copy.claim,
            copy.vacant_since,
            range.window.scanned,
            range.window.loaded_to,
            range.window.decided_to,
            range.parked.len(),
            range.open.len(),
            range.left.len(),
            range.fence_taken,
            self.desk.session.stage,
        )
    }

    /// The ranges that this agent holds.
    pub fn held(&self) -> impl Iterator<Item = RangeId> + '_ {
        self.pooled().filter(|range| range.fence().is_some()).map(|range| range.id)
    }

    /// The ranges of the pool, without the local ones.
    fn pooled(&self) -> impl Iterator<Item = &Range> + Clone {
        self.ranges.values().filter(|range| !range.is_local())
    }

    /// Where a run of this name is open, or else its task's slice of the hash space.
    fn range_of(&self, id: &RunId) -> RangeId {
        let pinned = self.ranges.get(&RangeId::PINS);
        match pinned.is_some_and(|pins| pins.open.contains_key(id)) {
            _ if id.agent.is_some() => RangeId::BROADCAST,
            true => RangeId::PINS,
            false => self.desk.config.ranges.range_of(&id.task),
        }
    }

    /// The ranges of which there is a copy in the store, each with the revision that it has come
    /// to.
    pub fn copies(&self) -> impl Iterator<Item = (RangeId, Revision)> + '_ {
        let whole = self.pooled().filter(|range| range.has_copy());
        whole.map(|range| (range.id, range.copy.delivered))
    }

    fn oldest_due(&self) -> Option<Wall> {
        let now = self.desk.now.wall;
        let parked = self.ranges.values().filter_map(Range::oldest_parked);
        let queued = self.desk.ready.oldest_due();
        let asking = self.ranges.values().filter_map(|range| range.permits.oldest_asking());
        parked.chain(queued).chain(asking).map(|due| due.wall()).filter(|due| *due <= now).min()
    }
}
