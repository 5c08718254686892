//! The store's own bounds, each with its reason. They move to `core::limits` when another crate
//! needs them.

use std::time::Duration;

use tocktower_core::limits;

/// Block cache and write buffers together.
pub const MEMORY_BYTES: usize = 64 * 1024 * 1024;
/// Of that, write buffers: about a second of the fastest load, so that flushes are worth a file.
pub const BUFFER_BYTES: usize = 32 * 1024 * 1024;
/// Log that a start may have to read again, before anything else: some 100 ms, where 64 MiB took
/// 300. Small families get a file each time, and that costs nothing that could be measured.
pub const WAL_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// A one-shot's record up to this size lies beside its due entry; larger ones would make the scan
/// of what is due slower than the look-up that they save.
pub const INLINE_BYTES_MAX: usize = 512;
/// Due entries of one answer, whatever `limit` asks for.
pub const LOAD_ENTRIES_MAX: usize = 65_536;
/// Rows that are looked up together: what is pinned in memory at once.
pub const LOOKUP_ROWS: usize = 1_024;
/// Rows that one answer tells of as unreadable.
pub const UNREADABLE_MAX: usize = 1_000;
/// Rows that one query looks at before it answers with what it has and a cursor.
pub const QUERY_ROWS_MAX: usize = 50_000;
/// Runs of one page.
pub const QUERY_RUNS_MAX: usize = 1_000;
/// Accounts of one run under different fences that are read.
pub const RUN_ROWS_MAX: usize = 64;
/// Rows before the first instant asked for among which a span that reaches into it is looked for.
pub const SPAN_ROWS_BACK: usize = 16;
/// How far back it is known at a restart which accounts there are: a claim that is gone on with
/// outlived its process by less.
pub const RECENT_REACH: Duration = Duration::from_secs(60);
/// How much more than what is asked for is read at once.
pub const RECENT_STEP: Duration = Duration::from_secs(1);
/// Accounts that are known so: five seconds of 50,000 runs a second.
pub const RECENT_ROWS_MAX: usize = 250_000;
/// How long they are kept for the next range that asks.
pub const RECENT_KEPT: Duration = Duration::from_secs(10);
/// Requests that wait for the store thread, with answers that nobody has taken yet.
pub const QUEUE_REQUESTS_MAX: usize = 256;
/// Batches that share one sync.
pub const GROUP_BATCHES_MAX: usize = 64;
/// What was written without `sync` is on disk this long after, even if nobody asks: a power cut
/// costs no more history than that.
pub const SYNC_LAZY: Duration = Duration::from_secs(1);
/// Requests are kept twice as long as is promised: their rows go by the wall clock.
pub const REQUEST_ROWS_KEPT: Duration = limits::REQUEST_KEPT.saturating_mul(2);
/// Damaged stores that are kept for a person to look at.
pub const SET_ASIDE_MAX: usize = 2;
/// Slices of the history that are compacted one at a time when its bytes are over the rule.
pub const TRIM_SLICES: u16 = 64;
/// Of them, as many together as make up this much.
pub const TRIM_BYTES: u64 = 64 * 1024 * 1024;
/// Free bytes and percent below which the disk counts as full.
pub const RESERVE_BYTES: u64 = 1024 * 1024 * 1024;
pub const RESERVE_PERCENT: u64 = 5;

const _: () = assert!(BUFFER_BYTES < MEMORY_BYTES);
const _: () = assert!(LOOKUP_ROWS <= LOAD_ENTRIES_MAX);
const _: () = assert!(QUERY_RUNS_MAX <= QUERY_ROWS_MAX);
const _: () = assert!(GROUP_BATCHES_MAX <= QUEUE_REQUESTS_MAX);
const _: () = assert!(REQUEST_ROWS_KEPT.as_secs() > limits::REQUEST_KEPT.as_secs());
const _: () = assert!(256 % TRIM_SLICES == 0);
