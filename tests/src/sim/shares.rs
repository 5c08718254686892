//! Tasks of every agent: what the client asks for, which hosts have a share of what, and what is
//! held of shares beside all that is held of runs. Only walks with such tasks draw any chance here.
//!
//! A host has a share of an instant for certain while every version that was the newest around it
//! selects every label that the host had around it, and its store was born before. Whether it was
//! there at the time does not matter: once it is back the instant comes to something.

use std::collections::BTreeMap;
use std::time::Duration;

use tocktower_core::ids::{AgentName, Incarnation, PoolName, RangeId, RunKey};
use tocktower_core::schedule::Schedule;
use tocktower_core::task::{Broadcast, CatchUpPolicy, Placement, Spec, Task};
use tocktower_core::time::{Instant, Wall};

use super::check::Expected;
use super::checker::Checker;
use super::home::{Home, host_of};
use super::rng::Rng;
use super::truth::{Life, Started};
use super::world::{SECOND, World};

/// A watch tells of a change within this, and a process that begins lists what there is and is sure
/// of its clock.
const TOLD: u64 = 3 * SECOND + SECOND / 10;
/// What is written is on disk for good after this.
const SYNCED: u64 = 3 * SECOND;
/// What was due so long before an edit has been decided when it comes, in calm.
const DECIDED: u64 = 2 * SECOND;

pub type Labels = BTreeMap<String, String>;

const ROLES: [&str; 2] = ["web", "db"];

fn role(name: &str) -> Labels {
    BTreeMap::from([("role".to_owned(), name.to_owned())])
}

/// When a store began to know of its host's share, and with which revision of the shared state.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Birth {
    pub at: u64,
    pub born: Wall,
    pub listed: Incarnation,
}

/// What a host is to tasks of every agent.
#[derive(Debug, Default)]
pub struct Member {
    pub boots: Vec<u64>,
    /// When each of its processes ended.
    pub stops: Vec<u64>,
    /// When the process ended after which it lost power: from then on nothing was synced.
    power_cuts: Vec<u64>,
    /// Its labels, each since when.
    labels: Vec<(u64, Labels)>,
    births: Vec<Birth>,
}

impl Member {
    pub fn note_power_cut(&mut self) {
        self.power_cuts.push(self.stops.last().copied().unwrap_or_default());
    }

    /// Whether the process that began then ended before it was sure of its clock, and so may have
    /// decided nothing.
    fn ends_soon(&self, boot: u64) -> bool {
        let stop = self.stops.iter().find(|stop| **stop >= boot);
        stop.is_some_and(|stop| *stop < boot + TOLD)
    }

    pub fn labels(&self) -> Labels {
        self.labels.last().map_or_else(Labels::default, |(_, labels)| labels.clone())
    }

    /// The labels that it had at some time from `from` to `until`.
    fn labels_within(&self, from: u64, until: u64) -> impl Iterator<Item = &Labels> {
        within(&self.labels, from, until)
    }

    fn booted_before(&self, at: u64) -> u64 {
        self.boots.iter().rev().find(|boot| **boot <= at).copied().unwrap_or(0)
    }

    fn born_before(&self, at: u64) -> Option<&Birth> {
        self.births.iter().rev().find(|birth| birth.at <= at)
    }
}

/// Of what changed at certain times, all that counted at some moment from `from` to `until`.
fn within<T>(changes: &[(u64, T)], from: u64, until: u64) -> impl Iterator<Item = &T> {
    let first = changes.partition_point(|(at, _)| *at <= from).saturating_sub(1);
    changes[first..].iter().take_while(move |(at, _)| *at <= until).map(|(_, change)| change)
}

impl World {
    /// Every host begins with labels, and some tasks are of every agent from now on.
    pub fn share_tasks(&mut self) {
        self.shares = true;
        for (number, host) in self.hosts.iter_mut().enumerate() {
            host.store.shares = true;
            host.member.labels.push((0, role(ROLES[number % ROLES.len()])));
        }
    }

    /// A process begins. Where hosts fail, somebody gives one of them other labels now and then.
    pub(super) fn enter(&mut self, host: usize) {
        let member = &mut self.hosts[host].member;
        let again = !member.boots.is_empty();
        member.boots.push(self.now);
        if self.shares && self.relabels && again && self.rng.chance(150) {
            let labels = role(self.rng.pick(&ROLES).expect("there are some"));
            self.truth.note(self.now, || format!("h{host} has {labels:?}"));
            member.labels.push((self.now, labels));
        }
    }

    /// Whether the store of a host has begun anew with its share.
    pub(super) fn note_birth(&mut self, host: usize) {
        let at = &mut self.hosts[host];
        let Some((born, listed)) = at.store.born(RangeId::BROADCAST) else { return };
        let listed = Incarnation { epoch: self.epochs.epoch(), revision: listed };
        let newest = at.member.births.last();
        if newest.is_none_or(|birth| (birth.born, birth.listed.revision) != (born, listed.revision))
        {
            self.truth.note(self.now, || format!("h{host} has shares from {born:?} on"));
            at.member.births.push(Birth { at: self.now, born, listed });
        }
    }

    /// What every agent runs recurs, and says which agents that are.
    pub(super) fn fit_every_agent(&mut self, spec: &mut Spec) {
        if spec.placement.every_agent().is_none() {
            spec.broadcast = Broadcast::default();
            return;
        }
        spec.broadcast = broadcast(&mut self.rng);
        while matches!(spec.schedules[0], Schedule::At(_)) {
            spec.schedules = vec![self.schedule(self.wall())];
            let policies = [CatchUpPolicy::None, CatchUpPolicy::Latest, CatchUpPolicy::All];
            spec.catch_up.policy = *self.rng.pick(&policies).expect("there are some");
        }
    }

    /// An edit may leave all but the share as it is, or all but the labels.
    pub(super) fn fit_edit(&mut self, current: &Task, spec: &mut Spec) {
        self.fit_every_agent(spec);
        let shared = spec.placement.every_agent().is_some();
        if !shared || spec.placement != current.spec.placement || self.rng.chance(500) {
            return;
        }
        *spec = Spec { broadcast: spec.broadcast.clone(), ..current.spec.clone() };
        if self.rng.chance(500) {
            spec.broadcast.splay = current.spec.broadcast.splay;
        }
    }

    /// Where a task of every agent runs, if this is to be one.
    pub(super) fn every_agent(&mut self) -> Option<Placement> {
        let pool = PoolName::parse("default").expect("a good name");
        (self.shares && self.rng.chance(300)).then_some(Placement::EveryAgent(pool))
    }

    /// Whose shares of a task there are; one that is not for every agent is nobody's.
    pub(super) fn sharers(&self, task: &Task) -> Vec<Option<AgentName>> {
        match task.spec.placement.every_agent() {
            Some(_) => self.hosts.iter().map(|host| Some(host.name.clone())).collect(),
            None => vec![None],
        }
    }

    /// Whether this agent has a share of an instant for certain. `slack`: how far around it an edit
    /// may count.
    pub(super) fn has_share(
        &self,
        agent: &AgentName,
        life: &Life,
        (instant, due): (Instant, Wall),
        slack: u64,
    ) -> bool {
        let member = &self.hosts[host_of(agent)].member;
        let from = self.true_us(instant.wall()).saturating_sub(slack);
        let until = self.true_us(due) + slack;
        let selects = |task: &Task| {
            member.labels_within(from, until).all(|labels| task.spec.broadcast.selects(labels))
        };
        let born = member.births.last().is_some_and(|birth| birth.born.instant() < due.instant());
        born && within(&life.versions, from, until).all(|task| selects(task))
    }

    /// When the host that started it could know of what was changed at `at`.
    pub(super) fn told(&self, start: &Started, at: u64) -> u64 {
        match self.truth.home_of(&start.run, &self.keys) {
            Home::Range(_) => at,
            // Who is cut off does not learn of it.
            Home::Pins(_) => at.max(self.pins_told_by),
            Home::Shares(_) if self.cut_off => at.max(self.pins_told_by),
            Home::Shares(host) => at.max(self.hosts[host].member.booted_before(start.at)),
        }
    }

    /// What holds of shares alone: each is of an agent that its task selects, none is from before
    /// its host came, and splay is kept.
    pub(super) fn check_shares(&mut self, expected: &[Expected], calm: bool) {
        let certain: BTreeMap<_, _> =
            expected.iter().filter(|e| !e.uncertain).map(|e| (&e.run, e)).collect();
        let mut wrong = Vec::new();
        for start in self.truth.starts.iter().filter(|start| start.run.agent.is_some()) {
            let key = (start.run.task.clone(), start.run.incarnation);
            let Some(life) = self.truth.lives.get(&key) else { continue };
            if !self.is_selected(start, life) {
                wrong.push((start.at, format!("{} started, and is not selected", start.run)));
            }
            if self.was_before_birth(start) {
                wrong.push((start.at, format!("{} was due before its host came", start.run)));
            }
            if calm && self.was_before_selected(start, life) {
                wrong.push((start.at, format!("{} was due before it was selected", start.run)));
            }
            // The version before may start it until its host has been told.
            let early = |e: &&Expected| start.asked < e.due && start.at > e.put_at + TOLD;
            if certain.get(&start.run).copied().is_some_and(|e| early(&e)) {
                wrong.push((start.at, format!("{} started before its share's time", start.run)));
            }
        }
        for (at, text) in wrong {
            self.truth.violation(Checker::Phantom, at, text);
        }
    }

    /// Whether a version that its host could still go by selects it.
    fn is_selected(&self, start: &Started, life: &Life) -> bool {
        let from = start.at.saturating_sub(TOLD);
        let from = if from > self.told(start, 0) { from } else { 0 };
        let mut labels = self.hosts[start.host].member.labels_within(start.at, start.at);
        let Some(labels) = labels.next() else { return false };
        within(&life.versions, from, start.at).any(|task| task.spec.broadcast.selects(labels))
    }

    /// A power cut took what tells of it, and when its host came back its task was no business of
    /// it any more: nobody can say that it ran. A process in between that ended too soon to decide
    /// does not count. Nor can anybody say so where the edit that made it its business was so young
    /// that the cut took that as well.
    pub(super) fn is_forgotten(&self, start: &Started, life: &Life) -> bool {
        let member = &self.hosts[start.host].member;
        let shared = matches!(self.truth.home_of(&start.run, &self.keys), Home::Shares(_));
        let ends = self.truth.ends.get(&start.run).into_iter().flatten().map(|(_, at)| *at);
        let told = ends.chain([start.at]).filter(|at| *at >= start.at);
        // Where it was synced nothing of it is taken.
        let taken = |stop: &&u64| told.clone().any(|at| at <= **stop && **stop < at + SYNCED);
        let mut cuts = member.power_cuts.iter().filter(taken).flat_map(|stop| {
            let boots = &member.boots[member.boots.partition_point(|boot| boot <= stop)..];
            let short = boots.iter().take_while(|boot| member.ends_soon(**boot)).count();
            boots.iter().take(short + 1).map(|boot| (*stop, *boot))
        });
        shared
            && cuts.any(|(stop, boot)| {
                let from = start.at.min(stop.saturating_sub(SYNCED));
                let selects = |labels: &Labels| {
                    within(&life.versions, from, boot + TOLD)
                        .all(|task| task.spec.broadcast.selects(labels))
                };
                !member.labels_within(boot, boot).all(selects)
            })
    }

    /// What was due before a host's store was born is covered from the first.
    fn was_before_birth(&self, start: &Started) -> bool {
        let Some(birth) = self.hosts[start.host].member.born_before(start.at) else { return true };
        let listed = start.run.incarnation <= birth.listed;
        listed && start.due.instant() <= birth.born.instant()
    }

    /// In calm an edit that selects a host counts from then on.
    fn was_before_selected(&self, start: &Started, life: &Life) -> bool {
        let labels = self.hosts[start.host].member.labels();
        let left_out = |task: &Task| !task.spec.broadcast.selects(&labels);
        let known = life.versions.partition_point(|(at, _)| *at <= start.at);
        let before = life.versions[..known].iter().rposition(|(_, task)| left_out(task));
        let Some((at, _)) = before.and_then(|before| life.versions.get(before + 1)) else {
            return false;
        };
        let instant = matches!(start.run.run, RunKey::Instant(_));
        instant && *at <= start.at && self.true_us(start.due) + DECIDED < *at
    }
}

fn broadcast(rng: &mut Rng) -> Broadcast {
    let labels = match rng.between(0, 10) {
        0..5 => Labels::default(),
        5..8 => role(ROLES[0]),
        _ => role(ROLES[1]),
    };
    let splay = *rng.pick(&[0, 0, 700, 3_000, 20_000]).expect("there are some");
    Broadcast { labels, splay: Duration::from_millis(splay) }
}
