//! A model of the agent's store: reads see every batch before them, and a ledger's number counts
//! as known when it is on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use tocktower_core::agent::effect::{
    Batch, BatchNumber, Fences, LoadRequest, PinsRecord, SettledEnd, StoreOp,
};
use tocktower_core::agent::input::{DueLoaded, LoadAnswer, OwnRun};
use tocktower_core::agent::{Former, Kept, PinsBefore};
use tocktower_core::ids::{
    Attempt, LedgerNumber, RangeId, Revision, RunId, RunKey, TaskName, TaskNumber,
};
use tocktower_core::ledger::Ledger;
use tocktower_core::run::RunRecord;
use tocktower_core::task::Task;
use tocktower_core::time::{Instant, Wall};

#[derive(Clone, Default)]
pub struct Store {
    /// Every version that ever was: what a row stands for.
    pub versions: BTreeMap<Revision, Arc<Task>>,
    tasks: BTreeMap<(RangeId, TaskNumber), (Arc<Task>, u64)>,
    names: BTreeMap<(RangeId, TaskName), TaskNumber>,
    due: BTreeMap<(RangeId, Instant, TaskNumber), Instant>,
    pub history: Vec<RunRecord>,
    open: BTreeMap<(RangeId, RunId), Attempt>,
    session: Option<Kept>,
    numbers: BTreeMap<RangeId, Vec<LedgerNumber>>,
    written: BTreeMap<LedgerNumber, BatchNumber>,
    synced: BatchNumber,
    born: BTreeMap<RangeId, Wall>,
    delivered: BTreeMap<RangeId, Revision>,
    ledgers: BTreeMap<RangeId, Ledger>,
    /// What is on disk, and the batches that are not yet.
    disk: Option<Box<Store>>,
    unsynced: Vec<Batch>,
}

impl Store {
    /// The number of a task's present row.
    pub fn due_entries(&self, range: RangeId) -> usize {
        self.due.keys().filter(|(of, ..)| *of == range).count()
    }

    pub fn number(&self, range: RangeId, name: &str) -> TaskNumber {
        self.names[&(range, TaskName::parse(name).expect("a good name"))]
    }

    pub fn apply(&mut self, batch: &Batch) {
        if self.disk.is_some() {
            self.unsynced.push(batch.clone());
        }
        for op in &batch.ops {
            self.one(op);
        }
        for op in &batch.ops {
            if let StoreOp::LedgerNumber { number, .. } = op {
                self.written.insert(*number, batch.number);
            }
        }
    }

    /// A batch and all before it are on disk.
    pub fn sync(&mut self, batch: BatchNumber) {
        self.synced = self.synced.max(batch);
        let Some(disk) = &mut self.disk else { return };
        disk.versions.clone_from(&self.versions);
        for batch in self.unsynced.extract_if(.., |unsynced| unsynced.number <= batch) {
            disk.apply(&batch);
        }
    }

    /// From now on what is on disk is known apart.
    pub fn keep_disk(&mut self) {
        self.disk = Some(Box::new(self.clone()));
    }

    pub fn lose_all(&mut self) {
        let versions = std::mem::take(&mut self.versions);
        *self = Store { versions, ..Store::default() };
    }

    pub fn lose_unsynced(&mut self) {
        let disk = self.disk.take().expect("it was kept apart");
        *self = *disk;
        self.keep_disk();
    }

    /// What a process that comes after has of the local ranges. `intact`: on the same boot.
    pub fn locals_before(&self, intact: bool) -> BTreeMap<RangeId, PinsBefore> {
        let before = |range| {
            let ledger = self.ledgers.get(&range)?.clone();
            let (born, delivered) = (*self.born.get(&range)?, *self.delivered.get(&range)?);
            Some((range, PinsBefore { born, delivered, ledger, intact }))
        };
        RangeId::LOCAL.into_iter().filter_map(before).collect()
    }

    pub fn pins_before(&self, intact: bool) -> Option<PinsBefore> {
        self.locals_before(intact).remove(&RangeId::PINS)
    }

    pub fn knows(&self, number: LedgerNumber) -> bool {
        self.written.get(&number).is_some_and(|batch| *batch <= self.synced)
    }

    /// The tasks that it has of a range.
    pub fn tasks_of(&self, range: RangeId) -> Vec<String> {
        let names = self.names.keys().filter(|(at, _)| *at == range);
        names.map(|(_, name)| name.to_string()).collect()
    }

    /// What a process that comes after on the same boot goes on from.
    pub fn former(&self) -> Option<Former> {
        Some(Former { kept: self.session?, numbers: self.numbers.clone() })
    }

    /// There was a power cut: nothing is gone on from.
    pub fn forget_session(&mut self) {
        self.session = None;
    }

    /// The newest number that is known of a range is this one.
    pub fn forget_number(&mut self, range: RangeId, number: LedgerNumber) {
        self.numbers.insert(range, vec![number]);
    }

    /// What a new process begins with: what was due is derived again.
    pub fn open_again(&mut self) {
        self.due.clear();
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
        let open = open.map(|((_, run), attempt)| OwnRun {
            run: run.clone(),
            attempt: *attempt,
            fence: attempt.fence,
            end: None,
            until: None,
        });
        let asked = |row: &&RunRecord| {
            let RunKey::Instant(at) = row.id.run else { return runs.contains(&row.id) };
            let last = row.span.map_or(at, |span| span.until);
            let of = |(task, after): &&(TaskName, Instant)| *task == row.id.task && last > *after;
            runs.contains(&row.id) || under.has(row.fence) && tasks.iter().any(|task| of(&task))
        };
        let ended = self.history.iter().filter(asked).map(|row| OwnRun {
            run: row.id.clone(),
            attempt: row.newest().map_or(Attempt::NONE, |newest| newest.attempt),
            fence: row.fence,
            end: Some(SettledEnd::of(row.state)),
            until: row.span.map(|span| span.until),
        });
        open.chain(ended).collect()
    }

    fn one(&mut self, op: &StoreOp) {
        match op {
            StoreOp::PutTask { range, number, name, revision, stamp, .. } => {
                if let Some(before) = self.names.insert((*range, name.clone()), *number) {
                    self.tasks.remove(&(*range, before));
                }
                let task = self.versions[revision].clone();
                self.tasks.insert((*range, *number), (task, *stamp));
            }
            StoreOp::DeleteTask { range, name } => {
                if let Some(number) = self.names.remove(&(*range, name.clone())) {
                    self.tasks.remove(&(*range, number));
                }
            }
            StoreOp::Sweep { range, stamp } => {
                self.tasks.retain(|(at, _), (_, seen)| at != range || *seen >= *stamp);
                let tasks = &self.tasks;
                self.names.retain(|(at, _), number| tasks.contains_key(&(*at, *number)));
            }
            StoreOp::DropRange { range } => {
                self.tasks.retain(|(at, _), _| at != range);
                self.names.retain(|(at, _), _| at != range);
                self.due.retain(|(at, ..), _| at != range);
            }
            StoreOp::ClearDue { range } => self.due.retain(|(at, ..), _| at != range),
            StoreOp::PutDue { range, due, instant, number } => {
                self.due.insert((*range, *due, *number), *instant);
            }
            StoreOp::Watermark { range, through } => {
                self.due.retain(|(at, due, _), _| at != range || due > through);
            }
            StoreOp::History(record) => self.write_down(record),
            StoreOp::LedgerNumber { range, number, before } => {
                let numbers = std::iter::once(number).chain(before).copied();
                self.numbers.insert(*range, numbers.collect());
            }
            StoreOp::OpenRun { range, run, attempt } => {
                self.open.insert((*range, run.clone()), *attempt);
            }
            StoreOp::CloseRun { range, run } => {
                self.open.remove(&(*range, run.clone()));
            }
            StoreOp::Session(session) => self.session = *session,
            StoreOp::Pins(range, PinsRecord::Born(born)) => {
                self.born.insert(*range, *born);
            }
            StoreOp::Pins(range, PinsRecord::Delivered(at)) => {
                self.delivered.insert(*range, *at);
            }
            StoreOp::Pins(range, PinsRecord::Ledger(ledger)) => {
                self.ledgers.insert(*range, ledger.clone());
            }
            StoreOp::Output { .. } => {}
        }
    }

    /// A span that grows is its row written again; any other end that comes twice stands here
    /// twice.
    fn write_down(&mut self, record: &RunRecord) {
        let known = self.history.iter_mut().find(|row| {
            let grown = record.span.map(|span| span.until) > row.span.map(|span| span.until)
                && row.attempts.is_empty();
            row.id == record.id && row.fence == record.fence && row.state == record.state && grown
        });
        match known {
            Some(row) => *row = record.clone(),
            None => self.history.push(record.clone()),
        }
    }

    pub fn load(&self, request: &LoadRequest) -> LoadAnswer {
        match request {
            LoadRequest::Due { range, after, through, .. } => {
                let first = (*range, *after, TaskNumber(u64::MAX));
                let last = (*range, *through, TaskNumber(u64::MAX));
                let rows = self.due.range(first..=last);
                let entries = rows.filter_map(|((_, due, number), instant)| {
                    let (task, _) = self.tasks.get(&(*range, *number))?;
                    let (due, instant, number) = (*due, *instant, *number);
                    Some(DueLoaded { due, instant, number, task: task.clone() })
                });
                LoadAnswer::Due { entries: entries.collect(), through: *through }
            }
            LoadRequest::Scan { range, after, limit } => {
                let first = (*range, TaskNumber(after.map_or(0, |after| after.0 + 1)));
                let mut rows = self.tasks.range(first..=(*range, TaskNumber(u64::MAX)));
                let tasks = rows.by_ref().take(*limit);
                let tasks = tasks.map(|((_, number), (task, _))| (*number, task.clone()));
                let tasks = tasks.collect();
                LoadAnswer::Scan { tasks, more: rows.next().is_some() }
            }
            LoadRequest::Own { range, under, runs, tasks } => {
                LoadAnswer::Own(self.own(*range, *under, runs, tasks))
            }
            LoadRequest::Task { range, name } => {
                let number = self.names.get(&(*range, name.clone())).copied();
                LoadAnswer::Task(number.map(|number| {
                    let (task, _) = &self.tasks[&(*range, number)];
                    (number, task.clone())
                }))
            }
        }
    }
}
