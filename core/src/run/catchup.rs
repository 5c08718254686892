//! What becomes of instants that nobody could run in time: an outage, a suspended host, a clock
//! that was set. Each of them gets a named end or a run; nothing is forgotten.
//!
//! Instants due within the last `ON_TIME` are still on time and are none of this file's business.
//! Of the older ones, those outside the task's window are `missed` whatever its policy. A backlog
//! may be long (a task of every second after a week has 600,000), so `latest` looks backwards in
//! growing steps instead of walking all of it.

use std::time::Duration;

use crate::schedule::Timetable;
use crate::task::{CatchUp, CatchUpPolicy};
use crate::time::{Instant, MILLISECOND, Wall};

/// Undecided instants of a recurring task that are too old to be on time.
#[derive(Clone, Copy, Debug)]
pub struct Backlog<'a> {
    pub timetable: &'a Timetable,
    pub first: Instant,
    /// All instants up to here are part of it.
    pub through: Instant,
    /// There is a newer one that is due and on time.
    pub newer: bool,
}

/// What to do with them. Each pair is a stretch, both ends included; there is an instant in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// What nobody could run in time.
    pub missed: Option<(Instant, Instant)>,
    /// What a newer run stands for.
    pub superseded: Option<(Instant, Instant)>,
    /// What to make up for, in order.
    pub make_up: Option<(Instant, Instant)>,
}

pub fn plan(backlog: Backlog<'_>, policy: CatchUp, now: Wall) -> Plan {
    let Backlog { timetable, first, through, newer } = backlog;
    let stretch = |first, through| from(timetable, first, through).map(|first| (first, through));
    let window_opens = now.minus(policy.window).instant();
    let inside = match policy.policy {
        CatchUpPolicy::None => None,
        CatchUpPolicy::Latest | CatchUpPolicy::All => {
            from(timetable, first.max(window_opens), through)
        }
    };
    let missed_until = inside.map_or(through, |inside| inside.minus(MILLISECOND));
    let plan = Plan { missed: stretch(first, missed_until), ..Plan::default() };
    let Some(inside) = inside else { return plan };
    if policy.policy == CatchUpPolicy::All {
        return Plan { make_up: Some((inside, last_in(timetable, inside, through))), ..plan };
    }
    if newer {
        return Plan { superseded: stretch(inside, through), ..plan };
    }
    let last = last_in(timetable, inside, through);
    let superseded = stretch(inside, last.minus(MILLISECOND));
    Plan { superseded, make_up: Some((last, last)), ..plan }
}

/// The first instant at or after `at`, up to `through`.
fn from(timetable: &Timetable, at: Instant, through: Instant) -> Option<Instant> {
    timetable.next_after(at.minus(MILLISECOND)).filter(|instant| *instant <= through)
}

/// The last instant in [first, edge], where `first` is an instant: looks back from the edge in
/// growing steps until one holds an instant, then walks forward.
fn last_in(timetable: &Timetable, first: Instant, edge: Instant) -> Instant {
    let mut step = Duration::from_secs(60);
    let mut last = loop {
        let back = edge.minus(step);
        if back <= first {
            break first;
        }
        if let Some(found) = from(timetable, back, edge) {
            break found;
        }
        step *= 4;
    };
    while let Some(next) = timetable.next_after(last).filter(|next| *next <= edge) {
        last = next;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Every, Schedule};

    const WEEK: i64 = 7 * 86_400;

    /// Every so many seconds.
    fn timetable(seconds: u64) -> Timetable {
        let every = Every::new(Duration::from_secs(seconds), Duration::ZERO).expect("a good one");
        Timetable { schedules: vec![Schedule::Every(every)], ..Timetable::default() }
    }

    fn at(seconds: i64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    type Stretch = Option<(i64, i64)>;

    fn told(plan: &Plan) -> [Stretch; 3] {
        [plan.missed, plan.superseded, plan.make_up].map(|stretch| {
            stretch.map(|(first, last)| (first.millis() / 1_000, last.millis() / 1_000))
        })
    }

    /// Instants from `first` to `through`, looked at `now`: missed, superseded, made up for.
    fn planned(
        seconds: u64,
        (first, through): (i64, i64),
        (policy, window): (CatchUpPolicy, i64),
        newer: bool,
        now: i64,
    ) -> [Stretch; 3] {
        let timetable = timetable(seconds);
        let (first, through) = (at(first), at(through));
        let backlog = Backlog { timetable: &timetable, first, through, newer };
        let window = Duration::from_secs(u64::try_from(window).expect("forward"));
        told(&plan(backlog, CatchUp { policy, window }, at(now).wall()))
    }

    #[test]
    fn each_instant_of_a_backlog_has_one_end() {
        use CatchUpPolicy::{All, Latest, None as Never};
        let hour = (60, (3_600, 7_200));
        for (policy, newer, expected) in [
            ((Never, 4_000), false, [Some((3_600, 7_200)), None, None]),
            ((Never, 4_000), true, [Some((3_600, 7_200)), None, None]),
            ((Latest, 4_000), false, [None, Some((3_600, 7_199)), Some((7_200, 7_200))]),
            ((Latest, 4_000), true, [None, Some((3_600, 7_200)), None]),
            ((All, 4_000), false, [None, None, Some((3_600, 7_200))]),
            ((All, 4_000), true, [None, None, Some((3_600, 7_200))]),
            // The window begins in the middle of a minute.
            ((All, 630), true, [Some((3_600, 6_599)), None, Some((6_600, 7_200))]),
            (
                (Latest, 630),
                false,
                [Some((3_600, 6_599)), Some((6_600, 7_199)), Some((7_200, 7_200))],
            ),
            // No instant is within it.
            ((All, 3), false, [Some((3_600, 7_200)), None, None]),
            ((Latest, 3), false, [Some((3_600, 7_200)), None, None]),
        ] {
            let found = planned(hour.0, hour.1, policy, newer, 7_205);
            assert_eq!(found, expected, "{policy:?} newer {newer}");
        }
    }

    #[test]
    fn one_instant_is_all_there_is() {
        use CatchUpPolicy::{All, Latest};
        for policy in [All, Latest] {
            let found = planned(3_600, (7_200, 7_200), (policy, 60), false, 7_205);
            assert_eq!(found, [None, None, Some((7_200, 7_200))], "{policy:?}");
        }
    }

    #[test]
    fn of_a_week_the_latest_is_found_wherever_it_is() {
        for (seconds, last) in [(1, WEEK), (3_600, WEEK), (86_400, WEEK), (500_000, 500_000)] {
            let first = i64::try_from(seconds).expect("small");
            let backlog = (first, WEEK + 7);
            let plan = planned(seconds, backlog, (CatchUpPolicy::Latest, WEEK), false, WEEK + 14);
            let last = if seconds == 1 { last + 7 } else { last };
            assert_eq!(plan[2], Some((last, last)), "every {seconds} s");
            assert_eq!(plan[1].map(|(_, until)| until), (last > first).then_some(last - 1));
        }
    }
}
