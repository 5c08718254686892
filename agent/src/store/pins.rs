//! What a process has to know of its local ranges, so that it can begin while the shared state is
//! out of reach: of each range the ledger that lies here in place of etcd, what the watch had come
//! to, and since when this store knows of it.
//!
//! A ledger stands with the life in which it was written, that is the boot of the host, the folder,
//! and that no write has failed since: after another boot or such a failure what was not synced
//! before may be lost, and in a copy of the folder all that was written since.

use std::collections::BTreeMap;

use rocksdb::DB;
use tocktower_cluster::ledgers;
use tocktower_core::agent::PinsBefore;
use tocktower_core::agent::effect::PinsRecord;
use tocktower_core::ids::{RangeId, Revision};
use tocktower_core::ledger::Ledger;
use tocktower_core::time::Wall;

use crate::store::values::{FORMAT, Fields};
use crate::store::{keys, options};

/// What a store holds of the local ranges when it is opened.
pub fn before(db: &DB, life: &str) -> Result<BTreeMap<RangeId, PinsBefore>, rocksdb::Error> {
    let mut local = BTreeMap::new();
    for range in RangeId::LOCAL {
        local.extend(range_before(db, life, range)?.map(|before| (range, before)));
    }
    Ok(local)
}

fn range_before(db: &DB, life: &str, range: RangeId) -> Result<Option<PinsBefore>, rocksdb::Error> {
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
        intact: on == life && !life.is_empty(),
    }))
}

/// The key and the row of a record.
pub fn row(range: RangeId, record: &PinsRecord, life: &str) -> ([u8; 2], Vec<u8>) {
    let (kind, value) = match record {
        PinsRecord::Born(born) => (keys::PINS_BORN, number_encode(born.micros())),
        PinsRecord::Delivered(revision) => (keys::PINS_DELIVERED, number_encode(revision.0)),
        PinsRecord::Ledger(ledger) => (keys::PINS_LEDGER, ledger_encode(ledger, life)),
    };
    ([keys::meta_local(range), kind], value)
}

pub(super) fn number_encode(number: i64) -> Vec<u8> {
    [&[FORMAT][..], &number.to_be_bytes()].concat()
}

pub(super) fn number_decode(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(Fields::of(FORMAT, bytes)?.array()?))
}

/// The life with its length, then the record as etcd would hold it.
fn ledger_encode(ledger: &Ledger, life: &str) -> Vec<u8> {
    let length = u8::try_from(life.len()).unwrap_or(0);
    let life = life.as_bytes().get(..usize::from(length)).unwrap_or_default();
    [&[FORMAT, length], life, &ledgers::encode(ledger)].concat()
}

fn ledger_decode(bytes: &[u8]) -> Option<(Ledger, &str)> {
    let mut fields = Fields::of(FORMAT, bytes)?;
    let [length] = fields.array()?;
    let life = std::str::from_utf8(fields.take(usize::from(length))?).ok()?;
    Some((ledgers::decode(fields.rest()).ok()?, life))
}
