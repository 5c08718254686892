//! The state that a fleet shares: the port to it with its two adapters, and the operations on it.

pub mod absence;
pub mod agents;
pub mod cluster;
pub mod commit;
pub mod duty;
pub mod embedded;
mod epoch;
pub mod etcd;
pub mod follow;
pub mod keys;
pub mod ledgers;
pub mod port;
mod quarantine;
pub mod records;
pub mod tasks;
pub mod triggers;
