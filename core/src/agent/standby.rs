//! Which ranges are watched, and how much of each: all of those that are held or are to be held,
//! and of those that this agent would have if their owner were gone (it is their *standby*); of
//! others the claim alone.
//!
//! A standby keeps a copy of its ranges in its store: the records of their tasks, listed once and
//! then followed by the watch. It decides nothing, and has nothing of them in memory but what every
//! watched range has: claim, ledger, triggers and settle keys. So a takeover lists nothing from the
//! shared state, which would bring some 35,000 tasks a second and take ten seconds for a third of a
//! million; it reads the copy.
//!
//! Copies are made in the background: one range at a time, at a bounded rate of tasks, and not
//! while a range that this agent holds or is to hold is not ready. What was copied stays as long as
//! the ring has this agent among a range's first two, whether as owner or as standby.
//!
//! A holder proves its watch by its own writes. A standby has none, but the holder's beats are as
//! good for this: a range that is held and brings nothing for two lease times has a watch that
//! keeps silent (W3), and it is opened again. So is one that shows no holder while claims of mine
//! are refused.

use std::time::Duration;

use crate::agent::Agent;
use crate::agent::desk::Desk;
use crate::agent::effect::{Effect, Interest, StoreOp};
use crate::agent::input::ClaimSeen;
use crate::agent::range::Range;
use crate::agent::rules::Rule;
use crate::ids::Session;
use crate::limits;
use crate::time::Mono;

/// The rank in a range's ranking of its standby.
const STANDBY: usize = 1;
/// How long a watch may keep silent at most: what is compacted is at least as old.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How the copies are coming along.
#[derive(Debug, Default)]
pub(crate) struct Standbys {
    /// The next list may begin: those before have had their share of time.
    next_list: Mono,
    /// Whole ranges that were listed to be held: a start may have waited for that.
    pub range_lists: u64,
}

/// How long a range's watch has brought nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Silence {
    since: Mono,
    /// How often it was opened again for it: a holder whose lease lives longer than mine writes
    /// more rarely, so each time more is allowed.
    reopened: u32,
    /// A claim of mine was refused: somebody holds the range, whatever the watch has said.
    refused: bool,
}

impl Silence {
    pub fn broken(&mut self, now: Mono) {
        self.since = now;
        self.refused = false;
    }

    /// The watch owes the claim that mine met.
    pub fn claim_refused(&mut self, now: Mono) {
        if !std::mem::replace(&mut self.refused, true) {
            self.since = now;
        }
    }

    /// When it has lasted too long.
    fn until(&self, ttl: Duration) -> Mono {
        let allowed = ttl * 2 * 2_u32.saturating_pow(self.reopened.min(10));
        self.since.plus(allowed.min(SILENCE_MAX.max(ttl * 2)))
    }
}

impl Agent {
    /// Follows of each range as much as the ring wants.
    pub(super) fn follow_ranges(&mut self) {
        let desk = &mut self.desk;
        let me = desk.session.session();
        let mut free = desk.standbys.next_list <= desk.now.mono;
        let mut pooled = self.ranges.values().filter(|range| !range.is_local());
        free &= pooled.all(|range| range.leaves_room(me));
        for range in self.ranges.values_mut().filter(|range| !range.is_local()) {
            let wanted = match range.rank {
                Some(0) => Interest::Whole,
                _ if range.is_mine(me) => Interest::Whole,
                Some(STANDBY) if range.interest == Interest::Whole => Interest::Whole,
                Some(STANDBY) if std::mem::take(&mut free) => Interest::Whole,
                Some(_) => Interest::Claim,
                None => Interest::Nothing,
            };
            range.follow(desk, wanted);
            range.look_at_watch(desk, me);
        }
        if desk.standbys.next_list > desk.now.mono {
            desk.wake_by(desk.standbys.next_list);
        }
    }
}

impl Range {
    /// Whatever the ring says.
    fn is_mine(&self, me: Option<Session>) -> bool {
        self.busy() || self.claimed_by(me)
    }

    /// Whether a standby may begin to list another range: this one is neither on its way to be held
    /// nor being listed for a standby already.
    fn leaves_room(&self, me: Option<Session>) -> bool {
        if self.rank != Some(0) && !self.is_mine(me) {
            return self.interest != Interest::Whole || self.copy.listed;
        }
        let held = self.fence().is_some();
        let claims = self.copy.claim.is_none() || self.claimed_by(me) && self.is_readable();
        let ready = if held { self.window.scanned } else { !claims };
        self.copy.listed && ready
    }

    fn follow(&mut self, desk: &mut Desk, wanted: Interest) {
        // A process that comes after another finds its copies in the store, and lists them anew.
        let keeps = wanted == Interest::Whole || self.rank == Some(STANDBY);
        if self.stored && !keeps {
            desk.store(StoreOp::DropRange { range: self.id });
            self.stored = false;
        }
        self.stored |= wanted == Interest::Whole;
        if wanted != self.interest {
            self.interest = wanted;
            self.forget_copy();
            self.silence = Silence { since: desk.now.mono, ..Silence::default() };
            desk.effect(Effect::Follow { range: self.id, interest: wanted });
        }
    }

    /// The whole range is listed: the next list of a standby is put off for as long as this one
    /// may take at the rate that is allowed.
    pub(super) fn copied(&mut self, desk: &mut Desk) {
        desk.standbys.range_lists += u64::from(self.rank != Some(STANDBY));
        let micros = u64::try_from(self.copy.tasks).unwrap_or(u64::MAX).saturating_mul(1_000_000);
        let share = Duration::from_micros(micros / limits::STANDBY_TASKS_PER_S);
        let first = desk.standbys.next_list.max(self.copy.list_sent.mono);
        desk.standbys.next_list = first.plus(share);
    }

    /// The watch of a range that another holds has to bring something: its holder writes, unless
    /// what it found there cannot be read.
    fn look_at_watch(&mut self, desk: &mut Desk, me: Option<Session>) {
        let others = |claim: &ClaimSeen| Some(claim.session) != me;
        let claim = self.copy.claim.as_ref();
        let held = claim.map_or(self.silence.refused, others) && self.is_readable();
        if !held || !self.stands_by() || !desk.holds(Rule::Silence) {
            return;
        }
        let at = self.silence.until(desk.session.proof.map_or(desk.config.ttl, |proof| proof.ttl));
        if at <= desk.now.mono {
            let reopened = self.silence.reopened.saturating_add(1);
            self.silence = Silence { since: desk.now.mono, reopened, ..self.silence };
            desk.effect(Effect::Reopen { range: self.id });
        } else {
            desk.wake_by(at);
        }
    }

    /// Whether there is a copy of it that only waits to be needed.
    pub(super) fn stands_by(&self) -> bool {
        self.has_copy() && self.fence().is_none()
    }

    /// A range whose ledger is not is left as it is.
    fn is_readable(&self) -> bool {
        self.copy.ledger.as_ref().is_none_or(|seen| seen.ledger.is_ok())
    }

    pub(super) fn has_copy(&self) -> bool {
        self.interest == Interest::Whole && self.copy.listed
    }
}
