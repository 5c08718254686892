//! The revisions since the store was opened, in memory: what watches read, and what a list of an
//! earlier revision is rolled back with.
//!
//! One writer, the owner thread, appends whole revisions after they are on disk. Readers pull from
//! it by revision, each at its own pace, so that a slow one never holds the owner back. The history
//! is bounded: a reader that falls behind its first revision is told so (`Compacted`) and lists
//! again. Nothing is ever skipped without a word.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tocktower_core::ids::Revision;
use tokio::sync::watch;

use crate::port::{Event, KeyRange, KeyValue, PortError};

/// Events kept: some seconds of the highest rate, for readers that were held up.
const EVENTS_MAX: usize = 100_000;
/// Bytes kept, of keys and values, old and new.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Memory of an event besides its bytes, roughly.
const EVENT_OVERHEAD_BYTES: usize = 200;

/// One write of one key, with what it replaced.
pub(super) struct Change {
    pub event: Event,
    pub previous: Option<KeyValue>,
}

/// One revision, whole.
pub(super) struct Committed {
    pub revision: Revision,
    changes: Vec<Change>,
    /// Indices of `changes`, sorted by key: each watcher finds its part by bisection.
    by_key: Vec<usize>,
    bytes: usize,
}

impl Committed {
    pub(super) fn new(revision: Revision, changes: Vec<Change>) -> Committed {
        let mut by_key: Vec<usize> = (0..changes.len()).collect();
        by_key.sort_by(|&a, &b| changes[a].event.key().cmp(changes[b].event.key()));
        let bytes = changes.iter().map(bytes).sum();
        Committed { revision, changes, by_key, bytes }
    }

    /// The events of `range`, in the order in which they happened.
    pub(super) fn events(&self, range: &KeyRange) -> Vec<Event> {
        let key = |&index: &usize| self.changes[index].event.key();
        let first = self.by_key.partition_point(|index| key(index) < range.start.as_slice());
        let inside = self.by_key[first..].iter().take_while(|index| range.contains(key(index)));
        let mut indices: Vec<usize> = inside.copied().collect();
        indices.sort_unstable();
        indices.into_iter().map(|index| self.changes[index].event.clone()).collect()
    }

    /// Notes what the keys of `range` were before this revision.
    pub(super) fn undo(&self, range: &KeyRange, past: &mut Past) {
        for change in self.changes.iter().rev() {
            let key = change.event.key();
            if range.contains(key) {
                past.insert(key.to_vec(), change.previous.clone());
            }
        }
    }
}

/// Keys that were different at an earlier revision, and what they were; `None`: absent.
pub(super) type Past = BTreeMap<Vec<u8>, Option<KeyValue>>;

fn bytes(change: &Change) -> usize {
    let item = |item: &KeyValue| item.key.len() + item.value.len();
    let event = match &change.event {
        Event::Put(put) => item(put),
        Event::Delete { key, .. } => key.len(),
    };
    event + change.previous.as_ref().map_or(0, item) + EVENT_OVERHEAD_BYTES
}

struct Kept {
    revisions: VecDeque<Arc<Committed>>,
    /// Every revision from here on is kept; the next one to come, if there is none yet.
    first: Revision,
    events: usize,
    bytes: usize,
}

pub(super) struct History {
    kept: Mutex<Kept>,
    /// The newest revision on disk; `None` once the store is closed.
    newest: watch::Sender<Option<Revision>>,
}

impl History {
    /// A history that begins after `revision`.
    pub(super) fn new(revision: Revision) -> History {
        let kept = Kept { revisions: VecDeque::new(), first: revision.next(), events: 0, bytes: 0 };
        History { kept: Mutex::new(kept), newest: watch::Sender::new(Some(revision)) }
    }

    pub(super) fn push(&self, committed: Vec<Committed>) {
        let Some(newest) = committed.last().map(|last| last.revision) else {
            return;
        };
        self.lock().push(committed);
        self.newest.send_replace(Some(newest));
    }

    /// Forgets what was before `first`.
    pub(super) fn compact(&self, first: Revision) {
        let mut kept = self.lock();
        while kept.first < first && kept.drop_first() {}
    }

    /// Ends every watcher.
    pub(super) fn close(&self) {
        self.newest.send_replace(None);
    }

    pub(super) fn newest(&self) -> watch::Receiver<Option<Revision>> {
        self.newest.subscribe()
    }

    /// Up to `count` revisions from `from` on; or the first revision that is left.
    pub(super) fn since(
        &self,
        from: Revision,
        count: usize,
    ) -> Result<Vec<Arc<Committed>>, Revision> {
        let kept = self.lock();
        if from < kept.first {
            return Err(kept.first);
        }
        let skip = usize::try_from(from.0 - kept.first.0).unwrap_or(usize::MAX);
        Ok(kept.revisions.iter().skip(skip).take(count).cloned().collect())
    }

    /// Notes in `past` what the keys of `range` were at revision `at`.
    pub(super) fn undo(
        &self,
        range: &KeyRange,
        at: Revision,
        past: &mut Past,
    ) -> Result<(), PortError> {
        let kept = self.lock();
        if at.next() < kept.first {
            let oldest = Revision(kept.first.0 - 1);
            return Err(PortError::Compacted { asked: at, oldest });
        }
        let later = kept.revisions.iter().rev().take_while(|one| one.revision > at);
        later.for_each(|one| one.undo(range, past));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing that runs under the lock can leave it half done.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, committed: Vec<Committed>) {
        for one in committed {
            self.events += one.changes.len();
            self.bytes += one.bytes;
            self.revisions.push_back(Arc::new(one));
        }
        while self.events > EVENTS_MAX || self.bytes > BYTES_MAX {
            // The newest revision stays whatever its size: its readers have had no chance yet.
            if self.revisions.len() <= 1 || !self.drop_first() {
                break;
            }
        }
    }

    fn drop_first(&mut self) -> bool {
        let Some(dropped) = self.revisions.pop_front() else {
            return false;
        };
        self.first = dropped.revision.next();
        self.events -= dropped.changes.len();
        self.bytes -= dropped.bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(revision: i64, keys: &[&str]) -> Committed {
        let change = |key: &&str| Change {
            event: Event::Delete { key: key.as_bytes().to_vec(), mod_revision: Revision(revision) },
            previous: None,
        };
        Committed::new(Revision(revision), keys.iter().map(change).collect())
    }

    #[test]
    fn events_of_a_range_keep_their_order() {
        let revision = committed(2, &["b", "c", "a", "b"]);
        let keys = |start: &[u8], end: &[u8]| -> Vec<Vec<u8>> {
            let range = KeyRange { start: start.to_vec(), end: end.to_vec() };
            revision.events(&range).iter().map(|event| event.key().to_vec()).collect()
        };
        assert_eq!(keys(b"a", b"c"), [b"b", b"a", b"b"]);
        assert_eq!(keys(b"c", b"d"), [b"c"]);
        assert!(keys(b"d", b"e").is_empty());
    }

    #[test]
    fn the_history_is_bounded_and_says_where_it_begins() {
        let history = History::new(Revision(1));
        for revision in 2..=(EVENTS_MAX as i64 + 11) {
            history.push(vec![committed(revision, &["a"])]);
        }
        assert_eq!(history.since(Revision(2), 1).map(|_| ()), Err(Revision(12)));
        let kept = history.since(Revision(12), usize::MAX).unwrap();
        assert_eq!(kept.len(), EVENTS_MAX);
        assert_eq!(kept[0].revision, Revision(12));
        history.compact(Revision(20));
        assert_eq!(history.since(Revision(19), 1).map(|_| ()), Err(Revision(20)));
    }
}
