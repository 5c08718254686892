//! Runs as the API tells them, in the words of the account.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::TryStreamExt;
use tocktower_client::time::{Timestamp, system_time};
use tocktower_client::{Client, Error, Run, RunFilter, RunState, json};

use crate::account::{Duty, End, Instant, Told};
use crate::clock::{Moment, moment};

/// Every run of a namespace.
pub async fn read(
    client: &Client,
    namespace: &str,
    duties: &BTreeMap<Instant, Duty>,
) -> Result<Vec<Told>, Error> {
    let filter = RunFilter { namespace: Some(namespace.to_owned()), ..RunFilter::default() };
    let runs: Vec<Run> = client.list_runs(filter).try_collect().await?;
    Ok(runs.iter().flat_map(|run| told(run, duties)).collect())
}

/// A run; a span of instants that were not run is one of each.
fn told(run: &Run, duties: &BTreeMap<Instant, Duty>) -> Vec<Told> {
    let first = Instant { task: run.task.clone(), at: at(run.instant.as_ref()) };
    let told = |instant: Instant| Told { instant, ..one(run) };
    if run.count <= 1 {
        return vec![told(first)];
    }
    let last = Instant { task: run.task.clone(), at: at(run.until.as_ref()) };
    duties.range(first..=last).map(|(instant, _)| told(instant.clone())).collect()
}

fn one(run: &Run) -> Told {
    let listed = u32::try_from(run.attempts.len()).unwrap_or(u32::MAX);
    let agents = run.attempts.iter().map(|attempt| &attempt.agent).chain([&run.agent]);
    let late = run.lateness_us.map(|late| Duration::from_micros(late.unsigned_abs()));
    let early = run.lateness_us.is_some_and(|late| late < 0);
    let due = at(run.due.as_ref());
    Told {
        instant: Instant { task: run.task.clone(), at: at(run.instant.as_ref()) },
        end: end(run),
        started: late.map(|late| if early { due.saturating_sub(late) } else { due + late }),
        attempts: run.attempt.max(listed),
        agents: agents.filter(|agent| !agent.is_empty()).cloned().collect::<BTreeSet<_>>(),
    }
}

fn end(run: &Run) -> End {
    match run.state() {
        _ if run.provisional => End::Open,
        RunState::Unspecified | RunState::Queued | RunState::Running | RunState::WaitingRetry => {
            End::Open
        }
        RunState::Succeeded => End::Succeeded,
        RunState::Lost => End::Lost,
        other => End::Other(json::run_state_word(other)),
    }
}

fn at(time: Option<&Timestamp>) -> Moment {
    time.map(|time| moment(system_time(time))).unwrap_or_default()
}
