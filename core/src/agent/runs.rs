//! Open runs at work: waiting for a place, being written down, started, finished, tried again,
//! cancelled, ended. Every change of stage goes through `life::step`.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::agent::Agent;
use crate::agent::decide::outside_window;
use crate::agent::desk::Desk;
use crate::agent::effect::{BatchNumber, Effect, SettledEnd, Start, StoreOp, Ticket};
use crate::agent::input::Committed;
use crate::agent::open::{OpenRun, Rest};
use crate::agent::range::{LeftRun, Range};
use crate::ids::{Attempt, RangeId, RunId, RunKey, Session};
use crate::limits;
use crate::run::life::{Event, Stage};
use crate::run::{AttemptEnd, AttemptRecord, Finished, RunState, retry};
use crate::task::Overlap;
use crate::time::{Instant, MILLISECOND, Wall};

/// Catch-up starts are counted by the second.
const CATCH_UP_SHARE: std::time::Duration = std::time::Duration::from_secs(1);
const WITHDRAWN: &str = "cancelled on request";
pub(super) const OUTSIDE_WINDOW: &str = "nobody could run it within its catch-up window";

impl Agent {
    /// Retries and others whose time has come.
    pub(super) fn wake_waiting(&mut self) {
        let now = self.desk.now.wall;
        while let Some((at, range, id)) = self.desk.timers.first().cloned() {
            if at > now {
                break;
            }
            self.desk.timers.remove(&(at, range, id.clone()));
            if let Some(range) = self.ranges.get_mut(&range)
                && range.step(&id, Event::Due)
            {
                range.requeue(&mut self.desk, &id);
            }
        }
    }

    /// Fills the free places: the starts are written down in this step's batch.
    pub(super) fn open_ready(&mut self) {
        let places = self.desk.config.running_max.saturating_sub(self.desk.running);
        if places == 0 || self.desk.ready.len() == 0 {
            return;
        }
        let mut ready = std::mem::take(&mut self.desk.ready);
        let chosen = ready.take(places, |id| {
            self.ranges.get(&id).is_some_and(|range| range.may_start(&self.desk))
        });
        self.desk.ready = ready;
        for (id, run) in chosen {
            if let Some(range) = self.ranges.get_mut(&id) {
                range.open_run(&mut self.desk, &run);
            }
        }
    }

    pub(super) fn committed(&mut self, committed: &Committed) {
        self.desk.stored.answered(committed.batch, self.desk.now.mono);
        self.desk.written(committed.batch);
        if committed.synced {
            self.desk.synced = self.desk.synced.max(committed.batch);
        }
        for duplicate in &committed.duplicates {
            self.end_duplicate(duplicate);
        }
        let opened = self.desk.opening.remove(&committed.batch).unwrap_or_default();
        for (id, run) in opened {
            if let Some(range) = self.ranges.get_mut(&id) {
                range.start_run(&mut self.desk, &run, committed.batch);
            }
        }
        self.ledgers_synced();
    }

    pub(super) fn finished(&mut self, ticket: Ticket, finished: Finished) {
        let Some((range, id)) = self.desk.tickets.remove(&ticket) else { return };
        self.desk.running -= 1;
        let Some(range) = self.ranges.get_mut(&range) else { return };
        let here = range.open.get(&id).is_some_and(|run| run.ticket() == Some(ticket));
        if here {
            range.attempt_over(&mut self.desk, &id, finished);
        } else {
            range.left_over(&mut self.desk, &id, ticket, finished);
        }
    }

    /// The executor looked at the licence last, and it had run out.
    pub(super) fn unstarted(&mut self, ticket: Ticket) {
        let Some((range, id)) = self.desk.tickets.remove(&ticket) else { return };
        self.desk.running -= 1;
        let Some(range) = self.ranges.get_mut(&range) else { return };
        let here = range.open.get(&id).is_some_and(|run| run.ticket() == Some(ticket));
        if here && range.step(&id, Event::Unlicensed) {
            if let Some(run) = range.open.get_mut(&id) {
                run.attempts.pop();
                run.attempt.number -= 1;
            }
            range.not_begun(&mut self.desk, &id);
            range.requeue(&mut self.desk, &id);
            range.end_unwanted(&mut self.desk, &id);
        } else {
            range.left.retain(|key, left| match left {
                LeftRun::Running(run) => key.run != id || run.ticket() != Some(ticket),
                LeftRun::Ended { .. } => true,
            });
            // Another attempt of it may be open here meanwhile.
            if !range.open.contains_key(&id) {
                self.desk.store(StoreOp::CloseRun { range: range.id, run: id });
            }
        }
    }

    pub(super) fn cancel_run(&mut self, id: &RunId) {
        let range = self.range_of(id);
        let Some(range) = self.ranges.get_mut(&range) else { return };
        range.cancel(&mut self.desk, id, WITHDRAWN);
        // Also where it is open again, and it is not known yet that it runs here still.
        range.cancel_left(&mut self.desk, id);
    }
}

impl Range {
    /// Moves a run on in its life. What the machine does not allow is this crate's own mistake.
    pub(super) fn step(&mut self, id: &RunId, event: Event) -> bool {
        self.open.get_mut(id).is_some_and(|run| run.step(id, event))
    }

    pub(super) fn queue_run(&mut self, desk: &mut Desk, id: RunId, mut run: OpenRun) {
        run.stage = Stage::Queued;
        if self.permits_start(desk, &id, &run) {
            run.put_ready(desk, self.id, &id);
            self.open.insert(id, run);
        } else {
            self.open.insert(id.clone(), run);
            self.ask_permission(desk, &id);
        }
    }

    /// Puts a run where it waits for a free place; one that may start at most once first waits for
    /// its permission.
    pub(super) fn requeue(&mut self, desk: &mut Desk, id: &RunId) {
        if !self.permitted(desk, id) {
            self.ask_permission(desk, id);
        } else if let Some(run) = self.open.get_mut(id) {
            run.put_ready(desk, self.id, id);
        }
    }

    /// Puts a run back among those that wait for their turn: a one-shot whose task was paused.
    pub(super) fn hold_back(&mut self, desk: &mut Desk, id: &RunId) {
        let Some(run) = self.open.get(id) else { return };
        let stage = run.stage;
        if stage.waits() && self.step(id, Event::Hold) {
            self.leave_stage(desk, id, stage);
            // What waits behind it may be free to go.
            self.turns = true;
        }
    }

    /// Takes a run out of what its former stage had it in.
    pub(super) fn leave_stage(&mut self, desk: &mut Desk, id: &RunId, stage: Stage) {
        let Some(run) = self.open.get(id) else { return };
        match stage {
            Stage::Queued => desk.ready.remove(run.queued_as, run.due, self.id, id),
            Stage::Waiting { at } => {
                desk.timers.remove(&(at, self.id, id.clone()));
            }
            Stage::Opening { .. } => {
                desk.running -= 1;
                self.not_begun(desk, id);
            }
            Stage::Asking => self.permits.stops_asking(run.due, id),
            _ => {}
        }
    }

    /// It counted as started and was not, and meanwhile somebody did not want it any more.
    fn end_unwanted(&mut self, desk: &mut Desk, id: &RunId) {
        let Some(run) = self.open.get_mut(id) else { return };
        if self.copy.unreadable.contains_key(&id.task) && run.key.is_some() {
            // Whether it is still wanted is known when its record can be read again.
            run.task = None;
            run.unwanted.take_if(|why| *why != WITHDRAWN);
            self.hold_back(desk, id);
        } else if let Some(reason) = run.unwanted {
            self.end_run(desk, id, RunState::Cancelled, Some(reason));
        } else {
            self.end_if_replaced(desk, id);
        }
    }

    fn open_run(&mut self, desk: &mut Desk, id: &RunId) {
        let (Some(run), Some(fence)) = (self.open.get(id), self.fence()) else { return };
        let due = run.due.wall();
        if due > desk.now.wall {
            if self.step(id, Event::Postpone { at: due }) {
                desk.timers.insert((due, self.id, id.clone()));
            }
            return;
        }
        if run.task.is_none() {
            // Its record could be read when it was queued.
            self.hold_back(desk, id);
            return;
        }
        if let Some(task) = run.task.clone().filter(|_| run.is_paused(id)) {
            self.pause_run(desk, &task, id);
            return;
        }
        if run.deadline_passed(desk.now.wall) {
            let reason = "it could not start before its start deadline";
            self.end_run(desk, id, RunState::Missed, Some(reason));
            return;
        }
        if !self.permits_start(desk, id, run) {
            self.ask_permission(desk, id);
            return;
        }
        let attempt = Attempt { fence, number: run.attempt.number + 1 };
        let batch = desk.batch();
        if self.step(id, Event::Open { batch }) {
            desk.store(StoreOp::OpenRun { range: self.id, run: id.clone(), attempt });
            desk.opening.entry(batch).or_default().push((self.id, id.clone()));
            desk.running += 1;
        }
    }

    /// A start that was written down was not made: a process that comes after must not take it for
    /// one that may have run.
    fn not_begun(&mut self, desk: &mut Desk, id: &RunId) {
        let Some(attempt) = self.open.get(id).map(|run| run.attempt) else { return };
        let (range, run) = (self.id, id.clone());
        desk.store(match attempt.number {
            0 => StoreOp::CloseRun { range, run },
            _ => StoreOp::OpenRun { range, run, attempt },
        });
    }

    /// Its start is written down: it starts, if the licence still holds. Not where another has been
    /// written down since, for one that was held back meanwhile.
    fn start_run(&mut self, desk: &mut Desk, id: &RunId, batch: BatchNumber) {
        let session = desk.session.session().or(self.is_local().then(Session::default));
        let (Some(fence), Some(session)) = (self.fence(), session) else { return };
        let Some(run) = self.open.get(id) else { return };
        let due = run.due.wall() <= desk.now.wall;
        let may = due && self.may_start(desk) && self.permits_start(desk, id, run);
        if run.stage != (Stage::Opening { batch }) {
            return;
        }
        let Some(task) = run.task.clone().filter(|_| may) else {
            if self.step(id, Event::Unlicensed) {
                desk.running -= 1;
                self.not_begun(desk, id);
                self.requeue(desk, id);
            }
            return;
        };
        let ticket = desk.next_ticket();
        let until = self.licence(desk);
        let agent = desk.config.agent.clone();
        let Some(run) = self.open.get_mut(id) else { return };
        run.step(id, Event::Start { ticket });
        run.attempt = Attempt { fence, number: run.attempt.number + 1 };
        // A ledger permits it, if it may start only once.
        run.listed |= task.spec.at_most_once();
        let attempt = run.attempt;
        run.attempts.push(AttemptRecord {
            attempt,
            agent,
            session,
            started_at: Some(desk.now.wall),
            finished_at: None,
            end: None,
            code: None,
        });
        let start = Start {
            ticket,
            run: id.clone(),
            attempt,
            instant: run.instant,
            due: run.due.wall(),
            action: Arc::new(task.spec.action.clone()),
            payload: run.payload.clone(),
            timeout: task.spec.timeout,
            until,
        };
        let record = run.record(desk, id, fence, RunState::Running);
        desk.tickets.insert(ticket, (self.id, id.clone()));
        desk.effect(Effect::Start(Box::new(start)));
        desk.report(record);
    }

    /// An attempt of an open run is over: the run ends, or is tried again.
    fn attempt_over(&mut self, desk: &mut Desk, id: &RunId, finished: Finished) {
        let output = finished.output.clone();
        let now = desk.now.wall;
        let Some(run) = self.open.get_mut(id) else { return };
        note_end(run, &finished);
        let attempt = run.attempt;
        if output != Default::default() {
            desk.store(StoreOp::Output { run: id.clone(), attempt, output });
        }
        let retry = run.task.as_ref().map(|task| task.spec.retry);
        let last = run.unwanted.is_some() || run.is_paused(id);
        let again = retry.filter(|_| !last && may_retry(&finished.end));
        let wait = again.and_then(|retry| retry::wait_after(&retry, id, attempt.number));
        match wait {
            Some(wait) => self.retry_at(desk, id, now.plus(wait)),
            None => {
                let (state, reason) = end_of(&finished.end);
                self.end_run(desk, id, state, reason.as_deref());
            }
        }
    }

    pub(super) fn retry_at(&mut self, desk: &mut Desk, id: &RunId, at: Wall) {
        if !self.step(id, Event::Retry { at }) {
            return;
        }
        desk.timers.insert((at, self.id, id.clone()));
        if let Some(run) = self.open.get_mut(id) {
            run.end_known = true;
        }
        self.writer.dirty = true;
        let fence = self.fence().unwrap_or_default();
        if let Some(run) = self.open.get(id) {
            let record = run.record(desk, id, fence, RunState::WaitingRetry);
            desk.report(record);
        }
    }

    /// Ends a run for good, in whatever stage it is: history, report, and the turn of others.
    pub(super) fn end_run(
        &mut self,
        desk: &mut Desk,
        id: &RunId,
        state: RunState,
        reason: Option<&str>,
    ) {
        let Some(run) = self.open.get_mut(id) else { return };
        let (stage, batch) = (run.stage, desk.batch());
        if !run.step(id, Event::End { batch }) {
            return;
        }
        if stage.waits() {
            self.leave_stage(desk, id, stage);
        }
        let fence = self.fence().unwrap_or_default();
        let Some(run) = self.open.get(id) else { return };
        let mut record = run.record(desk, id, fence, state);
        record.reason = reason.map(str::to_owned);
        desk.end(record);
        desk.store(StoreOp::CloseRun { range: self.id, run: id.clone() });
        self.writer.dirty = true;
        let waits = self.runs_of(&id.task).any(|(_, other)| other.stage == Stage::Behind);
        self.turns |= waits;
        self.after_end(desk, id, batch);
    }

    /// What stays of an ended run: its place in the list, its key to delete, the next of a series.
    pub(super) fn after_end(&mut self, desk: &mut Desk, id: &RunId, batch: BatchNumber) {
        let Entry::Occupied(mut entry) = self.open.entry(id.clone()) else { return };
        let run = entry.get_mut();
        let rest = run.take_rest();
        if run.key.is_some() {
            desk.done.push_back((batch, self.id, id.clone()));
        } else if !run.listed {
            // The next marks may not cover it yet: they are as old as the newest proof.
            self.writer.owes(run.due, id.incarnation);
            entry.remove();
        }
        if let (Some(rest), RunKey::Instant(instant)) = (rest, id.run) {
            self.make_up_rest(rest, instant);
        }
    }

    /// The instants of a series after `instant` wait as an entry of their own: a ledger that lists
    /// the one that runs must list them too.
    pub(super) fn make_up_rest(&mut self, rest: Rest, instant: Instant) {
        let Rest { task, of, last } = rest;
        self.make_up(&task, of, (instant.plus(MILLISECOND), last));
    }

    /// Lets those go on that waited for others of their task, catch-ups at a bounded rate.
    pub(super) fn take_turns(&mut self, desk: &mut Desk) {
        if let Some(at) = self.catch_up_at {
            desk.wake_by(at);
            self.turns |= at <= desk.now.mono;
        }
        if !std::mem::take(&mut self.turns) {
            return;
        }
        self.catch_up_at = None;
        let may_start = self.may_start(desk);
        let put_off = !self.parked.is_empty() && !self.full;
        let mut behind: Vec<(Instant, RunId)> = self
            .open
            .iter()
            .filter(|(_, run)| run.stage == Stage::Behind && run.task.is_some())
            .map(|(id, run)| (run.due, id.clone()))
            .collect();
        // Of one task the earlier goes first, whether an instant or asked for by hand.
        behind.sort_unstable();
        for (_, id) in behind {
            let Some(run) = self.open.get(&id) else { continue };
            // Its former holder's clock was ahead of mine.
            if run.due.wall() > desk.now.wall {
                let ahead = run.due.wall().since(desk.now.wall);
                desk.wake_by(desk.now.mono.plus(ahead));
                self.turns = true;
                continue;
            }
            if let Some(reason) = run.unwanted {
                self.end_run(desk, &id, RunState::Cancelled, Some(reason));
                continue;
            }
            if let Some(task) = run.task.clone().filter(|_| run.is_paused(&id)) {
                self.pause_run(desk, &task, &id);
                continue;
            }
            // Of what may overlap only catch-ups go one after the other.
            let allow = run.task.as_ref().is_some_and(|task| task.spec.overlap == Overlap::Allow);
            let free = allow && !run.catch_up;
            let stands = |other: &OpenRun| other.active() && (!allow || other.catch_up);
            let alone = free || !self.runs_of(&id.task).any(|(_, other)| stands(other));
            if !alone || self.stays_paused(desk, &id) {
                continue;
            }
            let Some(run) = self.open.get(&id) else { continue };
            // What is on time goes first, and some of that is still to be decided.
            if run.catch_up && put_off {
                self.turns = true;
                continue;
            }
            if run.catch_up && !may_start {
                // It uses up nothing of what others may.
                self.catch_up_at = Some(desk.now.mono.plus(CATCH_UP_SHARE));
                continue;
            }
            if run.catch_up && !desk.allow_catch_up(self.id) {
                self.catch_up_at = Some(desk.catch_up_left.1.plus(CATCH_UP_SHARE));
                continue;
            }
            if self.step(&id, Event::Turn) {
                self.requeue(desk, &id);
                self.split_series(&id);
            }
        }
    }

    /// A one-shot waits while it is paused; when it is resumed, its catch-up policy decides.
    fn stays_paused(&mut self, desk: &mut Desk, id: &RunId) -> bool {
        let Some(run) = self.open.get(id) else { return true };
        let Some(task) = run.task.clone().filter(|task| task.spec.one_shot_at().is_some()) else {
            return false;
        };
        if matches!(id.run, RunKey::Manual(_)) || run.attempt.number > 0 && !task.spec.paused {
            return false;
        }
        if task.spec.paused {
            return true;
        }
        if outside_window(&task, desk.now.wall.since(run.due.wall())) {
            self.end_run(desk, id, RunState::Missed, Some(OUTSIDE_WINDOW));
            return true;
        }
        false
    }

    /// The first instant of a series has its turn: the rest goes on waiting.
    fn split_series(&mut self, id: &RunId) {
        let Some(run) = self.open.get_mut(id) else { return };
        let rest = run.take_rest();
        if let (Some(rest), RunKey::Instant(instant)) = (rest, id.run) {
            self.make_up_rest(rest, instant);
        }
    }

    pub(super) fn cancel(&mut self, desk: &mut Desk, id: &RunId, reason: &'static str) {
        let Some(run) = self.open.get_mut(id) else { return };
        run.unwanted = Some(reason);
        match run.stage {
            Stage::Running { ticket } => desk.effect(Effect::Cancel { ticket }),
            // It runs elsewhere, where the request goes as well.
            Stage::Held { .. } | Stage::Doubtful | Stage::Ended { .. } => {}
            _ => self.end_run(desk, id, RunState::Cancelled, Some(reason)),
        }
    }

    pub(super) fn cancel_left(&mut self, desk: &mut Desk, id: &RunId) {
        for (key, left) in &mut self.left {
            if let LeftRun::Running(run) = left
                && key.run == *id
            {
                run.unwanted = Some(WITHDRAWN);
                if let Some(ticket) = run.ticket() {
                    desk.effect(Effect::Cancel { ticket });
                }
            }
        }
    }

    /// A run that executes here for a range that is no longer mine is over: the record stays here,
    /// and the holder is told through the settle key.
    fn left_over(&mut self, desk: &mut Desk, id: &RunId, ticket: Ticket, finished: Finished) {
        let key = self.left.iter().find_map(|(key, left)| match left {
            LeftRun::Running(run) if key.run == *id && run.ticket() == Some(ticket) => {
                Some(key.clone())
            }
            _ => None,
        });
        let Some(key) = key else { return };
        let Some(LeftRun::Running(mut run)) = self.left.remove(&key) else { return };
        note_end(&mut run, &finished);
        if finished.output != Default::default() {
            let (run, attempt) = (id.clone(), key.attempt);
            desk.store(StoreOp::Output { run, attempt, output: finished.output.clone() });
        }
        let (state, reason) = end_of(&finished.end);
        let mut record = run.record(desk, id, key.attempt.fence, state);
        record.reason = reason;
        desk.end(record);
        desk.store(StoreOp::CloseRun { range: self.id, run: id.clone() });
        desk.sync_wanted = true;
        let (end, batch) = (settled_end(&finished.end), desk.batch());
        self.left.insert(key, LeftRun::Ended { end, batch });
    }
}

impl Desk {
    /// Whether one more catch-up may start within this second.
    fn allow_catch_up(&mut self, range: RangeId) -> bool {
        let (left, since) = self.catch_up_left;
        let (left, since) = match self.now.mono.since(since) >= CATCH_UP_SHARE {
            true => {
                // Those that were allowed and found no place start within this one.
                let waiting = u64::try_from(self.catch_ups_waiting).unwrap_or(u64::MAX);
                (limits::CATCH_UP_STARTS_PER_S.saturating_sub(waiting), self.now.mono)
            }
            false => (left, since),
        };
        self.catch_up_left = (left.saturating_sub(1), since);
        if left > 0 {
            self.catch_up_next = RangeId(range.0.wrapping_add(1));
        }
        left > 0
    }
}

fn note_end(run: &mut OpenRun, finished: &Finished) {
    if let Some(attempt) = run.attempts.last_mut() {
        attempt.started_at = finished.started_at;
        attempt.finished_at = Some(finished.finished_at);
        attempt.end = Some(finished.end.clone());
        attempt.code = finished.code;
    }
}

fn may_retry(end: &AttemptEnd) -> bool {
    matches!(end, AttemptEnd::Failed { .. } | AttemptEnd::TimedOut { .. })
}

pub(super) fn end_of(end: &AttemptEnd) -> (RunState, Option<String>) {
    match end {
        AttemptEnd::Succeeded => (RunState::Succeeded, None),
        AttemptEnd::Failed { reason } => (RunState::Failed, Some(reason.clone())),
        AttemptEnd::TimedOut { after } => {
            (RunState::TimedOut, Some(format!("it ran longer than its timeout of {after:?}")))
        }
        AttemptEnd::Cancelled => (RunState::Cancelled, Some("cancelled".to_owned())),
    }
}

pub(super) fn settled_end(end: &AttemptEnd) -> SettledEnd {
    match end {
        AttemptEnd::Succeeded => SettledEnd::Succeeded,
        AttemptEnd::Failed { .. } => SettledEnd::Failed,
        AttemptEnd::TimedOut { .. } => SettledEnd::TimedOut,
        AttemptEnd::Cancelled => SettledEnd::Cancelled,
    }
}
