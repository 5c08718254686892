//! Local ranges: the tasks that are pinned to this agent, and its share of those of every agent.
//! Only its host can run them, so nobody claims them and there is no licence to lose: each is a
//! range of its own (`RangeId::PINS`, `RangeId::BROADCAST`), held as long as the process lives,
//! whose ledger is kept in the agent's store and answered when it is on disk. All that is decided
//! about what is due, open, tried again or made up for is decided as in any range.
//!
//! So they go on while the shared state cannot be reached, also in a process that is started then:
//! it takes up the ledger of the process before, which this store keeps, and goes on from what that
//! one wrote down (as `adopt` does). What it learns late, an edit or a delete, comes by the watch.
//! That the watch of what is pinned is whole is proved by a key that the agent puts every 10 s; of
//! what is broadcast, by the common beat.
//!
//! A store that has no such ledger is new, or the old one was lost: then what was due before is
//! unknown. What is pinned is taken as not run, within the catch-up window, and what may start only
//! once is `lost` up to the birth of the store, when its agent registered. What `broadcast` does is
//! told there.
//!
//! When the cluster's epoch was raised the ledger is gone on from all the same, since the store was
//! not put back with the shared state. Only the tasks themselves are listed anew first.

use std::time::Duration;

use crate::agent::Agent;
use crate::agent::adopt::Own;
use crate::agent::desk::{Call, Desk};
use crate::agent::effect::{
    Effect, Interest, Notice, PinsRecord, ShareRequest, StoreOp, WriteKind,
};
use crate::agent::open::OpenRun;
use crate::agent::permits::PermitsDue;
use crate::agent::range::{Hold, Phase, Range};
use crate::ids::{Epoch, Fence, RangeId, Revision, RunKey};
use crate::ledger::{Entry, Ledger};
use crate::limits;
use crate::run::life::Stage;
use crate::task::Task;
use crate::time::{Mono, Wall};

/// How often the agent puts the key that its watch must bring.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// How often a ledger is kept while there is something to say.
const KEEP_EVERY: Duration = Duration::from_secs(1);

pub(super) const BEFORE_STORE: &str = "this agent's store is younger than that: it may have run, \
                                       and nobody starts it again";

/// What the processes before left in this store of a local range.
#[derive(Clone, PartialEq, Debug)]
pub struct PinsBefore {
    /// When this store began to know of it.
    pub born: Wall,
    /// What the watch had come to.
    pub delivered: Revision,
    pub ledger: Ledger,
    /// Nothing can be lost of what the process before wrote since: it is the same boot.
    pub intact: bool,
}

/// What a local range has beside all that a range has.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    pub born: Wall,
    /// Entries of runs that were asked for by hand: whether their keys are still there is known
    /// when the shared state was listed. Until then they are listed as they are.
    carried: Vec<Entry>,
    /// The fence under which the process before wrote, and whether nothing of it is lost.
    carried_from: (Fence, bool),
    beat_sent: Option<Mono>,
}

impl Agent {
    /// Takes up the local ranges, and shows that their watches are whole.
    pub(super) fn keep_pins(&mut self) {
        let desk = &mut self.desk;
        for range in self.ranges.values_mut().filter(|range| range.is_local()) {
            range.keep_local(desk);
            // Beside the places of the pool's ranges: there are two of them.
            range.scan(desk, &mut 1);
            range.want_triggers(desk);
            range.beat_pins(desk);
        }
    }

    /// Keeps the ledgers of the local ranges, when they have something to say.
    pub(super) fn write_pins(&mut self) {
        for range in self.ranges.values_mut().filter(|range| range.is_local()) {
            let (Some(fence), Phase::Idle) = (range.fence(), &range.writer.phase) else { continue };
            let last = matches!(range.hold, Hold::Leaving { .. });
            // The next process reads by the fence of the last ledger, and not all is read yet.
            if range.own.is_none() && range.pins_due(&mut self.desk) {
                range.prepare(&mut self.desk, fence, last);
            }
        }
    }

    /// Ends what still runs of the local ranges: the agent leaves.
    pub(super) fn cancel_pins(&mut self) {
        let local = self.ranges.values().filter(|range| range.is_local());
        let tickets = local.flat_map(|range| range.open.values().filter_map(OpenRun::ticket));
        for ticket in tickets {
            self.desk.effect(Effect::Cancel { ticket });
        }
    }

    /// Whether nothing of the local ranges runs, or may start.
    pub(super) fn pins_are_left(&self) -> bool {
        self.ranges.values().filter(|range| range.is_local()).all(|range| range.hold == Hold::No)
    }
}

/// A fence above all that this agent had, also in a store that is lost: by the clock.
fn next_fence(epoch: Epoch, now: Wall, before: Fence) -> Fence {
    let revision = Revision(now.instant().millis()).max(before.revision.next());
    Fence { epoch, revision }
}

impl Range {
    pub fn local(id: RangeId) -> Range {
        Range { pins: Some(Box::default()), ..Range::new(id) }
    }

    /// Held for as long as the process lives, by nobody's leave.
    pub fn is_local(&self) -> bool {
        self.pins.is_some()
    }

    fn keep_local(&mut self, desk: &mut Desk) {
        if self.interest == Interest::Nothing {
            self.interest = Interest::Whole;
            desk.effect(Effect::Follow { range: self.id, interest: Interest::Whole });
        }
        match self.hold {
            Hold::No if desk.leaving.is_none() => {
                if let Some(before) = desk.config.pins.remove(&self.id) {
                    self.take_up_pins(desk, before);
                } else if self.copy.listed && desk.session.session().is_some() {
                    // With a session it is known that no other agent has this name.
                    self.begin_pins(desk);
                }
            }
            Hold::Held { fence } if desk.leaving.is_some() => {
                self.hold = Hold::Leaving { fence, since: desk.now.mono };
            }
            _ => {}
        }
    }

    fn take_up_pins(&mut self, desk: &mut Desk, before: PinsBefore) {
        let PinsBefore { born, delivered, ledger, intact } = before;
        let by_hand = |entry: &&Entry| matches!(entry.run.run, RunKey::Manual(_));
        if let Some(pins) = &mut self.pins {
            pins.born = born;
            pins.carried = ledger.open.iter().filter(by_hand).cloned().collect();
            pins.carried_from = (ledger.fence, intact);
        }
        // In another epoch revisions have come again: what is there is listed before anything is
        // decided.
        self.copy.listed = ledger.fence.epoch == desk.config.epoch;
        self.copy.delivered = if self.copy.listed { delivered } else { Revision(0) };
        self.copy.stamp = desk.next_stamp();
        self.hold_pins(desk, ledger.fence, &ledger);
        self.inherit(desk, &ledger);
        self.own = Some(Own::kept_here(&ledger, intact));
        desk.notice(Notice::Pinned { range: self.id, restored: true });
    }

    /// This store knows nothing yet of this range.
    fn begin_pins(&mut self, desk: &mut Desk) {
        // Nobody else has had this name since it registered, and it has run nothing here.
        let registered = desk.session.registered.unwrap_or(desk.now.mono);
        let born = desk.now.wall.minus(desk.now.mono.since(registered));
        let delivered = self.copy.delivered;
        if let Some(pins) = &mut self.pins {
            pins.born = born;
        }
        desk.store(StoreOp::Pins(self.id, PinsRecord::Born(born)));
        desk.store(StoreOp::Pins(self.id, PinsRecord::Delivered(delivered)));
        let nothing = self.blank(desk, born);
        self.hold_pins(desk, nothing.fence, &nothing);
        desk.notice(Notice::Pinned { range: self.id, restored: false });
    }

    fn hold_pins(&mut self, desk: &mut Desk, before: Fence, ledger: &Ledger) {
        self.restart_window(desk, ledger.marks);
        self.window.decided_names.clear();
        desk.store(StoreOp::ClearDue { range: self.id });
        let fence = next_fence(desk.config.epoch, desk.now.wall, before);
        self.hold = Hold::Held { fence };
        self.fence_taken = fence;
        self.writer.marks = ledger.marks;
        self.writer.dirty = true;
        self.writer.urgent = true;
    }

    /// A list is whole: it has told which triggers there are. Those of the ledger that was taken up
    /// are runs again, as far as their keys are there.
    pub(super) fn pins_listed(&mut self, desk: &mut Desk) {
        let revision = self.copy.delivered;
        desk.store(StoreOp::Pins(self.id, PinsRecord::Delivered(revision)));
        let Some(pins) = self.pins.as_mut().filter(|pins| !pins.carried.is_empty()) else { return };
        let open = std::mem::take(&mut pins.carried);
        let (fence, intact) = pins.carried_from;
        let ledger = Ledger { fence, open, ..Ledger::empty() };
        self.inherit(desk, &ledger);
        if self.own.is_none() {
            self.own = Some(Own::of_triggers(&ledger, intact));
        }
        self.writer.dirty = true;
    }

    /// What the store has to know of a ledger before it is sent (L4), or in place of that.
    pub(super) fn row_of(&self, desk: &Desk, ledger: &Ledger) -> StoreOp {
        if self.is_local() {
            return StoreOp::Pins(self.id, PinsRecord::Ledger(ledger.clone()));
        }
        // Killed before this one is in etcd, a process that comes after finds an older one there.
        let before = match self.writer.answered {
            Some(_) => &[],
            None => desk.former_numbers(self.id),
        };
        let mut before = before.to_vec();
        // The last one is of the process that was answered last: the likeliest to be in etcd.
        if before.len() > limits::FORMER_NUMBERS_MAX {
            before.drain(limits::FORMER_NUMBERS_MAX - 1..before.len() - 1);
        }
        StoreOp::LedgerNumber { range: self.id, number: ledger.number, before }
    }

    /// Entries that a ledger says again, as nothing is known of them yet.
    pub(super) fn carried(&self) -> &[Entry] {
        self.pins.as_ref().map_or(&[], |pins| &pins.carried)
    }

    /// What the watch has come to, for a process that begins without one.
    pub(super) fn pins_delivered(&self, desk: &mut Desk, revision: Revision) {
        if self.fence().is_some() {
            desk.store(StoreOp::Pins(self.id, PinsRecord::Delivered(revision)));
        }
    }

    /// Of a list that broke off the store has a part. A task of that part is none yet: marks may
    /// cover it that know nothing of it.
    pub(super) fn is_known(&self, task: &Task) -> bool {
        !self.is_local() || task.incarnation.revision <= self.copy.delivered
    }

    fn beat_pins(&mut self, desk: &mut Desk) {
        if self.is_broadcast() {
            return;
        }
        let (Some(session), Some(pins)) = (desk.session.session(), self.pins.as_mut()) else {
            return;
        };
        let next = pins.beat_sent.map_or(Mono::default(), |sent| sent.plus(BEAT_EVERY));
        if next <= desk.now.mono {
            pins.beat_sent = Some(desk.now.mono);
            desk.share(Call::PinsBeat, ShareRequest::PinsBeat { session });
        } else {
            desk.wake_by(next);
        }
    }

    fn pins_due(&mut self, desk: &mut Desk) -> bool {
        if matches!(self.hold, Hold::Leaving { .. }) {
            let goes_on =
                |run: &OpenRun| matches!(run.stage, Stage::Opening { .. } | Stage::Running { .. });
            return !self.open.values().any(goes_on);
        }
        let permits = self.permits_due(desk);
        if self.writer.urgent || permits == PermitsDue::Now {
            return true;
        }
        let owes = !self.writer.marks.cover(self.writer.owed.through, self.writer.owed.incarnation);
        let dirty = self.writer.dirty || owes || permits == PermitsDue::Soon;
        if !dirty && !self.put_off_is_covered(desk) {
            return false;
        }
        // A large one is written less often (L8).
        let size = self.writer.bytes / limits::LEDGER_BYTES_CALM;
        let calm = KEEP_EVERY * u32::try_from(size).unwrap_or(u32::MAX).max(1);
        let at = self.writer.ledger_sent.plus(calm);
        desk.wake_by(at);
        at <= desk.now.mono
    }

    /// What is over and was put off by an edit is settled when the marks pass its new due, and
    /// nothing else may happen here until then.
    fn put_off_is_covered(&self, desk: &mut Desk) -> bool {
        let Some((due, incarnation)) = self.writer.put_off else { return false };
        let left = due.wall().since(desk.now.wall);
        desk.wake_by(desk.now.mono.plus(left.max(KEEP_EVERY)));
        left.is_zero() && self.marks(desk).cover(due, incarnation)
    }

    /// The ledger is on disk, which is all the answer that it gets.
    pub(super) fn pins_synced(&mut self, desk: &mut Desk) {
        let Phase::Syncing { prepared, .. } =
            std::mem::replace(&mut self.writer.phase, Phase::Idle)
        else {
            return;
        };
        self.writer.ledger_sent = desk.now.mono;
        match prepared.kind {
            // What came to an end meanwhile is in the store, and the next process finds it there.
            WriteKind::Final { .. } => self.release(desk),
            _ => self.written(desk, prepared, Revision(0)),
        }
    }
}
