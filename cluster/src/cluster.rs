//! Which cluster this is, and in which epoch: the record that everything else hangs on.
//!
//! It is put once, when the first coordinator starts, and changed for one reason only: etcd was put
//! back from a backup, so revisions come again, and what daemons remember is of another life. The
//! operator then raises the epoch. It comes before the revision in every fence, incarnation and
//! session, so that none of them means two things; and since a session is registered only while the
//! record is as the agent read it, nobody goes on in an epoch that is over.

use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{Epoch, Revision};
use tocktower_core::time::Wall;
use tocktower_proto::convert::{DecodeError, decode_record, encode_record};
use tocktower_proto::store::ClusterRecord;

use crate::keys::{Key, Keys};
use crate::port::{Compare, KeyValue, Op, Txn};

/// The newest format of records that this program knows.
pub const FORMAT_VERSION: u32 = 1;

/// What a cluster is for its life, and the epoch that it is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    pub id: String,
    pub epoch: Epoch,
    /// When that was raised, by the clock of the host where it was done; never, for the first.
    pub epoch_began: Wall,
    pub ranges: RangeCount,
    /// When the record was put last.
    pub revision: Revision,
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("the cluster's record cannot be read")]
    Unreadable(#[from] DecodeError),
    #[error(
        "the cluster has format {found}, this program knows {FORMAT_VERSION}: start a newer one"
    )]
    Newer { found: u32 },
    #[error("the cluster's record says {given} ranges, which is no power of two up to 32,768")]
    Ranges { given: u32 },
}

/// The key of the record. It holds no range, so any count builds it.
pub fn key(prefix: &str) -> Vec<u8> {
    Keys::new(prefix, RangeCount::DEFAULT).build(&Key::Cluster)
}

/// The record of a new cluster.
pub fn new_record(id: String, ranges: RangeCount) -> Vec<u8> {
    encode_record(&ClusterRecord {
        id,
        format_version: FORMAT_VERSION,
        epoch: 1,
        range_count: ranges.get(),
        epoch_began_us: 0,
    })
}

/// The cluster in the value of its key, which was put at `revision`.
pub fn read(value: &[u8], revision: Revision) -> Result<Cluster, ClusterError> {
    let record: ClusterRecord = decode_record(value)?;
    if record.format_version > FORMAT_VERSION {
        return Err(ClusterError::Newer { found: record.format_version });
    }
    let given = record.range_count;
    let ranges = RangeCount::new(given).ok_or(ClusterError::Ranges { given })?;
    let epoch_began = match record.epoch_began_us {
        0 => Wall::MIN,
        micros => Wall::from_micros(micros),
    };
    Ok(Cluster { id: record.id, epoch: Epoch(record.epoch), epoch_began, ranges, revision })
}

/// As [`read`], of a key as it is listed.
pub fn read_item(item: &KeyValue) -> Result<Cluster, ClusterError> {
    read(&item.value, item.mod_revision)
}

/// Raises the epoch, if the record is still as it was read. `Err`: it cannot be read.
pub fn raise(item: &KeyValue, now: Wall) -> Result<Txn, DecodeError> {
    let mut record: ClusterRecord = decode_record(&item.value)?;
    record.epoch += 1;
    record.epoch_began_us = now.micros();
    let (key, value) = (item.key.clone(), encode_record(&record));
    Ok(Txn {
        when: vec![Compare::Modified { key: key.clone(), at: item.mod_revision }],
        then: vec![Op::Put { key, value, lease: None }],
        otherwise: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(value: Vec<u8>) -> KeyValue {
        let (create_revision, mod_revision) = (Revision(3), Revision(9));
        KeyValue { key: key("/t"), value, create_revision, mod_revision, lease: None }
    }

    #[test]
    fn a_raise_counts_the_epoch_and_dates_it_and_leaves_the_rest() {
        let first = item(new_record("c".to_owned(), RangeCount::DEFAULT));
        let before = read_item(&first).unwrap();
        assert_eq!((before.epoch, before.epoch_began), (Epoch(1), Wall::MIN));
        let now = Wall::from_millis(1_800_000_000_000);
        let txn = raise(&first, now).unwrap();
        assert_eq!(txn.when, [Compare::Modified { key: key("/t"), at: Revision(9) }]);
        let [Op::Put { value, lease: None, .. }] = &txn.then[..] else { panic!("{txn:?}") };
        let after = read(value, Revision(9)).unwrap();
        assert_eq!(after, Cluster { epoch: Epoch(2), epoch_began: now, ..before });
    }
}
