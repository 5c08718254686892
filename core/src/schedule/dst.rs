//! Where the local clock jumps: what becomes of a local time that does not exist or comes twice.
//!
//! A change of a zone's offset either leaves out local times (a gap, in spring) or repeats them (a
//! fold, in autumn). Both are described by one [`Change`]: the instant at which it happens and the
//! offsets around it. From these follow the first and the last local time that is concerned, which
//! is all that the evaluator needs; how long the gap is does not matter, so that half hours
//! (Lord Howe) and a whole lost day (Apia, 2011-12-30) need no case of their own.
//!
//! Library routines that resolve a local time to "the compatible instant" were not enough: they
//! move 02:30 to 03:30, where cron fires at the first instant after the gap, and only once.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::Offset;

/// What is done with a local time that does not exist.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Gap {
    /// It is left out.
    Skip,
    /// It fires at the first instant after the gap; several such times make one instant.
    #[default]
    After,
}

/// What is done with a local time that comes twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Fold {
    /// It fires when it comes first.
    #[default]
    First,
    /// It fires when it comes again.
    Second,
    /// It fires both times.
    Both,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gap::Skip => "skip",
            Gap::After => "after",
        })
    }
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fold::First => "first",
            Fold::Second => "second",
            Fold::Both => "both",
        })
    }
}

/// A change of the offset of a zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// The first second of the new offset, since the Unix epoch.
    pub at: i64,
    pub before: Offset,
    pub after: Offset,
}

impl Change {
    /// The clock goes forward and leaves out local times.
    pub fn is_gap(&self) -> bool {
        self.before < self.after
    }

    /// The first local time that is left out or repeated.
    pub fn local_start(&self) -> DateTime {
        local_at(self.at, self.before.min(self.after))
    }

    /// The first local time after those that are left out or repeated.
    pub fn local_end(&self) -> DateTime {
        local_at(self.at, self.before.max(self.after))
    }

    /// Seconds by which the clock jumps.
    pub fn shift(&self) -> u32 {
        self.before.seconds().abs_diff(self.after.seconds())
    }
}

/// What a local time is in real time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resolved {
    /// One instant, in seconds since the Unix epoch.
    Once(i64),
    /// It does not exist.
    Gap(Change),
    /// It comes twice.
    Fold(Change),
}

/// The local time at `second` for an offset.
pub(super) fn local_at(second: i64, offset: Offset) -> DateTime {
    offset.to_datetime(timestamp(second))
}

/// The moment at which a clock with this offset shows `local`, in seconds since the Unix epoch.
pub(super) fn second_of(local: DateTime, offset: Offset) -> i64 {
    // Beyond what can be written as an instant it does not matter by how much.
    offset.to_timestamp(local).map_or(i64::MAX, jiff::Timestamp::as_second)
}

pub(super) fn timestamp(second: i64) -> jiff::Timestamp {
    let (low, high) = (jiff::Timestamp::MIN.as_second(), jiff::Timestamp::MAX.as_second());
    jiff::Timestamp::from_second(second.clamp(low, high)).expect("cut to the range")
}
