//! The first look at a cluster: what it is, or that it is new.
//!
//! The number of ranges is part of every key, so nothing else can begin before it is known. The
//! record is put if it is absent and then read, whoever put it: two coordinators that start at once
//! agree on one cluster.

use std::sync::Arc;
use std::time::Duration;

use tocktower_cluster::keys::{Key, Keys};
use tocktower_cluster::port::{Answer, Compare, Op, OpAnswer, Port, PortError, Request, Txn};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::Epoch;
use tocktower_proto::convert::{DecodeError, decode_record, encode_record};
use tocktower_proto::store::ClusterRecord;
use ulid::Ulid;

/// The newest format of records that this program knows.
const FORMAT_VERSION: u32 = 1;
/// How long the shared state is waited for when a coordinator starts.
const PATIENCE: Duration = Duration::from_secs(30);
const TRY_AGAIN: Duration = Duration::from_millis(250);
const CALL_WITHIN: Duration = Duration::from_secs(5);

/// What a cluster is for its life, and the epoch that it is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    pub id: String,
    pub epoch: Epoch,
    pub ranges: RangeCount,
}

#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("the shared state cannot be reached")]
    Store(#[source] PortError),
    #[error("the cluster's record cannot be read")]
    Unreadable(#[source] DecodeError),
    #[error(
        "the cluster has format {found}, this program knows {FORMAT_VERSION}: start a newer one"
    )]
    Newer { found: u32 },
    #[error("the cluster's record says {given} ranges, which is no power of two up to 32,768")]
    Ranges { given: u32 },
}

/// Reads the cluster's record; makes it with `ranges` if there is none.
pub async fn cluster(
    port: &Arc<dyn Port>,
    prefix: &str,
    ranges: RangeCount,
) -> Result<Cluster, BootstrapError> {
    // The key of the record holds no range, so any count builds it.
    let key = Keys::new(prefix, ranges).build(&Key::Cluster);
    let record = ClusterRecord {
        id: Ulid::generate().to_string().to_ascii_lowercase(),
        format_version: FORMAT_VERSION,
        epoch: 1,
        range_count: ranges.get(),
    };
    let value = encode_record(&record);
    let txn = Txn {
        when: vec![Compare::absent(key.clone())],
        then: vec![Op::Put { key: key.clone(), value: value.clone(), lease: None }],
        otherwise: vec![Op::Get { key }],
    };
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match call(port, txn.clone()).await {
            Ok(Answer::Txn { succeeded: true, .. }) => {
                tracing::info!(id = record.id, ranges = ranges.get(), "a new cluster");
                return read(&value);
            }
            Ok(Answer::Txn { answers, .. }) => match answers.as_slice() {
                [OpAnswer::Got(Some(item))] => return read(&item.value),
                _ => return Err(mismatch(&answers)),
            },
            Ok(other) => return Err(mismatch(&other)),
            Err(error) if error.retryable() && tokio::time::Instant::now() < until => {
                tracing::warn!(%error, "the shared state does not answer yet");
                tokio::time::sleep(TRY_AGAIN).await;
            }
            Err(error) => return Err(BootstrapError::Store(error)),
        }
    }
}

async fn call(port: &Arc<dyn Port>, txn: Txn) -> Result<Answer, PortError> {
    let answer = tokio::time::timeout(CALL_WITHIN, port.call(Request::Txn(txn))).await;
    let late = || PortError::Unknown(format!("no answer within {CALL_WITHIN:?}"));
    answer.unwrap_or_else(|_| Err(late()))
}

fn mismatch(answer: &impl std::fmt::Debug) -> BootstrapError {
    BootstrapError::Store(PortError::Refused(format!("an answer that does not fit: {answer:?}")))
}

fn read(value: &[u8]) -> Result<Cluster, BootstrapError> {
    let record: ClusterRecord = decode_record(value).map_err(BootstrapError::Unreadable)?;
    if record.format_version > FORMAT_VERSION {
        return Err(BootstrapError::Newer { found: record.format_version });
    }
    let given = record.range_count;
    let ranges = RangeCount::new(given).ok_or(BootstrapError::Ranges { given })?;
    Ok(Cluster { id: record.id, epoch: Epoch(record.epoch), ranges })
}
