//! Durations as people write them: `90s`, `5m`, `1h30m`, `1.5s`, `250ms`, `7d`.
//!
//! A sum of numbers with units, each unit at most once, the largest first; a fraction is allowed
//! where it comes out at whole milliseconds, which is how fine the scheduler's time is. A bare
//! number is refused: whoever writes `90` may mean minutes.

use std::time::Duration;

/// Largest first, in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Digits after the point that are read: whole milliseconds of a day need no more.
const FRACTION_DIGITS_MAX: usize = 9;

/// Reads a duration; the error says what was given and what is allowed.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text).ok_or_else(|| {
        let given: String = text.chars().take(64).collect();
        format!(
            "{given:?} is no duration: write numbers with the units d, h, m, s, ms, the largest \
             first, such as 90s, 1h30m or 250ms; nothing finer than a millisecond"
        )
    })
}

fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units_left = UNITS.as_slice();
    let mut total_ms: u64 = 0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let place = units_left.iter().position(|(name, _)| *name == unit)?;
        let (_, unit_ms) = units_left.get(place)?;
        units_left = units_left.get(place + 1..)?;
        total_ms = total_ms.checked_add(millis_of(number, *unit_ms)?)?;
        rest = tail;
        if rest.is_empty() {
            return Some(Duration::from_millis(total_ms));
        }
    }
}

/// `number` of a unit in whole milliseconds, if it comes out at that.
fn millis_of(number: &str, unit_ms: u64) -> Option<u64> {
    let Some((whole, fraction)) = number.split_once('.') else {
        return number.parse::<u64>().ok()?.checked_mul(unit_ms);
    };
    if fraction.is_empty() || fraction.len() > FRACTION_DIGITS_MAX || fraction.contains('.') {
        return None;
    }
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    let exact = part.is_multiple_of(scale).then(|| part / scale)?;
    whole.parse::<u64>().ok()?.checked_mul(unit_ms)?.checked_add(exact)
}

/// Writes a duration so that it reads back the same, but for what is finer than a millisecond.
pub fn format_duration(span: Duration) -> String {
    let mut left_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if left_ms == 0 {
        return "0s".to_owned();
    }
    if left_ms < 1_000 {
        return format!("{left_ms}ms");
    }
    let mut text = String::new();
    for (unit, unit_ms) in UNITS.iter().take(3) {
        let count = left_ms / unit_ms;
        left_ms %= unit_ms;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    let (seconds, ms) = (left_ms / 1_000, left_ms % 1_000);
    if ms > 0 {
        let fraction = format!("{ms:03}");
        text.push_str(&format!("{seconds}.{}s", fraction.trim_end_matches('0')));
    } else if seconds > 0 {
        text.push_str(&format!("{seconds}s"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms) in [
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            ("250ms", 250),
            ("7d", 604_800_000),
            ("0s", 0),
            ("1h0.5s", 3_600_500),
            ("0.001s", 1),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_what_was_given() {
        let wrong =
            ["", "90", "s", "-5s", "5 m", "1m1h", "1s1s", "1.s", "0.0001s", "1.2.3s", "5min"];
        for text in wrong.iter().chain(&["99999999999999999999s", "1e3s", "٣s", "1h "]) {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_written_duration_reads_back(ms in 0_u64..400_000_000_000) {
            let span = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(span)), Ok(span));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = parse_duration(&text);
        }
    }
}
