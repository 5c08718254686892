//! The shared state as Tocktower needs it: an ordered key-value store with revisions, transactions,
//! watches and leases. That is etcd's model, and its words are kept; two adapters serve it, `etcd`
//! for fleets and `embedded` for one process.
//!
//! Requests and answers are plain data, so that those who decide (the agent's driver, the typed
//! operations beside this file) never wait, and the simulator can answer in their place.
//!
//! What callers may rely on:
//! - A transaction compares, then applies one of its branches, at one revision, or does nothing.
//!   Branches may hold nested transactions. A key is put at most once in a transaction.
//! - An error that is not [`PortError::refused`] leaves the outcome unknown: it may have happened.
//! - A list without `at` is linearizable. A list with `at` shows that revision.
//! - [`WatchMessage::Events`] carries whole revisions in order: every event of each revision that
//!   it names, and none before is missing (ledger.md, W1). No message promises that a quiet watch
//!   is alive; who needs that writes something and waits for it.

use std::time::Duration;

use futures::future::BoxFuture;
use tocktower_core::ids::{LeaseId, Revision};
use tokio::sync::mpsc;

/// A key with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyValue {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub lease: Option<LeaseId>,
}

/// All keys from `start` up to but without `end`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeyRange {
    pub start: Vec<u8>,
    pub end: Vec<u8>,
}

impl KeyRange {
    /// Every key that begins with `prefix`, which must not be empty or all 0xff.
    pub fn prefix(prefix: &[u8]) -> KeyRange {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                break;
            }
        }
        assert!(!end.is_empty(), "a prefix of nothing but 0xff has no end");
        KeyRange { start: prefix.to_vec(), end }
    }

    /// The one key.
    pub fn one(key: &[u8]) -> KeyRange {
        let mut end = key.to_vec();
        end.push(0);
        KeyRange { start: key.to_vec(), end }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && key < self.end.as_slice()
    }
}

/// What must hold for a transaction's first branch to be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compare {
    /// The key was created at this revision; revision 0: it does not exist.
    Created { key: Vec<u8>, at: Revision },
    /// The key was last put at this revision; revision 0: it does not exist.
    Modified { key: Vec<u8>, at: Revision },
}

impl Compare {
    pub fn absent(key: Vec<u8>) -> Compare {
        Compare::Created { key, at: Revision(0) }
    }
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    Get { key: Vec<u8> },
    Put { key: Vec<u8>, value: Vec<u8>, lease: Option<LeaseId> },
    Delete { key: Vec<u8> },
    Txn(Txn),
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Txn {
    pub when: Vec<Compare>,
    pub then: Vec<Op>,
    pub otherwise: Vec<Op>,
}

/// The answer to one [`Op`], in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpAnswer {
    Got(Option<KeyValue>),
    Put,
    Deleted { count: u64 },
    Txn { succeeded: bool, answers: Vec<OpAnswer> },
}

/// A page of keys in key order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListRequest {
    pub range: KeyRange,
    /// At most this many keys.
    pub limit: usize,
    /// The revision to show; `None`: the newest, linearizable.
    pub at: Option<Revision>,
    /// Leave the values out.
    pub keys_only: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    Txn(Txn),
    List(ListRequest),
    GrantLease {
        ttl: Duration,
    },
    KeepAlive {
        lease: LeaseId,
    },
    /// Revokes the lease and deletes its keys.
    RevokeLease {
        lease: LeaseId,
    },
    /// Forgets what was before `to`.
    Compact {
        to: Revision,
    },
    Status,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// `revision` is that of the store when the transaction was applied.
    Txn {
        revision: Revision,
        succeeded: bool,
        answers: Vec<OpAnswer>,
    },
    /// `revision` is the one shown; `more`: the range holds further keys.
    List {
        revision: Revision,
        items: Vec<KeyValue>,
        more: bool,
    },
    Lease {
        lease: LeaseId,
        ttl: Duration,
    },
    Done {
        revision: Revision,
    },
    Status {
        revision: Revision,
        bytes: u64,
        version: String,
    },
}

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    #[error("the shared state did not answer; the request may or may not have happened: {0}")]
    Unknown(String),
    #[error("the shared state cannot be reached: {0}")]
    Unreachable(String),
    #[error("the shared state has no leader")]
    NoLeader,
    #[error("revision {asked:?} was compacted away; the oldest left is {oldest:?}")]
    Compacted { asked: Revision, oldest: Revision },
    #[error("the lease does not exist or has expired")]
    NoLease,
    #[error("the shared state is out of space; compact and defragment etcd, or raise its quota")]
    NoSpace,
    #[error("the request is too large for the shared state")]
    TooLarge,
    #[error("the shared state refused the request: {0}")]
    Refused(String),
}

impl PortError {
    /// The request certainly did not happen.
    pub fn refused(&self) -> bool {
        !matches!(self, PortError::Unknown(_))
    }

    /// The same request may succeed later.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            PortError::Unknown(_)
                | PortError::Unreachable(_)
                | PortError::NoLeader
                | PortError::NoSpace
        )
    }
}

/// The caller's name for one of its watchers; chosen by the caller, used once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WatcherId(pub u64);

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WatchCommand {
    /// Deliver every event of `range` from revision `from` on. `elsewhere`: the watcher before this
    /// one kept silent, so ask another member if there is one, and on another stream if this one
    /// brings nothing (ledger.md, W3). The adapter may end the other watchers of the stream for it,
    /// and need not do it again for a while.
    Open {
        watcher: WatcherId,
        range: KeyRange,
        from: Revision,
        elsewhere: bool,
    },
    Close {
        watcher: WatcherId,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Put(KeyValue),
    Delete { key: Vec<u8>, mod_revision: Revision },
}

impl Event {
    pub fn key(&self) -> &[u8] {
        match self {
            Event::Put(item) => &item.key,
            Event::Delete { key, .. } => key,
        }
    }

    pub fn revision(&self) -> Revision {
        match self {
            Event::Put(item) => item.mod_revision,
            Event::Delete { mod_revision, .. } => *mod_revision,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WatchMessage {
    Opened {
        watcher: WatcherId,
    },
    /// `through` is the last revision of `events`, delivered whole.
    Events {
        watcher: WatcherId,
        through: Revision,
        events: Vec<Event>,
    },
    /// The watcher is closed: what it asked for is gone; list again.
    Compacted {
        watcher: WatcherId,
        oldest: Revision,
    },
    /// The watcher is closed; open a new one from the last delivered revision + 1.
    Ended {
        watcher: WatcherId,
        reason: String,
    },
}

/// A stream of watchers: commands in, messages out. All watchers of one caller share it. When the
/// adapter loses its connection it ends every watcher with a message; it never reopens one itself.
/// The stream itself lives until `commands` is dropped.
pub struct WatchStream {
    pub commands: mpsc::UnboundedSender<WatchCommand>,
    pub messages: mpsc::Receiver<WatchMessage>,
}

/// The shared state. Cheap to clone behind an `Arc`; all methods may be called at once.
pub trait Port: Send + Sync + 'static {
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Answer, PortError>>;

    /// Opens a stream whose unread messages are bounded by `capacity`: a slow reader holds the
    /// stream back, it never loses events.
    fn watch(&self, capacity: usize) -> WatchStream;
}
