//! The state that a fleet shares: the port to it with its two adapters, and the operations on it.

pub mod embedded;
pub mod etcd;
pub mod port;
pub mod follow;
