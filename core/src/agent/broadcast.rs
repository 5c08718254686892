//! Tasks of every agent that this agent has a share of. As what is pinned here they need no claim
//! and no shared state: a range of their own (`RangeId::BROADCAST`) whose ledger is in the agent's
//! store, by the rules of `pins`. What differs stands here.
//!
//! - All tasks of the pool's agents are in the store, whether this one is selected or not: each is
//!   looked at when it is put or read. So an agent whose labels were changed needs to ask nobody.
//! - A share is the task with the agent's name in it (`Task::share_of`): its runs and its splay
//!   follow from that.
//! - Nobody deletes a key here: it is every agent's. So there are no one-shots and no triggers.
//! - An agent has no past before its store was born. What was due before is covered from the
//!   first: a host that is new does not run what others ran before it came.

use std::sync::Arc;

use crate::agent::desk::Desk;
use crate::agent::near::Timed;
use crate::agent::news::DELETED;
use crate::agent::range::Range;
use crate::agent::take::covered_to;
use crate::ids::{Incarnation, RangeId, TaskName};
use crate::ledger::{Ledger, Marks};
use crate::task::{Placement, Task};
use crate::time::{Instant, Wall};

const NOT_SELECTED: &str = "its task is not for this agent any more";
const NOT_FOUND: &str = "its task was deleted, or is not for this agent any more";

impl Range {
    pub(super) fn is_broadcast(&self) -> bool {
        self.id == RangeId::BROADCAST
    }

    /// The task as it is to run here. `None`: this agent has no share of it.
    pub(super) fn share(&self, desk: &Desk, mut task: Arc<Task>) -> Option<Arc<Task>> {
        if !self.is_broadcast() {
            return Some(task);
        }
        let config = &desk.config;
        let here = matches!(&task.spec.placement, Placement::EveryAgent(at) if *at == config.pool);
        if !here || !task.spec.broadcast.selects(&config.labels) {
            return None;
        }
        Arc::make_mut(&mut task).share_of = Some(config.agent.clone());
        Some(task)
    }

    /// An edit has left this agent out: what has not started never starts, what runs goes on.
    pub(super) fn leave_out(&mut self, desk: &mut Desk, name: &TaskName) {
        // Where the clock was set back it may come again, should an edit select this agent anew.
        let marks = self.writer.marks;
        self.window.decided_names.forget_covered(marks);
        for (version, at) in desk.near.decided_of(self.id, name) {
            if !version.is_told_by(marks, at) {
                self.window.decided_names.note(version, at);
            }
        }
        desk.near.remove_named(self.id, name);
        let ids: Vec<_> = self.runs_of(name).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.drop_run(desk, &id, NOT_SELECTED);
        }
    }

    /// An edit that selects this agent counts from then on. Of a task that is not near nothing that
    /// was due is undecided, be it that nothing was or that it was no business of this agent; so
    /// what it had been before the edit must not come up now.
    /// Gives up to where its instants are decided by that.
    pub(super) fn join_in(&self, desk: &Desk, task: &Arc<Task>) -> Option<Instant> {
        let edited = task.incarnation.revision < task.revision;
        let near = desk.near.named(self.id, &task.spec.name).is_some();
        if !self.is_broadcast() || !self.window.scanned || !edited || near {
            return None;
        }
        let decided = self.decided_base(desk.config.epoch).through;
        let at = decided.min(task.updated_at.instant());
        // That is told by dues: of an instant that has come the due may be far ahead.
        let next = Timed::new(task.clone()).first_due_after(at, task.effective_from.instant());
        Some(covered_to(at, next))
    }

    /// Why a run that was taken over has no task here.
    pub(super) fn gone_reason(&self) -> &'static str {
        if self.is_broadcast() { NOT_FOUND } else { DELETED }
    }

    /// What a store begins with that knows nothing yet.
    pub(super) fn blank(&self, desk: &Desk, born: Wall) -> Ledger {
        let incarnation = Incarnation { epoch: desk.config.epoch, revision: self.copy.delivered };
        let marks = match self.is_broadcast() {
            true => Marks { through: born.instant(), incarnation },
            false => Marks::NONE,
        };
        Ledger { marks, ..Ledger::empty() }
    }
}
