//! The checkers that look at a whole walk (testing.md): no loss, no phantom, multiplicity, covered
//! means decided, and durability. They count instants from the tasks' own versions, so a scheduler
//! that forgets one cannot hide it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tocktower_core::ids::{AgentName, Fence, RangeId, Revision, RunId, RunKey, TaskName};
use tocktower_core::ledger::{EntryState, Ledger};
use tocktower_core::limits::ON_TIME;
use tocktower_core::run::{RunRecord, RunState};
use tocktower_core::schedule::jitter;
use tocktower_core::task::{Overlap, Task, timetable};
use tocktower_core::time::{Instant, Wall};

use super::checker::Checker;
use super::home::{Home, host_of};
use super::truth::Life;
use super::world::{PLACES, SECOND, World};

/// So close to a change that came meanwhile nobody may have decided an instant, where all may fail.
const UNCERTAIN: u64 = 30 * SECOND;

/// An instant that must have come to something.
pub struct Expected {
    pub run: RunId,
    pub due: Wall,
    /// When its version was put: a ledger before that can have covered nothing of it.
    pub put_at: u64,
    /// The revision that put its instants: marks that do not know of that cover none of them.
    pub put_by: Revision,
    /// Close to the end of its task: nobody may have decided it.
    pub uncertain: bool,
}

impl World {
    /// Whether a run was started again after all that was told of its end: it may wait for another
    /// retry.
    fn was_tried_since(&self, run: &RunId) -> bool {
        let ends = self.truth.ends.get(run).into_iter().flatten();
        let newest = ends.map(|(_, at)| *at).max();
        self.truth.starts.iter().any(|start| start.run == *run && Some(start.at) > newest)
    }

    /// Whether a run was asked for, or due, before the store of the one host that can run it was
    /// born.
    fn came_before_birth(&self, run: &RunId, home: Home) -> bool {
        let Home::Pins(host) = home else { return false };
        let began = self.wall().micros() - i64::try_from(self.now).expect("short");
        let came = match run.run {
            RunKey::Manual(ulid) => {
                let asked = self.truth.triggers.get(&(run.task.clone(), ulid));
                asked.map(|(asked, _)| began + i64::try_from(*asked).expect("short"))
            }
            RunKey::Instant(instant) => {
                let newest = self.truth.life_of(run).and_then(|life| life.versions.last());
                newest.map(|(_, task)| due(task, instant, None, None).micros())
            }
        };
        let born = self.hosts[host].store.born(RangeId::PINS).map(|(born, _)| born.micros());
        // Born by its own clock, which may be off.
        came.zip(born).is_some_and(|(came, born)| came <= born + 50_000)
    }

    /// Holds the walk against its rules. `calm`: nothing was disturbed, so nothing may be late,
    /// repeated or uncertain. `quiet_us`: the true time from which on nothing is judged any more.
    /// `healed`: from then on nothing was done to anybody.
    pub fn check(&mut self, calm: bool, healed: u64, quiet_us: u64) {
        // When all agents have left, nobody decides for a while.
        let always_held = self.hosts.iter().all(|host| host.life <= 1);
        let expected = self.expected(calm && always_held, quiet_us);
        self.check_loss(&expected);
        self.check_late(&expected, calm && always_held, healed);
        self.check_matching(&expected, calm && always_held);
        self.check_phantoms();
        self.check_pauses();
        self.check_shares(&expected, calm && always_held);
        self.check_epochs();
        self.check_settled(quiet_us);
        self.check_multiplicity(calm);
        self.check_retries(calm);
        self.check_marks(&expected);
        self.check_durable();
        self.check_announced(calm);
        self.check_alive(healed);
    }

    fn expected(&self, calm: bool, quiet_us: u64) -> Vec<Expected> {
        let mut expected = Vec::new();
        let end = self.wall().micros() - i64::try_from(self.now - quiet_us).expect("short");
        let end = Wall::from_micros(end).instant();
        for ((name, incarnation), life) in &self.truth.lives {
            for index in 0..life.versions.len() {
                let (put_at, task) = &life.versions[index];
                let (put_at, put_by) = (*put_at, task.instants_revision());
                for agent in self.sharers(task) {
                    let by = agent.as_ref().or(task.spec.placement.agent());
                    let slack = self.slack_of_local(calm) + self.ahead(by);
                    for (instant, due) in instants_of(life, index, end, agent.as_ref()) {
                        let share = agent
                            .as_ref()
                            .is_none_or(|agent| self.has_share(agent, life, (instant, due), slack));
                        let uncertain =
                            !share || self.uncertain(life, index, (instant, due), by, calm);
                        let run = RunId::scheduled(name.clone(), *incarnation, instant);
                        let run = RunId { agent: agent.clone(), ..run };
                        expected.push(Expected { run, due, put_at, put_by, uncertain });
                    }
                }
            }
        }
        expected
    }

    /// Whether the end of the task came so close that nobody may have decided it.
    fn uncertain(
        &self,
        life: &Life,
        index: usize,
        (instant, due): (Instant, Wall),
        by: Option<&AgentName>,
        calm: bool,
    ) -> bool {
        let pooled = life.versions[index].1.spec.placement.pool().is_some();
        let slack = match (calm, pooled) {
            (true, true) => SECOND,
            // The clock of a host that is new is looked at for two seconds first.
            (true, false) => 3 * SECOND,
            (false, _) => UNCERTAIN,
        };
        let due_us = self.true_us(due);
        // By a clock that is behind, the one host that runs it finds it due so much later.
        let behind = by.map_or(0, |by| self.hosts[host_of(by)].behind_us);
        let deleted = life.deleted.is_some_and(|at| at < due_us + slack + behind);
        let next = life.versions.get(index + 1);
        // What belongs to the next version; all that is before it is this one's, whenever it comes.
        let edited = next.is_some_and(|(_, next)| instant.wall() > next.effective_from);
        // A version that came late may find its first instants covered, or past.
        let (put_at, _) = &life.versions[index];
        let slack = match (life.versions[index].1.spec.placement.pool(), calm) {
            (None, _) => self.slack_of_local(calm) + self.ahead(by),
            (Some(_), true) => 0,
            (Some(_), false) => slack,
        };
        let late = due_us < put_at + slack;
        let undone = life.undone.is_some_and(|at| due_us < at + slack + self.ahead(by));
        let one_shot_moved = next.is_some() && life.versions[index].1.spec.one_shot_at().is_some();
        deleted && life.versions[index].1.spec.one_shot_at().is_none()
            || edited
            || undone
            || one_shot_moved
            || late && index > 0
            || deleted && !self.settled_by_run(life, index)
    }

    /// What only one host can run is decided with what was delivered by then, which proves nothing.
    fn slack_of_local(&self, calm: bool) -> u64 {
        if calm { 2 * SECOND } else { UNCERTAIN + self.pins_silent }
    }

    /// How long before its due an instant may have been decided, by a clock that is ahead: by that
    /// of the one host that runs it, or by any.
    fn ahead(&self, by: Option<&AgentName>) -> u64 {
        let any = || self.hosts.iter().map(|host| host.ahead_us).max();
        let ahead = by.map_or_else(|| any().unwrap_or(0), |by| self.hosts[host_of(by)].ahead_us);
        if ahead > 0 { ahead + SECOND } else { 0 }
    }

    /// A one-shot's key is deleted by its holder once it has run.
    fn settled_by_run(&self, life: &Life, index: usize) -> bool {
        let task = &life.versions[index].1;
        task.spec.one_shot_at().is_some_and(|at| {
            let run = RunId::scheduled(task.spec.name.clone(), task.incarnation, at);
            self.truth.ends.contains_key(&run)
        })
    }

    fn came_to(&self, run: &RunId, by: u64) -> bool {
        let RunKey::Instant(instant) = run.run else { return true };
        let truth = &self.truth;
        let ended = truth.ends.get(run).is_some_and(|ends| ends.iter().any(|(_, at)| *at <= by));
        ended
            || truth.starts.iter().any(|start| start.run == *run && start.at <= by)
            || truth.spans.iter().any(|span| {
                same(&span.run, run)
                    && span.first <= instant
                    && instant <= span.until
                    && span.at <= by
            })
    }

    /// Whether the newest ledger lists it: it waits for its turn.
    fn waits(&self, run: &RunId) -> bool {
        // One with a key of its own is not listed before it starts.
        let keyed = self.truth.life_of(run).is_none_or(|life| {
            life.versions.iter().any(|(_, task)| task.spec.one_shot_at().is_some())
        });
        let keyed = keyed || matches!(run.run, RunKey::Manual(_));
        if keyed && self.waits_behind(&run.task) {
            return true;
        }
        let home = self.truth.home_of(run, &self.keys);
        let ledgers = self.truth.ledgers.get(&home).and_then(|ledgers| ledgers.last());
        ledgers.is_some_and(|(_, ledger)| {
            // Marks of a clock that was ahead cover nothing of a task that is younger: until they
            // move, what waits of that needs no entry.
            let younger = ledger.marks.incarnation < run.incarnation;
            listed(ledger, run) && !self.starves(run) || younger && self.waits_behind_own(run)
        })
    }

    /// Whether it is listed and nothing that it may wait for goes on. With overlap `allow` that is
    /// what is made up for before it, and no run of its task that is on time; and all wait for a
    /// free place.
    fn starves(&self, run: &RunId) -> bool {
        // How it starts is said by the newest version.
        let newest = |life: &Life| life.versions.last().map(|(_, task)| task.spec.overlap);
        let allow = |life: &Life| newest(life) == Some(Overlap::Allow);
        if !self.truth.life_of(run).is_some_and(allow) {
            return false;
        }
        if self.hosts.iter().any(|host| host.running.len() >= PLACES) {
            return false;
        }
        let mut running = self.hosts.iter().flat_map(|host| host.running.values());
        let before = |other: &RunId| same(other, run) && self.is_before_in_series(other, run);
        let home = self.truth.home_of(run, &self.keys);
        let ledger = self.truth.ledgers.get(&home).and_then(|ledgers| ledgers.last());
        let mut open = ledger.into_iter().flat_map(|(_, ledger)| &ledger.open);
        let mut starts = self.truth.starts.iter().rev();
        let lately = self.now.saturating_sub(3 * SECOND);
        !running.any(|(other, _)| before(other))
            && !open.any(|entry| entry.attempt.number > 0 && before(&entry.run))
            && !starts.any(|start| start.at > lately && before(&start.run))
    }

    /// Whether another run of its task goes on where it is to run.
    fn waits_behind_own(&self, run: &RunId) -> bool {
        let own = |other: &RunId| {
            let place = |of: &RunId| (of.task.clone(), of.incarnation, of.agent.clone());
            place(other) == place(run)
        };
        let mut running = self.hosts.iter().flat_map(|host| host.running.values());
        running.any(|(other, _)| {
            own(other) && (self.is_before_in_series(other, run) || self.waits_behind(&run.task))
        })
    }

    /// Whether the one was started too late to be on time, as one of a series that the other may
    /// be of as well: that waits for it, whatever the overlap policy says.
    fn is_before_in_series(&self, first: &RunId, other: &RunId) -> bool {
        let RunKey::Instant(instant) = other.run else { return false };
        let mut starts = self.truth.starts.iter().filter(|start| start.run == *first);
        // By a clock that was ahead they may have been late.
        let ahead = self.hosts.iter().map(|host| host.ahead_us).max().unwrap_or(0);
        first.run < other.run
            && starts.any(|start| {
                let asked = start.asked.plus(Duration::from_micros(ahead));
                let late = |due: Wall| asked.since(due) > ON_TIME;
                start.attempt.number == 1 && late(start.due) && late(instant.wall())
            })
    }

    pub fn goes_on(&self, run: &RunId) -> bool {
        self.waits(run) || self.runs_somewhere(run)
    }

    /// Whether a run of a task goes on, behind which others of it may have to wait.
    fn waits_behind(&self, task: &TaskName) -> bool {
        let mut running = self.hosts.iter().flat_map(|host| host.running.values());
        let waits =
            |life: &Life| life.versions.iter().any(|(_, t)| t.spec.overlap != Overlap::Allow);
        let runs = |run: &RunId| run.task == *task && self.truth.life_of(run).is_some_and(waits);
        // One that is to be tried again holds its place.
        let newest = self.truth.ledgers.values().filter_map(|ledgers| ledgers.last());
        let mut listed = newest.flat_map(|(_, ledger)| &ledger.open);
        running.any(|(run, _)| runs(run))
            || listed.any(|entry| runs(&entry.run) && entry.state != EntryState::Ended)
    }

    /// Checker 1: every instant of every task came to a start or a named end.
    fn check_loss(&mut self, expected: &[Expected]) {
        let lost: Vec<String> = expected
            .iter()
            .filter(|e| !e.uncertain && !self.came_to(&e.run, u64::MAX) && !self.waits(&e.run))
            .map(|e| format!("{} was due at {:?} and came to nothing", e.run, e.due))
            .collect();
        for text in lost.into_iter().chain(self.lost_triggers()) {
            self.truth.violation(Checker::Loss, self.now, text);
        }
    }

    /// Runs that were asked for by hand: what is done with has come to something, unless its task
    /// was deleted or moved away with it.
    fn lost_triggers(&self) -> Vec<String> {
        let mut lost = Vec::new();
        for ((task, ulid), (asked, gone)) in &self.truth.triggers {
            let run = RunId::manual(task.clone(), *ulid);
            let lives = self.truth.lives.iter().filter(|((name, _), _)| name == task);
            let with_its_task =
                lives.filter_map(|(_, life)| life.deleted).any(|at| Some(at) == *gone);
            let came_to = self.truth.ends.contains_key(&run)
                || self.truth.starts.iter().any(|start| start.run == run);
            let undone = self.truth.is_undone(*asked);
            if gone.is_some() && !with_its_task && !undone && !came_to {
                let asked = asked / SECOND;
                lost.push(format!("{run} was asked for at {asked} s and came to nothing"));
            }
        }
        lost
    }

    /// Checker 2: every start belongs to an instant of a task, and none comes long after a delete.
    fn check_phantoms(&mut self) {
        let mut phantoms = Vec::new();
        let mut begun = BTreeSet::new();
        for start in &self.truth.starts {
            let first = begun.insert(&start.run);
            let RunKey::Instant(instant) = start.run.run else { continue };
            let key = (start.run.task.clone(), start.run.incarnation);
            let Some(life) = self.truth.lives.get(&key) else {
                phantoms.push((start.at, format!("{} is of no task", start.run)));
                continue;
            };
            let told = |at: u64| self.told(start, at);
            match instant_is_of(life, instant) {
                IsOf::Nothing => {
                    phantoms.push((start.at, format!("{} is no instant of its task", start.run)));
                }
                // Who has not been told goes by the version that it knows, and what that has begun
                // is tried again.
                IsOf::Replaced(at) if first && start.at > told(at) + 3 * SECOND + SECOND / 10 => {
                    let text = format!("{} started and is of a schedule before", start.run);
                    phantoms.push((start.at, text));
                }
                IsOf::Replaced(_) | IsOf::Its => {}
            }
            let late =
                life.deleted.is_some_and(|at| start.at > told(at) + 3 * SECOND + SECOND / 10);
            if late {
                phantoms.push((start.at, format!("{} started after its delete", start.run)));
            }
        }
        for (at, text) in phantoms {
            self.truth.violation(Checker::Phantom, at, text);
        }
    }

    /// Promise 6: nothing that has not started starts a lease time after its task was paused.
    fn check_pauses(&mut self) {
        let mut broken = Vec::new();
        for start in &self.truth.starts {
            let key = (start.run.task.clone(), start.run.incarnation);
            let (Some(life), RunKey::Instant(_)) = (self.truth.lives.get(&key), start.run.run)
            else {
                continue;
            };
            let before = start.at.saturating_sub(3 * SECOND + SECOND / 10);
            let then = life.versions.iter().rev().find(|(at, _)| *at <= before);
            let changed = life.versions.iter().any(|(at, _)| *at > before && *at <= start.at);
            // Who is cut off does not learn of it.
            if before > self.told(start, 0)
                && then.is_some_and(|(_, task)| task.spec.paused)
                && !changed
            {
                broken.push((start.at, format!("{} started while paused", start.run)));
            }
        }
        for (at, text) in broken {
            self.truth.violation(Checker::Phantom, at, text);
        }
    }

    /// Checker 8: what ended a while ago is settled. Nothing is listed as held that runs nowhere,
    /// and no one-shot that has ended still has its key.
    fn check_settled(&mut self, quiet_us: u64) {
        let mut left = Vec::new();
        let ended_before = |run: &RunId, by: u64| {
            let ends = self.truth.ends.get(run);
            ends.is_some_and(|ends| ends.iter().all(|(_, at)| *at < by))
        };
        for (home, ledger) in &self.truth.ledgers {
            let Some(ledger) = ledger.last() else { continue };
            // L8: a large one is written less often, and never not at all.
            let calm = u64::try_from(ledger.1.open.len() * 100 / 4_096).expect("small");
            let (age, listed) = ((self.now - ledger.0) / SECOND, ledger.1.open.len());
            // A ledger in the host's own store proves nothing, and need not be said again.
            if listed > 0 && age > 5 + calm && home.local().is_none() {
                left.push(format!("a ledger that lists {listed} runs is {age} s old"));
            }
            for entry in &ledger.1.open {
                let held = matches!(entry.state, EntryState::Held { .. });
                let over = ended_before(&entry.run, self.now - 10 * SECOND);
                if held && over && !self.runs_somewhere(&entry.run) {
                    left.push(format!("{} is listed as held and runs nowhere", entry.run));
                }
            }
        }
        for ((name, incarnation), life) in &self.truth.lives {
            let Some((at, task)) = life.versions.last() else { continue };
            // One that was paused before its holder could list it waits to be resumed.
            if task.spec.paused {
                continue;
            }
            let Some(instant) = task.spec.one_shot_at().filter(|_| life.deleted.is_none()) else {
                continue;
            };
            let run = RunId::scheduled(name.clone(), *incarnation, instant);
            let over = ended_before(&run, quiet_us) && !self.was_tried_since(&run);
            if *at < quiet_us && over && !self.runs_somewhere(&run) {
                left.push(format!("{run} has ended and its key is still there"));
            }
        }
        for text in left {
            self.truth.violation(Checker::Liveness, self.now, text);
        }
    }

    /// Whether what this host ran may be repeated. What is pinned needs nobody else, so that only
    /// the end of its process can take an end with it.
    pub(super) fn may_repeat(&self, host: usize, run: &RunId, calm: bool) -> bool {
        match self.truth.home_of(run, &self.keys) {
            Home::Range(_) => !calm && self.hosts[host].disturbed,
            Home::Pins(_) | Home::Shares(_) => self.hosts[host].crashed,
        }
    }

    /// Checker 3: a run that succeeded starts again only if the host that ran it was disturbed.
    fn check_multiplicity(&mut self, calm: bool) {
        let mut repeats = Vec::new();
        let mut names: BTreeMap<(RunId, u32, Fence), usize> = BTreeMap::new();
        for start in &self.truth.starts {
            let fence = start.attempt.fence;
            *names.entry((start.run.clone(), start.attempt.number, fence)).or_default() += 1;
            if let Some((attempt, host)) = self.truth.succeeded.get(&start.run)
                && start.attempt > *attempt
                && !self.may_repeat(*host, &start.run, calm)
            {
                repeats.push((start.at, format!("{} ran again after it succeeded", start.run)));
            }
        }
        for (at, run, host) in &self.truth.again {
            if !self.may_repeat(*host, run, calm) {
                repeats.push((*at, format!("{run} ran again, and had not failed")));
            }
        }
        for ((run, number, fence), count) in names {
            // A store that is lost, and with it the clock's past, may count the same fence again.
            let home = self.truth.home_of(&run, &self.keys);
            let forgot = home.local().is_some_and(|host| self.hosts[host].disk_lost_at.is_some());
            if count > 1 && !forgot {
                let text =
                    format!("attempt {number} of {run} under {fence:?} started {count} times");
                repeats.push((self.now, text));
            }
        }
        if calm {
            for (run, ends) in &self.truth.ends {
                let home = self.truth.home_of(run, &self.keys);
                let crashed = home.local().is_some_and(|host| self.hosts[host].crashed);
                if crashed || self.came_before_birth(run, home) {
                    continue;
                }
                let lost = ends.iter().filter(|(state, _)| *state == RunState::Lost);
                repeats.extend(lost.map(|(_, at)| (*at, format!("{run} was lost for no reason"))));
            }
        }
        for (at, text) in repeats {
            self.truth.violation(Checker::Multiplicity, at, text);
        }
    }

    /// L5: what an accepted ledger covers had been decided by then, or is listed in it.
    fn check_marks(&mut self, expected: &[Expected]) {
        let mut wrong = Vec::new();
        for (home, ledgers) in &self.truth.ledgers {
            for e in expected.iter().filter(|e| !e.uncertain) {
                if self.truth.home_of(&e.run, &self.keys) != *home {
                    continue;
                }
                let key = (e.run.task.clone(), e.run.incarnation);
                let one_shot = self.truth.lives.get(&key).is_none_or(|life| {
                    life.versions.iter().any(|(_, task)| task.spec.one_shot_at().is_some())
                });
                let covering = ledgers
                    .iter()
                    .filter(|(at, _)| *at >= e.put_at)
                    .filter(|(_, ledger)| ledger.marks.incarnation.revision >= e.put_by)
                    .find(|(_, ledger)| ledger.marks.cover(e.due.instant(), e.run.incarnation));
                let Some((at, ledger)) = covering.filter(|_| !one_shot) else { continue };
                if !self.came_to(&e.run, *at) && !listed(ledger, &e.run) {
                    wrong.push((*at, format!("a ledger covered {}, which was undecided", e.run)));
                }
            }
        }
        for (at, text) in wrong {
            self.truth.violation(Checker::Durability, at, text);
        }
    }

    /// L4: a run that the newest ledger covers and does not list has its end on some disk.
    fn check_durable(&mut self) {
        let mut lost = Vec::new();
        for start in &self.truth.starts {
            let key = (start.run.task.clone(), start.run.incarnation);
            let Some(life) = self.truth.lives.get(&key).filter(|life| life.deleted.is_none())
            else {
                continue;
            };
            let one_shot = life.versions.iter().any(|(_, task)| task.spec.one_shot_at().is_some());
            // Started before an edit was known that had taken its instant away: nobody else knows
            // of it.
            if one_shot || !has(life, &start.run) {
                continue;
            }
            let home = self.truth.home_of(&start.run, &self.keys);
            // A new disk has no past: its first ledger covers all that was before.
            let new = self.hosts[start.host].disk_lost_at.is_some_and(|at| at > start.at);
            if matches!(home, Home::Shares(_)) && new || self.is_forgotten(start, life) {
                continue;
            }
            // By a version that is undone: to the one before it the marks may have passed it.
            if home.local().is_some() && life.undone.is_some_and(|at| start.at < at) {
                continue;
            }
            let newest = self.truth.ledgers.get(&home).and_then(|ledgers| ledgers.last());
            let Some((_, newest)) = newest else { continue };
            let covered = newest.marks.cover(start.due.instant(), start.run.incarnation);
            let kept = self
                .hosts
                .iter()
                .any(|host| host.store.history().iter().any(|row| tells_of(row, &start.run)));
            if covered && !listed(newest, &start.run) && !kept {
                lost.push((self.now, format!("the end of {} is on no disk", start.run)));
            }
        }
        lost.dedup();
        for (at, text) in lost {
            self.truth.violation(Checker::Durability, at, text);
        }
    }
}

/// What an instant is of its task.
enum IsOf {
    /// The version that counts for it has it.
    Its,
    /// One has it that was replaced before, at this time.
    Replaced(u64),
    Nothing,
}

fn instant_is_of(life: &Life, instant: Instant) -> IsOf {
    let mut replaced = None;
    for (index, (_, task)) in life.versions.iter().enumerate() {
        let before = instant.minus(std::time::Duration::from_millis(1));
        let has = timetable(&task.spec, task.last_instant).next_after(before) == Some(instant);
        let one_shot = task.spec.one_shot_at().is_some();
        let begun = one_shot || task.effective_from.instant() < instant;
        if !has || !begun {
            continue;
        }
        match life.versions.get(index + 1) {
            Some((at, next)) if one_shot || next.effective_from.instant() < instant => {
                replaced = Some(*at);
            }
            _ => return IsOf::Its,
        }
    }
    replaced.map_or(IsOf::Nothing, IsOf::Replaced)
}

/// Whether a run is at an instant of the version that counts for it.
fn has(life: &Life, run: &RunId) -> bool {
    let RunKey::Instant(instant) = run.run else { return false };
    let from = |task: &Task| task.effective_from.instant() < instant;
    let version = life.versions.iter().rev().find(|(_, task)| from(task));
    version.is_some_and(|(_, task)| {
        let before = instant.minus(std::time::Duration::from_millis(1));
        timetable(&task.spec, task.last_instant).next_after(before) == Some(instant)
    })
}

/// A row of history tells of a run: its own, or that of a span that holds its instant.
fn tells_of(row: &RunRecord, run: &RunId) -> bool {
    row.id == *run
        || match (row.span, row.id.run, run.run) {
            (Some(span), RunKey::Instant(first), RunKey::Instant(at)) => {
                same(&row.id, run) && first <= at && at <= span.until
            }
            _ => false,
        }
}

pub fn listed(ledger: &Ledger, run: &RunId) -> bool {
    ledger.open.iter().any(|entry| {
        entry.run == *run
            || match (entry.state, entry.run.run, run.run) {
                (EntryState::CatchUp { last, .. }, RunKey::Instant(first), RunKey::Instant(at)) => {
                    same(&entry.run, run) && first <= at && at <= last
                }
                _ => false,
            }
    })
}

/// Whether two runs are of one task in one life, and of one host's share of it.
fn same(one: &RunId, other: &RunId) -> bool {
    (&one.task, one.incarnation, &one.agent) == (&other.task, other.incarnation, &other.agent)
}

/// Instants and dues of one version: after it took effect, up to the next version or the end.
fn instants_of(
    life: &Life,
    index: usize,
    end: Instant,
    agent: Option<&AgentName>,
) -> Vec<(Instant, Wall)> {
    let (_, task) = &life.versions[index];
    if let Some(at) = task.spec.one_shot_at() {
        let due = due(task, at, None, None);
        return if due.instant() <= end && !task.spec.paused {
            vec![(at, due)]
        } else {
            Vec::new()
        };
    }
    let until = life.versions.get(index + 1).map(|(_, next)| next.effective_from.instant());
    let until = until.map_or(end, |until| until.min(end));
    let table = timetable(&task.spec, task.last_instant);
    let mut instants = Vec::new();
    let mut at = task.effective_from.instant();
    while let Some(next) = table.next_after(at).filter(|next| *next <= until) {
        instants.push((next, due(task, next, table.next_after(next), agent)));
        at = next;
    }
    instants.retain(|(_, due)| due.instant() <= end);
    instants
}

fn due(task: &Task, instant: Instant, next: Option<Instant>, agent: Option<&AgentName>) -> Wall {
    let share = agent.map(|agent| (agent, task.spec.broadcast.splay));
    jitter::due_of_share(&task.spec.name, share, instant, next, task.spec.jitter)
}
