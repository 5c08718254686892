//! Where a task runs, and so where its keys lie: with whichever agent of a pool holds its range, or
//! with one agent by name. A change from one to the other is a delete and a create.

use std::fmt;

use crate::ids::{AgentName, PoolName};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Placement {
    /// Any agent of this pool.
    Pool(PoolName),
    /// This agent and no other: pinned.
    Agent(AgentName),
}

impl Placement {
    pub fn pool(&self) -> Option<&PoolName> {
        match self {
            Placement::Pool(pool) => Some(pool),
            Placement::Agent(_) => None,
        }
    }

    pub fn agent(&self) -> Option<&AgentName> {
        match self {
            Placement::Pool(_) => None,
            Placement::Agent(agent) => Some(agent),
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
        }
    }
}
