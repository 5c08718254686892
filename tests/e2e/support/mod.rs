//! What the stories share: the programs, daemons as processes, a fleet, the API, the witness.

pub mod api;
pub mod binaries;
pub mod daemon;
pub mod disk;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "../../../cluster/tests/support/etcd.rs"]
pub mod etcd;
pub mod fleet;
pub mod leases;
pub mod load;
pub mod logs;
pub mod relay;
pub mod watches;
pub mod witness;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How long a condition may take that is true within a second on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

static TURN: RwLock<()> = RwLock::const_new(());

/// A test that measures or loads the machine has it to itself.
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().await
}

/// A test that only looks at answers may run beside others of its kind.
pub async fn beside_others() -> RwLockReadGuard<'static, ()> {
    TURN.read().await
}

/// Waits until `look` gives a value; what it last said instead is told when it takes too long.
#[track_caller]
pub fn until<T, E: Debug>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let begun = Instant::now();
        loop {
            match look().await {
                Ok(value) => return value,
                Err(last) if begun.elapsed() > within => {
                    panic!("{place}: not within {within:?}: {what}; last: {last:?}")
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}
