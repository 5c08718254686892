//! Times and durations between `std` and the wire.
//!
//! The SDK speaks `SystemTime` and `Duration`, which every date library converts to and from, so
//! that no user has to take ours. The wire has microseconds at best; what it cannot hold is cut to
//! the nearest that it can, as the server checks ranges and says so with the field's name.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment on the wire.
pub type Timestamp = prost_types::Timestamp;
/// A duration on the wire.
pub type Span = prost_types::Duration;

/// The moment on the wire.
pub fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp {
            seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanos: after.subsec_nanos().cast_signed(),
        },
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos().cast_signed() {
                0 => Timestamp { seconds: -seconds, nanos: 0 },
                nanos => Timestamp { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
            }
        }
    }
}

/// The moment that is meant.
pub fn system_time(timestamp: &Timestamp) -> SystemTime {
    let nanos =
        Duration::from_nanos(u64::from(timestamp.nanos.clamp(0, 999_999_999).unsigned_abs()));
    let seconds = Duration::from_secs(timestamp.seconds.unsigned_abs());
    let whole = if timestamp.seconds < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

/// The duration on the wire.
pub fn span(duration: Duration) -> Span {
    Span {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

/// The duration that is meant; negative ones are none.
pub fn duration(span: &Span) -> Duration {
    let seconds = u64::try_from(span.seconds).unwrap_or(0);
    let nanos = u32::try_from(span.nanos).unwrap_or(0).min(999_999_999);
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_back_as_they_went() {
        for ms in [-1_500_i64, -1_000, -1, 0, 1, 1_790_000_000_123] {
            let time = if ms < 0 {
                UNIX_EPOCH - Duration::from_millis(ms.unsigned_abs())
            } else {
                UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs())
            };
            assert_eq!(system_time(&timestamp(time)), time, "{ms}");
        }
    }

    #[test]
    fn durations_come_back_as_they_went() {
        for duration_ms in [0, 1, 90_000, 3_600_001] {
            let given = Duration::from_millis(duration_ms);
            assert_eq!(duration(&span(given)), given);
        }
        assert_eq!(duration(&Span { seconds: -5, nanos: -1 }), Duration::ZERO);
    }
}
