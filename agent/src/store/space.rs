//! Room on the disk. A full disk is foreseen: below the reserve the agent stops taking work in
//! while it can still write down how the work ended that it has.
//!
//! The reserve is 1 GiB, or a twentieth of a disk of less than 20 GiB, unless it was configured: it
//! is there for the ends of what runs, which do not grow with the disk.

use std::io;
use std::path::Path;

use crate::store::limits::{RESERVE_BYTES, RESERVE_PERCENT};

/// The file system that a folder lies on, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSpace {
    /// Free for this process.
    pub free: u64,
    pub total: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreHealth {
    Good,
    /// Less is free than the reserve.
    Full,
}

impl DiskSpace {
    /// `reserve` in bytes. `None`: the usual one.
    pub fn health(self, reserve: Option<u64>) -> StoreHealth {
        let usual = RESERVE_BYTES.min(self.total / 100 * RESERVE_PERCENT);
        match self.free < reserve.unwrap_or(usual) {
            true => StoreHealth::Full,
            false => StoreHealth::Good,
        }
    }
}

/// Asks the file system of `dir`.
pub fn free_space(dir: &Path) -> io::Result<DiskSpace> {
    let told = rustix::fs::statvfs(dir)?;
    Ok(DiskSpace {
        free: told.f_bavail.saturating_mul(told.f_frsize),
        total: told.f_blocks.saturating_mul(told.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_below_one_gibibyte_or_five_percent_of_a_small_disk() {
        let gib = 1024 * 1024 * 1024;
        let health = |free, total, reserve| DiskSpace { free, total }.health(reserve);
        assert_eq!(health(gib, 100 * gib, None), StoreHealth::Good);
        assert_eq!(health(gib - 1, 100 * gib, None), StoreHealth::Full);
        assert_eq!(health(gib / 2, 10 * gib, None), StoreHealth::Good);
        assert_eq!(health(gib / 2 - gib / 50, 10 * gib, None), StoreHealth::Full);
        assert_eq!(health(gib, 100 * gib, Some(2 * gib)), StoreHealth::Full);
        assert_eq!(health(0, 100 * gib, Some(0)), StoreHealth::Good);
        assert!(free_space(Path::new(".")).unwrap().total > 0);
    }
}
