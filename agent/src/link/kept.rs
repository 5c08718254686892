//! The store as the links read it: the port's questions in the store's words.

use std::sync::Arc;

use tocktower_core::ids::{Attempt, RunId};
use tocktower_core::run::{CapturedStream, RunRecord};

use super::history::{History, HistoryError, HistoryPage, HistoryRuns, PageMark};
use crate::exec::Stream;
use crate::store::{AllRuns, OutputStream, RunCursor, StateSet, Store, StoreError, TaskRuns};

impl History for Store {
    fn runs(&self, asked: &HistoryRuns) -> Result<HistoryPage, HistoryError> {
        let states = match asked.states.as_slice() {
            [] => StateSet::ALL,
            some => some.iter().fold(StateSet::ALL, |set, state| set.with(*state)),
        };
        let before = asked.after.as_ref().and_then(|mark| RunCursor::parse(&mark.0));
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
        };
        let page = page.map_err(unread)?;
        let next = page.next.map(|cursor| PageMark(Arc::from(cursor.bytes())));
        Ok(HistoryPage { runs: page.runs, next })
    }

    fn accounts(&self, run: &RunId) -> Result<Vec<RunRecord>, HistoryError> {
        self.run(run).map_err(unread)
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
        Store::output(self, run, attempt, stream).map_err(unread)
    }
}

fn unread(error: StoreError) -> HistoryError {
    HistoryError(error.to_string())
}
