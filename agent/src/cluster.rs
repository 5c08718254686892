//! Which cluster this is and in which epoch, and whether the shared state can be believed: decided
//! at start, by its record and by what the store remembers.
//!
//! - As it was left: go on. An agent whose store knows the cluster begins without the record when
//!   that is out of reach, since what is pinned there is to go on, and compares as soon as it can.
//! - A higher epoch, or another cluster: nothing is gone on with but history, and what is pinned
//!   here if it is the same cluster.
//! - At a revision below one that was seen, or in an epoch before: etcd was put back from a backup.
//!   Nothing is touched there until an operator has raised the epoch; what is pinned here goes on.
//!   The store remembers it, as the writes of others may soon overtake what was seen.

use std::sync::Arc;
use std::time::Duration;

use tocktower_cluster::cluster::{self, Cluster};
use tocktower_cluster::port::{Answer, KeyRange, KeyValue, ListRequest, Port, Request};
use tocktower_core::agent::effect::ExitReason;
use tocktower_core::ids::Revision;
use tokio::task::JoinHandle;

use crate::closed::ClosedPort;
use crate::ended::{Ended, StartError, with_causes};
use crate::store::{KnownCluster, Opened, Store};

const RETRY: Duration = Duration::from_secs(1);
/// How long a store that knows its cluster waits for the record: what is pinned there waits too.
const SOON: Duration = Duration::from_secs(1);

/// What an operator is to do about a shared state that was put back from a backup.
pub const WHAT_TO_DO: &str =
    "stop all daemons and raise the cluster's epoch with `tocktower raise-epoch`";

/// What an agent begins with.
pub(crate) struct Joined {
    pub cluster: Cluster,
    /// The highest revision that was seen in its epoch.
    pub seen: Revision,
    /// The shared state, as far as it may be used.
    pub port: Arc<dyn Port>,
    pub other: OtherCluster,
}

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

/// What a record is to a store that knows a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Verdict {
    Same,
    /// The epoch was raised: nothing there is as this store knows it.
    Raised,
    /// Another cluster altogether.
    Another,
    /// It was put back from a backup, which shows in this.
    PutBack(String),
}

fn judge(known: &KnownCluster, found: &Cluster, now: Revision) -> Verdict {
    let (before, seen) = (&known.cluster, known.seen);
    if found.id != before.id {
        return Verdict::Another;
    }
    if found.epoch > before.epoch {
        return Verdict::Raised;
    }
    if found.epoch < before.epoch {
        let (now, was) = (found.epoch.0, before.epoch.0);
        return Verdict::PutBack(format!("it is in epoch {now}, and was in epoch {was}"));
    }
    if found.epoch_began != before.epoch_began {
        let epoch = found.epoch.0;
        return Verdict::PutBack(format!("its epoch {epoch} began at another time than before"));
    }
    if now < seen {
        return Verdict::PutBack(format!("it is at revision {}, and was at {}", now.0, seen.0));
    }
    match known.put_back {
        true => Verdict::PutBack("this agent saw it at a revision below one before".to_owned()),
        false => Verdict::Same,
    }
}

/// The record, or what the store knows of it if that has something to go on with.
pub(crate) async fn join(
    opened: &Opened,
    port: &Arc<dyn Port>,
    prefix: &str,
) -> Result<Joined, StartError> {
    let Some(known) = &opened.cluster else {
        let (found, _) = read(&**port, prefix, true).await?;
        return begin(&opened.store, port, found);
    };
    let goes_on = !opened.pins.is_empty();
    let asked = read(&**port, prefix, !goes_on);
    let found = match goes_on {
        true => tokio::time::timeout(SOON, asked).await.ok(),
        false => Some(asked.await),
    };
    let Some(found) = found else {
        tracing::warn!(
            "the shared state is out of reach: only what this agent runs by itself goes on"
        );
        // Others may have overtaken by now what was seen: who knows that it went back asks nothing.
        let usable: Arc<dyn Port> = match known.put_back {
            true => Arc::new(ClosedPort),
            false => Arc::clone(port),
        };
        return Ok(known_only(known, port, prefix, usable));
    };
    let (found, now) = found?;
    match judge(known, &found, now) {
        Verdict::Same => {
            let (seen, port) = (known.seen, Arc::clone(port));
            Ok(Joined { cluster: found, seen, port, other: OtherCluster(None) })
        }
        Verdict::Raised => {
            tracing::info!(
                epoch = found.epoch.0,
                "the cluster's epoch was raised: this agent begins anew, with its history"
            );
            begin(&opened.store, port, found)
        }
        Verdict::Another => {
            let (is, was) = (&found.id, &known.cluster.id);
            tracing::warn!(%is, %was, "this is another cluster than before: only history is kept");
            begin(&opened.store, port, found)
        }
        Verdict::PutBack(why) => {
            tracing::error!(
                "the shared state was put back from a backup, {why}: nothing starts here but what \
                 this agent runs by itself; {WHAT_TO_DO}"
            );
            note_put_back(&opened.store, &known.cluster)?;
            if goes_on {
                let known = KnownCluster { put_back: true, ..known.clone() };
                return Ok(known_only(&known, port, prefix, Arc::new(ClosedPort)));
            }
            let found = raised(&**port, prefix, known).await?;
            begin(&opened.store, port, found)
        }
    }
}

/// A cluster of which this store has nothing to go on with.
fn begin(store: &Store, port: &Arc<dyn Port>, cluster: Cluster) -> Result<Joined, StartError> {
    let kept = store.know_cluster(&cluster);
    kept.map_err(|error| StartError::Cluster(error.to_string()))?;
    let (seen, port) = (Revision(0), Arc::clone(port));
    Ok(Joined { cluster, seen, port, other: OtherCluster(None) })
}

/// The cluster as the store knows it, until the record tells otherwise.
fn known_only(
    known: &KnownCluster,
    port: &Arc<dyn Port>,
    prefix: &str,
    usable: Arc<dyn Port>,
) -> Joined {
    let (asked, prefix, put_back) = (Arc::clone(port), prefix.to_owned(), known.clone());
    let compare = tokio::spawn(async move { differs(&*asked, &prefix, &put_back).await });
    Joined {
        cluster: known.cluster.clone(),
        seen: known.seen,
        port: usable,
        other: OtherCluster(Some(compare)),
    }
}

async fn differs(port: &dyn Port, prefix: &str, known: &KnownCluster) -> Ended {
    let told = match known.put_back {
        true => raised(port, prefix, known).await.map(|_| Verdict::Raised),
        false => read(port, prefix, false).await.map(|(found, now)| judge(known, &found, now)),
    };
    match told {
        Ok(Verdict::Same) => std::future::pending().await,
        Ok(Verdict::Raised) => Ended::Cluster("its epoch was raised".to_owned()),
        Ok(Verdict::Another) => Ended::Cluster("it has another id".to_owned()),
        Ok(Verdict::PutBack(why)) => Ended::PutBack(why),
        Err(error) => Ended::Cluster(error.to_string()),
    }
}

/// Waits until the epoch of a cluster that was put back is above the one that is known.
async fn raised(
    port: &dyn Port,
    prefix: &str,
    known: &KnownCluster,
) -> Result<Cluster, StartError> {
    loop {
        let (found, _) = read(port, prefix, false).await?;
        if found.id != known.cluster.id || found.epoch > known.cluster.epoch {
            return Ok(found);
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn note_put_back(store: &Store, cluster: &Cluster) -> Result<(), StartError> {
    let noted = store.know_put_back(cluster);
    noted.map_err(|error| StartError::Cluster(error.to_string()))
}

/// What the next process is to know when the shared state is found to have gone back.
pub(crate) struct Memory {
    store: Arc<Store>,
    cluster: Cluster,
}

impl Memory {
    pub fn of(store: &Arc<Store>, cluster: Cluster) -> Memory {
        Memory { store: Arc::clone(store), cluster }
    }

    pub async fn keep(self, ended: &Ended) {
        if matches!(ended, Ended::Exit(ExitReason::WentBack { .. }) | Ended::PutBack(_)) {
            let noting = move || note_put_back(&self.store, &self.cluster);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(noting).await {
                tracing::error!(%error, "that it was put back could not be written down");
            }
        }
    }
}

/// The cluster, with the revision of the shared state; an agent that finds none waits, and if it
/// `tells` says so once.
async fn read(
    port: &dyn Port,
    prefix: &str,
    tells: bool,
) -> Result<(Cluster, Revision), StartError> {
    let key = cluster::key(prefix);
    let list = ListRequest { range: KeyRange::one(&key), limit: 1, at: None, keys_only: false };
    let mut said = !tells;
    loop {
        match port.call(Request::List(list.clone())).await {
            Ok(Answer::List { items, revision, .. }) => {
                if let Some(item) = items.first() {
                    return Ok((read_cluster(item)?, revision));
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

fn read_cluster(item: &KeyValue) -> Result<Cluster, StartError> {
    cluster::read_item(item).map_err(|error| StartError::Cluster(with_causes(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocktower_core::hash::RangeCount;
    use tocktower_core::ids::Epoch;
    use tocktower_core::time::Wall;

    fn cluster(id: &str, epoch: u32) -> Cluster {
        Cluster {
            id: id.to_owned(),
            epoch: Epoch(epoch),
            epoch_began: Wall::from_millis(1_000 * i64::from(epoch)),
            ranges: RangeCount::DEFAULT,
            revision: Revision(3),
        }
    }

    #[test]
    fn a_record_is_as_it_was_or_raised_or_of_another_cluster_or_put_back() {
        let known = KnownCluster { cluster: cluster("c", 2), seen: Revision(90), put_back: false };
        let judged = |found: &Cluster, now| judge(&known, found, Revision(now));
        let put_back = |verdict| matches!(verdict, Verdict::PutBack(_));
        assert_eq!(judged(&cluster("c", 2), 90), Verdict::Same);
        assert!(put_back(judged(&cluster("c", 2), 89)), "a revision below one that was seen");
        assert!(put_back(judged(&cluster("c", 1), 900)), "put back to before the last raise");
        assert_eq!(judged(&cluster("c", 3), 5), Verdict::Raised);
        assert_eq!(judged(&cluster("d", 2), 5), Verdict::Another);
        let again = Cluster { epoch_began: Wall::from_millis(7), ..cluster("c", 2) };
        assert!(put_back(judged(&again, 900)), "put back once more, and raised to the same");
        let noted = KnownCluster { put_back: true, ..known.clone() };
        assert!(put_back(judge(&noted, &cluster("c", 2), Revision(900))), "others have overtaken");
        assert_eq!(judge(&noted, &cluster("c", 3), Revision(900)), Verdict::Raised);
    }
}
