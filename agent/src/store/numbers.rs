//! A set of task numbers, at one bit each: which one-shots lie beside their due entry and are
//! still there.
//!
//! An entry that carries its record need not ask the disk for its task, only whether that still
//! exists; with a million due in a second even a cached look-up each would be most of the work.
//! Numbers are counted, so they lie close together and the set costs about a bit a task. It lives
//! in memory only: due entries do not outlive a process either.

use std::collections::BTreeMap;

use tocktower_core::ids::TaskNumber;

const WORDS: usize = 64;

#[derive(Default)]
pub struct NumberSet {
    pieces: BTreeMap<u64, Box<[u64; WORDS]>>,
}

impl NumberSet {
    pub fn insert(&mut self, number: TaskNumber) {
        let (piece, word, bit) = place(number);
        self.pieces.entry(piece).or_insert_with(|| Box::new([0; WORDS]))[word] |= bit;
    }

    pub fn remove(&mut self, number: TaskNumber) {
        let (piece, word, bit) = place(number);
        if let Some(words) = self.pieces.get_mut(&piece) {
            words[word] &= !bit;
            if words.iter().all(|word| *word == 0) {
                self.pieces.remove(&piece);
            }
        }
    }

    pub fn contains(&self, number: TaskNumber) -> bool {
        let (piece, word, bit) = place(number);
        self.pieces.get(&piece).is_some_and(|words| words[word] & bit != 0)
    }
}

/// The piece, the word in it, the bit in that.
fn place(TaskNumber(number): TaskNumber) -> (u64, usize, u64) {
    let word = usize::try_from(number >> 6 & 63).expect("6 bits");
    (number >> 12, word, 1 << (number & 63))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(steps: Vec<(bool, u16)>) {
            let (mut set, mut model) = (NumberSet::default(), BTreeSet::new());
            for (add, number) in steps {
                let number = 7 << 32 | u64::from(number % 9_000);
                if add {
                    set.insert(TaskNumber(number));
                    model.insert(number);
                } else {
                    set.remove(TaskNumber(number));
                    model.remove(&number);
                }
            }
            for number in 0..9_000 {
                let number = 7 << 32 | number;
                prop_assert_eq!(set.contains(TaskNumber(number)), model.contains(&number));
            }
            for number in model {
                set.remove(TaskNumber(number));
            }
            prop_assert!(set.pieces.is_empty());
        }
    }
}
