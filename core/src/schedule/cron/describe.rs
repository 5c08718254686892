//! An expression in plain language: "At 02:30 every day, Europe/Berlin".
//!
//! The reading is made from the values of the fields and not from their text, so that `*/15`,
//! `0-45/15` and `0,15,30,45` read the same, `H` shows what it came to, and no way of writing can
//! slip through with a wrong sentence. A few forms that nearly all expressions have get a sentence
//! of their own; everything else is read field by field, which is clumsy and still true.

use super::super::words::{self, Steps};
use super::Cron;
use super::fields::{Field, Fields, Rule, Written};
use super::{Dialect, describe_days, parse};

/// Up to so many times of day are listed one by one.
const TIMES_LISTED_MAX: usize = 6;

impl Cron {
    /// The expression in plain language, with the zone.
    pub fn describe(&self) -> String {
        let fields = parse::parse(&self.expression, self.dialect, self.hash_seed)
            .expect("it was parsed when the value was made");
        let (clock, names_times) = clock(&fields, self.dialect);
        let days = describe_days::days(&fields, self.dialect);
        let joined = match days {
            None if names_times => format!("{clock} every day"),
            None => clock,
            Some(days) if names_times => format!("{clock} {days}"),
            Some(days) => format!("{clock}, {days}"),
        };
        words::sentence(&format!("{joined}, {}", self.zone))
    }
}

/// The values of the three fields of the clock.
struct Clock {
    seconds: Vec<u32>,
    minutes: Vec<u32>,
    hours: Vec<u32>,
}

/// The reading of the clock, and whether it names times of a day ("at 02:30").
fn clock(fields: &Fields, dialect: Dialect) -> (String, bool) {
    let [second, minute, hour, ..] = fields;
    let values =
        |written: &Written, field| words::members(written.bits(&Rule::new(field, dialect), 0));
    let clock = Clock {
        seconds: values(second, Field::Second),
        minutes: values(minute, Field::Minute),
        hours: values(hour, Field::Hour),
    };
    if let Some(text) = clock.times() {
        return (text, true);
    }
    let other = clock.frequency().or_else(|| clock.hourly());
    (other.unwrap_or_else(|| clock.by_field()), false)
}

impl Clock {
    /// "at 02:30 and 14:30"
    fn times(&self) -> Option<String> {
        let count = self.seconds.len() * self.minutes.len() * self.hours.len();
        if count > TIMES_LISTED_MAX {
            return None;
        }
        let mut times = Vec::new();
        for hour in &self.hours {
            for minute in &self.minutes {
                times.extend(self.seconds.iter().map(|second| self.time(*hour, *minute, *second)));
            }
        }
        Some(format!("at {}", words::list(&times, "and")))
    }

    /// "every 15 minutes from 09:00 to 17:45"
    fn frequency(&self) -> Option<String> {
        let pace = match (pace(&self.seconds), pace(&self.minutes)) {
            (Some(step), Some(1)) => words::every(step, "second"),
            (None, Some(step)) if self.seconds == [0] => words::every(step, "minute"),
            _ => return None,
        };
        let (first, last) = (*self.minutes.first()?, *self.minutes.last()?);
        match (self.hours.as_slice(), Steps::of(&self.hours)) {
            (hours, _) if hours.len() == 24 => Some(pace),
            ([hour], _) => Some(format!("{pace} from {hour:02}:{first:02} to {hour:02}:{last:02}")),
            (_, Some(Steps { first: from, last: to, step: 1 })) => {
                Some(format!("{pace} from {from:02}:{first:02} to {to:02}:{last:02}"))
            }
            (_, Some(steps)) if steps.goes_round(24) => {
                Some(format!("{pace} of every {} hour", words::ordinal(steps.step)))
            }
            _ => Some(format!("{pace} in the hours {}", words::runs(&self.hours))),
        }
    }

    /// "every 2 hours from 00:30 to 22:30"
    fn hourly(&self) -> Option<String> {
        let &[second] = self.seconds.as_slice() else {
            return None;
        };
        if let &[minute] = self.minutes.as_slice() {
            if self.hours.len() == 24 {
                return Some(match (minute, second) {
                    (0, 0) => "every hour, on the hour".to_owned(),
                    _ => format!("every hour at {} past", past(minute, second)),
                });
            }
            if let Some(Steps { first, last, step }) = Steps::of(&self.hours) {
                let (from, to) =
                    (self.time(first, minute, second), self.time(last, minute, second));
                return Some(format!("{} from {from} to {to}", words::every(step, "hour")));
            }
            let hours = words::runs(&self.hours);
            return Some(format!("at {} past the hours {hours}", past(minute, second)));
        }
        if second != 0 {
            return None;
        }
        let minutes = words::runs(&self.minutes);
        match Steps::of(&self.hours) {
            _ if self.hours.len() == 24 => Some(format!("every hour at {minutes} minutes past")),
            Some(Steps { first, last, step: 1 }) => {
                Some(format!("at {minutes} minutes past every hour from {first:02} to {last:02}"))
            }
            _ => None,
        }
    }

    fn by_field(&self) -> String {
        let mut parts = Vec::new();
        for (name, values, size) in [
            ("second", &self.seconds, 60),
            ("minute", &self.minutes, 60),
            ("hour", &self.hours, 24),
        ] {
            parts.push(if values.len() == size {
                format!("every {name}")
            } else {
                let ending = if values.len() == 1 { "" } else { "s" };
                format!("{name}{ending} {}", words::runs(values))
            });
        }
        format!("at {}", parts.join(" of "))
    }

    fn time(&self, hour: u32, minute: u32, second: u32) -> String {
        if self.seconds == [0] {
            format!("{hour:02}:{minute:02}")
        } else {
            format!("{hour:02}:{minute:02}:{second:02}")
        }
    }
}

/// The even distance of values that go round the hour or the minute without a break.
fn pace(values: &[u32]) -> Option<u32> {
    match values {
        // Two values are too few for `Steps`, and there is one pair of them.
        [0, 30] => Some(30),
        _ => Steps::of(values).filter(|steps| steps.goes_round(60)).map(|steps| steps.step),
    }
}

/// "30 minutes and 15 seconds"
fn past(minute: u32, second: u32) -> String {
    let parts = [(minute, "minute"), (second, "second")];
    let parts = parts.iter().filter(|(number, noun)| *number > 0 || *noun == "minute");
    let parts = parts.map(|(number, noun)| words::count(u64::from(*number), noun));
    words::list(&parts.collect::<Vec<_>>(), "and")
}
