//! Runs: what comes of an instant, from due to end.

mod outcome;

pub use outcome::{AttemptEnd, Captured, CapturedStream, Finished, ResultCode};
