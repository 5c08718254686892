//! What an instant does that comes while earlier runs of its task have not ended.

use crate::limits;
use crate::task::Overlap;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Start,
    /// The instant ends as `skipped`, for this reason.
    Skip(&'static str),
    /// It waits until those before it have ended.
    Behind,
    /// Those before it are cancelled, and it waits until they have ended.
    CancelThenStart,
}

/// `open` counts the task's runs that have not ended; `behind` those of them that wait for others.
pub fn decide(overlap: Overlap, open: usize, behind: usize) -> Verdict {
    match (overlap, open) {
        (_, 0) | (Overlap::Allow, _) => Verdict::Start,
        (Overlap::Skip, _) => Verdict::Skip("overlap: an earlier run has not ended"),
        (Overlap::Queue, _) if behind >= limits::BEHIND_MAX => {
            Verdict::Skip("overlap: too many runs wait behind an earlier one")
        }
        (Overlap::Queue, _) => Verdict::Behind,
        (Overlap::CancelRunning, _) => Verdict::CancelThenStart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_nothing_open_every_policy_starts() {
        for overlap in [Overlap::Skip, Overlap::Allow, Overlap::Queue, Overlap::CancelRunning] {
            assert_eq!(decide(overlap, 0, 0), Verdict::Start);
        }
    }

    #[test]
    fn with_a_run_open_each_policy_does_what_it_is_called() {
        assert!(matches!(decide(Overlap::Skip, 1, 0), Verdict::Skip(_)));
        assert_eq!(decide(Overlap::Allow, 9, 0), Verdict::Start);
        assert_eq!(decide(Overlap::Queue, 1, 0), Verdict::Behind);
        assert_eq!(decide(Overlap::CancelRunning, 1, 0), Verdict::CancelThenStart);
    }

    #[test]
    fn a_queue_has_an_end() {
        let full = limits::BEHIND_MAX;
        assert!(matches!(decide(Overlap::Queue, full + 1, full), Verdict::Skip(_)));
    }
}
