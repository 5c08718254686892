//! The file: four tables of redb, and the bytes in them.
//!
//! Only the newest state is kept on disk. What happened on the way to it lives in memory
//! (`history`), because after a restart every reader lists again anyway, and a log of revisions on
//! disk would need compaction, which one process has no use for.
//!
//! Numbers are big-endian and every value begins with a format byte: bytes on disk are a promise.
//!
//! | table | key | value |
//! |---|---|---|
//! | `keys` | key | 1, create revision, mod revision, lease (0: none), value |
//! | `leases` | lease | 1, ttl in milliseconds |
//! | `lease_keys` | lease, key | 1 |
//! | `meta` | `revision`, `compacted`, `lease` (the last one granted) | 1, number |

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use redb::backends::InMemoryBackend;
use redb::{Builder, Database, DatabaseError, TableDefinition};
use tocktower_core::ids::{LeaseId, Revision};

use crate::port::KeyValue;

pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub(super) const KEYS: Definition = TableDefinition::new("keys");
pub(super) const LEASES: Definition = TableDefinition::new("leases");
pub(super) const LEASE_KEYS: Definition = TableDefinition::new("lease_keys");
pub(super) const META: Definition = TableDefinition::new("meta");

pub(super) const REVISION: &[u8] = b"revision";
pub(super) const COMPACTED: &[u8] = b"compacted";
pub(super) const LEASE: &[u8] = b"lease";

const FILE: &str = "state.redb";
const FORMAT: u8 = 1;
/// redb's page cache: its default of 1 GiB is too much for a small host.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use: this process or another has it open", .0.display())]
    InUse(PathBuf),
    #[error("cannot use the folder {}", .0.display())]
    Folder(PathBuf, #[source] std::io::Error),
    #[error("cannot open the store {}", .0.display())]
    Store(PathBuf, #[source] redb::Error),
    #[error("the store holds what this version cannot read: {0}")]
    Format(String),
    #[error("cannot start the store's thread")]
    Thread(#[source] std::io::Error),
}

/// A record or number that does not decode: written by a newer version, or damaged.
#[derive(Debug, thiserror::Error)]
#[error("{table} holds a value of an unknown format under {key:?}")]
pub(super) struct Malformed {
    table: &'static str,
    key: Vec<u8>,
}

/// Opens the store in `folder`, which is made if it does not exist, and readable by its owner only:
/// it holds tokens.
pub(super) fn open(folder: &Path) -> Result<(Database, PathBuf), OpenError> {
    let folder_error = |error| OpenError::Folder(folder.to_path_buf(), error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(folder_error)?;
    let path = folder.join(FILE);
    let database = Builder::new().set_cache_size(CACHE_BYTES).create(&path);
    let database = database.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse(folder.to_path_buf()),
        other => OpenError::Store(path.clone(), other.into()),
    })?;
    // A new file survives a power cut only when its folder has been synced too.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(folder_error)?;
    Ok((database, path))
}

pub(super) fn in_memory() -> Result<Database, OpenError> {
    Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(InMemoryBackend::new())
        .map_err(|error| OpenError::Store(PathBuf::from("(memory)"), error.into()))
}

pub(super) fn number_bytes(number: i64) -> [u8; 9] {
    let mut bytes = [FORMAT; 9];
    bytes[1..].copy_from_slice(&number.to_be_bytes());
    bytes
}

pub(super) fn number(table: &'static str, key: &[u8], bytes: &[u8]) -> Result<i64, Malformed> {
    match bytes {
        [FORMAT, rest @ ..] if rest.len() == 8 => Ok(integer(rest)),
        _ => Err(Malformed { table, key: key.to_vec() }),
    }
}

pub(super) fn record_bytes(item: &KeyValue) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(25 + item.value.len());
    bytes.push(FORMAT);
    bytes.extend(item.create_revision.0.to_be_bytes());
    bytes.extend(item.mod_revision.0.to_be_bytes());
    bytes.extend(item.lease.map_or(0, |lease| lease.0).to_be_bytes());
    bytes.extend(&item.value);
    bytes
}

pub(super) fn record(key: &[u8], bytes: &[u8]) -> Result<KeyValue, Malformed> {
    match bytes {
        [FORMAT, rest @ ..] if rest.len() >= 24 => Ok(KeyValue {
            key: key.to_vec(),
            value: rest[24..].to_vec(),
            create_revision: Revision(integer(&rest[..8])),
            mod_revision: Revision(integer(&rest[8..16])),
            lease: Some(LeaseId(integer(&rest[16..24]))).filter(|lease| lease.0 != 0),
        }),
        _ => Err(Malformed { table: "keys", key: key.to_vec() }),
    }
}

pub(super) const LEASE_KEY_VALUE: &[u8] = &[FORMAT];

pub(super) fn lease_key(lease: LeaseId, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + key.len());
    bytes.extend(lease.0.to_be_bytes());
    bytes.extend(key);
    bytes
}

pub(super) fn lease_of(bytes: &[u8]) -> Result<LeaseId, Malformed> {
    if bytes.len() == 8 {
        return Ok(LeaseId(integer(bytes)));
    }
    Err(Malformed { table: "leases", key: bytes.to_vec() })
}

fn integer(bytes: &[u8]) -> i64 {
    i64::from_be_bytes(bytes.try_into().expect("callers pass eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_on_disk_are_a_promise() {
        let item = KeyValue {
            key: b"k".to_vec(),
            value: b"ab".to_vec(),
            create_revision: Revision(2),
            mod_revision: Revision(0x0102),
            lease: Some(LeaseId(7)),
        };
        let golden =
            [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, b'a', b'b'];
        assert_eq!(record_bytes(&item), golden);
        assert_eq!(record(b"k", &golden).unwrap(), item);
        assert_eq!(number_bytes(258), [1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(number("meta", b"", &number_bytes(258)).unwrap(), 258);
        assert_eq!(lease_key(LeaseId(1), b"k"), [0, 0, 0, 0, 0, 0, 0, 1, b'k']);
    }

    #[test]
    fn bytes_of_another_format_are_an_error() {
        assert!(record(b"k", &[2; 30]).is_err());
        assert!(record(b"k", &[1; 24]).is_err());
        assert!(record(b"k", &[]).is_err());
        assert!(number("meta", b"", &[1; 8]).is_err());
    }
}
