//! The checkers by name (testing.md), so that a walk that breaks a promise tells which one noticed.

use std::fmt;

use super::world::SECOND;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Checker {
    /// Every instant of every task came to a start in time or to a named end.
    Loss,
    /// Every start belongs to an instant of a task, none comes early, and none long after a delete.
    Phantom,
    /// What runs again had failed, or its host had gone; at most once means that.
    Multiplicity,
    /// Two runs of a task at a time only where it says so.
    Overlap,
    /// Fences of ledgers grow, marks do not go back, and nothing starts without a claim.
    Ownership,
    /// What was reported stays, and is on disk before a ledger says so.
    Durability,
    /// Copies of the shared state are what that was.
    Copies,
    /// Once healed, every range is held, nothing waits, and nothing is left behind.
    Liveness,
}

/// A promise that a walk has broken.
#[derive(Clone, Debug)]
pub struct Violation {
    pub checker: Checker,
    pub at: u64,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { checker, at, what } = self;
        write!(f, "{}.{:06}s {checker:?}: {what}", at / SECOND, at % SECOND)
    }
}
