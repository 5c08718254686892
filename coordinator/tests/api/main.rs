//! A coordinator in this process, on the embedded store, talked to as its clients and agents do:
//! over sockets, with HTTP, gRPC and WebSocket. Agents are played by `agent`, which speaks the link
//! and answers as it is told.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test tells, and fails by a panic")]

mod absence;
mod agent;
mod audit;
mod broadcast;
mod duty;
mod harness;

#[expect(dead_code, reason = "shared with the suite of the port, which also pauses members")]
#[path = "../../../cluster/tests/support/etcd.rs"]
mod etcd;

mod batches;
mod behind;
mod compare;
mod grpc;
mod history;
mod linear;
mod links;
mod lists;
mod measure;
mod over_etcd;
mod problems;
mod runs;
mod staleness;
mod starts;
mod tasks;
mod triggers;
mod watch;
mod why;
