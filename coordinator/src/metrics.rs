//! What a coordinator counts, for Prometheus.
//!
//! Names and units follow OpenMetrics. Gauges are read when they are asked for, from the catalog
//! and the links, so that nothing has to keep them up to date; counters and histograms are written
//! where things happen. Labels are bounded: routes are the patterns, not the paths, and a method
//! that nobody knows, of which a client can make any number, is `other`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::Method;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use tocktower_core::ids::{PoolName, RangeId};
use tocktower_core::time::Wall;

use crate::audit::Behind;
use crate::catalog::Catalog;
use crate::clock;
use crate::feed::Feed;
use crate::links::Links;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    code: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub enum Watcher {
    WebSocket,
    Grpc,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct WatcherLabels {
    transport: Watcher,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
}

/// Pools that are told apart; those beyond are one. A task can name any pool.
const POOLS_MAX: usize = 100;

pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Family<RouteLabels, Histogram>,
    creates: Counter,
    commit_creates: Histogram,
    commit_seconds: Histogram,
    watchers: Family<WatcherLabels, Gauge>,
    lagged: Family<WatcherLabels, Counter>,
    tasks: Gauge,
    unreadable: Gauge,
    revision: Gauge,
    age: Gauge<f64, AtomicU64>,
    compared: Counter,
    wrong: Counter,
    links: Gauge,
    followers: Gauge,
    oldest_undecided: Family<PoolLabels, Gauge<f64, AtomicU64>>,
    ranges_stalled: Family<PoolLabels, Gauge>,
}

/// 0.1 ms to 13 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

fn new_seconds() -> Histogram {
    seconds()
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        let metrics = Metrics {
            registry: Registry::with_prefix("tocktower_coordinator"),
            requests: Family::default(),
            latency: Family::new_with_constructor(new_seconds),
            creates: Counter::default(),
            commit_creates: Histogram::new(exponential_buckets(1.0, 2.0, 8)),
            commit_seconds: seconds(),
            watchers: Family::default(),
            lagged: Family::default(),
            tasks: Gauge::default(),
            unreadable: Gauge::default(),
            revision: Gauge::default(),
            age: Gauge::default(),
            compared: Counter::default(),
            wrong: Counter::default(),
            links: Gauge::default(),
            followers: Gauge::default(),
            oldest_undecided: Family::default(),
            ranges_stalled: Family::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Metrics {
        let to = &mut self.registry;
        to.register("requests", "Requests answered", self.requests.clone());
        let help = "Time to the head of the answer";
        to.register_with_unit("request", help, Unit::Seconds, self.latency.clone());
        to.register("tasks_created", "Tasks created", self.creates.clone());
        let help = "Creates that shared one transaction";
        to.register("commit_creates", help, self.commit_creates.clone());
        let help = "Time of one transaction of creates";
        to.register_with_unit("commit", help, Unit::Seconds, self.commit_seconds.clone());
        to.register("watchers", "Open live feeds", self.watchers.clone());
        let help = "Times that a live feed was too slow";
        to.register("watchers_lagged", help, self.lagged.clone());
        to.register("tasks", "Tasks in the catalog", self.tasks.clone());
        let help = "Records of tasks that cannot be read";
        to.register("tasks_unreadable", help, self.unreadable.clone());
        let help = "Revision of the shared state up to which the catalog is whole";
        to.register("catalog_revision", help, self.revision.clone());
        let help = "Time since the catalog was proved whole; -1 if it never was";
        to.register_with_unit("catalog_age", help, Unit::Seconds, self.age.clone());
        let help = "Times that all of the catalog was compared with the shared state";
        to.register("catalog_compared", help, self.compared.clone());
        let help = "Times that the catalog had lost a change and was listed again";
        to.register("catalog_wrong", help, self.wrong.clone());
        to.register("links", "Agents linked to this coordinator", self.links.clone());
        to.register("feed_followers", "Readers of the live feed", self.followers.clone());
        let help = "Age of the oldest run of a pool that is due and not decided by its ledger";
        let unit = Unit::Seconds;
        to.register_with_unit("oldest_undecided", help, unit, self.oldest_undecided.clone());
        let help = "Ranges of a pool that do not come on although something of them is due";
        to.register("ranges_stalled", help, self.ranges_stalled.clone());
        self
    }

    pub fn answered(&self, route: &str, method: &Method, code: u16, took: Duration) {
        let (route, method) = (route.to_owned(), method_label(method));
        self.latency
            .get_or_create(&RouteLabels { route: route.clone() })
            .observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { route, method, code }).inc();
    }

    pub fn created(&self, tasks: usize) {
        self.creates.inc_by(u64::try_from(tasks).unwrap_or(0));
    }

    pub fn committed(&self, creates: usize, took: Duration) {
        self.commit_creates.observe(f64::from(u32::try_from(creates).unwrap_or(u32::MAX)));
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// All of the catalog was compared with the shared state.
    pub fn compared(&self) {
        self.compared.inc();
    }

    /// The catalog had lost a change.
    pub fn wrong(&self) {
        self.wrong.inc();
    }

    /// Which ranges are behind. A pool of which none is has no figure.
    pub fn audited(&self, now: Wall, behind: &BTreeMap<(PoolName, RangeId), Behind>) {
        let mut pools: BTreeMap<&str, (Duration, i64)> = BTreeMap::new();
        for ((pool, _), one) in behind {
            let known = pools.len() < POOLS_MAX || pools.contains_key(pool.as_str());
            let pool = if known { pool.as_str() } else { "other" };
            let (oldest, stalled) = pools.entry(pool).or_default();
            *oldest = one.age(now).max(*oldest);
            *stalled += i64::from(one.stalled(now));
        }
        self.oldest_undecided.clear();
        self.ranges_stalled.clear();
        for (pool, (oldest, stalled)) in pools {
            let labels = PoolLabels { pool: pool.to_owned() };
            self.oldest_undecided.get_or_create(&labels).set(oldest.as_secs_f64());
            self.ranges_stalled.get_or_create(&labels).set(stalled);
        }
    }

    /// A live feed that is open as long as the result lives.
    pub fn watching(&self, transport: Watcher) -> Watching {
        let gauge = self.watchers.get_or_create(&WatcherLabels { transport }).clone();
        gauge.inc();
        Watching { gauge }
    }

    /// How many live feeds are open.
    pub fn open(&self, transport: Watcher) -> i64 {
        self.watchers.get_or_create(&WatcherLabels { transport }).get()
    }

    pub fn lagged(&self, transport: Watcher) {
        self.lagged.get_or_create(&WatcherLabels { transport }).inc();
    }

    /// All of it as text.
    pub fn text(&self, catalog: &Catalog, links: &Links, feed: &Feed) -> String {
        let (tasks, unreadable) =
            catalog.look(|state| (state.tasks.len(), state.tasks.unreadable()));
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.tasks.set(number(tasks));
        self.unreadable.set(number(unreadable));
        self.links.set(number(links.count()));
        self.followers.set(number(feed.followers()));
        let standing = catalog.standing();
        self.revision.set(standing.delivered.0);
        let age = standing.proved.map(|proved| clock::mono().since(proved).as_secs_f64());
        self.age.set(age.unwrap_or(-1.0));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

fn method_label(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Counted as open until it is dropped.
pub struct Watching {
    gauge: Gauge,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
