//! Which cluster a store is of, and the highest revision that was seen there: so that a whole fleet
//! that is started anew still notices when etcd was put back from a backup, and so that what is
//! pinned here goes on while etcd is out of reach.

use rocksdb::DB;
use tocktower_cluster::cluster::Cluster;
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{Epoch, RangeId, Revision};
use tocktower_core::time::Wall;

use crate::store::error::StoreError;
use crate::store::pins::{number_decode, number_encode};
use crate::store::values::{FORMAT, Fields};
use crate::store::{Store, keys, options};

/// The cluster that this store is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownCluster {
    pub cluster: Cluster,
    /// The highest revision that was seen in this epoch, as of about a second before the end.
    pub seen: Revision,
    /// It was seen to be put back from a backup: nothing goes on there in this epoch.
    pub put_back: bool,
}

impl Store {
    /// Notes which cluster this store is of; nothing was seen of it yet. Of another one than before
    /// there is nothing that this agent runs by itself. On disk when it returns.
    pub fn know_cluster(&self, cluster: &Cluster) -> Result<(), StoreError> {
        let family = self.family(options::META);
        let mut batch = rocksdb::WriteBatch::default();
        let before = before(&self.db).map_err(|error| self.failed(error))?;
        if before.is_some_and(|before| before.cluster.id != cluster.id) {
            for local in RangeId::LOCAL.map(keys::meta_local) {
                batch.delete_range_cf(family, [local], [local + 1]);
            }
        }
        batch.put_cf(family, [keys::META_CLUSTER], cluster_encode(cluster, false));
        batch.put_cf(family, [keys::META_SEEN], number_encode(0));
        self.db.write(batch).map_err(|error| self.unwritten(error))?;
        self.sync()
    }

    /// Notes that this cluster was put back from a backup. On disk when it returns.
    pub fn know_put_back(&self, cluster: &Cluster) -> Result<(), StoreError> {
        let family = self.family(options::META);
        let put = self.db.put_cf(family, [keys::META_CLUSTER], cluster_encode(cluster, true));
        put.map_err(|error| self.unwritten(error))?;
        self.sync()
    }

    /// Notes the highest revision that was seen, to be synced with what comes.
    pub(super) fn note_seen(&self, revision: Revision) -> Result<(), StoreError> {
        let family = self.family(options::META);
        let put = self.db.put_cf(family, [keys::META_SEEN], number_encode(revision.0));
        put.map_err(|error| self.unwritten(error))
    }
}

/// What a store holds when it is opened.
pub fn before(db: &DB) -> Result<Option<KnownCluster>, rocksdb::Error> {
    let meta = db.cf_handle(options::META).expect("it was just opened");
    let cluster = db.get_cf(meta, [keys::META_CLUSTER])?;
    let cluster = cluster.as_deref().and_then(cluster_decode);
    let seen = db.get_cf(meta, [keys::META_SEEN])?;
    let seen = Revision(seen.as_deref().and_then(number_decode).unwrap_or(0));
    Ok(cluster.map(|(cluster, put_back)| KnownCluster { cluster, seen, put_back }))
}

/// `epoch 4 │ ranges 4 │ put back 1 │ epoch began 8 │ revision 8 │ id …`
fn cluster_encode(cluster: &Cluster, put_back: bool) -> Vec<u8> {
    let numbers = [cluster.epoch.0, cluster.ranges.get()].map(u32::to_be_bytes);
    let began = cluster.epoch_began.micros().to_be_bytes();
    let (revision, id) = (cluster.revision.0.to_be_bytes(), cluster.id.as_bytes());
    [&[FORMAT][..], numbers.as_flattened(), &[u8::from(put_back)], &began, &revision, id].concat()
}

fn cluster_decode(bytes: &[u8]) -> Option<(Cluster, bool)> {
    let mut fields = Fields::of(FORMAT, bytes)?;
    let epoch = Epoch(u32::from_be_bytes(fields.array()?));
    let ranges = RangeCount::new(u32::from_be_bytes(fields.array()?))?;
    let [put_back] = fields.array()?;
    let epoch_began = Wall::from_micros(i64::from_be_bytes(fields.array()?));
    let revision = Revision(i64::from_be_bytes(fields.array()?));
    let id = std::str::from_utf8(fields.rest()).ok()?.to_owned();
    Some((Cluster { id, epoch, epoch_began, ranges, revision }, put_back != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_cluster_stay_what_they_are() {
        let cluster = Cluster {
            id: "01k".to_owned(),
            epoch: Epoch(2),
            epoch_began: Wall::from_micros(5),
            ranges: RangeCount::DEFAULT,
            revision: Revision(7),
        };
        let bytes = cluster_encode(&cluster, true);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "01000000020000010001000000000000000500000000000000073031 6b".replace(' ', "")
        );
        assert_eq!(cluster_decode(&bytes), Some((cluster, true)));
        assert_eq!(cluster_decode(&bytes[..9]), None, "as it was written at first");
    }
}
