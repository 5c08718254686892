//! Who decides about a run: the holder of its task's range, or the host that alone can run it.

use tocktower_cluster::keys::Keys;
use tocktower_core::ids::{AgentName, RangeId, RunId, RunKey};
use tocktower_core::task::{Placement, Task};

use super::truth::{Life, Truth};

/// Whose ledger tells of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Home {
    Range(RangeId),
    /// What is pinned to this host.
    Pins(usize),
    /// What this host has of tasks of every agent.
    Shares(usize),
}

impl Home {
    /// `None`: it is of every agent, and each keeps a ledger of its share.
    pub fn of_task(task: &Task, keys: &Keys) -> Option<Home> {
        match &task.spec.placement {
            Placement::Pool(_) => Some(Home::Range(keys.ranges().range_of(&task.spec.name))),
            Placement::Agent(agent) => Some(Home::Pins(host_of(agent))),
            Placement::EveryAgent(_) => None,
        }
    }

    /// What a host keeps in a local range of its own.
    pub fn of_local(range: RangeId, host: usize) -> Home {
        if range == RangeId::BROADCAST { Home::Shares(host) } else { Home::Pins(host) }
    }

    /// The host that alone knows of it, and needs nobody for it.
    pub fn local(self) -> Option<usize> {
        match self {
            Home::Range(_) => None,
            Home::Pins(host) | Home::Shares(host) => Some(host),
        }
    }
}

/// Hosts are called after their numbers.
pub fn host_of(agent: &AgentName) -> usize {
    agent.as_str()[1..].parse().expect("h and a number")
}

impl Truth {
    /// The life of a task that a run is of. A trigger is of the one in which it was asked for.
    pub fn life_of(&self, run: &RunId) -> Option<&Life> {
        let asked = match run.run {
            RunKey::Manual(ulid) => self.triggers.get(&(run.task.clone(), ulid)),
            RunKey::Instant(_) => None,
        };
        let life = self.lives.iter().rev().find(|((name, incarnation), life)| {
            let begun = life.versions.first().map(|(at, _)| *at);
            // One that was put since a backup is gone, and the one before is there again.
            let there = |at: u64| {
                begun.is_some_and(|begun| begun <= at) && life.deleted.is_none_or(|gone| at <= gone)
            };
            let of_it = asked.is_some_and(|(at, _)| there(*at));
            *name == run.task && (run.incarnation == *incarnation || of_it)
        });
        life.map(|(_, life)| life)
    }

    pub fn home_of(&self, run: &RunId, keys: &Keys) -> Home {
        if let Some(agent) = &run.agent {
            return Home::Shares(host_of(agent));
        }
        let newest = self.life_of(run).and_then(|life| life.versions.last());
        newest
            .and_then(|(_, task)| Home::of_task(task, keys))
            .unwrap_or_else(|| Home::Range(keys.ranges().range_of(&run.task)))
    }
}
