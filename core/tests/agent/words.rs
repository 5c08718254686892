//! The words of the stories: tasks and what clients do to them, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tocktower_core::agent::effect::{Notice, RunKeyName, ShareRequest, WriteKind};
use tocktower_core::agent::input::Trigger;
use tocktower_core::ids::{
    AgentName, Attempt, Fence, Incarnation, LedgerNumber, PoolName, RangeId, RunId, RunKey,
    Session, TaskName,
};
use tocktower_core::ledger::{Entry, EntryState, Ledger, Marks};
use tocktower_core::run::{AttemptEnd, RunState};
use tocktower_core::schedule::{Every, Schedule};
use tocktower_core::task::{
    self, Action, Broadcast, CatchUp, CatchUpPolicy, Delivery, NewVersion, Overlap, Placement,
    Retry, Spec, Task, timetable,
};
use tocktower_core::time::{Instant, Wall};

use crate::shared::EPOCH;
use crate::world::{BEGIN_MS, Conduct, Sent, Started, World};

pub fn named(name: &str) -> TaskName {
    TaskName::parse(name).expect("a good name")
}

/// A task that runs at every so many seconds.
pub fn every(name: &str, seconds: u64) -> Spec {
    let every =
        Every::new(Duration::from_secs(seconds), Duration::ZERO).expect("at least a second");
    spec(name, Schedule::Every(every))
}

/// A task that runs at every so many seconds, so many milliseconds after the full one.
pub fn every_after(name: &str, seconds: u64, phase_ms: u64) -> Spec {
    let phase = Duration::from_millis(phase_ms);
    let every = Every::new(Duration::from_secs(seconds), phase).expect("at least a second");
    spec(name, Schedule::Every(every))
}

fn spec(name: &str, schedule: Schedule) -> Spec {
    Spec {
        name: named(name),
        description: String::new(),
        labels: BTreeMap::new(),
        schedules: vec![schedule],
        start_at: None,
        end_at: None,
        max_runs: None,
        jitter: Duration::ZERO,
        exclude: Default::default(),
        action: Action::Noop,
        placement: PoolName::parse("default").expect("a good name").into(),
        broadcast: Broadcast::default(),
        catch_up: CatchUp { policy: CatchUpPolicy::All, window: Duration::from_secs(3_600) },
        overlap: Overlap::Skip,
        retry: Retry::default(),
        timeout: None,
        start_deadline: None,
        delivery: Delivery::default(),
        priority: 0,
        paused: false,
    }
}

/// As given, and for this agent alone.
pub fn pinned(spec: Spec) -> Spec {
    let placement = Placement::Agent(AgentName::parse("a").expect("a good name"));
    Spec { placement, ..spec }
}

/// As given, and on every agent of the pool that has this label.
pub fn broadcast(spec: Spec, (key, value): (&str, &str)) -> Spec {
    let placement = Placement::EveryAgent(PoolName::parse("default").expect("a good name"));
    let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    Spec { placement, broadcast: Broadcast { labels, splay: Duration::ZERO }, ..spec }
}

/// As given, and no attempt of it may start twice.
pub fn at_most_once(spec: Spec) -> Spec {
    Spec { delivery: Delivery::AtMostOnce, ..spec }
}

/// As given, and tried so often, so many seconds apart.
pub fn retried(spec: Spec, times: u32, seconds: u64) -> Spec {
    let backoff = Duration::from_secs(seconds);
    let retry =
        Retry { max_attempts: times, backoff, factor: 1.0, max_backoff: backoff, jitter: 0.0 };
    Spec { retry, ..spec }
}

pub fn failed() -> AttemptEnd {
    AttemptEnd::Failed { reason: "exit code 1".to_owned() }
}

/// One of a crowd of names that all lie in one range.
pub fn of_range(world: &World, range: u16, prefix: &str, count: usize) -> Vec<String> {
    let names = (0..).map(|number: usize| format!("{prefix}{number}"));
    let here = |name: &String| world.shared.ranges.range_of(&named(name)) == RangeId(range);
    names.filter(here).take(count).collect()
}

impl World {
    /// A task that runs once, so many seconds after the beginning.
    pub fn once(&self, name: &str, second: u64) -> Spec {
        spec(name, Schedule::At(self.at_second(second)))
    }

    /// The moment so many seconds after the beginning of the story.
    pub fn at_second(&self, second: u64) -> Instant {
        let begin = Wall::from_millis(BEGIN_MS);
        begin.plus(Duration::from_secs(second)).instant()
    }

    fn second_of(&self, instant: Instant) -> i64 {
        (instant.millis() - self.at_second(0).millis()) / 1_000
    }

    pub fn create(&mut self, spec: Spec) {
        self.create_as(spec, None);
    }

    /// `request`: by which the create is known when it is sent again.
    pub fn create_as(&mut self, spec: Spec, request: Option<u128>) {
        let version = task::create(spec, self.now().wall, request).expect("a good task");
        let revision = self.shared.next();
        let incarnation = Incarnation { epoch: self.shared.epoch, revision };
        self.put(version.written(incarnation, revision));
    }

    fn put(&mut self, task: Task) {
        let task = Arc::new(task);
        self.store.versions.insert(task.revision, task.clone());
        self.shared.put_task(task);
    }

    pub fn task(&self, name: &str) -> Arc<Task> {
        let range = self.range_of(name);
        self.shared.keys[&range].tasks[&named(name)].task.clone()
    }

    pub fn write(&mut self, current: &Task, version: NewVersion) {
        let revision = self.shared.next();
        self.put(version.written(current.incarnation, revision));
    }

    pub fn edit(&mut self, name: &str, edit: impl FnOnce(Spec) -> Spec) {
        self.edit_at(name, self.now().wall, edit);
    }

    /// By a coordinator whose clock shows this.
    pub fn edit_at(&mut self, name: &str, clock: Wall, edit: impl FnOnce(Spec) -> Spec) {
        let current = self.task(name);
        let spec = edit(current.spec.clone());
        let version =
            task::replace(&current, spec, clock, self.marks_of(name)).expect("a good edit");
        self.write(&current, version.expect("an edit that changes something"));
    }

    /// What a coordinator knows of the ledger of a task's range.
    fn marks_of(&self, name: &str) -> Marks {
        let ledger = &self.shared.keys[&self.range_of(name)].ledger;
        let ledger = ledger.as_ref().and_then(|seen| seen.ledger.as_ref().ok());
        ledger.map_or(Marks::NONE, |ledger| ledger.done_with())
    }

    pub fn pause(&mut self, name: &str) {
        let current = self.task(name);
        let version = task::pause(&current, self.now().wall, self.marks_of(name)).expect("not due");
        self.write(&current, version.expect("not paused"));
    }

    pub fn resume(&mut self, name: &str) {
        let current = self.task(name);
        let version = task::resume(&current, self.now().wall, self.marks_of(name));
        self.write(&current, version.expect("no edit before").expect("paused"));
    }

    pub fn delete(&mut self, name: &str) {
        let range = self.range_of(name);
        self.shared.remove(range, &RunKeyName::Task(named(name)));
    }

    /// etcd takes the lease away, and for a moment another has the range.
    pub fn lose_to_another(&mut self) {
        let range = RangeId(0);
        let ledger = (*self.shared.ledger(range)).clone();
        self.shared.end_lease();
        let session = Session { epoch: ledger.fence.epoch, revision: self.shared.next() };
        let fence = self.shared.take_over(range, "other", session);
        let number = LedgerNumber { process: 99, count: 1 };
        self.shared.put_ledger(range, Ledger { fence, number, ..ledger });
        self.shared.unclaim(range);
    }

    pub fn delete_trigger(&mut self, name: &str, ulid: u128) {
        let range = self.range_of(name);
        self.shared.remove(range, &RunKeyName::Trigger(named(name), ulid));
    }

    /// The task's record becomes one that this agent cannot read.
    pub fn garble(&mut self, name: &str) {
        self.shared.garble(&named(name));
    }

    /// It is put again as it was before.
    pub fn mend(&mut self, name: &str) {
        let current = self.task(name);
        let revision = self.shared.next();
        self.put(Task { revision, ..(*current).clone() });
    }

    pub fn trigger(&mut self, name: &str, ulid: u128) {
        let payload = Some(Arc::from(format!("{ulid}")));
        let (asked_at, revision) = (self.now().wall.instant(), self.shared.next());
        self.shared.put_trigger(Trigger { task: named(name), ulid, revision, asked_at, payload });
    }

    /// How a task's attempts go from now on.
    pub fn conduct(&mut self, name: &str, took_ms: u64, ends: &[AttemptEnd]) {
        let took = match took_ms {
            u64::MAX => Duration::MAX,
            took => Duration::from_millis(took),
        };
        self.conducts.insert(name.to_owned(), Conduct { took, ends: ends.to_vec() });
    }

    /// Attempts of a task run until the story ends them.
    pub fn runs_long(&mut self, name: &str) {
        self.conduct(name, u64::MAX, &[]);
    }

    /// Ends what runs of a task.
    pub fn end(&mut self, name: &str, end: AttemptEnd) {
        let of = self.running.iter().filter(|(_, start)| start.run.task == named(name));
        let tickets: Vec<_> = of.map(|(ticket, _)| *ticket).collect();
        assert!(!tickets.is_empty(), "nothing of {name} runs");
        for ticket in tickets {
            self.finish(ticket, end.clone());
        }
    }

    pub fn range_of(&self, name: &str) -> RangeId {
        self.shared.range_of(&named(name))
    }

    pub fn starts_of(&self, name: &str) -> Vec<&Started> {
        self.starts.iter().filter(|start| start.run.task == named(name)).collect()
    }

    /// The starts of a task: the second of each instant, and the number of the attempt.
    pub fn started(&self, name: &str) -> Vec<(i64, u32)> {
        let starts = self.starts_of(name).into_iter();
        starts
            .map(|start| match start.run.run {
                RunKey::Instant(at) => (self.second_of(at), start.attempt.number),
                RunKey::Manual(ulid) => (i64::try_from(ulid).expect("small"), start.attempt.number),
            })
            .collect()
    }

    /// What the history says of a task, in the order in which it was written: the second of each
    /// instant, its state and why.
    pub fn history(&self, name: &str) -> Vec<String> {
        let rows = self.store.history.iter().filter(|row| row.id.task == named(name));
        rows.map(|row| {
            let until = row.span.map(|span| format!("..{}", self.second_of(span.until)));
            let until = until.unwrap_or_default();
            let reason = row.reason.as_ref().map(|reason| format!(": {reason}"));
            let reason = reason.unwrap_or_default();
            let name = match row.id.run {
                RunKey::Instant(at) => self.second_of(at).to_string(),
                RunKey::Manual(ulid) => format!("trigger {ulid}"),
            };
            format!("{name}{until} {}{reason}", row.state)
        })
        .collect()
    }

    /// Each instant of a task from one second to another (not included) has ended, once.
    #[track_caller]
    pub fn each_ended_once(&self, task: &Task, from: u64, to: u64) {
        let twice = self.each_ended(task, from, to);
        let rows = self.history(&task.spec.name.to_string());
        assert!(twice.is_empty(), "{twice:?} ended more than once: {rows:#?}");
    }

    /// As [`each_ended_once`](World::each_ended_once); those that ended more than once are told.
    #[track_caller]
    pub fn each_ended(&self, task: &Task, from: u64, to: u64) -> Vec<i64> {
        let name = task.spec.name.to_string();
        let table = timetable(&task.spec, task.last_instant);
        let before = self.at_second(from).minus(Duration::from_millis(1));
        let instants = table.instants_after(before).take_while(|at| *at < self.at_second(to));
        let (mut never, mut twice) = (Vec::new(), Vec::new());
        for instant in instants {
            let rows = self.store.history.iter().filter(|row| {
                let RunKey::Instant(first) = row.id.run else { return false };
                let last = row.span.map_or(first, |span| span.until);
                row.id.task == task.spec.name
                    && row.id.incarnation == task.incarnation
                    && (first..=last).contains(&instant)
            });
            match rows.count() {
                0 => never.push(self.second_of(instant)),
                1 => {}
                _ => twice.push(self.second_of(instant)),
            }
        }
        let rows = self.history(&name);
        assert!(never.is_empty(), "{name}: {never:?} came to nothing: {rows:#?}");
        twice
    }

    pub fn ended(&self, name: &str, state: RunState) -> usize {
        let rows = self.store.history.iter().filter(|row| row.id.task == named(name));
        rows.filter(|row| row.state == state).count()
    }

    /// Another had the first range before, up to an instant, and had begun one run.
    pub fn former_ledger(&mut self, through: Instant, begun: RunId, state: EntryState) {
        let RunKey::Instant(due) = begun.run else { panic!("an instant") };
        let incarnation = begun.incarnation;
        let fence = Fence { epoch: EPOCH, revision: self.shared.next() };
        let attempt = Attempt { fence, number: 1 };
        let open = vec![Entry { run: begun, due, attempt, state }];
        let marks = Marks { through, incarnation };
        let number = LedgerNumber { process: 3, count: 1 };
        self.shared.put_ledger(RangeId(0), Ledger { fence, number, marks, open });
    }

    /// The entries of a task in the newest ledger of its range.
    pub fn listed(&self, name: &str) -> Vec<Entry> {
        let ledger = self.shared.ledger(self.range_of(name));
        ledger.open.iter().filter(|entry| entry.run.task == named(name)).cloned().collect()
    }

    /// Ledgers of a range that were sent since a moment, beats left out.
    pub fn ledgers_since(&self, range: RangeId, since_us: u64) -> Vec<&Sent> {
        let of = |sent: &&Sent| sent.range == range && sent.at_us >= since_us;
        self.sent.iter().filter(of).filter(|sent| sent.ledger().is_some()).collect()
    }

    pub fn finals(&self) -> usize {
        self.sent.iter().filter(|sent| matches!(sent.kind, WriteKind::Final { .. })).count()
    }

    pub fn told(&self, which: impl Fn(&Notice) -> bool) -> usize {
        self.notices.iter().filter(|(_, notice)| which(notice)).count()
    }
}

/// Whether a request writes an ordinary ledger.
pub fn writes_ledger(request: &ShareRequest) -> bool {
    let ShareRequest::Write(writes) = request else { return false };
    writes.iter().any(|write| matches!(write.kind, WriteKind::Ledger { .. }))
}

/// Whether a request writes a final ledger.
pub fn writes_final(request: &ShareRequest) -> bool {
    let ShareRequest::Write(writes) = request else { return false };
    writes.iter().any(|write| matches!(write.kind, WriteKind::Final { .. }))
}
