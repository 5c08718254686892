//! Every value on disk: a format byte, then fields in the order given here, big-endian. Reading is
//! total: bytes that are not what they should be are `None`, and the caller reports the row.
//!
//! ```text
//! task record   1 │ name length 2 │ "<ns>/<name>" │ record as it came
//! task name     1 │ number 8 │ stamp 8
//! due           1                                     instant = due
//!               2 │ instant 6
//!               3 │ task record without its 1         instant = due, one-shot
//!               4 │ instant 6 │ task record without its 1
//! open run      1 │ fence 12 │ attempt 4 │ "<ns>/<name>" or "<ns>/<name>@<agent>"
//! history row   1 │ state 1 │ run as the codec has it
//! by time       1 │ state 1
//! by state      1
//! request       1 │ at ms 6 │ ms 6 │ task hash 16 │ incarnation 12 │ run 1 or 11 │
//!               "<ns>/<name>"
//! output        1 │ dropped 8 │ head length 4 │ tail length 4 │ head and tail, zstd
//!               2 │ … as 1, not compressed
//! meta: process 1 │ number 4    watermark, cutoff, slice, spans 1 │ ms 6
//!       ledger 1 │ process 8 │ count 8, and the same of processes before
//!       session 2 │ lease 8 │ epoch 4 │ revision 8 │ clock 8 │ life …
//! ```

use tocktower_core::agent::Kept;
use tocktower_core::ids::{
    AgentName, Attempt, Epoch, Fence, LeaseId, LedgerNumber, Revision, RunId, Session, TaskName,
    TaskNumber,
};
use tocktower_core::limits;
use tocktower_core::run::{CapturedStream, RunState};
use tocktower_core::time::{Instant, Wall};

use crate::store::keys::{self, RunPlace};

pub const FORMAT: u8 = 1;
/// Of what is kept of a session: those before knew less of the clock, and are not gone on from.
const KEPT_FORMAT: u8 = 3;
const DUE_INSTANT: u8 = 2;
const DUE_INLINE: u8 = 3;
const DUE_INSTANT_INLINE: u8 = 4;
const OUTPUT_PLAIN: u8 = 2;

/// zstd's fast default: output is written once and seldom read.
const OUTPUT_LEVEL: i32 = 3;

/// Takes fields off the front of a value.
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// `None` unless the value begins with this format byte.
    pub fn of(format: u8, bytes: &'a [u8]) -> Option<Fields<'a>> {
        let (first, rest) = bytes.split_first()?;
        (*first == format).then_some(Fields(rest))
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn ms(&mut self) -> Option<u64> {
        keys::ms_read(self.take(6)?)
    }
}

// --- task ---------------------------------------------------------------------------------------

/// A version of a task, as it lies in its own row or beside a due entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskRecord<'a> {
    pub name: &'a str,
    pub raw: &'a [u8],
}

impl<'a> TaskRecord<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let mut value = vec![FORMAT];
        self.put(&mut value);
        value
    }

    fn put(&self, value: &mut Vec<u8>) {
        let length = u16::try_from(self.name.len()).expect("a name has at most 257 bytes");
        value.extend_from_slice(&length.to_be_bytes());
        value.extend_from_slice(self.name.as_bytes());
        value.extend_from_slice(self.raw);
    }

    pub fn decode(bytes: &'a [u8]) -> Option<TaskRecord<'a>> {
        TaskRecord::read(Fields::of(FORMAT, bytes)?)
    }

    fn read(mut fields: Fields<'a>) -> Option<TaskRecord<'a>> {
        let length = u16::from_be_bytes(fields.array()?);
        let name = std::str::from_utf8(fields.take(usize::from(length))?).ok()?;
        Some(TaskRecord { name, raw: fields.0 })
    }
}

/// What the index by name knows of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameRow {
    pub number: TaskNumber,
    pub stamp: u64,
}

impl NameRow {
    pub fn encode(&self) -> [u8; 17] {
        let mut value = [FORMAT; 17];
        value[1..9].copy_from_slice(&self.number.0.to_be_bytes());
        value[9..].copy_from_slice(&self.stamp.to_be_bytes());
        value
    }

    pub fn decode(bytes: &[u8]) -> Option<NameRow> {
        let mut fields = Fields::of(FORMAT, bytes)?;
        let number = TaskNumber(u64::from_be_bytes(fields.array()?));
        let stamp = u64::from_be_bytes(fields.array()?);
        fields.0.is_empty().then_some(NameRow { number, stamp })
    }
}

// --- due ----------------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DueRow<'a> {
    /// Left out: the due.
    pub instant: Option<Instant>,
    pub inline: Option<TaskRecord<'a>>,
}

impl<'a> DueRow<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let mut value = vec![match (self.instant, self.inline) {
            (None, None) => FORMAT,
            (Some(_), None) => DUE_INSTANT,
            (None, Some(_)) => DUE_INLINE,
            (Some(_), Some(_)) => DUE_INSTANT_INLINE,
        }];
        if let Some(instant) = self.instant {
            value.extend_from_slice(&keys::ms_bytes(keys::instant_ms(instant)));
        }
        if let Some(record) = self.inline {
            record.put(&mut value);
        }
        value
    }

    pub fn decode(bytes: &'a [u8]) -> Option<DueRow<'a>> {
        let (format, rest) = bytes.split_first()?;
        let mut fields = Fields(rest);
        let instant = match *format {
            FORMAT | DUE_INLINE => None,
            DUE_INSTANT | DUE_INSTANT_INLINE => Some(keys::instant_of(fields.ms()?)),
            _ => return None,
        };
        let inline = match *format {
            DUE_INLINE | DUE_INSTANT_INLINE => Some(TaskRecord::read(fields)?),
            _ if fields.0.is_empty() => None,
            _ => return None,
        };
        Some(DueRow { instant, inline })
    }
}

// --- runs ---------------------------------------------------------------------------------------

pub fn open_run_encode(run: &RunId, attempt: Attempt) -> Vec<u8> {
    let mut value = vec![FORMAT];
    value.extend_from_slice(&keys::fence_bytes(attempt.fence));
    value.extend_from_slice(&attempt.number.to_be_bytes());
    value.extend_from_slice(run.task.to_string().as_bytes());
    if let Some(agent) = &run.agent {
        value.extend_from_slice(b"@");
        value.extend_from_slice(agent.as_str().as_bytes());
    }
    value
}

/// The attempt, the task and, of one of every agent, whose share it is.
pub fn open_run_decode(bytes: &[u8]) -> Option<(Attempt, TaskName, Option<AgentName>)> {
    let mut fields = Fields::of(FORMAT, bytes)?;
    let epoch = Epoch(u32::from_be_bytes(fields.array()?));
    let revision = Revision(i64::from_be_bytes(fields.array()?));
    let number = u32::from_be_bytes(fields.array()?);
    let name = std::str::from_utf8(fields.0).ok()?;
    let (task, agent) = match name.split_once('@') {
        Some((task, agent)) => (task, Some(AgentName::parse(agent).ok()?)),
        None => (name, None),
    };
    let attempt = Attempt { fence: Fence { epoch, revision }, number };
    Some((attempt, TaskName::parse(task).ok()?, agent))
}

pub fn history_encode(state: RunState, run: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(run.len() + 2);
    value.extend_from_slice(&[FORMAT, state_byte(state)]);
    value.extend_from_slice(run);
    value
}

/// The state of a history row or of an entry by time, and what the codec reads.
pub fn history_decode(bytes: &[u8]) -> Option<(RunState, &[u8])> {
    let mut fields = Fields::of(FORMAT, bytes)?;
    let [state] = fields.array()?;
    Some((state_of(state)?, fields.0))
}

/// A promise: these are on disk.
pub fn state_byte(state: RunState) -> u8 {
    match state {
        RunState::Queued => 1,
        RunState::Running => 2,
        RunState::WaitingRetry => 3,
        RunState::Succeeded => 4,
        RunState::Failed => 5,
        RunState::TimedOut => 6,
        RunState::Cancelled => 7,
        RunState::Lost => 8,
        RunState::Skipped => 9,
        RunState::Missed => 10,
    }
}

pub fn state_of(byte: u8) -> Option<RunState> {
    Some(match byte {
        1 => RunState::Queued,
        2 => RunState::Running,
        3 => RunState::WaitingRetry,
        4 => RunState::Succeeded,
        5 => RunState::Failed,
        6 => RunState::TimedOut,
        7 => RunState::Cancelled,
        8 => RunState::Lost,
        9 => RunState::Skipped,
        10 => RunState::Missed,
        _ => return None,
    })
}

/// `at` is when the row was written: compaction drops it by that.
pub fn request_encode(at_ms: u64, run: &RunId) -> Vec<u8> {
    let mut value = vec![FORMAT];
    value.extend_from_slice(&keys::ms_bytes(at_ms));
    value.extend_from_slice(&RunPlace::of(run).bytes());
    value.extend_from_slice(run.task.to_string().as_bytes());
    value
}

pub fn request_at(bytes: &[u8]) -> Option<u64> {
    Fields::of(FORMAT, bytes)?.ms()
}

pub fn request_decode(bytes: &[u8]) -> Option<(u64, RunId)> {
    let mut fields = Fields::of(FORMAT, bytes)?;
    let at = fields.ms()?;
    let ms = fields.array::<6>()?;
    let _hash = fields.array::<16>()?;
    let incarnation = fields.array()?;
    let kind = fields.array::<1>()?;
    let rest = if kind == [1] { &[] } else { fields.take(10)? };
    let (incarnation, run) = keys::run_of(&ms, &incarnation, &[&kind, rest].concat())?;
    let task = TaskName::parse(std::str::from_utf8(fields.0).ok()?).ok()?;
    Some((at, RunId { task, incarnation, run, agent: None }))
}

// --- output -------------------------------------------------------------------------------------

/// Compressed here and not by the engine: blob files take no dictionary, and a value that is
/// already small costs the block cache less.
pub fn output_encode(stream: &CapturedStream) -> Vec<u8> {
    let head = &stream.head[..stream.head.len().min(limits::OUTPUT_BYTES_MAX)];
    let tail = &stream.tail[..stream.tail.len().min(limits::OUTPUT_BYTES_MAX)];
    let kept = [head, tail].concat();
    let packed = zstd::bulk::compress(&kept, OUTPUT_LEVEL).ok();
    let packed = packed.filter(|packed| packed.len() < kept.len());
    let mut value = vec![if packed.is_some() { FORMAT } else { OUTPUT_PLAIN }];
    value.extend_from_slice(&stream.dropped.to_be_bytes());
    for part in [head, tail] {
        let length = u32::try_from(part.len()).expect("at most OUTPUT_BYTES_MAX");
        value.extend_from_slice(&length.to_be_bytes());
    }
    value.extend_from_slice(packed.as_deref().unwrap_or(&kept));
    value
}

pub fn output_decode(bytes: &[u8]) -> Option<CapturedStream> {
    let (format, rest) = bytes.split_first()?;
    let mut fields = Fields(rest);
    let dropped = u64::from_be_bytes(fields.array()?);
    let head = usize::try_from(u32::from_be_bytes(fields.array()?)).ok()?;
    let tail = usize::try_from(u32::from_be_bytes(fields.array()?)).ok()?;
    if head > limits::OUTPUT_BYTES_MAX || tail > limits::OUTPUT_BYTES_MAX {
        return None;
    }
    let kept = match *format {
        FORMAT => zstd::bulk::decompress(fields.0, head + tail).ok()?,
        OUTPUT_PLAIN => fields.0.to_vec(),
        _ => return None,
    };
    let (head, tail) = kept.split_at_checked(head).filter(|parts| parts.1.len() == tail)?;
    Some(CapturedStream { head: head.to_vec(), tail: tail.to_vec(), dropped })
}

// --- meta ---------------------------------------------------------------------------------------

pub fn process_encode(count: u32) -> [u8; 5] {
    let mut value = [FORMAT; 5];
    value[1..].copy_from_slice(&count.to_be_bytes());
    value
}

pub fn process_decode(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(Fields::of(FORMAT, bytes)?.array()?))
}

pub fn ms_encode(ms: u64) -> [u8; 7] {
    let mut value = [FORMAT; 7];
    value[1..].copy_from_slice(&keys::ms_bytes(ms));
    value
}

pub fn ms_decode(bytes: &[u8]) -> Option<u64> {
    Fields::of(FORMAT, bytes)?.ms()
}

/// What an agent keeps of its session, and the boot of its host and the folder in which it got it.
pub fn kept_encode(kept: &Kept, life: &str) -> Vec<u8> {
    let mut value = vec![KEPT_FORMAT];
    value.extend_from_slice(&kept.lease.0.to_be_bytes());
    value.extend_from_slice(&keys::epoch_bytes(kept.session.epoch, kept.session.revision));
    // No clock differs from another by the least number that there is.
    value.extend_from_slice(&kept.clock.unwrap_or(i64::MIN).to_be_bytes());
    let latest = kept.latest.map_or(i64::MIN, Wall::micros);
    value.extend_from_slice(&latest.to_be_bytes());
    value.extend_from_slice(life.as_bytes());
    value
}

pub fn kept_decode(bytes: &[u8]) -> Option<(Kept, &str)> {
    let mut fields = Fields::of(KEPT_FORMAT, bytes)?;
    let lease = LeaseId(i64::from_be_bytes(fields.array()?));
    let epoch = Epoch(u32::from_be_bytes(fields.array()?));
    let revision = Revision(i64::from_be_bytes(fields.array()?));
    let clock = Some(i64::from_be_bytes(fields.array()?)).filter(|clock| *clock != i64::MIN);
    let latest = Some(i64::from_be_bytes(fields.array()?)).filter(|latest| *latest != i64::MIN);
    let latest = latest.map(Wall::from_micros);
    let session = Session { epoch, revision };
    Some((Kept { lease, session, clock, latest }, std::str::from_utf8(fields.0).ok()?))
}

/// The newest in front: a program that reads one number reads that.
pub fn ledger_numbers_encode(newest: LedgerNumber, before: &[LedgerNumber]) -> Vec<u8> {
    let numbers = std::iter::once(&newest).chain(before);
    let fields = numbers.flat_map(|number| [number.process, number.count]);
    std::iter::once(FORMAT).chain(fields.flat_map(u64::to_be_bytes)).collect()
}

pub fn ledger_numbers_decode(bytes: &[u8]) -> Option<Vec<LedgerNumber>> {
    let mut fields = Fields::of(FORMAT, bytes)?;
    let mut numbers = Vec::new();
    while numbers.is_empty() || !fields.0.is_empty() {
        let (process, count) = (fields.array()?, fields.array()?);
        let (process, count) = (u64::from_be_bytes(process), u64::from_be_bytes(count));
        numbers.push(LedgerNumber { process, count });
    }
    Some(numbers)
}

#[cfg(test)]
mod tests;
