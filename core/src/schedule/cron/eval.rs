//! The next local time that matches, by jumping from field to field.
//!
//! Stepping through minutes and testing each is simple and takes millions of steps for 29 February.
//! Here the question "lowest allowed value at or above this one" is asked of each field from the
//! largest down: a month that is not in the set costs nothing, a day costs a count of zeros. What
//! is below a field that moved starts at its lowest value.
//!
//! All of it is on the local wall clock, where days have 24 hours and nothing is skipped or
//! repeated; `schedule::dst` maps what is found to real time.
//!
//! The calendar repeats after 400 years, leap days and days of the week included, so an expression
//! that matched nothing for that long never will: the search is bounded, and its answer exact.

use jiff::civil::{Date, DateTime, Time};

use super::fields::Sets;

/// Years after which the calendar repeats.
pub(super) const CALENDAR_YEARS: i16 = 400;

impl Sets {
    /// The first match at or after `from`, which has no fraction of a second.
    pub fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        let (date, time) = (from.date(), from.time());
        if let Some(time) = self.time_at_or_after(time)
            && self.days_of(date.year(), date.month()) >> date.day() & 1 == 1
            && self.has_month(date.year(), date.month())
        {
            return Some(date.to_datetime(time));
        }
        let date = self.date_at_or_after(date.tomorrow().ok()?)?;
        Some(date.to_datetime(self.time_at_or_after(Time::midnight())?))
    }

    pub fn has_all_hours(&self) -> bool {
        self.hours == (1 << 24) - 1
    }

    fn has_month(&self, year: i16, month: i8) -> bool {
        self.months >> month & 1 == 1 && self.years.at_or_after(year) == Some(year)
    }

    fn time_at_or_after(&self, time: Time) -> Option<Time> {
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        let hours = u64::from(self.hours);
        if hours >> hour & 1 == 1 {
            if self.minutes >> minute & 1 == 1
                && let Some(second) = lowest(self.seconds, second)
            {
                return Some(clock(hour, minute, second));
            }
            if let Some(minute) = lowest(self.minutes, minute + 1) {
                return Some(clock(hour, minute, lowest(self.seconds, 0)?));
            }
        }
        let hour = lowest(hours, hour + 1)?;
        Some(clock(hour, lowest(self.minutes, 0)?, lowest(self.seconds, 0)?))
    }

    fn date_at_or_after(&self, from: Date) -> Option<Date> {
        let year_max = from.year().saturating_add(CALENDAR_YEARS).min(Date::MAX.year());
        let (mut year, mut month, mut day) = (from.year(), from.month(), from.day());
        loop {
            let allowed = self.years.at_or_after(year).filter(|year| *year <= year_max)?;
            if allowed > year {
                (year, month, day) = (allowed, 1, 1);
            }
            while let Some(allowed) = lowest(u64::from(self.months), month) {
                if allowed > month {
                    (month, day) = (allowed, 1);
                }
                if let Some(day) = lowest(u64::from(self.days_of(year, month)), day) {
                    return Date::new(year, month, day).ok();
                }
                (month, day) = (month + 1, 1);
            }
            (year, month, day) = (year + 1, 1, 1);
        }
    }

    /// The days of a month that match, bits 1 to 31.
    fn days_of(&self, year: i16, month: i8) -> u32 {
        let first = Date::new(year, month, 1).expect("months are 1 to 12, years at most 9999");
        let week_day = first.weekday().to_sunday_zero_offset();
        self.days.mask(unsigned(week_day), unsigned(first.days_in_month()))
    }
}

/// The lowest member of `set` at or above `from`.
fn lowest(set: u64, from: i8) -> Option<i8> {
    let left = set & u64::MAX.checked_shl(u32::from(unsigned(from)))?;
    if left == 0 {
        return None;
    }
    i8::try_from(left.trailing_zeros()).ok()
}

fn unsigned(value: i8) -> u8 {
    u8::try_from(value).expect("calendar fields are not negative")
}

fn clock(hour: i8, minute: i8, second: i8) -> Time {
    Time::new(hour, minute, second, 0).expect("each field is a member of its own set")
}
