//! Room on the disk. A full disk is foreseen: below the reserve the agent stops taking work in
//! while it can still write down how the work ended that it has.

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
    /// Less than 1 GiB or less than 5 % is free.
    Full,
}

impl DiskSpace {
    pub fn health(self) -> StoreHealth {
        let share = self.total / 100 * RESERVE_PERCENT;
        if self.free < RESERVE_BYTES || self.free < share {
            StoreHealth::Full
        } else {
            StoreHealth::Good
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
    fn full_below_one_gibibyte_or_five_percent() {
        let gib = 1024 * 1024 * 1024;
        let health = |free, total| DiskSpace { free, total }.health();
        assert_eq!(health(gib, 10 * gib), StoreHealth::Good);
        assert_eq!(health(gib - 1, 10 * gib), StoreHealth::Full);
        assert_eq!(health(4 * gib, 100 * gib), StoreHealth::Full);
        assert_eq!(health(5 * gib, 100 * gib), StoreHealth::Good);
        assert!(free_space(Path::new(".")).unwrap().total > 0);
    }
}
