//! The port to the shared state, held to one suite of stories on each of its adapters.
//!
//! A case is an async function over `Arc<dyn Port>` that knows nothing of what serves it. Cases
//! take turns on one store, each under a prefix of its own, so that etcd is started once. What only
//! one adapter can show (a restart, a kill, a member that hangs) stands in that adapter's file.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test tells, and fails by a panic")]

mod cases;
mod embedded;
mod etcd;
mod figures;
#[expect(dead_code, reason = "shared with the stories end to end, which also put it back")]
#[path = "../support/etcd.rs"]
mod harness;
mod vocabulary;
