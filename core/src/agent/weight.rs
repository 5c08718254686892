//! How much this agent should carry: its weight as configured, or nothing at all while it leaves,
//! while its disk has no room, and while its clock is known to be wrong. The session key tells the
//! others, and the ring does the rest: it leaves the agent out, the ranges go over in order, and
//! they come back when the trouble is over.
//!
//! A range that the agent could not run is worse with it than with anybody else. So what cannot be
//! handed over in order by a host whose clock is wrong (its marks may stand in the future, and wait
//! there) is given up with the session: a repeat is what at-least-once allows, a stop is not.

use std::time::Duration;

use crate::agent::Agent;
use crate::agent::desk::Call;
use crate::agent::effect::{Notice, ShareRequest};
use crate::agent::input::ShareAnswer;
use crate::limits;
use crate::time::Mono;

const RETRY: Duration = Duration::from_millis(200);

/// What the session key says of the weight.
#[derive(Debug, Default)]
pub(crate) struct WeightTold {
    /// As it was last answered. `None`: it is not known.
    told: Option<u32>,
    /// The key was asked for, perhaps more than once.
    asked: bool,
    telling: bool,
    not_before: Mono,
}

impl WeightTold {
    /// The key is asked for with this weight. Of two attempts with two weights nobody knows which
    /// one made it.
    pub fn registering(&mut self, weight: u32) {
        let clear = !self.asked || self.told == Some(weight);
        self.told = clear.then_some(weight);
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
        let weight = self.desk.weight();
        let told = &mut self.desk.session.weight;
        if told.telling || told.told == Some(weight) {
            return;
        }
        let not_before = told.not_before;
        if not_before > self.desk.now.mono {
            self.desk.wake_by(not_before);
            return;
        }
        told.telling = true;
        let coming = self.desk.session.coming;
        let request = ShareRequest::Reweigh { session, lease, weight };
        self.desk.share(Call::Reweigh { coming, weight }, request);
    }

    /// An answer that is lost may have been a yes: putting it again does no harm.
    pub(super) fn reweighed(&mut self, weight: u32, answer: &ShareAnswer) {
        let not_before = self.desk.now.mono.plus(RETRY);
        let told = match answer {
            ShareAnswer::Done => Some(weight),
            _ => None,
        };
        self.desk.session.weight = WeightTold { told, asked: true, telling: false, not_before };
    }

    fn give_up_when_off(&mut self) {
        let Some(since) = self.desk.clock.off_since() else { return };
        let by = since.plus(limits::CLOCK_OFF_WAIT);
        let holds = self.ranges.values().any(|range| range.fence().is_some());
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
