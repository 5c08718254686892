//! Whose clock is wrong? A coordinator that finds an agent's clock off tells it what it finds of
//! the others: if most of them agree with the coordinator, the agent is the odd one out; if not,
//! the coordinator may be. By the same count a coordinator tells whether to believe its own clock
//! where it would forget something by it.
//!
//! Two counters for all links, and each link's own part in them, so that a measurement costs the
//! same with ten agents and with ten thousand. They are counted apart and may be one measurement
//! out of step with each other, which no majority of a fleet hangs on for longer than a probe.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tocktower_core::limits;

/// How many of the linked agents were measured, and how many of those are off.
#[derive(Debug, Default)]
pub struct Clocks {
    measured: AtomicUsize,
    off: AtomicUsize,
}

impl Clocks {
    /// Most of the linked agents that were measured agree with this coordinator, and there are any.
    pub fn agree(&self) -> bool {
        let (measured, off) =
            (self.measured.load(Ordering::Relaxed), self.off.load(Ordering::Relaxed));
        measured.saturating_sub(off) * 2 > measured
    }

    /// Most of several agents that were measured disagree with this coordinator: it is the one
    /// whose clock is wrong. Of a single one nobody can say whose clock it is.
    pub fn doubt(&self) -> bool {
        let (measured, off) =
            (self.measured.load(Ordering::Relaxed), self.off.load(Ordering::Relaxed));
        measured > 1 && off * 2 > measured
    }
}

/// One link's part; it ends with the link.
#[derive(Debug)]
pub struct Measured {
    clocks: Arc<Clocks>,
    off: Option<bool>,
}

impl Measured {
    pub fn new(clocks: Arc<Clocks>) -> Measured {
        Measured { clocks, off: None }
    }

    /// Takes a measurement in. `true`: this coordinator agrees with most of the other agents.
    pub fn take(&mut self, offset_us: i64) -> bool {
        let off = u128::from(offset_us.unsigned_abs()) > limits::CLOCK_OFFSET.as_micros();
        self.forget();
        let others = self.clocks.measured.fetch_add(1, Ordering::Relaxed);
        let others_off = match off {
            true => self.clocks.off.fetch_add(1, Ordering::Relaxed),
            false => self.clocks.off.load(Ordering::Relaxed),
        };
        self.off = Some(off);
        others.saturating_sub(others_off) * 2 > others
    }

    fn forget(&mut self) {
        if let Some(off) = self.off.take() {
            self.clocks.measured.fetch_sub(1, Ordering::Relaxed);
            if off {
                self.clocks.off.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: i64 = -600_000;
    const GOOD: i64 = 20_000;

    #[test]
    fn an_agent_is_the_odd_one_out_only_among_more_that_agree() {
        let clocks = Arc::new(Clocks::default());
        let mut links: Vec<Measured> = (0..4).map(|_| Measured::new(Arc::clone(&clocks))).collect();
        assert!(!links[0].take(OFF), "there is nobody to agree with");
        assert!(!links[1].take(GOOD), "the only other is off");
        assert!(links[0].take(OFF));
        assert!(!links[2].take(OFF), "of two others one agrees");
        links[3].take(GOOD);
        assert!(links[0].take(OFF), "of three others two agree");
        assert!(!links[1].take(GOOD), "of three others one agrees");
    }

    #[test]
    fn a_coordinator_believes_its_clock_while_most_agents_agree() {
        let clocks = Arc::new(Clocks::default());
        assert!(!clocks.agree(), "there is nobody to agree with");
        let mut links: Vec<Measured> = (0..3).map(|_| Measured::new(Arc::clone(&clocks))).collect();
        links[0].take(GOOD);
        assert!(clocks.agree());
        links[1].take(OFF);
        assert!(!clocks.agree(), "one of two");
        links[2].take(GOOD);
        assert!(clocks.agree(), "two of three");
        links.clear();
        assert!(!clocks.agree());
    }

    #[test]
    fn a_link_that_ends_takes_its_word_along() {
        let clocks = Arc::new(Clocks::default());
        let mut one = Measured::new(Arc::clone(&clocks));
        let mut two = Measured::new(Arc::clone(&clocks));
        two.take(GOOD);
        assert!(one.take(OFF));
        drop(two);
        assert!(!one.take(OFF));
        drop(one);
        assert_eq!(clocks.measured.load(Ordering::Relaxed), 0);
        assert_eq!(clocks.off.load(Ordering::Relaxed), 0);
    }
}
