//! What the process before wrote down of the runs of a range, for one that goes on with its claim.
//!
//! A run that it began lies in the family `run` until its end is written down, and that is a row
//! of history in the same batch: so of each run exactly one of the two is there, or it was never
//! begun.

use std::collections::BTreeSet;

use rocksdb::{IteratorMode, ReadOptions};
use tocktower_core::agent::effect::SettledEnd;
use tocktower_core::agent::input::{LoadAnswer, OwnRun};
use tocktower_core::ids::{Attempt, Fence, RangeId, RunId, TaskName};
use tocktower_core::run::RunRecord;
use tocktower_core::time::Instant;

use crate::store::error::StoreError;
use crate::store::limits::QUERY_RUNS_MAX;
use crate::store::query::{StateSet, TaskRuns};
use crate::store::{Store, keys, options, values};

impl Store {
    pub(super) fn load_own(
        &self,
        range: RangeId,
        fence: Fence,
        runs: &[RunId],
        tasks: &[(TaskName, Instant)],
    ) -> Result<LoadAnswer, StoreError> {
        let mut own = self.begun(range, fence, runs)?;
        for run in runs {
            // Its row is forgotten, if there was one: it may have been begun.
            if keys::RunPlace::of(run).ms < self.cutoffs.history() {
                let attempt = Attempt::NONE;
                own.push(OwnRun { run: run.clone(), attempt, end: None, until: None });
                continue;
            }
            own.extend(self.run(run)?.iter().find_map(|row| ended(row, None)));
        }
        for (task, after) in tasks {
            let mut asked = TaskRuns {
                task: task.clone(),
                states: StateSet::ALL,
                since: Some(Instant::from_millis(after.millis().saturating_add(1))),
                until: None,
                limit: QUERY_RUNS_MAX,
                before: None,
            };
            loop {
                let page = self.task_runs(&asked)?;
                own.extend(page.runs.iter().filter_map(|row| ended(row, Some(fence))));
                let Some(next) = page.next else { break };
                asked.before = Some(next);
            }
        }
        Ok(LoadAnswer::Own(own))
    }

    /// Runs that were begun under a fence, or under an earlier one and are `listed` still, and
    /// whose end is not written down.
    fn begun(
        &self,
        range: RangeId,
        fence: Fence,
        listed: &[RunId],
    ) -> Result<Vec<OwnRun>, StoreError> {
        let listed: BTreeSet<&RunId> = listed.iter().collect();
        let (from, end) = keys::open_runs(range);
        let mut reading = ReadOptions::default();
        reading.set_iterate_lower_bound(from);
        reading.set_iterate_upper_bound(end);
        let family = self.family(options::RUN);
        let mut begun = Vec::new();
        for row in self.db.iterator_cf_opt(family, reading, IteratorMode::Start) {
            let (key, value) = row.map_err(|error| self.failed(error))?;
            let Some((attempt, task, agent)) = values::open_run_decode(&value) else { continue };
            let Some((incarnation, run)) = keys::open_run_of(&key) else { continue };
            let run = RunId { task, incarnation, run, agent };
            if attempt.fence == fence || listed.contains(&run) {
                begun.push(OwnRun { run, attempt, end: None, until: None });
            }
        }
        Ok(begun)
    }
}

/// What a row of history says; `under`: only an account under this fence.
fn ended(row: &RunRecord, under: Option<Fence>) -> Option<OwnRun> {
    if !row.state.is_end() || under.is_some_and(|fence| row.fence != fence) {
        return None;
    }
    let attempt = row.newest().map_or(Attempt::NONE, |newest| newest.attempt);
    let until = row.span.map(|span| span.until);
    let end = Some(SettledEnd::of(row.state));
    Some(OwnRun { run: row.id.clone(), attempt, end, until })
}
