//! Going on from where the process before stopped. An agent that comes back within a lease time, on
//! the same boot and with a store that has lost nothing, keeps its session and with it its claims:
//! nobody else takes the ranges over, and nothing waits for a lease to end.
//!
//! Of a range whose ledger the process before wrote under that claim, nobody else can have started
//! anything (L1). So what it wrote down stands in place of the takeover table: what has ended is
//! done, what it began and has no end counts as started, and what it does not know was never
//! started. Its store is asked for that once every task of the range was seen; nothing is decided
//! before.
//!
//! Whether the store has lost something shows in the ledger: it knows the number of each one that
//! was sent (L4). If not, or if another process writes under the same claim, the session is given
//! up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;
use crate::agent::desk::{Call, Desk, Load};
use crate::agent::effect::{
    Fences, Interest, LoadRequest, Notice, RunKeyName, SettleKey, SettledEnd, ShareRequest,
};
use crate::agent::input::{OwnRun, ShareAnswer};
use crate::agent::kept::Kept;
use crate::agent::near::Timed;
use crate::agent::open::{OpenRun, OwnKey, Rest};
use crate::agent::priors::version_before;
use crate::agent::range::{LeftRun, Range};
use crate::agent::rules::Rule;
use crate::agent::session::{RETRY, Stage as SessionStage};
use crate::agent::triggers::own_trigger;
use crate::agent::weight::CapacityTold;
use crate::ids::{Fence, LedgerNumber, RangeId, RunId, RunKey, TaskName};
use crate::ledger::{Entry, EntryState, Ledger};
use crate::ring::Capacity;
use crate::run::life::{Event, Stage};
use crate::task::{Overlap, Task};
use crate::time::{Instant, MILLISECOND, Mono};

/// What is to be asked of the store about a range.
#[derive(Debug, Default)]
pub(crate) struct Own {
    fence: Fence,
    /// Runs that the ledger lists.
    listed: Vec<RunId>,
    /// Tasks with instants that may have come to something, and the moment before the first.
    tasks: BTreeMap<TaskName, (Instant, Arc<Task>)>,
    /// Something may be lost of what was written after the ledger: what that permitted may have
    /// been begun.
    unsure: bool,
    /// All the rest is known already.
    triggers_only: bool,
    /// Runs whose keys went meanwhile.
    gone: BTreeSet<RunId>,
}

impl Own {
    pub fn of(ledger: &Ledger) -> Own {
        let listed = ledger.open.iter().map(|entry| entry.run.clone()).collect();
        Own { fence: ledger.fence, listed, ..Own::default() }
    }

    /// Of what is pinned here, whose ledger is in the store.
    pub fn kept_here(ledger: &Ledger, intact: bool) -> Own {
        Own { unsure: !intact, ..Own::of(ledger) }
    }

    /// Of runs that were asked for by hand, whose keys were not known at first.
    pub fn of_triggers(ledger: &Ledger, intact: bool) -> Own {
        Own { triggers_only: true, ..Own::kept_here(ledger, intact) }
    }

    pub fn fence(&self) -> Fence {
        self.fence
    }

    pub fn begin_again(&mut self) {
        self.tasks.clear();
    }

    /// The key behind a run is gone, and what became of the run is not known yet.
    pub fn gone(&mut self, id: &RunId) {
        self.gone.insert(id.clone());
    }
}

/// Whether a ledger lists runs that the process before left with another holder: they are over, and
/// that has to be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeftBefore {
    Nothing,
    /// To be looked up.
    Unknown {
        at: Mono,
    },
    Asked,
    Some,
}

/// Ranges whose ledger is looked up at the same time.
const LOOKS_MAX: usize = 8;

/// A ledger under my fence whose number my store does not know.
pub(crate) struct Unknown;

impl Agent {
    /// Asks whether the lease of the process before is still alive, until that is known.
    pub(super) fn try_former(&mut self) {
        let now = self.desk.now.mono;
        let first = self.desk.session.coming == 0
            && matches!(self.desk.session.stage, SessionStage::None { .. });
        if let Some(former) = self.desk.config.former.as_ref().filter(|_| first) {
            let Kept { lease, session, .. } = former.kept;
            self.desk.session.stage = SessionStage::Adopting { lease, session, at: Some(now) };
        }
        let SessionStage::Adopting { lease, at: Some(at), .. } = self.desk.session.stage else {
            return;
        };
        if self.desk.session.keeping_alive || at > now {
            self.desk.wake_by(at);
            return;
        }
        self.desk.session.keep_alive_now(now);
        let coming = self.desk.session.coming;
        self.desk.share(Call::KeepAlive { sent: now, coming }, ShareRequest::KeepAlive { lease });
    }

    /// Nobody knows whether the lease is alive.
    pub(super) fn try_former_again(&mut self) {
        let again = self.desk.now.mono.plus(RETRY);
        if let SessionStage::Adopting { at: Some(at), .. } = &mut self.desk.session.stage {
            *at = again;
        }
    }

    /// The lease is alive: the session goes on if its key is still the same.
    pub(super) fn put_former(&mut self) {
        let SessionStage::Adopting { lease, session, at: Some(_) } = self.desk.session.stage else {
            return;
        };
        self.desk.session.stage = SessionStage::Adopting { lease, session, at: None };
        let (capacity, since) = (self.desk.capacity(), self.desk.now.wall);
        self.desk.session.since = since;
        let coming = self.desk.session.coming;
        let request = ShareRequest::Reweigh { session, lease, capacity, since };
        self.desk.share(Call::Adopt { coming, capacity }, request);
    }

    pub(super) fn adopted(&mut self, capacity: Capacity, answer: &ShareAnswer) {
        let SessionStage::Adopting { lease, session, .. } = self.desk.session.stage else { return };
        match answer {
            ShareAnswer::Done => {
                self.desk.session.told = CapacityTold::known(capacity);
                self.desk.session.stage = SessionStage::Live { lease, session };
                self.desk.notice(Notice::Adopted { session });
                for range in self.ranges.values_mut().filter(|range| !range.is_local()) {
                    range.left_before = LeftBefore::Unknown { at: self.desk.now.mono };
                }
            }
            // Nobody knows: the next keep-alive asks again.
            ShareAnswer::Unknown { .. } | ShareAnswer::Refused { retryable: true, .. } => {
                let at = Some(self.desk.now.mono.plus(RETRY));
                self.desk.session.stage = SessionStage::Adopting { lease, session, at };
            }
            _ => self.come_as_stranger(),
        }
    }
}

impl Agent {
    /// Looks into the ledgers of ranges that this agent does not hold.
    pub(super) fn look_for_left(&mut self) {
        if self.desk.session.session().is_none() {
            return;
        }
        let under_way = self.ranges.values().filter(|r| r.left_before == LeftBefore::Asked);
        let mut places = LOOKS_MAX.saturating_sub(under_way.count());
        for range in self.ranges.values_mut() {
            let LeftBefore::Unknown { at } = range.left_before else { continue };
            if range.fence().is_some() {
                // Its ledger was taken up, and says it.
                range.left_before = LeftBefore::Nothing;
            } else if !range.copy.listed && range.interest != Interest::Nothing {
                // Its list says whether it is held here.
            } else if at > self.desk.now.mono {
                self.desk.wake_by(at);
            } else if places > 0 {
                places -= 1;
                range.left_before = LeftBefore::Asked;
                let range = range.id;
                self.desk.share(Call::Look { range }, ShareRequest::ReadBack { range });
            }
        }
    }

    pub(super) fn looked(&mut self, range: RangeId, answer: &ShareAnswer) {
        let Some(me) = self.desk.session.session() else { return };
        let Some(range) = self.ranges.get_mut(&range) else { return };
        if range.left_before != LeftBefore::Asked {
            return;
        }
        range.left_before = match answer {
            ShareAnswer::ReadBack(found) => {
                let ledger = found.ledger.as_ref().and_then(|seen| seen.ledger.as_ref().ok());
                let mine = |entry: &Entry| entry.state == EntryState::Held { session: me };
                match ledger.is_some_and(|ledger| ledger.open.iter().any(mine)) {
                    true => LeftBefore::Some,
                    false => LeftBefore::Nothing,
                }
            }
            _ => LeftBefore::Unknown { at: self.desk.now.mono.plus(RETRY) },
        };
    }
}

impl Range {
    /// Whether a ledger under my fence is one of the process before, whose records count then.
    pub(super) fn of_former(
        &self,
        desk: &mut Desk,
        ledger: &Ledger,
    ) -> Result<Option<Own>, Unknown> {
        if ledger.number.process == desk.config.process {
            return Ok(None);
        }
        if !desk.former_wrote(self.id, ledger.number) {
            desk.notice(Notice::Stranger { range: self.id });
            desk.session.distrusted = true;
            return Err(Unknown);
        }
        Ok(Some(Own::of(ledger)))
    }

    /// Whether this process wrote a ledger, under the claim that it lost. A final one says by
    /// itself what has become of everything.
    pub(super) fn is_own(&self, desk: &Desk, ledger: &Ledger) -> bool {
        ledger.number.process == desk.config.process && ledger.fence == self.lost
            || !desk.holds(Rule::OwnRecords)
    }

    /// A ledger under my fence that neither this process nor one before it wrote: somebody runs
    /// with my identity.
    pub(super) fn note_stranger(&mut self, desk: &mut Desk, number: LedgerNumber) {
        let mine = number.process == desk.config.process;
        if !mine && !desk.former_wrote(self.id, number) && !desk.session.distrusted {
            desk.notice(Notice::Stranger { range: self.id });
            desk.session.distrusted = true;
        }
    }

    /// An instant that is due may have come to something in the process before.
    pub(super) fn unsure_of(&mut self, desk: &Desk, task: &Arc<Task>, instant: Instant) {
        // By the version before an edit, or where a backup undid one, it may have been due sooner,
        // and by a clock that was set back to before the marks nothing is past.
        let behind = self.window.base.through > desk.now.wall.instant();
        let past = desk.is_past(instant) || behind;
        let Some(own) = self.own.as_mut().filter(|own| past && !own.triggers_only) else {
            return;
        };
        let before = instant.minus(MILLISECOND);
        let name = task.spec.name.clone();
        let (after, newest) = own.tasks.entry(name).or_insert_with(|| (before, task.clone()));
        *after = before.min(*after);
        if newest.revision < task.revision {
            *newest = task.clone();
        }
    }

    /// Asks the store for what the process before wrote down, if that counts.
    pub(super) fn asks_own(&mut self, desk: &mut Desk) -> bool {
        let Some(own) = &self.own else { return false };
        let mut runs = own.listed.clone();
        runs.extend(self.copy.triggers.values().map(|t| RunId::manual(t.task.clone(), t.ulid)));
        let tasks = own.tasks.iter().map(|(name, (after, _))| (name.clone(), *after)).collect();
        let (range, holding) = (self.id, self.holding);
        // A backup may have put what marks covered to a later due, and processes may have begun and
        // ended before the epoch was raised.
        let earlier = self.is_local() && own.fence.epoch < desk.config.epoch;
        let under = Fences { newest: own.fence, earlier };
        let request = LoadRequest::Own { range, under, runs, tasks };
        desk.load(Load::Own { range, holding }, request);
        true
    }

    /// What the process before wrote down is known: the range goes on from there.
    pub(super) fn own_loaded(&mut self, desk: &mut Desk, rows: Vec<OwnRun>) {
        let Some(own) = self.own.take() else { return };
        let mut room = self.room();
        let mut known = BTreeSet::new();
        // What ran comes before rows of many that did not, where there is not room for all.
        let (many, one): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.until.is_some());
        for mut row in one.into_iter().chain(many) {
            if own.triggers_only && matches!(row.run.run, RunKey::Instant(_)) {
                continue;
            }
            known.insert(row.run.clone());
            let key = SettleKey { run: row.run.clone(), attempt: row.attempt };
            // It has ended since the store was asked.
            if let Some(LeftRun::Ended { end, .. }) = self.left.get(&key) {
                row.end = Some(*end);
            }
            let listed = self.open.contains_key(&row.run);
            if !listed {
                self.own_unlisted(desk, &own, &row, &mut room);
            }
            if !self.own_runs_on(desk, &key) && listed {
                self.own_listed(desk, &own, &row);
            }
        }
        let unknown: Vec<RunId> =
            self.open.keys().filter(|id| !known.contains(*id)).cloned().collect();
        for id in unknown {
            match self.is_unsure(&own, &id) {
                // As where its key goes at a takeover.
                true if own.gone.contains(&id) && !self.is_local() => {}
                true => self.may_have_started(desk, &id),
                false if !desk.holds(Rule::UnknownToOwn) => drop(self.open.remove(&id)),
                false => self.own_not_started(&id),
            }
        }
        for id in &own.gone {
            self.run_key_gone(desk, id);
        }
        desk.sync_wanted = true;
        self.writer.dirty = true;
        self.scan_over(desk);
    }

    /// Whether a run may have been begun though the store has nothing of it. What somebody
    /// permitted under an earlier fence was only passed on by the ledger: another host may have
    /// begun it, or a process here that lost what there was of it.
    fn is_unsure(&self, own: &Own, id: &RunId) -> bool {
        let passed_on = |run: &OpenRun| run.attempt.fence < own.fence;
        own.unsure || self.open.get(id).is_some_and(passed_on)
    }

    /// An attempt that has run here all the while goes on as this holder's.
    fn own_runs_on(&mut self, desk: &mut Desk, key: &SettleKey) -> bool {
        let Some(LeftRun::Running(mine)) = self.left.get(key) else { return false };
        let Some(run) = self.open.get(&key.run) else { return false };
        let over = matches!(run.stage, Stage::Ended { .. }) || run.attempt > key.attempt;
        // Its task may be gone, or made anew: then it ends by itself. Not where that is not known,
        // as its record cannot be read; but one that stands for more than itself keeps its place.
        let unreadable = self.copy.unreadable.contains_key(&key.run.task);
        let gone = run.task.is_none() && (!unreadable || run.catch_up_last.is_some());
        if over || gone {
            return false;
        }
        let (own, task) = (run.key.clone(), run.task.clone());
        let goes_on = OpenRun { key: own, task, listed: true, ..(**mine).clone() };
        self.leave_stage(desk, &key.run, run.stage);
        self.left.remove(key);
        let before = self.open.insert(key.run.clone(), goes_on);
        // What it stood for beside itself was split off when it started.
        self.own_rest(before.and_then(|mut run| run.take_rest()), &key.run);
        true
    }

    /// A run that the ledger lists.
    fn own_listed(&mut self, desk: &mut Desk, own: &Own, row: &OwnRun) {
        let unsure = self.is_unsure(own, &row.run);
        let Some(run) = self.open.get_mut(&row.run) else { return };
        let (id, stage) = (&row.run, run.stage);
        let newer = row.attempt > run.attempt;
        let stale = row.attempt.number > 0 && row.attempt < run.attempt;
        // What became of it was decided by the process before, which had begun nothing of it.
        let decided = row.attempt.number == 0 && row.fence == own.fence;
        match (row.end, stage) {
            (_, Stage::Ended { .. }) => return,
            // Left with another; unless that one went away, and it was begun here since.
            (None, Stage::Held { .. }) if !newer => return,
            (Some(_), Stage::Held { .. }) if !newer && row.attempt != run.attempt && !decided => {
                return;
            }
            // Of an attempt before: there was another.
            (Some(_), _) if stale && stage != Stage::Doubtful => return,
            (Some(_), _) if stale => {}
            (Some(_), Stage::Running { .. }) => return,
            (Some(end), _) => return self.own_ended(desk, row, end),
            (None, _) => {}
        }
        match stage {
            // Begun, and nobody knows its end; or what tells of its beginning may be lost.
            Stage::Doubtful if unsure || row.attempt.number == 0 || row.attempt >= run.attempt => {
                self.lose_run(desk, id);
            }
            Stage::Doubtful => self.own_not_started(id),
            // Its time may have come meanwhile.
            _ if newer => {
                run.attempt = row.attempt;
                run.end_known = false;
                self.step_back(desk, id);
            }
            _ => {}
        }
    }

    /// A run that the ledger lists has ended here since: it is over, or is to be tried again.
    fn own_ended(&mut self, desk: &mut Desk, row: &OwnRun, end: SettledEnd) {
        let id = &row.run;
        let Some(run) = self.open.get_mut(id) else { return };
        let (stage, known) = (run.stage, run.attempt);
        run.attempt = known.max(row.attempt);
        let listed = matches!(stage, Stage::Waiting { .. }) && known == row.attempt;
        if listed && self.wait_after(id, end).is_some() {
            // The ledger says when.
            return;
        }
        let retry = self.own_wait(id, end);
        self.leave_stage(desk, id, stage);
        if let Some(wait) = retry {
            self.own_retry(desk, id, wait);
            return;
        }
        let batch = desk.batch();
        if self.step(id, Event::End { batch }) {
            self.after_end(desk, id, batch);
        }
    }

    /// How long a run waits that has failed here since, if it is tried again: not while its task is
    /// paused. By an edit of its retries several may be, of a task that runs one at a time: the
    /// others stay as they ended. What goes on here is known by then: its rows come first.
    fn own_wait(&self, id: &RunId, end: SettledEnd) -> Option<Duration> {
        let run = self.open.get(id).filter(|run| !run.is_paused(id))?;
        let doubtful = |run: &OpenRun| run.stage == Stage::Doubtful;
        let mut others = self.runs_of(&id.task).filter(|(other, _)| *other != id);
        let taken = run.task.as_ref()?.spec.overlap != Overlap::Allow
            && others.any(|(_, other)| other.active() && !doubtful(other));
        self.wait_after(id, end).filter(|_| !taken)
    }

    fn own_retry(&mut self, desk: &mut Desk, id: &RunId, wait: Duration) {
        let at = desk.now.wall.plus(wait);
        if let Some(run) = self.open.get_mut(id) {
            run.stage = Stage::Waiting { at };
            run.end_known = true;
            desk.timers.insert((at, self.id, id.clone()));
        }
    }

    /// The instants that a series had besides the one that it stood at.
    fn own_rest(&mut self, rest: Option<Rest>, at: &RunId) {
        if let (Some(rest), RunKey::Instant(instant)) = (rest, at.run) {
            self.make_up_rest(rest, instant);
        }
    }

    /// A retry that had begun waits for its turn, as what is started again does.
    fn step_back(&mut self, desk: &mut Desk, id: &RunId) {
        if self.open.get(id).is_some_and(|run| matches!(run.stage, Stage::Held { .. })) {
            self.step(id, Event::Abandoned);
        }
        self.hold_back(desk, id);
        let once = self.open.get(id).is_some_and(OpenRun::at_most_once);
        if once {
            self.lose_run(desk, id);
        }
    }

    /// A run that no ledger lists: it came due after the newest, or has a key of its own.
    fn own_unlisted(&mut self, desk: &mut Desk, own: &Own, row: &OwnRun, room: &mut usize) {
        let task = own.tasks.get(&row.run.task).map(|(_, task)| task.clone());
        let (instants, key) = match row.run.run {
            RunKey::Instant(first) => {
                let Some(task) = task.as_ref().filter(|task| row.run.is_of(task.incarnation))
                else {
                    // Of one that the ledger lists, this has been said.
                    if !own.listed.contains(&row.run) {
                        self.look_at_orphan(desk, row);
                    }
                    return;
                };
                // What it was due by is what its own version says.
                let version = version_before(&row.run, task).unwrap_or_else(|| task.clone());
                let timed = Timed::new(version);
                let last = row.until.unwrap_or(first);
                let before = first.minus(MILLISECOND);
                let mut rest = timed.timetable.instants_after(before).take_while(|at| *at <= last);
                // An instant of a schedule before has its own row, and is none of the present.
                let instants: Vec<_> = match row.until {
                    Some(_) => rest.by_ref().map(|at| (at, timed.due(at))).collect(),
                    None => vec![(first, timed.due(first))],
                };
                let once = instants.iter().any(|(at, _)| is_one_shot_at(Some(task), *at));
                let name = RunKeyName::Task(row.run.task.clone());
                (instants, once.then_some(OwnKey { name, revision: task.revision }))
            }
            RunKey::Manual(ulid) => {
                let key = (row.run.task.clone(), ulid);
                let Some(trigger) = self.copy.triggers.get(&key) else { return };
                (vec![(trigger.asked_at, trigger.asked_at)], Some(own_trigger(trigger)))
            }
        };
        for (instant, due) in instants {
            let covered = self.window.base.cover(due, row.run.incarnation);
            // Of many instants of a time before, one may be the present one-shot's.
            let own = row.until.is_none() || is_one_shot_at(task.as_ref(), instant);
            let key = key.clone().filter(|_| own);
            if *room == 0 || key.is_none() && covered && row.end.is_some() {
                continue;
            }
            *room -= 1;
            let id = match row.run.run {
                RunKey::Instant(_) => RunId { run: RunKey::Instant(instant), ..row.run.clone() },
                RunKey::Manual(_) => row.run.clone(),
            };
            self.own_open(desk, id, task.clone(), (instant, due), key, row);
        }
    }

    fn own_open(
        &mut self,
        desk: &mut Desk,
        id: RunId,
        task: Option<Arc<Task>>,
        (instant, due): (Instant, Instant),
        key: Option<OwnKey>,
        row: &OwnRun,
    ) {
        let trigger = match id.run {
            RunKey::Manual(ulid) => self.copy.triggers.get(&(id.task.clone(), ulid)),
            RunKey::Instant(_) => None,
        };
        let payload = trigger.and_then(|trigger| trigger.payload.clone());
        let batch = desk.batch();
        let stage = if row.end.is_some() { Stage::Ended { batch } } else { Stage::Behind };
        let keyed = key.is_some();
        let run = OpenRun {
            stage,
            attempt: row.attempt,
            key,
            payload,
            // Until the marks cover it a ledger has to say so.
            listed: true,
            ..OpenRun::inherited(task, instant, due)
        };
        self.open.insert(id.clone(), run);
        // Left executing when the claim was lost, it failed, and nobody tried it again.
        match row.end.and_then(|end| self.own_wait(&id, end)) {
            Some(wait) => self.own_retry(desk, &id, wait),
            None if row.end.is_some() && keyed => desk.done.push_back((batch, self.id, id)),
            None => {}
        }
    }

    /// A run that was permitted, and the store has nothing of it. Where its task is gone it may
    /// have been settled by who ran it, as at a takeover.
    fn may_have_started(&mut self, desk: &mut Desk, id: &RunId) {
        let told = |run: &OpenRun| run.task.is_some() || self.is_local();
        if self.open.get(id).is_some_and(|run| run.stage == Stage::Doubtful && told(run)) {
            self.lose_run(desk, id);
        }
    }

    /// A run that is listed and that the process before did not begin.
    fn own_not_started(&mut self, id: &RunId) {
        let Some(run) = self.open.get_mut(id).filter(|run| run.stage == Stage::Doubtful) else {
            return;
        };
        run.attempt.number -= 1;
        run.end_known = run.attempt.number > 0;
        let covered = self.window.base.cover(run.due, id.incarnation);
        let first = run.attempt.number == 0 && run.key.is_none() && !covered;
        // It is decided when it is due, as it would have been.
        if first && run.unwanted.is_none() && matches!(id.run, RunKey::Instant(_)) {
            self.open.remove(id);
        } else {
            self.step(id, Event::NotStarted);
        }
    }
}

fn is_one_shot_at(task: Option<&Arc<Task>>, instant: Instant) -> bool {
    task.is_some_and(|task| task.spec.one_shot_at() == Some(instant))
}
