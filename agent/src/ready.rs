//! Whether anything is known to be in the way of a run that comes due now, and what.
//!
//! One function for the probe and for the metric, so that they cannot disagree. It is asked with
//! the time of asking, not of publishing: what waits grows older while nobody publishes, and a loop
//! that stands still is a reason of its own.

use std::time::Duration;

use tocktower_core::limits::ON_TIME;
use tocktower_core::time::Now;

use crate::disk::Disk;
use crate::stats::AgentStats;

/// The loop publishes its figures each second.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// Why the agent is not ready, in words for who looks after it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unready {
    #[error("its loop has said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("its store does not answer: its disk may hang")]
    StoreStalled,
    #[error("it is not registered: it has no session in etcd, which may be out of reach")]
    Unregistered,
    #[error("its clock is unverified: nothing starts until it has been compared again")]
    ClockUnverified,
    #[error("its clock is wrong, by the coordinators and most other agents: set it")]
    ClockOff,
    #[error("the disk of its data directory is nearly full: {} MiB are free", .0 >> 20)]
    DiskLow(u64),
    #[error("a run has been due for {} s and has not started", .0.as_secs())]
    Late(Duration),
}

/// What is in the way: causes before what comes of them.
pub fn unready(stats: &AgentStats, disk: Disk, now: Now) -> Option<Unready> {
    let silent = now.mono.since(stats.at);
    if silent > SILENT_MAX {
        return Some(Unready::Silent(silent));
    }
    if stats.core.store_stalled {
        return Some(Unready::StoreStalled);
    }
    if stats.session.is_none() {
        return Some(Unready::Unregistered);
    }
    if stats.core.clock_off {
        return Some(Unready::ClockOff);
    }
    if !stats.core.clock_verified {
        return Some(Unready::ClockUnverified);
    }
    if disk.below_reserve {
        return Some(Unready::DiskLow(disk.space.map_or(0, |space| space.free)));
    }
    let late = stats.core.oldest_due.map_or(Duration::ZERO, |due| now.wall.since(due));
    (late > ON_TIME).then_some(Unready::Late(late))
}

/// The causes in words, for who asks why something of a pool did not start; also where it may be
/// one range of many.
pub fn in_the_way(stats: &AgentStats, disk: Disk, now: Now) -> Option<String> {
    let full = || match stats.core.full {
        0 => None,
        full => Some(format!("the ledgers of {full} of its ranges are full: too much is open")),
    };
    match unready(stats, disk, now) {
        Some(Unready::Late(_)) | None => full(),
        Some(cause) => Some(cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tocktower_core::ids::Session;
    use tocktower_core::time::{Mono, Wall};

    use super::*;

    fn now() -> Now {
        Now { wall: Wall::from_millis(1_800_000_000_000), mono: Mono::from_micros(60_000_000) }
    }

    fn well() -> AgentStats {
        let session = Some(Session::default());
        let mut stats = AgentStats { at: now().mono, session, ..AgentStats::default() };
        stats.core.clock_verified = true;
        stats
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut AgentStats), expected: Option<Unready>) {
        let mut stats = well();
        change(&mut stats);
        assert_eq!(unready(&stats, Disk::default(), now()), expected);
    }

    #[test]
    fn an_agent_is_ready_when_it_could_start_what_comes_due() {
        check(|_| {}, None);
        check(|stats| stats.session = None, Some(Unready::Unregistered));
        check(|stats| stats.core.clock_verified = false, Some(Unready::ClockUnverified));
        check(|stats| stats.core.clock_off = true, Some(Unready::ClockOff));
        check(|stats| stats.core.store_stalled = true, Some(Unready::StoreStalled));
        let ago = |seconds| Some(now().wall.minus(Duration::from_secs(seconds)));
        check(|stats| stats.core.oldest_due = ago(10), None);
        let late = Unready::Late(Duration::from_secs(11));
        check(|stats| stats.core.oldest_due = ago(11), Some(late));
    }

    #[test]
    fn a_loop_that_stands_still_is_not_ready() {
        let ago = |seconds| now().mono.minus(Duration::from_secs(seconds));
        check(|stats| stats.at = ago(5), None);
        check(|stats| stats.at = ago(6), Some(Unready::Silent(Duration::from_secs(6))));
    }

    #[test]
    fn a_disk_below_its_reserve_is_not_ready() {
        let disk = Disk { space: None, below_reserve: true };
        assert_eq!(unready(&well(), disk, now()), Some(Unready::DiskLow(0)));
    }

    #[test]
    fn what_is_in_the_way_is_a_cause_and_never_that_something_is_late() {
        let told = |stats: &AgentStats| in_the_way(stats, Disk::default(), now());
        let mut stats = well();
        assert_eq!(told(&stats), None);
        stats.core.oldest_due = Some(now().wall.minus(Duration::from_secs(11)));
        assert_eq!(told(&stats), None);
        stats.core.full = 3;
        let full = "the ledgers of 3 of its ranges are full: too much is open";
        assert_eq!(told(&stats).as_deref(), Some(full));
        stats.core.oldest_due = None;
        assert_eq!(told(&stats).as_deref(), Some(full));
        stats.core.clock_off = true;
        assert_eq!(told(&stats), Some(Unready::ClockOff.to_string()));
    }
}
