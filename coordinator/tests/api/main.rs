//! A coordinator in this process, on the embedded store, talked to as its clients and agents do:
//! over sockets, with HTTP, gRPC and WebSocket. Agents are played by `agent`, which speaks the link
//! and answers as it is told.

#![expect(clippy::unwrap_used, reason = "a test tells, and fails by a panic")]

mod agent;
mod harness;

mod batches;
mod grpc;
mod links;
mod lists;
mod measure;
mod problems;
mod runs;
mod staleness;
mod starts;
mod tasks;
mod triggers;
mod watch;
