//! What followers are told of runs: each change as it comes, and later that an end is settled.
//!
//! The end of a run is told at once, as provisional, since nobody wants to wait for the ledger. So
//! those ends that a follower was told of, or shown in a list, are remembered until the core says
//! that they are settled, and are then told again with that one difference. Nobody is told of what
//! nobody wants: while no coordinator is interested nothing is remembered.
//!
//! The ledgers of many ranges move each second, each at its own time, and a look at one run is some
//! hash and two look-ups. So the remembered are asked about in rounds, one a second, in slices that
//! the loop does not feel. Matching runs against marks as they move would tell it half a second
//! sooner, for an index by range and a path through the core of its own.
//!
//! Three kinds are let go without having been told: what another holder may have overtaken, what
//! has not been settled for very long (a ledger that is never written), and what is too much. A
//! follower that is owed such a word is told that it missed something, and takes a fresh snapshot,
//! which says of each run how it is now. To call them settled would be a lie, and to say nothing
//! would leave them provisional for ever. But snapshots cost more than events: an agent that is at
//! its bound for long says so only now and then, or its followers would do nothing else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tocktower_core::agent::Settled;
use tocktower_core::ids::RunId;
use tocktower_core::run::RunRecord;

use super::feed::{Feeds, size};
use super::limits::{
    SETTLE_LOOKS_MAX, SETTLE_ROUNDS_MAX, UNSETTLED_BYTES_MAX, UNSETTLED_MAX, UNTOLD_ROUNDS,
};

/// The loop's way to tell followers. It belongs to the loop alone, as nothing here locks.
pub struct Telling {
    feeds: Arc<Feeds>,
    unsettled: Unsettled,
    /// Rounds until followers may be told again of what was let go.
    quiet: u32,
}

impl Telling {
    pub(super) fn new(feeds: Arc<Feeds>) -> Telling {
        Telling { feeds, unsettled: Unsettled::default(), quiet: 0 }
    }

    /// A run as it is after a change.
    pub fn changed(&mut self, run: Arc<RunRecord>) {
        if !self.feeds.wanted() {
            return;
        }
        if !run.state.is_end() {
            self.unsettled.forget(&run.id);
        }
        let wanted = self.feeds.report(&run);
        if wanted && run.provisional && run.state.is_end() {
            self.remember(run);
        }
    }

    /// These are shown to somebody who may follow: a snapshot is made of lists.
    pub fn shown(&mut self, runs: &[RunRecord]) {
        if !self.feeds.wanted() {
            return;
        }
        let provisional = |run: &&RunRecord| run.provisional && run.state.is_end();
        for run in runs.iter().filter(provisional).filter(|run| self.feeds.want(&run.id)) {
            if !self.unsettled.knows(run) {
                for gone in self.unsettled.remember(Arc::new(run.clone())) {
                    self.feeds.leave_untold(&gone.id);
                }
            }
        }
    }

    /// Asks of some that are remembered whether they are settled, and tells it of those that are.
    /// `round`: another second has passed.
    pub fn look_again(&mut self, round: bool, settled: impl FnMut(&RunRecord) -> Settled) {
        if !self.feeds.wanted() {
            self.unsettled.clear();
            return;
        }
        if round {
            self.unsettled.begin_round();
        }
        self.look(SETTLE_LOOKS_MAX, settled);
        if !round {
            return;
        }
        self.quiet = self.quiet.saturating_sub(1);
        if self.quiet == 0 && self.feeds.tell_untold() {
            self.quiet = UNTOLD_ROUNDS;
        }
    }

    /// The agent ends: what is settled by now is told, and that the rest will not be.
    pub fn close(&mut self, settled: impl FnMut(&RunRecord) -> Settled) {
        self.unsettled.begin_round();
        self.look(usize::MAX, settled);
        for gone in self.unsettled.clear() {
            self.feeds.leave_untold(&gone.id);
        }
        self.feeds.tell_untold();
    }

    fn look(&mut self, most: usize, settled: impl FnMut(&RunRecord) -> Settled) {
        let Looked { settled, let_go } = self.unsettled.look(most, settled);
        for run in settled {
            let run = RunRecord { provisional: false, ..Arc::unwrap_or_clone(run) };
            self.feeds.report(&Arc::new(run));
        }
        for gone in let_go {
            self.feeds.leave_untold(&gone.id);
        }
    }

    fn remember(&mut self, run: Arc<RunRecord>) {
        for gone in self.unsettled.remember(run) {
            self.feeds.leave_untold(&gone.id);
        }
    }
}

/// Ends that were told as provisional: the newest of each run.
#[derive(Default)]
struct Unsettled {
    runs: HashMap<RunId, Ending>,
    /// In the order in which they are looked at. One that was forgotten stays until its turn.
    queue: VecDeque<RunId>,
    bytes: usize,
    /// So many of the queue are still to be looked at in this round.
    round: usize,
}

struct Ending {
    run: Arc<RunRecord>,
    /// Since this account of it came: a span grows, and is told of anew each time.
    looks: u32,
}

#[derive(Default)]
struct Looked {
    settled: Vec<Arc<RunRecord>>,
    /// Nothing can be told of them any more.
    let_go: Vec<Arc<RunRecord>>,
}

impl Unsettled {
    /// Remembers an end, and gives back those that had to go for it: the ones that have waited
    /// longest for a look.
    fn remember(&mut self, run: Arc<RunRecord>) -> Vec<Arc<RunRecord>> {
        self.bytes += size(&run);
        let id = run.id.clone();
        match self.runs.insert(id.clone(), Ending { run, looks: 0 }) {
            Some(older) => self.bytes -= size(&older.run),
            None => self.queue.push_back(id),
        }
        let mut gone = Vec::new();
        while self.queue.len() > UNSETTLED_MAX || self.bytes > UNSETTLED_BYTES_MAX {
            let Some(first) = self.queue.pop_front() else { break };
            self.round = self.round.saturating_sub(1);
            gone.extend(self.remove(&first));
        }
        gone
    }

    /// Whether this account, or one that counts more, is remembered.
    fn knows(&self, run: &RunRecord) -> bool {
        self.runs.get(&run.id).is_some_and(|known| known.run.fence >= run.fence)
    }

    /// It goes on: it was started again.
    fn forget(&mut self, run: &RunId) {
        self.remove(run);
    }

    fn begin_round(&mut self) {
        self.round = self.queue.len();
    }

    fn look(&mut self, most: usize, mut settled: impl FnMut(&RunRecord) -> Settled) -> Looked {
        let mut looked = Looked::default();
        for _ in 0..self.round.min(most) {
            self.round -= 1;
            let Some(id) = self.queue.pop_front() else { break };
            let Some(ending) = self.runs.get_mut(&id) else { continue };
            ending.looks += 1;
            let settled = settled(&ending.run);
            if settled == Settled::NotYet && ending.looks < SETTLE_ROUNDS_MAX {
                self.queue.push_back(id);
                continue;
            }
            let over = match settled {
                Settled::Here => &mut looked.settled,
                Settled::NotYet | Settled::Elsewhere => &mut looked.let_go,
            };
            over.extend(self.runs.remove(&id).map(|ending| ending.run));
            self.bytes -= over.last().map_or(0, |run| size(run));
        }
        looked
    }

    fn clear(&mut self) -> Vec<Arc<RunRecord>> {
        self.queue.clear();
        self.bytes = 0;
        self.round = 0;
        self.runs.drain().map(|(_, ending)| ending.run).collect()
    }

    fn remove(&mut self, run: &RunId) -> Option<Arc<RunRecord>> {
        let gone = self.runs.remove(run)?.run;
        self.bytes -= size(&gone);
        Some(gone)
    }
}
