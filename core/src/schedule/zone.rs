//! Time zones by IANA name, from the database that is compiled into the program.
//!
//! The zone files of the host are not read: two agents with different packages would compute
//! different instants for the same task, and a task could run twice or not at all when it moves.
//! With the database bundled, the version of the program decides, and every daemon reports
//! [`tz_database_version`] so that a mixed fleet shows.

use std::fmt;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use super::dst::{Change, Resolved, local_at, second_of, timestamp};
use crate::time::Instant;

/// Longest name that is looked up.
const NAME_BYTES_MAX: usize = 64;

/// The release of the bundled database. jiff does not pass it on, so it stands here, and a test
/// compares it with the crate that holds the data.
const TZ_DATABASE_VERSION: &str = "2026f";

/// The release of the IANA time zone database in this program, such as `2026f`.
pub fn tz_database_version() -> &'static str {
    TZ_DATABASE_VERSION
}

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone. Cloning it copies a pointer.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// Why a zone was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is not a time zone: use a name of the IANA database (here {}) such as \
     Europe/Berlin, or UTC{suggestion}",
    TZ_DATABASE_VERSION
)]
pub struct ZoneError {
    pub given: String,
    /// `; did you mean …?`, or empty.
    pub suggestion: String,
}

impl Zone {
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// Looks a name up, in any case. The name that is kept is the database's own spelling.
    pub fn parse(name: &str) -> Result<Zone, ZoneError> {
        let found = DATABASE.get(name).ok().filter(|zone| !zone.is_unknown());
        let named = found.filter(|zone| name.len() <= NAME_BYTES_MAX && zone.iana_name().is_some());
        named.map(Zone).ok_or_else(|| ZoneError {
            given: name.chars().take(NAME_BYTES_MAX).collect(),
            suggestion: suggestion(name),
        })
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().expect("a zone without a name is refused by `parse`")
    }

    /// The local time and the zone's offset at an instant, for showing it.
    pub fn local(&self, instant: Instant) -> (DateTime, Offset) {
        let at = Timestamp::from_millisecond(instant.millis()).expect("instants end in 9999");
        let offset = self.0.to_offset(at);
        (offset.to_datetime(at), offset)
    }

    /// The local date at an instant.
    pub fn date(&self, instant: Instant) -> Date {
        self.local(instant).0.date()
    }

    /// The first instant of the day after `date` that is later than `after`, if there is one.
    pub(super) fn day_after(&self, date: Date, after: Instant) -> Option<Instant> {
        let midnight = date.tomorrow().ok()?.to_datetime(Time::midnight());
        let seconds = match self.resolve(midnight) {
            Resolved::Once(second) => [second, second],
            Resolved::Gap(change) => [change.at, change.at],
            Resolved::Fold(change) => {
                [second_of(midnight, change.before), second_of(midnight, change.after)]
            }
        };
        let millis = seconds.map(|second| second.saturating_mul(1_000));
        millis.into_iter().find(|ms| *ms > after.millis()).map(Instant::from_millis)
    }

    pub(super) fn offset(&self, second: i64) -> Offset {
        self.0.to_offset(timestamp(second))
    }

    /// UTC itself, which needs none of what follows.
    pub(super) fn is_utc(&self) -> bool {
        self.0 == TimeZone::UTC
    }

    /// What a local time is in real time.
    pub(super) fn resolve(&self, local: DateTime) -> Resolved {
        match self.0.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => Resolved::Once(second_of(local, offset)),
            AmbiguousOffset::Gap { after, .. } => {
                match self.change_after(second_of(local, after)) {
                    Some(change) => Resolved::Gap(change),
                    None => Resolved::Once(second_of(local, after)),
                }
            }
            AmbiguousOffset::Fold { before, .. } => {
                match self.change_after(second_of(local, before)) {
                    Some(change) => Resolved::Fold(change),
                    None => Resolved::Once(second_of(local, before)),
                }
            }
        }
    }

    /// The fold whose first pass is going on at `second`.
    pub(super) fn first_pass(&self, second: i64, offset: Offset) -> Option<Change> {
        match self.0.to_ambiguous_timestamp(local_at(second, offset)).offset() {
            AmbiguousOffset::Fold { before, .. } if before == offset => self.change_after(second),
            _ => None,
        }
    }

    /// The next change of the offset after `second`. Changes of the name alone are passed over.
    pub(super) fn change_after(&self, second: i64) -> Option<Change> {
        let mut before = self.offset(second);
        for transition in self.0.following(timestamp(second)) {
            let after = transition.offset();
            if after != before {
                return Some(Change { at: transition.timestamp().as_second(), before, after });
            }
            before = after;
        }
        None
    }
}

/// Zones whose last part is the name that was given: `Berlin` means `Europe/Berlin`.
fn suggestion(given: &str) -> String {
    let city = given.rsplit('/').next().unwrap_or(given).replace(' ', "_");
    let same_city = |name: &str| {
        let last = name.rsplit('/').next();
        name.contains('/') && last.is_some_and(|last| last.eq_ignore_ascii_case(&city))
    };
    let found = DATABASE.available().find(|name| same_city(name.as_str()));
    found.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
