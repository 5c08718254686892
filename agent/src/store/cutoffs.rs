//! The marks behind which rows are gone, shared between the writer, readers and the compaction
//! filters that RocksDB calls from its own threads.
//!
//! A mark is raised here only after it is written, and lowered before: compaction may then keep a
//! row too long but never drop one that a reader could still ask for. Rows behind a mark are
//! invisible from the moment it moves, since reads begin at it; when the bytes go is RocksDB's
//! business.
//!
//! A mark of time is lowered again when it turns out that a wrong clock has set it (`trim`): what
//! compaction has dropped by then is gone, and what is written from now on must be seen.

use std::sync::atomic::{AtomicU64, Ordering};

use tocktower_core::ids::RangeId;

use crate::store::{keys, values};

/// Marks are stored plus one, so that a zeroed table says "none" everywhere.
pub struct Cutoffs {
    /// By range: the milliseconds of the watermark.
    due: Box<[AtomicU64]>,
    /// Runs before this are forgotten.
    history: AtomicU64,
    /// Requests written before this are forgotten.
    request: AtomicU64,
    /// As far as the mark of the history was raised since there were too many bytes.
    bytes: AtomicU64,
}

impl Cutoffs {
    pub fn new() -> Cutoffs {
        Cutoffs {
            due: (0..=u16::MAX).map(|_| AtomicU64::new(0)).collect(),
            history: AtomicU64::new(0),
            request: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// The watermark of a range: entries at or before it are behind.
    pub fn watermark(&self, range: RangeId) -> Option<u64> {
        self.due[usize::from(range.0)].load(Ordering::Acquire).checked_sub(1)
    }

    pub fn set_watermark(&self, range: RangeId, ms: Option<u64>) {
        self.due[usize::from(range.0)].store(ms.map_or(0, |ms| ms + 1), Ordering::Release);
    }

    pub fn watermarks(&self) -> impl Iterator<Item = (RangeId, u64)> {
        (0..=u16::MAX).filter_map(|range| {
            let range = RangeId(range);
            self.watermark(range).map(|ms| (range, ms))
        })
    }

    pub fn history(&self) -> u64 {
        self.history.load(Ordering::Acquire)
    }

    pub fn raise_history(&self, ms: u64) {
        self.history.fetch_max(ms, Ordering::AcqRel);
    }

    pub fn lower_history(&self, ms: u64) {
        self.history.fetch_min(ms, Ordering::AcqRel);
    }

    pub fn request(&self) -> u64 {
        self.request.load(Ordering::Acquire)
    }

    pub fn raise_request(&self, ms: u64) {
        self.request.fetch_max(ms, Ordering::AcqRel);
    }

    pub fn lower_request(&self, ms: u64) {
        self.request.fetch_min(ms, Ordering::AcqRel);
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// It alone moves both ways: it drops nothing, it only says why the history's mark is where it
    /// is.
    pub fn set_bytes(&self, ms: u64) {
        self.bytes.store(ms, Ordering::Release);
    }

    /// Whether compaction may drop a row of the family `due`.
    pub fn due_gone(&self, key: &[u8]) -> bool {
        keys::due_parts(key).is_some_and(|(range, ms, _)| {
            self.watermark(range).is_some_and(|watermark| ms <= watermark)
        })
    }

    /// Whether compaction may drop a row of the family `history`.
    pub fn history_gone(&self, key: &[u8], value: &[u8]) -> bool {
        if key.first() == Some(&keys::HISTORY_REQUEST) {
            return values::request_at(value).is_some_and(|at| at < self.request());
        }
        keys::history_ms(key).is_some_and(|ms| ms < self.history())
    }
}
