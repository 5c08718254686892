//! What the agent says of itself each second.
//!
//! The loop publishes its figures in a `watch` channel, the newest only, so that a link which
//! cannot send costs it nothing. The lateness of starts cannot go that way: each `Stats` carries
//! the starts since the one before *on that link*. So the meter keeps one histogram a link, which
//! the link takes away when it sends; without links recording is one look at an empty table. The
//! other way, differences of one growing histogram, would copy all of it each second and link.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use tocktower_core::agent::Stats;
use tocktower_core::ids::{RangeId, Session};
use tocktower_core::run::RunState;
use tocktower_core::time::Wall;
use tocktower_proto::v1;

use super::limits::{LATENESS_MAX_US, PROOF_LAG_CALM};

/// The agent's figures as its loop publishes them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LinkStats {
    pub core: Stats,
    /// Open runs that neither run nor are queued: retries, turns, runs left with others.
    pub waiting: usize,
    /// Runs that ended since the agent started.
    pub ended: EndedRuns,
    /// In its pool, ascending.
    pub ranges_held: Vec<RangeId>,
    /// Bit (r mod 8) of byte (r div 8) for each range that there is history of.
    pub history_ranges: Vec<u8>,
    /// `None`: it has none now. Told in Hello.
    pub session: Option<Session>,
    /// What is known to be in the way of what comes due, in words.
    pub in_the_way: Option<String>,
}

/// Runs that ended, by state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EndedRuns {
    pub succeeded: u64,
    pub failed: u64,
    pub timed_out: u64,
    pub cancelled: u64,
    pub lost: u64,
    pub skipped: u64,
    pub missed: u64,
}

impl EndedRuns {
    /// Counts `count` runs that reached this state; one that is no end counts nowhere.
    pub fn count(&mut self, state: RunState, count: u64) {
        let counter = match state {
            RunState::Queued | RunState::Running | RunState::WaitingRetry => return,
            RunState::Succeeded => &mut self.succeeded,
            RunState::Failed => &mut self.failed,
            RunState::TimedOut => &mut self.timed_out,
            RunState::Cancelled => &mut self.cancelled,
            RunState::Lost => &mut self.lost,
            RunState::Skipped => &mut self.skipped,
            RunState::Missed => &mut self.missed,
        };
        *counter += count;
    }
}

impl LinkStats {
    /// The ranges as [`LinkStats::history_ranges`] holds them.
    pub fn bitmap(ranges: impl IntoIterator<Item = RangeId>) -> Vec<u8> {
        let mut map = Vec::new();
        for range in ranges {
            let at = usize::from(range.0 / 8);
            if map.len() <= at {
                map.resize(at + 1, 0_u8);
            }
            map[at] |= 1 << (range.0 % 8);
        }
        map
    }

    pub(super) fn message(&self, now: Wall, lateness_hdr: Vec<u8>) -> v1::Stats {
        let EndedRuns { succeeded, failed, timed_out, cancelled, lost, skipped, missed } =
            self.ended;
        v1::Stats {
            running: wide(self.core.running),
            queued: wide(self.core.queued),
            waiting: wide(self.waiting),
            ended: Some(v1::Ended {
                succeeded,
                failed,
                timed_out,
                cancelled,
                lost,
                skipped,
                missed,
            }),
            lateness_hdr,
            oldest_due_unstarted_ms: self.core.oldest_due.map(|due| millis(now.since(due))),
            ranges_held: self.ranges_held.iter().map(|range| range.0.into()).collect(),
            history_ranges: self.history_ranges.clone(),
            write_pressure: self.core.held > 0 && self.core.proof_lag > PROOF_LAG_CALM,
            open_runs: wide(self.core.open),
            drained: self.core.drained,
            in_the_way: self.in_the_way.clone().unwrap_or_default(),
        }
    }
}

/// Takes in the lateness of starts. Cheap to clone; the clones are one meter.
#[derive(Clone, Default)]
pub struct LatenessMeter {
    readers: Arc<Mutex<Readers>>,
}

#[derive(Default)]
struct Readers {
    next: u64,
    histograms: BTreeMap<u64, Histogram<u64>>,
}

impl LatenessMeter {
    pub fn new() -> LatenessMeter {
        LatenessMeter::default()
    }

    /// The lateness of starts, in microseconds; below zero counts as zero.
    pub fn record(&self, micros: impl IntoIterator<Item = i64>) {
        let mut readers = self.lock();
        if readers.histograms.is_empty() {
            return;
        }
        for micros in micros {
            let micros = u64::try_from(micros).unwrap_or(0).min(LATENESS_MAX_US);
            for histogram in readers.histograms.values_mut() {
                // It grows by itself up to the bound.
                let _ = histogram.record(micros);
            }
        }
    }

    pub(super) fn reader(&self) -> LatenessReader {
        let mut readers = self.lock();
        readers.next += 1;
        let id = readers.next;
        readers.histograms.insert(id, empty());
        drop(readers);
        LatenessReader { meter: self.clone(), id }
    }

    fn lock(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One link's share of the meter.
pub(super) struct LatenessReader {
    meter: LatenessMeter,
    id: u64,
}

impl LatenessReader {
    /// What was recorded since the last call, as HdrHistogram V2.
    pub(super) fn take(&self) -> Vec<u8> {
        let fresh = empty();
        let taken = self.meter.lock().histograms.insert(self.id, fresh);
        let mut bytes = Vec::new();
        if let Some(taken) = taken
            && let Err(error) = V2Serializer::new().serialize(&taken, &mut bytes)
        {
            tracing::warn!(%error, "a histogram could not be written");
            bytes.clear();
        }
        bytes
    }
}

impl Drop for LatenessReader {
    fn drop(&mut self) {
        self.meter.lock().histograms.remove(&self.id);
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;

    use super::*;

    fn read(bytes: &[u8]) -> Histogram<u64> {
        let mut bytes = bytes;
        Deserializer::new().deserialize(&mut bytes).unwrap()
    }

    #[test]
    fn each_link_gets_every_start_once() {
        let meter = LatenessMeter::new();
        meter.record([1]);
        let (one, other) = (meter.reader(), meter.reader());
        meter.record([100, -5]);
        assert_eq!(read(&one.take()).len(), 2);
        meter.record([7_000_000]);
        let late = read(&one.take());
        assert_eq!((late.len(), late.max() / 1_000_000), (1, 7));
        assert_eq!(read(&other.take()).len(), 3);
        assert_eq!(read(&other.take()).len(), 0);
    }

    #[test]
    fn the_message_says_what_the_core_counts() {
        let due = Wall::from_millis(1_000);
        let mut stats = LinkStats {
            core: Stats { held: 1, running: 2, queued: 3, open: 9, ..Stats::default() },
            waiting: 4,
            ranges_held: vec![RangeId(1), RangeId(9)],
            history_ranges: LinkStats::bitmap([RangeId(0), RangeId(9)]),
            in_the_way: Some("the disk".to_owned()),
            ..LinkStats::default()
        };
        stats.core.oldest_due = Some(due);
        stats.core.proof_lag = Duration::from_millis(1_001);
        stats.ended.count(RunState::Skipped, 5);
        stats.ended.count(RunState::Running, 5);
        let message = stats.message(Wall::from_millis(1_250), Vec::new());
        assert_eq!((message.running, message.queued, message.waiting), (2, 3, 4));
        assert_eq!(message.oldest_due_unstarted_ms, Some(250));
        assert_eq!(message.ranges_held, [1, 9]);
        assert_eq!(message.history_ranges, [1, 2]);
        assert_eq!(message.ended.map(|ended| (ended.skipped, ended.missed)), Some((5, 0)));
        assert!(message.write_pressure);
        assert_eq!(message.in_the_way, "the disk");
    }
}
