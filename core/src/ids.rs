//! Every id has a type of its own, checked where it is made and trusted from then on.
//!
//! A name that reached the inside of the program is well formed: it can be put into an etcd key, a
//! file name or a URL as it stands. What comes from outside goes through `parse`.

use std::fmt;
use std::sync::Arc;

use crate::limits;
use crate::time::Instant;

/// Why a name was refused. `Display` is a sentence that a user can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is not a valid {kind}: use 1 to {max} characters of a-z, 0-9, '.', '_' and '-', \
     with a letter or a digit at both ends"
)]
pub struct NameError {
    pub kind: &'static str,
    pub given: String,
    pub max: usize,
}

fn check(kind: &'static str, text: &str) -> Result<Arc<str>, NameError> {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    let good = !bytes.is_empty()
        && bytes.len() <= limits::NAME_BYTES_MAX
        && bytes.first().copied().is_some_and(edge)
        && bytes.last().copied().is_some_and(edge)
        && bytes.iter().all(|&c| edge(c) || matches!(c, b'.' | b'_' | b'-'));
    if good {
        return Ok(Arc::from(text));
    }
    let given = text.chars().take(limits::NAME_BYTES_MAX).collect();
    Err(NameError { kind, given, max: limits::NAME_BYTES_MAX })
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks `text` against the rule of names.
            pub fn parse(text: &str) -> Result<$type, NameError> {
                check($kind, text).map($type)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A namespace: the first half of a task's name.
    Namespace, "namespace"
);
name_type!(
    /// The second half of a task's name.
    Name, "task name"
);
name_type!(
    /// A pool: agents that share tasks.
    PoolName, "pool name"
);
name_type!(
    /// An agent: the daemon on a host.
    AgentName, "agent name"
);
name_type!(
    /// A coordinator.
    CoordinatorId, "coordinator id"
);

/// The identity of a task: `<namespace>/<name>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskName {
    pub namespace: Namespace,
    pub name: Name,
}

impl TaskName {
    /// Reads `<namespace>/<name>`.
    pub fn parse(text: &str) -> Result<TaskName, NameError> {
        let (namespace, name) = text.split_once('/').unwrap_or(("", text));
        Ok(TaskName { namespace: Namespace::parse(namespace)?, name: Name::parse(name)? })
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A slice of the hash space, counted from 0; the unit of ownership within a pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RangeId(pub u16);

impl RangeId {
    /// What is pinned to this agent. No slice of the hash space, of which there are at most 32,768,
    /// but a range in all that its agent does with it.
    pub const PINS: RangeId = RangeId(u16::MAX);
    /// The tasks of every agent that this agent has a share of; as `PINS`.
    pub const BROADCAST: RangeId = RangeId(u16::MAX - 1);
    /// The ranges whose ledger is in the agent's own store.
    pub const LOCAL: [RangeId; 2] = [RangeId::BROADCAST, RangeId::PINS];
}

/// A revision of the shared state, as etcd counts them. 0 is before everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision(pub i64);

impl Revision {
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

/// A lease of the shared state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LeaseId(pub i64);

/// How often the cluster was put back from a backup: raised by the operator each time, since
/// revisions come again then. It leads every fence and incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u32);

/// The order of claims of a range: the epoch, then the revision that created the claim.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Fence {
    pub epoch: Epoch,
    pub revision: Revision,
}

/// One life of a task: the epoch, then the revision that created its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation {
    pub epoch: Epoch,
    pub revision: Revision,
}

/// One registration of an agent: the epoch, then the revision that created its session key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Session {
    pub epoch: Epoch,
    pub revision: Revision,
}

/// Which run of a task it is: the instant it was scheduled for, or the ulid of a manual trigger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RunKey {
    Instant(Instant),
    Manual(u128),
}

/// The name of a run, for ever: it stays the same over attempts, holders and edits of its task.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RunId {
    pub task: TaskName,
    pub incarnation: Incarnation,
    pub run: RunKey,
    /// Of a task of every agent: whose share it is.
    pub agent: Option<AgentName>,
}

impl RunId {
    pub fn scheduled(task: TaskName, incarnation: Incarnation, instant: Instant) -> RunId {
        RunId { task, incarnation, run: RunKey::Instant(instant), agent: None }
    }

    /// A manual run: its ulid says all, so it carries no incarnation.
    pub fn manual(task: TaskName, ulid: u128) -> RunId {
        let incarnation = Incarnation::default();
        RunId { task, incarnation, run: RunKey::Manual(ulid), agent: None }
    }

    /// Whether it is a run of this life of its task; a manual one is, as long as its key exists.
    pub fn is_of(&self, incarnation: Incarnation) -> bool {
        matches!(self.run, RunKey::Manual(_)) || self.incarnation == incarnation
    }
}

impl fmt::Display for RunId {
    /// `<ns>/<name>@<instant in Unix milliseconds>-<incarnation in base 36>`, of a manual run
    /// `<ns>/<name>@<ulid, lower case>`. An epoch above 1 follows the incarnation after a dot; of a
    /// task of every agent each epoch does, and then the agent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.run {
            RunKey::Instant(instant) => {
                let revision = u64::try_from(self.incarnation.revision.0).unwrap_or(0);
                write!(f, "{}@{}-{}", self.task, instant.millis(), base36(revision))?;
                match (&self.agent, self.incarnation.epoch) {
                    (None, Epoch(0 | 1)) => Ok(()),
                    (None, Epoch(epoch)) => write!(f, ".{}", base36(u64::from(epoch))),
                    (Some(agent), Epoch(epoch)) => {
                        write!(f, ".{}.{agent}", base36(u64::from(epoch.max(1))))
                    }
                }
            }
            RunKey::Manual(ulid) => write!(f, "{}@{}", self.task, ulid_text(ulid)),
        }
    }
}

fn base36(mut number: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut text = Vec::new();
    loop {
        text.push(char::from(DIGITS[usize::try_from(number % 36).expect("below 36")]));
        number /= 36;
        if number == 0 {
            return text.iter().rev().collect();
        }
    }
}

/// Crockford's base 32, 26 digits, lower case.
fn ulid_text(ulid: u128) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let digit = |place: u32| usize::try_from((ulid >> (5 * place)) & 31).expect("below 32");
    (0..26).rev().map(|place| char::from(DIGITS[digit(place)])).collect()
}

/// One try at executing a run, ordered by fence, then number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Attempt {
    pub fence: Fence,
    /// Counts from 1 over all holders.
    pub number: u32,
}

impl Attempt {
    /// Nothing was begun yet.
    pub const NONE: Attempt =
        Attempt { fence: Fence { epoch: Epoch(0), revision: Revision(0) }, number: 0 };
}

/// A ledger's number: the process that wrote it and its count. A store that does not know the
/// number of a ledger under its own fence is not the store that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LedgerNumber {
    pub process: u64,
    pub count: u64,
}

/// A number that this agent's store gave to one version of a task; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskNumber(pub u64);
