//! How RocksDB is set up. Memory first: one cache holds blocks, indexes, filters and the charge of
//! all write buffers, so that the whole engine stays within one number, whatever it holds.
//!
//! Upper levels are lz4, since what is there is rewritten soon; the last level is zstd with a
//! trained dictionary per file, which is worth more than any level of zstd without one, because
//! rows are short and alike. A file with a dictionary is kept in memory while it is written, so
//! files are small. Output lies in blob files: compaction then moves keys, not text.

use std::sync::Arc;

use rocksdb::compaction_filter::Decision;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
    Options, WriteBufferManager,
};

use crate::store::cutoffs::Cutoffs;
use crate::store::limits::WAL_BYTES_MAX;

pub const TASK: &str = "task";
pub const DUE: &str = "due";
pub const RUN: &str = "run";
pub const HISTORY: &str = "history";
pub const OUTPUT: &str = "output";
pub const OUTBOX: &str = "outbox";
pub const META: &str = "meta";
pub const FAMILIES: [&str; 7] = [TASK, DUE, RUN, HISTORY, OUTPUT, OUTBOX, META];

const MIB: usize = 1024 * 1024;
/// zstd's level for what lies still; higher ones cost more than they save on short rows.
const ZSTD_LEVEL: i32 = 3;
/// zlib's meaning of -14, RocksDB's default; zstd ignores it.
const WINDOW_BITS: i32 = -14;
const DICTIONARY_BYTES: i32 = 16 * 1024;
/// A hundred times the dictionary is what zstd's trainer recommends.
const TRAINING_BYTES: i32 = 100 * DICTIONARY_BYTES;
const FILE_BYTES: u64 = 16 * MIB as u64;
const BLOB_FILE_BYTES: u64 = 64 * MIB as u64;
/// New files of the history that are merged at a time. Rows lie by task, so each merge reads and
/// compresses all of the level below: four files at a time, the default, took half a core at 50,000
/// runs a second. A look-up reads as many more files, some microseconds each.
const HISTORY_FILES: i32 = 12;
/// Output below this stays in the tree: a blob file's entry would be as large.
const BLOB_BYTES_MIN: u64 = 512;
/// Files this old are compacted though nothing is written to them, so that what lies behind a mark
/// goes from the disk too.
const REWRITE_AFTER_S: u64 = 24 * 3600;

pub fn database(buffers: &WriteBufferManager) -> Options {
    // What the log brings stays in memory, where that may be gone on with (`open`): to make files
    // of it first takes as long as reading it.
    let mut options = Options::default()
        .get_options_from_string("avoid_flush_during_recovery=true")
        .expect("an option of RocksDB");
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    // A power cut may leave any torn tail; everything before the first tear is kept, and a restart
    // is a stranger anyway (ledger.md, "Session, lease, licence").
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_write_buffer_manager(buffers);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(MIB as u64);
    options.set_max_manifest_file_size(16 * MIB);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(4 * MIB);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// All families, `due` and `history` with their filters.
pub fn families(
    cache: &Cache,
    buffers: &WriteBufferManager,
    cutoffs: &Arc<Cutoffs>,
) -> Vec<ColumnFamilyDescriptor> {
    FAMILIES
        .map(|name| ColumnFamilyDescriptor::new(name, family(name, cache, buffers, cutoffs)))
        .into()
}

pub fn family(
    name: &str,
    cache: &Cache,
    buffers: &WriteBufferManager,
    cutoffs: &Arc<Cutoffs>,
) -> Options {
    match name {
        TASK => dictionary(plain(cache, buffers, 8 * MIB)),
        DUE => {
            let mut options = dictionary(scanned(cache, buffers, 8 * MIB));
            let cutoffs = Arc::clone(cutoffs);
            options.set_compaction_filter("tocktower.due", move |_, key: &[u8], _: &[u8]| {
                if cutoffs.due_gone(key) { Decision::Remove } else { Decision::Keep }
            });
            options.set_periodic_compaction_seconds(REWRITE_AFTER_S);
            options
        }
        HISTORY => {
            let mut options = dictionary(plain(cache, buffers, 8 * MIB));
            options.set_level_zero_file_num_compaction_trigger(HISTORY_FILES);
            options.set_level_zero_slowdown_writes_trigger(2 * HISTORY_FILES);
            options.set_level_zero_stop_writes_trigger(4 * HISTORY_FILES);
            let cutoffs = Arc::clone(cutoffs);
            options.set_compaction_filter(
                "tocktower.history",
                move |_, key: &[u8], value: &[u8]| {
                    if cutoffs.history_gone(key, value) { Decision::Remove } else { Decision::Keep }
                },
            );
            options.set_periodic_compaction_seconds(REWRITE_AFTER_S);
            options
        }
        OUTPUT => {
            let mut options = plain(cache, buffers, 8 * MIB);
            options.set_enable_blob_files(true);
            options.set_min_blob_size(BLOB_BYTES_MIN);
            options.set_blob_file_size(BLOB_FILE_BYTES);
            options.set_blob_compression_type(DBCompressionType::None);
            options.set_enable_blob_gc(true);
            options
        }
        // What is opened is mostly closed again before this is full: its row reaches no file.
        RUN => scanned(cache, buffers, 8 * MIB),
        _ => plain(cache, buffers, 2 * MIB),
    }
}

/// Of families in which rows are looked up one by one: a filter spares the look into files that
/// have nothing of them. New files get the one that costs less to make, as they do not last.
fn plain(cache: &Cache, buffers: &WriteBufferManager, buffer: usize) -> Options {
    let mut table = table(cache);
    table.set_hybrid_ribbon_filter(10.0, 1);
    table.set_optimize_filters_for_memory(true);
    sized(&table, buffers, buffer)
}

/// Of families that are read in stretches alone, and written for every run.
fn scanned(cache: &Cache, buffers: &WriteBufferManager, buffer: usize) -> Options {
    sized(&table(cache), buffers, buffer)
}

fn table(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(16 * 1024);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(6);
    table
}

fn sized(table: &BlockBasedOptions, buffers: &WriteBufferManager, buffer: usize) -> Options {
    let mut options = Options::default();
    options.set_block_based_table_factory(table);
    options.set_write_buffer_manager(buffers);
    options.set_write_buffer_size(buffer);
    options.set_arena_block_size(256 * 1024);
    options.set_max_write_buffer_number(3);
    options.set_target_file_size_base(FILE_BYTES);
    options.set_max_bytes_for_level_base(64 * MIB as u64);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_bottommost_compression_options(WINDOW_BITS, ZSTD_LEVEL, 0, 0, true);
    options
}

fn dictionary(mut options: Options) -> Options {
    options.set_bottommost_compression_options(WINDOW_BITS, ZSTD_LEVEL, 0, DICTIONARY_BYTES, true);
    options.set_bottommost_zstd_max_train_bytes(TRAINING_BYTES, true);
    options
}
