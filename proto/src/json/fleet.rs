//! Agents, pools and ranges in JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The daemon on a host.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Agent {
    pub name: String,
    pub pool: String,
    pub labels: BTreeMap<String, String>,
    /// Its share of the ranges against others; 0: none.
    pub weight: u32,
    /// The coordinator that answers has a link to it.
    pub connected: bool,
    pub version: String,
    /// Of its time zone database.
    pub tz_version: String,
    /// `null`: it has no session, so it is down or cut off.
    pub session: Option<i64>,
    /// When the session began.
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// Since when it has had no session, where that is known.
    #[schema(format = DateTime)]
    pub absent_since: Option<String>,
    pub counts: RunCounts,
    /// How far its clock is ahead of the coordinator's.
    pub clock_offset_us: Option<i64>,
    /// Time since the due of the oldest run that is due and not started.
    pub oldest_due_unstarted_ms: Option<u64>,
    pub lateness: Lateness,
    pub ranges_held: u32,
    /// Taking tasks in is slowed down, as its writes to the shared state lag.
    pub write_pressure: bool,
    /// It is asked to take no more ranges.
    pub cordoned: bool,
    /// It is asked to hand over what it holds.
    pub draining: bool,
    /// The drain is over: it holds nothing, and all that it ran of its ranges is settled. It may be
    /// stopped; what is pinned to it goes on until then.
    pub drained: bool,
    /// It keeps its ranges although it is to be drained: no other agent of its pool takes any.
    pub last_resort: bool,
    /// What it is asked to weigh in place of its configuration.
    pub weight_asked: Option<u32>,
    /// What it knows to be in the way of what comes due there for its pool, in words; `null`:
    /// nothing.
    pub in_the_way: Option<String>,
}

/// What can be changed of an agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct AgentPatch {
    /// 0 to 1,000; `null`: as it is configured.
    pub weight: Option<u32>,
}

/// Runs that are open now, and what ended since the agent started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RunCounts {
    pub running: u64,
    pub queued: u64,
    /// For a retry, or behind another run.
    pub waiting: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub timed_out: u64,
    pub cancelled: u64,
    pub lost: u64,
    pub skipped: u64,
    pub missed: u64,
}

/// Of the starts of the last minute.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Lateness {
    pub count: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

/// Agents that share tasks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Pool {
    pub name: String,
    pub agents: u32,
    pub agents_connected: u32,
    pub tasks: u64,
    pub ranges: u32,
    /// Ranges that nobody holds.
    pub ranges_vacant: u32,
}

/// A slice of the hash space: the unit of ownership within a pool.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Range {
    pub pool: String,
    /// Hexadecimal, of fixed width.
    pub id: String,
    /// `null`: nobody.
    pub holder: Option<String>,
    pub fence: Option<i64>,
    /// With whom it should be, by the ring.
    pub owner: Option<String>,
    /// Everything due up to here is done or listed.
    #[schema(format = DateTime)]
    pub ledger_through: Option<String>,
    pub open_entries: u32,
    pub tasks: u64,
    /// How long its oldest run has been due that is not decided; `null`: none for longer than a few
    /// seconds.
    pub oldest_undecided_ms: Option<u64>,
    /// Why it has not come on for so long that a person should look: `unheld`, `holder_silent`,
    /// `undecided`; `null`: it comes on.
    pub stalled: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct AgentList {
    pub items: Vec<Agent>,
    pub next_cursor: Option<String>,
    /// The shared state cannot be reached; this is what was last known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct PoolList {
    pub items: Vec<Pool>,
    pub next_cursor: Option<String>,
    /// The shared state cannot be reached; this is what was last known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RangeList {
    pub items: Vec<Range>,
    pub next_cursor: Option<String>,
    /// The shared state cannot be reached; this is what was last known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}
