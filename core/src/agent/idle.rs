//! Instants that end without a run: paused, outside the window, behind another run, edited late.
//!
//! Each of them ends by name, and together they may be very many: a task of every second that is
//! paused for a day has 86,400. So they are told of as spans: one record for the first of them,
//! with the last and their number. A backlog is one span at once; a task that is paused, or whose
//! run outlasts many of its instants, has a span that grows instant by instant, the same row
//! written again. The write at each instant stays: an instant is covered only once its end is on
//! disk (L5).
//!
//! A growing span ends where its reason or the version of the task does, at a takeover, and after
//! `SPAN_LENGTH_MAX`: history is found and forgotten by the first instant of a span.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::desk::Desk;
use crate::agent::edited::EDITED_LATE;
use crate::agent::near::Timed;
use crate::agent::news::{DELETED, UNREADABLE};
use crate::agent::open::OpenRun;
use crate::agent::range::Range;
use crate::agent::replaced::REPLACED;
use crate::agent::runs::OUTSIDE_WINDOW;
use crate::agent::take::run_id;
use crate::ids::{Fence, TaskNumber};
use crate::limits;
use crate::run::{RunState, Span};
use crate::task::Task;
use crate::time::{Instant, MILLISECOND, Mono, Now};

/// How often spans that cannot grow any more are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

const PAUSED: &str = "paused";
pub(super) const SUPERSEDED: &str = "catch-up: a later instant stands for it";

/// The spans that may grow, by version. Bounded: whoever finds no room has a row for each instant.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    spans: BTreeMap<TaskNumber, Growing>,
    swept: Mono,
}

#[derive(Clone, Copy, Debug)]
struct Growing {
    first: Instant,
    /// The instant that continues it.
    next: Option<Instant>,
    count: u64,
    reason: &'static str,
    /// Of the holder: one that took the range again begins a new one.
    fence: Fence,
}

/// Instants of one version that end in the same way, without a run.
pub(super) struct Ended<'a> {
    pub task: &'a Arc<Task>,
    pub first: Instant,
    pub span: Span,
    /// No instant of the span is due after this: a ledger that covers it covers them all.
    pub due: Instant,
    pub state: RunState,
    pub reason: &'static str,
}

impl Range {
    /// A paused task keeps its place in the index: each of its instants ends by name. Gives the
    /// next one to decide.
    pub(super) fn decide_paused(
        &mut self,
        desk: &mut Desk,
        task: &Arc<Task>,
        timed: &Timed,
        number: TaskNumber,
        (first, due): (Instant, Instant),
        until: Option<Instant>,
    ) -> Option<Instant> {
        let now = desk.now.wall.instant().max(due);
        let next = timed.first_due_after(now, first).map(|(next, _)| next);
        // With jitter the next one may lie before now, and is due after it.
        let through = next.map_or(now, |next| now.min(next.minus(MILLISECOND)));
        let until = until.map_or(through, |until| through.min(until));
        if self.around_open(&timed.task, (first, until)) != [(first, until)] {
            // Some of them have come to something else, of which a ledger still tells.
            self.skip_instants(desk, timed, (first, until), PAUSED);
            return next;
        }
        let before = first.minus(MILLISECOND);
        let count = timed.timetable.count_between(before, until, limits::SPAN_COUNT_MAX);
        let due = if count > 1 { now } else { due };
        let (span, state, reason) = (Span { until, count }, RunState::Skipped, PAUSED);
        let ended = Ended { task, first, span, due, state, reason };
        self.end_in_span(desk, number, next, ended);
        next
    }

    /// An instant of a recurring task comes to nothing, since an earlier run goes on.
    pub(super) fn skip_for_overlap(
        &mut self,
        desk: &mut Desk,
        task: &Arc<Task>,
        run: &OpenRun,
        reason: &'static str,
    ) {
        let first = run.instant;
        let (span, state) = (Span { until: first, count: 1 }, RunState::Skipped);
        let ended = Ended { task, first, span, due: run.due, state, reason };
        let number = desk.near.named(self.id, &task.spec.name);
        match number.and_then(|number| Some((number, desk.near.get(number)?.timed.clone()))) {
            Some((number, timed)) => {
                let next = timed.timetable.next_after(first);
                self.end_in_span(desk, number, next, ended);
            }
            None => self.record_span(desk, &ended, span.count),
        }
    }

    /// Instants of a version from `first` to `through` that must not start any more, and why.
    pub(super) fn skip_instants(
        &mut self,
        desk: &mut Desk,
        timed: &Timed,
        (first, through): (Instant, Instant),
        reason: &'static str,
    ) {
        self.end_instants(desk, timed, (first, through), RunState::Skipped, reason);
    }

    /// Instants of a version from `first` to `through` that have come to this.
    pub(super) fn end_instants(
        &mut self,
        desk: &mut Desk,
        timed: &Timed,
        (first, through): (Instant, Instant),
        state: RunState,
        reason: &'static str,
    ) {
        for (from, through) in self.around_open(&timed.task, (first, through)) {
            let before = from.minus(MILLISECOND);
            let count = timed.timetable.count_between(before, through, limits::SPAN_COUNT_MAX);
            let Some(first) = timed.timetable.next_after(before).filter(|_| count > 0) else {
                continue;
            };
            let (task, span) = (&timed.task, Span { until: through, count });
            let latest = through.plus(task.spec.delay_max());
            let due = match reason {
                _ if count == 1 => timed.due(first),
                // Of what is made up for, all is due by now.
                OUTSIDE_WINDOW | SUPERSEDED | PAUSED | DELETED | REPLACED => {
                    latest.min(desk.now.wall.instant())
                }
                _ => latest,
            };
            self.record_span(desk, &Ended { task, first, span, due, state, reason }, count);
        }
    }

    /// Lets the task's span grow by these instants if they continue it, else begins another.
    fn end_in_span(
        &mut self,
        desk: &mut Desk,
        number: TaskNumber,
        next: Option<Instant>,
        mut ended: Ended<'_>,
    ) {
        let (fence, more) = (self.fence().unwrap_or_default(), ended.span.count);
        let known = desk.idle.spans.get(&number);
        if let Some(known) = known.filter(|known| known.goes_on(&ended, fence)) {
            ended.first = known.first;
            ended.span.count = known.count.saturating_add(more).min(limits::SPAN_COUNT_MAX);
        }
        let Ended { first, span: Span { count, .. }, reason, .. } = ended;
        desk.idle.remember(number, Growing { first, next, count, reason, fence }, desk.now);
        self.record_span(desk, &ended, more);
    }

    /// One record for consecutive instants that ended without a run, of which so many are new.
    pub(super) fn record_span(&mut self, desk: &mut Desk, ended: &Ended<'_>, more: u64) {
        let Ended { task, first, span, due, state, reason } = *ended;
        // Until a ledger covers it a takeover would decide it again. What is yet to come is not
        // waited for: a final ledger could not cover it.
        self.writer.owes(due.min(desk.now.wall.instant()), task.incarnation);
        let run = OpenRun::new(task.clone(), first, due);
        // What may have been started by a version before, or before its record could not be read,
        // and is not remembered, has an account of that under a fence: this one gives way to it.
        let certain = !matches!(reason, EDITED_LATE | UNREADABLE);
        let fence = self.fence().filter(|_| certain).unwrap_or_default();
        let mut record = run.record(desk, &run_id(task, first), fence, state);
        record.reason = Some(reason.to_owned());
        record.span = (span.count > 1).then_some(span);
        desk.end_many(record, more);
    }
}

impl Idle {
    fn remember(&mut self, number: TaskNumber, span: Growing, now: Now) {
        if now.mono.since(self.swept) >= SWEEP_EVERY {
            self.swept = now.mono;
            let from = now.wall.instant().minus(limits::SPAN_LENGTH_MAX);
            self.spans.retain(|_, span| span.first >= from);
        }
        if self.spans.len() < limits::SPANS_GROWING_MAX || self.spans.contains_key(&number) {
            self.spans.insert(number, span);
        }
    }
}

impl Growing {
    fn goes_on(&self, ended: &Ended<'_>, fence: Fence) -> bool {
        self.next == Some(ended.first)
            && self.reason == ended.reason
            && self.fence == fence
            && ended.span.until <= self.first.plus(limits::SPAN_LENGTH_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    fn at(s: i64) -> Instant {
        Instant::from_millis(s * 1_000)
    }

    fn growing(first: i64, next: i64) -> Growing {
        let (first, next) = (at(first), Some(at(next)));
        Growing { first, next, count: 1, reason: "paused", fence: Fence::default() }
    }

    fn now(s: u64) -> Now {
        let mono = Mono::from_micros(s * 1_000_000);
        Now { wall: Wall::from_millis(i64::try_from(s * 1_000).unwrap()), mono }
    }

    #[test]
    fn spans_that_cannot_grow_any_more_are_forgotten() {
        let mut idle = Idle::default();
        idle.remember(TaskNumber(1), growing(100, 101), now(100));
        idle.remember(TaskNumber(2), growing(3_000, 3_001), now(3_000));
        assert_eq!(idle.spans.len(), 2);
        idle.remember(TaskNumber(2), growing(3_000, 3_801), now(3_800));
        assert_eq!(idle.spans.keys().collect::<Vec<_>>(), [&TaskNumber(2)]);
    }

    #[test]
    fn at_the_bound_only_those_that_are_known_grow() {
        let mut idle = Idle::default();
        let numbers = u64::try_from(limits::SPANS_GROWING_MAX).unwrap();
        for number in 0..=numbers {
            idle.remember(TaskNumber(number), growing(10, 11), now(10));
        }
        assert_eq!(idle.spans.len(), limits::SPANS_GROWING_MAX);
        idle.remember(TaskNumber(0), growing(10, 12), now(11));
        assert_eq!(idle.spans[&TaskNumber(0)].next, Some(at(12)));
    }
}
