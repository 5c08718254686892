//! Which accounts of the last minute there are, by task: what a restart asks of every task that it
//! takes up is then one stretch of the index by time, read once, and no seek for each of thousands
//! of tasks into as many files as there were restarts.
//!
//! It only says where to look: rows themselves are read from the disk. It is made when a range asks
//! first, kept up to date by the writer, and gone when nobody has asked for a while.
//!
//! A span lies at its first instant, which may be before the stretch. One that grows is no longer
//! than `SPAN_LENGTH_MAX`, so the indexes by state are read as much further back. How far any
//! longer one reaches is kept apart, and who may be in such a one is asked for by a seek.

use std::collections::{BTreeMap, HashMap};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tocktower_core::ids::Fence;
use tocktower_core::limits::SPAN_LENGTH_MAX;
use tocktower_core::run::{RunRecord, RunState};

use crate::store::error::StoreError;
use crate::store::keys::{self, RunPlace, TaskHash};
use crate::store::limits::{
    RECENT_KEPT, RECENT_REACH, RECENT_ROWS_MAX, RECENT_STEP, SPAN_ROWS_BACK,
};
use crate::store::query::{StateSet, may_span};
use crate::store::{Store, values};

/// Where the record of a run lies.
pub type Account = (RunPlace, Fence);

pub struct Recent {
    /// Accounts of all runs at this millisecond and later are here, and of those that may be spans
    /// and begin at most `SPAN_LENGTH_MAX` before.
    from: u64,
    tasks: HashMap<TaskHash, BTreeMap<Account, RunState>>,
    rows: usize,
    /// Of those that may be spans, all that begin at this millisecond and later are here.
    spans_from: u64,
    /// It has as many rows as it may: it goes no further back.
    full: bool,
    asked: Instant,
}

impl Recent {
    fn new() -> Recent {
        let (tasks, asked) = (HashMap::new(), Instant::now());
        Recent { from: keys::MS_END, spans_from: keys::MS_END, tasks, rows: 0, full: false, asked }
    }

    /// Of every run at this millisecond or later it is known whether there is an account.
    pub fn reaches(&self, ms: u64) -> bool {
        self.from <= ms
    }

    /// The accounts of a run, the highest fence first.
    pub fn of_run(&self, place: &RunPlace) -> Vec<Account> {
        let Some(task) = self.tasks.get(&place.hash) else { return Vec::new() };
        let from = task.range((place.clone(), Fence::default())..);
        let accounts = from.map(|(account, _)| account).take_while(|(at, _)| at == place);
        let mut accounts: Vec<Account> = accounts.cloned().collect();
        accounts.reverse();
        accounts
    }

    /// The highest account of each of a task's runs, the newest first, from a millisecond on and of
    /// those before it that may reach beyond.
    pub fn of_task(&self, hash: &TaskHash, first: u64) -> Vec<Account> {
        let mut accounts = Vec::new();
        let (mut last, mut back) = (None, 0);
        for ((place, fence), state) in self.tasks.get(hash).into_iter().flatten().rev() {
            let lower = last == Some(place);
            last = Some(place);
            let early = place.ms < first;
            if lower || early && !may_span(*state) {
                continue;
            }
            back += usize::from(early);
            if back > SPAN_ROWS_BACK {
                break;
            }
            accounts.push((place.clone(), *fence));
        }
        accounts
    }

    fn put(&mut self, (place, fence): Account, state: RunState) {
        let task = self.tasks.entry(place.hash).or_default();
        self.rows += usize::from(task.insert((place, fence), state).is_none());
    }
}

impl Store {
    /// What is known from `ms` on; it may go less far back (`Recent::reaches`). The writer waits
    /// for as long as it is held.
    pub(super) fn with_recent<T>(
        &self,
        ms: u64,
        look: impl FnOnce(&Recent) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut recent = self.recent_lock();
        let recent = recent.get_or_insert_with(Recent::new);
        recent.asked = Instant::now();
        let now = keys::instant_ms((self.clock)().instant());
        let oldest = now.saturating_sub(millis(RECENT_REACH)).max(self.cutoffs.history());
        if ms.max(oldest) < recent.from && !recent.full {
            // Other ranges ask for what is a little older: they find it.
            let further = ms.saturating_sub(millis(RECENT_STEP)).max(oldest);
            self.read_back(recent, further)?;
        }
        look(recent)
    }

    /// Keeps what is known as the history is after a write.
    pub(super) fn note_recent<'r>(&self, written: impl Iterator<Item = &'r RunRecord>) {
        let mut recent = self.recent_lock();
        let Some(known) = recent.as_mut() else { return };
        if known.asked.elapsed() > RECENT_KEPT || known.rows > 2 * RECENT_ROWS_MAX {
            *recent = None;
            return;
        }
        for run in written {
            known.put((RunPlace::of(&run.id), run.fence), run.state);
        }
    }

    fn recent_lock(&self) -> MutexGuard<'_, Option<Recent>> {
        // What a panic left half read is not believed.
        self.recent.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            let mut recent = poisoned.into_inner();
            *recent = None;
            recent
        })
    }

    /// Reads on until all from `ms` on is known, or as far as there is room for.
    fn read_back(&self, recent: &mut Recent, ms: u64) -> Result<(), StoreError> {
        let times = (keys::time_from(recent.from - 1), keys::time_behind(ms));
        let from = self.read_index(recent, &times, ms, None)?;
        let first = from.saturating_sub(millis(SPAN_LENGTH_MAX)).max(self.cutoffs.history());
        let end = recent.spans_from.min(from);
        if first < end {
            for state in StateSet::ALL.states().filter(|state| may_span(*state)) {
                let byte = values::state_byte(state);
                let times = (keys::state_from(byte, end - 1), keys::state_behind(byte, first));
                if self.read_index(recent, &times, first, Some(state))? > first {
                    return Ok(());
                }
            }
            recent.spans_from = first;
        }
        recent.from = from;
        Ok(())
    }

    /// Takes in a stretch of an index, the newest first. Gives from when on it is known.
    fn read_index(
        &self,
        recent: &mut Recent,
        (from, end): &(Vec<u8>, Vec<u8>),
        first: u64,
        state: Option<RunState>,
    ) -> Result<u64, StoreError> {
        let mut rows = self.rows_from(from, end);
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            let state = state.or_else(|| value.get(1).copied().and_then(values::state_of));
            if let Some((account, state)) = keys::time_parts(key).zip(state) {
                if recent.rows >= RECENT_ROWS_MAX {
                    recent.full = true;
                    return Ok(account.0.ms + 1);
                }
                recent.put(account, state);
            }
            rows.next();
        }
        self.status(&rows)?;
        Ok(first)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
