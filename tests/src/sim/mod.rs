//! The simulator: the real core, the real operations on the shared state and the real driver, in a
//! world of models, on one thread, with time moved by hand. One seed is one walk, byte for byte.
//!
//! A walk has a busy part with tasks and faults, then everything is healed, then it is checked.
//! The class of a seed says what may go wrong in it, so that calm walks are held to calm rules.

mod alive;
mod breaks;
mod check;
mod checker;
mod client;
mod clocks;
mod copies;
mod epochs;
mod etcd;
mod fault;
mod followers;
mod home;
mod late;
mod names;
mod retries;
mod rng;
mod shares;
mod store;
mod truth;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

pub use breaks::Break;
pub use checker::{Checker, Violation};
use fault::{Act, Fault};
use home::Home;
use rng::Rng;
use tocktower_cluster::duty::Ask;
use world::{SECOND, World};

const HOSTS: usize = 4;
const BUSY: u64 = 40 * SECOND;
const HEALED: u64 = 45 * SECOND;
const END: u64 = 75 * SECOND;
/// How long the watch of what is pinned may bring nothing before it is opened again: a beat, and
/// what it may owe that.
const PINS_SILENT: u64 = 40 * SECOND;
/// Watches that fall silent, in walks where anything may.
const HUSHED: usize = 2;
/// Tasks of a crowd: with 50 places and 8 ranges, some 200 runs of a range wait.
const CROWD: usize = 2_000;
/// How old a revision is that coordinators compact to, and what the broken rule takes for that.
const OLD: u64 = 60 * SECOND;
const YOUNG: u64 = 5 * SECOND;
/// A walk in which watches lag: its busy part, and its end.
const LAG_BUSY: u64 = 200 * SECOND;
const LAG_END: u64 = 230 * SECOND;
/// The end of a walk in which nobody looks after etcd but the agents.
const LONG_END: u64 = 1_200 * SECOND;

/// What a walk came to.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub class: Class,
    pub starts: usize,
    /// Those of what is pinned.
    pub pinned: usize,
    /// Those of shares of tasks of every agent.
    pub shares: usize,
    /// Ends that were asked for before their rows could be read, and ends that were called settled.
    pub ends: (usize, usize),
    /// When agents compacted etcd, in seconds.
    pub compactions: Vec<u64>,
    /// Hosts that were killed once they were drained.
    pub stopped_drained: usize,
    /// Processes that went on with the session of the one before.
    pub adopted: usize,
    /// Faults by kind, those of hosts that were up.
    pub faults: BTreeMap<String, usize>,
    /// Copies that stood by at the end.
    pub standbys: usize,
    pub violations: Vec<Violation>,
    /// A hash of everything that happened: the same for the same seed.
    pub digest: u64,
    pub trace: Vec<String>,
}

/// What may go wrong in a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Calm,
    /// Agents come and go by hand-off.
    Moves,
    Crashes,
    Cuts,
    Everything,
}

impl Class {
    fn of(seed: u64) -> Class {
        match seed % 5 {
            0 => Class::Calm,
            1 => Class::Moves,
            2 => Class::Crashes,
            3 => Class::Cuts,
            _ => Class::Everything,
        }
    }
}

/// Walks before this one know no edits in a row; those of them that found something are kept.
pub const CLOSE_EDITS_FROM: u64 = 200_000_000;

/// In walks from this one on the monotonic clocks of hosts drift.
pub const DRIFTS_FROM: u64 = 400_000_000;

/// In walks from this one on the clocks of coordinators are off, too, but in lagging ones.
pub const COORDINATORS_OFF_FROM: u64 = 550_000_000;

/// Where the tasks of a walk run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tasks {
    /// With whoever holds their range.
    Pooled,
    /// Every other one is pinned to a host.
    Pinned,
    /// As these, and some are of every agent.
    Broadcast,
}

/// Walks one seed.
pub fn walk(seed: u64, tasks: Tasks, broken: Option<Break>) -> Report {
    walk_noted(seed, tasks, broken, false)
}

/// As [`walk`], with what happened noted for people if `trace`.
pub fn walk_noted(seed: u64, tasks: Tasks, broken: Option<Break>, trace: bool) -> Report {
    let class = Class::of(seed);
    let mut world = World::new(seed, HOSTS, broken);
    world.pins = tasks != Tasks::Pooled;
    world.close_edits = seed >= CLOSE_EDITS_FROM;
    if seed >= DRIFTS_FROM {
        world.drift_clocks(seed);
    }
    if seed >= COORDINATORS_OFF_FROM {
        world.set_coordinators_off(seed);
    }
    if tasks == Tasks::Broadcast {
        world.share_tasks();
    }
    world.truth.trace = trace.then(Vec::new);
    for host in 0..HOSTS - 1 {
        world.start_host(host, u64::try_from(host).expect("few") * SECOND / 10);
    }
    for (at, fault) in faults(&mut Rng::new(seed ^ 0x00fa_0175), class) {
        world.add_fault(at, fault);
    }
    if (seed / 5) % 3 == 2 {
        for (at, fault) in failing_disks_and_etcd(&mut Rng::new(seed ^ 0x0be7_7e12), class) {
            world.add_fault(at, fault);
        }
    }
    if world.shares && class == Class::Everything && (seed / 5).is_multiple_of(2) {
        world.restore();
    }
    world.run_clients(BUSY);
    let calm = matches!(class, Class::Calm | Class::Moves);
    world.cut_off = matches!(class, Class::Cuts | Class::Everything);
    // Watches may fall silent, which those of what is pinned may do for longest.
    let hushed = world.pins && world.cut_off;
    world.straggles = !calm;
    world.relabels = !calm;
    if !calm && seed.is_multiple_of(2) {
        world.stretch_clocks();
    }
    world.pins_silent = if hushed { PINS_SILENT } else { 0 };
    let healed = HEALED + world.pins_silent;
    world.pins_told_by = healed + 5 * SECOND;
    let end = healed + (END - HEALED);
    world.run(end);
    world.note_state();
    world.check(calm, healed, end - 15 * SECOND);
    world.report(seed, class)
}

/// When the last start was of two tasks that are pinned to a host, counted from the moment at which
/// all of its watches fell silent.
#[derive(Debug)]
pub struct Hushed {
    /// Of one that was deleted at that moment.
    pub deleted: Duration,
    /// Of one that stays.
    pub stays: Duration,
    pub violations: Vec<Violation>,
}

/// Walks one host whose watches fall silent, for a minute after that.
pub fn walk_hushed(seed: u64) -> Hushed {
    let (deleted, stays) = ("pins/deleted", "pins/stays");
    let mut world = World::new(seed, HOSTS, None);
    world.create_pinned(&[deleted, stays]);
    world.start_host(0, 0);
    let silent_at = Rng::new(seed ^ 0x00fa_0175).between(15 * SECOND, 25 * SECOND);
    world.run(silent_at);
    world.hush_all(0);
    world.delete_named(deleted);
    world.run(silent_at + 60 * SECOND);
    let last = |task: &str| {
        let of = |start: &&truth::Started| start.run.task.to_string() == task;
        let last = world.truth.starts.iter().filter(of).map(|start| start.at).max();
        Duration::from_micros(last.map_or(0, |at| at.saturating_sub(silent_at)))
    };
    let (deleted, stays) = (last(deleted), last(stays));
    Hushed { deleted, stays, violations: std::mem::take(&mut world.truth.violations) }
}

/// Walks one host with far more due at a time than it can run: ledgers become large.
pub fn walk_crowd(seed: u64) -> Report {
    let mut world = World::new(seed, HOSTS, None);
    world.create_crowd(CROWD);
    world.start_host(0, 0);
    world.run(END);
    world.check(false, END, END - 15 * SECOND);
    world.report(seed, Class::Calm)
}

/// Walks a fleet whose processes stand still for longer than revisions are kept, on an etcd that
/// skips events without a word for a watch that is behind a compaction (W4).
pub fn walk_lagging(seed: u64, broken: Option<Break>, trace: bool) -> Report {
    let mut world = World::new(seed, HOSTS, broken);
    world.truth.trace = trace.then(Vec::new);
    world.skips = true;
    if seed >= DRIFTS_FROM {
        world.drift_clocks(seed);
    }
    let mut rng = Rng::new(seed ^ 0x00fa_0175);
    for host in 0..HOSTS {
        world.start_host(host, u64::try_from(host).expect("few") * SECOND / 10);
        // One that ends within the walk, and leaves time for events that are not skipped.
        let (at, for_us) = (rng.between(10 * SECOND, 80 * SECOND), rng.between(10, 110) * SECOND);
        // Somebody is always there to decide what is due.
        if host > 0 {
            world.add_fault(at, Fault::Pause { host, for_us });
        }
    }
    let age_us = if broken == Some(Break::CompactYoung) { YOUNG } else { OLD };
    for second in (20..220).step_by(5) {
        world.add_fault(second * SECOND, Fault::CompactOld { age_us });
    }
    world.run_clients(LAG_BUSY);
    world.run(LAG_END);
    world.check(false, LAG_BUSY, LAG_BUSY);
    world.report(seed, Class::Cuts)
}

/// Walks a fleet that is left to itself for twenty minutes. There is never a coordinator in these
/// worlds; what a walk of this length shows is that etcd does not grow without one. Hosts stand
/// still now and then, for longer than what is compacted to must be old.
pub fn walk_long(seed: u64) -> Report {
    let mut world = World::new(seed, HOSTS, None);
    let mut rng = Rng::new(seed ^ 0x00fa_0175);
    for host in 0..HOSTS {
        world.start_host(host, u64::try_from(host).expect("few") * SECOND / 10);
        for _ in 0..4 {
            let (at, for_us) = (rng.between(BUSY, LONG_END), rng.between(SECOND, 150 * SECOND));
            world.add_fault(at, Fault::Pause { host, for_us });
        }
    }
    world.run_clients(BUSY);
    world.run(LONG_END);
    world.report(seed, Class::Cuts)
}

fn faults(rng: &mut Rng, class: Class) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let count = match class {
        Class::Calm => 0,
        Class::Moves => 4,
        Class::Crashes | Class::Cuts => 5,
        Class::Everything => 10,
    };
    for _ in 0..count {
        let at = rng.between(5 * SECOND, BUSY);
        faults.push((at, fault(rng, class)));
    }
    if matches!(class, Class::Cuts | Class::Everything) {
        for _ in 0..HUSHED {
            let host = usize::try_from(rng.between(0, 4)).expect("few");
            faults.push((rng.between(5 * SECOND, HEALED), Fault::Hush { host }));
        }
    }
    // Whatever was down or away comes back.
    for host in 0..HOSTS {
        if class != Class::Calm {
            faults.push((HEALED, Fault::Join { host }));
            faults.push((HEALED, Fault::ClockSet { host }));
            faults.push((HEALED, Fault::Operator { host, act: Act::Uncordon }));
        }
    }
    faults
}

/// In one of three walks, beside the others: by numbers of their own, so that all other walks are
/// as they were before there were these.
fn failing_disks_and_etcd(rng: &mut Rng, class: Class) -> Vec<(u64, Fault)> {
    let count = match class {
        Class::Calm | Class::Moves | Class::Cuts => 0,
        Class::Crashes => 2,
        Class::Everything => 4,
    };
    let mut faults = Vec::new();
    for _ in 0..count {
        let (at, for_us) = (rng.between(5 * SECOND, BUSY), rng.between(SECOND, 5 * SECOND));
        let host = usize::try_from(rng.between(0, 4)).expect("few");
        let lost = rng.chance(500);
        let disk = Fault::DiskFails { host, back_after: for_us, lost };
        let fault = match (class, rng.between(0, 3)) {
            (Class::Everything, 0) => Fault::NoSpace { for_us },
            (Class::Everything, 1) => Fault::DeadLease { for_us },
            _ => disk,
        };
        faults.push((at, fault));
    }
    faults
}

fn fault(rng: &mut Rng, class: Class) -> Fault {
    let host = usize::try_from(rng.between(0, 4)).expect("few");
    let back_after = rng.between(SECOND / 10, 8 * SECOND);
    let for_us = rng.between(SECOND / 10, 9 * SECOND);
    match (class, rng.between(0, 10)) {
        (Class::Calm, _) => unreachable!("calm walks have no faults"),
        (Class::Moves, 0..3) => Fault::Leave { host, back_after: back_after + 5 * SECOND },
        (Class::Moves, 3..6) => {
            let ask = if rng.chance(250) { Ask::Cordon } else { Ask::Drain };
            Fault::Operator { host, act: Act::Ask { ask, for_us: for_us + 3 * SECOND } }
        }
        (Class::Moves, 6..8) => Fault::DiskLow { host, for_us: for_us + SECOND },
        (Class::Moves, _) => Fault::Join { host },
        (Class::Crashes, 0..7) => Fault::Crash { host, back_after, power: rng.chance(500) },
        (Class::Crashes, _) => Fault::Leave { host, back_after },
        (Class::Cuts, 0..4) => Fault::Pause { host, for_us },
        (Class::Cuts, 4..7) => Fault::Cut { host, for_us },
        (Class::Cuts, _) => Fault::Deaf { host, for_us },
        (Class::Everything, kind) => match kind {
            0 => Fault::Crash { host, back_after, power: rng.chance(500) },
            1 => Fault::Pause { host, for_us },
            2 => Fault::Cut { host, for_us },
            3 if rng.chance(500) => Fault::Leave { host, back_after },
            3 => {
                let ask = if rng.chance(250) { Ask::Cordon } else { Ask::Drain };
                Fault::Operator { host, act: Act::Ask { ask, for_us } }
            }
            4 => Fault::Compact,
            5 => Fault::RevokeLease,
            6 => Fault::LeaderChange,
            7 => Fault::EndWatches { host },
            8 => Fault::EtcdDown { for_us },
            _ => {
                let far = if rng.chance(300) { 90 } else { 3 };
                let by = i64::try_from(rng.between(0, 2 * far * SECOND)).expect("small");
                let far = i64::try_from(far * SECOND).expect("small");
                Fault::ClockJump { host, by_us: by - far }
            }
        },
    }
}

impl World {
    fn report(&mut self, seed: u64, class: Class) -> Report {
        let standbys = self.check_copies();
        let digest = self.digest();
        let violations = std::mem::take(&mut self.truth.violations);
        let trace = self.truth.trace.take().unwrap_or_default();
        let compactions = self.truth.compactions.iter().map(|at| at / SECOND).collect();
        let starts = self.truth.starts.len();
        let homes = self.truth.starts.iter().map(|at| self.truth.home_of(&at.run, &self.keys));
        let homes: Vec<Home> = homes.collect();
        let pinned = homes.iter().filter(|home| matches!(home, Home::Pins(_))).count();
        let shares = homes.iter().filter(|home| matches!(home, Home::Shares(_))).count();
        let ends = (self.truth.ends_asked_for, self.truth.announced.len());
        let (stopped_drained, adopted) = (self.truth.stopped_drained, self.truth.adopted);
        Report {
            seed,
            class,
            starts,
            pinned,
            shares,
            ends,
            compactions,
            stopped_drained,
            adopted,
            faults: std::mem::take(&mut self.truth.faults),
            standbys,
            violations,
            digest,
            trace,
        }
    }

    fn digest(&self) -> u64 {
        let text = format!("{:?}{:?}{:?}", self.truth.starts, self.truth.ends, self.truth.ledgers);
        tocktower_core::hash::hash_parts(&[text.as_bytes()])
    }
}
