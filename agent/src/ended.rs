//! Why an agent did not start, and why it ended.

use std::io;

use tocktower_core::agent::effect::ExitReason;

use crate::store::OpenError;

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the data directory cannot be used")]
    Store(#[from] OpenError),
    #[error("a thread could not be started")]
    Thread(#[from] io::Error),
    #[error("the cluster's record cannot be read: {0}")]
    Cluster(String),
}

/// Why an agent ended.
#[derive(Debug)]
pub enum Ended {
    Exit(ExitReason),
    /// The store failed; nothing more may be started on it.
    Store(String),
    /// The cluster is another than the store knows: the next start finds it as it is.
    Cluster(String),
    /// The shared state was put back from a backup while it was out of reach.
    PutBack(String),
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"))
}
