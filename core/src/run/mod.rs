//! Runs: what comes of an instant, from due to end.

pub mod catchup;
pub mod life;
mod outcome;
pub mod overlap;
mod record;
pub mod retry;

pub use outcome::{AttemptEnd, Captured, CapturedStream, Finished, ResultCode};
pub use record::{AttemptRecord, RunRecord, RunState, Span};
