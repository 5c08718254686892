//! The first look at a cluster: what it is, or that it is new.
//!
//! The number of ranges is part of every key, so nothing else can begin before it is known. The
//! record is put if it is absent and then read, whoever put it: two coordinators that start at once
//! agree on one cluster.

use std::sync::Arc;
use std::time::Duration;

use tocktower_cluster::cluster::{self as record, Cluster, ClusterError};
use tocktower_cluster::port::{Answer, Compare, Op, OpAnswer, Port, PortError, Request, Txn};
use tocktower_core::hash::RangeCount;
use ulid::Ulid;

/// How long the shared state is waited for when a coordinator starts.
const PATIENCE: Duration = Duration::from_secs(30);
const TRY_AGAIN: Duration = Duration::from_millis(250);
const CALL_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("the shared state cannot be reached")]
    Store(#[source] PortError),
    #[error(transparent)]
    Record(#[from] ClusterError),
}

/// Reads the cluster's record; makes it with `ranges` if there is none.
pub async fn cluster(
    port: &Arc<dyn Port>,
    prefix: &str,
    ranges: RangeCount,
) -> Result<Cluster, BootstrapError> {
    let key = record::key(prefix);
    let id = Ulid::generate().to_string().to_ascii_lowercase();
    let value = record::new_record(id.clone(), ranges);
    let txn = Txn {
        when: vec![Compare::absent(key.clone())],
        then: vec![Op::Put { key: key.clone(), value: value.clone(), lease: None }],
        otherwise: vec![Op::Get { key }],
    };
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match call(port, txn.clone()).await {
            Ok(Answer::Txn { succeeded: true, revision, .. }) => {
                tracing::info!(id, ranges = ranges.get(), "a new cluster");
                return Ok(record::read(&value, revision)?);
            }
            Ok(Answer::Txn { answers, .. }) => match answers.as_slice() {
                [OpAnswer::Got(Some(item))] => return Ok(record::read_item(item)?),
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
