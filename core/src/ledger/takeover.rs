//! The takeover table (ledger.md): what a new holder does with each entry that it finds, for a
//! stranger, who has no records of its own for the range. What may start only once is told by its
//! entry: it is `permitted`, never `started`.

use std::collections::BTreeMap;

use crate::ids::{AgentName, Session};
use crate::ledger::{Entry, EntryState};
use crate::time::{Instant, Wall};

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verdict {
    /// Done; kept in the list until it is covered or its key is seen gone.
    Done,
    /// The next attempt, as soon as there is a place.
    Again,
    /// It may have started, or may yet, and nobody starts it again.
    Lost,
    /// The attempt that it waited for, at its time.
    WaitUntil(Wall),
    /// Make up for the instants from its own to `last`.
    CatchUp { at: Wall, last: Instant },
    /// Left running with `session`, which is alive.
    Leave(Session),
    /// Left running with `session`, which is gone: ask for its settle key, then go on.
    Ask(Session),
}

/// `sessions`: those that are registered now, by the newest copy of the members.
pub fn verdict(entry: &Entry, sessions: &BTreeMap<AgentName, Session>) -> Verdict {
    match entry.state {
        EntryState::Ended => Verdict::Done,
        EntryState::Started => Verdict::Again,
        EntryState::Permitted => Verdict::Lost,
        EntryState::Waiting { at } => Verdict::WaitUntil(at),
        EntryState::CatchUp { at, last } => Verdict::CatchUp { at, last },
        EntryState::Held { session } if sessions.values().any(|alive| *alive == session) => {
            Verdict::Leave(session)
        }
        EntryState::Held { session } => Verdict::Ask(session),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Attempt, Epoch, Fence, Incarnation, Revision, RunId, RunKey, TaskName};

    fn session(revision: i64) -> Session {
        Session { epoch: Epoch(1), revision: Revision(revision) }
    }

    fn find(state: EntryState) -> Verdict {
        let alive = BTreeMap::from([(AgentName::parse("a").unwrap(), session(5))]);
        let run = RunId {
            task: TaskName::parse("a/b").unwrap(),
            incarnation: Incarnation::default(),
            run: RunKey::Instant(Instant::from_millis(1)),
            agent: None,
        };
        let attempt = Attempt { fence: Fence::default(), number: 1 };
        verdict(&Entry { run, due: Instant::from_millis(1), attempt, state }, &alive)
    }

    #[test]
    fn the_table_of_a_stranger() {
        let at = Wall::from_millis(9);
        assert_eq!(find(EntryState::Ended), Verdict::Done);
        assert_eq!(find(EntryState::Started), Verdict::Again);
        assert_eq!(find(EntryState::Permitted), Verdict::Lost);
        assert_eq!(find(EntryState::Waiting { at }), Verdict::WaitUntil(at));
        assert_eq!(find(EntryState::Held { session: session(5) }), Verdict::Leave(session(5)));
        assert_eq!(find(EntryState::Held { session: session(6) }), Verdict::Ask(session(6)));
    }
}
