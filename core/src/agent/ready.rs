//! The ready queue: runs that are due and wait for a free place among the executors, over all
//! ranges: the highest priority first, then what is on time, then the oldest due. What is made up
//! for after an outage is late already and older than all the rest: where places are few, it would
//! make the rest late as well, for as long as the outage was.
//!
//! Each range has a queue of its own, and the heads are merged: a range that may not start anything
//! for a while (its watch stalls, its licence is over) then holds up no other, however much it has
//! waiting. A single queue would have to be searched past all of its runs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::ids::{RangeId, RunId};
use crate::time::Instant;

/// What goes before what, smallest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Rank {
    priority: Reverse<i32>,
    catch_up: bool,
}

impl Rank {
    pub fn new(priority: i32, catch_up: bool) -> Rank {
        Rank { priority: Reverse(priority), catch_up }
    }
}

/// Smallest first: rank, due, and the name, so that the order is one for all.
type Place = (Rank, Instant, RunId);

#[derive(Debug, Default)]
pub(crate) struct Ready {
    ranges: BTreeMap<RangeId, Queue>,
    len: usize,
}

/// What waits in one range.
#[derive(Debug, Default)]
struct Queue {
    places: BTreeSet<Place>,
    catch_ups: usize,
}

impl Queue {
    fn put(&mut self, place: Place) -> bool {
        let catch_up = place.0.catch_up;
        let new = self.places.insert(place);
        self.catch_ups += usize::from(new && catch_up);
        new
    }

    fn remove(&mut self, place: &Place) -> bool {
        let gone = self.places.remove(place);
        self.catch_ups -= usize::from(gone && place.0.catch_up);
        gone
    }

    fn pop_first(&mut self) -> Option<Place> {
        let first = self.places.pop_first()?;
        self.catch_ups -= usize::from(first.0.catch_up);
        Some(first)
    }
}

impl Ready {
    pub fn put(&mut self, rank: Rank, due: Instant, range: RangeId, run: RunId) {
        let new = self.ranges.entry(range).or_default().put((rank, due, run));
        self.len += usize::from(new);
    }

    /// `rank` and `due` as it was put.
    pub fn remove(&mut self, rank: Rank, due: Instant, range: RangeId, run: &RunId) {
        let Some(queue) = self.ranges.get_mut(&range) else { return };
        let gone = queue.remove(&(rank, due, run.clone()));
        self.len -= usize::from(gone);
        if queue.places.is_empty() {
            self.ranges.remove(&range);
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Of them, those that are made up for, in ranges that `may` start.
    pub fn catch_ups(&self, may: impl Fn(RangeId) -> bool) -> usize {
        let ranges = self.ranges.iter().filter(|(_, queue)| queue.catch_ups > 0);
        ranges.filter(|(range, _)| may(**range)).map(|(_, queue)| queue.catch_ups).sum()
    }

    pub fn oldest_due(&self) -> Option<Instant> {
        let places = self.ranges.values().flat_map(|queue| &queue.places);
        places.map(|(_, due, _)| *due).min()
    }

    /// Takes out up to `places` runs of ranges that `may` start.
    pub fn take(&mut self, places: usize, may: impl Fn(RangeId) -> bool) -> Vec<(RangeId, RunId)> {
        let mut heads = BinaryHeap::new();
        for (range, queue) in self.ranges.iter_mut().filter(|(range, _)| may(**range)) {
            heads.extend(queue.pop_first().map(|head| Reverse((head, *range))));
        }
        let mut chosen = Vec::new();
        while chosen.len() < places
            && let Some(Reverse(((_, _, run), range))) = heads.pop()
        {
            chosen.push((range, run));
            let next = self.ranges.get_mut(&range).and_then(Queue::pop_first);
            heads.extend(next.map(|head| Reverse((head, range))));
        }
        self.len -= chosen.len();
        for Reverse((head, range)) in heads {
            self.ranges.entry(range).or_default().put(head);
        }
        self.ranges.retain(|_, queue| !queue.places.is_empty());
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Incarnation, TaskName};

    fn run(name: &str) -> RunId {
        let task = TaskName::parse(&format!("a/{name}")).unwrap();
        RunId::scheduled(task, Incarnation::default(), Instant::from_millis(0))
    }

    fn queue(runs: &[(i32, i64, u16, &str)]) -> Ready {
        let mut ready = Ready::default();
        for (priority, due, range, name) in runs {
            let rank = Rank::new(*priority, false);
            ready.put(rank, Instant::from_millis(*due), RangeId(*range), run(name));
        }
        ready
    }

    #[track_caller]
    fn check(ready: &mut Ready, places: usize, may: impl Fn(RangeId) -> bool, names: &[&str]) {
        let taken = ready.take(places, may);
        let taken: Vec<String> = taken.iter().map(|(_, run)| run.task.name.to_string()).collect();
        assert_eq!(taken, names);
    }

    #[test]
    fn priority_goes_before_age_over_all_ranges() {
        let mut ready = queue(&[(0, 5, 1, "old"), (0, 9, 2, "young"), (3, 10, 3, "urgent")]);
        check(&mut ready, 2, |_| true, &["urgent", "old"]);
        assert_eq!((ready.len(), ready.oldest_due()), (1, Some(Instant::from_millis(9))));
        check(&mut ready, 2, |_| true, &["young"]);
        assert_eq!(ready.len(), 0);
    }

    #[test]
    fn what_is_on_time_goes_before_what_is_made_up_for_but_not_before_its_priority() {
        let mut ready = queue(&[(0, 9, 2, "young"), (1, 20, 1, "first")]);
        for (priority, due, name) in [(0, 1, "old"), (1, 2, "older")] {
            let rank = Rank::new(priority, true);
            ready.put(rank, Instant::from_millis(due), RangeId(1), run(name));
        }
        assert_eq!(
            (ready.catch_ups(|_| true), ready.catch_ups(|range| range == RangeId(2))),
            (2, 0)
        );
        check(&mut ready, 2, |_| true, &["first", "older"]);
        assert_eq!(ready.catch_ups(|_| true), 1);
        check(&mut ready, 1, |_| true, &["young"]);
        ready.remove(Rank::new(0, true), Instant::from_millis(1), RangeId(1), &run("old"));
        assert_eq!((ready.len(), ready.catch_ups(|_| true)), (0, 0));
    }

    #[test]
    fn a_range_that_may_not_start_holds_up_no_other() {
        let mut ready = queue(&[(0, 50, 2, "young")]);
        for number in 0..5_000 {
            let (rank, due) = (Rank::new(9, false), Instant::from_millis(1));
            ready.put(rank, due, RangeId(1), run(&format!("stalled{number}")));
        }
        check(&mut ready, 10, |range| range == RangeId(2), &["young"]);
        assert_eq!(ready.len(), 5_000);
    }

    #[test]
    fn what_is_taken_out_by_name_does_not_come() {
        let mut ready = queue(&[(1, 5, 1, "a"), (0, 5, 1, "b")]);
        ready.remove(Rank::new(1, false), Instant::from_millis(5), RangeId(1), &run("a"));
        ready.remove(Rank::new(7, false), Instant::from_millis(5), RangeId(1), &run("b"));
        check(&mut ready, 9, |_| true, &["b"]);
    }
}
