//! Cron expressions: parsed once, checked, and evaluated by jumps.
//!
//! Two dialects share one grammar and one inner form. `crontab` is what Debian's cron does, down to
//! its day rule, with seconds, years and `H` added in front, behind and between; `quartz` is what
//! Java people paste. Guessing the dialect from the text was the option not taken: a day of the
//! week of 2 is Tuesday in one and Monday in the other, and one typed `?` must not decide which.
//!
//! The text is kept beside the compiled sets, since it is what people wrote and want to see again;
//! the sets are all that evaluation touches.
//!
//! Order of work: `parse`, with `quartz` and `hashed`, makes `fields`; these and `days` are what
//! `eval` searches.

mod days;
mod describe;
mod describe_days;
mod error;
mod eval;
mod fields;
mod hashed;
mod parse;
mod quartz;

pub use error::{CronError, Problem};
pub use fields::{Field, YEAR_MAX, YEAR_MIN};
pub use parse::EXPRESSION_BYTES_MAX;

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::Offset;

use self::eval::CALENDAR_YEARS;
use self::fields::Sets;
use super::dst::{Change, Fold, Gap, Resolved, local_at, second_of};
use super::zone::Zone;
use crate::time::Instant;

/// Whose rules an expression follows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Dialect {
    /// Debian's cron: five fields; six with the second first; seven with the year last;
    /// macros; `H`.
    #[default]
    Crontab,
    /// Quartz: six or seven fields with the second first, 1 = Sunday, `L`, `W`, `#`, `?`, and
    /// ranges that wrap.
    Quartz,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialect::Crontab => "crontab",
            Dialect::Quartz => "quartz",
        })
    }
}

/// A cron expression in a time zone, with its rules for the changes of the clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cron {
    expression: Box<str>,
    dialect: Dialect,
    zone: Zone,
    gap: Gap,
    fold: Fold,
    hash_seed: u64,
    /// The minute or the hour starts with `*`: the expression means a spacing in real time, so it
    /// fires whenever the clock shows a match, and `gap` and `fold` do not matter.
    keeps_spacing: bool,
    sets: Sets,
}

impl Cron {
    /// Reads an expression. `hash_seed` is the hash of the task's name, for `H`.
    pub fn parse(
        expression: &str,
        dialect: Dialect,
        zone: Zone,
        gap: Gap,
        fold: Fold,
        hash_seed: u64,
    ) -> Result<Cron, CronError> {
        let fields = parse::parse(expression, dialect, hash_seed)?;
        let [_, minute, hour, ..] = &fields;
        Ok(Cron {
            expression: expression.into(),
            dialect,
            zone,
            gap,
            fold,
            hash_seed,
            keeps_spacing: minute.starred || hour.starred,
            sets: Sets::new(&fields, dialect),
        })
    }

    /// The expression as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The rule for local times that do not exist, as it was given.
    pub fn gap(&self) -> Gap {
        self.gap
    }

    /// The rule for local times that come twice, as it was given.
    pub fn fold(&self) -> Fold {
        self.fold
    }

    /// Whether the expression means a spacing in real time, on which `gap` and `fold` have no
    /// effect.
    pub fn keeps_spacing(&self) -> bool {
        self.keeps_spacing
    }

    /// The first instant strictly after `after`; `None` if there is none up to [`Instant::MAX`].
    ///
    /// Local matches map to instants in an order that never turns back, but for the second pass of
    /// a fold, which therefore comes first here.
    pub fn next_after(&self, after: Instant) -> Option<Instant> {
        let after = after.millis().div_euclid(1_000);
        if self.zone.is_utc() {
            let from = local_at(after + 1, Offset::UTC);
            return instant(second_of(self.sets.at_or_after(from)?, Offset::UTC));
        }
        let offset = self.zone.offset(after);
        let from = local_at(after + 1, offset);
        if self.rules().1 != Fold::First
            && let Some(fold) = self.zone.first_pass(after, offset)
            && let Some(second) = self.within_fold(&fold, from)
        {
            return instant(second);
        }
        instant(self.search(from, after)?)
    }

    /// The first local time at or after `from` that matches, whether it exists or not.
    pub(super) fn local_match(&self, from: DateTime) -> Option<DateTime> {
        self.sets.at_or_after(from)
    }

    /// Whether a jump of the clock by `shift` seconds leaves the spacing as it was: the expression
    /// matches in every hour, and the jump brings its minutes back onto its minutes.
    pub(super) fn is_unmoved_by(&self, shift: u32) -> bool {
        let minutes = shift / 60 % 60;
        let sets = &self.sets;
        let turned = sets.minutes >> minutes | sets.minutes << (60 - minutes);
        sets.has_all_hours() && shift.is_multiple_of(60) && turned & ((1 << 60) - 1) == sets.minutes
    }

    /// What the rules come to: keeping the spacing is the same as firing at what exists, each time.
    fn rules(&self) -> (Gap, Fold) {
        if self.keeps_spacing { (Gap::Skip, Fold::Both) } else { (self.gap, self.fold) }
    }

    /// The next match within a fold, asked from its first pass, when second passes count.
    fn within_fold(&self, fold: &Change, from: DateTime) -> Option<i64> {
        let match_from = |from| self.sets.at_or_after(from).filter(|at| *at < fold.local_end());
        if self.rules().1 == Fold::Both
            && let Some(first) = match_from(from)
        {
            return Some(second_of(first, fold.before));
        }
        match_from(fold.local_start()).map(|second| second_of(second, fold.after))
    }

    /// Goes through local matches until one of them is an instant after `after`.
    fn search(&self, mut from: DateTime, after: i64) -> Option<i64> {
        let (gap_rule, fold_rule) = self.rules();
        // A time that lies in the gap of every year would be looked for up to the year 9999.
        let year_max = from.year().saturating_add(CALENDAR_YEARS);
        loop {
            let local = self.sets.at_or_after(from).filter(|at| at.year() <= year_max)?;
            let change = match self.zone.resolve(local) {
                Resolved::Once(second) => return Some(second),
                // A gap that is ahead on the local clock is ahead in time.
                Resolved::Gap(change) if gap_rule == Gap::After => return Some(change.at),
                Resolved::Gap(change) => change,
                Resolved::Fold(change) => {
                    let (first, second) =
                        (second_of(local, change.before), second_of(local, change.after));
                    if fold_rule != Fold::Second && first > after {
                        return Some(first);
                    }
                    if fold_rule != Fold::First && second > after {
                        return Some(second);
                    }
                    change
                }
            };
            from = change.local_end();
        }
    }
}

/// `None` beyond the last instant that can be written.
fn instant(second: i64) -> Option<Instant> {
    let millis = second.checked_mul(1_000)?;
    (millis <= Instant::MAX.millis()).then(|| Instant::from_millis(millis))
}
