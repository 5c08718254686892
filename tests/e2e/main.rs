//! End to end: the real binaries as processes of their own, on a real etcd that syncs, asked over
//! REST, gRPC, WebSocket and by `tock`, while processes are killed, stopped and started.
//!
//! Nothing is waited for by the clock: each step waits for a condition, with a limit that only a
//! failure reaches. What is measured is printed (`-- --nocapture`). A test that ends looks through
//! the logs of every daemon that it started, and fails on a WARN or ERROR that `support/logs.rs`
//! does not list for the trouble that the test made.
//!
//! Tests that load the machine take turns, see `support::turn`; two cores are enough. The figures
//! of the whole product are in `big.rs`, ignored unless asked for:
//!
//!     cargo test -p tocktower-tests --test e2e -- --ignored --nocapture

#![allow(clippy::print_stdout, reason = "figures are printed for whoever asks with --nocapture")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may say so by a panic")]

mod audit;
mod backup;
mod big;
mod broadcast;
mod catchup;
mod dev;
mod disks;
mod drain;
mod drill;
mod edits;
mod fleet;
mod leader;
mod once;
mod outage;
mod pinned;
mod policies;
mod refusals;
mod restart;
mod scripts;
mod silent;
mod standby;
mod support;
mod twins;
mod why;
