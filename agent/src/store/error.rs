//! What can go wrong with the disk. None of it is a panic: a full or broken disk is a state of the
//! host that the agent reports and hands its ranges over for.

use std::io;
use std::path::PathBuf;

use rocksdb::ErrorKind;
use tocktower_core::agent::effect::BatchNumber;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two agents on one folder would start each run twice.
    #[error("another agent{} is using the data directory {}", of(*.process), .dir.display())]
    InUse { dir: PathBuf, process: Option<u32> },
    #[error("the data directory {} cannot be used", .dir.display())]
    Directory { dir: PathBuf, source: io::Error },
    #[error(
        "the data directory {} was written by a newer version (format {found}, this version reads \
         up to {known})", .dir.display()
    )]
    Newer { dir: PathBuf, found: u8, known: u8 },
    #[error("the store in {} cannot be opened", .dir.display())]
    Engine { dir: PathBuf, source: rocksdb::Error },
}

impl OpenError {
    /// Whether trying again can help without a person: the other process may be on its way out.
    pub fn retryable(&self) -> bool {
        matches!(self, OpenError::InUse { .. })
    }
}

fn of(process: Option<u32>) -> String {
    process.map(|id| format!(" (process {id})")).unwrap_or_default()
}

/// Why a read or a write failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the disk is full")]
    Full { source: rocksdb::Error },
    /// A checksum is wrong: the store is set aside at the next start.
    #[error("the store is damaged")]
    Damaged { source: rocksdb::Error },
    #[error("the disk failed")]
    Disk { source: rocksdb::Error },
    /// A batch before this one failed; to write later ones would leave a hole.
    #[error("nothing is written since batch {} failed", .since.0)]
    Stopped { since: BatchNumber },
}

impl StoreError {
    /// Whether the same request may succeed later without a restart.
    pub fn retryable(&self) -> bool {
        matches!(self, StoreError::Full { .. })
    }
}

impl From<rocksdb::Error> for StoreError {
    fn from(source: rocksdb::Error) -> StoreError {
        match source.kind() {
            ErrorKind::Corruption => StoreError::Damaged { source },
            _ if source.as_ref().contains("No space left on device") => StoreError::Full { source },
            _ => StoreError::Disk { source },
        }
    }
}
