//! Where a task lives: `xxh3_64("<ns>/<name>")`, its highest bits. The function has test vectors
//! and never changes, since every task of every cluster would move. XXH3 was chosen because it is
//! specified, fast on short keys and implemented in every language an SDK may come in.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::ids::{RangeId, TaskName};

/// The number of ranges of a cluster: a power of two from 1 to 32,768, fixed for its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeCount {
    bits: u32,
}

impl RangeCount {
    pub const DEFAULT: RangeCount = RangeCount { bits: 8 };

    /// `None` unless `count` is a power of two from 1 to 32,768.
    pub fn new(count: u32) -> Option<RangeCount> {
        let good = count.is_power_of_two() && count <= 32_768;
        good.then(|| RangeCount { bits: count.trailing_zeros() })
    }

    pub fn get(self) -> u32 {
        1 << self.bits
    }

    pub fn all(self) -> impl Iterator<Item = RangeId> {
        (0..self.get()).map(|range| RangeId(u16::try_from(range).expect("at most 32,768 ranges")))
    }

    /// Hexadecimal digits in a range's name: fixed, so that names sort as numbers do.
    pub fn hex_width(self) -> usize {
        usize::try_from(self.bits.div_ceil(4)).expect("at most 15 bits").max(1)
    }

    /// The range that a task lives in.
    pub fn range_of(self, task: &TaskName) -> RangeId {
        self.range_of_hash(task_hash(task))
    }

    /// As `range_of`, of a name that is well formed: `<ns>/<name>`.
    pub fn range_of_text(self, task: &str) -> RangeId {
        self.range_of_hash(xxh3_64(task.as_bytes()))
    }

    fn range_of_hash(self, hash: u64) -> RangeId {
        let top = hash.checked_shr(64 - self.bits).unwrap_or(0);
        RangeId(u16::try_from(top).expect("at most 15 bits are left"))
    }
}

/// The 64-bit hash of a task's name.
pub fn task_hash(task: &TaskName) -> u64 {
    xxh3_64(task.to_string().as_bytes())
}

/// A 64-bit hash of parts, each ended by a zero byte so that no two splits collide.
pub fn hash_parts(parts: &[&[u8]]) -> u64 {
    xxh3_64(&joined(parts))
}

/// As [`hash_parts`], 128 bits wide.
pub fn hash_parts_wide(parts: &[&[u8]]) -> u128 {
    xxh3_128(&joined(parts))
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for part in parts {
        all.extend_from_slice(part);
        all.push(0);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str) -> TaskName {
        TaskName::parse(name).unwrap()
    }

    #[test]
    fn the_hash_of_a_name_never_changes() {
        assert_eq!(task_hash(&task("default/nightly-backup")), VECTORS[0]);
        assert_eq!(task_hash(&task("a/b")), VECTORS[1]);
    }

    const VECTORS: [u64; 2] = [4_901_958_473_047_754_404, 5_257_704_712_954_054_148];

    #[test]
    fn one_range_takes_everything() {
        let one = RangeCount::new(1).unwrap();
        assert_eq!(one.range_of(&task("a/b")), RangeId(0));
        assert_eq!(one.hex_width(), 1);
    }

    #[test]
    fn only_powers_of_two_are_counts() {
        assert!(RangeCount::new(0).is_none());
        assert!(RangeCount::new(100).is_none());
        assert!(RangeCount::new(65_536).is_none());
        assert_eq!(RangeCount::new(4096).unwrap().hex_width(), 3);
        assert_eq!(RangeCount::new(32_768).unwrap().all().count(), 32_768);
    }
}
