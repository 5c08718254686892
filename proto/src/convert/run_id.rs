//! The text form of run ids: `<ns>/<name>@<run>`.
//!
//! `<run>` is `<instant in Unix milliseconds>-<incarnation in base 36>` for scheduled runs, with
//! `.<epoch in base 36>` behind it once the cluster was put back from a backup (epoch 1, the usual,
//! is left out), and a ULID in lower case for manual ones. Clients take it as opaque; we read it
//! back, and only in the one form we write, so that two texts are never one run.

use std::fmt;

use tocktower_core::ids::{Epoch, Incarnation, Revision, RunId, RunKey, TaskName};
use tocktower_core::time::Instant;
use ulid::Ulid;

/// The epoch of a cluster that was never put back.
const EPOCH_USUAL: Epoch = Epoch(1);

/// A run as its text names it. A ULID says all; it comes without an incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RunName {
    Instant { instant: Instant, incarnation: Incarnation },
    Manual(u128),
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
        match id.run {
            RunKey::Instant(instant) => RunName::Instant { instant, incarnation: id.incarnation },
            RunKey::Manual(ulid) => RunName::Manual(ulid),
        }
    }

    pub fn key(self) -> RunKey {
        match self {
            RunName::Instant { instant, .. } => RunKey::Instant(instant),
            RunName::Manual(ulid) => RunKey::Manual(ulid),
        }
    }

    /// Reads `<run>`; only the form that is written.
    pub fn parse(text: &str) -> Option<RunName> {
        let name = match text.split_once('-') {
            Some((ms, incarnation)) => RunName::Instant {
                instant: Instant::from_millis(ms.parse().ok()?),
                incarnation: parse_incarnation(incarnation)?,
            },
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
        }
    }

    #[test]
    fn run_ids_have_the_form_that_scripts_know() {
        let at = RunKey::Instant(Instant::from_millis(1_795_055_400_000));
        let text = |run, epoch| format_run_id(&id(run, epoch, 46_655));
        assert_eq!(text(at, 1), "default/nightly-backup@1795055400000-zzz");
        assert_eq!(text(at, 2), "default/nightly-backup@1795055400000-zzz.2");
        let manual = RunKey::Manual(0x0191_0000_0000_0000_0000_0000_0000_0001);
        assert_eq!(text(manual, 1), "default/nightly-backup@01j40000000000000000000001");
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
        ) {
            let at = RunKey::Instant(Instant::from_millis(ms));
            let run = if manual { RunKey::Manual(ulid) } else { at };
            let id = id(run, epoch, revision);
            let (task, name) = parse_run_id(&format_run_id(&id)).unwrap();
            prop_assert_eq!(task, id.task.clone());
            prop_assert_eq!(name, RunName::of(&id));
            prop_assert_eq!(name.key(), run);
        }

        #[test]
        fn any_text_is_answered(text in ".{0,60}") {
            let _ = parse_run_id(&text);
        }
    }
}
