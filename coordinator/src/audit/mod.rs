//! The auditor: every coordinator compares what should have been settled with what was.
//!
//! It trusts no agent's word on itself. What should have been settled follows from the tasks and
//! the time; what was, from the marks of the ledgers. A range that falls behind is shown with the
//! age of its oldest run that is not decided, and one that stalls is told in the log, once, with
//! what a person should do (`rule`).
//!
//! A million tasks are not asked each second when they are next due. The catalog keeps one moment a
//! range, lowered by each version of a task that comes in: nothing of the range is due before it.
//! A range whose marks follow, or of which nothing is due, is done with after a glance at that.
//! For the others the tasks are walked through in short looks, those of other ranges passed over by
//! the hash of their names alone, and the moment is found anew; between walks there is a rest of
//! ten times what the last one took. Not taken: an index of dues in each coordinator, which would
//! cost a tenth more memory for a question that is asked of few ranges.
//!
//! The copy of the shared state is whole up to a moment, which may be seconds ago: ranges are
//! judged as of that. A copy that is stale, or a clock that most agents disagree with, says nothing
//! of ranges: then nobody is judged, and for a while after.

mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tocktower_core::ids::{PoolName, RangeId};
use tocktower_core::time::{Instant, Mono, Wall};
use tokio::time::{MissedTickBehavior, interval};

pub use rule::Behind;
use rule::{Key, News, STALLED_AFTER, Told};

use crate::catalog::{Catalog, Copied};
use crate::clock;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::stop::Stop;
use crate::timeline::Timeline;

/// How often all ranges are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Tasks in one look at the catalog.
const LOOK_TASKS: usize = 1_000;
/// The rest after a walk, by the time that it took.
const REST: u32 = 10;

/// What the auditor has found, for those who show it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Findings {
    behind: Arc<Mutex<BTreeMap<Key, Found>>>,
}

/// How a range is behind.
#[derive(Clone, Debug)]
pub struct Found {
    pub behind: Behind,
    /// It is told of in the log, as stalled.
    pub told: bool,
}

impl Findings {
    pub fn of(&self, pool: &PoolName, range: RangeId) -> Option<Found> {
        self.table().get(&(pool.clone(), range)).cloned()
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Key, Found>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Auditor {
    catalog: Catalog,
    links: Links,
    metrics: Arc<Metrics>,
    findings: Findings,
    told: Told,
    /// Since when the copy is not stale and the clock not doubted.
    sees_since: Option<Mono>,
    /// No walk before this.
    rests_until: Mono,
}

impl Auditor {
    pub fn new(
        catalog: Catalog,
        links: Links,
        metrics: Arc<Metrics>,
        findings: Findings,
    ) -> Auditor {
        let (told, sees_since, rests_until) = (Told::default(), None, Mono::default());
        Auditor { catalog, links, metrics, findings, told, sees_since, rests_until }
    }

    /// Runs until it is stopped.
    pub async fn audit(mut self, mut stop: Stop) {
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.stopped() => return,
            }
            tokio::select! {
                () = self.look() => {}
                () = stop.stopped() => return,
            }
        }
    }

    async fn look(&mut self) {
        let Some(now) = self.sees() else { return };
        let doubts = self.doubts(now);
        let rested = clock::mono() >= self.rests_until;
        let found = match doubts.is_empty() || !rested {
            true => None,
            false => Some(self.walk(&doubts).await),
        };
        let behind = self.judged(now, &doubts, found.as_ref());
        self.metrics.audited(now, &behind);
        for news in self.told.news(now, &behind) {
            self.tell(&news);
        }
        let told = |(key, behind): (Key, Behind)| {
            let told = self.told.has(&key);
            (key, Found { behind, told })
        };
        *self.findings.table() = behind.into_iter().map(told).collect();
    }

    /// The moment up to which the copy is whole, if it can be judged by and could be for long
    /// enough. Marks that have not come yet are no marks that stand still.
    fn sees(&mut self) -> Option<Wall> {
        let now = clock::now();
        let age = self.catalog.age().filter(|_| !self.catalog.stale());
        let Some(age) = age.filter(|_| !self.links.doubt_the_time()) else {
            self.sees_since = None;
            return None;
        };
        let since = *self.sees_since.get_or_insert(now.mono);
        (now.mono.since(since) >= STALLED_AFTER).then(|| now.wall.minus(age))
    }

    fn doubts(&self, now: Wall) -> BTreeSet<Key> {
        self.catalog.look(|state| {
            let doubtful = |(key, soonest): &(&Key, &Instant)| {
                rule::doubtful(now, state.through(&key.0, key.1), **soonest)
            };
            state.soonest.iter().filter(doubtful).map(|(key, _)| key.clone()).collect()
        })
    }

    /// What is first due in each of these ranges after its marks.
    async fn walk(&mut self, ranges: &BTreeSet<Key>) -> BTreeMap<Key, Instant> {
        let begun = clock::mono();
        self.catalog.recount(ranges);
        let mut found: BTreeMap<Key, Instant> = BTreeMap::new();
        let mut from = None;
        loop {
            let (copied, last) = self.stretch(ranges, from.as_deref());
            for (key, through, copied) in copied {
                let due = copied
                    .read()
                    .ok()
                    .and_then(|task| Timeline::new(&task).first_due_after(through));
                if let Some(due) = due {
                    let soonest = found.entry(key).or_insert(due);
                    *soonest = due.min(*soonest);
                }
            }
            match last {
                Some(last) => from = Some(last),
                None => break,
            }
            tokio::task::yield_now().await;
        }
        self.catalog.counted(found.iter().map(|(key, due)| (key.clone(), *due)));
        let ended = clock::mono();
        self.rests_until = ended.plus(ended.since(begun) * REST);
        found
    }

    /// The tasks of these ranges in one short look, and where the next one begins.
    fn stretch(
        &self,
        ranges: &BTreeSet<Key>,
        from: Option<&str>,
    ) -> (Vec<(Key, Instant, Copied)>, Option<String>) {
        let count = self.catalog.keys().ranges();
        let numbers: BTreeSet<RangeId> = ranges.iter().map(|(_, range)| *range).collect();
        self.catalog.look(|state| {
            let (mut copied, mut last) = (Vec::new(), None);
            let from = from.map_or(Bound::Unbounded, Bound::Excluded);
            for (seen, stored) in state.tasks.from(from).enumerate() {
                if seen == LOOK_TASKS {
                    return (copied, last);
                }
                let range = count.range_of_text(stored.key);
                if let Some(pool) = stored.placement.pool().filter(|_| numbers.contains(&range)) {
                    let key = (pool.clone(), range);
                    if ranges.contains(&key) {
                        let through = state.through(&key.0, range);
                        copied.push((key, through, stored.copied()));
                    }
                }
                last = Some(stored.key.to_owned());
            }
            (copied, None)
        })
    }

    /// Of ranges in doubt, those that are behind. Without a walk what was found before counts.
    fn judged(
        &self,
        now: Wall,
        doubts: &BTreeSet<Key>,
        found: Option<&BTreeMap<Key, Instant>>,
    ) -> BTreeMap<Key, Behind> {
        let before = self.findings.table().clone();
        let mono = clock::mono();
        self.catalog.look(|state| {
            let judge = |key: &Key| {
                let due = match found {
                    Some(found) => found.get(key).copied(),
                    None => before.get(key).map(|one| one.behind.due),
                };
                let holder = state.claims.get(key).map(|claim| claim.agent.clone());
                let quiet = state.heard.get(key).map(|heard| mono.since(*heard));
                let through = state.through(&key.0, key.1);
                Some((key.clone(), rule::behind(now, through, due, holder, quiet)?))
            };
            doubts.iter().filter_map(judge).collect()
        })
    }

    fn tell(&self, news: &News) {
        let width = self.catalog.keys().ranges().hex_width();
        let names = |named: &[RangeId]| {
            let hex: Vec<String> = named.iter().map(|r| format!("{:0width$x}", r.0)).collect();
            hex.join(" ")
        };
        match news {
            News::Stalled { pool, cause, holder, ranges, named, oldest } => {
                let holder = holder.as_ref().map(ToString::to_string).unwrap_or_default();
                let (cause, advice, named) = (cause.as_str(), cause.advice(), names(named));
                let oldest_s = oldest.as_secs();
                tracing::error!(
                    %pool, cause, holder, ranges, %named, oldest_s,
                    "ranges are stalled, what is due in them does not start; {advice}"
                );
            }
            News::Moving { pool, ranges, named, left } => {
                let named = names(named);
                tracing::info!(%pool, ranges, %named, left, "ranges that were stalled move again");
            }
        }
    }
}
