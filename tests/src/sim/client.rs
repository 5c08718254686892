//! The client of the simulated world: it creates, edits, pauses, deletes and triggers tasks, with
//! the same operations that coordinators use, straight against etcd.

use std::collections::BTreeMap;
use std::time::Duration;

use tocktower_cluster::port::Request;
use tocktower_cluster::records::Trigger;
use tocktower_cluster::tasks::{self, Create};
use tocktower_cluster::triggers;
use tocktower_core::ids::{AgentName, PoolName, TaskName};
use tocktower_core::ledger::Marks;
use tocktower_core::schedule::{Cron, Dialect, Every, Fold, Gap, Schedule, Zone};
use tocktower_core::task::{
    self, Action, Broadcast, CatchUp, CatchUpPolicy, Delivery, NewVersion, Overlap, Placement,
    Retry, Spec, Task,
};
use tocktower_core::time::Wall;

use super::breaks::Break;
use super::home::Home;
use super::world::{EPOCH_US, World};

impl World {
    pub fn wall(&self) -> Wall {
        Wall::from_micros(EPOCH_US + i64::try_from(self.now).expect("a short walk"))
    }

    pub(super) fn client_acts(&mut self) {
        if self.epochs.is_open() {
            return;
        }
        let living: Vec<Task> = self.truth.living();
        if self.close_edits && self.rng.chance(400) {
            return self.edit(&living);
        }
        match self.rng.between(0, 10) {
            0..5 => self.create(),
            5 => self.edit(&living),
            6 => self.pause_or_resume(&living),
            7 => self.delete(&living),
            _ => self.trigger(&living),
        }
    }

    /// Tasks that all come due at the same times, more than there are places for.
    pub(super) fn create_crowd(&mut self, count: usize) {
        for number in 0..count {
            let mut spec = self.spec(TaskName::parse(&format!("crowd/t{number}")).expect("good"));
            let every = Every::new(Duration::from_secs(20), Duration::ZERO);
            spec.schedules = vec![Schedule::Every(every.expect("at least a second"))];
            spec.catch_up.policy = CatchUpPolicy::Latest;
            (spec.max_runs, spec.start_deadline) = (None, None);
            let Ok(version) = task::create(spec, self.wall(), None) else { continue };
            let create = Create::new(&version, self.epochs.epoch()).expect("a small task");
            let _ = self.etcd.call(&Request::Txn(tasks::create(&self.keys, &[create])), self.now);
        }
    }

    /// Tasks that come every second, pinned to the first host.
    pub(super) fn create_pinned(&mut self, names: &[&str]) {
        for name in names {
            let mut spec = self.spec(TaskName::parse(name).expect("a good name"));
            let every = Every::new(Duration::from_secs(1), Duration::ZERO);
            spec.schedules = vec![Schedule::Every(every.expect("a second"))];
            spec.placement = Placement::Agent(self.hosts[0].name.clone());
            (spec.overlap, spec.jitter) = (Overlap::Allow, Duration::ZERO);
            (spec.max_runs, spec.start_deadline) = (None, None);
            let version = task::create(spec, self.wall(), None).expect("a good task");
            let create = Create::new(&version, self.epochs.epoch()).expect("a small task");
            let _ = self.etcd.call(&Request::Txn(tasks::create(&self.keys, &[create])), self.now);
        }
        self.changed();
    }

    pub(super) fn delete_named(&mut self, name: &str) {
        let mut living = self.truth.living();
        living.retain(|task| task.spec.name.to_string() == name);
        self.delete(&living);
        self.changed();
    }

    fn create(&mut self) {
        let name = format!("s/t{}", self.rng.between(0, 60));
        let name = TaskName::parse(&name).expect("a good name");
        let spec = self.spec(name);
        let now = self.asked_at();
        // As coordinators do: every one-shot carries one.
        let named = self.rng.chance(300) || spec.one_shot_at().is_some();
        let request = named.then(|| u128::from(self.rng.next()));
        let Ok(version) = task::create(spec, now, request) else { return };
        let Ok(create) = Create::new(&version, self.epochs.epoch()) else { return };
        let txn = tasks::create(&self.keys, &[create]);
        let _ = self.etcd.call(&Request::Txn(txn), self.now);
    }

    fn spec(&mut self, name: TaskName) -> Spec {
        let now = self.wall();
        let schedules = vec![self.schedule(now)];
        let one_shot = matches!(schedules[0], Schedule::At(_));
        let overlaps = [Overlap::Skip, Overlap::Allow, Overlap::Queue, Overlap::CancelRunning];
        let policies = [CatchUpPolicy::None, CatchUpPolicy::Latest, CatchUpPolicy::All];
        let policy = match one_shot {
            true => CatchUpPolicy::All,
            false => *self.rng.pick(&policies).expect("there are some"),
        };
        let mut spec = Spec {
            name,
            description: String::new(),
            labels: BTreeMap::new(),
            schedules,
            start_at: None,
            end_at: None,
            max_runs: (!one_shot && self.rng.chance(100)).then(|| self.rng.between(1, 6)),
            jitter: self.jitter(),
            exclude: Default::default(),
            action: Action::Noop,
            placement: self.placement(),
            broadcast: Broadcast::default(),
            delivery: match self.rng.chance(400) {
                true => Delivery::AtMostOnce,
                false => Delivery::AtLeastOnce,
            },
            catch_up: CatchUp { policy, window: Duration::from_secs(3_600) },
            overlap: *self.rng.pick(&overlaps).expect("there are some"),
            retry: Retry {
                max_attempts: if self.rng.chance(500) { 3 } else { 1 },
                ..Retry::default()
            },
            timeout: None,
            start_deadline: self.rng.chance(100).then_some(Duration::from_secs(5)),
            priority: i32::try_from(self.rng.between(0, 3)).expect("small"),
            paused: false,
        };
        self.fit_every_agent(&mut spec);
        spec
    }

    fn placement(&mut self) -> Placement {
        if let Some(everywhere) = self.every_agent() {
            return everywhere;
        }
        if !self.pins || self.rng.chance(500) {
            return PoolName::parse("default").expect("a good name").into();
        }
        let names: Vec<AgentName> = self.hosts.iter().map(|host| host.name.clone()).collect();
        // The last one joins in the end.
        Placement::Agent(self.rng.pick(&names[..names.len() - 1]).expect("some").clone())
    }

    /// None, some within a beat of the ledger, and some longer than a takeover takes.
    fn jitter(&mut self) -> Duration {
        let some: &[u64] = match self.close_edits {
            true => &[0, 0, 3_000, 12_000, 40_000],
            false => &[0, 0, 0, 0, 700, 3_000, 12_000],
        };
        Duration::from_millis(*self.rng.pick(some).expect("there are some"))
    }

    pub(super) fn schedule(&mut self, now: Wall) -> Schedule {
        if self.close_edits && self.rng.chance(250) {
            // So rare that its agent has nothing of it in memory in between.
            let every = Duration::from_secs(self.rng.between(15, 45));
            let phase = Duration::from_millis(self.rng.between(0, 15_000));
            return Schedule::Every(Every::new(every, phase).expect("at least a second"));
        }
        match self.rng.between(0, 10) {
            0..5 => {
                Schedule::At(now.plus(Duration::from_millis(self.rng.between(0, 15_000))).instant())
            }
            5..9 => {
                let every = Duration::from_secs(self.rng.between(1, 8));
                let phase = Duration::from_millis(self.rng.between(0, 1_000));
                Schedule::Every(Every::new(every, phase).expect("at least a second"))
            }
            _ => {
                let text = format!("*/{} * * * * *", self.rng.between(2, 20));
                let cron =
                    Cron::parse(&text, Dialect::Crontab, Zone::UTC, Gap::After, Fold::First, 0);
                Schedule::Cron(cron.expect("a good expression"))
            }
        }
    }

    fn replace(&mut self, current: &Task, version: &NewVersion) {
        // Those of a task that moves are of the life that ends.
        let ulids = match version.moved {
            true => self.truth.pending_triggers(&current.spec.name),
            false => Vec::new(),
        };
        let mut version = version.clone();
        if self.broken == Some(Break::NoPrior) {
            version.prior.clear();
        }
        let epoch = self.epochs.epoch();
        if let Ok(txn) = tasks::replace(&self.keys, current, &version, epoch, &ulids) {
            let _ = self.etcd.call(&Request::Txn(txn), self.now);
        }
    }

    fn edit(&mut self, living: &[Task]) {
        let Some(current) = self.rng.pick(living).cloned() else { return };
        let mut spec = self.spec(current.spec.name.clone());
        spec.paused = current.spec.paused;
        spec.delivery = current.spec.delivery;
        if !self.moves() {
            spec.placement = current.spec.placement.clone();
        }
        self.fit_edit(&current, &mut spec);
        if self.close_edits && self.rng.chance(500) {
            // The same instants, due at another time.
            let (jitter, broadcast) = (spec.jitter, spec.broadcast);
            spec = Spec { jitter, broadcast, ..current.spec.clone() };
        }
        // Walks that are kept know no such edit.
        let was = current.spec.one_shot_at().is_some();
        if spec.one_shot_at().is_some() != was && !self.pins {
            return;
        }
        let marks = self.known_marks(&current);
        if let Ok(Some(version)) = task::replace(&current, spec, self.asked_at(), marks) {
            self.replace(&current, &version);
            self.edit_again(&current.spec.name);
        }
    }

    /// An edit may follow at once, of the schedule or of anything else.
    fn edit_again(&mut self, name: &TaskName) {
        if !self.close_edits || !self.rng.chance(400) {
            return;
        }
        self.changed();
        let Some(current) = self.truth.living().into_iter().find(|task| task.spec.name == *name)
        else {
            return;
        };
        let mut spec = current.spec.clone();
        match self.rng.chance(500) {
            true => spec.description.push('.'),
            false => spec.jitter = self.jitter(),
        }
        let marks = self.known_marks(&current);
        if let Ok(Some(version)) = task::replace(&current, spec, self.asked_at(), marks) {
            self.replace(&current, &version);
        }
    }

    /// Whether an edit moves its task; walks without pins have nowhere to move one.
    fn moves(&mut self) -> bool {
        self.pins && self.rng.chance(200)
    }

    fn pause_or_resume(&mut self, living: &[Task]) {
        let Some(current) = self.rng.pick(living).cloned() else { return };
        let (now, marks) = (self.asked_at(), self.known_marks(&current));
        let version = match current.spec.paused {
            true => task::resume(&current, now, marks),
            false => task::pause(&current, now, marks),
        };
        if let Ok(Some(version)) = version {
            self.replace(&current, &version);
        }
    }

    /// What a coordinator knows of the ledger of a task's range, which may not be the newest.
    fn known_marks(&mut self, task: &Task) -> Marks {
        let behind = *self.rng.pick(&[0, 0, 1, 5]).expect("there are some");
        // What only one host can run is known to it alone.
        let home = Home::of_task(task, &self.keys).filter(|home| home.local().is_none());
        let ledgers = home.and_then(|home| self.truth.ledgers.get(&home));
        let ledgers = ledgers.map_or(&[][..], Vec::as_slice);
        // One that was started after etcd was put back knows none of before.
        let since = self.truth.put_back.map_or(0, |(_, back)| back);
        let mut known = ledgers.iter().rev().filter(|(at, _)| *at >= since);
        let known = known.nth(behind);
        known.map_or(Marks::NONE, |(_, ledger)| ledger.done_with())
    }

    fn delete(&mut self, living: &[Task]) {
        let Some(current) = self.rng.pick(living).cloned() else { return };
        let ulids = self.truth.pending_triggers(&current.spec.name);
        let txn = tasks::delete(&self.keys, &current, &ulids);
        let _ = self.etcd.call(&Request::Txn(txn), self.now);
    }

    fn trigger(&mut self, living: &[Task]) {
        let Some(current) = self.rng.pick(living).cloned() else { return };
        // Coordinators refuse it of what every agent runs.
        if current.spec.placement.every_agent().is_some() {
            return;
        }
        let ulid = u128::from(self.rng.next()) << 16;
        let trigger = Trigger { payload: None, created_at: self.asked_at(), request: None };
        if let Ok(txn) = triggers::create(&self.keys, &current, ulid, &trigger) {
            let _ = self.etcd.call(&Request::Txn(txn), self.now);
        }
    }
}
