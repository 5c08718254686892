//! Taking ranges: claiming what is vacant, taking up a claim that the watch delivered by the
//! takeover table, and deriving the due entries of all its tasks.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;
use crate::agent::adopt::{Own, Unknown};
use crate::agent::desk::{Call, Desk, Load};
use crate::agent::edited::Decided;
use crate::agent::effect::{
    Interest, LoadRequest, Notice, RunKeyName, SettleKey, ShareRequest, StoreOp,
};
use crate::agent::near::{NearTask, Timed};
use crate::agent::open::{OpenRun, OwnKey};
use crate::agent::priors::{due_at, is_one_shot};
use crate::agent::range::{Hold, LeftRun, Range, Written};
use crate::agent::rules::Rule;
use crate::agent::triggers::own_trigger;
use crate::due::wheel::NearEntry;
use crate::ids::{Fence, RunId, RunKey, TaskNumber};
use crate::ledger::takeover::{self, Verdict};
use crate::ledger::{Entry, Ledger, Marks};
use crate::limits;
use crate::run::RunState;
use crate::run::life::{Event, Stage};
use crate::task::Task;
use crate::time::{Instant, MILLISECOND};

/// Tasks in one page of a scan.
const SCAN_PAGE: usize = 1_000;

impl Agent {
    pub(super) fn take_ranges(&mut self) {
        let desk = &mut self.desk;
        let Some((lease, session)) = desk.session.live() else { return };
        let scanning = self.ranges.values().filter(|range| range.window.scanning);
        let scanning: usize = scanning.map(Range::scan_tasks).sum();
        let mut room = limits::SCAN_TASKS_MAX.saturating_sub(scanning);
        for range in self.ranges.values_mut().filter(|range| !range.is_local()) {
            let claim = range.copy.claim.as_ref().filter(|_| range.copy.listed);
            match (range.hold, claim) {
                (Hold::No | Hold::Claiming, Some(claim))
                    if claim.session == session
                        && claim.fence > range.fence_taken
                        && range.interest == Interest::Whole =>
                {
                    let fence = claim.fence;
                    range.take_up(desk, fence);
                }
                (Hold::Claiming, Some(claim)) if claim.session == session => {}
                (Hold::Claiming, Some(_)) => range.hold = Hold::No,
                (Hold::No, None) if range.vacant_for_me(desk) => {
                    range.hold = Hold::Claiming;
                    range.writer.note_sent(Written::Beat(0), desk.now);
                    let call = Call::Claim { range: range.id };
                    let range = range.id;
                    desk.share(call, ShareRequest::Claim { range, session, lease });
                }
                _ => {}
            }
            range.scan(desk, &mut room);
            range.want_triggers(desk);
        }
    }
}

impl Range {
    /// Nobody holds it, and it is my turn: the owner claims at once, others wait longer by rank.
    fn vacant_for_me(&self, desk: &mut Desk) -> bool {
        let ready = self.copy.listed && desk.fleet.known() && desk.weight() > 0;
        let (true, Some(since)) = (ready, self.copy.vacant_since) else { return false };
        let Some(rank) = self.rank else { return false };
        let seconds = match u64::try_from(rank).unwrap_or(u64::MAX) {
            0 => 0,
            rank => 1 + rank,
        };
        let at = since.plus(Duration::from_secs(seconds)).max(self.claim_after);
        desk.wake_by(at);
        at <= desk.now.mono
    }

    /// The claim is mine and delivered: decide by the table, on my own records of nothing (a new
    /// session is a stranger), and owe the first ledger (L1).
    fn take_up(&mut self, desk: &mut Desk, fence: Fence) {
        let ledger = match &self.copy.ledger {
            None => None,
            // What cannot be read must not be overwritten: the range stays as it is.
            Some(seen) if seen.ledger.is_err() => return,
            Some(seen) => seen.ledger.as_ref().ok().map(|ledger| (ledger.clone(), seen.revision)),
        };
        let base = ledger.as_ref().map_or(Marks::NONE, |(ledger, _)| ledger.marks);
        let own = match &ledger {
            Some((ledger, _)) if ledger.fence == fence => match self.of_former(desk, ledger) {
                Ok(own) => own,
                Err(Unknown) => return,
            },
            // The claim was lost, and nobody else has written since: nobody has started anything.
            Some((ledger, _)) if self.is_own(desk, ledger) => Some(Own::of(ledger)),
            _ => None,
        };
        self.restart_window(desk, base);
        self.window.decided_names.clear();
        // What came due since, and could not be read, nobody has decided.
        self.copy.unreadable.values_mut().for_each(|since| *since = base.through.min(*since));
        desk.store(StoreOp::ClearDue { range: self.id });
        self.hold = Hold::Held { fence };
        self.fence_taken = fence;
        self.writer.beat = self.copy.claim.as_ref().map_or(0, |claim| claim.beat);
        self.writer.delivered(Written::Beat(self.writer.beat));
        if self.writer.proof.is_none() && self.copy.list_sent.mono > Default::default() {
            self.writer.proof = Some(self.copy.list_sent);
            // No beat has to say it again, and hold up the ledger that is to come.
            self.writer.last_sent = self.copy.list_sent.mono;
        }
        self.writer.dirty = true;
        self.writer.urgent = true;
        desk.notice(Notice::Claimed { range: self.id, fence });
        let Some((ledger, revision)) = ledger else { return };
        self.writer.seen = revision;
        self.writer.marks = ledger.marks;
        self.inherit(desk, &ledger);
        self.own = own;
    }

    pub(super) fn inherit(&mut self, desk: &Desk, ledger: &Ledger) {
        let sessions = desk.fleet.sessions();
        for entry in &ledger.open {
            let verdict = takeover::verdict(entry, &sessions);
            if let Some(mut run) = self.inherited(desk, entry, verdict) {
                run.past_epoch = self.is_past(desk, ledger, entry);
                if run.stage == (Stage::Held { session: desk.session_now(), asked: false }) {
                    self.take_back(entry, &mut run);
                }
                self.some_held |= matches!(run.stage, Stage::Held { .. });
                self.open.insert(entry.run.clone(), run);
            }
        }
    }

    /// The range comes back while an attempt of it still runs here: it is this holder's again.
    fn take_back(&mut self, entry: &Entry, run: &mut OpenRun) {
        let key = SettleKey { run: entry.run.clone(), attempt: entry.attempt };
        let running = |left: &LeftRun| matches!(left, LeftRun::Running(_));
        if self.left.get(&key).is_some_and(running)
            && let Some(LeftRun::Running(mine)) = self.left.remove(&key)
        {
            *run = OpenRun { key: run.key.take(), listed: true, ..*mine };
            self.taken_back.insert(entry.run.clone());
        }
    }

    /// `None`: the trigger's key is gone, so it is settled or was cancelled by its delete.
    fn inherited(&self, desk: &Desk, entry: &Entry, verdict: Verdict) -> Option<OpenRun> {
        let trigger = match entry.run.run {
            RunKey::Instant(_) => None,
            RunKey::Manual(ulid) => Some(self.copy.triggers.get(&(entry.run.task.clone(), ulid))?),
        };
        let end_known = matches!(verdict, Verdict::WaitUntil(_));
        let (stage, catch_up_last) = match verdict {
            Verdict::Done => (Stage::Ended { batch: Default::default() }, None),
            Verdict::Again => (Stage::Behind, None),
            Verdict::Lost if desk.holds(Rule::Doubt) => (Stage::Doubtful, None),
            Verdict::Lost => (Stage::Behind, None),
            // What was never tried waits for its turn, not for a time.
            Verdict::WaitUntil(_) if entry.attempt.number == 0 => (Stage::Behind, None),
            Verdict::WaitUntil(at) => (Stage::Waiting { at }, None),
            Verdict::CatchUp { last, .. } => (Stage::Behind, Some(last)),
            Verdict::Leave(session) => (Stage::Held { session, asked: false }, None),
            Verdict::Ask(session) => (Stage::Held { session, asked: false }, None),
        };
        let instant = match entry.run.run {
            RunKey::Instant(instant) => instant,
            RunKey::Manual(_) => entry.due,
        };
        Some(OpenRun {
            stage,
            attempt: entry.attempt,
            key: trigger.map(own_trigger),
            payload: trigger.and_then(|trigger| trigger.payload.clone()),
            listed: true,
            waited_by_policy: catch_up_last.is_some(),
            catch_up: catch_up_last.is_some(),
            end_known,
            catch_up_last,
            ..OpenRun::inherited(None, instant, entry.due)
        })
    }

    /// How many tasks a scan of it has under way.
    fn scan_tasks(&self) -> usize {
        self.copy.tasks.clamp(limits::SCAN_TASKS_MIN, SCAN_PAGE)
    }

    /// Begins to read the range's tasks, if not all of them were seen and there is room.
    pub(super) fn scan(&mut self, desk: &mut Desk, room: &mut usize) {
        let held = self.fence().is_some() && self.copy.listed;
        if held && !self.window.scanned && !self.window.scanning && *room > 0 {
            *room = room.saturating_sub(self.scan_tasks());
            self.window.scanning = true;
            self.scan_page(desk, None);
        }
    }

    fn scan_page(&mut self, desk: &mut Desk, after: Option<TaskNumber>) {
        let (range, holding) = (self.id, self.holding);
        desk.load(
            Load::Scan { range, holding },
            LoadRequest::Scan { range, after, limit: SCAN_PAGE },
        );
    }

    /// A page of the scan: attach inherited runs to their tasks, derive every task's due entry.
    pub(super) fn scanned(
        &mut self,
        desk: &mut Desk,
        tasks: Vec<(TaskNumber, Arc<Task>)>,
        more: bool,
    ) {
        let last = tasks.last().map(|(number, _)| *number);
        for (number, task) in tasks {
            let newer = self.fresh.get(&task.spec.name).is_some_and(|at| *at > task.revision);
            if newer || !self.is_known(&task) {
                continue;
            }
            if let Some(task) = self.share(desk, task) {
                self.attach(desk, &task);
                self.admit(desk, number, task);
            }
        }
        if more {
            self.scan_page(desk, last);
            return;
        }
        if self.asks_own(desk) {
            return;
        }
        self.scan_over(desk);
    }

    /// Every task was seen: what is due may be decided.
    pub(super) fn scan_over(&mut self, desk: &mut Desk) {
        self.window.scanning = false;
        self.window.scanned = true;
        self.fresh.clear();
        self.drop_unattached(desk);
        self.end_all_replaced(desk);
        self.turns = true;
        self.want_what_ran(desk);
        if let Some(fence) = self.fence() {
            desk.notice(Notice::Holding { range: self.id, fence });
        }
    }

    pub(super) fn attach(&mut self, desk: &mut Desk, task: &Arc<Task>) {
        let one_shot = task.spec.one_shot_at().is_some();
        let local = self.is_local();
        let ids: Vec<RunId> = self.runs_of(&task.spec.name).map(|(id, _)| id.clone()).collect();
        if !ids.is_empty() {
            self.attached.insert(task.spec.name.clone(), task.clone());
        }
        for id in ids {
            if !self.is_of_life(&id, task) {
                continue;
            }
            self.taken_back.remove(&id);
            let Some(run) = self.open.get_mut(&id) else { continue };
            run.attach(&id, task);
            // By a version that a backup brought back it may be due later than it ran: it is listed
            // until marks cover that, too.
            if let (true, RunKey::Instant(instant)) = (local, id.run)
                && let Some(due) = due_at(&id, task, instant)
            {
                self.put_off_to(desk, &id, due);
            }
            let Some(run) = self.open.get_mut(&id) else { continue };
            // What is known of it here comes first.
            let doubtful = run.stage == Stage::Doubtful && self.own.is_none();
            let past = run.past_epoch && run.at_most_once() && !run.ended();
            if one_shot && is_one_shot(&id, task) {
                let name = RunKeyName::Task(task.spec.name.clone());
                run.key = Some(OwnKey { name, revision: task.revision });
            }
            if let (Stage::Ended { batch }, Some(_)) = (run.stage, &run.key) {
                desk.done.push_back((batch, self.id, id.clone()));
            }
            if let Stage::Waiting { at } = run.stage {
                desk.timers.remove(&(at, self.id, id.clone()));
            }
            run.shorten_wait(&id, desk.now.wall);
            if let Stage::Waiting { at } = run.stage {
                desk.timers.insert((at, self.id, id.clone()));
            }
            if past {
                self.lose_past(desk, &id);
            } else if doubtful {
                self.lose_run(desk, &id);
            }
        }
    }

    /// Inherited runs whose task is gone, or made anew: settled, or cancelled by the delete.
    fn drop_unattached(&mut self, desk: &mut Desk) {
        for id in std::mem::take(&mut self.taken_back) {
            if !matches!(id.run, RunKey::Instant(_)) {
                continue;
            }
            match (self.copy.unreadable.contains_key(&id.task), self.open.get_mut(&id)) {
                // Whether its key is there shows when its record can be read again: it is listed
                // until then.
                (true, Some(run)) => run.task = None,
                _ => self.run_key_gone(desk, &id),
            }
        }
        let gone: Vec<RunId> = self
            .open
            .iter()
            .filter(|(id, run)| run.task.is_none() && matches!(id.run, RunKey::Instant(_)))
            .filter(|(id, _)| !self.copy.unreadable.contains_key(&id.task))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            let Some(run) = self.open.get(&id) else { continue };
            // What runs here ends by itself.
            if run.ticket().is_some() {
                self.run_key_gone(desk, &id);
                continue;
            }
            let begun = self.is_local() && run.attempt.number > 0;
            if !run.ended() {
                // Its end may have been recorded by the one who ran it, before the key went: under
                // the lowest fence this account gives way to every other.
                let mut record = run.record(desk, &id, Fence::default(), RunState::Cancelled);
                record.reason = Some(self.gone_reason().to_owned());
                desk.end(record);
                // Should it have been begun here, a next process is not to find it again.
                desk.store(StoreOp::CloseRun { range: self.id, run: id.clone() });
            }
            match run.ended() || begun {
                true => self.keep_over(desk, &id),
                false => drop(self.open.remove(&id)),
            }
        }
    }

    /// A run that had begun is over and its task gone: that is listed until the marks cover it, as
    /// an edit may bring the task back.
    fn keep_over(&mut self, desk: &Desk, id: &RunId) {
        let (batch, now) = (desk.batch(), desk.now.wall.instant());
        let Some(run) = self.open.get_mut(id) else { return };
        if !run.ended() {
            run.step(id, Event::End { batch });
        }
        run.key_gone = true;
        self.writer.owes(run.due.min(now), id.incarnation);
    }

    /// Puts a task's first undecided instant into the index.
    fn admit(&mut self, desk: &mut Desk, number: TaskNumber, task: Arc<Task>) {
        let base = self.window.base;
        let timed = Arc::new(Timed::new(task));
        self.meet_late_edits(desk, &timed.task, base);
        self.admit_priors(desk, &timed.task, base);
        let undecided = self.first_undecided(&timed);
        if let Some((instant, due)) = undecided {
            self.unsure_of(desk, &timed.task, instant);
            self.ask_what_ran(desk, &timed.task, instant, timed.task.instants_revision());
            self.cut_series(&timed.task, instant);
            self.queue_instant(desk, number, &timed, instant, due);
        }
    }

    /// From `undecided` on instants are decided one by one: an inherited series, which may reach
    /// beyond the marks of its ledger, must not hold them as well.
    pub(super) fn cut_series(&mut self, version: &Task, undecided: Instant) {
        let ids: Vec<RunId> = self.runs_of(&version.spec.name).map(|(id, _)| id.clone()).collect();
        for id in ids.into_iter().filter(|id| id.is_of(version.incarnation)) {
            let (RunKey::Instant(first), Some(run)) = (id.run, self.open.get_mut(&id)) else {
                continue;
            };
            if run.series_from() != Some(version.effective_from) {
                continue;
            }
            let before = undecided.minus(MILLISECOND);
            run.catch_up_last =
                run.catch_up_last.map(|last| last.min(before)).filter(|last| *last > first);
        }
    }

    /// Instant and due of the first run of this version that is not decided yet, as the window
    /// began.
    fn first_undecided(&self, timed: &Timed) -> Option<(Instant, Instant)> {
        let task = &timed.task;
        if let Some(at) = task.spec.one_shot_at() {
            let waits = task.spec.paused || self.open.contains_key(&run_id(task, at));
            return (!waits).then(|| (at, timed.due(at)));
        }
        let base = self.window.base;
        let through = match task.incarnation <= base.incarnation {
            true => base.through,
            false => Instant::MIN,
        };
        // Of instants that a version before had decided the store is asked.
        let decided = self.window.decided_names.of_version(task).unwrap_or(Instant::MIN);
        timed.first_due_after(through, task.effective_from.instant().max(decided))
    }

    /// A version of a task was delivered while the range is held: instants up to its
    /// `effective_from` belong to the version before, later ones to it. `silent`: its record could
    /// not be read before, since this instant. `joined`: an edit has selected this agent, and up to
    /// here nothing is to be decided.
    pub(super) fn replace_near(
        &mut self,
        desk: &mut Desk,
        number: TaskNumber,
        task: Arc<Task>,
        silent: Option<Instant>,
        joined: Option<Instant>,
    ) {
        let (base, effective) = (self.window.base, task.effective_from.instant());
        let before = desk.near.named(self.id, &task.spec.name);
        // Before the window began anew, it may have been near.
        let known = self.window.decided_names.that_bind(&task);
        let mut decided = Decided { at: known.max(joined), by: None };
        if let Some(before) = before
            && let Some(near) = desk.near.get(before)
        {
            let same_life = near.timed.task.incarnation == task.incarnation;
            if same_life && near.decided.is_some() {
                decided = Decided { at: near.decided, by: Some(near.timed.clone()) };
            }
            let instants = near.timed.task.effective_from != task.effective_from;
            if same_life && instants && near.timed.task.spec.one_shot_at().is_none() {
                let unread = near.queued.is_none();
                desk.near.supersede(before, effective);
                if unread {
                    self.queue_rest(desk, before, effective);
                }
            } else {
                desk.near.remove(before);
            }
        }
        // The scan may be past it, or who had the range before this window had not heard of it.
        let meets = match self.window.scanned {
            true => !self.is_local() && effective < base.through,
            false => self.copy.listed,
        };
        if meets && silent.is_none() {
            self.meet_late_edits(desk, &task, base);
        }
        self.edited_again(&task);
        self.admit_priors(desk, &task, self.decided_base(desk.config.epoch));
        desk.near.renew_superseded(self.id, &task);
        let timed = Arc::new(Timed::new(task));
        // Of the versions before, the names say it until the range is scanned.
        let known = match self.window.scanned {
            true => decided.at,
            false => self.window.decided_names.of_version(&timed.task),
        };
        let one_shot = timed.task.spec.one_shot_at().is_some();
        let first = if one_shot {
            self.first_undecided(&timed)
        } else if !self.window.scanned {
            let undecided = self.first_undecided(&timed);
            // What the window's base has passed meanwhile.
            if let Some(silent) = silent.filter(|_| timed.task.incarnation <= base.incarnation) {
                let through = covered_to(base.through, undecided);
                self.skip_silent(desk, &timed, (silent, effective), through);
            }
            if let Some((instant, _)) = undecided {
                self.unsure_of(desk, &timed.task, instant);
            }
            undecided
        } else {
            self.end_late_instants(desk, &timed, &decided, silent)
        };
        if let Some((instant, due)) = first {
            self.ask_what_ran(desk, &timed.task, instant, timed.task.instants_revision());
            self.queue_instant(desk, number, &timed, instant, due);
        }
        // What was decided stays decided, however many versions follow.
        let marks = self.writer.marks;
        if let Some(at) = known.filter(|at| !timed.is_told_by(marks, *at)) {
            let touched = desk.now.mono;
            desk.near.remember(number, &timed, self.id, at, touched);
        }
    }

    /// The next instant of a version that was superseded may be known to the store alone, which
    /// forgets it with the version: after its clock was set back an agent reads nothing ahead.
    fn queue_rest(&mut self, desk: &mut Desk, number: TaskNumber, until: Instant) {
        let Some(near) = desk.near.get(number) else { return };
        let (timed, decided) = (near.timed.clone(), near.decided);
        let marks = self.decided_base(desk.config.epoch);
        let covered = timed.task.incarnation <= marks.incarnation;
        let through = if covered { marks.through } else { Instant::MIN };
        let known = decided.max(self.window.decided_names.of_version(&timed.task));
        let from = timed.task.effective_from.instant().max(known.unwrap_or(Instant::MIN));
        // What was decided is told by instants, what a ledger covers by dues.
        let next = match decided {
            Some(_) => timed.timetable.next_after(from).map(|at| (at, timed.due(at))),
            None => timed.first_due_after(through, from),
        };
        let Some((instant, due)) = next.filter(|(instant, _)| *instant <= until) else { return };
        if let Some(near) = desk.near.get_mut(number) {
            near.queued = Some((due, instant));
        }
        let entry = NearEntry { due, number, range: self.id, hold: self.holding };
        self.place(desk, &timed.task, entry);
    }

    /// Writes a due entry down; one whose time is loaded already goes into the wheel alone. Who
    /// reads the range anew derives it again, and what a set clock puts out of reach is written
    /// down then: so a task of every second costs the disk no entry a second.
    pub(super) fn queue_instant(
        &mut self,
        desk: &mut Desk,
        number: TaskNumber,
        timed: &Arc<Timed>,
        instant: Instant,
        due: Instant,
    ) {
        let loaded = self.window.asked_to.unwrap_or(Instant::MIN).max(self.window.loaded_to);
        let near = self.window.scanned && due <= loaded && desk.wheel.reaches(due);
        if !near || !self.take_near(desk, number, timed, instant, due) {
            desk.store(StoreOp::PutDue { range: self.id, due, instant, number });
        }
    }

    /// Takes an entry into memory, if its task has none there.
    pub(super) fn take_near(
        &mut self,
        desk: &mut Desk,
        number: TaskNumber,
        timed: &Arc<Timed>,
        instant: Instant,
        due: Instant,
    ) -> bool {
        let queued = Some((due, instant));
        match desk.near.get_mut(number) {
            Some(near) if near.queued.is_some() => return false,
            Some(near) => near.queued = queued,
            None => {
                let touched = desk.now.mono;
                let timed = timed.clone();
                let (decided, until) = (None, None);
                let (range, newest) = (self.id, None);
                let near = NearTask { timed, range, queued, decided, until, newest, touched };
                desk.near.insert(number, near);
            }
        }
        let entry = NearEntry { due, number, range: self.id, hold: self.holding };
        self.place(desk, &timed.task, entry);
        true
    }
}

/// Marks tell of dues: of the instants before them, the first that is `undecided` and those after
/// it are due later.
pub(super) fn covered_to(through: Instant, undecided: Option<(Instant, Instant)>) -> Instant {
    undecided.map_or(through, |(first, _)| through.min(first.minus(MILLISECOND)))
}

pub(super) fn run_id(task: &Task, instant: Instant) -> RunId {
    let run = RunId::scheduled(task.spec.name.clone(), task.incarnation, instant);
    RunId { agent: task.share_of.clone(), ..run }
}
