//! Lists that are asked for, so many at a time: after a restart there is one for each range, and
//! the first range is to go on while the others are read, not once all of them are.

use std::collections::{BTreeMap, VecDeque};

use tocktower_cluster::port::ListRequest;
use tocktower_core::ids::Revision;

use super::{PortCall, Target};

/// Lists under way: more do not make etcd faster, and what is asked of it meanwhile waits behind
/// them; fewer make each wait for the way there and back.
pub(super) const LISTS_MAX: usize = 32;

#[derive(Default)]
pub(super) struct Lists {
    under_way: BTreeMap<Target, UnderWay>,
    waiting: VecDeque<(Target, ListRequest)>,
    next: u64,
}

struct UnderWay {
    /// Tells it from others of the target.
    number: u64,
    /// The highest revision that was seen when it was sent. `None`: a later page, which is read at
    /// the revision of the first, however old that is.
    seen: Option<Revision>,
}

impl Lists {
    /// A follower asks for a list, or for its next page, in place of what it asked for before.
    pub fn ask(&mut self, target: Target, request: ListRequest) {
        self.forget(target);
        // Who else is there is to be known before ranges are, and a list that has begun to end.
        if request.at.is_some() || target == Target::Shared {
            self.waiting.push_front((target, request));
        } else {
            self.waiting.push_back((target, request));
        }
    }

    /// Nobody waits for a list of this target any more.
    pub fn forget(&mut self, target: Target) {
        self.under_way.remove(&target);
        self.waiting.retain(|(waiting, _)| *waiting != target);
    }

    /// What is to be sent now.
    pub fn next(&mut self, seen: Revision) -> Option<(PortCall, ListRequest)> {
        if self.under_way.len() >= LISTS_MAX {
            return None;
        }
        let (target, request) = self.waiting.pop_front()?;
        self.next += 1;
        let number = self.next;
        let seen = request.at.is_none().then_some(seen);
        self.under_way.insert(target, UnderWay { number, seen });
        Some((PortCall::List { target, number }, request))
    }

    /// A list is answered: the revision that had been seen when it was sent. `None`: it is of an
    /// earlier follower of the target, and may be of another range of keys.
    pub fn answered(&mut self, target: Target, number: u64) -> Option<Option<Revision>> {
        let newest = self.under_way.get(&target).filter(|newest| newest.number == number)?;
        let seen = newest.seen;
        self.under_way.remove(&target);
        Some(seen)
    }
}

#[cfg(test)]
mod tests {
    use tocktower_cluster::port::KeyRange;
    use tocktower_core::ids::RangeId;

    use super::*;

    fn list(at: Option<i64>) -> ListRequest {
        let (range, at) = (KeyRange::one(b"key"), at.map(Revision));
        ListRequest { range, limit: 10, at, keys_only: false }
    }

    fn target(range: usize) -> Target {
        Target::Range(RangeId(u16::try_from(range).expect("few")))
    }

    /// The targets whose lists are sent now, with their numbers.
    fn sent(lists: &mut Lists) -> Vec<(Target, u64)> {
        let sent = std::iter::from_fn(|| lists.next(Revision(7)));
        sent.map(|(call, _)| match call {
            PortCall::List { target, number } => (target, number),
            other => panic!("{other:?}"),
        })
        .collect()
    }

    #[test]
    fn so_many_are_under_way_and_the_others_follow_in_order() {
        let mut lists = Lists::default();
        (0..100).for_each(|range| lists.ask(target(range), list(None)));
        let mut seen = sent(&mut lists);
        assert_eq!(seen.len(), LISTS_MAX);
        while seen.len() < 100 {
            let (oldest, number) = seen[seen.len() - LISTS_MAX];
            assert_eq!(lists.answered(oldest, number), Some(Some(Revision(7))));
            let next = sent(&mut lists);
            assert_eq!(next.len(), 1, "one for one");
            seen.extend(next);
        }
        let order: Vec<Target> = seen.iter().map(|(target, _)| *target).collect();
        assert_eq!(order, (0..100).map(target).collect::<Vec<_>>());
    }

    #[test]
    fn a_page_goes_before_lists_that_have_not_begun() {
        let mut lists = Lists::default();
        (0..50).for_each(|range| lists.ask(target(range), list(None)));
        let (first, number) = sent(&mut lists)[0];
        lists.answered(first, number);
        lists.ask(first, list(Some(5)));
        let page = sent(&mut lists);
        assert_eq!((page.len(), page[0].0), (1, first));
        assert_eq!(lists.answered(first, page[0].1), Some(None), "it is read at an old revision");
    }

    #[test]
    fn what_was_asked_for_before_counts_no_more_and_holds_no_place() {
        let mut lists = Lists::default();
        lists.ask(target(0), list(None));
        let before = sent(&mut lists)[0].1;
        lists.ask(target(0), list(None));
        let after = sent(&mut lists)[0].1;
        assert_eq!(lists.answered(target(0), before), None);
        assert_eq!(lists.answered(target(0), after), Some(Some(Revision(7))));
        // One that waits is forgotten with its follower.
        (0..40).for_each(|range| lists.ask(target(range), list(None)));
        assert_eq!(sent(&mut lists).len(), LISTS_MAX);
        (0..40).for_each(|range| lists.forget(target(range)));
        assert_eq!(sent(&mut lists), []);
        lists.ask(target(50), list(None));
        assert_eq!(sent(&mut lists).len(), 1);
    }
}
