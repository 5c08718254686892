//! Questions about history, from people and coordinators. They run on the caller's thread beside
//! the writer, and each looks at a bounded number of rows: what does not fit comes with a cursor.
//!
//! Everything is newest first. Of one task that is one seek, since its rows lie together. Over all
//! tasks there is an index by time, and one by state and time for the ends that people look for
//! ("failures in the last hour"); successes are not in the latter, they are nearly everything.
//! An index only points: whether a run is still in that state is asked of its highest account.
//!
//! Time is a run's instant, or when a manual run was asked for, so that the same question has the
//! same answer on every agent. A run of several instants (a span) is found by its first one across
//! tasks, and by any of them within its task.

use rocksdb::{DBRawIterator, ReadOptions};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{Attempt, Namespace, RangeId, RunId, TaskName};
use tocktower_core::run::{CapturedStream, RunRecord, RunState};
use tocktower_core::time::Instant;

use crate::store::apply::SLICE_STEP_MS;
use crate::store::error::StoreError;
use crate::store::keys::RunPlace;
use crate::store::limits::{QUERY_ROWS_MAX, QUERY_RUNS_MAX, RUN_ROWS_MAX, SPAN_ROWS_BACK};
use crate::store::{Store, codec, keys, options, values};

/// Which of an attempt's two streams.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum OutputStream {
    Stdout,
    Stderr,
}

impl OutputStream {
    /// A promise: it is on disk.
    pub(super) fn byte(self) -> u8 {
        match self {
            OutputStream::Stdout => 1,
            OutputStream::Stderr => 2,
        }
    }
}

/// States that are asked for; the empty set asks for every state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StateSet(u16);

impl StateSet {
    pub const ALL: StateSet = StateSet(0);

    pub fn with(self, state: RunState) -> StateSet {
        StateSet(self.0 | 1 << values::state_byte(state))
    }

    pub fn has(self, state: RunState) -> bool {
        self.0 == 0 || self.0 & 1 << values::state_byte(state) != 0
    }

    pub(super) fn states(self) -> impl Iterator<Item = RunState> {
        (1..=10).filter_map(values::state_of).filter(move |state| self.has(*state))
    }

    fn all_indexed(self) -> bool {
        self.0 != 0 && self.states().all(is_indexed)
    }
}

impl FromIterator<RunState> for StateSet {
    fn from_iter<I: IntoIterator<Item = RunState>>(states: I) -> StateSet {
        states.into_iter().fold(StateSet::ALL, StateSet::with)
    }
}

/// Whether runs in this state are in the index by state.
pub(super) fn is_indexed(state: RunState) -> bool {
    state.is_end() && state != RunState::Succeeded
}

/// A place in the order of runs, the same on every agent. Made from a run or from its own bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunCursor(RunPlace);

impl RunCursor {
    pub fn of(run: &RunId) -> RunCursor {
        RunCursor(RunPlace::of(run))
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.bytes()
    }

    /// `None` for bytes that are no cursor.
    pub fn parse(bytes: &[u8]) -> Option<RunCursor> {
        RunPlace::read(bytes).map(RunCursor)
    }
}

/// Runs of one task, over all its incarnations, the newest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskRuns {
    pub task: TaskName,
    pub states: StateSet,
    /// Inclusive.
    pub since: Option<Instant>,
    /// Exclusive.
    pub until: Option<Instant>,
    pub limit: usize,
    /// Only what comes after this in the order.
    pub before: Option<RunCursor>,
}

/// Runs of all tasks, by time, the newest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AllRuns {
    pub namespace: Option<Namespace>,
    pub states: StateSet,
    /// Inclusive.
    pub since: Option<Instant>,
    /// Exclusive.
    pub until: Option<Instant>,
    pub limit: usize,
    pub before: Option<RunCursor>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct RunPage {
    /// Of a run with several accounts, the one under the highest fence.
    pub runs: Vec<RunRecord>,
    /// There may be more from here on. A page may be short and still have one: the search looked at
    /// as many rows as it may.
    pub next: Option<RunCursor>,
    /// Rows that could not be read.
    pub unreadable: u64,
}

/// A question as data, for the store thread and the agent link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Query {
    TaskRuns(TaskRuns),
    AllRuns(AllRuns),
    Run(RunId),
    LastRun(TaskName),
    Output { run: RunId, attempt: Attempt, stream: OutputStream },
    Ranges { count: RangeCount },
}

#[derive(Clone, PartialEq, Debug)]
pub enum QueryAnswer {
    Page(RunPage),
    /// All accounts, the highest fence first.
    Run(Vec<RunRecord>),
    LastRun(Option<Box<RunRecord>>),
    Output(Option<CapturedStream>),
    Ranges(Vec<RangeId>),
}

/// A stretch of time in milliseconds, both ends inclusive.
#[derive(Clone, Copy)]
struct Times {
    first: u64,
    last: u64,
}

impl Store {
    pub fn query(&self, query: &Query) -> Result<QueryAnswer, StoreError> {
        Ok(match query {
            Query::TaskRuns(asked) => QueryAnswer::Page(self.task_runs(asked)?),
            Query::AllRuns(asked) => QueryAnswer::Page(self.all_runs(asked)?),
            Query::Run(run) => QueryAnswer::Run(self.run(run)?),
            Query::LastRun(task) => QueryAnswer::LastRun(self.last_run(task)?.map(Box::new)),
            Query::Output { run, attempt, stream } => {
                QueryAnswer::Output(self.output(run, *attempt, *stream)?)
            }
            Query::Ranges { count } => QueryAnswer::Ranges(self.history_ranges(*count)?),
        })
    }

    pub fn task_runs(&self, asked: &TaskRuns) -> Result<RunPage, StoreError> {
        let Some(times) = self.times(asked.since, asked.until) else {
            return Ok(RunPage::default());
        };
        let hash = keys::task_hash(&asked.task);
        let end = match self.cutoffs.history() {
            0 => keys::behind(&keys::row_from(&hash, 0)),
            cutoff => keys::row_from(&hash, cutoff - 1),
        };
        let from = match &asked.before {
            Some(RunCursor(place)) if place.ms <= times.last => keys::behind(&place.row_prefix()),
            _ => keys::row_from(&hash, times.last),
        };
        let mut rows = self.rows_from(&keys::row_task(&hash), &end);
        rows.seek(from);
        let mut page = RunPage::default();
        let mut walk = Walk::new(asked.limit);
        // Rows before `first` that were looked at, for a span that reaches beyond it.
        let mut back = 0;
        while let Some(key) = rows.key() {
            let Some((place, _)) = keys::row_parts(key) else {
                rows.next();
                continue;
            };
            let early = place.ms < times.first;
            back += usize::from(early);
            if back > SPAN_ROWS_BACK {
                break;
            }
            if walk.full(&place, &mut page) {
                return Ok(page);
            }
            let told = rows.value().and_then(values::history_decode).map(|(state, _)| state);
            let wanted = |state| asked.states.has(state) && (!early || may_span(state));
            let run = match told.is_none_or(wanted) {
                true => self.row(rows.value(), &mut page),
                false => None,
            };
            pass(&mut rows, &place.row_prefix());
            let run = run.filter(|run| run.id.task == asked.task);
            page.runs.extend(run.filter(|run| {
                let until = run.span.map(|span| keys::instant_ms(span.until));
                asked.states.has(run.state)
                    && (!early || until.is_some_and(|until| until >= times.first))
            }));
        }
        self.status(&rows)?;
        Ok(page)
    }

    pub fn all_runs(&self, asked: &AllRuns) -> Result<RunPage, StoreError> {
        let Some(times) = self.times(asked.since, asked.until) else {
            return Ok(RunPage::default());
        };
        if !asked.states.all_indexed() {
            return self.indexed(asked, times, None);
        }
        // Few states: one page of each, merged. What the merge cuts off comes with the next page.
        let limit = asked.limit.clamp(1, QUERY_RUNS_MAX);
        let mut merged = RunPage::default();
        for state in asked.states.states() {
            let page = self.indexed(asked, times, Some(state))?;
            merged.unreadable += page.unreadable;
            merged.runs.extend(page.runs);
            merged.next = nearer(merged.next, page.next);
        }
        merged.runs.sort_by_cached_key(|run| order(&RunPlace::of(&run.id)));
        merged.runs.dedup_by(|one, other| one.id == other.id);
        if let Some(RunCursor(next)) = &merged.next {
            // Beyond the nearest cursor not every state has been looked at.
            merged.runs.retain(|run| order(&RunPlace::of(&run.id)) <= order(next));
        }
        if merged.runs.len() > limit {
            merged.runs.truncate(limit);
            merged.next = merged.runs.last().map(|run| RunCursor::of(&run.id));
        }
        Ok(merged)
    }

    /// All accounts of a run, the highest fence first.
    pub fn run(&self, run: &RunId) -> Result<Vec<RunRecord>, StoreError> {
        let place = RunPlace::of(run);
        if place.ms < self.cutoffs.history() {
            return Ok(Vec::new());
        }
        let prefix = place.row_prefix();
        let mut rows = self.rows_from(&prefix, &keys::behind(&prefix));
        rows.seek(&prefix);
        let mut accounts = Vec::new();
        let mut page = RunPage::default();
        while rows.valid() && accounts.len() < RUN_ROWS_MAX {
            let account = self.row(rows.value(), &mut page);
            accounts.extend(account.filter(|account| account.id == *run));
            rows.next();
        }
        self.status(&rows)?;
        Ok(accounts)
    }

    /// The newest run of a task.
    pub fn last_run(&self, task: &TaskName) -> Result<Option<RunRecord>, StoreError> {
        let asked = TaskRuns {
            task: task.clone(),
            states: StateSet::ALL,
            since: None,
            until: None,
            limit: 1,
            before: None,
        };
        Ok(self.task_runs(&asked)?.runs.pop())
    }

    /// What an attempt wrote; `None` if nothing is kept.
    pub fn output(
        &self,
        run: &RunId,
        attempt: Attempt,
        stream: OutputStream,
    ) -> Result<Option<CapturedStream>, StoreError> {
        let key = RunPlace::of(run).output(attempt, stream.byte());
        let value = self.db.get_pinned_cf(self.family(options::OUTPUT), key);
        let value = value.map_err(|error| self.failed(error))?;
        Ok(value.as_deref().and_then(values::output_decode))
    }

    /// The ranges, of so many, that there is history of.
    pub fn history_ranges(&self, count: RangeCount) -> Result<Vec<RangeId>, StoreError> {
        let shift = 15 - count.get().trailing_zeros();
        let mut ranges = Vec::new();
        for (slice, newest) in self.slices()? {
            let range = RangeId(slice >> shift);
            if newest + SLICE_STEP_MS >= self.cutoffs.history() && ranges.last() != Some(&range) {
                ranges.push(range);
            }
        }
        Ok(ranges)
    }

    /// Slices of the hash space that were written to, in order, with their newest run.
    pub(super) fn slices(&self) -> Result<Vec<(u16, u64)>, StoreError> {
        let mut reading = ReadOptions::default();
        reading.set_iterate_lower_bound([keys::META_SLICE]);
        reading.set_iterate_upper_bound([keys::META_SLICE + 1]);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(options::META), reading);
        rows.seek_to_first();
        let mut slices = Vec::new();
        while let Some((key, value)) = rows.item() {
            slices.extend(keys::meta_number(key).zip(values::ms_decode(value)));
            rows.next();
        }
        self.status(&rows)?;
        Ok(slices)
    }

    /// Runs of a range that were opened and not closed by this process.
    pub fn open_runs(&self, range: RangeId) -> Result<Vec<(RunId, Attempt)>, StoreError> {
        let (from, end) = keys::range_all(range);
        let mut reading = ReadOptions::default();
        reading.set_iterate_lower_bound(&from[..]);
        reading.set_iterate_upper_bound(&end[..]);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(options::RUN), reading);
        rows.seek_to_first();
        let mut runs = Vec::new();
        while let Some((key, value)) = rows.item() {
            let run = keys::open_run_of(key).zip(values::open_run_decode(value));
            runs.extend(run.map(|((incarnation, run), (attempt, task, agent))| {
                (RunId { task, incarnation, run, agent }, attempt)
            }));
            rows.next();
        }
        self.status(&rows)?;
        Ok(runs)
    }

    /// One page of an index: by time, or of one state.
    fn indexed(
        &self,
        asked: &AllRuns,
        times: Times,
        state: Option<RunState>,
    ) -> Result<RunPage, StoreError> {
        let byte = state.map(values::state_byte);
        let from = |ms| byte.map_or_else(|| keys::time_from(ms), |b| keys::state_from(b, ms));
        let place_prefix =
            |place: &RunPlace| byte.map_or_else(|| place.time_prefix(), |b| place.state_prefix(b));
        let mut page = RunPage::default();
        let first = times.first.max(self.cutoffs.history());
        let end = byte.map_or_else(|| keys::time_behind(first), |b| keys::state_behind(b, first));
        let mut rows = self.rows_from(&from(times.last), &end);
        match &asked.before {
            Some(RunCursor(place)) if place.ms <= times.last => {
                rows.seek(keys::behind(&place_prefix(place)));
            }
            _ => rows.seek(from(times.last)),
        }
        let mut walk = Walk::new(asked.limit);
        while let Some((key, value)) = rows.item() {
            let Some((place, _)) = keys::time_parts(key) else {
                rows.next();
                continue;
            };
            if walk.full(&place, &mut page) {
                return Ok(page);
            }
            let told = value.get(1).copied().and_then(values::state_of).or(state);
            if told.is_some_and(|told| asked.states.has(told)) {
                let run = self.highest(&place, &mut page)?;
                page.runs.extend(run.filter(|run| {
                    asked.states.has(run.state)
                        && state.is_none_or(|state| run.state == state)
                        && asked.namespace.as_ref().is_none_or(|ns| run.id.task.namespace == *ns)
                }));
                pass(&mut rows, &place_prefix(&place));
            } else {
                rows.next();
            }
        }
        self.status(&rows)?;
        Ok(page)
    }

    /// The account of a run under the highest fence.
    fn highest(
        &self,
        place: &RunPlace,
        page: &mut RunPage,
    ) -> Result<Option<RunRecord>, StoreError> {
        let prefix = place.row_prefix();
        let mut rows = self.rows_from(&prefix, &keys::behind(&prefix));
        rows.seek(&prefix);
        let run = rows.valid().then(|| self.row(rows.value(), page)).flatten();
        self.status(&rows)?;
        Ok(run)
    }

    pub(super) fn rows_from(&self, from: &[u8], end: &[u8]) -> DBRawIterator<'_> {
        let mut reading = ReadOptions::default();
        reading.set_iterate_lower_bound(from);
        reading.set_iterate_upper_bound(end);
        self.db.raw_iterator_cf_opt(self.family(options::HISTORY), reading)
    }

    pub(super) fn row(&self, value: Option<&[u8]>, page: &mut RunPage) -> Option<RunRecord> {
        let run = value.and_then(values::history_decode);
        let run = run.and_then(|(_, bytes)| codec::decode_run(bytes));
        page.unreadable += u64::from(run.is_none());
        run
    }

    pub(super) fn status(&self, rows: &DBRawIterator<'_>) -> Result<(), StoreError> {
        rows.status().map_err(|error| self.failed(error))
    }

    fn times(&self, since: Option<Instant>, until: Option<Instant>) -> Option<Times> {
        let first = since.map_or(0, keys::instant_ms);
        let last = match until {
            None => keys::MS_END - 1,
            Some(until) => keys::instant_ms(until).checked_sub(1)?,
        };
        (first <= last).then_some(Times { first, last })
    }
}

/// Counts rows and runs, and says when a page must end.
struct Walk {
    rows: usize,
    limit: usize,
    last: Option<RunPlace>,
}

impl Walk {
    fn new(limit: usize) -> Walk {
        Walk { rows: 0, limit: limit.clamp(1, QUERY_RUNS_MAX), last: None }
    }

    /// Called with each row before it is looked at; sets the cursor when the page is full.
    fn full(&mut self, place: &RunPlace, page: &mut RunPage) -> bool {
        self.rows += 1;
        if page.runs.len() < self.limit && self.rows <= QUERY_ROWS_MAX {
            self.last = Some(place.clone());
            return false;
        }
        page.next = self.last.take().map(RunCursor);
        true
    }
}

/// Steps that are tried before a seek, which costs as much as some tens of them.
const STEPS: usize = 4;

/// Goes on behind all rows of a run: mostly there is one.
fn pass(rows: &mut DBRawIterator<'_>, prefix: &[u8]) {
    for _ in 0..STEPS {
        rows.next();
        if rows.key().is_none_or(|key| !key.starts_with(prefix)) {
            return;
        }
    }
    rows.seek(keys::behind(prefix));
}

/// Whether a record in this state may stand for several instants: those that came to no start.
pub(super) fn may_span(state: RunState) -> bool {
    use RunState::{Cancelled, Lost, Missed, Skipped};
    matches!(state, Skipped | Missed | Lost | Cancelled)
}

/// The order of `all_runs`.
fn order(place: &RunPlace) -> Vec<u8> {
    place.time_prefix()
}

/// The cursor that comes first in the order.
fn nearer(one: Option<RunCursor>, other: Option<RunCursor>) -> Option<RunCursor> {
    match (one, other) {
        (Some(one), Some(other)) => {
            Some(if order(&one.0) <= order(&other.0) { one } else { other })
        }
        (one, other) => one.or(other),
    }
}
