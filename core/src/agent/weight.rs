//! How much this agent should carry: its weight as configured or as an operator has set it, or
//! nothing at all while it leaves, while its disk has no room, and while its clock is known to be
//! wrong. The session key tells the others, and the ring does the rest: it leaves the agent out,
//! the ranges go over in order, and they come back when the trouble is over.
//!
//! An agent that is cordoned or drained tells that in the same way. What an operator asks lies in a
//! record that only this agent reads: so the ring follows from the sessions alone, and a session
//! that tells of a drain is the word of the agent itself that it knows.
//!
//! A range that the agent could not run is worse with it than with anybody else. So what cannot be
//! handed over in order by a host whose clock is wrong (its marks may stand in the future, and wait
//! there) is given up with the session: a repeat is what at-least-once allows, a stop is not.

use std::time::Duration;

use crate::agent::Agent;
use crate::agent::desk::Call;
use crate::agent::effect::{Notice, ShareRequest};
use crate::agent::input::{Asked, ShareAnswer};
use crate::limits;
use crate::ring::Capacity;
use crate::time::Mono;

const RETRY: Duration = Duration::from_millis(200);

/// What the session key says of the capacity.
#[derive(Debug, Default)]
pub(crate) struct CapacityTold {
    /// As it was last answered. `None`: it is not known.
    told: Option<Capacity>,
    /// The key was asked for, perhaps more than once.
    asked: bool,
    telling: bool,
    not_before: Mono,
}

impl CapacityTold {
    /// The key says so, by an answer.
    pub fn known(told: Capacity) -> CapacityTold {
        CapacityTold { told: Some(told), asked: true, ..CapacityTold::default() }
    }

    /// The key is asked for with this capacity. Of two attempts that differ in it nobody knows
    /// which one made it.
    pub fn registering(&mut self, capacity: Capacity) {
        let clear = !self.asked || self.told == Some(capacity);
        self.told = clear.then_some(capacity);
        self.asked = true;
    }
}

impl Agent {
    pub(super) fn disk(&mut self, free: bool) {
        if self.desk.disk_free != free {
            self.desk.disk_free = free;
            self.desk.notice(if free { Notice::DiskFree } else { Notice::DiskLow });
        }
    }

    /// Has the session key say what the agent can carry.
    pub(super) fn keep_weight(&mut self) {
        self.give_up_when_off();
        let Some((lease, session)) = self.desk.session.live() else { return };
        let capacity = self.desk.capacity();
        let told = &mut self.desk.session.told;
        if told.telling || told.told == Some(capacity) {
            return;
        }
        let not_before = told.not_before;
        if not_before > self.desk.now.mono {
            self.desk.wake_by(not_before);
            return;
        }
        told.telling = true;
        let (coming, since) = (self.desk.session.coming, self.desk.session.since);
        let request = ShareRequest::Reweigh { session, lease, capacity, since };
        self.desk.share(Call::Reweigh { coming, capacity }, request);
    }

    /// An answer that is lost may have been a yes: putting it again does no harm.
    pub(super) fn reweighed(&mut self, capacity: Capacity, answer: &ShareAnswer) {
        let not_before = self.desk.now.mono.plus(RETRY);
        let told = match answer {
            ShareAnswer::Done => Some(capacity),
            _ => None,
        };
        self.desk.session.told = CapacityTold { told, asked: true, telling: false, not_before };
    }

    /// What an operator asks of this agent, from its watch or because a registration went by what
    /// was asked before.
    pub(super) fn asked(&mut self, asked: Asked) {
        let before = std::mem::replace(&mut self.desk.fleet.asked, asked);
        if before.duty != asked.duty {
            self.desk.notice(Notice::Duty { duty: asked.duty });
        }
    }

    fn give_up_when_off(&mut self) {
        let Some(since) = self.desk.clock.off_since() else { return };
        let by = since.plus(limits::CLOCK_OFF_WAIT);
        let holds = self.held().next().is_some();
        if !holds || !self.others_can() {
            return;
        }
        if by > self.desk.now.mono {
            self.desk.wake_by(by);
            return;
        }
        self.desk.notice(Notice::GaveUp);
        self.come_as_stranger();
    }

    /// Whether there is anybody in the pool to take a range over.
    fn others_can(&self) -> bool {
        let me = &self.desk.config.agent;
        let owners = self.ranges.keys().filter_map(|range| self.desk.fleet.ring.owner(*range));
        owners.into_iter().any(|owner| owner != me)
    }
}
