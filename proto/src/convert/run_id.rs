//! The text form of run ids: `<ns>/<name>@<run>`.
//!
//! `<run>` is `<instant in Unix milliseconds>-<incarnation in base 36>` for scheduled runs, with
//! `.<epoch in base 36>` behind it once the cluster was put back from a backup (epoch 1, the usual,
//! is left out), and a ULID in lower case for manual ones. Of a task of every agent the agent comes
//! last, `.<agent>`, and the epoch is never left out, so that it is not taken for an agent. Clients
//! take it as opaque; we read it back, and only in the one form we write, so that two texts are
//! never one run.

use std::fmt;

use tocktower_core::ids::{AgentName, Epoch, Incarnation, Revision, RunId, RunKey, TaskName};
use tocktower_core::time::Instant;
use ulid::Ulid;

/// The epoch of a cluster that was never put back.
const EPOCH_USUAL: Epoch = Epoch(1);

/// A run as its text names it. A ULID says all; it comes without an incarnation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RunName {
    Instant {
        instant: Instant,
        incarnation: Incarnation,
    },
    Manual(u128),
    /// An agent's share of a task of every agent.
    Share {
        instant: Instant,
        incarnation: Incarnation,
        agent: AgentName,
    },
}

/// A text that is no run id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no run id: it has the form <namespace>/<task>@<run>")]
pub struct RunIdError {
    pub given: String,
}

impl RunIdError {
    fn of(text: &str) -> RunIdError {
        RunIdError { given: text.chars().take(512).collect() }
    }
}

/// `<ns>/<name>@<run>`.
pub fn format_run_id(id: &RunId) -> String {
    format!("{}@{}", id.task, RunName::of(id))
}

/// Reads what [`format_run_id`] wrote.
pub fn parse_run_id(text: &str) -> Result<(TaskName, RunName), RunIdError> {
    let read = || {
        let (task, run) = text.split_once('@')?;
        Some((TaskName::parse(task).ok()?, RunName::parse(run)?))
    };
    read().ok_or_else(|| RunIdError::of(text))
}

impl RunName {
    pub fn of(id: &RunId) -> RunName {
        let incarnation = id.incarnation;
        match (id.run, id.agent.clone()) {
            (RunKey::Instant(instant), None) => RunName::Instant { instant, incarnation },
            (RunKey::Instant(instant), Some(agent)) => {
                RunName::Share { instant, incarnation, agent }
            }
            (RunKey::Manual(ulid), _) => RunName::Manual(ulid),
        }
    }

    /// The run of this name of a task.
    pub fn id(self, task: TaskName) -> RunId {
        match self {
            RunName::Instant { instant, incarnation } => {
                RunId::scheduled(task, incarnation, instant)
            }
            RunName::Manual(ulid) => RunId::manual(task, ulid),
            RunName::Share { instant, incarnation, agent } => {
                RunId { agent: Some(agent), ..RunId::scheduled(task, incarnation, instant) }
            }
        }
    }

    pub fn key(&self) -> RunKey {
        match self {
            RunName::Instant { instant, .. } | RunName::Share { instant, .. } => {
                RunKey::Instant(*instant)
            }
            RunName::Manual(ulid) => RunKey::Manual(*ulid),
        }
    }

    /// Whose share it is, of a task of every agent.
    pub fn agent(&self) -> Option<AgentName> {
        match self {
            RunName::Share { agent, .. } => Some(agent.clone()),
            RunName::Instant { .. } | RunName::Manual(_) => None,
        }
    }

    /// Reads `<run>`; only the form that is written.
    pub fn parse(text: &str) -> Option<RunName> {
        let name = match text.split_once('-') {
            Some((ms, rest)) => {
                let instant = Instant::from_millis(ms.parse().ok()?);
                let dots: Vec<&str> = rest.splitn(3, '.').collect();
                match dots.as_slice() {
                    [revision, epoch, agent] => RunName::Share {
                        instant,
                        incarnation: Incarnation {
                            epoch: Epoch(parse_base36(epoch)?.try_into().ok()?),
                            revision: Revision(parse_base36(revision)?.try_into().ok()?),
                        },
                        agent: AgentName::parse(agent).ok()?,
                    },
                    _ => RunName::Instant { instant, incarnation: parse_incarnation(rest)? },
                }
            }
            None => RunName::Manual(Ulid::from_string(text).ok()?.0),
        };
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunName::Instant { instant, incarnation } => {
                write!(f, "{}-{}", instant.millis(), format_incarnation(*incarnation))
            }
            RunName::Manual(ulid) => f.write_str(&Ulid(*ulid).to_string().to_ascii_lowercase()),
            RunName::Share { instant, incarnation: Incarnation { epoch, revision }, agent } => {
                let revision = base36(u64::try_from(revision.0).unwrap_or(0));
                let epoch = base36(u64::from(epoch.0));
                write!(f, "{}-{revision}.{epoch}.{agent}", instant.millis())
            }
        }
    }
}

/// `<revision>` or `<revision>.<epoch>`, in base 36.
pub fn format_incarnation(incarnation: Incarnation) -> String {
    format_epoched(incarnation.epoch, incarnation.revision)
}

/// Reads what [`format_incarnation`] wrote.
pub fn parse_incarnation(text: &str) -> Option<Incarnation> {
    let (epoch, revision) = parse_epoched(text)?;
    Some(Incarnation { epoch, revision })
}

/// An epoch and a revision as one short word.
pub fn format_epoched(epoch: Epoch, revision: Revision) -> String {
    let revision = base36(u64::try_from(revision.0).unwrap_or(0));
    match epoch {
        EPOCH_USUAL => revision,
        Epoch(other) => format!("{revision}.{}", base36(u64::from(other))),
    }
}

/// Reads what [`format_epoched`] wrote.
pub fn parse_epoched(text: &str) -> Option<(Epoch, Revision)> {
    let (revision, epoch) = match text.split_once('.') {
        Some((revision, epoch)) => (revision, Epoch(parse_base36(epoch)?.try_into().ok()?)),
        None => (text, EPOCH_USUAL),
    };
    let revision = Revision(parse_base36(revision)?.try_into().ok()?);
    (format_epoched(epoch, revision) == text).then_some((epoch, revision))
}

fn base36(mut value: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(value % 36).ok().and_then(|digit| char::from_digit(digit, 36));
        digits.push(digit.unwrap_or('0'));
        value /= 36;
        if value == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

fn parse_base36(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(text, 36).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(run: RunKey, epoch: u32, revision: i64) -> RunId {
        RunId {
            task: TaskName::parse("default/nightly-backup").unwrap(),
            incarnation: Incarnation { epoch: Epoch(epoch), revision: Revision(revision) },
            run,
            agent: None,
        }
    }

    #[test]
    fn run_ids_have_the_form_that_scripts_know() {
        let at = RunKey::Instant(Instant::from_millis(1_795_055_400_000));
        let text = |run, epoch| format_run_id(&id(run, epoch, 46_655));
        assert_eq!(text(at, 1), "default/nightly-backup@1795055400000-zzz");
        assert_eq!(text(at, 2), "default/nightly-backup@1795055400000-zzz.2");
        let share = |agent: &str, epoch| {
            let agent = Some(AgentName::parse(agent).unwrap());
            format_run_id(&RunId { agent, ..id(at, epoch, 46_655) })
        };
        assert_eq!(share("web-1.b", 1), "default/nightly-backup@1795055400000-zzz.1.web-1.b");
        assert_eq!(share("2", 2), "default/nightly-backup@1795055400000-zzz.2.2");
        let manual = RunKey::Manual(0x0191_0000_0000_0000_0000_0000_0000_0001);
        assert_eq!(text(manual, 1), "default/nightly-backup@01j40000000000000000000001");
        let share = RunId { agent: Some(AgentName::parse("web").unwrap()), ..id(at, 1, 46_655) };
        assert_eq!(share.to_string(), format_run_id(&share), "as the core writes it");
    }

    #[test]
    fn only_the_written_form_is_read() {
        for text in [
            "default/a",
            "default@1-1",
            "default/a@",
            "default/a@1",
            "default/a@01-1",
            "default/a@+1-1",
            "default/a@-1-1",
            "default/a@1-1.1",
            "default/a@1-Z",
            "default/a@1-01",
            "default/a@1-",
            "default/a@99999999999999999-1",
            "default/a@01J40000000000000000000001",
            "Default/a@1-1",
            "default/a@1-1@",
            "default/a@1-1.1.Web",
            "default/a@1-1.01.web",
            "default/a@1-1.1.",
        ] {
            assert!(parse_run_id(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_run_id_reads_back(
            ms in 0..=Instant::MAX.millis(),
            epoch: u32,
            revision in 0_i64..,
            ulid: u128,
            manual: bool,
            agent in proptest::option::of("[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?"),
        ) {
            let agent = agent.map(|agent| AgentName::parse(&agent).unwrap());
            let at = RunKey::Instant(Instant::from_millis(ms));
            let run = if manual { RunKey::Manual(ulid) } else { at };
            let id = RunId { agent: agent.filter(|_| !manual), ..id(run, epoch, revision) };
            let (task, name) = parse_run_id(&format_run_id(&id)).unwrap();
            prop_assert_eq!(&task, &id.task);
            prop_assert_eq!(&name, &RunName::of(&id));
            prop_assert_eq!(name.key(), run);
            if !manual {
                prop_assert_eq!(name.id(task), id);
            }
        }

        #[test]
        fn any_text_is_answered(text in ".{0,60}") {
            let _ = parse_run_id(&text);
        }
    }
}
