//! Who should hold what: members and what each can carry go in, a ranking of agents for each range
//! comes out, first the owner, second the standby. Everyone computes it from the same membership,
//! so nobody has to be asked.
//!
//! Agents that an operator has cordoned or drains are left out, as those are that can carry
//! nothing. Where nobody else is left they are the last resort: nothing is moved to them, but what
//! nobody holds is theirs to claim, since a task with a drained agent is better off than with none.
//!
//! The standby of a range is who would own it if its owner were gone, and nobody else: an agent
//! that dies takes its points and its share out of the ring, so the next one along is not always
//! the heir, and only the heir claims at once, with a copy of the range that it had better have.
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
/// The most that an agent may weigh: above ten ordinary agents the ring's shares get coarse.
pub const WEIGHT_MAX: u32 = 1_000;
/// How many agents of a range's ranking anyone needs to know.
pub const RANKS: usize = 4;

/// What an operator lets an agent do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Duty {
    #[default]
    Full,
    /// It takes no more ranges, and keeps those that it holds.
    Cordoned,
    /// It hands its ranges to others, and takes none.
    Draining,
}

/// How much an agent can carry, as its session tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capacity {
    /// 0: it can carry nothing, whatever an operator wants.
    pub weight: u32,
    pub duty: Duty,
}

/// For each range, the agents that should hold it, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ring {
    ranking: Vec<Vec<AgentName>>,
    /// It is made of agents that are cordoned or drained, as there are no others.
    last_resort: bool,
}

impl Ring {
    /// Agents of weight 0 hold nothing; those that are not on full duty do if there are no others.
    pub fn new(ranges: RangeCount, members: &BTreeMap<AgentName, Capacity>) -> Ring {
        let able = members.iter().filter(|(_, capacity)| capacity.weight > 0);
        let last_resort = able.clone().all(|(_, capacity)| capacity.duty != Duty::Full);
        let present: BTreeMap<&AgentName, u32> = able
            .filter(|(_, capacity)| last_resort || capacity.duty == Duty::Full)
            .map(|(agent, capacity)| (agent, capacity.weight))
            .collect();
        if present.is_empty() {
            return Ring { ranking: vec![Vec::new(); index(ranges.get())], last_resort };
        }
        let (agents, weights): (Vec<&AgentName>, Vec<u32>) = present.into_iter().unzip();
        let points = points(&agents, &weights);
        let near: Vec<Vec<usize>> =
            ranges.all().map(|range| nearest(&points, range, agents.len())).collect();
        let owners = owners(&near, &weights, None);
        let standbys = standbys(&near, &weights, &owners);
        let ranking = near.into_iter().zip(owners).zip(standbys).map(|((near, owner), standby)| {
            let first = [owner, standby].into_iter().flatten();
            let rest = near.into_iter().filter(|at| Some(*at) != owner && Some(*at) != standby);
            first.chain(rest).take(RANKS).map(|at| agents[at].clone()).collect()
        });
        Ring { ranking: ranking.collect(), last_resort }
    }

    /// The agents that should hold `range`, best first; at most [`RANKS`].
    pub fn ranking(&self, range: RangeId) -> &[AgentName] {
        self.ranking.get(usize::from(range.0)).map_or(&[], Vec::as_slice)
    }

    pub fn owner(&self, range: RangeId) -> Option<&AgentName> {
        self.ranking(range).first()
    }

    /// The agent that this range may be moved to, if it is another's; `None`: no agent takes any.
    pub fn taker(&self, range: RangeId) -> Option<&AgentName> {
        self.owner(range).filter(|_| !self.last_resort)
    }

    pub fn rank(&self, range: RangeId, agent: &AgentName) -> Option<usize> {
        self.ranking(range).iter().position(|a| a == agent)
    }
}

fn index(count: u32) -> usize {
    usize::try_from(count).expect("a range count fits a usize")
}

/// The ring: every point with its agent, in the order of the points.
fn points(agents: &[&AgentName], weights: &[u32]) -> Vec<(u64, usize)> {
    let mut points = Vec::new();
    for (at, (agent, weight)) in agents.iter().zip(weights).enumerate() {
        let count = (POINTS_PER_AGENT * weight.min(&WEIGHT_MAX)).div_ceil(WEIGHT_DEFAULT);
        for point in 0..count {
            let hash = hash_parts(&[b"agent", agent.as_str().as_bytes(), &point.to_be_bytes()]);
            points.push((hash, at));
        }
    }
    points.sort_unstable();
    points
}

/// All agents in the order in which the ring meets them after the range's own point.
fn nearest(points: &[(u64, usize)], range: RangeId, agents: usize) -> Vec<usize> {
    let from = hash_parts(&[b"range", &range.0.to_be_bytes()]);
    let start = points.partition_point(|(point, _)| *point < from);
    let mut near = Vec::with_capacity(agents);
    let mut met = vec![false; agents];
    for (_, agent) in points[start..].iter().chain(&points[..start]) {
        if !std::mem::replace(&mut met[*agent], true) {
            near.push(*agent);
            if near.len() == agents {
                break;
            }
        }
    }
    near
}

/// How many ranges each agent may own: a tenth above its fair share, rounded up. `without`: as if
/// that one were not there.
fn caps(ranges: usize, weights: &[u32], without: Option<usize>) -> Vec<u64> {
    let present = |(at, weight): (usize, &u32)| match Some(at) == without {
        true => 0,
        false => u64::from(*weight),
    };
    let weights: Vec<u64> = weights.iter().enumerate().map(present).collect();
    let total = weights.iter().sum::<u64>().max(1);
    let ranges = u64::try_from(ranges).expect("a range count fits");
    weights.into_iter().map(|weight| (ranges * weight * 11).div_ceil(total * 10)).collect()
}

/// The owner of each range: the nearest agent that has room.
fn owners(near: &[Vec<usize>], weights: &[u32], without: Option<usize>) -> Vec<Option<usize>> {
    let mut room = caps(near.len(), weights, without);
    let owner = |near: &Vec<usize>| {
        let owner = near.iter().copied().find(|agent| room[*agent] > 0)?;
        room[owner] -= 1;
        Some(owner)
    };
    near.iter().map(owner).collect()
}

/// Who would own each range if its owner were gone.
fn standbys(near: &[Vec<usize>], weights: &[u32], owners: &[Option<usize>]) -> Vec<Option<usize>> {
    let mut standbys = vec![None; owners.len()];
    for agent in (0..weights.len()).filter(|_| weights.len() > 1) {
        let heirs = self::owners(near, weights, Some(agent));
        for (range, heir) in heirs.into_iter().enumerate() {
            if owners[range] == Some(agent) {
                standbys[range] = heir;
            }
        }
    }
    standbys
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Capacity = Capacity { weight: WEIGHT_DEFAULT, duty: Duty::Full };

    fn name(text: &str) -> AgentName {
        AgentName::parse(text).unwrap()
    }

    fn even(count: usize) -> BTreeMap<AgentName, Capacity> {
        (0..count).map(|n| (name(&format!("agent-{n}")), FULL)).collect()
    }

    fn duties(duties: &[(&str, Duty)]) -> BTreeMap<AgentName, Capacity> {
        duties.iter().map(|(agent, duty)| (name(agent), Capacity { duty: *duty, ..FULL })).collect()
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
    fn the_standby_of_a_range_owns_it_once_its_owner_is_gone() {
        for agents in 2..16 {
            let mut members = even(agents);
            members.insert(name("big"), Capacity { weight: 250, ..FULL });
            let ring = Ring::new(RangeCount::DEFAULT, &members);
            for gone in members.keys() {
                let mut left = members.clone();
                left.remove(gone);
                let after = Ring::new(RangeCount::DEFAULT, &left);
                for range in RangeCount::DEFAULT.all() {
                    let ranking = ring.ranking(range);
                    if ranking[0] == *gone {
                        assert_eq!(after.owner(range), ranking.get(1), "{range:?} of {gone:?}");
                    }
                }
            }
        }
        let alone = Ring::new(RangeCount::DEFAULT, &even(1));
        assert!(RangeCount::DEFAULT.all().all(|range| alone.ranking(range).len() == 1));
    }

    #[test]
    fn weights_are_shares_and_weight_zero_holds_nothing() {
        let members = [("big", 200), ("small", 100), ("leaving", 0)];
        let members = members.map(|(agent, weight)| (name(agent), Capacity { weight, ..FULL }));
        let ring = Ring::new(RangeCount::DEFAULT, &members.into());
        let small = owned(&ring, &name("small"));
        assert!((60..=95).contains(&small), "{small}");
        assert_eq!(owned(&ring, &name("leaving")), 0);
    }

    #[test]
    fn who_is_cordoned_or_drained_owns_nothing_while_there_is_anybody_else() {
        use Duty::{Cordoned, Draining, Full};
        for duty in [Cordoned, Draining] {
            let ring =
                Ring::new(RangeCount::DEFAULT, &duties(&[("a", duty), ("b", Full), ("c", Full)]));
            let without = Ring::new(RangeCount::DEFAULT, &duties(&[("b", Full), ("c", Full)]));
            assert_eq!(ring, without, "{duty:?}");
        }
        let ring = Ring::new(RangeCount::DEFAULT, &duties(&[("a", Draining), ("b", Full)]));
        assert_eq!(owned(&ring, &name("b")), 256);
        assert_eq!(ring.taker(RangeId(3)), Some(&name("b")));
    }

    #[test]
    fn where_all_are_cordoned_or_drained_they_claim_what_is_vacant_and_nothing_is_moved() {
        use Duty::{Cordoned, Draining};
        let members = duties(&[("a", Draining), ("b", Cordoned)]);
        let ring = Ring::new(RangeCount::DEFAULT, &members);
        let (a, b) = (owned(&ring, &name("a")), owned(&ring, &name("b")));
        assert!(a > 90 && b > 90 && a + b == 256, "{a} and {b}");
        assert!(RangeCount::DEFAULT.all().all(|range| ring.taker(range).is_none()));
        // One that can carry nothing is no resort at all.
        let mut members = members;
        members.insert(name("b"), Capacity { weight: 0, duty: Cordoned });
        assert_eq!(owned(&Ring::new(RangeCount::DEFAULT, &members), &name("a")), 256);
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
