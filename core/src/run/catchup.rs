//! What becomes of instants that nobody could run in time: an outage, a suspended host, a clock
//! that was set. Each of them gets a named end or a run; nothing is forgotten.
//!
//! Instants due within the last `ON_TIME` are still on time and are none of this file's business.
//! Of the older ones, those outside the task's window are `missed` whatever its policy. A backlog
//! may be long (a task of every second after a week has 600,000), so counts are bounded and
//! `latest` looks backwards in growing steps instead of walking all of it.

use std::time::Duration;

use crate::limits;
use crate::run::Span;
use crate::schedule::Timetable;
use crate::task::{CatchUp, CatchUpPolicy};
use crate::time::{Instant, Wall};

/// What to do with the instants from `first` up to and including `last_old`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// First instant and span of what nobody could run in time.
    pub missed: Option<(Instant, Span)>,
    /// First instant and span of what a newer run stands for.
    pub superseded: Option<(Instant, Span)>,
    /// Instants to make up for, in order: first and last.
    pub make_up: Option<(Instant, Instant)>,
    /// The first instant that is still on time, or to come.
    pub next: Option<Instant>,
}

/// `first` is the first undecided instant of a recurring task; instants before `now - ON_TIME`
/// count as old.
pub fn plan(timetable: &Timetable, policy: CatchUp, first: Instant, now: Wall) -> Plan {
    let edge = now.minus(limits::ON_TIME).instant();
    let mut plan = Plan { next: from(timetable, first.max(next_ms(edge))), ..Plan::default() };
    if first > edge {
        return plan;
    }
    let window_opens = now.minus(policy.window).instant();
    let inside = match policy.policy {
        CatchUpPolicy::None => None,
        CatchUpPolicy::Latest | CatchUpPolicy::All => {
            from(timetable, first.max(window_opens)).filter(|instant| *instant <= edge)
        }
    };
    let missed_until = inside.map_or(edge, |inside| inside.minus(Duration::from_millis(1)));
    plan.missed = span(timetable, first, missed_until);
    let Some(inside) = inside else { return plan };
    if policy.policy == CatchUpPolicy::All {
        plan.make_up = Some((inside, last_in(timetable, inside, edge)));
        return plan;
    }
    let newer_on_time = plan.next.is_some_and(|next| next.wall() <= now);
    if newer_on_time {
        plan.superseded = span(timetable, inside, edge);
    } else {
        let last = last_in(timetable, inside, edge);
        plan.superseded = span(timetable, inside, last.minus(Duration::from_millis(1)));
        plan.make_up = Some((last, last));
    }
    plan
}

fn next_ms(instant: Instant) -> Instant {
    instant.plus(Duration::from_millis(1))
}

/// The first instant at or after `at`.
fn from(timetable: &Timetable, at: Instant) -> Option<Instant> {
    timetable.next_after(at.minus(Duration::from_millis(1)))
}

fn span(timetable: &Timetable, first: Instant, until: Instant) -> Option<(Instant, Span)> {
    let first = from(timetable, first).filter(|first| *first <= until)?;
    let before = first.minus(Duration::from_millis(1));
    let count = timetable.count_between(before, until, limits::SPAN_COUNT_MAX);
    Some((first, Span { until, count }))
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
        if let Some(found) = from(timetable, back).filter(|found| *found <= edge) {
            break found;
        }
        step *= 4;
    };
    while let Some(next) = timetable.next_after(last).filter(|next| *next <= edge) {
        last = next;
    }
    last
}
