//! Runs asked for by hand: a trigger's key becomes a run, and one request becomes one run.
//!
//! A trigger that is sent again with its `Idempotency-Key` has a ulid with the same end, and the
//! coordinator that takes it in looks for the first one. Two that come through two coordinators at
//! the same moment are both written, since neither sees the other; here, where both arrive, the
//! second ends as a duplicate. The first may have run by then, and its key be gone: what was asked
//! here is remembered for a minute.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::agent::desk::{Desk, Load};
use crate::agent::effect::{LoadRequest, RunKeyName};
use crate::agent::epoch::Told;
use crate::agent::input::Trigger;
use crate::agent::news::DELETED;
use crate::agent::open::{OpenRun, OwnKey};
use crate::agent::range::Range;
use crate::ids::{Revision, RunId, RunKey, TaskName, TaskNumber};
use crate::run::RunState;
use crate::run::life::Stage;
use crate::task::Task;
use crate::time::Mono;

/// Of a ulid, what is not its time.
const ULID_END: u128 = (1 << 80) - 1;
/// A coordinator that has looked for an earlier one writes long before this is over.
const REMEMBERED: Duration = Duration::from_secs(60);
const REMEMBERED_MAX: usize = 1_000;

/// Triggers that had their run here and whose keys are gone, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    runs: VecDeque<(Mono, RunId)>,
}

impl Asked {
    fn note(&mut self, run: RunId, now: Mono) {
        let old = |(at, _): &(Mono, RunId)| now.since(*at) > REMEMBERED;
        while self.runs.len() >= REMEMBERED_MAX || self.runs.front().is_some_and(old) {
            self.runs.pop_front();
        }
        self.runs.push_back((now, run));
    }

    fn lately(&self, now: Mono) -> impl Iterator<Item = &RunId> {
        let runs = self.runs.iter().filter(move |(at, _)| now.since(*at) <= REMEMBERED);
        runs.map(|(_, run)| run)
    }
}

impl Range {
    /// Triggers that have no run yet, or whose run was inherited without its task: read the task.
    pub(super) fn want_triggers(&mut self, desk: &mut Desk) {
        if !self.triggers_new || !self.may_start(desk) {
            return;
        }
        let asked: BTreeSet<RunId> = desk
            .loads
            .values()
            .filter_map(|load| match load {
                Load::Trigger { run, range, holding }
                    if (*range, *holding) == (self.id, self.holding) =>
                {
                    Some(run.clone())
                }
                _ => None,
            })
            .collect();
        let mut room = self.room().saturating_sub(asked.len());
        for trigger in self.copy.triggers.values() {
            let name = trigger.task.clone();
            let id = RunId::manual(name.clone(), trigger.ulid);
            let known = self.open.get(&id).is_some_and(|run| run.task.is_some());
            if known || asked.contains(&id) {
                continue;
            }
            // At the bound new runs wait (L8).
            if room == 0 {
                return;
            }
            room -= 1;
            let (range, holding) = (self.id, self.holding);
            let load = Load::Trigger { range, holding, run: id };
            desk.load(load, LoadRequest::Task { range, name });
        }
        self.triggers_new = false;
    }

    /// The task of a trigger was read: its run opens, or, without a task, its key is deleted.
    pub(super) fn trigger_task(
        &mut self,
        desk: &mut Desk,
        id: RunId,
        found: Option<(TaskNumber, Arc<Task>)>,
    ) {
        let RunKey::Manual(ulid) = id.run else { return };
        let Some(trigger) = self.copy.triggers.get(&(id.task.clone(), ulid)).cloned() else {
            return;
        };
        // It may have been read before its record became what cannot be.
        if self.copy.unreadable.contains_key(&id.task) {
            return;
        }
        // One of the same name that is younger is not the task that was to run.
        let found = found.filter(|(_, task)| task.incarnation.revision < trigger.revision);
        let Some((_, task)) = found else {
            self.cancel_trigger(desk, &trigger);
            return;
        };
        let range = self.id;
        if let Some(run) = self.open.get_mut(&id) {
            run.task = Some(task);
            run.payload = trigger.payload.clone();
            run.shorten_wait(&id, desk.now.wall);
            let past = run.past_epoch && run.at_most_once();
            match run.stage {
                Stage::Ended { batch } => desk.done.push_back((batch, range, id)),
                _ if past => self.lose_past(desk, &id),
                Stage::Waiting { at } => {
                    desk.timers.insert((at, range, id));
                }
                Stage::Doubtful if self.own.is_none() => self.lose_run(desk, &id),
                _ => self.turns = true,
            }
            return;
        }
        let mut run = OpenRun::new(task.clone(), trigger.asked_at, trigger.asked_at);
        run.key = Some(own_trigger(&trigger));
        run.payload = trigger.payload.clone();
        let forgotten =
            self.forgotten(desk, &task, (trigger.asked_at, trigger.asked_at), Told::ByKey);
        match (self.asked_before(&trigger, desk.now.mono), forgotten) {
            (None, None) => self.meet_others(desk, id, run),
            (None, Some(forgotten)) => {
                self.open.insert(id.clone(), run);
                self.end_run(desk, &id, RunState::Lost, Some(forgotten.why));
            }
            (Some(earlier), _) => {
                self.open.insert(id.clone(), run);
                let reason = format!("duplicate_of {earlier}");
                self.end_run(desk, &id, RunState::Skipped, Some(&reason));
            }
        }
    }

    /// Whether a run is of this life of its task: one asked for by hand is of the life in which it
    /// was asked for.
    pub(super) fn is_of_life(&self, id: &RunId, task: &Task) -> bool {
        let trigger = match id.run {
            RunKey::Manual(ulid) => self.copy.triggers.get(&(id.task.clone(), ulid)),
            RunKey::Instant(_) => None,
        };
        let earlier = |trigger: &Trigger| trigger.revision < task.incarnation.revision;
        id.is_of(task.incarnation) && !trigger.is_some_and(earlier)
    }

    /// The life of a task is over: what was asked of it before does not start any more, also if
    /// another of its name has come.
    pub(super) fn cancel_triggers(&mut self, desk: &mut Desk, name: &TaskName, over: Revision) {
        if self.fence().is_none() {
            return;
        }
        let of_task = |ulid| (name.clone(), ulid);
        let triggers = self.copy.triggers.range(of_task(0)..=of_task(u128::MAX));
        let of_life = triggers.filter(|(_, trigger)| trigger.revision < over);
        let of_life: Vec<Trigger> = of_life.map(|(_, trigger)| trigger.clone()).collect();
        for trigger in of_life {
            self.cancel_trigger(desk, &trigger);
        }
        // While the range is listed again, the task may come before its triggers.
        let before = |key: &OwnKey| key.revision < over;
        let mut open = Vec::new();
        for (id, run) in self.runs_of(name) {
            if matches!(id.run, RunKey::Manual(_)) && run.key.as_ref().is_some_and(before) {
                open.push(id.clone());
            }
        }
        for id in open {
            self.cancel_open(desk, &id);
        }
    }

    /// Its task is gone: the key goes once that is written down.
    fn cancel_trigger(&mut self, desk: &mut Desk, trigger: &Trigger) {
        let id = RunId::manual(trigger.task.clone(), trigger.ulid);
        let asked_at = trigger.asked_at;
        let unseen = || OpenRun::inherited(None, asked_at, asked_at);
        let run = self.open.entry(id.clone()).or_insert_with(unseen);
        run.key = Some(own_trigger(trigger));
        self.cancel_open(desk, &id);
    }

    /// What runs ends by itself, and is not tried again.
    fn cancel_open(&mut self, desk: &mut Desk, id: &RunId) {
        let Some(run) = self.open.get_mut(id) else { return };
        run.unwanted = Some(DELETED);
        match run.stage {
            Stage::Running { .. } | Stage::Held { .. } => {}
            Stage::Ended { batch } => desk.done.push_back((batch, self.id, id.clone())),
            // It may have started.
            Stage::Doubtful => self.lose_run(desk, id),
            _ => self.end_run(desk, id, RunState::Cancelled, Some(DELETED)),
        }
    }

    /// The key of a trigger is gone. One that had no attempt stands in the way of no other.
    pub(super) fn note_asked(&mut self, desk: &Desk, id: &RunId) {
        let tried = |run: &OpenRun| run.attempt.number > 0 || run.ticket().is_some();
        if self.open.get(id).is_some_and(tried) {
            self.asked.note(id.clone(), desk.now.mono);
        }
    }

    /// The run of another trigger of the same request: one that was there before, or, where both
    /// are new, the one with the lesser ulid, so that every holder takes the same.
    fn asked_before(&self, trigger: &Trigger, now: Mono) -> Option<RunId> {
        let of_task = |ulid| (trigger.task.clone(), ulid);
        let others = self.copy.triggers.range(of_task(0)..=of_task(u128::MAX));
        let same = |ulid: &u128| *ulid != trigger.ulid && (ulid ^ trigger.ulid) & ULID_END == 0;
        let there = others.map(|((_, ulid), _)| *ulid).filter(same).find_map(|ulid| {
            let id = RunId::manual(trigger.task.clone(), ulid);
            let runs = |run: &OpenRun| !run.ended() || run.attempt.number > 0;
            let first = ulid < trigger.ulid || self.open.get(&id).is_some_and(runs);
            first.then_some(id)
        });
        let has_run = |run: &&RunId| match run.run {
            RunKey::Manual(ulid) => run.task == trigger.task && same(&ulid),
            RunKey::Instant(_) => false,
        };
        there.or_else(|| self.asked.lately(now).find(has_run).cloned())
    }
}

pub(super) fn own_trigger(trigger: &Trigger) -> OwnKey {
    OwnKey {
        name: RunKeyName::Trigger(trigger.task.clone(), trigger.ulid),
        revision: trigger.revision,
    }
}
