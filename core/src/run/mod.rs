//! Runs: what comes of an instant, from due to end.

mod outcome;
mod record;

pub use outcome::{AttemptEnd, Captured, CapturedStream, Finished, ResultCode};
pub use record::{AttemptRecord, RunRecord, RunState, Span};
