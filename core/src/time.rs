//! Two clocks, two types. Schedules live on the wall clock, which people set and NTP steps; leases
//! and licences live on a clock that only moves forward and goes on through suspend
//! (`CLOCK_BOOTTIME`). Mixing them is the classic scheduler bug, so the compiler forbids it.
//!
//! Nothing here reads a clock: every function of this crate that needs the time takes it as an
//! argument, which is what lets the simulator move it by hand.

use std::fmt;
use std::time::Duration;

/// The grain of instants.
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

/// A moment on the wall clock, in microseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(i64);

/// A moment on the boot clock, in microseconds since the machine started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(u64);

/// Both clocks, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    pub wall: Wall,
    pub mono: Mono,
}

/// One scheduled time of one task, in whole milliseconds since the Unix epoch, 1970 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(i64);

impl Instant {
    pub const MIN: Instant = Instant(0);
    /// 9999-12-30T00:00:00Z: the last day that every zone of RFC 3339 can write.
    pub const MAX: Instant = Instant(253_402_128_000_000);

    /// The instant of `ms` milliseconds since the epoch, cut to the range that is allowed.
    pub fn from_millis(ms: i64) -> Instant {
        Instant(ms.clamp(Self::MIN.0, Self::MAX.0))
    }

    pub fn millis(self) -> i64 {
        self.0
    }

    pub fn wall(self) -> Wall {
        Wall(self.0 * 1_000)
    }

    pub fn plus(self, span: Duration) -> Instant {
        Instant::from_millis(self.0.saturating_add(millis_i64(span)))
    }

    pub fn minus(self, span: Duration) -> Instant {
        Instant::from_millis(self.0.saturating_sub(millis_i64(span)))
    }
}

impl Wall {
    pub const MIN: Wall = Wall(0);
    pub const MAX: Wall = Wall(Instant::MAX.0 * 1_000);

    pub fn from_micros(micros: i64) -> Wall {
        Wall(micros)
    }

    pub fn from_millis(ms: i64) -> Wall {
        Wall(ms.saturating_mul(1_000))
    }

    pub fn micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the epoch, rounded down.
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The latest instant at or before this moment.
    pub fn instant(self) -> Instant {
        Instant::from_millis(self.millis())
    }

    pub fn plus(self, span: Duration) -> Wall {
        Wall(self.0.saturating_add(micros_i64(span)))
    }

    pub fn minus(self, span: Duration) -> Wall {
        Wall(self.0.saturating_sub(micros_i64(span)))
    }

    /// Time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Wall) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Microseconds from `earlier` to here, negative if `earlier` is later.
    pub fn micros_since(self, earlier: Wall) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Mono {
    pub fn from_micros(micros: u64) -> Mono {
        Mono(micros)
    }

    pub fn micros(self) -> u64 {
        self.0
    }

    pub fn plus(self, span: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    pub fn minus(self, span: Duration) -> Mono {
        Mono(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

fn millis_i64(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

fn micros_i64(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp}"),
            Err(_) => write!(f, "Wall({})", self.0),
        }
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.wall().fmt(f)
    }
}

impl fmt::Debug for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
