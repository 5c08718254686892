//! A timing wheel of 1 ms slots (Varghese and Lauck, 1987): one turn is 65.5 s, which is more than
//! the horizon, so there is no second level and no cascading; putting and taking are O(1).
//!
//! Entries are 24 bytes. Nothing is removed by name: an entry whose range was lost or whose task
//! was changed is recognised by its `hold` and `number` when it comes out.

use crate::ids::{RangeId, TaskNumber};
use crate::time::Instant;

const SLOTS: usize = 1 << 16;
const SLOTS_MS: i64 = 1 << 16;

/// What comes due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NearEntry {
    pub due: Instant,
    pub number: TaskNumber,
    pub range: RangeId,
    /// Which holding of the range put it here.
    pub hold: u32,
}

/// Entries due within one turn of `at`. Every slot before `at` is empty.
pub struct Wheel {
    slots: Vec<Vec<NearEntry>>,
    /// A bit for each slot that holds something.
    occupied: Vec<u64>,
    at: i64,
    len: usize,
}

impl Wheel {
    /// The longest stretch ahead that an entry may be put.
    pub const TURN_MS: i64 = SLOTS_MS - 1;

    pub fn new(now: Instant) -> Wheel {
        Wheel {
            slots: vec![Vec::new(); SLOTS],
            occupied: vec![0; SLOTS / 64],
            at: now.millis(),
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// An entry that is overdue comes out first. Panics if it is more than a turn ahead.
    pub fn put(&mut self, entry: NearEntry) {
        let due = entry.due.millis().max(self.at);
        assert!(due - self.at <= Self::TURN_MS, "an entry beyond the horizon stays in the store");
        let slot = slot_of(due);
        self.slots[slot].push(entry);
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.len += 1;
    }

    /// Takes out everything due at or before `now`, in the order of due times.
    pub fn take(&mut self, now: Instant, out: &mut Vec<NearEntry>) {
        let begin = out.len();
        while let Some(due) = self.next_due() {
            if due > now {
                break;
            }
            let slot = slot_of(due.millis());
            self.len -= self.slots[slot].len();
            out.append(&mut self.slots[slot]);
            if self.slots[slot].capacity() > 1_024 {
                self.slots[slot] = Vec::new();
            }
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            self.at = due.millis();
        }
        self.at = self.at.max(now.millis());
        out[begin..].sort_unstable();
    }

    /// When the next slot that holds something comes up.
    pub fn next_due(&self) -> Option<Instant> {
        if self.len == 0 {
            return None;
        }
        let start = slot_of(self.at);
        let words = self.occupied.len();
        let first = self.occupied[start / 64] & (u64::MAX << (start % 64));
        let hit = (0..=words).find_map(|step| {
            let word = (start / 64 + step) % words;
            let bits = if step == 0 { first } else { self.occupied[word] };
            (bits != 0).then(|| word * 64 + index(bits.trailing_zeros()))
        })?;
        let ahead = (hit + SLOTS - start) % SLOTS;
        let ahead = i64::try_from(ahead).expect("a slot number is small");
        Some(Instant::from_millis(self.at + ahead))
    }

    /// Starts the wheel again at `now`, since the clock was set. Hands back what is more than a
    /// turn ahead from there.
    pub fn restart(&mut self, now: Instant) -> Vec<NearEntry> {
        let all: Vec<NearEntry> = self.slots.iter_mut().flat_map(std::mem::take).collect();
        *self = Wheel::new(now);
        let (near, far): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|entry| self.reaches(entry.due));
        for entry in near {
            self.put(entry);
        }
        far
    }

    /// Whether an entry that is due at `due` can be put.
    pub fn reaches(&self, due: Instant) -> bool {
        due.millis() - self.at <= Self::TURN_MS
    }
}

fn slot_of(ms: i64) -> usize {
    usize::try_from(ms.rem_euclid(SLOTS_MS)).expect("a slot number is small")
}

fn index(bits: u32) -> usize {
    usize::try_from(bits).expect("at most 64")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ms: i64, number: u64) -> NearEntry {
        let due = Instant::from_millis(ms);
        NearEntry { due, number: TaskNumber(number), range: RangeId(0), hold: 0 }
    }

    fn take(wheel: &mut Wheel, ms: i64) -> Vec<u64> {
        let mut out = Vec::new();
        wheel.take(Instant::from_millis(ms), &mut out);
        out.iter().map(|e| e.number.0).collect()
    }

    #[test]
    fn entries_come_out_in_order_and_not_early() {
        let mut wheel = Wheel::new(Instant::from_millis(1_000_000));
        for (ms, number) in [(1_000_500, 3), (1_000_001, 1), (1_065_000, 4), (1_000_020, 2)] {
            wheel.put(entry(ms, number));
        }
        assert_eq!(wheel.next_due(), Some(Instant::from_millis(1_000_001)));
        assert_eq!(take(&mut wheel, 1_000_000), []);
        assert_eq!(take(&mut wheel, 1_000_499), [1, 2]);
        assert_eq!(wheel.next_due(), Some(Instant::from_millis(1_000_500)));
        assert_eq!(take(&mut wheel, 1_000_500), [3]);
        assert_eq!(take(&mut wheel, 1_065_000), [4]);
        assert!(wheel.is_empty());
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn what_is_overdue_comes_out_at_once() {
        let mut wheel = Wheel::new(Instant::from_millis(1_000_000));
        wheel.put(entry(5, 1));
        assert_eq!(wheel.next_due(), Some(Instant::from_millis(1_000_000)));
        assert_eq!(take(&mut wheel, 1_000_000), [1]);
    }

    #[test]
    fn it_agrees_with_a_sorted_list() {
        let mut wheel = Wheel::new(Instant::from_millis(0));
        let mut list: Vec<(i64, u64)> = Vec::new();
        let mut state = 7u64;
        let mut now = 0;
        for number in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let due = now + i64::try_from(state >> 33).unwrap() % Wheel::TURN_MS;
            wheel.put(entry(due, number));
            list.push((due, number));
            if number % 16 == 0 {
                now += i64::try_from(state >> 40).unwrap() % 2_000;
                list.sort_unstable();
                let split = list.partition_point(|(due, _)| *due <= now);
                let expected: Vec<u64> = list.drain(..split).map(|(_, n)| n).collect();
                assert_eq!(take(&mut wheel, now), expected);
                assert_eq!(wheel.len(), list.len());
            }
        }
    }
}
