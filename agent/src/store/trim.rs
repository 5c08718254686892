//! Forgetting. Rules by age, by count per task and by bytes; each call does a bounded piece of the
//! work, and whoever calls it decides how often.
//!
//! Age moves a mark: reads begin behind it at once, compaction drops what lies beyond (`cutoffs`),
//! and the index by time and output, which are in order of time, lose their old end with one range
//! delete each. Nothing is deleted row by row.
//!
//! Count walks through the tasks, a few rows a call, and deletes what a task has too much of.
//!
//! Bytes go down only when files are rewritten. So when the history is too large, the mark moves by
//! a piece of the time that is kept, then the whole family is compacted slice by slice, and only
//! after the last slice is the size looked at again: else one step over the rule would forget all.
//!
//! A mark that a wrong clock has set is a history that is lost. So marks of time move only by a
//! clock that has been believed for a while (`TrimClock`), and what is kept is counted from the
//! newest run at most: an agent that wakes years ahead forgets nothing before it has written
//! something there. A mark beyond what the clock allows now was set by a clock that was wrong, or
//! by the rule by bytes, which says so in a mark of its own; else it is lowered again, or new runs
//! would be invisible until the clock has caught up.

use std::sync::PoisonError;
use std::time::Duration;

use rocksdb::{BottommostLevelCompaction, CompactOptions, IteratorMode, ReadOptions, WriteBatch};
use tocktower_core::ids::RangeId;
use tocktower_core::time::Wall;

use crate::store::apply::SLICE_STEP_MS;
use crate::store::error::StoreError;
use crate::store::limits::{REQUEST_ROWS_KEPT, TRIM_BYTES, TRIM_SLICES};
use crate::store::{Store, keys, options, values};

/// Of the time that is kept, how much goes when there are too many bytes.
const BYTES_STEP: u64 = 16;
/// How far a mark may lie beyond what the clock allows: clocks are set back a little all the time.
const MARK_SLACK_MS: u64 = 60_000;
/// Ranges whose files behind the watermark are dropped in one call.
const RANGES_A_CALL: usize = 16;

/// What is kept. The default: 30 days, 10,000 runs of a task, 8 GiB of runs and 8 GiB of output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    pub age: Duration,
    pub output_age: Duration,
    pub runs_per_task: u64,
    /// Of the family `history` on disk.
    pub bytes: u64,
    /// Of the family `output` on disk.
    pub output_bytes: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        let day = Duration::from_secs(86_400);
        Retention {
            age: 30 * day,
            output_age: 30 * day,
            runs_per_task: 10_000,
            bytes: 8 << 30,
            output_bytes: 8 << 30,
        }
    }
}

/// The clock by which is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrimClock {
    pub now: Wall,
    /// It has been believed for so long that what is forgotten by it is not forgotten by mistake.
    /// Else only the rule by count is followed.
    pub steady: bool,
}

/// How much one call may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrimBudget {
    /// Rows of history to walk through for the rule by count.
    pub rows: u64,
}

impl Default for TrimBudget {
    fn default() -> TrimBudget {
        TrimBudget { rows: 10_000 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Trimmed {
    /// Runs before this are forgotten, in milliseconds since the epoch.
    pub history_from_ms: u64,
    /// Rows that were over the count of their task.
    pub rows_deleted: u64,
    /// The rule by count has seen every task since the store was opened or this was last `true`.
    pub round_done: bool,
    /// A slice was compacted to bring the bytes down.
    pub slice_compacted: bool,
    /// Nothing was done: the store's thread still does what it was asked before.
    pub busy: bool,
}

/// Where the next call goes on.
#[derive(Default)]
pub struct TrimState {
    /// Key of the next history row to count.
    at: Option<Vec<u8>>,
    /// The task that rows are counted of, by its hash, and how many there were.
    task: Option<[u8; 16]>,
    counted: u64,
    /// The next slice to compact, while the bytes are being brought down.
    slice: Option<u16>,
    /// The next range whose files behind the watermark are dropped.
    range: u16,
}

impl Store {
    /// Does a piece of the work that the rules ask for. Blocks on the disk.
    pub fn trim(
        &self,
        clock: TrimClock,
        rules: &Retention,
        budget: TrimBudget,
    ) -> Result<Trimmed, StoreError> {
        let mut state = self.trim.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        self.lower(clock.now, rules)?;
        let slice_compacted = self.trim_slice(state)?;
        if clock.steady
            && let Some(newest) = self.newest()?
        {
            let newest = newest.min(keys::instant_ms(clock.now.instant()));
            self.trim_times(state, newest, rules)?;
            self.trim_output(newest, rules)?;
        }
        let cutoff = self.cutoffs.history();
        self.trim_due_files(state)?;
        let (rows_deleted, round_done) =
            self.trim_counts(state, rules.runs_per_task, budget.rows)?;
        if round_done {
            self.trim_ranges(cutoff)?;
        }
        let history_from_ms = cutoff;
        Ok(Trimmed { history_from_ms, rows_deleted, round_done, slice_compacted, busy: false })
    }

    /// Rewrites all files of all families now. Takes as long as it takes: for tools and tests.
    pub fn compact(&self) -> Result<(), StoreError> {
        for family in options::FAMILIES {
            let family = self.family(family);
            self.db.flush_cf(family).map_err(|error| self.unwritten(error))?;
            let mut how = CompactOptions::default();
            how.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
            self.db.compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &how);
        }
        Ok(())
    }

    /// Moves the marks by age and, if there are too many bytes, by a step more.
    fn trim_times(
        &self,
        state: &mut TrimState,
        newest: u64,
        rules: &Retention,
    ) -> Result<(), StoreError> {
        let mut history = newest.saturating_sub(whole_ms(rules.age));
        let request = newest.saturating_sub(whole_ms(REQUEST_ROWS_KEPT));
        let mut bytes = None;
        if state.slice.is_none() && self.family_bytes(options::HISTORY) > rules.bytes {
            bytes = Some(self.step(newest)?);
            history = history.max(bytes.unwrap_or(0));
            state.slice = Some(0);
        }
        self.raise(history, request, bytes)
    }

    /// Takes marks back that lie beyond what the clock allows.
    fn lower(&self, now: Wall, rules: &Retention) -> Result<(), StoreError> {
        let now = keys::instant_ms(now.instant());
        let by_bytes = Some(self.cutoffs.bytes()).filter(|mark| *mark <= now).unwrap_or(0);
        let history = now.saturating_sub(whole_ms(rules.age)).max(by_bytes);
        let request = now.saturating_sub(whole_ms(REQUEST_ROWS_KEPT));
        let mut batch = WriteBatch::default();
        if self.cutoffs.history() > history + MARK_SLACK_MS {
            let (from_ms, to_ms) = (self.cutoffs.history(), history);
            tracing::warn!(from_ms, to_ms, "the mark of the history was ahead of the clock");
            self.cutoffs.lower_history(history);
            self.cutoffs.set_bytes(by_bytes);
            self.put_mark(&mut batch, keys::CUTOFF_HISTORY, history);
            self.put_mark(&mut batch, keys::CUTOFF_BYTES, by_bytes);
        }
        if self.cutoffs.request() > request + MARK_SLACK_MS {
            self.cutoffs.lower_request(request);
            self.put_mark(&mut batch, keys::CUTOFF_REQUEST, request);
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.db.write(batch).map_err(|error| self.unwritten(error))
    }

    fn put_mark(&self, batch: &mut WriteBatch, which: u8, ms: u64) {
        let key = [keys::META_CUTOFF, which];
        batch.put_cf(self.family(options::META), key, values::ms_encode(ms));
    }

    /// Moves the marks and cuts the old end of the indexes off.
    fn raise(&self, history: u64, request: u64, bytes: Option<u64>) -> Result<(), StoreError> {
        let rows = self.family(options::HISTORY);
        let mut batch = WriteBatch::default();
        if let Some(bytes) = bytes {
            self.put_mark(&mut batch, keys::CUTOFF_BYTES, bytes);
        }
        if history > self.cutoffs.history() {
            self.put_mark(&mut batch, keys::CUTOFF_HISTORY, history);
            if self.oldest()?.is_some_and(|oldest| oldest < history) {
                batch.delete_range_cf(
                    rows,
                    keys::time_from(history - 1).as_slice(),
                    &[keys::HISTORY_STATE][..],
                );
            }
        }
        if request > self.cutoffs.request() {
            self.put_mark(&mut batch, keys::CUTOFF_REQUEST, request);
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.db.write(batch).map_err(|error| self.unwritten(error))?;
        self.cutoffs.raise_history(history);
        self.cutoffs.raise_request(request);
        if let Some(bytes) = bytes {
            self.cutoffs.set_bytes(bytes);
        }
        Ok(())
    }

    /// The time of the oldest run that is kept.
    fn oldest(&self) -> Result<Option<u64>, StoreError> {
        self.end_of_times(IteratorMode::End)
    }

    /// The time of the newest run.
    fn newest(&self) -> Result<Option<u64>, StoreError> {
        self.end_of_times(IteratorMode::Start)
    }

    /// One end of the index by time, in which the newest comes first.
    fn end_of_times(&self, end: IteratorMode<'_>) -> Result<Option<u64>, StoreError> {
        let mut reading = ReadOptions::default();
        reading.set_iterate_lower_bound([keys::HISTORY_TIME]);
        reading.set_iterate_upper_bound([keys::HISTORY_STATE]);
        let family = self.family(options::HISTORY);
        let mut rows = self.db.iterator_cf_opt(family, reading, end);
        let row = rows.next().transpose().map_err(|error| self.failed(error))?;
        Ok(row.and_then(|(key, _)| keys::history_ms(&key)))
    }

    /// A mark that forgets a piece of the time that is kept.
    fn step(&self, newest: u64) -> Result<u64, StoreError> {
        let oldest = self.oldest()?.unwrap_or(newest);
        Ok(oldest + (newest.saturating_sub(oldest) / BYTES_STEP).max(1))
    }

    /// Compacts the next slices of the rows by task, if bytes are being brought down.
    fn trim_slice(&self, state: &mut TrimState) -> Result<bool, StoreError> {
        let Some(slice) = state.slice else {
            return Ok(false);
        };
        let each = self.family_bytes(options::HISTORY) / u64::from(TRIM_SLICES);
        let count = u16::try_from(TRIM_BYTES / each.max(1)).unwrap_or(TRIM_SLICES);
        let next = slice.saturating_add(count.max(1));
        // The last slice takes the indexes along, which lie behind the rows.
        let from = [keys::HISTORY_ROW, slice_byte(slice)];
        let end = match next {
            TRIM_SLICES.. => [0xff, 0xff],
            next => [keys::HISTORY_ROW, slice_byte(next)],
        };
        let mut how = CompactOptions::default();
        how.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        how.set_exclusive_manual_compaction(false);
        let family = self.family(options::HISTORY);
        self.db.compact_range_cf_opt(family, Some(&from[..]), Some(&end[..]), &how);
        state.slice = Some(next).filter(|next| *next < TRIM_SLICES);
        Ok(true)
    }

    /// Output lies in order of time: its old end goes with one range delete.
    fn trim_output(&self, newest: u64, rules: &Retention) -> Result<(), StoreError> {
        let family = self.family(options::OUTPUT);
        let mut rows = self.db.iterator_cf(family, IteratorMode::Start);
        let first = rows.next().transpose().map_err(|error| self.failed(error))?;
        let Some(oldest) = first.and_then(|(key, _)| keys::ms_read(&key)) else {
            return Ok(());
        };
        drop(rows);
        let mut cutoff = newest.saturating_sub(whole_ms(rules.output_age));
        if self.family_bytes(options::OUTPUT) > rules.output_bytes {
            let step = (newest.saturating_sub(oldest) / BYTES_STEP).max(1);
            cutoff = cutoff.max(oldest + step);
        }
        if cutoff <= oldest {
            return Ok(());
        }
        let end = keys::ms_bytes(cutoff);
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(family, &[][..], &end[..]);
        self.db.write(batch).map_err(|error| self.unwritten(error))?;
        // The tree holds little more than keys; with the last key of a blob file that file goes.
        self.db.flush_cf(family).map_err(|error| self.unwritten(error))?;
        self.db.compact_range_cf(family, None::<&[u8]>, Some(&end[..]));
        Ok(())
    }

    /// Drops whole files of due entries behind the watermark without rewriting anything.
    fn trim_due_files(&self, state: &mut TrimState) -> Result<(), StoreError> {
        let marks = self.cutoffs.watermarks().filter(|(range, _)| range.0 >= state.range);
        let marks: Vec<_> = marks.take(RANGES_A_CALL).collect();
        let family = self.family(options::DUE);
        for (range, ms) in &marks {
            let (from, to) = (keys::due_from(*range, 0), keys::due_from(*range, *ms));
            self.db
                .delete_file_in_range_cf(family, from, to)
                .map_err(|error| self.unwritten(error))?;
        }
        let last = marks.last().filter(|_| marks.len() == RANGES_A_CALL);
        state.range = last.map_or(0, |(RangeId(range), _)| range.saturating_add(1));
        Ok(())
    }

    /// Walks on through the rows by task and deletes what is over the count.
    fn trim_counts(
        &self,
        state: &mut TrimState,
        runs_per_task: u64,
        budget: u64,
    ) -> Result<(u64, bool), StoreError> {
        let family = self.family(options::HISTORY);
        let mut reading = ReadOptions::default();
        reading.set_iterate_upper_bound([keys::HISTORY_ROW + 1]);
        reading.fill_cache(false);
        let mut rows = self.db.raw_iterator_cf_opt(family, reading);
        rows.seek(state.at.take().unwrap_or_else(|| vec![keys::HISTORY_ROW]));
        let mut batch = WriteBatch::default();
        let (mut walked, mut deleted) = (0, 0);
        while let Some((key, value)) = rows.item().filter(|_| walked < budget) {
            walked += 1;
            if let Some((place, fence)) = keys::row_parts(key) {
                if state.task != Some(place.hash) {
                    (state.task, state.counted) = (Some(place.hash), 0);
                }
                state.counted += 1;
                if state.counted > runs_per_task {
                    deleted += 1;
                    batch.delete_cf(family, key);
                    batch.delete_cf(family, place.time(fence));
                    if let Some((run, _)) = values::history_decode(value) {
                        batch.delete_cf(family, place.state(values::state_byte(run), fence));
                    }
                }
            }
            rows.next();
        }
        rows.status().map_err(|error| self.failed(error))?;
        state.at = rows.key().map(<[u8]>::to_vec);
        if state.at.is_none() {
            state.task = None;
        }
        self.db.write(batch).map_err(|error| self.unwritten(error))?;
        Ok((deleted, state.at.is_none()))
    }

    /// Forgets parts of the hash space whose newest run is forgotten.
    fn trim_ranges(&self, cutoff: u64) -> Result<(), StoreError> {
        // So that no run comes between the look and the delete.
        let mut writer = self.writer();
        let mut batch = WriteBatch::default();
        for (slice, newest) in self.slices()? {
            let newest = newest + SLICE_STEP_MS;
            if newest < cutoff {
                batch.delete_cf(self.family(options::META), keys::meta_slice(slice));
                writer.slices.remove(&slice);
            }
        }
        self.db.write(batch).map_err(|error| self.unwritten(error))
    }
}

fn whole_ms(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

/// The hash byte that a slice begins at.
fn slice_byte(slice: u16) -> u8 {
    u8::try_from(slice * (256 / TRIM_SLICES)).expect("slices divide one byte")
}
