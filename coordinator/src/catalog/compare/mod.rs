//! Compares the catalog with the store in the background, since a watch can lose events without a
//! word: etcd 3.4 skips those of a watcher that is behind a compaction (ledger.md, W4), and the
//! beats that prove the copy come through all the same.
//!
//! Round after round all keys of tasks go by, a page of keys and revisions a second, so that it
//! costs etcd next to nothing whatever the size of the cluster. Both sides move on meanwhile:
//! `plan` says what is read, `judge` what contradicts the copy, and that is only a suspicion until
//! two reads of the one key, with a look at the copy between them, agree against it. Then the copy
//! has certainly lost something, nobody knows what else, and the owner lists everything again.
//!
//! Not taken: mending the one key, which would leave the other losses of the same gap in place; and
//! listing everything every hour, which costs etcd more and tells nobody that it loses events.
//!
//! A difference that a list does not mend (somebody has written two keys for one name) would lead
//! to one list after the other: the rests grow from finding to finding, up to an hour.

mod judge;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tocktower_cluster::keys::Key;
use tocktower_cluster::port::{Answer, KeyRange, ListRequest, Port, Request};
use tocktower_core::ids::Revision;
use tocktower_core::task::Placement;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use self::judge::{Next, Sieve, TaskKey, contradicts, copied, suspects};
use self::plan::{Page, Pages, Part, Place};
use super::{Catalog, Note, Standing};
use crate::metrics::Metrics;
use crate::stop::Stop;

/// A list that takes longer is given up and asked for again.
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// What was read must have come by the watch after this long: two beats and some.
const DELIVERED_WITHIN: Duration = Duration::from_secs(5);
/// Names of the copy in one look.
const LOOK_NAMES: usize = 1_000;
/// Suspicions of one page that are looked into; a loss that is left out is met in the next round.
const SUSPECTS_MAX: usize = 8;
/// Ranges that wait to be searched for ghosts; one that is left out is met in the next round.
const SEARCHES_MAX: usize = 1_024;
/// The longest rest between two rounds that have found something.
const REST_MAX: Duration = Duration::from_secs(3_600);

/// How fast the comparison goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Keys of a page.
    pub page_keys: usize,
    /// Before each page.
    pub page: Duration,
    /// Before each look at the copy's names while ghosts are searched for: a thousand looks at a
    /// million tasks.
    pub look: Duration,
    /// Before each round.
    pub rest: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        let (page, look) = (Duration::from_secs(1), Duration::from_millis(10));
        Pace { page_keys: 1_000, page, look, rest: Duration::from_secs(30) }
    }
}

impl Pace {
    /// The rest before a round, after so many in a row that have found something.
    fn rest(&self, found: u32) -> Duration {
        self.rest.saturating_mul(2_u32.saturating_pow(found)).min(REST_MAX.max(self.rest))
    }
}

/// What the copy has certainly lost.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wrong {
    key: TaskKey,
    stored: Option<Revision>,
    copied: Option<Revision>,
}

/// The task that compares.
pub struct Comparer {
    catalog: Catalog,
    port: Arc<dyn Port>,
    notes: mpsc::Sender<Note>,
    metrics: Arc<Metrics>,
    pace: Pace,
    /// Ranges of which the copy counted too many.
    searches: VecDeque<Place>,
}

impl Comparer {
    pub fn new(
        catalog: Catalog,
        port: Arc<dyn Port>,
        notes: mpsc::Sender<Note>,
        metrics: Arc<Metrics>,
        pace: Pace,
    ) -> Comparer {
        Comparer { catalog, port, notes, metrics, pace, searches: VecDeque::new() }
    }

    /// Runs until it is stopped.
    pub async fn compare(mut self, mut stop: Stop) {
        tokio::select! {
            () = self.rounds() => {}
            () = stop.stopped() => {}
        }
    }

    async fn rounds(&mut self) {
        let mut found = 0;
        loop {
            sleep(self.pace.rest(found)).await;
            match self.round().await {
                Ok(()) => {
                    found = 0;
                    self.metrics.compared();
                }
                Err(wrong) => {
                    found += 1;
                    self.mend(&wrong).await;
                }
            }
        }
    }

    /// All keys of tasks, once. Ends at the first that is certainly wrong.
    async fn round(&mut self) -> Result<(), Wrong> {
        let keys = self.catalog.keys().clone();
        for mut part in self.parts() {
            loop {
                let page = self.page(&part.pages).await;
                let suspects = self.catalog.look(|state| suspects(&state.tasks, &page));
                self.confirm(suspects).await?;
                if !part.pass(&keys, &page) {
                    break;
                }
            }
            for place in self.catalog.look(|state| part.in_excess(&state.tasks)) {
                if self.searches.len() < SEARCHES_MAX && !self.searches.contains(&place) {
                    self.searches.push_back(place);
                }
            }
            // One a part, however many wait: under constant change a count can be off for nothing.
            if let Some(place) = self.searches.pop_front() {
                self.search(&place).await?;
            }
        }
        Ok(())
    }

    fn parts(&self) -> Vec<Part> {
        let counts = self.catalog.look(|state| {
            let ranges = state.tasks.per_range();
            let owned = |(placement, range, count): (&Placement, _, _)| {
                (Place { placement: placement.clone(), range }, count)
            };
            ranges.map(owned).collect()
        });
        Part::all(self.catalog.keys(), counts, self.pace.page_keys)
    }

    /// Looks for tasks of a range that only the copy has.
    async fn search(&self, place: &Place) -> Result<(), Wrong> {
        let keys = self.catalog.keys();
        let range = keys.tasks(&place.placement, place.range);
        let before_name = range.start.len();
        let (mut pages, mut from) = (Pages::of(range), String::new());
        loop {
            let page = self.page(&pages).await;
            let more = pages.pass(&page);
            let sieve = Sieve::new(place.clone(), keys.ranges(), page, before_name);
            let next = loop {
                sleep(self.pace.look).await;
                let look = |tasks: &_| sieve.look(tasks, &from, LOOK_NAMES);
                let (ghosts, next) = self.catalog.look(|state| look(&state.tasks));
                self.confirm(ghosts).await?;
                match next {
                    Next::Name(name) => from = name,
                    next => break next,
                }
            };
            match next {
                Next::Page(name) if more => from = name,
                _ => return Ok(()),
            }
        }
    }

    /// The next page, once the copy has delivered what it shows.
    async fn page(&self, pages: &Pages) -> Page {
        loop {
            sleep(self.pace.page).await;
            self.fresh().await;
            let page = self.list(pages.request(self.pace.page_keys)).await;
            if let Some(page) = page
                && self.delivered(page.at).await
            {
                return page;
            }
        }
    }

    async fn confirm(&self, suspects: Vec<TaskKey>) -> Result<(), Wrong> {
        for key in suspects.into_iter().take(SUSPECTS_MAX) {
            if let Some(wrong) = self.convict(key).await {
                return Err(wrong);
            }
        }
        Ok(())
    }

    /// The store says the same before and after a look at the copy, which contradicts it. Without
    /// an answer, or a delivery in time, the suspicion is dropped: a loss is met again.
    async fn convict(&self, key: TaskKey) -> Option<Wrong> {
        let (stored, at) = self.stored(&key).await?;
        if !self.delivered(at).await {
            return None;
        }
        let copied = self.catalog.look(|state| copied(&state.tasks, &key));
        if !contradicts(copied, stored, at) {
            return None;
        }
        let (still, _) = self.stored(&key).await?;
        (still == stored).then_some(Wrong { key, stored, copied })
    }

    /// The version of one key, and the revision at which it was read.
    async fn stored(&self, key: &TaskKey) -> Option<(Option<Revision>, Revision)> {
        let key = Key::Task(key.placement.clone(), key.name.clone());
        let range = KeyRange::one(&self.catalog.keys().build(&key));
        let page = self.list(ListRequest { range, limit: 1, at: None, keys_only: true }).await?;
        Some((page.tasks.first().map(|held| held.revision), page.at))
    }

    /// `None`: no answer. The keeper says so when the store is in trouble.
    async fn list(&self, request: ListRequest) -> Option<Page> {
        match timeout(CALL_WITHIN, self.port.call(Request::List(request))).await {
            Ok(Ok(Answer::List { revision, items, more })) => {
                Some(Page::read(self.catalog.keys(), revision, &items, more))
            }
            Ok(other) => {
                tracing::debug!(?other, "no page to compare with");
                None
            }
            Err(_) => None,
        }
    }

    /// Returns once the copy is proved by a beat of late: while the store is in trouble, or lists
    /// go on, there is nothing to compare.
    async fn fresh(&self) {
        // An error would mean that the catalog is gone, which this task holds.
        let _ = self.catalog.follow_standing().wait_for(Standing::fresh).await;
    }

    /// Whether the copy delivers that revision in time.
    async fn delivered(&self, at: Revision) -> bool {
        let mut standing = self.catalog.follow_standing();
        let delivered = standing.wait_for(|standing| standing.delivered >= at);
        matches!(timeout(DELIVERED_WITHIN, delivered).await, Ok(Ok(_)))
    }

    /// Has everything listed again, and returns when that is done.
    async fn mend(&self, wrong: &Wrong) {
        let Wrong { key: TaskKey { placement, name }, stored, copied } = wrong;
        let revision = |at: &Option<Revision>| at.map_or("none".to_owned(), |at| at.0.to_string());
        tracing::error!(
            %placement,
            task = %name,
            stored = revision(stored),
            copied = revision(copied),
            "this coordinator had missed a change of a task: its copy is not what is stored. It \
             lists everything again by itself, and nothing needs to be done. Should it happen \
             again, this version of etcd skips events of watches: see W4 in docs/ledger.md"
        );
        self.metrics.wrong();
        let mut standing = self.catalog.follow_standing();
        let lists = standing.borrow().lists;
        // The owner stops when this task does; who is gone needs no note and makes no list.
        let _ = self.notes.send(Note::Wrong).await;
        let _ = standing.wait_for(|standing| standing.lists > lists).await;
    }
}
