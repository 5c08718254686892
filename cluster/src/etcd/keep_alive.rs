//! Keep-alives over long-lived streams, one for each lease.
//!
//! etcd knows keep-alive only as a stream, and opening one for each request would cost two round
//! trips every time. A stream that is not in use rests in a map; a request takes it out, asks, and
//! puts it back. Since nobody else can hold it meanwhile, the next answer on it is ours, and a
//! request that fails or is given up drops its stream with whatever is still under way on it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{Client, Error, LeaseKeepAliveStream, LeaseKeeper};
use tocktower_core::ids::LeaseId;

/// Streams that rest. A process keeps one lease or two; the bound is for one that does not revoke.
const STREAMS_MAX: usize = 64;

struct Stream {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

#[derive(Default)]
pub(super) struct KeepAlives {
    resting: Mutex<BTreeMap<LeaseId, Stream>>,
}

impl KeepAlives {
    /// Keeps the lease alive and answers its time to live.
    pub(super) async fn keep_alive(
        &self,
        client: Client,
        lease: LeaseId,
    ) -> Result<Duration, Error> {
        let resting = self.lock().remove(&lease);
        if let Some(stream) = resting {
            // A stream that broke while it rested says nothing about the lease.
            match self.ask(lease, stream).await {
                Err(error) if !not_found(&error) => {}
                answer => return answer,
            }
        }
        let (keeper, answers) = client.lease_client().keep_alive(lease.0).await?;
        // Opening it has kept the lease alive, but etcd-client keeps the time to live to itself.
        self.ask(lease, Stream { keeper, answers }).await
    }

    pub(super) fn forget(&self, lease: LeaseId) {
        self.lock().remove(&lease);
    }

    async fn ask(&self, lease: LeaseId, mut stream: Stream) -> Result<Duration, Error> {
        stream.keeper.keep_alive().await?;
        let answer = stream.answers.message().await?;
        let ended = || Error::LeaseKeepAliveError("the stream has ended".into());
        let ttl = u64::try_from(answer.ok_or_else(ended)?.ttl()).unwrap_or(0);
        if ttl == 0 {
            return Err(Error::LeaseKeepAliveError("lease not found".into()));
        }
        let mut resting = self.lock();
        if resting.len() >= STREAMS_MAX {
            resting.pop_first();
        }
        resting.insert(lease, stream);
        Ok(Duration::from_secs(ttl))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Stream>> {
        // A map is never left half done by what runs under the lock.
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found(error: &Error) -> bool {
    matches!(error, Error::LeaseKeepAliveError(text) if text == "lease not found")
}
