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
