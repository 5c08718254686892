//! Who decides about a task: the holder of its range, or the host that it is pinned to.

use tocktower_cluster::keys::Keys;
use tocktower_core::ids::{AgentName, RangeId, RunId, RunKey};
use tocktower_core::task::Task;

use super::truth::{Life, Truth};

/// Whose ledger tells of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Home {
    Range(RangeId),
    /// What is pinned to this host.
    Pins(usize),
}

impl Home {
    pub fn of_task(task: &Task, keys: &Keys) -> Home {
        match task.spec.placement.agent() {
            Some(agent) => Home::Pins(host_of(agent)),
            None => Home::Range(keys.ranges().range_of(&task.spec.name)),
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
            let of_it = asked.is_some_and(|(at, _)| begun.is_some_and(|begun| begun <= *at));
            *name == run.task && (run.incarnation == *incarnation || of_it)
        });
        life.map(|(_, life)| life)
    }

    pub fn home_of(&self, run: &RunId, keys: &Keys) -> Home {
        let newest = self.life_of(run).and_then(|life| life.versions.last());
        newest.map_or_else(
            || Home::Range(keys.ranges().range_of(&run.task)),
            |(_, task)| Home::of_task(task, keys),
        )
    }
}
