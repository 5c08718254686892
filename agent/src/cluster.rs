//! Which cluster this is: its epoch and its number of ranges, which a record of the shared state
//! tells. An agent whose store knows them begins without it, since what is pinned there is to go
//! on, and compares as soon as it can.

use std::sync::Arc;
use std::time::Duration;

use tocktower_cluster::keys::{Key, Keys};
use tocktower_cluster::port::{Answer, KeyRange, ListRequest, Port, Request};
use tocktower_core::hash::RangeCount;
use tocktower_core::ids::Epoch;
use tocktower_proto::convert::decode_record;
use tocktower_proto::store::ClusterRecord;
use tokio::task::JoinHandle;

use crate::run::{Ended, StartError};
use crate::store::{KnownCluster, Opened, Store};

const RETRY: Duration = Duration::from_secs(1);
/// How long a store that knows its cluster waits for the record: what is pinned there waits too.
const SOON: Duration = Duration::from_secs(1);

/// Tells when the record says something else than what the agent began with.
pub(crate) struct OtherCluster(Option<JoinHandle<Ended>>);

impl OtherCluster {
    /// Never returns if it was read already, or says what was known.
    pub async fn met(self) -> Ended {
        match self.0 {
            Some(asking) => asking.await.unwrap_or_else(|error| Ended::Cluster(error.to_string())),
            None => std::future::pending().await,
        }
    }
}

/// The record, or what the store knows of it if that has something to go on with.
pub(crate) async fn join(
    opened: &Opened,
    port: &Arc<dyn Port>,
    prefix: &str,
) -> Result<(KnownCluster, OtherCluster), StartError> {
    let known = opened.cluster.filter(|_| !opened.pins.is_empty());
    let Some(known) = known else {
        let found = read(&**port, prefix, true).await?;
        keep(&opened.store, opened.cluster, found)?;
        return Ok((found, OtherCluster(None)));
    };
    match tokio::time::timeout(SOON, read(&**port, prefix, false)).await {
        Ok(found) => {
            let found = found?;
            keep(&opened.store, Some(known), found)?;
            Ok((found, OtherCluster(None)))
        }
        Err(_) => {
            tracing::warn!(
                "the shared state is out of reach: only what this agent runs by itself goes on"
            );
            let (port, prefix) = (Arc::clone(port), prefix.to_owned());
            let compare = tokio::spawn(async move { differs(&*port, &prefix, known).await });
            Ok((known, OtherCluster(Some(compare))))
        }
    }
}

fn keep(store: &Store, known: Option<KnownCluster>, found: KnownCluster) -> Result<(), StartError> {
    match known == Some(found) {
        true => Ok(()),
        false => store.know_cluster(found).map_err(|error| StartError::Cluster(error.to_string())),
    }
}

async fn differs(port: &dyn Port, prefix: &str, known: KnownCluster) -> Ended {
    match read(port, prefix, false).await {
        Ok(found) if found == known => std::future::pending().await,
        Ok(found) => Ended::Cluster(format!(
            "its epoch is {} and it has {} ranges; this store knows {} and {}",
            found.epoch.0,
            found.ranges.get(),
            known.epoch.0,
            known.ranges.get()
        )),
        Err(error) => Ended::Cluster(error.to_string()),
    }
}

/// The cluster's epoch and range count; an agent that finds none waits, and if it `tells` says so
/// once.
async fn read(port: &dyn Port, prefix: &str, tells: bool) -> Result<KnownCluster, StartError> {
    let key = Keys::new(prefix, RangeCount::DEFAULT).build(&Key::Cluster);
    let list = ListRequest { range: KeyRange::one(&key), limit: 1, at: None, keys_only: false };
    let mut said = !tells;
    loop {
        match port.call(Request::List(list.clone())).await {
            Ok(Answer::List { items, .. }) => {
                if let Some(item) = items.first() {
                    return read_cluster(&item.value);
                }
                if !said {
                    tracing::warn!("there is no cluster yet: start a coordinator; waiting for it");
                }
            }
            Ok(_) => {}
            Err(error) if !said => {
                tracing::warn!(%error, "the shared state cannot be reached yet; trying again");
            }
            Err(_) => {}
        }
        said = true;
        tokio::time::sleep(RETRY).await;
    }
}

fn read_cluster(value: &[u8]) -> Result<KnownCluster, StartError> {
    let record: ClusterRecord =
        decode_record(value).map_err(|error| StartError::Cluster(error.to_string()))?;
    let ranges = RangeCount::new(record.range_count);
    let ranges = ranges.ok_or(StartError::Cluster("its range count is no power of two".into()))?;
    Ok(KnownCluster { epoch: Epoch(record.epoch), ranges })
}
