//! Every key on disk. Big-endian, so that bytes sort as numbers do; fixed widths in front, so that
//! a range, a task or a stretch of time is one contiguous piece; the first differing field is the
//! one that is scanned by. Golden tests hold each of them: a kind is never used for anything else.
//!
//! ```text
//! task     range 2 │ 1 │ number 8                       the record
//!          range 2 │ 2 │ "<ns>/<name>"                  its number and the listing that saw it
//! due      range 2 │ due ms 6 │ number 8
//!          range 2 │ 254 │ due ms 6 │ number 8        put when it was behind the watermark
//! run      range 2 │ ms 6 │ task hash 16 │ incarnation 12 │ run 1 or 11
//! history  1 │ task hash 16 │ ~ms 6 │ ~incarnation 12 │ ~run 1 or 11 │ ~fence 12
//!          2 │ ~ms 6 │ task hash 16 │ ~incarnation 12 │ ~run 1 or 11 │ ~fence 12     by time
//!          3 │ state 1 │ as 2                                     by state and time
//!          4 │ request 16
//! output   ms 6 │ task hash 16 │ incarnation 12 │ run 1 or 11 │ fence 12 │ attempt 4 │ stream 1
//! meta     kind 1 │ …
//!
//! A run is 1 for an instant, which is its ms, or 2 │ 10 for a manual run: its ulid is its ms and
//! the 10 bytes.
//! ```
//!
//! `~` means that all bits are turned, so that reading forward goes from the newest to the oldest;
//! RocksDB reads forward faster than backward. The fence comes last: one run may have an account
//! under each fence that this agent held its range by, and the highest is read first.

use tocktower_core::hash::hash_parts_wide;
use tocktower_core::ids::{
    Attempt, Epoch, Fence, Incarnation, RangeId, Revision, RunId, RunKey, TaskName, TaskNumber,
};
use tocktower_core::time::Instant;

pub const TASK_RECORD: u8 = 1;
pub const TASK_NAME: u8 = 2;

/// No millisecond of a year that we know begins with it.
const DUE_LATE: u8 = 254;

pub const HISTORY_ROW: u8 = 1;
pub const HISTORY_TIME: u8 = 2;
pub const HISTORY_STATE: u8 = 3;
pub const HISTORY_REQUEST: u8 = 4;

pub const META_PROCESS: u8 = 1;
pub const META_WATERMARK: u8 = 2;
pub const META_LEDGER: u8 = 3;
pub const META_SLICE: u8 = 4;
pub const META_CUTOFF: u8 = 5;
pub const META_SESSION: u8 = 6;
pub const META_PINS: u8 = 7;
pub const META_CLUSTER: u8 = 8;
pub const META_SEEN: u8 = 9;
pub const META_BROADCAST: u8 = 10;
pub const META_SPANS: u8 = 11;
pub const PINS_BORN: u8 = 0;
pub const PINS_DELIVERED: u8 = 1;
pub const PINS_LEDGER: u8 = 2;
pub const CUTOFF_HISTORY: u8 = 0;
pub const CUTOFF_REQUEST: u8 = 1;
pub const CUTOFF_BYTES: u8 = 2;

const RUN_INSTANT: u8 = 1;
const RUN_MANUAL: u8 = 2;

const MS_BYTES: usize = 6;
const HASH_BYTES: usize = 16;
const EPOCH_BYTES: usize = 12;

/// The first millisecond that has no place in a key.
pub const MS_END: u64 = 1 << (8 * MS_BYTES);

pub type TaskHash = [u8; HASH_BYTES];

/// A key under construction.
#[derive(Default)]
struct Key(Vec<u8>);

impl Key {
    fn with(bytes: &[u8]) -> Key {
        let mut key = Vec::with_capacity(80);
        key.extend_from_slice(bytes);
        Key(key)
    }

    fn add(mut self, bytes: &[u8]) -> Key {
        self.0.extend_from_slice(bytes);
        self
    }

    fn turned(mut self, bytes: &[u8]) -> Key {
        self.0.extend(bytes.iter().map(|byte| !byte));
        self
    }
}

/// The 6 bytes of a millisecond count.
pub fn ms_bytes(ms: u64) -> [u8; MS_BYTES] {
    let bytes = ms.to_be_bytes();
    [bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
}

pub fn ms_read(bytes: &[u8]) -> Option<u64> {
    let bytes: [u8; MS_BYTES] = bytes.get(..MS_BYTES)?.try_into().ok()?;
    Some(bytes.iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte)))
}

pub fn instant_ms(instant: Instant) -> u64 {
    u64::try_from(instant.millis()).expect("instants begin at the epoch")
}

pub fn instant_of(ms: u64) -> Instant {
    Instant::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

pub fn epoch_bytes(epoch: Epoch, revision: Revision) -> [u8; EPOCH_BYTES] {
    let mut bytes = [0; EPOCH_BYTES];
    bytes[..4].copy_from_slice(&epoch.0.to_be_bytes());
    bytes[4..].copy_from_slice(&revision.0.to_be_bytes());
    bytes
}

pub fn fence_bytes(fence: Fence) -> [u8; EPOCH_BYTES] {
    epoch_bytes(fence.epoch, fence.revision)
}

fn incarnation_bytes(incarnation: Incarnation) -> [u8; EPOCH_BYTES] {
    epoch_bytes(incarnation.epoch, incarnation.revision)
}

pub fn task_hash(task: &TaskName) -> TaskHash {
    hash_parts_wide(&[task.namespace.as_str().as_bytes(), task.name.as_str().as_bytes()])
        .to_be_bytes()
}

// --- task ---------------------------------------------------------------------------------------

pub fn task_record(range: RangeId, number: TaskNumber) -> [u8; 11] {
    let mut key = [0; 11];
    key[..2].copy_from_slice(&range.0.to_be_bytes());
    key[2] = TASK_RECORD;
    key[3..].copy_from_slice(&number.0.to_be_bytes());
    key
}

pub fn task_name(range: RangeId, name: &TaskName) -> Vec<u8> {
    let text = name.to_string();
    Key::with(&range.0.to_be_bytes()).add(&[TASK_NAME]).add(text.as_bytes()).0
}

/// First key and end of one kind of a range's rows.
pub fn task_kind(range: RangeId, kind: u8) -> ([u8; 3], [u8; 3]) {
    let [high, low] = range.0.to_be_bytes();
    ([high, low, kind], [high, low, kind + 1])
}

pub fn task_number_of(key: &[u8]) -> Option<TaskNumber> {
    let number: [u8; 8] = key.get(3..)?.try_into().ok()?;
    Some(TaskNumber(u64::from_be_bytes(number)))
}

/// The name in a key of kind `TASK_NAME`.
pub fn task_name_of(key: &[u8]) -> Option<TaskName> {
    TaskName::parse(std::str::from_utf8(key.get(3..)?).ok()?).ok()
}

/// First key and end of all that begins with a range, in any family that does.
pub fn range_all(range: RangeId) -> ([u8; 2], [u8; 3]) {
    let [high, low] = range.0.to_be_bytes();
    // No kind and no millisecond of a year that we know begins with 255.
    ([high, low], [high, low, 0xff])
}

// --- due ----------------------------------------------------------------------------------------

pub fn due(range: RangeId, due: Instant, number: TaskNumber) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&due_from(range, instant_ms(due)));
    key[8..].copy_from_slice(&number.0.to_be_bytes());
    key
}

/// Where a range's entries of this millisecond begin.
pub fn due_from(range: RangeId, ms: u64) -> [u8; 8] {
    let mut key = [0; 8];
    key[..2].copy_from_slice(&range.0.to_be_bytes());
    key[2..].copy_from_slice(&ms_bytes(ms));
    key
}

/// An entry that is put when the watermark is past it already: it must be read all the same, and
/// compaction must not drop it. So it lies apart, until a watermark that is set later passes it.
pub fn due_late(range: RangeId, due: Instant, number: TaskNumber) -> [u8; 17] {
    let mut key = [0; 17];
    key[..9].copy_from_slice(&due_late_from(range, instant_ms(due)));
    key[9..].copy_from_slice(&number.0.to_be_bytes());
    key
}

pub fn due_late_from(range: RangeId, ms: u64) -> [u8; 9] {
    let [high, low] = range.0.to_be_bytes();
    let mut key = [high, low, DUE_LATE, 0, 0, 0, 0, 0, 0];
    key[3..].copy_from_slice(&ms_bytes(ms));
    key
}

/// The time and the number of a late entry.
pub fn due_late_parts(key: &[u8]) -> Option<(u64, TaskNumber)> {
    let number = TaskNumber(u64::from_be_bytes(key.get(9..)?.try_into().ok()?));
    Some((ms_read(&key[3..9])?, number))
}

pub fn due_parts(key: &[u8]) -> Option<(RangeId, u64, TaskNumber)> {
    let range = RangeId(u16::from_be_bytes(key.get(..2)?.try_into().ok()?));
    let number = TaskNumber(u64::from_be_bytes(key.get(8..)?.try_into().ok()?));
    Some((range, ms_read(&key[2..8])?, number))
}

/// What the rows of a local range begin with.
pub fn meta_local(range: RangeId) -> u8 {
    if range == RangeId::BROADCAST { META_BROADCAST } else { META_PINS }
}

// --- runs ---------------------------------------------------------------------------------------

/// A run's place in the order of time: its milliseconds and what tells it from others of the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RunPlace {
    pub ms: u64,
    pub hash: TaskHash,
    pub incarnation: [u8; EPOCH_BYTES],
    /// The kind, and of a manual run what of its ulid follows the milliseconds.
    pub rest: Vec<u8>,
}

impl RunPlace {
    pub fn of(run: &RunId) -> RunPlace {
        RunPlace::hashed(run, task_hash(&run.task))
    }

    pub fn hashed(run: &RunId, hash: TaskHash) -> RunPlace {
        let incarnation = incarnation_bytes(run.incarnation);
        match run.run {
            RunKey::Instant(instant) => {
                let rest = vec![RUN_INSTANT];
                RunPlace { ms: instant_ms(instant), hash, incarnation, rest }
            }
            RunKey::Manual(ulid) => {
                let bytes = ulid.to_be_bytes();
                let ms = ms_read(&bytes).expect("a ulid has 16 bytes");
                let mut rest = vec![RUN_MANUAL];
                rest.extend_from_slice(&bytes[MS_BYTES..]);
                RunPlace { ms, hash, incarnation, rest }
            }
        }
    }

    /// Reads `ms │ hash │ incarnation │ run`, none of it turned.
    pub fn read(bytes: &[u8]) -> Option<RunPlace> {
        let (ms, bytes) = bytes.split_at_checked(MS_BYTES)?;
        let (hash, bytes) = bytes.split_at_checked(HASH_BYTES)?;
        let (incarnation, rest) = bytes.split_at_checked(EPOCH_BYTES)?;
        rest_good(rest).then_some(RunPlace {
            ms: ms_read(ms)?,
            hash: hash.try_into().ok()?,
            incarnation: incarnation.try_into().ok()?,
            rest: rest.to_vec(),
        })
    }

    /// `ms │ hash │ incarnation │ run`.
    pub fn bytes(&self) -> Vec<u8> {
        Key::with(&ms_bytes(self.ms)).add(&self.hash).add(&self.incarnation).add(&self.rest).0
    }

    /// Where the accounts of this run begin.
    pub fn row_prefix(&self) -> Vec<u8> {
        let key = Key::with(&[HISTORY_ROW]).add(&self.hash).turned(&ms_bytes(self.ms));
        key.turned(&self.incarnation).turned(&self.rest).0
    }

    pub fn row(&self, fence: Fence) -> Vec<u8> {
        Key(self.row_prefix()).turned(&fence_bytes(fence)).0
    }

    /// Where this run's entries of the index by time begin.
    pub fn time_prefix(&self) -> Vec<u8> {
        self.indexed(Key::with(&[HISTORY_TIME]))
    }

    pub fn state_prefix(&self, state: u8) -> Vec<u8> {
        self.indexed(Key::with(&[HISTORY_STATE, state]))
    }

    pub fn time(&self, fence: Fence) -> Vec<u8> {
        Key(self.time_prefix()).turned(&fence_bytes(fence)).0
    }

    pub fn state(&self, state: u8, fence: Fence) -> Vec<u8> {
        Key(self.state_prefix(state)).turned(&fence_bytes(fence)).0
    }

    fn indexed(&self, key: Key) -> Vec<u8> {
        let key = key.turned(&ms_bytes(self.ms)).add(&self.hash);
        key.turned(&self.incarnation).turned(&self.rest).0
    }

    pub fn output(&self, attempt: Attempt, stream: u8) -> Vec<u8> {
        let key = Key(self.bytes()).add(&fence_bytes(attempt.fence));
        key.add(&attempt.number.to_be_bytes()).add(&[stream]).0
    }

    pub fn open_run(&self, range: RangeId) -> Vec<u8> {
        Key::with(&range.0.to_be_bytes()).add(&self.bytes()).0
    }
}

/// Reads what `RunPlace::bytes` wrote, but for the task, of which only a hash is in there.
pub fn run_of(ms: &[u8], incarnation: &[u8; 12], rest: &[u8]) -> Option<(Incarnation, RunKey)> {
    let (epoch, revision) = incarnation.split_first_chunk::<4>()?;
    let incarnation = Incarnation {
        epoch: Epoch(u32::from_be_bytes(*epoch)),
        revision: Revision(i64::from_be_bytes(revision.try_into().ok()?)),
    };
    match rest.split_first()? {
        (&RUN_INSTANT, []) => Some((incarnation, RunKey::Instant(instant_of(ms_read(ms)?)))),
        (&RUN_MANUAL, rest) => {
            let ulid = [ms, rest].concat().try_into().ok()?;
            Some((incarnation, RunKey::Manual(u128::from_be_bytes(ulid))))
        }
        _ => None,
    }
}

/// Where the rows of a range in the family `run` begin and end.
pub fn open_runs(range: RangeId) -> ([u8; 2], [u8; 3]) {
    let [high, low] = range.0.to_be_bytes();
    ([high, low], [high, low, u8::MAX])
}

/// The run in a key of the family `run`.
pub fn open_run_of(key: &[u8]) -> Option<(Incarnation, RunKey)> {
    let (ms, key) = key.get(2..)?.split_at_checked(MS_BYTES)?;
    let (_hash, key) = key.split_at_checked(HASH_BYTES)?;
    let (incarnation, rest) = key.split_first_chunk::<EPOCH_BYTES>()?;
    run_of(ms, incarnation, rest)
}

fn rest_good(rest: &[u8]) -> bool {
    matches!((rest.first(), rest.len()), (Some(&RUN_INSTANT), 1) | (Some(&RUN_MANUAL), 11))
}

fn turned(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

/// Where the rows of a task begin, the newest first.
pub fn row_task(hash: &TaskHash) -> Vec<u8> {
    Key::with(&[HISTORY_ROW]).add(hash).0
}

/// Where the rows of a task begin that are at or before `ms`.
pub fn row_from(hash: &TaskHash, ms: u64) -> Vec<u8> {
    Key(row_task(hash)).turned(&ms_bytes(ms)).0
}

/// Where a row's run is in time, and the fence of the account.
pub fn row_parts(key: &[u8]) -> Option<(RunPlace, Fence)> {
    let (&[HISTORY_ROW], key) = key.split_first_chunk::<1>()? else {
        return None;
    };
    let (hash, key) = key.split_at_checked(HASH_BYTES)?;
    let (ms, key) = key.split_at_checked(MS_BYTES)?;
    let (incarnation, key) = key.split_at_checked(EPOCH_BYTES)?;
    place(&turned(ms), hash, incarnation, key)
}

/// The same, of an entry of the index by time, or by state without its first byte's kind.
pub fn time_parts(key: &[u8]) -> Option<(RunPlace, Fence)> {
    let skip = match *key.first()? {
        HISTORY_TIME => 1,
        HISTORY_STATE => 2,
        _ => return None,
    };
    let (ms, key) = key.get(skip..)?.split_at_checked(MS_BYTES)?;
    let (hash, key) = key.split_at_checked(HASH_BYTES)?;
    let (incarnation, key) = key.split_at_checked(EPOCH_BYTES)?;
    place(&turned(ms), hash, incarnation, key)
}

fn place(ms: &[u8], hash: &[u8], incarnation: &[u8], key: &[u8]) -> Option<(RunPlace, Fence)> {
    let (rest, fence) = key.split_at_checked(key.len().checked_sub(EPOCH_BYTES)?)?;
    let rest = turned(rest);
    if !rest_good(&rest) {
        return None;
    }
    let fence = turned(fence);
    let fence = Fence {
        epoch: Epoch(u32::from_be_bytes(fence[..4].try_into().ok()?)),
        revision: Revision(i64::from_be_bytes(fence[4..].try_into().ok()?)),
    };
    let place = RunPlace {
        ms: ms_read(ms)?,
        hash: hash.try_into().ok()?,
        incarnation: turned(incarnation).try_into().ok()?,
        rest,
    };
    Some((place, fence))
}

/// The time of a history key of the kinds 1 to 3; what compaction drops by.
pub fn history_ms(key: &[u8]) -> Option<u64> {
    let at = match *key.first()? {
        HISTORY_ROW => 1 + HASH_BYTES,
        HISTORY_TIME => 1,
        HISTORY_STATE => 2,
        _ => return None,
    };
    ms_read(&turned(key.get(at..at + MS_BYTES)?))
}

/// Where index entries of this time and older begin.
pub fn time_from(ms: u64) -> Vec<u8> {
    Key::with(&[HISTORY_TIME]).turned(&ms_bytes(ms)).0
}

pub fn state_from(state: u8, ms: u64) -> Vec<u8> {
    Key::with(&[HISTORY_STATE, state]).turned(&ms_bytes(ms)).0
}

/// Where those of this time end.
pub fn time_behind(ms: u64) -> Vec<u8> {
    // Nothing is older than the epoch: the end is the next kind.
    ms.checked_sub(1).map_or_else(|| vec![HISTORY_STATE], time_from)
}

/// Where those of this state and time end.
pub fn state_behind(state: u8, ms: u64) -> Vec<u8> {
    ms.checked_sub(1).map_or_else(|| vec![HISTORY_STATE, state + 1], |ms| state_from(state, ms))
}

/// Behind everything that begins with `prefix`, as long as that is shorter than any fence.
pub fn behind(prefix: &[u8]) -> Vec<u8> {
    Key::with(prefix).add(&[0xff; EPOCH_BYTES + 1]).0
}

pub fn request(request: u128) -> [u8; 17] {
    let mut key = [HISTORY_REQUEST; 17];
    key[1..].copy_from_slice(&request.to_be_bytes());
    key
}

// --- meta ---------------------------------------------------------------------------------------

pub fn meta_watermark(range: RangeId) -> [u8; 3] {
    meta_16(META_WATERMARK, range.0)
}

pub fn meta_ledger(range: RangeId) -> [u8; 3] {
    meta_16(META_LEDGER, range.0)
}

/// A 32,768th of the hash space: every count of ranges is made of whole ones.
pub fn meta_slice(slice: u16) -> [u8; 3] {
    meta_16(META_SLICE, slice)
}

fn meta_16(kind: u8, number: u16) -> [u8; 3] {
    let [high, low] = number.to_be_bytes();
    [kind, high, low]
}

pub fn meta_number(key: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
