//! Which keys are asked for, and when a range has gone by whole.
//!
//! etcd counts every key of the range that a list asks for, whatever its limit: the first 1,000 of
//! 500,000 keys cost version 3.4 some 80 ms, those of a range of 2,000 keys 2 ms. A round over all
//! keys by one open range would cost it the square of their number. So a round is cut, by what the
//! copy knows, into parts of about a page each, or of one range where that holds more.
//!
//! The parts share borders, and together they are all keys of all pools, all pinned ones, and all
//! of what is for every agent: one that lies in a range of which the copy knows nothing is in one
//! of them as well.

use std::collections::BTreeMap;

use tocktower_cluster::keys::{Key, Keys};
use tocktower_cluster::port::{KeyRange, KeyValue, ListRequest};
use tocktower_core::ids::{RangeId, Revision};
use tocktower_core::task::Placement;

use super::judge::TaskKey;
use crate::catalog::Tasks;

/// Besides its tasks a range has its claim and its ledger.
const KEYS_BESIDES: usize = 2;

/// A range of a pool, all that is pinned to an agent, or all that is for every agent of a pool.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub placement: Placement,
    pub range: RangeId,
}

/// A task's key in the store, at the revision of its page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    pub key: TaskKey,
    pub revision: Revision,
}

/// What a list held: of its keys only those of tasks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    pub at: Revision,
    pub tasks: Vec<Held>,
    /// The last key, if more follow.
    pub more: Option<Vec<u8>>,
}

impl Page {
    pub fn read(keys: &Keys, at: Revision, items: &[KeyValue], more: bool) -> Page {
        let held = |item: &KeyValue| match keys.parse(&item.key)? {
            Key::Task(placement, name) => {
                Some(Held { key: TaskKey { placement, name }, revision: item.mod_revision })
            }
            _ => None,
        };
        let more = items.last().filter(|_| more).map(|last| last.key.clone());
        Page { at, tasks: items.iter().filter_map(held).collect(), more }
    }
}

/// Keys that are listed a page at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pages {
    left: KeyRange,
}

impl Pages {
    pub fn of(range: KeyRange) -> Pages {
        Pages { left: range }
    }

    pub fn request(&self, limit: usize) -> ListRequest {
        ListRequest { range: self.left.clone(), limit, at: None, keys_only: true }
    }

    /// Goes on behind a page. `false`: it was the last.
    pub fn pass(&mut self, page: &Page) -> bool {
        if let Some(last) = &page.more {
            self.left.start.clone_from(last);
            self.left.start.push(0);
        }
        page.more.is_some()
    }
}

/// A part of a round.
#[derive(Debug)]
pub struct Part {
    pub pages: Pages,
    places: Vec<Place>,
    passed: BTreeMap<Place, u32>,
}

impl Part {
    /// The parts of a round, by the number of tasks that the copy has in each range.
    pub fn all(keys: &Keys, counts: Vec<(Place, u32)>, page_keys: usize) -> Vec<Part> {
        let range = |place: &Place| match &place.placement {
            Placement::Pool(pool) => keys.range(pool, place.range),
            Placement::Agent(agent) => keys.pins(agent),
            Placement::EveryAgent(pool) => keys.broadcast(pool),
        };
        // In the order of keys, which is not that of pools: `a-b/` comes before `a/`.
        let mut counts: Vec<(KeyRange, Place, u32)> =
            counts.into_iter().map(|(place, count)| (range(&place), place, count)).collect();
        counts.sort();
        let mut parts = Vec::new();
        for all in [keys.all_pins(), keys.pools(), keys.all_broadcast()] {
            let within = counts.iter().filter(|(range, ..)| all.contains(&range.start));
            parts.extend(Part::of(&all, within, page_keys));
        }
        parts
    }

    /// The parts of one stretch of keys.
    fn of<'a>(
        all: &KeyRange,
        counts: impl Iterator<Item = &'a (KeyRange, Place, u32)>,
        page_keys: usize,
    ) -> Vec<Part> {
        let KeyRange { mut start, end } = all.clone();
        let (mut parts, mut places, mut sum) = (Vec::new(), Vec::new(), 0);
        for (range, place, count) in counts {
            let more = usize::try_from(*count).unwrap_or(usize::MAX).saturating_add(KEYS_BESIDES);
            if !places.is_empty() && more.saturating_add(sum) > page_keys {
                let border = range.start.clone();
                let span = KeyRange { start, end: border.clone() };
                parts.push(Part::new(span, std::mem::take(&mut places)));
                (start, sum) = (border, 0);
            }
            places.push(place.clone());
            sum = sum.saturating_add(more);
        }
        parts.push(Part::new(KeyRange { start, end }, places));
        parts
    }

    fn new(span: KeyRange, places: Vec<Place>) -> Part {
        Part { pages: Pages::of(span), places, passed: BTreeMap::new() }
    }

    /// Counts a page in, and goes on behind it. `false`: the part has gone by.
    pub fn pass(&mut self, keys: &Keys, page: &Page) -> bool {
        for Held { key, .. } in &page.tasks {
            let range = keys.range_in(&key.placement, &key.name);
            let place = Place { placement: key.placement.clone(), range };
            *self.passed.entry(place).or_insert(0) += 1;
        }
        self.pages.pass(page)
    }

    /// The ranges of which the copy has more tasks than have gone by.
    pub fn in_excess(&self, tasks: &Tasks) -> Vec<Place> {
        let passed = |place: &Place| self.passed.get(place).copied().unwrap_or(0);
        let excess = |place: &&Place| tasks.in_range(&place.placement, place.range) > passed(place);
        self.places.iter().filter(excess).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocktower_cluster::keys::PREFIX;
    use tocktower_core::hash::RangeCount;
    use tocktower_core::ids::{AgentName, PoolName};

    fn keys() -> Keys {
        Keys::new(PREFIX, RangeCount::new(4).unwrap())
    }

    fn place(pool: &str, range: u16) -> Place {
        let placement = match (pool.strip_prefix('@'), pool.strip_prefix('*')) {
            (Some(agent), _) => Placement::Agent(AgentName::parse(agent).unwrap()),
            (_, Some(pool)) => Placement::EveryAgent(PoolName::parse(pool).unwrap()),
            (None, None) => Placement::Pool(PoolName::parse(pool).unwrap()),
        };
        Place { placement, range: RangeId(range) }
    }

    fn parts(counts: &[(&str, u16, u32)]) -> Vec<Part> {
        let counts = counts.iter().map(|(pool, range, count)| (place(pool, *range), *count));
        Part::all(&keys(), counts.collect(), 100)
    }

    fn places(parts: &[Part]) -> Vec<Vec<Place>> {
        parts.iter().map(|part| part.places.clone()).collect()
    }

    #[test]
    fn parts_are_all_keys_of_all_placements_and_hold_a_page_or_one_range() {
        let pools = [("a", 0, 50), ("a", 1, 40), ("a", 3, 5_000), ("b", 0, 1), ("b", 2, 90)];
        let parts = parts(&[&[("@w", 0, 9), ("*a", 0, 7), ("*b", 0, 3)][..], &pools].concat());
        let expected = vec![
            vec![place("@w", 0)],
            vec![place("a", 0), place("a", 1)],
            vec![place("a", 3)],
            vec![place("b", 0), place("b", 2)],
            vec![place("*a", 0), place("*b", 0)],
        ];
        assert_eq!(places(&parts), expected);
        let borders: Vec<&KeyRange> = parts.iter().map(|part| &part.pages.left).collect();
        assert_eq!(*borders[0], keys().all_pins());
        assert_eq!(borders[1].start, keys().pools().start);
        assert!(borders[1..4].windows(2).all(|two| two[0].end == two[1].start));
        assert_eq!(borders[3].end, keys().pools().end);
        assert_eq!(*borders[4], keys().all_broadcast());
        for part in &parts {
            for Place { placement, range } in &part.places {
                let range = keys().tasks(placement, *range);
                assert!(part.pages.left.start <= range.start && range.end <= part.pages.left.end);
            }
        }
    }

    #[test]
    fn a_cluster_without_tasks_is_three_parts() {
        let parts = parts(&[]);
        let left: Vec<KeyRange> = parts.iter().map(|part| part.pages.left.clone()).collect();
        assert_eq!(left, [keys().all_pins(), keys().pools(), keys().all_broadcast()]);
    }

    #[test]
    fn pools_come_in_the_order_of_their_keys() {
        let parts = parts(&[("a", 0, 99), ("a-b", 0, 99), ("b", 0, 99)]);
        let expected =
            vec![vec![], vec![place("a-b", 0)], vec![place("a", 0)], vec![place("b", 0)], vec![]];
        assert_eq!(places(&parts), expected);
    }

    #[test]
    fn pages_follow_each_other_without_a_gap_until_no_more_keys_come() {
        let mut pages = Pages::of(KeyRange::prefix(b"k"));
        let page = |more: Option<&[u8]>| Page {
            at: Revision(1),
            tasks: Vec::new(),
            more: more.map(<[u8]>::to_vec),
        };
        assert!(pages.pass(&page(Some(b"k3"))));
        assert_eq!(
            pages.request(7).range,
            KeyRange { start: b"k3\0".to_vec(), end: b"l".to_vec() }
        );
        assert!(!pages.pass(&page(None)));
    }
}
