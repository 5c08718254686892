//! What an epoch that was raised leaves unknown. etcd was put back from a backup: ledgers and keys
//! are those of an earlier day, and what was started since then stands nowhere in them.
//! At-least-once runs are decided as after any takeover, and may be repeats. A run that may start
//! only once and was due before the epoch began may have started, so it is `lost`, unless the
//! ledger covers it: what ended before the backup is done. So is what came due just after that,
//! since a good clock may have been so far ahead of the one that the epoch was raised by.
//!
//! A task that was made in this epoch was not there before, so nothing of it is unknown. What is
//! pinned to this agent has its ledger in the agent's own store, which no backup of etcd takes
//! back: it is in doubt only where a key says what is to be done, as of one-shots and of runs that
//! were asked for by hand, and such keys come again with the backup.

use crate::agent::desk::Desk;
use crate::agent::near::Timed;
use crate::agent::pins::BEFORE_STORE;
use crate::agent::range::Range;
use crate::ids::{RunId, RunKey};
use crate::ledger::{Entry, Ledger};
use crate::limits::CLOCK_OFFSET;
use crate::run::RunState;
use crate::task::Task;
use crate::time::{Instant, MILLISECOND, Wall};

const BEFORE_EPOCH: &str = "the shared state was put back from a backup since: it may have run, \
                            and nobody starts it again";

/// What became of a run up to this moment is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Forgotten {
    pub until: Wall,
    pub why: &'static str,
}

/// What says that a run is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// The marks, which pass it.
    ByMarks,
    /// Its key: a one-shot's, or a trigger's.
    ByKey,
}

/// Up to when somebody of the epoch before may have started what was due, by a good clock.
fn began(desk: &Desk) -> Wall {
    desk.config.epoch_began.plus(CLOCK_OFFSET)
}

impl Range {
    /// Whether nobody can know what became of a run that may start only once.
    pub(super) fn forgotten(
        &self,
        desk: &Desk,
        task: &Task,
        (instant, due): (Instant, Instant),
        told: Told,
    ) -> Option<Forgotten> {
        if !task.spec.at_most_once() {
            return None;
        }
        let born = self.pins.as_ref().map(|pins| pins.born);
        let born = born.map(|until| Forgotten { until, why: BEFORE_STORE });
        let earlier = task.incarnation.epoch < desk.config.epoch;
        let told_by_etcd = !self.is_local() || told == Told::ByKey;
        let until = began(desk);
        let raised = (earlier && told_by_etcd).then_some(Forgotten { until, why: BEFORE_EPOCH });
        // It may have been due as soon as its instant by an edit that the backup has undone.
        let raised = raised.filter(|raised| instant.wall() <= raised.until);
        raised.or_else(|| born.filter(|born| due.wall() <= born.until))
    }

    /// Whether an entry is of an epoch before, and the run may have gone on since. A first ledger
    /// of this epoch passes on what it has not looked at yet, so the entry tells, not its ledger.
    /// The store's own ledger is no older than what it did.
    pub(super) fn is_past(&self, desk: &Desk, ledger: &Ledger, entry: &Entry) -> bool {
        let epoch = desk.config.epoch;
        let (older, at) = match entry.run.run {
            RunKey::Instant(at) => (entry.run.incarnation.epoch < epoch, at),
            RunKey::Manual(_) => (true, entry.due),
        };
        let before = older && at.wall() <= began(desk);
        !self.is_local() && (ledger.fence.epoch < epoch || before)
    }

    /// Instants of a task that may start only once, from `first` up to where they are forgotten.
    /// Gives the next one to decide.
    pub(super) fn forget_instants(
        &mut self,
        desk: &mut Desk,
        timed: &Timed,
        (first, last): (Instant, Option<Instant>),
        forgotten: Forgotten,
    ) -> Option<Instant> {
        let edge = forgotten.until.instant();
        let last = last.unwrap_or(Instant::MAX);
        let next = match forgotten.why {
            BEFORE_EPOCH => timed.timetable.next_after(edge.max(first)),
            _ => timed.first_due_after(edge, first).map(|(next, _)| next),
        };
        let next = next.filter(|next| *next <= last);
        let through = next.map_or(last, |next| next.minus(MILLISECOND)).min(edge.max(first));
        self.end_instants(desk, timed, (first, through), RunState::Lost, forgotten.why);
        next
    }

    /// A run that an earlier epoch's ledger lists, and that may have gone on since, ends as lost,
    /// and with it the instants that it stands for.
    pub(super) fn lose_past(&mut self, desk: &mut Desk, id: &RunId) {
        let Some(run) = self.open.get_mut(id) else { return };
        let (instant, rest) = (run.instant, run.take_rest());
        self.end_run(desk, id, RunState::Lost, Some(BEFORE_EPOCH));
        if let Some(rest) = rest {
            let stretch = (instant.plus(MILLISECOND), rest.last);
            self.end_instants(desk, &rest.timed(), stretch, RunState::Lost, BEFORE_EPOCH);
        }
    }
}
