//! The agent daemon as a library: the shell round `tocktower_core::agent`.

mod closed;
mod cluster;
pub mod disk;
pub mod driver;
mod ended;
pub mod exec;
mod inlets;
pub mod link;
pub mod metrics;
mod notices;
pub mod ready;
mod reports;
pub mod run;
pub mod stats;
pub mod store;
pub mod waker;
mod watchdog;
