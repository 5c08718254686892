//! Times for people: how far away, and when by the clock on the wall.
//!
//! `in 3h (2026-11-24 10:00:00 CET)` answers both questions that one has about an instant. Scripts
//! get RFC 3339 and nothing else. The present is read once for a command, so that all rows of a
//! table are told from the same moment.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tocktower_client::time::{Timestamp as WireTime, system_time};

use crate::host;

/// The present and the zone that people here live by.
#[derive(Clone)]
pub struct Clock {
    pub now: Timestamp,
    zone: TimeZone,
}

impl Clock {
    pub fn of_host() -> Clock {
        let zone = TimeZone::get(&host::zone()).unwrap_or(TimeZone::UTC);
        Clock { now: Timestamp::now(), zone }
    }

    /// The same clock, a little later.
    pub fn again(&self) -> Clock {
        Clock { now: Timestamp::now(), zone: self.zone.clone() }
    }

    /// `in 3h (2026-11-24 10:00:00 CET)`; `-` for none.
    pub fn both(&self, time: Option<&WireTime>) -> String {
        match time.and_then(timestamp) {
            Some(time) => format!("{} ({})", self.relative(time), self.absolute(time)),
            None => "-".to_owned(),
        }
    }

    /// `2026-11-24 10:00:00 CET`.
    pub fn absolute(&self, time: Timestamp) -> String {
        time.to_zoned_datetime(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
    }

    /// `in 3h`, `5m ago`, `now`.
    pub fn relative(&self, time: Timestamp) -> String {
        let seconds = (time.as_millisecond() - self.now.as_millisecond()) / 1_000;
        let distance = short(Duration::from_secs(seconds.unsigned_abs()));
        match seconds {
            0 => "now".to_owned(),
            1.. => format!("in {distance}"),
            _ => format!("{distance} ago"),
        }
    }
}

/// A moment from the wire.
pub fn timestamp(time: &WireTime) -> Option<Timestamp> {
    Timestamp::try_from(system_time(time)).ok()
}

/// A moment for the SDK.
pub fn sdk_time(time: Timestamp) -> SystemTime {
    // On the wire the part of a second is never negative.
    let (seconds, nanos) = match (time.as_second(), time.subsec_nanosecond()) {
        (seconds, nanos @ ..0) => (seconds - 1, nanos + 1_000_000_000),
        whole => whole,
    };
    system_time(&WireTime { seconds, nanos })
}

/// The two largest units: `3h 20m`, `2d`.
fn short(span: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let seconds = span.as_secs();
    let largest = UNITS.iter().position(|(_, unit)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let (unit, size) = UNITS[largest];
    let mut text = format!("{}{unit}", seconds / size);
    if let Some((unit, next)) = UNITS.get(largest + 1) {
        let rest = seconds % size / next;
        if rest > 0 {
            text.push_str(&format!(" {rest}{unit}"));
        }
    }
    text
}

/// `850 µs`, `12.3 ms`, `4.2 s`, `3m 20s`.
pub fn micros(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let size = micros.unsigned_abs();
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let float = size as f64;
    match size {
        0..1_000 => format!("{sign}{size} µs"),
        1_000..1_000_000 => format!("{sign}{:.1} ms", float / 1e3),
        1_000_000..60_000_000 => format!("{sign}{:.1} s", float / 1e6),
        _ => format!("{sign}{}", short(Duration::from_micros(size))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_distance_and_by_the_clock() {
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let clock = Clock { now, zone: TimeZone::get("Europe/Berlin").unwrap() };
        for (seconds, text) in [
            (0, "now"),
            (45, "in 45s"),
            (-300, "5m ago"),
            (12_000, "in 3h 20m"),
            (90_061, "in 1d 1h"),
        ] {
            let time = Timestamp::from_second(now.as_second() + seconds).unwrap();
            assert_eq!(clock.relative(time), text);
        }
        assert_eq!(clock.absolute(now), "2026-11-24 11:00:00 CET");
    }

    #[test]
    fn short_spans_have_the_unit_that_fits() {
        for (given, text) in
            [(850, "850 µs"), (12_345, "12.3 ms"), (-4_200_000, "-4.2 s"), (200_000_000, "3m 20s")]
        {
            assert_eq!(micros(given), text);
        }
    }
}
