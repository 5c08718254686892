//! What the API does, without a transport: REST, gRPC and the live feed are thin coats over these.
//!
//! A service takes values that are checked and typed, and returns core types or a small error. It
//! knows nothing of HTTP, JSON or protobuf messages, so that a rule cannot hold in one transport
//! and not in another.

mod asking;
pub mod cursor;
mod duty;
mod edits;
pub mod error;
mod fleet;
mod look;
mod merge;
mod preview;
pub mod requests;
mod runs;
mod tasks;
mod triggers;
mod why;

pub use edits::Expected;
pub use error::{Code, Fault, FleetError, RunError, TaskError};
pub use fleet::{AgentView, Fleet, PoolView, RangeView};
pub use look::{ListState, PAGE_DEFAULT, PAGE_MAX, Read, Shown, TaskFilter, TaskPage};
pub use preview::{COUNT_DEFAULT, COUNT_MAX, Upcoming};
pub use runs::{Output, OutputRequest, RunFilter, RunPage, Runs, Stream};
pub use tasks::{TaskWritten, Tasks, Warning, batch_fits};
pub use triggers::{Triggered, WAIT_MAX};
pub use why::{Facts, RangeFacts, Shown as ShownInstant, Verdict, Why, entry_shown};
