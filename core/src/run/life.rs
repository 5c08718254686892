//! The life of a run at its holder, as one total match: which stage follows which event. Whatever
//! is not written here cannot happen, and says so when it does.

use crate::agent::effect::{BatchNumber, Ticket};
use crate::ids::Session;
use crate::time::Wall;

/// Where an open run is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Stage {
    /// May start at most once, and waits until an answered ledger permits it.
    Asking,
    /// Decided; waits for a free place among the agent's executors.
    Queued,
    /// Its start is being written down.
    Opening {
        batch: BatchNumber,
    },
    Running {
        ticket: Ticket,
    },
    /// Goes on at `at`: a retry, or an instant that is made up for.
    Waiting {
        at: Wall,
    },
    /// Waits until earlier runs of its task have ended, or its task is resumed.
    Behind,
    /// Runs, or ran, with an earlier holder; `asked`: its settle key is being read.
    Held {
        session: Session,
        asked: bool,
    },
    /// May start at most once, and an earlier holder had permission to start it: it ends as lost
    /// once its task is known.
    Doubtful,
    /// Over. `batch` wrote its end; a one-shot stays until its key is seen gone.
    Ended {
        batch: BatchNumber,
    },
}

impl Stage {
    /// Nothing of it runs, and it goes on by itself: when it is permitted, has a place, or its time
    /// has come.
    pub fn waits(self) -> bool {
        use Stage::{Asking, Opening, Queued, Waiting};
        matches!(self, Asking | Queued | Opening { .. } | Waiting { .. })
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Event {
    /// No ledger permits it, or not any more.
    Ask,
    /// An answered ledger permits it.
    Permit,
    /// The earlier holder was this agent, and had not started it.
    NotStarted,
    /// An executor has a free place, and the start is in this batch.
    Open { batch: BatchNumber },
    /// The batch was written and the licence holds.
    Start { ticket: Ticket },
    /// The clock was set back: it is not due yet.
    Postpone { at: Wall },
    /// Its task was paused: it waits for its turn.
    Hold,
    /// It was not begun: the range may not start anything now.
    Unlicensed,
    /// The time it waited for has come.
    Due,
    /// The runs before it have ended.
    Turn,
    /// The attempt is over and another one follows at `at`.
    Retry { at: Wall },
    /// Its former holder is gone without a word.
    Abandoned,
    /// The former holder's settle key is being read.
    ReadSettle,
    /// It is over, and `batch` says so.
    End { batch: BatchNumber },
}

/// An event that the stage has no place for.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
#[error("a run that is {stage:?} cannot meet {event:?}")]
pub struct Illegal {
    pub stage: Stage,
    pub event: Event,
}

pub fn step(stage: Stage, event: Event) -> Result<Stage, Illegal> {
    match (stage, event) {
        (Stage::Queued, Event::Ask) => Ok(Stage::Asking),
        (Stage::Doubtful, Event::NotStarted) => Ok(Stage::Behind),
        (Stage::Asking, Event::Permit) => Ok(Stage::Queued),
        (Stage::Queued, Event::Open { batch }) => Ok(Stage::Opening { batch }),
        (Stage::Opening { .. }, Event::Start { ticket }) => Ok(Stage::Running { ticket }),
        (Stage::Opening { .. } | Stage::Running { .. }, Event::Unlicensed) => Ok(Stage::Queued),
        (Stage::Queued, Event::Postpone { at }) => Ok(Stage::Waiting { at }),
        (Stage::Waiting { .. }, Event::Due) => Ok(Stage::Queued),
        (
            Stage::Asking | Stage::Queued | Stage::Opening { .. } | Stage::Waiting { .. },
            Event::Hold,
        ) => Ok(Stage::Behind),
        (Stage::Behind, Event::Turn) => Ok(Stage::Queued),
        (Stage::Running { .. } | Stage::Held { .. }, Event::Retry { at }) => {
            Ok(Stage::Waiting { at })
        }
        (Stage::Held { .. }, Event::Abandoned) => Ok(Stage::Queued),
        (Stage::Held { session, .. }, Event::ReadSettle) => {
            Ok(Stage::Held { session, asked: true })
        }
        (Stage::Ended { .. }, Event::End { .. }) => Err(Illegal { stage, event }),
        (_, Event::End { batch }) => Ok(Stage::Ended { batch }),
        (stage, event) => Err(Illegal { stage, event }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: BatchNumber = BatchNumber(7);
    const TICKET: Ticket = Ticket(3);

    fn walk(events: &[Event]) -> Result<Stage, Illegal> {
        events.iter().try_fold(Stage::Queued, |stage, event| step(stage, *event))
    }

    #[test]
    fn a_run_that_fails_once_and_then_succeeds() {
        let events = [
            Event::Open { batch: BATCH },
            Event::Start { ticket: TICKET },
            Event::Retry { at: Wall::from_millis(5) },
            Event::Due,
            Event::Open { batch: BATCH },
            Event::Start { ticket: TICKET },
            Event::End { batch: BATCH },
        ];
        assert_eq!(walk(&events), Ok(Stage::Ended { batch: BATCH }));
    }

    #[test]
    fn nothing_starts_before_it_is_written_down() {
        assert!(walk(&[Event::Start { ticket: TICKET }]).is_err());
    }

    #[test]
    fn what_has_ended_neither_starts_nor_ends_again() {
        let ended = [Event::End { batch: BATCH }];
        let after = [Event::Open { batch: BATCH }, Event::Due, Event::Turn, Event::Abandoned];
        for event in after.into_iter().chain(ended) {
            assert!(walk(&[ended[0], event]).is_err(), "{event:?}");
        }
    }

    #[test]
    fn what_may_start_only_once_waits_for_its_permission() {
        assert_eq!(walk(&[Event::Ask]), Ok(Stage::Asking));
        assert!(walk(&[Event::Ask, Event::Open { batch: BATCH }]).is_err());
        assert_eq!(walk(&[Event::Ask, Event::Permit]), Ok(Stage::Queued));
        for event in [Event::Permit, Event::Abandoned, Event::Due, Event::Turn] {
            assert!(step(Stage::Doubtful, event).is_err(), "{event:?}");
        }
    }

    #[test]
    fn a_start_without_licence_goes_back_and_is_not_lost() {
        let events = [Event::Open { batch: BATCH }, Event::Unlicensed];
        assert_eq!(walk(&events), Ok(Stage::Queued));
    }
}
