//! The output of attempts that go on, found by run.
//!
//! Executors know their attempts by ticket, people ask for runs. Whoever starts attempts says here
//! which ticket is which run's, for as long as it goes on. Attempts that have no output, as those
//! that do nothing, need not be told of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tocktower_core::ids::{Attempt, RunId};

use crate::exec::{Executors, LiveOutput, Stream, Ticket};

/// Where the output of running attempts can be read.
pub trait Live: Send + Sync + 'static {
    /// Of the attempt with this number, 0 for the newest; `None` if it does not run here.
    fn tail(&self, run: &RunId, attempt: u32, stream: Stream) -> Option<LiveOutput>;
}

/// The running attempts of this process's executors.
pub struct LiveRuns {
    executors: Arc<Executors>,
    running: Mutex<HashMap<RunId, Vec<(Attempt, Ticket)>>>,
}

impl LiveRuns {
    pub fn new(executors: Arc<Executors>) -> LiveRuns {
        LiveRuns { executors, running: Mutex::default() }
    }

    /// Told before or right after the attempt is handed to the executors.
    pub fn started(&self, run: &RunId, attempt: Attempt, ticket: Ticket) {
        self.lock().entry(run.clone()).or_default().push((attempt, ticket));
    }

    pub fn ended(&self, run: &RunId, ticket: Ticket) {
        let mut running = self.lock();
        let Some(attempts) = running.get_mut(run) else { return };
        attempts.retain(|(_, known)| *known != ticket);
        if attempts.is_empty() {
            running.remove(run);
        }
    }

    /// Of an attempt that goes on.
    pub fn ticket(&self, run: &RunId, attempt: Attempt) -> Option<Ticket> {
        let running = self.lock();
        let (_, ticket) = running.get(run)?.iter().find(|(known, _)| *known == attempt)?;
        Some(*ticket)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Vec<(Attempt, Ticket)>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live for LiveRuns {
    fn tail(&self, run: &RunId, attempt: u32, stream: Stream) -> Option<LiveOutput> {
        let ticket = {
            let running = self.lock();
            let attempts = running.get(run)?.iter();
            let asked = attempts.filter(|(known, _)| attempt == 0 || known.number == attempt);
            asked.max_by_key(|(known, _)| *known).map(|(_, ticket)| *ticket)?
        };
        self.executors.tail(ticket, stream)
    }
}
