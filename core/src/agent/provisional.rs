//! Whether the end of a run can still turn into a repeat, as this agent sees it, and whether it is
//! for this agent to say that it cannot.
//!
//! Two questions, since a range goes from holder to holder. What is asked about a row of history
//! gets the best answer that there is: marks that cover the run settle it, whoever wrote them. But
//! a run that this agent ended and another has started again is covered as well, once that one has
//! ended it. So only who ended a run and has the last word on it may announce that it is settled:
//! its holder, while it is that; and one that handed the range on in order, of what its final
//! ledger said, and of what it has written down for the next holder since. Everybody else would
//! announce an account that another has overtaken.

use std::time::Duration;

use crate::agent::Agent;
use crate::agent::effect::{SettleKey, SettledEnd};
use crate::agent::range::{HandedOn, Range};
use crate::ids::{RangeId, RunKey};
use crate::ledger::Marks;
use crate::run::RunRecord;
use crate::time::Wall;

/// What this agent can learn no more of is called settled after this: a takeover decides at once.
const PROVISIONAL_MAX: Duration = Duration::from_secs(10);

/// How sure the end of a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// The loss of its host can turn it into a repeat.
    NotYet,
    /// It cannot, and what this agent says of the run is the last word.
    Here,
    /// It cannot, as far as is known; another agent may have an account that counts more.
    Elsewhere,
}

impl Agent {
    /// Whether the end of a run can still turn into a repeat.
    pub fn provisional(&self, record: &RunRecord) -> bool {
        self.settled(record) == Settled::NotYet
    }

    pub fn settled(&self, record: &RunRecord) -> Settled {
        let pins = self.ranges.get(&RangeId::PINS);
        let pinned = pins.is_some_and(|pins| pins.fence() == Some(record.fence));
        let pinned = pinned && record.id.agent.is_none();
        let range = if pinned { RangeId::PINS } else { self.range_of(&record.id) };
        let Some(range) = self.ranges.get(&range) else { return Settled::Elsewhere };
        if range.unsettled(record, self.desk.now.wall) {
            Settled::NotYet
        } else if range.has_last_word(record) {
            Settled::Here
        } else {
            Settled::Elsewhere
        }
    }
}

impl Range {
    fn unsettled(&self, record: &RunRecord, now: Wall) -> bool {
        if let Some(run) = self.open.get(&record.id) {
            return !run.ended() || run.listed || run.key.is_some();
        }
        if self.left.keys().any(|key| key.run == record.id) {
            return true;
        }
        if self.handed_on(record).is_some_and(|on| !on.not_ended.contains(&record.id)) {
            return false;
        }
        let recurring = matches!(record.id.run, RunKey::Instant(_)) && record.request.is_none();
        let covers = |marks: Marks| marks.cover(record.due.instant(), record.id.incarnation);
        match (self.fence(), self.writer.answered) {
            (Some(fence), Some(marks)) if record.fence == fence => {
                let series = self.writer.series.iter().any(|entry| entry.speaks_of(&record.id));
                recurring && (!covers(marks) || series)
            }
            // A final ledger of mine is under way.
            (Some(fence), None) if record.fence == fence => true,
            // Of an earlier holding: the ledger that the watch shows says it, or nothing does yet.
            _ => match self.copy.ledger.as_ref().map(|seen| &seen.ledger) {
                Some(Ok(ledger)) if recurring && covers(ledger.marks) => ledger.lists(&record.id),
                _ => now.since(record.ended_at()) < PROVISIONAL_MAX,
            },
        }
    }

    /// Of a run that is not unsettled: whether nobody can have an account of it that counts more.
    fn has_last_word(&self, record: &RunRecord) -> bool {
        if self.fence() == Some(record.fence) {
            return self.writer.answered.is_some();
        }
        self.handed_on(record).is_some_and(|on| !on.not_ended.contains(&record.id))
    }

    /// What my final ledger said, if the run was under that fence.
    fn handed_on(&self, record: &RunRecord) -> Option<&HandedOn> {
        self.handed_on.as_ref().filter(|on| on.fence == record.fence)
    }

    /// How an attempt ended that I left running is written down for the next holder: nobody tries
    /// it again. That its ledger lists the run no more would not tell: after my session it may have
    /// started it anew.
    pub(super) fn note_settle(&mut self, key: &SettleKey, end: SettledEnd) {
        if let Some(on) = self.handed_on.as_mut().filter(|on| on.fence == key.attempt.fence)
            && matches!(end, SettledEnd::Succeeded | SettledEnd::Cancelled)
        {
            on.not_ended.remove(&key.run);
        }
    }
}
