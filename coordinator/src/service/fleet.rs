//! The fleet as it stands: agents, the pools they form, and who holds which range.
//!
//! What outlives a session, the session, and what the link tells are three sources for one agent;
//! each fills what it knows. An agent that is down is still shown, with what was kept of it, until
//! it is forgotten: by hand, which is the one write here, or by time (`absence`); what operators
//! ask of those that are there is written in `duty`. Reads ask nobody: this is the catalog beside
//! the links, so it answers when nobody else does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tocktower_cluster::absence::{self, Forgot};
use tocktower_cluster::duty::duty_of;
use tocktower_cluster::port::{Answer, Port, PortError, Request, Txn};
use tocktower_core::ids::{AgentName, Fence, PoolName, RangeId, Session};
use tocktower_core::ring::{Capacity, Duty, Ring};
use tocktower_core::time::{Instant, Wall};

use super::error::FleetError;
use super::look::Read;
use crate::audit::Findings;
use crate::catalog::{Catalog, Member, State};
use crate::clock;
use crate::links::{LinkInfo, Links};

/// A write that takes longer is given up.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// How often an agent's record may change under who writes to it.
pub(super) const ROUNDS_MAX: usize = 4;

/// The fleet service. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    pub(super) catalog: Catalog,
    links: Links,
    port: Arc<dyn Port>,
    findings: Findings,
}

/// All that is known of an agent.
#[derive(Clone, Debug)]
pub struct AgentView {
    pub name: AgentName,
    pub pool: String,
    pub labels: BTreeMap<String, String>,
    pub weight: u32,
    pub version: String,
    pub tz_version: String,
    /// `None`: it has no session, so it is down or cut off.
    pub session: Option<Session>,
    pub since: Option<Wall>,
    /// Since when it has had no session, where that is known.
    pub absent_since: Option<Wall>,
    /// `None`: it has no link to this coordinator.
    pub link: Option<Arc<LinkInfo>>,
    /// By its claims.
    pub ranges_held: u32,
    /// What operators ask of it.
    pub duty: Duty,
    /// In place of the weight that it is configured with.
    pub weight_asked: Option<u32>,
    /// Its drain is over: it may be stopped.
    pub drained: bool,
    /// It is to be drained and keeps its ranges, since no other agent takes any.
    pub last_resort: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolView {
    pub name: PoolName,
    pub agents: u32,
    pub agents_connected: u32,
    pub tasks: u64,
    pub ranges: u32,
    pub ranges_vacant: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeView {
    pub pool: PoolName,
    /// Hexadecimal, of fixed width.
    pub id: String,
    pub holder: Option<AgentName>,
    pub fence: Option<Fence>,
    /// With whom it should be, by the ring.
    pub owner: Option<AgentName>,
    pub ledger_through: Option<Instant>,
    pub open_entries: u32,
    pub tasks: u64,
    /// How long its oldest run has been due that is not decided, once that is a few seconds.
    pub oldest_undecided: Option<Duration>,
    /// Why it has not come on for so long that a person should look.
    pub stalled: Option<&'static str>,
}

impl Fleet {
    pub fn new(catalog: Catalog, links: Links, port: Arc<dyn Port>, findings: Findings) -> Fleet {
        Fleet { catalog, links, port, findings }
    }

    /// All agents, or those of a pool, by name.
    pub fn agents(&self, pool: Option<&PoolName>) -> Result<Read<Vec<AgentView>>, FleetError> {
        self.ready()?;
        let links = self.linked();
        let views = self.catalog.look(|state| {
            let names: BTreeSet<&AgentName> =
                state.members.keys().chain(state.agents.keys()).chain(links.keys()).collect();
            let held = held(state);
            names.into_iter().map(|name| view(state, &links, &held, name)).collect::<Vec<_>>()
        });
        let wanted = |view: &AgentView| pool.is_none_or(|pool| view.pool == pool.as_str());
        Ok(self.read(views.into_iter().filter(wanted).collect()))
    }

    pub fn agent(&self, name: &AgentName) -> Result<Read<AgentView>, FleetError> {
        self.ready()?;
        let link = self.links.one(name);
        let links: BTreeMap<AgentName, Arc<LinkInfo>> =
            link.into_iter().map(|info| (info.agent.clone(), Arc::new(info))).collect();
        let found = self.catalog.look(|state| {
            let known = state.members.contains_key(name)
                || state.agents.contains_key(name)
                || links.contains_key(name);
            match known {
                true => Ok(view(state, &links, &held(state), name)),
                false => Err(FleetError::NotFound(name.clone())),
            }
        });
        found.map(|agent| self.read(agent))
    }

    /// Forgets an agent that is gone for good. One with a link is refused as well: it is there, and
    /// would be shown by it at once.
    pub async fn forget(&self, name: &AgentName) -> Result<(), FleetError> {
        self.ready()?;
        if self.links.has(name) {
            return Err(FleetError::Linked(name.clone()));
        }
        let known = self.catalog.look(|state| state.agents.get(name).map(|kept| kept.revision));
        let mut seen = known.unwrap_or_default();
        for _ in 0..ROUNDS_MAX {
            let txn = absence::forget(self.catalog.keys(), name, seen);
            match absence::read_forget(&self.write(txn).await?)? {
                Forgot::Done { revision } => {
                    self.catalog.forgot(name, revision);
                    tracing::info!(agent = %name, "the agent is forgotten, as was asked for");
                    return Ok(());
                }
                Forgot::NotThere => return Err(FleetError::NotFound(name.clone())),
                Forgot::Alive => return Err(FleetError::Alive(name.clone())),
                Forgot::Changed { now } => seen = now,
            }
        }
        Err(FleetError::Contended)
    }

    pub(super) async fn write(&self, txn: Txn) -> Result<Answer, PortError> {
        let answer = tokio::time::timeout(WRITE_WITHIN, self.port.call(Request::Txn(txn)));
        let late = |_| Err(PortError::Unknown(format!("no answer within {WRITE_WITHIN:?}")));
        answer.await.unwrap_or_else(late)
    }

    pub fn pools(&self) -> Result<Read<Vec<PoolView>>, FleetError> {
        self.ready()?;
        let links = self.linked();
        let ranges = self.catalog.keys().ranges().get();
        let views = self.catalog.look(|state| {
            let tasks = state.tasks.per_pool();
            let view = |name: PoolName| {
                let members: Vec<&AgentName> = members_of(state, &name).map(|(a, _)| a).collect();
                let linked = members.iter().filter(|agent| links.contains_key(**agent)).count();
                let held = state.claims.keys().filter(|(pool, _)| *pool == name).count();
                PoolView {
                    agents: count(members.len()),
                    agents_connected: count(linked),
                    tasks: tasks.get(&name).copied().unwrap_or(0),
                    ranges,
                    ranges_vacant: ranges.saturating_sub(count(held)),
                    name,
                }
            };
            pools(state).into_iter().map(view).collect()
        });
        Ok(self.read(views))
    }

    /// All ranges of all pools, or of one.
    pub fn ranges(&self, pool: Option<&PoolName>) -> Result<Read<Vec<RangeView>>, FleetError> {
        self.ready()?;
        let views = self.catalog.look(|state| {
            let wanted = |name: &PoolName| pool.is_none_or(|pool| pool == name);
            let pools = pools(state).into_iter().filter(wanted);
            pools.flat_map(|pool| self.ranges_of(state, &pool)).collect()
        });
        Ok(self.read(views))
    }

    fn read<T>(&self, value: T) -> Read<T> {
        Read { value, stale: self.catalog.stale() }
    }

    fn ranges_of(&self, state: &State, pool: &PoolName) -> Vec<RangeView> {
        let keys = self.catalog.keys();
        let members: BTreeMap<AgentName, Capacity> = members_of(state, pool)
            .map(|(agent, member)| (agent.clone(), capacity(member)))
            .collect();
        let ring = Ring::new(keys.ranges(), &members);
        let width = keys.ranges().hex_width();
        let now = clock::wall();
        let view = |range: RangeId| {
            let found = self.findings.of(pool, range);
            let key = (pool.clone(), range);
            let claim = state.claims.get(&key);
            let ledger = state.ledgers.get(&key);
            RangeView {
                pool: pool.clone(),
                id: format!("{:0width$x}", range.0),
                holder: claim.map(|claim| claim.agent.clone()),
                fence: claim.map(|claim| claim.fence),
                owner: ring.owner(range).cloned(),
                // The first ledger of a range says that nothing is done yet.
                ledger_through: ledger
                    .map(|ledger| ledger.marks.through)
                    .filter(|t| *t > Instant::MIN),
                open_entries: ledger.map_or(0, |ledger| ledger.open),
                tasks: u64::from(state.tasks.in_range(&pool.clone().into(), range)),
                oldest_undecided: found.as_ref().map(|found| found.behind.age(now)),
                stalled: found.filter(|found| found.told).map(|found| found.behind.cause.as_str()),
            }
        };
        keys.ranges().all().map(view).collect()
    }

    fn linked(&self) -> BTreeMap<AgentName, Arc<LinkInfo>> {
        self.links.all().into_iter().map(|info| (info.agent.clone(), Arc::new(info))).collect()
    }

    pub(super) fn ready(&self) -> Result<(), FleetError> {
        match self.catalog.standing().listed {
            true => Ok(()),
            false => Err(FleetError::NotReady),
        }
    }
}

pub(super) fn members_of<'a>(
    state: &'a State,
    pool: &'a PoolName,
) -> impl Iterator<Item = (&'a AgentName, &'a Member)> {
    state.members.iter().filter(|(_, member)| member.record.pool == pool.as_str())
}

pub(super) fn capacity(member: &Member) -> Capacity {
    let record = &member.record;
    Capacity { weight: record.weight, duty: duty_of(record.cordoned, record.draining) }
}

/// Whether there is an agent in the pool that ranges are moved to.
fn some_take(state: &State, pool: &str) -> bool {
    let takes = |capacity: Capacity| capacity.weight > 0 && capacity.duty == Duty::Full;
    let mut members = state.members.values().filter(|member| member.record.pool == pool);
    members.any(|member| takes(capacity(member)))
}

/// Pools that have agents, tasks or claims.
fn pools(state: &State) -> BTreeSet<PoolName> {
    let of_members = state.members.values().map(|member| member.record.pool.as_str());
    let of_agents = state.agents.values().map(|kept| kept.record.pool.as_str());
    let mut pools: BTreeSet<PoolName> =
        of_members.chain(of_agents).filter_map(|pool| PoolName::parse(pool).ok()).collect();
    pools.extend(state.tasks.per_pool().into_keys());
    pools.extend(state.claims.keys().map(|(pool, _)| pool.clone()));
    pools
}

fn held(state: &State) -> BTreeMap<AgentName, u32> {
    let mut held = BTreeMap::new();
    for claim in state.claims.values() {
        *held.entry(claim.agent.clone()).or_insert(0) += 1;
    }
    held
}

fn view(
    state: &State,
    links: &BTreeMap<AgentName, Arc<LinkInfo>>,
    held: &BTreeMap<AgentName, u32>,
    name: &AgentName,
) -> AgentView {
    let member = state.members.get(name);
    let kept = state.agents.get(name).map(|kept| &kept.record);
    // A session that lives says more than what was noted before it began.
    let absent_since = kept.filter(|_| member.is_none()).and_then(|kept| kept.absent_since_us);
    let link = links.get(name).cloned();
    let record = member.map(|member| &member.record);
    let pool = record.map(|record| record.pool.clone()).or(kept.map(|kept| kept.pool.clone()));
    let linked_pool = || link.as_ref().map_or_else(String::new, |link| link.pool.to_string());
    let labels =
        record.map(|record| record.labels.clone()).or(kept.map(|kept| kept.labels.clone()));
    let build = link.as_ref().map(|link| link.build.clone());
    let tz_version = link.as_ref().map(|link| link.tz_version.clone());
    let ranges_held = held.get(name).copied().unwrap_or(0);
    // By the agent's own word that it knows of the drain, not by what was asked of it.
    let drains = record.filter(|record| record.draining);
    let stats = link.as_ref().and_then(|link| link.stats.as_ref());
    let drained = drains.is_some() && ranges_held == 0 && stats.is_some_and(|s| s.drained);
    let last_resort = drains.is_some_and(|r| ranges_held > 0 && !some_take(state, &r.pool));
    AgentView {
        name: name.clone(),
        pool: pool.unwrap_or_else(linked_pool),
        labels: labels.unwrap_or_default(),
        weight: record.map(|record| record.weight).or(kept.map(|kept| kept.weight)).unwrap_or(0),
        version: record.map(|r| r.version.clone()).or(build).unwrap_or_default(),
        tz_version: record.map(|r| r.tz_version.clone()).or(tz_version).unwrap_or_default(),
        session: member.map(|member| member.session),
        since: record.map(|record| Wall::from_micros(record.since_us)),
        absent_since: absent_since.map(Wall::from_micros),
        link,
        ranges_held,
        duty: kept.map(|kept| duty_of(kept.cordoned, kept.draining)).unwrap_or_default(),
        weight_asked: kept.and_then(|kept| kept.weight_asked),
        drained,
        last_resort,
    }
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
