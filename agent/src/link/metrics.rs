//! What the links count, for `/metrics`.
//!
//! Plain atomics that anybody may read at any time: the registry that exposes them belongs to the
//! daemon, and the links must not wait for a scrape.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted over all links since the agent started, but for the gauges, which say so.
#[derive(Debug, Default)]
pub struct LinkMetrics {
    /// Gauge: links on which a Welcome was received.
    pub connected: AtomicU64,
    /// Gauge: links whose coordinator wants run events.
    pub interested: AtomicU64,
    pub dials: AtomicU64,
    /// Dials that led to no link, whatever the reason.
    pub dials_failed: AtomicU64,
    /// Of these: the coordinator or this agent refused the other's protocol or name.
    pub dials_refused: AtomicU64,
    /// Links that were up and ended.
    pub links_lost: AtomicU64,
    pub stats_sent: AtomicU64,
    pub clock_answers_sent: AtomicU64,
    pub event_batches_sent: AtomicU64,
    pub events_sent: AtomicU64,
    /// Events that were replaced by a later one of the same run in the same batch.
    pub events_merged: AtomicU64,
    /// Events that were left out: a link was too slow, or nobody can say here that an end is
    /// settled.
    pub events_missed: AtomicU64,
    pub queries: AtomicU64,
    /// Gauge: queries that go on.
    pub queries_open: AtomicU64,
    /// Refused because too many went on.
    pub queries_refused: AtomicU64,
    /// Answered with an error other than `not_found`.
    pub queries_failed: AtomicU64,
    pub cancels: AtomicU64,
}

impl LinkMetrics {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Raises a gauge by one for as long as it lives.
pub(super) struct Raised<'a>(&'a AtomicU64);

impl<'a> Raised<'a> {
    pub(super) fn new(gauge: &'a AtomicU64) -> Raised<'a> {
        gauge.fetch_add(1, Ordering::Relaxed);
        Raised(gauge)
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
