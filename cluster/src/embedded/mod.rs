//! The shared state in one process, on its disk: what a single host uses in place of etcd.
//!
//! It keeps etcd's semantics where callers can see them (transactions, revisions, watches, leases,
//! refusals), so that nobody above the port knows which of the two it talks to, and the conformance
//! suite holds both to it. What it leaves out is what one process does not need: peers, and a log
//! of old revisions on disk. Revisions go on over a restart; watches and lists reach back to it.
//!
//! `batch` applies requests, `disk` holds the bytes, `owner` is the one thread that does both,
//! `history` and `watch` show what happened to readers. A store belongs to one process: a second
//! open of the same folder fails at once.

mod batch;
mod check;
mod disk;
mod history;
mod leases;
mod owner;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

pub use self::disk::OpenError;
use self::history::History;
use self::owner::{Call, Owner, closed};
use crate::port::{Answer, Port, PortError, Request, WatchStream};

/// Requests that wait for the owner; callers beyond it wait to be let in.
const INBOX: usize = 1_024;

/// A store in this process. Dropping it closes it, after the batch in hand; what was answered is on
/// disk, with or without that.
pub struct Embedded {
    inbox: mpsc::Sender<Call>,
    history: Arc<History>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store in `folder`, or makes one.
    pub fn open(folder: &Path) -> Result<Arc<Embedded>, OpenError> {
        let (database, path) = disk::open(folder)?;
        Embedded::start(database, Some(path))
    }

    /// A store that is gone when it is dropped, for tests.
    pub fn in_memory() -> Result<Arc<Embedded>, OpenError> {
        Embedded::start(disk::in_memory()?, None)
    }

    fn start(database: redb::Database, path: Option<PathBuf>) -> Result<Arc<Embedded>, OpenError> {
        let owner =
            Owner::new(database, path).map_err(|fault| OpenError::Format(fault.to_string()))?;
        let history = owner.history();
        let (inbox, calls) = mpsc::channel(INBOX);
        let (stop, stopped) = oneshot::channel();
        // A runtime of its own, for its timer: the callers' may be paused or gone.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(OpenError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("embedded-store".into())
            .spawn(move || runtime.block_on(owner.run(calls, stopped)))
            .map_err(OpenError::Thread)?;
        Ok(Arc::new(Embedded { inbox, history, stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.take();
        // The folder can be opened again only once the thread has let go of it.
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread has panicked");
        }
    }
}

impl Port for Embedded {
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Answer, PortError>> {
        let inbox = self.inbox.clone();
        async move {
            let (answer, outcome) = oneshot::channel();
            inbox.send(Call { request, answer }).await.map_err(|_| closed())?;
            let lost = |_| PortError::Unknown("the store stopped before it answered".into());
            outcome.await.map_err(lost)?
        }
        .boxed()
    }

    /// Must be called within a tokio runtime, on which the stream's task runs.
    fn watch(&self, capacity: usize) -> WatchStream {
        let (commands, orders) = mpsc::unbounded_channel();
        let (sender, messages) = mpsc::channel(capacity);
        tokio::spawn(watch::serve(self.history.clone(), orders, sender));
        WatchStream { commands, messages }
    }
}
