//! The history that queries read, as a port.
//!
//! The store implements it, tests hold it in memory. Calls block on the disk, so the links make
//! them on blocking threads, a few at a time. The order asked for here is coarser than the order of
//! answers (`query::runs`): instants fall, and runs of one instant may come in any order, which
//! lets a store keep them by hash.

use std::sync::Arc;

use tocktower_core::ids::{Attempt, Namespace, RunId, TaskName};
use tocktower_core::run::{CapturedStream, RunRecord, RunState};
use tocktower_core::time::Instant;

use crate::exec::Stream;

/// Reads of what was stored. Each looks at a bounded number of rows.
pub trait History: Send + Sync + 'static {
    /// A page of runs. Instants never rise within a page or from one to the next.
    fn runs(&self, asked: &HistoryRuns) -> Result<HistoryPage, HistoryError>;

    /// All accounts of one run, one for each fence that it ended under.
    fn accounts(&self, run: &RunId) -> Result<Vec<RunRecord>, HistoryError>;

    /// What an attempt wrote; `None` if nothing is kept.
    fn output(
        &self,
        run: &RunId,
        attempt: Attempt,
        stream: Stream,
    ) -> Result<Option<CapturedStream>, HistoryError>;
}

/// Which runs. A filter that an implementation cannot apply it may leave out: rows are looked at
/// again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HistoryRuns {
    /// `None`: of all tasks.
    pub task: Option<TaskName>,
    pub namespace: Option<Namespace>,
    /// Empty: every state.
    pub states: Vec<RunState>,
    /// Inclusive.
    pub since: Option<Instant>,
    /// Exclusive.
    pub until: Option<Instant>,
    pub limit: usize,
    /// `next` of the page before, to the very same question.
    pub after: Option<PageMark>,
}

/// Where a page ended; opaque but to the implementation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageMark(pub Arc<[u8]>);

#[derive(Clone, PartialEq, Debug, Default)]
pub struct HistoryPage {
    /// Of a run with several accounts, the one under the highest fence.
    pub runs: Vec<RunRecord>,
    /// There may be more. A page may be short, even empty, and still have it.
    pub next: Option<PageMark>,
}

/// The history could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the history cannot be read: {0}")]
pub struct HistoryError(pub String);
