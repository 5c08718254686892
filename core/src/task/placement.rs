//! Where a task runs, and so where its keys lie: with whichever agent of a pool holds its range,
//! with one agent by name, or with every agent of a pool that it selects. A change from one to
//! another is a delete and a create.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::ids::{AgentName, PoolName};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Placement {
    /// Any agent of this pool.
    Pool(PoolName),
    /// This agent and no other: pinned.
    Agent(AgentName),
    /// Every agent of this pool that the task's `Broadcast` selects, each its own share: broadcast.
    EveryAgent(PoolName),
}

/// Of a task of every agent: which agents have a share of it, and over how long their starts are
/// spread. It is no part of the placement: an edit of it is an edit like others, and no move.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Broadcast {
    /// All of them must be among the agent's, with these values. Empty: every agent of the pool.
    pub labels: BTreeMap<String, String>,
    /// Each agent starts later by a share of this that is fixed for (task, agent).
    pub splay: Duration,
}

impl Broadcast {
    /// Whether an agent with these labels has a share of the task.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl Placement {
    pub fn pool(&self) -> Option<&PoolName> {
        match self {
            Placement::Pool(pool) => Some(pool),
            Placement::Agent(_) | Placement::EveryAgent(_) => None,
        }
    }

    pub fn agent(&self) -> Option<&AgentName> {
        match self {
            Placement::Agent(agent) => Some(agent),
            Placement::Pool(_) | Placement::EveryAgent(_) => None,
        }
    }

    /// The pool, every agent of which may have a share.
    pub fn every_agent(&self) -> Option<&PoolName> {
        match self {
            Placement::EveryAgent(pool) => Some(pool),
            Placement::Pool(_) | Placement::Agent(_) => None,
        }
    }
}

impl From<PoolName> for Placement {
    fn from(pool: PoolName) -> Placement {
        Placement::Pool(pool)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Placement::Pool(pool) => write!(f, "pool {pool}"),
            Placement::Agent(agent) => write!(f, "agent {agent}"),
            Placement::EveryAgent(pool) => write!(f, "every agent of pool {pool}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_agent_is_selected_that_has_all_of_the_labels() {
        let web = labels(&[("role", "web"), ("zone", "a")]);
        let web = Broadcast { labels: web, splay: Duration::ZERO };
        assert!(web.selects(&labels(&[("role", "web"), ("zone", "a"), ("os", "debian")])));
        for other in [&[][..], &[("role", "web")], &[("role", "web"), ("zone", "")]] {
            assert!(!web.selects(&labels(other)), "{other:?}");
        }
        assert!(Broadcast::default().selects(&labels(&[])), "no label: all of the pool");
    }
}
