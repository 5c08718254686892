//! When a run should start: the instant and a little more.
//!
//! Jitter spreads tasks that share an instant, so that a thousand of them do not hit one database
//! in the same millisecond. It is a fixed function of the task and the instant: after a failover
//! the new holder computes the same due, so that a run is neither early nor late by the jitter, and
//! the simulator can replay it. Drawing a random number was the option not taken.
//!
//! The hash gives a point within the room there is, and the room ends before the next instant: runs
//! of one task are due in the order of their instants, however long the jitter.

use std::time::Duration;

use crate::hash;
use crate::ids::{AgentName, TaskName};
use crate::time::{Instant, Wall};

/// The due of the run of `task` at `instant`: from 0 to `jitter` after it, in whole milliseconds,
/// and before `next`, the instant that follows.
pub fn due(task: &TaskName, instant: Instant, next: Option<Instant>, jitter: Duration) -> Wall {
    due_of_share(task, None, instant, next, jitter)
}

/// As [`due`], of an agent's share of a task of every agent: jitter, which is the same for all of
/// them, counts from where the share begins, somewhere within its splay.
pub fn due_of_share(
    task: &TaskName,
    share: Option<(&AgentName, Duration)>,
    instant: Instant,
    next: Option<Instant>,
    jitter: Duration,
) -> Wall {
    let begin = share.map_or(instant, |(agent, splay)| begin(task, agent, instant, next, splay));
    let room = room(begin, next, jitter);
    if room == 0 {
        return begin.wall();
    }
    let name = task.to_string();
    let hash = hash::hash_parts(&[name.as_bytes(), &instant.millis().to_be_bytes()]);
    begin.wall().plus(Duration::from_millis(scaled(hash, room)))
}

/// Where an agent's share begins: from 0 to `splay` after the instant, the same at each, and before
/// `next`.
fn begin(
    task: &TaskName,
    agent: &AgentName,
    instant: Instant,
    next: Option<Instant>,
    splay: Duration,
) -> Instant {
    let room = room(instant, next, splay);
    if room == 0 {
        return instant;
    }
    let name = task.to_string();
    let hash = hash::hash_parts(&[name.as_bytes(), b"@", agent.as_str().as_bytes()]);
    instant.wall().plus(Duration::from_millis(scaled(hash, room))).instant()
}

/// The milliseconds that a delay may be: up to `most`, and less than up to the next instant.
fn room(instant: Instant, next: Option<Instant>, most: Duration) -> u64 {
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    next.map_or(most, |next| {
        let gap = u64::try_from(next.millis() - instant.millis()).unwrap_or(0);
        most.min(gap.saturating_sub(1))
    })
}

/// A point from 0 to `room`, both included: the hash as a fraction of its range. A remainder would
/// do for short rooms and favour low values in long ones.
fn scaled(hash: u64, room: u64) -> u64 {
    let scaled = u128::from(hash) * (u128::from(room) + 1);
    u64::try_from(scaled >> 64).expect("a product of two 64-bit numbers, its upper half")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_790_164_800_000;
    /// Of `a/b` on it, within 30 s; computed as below.
    const OFFSET_OF_WEB_1: i64 = 11_515;

    fn offset(task: &str, instant: i64, next: Option<i64>, jitter: u64) -> i64 {
        let task = TaskName::parse(task).unwrap();
        let instant = Instant::from_millis(instant);
        let next = next.map(Instant::from_millis);
        let due = due(&task, instant, next, Duration::from_millis(jitter));
        due.millis() - instant.millis()
    }

    /// Computed with another implementation of XXH3.
    #[test]
    fn the_jitter_of_a_task_and_an_instant_never_changes() {
        assert_eq!(offset("default/nightly-backup", NOON, None, 60_000), 11_001);
        assert_eq!(offset("default/nightly-backup", NOON + 1, None, 60_000), 1_943);
        assert_eq!(offset("a/b", NOON, None, 60_000), 57_729);
    }

    fn splayed(agent: &str, instant: i64, next: Option<i64>, splay: u64) -> i64 {
        let (task, agent) = (TaskName::parse("a/b").unwrap(), AgentName::parse(agent).unwrap());
        let (at, next) = (Instant::from_millis(instant), next.map(Instant::from_millis));
        let share = Some((&agent, Duration::from_millis(splay)));
        due_of_share(&task, share, at, next, Duration::ZERO).millis() - instant
    }

    #[test]
    fn the_share_of_an_agent_begins_at_the_same_offset_each_time() {
        let offset = splayed("web-1", NOON, None, 30_000);
        assert_eq!(offset, splayed("web-1", NOON + 86_400_000, Some(NOON * 2), 30_000));
        assert_eq!(offset, OFFSET_OF_WEB_1);
        assert_eq!(splayed("web-1", NOON, None, 0), 0);
        // Before the next instant, however long the splay.
        assert!((0..1_000).contains(&splayed("web-1", NOON, Some(NOON + 1_000), 3_600_000)));
    }

    #[test]
    fn the_shares_of_many_agents_are_spread_over_the_splay() {
        let offsets: Vec<i64> =
            (0..2_000).map(|n| splayed(&format!("web-{n}"), NOON, None, 30_000)).collect();
        let tenths = offsets.iter().fold([0; 10], |mut tenths, offset| {
            tenths[usize::try_from(*offset / 3_001).unwrap()] += 1;
            tenths
        });
        assert!(tenths.iter().all(|count| (140..260).contains(count)), "{tenths:?}");
    }

    #[test]
    fn dues_keep_the_order_of_instants() {
        for minute in 0..1_000 {
            let (instant, next) = (NOON + minute * 60_000, NOON + (minute + 1) * 60_000);
            let offset = offset("a/b", instant, Some(next), 3_600_000);
            assert!((0..60_000).contains(&offset));
        }
        assert_eq!(offset("a/b", NOON, Some(NOON + 1), 3_600_000), 0);
    }

    #[test]
    fn both_ends_are_reached_and_the_middle_is_the_middle() {
        let offsets = (0..2_000).map(|ms| offset("a/b", NOON + ms, None, 9)).collect::<Vec<_>>();
        assert_eq!(offsets.iter().min(), Some(&0));
        assert_eq!(offsets.iter().max(), Some(&9));
        let mean = offsets.iter().sum::<i64>() * 100 / 2_000;
        assert!((430..470).contains(&mean), "mean of 0 to 9, times 100: {mean}");
    }

    #[test]
    fn no_jitter_and_endless_jitter_are_both_fine() {
        assert_eq!(offset("a/b", NOON, None, 0), 0);
        assert!(offset("a/b", NOON, None, u64::MAX) >= 0);
    }
}
