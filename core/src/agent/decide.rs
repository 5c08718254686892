//! What is due becomes runs. Each entry that comes out of the wheel is decided once: a run opens,
//! waits, or ends as skipped or missed, and the task's next instant goes into the index, all in the
//! same batch of the store.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;
use crate::agent::desk::{Desk, Load};
use crate::agent::effect::{LoadRequest, Notice, RunKeyName, StoreOp};
use crate::agent::epoch::Told;
use crate::agent::idle;
use crate::agent::input::DueLoaded;
use crate::agent::near::Timed;
use crate::agent::open::{OpenRun, OwnKey};
use crate::agent::range::Range;
use crate::agent::rules::Rule;
use crate::agent::runs::OUTSIDE_WINDOW;
use crate::agent::take::run_id;
use crate::due::wheel::NearEntry;
use crate::ids::{RunId, TaskNumber};
use crate::limits;
use crate::run::RunState;
use crate::run::catchup::{self, Backlog};
use crate::run::life::Stage;
use crate::run::overlap::{self, Verdict};
use crate::task::{CatchUp, CatchUpPolicy, Overlap, Task};
use crate::time::{Instant, MILLISECOND};

/// How far ahead due entries are in memory; well below a turn of the wheel.
const HORIZON: Duration = Duration::from_secs(20);
/// Entries of one read of the due index.
const LOAD_LIMIT: usize = 5_000;

impl Agent {
    /// The wall clock was set: derive the wheel again from what is in it and what the store holds.
    pub(super) fn mend_clock(&mut self) {
        if !self.desk.clock.take_moved() {
            return;
        }
        let now = self.desk.now.wall.instant();
        let mut out_of_reach = self.desk.wheel.restart(now);
        for range in self.ranges.values_mut() {
            out_of_reach.extend(range.unpark(&mut self.desk, now));
        }
        for far in out_of_reach {
            match self.desk.near.get_mut(far.number) {
                // Of a superseded version the store knows nothing.
                Some(near) if near.until.is_some() => {
                    self.desk.far.insert(far);
                }
                // The store may know nothing of it.
                Some(near) if near.queued.is_some_and(|(due, _)| due == far.due) => {
                    let Some((due, instant)) = near.queued.take() else { continue };
                    let (range, number) = (far.range, far.number);
                    self.desk.store(StoreOp::PutDue { range, due, instant, number });
                }
                Some(_) | None => {}
            }
        }
        // What is being read was asked for by the clock as it was.
        self.desk.loads.retain(|_, load| !matches!(load, Load::Due { .. }));
        for range in self.ranges.values_mut() {
            range.window.asked_to = None;
            if now < range.window.decided_to && range.window.scanned {
                range.keep_decided(&mut self.desk);
            }
            range.window.loaded_to = range.window.loaded_to.min(now.plus(HORIZON));
            range.window.decided_to = range.window.decided_to.min(now);
            range.shorten_waits(&mut self.desk);
        }
    }

    pub(super) fn decide_due(&mut self) {
        self.desk.bring_far_near();
        let mut entries = Vec::new();
        self.desk.wheel.take(self.desk.now.wall.instant(), &mut entries);
        for entry in entries {
            if let Some(range) = self.ranges.get_mut(&entry.range)
                && range.holding == entry.hold
            {
                range.parked.insert(entry);
            }
        }
        let ranges = &self.ranges;
        let may = |id| ranges.get(&id).is_some_and(|range: &Range| range.may_start(&self.desk));
        self.desk.catch_ups_waiting = self.desk.ready.catch_ups(may);
        // Catch-ups share a budget: who had of it last comes last the next time.
        let first = self.desk.undecided.take().unwrap_or(self.desk.catch_up_next);
        self.desk.decisions_left = limits::DECISIONS_MAX;
        for (_, range) in self.ranges.range_mut(first..) {
            range.decide_and_turn(&mut self.desk);
        }
        for (_, range) in self.ranges.range_mut(..first) {
            range.decide_and_turn(&mut self.desk);
        }
        // What waits to be decided may still have to be told from what was.
        if self.ranges.values().all(|range| range.parked.is_empty()) {
            let ranges = &self.ranges;
            self.desk.near.sweep(self.desk.now.mono, |range| {
                ranges.get(&range).map(|range| range.writer.marks)
            });
        }
    }

    /// Reads the next stretch of each held range's due entries, well before it is needed.
    pub(super) fn load_ahead(&mut self) {
        let now = self.desk.now.wall.instant();
        let under_way = self.desk.loads.values().filter(|load| matches!(load, Load::Due { .. }));
        let mut loading = under_way.count() * LOAD_LIMIT;
        for range in self.ranges.values_mut() {
            let window = &mut range.window;
            let wanted = window.scanned
                && window.asked_to.is_none()
                && window.loaded_to < now.plus(HORIZON / 2)
                && self.desk.wheel.len() + loading < limits::NEAR_ENTRIES_MAX;
            if !wanted || range.parked.len() > LOAD_LIMIT {
                continue;
            }
            loading += LOAD_LIMIT;
            let through = now.plus(HORIZON);
            window.asked_to = Some(through);
            let (id, holding, after) = (range.id, range.holding, window.loaded_to);
            self.desk.load(
                Load::Due { range: id, holding },
                LoadRequest::Due { range: id, after, through, limit: LOAD_LIMIT },
            );
        }
    }
}

/// Whether a one-shot that is so late may not be made up for any more.
pub(super) fn outside_window(task: &Task, late: Duration) -> bool {
    let policy = task.spec.catch_up;
    late > limits::ON_TIME && (late > policy.window || policy.policy == CatchUpPolicy::None)
}

impl Range {
    fn decide_and_turn(&mut self, desk: &mut Desk) {
        if self.fence().is_some() && self.may_decide(desk) {
            self.decide(desk);
            self.take_turns(desk);
        }
    }

    /// What waits to be decided and is not due any more, as the clock was set back, comes due again
    /// in its time. Hands back what the wheel does not reach.
    fn unpark(&mut self, desk: &mut Desk, now: Instant) -> Vec<NearEntry> {
        let first = NearEntry {
            due: now.plus(MILLISECOND),
            number: TaskNumber(0),
            range: self.id,
            hold: 0,
        };
        let mut out_of_reach = Vec::new();
        for entry in self.parked.split_off(&first) {
            let near = desk.near.get(entry.number);
            if near.is_some_and(|near| near.timed.task.spec.at_most_once()) {
                self.permits.foresee(entry);
            }
            match desk.wheel.reaches(entry.due) {
                true => desk.wheel.put(entry),
                false => out_of_reach.push(entry),
            }
        }
        out_of_reach
    }

    /// The clock was set back: entries that were decided by the clock as it was must not come out
    /// of the store again. What was not read is not among them, though the window may have begun
    /// with marks that stand in the future: those say nothing of younger tasks.
    fn keep_decided(&self, desk: &mut Desk) {
        let parked = self.parked.first().map(|entry| entry.due.minus(MILLISECOND));
        let decided = self.window.decided_to.min(self.window.loaded_to);
        let through = parked.map_or(decided, |parked| parked.min(decided));
        desk.store(StoreOp::Watermark { range: self.id, through });
    }

    pub(super) fn due_loaded(&mut self, desk: &mut Desk, due: Vec<DueLoaded>, through: Instant) {
        let mut through = through;
        for loaded in due {
            if !desk.wheel.reaches(loaded.due) {
                through = through.min(loaded.due.minus(MILLISECOND));
                break;
            }
            let name = &loaded.task.spec.name;
            let changed = self.fresh.get(name).is_some_and(|at| *at > loaded.task.revision);
            let newer = desk.near.named(self.id, name).is_some_and(|n| n > loaded.number);
            // What a one-shot knows as decided is of the schedules before it.
            let decided = desk.near.get(loaded.number).and_then(|near| near.decided);
            let decided = decided.filter(|_| loaded.task.spec.one_shot_at().is_none());
            if changed || newer || decided.is_some_and(|at| at >= loaded.instant) {
                continue;
            }
            let timed = match desk.near.get(loaded.number) {
                Some(near) => near.timed.clone(),
                None => match self.share(desk, loaded.task) {
                    Some(task) => Arc::new(Timed::new(task)),
                    None => continue,
                },
            };
            self.take_near(desk, loaded.number, &timed, loaded.instant, loaded.due);
        }
        self.window.asked_to = None;
        self.window.loaded_to = self.window.loaded_to.max(through);
        if !self.window.scanning {
            self.fresh.clear();
        }
    }

    /// Decides everything that is due, in the order of dues, as far as the ledger has room.
    fn decide(&mut self, desk: &mut Desk) {
        let now = desk.now.wall.instant();
        if self.parked.is_empty() {
            self.window.decided_to = now.min(self.window.loaded_to);
            self.full = false;
            return;
        }
        // Where nothing may be decided any more, nor is the room counted: that is a walk over all
        // that is open, for each range of a crowd.
        if desk.may_decide(self.id) {
            self.decide_parked(desk);
        }
        let decided = now.min(self.window.loaded_to);
        let parked = self.parked.first().map(|entry| entry.due.minus(MILLISECOND));
        self.window.decided_to = parked.map_or(decided, |parked| parked.min(decided));
        self.writer.dirty = true;
    }

    fn decide_parked(&mut self, desk: &mut Desk) {
        let mut room = self.room();
        while let Some(entry) = self.parked.first().copied() {
            if room == 0 {
                if !self.full {
                    desk.notice(Notice::RangeFull { range: self.id });
                }
                self.full = true;
                break;
            }
            if !desk.may_decide(self.id) {
                break;
            }
            desk.decisions_left -= 1;
            self.parked.remove(&entry);
            let open = self.open.len();
            self.decide_entry(desk, entry);
            room -= usize::from(self.open.len() > open);
        }
        self.full &= room == 0;
    }

    fn decide_entry(&mut self, desk: &mut Desk, entry: NearEntry) {
        let touched = desk.now.mono;
        let Some(near) = desk.near.get_mut(entry.number) else { return };
        let Some((_, instant)) = near.queued.filter(|(due, _)| *due == entry.due) else { return };
        near.queued = None;
        near.touched = touched;
        let (timed, until, paused) = (near.timed.clone(), near.until, near.is_paused());
        let task = near.starts_as(instant);
        if timed.task.spec.one_shot_at().is_some() {
            self.decide_one_shot(desk, &task, instant, entry.due);
            desk.near.remove(entry.number);
            return;
        }
        let first = (instant, entry.due);
        let next = match paused {
            true => self.decide_paused(desk, &task, &timed, entry.number, first, until),
            false => self.decide_recurring(desk, &task, &timed, first, until),
        };
        self.queue_next(desk, entry.number, &timed, (instant, next), until);
    }

    fn decide_one_shot(&mut self, desk: &mut Desk, task: &Arc<Task>, at: Instant, due: Instant) {
        let late = desk.now.wall.since(due.wall());
        let id = run_id(task, at);
        if self.open.contains_key(&id) {
            return;
        }
        let mut run = OpenRun::new(task.clone(), at, due);
        let name = RunKeyName::Task(task.spec.name.clone());
        run.key = Some(OwnKey { name, revision: task.revision });
        if let Some(forgotten) = self.forgotten(desk, task, (at, due), Told::ByKey) {
            self.open.insert(id.clone(), run);
            self.end_run(desk, &id, RunState::Lost, Some(forgotten.why));
            return;
        }
        if outside_window(task, late) {
            self.open.insert(id.clone(), run);
            self.end_run(desk, &id, RunState::Missed, Some(OUTSIDE_WINDOW));
            return;
        }
        if late > limits::ON_TIME {
            run.waited_by_policy = true;
            run.catch_up = true;
            run.stage = Stage::Behind;
            self.open.insert(id, run);
            self.turns = true;
            return;
        }
        self.meet_others(desk, id, run);
    }

    /// Decides one instant of a recurring task, or a whole backlog. Gives the next one to decide.
    fn decide_recurring(
        &mut self,
        desk: &mut Desk,
        task: &Arc<Task>,
        timed: &Arc<Timed>,
        (instant, due): (Instant, Instant),
        until: Option<Instant>,
    ) -> Option<Instant> {
        if let Some(forgotten) = self.forgotten(desk, task, (instant, due), Told::ByMarks) {
            return self.forget_instants(desk, timed, (instant, until), forgotten);
        }
        let now = desk.now.wall;
        let on_time = match desk.holds(Rule::OnTime) {
            true => limits::ON_TIME,
            false => Duration::from_millis(100),
        };
        if due.wall().plus(on_time) >= now {
            let run = OpenRun::new(task.clone(), instant, due);
            self.meet_others(desk, run_id(task, instant), run);
            return timed.timetable.next_after(instant);
        }
        // By due: with jitter the newest instant may be old and still be on time.
        let edge = now.minus(on_time).instant();
        let until = until.unwrap_or(Instant::MAX);
        let next = timed.first_due_after(edge, instant).filter(|(next, _)| *next <= until);
        let through = next.map_or(until, |(next, _)| next.minus(MILLISECOND)).min(now.instant());
        let newer = next.is_some_and(|(_, due)| due.wall() <= now);
        let backlog = Backlog { timetable: &timed.timetable, first: instant, through, newer };
        // The window is of lateness, and an instant is not late before its due.
        let delay = due.wall().since(instant.wall());
        let window = task.spec.catch_up.window.saturating_add(delay);
        let plan = catchup::plan(backlog, CatchUp { window, ..task.spec.catch_up }, now);
        if let Some(missed) = plan.missed {
            self.end_instants(desk, timed, missed, RunState::Missed, OUTSIDE_WINDOW);
        }
        if let Some(superseded) = plan.superseded {
            self.end_instants(desk, timed, superseded, RunState::Skipped, idle::SUPERSEDED);
        }
        if let Some(series) = plan.make_up {
            let of = (timed.task.effective_from != task.effective_from).then(|| timed.clone());
            self.make_up(task, of, series);
        }
        next.map(|(next, _)| next)
    }

    fn queue_next(
        &mut self,
        desk: &mut Desk,
        number: TaskNumber,
        timed: &Arc<Timed>,
        (decided, next): (Instant, Option<Instant>),
        until: Option<Instant>,
    ) {
        // A clock may be set back by less than is noticed: then this is ahead of it, and over.
        let now = desk.now.wall.instant().max(decided);
        let next = next.filter(|next| until.is_none_or(|until| *next <= until));
        let Some(near) = desk.near.get_mut(number) else { return };
        let Some(next) = next else {
            near.decided = Some(until.unwrap_or(now));
            return;
        };
        // The next instant of this version says nothing of what a newer one may hold before.
        near.decided = Some(next.minus(MILLISECOND).min(now));
        let due = timed.due(next);
        if until.is_none() {
            self.queue_instant(desk, number, timed, next, due);
        } else {
            near.queued = Some((due, next));
            let entry = NearEntry { due, number, range: self.id, hold: self.holding };
            self.place(desk, &timed.task, entry);
        }
    }

    /// Catch-ups of its task that have not started wait until it has ended.
    fn hold_back_catch_ups(&mut self, desk: &mut Desk, id: &RunId) {
        let queued = self
            .runs_of(&id.task)
            .filter(|(_, other)| matches!(other.stage, Stage::Queued | Stage::Asking))
            .filter(|(_, other)| other.unstarted_catch_up());
        let queued: Vec<RunId> = queued.map(|(id, _)| id.clone()).collect();
        for other in queued {
            self.hold_back(desk, &other);
        }
    }

    /// A run that is due meets the open runs of its task.
    pub(super) fn meet_others(&mut self, desk: &mut Desk, id: RunId, mut run: OpenRun) {
        let Some(task) = run.task.clone() else { return };
        // Mostly there are none, and every policy lets it start.
        if self.runs_of(&id.task).next().is_none() {
            return self.queue_run(desk, id, run);
        }
        if self.open.contains_key(&id) {
            return;
        }
        let manual = matches!(id.run, crate::ids::RunKey::Manual(_));
        // What is made up for waits for a free place behind what is on time: where places are few,
        // nothing would be on time if it counted before it has started.
        let first = task.spec.overlap == Overlap::Skip && !manual && !run.catch_up;
        if first {
            self.hold_back_catch_ups(desk, &id);
        }
        let (mut active, mut behind) = (0, 0);
        for (_, other) in self.runs_of(&id.task) {
            active += usize::from(other.active() && desk.holds(Rule::Overlap));
            let waits = other.stage == Stage::Behind && !(first && other.unstarted_catch_up());
            behind += usize::from(waits);
        }
        // Where all others wait as well, none of them ends and says that a turn has come: they may
        // wait for their task to be resumed.
        match overlap::decide(task.spec.overlap, active + behind.min(1), behind) {
            Verdict::Start => self.queue_run(desk, id, run),
            // Somebody asked for this run: it waits rather than come to nothing.
            Verdict::Skip(_) if manual && active + behind < limits::BEHIND_MAX => {
                run.stage = Stage::Behind;
                self.open.insert(id, run);
                self.turns |= active == 0;
            }
            Verdict::Skip(reason) if !manual && task.spec.one_shot_at().is_none() => {
                self.skip_for_overlap(desk, &task, &run, reason);
            }
            Verdict::Skip(reason) => {
                self.open.insert(id.clone(), run);
                self.end_run(desk, &id, RunState::Skipped, Some(reason));
            }
            Verdict::Behind => {
                run.stage = Stage::Behind;
                run.waited_by_policy = true;
                self.open.insert(id, run);
                self.turns |= active == 0;
            }
            Verdict::CancelThenStart => {
                run.stage = Stage::Behind;
                let others: Vec<RunId> = self.runs_of(&id.task).map(|(id, _)| id.clone()).collect();
                self.open.insert(id, run);
                for other in others {
                    self.cancel(desk, &other, "overlap: a later run took its place");
                }
                self.turns = true;
            }
        }
    }
}
