//! The agent's store as the history that queries read.
//!
//! Both list by instant, the newest first, so that this is translation and nothing else. It lives
//! here, not in the store, which is asked by others too and knows no links.

use tocktower_core::ids::{Attempt, RunId};
use tocktower_core::run::{CapturedStream, RunRecord};

use super::{History, HistoryError, HistoryPage, HistoryRuns, PageMark};
use crate::exec::Stream;
use crate::store::{AllRuns, OutputStream, RunCursor, Store, StoreError, TaskRuns};

impl History for Store {
    fn runs(&self, asked: &HistoryRuns) -> Result<HistoryPage, HistoryError> {
        let before = match &asked.after {
            None => None,
            Some(mark) => Some(RunCursor::parse(&mark.0).ok_or_else(broken_mark)?),
        };
        let states = asked.states.iter().copied().collect();
        let (since, until, limit) = (asked.since, asked.until, asked.limit);
        let page = match &asked.task {
            Some(task) => {
                let task = task.clone();
                self.task_runs(&TaskRuns { task, states, since, until, limit, before })
            }
            None => {
                let namespace = asked.namespace.clone();
                self.all_runs(&AllRuns { namespace, states, since, until, limit, before })
            }
        }?;
        if page.unreadable > 0 {
            tracing::warn!(rows = page.unreadable, "rows of the history cannot be read");
        }
        let next = page.next.map(|next| PageMark(next.bytes().into()));
        Ok(HistoryPage { runs: page.runs, next })
    }

    fn accounts(&self, run: &RunId) -> Result<Vec<RunRecord>, HistoryError> {
        Ok(self.run(run)?)
    }

    fn output(
        &self,
        run: &RunId,
        attempt: Attempt,
        stream: Stream,
    ) -> Result<Option<CapturedStream>, HistoryError> {
        let stream = match stream {
            Stream::Stdout => OutputStream::Stdout,
            Stream::Stderr => OutputStream::Stderr,
        };
        Ok(Store::output(self, run, attempt, stream)?)
    }
}

fn broken_mark() -> HistoryError {
    HistoryError("a mark of a page that this store did not make".to_owned())
}

impl From<StoreError> for HistoryError {
    fn from(error: StoreError) -> HistoryError {
        HistoryError(error.to_string())
    }
}
