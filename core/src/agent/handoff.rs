//! Handing a range on, and leaving. Stop starting, write a final ledger that lists everything and
//! delete the claim in the same transaction; what runs goes on here and is settled when it ends.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;
use crate::agent::desk::Desk;
use crate::agent::effect::{Effect, Notice, SettleKey, StoreOp};
use crate::agent::ledgering::AHEAD_WAIT;
use crate::agent::lull::Lull;
use crate::agent::range::{HandedOn, Hold, LeftRun, Phase, Range};
use crate::agent::runs::{end_of, settled_end};
use crate::ids::{RangeId, Revision, RunId};
use crate::ledger::{Entry, EntryState, Ledger};
use crate::ring::{Capacity, Duty};

/// Ranges that are handed off at the same time.
const AT_ONCE: usize = 16;
/// Membership has to be quiet for this long before a range moves...
const QUIET: Duration = Duration::from_secs(1);
/// ...unless it was to move this long ago.
const OVERDUE: Duration = Duration::from_secs(5);
/// A drain, or an agent that was asked to end, waits for no quiet, but so long with each range: its
/// next owner lists it meanwhile, and nothing that comes due waits for that.
const HEAD_START: Duration = Duration::from_secs(1);

impl Agent {
    /// Ranges that the ring gives to another go there, a few at a time.
    pub(super) fn hand_off(&mut self) {
        let now = self.desk.now.mono;
        let leaving = self.desk.leaving.is_some();
        if !self.desk.fleet.known() {
            return;
        }
        let me = self.desk.fleet.capacity(&self.desk.config.agent);
        let quiet = !leaving && now.since(self.desk.fleet.changed_at) >= QUIET;
        let hurried = leaving && self.desk.go_by <= now;
        if leaving && !hurried {
            self.desk.wake_by(self.desk.go_by);
        }
        let goes = leaving || me.duty == Duty::Draining;
        let patience = if goes { HEAD_START } else { OVERDUE };
        let under_way =
            self.ranges.values().filter(|r| matches!(r.hold, Hold::Leaving { .. })).count();
        let mut places = AT_ONCE.saturating_sub(under_way);
        for range in self.ranges.values_mut().filter(|range| !range.is_local()) {
            let Hold::Held { fence } = range.hold else { continue };
            let elsewhere = goes_elsewhere(&self.desk, me, range.id);
            range.elsewhere_since = elsewhere.then(|| range.elsewhere_since.unwrap_or(now));
            let overdue = range.elsewhere_since.is_some_and(|at| now.since(at) >= patience);
            // The ring has left this agent out, and nobody takes it: there is nobody to wait for.
            let alone = leaving && me.weight == 0 && !elsewhere;
            if !quiet && !overdue && !alone && !hurried {
                if let Some(since) = range.elsewhere_since {
                    self.desk.wake_by(since.plus(patience));
                }
                // What it had waited for a lull says nothing of when it may go again.
                range.lull = Lull::default();
                continue;
            }
            let ready = range.writer.answered.is_some()
                && range.writer.phase == Phase::Idle
                && range.hand_off_after <= now
                && range.ahead_of_others(&self.desk) <= AHEAD_WAIT
                && (self.desk.clock.verified() || self.desk.clock.off_since().is_some());
            if !elsewhere && !leaving {
                range.lull = Lull::default();
            } else if ready && places > 0 && (alone || hurried || range.is_in_lull(&mut self.desk))
            {
                range.hold = Hold::Leaving { fence, since: now };
                range.lull = Lull::default();
                places -= 1;
            }
        }
    }

    /// Asked to go: the ring leaves this agent out from now on.
    pub(super) fn leave(&mut self, deadline: Duration) {
        if self.desk.leaving.is_some() {
            return;
        }
        let now = self.desk.now.mono;
        self.desk.leaving = Some(now.plus(deadline));
        // The ring may be slow to say that it has left this agent out.
        self.desk.go_by = now.plus(OVERDUE.min(deadline.saturating_sub(HEAD_START)));
    }

    /// Whether this agent is to be drained, and may be stopped: the ring has left it out, it holds
    /// nothing, and all that it ran for others to go on with is settled. What is pinned to it goes
    /// on: nobody else can run that, and a stop in order waits for it.
    pub(super) fn drained(&self) -> bool {
        let told = self.desk.fleet.capacity(&self.desk.config.agent);
        told.duty == Duty::Draining && self.has_nothing()
    }

    /// It holds no range, and those that it held know the end of all that it ran.
    fn has_nothing(&self) -> bool {
        let mut ranges = self.pooled();
        ranges.all(|range| {
            range.hold == Hold::No && range.left_tickets().next().is_none() && !range.owes_settles()
        })
    }

    /// When the last range is gone and all that was left is settled, the session ends.
    pub(super) fn leave_when_done(&mut self) {
        let Some(deadline) = self.desk.leaving else { return };
        if self.desk.session.live().is_none() {
            // Nothing is held without a session; only what runs is waited for.
            let idle = self.desk.running == 0 && self.pins_are_left();
            let idle = idle || self.desk.now.mono > deadline;
            let asked = matches!(
                self.desk.session.stage,
                crate::agent::session::Stage::Revoking | crate::agent::session::Stage::Gone
            );
            if idle && !asked {
                self.revoke();
            }
            return;
        }
        let late = self.desk.now.mono > deadline;
        if late {
            self.desk.wake_by(deadline.plus(Duration::from_secs(2)));
            let running: Vec<_> = self.ranges.values().flat_map(Range::left_tickets).collect();
            for ticket in running {
                self.desk.effect(Effect::Cancel { ticket });
            }
            self.cancel_pins();
        }
        let over = self.desk.now.mono > deadline.plus(Duration::from_secs(2));
        if self.has_nothing() && self.pins_are_left() || over {
            self.revoke();
        }
    }
}

/// Whether a range that is held here is to go to another agent. One that cannot carry it goes to
/// whoever can, also to a last resort; one that is cordoned keeps what it has; and where nobody
/// takes any, a drain waits until somebody does, as a range is better off with a drained agent than
/// with none.
fn goes_elsewhere(desk: &Desk, me: Capacity, range: RangeId) -> bool {
    let ring = &desk.fleet.ring;
    let to = match me.duty {
        _ if me.weight == 0 => ring.owner(range),
        Duty::Cordoned => None,
        Duty::Full | Duty::Draining => ring.taker(range),
    };
    to.is_some_and(|agent| *agent != desk.config.agent)
}

impl Range {
    /// The final ledger is answered under this fence: what I ended is settled, but for what ended
    /// after it was written, and what goes on here.
    pub(super) fn note_handed_on(&mut self, ledger: &Ledger) {
        let Some(fence) = self.fence() else { return };
        let mine = |entry: &&Entry| {
            let run = self.open.get(&entry.run);
            let known = run.is_some_and(|run| run.ended() || run.ticket().is_some());
            entry.state != EntryState::Ended && known
        };
        let listed = ledger.open.iter().filter(mine).map(|entry| entry.run.clone());
        // One with a key of its own is not listed before it starts: it may have ended meanwhile.
        let said = |id: &RunId| ledger.open.iter().any(|entry| entry.run == *id);
        let keyed = self.open.iter().filter(|(_, run)| run.ended() && run.key.is_some());
        let unsaid = keyed.map(|(id, _)| id.clone()).filter(|id| !said(id));
        let not_ended = listed.chain(unsaid).collect();
        self.handed_on = Some(HandedOn { fence, not_ended });
    }

    /// The final ledger is answered, or nobody can know whether it was written.
    pub(super) fn handed_off(&mut self, desk: &mut Desk, ledger: &Ledger, at: Revision) {
        self.left_at = at;
        // What ended after the snapshot is still listed as left running: its end has to be said.
        for entry in &ledger.open {
            let Some(run) = self.open.get(&entry.run) else { continue };
            let end = run.attempts.last().and_then(|attempt| attempt.end.as_ref());
            if let (EntryState::Held { .. }, Some(end)) = (entry.state, end)
                && run.attempts.last().is_some_and(|attempt| attempt.attempt == entry.attempt)
            {
                let key = SettleKey { run: entry.run.clone(), attempt: entry.attempt };
                // The final ledger's own sync came before this end: wait for the next.
                desk.sync_wanted = true;
                let (settled, batch) = (settled_end(end), desk.batch());
                // One that was to be tried again has no record of its end yet; whether it is tried
                // is up to the next holder.
                if !run.ended() {
                    let (state, reason) = end_of(end);
                    let mut record = run.record(desk, &entry.run, entry.attempt.fence, state);
                    record.reason = reason;
                    desk.keep(Arc::new(record));
                    let (range, run) = (self.id, entry.run.clone());
                    desk.store(StoreOp::CloseRun { range, run });
                }
                self.left.insert(key, LeftRun::Ended { end: settled, batch });
            }
        }
        desk.notice(Notice::HandedOff { range: self.id });
        self.release(desk);
    }

    /// The watch shows the claim gone while a final ledger is under way: its answer, or the read
    /// back, will say whether that was its doing; if another has it, nothing is left to wait for.
    pub(super) fn left_seen(&mut self, desk: &mut Desk) {
        if matches!(self.writer.phase, Phase::Idle | Phase::Syncing { .. }) {
            self.lose(desk);
        }
    }

    fn left_tickets(&self) -> impl Iterator<Item = crate::agent::effect::Ticket> + '_ {
        self.left.values().filter_map(|left| match left {
            LeftRun::Running(run) => run.ticket(),
            LeftRun::Ended { .. } => None,
        })
    }
}
