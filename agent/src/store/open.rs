//! Opening a data directory: who may, what is kept, and what happens to a damaged one.
//!
//! ```text
//! <dir>/lock            held as long as the store is open; the holder's process id for people
//! <dir>/db/             RocksDB
//! <dir>/life            a name, and another one after a write or an opening has failed
//! <dir>/damaged         a checksum was wrong at run time: set aside at the next start
//! <dir>/db.aside-<ms>   a store that was set aside; the newest two are kept
//! ```
//!
//! What was due in the process before is dropped, since the core derives it again from the shared
//! state and the tasks that are kept. What was open is kept if that process had a session on this
//! very boot of the host in this very folder, and no write has failed since: then nothing that it
//! wrote is lost, and the session can be gone on with. After any other start it is unknown what
//! else there was, and it is dropped, but for what is pinned here. Each open counts a number up, so
//! that task numbers and ledger numbers of two processes never meet.
//!
//! Data blocks are not verified at open: that would read the whole disk. A wrong checksum that a
//! read meets later leaves `damaged` behind.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use rocksdb::{
    Cache, DB, Direction, ErrorKind, FlushOptions, IteratorMode, LruCacheOptions,
    WriteBufferManager, WriteOptions,
};
use tocktower_core::agent::{Former, PinsBefore};
use tocktower_core::ids::RangeId;
use tocktower_core::time::Wall;

use crate::store::apply::Writer;
use crate::store::cutoffs::Cutoffs;
use crate::store::error::OpenError;
use crate::store::failures::Failures;
use crate::store::known::{self, KnownCluster};
use crate::store::limits::{BUFFER_BYTES, MEMORY_BYTES, SET_ASIDE_MAX};
use crate::store::numbers::NumberSet;
use crate::store::stats::Counters;
use crate::store::trim::TrimState;
use crate::store::{Store, keys, options, pins, values};

const LOCK: &str = "lock";
const DATABASE: &str = "db";
const DAMAGED: &str = "damaged";
const ASIDE: &str = "db.aside-";

/// 2024-01-01 in seconds since the epoch.
const YEAR_2024: i64 = 1_704_067_200;

pub struct StoreConfig {
    /// Block cache and write buffers together.
    pub memory_bytes: usize,
    /// Of that, write buffers.
    pub buffer_bytes: usize,
    /// Tells when request rows are written, and names a store that is set aside.
    pub clock: fn() -> Wall,
    /// Which boot of the host this is: another one may have lost what was not synced.
    pub boot: String,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            memory_bytes: MEMORY_BYTES,
            buffer_bytes: BUFFER_BYTES,
            clock: system_wall,
            boot: this_boot(),
        }
    }
}

/// An open store and what its opening found.
#[derive(Debug)]
pub struct Opened {
    pub store: Arc<Store>,
    /// For `Config::process`. It grows with each opening of this store, so that what two processes
    /// number never meets.
    pub process: u64,
    /// What the process before left, if that can be gone on with.
    pub former: Option<Former>,
    /// What it left of the local ranges.
    pub pins: BTreeMap<RangeId, PinsBefore>,
    /// The cluster that this store is of, if it ever met one.
    pub cluster: Option<KnownCluster>,
    /// A store that was damaged, and where it is now. A person must be told.
    pub set_aside: Option<SetAside>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetAside {
    pub path: PathBuf,
    pub reason: String,
}

impl Store {
    /// Opens the store of a data directory, or makes one. Blocks on the disk.
    pub fn open(dir: &Path, config: StoreConfig) -> Result<Opened, OpenError> {
        let lock = DirLock::take(dir)?;
        let failures = Failures::open(dir)
            .map_err(|source| OpenError::Directory { dir: dir.to_owned(), source })?;
        let mut set_aside = None;
        if let Some(reason) = damage_noted(dir) {
            set_aside = Some(move_aside(dir, config.clock, reason)?);
        }
        if let Err(source) = sync_log(dir) {
            failures.note();
            return Err(OpenError::Directory { dir: dir.to_owned(), source });
        }
        let engine = match Engine::open(dir, &config, failures.life()) {
            Err(OpenError::Engine { source, .. }) if is_damage(&source) => {
                let reason = source.to_string();
                set_aside = Some(move_aside(dir, config.clock, reason)?);
                Engine::open(dir, &config, failures.life())
            }
            engine => engine,
        };
        // Opening writes and syncs, too.
        if matches!(engine, Err(OpenError::Engine { .. })) {
            failures.note();
        }
        let engine = engine?;
        let (process, former, pins) = (engine.process, engine.former, engine.pins);
        let cluster = engine.cluster;
        let store = Store {
            db: engine.db,
            clock: config.clock,
            life: engine.life,
            failures,
            cutoffs: engine.cutoffs,
            writer: Mutex::new(Writer::default()),
            trim: Mutex::new(TrimState::default()),
            beside: Mutex::new(NumberSet::default()),
            recent: Mutex::default(),
            spans_to: AtomicU64::new(engine.spans_to),
            counters: Counters::default(),
            unsynced: AtomicBool::new(false),
            cache: engine.cache,
            buffers: engine.buffers,
            dir: dir.to_owned(),
            _lock: lock,
        };
        let (store, process) = (Arc::new(store), u64::from(process));
        Ok(Opened { store, process, former, pins, cluster, set_aside })
    }
}

/// What the process before wrote and did not sync is on disk from now on. Its log stays where it is
/// (`options`), and RocksDB syncs nothing but what it adds itself: a power cut would take a part of
/// the old one, and with it all that comes after.
fn sync_log(dir: &Path) -> io::Result<()> {
    let database = dir.join(DATABASE);
    if !database.exists() {
        return Ok(());
    }
    for file in fs::read_dir(database)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            File::open(path)?.sync_data()?;
        }
    }
    Ok(())
}

/// RocksDB with this process counted and the last one's leavings gone.
struct Engine {
    db: DB,
    cutoffs: Arc<Cutoffs>,
    cache: Cache,
    buffers: WriteBufferManager,
    process: u32,
    life: String,
    former: Option<Former>,
    pins: BTreeMap<RangeId, PinsBefore>,
    cluster: Option<KnownCluster>,
    spans_to: u64,
}

impl Engine {
    fn open(dir: &Path, config: &StoreConfig, name: &str) -> Result<Engine, OpenError> {
        let engine = |source| OpenError::Engine { dir: dir.to_owned(), source };
        let mut cache = LruCacheOptions::default();
        cache.set_capacity(config.memory_bytes);
        // Few shards: of many, each would be too small for the blocks that a compaction brings.
        cache.set_num_shard_bits(2);
        let cache = Cache::new_lru_cache_opts(&cache);
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            config.buffer_bytes,
            false,
            cache.clone(),
        );
        let cutoffs = Arc::new(Cutoffs::new());
        let database = options::database(&buffers);
        let families = options::families(&cache, &buffers, &cutoffs);
        let path = dir.join(DATABASE);
        let db = DB::open_cf_descriptors(&database, &path, families).map_err(engine)?;
        let life = life(&config.boot, &path, name);
        let former = former(&db, &life).map_err(engine)?;
        let pins = pins::before(&db, &life).map_err(engine)?;
        let known = known::before(&db).map_err(engine)?;
        if former.is_none() {
            // Where a sync has failed, what the log says may be in memory alone, and nobody says so
            // any more. Nothing is built on it.
            flush(&db).map_err(engine)?;
            // What lies here alone is open whatever became of the session.
            let family = db.cf_handle(options::RUN).expect("it was just opened");
            let (from, _) = keys::range_all(RangeId(0));
            let (local, _) = keys::range_all(RangeId::LOCAL[0]);
            db.delete_range_cf(family, from, local).map_err(engine)?;
        }
        forget_due(&db).map_err(engine)?;
        let process = begin(&db, dir, &cutoffs, config.clock)?;
        let spans_to = spans_to(&db, config.clock).map_err(engine)?;
        let cluster = known;
        Ok(Engine { db, cutoffs, cache, buffers, process, life, former, pins, cluster, spans_to })
    }
}

/// Makes files of all that the log has brought, and waits until they are on disk.
fn flush(db: &DB) -> Result<(), rocksdb::Error> {
    let families = options::FAMILIES.map(|name| db.cf_handle(name).expect("it was just opened"));
    let mut wait = FlushOptions::default();
    wait.set_wait(true);
    db.flush_cfs_opt(&families.each_ref()[..], &wait)
}

/// One tombstone for all that was due, however much it is. Files that hold nothing else go at once;
/// dropping the family and making it anew would write, sync and read back all options twice, which
/// takes longer than all the rest but the log.
fn forget_due(db: &DB) -> Result<(), rocksdb::Error> {
    let due = db.cf_handle(options::DUE).expect("it was just opened");
    let (from, _) = keys::range_all(RangeId(0));
    let (_, end) = keys::range_all(RangeId(u16::MAX));
    db.delete_file_in_range_cf(due, &from[..], &end[..])?;
    db.delete_range_cf(due, &from[..], &end[..])
}

/// What a process must have in common with the one before to go on from what that one left: the
/// boot of the host, the very folder, and that no write has failed since. A copy of a data
/// directory holds all that the process had written which may still run, and would start again what
/// that one has started since.
fn life(boot: &str, database: &Path, name: &str) -> String {
    match fs::metadata(database) {
        Ok(folder) if !boot.is_empty() => {
            format!("{boot} {}:{} {name}", folder.dev(), folder.ino())
        }
        _ => String::new(),
    }
}

/// The session of the process before, with the numbers of its ledgers.
fn former(db: &DB, life: &str) -> Result<Option<Former>, rocksdb::Error> {
    let meta = db.cf_handle(options::META).expect("it was just opened");
    let value = db.get_cf(meta, [keys::META_SESSION])?;
    let kept = value.as_deref().and_then(values::kept_decode);
    let same = kept.filter(|(_, on)| *on == life && !life.is_empty());
    let Some((kept, _)) = same else { return Ok(None) };
    let mut numbers = BTreeMap::new();
    let from = IteratorMode::From(&[keys::META_LEDGER], Direction::Forward);
    for row in db.iterator_cf(meta, from) {
        let (key, value) = row?;
        if key.first() != Some(&keys::META_LEDGER) {
            break;
        }
        let known = values::ledger_numbers_decode(&value);
        if let (Some(range), Some(known)) = (keys::meta_number(&key), known) {
            numbers.insert(RangeId(range), known);
        }
    }
    Ok(Some(Former { kept, numbers }))
}

/// Counts this process and reads the marks that outlive one.
///
/// A process's number is one more than the last one's, and no less than the seconds since 2024: a
/// store that was put back from a copy, or begun anew after damage, then does not count the same
/// numbers again, and cannot take the ledger of the store that it replaces for its own (L3).
fn begin(db: &DB, dir: &Path, cutoffs: &Cutoffs, clock: fn() -> Wall) -> Result<u32, OpenError> {
    let engine = |source| OpenError::Engine { dir: dir.to_owned(), source };
    let meta = db.cf_handle(options::META).expect("it was just opened");
    let before = db.get_cf(meta, [keys::META_PROCESS]).map_err(engine)?;
    let before = match before.as_deref() {
        None => 0,
        Some(bytes) => values::process_decode(bytes).ok_or_else(|| OpenError::Newer {
            dir: dir.to_owned(),
            found: bytes.first().copied().unwrap_or(0),
            known: values::FORMAT,
        })?,
    };
    let seconds = clock().millis() / 1_000 - YEAR_2024;
    let process = u32::try_from(seconds).unwrap_or(0).max(before.saturating_add(1));
    let mut batch = rocksdb::WriteBatch::default();
    batch.put_cf(meta, [keys::META_PROCESS], values::process_encode(process));
    batch.delete_range_cf(meta, [keys::META_WATERMARK], [keys::META_WATERMARK + 1]);
    let mut sync = WriteOptions::default();
    sync.set_sync(true);
    db.write_opt(batch, &sync).map_err(engine)?;
    let mark = |which: u8| {
        let value = db.get_cf(meta, [keys::META_CUTOFF, which]).map_err(engine)?;
        Ok(value.as_deref().and_then(values::ms_decode).unwrap_or(0))
    };
    cutoffs.raise_history(mark(keys::CUTOFF_HISTORY)?);
    cutoffs.raise_request(mark(keys::CUTOFF_REQUEST)?);
    cutoffs.set_bytes(mark(keys::CUTOFF_BYTES)?);
    Ok(process)
}

/// How far spans reach that are longer than they grow (`recent`). A program that did not keep it
/// can have left some that reach until now.
fn spans_to(db: &DB, clock: fn() -> Wall) -> Result<u64, rocksdb::Error> {
    let meta = db.cf_handle(options::META).expect("it was just opened");
    let value = db.get_cf(meta, [keys::META_SPANS])?;
    if let Some(known) = value.as_deref().and_then(values::ms_decode) {
        return Ok(known);
    }
    let now = keys::instant_ms(clock().instant());
    db.put_cf(meta, [keys::META_SPANS], values::ms_encode(now))?;
    Ok(now)
}

fn is_damage(error: &rocksdb::Error) -> bool {
    // A file that the manifest names and that is not there is an I/O error in RocksDB's words.
    error.kind() == ErrorKind::Corruption
        || (error.kind() == ErrorKind::IOError && error.as_ref().contains("No such file"))
}

/// Leaves a note that the next start sets the store aside.
pub(super) fn mark_damaged(dir: &Path) {
    // Best effort: on a disk that cannot take this file the next read meets the damage again.
    drop(fs::write(dir.join(DAMAGED), b"a checksum was wrong\n"));
}

fn damage_noted(dir: &Path) -> Option<String> {
    let note = fs::read_to_string(dir.join(DAMAGED)).ok()?;
    Some(format!("noted while running: {}", note.trim()))
}

fn move_aside(dir: &Path, clock: fn() -> Wall, reason: String) -> Result<SetAside, OpenError> {
    let failed = |source| OpenError::Directory { dir: dir.to_owned(), source };
    let mut stamp = clock().millis().max(0);
    while aside_path(dir, stamp).exists() {
        stamp += 1;
    }
    let path = aside_path(dir, stamp);
    match fs::rename(dir.join(DATABASE), &path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    match fs::remove_file(dir.join(DAMAGED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    forget_old_asides(dir).map_err(failed)?;
    Ok(SetAside { path, reason })
}

fn aside_path(dir: &Path, stamp: i64) -> PathBuf {
    dir.join(format!("{ASIDE}{stamp:015}"))
}

/// A disk that damages one store after another must not fill up with them.
fn forget_old_asides(dir: &Path) -> io::Result<()> {
    let mut asides = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(ASIDE) {
            asides.push(entry.path());
        }
    }
    asides.sort();
    let keep_from = asides.len().saturating_sub(SET_ASIDE_MAX);
    for path in asides.drain(..keep_from) {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}

/// The lock on a data directory; the system lets go of it when the process ends, however it ends.
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    fn take(dir: &Path) -> Result<DirLock, OpenError> {
        let failed = |source| OpenError::Directory { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false);
        let mut file = open.open(dir.join(LOCK)).map_err(failed)?;
        let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        match rustix::fs::flock(&file, exclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let process = file.read_to_string(&mut text).ok();
                let process = process.and_then(|_| text.trim().parse().ok());
                return Err(OpenError::InUse { dir: dir.to_owned(), process });
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(DirLock { _file: file })
    }
}

/// Empty where nobody can tell: then every start is taken for the first of its boot.
fn this_boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn system_wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
