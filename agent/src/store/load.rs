//! What the core asks back: what is due, and tasks.
//!
//! A due entry does not say whether its task is still the same; its number does. Numbers are never
//! given twice, so an entry is stale exactly if its number has no row. Entries of one-shots carry
//! their record, and whether their row is still there is known in memory (`numbers`): a million of
//! them drain in one sequential read.
//!
//! A row that cannot be read is told and left out. It must not stop the others: the core
//! quarantines it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocksdb::{Direction, IteratorMode, ReadOptions};
use tocktower_core::agent::effect::LoadRequest;
use tocktower_core::agent::input::{DueLoaded, LoadAnswer};
use tocktower_core::ids::{RangeId, TaskName, TaskNumber};
use tocktower_core::task::Task;
use tocktower_core::time::Instant;

use crate::store::error::StoreError;
use crate::store::limits::{INLINE_BYTES_MAX, LOAD_ENTRIES_MAX, LOOKUP_ROWS, UNREADABLE_MAX};
use crate::store::values::{DueRow, NameRow, TaskRecord};
use crate::store::{Store, codec, keys, options};

/// An answer, and the rows that could not be read for it.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    pub answer: LoadAnswer,
    pub unreadable: Vec<Unreadable>,
}

/// A row that is not what it should be; treated as if it were not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    pub range: RangeId,
    pub number: TaskNumber,
    /// As far as it could be read.
    pub name: Option<String>,
    pub error: String,
}

/// A due entry as it lies there.
struct Entry {
    due: Instant,
    instant: Instant,
    number: TaskNumber,
    inline: Option<Box<[u8]>>,
}

/// A piece of the family `due`, and how its keys are read.
struct Stretch {
    range: RangeId,
    from: Vec<u8>,
    end: Vec<u8>,
    read: fn(&[u8]) -> Option<(u64, TaskNumber)>,
    limit: usize,
}

impl Store {
    /// Answers what the core asks; sees every batch that was written before.
    pub fn load(&self, request: &LoadRequest) -> Result<Loaded, StoreError> {
        let mut unreadable = Vec::new();
        let answer = match request {
            LoadRequest::Due { range, after, through, limit } => {
                self.load_due(*range, (*after, *through), *limit, &mut unreadable)
            }
            LoadRequest::Scan { range, after, limit } => {
                self.load_scan(*range, *after, *limit, &mut unreadable)
            }
            LoadRequest::Task { range, name } => self.load_task(*range, name, &mut unreadable),
            LoadRequest::Own { range, under, runs, tasks } => {
                self.load_own(*range, *under, runs, tasks)
            }
        }?;
        let count = u64::try_from(unreadable.len()).unwrap_or(0);
        self.counters.unreadable.fetch_add(count, Ordering::Relaxed);
        Ok(Loaded { answer, unreadable })
    }

    fn load_due(
        &self,
        range: RangeId,
        span: (Instant, Instant),
        limit: usize,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<LoadAnswer, StoreError> {
        let limit = limit.clamp(1, LOAD_ENTRIES_MAX);
        let (read, through) = self.due_entries(range, span, limit, unreadable)?;
        let mut entries = Vec::with_capacity(read.len());
        let mut tasks = HashMap::new();
        for piece in read.chunks(LOOKUP_ROWS) {
            self.join(range, piece, &mut tasks, unreadable)?;
            for entry in piece {
                if let Some(Some(task)) = tasks.get(&entry.number) {
                    entries.push(DueLoaded {
                        due: entry.due,
                        instant: entry.instant,
                        number: entry.number,
                        task: Arc::clone(task),
                    });
                }
            }
        }
        Ok(LoadAnswer::Due { entries, through })
    }

    /// Entries in order, those that were put late among them, and how far they go.
    fn due_entries(
        &self,
        range: RangeId,
        (after, through): (Instant, Instant),
        limit: usize,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<(Vec<Entry>, Instant), StoreError> {
        let after = keys::instant_ms(after);
        let end = keys::instant_ms(through) + 1;
        let first = self.cutoffs.watermark(range).map_or(after, |behind| behind.max(after)) + 1;
        let plain = Stretch {
            range,
            from: keys::due_from(range, first).to_vec(),
            end: keys::due_from(range, end.max(first)).to_vec(),
            read: |key| keys::due_parts(key).map(|(_, ms, number)| (ms, number)),
            limit,
        };
        let late = Stretch {
            range,
            from: keys::due_late_from(range, after + 1).to_vec(),
            end: keys::due_late_from(range, end.max(after + 1)).to_vec(),
            read: keys::due_late_parts,
            limit,
        };
        let (mut entries, reached) = self.due_stretch(plain, through, unreadable)?;
        let (late, late_reached) = self.due_stretch(late, through, unreadable)?;
        let reached = reached.min(late_reached);
        if !late.is_empty() {
            entries.extend(late);
            entries.sort_by_key(|entry| (entry.due, entry.number));
        }
        entries.retain(|entry| entry.due <= reached);
        Ok((entries, reached))
    }

    /// Reads whole milliseconds: an answer that ended within one could not say how far it got. So
    /// the first one is read to its end whatever the limit, and of the others only what fits.
    fn due_stretch(
        &self,
        Stretch { range, from, end, read, limit }: Stretch,
        through: Instant,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<(Vec<Entry>, Instant), StoreError> {
        let mut reading = ReadOptions::default();
        reading.set_iterate_lower_bound(from);
        reading.set_iterate_upper_bound(end);
        reading.set_auto_readahead_size(true);
        let mut entries: Vec<Entry> = Vec::new();
        let family = self.family(options::DUE);
        for row in self.db.iterator_cf_opt(family, reading, IteratorMode::Start) {
            let (key, value) = row.map_err(|error| self.failed(error))?;
            let Some((ms, number)) = read(&key) else { continue };
            let due = keys::instant_of(ms);
            let full = entries.len() >= limit;
            if full && let Some(last) = entries.last().filter(|entry| entry.due != due) {
                let through = last.due;
                return Ok((entries, through));
            }
            if full && entries.first().is_some_and(|entry| entry.due != due) {
                // This millisecond did not fit: it comes with the next answer.
                entries.retain(|entry| entry.due != due);
                return Ok((entries, keys::instant_of(ms - 1)));
            }
            match DueRow::decode(&value) {
                Some(row) => entries.push(Entry {
                    due,
                    instant: row.instant.unwrap_or(due),
                    number,
                    inline: row.inline.map(|record| record.encode().into()),
                }),
                None => note(unreadable, Unreadable::row(range, number, "due entry")),
            }
        }
        Ok((entries, through))
    }

    /// Fills `tasks` with those that the entries speak of; `None` for one that is gone.
    fn join(
        &self,
        range: RangeId,
        entries: &[Entry],
        tasks: &mut HashMap<TaskNumber, Option<Arc<Task>>>,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<(), StoreError> {
        let (inline, plain): (Vec<_>, Vec<_>) = entries
            .iter()
            .filter(|entry| !tasks.contains_key(&entry.number))
            .partition(|entry| entry.inline.is_some());
        for entry in inline {
            let live = self.beside().contains(entry.number);
            let record = entry.inline.as_deref().filter(|_| live);
            self.joined(range, entry.number, record, tasks, unreadable);
        }
        let keys: Vec<_> =
            plain.iter().map(|entry| keys::task_record(range, entry.number)).collect();
        let rows = self.rows(options::TASK, &keys)?;
        for (entry, row) in plain.iter().zip(rows) {
            self.joined(range, entry.number, row.as_deref(), tasks, unreadable);
        }
        Ok(())
    }

    fn joined(
        &self,
        range: RangeId,
        number: TaskNumber,
        record: Option<&[u8]>,
        tasks: &mut HashMap<TaskNumber, Option<Arc<Task>>>,
        unreadable: &mut Vec<Unreadable>,
    ) {
        if tasks.contains_key(&number) {
            return;
        }
        if record.is_none() {
            self.counters.stale_due.fetch_add(1, Ordering::Relaxed);
        }
        let task = record.and_then(|record| self.decode(range, number, record, unreadable));
        tasks.insert(number, task);
    }

    fn load_scan(
        &self,
        range: RangeId,
        after: Option<TaskNumber>,
        limit: usize,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<LoadAnswer, StoreError> {
        let limit = limit.clamp(1, LOAD_ENTRIES_MAX);
        let (from, end) = keys::task_kind(range, keys::TASK_RECORD);
        let from = match after {
            None => from.to_vec(),
            Some(TaskNumber(u64::MAX)) => end.to_vec(),
            Some(TaskNumber(number)) => keys::task_record(range, TaskNumber(number + 1)).to_vec(),
        };
        let mut tasks = Vec::new();
        let mut reading = ReadOptions::default();
        reading.set_iterate_upper_bound(end.as_slice());
        reading.set_auto_readahead_size(true);
        let family = self.family(options::TASK);
        let mode = IteratorMode::From(&from, Direction::Forward);
        for (read, row) in self.db.iterator_cf_opt(family, reading, mode).enumerate() {
            let (key, value) = row.map_err(|error| self.failed(error))?;
            // Rows that cannot be read count too, else a page of them would have no end; but an
            // answer without tasks would look like the last one.
            if tasks.len() >= limit || (read >= limit && !tasks.is_empty()) {
                return Ok(LoadAnswer::Scan { tasks, more: true });
            }
            let Some(number) = keys::task_number_of(&key) else {
                continue;
            };
            let Some(task) = self.decode(range, number, &value, unreadable) else {
                continue;
            };
            // Its due entry is derived from this scan, and may carry the record again.
            if task.spec.one_shot_at().is_some() && value.len() <= INLINE_BYTES_MAX {
                self.beside().insert(number);
            }
            tasks.push((number, task));
        }
        Ok(LoadAnswer::Scan { tasks, more: false })
    }

    fn load_task(
        &self,
        range: RangeId,
        name: &TaskName,
        unreadable: &mut Vec<Unreadable>,
    ) -> Result<LoadAnswer, StoreError> {
        let family = self.family(options::TASK);
        let get =
            |key: &[u8]| self.db.get_pinned_cf(family, key).map_err(|error| self.failed(error));
        let Some(row) = get(&keys::task_name(range, name))? else {
            return Ok(LoadAnswer::Task(None));
        };
        let Some(NameRow { number, .. }) = NameRow::decode(&row) else {
            note(unreadable, Unreadable::row(range, TaskNumber(0), "index by name"));
            return Ok(LoadAnswer::Task(None));
        };
        let record = get(&keys::task_record(range, number))?;
        let task = record.and_then(|record| self.decode(range, number, &record, unreadable));
        Ok(LoadAnswer::Task(task.map(|task| (number, task))))
    }

    /// Names of a range that no listing since `stamp` has seen. A row that cannot be read counts as
    /// stamped long ago: a listing puts it right, or nobody misses it.
    pub(super) fn names_before(
        &self,
        range: RangeId,
        stamp: u64,
    ) -> Result<Vec<(TaskName, NameRow)>, StoreError> {
        let (from, end) = keys::task_kind(range, keys::TASK_NAME);
        let mut reading = ReadOptions::default();
        reading.set_iterate_upper_bound(end.as_slice());
        let mode = IteratorMode::From(&from, Direction::Forward);
        let mut before = Vec::new();
        for row in self.db.iterator_cf_opt(self.family(options::TASK), reading, mode) {
            let (key, value) = row.map_err(|error| self.failed(error))?;
            let row = NameRow::decode(&value);
            let row = row.unwrap_or(NameRow { number: TaskNumber(0), stamp: 0 });
            if row.stamp < stamp {
                before.extend(keys::task_name_of(&key).map(|name| (name, row)));
            }
        }
        Ok(before)
    }

    fn decode(
        &self,
        range: RangeId,
        number: TaskNumber,
        value: &[u8],
        unreadable: &mut Vec<Unreadable>,
    ) -> Option<Arc<Task>> {
        let Some(record) = TaskRecord::decode(value) else {
            note(unreadable, Unreadable::row(range, number, "task record"));
            return None;
        };
        match codec::decode_task(record.raw) {
            Ok(task) => Some(Arc::new(task)),
            Err(error) => {
                let name = Some(record.name.to_owned());
                note(unreadable, Unreadable { range, number, name, error });
                None
            }
        }
    }
}

impl Unreadable {
    fn row(range: RangeId, number: TaskNumber, what: &str) -> Unreadable {
        Unreadable { range, number, name: None, error: format!("the {what} cannot be read") }
    }
}

/// The first ones tell enough; a family full of them must not fill the memory.
fn note(unreadable: &mut Vec<Unreadable>, row: Unreadable) {
    if unreadable.len() < UNREADABLE_MAX {
        unreadable.push(row);
    }
}
