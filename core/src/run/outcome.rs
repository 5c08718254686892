//! How one attempt ended, as the executor saw it, and what its run became of it.

use std::time::Duration;

use crate::time::Wall;

/// Why an attempt that did not succeed did not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AttemptEnd {
    Succeeded,
    /// `reason` is for people: an exit code, an HTTP status, why it could not be started.
    Failed {
        reason: String,
    },
    TimedOut {
        after: Duration,
    },
    Cancelled,
}

/// The machine-readable result of an action, where it has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResultCode {
    Exit(i32),
    Signal(i32),
    HttpStatus(u16),
}

/// One of the kept output streams: the head and the tail of what was written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CapturedStream {
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
    /// Bytes between head and tail that were not kept.
    pub dropped: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Captured {
    pub stdout: CapturedStream,
    pub stderr: CapturedStream,
}

/// One attempt that is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// When the action began; `None` if it never did.
    pub started_at: Option<Wall>,
    pub finished_at: Wall,
    pub end: AttemptEnd,
    pub code: Option<ResultCode>,
    pub output: Captured,
}
