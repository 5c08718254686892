//! Times in RFC 3339, with an offset: a time without one means something else on every host.
//!
//! Input may be finer than we keep (an instant has milliseconds, a moment microseconds). Rounding
//! has a direction: up where something begins, since nothing starts before its due, and down where
//! something ends.

use jiff::Timestamp;
use tocktower_core::time::{Instant, Wall};

/// Reads an instant, rounded up to the millisecond.
pub fn parse_instant(text: &str) -> Result<Instant, String> {
    let nanos = parse(text)?.as_nanosecond();
    let ms = i64::try_from(ceiling(nanos, 1_000_000)).unwrap_or(i64::MAX);
    let instant = Instant::from_millis(ms);
    if instant.millis() == ms { Ok(instant) } else { Err(out_of_range(text)) }
}

/// Reads a moment at which something begins, rounded up to the microsecond.
pub fn parse_wall_up(text: &str) -> Result<Wall, String> {
    wall(text, ceiling(parse(text)?.as_nanosecond(), 1_000))
}

/// Reads a moment at which something ends, rounded down to the microsecond.
pub fn parse_wall_down(text: &str) -> Result<Wall, String> {
    wall(text, parse(text)?.as_nanosecond().div_euclid(1_000))
}

/// An instant as RFC 3339 in UTC.
pub fn format_instant(instant: Instant) -> String {
    format_wall(instant.wall())
}

/// A moment as RFC 3339 in UTC, to the microsecond.
pub fn format_wall(wall: Wall) -> String {
    let micros = wall.micros().clamp(Wall::MIN.micros(), Wall::MAX.micros());
    match Timestamp::from_microsecond(micros) {
        Ok(timestamp) => timestamp.to_string(),
        Err(_) => unreachable!("1970 to 9999 is within jiff's range"),
    }
}

fn wall(text: &str, micros: i128) -> Result<Wall, String> {
    let wall = i64::try_from(micros).ok().map(Wall::from_micros);
    let within = |wall: &Wall| (Wall::MIN..=Wall::MAX).contains(wall);
    wall.filter(within).ok_or_else(|| out_of_range(text))
}

fn ceiling(value: i128, unit: i128) -> i128 {
    -(-value).div_euclid(unit)
}

/// jiff reads more than RFC 3339: a space for the T, annotations of a zone, short offsets.
fn parse(text: &str) -> Result<Timestamp, String> {
    let bytes = text.as_bytes();
    let offset = match bytes.last() {
        Some(b'Z' | b'z') => true,
        _ => matches!(
            bytes.iter().rev().take(6).collect::<Vec<_>>().as_slice(),
            [_, _, b':', _, _, b'+' | b'-']
        ),
    };
    let shape = matches!(bytes.get(10), Some(b'T' | b't')) && offset && !text.contains('[');
    let parsed = if shape { text.parse::<Timestamp>().ok() } else { None };
    parsed.ok_or_else(|| {
        format!(
            "{:?} is no time: write RFC 3339 with an offset, such as 2026-11-24T10:00:00Z or \
             2026-11-24T11:00:00+01:00",
            clipped(text)
        )
    })
}

fn out_of_range(text: &str) -> String {
    format!("{:?} is out of range: allowed is 1970 to 9999", clipped(text))
}

fn clipped(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_instant_is_rounded_up_so_that_nothing_starts_early() {
        let read = |text| parse_instant(text).unwrap().millis();
        assert_eq!(read("1970-01-01T00:00:01Z"), 1_000);
        assert_eq!(read("1970-01-01T01:00:01+01:00"), 1_000);
        assert_eq!(read("1970-01-01T00:00:01.000000001Z"), 1_001);
        assert_eq!(read("1970-01-01t00:00:01.5z"), 1_500);
    }

    #[test]
    fn begins_are_rounded_up_and_ends_down() {
        let text = "1970-01-01T00:00:00.0000015Z";
        assert_eq!(parse_wall_up(text), Ok(Wall::from_micros(2)));
        assert_eq!(parse_wall_down(text), Ok(Wall::from_micros(1)));
    }

    #[test]
    fn a_time_needs_a_zone_and_a_place_in_the_calendar() {
        for text in [
            "2026-11-24T10:00:00",
            "2026-11-24 10:00:00Z",
            "2026-11-24T10:00:00+01:00[Europe/Berlin]",
            "2026-02-30T10:00:00Z",
            "tomorrow",
            "",
            "1969-12-31T23:59:59Z",
        ] {
            let error = parse_instant(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_written_instant_reads_back(ms in 0..=Instant::MAX.millis()) {
            let instant = Instant::from_millis(ms);
            prop_assert_eq!(parse_instant(&format_instant(instant)), Ok(instant));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = (parse_instant(&text), parse_wall_up(&text), parse_wall_down(&text));
        }
    }
}
