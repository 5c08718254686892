//! Which days of a month an expression fires on.
//!
//! The day of the month and the day of the week meet here, with the special days of Quartz. All of
//! them come down to one mask of at most 31 bits for a given month, so that the evaluator jumps
//! from day to day by counting zeros, and the rule by which the two fields are joined is one
//! operator: "and" when one of them starts with `*`, as in Debian's cron, "or" when both are
//! restricted.
//!
//! A day that a month does not have matches nothing in that month, `31W` included: Quartz 2.3.2
//! lets such a day spill over and fires on some other day near the end.

use super::fields::{Item, Written};

/// Bits 1 to 31.
type DayMask = u32;

/// The two day fields, compiled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Days {
    month_days: DayMask,
    /// Bits 0 = Sunday to 6.
    week_days: u8,
    /// Either field is enough; otherwise both must hold.
    either: bool,
    /// `None` for nearly every expression, so that it costs them nothing.
    special: Option<Box<Special>>,
}

/// The days that Quartz counts from the end of the month or by weeks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Special {
    /// Bit n: n days before the last day.
    last: u32,
    /// The same, moved to the nearest day from Monday to Friday.
    last_workday: u32,
    /// Bit n: the day from Monday to Friday nearest to day n.
    nearest: DayMask,
    /// The last such day of the week.
    last_of_week: u8,
    /// The first to fifth such day of the week.
    nth: [u8; 5],
}

impl Days {
    pub fn new(month_days: DayMask, week_days: u8, day: &Written, week_day: &Written) -> Days {
        let mut special = Special::default();
        for item in day.items.iter().chain(&week_day.items) {
            special.add(*item);
        }
        Days {
            month_days,
            week_days,
            either: !day.starred && !week_day.starred,
            special: (special != Special::default()).then(|| Box::new(special)),
        }
    }

    /// The days that match in a month of `length` days whose first is the day `first` of the week.
    pub fn mask(&self, first: u8, length: u8) -> DayMask {
        let mut by_month = self.month_days;
        let mut by_week = week_mask(self.week_days, first);
        if let Some(special) = &self.special {
            by_month |= special.by_month(first, length);
            by_week |= special.by_week(first, length);
        }
        let days = if self.either { by_month | by_week } else { by_month & by_week };
        days & whole(length)
    }
}

impl Special {
    fn add(&mut self, item: Item) {
        match item {
            Item::All | Item::Range { .. } => {}
            Item::Last { before, workday: false } => self.last |= 1 << before,
            Item::Last { before, workday: true } => self.last_workday |= 1 << before,
            Item::Nearest { day } => self.nearest |= 1 << day,
            Item::LastOfWeek { day } => self.last_of_week |= 1 << day,
            Item::Nth { day, nth } => self.nth[usize::from(nth - 1)] |= 1 << day,
        }
    }

    fn by_month(&self, first: u8, length: u8) -> DayMask {
        let mut days = 0;
        for before in bits(self.last).filter(|before| *before < length) {
            days |= 1 << (length - before);
        }
        for before in bits(self.last_workday).filter(|before| *before < length) {
            days |= 1 << workday_near(length - before, first, length);
        }
        for day in bits(self.nearest).filter(|day| *day <= length) {
            days |= 1 << workday_near(day, first, length);
        }
        days
    }

    fn by_week(&self, first: u8, length: u8) -> DayMask {
        let mut days = week_mask(self.last_of_week, first) & whole(length) & !whole(length - 7);
        for (week, week_days) in (0_u8..).zip(self.nth) {
            days |= week_mask(week_days, first) & (0b1111_1110 << (7 * week));
        }
        days
    }
}

/// Bits 1 to `length`.
fn whole(length: u8) -> DayMask {
    (u32::MAX >> (31 - length)) & !1
}

/// The days of a month that starts with the day `first` of the week and fall on `week_days`.
fn week_mask(week_days: u8, first: u8) -> DayMask {
    let turned = u64::from(week_days) << 7 >> first;
    let week = (turned | turned >> 7) & 0b111_1111;
    let days = week | week << 7 | week << 14 | week << 21 | week << 28;
    u32::try_from((days << 1) & u64::from(u32::MAX)).expect("cut to 32 bits")
}

/// The day from Monday to Friday that is nearest to `day`, within the month.
fn workday_near(day: u8, first: u8, length: u8) -> u8 {
    let (sunday, saturday) = (0, 6);
    let week_day = (first + day - 1) % 7;
    if week_day == saturday {
        if day > 1 { day - 1 } else { day + 2 }
    } else if week_day == sunday {
        if day < length { day + 1 } else { day - 2 }
    } else {
        day
    }
}

fn bits(mut set: u32) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let bit = u8::try_from(set.trailing_zeros()).ok().filter(|bit| *bit < 32)?;
        set &= set - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_of_28_days_that_starts_on_a_sunday_has_its_sundays_on_1_8_15_22() {
        let sundays = week_mask(1, 0) & whole(28);
        assert_eq!(bits(sundays).collect::<Vec<_>>(), [1, 8, 15, 22]);
    }

    #[test]
    fn a_week_mask_agrees_with_counting_days() {
        for first in 0..7_u8 {
            for week_days in 0..128_u8 {
                let counted = (1..=31_u8)
                    .filter(|day| week_days >> ((first + day - 1) % 7) & 1 == 1)
                    .fold(0, |mask, day| mask | 1_u32 << day);
                assert_eq!(week_mask(week_days, first), counted);
            }
        }
    }

    #[test]
    fn the_nearest_workday_never_leaves_the_month() {
        assert_eq!(workday_near(1, 6, 31), 3, "a first that is a Saturday");
        assert_eq!(workday_near(31, 5, 31), 29, "a last that is a Sunday");
        assert_eq!(workday_near(15, 0, 30), 16, "a Sunday in the middle");
        assert_eq!(workday_near(14, 0, 30), 13, "a Saturday in the middle");
    }
}
