//! The store's own thread: the one writer, so that nobody else waits for the disk.
//!
//! Requests wait in one bounded queue and are answered in its order. Batches that wait together
//! are written one after the other and share one sync: under load a sync, which takes about a
//! millisecond whatever it covers, covers all that came meanwhile. A batch that asked for no sync
//! and has none before it in the group is answered before the sync, not after.
//!
//! The bound counts requests until their answer is *taken*, so neither queue can fill up and the
//! two sides cannot wait for each other.
//!
//! Forgetting may compact for seconds, longer than a licence lasts. So it gets a thread of its own
//! for each request, one at a time, and ledgers go on being written.
//!
//! After a batch has failed, no later one is written: the core has decided them on the belief that
//! it was. Reads still work. What the process then does is not decided here.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use tocktower_core::agent::effect::{Batch, BatchNumber, LoadId, LoadRequest};
use tocktower_core::agent::input::Committed;
use tocktower_core::ids::Revision;
use tokio::sync::{Semaphore, mpsc};

use crate::store::limits::{GROUP_BATCHES_MAX, QUEUE_REQUESTS_MAX, SYNC_LAZY};
use crate::store::query::{Query, QueryAnswer};
use crate::store::{Loaded, Retention, Store, StoreError, TrimBudget, TrimClock, Trimmed};

/// What the thread is asked; each gets one answer.
#[derive(Clone, PartialEq, Debug)]
pub enum StoreRequest {
    Commit(Batch),
    Load(LoadId, LoadRequest),
    /// In order with the batches. Queries that need not be go through `Arc<Store>` instead.
    Query(u64, Box<Query>),
    /// A piece of forgetting, on a thread apart; answered when it is done, in no order.
    Trim {
        clock: TrimClock,
        rules: Retention,
        budget: TrimBudget,
    },
    /// The highest revision of the shared state that was seen.
    Seen(Revision),
}

#[derive(Clone, PartialEq, Debug)]
pub enum StoreAnswer {
    Committed(BatchNumber, Result<Committed, StoreError>),
    Loaded(LoadId, Result<Loaded, StoreError>),
    Queried(u64, Result<Box<QueryAnswer>, StoreError>),
    Trimmed(Result<Trimmed, StoreError>),
    Seen(Result<(), StoreError>),
}

/// The thread. Dropping it, after the last handle, writes and syncs what waits and ends it.
pub struct StoreThread {
    thread: Option<JoinHandle<()>>,
}

/// Sends requests; may be cloned.
#[derive(Clone)]
pub struct StoreHandle {
    requests: Sender<StoreRequest>,
    room: Arc<Semaphore>,
}

/// Takes the answers, in the order of the requests.
pub struct StoreAnswers {
    answers: mpsc::UnboundedReceiver<StoreAnswer>,
    room: Arc<Semaphore>,
}

/// The request was not taken.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SendError {
    /// Take answers first.
    #[error("the store's queue is full")]
    Full(Box<StoreRequest>),
    #[error("the store's thread has ended")]
    Ended,
}

impl StoreThread {
    pub fn start(store: Arc<Store>) -> io::Result<(StoreThread, StoreHandle, StoreAnswers)> {
        // Bounded by `room`, for both directions together.
        let room = Arc::new(Semaphore::new(QUEUE_REQUESTS_MAX));
        let (requests, receiver) = channel();
        let (answers, taken) = mpsc::unbounded_channel();
        let work = Work {
            store,
            answers,
            waiting: None,
            unsynced_since: None,
            failed: None,
            trimming: None,
        };
        let thread = std::thread::Builder::new()
            .name("tock-store".to_owned())
            .spawn(move || work.run(&receiver))?;
        let handle = StoreHandle { requests, room: Arc::clone(&room) };
        let answers = StoreAnswers { answers: taken, room };
        Ok((StoreThread { thread: Some(thread) }, handle, answers))
    }

    /// Waits until the thread has ended; it does when the last handle is gone.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported where it happened.
            drop(thread.join());
        }
    }
}

impl StoreHandle {
    /// Never waits.
    pub fn try_send(&self, request: StoreRequest) -> Result<(), SendError> {
        let Ok(room) = self.room.try_acquire() else {
            return Err(SendError::Full(Box::new(request)));
        };
        self.requests.send(request).map_err(|_| SendError::Ended)?;
        room.forget();
        Ok(())
    }

    /// Waits for room. Whoever takes the answers must not be the one who waits.
    pub async fn send(&self, request: StoreRequest) -> Result<(), SendError> {
        let room = self.room.acquire().await.map_err(|_| SendError::Ended)?;
        self.requests.send(request).map_err(|_| SendError::Ended)?;
        room.forget();
        Ok(())
    }

    /// Requests on their way, answers that were not taken included.
    pub fn depth(&self) -> usize {
        QUEUE_REQUESTS_MAX.saturating_sub(self.room.available_permits())
    }
}

impl StoreAnswers {
    /// `None` when the thread has ended and every answer was taken. Safe to cancel.
    pub async fn next(&mut self) -> Option<StoreAnswer> {
        let answer = self.answers.recv().await?;
        self.room.add_permits(1);
        Some(answer)
    }

    /// The next answer if it is there; never waits.
    pub fn try_next(&mut self) -> Option<StoreAnswer> {
        let answer = self.answers.try_recv().ok()?;
        self.room.add_permits(1);
        Some(answer)
    }

    /// Waits on a thread that is not tokio's.
    pub fn next_blocking(&mut self) -> Option<StoreAnswer> {
        let answer = self.answers.blocking_recv()?;
        self.room.add_permits(1);
        Some(answer)
    }
}

struct Work {
    store: Arc<Store>,
    answers: mpsc::UnboundedSender<StoreAnswer>,
    /// A request that ended the last group.
    waiting: Option<StoreRequest>,
    /// When the oldest write came that no sync has covered.
    unsynced_since: Option<Instant>,
    failed: Option<BatchNumber>,
    trimming: Option<JoinHandle<()>>,
}

impl Work {
    fn run(mut self, requests: &Receiver<StoreRequest>) {
        while let Some(request) = self.next(requests) {
            match request {
                StoreRequest::Commit(batch) => {
                    let group = self.group(batch, requests);
                    self.commit(group);
                }
                StoreRequest::Load(load, request) => {
                    self.answer(StoreAnswer::Loaded(load, self.store.load(&request)));
                }
                StoreRequest::Query(id, query) => {
                    let answer = self.store.query(&query).map(Box::new);
                    self.answer(StoreAnswer::Queried(id, answer));
                }
                StoreRequest::Trim { clock, rules, budget } => self.trim(clock, rules, budget),
                StoreRequest::Seen(revision) => {
                    self.answer(StoreAnswer::Seen(self.store.note_seen(revision)));
                }
            }
        }
        self.sync_lazily();
        if let Some(trimming) = self.trimming.take() {
            // A panic there was reported where it happened.
            drop(trimming.join());
        }
    }

    fn trim(&mut self, clock: TrimClock, rules: Retention, budget: TrimBudget) {
        let busy = Trimmed { busy: true, ..Trimmed::default() };
        if self.trimming.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return self.answer(StoreAnswer::Trimmed(Ok(busy)));
        }
        let (store, answers) = (Arc::clone(&self.store), self.answers.clone());
        let work = move || {
            let trimmed = store.trim(clock, &rules, budget);
            // Nobody takes answers any more: the process is ending.
            drop(answers.send(StoreAnswer::Trimmed(trimmed)));
        };
        let thread = std::thread::Builder::new().name("tock-trim".to_owned()).spawn(work);
        match thread {
            Ok(thread) => self.trimming = Some(thread),
            // The host has no thread to spare; there is a next time.
            Err(_) => self.answer(StoreAnswer::Trimmed(Ok(busy))),
        }
    }

    /// The next request; while there is none, what was written is synced. `None`: no handle left.
    fn next(&mut self, requests: &Receiver<StoreRequest>) -> Option<StoreRequest> {
        if let Some(request) = self.waiting.take() {
            return Some(request);
        }
        if !self.store.is_unsynced() {
            return requests.recv().ok();
        }
        let since = *self.unsynced_since.get_or_insert_with(Instant::now);
        match requests.recv_timeout(SYNC_LAZY.saturating_sub(since.elapsed())) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.sync_lazily();
                requests.recv().ok()
            }
        }
    }

    fn sync_lazily(&mut self) {
        self.unsynced_since = None;
        if self.store.is_unsynced()
            && let Err(error) = self.store.sync()
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the store was not synced");
        }
    }

    /// A batch and those that wait right behind it.
    fn group(&mut self, first: Batch, requests: &Receiver<StoreRequest>) -> Vec<Batch> {
        let mut group = vec![first];
        while group.len() < GROUP_BATCHES_MAX {
            match requests.try_recv() {
                Ok(StoreRequest::Commit(batch)) => group.push(batch),
                Ok(other) => {
                    self.waiting = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        group
    }

    fn commit(&mut self, group: Vec<Batch>) {
        // Answers from the first batch that asked for a sync on: they wait for it.
        let mut held = Vec::new();
        let mut sync = false;
        for batch in group {
            let written = self.write(&batch);
            sync |= batch.sync && written.is_ok();
            if sync {
                held.push((batch.number, written));
            } else {
                self.answer(StoreAnswer::Committed(batch.number, written));
            }
        }
        if held.is_empty() {
            return;
        }
        let synced = self.store.sync();
        self.unsynced_since = None;
        if synced.is_err() {
            self.failed = self.failed.or(held.first().map(|(number, _)| *number));
        }
        for (number, written) in held {
            let answer = written.and_then(|committed| {
                synced.clone().map(|()| Committed { synced: true, ..committed })
            });
            self.answer(StoreAnswer::Committed(number, answer));
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<Committed, StoreError> {
        if let Some(since) = self.failed {
            return Err(StoreError::Stopped { since });
        }
        let written = self.store.write(batch);
        if written.is_err() {
            self.failed = Some(batch.number);
        }
        written
    }

    fn answer(&self, answer: StoreAnswer) {
        // Nobody takes answers any more: the process is ending, what was asked is done anyway.
        drop(self.answers.send(answer));
    }
}
