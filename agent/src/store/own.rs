//! What the process before wrote down of the runs of a range, for one that goes on with its claim.
//!
//! A run that it began lies in the family `run` until its end is written down, and that is a row
//! of history in the same batch: so of each run exactly one of the two is there, or it was never
//! begun.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use rocksdb::{IteratorMode, ReadOptions};
use tocktower_core::agent::effect::{Fences, SettledEnd};
use tocktower_core::agent::input::{LoadAnswer, OwnRun};
use tocktower_core::ids::{Attempt, Fence, RangeId, RunId, TaskName};
use tocktower_core::run::RunRecord;
use tocktower_core::time::Instant;

use crate::store::error::StoreError;
use crate::store::keys::RunPlace;
use crate::store::limits::{LOOKUP_ROWS, QUERY_RUNS_MAX};
use crate::store::query::{RunPage, StateSet, TaskRuns};
use crate::store::recent::{Account, Recent};
use crate::store::{Store, keys, options, values};

/// So few tasks are looked for one by one.
const SOUGHT_TASKS: usize = 64;

/// What is to be read: rows that it is known of, and what has to be looked for.
#[derive(Default)]
struct Asked<'a> {
    runs: Vec<(Account, &'a RunId)>,
    tasks: Vec<(Account, &'a (TaskName, Instant))>,
    runs_sought: Vec<&'a RunId>,
    tasks_sought: Vec<&'a (TaskName, Instant)>,
}

impl Store {
    pub(super) fn load_own(
        &self,
        range: RangeId,
        under: Fences,
        runs: &[RunId],
        tasks: &[(TaskName, Instant)],
    ) -> Result<LoadAnswer, StoreError> {
        let mut own = self.begun(range, under.newest, runs)?;
        // Of a run whose row is forgotten, if there was one: it may have been begun.
        let kept = |run: &&RunId| RunPlace::of(run).ms >= self.cutoffs.history();
        let (kept, forgotten): (Vec<&RunId>, Vec<&RunId>) = runs.iter().partition(kept);
        own.extend(forgotten.into_iter().map(|run| OwnRun {
            run: run.clone(),
            attempt: Attempt::NONE,
            fence: Fence::default(),
            end: None,
            until: None,
        }));
        let firsts = tasks.iter().map(first_of);
        let oldest = firsts.chain(kept.iter().map(|run| RunPlace::of(run).ms)).min();
        let Some(oldest) = oldest else { return Ok(LoadAnswer::Own(own)) };
        // What is known by task has to be read first, and the writer waits for that. Not at an
        // adoption, which asks for all ranges one after the other.
        let few = under.earlier && kept.is_empty() && tasks.len() <= SOUGHT_TASKS;
        let asked = match few {
            true => Asked { tasks_sought: tasks.iter().collect(), ..Asked::default() },
            false => self.with_recent(oldest, |recent| Ok(self.asked(recent, kept, tasks)))?,
        };
        let mut last = None;
        for (row, (_, run)) in self.accounts(&asked.runs)?.iter().zip(&asked.runs) {
            let row = row.as_ref().filter(|row| row.id == **run && last != Some(run));
            if let Some(end) = row.and_then(|row| ended(row, None)) {
                last = Some(run);
                own.push(end);
            }
        }
        for (row, (_, task)) in self.accounts(&asked.tasks)?.iter().zip(&asked.tasks) {
            let row = row.as_ref().filter(|row| row.id.task == task.0 && reaches(row, task));
            own.extend(row.and_then(|row| ended(row, Some(under))));
        }
        for run in asked.runs_sought {
            own.extend(self.run(run)?.iter().find_map(|row| ended(row, None)));
        }
        for task in asked.tasks_sought {
            self.seek_ended(task, under, &mut own)?;
        }
        Ok(LoadAnswer::Own(own))
    }

    fn asked<'a>(
        &self,
        recent: &Recent,
        runs: Vec<&'a RunId>,
        tasks: &'a [(TaskName, Instant)],
    ) -> Asked<'a> {
        let mut asked = Asked::default();
        for run in runs {
            let place = RunPlace::of(run);
            match recent.reaches(place.ms) {
                true => asked.runs.extend(recent.of_run(&place).into_iter().map(|at| (at, run))),
                false => asked.runs_sought.push(run),
            }
        }
        for task in tasks {
            let first = first_of(task);
            // One that is longer than others may have begun at any time.
            let in_span = self.spans_to.load(Ordering::Acquire) >= first;
            if in_span || !recent.reaches(first) {
                asked.tasks_sought.push(task);
                continue;
            }
            let accounts = recent.of_task(&keys::task_hash(&task.0), first);
            asked.tasks.extend(accounts.into_iter().map(|at| (at, task)));
        }
        asked
    }

    /// The records that lie at these places, in their order; `None`: it is forgotten.
    fn accounts<T>(&self, asked: &[(Account, T)]) -> Result<Vec<Option<RunRecord>>, StoreError> {
        let mut page = RunPage::default();
        let mut records = Vec::with_capacity(asked.len());
        for asked in asked.chunks(LOOKUP_ROWS) {
            let keys: Vec<_> = asked.iter().map(|((at, fence), _)| at.row(*fence)).collect();
            let rows = self.rows(options::HISTORY, &keys)?;
            records.extend(rows.iter().map(|row| self.row(row.as_deref(), &mut page)));
        }
        Ok(records)
    }

    /// What has ended of a task, read from its rows.
    fn seek_ended(
        &self,
        (task, after): &(TaskName, Instant),
        under: Fences,
        own: &mut Vec<OwnRun>,
    ) -> Result<(), StoreError> {
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
            own.extend(page.runs.iter().filter_map(|row| ended(row, Some(under))));
            let Some(next) = page.next else { return Ok(()) };
            asked.before = Some(next);
        }
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
                let fence = attempt.fence;
                begun.push(OwnRun { run, attempt, fence, end: None, until: None });
            }
        }
        Ok(begun)
    }
}

/// The first millisecond that is asked for of a task.
fn first_of((_, after): &(TaskName, Instant)) -> u64 {
    keys::instant_ms(*after) + 1
}

/// Whether a record is of an instant that is asked for, or of several, one of which is.
fn reaches(row: &RunRecord, task: &(TaskName, Instant)) -> bool {
    let until = row.span.map_or(RunPlace::of(&row.id).ms, |span| keys::instant_ms(span.until));
    until >= first_of(task)
}

/// What a row of history says; `under`: only an account under one of these fences.
fn ended(row: &RunRecord, under: Option<Fences>) -> Option<OwnRun> {
    if !row.state.is_end() || under.is_some_and(|under| !under.has(row.fence)) {
        return None;
    }
    let attempt = row.newest().map_or(Attempt::NONE, |newest| newest.attempt);
    let until = row.span.map(|span| span.until);
    let end = Some(SettledEnd::of(row.state));
    Some(OwnRun { run: row.id.clone(), attempt, fence: row.fence, end, until })
}
