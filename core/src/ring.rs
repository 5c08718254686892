//! Who should hold what: members and their weights go in, a ranking of agents for each range comes
//! out, first the owner, second the standby. Everyone computes it from the same membership, so
//! nobody has to be asked.
//!
//! Consistent hashing with virtual nodes (Karger et al., 1997) says who is near a range; bounded
//! loads (Mirrokni, Thorup, Zadimoghaddam, 2016) keep anyone from getting more than a tenth above
//! the fair share: a range goes to the first agent after it on the ring that has room. Rendezvous
//! hashing moves a little less, but has no natural place for the bound.

use std::collections::BTreeMap;

use crate::hash::{RangeCount, hash_parts};
use crate::ids::{AgentName, RangeId};

/// Points on the ring per unit of weight; a weight of 100 is an ordinary agent.
const POINTS_PER_AGENT: u32 = 64;
/// The weight of an ordinary agent.
pub const WEIGHT_DEFAULT: u32 = 100;
/// How many agents of a range's ranking anyone needs to know.
pub const RANKS: usize = 4;

/// For each range, the agents that should hold it, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ring {
    ranking: Vec<Vec<AgentName>>,
}

impl Ring {
    /// Agents of weight 0 hold nothing.
    pub fn new(ranges: RangeCount, weights: &BTreeMap<AgentName, u32>) -> Ring {
        let present: BTreeMap<&AgentName, u32> =
            weights.iter().filter(|(_, weight)| **weight > 0).map(|(a, w)| (a, *w)).collect();
        if present.is_empty() {
            return Ring { ranking: vec![Vec::new(); index(ranges.get())] };
        }
        let points = points(&present);
        let mut room = caps(ranges.get(), &present);
        let ranking = ranges
            .all()
            .map(|range| {
                let mut near = nearest(&points, range, present.len());
                if let Some(at) = near.iter().position(|a| room.get(a).is_some_and(|r| *r > 0)) {
                    near[..=at].rotate_right(1);
                    if let Some(left) = room.get_mut(near[0]) {
                        *left -= 1;
                    }
                }
                near.truncate(RANKS);
                near.into_iter().cloned().collect()
            })
            .collect();
        Ring { ranking }
    }

    /// The agents that should hold `range`, best first; at most [`RANKS`].
    pub fn ranking(&self, range: RangeId) -> &[AgentName] {
        self.ranking.get(usize::from(range.0)).map_or(&[], Vec::as_slice)
    }

    pub fn owner(&self, range: RangeId) -> Option<&AgentName> {
        self.ranking(range).first()
    }

    pub fn rank(&self, range: RangeId, agent: &AgentName) -> Option<usize> {
        self.ranking(range).iter().position(|a| a == agent)
    }
}

fn index(count: u32) -> usize {
    usize::try_from(count).expect("a range count fits a usize")
}

/// The ring: every point with its agent, in the order of the points.
fn points<'a>(present: &BTreeMap<&'a AgentName, u32>) -> Vec<(u64, &'a AgentName)> {
    let mut points = Vec::new();
    for (agent, weight) in present {
        let count = (POINTS_PER_AGENT * weight.min(&1_000)).div_ceil(WEIGHT_DEFAULT);
        for point in 0..count {
            let hash = hash_parts(&[b"agent", agent.as_str().as_bytes(), &point.to_be_bytes()]);
            points.push((hash, *agent));
        }
    }
    points.sort_unstable();
    points
}

/// How many ranges each agent may own: a tenth above its fair share, rounded up.
fn caps<'a>(ranges: u32, present: &BTreeMap<&'a AgentName, u32>) -> BTreeMap<&'a AgentName, u64> {
    let total: u64 = present.values().map(|w| u64::from(*w)).sum();
    let share = |weight: u32| (u64::from(ranges) * u64::from(weight) * 11).div_ceil(total * 10);
    present.iter().map(|(agent, weight)| (*agent, share(*weight))).collect()
}

/// All agents in the order in which the ring meets them after the range's own point.
fn nearest<'a>(
    points: &[(u64, &'a AgentName)],
    range: RangeId,
    agents: usize,
) -> Vec<&'a AgentName> {
    let from = hash_parts(&[b"range", &range.0.to_be_bytes()]);
    let start = points.partition_point(|(point, _)| *point < from);
    let mut near: Vec<&AgentName> = Vec::with_capacity(agents);
    for (_, agent) in points[start..].iter().chain(&points[..start]) {
        if !near.contains(agent) {
            near.push(agent);
            if near.len() == agents {
                break;
            }
        }
    }
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(agents: &[(&str, u32)]) -> BTreeMap<AgentName, u32> {
        agents.iter().map(|(name, w)| (AgentName::parse(name).unwrap(), *w)).collect()
    }

    fn even(count: usize) -> BTreeMap<AgentName, u32> {
        (0..count)
            .map(|n| (AgentName::parse(&format!("agent-{n}")).unwrap(), WEIGHT_DEFAULT))
            .collect()
    }

    fn owned(ring: &Ring, agent: &AgentName) -> usize {
        RangeCount::DEFAULT.all().filter(|range| ring.owner(*range) == Some(agent)).count()
    }

    #[test]
    fn every_range_has_an_owner_and_nobody_is_a_tenth_above_the_fair_share() {
        for agents in 1..40 {
            let members = even(agents);
            let ring = Ring::new(RangeCount::DEFAULT, &members);
            let cap = (256 * 11usize).div_ceil(agents * 10);
            for agent in members.keys() {
                assert!(owned(&ring, agent) <= cap, "{agents} agents, {agent}");
            }
            assert!(RangeCount::DEFAULT.all().all(|range| ring.owner(range).is_some()));
        }
    }

    #[test]
    fn a_newcomer_moves_about_its_own_share() {
        for agents in 2..20 {
            let before = Ring::new(RangeCount::DEFAULT, &even(agents));
            let after = Ring::new(RangeCount::DEFAULT, &even(agents + 1));
            let moved = RangeCount::DEFAULT
                .all()
                .filter(|range| before.owner(*range) != after.owner(*range))
                .count();
            let share = 256 / (agents + 1);
            assert!(moved <= share * 2, "{agents} to {}: {moved} of {share}", agents + 1);
        }
    }

    #[test]
    fn weights_are_shares_and_weight_zero_holds_nothing() {
        let members = weights(&[("big", 200), ("small", 100), ("leaving", 0)]);
        let ring = Ring::new(RangeCount::DEFAULT, &members);
        let small = owned(&ring, &AgentName::parse("small").unwrap());
        assert!((60..=95).contains(&small), "{small}");
        assert_eq!(owned(&ring, &AgentName::parse("leaving").unwrap()), 0);
    }

    #[test]
    fn a_ranking_names_each_agent_once_and_nobody_is_nobody() {
        let ring = Ring::new(RangeCount::DEFAULT, &even(6));
        for range in RangeCount::DEFAULT.all() {
            let mut seen = ring.ranking(range).to_vec();
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), RANKS);
        }
        let none = Ring::new(RangeCount::DEFAULT, &BTreeMap::new());
        assert_eq!(none.owner(RangeId(3)), None);
    }
}
