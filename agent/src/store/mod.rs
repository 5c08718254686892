//! The agent's disk: tasks it holds, what is due, what ran, what it said.
//!
//! The core decides what is written; this module writes it. One `Batch` is one atomic write of
//! RocksDB, so after a crash the store shows some prefix of the batches and never half of one. The
//! shared state in etcd is the truth about tasks; what only lives here is history and output.
//! That is why a store that fails its checksums may be set aside and begun anew, and why a restart
//! forgets what was due: it is derived again. What was open is kept for a process that goes on with
//! the session of the one before.
//!
//! One thread writes (`StoreThread`); anybody may read through `Arc<Store>`.
//!
//! - `keys`, `values`: every byte on disk, with golden tests;
//! - `codec`: records to core types and back;
//! - `apply`: a batch of the core to one write; `load`, `own`: what the core asks back; `numbers`:
//!   which one-shots lie beside their due entry; `recent`: which accounts a restart looks at;
//! - `query`: history for people; `trim`: how it is forgotten;
//! - `known`: which cluster it is of; `pins`: what is pinned here;
//! - `open`, `options`: lock, recovery, memory; `cutoffs`: what compaction may drop unasked.
//!
//! Due entries and history are never deleted one by one: a mark is moved, reads begin behind it
//! and compaction drops the rest. Tombstones are what makes RocksDB slow as a queue.

mod apply;
mod codec;
mod cutoffs;
mod error;
mod failures;
mod keys;
mod known;
mod limits;
mod load;
mod numbers;
mod open;
mod options;
mod own;
mod pins;
mod query;
mod recent;
mod space;
mod stats;
mod thread;
mod trim;
mod values;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocksdb::{Cache, ColumnFamily, DB, WriteBufferManager};
use tocktower_core::ids::{LedgerNumber, RangeId};

pub use error::{OpenError, StoreError};
pub use known::KnownCluster;
pub use load::{Loaded, Unreadable};
pub use open::{Opened, SetAside, StoreConfig};
pub use query::{
    AllRuns, OutputStream, Query, QueryAnswer, RunCursor, RunPage, StateSet, TaskRuns,
};
pub use space::{DiskSpace, StoreHealth, free_space};
pub use stats::StoreStats;
pub use thread::{SendError, StoreAnswer, StoreAnswers, StoreHandle, StoreRequest, StoreThread};
pub use trim::{Retention, TrimBudget, TrimClock, Trimmed};

use crate::store::apply::Writer;
use crate::store::cutoffs::Cutoffs;
use crate::store::failures::Failures;
use crate::store::numbers::NumberSet;
use crate::store::recent::Recent;
use crate::store::stats::Counters;
use crate::store::trim::TrimState;

/// An open store. Every method may be called from any thread and blocks on the disk. `apply`,
/// `write` and `sync` are the store thread's; `trim` may take seconds and belongs on a thread of
/// its own, where it holds nobody up.
pub struct Store {
    db: DB,
    clock: fn() -> tocktower_core::time::Wall,
    /// Which boot of the host this is, which folder, and whether a write has failed there since.
    life: String,
    failures: Failures,
    cutoffs: Arc<Cutoffs>,
    writer: Mutex<Writer>,
    trim: Mutex<TrimState>,
    /// One-shots whose record lies beside their due entry; locked for one look at a time.
    beside: Mutex<NumberSet>,
    /// Which accounts there are of the last minute, while ranges are taken up after a restart.
    recent: Mutex<Option<Recent>>,
    /// How far spans reach that are longer than they grow, in milliseconds.
    spans_to: AtomicU64,
    counters: Counters,
    /// Writes that no sync has covered yet.
    unsynced: AtomicBool,
    cache: Cache,
    buffers: WriteBufferManager,
    dir: PathBuf,
    /// Last, so that the folder is free only when the database is closed.
    _lock: open::DirLock,
}

impl Store {
    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The newest ledger number that was stored for a range, and those of processes before it.
    pub fn ledger_numbers(&self, range: RangeId) -> Result<Option<Vec<LedgerNumber>>, StoreError> {
        let value = self.db.get_pinned_cf(self.family(options::META), keys::meta_ledger(range));
        let value = value.map_err(|error| self.failed(error))?;
        Ok(value.as_deref().and_then(values::ledger_numbers_decode))
    }

    fn beside(&self) -> MutexGuard<'_, NumberSet> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family is made when the store is opened")
    }

    /// Turns an error of a write or a sync into ours. It is remembered in a file, so that the next
    /// start goes on with nothing that may be lost.
    fn unwritten(&self, error: rocksdb::Error) -> StoreError {
        self.failures.note();
        self.failed(error)
    }

    /// Turns an error of the engine into ours. Damage is remembered in a file, so that the next
    /// start sets the store aside instead of running into it again.
    fn failed(&self, error: rocksdb::Error) -> StoreError {
        let error = StoreError::from(error);
        if matches!(error, StoreError::Damaged { .. }) {
            open::mark_damaged(&self.dir);
        }
        error
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.dir).finish_non_exhaustive()
    }
}
