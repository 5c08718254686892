//! Is the wall clock to be believed? It alone decides what is due, so when it moves against the
//! boot clock, or a coordinator is found to disagree with it, nothing pooled starts and no mark
//! moves until it was measured again, or there was nobody to measure it for 2 s. So it is with a
//! process that begins: nobody has looked at its clock yet. One that goes on with the session of
//! the process before goes on with how that one's clock stood, too.
//!
//! Who is wrong when a coordinator disagrees cannot be seen from here. So a second measurement that
//! says the same is an alarm and no more: one bad clock among the coordinators must not stop a
//! fleet. Only when two coordinators see this clock off, and each says that it agrees with most
//! other agents, is it this host's: then the agent gives its ranges to others until it is mended.

use std::collections::BTreeMap;

use crate::agent::kept::LATEST_KEPT_WITHIN;
use crate::ids::CoordinatorId;
use crate::limits;
use crate::time::{Mono, Now, Wall};

/// A coordinator's word on this clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offset {
    /// The coordinator's time minus ours, in microseconds.
    pub micros: i64,
    /// Most of the other agents that it measures agree with it.
    pub others_agree: bool,
}

#[derive(Debug)]
pub(crate) struct ClockWatch {
    /// Wall minus boot clock, in microseconds, when both were last believed.
    base: i64,
    unverified_since: Option<Mono>,
    /// The newest word of each coordinator, as long as it counts.
    measured: BTreeMap<CoordinatorId, (Offset, Mono)>,
    asked: Option<Mono>,
    off_since: Option<Mono>,
    /// The wall clock moved since somebody asked.
    moved: bool,
    /// The latest moment by the wall clock while it was believed: up to here something may have
    /// been decided, however the clock was set since.
    latest: Wall,
}

/// How the clock stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Verified,
    Unverified,
    /// It is this host's clock that is wrong, by so many microseconds at least.
    Off(i64),
}

impl ClockWatch {
    pub fn new(now: Now) -> ClockWatch {
        ClockWatch {
            base: difference(now),
            unverified_since: Some(now.mono),
            measured: BTreeMap::new(),
            asked: None,
            off_since: None,
            moved: false,
            latest: Wall::default(),
        }
    }

    /// Goes on from what the process before believed on this boot: if anything, its difference
    /// between the clocks. A doubt that it had is settled by those who are asked, if there are any.
    /// `latest`: it may have decided what was due by then, as the clock was ahead.
    pub fn going_on(believed: Option<i64>, latest: Option<Wall>, now: Now) -> ClockWatch {
        let latest = latest.map_or_else(Wall::default, |latest| latest.plus(LATEST_KEPT_WITHIN));
        let unknown = ClockWatch { asked: Some(now.mono), latest, ..ClockWatch::new(now) };
        match believed {
            Some(base) => {
                let mono = i64::try_from(now.mono.micros()).unwrap_or(i64::MAX);
                let then = Wall::from_micros(mono.saturating_add(base));
                // It may have been set since by less than is noticed.
                let latest = latest.max(then.plus(limits::CLOCK_JUMP));
                ClockWatch { base, unverified_since: None, latest, ..unknown }
            }
            None => unknown,
        }
    }

    /// What is due after this nobody has decided by this clock, as long as it was believed.
    pub fn latest(&self, now: Wall) -> Wall {
        self.latest.max(now)
    }

    /// The same, for a process that comes after: where the difference between the clocks does not
    /// tell it.
    pub fn latest_to_keep(&self, now: Wall) -> Option<Wall> {
        let ahead = self.latest > now.plus(limits::CLOCK_JUMP);
        (ahead || self.believed().is_none()).then_some(self.latest)
    }

    /// Wall minus boot clock, in microseconds, if the wall clock is believed now.
    pub fn believed(&self) -> Option<i64> {
        self.verified().then_some(self.base)
    }

    /// Looks at both clocks. `Some`: the wall clock was set, by so many microseconds.
    pub fn observe(&mut self, now: Now) -> Option<i64> {
        let moved = difference(now).saturating_sub(self.base);
        if moved.unsigned_abs() > micros(limits::CLOCK_JUMP) {
            self.base = difference(now);
            self.unverified_since = Some(now.mono);
            self.moved = true;
            // They were of the clock as it was.
            self.measured.clear();
            self.off_since = None;
            return Some(moved);
        }
        // A clock that is slewed drifts from its base slowly; the base follows it.
        self.base += moved / 64;
        self.forget(now.mono);
        let alone = self.asked.is_none_or(|at| now.mono.since(at) > limits::CLOCK_ASKED);
        let waited = |since: &mut Mono| now.mono.since(*since) >= limits::CLOCK_ALONE;
        if alone {
            self.unverified_since.take_if(waited);
        }
        // By one that is off, what is pinned goes on.
        if self.unverified_since.is_none() || self.off_since.is_some() {
            self.latest = self.latest.max(now.wall);
        }
        None
    }

    /// A coordinator has measured this clock. `true`: it disagrees, and did not before.
    pub fn measured(&mut self, now: Now, coordinator: CoordinatorId, offset: Offset) -> bool {
        self.asked = Some(now.mono);
        let before = self.measured.insert(coordinator, (offset, now.mono));
        let known = before.is_some_and(|(before, _)| {
            let apart = before.micros.abs_diff(offset.micros);
            large(before) && apart <= micros(limits::CLOCK_OFFSET)
        });
        while self.measured.len() > limits::COORDINATORS_MEASURING_MAX {
            self.measured.pop_first();
        }
        let disagrees = large(offset) && !known;
        match disagrees {
            true => {
                self.unverified_since.get_or_insert(now.mono);
            }
            false => self.unverified_since = None,
        }
        self.judge(now.mono);
        disagrees
    }

    pub fn standing(&self) -> Standing {
        match (self.off_since, self.unverified_since) {
            (Some(_), _) => Standing::Off(self.least_off()),
            (None, Some(_)) => Standing::Unverified,
            (None, None) => Standing::Verified,
        }
    }

    pub fn verified(&self) -> bool {
        self.off_since.is_none() && self.unverified_since.is_none()
    }

    /// Since when it is known that this clock is wrong, and not the others'.
    pub fn off_since(&self) -> Option<Mono> {
        self.off_since
    }

    /// Whether the wall clock moved since the last call.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// The coordinators' time minus ours, if any measured it lately: the median of what they say
    /// and of our own, so that one clock alone that is wrong holds nothing up. One that most agents
    /// disagree with as well says nothing.
    pub fn offset(&self) -> Option<i64> {
        let offsets = self.measured.values().map(|(offset, _)| *offset);
        let believed = offsets.filter(|offset| !large(*offset) || offset.others_agree);
        let mut all: Vec<i64> = believed.map(|offset| offset.micros).collect();
        if all.is_empty() {
            return None;
        }
        all.push(0);
        all.sort_unstable();
        all.get((all.len() - 1) / 2).copied()
    }

    fn forget(&mut self, now: Mono) {
        let before = self.measured.len();
        self.measured.retain(|_, (_, at)| now.since(*at) <= limits::CLOCK_MEASURED);
        if self.measured.len() != before {
            self.judge(now);
        }
    }

    fn judge(&mut self, now: Mono) {
        match self.accusers().count() >= 2 {
            true => {
                self.off_since.get_or_insert(now);
            }
            false => self.off_since = None,
        }
    }

    /// What those say who see this clock off while most others agree with them.
    fn accusers(&self) -> impl Iterator<Item = i64> + '_ {
        let offsets = self.measured.values().map(|(offset, _)| *offset);
        offsets.filter(|offset| large(*offset) && offset.others_agree).map(|offset| offset.micros)
    }

    fn least_off(&self) -> i64 {
        self.accusers().min_by_key(|micros| micros.unsigned_abs()).unwrap_or(0)
    }
}

fn large(offset: Offset) -> bool {
    offset.micros.unsigned_abs() > micros(limits::CLOCK_OFFSET)
}

fn difference(now: Now) -> i64 {
    now.wall.micros().saturating_sub(i64::try_from(now.mono.micros()).unwrap_or(i64::MAX))
}

fn micros(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall_ms: i64, mono_ms: u64) -> Now {
        Now { wall: Wall::from_millis(wall_ms), mono: Mono::from_micros(mono_ms * 1_000) }
    }

    /// A moment of a clock that has not been touched.
    fn calm(ms: u64) -> Now {
        at(i64::try_from(ms).unwrap(), ms)
    }

    fn says(clock: &mut ClockWatch, now: Now, who: &str, ms: i64, others_agree: bool) -> bool {
        let coordinator = CoordinatorId::parse(who).unwrap();
        clock.measured(now, coordinator, Offset { micros: ms * 1_000, others_agree })
    }

    #[test]
    fn a_step_of_the_wall_clock_is_seen_and_believed_after_two_seconds_alone() {
        let mut clock = ClockWatch::new(at(1_000_000, 0));
        assert_eq!(clock.observe(at(1_000_100, 100)), None);
        assert_eq!(clock.observe(at(990_200, 200)), Some(-10_000_000));
        assert!(!clock.verified());
        clock.observe(at(992_199, 2_199));
        assert!(!clock.verified());
        clock.observe(at(992_200, 2_200));
        assert!(clock.verified());
    }

    #[test]
    fn where_somebody_measures_a_step_is_believed_when_it_was_measured() {
        let mut clock = ClockWatch::new(at(0, 0));
        says(&mut clock, at(100, 100), "c1", 0, true);
        assert_eq!(clock.observe(at(5_000, 1_000)), Some(4_000_000));
        clock.observe(at(8_000, 4_000));
        assert!(!clock.verified(), "somebody measures: 2 s alone do not count");
        assert!(!says(&mut clock, at(8_100, 4_100), "c1", 10, true));
        assert!(clock.verified());
    }

    #[test]
    fn a_coordinator_that_has_gone_is_not_waited_for() {
        let mut clock = ClockWatch::new(at(0, 0));
        says(&mut clock, at(100, 100), "c1", 0, true);
        clock.observe(at(5_000, 1_000));
        clock.observe(at(10_101, 6_101));
        assert!(clock.verified());
    }

    #[test]
    fn up_to_where_something_may_have_been_decided_is_known_however_the_clock_is_set() {
        let mut clock = ClockWatch::new(at(0, 0));
        says(&mut clock, at(100, 100), "c1", 0, true);
        clock.observe(at(200, 200));
        assert_eq!(clock.latest_to_keep(Wall::from_millis(200)), None, "the difference tells it");
        // It is an hour ahead, and doubted: nothing is decided by that.
        clock.observe(at(3_600_300, 300));
        assert_eq!(clock.latest(Wall::default()), Wall::from_millis(200));
        says(&mut clock, at(3_600_400, 400), "c1", 0, true);
        clock.observe(at(3_600_500, 500));
        // It is set right, and doubted again.
        clock.observe(at(600, 600));
        let latest = Wall::from_millis(3_600_500);
        assert_eq!(clock.latest(Wall::from_millis(600)), latest);
        assert_eq!(clock.latest_to_keep(Wall::from_millis(600)), Some(latest));
        let next = ClockWatch::going_on(None, Some(latest), at(700, 700));
        assert!(next.latest(Wall::from_millis(700)) >= latest);
        // By the clock as it was, on the same boot, what is kept of it is enough.
        let next = ClockWatch::going_on(Some(3_600_000_000), None, at(700, 700));
        assert!(next.latest(Wall::from_millis(700)) >= Wall::from_millis(3_600_700));
    }

    #[test]
    fn slewing_is_not_a_step() {
        let mut clock = ClockWatch::new(at(0, 0));
        for second in 1..1_000u64 {
            let drifted = i64::try_from(second).unwrap() * 1_000 * 10_005 / 10_000;
            assert_eq!(clock.observe(at(drifted, second * 1_000)), None);
        }
    }

    #[test]
    fn one_that_disagrees_stops_the_clock_until_it_has_said_so_twice() {
        let mut clock = ClockWatch::new(calm(0));
        assert!(says(&mut clock, calm(1), "c1", 900, true));
        assert_eq!(clock.standing(), Standing::Unverified);
        assert!(!says(&mut clock, calm(2_000), "c1", 905, true));
        assert_eq!(clock.standing(), Standing::Verified);
        assert!(says(&mut clock, calm(4_000), "c1", 5_000, true), "it says something else now");
        assert!(!clock.verified());
    }

    #[test]
    fn two_that_agree_with_most_others_find_this_clock_off_until_it_is_mended() {
        let mut clock = ClockWatch::new(calm(0));
        says(&mut clock, calm(1), "c1", 900, true);
        says(&mut clock, calm(2), "c2", 870, true);
        assert_eq!(clock.standing(), Standing::Off(870_000));
        says(&mut clock, calm(2_000), "c1", 903, true);
        assert!(!clock.verified(), "it stays off, however often it is measured");
        says(&mut clock, calm(4_000), "c1", 12, true);
        assert_eq!(clock.standing(), Standing::Verified);
    }

    #[test]
    fn two_that_most_agents_disagree_with_are_an_alarm_and_no_stop() {
        let mut clock = ClockWatch::new(calm(0));
        says(&mut clock, calm(1), "c1", 900, false);
        says(&mut clock, calm(2), "c2", 900, true);
        says(&mut clock, calm(2_000), "c1", 900, false);
        assert_eq!(clock.standing(), Standing::Verified);
    }

    #[test]
    fn a_word_that_is_too_old_accuses_nobody() {
        let mut clock = ClockWatch::new(calm(0));
        says(&mut clock, calm(1), "c1", 900, true);
        says(&mut clock, calm(59_000), "c2", 900, true);
        assert!(matches!(clock.standing(), Standing::Off(_)));
        clock.observe(calm(60_002));
        assert!(!matches!(clock.standing(), Standing::Off(_)));
    }

    #[test]
    fn the_offset_is_the_median_with_our_own_clock_among_them() {
        let mut clock = ClockWatch::new(calm(0));
        assert_eq!(clock.offset(), None);
        says(&mut clock, calm(1), "c1", -3_600_000, true);
        assert_eq!(clock.offset(), Some(-3_600_000_000));
        says(&mut clock, calm(1), "c2", 4, true);
        assert_eq!(clock.offset(), Some(0));
        says(&mut clock, calm(1), "c1", -700, true);
        says(&mut clock, calm(1), "c2", -600, true);
        assert_eq!(clock.offset(), Some(-600_000));
        says(&mut clock, calm(2), "c1", -3_600_000, false);
        says(&mut clock, calm(2), "c2", -3_600_000, false);
        assert_eq!(clock.offset(), None, "most agents disagree with both");
    }
}
