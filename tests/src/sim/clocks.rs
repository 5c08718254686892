//! The clocks of hosts: a wall clock that is off and is set, a monotonic one that drifts.

use tocktower_core::time::{Mono, Now, Wall};

use super::rng::Rng;
use super::world::{Host, SECOND, World};

/// The most that a monotonic clock drifts, in millionths: ten times as much as the kernel slews one
/// by itself, and a twentieth of what an agent keeps in reserve of its lease (L0).
const DRIFT_MOST: i64 = 5_000;
const MILLION: i64 = 1_000_000;
/// How far off a clock is that nobody has set, in microseconds.
pub const SKEW_MOST: u64 = 50_000;
/// A clock that is off by no more than this counts as good, in microseconds.
pub const GOOD_CLOCK: i64 = 500_000;

impl Host {
    /// How long so many microseconds are by its monotonic clock.
    fn by_its_clock(&self, micros: u64) -> u64 {
        scaled(micros, MILLION + self.drift, MILLION)
    }

    /// How many microseconds pass until its monotonic clock says that so many have.
    pub fn by_true_time(&self, micros: u64) -> u64 {
        scaled(micros, MILLION, MILLION + self.drift)
    }
}

/// How far off a clock is, counted from the most that it may be behind.
pub fn skew(from_least: u64) -> i64 {
    i64::try_from(from_least).expect("small") - i64::try_from(SKEW_MOST).expect("small")
}

/// `micros * by / of`, rounded up.
fn scaled(micros: u64, by: i64, of: i64) -> u64 {
    let (by, of) = (i128::from(by), i128::from(of));
    u64::try_from((i128::from(micros) * by + of - 1) / of).expect("within a walk")
}

impl World {
    /// Clocks are off by as much as is allowed.
    pub fn stretch_clocks(&mut self) {
        for host in &mut self.hosts {
            host.skew_us *= 9;
        }
        self.coordinators = self.coordinators.map(|off| off * 9);
    }

    /// Monotonic clocks run too fast or too slow, each at its own pace. Wall clocks are kept right,
    /// but where a fault sets them.
    pub fn drift_clocks(&mut self, seed: u64) {
        let mut rng = Rng::new(seed ^ 0x0d21_f700);
        for host in &mut self.hosts {
            let from_least = rng.between(0, 2 * DRIFT_MOST.unsigned_abs() + 1);
            host.drift = i64::try_from(from_least).expect("small") - DRIFT_MOST;
        }
    }

    /// Coordinators' clocks are off as those of hosts are.
    pub fn set_coordinators_off(&mut self, seed: u64) {
        let mut rng = Rng::new(seed ^ 0xc10c);
        self.coordinators = [0; 2].map(|_: i64| skew(rng.between(0, 2 * SKEW_MOST + 1)));
    }

    /// What the clock of the coordinator shows that is asked now.
    pub(super) fn asked_at(&mut self) -> Wall {
        let off = *self.asks.pick(&self.coordinators).expect("there are two");
        Wall::from_micros(self.wall().micros() + off)
    }

    pub fn host_now(&self, host: usize) -> Now {
        let wall = self.wall().micros() + self.hosts[host].skew_us;
        let mono = 1_000 * SECOND + self.hosts[host].by_its_clock(self.now);
        Now { wall: Wall::from_micros(wall), mono: Mono::from_micros(mono) }
    }

    pub(super) fn clock_jumps(&mut self, host: usize, by_us: i64) {
        let at = &mut self.hosts[host];
        at.disturbed = true;
        at.clock_sets.push(self.now);
        at.skew_us += by_us;
        at.clock_back |= by_us < 0;
        at.ahead_us = at.ahead_us.max(u64::try_from(at.skew_us).unwrap_or(0));
        at.behind_us = at.behind_us.max(u64::try_from(-at.skew_us).unwrap_or(0));
        self.clock_far |= at.skew_us.unsigned_abs() > 10 * SECOND;
    }

    /// A clock that is far ahead is set back.
    pub(super) fn set_clock(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        at.clock_back |= at.skew_us > GOOD_CLOCK;
        at.skew_us = 1_000;
        at.clock_sets.push(self.now);
    }
}
