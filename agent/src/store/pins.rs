//! What a process has to know of its local ranges and of its cluster, so that it can begin while
//! the shared state is out of reach: of each range the ledger that lies here in place of etcd, what
//! the watch had come to, and since when this store knows of it; the cluster's epoch and number of
//! ranges.
//!
//! A ledger stands with the boot of the host under which it was written: after another one, what
//! was not synced since may be lost.

use std::collections::BTreeMap;

use rocksdb::DB;
use tocktower_cluster::ledgers;
use tocktower_core::agent::PinsBefore;
use tocktower_core::agent::effect::PinsRecord;
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{Epoch, RangeId, Revision};
use tocktower_core::ledger::Ledger;
use tocktower_core::time::Wall;

use crate::store::error::StoreError;
use crate::store::values::{FORMAT, Fields};
use crate::store::{Store, keys, options};

/// What a store holds for a process that begins.
pub type Before = (BTreeMap<RangeId, PinsBefore>, Option<KnownCluster>);

/// The cluster that this store is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownCluster {
    pub epoch: Epoch,
    pub ranges: RangeCount,
}

impl Store {
    /// Notes which cluster this store is of. On disk when it returns.
    pub fn know_cluster(&self, cluster: KnownCluster) -> Result<(), StoreError> {
        let family = self.family(options::META);
        let put = self.db.put_cf(family, [keys::META_CLUSTER], cluster_encode(cluster));
        put.map_err(|error| self.failed(error))?;
        self.sync()
    }
}

/// What a store holds of the local ranges when it is opened, and the cluster that it is of.
pub fn before(db: &DB, boot: &str) -> Result<Before, rocksdb::Error> {
    let meta = db.cf_handle(options::META).expect("it was just opened");
    let mut local = BTreeMap::new();
    for range in RangeId::LOCAL {
        local.extend(range_before(db, boot, range)?.map(|before| (range, before)));
    }
    let cluster = db.get_cf(meta, [keys::META_CLUSTER])?;
    Ok((local, cluster.as_deref().and_then(cluster_decode)))
}

fn range_before(db: &DB, boot: &str, range: RangeId) -> Result<Option<PinsBefore>, rocksdb::Error> {
    let meta = db.cf_handle(options::META).expect("it was just opened");
    let row = |kind: u8| db.get_cf(meta, [keys::meta_local(range), kind]);
    let born = row(keys::PINS_BORN)?.as_deref().and_then(number_decode);
    let delivered = row(keys::PINS_DELIVERED)?.as_deref().and_then(number_decode);
    let ledger = row(keys::PINS_LEDGER)?;
    let ledger = ledger.as_deref().and_then(ledger_decode);
    let (Some(born), Some(delivered), Some((ledger, on))) = (born, delivered, ledger) else {
        return Ok(None);
    };
    Ok(Some(PinsBefore {
        born: Wall::from_micros(born),
        delivered: Revision(delivered),
        ledger,
        intact: on == boot && !boot.is_empty(),
    }))
}

/// The key and the row of a record.
pub fn row(range: RangeId, record: &PinsRecord, boot: &str) -> ([u8; 2], Vec<u8>) {
    let (kind, value) = match record {
        PinsRecord::Born(born) => (keys::PINS_BORN, number_encode(born.micros())),
        PinsRecord::Delivered(revision) => (keys::PINS_DELIVERED, number_encode(revision.0)),
        PinsRecord::Ledger(ledger) => (keys::PINS_LEDGER, ledger_encode(ledger, boot)),
    };
    ([keys::meta_local(range), kind], value)
}

fn number_encode(number: i64) -> Vec<u8> {
    [&[FORMAT][..], &number.to_be_bytes()].concat()
}

fn number_decode(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(Fields::of(FORMAT, bytes)?.array()?))
}

/// The boot with its length, then the record as etcd would hold it.
fn ledger_encode(ledger: &Ledger, boot: &str) -> Vec<u8> {
    let length = u8::try_from(boot.len()).unwrap_or(0);
    let boot = boot.as_bytes().get(..usize::from(length)).unwrap_or_default();
    [&[FORMAT, length], boot, &ledgers::encode(ledger)].concat()
}

fn ledger_decode(bytes: &[u8]) -> Option<(Ledger, &str)> {
    let mut fields = Fields::of(FORMAT, bytes)?;
    let [length] = fields.array()?;
    let boot = std::str::from_utf8(fields.take(usize::from(length))?).ok()?;
    Some((ledgers::decode(fields.rest()).ok()?, boot))
}

fn cluster_encode(cluster: KnownCluster) -> Vec<u8> {
    let ranges = cluster.ranges.get().to_be_bytes();
    [&[FORMAT][..], &cluster.epoch.0.to_be_bytes(), &ranges].concat()
}

fn cluster_decode(bytes: &[u8]) -> Option<KnownCluster> {
    let mut fields = Fields::of(FORMAT, bytes)?;
    let epoch = Epoch(u32::from_be_bytes(fields.array()?));
    let ranges = RangeCount::new(u32::from_be_bytes(fields.array()?))?;
    Some(KnownCluster { epoch, ranges })
}
