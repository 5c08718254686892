//! What the watch of a range says, taken in event by event: the claim and the ledger, tasks,
//! triggers and settle keys. Every task goes to the store; it is looked at here only while the
//! range is held.

use std::sync::Arc;

use crate::agent::Agent;
use crate::agent::desk::{Desk, Load};
use crate::agent::effect::{Interest, Notice, RunKeyName, StoreOp};
use crate::agent::input::{ClaimSeen, LedgerSeen, RangeNews};
use crate::agent::open::{OpenRun, OwnKey};
use crate::agent::priors::is_one_shot;
use crate::agent::range::{Hold, Range, Written};
use crate::ids::{RangeId, Revision, RunId, RunKey, TaskName};
use crate::run::{RunState, life};
use crate::task::Task;
use crate::time::{Instant, MILLISECOND};

pub(super) const DELETED: &str = "its task was deleted";
pub(super) const UNREADABLE: &str = "its task's record cannot be read";

impl Agent {
    pub(super) fn range_news(&mut self, id: RangeId, news: RangeNews) {
        let desk = &mut self.desk;
        let Some(range) = self.ranges.get_mut(&id) else { return };
        if range.interest == Interest::Nothing {
            return;
        }
        range.silence.broken(desk.now.mono);
        match news {
            RangeNews::ListBegan { sent } => range.list_began(desk, sent),
            RangeNews::ListEnded { revision } => range.list_ended(desk, revision),
            RangeNews::Delivered { revision } => {
                range.copy.delivered = range.copy.delivered.max(revision);
                if range.is_local() {
                    range.pins_delivered(desk, revision);
                }
            }
            RangeNews::Claim(claim) => range.claim_seen(desk, claim),
            RangeNews::Ledger(ledger) => range.ledger_seen(desk, ledger),
            RangeNews::TaskPut { task, raw } => range.task_put(desk, task, raw),
            RangeNews::TaskUnreadable { name, error } => {
                let key = name.to_string();
                desk.notice(Notice::Quarantined { range: id, key, error });
                range.task_unreadable(desk, name);
            }
            RangeNews::TriggerPut(trigger) => {
                let key = (trigger.task.clone(), trigger.ulid);
                range.copy.unseen.remove(&RunKeyName::Trigger(key.0.clone(), key.1));
                range.copy.triggers.insert(key, *trigger);
                range.triggers_new = true;
            }
            RangeNews::Gone { key, revision } => range.key_gone(desk, &key, revision),
            RangeNews::SettlePut { key, session, end } => {
                range.note_settle(&key, end);
                range.copy.settles.insert(key, (session, end));
                range.writer.dirty = true;
            }
            RangeNews::SettleGone { key } => {
                range.copy.settles.remove(&key);
                range.said.remove(&key);
            }
        }
    }
}

impl Range {
    fn list_began(&mut self, desk: &mut Desk, sent: crate::time::Now) {
        let base = self.decided_base(desk.config.epoch);
        self.copy.listed = false;
        self.copy.tasks = 0;
        self.copy.list_sent = sent;
        self.copy.stamp = desk.next_stamp();
        self.copy.triggers.clear();
        self.copy.settles.clear();
        // A list that broke off may not have come to those of the one before.
        for (name, since) in std::mem::take(&mut self.copy.unreadable) {
            self.copy.was_unreadable.entry(name).or_insert(since);
        }
        self.copy.unseen =
            self.open.values().filter_map(|run| run.key.as_ref()).map(|k| k.name.clone()).collect();
        let recurring = self.open.keys().map(|id| RunKeyName::Task(id.task.clone()));
        self.copy.unseen.extend(recurring);
        self.copy.claim = None;
        self.copy.ledger = None;
        if self.fence().is_some() {
            self.restart_window(desk, base);
            desk.store(StoreOp::ClearDue { range: self.id });
        }
    }

    fn list_ended(&mut self, desk: &mut Desk, revision: Revision) {
        if self.interest == Interest::Whole {
            desk.store(StoreOp::Sweep { range: self.id, stamp: self.copy.stamp });
            self.copied(desk);
        }
        for key in std::mem::take(&mut self.copy.unseen) {
            self.key_gone(desk, &key, revision);
        }
        self.copy.was_unreadable.clear();
        self.copy.listed = true;
        self.copy.delivered = revision;
        if self.is_local() {
            self.pins_listed(desk);
            return;
        }
        match self.copy.claim.clone() {
            Some(claim) => {
                self.claim_seen(desk, Some(claim.clone()));
                if self.fence() == Some(claim.fence) {
                    self.list_proves(&claim);
                }
            }
            None => self.claim_seen(desk, None),
        }
    }

    /// A linearizable list that shows my claim proves as much as a write that came back.
    fn list_proves(&mut self, claim: &ClaimSeen) {
        let sent = self.copy.list_sent;
        self.writer.delivered(Written::Beat(claim.beat));
        if self.writer.proof.is_none_or(|proof| proof.mono < sent.mono) {
            self.writer.proof = Some(sent);
        }
        self.writer.dirty = true;
    }

    fn claim_seen(&mut self, desk: &mut Desk, claim: Option<ClaimSeen>) {
        let now = desk.now.mono;
        let mine = claim.as_ref().filter(|c| Some(c.session) == desk.session.session()).cloned();
        self.copy.vacant_since = match claim {
            None => Some(self.copy.vacant_since.unwrap_or(now)),
            Some(_) => None,
        };
        self.copy.claim = claim;
        if !self.copy.listed && self.interest == Interest::Whole {
            return;
        }
        match (self.fence(), mine) {
            (Some(fence), Some(mine)) if mine.fence == fence => {
                self.writer.delivered(Written::Beat(mine.beat));
            }
            // The claim was made anew, or is another's, or gone. If a final ledger of mine did it,
            // its answer has said so already, or the read back will find nothing to save.
            (Some(_), _) => match self.hold {
                Hold::Leaving { .. } => self.left_seen(desk),
                _ => self.lose(desk),
            },
            (None, _) => {}
        }
    }

    fn ledger_seen(&mut self, desk: &mut Desk, ledger: Option<LedgerSeen>) {
        if let Some(LedgerSeen { ledger: Err(error), .. }) = &ledger {
            let (range, key) = (self.id, "ledger".to_owned());
            desk.notice(Notice::Quarantined { range, key, error: error.clone() });
        }
        if let Some(LedgerSeen { ledger: Ok(ledger), .. }) = &ledger
            && Some(ledger.fence) == self.fence()
        {
            self.writer.delivered(Written::Ledger(ledger.number));
            self.note_stranger(desk, ledger.number);
        }
        self.copy.ledger = ledger;
    }

    fn task_put(&mut self, desk: &mut Desk, task: Arc<Task>, raw: Arc<[u8]>) {
        let name = task.spec.name.clone();
        self.copy.unseen.remove(&RunKeyName::Task(name.clone()));
        let silent = self.readable_again(&name);
        let number = desk.next_task_number();
        let new = task.incarnation.revision == task.revision;
        self.copy.tasks += usize::from(new || !self.copy.listed);
        let fresh_one_shot = task.spec.one_shot_at().is_some() && new;
        desk.store(StoreOp::PutTask {
            range: self.id,
            number,
            name: name.clone(),
            revision: task.revision,
            stamp: self.copy.stamp,
            request: task.request.filter(|_| fresh_one_shot && self.fence().is_some()),
            raw,
        });
        if self.fence().is_none() {
            return;
        }
        self.cancel_triggers(desk, &name, task.incarnation.revision);
        self.read_again(desk, &name);
        self.note_fresh(name.clone(), task.revision);
        let Some(task) = self.share(desk, task) else {
            self.leave_out(desk, &name);
            return;
        };
        let joined = self.join_in(desk, &task);
        // The scan attaches no run to what has changed since it was read.
        if !self.window.scanned || silent.is_some() {
            self.attach(desk, &task);
        }
        self.update_open(desk, &task);
        match self.own {
            None => self.end_replaced(desk, &task),
            Some(_) => drop(self.attached.insert(task.spec.name.clone(), task.clone())),
        }
        if let Some(silent) = silent {
            self.skip_silent_priors(desk, &task, silent);
        }
        self.replace_near(desk, number, task, silent, joined);
    }

    /// `Some`: its record could not be read before; what was due by then was decided.
    fn readable_again(&mut self, name: &TaskName) -> Option<Instant> {
        let before = self.copy.was_unreadable.remove(name);
        let silent = self.copy.unreadable.remove(name).or(before);
        self.triggers_new |= silent.is_some();
        silent
    }

    /// What is read of the task for its triggers is the version before: it is asked for anew.
    fn read_again(&mut self, desk: &mut Desk, name: &TaskName) {
        let of_task = |ulid| (name.clone(), ulid);
        if self.copy.triggers.range(of_task(0)..=of_task(u128::MAX)).next().is_some() {
            let here = self.id;
            let of = |load: &Load| match load {
                Load::Trigger { run, range, .. } => *range == here && run.task == *name,
                _ => false,
            };
            desk.loads.retain(|_, load| !of(load));
            self.triggers_new = true;
        }
    }

    /// Remembers that a name changed, while a read of the store may show it as it was.
    fn note_fresh(&mut self, name: TaskName, revision: Revision) {
        if self.window.asked_to.is_some() || self.window.scanning {
            self.fresh.insert(name, revision);
        }
    }

    /// What starts, retries included, starts with the present action and policies.
    fn update_open(&mut self, desk: &mut Desk, task: &Arc<Task>) {
        let ids: Vec<_> = self.runs_of(&task.spec.name).map(|(id, _)| id.clone()).collect();
        for id in &ids {
            if !self.is_of_life(id, task) {
                continue;
            }
            let Some(run) = self.open.get_mut(id) else { continue };
            run.attach(id, task);
            run.unwanted.take_if(|why| *why == UNREADABLE);
            self.turns |= !task.spec.paused;
            // What my own records say of it comes first; a run of its turn is looked at again.
            if run.is_paused(id) && self.own.is_none() {
                self.pause_run(desk, task, id);
            }
            let Some(run) = self.open.get_mut(id) else { continue };
            let moved = !is_one_shot(id, task);
            if moved && run.key.take_if(|k| matches!(k.name, RunKeyName::Task(_))).is_some() {
                // The key stands for another run now, or for many.
                self.writer.dirty = true;
                self.writer.owes(run.due.min(desk.now.wall.instant()), task.incarnation);
            }
            // An edit has made it the run of a one-shot, which is settled by its key.
            if !moved && run.key.is_none() && !run.key_gone {
                let name = RunKeyName::Task(task.spec.name.clone());
                run.key = Some(OwnKey { name, revision: task.revision });
                run.replaced = false;
                self.writer.dirty = true;
            }
            if let Some(key) = run.key.as_mut().filter(|k| matches!(k.name, RunKeyName::Task(_))) {
                key.revision = task.revision;
                if let life::Stage::Ended { batch } = run.stage {
                    desk.done.push_back((batch, self.id, id.clone()));
                }
            }
        }
    }

    /// What has not started never starts: a one-shot waits to be resumed, others end by name.
    pub(super) fn pause_run(&mut self, desk: &mut Desk, task: &Arc<Task>, id: &RunId) {
        // It may still have runs of the time when it was none.
        if is_one_shot(id, task) {
            self.hold_back(desk, id);
            return;
        }
        self.end_rest(desk, id, "paused");
        self.end_unstarted(desk, id, "paused", "its task was paused");
    }

    /// A run that does not run now, and will not: it is named by what is known of it. `untried`:
    /// why it never started; `why`: why it is not tried again.
    pub(super) fn end_unstarted(&mut self, desk: &mut Desk, id: &RunId, untried: &str, why: &str) {
        let Some(run) = self.open.get(id) else { return };
        let tried = run.attempt.number > 0;
        let unknown = run.unknown_end();
        match run.stage {
            life::Stage::Running { .. } | life::Stage::Held { .. } | life::Stage::Ended { .. } => {}
            _ if unknown => {
                let reason = format!("its host went away, and {why}");
                self.end_run(desk, id, RunState::Lost, Some(&reason));
            }
            _ if tried => self.end_run(desk, id, RunState::Cancelled, Some(why)),
            _ => self.end_run(desk, id, RunState::Skipped, Some(untried)),
        }
    }

    /// The instants of a series after the one that it stands at end without a run.
    fn end_rest(&mut self, desk: &mut Desk, id: &RunId, reason: &'static str) {
        let Some(run) = self.open.get_mut(id) else { return };
        if let (Some(rest), RunKey::Instant(first)) = (run.take_rest(), id.run) {
            let instants = (first.plus(MILLISECOND), rest.last);
            self.skip_instants(desk, &rest.timed(), instants, reason);
        }
    }

    /// The record cannot be read any more: as if the task were not there, until it can. The key is
    /// left alone, and so is a one-shot, whose run may still be wanted.
    fn task_unreadable(&mut self, desk: &mut Desk, name: TaskName) {
        self.copy.tasks += usize::from(!self.copy.listed);
        self.copy.unseen.remove(&RunKeyName::Task(name.clone()));
        let now = desk.now.wall.instant();
        let decided = match self.window.scanned {
            true => self.decided_base(desk.config.epoch).through.min(now),
            false => now,
        };
        let before = self.copy.was_unreadable.remove(&name);
        let silent = self.copy.unreadable.entry(name.clone()).or_insert(before.unwrap_or(decided));
        desk.store(StoreOp::DeleteTask { range: self.id, name: name.clone() });
        let (next, superseded) = desk.near.silence(self.id, &name);
        if let Some(due) = next {
            *silent = due.minus(MILLISECOND).min(*silent);
        }
        if self.fence().is_none() {
            return;
        }
        // A read under way may still show the version before, whose revision was delivered.
        self.note_fresh(name.clone(), self.copy.delivered.next());
        for near in superseded {
            if let Some(at) = near.decided {
                self.window.decided_names.note(&near.timed, at);
            }
            let Some((_, first)) = near.queued else { continue };
            let instants = (first, near.until.unwrap_or(first));
            self.skip_instants(desk, &near.timed, instants, UNREADABLE);
            self.window.decided_names.note(&near.timed, instants.1);
        }
        let ids: Vec<_> = self.runs_of(&name).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.end_rest(desk, &id, UNREADABLE);
            let Some(run) = self.open.get_mut(&id) else { continue };
            match run.stage {
                life::Stage::Ended { .. } => {}
                // Inherited, and its task not seen yet: it waits as it is.
                _ if run.task.is_none() => {}
                life::Stage::Running { .. } => _ = run.unwanted.get_or_insert(UNREADABLE),
                life::Stage::Held { .. } if run.key.is_some() => run.task = None,
                life::Stage::Held { .. } => _ = run.unwanted.get_or_insert(UNREADABLE),
                _ if self.own.is_some() => run.task = None,
                _ if run.key.is_some() => {
                    run.task = None;
                    self.hold_back(desk, &id);
                }
                _ => self.end_unstarted(desk, &id, UNREADABLE, UNREADABLE),
            }
        }
    }

    pub(super) fn key_gone(&mut self, desk: &mut Desk, key: &RunKeyName, revision: Revision) {
        match key {
            RunKeyName::Task(name) => {
                let counted = usize::from(self.copy.listed);
                self.copy.tasks = self.copy.tasks.saturating_sub(counted);
                self.readable_again(name);
                desk.store(StoreOp::DeleteTask { range: self.id, name: name.clone() });
                self.note_fresh(name.clone(), revision);
                self.unsure.forget(name);
                self.forget_duplicates(desk, name);
                desk.near.remove_named(self.id, name);
                let ids: Vec<_> = self.runs_of(name).map(|(id, _)| id.clone()).collect();
                // A one-shot that has run leaves what was asked of it besides.
                let settles = |run: &OpenRun| {
                    let own = |key: &OwnKey| matches!(key.name, RunKeyName::Task(_));
                    run.ended() && run.key.as_ref().is_some_and(own)
                };
                let settled = ids.iter().filter_map(|id| self.open.get(id)).any(settles);
                let ended_life = |id: &&RunId| {
                    matches!(id.run, RunKey::Instant(_)) && id.incarnation.revision <= revision
                };
                for id in ids.iter().filter(ended_life) {
                    self.run_key_gone(desk, id);
                }
                if !settled {
                    self.cancel_triggers(desk, name, revision);
                }
            }
            RunKeyName::Trigger(name, ulid) => {
                self.copy.triggers.remove(&(name.clone(), *ulid));
                let id = RunId::manual(name.clone(), *ulid);
                self.note_asked(desk, &id);
                self.run_key_gone(desk, &id);
            }
        }
    }

    /// The key behind a run is gone: an ended one is settled, what has not started never starts,
    /// what runs ends by itself.
    pub(super) fn run_key_gone(&mut self, desk: &mut Desk, id: &RunId) {
        self.drop_run(desk, id, DELETED);
    }

    /// As [`Range::run_key_gone`], for another reason.
    pub(super) fn drop_run(&mut self, desk: &mut Desk, id: &RunId, reason: &'static str) {
        let Some(run) = self.open.get_mut(id) else { return };
        let known = matches!(
            run.stage,
            life::Stage::Ended { .. } | life::Stage::Running { .. } | life::Stage::Held { .. }
        );
        if let Some(own) = self.own.as_mut().filter(|_| !known) {
            own.gone(id);
            return;
        }
        run.key = None;
        run.key_gone = true;
        let rest = run.take_rest();
        run.unwanted = Some(reason);
        self.writer.dirty = true;
        match run.stage {
            // A ledger lists it: it stays until one without it is answered (L6). A final one that
            // is under way may list it as left running here, and ask how it ended.
            life::Stage::Ended { .. } if run.listed => {}
            life::Stage::Ended { .. } => {
                // One that an edit has made of a recurring task: by its row of history it is told
                // from an instant of that by nothing, so that marks have to cover it.
                let task = run.task.as_ref().filter(|task| task.request.is_none());
                if let (Some(task), RunKey::Instant(_)) = (task, id.run) {
                    let due = run.due.min(desk.now.wall.instant());
                    self.writer.owes(due, task.incarnation);
                }
                self.open.remove(id);
            }
            life::Stage::Running { .. } | life::Stage::Held { .. } => {}
            _ => self.end_run(desk, id, RunState::Cancelled, Some(reason)),
        }
        if let (Some(rest), RunKey::Instant(first)) = (rest, id.run) {
            let instants = (first.plus(MILLISECOND), rest.last);
            let state = RunState::Cancelled;
            self.end_instants(desk, &rest.timed(), instants, state, reason);
        }
    }
}
