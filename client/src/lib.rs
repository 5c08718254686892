//! The Rust SDK of Tocktower, a distributed task scheduler.
//!
//! ```no_run
//! use std::time::Duration;
//! use tocktower_client::{Client, ClientConfig, Command, Cron, Retry, Task};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), tocktower_client::Error> {
//! let client = Client::connect(ClientConfig::new("http://127.0.0.1:7080"))?;
//!
//! let backup = Task::new("default", "nightly-backup")
//!     .cron(Cron::new("30 2 * * *").in_zone("Europe/Berlin"))
//!     .command(Command::new(["/usr/local/bin/backup", "--all"]))
//!     .retry(Retry::attempts(3))
//!     .timeout(Duration::from_secs(3600));
//! let written = client.create(backup).await?;
//! println!("first run: {:?}", written.task.next_at());
//! # Ok(())
//! # }
//! ```
//!
//! - **Several servers.** Give all coordinators in [`ClientConfig::servers`]; the client keeps to
//!   one and asks the next when it cannot be reached.
//! - **Safe retries.** Creates, batches and triggers carry an idempotency key and are sent again
//!   after a lost answer without making anything twice. Where a repeat could do harm you get
//!   [`Error::UnknownOutcome`] instead.
//! - **Errors.** One enum, [`Error`], with [`Error::retryable`], the server's stable
//!   [`code`](Error::code) and every wrong [field](Error::fields) of a request.
//! - **Streams.** [`Client::list`] reads page after page; [`Client::watch`] and [`Client::output`]
//!   outlive the server that they began with.
//! - **Outages.** Reads are answered also while the shared state cannot be reached, from what was
//!   last known; [`Read::stale`] says so.

mod action;
mod batch;
mod client;
mod error;
mod fleet;
pub mod json;
mod json_proto;
pub mod limits;
mod patience;
mod read;
mod runs;
mod schedule;
mod task;
mod tasks;
pub mod time;
mod watch;

pub use action::{Command, Http};
pub use batch::BatchItem;
pub use client::{Client, ClientConfig};
pub use error::{Error, FieldError, PROBLEM_METADATA, Refusal};
pub use fleet::{Agent, Pool, Range};
pub use read::Read;
pub use runs::{
    Attempt, AttemptEnd, OutputChunk, OutputQuery, OutputStream, Run, RunFilter, RunPage, RunState,
};
pub use schedule::{Cron, Fold, Gap, Schedule};
pub use task::{CatchUpPolicy, Delivery, Overlap, Retry, Task, TaskState};
pub use tasks::{Preview, TaskFilter, TaskPage, Triggered, Warning, Why, Written};
pub use watch::{WatchEvent, WatchFilter};

/// The messages on the wire.
pub use tocktower_proto::v1 as proto;
