//! What this coordinator asks agents to report: the union of what its subscribers want to see.
//!
//! Agents send nothing that nobody looks at, and each run event crosses a link once, however many
//! watch it. The union is told again whenever it changes. Beyond a bound of distinct filters it
//! becomes "all": a long list of filters costs an agent more per event than the event.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tocktower_proto::v1;
use tokio::sync::watch;

/// Distinct filters in one interest.
const FILTERS_MAX: usize = 64;

#[derive(Default)]
struct Wanted {
    next: u64,
    filters: BTreeMap<u64, v1::RunFilter>,
}

/// Shared by all links (which send the union) and all subscribers (who make it).
#[derive(Clone)]
pub struct Interests {
    wanted: Arc<Mutex<Wanted>>,
    union: watch::Sender<v1::Interest>,
}

/// As long as it lives, agents report what its filter matches.
pub struct Interested {
    id: u64,
    interests: Interests,
}

impl Default for Interests {
    fn default() -> Interests {
        Interests::new()
    }
}

impl Interests {
    pub fn new() -> Interests {
        let (union, _) = watch::channel(union_of(&BTreeMap::new()));
        Interests { wanted: Arc::default(), union }
    }

    pub fn add(&self, filter: v1::RunFilter) -> Interested {
        let id = self.change(|wanted| {
            wanted.next += 1;
            wanted.filters.insert(wanted.next, filter);
            wanted.next
        });
        Interested { id, interests: self.clone() }
    }

    /// The union as it is, and each time it changes.
    pub fn follow(&self) -> watch::Receiver<v1::Interest> {
        self.union.subscribe()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Wanted) -> T) -> T {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut wanted);
        let union = union_of(&wanted.filters);
        self.union.send_if_modified(|known| {
            let changed = *known != union;
            *known = union;
            changed
        });
        result
    }
}

impl Drop for Interested {
    fn drop(&mut self) {
        self.interests.change(|wanted| wanted.filters.remove(&self.id));
    }
}

fn union_of(filters: &BTreeMap<u64, v1::RunFilter>) -> v1::Interest {
    let all = v1::RunFilter::default();
    let mut distinct: Vec<&v1::RunFilter> = Vec::new();
    for filter in filters.values() {
        if !distinct.contains(&filter) {
            distinct.push(filter);
        }
        if *filter == all || distinct.len() > FILTERS_MAX {
            let kind = v1::interest::Kind::All(v1::InterestAll {});
            return v1::Interest { kind: Some(kind) };
        }
    }
    let kind = match distinct.is_empty() {
        true => v1::interest::Kind::None(v1::InterestNone {}),
        false => v1::interest::Kind::Filter(v1::InterestFilter {
            any_of: distinct.into_iter().cloned().collect(),
        }),
    };
    v1::Interest { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(namespace: &str) -> v1::RunFilter {
        v1::RunFilter { namespace: namespace.to_owned(), ..v1::RunFilter::default() }
    }

    fn kind(interests: &Interests) -> v1::interest::Kind {
        interests.follow().borrow().kind.clone().unwrap()
    }

    #[test]
    fn the_union_grows_and_shrinks_with_those_who_watch() {
        let interests = Interests::new();
        assert_eq!(kind(&interests), v1::interest::Kind::None(v1::InterestNone {}));
        let first = interests.add(filter("a"));
        let twin = interests.add(filter("a"));
        let any_of = vec![filter("a")];
        let only_a = v1::interest::Kind::Filter(v1::InterestFilter { any_of });
        assert_eq!(kind(&interests), only_a);
        let everything = interests.add(v1::RunFilter::default());
        assert_eq!(kind(&interests), v1::interest::Kind::All(v1::InterestAll {}));
        drop((everything, first));
        assert_eq!(kind(&interests), only_a);
        drop(twin);
        assert_eq!(kind(&interests), v1::interest::Kind::None(v1::InterestNone {}));
    }

    #[test]
    fn too_many_filters_become_all() {
        let interests = Interests::new();
        let held: Vec<Interested> =
            (0..=FILTERS_MAX).map(|n| interests.add(filter(&format!("ns{n}")))).collect();
        assert_eq!(kind(&interests), v1::interest::Kind::All(v1::InterestAll {}));
        drop(held);
    }
}
