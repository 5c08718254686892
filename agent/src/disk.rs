//! Looks every few seconds at the room on the disk of the data directory, and says once when it
//! changes for the worse or the better.
//!
//! A person has to act before the disk is full: then the store cannot write down how runs end, and
//! the agent ends. So the reserve is told at ERROR, with what to do, and the loop is told, which
//! starts nothing more and gives its ranges to others. Coming back takes a little more than the
//! reserve, or ranges would come and go with every file.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use crate::store::{DiskSpace, StoreHealth, free_space};

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Of what is free, the part that has to be above the reserve too before all is well again.
const BACK_PERCENT: u64 = 10;

/// The disk as it was last looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Disk {
    /// `None`: it could not be asked.
    pub space: Option<DiskSpace>,
    /// Less is free than the reserve, or was and hardly more is.
    pub below_reserve: bool,
}

impl Disk {
    pub fn health(self) -> StoreHealth {
        if self.below_reserve { StoreHealth::Full } else { StoreHealth::Good }
    }

    /// How it is after another look. What cannot be asked is believed to be as it was.
    fn after(self, space: Option<DiskSpace>, reserve: Option<u64>) -> Disk {
        let Some(space) = space else { return Disk { space: None, ..self } };
        let margin = if self.below_reserve { space.free / 100 * BACK_PERCENT } else { 0 };
        let looked_at = DiskSpace { free: space.free - margin, ..space };
        let below_reserve = looked_at.health(reserve) == StoreHealth::Full;
        Disk { space: Some(space), below_reserve }
    }
}

/// Looks for as long as somebody listens; the first look is over when this returns.
pub(crate) async fn watch_disk(dir: PathBuf, reserve: Option<u64>) -> watch::Receiver<Disk> {
    let mut disk = look(dir.clone(), reserve, Disk::default()).await;
    let (sender, receiver) = watch::channel(disk);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            disk = look(dir.clone(), reserve, disk).await;
            if sender.send(disk).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn look(dir: PathBuf, reserve: Option<u64>, before: Disk) -> Disk {
    let asked = dir.clone();
    let space = match tokio::task::spawn_blocking(move || free_space(&asked)).await {
        Ok(Ok(space)) => Some(space),
        Ok(Err(error)) => {
            if before.space.is_some() {
                tracing::warn!(dir = %dir.display(), %error, "the disk cannot be asked for room");
            }
            None
        }
        // The process ends.
        Err(_) => None,
    };
    let after = before.after(space, reserve);
    if before.below_reserve != after.below_reserve {
        tell(&dir, after);
    }
    after
}

/// For one that is to hear of it as it is now, too.
pub fn as_news(disk: &watch::Receiver<Disk>) -> watch::Receiver<Disk> {
    let mut news = disk.clone();
    news.mark_changed();
    news
}

fn tell(dir: &std::path::Path, disk: Disk) {
    let free_mib = disk.space.map_or(0, |space| space.free >> 20);
    if disk.below_reserve {
        tracing::error!(
            dir = %dir.display(),
            free_mib,
            "the disk is nearly full: free some of it, or lower history-max-bytes or disk-reserve; \
             if it fills up, ends of runs can no longer be written down and the agent stops"
        );
    } else {
        tracing::info!(dir = %dir.display(), free_mib, "the disk has its reserve again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn seen(free_mib: &[u64]) -> Vec<bool> {
        let mut disk = Disk::default();
        let each = free_mib.iter().map(|free| {
            let space = DiskSpace { free: free * MIB, total: 10_240 * MIB };
            disk = disk.after(Some(space), Some(1_024 * MIB));
            disk.below_reserve
        });
        each.collect()
    }

    #[test]
    fn a_disk_at_its_edge_does_not_flap() {
        let edge = [1_024, 1_023, 1_024, 1_100, 1_200, 1_100];
        assert_eq!(seen(&edge), [false, true, true, true, false, false]);
    }

    #[test]
    fn a_disk_that_cannot_be_asked_is_as_it_was() {
        let below = Disk { space: None, below_reserve: true };
        assert_eq!(below.after(None, None), below);
        assert_eq!(Disk::default().after(None, None), Disk::default());
    }

    #[tokio::test]
    async fn the_first_look_is_over_when_the_watch_begins() {
        let dir = tempfile::tempdir().unwrap();
        let disk = *watch_disk(dir.path().to_owned(), None).await.borrow();
        assert!(disk.space.is_some_and(|space| space.total > 0));
    }
}
