//! One batch of the core becomes one write of the engine.
//!
//! Most operations are blind puts. Four need to know what is there: a task's earlier version (to
//! delete it by number), the request index (to tell a duplicate), and whether a due entry's task is
//! a one-shot whose record shall lie beside it. What a batch needs is read in one go before it is
//! staged; what it changed itself lies over that, so that the operations of one batch see each
//! other in order, as the core means them.
//!
//! Watermarks are lowered for compaction before the write and raised after it (see `cutoffs`).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use rocksdb::{DBPinnableSlice, WriteBatch, WriteOptions};
use tocktower_core::agent::effect::{Batch, StoreOp};
use tocktower_core::agent::input::{Committed, Duplicate};
use tocktower_core::hash::task_hash;
use tocktower_core::ids::{Attempt, RangeId, RunId, TaskName, TaskNumber};
use tocktower_core::limits;
use tocktower_core::run::{Captured, CapturedStream, RunRecord};
use tocktower_core::time::Instant;

use crate::store::error::StoreError;
use crate::store::keys::RunPlace;
use crate::store::limits::INLINE_BYTES_MAX;
use crate::store::query::{OutputStream, is_indexed};
use crate::store::values::{self, DueRow, NameRow, TaskRecord};
use crate::store::{Store, codec, keys, options, pins};

/// A slice's newest run is written down again only when it has moved by this much.
pub const SLICE_STEP_MS: u64 = 3_600_000;

/// What the writer remembers between batches.
#[derive(Default)]
pub struct Writer {
    /// By 32,768th of the hash space: the newest run that its row in `meta` tells of.
    pub slices: HashMap<u16, u64>,
    /// Ranges that may have late due entries.
    pub late: HashSet<RangeId>,
}

impl Store {
    /// Writes a batch; with `sync`, it and all before it are on disk afterwards.
    pub fn apply(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let mut committed = self.write(batch)?;
        if batch.sync {
            self.sync()?;
            committed.synced = true;
        }
        Ok(committed)
    }

    /// Writes a batch into the log without waiting for the disk, whatever `sync` says.
    pub fn write(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let mut writer = self.writer();
        let found = Found::read(self, batch)?;
        let mut stage = Stage::new(self, found, &writer);
        for op in &batch.ops {
            stage.op(op)?;
        }
        let Stage { write, watermarks, slices, late, beside, duplicates, spans_to, .. } = stage;
        let bytes = u64::try_from(write.size_in_bytes()).unwrap_or(0);
        for (range, marks) in &watermarks {
            self.cutoffs.set_watermark(*range, marks.lowest.min(self.cutoffs.watermark(*range)));
        }
        self.db
            .write_opt(write, &WriteOptions::default())
            .map_err(|error| self.unwritten(error))?;
        self.unsynced.store(true, Ordering::Release);
        for (range, marks) in watermarks {
            self.cutoffs.set_watermark(range, marks.last);
        }
        writer.slices.extend(slices);
        writer.late = late;
        self.change_beside(beside);
        self.spans_to.fetch_max(spans_to, Ordering::AcqRel);
        self.note_recent(batch.ops.iter().filter_map(|op| match op {
            StoreOp::History(run) => Some(&**run),
            _ => None,
        }));
        let count = &self.counters;
        count.batches.fetch_add(1, Ordering::Relaxed);
        count.operations.fetch_add(batch.ops.len() as u64, Ordering::Relaxed);
        count.batch_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(Committed { batch: batch.number, synced: false, duplicates })
    }

    fn change_beside(&self, changes: Vec<(TaskNumber, bool)>) {
        let mut beside = self.beside();
        for (number, add) in changes {
            if add {
                beside.insert(number);
            } else {
                beside.remove(number);
            }
        }
    }

    /// Everything written so far is on disk when this returns.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.db.flush_wal(true).map_err(|error| self.unwritten(error))?;
        self.unsynced.store(false, Ordering::Release);
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether something was written that no `sync` has covered.
    pub fn is_unsynced(&self) -> bool {
        self.unsynced.load(Ordering::Acquire)
    }

    /// A panic elsewhere leaves at worst a slice that is written down once more.
    pub(super) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks rows up together; `keys` in any order.
    pub(super) fn rows<'k, K>(
        &self,
        family: &str,
        keys: impl IntoIterator<Item = &'k K>,
    ) -> Result<Vec<Option<DBPinnableSlice<'_>>>, StoreError>
    where
        K: AsRef<[u8]> + 'k,
    {
        self.db
            .batched_multi_get_cf(self.family(family), keys, false)
            .into_iter()
            .map(|row| row.map_err(|error| self.failed(error)))
            .collect()
    }
}

/// What a batch needs to know of the store, with what it changed so far.
struct Found<'b> {
    names: HashMap<(RangeId, &'b TaskName), Option<NameRow>>,
    requests: HashMap<u128, Option<RunId>>,
    /// Records that due entries may carry.
    inline: HashMap<TaskNumber, Vec<u8>>,
}

impl<'b> Found<'b> {
    fn read(store: &Store, batch: &'b Batch) -> Result<Found<'b>, StoreError> {
        let mut names = Vec::new();
        let mut requests = Vec::new();
        let mut put = HashSet::new();
        let mut due = Vec::new();
        for op in &batch.ops {
            match op {
                StoreOp::PutTask { range, name, number, request, .. } => {
                    names.push((*range, name));
                    requests.extend(*request);
                    put.insert(*number);
                }
                StoreOp::DeleteTask { range, name } => names.push((*range, name)),
                StoreOp::History(run) => requests.extend(run.request),
                StoreOp::PutDue { range, number, .. } if !put.contains(number) => {
                    due.push((*range, *number));
                }
                _ => {}
            }
        }
        Ok(Found {
            names: Found::names(store, names)?,
            requests: Found::requests(store, requests)?,
            inline: Found::inline(store, due)?,
        })
    }

    fn names(
        store: &Store,
        names: Vec<(RangeId, &'b TaskName)>,
    ) -> Result<HashMap<(RangeId, &'b TaskName), Option<NameRow>>, StoreError> {
        let keys: Vec<_> =
            names.iter().map(|(range, name)| keys::task_name(*range, name)).collect();
        let rows = store.rows(options::TASK, &keys)?;
        let rows = rows.iter().map(|row| row.as_deref().and_then(NameRow::decode));
        Ok(names.into_iter().zip(rows).collect())
    }

    fn requests(
        store: &Store,
        requests: Vec<u128>,
    ) -> Result<HashMap<u128, Option<RunId>>, StoreError> {
        let keys: Vec<_> = requests.iter().map(|request| keys::request(*request)).collect();
        let oldest = store.cutoffs.request();
        let rows = store.rows(options::HISTORY, &keys)?;
        let rows = rows.iter().map(|row| {
            let (at, run) = values::request_decode(row.as_deref()?)?;
            (at >= oldest).then_some(run)
        });
        Ok(requests.into_iter().zip(rows).collect())
    }

    /// Due entries of one-shots that are derived anew get their record back beside them.
    fn inline(
        store: &Store,
        due: Vec<(RangeId, TaskNumber)>,
    ) -> Result<HashMap<TaskNumber, Vec<u8>>, StoreError> {
        let due: Vec<_> = {
            let beside = store.beside();
            due.into_iter().filter(|(_, number)| beside.contains(*number)).collect()
        };
        let keys: Vec<_> =
            due.iter().map(|(range, number)| keys::task_record(*range, *number)).collect();
        let rows = store.rows(options::TASK, &keys)?;
        let rows = due.into_iter().map(|(_, number)| number).zip(rows);
        Ok(rows.filter_map(|(number, row)| Some((number, row?.to_vec()))).collect())
    }
}

/// Where a batch moves a range's watermark to; `None` is no watermark.
struct Marks {
    lowest: Option<u64>,
    last: Option<u64>,
}

struct Stage<'s, 'b> {
    store: &'s Store,
    found: Found<'b>,
    known_slices: &'s HashMap<u16, u64>,
    write: WriteBatch,
    watermarks: HashMap<RangeId, Marks>,
    slices: HashMap<u16, u64>,
    late: HashSet<RangeId>,
    /// Numbers that come to lie beside their due entry, and that no longer do, in order.
    beside: Vec<(TaskNumber, bool)>,
    duplicates: Vec<Duplicate>,
    /// See `Store::spans_to`.
    spans_to: u64,
    now_ms: u64,
}

impl<'s, 'b> Stage<'s, 'b> {
    fn new(store: &'s Store, found: Found<'b>, writer: &'s Writer) -> Stage<'s, 'b> {
        Stage {
            store,
            found,
            known_slices: &writer.slices,
            late: writer.late.clone(),
            beside: Vec::new(),
            write: WriteBatch::default(),
            watermarks: HashMap::new(),
            slices: HashMap::new(),
            duplicates: Vec::new(),
            spans_to: store.spans_to.load(Ordering::Acquire),
            now_ms: keys::instant_ms((store.clock)().instant()),
        }
    }

    fn op(&mut self, op: &'b StoreOp) -> Result<(), StoreError> {
        match op {
            StoreOp::PutTask { .. } => self.put_task(op),
            StoreOp::DeleteTask { range, name } => self.delete_task(*range, name),
            StoreOp::Sweep { range, stamp } => return self.sweep(*range, *stamp),
            StoreOp::DropRange { range } => return self.drop_range(*range),
            StoreOp::ClearDue { range } => self.clear_due(*range),
            StoreOp::PutDue { range, due, instant, number } => {
                self.put_due(*range, *due, *instant, *number);
            }
            StoreOp::Watermark { range, through } => self.watermark(*range, *through),
            StoreOp::OpenRun { range, run, attempt } => {
                let value = values::open_run_encode(run, *attempt);
                self.put(options::RUN, RunPlace::of(run).open_run(*range), value);
            }
            StoreOp::CloseRun { range, run } => {
                self.delete(options::RUN, RunPlace::of(run).open_run(*range));
            }
            StoreOp::History(run) => self.history(run),
            StoreOp::Output { run, attempt, output } => self.output(run, *attempt, output),
            StoreOp::Session(Some(kept)) => {
                let value = values::kept_encode(kept, &self.store.life);
                self.put(options::META, [keys::META_SESSION], value);
            }
            StoreOp::Pins(range, record) => {
                let (key, value) = pins::row(*range, record, &self.store.life);
                self.put(options::META, key, value);
            }
            StoreOp::Session(None) => self.delete(options::META, [keys::META_SESSION]),
            StoreOp::LedgerNumber { range, number, before } => {
                let value = values::ledger_numbers_encode(*number, before);
                self.put(options::META, keys::meta_ledger(*range), value);
            }
        }
        Ok(())
    }

    fn put(&mut self, family: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.write.put_cf(self.store.family(family), key, value);
    }

    fn delete(&mut self, family: &str, key: impl AsRef<[u8]>) {
        self.write.delete_cf(self.store.family(family), key);
    }

    // --- tasks ----------------------------------------------------------------------------------

    fn put_task(&mut self, op: &'b StoreOp) {
        let StoreOp::PutTask { range, number, name, revision, stamp, request, raw } = op else {
            return;
        };
        let text = name.to_string();
        let record = TaskRecord { name: &text, raw }.encode();
        let row = NameRow { number: *number, stamp: *stamp };
        let before = self.found.names.insert((*range, name), Some(row)).flatten();
        if let Some(before) = before.filter(|before| before.number != *number) {
            self.forget_version(*range, before);
        }
        self.put(options::TASK, keys::task_record(*range, *number), &record);
        self.put(options::TASK, keys::task_name(*range, name), row.encode());
        if raw.len() <= INLINE_BYTES_MAX && codec::is_one_shot(raw) {
            self.beside.push((*number, true));
            self.found.inline.insert(*number, record);
        }
        let ran = request.and_then(|request| self.found.requests.get(&request).cloned().flatten());
        let (range, number, revision) = (*range, *number, *revision);
        let duplicate = |earlier| Duplicate { range, number, revision, earlier };
        self.duplicates.extend(ran.map(duplicate));
    }

    fn delete_task(&mut self, range: RangeId, name: &'b TaskName) {
        if let Some(before) = self.found.names.insert((range, name), None).flatten() {
            self.forget_version(range, before);
            self.delete(options::TASK, keys::task_name(range, name));
        }
    }

    fn forget_version(&mut self, range: RangeId, row: NameRow) {
        self.delete(options::TASK, keys::task_record(range, row.number));
        self.beside.push((row.number, false));
    }

    fn sweep(&mut self, range: RangeId, stamp: u64) -> Result<(), StoreError> {
        for (name, row) in self.store.names_before(range, stamp)? {
            // A name that this batch has touched is judged below, as the batch left it.
            if !self.found.names.contains_key(&(range, &name)) {
                self.forget_version(range, row);
                self.delete(options::TASK, keys::task_name(range, &name));
            }
        }
        let mut unseen = Vec::new();
        for ((of, name), row) in &mut self.found.names {
            if *of == range && row.is_some_and(|row| row.stamp < stamp) {
                unseen.extend(row.take().map(|row| (*name, row)));
            }
        }
        for (name, row) in unseen {
            self.forget_version(range, row);
            self.delete(options::TASK, keys::task_name(range, name));
        }
        Ok(())
    }

    fn drop_range(&mut self, range: RangeId) -> Result<(), StoreError> {
        let gone = self.store.names_before(range, u64::MAX)?;
        self.beside.extend(gone.into_iter().map(|(_, row)| (row.number, false)));
        let (from, end) = keys::range_all(range);
        let family = self.store.family(options::TASK);
        self.write.delete_range_cf(family, &from[..], &end[..]);
        for ((of, _), row) in &mut self.found.names {
            if *of == range {
                self.beside.extend(row.take().map(|row| (row.number, false)));
            }
        }
        self.clear_due(range);
        Ok(())
    }

    // --- due ------------------------------------------------------------------------------------

    fn put_due(&mut self, range: RangeId, due: Instant, instant: Instant, number: TaskNumber) {
        let inline = self.found.inline.get(&number);
        let row = DueRow {
            instant: (instant != due).then_some(instant),
            inline: inline.and_then(|record| TaskRecord::decode(record)),
        };
        let value = row.encode();
        if self.watermark_of(range).is_some_and(|behind| keys::instant_ms(due) <= behind) {
            self.late.insert(range);
            self.put(options::DUE, keys::due_late(range, due, number), value);
        } else {
            self.put(options::DUE, keys::due(range, due, number), value);
        }
    }

    fn clear_due(&mut self, range: RangeId) {
        let (from, end) = keys::range_all(range);
        self.write.delete_range_cf(self.store.family(options::DUE), &from[..], &end[..]);
        self.delete(options::META, keys::meta_watermark(range));
        self.late.remove(&range);
        self.mark(range, None);
    }

    fn watermark(&mut self, range: RangeId, through: Instant) {
        // It never goes back but by `ClearDue`: what is behind may be gone from the disk.
        let ms = keys::instant_ms(through);
        let behind = self.watermark_of(range).map_or(ms, |before| before.max(ms));
        self.put(options::META, keys::meta_watermark(range), values::ms_encode(behind));
        self.mark(range, Some(behind));
        if self.late.contains(&range) {
            let (from, end) = (keys::due_late_from(range, 0), keys::due_late_from(range, ms + 1));
            let family = self.store.family(options::DUE);
            self.write.delete_range_cf(family, &from[..], &end[..]);
        }
    }

    /// As this batch leaves it so far.
    fn watermark_of(&self, range: RangeId) -> Option<u64> {
        match self.watermarks.get(&range) {
            Some(marks) => marks.last,
            None => self.store.cutoffs.watermark(range),
        }
    }

    fn mark(&mut self, range: RangeId, ms: Option<u64>) {
        let marks = self.watermarks.entry(range).or_insert(Marks { lowest: ms, last: ms });
        *marks = Marks { lowest: marks.lowest.min(ms), last: ms };
    }

    // --- runs -----------------------------------------------------------------------------------

    fn history(&mut self, run: &RunRecord) {
        let hash = keys::task_hash(&run.id.task);
        let place = RunPlace::hashed(&run.id, hash);
        let state = values::state_byte(run.state);
        let row = values::history_encode(run.state, &codec::encode_run(run));
        self.put(options::HISTORY, place.row(run.fence), row);
        self.put(options::HISTORY, place.time(run.fence), [values::FORMAT, state]);
        if is_indexed(run.state) {
            self.put(options::HISTORY, place.state(state, run.fence), [values::FORMAT]);
        }
        self.slice(&run.id.task, place.ms);
        self.span(run);
        if let Some(request) = run.request.filter(|_| run.state.is_end()) {
            self.request(request, &run.id);
        }
    }

    /// How far a span reaches is kept if it is longer than one that grows.
    fn span(&mut self, run: &RunRecord) {
        let Some(span) = run.span else { return };
        let until = keys::instant_ms(span.until);
        if span.until > run.instant.plus(limits::SPAN_LENGTH_MAX) && until > self.spans_to {
            self.spans_to = until;
            self.put(options::META, [keys::META_SPANS], values::ms_encode(until));
        }
    }

    /// The first run of a request is the one that a later create is a duplicate of.
    fn request(&mut self, request: u128, run: &RunId) {
        let known = self.found.requests.get(&request).cloned().flatten();
        if known.is_none_or(|known| known == *run) {
            let value = values::request_encode(self.now_ms, run);
            self.put(options::HISTORY, keys::request(request), value);
            self.found.requests.insert(request, Some(run.clone()));
        }
    }

    fn slice(&mut self, task: &TaskName, ms: u64) {
        let slice = u16::try_from(task_hash(task) >> 49).expect("15 bits are left");
        let known = self.slices.get(&slice).or_else(|| self.known_slices.get(&slice));
        if known.is_none_or(|known| ms > known + SLICE_STEP_MS) {
            self.slices.insert(slice, ms);
            self.put(options::META, keys::meta_slice(slice), values::ms_encode(ms));
        }
    }

    fn output(&mut self, run: &RunId, attempt: Attempt, output: &Captured) {
        let place = RunPlace::of(run);
        let streams =
            [(OutputStream::Stdout, &output.stdout), (OutputStream::Stderr, &output.stderr)];
        for (stream, captured) in streams {
            if *captured != CapturedStream::default() {
                let value = values::output_encode(captured);
                self.put(options::OUTPUT, place.output(attempt, stream.byte()), value);
            }
        }
    }
}
