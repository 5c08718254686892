//! Whether what the store says contradicts the copy: the pure half of the comparison.
//!
//! One rule decides everything. A read shows the store at its revision. A copy that has delivered
//! that revision must show the same, or something later: a version from after the read, or nothing,
//! if the key was deleted since. So an older version, and one that should be gone, are certain at
//! once; a key that the copy does not have is only a suspicion, until a second read finds it as it
//! was. Comparing both sides without waiting for the revision would suspect every key that changes.
//!
//! Keys that only the copy has (ghosts) cannot be met on a walk over the store's keys. A page of
//! the store's names has a first and a last; whatever the copy has of that range in between must be
//! on the page. The copy is ordered by name and not by range, so finding these costs a walk over
//! all of its names: in short looks, and only for a range of which it counts too many.

use std::collections::BTreeSet;
use std::ops::Bound;

use tocktower_core::hash::RangeCount;
use tocktower_core::ids::{Revision, TaskName};
use tocktower_core::task::Placement;

use super::plan::{Held, Page, Place};
use crate::catalog::Tasks;

/// The key of a task, by what it is made of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TaskKey {
    pub placement: Placement,
    pub name: TaskName,
}

/// The version that the copy has under that very key: a task that was moved has another.
pub fn copied(tasks: &Tasks, key: &TaskKey) -> Option<Revision> {
    let stored = tasks.get(&key.name).filter(|stored| *stored.placement == key.placement);
    stored.map(|stored| stored.mod_revision)
}

/// Whether a copy that has delivered `at` contradicts what the store held at `at`.
pub fn contradicts(copied: Option<Revision>, stored: Option<Revision>, at: Revision) -> bool {
    copied != stored && copied.is_none_or(|copied| copied <= at)
}

/// The keys of a page that the copy contradicts, those that are certain first: what was deleted
/// since must not take their place.
pub fn suspects(tasks: &Tasks, page: &Page) -> Vec<TaskKey> {
    let suspect = |held: &Held| {
        let copied = copied(tasks, &held.key);
        let wrong = contradicts(copied, Some(held.revision), page.at);
        wrong.then(|| (copied.is_none(), held.key.clone()))
    };
    let mut suspects: Vec<(bool, TaskKey)> = page.tasks.iter().filter_map(suspect).collect();
    suspects.sort();
    suspects.into_iter().map(|(_, key)| key).collect()
}

/// A page of the store's names of one range, which the copy's names are held against.
pub struct Sieve {
    place: Place,
    ranges: RangeCount,
    held: BTreeSet<TaskName>,
    /// The last name that the page speaks of; `None`: all that follow.
    last: Option<Vec<u8>>,
    at: Revision,
}

/// Where the next look at the copy begins.
#[derive(PartialEq, Eq, Debug)]
pub enum Next {
    /// In the same page.
    Name(String),
    /// In the next page.
    Page(String),
    /// The copy has no further names.
    Nothing,
}

impl Sieve {
    /// `page` is one of the tasks of `place`, whose keys begin with so many bytes before the name.
    pub fn new(place: Place, ranges: RangeCount, page: Page, before_name: usize) -> Sieve {
        let last = page.more.map(|last| last.get(before_name..).unwrap_or_default().to_vec());
        let held = page.tasks.into_iter().map(|held| held.key.name).collect();
        Sieve { place, ranges, held, last, at: page.at }
    }

    /// A look at up to `most` names from `from` on: those of the range that the page should hold
    /// and does not.
    pub fn look(&self, tasks: &Tasks, from: &str, most: usize) -> (Vec<TaskKey>, Next) {
        let mut ghosts = Vec::new();
        let names = tasks.from(Bound::Included(from));
        for (seen, stored) in names.enumerate() {
            if self.last.as_ref().is_some_and(|last| stored.key.as_bytes() > last.as_slice()) {
                return (ghosts, Next::Page(stored.key.to_owned()));
            }
            if seen == most {
                return (ghosts, Next::Name(stored.key.to_owned()));
            }
            if *stored.placement != self.place.placement || stored.mod_revision > self.at {
                continue;
            }
            let name = stored.name();
            let pooled = self.place.placement.pool().is_some();
            let here = !pooled || self.ranges.range_of(&name) == self.place.range;
            if here && !self.held.contains(&name) {
                ghosts.push(TaskKey { placement: self.place.placement.clone(), name });
            }
        }
        (ghosts, Next::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocktower_core::ids::PoolName;
    use tocktower_proto::convert::StoredTask;

    const ONE: RangeCount = RangeCount::DEFAULT;

    fn pool() -> Placement {
        PoolName::parse("default").unwrap().into()
    }

    fn key(name: &str) -> TaskKey {
        TaskKey { placement: pool(), name: TaskName::parse(name).unwrap() }
    }

    fn copy(tasks: &[(&str, i64)]) -> Tasks {
        let mut copy = Tasks::default();
        for (name, revision) in tasks {
            let name = TaskName::parse(name).unwrap();
            let range = ONE.range_of(&name);
            let (create_revision, mod_revision) = (Revision(1), Revision(*revision));
            let stored = StoredTask { name, placement: pool(), create_revision, mod_revision };
            copy.put(range, &stored, b"");
        }
        copy
    }

    fn page(at: i64, tasks: &[(&str, i64)], more: Option<&str>) -> Page {
        let held =
            |(name, revision): &(&str, i64)| Held { key: key(name), revision: Revision(*revision) };
        let more = more.map(|last| format!("tasks/{last}").into_bytes());
        Page { at: Revision(at), tasks: tasks.iter().map(held).collect(), more }
    }

    #[test]
    fn a_copy_may_show_what_was_read_or_something_later_and_nothing_else() {
        let table = [
            // copied, stored, whether that contradicts a read at revision 10
            (Some(7), Some(7), false),
            (Some(6), Some(7), true),
            (Some(8), Some(7), true),
            (Some(10), None, true),
            (Some(11), Some(7), false),
            (Some(11), None, false),
            (None, Some(7), true),
            (None, None, false),
        ];
        for (copied, stored, expected) in table {
            let found = contradicts(copied.map(Revision), stored.map(Revision), Revision(10));
            assert_eq!(found, expected, "{copied:?} {stored:?}");
        }
    }

    #[test]
    fn what_is_certain_is_suspected_first() {
        let copy = copy(&[("a/same", 3), ("a/old", 3), ("a/newer", 11)]);
        let page = page(10, &[("a/gone", 2), ("a/newer", 5), ("a/old", 4), ("a/same", 3)], None);
        assert_eq!(suspects(&copy, &page), [key("a/old"), key("a/gone")]);
        let elsewhere = PoolName::parse("blue").unwrap().into();
        assert_eq!(copied(&copy, &TaskKey { placement: elsewhere, ..key("a/same") }), None);
    }

    /// Names that share a range of the cluster with this one, in their order.
    fn neighbours(count: usize) -> (Place, Vec<String>) {
        let range = ONE.range_of(&key("a/t000000").name);
        let names = (0..).map(|number| format!("a/t{number:06}"));
        let near = names.filter(|name| ONE.range_of(&key(name).name) == range);
        (Place { placement: pool(), range }, near.take(count).collect())
    }

    #[test]
    fn a_sieve_keeps_what_its_page_should_hold_and_does_not() {
        let (place, near) = neighbours(5);
        let name = |index: usize| near[index].as_str();
        let mut tasks: Vec<(&str, i64)> = near.iter().map(|name| (name.as_str(), 3)).collect();
        // Another range's, and one that was made after the page.
        tasks.extend([("a/t000001", 3), (name(1), 12)]);
        assert_ne!(ONE.range_of(&key("a/t000001").name), place.range);
        let copy = copy(&tasks);
        let sieve = |last: Option<usize>| {
            let page = page(10, &[(name(0), 3), (name(3), 3)], last.map(name));
            Sieve::new(place.clone(), ONE, page, "tasks/".len())
        };
        let all = sieve(None).look(&copy, "", 99);
        assert_eq!(all, (vec![key(name(2)), key(name(4))], Next::Nothing));
        let one_page = sieve(Some(3)).look(&copy, "", 99);
        assert_eq!(one_page, (vec![key(name(2))], Next::Page(name(4).to_owned())));
        // The same in looks at one name each.
        let (mut ghosts, mut from) = (Vec::new(), String::new());
        loop {
            let (found, next) = sieve(Some(3)).look(&copy, &from, 1);
            ghosts.extend(found);
            match next {
                Next::Name(name) => from = name,
                next => break assert_eq!(next, Next::Page(name(4).to_owned())),
            }
        }
        assert_eq!(ghosts, [key(name(2))]);
    }
}
