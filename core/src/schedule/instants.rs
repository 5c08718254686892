//! All instants of one task: its schedules as one ordered stream without doubles.
//!
//! Two schedules that meet make one run, an excluded date makes none, and a task has a start and an
//! end. The stream is never kept: it is asked for what comes next. For walks over many instants
//! [`Instants`] remembers where each schedule stands, so that 64 schedules cost one step per
//! instant and not 64.
//!
//! `max_runs` has no counter that would have to survive failovers: when a task is written, the
//! last instant is found by counting ([`Timetable::last_of`]), and from then on it is an end.
//!
//! Every loop is bounded. An excluded date is jumped over as a whole, so a schedule takes at most
//! as many jumps as there are excluded dates; all the others move on with each step.

use std::collections::BTreeSet;

use jiff::civil::Date;

use super::Schedule;
use super::zone::Zone;
use crate::time::Instant;

/// When one task runs. Its fields may be set freely; every combination has a meaning.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Timetable {
    pub schedules: Vec<Schedule>,
    /// No instant lies before it.
    pub start: Option<Instant>,
    /// No instant lies after it; it may be one itself.
    pub end: Option<Instant>,
    /// As `end`: the last instant that `max_runs` allows.
    pub last: Option<Instant>,
    /// Dates without instants, in the zone of each cron expression, and in UTC for the others.
    pub exclude: BTreeSet<Date>,
}

impl Timetable {
    /// The first instant strictly after `after`.
    pub fn next_after(&self, after: Instant) -> Option<Instant> {
        self.instants_after(after).next()
    }

    /// The instants strictly after `after`, in order.
    pub fn instants_after(&self, after: Instant) -> Instants<'_> {
        // A start at the epoch itself has no "just before", and needs none: nothing lies before it.
        let before_start = self.start.map(|start| start.millis() - 1).filter(|ms| *ms >= 0);
        let from = before_start.map_or(after, |ms| after.max(Instant::from_millis(ms)));
        let heads = self.schedules.iter().map(|schedule| self.next_of(schedule, from)).collect();
        Instants { timetable: self, heads }
    }

    /// The last instant after `after` and not after `until`. Schedules only tell what comes next,
    /// so the stretch is halved until nothing of it is left: some forty questions, however dense
    /// the instants are and however long the stretch is.
    pub fn last_between(&self, after: Instant, until: Instant) -> Option<Instant> {
        let next = |after: Instant| self.next_after(after).filter(|next| *next <= until);
        let mut last = next(after)?;
        // There is none in (quiet, until].
        let mut quiet = until;
        while last < quiet {
            let half = last.millis() + (quiet.millis() - last.millis()) / 2;
            match next(Instant::from_millis(half)) {
                Some(later) => last = later,
                None => quiet = Instant::from_millis(half),
            }
        }
        Some(last)
    }

    /// How many instants lie after `after` and not after `until`, counted up to `cap`.
    pub fn count_between(&self, after: Instant, until: Instant, cap: u64) -> u64 {
        let within = self.instants_after(after).take_while(|instant| *instant <= until);
        (0..cap).zip(within).fold(0, |count, _| count + 1)
    }

    /// The `max_runs`-th instant strictly after `from`; `None` if there are not that many, so that
    /// the schedules end by themselves. It takes `max_runs` steps: bound it by
    /// [`RUNS_MAX`](crate::limits::RUNS_MAX) first.
    pub fn last_of(&self, from: Instant, max_runs: u64) -> Option<Instant> {
        let skipped = usize::try_from(max_runs.checked_sub(1)?).ok()?;
        self.instants_after(from).nth(skipped)
    }

    /// The next instant of one schedule that is not excluded and not after the end.
    fn next_of(&self, schedule: &Schedule, mut after: Instant) -> Option<Instant> {
        let end = [self.end, self.last].into_iter().flatten().min().unwrap_or(Instant::MAX);
        loop {
            let next = schedule.next_after(after).filter(|next| *next <= end)?;
            if self.exclude.is_empty() {
                return Some(next);
            }
            let zone = schedule.zone();
            let date = zone.date(next);
            if !self.exclude.contains(&date) {
                return Some(next);
            }
            after = end_of(zone, date, next);
        }
    }
}

/// The last millisecond of a local day; `at` itself if that is later, as it can be when the clock
/// goes back over midnight and the day comes again.
fn end_of(zone: &Zone, date: Date, at: Instant) -> Instant {
    let next_day = zone.day_after(date, at).unwrap_or(Instant::MAX);
    at.max(Instant::from_millis(next_day.millis() - 1))
}

/// A walk over the instants of a [`Timetable`].
#[derive(Clone, Debug)]
pub struct Instants<'a> {
    timetable: &'a Timetable,
    /// The next instant of each schedule.
    heads: Vec<Option<Instant>>,
}

impl Iterator for Instants<'_> {
    type Item = Instant;

    fn next(&mut self) -> Option<Instant> {
        let next = self.heads.iter().flatten().min().copied()?;
        for (head, schedule) in self.heads.iter_mut().zip(&self.timetable.schedules) {
            if *head == Some(next) {
                *head = self.timetable.next_of(schedule, next);
            }
        }
        Some(next)
    }
}
