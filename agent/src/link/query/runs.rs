//! Lists of runs: what is open and what is history, as one list, the newest first.
//!
//! The order of an answer is (instant, text of the run id), falling: the same on every agent, so
//! that a coordinator can merge pages of many. The history promises only that instants fall. So a
//! page is read until the instant of its last run is behind it, and of one instant at which very
//! many tasks ran only those are kept that can still be on the page: memory goes by the page, time
//! by the instant, and a bound on time answers `too_broad`.
//!
//! What is not in the history yet, open runs and those whose end is on its way to the disk, is
//! asked for before the history is read. The other way round, a run that is written in between
//! would be in neither.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant as Clock;

use prost::Message;
use tocktower_core::ids::{Fence, Name, Namespace, RunId, RunKey, TaskName};
use tocktower_core::run::{RunRecord, RunState};
use tocktower_core::time::Instant;
use tocktower_proto::convert::{format_run_id, run_proto, run_state_from_proto};
use tocktower_proto::v1;
use tocktower_proto::v1::query_answer::Kind;

use super::{Asker, QueryError, parse};
use crate::link::limits::{
    ANSWER_RUNS_DEFAULT, ANSWER_RUNS_MAX, BATCH_BYTES_MAX, BATCH_RUNS_MAX, NAMED_RUNS_MAX,
    PAGE_RUNS_MAX, PAGE_RUNS_MIN, READ_WITHIN,
};
use crate::link::{History, HistoryError, HistoryRuns, LinkCommand};

/// Where a run stands in a list. Reversed, this is the order.
type Place = (Instant, String);

fn place(run: &RunRecord) -> Place {
    (run.instant, format_run_id(&run.id))
}

/// Of two accounts of one run the one that ranks higher counts; under one fence an account that has
/// ended is the newer one.
pub(super) fn rank(run: &RunRecord) -> (Fence, bool, usize) {
    (run.fence, run.state.is_end(), run.attempts.len())
}

/// Bytes at the end of a ulid that are not its time.
const ULID_END_BYTES: usize = 10;

/// Which runs, checked.
struct Filter {
    namespace: Option<Namespace>,
    task: Option<Name>,
    states: Vec<RunState>,
    since: Option<Instant>,
    until: Option<Instant>,
    limit: usize,
    before: Option<Place>,
    /// The end of a ulid: only manual runs with it.
    ulid_end: Option<[u8; ULID_END_BYTES]>,
    /// Only these; all, if there are none.
    named: BTreeSet<RunId>,
}

impl Filter {
    fn read(query: v1::RunsQuery) -> Result<Filter, QueryError> {
        fn invalid(error: impl ToString) -> QueryError {
            QueryError::Invalid(error.to_string())
        }
        let given = |text: String| Some(text).filter(|text| !text.is_empty() && text != "-");
        let namespace = given(query.namespace).map(|text| Namespace::parse(&text));
        let task = given(query.task).map(|text| Name::parse(&text));
        let states = query.states.into_iter().map(run_state_from_proto);
        let limit = match usize::try_from(query.limit).unwrap_or(usize::MAX) {
            0 => ANSWER_RUNS_DEFAULT,
            limit => limit.min(ANSWER_RUNS_MAX),
        };
        let ulid_end = (!query.ulid_end.is_empty()).then(|| query.ulid_end.as_slice().try_into());
        if query.run_ids.len() > NAMED_RUNS_MAX {
            let given = query.run_ids.len();
            return Err(QueryError::Invalid(format!(
                "{given} runs are named; at most {NAMED_RUNS_MAX} are allowed"
            )));
        }
        let named = query.run_ids.iter().map(|run_id| parse(run_id));
        Ok(Filter {
            namespace: namespace.transpose().map_err(invalid)?,
            task: task.transpose().map_err(invalid)?,
            states: states.collect::<Result<_, _>>().map_err(invalid)?,
            since: query.since_ms.map(Instant::from_millis),
            until: query.until_ms.map(Instant::from_millis),
            limit,
            before: query
                .before
                .map(|before| (Instant::from_millis(before.instant_ms), before.run_id)),
            ulid_end: ulid_end.transpose().map_err(invalid)?,
            named: named.collect::<Result<_, _>>()?,
        })
    }

    /// Whether it is one of these, whatever its state.
    fn covers(&self, run: &RunRecord) -> bool {
        let (namespace, name) = (&run.id.task.namespace, &run.id.task.name);
        let last = run.span.map_or(run.instant, |span| span.until);
        self.namespace.as_ref().is_none_or(|asked| asked == namespace)
            && self.task.as_ref().is_none_or(|asked| asked == name)
            && self.since.is_none_or(|since| last >= since)
            && self.until.is_none_or(|until| run.instant < until)
            && self.before.as_ref().is_none_or(|before| {
                run.instant <= before.0 && (run.instant < before.0 || place(run) < *before)
            })
            && self.ulid_end.is_none_or(|end| match run.id.run {
                RunKey::Manual(ulid) => ulid.to_be_bytes().ends_with(&end),
                RunKey::Instant(_) => false,
            })
            && (self.named.is_empty() || self.named.contains(&run.id))
    }

    fn state(&self, state: RunState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    fn question(&self) -> HistoryRuns {
        let task = self.namespace.clone().zip(self.task.clone());
        // The cursor's own instant belongs to it: other runs of that instant may come after it.
        let upto = self.before.as_ref().map(|(at, _)| Instant::from_millis(at.millis() + 1));
        HistoryRuns {
            task: task.map(|(namespace, name)| TaskName { namespace, name }),
            namespace: self.namespace.clone(),
            states: self.states.clone(),
            since: self.since,
            until: [self.until, upto].into_iter().flatten().min(),
            // One more than asked, to see that the last instant is whole.
            limit: (self.limit + 1).clamp(PAGE_RUNS_MIN, PAGE_RUNS_MAX),
            after: None,
        }
    }
}

impl Asker {
    pub(super) async fn runs(&self, query: v1::RunsQuery) -> Result<(), QueryError> {
        let filter = Filter::read(query)?;
        let unstored = self.ask_loop(LinkCommand::Unstored).await?;
        let (rows, filter) = self
            .read(move |history| {
                let until = Clock::now() + READ_WITHIN;
                let rows = match filter.named.is_empty() {
                    true => rows(history, &filter, until),
                    false => named(history, &filter, until),
                };
                Ok((rows?, filter))
            })
            .await?;
        let rows = rows.ok_or(QueryError::TooBroad)?;
        let rows = stamped(self, rows).await?;
        self.send_runs(&merged(&filter, unstored.into_iter().chain(rows))).await;
        Ok(())
    }

    /// In parts that fit a message; the last one is marked.
    pub(super) async fn send_runs(&self, runs: &[RunRecord]) {
        let mut part = Vec::new();
        let mut bytes = 0;
        for run in runs.iter().map(run_proto) {
            let size = run.encoded_len();
            let full = part.len() >= BATCH_RUNS_MAX || bytes + size > BATCH_BYTES_MAX;
            if full && !part.is_empty() {
                let runs = std::mem::take(&mut part);
                self.send_part(Some(Kind::Runs(v1::RunEvents { runs })), false).await;
                bytes = 0;
            }
            bytes += size;
            part.push(run);
        }
        self.send_part(Some(Kind::Runs(v1::RunEvents { runs: part })), true).await;
    }
}

/// Rows of history, with `provisional` as the loop sees it now; it may add open runs.
pub(super) async fn stamped(
    asker: &Asker,
    rows: Vec<RunRecord>,
) -> Result<Vec<RunRecord>, QueryError> {
    asker.ask_loop(|reply| LinkCommand::Provisional(rows, reply)).await
}

/// The first runs of the history that the filter has room for; `None`: not found in time.
fn rows(
    history: &dyn History,
    filter: &Filter,
    until: Clock,
) -> Result<Option<Vec<RunRecord>>, HistoryError> {
    let mut question = filter.question();
    let mut kept: BTreeMap<Place, RunRecord> = BTreeMap::new();
    loop {
        let page = history.runs(&question)?;
        let last = page.runs.last().map(|run| run.instant);
        for run in page.runs.into_iter().filter(|run| filter.covers(run)) {
            let first_out = kept.first_key_value().filter(|_| kept.len() >= filter.limit);
            if first_out.is_some_and(|((instant, _), _)| run.instant < *instant) {
                continue;
            }
            kept.insert(place(&run), run);
            if kept.len() > filter.limit {
                kept.pop_first();
            }
        }
        let full = kept.len() >= filter.limit;
        let oldest = kept.first_key_value().map(|((instant, _), _)| *instant);
        let behind = full && last.is_some() && last < oldest;
        match page.next {
            Some(next) if !behind => question.after = Some(next),
            Some(_) | None => return Ok(Some(kept.into_values().rev().collect())),
        }
        if Clock::now() > until {
            return Ok(None);
        }
    }
}

/// The rows of the runs that are named; `None`: not read in time.
fn named(
    history: &dyn History,
    filter: &Filter,
    until: Clock,
) -> Result<Option<Vec<RunRecord>>, HistoryError> {
    let mut found = Vec::new();
    for run in &filter.named {
        if Clock::now() > until {
            return Ok(None);
        }
        found.extend(history.accounts(run)?);
    }
    Ok(Some(found))
}

/// One run for each id, in order, as many as were asked for. A run whose row of history is in a
/// state that was asked for, and that is open again in another, is left out: a page may be short
/// by the few runs that were just taken over.
fn merged(filter: &Filter, accounts: impl Iterator<Item = RunRecord>) -> Vec<RunRecord> {
    let mut runs: BTreeMap<Place, RunRecord> = BTreeMap::new();
    for account in accounts.filter(|account| filter.covers(account)) {
        let place = place(&account);
        let known = runs.get(&place).map(rank);
        if known.is_none_or(|known| rank(&account) >= known) {
            runs.insert(place, account);
        }
    }
    let runs = runs.into_values().rev();
    runs.filter(|run| filter.state(run.state)).take(filter.limit).collect()
}
