//! Run events on their way to coordinators: who wants which, and what waits for a slow one.
//!
//! The agent's loop reports every change of every run, and mostly nobody looks. So `report` first
//! reads one atomic and is done. Otherwise the record is shared, not copied, among the links that
//! want it, each with a queue of its own that forgets the oldest when it is full: who looks at runs
//! wants to know how they are now, and is told how many changes it missed. Turning records into
//! messages is left to the link's task, off the loop.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tocktower_core::ids::RunId;
use tocktower_core::run::{AttemptEnd, RunRecord};
use tocktower_proto::v1;
use tokio::sync::Notify;

use super::limits::{BATCH_BYTES_MAX, BATCH_RUNS_MAX, EVENTS_BYTES_MAX, EVENTS_MAX, FILTERS_MAX};
use super::metrics::LinkMetrics;

/// The feeds of all links.
pub(super) struct Feeds {
    metrics: Arc<LinkMetrics>,
    feeds: Mutex<Vec<Arc<Feed>>>,
}

impl Feeds {
    pub(super) fn new(metrics: Arc<LinkMetrics>) -> Arc<Feeds> {
        Arc::new(Feeds { metrics, feeds: Mutex::default() })
    }

    /// Whether any coordinator wants run events.
    pub(super) fn wanted(&self) -> bool {
        self.interested().load(Ordering::Relaxed) > 0
    }

    /// Says whether anybody wanted it.
    pub(super) fn report(&self, run: &Arc<RunRecord>) -> bool {
        let mut wanted = false;
        for feed in self.lock().iter() {
            if let Some(missed) = feed.offer(run) {
                wanted = true;
                LinkMetrics::add(&self.metrics.events_missed, missed);
            }
        }
        wanted
    }

    /// Whether anybody wants events of this run.
    pub(super) fn want(&self, run: &RunId) -> bool {
        self.lock().iter().any(|feed| feed.lock().wanted.has(run))
    }

    /// Nobody will be told how this run goes on: noted for those who want to know.
    pub(super) fn leave_untold(&self, run: &RunId) {
        for feed in self.lock().iter() {
            let mut waiting = feed.lock();
            if waiting.wanted.has(run) {
                waiting.untold += 1;
                LinkMetrics::one(&self.metrics.events_missed);
            }
        }
    }

    /// What was left untold counts as missed from now on, and is told as that. Says whether there
    /// was any.
    pub(super) fn tell_untold(&self) -> bool {
        let mut any = false;
        for feed in self.lock().iter() {
            let mut waiting = feed.lock();
            let untold = std::mem::take(&mut waiting.untold);
            waiting.missed += untold;
            drop(waiting);
            if untold > 0 {
                any = true;
                feed.filled.notify_one();
            }
        }
        any
    }

    /// A feed for one link; it wants nothing yet.
    pub(super) fn subscribe(self: &Arc<Feeds>) -> Subscription {
        let feed = Arc::new(Feed { waiting: Mutex::default(), filled: Notify::new() });
        self.lock().push(Arc::clone(&feed));
        Subscription { feeds: Arc::clone(self), feed }
    }

    fn interested(&self) -> &AtomicU64 {
        &self.metrics.interested
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one coordinator wants to hear of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Wanted {
    #[default]
    Nothing,
    Everything,
    /// Runs whose namespace and task are these; `None` stands for all.
    Named(Vec<(Option<String>, Option<String>)>),
}

impl Wanted {
    /// Labels belong to tasks and are not known here: such filters match more than they say, and
    /// the coordinator, which knows them, leaves the rest out. So does a kind that is not known.
    pub(super) fn of(interest: v1::Interest) -> Wanted {
        use v1::interest::Kind;
        let filter = match interest.kind {
            Some(Kind::None(_)) => return Wanted::Nothing,
            Some(Kind::Filter(filter)) if filter.any_of.len() <= FILTERS_MAX => filter,
            Some(Kind::All(_) | Kind::Filter(_)) | None => return Wanted::Everything,
        };
        let given = |text: String| Some(text).filter(|text| !text.is_empty() && text != "-");
        let names = filter.any_of.into_iter();
        let names: BTreeSet<_> =
            names.map(|filter| (given(filter.namespace), given(filter.task))).collect();
        match (names.is_empty(), names.contains(&(None, None))) {
            (true, _) => Wanted::Nothing,
            (false, true) => Wanted::Everything,
            (false, false) => Wanted::Named(names.into_iter().collect()),
        }
    }

    fn has(&self, run: &RunId) -> bool {
        let is = |name: &Option<String>, of: &str| name.as_ref().is_none_or(|name| name == of);
        match self {
            Wanted::Nothing => false,
            Wanted::Everything => true,
            Wanted::Named(names) => names.iter().any(|(namespace, task)| {
                is(namespace, run.task.namespace.as_str()) && is(task, run.task.name.as_str())
            }),
        }
    }
}

pub(super) struct Feed {
    waiting: Mutex<Waiting>,
    /// Told when the first event waits, and when a batch is full.
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    wanted: Wanted,
    events: VecDeque<Arc<RunRecord>>,
    bytes: usize,
    missed: u64,
    /// As `missed`, and not to be told yet.
    untold: u64,
}

impl Feed {
    /// Queues the event if it is wanted; says how many older ones had to go for it.
    fn offer(&self, run: &Arc<RunRecord>) -> Option<usize> {
        let mut waiting = self.lock();
        if !waiting.wanted.has(&run.id) {
            return None;
        }
        waiting.events.push_back(Arc::clone(run));
        waiting.bytes += size(run);
        let before = waiting.events.len();
        while waiting.events.len() > EVENTS_MAX || waiting.bytes > EVENTS_BYTES_MAX {
            let Some(oldest) = waiting.events.pop_front() else { break };
            waiting.bytes -= size(&oldest);
            waiting.missed += 1;
        }
        let count = waiting.events.len();
        drop(waiting);
        if count == 1 || count == BATCH_RUNS_MAX {
            self.filled.notify_one();
        }
        Some(before - count)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A link's end of its feed. Dropped with the link, and with it the interest.
pub(super) struct Subscription {
    feeds: Arc<Feeds>,
    feed: Arc<Feed>,
}

/// What is to be sent next.
pub(super) enum Taken {
    Missed(u64),
    Events(Vec<Arc<RunRecord>>),
}

impl Subscription {
    /// Replaces the interest; what waits and is no longer wanted is dropped.
    pub(super) fn want(&self, wanted: Wanted) {
        let wants = wanted != Wanted::Nothing;
        let mut waiting = self.feed.lock();
        let wanted_before = waiting.wanted != Wanted::Nothing;
        waiting.events.retain(|run| wanted.has(&run.id));
        waiting.bytes = waiting.events.iter().map(|run| size(run)).sum();
        waiting.wanted = wanted;
        if !wants {
            waiting.untold = 0;
        }
        drop(waiting);
        match (wanted_before, wants) {
            (false, true) => self.feeds.interested().fetch_add(1, Ordering::Relaxed),
            (true, false) => self.feeds.interested().fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => 0,
        };
    }

    /// Waits until there is something that was not there. Cancel-safe.
    pub(super) async fn filled(&self) {
        self.feed.filled.notified().await;
    }

    /// Events that wait; that some were missed is told like one.
    pub(super) fn count(&self) -> usize {
        let waiting = self.feed.lock();
        waiting.events.len() + usize::from(waiting.missed > 0)
    }

    /// The oldest events that fit a message, or first how many were left out before them. Of
    /// several changes of one run only the last is taken.
    pub(super) fn take(&self) -> Option<Taken> {
        let mut waiting = self.feed.lock();
        if waiting.missed > 0 {
            return Some(Taken::Missed(std::mem::take(&mut waiting.missed)));
        }
        let mut bytes = 0;
        let fits = waiting.events.iter().take(BATCH_RUNS_MAX).take_while(|run| {
            bytes += size(run);
            bytes <= BATCH_BYTES_MAX
        });
        let count = fits.count().max(1).min(waiting.events.len());
        let batch: Vec<Arc<RunRecord>> = waiting.events.drain(..count).collect();
        waiting.bytes -= batch.iter().map(|run| size(run)).sum::<usize>();
        drop(waiting);
        let mut events = Vec::with_capacity(count);
        let mut seen = BTreeSet::new();
        events.extend(batch.iter().rev().filter(|run| seen.insert(&run.id)).map(Arc::clone));
        events.reverse();
        LinkMetrics::add(&self.feeds.metrics.events_merged, count - events.len());
        (!events.is_empty()).then_some(Taken::Events(events))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.want(Wanted::Nothing);
        self.feeds.lock().retain(|feed| !Arc::ptr_eq(feed, &self.feed));
    }
}

/// About what a record takes, in memory and as a message.
pub(super) fn size(run: &RunRecord) -> usize {
    const FIXED: usize = 256;
    const ATTEMPT: usize = 160;
    let errors = run.attempts.iter().map(|attempt| match &attempt.end {
        Some(AttemptEnd::Failed { reason }) => reason.len(),
        _ => 0,
    });
    FIXED
        + run.reason.as_ref().map_or(0, String::len)
        + run.attempts.len() * ATTEMPT
        + errors.sum::<usize>()
}
