//! A model of an agent's store: what was synced survives a power cut, what was only written
//! survives a crash of the process, and reads see every batch before them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tocktower_cluster::cluster::Cluster;
use tocktower_core::agent::effect::{
    Batch, BatchNumber, Fences, LoadRequest, PinsRecord, SettledEnd, StoreOp,
};
use tocktower_core::agent::input::{Committed, DueLoaded, Duplicate, LoadAnswer, OwnRun};
use tocktower_core::agent::{Former, Kept, PinsBefore};
use tocktower_core::ids::{
    Attempt, LedgerNumber, RangeId, Revision, RunId, RunKey, TaskName, TaskNumber,
};
use tocktower_core::ledger::Ledger;
use tocktower_core::run::RunRecord;
use tocktower_core::task::Task;
use tocktower_core::time::{Instant, Wall};
use tocktower_proto::convert::decode_task_row;

use super::epochs::{Joined, Known};

#[derive(Clone, Debug)]
struct Row {
    name: TaskName,
    stamp: u64,
    task: Arc<Task>,
}

#[derive(Clone, Debug, Default)]
struct Tables {
    tasks: BTreeMap<(RangeId, TaskNumber), Row>,
    names: BTreeMap<(RangeId, TaskName), TaskNumber>,
    due: BTreeMap<(RangeId, Instant, TaskNumber), Instant>,
    watermarks: BTreeMap<RangeId, Instant>,
    history: Vec<RunRecord>,
    requests: BTreeMap<u128, RunId>,
    open: BTreeMap<(RangeId, RunId), Attempt>,
    session: Option<Kept>,
    numbers: BTreeMap<RangeId, Vec<LedgerNumber>>,
    pins: BTreeMap<RangeId, Pins>,
    /// The highest revision that was seen in the epoch.
    seen: Revision,
}

/// What a store knows of a local range, beside tasks and open runs.
#[derive(Clone, Debug, Default)]
struct Pins {
    born: Option<Wall>,
    /// What the watch had come to when it was born.
    listed: Option<Revision>,
    delivered: Revision,
    ledger: Option<Ledger>,
}

impl Pins {
    fn keep(&mut self, record: &PinsRecord) {
        match record {
            PinsRecord::Born(born) => (self.born, self.listed) = (Some(*born), None),
            PinsRecord::Delivered(at) => {
                self.delivered = *at;
                self.listed.get_or_insert(*at);
            }
            PinsRecord::Ledger(ledger) => self.ledger = Some(ledger.clone()),
        }
    }
}

fn is_local(range: RangeId) -> bool {
    RangeId::LOCAL.contains(&range)
}

/// All of the local ranges that a power cut leaves.
#[derive(Clone, Debug, Default)]
struct PinsSynced {
    pins: BTreeMap<RangeId, Pins>,
    tasks: BTreeMap<(RangeId, TaskNumber), Row>,
    open: BTreeMap<(RangeId, RunId), Attempt>,
    seen: Revision,
}

impl Tables {
    fn pinned(&self) -> PinsSynced {
        let tasks = self.tasks.iter().filter(|((range, _), _)| is_local(*range));
        let open = self.open.iter().filter(|((range, _), _)| is_local(*range));
        PinsSynced {
            pins: self.pins.clone(),
            tasks: tasks.map(|(key, row)| (*key, row.clone())).collect(),
            open: open.map(|(key, attempt)| (key.clone(), *attempt)).collect(),
            seen: self.seen,
        }
    }

    fn put_pinned(&mut self, synced: &PinsSynced) {
        self.pins = synced.pins.clone();
        self.seen = synced.seen;
        for ((range, number), row) in &synced.tasks {
            self.names.insert((*range, row.name.clone()), *number);
        }
        self.tasks.extend(synced.tasks.clone());
        self.open.extend(synced.open.clone());
    }

    fn own(
        &self,
        range: RangeId,
        under: Fences,
        runs: &[RunId],
        tasks: &[(TaskName, Instant)],
    ) -> Vec<OwnRun> {
        let open = self.open.iter().filter(|((at, run), attempt)| {
            *at == range && (attempt.fence == under.newest || runs.contains(run))
        });
        let mut own: Vec<OwnRun> = open
            .map(|((_, run), attempt)| OwnRun {
                run: run.clone(),
                attempt: *attempt,
                fence: attempt.fence,
                end: None,
                until: None,
            })
            .collect();
        for row in &self.history {
            let listed = runs.contains(&row.id);
            let last = |at| row.span.map_or(at, |span| span.until);
            let later = matches!(row.id.run, RunKey::Instant(at) if tasks
                .iter()
                .any(|(task, after)| *task == row.id.task && last(at) > *after));
            if listed || later && under.has(row.fence) {
                own.push(OwnRun {
                    run: row.id.clone(),
                    attempt: row.newest().map_or(Attempt::NONE, |newest| newest.attempt),
                    fence: row.fence,
                    end: Some(SettledEnd::of(row.state)),
                    until: row.span.map(|span| span.until),
                });
            }
        }
        own
    }
}

#[derive(Debug, Default)]
pub struct Store {
    tables: Tables,
    /// As of the last sync: all that a power cut leaves. Only history matters to a stranger.
    synced_rows: usize,
    synced_pins: PinsSynced,
    /// The local ranges as of batches whose sync is under way, and ledgers that came with them.
    syncing: BTreeMap<BatchNumber, PinsSynced>,
    ledgers: BTreeMap<BatchNumber, Vec<(RangeId, Ledger)>>,
    /// Local ranges whose ledger was kept before the host last booted.
    booted: BTreeSet<RangeId>,
    /// The cluster that it is of, in walks that have a record of one; on disk once it is noted.
    known: Option<Known>,
    /// It keeps a ledger of tasks of every agent, which there are.
    pub shares: bool,
    pub process: u64,
    /// Duplicates of batches whose answer has not been given.
    pub pending: Vec<Duplicate>,
}

impl Store {
    /// The tasks that it has of a range, each with the revision of its version.
    pub fn tasks_of(&self, range: RangeId) -> BTreeMap<TaskName, Revision> {
        let rows = self.tables.tasks.iter().filter(|((at, _), _)| *at == range);
        rows.map(|(_, row)| (row.name.clone(), row.task.revision)).collect()
    }

    pub fn apply(&mut self, batch: &Batch) -> Committed {
        let mut duplicates = Vec::new();
        for op in &batch.ops {
            self.one(op, &mut duplicates);
            if let StoreOp::Pins(range, PinsRecord::Ledger(ledger)) = op
                && self.keeps(*range)
            {
                self.ledgers.entry(batch.number).or_default().push((*range, ledger.clone()));
                self.booted.remove(range);
            }
        }
        if batch.sync {
            let pinned = self.tables.pinned();
            self.syncing.insert(batch.number, pinned);
        }
        Committed { batch: batch.number, synced: batch.sync, duplicates }
    }

    /// A sync that was asked for when there were `rows` has come through.
    pub fn sync(&mut self, batch: BatchNumber, rows: usize) {
        self.synced_rows = self.synced_rows.max(rows);
        if let Some(pins) = self.syncing.remove(&batch) {
            self.synced_pins = pins;
        }
    }

    /// The ledgers of local ranges that a batch has kept; they are told once.
    pub fn local_ledgers_of(&mut self, batch: BatchNumber) -> Vec<(RangeId, Ledger)> {
        self.ledgers.remove(&batch).unwrap_or_default()
    }

    pub fn local_ledger(&self, range: RangeId) -> Option<&Ledger> {
        self.tables.pins.get(&range)?.ledger.as_ref()
    }

    /// When it began to know of a local range, and the revision of the list that it began with.
    pub fn born(&self, range: RangeId) -> Option<(Wall, Revision)> {
        let pins = self.tables.pins.get(&range)?;
        Some((pins.born?, pins.listed?))
    }

    fn keeps(&self, range: RangeId) -> bool {
        range == RangeId::PINS || self.shares
    }

    /// `forgetful`: the store does not notice, and what it says of a session still counts. `disk`:
    /// a new one comes in its place, and has all that was told elsewhere.
    pub fn power_cut(&mut self, forgetful: bool, disk: bool) {
        self.tables.history.truncate(self.synced_rows);
        let before = std::mem::take(&mut self.tables);
        self.tables.history = before.history;
        let synced = std::mem::take(&mut self.synced_pins);
        if disk {
            self.known = None;
        } else {
            self.tables.put_pinned(&synced);
            self.synced_pins = synced;
        }
        self.booted.extend(RangeId::LOCAL);
        if forgetful {
            (self.tables.session, self.tables.numbers) = (before.session, before.numbers);
        }
    }

    /// A write has failed: nothing that the process left in it is gone on with.
    pub fn distrust(&mut self) {
        self.tables.session = None;
        self.tables.numbers.clear();
        self.booted.extend(RangeId::LOCAL);
    }

    /// What the process before has left, and a process that begins: what was due is derived again,
    /// and what was open is dropped unless a session goes on.
    pub fn open(&mut self) -> Option<Former> {
        self.process += 1;
        self.pending.clear();
        self.syncing.clear();
        self.ledgers.clear();
        let tables = &mut self.tables;
        tables.due.clear();
        tables.watermarks.clear();
        let numbers = || tables.numbers.clone();
        let former = tables.session.map(|kept| Former { kept, numbers: numbers() });
        if former.is_none() {
            tables.open.retain(|(range, _), _| is_local(*range));
        }
        former
    }

    /// What a process that comes after has of the local ranges.
    pub fn pins_before(&self) -> BTreeMap<RangeId, PinsBefore> {
        let before = |(range, pins): (&RangeId, &Pins)| {
            let before = PinsBefore {
                born: pins.born?,
                delivered: pins.delivered,
                ledger: pins.ledger.clone()?,
                intact: !self.booted.contains(range),
            };
            Some((*range, before))
        };
        self.tables.pins.iter().filter_map(before).collect()
    }

    /// The cluster that it knows, and the highest revision that was seen there.
    pub fn cluster(&self) -> (Option<Known>, Revision) {
        (self.known.clone(), self.tables.seen)
    }

    /// Nothing is gone on with there but history and the local ranges.
    pub fn begin(&mut self, cluster: Cluster) -> Joined {
        let joined = Joined::of(&cluster, Revision(0));
        self.known = Some(Known { cluster, put_back: false });
        (self.tables.seen, self.synced_pins.seen) = (Revision(0), Revision(0));
        self.syncing.values_mut().for_each(|synced| synced.seen = Revision(0));
        joined
    }

    pub fn note_put_back(&mut self) {
        if let Some(known) = &mut self.known {
            known.put_back = true;
        }
    }

    pub fn note_seen(&mut self, seen: Revision) {
        self.tables.seen = self.tables.seen.max(seen);
    }

    pub fn history(&self) -> &[RunRecord] {
        &self.tables.history
    }

    fn one(&mut self, op: &StoreOp, duplicates: &mut Vec<Duplicate>) {
        let tables = &mut self.tables;
        match op {
            StoreOp::PutTask { range, number, name, revision, stamp, request, raw } => {
                let task = decode_task_row(raw).expect("the driver encoded it");
                let key = (*range, name.clone());
                if let Some(before) = tables.names.insert(key, *number) {
                    tables.tasks.remove(&(*range, before));
                }
                let row = Row { name: name.clone(), stamp: *stamp, task: Arc::new(task) };
                tables.tasks.insert((*range, *number), row);
                if let Some(run) = request.and_then(|request| tables.requests.get(&request)) {
                    let (range, number, revision) = (*range, *number, *revision);
                    let earlier = run.clone();
                    duplicates.push(Duplicate { range, number, revision, earlier });
                }
            }
            StoreOp::DeleteTask { range, name } => {
                if let Some(number) = tables.names.remove(&(*range, name.clone())) {
                    tables.tasks.remove(&(*range, number));
                }
            }
            StoreOp::Sweep { range, stamp } => {
                let stale: Vec<_> = tables
                    .tasks
                    .iter()
                    .filter(|((at, _), row)| at == range && row.stamp < *stamp)
                    .map(|(key, row)| (*key, row.name.clone()))
                    .collect();
                for (key, name) in stale {
                    tables.tasks.remove(&key);
                    tables.names.remove(&(*range, name));
                }
            }
            StoreOp::DropRange { range } => {
                tables.tasks.retain(|(at, _), _| at != range);
                tables.names.retain(|(at, _), _| at != range);
                tables.due.retain(|(at, ..), _| at != range);
            }
            StoreOp::ClearDue { range } => {
                tables.due.retain(|(at, ..), _| at != range);
                tables.watermarks.remove(range);
            }
            StoreOp::PutDue { range, due, instant, number } => {
                tables.due.insert((*range, *due, *number), *instant);
            }
            StoreOp::Watermark { range, through } => {
                tables.watermarks.insert(*range, *through);
                tables.due.retain(|(at, due, _), _| at != range || due > through);
            }
            StoreOp::History(record) => {
                if let Some(request) = record.request {
                    tables.requests.insert(request, record.id.clone());
                }
                tables.history.push((**record).clone());
            }
            StoreOp::OpenRun { range, run, attempt } => {
                tables.open.insert((*range, run.clone()), *attempt);
            }
            StoreOp::CloseRun { range, run } => {
                tables.open.remove(&(*range, run.clone()));
            }
            StoreOp::Session(session) => tables.session = *session,
            // Walks that are kept know no such tasks.
            StoreOp::Pins(RangeId::BROADCAST, _) if !self.shares => {}
            StoreOp::Pins(range, record) => {
                tables.pins.entry(*range).or_default().keep(record);
            }
            StoreOp::LedgerNumber { range, number, before } => {
                let numbers = std::iter::once(number).chain(before).copied();
                tables.numbers.insert(*range, numbers.collect());
            }
            StoreOp::Output { .. } => {}
        }
    }

    pub fn load(&self, request: &LoadRequest) -> LoadAnswer {
        let tables = &self.tables;
        match request {
            LoadRequest::Due { range, after, through, limit } => {
                let first = (*range, *after, TaskNumber(u64::MAX));
                let last = (*range, *through, TaskNumber(u64::MAX));
                let mut entries = Vec::new();
                let mut reached = *through;
                for ((_, due, number), instant) in tables.due.range(first..=last) {
                    if entries.len() >= *limit
                        && entries.last().is_some_and(|e: &DueLoaded| e.due < *due)
                    {
                        reached = entries.last().map_or(*through, |entry| entry.due);
                        break;
                    }
                    if let Some(row) = tables.tasks.get(&(*range, *number)) {
                        let (due, instant, number) = (*due, *instant, *number);
                        entries.push(DueLoaded { due, instant, number, task: row.task.clone() });
                    }
                }
                LoadAnswer::Due { entries, through: reached }
            }
            LoadRequest::Scan { range, after, limit } => {
                let first = (*range, after.map_or(TaskNumber(0), |after| TaskNumber(after.0 + 1)));
                let last = (*range, TaskNumber(u64::MAX));
                let mut rows = tables.tasks.range(first..=last);
                let tasks: Vec<_> = rows
                    .by_ref()
                    .take(*limit)
                    .map(|((_, number), row)| (*number, row.task.clone()))
                    .collect();
                LoadAnswer::Scan { tasks, more: rows.next().is_some() }
            }
            LoadRequest::Own { range, under, runs, tasks } => {
                LoadAnswer::Own(tables.own(*range, *under, runs, tasks))
            }
            LoadRequest::Task { range, name } => {
                let number = tables.names.get(&(*range, name.clone()));
                LoadAnswer::Task(number.and_then(|number| {
                    let row = tables.tasks.get(&(*range, *number))?;
                    Some((*number, row.task.clone()))
                }))
            }
        }
    }
}
