//! What the core has to say, into the log: once, at the level that says who should care.

use std::time::Duration;

use tocktower_core::agent::effect::Notice;
use tocktower_core::ids::RangeId;
use tocktower_core::ring::Duty;
use tocktower_core::time::Mono;

pub fn log(notice: &Notice) {
    match notice {
        Notice::Registered { session } => {
            tracing::info!(session = session.revision.0, "registered");
        }
        Notice::Adopted { session } => {
            tracing::info!(session = session.revision.0, "the session of the last process goes on");
        }
        Notice::NameTaken { holder } => tracing::warn!(
            session = holder.revision.0,
            "another session has this agent's name; waiting for it to end"
        ),
        Notice::Pinned { range, restored } => pinned(*range, *restored),
        Notice::Claimed { range, fence } => {
            tracing::debug!(range = range.0, fence = fence.revision.0, "claimed");
        }
        Notice::Holding { range, fence } => {
            tracing::debug!(range = range.0, fence = fence.revision.0, "holding");
        }
        Notice::HandedOff { range } => tracing::debug!(range = range.0, "handed off"),
        // Told together, see `LostClaims`.
        Notice::LostClaim { range } => tracing::debug!(range = range.0, "the claim is lost"),
        Notice::LeaseLost => tracing::warn!("the lease is lost: coming again as a new session"),
        Notice::ClockMoved { moved_micros } => tracing::warn!(
            moved_ms = moved_micros / 1_000,
            "the wall clock was set: nothing starts until it is verified"
        ),
        Notice::ClockDisagrees { coordinator, micros } => tracing::warn!(
            %coordinator,
            ahead_ms = -micros / 1_000,
            "this host's clock and the coordinator's disagree: compare both with their time servers"
        ),
        Notice::ClockOff { micros } => tracing::error!(
            ahead_ms = -micros / 1_000,
            "this host's clock is wrong, by the coordinators and most other agents: nothing starts \
             here and the ranges go to others, until it is set"
        ),
        Notice::DiskLow => {
            tracing::warn!("nothing starts here for want of disk space; the ranges go to others");
        }
        Notice::StoreStalled { silent } => tracing::error!(
            silent_s = silent.as_secs(),
            "the store does not answer, so nothing can start: the session is given up and the \
             ranges go to others; look at the disk of the data directory"
        ),
        Notice::StoreAnswers => {
            tracing::info!("the store answers again: coming as a new session");
        }
        Notice::DiskFree => tracing::info!("there is disk space again: ranges come back"),
        Notice::Duty { duty } => log_duty(*duty),
        Notice::GaveUp => tracing::error!(
            "the ranges could not be handed over in order with a clock that is so far ahead: the \
             session is given up; what ran in the last seconds may be repeated by others"
        ),
        Notice::ClockVerified => tracing::info!("the wall clock is verified"),
        Notice::Stranger { range } => tracing::error!(
            range = range.0,
            "somebody writes ledgers with this agent's identity, or its data directory is an old \
             copy: the session is given up; make sure that no second agent uses this name"
        ),
        Notice::Quarantined { range, key, error } => tracing::error!(
            range = range.0,
            %key,
            %error,
            "a record cannot be read and is left alone; repair or delete it"
        ),
        Notice::RangeFull { range } => tracing::warn!(
            range = range.0,
            "too many runs of the range are open: new ones wait, and start late"
        ),
        Notice::Compacted { to } => tracing::info!(revision = to.0, "compacted"),
        Notice::Refused { what, error } => {
            tracing::error!(%what, %error, "the shared state refused a request");
        }
    }
}

fn pinned(range: RangeId, restored: bool) {
    match range {
        RangeId::BROADCAST => tracing::info!(restored, "what is for every agent is kept"),
        _ => tracing::info!(restored, "what is pinned here is kept"),
    }
}

fn log_duty(duty: Duty) {
    match duty {
        Duty::Full => tracing::info!("on full duty: ranges may come"),
        Duty::Cordoned => tracing::info!("cordoned: no more ranges come, those that are held stay"),
        Duty::Draining => {
            tracing::info!("to be drained: the ranges go to others, until it is uncordoned");
        }
    }
}

/// How many ranges are held, told once the count has come to rest: ranges come and go by the
/// hundred, and a line for each would hide the rest.
#[derive(Default)]
pub struct HeldCount {
    seen: usize,
    said: usize,
}

impl HeldCount {
    /// Takes the count of the moment, once a second. `Some`: it is another than was last told, and
    /// the same as a second ago.
    pub fn settled(&mut self, held: usize) -> Option<usize> {
        let rests = std::mem::replace(&mut self.seen, held) == held;
        let tells = rests && self.said != held;
        if tells {
            self.said = held;
        }
        tells.then_some(held)
    }
}

/// Claims that were lost. They go by the hundred, mostly with the lease, of which one line says it
/// all; a claim that goes alone was taken away, and somebody may want to know by whom.
#[derive(Debug, Default)]
pub struct LostClaims {
    first_at: Option<Mono>,
    ranges: usize,
    with_lease: bool,
}

impl LostClaims {
    /// The watches of ranges may bring it before that of the session does.
    const TELL_AFTER: Duration = Duration::from_secs(1);

    pub fn note(&mut self, now: Mono, notice: &Notice) {
        match notice {
            Notice::LostClaim { .. } => {
                self.first_at.get_or_insert(now);
                self.ranges += 1;
            }
            Notice::LeaseLost => self.with_lease = true,
            // A new session: what is lost from now on is not lost with the old one.
            Notice::Registered { .. } if self.first_at.is_none() => self.with_lease = false,
            _ => {}
        }
    }

    pub fn log(&mut self, now: Mono) {
        match self.settled(now) {
            Some((ranges, true)) => tracing::info!(ranges, "the claims went with the lease"),
            Some((ranges, false)) => tracing::warn!(
                ranges,
                "claims are lost: nothing of their ranges starts here any more"
            ),
            None => {}
        }
    }

    /// How many were lost, and whether the lease was; `None`: none, or more may come.
    fn settled(&mut self, now: Mono) -> Option<(usize, bool)> {
        let first_at = self.first_at?;
        if now.since(first_at) < LostClaims::TELL_AFTER {
            return None;
        }
        let LostClaims { ranges, with_lease, .. } = std::mem::take(self);
        Some((ranges, with_lease))
    }
}

/// Watches and lists that failed and are tried again: one outage meets every range many times, and
/// is told of at once and then every half minute, with how much was held back.
#[derive(Debug, Default)]
pub struct Troubles {
    said_at: Option<Mono>,
    held_back: u64,
}

impl Troubles {
    const SAY_EVERY: Duration = Duration::from_secs(30);

    pub fn log(&mut self, now: Mono, what: &'static str, error: &str) {
        if let Some(held_back) = self.let_out(now) {
            tracing::warn!(
                %what,
                %error,
                held_back,
                "following the shared state failed; trying again until it is back"
            );
        }
    }

    /// How many were held back since the last line; `None`: this one is held back too.
    fn let_out(&mut self, now: Mono) -> Option<u64> {
        if self.said_at.is_some_and(|at| now.since(at) < Troubles::SAY_EVERY) {
            self.held_back += 1;
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocktower_core::ids::{RangeId, Session};

    #[test]
    fn an_outage_of_many_ranges_is_a_line_every_half_minute() {
        let mut troubles = Troubles::default();
        let at = |seconds: u64| Mono::from_micros(seconds * 1_000_000);
        assert_eq!(troubles.let_out(at(100)), Some(0));
        for _ in 0..256 {
            assert_eq!(troubles.let_out(at(101)), None);
        }
        assert_eq!(troubles.let_out(at(129)), None);
        assert_eq!(troubles.let_out(at(130)), Some(257));
        assert_eq!(troubles.let_out(at(131)), None);
    }

    #[test]
    fn claims_that_are_lost_together_are_one_line_and_calm_if_the_lease_was() {
        let mut lost = LostClaims::default();
        let at = |millis: u64| Mono::from_micros(millis * 1_000);
        let claim = |range| Notice::LostClaim { range: RangeId(range) };
        for range in 0..256 {
            lost.note(at(5_000), &claim(range));
        }
        assert_eq!(lost.settled(at(5_900)), None, "the lease may be lost as well");
        lost.note(at(5_950), &Notice::LeaseLost);
        let session = Session::default();
        lost.note(at(5_960), &Notice::Registered { session });
        assert_eq!(lost.settled(at(6_000)), Some((256, true)));
        assert_eq!(lost.settled(at(9_000)), None);
        lost.note(at(9_000), &claim(3));
        assert_eq!(lost.settled(at(10_000)), Some((1, false)));
        // A lease that had nothing to lose says nothing of claims of the next session.
        lost.note(at(11_000), &Notice::LeaseLost);
        lost.note(at(11_100), &Notice::Registered { session });
        lost.note(at(12_000), &claim(4));
        assert_eq!(lost.settled(at(13_000)), Some((1, false)));
    }

    #[test]
    fn a_count_of_ranges_is_told_once_it_rests() {
        let mut held = HeldCount::default();
        let counts = [0, 0, 48, 200, 256, 256, 256, 255, 256, 256, 0, 0];
        let told: Vec<usize> = counts.into_iter().filter_map(|count| held.settled(count)).collect();
        assert_eq!(told, [256, 0]);
    }
}
