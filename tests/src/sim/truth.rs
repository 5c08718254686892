//! What truly happened in a walk, seen from outside: every version of every task, every start,
//! every reported end, every ledger that etcd accepted. The checks that need the moment itself are
//! made here as it happens; `check` holds the rest against it at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tocktower_cluster::keys::{Key, Keys};
use tocktower_cluster::ledgers;
use tocktower_cluster::port::Event;
use tocktower_cluster::records::read_task;
use tocktower_core::ids::{
    Attempt, Epoch, Fence, Incarnation, RangeId, Revision, RunId, RunKey, TaskName,
};
use tocktower_core::ledger::{EntryState, Ledger};
use tocktower_core::run::{AttemptEnd, RunRecord, RunState};
use tocktower_core::task::{Overlap, Task};
use tocktower_core::time::{Instant, Wall};

use super::checker::{Checker, Violation};
use super::followers::Announced;
use super::home::{Home, host_of};
use super::world::{SECOND, TTL};

/// How an attempt ended is said once a second at most, until its holder has seen it.
const SAID_MAX: usize = 60;

/// One life of a task: its versions in the order of their writing, and its end.
#[derive(Debug, Default)]
pub struct Life {
    pub versions: Vec<(u64, Arc<Task>)>,
    pub deleted: Option<u64>,
    /// When an edit or its delete was undone, since etcd was put back to before.
    pub undone: Option<u64>,
}

impl Life {
    fn put_back(&mut self, of: u64, now: u64) {
        let known = self.versions.partition_point(|(at, _)| *at <= of);
        let there = known > 0 && self.deleted.is_none_or(|at| at > of);
        if !there {
            self.deleted.get_or_insert(now);
        } else if known < self.versions.len() || self.deleted.is_some() {
            self.versions.push((now, Arc::clone(&self.versions[known - 1].1)));
            (self.deleted, self.undone) = (None, Some(now));
        }
    }
}

#[derive(Clone, Debug)]
pub struct Started {
    pub run: RunId,
    pub attempt: Attempt,
    pub host: usize,
    pub at: u64,
    /// When that was asked for, by the host's own clock.
    pub asked: Wall,
    pub due: Wall,
    /// Its host's clock was further ahead than a good one is: it may have been early, unknowingly.
    pub fast: bool,
    /// When its host lost its disk, if its clock was set back as well: it may not know what it did
    /// until then (ADR 0017).
    pub forgot: Option<u64>,
}

/// Instants that were reported as one.
#[derive(Debug)]
pub struct SpanEnd {
    /// Its first one.
    pub run: RunId,
    pub first: Instant,
    pub until: Instant,
    pub at: u64,
}

#[derive(Debug, Default)]
pub struct Truth {
    pub lives: BTreeMap<(TaskName, Incarnation), Life>,
    pub triggers: BTreeMap<(TaskName, u128), (u64, Option<u64>)>,
    /// Faults by kind.
    pub faults: BTreeMap<String, usize>,
    pub starts: Vec<Started>,
    pub ends: BTreeMap<RunId, Vec<(RunState, u64)>>,
    /// When and by which host it was told that a run had failed and would be tried again.
    pub waits: BTreeMap<RunId, Vec<(usize, u64)>>,
    /// The end that was told of a run under each fence.
    told: BTreeMap<(RunId, Fence), RunState>,
    /// Runs that started again before it was told that they had failed, and who had run them.
    pub again: Vec<(u64, RunId, usize)>,
    pub spans: Vec<SpanEnd>,
    pub ledgers: BTreeMap<Home, Vec<(u64, Arc<Ledger>)>>,
    pub violations: Vec<Violation>,
    /// What happened, for people, if it was asked for.
    pub trace: Option<Vec<String>>,
    /// When agents compacted etcd.
    pub compactions: Vec<u64>,
    /// How often each settle key was put.
    said: BTreeMap<Vec<u8>, usize>,
    /// When etcd came to each revision.
    revisions: Vec<(Revision, u64)>,
    /// When leases ended because nobody kept them alive.
    pub expiries: BTreeSet<u64>,
    claims: BTreeMap<RangeId, Vec<(u64, Option<Fence>)>>,
    running: BTreeMap<(TaskName, RunId), (Fence, usize)>,
    pub succeeded: BTreeMap<RunId, (Attempt, usize)>,
    /// The newest attempt of each run, and whether it is over and may be tried again.
    newest: BTreeMap<RunId, (Attempt, bool, usize)>,
    /// Ends that were looked for while their rows could not be read.
    pub ends_asked_for: usize,
    pub announced: Vec<Announced>,
    /// Hosts that were killed once they were drained.
    pub stopped_drained: usize,
    /// Processes that went on with the session of the one before.
    pub adopted: usize,
    /// The epoch that the cluster is in.
    pub epoch: Epoch,
    /// When etcd was put back, and as of when.
    pub put_back: Option<(u64, u64)>,
    /// When its epoch was raised, and by which clock.
    pub raised: Option<(u64, Wall)>,
}

impl Truth {
    pub fn violation(&mut self, checker: Checker, at: u64, what: String) {
        self.violations.push(Violation { checker, at, what });
    }

    pub fn note(&mut self, at: u64, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{}.{:06}s {}", at / SECOND, at % SECOND, what()));
        }
    }

    /// Whether it was put after the backup and is gone with it.
    pub fn is_undone(&self, at: u64) -> bool {
        self.put_back.is_some_and(|(of, back)| of < at && at <= back)
    }

    /// The newest version of every task that is there.
    pub fn living(&self) -> Vec<Task> {
        let living = self.lives.values().filter(|life| life.deleted.is_none());
        living.filter_map(|life| life.versions.last()).map(|(_, task)| (**task).clone()).collect()
    }

    pub fn pending_triggers(&self, task: &TaskName) -> Vec<u128> {
        let of = self.triggers.range((task.clone(), 0)..=(task.clone(), u128::MAX));
        of.filter(|(_, (_, gone))| gone.is_none()).map(|((_, ulid), _)| *ulid).collect()
    }

    /// What etcd has accepted.
    pub fn shared(&mut self, events: &[Event], keys: &Keys, now: u64) {
        for event in events {
            self.note(now, || {
                let key = String::from_utf8_lossy(event.key()).into_owned();
                let kind = if matches!(event, Event::Put(_)) { "put" } else { "deleted" };
                format!("etcd {} {key} {kind}", event.revision().0)
            });
            let Some(key) = keys.parse(event.key()) else { continue };
            match (key, event) {
                (Key::Task(pool, name), Event::Put(item)) => {
                    let task = read_task(pool, name.clone(), item).expect("a task we wrote");
                    let of = (task.effective_from, &task.spec);
                    self.note(now, || format!("task {of:?}"));
                    let life = self.lives.entry((name, task.incarnation)).or_default();
                    life.versions.push((now, Arc::new(task)));
                }
                (Key::Task(placement, name), Event::Delete { .. }) => {
                    // One that is moved is made elsewhere in the same moment.
                    let there = |life: &&mut Life| {
                        let newest = life.versions.last();
                        newest.is_some_and(|(_, task)| task.spec.placement == placement)
                    };
                    let lives = self.lives.iter_mut().rev();
                    let life = lives.filter(|((at, _), _)| *at == name).map(|(_, life)| life);
                    let mut life = life.filter(there);
                    if let Some(life) = life.find(|life| life.deleted.is_none()) {
                        life.deleted = Some(now);
                    }
                }
                (Key::Trigger(_, name, ulid), Event::Put(_)) => {
                    self.triggers.insert((name, ulid), (now, None));
                }
                (Key::Trigger(_, name, ulid), Event::Delete { .. }) => {
                    if let Some(trigger) = self.triggers.get_mut(&(name, ulid)) {
                        trigger.1 = Some(now);
                    }
                }
                (Key::Settle(..), Event::Put(_)) => {
                    let said = self.said.entry(event.key().to_vec()).or_default();
                    *said += 1;
                    if *said == SAID_MAX {
                        let key = String::from_utf8_lossy(event.key()).into_owned();
                        let text = format!("{key} was put {SAID_MAX} times");
                        self.violation(Checker::Liveness, now, text);
                    }
                }
                (Key::Claim(_, range), event) => {
                    let fence = match event {
                        Event::Put(item) => {
                            Some(Fence { epoch: self.epoch, revision: item.create_revision })
                        }
                        Event::Delete { .. } => None,
                    };
                    self.claims.entry(range).or_default().push((now, fence));
                }
                (Key::Ledger(_, range), Event::Put(item)) => {
                    let ledger = ledgers::decode(&item.value).expect("a ledger we wrote");
                    self.ledger(Home::Range(range), ledger, now);
                }
                _ => {}
            }
        }
    }

    /// etcd has come to this revision.
    pub fn reached(&mut self, revision: Revision, now: u64) {
        self.revisions.push((revision, now));
    }

    /// Agents compact to nothing that some watch may not have seen yet (W4).
    pub fn compacted(&mut self, to: Revision, now: u64) {
        let age = self.age_of(to, now);
        self.note(now, || format!("compacted to {}, {age} us old", to.0));
        self.compactions.push(now);
        if age < 60 * SECOND {
            self.violation(
                Checker::Ownership,
                now,
                format!("compacted to a revision {} s old", age / SECOND),
            );
        }
    }

    /// Checker 5: fences of accepted ledgers grow, and marks never go back (L3, L5).
    pub fn ledger(&mut self, home: Home, ledger: Ledger, now: u64) {
        self.note(now, || format!("ledger {home:?} {ledger:?}"));
        let before = self.ledgers.entry(home).or_default();
        let problem = before.last().and_then(|(_, before)| {
            let back = ledger.marks.through < before.marks.through
                || ledger.marks.incarnation < before.marks.incarnation;
            if ledger.fence < before.fence {
                Some(format!("a ledger of an earlier fence was accepted in {home:?}"))
            } else if back {
                Some(format!("marks went back in {home:?}"))
            } else {
                None
            }
        });
        before.push((now, Arc::new(ledger)));
        if let Some(problem) = problem {
            self.violation(Checker::Ownership, now, problem);
        }
    }

    pub fn started(&mut self, started: Started, keys: &Keys) {
        let home = self.home_of(&started.run, keys);
        let (now, run) = (started.at, started.run.clone());
        self.note(now, || format!("start {run} {started:?}"));
        if started.asked < started.due && !matches!(run.run, RunKey::Manual(_)) {
            self.violation(Checker::Phantom, now, format!("{run} started before its due"));
        }
        self.check_owner(home, &started);
        let wrote = self.ledgers.get(&home).is_some_and(|ledgers| {
            ledgers.iter().any(|(_, ledger)| ledger.fence == started.attempt.fence)
        });
        if !wrote {
            self.violation(
                Checker::Ownership,
                now,
                format!("{run} started before its holder wrote a ledger"),
            );
        }
        self.check_overlap(&started);
        self.check_marks_before(home, &started);
        self.check_once(home, &started);
        let key = (run.task.clone(), run);
        self.running.insert(key, (started.attempt.fence, started.host));
        self.starts.push(started);
    }

    /// Checker 5: a start needs the claim, or had it until less than a TTL ago if that was taken
    /// from it; not if its lease expired (L0). What is for one host alone starts there.
    fn check_owner(&mut self, home: Home, started: &Started) {
        let range = match home {
            Home::Range(range) => range,
            Home::Pins(host) | Home::Shares(host) => {
                if host != started.host {
                    let text = format!("{} started on h{}", started.run, started.host);
                    self.violation(
                        Checker::Ownership,
                        started.at,
                        format!("{text} and is for h{host} alone"),
                    );
                }
                return;
            }
        };
        let ttl = u64::try_from(TTL.as_micros()).expect("short");
        let claims = self.claims_of(range);
        let mine = |claim: &Option<Fence>| *claim == Some(started.attempt.fence);
        let Some(last) = claims.iter().rposition(|(_, claim)| mine(claim)) else {
            self.violation(
                Checker::Ownership,
                started.at,
                format!("{} started without a claim", started.run),
            );
            return;
        };
        if let Some((ended, _)) = claims.get(last + 1)
            && started.at > ended + if self.expiries.contains(ended) { 0 } else { ttl }
        {
            let late = (started.at - ended) / 1_000;
            let run = &started.run;
            self.violation(
                Checker::Ownership,
                started.at,
                format!("{run} started {late} ms after its claim ended"),
            );
        }
    }

    /// What a ledger covers and does not list is done: nothing that starts now is.
    fn check_marks_before(&mut self, home: Home, started: &Started) {
        let run = &started.run;
        let recurring = self.life_of(run).is_some_and(|life| {
            life.versions.iter().all(|(_, task)| task.spec.one_shot_at().is_none())
        });
        let (Home::Range(_), true, RunKey::Instant(_)) = (home, recurring, run.run) else { return };
        let newest = self.ledgers.get(&home).and_then(|ledgers| ledgers.last());
        let hidden = newest.is_some_and(|(_, ledger)| {
            let covers = ledger.marks.cover(started.due.instant(), run.incarnation);
            // Who was overtaken may start it yet, until its licence is over.
            let overtaken = ledger.fence > started.attempt.fence;
            covers && !overtaken && !super::check::listed(ledger, run)
        });
        if hidden {
            let text = format!("{run} started and is covered, and no ledger lists it");
            self.violation(Checker::Ownership, started.at, text);
        }
    }

    /// etcd is as it was at `of`: what was put since is undone, and what was there is there again.
    pub fn put_back(&mut self, of: u64, revision: Revision, now: u64) {
        self.put_back = Some((of, now));
        self.revisions.retain(|(reached, _)| *reached <= revision);
        for (asked, gone) in self.triggers.values_mut() {
            match *asked <= of {
                true => *gone = gone.filter(|at| *at <= of),
                false => *gone = gone.or(Some(now)),
            }
        }
        for claims in self.claims.values_mut() {
            let then = claims.iter().rev().find(|(at, _)| *at <= of);
            claims.push((now, then.and_then(|(_, claim)| *claim)));
        }
        for (home, ledgers) in &mut self.ledgers {
            if home.local().is_none() {
                let then = ledgers.iter().rev().find(|(at, _)| *at <= of);
                let then = then.map(|(_, ledger)| Arc::clone(ledger));
                ledgers.push((now, then.unwrap_or_else(|| Arc::new(Ledger::empty()))));
            }
        }
        for life in self.lives.values_mut() {
            life.put_back(of, now);
        }
    }

    pub fn claims_of(&self, range: RangeId) -> &[(u64, Option<Fence>)] {
        self.claims.get(&range).map_or(&[][..], Vec::as_slice)
    }

    /// How long ago etcd came to a revision.
    pub fn age_of(&self, revision: Revision, now: u64) -> u64 {
        let at = self.revisions.partition_point(|(reached, _)| *reached < revision);
        now - self.revisions.get(at).map_or(now, |(_, since)| *since)
    }

    /// The revision that etcd had come to by then.
    pub fn newest_of(&self, at: u64) -> Revision {
        let known = self.revisions.partition_point(|(_, since)| *since <= at);
        known.checked_sub(1).map_or(Revision(0), |newest| self.revisions[newest].0)
    }

    /// Checker 3: what may start at most once starts again only after it is known to have failed.
    fn check_once(&mut self, home: Home, started: &Started) {
        let (run, attempt) = (&started.run, started.attempt);
        let before = self.newest.insert(run.clone(), (attempt, false, started.host));
        if let Some((_, false, host)) = before {
            self.again.push((started.at, run.clone(), host));
        }
        let newest = self.life_of(run).and_then(|life| life.versions.last());
        if !newest.is_some_and(|(_, task)| task.spec.at_most_once()) {
            return;
        }
        // L2, as far as etcd knows: the newest ledger of its holder permits it.
        let ledgers = self.ledgers.get(&home).map_or(&[][..], Vec::as_slice).iter().rev();
        // Until it hears that etcd was put back it goes by what was there before.
        let overtaken = self.put_back.is_some() && attempt.fence.epoch == Epoch(1);
        let mut mine = ledgers.filter(|(_, ledger)| ledger.fence == attempt.fence);
        let permits =
            mine.by_ref().take(if overtaken { usize::MAX } else { 1 }).any(|(_, ledger)| {
                let mut entries = ledger.open.iter().filter(|entry| entry.run == *run);
                entries.any(|e| e.attempt == attempt && e.state == EntryState::Permitted)
            });
        if !permits {
            self.violation(
                Checker::Multiplicity,
                started.at,
                format!("{run} started without permission"),
            );
        }
        let start_of = |earlier: &Attempt| {
            self.starts.iter().find(|start| start.run == *run && start.attempt == *earlier)
        };
        // It was due after the raise only, and started before that by a clock that was far ahead.
        let early = |earlier: &Attempt| {
            let older = earlier.fence.epoch < attempt.fence.epoch;
            let Some((raised_at, raised)) = self.raised.filter(|_| older) else { return false };
            let first = start_of(earlier);
            started.due > raised && first.is_some_and(|start| start.fast && start.at <= raised_at)
        };
        let forgotten = |earlier: &Attempt| {
            let lost_at = started.forgot.filter(|_| home.local().is_some()).unwrap_or(0);
            start_of(earlier).is_some_and(|it| it.host == started.host && it.at <= lost_at)
        };
        let before = before.filter(|(earlier, ..)| !early(earlier) && !forgotten(earlier));
        if let Some((earlier, false, _)) = before {
            let text = format!("{run} started again by {attempt:?}, and may have run: {earlier:?}");
            self.violation(Checker::Multiplicity, started.at, text);
        }
    }

    /// An executor says how an attempt ended.
    pub fn attempt_ended(&mut self, run: &RunId, attempt: Attempt, end: &AttemptEnd) {
        let failed = matches!(end, AttemptEnd::Failed { .. } | AttemptEnd::TimedOut { .. });
        if let Some(newest) = self.newest.get_mut(run).filter(|(newest, ..)| *newest == attempt) {
            newest.1 = failed;
        }
    }

    /// Checker 4: `skip` and `queue` never run two at a time under one fence.
    fn check_overlap(&mut self, started: &Started) {
        let task = &started.run.task;
        let newest = self.lives.get(&(task.clone(), started.run.incarnation));
        let Some((_, newest)) = newest.and_then(|life| life.versions.last()) else { return };
        let once = life_long(newest, self.lives.get(&(task.clone(), newest.incarnation)));
        if !once || matches!(started.run.run, RunKey::Manual(_)) {
            return;
        }
        let other = self.running.iter().find(|((at, run), (fence, _))| {
            at == task
                && *run != started.run
                && run.incarnation == started.run.incarnation
                // Fences of local ranges are counted by clocks: two hosts may have the same.
                && run.agent == started.run.agent
                && *fence == started.attempt.fence
        });
        if let Some(((_, other), _)) = other {
            let text = format!("{} started while {other} ran under the same fence", started.run);
            self.violation(Checker::Overlap, started.at, text);
        }
    }

    pub fn vanished(&mut self, run: &RunId, host: usize, _now: u64) {
        let key = (run.task.clone(), run.clone());
        if self.running.get(&key).is_some_and(|(_, at)| *at == host) {
            self.running.remove(&key);
        }
    }

    /// Whether an edit has changed how often its task is tried.
    fn retries_differ(&self, run: &RunId) -> bool {
        let versions = self.life_of(run).map_or(&[][..], |life| &life.versions);
        versions.windows(2).any(|two| two[0].1.spec.retry != two[1].1.spec.retry)
    }

    /// `kept`: it is written down, or will be; what is told while the disk fails may come to
    /// another end.
    pub fn reported(&mut self, record: &RunRecord, kept: bool, now: u64) {
        self.note(now, || {
            format!(
                "report {} {:?} {:?} by {}",
                record.id, record.state, record.reason, record.agent
            )
        });
        let waits = record.state == RunState::WaitingRetry;
        if waits {
            let wait = (host_of(&record.agent), now);
            self.waits.entry(record.id.clone()).or_default().push(wait);
        }
        let over = record.state.is_end() || waits;
        if over {
            self.running.remove(&(record.id.task.clone(), record.id.clone()));
        }
        if !record.state.is_end() || !kept {
            return;
        }
        if let Some(last) = record.attempts.last()
            && record.state == RunState::Succeeded
        {
            let host = host_of(&last.agent);
            self.succeeded.entry(record.id.clone()).or_insert((last.attempt, host));
        }
        self.ends.entry(record.id.clone()).or_default().push((record.state, now));
        let before = self.told.insert((record.id.clone(), record.fence), record.state);
        // What has failed may be tried again, where its retries are edited before it is settled, or
        // wait for that and be cancelled.
        let failed = matches!(before, Some(RunState::Failed | RunState::TimedOut));
        let tried = record.newest().is_some_and(|newest| newest.attempt.number > 1);
        let cancelled = record.state == RunState::Cancelled && self.retries_differ(&record.id);
        let again = failed && (tried || cancelled);
        // An account that gives way to every other is of somebody who does not know: its host lost
        // what tells of the run, or never ran it.
        let known = record.fence != Fence::default();
        if let Some(before) = before.filter(|before| *before != record.state && !again && known) {
            let text = format!("{} ended as {before:?}, then as {:?}", record.id, record.state);
            self.violation(Checker::Durability, now, text);
        }
        if let (Some(span), RunKey::Instant(first)) = (record.span, record.id.run) {
            let (run, until) = (record.id.clone(), span.until);
            self.spans.push(SpanEnd { run, first, until, at: now });
        }
    }
}

/// Whether all versions of a life forbid two runs at a time.
fn life_long(newest: &Task, life: Option<&Life>) -> bool {
    let forbids = |task: &Task| matches!(task.spec.overlap, Overlap::Skip | Overlap::Queue);
    forbids(newest) && life.is_some_and(|life| life.versions.iter().all(|(_, task)| forbids(task)))
}
