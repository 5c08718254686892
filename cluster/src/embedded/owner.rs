//! The thread that owns the store: everything that can wake it is a request, the next expiry of a
//! lease, or the end.
//!
//! redb has one writer and its commit waits for the disk, so the thread works in batches: what has
//! queued up while the last commit went on becomes one durable commit (group commit), and nobody
//! gets an answer before it is on disk. Reads run here too, in order with the writes; a list is
//! therefore linearizable, and answered after the writes that it saw are durable.
//!
//! When the disk fails, the outcome of the batch is unknown, and the store refuses every request
//! from then on: what redb holds in memory may no longer be what the disk holds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redb::Database;
use tocktower_core::ids::Revision;
use tocktower_core::time::Mono;
use tokio::sync::{mpsc, oneshot};

use super::batch::{Batch, Fault};
use super::history::{Committed, History};
use super::leases::Leases;
use crate::port::{Answer, PortError, Request};

/// Requests in one commit: with eight of 120 creates in flight the bound is never met, and a flood
/// of small ones cannot grow a batch for ever.
const BATCH_REQUESTS_MAX: usize = 512;
/// Longest sleep. tokio's timers stand still while the host sleeps and leases do not.
const SLEEP_MAX: Duration = Duration::from_secs(1);

pub(super) type Outcome = Result<Answer, PortError>;

pub(super) struct Call {
    pub request: Request,
    pub answer: oneshot::Sender<Outcome>,
}

pub(super) struct Owner {
    database: Database,
    /// The file; `None`: in memory.
    path: Option<PathBuf>,
    leases: Leases,
    history: Arc<History>,
    failed: Option<String>,
}

impl Owner {
    /// Reads what must be known before the first request.
    pub(super) fn new(database: Database, path: Option<PathBuf>) -> Result<Owner, Fault> {
        let transaction = begin(&database)?;
        let batch = Batch::begin(&transaction)?;
        let history = Arc::new(History::new(batch.revision()));
        let mut leases = Leases::default();
        let now = boot_clock();
        for (lease, ttl) in batch.stored_leases()? {
            leases.start(lease, ttl, now);
        }
        drop(batch);
        transaction.commit().map_err(|error| Fault::Disk(error.to_string()))?;
        Ok(Owner { database, path, leases, history, failed: None })
    }

    pub(super) fn history(&self) -> Arc<History> {
        self.history.clone()
    }

    /// Serves until `stop` is sent or dropped.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Call>,
        mut stop: oneshot::Receiver<()>,
    ) {
        loop {
            let call = tokio::select! {
                biased;
                _ = &mut stop => break,
                call = inbox.recv() => call,
                () = tokio::time::sleep(self.sleep()) => None,
            };
            let mut calls: Vec<Call> = call.into_iter().collect();
            while calls.len() < BATCH_REQUESTS_MAX
                && let Ok(call) = inbox.try_recv()
            {
                calls.push(call);
            }
            self.serve(calls);
        }
        inbox.close();
        while let Ok(call) = inbox.try_recv() {
            reply(call.answer, Err(closed()));
        }
        self.history.close();
        if let Err(error) = self.database.close() {
            tracing::error!(%error, "the store was not closed cleanly; the next open repairs it");
        }
    }

    fn sleep(&self) -> Duration {
        let now = boot_clock();
        let until = self.leases.next_expiry().map_or(SLEEP_MAX, |expiry| expiry.since(now));
        until.min(SLEEP_MAX)
    }

    fn serve(&mut self, calls: Vec<Call>) {
        let now = boot_clock();
        let expired = self.leases.expired(now);
        if calls.is_empty() && expired.is_empty() {
            return;
        }
        if let Some(failure) = &self.failed {
            let error = PortError::Unreachable(format!("the store has failed: {failure}"));
            calls.into_iter().for_each(|call| reply(call.answer, Err(error.clone())));
            return;
        }
        let requests: Vec<&Request> = calls.iter().map(|call| &call.request).collect();
        match self.commit(&requests, now) {
            Ok((outcomes, committed)) => {
                self.history.push(committed);
                calls.into_iter().zip(outcomes).for_each(|(call, outcome)| {
                    reply(call.answer, outcome);
                });
            }
            Err(failure) => {
                tracing::error!(%failure, "the store failed and serves no more");
                self.history.close();
                let error = PortError::Unknown(failure.clone());
                calls.into_iter().for_each(|call| reply(call.answer, Err(error.clone())));
                self.failed = Some(failure);
            }
        }
    }

    /// Applies and commits; an error is the disk's.
    fn commit(
        &mut self,
        requests: &[&Request],
        now: Mono,
    ) -> Result<(Vec<Outcome>, Vec<Committed>), String> {
        let disk = |fault: Fault| match fault {
            Fault::Disk(failure) => failure,
            Fault::Refused(error) => error.to_string(),
        };
        let transaction = begin(&self.database).map_err(disk)?;
        let mut batch = Batch::begin(&transaction).map_err(disk)?;
        for lease in self.leases.expired(now) {
            batch.revoke(lease, &mut self.leases).map_err(disk)?;
        }
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            match self.apply(&mut batch, request, now) {
                Ok(answer) => outcomes.push(Ok(answer)),
                Err(Fault::Refused(error)) => outcomes.push(Err(error)),
                Err(Fault::Disk(failure)) => return Err(failure),
            }
        }
        let Some(committed) = batch.finish().map_err(disk)? else {
            transaction.abort().map_err(|error| error.to_string())?;
            return Ok((outcomes, Vec::new()));
        };
        transaction.commit().map_err(|error| error.to_string())?;
        Ok((outcomes, committed))
    }

    fn apply(
        &mut self,
        batch: &mut Batch<'_>,
        request: &Request,
        now: Mono,
    ) -> Result<Answer, Fault> {
        match request {
            Request::Txn(txn) => batch.txn(txn),
            Request::List(list) => batch.list(list, &self.history),
            Request::GrantLease { ttl } => batch.grant(*ttl, &mut self.leases, now),
            Request::KeepAlive { lease } => match self.leases.keep_alive(*lease, now) {
                Some(ttl) => Ok(Answer::Lease { lease: *lease, ttl }),
                None => Err(PortError::NoLease.into()),
            },
            Request::RevokeLease { lease } => batch.revoke(*lease, &mut self.leases),
            Request::Compact { to } => batch.compact(*to, &self.history),
            Request::Status => Ok(self.status(batch.revision())),
        }
    }

    fn status(&self, revision: Revision) -> Answer {
        let file = self.path.as_ref().and_then(|path| std::fs::metadata(path).ok());
        Answer::Status {
            revision,
            bytes: file.map_or(0, |file| file.len()),
            version: concat!("embedded/", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

pub(super) fn closed() -> PortError {
    PortError::Unreachable("the store is closed".into())
}

fn begin(database: &Database) -> Result<redb::WriteTransaction, Fault> {
    database.begin_write().map_err(|error| Fault::Disk(error.to_string()))
}

fn reply(answer: oneshot::Sender<Outcome>, outcome: Outcome) {
    // A caller that has gone away is not waiting for an answer.
    let _ = answer.send(outcome);
}

/// `CLOCK_BOOTTIME`: it goes on while the host sleeps, as leases must.
fn boot_clock() -> Mono {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    Mono::from_micros(seconds * 1_000_000 + nanos / 1_000)
}
