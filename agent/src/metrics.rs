//! What an agent counts, for Prometheus.
//!
//! Nearly all of it is counted elsewhere already: by the core, the links, the store. So the figures
//! here are a table of names, each with how to read it from that, and are read when somebody asks:
//! nothing on the firing path keeps a second account up to date. The lateness of starts alone is
//! written where it happens, since a histogram cannot be had afterwards.
//!
//! Names and units follow OpenMetrics. Labels are bounded: end states, and the families of the
//! store.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tocktower_core::run::RunState;
use tocktower_core::schedule::tz_database_version;
use tocktower_core::time::Now;
use tokio::sync::watch;

use crate::disk::Disk;
use crate::link::{EndedRuns, LinkMetrics};
use crate::ready::unready;
use crate::stats::AgentStats;
use crate::store::{Store, StoreHealth, StoreStats};
use crate::waker::now;

/// 1 ms to 30 s: what is promised ends at 10 s.
const LATENESS_SECONDS: [f64; 14] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// A handle on all figures of an agent. Cheap to clone; it keeps neither the agent nor its data
/// directory.
#[derive(Clone)]
pub struct AgentMetrics(Arc<Figures>);

/// Where the figures come from.
pub(crate) struct Sources {
    pub version: String,
    pub stats: watch::Receiver<AgentStats>,
    pub disk: watch::Receiver<Disk>,
    pub links: Arc<LinkMetrics>,
    pub store: Weak<Store>,
}

/// The lateness of starts.
#[derive(Clone)]
pub(crate) struct Lateness(Histogram);

impl Lateness {
    pub fn new() -> Lateness {
        Lateness(Histogram::new(LATENESS_SECONDS))
    }

    /// Below zero counts as zero.
    pub fn observe(&self, micros: i64) {
        let late = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        self.0.observe(late.as_secs_f64());
    }

    /// How many were observed.
    #[cfg(test)]
    pub fn counted(&self) -> u64 {
        let mut registry = Registry::default();
        registry.register_with_unit("lateness", "Lateness", Unit::Seconds, self.0.clone());
        let mut text = String::new();
        encode(&mut text, &registry).expect("text takes all");
        let count = text.lines().find_map(|line| line.strip_prefix("lateness_seconds_count "));
        count.and_then(|count| count.parse().ok()).expect("a histogram counts")
    }
}

impl AgentMetrics {
    pub(crate) fn new(sources: Sources, lateness: Lateness) -> AgentMetrics {
        let mut table = Table::new();
        table.of_the_agent();
        table.of_the_links();
        table.of_the_store();
        let (mut registry, reads) = (table.registry, table.reads);
        let help = "Start of a run's first attempt minus its due";
        registry.register_with_unit("lateness", help, Unit::Seconds, lateness.0);
        let ended = Family::<StateLabels, Counter>::default();
        registry.register("runs_ended", "Runs that ended, by state", ended.clone());
        let rows = Family::<FamilyLabels, Gauge>::default();
        let help = "Rows of the store by family, estimated";
        registry.register("store_rows", help, rows.clone());
        let labels = [
            ("version", sources.version.clone()),
            ("tz_version", tz_database_version().to_owned()),
        ];
        registry.register("build", "The program that runs", Info::new(labels.to_vec()));
        AgentMetrics(Arc::new(Figures { registry, reads, ended, rows, sources }))
    }

    /// All of it as text, in the format of OpenMetrics. Asks RocksDB for its properties, which does
    /// not read the disk but may wait for a lock: not for the loop.
    pub fn text(&self) -> String {
        self.0.text()
    }
}

impl fmt::Debug for AgentMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentMetrics").finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct FamilyLabels {
    family: &'static str,
}

struct Figures {
    registry: Registry,
    reads: Vec<Read>,
    ended: Family<StateLabels, Counter>,
    rows: Family<FamilyLabels, Gauge>,
    sources: Sources,
}

impl Figures {
    fn text(&self) -> String {
        let moment = Moment::of(&self.sources);
        for read in &self.reads {
            read.bring_up_to(&moment);
        }
        for (state, count) in by_state(moment.stats.ended) {
            raise(&self.ended.get_or_create(&StateLabels { state }), count);
        }
        for (family, rows) in &moment.store.rows {
            self.rows.get_or_create(&FamilyLabels { family }).set(signed(*rows));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

/// Everything the figures are read from, as it is now.
struct Moment {
    at: Now,
    stats: AgentStats,
    disk: Disk,
    links: Arc<LinkMetrics>,
    store: StoreStats,
}

impl Moment {
    fn store_is_healthy(&self) -> bool {
        self.disk.health() == StoreHealth::Good && !self.stats.core.store_stalled
    }

    fn of(sources: &Sources) -> Moment {
        Moment {
            at: now(),
            stats: sources.stats.borrow().clone(),
            disk: *sources.disk.borrow(),
            links: Arc::clone(&sources.links),
            store: sources.store.upgrade().map(|store| store.stats()).unwrap_or_default(),
        }
    }
}

/// One figure and how it is read.
enum Read {
    Count(Gauge, fn(&Moment) -> u64),
    Time(Gauge<f64, AtomicU64>, fn(&Moment) -> Duration),
    Total(Counter, fn(&Moment) -> u64),
}

impl Read {
    fn bring_up_to(&self, moment: &Moment) {
        match self {
            Read::Count(gauge, read) => {
                gauge.set(signed(read(moment)));
            }
            Read::Time(gauge, read) => {
                gauge.set(read(moment).as_secs_f64());
            }
            Read::Total(counter, read) => raise(counter, read(moment)),
        }
    }
}

/// Two scrapes may come at once: the later reading stands.
fn raise(counter: &Counter, to: u64) {
    counter.inner().fetch_max(to, Ordering::Relaxed);
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn by_state(ended: EndedRuns) -> [(&'static str, u64); 7] {
    let EndedRuns { succeeded, failed, timed_out, cancelled, lost, skipped, missed } = ended;
    [
        (RunState::Succeeded.as_str(), succeeded),
        (RunState::Failed.as_str(), failed),
        (RunState::TimedOut.as_str(), timed_out),
        (RunState::Cancelled.as_str(), cancelled),
        (RunState::Lost.as_str(), lost),
        (RunState::Skipped.as_str(), skipped),
        (RunState::Missed.as_str(), missed),
    ]
}

struct Table {
    registry: Registry,
    reads: Vec<Read>,
}

impl Table {
    fn new() -> Table {
        Table { registry: Registry::with_prefix("tocktower_agent"), reads: Vec::new() }
    }

    fn of_the_agent(&mut self) {
        let help = "1 while nothing is in the way of what comes due";
        self.count("ready", help, |now| unready(&now.stats, now.disk, now.at).is_none().into());
        self.count("ranges_held", "Ranges held", |now| wide(now.stats.core.held));
        let help = "Ranges of others that are copied here, to be taken over without a list";
        self.count("ranges_standby", help, |now| wide(now.stats.core.standby));
        self.count("standby_tasks", "Tasks of these", |now| wide(now.stats.core.standby_tasks));
        let help = "Ranges listed from the shared state to be held; copies of a standby are not";
        self.total("range_lists", help, |now| now.stats.core.range_lists);
        self.count("runs_running", "Attempts that run", |now| wide(now.stats.core.running));
        let help = "Attempts that wait for a place to run";
        self.count("runs_queued", help, |now| wide(now.stats.core.queued));
        self.count("runs_open", "Runs that have not ended", |now| wide(now.stats.core.open));
        let help = "Ranges with as many open runs as a ledger lists: new runs of them wait";
        self.count("ranges_full", help, |now| wide(now.stats.core.full));
        let help = "Due entries of the next seconds, in memory";
        self.count("near_entries", help, |now| wide(now.stats.core.near));
        let help = "Age of the oldest run that is due and not started; 0 if there is none";
        self.time("oldest_due", help, |now| {
            now.stats.core.oldest_due.map_or(Duration::ZERO, |due| now.at.wall.since(due))
        });
        let help = "Age of the oldest write that its watch has not brought back";
        self.time("proof_lag", help, |now| now.stats.core.proof_lag);
        let help = "1 while the wall clock is believed";
        self.count("clock_verified", help, |now| now.stats.core.clock_verified.into());
    }

    fn of_the_links(&mut self) {
        self.count("links", "Coordinators linked to", |now| load(&now.links.connected));
        let help = "Links whose coordinator wants run events";
        self.count("links_interested", help, |now| load(&now.links.interested));
        self.total("link_dials", "Dials of coordinators", |now| load(&now.links.dials));
        let help = "Dials that led to no link";
        self.total("link_dials_failed", help, |now| load(&now.links.dials_failed));
        let help = "Dials that were refused, by either side";
        self.total("link_dials_refused", help, |now| load(&now.links.dials_refused));
        self.total("links_lost", "Links that ended", |now| load(&now.links.links_lost));
        self.total("link_stats", "Statistics sent", |now| load(&now.links.stats_sent));
        let help = "Clock probes answered";
        self.total("link_clock_answers", help, |now| load(&now.links.clock_answers_sent));
        let help = "Batches of run events sent";
        self.total("link_event_batches", help, |now| load(&now.links.event_batches_sent));
        self.total("link_events", "Run events sent", |now| load(&now.links.events_sent));
        let help = "Run events that a later one of the same run replaced";
        self.total("link_events_merged", help, |now| load(&now.links.events_merged));
        let help = "Run events left out: a link was too slow, or an end may be settled elsewhere";
        self.total("link_events_missed", help, |now| load(&now.links.events_missed));
        self.total("link_queries", "Queries received", |now| load(&now.links.queries));
        self.count("link_queries_open", "Queries that go on", |now| load(&now.links.queries_open));
        let help = "Queries refused since too many went on";
        self.total("link_queries_refused", help, |now| load(&now.links.queries_refused));
        let help = "Queries answered with an error";
        self.total("link_queries_failed", help, |now| load(&now.links.queries_failed));
        let help = "Cancels of runs passed on";
        self.total("link_cancels", help, |now| load(&now.links.cancels));
    }

    fn of_the_store(&mut self) {
        self.bytes("store", "Tables and blobs of the store", |now| now.store.bytes);
        let help = "Blobs and tables of the store that hold output";
        self.bytes("store_output", help, |now| now.store.output_bytes);
        self.bytes("store_buffer", "Write buffers in memory", |now| now.store.buffer_bytes);
        self.bytes("store_cache", "Block cache in memory", |now| now.store.cache_bytes);
        let help = "What compaction still has to rewrite";
        self.bytes("store_compaction_behind", help, |now| now.store.compaction_behind_bytes);
        self.total("store_batches", "Batches written", |now| now.store.batches);
        self.total("store_operations", "Operations written", |now| now.store.operations);
        let help = "Batches written, in bytes";
        self.total_bytes("store_written", help, |now| now.store.batch_bytes);
        self.total("store_syncs", "Syncs of the log", |now| now.store.syncs);
        let help = "Due entries skipped since their task is gone";
        self.total("store_stale_due", help, |now| now.store.stale_due);
        self.total("store_unreadable", "Rows that cannot be read", |now| now.store.unreadable);
        let help = "1 while the store answers and its disk has the reserve";
        self.count("store_healthy", help, |now| now.store_is_healthy().into());
        let help = "Free on the disk of the data directory";
        self.bytes("disk_free", help, |now| now.disk.space.map_or(0, |space| space.free));
        let help = "Size of the disk of the data directory";
        self.bytes("disk_size", help, |now| now.disk.space.map_or(0, |space| space.total));
    }

    fn count(&mut self, name: &str, help: &str, read: fn(&Moment) -> u64) {
        let gauge = Gauge::default();
        self.registry.register(name, help, gauge.clone());
        self.reads.push(Read::Count(gauge, read));
    }

    fn bytes(&mut self, name: &str, help: &str, read: fn(&Moment) -> u64) {
        let gauge = Gauge::default();
        self.registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        self.reads.push(Read::Count(gauge, read));
    }

    fn time(&mut self, name: &str, help: &str, read: fn(&Moment) -> Duration) {
        let gauge = Gauge::default();
        self.registry.register_with_unit(name, help, Unit::Seconds, gauge.clone());
        self.reads.push(Read::Time(gauge, read));
    }

    fn total(&mut self, name: &str, help: &str, read: fn(&Moment) -> u64) {
        let counter = Counter::default();
        self.registry.register(name, help, counter.clone());
        self.reads.push(Read::Total(counter, read));
    }

    fn total_bytes(&mut self, name: &str, help: &str, read: fn(&Moment) -> u64) {
        let counter = Counter::default();
        self.registry.register_with_unit(name, help, Unit::Bytes, counter.clone());
        self.reads.push(Read::Total(counter, read));
    }
}

#[cfg(test)]
mod tests {
    use tocktower_core::agent::Stats;
    use tocktower_core::ids::Session;

    use super::*;
    use crate::store::{DiskSpace, StoreConfig};

    struct Rig {
        _dir: tempfile::TempDir,
        store: Arc<Store>,
        links: Arc<LinkMetrics>,
        stats: watch::Sender<AgentStats>,
        lateness: Lateness,
        metrics: AgentMetrics,
    }

    fn rig() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreConfig::default()).unwrap().store;
        let (stats, stats_seen) = watch::channel(AgentStats::default());
        let space = Some(DiskSpace { free: 5 << 30, total: 10 << 30 });
        let (_, disk) = watch::channel(Disk { space, below_reserve: false });
        let (links, lateness) = (Arc::new(LinkMetrics::default()), Lateness::new());
        let sources = Sources {
            version: "1.2.3".to_owned(),
            stats: stats_seen,
            disk,
            links: links.clone(),
            store: Arc::downgrade(&store),
        };
        let metrics = AgentMetrics::new(sources, lateness.clone());
        Rig { _dir: dir, store, links, stats, lateness, metrics }
    }

    #[track_caller]
    fn shows(text: &str, lines: &[&str]) {
        for line in lines {
            let line = format!("tocktower_agent_{line}");
            assert!(text.lines().any(|shown| shown == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn every_figure_is_read_when_it_is_asked_for() {
        let rig = rig();
        let core = Stats {
            held: 256,
            running: 2,
            oldest_due: Some(now().wall.plus(Duration::from_secs(60))),
            proof_lag: Duration::from_millis(250),
            clock_verified: true,
            ..Stats::default()
        };
        let mut ended = EndedRuns::default();
        ended.count(RunState::TimedOut, 3);
        rig.stats.send_replace(AgentStats {
            at: now().mono,
            core,
            session: Some(Session::default()),
            ended,
            ..AgentStats::default()
        });
        rig.links.dials.fetch_add(4, Ordering::Relaxed);
        let expected = [
            "ranges_held 256",
            "runs_running 2",
            "oldest_due_seconds 0.0",
            "proof_lag_seconds 0.25",
            "clock_verified 1",
            "ready 1",
            "runs_ended_total{state=\"timed_out\"} 3",
            "runs_ended_total{state=\"lost\"} 0",
            "link_dials_total 4",
            "store_unreadable_total 0",
            "store_rows{family=\"task\"} 0",
            "store_healthy 1",
            "disk_free_bytes 5368709120",
        ];
        let text = rig.metrics.text();
        shows(&text, &expected);
        assert!(text.contains("tocktower_agent_build_info{version=\"1.2.3\",tz_version="));
        assert!(text.ends_with("# EOF\n"));
        shows(&rig.metrics.text(), &expected);
    }

    #[test]
    fn a_store_that_has_stalled_is_not_healthy() {
        let rig = rig();
        shows(&rig.metrics.text(), &["store_healthy 1"]);
        rig.stats.send_modify(|stats| stats.core.store_stalled = true);
        shows(&rig.metrics.text(), &["store_healthy 0"]);
    }

    #[test]
    fn lateness_falls_into_buckets_of_seconds() {
        let rig = rig();
        for micros in [-5, 900, 1_500, 31_000_000] {
            rig.lateness.observe(micros);
        }
        let expected = [
            "lateness_seconds_bucket{le=\"0.001\"} 2",
            "lateness_seconds_bucket{le=\"0.002\"} 3",
            "lateness_seconds_bucket{le=\"30.0\"} 3",
            "lateness_seconds_count 4",
        ];
        shows(&rig.metrics.text(), &expected);
    }

    #[test]
    fn a_scraper_does_not_keep_the_data_directory() {
        let Rig { _dir: dir, store, metrics, .. } = rig();
        drop(store);
        shows(&metrics.text(), &["store_bytes 0"]);
        assert!(Store::open(dir.path(), StoreConfig::default()).is_ok());
    }
}
