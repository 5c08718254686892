//! Moments as a drill counts them: the time since the Unix epoch, by this machine's clock.
//!
//! Everything in a local drill lives on one machine, so its witness and the agents read the same
//! clock, and lateness needs no correction. On a named fleet lateness is the agents' own figure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Since the Unix epoch.
pub type Moment = Duration;

pub fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A moment for the SDK.
pub fn system(moment: Moment) -> SystemTime {
    UNIX_EPOCH + moment
}

/// A moment that the SDK gave; what lies before 1970 is 1970.
pub fn moment(time: SystemTime) -> Moment {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A moment in RFC 3339.
pub fn parse(text: &str) -> Option<Moment> {
    let time: Timestamp = text.parse().ok()?;
    u64::try_from(time.as_microsecond()).ok().map(Duration::from_micros)
}

/// RFC 3339 in UTC, to the second.
pub fn text(moment: Moment) -> String {
    let seconds = i64::try_from(moment.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_to_the_microsecond() {
        let second = Duration::from_secs(1_795_000_000);
        assert_eq!(parse(&text(second)), Some(second));
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Some(Duration::from_millis(1_500)));
        assert_eq!(parse("1969-12-31T23:59:59Z"), None);
        assert_eq!(parse("soon"), None);
    }
}
