//! What the loop of an agent publishes of itself.

use tocktower_core::agent::Stats;
use tocktower_core::ids::{RangeId, Session};
use tocktower_core::time::Mono;

use crate::link::EndedRuns;

/// Figures of the moment, each second.
#[derive(Clone, Debug, Default)]
pub struct AgentStats {
    /// When they were published.
    pub at: Mono,
    pub core: Stats,
    pub held: Vec<RangeId>,
    pub session: Option<Session>,
    pub ended: EndedRuns,
}
