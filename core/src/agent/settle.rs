//! Settling: how attempts ended that were left with an earlier holder, and the keys of one-shots
//! and triggers that are done (L7).

use std::time::Duration;

use crate::agent::Agent;
use crate::agent::adopt::LeftBefore;
use crate::agent::desk::{Call, Desk};
use crate::agent::effect::{KeyDelete, RunKeyName, SettleKey, SettlePut, SettledEnd, ShareRequest};
use crate::agent::input::ShareAnswer;
use crate::agent::news::{DELETED, UNREADABLE};
use crate::agent::open::OpenRun;
use crate::agent::range::{LeftRun, Range};
use crate::agent::rules::Rule;
use crate::ids::{Attempt, RangeId, RunId, Session};
use crate::ledger::EntryState;
use crate::limits;
use crate::run::life::{Event, Stage};
use crate::run::{RunState, retry};

/// Deletes that are under way at the same time.
const CALLS_MAX: usize = 8;
/// What the shared state did not do is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// What has been said and the watch does not show is said again after this: it may be slow, and
/// writing faster would make it slower.
const SAY_AGAIN: Duration = Duration::from_secs(1);
/// The store is synced at least this often while ended one-shots wait for it.
const SYNC_EVERY: Duration = Duration::from_millis(20);

impl Agent {
    pub(super) fn settle(&mut self) {
        let Some(session) = self.desk.session.session() else { return };
        let asked = self.desk.calls.values().any(|call| matches!(call, Call::Settle));
        let mut puts = Vec::new();
        for range in self.ranges.values_mut() {
            range.ask_abandoned(&mut self.desk);
            range.take_own(&mut self.desk, session);
            if !asked && puts.len() < limits::DELETES_MAX {
                range.owed_settles(&mut self.desk, session, &mut puts);
            }
        }
        puts.truncate(limits::DELETES_MAX);
        if !puts.is_empty() && self.desk.settle_after > self.desk.now.mono {
            self.desk.wake_by(self.desk.settle_after);
        } else if !puts.is_empty() {
            for put in &puts {
                if let Some(range) = self.ranges.get_mut(&put.range) {
                    range.said.insert(put.key.clone(), self.desk.now.mono);
                }
            }
            let request = ShareRequest::Settle { session, settles: puts };
            self.desk.share(Call::Settle, request);
        }
    }

    pub(super) fn settle_read(
        &mut self,
        range: RangeId,
        holding: u32,
        run: &RunId,
        answer: ShareAnswer,
    ) {
        let Some(range) = self.ranges.get_mut(&range) else { return };
        let current = range.holding == holding;
        let Some(open) = range.open.get_mut(run) else { return };
        let Stage::Held { session, .. } = open.stage else { return };
        match answer {
            ShareAnswer::Settle(Some(end)) if current => range.settled(&mut self.desk, run, end),
            ShareAnswer::Settle(None) if current => range.abandoned(&mut self.desk, run),
            // Also where the window began anew meanwhile: what the run is of may not be known yet.
            _ => {
                open.stage = Stage::Held { session, asked: false };
                range.ask_after = self.desk.now.mono.plus(ASK_AGAIN);
            }
        }
    }

    pub(super) fn settles_put(&mut self, answer: &ShareAnswer) {
        if !matches!(answer, ShareAnswer::Done) {
            self.desk.settle_after = self.desk.now.mono.plus(ASK_AGAIN);
            self.ranges.values_mut().for_each(|range| range.said.clear());
        }
    }

    /// Deletes the keys of ended one-shots and triggers whose end is on disk.
    pub(super) fn delete_done(&mut self) {
        if self.desk.done.is_empty() || self.desk.session.session().is_none() {
            return;
        }
        if self.desk.delete_after > self.desk.now.mono {
            self.desk.wake_by(self.desk.delete_after);
            return;
        }
        let mut calls =
            self.desk.calls.values().filter(|call| matches!(call, Call::Delete(_))).count();
        while calls < CALLS_MAX {
            let mut deletes = Vec::new();
            while deletes.len() < limits::DELETES_MAX {
                let synced = self.desk.synced;
                let Some((batch, range, id)) = self.desk.done.front().cloned() else { break };
                if batch > synced {
                    self.want_sync();
                    break;
                }
                self.desk.done.pop_front();
                deletes.extend(self.ranges.get(&range).and_then(|range| range.delete_of(&id)));
            }
            if deletes.is_empty() {
                return;
            }
            calls += 1;
            let request = ShareRequest::Delete(deletes.clone());
            self.desk.share(Call::Delete(deletes), request);
        }
    }

    fn want_sync(&mut self) {
        let at = self.desk.last_sync.plus(SYNC_EVERY);
        if at <= self.desk.now.mono {
            self.desk.sync_wanted = true;
        } else {
            self.desk.wake_by(at);
        }
    }

    /// What was not deleted was edited meanwhile, and the watch brings the newer version; what is
    /// unknown is tried again.
    pub(super) fn deleted(&mut self, deletes: Vec<KeyDelete>, answer: &ShareAnswer) {
        if matches!(answer, ShareAnswer::Deleted(_)) {
            return;
        }
        self.desk.delete_after = self.desk.now.mono.plus(ASK_AGAIN);
        for delete in deletes {
            let Some(range) = self.ranges.get(&delete.range) else { continue };
            if let Some(id) = range.run_by_key(&delete.key) {
                self.desk.done.push_back((self.desk.batch(), delete.range, id));
            }
        }
    }
}

impl Range {
    fn delete_of(&self, id: &RunId) -> Option<KeyDelete> {
        let run = self.open.get(id).filter(|run| run.ended())?;
        let key = run.key.as_ref().filter(|_| self.fence().is_some())?;
        Some(KeyDelete { range: self.id, key: key.name.clone(), at: key.revision })
    }

    /// The run that a key stands for, if it is open.
    fn run_by_key(&self, key: &RunKeyName) -> Option<RunId> {
        let of_key = |run: &OpenRun| run.key.as_ref().is_some_and(|own| own.name == *key);
        self.open.iter().find(|(_, run)| of_key(run)).map(|(id, _)| id.clone())
    }

    /// What the range's ledger lists as held by this session while it does not run here, and what
    /// has not been said yet. Also forgets what no ledger asks for any more.
    fn owed_settles(&mut self, desk: &mut Desk, session: Session, puts: &mut Vec<SettlePut>) {
        if self.fence().is_some() || !self.copy.listed || !desk.holds(Rule::Settle) {
            self.said.clear();
            return;
        }
        let seen = self.copy.ledger.as_ref().filter(|seen| seen.revision >= self.left_at);
        let Some(Ok(ledger)) = seen.map(|seen| seen.ledger.clone()) else { return };
        let mut listed = std::collections::BTreeSet::new();
        for entry in &ledger.open {
            if entry.state != (EntryState::Held { session }) {
                continue;
            }
            let key = SettleKey { run: entry.run.clone(), attempt: entry.attempt };
            listed.insert(key.clone());
            let end = match self.left.get(&key) {
                Some(LeftRun::Running(_)) => continue,
                Some(LeftRun::Ended { batch, .. }) if *batch > desk.synced => continue,
                Some(LeftRun::Ended { end, .. }) => *end,
                None => SettledEnd::Gone,
            };
            if self.copy.settles.contains_key(&key) {
                continue;
            }
            match self.said.get(&key).map(|said| said.plus(SAY_AGAIN)) {
                Some(again) if again > desk.now.mono => desk.wake_by(again),
                _ => puts.push(SettlePut { range: self.id, key, end }),
            }
        }
        self.said.retain(|key, _| listed.contains(key));
        self.left.retain(|key, left| matches!(left, LeftRun::Running(_)) || listed.contains(key));
        if self.left_before == LeftBefore::Some && listed.is_empty() {
            self.left_before = LeftBefore::Nothing;
        }
    }

    /// Whether something that ended here has not been said to the range's holder yet.
    pub(super) fn owes_settles(&self) -> bool {
        self.left.iter().any(|(key, left)| {
            matches!(left, LeftRun::Ended { .. }) && !self.copy.settles.contains_key(key)
        })
    }

    /// Runs that were left with a session that is gone: its settle key decides, read linearizably.
    fn ask_abandoned(&mut self, desk: &mut Desk) {
        if !self.some_held || !self.may_settle() {
            return;
        }
        let some_held = self.held_elsewhere().next().is_some();
        self.some_held = some_held;
        if self.ask_after > desk.now.mono {
            desk.wake_by(self.ask_after);
            return;
        }
        let asked = |run: &OpenRun| matches!(run.stage, Stage::Held { asked: true, .. });
        let gone: Vec<RunId> = self
            .held_elsewhere()
            .filter(|(_, run, by)| !asked(run) && desk.fleet.gone(*by, desk.config.epoch))
            .map(|(id, ..)| id.clone())
            .collect();
        for id in gone {
            self.step(&id, Event::ReadSettle);
            let Some(run) = self.open.get(&id) else { continue };
            let (range, holding, attempt) = (self.id, self.holding, run.attempt);
            let call = Call::ReadSettle { range, holding, run: id.clone() };
            desk.share(call, ShareRequest::ReadSettle { range, run: id, attempt });
        }
    }

    /// Whether runs that are listed as held may come to an end. Before a ledger of this holding is
    /// answered, a process after this one would not know of it.
    fn may_settle(&self) -> bool {
        self.fence().is_some() && self.writer.answered.is_some() && self.window.scanned
    }

    /// Open runs that are with another session, or with mine since before the range was taken.
    fn held_elsewhere(&self) -> impl Iterator<Item = (&RunId, &OpenRun, Session)> {
        let open = self.some_held.then(|| self.open.iter()).into_iter().flatten();
        open.filter_map(|(id, run)| match run.stage {
            Stage::Held { session, .. } => Some((id, run, session)),
            _ => None,
        })
    }

    /// Takes in what former holders have said about runs that this ledger lists as held.
    pub(super) fn take_settles(&mut self, desk: &mut Desk) {
        if self.copy.settles.is_empty() || !self.window.scanned {
            return;
        }
        let said: Vec<(RunId, SettledEnd)> = self
            .held_elsewhere()
            .filter_map(|(id, run, session)| {
                let key = SettleKey { run: id.clone(), attempt: run.attempt };
                let (by, end) = self.copy.settles.get(&key)?;
                (*by == session).then(|| (id.clone(), *end))
            })
            .collect();
        for (id, end) in said {
            self.settled(desk, &id, end);
        }
    }

    /// What is held by this very session, and ended here while another had the range or since.
    fn take_own(&mut self, desk: &mut Desk, session: Session) {
        if !self.may_settle() {
            return;
        }
        let held = self.held_elsewhere().filter(|(_, _, by)| *by == session);
        let held: Vec<(RunId, Attempt)> =
            held.map(|(id, run, _)| (id.clone(), run.attempt)).collect();
        for (run, attempt) in held {
            let key = SettleKey { run, attempt };
            let end = match self.left.get(&key) {
                Some(LeftRun::Running(_)) => continue,
                Some(LeftRun::Ended { batch, .. }) if *batch > desk.synced => continue,
                Some(LeftRun::Ended { end, .. }) => *end,
                // The process before may have said it, whose session this is.
                None => match self.copy.settles.get(&key) {
                    Some((by, end)) if *by == session => *end,
                    Some(_) | None => SettledEnd::Gone,
                },
            };
            self.settled(desk, &key.run, end);
        }
        // An end is known here for as long as any ledger of mine may list the run: should the range
        // go on to another before one says so, the end has to be said again.
        let open = &self.open;
        self.left
            .retain(|key, left| matches!(left, LeftRun::Running(_)) || open.contains_key(&key.run));
    }

    /// How long to wait before a run is tried again, if it is.
    pub(super) fn wait_after(&self, id: &RunId, end: SettledEnd) -> Option<Duration> {
        let run = self.open.get(id)?;
        let retry =
            run.task.as_ref().map(|task| task.spec.retry).filter(|_| run.unwanted.is_none());
        let failed = matches!(end, SettledEnd::Failed | SettledEnd::TimedOut);
        retry.filter(|_| failed).and_then(|r| retry::wait_after(&r, id, run.attempt.number))
    }

    /// An attempt that was left with another has ended there.
    fn settled(&mut self, desk: &mut Desk, id: &RunId, end: SettledEnd) {
        if end == SettledEnd::Gone {
            self.abandoned(desk, id);
        } else if let Some(wait) = self.wait_after(id, end) {
            let at = desk.now.wall.plus(wait);
            self.retry_at(desk, id, at);
        } else {
            // Its record is with the one who ran it.
            let batch = desk.batch();
            if self.step(id, Event::End { batch }) {
                self.writer.dirty = true;
                self.turns = true;
                self.after_end(desk, id, batch);
            }
        }
    }

    /// Nobody knows how it ended: as a run that was started by a holder that died.
    fn abandoned(&mut self, desk: &mut Desk, id: &RunId) {
        let Some(run) = self.open.get(id) else { return };
        let over = run.unwanted.or(run.task.is_none().then_some(DELETED));
        let unreadable = self.copy.unreadable.contains_key(&id.task);
        if unreadable && run.task.is_none() {
            // What is to become of it is known when its record can be read again.
            self.step(id, Event::Abandoned);
            self.hold_back(desk, id);
        } else if unreadable {
            let reason = format!("its host went away, and {UNREADABLE}");
            self.end_run(desk, id, RunState::Lost, Some(&reason));
        } else if let Some(reason) = over {
            let reason = match reason {
                DELETED => reason.to_owned(),
                _ => format!("{reason}, and its host went away"),
            };
            self.end_run(desk, id, RunState::Cancelled, Some(&reason));
        } else if desk.holds(Rule::Doubt) && run.at_most_once() {
            self.lose_run(desk, id);
        } else if self.step(id, Event::Abandoned)
            && let Some(run) = self.open.remove(id)
        {
            self.queue_run(desk, id.clone(), run);
        }
    }
}
