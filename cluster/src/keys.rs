//! Every key of the shared state, in one file: how it is built and how it is read. Several etcd
//! clusters may come one day, and this is the only place that would have to know.
//!
//! All of a range lies under one prefix, so that one watcher sees its claim, ledger, tasks,
//! triggers and settle keys in the order of their revisions. Range names are hexadecimal of fixed
//! width, names are checked where they are made, so no part can hold a `/` and keys sort as their
//! parts do.

use std::fmt::Write;

use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{
    AgentName, Attempt, CoordinatorId, Fence, Name, Namespace, PoolName, RangeId, TaskName,
};
use tocktower_core::task::Placement;
use tocktower_proto::convert::{RunName, format_epoched, parse_epoched};

use crate::port::KeyRange;

/// Where Tocktower lives in etcd unless configured otherwise.
pub const PREFIX: &str = "/tocktower/v1/";
/// The pool whose ranges are also the directory of all names.
const DIRECTORY: &str = "default";

/// What a key is for. Tasks, triggers and settle keys lie in the range of their task's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Key {
    Cluster,
    Compact,
    /// An agent's session.
    Member(AgentName),
    Coordinator(CoordinatorId),
    /// What outlives an agent's session.
    Agent(AgentName),
    /// The common beat.
    Beat,
    CoordinatorBeat(CoordinatorId),
    Claim(PoolName, RangeId),
    Ledger(PoolName, RangeId),
    Task(Placement, TaskName),
    /// The directory entry of a task that is not in the directory's pool.
    Elsewhere(TaskName),
    Trigger(Placement, TaskName, u128),
    Settle(PoolName, TaskName, RunName, Attempt),
    /// By which an agent knows that its watch of what is pinned to it is whole.
    PinsBeat(AgentName),
}

/// Builds and reads the keys of one cluster.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: String,
    ranges: RangeCount,
    directory: Placement,
}

impl Keys {
    pub fn new(prefix: &str, ranges: RangeCount) -> Keys {
        let slash = if prefix.ends_with('/') { "" } else { "/" };
        let directory = PoolName::parse(DIRECTORY).expect("the name is well formed").into();
        Keys { prefix: format!("{prefix}{slash}"), ranges, directory }
    }

    pub fn ranges(&self) -> RangeCount {
        self.ranges
    }

    /// The pool whose ranges are also the directory of all names.
    pub fn directory(&self) -> &Placement {
        &self.directory
    }

    /// Everything of the cluster.
    pub fn all(&self) -> KeyRange {
        KeyRange::prefix(self.prefix.as_bytes())
    }

    /// What every agent watches.
    pub fn shared(&self) -> KeyRange {
        KeyRange::prefix(format!("{}shared/", self.prefix).as_bytes())
    }

    /// The sessions of all daemons.
    pub fn members(&self) -> KeyRange {
        KeyRange::prefix(format!("{}shared/members/", self.prefix).as_bytes())
    }

    /// All of a range.
    pub fn range(&self, pool: &PoolName, range: RangeId) -> KeyRange {
        KeyRange::prefix(self.in_range(pool, range, "").as_bytes())
    }

    /// All ranges of all pools.
    pub fn pools(&self) -> KeyRange {
        KeyRange::prefix(format!("{}pools/", self.prefix).as_bytes())
    }

    /// All that is pinned to an agent.
    pub fn pins(&self, agent: &AgentName) -> KeyRange {
        KeyRange::prefix(format!("{}pins/{agent}/", self.prefix).as_bytes())
    }

    /// All that is pinned to any agent.
    pub fn all_pins(&self) -> KeyRange {
        KeyRange::prefix(format!("{}pins/", self.prefix).as_bytes())
    }

    /// All that is for every agent of a pool: of what all agents watch.
    pub fn broadcast(&self, pool: &PoolName) -> KeyRange {
        KeyRange::prefix(format!("{}shared/broadcast/{pool}/", self.prefix).as_bytes())
    }

    /// All that is for every agent of any pool.
    pub fn all_broadcast(&self) -> KeyRange {
        KeyRange::prefix(format!("{}shared/broadcast/", self.prefix).as_bytes())
    }

    /// The range of its placement that a task lies in: one agent has one for all, and so have all
    /// agents of a pool.
    pub fn range_in(&self, placement: &Placement, task: &TaskName) -> RangeId {
        match placement {
            Placement::Pool(_) => self.ranges.range_of(task),
            Placement::Agent(_) | Placement::EveryAgent(_) => RangeId(0),
        }
    }

    /// The border that lies `ahead` ranges behind the one of this key, or that of its pool if
    /// that comes first. `None`: the key lies in no range.
    pub fn border(&self, key: &[u8], ahead: u32) -> Option<Vec<u8>> {
        let pools = format!("{}pools/", self.prefix);
        let mut parts = key.strip_prefix(pools.as_bytes())?.split(|byte| *byte == b'/');
        let pool = PoolName::parse(std::str::from_utf8(parts.next()?).ok()?).ok()?;
        let range = std::str::from_utf8(parts.next()?).ok()?;
        let range = u32::from(u16::from_str_radix(range, 16).ok()?).saturating_add(ahead);
        Some(match u16::try_from(range).map(RangeId) {
            Ok(next) if range < self.ranges.get() => self.range(&pool, next).start,
            Ok(_) | Err(_) => KeyRange::prefix(format!("{pools}{pool}/").as_bytes()).end,
        })
    }

    /// All tasks of a range, in the order of their names.
    pub fn tasks(&self, placement: &Placement, range: RangeId) -> KeyRange {
        KeyRange::prefix(self.placed(placement, range, "tasks/").as_bytes())
    }

    /// All triggers of a task.
    pub fn triggers(&self, placement: &Placement, task: &TaskName) -> KeyRange {
        let range = self.ranges.range_of(task);
        KeyRange::prefix(self.placed(placement, range, &format!("triggers/{task}/")).as_bytes())
    }

    pub fn build(&self, key: &Key) -> Vec<u8> {
        let of = |task: &TaskName| self.ranges.range_of(task);
        let text = match key {
            Key::Cluster => format!("{}cluster", self.prefix),
            Key::Compact => format!("{}compact", self.prefix),
            Key::Member(agent) => format!("{}shared/members/agents/{agent}", self.prefix),
            Key::Coordinator(id) => format!("{}shared/members/coordinators/{id}", self.prefix),
            Key::Agent(agent) => format!("{}shared/agents/{agent}", self.prefix),
            Key::Beat => format!("{}shared/beat", self.prefix),
            Key::CoordinatorBeat(id) => format!("{}beats/{id}", self.prefix),
            Key::Claim(pool, range) => self.in_range(pool, *range, "claim"),
            Key::Ledger(pool, range) => self.in_range(pool, *range, "ledger"),
            Key::Task(placement, task) => {
                self.placed(placement, of(task), &format!("tasks/{task}"))
            }
            Key::Elsewhere(task) => {
                self.placed(&self.directory, of(task), &format!("elsewhere/{task}"))
            }
            Key::Trigger(placement, task, ulid) => {
                let name = RunName::Manual(*ulid);
                self.placed(placement, of(task), &format!("triggers/{task}/{name}"))
            }
            Key::Settle(pool, task, run, attempt) => {
                let attempt = attempt_text(*attempt);
                self.in_range(pool, of(task), &format!("settles/{task}/{run}/{attempt}"))
            }
            Key::PinsBeat(agent) => format!("{}pins/{agent}/beat", self.prefix),
        };
        text.into_bytes()
    }

    /// Reads a key back; only the form that is built. `None`: it is not one of ours.
    pub fn parse(&self, bytes: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(bytes).ok()?.strip_prefix(&self.prefix)?;
        let parts: Vec<&str> = text.split('/').collect();
        let key = match parts.as_slice() {
            ["cluster"] => Key::Cluster,
            ["compact"] => Key::Compact,
            ["shared", "beat"] => Key::Beat,
            ["shared", "members", "agents", agent] => Key::Member(AgentName::parse(agent).ok()?),
            ["shared", "members", "coordinators", id] => {
                Key::Coordinator(CoordinatorId::parse(id).ok()?)
            }
            ["shared", "agents", agent] => Key::Agent(AgentName::parse(agent).ok()?),
            ["shared", "broadcast", pool, rest @ ..] => {
                parse_broadcast(PoolName::parse(pool).ok()?, rest)?
            }
            ["beats", id] => Key::CoordinatorBeat(CoordinatorId::parse(id).ok()?),
            ["pools", pool, range, rest @ ..] => {
                let number = RangeId(u16::from_str_radix(range, 16).ok()?);
                if u32::from(number.0) >= self.ranges.get() {
                    return None;
                }
                parse_in_range(PoolName::parse(pool).ok()?, number, rest)?
            }
            ["pins", agent, rest @ ..] => parse_pinned(AgentName::parse(agent).ok()?, rest)?,
            _ => return None,
        };
        // A key in another form, or in a range that is not its task's, would be found by nobody.
        (self.build(&key) == bytes).then_some(key)
    }

    fn placed(&self, placement: &Placement, range: RangeId, rest: &str) -> String {
        match placement {
            Placement::Pool(pool) => self.in_range(pool, range, rest),
            Placement::Agent(agent) => format!("{}pins/{agent}/{rest}", self.prefix),
            Placement::EveryAgent(pool) => format!("{}shared/broadcast/{pool}/{rest}", self.prefix),
        }
    }

    fn in_range(&self, pool: &PoolName, range: RangeId, rest: &str) -> String {
        let width = self.ranges.hex_width();
        let mut text = String::with_capacity(self.prefix.len() + 64 + rest.len());
        let written = write!(text, "{}pools/{pool}/{:0width$x}/{rest}", self.prefix, range.0);
        written.expect("writing to a string does not fail");
        text
    }
}

fn parse_pinned(agent: AgentName, rest: &[&str]) -> Option<Key> {
    match rest {
        ["beat"] => Some(Key::PinsBeat(agent)),
        ["tasks" | "triggers", ..] => parse_placed(Placement::Agent(agent), rest),
        _ => None,
    }
}

/// Nothing of it is asked for by hand.
fn parse_broadcast(pool: PoolName, rest: &[&str]) -> Option<Key> {
    match rest {
        ["tasks", ..] => parse_placed(Placement::EveryAgent(pool), rest),
        _ => None,
    }
}

/// What lies in a placement.
fn parse_placed(placement: Placement, rest: &[&str]) -> Option<Key> {
    Some(match rest {
        ["tasks", namespace, name] => Key::Task(placement, task_name(namespace, name)?),
        ["triggers", namespace, name, ulid] => match RunName::parse(ulid)? {
            RunName::Manual(ulid) => Key::Trigger(placement, task_name(namespace, name)?, ulid),
            RunName::Instant { .. } | RunName::Share { .. } => return None,
        },
        _ => return None,
    })
}

fn parse_in_range(pool: PoolName, range: RangeId, rest: &[&str]) -> Option<Key> {
    Some(match rest {
        ["claim"] => Key::Claim(pool, range),
        ["ledger"] => Key::Ledger(pool, range),
        ["elsewhere", namespace, name] => Key::Elsewhere(task_name(namespace, name)?),
        ["settles", namespace, name, run, attempt] => {
            let (run, attempt) = (RunName::parse(run)?, parse_attempt(attempt)?);
            Key::Settle(pool, task_name(namespace, name)?, run, attempt)
        }
        _ => parse_placed(Placement::Pool(pool), rest)?,
    })
}

fn task_name(namespace: &str, name: &str) -> Option<TaskName> {
    Some(TaskName { namespace: Namespace::parse(namespace).ok()?, name: Name::parse(name).ok()? })
}

/// `<fence>-<number>`.
fn attempt_text(attempt: Attempt) -> String {
    let fence = format_epoched(attempt.fence.epoch, attempt.fence.revision);
    format!("{fence}-{}", attempt.number)
}

fn parse_attempt(text: &str) -> Option<Attempt> {
    let (fence, number) = text.split_once('-')?;
    let (epoch, revision) = parse_epoched(fence)?;
    Some(Attempt { fence: Fence { epoch, revision }, number: number.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocktower_core::ids::{Epoch, Incarnation, Revision};
    use tocktower_core::time::Instant;

    fn keys() -> Keys {
        Keys::new(PREFIX, RangeCount::DEFAULT)
    }

    fn kinds() -> Vec<Key> {
        let (pool, task) = (PoolName::parse("blue").unwrap(), TaskName::parse("a/b.c").unwrap());
        let agent = AgentName::parse("web-12").unwrap();
        let id = CoordinatorId::parse("c1").unwrap();
        let incarnation = Incarnation { epoch: Epoch(2), revision: Revision(77) };
        let instant = Instant::from_millis(1_234);
        let attempt =
            Attempt { fence: Fence { epoch: Epoch(1), revision: Revision(90) }, number: 3 };
        vec![
            Key::Cluster,
            Key::Compact,
            Key::Member(agent.clone()),
            Key::Coordinator(id.clone()),
            Key::Agent(agent.clone()),
            Key::Beat,
            Key::CoordinatorBeat(id),
            Key::Claim(pool.clone(), RangeId(0x1f)),
            Key::Ledger(pool.clone(), RangeId(0x1f)),
            Key::Task(pool.clone().into(), task.clone()),
            Key::Task(Placement::Agent(agent.clone()), task.clone()),
            Key::Trigger(Placement::Agent(agent.clone()), task.clone(), 7),
            Key::PinsBeat(agent.clone()),
            Key::Task(Placement::EveryAgent(pool.clone()), task.clone()),
            Key::Elsewhere(task.clone()),
            Key::Trigger(pool.clone().into(), task.clone(), u128::MAX / 3),
            Key::Settle(pool.clone(), task.clone(), RunName::Manual(5), attempt),
            Key::Settle(pool, task, RunName::Instant { instant, incarnation }, attempt),
        ]
    }

    #[test]
    fn every_kind_of_key_reads_back_as_what_it_was_built_from() {
        let keys = keys();
        for key in kinds() {
            let built = keys.build(&key);
            assert_eq!(keys.parse(&built), Some(key), "{}", String::from_utf8_lossy(&built));
            assert!(keys.all().contains(&built));
        }
    }

    #[test]
    fn a_range_holds_all_of_its_keys_and_no_other_range_does() {
        let keys = keys();
        let pool = PoolName::parse("default").unwrap();
        let claim = keys.build(&Key::Claim(pool.clone(), RangeId(0x1f)));
        assert_eq!(claim, b"/tocktower/v1/pools/default/1f/claim");
        assert!(keys.range(&pool, RangeId(0x1f)).contains(&claim));
        assert!(!keys.range(&pool, RangeId(0x20)).contains(&claim));
        let task = TaskName::parse("a/b").unwrap();
        let range = keys.range(&pool, keys.ranges().range_of(&task));
        assert!(range.contains(&keys.build(&Key::Elsewhere(task.clone()))));
        assert!(keys.pools().contains(&claim) && !keys.pools().contains(&keys.build(&Key::Beat)));
        let pool = Placement::Pool(pool);
        let tasks = keys.tasks(&pool, keys.ranges().range_of(&task));
        assert!(tasks.contains(&keys.build(&Key::Task(pool, task.clone()))));
        assert!(!tasks.contains(&keys.build(&Key::Elsewhere(task))) && !tasks.contains(&claim));
    }

    #[test]
    fn borders_lie_between_ranges_and_behind_the_last_one_of_a_pool() {
        let keys = keys();
        let border = |key: &str, ahead| {
            let border = keys.border(format!("{PREFIX}{key}").as_bytes(), ahead)?;
            Some(String::from_utf8(border).unwrap().strip_prefix(PREFIX).unwrap().to_owned())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(border("pools/blue/0f/tasks/a/b\0", 1), some("pools/blue/10/"));
        assert_eq!(border("pools/blue/10/", 32), some("pools/blue/30/"));
        assert_eq!(border("pools/blue/f0/claim", 15), some("pools/blue/ff/"));
        assert_eq!(border("pools/blue/f0/claim", 16), some("pools/blue0"));
        assert_eq!(border("pools/blue/ff/claim", u32::MAX), some("pools/blue0"));
        for outside in ["shared/beat", "pools/blue0", "pools/", "pools/blue/xy/claim", "zebra"] {
            assert_eq!(border(outside, 1), None, "{outside}");
        }
        assert_eq!(keys.border(b"/elsewhere", 1), None);
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        let keys = keys();
        let others = [
            "",
            "/tocktower/v1/",
            "/other",
            "/tocktower/v1/pools/default/1ff/claim",
            "/tocktower/v1/pools/default/1F/claim",
            "/tocktower/v1/pools/default/00/tasks/a/B",
        ];
        for text in others {
            assert_eq!(keys.parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(keys.parse(&[0xff, 0xfe]), None);
    }
}
