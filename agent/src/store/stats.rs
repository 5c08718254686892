//! Figures for the metrics. Properties of RocksDB are estimates and cheap; nothing here reads the
//! disk.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::Store;
use crate::store::options::{self, FAMILIES};

/// Counted by the store itself, since it was opened.
#[derive(Default)]
pub struct Counters {
    pub batches: AtomicU64,
    pub operations: AtomicU64,
    pub batch_bytes: AtomicU64,
    pub syncs: AtomicU64,
    pub stale_due: AtomicU64,
    pub unreadable: AtomicU64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoreStats {
    /// Files of all families, in bytes; output is told apart.
    pub bytes: u64,
    pub output_bytes: u64,
    /// Estimated rows by family.
    pub rows: Vec<(&'static str, u64)>,
    pub buffer_bytes: u64,
    pub cache_bytes: u64,
    /// Bytes that compaction still has to rewrite; growing for long means that it cannot keep up.
    pub compaction_behind_bytes: u64,
    pub batches: u64,
    pub operations: u64,
    pub batch_bytes: u64,
    pub syncs: u64,
    /// Due entries that were skipped since their task is gone.
    pub stale_due: u64,
    /// Rows that could not be read.
    pub unreadable: u64,
}

impl Store {
    pub fn stats(&self) -> StoreStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sum = |name| FAMILIES.iter().map(|family| self.property(family, name)).sum();
        StoreStats {
            bytes: FAMILIES.iter().map(|family| self.family_bytes(family)).sum(),
            output_bytes: self.family_bytes(options::OUTPUT),
            rows: FAMILIES
                .map(|family| (family, self.property(family, "rocksdb.estimate-num-keys")))
                .into(),
            buffer_bytes: u64::try_from(self.buffers.get_usage()).unwrap_or(0),
            cache_bytes: u64::try_from(self.cache.get_usage()).unwrap_or(0),
            compaction_behind_bytes: sum("rocksdb.estimate-pending-compaction-bytes"),
            batches: count(&self.counters.batches),
            operations: count(&self.counters.operations),
            batch_bytes: count(&self.counters.batch_bytes),
            syncs: count(&self.counters.syncs),
            stale_due: count(&self.counters.stale_due),
            unreadable: count(&self.counters.unreadable),
        }
    }

    /// What a family takes on the disk, blob files included.
    pub(super) fn family_bytes(&self, family: &str) -> u64 {
        self.property(family, "rocksdb.live-sst-files-size")
            + self.property(family, "rocksdb.live-blob-file-size")
    }

    fn property(&self, family: &str, name: &str) -> u64 {
        self.db.property_int_value_cf(self.family(family), name).ok().flatten().unwrap_or(0)
    }
}
